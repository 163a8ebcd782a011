/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the suites of the daemon's edge ask a whole broker about its connections. */
#ifndef SHMBROKER_TESTS_EDGE_H
#define SHMBROKER_TESTS_EDGE_H

#include <check.h>

#include "tests/fixture.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

/* Until it has so many connections: the loop turns meanwhile, and may wait for its helpers. */
void edge_expect_clients(struct fixture *fixture, unsigned wanted);
/* Opens and unlinks an object, on c or (NULL) on a connection for that alone. */
void edge_expect_served(const struct fixture *fixture, struct shmb *c);

/* The tests of check_server_limits.c. */
TCase *server_case_of_limits(void);
/* Of check_turns.c. */
TCase *server_case_of_turns(void);
/* Of check_monitor.c, check_wait.c and check_reserve.c. */
TCase *server_case_of_reservations(void);
TCase *server_case_of_waits(void);
TCase *server_case_of_monitors(void);
/* And of check_storm.c, check_races.c and check_hostile_work.c. */
TCase *hostile_case_of_storms(void);
TCase *hostile_case_of_races(void);
TCase *hostile_case_of_work(void);

#endif
