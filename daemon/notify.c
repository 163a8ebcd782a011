/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Watches the pools' directories. One inotify descriptor for all subscribers, who are told in
 * parts, and one for all who wait, so that nobody's pattern holds those up.
 */
#include "daemon/notify.h"

#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <syslog.h>

#include "daemon/broker_private.h"
#include "daemon/fd.h"
#include "daemon/hash.h"
#include "proto/name.h"

#define APPEARING (IN_CREATE | IN_MOVED_TO)
#define EVENTS (APPEARING | IN_DELETE | IN_MOVED_FROM)

_Static_assert(NOTIFY_READ_BYTES >= sizeof(struct inotify_event) + NAME_MAX + 1,
	       "room for one event");

/*
 * Subscribers that are looked at in one pass of the loop. One whose pattern and the name are long
 * is so much more than one, since he chose both: the longest of brackets take fnmatch(3) a third of
 * a millisecond.
 */
#define LOOKS_MAX 64
#define LOOK_BYTES 1024

/* A directory of an instance. Two pools may have the same one, and then the same number of it. */
struct watched {
	int number_inotify, number_appearing;
	uint32_t number_instance;
	uint64_t event;	 /* of which somebody was told last */
	uint64_t serial; /* of that notification; 0: all have been told */
	LIST_ENTRY(watched) entry;
};

static void notice(struct notify *notify, int priority, const char *text)
{
	const struct broker_edge *edge = notify->broker->edge;

	edge->notice(edge->context, &(struct notice){ .priority = priority, .text = text });
}

static struct watched *find_watched(struct notify *notify, uint32_t number_instance)
{
	struct watched *watched;

	LIST_FOREACH (watched, &notify->watched, entry)
		if (watched->number_instance == number_instance)
			return watched;
	return NULL;
}

/* Takes it off the list; the kernel is told when no other instance has this directory. */
static void forget(struct notify *notify, struct watched *gone)
{
	int number = gone->number_inotify, appearing = gone->number_appearing;
	struct watched *watched;

	LIST_REMOVE(gone, entry);
	free(gone);
	LIST_FOREACH (watched, &notify->watched, entry)
		if (watched->number_inotify == number)
			return;
	inotify_rm_watch(notify->inotify, number);
	inotify_rm_watch(notify->appearing, appearing);
}

static int begin_watching(struct notify *notify, const struct instance *instance)
{
	struct watched *watched = find_watched(notify, instance->number);
	int number, appearing;
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", instance->writable);
	creds_reset(&notify->broker->creds);
	appearing = inotify_add_watch(notify->appearing, path, APPEARING | IN_ONLYDIR);
	/* Who has the broker's own uid, and the pool lent or delegated, may have shut it. */
	if (appearing < 0 && errno == EACCES && instance->was_lent &&
	    fchmod(instance->writable, 01777) == 0)
		appearing = inotify_add_watch(notify->appearing, path, APPEARING | IN_ONLYDIR);
	if (appearing < 0)
		return -errno;
	number = inotify_add_watch(notify->inotify, path, EVENTS | IN_ONLYDIR);
	if (number < 0)
		return -errno;
	if (watched && watched->number_inotify == number)
		return 0;
	if (watched)
		forget(notify, watched);
	watched = malloc(sizeof(*watched));
	if (!watched)
		return -ENOMEM;
	*watched = (struct watched){ .number_inotify = number,
				     .number_appearing = appearing,
				     .number_instance = instance->number };
	LIST_INSERT_HEAD(&notify->watched, watched, entry);
	return 0;
}

void notify_ready(struct notify *notify, const struct instance *instance)
{
	if (notify->inotify < 0 || instance->writable < 0)
		return;
	if (begin_watching(notify, instance) < 0) {
		notify->is_blind = true;
		notice(notify, LOG_WARNING,
		       "a pool can't be watched for subscribers (fs.inotify.max_user_watches)");
	}
	/* What they wait for may be in it already. */
	notify_wake_all(notify);
}

/* One name, and all who wait for it. */
struct awaited {
	LIST_HEAD(, name_wait) waits;
	UT_hash_handle hh;
	char name[];
};

static void wake(struct awaited *awaited)
{
	struct name_wait *wait;

	LIST_FOREACH (wait, &awaited->waits, entry)
		wait->caller->waiter.wake(&wait->caller->waiter);
}

void notify_wake_all(struct notify *notify)
{
	for (struct awaited *awaited = notify->awaited; awaited; awaited = awaited->hh.next)
		wake(awaited);
}

static void wake_for(struct notify *notify, const char *name)
{
	struct awaited *awaited = NULL;

	if (!notify->awaited)
		return;
	HASH_FIND_STR(notify->awaited, name, awaited);
	if (awaited)
		wake(awaited);
}

