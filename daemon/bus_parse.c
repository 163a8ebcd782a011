/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From messages to requests. What can't be a request is answered here, before it is asked who
 * has sent it; what is left is small, however large the message was.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/bus_private.h"
#include "proto/name.h"

/* Elements of one array: flags, options. All that there are, each given twice, are fewer. */
#define ELEMENTS_MAX 32

/* Groups that explain takes. */
#define GROUPS_MAX 256

struct parse {
	struct bus_call call;
	char fields[WIRE_REQUEST_MAX]; /* explain: what request.text points at */
	size_t fields_size;
	char why[256];
};

static int fail(struct parse *parse, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static int fail(struct parse *parse, int error, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(parse->why, sizeof(parse->why), format, arguments);
	va_end(arguments);
	return error;
}

/* Of sd-bus's own errors, which are of a message that is broken. */
static int broken(struct parse *parse)
{
	return fail(parse, EINVAL, "the message can't be read");
}

/* Where it takes memory to read it, too. */
static int unreadable(struct parse *parse, int rc)
{
	return rc == -ENOMEM ? fail(parse, ENOMEM, "no memory") : broken(parse);
}

/* The string that the request is about. */
static int read_text(struct parse *parse, sd_bus_message *message)
{
	const char *text;
	struct name name;

	if (sd_bus_message_read_basic(message, 's', &text) < 0)
		return broken(parse);
	name = name_strip(text, strlen(text));
	if (name.size >= WIRE_REQUEST_MAX)
		return fail(parse, ENAMETOOLONG, "a name has at most 255 bytes");
	parse->call.request.text = name.text;
	parse->call.request.text_size = name.size;
	return 0;
}

/* --- Open --- */

static int add_flag(struct parse *parse, const char *text)
{
	static const struct {
		const char *text;
		uint32_t flag;
	} flags[] = {
		{ "rdonly", WIRE_READ },
		{ "wronly", WIRE_WRITE },
		{ "rdwr", WIRE_READ | WIRE_WRITE },
		{ "creat", WIRE_CREATE },
		{ "excl", WIRE_EXCLUSIVE },
		{ "trunc", WIRE_TRUNCATE },
		{ "append", WIRE_APPEND },
	};
	const uint32_t access = WIRE_READ | WIRE_WRITE;
	uint32_t before = parse->call.request.flags & access;

	for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++) {
		if (strcmp(text, flags[i].text) != 0)
			continue;
		if ((flags[i].flag & access) && before && before != flags[i].flag)
			return fail(parse, EINVAL, "flag \"%s\" contradicts another one",
				    flags[i].text);
		parse->call.request.flags |= flags[i].flag;
		return 0;
	}
	return fail(parse, EINVAL,
		    "unknown flag \"%.64s\": there are rdonly, wronly, rdwr, creat, excl, "
		    "trunc, append",
		    text);
}

static int read_flags(struct parse *parse, sd_bus_message *message)
{
	const char *text;
	int rc = sd_bus_message_enter_container(message, 'a', "s"), error = 0;

	if (rc < 0)
		return unreadable(parse, rc);
	for (unsigned i = 0; error == 0; i++) {
		rc = sd_bus_message_read_basic(message, 's', &text);
		if (rc == 0)
			break;
		error = rc < 0		   ? unreadable(parse, rc)
			: i < ELEMENTS_MAX ? add_flag(parse, text)
					   : fail(parse, EINVAL, "too many flags");
	}
	if (error == 0 && sd_bus_message_exit_container(message) < 0)
		error = broken(parse);
	return error;
}

/* An a{sv}: each key that is known goes to `option` with its value entered. */
static int read_options(struct parse *parse, sd_bus_message *message,
			int (*option)(struct parse *parse, sd_bus_message *message, const char *key,
				      const char *type))
{
	const char *key, *type;
	int rc = sd_bus_message_enter_container(message, 'a', "{sv}"), error = 0;

	if (rc < 0)
		return unreadable(parse, rc);
	for (unsigned i = 0; error == 0; i++) {
		rc = sd_bus_message_enter_container(message, 'e', "sv");
		if (rc == 0)
			break;
		if (i == ELEMENTS_MAX)
			return fail(parse, EINVAL, "too many options");
		if (rc >= 0)
			rc = sd_bus_message_read_basic(message, 's', &key);
		if (rc >= 0)
			rc = sd_bus_message_peek_type(message, NULL, &type);
		if (rc >= 0)
			rc = sd_bus_message_enter_container(message, 'v', type);
		if (rc < 0)
			return unreadable(parse, rc);
		error = option(parse, message, key, type);
		if (error == 0 && (sd_bus_message_exit_container(message) < 0 ||
				   sd_bus_message_exit_container(message) < 0))
			error = broken(parse);
	}
	if (error == 0 && sd_bus_message_exit_container(message) < 0)
		error = broken(parse);
	return error;
}

