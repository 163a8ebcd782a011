/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files that hold up who closes them, for a client to attach to a packet: a TCP socket that
 * lingers, and one on a FUSE file system that never answers.
 */
#ifndef SHMBROKER_TESTS_TRAPS_H
#define SHMBROKER_TESTS_TRAPS_H

#include <pthread.h>
#include <stdbool.h>

/* Its last close takes a minute, or as long as the other end lives. */
struct lingering {
	int theirs, other;
};

void lingering_make(struct lingering *ret);
/* Resets it: whoever waits in its close goes on. `theirs` isn't closed. */
void lingering_end(struct lingering *lingering);

/* Any name is a file on it; each close of one is counted in `closing` (an eventfd), and hangs. */
struct fuse {
	char directory[128];
	int device, stop, closing;
	pthread_t thread;
};

/* false: it can't be mounted here. */
bool fuse_start(struct fuse *fuse);
/* Ends it: what hangs fails. */
void fuse_stop(struct fuse *fuse);

#endif
