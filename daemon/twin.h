/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The read-only twin of a directory of the host's: made by a helper of the
 * table's user, outside the table. For keeper.c.
 */
#ifndef SHMBROKER_TWIN_H
#define SHMBROKER_TWIN_H

#include "daemon/helper.h"

/* The helper's job: helper_job.run. Says first whether it could start (an answer with id 0). */
int twin_run(int socket, const struct keeper_setup *setup, const void *context);

#endif
