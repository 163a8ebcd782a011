/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the suites share. */
#ifndef SHMBROKER_TEST_H
#define SHMBROKER_TEST_H

#include <check.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

/* Whether this is a build with --enable-sanitizers. */
#ifdef __SANITIZE_ADDRESS__
#define IS_SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define IS_SANITIZED true
#endif
#endif
#ifndef IS_SANITIZED
#define IS_SANITIZED false
#endif

/* Whether this is the build of scripts/coverage: each program writes down at its end what it has
 * run. */
#ifdef COUNTS_LINES
#define IS_COUNTING true
#else
#define IS_COUNTING false
#endif

/*
 * Leaves the rest of a test out where the place can't do it: says so on stderr,
 * and is an error where CI=true.
 */
#define TEST_NEEDS(condition, reason)                                                              \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			test_left_out(__func__, reason);                                           \
			return;                                                                    \
		}                                                                                  \
	} while (0)
void test_left_out(const char *test, const char *reason);

/* In a child of a test: an exit status, and where it went wrong. */
#define EXPECT(condition)                                                                          \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition,  \
				errno);                                                            \
			return 1;                                                                  \
		}                                                                                  \
	} while (0)

/* A millisecond in which others run: for loops that wait. */
void test_moment(void);

/* A checked fixture for each suite: the descriptors at its end are those at its start. */
void test_fds_setup(void);
void test_fds_teardown(void);

/* A fresh directory for this test, on a tmpfs where there is one, removed at its end. */
const char *test_directory(void);
/* One that a process left behind which did not come to its end. */
void test_remove_directory(const char *path);

bool test_is_root(void);
/* unshare(CLONE_NEWUSER|CLONE_NEWNS) and a mount in it work, and the calls aren't valgrind's to
 * refuse. */
bool test_has_namespaces(void);

/*
 * Runs function in a forked child under other ids (as root; uid -1: keep) and
 * returns its exit status; 128 + N when it died of signal N. Its descriptors but
 * 0 to 2 are the parent's; its assertions are exit statuses.
 */
int test_run_as(uid_t uid, gid_t gid, const gid_t *groups, size_t group_count,
		int (*function)(void *argument), void *argument);

Suite *suite_proto(void);
Suite *suite_config(void);
Suite *suite_policy(void);
Suite *suite_peer(void);
Suite *suite_creds(void);
Suite *suite_place(void);
Suite *suite_keeper(void);
Suite *suite_store(void);
Suite *suite_reload(void);
Suite *suite_restart(void);
Suite *suite_daemon(void);
Suite *suite_filter(void);
Suite *suite_broker(void);
Suite *suite_bus(void);
Suite *suite_server(void);
Suite *suite_library(void);
Suite *suite_drop_in(void);
Suite *suite_preload(void);
Suite *suite_semantics(void);
Suite *suite_access(void);
Suite *suite_read_only(void);
Suite *suite_context(void);
Suite *suite_lend(void);
Suite *suite_hostile(void);
Suite *suite_shmctl(void);
Suite *suite_sealed(void);
Suite *suite_delegate(void);
Suite *suite_fault(void);
Suite *suite_install(void);

#endif
