/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who is served when several ask without end: counted in requests and in passes of the loop, in a
 * broker that finds them all at once. A case of the suite "server".
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/broker_private.h"
#include "proto/packet.h"
#include "tests/edge.h"
#include "tests/raw_client.h"
#include "tests/test.h"

#define OTHER 1000
#define ASKED 5	   /* of whoever is to be served beside it: its socket holds the replies */
#define FLOOD 40   /* on each connection of the flood, or what its socket holds */
#define BETWEEN 2u /* the other's requests between two of one's own, and in a pass */
#define PASSES 4   /* in which so many are asked: two in each, and one in which he has none */
#define SYNC 9	   /* asked one after the other, after as many ms */
#define LONG_S 60  /* of a rest, and of the door: longer than any test */
#define SHORT_US 100000

static const char one_pool[] =
	"pools: { host: { path = \"@host@\" access = \"grant\" } }\n"
	"rules: ( { name = \"r\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";

/* As another user, from a process of its own: floods when it reads a byte, ends at the end. */
struct flood {
	const char *socket;
	int go, done;
	unsigned connections;
	uint16_t operation;
};

static int flood(void *argument)
{
	const struct flood *flood = argument;
	int *fd = calloc(flood->connections, sizeof(*fd));
	char byte = 0;

	for (unsigned i = 0; fd && i < flood->connections; i++) {
		fd[i] = raw_greeted(flood->socket);
		fcntl(fd[i], F_SETFL, O_NONBLOCK);
	}
	if (!fd || write(flood->done, &byte, 1) != 1 || read(flood->go, &byte, 1) != 1)
		return 1;
	for (unsigned i = 0; i < flood->connections; i++)
		for (uint32_t j = 0; j < FLOOD; j++)
			if (raw_ask(fd[i], j, flood->operation, "") < 0)
				break;
	if (write(flood->done, &byte, 1) != 1)
		return 2;
	return read(flood->go, &byte, 1) == 0 ? 0 : 3;
}

static const struct {
	unsigned connections;
	uint16_t operation;
} floods[] = { { 1, WIRE_STAT }, { 8, WIRE_STAT }, { 100, WIRE_STAT }, { 8, WIRE_LIST } };

START_TEST(a_flood_costs_another_user_a_few_requests_at_most)
{
	int go[2], done[2], fd, status;
	struct fixture fixture;
	struct edge_hold hold;
	struct flood flooder = { .connections = floods[_i].connections,
				 .operation = floods[_i].operation };
	unsigned long before, now;
	char byte;
	pid_t pid;

	TEST_NEEDS(test_is_root(), "other users take root");
	ck_assert_int_eq(pipe2(go, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(done, O_CLOEXEC), 0);
	fixture_start(&fixture, &(struct fixture_how){ .config = one_pool });
	flooder.socket = fixture.socket;
	flooder.go = go[0];
	flooder.done = done[1];
	fd = raw_greeted(fixture.socket);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(go[1]);
		_exit(setgid(OTHER) < 0 || setuid(OTHER) < 0 ? 9 : flood(&flooder));
	}
	ck_assert_int_eq(read(done[0], &byte, 1), 1);

	before = edge_count_requests(&fixture);
	edge_hold(&hold, &fixture);
	ck_assert_int_eq(write(go[1], &byte, 1), 1);
	ck_assert_int_eq(read(done[0], &byte, 1), 1);
	/* What takes longer comes last: he would have to rest for it. */
	for (uint32_t i = 0; i < ASKED; i++)
		ck_assert_int_eq(raw_ask(fd, i, i + 1 < ASKED ? WIRE_STAT : WIRE_STATUS, ""), 0);
	edge_let_go(&hold);

	for (uint32_t i = 0; i + 1 < ASKED; i++)
		raw_status(fd, i);
	now = edge_next_count(fd, ASKED - 1, "requests") - before;
	ck_assert_msg(now <= ASKED + BETWEEN * PASSES, "%lu requests in all", now);
	close(go[1]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	close(fd);
	close(go[0]);
	close(done[0]);
	close(done[1]);
	fixture_stop(&fixture);
}
END_TEST

/* The same without end, who reads the replies, too. */
static int flood_on(void *argument)
{
	const struct flood *flood = argument;
	struct pollfd go = { .fd = flood->go, .events = POLLIN };
	int *fd = calloc(flood->connections, sizeof(*fd));
	char reply[WIRE_PACKET_MAX];

	for (unsigned i = 0; fd && i < flood->connections; i++) {
		fd[i] = raw_greeted(flood->socket);
		fcntl(fd[i], F_SETFL, O_NONBLOCK);
	}
	while (fd && poll(&go, 1, 0) == 0)
		for (unsigned i = 0; i < flood->connections; i++)
			/* Or it would wait for him to read instead of in line. */
			do
				while (recv(fd[i], reply, sizeof(reply), 0) > 0)
					;
			while (raw_ask(fd[i], 1, flood->operation, "") == 0);
	free(fd);
	return fd ? 0 : 1;
}

static pid_t start_flood(struct flood *flood, const int *go, int (*function)(void *argument))
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(go[1]);
		_exit(setgid(OTHER) < 0 || setuid(OTHER) < 0 ? 9 : function(flood));
	}
	ck_assert_int_gt(pid, 0);
	return pid;
}

