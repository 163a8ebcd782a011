/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The keeper as the broker sees it: its queue, its end, and what is said where a table or a
 * pool can't be had. Its other parts are in check_keeper_helpers.c, _pools.c, _rights.c and
 * _twins.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "daemon/fd.h"
#include "tests/keeper_fixture.h"
#include "tests/test.h"

/* Both are consumed, and a table that can't be entered is kept: there are objects in it. */
START_TEST(found_table_that_cannot_be_entered_is_said_and_kept)
{
	static const struct keeper_fault faults[] = { { "setns", EPERM },
						      { "capset", EPERM },
						      { "filter", ENOMEM } };
	struct keeper_failure why;
	struct keeper_setup setup;
	struct keeper *keeper;

	NEEDS_TABLE;
	keeper = start(NULL);
	setup = setup_of(&faults[_i]);
	setup.userns = fcntl(keeper_userns_borrow(keeper), F_DUPFD_CLOEXEC, 3);
	setup.mntns = fcntl(keeper_mntns_borrow(keeper), F_DUPFD_CLOEXEC, 3);
	keeper_free(keeper);
	ck_assert_int_eq(keeper_start(&keeper, &setup), 0);
	ck_assert(!keeper_has_table(keeper, &why));
	ck_assert_str_eq(why.step, faults[_i].step);
	ck_assert_int_eq(keeper_userns_borrow(keeper), setup.userns);
	ck_assert_int_eq(keeper_mntns_borrow(keeper), setup.mntns);
	keeper_free(keeper);
}
END_TEST

/* As if the service manager had mixed something up. */
START_TEST(one_namespace_of_a_table_without_the_other_is_none)
{
	struct keeper_setup setup = setup_of(NULL);
	struct keeper_failure why;
	struct keeper *keeper;

	NEEDS_TABLE;
	keeper = start(NULL);
	setup.userns = fcntl(keeper_userns_borrow(keeper), F_DUPFD_CLOEXEC, 3);
	setup.mntns = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	keeper_free(keeper);
	ck_assert_int_eq(keeper_start(&keeper, &setup), 0);
	ck_assert(!keeper_has_table(keeper, &why));
	ck_assert_str_eq(why.step, "setns");
	ck_assert_int_eq(why.error, EPERM);
	keeper_free(keeper);
}
END_TEST

static int doomed_broker(void *argument)
{
	struct keeper *keeper = start(NULL);
	pid_t pid = keeper ? keeper_pid(keeper) : 0;

	if (write(*(int *)argument, &pid, sizeof(pid)) != sizeof(pid))
		return 1;
	/* A copy of every socket lives on: the end of the connection is not what ends it. */
	for (;;)
		pause();
}

START_TEST(keeper_dies_with_its_broker)
{
	struct pollfd event = { .events = POLLIN };
	pid_t broker, keeper = 0;
	int pipes[2];

	NEEDS_TABLE;
	ck_assert_int_eq(pipe2(pipes, O_CLOEXEC), 0);
	broker = fork();
	if (broker == 0)
		_exit(doomed_broker(&pipes[1]));
	ck_assert_int_eq(read(pipes[0], &keeper, sizeof(keeper)), sizeof(keeper));
	ck_assert_int_gt(keeper, 0);
	event.fd = pidfd_open(keeper, 0);
	ck_assert_int_ge(event.fd, 0);
	ck_assert_int_eq(poll(&event, 1, 0), 0);
	kill(broker, SIGKILL);
	ck_assert_int_eq(poll(&event, 1, ANSWER_MS), 1);
	waitpid(broker, NULL, 0);
	close(event.fd);
	close(pipes[0]);
	close(pipes[1]);
}
END_TEST

/* A stop of the unit signals every process in it; the broker still needs its helpers. */
START_TEST(signals_for_the_daemon_leave_the_keeper_working)
{
	struct keeper_reply reply;
	struct keeper *keeper;

	NEEDS_TABLE;
	keeper = start_with_pool(&reply);
	kill(keeper_pid(keeper), SIGTERM);
	kill(keeper_pid(keeper), SIGINT);
	kill(keeper_pid(keeper), SIGHUP);
	ck_assert_int_eq(do_simple(keeper, KEEPER_RELEASE, 1), 0);
	reply_close(&reply);
	keeper_free(keeper);
}
END_TEST

