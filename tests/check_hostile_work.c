/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Work that a client leaves to the broker: it takes none of it on at once, and all of it gets done.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
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
START_TEST(nor_do_those_who_are_turned_away_with_something_attached)
{
	struct wire_hello hello = raw_hello(WIRE_VERSION_MIN, WIRE_VERSION_MAX);
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC), fd[400];
	const size_t count = sizeof(fd) / sizeof(*fd);
	struct fixture fixture;
	struct shmb *c;

	fixture_start(&fixture,
		      &(struct fixture_how){ .config = no_connections, .always_peek = true });
	setsockopt(fixture.listener.fd, SOL_SOCKET, SO_PASSRIGHTS, &(int){ 1 }, sizeof(int));
	c = fixture_connect(&fixture);
	stop_process(fixture.closer.pid);
	for (size_t i = 0; i < count; i++) {
		fd[i] = raw_connect(fixture.socket);
		ck_assert_int_ge(fd[i], 0);
		raw_send(fd[i], &hello, sizeof(hello), &null, 1);
	}
	edge_expect_served(&fixture, c);
	await_no_orphans(&fixture, c);
	expect_all_ended(fd, count);
	close(null);
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

static void count_queued(struct fixture *fixture, void *argument)
{
	struct client *client;
	unsigned *count = argument;

	*count = 0;
	LIST_FOREACH (client, &fixture->server->clients, entry)
		*count += client->queued && client->queued->fds.count > 0;
}

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
	unsigned queued;
	struct shmb *c;

	fixture_start(&fixture, &(struct fixture_how){ .config = one_pool });
	TEST_NEEDS(free_bytes(&fixture) > 256 * MIB, "less than 256 MiB free on the tmpfs here");
	c = fixture_connect(&fixture);
	make_large(c, "/large", 0, 32 * MIB);
	undelivered = (struct undelivered){ &fixture, raw_greeted(fixture.socket) };
	for (uint32_t i = 0; i < 40; i++)
		ck_assert_int_eq(raw_open(undelivered.fd, i, WIRE_READ, 0, "/large"), 0);
	do
		fixture_call(&fixture, count_queued, &queued);
	while (queued == 0);
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

/* For good, in this process: with them the kernel lets descriptors on their way be without number.
 */
static bool drop_exemptions(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const __u32 exempt = 1u << CAP_SYS_ADMIN | 1u << CAP_SYS_RESOURCE;
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data) < 0)
		return false;
	data[0].effective &= ~exempt;
	data[0].permitted &= ~exempt;
	data[0].inheritable = 0;
	return syscall(SYS_capset, &header, data) == 0;
}

/* As many as the limit allows, sent and not received. */
static void fill_the_way(int socket, rlim_t limit)
{
	struct fdlist fds = { .count = 200 };
	char byte = 0;
	struct iovec part = { .iov_base = &byte, .iov_len = 1 };
	unsigned waits = 0;

	for (size_t i = 0; i < fds.count; i++)
		fds.fd[i] = STDERR_FILENO;
	for (rlim_t sent = 0; sent <= limit;) {
		int error = packet_send(socket, &part, 1, &fds, 0);

		if (error == 0) {
			sent += fds.count;
			continue;
		}
		/* Other processes of this user have some on their way, too, but not for long. */
		ck_assert_int_eq(error, -ETOOMANYREFS);
		if (waits++ == 1000)
			break;
		poll(NULL, 0, 1);
	}
}

START_TEST(what_can_not_be_handed_over_leaves_no_name)
{
	static const struct {
		uint64_t options;
		const char *name;
	} rows[] = { { 0, "/plain" },
		     { WIRE_TEMPORARY, "/temporary" },
		     { WIRE_UNPUBLISHED, "/unpublished" } };
	struct rlimit limit;
	struct fixture fixture;
	int pair[2], fd;

	ck_assert(drop_exemptions());
	fixture_start(&fixture, &(struct fixture_how){ .config = one_pool });
	fd = raw_greeted(fixture.socket);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = 200;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	for (uint32_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		uint32_t flags = WIRE_READ | WIRE_WRITE | WIRE_CREATE | WIRE_EXCLUSIVE;

		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
		fill_the_way(pair[0], limit.rlim_cur);
		ck_assert_int_eq(raw_open(fd, 4, flags, rows[i].options, rows[i].name), 0);
		ck_assert_int_eq(raw_status(fd, 4), ENFILE);
		close(pair[0]);
		close(pair[1]);
		ck_assert_int_eq(raw_ask(fd, 5, WIRE_STAT, rows[i].name), 0);
		ck_assert_int_eq(raw_status(fd, 5), ENOENT);
		/* And once there is room again it can be made. */
		for (;;) {
			int status;

			ck_assert_int_eq(raw_open(fd, 6, flags, rows[i].options, rows[i].name), 0);
			status = raw_status(fd, 6);
			if (status == 0)
				break;
			ck_assert_int_eq(status, ENFILE);
			poll(NULL, 0, 10);
		}
	}
	close(fd);
	fixture_stop(&fixture);
}
END_TEST