static void end_flood(pid_t pid, const int *go)
{
	int status;

	close(go[1]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	close(go[0]);
}

struct line {
	bool rests, has_rested;
	size_t bytes, unread; /* that wait in it, and of answers */
	uint64_t requests;
};

static void look_at_line(struct fixture *fixture, void *argument)
{
	struct server *server = fixture->server;
	struct line *line = argument;
	struct client *client;
	int bytes, unread;

	*line = (struct line){
		.rests = server->rest.is_on && !TAILQ_EMPTY(&server->waiting),
		.has_rested = server->rest.since_ns > 0,
		.requests = server_broker(server)->counters.requests,
	};
	LIST_FOREACH (client, &server->clients, entry)
		if (client->turn.waits && ioctl(client->fd, FIONREAD, &bytes) == 0 &&
		    ioctl(client->fd, SIOCOUTQ, &unread) == 0) {
			line->bytes += (size_t)bytes;
			line->unread += (size_t)unread;
		}
}

/* It rests, with more than is to be served of it, and room for the answers to that. */
static void await_rest(struct fixture *fixture, int fd, uint32_t *serial)
{
	struct line line;

	do {
		edge_ask_and_count(fixture, fd, (*serial)++);
		do {
			fixture_call(fixture, look_at_line, &line);
		} while (line.rests &&
			 (line.bytes < 4 * SYNC * sizeof(struct wire_request) || line.unread > 0));
	} while (!line.rests);
}

/* Until there were so many more, of whomever. */
static struct line line_after(struct fixture *fixture, uint64_t requests)
{
	struct line first, now;

	fixture_call(fixture, look_at_line, &first);
	do {
		fixture_call(fixture, look_at_line, &now);
	} while (now.requests < first.requests + requests);
	return now;
}

START_TEST(who_is_in_line_rests_until_another_asks_again)
{
	struct fixture fixture;
	struct flood flooder = { .connections = floods[_i].connections,
				 .operation = floods[_i].operation };
	unsigned long first, before, now;
	uint32_t serial = 0;
	int go[2], fd;
	pid_t pid;

	TEST_NEEDS(test_is_root(), "other users take root");
	ck_assert_int_eq(pipe2(go, O_CLOEXEC), 0);
	fixture_start(&fixture,
		      &(struct fixture_how){ .config = one_pool, .rest_us = LONG_S * 1000000 });
	flooder.socket = fixture.socket;
	flooder.go = go[0];
	fd = raw_greeted(fixture.socket);
	pid = start_flood(&flooder, go, flood_on);
	await_rest(&fixture, fd, &serial);
	first = before = edge_ask_and_count(&fixture, fd, serial++);
	for (int i = 0; i < SYNC; i++, before = now) {
		usleep(1000 * (unsigned)i);
		now = edge_ask_and_count(&fixture, fd, serial++);
		ck_assert_msg(now - before <= 1 + BETWEEN, "%lu requests between two",
			      now - before);
	}
	ck_assert_msg(now - first <= SYNC + 2 * SYNC / 3 + BETWEEN, "%lu requests in all",
		      now - first);
	end_flood(pid, go);
	close(fd);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(who_is_in_line_goes_on_when_nobody_asks)
{
	struct fixture fixture;
	struct flood flooder = { .connections = floods[_i].connections,
				 .operation = floods[_i].operation };
	uint32_t serial = 0;
	int go[2], fd;
	pid_t pid;

	TEST_NEEDS(test_is_root(), "other users take root");
	ck_assert_int_eq(pipe2(go, O_CLOEXEC), 0);
	fixture_start(&fixture, &(struct fixture_how){ .config = one_pool, .rest_us = SHORT_US });
	flooder.socket = fixture.socket;
	flooder.go = go[0];
	fd = raw_greeted(fixture.socket);
	pid = start_flood(&flooder, go, flood_on);
	await_rest(&fixture, fd, &serial);
	line_after(&fixture, 1000);
	end_flood(pid, go);
	close(fd);
	fixture_stop(&fixture);
}
END_TEST

/* On one connection, each after the answer to the one before. */
static int ask_long(void *argument)
{
	const struct flood *flood = argument;
	struct pollfd go = { .fd = flood->go, .events = POLLIN };
	int fd = raw_greeted(flood->socket);

	for (uint32_t serial = 0; poll(&go, 1, 0) == 0; serial++)
		if (raw_ask(fd, serial, flood->operation, "") < 0 || raw_status(fd, serial) < 0)
			return 1;
	return 0;
}

START_TEST(after_what_takes_long_others_are_served_first)
{
	struct fixture fixture;
	struct flood flooder = { .operation = WIRE_STATUS };
	unsigned long first;
	uint32_t serial = 0;
	int go[2], fd;
	pid_t pid;

	TEST_NEEDS(test_is_root(), "other users take root");
	ck_assert_int_eq(pipe2(go, O_CLOEXEC), 0);
	fixture_start(&fixture,
		      &(struct fixture_how){ .config = one_pool, .rest_us = LONG_S * 1000000 });
	flooder.socket = fixture.socket;
	flooder.go = go[0];
	fd = raw_greeted(fixture.socket);
	pid = start_flood(&flooder, go, ask_long);
	line_after(&fixture, 1000);
	first = edge_ask_and_count(&fixture, fd, serial++);
	for (unsigned long i = 1; i < SYNC; i++) {
		usleep(1000);
		ck_assert_uint_eq(edge_ask_and_count(&fixture, fd, serial++), first + i);
	}
	/* He hears no more, and ends without. */
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	close(go[0]);
	close(go[1]);
	close(fd);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(who_is_alone_does_not_rest)
{
	struct fixture fixture;
	struct flood flooder = { .connections = floods[_i].connections,
				 .operation = floods[_i].operation };
	struct line line;
	int go[2];
	pid_t pid;

	TEST_NEEDS(test_is_root(), "other users take root");
	ck_assert_int_eq(pipe2(go, O_CLOEXEC), 0);
	fixture_start(&fixture, &(struct fixture_how){ .config = one_pool });
	flooder.socket = fixture.socket;
	flooder.go = go[0];
	pid = start_flood(&flooder, go, flood_on);
	line = line_after(&fixture, 5000);
	ck_assert(!line.rests && !line.has_rested);
	end_flood(pid, go);
	fixture_stop(&fixture);
}
END_TEST

#define WAITING 40

static void count_waits(struct fixture *fixture, void *argument)
{
	*(uint32_t *)argument = server_broker(fixture->server)->quota.total[RESOURCE_WAIT];
}

struct passes {
	const char *path;
	uint64_t first, last;
};

static void make_awaited(struct fixture *fixture, void *argument)
{
	struct passes *passes = argument;
	int fd = open(passes->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);

	passes->first = fixture->server->pass;
	ck_assert_int_ge(fd, 0);
	close(fd);
}

static void note_pass(struct fixture *fixture, void *argument)
{
	struct passes *passes = argument;

	passes->last = fixture->server->pass;
}

/* A packet of a stream is a part of a user's turn, too, however many of his could have theirs. */
START_TEST(who_waits_for_one_name_is_answered_one_in_a_pass)
{
	struct passes passes;
	struct fixture fixture;
	uint32_t waits;
	char path[160];
	int fd[WAITING];

	fixture_start(&fixture, &(struct fixture_how){ .config = one_pool });
	snprintf(path, sizeof(path), "%s/awaited", fixture.host);
	passes.path = path;
	for (int i = 0; i < WAITING; i++) {
		fd[i] = raw_greeted(fixture.socket);
		ck_assert_int_eq(raw_ask(fd[i], 1, WIRE_WAIT, "awaited"), 0);
	}
	do {
		fixture_call(&fixture, count_waits, &waits);
	} while (waits < WAITING);
	fixture_call(&fixture, make_awaited, &passes);
	for (int i = 0; i < WAITING; i++)
		ck_assert_int_eq(raw_status(fd[i], 1), 0);
	fixture_call(&fixture, note_pass, &passes);
	ck_assert_uint_ge(passes.last - passes.first, WAITING);
	for (int i = 0; i < WAITING; i++)
		close(fd[i]);
	fixture_stop(&fixture);
}
END_TEST

TCase *server_case_of_turns(void)
{
	TCase *test = tcase_create("turns");

	tcase_set_timeout(test, 60);
	tcase_add_loop_test(test, a_flood_costs_another_user_a_few_requests_at_most, 0,
			    sizeof(floods) / sizeof(floods[0]));
	tcase_add_loop_test(test, who_is_in_line_rests_until_another_asks_again, 0,
			    sizeof(floods) / sizeof(floods[0]));
	tcase_add_loop_test(test, who_is_in_line_goes_on_when_nobody_asks, 0,
			    sizeof(floods) / sizeof(floods[0]));
	tcase_add_test(test, after_what_takes_long_others_are_served_first);
	tcase_add_loop_test(test, who_is_alone_does_not_rest, 0,
			    sizeof(floods) / sizeof(floods[0]));
	tcase_add_test(test, who_waits_for_one_name_is_answered_one_in_a_pass);
	return test;
}
