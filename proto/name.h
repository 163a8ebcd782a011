/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Rules for names, shared by the library and the daemon. */
#ifndef SHMBROKER_NAME_H
#define SHMBROKER_NAME_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/prefix.h"

#define NAME_RESERVED_PREFIX ".shmbroker."

/* A name without its leading slashes. Both point into the caller's string. */
struct name {
	const char *text;
	size_t size;
};

/* Takes leading slashes off. */
struct name name_strip(const char *text, size_t size);

/*
 * Whether a stripped name can be an object's: 0, EINVAL (empty, `.`, `..`, a
 * slash or a NUL byte inside, the reserved prefix) or ENAMETOOLONG (of what has no slash). For
 * unlink the same cases but `.`, `..` are ENOENT, as glibc's shm_unlink(3) has it.
 */
int name_check(struct name name, bool for_unlink);

/* What name_is_app() takes, for whoever is told that it doesn't. */
#define NAME_APP_RULE "an app's id is 1 to 128 of letters, digits, '.', '_' and '-'"
/* Whether it can be an app's id: 1 to 128 of letters, digits, `.`, `_`, `-`. */
bool name_is_app(const char *text, size_t size);

#endif
