/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * getpwnam_r and its like, with the buffer that they want. Called by the
 * configuration's reader and by what explains for another user.
 */
#include "daemon/user.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>

#include "daemon/fd.h"

#define BUFFER_MIN 1024
#define BUFFER_MAX (16u * 1024 * 1024) /* bytes; a group lists all of its members */

/* The several ways in which databases say "none of that name": see getpwnam(3). */
static int lookup_result(int error, const void *found)
{
	if (found)
		return 0;
	switch (error) {
	case 0:
	case ENOENT:
	case ESRCH:
	case EBADF:
	case EPERM:
		return -ENOENT;
	default:
		return -error;
	}
}

/* A user by name, or by uid where name is NULL; entry's strings stand in *buffer. */
static int user_lookup(const char *name, uid_t uid, struct passwd *entry, char **buffer)
{
	for (size_t size = BUFFER_MIN; size <= BUFFER_MAX; size *= 2) {
		struct passwd *found = NULL;
		char *more = realloc(*buffer, size);
		int error;

		if (!more)
			return -ENOMEM;
		*buffer = more;
		do
			error = name ? getpwnam_r(name, entry, *buffer, size, &found)
				     : getpwuid_r(uid, entry, *buffer, size, &found);
		while (error == EINTR);
		if (error != ERANGE)
			return lookup_result(error, found);
	}
	return -ERANGE;
}

int user_from_name(const char *name, uid_t *ret)
{
	_cleanup_free_ char *buffer = NULL;
	struct passwd entry;
	int r;

	r = user_lookup(name, 0, &entry, &buffer);
	if (r < 0)
		return r;
	*ret = entry.pw_uid;
	return 0;
}

int user_group(uid_t uid, gid_t *ret)
{
	_cleanup_free_ char *buffer = NULL;
	struct passwd entry;
	int r;

	r = user_lookup(NULL, uid, &entry, &buffer);
	if (r < 0)
		return r;
	*ret = entry.pw_gid;
	return 0;
}

int user_home(uid_t uid, char **ret)
{
	_cleanup_free_ char *buffer = NULL;
	struct passwd entry;
	int r;

	r = user_lookup(NULL, uid, &entry, &buffer);
	if (r < 0)
		return r;
	if (!entry.pw_dir || !*entry.pw_dir)
		return -ENOENT;
	*ret = strdup(entry.pw_dir);
	return *ret ? 0 : -ENOMEM;
}

int group_from_name(const char *name, gid_t *ret)
{
	_cleanup_free_ char *buffer = NULL;

	for (size_t size = BUFFER_MIN; size <= BUFFER_MAX; size *= 2) {
		struct group entry, *found = NULL;
		char *more = realloc(buffer, size);
		int error;

		if (!more)
			return -ENOMEM;
		buffer = more;
		do
			error = getgrnam_r(name, &entry, buffer, size, &found);
		while (error == EINTR);
		if (error == ERANGE)
			continue;
		if (found)
			*ret = entry.gr_gid;
		return lookup_result(error, found);
	}
	return -ERANGE;
}
