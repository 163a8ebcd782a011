/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A time after which the loop turns once, exact to the microsecond and set without memory:
 * libevent's own are neither, and cost each wait of the loop something.
 */
#ifndef SHMBROKER_TIMER_H
#define SHMBROKER_TIMER_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

struct timer {
	int fd;
	struct event *event;
};
#define TIMER_NONE ((struct timer){ .fd = -1 })

/* Calls function(fd, ...) when it is over, which begins with timer_is_over(fd). 0 or -errno. */
int timer_init(struct timer *ret, struct event_base *base, event_callback_fn function,
	       void *argument);
/* Once, in so many ns; not 0. Whatever it was set to doesn't count any more. */
void timer_set(const struct timer *timer, uint64_t ns);
/* false: it has been set again meanwhile. */
bool timer_is_over(int fd);
/* Also one that couldn't be had, or TIMER_NONE. */
void timer_done(struct timer *timer);

#endif
