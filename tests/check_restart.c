/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One broker after the other, with what a service manager keeps between: all that has a name goes
 * on, and what can't be had at one start is not lost for the next.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/broker_private.h"
#include "tests/fixture.h"
#include "tests/test.h"

TCase *restart_case_of_notes(void); /* of check_restart_notes.c */

#define NEEDS_TABLE TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools")

#define RULES                                                                                      \
	"rules: ( { name = \"f\" names = \"/f-*\" allow = \"all\" pool = \"frames\" },\n"          \
	"         { name = \"u\" names = \"/u-*\" allow = \"all\" pool = \"users\" },\n"           \
	"         { name = \"app\" sandboxed = true names = \"/x-*\" allow = \"all\" pool = "      \
	"\"apps\" },\n"                                                                            \
	"         { name = \"h\" names = \"/h-*\" allow = \"all\" pool = \"host\" } )\n"
#define OTHERS                                                                                     \
	"         users: { per = \"user\" size = \"64K\" objects = 8 }\n"                          \
	"         apps: { per = \"app\" size = \"64K\" objects = 8 }\n"                            \
	"         host: { path = \"@host@\" access = \"caller\" } }\n"

static const char config[] = "pools: { frames: { size = \"1M\" objects = 16 }\n" OTHERS RULES;
static const char larger[] = "pools: { frames: { size = \"2M\" objects = 16 }\n" OTHERS RULES;
static const char smaller[] = "pools: { frames: { size = \"4K\" objects = 16 }\n" OTHERS RULES;
static const char executable[] =
	"pools: { frames: { size = \"1M\" objects = 16 exec = true }\n" OTHERS RULES;
static const char without[] =
	"pools: {\n" OTHERS
	"rules: ( { name = \"h\" names = \"/h-*\" allow = \"all\" pool = \"host\" } )\n";

static void start(struct fixture *fixture, struct kept *kept, const char *text)
{
	fixture_start(fixture, &(struct fixture_how){
				       .config = text, .is_user = !test_is_root(), .kept = kept });
}

static void put(struct shmb *c, const char *name)
{
	int fd = shmb_open(c, name, O_RDWR | O_CREAT | O_EXCL, 0600);

	ck_assert_msg(fd >= 0, "%s: %s", name, shmb_reason(c));
	ck_assert_int_eq(write(fd, name, strlen(name)), (ssize_t)strlen(name));
	close(fd);
}

static void expect(struct shmb *c, const char *name)
{
	int fd = shmb_open(c, name, O_RDONLY, 0);
	char text[64] = "";

	ck_assert_msg(fd >= 0, "%s: %s", name, shmb_reason(c));
	ck_assert_int_ge(read(fd, text, sizeof(text) - 1), 0);
	ck_assert_str_eq(text, name);
	close(fd);
}

static bool is_there(struct shmb *c, const char *name)
{
	struct shmb_info info;
	int r = shmb_stat(c, name, &info, sizeof(info));

	ck_assert_msg(r == 0 || r == -ENOENT || r == -EACCES, "%s: %s", name, shmb_reason(c));
	return r == 0;
}

/* In the loop's thread. */
static void count_instances(struct fixture *fixture, void *argument)
{
	struct store *store = server_broker(fixture->server)->store;
	unsigned *count = argument;

	*count = 0;
	for (struct instance *i = store_next(store, 0); i; i = store_next(store, i->number))
		*count += i->pool->config.kind == POOL_MADE;
}

static unsigned instances(struct fixture *fixture)
{
	unsigned count;

	fixture_call(fixture, count_instances, &count);
	return count;
}

