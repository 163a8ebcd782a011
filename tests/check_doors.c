/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who is let in when: a case of the suite "server". */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/broker_private.h"
#include "tests/edge.h"
#include "tests/raw_client.h"
#include "tests/test.h"

#define OTHER 1000
#define SYNC 12	  /* asked one after the other, 1 ms each */
#define LONG_S 60 /* that the door is closed: longer than the test */
#define SHORT_US 100000
#define CONTEXTS 20
#define VISITORS 4 /* of each context */

static const char one_pool[] =
	"pools: { host: { path = \"@host@\" access = \"grant\" } }\n"
	"rules: ( { name = \"r\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";

struct doors {
	char socket[CONTEXTS + 1][160];
	int fd[CONTEXTS * VISITORS + 1];
	uint64_t first, last; /* passes */
	unsigned position;    /* of who came by the main socket, among those who were let in */
};

/* In the loop's thread: it finds all of them at once. The last comes by the main socket. */
static void come_to_all(struct fixture *fixture, void *argument)
{
	struct doors *doors = argument;

	doors->first = fixture->server->pass;
	for (int i = 0; i <= CONTEXTS * VISITORS; i++)
		doors->fd[i] = raw_connect(doors->socket[i / VISITORS]);
}

/* Who was let in last is the first of the list. */
static void look_who_was_first(struct fixture *fixture, void *argument)
{
	struct doors *doors = argument;
	struct client *client;

	doors->last = fixture->server->pass;
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
	ck_assert_uint_ge(doors.last - doors.first, CONTEXTS * VISITORS);
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

struct visit {
	const char *socket;
	int go, done;
	unsigned connections;
};

/* As another user, whose connections are not waited for. */
static int come(void *argument)
{
	const struct visit *visit = argument;
	char byte = 0;

	for (unsigned i = 0; i < visit->connections; i++)
		if (raw_connect(visit->socket) < 0)
			return 1;
	if (write(visit->done, &byte, 1) != 1)
		return 2;
	return read(visit->go, &byte, 1) == 0 ? 0 : 3;
}

static void count_clients(struct fixture *fixture, void *argument)
{
	unsigned *count = argument;
	const struct client *client;

	*count = 0;
	LIST_FOREACH (client, &fixture->server->clients, entry)
		++*count;
}

START_TEST(nobody_is_let_in_while_others_are_served)
{
	struct visit visit = { .connections = AT_DOOR };
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
		      &(struct fixture_how){ .config = one_pool, .closed_us = LONG_S * 1000000 });
	visit.socket = fixture.socket;
	visit.go = go[0];
	visit.done = done[1];
	fd = raw_greeted(fixture.socket);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(go[1]);
		_exit(setgid(OTHER) < 0 || setuid(OTHER) < 0 ? 9 : come(&visit));
	}
	/* One of them is let in, and somebody else is served: they have to wait. */
	do {
		edge_ask_and_count(&fixture, fd, serial++);
		fixture_call(&fixture, count_clients, &before);
	} while (before < 2);
	edge_ask_and_count(&fixture, fd, serial++);
	fixture_call(&fixture, count_clients, &before);
	ck_assert_int_eq(read(done[0], &byte, 1), 1);
	for (int i = 0; i < SYNC; i++) {
		edge_ask_and_count(&fixture, fd, serial++);
		fixture_call(&fixture, count_clients, &now);
		ck_assert_uint_eq(now, before);
		usleep(1000);
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

START_TEST(the_door_opens_again)
{
	struct visit visit = { .connections = AT_DOOR };
	struct fixture fixture;
	int go[2], done[2], fd, status;
	uint32_t serial = 0;
	unsigned now;
	pid_t pid;

	TEST_NEEDS(test_is_root(), "other users take root");
	ck_assert_int_eq(pipe2(go, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(done, O_CLOEXEC), 0);
	fixture_start(&fixture, &(struct fixture_how){ .config = one_pool, .closed_us = SHORT_US });
	visit.socket = fixture.socket;
	visit.go = go[0];
	visit.done = done[1];
	fd = raw_greeted(fixture.socket);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(go[1]);
		_exit(setgid(OTHER) < 0 || setuid(OTHER) < 0 ? 9 : come(&visit));
	}
	/* After one for whom others were served meanwhile the next wait for nothing. */
	do {
		edge_ask_and_count(&fixture, fd, serial++);
		fixture_call(&fixture, count_clients, &now);
	} while (now < 3);
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

#define QUEUE 64 /* and the kernel lets one more be */

static int connect_at_once(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", path);
	ck_assert_int_ge(fd, 0);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	ck_assert_int_eq(errno, EAGAIN);
	close(fd);
	return -EAGAIN;
}

/* However many somebody has come with, no more than that are let in before who comes next. */
START_TEST(few_wait_at_the_door)
{
	struct fixture fixture;
	struct edge_hold hold;
	int fd[2 * QUEUE];
	unsigned count = 0;

	fixture_start(&fixture, &(struct fixture_how){ .config = one_pool });
	edge_hold(&hold, &fixture);
	while (count < 2 * QUEUE && (fd[count] = connect_at_once(fixture.socket)) >= 0)
		count++;
	ck_assert_uint_le(count, QUEUE + 1);
	ck_assert_uint_ge(count, QUEUE);
	edge_let_go(&hold);
	edge_expect_served(&fixture, NULL);
	while (count > 0)
		close(fd[--count]);
	fixture_stop(&fixture);
}
END_TEST

TCase *server_case_of_doors(void)
{
	TCase *test = tcase_create("doors");

	tcase_set_timeout(test, 60);
	tcase_add_test(test, one_is_let_in_in_a_pass_by_whichever_door_and_each_door_has_its_turn);
	tcase_add_test(test, nobody_is_let_in_while_others_are_served);
	tcase_add_test(test, the_door_opens_again);
	tcase_add_test(test, few_wait_at_the_door);
	return test;
}
