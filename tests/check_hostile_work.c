/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Work that a client leaves to the broker: it takes none of it on at once, and all of it gets done.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/internal.h"
#include "daemon/broker_private.h"
#include "proto/packet.h"
#include "tests/edge.h"
#include "tests/fixture.h"
#include "tests/raw_client.h"
#include "tests/test.h"

#define MIB ((size_t)1024 * 1024)

static const char one_pool[] =
	"pools: { host: { path = \"@host@\" access = \"grant\" } }\n"
	"rules: ( { name = \"r\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";

static const char private_pool[] =
	"pools: { own: { size = \"64M\" objects = 100 } }\n"
	"rules: ( { name = \"r\" names = \"/*\" allow = \"all\" pool = \"own\" } )\n";

static const char callers_pool[] =
	"pools: { host: { path = \"@host@\" } }\n"
	"rules: ( { name = \"r\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";

static const char no_connections[] =
	"limits: { connections-per-user = 1 }\n"
	"pools: { host: { path = \"@host@\" access = \"grant\" } }\n"
	"rules: ( { name = \"r\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";

static void stop_process(pid_t pid)
{
	siginfo_t info;

	ck_assert_int_eq(kill(pid, SIGSTOP), 0);
	ck_assert_int_eq(waitid(P_PID, (id_t)pid, &info, WSTOPPED | WNOWAIT), 0);
}

static void count_orphans(struct fixture *fixture, void *argument)
{
	struct orphan *orphan;
	unsigned *count = argument;

	*count = 0;
	SLIST_FOREACH (orphan, &fixture->server->orphans, entry)
		++*count;
}

/* The closer goes on: until nothing waits for it, others are served. */
static void await_no_orphans(struct fixture *fixture, struct shmb *c)
{
	unsigned orphans;

	ck_assert_int_eq(kill(fixture->closer.pid, SIGCONT), 0);
	do {
		edge_expect_served(fixture, c);
		fixture_call(fixture, count_orphans, &orphans);
	} while (orphans > 0);
}

static void expect_all_ended(const int *fd, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		raw_expect_end(fd[i]);
		close(fd[i]);
	}
}

/* Connections with something attached, more of them than the closer's socket holds. */
START_TEST(a_closer_that_falls_behind_holds_nobody_up)
{
	struct wire_request stat = { .serial = 3, .operation = WIRE_STAT };
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC), fd[400];
	const size_t count = sizeof(fd) / sizeof(*fd);
	struct fixture fixture;
	unsigned orphans;
	struct shmb *c;

	fixture_start(&fixture, &(struct fixture_how){ .config = one_pool, .always_peek = true });
	setsockopt(fixture.listener.fd, SOL_SOCKET, SO_PASSRIGHTS, &(int){ 1 }, sizeof(int));
	c = fixture_connect(&fixture);
	for (size_t i = 0; i < count; i++)
		fd[i] = raw_greeted(fixture.socket);
	stop_process(fixture.closer.pid);
	for (size_t i = 0; i < count; i++)
		ck_assert_int_eq(raw_send(fd[i], &stat, sizeof(stat), &null, 1), 0);
	edge_expect_clients(&fixture, 1);
	edge_expect_served(&fixture, c);
	fixture_call(&fixture, count_orphans, &orphans);
	ck_assert_uint_gt(orphans, 0);
	await_no_orphans(&fixture, c);
	/* And whoever comes is let in again. */
	edge_expect_served(&fixture, NULL);
	expect_all_ended(fd, count);
	close(null);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* Those who are turned away are on nobody's account. */
static int come_with_something_attached(void *argument)
{
	const struct fixture *fixture = argument;
	struct wire_hello hello = raw_hello(WIRE_VERSION_MIN, WIRE_VERSION_MAX);
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC), fd[400];
	const size_t count = sizeof(fd) / sizeof(*fd);

	for (size_t i = 0; i < count; i++) {
		fd[i] = raw_connect(fixture->socket);
		EXPECT(fd[i] >= 0);
		raw_send(fd[i], &hello, sizeof(hello), &null, 1);
	}
	expect_all_ended(fd, count);
	return 0;
}

static void look_if_paused(struct fixture *fixture, void *argument)
{
	*(bool *)argument = fixture->server->paused;
}

