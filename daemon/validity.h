/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A page of memory that whoever has a delegation reads: it changes when one may have been taken
 * back, and when the broker ends, however it does, so that nobody asks the kernel before each use.
 * For the store, which takes delegations back, and delegate.c, which gives them; of one thread.
 */
#ifndef SHMBROKER_VALIDITY_H
#define SHMBROKER_VALIDITY_H

#include <stdint.h>

struct wire_page;

struct validity {
	struct wire_page *page; /* NULL: nobody has asked for it yet */
	int fd;
};

#define VALIDITY_NONE ((struct validity){ .fd = -EBADF })

/*
 * A descriptor to give away, by which nobody can write or shrink it: it or -errno. proc_fds as in
 * struct object_env. With the broker's own credentials.
 */
int validity_give(struct validity *validity, int proc_fds);
/* What who gets it now has to compare with. */
uint32_t validity_changes(const struct validity *validity);

/* Whoever has a delegation looks whether it still is one. Behind what it is to find. */
void validity_changed(struct validity *validity);

/* The owner is gone. */
void validity_done(struct validity *validity);

#endif
