/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pools in the table: made, found, resized and released, from inside. The
 * keeper's own work; for keeper.c.
 */
#ifndef SHMBROKER_TABLE_POOL_H
#define SHMBROKER_TABLE_POOL_H

#include "daemon/helper.h"

/*
 * The helper's job: helper_job.run, with the table's two descriptors (int[2], kept) as
 * context. Says first whether it could enter (an answer with id 0).
 */
int table_pool_run(int socket, const struct keeper_setup *setup, const void *context);

#endif
