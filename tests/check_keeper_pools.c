/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a pool promises, and what the design leans on of the kernel for it: each as
 * a test, on real mounts. Part of the keeper's suite.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include "daemon/fd.h"
#include "tests/keeper_fixture.h"
#include "tests/sandbox.h"
#include "tests/test.h"

START_TEST(made_pool_is_a_pair_of_one_tmpfs)
{
	struct keeper_failure why;
	struct keeper_reply reply;
	struct keeper *keeper;
	struct statvfs mount;
	struct stat status;

	NEEDS_TABLE;
	keeper = start_with_pool(&reply);
	ck_assert_int_eq(keeper_check_twin(reply.writable, reply.read_only, &why), 0);
	ck_assert_int_eq(fstat(reply.writable, &status), 0);
	ck_assert_uint_eq(status.st_mode, S_IFDIR | 01777);
	ck_assert_uint_eq(status.st_uid, geteuid());
	ck_assert_uint_eq(status.st_gid, getegid());
	ck_assert_int_eq(fstatvfs(reply.writable, &mount), 0);
	ck_assert_uint_eq(mount.f_flag & (ST_NOSUID | ST_NODEV | ST_NOEXEC | ST_RDONLY),
			  ST_NOSUID | ST_NODEV | ST_NOEXEC);
	ck_assert_uint_eq(mount.f_blocks * mount.f_frsize, MIB);
	ck_assert_uint_eq(mount.f_files, 9);
	ck_assert_int_eq(fcntl(reply.writable, F_GETFD), FD_CLOEXEC);
	ck_assert_int_eq(fcntl(reply.read_only, F_GETFD), FD_CLOEXEC);
	reply_close(&reply);
	keeper_free(keeper);
}
END_TEST

