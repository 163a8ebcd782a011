/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * uthash, told not to end the process when there is no memory for a table: what was added then is
 * not in it, which whoever adds looks at. Included in its place.
 */
#ifndef SHMBROKER_HASH_H
#define SHMBROKER_HASH_H

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#define HASH_HAS(hh, element) ((element)->hh.tbl != NULL)

#endif
