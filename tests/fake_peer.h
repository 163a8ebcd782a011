/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A broker that is nothing but the other end of a socketpair, for the library's suite: what
 * it will say is put into the socket before the call, so nothing waits and nothing races.
 */
#ifndef SHMBROKER_TESTS_FAKE_PEER_H
#define SHMBROKER_TESTS_FAKE_PEER_H

#include <check.h>

#include "client/internal.h"

/* A reply with room for what can be wrong in one. */
struct fake_packet {
	struct wire_reply reply;
	unsigned char rest[1024];
};

/* The broker's end of the last pair. */
extern int fake_peer;

int fake_pair(void); /* returns the library's end */
/* One packet, with that many descriptors. */
void fake_say(const void *packet, size_t size, size_t fd_count);

struct wire_hello fake_good_hello(void);
/* Connects to whatever hello there is (size 0: to an end); closes the peer if that fails. */
int fake_connect_to(struct shmb **ret, const void *hello, size_t size);
struct shmb *fake_connected(void);
void fake_end(struct shmb *c);

/* Puts an open's good reply into it and returns its size. */
size_t fake_open_reply(struct fake_packet *packet, uint32_t serial);
void fake_say_status(uint32_t serial, uint16_t operation, int status, const char *text);
/* Puts a record of the wire there and returns its size. */
size_t fake_record(unsigned char *at, const char *name);
/* A listing's part; NULL: no such object. */
void fake_say_list(uint32_t serial, uint16_t flags, const char *first, const char *second);

/* The tests of check_library_calls.c. */
TCase *library_case_of_calls(void);

#endif
