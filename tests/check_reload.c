/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reloads: each kind of change, with and without objects in the pool, is made whole or
 * not at all; and what becomes of pools that are no longer configured, or dropped.
 */
#include <sys/stat.h>
#include <sys/vfs.h>

#include "tests/reload_fixture.h"

static uint64_t objects_of_pool(int object)
{
	struct statfs fs;

	ck_assert_int_eq(fstatfs(object, &fs), 0);
	return fs.f_files - 1;
}

START_TEST(limits_change_in_place_or_nothing_does)
{
	static const struct {
		const char *a, *b;
		int error;
		uint64_t size_a, objects_a, size_b;
	} rows[] = {
		/* Up; down to what is in use; each in the one after the other. */
		{ "size = \"4M\" objects = 16", "size = \"2M\" objects = 8", 0, 4 << 20, 16,
		  2 << 20 },
		{ "size = \"512K\" objects = 8", "size = \"1M\" objects = 8", 0, 512 << 10, 8,
		  1 << 20 },
		/* The second is in use: the first, resized already, is as it was. */
		{ "size = \"8M\" objects = 64", "size = \"256K\" objects = 8", -EBUSY, 512 << 10, 8,
		  1 << 20 },
		/* And the other way round. */
		{ "size = \"256K\" objects = 8", "size = \"8M\" objects = 8", -EBUSY, 512 << 10, 8,
		  1 << 20 },
		{ "size = \"1M\" objects = 1", "size = \"8M\" objects = 8", -EBUSY, 512 << 10, 8,
		  1 << 20 },
		{ "size = \"512K\" objects = 2", "size = \"512K\" objects = 2", 0, 512 << 10, 2,
		  512 << 10 },
	};
	struct fixture fixture;
	struct shmb *c;
	int a, b, second;
	char config[1024];

	NEEDS_PRIVATE_POOLS;
	c = begin(&fixture);
	a = make_object(c, "/a-1");
	second = make_object(c, "/a-2");
	b = make_object(c, "/b-1");
	ck_assert_int_eq(posix_fallocate(a, 0, 512 * 1024), 0);
	ck_assert_int_eq(posix_fallocate(b, 0, 512 * 1024), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		snprintf(config, sizeof(config), "pools: { " HOST "a: { %s } b: { %s } }\n" RULES,
			 rows[i].a, rows[i].b);
		fixture_configure(&fixture, config);
		ck_assert_int_eq(raw_reload(c), rows[i].error);
		if (rows[i].error)
			ck_assert_ptr_nonnull(strstr(shmb_reason(c), "uses more than its new"));
		ck_assert_uint_eq(size_of_pool(a), rows[i].size_a);
		ck_assert_uint_eq(objects_of_pool(a), rows[i].objects_a);
		ck_assert_uint_eq(size_of_pool(b), rows[i].size_b);
		ck_assert_int_eq(try_open(c, "/a-1", O_RDWR), 0);
	}
	close(a);
	close(b);
	close(second);
	end(&fixture, c);
}
END_TEST

