/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rights and mismatches in words, for reasons and for explain. Called by the
 * broker when a request is refused or explained, never on the way of a grant.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/policy.h"
#include "proto/escape.h"

struct text {
	char *buffer;
	size_t size, used;
};

static const struct {
	const char *name;
	uint32_t rights;
} right_names[] = {
	{ "read", RIGHT_READ },	    { "write", RIGHT_WRITE }, { "create", RIGHT_CREATE },
	{ "unlink", RIGHT_UNLINK }, { "list", RIGHT_LIST },   { "all", RIGHT_ALL },
	{ "nothing", 0 },
};

#define SINGLE_RIGHTS 5 /* the first of them are one right each */
#define RIGHT_NAMES (sizeof(right_names) / sizeof(right_names[0]))

/* Cut at the buffer's end, always terminated. */
__attribute__((format(printf, 2, 3))) static void text_add(struct text *text, const char *format,
							   ...)
{
	size_t room = text->size - text->used;
	va_list args;
	int more;

	if (!text->size)
		return;
	va_start(args, format);
	more = vsnprintf(text->buffer + text->used, room, format, args);
	va_end(args);
	if (more > 0)
		text->used += (size_t)more < room ? (size_t)more : room - 1;
}

static void text_add_escaped(struct text *text, const char *value)
{
	if (!value)
		value = "";
	text_add(text, "\"");
	if (text->size)
		text->used += escape(text->buffer + text->used, text->size - text->used, value,
				     strlen(value));
	text_add(text, "\"");
}

const char *policy_rights_text(char *buffer, size_t size, uint32_t rights)
{
	struct text text = { buffer, size, 0 };

	if (!(rights & RIGHT_ALL))
		text_add(&text, "nothing");
	for (size_t i = 0; i < SINGLE_RIGHTS; i++)
		if (rights & right_names[i].rights)
			text_add(&text, "%s%s", text.used ? "," : "", right_names[i].name);
	return buffer;
}

static int right_parse(const char *word, size_t size, uint32_t *rights)
{
	for (size_t i = 0; i < RIGHT_NAMES; i++)
		if (strlen(right_names[i].name) == size &&
		    !memcmp(right_names[i].name, word, size)) {
			*rights |= right_names[i].rights;
			return 0;
		}
	return -EINVAL;
}

int policy_rights_parse(uint32_t *ret, const char *text)
{
	uint32_t rights = 0;

	for (;;) {
		size_t size = strcspn(text, ",");

		if (right_parse(text, size, &rights) < 0)
			return -EINVAL;
		if (!text[size])
			break;
		text += size + 1;
	}
	*ret = rights;
	return 0;
}

/* is for the unit "a" or "b" */
static void add_list(struct text *text, const char *what, const struct string_list *list)
{
	text_add(text, "is for the %s ", what);
	for (size_t i = 0; i < list->count; i++) {
		text_add(text, "%s", i ? " or " : "");
		text_add_escaped(text, list->string[i]);
	}
}

static void add_glob_mismatch(struct text *text, const char *what, const struct string_list *list,
			      const char *value)
{
	add_list(text, what, list);
	/* A peer that has none is matched by no pattern, "*" included. */
	if (!value || !*value) {
		text_add(text, ", this has none");
		return;
	}
	text_add(text, ", this is ");
	text_add_escaped(text, value);
}

static void add_sandboxed_mismatch(struct text *text, const struct peer *peer)
{
	if (peer->sandboxed)
		text_add(text, "is for programs that are not sandboxed, this is");
	else
		text_add(text, "is for sandboxed programs, this is not");
}

static void add_maker_mismatch(struct text *text, const struct rule_config *config,
			       const struct peer *peer)
{
	add_list(text, "app", &config->app);
	text_add(text, ", but this app's context was made by uid %u, who is neither root nor ",
		 peer->maker.uid);
	if (!config->has_user && !config->has_group)
		text_add(text, "named by the rule");
	if (config->has_user)
		text_add(text, "the user %u", config->user);
	if (config->has_user && config->has_group)
		text_add(text, " in ");
	else if (config->has_group)
		text_add(text, "in ");
	if (config->has_group)
		text_add(text, "the group %u", config->group);
}

const char *policy_mismatch_text(char *buffer, size_t size, enum mismatch why,
				 const struct rule *rule, const struct peer *peer)
{
	const struct rule_config *config = rule->config;
	static const char unmapped[] = ", as is whoever this user namespace doesn't know";
	struct text text = { buffer, size, 0 };

	switch (why) {
	case MATCH:
		text_add(&text, "matches");
		break;
	case MISMATCH_USER:
		text_add(&text, "is for the user %u, this is %u", config->user, peer->ids.uid);
		if (peer->ids.uid == config->user)
			text_add(&text, unmapped);
		break;
	case MISMATCH_GROUP:
		text_add(&text, "is for the group %u, this is in %u%s", config->group,
			 peer->ids.gid, peer->ids.group_count ? " and others" : "");
		if (ids_in_group(&peer->ids, config->group))
			text_add(&text, unmapped);
		break;
	case MISMATCH_UNKNOWN_USER:
		text_add(&text, "is for a user who doesn't exist");
		break;
	case MISMATCH_UNKNOWN_GROUP:
		text_add(&text, "is for a group that doesn't exist");
		break;
	case MISMATCH_UNIT:
		add_glob_mismatch(&text, "unit", &config->unit, peer->unit);
		break;
	case MISMATCH_USER_UNIT:
		add_glob_mismatch(&text, "user unit", &config->user_unit, peer->user_unit);
		break;
	case MISMATCH_APP:
		add_glob_mismatch(&text, "app", &config->app, peer->app);
		break;
	case MISMATCH_APP_MAKER:
		add_maker_mismatch(&text, config, peer);
		break;
	case MISMATCH_SANDBOXED:
		add_sandboxed_mismatch(&text, peer);
		break;
	case MISMATCH_LABEL:
		add_glob_mismatch(&text, "label", &config->label, peer->label);
		break;
	case MISMATCH_NAME:
		add_list(&text, "name", &config->names);
		break;
	}
	return buffer;
}