START_TEST(end_of_the_keeper_is_epipe_once_all_is_answered)
{
	struct keeper_request request = { .id = 7, .operation = KEEPER_FIND, .number = 1 };
	struct keeper_reply reply, last;
	struct keeper *keeper;

	NEEDS_TABLE;
	keeper = start_with_pool(&reply);
	kill(keeper_pid(keeper), SIGSTOP);
	ck_assert_int_eq(keeper_send(keeper, &request), 0);
	kill(keeper_pid(keeper), SIGKILL);
	ck_assert_int_eq(answer(keeper, &last), 1);
	ck_assert_uint_eq(last.id, 7);
	ck_assert_int_eq(last.failure.error, ECHILD);
	ck_assert_int_eq(answer(keeper, &last), -EPIPE);
	ck_assert_int_eq(keeper_send(keeper, &request), -EPIPE);
	ck_assert_int_eq(keeper_pid(keeper), 0);
	reply_close(&reply);
	keeper_free(keeper);
}
END_TEST

/* More than the socket holds, with nobody reading: queued, and answered in order. */
START_TEST(sending_never_blocks_and_answers_come_in_order)
{
	enum { REQUESTS = 3000 };
	struct keeper_request request = {
		.operation = KEEPER_RESIZE, .number = 1, .size_bytes = MIB, .objects = 8
	};
	struct keeper_reply reply, one;
	struct keeper *keeper;

	NEEDS_TABLE;
	keeper = start_with_pool(&reply);
	kill(keeper_pid(keeper), SIGSTOP);
	for (request.id = 0; request.id < REQUESTS; request.id++)
		ck_assert_int_eq(keeper_send(keeper, &request), 0);
	ck_assert_int_eq(keeper_receive(keeper, &one), 0);
	kill(keeper_pid(keeper), SIGCONT);
	for (uint64_t id = 0; id < REQUESTS; id++) {
		ck_assert_int_eq(answer(keeper, &one), 1);
		ck_assert_uint_eq(one.id, id);
		ck_assert_int_eq(one.failure.error, 0);
	}
	ck_assert_int_eq(keeper_receive(keeper, &one), 0);
	reply_close(&reply);
	keeper_free(keeper);
}
END_TEST

START_TEST(path_too_long_is_refused_at_once)
{
	struct keeper_request request = { .operation = KEEPER_TWIN };
	char path[10000];
	struct keeper *keeper;

	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	request.path = path;
	keeper = start(NULL);
	ck_assert_ptr_nonnull(keeper);
	ck_assert_int_eq(keeper_send(keeper, &request), -ENAMETOOLONG);
	keeper_free(keeper);
}
END_TEST

/* What can't be had for the whole table: why it is so is said, and twins are still made. */
static const struct {
	struct keeper_fault fault;
	const char *step, *advice;
} table_faults[] = {
	{ { "unshare", EPERM }, "unshare(", "kernel.unprivileged_userns_clone" },
	{ { "unshare", EPERM }, "unshare(", "read-only-path" },
	{ { "unshare", EPERM }, "unshare(", "AppArmor" },
	{ { "unshare", EACCES }, "unshare(", "apparmor_restrict_unprivileged_userns" },
	{ { "unshare", ENOSYS }, "unshare(", "seccomp" },
	{ { "unshare", ENOSPC }, "unshare(", "user.max_user_namespaces" },
	{ { "unshare", EINVAL }, "unshare(", "CONFIG_USER_NS" },
	{ { "read map", ENOENT }, "read uid_map", "/proc" },
	{ { "map", EPERM }, "write uid_map", "CAP_SETFCAP" },
	{ { "map", EACCES }, "write uid_map", "CAP_DAC_OVERRIDE" },
	{ { "nsfs", ENOENT }, "open /proc/self/ns", "/proc" },
	{ { "root", EACCES }, "mount the table's root", "apparmor_restrict_unprivileged_userns" },
	{ { "root", EPERM }, "mount the table's root", "seccomp" },
	{ { "root", ENOSYS }, "mount the table's root", "fsopen" },
	{ { "pivot", EINVAL }, "pivot_root", "chroot" },
	{ { "pivot", EPERM }, "pivot_root", "read-only-path" },
	{ { "detach", EPERM }, "umount2 of the old root", "seccomp" },
	{ { "setns", EPERM }, "setns", "seccomp" },
	{ { "setns", ENOSYS }, "setns", "seccomp" },
};

