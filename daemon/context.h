/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Contexts: sockets of their own, each for one sandbox. Whoever comes through
 * one is its app, sandboxed, for good. A context lives as long as somebody has
 * a copy of the descriptor that holds it.
 */
#ifndef SHMBROKER_CONTEXT_H
#define SHMBROKER_CONTEXT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "daemon/config.h"
#include "daemon/creds.h"
#include "daemon/peer.h"
#include "daemon/place.h"
#include "daemon/quota.h"
#include "daemon/state.h"
#include "daemon/watch.h"

struct contexts;

struct context {
	struct contexts *all;
	char *app;
	struct ids maker;
	struct context_place place;   /* its directory and listener */
	char path[CONTEXT_PATH_SIZE]; /* of the directory */
	int hold; /* the writing end: in error once nobody has the reading one */
	struct watch watch;
	uint32_t connections; /* through it, now */
	struct charge charge;
	void *edge; /* the edge's: its listener */
	LIST_ENTRY(context) entry;
};

/* What the edge does with them. */
struct context_events {
	void *context;
	/* Starts to accept on context->place.listener. 0 or -errno. */
	int (*made)(void *context, struct context *made);
	/* Stops that and ends all connections through it: afterwards it is freed. */
	void (*ended)(void *context, struct context *ended);
};

struct contexts {
	struct context_base *base; /* borrowed; NULL: contexts can't be had */
	struct quota *quota;
	struct creds *creds; /* places are the broker's own business */
	struct loop *loop;
	const struct context_events *events;
	const struct state *state; /* borrowed: over a restart */
	LIST_HEAD(, context) list;
};

/*
 * Makes one for `app`. 0, *ret_hold (owned by the caller: for the maker) and the
 * context, which is the list's; or an errno for the client: EDQUOT, EOPNOTSUPP, ENOMEM, ENFILE,
 * with *ret_why set where that needs words. With the broker's own credentials.
 */
int context_new(struct contexts *contexts, const struct peer *maker, const char *app,
		const struct config_limits *limits, struct context **ret, int *ret_hold,
		const char **ret_why);
/*
 * One of the process before, from its two descriptors (taken in every case; -EBADF: lost). 1: it
 * goes on; 0: it has ended, and what is left of it is removed by contexts_sweep(); or -errno: it
 * can't go on now, but may with the next process.
 */
int context_restore(struct contexts *contexts, uint32_t number, int hold, int listener);
/* Those that are known, but have no descriptors any more. After context_restore() for all. */
void contexts_sweep(struct contexts *contexts);
/* Whether there is one of this number, held by somebody. */
bool contexts_have(const struct contexts *contexts, uint64_t number);
/* Ends all of them; or leaves them to the next process. */
void contexts_done(struct contexts *contexts, bool leave);

#endif
