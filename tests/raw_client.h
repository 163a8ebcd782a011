/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A client that may say anything: packets straight onto the broker's socket, as
 * PROTOCOL.md has them and as it hasn't. Every wait has an end, far beyond what a
 * broker at work needs.
 */
#ifndef SHMBROKER_RAW_CLIENT_H
#define SHMBROKER_RAW_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/packet.h"
#include "proto/protocol.h"

struct raw_reply {
	struct wire_reply head;
	struct fdlist fds; /* owned by who asked */
	size_t body_size;
	char body[WIRE_PACKET_MAX];
};

/* A connected socket, without a word said. Works in a forked child, too: -errno on failure. */
int raw_connect(const char *path);
/* The broker's hello: its status; text gets what stands behind it. -errno without one. */
int raw_welcome(int fd, char *text, size_t size);
struct wire_hello raw_hello(uint16_t version_min, uint16_t version_max);
/* All three: a connection that may ask. Asserts. */
int raw_greeted(const char *path);

/* One packet, with descriptors: 0 or -errno. */
int raw_send(int fd, const void *packet, size_t size, const int *fds, size_t fd_count);
/* A request that is a text alone (STAT, LIST, ...), or an operation nobody knows. */
int raw_ask(int fd, uint32_t serial, uint16_t operation, const char *text);
int raw_open(int fd, uint32_t serial, uint32_t flags, uint64_t options, const char *name);
int raw_cancel(int fd, uint32_t serial, uint32_t cancelled_serial);

/* The next reply, or false at the end of the connection. Asserts that one of both comes. */
bool raw_reply(int fd, struct raw_reply *ret);
/* The next reply's status, its descriptors closed; asserts its serial. */
int raw_status(int fd, uint32_t serial);
/* Asserts that the broker has ended the connection, whatever it said before. */
void raw_expect_end(int fd);

#endif