START_TEST(another_kind_needs_an_empty_pool)
{
	static const char *const rows[] = {
		"size = \"1M\" objects = 8 exec = true",
		"size = \"1M\" objects = 8 mpol = \"local\"",
		"size = \"1M\" objects = 8 huge = \"never\"",
		"size = \"1M\" objects = 8 per = \"user\"",
		"path = \"@host@\"",
	};

	NEEDS_PRIVATE_POOLS;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct fixture fixture;
		struct shmb *c = begin(&fixture);
		int fd = make_object(c, "/a-1"), b = make_object(c, "/b-1");
		char config[1024];

		/* Together with a change that is possible. */
		snprintf(config, sizeof(config),
			 "pools: { " HOST "b: { size = \"2M\" objects = 8 } a: { %s } }\n" RULES,
			 rows[i]);
		fixture_configure(&fixture, config);
		for (int unlinked = 0; unlinked < 2; unlinked++) {
			ck_assert_int_eq(raw_reload(c), -EBUSY);
			ck_assert_ptr_nonnull(strstr(shmb_reason(c), "\"a\" has objects"));
			ck_assert_uint_eq(size_of_pool(b), 1 << 20);
			ck_assert_int_eq(try_open(c, "/a-1", O_RDWR), unlinked ? -ENOENT : 0);
			if (!unlinked)
				ck_assert_int_eq(shmb_unlink(c, "/a-1"), 0);
		}
		close(fd);
		ck_assert_msg(raw_reload(c) == 0, "%s: %s", rows[i], shmb_reason(c));
		ck_assert_uint_eq(size_of_pool(b), 2 << 20);
		/* There, and back again to what it was. */
		fd = make_object(c, "/a-2");
		ck_assert_int_eq(shmb_unlink(c, "/a-2"), 0);
		close(fd);
		fixture_configure(&fixture, BOTH);
		ck_assert_msg(raw_reload(c) == 0, "%s: %s", rows[i], shmb_reason(c));
		ck_assert_int_eq(try_open(c, "/a-3", O_RDWR | O_CREAT), 0);
		close(b);
		end(&fixture, c);
	}
}
END_TEST

START_TEST(a_path_pool_follows_its_directory_unless_something_is_under_way_in_it)
{
	const struct shmb_how unpublished = { .oflag = O_RDWR | O_CREAT,
					      .mode = 0600,
					      .flags = SHMB_UNPUBLISHED };
	const struct shmb_how temporary = { .oflag = O_RDWR | O_CREAT,
					    .mode = 0600,
					    .flags = SHMB_TEMPORARY };
	static const char *const kinds[] = { NULL, "size = \"1M\" objects = 8",
					     "size = \"1M\" objects = 8 per = \"user\"" };
	char other[160], pool[200], config[1024];
	struct fixture fixture;
	struct shmb *c;
	int fd;

	NEEDS_PRIVATE_POOLS;
	c = begin(&fixture);
	snprintf(other, sizeof(other), "%s/other", test_directory());
	ck_assert_int_eq(mkdir(other, 0700), 0);
	ck_assert_int_eq(chmod(other, 01777), 0);
	close(make_object(c, "/host-1"));
	for (size_t i = 0; i < 3; i++) {
		if (kinds[i])
			snprintf(pool, sizeof(pool), "%s", kinds[i]);
		else
			snprintf(pool, sizeof(pool), "path = \"%s\"", other);
		snprintf(config, sizeof(config),
			 "pools: { host: { %s } " POOL_A POOL_B " }\n" RULES, pool);
		fixture_configure(&fixture, config);

		fd = shmb_open_how(c, "/host-u", &unpublished, sizeof(unpublished));
		ck_assert_int_ge(fd, 0);
		ck_assert_int_eq(raw_reload(c), -EBUSY);
		ck_assert_ptr_nonnull(strstr(shmb_reason(c), "unpublished"));
		ck_assert_int_eq(shmb_publish(c, "/host-u", 0), 0);
		ck_assert_int_eq(shmb_unlink(c, "/host-u"), 0);
		close(fd);
		fd = shmb_open_how(c, "/host-t", &temporary, sizeof(temporary));
		ck_assert_int_ge(fd, 0);
		ck_assert_int_eq(raw_reload(c), -EBUSY);
		ck_assert_int_eq(try_open(c, "/host-1", O_RDWR), 0);
		ck_assert_int_eq(shmb_unlink(c, "/host-t"), 0);
		close(fd);

		ck_assert_msg(raw_reload(c) == 0, "%s", shmb_reason(c));
		ck_assert_int_eq(try_open(c, "/host-1", O_RDWR), -ENOENT);
		ck_assert_int_eq(try_open(c, "/host-2", O_RDWR | O_CREAT), 0);
		ck_assert_int_eq(shmb_unlink(c, "/host-2"), 0);
		fixture_configure(&fixture, BOTH);
		ck_assert_msg(raw_reload(c) == 0, "%s", shmb_reason(c));
		ck_assert_int_eq(try_open(c, "/host-1", O_RDWR), 0);
	}
	end(&fixture, c);
}
END_TEST

