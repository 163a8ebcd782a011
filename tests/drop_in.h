/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Shared by the files of the drop-ins' suite. Each test runs in a child, so that the
 * connection that the process keeps ends with it.
 */
#ifndef SHMBROKER_TESTS_DROP_IN_H
#define SHMBROKER_TESTS_DROP_IN_H

#include <check.h>
#include <stdbool.h>
#include <sys/types.h>

#include "tests/fake_broker.h"

extern struct fake_broker drop_in_broker;

/* The checked fixture: a broker, and no descriptor left. */
void drop_in_setup(void);
void drop_in_teardown(void);

void drop_in_child(void (*function)(void)); /* its assertions are the test's */
void drop_in_wait(pid_t pid);		    /* for a child that must succeed */

/*
 * In a program under the preload library (check_preload.c starts it, with TEST_PRELOADED set) the
 * suite calls the C library's functions by their own names instead of the library's.
 */
bool drop_in_is_preloaded(void);

int drop_in_open(const char *name, int oflag, mode_t mode);
int drop_in_touch(const char *name);  /* opens, creating, and closes: 0 or errno */
int drop_in_unlink(const char *name); /* 0 or errno */
/* Of the functions that a program under the preload library doesn't know nothing is expected. */
void drop_in_expect_broker(bool there);
void drop_in_expect_reason(const char *words); /* some with these in it; NULL: none */
bool drop_in_exists(const char *name);
int drop_in_lowest(void);     /* the lowest free descriptor */
int drop_in_connection(void); /* the descriptor of the connection; -1: none */

/* The tests of check_drop_in_process.c. */
void drop_in_add_process_tests(TCase *tcase);

#endif
