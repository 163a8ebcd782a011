/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Objects in one instance of a pool: opened, made, named, unlinked, looked at. The
 * semantics are POSIX's shm_open and shm_unlink, and the kernel's.
 */
#ifndef SHMBROKER_OBJECT_H
#define SHMBROKER_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/creds.h"
#include "daemon/peer.h"
#include "daemon/store.h"
#include "daemon/watch.h"

/* What object functions work with, the same for all. */
struct object_env {
	struct creds *creds;
	const struct peer_self *self;
	struct loop *loop;
	int proc_fds; /* /proc/self/fd, for linkat(2): a held descriptor */
};

struct object_how {
	uint32_t flags;		 /* WIRE_READ ... */
	mode_t mode;		 /* of a new object */
	uint64_t size_bytes;	 /* of a new object */
	uint64_t max_size_bytes; /* what size_bytes may be at most */
	bool may_create;	 /* the rule allows it */
	bool no_name;		 /* unpublished: made without a name */
};

struct object {
	int fd; /* owned by the caller */
	bool created;
};

/*
 * All return 0 or a positive errno for the client, as INTERFACE's table has them; *ret_why is
 * set to a text where the errno alone doesn't say it, else left alone.
 */
extern const char object_not_created[]; /* a *ret_why: nothing there, and may_create is false */
int object_open(const struct object_env *env, struct instance *instance, const struct peer *peer,
		const char *name, const struct object_how *how, struct object *ret,
		const char **ret_why);
int object_unlink(const struct object_env *env, struct instance *instance, const struct peer *peer,
		  const char *name);
/* 0, or whether a size is over what the rule or the pool lets be. */
int object_check_size(const struct instance *instance, const struct object_how *how,
		      const char **ret_why);
/*
 * Another opening of what is open, with the broker's own rights: flags as open(2)'s. A descriptor
 * or -errno.
 */
int object_reopen(const struct object_env *env, int fd, int flags);
#define HIDDEN_NAME_SIZE (sizeof(NAME_RESERVED_PREFIX) + 16)
/*
 * Gives an object without a name (its descriptor is borrowed) its name. What has had one and none
 * any more can't be given another: so `hidden`, empty at first, is kept by the caller for the next
 * try after a failed one, or for object_unhide().
 */
int object_publish(const struct object_env *env, struct instance *instance, const struct peer *peer,
		   int fd, char hidden[static HIDDEN_NAME_SIZE], const char *name, bool replace,
		   const char **ret_why);
/* It will get no name. */
void object_unhide(const struct object_env *env, struct instance *instance,
		   char hidden[static HIDDEN_NAME_SIZE]);

struct object_info {
	uint64_t size, allocated, ino, created_ns;
	uid_t uid;
	gid_t gid;
	mode_t mode; /* with the file type */
	bool is_sealed;
};
/* With the broker's own rights. */
int object_stat(const struct instance *instance, const char *name, struct object_info *ret);

/*
 * Unlinks `name` with its maker's rights if it still is the object `ino`. Directory pools of others
 * too. *left, if it isn't NULL, is lowered by what its memory is beside that.
 */
int object_unlink_if(const struct object_env *env, struct instance *instance,
		     const struct ids *maker, const char *name, uint64_t ino, unsigned *left);

/*
 * What is removed in one pass of the loop, others being served between: so many objects, or fewer
 * whose memory takes as long to be freed, some 16 MiB.
 */
#define OBJECT_WORK_MAX 128
/* Lowers *left by what the memory of an object is in this, which is about to be closed. */
void object_count(int fd, unsigned *left);

#endif
