/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Contexts and sandboxes: who is which app, who is sandboxed at all, what ends with whom.
 * The clients are real: this program again, in namespaces and under bubblewrap.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "daemon/broker_private.h"
#include "tests/fixture.h"
#include "tests/sandbox.h"
#include "tests/test.h"

#define ROWS(rows) (sizeof(rows) / sizeof(*(rows)))

static const char as_shipped[] = "pools: { host: { path = \"@host@\" access = \"caller\" }\n"
				 "         apps: { per = \"app\" size = \"256K\" objects = 16 } }\n"
				 "rules: ( { name = \"apps\" sandboxed = true names = \"/*\" allow "
				 "= \"all\" pool = \"apps\" },\n"
				 "         { name = \"users\" sandboxed = false names = \"/*\" "
				 "allow = \"all\" pool = \"host\" } )\n";

/* A client in one place, connected to `socket`. */
static void enter(struct sandbox *ret, enum sandbox_kind kind, uid_t uid, const char *visible,
		  const char *socket)
{
	sandbox_start(ret, &(struct sandbox_how){ kind, uid, { visible } });
	ck_assert_int_eq(sandbox_ask(ret, "connect %s", socket), 0);
}

static int look(void *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? 0 : errno;
}

START_TEST(a_contexts_directory_is_its_makers_alone)
{
	static const struct {
		const char *below; /* of the context's directory */
		mode_t mode;
	} rows[] = { { "..", 0710 }, { ".", 0755 }, { "socket", 0666 } };
	char path[400], acl[128];
	struct fixture fixture;
	struct sandbox maker;
	struct stat st;

	TEST_NEEDS(test_is_root(), "other users take root");
	fixture_start(&fixture, &(struct fixture_how){ .config = as_shipped, .no_table = true });
	enter(&maker, SANDBOX_NONE, 1000, NULL, fixture.socket);
	ck_assert_int_eq(sandbox_ask(&maker, "context org.example.one"), 0);
	for (size_t i = 0; i < ROWS(rows); i++) {
		snprintf(path, sizeof(path), "%.300s/%s", maker.text, rows[i].below);
		ck_assert_int_eq(stat(path, &st), 0);
		ck_assert_uint_eq(st.st_mode & 07777, rows[i].mode);
		ck_assert_uint_eq(st.st_uid, 0);
	}
	/* A version, and five entries: owner, one user, group, mask, others. */
	snprintf(path, sizeof(path), "%.300s/..", maker.text);
	ck_assert_int_eq(getxattr(path, "system.posix_acl_access", acl, sizeof(acl)), 4 + 5 * 8);
	snprintf(path, sizeof(path), "%.300s/socket", maker.text);
	ck_assert_int_eq(test_run_as(1000, 1000, NULL, 0, look, path), 0);
	ck_assert_int_eq(test_run_as(1001, 1000, NULL, 0, look, path), EACCES);
	ck_assert_int_eq(test_run_as(1001, 0, NULL, 0, look, path), EACCES);
	sandbox_kill(&maker);
	while (access(path, F_OK) == 0)
		test_moment();
	fixture_stop(&fixture);
}
END_TEST

