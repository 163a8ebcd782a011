/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What operation.c, about names, and operation_unpublished.c, about what has none yet, share. */
#ifndef SHMBROKER_OPERATION_PRIVATE_H
#define SHMBROKER_OPERATION_PRIVATE_H

#include "daemon/broker_private.h"
#include "proto/name.h"

/* Name checked, rule found, pool there: what each operation begins with. */
struct target {
	struct name name;
	const struct rule *rule;
	struct pool *pool;
	struct instance *instance;
};

/* Each of these: true, or false with a reply that says why not. */
bool target_check_name(const struct request *request, bool for_unlink, struct target *target,
		       struct broker *broker, struct reply *reply);
/* The rule that decides: true when it exists and has at least one of `any` and all of `all`. */
bool target_decide(struct broker *broker, struct caller *caller, struct target *target,
		   uint32_t all, uint32_t any, struct reply *reply);
/* The pool's instance, made if `make`; with reply->parked the request is asked again. */
bool target_find_instance(struct broker *broker, struct caller *caller, struct target *target,
			  bool make, struct reply *reply);

/* What is to be made or opened, as the rule has it. */
struct object_how target_how(const struct request *request, const struct target *target);
/* An object is there and becomes the client's. 0, or an errno for the client. */
int reply_object(struct reply *reply, struct object *object);
/* Refusals. All return 0. */
int reply_open_failed(struct broker *broker, struct reply *reply, const struct target *target,
		      int error, const char *why);
int reply_claim_failed(struct reply *reply, int error);
int reply_unsealed(struct broker *broker, struct reply *reply, const struct target *target);

/* operation_unpublished.c: whether one more may wait for its name. */
bool unpublished_may_be(struct caller *caller, const struct target *target, struct reply *reply);
/* Keeps what was made, and gives the client an opening of its own. 0, or an errno for the client.
 */
int unpublished_keep(struct broker *broker, struct caller *caller, const struct target *target,
		     uint32_t flags, bool temporary, struct object *object);
int reply_unpublished_failed(struct reply *reply, int error);
int operation_open_sealed(struct broker *broker, struct caller *caller,
			  const struct request *request, const struct target *target,
			  bool temporary, struct reply *reply);

#endif