START_TEST(a_pool_that_is_gone_from_the_file_stays_until_it_is_empty)
{
	struct fixture fixture;
	struct shmb *c;
	int fd;

	NEEDS_PRIVATE_POOLS;
	c = begin(&fixture);
	fd = make_object(c, "/a-1");
	fixture_configure(&fixture, "pools: { " HOST "}\nrules: ( " ALL("host", "host") " )\n");
	ck_assert_int_eq(raw_reload(c), 0);
	/* b was empty and goes; a is closed, its object whole. */
	await_instances(&fixture, 2);
	ck_assert_uint_eq(census_of(&fixture).closed, 1);
	ck_assert_int_eq(try_open(c, "/a-1", O_RDWR), -EACCES);
	ck_assert_int_eq(ftruncate(fd, 8192), 0);
	fixture_configure(&fixture, BOTH);
	ck_assert_int_eq(raw_reload(c), 0);
	ck_assert_uint_eq(census_of(&fixture).closed, 0);
	ck_assert_int_eq(try_open(c, "/a-1", O_RDWR), 0);
	/* Gone again, and dropped while it is open: released after the close. */
	fixture_configure(&fixture, "pools: { " HOST "}\nrules: ( " ALL("host", "host") " )\n");
	ck_assert_int_eq(raw_reload(c), 0);
	ck_assert_int_eq(shmb_raw_call(c, WIRE_DROP, "a", 1, NULL, NULL), 0);
	await_instances(&fixture, 2);
	close(fd);
	await_instances(&fixture, 1);
	ck_assert_uint_eq(census_of(&fixture).pools, 1);
	ck_assert_int_eq(shmb_raw_call(c, WIRE_DROP, "a", 1, NULL, NULL), -ENOENT);
	end(&fixture, c);
}
END_TEST

START_TEST(a_drop_unlinks_all_and_leaves_what_is_open)
{
	const struct shmb_how unpublished = { .oflag = O_RDWR | O_CREAT,
					      .mode = 0600,
					      .flags = SHMB_UNPUBLISHED };
	const struct shmb_how temporary = { .oflag = O_RDWR | O_CREAT,
					    .mode = 0600,
					    .flags = SHMB_TEMPORARY };
	struct fixture fixture;
	int open, nameless, gone;
	struct shmb *c;

	NEEDS_PRIVATE_POOLS;
	c = begin(&fixture);
	open = make_object(c, "/a-1");
	nameless = shmb_open_how(c, "/a-u", &unpublished, sizeof(unpublished));
	gone = shmb_open_how(c, "/a-t", &temporary, sizeof(temporary));
	ck_assert_int_ge(nameless, 0);
	ck_assert_int_ge(gone, 0);
	ck_assert_int_eq(shmb_raw_call(c, WIRE_DROP, "a", 1, NULL, NULL), 0);
	ck_assert_int_eq(try_open(c, "/a-1", O_RDWR), -ENOENT);
	ck_assert_int_eq(try_open(c, "/a-t", O_RDWR), -ENOENT);
	ck_assert_int_eq(ftruncate(open, 4096), 0);
	/* What had no name then may still get one; the pool is as it was. */
	ck_assert_int_eq(shmb_publish(c, "/a-u", 0), 0);
	ck_assert_int_eq(try_open(c, "/a-u", O_RDWR), 0);
	ck_assert_int_eq(shmb_raw_call(c, WIRE_DROP, "host", 4, NULL, NULL), -EOPNOTSUPP);
	ck_assert_int_eq(shmb_raw_call(c, WIRE_DROP, "none", 4, NULL, NULL), -ENOENT);
	close(open);
	close(nameless);
	close(gone);
	end(&fixture, c);
}
END_TEST

