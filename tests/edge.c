/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Connections of a broker under test: see edge.h. */
#include "tests/edge.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/broker_private.h"
#include "tests/raw_client.h"
#include "tests/test.h"

/* Only a broker that hangs lets this pass. */
#define GUARD_S 100

static void count_clients(struct fixture *fixture, void *argument)
{
	unsigned *count = argument;
	struct client *client;

	*count = 0;
	LIST_FOREACH (client, &fixture->server->clients, entry)
		++*count;
}

void edge_expect_clients(struct fixture *fixture, unsigned wanted)
{
	time_t end = time(NULL) + GUARD_S;
	unsigned count;

	do {
		test_moment();
		fixture_call(fixture, count_clients, &count);
	} while (count != wanted && time(NULL) < end);
	ck_assert_uint_eq(count, wanted);
}

void edge_expect_served(const struct fixture *fixture, struct shmb *c)
{
	struct shmb *own = c ? NULL : fixture_connect(fixture);
	int fd;

	c = c ? c : own;
	ck_assert_int_eq(shmb_set_timeout(c, GUARD_S * 1000), 0);
	fd = shmb_open(c, "/good", O_RDWR | O_CREAT, 0600);
	ck_assert_msg(fd >= 0, "%s", shmb_reason(c));
	close(fd);
	ck_assert_int_eq(shmb_unlink(c, "/good"), 0);
	shmb_disconnect(own);
}

static void count_queued(struct fixture *fixture, void *argument)
{
	struct client *client;
	unsigned *count = argument;

	*count = 0;
	LIST_FOREACH (client, &fixture->server->clients, entry)
		*count += client->queued && client->queued->fds.count > 0;
}

unsigned edge_queued(struct fixture *fixture)
{
	unsigned count;

	fixture_call(fixture, count_queued, &count);
	return count;
}

static void stand_still(struct fixture *fixture, void *argument)
{
	struct edge_hold *hold = argument;

	(void)fixture;
	sem_post(&hold->held);
	while (sem_wait(&hold->released) < 0)
		;
}

static void *hold_loop(void *argument)
{
	struct edge_hold *hold = argument;

	fixture_call(hold->fixture, stand_still, hold);
	return NULL;
}

void edge_hold(struct edge_hold *hold, struct fixture *fixture)
{
	hold->fixture = fixture;
	sem_init(&hold->held, 0, 0);
	sem_init(&hold->released, 0, 0);
	ck_assert_int_eq(pthread_create(&hold->thread, NULL, hold_loop, hold), 0);
	while (sem_wait(&hold->held) < 0)
		;
}

void edge_let_go(struct edge_hold *hold)
{
	sem_post(&hold->released);
	pthread_join(hold->thread, NULL);
}

unsigned long edge_next_count(int fd, uint32_t serial, const char *field)
{
	static struct raw_reply reply;
	char wanted[64];
	int size = snprintf(wanted, sizeof(wanted), "%s=", field);
	const char *at;

	ck_assert(raw_reply(fd, &reply));
	ck_assert_uint_eq(reply.head.serial, serial);
	ck_assert_int_eq(reply.head.status, 0);
	/* Not as the end of another field's name. */
	at = memmem(reply.body, reply.body_size, wanted, (size_t)size);
	while (at && at > reply.body && at[-1])
		at = memmem(at + 1, reply.body_size - (size_t)(at + 1 - reply.body), wanted,
			    (size_t)size);
	ck_assert_ptr_nonnull(at);
	return strtoul(at + size, NULL, 10);
}

static void count_requests(struct fixture *fixture, void *argument)
{
	*(unsigned long *)argument = server_broker(fixture->server)->counters.requests;
}

unsigned long edge_count_requests(struct fixture *fixture)
{
	unsigned long count;

	fixture_call(fixture, count_requests, &count);
	return count;
}

unsigned long edge_ask_and_count(struct fixture *fixture, int fd, uint32_t serial)
{
	ck_assert_int_eq(raw_ask(fd, serial, WIRE_STAT, "none"), 0);
	ck_assert_int_eq(raw_status(fd, serial), ENOENT);
	return edge_count_requests(fixture);
}
