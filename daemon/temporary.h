/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Temporary names: each goes when the process that made it ends, whatever became
 * of its connections. The process is held by a descriptor of its own, apart from
 * any connection.
 */
#ifndef SHMBROKER_TEMPORARY_H
#define SHMBROKER_TEMPORARY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/object.h"
#include "daemon/peer.h"
#include "daemon/quota.h"
#include "daemon/state.h"
#include "daemon/store.h"
#include "daemon/watch.h"

struct temporaries {
	const struct object_env *env;
	struct store *store;
	struct quota *quota;
	struct loop *loop;
	const struct state *state; /* borrowed: over a restart */
	uint64_t last_id;	   /* of its entries */
	unsigned makers_most;	   /* that there are descriptors for; of one user a quarter */
	struct maker *makers;	   /* processes: a hash by pid, start time, uid and gid */
	struct temporary *names;   /* a hash by instance and name */
	unsigned beside;	   /* names that it had no memory for */
	unsigned ended;		   /* makers that have gone, with names left to remove */
};

/* A place for one more name, had before the object is made: so nothing can fail afterwards. */
struct temporary_claim {
	struct maker *maker;
	struct temporary *temporary;
};

/*
 * Claims, for the peer's process or, where name_id isn't 0, for a name on a bus: 0, or an errno for
 * the client: EOPNOTSUPP (its process can't be pinned), EDQUOT, ENOMEM, ESRCH (it has ended).
 */
int temporary_claim(struct temporaries *temporaries, const struct peer *peer, uint64_t name_id,
		    struct temporary_claim *ret);
/* The name on the bus has gone, and its temporary names with it. */
void temporary_end(struct temporaries *temporaries, uint64_t name_id);
/* Uses it up for an object that was made. */
void temporary_add(struct temporaries *temporaries, struct temporary_claim *claim,
		   struct instance *instance, const char *name, uint64_t ino);
/* Gives back what was not used; does nothing after temporary_add(). */
void temporary_unclaim(struct temporaries *temporaries, struct temporary_claim *claim);

/* The name was unlinked or replaced: it is nobody's temporary name any more. */
void temporary_forget(struct temporaries *temporaries, const struct instance *instance,
		      const char *name);
/* So are all that were in pools which have been dropped. */
void temporary_forget_dropped(struct temporaries *temporaries);
/* The process that made this name, if it is the object `ino`; else 0. */
pid_t temporary_maker(const struct temporaries *temporaries, const struct instance *instance,
		      const char *name, uint64_t ino);
/* Goes on with what has ended; true: there is more to do. */
bool temporary_tick(struct temporaries *temporaries, unsigned *left);
/*
 * Those of the process before, when the pools are there: names whose makers have ended meanwhile
 * are removed by temporary_tick(). Returns how many names there are.
 */
unsigned temporary_restore(struct temporaries *temporaries);
/* Removes all names: at a stop; or leaves them to the next process. */
void temporary_done(struct temporaries *temporaries, bool leave);

#endif
