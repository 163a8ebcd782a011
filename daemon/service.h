/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The service manager, as main.c sees it: what it has kept over a restart, what it is to keep, and
 * how we are. Without one all of it does nothing.
 */
#ifndef SHMBROKER_SERVICE_H
#define SHMBROKER_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/server.h"

/* sd_listen_fds_with_names(3) and what becomes of each. -EBADF: not given. */
struct service {
	bool is_managed; /* there is somebody to tell */
	int socket;	 /* that we are to serve */
	int userns, mntns;
	struct kept_descriptors kept;
};

/* Takes what was passed. 0; -EINVAL when it is more than one socket, -ENOMEM. */
int service_take(struct service *ret);
/* Closes what nobody has stolen. */
void service_done(struct service *service);

/*
 * Nothing here waits for the manager: what it has no room for is told later, by the next call or by
 * service_alive(). Keeps descriptors (borrowed) over a restart.
 */
void service_keep_table(int userns, int mntns);
/* 0, or -EAGAIN: the manager doesn't come round to it. */
int service_keep_context(uint32_t number, int hold, int listener);
void service_drop_context(uint32_t number);
int service_keep_sealed(uint32_t number, int memory); /* likewise */
void service_drop_sealed(uint32_t number);
/* Whether there is something that the manager had no room for. */
bool service_has_untold(void);

void service_ready(void);
void service_reloading(void);
void service_stopping(void);
/* One line for `systemctl status`. */
void service_status(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* How often service_alive() is expected, in ms; 0: not at all. */
uint64_t service_watchdog_ms(void);
void service_alive(void);

/*
 * Whether the process ends for good: the manager is stopping the unit, and not restarting it. Asks
 * it and waits for some seconds at most: at the end. True without a manager, false when it
 * doesn't say.
 */
bool service_is_stopped(bool is_user);

#endif
