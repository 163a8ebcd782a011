/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A configuration from its files to the structures of config.h. Called at start,
 * at reload, and by shmctl check-config; the same files give the same config.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "daemon/config_internal.h"
#include "daemon/fd.h"
#include "daemon/user.h"

static const struct config_limits limit_defaults = {
	.connections = 16384,
	.connections_per_user = 1024,
	.connections_per_context = 256,
	.contexts = 512,
	.contexts_per_user = 64,
	.pools = 1024,
	.pools_per_user = 64,
	.sealed = 1000,
	.subscriptions_per_user = 64,
	.waits_per_user = 4096,
};

struct limit {
	size_t offset;
	uint32_t min, max;
};

#define LIMIT(field, lowest, highest)                                                              \
	{                                                                                          \
		.offset = offsetof(struct config_limits, field), .min = (lowest), .max = (highest) \
	}

/*
 * In the order of limit_keys. 16 connections are kept for the administrator, so
 * fewer than 17 would serve nobody else; contexts and sealed objects live in a
 * descriptor store of 2048 places, two a context.
 */
static const struct limit limits[] = {
	LIMIT(connections, 17, 1000000),
	LIMIT(connections_per_user, 1, 1000000),
	LIMIT(connections_per_context, 1, 1000000),
	LIMIT(contexts, 0, 1000),
	LIMIT(contexts_per_user, 0, 1000),
	LIMIT(pools, 1, 65536),
	LIMIT(pools_per_user, 1, 65536),
	LIMIT(sealed, 0, 2000),
	LIMIT(subscriptions_per_user, 0, 1000000),
	LIMIT(waits_per_user, 0, 1000000),
};

static int parse_limit(struct loader *loader, config_setting_t *setting, void *unused);

static const struct config_key limit_keys[] = {
	{ "connections", parse_limit },
	{ "connections-per-user", parse_limit },
	{ "connections-per-context", parse_limit },
	{ "contexts", parse_limit },
	{ "contexts-per-user", parse_limit },
	{ "pools", parse_limit },
	{ "pools-per-user", parse_limit },
	{ "sealed", parse_limit },
	{ "subscriptions-per-user", parse_limit },
	{ "waits-per-user", parse_limit },
	{ NULL, NULL },
};

/* The first file to set one counts, but a later one must be right, too. */
static int parse_limit(struct loader *loader, config_setting_t *setting, void *unused)
{
	uint64_t value;
	size_t i = 0;
	int r;

	while (strcmp(limit_keys[i].name, setting->name) != 0)
		i++;
	r = value_integer(loader, setting, limits[i].min, limits[i].max, &value);
	if (r < 0)
		return r;
	if (!(loader->limits_set & (1u << i))) {
		uint32_t narrow = (uint32_t)value;

		memcpy((char *)&loader->config->limits + limits[i].offset, &narrow, sizeof(narrow));
		loader->limits_set |= 1u << i;
	}
	return 0;
}

static int parse_require_pidfd(struct loader *loader, config_setting_t *setting, void *unused)
{
	bool value;
	int r;

	r = value_bool(loader, setting, &value);
	if (r >= 0 && !loader->identity_set) {
		loader->config->require_pidfd = value;
		loader->identity_set = true;
	}
	return r;
}

static const struct config_key identity_keys[] = {
	{ "require-pidfd", parse_require_pidfd },
	{ NULL, NULL },
};

static int parse_limits(struct loader *loader, config_setting_t *setting, void *unused)
{
	return config_parse_group(loader, setting, "limits", limit_keys, NULL);
}

static int parse_identity(struct loader *loader, config_setting_t *setting, void *unused)
{
	return config_parse_group(loader, setting, "identity", identity_keys, NULL);
}

static const struct config_key root_keys[] = {
	{ "limits", parse_limits },
	{ "identity", parse_identity },
	{ "pools", config_parse_pools },
	{ "rules", config_parse_rules },
	{ NULL, NULL },
};

static int fail_unknown_key(struct loader *loader, const config_setting_t *setting,
			    const char *what, const struct config_key *keys)
{
	const char *legal[32] = { NULL };
	char text[64];

	for (size_t i = 0; keys[i].name && i < sizeof(legal) / sizeof(legal[0]) - 1; i++)
		legal[i] = keys[i].name;
	snprintf(text, sizeof(text), "%s has no key", what);
	return loader_fail_choice(loader, setting->line, text, setting->name, legal);
}