/* false: there was no time for all of them. */
static bool tell(struct notify *notify, const struct notification *notification, size_t *left)
{
	struct broker *broker = notify->broker;
	struct subscriber *subscriber;
	size_t work;

	LIST_FOREACH (subscriber, &notify->subscribers, entry) {
		if (subscriber->looked == notification->serial)
			continue;
		if (*left == 0)
			return false;
		work = 1 + strlen(subscriber->pattern) * strlen(notification->name) / LOOK_BYTES;
		*left -= work < *left ? work : *left;
		subscriber->looked = notification->serial;
		if (*subscriber->pattern &&
		    fnmatch(subscriber->pattern, notification->name, 0) != 0)
			continue;
		if (caller_refresh(broker, subscriber->caller) == 0 &&
		    caller_may_list(broker, subscriber->caller, notification->instance,
				    notification->name))
			subscriber->told(subscriber, notification);
	}
	return true;
}

/* The kernel has stopped watching it: its file system is gone. */
static void ignored(struct notify *notify, int number)
{
	struct watched *watched, *next;

	for (watched = LIST_FIRST(&notify->watched); watched; watched = next) {
		next = LIST_NEXT(watched, entry);
		if (watched->number_inotify != number)
			continue;
		LIST_REMOVE(watched, entry);
		free(watched);
	}
}

/* false: not all have been told yet. */
static bool happened(struct notify *notify, const struct inotify_event *event, size_t *left)
{
	struct notification notification = {
		.event = event->mask & APPEARING ? NOTIFY_CREATED : NOTIFY_REMOVED,
		.name = event->name,
	};
	struct watched *watched, *next;

	/* Names that can't be an object's are hidden, those that a publication makes first too. */
	if (event->len == 0 || name_check((struct name){ event->name, strlen(event->name) }, false))
		return true;
	for (watched = LIST_FIRST(&notify->watched); watched; watched = next) {
		next = LIST_NEXT(watched, entry);
		if (watched->number_inotify != event->wd)
			continue;
		notification.instance = store_by_number(notify->broker->store,
							watched->number_instance);
		if (!notification.instance) {
			forget(notify, watched);
			continue;
		}
		if (watched->event != notify->event) {
			watched->event = notify->event;
			watched->serial = ++notify->serial;
		}
		notification.serial = watched->serial;
		if (watched->serial && !tell(notify, &notification, left))
			return false;
		watched->serial = 0;
	}
	return true;
}

static void overflowed(struct notify *notify)
{
	struct subscriber *subscriber;

	notice(notify, LOG_WARNING,
	       "subscribers were not told of everything: too much at a time "
	       "(fs.inotify.max_queued_events)");
	LIST_FOREACH (subscriber, &notify->subscribers, entry)
		if (subscriber->missed)
			subscriber->missed(subscriber);
}

static bool has_events(const struct notify *notify)
{
	return notify->at < notify->size;
}

static void go_on(struct notify *notify)
{
	size_t left = LOOKS_MAX;

	while (has_events(notify)) {
		const struct inotify_event *event = (const struct inotify_event *)(notify->events +
										   notify->at);

		if (event->mask & IN_Q_OVERFLOW)
			overflowed(notify);
		else if (event->mask & IN_IGNORED)
			ignored(notify, event->wd);
		else if (!happened(notify, event, &left))
			return;
		notify->event++;
		notify->at += (ssize_t)(sizeof(*event) + event->len);
	}
}

static void inotify_ready(struct watch *watch)
{
	struct notify *notify = (struct notify *)((char *)watch - offsetof(struct notify, watch));
	struct loop *loop = notify->broker->edge->loop;

	if (!has_events(notify)) {
		notify->at = 0;
		notify->size = read(notify->inotify, notify->events, sizeof(notify->events));
		go_on(notify);
	}
	/* Whether more comes or not. */
	if (has_events(notify))
		loop->tick_in(loop, 0);
}

/* A part of it; the loop knows whether there is more. */
static void appearing_ready(struct watch *watch)
{
	struct notify *notify = (struct notify *)((char *)watch -
						  offsetof(struct notify, appearing_watch));
	_Alignas(8) char events[4 * NOTIFY_READ_BYTES];
	ssize_t size = read(notify->appearing, events, sizeof(events));

	for (ssize_t at = 0; at < size;) {
		const struct inotify_event *event = (const struct inotify_event *)(events + at);

		if (event->mask & IN_Q_OVERFLOW)
			notify_wake_all(notify);
		else if (event->len > 0)
			wake_for(notify, event->name);
		at += (ssize_t)(sizeof(*event) + event->len);
	}
}

bool notify_tick(struct notify *notify)
{
	go_on(notify);
	return has_events(notify);
}

/* 0 or -errno. */
static int open_queue(struct loop *loop, struct watch *watch, int *ret)
{
	int error;

	*ret = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (*ret < 0) {
		error = -errno;
		*ret = -EBADF;
		return error;
	}
	error = loop->watch(loop, watch, *ret);
	if (error < 0)
		*ret = fd_close(*ret);
	return error;
}

static void close_queue(struct loop *loop, struct watch *watch, int *fd)
{
	loop->unwatch(loop, watch);
	*fd = fd_close(*fd);
}

