/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which unit a process belongs to, out of the text of /proc/PID/cgroup. Called by
 * peer.c, once a connection.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/peer-private.h"
#include "daemon/peer.h"
#include "daemon/proc.h"

/* One component of a group's path. */
struct component {
	const char *text;
	size_t size;
};

/* Takes the first component off a path; size 0: there is none. */
static struct component next_component(const char **path, const char *end)
{
	struct component component;
	const char *slash;

	while (*path < end && **path == '/')
		(*path)++;
	component.text = *path;
	slash = memchr(*path, '/', (size_t)(end - *path));
	*path = slash ? slash : end;
	component.size = (size_t)(*path - component.text);
	/* systemd puts a `_` before names that would look like a file of the kernel's. */
	if (component.size > 1 && component.text[0] == '_') {
		component.text++;
		component.size--;
	}
	return component;
}

static bool ends_in(struct component component, const char *suffix)
{
	size_t size = strlen(suffix);

	return component.size > size &&
	       !memcmp(component.text + component.size - size, suffix, size);
}

static bool is_unit(struct component component)
{
	static const char *const suffixes[] = { ".service", ".scope", ".socket", ".mount",
						".swap" };
	size_t i;

	for (i = 0; i < sizeof(suffixes) / sizeof(*suffixes); i++)
		if (ends_in(component, suffixes[i]))
			return true;
	return false;
}

/*
 * The first group below the slices, which is size 0 unless it is a unit: anything
 * else there, or further down, has been named by somebody who isn't the manager.
 */
static struct component next_unit(const char **path, const char *end)
{
	struct component component;

	do
		component = next_component(path, end);
	while (ends_in(component, ".slice"));
	if (!is_unit(component))
		component.size = 0;
	return component;
}

int peer_unit_from_cgroup(const char *text, uid_t uid, char **ret_unit, char **ret_user_unit)
{
	struct component unit, user_unit = { 0 };
	size_t size = 0;
	const char *path = proc_cgroup_path(text, &size), *end;
	char manager[32];
	int r;

	*ret_unit = *ret_user_unit = peer_empty;
	if (!path)
		return 0;
	end = path + size;
	unit = next_unit(&path, end);
	/* A manager of another uid's would name units for whoever it can get to run in it. */
	snprintf(manager, sizeof(manager), "user@%" PRIu32 ".service", (uint32_t)uid);
	if (unit.size == strlen(manager) && !memcmp(unit.text, manager, unit.size))
		user_unit = next_unit(&path, end);
	r = peer_string_copy(ret_unit, unit.text, unit.size);
	if (r == 0)
		r = peer_string_copy(ret_user_unit, user_unit.text, user_unit.size);
	if (r < 0)
		peer_string_free(ret_unit);
	return r;
}
