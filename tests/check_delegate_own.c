/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Delegated pools that are one user's alone: a drop-in is one system call there, as the C library's
 * function is, and by its path it is known where it leads. A case of the suite "delegate".
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/single_threaded.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/process.h"
#include "tests/delegate_fixture.h"

/* A forked child has one thread, whatever its parent had. NULL: it has to look. */
static struct shmb_delegation *own_delegation(void)
{
	struct shmb_delegation *d = NULL;
	struct process *process;
	int fd;

	__libc_single_threaded = true;
	fd = shmb_shm_open("/x", O_RDWR | O_CREAT, 0600);
	close(fd);
	process = fd < 0 ? NULL : shmb_process_borrow();
	if (process && process->link.delegation.way_size > 0)
		d = &process->link.delegation;
	if (process)
		shmb_process_give_back(process);
	return d;
}

#define ALLOW(call)                                                                                \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1),                                     \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* Whatever else is called ends the process. */
static int forbid_all_but(void)
{
	struct sock_filter program[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(openat2),
		ALLOW(close),
		ALLOW(exit_group),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog filter = { .len = sizeof(program) / sizeof(*program), .filter = program };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

/* Each second it looks: it has, at the beginning of one. */
static bool begin_second(void)
{
	struct timespec now;
	int fd;

	do {
		clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	} while (now.tv_nsec > 100000000);
	fd = shmb_shm_open("/x", O_RDONLY, 0);
	return fd >= 0 && close(fd) == 0;
}

static int make_three_calls(void)
{
	int fd;

	EXPECT(begin_second());
	shmb_shm_unlink("/y");
	EXPECT(forbid_all_but() == 0);
	fd = shmb_shm_open("/x", O_RDWR, 0);
	EXPECT(fd >= 0 && close(fd) == 0);
	fd = shmb_shm_open("/y", O_RDWR | O_CREAT | O_EXCL | O_TRUNC, 0600);
	EXPECT(fd >= 0 && close(fd) == 0);
	fd = shmb_shm_open("/y", O_RDONLY, 0);
	EXPECT(fd >= 0 && close(fd) == 0);
	return 0;
}

static int call_as_little_as_the_kernel_asks(void *argument)
{
	int status = -1;

	(void)argument;
	EXPECT(own_delegation());
	/* Another try for a machine that stood still meanwhile. */
	for (int i = 0; i < 5 && status != 0; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			int fd = shmb_shm_open("/x", O_RDWR, 0); /* a connection of its own */

			_exit(fd < 0 || close(fd) < 0 ? 99 : make_three_calls());
		}
		EXPECT(waitpid(pid, &status, 0) == pid);
	}
	return status == 0 ? 0 : 98;
}

START_TEST(an_open_is_one_system_call)
{
	NEEDS_TABLE;
	run_beside_broker(alone, somebody(), call_as_little_as_the_kernel_asks, NULL);
}
END_TEST

static void ring(int number)
{
	(void)number;
}

static int be_as_shm_open(void *argument)
{
	const struct itimerval soon = { { 0, 10000 }, { 0, 10000 } };
	struct shmb_delegation *d;
	struct stat st;
	int fd, lowest, native;
	char name[64];

	(void)argument;
	d = own_delegation();
	EXPECT(d);
	snprintf(name, sizeof(name), "/shmbroker-test-%d", getpid());
	native = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0666);
	EXPECT(native >= 0);
	shm_unlink(name);
	lowest = dup(0);
	close(lowest);
	umask(027);
	errno = 77;
	fd = shmb_shm_open("//y", O_RDWR | O_CREAT | O_EXCL, 01666);
	EXPECT(fd == lowest && errno == 77);
	umask(022);
	EXPECT(fstat(fd, &st) == 0 && st.st_mode == (S_IFREG | 0640) && st.st_uid == geteuid());
	EXPECT(fcntl(fd, F_GETFL) == fcntl(native, F_GETFL));
	EXPECT(fcntl(fd, F_GETFD) == FD_CLOEXEC);
	EXPECT(write(fd, "content", 7) == 7);
	close(fd);
	fd = shmb_shm_open("/y", O_RDWR | O_TRUNC, 0);
	EXPECT(fd >= 0 && fstat(fd, &st) == 0 && st.st_size == 0);
	close(fd);
	EXPECT(shmb_shm_open("/y", O_RDWR | O_CREAT | O_EXCL, 0600) < 0 && errno == EEXIST);
	EXPECT(shmb_shm_open("/none", O_RDWR, 0) < 0 && errno == ENOENT);
	EXPECT(*shmb_reason(NULL));
	fd = shmb_shm_open("/y", O_RDONLY, 0);
	EXPECT(fd >= 0 && !*shmb_reason(NULL) && fchmod(fd, 0666) < 0 && errno == EROFS);
	close(fd);
	for (int i = 0; i < 5; i++) {
		static const char *const names[] = { "/a/b", "/..", "/.", "/", "/.shmbroker.1" };

		EXPECT(shmb_shm_open(names[i], O_RDWR | O_CREAT, 0600) < 0 && errno == EINVAL);
	}
	EXPECT(shmb_shm_open("/y", O_WRONLY | O_RDWR, 0) < 0 && errno == EINVAL);
	fd = shmb_shm_open("/.hidden", O_RDWR | O_CREAT, 0600);
	EXPECT(fd >= 0 && close(fd) == 0 && shmb_shm_unlink("/.hidden") == 0);
	/* A link leads nowhere, as for the C library's. */
	EXPECT(symlinkat("y", d->directories.writable, "link") == 0);
	EXPECT(shmb_shm_open("/link", O_RDWR, 0) < 0 && errno == EINVAL);
	EXPECT(symlinkat("/", d->directories.writable, "d") == 0);
	EXPECT(shmb_shm_open("/d", O_RDONLY, 0) < 0 && errno == EINVAL);
	/* Nobody but himself can put this one there; a signal ends his waiting at it. */
	EXPECT(mkfifoat(d->directories.writable, "fifo", 0600) == 0);
	for (int i = 0; (fd = shmb_shm_open("/fifo", O_RDWR, 0)) < 0 && i < 5; i++)
		EXPECT(begin_second());
	EXPECT(fd >= 0 && fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode));
	close(fd);
	EXPECT(sigaction(SIGALRM, &(struct sigaction){ .sa_handler = ring }, NULL) == 0);
	EXPECT(setitimer(ITIMER_REAL, &soon, NULL) == 0);
	EXPECT(shmb_shm_open("/fifo", O_RDONLY, 0) < 0 && errno == EINVAL);
	EXPECT(setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL) == 0);
	/* Rights that the broker has and he hasn't. */
	EXPECT(fchmodat(d->directories.writable, "y", 0, 0) == 0);
	fd = shmb_shm_open("/y", O_RDWR, 0);
	EXPECT(fd >= 0 && close(fd) == 0);
	return 0;
}