/* For the first who subscribes or waits. 0 or -errno. */
static int start(struct notify *notify)
{
	struct broker *broker = notify->broker;
	struct instance *instance = NULL;
	int error;

	notify->watch.ready = inotify_ready;
	notify->appearing_watch.ready = appearing_ready;
	error = open_queue(broker->edge->loop, &notify->appearing_watch, &notify->appearing);
	if (error < 0)
		return error;
	error = open_queue(broker->edge->loop, &notify->watch, &notify->inotify);
	if (error < 0) {
		close_queue(broker->edge->loop, &notify->appearing_watch, &notify->appearing);
		return error;
	}
	while ((instance = store_each(broker->store, instance)))
		notify_ready(notify, instance);
	return 0;
}

static void stop(struct notify *notify)
{
	struct loop *loop = notify->broker->edge->loop;
	struct watched *watched;

	if (notify->inotify < 0)
		return;
	notify->is_blind = false;
	notify->at = notify->size = 0;
	close_queue(loop, &notify->watch, &notify->inotify);
	close_queue(loop, &notify->appearing_watch, &notify->appearing);
	while ((watched = LIST_FIRST(&notify->watched))) {
		LIST_REMOVE(watched, entry);
		free(watched);
	}
}

static void stop_if_idle(struct notify *notify)
{
	if (LIST_EMPTY(&notify->subscribers) && !notify->awaited)
		stop(notify);
}

int notify_subscribe(struct broker *broker, struct subscriber *subscriber)
{
	struct notify *notify = &broker->notify;
	const struct peer *peer = &subscriber->caller->peer;
	const struct quota_limit limit = {
		.total = UINT32_MAX,
		.per_user = broker_limits(broker)->subscriptions_per_user,
	};
	int error;

	error = quota_charge(&broker->quota, &subscriber->charge, RESOURCE_SUBSCRIPTION,
			     peer->ids.uid, peer->sandboxed, &limit);
	if (error < 0)
		return -error;
	error = notify->inotify < 0 ? start(notify) : 0;
	if (error < 0) {
		quota_release(&broker->quota, &subscriber->charge);
		return -error;
	}
	subscriber->looked = notify->serial;
	LIST_INSERT_HEAD(&notify->subscribers, subscriber, entry);
	return 0;
}

void notify_unsubscribe(struct broker *broker, struct subscriber *subscriber)
{
	if (!subscriber->charge.user)
		return;
	LIST_REMOVE(subscriber, entry);
	quota_release(&broker->quota, &subscriber->charge);
	stop_if_idle(&broker->notify);
}

static struct awaited *await(struct notify *notify, const char *name)
{
	struct awaited *awaited = NULL;
	size_t size = strlen(name);

	HASH_FIND_STR(notify->awaited, name, awaited);
	if (awaited)
		return awaited;
	awaited = malloc(sizeof(*awaited) + size + 1);
	if (!awaited)
		return NULL;
	memcpy(awaited->name, name, size + 1);
	LIST_INIT(&awaited->waits);
	HASH_ADD_KEYPTR(hh, notify->awaited, awaited->name, size, awaited);
	if (!HASH_HAS(hh, awaited)) {
		free(awaited);
		return NULL;
	}
	return awaited;
}

int notify_wait(struct broker *broker, struct name_wait *wait)
{
	struct notify *notify = &broker->notify;
	const struct peer *peer = &wait->caller->peer;
	const struct quota_limit limit = { .total = UINT32_MAX,
					   .per_user = broker_limits(broker)->waits_per_user };
	int error;

	error = quota_charge(&broker->quota, &wait->charge, RESOURCE_WAIT, peer->ids.uid,
			     peer->sandboxed, &limit);
	if (error < 0)
		return -error;
	error = notify->inotify < 0 ? start(notify) : 0;
	if (error == 0 && notify->is_blind)
		error = -EOPNOTSUPP;
	if (error == 0) {
		wait->awaited = await(notify, wait->name);
		error = wait->awaited ? 0 : -ENOMEM;
	}
	if (error < 0) {
		quota_release(&broker->quota, &wait->charge);
		stop_if_idle(notify);
		return -error;
	}
	LIST_INSERT_HEAD(&wait->awaited->waits, wait, entry);
	return 0;
}

void notify_unwait(struct broker *broker, struct name_wait *wait)
{
	struct awaited *awaited = wait->awaited;

	if (!awaited)
		return;
	LIST_REMOVE(wait, entry);
	wait->awaited = NULL;
	quota_release(&broker->quota, &wait->charge);
	if (LIST_EMPTY(&awaited->waits)) {
		HASH_DEL(broker->notify.awaited, awaited);
		free(awaited);
	}
	stop_if_idle(&broker->notify);
}

void notify_init(struct notify *notify, struct broker *broker)
{
	*notify = (struct notify){
		.broker = broker, .event = 1, .inotify = -EBADF, .appearing = -EBADF
	};
}

void notify_done(struct notify *notify)
{
	stop(notify);
}
