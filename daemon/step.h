/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The steps on the way to a pool: each has a name under which a test can make
 * it fail, and says the way out when it does. For keeper.c and its helpers.
 */
#ifndef SHMBROKER_STEP_H
#define SHMBROKER_STEP_H

#include <stdbool.h>

#include "daemon/keeper.h"

enum step {
	/* Becoming the table's user, in each helper. */
	STEP_FORK,
	STEP_SETGROUPS,
	STEP_SETRESGID,
	STEP_SETRESUID,
	STEP_CAPSET,
	STEP_FILTER,
	/* Making the table. */
	STEP_UNSHARE,
	STEP_READ_MAP,
	STEP_MAP,
	STEP_NSFS,
	STEP_ROOT,
	STEP_PIVOT,
	STEP_DETACH,
	/* Entering it. */
	STEP_SETNS,
	/* A pool in it. */
	STEP_LIMITS,
	STEP_FIND,
	STEP_MKDIR,
	STEP_FSOPEN,
	STEP_OPTION,
	STEP_CREATE,
	STEP_FSMOUNT,
	STEP_MOVE_MOUNT,
	STEP_OPEN_TREE,
	STEP_MOUNT_SETATTR,
	STEP_OPENAT,
	STEP_FSPICK,
	STEP_RECONFIGURE,
	STEP_UMOUNT,
	STEP_RMDIR,
	STEP_COUNT_LENT,
	STEP_LEND,
	/* The twin of a path pool. */
	STEP_TWIN_FORK,
	STEP_TWIN_UNSHARE,
	STEP_TWIN_OPEN_TREE,
	STEP_TWIN_SETATTR,
	STEP_TWIN_OPENAT,
	/* Between the broker and its helpers; and whether two directories are a pool. */
	STEP_HELPER,
	STEP_RECEIVE,
	STEP_CHECK_TYPE,
	STEP_CHECK_SAME,
	STEP_CHECK_WRITABLE,
	STEP_CHECK_READ_ONLY,
	STEP_COUNT,
};

/* What runs the steps of one request. */
struct attempt {
	const struct keeper_fault *fault; /* NULL: none is to fail */
	struct keeper_failure *failure;	  /* all zero before */
};

/* Whether the step is to be done: false, and errno set, where a test wants it to fail. */
bool step_try(const struct attempt *attempt, enum step step);

/* Notes that the step failed with errno. Returns -errno. */
int step_failed(const struct attempt *attempt, enum step step);

/* The same outside an attempt. */
void step_failure(struct keeper_failure *ret, enum step step, int error);

#endif