START_TEST(a_wrong_file_changes_nothing)
{
	static const struct {
		const char *config;
		mode_t mode;
	} rows[] = {
		{ "pools: {", 0644 },
		{ "pools: { a: { size = \"1M\" } }\n", 0644 },
		{ "pools: { a: { size = \"9M\" objects = 9 } }\nrules: ( { name = \"x\" } )\n",
		  0644 },
		{ "pools: { a: { size = \"9M\" objects = 9 } }\nrules: ( " ALL("b", "none") " )\n",
		  0644 },
		{ "pools: { " HOST "a: { size = \"9M\" objects = 9 } " POOL_B "}\n" RULES, 0666 },
		{ "pools: { " HOST "a: { size = \"9M\" objects = 9 } " POOL_B "}\n" RULES, 0664 },
	};
	struct fixture fixture;
	struct shmb *c;
	int fd;

	NEEDS_PRIVATE_POOLS;
	c = begin(&fixture);
	fd = make_object(c, "/a-1");
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		fixture_configure(&fixture, rows[i].config);
		ck_assert_int_eq(chmod(fixture.config, rows[i].mode), 0);
		ck_assert_msg(raw_reload(c) < 0, "row %zu was taken", i);
		ck_assert_ptr_nonnull(strstr(shmb_reason(c), "shmbroker.conf"));
		ck_assert_uint_eq(size_of_pool(fd), 1 << 20);
		ck_assert_int_eq(try_open(c, "/a-1", O_RDWR), 0);
		ck_assert_int_eq(chmod(fixture.config, 0644), 0);
	}
	close(fd);
	end(&fixture, c);
}
END_TEST

START_TEST(views_of_the_connected_follow)
{
	struct fixture fixture;
	struct shmb *c;

	NEEDS_PRIVATE_POOLS;
	c = begin(&fixture);
	ck_assert_int_eq(try_open(c, "/a-1", O_RDWR | O_CREAT), 0);
	fixture_configure(&fixture, "pools: { " HOST POOL_A POOL_B "}\nrules: ( "
				    "{ name = \"read\" names = \"/a-*\" allow = \"read\" "
				    "pool = \"a\" } )\n");
	ck_assert_int_eq(raw_reload(c), 0);
	ck_assert_int_eq(try_open(c, "/a-1", O_RDONLY), 0);
	ck_assert_int_eq(try_open(c, "/a-1", O_RDWR), -EACCES);
	ck_assert_ptr_nonnull(strstr(shmb_reason(c), "rule \"read\" does not allow write"));
	ck_assert_int_eq(try_open(c, "/b-1", O_RDWR | O_CREAT), -EACCES);
	/* The same name leads elsewhere. */
	fixture_configure(&fixture,
			  "pools: { " HOST POOL_A POOL_B "}\nrules: ( " ALL("a", "b") " )\n");
	ck_assert_int_eq(raw_reload(c), 0);
	ck_assert_int_eq(try_open(c, "/a-1", O_RDONLY), -ENOENT);
	end(&fixture, c);
}
END_TEST

START_TEST(two_reloads_at_once_are_both_answered)
{
	struct asker one, two;
	struct fixture fixture;
	struct shmb *c;
	int fd;

	NEEDS_PRIVATE_POOLS;
	c = begin(&fixture);
	fd = make_object(c, "/a-1");
	fixture_configure(&fixture,
			  "pools: { " HOST "a: { size = \"2M\" objects = 8 } " POOL_B "}\n" RULES);
	keeper_hold(&fixture);
	ask_start(&one, &fixture, NULL);
	await_reloads(&fixture, 1);
	/* What the second one asks for is in the file only now. */
	fixture_configure(&fixture,
			  "pools: { " HOST "a: { size = \"3M\" objects = 8 } " POOL_B "}\n" RULES);
	ask_start(&two, &fixture, NULL);
	await_reloads(&fixture, 2);
	keeper_go_on(&fixture);
	ck_assert_int_eq(ask_end(&one), 0);
	ck_assert_int_eq(ask_end(&two), 0);
	ck_assert_uint_eq(size_of_pool(fd), 3 << 20);
	close(fd);
	end(&fixture, c);
}
END_TEST

