/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reloads that are refused once something has been begun for them, those of pools that aren't
 * there, and those that meet several instances of one pool. A case of the suite "reload".
 */
#include <sys/stat.h>

#include "tests/reload_fixture.h"

/* In the loop's thread: of how many instances it is said how full they are. */
static void count_looked_at(struct fixture *fixture, void *argument)
{
	uint64_t objects;

	*(unsigned *)argument = store_look(server_broker(fixture->server)->store, &objects);
}

static struct shmb *begin_with(struct fixture *fixture, const struct keeper_fault *fault,
			       const char *config)
{
	fixture_start(fixture, &(struct fixture_how){ .config = config,
						      .is_user = !test_is_root(),
						      .fault = fault });
	return fixture_connect(fixture);
}

/* Asked for, and asked to take it back: both are told. */
START_TEST(what_the_keeper_can_not_do_is_said_and_nothing_has_changed)
{
	static const struct keeper_fault fault = { "fspick", EPERM };
	struct fixture fixture;
	struct heard heard;
	struct shmb *c;
	char *log;
	int fd;

	NEEDS_PRIVATE_POOLS;
	hear_begin(&heard);
	c = begin_with(&fixture, &fault, BOTH);
	fd = make_object(c, "/a-1");
	fixture_configure(&fixture,
			  "pools: { " HOST "a: { size = \"2M\" objects = 8 } " POOL_B "}\n" RULES);
	ck_assert_int_eq(raw_reload(c), -EACCES);
	ck_assert_ptr_nonnull(strstr(shmb_reason(c), "\"a\" can't be changed: fspick"));
	ck_assert_uint_eq(size_of_pool(fd), 1 << 20);
	ck_assert_int_eq(try_open(c, "/a-1", O_RDWR), 0);
	close(fd);
	end(&fixture, c);
	log = hear_end(&heard);
	ck_assert_msg(lines_with(log, "pool \"a\" keeps its limits for now", "fspick") == 1, "%s",
		      log);
	free(log);
}
END_TEST

START_TEST(a_pool_that_can_not_be_released_goes_on)
{
	static const struct keeper_fault fault = { "fspick", EPERM };
	struct fixture fixture;
	struct heard heard;
	struct shmb *c;
	char *log;

	NEEDS_PRIVATE_POOLS;
	hear_begin(&heard);
	c = begin_with(&fixture, &fault,
		       "pools: { a: { per = \"user\" size = \"1M\" objects = 8 } }\n"
		       "rules: ( " ALL("a", "a") " )\n");
	close(make_object(c, "/a-1"));
	ck_assert_int_eq(shmb_unlink(c, "/a-1"), 0);
	fixture_tick(&fixture, 1000000);
	while (census_of(&fixture).state[INSTANCE_RELEASING] > 0)
		test_moment();
	ck_assert_uint_eq(census_of(&fixture).state[INSTANCE_READY], 1);
	ck_assert_int_eq(try_open(c, "/a-1", O_RDWR | O_CREAT), 0);
	end(&fixture, c);
	log = hear_end(&heard);
	ck_assert_msg(lines_with(log, "can't be released", "fspick") == 1, "%s", log);
	free(log);
}
END_TEST

/* A directory was held back, a pool is new, and then the others turn out to be in use. */
START_TEST(whatever_was_begun_is_taken_back)
{
	char other[160], config[1024];
	struct fixture fixture;
	struct shmb *c;
	int a, b;

	NEEDS_PRIVATE_POOLS;
	c = begin(&fixture);
	snprintf(other, sizeof(other), "%s/other", test_directory());
	ck_assert(mkdir(other, 0700) == 0 && chmod(other, 01777) == 0);
	close(make_object(c, "/host-1"));
	a = make_object(c, "/a-1");
	b = make_object(c, "/b-1");
	snprintf(config, sizeof(config),
		 "pools: { host: { path = \"%s\" } new: { size = \"1M\" objects = 8 }\n"
		 "a: { size = \"1M\" objects = 8 exec = true }\n"
		 "b: { size = \"1M\" objects = 8 exec = true } }\n" RULES,
		 other);
	fixture_configure(&fixture, config);
	ck_assert_int_eq(raw_reload(c), -EBUSY);
	/* The first is the one that is told. */
	ck_assert_ptr_nonnull(strstr(shmb_reason(c), "\"a\" has objects"));
	ck_assert_int_eq(try_open(c, "/host-1", O_RDWR), 0);
	ck_assert_int_eq(try_open(c, "/a-1", O_RDWR), 0);
	/* The new one goes at the next tick. */
	await_instances(&fixture, 3);
	ck_assert_uint_eq(census_of(&fixture).pools, 3);
	close(a);
	close(b);
	end(&fixture, c);
}
END_TEST

