/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The time since boot, without a system call. */
#ifndef SHMBROKER_CLOCK_H
#define SHMBROKER_CLOCK_H

#include <stdint.h>
#include <time.h>

/* For what is waited for: a few ms behind. */
static inline uint64_t clock_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* For what takes less. */
static inline uint64_t clock_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#endif
