/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The rules of a configuration: their keys, and which may stand beside which.
 * Called for the setting `rules` of each file; pools are resolved in config.c.
 */
#include <errno.h>
#include <string.h>

#include "daemon/config_internal.h"
#include "daemon/fd.h"
#include "daemon/user.h"

#define RULE_NAME_MAX 255 /* bytes: it is shown in one line with a reason */

struct rule_draft {
	struct rule_config *rule;
	struct pool_reference *reference;
};

static struct rule_config *rule_of(void *target)
{
	return ((struct rule_draft *)target)->rule;
}

static int parse_name(struct loader *loader, config_setting_t *setting, void *target)
{
	struct rule_config *rule = rule_of(target);
	int r;

	r = value_copy(loader, setting, &rule->name);
	if (r >= 0 && strlen(rule->name) > RULE_NAME_MAX)
		return loader_fail(loader, setting->line, "a rule's name is longer than %d bytes",
				   RULE_NAME_MAX);
	return r;
}

static int parse_user(struct loader *loader, config_setting_t *setting, void *target)
{
	struct rule_config *rule = rule_of(target);
	const char *name;
	int r;

	r = value_id(loader, setting, &rule->user, &name);
	if (r < 0)
		return r;
	rule->has_user = true;
	r = name ? user_from_name(name, &rule->user) : 0;
	rule->user_known = r >= 0;
	if (r == -ENOMEM)
		return loader_fail_memory(loader);
	if (r == -ENOENT)
		return loader_warn(loader, setting->line,
				   "there is no user \"%.100s\": the rule matches nobody", name);
	if (r < 0)
		return loader_warn(loader, setting->line,
				   "the user \"%.100s\" can't be looked up (%s): the rule matches "
				   "nobody",
				   name, strerror(-r));
	return 0;
}

static int parse_group(struct loader *loader, config_setting_t *setting, void *target)
{
	struct rule_config *rule = rule_of(target);
	const char *name;
	int r;

	r = value_id(loader, setting, &rule->group, &name);
	if (r < 0)
		return r;
	rule->has_group = true;
	r = name ? group_from_name(name, &rule->group) : 0;
	rule->group_known = r >= 0;
	if (r == -ENOMEM)
		return loader_fail_memory(loader);
	if (r == -ENOENT)
		return loader_warn(loader, setting->line,
				   "there is no group \"%.100s\": the rule matches nobody", name);
	if (r < 0)
		return loader_warn(loader, setting->line,
				   "the group \"%.100s\" can't be looked up (%s): the rule matches "
				   "nobody",
				   name, strerror(-r));
	return 0;
}

/* fnmatch(3) never matches a pattern that ends in the middle of an escape. */
static int check_glob(struct loader *loader, config_setting_t *element, const char *text)
{
	size_t size = strlen(text), backslashes = 0;

	while (backslashes < size && text[size - 1 - backslashes] == '\\')
		backslashes++;
	if (backslashes % 2)
		return loader_fail(
			loader, element->line,
			"the pattern \"%.100s\" ends in a backslash with nothing behind it", text);
	return 0;
}

/* Names are single components: a further slash could match nothing, or more than was meant. */
static int check_name_pattern(struct loader *loader, config_setting_t *element, const char *text)
{
	if (*text != '/')
		return loader_fail(loader, element->line,
				   "a pattern for names begins with a slash: \"/%.100s\", not "
				   "\"%.100s\"",
				   text, text);
	if (!text[1])
		return loader_fail(loader, element->line,
				   "the pattern \"/\" matches no name; all of them are \"/*\"");
	if (strchr(text + 1, '/'))
		return loader_fail(
			loader, element->line,
			"the pattern \"%.100s\" has a slash behind the first: no name has "
			"one",
			text);
	return check_glob(loader, element, text);
}

static int parse_unit(struct loader *loader, config_setting_t *setting, void *target)
{
	return value_list(loader, setting, &rule_of(target)->unit, check_glob);
}

static int parse_user_unit(struct loader *loader, config_setting_t *setting, void *target)
{
	return value_list(loader, setting, &rule_of(target)->user_unit, check_glob);
}

static int parse_app(struct loader *loader, config_setting_t *setting, void *target)
{
	return value_list(loader, setting, &rule_of(target)->app, check_glob);
}

static int parse_label(struct loader *loader, config_setting_t *setting, void *target)
{
	return value_list(loader, setting, &rule_of(target)->label, check_glob);
}