START_TEST(a_pool_comes_back_while_it_is_being_released)
{
	static const struct {
		const char *config;
		bool used;
		int error;
	} rows[] = {
		{ BOTH, false, 0 },
		{ BOTH, true, 0 },
		{ "pools: { " HOST "a: { size = \"64K\" objects = 8 } " POOL_B "}\n" RULES, false,
		  0 },
		{ "pools: { " HOST "a: { size = \"64K\" objects = 8 } " POOL_B "}\n" RULES, true,
		  -EBUSY },
		{ "pools: { " HOST "a: { per = \"user\" size = \"1M\" objects = 8 } " POOL_B
		  "}\n" RULES,
		  false, 0 },
		{ "pools: { " HOST "a: { per = \"user\" size = \"1M\" objects = 8 } " POOL_B
		  "}\n" RULES,
		  true, -EBUSY },
	};

	NEEDS_PRIVATE_POOLS;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct fixture fixture;
		struct shmb *c = begin(&fixture);
		struct asker asker;
		int fd = -1;

		if (rows[i].used) {
			fd = make_object(c, "/a-1");
			ck_assert_int_eq(posix_fallocate(fd, 0, 512 * 1024), 0);
		}
		fixture_configure(&fixture,
				  "pools: { " HOST POOL_B "}\nrules: ( " ALL("b", "b") " )\n");
		ck_assert_int_eq(raw_reload(c), 0);
		keeper_hold(&fixture);
		fixture_tick(&fixture, 1000000);
		ck_assert_uint_eq(census_of(&fixture).state[INSTANCE_RELEASING], 1);
		fixture_configure(&fixture, rows[i].config);
		ask_start(&asker, &fixture, NULL);
		/* The first rows need nothing of the keeper. */
		if (i > 1)
			await_reloads(&fixture, 1);
		else
			ck_assert_int_eq(ask_end(&asker), 0);
		keeper_go_on(&fixture);
		if (i > 1)
			ck_assert_int_eq(ask_end(&asker), rows[i].error);
		if (rows[i].error == 0) {
			ck_assert_uint_eq(census_of(&fixture).closed, 0);
			ck_assert_int_eq(try_open(c, "/a-1", O_RDWR | O_CREAT), 0);
		} else {
			ck_assert_uint_eq(census_of(&fixture).closed, 1);
			ck_assert_int_eq(try_open(c, "/a-1", O_RDWR), -EACCES);
		}
		if (fd >= 0)
			close(fd);
		end(&fixture, c);
	}
}
END_TEST

#define PER_USER(how) "pools: { " HOST "a: { per = \"user\" " how " } " POOL_B "}\n" RULES

/* A pool is being made, or released, while its definition changes. */
START_TEST(a_reload_meets_a_pool_that_is_being_made_or_released)
{
	static const struct {
		const char *config;
		bool releasing;
		uint64_t size;
	} rows[] = {
		{ PER_USER("size = \"2M\" objects = 8"), false, 2 << 20 },
		{ PER_USER("size = \"2M\" objects = 8"), true, 2 << 20 },
		{ PER_USER("size = \"3M\" objects = 8 exec = true"), false, 3 << 20 },
		{ PER_USER("size = \"3M\" objects = 8 exec = true"), true, 3 << 20 },
		{ "pools: { " HOST "a: { size = \"3M\" objects = 8 } " POOL_B "}\n" RULES, false,
		  3 << 20 },
		{ "pools: { " HOST "a: { size = \"3M\" objects = 8 } " POOL_B "}\n" RULES, true,
		  3 << 20 },
	};

	NEEDS_PRIVATE_POOLS;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct asker asker, opener;
		struct fixture fixture;
		struct shmb *c;
		int fd;

		fixture_start(&fixture, &(struct fixture_how){
						.config = PER_USER("size = \"1M\" objects = 8"),
						.is_user = !test_is_root() });
		c = fixture_connect(&fixture);
		if (rows[i].releasing) {
			close(make_object(c, "/a-1"));
			ck_assert_int_eq(shmb_unlink(c, "/a-1"), 0);
		}
		keeper_hold(&fixture);
		if (rows[i].releasing)
			fixture_tick(&fixture, 1000000);
		ask_start(&opener, &fixture, "/a-2");
		await_waiters(&fixture, 1);
		fixture_configure(&fixture, rows[i].config);
		ask_start(&asker, &fixture, NULL);
		await_reloads(&fixture, 1);
		keeper_go_on(&fixture);
		ck_assert_int_eq(ask_end(&asker), 0);
		ck_assert_int_eq(ask_end(&opener), 0);
		fd = shmb_open(c, "/a-2", O_RDWR, 0);
		ck_assert_uint_eq(size_of_pool(fd), rows[i].size);
		close(fd);
		end(&fixture, c);
	}
}
END_TEST

