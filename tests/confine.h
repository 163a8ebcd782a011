/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The helpers of a broker in the test's own process have their filters, as the daemon's have. */
#ifndef SHMBROKER_CONFINE_H
#define SHMBROKER_CONFINE_H

#include <stdbool.h>

/* valgrind makes calls of its own in our process. */
bool confine_is_valgrind(void);

void confine_keeper(void);
void confine_twin(void);
void confine_closer(void);

#endif
