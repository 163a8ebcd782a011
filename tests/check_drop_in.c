/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The three functions that replace POSIX's: what they return, and what they do when
 * the broker is away, ends, is stopped, or is something else.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/internal.h"
#include "tests/drop_in.h"
#include "tests/test.h"

static void behaves_as_shm_open(void)
{
	int lowest = drop_in_lowest();
	struct stat status;
	int fd;

	errno = 77;
	drop_in_expect_broker(true);
	umask(022);
	fd = drop_in_open("//a", O_RDWR | O_CREAT | O_EXCL, 01666);
	ck_assert_int_eq(fd, lowest);
	ck_assert_int_eq(errno, 77);
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	ck_assert_int_eq(fstat(fd, &status), 0);
	ck_assert_uint_eq(status.st_mode, S_IFREG | 0644);
	ck_assert_int_eq(drop_in_open("a", O_RDONLY | O_EXCL, 0), lowest + 1);
	ck_assert_int_eq(drop_in_unlink("/a"), 0);
	ck_assert_int_eq(errno, 77);
	ck_assert_int_gt(drop_in_connection(), lowest + 1);
	ck_assert_int_eq(fcntl(drop_in_connection(), F_GETFD), FD_CLOEXEC);
	drop_in_expect_reason(NULL);
}

START_TEST(drop_ins_return_lowest_descriptor_and_keep_errno)
{
	drop_in_child(behaves_as_shm_open);
}
END_TEST

static void fails_as_shm_open(void)
{
	static const struct {
		const char *name;
		int oflag, open_error, unlink_error;
	} rows[] = {
		{ "", O_RDWR, EINVAL, ENOENT },
		{ "//", O_RDWR, EINVAL, ENOENT },
		{ ".", O_RDWR, EINVAL, EINVAL },
		{ "/..", O_RDWR, EINVAL, EINVAL },
		{ "/a/b", O_RDWR, EINVAL, ENOENT },
		{ ".shmbroker.x", O_RDWR, EINVAL, ENOENT },
		{ "absent", O_RDWR, ENOENT, ENOENT },
		{ "absent", O_RDWR | O_NONBLOCK | O_SYNC | O_NOCTTY | O_NOFOLLOW, ENOENT, ENOENT },
		{ "absent", O_ACCMODE, EINVAL, ENOENT },
		{ "absent", O_RDWR | O_DIRECTORY, EINVAL, ENOENT },
		{ "absent", O_RDWR | O_TMPFILE, EINVAL, ENOENT },
		{ "absent", O_RDONLY | O_PATH, EINVAL, ENOENT },
		{ "absent", O_RDWR | O_ASYNC, EINVAL, ENOENT },
	};
	char name[257];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		errno = 0;
		ck_assert_int_eq(drop_in_open(rows[i].name, rows[i].oflag, 0), -1);
		ck_assert_msg(errno == rows[i].open_error, "row %zu: %s", i, strerror(errno));
		ck_assert_int_eq(drop_in_unlink(rows[i].name), rows[i].unlink_error);
	}
	memset(name, 'n', 256);
	name[256] = '\0';
	name[100] = name[255] = '/';
	ck_assert_int_eq(drop_in_touch(name), EINVAL);
	ck_assert_int_eq(drop_in_unlink(name), ENOENT);
	name[100] = name[255] = 'n';
	ck_assert_int_eq(drop_in_touch(name), ENAMETOOLONG);
	drop_in_expect_reason("");
	ck_assert_int_eq(drop_in_unlink(name), ENAMETOOLONG);
	ck_assert_int_eq(drop_in_touch(name + 1), 0);
	ck_assert_int_eq(drop_in_open(name + 1, O_RDWR | O_CREAT | O_EXCL, 0600), -1);
	ck_assert_int_eq(errno, EEXIST);
	ck_assert_int_eq(drop_in_unlink(name + 1), 0);
}

START_TEST(drop_ins_fail_as_posix_ones)
{
	drop_in_child(fails_as_shm_open);
}
END_TEST

static volatile sig_atomic_t alarms;

static void count_alarm(int signal_number)
{
	alarms++;
}

static void alarm_each_ms(void)
{
	struct itimerval each_ms = { { 0, 1000 }, { 0, 1000 } };
	struct sigaction action = { .sa_handler = count_alarm };

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &each_ms, NULL);
	while (alarms < 100) {
		ck_assert_int_eq(drop_in_touch("a"), 0);
		ck_assert_int_eq(drop_in_unlink("a"), 0);
	}
}

START_TEST(signals_are_never_seen)
{
	drop_in_child(alarm_each_ms);
}
END_TEST