int config_parse_group(struct loader *loader, config_setting_t *group, const char *what,
		       const struct config_key *keys, void *target)
{
	int r;

	r = value_is_group(loader, group);
	for (int i = 0; r >= 0 && i < config_setting_length(group); i++) {
		config_setting_t *setting = config_setting_get_elem(group, (unsigned)i);
		const struct config_key *key = keys;

		while (key->name && strcmp(key->name, setting->name) != 0)
			key++;
		if (!key->name)
			return fail_unknown_key(loader, setting, what, keys);
		r = key->parse(loader, setting, target);
	}
	return r;
}

/* libconfig says "syntax error" and a line; the line itself helps more. */
static int fail_parse(struct loader *loader, const config_t *parsed, const char *text)
{
	unsigned line = parsed->error_line > 0 ? (unsigned)parsed->error_line : 1;

	for (unsigned i = 1; i < line && strchr(text, '\n'); i++)
		text = strchr(text, '\n') + 1;
	text += strspn(text, " \t");
	if (text[strspn(text, " \t\r\n")] == '\0')
		return loader_fail(loader, line, "%s: the file ends in the middle of a setting",
				   parsed->error_text ? parsed->error_text : "syntax error");
	return loader_fail(loader, line, "%s at or before \"%.*s\"",
			   parsed->error_text ? parsed->error_text : "syntax error",
			   (int)strcspn(text, "\r\n") < 60 ? (int)strcspn(text, "\r\n") : 60, text);
}

static void config_destroyp(config_t *parsed)
{
	config_destroy(parsed);
}

int loader_text(struct loader *loader, const char *text, size_t size)
{
	_cleanup_(config_destroyp) config_t parsed;
	int r;

	config_init(&parsed);
	r = config_scan(loader, text, size);
	if (r < 0)
		return r;
	if (!config_read_string(&parsed, text))
		return fail_parse(loader, &parsed, text);
	return config_parse_group(loader, config_root_setting(&parsed), "the file", root_keys,
				  NULL);
}

/* Something with a name, in the order of names, then of the files. */
struct named {
	const char *name;
	size_t index;
};

static int named_compare(const void *a, const void *b)
{
	const struct named *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	return order ? order : (x->index > y->index) - (x->index < y->index);
}

static int named_compare_key(const void *name, const void *entry)
{
	return strcmp(name, ((const struct named *)entry)->name);
}

/* The names of the pools, or of the rules, sorted; one at least, so that NULL is an error. */
static struct named *named_sorted(const struct config *config, bool rules)
{
	size_t count = rules ? config->rule_count : config->pool_count;
	struct named *named = reallocarray(NULL, count + 1, sizeof(*named));

	if (!named)
		return NULL;
	for (size_t i = 0; i < count; i++)
		named[i] = (struct named){ rules ? config->rule[i].name : config->pool[i].name, i };
	qsort(named, count, sizeof(*named), named_compare);
	return named;
}

/* The place of a pool or rule, by index. */
static const struct config_place *place_of(const struct config *config, bool rules, size_t index)
{
	return rules ? &config->rule[index].place : &config->pool[index].place;
}

static int check_twice(struct loader *loader, const struct named *named, bool rules)
{
	const struct config *config = loader->config;
	size_t count = rules ? config->rule_count : config->pool_count;

	for (size_t i = 1; i < count; i++) {
		const struct config_place *first;

		if (strcmp(named[i - 1].name, named[i].name) != 0)
			continue;
		first = place_of(config, rules, named[i - 1].index);
		return loader_fail_place(loader, place_of(config, rules, named[i].index),
					 "there is a %s \"%.100s\" already, in %.300s:%u",
					 rules ? "rule" : "pool", named[i].name, first->file,
					 first->line);
	}
	return 0;
}

static int fail_no_pool(struct loader *loader, const struct rule_config *rule,
			const struct pool_reference *reference)
{
	struct config *config = loader->config;
	_cleanup_free_ const char **legal = NULL;

	loader->file = rule->place.file;
	if (!config->pool_count)
		return loader_fail(loader, reference->line,
				   "there is no pool \"%.100s\": no file defines any",
				   reference->name);
	legal = calloc(config->pool_count + 1, sizeof(*legal));
	if (!legal)
		return loader_fail_memory(loader);
	for (size_t i = 0; i < config->pool_count; i++)
		legal[i] = config->pool[i].name;
	return loader_fail_choice(loader, reference->line, "there is no pool", reference->name,
				  legal);
}

