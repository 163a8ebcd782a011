/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Delegated pools that are dropped. A case of the suite "delegate". */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/store_private.h"
#include "tests/delegate_fixture.h"
#include "tests/raw_client.h"
#include "tests/store_fixture.h"

static void drop_own(struct shmb *c)
{
	ck_assert_msg(shmb_raw_call(c, WIRE_DROP, "own", 3, NULL, NULL) == 0, "%s", shmb_reason(c));
}

/* Deeper than a broker would go down, and it goes all the same. */
START_TEST(a_dropped_pool_is_emptied_however_deep)
{
	static const char deep[] =
		"pools: { own: { per = \"user\" size = \"256K\" objects = 1000 } }\n"
		"rules: ( " ALL "delegate = true } )\n";
	struct fixture fixture;
	struct shmb *c;
	int fd, below, top;

	NEEDS_TABLE;
	start(&fixture, deep);
	c = fixture_connect(&fixture);
	put(c, "/x", "one");
	fd = dup(c->delegation.directories.writable);
	top = openat(fd, ".", O_RDONLY | O_CLOEXEC);
	umask(0);
	ck_assert_int_eq(mkdirat(fd, "sticky", 01777), 0);
	ck_assert_int_eq(mkdirat(fd, "sticky/d", 0777), 0);
	ck_assert_int_eq(mkdirat(fd, "shut", 0700), 0);
	ck_assert_int_eq(mkdirat(fd, "shut/d", 0700), 0);
	ck_assert_int_eq(fchmodat(fd, "shut", 0, 0), 0);
	umask(022);
	for (int i = 0; i < 500; i++) {
		ck_assert_int_eq(mkdirat(fd, "d", 0700), 0);
		below = openat(fd, "d", O_PATH | O_DIRECTORY | O_CLOEXEC);
		ck_assert_int_ge(below, 0);
		close(fd);
		fd = below;
	}
	close(fd);
	drop_own(c);
	ck_assert(faccessat(top, "d", F_OK, 0) < 0 && errno == ENOENT);
	ck_assert(faccessat(top, "sticky", F_OK, 0) < 0 && errno == ENOENT);
	ck_assert(faccessat(top, "shut", F_OK, 0) < 0 && errno == ENOENT);
	close(top);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* In the directory that was delegated: it is still somebody's, but no pool of the broker's. */
static void use_kept_directory(int fd, struct shmb *c, const char *name)
{
	int made = openat(fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	struct shmb_info info;

	ck_assert_int_ge(made, 0);
	close(made);
	ck_assert_int_eq(shmb_stat(c, name, &info, sizeof(info)), -ENOENT);
	ck_assert_int_eq(try_open(c, name, O_RDWR), -ENOENT);
}

static void restart_with(struct fixture *fixture, struct kept *kept, const char *config)
{
	fixture_leave(fixture);
	fixture_start(fixture, &(struct fixture_how){ .config = config,
						      .is_user = !test_is_root(),
						      .kept = kept });
}

/* Of all, and of each user: his next one isn't one more. */
START_TEST(what_was_delegated_of_a_dropped_pool_is_no_pool_of_the_brokers)
{
	static const char *const configs[] = {
		"pools: { own: { size = \"256K\" objects = 16 } }\n"
		"rules: ( " ALL "delegate = true } )\n",
		"limits: { pools-per-user = 1 }\n"
		"pools: { own: { per = \"user\" size = \"256K\" objects = 16 } }\n"
		"rules: ( " ALL "delegate = true } )\n",
	};
	const struct shmb_how temporary = { .oflag = O_RDWR | O_CREAT,
					    .mode = 0600,
					    .flags = SHMB_TEMPORARY };
	struct kept kept = KEPT_NOTHING;
	struct fixture fixture;
	struct shmb_info info;
	struct shmb *c;
	int fd, object;

	NEEDS_TABLE;
	fixture_start(&fixture, &(struct fixture_how){ .config = configs[_i],
						       .is_user = !test_is_root(),
						       .kept = &kept });
	c = fixture_connect(&fixture);
	put(c, "/x", "one");
	fd = openat(c->delegation.directories.writable, ".", O_RDONLY | O_CLOEXEC);
	object = shmb_open_how(c, "/y", &temporary, sizeof(temporary));
	ck_assert(fd >= 0 && object >= 0);
	drop_own(c);
	ck_assert_int_eq(try_open(c, "/x", O_RDWR), -ENOENT);
	ck_assert_int_eq(faccessat(fd, "x", F_OK, 0), -1);
	use_kept_directory(fd, c, "kept");
	put(c, "/x", "two");
	/* Of the same inode's number as the temporary one, in another file system. */
	put(c, "/y", "two");
	shmb_disconnect(c);
	restart_with(&fixture, &kept, configs[_i]);
	c = fixture_connect(&fixture);
	use_kept_directory(fd, c, "after");
	expect(c, "/x", "two");
	ck_assert_int_eq(shmb_stat(c, "/y", &info, sizeof(info)), 0);
	ck_assert(!(info.flags & SHMB_INFO_TEMPORARY));
	ck_assert_uint_eq(census_of(&fixture).instances, 2);
	/* Dropped once more it is emptied again, and then nobody has anything in it. */
	drop_own(c);
	ck_assert_int_eq(faccessat(fd, "kept", F_OK, 0), -1);
	close(object);
	await_instances(&fixture, _i == 0);
	ck_assert_int_lt(openat(fd, "late", O_RDWR | O_CREAT | O_CLOEXEC, 0666), 0);
	put(c, "/z", "three");
	shmb_disconnect(c);
	close(fd);
	fixture_stop(&fixture);
	kept_done(&kept);
}
END_TEST

static void is_applying(struct fixture *fixture, void *argument)
{
	*(bool *)argument = server_broker(fixture->server)->store->apply.phase != APPLY_NONE;
}

START_TEST(a_delegated_pool_is_dropped_between_reloads)
{
	static const char before[] = "pools: { own: { size = \"256K\" objects = 16 } }\n"
				     "rules: ( " ALL "delegate = true } )\n";
	static const char after[] = "pools: { own: { size = \"512K\" objects = 16 } }\n"
				    "rules: ( " ALL "delegate = true } )\n";
	static const char without[] = "pools: { host: { path = \"@host@\" } }\n"
				      "rules: ( { name = \"h\" names = \"/*\" allow = \"all\" "
				      "pool = \"host\" } )\n";
	struct fixture fixture;
	bool applying = false;
	struct shmb *c;
	int fd, held, raw;

	NEEDS_TABLE;
	start(&fixture, before);
	c = fixture_connect(&fixture);
	put(c, "/x", "one");
	fixture_configure(&fixture, after);
	raw = raw_greeted(fixture.socket);
	keeper_hold(&fixture);
	ck_assert_int_eq(raw_ask(raw, 2, WIRE_RELOAD, ""), 0);
	while (!applying)
		fixture_call(&fixture, is_applying, &applying);
	ck_assert_int_eq(shmb_raw_call(c, WIRE_DROP, "own", 3, NULL, NULL), -EBUSY);
	keeper_go_on(&fixture);
	while (applying)
		fixture_call(&fixture, is_applying, &applying);
	close(raw);
	/* One that is no longer configured, and then is again, is another, too. */
	put(c, "/x", "two");
	fd = openat(c->delegation.directories.writable, ".", O_RDONLY | O_CLOEXEC);
	held = openat(fd, "x", O_RDONLY | O_CLOEXEC); /* or it is released at once */
	fixture_configure(&fixture, without);
	ck_assert_int_eq(raw_reload(c), 0);
	drop_own(c);
	close(openat(fd, "kept", O_RDWR | O_CREAT | O_CLOEXEC, 0666));
	close(held);
	fixture_configure(&fixture, before);
	ck_assert_int_eq(raw_reload(c), 0);
	ck_assert_int_eq(try_open(c, "/kept", O_RDWR), -ENOENT);
	close(fd);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* Anew: so it comes first, or last, of the notes. */
static void remember_dropped(struct fixture *fixture, void *argument)
{
	struct store *store = server_broker(fixture->server)->store;
	struct instance *i = NULL;

	while ((i = store_each(store, i)))
		if (i->pool->dropped)
			*(int *)argument += instance_remember(store, i) == 0;
}

START_TEST(what_is_sealed_in_a_dropped_pools_place_is_not_the_dropped_ones)
{
	static const char config[] = "pools: { own: { size = \"256K\" objects = 16 } }\n"
				     "rules: ( " ALL "delegate = true } )\n";
	struct kept kept = KEPT_NOTHING;
	struct fixture fixture;
	struct shmb *c;
	int fd, held, count = 0;

	NEEDS_TABLE;
	fixture_start(&fixture, &(struct fixture_how){ .config = config,
						       .is_user = !test_is_root(),
						       .kept = &kept });
	c = fixture_connect(&fixture);
	put(c, "/x", "one");
	fd = openat(c->delegation.directories.writable, ".", O_RDONLY | O_CLOEXEC);
	held = openat(fd, "x", O_RDONLY | O_CLOEXEC); /* or it is released at once */
	drop_own(c);
	use_kept_directory(fd, c, "kept");
	close(held);
	put_sealed(c, "/seal", "sealed");
	expect(c, "/seal", "sealed");
	if (_i == 1) {
		fixture_call(&fixture, remember_dropped, &count);
		ck_assert_int_eq(count, 1);
	}
	shmb_disconnect(c);
	restart_with(&fixture, &kept, config);
	c = fixture_connect(&fixture);
	expect(c, "/seal", "sealed");
	shmb_disconnect(c);
	close(fd);
	fixture_stop(&fixture);
	kept_done(&kept);
}
END_TEST

START_TEST(a_dropped_pool_without_definition_counts_no_more)
{
	static const char before[] =
		"limits: { pools-per-user = 1 }\n"
		"pools: { own: { per = \"user\" size = \"256K\" objects = 16 } }\n"
		"rules: ( " ALL "delegate = true } )\n";
	static const char without[] =
		"limits: { pools-per-user = 1 }\n"
		"pools: { host: { path = \"@host@\" } }\n"
		"rules: ( { name = \"h\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";
	struct fixture fixture;
	struct shmb *c;
	int fd, held;

	NEEDS_TABLE;
	start(&fixture, before);
	c = fixture_connect(&fixture);
	put(c, "/x", "two");
	fd = openat(c->delegation.directories.writable, ".", O_RDONLY | O_CLOEXEC);
	held = openat(fd, "x", O_RDONLY | O_CLOEXEC); /* or it is released at once */
	fixture_configure(&fixture, without);
	ck_assert_int_eq(raw_reload(c), 0);
	drop_own(c);
	close(openat(fd, "kept", O_RDWR | O_CREAT | O_CLOEXEC, 0666));
	close(held);
	fixture_configure(&fixture, before);
	ck_assert_int_eq(raw_reload(c), 0);
	ck_assert_int_eq(try_open(c, "/new", O_RDWR | O_CREAT), 0);
	close(fd);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

TCase *delegate_case_of_drops(void)
{
	TCase *tests = tcase_create("drops");

	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, test_fds_setup, test_fds_teardown);
	tcase_add_test(tests, a_dropped_pool_is_emptied_however_deep);
	tcase_add_loop_test(tests, what_was_delegated_of_a_dropped_pool_is_no_pool_of_the_brokers,
			    0, 2);
	tcase_add_test(tests, a_delegated_pool_is_dropped_between_reloads);
	tcase_add_loop_test(tests, what_is_sealed_in_a_dropped_pools_place_is_not_the_dropped_ones,
			    0, 2);
	tcase_add_test(tests, a_dropped_pool_without_definition_counts_no_more);
	return tests;
}
