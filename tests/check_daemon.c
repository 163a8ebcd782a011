/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The program shmbrokerd itself: what it takes, how it comes and goes. Its rights are in
 * check_daemon_rights.c. */
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "daemon/keeper.h"
#include "tests/daemon_fixture.h"
#include "tests/sandbox.h"
#include "tests/store_fixture.h"

START_TEST(what_is_wrong_at_the_start_is_said_and_is_its_exit_status)
{
	static const struct {
		const char *config; /* NULL: there is no file */
		const char *arguments[4];
		int status;
		const char *says;
	} rows[] = {
		{ NULL, { "--help" }, 0, "usage: shmbrokerd" },
		{ NULL, { "--version" }, 0, "shmbrokerd " PACKAGE_VERSION },
		{ NULL, { "--nonsense" }, 2, "--help" },
		{ NULL, { "argument" }, 2, "no argument is expected, this is one: argument" },
		{ NULL, { "--user" }, 1, "--user needs XDG_RUNTIME_DIR" },
		{ NULL, { "C", "S" }, 1, "No such file" },
		{ "pools: {\n  a: { size = 7x } }\n", { "C", "S" }, 1, "conf:2" },
		{ "pools: { a: { path = \"/nowhere\" } }\n"
		  "rules: ( { name = \"a\" names = \"/*\" allow = \"all\" pool = \"a\" } )\n",
		  { "C", "S" },
		  1,
		  "not a single pool can be had" },
		{ "pools: { a: { size = \"1M\" objects = 1 mpol = \"bind:999\" } }\n"
		  "rules: ( { name = \"a\" names = \"/*\" allow = \"all\" pool = \"a\" } )\n",
		  { "C", "S" },
		  1,
		  "not a single pool can be had" },
		{ "", { "C", "--socket=/proc/none/socket" }, 1, "its directory can't be used" },
		{ "", { "C", "--socket=/" }, 1, "its directory can't be used" },
	};
	struct daemon_place place;

	daemon_place_make(&place, 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		const char *arguments[6] = { "shmbrokerd" };
		struct daemon daemon;

		if (rows[i].config)
			daemon_configure(&place, rows[i].config);
		else
			unlink(place.config);
		for (size_t j = 0; rows[i].arguments[j]; j++) {
			const char *argument = rows[i].arguments[j];

			arguments[j + 1] = strcmp(argument, "C") == 0	? place.config_option
					   : strcmp(argument, "S") == 0 ? place.socket_option
									: argument;
		}
		daemon_start(&daemon, &(struct daemon_how){ 0 }, arguments);
		ck_assert_msg(daemon_end(&daemon, 0) == rows[i].status, "row %zu: %s", i,
			      daemon.text);
		ck_assert_msg(strstr(daemon.text, rows[i].says), "row %zu: %s", i, daemon.text);
		ck_assert(is_missing(place.socket));
	}
}
END_TEST

START_TEST(one_socket_has_one_daemon_and_goes_with_it)
{
	static const uid_t users[] = { 0, ORDINARY };

	NEEDS_PRIVATE_POOLS;
	TEST_NEEDS(test_is_root(), "root, to become another");
	for (size_t i = 0; i < 2; i++) {
		const struct daemon_how start = { .uid = users[i] };
		struct daemon first, second;
		struct daemon_place place;
		struct stat st;

		daemon_place_make(&place, users[i]);
		daemon_start_at(&first, &place, &start);
		daemon_await(&first, "READY=1");
		ck_assert_int_eq(stat(place.socket, &st), 0);
		ck_assert_uint_eq(st.st_mode & 07777, 0666);
		daemon_start_at(&second, &place, &start);
		ck_assert_int_eq(daemon_end(&second, 0), 1);
		ck_assert_ptr_nonnull(strstr(second.text, "another broker answers there"));
		daemon_check_served(place.socket);
		/* Killed, it leaves a stale one, which is replaced. */
		ck_assert_int_eq(daemon_end(&first, SIGKILL), 128 + SIGKILL);
		ck_assert(!is_missing(place.socket));
		daemon_start_at(&first, &place, &start);
		daemon_await(&first, "READY=1");
		daemon_check_served(place.socket);
		ck_assert_int_eq(daemon_end(&first, SIGTERM), 0);
		ck_assert(is_missing(place.socket));
		daemon_place_remove(&place);
	}
}
END_TEST

