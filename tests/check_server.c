/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The daemon's edge: hellos, requests in a row, replies that nobody reads, clients that
 * vanish, and what the log makes of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "daemon/broker_private.h"
#include "daemon/fd.h"
#include "daemon/log.h"
#include "tests/edge.h"
#include "tests/fixture.h"
#include "tests/raw_client.h"
#include "tests/test.h"

static const char one_pool[] =
	"pools: { host: { path = \"@host@\" access = \"grant\" } }\n"
	"rules: ( { name = \"no\" names = \"/no-*\" allow = [] },\n"
	"         { name = \"all\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";

#define ROWS(rows) (sizeof(rows) / sizeof(*(rows)))

static struct raw_reply reply;

static void start(struct fixture *fixture)
{
	fixture_start(fixture, &(struct fixture_how){ .config = one_pool });
}

START_TEST(versions_meet_or_say_so)
{
	static const struct {
		uint16_t min, max, longer;
		int status; /* -1: the end without a word */
	} rows[] = {
		{ 1, 1, 0, 0 },
		{ 1, 7, 0, 0 }, /* a newer client that knows ours */
		{ 0, 1, 0, 0 },
		{ 1, 2, 64, 0 }, /* and says more than we know */
		{ 2, 7, 0, EPROTONOSUPPORT },
		{ 0, 0, 0, EPROTONOSUPPORT },
		{ 3, 1, 0, -1 },
	};
	struct fixture fixture;

	start(&fixture);
	for (size_t i = 0; i < ROWS(rows); i++) {
		struct {
			struct wire_hello hello;
			char more[64];
		} wire = { .hello = raw_hello(rows[i].min, rows[i].max), .more = "later fields" };
		int fd = raw_connect(fixture.socket);
		char text[128];

		ck_assert_int_ge(fd, 0);
		ck_assert_int_eq(raw_welcome(fd, NULL, 0), 0);
		wire.hello.size = (uint16_t)(wire.hello.size + rows[i].longer);
		ck_assert_int_eq(raw_send(fd, &wire, wire.hello.size, NULL, 0), 0);
		if (rows[i].status == 0) {
			ck_assert_int_eq(raw_ask(fd, 5, WIRE_STAT, "none"), 0);
			ck_assert_int_eq(raw_status(fd, 5), ENOENT);
		} else {
			if (rows[i].status > 0) {
				ck_assert_int_eq(raw_welcome(fd, text, sizeof(text)),
						 rows[i].status);
				ck_assert_ptr_nonnull(strstr(text, "version"));
			}
			raw_expect_end(fd);
		}
		close(fd);
	}
	fixture_stop(&fixture);
}
END_TEST