START_TEST(a_sandbox_is_its_app_and_no_other)
{
	struct sandbox maker, one, two, third;
	char directory[2][128], path[160];
	struct fixture fixture;

	TEST_NEEDS(test_is_root(), "other users take root");
	TEST_NEEDS(test_has_namespaces() && sandbox_has_bwrap(), "no bubblewrap here");
	fixture_start(&fixture, &(struct fixture_how){ .config = as_shipped });
	enter(&maker, SANDBOX_NONE, 1000, NULL, fixture.socket);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(sandbox_ask(&maker, "context org.example.%d", i), 0);
		snprintf(directory[i], sizeof(directory[i]), "%.127s", maker.text);
	}
	snprintf(path, sizeof(path), "%s/socket", directory[0]);
	enter(&one, SANDBOX_BWRAP, 1000, directory[0], path);
	enter(&third, SANDBOX_BWRAP, 1000, directory[0], path);
	snprintf(path, sizeof(path), "%s/socket", directory[1]);
	enter(&two, SANDBOX_BWRAP, 1000, directory[1], path);

	ck_assert_int_eq(sandbox_ask(&one, "create /x"), 0);
	ck_assert_int_eq(sandbox_ask(&one, "stat /x"), 0);
	ck_assert_str_eq(one.text, "apps 1000:org.example.0 0");
	/* Another process of the app sees it, another app has its own. */
	ck_assert_int_eq(sandbox_ask(&third, "open /x"), 0);
	ck_assert_int_eq(sandbox_ask(&two, "open /x"), -ENOENT);
	ck_assert_int_eq(sandbox_ask(&two, "create /x"), 0);
	ck_assert_int_eq(sandbox_ask(&two, "stat /x"), 0);
	ck_assert_str_eq(two.text, "apps 1000:org.example.1 0");

	/* No way out: no contexts, none of another's, no main socket. */
	ck_assert_int_eq(sandbox_ask(&one, "context org.example.1"), -EACCES);
	ck_assert_str_eq(one.text, "a sandboxed program can make no context");
	ck_assert_int_eq(sandbox_ask(&one, "look %s", directory[1]), -ENOENT);
	ck_assert_int_eq(sandbox_ask(&one, "count %s/..", directory[0]), 1);
	ck_assert_int_eq(sandbox_ask(&one, "look %s", fixture.socket), -ENOENT);
	ck_assert_int_eq(sandbox_ask(&one, "count /dev/shm"),
			 strncmp(test_directory(), "/dev/shm/", 9) == 0);
	sandbox_kill(&one);
	sandbox_kill(&two);
	sandbox_kill(&third);
	sandbox_kill(&maker);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(peers_of_other_namespaces_are_sandboxed_without_an_app)
{
	static const struct {
		enum sandbox_kind kind;
		uid_t uid;
		bool sandboxed;
	} rows[] = {
		{ SANDBOX_NONE, 0, false },	{ SANDBOX_NONE, 1000, false },
		{ SANDBOX_USER, 0, true },	{ SANDBOX_USER, 1000, true },
		{ SANDBOX_PID, 0, true },	{ SANDBOX_NESTED, 0, true },
		{ SANDBOX_NESTED, 1000, true }, { SANDBOX_BWRAP, 1000, true },
		{ SANDBOX_BWRAP, 0, true },	{ SANDBOX_CONTAINER, 0, true },
	};
	struct fixture fixture;
	struct sandbox peer;

	TEST_NEEDS(test_is_root(), "other users take root");
	TEST_NEEDS(test_has_namespaces() && sandbox_has_bwrap(), "no bubblewrap here");
	fixture_start(&fixture, &(struct fixture_how){ .config = as_shipped });
	for (size_t i = 0; i < ROWS(rows); i++) {
		enter(&peer, rows[i].kind, rows[i].uid, fixture.directory, fixture.socket);
		if (rows[i].sandboxed) {
			ck_assert_msg(sandbox_ask(&peer, "create /x%zu", i) == -EACCES, "row %zu",
				      i);
			ck_assert_str_eq(peer.text, "pool \"apps\" is one for each app, and this "
						    "caller has none that is known here");
			ck_assert_int_eq(sandbox_ask(&peer, "context org.example.one"), -EACCES);
		} else {
			ck_assert_msg(sandbox_ask(&peer, "create /x%zu", i) == 0, "row %zu: %s", i,
				      peer.text);
			ck_assert_int_eq(sandbox_ask(&peer, "context org.example.one"), 0);
		}
		sandbox_kill(&peer);
	}
	fixture_stop(&fixture);
}
END_TEST

