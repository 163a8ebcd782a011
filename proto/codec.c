/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Decodes requests and encodes replies for the daemon's edge; the core fills a struct reply. */
#include "proto/codec.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The wire's structures have no hidden padding, on any machine. */
_Static_assert(sizeof(struct wire_hello) == 32, "wire_hello");
_Static_assert(sizeof(struct wire_request) == 8, "wire_request");
_Static_assert(sizeof(struct wire_reply) == 16, "wire_reply");
_Static_assert(sizeof(struct wire_open) == 32, "wire_open");
_Static_assert(sizeof(struct wire_open_reply) == 24, "wire_open_reply");
_Static_assert(sizeof(struct wire_publish) == 16, "wire_publish");
_Static_assert(sizeof(struct wire_cancel) == 16, "wire_cancel");
_Static_assert(sizeof(struct wire_lend) == 16, "wire_lend");
_Static_assert(sizeof(struct wire_delegate) == 16, "wire_delegate");
_Static_assert(sizeof(struct wire_delegate_reply) == 32, "wire_delegate_reply");
_Static_assert(sizeof(struct wire_info) == 64, "wire_info");

/* Where the string of a request begins; 0 for an operation that is not known. */
static size_t text_offset(uint16_t operation)
{
	switch (operation) {
	case WIRE_OPEN:
		return sizeof(struct wire_open);
	case WIRE_PUBLISH:
		return sizeof(struct wire_publish);
	case WIRE_CREATE_CONTEXT:
		return sizeof(struct wire_create_context);
	case WIRE_CANCEL:
		return sizeof(struct wire_cancel);
	case WIRE_LEND:
		return sizeof(struct wire_lend);
	case WIRE_DELEGATE:
		return sizeof(struct wire_delegate);
	case WIRE_UNLINK:
	case WIRE_STAT:
	case WIRE_LIST:
	case WIRE_MONITOR:
	case WIRE_WAIT:
	case WIRE_DROP:
	case WIRE_POOLS:
	case WIRE_STATUS:
	case WIRE_EXPLAIN:
	case WIRE_RELOAD:
		return sizeof(struct wire_name);
	default:
		return 0;
	}
}

int request_decode(struct request *ret, unsigned char *packet, size_t size)
{
	struct wire_request head;
	size_t offset;

	if (size < sizeof(head) || size > WIRE_REQUEST_MAX)
		return -EPROTO;
	memcpy(&head, packet, sizeof(head));
	if (head.reserved != 0)
		return -EPROTO;
	*ret = (struct request){ .serial = head.serial, .operation = head.operation };

	offset = text_offset(head.operation);
	if (offset == 0)
		return 0;
	if (size < offset)
		return -EPROTO;
	packet[size] = 0;
	ret->text = (const char *)packet + offset;
	ret->text_size = size - offset;

	if (head.operation == WIRE_OPEN) {
		struct wire_open open;

		memcpy(&open, packet, sizeof(open));
		ret->flags = open.flags;
		ret->mode = open.mode;
		ret->size_bytes = open.size;
		ret->options = open.options;
	} else if (head.operation == WIRE_PUBLISH || head.operation == WIRE_CREATE_CONTEXT ||
		   head.operation == WIRE_LEND || head.operation == WIRE_DELEGATE) {
		memcpy(&ret->options, packet + sizeof(head), sizeof(ret->options));
	} else if (head.operation == WIRE_CANCEL) {
		memcpy(&ret->cancelled_serial, packet + sizeof(head),
		       sizeof(ret->cancelled_serial));
	}
	return 0;
}