/* From an attached mount `..` would lead into the table, and so into every other pool. */
START_TEST(dot_dot_stays_in_its_pool)
{
	static const char *const ways[] = { "..", "../..", "../../.." };
	struct keeper_reply one, other;
	struct keeper *keeper;

	NEEDS_TABLE;
	keeper = start_with_pool(&one);
	ck_assert_int_eq(do_make(keeper, 2, false, &other), 0);
	for (int side = 0; side < 2; side++) {
		int pool = side == 0 ? one.writable : one.read_only;

		for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
			int up = openat(pool, ways[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

			ck_assert_int_ge(up, 0);
			ck_assert(same_directory(up, pool));
			fd_close(up);
		}
		ck_assert_int_eq(openat(pool, "../2", O_RDONLY | O_DIRECTORY | O_CLOEXEC), -1);
		ck_assert_int_eq(errno, ENOENT);
		ck_assert_int_eq(openat(pool, "../1", O_RDONLY | O_DIRECTORY | O_CLOEXEC), -1);
		ck_assert_int_eq(errno, ENOENT);
	}
	reply_close(&one);
	reply_close(&other);
	keeper_free(keeper);
}
END_TEST

START_TEST(what_is_lent_is_one_pool_and_no_more)
{
	struct keeper_reply one, other, lent;
	struct keeper *keeper;
	struct statvfs mount;
	int up;

	NEEDS_TABLE;
	keeper = start_with_pool(&one);
	ck_assert_int_eq(do_make(keeper, 2, false, &other), 0);
	ck_assert_int_eq(do_simple(keeper, KEEPER_LEND, 3), ENOENT);
	ck_assert_int_eq(ask(keeper,
			     (struct keeper_request){ .operation = KEEPER_LEND, .number = 1 },
			     &lent),
			 0);
	ck_assert_int_eq(lent.read_only, -EBADF);
	ck_assert_int_eq(fcntl(lent.writable, F_GETFD), FD_CLOEXEC);
	ck_assert(same_directory(lent.writable, one.writable));
	up = openat(lent.writable, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
	ck_assert(same_directory(up, one.writable));
	fd_close(up);
	ck_assert_int_eq(fstatvfs(lent.writable, &mount), 0);
	ck_assert_uint_eq(mount.f_flag & (ST_NOSUID | ST_NODEV | ST_NOEXEC | ST_RDONLY),
			  ST_NOSUID | ST_NODEV | ST_NOEXEC);
	/* It keeps nothing from being released: who knows that it is in use asks for no release. */
	ck_assert_int_eq(do_simple(keeper, KEEPER_RELEASE, 1), 0);
	ck_assert_int_eq(create(lent.writable, "a"), -1);
	ck_assert_int_eq(errno, ENOSPC);
	reply_close(&lent);
	reply_close(&one);
	reply_close(&other);
	keeper_free(keeper);
}
END_TEST

static int do_lend(struct keeper *keeper, uint32_t number, int *ret_mount)
{
	struct keeper_reply reply;
	int result = ask(keeper,
			 (struct keeper_request){ .operation = KEEPER_LEND, .number = number },
			 &reply);

	*ret_mount = reply.writable;
	return result;
}

/* In a sandbox: whether the mount can be put somewhere. */
static int attach(void *argument)
{
	EXPECT(sandbox_enter_user(geteuid(), getegid(), CLONE_NEWNS));
	return move_mount(*(int *)argument, "", AT_FDCWD, test_directory(),
			  MOVE_MOUNT_F_EMPTY_PATH) < 0
		       ? errno
		       : 0;
}

static int attach_in_sandbox(int mount)
{
	return test_run_as((uid_t)-1, 0, NULL, 0, attach, &mount);
}

/* Each has a mount namespace to itself, of which the table's user has so many. */
START_TEST(mounts_that_are_attached_nowhere_are_bounded)
{
	enum { OF_ONE = 16, OF_ALL = 2 * OF_ONE };
	struct rlimit before, few;
	struct keeper_reply reply;
	int mount[OF_ALL], other;
	struct keeper *keeper;

	NEEDS_TABLE;
	/* Of all there are half as many as descriptors. */
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = (struct rlimit){ .rlim_cur = 2 * OF_ALL, .rlim_max = before.rlim_max };
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	keeper = start_with_pool(&reply);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
	reply_close(&reply);
	for (uint32_t number = 2; number <= 3; number++) {
		ck_assert_int_eq(do_make(keeper, number, false, &reply), 0);
		reply_close(&reply);
	}
	for (int i = 0; i < OF_ONE; i++)
		ck_assert_int_eq(do_lend(keeper, 1, &mount[i]), 0);
	ck_assert_int_eq(do_lend(keeper, 1, &other), EDQUOT);
	ck_assert_int_eq(other, -EBADF);
	/* Another pool has its own. */
	for (int i = OF_ONE; i < OF_ALL; i++)
		ck_assert_int_eq(do_lend(keeper, 2, &mount[i]), 0);
	ck_assert_int_eq(do_lend(keeper, 3, &other), EUSERS);
	/* One that is closed, or put somewhere, counts no more. */
	fd_close(mount[0]);
	ck_assert_int_eq(do_lend(keeper, 1, &mount[0]), 0);
	ck_assert_int_eq(do_lend(keeper, 1, &other), EUSERS);
	ck_assert_int_eq(attach_in_sandbox(mount[1]), 0);
	fd_close(mount[1]);
	ck_assert_int_eq(do_lend(keeper, 1, &mount[1]), 0);
	for (int i = 0; i < OF_ONE; i++)
		fd_close(mount[i]);
	ck_assert_int_eq(do_lend(keeper, 3, &other), 0);
	fd_close(other);
	/* Those of a released pool are ended, whoever keeps them. */
	ck_assert_int_eq(do_simple(keeper, KEEPER_RELEASE, 2), 0);
	for (int i = OF_ONE; i < OF_ALL; i++) {
		ck_assert_int_eq(attach_in_sandbox(mount[i]), EINVAL);
		fd_close(mount[i]);
	}
	keeper_free(keeper);
}
END_TEST

START_TEST(what_can_not_be_counted_is_not_lent)
{
	static const struct keeper_fault fault = { "count lent", EMFILE };
	struct keeper_reply reply;
	struct keeper *keeper;
	int mount;

	NEEDS_TABLE;
	keeper = start(&fault);
	ck_assert_ptr_nonnull(keeper);
	ck_assert_int_eq(do_make(keeper, 1, false, &reply), 0);
	reply_close(&reply);
	ck_assert_int_eq(do_lend(keeper, 1, &mount), EMFILE);
	ck_assert_int_eq(mount, -EBADF);
	ck_assert_int_eq(do_simple(keeper, KEEPER_RELEASE, 1), 0);
	keeper_free(keeper);
}
END_TEST

START_TEST(pools_do_not_see_each_other)
{
	struct keeper_reply one, other;
	struct keeper *keeper;
	struct stat status;

	NEEDS_TABLE;
	keeper = start_with_pool(&one);
	ck_assert_int_eq(do_make(keeper, 2, false, &other), 0);
	fd_close(create(one.writable, "a"));
	ck_assert_int_eq(fstatat(one.read_only, "a", &status, 0), 0);
	ck_assert_int_eq(fstatat(other.writable, "a", &status, 0), -1);
	ck_assert_int_eq(errno, ENOENT);
	ck_assert(!same_directory(one.writable, other.writable));
	reply_close(&one);
	reply_close(&other);
	keeper_free(keeper);
}
END_TEST

START_TEST(quota_of_bytes_is_the_kernels)
{
	struct keeper_reply reply;
	struct keeper *keeper;
	int fd;

	NEEDS_TABLE;
	keeper = start_with_pool(&reply);
	fd = create(reply.writable, "a");
	ck_assert_int_eq(fallocate(fd, 0, 0, MIB), 0);
	ck_assert_int_eq(fallocate(fd, 0, MIB, 1), -1);
	ck_assert_int_eq(errno, ENOSPC);
	ck_assert_int_eq(pwrite(fd, "x", 1, MIB), -1);
	ck_assert_int_eq(errno, ENOSPC);
	fd_close(fd);
	reply_close(&reply);
	keeper_free(keeper);
}
END_TEST

START_TEST(exactly_as_many_objects_as_configured)
{
	struct keeper_reply reply;
	struct keeper *keeper;
	int unlinked = -EBADF;

	NEEDS_TABLE;
	keeper = start_with_pool(&reply);
	for (int i = 0; i < 8; i++) {
		char name[16];

		snprintf(name, sizeof(name), "%d", i);
		fd_close(unlinked);
		unlinked = create(reply.writable, name);
		ck_assert_int_ge(unlinked, 0);
	}
	ck_assert_int_eq(create(reply.writable, "over"), -1);
	ck_assert_int_eq(errno, ENOSPC);
	/* One that is unlinked but open counts. */
	ck_assert_int_eq(unlinkat(reply.writable, "7", 0), 0);
	ck_assert_int_eq(create(reply.writable, "over"), -1);
	ck_assert_int_eq(errno, ENOSPC);
	fd_close(unlinked);
	unlinked = create(reply.writable, "over");
	ck_assert_int_ge(unlinked, 0);
	fd_close(unlinked);
	reply_close(&reply);
	keeper_free(keeper);
}
END_TEST

START_TEST(zero_is_never_passed_as_unlimited)
{
	static const struct {
		uint64_t size_bytes, objects;
	} rows[] = {
		{ 0, 8 }, { MIB, 0 }, { MIB, UINT64_MAX }, { UINT64_MAX, 8 }, { 1ull << 63, 8 },
	};
	struct keeper_reply reply, refused;
	struct keeper *keeper;
	struct statvfs mount;

	NEEDS_TABLE;
	keeper = start_with_pool(&reply);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct keeper_request request = { .operation = KEEPER_MAKE,
						  .number = 2,
						  .size_bytes = rows[i].size_bytes,
						  .objects = rows[i].objects };

		ck_assert_int_eq(ask(keeper, request, &refused), EINVAL);
		ck_assert_int_eq(do_resize(keeper, 1, rows[i].size_bytes, rows[i].objects), EINVAL);
		ck_assert_int_eq(do_simple(keeper, KEEPER_FIND, 2), ENOENT);
	}
	ck_assert_int_eq(fstatvfs(reply.writable, &mount), 0);
	ck_assert_uint_eq(mount.f_blocks * mount.f_frsize, MIB);
	ck_assert_uint_eq(mount.f_files, 9);
	reply_close(&reply);
	keeper_free(keeper);
}
END_TEST

/* The line of the pool 1 in the keeper's mountinfo, or "". */
static void pool_mountinfo(struct keeper *keeper, char *line, int size)
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/mountinfo", (int)keeper_pid(keeper));
	file = fopen(path, "re");
	ck_assert_ptr_nonnull(file);
	while (fgets(line, size, file)) {
		if (strstr(line, " / /1 "))
			break;
		line[0] = '\0';
	}
	fclose(file);
}

