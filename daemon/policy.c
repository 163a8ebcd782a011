/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The compiled rules: who matches which, and the first that a name matches.
 * Called by the broker for each identity once and for each request.
 */
#include "daemon/policy.h"

#include <errno.h>
#include <string.h>

#include "daemon/fd.h"
#include "daemon/policy_pattern.h"

/* A key with globs: none given matches everybody, one given never who has no such thing. */
struct globs {
	size_t count;
	const struct pattern *pattern;
};

struct compiled {
	struct rule rule; /* what others see of it: the first member, so that it leads back here */
	struct globs unit, user_unit, app, label;
};

struct policy {
	struct config *config;
	struct compiled *compiled;
	struct pattern *pattern; /* of all rules, in one block */
};

static const struct compiled *compiled_of(const struct rule *rule)
{
	return (const struct compiled *)rule;
}

static size_t pattern_count(const struct rule_config *rule)
{
	return rule->unit.count + rule->user_unit.count + rule->app.count + rule->label.count +
	       rule->names.count;
}

/* Compiles a list into the block at *next, which moves on. `skip` bytes at each one's begin go. */
static struct globs compile_list(struct pattern **next, const struct string_list *list, size_t skip)
{
	struct globs globs = { list->count, *next };

	for (size_t i = 0; i < list->count; i++)
		pattern_compile((*next)++, list->string[i] + skip);
	return globs;
}

static void compile_rule(struct compiled *compiled, const struct rule_config *config, size_t index,
			 struct pattern **next)
{
	/* A name comes without its slash, so the pattern loses its own. */
	struct globs names = compile_list(next, &config->names, 1);

	compiled->rule = (struct rule){ config, index, names.pattern, names.count };
	compiled->unit = compile_list(next, &config->unit, 0);
	compiled->user_unit = compile_list(next, &config->user_unit, 0);
	compiled->app = compile_list(next, &config->app, 0);
	compiled->label = compile_list(next, &config->label, 0);
}

int policy_new(struct policy **ret, struct config *config)
{
	struct policy *policy = calloc(1, sizeof(*policy));
	struct pattern *next;
	size_t patterns = 0;

	if (!policy) {
		config_free(config);
		return -ENOMEM;
	}
	policy->config = config;
	for (size_t i = 0; i < config->rule_count; i++)
		patterns += pattern_count(&config->rule[i]);
	policy->compiled = calloc(config->rule_count + 1, sizeof(*policy->compiled));
	policy->pattern = calloc(patterns + 1, sizeof(*policy->pattern));
	if (!policy->compiled || !policy->pattern) {
		policy_free(policy);
		return -ENOMEM;
	}
	next = policy->pattern;
	for (size_t i = 0; i < config->rule_count; i++)
		compile_rule(&policy->compiled[i], &config->rule[i], i, &next);
	*ret = policy;
	return 0;
}

void policy_free(struct policy *policy)
{
	if (!policy)
		return;
	free(policy->compiled);
	free(policy->pattern);
	config_free(policy->config);
	free(policy);
}

const struct config *policy_config(const struct policy *policy)
{
	return policy->config;
}

size_t policy_rule_count(const struct policy *policy)
{
	return policy->config->rule_count;
}

const struct rule *policy_rule(const struct policy *policy, size_t index)
{
	return &policy->compiled[index].rule;
}

/* "" is a peer that has none: not even a star matches that. */
static bool globs_match(const struct globs *globs, const char *text)
{
	size_t size;

	if (!globs->count)
		return true;
	size = text ? strlen(text) : 0;
	for (size_t i = 0; size && i < globs->count; i++)
		if (pattern_match(&globs->pattern[i], text, size))
			return true;
	return false;
}

/* The overflow ids may be anybody's: so they are let in by no rule that names them. */
static bool user_matches(const struct rule_config *config, const struct ids *ids,
			 const struct peer_self *self)
{
	return !config->has_user || (config->user_known && ids->uid == config->user &&
				     (config->user != self->overflow_uid || !config->allow));
}

static bool group_matches(const struct rule_config *config, const struct ids *ids,
			  const struct peer_self *self)
{
	return !config->has_group || (config->group_known && ids_in_group(ids, config->group) &&
				      (config->group != self->overflow_gid || !config->allow));
}

/*
 * Anybody can make a context for any app, so its id alone proves nothing: the
 * maker must be trusted as such, or be the one whom the rule is for anyway.
 */
static bool maker_counts(const struct rule_config *config, const struct ids *maker,
			 const struct peer_self *self)
{
	if (maker->uid == 0 || (self->is_user && maker->uid == self->uid))
		return true;
	if (!config->has_user && !config->has_group)
		return false;
	return user_matches(config, maker, self) && group_matches(config, maker, self);
}