START_TEST(pools_go_on_with_their_objects_whatever_is_configured_by_then)
{
	static const struct {
		const char *config;
		bool is_served;
	} rows[] = {
		{ config, true },     { larger, true },	  { smaller, true },
		{ executable, true }, { without, false }, { config, true },
	};
	struct kept kept = KEPT_NOTHING;
	struct fixture fixture;
	struct shmb *c;

	NEEDS_TABLE;
	start(&fixture, &kept, config);
	c = fixture_connect(&fixture);
	put(c, "/f-1");
	put(c, "/f-2");
	put(c, "/u-1");
	shmb_disconnect(c);
	fixture_leave(&fixture);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		start(&fixture, &kept, rows[i].config);
		c = fixture_connect(&fixture);
		ck_assert_uint_eq(instances(&fixture), 2);
		if (rows[i].is_served) {
			expect(c, "/f-1");
			expect(c, "/f-2");
			expect(c, "/u-1");
		} else {
			ck_assert(!is_there(c, "/f-1"));
		}
		shmb_disconnect(c);
		fixture_leave(&fixture);
	}
	/* A pool that nobody needs any more is gone for the next, too. */
	start(&fixture, &kept, config);
	c = fixture_connect(&fixture);
	ck_assert_int_eq(shmb_unlink(c, "/u-1"), 0);
	shmb_disconnect(c);
	fixture_tick(&fixture, 100000);
	while (instances(&fixture) > 1)
		test_moment();
	fixture_leave(&fixture);
	start(&fixture, &kept, config);
	ck_assert_uint_eq(instances(&fixture), 1);
	fixture_stop(&fixture);
	kept_done(&kept);
}
END_TEST

START_TEST(contexts_go_on_until_nobody_holds_them)
{
	const struct shmb_context how = { .app = "org.example.one" };
	struct kept kept = KEPT_NOTHING;
	char directory[2][128], path[160];
	struct fixture fixture;
	int hold[2];
	struct shmb *c;

	NEEDS_TABLE;
	start(&fixture, &kept, config);
	TEST_NEEDS(fixture.setup.contexts, "no ACLs here");
	c = fixture_connect(&fixture);
	for (int i = 0; i < 2; i++) {
		hold[i] = shmb_create_context(c, &how, sizeof(how), directory[i], 128);
		ck_assert_msg(hold[i] >= 0, "%s", shmb_reason(c));
	}
	shmb_disconnect(c);
	ck_assert_uint_eq(kept.count, 2);
	fixture_leave(&fixture);

	/* One ends while nobody is there. */
	close(hold[0]);
	start(&fixture, &kept, config);
	snprintf(path, sizeof(path), "%s/socket", directory[1]);
	ck_assert_int_eq(shmb_connect(&c, path), 0);
	put(c, "/x-1");
	while (access(directory[0], F_OK) == 0)
		poll(NULL, 0, 10);
	ck_assert_int_eq(access(directory[1], F_OK), 0);
	shmb_disconnect(c);
	fixture_leave(&fixture);
	ck_assert_uint_eq(kept.count, 1);

	/* Its hold was lost: it has ended. */
	kept.context[0].hold = (close(kept.context[0].hold), -EBADF);
	start(&fixture, &kept, config);
	ck_assert_int_ne(access(directory[1], F_OK), 0);
	ck_assert_uint_eq(kept.count, 0);
	close(hold[1]);
	fixture_stop(&fixture);
	kept_done(&kept);
}
END_TEST

/* In a child, which says so and then waits to be ended. */
static int make_temporaries(const char *socket, unsigned count, int ready)
{
	struct shmb_how how = { .oflag = O_RDWR | O_CREAT, .mode = 0600, .flags = SHMB_TEMPORARY };
	char name[256];
	struct shmb *c;

	if (shmb_connect(&c, socket) < 0)
		return 1;
	for (unsigned i = 0; i < count; i++) {
		int fd;

		/* As long as names are: each note takes a page. */
		snprintf(name, sizeof(name), "/h-%0200u", i);
		fd = shmb_open_how(c, name, &how, sizeof(how));
		if (fd < 0)
			return 2;
		close(fd);
	}
	shmb_disconnect(c);
	if (write(ready, "", 1) != 1)
		return 3;
	pause();
	return 0;
}

