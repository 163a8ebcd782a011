/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls made of bytes: see bus_message.h. */
#include "fuzz/bus_message.h"

#include <string.h>

#include "daemon/bus_private.h"

#define DEPTH_MAX 4

static const struct {
	const char *interface, *member, *arguments;
} methods[] = {
	{ BUS_NAME, "Open", "sasua{sv}" },
	{ BUS_NAME, "Unlink", "s" },
	{ BUS_NAME, "Stat", "s" },
	{ BUS_NAME, "List", "s" },
	{ BUS_NAME, "CreateContext", "sa{sv}" },
	{ BUS_NAME, "Explain", "sasa{sv}" },
	{ BUS_NAME, "Reload", "" },
	{ BUS_NAME, "Subscribe", "s" },
	{ BUS_NAME, "Unsubscribe", "" },
	{ "org.freedesktop.DBus.Properties", "Get", "ss" },
	{ "org.freedesktop.DBus.Properties", "GetAll", "s" },
	{ "org.freedesktop.DBus.Properties", "Set", "ssv" },
	{ "org.freedesktop.DBus.Introspectable", "Introspect", "" },
	{ "org.freedesktop.DBus.Peer", "Ping", "" },
};

static const char *take_string(struct bytes *in)
{
	static const char *const words[] = {
		"/ga",	     "/gb",	    "/ma",	 "/ha",	  "/ra",       "/xa",
		"/ta",	     "/c",	    "",		 "/",	  "*",	       "/g*",
		"rdonly",    "wronly",	    "rdwr",	 "creat", "excl",      "trunc",
		"append",    "size",	    "temporary", "uid",	  "gid",       "groups",
		"unit",	     "app",	    "pid",	 "read",  "write",     "create,unlink",
		"a.service", "org.a",	    BUS_NAME,	 "Pools", "Supported", "Version",
		"Features",  "Connections",
	};
	static char text[5001];
	uint8_t which = take_byte(in);
	const uint8_t *bytes;
	size_t size;

	if (which < sizeof(words) / sizeof(*words))
		return words[which];
	size = take_text(in, which < 128 ? 255 : sizeof(text) - 1, &bytes);
	if (which == 255) {
		size = sizeof(text) - 1;
		memset(text, 'a', size);
	} else {
		memcpy(text, bytes, size);
	}
	text[size] = 0;
	return text;
}

/* A type for a variant, whole. */
static const char *take_type(struct bytes *in)
{
	static const char *const types[] = { "t",    "b", "u",	 "s",  "au",   "y",  "i",
					     "x",    "d", "o",	 "g",  "h",    "as", "a{sv}",
					     "(su)", "v", "aau", "ay", "a(sv)" };

	return types[take_byte(in) % (sizeof(types) / sizeof(*types))];
}

static bool append(sd_bus_message *message, struct bytes *in, const char *type, size_t size,
		   unsigned depth);

static bool append_basic(sd_bus_message *message, struct bytes *in, char type)
{
	const int standard_error = 2;
	uint64_t number;
	int boolean;

	switch (type) {
	case 's':
		return sd_bus_message_append_basic(message, type, take_string(in)) >= 0;
	case 'o':
		return sd_bus_message_append_basic(message, type, "/a/b") >= 0;
	case 'g':
		return sd_bus_message_append_basic(message, type, take_type(in)) >= 0;
	case 'h':
		return sd_bus_message_append_basic(message, type, &standard_error) >= 0;
	case 'b':
		boolean = take_byte(in) & 1;
		return sd_bus_message_append_basic(message, type, &boolean) >= 0;
	default:
		number = take_number(in, take_byte(in) % 9);
		return sd_bus_message_append_basic(message, type, &number) >= 0;
	}
}

/* The length of the one whole type that a signature begins with. */
static size_t type_size(const char *type)
{
	size_t size = 0, open = 0;

	while (type[size] == 'a')
		size++;
	do {
		open += type[size] == '(' || type[size] == '{';
		open -= type[size] == ')' || type[size] == '}';
		size++;
	} while (open > 0);
	return size;
}

static bool append_container(sd_bus_message *message, struct bytes *in, char kind,
			     const char *content, unsigned count, unsigned depth)
{
	if (sd_bus_message_open_container(message, kind, content) < 0)
		return false;
	for (; count > 0; count--)
		if (!append(message, in, content, strlen(content), depth + 1))
			return false;
	return sd_bus_message_close_container(message) >= 0;
}

/* A byte of large counts: beyond what the broker takes. */
static unsigned take_count(struct bytes *in)
{
	uint8_t count = take_byte(in);

	return count < 250 ? count % 6 : count < 254 ? 33 : 300;
}

static bool append_one(sd_bus_message *message, struct bytes *in, const char *type, size_t size,
		       unsigned depth)
{
	char content[64] = "";

	if (depth > DEPTH_MAX)
		return false;
	if (*type == 'v')
		return append_container(message, in, 'v', take_type(in), 1, depth);
	if (*type == 'a') {
		memcpy(content, type + 1, size - 1);
		return append_container(message, in, 'a', content, take_count(in), depth);
	}
	if (*type == '(' || *type == '{') {
		memcpy(content, type + 1, size - 2);
		return append_container(message, in, *type == '(' ? 'r' : 'e', content, 1, depth);
	}
	return append_basic(message, in, *type);
}

static bool append(sd_bus_message *message, struct bytes *in, const char *type, size_t size,
		   unsigned depth)
{
	for (size_t at = 0, one; at < size; at += one) {
		one = type_size(type + at);
		if (!append_one(message, in, type + at, one, depth))
			return false;
	}
	return true;
}

static bool append_any(sd_bus_message *message, struct bytes *in)
{
	for (unsigned count = take_byte(in) % 6; count > 0; count--) {
		const char *type = take_type(in);

		if (!append(message, in, type, strlen(type), 0))
			return false;
	}
	return true;
}

sd_bus_message *bus_message_make(sd_bus *bus, const char *destination, struct bytes *in)
{
	uint8_t which = take_byte(in);
	bool is_any = which >= 224;
	sd_bus_message *message = NULL;

	which %= sizeof(methods) / sizeof(*methods);
	if (sd_bus_message_new_method_call(bus, &message, destination, BUS_PATH,
					   methods[which].interface, methods[which].member) >= 0 &&
	    (is_any ? append_any(message, in)
		    : append(message, in, methods[which].arguments,
			     strlen(methods[which].arguments), 0)))
		return message;
	return sd_bus_message_unref(message);
}
