/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who a client is: real processes connect, in other namespaces too, and the texts of
 * /proc that can't be had at will are table rows.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/creds.h"
#include "daemon/fd.h"
#include "daemon/peer.h"
#include "daemon/proc.h"
#include "tests/test.h"

TCase *peer_case_of_texts(void); /* of check_peer_texts.c */

static struct peer_self self;

static void setup(void)
{
	test_fds_setup();
	ck_assert_int_eq(peer_self_init(&self, false), 0);
}

static void teardown(void)
{
	peer_self_done(&self);
	test_fds_teardown();
}

/* Not in Debian 12's valgrind. */
static bool has_pidfd_open(void)
{
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	fd_close(fd);
	return fd >= 0;
}

/* A client in a process of its own, which lives until its connection is closed. */
struct client {
	pid_t pid;
	int socket; /* the broker's end */
};

static int listener_new(struct sockaddr_un *ret, socklen_t *ret_size)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	/* Without a name the kernel finds one that is free, and in no file system. */
	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	ck_assert_int_eq(bind(fd, (struct sockaddr *)ret, sizeof(ret->sun_family)), 0);
	ck_assert_int_eq(listen(fd, 4), 0);
	*ret_size = sizeof(*ret);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)ret, ret_size), 0);
	return fd;
}

/* Becomes what the test is about (in the child, or in a child of its), connects, says how it went.
 */
static void client_run(const struct sockaddr_un *there, socklen_t size, int (*become)(const void *),
		       const void *argument)
{
	char byte = become && become(argument) != 0;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (connect(fd, (const struct sockaddr *)there, size) == 0 && write(fd, &byte, 1) == 1)
		while (read(fd, &byte, 1) > 0)
			continue;
	_exit(0);
}

static struct client client_start(int (*become)(const void *), const void *argument)
{
	struct sockaddr_un there;
	struct client client;
	socklen_t size;
	char failed = 1;
	int listener = listener_new(&there, &size);

	client.pid = fork();
	ck_assert_int_ge(client.pid, 0);
	if (client.pid == 0) {
		close(listener);
		client_run(&there, size, become, argument);
	}
	client.socket = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	ck_assert_int_ge(client.socket, 0);
	close(listener);
	ck_assert_int_eq(read(client.socket, &failed, 1), 1);
	ck_assert_msg(!failed, "the client could not become what it should be");
	return client;
}

static void client_end(struct client *client)
{
	close(client->socket);
	ck_assert_int_eq(waitpid(client->pid, NULL, 0), client->pid);
}

