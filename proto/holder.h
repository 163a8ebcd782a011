/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The file that stands for a sealed object in its pool: the object itself is memory that the broker
 * holds. Whoever opens a pool's files by itself knows it by this.
 */
#ifndef SHMBROKER_HOLDER_H
#define SHMBROKER_HOLDER_H

#include <stdbool.h>
#include <sys/stat.h>

/* Modified then, empty and of mode 0000: no other file is. */
#define HOLDER_TIME_SEC 727381069
#define HOLDER_TIME_NSEC 618033988

static inline bool is_holder(const struct stat *st)
{
	return S_ISREG(st->st_mode) && (st->st_mode & 07777) == 0 && st->st_size == 0 &&
	       st->st_mtim.tv_sec == HOLDER_TIME_SEC && st->st_mtim.tv_nsec == HOLDER_TIME_NSEC;
}

#endif
