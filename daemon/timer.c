/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* timerfd_create(2) in the event loop: see timer.h. */
#include "daemon/timer.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "daemon/fd.h"

int timer_init(struct timer *ret, struct event_base *base, event_callback_fn function,
	       void *argument)
{
	*ret = TIMER_NONE;
	ret->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (ret->fd < 0)
		return -errno;
	ret->event = event_new(base, ret->fd, EV_READ | EV_PERSIST, function, argument);
	if (ret->event && event_add(ret->event, NULL) == 0)
		return 0;
	timer_done(ret);
	return -ENOMEM;
}

void timer_set(const struct timer *timer, uint64_t ns)
{
	const struct itimerspec length = { .it_value = { .tv_sec = (time_t)(ns / 1000000000u),
							 .tv_nsec = (long)(ns % 1000000000u) } };

	timerfd_settime(timer->fd, 0, &length, NULL);
}

bool timer_is_over(int fd)
{
	uint64_t times;

	return read(fd, &times, sizeof(times)) == sizeof(times);
}

void timer_done(struct timer *timer)
{
	if (timer->event)
		event_free(timer->event);
	fd_close(timer->fd);
	*timer = TIMER_NONE;
}