START_TEST(unit_is_the_first_below_the_slices)
{
	static const struct {
		const char *text;
		uid_t uid;
		const char *unit, *user_unit;
	} rows[] = {
		{ "0::/system.slice/camera.service\n", 0, "camera.service", "" },
		{ "0::/system.slice/camera.service", 0, "camera.service", "" },
		{ "0::/system.slice/system-getty.slice/getty@tty1.service\n", 0,
		  "getty@tty1.service", "" },
		{ "0::/init.scope\n", 0, "init.scope", "" },
		{ "0::/user.slice/user-1000.slice/session-3.scope\n", 1000, "session-3.scope", "" },
		{ "0::/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service\n", 1000,
		  "user@1000.service", "foo.service" },
		{ "0::/user.slice/user-1000.slice/user@1000.service/init.scope\n", 1000,
		  "user@1000.service", "init.scope" },
		{ "0::/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service\n", 1001,
		  "user@1000.service", "" },
		{ "0::/user.slice/user-1000.slice/user@01000.service/app.slice/foo.service\n", 1000,
		  "user@01000.service", "" },
		{ "0::/user.slice/user-1000.slice/user@1000.service\n", 1000, "user@1000.service",
		  "" },
		/* Groups that a delegated unit, or a user, has named. */
		{ "0::/system.slice/a.service/camera.service\n", 0, "a.service", "" },
		{ "0::/user.slice/user-1000.slice/user@1000.service/x/foo.service\n", 1000,
		  "user@1000.service", "" },
		{ "0::/docker/0123/system.slice/camera.service\n", 0, "", "" },
		{ "0::/x/camera.service\n", 0, "", "" },
		/* Above the root of a cgroup namespace of ours. */
		{ "0::/../camera.service\n", 0, "", "" },
		{ "0::/../../system.slice/camera.service\n", 0, "", "" },
		/* Escaped by systemd; suffixes with nothing before them; other suffixes. */
		{ "0::/system.slice/_cpu.service\n", 0, "cpu.service", "" },
		{ "0::/system.slice/__x.service\n", 0, "_x.service", "" },
		{ "0::/system.slice/.service\n", 0, "", "" },
		{ "0::/.slice/camera.service\n", 0, "", "" },
		{ "0::/system.slice/camera.target\n", 0, "", "" },
		{ "0::/system.slice/a.mount\n", 0, "a.mount", "" },
		{ "0::/system.slice/a.swap\n", 0, "a.swap", "" },
		{ "0::/system.slice/a.socket\n", 0, "a.socket", "" },
		{ "0::/system.slice/camera.service (deleted)\n", 0, "", "" },
		{ "0::/system.slice\n", 0, "", "" },
		{ "0::/\n", 0, "", "" },
		{ "", 0, "", "" },
		/* Legacy and hybrid layouts. */
		{ "2:cpu:/system.slice/other.service\n1:name=systemd:/system.slice/a.service\n", 0,
		  "a.service", "" },
		{ "1:name=systemd:/system.slice/a.service\n0::/\n", 0, "a.service", "" },
		{ "1:name=systemd:/system.slice/a.service\n0::/system.slice/b.service\n", 0,
		  "b.service", "" },
		{ "1:name=other:/system.slice/a.service\n", 0, "", "" },
		{ "10:cpu:/system.slice/a.service\n", 0, "", "" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct peer peer = { .socket = -EBADF };

		ck_assert_int_eq(peer_unit_from_cgroup(rows[i].text, rows[i].uid, &peer.unit,
						       &peer.user_unit),
				 0);
		ck_assert_msg(!strcmp(peer.unit, rows[i].unit), "%s: unit %s", rows[i].text,
			      peer.unit);
		ck_assert_msg(!strcmp(peer.user_unit, rows[i].user_unit), "%s: user unit %s",
			      rows[i].text, peer.user_unit);
		peer_done(&peer);
	}
}
END_TEST

START_TEST(start_time_is_read_behind_any_name)
{
	static const struct {
		const char *stat;
		int result;
		uint64_t start_time;
	} rows[] = {
		{ "7 (a) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20\n", 0, 4242 },
		{ "7 (a) S 1) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20\n", 0, 4242 },
		{ "7 (a\n) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242\n", 0, 4242 },
		{ "7 (a) S 1 2 3\n", -EBADMSG, 0 },
		{ "7 a S 1 2 3\n", -EBADMSG, 0 },
		{ "", -EBADMSG, 0 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		uint64_t start_time = 0;

		ck_assert_int_eq(proc_stat_start_time(&start_time, rows[i].stat), rows[i].result);
		ck_assert_uint_eq(start_time, rows[i].start_time);
	}
}
END_TEST

START_TEST(reading_of_proc_is_bounded)
{
	_cleanup_close_ int directory = proc_open_process(self.proc, getpid());
	char *text = NULL;

	ck_assert_int_ge(directory, 0);
	ck_assert_int_eq(proc_read(&text, directory, "nothing"), -ENOENT);
	/* Endless: the memory itself, as far as it can be read, or an error. */
	ck_assert_int_lt(proc_read(&text, directory, "mem"), 0);
	ck_assert_ptr_null(text);
	ck_assert_int_eq(proc_open_process(self.proc, INT32_MAX), -ESRCH);
}
END_TEST

static void assert_own_identity(const struct peer *peer)
{
	gid_t groups[256];
	int count = getgroups(256, groups);

	ck_assert_int_eq(peer->pid, getpid());
	ck_assert_uint_eq(peer->ids.uid, geteuid());
	ck_assert_uint_eq(peer->ids.gid, getegid());
	ck_assert_int_eq(count, (int)peer->ids.group_count);
	for (int i = 0; i < count; i++)
		ck_assert(ids_in_group(&peer->ids, groups[i]));
	ck_assert_uint_ne(peer->start_time, 0);
	ck_assert(peer->pinned == self.has_peerpidfd);
}

START_TEST(own_connection_has_own_identity)
{
	struct creds_caps caps;
	struct peer peer, same;
	int pair[2], pidfd;

	TEST_NEEDS(has_pidfd_open(), "no pidfd_open");
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	ck_assert_int_eq(peer_from_socket(&peer, &self, pair[0], NULL, NULL, false), 0);
	assert_own_identity(&peer);
	ck_assert(!peer.sandboxed);
	ck_assert_str_eq(peer.app, "");
	ck_assert_int_eq(creds_caps_get(&caps), 0);
	ck_assert_uint_eq(peer.effective_caps, caps.effective);
	pidfd = peer_pidfd(&peer, &self);
	ck_assert_int_ge(pidfd, 0);
	ck_assert_int_eq(fcntl(pidfd, F_GETFD), FD_CLOEXEC);
	close(pidfd);

	ck_assert_int_eq(peer_from_pid(&same, &self, getpid()), 0);
	assert_own_identity(&same);
	ck_assert(ids_equal(&same.ids, &peer.ids));
	ck_assert(!same.sandboxed);
	ck_assert_str_eq(same.unit, peer.unit);
	ck_assert_str_eq(same.user_unit, peer.user_unit);
	ck_assert_str_eq(same.label, peer.label);
	ck_assert_uint_eq(same.effective_caps, peer.effective_caps);
	ck_assert_uint_eq(same.start_time, peer.start_time);
	ck_assert_int_eq(same.socket, -EBADF);
	pidfd = peer_pidfd(&same, &self);
	ck_assert_int_ge(pidfd, 0);
	close(pidfd);
	peer_done(&same);
	peer_done(&peer);
	close(pair[0]);
	close(pair[1]);
}
END_TEST

START_TEST(peer_of_a_context_is_sandboxed_and_its_app)
{
	gid_t groups[] = { 7, 9 };
	struct ids maker = { .uid = 1000, .gid = 100, .groups = groups, .group_count = 2 };
	struct peer peer;
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	ck_assert_int_eq(peer_from_socket(&peer, &self, pair[0], "org.x", &maker, false), 0);
	assert_own_identity(&peer);
	ck_assert(peer.sandboxed);
	ck_assert_str_eq(peer.app, "org.x");
	ck_assert_uint_eq(peer.effective_caps, 0);
	ck_assert(ids_equal(&peer.maker, &maker));
	ck_assert_ptr_ne(peer.maker.groups, maker.groups);
	ck_assert(!peer_is_admin(&peer, &self));
	peer_done(&peer);
	close(pair[0]);
	close(pair[1]);
}
END_TEST

START_TEST(without_peerpidfd_the_start_time_stands_in)
{
	struct peer_self older = self;
	struct peer peer;
	int pair[2], pidfd;

	TEST_NEEDS(has_pidfd_open(), "no pidfd_open");
	older.has_peerpidfd = false;
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	ck_assert_int_eq(peer_from_socket(&peer, &older, pair[0], NULL, NULL, true), -EOPNOTSUPP);
	ck_assert_int_eq(peer_from_socket(&peer, &older, pair[0], NULL, NULL, false), 0);
	ck_assert(!peer.pinned);
	ck_assert_int_eq(peer.pid, getpid());
	pidfd = peer_pidfd(&peer, &older);
	ck_assert_int_ge(pidfd, 0);
	close(pidfd);
	peer.start_time++;
	ck_assert_int_eq(peer_pidfd(&peer, &older), -ESRCH);
	peer.start_time = 0;
	ck_assert_int_eq(peer_pidfd(&peer, &older), -EOPNOTSUPP);
	peer_done(&peer);
	close(pair[0]);
	close(pair[1]);
}
END_TEST

START_TEST(peer_that_has_ended_is_turned_away)
{
	struct peer_self variant = self;
	struct peer before, peer;

	TEST_NEEDS(has_pidfd_open(), "no pidfd_open");
	for (int pinned = 0; pinned < 2; pinned++) {
		struct client client = client_start(NULL, NULL);

		variant.has_peerpidfd = self.has_peerpidfd && pinned;
		ck_assert_int_eq(
			peer_from_socket(&before, &variant, client.socket, NULL, NULL, false), 0);
		ck_assert_int_eq(before.pid, client.pid);
		ck_assert_int_eq(shutdown(client.socket, SHUT_RDWR), 0);
		/* First while nobody has reaped it: its files can all be read still. */
		ck_assert_int_eq(waitid(P_PID, (id_t)client.pid, NULL, WEXITED | WNOWAIT), 0);
		ck_assert_int_eq(
			peer_from_socket(&peer, &variant, client.socket, NULL, NULL, false),
			-ESRCH);
		ck_assert_int_eq(peer_from_pid(&peer, &variant, client.pid), -ESRCH);
		ck_assert_int_eq(peer_pidfd(&before, &variant), -ESRCH);
		ck_assert_int_eq(waitpid(client.pid, NULL, 0), client.pid);
		ck_assert_int_eq(
			peer_from_socket(&peer, &variant, client.socket, NULL, NULL, false),
			-ESRCH);
		ck_assert_int_eq(peer_pidfd(&before, &variant), -ESRCH);
		ck_assert_int_eq(peer_from_pid(&peer, &variant, client.pid), -ESRCH);
		peer_done(&before);
		close(client.socket);
	}
}
END_TEST

START_TEST(what_nobody_is_behind_is_an_error)
{
	_cleanup_close_ int lonely = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct peer peer;

	TEST_NEEDS(has_pidfd_open(), "no pidfd_open");
	ck_assert_int_eq(peer_from_socket(&peer, &self, lonely, NULL, NULL, false), -ENOTCONN);
	ck_assert_int_eq(peer_from_socket(&peer, &self, -EBADF, NULL, NULL, false), -EBADF);
	ck_assert_int_eq(peer_from_socket(&peer, &self, self.proc, NULL, NULL, false), -EBADF);
	ck_assert_int_eq(peer_from_pid(&peer, &self, 0), -ESRCH);
	ck_assert_int_eq(peer_from_pid(&peer, &self, -1), -ESRCH);
	ck_assert_int_eq(peer_from_pid(&peer, &self, INT32_MAX), -ESRCH);
}
END_TEST

/* In namespaces of one's own; a new pid namespace is entered by the next child alone. */
static int become_namespaced(const void *argument)
{
	int flags = *(const int *)argument;
	pid_t pid;

	if (unshare(flags) < 0)
		return -1;
	if (!(flags & CLONE_NEWPID))
		return 0;
	pid = fork();
	if (pid > 0) {
		waitpid(pid, NULL, 0);
		_exit(0);
	}
	return pid;
}

START_TEST(peer_of_another_namespace_is_sandboxed)
{
	static const struct {
		int flags;
		bool needs_root;
	} rows[] = {
		{ CLONE_NEWUSER, false },
		{ CLONE_NEWUSER | CLONE_NEWPID, false },
		{ CLONE_NEWPID, true },
	};

	TEST_NEEDS(test_has_namespaces(), "no user namespaces");
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct client client;
		struct peer peer;

		if (rows[i].needs_root && !test_is_root())
			continue;
		client = client_start(become_namespaced, &rows[i].flags);
		ck_assert_int_eq(peer_from_socket(&peer, &self, client.socket, NULL, NULL, false),
				 0);
		ck_assert_msg(peer.sandboxed, "flags %x", rows[i].flags);
		ck_assert_uint_eq(peer.effective_caps, 0);
		ck_assert_uint_eq(peer.ids.uid, geteuid());
		ck_assert_str_eq(peer.app, "");
		ck_assert(!peer_is_admin(&peer, &self));
		peer_done(&peer);
		client_end(&client);
	}
}
END_TEST

#define NO_PROC 77 /* as in a container that hides a part of it */

/* The broker in a pid and user namespace of its own, the peer outside of both. */
static int look_from_below(void *argument)
{
	const int flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS;
	struct peer_self below;
	struct peer peer;
	int status;
	pid_t pid;

	if (unshare(flags) < 0)
		return 1;
	pid = fork();
	if (pid > 0)
		return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status)
									    : 2;
	/* By the numbers of the one above others would be meant. */
	if (peer_self_init(&below, false) != -EXDEV)
		_exit(7);
	if (mount("proc", "/proc", "proc", 0, NULL) < 0)
		_exit(NO_PROC);
	if (peer_self_init(&below, false) < 0)
		_exit(3);
	if (peer_from_socket(&peer, &below, *(int *)argument, NULL, NULL, false) < 0)
		_exit(4);
	if (peer.pid != 0 || !peer.sandboxed || *peer.unit || peer.effective_caps || peer.pinned)
		_exit(5);
	if (peer.ids.uid != below.overflow_uid || peer_pidfd(&peer, &below) != -EOPNOTSUPP)
		_exit(6);
	peer_done(&peer);
	peer_self_done(&below);
	_exit(0);
}

