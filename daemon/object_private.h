/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What object.c, which opens, object_make.c and object_name.c, which names and unlinks, share. */
#ifndef SHMBROKER_OBJECT_PRIVATE_H
#define SHMBROKER_OBJECT_PRIVATE_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/object.h"
#include "proto/name.h"

/* What the kernel said, as the client gets it: the table in client/shmbroker.h. */
int object_errno(int error);
/* The caller's ids, where there is a right to take them. 0, or an errno for the client. */
int object_act_as(const struct object_env *env, const struct instance *instance,
		  const struct peer *peer, const char **ret_why);
/* Opens with the broker's own rights what is in one of the instance's directories; follows no link
 * and waits for nobody. A descriptor or -errno. */
int object_open_own(const struct object_env *env, const struct instance *instance, int dir,
		    const char *name, int flags);
/* Never blocks at a FIFO, a lease or a device, never follows a link. */
#define OBJECT_OPEN_ALWAYS (O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)
/* As open(2) has them, of the wire's, with those. */
int object_open_flags(uint32_t flags);
/* The status flags that shm_open(3) gives: its descriptors block. 0 or an errno. */
int object_settle_flags(int fd, uint32_t flags);
/* Whether it is to be opened by the pool's read-only mount. */
bool object_through_twin(const struct instance *instance, const struct object_how *how);
/* The same object read-only, through the twin: nobody can make that descriptor writable. 0 and
 * another *fd, or an errno for the client. */
int object_reopen_read_only(const struct object_env *env, const struct instance *instance,
			    const char *name, int *fd);
bool object_is_same(int a, int b);
/* Whether the name is taken, by whatever. */
bool object_exists(const struct instance *instance, const char *name);
/* Makes a new one. 0 with its descriptor as the client gets it, EEXIST, or another errno for the
 * client, with a descriptor or without. */
int object_make(const struct object_env *env, struct instance *instance, const struct peer *peer,
		const char *name, const struct object_how *how, struct object *ret,
		const char **ret_why);

/* Names what has no name yet. 0 or the kernel's errno. Under the credentials that are. */
int object_link(const struct object_env *env, int fd, int dir, const char *name);
/* Closes what may be the last opening of an object: true when others do it, since that is large. */
bool object_close(const struct object_env *env, int fd);
/* A name that nobody can ask for; swept at start if we die with it. 0 or an errno. */
int object_hidden_name(char ret[static HIDDEN_NAME_SIZE]);

#endif