START_TEST(the_main_sockets_directory_leads_to_no_context)
{
	static const struct {
		enum sandbox_kind kind;
		uid_t uid;
	} rows[] = { { SANDBOX_BWRAP, 1000 }, { SANDBOX_BWRAP, 0 }, { SANDBOX_CONTAINER, 0 } };
	struct sandbox maker, peer;
	struct fixture fixture;
	char directory[128];

	TEST_NEEDS(test_is_root(), "other users take root");
	TEST_NEEDS(test_has_namespaces() && sandbox_has_bwrap(), "no bubblewrap here");
	TEST_NEEDS(strncmp(test_directory(), "/dev/shm/", 9) == 0, "no tmpfs that sandboxes hide");
	fixture_start(&fixture, &(struct fixture_how){ .config = as_shipped });
	for (size_t i = 0; i < ROWS(rows); i++) {
		enter(&maker, SANDBOX_NONE, rows[i].uid, NULL, fixture.socket);
		ck_assert_int_eq(sandbox_ask(&maker, "context org.example.one"), 0);
		snprintf(directory, sizeof(directory), "%.127s", maker.text);
		enter(&peer, rows[i].kind, rows[i].uid, fixture.directory, fixture.socket);
		ck_assert_int_eq(sandbox_ask(&peer, "count %s", fixture.directory), 1);
		ck_assert_int_eq(sandbox_ask(&peer, "look %s", directory), -ENOENT);
		ck_assert_int_eq(sandbox_ask(&peer, "look %s", fixture.contexts_path), -ENOENT);
		ck_assert_int_eq(sandbox_ask(&peer, "look %s/../contexts", fixture.directory),
				 -ENOENT);
		sandbox_kill(&peer);
		sandbox_kill(&maker);
	}
	fixture_stop(&fixture);
}
END_TEST

START_TEST(a_context_ends_with_its_launcher)
{
	struct sandbox maker, app;
	char directory[128], path[160];
	struct fixture fixture;

	TEST_NEEDS(test_is_root(), "other users take root");
	TEST_NEEDS(test_has_namespaces() && sandbox_has_bwrap(), "no bubblewrap here");
	fixture_start(&fixture, &(struct fixture_how){ .config = as_shipped });
	enter(&maker, SANDBOX_NONE, 1000, NULL, fixture.socket);
	ck_assert_int_eq(sandbox_ask(&maker, "context org.example.one"), 0);
	snprintf(directory, sizeof(directory), "%.127s", maker.text);
	snprintf(path, sizeof(path), "%s/socket", directory);
	enter(&app, SANDBOX_BWRAP, 1000, directory, path);
	ck_assert_int_eq(sandbox_ask(&app, "create /x"), 0);
	/* The connection it was made on doesn't count, only the descriptor. */
	ck_assert_int_eq(sandbox_ask(&maker, "disconnect"), 0);
	ck_assert_int_eq(sandbox_ask(&app, "stat /x"), 0);

	sandbox_kill(&maker);
	/* The loop hears of that and of the next request in either order. */
	for (int i = 0; i < 60000 && sandbox_ask(&app, "stat /x") == 0; i++)
		test_moment();
	ck_assert_int_eq(sandbox_ask(&app, "stat /x"), -ECONNRESET);
	while (access(directory, F_OK) == 0)
		test_moment();
	ck_assert_int_lt(sandbox_ask(&app, "connect %s", path), 0);
	ck_assert_int_eq(sandbox_ask(&app, "write"), 0);
	sandbox_kill(&app);
	fixture_stop(&fixture);
}
END_TEST

static const char named_apps[] = "pools: { host: { path = \"@host@\" access = \"grant\" }\n"
				 "         apps: { per = \"app\" size = \"64K\" objects = 8 } }\n"
				 "rules: ( { name = \"any\" app = \"org.any\" names = \"/any-*\" "
				 "allow = \"all\" pool = \"host\" },\n"
				 "         { name = \"hers\" user = 1000 app = \"org.*\" names = "
				 "\"/user-*\" allow = \"all\" pool = \"host\" },\n"
				 "         { name = \"group\" group = 1001 app = \"org.*\" names = "
				 "\"/group-*\" allow = \"all\" pool = \"host\" },\n"
				 "         { name = \"own\" sandboxed = true names = \"/own-*\" "
				 "allow = \"all\" pool = \"apps\" } )\n";

