/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What tells who has a delegation that it may have been taken back, or that the broker has ended: a
 * page of memory, and without it the directory's time. A case of the suite "delegate".
 */
#include <errno.h>
#include <fcntl.h>

#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/validity.h"
#include "tests/delegate_fixture.h"
#include "tests/edge.h"
#include "tests/fault.h"
#include "tests/store_fixture.h"

/* As on a kernel, or in a process, that has none. */
static void lose_page(struct shmb *c)
{
	struct shmb_directories *d = &c->delegation.directories;

	ck_assert_ptr_nonnull(d->page);
	munmap((void *)d->page, WIRE_PAGE_SIZE);
	d->page = NULL;
}

/* By who may write in the directory; no time that was once a delegation's comes back. */
START_TEST(its_time_can_be_changed_by_others)
{
	const struct timespec now[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_NOW } };
	struct timespec near[2] = { { .tv_nsec = 1 }, { .tv_nsec = UTIME_OMIT } };
	struct fixture fixture;
	struct shmb *c;
	int64_t last = 0;

	NEEDS_TABLE;
	start(&fixture, all);
	c = fixture_connect(&fixture);
	put(c, "/x", "one");
	for (int i = 0; i < 5; i++) {
		ck_assert_int_gt(c->delegation.generation, last);
		last = c->delegation.generation;
		lose_page(c);
		ck_assert_int_eq(utimensat(c->delegation.directories.writable, ".", now, 0), 0);
		if (i % 2)
			ck_assert_int_eq(raw_reload(c), 0);
		asked(&fixture);
		expect(c, "/x", "one");
		ck_assert_uint_eq(asked(&fixture), 1);
		expect(c, "/x", "one");
		ck_assert_uint_eq(asked(&fixture), 0);
	}
	/* Within the second, too. Its owner may set any. */
	lose_page(c);
	near[0].tv_sec = c->delegation.generation;
	ck_assert_int_eq(utimensat(c->delegation.directories.writable, ".", near, 0), 0);
	expect(c, "/x", "one");
	ck_assert_uint_eq(asked(&fixture), 1);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(with_a_page_nobody_looks_at_the_time_until_something_has_changed)
{
	const struct timespec now[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_NOW } };
	struct fixture fixture;
	struct shmb *c, *other;
	time_t looked;

	NEEDS_TABLE;
	start(&fixture, all);
	c = fixture_connect(&fixture);
	put(c, "/x", "one");
	ck_assert_int_eq(utimensat(c->delegation.directories.writable, ".", now, 0), 0);
	asked(&fixture);
	looked = c->delegation.looked;
	expect(c, "/x", "one");
	put(c, "/x", "two");
	/* Once a second it is looked at all the same. */
	if (c->delegation.looked == looked)
		ck_assert_uint_eq(asked(&fixture), 0);
	/* Somebody else's has ended. */
	other = fixture_connect(&fixture);
	expect(other, "/x", "two");
	shmb_disconnect(other);
	edge_expect_clients(&fixture, 1);
	asked(&fixture);
	expect(c, "/x", "two");
	ck_assert_uint_eq(asked(&fixture), 1);
	expect(c, "/x", "two");
	ck_assert_uint_eq(asked(&fixture), 0);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

static uint32_t owner_of(const struct wire_page *page)
{
	return atomic_load((const _Atomic uint32_t *)&page->owner);
}

static uint32_t changes_of(const struct wire_page *page)
{
	return atomic_load((const _Atomic uint32_t *)&page->changes);
}

/* Gives a page, and ends as it is told to, or when it is killed. */
static _Noreturn void own(int socket)
{
	struct validity validity = VALIDITY_NONE;
	struct fdlist fds = { .count = 0 };
	char how = 0;
	struct iovec part = { &how, 1 };
	int proc_fds = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);

	fdlist_take(&fds, validity_give(&validity, proc_fds), WIRE_FD_PAGE);
	packet_send(socket, &part, 1, &fds, 0);
	while (read(socket, &how, 1) == 1 && how == 'c') {
		validity_changed(&validity);
		packet_send(socket, &part, 1, NULL, 0);
	}
	if (how == 'd')
		validity_done(&validity);
	_exit(0);
}

