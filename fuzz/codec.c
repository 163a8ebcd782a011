/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Between bytes and structures: requests and hellos decoded, and encoded again to the same bytes;
 * replies encoded, and read as a client does; fields, records, names.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"
#include "client/record.h"
#include "fuzz/fuzz.h"
#include "proto/codec.h"
#include "proto/escape.h"
#include "proto/name.h"

/* A copy of its own, so that a byte too many is seen. */
static unsigned char *copy_of(const uint8_t *bytes, size_t size, size_t room)
{
	unsigned char *copy = malloc(size + room);

	EXPECT(copy || size + room == 0, "no memory");
	memcpy(copy, bytes, size);
	return copy;
}

/* What a client would have sent for it. Returns its length. */
static size_t request_encode(unsigned char *ret, const struct request *request)
{
	struct wire_request head = { request->serial, request->operation, 0 };
	unsigned char *end = mempcpy(ret, &head, sizeof(head));

	if (request->operation == WIRE_OPEN) {
		struct wire_open open = { head, request->flags, request->mode, request->size_bytes,
					  request->options };

		end = mempcpy(ret, &open, sizeof(open));
	} else if (request->operation == WIRE_PUBLISH || request->operation == WIRE_LEND ||
		   request->operation == WIRE_CREATE_CONTEXT ||
		   request->operation == WIRE_DELEGATE) {
		end = mempcpy(end, &request->options, sizeof(request->options));
	} else if (request->operation == WIRE_CANCEL) {
		end = mempcpy(end, &request->cancelled_serial, sizeof(request->cancelled_serial));
		end = mempcpy(end, "\0\0\0\0", 4);
	}
	if (request->text)
		end = mempcpy(end, request->text, request->text_size);
	return (size_t)(end - ret);
}

static void try_request(const uint8_t *bytes, size_t size)
{
	static unsigned char again[REQUEST_BUFFER];
	unsigned char *packet = copy_of(bytes, size, 1);
	struct request request;
	int error = request_decode(&request, packet, size);

	EXPECT(error == 0 || error == -EPROTO, "%d", error);
	if (error == 0 && request.text) {
		EXPECT(request.text + request.text_size == (char *)packet + size,
		       "its text ends elsewhere than the packet");
		EXPECT(request.text[request.text_size] == 0, "its text has no end");
		EXPECT(request_encode(again, &request) == size, "another length: %zu", size);
		if (request.operation == WIRE_CANCEL)
			memcpy(again + 12, bytes + 12, 4); /* nobody reads it */
		EXPECT(memcmp(again, bytes, size) == 0, "another packet");
	}
	free(packet);
}

static void try_hello(const uint8_t *bytes, size_t size)
{
	unsigned char *packet = copy_of(bytes, size, 0);
	uint16_t version = 0;
	int error = hello_decode(&version, packet, size);

	EXPECT(error == 0 || error == -EPROTO || error == -EPROTONOSUPPORT, "%d", error);
	EXPECT(error || (version >= WIRE_VERSION_MIN && version <= WIRE_VERSION_MAX), "version %u",
	       version);
	free(packet);
}

static size_t flatten(unsigned char *ret, const struct reply_packet *packet)
{
	unsigned char *end = ret;

	for (size_t i = 0; i < packet->part_count; i++)
		end = mempcpy(end, packet->part[i].iov_base, packet->part[i].iov_len);
	return (size_t)(end - ret);
}

static void try_reply(struct bytes *bytes)
{
	static unsigned char flat[sizeof(struct wire_reply) + 256 + REPLY_BODY_MAX];
	static unsigned char body[REPLY_BODY_MAX];
	static struct reply_packet packet;
	struct request request = { .serial = (uint32_t)take_number(bytes, 4) };
	struct reply reply = { .body = body, .more = take_byte(bytes) & 1 };
	struct wire_reply header;
	size_t kinds, size;
	const uint8_t *text;

	reply.fds.count = take_byte(bytes) % (WIRE_FDS_MAX + 1);
	for (size_t i = 0; i < reply.fds.count; i++)
		reply.fds.kind[i] = (uint8_t)(take_byte(bytes) | 1);
	size = take_text(bytes, REPLY_BODY_MAX, &text);
	EXPECT(reply_append(&reply, text, size), "no room for %zu", size);
	kinds = (reply.fds.count + 7) / 8 * 8;

	reply_encode(&packet, &request, &reply);
	EXPECT(flatten(flat, &packet) == sizeof(header) + kinds + size, "another length");
	memcpy(&header, flat, sizeof(header));
	EXPECT(header.serial == request.serial && header.fd_count == reply.fds.count &&
		       header.flags == (reply.more ? WIRE_MORE : 0) && header.reserved == 0,
	       "another header");
	EXPECT(memcmp(flat + sizeof(header), reply.fds.kind, reply.fds.count) == 0, "other kinds");
	for (size_t i = reply.fds.count; i < kinds; i++)
		EXPECT(flat[sizeof(header) + i] == 0, "padding that isn't zero");
	EXPECT(memcmp(flat + sizeof(header) + kinds, text, size) == 0, "another body");
}