START_TEST(peer_outside_our_namespaces_is_sandboxed_without_a_pid)
{
	struct client client;
	int status;

	TEST_NEEDS(test_has_namespaces(), "no user namespaces");
	client = client_start(NULL, NULL);
	status = test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, look_from_below, &client.socket);
	client_end(&client);
	TEST_NEEDS(status != NO_PROC, "no /proc in a namespace of its own");
	ck_assert_int_eq(status, 0);
}
END_TEST

#define MANY_GROUPS 3000 /* more than a page of /proc/PID/status */

static int become_grouped(const void *argument)
{
	gid_t groups[MANY_GROUPS];

	for (size_t i = 0; i < MANY_GROUPS; i++)
		groups[i] = (gid_t)(100000 + (i * 7) % MANY_GROUPS);
	return setgroups(MANY_GROUPS, groups) < 0 || setresgid(42, 43, 42) < 0 ||
	       setresuid(44, 45, 44) < 0;
}

START_TEST(effective_ids_and_all_groups_are_taken)
{
	struct client client;
	struct peer peer, same;

	TEST_NEEDS(has_pidfd_open(), "no pidfd_open");
	TEST_NEEDS(test_is_root(), "sets groups");
	client = client_start(become_grouped, NULL);
	ck_assert_int_eq(peer_from_socket(&peer, &self, client.socket, NULL, NULL, false), 0);
	ck_assert_uint_eq(peer.ids.uid, 45);
	ck_assert_uint_eq(peer.ids.gid, 43);
	ck_assert_uint_eq(peer.ids.group_count, MANY_GROUPS);
	for (size_t i = 0; i < MANY_GROUPS; i++)
		ck_assert_uint_eq(peer.ids.groups[i], 100000 + i);
	ck_assert(!ids_in_group(&peer.ids, 0));
	ck_assert(ids_in_group(&peer.ids, 43));
	ck_assert_int_eq(peer_from_pid(&same, &self, client.pid), 0);
	ck_assert(ids_equal(&peer.ids, &same.ids));
	ck_assert(!peer_is_admin(&peer, &self));
	peer_done(&same);
	peer_done(&peer);
	client_end(&client);
}
END_TEST

