/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Mounts that have left the table: each costs the table's user a mount namespace, of which the
 * machine has so many, until somebody attaches or closes it. For table_pool.c.
 */
#ifndef SHMBROKER_TABLE_LEND_H
#define SHMBROKER_TABLE_LEND_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/step.h"

/* Once, before the filter: how many there may be is half of this process's descriptors. */
void table_lend_init(void);
/* Whether one more of this pool may leave. 0, or -errno: -EDQUOT (the pool's), -EUSERS (all). */
int table_lend_room(const struct attempt *attempt, uint32_t number);
/* A clone that is to leave is counted as the pool's; it stays the caller's. 0 or -errno. */
int table_lend_note(const struct attempt *attempt, uint32_t number, int tree);
/*
 * Ends those of a pool that are attached nowhere: nobody can attach them any more. False when one
 * can't be ended, which goes on counting.
 */
bool table_lend_end(uint32_t number);

#endif
