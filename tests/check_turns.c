/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who is served when several ask without end: counted in requests and in passes of the loop, in a
 * broker that finds them all at once. A case of the suite "server".
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
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
#define BETWEEN 2u /* the other's requests between two of one's own */
#define SYNC 12	   /* asked one after the other, after as many ms */
#define REST_S 2   /* of the line, beside one who asks that slowly */

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

	edge_hold(&hold, &fixture);
	ck_assert_int_eq(write(go[1], &byte, 1), 1);
	ck_assert_int_eq(read(done[0], &byte, 1), 1);
	for (uint32_t i = 0; i < ASKED; i++)
		ck_assert_int_eq(raw_ask(fd, i, WIRE_STATUS, ""), 0);
	edge_let_go(&hold);

	before = edge_next_count(fd, 0, "requests");
	for (uint32_t i = 1; i < ASKED; i++, before = now) {
		now = edge_next_count(fd, i, "requests");
		ck_assert_msg(now - before <= 1 + BETWEEN, "%lu requests between two",
			      now - before);
	}
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
	size_t bytes; /* that wait in it */
	uint64_t requests;
};

static void look_at_line(struct fixture *fixture, void *argument)
{
	struct server *server = fixture->server;
	struct line *line = argument;
	struct client *client;
	int bytes;

	*line = (struct line){
		.rests = server->rest.is_on && !TAILQ_EMPTY(&server->waiting),
		.has_rested = server->rest.since_ns > 0,
		.requests = server_broker(server)->counters.requests,
	};
	LIST_FOREACH (client, &server->clients, entry)
		if (client->turn.waits && ioctl(client->fd, FIONREAD, &bytes) == 0)
			line->bytes += (size_t)bytes;
}

static void count_requests(struct fixture *fixture, void *argument)
{
	*(unsigned long *)argument = server_broker(fixture->server)->counters.requests;
}

/* One that takes no time; how many there have been by now, of whomever. */
static unsigned long ask_and_count(struct fixture *fixture, int fd, uint32_t serial)
{
	unsigned long count;

	ck_assert_int_eq(raw_ask(fd, serial, WIRE_STAT, "none"), 0);
	ck_assert_int_eq(raw_status(fd, serial), ENOENT);
	fixture_call(fixture, count_requests, &count);
	return count;
}

/* It rests, with more than is to be served of it. */
static void await_rest(struct fixture *fixture, int fd, uint32_t *serial)
{
	struct line line;

	do {
		ask_and_count(fixture, fd, (*serial)++);
		do {
			fixture_call(fixture, look_at_line, &line);
		} while (line.rests && line.bytes < 4 * SYNC * sizeof(struct wire_request));
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
		      &(struct fixture_how){ .config = one_pool, .rest_us = REST_S * 1000000 });
	flooder.socket = fixture.socket;
	flooder.go = go[0];
	fd = raw_greeted(fixture.socket);
	pid = start_flood(&flooder, go, flood_on);
	await_rest(&fixture, fd, &serial);
	first = before = ask_and_count(&fixture, fd, serial++);
	for (int i = 0; i < SYNC; i++, before = now) {
		usleep(1000 * (unsigned)i);
		now = ask_and_count(&fixture, fd, serial++);
		ck_assert_msg(now - before <= 1 + BETWEEN, "%lu requests between two",
			      now - before);
	}
	ck_assert_msg(now - first <= SYNC + 2 * SYNC / 3 + BETWEEN, "%lu requests in all",
		      now - first);
	/* And goes on when nobody does. */
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
		      &(struct fixture_how){ .config = one_pool, .rest_us = REST_S * 1000000 });
	flooder.socket = fixture.socket;
	flooder.go = go[0];
	fd = raw_greeted(fixture.socket);
	pid = start_flood(&flooder, go, ask_long);
	line_after(&fixture, 1000);
	first = ask_and_count(&fixture, fd, serial++);
	for (unsigned long i = 1; i < SYNC; i++) {
		usleep(1000);
		ck_assert_uint_eq(ask_and_count(&fixture, fd, serial++), first + i);
	}
	line_after(&fixture, 1000);
	end_flood(pid, go);
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
#define CONTEXTS 20
#define VISITORS 4 /* of each context */

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

struct doors {
	char socket[CONTEXTS + 1][160];
	int fd[CONTEXTS * VISITORS + 1];
	struct passes passes;
	unsigned position; /* of who came by the main socket, among those who were let in */
};

/* In the loop's thread: it finds all of them at once. The last comes by the main socket. */
static void come_to_all(struct fixture *fixture, void *argument)
{
	struct doors *doors = argument;

	doors->passes.first = fixture->server->pass;
	for (int i = 0; i <= CONTEXTS * VISITORS; i++)
		doors->fd[i] = raw_connect(doors->socket[i / VISITORS]);
}

/* Who was let in last is the first of the list. */
static void look_who_was_first(struct fixture *fixture, void *argument)
{
	struct doors *doors = argument;
	struct client *client;

	doors->passes.last = fixture->server->pass;
	doors->position = CONTEXTS * VISITORS + 1;
	LIST_FOREACH (client, &fixture->server->clients, entry) {
		if (!client->caller.context)
			break;
		doors->position--;
	}
}