START_TEST(a_relative_socket_and_a_signal_to_reload)
{
	const char *arguments[4] = { "shmbrokerd", NULL, "--socket=run/socket" };
	struct daemon daemon;
	struct daemon_place place;
	struct daemon_how start;

	NEEDS_PRIVATE_POOLS;
	daemon_place_make(&place, 0);
	start = (struct daemon_how){ .uid = geteuid(), .directory = place.directory };
	arguments[1] = place.config_option;
	daemon_start(&daemon, &start, arguments);
	daemon_await(&daemon, "READY=1");
	daemon_check_served(place.socket);
	ck_assert_int_eq(kill(daemon.pid, SIGHUP), 0);
	daemon_await(&daemon, "RELOADING=1");
	daemon_await(&daemon, "READY=1");
	daemon_configure(&place, "nonsense");
	ck_assert_int_eq(kill(daemon.pid, SIGHUP), 0);
	daemon_await(&daemon, "refused");
	daemon_check_served(place.socket);
	ck_assert_int_eq(kill(daemon.pid, SIGINT), 0);
	daemon_await(&daemon, "STOPPING=1");
	ck_assert_int_eq(daemon_end(&daemon, 0), 0);
	ck_assert_ptr_nonnull(strstr(daemon.text, "another configuration is in force"));
	ck_assert_ptr_nonnull(strstr(daemon.text, "the configuration before stays in force"));
	ck_assert(is_missing(place.socket));
}
END_TEST

/* What it would log must not become a message to a helper or a client. */
START_TEST(without_standard_descriptors_it_serves_as_ever)
{
	const struct daemon_how start = { .uid = geteuid(), .closed = true };
	struct daemon daemon;
	struct daemon_place place;
	char path[64], target[512];

	NEEDS_PRIVATE_POOLS;
	daemon_place_make(&place, 0);
	daemon_start_at(&daemon, &place, &start);
	daemon_await(&daemon, "READY=1");
	for (int fd = 0; test_is_root() && fd < 3; fd++) {
		ssize_t size;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)daemon.pid, fd);
		size = readlink(path, target, sizeof(target) - 1);
		ck_assert_int_gt(size, 0);
		target[size] = 0;
		ck_assert_str_eq(target, "/");
	}
	daemon_configure(&place, "nonsense");
	ck_assert_int_eq(kill(daemon.pid, SIGHUP), 0);
	daemon_await(&daemon, "RELOADING=1");
	daemon_await(&daemon, "READY=1");
	daemon_check_served(place.socket);
	ck_assert_int_eq(daemon_end(&daemon, SIGTERM), 0);
	ck_assert(is_missing(place.socket));
}
END_TEST

/* It has been told that we are ready, and reads no more: its socket holds some ten messages. */
START_TEST(a_service_manager_that_does_not_listen_holds_nobody_up)
{
	const struct shmb_context how = { .app = "org.example.one" };
	char directory[128];
	struct daemon daemon;
	struct daemon_place place;
	int hold[60], count = 0;
	struct shmb *c;

	NEEDS_PRIVATE_POOLS;
	daemon_place_make(&place, 0);
	daemon_start_at(&daemon, &place, &(struct daemon_how){ .uid = geteuid() });
	daemon_await(&daemon, "READY=1");
	ck_assert_int_eq(shmb_connect(&c, place.socket), 0);
	for (int i = 0; i < 60; i++) {
		int r = shmb_create_context(c, &how, sizeof(how), directory, sizeof(directory));

		ck_assert_msg(r >= 0 || r == -EDQUOT || r == -EOPNOTSUPP, "%s", shmb_reason(c));
		if (r >= 0)
			hold[count++] = r;
	}
	shmb_disconnect(c);
	daemon_check_served(place.socket);
	while (count > 0)
		close(hold[--count]);
	daemon_check_served(place.socket);
	ck_assert_int_eq(daemon_end(&daemon, SIGTERM), 0);
	ck_assert(is_missing(place.socket));
}
END_TEST