static int become_powerless(const void *argument)
{
	/* A name that tries to be another field, and to end the one it is in. */
	prctl(PR_SET_NAME, "a) S\nCapEff:1");
	return creds_drop_capabilities(0);
}

START_TEST(root_without_capabilities_has_none)
{
	struct client client;
	struct peer peer;

	TEST_NEEDS(test_is_root(), "is about uid 0");
	client = client_start(become_powerless, NULL);
	ck_assert_int_eq(peer_from_socket(&peer, &self, client.socket, NULL, NULL, false), 0);
	ck_assert_uint_eq(peer.ids.uid, 0);
	ck_assert_uint_eq(peer.effective_caps, 0);
	ck_assert_uint_ne(peer.start_time, 0);
	ck_assert(!peer.sandboxed);
	peer_done(&peer);
	client_end(&client);
}
END_TEST

START_TEST(admin_is_unsandboxed_root_or_owner_of_a_user_broker)
{
	static const struct {
		uid_t uid;
		bool sandboxed, is_user, admin;
	} rows[] = {
		{ 0, false, false, true },     { 0, true, false, false },
		{ 1000, false, false, false }, { 1000, false, true, true },
		{ 1000, true, true, false },   { 1001, false, true, false },
		{ 0, false, true, true },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct peer peer = { .ids.uid = rows[i].uid, .sandboxed = rows[i].sandboxed };
		struct peer_self broker = { .uid = 1000, .is_user = rows[i].is_user };

		ck_assert_msg(peer_is_admin(&peer, &broker) == rows[i].admin, "row %zu", i);
	}
}
END_TEST

