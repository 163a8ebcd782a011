/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What store.c (instances), store_start.c and store_apply.c (definitions) share, and nobody else.
 */
#ifndef SHMBROKER_STORE_PRIVATE_H
#define SHMBROKER_STORE_PRIVATE_H

#include "daemon/store.h"
#include "daemon/validity.h"

/* What the keeper was asked, until it answers. */
struct task {
	uint64_t id;
	uint32_t number; /* of the instance, which may be gone by then */
	enum keeper_operation operation;
	bool for_apply; /* a definition's change waits for it */
	TAILQ_ENTRY(task) entry;
};
TAILQ_HEAD(task_list, task);

enum apply_phase {
	APPLY_NONE,
	APPLY_ASKING,  /* whether all of it is possible: the old definitions count */
	APPLY_UNDOING, /* it was refused: what was done already is taken back */
};

/* Definitions that are being put in the place of others. */
struct apply {
	const struct config *config;
	enum apply_phase phase;
	bool lenient;
	struct pool **by_index; /* of config, for when it counts */
	unsigned outstanding;	/* tasks */
	int error;		/* the first refusal, and its line */
	char text[512];
};

struct store {
	struct keeper *keeper;
	const struct state *state;
	struct quota *quota;
	const struct store_events *events;
	struct pool_list pools;
	struct instance_list instances;
	struct task_list tasks;
	struct pool **by_index; /* of the configuration in force */
	size_t index_count;
	uint32_t last_number;
	uint64_t last_task;
	uint64_t now_ms; /* as of the last call that said it */
	struct apply apply;
	struct validity validity;
};

void store_notice(struct store *store, int priority, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

void instance_notice(struct store *store, const struct instance *instance, enum notice_kind kind,
		     int priority, const char *format, ...) __attribute__((format(printf, 5, 6)));

/* Asks the keeper something about an instance. 0 or -errno. */
int instance_ask(struct store *store, struct instance *instance, enum keeper_operation operation,
		 bool for_apply);
/* A new one, not started. NULL: no memory. */
struct instance *instance_new(struct store *store, struct pool *pool, const struct owner *owner);
/* The one instance of a pool that is not `per`. */
void start_single(struct store *store, struct pool *pool);
/* Only what is made on demand, or no longer configured, is ever released. */
bool instance_is_releasable(const struct instance *instance);
/* Gives it its descriptors, by the pool's kind; READY, MAKING or ABSENT afterwards. */
void instance_start(struct store *store, struct instance *instance, bool for_apply);
/* The keeper has made it or its twin, or has said why not. */
void instance_made(struct store *store, struct instance *instance, struct keeper_reply *reply);
void instance_twinned(struct store *store, struct instance *instance, struct keeper_reply *reply);
/* The keeper has a mount of it for somebody, or none. */
void instance_cloned(struct instance *instance, struct keeper_reply *reply);
/* Closes its descriptors, with what they were found to be. */
void instance_close(struct instance *instance);
/* Wakes who waits and frees it. */
void instance_free(struct store *store, struct instance *instance);

/* Sets the limits that count by now, if the keeper was last asked for others. */
void instance_conform(struct store *store, struct instance *instance, bool for_apply);
/* store_lend.c: what was given of it counts no more, and nothing of ours is in it. */
void instance_prepare_release(struct store *store, struct instance *instance);
/* store_aside.c: bytes that its tmpfs may have by the definition that counts. */
uint64_t instance_size(const struct instance *instance);
/* Whether this was what a claim waited for. */
bool aside_answered(struct store *store, struct instance *instance, const struct task *task,
		    const struct keeper_failure *failure);

/* Its state is READY again, as it was. */
void instance_resume(struct instance *instance);

/* Both descriptors are there: what they are is learnt once. */
void instance_ready(struct store *store, struct instance *instance);

/* store_restore.c: notes whose it is, before the keeper makes it; and when it is gone. */
int instance_remember(struct store *store, const struct instance *instance);
void instance_forget(struct store *store, uint32_t number);

/* NULL: no memory. */
struct pool *pool_new(struct store *store, const struct pool_config *config);
void pool_free(struct store *store, struct pool *pool);
void pool_config_done(struct pool_config *config);

/* A task for the apply has ended: with the failure, or error 0. */
void apply_task_done(struct store *store, struct instance *instance, const struct task *task,
		     const struct keeper_failure *failure);
void apply_end_if_settled(struct store *store);

#endif