START_TEST(what_it_opens_is_what_shm_open_would)
{
	NEEDS_TABLE;
	run_beside_broker(alone, somebody(), be_as_shm_open, NULL);
}
END_TEST

/* Directories of the program's own, in which such names are, too. */
static int put_others_in_place(void *argument)
{
	const char *directory = argument;
	struct shmb_delegation *d;
	int fd, others, numbers[2];
	struct stat st;

	d = own_delegation();
	EXPECT(d);
	others = open(directory, O_RDONLY | O_DIRECTORY);
	EXPECT(others >= 0 && mkdirat(others, "own", 0700) == 0);
	/* One such as he can't know. */
	EXPECT(mkdirat(others, "own/" WAYPOINT_PREFIX "0123456789abcdef", 0700) == 0);
	fd = openat(others, "own", O_RDONLY | O_DIRECTORY);
	close(others);
	others = fd;
	fd = openat(others, "x", O_RDWR | O_CREAT, 0600);
	EXPECT(fd >= 0 && write(fd, "other", 5) == 5);
	close(fd);
	for (int i = 0; i < 4; i++) {
		d = own_delegation();
		EXPECT(d);
		numbers[0] = d->directories.writable;
		numbers[1] = d->directories.read_only;
		EXPECT(dup2(others, numbers[0]) >= 0 && dup2(others, numbers[1]) >= 0);
		switch (i) {
		case 0:
			fd = shmb_shm_open("/x", O_RDWR, 0);
			EXPECT(fd >= 0 && fstat(fd, &st) == 0 && st.st_size == 0);
			close(fd);
			break;
		case 1:
			fd = shmb_shm_open("/x", O_RDONLY, 0);
			EXPECT(fd >= 0 && fstat(fd, &st) == 0 && st.st_size == 0);
			close(fd);
			break;
		case 2:
			fd = shmb_shm_open("/new", O_RDWR | O_CREAT | O_EXCL, 0600);
			EXPECT(fd >= 0 && faccessat(others, "new", F_OK, 0) < 0);
			close(fd);
			break;
		default:
			EXPECT(shmb_shm_unlink("/x") == 0);
		}
		/* They are the program's. */
		EXPECT(fstat(numbers[0], &st) == 0 && S_ISDIR(st.st_mode));
		EXPECT(close(numbers[0]) == 0 && close(numbers[1]) == 0);
	}
	EXPECT(unlinkat(others, "x", 0) == 0);
	return 0;
}

