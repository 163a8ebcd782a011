/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the broker's own files share: broker.c (life), operation.c (requests), stream.c (replies
 * that go on). */
#ifndef SHMBROKER_BROKER_PRIVATE_H
#define SHMBROKER_BROKER_PRIVATE_H

#include "daemon/broker.h"
#include "daemon/creds.h"
#include "daemon/notify.h"
#include "daemon/object.h"
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
	struct creds creds;
	struct object_env env;
	struct quota quota;
	struct store_events store_events;
	struct store *store;
	struct context_events context_events;
	struct contexts contexts;
	struct temporaries temporaries;
	struct notify notify;

	struct policy *policy;	 /* in force; NULL before the first load has ended */
	struct policy *applying; /* its pools are being made */
	uint64_t generation;	 /* of the policy in force */
	uint64_t features;	 /* with its pools */
	bool load_again;	 /* asked for while one was under way */
	int reload_error;	 /* how the last one ended */
	char reload_text[1200];

	LIST_HEAD(, caller) callers;
	struct outcome outcome;
	struct counters counters;
	uint64_t started_ms;
};

/* An object without a name yet, of one connection. */
struct unpublished {
	struct instance *instance;
	int fd;
	uint64_t ino;
	bool temporary;
	struct charge charge;
	LIST_ENTRY(unpublished) entry;
	char name[]; /* under which it was opened */
};

uint64_t broker_now_ms(void);

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
void unpublished_free(struct caller *caller, struct unpublished *unpublished);

/* Appends a struct wire_info. false: no room. */
bool info_append(struct broker *broker, const struct instance *instance, const char *name,
		 const struct object_info *info, struct reply *reply);

/* stream.c: each begins one and gives its first packet. */
int stream_list(struct broker *broker, struct caller *caller, const struct request *request,
		struct reply *reply);
int stream_pools(struct broker *broker, struct caller *caller, const struct request *request,
		 struct reply *reply);
int stream_explain(struct broker *broker, struct caller *caller, const struct request *request,
		   struct reply *reply);
int stream_status(struct broker *broker, struct caller *caller, const struct request *request,
		  struct reply *reply);
void stream_free(struct caller *caller);
/* Whether a name in this instance is one that the caller may be told of. His view is fresh. */
bool caller_may_list(struct broker *broker, const struct caller *caller,
		     const struct instance *instance, const char *name);

/* Refusals. Both return 0. */
int reply_denied(struct broker *broker, struct reply *reply, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int reply_absent(struct reply *reply, const struct instance *instance);

#endif
