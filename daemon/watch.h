/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the core needs of an event loop, given to it by the edge: the core knows
 * no libevent. A watch is embedded in what waits; it borrows its descriptor.
 */
#ifndef SHMBROKER_WATCH_H
#define SHMBROKER_WATCH_H

#include <stdbool.h>
#include <stdint.h>

struct watch {
	void (*ready)(struct watch *watch); /* the descriptor is readable, or at its end */
	void *impl;			    /* the loop's; NULL while not watched */
};

struct loop {
	/* 0 or -errno. Level-triggered: readable, hung up, or in error. */
	int (*watch)(struct loop *loop, struct watch *watch, int fd);
	void (*unwatch)(struct loop *loop,
			struct watch *watch); /* before the descriptor is closed */
	/* Asks for broker_tick() at the latest in delay_ms from now. */
	void (*tick_in)(struct loop *loop, uint64_t delay_ms);
	/* Takes a descriptor whose closing could take a while, and has it closed by somebody else.
	 */
	void (*close_elsewhere)(struct loop *loop, int fd);
};

#endif
