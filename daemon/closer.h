/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A helper that closes connections to which a client has attached descriptors: the
 * kernel drops those in the time of whoever closes last, and a FUSE file or a
 * lingering TCP socket may take for ever. So that isn't the broker.
 */
#ifndef SHMBROKER_CLOSER_H
#define SHMBROKER_CLOSER_H

#include <stdbool.h>
#include <sys/types.h>

struct closer {
	pid_t pid;
	int socket;
};

/* Forks it. Before the broker has other descriptors than standard streams to speak of. 0 or -errno.
 */
int closer_start(struct closer *closer);
/*
 * Hands a connection over; fd is closed here when that has worked. 0, or -EAGAIN when the
 * helper is busy with as many as it may: the caller keeps it and tries again later.
 */
int closer_take(struct closer *closer, int fd);
void closer_stop(struct closer *closer);

#endif