static void tell(int socket, char how)
{
	ck_assert_int_eq(write(socket, &how, 1), 1);
}

START_TEST(the_owners_word_tells_of_its_end_however_it_comes)
{
	struct fdlist fds = { .count = 0 };
	static const char zero[WIRE_PAGE_SIZE];
	const struct wire_page *map;
	int pair[2], page;
	char byte;
	pid_t pid;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	pid = fork();
	if (pid == 0)
		own(pair[1]);
	ck_assert_int_eq(packet_receive(pair[0], &byte, 1, &fds, 0), 1);
	ck_assert_uint_eq(fds.count, 1);
	page = fds.fd[0];

	/* Nobody else writes in it, or takes it away. */
	ck_assert(write(page, "x", 1) < 0 && errno == EBADF);
	ck_assert(ftruncate(page, 0) < 0);
	ck_assert(mmap(NULL, WIRE_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, page, 0) ==
		  MAP_FAILED);
	ck_assert(fcntl(page, F_GET_SEALS) & F_SEAL_FUTURE_WRITE);
	map = mmap(NULL, WIRE_PAGE_SIZE, PROT_READ, MAP_SHARED, page, 0);
	ck_assert(map != MAP_FAILED);
	ck_assert_int_lt(mprotect((void *)map, WIRE_PAGE_SIZE, PROT_READ | PROT_WRITE), 0);

	ck_assert_uint_eq(changes_of(map), 0);
	tell(pair[0], 'c');
	ck_assert_int_eq(read(pair[0], &byte, 1), 1);
	ck_assert_uint_eq(changes_of(map), 1);
	ck_assert_uint_eq(owner_of(map), (uint32_t)pid);
	/* It tells of nothing else. */
	ck_assert_mem_eq(map + 1, zero, WIRE_PAGE_SIZE - sizeof(*map));
	if (_i == 0)
		kill(pid, SIGKILL);
	else
		tell(pair[0], _i == 1 ? 'd' : 'e');
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	if (_i == 1)
		ck_assert(owner_of(map) == 0 && changes_of(map) == 2);
	else
		ck_assert(owner_of(map) & WIRE_OWNER_DIED);
	munmap((void *)map, WIRE_PAGE_SIZE);
	fdlist_close(&fds);
	close(pair[0]);
	close(pair[1]);
}
END_TEST

START_TEST(without_a_page_there_is_nothing_of_one)
{
	int proc_fds = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd = -EBADF;
	struct validity validity = VALIDITY_NONE;
	struct fault_hit hit = { .happened = true };

	fault_begin();
	for (unsigned at = 1; hit.happened; at++) {
		fault_arm(FAULT_SELF, at, 0);
		fd = validity_give(&validity, proc_fds);
		fault_disarm(&hit);
		ck_assert(hit.happened ? fd < 0 : fd >= 0);
		if (hit.happened && !validity.page)
			ck_assert_int_eq(validity.fd, -EBADF);
	}
	close(fd);
	validity_done(&validity);
	/* A kernel before Linux 6.3. */
	fault_arm_call(FAULT_SELF, FAULT_memfd_create, 1, EINVAL);
	fd = validity_give(&validity, proc_fds);
	fault_disarm(&hit);
	ck_assert(hit.happened && fd >= 0);
	close(fd);
	validity_done(&validity);
	close(proc_fds);
}
END_TEST

TCase *delegate_case_of_validity(void)
{
	TCase *tests = tcase_create("validity");

	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, test_fds_setup, test_fds_teardown);
	tcase_add_test(tests, its_time_can_be_changed_by_others);
	tcase_add_test(tests, with_a_page_nobody_looks_at_the_time_until_something_has_changed);
	tcase_add_test(tests, without_a_page_there_is_nothing_of_one);
	tcase_add_loop_test(tests, the_owners_word_tells_of_its_end_however_it_comes, 0, 3);
	return tests;
}
