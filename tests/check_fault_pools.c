/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Faults in what the keeper is asked for, in reloads, and in what is done without the broker. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "client/internal.h"
#include "daemon/broker_private.h"
#include "tests/fault_scene.h"
#include "tests/test.h"

#define ROWS(rows) (sizeof(rows) / sizeof(*(rows)))

#define POOLS                                                                                      \
	"pools: { host: { path = \"@host@\" access = \"caller\" }\n"                               \
	"         mine: { per = \"user\" size = \"64K\" objects = 8 }\n"                           \
	"         own: { per = \"user\" size = \"256K\" objects = 16 }\n"                          \
	"         apps: { per = \"app\" size = \"64K\" objects = 8 }\n"
#define RULES                                                                                      \
	"rules: ( { name = \"app\" names = \"/*\" allow = \"all\" pool = \"apps\" sandboxed = "    \
	"true user = \"root\" app = \"org.example.*\" },\n"                                        \
	"  { name = \"mine\" names = \"/mine-*\" allow = \"all\" pool = \"mine\" },\n"             \
	"  { name = \"host\" names = [ \"/new\", \"/there\" ] allow = \"all\" pool = \"host\" }"

static const char config[] = POOLS "}\n" RULES " )\n";
static const char larger[] = POOLS " more: { size = \"64K\" objects = 8 } }\n" RULES " )\n";
static const char delegating[] = POOLS
	"}\n" RULES
	",\n  { name = \"own\" names = \"/*\" allow = \"all\" pool = \"own\" delegate = true } )\n";

static void remove_if_there(struct scene *scene, const char *name)
{
	int result = shmb_unlink(scene->other, name);

	FAULT_EXPECT(result == 0 || result == -ENOENT);
}

static struct pool *pool_of(struct fixture *fixture, const char *name)
{
	return store_pool_by_name(server_broker(fixture->server)->store, name);
}

static void count_mine(struct fixture *fixture, void *argument)
{
	struct pool *pool = pool_of(fixture, "mine");

	*(unsigned *)argument = pool ? HASH_COUNT(pool->instances) : 0;
}

/* Whatever was made is released, once nobody needs it. */
static void release(struct scene *scene)
{
	time_t end = time(NULL) + 60;
	unsigned count = 1;

	for (uint64_t ms = 1000000; count > 0; ms += 1000000) {
		FAULT_EXPECT(time(NULL) < end);
		fixture_tick(&scene->fixture, ms);
		test_moment();
		fixture_call(&scene->fixture, count_mine, &count);
	}
}

static void remove_mine(struct scene *scene)
{
	int result = shmb_unlink(scene->other, "/mine-1");

	/* The pool may be absent, for as long as it isn't released. */
	FAULT_EXPECT(result == 0 || result == -ENOENT || result == -EOPNOTSUPP);
	release(scene);
}

static int call_make(struct scene *scene)
{
	return scene->fd[0] = shmb_open(scene->c, "/mine-1", O_RDWR | O_CREAT, 0600);
}

static void make_mine(struct scene *scene)
{
	int fd = shmb_open(scene->other, "/mine-1", O_RDWR | O_CREAT, 0600);

	FAULT_EXPECT(fd >= 0);
	close(fd);
	FAULT_EXPECT(shmb_unlink(scene->other, "/mine-1") == 0);
}

/* Idle at once; where the release fails another follows, which is the row's last function. */
static int call_release(struct scene *scene)
{
	unsigned count = 1;

	for (int i = 0; i < 500 && count > 0; i++) {
		fixture_tick(&scene->fixture, 1000000);
		poll(NULL, 0, 1);
		fixture_call(&scene->fixture, count_mine, &count);
	}
	return 0;
}

/* --- lent and delegated --- */

static int take_mount(const char *body, size_t size, struct fdlist *fds, void *userdata)
{
	struct scene *scene = userdata;

	(void)body;
	(void)size;
	scene->fd[1] = fdlist_steal_only(fds);
	return 0;
}

