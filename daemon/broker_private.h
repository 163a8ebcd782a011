/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the broker's own files share: broker.c (life), operation.c (requests), stream.c (replies
 * that go on). */
#ifndef SHMBROKER_BROKER_PRIVATE_H
#define SHMBROKER_BROKER_PRIVATE_H

#include "daemon/broker.h"
#include "daemon/creds.h"
#include "daemon/lend.h"
#include "daemon/notify.h"
#include "daemon/object.h"
#include "daemon/sealed.h"
#include "daemon/temporary.h"

/* What `status` counts. */
struct counters {
	uint64_t requests, denials, failures, reloads;
	uint64_t connections, contexts; /* ever */
};

struct broker {
	const struct broker_edge *edge;
	const struct peer_self *self;
	const struct config_source *source;
	struct keeper *keeper;
	uint32_t connections; /* that there are descriptors for */
	struct creds creds;
	const struct state *state;
	struct object_env env;
	struct quota quota;
	struct store_events store_events;
	struct store *store;
	struct context_events context_events;
	struct contexts contexts;
	struct loans loans;
	struct temporaries temporaries;
	struct sealed_events sealed_events;
	struct sealed_set sealed;
	struct notify notify;
	LIST_HEAD(, monitor) monitors; /* the administrator's */

	struct policy *policy;	 /* in force; NULL before the first load has ended */
	struct policy *applying; /* its pools are being made */
	uint64_t generation;	 /* of the policy in force */
	bool load_again;	 /* asked for while one was under way */
	int reload_error;	 /* how the last one ended */
	char reload_text[1200];

	LIST_HEAD(, caller) callers;
	STAILQ_HEAD(, unpublished) left_behind; /* the oldest goes first */
	unsigned undelivered;			/* of those: what could not be handed over */
	struct outcome outcome;
	struct counters counters;
	uint64_t started_ms;
};

/* An object without a name yet, of one connection, or left behind by one. */
struct unpublished {
	struct instance *instance; /* NULL: what could not be handed over, which may have had one */
	int fd;
	struct sealed *sealed; /* NULL: it won't be. Else it has the descriptor */
	uint64_t ino;
	bool temporary;
	char hidden[HIDDEN_NAME_SIZE]; /* that it has after a try to publish it; empty: none */
	struct charge charge;
	LIST_ENTRY(unpublished) entry; /* of its connection's */
	STAILQ_ENTRY(unpublished) behind;
	char name[]; /* under which it was opened */
};

/* Connections of all but root; of one user: a quarter where there are fewer than configured. */
uint32_t connections_of_users(const struct broker *broker);
uint32_t connections_per_user(const struct broker *broker);

/* The caller's rules, made anew if the policy is another by now. 0 or -ENOMEM. */
int caller_refresh(struct broker *broker, struct caller *caller);

/* operation.c */
int operation_open(struct broker *broker, struct caller *caller, const struct request *request,
		   struct reply *reply);
int operation_unlink(struct broker *broker, struct caller *caller, const struct request *request,
		     struct reply *reply);
int operation_stat(struct broker *broker, struct caller *caller, const struct request *request,
		   struct reply *reply);
int operation_publish(struct broker *broker, struct caller *caller, const struct request *request,
		      struct reply *reply);
int operation_create_context(struct broker *broker, struct caller *caller,
			     const struct request *request, struct reply *reply);
/*
 * For who waits: whether there is something of that name for the caller. reply->status is EACCES or
 * the like where there can't be, reply->parked when the pool is being made.
 */
bool operation_look(struct broker *broker, struct caller *caller, const char *name,
		    struct reply *reply);
/* The instance that a rule leads the caller to, made if need be. false: the reply says why not. */
bool operation_instance(struct broker *broker, struct caller *caller, const struct rule *rule,
			struct instance **ret, struct reply *reply);
/* All of the caller's, in the ticks that follow: it may be gigabytes that are freed. */
void unpublished_leave(struct caller *caller);
/* As much of what was left behind as is work for; true: there is more. */
bool unpublished_tick(struct broker *broker, unsigned *left);

/* Appends a struct wire_info. false: no room. */
bool info_append(struct broker *broker, const struct instance *instance, const char *name,
		 const struct object_info *info, struct reply *reply);

/* delegate.c */
int operation_delegate(struct broker *broker, struct caller *caller, const struct request *request,
		       struct reply *reply);

/* lend.c */
int operation_lend(struct broker *broker, struct caller *caller, const struct request *request,
		   struct reply *reply);

/* stream.c: each begins one and gives its first packet. */
int stream_list(struct broker *broker, struct caller *caller, const struct request *request,
		struct reply *reply);
int stream_pools(struct broker *broker, struct caller *caller, const struct request *request,
		 struct reply *reply);
int stream_explain(struct broker *broker, struct caller *caller, const struct request *request,
		   struct reply *reply);
int stream_status(struct broker *broker, struct caller *caller, const struct request *request,
		  struct reply *reply);
int stream_wait(struct broker *broker, struct caller *caller, const struct request *request,
		struct reply *reply);
int stream_monitor(struct broker *broker, struct caller *caller, const struct request *request,
		   struct reply *reply);
/* Whether it refers to nothing of the policy, so that it outlives a reload. */
bool stream_outlives_reload(const struct stream *stream);
void stream_free(struct caller *caller);
/* Whether a name in this instance is one that the caller may be told of. His view is fresh. */
bool caller_may_list(struct broker *broker, const struct caller *caller,
		     const struct instance *instance, const char *name);

/* monitor.c: for stream.c. 0 or an errno for the client. */
#define MONITOR_RECORD_MAX 4096
struct monitor;
int monitor_new(struct monitor **ret, struct broker *broker, struct caller *caller,
		const char *pattern, size_t size);
void monitor_free(struct monitor *monitor);
/* Moves what has happened into a reply. false: nothing has. */
bool monitor_take(struct monitor *monitor, struct reply *reply);
/* The last request was denied. */
void monitors_denied(struct broker *broker, const struct caller *caller, const struct reply *reply);

/* A refusal. Returns 0. */
int reply_denied(struct broker *broker, struct reply *reply, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
