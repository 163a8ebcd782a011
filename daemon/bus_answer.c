/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From the broker's packets to messages: what each method returns, and how it fails. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/bus_private.h"
#include "daemon/fd.h"
#include "proto/escape.h"

/* Of a listing. The bytes stay below the 64 MiB of D-Bus's longest array. */
#define RECORDS_MAX 100000
#define BYTES_MAX (60u << 20)
/* Of one entry without its strings: keys, types and numbers with their padding. */
#define ENTRY_BYTES 320

/* How many bytes the character at `at` has; 0: it is none. */
static size_t character_size(const unsigned char *at, size_t size)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t length = *at < 0x80   ? 1
			: *at < 0xc2 ? 0
			: *at < 0xe0 ? 2
			: *at < 0xf0 ? 3
			: *at < 0xf5 ? 4
				     : 0;
	uint32_t code = length > 1 ? *at & (0x7f >> length) : *at;

	if (length == 0 || length > size)
		return 0;
	for (size_t i = 1; i < length; i++) {
		if ((at[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (at[i] & 0x3f);
	}
	/* Too long a form, surrogates, and what is no character: sd-bus refuses those. */
	if (code < least[length] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff) ||
	    (code >= 0xfdd0 && code <= 0xfdef) || (code & 0xfffe) == 0xfffe || code == 0)
		return 0;
	return length;
}

bool bus_is_utf8(const char *text, size_t size)
{
	for (size_t at = 0, length; at < size; at += length) {
		length = character_size((const unsigned char *)text + at, size - at);
		if (length == 0)
			return false;
	}
	return true;
}

const char *bus_string(char *buffer, size_t buffer_size, const char *text, size_t size)
{
	if (!bus_is_utf8(text, size)) {
		escape(buffer, buffer_size, text, size);
		return buffer;
	}
	size = size < buffer_size ? size : buffer_size - 1;
	memcpy(buffer, text, size);
	buffer[size] = 0;
	/* A character that was cut off is none. */
	while (size > 0 && !bus_is_utf8(buffer, size))
		buffer[--size] = 0;
	return buffer;
}

void bus_fail(struct bus *bus, sd_bus_message *call, int error, const char *text, size_t size)
{
	_cleanup_(sd_bus_error_free) sd_bus_error told = SD_BUS_ERROR_NULL;
	char buffer[2048];
	int rc;

	/* Its leaving tells all who wait. */
	if (bus->given_up)
		return;
	sd_bus_error_set_errnof(&told, error, "%s", bus_string(buffer, sizeof(buffer), text, size));
	rc = sd_bus_reply_method_error(call, &told);
	if (rc < 0)
		bus_give_up(bus, rc);
}

/* --- a descriptor --- */

static int add_open(struct bus_caller *caller, const struct bus_call *call,
		    const struct reply *reply)
{
	(void)call;
	if (reply->fds.count == 0)
		return ENFILE;
	return sd_bus_message_append_basic(caller->answer.message, 'h', &reply->fds.fd[0]) < 0
		       ? ENFILE
		       : 0;
}

static int add_context(struct bus_caller *caller, const struct bus_call *call,
		       const struct reply *reply)
{
	char path[CONTEXT_PATH_SIZE * 4];
	int rc;

	(void)call;
	if (reply->fds.count == 0)
		return ENFILE;
	rc = sd_bus_message_append(
		caller->answer.message, "sh",
		bus_string(path, sizeof(path), (char *)reply->body, reply->body_size),
		reply->fds.fd[0]);
	return rc < 0 ? ENFILE : 0;
}

/* --- an object --- */

/* The strings of a record, checked. */
struct entry {
	struct wire_info info;
	char name[1 + WIRE_NAME_MAX + 1];
	char pool[256 * 4], owner[256 * 4];
	bool has_name; /* one that D-Bus can carry */
};

/* Reads the record at `at`; returns where the next one begins, NULL: there is none. */
static const unsigned char *read_entry(const unsigned char *at, const unsigned char *end,
				       struct entry *ret)
{
	const char *text;

	if (end - at < (ptrdiff_t)sizeof(ret->info))
		return NULL;
	memcpy(&ret->info, at, sizeof(ret->info));
	text = (const char *)at + sizeof(ret->info);
	ret->has_name = bus_is_utf8(text, ret->info.name_size);
	ret->name[0] = '/';
	memcpy(ret->name + 1, text, ret->info.name_size);
	ret->name[1 + ret->info.name_size] = 0;
	text += ret->info.name_size;
	bus_string(ret->pool, sizeof(ret->pool), text, ret->info.pool_size);
	text += ret->info.pool_size;
	bus_string(ret->owner, sizeof(ret->owner), text, ret->info.owner_size);
	return at + ret->info.record_size;
}

/* What List and Stat both tell of an object, as the {sv}s of an open array. */
static int append_info(sd_bus_message *message, const struct entry *entry)
{
	const struct wire_info *info = &entry->info;

	return sd_bus_message_append(
		message, "{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}", "allocated", "t",
		info->allocated, "ino", "t", info->ino, "created_ns", "t", info->created_ns, "uid",
		"u", info->uid, "gid", "u", info->gid, "mode", "u", info->mode, "creator_pid", "i",
		info->creator_pid, "temporary", "b", !!(info->flags & WIRE_INFO_TEMPORARY),
		"sealed", "b", !!(info->flags & WIRE_INFO_SEALED), "object", "b",
		!(info->flags & WIRE_INFO_NOT_AN_OBJECT), "pool", "s", entry->pool, "owner", "s",
		entry->owner);
}

static int add_stat(struct bus_caller *caller, const struct bus_call *call,
		    const struct reply *reply)
{
	sd_bus_message *message = caller->answer.message;
	struct entry entry;

	(void)call;
	if (!read_entry(reply->body, reply->body + reply->body_size, &entry) ||
	    sd_bus_message_open_container(message, 'a', "{sv}") < 0 ||
	    sd_bus_message_append(message, "{sv}{sv}", "name", "s", entry.name, "size", "t",
				  entry.info.size) < 0 ||
	    append_info(message, &entry) < 0 || sd_bus_message_close_container(message) < 0)
		return ENOMEM;
	return 0;
}

static int begin_list(struct bus_caller *caller, const struct bus_call *call)
{
	(void)call;
	return sd_bus_message_open_container(caller->answer.message, 'a', "(sta{sv})") < 0 ? ENOMEM
											   : 0;
}

static int append_entry(sd_bus_message *message, const struct entry *entry)
{
	if (sd_bus_message_open_container(message, 'r', "sta{sv}") < 0 ||
	    sd_bus_message_append(message, "st", entry->name, entry->info.size) < 0 ||
	    sd_bus_message_open_container(message, 'a', "{sv}") < 0 ||
	    append_info(message, entry) < 0 || sd_bus_message_close_container(message) < 0 ||
	    sd_bus_message_close_container(message) < 0)
		return ENOMEM;
	return 0;
}

static int add_list(struct bus_caller *caller, const struct bus_call *call,
		    const struct reply *reply)
{
	const unsigned char *at = reply->body, *end = at + reply->body_size;
	struct bus_answer *answer = &caller->answer;
	struct entry entry;
	int error = 0;

	(void)call;
	while (error == 0 && (at = read_entry(at, end, &entry))) {
		if (!entry.has_name)
			continue;
		answer->bytes += ENTRY_BYTES + strlen(entry.name) + strlen(entry.pool) +
				 strlen(entry.owner);
		if (++answer->records > RECORDS_MAX || answer->bytes > BYTES_MAX) {
			answer->why = "more objects than a message can carry: the socket lists all";
			return E2BIG;
		}
		error = append_entry(answer->message, &entry);
	}
	return error;
}

static int end_list(struct bus_caller *caller, const struct bus_call *call)
{
	(void)call;
	return sd_bus_message_close_container(caller->answer.message) < 0 ? ENOMEM : 0;
}

/* --- fields --- */

size_t bus_record_size(const char *at, const char *end)
{
	const char *start = at;

	/* Fields, each with its NUL; an empty one ends the record. */
	while (at < end && *at)
		at += strnlen(at, (size_t)(end - at)) + 1;
	return (size_t)(at - start);
}

static int append_field(sd_bus_message *message, const char *key, const char *value, char type)
{
	char buffer[4096];

	switch (type) {
	case 't':
		return sd_bus_message_append(message, "{sv}", key, "t", strtoull(value, NULL, 10));
	case 'u':
		return sd_bus_message_append(message, "{sv}", key, "u",
					     (uint32_t)strtoul(value, NULL, 10));
	case 'b':
		return sd_bus_message_append(message, "{sv}", key, "b", strcmp(value, "yes") == 0);
	default:
		return sd_bus_message_append(
			message, "{sv}", key, "s",
			bus_string(buffer, sizeof(buffer), value, strlen(value)));
	}
}

int bus_append_record(sd_bus_message *message, const char *record, size_t size,
		      const struct bus_field_type *types)
{
	char key[64];

	for (const char *at = record; at < record + size; at += strlen(at) + 1) {
		const char *equals = strchr(at, '=');
		const struct bus_field_type *type = types;

		if (!equals || (size_t)(equals - at) >= sizeof(key))
			continue;
		memcpy(key, at, (size_t)(equals - at));
		key[equals - at] = 0;
		while (type->key && strcmp(type->key, key) != 0)
			type++;
		if (append_field(message, key, equals + 1, type->type) < 0)
			return ENOMEM;
	}
	return 0;
}

/* --- Explain --- */

static const struct bus_field_type explain_types[] = {
	{ "line", 'u' }, { "uid", 'u' }, { "sandboxed", 'b' }, { NULL, 's' }
};

static int begin_explain(struct bus_caller *caller, const struct bus_call *call)
{
	(void)call;
	return sd_bus_message_open_container(caller->answer.message, 'a', "{sv}") < 0 ? ENOMEM : 0;
}

/* The second record and all behind it are rules that were passed over: a value of their own. */
static int begin_passed_over(sd_bus_message *message)
{
	if (sd_bus_message_open_container(message, 'e', "sv") < 0 ||
	    sd_bus_message_append(message, "s", "passed-over") < 0 ||
	    sd_bus_message_open_container(message, 'v', "aa{sv}") < 0 ||
	    sd_bus_message_open_container(message, 'a', "a{sv}") < 0)
		return ENOMEM;
	return 0;
}

static int add_explain(struct bus_caller *caller, const struct bus_call *call,
		       const struct reply *reply)
{
	const char *at = (char *)reply->body, *end = at + reply->body_size;
	sd_bus_message *message = caller->answer.message;
	int error = 0;

	(void)call;
	for (size_t size; error == 0 && at < end; at += size + 1) {
		bool is_rule = caller->answer.records++ > 0;

		size = bus_record_size(at, end);
		if (caller->answer.records == 2)
			error = begin_passed_over(message);
		if (error == 0 && is_rule &&
		    sd_bus_message_open_container(message, 'a', "{sv}") < 0)
			error = ENOMEM;
		if (error == 0)
			error = bus_append_record(message, at, size, explain_types);
		if (error == 0 && is_rule && sd_bus_message_close_container(message) < 0)
			error = ENOMEM;
	}
	return error;
}

static int end_explain(struct bus_caller *caller, const struct bus_call *call)
{
	/* The array; and around it the array of rules, their variant, its entry. */
	unsigned open = caller->answer.records > 1 ? 4 : 1;

	(void)call;
	while (open-- > 0)
		if (sd_bus_message_close_container(caller->answer.message) < 0)
			return ENOMEM;
	return 0;
}

/* --- subscriptions --- */

static int begin_subscribe(struct bus_caller *caller, const struct bus_call *call)
{
	int error = bus_subscribe(caller, call->request.text, call->request.text_size);

	caller->answer.is_subscribed = error == 0;
	if (error == EDQUOT)
		caller->answer.why = "too many subscriptions of this user";
	return error;
}

static int begin_unsubscribe(struct bus_caller *caller, const struct bus_call *call)
{
	(void)call;
	bus_unsubscribe(caller);
	return 0;
}

const struct bus_method bus_methods[] = {
	{ "Open", "sasua{sv}", WIRE_OPEN, false, NULL, add_open, NULL },
	{ "Unlink", "s", WIRE_UNLINK, false, NULL, NULL, NULL },
	{ "Stat", "s", WIRE_STAT, false, NULL, add_stat, NULL },
	{ "List", "s", WIRE_LIST, true, begin_list, add_list, end_list },
	{ "CreateContext", "sa{sv}", WIRE_CREATE_CONTEXT, false, NULL, add_context, NULL },
	{ "Explain", "sasa{sv}", WIRE_EXPLAIN, false, begin_explain, add_explain, end_explain },
	{ "Reload", "", WIRE_RELOAD, false, NULL, NULL, NULL },
	{ "Subscribe", "s", 0, false, begin_subscribe, NULL, NULL },
	{ "Unsubscribe", "", 0, false, begin_unsubscribe, NULL, NULL },
	{ NULL, NULL, 0, false, NULL, NULL, NULL },
};
