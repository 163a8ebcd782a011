/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The pool table: a mount namespace that nobody lives in, owned by a user
 * namespace of its own. Made at start by keeper.c, entered by the keeper.
 */
#ifndef SHMBROKER_TABLE_H
#define SHMBROKER_TABLE_H

#include "daemon/helper.h"
#include "daemon/keeper.h"

/*
 * Makes a table by way of two short-lived children; blocks until they have ended.
 * The descriptors are the caller's. 0; or -errno, with step and advice in ret_why.
 */
int table_make(const struct keeper_setup *setup, int *ret_userns, int *ret_mntns,
	       struct keeper_failure *ret_why);

/*
 * Moves this process, a helper, into the table for good: as the table's user, with
 * all capabilities over the table and none over anything else. Takes both. 0 or -errno.
 */
int table_enter(const struct attempt *attempt, const struct keeper_setup *setup, int userns,
		int mntns);

#endif
