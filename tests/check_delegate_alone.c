/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which delegated pools are one's alone, and how long: as long as there is a waypoint, which counts
 * for nobody. A case of the suite "delegate".
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/delegate_fixture.h"
#include "tests/sandbox.h"
#include "tests/store_fixture.h"

#define OBJECTS 16 /* of each user's pool */

static const struct {
	const char *per, *one, *other; /* what its rules say beside */
	bool is_alone;
} rows[] = {
	{ "user", "sandboxed = false", "sandboxed = false", true },
	{ "user", "sandboxed = false", "", false },
	{ "user", "", "sandboxed = false", false },
	{ "user", "", "sandboxed = true", false },
	{ "none", "sandboxed = false", "sandboxed = false", false },
};

START_TEST(where_others_may_make_names_there_is_none)
{
	struct fixture fixture;
	struct shmb *c;
	char text[1024];

	NEEDS_TABLE;
	snprintf(
		text, sizeof(text),
		"pools: { own: { per = \"%s\" size = \"256K\" objects = 16 } }\n"
		"rules: ( { name = \"o\" names = \"/other\" allow = \"all\" pool = \"own\" %s },\n"
		"{ name = \"a\" names = \"/*\" allow = \"all\" pool = \"own\" delegate = true %s } "
		")\n",
		rows[_i].per, rows[_i].other, rows[_i].one);
	start(&fixture, text);
	c = fixture_connect(&fixture);
	put(c, "/x", "one");
	ck_assert_int_ge(c->delegation.directories.writable, 0);
	ck_assert_int_eq(c->delegation.way_size > 0, rows[_i].is_alone);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

struct look {
	struct store_objects objects;
	unsigned instances;
	bool has_waypoint;
};

static void look_at_own(struct fixture *fixture, void *argument)
{
	struct store *store = server_broker(fixture->server)->store;
	struct look *look = argument;
	struct statfs fs;

	*look = (struct look){ 0 };
	for (struct instance *i = store_each(store, NULL); i; i = store_each(store, i)) {
		if (strcmp(i->pool->config.name, "own") != 0)
			continue;
		look->instances++;
		look->has_waypoint = *i->waypoint;
		ck_assert_int_eq(store_usage(i, &fs), 0);
		look->objects = store_objects(i, &fs);
	}
}

static void expect_objects(struct fixture *fixture, uint64_t count, bool has_waypoint)
{
	struct look look;

	fixture_call(fixture, look_at_own, &look);
	ck_assert_uint_eq(look.instances, 1);
	ck_assert_uint_eq(look.objects.count, count);
	ck_assert_uint_eq(look.objects.limit, OBJECTS - has_waypoint);
	ck_assert_int_eq(look.has_waypoint, has_waypoint);
}

/* Only a keeper that hangs lets this pass. */
#define GUARD_S 50

/* Unused for long enough. */
static void expect_release(struct fixture *fixture)
{
	time_t end = time(NULL) + GUARD_S;
	struct look look;

	do {
		fixture_tick(fixture, 10 * 60 * 1000);
		fixture_call(fixture, look_at_own, &look);
	} while (look.instances > 0 && time(NULL) < end);
	ck_assert_uint_eq(look.instances, 0);
}

START_TEST(it_is_there_as_long_as_it_is_of_use)
{
	time_t end = time(NULL) + GUARD_S;
	struct fixture fixture;
	struct shmb *c;

	NEEDS_TABLE;
	start(&fixture, alone);
	c = fixture_connect(&fixture);
	put(c, "/x", "one");
	expect_objects(&fixture, 1, true);
	put_sealed(c, "/sealed", "sealed");
	expect_objects(&fixture, 2, false);
	ck_assert_int_eq(raw_reload(c), 0);
	expect(c, "/x", "one");
	expect_objects(&fixture, 2, false);
	ck_assert_int_eq(shmb_unlink(c, "/sealed"), 0);
	/* The broker hears of that in its own time. */
	do {
		ck_assert_int_eq(raw_reload(c), 0);
		expect(c, "/x", "one");
	} while (c->delegation.way_size == 0 && time(NULL) < end);
	expect_objects(&fixture, 1, true);
	/* In use: the pool isn't released. */
	fixture_tick(&fixture, 10 * 60 * 1000);
	expect(c, "/x", "one");
	ck_assert_int_eq(shmb_raw_call(c, WIRE_DROP, "own", 3, NULL, NULL), 0);
	expect_release(&fixture);
	put(c, "/x", "one");
	ck_assert_int_eq(shmb_unlink(c, "/x"), 0);
	expect_objects(&fixture, 0, true);
	/* And so, with nothing in it, it goes. */
	expect_release(&fixture);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* By its owner, who is the broker's user. */
START_TEST(one_that_has_something_in_it_is_taken_away_all_the_same)
{
	char name[WAYPOINT_SIZE], within[WAYPOINT_SIZE + 8];
	struct fixture fixture;
	int directory, fd;
	struct shmb *c;

	NEEDS_TABLE;
	start(&fixture, alone);
	c = fixture_connect(&fixture);
	put(c, "/x", "one");
	ck_assert_uint_gt(c->delegation.way_size, 0);
	directory = c->delegation.directories.writable;
	snprintf(within, sizeof(within), "%s/within", name_of(&c->delegation, name));
	ck_assert_int_eq(fchmodat(directory, name, 0700, 0), 0);
	fd = openat(directory, within, O_RDWR | O_CREAT, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
	put_sealed(c, "/sealed", "sealed");
	ck_assert(faccessat(directory, name, F_OK, 0) < 0 && errno == ENOENT);
	expect(c, "/sealed", "sealed");
	ck_assert_uint_eq(c->delegation.way_size, 0);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* Who had a part in it once may have its directory still, and what is in it. */
START_TEST(who_had_a_part_before_has_one)
{
	struct kept kept = KEPT_NOTHING;
	struct fixture fixture;
	struct shmb *c;

	NEEDS_TABLE;
	fixture_start(&fixture, &(struct fixture_how){ .config = alone,
						       .is_user = !test_is_root(),
						       .kept = &kept });
	c = fixture_connect(&fixture);
	put(c, "/x", "one");
	expect_objects(&fixture, 1, true);
	fixture_configure(&fixture, all);
	ck_assert_int_eq(raw_reload(c), 0);
	expect_objects(&fixture, 1, false);
	expect(c, "/x", "one");
	ck_assert_uint_eq(c->delegation.way_size, 0);
	fixture_configure(&fixture, alone);
	ck_assert_int_eq(raw_reload(c), 0);
	expect(c, "/x", "one");
	ck_assert_uint_eq(c->delegation.way_size, 0);
	shmb_disconnect(c);
	fixture_leave(&fixture);
	/* The next broker knows, too, until the pool has been another. */
	fixture_start(&fixture, &(struct fixture_how){ .config = alone,
						       .is_user = !test_is_root(),
						       .kept = &kept });
	c = fixture_connect(&fixture);
	expect(c, "/x", "one");
	expect_objects(&fixture, 1, false);
	ck_assert_int_eq(shmb_unlink(c, "/x"), 0);
	expect_release(&fixture);
	put(c, "/x", "two");
	expect_objects(&fixture, 1, true);
	shmb_disconnect(c);
	fixture_stop(&fixture);
	kept_done(&kept);
}
END_TEST

START_TEST(the_next_broker_has_another)
{
	struct kept kept = KEPT_NOTHING;
	char way[2][WAYPOINT_SIZE];
	struct fixture fixture;
	struct shmb *c;

	NEEDS_TABLE;
	for (int i = 0; i < 2; i++) {
		fixture_start(&fixture, &(struct fixture_how){ .config = alone,
							       .is_user = !test_is_root(),
							       .kept = &kept });
		c = fixture_connect(&fixture);
		put(c, "/x", "one");
		expect_objects(&fixture, 1, true);
		name_of(&c->delegation, way[i]);
		if (i == 1)
			ck_assert_int_lt(
				faccessat(c->delegation.directories.writable, way[0], F_OK, 0), 0);
		shmb_disconnect(c);
		if (i == 0)
			fixture_leave(&fixture);
	}
	fixture_stop(&fixture);
	kept_done(&kept);
}
END_TEST

#define OWN(size, objects, rest)                                                                   \
	"pools: { own: { per = \"user\" size = \"" size "\" objects = " objects " } }\n"           \
	"rules: ( { name = \"a\" names = \"/*\" allow = \"all\" pool = \"own\" delegate = "        \
	"true " rest " } )\n"

/* What is the broker's own keeps nobody's reload from fitting. */
START_TEST(a_pool_is_as_small_as_what_others_have_in_it)
{
	struct fixture fixture;
	struct shmb *c;

	NEEDS_TABLE;
	start(&fixture, OWN("256K", "16", "sandboxed = false"));
	c = fixture_connect(&fixture);
	for (char name[] = "/x0"; name[2] < '8'; name[2]++)
		put(c, name, "one");
	expect_objects(&fixture, 8, true);
	fixture_configure(&fixture, OWN("256K", "7", "sandboxed = false"));
	ck_assert_int_eq(raw_reload(c), -EBUSY);
	expect(c, "/x1", "one");
	fixture_configure(&fixture, OWN("256K", "8", "sandboxed = false"));
	ck_assert_int_eq(raw_reload(c), 0);
	expect(c, "/x1", "one");
	/* There is no room for it. */
	ck_assert_uint_eq(c->delegation.way_size, 0);
	ck_assert_int_eq(shmb_open(c, "/more", O_RDWR | O_CREAT, 0600), -ENOSPC);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(a_small_pool_is_wholly_for_objects)
{
	struct fixture fixture;
	struct shmb *c;

	NEEDS_TABLE;
	start(&fixture, OWN("64K", "1", "sandboxed = false"));
	c = fixture_connect(&fixture);
	put(c, "/x", "one");
	ck_assert_int_ge(c->delegation.directories.writable, 0);
	ck_assert_uint_eq(c->delegation.way_size, 0);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

static const char apps[] =
	"pools: { own: { per = \"app\" size = \"256K\" objects = 16 } }\n"
	"rules: ( { name = \"a\" sandboxed = true names = \"/*\" allow = \"all\" pool = \"own\"\n"
	"           delegate = true } )\n";

/* A context of who we are, and a connection through it. The hold is left open. */
static int enter_context(char socket[static 160], struct shmb **ret)
{
	const struct shmb_context how = { .app = "org.example.one" };
	char directory[128];
	struct shmb *maker;
	int hold;

	EXPECT(shmb_connect(&maker, NULL) == 0);
	hold = shmb_create_context(maker, &how, sizeof(how), directory, sizeof(directory));
	EXPECT(hold >= 0);
	snprintf(socket, 160, "%s/socket", directory);
	EXPECT(shmb_connect(ret, socket) == 0);
	return 0;
}

/* 0: what its context's maker makes there is opened without a look; 2: not. */
static int make_in_context(void *argument)
{
	char socket[160];
	struct shmb *c;

	(void)argument;
	EXPECT(enter_context(socket, &c) == 0);
	put(c, "/x", "one");
	EXPECT(c->delegation.directories.writable >= 0);
	return c->delegation.way_size > 0 ? 0 : 2;
}

/* As in most sandboxes, where nobody but the user himself is known. */
static int make_in_user_namespace(void *argument)
{
	char socket[160], name[WAYPOINT_SIZE];
	uid_t uid = geteuid();
	gid_t gid = getegid();
	struct shmb *c;

	(void)argument;
	EXPECT(enter_context(socket, &c) == 0);
	shmb_disconnect(c);
	EXPECT(sandbox_enter_user(uid, gid, 0));
	EXPECT(shmb_connect(&c, socket) == 0);
	put(c, "/x", "one");
	EXPECT(c->delegation.directories.writable >= 0 && c->delegation.way_size > 0);
	EXPECT(faccessat(c->delegation.directories.writable, name_of(&c->delegation, name), F_OK,
			 0) == 0);
	return 0;
}

static int take_mount(const char *body, size_t body_size, struct fdlist *fds, void *userdata)
{
	(void)body;
	(void)body_size;
	*(int *)userdata = fdlist_steal_only(fds);
	return 0;
}

/* Whoever is in the sandbox that has the mount has a part in it. */
static int lend_to_sandbox(void *argument)
{
	char socket[160], name[WAYPOINT_SIZE];
	const uint64_t flags = 0;
	int directory, mount = -1;
	struct shmb *c;

	(void)argument;
	EXPECT(enter_context(socket, &c) == 0);
	put(c, "/x", "one");
	EXPECT(c->delegation.way_size > 0);
	name_of(&c->delegation, name);
	directory = c->delegation.directories.writable;
	EXPECT(shmb_raw_call(c, WIRE_LEND, &flags, sizeof(flags), take_mount, &mount) == 0);
	EXPECT(mount >= 0 && faccessat(directory, name, F_OK, 0) < 0 && errno == ENOENT);
	expect(c, "/x", "one");
	EXPECT(c->delegation.way_size == 0);
	return 0;
}

START_TEST(what_is_lent_is_shared)
{
	struct fixture fixture;

	NEEDS_TABLE;
	start(&fixture, apps);
	ck_assert_int_eq(test_run_as(somebody(), somebody(), NULL, 0, lend_to_sandbox, NULL), 0);
	fixture_stop(&fixture);
}
END_TEST

/* Root's contexts are for others. */
START_TEST(an_apps_pool_is_its_own_where_its_maker_is_it)
{
	struct fixture fixture;

	NEEDS_TABLE;
	start(&fixture, apps);
	ck_assert_int_eq(test_run_as(somebody(), somebody(), NULL, 0, make_in_context, NULL), 0);
	ck_assert_int_eq(test_run_as(somebody(), somebody(), NULL, 0, make_in_user_namespace, NULL),
			 0);
	if (test_is_root())
		ck_assert_int_eq(test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, make_in_context, NULL),
				 2);
	fixture_stop(&fixture);
}
END_TEST

static int visit(void *argument)
{
	struct shmb *c;

	EXPECT(shmb_connect(&c, argument) == 0);
	put(c, "/visited", "by another");
	EXPECT(c->delegation.way_size == 0);
	return 0;
}

/* Its maker can let in whom he likes. */
static int let_another_in(void *argument)
{
	char socket[160], name[WAYPOINT_SIZE];
	struct shmb *c;
	int status, directory;
	pid_t pid;

	(void)argument;
	/* As who may be both. */
	EXPECT(seteuid(23451) == 0);
	EXPECT(enter_context(socket, &c) == 0);
	put(c, "/x", "one");
	EXPECT(c->delegation.way_size > 0);
	name_of(&c->delegation, name);
	directory = c->delegation.directories.writable;
	EXPECT(faccessat(directory, name, F_OK, 0) == 0);
	/* As a sandbox has it. */
	*strrchr(socket, '/') = '\0';
	snprintf(socket, sizeof(socket), "/proc/self/fd/%d/socket",
		 open(socket, O_PATH | O_DIRECTORY));
	pid = fork();
	if (pid == 0) {
		if (seteuid(0) < 0 || setresuid(23452, 23452, 23452) < 0)
			_exit(99);
		_exit(visit(socket));
	}
	EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
	EXPECT(faccessat(directory, name, F_OK, 0) < 0 && errno == ENOENT);
	expect(c, "/x", "one");
	EXPECT(c->delegation.directories.writable >= 0 && c->delegation.way_size == 0);
	return 0;
}

START_TEST(whoever_else_is_let_in_has_a_part)
{
	struct fixture fixture;

	NEEDS_TABLE;
	TEST_NEEDS(test_is_root(), "needs root to be two users");
	start(&fixture, apps);
	ck_assert_int_eq(test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, let_another_in, NULL), 0);
	fixture_stop(&fixture);
}
END_TEST

TCase *delegate_case_of_alone(void)
{
	TCase *tests = tcase_create("alone");

	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, test_fds_setup, test_fds_teardown);
	tcase_add_loop_test(tests, where_others_may_make_names_there_is_none, 0,
			    (int)(sizeof(rows) / sizeof(*rows)));
	tcase_add_test(tests, it_is_there_as_long_as_it_is_of_use);
	tcase_add_test(tests, one_that_has_something_in_it_is_taken_away_all_the_same);
	tcase_add_test(tests, who_had_a_part_before_has_one);
	tcase_add_test(tests, the_next_broker_has_another);
	tcase_add_test(tests, a_pool_is_as_small_as_what_others_have_in_it);
	tcase_add_test(tests, a_small_pool_is_wholly_for_objects);
	tcase_add_test(tests, an_apps_pool_is_its_own_where_its_maker_is_it);
	tcase_add_test(tests, whoever_else_is_let_in_has_a_part);
	tcase_add_test(tests, what_is_lent_is_shared);
	return tests;
}
