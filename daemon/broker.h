/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The broker: what a request of a caller becomes. Both transports meet in
 * broker_handle(); nothing here or below knows an event loop, a bus or a log.
 */
#ifndef SHMBROKER_BROKER_H
#define SHMBROKER_BROKER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "daemon/config.h"
#include "daemon/context.h"
#include "daemon/keeper.h"
#include "daemon/notice.h"
#include "daemon/peer.h"
#include "daemon/policy.h"
#include "daemon/state.h"
#include "daemon/store.h"
#include "daemon/watch.h"
#include "proto/codec.h"

struct broker;
struct stream;
struct unpublished;

/* Who asks, for as long as the connection lasts. Zeroed, with wake set, before caller_init(). */
struct caller {
	struct peer peer;
	bool is_admin;
	bool has_delegation; /* has had one */
	struct broker *broker;
	struct context *context; /* it came through; NULL: the main socket */
	uint64_t name_id;	 /* on a bus: which unique name; 0: a socket */
	struct view *view;
	uint64_t view_generation; /* of the policy that the view was made from */
	struct charge charge;
	LIST_HEAD(, unpublished) unpublished;
	unsigned unpublished_count;
	struct stream *stream;	/* a reply that goes on */
	uint32_t stream_serial; /* of the request that it answers */
	struct waiter waiter;	/* its request waits for a pool; wake: ask again */
	struct aside aside;	/* its request has, or waits for, while it is parked */
	enum { RELOAD_NONE, RELOAD_QUEUED, RELOAD_WAITING, RELOAD_DONE } reload;
	LIST_ENTRY(caller) entry;
};

/* How the last request went: for the log. Valid until the next call. */
struct outcome {
	const struct rule *rule; /* that decided, NULL: none */
	bool denied;		 /* by the rules, or for want of one */
	const char *name;	 /* without its slash; in the request's packet */
	size_t name_size;
	const char *pool;	     /* "" when it didn't come to that */
	struct instance *created_in; /* NULL: it made no object */
};

/* What the broker asks of its edge. */
struct broker_edge {
	void *context;
	struct loop *loop;
	notice_fn notice;
	int (*context_made)(void *context, struct context *made);
	void (*context_ended)(void *context, struct context *ended);
	/* Sealed objects that have a name, and don't any more. memory is borrowed. 0 or -errno. */
	int (*sealed_made)(void *context, uint32_t number, int memory);
	void (*sealed_ended)(void *context, uint32_t number);
	void (*reloaded)(void *context, int error,
			 const char *text); /* also when the start's load has ended */
};

struct broker_setup {
	const struct broker_edge *edge; /* outlives the broker, as all of these */
	const struct peer_self *self;
	const struct config_source *source;
	struct keeper *keeper;
	struct context_base *contexts; /* NULL: contexts can't be had */
	const struct state *state;     /* what is left to the next process */
	uint32_t connections; /* that there are descriptors for; 0: as many as configured */
};

/* 0 or -errno. */
int broker_new(struct broker **ret, const struct broker_setup *setup);
/* Removes temporary names and ends contexts; with `leave` the next process finds all of it. */
void broker_free(struct broker *broker, bool leave);

/*
 * What the process before has left. Sealed objects first: sealed_restore(). Then private pools,
 * both before the first load; the rest: after it.
 */
int broker_restore_sealed(struct broker *broker, uint32_t number, int memory);
void broker_sweep_sealed(struct broker *broker);
int broker_restore_pools(struct broker *broker);
unsigned broker_restore_temporaries(struct broker *broker);
/* context_restore(): takes both descriptors. */
int broker_restore_context(struct broker *broker, uint32_t number, int hold, int listener);
/* After all of them. */
void broker_sweep_contexts(struct broker *broker);

/*
 * Loads the configuration and puts it in force; the end is told by edge->reloaded, maybe later,
 * when the keeper has answered. At the start what can't be had is absent; later all or nothing.
 * -EBUSY: one is under way, and another follows it.
 */
int broker_load(struct broker *broker);
/* Whether any pool can be had at all. */
bool broker_has_pool(const struct broker *broker);

/* The keeper has something to say: 0, or -errno when it has ended. */
int broker_dispatch_keeper(struct broker *broker);
int broker_keeper_fd(const struct broker *broker); /* borrowed */
/* To be called when it asked for it by loop->tick_in(). */
void broker_tick(struct broker *broker);

/* WIRE_FEATURE_ bits for the hello. */
uint64_t broker_features(const struct broker *broker);
/* Whether a rule delegates a pool to him: WIRE_FEATURE_DELEGATION for his hello. */
bool caller_has_delegation(struct broker *broker, struct caller *caller);
/* How things are: for a status line. Tells of pools that have become full, too. */
struct broker_totals {
	unsigned pools, clients, contexts;
	uint64_t objects, denials;
};
void broker_look(struct broker *broker, struct broker_totals *ret);
/* Connections now: of all for the administrator, for anybody else those of his user. */
uint32_t caller_connections(const struct broker *broker, const struct caller *caller);
const struct config_limits *broker_limits(const struct broker *broker);

/*
 * Who is at the other end of a connected socket (borrowed). 0, or -errno and a text for the
 * hello that turns it away: -EDQUOT, -EUSERS, -ENOMEM, -EACCES, -EOPNOTSUPP, -ESRCH.
 */
int caller_init(struct caller *caller, struct broker *broker, int socket, struct context *context,
		const char **ret_why);
/* Before the edge itself opens or connects: it may still be acting as its last caller. */
void broker_reset_ids(struct broker *broker);
/* Who a bus speaks of: peer_from_bus(). 0 or -errno. */
int broker_identify(struct broker *broker, const struct peer_credentials *credentials,
		    struct peer *ret);
/*
 * The same for one whose identity is known already (a D-Bus client): takes what is in peer in every
 * case. `name_id` is not 0 and never used twice: its temporary names go when it does, not with a
 * process.
 */
int caller_init_known(struct caller *caller, struct broker *broker, struct peer *peer,
		      uint64_t name_id, const char **ret_why);
/* Ends what it has here: unpublished objects, streams, waiting. Does nothing with a zeroed one. */
void caller_done(struct caller *caller);

/*
 * 0, or -errno when the client can't be served any more; the outcome is in
 * reply->status. With reply->parked the same request has to be handed in again
 * after caller->waiter.wake() was called. With reply->more the next packet comes
 * from broker_continue().
 */
int broker_handle(struct broker *broker, struct caller *caller, const struct request *request,
		  struct reply *reply);
int broker_continue(struct broker *broker, struct caller *caller, struct reply *reply);
/*
 * The reply to the last request can't be delivered, and its descriptors are still in it: what it
 * made goes again.
 */
void broker_undo(struct broker *broker, struct caller *caller, const struct reply *reply);
/*
 * Closes, in the ticks that follow, descriptors of replies that could not be delivered: each may be
 * the last opening of a large object.
 */
void broker_close(struct broker *broker, struct fdlist *fds);
const struct outcome *broker_outcome(const struct broker *broker);

#endif
