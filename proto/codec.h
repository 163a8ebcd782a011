/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Between packets and structures: what the daemon's client code decodes a
 * request with and encodes a reply with. Pure: no I/O, no allocation.
 */
#ifndef SHMBROKER_CODEC_H
#define SHMBROKER_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "proto/packet.h"
#include "proto/protocol.h"

/* Room behind a packet in the buffer that it is received into, so that its string gets its NUL. */
#define REQUEST_BUFFER (WIRE_REQUEST_MAX + 1)

struct request {
	uint32_t serial;
	uint16_t operation;
	uint32_t flags;		   /* OPEN: WIRE_READ ... */
	uint32_t mode;		   /* OPEN */
	uint64_t size_bytes;	   /* OPEN */
	uint64_t options;	   /* OPEN: WIRE_TEMPORARY ...; PUBLISH and others: their flags */
	uint32_t cancelled_serial; /* CANCEL */
	const char *text;	   /* the string at its end, in the packet; NUL-terminated */
	size_t text_size;	   /* without that NUL */
};

/*
 * Decodes in place: the byte behind the packet becomes a NUL, so the buffer has
 * one byte more than `size`. 0, or -EPROTO when it is not a request: the
 * connection can't go on. An operation that is not known is well-formed.
 */
int request_decode(struct request *ret, unsigned char *packet, size_t size);

/* A client's hello: 0 and the version to speak, or -EPROTO (no hello), -EPROTONOSUPPORT (no common
 * version). */
int hello_decode(uint16_t *ret_version, const unsigned char *packet, size_t size);

/*
 * Replies are kept well below WIRE_PACKET_MAX: what a client leaves unread is the
 * kernel's memory, and ours where it is queued.
 */
#define REPLY_BODY_MAX (16 * 1024)

struct reply {
	int status;	     /* 0, or the errno that the client gets */
	bool more;	     /* a stream goes on: ask again for the next packet */
	bool parked;	     /* no reply yet: the request is asked again when the caller is woken */
	bool silent;	     /* no reply to this at all */
	bool idle;	     /* with more: nothing is there until the caller is woken */
	struct fdlist fds;   /* owned: sent, then closed by who sends */
	unsigned char *body; /* REPLY_BODY_MAX bytes, the edge's */
	size_t body_size;
};

#define SHORT_KINDS 8
#define SHORT_BODY 64

/* The parts of an encoded reply, for one sendmsg. */
struct reply_packet {
	struct wire_reply header;
	uint8_t kinds[(WIRE_FDS_MAX + 7) / 8 * 8];
	struct iovec part[3];
	size_t part_count;
	unsigned char flat[sizeof(struct wire_reply) + SHORT_KINDS + SHORT_BODY];
};
void reply_encode(struct reply_packet *ret, const struct request *request,
		  const struct reply *reply);

/* Empties it but for the body's buffer. */
void reply_reset(struct reply *reply);
/* Status and a text for a person, cut at the body's end. Returns 0. */
int reply_fail(struct reply *reply, int status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Appends to the body: false when it is full, then nothing was appended. */
bool reply_append(struct reply *reply, const void *bytes, size_t size);

/* Fields (protocol.h): key=value and a NUL. false when the body is full. */
bool reply_field(struct reply *reply, const char *key, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
bool reply_field_bytes(struct reply *reply, const char *key, const char *value, size_t size);
bool reply_record_end(struct reply *reply);

/* The value of a key in fields, NUL-terminated, or NULL. */
const char *fields_get(const char *fields, size_t size, const char *key);

#endif
