/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What store.c (instances) and store_apply.c (definitions) share, and nobody else. */
#ifndef SHMBROKER_STORE_PRIVATE_H
#define SHMBROKER_STORE_PRIVATE_H

#include "daemon/store.h"

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
};

void store_notice(struct store *store, int priority, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Asks the keeper something about an instance. 0 or -errno. */
int instance_ask(struct store *store, struct instance *instance, enum keeper_operation operation,
		 bool for_apply);
/* A new one, not started. NULL: no memory. */
struct instance *instance_new(struct store *store, struct pool *pool, const struct owner *owner);
/* Gives it its descriptors, by the pool's kind; READY, MAKING or ABSENT afterwards. */
void instance_start(struct store *store, struct instance *instance, bool for_apply);
/* Closes its descriptors, with what they were found to be. */
void instance_close(struct instance *instance);
/* Wakes who waits and frees it. */
void instance_free(struct store *store, struct instance *instance);
void instance_wake(struct instance *instance);

/* Sets the limits that count by now, if the keeper was last asked for others. */
void instance_conform(struct store *store, struct instance *instance, bool for_apply);
/* Its state is READY again, as it was. */
void instance_resume(struct instance *instance);

void pool_free(struct store *store, struct pool *pool);
void pool_config_done(struct pool_config *config);

/* A task for the apply has ended: with the failure, or error 0. */
void apply_task_done(struct store *store, struct instance *instance, const struct task *task,
		     const struct keeper_failure *failure);
void apply_end_if_settled(struct store *store);

#endif