struct drain {
	int fd;
	unsigned count;
};

/* In the loop's thread: so nothing is sent meanwhile. */
static void drain(struct fixture *fixture, void *argument)
{
	static char packet[WIRE_PACKET_MAX];
	struct drain *this = argument;
	struct fdlist fds;

	(void)fixture;
	while (packet_receive(this->fd, packet, sizeof(packet), &fds, MSG_DONTWAIT) > 0) {
		this->count += fds.count;
		fdlist_close(&fds);
	}
}

/* A descriptor on its way counts against the broker's limit, and it has one for all. */
#define REPLIES 40

/* What has been granted comes, however late: nothing is undone behind its back. */
START_TEST(a_reply_that_waits_does_so_until_descriptors_may_be_sent_again)
{
	static struct raw_reply reply;
	struct rlimit limit;
	struct fixture fixture;
	int pair[2], fd, read = 0;
	unsigned queued;

	ck_assert(drop_exemptions());
	fixture_start(&fixture, &(struct fixture_how){ .config = one_pool });
	fd = raw_greeted(fixture.socket);
	for (uint32_t i = 0; i < REPLIES; i++)
		ck_assert_int_eq(raw_open(fd, i, WIRE_READ | WIRE_WRITE | WIRE_CREATE, 0, "/one"),
				 0);
	do
		fixture_call(&fixture, count_queued, &queued);
	while (queued == 0);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = 200;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	fill_the_way(pair[0], limit.rlim_cur);
	while (recv(fd, &reply, 1, MSG_DONTWAIT | MSG_PEEK) == 1) {
		ck_assert(raw_reply(fd, &reply));
		fdlist_close(&reply.fds);
		read++;
	}
	for (int i = 0; i < 20; i++)
		fixture_call(&fixture, count_queued, &queued);
	close(pair[0]);
	close(pair[1]);
	for (; read < REPLIES; read++) {
		ck_assert_msg(raw_reply(fd, &reply), "the end after %d", read);
		fdlist_close(&reply.fds);
	}
	close(fd);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(few_descriptors_wait_for_who_does_not_read)
{
	struct drain this = { 0 };
	struct fixture fixture;
	struct shmb *c;

	fixture_start(&fixture, &(struct fixture_how){ .config = one_pool });
	c = fixture_connect(&fixture);
	for (int round = 0; round < 3; round++) {
		this.fd = raw_greeted(fixture.socket);
		/* A long reply in between must not leave room for more. */
		if (round == 1) {
			ck_assert_int_eq(raw_ask(this.fd, 1000, WIRE_STATUS, ""), 0);
			ck_assert_int_eq(raw_ask(this.fd, 1001, WIRE_LIST, "*"), 0);
		}
		for (uint32_t i = 1; i <= 100; i++)
			ck_assert_int_eq(raw_open(this.fd, i, WIRE_READ | WIRE_WRITE | WIRE_CREATE,
						  0, "/one"),
					 0);
		for (int i = 0; i < 20; i++)
			edge_expect_served(&fixture, c);
		this.count = 0;
		fixture_call(&fixture, drain, &this);
		ck_assert_uint_ge(this.count, 1);
		/* One more may stand in the queue, and one is the connection's own. */
		ck_assert_uint_le(this.count + 2, SERVER_FDS_PER_CONNECTION);
		close(this.fd);
	}
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(there_are_no_more_connections_than_descriptors)
{
	const unsigned most = 20;
	struct fixture fixture;
	int fd[20], one_more;
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
	tcase_add_test(test, what_can_not_be_handed_over_leaves_no_name);
	tcase_add_test(test, a_pattern_is_no_longer_than_a_name);
	tcase_add_test(test, a_reply_that_waits_does_so_until_descriptors_may_be_sent_again);
	tcase_add_test(test, few_descriptors_wait_for_who_does_not_read);
	tcase_add_test(test, there_are_no_more_connections_than_descriptors);
	return test;
}
