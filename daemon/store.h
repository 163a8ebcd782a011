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

#include "daemon/config.h"
#include "daemon/creds.h"
#include "daemon/hash.h"
#include "daemon/keeper.h"
#include "daemon/notice.h"
#include "daemon/peer.h"
#include "daemon/quota.h"
#include "daemon/state.h"
#include "daemon/watch.h"
#include "proto/waypoint.h"

struct store;

/* Somebody whose request waits for an instance: woken once, then asked again. Embedded. */
struct waiter {
	void (*wake)(struct waiter *waiter);
	struct instance *instance; /* NULL: not waiting */
	TAILQ_ENTRY(waiter) entry;
};
TAILQ_HEAD(waiter_list, waiter);

/*
 * Bytes of an instance that somebody is to have outside of its tmpfs: store_set_aside(). Embedded
 * where the claim is; zeroed: none.
 */
struct aside {
	struct instance *instance; /* NULL: refused, or nothing was asked */
	uint64_t bytes;
	enum {
		ASIDE_NOTHING,
		ASIDE_ASKED, /* the keeper was: the instance's waiters are woken */
		ASIDE_HAD,
		ASIDE_REFUSED, /* there is no room */
	} state;
};

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
	bool was_lent;			     /* and so has names that sandboxes made */
	bool alone;			     /* as its pool, from its beginning */
	char waypoint[WAYPOINT_SIZE];	     /* the name of the one that it has; "": none */
	bool broker_only;		     /* nobody but the broker makes names in it */
	int64_t generation;		     /* of its delegations; 0: none by this process */
	int mount;			     /* for the next whom it is lent to, or -EBADF */
	bool is_cloning;		     /* the keeper was asked for that */
	struct keeper_failure not_lent;	     /* and had none */
	uint64_t limit_bytes;		     /* 0: not known */
	uint64_t asked_bytes, asked_objects; /* of the keeper, last */
	uint64_t aside_bytes;		     /* of limit_bytes: sealed objects have them */
	struct aside *asking;		     /* who waits for some; NULL: nobody */
	uint64_t asking_task;		     /* of the keeper's */
	unsigned sealed;		     /* objects */
	uint64_t last_used_ms;
	uint64_t idle_ms; /* how long unused before its release is tried (again) */
	unsigned pins;	  /* unpublished and sealed objects, temporary names, loans: not released
			     meanwhile */
	bool told_full;
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
	bool dropped;		   /* it gave way to another of its name: closed, too */
	bool never_configured;	   /* the configuration that it came with was refused */
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
	notice_fn notice;
	void (*applied)(void *context, int error, const char *text); /* store_apply() has ended */
	/* Its directories are there, maybe others than before. May be NULL. */
	void (*ready)(void *context, struct instance *instance);
};

struct store_setup {
	struct keeper *keeper;	   /* borrowed */
	const struct state *state; /* borrowed */
	struct quota *quota;	   /* borrowed */
	const struct store_events *events;
};

int store_new(struct store **ret, const struct store_setup *setup);
void store_free(struct store *store);

/*
 * Finds the private pools of the process before, closed until store_apply() says what becomes of
 * them. Blocks: once, at the start. Returns how many there are, or -errno: nothing is lost then,
 * and the next start may find them.
 */
int store_restore(struct store *store);

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

/* How many private pools are there, those of a "per" pool each for itself. */
unsigned store_private_count(const struct store *store);

/* Looks how full each is, and tells of those that have become so. Returns how many there are. */
unsigned store_look(struct store *store, uint64_t *ret_objects);

/* The pool of a config's index, as of the last apply that succeeded. */
struct pool *store_pool(struct store *store, size_t index);
struct pool *store_pool_by_name(struct store *store, const char *name);
struct pool_list *store_pools(struct store *store);

/*
 * Who a peer is to a pool: 0, or EACCES when it has no owner there: no app known, no unit, or a uid
 * that several may have.
 */
int store_owner(struct owner *ret, const struct pool *pool, const struct peer *peer,
		const struct peer_self *self);
