/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Subscriptions of callers on the bus: each is sent its own signals, nobody else's. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "daemon/bus_private.h"
#include "daemon/log.h"

struct subscription {
	struct subscriber subscriber;
	LIST_ENTRY(subscription) entry;
	char pattern[];
};

/* false: it could not be sent. */
static bool send_signal(struct bus_caller *caller, const struct notification *notification)
{
	const char *pool = notification->instance->pool->config.name;
	char pool_buffer[4 * 64 + 1], name[1 + WIRE_NAME_MAX + 1] = "/";
	sd_bus_message *signal = NULL;
	bool is_sent;

	strncat(name, notification->name, WIRE_NAME_MAX);
	is_sent = sd_bus_message_new_signal(caller->bus->sd, &signal, BUS_PATH, BUS_NAME,
					    notification->event == NOTIFY_CREATED
						    ? "ObjectCreated"
						    : "ObjectRemoved") >= 0 &&
		  sd_bus_message_set_destination(signal, caller->name) >= 0 &&
		  sd_bus_message_append(
			  signal, "ss",
			  bus_string(pool_buffer, sizeof(pool_buffer), pool, strlen(pool)),
			  name) >= 0 &&
		  sd_bus_send(NULL, signal, NULL) >= 0;
	sd_bus_message_unref(signal);
	bus_update(caller->bus);
	return is_sent;
}

static void told(struct subscriber *subscriber, const struct notification *notification)
{
	struct bus_caller *caller = subscriber->context;
	struct bus *bus = caller->bus;

	/* Once, however many of its patterns it fits. */
	if (caller->told_serial == notification->serial ||
	    !bus_is_utf8(notification->name, strlen(notification->name)))
		return;
	caller->told_serial = notification->serial;
	if (!bus_is_full(bus) && send_signal(caller, notification))
		return;
	if (!bus->told_full)
		log_line(LOG_WARNING, "the bus takes no more: subscribers miss signals");
	bus->told_full = true;
}

int bus_subscribe(struct bus_caller *caller, const char *pattern, size_t size)
{
	struct subscription *subscription = calloc(1, sizeof(*subscription) + size + 1);
	int error;

	if (!subscription)
		return ENOMEM;
	memcpy(subscription->pattern, pattern, size);
	subscription->subscriber.caller = &caller->caller;
	subscription->subscriber.pattern = subscription->pattern;
	subscription->subscriber.told = told;
	subscription->subscriber.context = caller;
	error = notify_subscribe(caller->bus->broker, &subscription->subscriber);
	if (error) {
		free(subscription);
		return error;
	}
	LIST_INSERT_HEAD(&caller->subscriptions, subscription, entry);
	return 0;
}

void bus_unsubscribe_last(struct bus_caller *caller)
{
	struct subscription *subscription = LIST_FIRST(&caller->subscriptions);

	LIST_REMOVE(subscription, entry);
	notify_unsubscribe(caller->bus->broker, &subscription->subscriber);
	free(subscription);
}

void bus_unsubscribe(struct bus_caller *caller)
{
	while (!LIST_EMPTY(&caller->subscriptions))
		bus_unsubscribe_last(caller);
}
