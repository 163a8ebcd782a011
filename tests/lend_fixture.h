/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of the suite "lend" share: rules, apps, what is lent to them, and whether it is
 * still there. */
#ifndef SHMBROKER_LEND_FIXTURE_H
#define SHMBROKER_LEND_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/internal.h"
#include "daemon/broker_private.h"
#include "tests/fixture.h"
#include "tests/sandbox.h"
#include "tests/test.h"

TCase *lend_case_of_inside(void); /* of check_lend_inside.c */
TCase *lend_case_of_run(void);	  /* of check_lend_run.c */

#define ROWS(rows) (sizeof(rows) / sizeof(*(rows)))
#define NEEDS_TABLE TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools")

#define POOLS                                                                                      \
	"pools: { host: { path = \"@host@\" access = \"caller\" }\n"                               \
	"         frames: { size = \"64K\" objects = 8 }\n"                                        \
	"         users: { per = \"user\" size = \"64K\" objects = 8 }\n"                          \
	"         apps: { per = \"app\" size = \"64K\" objects = 8 } }\n"
#define UNSANDBOXED                                                                                \
	"{ name = \"u\" sandboxed = false names = \"/*\" allow = \"all\" pool = \"host\" }"
#define RULES(text) POOLS "rules: ( " text ", " UNSANDBOXED " )\n"
#define APPS(rest)                                                                                 \
	"{ name = \"r\" names = \"/*\" allow = \"all\" pool = \"apps\" sandboxed = true " rest " " \
	"}"

static const char one_rule[] = RULES(APPS(""));

static inline void start(struct fixture *fixture, const char *config)
{
	fixture_start(fixture,
		      &(struct fixture_how){ .config = config, .is_user = !test_is_root() });
}

static inline void count_instances(struct fixture *fixture, void *argument)
{
	struct store *store = server_broker(fixture->server)->store;
	unsigned *count = argument;

	*count = 0;
	for (struct instance *i = store_next(store, 0); i; i = store_next(store, i->number))
		*count += i->pool->config.per == POOL_PER_APP;
}

static inline unsigned instances(struct fixture *fixture)
{
	unsigned count;

	fixture_call(fixture, count_instances, &count);
	return count;
}

static inline void find_busy(struct fixture *fixture, void *argument)
{
	struct store *store = server_broker(fixture->server)->store;

	*(bool *)argument = false;
	for (struct instance *i = store_next(store, 0); i; i = store_next(store, i->number))
		*(bool *)argument |= i->state == INSTANCE_RELEASING;
}

/* All that is idle has been looked at, and the keeper has answered. */
static inline void let_time_pass(struct fixture *fixture)
{
	bool busy = true;

	fixture_tick(fixture, 10 * 60 * 1000);
	while (busy)
		fixture_call(fixture, find_busy, &busy);
}

static inline void expect_released(struct fixture *fixture)
{
	/* The loop hears of a context's end in its own time. */
	for (int i = 0; i < 100000 && instances(fixture) > 0; i++)
		let_time_pass(fixture);
	ck_assert_uint_eq(instances(fixture), 0);
}

/* A context, and a connection through it. */
struct app {
	int hold;
	char directory[128], socket[160];
	struct shmb *c;
};

static inline void app_connect(struct app *app)
{
	ck_assert_int_eq(shmb_connect(&app->c, app->socket), 0);
}

static inline void app_start(struct app *ret, const struct fixture *fixture, const char *id)
{
	const struct shmb_context how = { .app = id };
	struct shmb *c = fixture_connect(fixture);

	ret->hold = shmb_create_context(c, &how, sizeof(how), ret->directory,
					sizeof(ret->directory));
	ck_assert_msg(ret->hold >= 0, "%s", shmb_reason(c));
	snprintf(ret->socket, sizeof(ret->socket), "%s/socket", ret->directory);
	shmb_disconnect(c);
	app_connect(ret);
}

static inline void app_end(struct app *app)
{
	shmb_disconnect(app->c);
	close(app->hold);
}

static inline int take_mount(const char *body, size_t size, struct fdlist *fds, void *userdata)
{
	ck_assert_ptr_nonnull(body);
	ck_assert_uint_eq(size, 0);
	ck_assert_uint_eq(fds->count, 1);
	ck_assert_uint_eq(fds->kind[0], WIRE_FD_MOUNT);
	*(int *)userdata = fdlist_steal_only(fds);
	return 0;
}

static inline int lend(struct shmb *c, uint64_t flags, int *ret_mount)
{
	*ret_mount = -EBADF;
	return shmb_raw_call(c, WIRE_LEND, &flags, sizeof(flags), take_mount, ret_mount);
}

static inline int lent(struct shmb *c)
{
	int mount;

	ck_assert_msg(lend(c, 0, &mount) == 0, "%s", shmb_reason(c));
	return mount;
}

struct inside {
	int mount;
	const char *directory; /* where it is put */
	bool exec;
};

/* As a launcher does it; and the pool is the working directory. */
static inline int enter(const struct inside *inside)
{
	EXPECT(sandbox_enter_user(geteuid(), getegid(), CLONE_NEWNS));
	EXPECT(move_mount(inside->mount, "", AT_FDCWD, inside->directory,
			  MOVE_MOUNT_F_EMPTY_PATH) == 0);
	EXPECT(chdir(inside->directory) == 0);
	return 0;
}

static inline int in_sandbox(int (*function)(void *argument), struct inside *inside)
{
	char directory[128];

	snprintf(directory, sizeof(directory), "%s/inside", test_directory());
	ck_assert(mkdir(directory, 0755) == 0 || errno == EEXIST);
	inside->directory = directory;
	return test_run_as((uid_t)-1, 0, NULL, 0, function, inside);
}

#endif
