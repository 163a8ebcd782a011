/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A helper that closes what could take its time: connections to which a client has attached
 * descriptors (the kernel drops those in the time of whoever closes last, and a FUSE file or a
 * lingering TCP socket may take for ever), and the last opening of a large object, whose pages
 * are freed then. So that isn't the broker.
 */
#ifndef SHMBROKER_CLOSER_H
#define SHMBROKER_CLOSER_H

#include <stdbool.h>
#include <sys/types.h>

struct closer {
	pid_t pid;
	int socket;
};

/*
 * Forks it. Before the broker has other descriptors than standard streams to speak of. confine is
 * run in it before it serves; may be NULL. It has begun when this returns. 0 or -errno.
 */
int closer_start(struct closer *closer, int (*confine)(void));

enum closing {
	CLOSING_SLOW,	 /* takes a while, and ends */
	CLOSING_HOSTILE, /* may never end */
	CLOSING_DONE,	 /* no descriptor: the one before has been closed here */
};

/*
 * Hands a descriptor over; it is closed here when that has worked. 0, or -EAGAIN when the helper
 * has not come round to what it was given, or there is no memory to hand it over: the caller keeps
 * it and tries again. Another -errno: the helper has ended.
 */
int closer_take(struct closer *closer, int fd, enum closing how);
/* It may outlive this for as long as something hangs. */
void closer_stop(struct closer *closer);

#endif