static int parse_names(struct loader *loader, config_setting_t *setting, void *target)
{
	return value_list(loader, setting, &rule_of(target)->names, check_name_pattern);
}

static int parse_sandboxed(struct loader *loader, config_setting_t *setting, void *target)
{
	struct rule_config *rule = rule_of(target);

	rule->has_sandboxed = true;
	return value_bool(loader, setting, &rule->sandboxed);
}

static int parse_right(struct loader *loader, config_setting_t *setting, uint32_t *rights)
{
	static const char *const legal[] = { "read", "write", "create", "unlink",
					     "list", "all",   NULL };
	static const uint32_t right[] = { RIGHT_READ,	RIGHT_WRITE, RIGHT_CREATE,
					  RIGHT_UNLINK, RIGHT_LIST,  RIGHT_ALL };
	unsigned choice;
	int r;

	r = value_choice(loader, setting, legal, &choice);
	if (r >= 0)
		*rights |= right[choice];
	return r;
}

/* The one list that may be empty: a rule that allows nothing. */
static int parse_allow(struct loader *loader, config_setting_t *setting, void *target)
{
	uint32_t *rights = &rule_of(target)->allow;
	int r = 0;

	if (config_setting_type(setting) == CONFIG_TYPE_STRING)
		return parse_right(loader, setting, rights);
	if (!config_setting_is_list(setting) && !config_setting_is_array(setting))
		return value_fail_type(loader, setting, "a string or a list of strings");
	for (int i = 0; r >= 0 && i < config_setting_length(setting); i++) {
		config_setting_t *element = config_setting_get_elem(setting, (unsigned)i);

		if (config_setting_type(element) != CONFIG_TYPE_STRING)
			return value_fail_type(loader, element, "a string");
		r = parse_right(loader, element, rights);
	}
	return r;
}

static int parse_pool_name(struct loader *loader, config_setting_t *setting, void *target)
{
	struct rule_draft *draft = target;

	draft->reference->line = setting->line;
	return value_copy(loader, setting, &draft->reference->name);
}

static int parse_max_size(struct loader *loader, config_setting_t *setting, void *target)
{
	struct rule_config *rule = rule_of(target);

	rule->has_max_size = true;
	return value_size(loader, setting, &rule->max_size_bytes);
}

static int parse_mode(struct loader *loader, config_setting_t *setting, void *target)
{
	return value_mode(loader, setting, &rule_of(target)->mode_mask);
}

static int parse_lifetime(struct loader *loader, config_setting_t *setting, void *target)
{
	static const char *const legal[] = { "name", "process", NULL };
	unsigned choice;
	int r;

	r = value_choice(loader, setting, legal, &choice);
	if (r >= 0)
		rule_of(target)->lifetime_process = choice == 1;
	return r;
}

static int parse_sealed(struct loader *loader, config_setting_t *setting, void *target)
{
	return value_bool(loader, setting, &rule_of(target)->sealed);
}

static int parse_delegate(struct loader *loader, config_setting_t *setting, void *target)
{
	return value_bool(loader, setting, &rule_of(target)->delegate);
}

static int parse_log(struct loader *loader, config_setting_t *setting, void *target)
{
	static const char *const legal[] = { [RULE_LOG_DENIALS] = "denials",
					     [RULE_LOG_ALL] = "all",
					     [RULE_LOG_NONE] = "none",
					     [RULE_LOG_NONE + 1] = NULL };
	unsigned choice;
	int r;

	r = value_choice(loader, setting, legal, &choice);
	if (r >= 0)
		rule_of(target)->log = (enum rule_log)choice;
	return r;
}

static const struct config_key rule_keys[] = {
	{ "name", parse_name },
	{ "user", parse_user },
	{ "group", parse_group },
	{ "unit", parse_unit },
	{ "user-unit", parse_user_unit },
	{ "app", parse_app },
	{ "sandboxed", parse_sandboxed },
	{ "label", parse_label },
	{ "names", parse_names },
	{ "allow", parse_allow },
	{ "pool", parse_pool_name },
	{ "max-size", parse_max_size },
	{ "mode", parse_mode },
	{ "lifetime", parse_lifetime },
	{ "sealed", parse_sealed },
	{ "delegate", parse_delegate },
	{ "log", parse_log },
	{ NULL, NULL },
};

