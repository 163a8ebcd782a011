/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Delegated pools: what the library does in them by itself is what the broker would have done, and
 * it asks anew as soon as the rules, or the pool, are others.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/process.h"
#include "daemon/broker_private.h"
#include "tests/delegate_fixture.h"
#include "tests/native.h"
#include "tests/store_fixture.h"
#include "tests/test.h"

static const char undelegated[] = POOLS "rules: ( " FRAMES ", " SEALS ", " ALL "} )\n";
static const char reading[] = POOLS "rules: ( " FRAMES ", " SEALS ", " READ "delegate = true } )\n";
static const char nothing[] = POOLS "rules: ( " FRAMES ", " SEALS " )\n";

START_TEST(the_broker_is_asked_once)
{
	struct fixture fixture;
	struct shmb_info info;
	struct shmb *c, *other;
	struct stat st;
	int fd, lowest;

	NEEDS_TABLE;
	start(&fixture, all_or_alone[_i]);
	c = fixture_connect(&fixture);
	other = fixture_connect(&fixture);
	put(c, "/x", "one");
	asked(&fixture);
	umask(027);
	lowest = dup(0);
	close(lowest);
	fd = shmb_open(c, "//y", O_RDWR | O_CREAT | O_EXCL, 01666);
	umask(022);
	ck_assert_int_eq(fd, lowest);
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	ck_assert(fstat(fd, &st) == 0 && st.st_mode == (S_IFREG | 0640) && st.st_size == 0);
	ck_assert_uint_eq(st.st_uid, geteuid());
	close(fd);
	ck_assert_int_eq(shmb_open(c, "/y", O_RDWR | O_CREAT | O_EXCL, 0600), -EEXIST);
	ck_assert_int_eq(shmb_open(c, "/none", O_RDWR, 0), -ENOENT);
	ck_assert_str_eq(shmb_reason(c), "no such object");
	ck_assert_int_eq(shmb_unlink(c, "/none"), -ENOENT);
	ck_assert_int_eq(shmb_open(c, "/a/b", O_RDWR, 0), -EINVAL);
	ck_assert_int_eq(shmb_open(c, "/..", O_RDWR, 0), -EINVAL);
	ck_assert_int_eq(shmb_open(c, "/.shmbroker.1", O_RDWR | O_CREAT, 0600), -EINVAL);
	fd = shmb_open(c, "/x", O_WRONLY | O_APPEND, 0);
	ck_assert_int_eq(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND), O_WRONLY | O_APPEND);
	close(fd);
	expect(c, "/x", "one");
	ck_assert_uint_eq(asked(&fixture), 0);

	/* Everybody else sees it, and it sees what everybody does. */
	expect(other, "/x", "one");
	ck_assert_int_eq(shmb_stat(other, "/y", &info, sizeof(info)), 0);
	ck_assert_str_eq(info.pool, "own");
	ck_assert_int_eq(shmb_wait(other, "/y", 0), 0);
	ck_assert_int_eq(shmb_unlink(c, "/y"), 0);
	ck_assert_int_eq(shmb_stat(other, "/y", &info, sizeof(info)), -ENOENT);
	ck_assert_int_eq(shmb_unlink(other, "/x"), 0);
	ck_assert_int_eq(shmb_open(c, "/x", O_RDWR, 0), -ENOENT);
	shmb_disconnect(other);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(what_is_more_than_an_open_is_the_brokers)
{
	struct shmb_how how = { .oflag = O_RDWR | O_CREAT, .mode = 0600, .size = 4096 };
	struct fixture fixture;
	struct shmb_info info;
	struct shmb *c;
	int fd;

	NEEDS_TABLE;
	start(&fixture, all_or_alone[_i]);
	c = fixture_connect(&fixture);
	put(c, "/x", "one");
	/* Names that another rule decides. */
	put(c, "/frames-1", "frame");
	ck_assert_int_eq(shmb_stat(c, "/frames-1", &info, sizeof(info)), 0);
	ck_assert_str_eq(info.pool, "frames");
	expect(c, "/frames-1", "frame");
	ck_assert_int_eq(shmb_unlink(c, "/frames-1"), 0);
	/* A size, and flags. */
	fd = shmb_open_how(c, "/sized", &how, sizeof(how));
	ck_assert_int_ge(fd, 0);
	close(fd);
	ck_assert_int_eq(shmb_stat(c, "/sized", &info, sizeof(info)), 0);
	ck_assert_uint_eq(info.size, 4096);
	for (int i = 0; i < 3; i++) {
		how.flags = (uint64_t[]){ SHMB_TEMPORARY, SHMB_RESERVE,
					  SHMB_UNPUBLISHED | SHMB_SEALED }[i];
		ck_assert_int_eq(shmb_unlink(c, "/sized"), 0);
		fd = shmb_open_how(c, "/sized", &how, sizeof(how));
		ck_assert_msg(fd >= 0, "%d: %s", i, shmb_reason(c));
		close(fd);
	}
	ck_assert_int_eq(shmb_publish(c, "/sized", 0), 0);
	/* A directory, which unlink removes, and open doesn't give to write in. */
	fd = c->delegation.directories.writable;
	ck_assert(fd >= 0);
	ck_assert_int_eq(mkdirat(fd, "d", 0700), 0);
	ck_assert_int_eq(shmb_open(c, "/d", O_RDWR, 0), -EINVAL);
	ck_assert_int_eq(shmb_unlink(c, "/d"), 0);
	ck_assert_int_eq(symlinkat("/etc/passwd", fd, "l"), 0);
	ck_assert_int_eq(shmb_open(c, "/l", O_RDONLY, 0), -EINVAL);
	ck_assert_int_eq(shmb_unlink(c, "/l"), 0);
	/* `..` leads nowhere. */
	ck_assert(openat(fd, "../etc", O_RDONLY) < 0 && errno == ENOENT);
	ck_assert(openat(fd, "../1", O_RDONLY | O_DIRECTORY) < 0);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* Whoever else has the directory can put them there. */
START_TEST(what_is_no_object_is_not_opened_and_nobody_waits_at_it)
{
	static const int flags[] = { O_RDONLY, O_WRONLY, O_RDWR, O_RDONLY | O_CREAT,
				     O_RDWR | O_CREAT | O_TRUNC };
	struct fixture fixture;
	struct shmb *c;
	int fd;

	NEEDS_TABLE;
	start(&fixture, all_or_alone[_i]);
	c = fixture_connect(&fixture);
	put(c, "/x", "one");
	fd = c->delegation.directories.writable;
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(mkdirat(fd, "d", 0700), 0);
	ck_assert_int_eq(mkfifoat(fd, "p", 0600), 0);
	for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++) {
		ck_assert_int_eq(shmb_open(c, "/d", flags[i], 0600), -EINVAL);
		ck_assert_int_eq(shmb_open(c, "/p", flags[i], 0600), -EINVAL);
	}
	ck_assert_int_eq(shmb_open(c, "/p", O_RDWR | O_CREAT | O_EXCL, 0600), -EEXIST);
	ck_assert_int_eq(shmb_unlink(c, "/d"), 0);
	ck_assert_int_eq(shmb_unlink(c, "/p"), 0);

	/* What is one blocks, as shm_open's does. */
	asked(&fixture);
	fd = shmb_open(c, "/x", O_RDWR | O_APPEND, 0);
	ck_assert_int_eq(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK),
			 O_RDWR | O_APPEND);
	close(fd);
	ck_assert_uint_eq(asked(&fixture), 0);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* Root could open what stands for them. */
