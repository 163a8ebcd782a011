/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of the suite "reload" share: two private pools and a directory, and who asks
 * meanwhile. */
#ifndef SHMBROKER_RELOAD_FIXTURE_H
#define SHMBROKER_RELOAD_FIXTURE_H

#include <pthread.h>
#include <sys/vfs.h>

#include "tests/store_fixture.h"

TCase *reload_case_of_refused(void); /* of check_reload_refused.c */

#define HOST "host: { path = \"@host@\" access = \"grant\" }\n"
#define ALL(name, pool)                                                                            \
	"{ name = \"" name "\" names = \"/" name "-*\" allow = \"all\" pool = \"" pool "\" }"
#define RULES "rules: ( " ALL("a", "a") ", " ALL("b", "b") ", " ALL("host", "host") " )\n"
#define POOL_A "a: { size = \"1M\" objects = 8 }\n"
#define POOL_B "b: { size = \"1M\" objects = 8 }\n"
#define BOTH "pools: { " HOST POOL_A POOL_B "}\n" RULES

static inline uint64_t size_of_pool(int object)
{
	struct statfs fs;

	ck_assert_int_eq(fstatfs(object, &fs), 0);
	return (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize;
}

static inline struct shmb *begin(struct fixture *fixture)
{
	fixture_start(fixture, &(struct fixture_how){ .config = BOTH, .is_user = !test_is_root() });
	return fixture_connect(fixture);
}

static inline void end(struct fixture *fixture, struct shmb *c)
{
	shmb_disconnect(c);
	fixture_stop(fixture);
}

/* Opens, or reloads, while its test goes on. */
struct asker {
	pthread_t thread;
	const char *socket;
	const char *name; /* NULL: reload */
	int result;
};

static inline void *ask_broker(void *argument)
{
	struct asker *asker = argument;
	struct shmb *c;

	ck_assert_int_eq(shmb_connect(&c, asker->socket), 0);
	asker->result = asker->name ? try_open(c, asker->name, O_RDWR | O_CREAT) : raw_reload(c);
	shmb_disconnect(c);
	return NULL;
}

static inline void ask_through(struct asker *asker, const char *socket, const char *name)
{
	*asker = (struct asker){ .socket = socket, .name = name };
	ck_assert_int_eq(pthread_create(&asker->thread, NULL, ask_broker, asker), 0);
}

static inline void ask_start(struct asker *asker, const struct fixture *fixture, const char *name)
{
	ask_through(asker, fixture->socket, name);
}

static inline int ask_end(struct asker *asker)
{
	ck_assert_int_eq(pthread_join(asker->thread, NULL), 0);
	return asker->result;
}

static inline void count_applying(struct fixture *fixture, void *argument)
{
	struct caller *caller;

	*(unsigned *)argument = 0;
	LIST_FOREACH (caller, &server_broker(fixture->server)->callers, entry)
		*(unsigned *)argument += caller->reload != RELOAD_NONE;
}

static inline void await_reloads(struct fixture *fixture, unsigned count)
{
	unsigned now;

	do {
		fixture_call(fixture, count_applying, &now);
	} while (now != count && sched_yield() == 0);
}

#endif
