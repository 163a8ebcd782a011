/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the suites share: leaving out, descriptors at the end, directories, other users. */
#include "tests/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DESCRIPTORS 4096

static bool open_at_start[DESCRIPTORS];
static char directory[64];

void test_left_out(const char *test, const char *reason)
{
	const char *ci = getenv("CI");

	fprintf(stderr, "left out: %s: %s\n", test, reason);
	/* Where everything is to be had, leaving out is a failure. */
	if (ci && strcmp(ci, "true") == 0)
		ck_abort_msg("left out although CI=true: %s", reason);
}

static void list_descriptors(bool *ret)
{
	DIR *listing = opendir("/proc/self/fd");
	const struct dirent *entry;

	memset(ret, 0, DESCRIPTORS * sizeof(*ret));
	ck_assert_ptr_nonnull(listing);
	while ((entry = readdir(listing))) {
		int fd = atoi(entry->d_name);

		if (entry->d_name[0] != '.' && fd != dirfd(listing) && fd < DESCRIPTORS)
			ret[fd] = true;
	}
	closedir(listing);
}

void test_moment(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 1000 * 1000 }, NULL);
}

void test_fds_setup(void)
{
	list_descriptors(open_at_start);
}

void test_fds_teardown(void)
{
	bool now[DESCRIPTORS];
	char link[64], what[256];

	list_descriptors(now);
	for (int fd = 0; fd < DESCRIPTORS; fd++) {
		ssize_t size;

		if (now[fd] == open_at_start[fd])
			continue;
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		size = readlink(link, what, sizeof(what) - 1);
		what[size < 0 ? 0 : size] = 0;
		ck_abort_msg("descriptor %d (%s) was %s", fd, what,
			     now[fd] ? "left open" : "closed");
	}
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st;
	(void)ftw;
	return kind == FTW_DP || kind == FTW_DNR ? rmdir(path) : unlink(path);
}

static pid_t directory_pid;

void test_remove_directory(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void remove_directory(void)
{
	if (directory[0] && getpid() == directory_pid)
		test_remove_directory(directory);
}

const char *test_directory(void)
{
	if (directory[0] && directory_pid == getpid())
		return directory;
	/* A tmpfs where there is one: objects need it. */
	strcpy(directory, "/dev/shm/shmbroker-test.XXXXXX");
	if (!mkdtemp(directory)) {
		strcpy(directory, "/tmp/shmbroker-test.XXXXXX");
		ck_assert_ptr_nonnull(mkdtemp(directory));
	}
	ck_assert_int_eq(chmod(directory, 0755), 0);
	directory_pid = getpid();
	atexit(remove_directory);
	return directory;
}

bool test_is_root(void)
{
	return geteuid() == 0;
}

bool test_has_namespaces(void)
{
	static int known = -1;
	int status;
	pid_t pid;

	if (known >= 0)
		return known;
	pid = fork();
	if (pid == 0)
		_exit(unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 ||
		      mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		      mount("none", "/tmp", "tmpfs", 0, NULL) < 0 ||
		      (fsopen("tmpfs", FSOPEN_CLOEXEC) < 0 && errno == ENOSYS));
	known = pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
		WEXITSTATUS(status) == 0;
	return known;
}

int test_run_as(uid_t uid, gid_t gid, const gid_t *groups, size_t group_count,
		int (*function)(void *argument), void *argument)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		if (uid != (uid_t)-1 &&
		    (setgroups(group_count, groups) < 0 || setresgid(gid, gid, gid) < 0 ||
		     setresuid(uid, uid, uid) < 0)) {
			perror("test_run_as");
			_exit(99);
		}
		status = function(argument);
		remove_directory();
		_exit(status);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
