/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Delegated pools among others who do in them what they like, and with a broker that ends. A case
 * of the suite "delegate".
 */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/delegate_fixture.h"
#include "tests/native.h"
#include "tests/raw_client.h"
#include "tests/store_fixture.h"

/* Whatever is asked, and nobody waits for anybody. */
START_TEST(what_is_not_plain_is_not_opened)
{
	static const int flags[] = { O_RDONLY, O_WRONLY, O_RDWR, O_RDWR | O_CREAT,
				     O_RDWR | O_TRUNC };
	static const char *const names[] = { "/directory", "/fifo", "/symlink", "/hard", "/hard2" };
	struct fixture fixture;
	struct shmb *c;
	int fd;

	NEEDS_TABLE;
	start(&fixture, all);
	c = fixture_connect(&fixture);
	put(c, "/hard", "one");
	fd = c->delegation.directories.writable;
	ck_assert_int_eq(mkdirat(fd, "directory", 0777), 0);
	ck_assert_int_eq(mkfifoat(fd, "fifo", 0666), 0);
	ck_assert_int_eq(symlinkat("hard", fd, "symlink"), 0);
	ck_assert_int_eq(linkat(fd, "hard", fd, "hard2", 0), 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		for (size_t j = 0; j < sizeof(flags) / sizeof(flags[0]); j++)
			ck_assert_msg(try_open(c, names[i], flags[j]) == -EINVAL,
				      "%s, flags %o: %s", names[i], flags[j], shmb_reason(c));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) - 1; i++)
		ck_assert_int_eq(shmb_unlink(c, names[i]), 0);
	/* Under its other name nothing was truncated. */
	expect(c, "/hard2", "one");
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(a_lease_is_not_waited_for)
{
	struct fixture fixture;
	struct shmb *c;
	int fd;

	NEEDS_TABLE;
	start(&fixture, all);
	c = fixture_connect(&fixture);
	signal(SIGIO, SIG_IGN);
	put(c, "/x", "one");
	fd = openat(c->delegation.directories.writable, "x", O_RDONLY | O_CLOEXEC);
	ck_assert(fd >= 0 && fcntl(fd, F_SETLEASE, F_RDLCK) == 0);
	ck_assert_int_eq(try_open(c, "/x", O_RDWR), -EAGAIN);
	close(fd);
	ck_assert_int_eq(try_open(c, "/x", O_RDWR), 0);
	fd = shmb_open(c, "/x", O_RDWR | O_APPEND, 0);
	ck_assert_int_eq(fcntl(fd, F_GETFL) & (O_NONBLOCK | O_APPEND), O_APPEND);
	close(fd);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* What is empty and of mode 0 is no sealed object's by that alone. */
START_TEST(beside_sealed_objects_new_ones_have_any_mode)
{
	const struct shmb_how how = { .oflag = O_RDWR | O_CREAT,
				      .size = 4096,
				      .flags = SHMB_UNPUBLISHED | SHMB_SEALED };
	struct fixture fixture;
	struct shmb *c;
	int fd;

	NEEDS_TABLE;
	start(&fixture, all);
	c = fixture_connect(&fixture);
	fd = shmb_open_how(c, "/sealed", &how, sizeof(how));
	ck_assert_int_ge(fd, 0);
	close(fd);
	ck_assert_int_eq(shmb_publish(c, "/sealed", 0), 0);
	fd = shmb_open(c, "/x", O_RDWR | O_CREAT | O_EXCL, 0);
	ck_assert_msg(fd >= 0, "%s", shmb_reason(c));
	close(fd);
	/* Not even for root: then its time would no longer tell what it is. */
	ck_assert_int_eq(try_open(c, "/sealed", O_RDWR | O_TRUNC), -EACCES);
	fd = shmb_open(c, "/sealed", O_RDONLY, 0);
	ck_assert_int_eq(lseek(fd, 0, SEEK_END), 4096);
	close(fd);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* As in every pool that has a twin, though the rule writes. */
START_TEST(what_is_opened_for_reading_stays_so)
{
	static const int flags[] = { O_RDONLY, O_RDONLY | O_CREAT, O_RDONLY | O_TRUNC,
				     O_RDONLY | O_CREAT | O_EXCL };
	struct fixture fixture;
	char link[64], name[8];
	struct shmb *c;
	int fd;

	NEEDS_TABLE;
	start(&fixture, all);
	c = fixture_connect(&fixture);
	put(c, "/x0", "one");
	put(c, "/x2", "one");
	asked(&fixture);
	for (int i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "/x%d", i);
		fd = shmb_open(c, name, flags[i], 0600);
		ck_assert_msg(fd >= 0, "%s: %s", name, shmb_reason(c));
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		ck_assert_msg(open(link, O_RDWR) < 0 && errno == EROFS, "%s", name);
		ck_assert(fchmod(fd, 0666) < 0 && errno == EROFS);
		close(fd);
		if (i == 0)
			ck_assert_uint_eq(asked(&fixture), 0);
	}
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* The rules know bytes, and so must the library, wherever its program is. */
START_TEST(names_are_bytes_in_any_locale)
{
	static const char bytes[] = POOLS
		"rules: ( { name = \"b\" names = [ \"/?\", \"/[a-z]-[!x]\" ] allow = \"all\" "
		"pool = \"frames\" }, " ALL "delegate = true } )\n";
	static const char *const names[] = { "/\xc3\xa9", "/a",	   "/b-\xc3\xa9",
					     "/B-y",	  "/\xe9", "/b-\xe9" };
	const char *before = setlocale(LC_ALL, NULL);
	struct fixture fixture;
	struct shmb_info info;
	struct shmb *c;

	NEEDS_TABLE;
	TEST_NEEDS(setlocale(LC_ALL, "C.UTF-8"), "no locale C.UTF-8");
	start(&fixture, bytes);
	c = fixture_connect(&fixture);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		put(c, names[i], "one");
		/* Where the broker looks for it, it is. */
		ck_assert_msg(shmb_stat(c, names[i], &info, sizeof(info)) == 0, "%zu", i);
	}
	shmb_disconnect(c);
	fixture_stop(&fixture);
	setlocale(LC_ALL, before);
}
END_TEST

static int change_ids(void *argument)
{
	struct shmb_info info;
	struct shmb *c = argument;

	if (shmb_connect(&c, NULL) < 0 || try_open(c, "/x", O_RDWR | O_CREAT) < 0)
		return 1;
	if (setegid(USER_A) < 0 || seteuid(USER_A) < 0)
		return 2;
	if (try_open(c, "/y", O_RDWR | O_CREAT) < 0 || shmb_stat(c, "/y", &info, sizeof(info)) < 0)
		return 3;
	if (info.uid != 0 || info.gid != 0)
		return 4;
	/* The sticky directory would not let him. */
	if (shmb_unlink(c, "/x") < 0)
		return 5;
	shmb_disconnect(c);
	return 0;
}

START_TEST(a_connection_keeps_its_identity)
{
	NEEDS_TABLE;
	TEST_NEEDS(test_is_root(), "needs root to be another user");
	run_beside_broker(all, (uid_t)-1, change_ids, NULL);
}
END_TEST

START_TEST(a_connection_that_was_given_asks)
{
	struct fixture fixture;
	struct shmb *c;

	NEEDS_TABLE;
	start(&fixture, all);
	/* Whose it is the broker knows, and nobody else. */
	ck_assert_int_eq(shmb_connect_fd(&c, raw_connect(fixture.socket)), 0);
	put(c, "/x", "one");
	asked(&fixture);
	expect(c, "/x", "one");
	ck_assert_uint_eq(asked(&fixture), 1);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* Without a service manager its pools go with a broker, and what is left of them is nobody's. */
START_TEST(it_ends_with_the_broker)
{
	struct fixture fixture;
	struct shmb *c;
	int fd;

	NEEDS_TABLE;
	start(&fixture, all);
	c = fixture_connect(&fixture);
	put(c, "/x", "one");
	fd = shmb_shm_open("/x", O_RDWR, 0);
	ck_assert_int_ge(fd, 0);
	close(fd);
	fixture_stop(&fixture);
	ck_assert_int_eq(shmb_open(c, "/x", O_RDWR, 0), -ECONNRESET);
	ck_assert_int_eq(shmb_unlink(c, "/x"), -ECONNRESET);
	shmb_disconnect(c);
	ck_assert(shmb_shm_open("/x", O_RDWR, 0) < 0 && errno == ECONNREFUSED);
}
END_TEST

START_TEST(drop_ins_go_on_with_the_next_broker)
{
	struct fixture fixture;
	struct shmb *c;
	int fd;

	NEEDS_TABLE;
	start(&fixture, all);
	fd = shmb_shm_open("/x", O_RDWR | O_CREAT, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
	fixture_stop(&fixture);
	start(&fixture, all);
	ck_assert(shmb_shm_open("/x", O_RDWR, 0) < 0 && errno == ENOENT);
	fd = shmb_shm_open("/y", O_RDWR | O_CREAT | O_EXCL, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
	c = fixture_connect(&fixture);
	expect(c, "/y", "");
	shmb_disconnect(c);
	ck_assert_int_eq(shmb_shm_unlink("/y"), 0);
	/* By which the preload library knows what it may ask of the C library. */
	ck_assert(shmb_shm_open("/y/z", O_RDWR, 0) < 0 && errno == EINVAL);
	ck_assert(shmb_thread_nobody_asked());
	ck_assert(shmb_shm_open("/y", O_RDWR, 0) < 0 && errno == ENOENT);
	ck_assert(!shmb_thread_nobody_asked());
	/* Its descriptors are of this process: they are closed with it. */
	fixture_stop(&fixture);
	ck_assert(shmb_shm_open("/y", O_RDWR, 0) < 0 && errno == ECONNREFUSED);
}
END_TEST

/* An ordinary user's sandbox owns the directory as the broker does. */
START_TEST(a_directory_that_was_shut_ends_no_start_and_a_drop_opens_it)
{
	struct kept kept = KEPT_NOTHING;
	const struct fixture_how how = { .config = all, .is_user = !test_is_root(), .kept = &kept };
	struct fixture fixture;
	struct shmb_info info;
	struct stat st;
	struct shmb *c;
	int fd;

	NEEDS_TABLE;
	fixture_start(&fixture, &how);
	c = fixture_connect(&fixture);
	put(c, "/x", "one");
	fd = dup(c->delegation.directories.writable);
	ck_assert_int_eq(fchmodat(fd, ".", 0, 0), 0);
	/* An ordinary user's broker can't look into it, and says so at once. */
	if (test_is_root())
		ck_assert_int_eq(shmb_wait(c, "/none", 1), -ETIMEDOUT);
	else
		ck_assert_int_eq(shmb_wait(c, "/none", -1), -EACCES);
	/* Nor does it keep anybody from waiting elsewhere: a broker that may not watch it opens it.
	 */
	do {
		ck_assert_int_eq(shmb_wait(c, "/frames-none", 1), -ETIMEDOUT);
		ck_assert_int_eq(fstat(fd, &st), 0);
	} while (!test_is_root() && (st.st_mode & 07777) != 01777);
	ck_assert_int_eq(fchmodat(fd, ".", 0, 0), 0);
	shmb_disconnect(c);
	fixture_leave(&fixture);
	fixture_start(&fixture, &how);
	c = fixture_connect(&fixture);
	/* It may be busy: the keeper looks whether it is empty. */
	do {
		ck_assert_int_eq(shmb_raw_call(c, WIRE_DROP, "own", 3, NULL, NULL), 0);
	} while (shmb_stat(c, "/x", &info, sizeof(info)) != -ENOENT);
	put(c, "/x", "two");
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 01777);
	close(fd);
	shmb_disconnect(c);
	fixture_stop(&fixture);
	kept_done(&kept);
}
END_TEST

TCase *delegate_case_of_hostile(void)
{
	TCase *tests = tcase_create("hostile");

	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, test_fds_setup, test_fds_teardown);
	tcase_add_test(tests, what_is_not_plain_is_not_opened);
	tcase_add_test(tests, a_lease_is_not_waited_for);
	tcase_add_test(tests, beside_sealed_objects_new_ones_have_any_mode);
	tcase_add_test(tests, what_is_opened_for_reading_stays_so);
	tcase_add_test(tests, names_are_bytes_in_any_locale);
	tcase_add_test(tests, a_connection_keeps_its_identity);
	tcase_add_test(tests, a_connection_that_was_given_asks);
	tcase_add_test(tests, it_ends_with_the_broker);
	tcase_add_test(tests, drop_ins_go_on_with_the_next_broker);
	tcase_add_test(tests, a_directory_that_was_shut_ends_no_start_and_a_drop_opens_it);
	return tests;
}
