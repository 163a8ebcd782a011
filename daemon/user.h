/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Users and groups by name, from the machine's database. Asked at the start, while a
 * configuration is loaded and when a person names somebody, never for a request.
 */
#ifndef SHMBROKER_USER_H
#define SHMBROKER_USER_H

#include <sys/types.h>

/* 0, -ENOENT when there is none of that name, or -errno when it can't be told. */
int user_from_name(const char *name, uid_t *ret);
int group_from_name(const char *name, gid_t *ret);

/* The group of a uid's account. 0, -ENOENT or -errno. */
int user_group(uid_t uid, gid_t *ret);

/* The home directory of a uid, for free(). 0, -ENOENT or -errno. */
int user_home(uid_t uid, char **ret);

#endif
