/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Much of everything: each field of each request at each of its ends, a thousand connections that
 * ask for all there is, contexts and pools without end. Then the broker has what it had before. A
 * case of the suite "hostile".
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/broker_private.h"
#include "tests/edge.h"
#include "tests/fixture.h"
#include "tests/raw_client.h"
#include "tests/test.h"

#define ROWS(rows) (sizeof(rows) / sizeof(*(rows)))
#define OTHER 1000

static const char all_kinds[] =
	"limits: { connections = 2100 connections-per-user = 1000 contexts-per-user = 8\n"
	"          pools-per-user = 8 }\n"
	"pools: { host: { path = \"@host@\" access = \"caller\" }\n"
	"         own: { per = \"user\" size = \"64K\" objects = 8 }\n"
	"         apps: { per = \"app\" size = \"64K\" objects = 8 } }\n"
	"rules: ( { name = \"apps\" sandboxed = true names = \"/*\" allow = \"all\" pool = "
	"\"apps\" },\n"
	"         { name = \"own\" names = \"/own-*\" allow = \"all\" pool = \"own\" },\n"
	"         { name = \"no\" names = \"/no-*\" allow = [] },\n"
	"         { name = \"host\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";

/* What the broker has, as its loop sees it. Its process is the test's, which does nothing then. */
struct state_of_things {
	unsigned descriptors, connections, contexts, pools;
	size_t bytes; /* that malloc has given out */
};

static void look(struct fixture *fixture, void *argument)
{
	const struct quota *quota = &server_broker(fixture->server)->quota;
	struct state_of_things *ret = argument;
	DIR *directory = opendir("/proc/self/fd");

	*ret = (struct state_of_things){ .connections = quota->total[RESOURCE_CONNECTION],
					 .contexts = quota->total[RESOURCE_CONTEXT],
					 .pools = quota->total[RESOURCE_POOL] };
	while (readdir(directory))
		ret->descriptors++;
	closedir(directory);
	ret->bytes = mallinfo2().uordblks;
}

/* What was idle is released, and what goes to the closer has gone: in their own time. */
static void expect_as_before(struct fixture *fixture, const struct state_of_things *before)
{
	time_t end = time(NULL) + 60;
	struct state_of_things now;

	do {
		fixture_tick(fixture, 10 * 60 * 1000);
		fixture_call(fixture, look, &now);
	} while ((now.descriptors != before->descriptors ||
		  now.connections != before->connections || now.contexts != before->contexts ||
		  now.pools != before->pools) &&
		 time(NULL) < end);
	ck_assert_uint_eq(now.connections, before->connections);
	ck_assert_uint_eq(now.contexts, before->contexts);
	ck_assert_uint_eq(now.pools, before->pools);
	ck_assert_uint_eq(now.descriptors, before->descriptors);
	/* What grows with use, and stays: buffers, tables of the loop's by descriptor. */
	if (!IS_SANITIZED)
		ck_assert_msg(now.bytes < before->bytes + 256 * 1024, "%zu bytes, and %zu before",
			      now.bytes, before->bytes);
}

/* --- each field --- */

static const uint64_t ends[] = {
	0,
	1,
	2,
	7,
	8,
	0x7f,
	0x80,
	0xff,
	0x100,
	0xfff,
	0x1000,
	0x7fff,
	0x8000,
	0xffff,
	0x10000,
	0x7fffffff,
	0x80000000,
	0xfffffffe,
	0xffffffff,
	0x100000000,
	0x7fffffffffffffff,
	0x8000000000000000,
	0xfffffffffffffffe,
	0xffffffffffffffff,
};

