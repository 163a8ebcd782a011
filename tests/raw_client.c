/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Packets for a broker under test: see raw_client.h. */
#include "tests/raw_client.h"

#include <check.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/fd.h"

/* Only a broker that hangs lets this pass. */
#define GUARD_S 100

int raw_connect(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const struct timeval guard = { .tv_sec = GUARD_S };
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	memcpy(address.sun_path, path, strlen(path));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &guard, sizeof(guard));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &guard, sizeof(guard));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return steal_fd(&fd);
}

int raw_welcome(int fd, char *text, size_t size)
{
	struct wire_hello hello;
	char buffer[1024];
	ssize_t got = recv(fd, buffer, sizeof(buffer), 0);

	/* It closed with something of ours unread: that is told before what it had said. */
	if (got < 0 && errno == ECONNRESET)
		got = recv(fd, buffer, sizeof(buffer), 0);
	if (got < (ssize_t)sizeof(hello))
		return got < 0 ? -errno : -ECONNRESET;
	memcpy(&hello, buffer, sizeof(hello));
	if (hello.magic != WIRE_MAGIC || hello.size < sizeof(hello) || hello.size > got)
		return -EPROTO;
	if (text && size > 0) {
		size_t length = (size_t)got - hello.size;

		length = length < size ? length : size - 1;
		memcpy(text, buffer + hello.size, length);
		text[length] = 0;
	}
	return hello.status;
}

struct wire_hello raw_hello(uint16_t version_min, uint16_t version_max)
{
	return (struct wire_hello){
		.magic = WIRE_MAGIC,
		.version_min = version_min,
		.version_max = version_max,
		.size = sizeof(struct wire_hello),
		.fds_max = WIRE_FDS_MAX,
		.packet_max = WIRE_PACKET_MAX,
	};
}

int raw_greeted(const char *path)
{
	const struct wire_hello hello = raw_hello(1, 1);
	int fd = raw_connect(path);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(raw_welcome(fd, NULL, 0), 0);
	ck_assert_int_eq(raw_send(fd, &hello, sizeof(hello), NULL, 0), 0);
	return fd;
}

int raw_send(int fd, const void *packet, size_t size, const int *fds, size_t fd_count)
{
	struct iovec part = { (void *)packet, size };
	struct fdlist list = { .count = fd_count };

	for (size_t i = 0; i < fd_count; i++)
		list.fd[i] = fds[i];
	return packet_send(fd, &part, 1, &list, 0);
}

int raw_ask(int fd, uint32_t serial, uint16_t operation, const char *text)
{
	struct wire_request head = { .serial = serial, .operation = operation };
	char packet[WIRE_REQUEST_MAX];
	size_t size = strlen(text);

	memcpy(packet, &head, sizeof(head));
	memcpy(packet + sizeof(head), text, size);
	return raw_send(fd, packet, sizeof(head) + size, NULL, 0);
}

int raw_open(int fd, uint32_t serial, uint32_t flags, uint64_t options, const char *name)
{
	struct wire_open wire = {
		.request = { .serial = serial, .operation = WIRE_OPEN },
		.flags = flags,
		.mode = 0600,
		.options = options,
	};
	char packet[WIRE_REQUEST_MAX];
	size_t size = strlen(name);

	memcpy(packet, &wire, sizeof(wire));
	memcpy(packet + sizeof(wire), name, size);
	return raw_send(fd, packet, sizeof(wire) + size, NULL, 0);
}

int raw_cancel(int fd, uint32_t serial, uint32_t cancelled_serial)
{
	const struct wire_cancel wire = {
		.request = { .serial = serial, .operation = WIRE_CANCEL },
		.cancelled_serial = cancelled_serial,
	};

	return raw_send(fd, &wire, sizeof(wire), NULL, 0);
}

bool raw_reply(int fd, struct raw_reply *ret)
{
	static char packet[WIRE_PACKET_MAX];
	ssize_t size = packet_receive(fd, packet, sizeof(packet), &ret->fds, 0);
	size_t kinds, head = sizeof(ret->head);

	if (size == 0 || size == -ECONNRESET)
		return false;
	ck_assert_msg(size >= (ssize_t)head, "no reply: %zd", size);
	memcpy(&ret->head, packet, head);
	kinds = ((size_t)ret->head.fd_count + 7) / 8 * 8;
	ck_assert_uint_eq(ret->fds.count, ret->head.fd_count);
	ck_assert_uint_ge((size_t)size, head + kinds);
	memcpy(ret->fds.kind, packet + head, ret->head.fd_count);
	ret->body_size = (size_t)size - head - kinds;
	memcpy(ret->body, packet + head + kinds, ret->body_size);
	return true;
}

int raw_status(int fd, uint32_t serial)
{
	static struct raw_reply reply;

	ck_assert(raw_reply(fd, &reply));
	fdlist_close(&reply.fds);
	ck_assert_uint_eq(reply.head.serial, serial);
	return reply.head.status;
}

void raw_expect_end(int fd)
{
	char byte;
	ssize_t size;

	do
		size = recv(fd, &byte, 1, MSG_TRUNC);
	while (size > 0);
	ck_assert_msg(size == 0 || errno == ECONNRESET, "the connection lives: %s",
		      strerror(errno));
}