/* In the loop's thread: why a pool is not all that it could be. */
static void find_why(struct fixture *fixture, void *argument)
{
	struct store *store = server_broker(fixture->server)->store;
	struct instance *instance = store_pool_by_name(store, "a")->single;

	snprintf(argument, sizeof(instance->why.step), "%s",
		 instance->why.error ? instance->why.step : "");
}

START_TEST(what_was_absent_is_tried_again)
{
	char config[1024], missing[160], why[64];
	struct fixture fixture;
	struct shmb *c;

	snprintf(missing, sizeof(missing), "%s/later", test_directory());
	snprintf(config, sizeof(config),
		 "pools: { " HOST " a: { path = \"%s\" } }\nrules: ( " ALL("a", "a") " )\n",
		 missing);
	fixture_start(&fixture, &(struct fixture_how){ .config = config,
						       .is_user = !test_is_root(),
						       .no_table = true });
	c = fixture_connect(&fixture);
	ck_assert_int_eq(try_open(c, "/a-1", O_RDWR | O_CREAT), -EOPNOTSUPP);
	ck_assert_ptr_nonnull(strstr(shmb_reason(c), missing));
	fixture_call(&fixture, find_why, why);
	ck_assert_str_eq(why, "open of path");
	ck_assert_int_eq(mkdir(missing, 0700), 0);
	ck_assert_int_eq(chmod(missing, 01777), 0);
	ck_assert_int_eq(raw_reload(c), 0);
	ck_assert_int_eq(try_open(c, "/a-1", O_RDWR | O_CREAT), 0);
	/* Nothing, or that its twin can't be had. */
	fixture_call(&fixture, find_why, why);
	ck_assert(*why == 0 || strstr(why, "twin: "));
	end(&fixture, c);
}
END_TEST

Suite *suite_reload(void)
{
	Suite *suite = suite_create("reload");
	TCase *test = tcase_create("reload");

	tcase_set_timeout(test, 120);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, limits_change_in_place_or_nothing_does);
	tcase_add_test(test, another_kind_needs_an_empty_pool);
	tcase_add_test(test, a_path_pool_follows_its_directory_unless_something_is_under_way_in_it);
	tcase_add_test(test, a_pool_that_is_gone_from_the_file_stays_until_it_is_empty);
	tcase_add_test(test, a_drop_unlinks_all_and_leaves_what_is_open);
	tcase_add_test(test, a_wrong_file_changes_nothing);
	tcase_add_test(test, views_of_the_connected_follow);
	tcase_add_test(test, two_reloads_at_once_are_both_answered);
	tcase_add_test(test, a_reload_meets_a_pool_that_is_being_made_or_released);
	tcase_add_test(test, a_pool_comes_back_while_it_is_being_released);
	tcase_add_test(test, what_was_absent_is_tried_again);
	suite_add_tcase(suite, test);
	suite_add_tcase(suite, reload_case_of_refused());
	return suite;
}
