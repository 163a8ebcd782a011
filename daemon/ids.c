/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A process's ids as values: copied, compared, searched. Used wherever an identity
 * is kept; peer.c reads them out of /proc here.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/peer-private.h"
#include "daemon/peer.h"
#include "daemon/proc.h"
#include "daemon/state.h"

void ids_done(struct ids *ids)
{
	free(ids->groups);
	ids->groups = NULL;
	ids->group_count = 0;
}

int ids_copy(struct ids *ret, const struct ids *ids)
{
	gid_t *groups = NULL;

	if (ids->group_count) {
		groups = malloc(ids->group_count * sizeof(*groups));
		if (!groups)
			return -ENOMEM;
		memcpy(groups, ids->groups, ids->group_count * sizeof(*groups));
	}
	*ret = *ids;
	ret->groups = groups;
	return 0;
}

static int compare_groups(const void *a, const void *b)
{
	gid_t x = *(const gid_t *)a, y = *(const gid_t *)b;

	return (x > y) - (x < y);
}

void ids_sort(struct ids *ids)
{
	if (ids->group_count)
		qsort(ids->groups, ids->group_count, sizeof(*ids->groups), compare_groups);
}

bool ids_in_group(const struct ids *ids, gid_t gid)
{
	if (ids->gid == gid)
		return true;
	return ids->group_count &&
	       bsearch(&gid, ids->groups, ids->group_count, sizeof(gid), compare_groups);
}

bool ids_equal(const struct ids *a, const struct ids *b)
{
	if (a->uid != b->uid || a->gid != b->gid || a->group_count != b->group_count)
		return false;
	return !a->group_count ||
	       !memcmp(a->groups, b->groups, a->group_count * sizeof(*a->groups));
}

/* The effective id out of "real effective saved fs". */
static int status_effective_id(uint32_t *ret, const char *status, const char *key)
{
	const char *text = proc_status_field(status, key);

	return text && sscanf(text, "%*u %" SCNu32, ret) == 1 ? 0 : -EBADMSG;
}

static int status_groups(struct ids *ids, const char *status)
{
	const char *text = proc_status_field(status, "Groups"), *at;
	size_t count = 0;
	char *end;

	if (!text)
		return -EBADMSG;
	for (at = text; *at && *at != '\n'; at++)
		count += *at == ' ' || at[1] == '\n'; /* each number has a blank behind it */
	if (!count)
		return 0;
	ids->groups = malloc(count * sizeof(*ids->groups));
	if (!ids->groups)
		return -ENOMEM;
	for (at = text; ids->group_count < count && *at >= '0' && *at <= '9'; at = end) {
		ids->groups[ids->group_count++] = (gid_t)strtoul(at, &end, 10);
		end += strspn(end, " ");
	}
	ids_sort(ids);
	return 0;
}

int ids_from_status(struct ids *ids, const char *status)
{
	int r = status_effective_id(&ids->uid, status, "Uid");

	if (r == 0)
		r = status_effective_id(&ids->gid, status, "Gid");
	return r < 0 ? r : status_groups(ids, status);
}

bool ids_text(char *ret, size_t size, const struct ids *ids)
{
	size_t used = 0, count = 0;

	*ret = 0;
	for (; count < ids->group_count && used + 12 < size; count++)
		used += (size_t)snprintf(ret + used, size - used, "%s%u", count ? "," : "",
					 ids->groups[count]);
	return count == ids->group_count;
}

static int parse_groups(struct ids *ids, char *text)
{
	size_t most = 1;
	char *word;

	for (const char *at = text; *at; at++)
		most += *at == ',';
	ids->groups = *text ? malloc(most * sizeof(*ids->groups)) : NULL;
	if (*text && !ids->groups)
		return -ENOMEM;
	while (*text && (word = strsep(&text, ","))) {
		ids->groups[ids->group_count++] = (gid_t)strtoul(word, NULL, 10);
		if (!text)
			break;
	}
	ids_sort(ids);
	return 0;
}

int ids_parse(struct ids *ret, char **value)
{
	uint64_t uid, gid;
	char *groups;

	*ret = (struct ids){ 0 };
	if (!state_number(value, &uid) || !state_number(value, &gid) || uid > UINT32_MAX ||
	    gid > UINT32_MAX)
		return -EINVAL;
	groups = state_word(value);
	if (!groups)
		return -EINVAL;
	ret->uid = (uid_t)uid;
	ret->gid = (gid_t)gid;
	return parse_groups(ret, groups);
}