START_TEST(sealed_objects_are_found_where_the_directory_is_delegated)
{
	struct fixture fixture;
	struct shmb *c, *other;

	NEEDS_TABLE;
	start(&fixture, all_or_alone[_i]);
	c = fixture_connect(&fixture);
	other = fixture_connect(&fixture);
	put(c, "/x", "one");
	put_sealed(other, "/seal-1", "sealed");
	put_sealed(other, "/y", "sealed");
	expect(c, "/y", "sealed");
	ck_assert_int_eq(shmb_open(c, "/y", O_RDWR, 0), -EACCES);
	expect(c, "/x", "one");
	ck_assert_int_eq(shmb_unlink(c, "/y"), 0);
	ck_assert_int_eq(shmb_open(c, "/y", O_RDONLY, 0), -ENOENT);
	shmb_disconnect(other);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(where_a_rule_only_reads_the_directory_does_no_more)
{
	struct fixture fixture;
	struct shmb *c;
	char link[64];
	int fd;

	NEEDS_TABLE;
	start(&fixture, all_or_alone[_i]);
	c = fixture_connect(&fixture);
	put(c, "/x", "one");
	fixture_configure(&fixture, reading);
	ck_assert_int_eq(raw_reload(c), 0);
	asked(&fixture);
	expect(c, "/x", "one");
	ck_assert_uint_eq(asked(&fixture), 1);
	expect(c, "/x", "one");
	ck_assert_uint_eq(asked(&fixture), 0);
	fd = shmb_open(c, "/x", O_RDONLY, 0);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ck_assert(open(link, O_RDWR) < 0 && errno == EROFS);
	ck_assert(fchmod(fd, 0666) < 0 && errno == EROFS);
	close(fd);
	ck_assert_int_eq(shmb_open(c, "/x", O_RDWR, 0), -EACCES);
	ck_assert_int_eq(shmb_open(c, "/x", O_RDONLY | O_TRUNC, 0), -EACCES);
	ck_assert_int_eq(shmb_open(c, "/y", O_RDONLY | O_CREAT, 0600), -EACCES);
	ck_assert_int_eq(shmb_unlink(c, "/x"), -EACCES);
	fd = c->delegation.directories.read_only;
	ck_assert_int_lt(c->delegation.directories.writable, 0);
	ck_assert(openat(fd, "x", O_RDWR) < 0 && errno == EROFS);
	ck_assert(unlinkat(fd, "x", 0) < 0 && errno == EROFS);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* At the very next call, whatever the rules say by then. */
START_TEST(a_reload_that_takes_it_away_counts_at_once)
{
	struct fixture fixture;
	struct shmb *c;
	int kept;

	NEEDS_TABLE;
	start(&fixture, all_or_alone[_i]);
	c = fixture_connect(&fixture);
	put(c, "/x", "one");
	kept = dup(c->delegation.directories.writable);
	fixture_configure(&fixture, undelegated);
	ck_assert_int_eq(raw_reload(c), 0);
	asked(&fixture);
	expect(c, "/x", "one");
	expect(c, "/x", "one");
	ck_assert_uint_ge(asked(&fixture), 2);
	fixture_configure(&fixture, nothing);
	ck_assert_int_eq(raw_reload(c), 0);
	ck_assert_int_eq(shmb_open(c, "/x", O_RDONLY, 0), -EACCES);
	/* Who has kept the descriptor still has the pool: as SECURITY.md says. */
	ck_assert_int_eq(faccessat(kept, "x", F_OK, 0), 0);
	close(kept);
	shmb_disconnect(c);

	/* Nobody is told of one who has none. */
	c = fixture_connect(&fixture);
	asked(&fixture);
	ck_assert_int_eq(shmb_open(c, "/x", O_RDONLY, 0), -EACCES);
	ck_assert_uint_eq(asked(&fixture), 1);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(a_pool_that_was_released_is_not_written_to)
{
	struct fixture fixture;
	struct shmb *c, *other;

	NEEDS_TABLE;
	start(&fixture, all_or_alone[_i]);
	c = fixture_connect(&fixture);
	other = fixture_connect(&fixture);
	put(c, "/x", "one");
	ck_assert_int_eq(shmb_unlink(c, "/x"), 0);
	for (int i = 0; i < 3; i++) {
		fixture_tick(&fixture, 10 * 60 * 1000);
		put(c, "/x", "two");
		expect(other, "/x", "two");
		ck_assert_int_eq(shmb_unlink(i % 2 ? c : other, "/x"), 0);
	}
	/* One that is in use is not, and goes on being delegated. */
	put(c, "/x", "three");
	for (int i = 0; i < 3; i++) {
		fixture_tick(&fixture, 10 * 60 * 1000);
		expect(c, "/x", "three");
		expect(other, "/x", "three");
	}
	shmb_disconnect(other);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(a_full_pool_is_full)
{
	struct fixture fixture;
	struct shmb *c;
	char name[16];
	int fd, i;

	NEEDS_TABLE;
	start(&fixture, all_or_alone[_i]);
	c = fixture_connect(&fixture);
	for (i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "/x%d", i);
		fd = shmb_open(c, name, O_RDWR | O_CREAT, 0600);
		if (fd < 0)
			break;
		close(fd);
	}
	/* One's own has a directory of the broker's in it. */
	ck_assert_int_eq(i, 16 - _i);
	ck_assert_int_eq(fd, -ENOSPC);
	ck_assert_ptr_nonnull(strstr(shmb_reason(c), "is full"));
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

static int count_descriptors(void)
{
	int count = 0;

	for (int i = 0; i < 2048; i++)
		count += fcntl(i, F_GETFD) >= 0;
	return count;
}

static int lose_descriptors(void *argument)
{
	const char *directory = argument;
	int fd, other, before;

	errno = 77;
	fd = shmb_shm_open("/x", O_RDWR | O_CREAT, 0600);
	if (fd < 0 || errno != 77)
		return 1;
	/* As after closefrom(3): the numbers mean something else by now. */
	for (int i = 3; i < 1010; i++)
		close(i);
	other = open(directory, O_RDONLY | O_DIRECTORY);
	for (int i = 3; i < 1010; i++)
		if (i != other && fcntl(i, F_GETFD) < 0)
			dup2(other, i);
	close(3);
	close(4);
	before = count_descriptors();
	fd = shmb_shm_open("/x", O_RDWR, 0600);
	if (fd != 3)
		return 2;
	/* With it came a connection and its two directories, and nothing of the program's went. */
	if (count_descriptors() != before + 4)
		return 7;
	if (unlinkat(other, "x", 0) == 0 || shmb_shm_unlink("/x") < 0)
		return 3;
	close(fd);
	/* In a child, and its own. */
	switch (fork()) {
	case 0:
		before = count_descriptors();
		fd = shmb_shm_open("/x", O_RDWR | O_CREAT | O_EXCL, 0600);
		/* The parent's two have given way to its own. */
		_exit(fd < 0 || count_descriptors() != before + 1);
	default:
		wait(&other);
	}
	if (other != 0)
		return 4;
	fd = shmb_shm_open("/x", O_RDWR, 0);
	if (fd < 0)
		return 5;
	return shmb_shm_unlink("/x") < 0 ? 6 : 0;
}

START_TEST(drop_ins_use_it_whatever_becomes_of_their_descriptors)
{
	NEEDS_TABLE;
	run_beside_broker(all_or_alone[_i], (uid_t)-1, lose_descriptors, (void *)test_directory());
}
END_TEST

static int change_ids(void *argument)
{
	struct shmb_info info;
	struct shmb *c;
	int fd;

	(void)argument;
	/* Each user's is a pool of his own. */
	fd = shmb_shm_open("/x", O_RDWR | O_CREAT | O_EXCL, 0600);
	/* By its permissions he could have this one. */
	if (fd < 0 || shmb_shm_open("/any", O_RDWR | O_CREAT, 0604) < 0)
		return 1;
	if (setegid(USER_A) < 0 || seteuid(USER_A) < 0)
		return 1;
	if (shmb_shm_open("/any", O_RDONLY, 0) >= 0 || errno != ENOENT)
		return 7;
	if (shmb_shm_open("/x", O_RDWR, 0) >= 0 || errno != ENOENT)
		return 2;
	if (shmb_shm_open("/x", O_RDWR | O_CREAT | O_EXCL, 0600) < 0)
		return 3;
	if (shmb_connect(&c, NULL) < 0 || shmb_stat(c, "/x", &info, sizeof(info)) < 0 ||
	    info.uid != USER_A)
		return 4;
	shmb_disconnect(c);
	if (seteuid(0) < 0 || setegid(0) < 0)
		return 5;
	return shmb_shm_unlink("/x") < 0 || shmb_shm_open("/x", O_RDWR, 0) >= 0 ? 6 : 0;
}

START_TEST(it_is_of_who_the_process_is_at_that_moment)
{
	NEEDS_TABLE;
	TEST_NEEDS(test_is_root(), "needs root to be another user");
	run_beside_broker(all_or_alone[_i], (uid_t)-1, change_ids, NULL);
}
END_TEST

static int touch(const char *name)
{
	int fd = shmb_shm_open(name, O_RDWR | O_CREAT, 0600);

	return fd < 0 ? -errno : close(fd);
}

static int lose_a_child(void *argument)
{
	int status;
	pid_t pid;

	(void)argument;
	EXPECT(touch("/x") == 0);
	shmb_default_timeout_ms = 1000;
	pid = vfork();
	if (pid == 0)
		/* As if it were killed here. */
		_exit(shmb_process_borrow() ? 0 : 1);
	EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
	EXPECT(touch("/x") == 0);
	EXPECT(touch("/y") == 0);
	return 0;
}

START_TEST(a_child_of_vfork_that_is_killed_takes_no_lock_along)
{
	NEEDS_TABLE;
	run_beside_broker(all_or_alone[_i], (uid_t)-1, lose_a_child, NULL);
}
END_TEST

Suite *suite_delegate(void)
{
	Suite *suite = suite_create("delegate");
	TCase *tests = tcase_create("delegate");

	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, test_fds_setup, test_fds_teardown);
	tcase_add_loop_test(tests, the_broker_is_asked_once, 0, 2);
	tcase_add_loop_test(tests, what_is_more_than_an_open_is_the_brokers, 0, 2);
	tcase_add_loop_test(tests, what_is_no_object_is_not_opened_and_nobody_waits_at_it, 0, 2);
	tcase_add_loop_test(tests, sealed_objects_are_found_where_the_directory_is_delegated, 0, 2);
	tcase_add_loop_test(tests, where_a_rule_only_reads_the_directory_does_no_more, 0, 2);
	tcase_add_loop_test(tests, a_reload_that_takes_it_away_counts_at_once, 0, 2);
	tcase_add_loop_test(tests, a_pool_that_was_released_is_not_written_to, 0, 2);
	tcase_add_loop_test(tests, a_full_pool_is_full, 0, 2);
	tcase_add_loop_test(tests, drop_ins_use_it_whatever_becomes_of_their_descriptors, 0, 2);
	tcase_add_loop_test(tests, it_is_of_who_the_process_is_at_that_moment, 0, 2);
	tcase_add_loop_test(tests, a_child_of_vfork_that_is_killed_takes_no_lock_along, 0, 2);
	suite_add_tcase(suite, tests);
	suite_add_tcase(suite, delegate_case_of_hostile());
	suite_add_tcase(suite, delegate_case_of_drops());
	suite_add_tcase(suite, delegate_case_of_own());
	suite_add_tcase(suite, delegate_case_of_alone());
	suite_add_tcase(suite, delegate_case_of_liars());
	suite_add_tcase(suite, delegate_case_of_rules());
	suite_add_tcase(suite, delegate_case_of_validity());
	return suite;
}
