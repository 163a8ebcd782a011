/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the suites of the daemon's edge ask a whole broker about its connections. */
#ifndef SHMBROKER_TESTS_EDGE_H
#define SHMBROKER_TESTS_EDGE_H

#include <check.h>

#include <pthread.h>
#include <semaphore.h>

#include "tests/fixture.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

/* Until it has so many connections: the loop turns meanwhile, and may wait for its helpers. */
void edge_expect_clients(struct fixture *fixture, unsigned wanted);
/* Opens and unlinks an object, on c or (NULL) on a connection for that alone. */
void edge_expect_served(const struct fixture *fixture, struct shmb *c);

/* Replies with descriptors that wait for room in their sockets. */
unsigned edge_queued(struct fixture *fixture);

/* The loop stands still, in the middle of nothing, until it is let go. */
struct edge_hold {
	struct fixture *fixture;
	sem_t held, released;
	pthread_t thread;
};
void edge_hold(struct edge_hold *hold, struct fixture *fixture);
void edge_let_go(struct edge_hold *hold);
/* A number of the next reply, which is one to WIRE_STATUS. */
unsigned long edge_next_count(int fd, uint32_t serial, const char *field);

/* How many requests there have been, of whomever. */
unsigned long edge_count_requests(struct fixture *fixture);
/* The same, after one that takes no time. */
unsigned long edge_ask_and_count(struct fixture *fixture, int fd, uint32_t serial);

/* The tests of check_server_limits.c. */
TCase *server_case_of_limits(void);
/* Of check_turns.c. */
TCase *server_case_of_turns(void);
/* Of check_doors.c. */
TCase *server_case_of_doors(void);
/* Of check_passes.c. */
TCase *server_case_of_passes(void);
/* Of check_monitor.c, check_wait.c and check_reserve.c. */
TCase *server_case_of_reservations(void);
TCase *server_case_of_waits(void);
TCase *server_case_of_monitors(void);
/* And of check_closer.c, check_storm.c, check_races.c and check_hostile_work.c. */
TCase *hostile_case_of_closing(void);
TCase *hostile_case_of_storms(void);
TCase *hostile_case_of_races(void);
TCase *hostile_case_of_work(void);
/* Of check_undelivered.c. */
TCase *hostile_case_of_undelivered(void);

#endif
