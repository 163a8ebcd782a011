/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pools that are lent as mounts: to whom, and until when they are kept. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "tests/lend_fixture.h"
#include "tests/raw_client.h"

/* --- to whom --- */

static const struct {
	const char *config;
	int error;
	const char *reason; /* of it, a part */
} whose_rules[] = {
	{ one_rule, 0, "" },
	{ RULES("{ name = \"f\" names = \"/f-*\" allow = \"all\" pool = \"frames\" "
		"}, " APPS("")),
	  0, "" },
	{ RULES("{ name = \"n\" names = \"/n-*\" allow = [] }, " APPS("")), 0, "" },
	{ RULES("{ name = \"h\" names = \"/h-*\" allow = \"read\" pool = \"host\" }, " APPS("")), 0,
	  "" },
	{ RULES("{ name = \"r\" names = [ \"/a\", \"/*\" ] allow = \"all\" pool = \"apps\" "
		"sandboxed = true }"),
	  0, "" },
	{ RULES(APPS("log = \"all\"")), 0, "" },
	/* What comes after the rule for all names never counts. */
	{ RULES(APPS("") ", { name = \"l\" names = \"/*\" allow = \"read\" pool = \"apps\" }"), 0,
	  "" },
	{ RULES("{ name = \"a\" names = \"/a-*\" allow = \"all\" pool = \"apps\" }"), -EACCES,
	  "no rule gives this app all names" },
	{ RULES("{ name = \"n\" names = \"/*\" allow = [] sandboxed = true }, " APPS("")), -EACCES,
	  "rule \"n\" does not allow all" },
	/* In other words: there is no empty name. */
	{ RULES("{ name = \"n\" names = \"/?*\" allow = [] sandboxed = true }, " APPS("")), -EACCES,
	  "rule \"n\" does not allow all" },
	{ RULES("{ name = \"n\" names = \"/*?\" allow = [] sandboxed = true }, " APPS("")), -EACCES,
	  "rule \"n\" does not allow all" },
	{ RULES("{ name = \"n\" names = [ \"/a\", \"/**\" ] allow = [] sandboxed = true "
		"}, " APPS("")),
	  -EACCES, "rule \"n\" does not allow all" },
	{ RULES("{ name = \"n\" names = [ \"/?\", \"/??*\", \"/a*\" ] allow = [] }, " APPS("")), 0,
	  "" },
	{ RULES("{ name = \"h\" names = \"/*\" allow = \"all\" pool = \"host\" }, " APPS("")),
	  -EOPNOTSUPP, "rule \"h\" leads to pool \"host\", a directory" },
	{ RULES("{ name = \"f\" names = \"/*\" allow = \"all\" pool = \"frames\" }, " APPS("")),
	  -EACCES, "pool \"frames\", which is not the app's alone" },
	{ RULES("{ name = \"p\" names = \"/*\" allow = \"all\" pool = \"users\" }, " APPS("")),
	  -EACCES, "pool \"users\", which is not the app's alone" },
	{ RULES("{ name = \"x\" names = \"/x-*\" allow = \"read\" pool = \"apps\" }, " APPS("")),
	  -EACCES, "rule \"x\" does not allow all" },
	{ RULES("{ name = \"r\" names = \"/*\" sandboxed = true pool = \"apps\" "
		"allow = [ \"read\", \"write\", \"create\", \"list\" ] }"),
	  -EACCES, "rule \"r\" does not allow all" },
	{ RULES(APPS("max-size = \"64K\"")), -EACCES, "rule \"r\" does not allow all" },
	{ RULES(APPS("mode = \"0600\"")), -EACCES, "rule \"r\" does not allow all" },
	{ RULES(APPS("lifetime = \"process\"")), -EACCES, "rule \"r\" does not allow all" },
	{ RULES(APPS("sealed = true")), -EACCES, "rule \"r\" does not allow all" },
};

