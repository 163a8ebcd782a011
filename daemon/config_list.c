/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Lists of strings, and the list of directories where configurations are looked
 * for. Called by the configuration's reader, the daemon and shmctl.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "daemon/config_internal.h"
#include "daemon/fd.h"
#include "daemon/user.h"

void string_list_done(struct string_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->string[i]);
	free(list->string);
	*list = (struct string_list){ 0, NULL };
}

int string_list_take(struct string_list *list, char *string)
{
	char **more;

	if (!string)
		return -ENOMEM;
	/* Doubled at each power of two, which the count itself tells: room is count + 1 at least.
	 */
	if ((list->count & (list->count + 1)) == 0) {
		more = reallocarray(list->string, 2 * (list->count + 1), sizeof(*more));
		if (!more) {
			free(string);
			return -ENOMEM;
		}
		list->string = more;
	}
	list->string[list->count++] = string;
	list->string[list->count] = NULL;
	return 0;
}

int string_list_add(struct string_list *list, const char *string)
{
	return string_list_take(list, strdup(string));
}

/* An XDG_CONFIG_HOME that is not absolute is ignored, as the base directory specification has it.
 */
static int add_user_home(struct string_list *list)
{
	const char *base = secure_getenv("XDG_CONFIG_HOME"), *home = secure_getenv("HOME");
	_cleanup_free_ char *looked_up = NULL;
	char *path = NULL;
	int r;

	if (base && *base == '/')
		return asprintf(&path, "%s/shmbroker", base) < 0 ? -ENOMEM
								 : string_list_take(list, path);
	if (!home || *home != '/') {
		r = user_home(geteuid(), &looked_up);
		if (r == -ENOENT)
			return 0;
		if (r < 0)
			return r;
		home = looked_up;
	}
	return asprintf(&path, "%s/.config/shmbroker", home) < 0 ? -ENOMEM
								 : string_list_take(list, path);
}

int config_directories(struct string_list *ret, bool is_user)
{
	/* The last is where `make install` has put the shipped file: with --prefix=/usr the one
	 * before. */
	static const char *const system[] = { "/etc/shmbroker", "/run/shmbroker",
					      "/usr/lib/shmbroker", VENDOR_DIRECTORY, NULL };
	static const char *const user[] = { "/etc/shmbroker/user", "/usr/lib/shmbroker/user",
					    VENDOR_DIRECTORY "/user", NULL };
	const char *const *fixed = is_user ? user : system;
	struct string_list list = { 0, NULL };
	int r;

	r = is_user ? add_user_home(&list) : 0;
	for (; r >= 0 && *fixed; fixed++)
		r = string_list_add(&list, *fixed);
	if (r < 0) {
		string_list_done(&list);
		return r;
	}
	*ret = list;
	return 0;
}
