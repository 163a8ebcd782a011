/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Connections of a broker under test: see edge.h. */
#include "tests/edge.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

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
