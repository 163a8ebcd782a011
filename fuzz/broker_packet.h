/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Packets of a client, made of bytes: mostly such as the broker has to think about. */
#ifndef SHMBROKER_FUZZ_BROKER_PACKET_H
#define SHMBROKER_FUZZ_BROKER_PACKET_H

#include "fuzz/fuzz.h"
#include "proto/codec.h"

/* Returns its length: at most WIRE_REQUEST_MAX. */
size_t broker_packet_make(unsigned char ret[static REQUEST_BUFFER], struct bytes *in);
/* A name that leads somewhere, mostly; NUL-terminated, of at most 600 bytes. */
size_t broker_packet_name(char ret[static 601], struct bytes *in);

#endif