START_TEST(an_apps_rule_counts_its_maker)
{
	static const struct {
		uid_t maker;
		const char *app, *name;
		int error;
	} rows[] = {
		{ 0, "org.any", "any-1", 0 },		{ 0, "org.other", "any-1", -EACCES },
		{ 1000, "org.any", "any-2", -EACCES },	{ 1000, "org.any", "user-1", 0 },
		{ 1000, "com.any", "user-2", -EACCES }, { 1001, "org.any", "user-3", -EACCES },
		{ 1001, "org.any", "group-1", 0 },	{ 1000, "org.any", "group-2", -EACCES },
		{ 0, "org.any", "user-4", -EACCES }, /* the peer is not user 1000 */
	};
	struct fixture fixture;
	struct sandbox peer;
	char directory[256];

	TEST_NEEDS(test_is_root(), "other users take root");
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	fixture_start(&fixture, &(struct fixture_how){ .config = named_apps });
	for (size_t i = 0; i < ROWS(rows); i++) {
		enter(&peer, SANDBOX_NONE, rows[i].maker, NULL, fixture.socket);
		ck_assert_int_eq(sandbox_ask(&peer, "context %s", rows[i].app), 0);
		snprintf(directory, sizeof(directory), "%.255s", peer.text);
		ck_assert_int_eq(sandbox_ask(&peer, "disconnect"), 0);
		ck_assert_int_eq(sandbox_ask(&peer, "connect %s/socket", directory), 0);
		ck_assert_msg(sandbox_ask(&peer, "create /%s", rows[i].name) == rows[i].error,
			      "row %zu: %s", i, peer.text);
		sandbox_kill(&peer);
	}
	fixture_stop(&fixture);
}
END_TEST

START_TEST(two_makers_of_one_app_never_share)
{
	static const uid_t makers[] = { 0, 1000, 1001 };
	struct sandbox peer[ROWS(makers)];
	char expected[64], directory[256];
	struct fixture fixture;

	TEST_NEEDS(test_is_root(), "other users take root");
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	fixture_start(&fixture, &(struct fixture_how){ .config = named_apps });
	for (size_t i = 0; i < ROWS(makers); i++) {
		enter(&peer[i], SANDBOX_NONE, makers[i], NULL, fixture.socket);
		ck_assert_int_eq(sandbox_ask(&peer[i], "context org.example.one"), 0);
		snprintf(directory, sizeof(directory), "%.255s", peer[i].text);
		ck_assert_int_eq(sandbox_ask(&peer[i], "disconnect"), 0);
		ck_assert_int_eq(sandbox_ask(&peer[i], "connect %s/socket", directory), 0);
		ck_assert_int_eq(sandbox_ask(&peer[i], "create /own-1"), 0);
		ck_assert_int_eq(sandbox_ask(&peer[i], "stat /own-1"), 0);
		snprintf(expected, sizeof(expected), "apps %u:org.example.one 0", makers[i]);
		ck_assert_str_eq(peer[i].text, expected);
	}
	for (size_t i = 0; i < ROWS(makers); i++)
		sandbox_kill(&peer[i]);
	fixture_stop(&fixture);
}
END_TEST

static const char short_lives[] =
	"pools: { host: { path = \"@host@\" access = \"grant\" } }\n"
	"rules: ( { name = \"short\" names = \"/short-*\" allow = \"all\" lifetime = \"process\" "
	"pool = \"host\" },\n"
	"         { name = \"all\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";

/* Its pid as the broker has it, out of a stat's answer. */
static pid_t pid_of(const struct sandbox *sandbox)
{
	const char *text = strrchr(sandbox->text, ' ');

	ck_assert_ptr_nonnull(text);
	return (pid_t)atoi(text);
}

static void expect_gone(struct fixture *fixture, const char *name)
{
	struct shmb *c = fixture_connect(fixture);
	struct shmb_info info;
	int r = 0;

	/* The loop was told of the end already; it takes its turn. */
	for (int i = 0; i < 60000 && r != -ENOENT; i++) {
		test_moment();
		r = shmb_stat(c, name, &info, sizeof(info));
	}
	ck_assert_int_eq(r, -ENOENT);
	shmb_disconnect(c);
}

