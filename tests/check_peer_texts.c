/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What this machine's kernel and bus don't say by themselves: texts of other kernels, of a bus, and
 * a /proc that is not whole. A case of the suite "peer".
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/fd.h"
#include "daemon/peer-private.h"
#include "daemon/proc.h"
#include "tests/sandbox.h"
#include "tests/test.h"

TCase *peer_case_of_texts(void);

/* Not in Debian 12's valgrind. */
static bool has_pidfd_open(void)
{
	int fd = process_pidfd(getpid());

	fd_close(fd);
	return fd >= 0;
}

START_TEST(a_status_that_says_too_little_is_no_identity)
{
	static const struct {
		const char *status;
		int result;
		bool sandboxed;
	} rows[] = {
		{ "CapEff:\t0000000000000000\nNSpid:\t77\n", 0, false },
		{ "CapEff:\t0000000000000000\nNSpid:\t77\t1\n", 0, true },
		/* Who can't tell that it isn't below must take it for that. */
		{ "CapEff:\t0000000000000000\n", 0, true },
		{ "NSpid:\t77\n", -EBADMSG, false },
		{ "CapEff:\tx\nNSpid:\t77\n", -EBADMSG, false },
		{ "", -EBADMSG, false },
	};
	struct process process = { .pidfd = process_pidfd(getpid()) };
	struct peer_self self;

	TEST_NEEDS(process.pidfd >= 0, "no pidfd_open");
	ck_assert_int_eq(peer_self_init(&self, false), 0);
	process.directory = proc_open_process(self.proc, getpid());
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct peer peer;

		peer_init(&peer);
		peer.ids.uid = geteuid();
		ck_assert_int_eq(process_identify(&peer, &self, &process, rows[i].status),
				 rows[i].result);
		ck_assert_int_eq(peer.sandboxed, rows[i].sandboxed);
		peer_done(&peer);
	}
	close(process.directory);
	close(process.pidfd);
	peer_self_done(&self);
}
END_TEST

/* Its status has been read; whatever comes then may be another's by now. */
START_TEST(of_one_that_has_ended_meanwhile_nothing_is_taken)
{
	struct process process;
	struct peer_self self;
	struct peer peer;
	pid_t pid;

	TEST_NEEDS(has_pidfd_open(), "no pidfd_open");
	ck_assert_int_eq(peer_self_init(&self, false), 0);
	pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	process.pidfd = process_pidfd(pid);
	process.directory = proc_open_process(self.proc, pid);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	peer_init(&peer);
	ck_assert_int_eq(process_identify(&peer, &self, &process, "CapEff:\t0\nNSpid:\t77\n"),
			 -ESRCH);
	peer_done(&peer);
	close(process.directory);
	close(process.pidfd);
	peer_self_done(&self);
}
END_TEST