static int call_lend(struct scene *scene)
{
	const struct shmb_context how = { .app = "org.example.one" };
	struct shmb *through = NULL;
	char path[300];
	uint64_t flags = 0;
	int result;

	scene->fd[0] = shmb_create_context(scene->c, &how, sizeof(how), scene->text,
					   sizeof(scene->text));
	if (scene->fd[0] < 0)
		return scene->fd[0];
	snprintf(path, sizeof(path), "%s/socket", scene->text);
	result = shmb_connect(&through, path);
	if (result < 0)
		return result;
	result = shmb_raw_call(through, WIRE_LEND, &flags, sizeof(flags), take_mount, scene);
	shmb_disconnect(through);
	return result;
}

static int call_delegated(struct scene *scene)
{
	return scene->fd[0] = shmb_open(scene->c, "/delegated", O_RDWR | O_CREAT, 0600);
}

static int call_unlink_delegated(struct scene *scene)
{
	return shmb_unlink(scene->c, "/delegated");
}

static void make_delegated(struct scene *scene)
{
	int fd = shmb_open(scene->other, "/delegated", O_RDWR | O_CREAT, 0600);

	FAULT_EXPECT(fd >= 0);
	close(fd);
}

static void remove_delegated(struct scene *scene)
{
	remove_if_there(scene, "/delegated");
}

static int call_drop(struct scene *scene)
{
	return shmb_raw_call(scene->c, WIRE_DROP, "own", 3, NULL, NULL);
}

static void has_dropped(struct fixture *fixture, void *argument)
{
	struct pool *pool;
	bool *has = argument;

	*has = false;
	TAILQ_FOREACH (pool, store_pools(server_broker(fixture->server)->store), entry)
		*has |= pool->dropped;
}

/* What a fault has left in one goes with the next drop, and the pool is there as before. */
static void drop_again(struct scene *scene)
{
	time_t end = time(NULL) + 60;
	bool has = true;

	FAULT_EXPECT(shmb_raw_call(scene->other, WIRE_DROP, "own", 3, NULL, NULL) == 0);
	for (uint64_t ms = 1000000; has; ms += 1000000) {
		FAULT_EXPECT(time(NULL) < end);
		fixture_tick(&scene->fixture, ms);
		test_moment();
		fixture_call(&scene->fixture, has_dropped, &has);
	}
	make_delegated(scene);
	remove_delegated(scene);
}

/* --- the library alone --- */

static int drop_in(int result)
{
	return result < 0 ? -errno : result;
}

static int call_drop_in(struct scene *scene)
{
	scene->fd[0] = shmb_shm_open("/new", O_RDWR | O_CREAT, 0600);
	return drop_in(scene->fd[0]);
}

static void make_there(struct scene *scene)
{
	int fd = shmb_open(scene->other, "/there", O_RDWR | O_CREAT, 0600);

	FAULT_EXPECT(fd >= 0);
	close(fd);
}

static void remove_there(struct scene *scene)
{
	remove_if_there(scene, "/there");
}

static int call_drop_in_unlink(struct scene *scene)
{
	(void)scene;
	return drop_in(shmb_shm_unlink("/there"));
}

/* --- other rules --- */

static void configure_larger(struct scene *scene)
{
	fixture_configure(&scene->fixture, larger);
}

static int reload(struct shmb *c)
{
	return shmb_raw_call(c, WIRE_RELOAD, NULL, 0, NULL, NULL);
}

static int call_reload(struct scene *scene)
{
	return reload(scene->c);
}

static void has_more(struct fixture *fixture, void *argument)
{
	*(bool *)argument = pool_of(fixture, "more") != NULL;
}

