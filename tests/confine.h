/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The helpers of a broker in the test's own process have their filters, as the daemon's have. */
#ifndef SHMBROKER_CONFINE_H
#define SHMBROKER_CONFINE_H

#include <stdbool.h>

/* valgrind makes calls of its own in our process. */
bool confine_is_valgrind(void);

int confine_keeper(void);
int confine_twin(void);
int confine_closer(void);

#endif