/* A request with something in each of its fields. Its size. */
static size_t fill_request(unsigned char *packet, uint16_t operation, const char *name)
{
	struct wire_open wire = { .request = { .serial = 1, .operation = operation },
				  .flags = WIRE_READ | WIRE_WRITE,
				  .mode = 0600 };
	size_t size = operation == WIRE_OPEN ? sizeof(wire) : sizeof(wire.request);

	if (operation == WIRE_PUBLISH || operation == WIRE_CREATE_CONTEXT ||
	    operation == WIRE_CANCEL || operation == WIRE_DELEGATE || operation == WIRE_LEND) {
		wire.flags = wire.mode = 0;
		size += 8;
	}
	memcpy(packet, &wire, size);
	memcpy(packet + size, name, strlen(name));
	return size + strlen(name);
}

/* On one connection, as long as there is one; of the ends all, or every fifth. */
struct saying {
	const char *socket;
	size_t step;
	int fd;
	struct wire_request behind;
	struct raw_reply *reply;
};

/* Whatever it is: it is answered, or left to wait, or the end of its connection. */
static int say(struct saying *saying, const unsigned char *packet, size_t size, const char *what)
{
	struct pollfd reader = { .events = POLLIN };

	if (saying->fd < 0)
		saying->fd = raw_greeted(saying->socket);
	EXPECT(raw_send(saying->fd, packet, size, NULL, 0) == 0);
	/* The answer to this one comes after whatever is answered at once. */
	saying->behind.serial++;
	raw_send(saying->fd, &saying->behind, sizeof(saying->behind), NULL, 0);
	reader.fd = saying->fd;
	do {
		if (poll(&reader, 1, 60000) != 1) {
			fprintf(stderr, "%s: neither an answer nor an end\n", what);
			return 1;
		}
		if (!raw_reply(saying->fd, saying->reply)) {
			close(saying->fd);
			saying->fd = -1;
			return 0;
		}
		EXPECT(saying->reply->head.status >= 0 && saying->reply->head.status < 134);
		fdlist_close(&saying->reply->fds);
	} while (saying->reply->head.serial != saying->behind.serial);
	return 0;
}

static int say_all(void *argument)
{
	struct saying *saying = argument;
	static const char *const names[] = { "", "x", "no-x", "own-x", "name=/x\0wanted=read" };
	unsigned char packet[WIRE_REQUEST_MAX];
	char what[64];

	saying->fd = -1;
	saying->behind = (struct wire_request){ .serial = 0x40000000, .operation = 99 };
	saying->reply = malloc(sizeof(*saying->reply));
	EXPECT(saying->reply);
	for (uint16_t operation = 0; operation <= 19; operation++)
		for (size_t i = 0; i < ROWS(names); i++) {
			size_t size = fill_request(packet, operation, names[i]);

			for (size_t at = 0; at < size && at < sizeof(struct wire_open); at += 4)
				for (size_t j = 0; j < ROWS(ends); j += saying->step) {
					unsigned width = ends[j] > UINT32_MAX ? 8 : 4;
					unsigned char changed[sizeof(packet)];

					memcpy(changed, packet, size);
					if (at + width > size)
						continue;
					memcpy(changed + at, &ends[j], width);
					snprintf(what, sizeof(what), "operation %u, at %zu: %jx",
						 operation, at, (uintmax_t)ends[j]);
					if (say(saying, changed, size, what) != 0)
						return 1;
				}
		}
	return 0;
}