START_TEST(a_socket_that_systemd_gave_is_served_and_left)
{
	const char *arguments[3] = { "shmbrokerd" };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct daemon daemon;
	struct daemon_place place;
	struct daemon_kept given = { .count = 1 };
	const struct daemon_how start = { .uid = geteuid(), .given = &given };
	int *listener = &given.entry[0].fd;
	char run[128];

	NEEDS_PRIVATE_POOLS;
	daemon_place_make(&place, 0);
	snprintf(run, sizeof(run), "%s/run", place.directory);
	ck_assert_int_eq(mkdir(run, 0755), 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", place.socket);
	arguments[1] = place.config_option;
	for (int wrong = 0; wrong < 2; wrong++) {
		*listener = socket(AF_UNIX, (wrong ? SOCK_STREAM : SOCK_SEQPACKET) | SOCK_CLOEXEC,
				   0);
		ck_assert_int_eq(bind(*listener, (struct sockaddr *)&address, sizeof(address)), 0);
		ck_assert_int_eq(listen(*listener, 16), 0);
		daemon_start(&daemon, &start, arguments);
		if (wrong) {
			ck_assert_int_eq(daemon_end(&daemon, 0), 1);
			ck_assert_ptr_nonnull(strstr(daemon.text, "SOCK_SEQPACKET"));
		} else {
			daemon_await(&daemon, "READY=1");
			daemon_check_served(place.socket);
			ck_assert_int_eq(daemon_end(&daemon, SIGTERM), 0);
		}
		ck_assert_int_eq(unlink(place.socket), 0);
		close(*listener);
	}
}
END_TEST

#define TABLE_ID 65530 /* nobody runs under it */

struct bound {
	int userns;
	const char *most;
};

/* In the table: how many mount namespaces its user may have. */
static int bound_namespaces(void *argument)
{
	const struct bound *bound = argument;

	EXPECT(setns(bound->userns, CLONE_NEWUSER) == 0);
	EXPECT(sandbox_write_file("/proc/sys/user/max_mnt_namespaces", bound->most));
	return 0;
}

/* New pools would be served in the place of those that are there. */
START_TEST(a_table_that_was_found_is_served_with_its_notes_or_not_at_all)
{
	struct keeper_setup setup = { .table_uid = test_is_root() ? TABLE_ID : geteuid(),
				      .table_gid = test_is_root() ? TABLE_ID : getegid(),
				      .userns = -EBADF,
				      .mntns = -EBADF };
	struct daemon_kept given = { .count = 2, .entry = { { "userns", 0 }, { "mntns", 0 } } };
	const struct daemon_how how = { .uid = geteuid(), .given = &given };
	struct bound bound = { .most = "0" };
	struct keeper *keeper;
	struct daemon_place place;
	struct daemon daemon;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	ck_assert_int_eq(keeper_start(&keeper, &setup), 0);
	given.entry[0].fd = bound.userns = keeper_userns_borrow(keeper);
	given.entry[1].fd = keeper_mntns_borrow(keeper);
	daemon_place_make(&place, 0);
	for (int round = 0; round < 2; round++) {
		daemon_start_at(&daemon, &place, &how);
		daemon_await(&daemon, "READY=1");
		daemon_check_served(place.socket);
		ck_assert_int_eq(daemon_end(&daemon, SIGKILL), 128 + SIGKILL);
		if (round > 0)
			break;
		ck_assert_int_eq(
			test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, bound_namespaces, &bound), 0);
		daemon_start_at(&daemon, &place, &how);
		ck_assert_int_eq(daemon_end(&daemon, 0), 1);
		ck_assert_msg(strstr(daemon.text,
				     "private pools can't be found again now: "
				     "open_tree(OPEN_TREE_CLONE): No space left") != NULL,
			      "%s", daemon.text);
		ck_assert_ptr_nonnull(strstr(daemon.text, "nothing of them is lost"));
		bound.most = "1000";
		ck_assert_int_eq(
			test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, bound_namespaces, &bound), 0);
	}
	daemon_place_remove(&place);
	keeper_free(keeper);
}
END_TEST

Suite *suite_daemon(void)
{
	Suite *suite = suite_create("daemon");
	TCase *test = tcase_create("daemon");

	tcase_set_timeout(test, 120);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, what_is_wrong_at_the_start_is_said_and_is_its_exit_status);
	tcase_add_test(test, one_socket_has_one_daemon_and_goes_with_it);
	tcase_add_test(test, a_relative_socket_and_a_signal_to_reload);
	tcase_add_test(test, without_standard_descriptors_it_serves_as_ever);
	tcase_add_test(test, a_service_manager_that_does_not_listen_holds_nobody_up);
	tcase_add_test(test, a_socket_that_systemd_gave_is_served_and_left);
	tcase_add_test(test, a_table_that_was_found_is_served_with_its_notes_or_not_at_all);
	suite_add_tcase(suite, test);
	suite_add_tcase(suite, daemon_case_of_rights());
	return suite;
}