/* What is written as fields is read as those, by the daemon's reader and the library's. */
static void try_fields(struct bytes *bytes)
{
	static unsigned char body[REPLY_BODY_MAX];
	struct reply reply = { .body = body };
	char value[256];
	const uint8_t *text;
	size_t size = take_text(bytes, 255, &text), key_size;
	const char *key, *found;
	struct shmb_fields fields;

	memcpy(value, text, size);
	value[size] = 0;
	EXPECT(reply_field(&reply, "first", "%s", value) &&
		       reply_field_bytes(&reply, "second", value, strlen(value)) &&
		       reply_record_end(&reply),
	       "no room");
	fields = shmb_fields_of((char *)body, reply.body_size);
	EXPECT(shmb_fields_next(&fields, &key, &key_size, &found) == 1 && strcmp(found, value) == 0,
	       "another first value");
	EXPECT(shmb_fields_next(&fields, &key, &key_size, &found) == 1 && strcmp(found, value) == 0,
	       "another second value");
	EXPECT(shmb_fields_next(&fields, &key, &key_size, &found) == 0 &&
		       shmb_fields_next(&fields, &key, &key_size, &found) == -ENODATA,
	       "no end of the record");
	found = fields_get((char *)body, reply.body_size, "second");
	EXPECT(found && strcmp(found, value) == 0, "another value");
}

static void try_fields_of(const uint8_t *bytes, size_t size)
{
	char *text = (char *)copy_of(bytes, size, 1);
	struct shmb_fields fields = shmb_fields_of(text, size);
	const char *key, *value;
	size_t key_size, count = 0;
	int result;

	text[size] = 0;
	while ((result = shmb_fields_next(&fields, &key, &key_size, &value)) >= 0) {
		EXPECT(++count <= size, "more fields than bytes");
		EXPECT(result == 0 || strlen(value) < size, "a value beyond its end");
	}
	value = fields_get(text, size, "name");
	EXPECT(!value || (value > text && value <= text + size), "a value from elsewhere");
	free(text);
}

static void try_record(const uint8_t *bytes, size_t size)
{
	char *body = (char *)copy_of(bytes, size, 0);
	struct shmb_info info;
	size_t used = 0;
	int error = shmb_record_read(&info, body, size, &used);

	EXPECT(error == 0 || error == -EPROTO, "%d", error);
	if (error == 0) {
		EXPECT(used > 0 && used <= size && used % 8 == 0, "%zu of %zu bytes", used, size);
		EXPECT(*info.name && !strchr(info.name, '/'), "a name that can't be");
		EXPECT(memchr(info.name, 0, sizeof(info.name)) &&
			       memchr(info.pool, 0, sizeof(info.pool)) &&
			       memchr(info.owner, 0, sizeof(info.owner)),
		       "a string without an end");
	}
	free(body);
}

static void try_name(const uint8_t *bytes, size_t size)
{
	char *text = (char *)copy_of(bytes, size, 0);
	char *buffer = malloc(size + 1);
	struct name name = name_strip(text, size);
	int opened = name_check(name, false), unlinked = name_check(name, true);

	EXPECT((opened == 0) == (unlinked == 0), "%d and %d", opened, unlinked);
	EXPECT(name.text + name.size == text + size, "its end was cut off");
	EXPECT(opened || (name.size > 0 && name.size <= WIRE_NAME_MAX && *name.text != '/'),
	       "a name that can't be");
	EXPECT(!name_is_app(text, size) || opened == 0 || *text == '.', "an app that is no name");
	EXPECT(buffer, "no memory");
	EXPECT(escape(buffer, size + 1, text, size) <= size, "more than there is room for");
	EXPECT(fuzz_is_printable(buffer), "control bytes");
	free(buffer);
	free(text);
}

void fuzz_start(void)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes bytes = { data, size };

	try_request(data, size);
	try_hello(data, size);
	try_fields_of(data, size);
	try_record(data, size);
	try_name(data, size);
	try_reply(&bytes);
	try_fields(&bytes);
	return 0;
}