START_TEST(a_directory_under_its_number_is_not_entered)
{
	char place[256];

	NEEDS_TABLE;
	snprintf(place, sizeof(place), "%s/others", test_directory());
	ck_assert_int_eq(mkdir(place, 0777), 0);
	ck_assert_int_eq(chmod(place, 0777), 0);
	run_beside_broker(alone, somebody(), put_others_in_place, place);
}
END_TEST

static int lose_the_way(void *argument)
{
	const bool *is_root = argument;
	struct shmb_delegation *d;
	char name[WAYPOINT_SIZE];
	int r, fd;

	d = own_delegation();
	EXPECT(d);
	r = unlinkat(d->directories.writable, name_of(d, name), AT_REMOVEDIR);
	/* It is the broker's, who may be himself. */
	EXPECT(*is_root ? r < 0 && (errno == EPERM || errno == EACCES) : r == 0);
	EXPECT(mkdirat(d->directories.writable, "sub", 0700) == 0);
	EXPECT(mkdirat(d->directories.writable, "sub/deep", 0700) == 0);
	if (*is_root)
		snprintf(d->way, sizeof(d->way), WAYPOINT_PREFIX "0123456789abcdef/../");
	EXPECT(symlinkat("sub/deep", d->directories.writable, name_of(d, name)) == 0);
	for (int i = 0; i < 2; i++) {
		fd = shmb_shm_open("/x", O_RDWR, 0);
		EXPECT(fd >= 0 && close(fd) == 0);
		fd = shmb_shm_open("/y", O_RDWR | O_CREAT | O_EXCL, 0600);
		EXPECT(fd >= 0 && close(fd) == 0);
		EXPECT(faccessat(d->directories.writable, "sub/y", F_OK, 0) < 0);
		EXPECT(shmb_shm_unlink("/y") == 0);
		EXPECT(shmb_shm_unlink("/y") < 0 && errno == ENOENT);
		EXPECT(shmb_shm_open("/y", O_RDWR, 0) < 0 && errno == ENOENT);
	}
	return 0;
}

START_TEST(without_its_way_it_is_the_long_one)
{
	bool is_root = test_is_root();

	NEEDS_TABLE;
	run_beside_broker(alone, somebody(), lose_the_way, &is_root);
}
END_TEST