static int unknown_option(struct parse *parse, const char *key, const char *type)
{
	return fail(parse, EINVAL, "unknown option \"%.64s\" of type \"%.32s\"", key, type);
}

static int open_option(struct parse *parse, sd_bus_message *message, const char *key,
		       const char *type)
{
	struct request *request = &parse->call.request;
	int temporary;

	if (strcmp(key, "size") == 0 && strcmp(type, "t") == 0)
		return sd_bus_message_read_basic(message, 't', &request->size_bytes) < 0
			       ? broken(parse)
			       : 0;
	if (strcmp(key, "temporary") != 0 || strcmp(type, "b") != 0)
		return unknown_option(parse, key, type);
	if (sd_bus_message_read_basic(message, 'b', &temporary) < 0)
		return broken(parse);
	request->options = temporary ? WIRE_TEMPORARY : 0;
	return 0;
}

static int parse_open(struct parse *parse, sd_bus_message *message)
{
	struct request *request = &parse->call.request;
	int error = read_text(parse, message);

	if (error == 0)
		error = read_flags(parse, message);
	if (error == 0 && sd_bus_message_read_basic(message, 'u', &request->mode) < 0)
		error = broken(parse);
	if (error == 0)
		error = read_options(parse, message, open_option);
	if (error)
		return error;
	if (!(request->flags & (WIRE_READ | WIRE_WRITE)))
		return fail(parse, EINVAL, "one of the flags rdonly, wronly, rdwr is needed");
	if (request->mode & ~0777u)
		return fail(parse, EINVAL, "mode %#o: a mode has permission bits alone",
			    request->mode);
	/* As everywhere: without creat it means nothing. */
	if (!(request->flags & WIRE_CREATE))
		request->flags &= ~WIRE_EXCLUSIVE;
	return 0;
}

/* --- CreateContext --- */

static int no_option(struct parse *parse, sd_bus_message *message, const char *key,
		     const char *type)
{
	(void)message;
	return unknown_option(parse, key, type);
}

static int parse_context(struct parse *parse, sd_bus_message *message)
{
	struct request *request = &parse->call.request;

	/* An app's id has no slashes that could be left out. */
	if (sd_bus_message_read_basic(message, 's', &request->text) < 0)
		return broken(parse);
	request->text_size = strlen(request->text);
	if (!name_is_app(request->text, request->text_size))
		return fail(parse, EINVAL, NAME_APP_RULE);
	return read_options(parse, message, no_option);
}

/* --- Explain --- */