START_TEST(nor_do_those_who_are_turned_away_with_something_attached)
{
	struct fixture fixture;
	struct shmb *c;
	bool is_paused;
	int status;
	pid_t pid;

	fixture_start(&fixture,
		      &(struct fixture_how){ .config = no_connections, .always_peek = true });
	setsockopt(fixture.listener.fd, SOL_SOCKET, SO_PASSRIGHTS, &(int){ 1 }, sizeof(int));
	c = fixture_connect(&fixture);
	stop_process(fixture.closer.pid);
	fflush(NULL);
	/* More than wait in the kernel's queue: the last come when the first have gone. */
	pid = fork();
	if (pid == 0)
		_exit(come_with_something_attached(&fixture));
	do {
		fixture_call(&fixture, look_if_paused, &is_paused);
	} while (!is_paused);
	edge_expect_served(&fixture, c);
	await_no_orphans(&fixture, c);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

static void look_at_first_pool(struct fixture *fixture, void *argument)
{
	const struct instance *first = store_next(server_broker(fixture->server)->store, 0);

	ck_assert_int_eq(fstatvfs(first->writable, argument), 0);
}

/* Of the one pool that there is. */
static uint64_t free_bytes(struct fixture *fixture)
{
	struct statvfs fs;

	fixture_call(fixture, look_at_first_pool, &fs);
	return (uint64_t)fs.f_bfree * fs.f_frsize;
}

static void make_large(struct shmb *c, const char *name, unsigned flags, size_t size)
{
	struct shmb_how how = {
		.oflag = O_RDWR | O_CREAT | O_EXCL, .mode = 0600, .size = size, .flags = flags
	};
	int fd = shmb_open_how(c, name, &how, sizeof(how));

	ck_assert_msg(fd >= 0, "%s", shmb_reason(c));
	ck_assert_int_eq(posix_fallocate(fd, 0, (off_t)size), 0);
	close(fd);
}

/* While the closer stands still the memory stays: so it is the closer that frees it. */
static void expect_freed_elsewhere(struct fixture *fixture, struct shmb *c,
				   int (*remove)(struct shmb *c))
{
	uint64_t before = free_bytes(fixture);

	stop_process(fixture->closer.pid);
	ck_assert_msg(remove(c) == 0, "%s", shmb_reason(c));
	ck_assert_uint_lt(free_bytes(fixture), before + 16 * MIB);
	ck_assert_int_eq(kill(fixture->closer.pid, SIGCONT), 0);
	for (int i = 0; free_bytes(fixture) < before + 16 * MIB; i++) {
		ck_assert_int_lt(i, 2000);
		poll(NULL, 0, 10);
	}
}

static int remove_large(struct shmb *c)
{
	return shmb_unlink(c, "/large");
}

static int replace_large(struct shmb *c)
{
	return shmb_publish(c, "/large", SHMB_REPLACE);
}

START_TEST(a_large_object_is_freed_elsewhere)
{
	struct fixture fixture;
	struct shmb *c;

	fixture_start(&fixture, &(struct fixture_how){ .config = one_pool });
	TEST_NEEDS(free_bytes(&fixture) > 256 * MIB, "less than 256 MiB free on the tmpfs here");
	c = fixture_connect(&fixture);
	make_large(c, "/large", 0, 32 * MIB);
	expect_freed_elsewhere(&fixture, c, remove_large);
	make_large(c, "/large", 0, 32 * MIB);
	make_large(c, "/large", SHMB_UNPUBLISHED, MIB);
	expect_freed_elsewhere(&fixture, c, replace_large);
	ck_assert_int_eq(shmb_unlink(c, "/large"), 0);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* Asks for it again and again and reads no answer, until one has to wait in the broker. */
struct undelivered {
	struct fixture *fixture;
	int fd;
};
static struct undelivered undelivered;

static int hang_up(struct shmb *c)
{
	(void)c;
	close(undelivered.fd);
	edge_expect_clients(undelivered.fixture, 1);
	edge_expect_served(undelivered.fixture, c);
	return 0;
}

START_TEST(and_so_is_one_that_could_not_be_delivered)
{
	struct fixture fixture;
	char path[160];
	struct shmb *c;

	fixture_start(&fixture, &(struct fixture_how){ .config = one_pool });
	TEST_NEEDS(free_bytes(&fixture) > 256 * MIB, "less than 256 MiB free on the tmpfs here");
	c = fixture_connect(&fixture);
	make_large(c, "/large", 0, 32 * MIB);
	undelivered = (struct undelivered){ &fixture, raw_greeted(fixture.socket) };
	for (uint32_t i = 0; i < 40; i++)
		ck_assert_int_eq(raw_open(undelivered.fd, i, WIRE_READ, 0, "/large"), 0);
	while (edge_queued(&fixture) == 0)
		test_moment();
	/* The broker knows nothing of that. */
	snprintf(path, sizeof(path), "%s/large", fixture.host);
	ck_assert_int_eq(unlink(path), 0);
	expect_freed_elsewhere(&fixture, c, hang_up);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

static int make_many(void *argument)
{
	struct shmb_how how = { .oflag = O_RDWR | O_CREAT, .mode = 0600, .flags = SHMB_TEMPORARY };
	struct shmb *c;
	char name[32];

	if (shmb_connect(&c, argument) < 0)
		return 1;
	for (int i = 0; i < 1000; i++) {
		int fd;

		snprintf(name, sizeof(name), "/many-%d", i);
		fd = shmb_open_how(c, name, &how, sizeof(how));
		if (fd < 0)
			return 1;
		close(fd);
	}
	return 0;
}

static int count_entry(const struct shmb_info *info, void *userdata)
{
	(void)info;
	++*(unsigned *)userdata;
	return 0;
}

static int drop_private(struct shmb *c)
{
	return shmb_raw_call(c, WIRE_DROP, "own", 3, NULL, NULL);
}

/* One large object, and many that are not. */
START_TEST(what_is_large_in_a_dropped_pool_is_freed_elsewhere)
{
	struct fixture fixture;
	struct shmb *c;
	char name[32];

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	fixture_start(&fixture,
		      &(struct fixture_how){ .config = private_pool, .is_user = !test_is_root() });
	c = fixture_connect(&fixture);
	make_large(c, "/large", 0, 32 * MIB);
	expect_freed_elsewhere(&fixture, c, drop_private);
	for (int i = 0; i < 16; i++) {
		snprintf(name, sizeof(name), "/some-%d", i);
		make_large(c, name, 0, 2 * MIB);
	}
	expect_freed_elsewhere(&fixture, c, drop_private);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* More names than go in one pass of the loop. */
START_TEST(a_thousand_temporary_names_go_one_part_after_another)
{
	struct fixture fixture;
	unsigned left;
	struct shmb *c;

	fixture_start(&fixture, &(struct fixture_how){ .config = one_pool });
	c = fixture_connect(&fixture);
	ck_assert_int_eq(test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, make_many, fixture.socket), 0);
	do {
		left = 0;
		ck_assert_int_eq(
			shmb_list(c, "many-*", sizeof(struct shmb_info), count_entry, &left), 0);
	} while (left > 0);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* One process, once as each of two users, in a directory where only who made a name may remove it.
 */
static int make_as_two(void *argument)
{
	struct shmb_how how = { .oflag = O_RDWR | O_CREAT, .mode = 0600, .flags = SHMB_TEMPORARY };
	static const uid_t uids[] = { 1001, 1002 };
	char name[32];

	for (size_t i = 0; i < 2; i++) {
		struct shmb *c;
		int fd;

		if (seteuid(0) < 0 || seteuid(uids[i]) < 0 || shmb_connect(&c, argument) < 0)
			return 1;
		snprintf(name, sizeof(name), "/many-%zu", i);
		fd = shmb_open_how(c, name, &how, sizeof(how));
		if (fd < 0)
			return 2;
		close(fd);
		shmb_disconnect(c);
	}
	return 0;
}

START_TEST(temporary_names_of_a_process_that_was_two_users_go)
{
	struct fixture fixture;
	unsigned left;
	struct shmb *c;

	TEST_NEEDS(test_is_root(), "is two users");
	fixture_start(&fixture, &(struct fixture_how){ .config = callers_pool });
	c = fixture_connect(&fixture);
	ck_assert_int_eq(test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, make_as_two, fixture.socket),
			 0);
	do {
		left = 0;
		ck_assert_int_eq(
			shmb_list(c, "many-*", sizeof(struct shmb_info), count_entry, &left), 0);
	} while (left > 0);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(there_are_no_more_connections_than_descriptors)
{
	const unsigned most = 17;
	struct fixture fixture;
	int fd[17], one_more;
	unsigned count = 0;

	TEST_NEEDS(test_is_root(), "some are kept for root");
	fixture_start(&fixture, &(struct fixture_how){ .config = one_pool, .connections = most });
	while (count < most)
		fd[count++] = raw_greeted(fixture.socket);
	one_more = raw_connect(fixture.socket);
	ck_assert_int_eq(raw_welcome(one_more, NULL, 0), EDQUOT);
	close(one_more);
	while (count > 0)
		close(fd[--count]);
	fixture_stop(&fixture);
}
END_TEST

static int never_called(const struct shmb_info *info, void *userdata)
{
	(void)info;
	(void)userdata;
	return 1;
}

START_TEST(a_pattern_is_no_longer_than_a_name)
{
	struct fixture fixture;
	char pattern[300];
	struct shmb *c;

	fixture_start(&fixture, &(struct fixture_how){ .config = one_pool });
	c = fixture_connect(&fixture);
	memset(pattern, '*', sizeof(pattern));
	pattern[256] = 0;
	ck_assert_int_eq(shmb_list(c, pattern, sizeof(struct shmb_info), never_called, NULL),
			 -ENAMETOOLONG);
	pattern[255] = 0;
	ck_assert_int_eq(shmb_list(c, pattern, sizeof(struct shmb_info), never_called, NULL), 0);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

TCase *hostile_case_of_work(void)
{
	TCase *test = tcase_create("work");

	tcase_set_timeout(test, 120);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, a_closer_that_falls_behind_holds_nobody_up);
	tcase_add_test(test, nor_do_those_who_are_turned_away_with_something_attached);
	tcase_add_test(test, a_large_object_is_freed_elsewhere);
	tcase_add_test(test, what_is_large_in_a_dropped_pool_is_freed_elsewhere);
	tcase_add_test(test, and_so_is_one_that_could_not_be_delivered);
	tcase_add_test(test, a_thousand_temporary_names_go_one_part_after_another);
	tcase_add_test(test, temporary_names_of_a_process_that_was_two_users_go);
	tcase_add_test(test, a_pattern_is_no_longer_than_a_name);
	tcase_add_test(test, there_are_no_more_connections_than_descriptors);
	return test;
}