START_TEST(without_a_table_the_reason_is_said_and_twins_still_work)
{
	const struct keeper_fault *fault = &table_faults[_i].fault;
	struct keeper_failure why;
	struct keeper_reply reply;
	struct keeper *keeper;

	NEEDS_TABLE;
	keeper = start(fault);
	ck_assert_ptr_nonnull(keeper);
	ck_assert(!keeper_has_table(keeper, &why));
	ck_assert_int_eq(why.error, fault->error);
	ck_assert_ptr_nonnull(strstr(why.step, table_faults[_i].step));
	ck_assert_ptr_nonnull(strstr(why.advice, table_faults[_i].advice));
	ck_assert_int_eq(keeper_pid(keeper), 0);
	ck_assert_int_eq(keeper_userns_borrow(keeper), -EBADF);
	ck_assert_int_eq(do_make(keeper, 1, false, &reply), fault->error);
	ck_assert_str_eq(reply.failure.step, why.step);
	ck_assert_int_eq(do_simple(keeper, KEEPER_RELEASE, 1), fault->error);
	ck_assert_int_eq(do_twin(keeper, "/", &reply), 0);
	reply_close(&reply);
	keeper_free(keeper);
}
END_TEST

/* What all helpers need: neither can be had, and nothing hangs. Only root changes his ids. */
static const struct {
	struct keeper_fault fault;
	const char *advice;
} id_faults[] = {
	{ { "setgroups", EPERM }, "CAP_SETGID" },
	{ { "setresgid", EPERM }, "CAP_SETGID" },
	{ { "setresuid", EPERM }, "CAP_SETUID" },
	{ { "setresuid", EAGAIN }, "limit" },
};

START_TEST(without_the_tables_ids_everything_is_refused_with_the_reason)
{
	const struct keeper_fault *fault = &id_faults[_i].fault;
	struct keeper_reply reply;
	struct keeper *keeper;

	TEST_NEEDS(test_is_root(), "root");
	keeper = start(fault);
	ck_assert_ptr_nonnull(keeper);
	ck_assert(!keeper_has_table(keeper, NULL));
	ck_assert_int_eq(do_make(keeper, 1, false, &reply), fault->error);
	ck_assert_str_eq(reply.failure.step, fault->step);
	ck_assert_ptr_nonnull(strstr(reply.failure.advice, id_faults[_i].advice));
	ck_assert_int_eq(do_twin(keeper, "/", &reply), fault->error);
	ck_assert_str_eq(reply.failure.step, fault->step);
	keeper_free(keeper);
}
END_TEST

/* One request fails, the keeper stays and leaves nothing behind. */
static const struct {
	struct keeper_fault fault;
	const char *step, *advice;
	enum keeper_operation operation;
} request_faults[] = {
	{ { "mkdir", ENOSPC }, "mkdir", "", KEEPER_MAKE },
	{ { "fsopen", ENOSYS }, "fsopen", "seccomp", KEEPER_MAKE },
	{ { "fsopen", EPERM }, "fsopen", "read-only-path", KEEPER_MAKE },
	{ { "option", EINVAL }, "fsconfig", "huge", KEEPER_MAKE },
	{ { "create", ENOMEM }, "FSCONFIG_CMD_CREATE", "memory", KEEPER_MAKE },
	{ { "fsmount", EPERM }, "fsmount", "security module", KEEPER_MAKE },
	{ { "fsmount", ENOSPC }, "fsmount", "max_mnt_namespaces", KEEPER_MAKE },
	{ { "move_mount", EACCES }, "move_mount", "security module", KEEPER_MAKE },
	{ { "move_mount", ENOSPC }, "move_mount", "fs.mount-max", KEEPER_MAKE },
	{ { "open_tree", EPERM }, "open_tree", "security module", KEEPER_MAKE },
	{ { "open_tree", EMFILE }, "open_tree", "LimitNOFILE", KEEPER_MAKE },
	{ { "open_tree", ENOSPC }, "open_tree", "max_mnt_namespaces", KEEPER_MAKE },
	{ { "mount_setattr", ENOSYS }, "mount_setattr", "5.12", KEEPER_MAKE },
	{ { "openat", ENFILE }, "openat", "", KEEPER_MAKE },
	{ { "twin fork", EAGAIN }, "twin: fork", "TasksMax", KEEPER_TWIN },
	{ { "twin unshare", EPERM }, "twin: unshare", "read-only-path", KEEPER_TWIN },
	{ { "twin unshare", ENOSPC }, "twin: unshare", "max_user_namespaces", KEEPER_TWIN },
	{ { "twin open_tree", EACCES }, "twin: open_tree", "AppArmor", KEEPER_TWIN },
	{ { "twin mount_setattr", ENOSYS }, "twin: mount_setattr", "5.12", KEEPER_TWIN },
	{ { "twin openat", EACCES }, "twin: openat", "read", KEEPER_TWIN },
};

