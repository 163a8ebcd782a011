/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* SHMB_RESERVE: all of the memory is there with the name, or neither is. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/edge.h"
#include "tests/fixture.h"
#include "tests/test.h"

#define KIB ((size_t)1024)

static const char config[] =
	"pools: { frames: { size = \"1M\" objects = 8 } host: { path = \"@host@\" access = "
	"\"caller\" } }\n"
	"rules: ( { name = \"f\" names = \"/f-*\" allow = \"all\" pool = \"frames\" },\n"
	"         { name = \"h\" names = \"/h-*\" allow = \"all\" pool = \"host\" } )\n";

static int open_sized(struct shmb *c, const char *name, int oflag, size_t size, uint64_t flags)
{
	const struct shmb_how how = {
		.oflag = (unsigned)oflag, .mode = 0600, .size = size, .flags = flags
	};

	return shmb_open_how(c, name, &how, sizeof(how));
}

static void expect_reserved(struct shmb *c, const char *name, int oflag, size_t size)
{
	int fd = open_sized(c, name, oflag, size, SHMB_RESERVE);
	struct stat st;

	ck_assert_msg(fd >= 0, "%s: %s", name, shmb_reason(c));
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_uint_eq((size_t)st.st_size, size);
	ck_assert_uint_ge((size_t)st.st_blocks * 512, size);
	ck_assert_str_eq(shmb_reason(c), "");
	ck_assert_int_eq(fcntl(fd, F_GETFL) & O_ACCMODE, oflag & O_ACCMODE);
	close(fd);
}

static void expect_absent(struct shmb *c, const char *name)
{
	struct shmb_info info;

	ck_assert_int_eq(shmb_stat(c, name, &info, sizeof(info)), -ENOENT);
}

