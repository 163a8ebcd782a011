/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The closer, and that what clients have attached is left to it in every case. A case of the suite
 * "hostile".
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/packet.h"
#include "tests/edge.h"
#include "tests/fault.h"
#include "tests/raw_client.h"
#include "tests/test.h"

static const char one_pool[] =
	"pools: { host: { path = \"@host@\" access = \"grant\" } }\n"
	"rules: ( { name = \"r\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";

/* A broker that takes descriptors from the kernel, and whose closer stands still. */
static void start(struct fixture *fixture)
{
	fault_begin();
	fixture_start(fixture, &(struct fixture_how){ .config = one_pool, .always_peek = true });
	setsockopt(fixture->listener.fd, SOL_SOCKET, SO_PASSRIGHTS, &(int){ 1 }, sizeof(int));
	ck_assert_int_eq(kill(fixture->closer.pid, SIGSTOP), 0);
	ck_assert_int_eq(waitpid(fixture->closer.pid, NULL, WUNTRACED), fixture->closer.pid);
}

/* That nobody but the closer has closed it. */
static void expect_closed_elsewhere(const struct fixture *fixture, int reader)
{
	struct pollfd attached = { .fd = reader, .events = POLLIN };

	ck_assert_int_eq(poll(&attached, 1, 0), 0);
	ck_assert_int_eq(kill(fixture->closer.pid, SIGCONT), 0);
	ck_assert_int_eq(poll(&attached, 1, 30 * 1000), 1);
	close(reader);
}

/* Or the broker's own close, which comes a little later, would be the last, and could hang. */
START_TEST(the_closer_waits_until_the_broker_has_closed_its_copy)
{
	struct closer closer;
	char how = CLOSING_HOSTILE, done = CLOSING_DONE;
	struct iovec part = { &how, 1 }, end = { &done, 1 };
	struct pollfd reader = { .events = POLLIN };
	struct fdlist fds = { .count = 1 };
	int ends[2];

	ck_assert_int_eq(closer_start(&closer, NULL), 0);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(pipe(ends), 0);
		fds.fd[0] = ends[1];
		reader.fd = ends[0];
		how = i == 0 ? CLOSING_HOSTILE : CLOSING_SLOW;
		ck_assert_int_eq(packet_send(closer.socket, &part, 1, &fds, 0), 0);
		close(ends[1]);
		ck_assert_int_eq(poll(&reader, 1, 100), 0);
		ck_assert_int_eq(packet_send(closer.socket, &end, 1, NULL, 0), 0);
		ck_assert_int_eq(poll(&reader, 1, 30 * 1000), 1);
		close(ends[0]);
	}
	closer_stop(&closer);
}
END_TEST

static int end_at_once(void)
{
	_exit(1);
}

static int have_no_filter(void)
{
	return -ENOMEM;
}

START_TEST(a_closer_that_ends_before_it_has_begun_is_none)
{
	struct closer closer;

	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(closer_start(&closer, i == 0 ? end_at_once : have_no_filter),
				 -ECHILD);
		ck_assert_int_lt(closer.socket, 0);
		ck_assert_int_eq(closer.pid, 0);
	}
}
END_TEST

static int attach(int fd, int attached)
{
	struct wire_request stat = { .serial = 5, .operation = WIRE_STAT };
	int error = raw_send(fd, &stat, sizeof(stat), &attached, 1);

	close(attached);
	return error;
}

struct attack {
	int fd, attached;
};

/* In the loop's thread. */
static void attach_and_go(void *argument)
{
	const struct attack *this = argument;

	ck_assert_int_eq(attach(this->fd, this->attached), 0);
	close(this->fd);
}

/*
 * Behind what ends the connection, and gone before the broker looks for more: then the kernel tells
 * of the unread reply before it tells of the packet.
 */
START_TEST(what_came_from_who_left_a_reply_unread_is_closed_elsewhere)
{
	struct pollfd reply = { .events = POLLIN };
	struct fixture fixture;
	struct fault_hit hit;
	struct attack this;
	int ends[2];

	start(&fixture);
	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	this = (struct attack){ raw_greeted(fixture.socket), ends[1] };
	ck_assert_int_eq(raw_ask(this.fd, 3, WIRE_STAT, "none"), 0);
	reply.fd = this.fd;
	ck_assert_int_eq(poll(&reply, 1, 30 * 1000), 1);
	fault_hook(FAULT_LOOP, FAULT_shutdown, 1, 0, attach_and_go, &this);
	ck_assert_int_eq(raw_send(this.fd, "no request", 10, NULL, 0), 0);
	edge_expect_clients(&fixture, 0);
	fault_disarm(&hit);
	ck_assert(hit.happened);
	expect_closed_elsewhere(&fixture, ends[0]);
	fixture_stop(&fixture);
}
END_TEST

static const int no_memory[] = { ENOMEM, ENOBUFS, ETOOMANYREFS };

START_TEST(what_can_not_be_handed_over_for_want_of_memory_waits)
{
	struct fixture fixture;
	struct fault_hit hit;
	int ends[2], fd;

	start(&fixture);
	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	fd = raw_greeted(fixture.socket);
	fault_arm_call(FAULT_LOOP, FAULT_sendmsg_descriptor, 1, no_memory[_i]);
	ck_assert_int_eq(attach(fd, ends[1]), 0);
	edge_expect_clients(&fixture, 0);
	fault_disarm(&hit);
	ck_assert(hit.happened);
	edge_expect_served(&fixture, NULL);
	expect_closed_elsewhere(&fixture, ends[0]);
	close(fd);
	fixture_stop(&fixture);
}
END_TEST

TCase *hostile_case_of_closing(void)
{
	TCase *test = tcase_create("closing");

	tcase_set_timeout(test, 120);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, the_closer_waits_until_the_broker_has_closed_its_copy);
	tcase_add_test(test, a_closer_that_ends_before_it_has_begun_is_none);
	tcase_add_test(test, what_came_from_who_left_a_reply_unread_is_closed_elsewhere);
	tcase_add_loop_test(test, what_can_not_be_handed_over_for_want_of_memory_waits, 0,
			    sizeof(no_memory) / sizeof(no_memory[0]));
	return test;
}