/* As a sandbox does it, for all calls of that number. */
static bool forbid(unsigned number)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void call_under_filters(void)
{
	static const struct {
		unsigned number;
		int error;
	} rows[] = {
		{ SYS_socket, ECONNREFUSED },	  { SYS_connect, ECONNREFUSED },
		{ SYS_setsockopt, ECONNREFUSED }, { SYS_recvfrom, ECONNREFUSED },
		{ SYS_sendmsg, ECONNREFUSED },	  { SYS_recvmsg, EACCES },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		pid_t pid = fork();

		if (pid == 0) {
			int error = forbid(rows[i].number) ? drop_in_touch("a") : rows[i].error;

			if (error != rows[i].error)
				fprintf(stderr, "row %zu: %s\n", i, strerror(error));
			_exit(error != rows[i].error);
		}
		drop_in_wait(pid);
	}
}

START_TEST(system_calls_that_are_forbidden_are_never_eperm)
{
	drop_in_child(call_under_filters);
}
END_TEST

/* Between its two calls the parent restarts the broker; SIGPIPE would end it. */
static void call_around_restart(int fd)
{
	char byte = 0;

	signal(SIGPIPE, SIG_DFL);
	ck_assert_int_eq(drop_in_touch("a"), 0);
	ck_assert_int_eq(write(fd, &byte, 1), 1);
	ck_assert_int_eq(read(fd, &byte, 1), 1);
	ck_assert_int_eq(drop_in_touch("b"), 0);
	drop_in_expect_broker(true);
	_exit(0);
}

START_TEST(restarted_broker_is_found_by_the_next_call)
{
	char byte;
	int pair[2];
	pid_t pid;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	pid = fork();
	if (pid == 0)
		call_around_restart(pair[1]);
	close(pair[1]);
	ck_assert_int_eq(read(pair[0], &byte, 1), 1);
	fake_broker_restart(&drop_in_broker);
	ck_assert_int_eq(write(pair[0], &byte, 1), 1);
	drop_in_wait(pid);
	close(pair[0]);
}
END_TEST

static void broker_ends_during_call(void)
{
	ck_assert_int_eq(drop_in_touch("unread-a"), 0);
	ck_assert_int_eq(drop_in_touch("read-a"), 0);
	/* No listener's queue to wait in, but a broker that ends each time. */
	ck_assert_int_eq(drop_in_touch("never-a"), ECONNREFUSED);
	ck_assert_int_eq(drop_in_unlink("never-a"), ECONNREFUSED);
	drop_in_expect_reason("");
	ck_assert_int_eq(drop_in_touch("b"), 0);
}

START_TEST(a_call_that_the_broker_ended_during_is_made_once_more)
{
	drop_in_child(broker_ends_during_call);
}
END_TEST

static void echo_of_create(void)
{
	ck_assert_int_ge(drop_in_open("unread-x", O_RDWR | O_CREAT | O_EXCL, 0600), 0);
	ck_assert_int_eq(drop_in_open("read-x", O_RDWR | O_CREAT | O_EXCL, 0600), -1);
	ck_assert_int_eq(errno, ECONNREFUSED);
	drop_in_expect_reason("may have been done");
	ck_assert_int_eq(drop_in_open("read-x", O_RDWR | O_CREAT | O_EXCL, 0600), -1);
	ck_assert_int_eq(errno, EEXIST);
}

static void echo_of_unlink(void)
{
	ck_assert_int_eq(drop_in_unlink("read-y"), 0);
	ck_assert_int_eq(drop_in_unlink("read-y"), ENOENT);
}

START_TEST(an_answer_that_may_be_an_echo_is_not_passed_on)
{
	drop_in_child(echo_of_create);
	fake_broker_restart(&drop_in_broker);
	drop_in_child(echo_of_unlink);
}
END_TEST

static void last_answer(void)
{
	ck_assert_int_eq(drop_in_touch("a"), 0);
	ck_assert_int_eq(drop_in_open("last-x", O_RDWR | O_CREAT | O_EXCL, 0600), -1);
	ck_assert_int_eq(errno, ECONNREFUSED);
	ck_assert(drop_in_exists("last-x"));
}

START_TEST(a_call_that_a_broker_may_have_done_before_it_went_fails)
{
	drop_in_child(last_answer);
}
END_TEST

static void no_broker(void)
{
	static const char *const paths[] = { "/nowhere/socket", "/dev/null/socket", "/dev/null" };
	char long_path[200];

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		setenv("SHMBROKER_SOCKET", paths[i], 1);
		errno = 77;
		drop_in_expect_broker(false);
		ck_assert_int_eq(errno, 77);
		ck_assert_int_eq(drop_in_touch("a"), ECONNREFUSED);
		ck_assert_int_eq(drop_in_unlink("a"), ECONNREFUSED);
		drop_in_expect_reason(paths[i]);
	}
	memset(long_path, '/', sizeof(long_path) - 1);
	long_path[sizeof(long_path) - 1] = '\0';
	setenv("SHMBROKER_SOCKET", long_path, 1);
	ck_assert_int_eq(drop_in_touch("a"), ECONNREFUSED);
	ck_assert_int_eq(drop_in_touch(""), EINVAL);
}

