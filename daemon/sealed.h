/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Sealed objects: memory that nobody can write through a descriptor, or make shorter, once it has
 * its name. A file of a tmpfs can't be sealed, so each is a memfd, the one thing that the broker
 * holds itself; its name is held in the pool by an empty file of mode 0000, the holder, so that the
 * kernel decides what is taken, listed and unlinked. Its bytes are set aside in the pool
 * (store_set_aside()) and the holder stays open until nobody has the memory any more: not by a
 * descriptor, a path, or a mapping.
 */
#ifndef SHMBROKER_SEALED_H
#define SHMBROKER_SEALED_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "daemon/object.h"
#include "daemon/peer.h"
#include "daemon/quota.h"
#include "daemon/state.h"
#include "daemon/store.h"
#include "daemon/watch.h"

struct sealed;

/* One that is kept beyond the process, by its number: told when it has its name, and loses it. */
struct sealed_events {
	void *context;
	int (*made)(void *context, uint32_t number, int memory); /* 0 or -errno */
	void (*ended)(void *context, uint32_t number);
};

struct sealed_set {
	const struct object_env *env;
	struct store *store;
	struct quota *quota;
	struct loop *loop;
	const struct state *state; /* borrowed: over a restart */
	const struct sealed_events *events;
	LIST_HEAD(, sealed) list;
	struct sealed *names;	  /* a hash by instance and name */
	struct sealed *by_holder; /* another, by holder's number of inotify */
	uint32_t last_number;
	int error; /* of finding one again, the first: 0, or -errno, and the next start may find it
		    */
	/* Two inotify descriptors: whoever can touch a holder can't flood the other's queue. */
	int memories, holders; /* -EBADF: none can be sealed here */
	struct watch memories_watch, holders_watch;
};

/* With env, store, quota, loop, state and events set. That it can't seal is no failure. */
void sealed_set_init(struct sealed_set *all);
/* Whether any can be made. */
bool sealed_can(const struct sealed_set *all);

/*
 * A new one without a name, of `size` bytes that are set aside in the instance already: they are
 * the object's on success. Takes `holder`, a nameless file of mode 0400 that was just made there
 * with the credentials that still are. 0, or an errno for the client: EDQUOT, EUSERS too, ENOMEM,
 * EOPNOTSUPP.
 */
int sealed_new(struct sealed_set *all, const struct peer *peer, struct instance *instance,
	       int holder, mode_t mode, uint64_t size, const struct quota_limit *limit,
	       struct sealed **ret);
/* Its memory, to be opened anew for its maker. Borrowed. */
int sealed_memory(const struct sealed *sealed);
uint64_t sealed_ino(const struct sealed *sealed); /* of the holder */
/* It gets no name after all. */
void sealed_discard(struct sealed *sealed);
/*
 * From here on nobody can write but by a mapping that is there, and with 0 it has its name. An
 * errno for the client: it is sealed all the same, and may be tried again.
 */
int sealed_publish(struct sealed *sealed, const struct peer *peer,
		   char hidden[static HIDDEN_NAME_SIZE], const char *name, bool replace,
		   const char **ret_why);

/* What has this name, or NULL: nothing, or something else. */
struct sealed *sealed_find(struct sealed_set *all, const struct instance *instance,
			   const char *name);
/* Opens it for reading, as the pool's access has it. 0, or an errno for the client. */
int sealed_open(const struct sealed *sealed, const struct peer *peer, uint32_t flags, int *ret,
		const char **ret_why);
/* What was learnt of a name, if it is a holder: what the object itself is. */
void sealed_correct(const struct sealed_set *all, const struct instance *instance, const char *name,
		    struct object_info *info);
/* Gives back, now, the room of those that nobody has any more. */
void sealed_reclaim(struct sealed_set *all);
/*
 * Whether room of this instance may be about to come free: one was left just now for others to
 * free, the service manager or the closer. sealed_tick() wakes who waits for it then; it
 * returns in how many ms to be called again, 0: nothing to do.
 */
bool sealed_may_go(const struct sealed_set *all, const struct instance *instance, uint64_t now_ms);
uint64_t sealed_tick(struct sealed_set *all, uint64_t now_ms);

/*
 * One of the process before, before its pools are found: its descriptor is taken. 0, or -ENOENT
 * when nothing is known of it, or another -errno.
 */
int sealed_restore(struct sealed_set *all, uint32_t number, int memory);
/* Forgets those that were known, and have no descriptor any more. After sealed_restore() for all.
 */
void sealed_sweep(struct sealed_set *all);
/* A pool's directories are there: finds those of it, and removes holders of none. */
void sealed_ready(struct sealed_set *all, struct instance *instance);
/* Unnames all of them; or leaves them to the next process. */
void sealed_set_done(struct sealed_set *all, bool leave);

#endif
