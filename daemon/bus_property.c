/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The properties. Who reads them is known by then, as with a method: Pools are
 * those that the reader's rules lead to, Connections those that he may know of.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/bus_private.h"

static const struct bus_field_type pool_types[] = {
	{ "size", 't' },  { "used", 't' },	{ "objects-limit", 't' }, { "objects", 't' },
	{ "users", 'u' }, { "read-only", 'b' }, { "exec", 'b' },	  { NULL, 's' },
};

static int append_version(struct bus_caller *caller, sd_bus_message *message)
{
	(void)caller;
	return sd_bus_message_append(message, "v", "s", PACKAGE_VERSION);
}

static int append_features(struct bus_caller *caller, sd_bus_message *message)
{
	static const struct {
		uint64_t bit;
		const char *name;
	} names[] = {
		{ WIRE_FEATURE_READ_ONLY, "read-only" },
		{ WIRE_FEATURE_OWNERSHIP, "ownership" },
		{ WIRE_FEATURE_PRIVATE_POOLS, "private-pools" },
		{ WIRE_FEATURE_CONTEXTS, "contexts" },
		{ WIRE_FEATURE_TEMPORARY, "temporary" },
		{ WIRE_FEATURE_SEALED, "sealed" },
	};
	uint64_t features = broker_features(caller->bus->broker);
	int rc = sd_bus_message_open_container(message, 'v', "as");

	if (rc >= 0)
		rc = sd_bus_message_open_container(message, 'a', "s");
	for (size_t i = 0; rc >= 0 && i < sizeof(names) / sizeof(*names); i++)
		if (features & names[i].bit)
			rc = sd_bus_message_append(message, "s", names[i].name);
	if (rc >= 0)
		rc = sd_bus_message_close_container(message);
	return rc < 0 ? rc : sd_bus_message_close_container(message);
}

static int append_supported(struct bus_caller *caller, sd_bus_message *message)
{
	return sd_bus_message_append(message, "v", "b", broker_has_pool(caller->bus->broker));
}

static int append_connections(struct bus_caller *caller, sd_bus_message *message)
{
	return sd_bus_message_append(message, "v", "u",
				     caller_connections(caller->bus->broker, &caller->caller));
}

/* All but Pools, which comes from the broker in packets. */
static const struct {
	const char *name;
	int (*append)(struct bus_caller *caller, sd_bus_message *message);
} properties[] = {
	{ "Version", append_version },
	{ "Features", append_features },
	{ "Supported", append_supported },
	{ "Connections", append_connections },
};

#define PROPERTIES (sizeof(properties) / sizeof(*properties))

static int open_pools(sd_bus_message *message)
{
	int rc = sd_bus_message_open_container(message, 'v', "a{sv}");

	return rc < 0 ? rc : sd_bus_message_open_container(message, 'a', "{sv}");
}

static int close_pools(sd_bus_message *message)
{
	int rc = sd_bus_message_close_container(message);

	return rc < 0 ? rc : sd_bus_message_close_container(message);
}

/* One pool: its name, with whose it is where it is one of many, and its fields. */
static int append_pool(sd_bus_message *message, const char *record, size_t size)
{
	const char *pool = fields_get(record, size, "pool");
	const char *owner = fields_get(record, size, "owner");
	char text[512], key[4 * sizeof(text)];
	int length;

	length = snprintf(text, sizeof(text), "%s%s%s", pool ? pool : "",
			  owner && *owner ? "/" : "", owner ? owner : "");
	if (length < 0 || sd_bus_message_open_container(message, 'e', "sv") < 0 ||
	    sd_bus_message_append(message, "s", bus_string(key, sizeof(key), text, strlen(text))) <
		    0 ||
	    open_pools(message) < 0 || bus_append_record(message, record, size, pool_types) ||
	    close_pools(message) < 0 || sd_bus_message_close_container(message) < 0)
		return ENOMEM;
	return 0;
}

static int add_pools(struct bus_caller *caller, const struct bus_call *call,
		     const struct reply *reply)
{
	const char *at = (char *)reply->body, *end = at + reply->body_size;
	int error = 0;

	(void)call;
	for (size_t size; error == 0 && at < end; at += size + 1) {
		size = bus_record_size(at, end);
		error = append_pool(caller->answer.message, at, size);
	}
	return error;
}

static int begin_get_all(struct bus_caller *caller, const struct bus_call *call)
{
	sd_bus_message *message = caller->answer.message;
	int rc = sd_bus_message_open_container(message, 'a', "{sv}");

	(void)call;
	for (size_t i = 0; rc >= 0 && i < PROPERTIES; i++) {
		rc = sd_bus_message_open_container(message, 'e', "sv");
		if (rc >= 0)
			rc = sd_bus_message_append(message, "s", properties[i].name);
		if (rc >= 0)
			rc = properties[i].append(caller, message);
		if (rc >= 0)
			rc = sd_bus_message_close_container(message);
	}
	if (rc >= 0)
		rc = sd_bus_message_open_container(message, 'e', "sv");
	if (rc >= 0)
		rc = sd_bus_message_append(message, "s", "Pools");
	if (rc >= 0)
		rc = open_pools(message);
	return rc < 0 ? ENOMEM : 0;
}

static int end_get_all(struct bus_caller *caller, const struct bus_call *call)
{
	sd_bus_message *message = caller->answer.message;

	(void)call;
	if (close_pools(message) < 0 || sd_bus_message_close_container(message) < 0 ||
	    sd_bus_message_close_container(message) < 0)
		return ENOMEM;
	return 0;
}

static int begin_get(struct bus_caller *caller, const struct bus_call *call)
{
	for (size_t i = 0; i < PROPERTIES; i++)
		if (strcmp(properties[i].name, call->request.text) == 0)
			return properties[i].append(caller, caller->answer.message) < 0 ? ENOMEM
											: 0;
	return EINVAL;
}

static int begin_get_pools(struct bus_caller *caller, const struct bus_call *call)
{
	(void)call;
	return open_pools(caller->answer.message) < 0 ? ENOMEM : 0;
}

static int end_get_pools(struct bus_caller *caller, const struct bus_call *call)
{
	(void)call;
	return close_pools(caller->answer.message) < 0 ? ENOMEM : 0;
}

static const struct bus_method get = { "Get", "ss", 0, false, begin_get, NULL, NULL };
static const struct bus_method get_pools = { "Get",	      "ss",	 WIRE_POOLS,   true,
					     begin_get_pools, add_pools, end_get_pools };
static const struct bus_method get_all = { "GetAll",	  "s",	     WIRE_POOLS, true,
					   begin_get_all, add_pools, end_get_all };

const struct bus_method *bus_property_method(const char *name)
{
	if (!name)
		return &get_all;
	for (size_t i = 0; i < PROPERTIES; i++)
		if (strcmp(properties[i].name, name) == 0)
			return &get;
	return strcmp(name, "Pools") == 0 ? &get_pools : NULL;
}