START_TEST(resize_in_place_changes_limits_alone)
{
	char before[512], after[512];
	struct keeper_reply reply;
	struct keeper *keeper;
	struct statvfs mount;
	struct stat status;
	int fd;

	NEEDS_TABLE;
	keeper = start_with_pool(&reply);
	fd = create(reply.writable, "a");
	ck_assert_int_eq(fallocate(fd, 0, 0, MIB / 2), 0);
	pool_mountinfo(keeper, before, sizeof(before));

	ck_assert_int_eq(do_resize(keeper, 1, MIB / 4, 8), EINVAL);
	ck_assert_int_eq(do_resize(keeper, 1, 4 * MIB, 100), 0);
	ck_assert_int_eq(fstatvfs(reply.writable, &mount), 0);
	ck_assert_uint_eq(mount.f_blocks * mount.f_frsize, 4 * MIB);
	ck_assert_uint_eq(mount.f_files, 101);
	ck_assert_uint_eq(mount.f_flag & (ST_NOSUID | ST_NODEV | ST_NOEXEC | ST_RDONLY),
			  ST_NOSUID | ST_NODEV | ST_NOEXEC);
	ck_assert_int_eq(fstat(reply.writable, &status), 0);
	ck_assert_uint_eq(status.st_mode, S_IFDIR | 01777);
	ck_assert_int_eq(fallocate(fd, 0, 0, 3 * MIB), 0);
	/* Bytes fit, objects don't: nothing of it is done. */
	fd_close(create(reply.writable, "b"));
	ck_assert_int_eq(do_resize(keeper, 1, 8 * MIB, 1), EINVAL);
	ck_assert_int_eq(fstatvfs(reply.writable, &mount), 0);
	ck_assert_uint_eq(mount.f_blocks * mount.f_frsize, 4 * MIB);

	ck_assert_int_eq(ftruncate(fd, 0), 0);
	ck_assert_int_eq(do_resize(keeper, 1, MIB, 8), 0);
	pool_mountinfo(keeper, after, sizeof(after));
	ck_assert_str_ne(before, "");
	ck_assert_str_eq(before, after);
	ck_assert_int_eq(do_resize(keeper, 99, MIB, 8), ENOENT);
	fd_close(fd);
	reply_close(&reply);
	keeper_free(keeper);
}
END_TEST