START_TEST(memory_for_all_of_it_is_there_or_no_name)
{
	struct fixture fixture;
	struct shmb_info info;
	struct shmb *c;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	fixture_start(&fixture, &(struct fixture_how){ .config = config });
	c = fixture_connect(&fixture);
	expect_reserved(c, "/f-1", O_RDWR | O_CREAT | O_EXCL, 600 * KIB);
	ck_assert_int_eq(open_sized(c, "/f-2", O_RDWR | O_CREAT, 600 * KIB, SHMB_RESERVE), -ENOSPC);
	expect_absent(c, "/f-2");
	/* What it had on the way is given back. */
	expect_reserved(c, "/f-2", O_WRONLY | O_CREAT, 300 * KIB);
	ck_assert_int_eq(open_sized(c, "/f-3", O_RDWR | O_CREAT, 2048 * KIB, SHMB_RESERVE),
			 -ENOSPC);
	expect_absent(c, "/f-3");
	ck_assert_int_eq(shmb_unlink(c, "/f-1"), 0);

	/* One that is there is reserved as long as it is, and stays if that can't be. */
	close(open_sized(c, "/f-4", O_RDWR | O_CREAT, 900 * KIB, 0));
	ck_assert_int_eq(open_sized(c, "/f-4", O_RDWR, 0, SHMB_RESERVE), -ENOSPC);
	ck_assert_int_eq(shmb_stat(c, "/f-4", &info, sizeof(info)), 0);
	ck_assert_int_eq(shmb_unlink(c, "/f-2"), 0);
	expect_reserved(c, "/f-4", O_RDWR, 900 * KIB);
	expect_reserved(c, "/f-4", O_RDWR | O_CREAT, 900 * KIB);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(what_was_given_up_is_in_nobodys_way)
{
	struct fixture fixture;
	struct shmb *c;
	int r;

	fixture_start(&fixture, &(struct fixture_how){ .config = config });
	c = fixture_connect(&fixture);
	for (int i = 0; i < 50; i++) {
		/* Mostly too soon. */
		ck_assert_int_eq(shmb_set_timeout(c, 0), 0);
		r = open_sized(c, "/h-1", O_RDWR | O_CREAT | O_EXCL, 4096, SHMB_RESERVE);
		ck_assert_msg(r >= 0 || r == -ETIMEDOUT, "%d: %s", r, shmb_reason(c));
		if (r >= 0)
			close(r);
		ck_assert_int_eq(shmb_set_timeout(c, 25000), 0);
		/* The answer to its publication may have been what came too late. */
		shmb_unlink(c, "/h-1");
		expect_reserved(c, "/h-1", O_RDWR | O_CREAT | O_EXCL, 4096);
		ck_assert_int_eq(shmb_unlink(c, "/h-1"), 0);
	}
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(what_can_not_be_reserved_is_refused)
{
	struct fixture fixture;
	struct shmb *c;

	fixture_start(&fixture, &(struct fixture_how){ .config = config });
	c = fixture_connect(&fixture);
	ck_assert_int_eq(open_sized(c, "/h-1", O_RDONLY | O_CREAT, 4096, SHMB_RESERVE), -EINVAL);
	ck_assert_int_eq(
		open_sized(c, "/h-1", O_RDWR | O_CREAT, 4096, SHMB_RESERVE | SHMB_UNPUBLISHED),
		-EINVAL);
	ck_assert_int_eq(open_sized(c, "/h-1", O_RDWR, 0, SHMB_RESERVE), -ENOENT);
	expect_absent(c, "/h-1");
	expect_reserved(c, "/h-1", O_RDWR | O_CREAT, 4096);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(
			open_sized(c, "/h-1", O_RDWR | O_CREAT | O_EXCL, 4096, SHMB_RESERVE),
			-EEXIST);
	/* Nothing waits under that name. */
	ck_assert_int_eq(shmb_publish(c, "/h-1", 0), -ENOENT);
	ck_assert_int_eq(shmb_unlink(c, "/h-1"), 0);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

static void handled(int number)
{
	(void)number;
}

START_TEST(signals_do_not_keep_it_from_its_end)
{
	const struct itimerval each_ms = { { 0, 1000 }, { 0, 1000 } };
	const struct sigaction action = { .sa_handler = handled };
	struct fixture fixture;
	struct shmb *c;

	fixture_start(&fixture, &(struct fixture_how){ .config = config });
	c = fixture_connect(&fixture);
	ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
	ck_assert_int_eq(setitimer(ITIMER_REAL, &each_ms, NULL), 0);
	expect_reserved(c, "/h-1", O_RDWR | O_CREAT, 48 * 1024 * KIB);
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	ck_assert_int_eq(shmb_unlink(c, "/h-1"), 0);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* The same without a reservation dies of it. */
static int touch_all(void *argument)
{
	struct shmb *c;
	uint64_t flags = argument ? SHMB_RESERVE : 0;
	char *memory;
	int fd;

	signal(SIGBUS, SIG_DFL); /* a sanitizer's handler makes something else of it */
	if (shmb_connect(&c, NULL) < 0)
		return 1;
	close(open_sized(c, "/f-1", O_RDWR | O_CREAT, 900 * KIB, SHMB_RESERVE));
	fd = open_sized(c, "/f-2", O_RDWR | O_CREAT, 500 * KIB, flags);
	if (fd < 0)
		return 2;
	memory = shmb_map(fd, PROT_READ | PROT_WRITE, NULL);
	memset(memory, 1, 500 * KIB);
	return 0;
}

START_TEST(without_it_a_full_pool_is_a_signal_at_the_page)
{
	struct fixture fixture;
	struct shmb *c;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	fixture_start(&fixture, &(struct fixture_how){ .config = config });
	c = fixture_connect(&fixture);
	ck_assert_int_eq(test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, touch_all, NULL), 128 + SIGBUS);
	ck_assert_int_eq(shmb_unlink(c, "/f-2"), 0);
	ck_assert_int_eq(test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, touch_all, (void *)1), 2);
	expect_absent(c, "/f-2");
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

TCase *server_case_of_reservations(void)
{
	TCase *test = tcase_create("reservations");

	tcase_set_timeout(test, 120);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, memory_for_all_of_it_is_there_or_no_name);
	tcase_add_test(test, what_can_not_be_reserved_is_refused);
	tcase_add_test(test, what_was_given_up_is_in_nobodys_way);
	tcase_add_test(test, signals_do_not_keep_it_from_its_end);
	tcase_add_test(test, without_it_a_full_pool_is_a_signal_at_the_page);
	return test;
}