static pid_t start_maker(const struct fixture *fixture, unsigned count)
{
	int ready[2];
	char byte;
	pid_t pid;

	ck_assert_int_eq(pipe2(ready, O_CLOEXEC), 0);
	fflush(NULL);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	/* What it keeps of the broker's would keep the broker's helpers. */
	if (pid == 0)
		_exit(dup2(ready[1], 3) < 0 || close_range(4, ~0U, 0) < 0
			      ? 4
			      : make_temporaries(fixture->socket, count, 3));
	close(ready[1]);
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

static void end_maker(pid_t pid)
{
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

static int count_one(const struct shmb_info *info, void *userdata)
{
	ck_assert(info->flags & SHMB_INFO_TEMPORARY);
	++*(unsigned *)userdata;
	return 0;
}

static unsigned temporaries(struct fixture *fixture)
{
	struct shmb *c = fixture_connect(fixture);
	unsigned count = 0;

	ck_assert_int_eq(shmb_list(c, "h-*", sizeof(struct shmb_info), count_one, &count), 0);
	shmb_disconnect(c);
	return count;
}

START_TEST(temporary_names_go_with_their_makers_over_a_restart)
{
	struct kept kept = KEPT_NOTHING;
	struct fixture fixture;
	pid_t first, second;

	NEEDS_TABLE;
	start(&fixture, &kept, config);
	first = start_maker(&fixture, 3);
	fixture_leave(&fixture);
	start(&fixture, &kept, config);
	ck_assert_uint_eq(temporaries(&fixture), 3);
	end_maker(first);
	while (temporaries(&fixture) > 0)
		test_moment();
	second = start_maker(&fixture, 2);
	fixture_leave(&fixture);
	/* Who ended while nobody was there. */
	end_maker(second);
	start(&fixture, &kept, config);
	while (temporaries(&fixture) > 0)
		test_moment();
	second = start_maker(&fixture, 2);
	/* A stop takes them along, whoever lives. */
	fixture_stop(&fixture);
	kept_done(&kept);
	kept = KEPT_NOTHING;
	start(&fixture, &kept, config);
	ck_assert_uint_eq(temporaries(&fixture), 0);
	end_maker(second);
	fixture_stop(&fixture);
	kept_done(&kept);
}
END_TEST

START_TEST(many_temporary_names_take_no_room_from_pools_and_contexts)
{
	const struct shmb_context how = {
		.app = "org.example.with-a-long-name-that-takes-a-page-of-"
		       "its-own-when-it-is-noted-beside-the-groups-of-its-"
		       "maker.and-more"
	};
	struct kept kept = KEPT_NOTHING;
	struct fixture fixture;
	char directory[128];
	pid_t maker;
	struct shmb *c;
	int hold;

	NEEDS_TABLE;
	start(&fixture, &kept, config);
	maker = start_maker(&fixture, 600);
	c = fixture_connect(&fixture);
	put(c, "/u-1");
	put(c, "/f-1");
	hold = fixture.setup.contexts
		       ? shmb_create_context(c, &how, sizeof(how), directory, sizeof(directory))
		       : -1;
	ck_assert_msg(hold >= 0 || !fixture.setup.contexts, "%s", shmb_reason(c));
	shmb_disconnect(c);
	fixture_leave(&fixture);
	start(&fixture, &kept, config);
	ck_assert_uint_eq(temporaries(&fixture), 600);
	c = fixture_connect(&fixture);
	expect(c, "/u-1");
	expect(c, "/f-1");
	shmb_disconnect(c);
	end_maker(maker);
	while (temporaries(&fixture) > 0)
		test_moment();
	close(hold);
	fixture_stop(&fixture);
	kept_done(&kept);
}
END_TEST

/* Nothing is lost by it, and the next one has enough. */
START_TEST(a_start_without_enough_descriptors_fails_and_the_next_has_all)
{
	struct kept kept = KEPT_NOTHING;
	struct rlimit limit, few;
	struct fixture fixture;
	char name[32], list[4096] = "pools: {\n", rules[8192] = "rules: (\n";
	char whole[sizeof(list) + sizeof(rules) + 8];
	struct shmb *c;

	NEEDS_TABLE;
	for (int i = 0; i < 60; i++) {
		sprintf(list + strlen(list), "p%d: { size = \"64K\" objects = 4 }\n", i);
		sprintf(rules + strlen(rules),
			"%s{ name = \"r%d\" names = \"/p%d-*\" allow = \"all\" pool = \"p%d\" }\n",
			i ? "," : "", i, i, i);
	}
	snprintf(whole, sizeof(whole), "%s}\n%s)\n", list, rules);
	start(&fixture, &kept, whole);
	c = fixture_connect(&fixture);
	for (int i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "/p%d-x", i);
		put(c, name);
	}
	shmb_disconnect(c);
	fixture_leave(&fixture);

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	few = limit;
	few.rlim_cur = 90;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	ck_assert(!fixture_try_start(&fixture, &(struct fixture_how){ .config = whole,
								      .is_user = !test_is_root(),
								      .kept = &kept }));
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	start(&fixture, &kept, whole);
	ck_assert_uint_eq(instances(&fixture), 60);
	c = fixture_connect(&fixture);
	for (int i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "/p%d-x", i);
		expect(c, name);
	}
	shmb_disconnect(c);
	fixture_stop(&fixture);
	kept_done(&kept);
}
END_TEST

