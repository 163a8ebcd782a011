/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pools as they are on this machine: which tmpfs each definition has, when it is
 * made and released. What is in them is object.h's. The name table itself
 * lives in the kernel; this is only who has which two descriptors of it.
 */
#ifndef SHMBROKER_STORE_H
#define SHMBROKER_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uthash.h>

#include "daemon/config.h"
#include "daemon/keeper.h"
#include "daemon/peer.h"
#include "daemon/quota.h"

struct store;

/* Somebody whose request waits for an instance: woken once, then asked again. Embedded. */
struct waiter {
	void (*wake)(struct waiter *waiter);
	struct instance *instance; /* NULL: not waiting */
	TAILQ_ENTRY(waiter) entry;
};
TAILQ_HEAD(waiter_list, waiter);

enum instance_state {
	INSTANCE_MAKING, /* the keeper was asked */
	INSTANCE_READY,	 /* both descriptors are there (a path pool: at least the writable one) */
	INSTANCE_RELEASING, /* the keeper was asked whether it is empty */
	INSTANCE_EMPTY,	    /* nothing is in it while a new definition is being applied */
	INSTANCE_ABSENT,    /* can't be had: why says it */
};

/* Whose instance of a `per` pool it is: the uid and the app's id or the unit; uid alone; or
 * nobody's. */
struct owner {
	uid_t uid;	  /* (uid_t)-1 where it doesn't count */
	const char *text; /* app or unit, "" where it doesn't count */
};

/* One tmpfs of a pool. */
struct instance {
	struct pool *pool;
	uint32_t number;  /* its name in the pool table; unique, and the order of listings */
	char *owner_text; /* "1000", "1000:org.x", "a.service", "" */
	uid_t owner_uid;
	enum instance_state state;
	int writable, read_only; /* directory descriptors; read_only -EBADF: no twin */
	uid_t directory_uid;	 /* who owns the root directory, and its group */
	gid_t directory_gid;
	bool broker_only;		     /* nobody but the broker makes names in it */
	uint64_t limit_bytes;		     /* 0: not known */
	uint64_t asked_bytes, asked_objects; /* of the keeper, last */
	uint64_t last_used_ms;
	uint64_t idle_ms; /* how long unused before its release is tried (again) */
	unsigned pins;	  /* unpublished objects, temporary names: not released meanwhile */
	struct keeper_failure why; /* ABSENT: why; READY without a twin: why not */
	struct charge charge;
	struct waiter_list waiters;
	TAILQ_ENTRY(instance) entry; /* of the store's, in the order of numbers */
	size_t key_size;
	UT_hash_handle hh;
	char key[]; /* the uid, and owner.text without its NUL */
};
TAILQ_HEAD(instance_list, instance);

/* One definition. */
struct pool {
	struct pool_config config; /* a copy: it outlives the configuration that it came from */
	bool closed;		   /* its definition is gone: kept until it is empty */
	bool fresh;		   /* came with the configuration that is being applied */
	bool has_next;		   /* the definition that is being applied: */
	struct pool_config next;
	bool changing;		    /* to another kind by it: its instances are being emptied */
	struct instance *single;    /* of a pool that is not `per`: the request's short way */
	struct instance *instances; /* all of them: a hash by owner */
	TAILQ_ENTRY(pool) entry;
};
TAILQ_HEAD(pool_list, pool);

/* What the store tells its user, the broker: never during a call into the store by a client. */
struct store_events {
	void *context;
	void (*notice)(void *context, int priority,
		       const char *text);			     /* syslog priority; one line */
	void (*applied)(void *context, int error, const char *text); /* store_apply() has ended */
	/* Its directories are there, maybe others than before. May be NULL. */
	void (*ready)(void *context, const struct instance *instance);
};

struct store_setup {
	struct keeper *keeper; /* borrowed */
	struct quota *quota;   /* borrowed */
	const struct store_events *events;
};

int store_new(struct store **ret, const struct store_setup *setup);
void store_free(struct store *store);

/*
 * Makes the pools be as config has them: new ones are made, changed limits are
 * set in place, those that are gone are closed. Ends with events->applied, at
 * once or when the keeper has answered: error 0; or -errno and a line, and then everything is as
 * before. With `lenient` (at start) what can't be had is absent instead. One at a time: -EBUSY.
 * The config is borrowed until `applied`.
 */
int store_apply(struct store *store, const struct config *config, bool lenient);

/* The keeper's descriptor is readable. 0, or -errno when the keeper has ended. */
int store_dispatch(struct store *store, uint64_t now_ms);
/* Releases what is idle. Returns in how many ms to be called again, 0: nothing to do. */
uint64_t store_tick(struct store *store, uint64_t now_ms);

/* The pool of a config's index, as of the last apply that succeeded. */
struct pool *store_pool(struct store *store, size_t index);
struct pool *store_pool_by_name(struct store *store, const char *name);
struct pool_list *store_pools(struct store *store);

/* Who a peer is to a pool: 0, or EACCES when it has no owner there (no app known, no unit). */
int store_owner(struct owner *ret, const struct pool *pool, const struct peer *peer);
struct instance *store_find(struct pool *pool, const struct owner *owner);

/*
 * The instance for an owner; made when it is not there yet. Its state may be MAKING or
 * RELEASING: then wait. 0, or an errno for the client: EDQUOT (too many), ENOMEM.
 */
int store_get(struct store *store, struct pool *pool, const struct owner *owner, uint64_t now_ms,
	      const struct config_limits *limits, struct instance **ret);
void store_wait(struct instance *instance, struct waiter *waiter);
void store_unwait(struct waiter *waiter);

/* The instance with the smallest number above `after`, or NULL: the order of listings. */
struct instance *store_next(struct store *store, uint32_t after);
struct instance *store_by_number(struct store *store, uint32_t number);

/*
 * Unlinks everything in a pool (all its instances) and releases what can be released. 0, or
 * an errno: ENOENT, EOPNOTSUPP for a path or given pool.
 */
int store_drop(struct store *store, const char *name, uint64_t now_ms);

#endif