/* Cheap tests first: most rules of a large policy fail at them. */
static enum mismatch match_identity(const struct compiled *compiled, const struct peer *peer,
				    const struct peer_self *self)
{
	const struct rule_config *config = compiled->rule.config;

	if (config->has_user && !config->user_known)
		return MISMATCH_UNKNOWN_USER;
	if (config->has_group && !config->group_known)
		return MISMATCH_UNKNOWN_GROUP;
	if (!user_matches(config, &peer->ids, self))
		return MISMATCH_USER;
	if (config->has_sandboxed && config->sandboxed != peer->sandboxed)
		return MISMATCH_SANDBOXED;
	if (!group_matches(config, &peer->ids, self))
		return MISMATCH_GROUP;
	if (!globs_match(&compiled->unit, peer->unit))
		return MISMATCH_UNIT;
	if (!globs_match(&compiled->user_unit, peer->user_unit))
		return MISMATCH_USER_UNIT;
	if (!globs_match(&compiled->app, peer->app))
		return MISMATCH_APP;
	if (compiled->app.count && !maker_counts(config, &peer->maker, self))
		return MISMATCH_APP_MAKER;
	if (!globs_match(&compiled->label, peer->label))
		return MISMATCH_LABEL;
	return MATCH;
}

static bool names_match(const struct rule *rule, const char *name, size_t size)
{
	for (size_t i = 0; i < rule->name_count; i++)
		if (pattern_match(&rule->names[i], name, size))
			return true;
	return false;
}

enum mismatch policy_match(const struct rule *rule, const struct peer *peer,
			   const struct peer_self *self, const char *name, size_t size)
{
	enum mismatch why = match_identity(compiled_of(rule), peer, self);

	if (why != MATCH || names_match(rule, name, size))
		return why;
	return MISMATCH_NAME;
}

int policy_view(struct view **ret, const struct policy *policy, const struct peer *peer,
		const struct peer_self *self)
{
	size_t rule_count = policy->config->rule_count, count = 0;
	struct view *view, *shrunk;

	view = malloc(sizeof(*view) + rule_count * sizeof(view->rule[0]));
	if (!view)
		return -ENOMEM;
	for (size_t i = 0; i < rule_count; i++)
		if (match_identity(&policy->compiled[i], peer, self) == MATCH)
			view->rule[count++] = &policy->compiled[i].rule;
	view->count = count;
	/* There is one for each client; of many rules most match few. */
	shrunk = realloc(view, sizeof(*view) + count * sizeof(view->rule[0]));
	*ret = shrunk ? shrunk : view;
	return 0;
}

const struct rule *policy_decide(const struct view *view, const char *name, size_t size)
{
	for (size_t i = 0; i < view->count; i++)
		if (names_match(view->rule[i], name, size))
			return view->rule[i];
	return NULL;
}

/* A star in whatever company: there is no empty name, so one question mark takes nothing away. */
static bool matches_all_names(const char *pattern)
{
	size_t size = strlen(pattern), stars = 0, marks = 0;

	for (size_t i = 0; i < size; i++) {
		stars += pattern[i] == '*';
		marks += pattern[i] == '?';
	}
	return stars > 0 && marks <= 1 && stars + marks == size;
}

static bool is_for_all_names(const struct rule *rule)
{
	for (size_t i = 0; i < rule->config->names.count; i++)
		if (matches_all_names(rule->config->names.string[i] + 1))
			return true;
	return false;
}

const struct rule *policy_rest(const struct view *view)
{
	for (size_t i = 0; i < view->count; i++)
		if (is_for_all_names(view->rule[i]))
			return view->rule[i];
	return NULL;
}

/* Whether it allows all of these rights, and leaves nothing to be decided name by name. */
static bool gives(const struct rule_config *config, uint32_t rights)
{
	bool is_free = !config->has_max_size && config->mode_mask == 0777 &&
		       !config->lifetime_process;

	return (config->allow & rights) == rights && !config->sealed &&
	       (is_free || !(rights & (RIGHT_WRITE | RIGHT_CREATE)));
}

const struct rule *policy_narrowing(const struct view *view, const struct rule *rest,
				    uint32_t rights)
{
	for (size_t i = 0; i < view->count && view->rule[i]->index <= rest->index; i++)
		if (view->rule[i]->config->pool == rest->config->pool &&
		    !gives(view->rule[i]->config, rights))
			return view->rule[i];
	return NULL;
}

const struct rule *policy_denying(const struct view *view, const struct rule *rest)
{
	for (size_t i = 0; i < view->count && view->rule[i] != rest; i++)
		if (view->rule[i]->config->allow == 0)
			return view->rule[i];
	return NULL;
}