/* Nobody configures it, and what it was waited for as another kind did not come to be. */
START_TEST(a_pool_that_was_closed_is_gone_after_a_refused_change)
{
	static const char without[] = "pools: { " HOST POOL_B "}\nrules: ( " ALL("b", "b") " )\n";
	struct fixture fixture;
	struct shmb *c;
	int a, b;

	NEEDS_PRIVATE_POOLS;
	c = begin_with(&fixture, NULL,
		       "pools: { " HOST "a: { per = \"user\" size = \"1M\" objects = 8 } " POOL_B
		       "}\n" RULES);
	a = make_object(c, "/a-1");
	b = make_object(c, "/b-1");
	fixture_configure(&fixture, without);
	ck_assert_int_eq(raw_reload(c), 0);
	ck_assert_uint_eq(census_of(&fixture).closed, 1);
	ck_assert_int_eq(shmb_raw_call(c, WIRE_DROP, "a", 1, NULL, NULL), 0);
	while (census_of(&fixture).state[INSTANCE_RELEASING] > 0)
		test_moment();
	close(a);
	fixture_configure(&fixture, "pools: { " HOST
				    "a: { per = \"user\" size = \"1M\" objects = 8 exec = true }\n"
				    "b: { size = \"1M\" objects = 8 exec = true } }\n" RULES);
	ck_assert_int_eq(raw_reload(c), -EBUSY);
	ck_assert_ptr_nonnull(strstr(shmb_reason(c), "\"b\" has objects"));
	ck_assert_uint_eq(census_of(&fixture).pools, 2);
	ck_assert_int_eq(try_open(c, "/b-1", O_RDWR), 0);
	close(b);
	end(&fixture, c);
}
END_TEST

/* There is nothing of it that could be in the way. */
START_TEST(a_pool_that_is_not_there_takes_any_definition)
{
	struct fixture fixture;
	unsigned looked_at;
	struct shmb *c;

	fixture_start(&fixture, &(struct fixture_how){ .config = BOTH,
						       .is_user = !test_is_root(),
						       .no_table = true });
	c = fixture_connect(&fixture);
	ck_assert_int_eq(try_open(c, "/a-1", O_RDWR | O_CREAT), -EOPNOTSUPP);
	fixture_configure(&fixture,
			  "pools: { " HOST "a: { size = \"2M\" objects = 8 } " POOL_B "}\n" RULES);
	ck_assert_int_eq(raw_reload(c), 0);
	ck_assert_int_eq(try_open(c, "/a-1", O_RDWR | O_CREAT), -EOPNOTSUPP);
	ck_assert_int_eq(shmb_raw_call(c, WIRE_DROP, "a", 1, NULL, NULL), 0);
	fixture_call(&fixture, count_looked_at, &looked_at);
	/* The directory alone. */
	ck_assert_uint_eq(looked_at, 1);
	fixture_configure(&fixture,
			  "pools: { " HOST "a: { path = \"@host@\" } " POOL_B "}\n" RULES);
	ck_assert_int_eq(raw_reload(c), 0);
	ck_assert_int_eq(try_open(c, "/a-1", O_RDWR | O_CREAT), 0);
	end(&fixture, c);
}
END_TEST

#define PER_APP(how) "pools: { " HOST "a: { per = \"app\" " how " } " POOL_B "}\n" RULES

/* Two apps, each with a context of its own. */
struct apps {
	int hold[2];
	char socket[2][160];
};

static void apps_begin(struct apps *apps, struct shmb *c)
{
	static const char *const ids[] = { "org.example.a", "org.example.b" };

	for (size_t i = 0; i < 2; i++) {
		const struct shmb_context how = { .app = ids[i] };
		char directory[128];

		apps->hold[i] = shmb_create_context(c, &how, sizeof(how), directory,
						    sizeof(directory));
		ck_assert_msg(apps->hold[i] >= 0, "%s", shmb_reason(c));
		snprintf(apps->socket[i], sizeof(apps->socket[i]), "%s/socket", directory);
	}
}

static void apps_end(struct apps *apps)
{
	close(apps->hold[0]);
	close(apps->hold[1]);
}