START_TEST(a_temporary_name_lives_as_long_as_its_process)
{
	static const struct {
		enum sandbox_kind kind;
		uid_t uid;
		const char *create; /* by a flag, or by the rule's lifetime */
		const char *then;   /* what the process does */
	} rows[] = {
		{ SANDBOX_NONE, 1000, "temporary /t", "disconnect" },
		{ SANDBOX_NONE, 1000, "create /short-1", "disconnect" },
		{ SANDBOX_NONE, 0, "temporary /t", "exec" },
		{ SANDBOX_NONE, 1000, "temporary /t", "fork" },
		{ SANDBOX_NONE, 1000, "temporary /t", "thread" },
		{ SANDBOX_BWRAP, 1000, "temporary /t", "disconnect" },
		{ SANDBOX_BWRAP, 1000, "create /short-2", "exec" },
		{ SANDBOX_PID, 0, "temporary /t", "thread" },
		{ SANDBOX_NESTED, 1000, "create /short-3", "disconnect" },
	};
	struct fixture fixture;
	struct sandbox peer;
	struct shmb *c;

	TEST_NEEDS(test_is_root(), "other users take root");
	TEST_NEEDS(test_has_namespaces() && sandbox_has_bwrap(), "no bubblewrap here");
	fixture_start(&fixture, &(struct fixture_how){ .config = short_lives });
	c = fixture_connect(&fixture);
	for (size_t i = 0; i < ROWS(rows); i++) {
		const char *name = strchr(rows[i].create, ' ') + 1;
		struct shmb_info info;
		struct pollfd pidfd = { .events = POLLIN };
		int inside, child = 0;

		enter(&peer, rows[i].kind, rows[i].uid, fixture.directory, fixture.socket);
		inside = sandbox_ask(&peer, "pid");
		ck_assert_msg(sandbox_ask(&peer, "%s", rows[i].create) == 0, "row %zu: %s", i,
			      peer.text);
		ck_assert_int_eq(sandbox_ask(&peer, "stat %s", name), 0);
		pidfd.fd = (int)syscall(SYS_pidfd_open, pid_of(&peer), 0);
		ck_assert_int_ge(pidfd.fd, 0);
		/* In a pid namespace it knows itself by another. */
		ck_assert_int_eq(inside == pid_of(&peer), rows[i].kind == SANDBOX_NONE);
		child = sandbox_ask(&peer, "%s", rows[i].then);
		ck_assert_int_ge(child, 0);
		ck_assert_int_eq(shmb_stat(c, name, &info, sizeof(info)), 0);
		ck_assert(info.flags & SHMB_INFO_TEMPORARY);
		/* After an exec or a thread's end it still is one process that can ask. */
		ck_assert_int_gt(sandbox_ask(&peer, "pid"), 0);
		sandbox_kill(&peer);
		ck_assert_int_eq(poll(&pidfd, 1, 20000), 1);
		close(pidfd.fd);
		expect_gone(&fixture, name);
		if (strcmp(rows[i].then, "fork") == 0)
			kill(child, SIGKILL);
	}
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(a_process_whose_main_thread_has_ended_is_still_known)
{
	struct fixture fixture;
	struct sandbox peer;

	TEST_NEEDS(test_is_root(), "other users take root");
	fixture_start(&fixture, &(struct fixture_how){ .config = as_shipped, .no_table = true });
	sandbox_start(&peer, &(struct sandbox_how){ .kind = SANDBOX_NONE, .uid = 1000 });
	ck_assert_int_eq(sandbox_ask(&peer, "thread"), 0);
	ck_assert_int_eq(sandbox_ask(&peer, "connect %s", fixture.socket), 0);
	ck_assert_msg(sandbox_ask(&peer, "temporary /t") == 0, "%s", peer.text);
	ck_assert_int_eq(sandbox_ask(&peer, "stat /t"), 0);
	ck_assert_int_eq(pid_of(&peer), peer.pid);
	sandbox_kill(&peer);
	expect_gone(&fixture, "/t");
	fixture_stop(&fixture);
}
END_TEST

START_TEST(a_name_taken_over_is_no_longer_temporary)
{
	struct fixture fixture;
	struct shmb_info info;
	struct sandbox peer;
	struct shmb *c;

	fixture_start(&fixture, &(struct fixture_how){ .config = short_lives, .no_table = true });
	c = fixture_connect(&fixture);
	enter(&peer, SANDBOX_NONE, geteuid(), NULL, fixture.socket);
	ck_assert_int_eq(sandbox_ask(&peer, "temporary /t"), 0);
	ck_assert_int_eq(shmb_unlink(c, "/t"), 0);
	close(shmb_open(c, "/t", O_RDWR | O_CREAT | O_EXCL, 0600));
	sandbox_kill(&peer);
	fixture_tick(&fixture, 0);
	fixture_tick(&fixture, 0);
	ck_assert_int_eq(shmb_stat(c, "/t", &info, sizeof(info)), 0);
	ck_assert_int_eq(shmb_unlink(c, "/t"), 0);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* In the loop's thread: all the names that one user may have, and one more. */
static void claim_all(struct fixture *fixture, void *argument)
{
	enum { most = 65536 };
	struct broker *broker = server_broker(fixture->server);
	struct temporary_claim *claim = calloc(most + 1, sizeof(*claim));
	const struct peer *peer = &LIST_FIRST(&fixture->server->clients)->caller.peer;
	int *result = argument, count = 0;

	while (count <= most &&
	       (*result = temporary_claim(&broker->temporaries, peer, 0, &claim[count])) == 0)
		count++;
	result[1] = count;
	while (count > 0)
		temporary_unclaim(&broker->temporaries, &claim[--count]);
	free(claim);
}

START_TEST(a_users_temporary_names_are_limited)
{
	struct fixture fixture;
	int result[2];
	struct shmb *c;

	fixture_start(&fixture, &(struct fixture_how){ .config = short_lives, .no_table = true });
	c = fixture_connect(&fixture);
	for (int i = 0; i < 2; i++) {
		fixture_call(&fixture, claim_all, result);
		ck_assert_int_eq(result[0], EDQUOT);
		ck_assert_int_eq(result[1], 65536);
	}
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(unpublished_objects_are_limited_and_go_with_their_connection)
{
	static const char config[] =
		"pools: { frames: { size = \"1M\" objects = 64 } }\n"
		"rules: ( { name = \"r\" names = \"/*\" allow = \"all\" pool = \"frames\" } )\n";
	const struct shmb_how how = {
		.oflag = O_RDWR | O_CREAT, .mode = 0600, .size = 4096, .flags = SHMB_UNPUBLISHED
	};
	struct fixture fixture;
	struct shmb *c, *other;
	char name[32];
	int fd;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	fixture_start(&fixture, &(struct fixture_how){ .config = config });
	other = fixture_connect(&fixture);
	for (int round = 0; round < 2; round++) {
		c = fixture_connect(&fixture);
		for (int i = 0; i < 64; i++) {
			snprintf(name, sizeof(name), "/u-%d", i);
			fd = shmb_open_how(c, name, &how, sizeof(how));
			ck_assert_msg(fd >= 0, "%s", shmb_reason(c));
			close(fd);
		}
		ck_assert_int_eq(shmb_open_how(c, "/u-64", &how, sizeof(how)), -EDQUOT);
		ck_assert_int_eq(shmb_open(other, "/x", O_RDWR | O_CREAT, 0600), -ENOSPC);
		/* Another connection knows nothing of them. */
		ck_assert_int_eq(shmb_publish(other, "/u-1", 0), -ENOENT);
		shmb_disconnect(c);
		for (int i = 0; i < 1000; i++) {
			fd = shmb_open(other, "/x", O_RDWR | O_CREAT, 0600);
			if (fd >= 0)
				break;
		}
		ck_assert_int_ge(fd, 0);
		close(fd);
		ck_assert_int_eq(shmb_unlink(other, "/x"), 0);
	}
	shmb_disconnect(other);
	fixture_stop(&fixture);
}
END_TEST

Suite *suite_context(void)
{
	Suite *suite = suite_create("context");
	TCase *test = tcase_create("context");

	tcase_set_timeout(test, 120);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, a_contexts_directory_is_its_makers_alone);
	tcase_add_test(test, a_sandbox_is_its_app_and_no_other);
	tcase_add_test(test, peers_of_other_namespaces_are_sandboxed_without_an_app);
	tcase_add_test(test, the_main_sockets_directory_leads_to_no_context);
	tcase_add_test(test, a_context_ends_with_its_launcher);
	tcase_add_test(test, an_apps_rule_counts_its_maker);
	tcase_add_test(test, two_makers_of_one_app_never_share);
	tcase_add_test(test, a_temporary_name_lives_as_long_as_its_process);
	tcase_add_test(test, a_process_whose_main_thread_has_ended_is_still_known);
	tcase_add_test(test, a_name_taken_over_is_no_longer_temporary);
	tcase_add_test(test, a_users_temporary_names_are_limited);
	tcase_add_test(test, unpublished_objects_are_limited_and_go_with_their_connection);
	suite_add_tcase(suite, test);
	return suite;
}