int hello_decode(uint16_t *ret_version, const unsigned char *packet, size_t size)
{
	struct wire_hello hello;

	if (size < sizeof(hello) || size > WIRE_REQUEST_MAX)
		return -EPROTO;
	memcpy(&hello, packet, sizeof(hello));
	if (hello.magic != WIRE_MAGIC || hello.size < sizeof(hello) || hello.size > size ||
	    hello.version_min > hello.version_max)
		return -EPROTO;
	if (hello.version_min > WIRE_VERSION_MAX || hello.version_max < WIRE_VERSION_MIN)
		return -EPROTONOSUPPORT;
	*ret_version = hello.version_max < WIRE_VERSION_MAX ? hello.version_max : WIRE_VERSION_MAX;
	return 0;
}

void reply_encode(struct reply_packet *ret, const struct request *request,
		  const struct reply *reply)
{
	size_t kinds = (reply->fds.count + 7) / 8 * 8;

	ret->header = (struct wire_reply){
		.serial = request->serial,
		.operation = request->operation,
		.flags = reply->more ? WIRE_MORE : 0,
		.status = reply->status,
		.fd_count = (uint16_t)reply->fds.count,
	};
	ret->part[0] = (struct iovec){ &ret->header, sizeof(ret->header) };
	ret->part_count = 1;
	if (kinds > 0) {
		memset(ret->kinds + reply->fds.count, 0, kinds - reply->fds.count);
		memcpy(ret->kinds, reply->fds.kind, reply->fds.count);
		ret->part[ret->part_count++] = (struct iovec){ ret->kinds, kinds };
	}
	if (reply->body_size > 0)
		ret->part[ret->part_count++] = (struct iovec){ reply->body, reply->body_size };
	/* What is short costs less in one piece. */
	if (reply->body_size <= SHORT_BODY && kinds <= SHORT_KINDS) {
		unsigned char *end = ret->flat;

		for (size_t i = 0; i < ret->part_count; i++)
			end = mempcpy(end, ret->part[i].iov_base, ret->part[i].iov_len);
		ret->part[0] = (struct iovec){ ret->flat, (size_t)(end - ret->flat) };
		ret->part_count = 1;
	}
}

void reply_reset(struct reply *reply)
{
	fdlist_close(&reply->fds);
	reply->status = 0;
	reply->more = false;
	reply->parked = false;
	reply->silent = false;
	reply->idle = false;
	reply->body_size = 0;
}

int reply_fail(struct reply *reply, int status, const char *format, ...)
{
	va_list arguments;
	int size;

	fdlist_close(&reply->fds);
	reply->status = status;
	reply->more = false;
	va_start(arguments, format);
	size = vsnprintf((char *)reply->body, 1024, format, arguments);
	va_end(arguments);
	reply->body_size = size < 0 ? 0 : size < 1024 ? (size_t)size : 1023;
	return 0;
}

bool reply_append(struct reply *reply, const void *bytes, size_t size)
{
	if (size > REPLY_BODY_MAX - reply->body_size)
		return false;
	memcpy(reply->body + reply->body_size, bytes, size);
	reply->body_size += size;
	return true;
}

bool reply_field_bytes(struct reply *reply, const char *key, const char *value, size_t size)
{
	size_t before = reply->body_size;

	if (reply_append(reply, key, strlen(key)) && reply_append(reply, "=", 1) &&
	    reply_append(reply, value, size) && reply_append(reply, "", 1))
		return true;
	reply->body_size = before;
	return false;
}

bool reply_field(struct reply *reply, const char *key, const char *format, ...)
{
	char value[1024];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(value, sizeof(value), format, arguments);
	va_end(arguments);
	return reply_field_bytes(reply, key, value, strlen(value));
}

bool reply_record_end(struct reply *reply)
{
	return reply_append(reply, "", 1);
}

const char *fields_get(const char *fields, size_t size, const char *key)
{
	size_t key_size = strlen(key);

	for (const char *at = fields, *end = fields + size; at < end;) {
		size_t length = strnlen(at, (size_t)(end - at));

		if (length > key_size && at[key_size] == '=' && memcmp(at, key, key_size) == 0)
			return at + key_size + 1;
		at += length + 1;
	}
	return NULL;
}