/* As if the table could not be entered: nothing is served from it, and nothing of it is lost. */
START_TEST(a_table_that_can_not_be_entered_once_is_there_the_next_time)
{
	static const struct keeper_fault no_way = { "setns", EPERM };
	const struct shmb_context how = { .app = "org.example.one" };
	struct kept kept = KEPT_NOTHING;
	struct fixture fixture;
	char directory[128], path[160];
	struct shmb *c;
	int hold = -1;

	NEEDS_TABLE;
	start(&fixture, &kept, config);
	c = fixture_connect(&fixture);
	put(c, "/f-1");
	if (fixture.setup.contexts)
		hold = shmb_create_context(c, &how, sizeof(how), directory, sizeof(directory));
	shmb_disconnect(c);
	fixture_leave(&fixture);
	fixture_start(&fixture, &(struct fixture_how){ .config = config,
						       .is_user = !test_is_root(),
						       .fault = &no_way,
						       .kept = &kept });
	c = fixture_connect(&fixture);
	ck_assert_int_eq(shmb_open(c, "/f-1", O_RDONLY, 0), -EOPNOTSUPP);
	shmb_disconnect(c);
	fixture_leave(&fixture);
	start(&fixture, &kept, config);
	c = fixture_connect(&fixture);
	expect(c, "/f-1");
	shmb_disconnect(c);
	if (hold >= 0) {
		snprintf(path, sizeof(path), "%s/socket", directory);
		ck_assert_int_eq(shmb_connect(&c, path), 0);
		put(c, "/x-1");
		shmb_disconnect(c);
		close(hold);
	}
	fixture_stop(&fixture);
	kept_done(&kept);
}
END_TEST

static void forget_first(struct fixture *fixture, void *argument)
{
	struct instance *first = store_next(server_broker(fixture->server)->store, 0);

	(void)argument;
	state_remove(&fixture->state, STATE_POOL, first->number);
}

/* One that nobody knows of any more, in the way of a new one. */
START_TEST(a_number_that_is_taken_is_passed_over)
{
	struct kept kept = KEPT_NOTHING;
	struct fixture fixture;
	struct shmb *c;

	NEEDS_TABLE;
	start(&fixture, &kept, config);
	fixture_call(&fixture, forget_first, NULL);
	fixture_leave(&fixture);
	start(&fixture, &kept, config);
	c = fixture_connect(&fixture);
	put(c, "/f-1");
	put(c, "/u-1");
	shmb_disconnect(c);
	fixture_leave(&fixture);
	start(&fixture, &kept, config);
	c = fixture_connect(&fixture);
	expect(c, "/f-1");
	expect(c, "/u-1");
	shmb_disconnect(c);
	fixture_stop(&fixture);
	kept_done(&kept);
}
END_TEST

Suite *suite_restart(void)
{
	Suite *suite = suite_create("restart");
	TCase *test = tcase_create("restart");

	tcase_set_timeout(test, 120);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, pools_go_on_with_their_objects_whatever_is_configured_by_then);
	tcase_add_test(test, contexts_go_on_until_nobody_holds_them);
	tcase_add_test(test, temporary_names_go_with_their_makers_over_a_restart);
	tcase_add_test(test, many_temporary_names_take_no_room_from_pools_and_contexts);
	tcase_add_test(test, a_start_without_enough_descriptors_fails_and_the_next_has_all);
	tcase_add_test(test, a_table_that_can_not_be_entered_once_is_there_the_next_time);
	tcase_add_test(test, a_number_that_is_taken_is_passed_over);
	suite_add_tcase(suite, test);
	suite_add_tcase(suite, restart_case_of_notes());
	return suite;
}