START_TEST(failed_request_leaves_a_keeper_that_answers_the_others)
{
	const struct keeper_fault *fault = &request_faults[_i].fault;
	bool twin = request_faults[_i].operation == KEEPER_TWIN;
	struct keeper_reply reply;
	struct keeper *keeper;

	NEEDS_TABLE;
	keeper = start(fault);
	ck_assert_ptr_nonnull(keeper);
	ck_assert(keeper_has_table(keeper, NULL));
	for (int round = 0; round < 2; round++) {
		ck_assert_int_eq(twin ? do_twin(keeper, "/", &reply)
				      : do_make(keeper, 1, false, &reply),
				 fault->error);
		ck_assert_ptr_nonnull(strstr(reply.failure.step, request_faults[_i].step));
		ck_assert_ptr_nonnull(strstr(reply.failure.advice, request_faults[_i].advice));
		ck_assert_int_eq(reply.writable, -EBADF);
		ck_assert_int_eq(reply.read_only, -EBADF);
	}
	/* Nothing is mounted there, and what the fault doesn't touch is done. */
	ck_assert_int_eq(do_simple(keeper, KEEPER_FIND, 1), ENOENT);
	ck_assert_int_eq(twin ? do_make(keeper, 1, false, &reply) : do_twin(keeper, "/", &reply),
			 0);
	reply_close(&reply);
	keeper_free(keeper);
}
END_TEST

START_TEST(pool_that_cannot_be_unmounted_stays_what_it_was)
{
	static const struct keeper_fault rows[] = {
		{ "umount", EBUSY },
		{ "fspick", EPERM },
		{ "reconfigure", EPERM },
	};
	struct keeper_reply reply;
	struct keeper *keeper;
	struct statvfs mount;

	NEEDS_TABLE;
	keeper = start(&rows[_i]);
	ck_assert_int_eq(do_make(keeper, 1, false, &reply), 0);
	ck_assert_int_eq(do_simple(keeper, KEEPER_RELEASE, 1), rows[_i].error);
	ck_assert_int_eq(fstatvfs(reply.writable, &mount), 0);
	ck_assert_uint_eq(mount.f_files, 9);
	ck_assert_uint_eq(mount.f_blocks * mount.f_frsize, MIB);
	reply_close(&reply);
	ck_assert_int_eq(do_simple(keeper, KEEPER_FIND, 1), 0);
	keeper_free(keeper);
}
END_TEST

START_TEST(directory_that_is_left_in_the_table_is_used_again)
{
	static const struct keeper_fault fault = { "rmdir", EBUSY };
	struct keeper_reply reply;
	struct keeper *keeper;

	NEEDS_TABLE;
	keeper = start(&fault);
	for (int round = 0; round < 2; round++) {
		ck_assert_int_eq(do_make(keeper, 1, false, &reply), 0);
		reply_close(&reply);
		ck_assert_int_eq(do_simple(keeper, KEEPER_RELEASE, 1), 0);
		ck_assert_int_eq(do_simple(keeper, KEEPER_FIND, 1), ENOENT);
		ck_assert_int_eq(do_simple(keeper, KEEPER_LEND, 1), ENOENT);
	}
	keeper_free(keeper);
}
END_TEST