/* More of the fields' text. 0 or an errno. */
static int add_text(struct parse *parse, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static int add_text(struct parse *parse, const char *format, ...)
{
	size_t room = sizeof(parse->fields) - parse->fields_size;
	va_list arguments;
	int size;

	va_start(arguments, format);
	size = vsnprintf(parse->fields + parse->fields_size, room, format, arguments);
	va_end(arguments);
	/* Its last byte is for the request's own end. */
	if (size < 0 || (size_t)size + 1 >= room)
		return fail(parse, EINVAL, "more than can be asked at once");
	parse->fields_size += (size_t)size;
	return 0;
}

static int end_field(struct parse *parse)
{
	/* add_text() has left room for it. */
	parse->fields[parse->fields_size++] = 0;
	return 0;
}

static int add_groups(struct parse *parse, sd_bus_message *message)
{
	const uint32_t *groups;
	const void *array;
	size_t size;
	int rc, error;

	rc = sd_bus_message_read_array(message, 'u', &array, &size);
	if (rc < 0)
		return unreadable(parse, rc);
	groups = array;
	if (size / sizeof(*groups) > GROUPS_MAX)
		return fail(parse, EINVAL, "at most %d groups", GROUPS_MAX);
	error = add_text(parse, "groups=");
	for (size_t i = 0; error == 0 && i < size / sizeof(*groups); i++)
		error = add_text(parse, "%s%u", i ? "," : "", groups[i]);
	return error ? error : end_field(parse);
}

static int add_number(struct parse *parse, sd_bus_message *message, const char *key)
{
	uint32_t number;
	int error;

	if (sd_bus_message_read_basic(message, 'u', &number) < 0)
		return broken(parse);
	error = add_text(parse, "%s=%u", key, number);
	return error ? error : end_field(parse);
}

static int add_string(struct parse *parse, sd_bus_message *message, const char *key)
{
	const char *string;
	int error;

	if (sd_bus_message_read_basic(message, 's', &string) < 0)
		return broken(parse);
	error = add_text(parse, "%s=%s", key, string);
	return error ? error : end_field(parse);
}

static int whom_option(struct parse *parse, sd_bus_message *message, const char *key,
		       const char *type)
{
	static const char *const numbers[] = { "uid", "gid", "pid" };
	static const char *const strings[] = { "unit", "app" };

	for (size_t i = 0; strcmp(type, "u") == 0 && i < 3; i++)
		if (strcmp(key, numbers[i]) == 0)
			return add_number(parse, message, numbers[i]);
	for (size_t i = 0; strcmp(type, "s") == 0 && i < 2; i++)
		if (strcmp(key, strings[i]) == 0)
			return add_string(parse, message, strings[i]);
	if (strcmp(key, "groups") == 0 && strcmp(type, "au") == 0)
		return add_groups(parse, message);
	return fail(parse, EINVAL,
		    "as_who takes uid u, gid u, groups au, unit s, app s, pid u: not "
		    "\"%.64s\" of type \"%.32s\"",
		    key, type);
}

static int add_wanted(struct parse *parse, sd_bus_message *message)
{
	const char *text;
	int rc = sd_bus_message_enter_container(message, 'a', "s"), error;

	if (rc < 0)
		return unreadable(parse, rc);
	error = add_text(parse, "wanted=");
	for (unsigned i = 0; error == 0; i++) {
		rc = sd_bus_message_read_basic(message, 's', &text);
		if (rc == 0)
			break;
		error = rc < 0		   ? unreadable(parse, rc)
			: i < ELEMENTS_MAX ? add_text(parse, "%s%s", i ? "," : "", text)
					   : fail(parse, EINVAL, "too many rights");
	}
	if (error == 0 && sd_bus_message_exit_container(message) < 0)
		error = broken(parse);
	/* Nothing is a set of rights, too, but its text is not. */
	if (error == 0 && strcmp(parse->fields + parse->fields_size - 1, "=") == 0) {
		parse->fields_size -= strlen("wanted=");
		return 0;
	}
	return error ? error : end_field(parse);
}

static int parse_explain(struct parse *parse, sd_bus_message *message)
{
	int error = add_string(parse, message, "name");

	if (error == 0)
		error = add_wanted(parse, message);
	if (error == 0)
		error = read_options(parse, message, whom_option);
	parse->call.request.text = parse->fields;
	parse->call.request.text_size = parse->fields_size;
	parse->fields[parse->fields_size] = 0;
	return error;
}

/* --- the object --- */

static int parse_arguments(struct parse *parse, sd_bus_message *message)
{
	switch (parse->call.method->operation) {
	case WIRE_OPEN:
		return parse_open(parse, message);
	case WIRE_CREATE_CONTEXT:
		return parse_context(parse, message);
	case WIRE_EXPLAIN:
		return parse_explain(parse, message);
	default:
		return sd_bus_message_is_empty(message) ? 0 : read_text(parse, message);
	}
}

static void take(struct bus *bus, sd_bus_message *message, struct parse *parse)
{
	const char *sender = sd_bus_message_get_sender(message);

	parse->call.message = message;
	parse->call.request.operation = parse->call.method->operation;
	if (sender)
		bus_caller_call(bus, sender, &parse->call);
}

/* 0: nothing that we know is called so and takes that. */
static int called(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
	const char *member = sd_bus_message_get_member(message);
	const struct bus_method *method = bus_methods;
	struct parse parse;
	int error;

	(void)ret_error;
	while (method->member && strcmp(method->member, member) != 0)
		method++;
	if (!method->member || !sd_bus_message_has_signature(message, method->signature))
		return 0;
	parse.call = (struct bus_call){ .method = method, .request.text = "" };
	parse.fields_size = 0;
	error = parse_arguments(&parse, message);
	if (error)
		bus_fail(userdata, message, error, parse.why, strlen(parse.why));
	else
		take(userdata, message, &parse);
	return 1;
}

/* Get and GetAll depend on who reads, which sd-bus's own properties can't wait to be told. */
static int read_property(sd_bus_message *message, struct bus *bus)
{
	bool get = sd_bus_message_is_method_call(message, NULL, "Get");
	struct parse parse = { .call.request.text = "" };
	const char *interface, *name = NULL;
	int error;

	if (get ? !sd_bus_message_has_signature(message, "ss")
		: !sd_bus_message_is_method_call(message, NULL, "GetAll") ||
			    !sd_bus_message_has_signature(message, "s"))
		return 0;
	if (sd_bus_message_read_basic(message, 's', &interface) < 0 ||
	    (get && sd_bus_message_read_basic(message, 's', &name) < 0)) {
		error = broken(&parse);
		bus_fail(bus, message, error, parse.why, strlen(parse.why));
		return 1;
	}
	parse.call.method = bus_property_method(name);
	if ((*interface && strcmp(interface, BUS_NAME) != 0) || !parse.call.method) {
		sd_bus_message_rewind(message, true);
		return 0;
	}
	if (name) {
		parse.call.request.text = name;
		parse.call.request.text_size = strlen(name);
	}
	take(bus, message, &parse);
	return 1;
}

/*
 * Comes before all else: a search for who takes a call costs sd-bus as much as all that we do for
 * it, and finds nobody where the interface is left out, as callers may. The rest is left to the
 * vtable: what there is, and how calls fail that are none.
 */
static int first_look(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
	const char *path = sd_bus_message_get_path(message);
	const char *interface = sd_bus_message_get_interface(message);

	if (!sd_bus_message_is_method_call(message, NULL, NULL) || strcmp(path, BUS_PATH) != 0 ||
	    !sd_bus_message_get_destination(message))
		return 0;
	if (!interface || strcmp(interface, BUS_NAME) == 0)
		return called(message, userdata, ret_error);
	if (strcmp(interface, "org.freedesktop.DBus.Properties") == 0)
		return read_property(message, userdata);
	return 0;
}

/* Never called: Get and GetAll don't come that far. */
static int no_property(sd_bus *bus, const char *path, const char *interface, const char *property,
		       sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
	(void)bus;
	(void)path;
	(void)interface;
	(void)property;
	(void)reply;
	(void)userdata;
	(void)ret_error;
	return -EOPNOTSUPP;
}

/* Without the flag sd-bus would ask the bus for the sender's rights, and wait. */
#define ANYBODY SD_BUS_VTABLE_UNPRIVILEGED
#define METHOD(member, arguments, results)                                                         \
	SD_BUS_METHOD_WITH_ARGS(member, SD_BUS_ARGS arguments, SD_BUS_RESULT results, called,      \
				ANYBODY)
#define PROPERTY(member, signature, flags) SD_BUS_PROPERTY(member, signature, no_property, 0, flags)
#define CONSTANT SD_BUS_VTABLE_PROPERTY_CONST

static const sd_bus_vtable vtable[] = {
	SD_BUS_VTABLE_START(ANYBODY),
	METHOD("Open", ("s", name, "as", flags, "u", mode, "a{sv}", options), ("h", fd)),
	METHOD("Unlink", ("s", name), (NULL)),
	METHOD("Stat", ("s", name), ("a{sv}", info)),
	METHOD("List", ("s", pattern), ("a(sta{sv})", objects)),
	METHOD("CreateContext", ("s", app, "a{sv}", options), ("s", directory, "h", hold)),
	METHOD("Explain", ("s", name, "as", wanted, "a{sv}", as_who), ("a{sv}", explanation)),
	METHOD("Reload", (NULL), (NULL)),
	METHOD("Subscribe", ("s", pattern), (NULL)),
	METHOD("Unsubscribe", (NULL), (NULL)),
	SD_BUS_SIGNAL_WITH_ARGS("ObjectCreated", SD_BUS_ARGS("s", pool, "s", name), 0),
	SD_BUS_SIGNAL_WITH_ARGS("ObjectRemoved", SD_BUS_ARGS("s", pool, "s", name), 0),
	PROPERTY("Version", "s", CONSTANT),
	PROPERTY("Features", "as", 0),
	PROPERTY("Supported", "b", 0),
	PROPERTY("Pools", "a{sv}", 0),
	PROPERTY("Connections", "u", 0),
	SD_BUS_VTABLE_END,
};

int bus_add_object(struct bus *bus)
{
	int error = sd_bus_add_filter(bus->sd, NULL, first_look, bus);

	if (error >= 0)
		error = sd_bus_add_object_vtable(bus->sd, NULL, BUS_PATH, BUS_NAME, vtable, bus);
	return error < 0 ? error : 0;
}