/* What each instance of a `per` pool is for: "user", "app" or "unit". */
const char *store_per(const struct pool *pool);
struct instance *store_find(struct pool *pool, const struct owner *owner);

/*
 * The instance for an owner; made when it is not there yet. Its state may be MAKING or
 * RELEASING: then wait. 0, or an errno for the client: EDQUOT (too many), ENOMEM.
 */
int store_get(struct store *store, struct pool *pool, const struct owner *owner, uint64_t now_ms,
	      const struct config_limits *limits, struct instance **ret);
/* Others than the broker will make names in an instance from now on: 0 or an errno. */
int store_open_up(struct store *store, struct instance *instance);
/*
 * Makes the waypoint of an instance that is alone and has no sealed objects, with the broker's own
 * credentials, if it isn't there. Whether it is. It uses one of the objects until it is taken away:
 * when something is sealed in the instance, somebody else may have a part in it, the configuration
 * is loaded, or it is released.
 */
bool store_begin_waypoint(struct instance *instance);
/* Whoever opens by it looks from then on. With the broker's own credentials. */
void store_end_waypoint(struct store *store, struct instance *instance);
/* Somebody else has a part in an instance from now on, or may have. Likewise. */
void store_share(struct store *store, struct instance *instance);
/* Whoever has its directory delegated asks anew before the next use. */
void store_disclaim(struct store *store, struct instance *instance);
/* Of all delegations. */
struct validity *store_validity(struct store *store);
/* What its directory's st_atim is, in whole seconds, until then: 0 or an errno. */
int store_generation(struct store *store, struct instance *instance, int64_t *ret);
/*
 * A mount of an instance that is READY, for a sandbox: 0 and *ret, owned by the caller; EAGAIN:
 * wait for the keeper's; or an errno with ret_why.
 */
int store_lend(struct store *store, struct instance *instance, int *ret,
	       struct keeper_failure *ret_why);
void store_wait(struct instance *instance, struct waiter *waiter);
void store_unwait(struct waiter *waiter);
/* All who wait ask again. */
void store_wake(struct instance *instance);

/*
 * Claims bytes, rounded up to pages: 0 and *ret, HAD or ASKED; or an errno: ENOSPC, ENOMEM, EAGAIN
 * when others have to be waited for first, by store_wait().
 */
int store_set_aside(struct store *store, struct instance *instance, uint64_t bytes,
		    struct aside *ret);
/* Ends a claim and gives back what it has, if anything. */
void store_unask(struct store *store, struct aside *aside);
/* Ends a claim that HAS its bytes: they are the caller's, for store_give_back(). */
void store_keep_aside(struct aside *aside);
void store_give_back(struct store *store, struct instance *instance, uint64_t bytes);
/* The process before has set these aside. */
void store_find_aside(struct instance *instance, uint64_t bytes);
/* fstatfs(2) of an instance, with what is set aside counted as used. 0 or -errno. */
struct statfs;
int store_usage(const struct instance *instance, struct statfs *ret);

/* How many objects, or files of anybody's, are in it, of how many; fs as from store_usage(). */
struct store_objects {
	uint64_t count, limit;
};
struct store_objects store_objects(const struct instance *instance, const struct statfs *fs);

/* All instances in the order of listings: the first for NULL, NULL behind the last. */
struct instance *store_each(struct store *store, struct instance *before);
/* Where the one before may have gone: the one with the smallest number above `after`, or NULL. */
struct instance *store_next(struct store *store, uint32_t after);
struct instance *store_by_number(struct store *store, uint32_t number);

/*
 * Unlinks everything in a pool (all its instances) and releases what can be released; one that was
 * delegated or lent is another from then on. 0, or an errno: ENOENT, EOPNOTSUPP for a path or given
 * pool, ENOMEM, EBUSY when something is left, can't be noted, or a definition is being applied.
 */
int store_drop(struct store *store, struct creds *creds, struct loop *loop, const char *name,
	       uint64_t now_ms);

#endif