START_TEST(options_of_tmpfs_are_passed_on_and_survive_a_resize)
{
	struct keeper_request request = { .operation = KEEPER_MAKE,
					  .number = 1,
					  .size_bytes = 8 * MIB,
					  .objects = 4,
					  .huge = "never",
					  .mpol = "interleave:0" };
	struct keeper_reply reply;
	struct keeper *keeper;
	char line[512];

	NEEDS_TABLE;
	TEST_NEEDS(access("/sys/devices/system/node/node0", F_OK) == 0, "a kernel with NUMA");
	keeper = start(NULL);
	ck_assert_int_eq(ask(keeper, request, &reply), 0);
	ck_assert_int_eq(do_resize(keeper, 1, 4 * MIB, 4), 0);
	pool_mountinfo(keeper, line, sizeof(line));
	ck_assert_ptr_nonnull(strstr(line, "mpol=interleave:0"));
	ck_assert_ptr_null(strstr(line, "huge="));
	reply_close(&reply);

	request.number = 2;
	request.huge = "nonsense";
	ck_assert_int_eq(ask(keeper, request, &reply), EINVAL);
	ck_assert_ptr_nonnull(strstr(reply.failure.advice, "huge"));
	ck_assert_int_eq(do_simple(keeper, KEEPER_FIND, 2), ENOENT);
	keeper_free(keeper);
}
END_TEST

