/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Read-only twins: of pools, and of the host's directories. A part of the suite "keeper". */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/statvfs.h>

#include "daemon/fd.h"
#include "tests/keeper_fixture.h"
#include "tests/test.h"

/* The owner and root included: there is nothing about permission bits in it. */
static void check_stays_read_only(int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ck_assert_int_eq(open(path, O_RDWR | O_CLOEXEC), -1);
	ck_assert_int_eq(errno, EROFS);
	ck_assert_int_eq(truncate(path, 0), -1);
	ck_assert_int_eq(errno, EROFS);
	ck_assert_int_eq(fchmod(fd, 0666), -1);
	ck_assert_int_eq(errno, EROFS);
	ck_assert_int_eq(ftruncate(fd, 0), -1);
	ck_assert_ptr_eq(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	ck_assert_int_eq(errno, EACCES);
}

START_TEST(read_only_grant_survives_reopen_through_proc)
{
	struct keeper_reply reply;
	struct keeper *keeper;
	int made, granted;

	NEEDS_TABLE;
	keeper = start_with_pool(&reply);
	made = create(reply.writable, "a");
	ck_assert_int_eq(ftruncate(made, 4096), 0);
	check_writes_are_erofs(reply.read_only, "a");
	granted = openat(reply.read_only, "a", O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(granted, 0);
	check_stays_read_only(granted);
	fd_close(granted);
	fd_close(made);
	reply_close(&reply);
	keeper_free(keeper);
}
END_TEST

START_TEST(twin_of_a_host_directory_is_read_only_for_everybody)
{
	struct keeper_failure why;
	struct keeper_reply reply;
	struct keeper *keeper;
	char path[256];
	int fd, writable;

	NEEDS_TABLE;
	snprintf(path, sizeof(path), "%s", test_directory());
	ck_assert_int_eq(chmod(path, 01777), 0);
	keeper = start(NULL);
	ck_assert_int_eq(do_twin(keeper, path, &reply), 0);
	ck_assert_int_eq(reply.writable, -EBADF);
	writable = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd_close(create(writable, "a"));
	check_writes_are_erofs(reply.read_only, "a");
	fd = openat(reply.read_only, "a", O_RDONLY | O_CLOEXEC);
	check_stays_read_only(fd);
	fd_close(fd);
	ck_assert_int_eq(keeper_check_twin(writable, reply.read_only, &why), 0);
	fd = openat(reply.read_only, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert(same_directory(fd, reply.read_only));
	fd_close(fd);
	ck_assert_int_eq(unlinkat(writable, "a", 0), 0);
	fd_close(writable);
	reply_close(&reply);
	keeper_free(keeper);
}
END_TEST

START_TEST(twin_of_what_is_not_there_says_so)
{
	struct keeper_reply reply;
	struct keeper *keeper;

	NEEDS_TABLE;
	keeper = start(NULL);
	ck_assert_int_eq(do_twin(keeper, "/nonexistent-directory", &reply), ENOENT);
	ck_assert_int_eq(do_twin(keeper, "/proc/self/status", &reply), ENOTDIR);
	ck_assert_int_eq(do_twin(keeper, NULL, &reply), EINVAL);
	ck_assert_int_eq(reply.read_only, -EBADF);
	keeper_free(keeper);
}
END_TEST

START_TEST(pair_that_is_none_is_told_apart)
{
	struct keeper_reply one, other;
	struct keeper_failure why;
	struct keeper *keeper;
	int root, file;

	NEEDS_TABLE;
	keeper = start_with_pool(&one);
	ck_assert_int_eq(do_make(keeper, 2, false, &other), 0);
	ck_assert_int_eq(keeper_check_twin(one.writable, other.read_only, &why), EXDEV);
	ck_assert_ptr_nonnull(strstr(why.advice, "one tmpfs"));
	ck_assert_int_eq(keeper_check_twin(one.writable, one.writable, &why), EINVAL);
	ck_assert_str_eq(why.step, "fstatvfs of read-only-path");
	ck_assert_int_eq(keeper_check_twin(one.read_only, one.read_only, &why), EROFS);
	ck_assert_str_eq(why.step, "fstatvfs of path");
	root = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_eq(keeper_check_twin(root, root, &why), EINVAL);
	ck_assert_str_eq(why.step, "fstatfs");
	file = create(one.writable, "a");
	ck_assert_int_eq(keeper_check_twin(file, file, &why), ENOTDIR);
	ck_assert_int_eq(keeper_check_twin(-EBADF, root, &why), EBADF);
	fd_close(file);
	fd_close(root);
	reply_close(&one);
	reply_close(&other);
	keeper_free(keeper);
}
END_TEST

void keeper_add_twins(TCase *tests)
{
	tcase_add_test(tests, read_only_grant_survives_reopen_through_proc);
	tcase_add_test(tests, twin_of_a_host_directory_is_read_only_for_everybody);
	tcase_add_test(tests, twin_of_what_is_not_there_says_so);
	tcase_add_test(tests, pair_that_is_none_is_told_apart);
}
