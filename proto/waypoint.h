/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A directory in a pool that is delegated to one alone, with a name that nobody else knows: a path
 * that leads through it and back out is found in that pool and nowhere else, so whoever opens by
 * such a path need not ask first what a descriptor still stands for. Without it such a path is
 * found nowhere.
 */
#ifndef SHMBROKER_WAYPOINT_H
#define SHMBROKER_WAYPOINT_H

#include "proto/name.h"

#define WAYPOINT_PREFIX NAME_RESERVED_PREFIX "at."
/* With a random number behind that, in hexadecimal; and a NUL. */
#define WAYPOINT_SIZE (sizeof(WAYPOINT_PREFIX) + 16)

#endif
