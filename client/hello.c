/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The two hellos that open a connection: the broker's comes as soon as it has accepted, ours
 * goes when we know that we can talk to it. Called by connect.c.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "client/internal.h"

/* Until a packet is there; the descriptors of a hello that has some are dropped by the kernel. */
static ssize_t receive_hello(struct shmb *c, shmb_deadline deadline)
{
	for (;;) {
		int r = shmb_wait_for(c->socket, POLLIN, deadline);
		ssize_t n;

		if (r < 0)
			return r;
		n = packet_receive(c->socket, c->small, sizeof(c->small), NULL, MSG_DONTWAIT);
		if (n != -EINTR && n != -EAGAIN)
			return n;
	}
}

/* What came must be a hello before any of it is believed. */
static int check_hello(struct shmb *c, size_t size, struct wire_hello *ret)
{
	if (size < sizeof(*ret))
		return shmb_broken(c, "its hello is too short");
	memcpy(ret, c->small, sizeof(*ret));
	if (ret->magic != WIRE_MAGIC)
		return shmb_broken(c, "no hello");
	if (ret->size < sizeof(*ret) || ret->size > size)
		return shmb_broken(c, "a hello of a wrong size");
	if (ret->version_min == 0 || ret->version_min > ret->version_max)
		return shmb_broken(c, "a hello without a version");
	if (ret->status < 0 || ret->status > 4095)
		return shmb_broken(c, "a hello whose status is no errno");
	return 0;
}

static int send_hello(struct shmb *c, shmb_deadline deadline)
{
	struct wire_hello hello = {
		.magic = WIRE_MAGIC,
		.version_min = WIRE_VERSION_MIN,
		.version_max = WIRE_VERSION_MAX,
		.size = sizeof(hello),
		.fds_max = WIRE_FDS_MAX,
		.packet_max = WIRE_PACKET_MAX,
	};
	struct iovec part = { &hello, sizeof(hello) };
	int r;

	do {
		r = packet_send(c->socket, &part, 1, NULL, MSG_DONTWAIT);
		if (r != -EAGAIN)
			return r;
		r = shmb_wait_for(c->socket, POLLOUT, deadline);
	} while (r == 0);
	return r;
}

static int hello_failed(struct shmb *c, int error)
{
	if (error == 0 || error == -EPIPE || error == -ECONNRESET)
		return shmb_fail(c, -ECONNRESET, "the broker ended the connection at once");
	if (error == -ETIMEDOUT)
		return shmb_fail(c, error, "the broker said nothing in time");
	/* Of connect(2) it would say the same: out of reach. */
	if (error == -EPERM || error == -EACCES)
		return shmb_fail(c, -ECONNREFUSED, "the broker is out of reach: %s",
				 strerrordesc_np(-error));
	return shmb_fail(c, error, "no hello: %s", strerrordesc_np(-error));
}

int shmb_greet(struct shmb *c, shmb_deadline deadline)
{
	struct wire_hello hello;
	int r = shmb_apply_timeout(c);
	ssize_t n = r < 0 ? r : receive_hello(c, deadline);

	if (n == -EMSGSIZE)
		return shmb_broken(c, "its hello is too long");
	if (n <= 0)
		return hello_failed(c, (int)n);
	r = check_hello(c, (size_t)n, &hello);
	if (r < 0)
		return r;
	/* A refusal comes first: the broker may not know us well enough to have a version. */
	if (hello.status != 0) {
		shmb_reason_take(c, c->small + hello.size, (size_t)n - hello.size);
		return shmb_refused(c, hello.status);
	}
	if (hello.version_min > WIRE_VERSION_MAX || hello.version_max < WIRE_VERSION_MIN) {
		c->error = -EPROTO;
		return shmb_fail(c, -EPROTO, "the broker speaks versions %u to %u, we %d to %d",
				 hello.version_min, hello.version_max, WIRE_VERSION_MIN,
				 WIRE_VERSION_MAX);
	}
	c->features = hello.features;
	r = send_hello(c, deadline);
	return r < 0 ? hello_failed(c, r) : 0;
}