START_TEST(ids_are_compared_and_copied_by_value)
{
	gid_t groups[] = { 3, 5, 8 }, others[] = { 3, 5, 9 };
	struct ids a = { .uid = 1, .gid = 2, .groups = groups, .group_count = 3 };
	struct ids none = { .uid = 1, .gid = 2 }, other = a, copy;

	ck_assert_int_eq(ids_copy(&copy, &a), 0);
	ck_assert(ids_equal(&a, &copy));
	ids_done(&copy);
	ck_assert_ptr_null(copy.groups);
	ck_assert_int_eq(ids_copy(&copy, &none), 0);
	ck_assert(ids_equal(&none, &copy));
	ck_assert(!ids_equal(&none, &a));
	other.groups = others;
	ck_assert(!ids_equal(&other, &a));
	ck_assert(ids_in_group(&a, 2) && ids_in_group(&a, 8) && !ids_in_group(&a, 4));
	ck_assert(!ids_in_group(&none, 3));
}
END_TEST

Suite *suite_peer(void)
{
	Suite *suite = suite_create("peer");
	TCase *tcase = tcase_create("peer");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, unit_is_the_first_below_the_slices);
	tcase_add_test(tcase, start_time_is_read_behind_any_name);
	tcase_add_test(tcase, reading_of_proc_is_bounded);
	tcase_add_test(tcase, own_connection_has_own_identity);
	tcase_add_test(tcase, peer_of_a_context_is_sandboxed_and_its_app);
	tcase_add_test(tcase, without_peerpidfd_the_start_time_stands_in);
	tcase_add_test(tcase, peer_that_has_ended_is_turned_away);
	tcase_add_test(tcase, what_nobody_is_behind_is_an_error);
	tcase_add_test(tcase, peer_of_another_namespace_is_sandboxed);
	tcase_add_test(tcase, peer_outside_our_namespaces_is_sandboxed_without_a_pid);
	tcase_add_test(tcase, effective_ids_and_all_groups_are_taken);
	tcase_add_test(tcase, root_without_capabilities_has_none);
	tcase_add_test(tcase, admin_is_unsandboxed_root_or_owner_of_a_user_broker);
	tcase_add_test(tcase, ids_are_compared_and_copied_by_value);
	suite_add_tcase(suite, tcase);
	suite_add_tcase(suite, peer_case_of_texts());
	return suite;
}