START_TEST(without_a_broker_the_connection_is_refused)
{
	drop_in_child(no_broker);
}
END_TEST

static void stream_socket(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%.90s/stream",
		 drop_in_broker.directory);
	ck_assert_int_eq(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	setenv("SHMBROKER_SOCKET", address.sun_path, 1);
	ck_assert_int_eq(drop_in_touch("a"), EPROTO);
	unlink(address.sun_path);
}

START_TEST(another_kind_of_socket_is_no_broker)
{
	drop_in_child(stream_socket);
}
END_TEST

/* Also with signals all the time, and with a connection that was made before. */
static void stopped_broker(void)
{
	struct itimerval each_ms = { { 0, 1000 }, { 0, 1000 } };
	struct sigaction action = { .sa_handler = count_alarm };
	int lowest = drop_in_lowest();

	shmb_default_timeout_ms = 30;
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &each_ms, NULL);
	kill(drop_in_broker.pid, SIGSTOP);
	ck_assert_int_eq(drop_in_touch("a"), ETIMEDOUT);
	ck_assert(!shmb_supported());
	kill(drop_in_broker.pid, SIGCONT);
	shmb_default_timeout_ms = 25000;
	ck_assert_int_eq(drop_in_touch("a"), 0);
	shmb_default_timeout_ms = 30;
	kill(drop_in_broker.pid, SIGSTOP);
	ck_assert_int_eq(drop_in_touch("late"), ETIMEDOUT);
	kill(drop_in_broker.pid, SIGCONT);
	shmb_default_timeout_ms = 25000;
	ck_assert_int_eq(drop_in_open("absent", O_RDWR, 0), -1);
	ck_assert_int_eq(errno, ENOENT);
	ck_assert(drop_in_exists("late"));
	ck_assert_int_eq(drop_in_lowest(), lowest);
}

START_TEST(stopped_broker_is_waited_for_no_longer_than_the_timeout)
{
	drop_in_child(stopped_broker);
}
END_TEST

static void *fail_in_thread(void *argument)
{
	drop_in_touch("");
	return (void *)(intptr_t)(*shmb_reason(NULL) != '\0');
}

static void reasons(void)
{
	pthread_t thread;
	void *has_reason;

	ck_assert_int_eq(drop_in_touch("a"), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, fail_in_thread, NULL), 0);
	ck_assert_int_eq(pthread_join(thread, &has_reason), 0);
	ck_assert_ptr_nonnull(has_reason);
	ck_assert_str_eq(shmb_reason(NULL), "");
}

START_TEST(each_thread_has_its_own_reason)
{
	drop_in_child(reasons);
}
END_TEST

Suite *suite_drop_in(void)
{
	Suite *suite = suite_create("drop_in");
	TCase *tcase = tcase_create("drop_in");

	tcase_add_checked_fixture(tcase, drop_in_setup, drop_in_teardown);
	tcase_set_timeout(tcase, 30);
	tcase_add_test(tcase, drop_ins_return_lowest_descriptor_and_keep_errno);
	tcase_add_test(tcase, drop_ins_fail_as_posix_ones);
	drop_in_add_process_tests(tcase);
	tcase_add_test(tcase, signals_are_never_seen);
	tcase_add_test(tcase, restarted_broker_is_found_by_the_next_call);
	tcase_add_test(tcase, a_call_that_the_broker_ended_during_is_made_once_more);
	tcase_add_test(tcase, an_answer_that_may_be_an_echo_is_not_passed_on);
	tcase_add_test(tcase, a_call_that_a_broker_may_have_done_before_it_went_fails);
	if (!drop_in_is_preloaded() || !getenv("SHMBROKER_FALLBACK")) {
		tcase_add_test(tcase, without_a_broker_the_connection_is_refused);
		tcase_add_test(tcase, system_calls_that_are_forbidden_are_never_eperm);
	}
	tcase_add_test(tcase, another_kind_of_socket_is_no_broker);
	/* Its reasons and its timeout are the preload library's own. */
	if (!drop_in_is_preloaded()) {
		tcase_add_test(tcase, stopped_broker_is_waited_for_no_longer_than_the_timeout);
		tcase_add_test(tcase, each_thread_has_its_own_reason);
	}
	suite_add_tcase(suite, tcase);
	return suite;
}
