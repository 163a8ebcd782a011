/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the suites of pools and reloads share: looking into the store of a running
 * broker, holding its keeper, hearing what it logs.
 */
#ifndef SHMBROKER_STORE_FIXTURE_H
#define SHMBROKER_STORE_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/internal.h"
#include "daemon/broker_private.h"
#include "tests/fixture.h"
#include "tests/test.h"

#define NEEDS_PRIVATE_POOLS TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools")

/* The whole store, counted in the loop's thread. */
struct census {
	unsigned instances, pools, closed, waiters;
	unsigned state[INSTANCE_ABSENT + 1];
};

static inline void census_take(struct fixture *fixture, void *argument)
{
	struct store *store = server_broker(fixture->server)->store;
	struct census *census = argument;
	struct instance *instance = NULL;
	struct waiter *waiter;
	struct pool *pool;

	*census = (struct census){ 0 };
	while ((instance = store_next(store, instance ? instance->number : 0))) {
		census->instances++;
		census->state[instance->state]++;
		TAILQ_FOREACH (waiter, &instance->waiters, entry)
			census->waiters++;
	}
	TAILQ_FOREACH (pool, store_pools(store), entry) {
		census->pools++;
		census->closed += pool->closed;
	}
}

static inline struct census census_of(struct fixture *fixture)
{
	struct census census;

	fixture_call(fixture, census_take, &census);
	return census;
}

static inline void await_waiters(struct fixture *fixture, unsigned count)
{
	while (census_of(fixture).waiters != count)
		sched_yield();
}

/* Ticks, far in the future, until as many instances are left. */
static inline void await_instances(struct fixture *fixture, unsigned count)
{
	for (uint64_t ms = 1000000; census_of(fixture).instances != count; ms += 100000) {
		fixture_tick(fixture, ms);
		sched_yield();
	}
}

/* While it is held nothing is made or released. */
static inline void keeper_hold(const struct fixture *fixture)
{
	ck_assert_int_eq(kill(keeper_pid(fixture->keeper), SIGSTOP), 0);
}

static inline void keeper_go_on(const struct fixture *fixture)
{
	ck_assert_int_eq(kill(keeper_pid(fixture->keeper), SIGCONT), 0);
}

/* An open that is closed at once: 0, or its error. */
static inline int try_open(struct shmb *c, const char *name, int oflag)
{
	int fd = shmb_open(c, name, oflag, 0600);

	return fd < 0 ? fd : close(fd);
}

static inline int make_object(struct shmb *c, const char *name)
{
	int fd = shmb_open(c, name, O_RDWR | O_CREAT | O_EXCL, 0600);

	ck_assert_msg(fd >= 0, "%s: %s", name, shmb_reason(c));
	return fd;
}

static inline int raw_reload(struct shmb *c)
{
	return shmb_raw_call(c, WIRE_RELOAD, NULL, 0, NULL, NULL);
}

/* A connection through a new context of that app; *ret_hold ends it. */
static inline struct shmb *connect_app(struct shmb *c, const char *app, int *ret_hold)
{
	const struct shmb_context how = { .app = app };
	char directory[128], path[160];
	struct shmb *through;

	*ret_hold = shmb_create_context(c, &how, sizeof(how), directory, sizeof(directory));
	ck_assert_msg(*ret_hold >= 0, "%s", shmb_reason(c));
	snprintf(path, sizeof(path), "%s/socket", directory);
	ck_assert_int_eq(shmb_connect(&through, path), 0);
	return through;
}

/* Everything that is logged between the two, in memory. */
struct heard {
	int before, file;
};

static inline void hear_begin(struct heard *heard)
{
	fflush(stderr);
	heard->before = fcntl(2, F_DUPFD_CLOEXEC, 3);
	heard->file = memfd_create("log", MFD_CLOEXEC);
	ck_assert_int_ge(heard->before, 0);
	ck_assert_int_ge(heard->file, 0);
	ck_assert_int_eq(dup2(heard->file, 2), 2);
}

/* The text is the caller's to free. */
static inline char *hear_end(struct heard *heard)
{
	off_t size = lseek(heard->file, 0, SEEK_END);
	char *text = calloc(1, (size_t)size + 1);

	fflush(stderr);
	ck_assert_int_eq(dup2(heard->before, 2), 2);
	ck_assert_int_eq(pread(heard->file, text, (size_t)size, 0), size);
	close(heard->before);
	close(heard->file);
	return text;
}

/* How many lines have all of it. */
static inline unsigned lines_with(char *text, const char *one, const char *other)
{
	char *save, *copy = strdup(text);
	unsigned count = 0;

	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		count += strstr(line, one) && strstr(line, other);
	free(copy);
	return count;
}

#endif
