/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A reply that doesn't end: objects that appear and vanish, and for the administrator requests that
 * are denied. What can't be delivered in time is counted, and nobody waits for who watches.
 */
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/broker_private.h"

/* Some hundred records that nobody has read. */
#define QUEUE_BYTES (16 * 1024)

struct monitor {
	struct subscriber subscriber;
	struct broker *broker;
	struct reply queue; /* nothing but its body is used */
	uint64_t lost;
	LIST_ENTRY(monitor) entry;
	unsigned char body[QUEUE_BYTES];
	char pattern[]; /* "": all names */
};

static const char *event_text(enum notify_event event)
{
	return event == NOTIFY_CREATED ? "created" : "removed";
}

/* The record that was begun at `before` is whole, or is none. */
static void end_record(struct monitor *monitor, size_t before, bool whole)
{
	struct waiter *waiter = &monitor->subscriber.caller->waiter;

	if (!whole || !reply_record_end(&monitor->queue)) {
		monitor->queue.body_size = before;
		monitor->lost++;
	}
	waiter->wake(waiter);
}

/* The room of a reply's body is more than ours. */
static bool has_room(const struct monitor *monitor)
{
	return monitor->queue.body_size + MONITOR_RECORD_MAX <= QUEUE_BYTES;
}

static void told(struct subscriber *subscriber, const struct notification *notification)
{
	struct monitor *monitor = subscriber->context;
	const struct instance *instance = notification->instance;
	struct reply *queue = &monitor->queue;
	size_t before = queue->body_size;
	bool whole;

	whole = has_room(monitor) &&
		reply_field(queue, "event", "%s", event_text(notification->event)) &&
		reply_field(queue, "pool", "%s", instance->pool->config.name) &&
		reply_field(queue, "owner", "%s", instance->owner_text) &&
		reply_field(queue, "name", "%s", notification->name);
	end_record(monitor, before, whole);
}

static void missed(struct subscriber *subscriber)
{
	struct monitor *monitor = subscriber->context;

	end_record(monitor, monitor->queue.body_size, false);
}

static void tell_denied(struct monitor *monitor, const struct caller *caller,
			const struct reply *reply)
{
	const struct outcome *outcome = &monitor->broker->outcome;
	struct reply *queue = &monitor->queue;
	size_t before = queue->body_size;
	bool whole;

	whole = has_room(monitor) && reply_field(queue, "event", "denied") &&
		reply_field(queue, "pool", "%s", outcome->pool) &&
		reply_field_bytes(queue, "name", outcome->name ? outcome->name : "",
				  outcome->name_size < WIRE_NAME_MAX ? outcome->name_size
								     : WIRE_NAME_MAX) &&
		reply_field(queue, "uid", "%u", caller->peer.ids.uid) &&
		reply_field(queue, "pid", "%d", (int)caller->peer.pid) &&
		reply_field(queue, "unit", "%s", caller->peer.unit) &&
		reply_field(queue, "app", "%s", caller->peer.app) &&
		reply_field(queue, "rule", "%s",
			    outcome->rule ? outcome->rule->config->name : "") &&
		reply_field(queue, "reason", "%.*s", (int)reply->body_size,
			    (const char *)reply->body);
	end_record(monitor, before, whole);
}

static bool fits(const struct monitor *monitor, const struct outcome *outcome)
{
	return !*monitor->pattern ||
	       (outcome->name && fnmatch(monitor->pattern, outcome->name, 0) == 0);
}

void monitors_denied(struct broker *broker, const struct caller *caller, const struct reply *reply)
{
	struct monitor *monitor;

	LIST_FOREACH (monitor, &broker->monitors, entry)
		if (fits(monitor, &broker->outcome))
			tell_denied(monitor, caller, reply);
}

void monitor_free(struct monitor *monitor)
{
	struct caller *caller = monitor->subscriber.caller;

	notify_unsubscribe(monitor->broker, &monitor->subscriber);
	if (caller->is_admin)
		LIST_REMOVE(monitor, entry);
	free(monitor);
}

int monitor_new(struct monitor **ret, struct broker *broker, struct caller *caller,
		const char *pattern, size_t size)
{
	struct monitor *monitor = calloc(1, sizeof(*monitor) + size + 1);
	int error;

	if (!monitor)
		return ENOMEM;
	memcpy(monitor->pattern, pattern, size);
	monitor->broker = broker;
	monitor->queue.body = monitor->body;
	monitor->subscriber = (struct subscriber){
		.caller = caller,
		.pattern = monitor->pattern,
		.told = told,
		.missed = missed,
		.context = monitor,
	};
	error = notify_subscribe(broker, &monitor->subscriber);
	if (error) {
		free(monitor);
		return error;
	}
	if (caller->is_admin)
		LIST_INSERT_HEAD(&broker->monitors, monitor, entry);
	*ret = monitor;
	return 0;
}

bool monitor_take(struct monitor *monitor, struct reply *reply)
{
	struct reply *queue = &monitor->queue;

	if (queue->body_size == 0 && monitor->lost == 0)
		return false;
	reply_append(reply, queue->body, queue->body_size);
	queue->body_size = 0;
	if (monitor->lost > 0) {
		reply_field(reply, "event", "lost");
		reply_field(reply, "count", "%llu", (unsigned long long)monitor->lost);
		reply_record_end(reply);
	}
	monitor->lost = 0;
	return true;
}