START_TEST(only_what_is_wholly_the_apps_is_lent)
{
	struct fixture fixture;
	struct shmb *c;
	struct app app;
	int mount;

	NEEDS_TABLE;
	start(&fixture, one_rule);
	c = fixture_connect(&fixture);
	app_start(&app, &fixture, "org.example.a");
	for (size_t i = 0; i < ROWS(whose_rules); i++) {
		fixture_configure(&fixture, whose_rules[i].config);
		ck_assert_msg(shmb_raw_call(c, WIRE_RELOAD, NULL, 0, NULL, NULL) == 0,
			      "row %zu: %s", i, shmb_reason(c));
		ck_assert_msg(lend(app.c, 0, &mount) == whose_rules[i].error, "row %zu: %s", i,
			      shmb_reason(app.c));
		ck_assert_msg(strstr(shmb_reason(app.c), whose_rules[i].reason) != NULL,
			      "row %zu: %s", i, shmb_reason(app.c));
		ck_assert_int_eq(mount >= 0, whose_rules[i].error == 0);
		if (mount >= 0)
			close(mount);
	}
	shmb_disconnect(c);
	app_end(&app);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(a_loan_is_for_an_app_and_asked_for_in_full)
{
	static const struct {
		uint64_t flags;
		size_t size; /* of the body */
	} rows[] = { { 1, 8 }, { 1ull << 63, 8 }, { 0, 9 } };
	struct fixture fixture;
	struct shmb *c;
	struct app app;
	int mount;

	NEEDS_TABLE;
	start(&fixture, one_rule);
	c = fixture_connect(&fixture);
	ck_assert_int_eq(lend(c, 0, &mount), -EACCES);
	ck_assert_str_eq(shmb_reason(c), "a pool is lent through the socket of a context alone");
	shmb_disconnect(c);
	app_start(&app, &fixture, "org.example.a");
	for (size_t i = 0; i < ROWS(rows); i++) {
		char body[9] = { 0 };

		memcpy(body, &rows[i].flags, sizeof(rows[i].flags));
		ck_assert_int_eq(shmb_raw_call(app.c, WIRE_LEND, body, rows[i].size, NULL, NULL),
				 -EINVAL);
	}
	ck_assert_uint_eq(instances(&fixture), 0);
	close(lent(app.c));
	app_end(&app);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(where_there_is_no_table_nothing_is_lent)
{
	static const struct keeper_fault fault = { "lend", EPERM };
	const struct fixture_how hows[] = {
		{ .config = one_rule, .is_user = !test_is_root(), .no_table = true },
		{ .config = one_rule, .is_user = !test_is_root(), .fault = &fault },
	};
	struct fixture fixture;
	struct app app;
	int mount;

	NEEDS_TABLE;
	for (size_t i = 0; i < ROWS(hows); i++) {
		fixture_start(&fixture, &hows[i]);
		app_start(&app, &fixture, "org.example.a");
		for (int round = 0; round < 2; round++) {
			ck_assert_int_eq(lend(app.c, 0, &mount), -EOPNOTSUPP);
			ck_assert_ptr_nonnull(
				strstr(shmb_reason(app.c), "pool \"apps\" can't be "));
			ck_assert_ptr_nonnull(strstr(shmb_reason(app.c), strerror(EPERM)));
		}
		/* What isn't touched by that is served. */
		if (hows[i].fault)
			ck_assert_int_ge(close(shmb_open(app.c, "/a", O_RDWR | O_CREAT, 0600)), 0);
		app_end(&app);
		fixture_stop(&fixture);
	}
}
END_TEST

START_TEST(many_who_ask_at_once_get_a_mount_each)
{
	enum { CLIENTS = 12 };
	struct {
		struct wire_lend lend;
	} packet = { .lend.request = { .serial = 1, .operation = WIRE_LEND } };
	static struct raw_reply reply;
	int client[CLIENTS], mount[CLIENTS];
	struct fixture fixture;
	struct app app;

	NEEDS_TABLE;
	start(&fixture, one_rule);
	app_start(&app, &fixture, "org.example.a");
	for (size_t i = 0; i < CLIENTS; i++)
		client[i] = raw_greeted(app.socket);
	for (size_t i = 0; i < CLIENTS; i++)
		ck_assert_int_eq(raw_send(client[i], &packet, sizeof(packet), NULL, 0), 0);
	/* One that goes while it waits is nobody's loss. */
	close(client[0]);
	for (size_t i = 1; i < CLIENTS; i++) {
		ck_assert(raw_reply(client[i], &reply));
		ck_assert_int_eq(reply.head.status, 0);
		ck_assert_uint_eq(reply.fds.count, 1);
		mount[i] = fdlist_steal_only(&reply.fds);
	}
	for (size_t i = 1; i < CLIENTS; i++) {
		struct inside inside = { .mount = mount[i] };

		close(client[i]);
		/* Each can be put somewhere once. */
		ck_assert_int_eq(in_sandbox((int (*)(void *))enter, &inside), 0);
		close(mount[i]);
	}
	app_end(&app);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(mounts_that_are_attached_nowhere_are_bounded)
{
	enum { MOST = 16 };
	int mount[MOST], more;
	struct fixture fixture;
	struct app app, same, other;

	NEEDS_TABLE;
	start(&fixture, one_rule);
	app_start(&app, &fixture, "org.example.a");
	app_start(&same, &fixture, "org.example.a");
	app_start(&other, &fixture, "org.example.b");
	for (int i = 0; i < MOST; i++)
		mount[i] = lent(app.c);
	/* The app's, through whichever context it asks. */
	ck_assert_int_eq(lend(app.c, 0, &more), -EDQUOT);
	ck_assert_str_eq(shmb_reason(app.c),
			 "pool \"apps\" can't be lent: too many mounts of it are attached "
			 "nowhere: attach or close them");
	ck_assert_int_eq(lend(same.c, 0, &more), -EDQUOT);
	close(lent(other.c));
	ck_assert_int_ge(close(shmb_open(app.c, "/a", O_RDWR | O_CREAT, 0600)), 0);
	close(mount[0]);
	mount[0] = lent(app.c);
	for (int i = 0; i < MOST; i++)
		close(mount[i]);
	app_end(&other);
	app_end(&same);
	app_end(&app);
	fixture_stop(&fixture);
}
END_TEST

/* --- until when --- */

static int find_full(void)
{
	EXPECT(mknod("a", S_IFREG | 0600, 0) == -1 && errno == ENOSPC);
	EXPECT(mkdir("a", 0700) == -1 && errno == ENOSPC);
	EXPECT(symlink("a", "b") == -1 && errno == ENOSPC);
	EXPECT(open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) == -1 && errno == ENOSPC);
	return 0;
}

static int find_useless(void *argument)
{
	EXPECT(enter(argument) == 0);
	return find_full();
}

/* It can't be put anywhere, and what it is can't be filled. */
static int find_ended(void *argument)
{
	const struct inside *inside = argument;

	EXPECT(sandbox_enter_user(geteuid(), getegid(), CLONE_NEWNS));
	EXPECT(move_mount(inside->mount, "", AT_FDCWD, inside->directory,
			  MOVE_MOUNT_F_EMPTY_PATH) == -1 &&
	       errno == EINVAL);
	EXPECT(fchdir(inside->mount) == 0);
	return find_full();
}

static int find_useful(void *argument)
{
	EXPECT(enter(argument) == 0);
	EXPECT(mknod("a", S_IFREG | 0600, 0) == 0 && unlink("a") == 0);
	return 0;
}

START_TEST(it_is_kept_as_long_as_a_context_that_has_it)
{
	struct inside inside[3];
	struct app one, two, third;
	struct fixture fixture;

	NEEDS_TABLE;
	start(&fixture, one_rule);
	app_start(&one, &fixture, "org.example.a");
	app_start(&two, &fixture, "org.example.a");
	app_start(&third, &fixture, "org.example.a");
	inside[0].mount = lent(one.c);
	inside[1].mount = lent(two.c);
	inside[2].mount = lent(two.c);
	ck_assert_uint_eq(instances(&fixture), 1);
	/* Empty, and nobody is connected: it is the contexts that count. */
	shmb_disconnect(one.c);
	shmb_disconnect(two.c);
	let_time_pass(&fixture);
	ck_assert_uint_eq(instances(&fixture), 1);
	one.c = two.c = NULL;
	app_end(&one);
	let_time_pass(&fixture);
	ck_assert_int_eq(in_sandbox(find_useful, &inside[0]), 0);
	let_time_pass(&fixture);
	ck_assert_uint_eq(instances(&fixture), 1);
	app_end(&two);
	/* One that has not been lent it keeps nothing. */
	expect_released(&fixture);
	ck_assert_int_eq(in_sandbox(find_ended, &inside[1]), 0);
	close(inside[0].mount);
	inside[0].mount = lent(third.c);
	ck_assert_int_eq(in_sandbox(find_useful, &inside[0]), 0);
	ck_assert_int_eq(in_sandbox(find_ended, &inside[2]), 0);
	for (size_t i = 0; i < ROWS(inside); i++)
		close(inside[i].mount);
	app_end(&third);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(a_reload_reaches_what_is_lent)
{
	static const char larger[] =
		"pools: { host: { path = \"@host@\" }\n"
		"         apps: { per = \"app\" size = \"128K\" objects = 16 } }\n"
		"rules: ( " APPS("") ", " UNSANDBOXED " )\n";
	static const char executable[] =
		"pools: { host: { path = \"@host@\" }\n"
		"         apps: { per = \"app\" size = \"128K\" objects = 16 exec = true } }\n"
		"rules: ( " APPS("") ", " UNSANDBOXED " )\n";
	static const char without[] = "pools: { host: { path = \"@host@\" } }\n"
				      "rules: ( " UNSANDBOXED " )\n";
	struct fixture fixture;
	struct statvfs mount;
	struct inside inside;
	struct shmb *c;
	struct app app;

	NEEDS_TABLE;
	start(&fixture, one_rule);
	c = fixture_connect(&fixture);
	app_start(&app, &fixture, "org.example.a");
	inside.mount = lent(app.c);
	fixture_configure(&fixture, larger);
	ck_assert_int_eq(shmb_raw_call(c, WIRE_RELOAD, NULL, 0, NULL, NULL), 0);
	ck_assert_int_eq(fstatvfs(inside.mount, &mount), 0);
	ck_assert_uint_eq(mount.f_blocks * mount.f_frsize, 128 * 1024);
	ck_assert_uint_eq(mount.f_files, 17);
	fixture_configure(&fixture, executable);
	ck_assert_int_eq(shmb_raw_call(c, WIRE_RELOAD, NULL, 0, NULL, NULL), -EBUSY);
	ck_assert_ptr_nonnull(strstr(shmb_reason(c), "the pool \"apps\" of "));
	ck_assert_ptr_nonnull(strstr(shmb_reason(c), " is lent"));
	/* A pool whose definition is gone is kept as long as it is lent. */
	fixture_configure(&fixture, without);
	ck_assert_int_eq(shmb_raw_call(c, WIRE_RELOAD, NULL, 0, NULL, NULL), 0);
	let_time_pass(&fixture);
	ck_assert_uint_eq(instances(&fixture), 1);
	ck_assert_int_eq(in_sandbox(find_useful, &inside), 0);
	close(inside.mount);
	app_end(&app);
	expect_released(&fixture);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

static int make_fifo(void *argument)
{
	EXPECT(enter(argument) == 0);
	EXPECT(mkfifo("fifo", 0600) == 0);
	return 0;
}

/* That others than the broker make names in it is known to the next, too. */
static void expect_lent_before(struct fixture *fixture, int late)
{
	struct inside inside = { .mount = late };
	struct app app;

	app_start(&app, fixture, "org.example.a");
	ck_assert_int_eq(shmb_open(app.c, "/fifo", O_RDWR, 0), -EINVAL);
	ck_assert_int_eq(shmb_unlink(app.c, "/fifo"), 0);
	app_end(&app);
	expect_released(fixture);
	/* Of mounts nothing is noted: it can be put somewhere, and is good for nothing there. */
	ck_assert_int_eq(in_sandbox(find_useless, &inside), 0);
	close(late);
}

START_TEST(a_restart_ends_no_loan)
{
	struct kept kept = KEPT_NOTHING;
	const struct fixture_how how = { .config = one_rule,
					 .is_user = !test_is_root(),
					 .kept = &kept };
	struct app app, second, third;
	struct fixture fixture;
	struct inside inside;
	int late;

	NEEDS_TABLE;
	fixture_start(&fixture, &how);
	app_start(&app, &fixture, "org.example.a");
	app_start(&second, &fixture, "org.example.b");
	inside.mount = lent(app.c);
	app_start(&third, &fixture, "org.example.c");
	close(lent(second.c));
	close(lent(third.c));
	late = lent(app.c);
	ck_assert_uint_eq(instances(&fixture), 3);
	shmb_disconnect(app.c);
	shmb_disconnect(second.c);
	shmb_disconnect(third.c);
	fixture_leave(&fixture);
	/*
	 * Two contexts end while nobody serves: what they were lent is released. Of one the service
	 * manager has noticed it.
	 */
	close(second.hold);
	close(third.hold);
	ck_assert_uint_eq(kept.count, 3);
	kept.context[2].hold = fd_close(kept.context[2].hold);
	fixture_start(&fixture, &how);
	for (int i = 0; i < 60000 && instances(&fixture) > 1; i++) {
		test_moment();
		let_time_pass(&fixture);
	}
	ck_assert_uint_eq(instances(&fixture), 1);
	let_time_pass(&fixture);
	ck_assert_uint_eq(instances(&fixture), 1);
	ck_assert_int_eq(in_sandbox(make_fifo, &inside), 0);
	close(inside.mount);
	fixture_leave(&fixture);

	close(app.hold);
	fixture_start(&fixture, &how);
	expect_lent_before(&fixture, late);
	fixture_stop(&fixture);
	kept_done(&kept);
}
END_TEST

Suite *suite_lend(void)
{
	Suite *suite = suite_create("lend");
	TCase *test = tcase_create("lend");

	tcase_set_timeout(test, 120);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, only_what_is_wholly_the_apps_is_lent);
	tcase_add_test(test, a_loan_is_for_an_app_and_asked_for_in_full);
	tcase_add_test(test, where_there_is_no_table_nothing_is_lent);
	tcase_add_test(test, many_who_ask_at_once_get_a_mount_each);
	tcase_add_test(test, mounts_that_are_attached_nowhere_are_bounded);
	tcase_add_test(test, it_is_kept_as_long_as_a_context_that_has_it);
	tcase_add_test(test, a_reload_reaches_what_is_lent);
	tcase_add_test(test, a_restart_ends_no_loan);
	suite_add_tcase(suite, test);
	suite_add_tcase(suite, lend_case_of_inside());
	suite_add_tcase(suite, lend_case_of_run());
	return suite;
}