START_TEST(only_an_exec_pool_maps_executable)
{
	struct keeper_reply reply[2];
	struct keeper *keeper;

	NEEDS_TABLE;
	keeper = start_with_pool(&reply[0]);
	ck_assert_int_eq(do_make(keeper, 2, true, &reply[1]), 0);
	for (int exec = 0; exec < 2; exec++) {
		int fd = create(reply[exec].writable, "a");
		void *map;

		ck_assert_int_eq(ftruncate(fd, 4096), 0);
		map = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
		if (exec) {
			ck_assert_ptr_ne(map, MAP_FAILED);
			munmap(map, 4096);
		} else {
			ck_assert_ptr_eq(map, MAP_FAILED);
			ck_assert_int_eq(errno, EPERM);
		}
		fd_close(fd);
		reply_close(&reply[exec]);
	}
	keeper_free(keeper);
}
END_TEST

START_TEST(release_of_a_pool_in_use_is_busy_and_changes_nothing)
{
	struct keeper_reply reply;
	struct keeper *keeper;
	struct statvfs mount;
	int fd;

	NEEDS_TABLE;
	keeper = start_with_pool(&reply);
	fd = create(reply.writable, "a");
	ck_assert_int_eq(do_simple(keeper, KEEPER_RELEASE, 1), EBUSY);
	/* Invisible to any listing. */
	ck_assert_int_eq(unlinkat(reply.writable, "a", 0), 0);
	ck_assert_int_eq(do_simple(keeper, KEEPER_RELEASE, 1), EBUSY);
	ck_assert_int_eq(fallocate(fd, 0, 0, MIB), 0);
	ck_assert_int_eq(fstatvfs(reply.writable, &mount), 0);
	ck_assert_uint_eq(mount.f_files, 9);
	fd_close(fd);

	/* What a client can leave behind in a lent pool counts alike. */
	ck_assert_int_eq(mkdirat(reply.writable, "directory", 0700), 0);
	ck_assert_int_eq(do_simple(keeper, KEEPER_RELEASE, 1), EBUSY);
	ck_assert_int_eq(unlinkat(reply.writable, "directory", AT_REMOVEDIR), 0);
	ck_assert_int_eq(symlinkat("x", reply.writable, "link"), 0);
	ck_assert_int_eq(do_simple(keeper, KEEPER_RELEASE, 1), EBUSY);
	ck_assert_int_eq(unlinkat(reply.writable, "link", 0), 0);
	ck_assert_int_eq(mkfifoat(reply.writable, "fifo", 0600), 0);
	ck_assert_int_eq(do_simple(keeper, KEEPER_RELEASE, 1), EBUSY);
	ck_assert_int_eq(unlinkat(reply.writable, "fifo", 0), 0);
	ck_assert_int_eq(do_simple(keeper, KEEPER_RELEASE, 1), 0);
	reply_close(&reply);
	keeper_free(keeper);
}
END_TEST

START_TEST(released_pool_is_useless_to_who_holds_it_and_its_number_is_free)
{
	struct keeper_reply reply, again;
	struct keeper *keeper;

	NEEDS_TABLE;
	keeper = start_with_pool(&reply);
	ck_assert_int_eq(do_simple(keeper, KEEPER_RELEASE, 1), 0);
	ck_assert_int_eq(create(reply.writable, "a"), -1);
	ck_assert_int_eq(errno, ENOSPC);
	ck_assert_int_eq(do_simple(keeper, KEEPER_FIND, 1), ENOENT);
	ck_assert_int_eq(do_simple(keeper, KEEPER_RELEASE, 1), ENOENT);
	ck_assert_int_eq(do_make(keeper, 1, false, &again), 0);
	ck_assert(!same_directory(reply.writable, again.writable));
	reply_close(&reply);
	reply_close(&again);
	keeper_free(keeper);
}
END_TEST

