/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Replies whose descriptors can't be handed over, now or ever. A case of the suite "hostile". */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proto/packet.h"
#include "tests/edge.h"
#include "tests/raw_client.h"
#include "tests/test.h"

static const char one_pool[] =
	"pools: { host: { path = \"@host@\" access = \"grant\" } }\n"
	"rules: ( { name = \"r\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";

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

#define REPLIES 40

/* What has been granted comes, however late: nothing is undone behind its back. */
START_TEST(a_reply_that_waits_does_so_until_descriptors_may_be_sent_again)
{
	static struct raw_reply reply;
	struct rlimit limit;
	struct fixture fixture;
	int pair[2], fd, read = 0;

	ck_assert(drop_exemptions());
	fixture_start(&fixture, &(struct fixture_how){ .config = one_pool });
	fd = raw_greeted(fixture.socket);
	for (uint32_t i = 0; i < REPLIES; i++)
		ck_assert_int_eq(raw_open(fd, i, WIRE_READ | WIRE_WRITE | WIRE_CREATE, 0, "/one"),
				 0);
	while (edge_queued(&fixture) == 0)
		test_moment();
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
		edge_queued(&fixture);
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

/* A descriptor on its way counts against the broker's limit, and it has one for all. */
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

TCase *hostile_case_of_undelivered(void)
{
	TCase *test = tcase_create("undelivered");

	tcase_set_timeout(test, 120);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, what_can_not_be_handed_over_leaves_no_name);
	tcase_add_test(test, a_reply_that_waits_does_so_until_descriptors_may_be_sent_again);
	tcase_add_test(test, few_descriptors_wait_for_who_does_not_read);
	return test;
}
