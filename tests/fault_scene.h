/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A call of a client's, with each call that is made for it made to fail in turn, by a broker that
 * goes on with the next. What is looked at each time is in fault_scene.c.
 */
#ifndef SHMBROKER_TESTS_FAULT_SCENE_H
#define SHMBROKER_TESTS_FAULT_SCENE_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/bus_fixture.h"
#include "tests/fault.h"
#include "tests/fixture.h"
#include "tests/test.h"

/* Of check_fault_calls.c and check_fault_pools.c. */
TCase *fault_case_of_calls(void);
TCase *fault_case_of_pools(void);
/* Of check_fault_start.c. */
TCase *fault_case_of_starts(void);
/* Of check_fault_restart.c. */
TCase *fault_case_of_restarts(void);
/* Of check_fault_bus.c. */
TCase *fault_case_of_bus(void);
/* Of check_fault_main.c. */
TCase *fault_case_of_the_program(void);

/* In a process of its own, whose end is looked at: says where it went wrong. */
#define FAULT_EXPECT(condition)                                                                    \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);            \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

/* Shared by the processes of fault_run_all(): the call that is to fail, and what came of it. */
struct fault_runs {
	unsigned at;
	int result;
	const char *lost; /* what is being looked for; NULL: all is there */
};

/*
 * Has each call of something fail in turn: `run` does that from the at-th on, in a process of its
 * own, whose end but with 0 is a failure, and ends with 0 when no call was left to fail.
 */
void fault_run_all(const char *what, unsigned step, void (*run)(struct fault_runs *runs));

struct scene {
	const struct fault_case *row;
	struct fixture fixture;
	struct shmb *other;	/* root's, all the time: whatever fails, he is served */
	struct shmb *c;		/* whose call it is, made anew for each */
	struct bus_fixture bus; /* the bus alone, and whose call it is there */
	int fd[4];		/* for the row's functions, closed after each call */
	char text[256];
	unsigned count;
};

struct fault_case {
	const char *name;
	const char *config;
	unsigned roles;
	uid_t uid; /* who asks; his gid is the same number */
	/* Nothing fails in these. Before and after each call, after the connection is made. */
	void (*before)(struct scene *scene);
	void (*after)(struct scene *scene);
	/* What is made to fail in: >= 0, or -errno. */
	int (*call)(struct scene *scene);
	int also;	     /* how it may fail beside what the manual says; 0: no other way */
	int expected;	     /* 0: the call works; or how it fails, and never less */
	bool is_unconnected; /* the call makes the connection */
	bool keeps;	     /* something for the next call, which may be gone after a fault */
	bool is_create;	     /* of "/new": failed, there is none */
	bool needs_table;
	bool is_on_bus; /* the broker is, and no call of its socket's clients fails */
};

/* Runs each row, of which a call that isn't made to fail any more is the last. */
void fault_run(const struct fault_case *rows, size_t count);
/*
 * In the loop's thread: listeners that pause go on by themselves, and so does who has lost the bus;
 * here the moment passes faster.
 */
void scene_hasten(struct fixture *fixture, void *argument);
/* A connection as this user. */
struct shmb *scene_connect(const struct scene *scene, uid_t uid);

#endif