START_TEST(one_is_let_in_in_a_pass_by_whichever_door_and_each_door_has_its_turn)
{
	const struct shmb_context how = { .app = "org.example.one" };
	struct fixture fixture;
	char directory[128];
	struct doors doors;
	int hold[CONTEXTS];
	struct shmb *c;

	fixture_start(&fixture, &(struct fixture_how){ .config = one_pool });
	c = fixture_connect(&fixture);
	for (int i = 0; i < CONTEXTS; i++) {
		hold[i] = shmb_create_context(c, &how, sizeof(how), directory, sizeof(directory));
		ck_assert_msg(hold[i] >= 0, "%s", shmb_reason(c));
		snprintf(doors.socket[i], sizeof(doors.socket[i]), "%s/socket", directory);
	}
	snprintf(doors.socket[CONTEXTS], sizeof(doors.socket[0]), "%s", fixture.socket);
	fixture_call(&fixture, come_to_all, &doors);
	for (int i = 0; i <= CONTEXTS * VISITORS; i++)
		ck_assert_int_eq(raw_welcome(doors.fd[i], NULL, 0), 0);
	fixture_call(&fixture, look_who_was_first, &doors);
	ck_assert_uint_ge(doors.passes.last - doors.passes.first, CONTEXTS * VISITORS);
	ck_assert_uint_le(doors.position, CONTEXTS + 1);
	for (int i = 0; i <= CONTEXTS * VISITORS; i++)
		close(doors.fd[i]);
	for (int i = 0; i < CONTEXTS; i++)
		close(hold[i]);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

#define AT_DOOR 40
#define CLOSED_S 2

/* As another user, whose connections are not waited for. */
static int come(void *argument)
{
	const struct flood *flood = argument;
	char byte = 0;

	for (unsigned i = 0; i < flood->connections; i++)
		if (raw_connect(flood->socket) < 0)
			return 1;
	if (write(flood->done, &byte, 1) != 1)
		return 2;
	return read(flood->go, &byte, 1) == 0 ? 0 : 3;
}

static void count_clients(struct fixture *fixture, void *argument)
{
	unsigned *count = argument;
	const struct client *client;

	*count = 0;
	LIST_FOREACH (client, &fixture->server->clients, entry)
		++*count;
}

START_TEST(nobody_is_let_in_while_others_are_served_and_all_are_when_not)
{
	struct flood flooder = { .connections = AT_DOOR };
	int go[2], done[2], fd, status;
	unsigned before, now;
	struct fixture fixture;
	uint32_t serial = 0;
	char byte;
	pid_t pid;

	TEST_NEEDS(test_is_root(), "other users take root");
	ck_assert_int_eq(pipe2(go, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(done, O_CLOEXEC), 0);
	fixture_start(&fixture,
		      &(struct fixture_how){ .config = one_pool, .closed_us = CLOSED_S * 1000000 });
	flooder.socket = fixture.socket;
	flooder.go = go[0];
	flooder.done = done[1];
	fd = raw_greeted(fixture.socket);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(go[1]);
		_exit(setgid(OTHER) < 0 || setuid(OTHER) < 0 ? 9 : come(&flooder));
	}
	/* One of them is let in, and somebody else is served: they have to wait. */
	do {
		ask_and_count(&fixture, fd, serial++);
		fixture_call(&fixture, count_clients, &before);
	} while (before < 2);
	ask_and_count(&fixture, fd, serial++);
	fixture_call(&fixture, count_clients, &before);
	ck_assert_int_eq(read(done[0], &byte, 1), 1);
	for (int i = 0; i < SYNC; i++) {
		ask_and_count(&fixture, fd, serial++);
		fixture_call(&fixture, count_clients, &now);
		ck_assert_uint_eq(now, before);
		usleep(1000);
	}
	/* The first of them waits for the door to open, the others for nothing. */
	do {
		fixture_call(&fixture, count_clients, &now);
	} while (now < 1 + AT_DOOR);
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

TCase *server_case_of_turns(void)
{
	TCase *test = tcase_create("turns");

	tcase_set_timeout(test, 60);
	tcase_add_loop_test(test, a_flood_costs_another_user_a_few_requests_at_most, 0,
			    sizeof(floods) / sizeof(floods[0]));
	tcase_add_loop_test(test, who_is_in_line_rests_until_another_asks_again, 0,
			    sizeof(floods) / sizeof(floods[0]));
	tcase_add_test(test, after_what_takes_long_others_are_served_first);
	tcase_add_loop_test(test, who_is_alone_does_not_rest, 0,
			    sizeof(floods) / sizeof(floods[0]));
	tcase_add_test(test, who_waits_for_one_name_is_answered_one_in_a_pass);
	tcase_add_test(test, nobody_is_let_in_while_others_are_served_and_all_are_when_not);
	tcase_add_test(test, one_is_let_in_in_a_pass_by_whichever_door_and_each_door_has_its_turn);
	return test;
}