/* A delegated directory is opened without the broker, so no name and no single right is decided. */
static int check_delegate(struct loader *loader, config_setting_t *setting,
			  const struct rule_config *rule)
{
	static const char *const by_name[] = { "max-size", "mode", "sealed", "lifetime" };
	unsigned line = config_setting_get_member(setting, "delegate")->line;

	for (size_t i = 0; i < sizeof(by_name) / sizeof(by_name[0]); i++) {
		const config_setting_t *key = config_setting_get_member(setting, by_name[i]);

		if (key)
			return loader_fail(loader, key->line,
					   "\"%s\" can't stand beside \"delegate\" in the rule "
					   "\"%.100s\": it is decided name by name",
					   by_name[i], rule->name);
	}
	if (rule->names.count != 1 || strcmp(rule->names.string[0], "/*") != 0)
		return loader_fail(loader, line,
				   "\"delegate\" needs names = \"/*\" in the rule \"%.100s\"",
				   rule->name);
	if (rule->allow != RIGHT_ALL && rule->allow != (RIGHT_READ | RIGHT_LIST))
		return loader_fail(
			loader, line,
			"\"delegate\" needs allow = \"all\" or [ \"read\", \"list\" ] in the "
			"rule \"%.100s\": a directory can't be given for less",
			rule->name);
	return 0;
}

static int check_required(struct loader *loader, config_setting_t *setting,
			  const struct rule_config *rule)
{
	static const char *const required[] = { "name", "names", "allow" };

	for (size_t i = 0; i < sizeof(required) / sizeof(required[0]); i++) {
		if (config_setting_get_member(setting, required[i]))
			continue;
		if (!rule->name)
			return loader_fail(loader, setting->line, "the rule needs \"%s\"",
					   required[i]);
		return loader_fail(loader, setting->line, "the rule \"%.100s\" needs \"%s\"",
				   rule->name, required[i]);
	}
	if (rule->allow && !config_setting_get_member(setting, "pool"))
		return loader_fail(loader, setting->line,
				   "the rule \"%.100s\" needs \"pool\", as it allows something",
				   rule->name);
	return 0;
}

static int check_rule(struct loader *loader, config_setting_t *setting,
		      const struct rule_config *rule)
{
	const config_setting_t *user_unit = config_setting_get_member(setting, "user-unit");
	int r;

	r = check_required(loader, setting, rule);
	if (r < 0)
		return r;
	if (user_unit && !rule->has_user)
		return loader_fail(loader, user_unit->line,
				   "\"user-unit\" needs \"user\" beside it in the rule \"%.100s\": "
				   "anybody may name a unit of his own manager",
				   rule->name);
	return rule->delegate ? check_delegate(loader, setting, rule) : 0;
}

/* A new one at the end of both arrays. */
static int rule_append(struct loader *loader, struct rule_draft *ret)
{
	struct config *config = loader->config;
	size_t room = loader->rule_room ? 2 * loader->rule_room : 16;

	if (config->rule_count == loader->rule_room) {
		struct pool_reference *reference;
		struct rule_config *rule;

		rule = reallocarray(config->rule, room, sizeof(*rule));
		if (!rule)
			return loader_fail_memory(loader);
		config->rule = rule;
		reference = reallocarray(loader->reference, room, sizeof(*reference));
		if (!reference)
			return loader_fail_memory(loader);
		loader->reference = reference;
		loader->rule_room = room;
	}
	ret->rule = &config->rule[config->rule_count];
	ret->reference = &loader->reference[config->rule_count++];
	*ret->rule = (struct rule_config){ .mode_mask = 0777, .pool = SIZE_MAX };
	*ret->reference = (struct pool_reference){ NULL, 0 };
	return 0;
}

static int parse_rule(struct loader *loader, config_setting_t *setting)
{
	struct rule_draft draft;
	int r;

	r = rule_append(loader, &draft);
	if (r < 0)
		return r;
	draft.rule->place = (struct config_place){ loader->file, setting->line };
	r = config_parse_group(loader, setting, "a rule", rule_keys, &draft);
	if (r < 0)
		return r;
	return check_rule(loader, setting, draft.rule);
}

int config_parse_rules(struct loader *loader, config_setting_t *setting, void *unused)
{
	int r = 0;

	if (!config_setting_is_list(setting))
		return value_fail_type(loader, setting, "a list of groups: ( { ... }, { ... } )");
	if (!config_setting_length(setting))
		return loader_fail(loader, setting->line, "\"rules\" is an empty list");
	for (int i = 0; r >= 0 && i < config_setting_length(setting); i++)
		r = parse_rule(loader, config_setting_get_elem(setting, (unsigned)i));
	return r;
}