static int resolve_rule(struct loader *loader, struct rule_config *rule,
			const struct pool_reference *reference, const struct named *pools)
{
	const struct named *found;

	if (!reference->name)
		return 0;
	found = bsearch(reference->name, pools, loader->config->pool_count, sizeof(*pools),
			named_compare_key);
	if (!found)
		return fail_no_pool(loader, rule, reference);
	rule->pool = found->index;
	if (rule->delegate && loader->config->pool[rule->pool].kind != POOL_MADE) {
		const struct config_place place = { rule->place.file, reference->line };

		return loader_fail_place(
			loader, &place,
			"\"delegate\" in the rule \"%.100s\" needs a private pool, "
			"but \"%s\" has a path",
			rule->name, reference->name);
	}
	return 0;
}

/* Whether somebody else could have a part in what a rule delegates of a pool: a sandbox is that. */
static void find_alone(struct config *config)
{
	for (size_t i = 0; i < config->rule_count; i++) {
		const struct rule_config *rule = &config->rule[i];

		if (rule->delegate)
			config->pool[rule->pool].alone = config->pool[rule->pool].per ==
								 POOL_PER_USER ||
							 config->pool[rule->pool].per ==
								 POOL_PER_APP;
	}
	for (size_t i = 0; i < config->rule_count; i++) {
		const struct rule_config *rule = &config->rule[i];
		bool of_sandboxes = !rule->has_sandboxed || rule->sandboxed;

		if (rule->allow && of_sandboxes && config->pool[rule->pool].per == POOL_PER_USER)
			config->pool[rule->pool].alone = false;
	}
}

/* What can only be said when all files are read. */
static int resolve(struct loader *loader)
{
	struct config *config = loader->config;
	_cleanup_free_ struct named *pools = named_sorted(config, false);
	_cleanup_free_ struct named *rules = named_sorted(config, true);
	int r;

	if (!pools || !rules)
		return loader_fail_memory(loader);
	r = check_twice(loader, pools, false);
	if (r >= 0)
		r = check_twice(loader, rules, true);
	for (size_t i = 0; r >= 0 && i < config->rule_count; i++)
		r = resolve_rule(loader, &config->rule[i], &loader->reference[i], pools);
	if (r >= 0)
		find_alone(config);
	return r;
}

static void loader_done(struct loader *loader)
{
	for (size_t i = 0; i < loader->config->rule_count; i++)
		free(loader->reference[i].name);
	free(loader->reference);
}

int config_load(struct config **ret, const struct config_source *source,
		struct config_error *ret_error)
{
	struct loader loader = { .source = source, .error = ret_error };
	int r;

	ret_error->text[0] = '\0';
	loader.config = calloc(1, sizeof(*loader.config));
	if (!loader.config)
		return loader_fail_memory(&loader);
	loader.config->limits = limit_defaults;
	r = config_read_files(&loader);
	if (r >= 0)
		r = resolve(&loader);
	loader_done(&loader);
	if (r < 0) {
		config_free(loader.config);
		return r;
	}
	ret_error->text[0] = '\0'; /* of a place that was looked in and had none */
	*ret = loader.config;
	return 0;
}

static void rule_done(struct rule_config *rule)
{
	free(rule->name);
	string_list_done(&rule->unit);
	string_list_done(&rule->user_unit);
	string_list_done(&rule->app);
	string_list_done(&rule->label);
	string_list_done(&rule->names);
}

static void pool_done(struct pool_config *pool)
{
	free(pool->name);
	free(pool->path);
	free(pool->read_only_path);
	free(pool->huge);
	free(pool->mpol);
}

void config_free(struct config *config)
{
	if (!config)
		return;
	for (size_t i = 0; i < config->pool_count; i++)
		pool_done(&config->pool[i]);
	for (size_t i = 0; i < config->rule_count; i++)
		rule_done(&config->rule[i]);
	free(config->pool);
	free(config->rule);
	string_list_done(&config->files);
	string_list_done(&config->warnings);
	free(config);
}
