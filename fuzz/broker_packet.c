/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Packets made of bytes: see broker_packet.h. */
#include "fuzz/broker_packet.h"

#include <string.h>

/* Few, so that requests meet at the same ones. */
static const char letters[] = "hrcxtlgmz";

size_t broker_packet_name(char ret[static 601], struct bytes *in)
{
	uint8_t which = take_byte(in);
	const uint8_t *text;
	size_t size;

	if (which < 4 * (sizeof(letters) - 1)) {
		ret[0] = letters[which / 4];
		ret[1] = (char)('0' + which % 4);
		ret[2] = 0;
		return which % 4 == 3 ? 1 : 2;
	}
	size = take_text(in, which < 128 ? 255 : 600, &text);
	memcpy(ret, text, size);
	if (which >= 250)
		memset(ret, letters[which - 250], size = which == 250 ? 255 : 256);
	ret[size] = 0;
	return size;
}

static uint64_t take_size(struct bytes *in)
{
	static const uint64_t sizes[] = { 0,	      1,	  4096,	      4097,
					  8192,	      65536,	  262144,     262145,
					  1ull << 40, 1ull << 62, 1ull << 63, UINT64_MAX };
	uint8_t which = take_byte(in);

	return which < 128   ? 0
	       : which < 250 ? sizes[which % (sizeof(sizes) / sizeof(*sizes))]
			     : take_number(in, 8);
}

static size_t make_open(unsigned char *ret, struct bytes *in, uint32_t serial)
{
	static const uint64_t options[] = { 0,
					    0,
					    0,
					    0,
					    WIRE_TEMPORARY,
					    WIRE_UNPUBLISHED,
					    WIRE_UNPUBLISHED | WIRE_SEALED,
					    WIRE_UNPUBLISHED | WIRE_TEMPORARY,
					    WIRE_OPTIONS };
	static const uint32_t modes[] = { 0600, 0666, 0, 0777, 0400, 0200, 01777 };
	struct wire_open open = { .request = { serial, WIRE_OPEN, 0 } };
	uint8_t flags = take_byte(in), which = take_byte(in);

	open.flags = flags & WIRE_OPEN_FLAGS;
	open.mode = modes[which % 7];
	open.options = options[take_byte(in) % 9];
	open.size = take_size(in);
	/* What is to be published is created. */
	if (open.options & WIRE_UNPUBLISHED && flags < 240)
		open.flags |= WIRE_CREATE | WIRE_WRITE;
	if (which >= 252)
		open.flags = (uint32_t)take_number(in, 4);
	if (which >= 254)
		open.options = take_number(in, 8);
	memcpy(ret, &open, sizeof(open));
	return sizeof(open);
}

/* Of a request that has something in front of its text. */
static size_t make_head(unsigned char *ret, struct bytes *in, uint16_t operation, uint32_t serial)
{
	struct wire_request head = { serial, operation, 0 };
	uint8_t flags;

	memcpy(ret, &head, sizeof(head));
	if (operation == WIRE_OPEN)
		return make_open(ret, in, serial);
	if (operation != WIRE_PUBLISH && operation != WIRE_CREATE_CONTEXT &&
	    operation != WIRE_CANCEL && operation != WIRE_LEND)
		return sizeof(head);
	memset(ret + sizeof(head), 0, 8);
	flags = take_byte(in);
	if (operation == WIRE_CANCEL)
		ret[sizeof(head)] = flags % 8;
	else if (operation == WIRE_LEND)
		ret[sizeof(head)] = flags == 255;
	else if (operation == WIRE_PUBLISH)
		ret[sizeof(head)] = flags % 5 == 4 ? flags / 5 : flags % 3;
	else
		ret[sizeof(head)] = flags == 255;
	return sizeof(head) + 8;
}

size_t broker_packet_make(unsigned char ret[static REQUEST_BUFFER], struct bytes *in)
{
	static const uint8_t operations[] = {
		WIRE_OPEN,    WIRE_OPEN,	   WIRE_OPEN,	 WIRE_OPEN,  WIRE_UNLINK,
		WIRE_UNLINK,  WIRE_STAT,	   WIRE_STAT,	 WIRE_LIST,  WIRE_LIST,
		WIRE_PUBLISH, WIRE_PUBLISH,	   WIRE_CANCEL,	 WIRE_POOLS, WIRE_WAIT,
		WIRE_STATUS,  WIRE_CREATE_CONTEXT, WIRE_EXPLAIN, WIRE_DROP,  WIRE_RELOAD,
		WIRE_MONITOR, WIRE_LEND,
	};
	static const char *const fields[] = { "wanted=read",	"uid=1", "gid=1", "groups=1,2",
					      "unit=a.service", "app=a", "pid=1", "wanted=" };
	static const char *const pools[] = { "made", "host", "grant", "" };
	uint8_t which = take_byte(in);
	uint16_t operation = operations[which % sizeof(operations)];
	const uint8_t *text;
	unsigned char *end;
	char name[601];
	size_t size;

	if (which >= 248) {
		size = take_text(in, WIRE_REQUEST_MAX, &text);
		memcpy(ret, text, size);
		return size;
	}
	end = ret + make_head(ret, in, operation, take_byte(in) % 8);
	if (operation == WIRE_LEND && take_byte(in) < 200)
		return (size_t)(end - ret);
	if (operation == WIRE_EXPLAIN)
		end = mempcpy(end, "name=", 5);
	if (operation == WIRE_DROP)
		return (size_t)((unsigned char *)stpcpy((char *)end, pools[take_byte(in) % 4]) -
				ret);
	if (operation == WIRE_LIST || operation == WIRE_MONITOR)
		*end++ = take_byte(in) & 1 ? '*' : '/';
	size = broker_packet_name(name, in);
	end = mempcpy(end, name, size);
	if (operation != WIRE_EXPLAIN)
		return (size_t)(end - ret);
	*end++ = 0;
	for (unsigned count = take_byte(in) % 4; count > 0; count--)
		end = (unsigned char *)stpcpy((char *)end, fields[take_byte(in) % 8]) + 1;
	return (size_t)(end - ret);
}
