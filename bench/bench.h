/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What run.c tells the callers that it has started, on their standard input, and what they answer.
 */
#ifndef SHMBROKER_BENCH_BENCH_H
#define SHMBROKER_BENCH_BENCH_H

#include <stdint.h>

enum operation { OPEN_READ_ONLY, OPEN_READ_WRITE, CREATE_AND_UNLINK, DENIED, OPERATIONS };

#define CALLS_MAX 20000

struct batch {
	uint32_t operation;
	uint32_t unmeasured; /* calls before those that count: after others have had the caches */
	uint32_t calls;	     /* at most CALLS_MAX */
	uint32_t in_turn;    /* 0: alone; 1: the first of two, 2: the second */
};

/* The answer: for each call its nanoseconds, an uint32_t; before the first batch one 0: ready. */

#endif
