/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What object.c, which opens and makes, and object_name.c, which names and unlinks, share. */
#ifndef SHMBROKER_OBJECT_PRIVATE_H
#define SHMBROKER_OBJECT_PRIVATE_H

#include "daemon/object.h"
#include "proto/name.h"

#define HIDDEN_NAME_SIZE (sizeof(NAME_RESERVED_PREFIX) + 16)

/* What the kernel said, as the client gets it: the table in client/shmbroker.h. */
int object_errno(int error);
/* The caller's ids, where there is a right to take them. 0, or an errno for the client. */
int object_act_as(const struct object_env *env, const struct instance *instance,
		  const struct peer *peer, const char **ret_why);
/* Opens with the broker's own rights what is in one of the instance's directories; follows no link
 * and waits for nobody. A descriptor or -errno. */
int object_open_own(const struct object_env *env, const struct instance *instance, int dir,
		    const char *name, int flags);
/* Names what has no name yet. 0 or the kernel's errno. Under the credentials that are. */
int object_link(const struct object_env *env, int fd, int dir, const char *name);
/* Closes what may be the last opening of an object: true when others do it, since that is large. */
bool object_close(const struct object_env *env, int fd);
/* A name that nobody can ask for; swept at start if we die with it. 0 or an errno. */
int object_hidden_name(char ret[static HIDDEN_NAME_SIZE]);

#endif
