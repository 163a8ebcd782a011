/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the fuzzer of the broker's files share: broker.c (callers, steps, an input), broker_answer.c
 * (an answer against the model), broker_pool.c (what is in the pools, and what clients keep).
 */
#ifndef SHMBROKER_FUZZ_BROKER_H
#define SHMBROKER_FUZZ_BROKER_H

#include "fuzz/fuzz.h"
#include "fuzz/in_process.h"
#include "fuzz/model.h"

#define HELD_MAX 8

/* Only a broker that hangs takes so long. */
#define GUARD_S 60

enum streaming { STREAM_NONE, STREAM_MONITOR, STREAM_WAIT };

struct who {
	struct caller caller;
	bool woken;
	enum streaming stream; /* a reply that goes on */
	uint32_t stream_serial;
	char awaited[256];
};

/* A descriptor that a client keeps. */
struct held {
	int fd;
	bool may_write, is_sealed;
	enum model_pool pool;
	uint64_t memory;
};

extern struct run {
	struct server *server;
	struct broker *broker;
	struct model model, none; /* as it was at first */
	struct who who[MODEL_CALLERS];
	struct held held[HELD_MAX];
	unsigned held_count;
	int context[HELD_MAX]; /* descriptors that hold contexts */
	unsigned context_count;
	struct reply reply;
	uint64_t name_id, start_time; /* the latter of this process, which all callers are */
	unsigned descriptors;	      /* at the end of an input, when nobody is there */
} run;

/* broker_pool.c */
/* A pool's directory, borrowed, for a look past the broker; -EBADF: it is not there. */
int pool_directory(enum model_pool pool);
/* That there is in it what the model says, and nothing else. */
void pool_check(enum model_pool pool);
uint64_t pool_ino(int fd);
/* An answer's descriptor, against what the model says. */
void pool_check_descriptor(int fd, const struct model_object *object, uint32_t flags);
/* A client keeps it (taken). */
void pool_hold(int fd, const struct model_object *object, bool may_write);
/* And uses what it keeps, as the bytes say. */
void pool_use_held(struct bytes *in);

/* broker_answer.c: asks, until there is an answer, and moves the model on. */
void answer_check(unsigned caller, const struct request *request, bool is_kept);

#endif