START_TEST(each_field_at_each_end_is_answered_or_ends_its_connection)
{
	const uid_t uid = test_is_root() ? OTHER : (uid_t)-1;
	struct saying saying = { .step = 5 };
	struct state_of_things before;
	struct fixture fixture;
	struct shmb *c;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	fixture_start(&fixture, &(struct fixture_how){ .config = all_kinds });
	saying.socket = fixture.socket;
	c = fixture_connect(&fixture);
	edge_expect_served(&fixture, c);
	/* What is made on the way is there before. */
	ck_assert_int_eq(test_run_as(uid, OTHER, NULL, 0, say_all, &saying), 0);
	edge_expect_clients(&fixture, 1);
	fixture_call(&fixture, look, &before);
	saying.step = 1;
	ck_assert_int_eq(test_run_as(uid, OTHER, NULL, 0, say_all, &saying), 0);
	edge_expect_served(&fixture, c);
	edge_expect_clients(&fixture, 1);
	expect_as_before(&fixture, &before);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* --- storms --- */

/* All that there is to be asked for, on each of a thousand connections, and not a reply read. */
static int thousand(void *argument)
{
	static const char *const texts[] = { "", "x", "/*", "own-1", "no-1", "org.example.app" };
	enum { count = 1000 };
	struct rlimit limit = { count + 64, count + 64 };
	unsigned char packet[WIRE_REQUEST_MAX];
	int fd[count], status;
	char text[256] = "";

	setrlimit(RLIMIT_NOFILE, &limit);
	for (unsigned i = 0; i < count; i++) {
		struct wire_hello hello = raw_hello(1, 1);

		fd[i] = raw_connect(argument);
		EXPECT(fd[i] >= 0);
		/* A tenth of them never say who they are. */
		if (i % 10 == 0)
			continue;
		EXPECT(raw_send(fd[i], &hello, sizeof(hello), NULL, 0) == 0);
		fcntl(fd[i], F_SETFL, O_NONBLOCK);
	}
	for (unsigned i = 0; i < count; i++)
		for (uint16_t operation = WIRE_OPEN; i % 10 && operation <= WIRE_LEND;
		     operation++) {
			size_t size = fill_request(packet, operation,
						   texts[(i + operation) % ROWS(texts)]);

			raw_send(fd[i], packet, size, NULL, 0);
		}
	/* Still there: another of this user's is turned away, and says so. */
	status = raw_welcome(raw_connect(argument), text, sizeof(text));
	if (status != EDQUOT)
		fprintf(stderr, "one more: %d, %s\n", status, text);
	EXPECT(status == EDQUOT);
	return 0;
}

START_TEST(a_thousand_connections_that_ask_for_all_leave_nothing)
{
	const struct rlimit enough = { 2500, 2500 };
	struct state_of_things before;
	struct fixture fixture;
	struct shmb *c;
	int status;
	pid_t pid;

	TEST_NEEDS(test_is_root(), "a thousand connections, and another user, take root");
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	TEST_NEEDS(setrlimit(RLIMIT_NOFILE, &enough) == 0, "no 2500 descriptors");
	fixture_start(&fixture, &(struct fixture_how){ .config = all_kinds });
	c = fixture_connect(&fixture);
	edge_expect_served(&fixture, c);
	ck_assert_int_eq(test_run_as(OTHER, OTHER, NULL, 0, thousand, fixture.socket), 0);
	edge_expect_clients(&fixture, 1);
	fixture_tick(&fixture, 10 * 60 * 1000);
	fixture_call(&fixture, look, &before);
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(setgid(OTHER) < 0 || setuid(OTHER) < 0 ? 9 : thousand(fixture.socket));
	while (waitpid(pid, &status, WNOHANG) == 0)
		edge_expect_served(&fixture, c);
	ck_assert_int_eq(status, 0);
	edge_expect_clients(&fixture, 1);
	expect_as_before(&fixture, &before);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* Contexts, and a pool for each, as many as there can be and one more, again and again. */
static int contexts_and_pools(void *argument)
{
	char directory[16][128], socket[160], app[64];
	struct shmb *c, *inside;
	int hold[16], fd;

	EXPECT(shmb_connect(&c, argument) == 0);
	for (unsigned round = 0; round < 20; round++) {
		unsigned count = 0;

		for (; count < 16; count++) {
			struct shmb_context how = { .app = app };

			snprintf(app, sizeof(app), "org.example.a%u", round * 16 + count);
			hold[count] = shmb_create_context(c, &how, sizeof(how), directory[count],
							  sizeof(directory[count]));
			if (hold[count] < 0)
				break;
			snprintf(socket, sizeof(socket), "%s/socket", directory[count]);
			EXPECT(shmb_connect(&inside, socket) == 0);
			/* The pools of the round before may not have been released: then EDQUOT. */
			fd = shmb_open(inside, "/x", O_RDWR | O_CREAT, 0600);
			EXPECT(fd >= 0 || fd == -EDQUOT);
			if (fd >= 0) {
				close(fd);
				EXPECT(shmb_unlink(inside, "/x") == 0);
			}
			shmb_disconnect(inside);
		}
		EXPECT(count == 8 && hold[count] == -EDQUOT);
		while (count > 0)
			close(hold[--count]);
		/* The broker hears of that in its own time. */
		for (unsigned i = 0; i < 1000; i++) {
			struct shmb_context how = { .app = "org.example.last" };

			fd = shmb_create_context(c, &how, sizeof(how), directory[0],
						 sizeof(directory[0]));
			if (fd >= 0)
				break;
			EXPECT(fd == -EDQUOT);
			poll(NULL, 0, 1);
		}
		EXPECT(fd >= 0);
		close(fd);
	}
	shmb_disconnect(c);
	return 0;
}

START_TEST(contexts_and_pools_without_end_leave_nothing)
{
	struct state_of_things before;
	struct fixture fixture;
	struct shmb *c;
	int status;
	pid_t pid;

	TEST_NEEDS(test_is_root(), "another user takes root");
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	fixture_start(&fixture, &(struct fixture_how){ .config = all_kinds });
	c = fixture_connect(&fixture);
	ck_assert_int_eq(test_run_as(OTHER, OTHER, NULL, 0, contexts_and_pools, fixture.socket), 0);
	edge_expect_clients(&fixture, 1);
	do {
		fixture_tick(&fixture, 10 * 60 * 1000);
		fixture_call(&fixture, look, &before);
	} while (before.pools > 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(setgid(OTHER) < 0 || setuid(OTHER) < 0 ? 9
							     : contexts_and_pools(fixture.socket));
	while (waitpid(pid, &status, WNOHANG) == 0)
		edge_expect_served(&fixture, c);
	ck_assert_int_eq(status, 0);
	expect_as_before(&fixture, &before);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* --- rest --- */

static void count_passes(struct fixture *fixture, void *argument)
{
	*(uint64_t *)argument = fixture->server->pass;
}

/* Who can't be let in for want of descriptors is looked at now and then, not all the time. */
START_TEST(at_its_limit_of_descriptors_it_rests)
{
	struct rlimit limit, low;
	struct fixture fixture;
	uint64_t before, after;
	int waiting[16], status;
	pid_t pid;

	fixture_start(&fixture, &(struct fixture_how){ .config = all_kinds });
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		for (size_t i = 0; i < ROWS(waiting); i++)
			waiting[i] = raw_connect(fixture.socket);
		poll(NULL, 0, 3000);
		_exit(0);
	}
	low = (struct rlimit){ (rlim_t)dup(0) + 2, limit.rlim_max };
	close((int)low.rlim_cur - 2);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
	poll(NULL, 0, 1000);
	fixture_call(&fixture, count_passes, &before);
	poll(NULL, 0, 1000);
	fixture_call(&fixture, count_passes, &after);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	/* Two looks a second at who waits, and what a pass or two of the call and of timers are. */
	ck_assert_uint_le(after - before, 40);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	edge_expect_served(&fixture, NULL);
	edge_expect_clients(&fixture, 0);
	fixture_stop(&fixture);
}
END_TEST

TCase *hostile_case_of_storms(void)
{
	TCase *test = tcase_create("storms");

	tcase_set_timeout(test, 180);
	tcase_set_tags(test, "long");
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, each_field_at_each_end_is_answered_or_ends_its_connection);
	tcase_add_test(test, a_thousand_connections_that_ask_for_all_leave_nothing);
	tcase_add_test(test, contexts_and_pools_without_end_leave_nothing);
	tcase_add_test(test, at_its_limit_of_descriptors_it_rests);
	return test;
}