START_TEST(an_unknown_operation_is_refused_and_the_connection_lives)
{
	static const uint16_t operations[] = { 0, 15, 18, 19, 999, 0xffff };
	struct fixture fixture;
	int fd;

	start(&fixture);
	fd = raw_greeted(fixture.socket);
	for (uint32_t i = 0; i < ROWS(operations); i++) {
		ck_assert_int_eq(raw_ask(fd, 100 + i, operations[i], "whatever follows"), 0);
		ck_assert_int_eq(raw_status(fd, 100 + i), EOPNOTSUPP);
	}
	ck_assert_int_eq(raw_ask(fd, 7, WIRE_STAT, "none"), 0);
	ck_assert_int_eq(raw_status(fd, 7), ENOENT);
	close(fd);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(what_is_no_request_ends_that_connection_alone)
{
	static const struct {
		const char *what;
		size_t size;
		bool greeted;
		unsigned char fill;
		uint16_t operation; /* 0: filled all over */
	} rows[] = {
		{ "garbage", 64, true, 0xa5, 0 },
		{ "zeros with a reserved bit", 8, true, 0xff, 0 },
		{ "empty", 0, true, 0, 0 },
		{ "one byte", 1, true, 0, 0 },
		{ "a header cut short", 7, true, 0, WIRE_STAT },
		{ "an open cut short", 31, true, 0, WIRE_OPEN },
		{ "a cancel cut short", 12, true, 0, WIRE_CANCEL },
		{ "a byte too long", WIRE_REQUEST_MAX + 1, true, 0, WIRE_STAT },
		{ "twice too long", 2 * WIRE_REQUEST_MAX, true, 0, WIRE_STAT },
		{ "as long as a packet may be", WIRE_PACKET_MAX, true, 0, WIRE_STAT },
		{ "a request before the hello", 16, false, 0, WIRE_STAT },
		{ "nothing before the hello", 0, false, 0, 0 },
		{ "garbage before the hello", 4096, false, 0x5a, 0 },
		{ "a long packet before the hello", 65536, false, 0x5a, 0 },
	};
	static unsigned char packet[WIRE_PACKET_MAX];
	struct fixture fixture;
	int good;

	start(&fixture);
	good = raw_greeted(fixture.socket);
	for (size_t i = 0; i < ROWS(rows); i++) {
		struct wire_request head = { .serial = 1, .operation = rows[i].operation };
		int fd = rows[i].greeted ? raw_greeted(fixture.socket)
					 : raw_connect(fixture.socket);

		memset(packet, rows[i].fill, sizeof(packet));
		if (rows[i].operation)
			memcpy(packet, &head, sizeof(head));
		ck_assert_msg(raw_send(fd, packet, rows[i].size, NULL, 0) == 0, "%s", rows[i].what);
		raw_expect_end(fd);
		close(fd);
		ck_assert_int_eq(raw_ask(good, (uint32_t)i, WIRE_STAT, "none"), 0);
		ck_assert_int_eq(raw_status(good, (uint32_t)i), ENOENT);
	}
	edge_expect_clients(&fixture, 1);
	close(good);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(the_longest_request_is_still_one)
{
	static char name[WIRE_REQUEST_MAX - sizeof(struct wire_request) + 1];
	struct fixture fixture;
	int fd;

	start(&fixture);
	memset(name, 'x', sizeof(name) - 1);
	fd = raw_greeted(fixture.socket);
	ck_assert_int_eq(raw_ask(fd, 9, WIRE_STAT, name), 0);
	ck_assert_int_eq(raw_status(fd, 9), ENAMETOOLONG);
	close(fd);
	fixture_stop(&fixture);
}
END_TEST

static void fill(const struct fixture *fixture, unsigned count)
{
	struct shmb *c = fixture_connect(fixture);
	char name[32];

	for (unsigned i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "/many-%u", i);
		ck_assert_int_eq(close(shmb_open(c, name, O_RDWR | O_CREAT, 0600)), 0);
	}
	shmb_disconnect(c);
}

/* Reads one listing to its end: its last status. */
static int end_of_list(int fd, uint32_t serial, unsigned *ret_packets)
{
	for (*ret_packets = 0;; ++*ret_packets) {
		ck_assert(raw_reply(fd, &reply));
		ck_assert_uint_eq(reply.head.serial, serial);
		if (!(reply.head.flags & WIRE_MORE))
			return reply.head.status;
	}
}

START_TEST(a_list_can_be_cancelled_and_each_serial_has_its_end)
{
	struct fixture fixture;
	unsigned packets;
	int fd;

	start(&fixture);
	fill(&fixture, 2000);
	fd = raw_greeted(fixture.socket);
	/* The second list begins in the same breath as the first is cancelled. */
	ck_assert_int_eq(raw_ask(fd, 1, WIRE_LIST, ""), 0);
	ck_assert_int_eq(raw_cancel(fd, 2, 1), 0);
	ck_assert_int_eq(raw_ask(fd, 3, WIRE_LIST, "/many-19*"), 0);
	ck_assert_int_eq(end_of_list(fd, 1, &packets), ECANCELED);
	ck_assert_int_eq(end_of_list(fd, 3, &packets), 0);
	/* Of what isn't under way nothing is said. */
	ck_assert_int_eq(raw_cancel(fd, 4, 1), 0);
	ck_assert_int_eq(raw_cancel(fd, 5, 77), 0);
	ck_assert_int_eq(raw_ask(fd, 6, WIRE_STAT, "many-1"), 0);
	ck_assert_int_eq(raw_status(fd, 6), 0);
	close(fd);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(one_list_at_a_time_and_requests_beside_it)
{
	struct fixture fixture;
	bool refused = false, served = false;
	int fd;

	start(&fixture);
	fill(&fixture, 500);
	fd = raw_greeted(fixture.socket);
	ck_assert_int_eq(raw_ask(fd, 1, WIRE_LIST, ""), 0);
	ck_assert_int_eq(raw_ask(fd, 2, WIRE_LIST, ""), 0);
	ck_assert_int_eq(raw_ask(fd, 3, WIRE_STAT, "many-1"), 0);
	for (;;) {
		ck_assert(raw_reply(fd, &reply));
		if (reply.head.serial == 2) {
			ck_assert_int_eq(reply.head.status, EBUSY);
			refused = true;
		} else if (reply.head.serial == 3) {
			ck_assert_int_eq(reply.head.status, 0);
			served = true;
		} else if (!(reply.head.flags & WIRE_MORE)) {
			break;
		}
	}
	ck_assert(refused && served);
	close(fd);
	fixture_stop(&fixture);
}
END_TEST

/* What the broker itself holds for clients that don't read. */
static void count_queued(struct fixture *fixture, void *argument)
{
	unsigned *count = argument;
	struct client *client;

	*count = 0;
	LIST_FOREACH (client, &fixture->server->clients, entry)
		*count += client->queued != NULL;
}

/* As many further requests as the socket takes, up to `end`. */
static uint32_t send_on(int fd, uint32_t serial, uint32_t end)
{
	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (serial < end &&
	       raw_open(fd, serial, WIRE_READ | WIRE_WRITE | WIRE_CREATE, 0, "pipelined") == 0)
		serial++;
	fcntl(fd, F_SETFL, 0);
	return serial;
}

START_TEST(a_thousand_requests_without_reading_are_all_answered)
{
	enum { requests = 1000 };
	struct fixture fixture;
	unsigned queued;
	uint32_t sent;
	int fd;

	start(&fixture);
	fd = raw_greeted(fixture.socket);
	/* Until neither direction takes any more: the broker has stopped to read. */
	sent = send_on(fd, 0, requests);
	ck_assert_uint_lt(sent, requests);
	edge_expect_served(&fixture, NULL);
	fixture_call(&fixture, count_queued, &queued);
	ck_assert_uint_le(queued, 1);
	for (uint32_t read = 0; read < requests; read++) {
		ck_assert_int_eq(raw_status(fd, read), 0);
		sent = send_on(fd, sent, requests);
	}
	close(fd);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(who_never_reads_gets_no_more_than_one_queued_reply)
{
	enum { hostile = 20 };
	int fd[hostile], unread;
	struct fixture fixture;
	unsigned queued;

	start(&fixture);
	fill(&fixture, 2000);
	for (unsigned i = 0; i < hostile; i++) {
		uint32_t serial = 1;

		fd[i] = raw_greeted(fixture.socket);
		fcntl(fd[i], F_SETFL, O_NONBLOCK);
		/* A list left unread, and behind it whatever the socket takes. */
		ck_assert_int_eq(raw_ask(fd[i], serial++, WIRE_LIST, ""), 0);
		while (raw_ask(fd[i], serial, WIRE_STAT, "many-1") == 0 && serial < 100000)
			serial++;
		ck_assert_uint_lt(serial, 100000);
	}
	edge_expect_served(&fixture, NULL);
	fixture_call(&fixture, count_queued, &queued);
	ck_assert_uint_le(queued, hostile);
	/* Some vanish with their queued reply, the others read on to the list's end. */
	for (unsigned i = 0; i < hostile / 2; i++)
		close(fd[i]);
	edge_expect_clients(&fixture, hostile / 2);
	for (unsigned i = hostile / 2; i < hostile; i++) {
		unread = 0;
		fcntl(fd[i], F_SETFL, 0);
		do {
			ck_assert(raw_reply(fd[i], &reply));
			ck_assert_int_lt(++unread, 100000);
		} while (reply.head.serial != 1 || (reply.head.flags & WIRE_MORE));
		ck_assert_int_eq(reply.head.status, 0);
		close(fd[i]);
	}
	edge_expect_clients(&fixture, 0);
	fixture_stop(&fixture);
}
END_TEST

static const char own_pools[] =
	"pools: { own: { per = \"user\" size = \"64K\" objects = 4 } }\n"
	"rules: ( { name = \"own\" names = \"/*\" allow = \"all\" pool = \"own\" } )\n";

START_TEST(who_vanishes_while_his_pool_is_made_leaves_nothing)
{
	struct fixture fixture;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	fixture_start(&fixture, &(struct fixture_how){ .config = own_pools });
	for (int i = 0; i < 20; i++) {
		int fd = raw_greeted(fixture.socket);

		ck_assert_int_eq(raw_open(fd, 1, WIRE_READ | WIRE_WRITE | WIRE_CREATE, 0, "own-1"),
				 0);
		ck_assert_int_eq(raw_ask(fd, 2, WIRE_UNLINK, "own-1"), 0);
		close(fd);
		edge_expect_clients(&fixture, 0);
		fixture_tick(&fixture, 100000);
	}
	fixture_stop(&fixture);
}
END_TEST

/* stderr into a pipe while `function` runs: what was written. */
static void with_stderr(char *ret, size_t size, void (*function)(void *argument), void *argument)
{
	int saved = dup(STDERR_FILENO), ends[2];
	ssize_t got;

	fflush(stderr);
	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
	ck_assert_int_ge(dup2(ends[1], STDERR_FILENO), 0);
	function(argument);
	fflush(stderr);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(ends[1]);
	for (size_t at = 0;; at += (size_t)got) {
		got = read(ends[0], ret + at, size - 1 - at);
		if (got <= 0) {
			ret[at] = 0;
			break;
		}
	}
	close(ends[0]);
}

static unsigned count_lines(const char *text)
{
	unsigned count = 0;

	for (; *text; text++)
		count += *text == '\n';
	return count;
}

static void be_denied(void *argument)
{
	struct shmb *c = argument;

	ck_assert_int_eq(shmb_open(c, "/no-\n<0>fake\x1b[31m\\\xff", O_RDWR, 0), -EACCES);
}

static void be_denied_often(void *argument)
{
	struct shmb *c = argument;
	char name[32];

	for (int i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "/no-%d", i % 2500);
		ck_assert_int_eq(shmb_open(c, name, O_RDWR, 0), -EACCES);
	}
}

static void drop_nonsense(void *argument)
{
	log_line(5, "%s", "pool \"\n<0>x\x1b\x7f\xff\" is gone");
	(void)argument;
}

START_TEST(the_log_escapes_and_keeps_its_rate)
{
	static char text[1 << 20];
	struct timespec begin, end;
	struct fixture fixture;
	struct shmb *c;

	start(&fixture);
	c = fixture_connect(&fixture);
	with_stderr(text, sizeof(text), be_denied, c);
	ck_assert_uint_eq(count_lines(text), 1);
	ck_assert_msg(strstr(text, "/no-\\x0a<0>fake\\x1b[31m\\x5c\\xff:"), "%s", text);
	ck_assert_ptr_nonnull(strstr(text, "rule \"no\" does not allow"));
	/* The same again is only counted. */
	with_stderr(text, sizeof(text), be_denied, c);
	ck_assert_str_eq(text, "");
	with_stderr(text, sizeof(text), drop_nonsense, NULL);
	ck_assert_str_eq(text, "shmbrokerd: pool \"?<0>x???\" is gone\n");
	/* And a new name each time doesn't help. */
	clock_gettime(CLOCK_MONOTONIC, &begin);
	with_stderr(text, sizeof(text), be_denied_often, c);
	clock_gettime(CLOCK_MONOTONIC, &end);
	ck_assert_uint_ge(count_lines(text), 1);
	ck_assert_uint_le(count_lines(text), 16 * (unsigned)(end.tv_sec - begin.tv_sec + 2));
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* Fills it, as somebody does who reads no more; it blocks again afterwards. */
static void fill_pipe(int end)
{
	static const char page[4096];

	ck_assert_int_eq(fcntl(end, F_SETFL, O_NONBLOCK), 0);
	while (write(end, page, sizeof(page)) > 0)
		;
	ck_assert_int_eq(fcntl(end, F_SETFL, 0), 0);
}

START_TEST(a_log_that_nobody_reads_holds_nobody_up)
{
	static char text[1 << 17];
	int kept = dup(STDERR_FILENO), ends[2];
	struct fixture fixture;
	ssize_t size;
	struct shmb *c;

	start(&fixture);
	c = fixture_connect(&fixture);
	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	fill_pipe(ends[1]);
	fflush(stderr);
	dup2(ends[1], STDERR_FILENO);
	ck_assert_int_eq(shmb_open(c, "/no-1", O_RDWR, 0), -EACCES);
	ck_assert_int_eq(shmb_open(c, "/no-2", O_RDWR, 0), -EACCES);
	while (read(ends[0], text, sizeof(text)) == sizeof(text))
		;
	ck_assert_int_eq(shmb_open(c, "/no-3", O_RDWR, 0), -EACCES);
	dup2(kept, STDERR_FILENO);
	size = read(ends[0], text, sizeof(text) - 1);
	text[size < 0 ? 0 : size] = 0;
	ck_assert_msg(strstr(text, "2 lines were lost"), "%s", text);
	ck_assert_msg(strstr(text, "/no-3"), "%s", text);
	close(ends[0]);
	close(ends[1]);
	close(kept);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

Suite *suite_server(void)
{
	Suite *suite = suite_create("server");
	TCase *test = tcase_create("server");

	tcase_set_timeout(test, 120);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, versions_meet_or_say_so);
	tcase_add_test(test, an_unknown_operation_is_refused_and_the_connection_lives);
	tcase_add_test(test, what_is_no_request_ends_that_connection_alone);
	tcase_add_test(test, the_longest_request_is_still_one);
	tcase_add_test(test, a_list_can_be_cancelled_and_each_serial_has_its_end);
	tcase_add_test(test, one_list_at_a_time_and_requests_beside_it);
	tcase_add_test(test, a_thousand_requests_without_reading_are_all_answered);
	tcase_add_test(test, who_never_reads_gets_no_more_than_one_queued_reply);
	tcase_add_test(test, who_vanishes_while_his_pool_is_made_leaves_nothing);
	tcase_add_test(test, the_log_escapes_and_keeps_its_rate);
	tcase_add_test(test, a_log_that_nobody_reads_holds_nobody_up);
	suite_add_tcase(suite, test);
	suite_add_tcase(suite, server_case_of_limits());
	suite_add_tcase(suite, server_case_of_turns());
	suite_add_tcase(suite, server_case_of_doors());
	suite_add_tcase(suite, server_case_of_passes());
	suite_add_tcase(suite, server_case_of_monitors());
	suite_add_tcase(suite, server_case_of_waits());
	suite_add_tcase(suite, server_case_of_reservations());
	return suite;
}