static void apply_again(struct fixture *fixture, void *argument)
{
	static const struct config nothing;

	*(int *)argument = store_apply(server_broker(fixture->server)->store, &nothing, false);
}

START_TEST(a_reload_waits_for_each_instance_that_is_being_made)
{
	struct asker openers[2], reload;
	struct fixture fixture;
	struct apps apps;
	struct shmb *c;
	int result;

	NEEDS_PRIVATE_POOLS;
	c = begin_with(&fixture, NULL, PER_APP("size = \"1M\" objects = 8"));
	TEST_NEEDS(fixture.setup.contexts, "no ACLs here");
	apps_begin(&apps, c);
	keeper_hold(&fixture);
	for (unsigned i = 0; i < 2; i++) {
		ask_through(&openers[i], apps.socket[i], "/a-1");
		await_waiters(&fixture, i + 1);
	}
	fixture_configure(&fixture, PER_APP("size = \"2M\" objects = 8"));
	ask_start(&reload, &fixture, NULL);
	await_reloads(&fixture, 1);
	/* Another can't come between. */
	fixture_call(&fixture, apply_again, &result);
	ck_assert_int_eq(result, -EBUSY);
	keeper_go_on(&fixture);
	ck_assert_int_eq(ask_end(&reload), 0);
	for (size_t i = 0; i < 2; i++)
		ck_assert_int_eq(ask_end(&openers[i]), 0);
	apps_end(&apps);
	end(&fixture, c);
}
END_TEST

/* Of which kind it will be nobody knows yet. */
START_TEST(who_comes_while_a_kind_changes_gets_the_new_one)
{
	struct asker opener, reload;
	struct fixture fixture;
	struct apps apps;
	struct shmb *c, *through;

	NEEDS_PRIVATE_POOLS;
	c = begin_with(&fixture, NULL, PER_APP("size = \"1M\" objects = 8"));
	TEST_NEEDS(fixture.setup.contexts, "no ACLs here");
	apps_begin(&apps, c);
	ck_assert_int_eq(shmb_connect(&through, apps.socket[0]), 0);
	close(make_object(through, "/a-1"));
	ck_assert_int_eq(shmb_unlink(through, "/a-1"), 0);
	keeper_hold(&fixture);
	fixture_configure(&fixture, PER_APP("size = \"2M\" objects = 8 exec = true"));
	ask_start(&reload, &fixture, NULL);
	await_reloads(&fixture, 1);
	ask_through(&opener, apps.socket[1], "/a-1");
	await_waiters(&fixture, 1);
	ck_assert_uint_eq(census_of(&fixture).state[INSTANCE_EMPTY], 1);
	keeper_go_on(&fixture);
	ck_assert_int_eq(ask_end(&reload), 0);
	ck_assert_int_eq(ask_end(&opener), 0);
	shmb_disconnect(through);
	apps_end(&apps);
	end(&fixture, c);
}
END_TEST

START_TEST(a_broker_ends_in_the_middle_of_a_reload)
{
	struct asker reload;
	struct fixture fixture;
	struct shmb *c;
	int fd;

	NEEDS_PRIVATE_POOLS;
	c = begin(&fixture);
	fd = make_object(c, "/a-1");
	fixture_configure(&fixture,
			  "pools: { " HOST "a: { size = \"2M\" objects = 8 } " POOL_B "}\n" RULES);
	keeper_hold(&fixture);
	ask_start(&reload, &fixture, NULL);
	await_reloads(&fixture, 1);
	close(fd);
	end(&fixture, c);
	ck_assert_int_eq(ask_end(&reload), -ECONNRESET);
}
END_TEST

TCase *reload_case_of_refused(void)
{
	TCase *test = tcase_create("refused");

	tcase_set_timeout(test, 120);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, what_the_keeper_can_not_do_is_said_and_nothing_has_changed);
	tcase_add_test(test, a_pool_that_can_not_be_released_goes_on);
	tcase_add_test(test, whatever_was_begun_is_taken_back);
	tcase_add_test(test, a_pool_that_was_closed_is_gone_after_a_refused_change);
	tcase_add_test(test, a_pool_that_is_not_there_takes_any_definition);
	tcase_add_test(test, a_reload_waits_for_each_instance_that_is_being_made);
	tcase_add_test(test, who_comes_while_a_kind_changes_gets_the_new_one);
	tcase_add_test(test, a_broker_ends_in_the_middle_of_a_reload);
	return test;
}