START_TEST(number_that_is_taken_is_refused)
{
	struct keeper_reply reply, again;
	struct keeper *keeper;

	NEEDS_TABLE;
	keeper = start_with_pool(&reply);
	fd_close(create(reply.writable, "a"));
	ck_assert_int_eq(do_make(keeper, 1, false, &again), EEXIST);
	ck_assert_int_eq(faccessat(reply.writable, "a", F_OK, 0), 0);
	reply_close(&reply);
	keeper_free(keeper);
}
END_TEST

/* As after a restart: the descriptors come from the store. */
START_TEST(found_table_has_its_pools_and_their_content)
{
	struct keeper_setup setup;
	struct keeper_reply reply, found;
	struct keeper *keeper;

	NEEDS_TABLE;
	keeper = start_with_pool(&reply);
	fd_close(create(reply.writable, "a"));
	setup = setup_of(NULL);
	setup.userns = fcntl(keeper_userns_borrow(keeper), F_DUPFD_CLOEXEC, 3);
	setup.mntns = fcntl(keeper_mntns_borrow(keeper), F_DUPFD_CLOEXEC, 3);
	keeper_free(keeper);

	ck_assert_int_eq(keeper_start(&keeper, &setup), 0);
	ck_assert(keeper_has_table(keeper, NULL));
	ck_assert_int_eq(ask(keeper,
			     (struct keeper_request){ .operation = KEEPER_FIND, .number = 1 },
			     &found),
			 0);
	ck_assert(same_directory(found.writable, reply.writable));
	ck_assert(same_directory(found.read_only, reply.writable));
	ck_assert_int_eq(faccessat(found.read_only, "a", F_OK, 0), 0);
	check_writes_are_erofs(found.read_only, "a");
	reply_close(&reply);
	reply_close(&found);
	keeper_free(keeper);
}
END_TEST

static int touch_beyond_quota(void *argument)
{
	int fd = *(int *)argument;
	volatile char *map;

	EXPECT(ftruncate(fd, 2 * MIB) == 0);
	map = mmap(NULL, 2 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	EXPECT(map != MAP_FAILED);
	signal(SIGBUS, SIG_DFL);
	for (size_t i = 0; i < 2 * MIB; i += 4096)
		map[i] = 1;
	return 0;
}

START_TEST(page_beyond_the_quota_is_sigbus)
{
	struct keeper_reply reply;
	struct keeper *keeper;
	int fd;

	NEEDS_TABLE;
	keeper = start_with_pool(&reply);
	fd = create(reply.writable, "a");
	ck_assert_int_eq(test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, touch_beyond_quota, &fd),
			 128 + SIGBUS);
	fd_close(fd);
	reply_close(&reply);
	keeper_free(keeper);
}
END_TEST

void keeper_add_pools(TCase *tests)
{
	tcase_add_test(tests, made_pool_is_a_pair_of_one_tmpfs);
	tcase_add_test(tests, dot_dot_stays_in_its_pool);
	tcase_add_test(tests, what_is_lent_is_one_pool_and_no_more);
	tcase_add_test(tests, mounts_that_are_attached_nowhere_are_bounded);
	tcase_add_test(tests, what_can_not_be_counted_is_not_lent);
	tcase_add_test(tests, pools_do_not_see_each_other);
	tcase_add_test(tests, quota_of_bytes_is_the_kernels);
	tcase_add_test(tests, page_beyond_the_quota_is_sigbus);
	tcase_add_test(tests, found_table_has_its_pools_and_their_content);
	tcase_add_test(tests, exactly_as_many_objects_as_configured);
	tcase_add_test(tests, zero_is_never_passed_as_unlimited);
	tcase_add_test(tests, resize_in_place_changes_limits_alone);
	tcase_add_test(tests, options_of_tmpfs_are_passed_on_and_survive_a_resize);
	tcase_add_test(tests, only_an_exec_pool_maps_executable);
	tcase_add_test(tests, release_of_a_pool_in_use_is_busy_and_changes_nothing);
	tcase_add_test(tests, released_pool_is_useless_to_who_holds_it_and_its_number_is_free);
	tcase_add_test(tests, number_that_is_taken_is_refused);
}