/* The pool is there all the same: found when there is room again. */
START_TEST(no_room_for_the_descriptors_is_told)
{
	struct rlimit before, now;
	struct keeper_reply reply;
	struct keeper *keeper;
	int lowest;

	NEEDS_TABLE;
	keeper = start(NULL);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
	lowest = fcntl(0, F_DUPFD_CLOEXEC, 0);
	fd_close(lowest);
	now = before;
	now.rlim_cur = (rlim_t)lowest;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &now), 0);
	ck_assert_int_eq(do_make(keeper, 1, false, &reply), EMFILE);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
	ck_assert_ptr_nonnull(strstr(reply.failure.advice, "LimitNOFILE"));
	ck_assert_int_eq(reply.writable, -EBADF);
	ck_assert_int_eq(do_simple(keeper, KEEPER_FIND, 1), 0);
	ck_assert_int_eq(do_simple(keeper, KEEPER_RELEASE, 1), 0);
	keeper_free(keeper);
}
END_TEST

static int hooked = -EBADF;

static void close_hooked(void)
{
	uint64_t one = 1;

	if (write(hooked, &one, sizeof(one)) < 0)
		_exit(1);
}

START_TEST(every_child_runs_the_hook)
{
	struct keeper_setup setup = setup_of(NULL);
	struct keeper *keeper;
	uint64_t children = 0;

	NEEDS_TABLE;
	hooked = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	setup.after_fork = close_hooked;
	ck_assert_int_eq(keeper_start(&keeper, &setup), 0);
	ck_assert_int_eq(read(hooked, &children, sizeof(children)), sizeof(children));
	/* Maker, mapper, keeper and the twins' helper. */
	ck_assert_uint_eq(children, 4);
	keeper_free(keeper);
	hooked = fd_close(hooked);
}
END_TEST

static TCase *tcase(Suite *suite, const char *name)
{
	TCase *tests = tcase_create(name);

	tcase_add_checked_fixture(tests, test_fds_setup, test_fds_teardown);
	tcase_set_timeout(tests, 120);
	suite_add_tcase(suite, tests);
	return tests;
}

static void add_processes(TCase *tests)
{
	tcase_add_loop_test(tests, found_table_that_cannot_be_entered_is_said_and_kept, 0, 3);
	tcase_add_test(tests, one_namespace_of_a_table_without_the_other_is_none);
	tcase_add_test(tests, keeper_dies_with_its_broker);
	tcase_add_test(tests, signals_for_the_daemon_leave_the_keeper_working);
	tcase_add_test(tests, end_of_the_keeper_is_epipe_once_all_is_answered);
	tcase_add_test(tests, sending_never_blocks_and_answers_come_in_order);
	tcase_add_test(tests, path_too_long_is_refused_at_once);
	tcase_add_test(tests, no_room_for_the_descriptors_is_told);
	tcase_add_test(tests, every_child_runs_the_hook);
}

static void add_faults(TCase *tests)
{
	tcase_add_loop_test(tests, without_a_table_the_reason_is_said_and_twins_still_work, 0,
			    sizeof(table_faults) / sizeof(*table_faults));
	tcase_add_loop_test(tests, without_the_tables_ids_everything_is_refused_with_the_reason, 0,
			    sizeof(id_faults) / sizeof(*id_faults));
	tcase_add_loop_test(tests, failed_request_leaves_a_keeper_that_answers_the_others, 0,
			    sizeof(request_faults) / sizeof(*request_faults));
	tcase_add_test(tests, directory_that_is_left_in_the_table_is_used_again);
	tcase_add_loop_test(tests, pool_that_cannot_be_unmounted_stays_what_it_was, 0, 3);
}

Suite *suite_keeper(void)
{
	Suite *suite = suite_create("keeper");

	keeper_add_pools(tcase(suite, "pools"));
	keeper_add_twins(tcase(suite, "twins"));
	keeper_add_rights(tcase(suite, "rights"));
	add_processes(tcase(suite, "processes"));
	keeper_add_helpers(tcase(suite, "helpers"));
	add_faults(tcase(suite, "faults"));
	return suite;
}