static void release_more(struct scene *scene)
{
	time_t end = time(NULL) + 60;
	bool has = true;

	for (uint64_t ms = 1000000; has; ms += 1000000) {
		FAULT_EXPECT(time(NULL) < end);
		fixture_tick(&scene->fixture, ms);
		test_moment();
		fixture_call(&scene->fixture, has_more, &has);
	}
}

static void configure_again(struct scene *scene)
{
	int result = -EBUSY;

	fixture_configure(&scene->fixture, config);
	for (int i = 0; i < 60000 && result == -EBUSY; i++) {
		test_moment();
		result = reload(scene->other);
	}
	FAULT_EXPECT(result == 0);
	release_more(scene);
}

#define ROW(text, who, function, ...)                                                              \
	{                                                                                          \
		text, .config = config, .roles = who, .call = function, __VA_ARGS__                \
	}

static const struct fault_case kept[] = {
	ROW("make a pool", FAULT_SELF, call_make, .after = remove_mine),
	ROW("make a pool", FAULT_LOOP, call_make, .after = remove_mine),
	ROW("make a pool", FAULT_HELPER, call_make, .after = remove_mine),
	ROW("release a pool", FAULT_LOOP, call_release, .before = make_mine, .after = release),
	ROW("release a pool", FAULT_HELPER, call_release, .before = make_mine, .after = release),
};

#define GIVEN(text, who, function, ...)                                                            \
	{                                                                                          \
		text, .config = delegating, .roles = who, .call = function, __VA_ARGS__            \
	}

static const struct fault_case given[] = {
	GIVEN("lend", FAULT_SELF, call_lend, .keeps = true),
	GIVEN("lend", FAULT_LOOP, call_lend, .keeps = true),
	GIVEN("lend", FAULT_HELPER, call_lend, .keeps = true),
	GIVEN("delegate", FAULT_SELF, call_delegated, .after = remove_delegated),
	GIVEN("delegate", FAULT_LOOP, call_delegated, .after = remove_delegated),
	GIVEN("drop", FAULT_LOOP, call_drop, .before = make_delegated, .after = drop_again,
	      .also = -EBUSY),
	GIVEN("unlink by oneself", FAULT_SELF, call_unlink_delegated, .before = make_delegated,
	      .after = remove_delegated),
};

static const struct fault_case reloaded[] = {
	ROW("reload", FAULT_LOOP, call_reload, .before = configure_larger, .also = -EIO,
	    .after = configure_again),
	ROW("reload", FAULT_HELPER, call_reload, .before = configure_larger, .also = -EIO,
	    .after = configure_again),
};

static const struct fault_case dropped_in[] = {
	ROW("drop-in open", FAULT_SELF, call_drop_in, .is_create = true, .keeps = true),
	ROW("drop-in unlink", FAULT_SELF, call_drop_in_unlink, .before = make_there,
	    .after = remove_there, .keeps = true),
};

START_TEST(a_fault_of_the_keeper)
{
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	fault_run(kept, ROWS(kept));
}
END_TEST

START_TEST(a_fault_of_what_is_given_away)
{
	TEST_NEEDS(test_is_root() && test_has_namespaces(), "root and namespaces");
	fault_run(given, ROWS(given));
}
END_TEST

START_TEST(a_fault_of_a_reload)
{
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	fault_run(reloaded, ROWS(reloaded));
}
END_TEST

START_TEST(a_fault_of_a_drop_in)
{
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	fault_run(dropped_in, ROWS(dropped_in));
}
END_TEST

TCase *fault_case_of_pools(void)
{
	TCase *tests = tcase_create("pools");

	tcase_set_timeout(tests, 300);
	tcase_add_checked_fixture(tests, test_fds_setup, test_fds_teardown);
	tcase_add_test(tests, a_fault_of_the_keeper);
	tcase_add_test(tests, a_fault_of_what_is_given_away);
	tcase_add_test(tests, a_fault_of_a_reload);
	tcase_add_test(tests, a_fault_of_a_drop_in);
	return tests;
}
