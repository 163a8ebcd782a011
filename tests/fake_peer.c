/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the other end of a connection under test says. */
#include "tests/fake_peer.h"

#include <check.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The broker's end. */
int fake_peer;

void fake_say(const void *packet, size_t size, size_t fd_count)
{
	struct iovec part = { (void *)packet, size };
	struct fdlist fds = { 0 };

	for (size_t i = 0; i < fd_count; i++)
		fdlist_take(&fds, dup(0), 0);
	ck_assert_int_eq(packet_send(fake_peer, &part, 1, &fds, MSG_DONTWAIT), 0);
	fdlist_close(&fds);
}

struct wire_hello fake_good_hello(void)
{
	return (struct wire_hello){
		.magic = WIRE_MAGIC,
		.version_min = 1,
		.version_max = 1,
		.size = sizeof(struct wire_hello),
		.fds_max = 1,
		.features = SHMB_FEATURE_READ_ONLY | 1ull << 40,
		.packet_max = WIRE_REQUEST_MAX,
	};
}

int fake_pair(void)
{
	int sockets[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
	fake_peer = sockets[1];
	return sockets[0];
}

/* Connects to whatever hello there is; closes the peer if that fails. */
int fake_connect_to(struct shmb **ret, const void *hello, size_t size)
{
	int fd = fake_pair();
	int r;

	if (size > 0)
		fake_say(hello, size, 0);
	else
		close(fake_peer);
	r = shmb_connect_fd(ret, fd);
	if (r < 0 && size > 0)
		close(fake_peer);
	return r;
}

struct shmb *fake_connected(void)
{
	struct wire_hello hello = fake_good_hello(), ours;
	struct shmb *c;

	ck_assert_int_eq(fake_connect_to(&c, &hello, sizeof(hello)), 0);
	ck_assert_int_eq(recv(fake_peer, &ours, sizeof(ours), MSG_DONTWAIT), sizeof(ours));
	ck_assert_uint_eq(ours.magic, WIRE_MAGIC);
	ck_assert_uint_eq(ours.size, sizeof(ours));
	return c;
}

void fake_end(struct shmb *c)
{
	shmb_disconnect(c);
	close(fake_peer);
}

/* Puts an open's good reply into it and returns its size. */
size_t fake_open_reply(struct fake_packet *packet, uint32_t serial)
{
	*packet = (struct fake_packet){
		.reply = { .serial = serial, .operation = WIRE_OPEN, .fd_count = 1 },
		.rest = { WIRE_FD_OBJECT },
	};
	return sizeof(packet->reply) + 16;
}

void fake_say_status(uint32_t serial, uint16_t operation, int status, const char *text)
{
	struct fake_packet packet = {
		.reply = { .serial = serial, .operation = operation, .status = status },
	};

	memcpy(packet.rest, text, strlen(text));
	fake_say(&packet, sizeof(packet.reply) + strlen(text), 0);
}

/* A record of the wire with one extra string of padding; returns its size. */
size_t fake_record(unsigned char *at, const char *name)
{
	struct wire_info info = {
		.size = 4096,
		.ino = 7,
		.mode = 0640,
		.name_size = (uint8_t)strlen(name),
		.pool_size = 4,
		.owner_size = 4,
	};
	size_t strings = strlen(name) + 8;

	info.record_size = (uint16_t)((sizeof(info) + strings + 7) / 8 * 8);
	memset(at, 0, info.record_size);
	memcpy(at, &info, sizeof(info));
	memcpy(at + sizeof(info), name, strlen(name));
	memcpy(at + sizeof(info) + strlen(name), "host1000", 8);
	return info.record_size;
}

void fake_say_list(uint32_t serial, uint16_t flags, const char *first, const char *second)
{
	struct fake_packet packet = {
		.reply = { .serial = serial, .operation = WIRE_LIST, .flags = flags },
	};
	size_t size = first ? fake_record(packet.rest, first) : 0;

	if (second)
		size += fake_record(packet.rest + size, second);
	fake_say(&packet, sizeof(packet.reply) + size, 0);
}