/* A security module's text ends as it likes. */
START_TEST(a_label_ends_before_its_line_does)
{
	static const struct {
		const char *text;
		size_t size;
		const char *label;
	} rows[] = {
		{ "unconfined", 10, "unconfined" },
		{ "unconfined\n", 11, "unconfined" },
		{ "a:b:c:s0\0", 9, "a:b:c:s0" },
		{ "a\n\n", 3, "a" },
		{ "\n", 1, "" },
		{ "", 0, "" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		char *label = peer_empty;

		ck_assert_int_eq(peer_label_copy(&label, rows[i].text, rows[i].size), 0);
		ck_assert_str_eq(label, rows[i].label);
		peer_string_free(&label);
	}
}
END_TEST

START_TEST(what_a_bus_says_is_looked_at)
{
	const pid_t nobody = INT32_MAX; /* more than a pid can be */
	_cleanup_close_ int pidfd = process_pidfd(getpid());
	const struct {
		uid_t uid;
		pid_t pid;
		int pidfd, result;
	} rows[] = {
		{ geteuid(), getpid(), pidfd, 0 },    { geteuid(), getpid(), -EBADF, 0 },
		{ geteuid(), 0, pidfd, -ESRCH },      { geteuid(), nobody, -EBADF, -ESRCH },
		{ geteuid(), nobody, pidfd, -ESRCH }, { geteuid() + 1, getpid(), pidfd, -EACCES },
	};
	struct peer_self self;

	TEST_NEEDS(pidfd >= 0, "no pidfd_open");
	ck_assert_int_eq(peer_self_init(&self, false), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		const struct peer_credentials credentials = { .uid = rows[i].uid,
							      .pid = rows[i].pid,
							      .label = "l\n",
							      .label_size = 2,
							      .pidfd = rows[i].pidfd };
		struct peer peer;
		int r = peer_from_bus(&peer, &self, &credentials);

		ck_assert_msg(r == rows[i].result, "row %zu: %d", i, r);
		if (r < 0)
			continue;
		/* It says no groups: then they are those of /proc. */
		ck_assert_int_eq((int)peer.ids.group_count, getgroups(0, NULL));
		ck_assert_uint_eq(peer.ids.gid, getegid());
		ck_assert_str_eq(peer.label, "l");
		ck_assert_int_eq(peer.pinned, rows[i].pidfd >= 0);
		peer_done(&peer);
	}
	peer_self_done(&self);
}
END_TEST

/* In a user namespace of one's own, where the mounts are, too. */
static int look_at_odd_proc(void *argument)
{
	struct peer_self self;
	char own[32];

	(void)argument;
	EXPECT(sandbox_enter_user(0, 0, CLONE_NEWNS));
	EXPECT(peer_self_init(&self, false) == 0);
	/* Its capabilities are good for no ids. */
	EXPECT(!self.may_set_ids);
	peer_self_done(&self);
	/* As with ProcSubset=pid. */
	EXPECT(mount("none", "/proc/sys", "tmpfs", 0, NULL) == 0);
	EXPECT(peer_self_init(&self, false) == 0);
	EXPECT(self.overflow_uid == 65534 && self.overflow_gid == 65534);
	peer_self_done(&self);
	snprintf(own, sizeof(own), "/proc/%d", (int)getpid());
	EXPECT(mount("none", own, "tmpfs", 0, NULL) == 0);
	EXPECT(peer_self_init(&self, false) < 0);
	EXPECT(mount("none", "/proc", "tmpfs", 0, NULL) == 0);
	EXPECT(peer_self_init(&self, false) == -EOPNOTSUPP);
	return 0;
}

START_TEST(a_proc_that_is_not_whole_is_borne_or_refused)
{
	TEST_NEEDS(test_has_namespaces(), "no user namespaces");
	ck_assert_int_eq(test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, look_at_odd_proc, NULL), 0);
}
END_TEST

START_TEST(status_field_is_found_at_a_lines_start_alone)
{
	const char *status = "Name:\tNSpid: 1\nXCapEff:\t1\nCapEff:\t20\n";

	ck_assert_int_eq(strncmp(proc_status_field(status, "CapEff"), "20\n", 3), 0);
	ck_assert_ptr_null(proc_status_field(status, "NSpid"));
	ck_assert_ptr_null(proc_status_field("", "NSpid"));
}
END_TEST

TCase *peer_case_of_texts(void)
{
	TCase *tests = tcase_create("texts");

	tcase_add_checked_fixture(tests, test_fds_setup, test_fds_teardown);
	tcase_add_test(tests, status_field_is_found_at_a_lines_start_alone);
	tcase_add_test(tests, a_status_that_says_too_little_is_no_identity);
	tcase_add_test(tests, of_one_that_has_ended_meanwhile_nothing_is_taken);
	tcase_add_test(tests, a_label_ends_before_its_line_does);
	tcase_add_test(tests, what_a_bus_says_is_looked_at);
	tcase_add_test(tests, a_proc_that_is_not_whole_is_borne_or_refused);
	return tests;
}
