/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A directory of objects as a whole: listed, swept, emptied. */
#ifndef SHMBROKER_DIRECTORY_H
#define SHMBROKER_DIRECTORY_H

#include <dirent.h>
#include <sys/stat.h>

#include "daemon/creds.h"
#include "daemon/watch.h"

/* A listing with a position of its own, for closedir(); NULL and errno. `directory` is borrowed. */
DIR *directory_list(int directory);

/* Removes a name, whatever it is; a directory only if it is empty. 0 or an errno. */
int directory_unlink(int directory, const char *name);

/*
 * For one who has no more rights than others: opens what he owns, whatever its permission bits are.
 * `dir` and `writable` are twins, or the same. A descriptor or -errno; -EACCES: it isn't his.
 */
int directory_open_own(int dir, int writable, const char *name, int flags);

/*
 * Removes what an interrupted replace left behind: names with the reserved prefix that no broker
 * has locked.
 */
void directory_sweep(int directory);

/* Of an object that hasn't got its size yet. */
#define DIRECTORY_UNFINISHED S_ISVTX
/* Where nobody but the broker makes names: removes what it died with before it was finished, too.
 */
void directory_sweep_own(int directory);

/* Removes those of the process before, of which this one doesn't know the names. */
void directory_sweep_waypoints(int directory);

/*
 * Removes everything in a private pool's root, whatever clients made there, with the broker's own
 * credentials, which must be in force, and its makers'. What is large is freed by who closes for
 * the loop. 0, or -errno when something is left.
 */
int directory_remove_all(int directory, struct creds *creds, struct loop *loop);

#endif