/* Where it looks, once a second or as another thread is at it, it is no object. */
static void *open_fifo(void *argument)
{
	int fd;

	do {
		fd = shmb_shm_open("/fifo", O_RDONLY, 0);
	} while (fd < 0 && errno == EINVAL);
	*(int *)argument = fd;
	return NULL;
}

/* A thread that waits at a FIFO keeps nobody from what is none. */
static int wait_beside_others(void *argument)
{
	struct shmb_delegation *d;
	pthread_t thread;
	int fd, writer = -1, waiting = -1;

	(void)argument;
	d = own_delegation();
	EXPECT(d);
	EXPECT(mkfifoat(d->directories.writable, "fifo", 0600) == 0);
	EXPECT(pthread_create(&thread, NULL, open_fifo, &waiting) == 0);
	for (int i = 0; i < 20; i++) {
		test_moment();
		fd = shmb_shm_open("/x", O_RDWR, 0);
		EXPECT(fd >= 0 && close(fd) == 0);
		fd = shmb_shm_open("/y", O_RDWR | O_CREAT, 0600);
		EXPECT(fd >= 0 && close(fd) == 0 && shmb_shm_unlink("/y") == 0);
	}
	/* It waits there by then, or comes to. */
	while (writer < 0) {
		writer = openat(d->directories.writable, "fifo", O_WRONLY | O_NONBLOCK);
		EXPECT(writer >= 0 || errno == ENXIO);
		test_moment();
	}
	EXPECT(pthread_join(thread, NULL) == 0 && waiting >= 0);
	return 0;
}

START_TEST(who_waits_at_what_is_his_own_holds_no_lock)
{
	NEEDS_TABLE;
	run_beside_broker(alone, somebody(), wait_beside_others, NULL);
}
END_TEST

/* What holds its name is opened by nobody: a process that comes by rights over it, too. */
static int open_sealed(void *argument)
{
	struct shmb_delegation *d;
	char text[8] = "", name[WAYPOINT_SIZE];
	struct shmb *c;
	int fd;

	(void)argument;
	d = own_delegation();
	EXPECT(d);
	EXPECT(shmb_connect(&c, NULL) == 0);
	put_sealed(c, "/sealed", "sealed");
	EXPECT(faccessat(d->directories.writable, name_of(d, name), F_OK, 0) < 0 &&
	       errno == ENOENT);
	EXPECT(shmb_shm_open("/sealed", O_RDWR, 0) < 0 && errno == EACCES);
	fd = shmb_shm_open("/sealed", O_RDONLY, 0);
	EXPECT(fd >= 0 && read(fd, text, 6) == 6 && strcmp(text, "sealed") == 0);
	EXPECT(fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK);
	close(fd);
	/* Nor is there another. */
	fd = shmb_shm_open("/x", O_RDWR | O_CREAT, 0600);
	EXPECT(fd >= 0 && close(fd) == 0 && d->directories.writable >= 0 && d->way_size == 0);
	EXPECT(shmb_unlink(c, "/sealed") == 0);
	return 0;
}

START_TEST(what_is_sealed_is_found_there)
{
	NEEDS_TABLE;
	run_beside_broker(alone, somebody(), open_sealed, NULL);
}
END_TEST

TCase *delegate_case_of_own(void)
{
	TCase *tests = tcase_create("own");

	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, test_fds_setup, test_fds_teardown);
	/* Sanitizers make calls of their own. */
	if (!IS_SANITIZED)
		tcase_add_test(tests, an_open_is_one_system_call);
	tcase_add_test(tests, what_it_opens_is_what_shm_open_would);
	tcase_add_test(tests, a_directory_under_its_number_is_not_entered);
	tcase_add_test(tests, without_its_way_it_is_the_long_one);
	tcase_add_test(tests, who_waits_at_what_is_his_own_holds_no_lock);
	tcase_add_test(tests, what_is_sealed_is_found_there);
	return tests;
}
