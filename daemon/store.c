/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Instances of pools: made on demand, found by their owner, released when they
 * are empty. Called by the broker for requests and by the loop for the keeper.
 */
#include "daemon/store.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "daemon/fd.h"
#include "daemon/store_private.h"
#include "proto/protocol.h"

/* How long a pool made on demand is left alone before its release is tried, and at most so after
 * failures. */
#define IDLE_MS 5000
#define IDLE_MAX_MS 60000

/* uid and text: the longest owner is a unit, a file name. */
#define KEY_MAX (sizeof(uid_t) + 256)

void store_notice(struct store *store, int priority, const char *format, ...)
{
	char text[1024];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	store->events->notice(store->events->context,
			      &(struct notice){ .priority = priority, .text = text });
}

void instance_notice(struct store *store, const struct instance *instance, enum notice_kind kind,
		     int priority, const char *format, ...)
{
	struct notice notice = { .kind = kind,
				 .priority = priority,
				 .pool = instance->pool->config.name,
				 .owner = instance->owner_text };
	char text[1024];
	va_list arguments;
	int used;

	used = snprintf(text, sizeof(text), "pool \"%s\"%s%s ", notice.pool,
			*notice.owner ? " of " : "", notice.owner);
	if (used < 0 || (size_t)used >= sizeof(text))
		used = 0;
	va_start(arguments, format);
	vsnprintf(text + used, sizeof(text) - (size_t)used, format, arguments);
	va_end(arguments);
	notice.text = text;
	store->events->notice(store->events->context, &notice);
}

static size_t owner_key(char *key, const struct owner *owner)
{
	size_t size = strnlen(owner->text, KEY_MAX - sizeof(owner->uid));

	memcpy(key, &owner->uid, sizeof(owner->uid));
	memcpy(key + sizeof(owner->uid), owner->text, size);
	return sizeof(owner->uid) + size;
}

static char *owner_text(const struct owner *owner)
{
	char *text;
	int rc;

	if (owner->uid == (uid_t)-1)
		return strdup(owner->text);
	rc = *owner->text ? asprintf(&text, "%u:%s", owner->uid, owner->text)
			  : asprintf(&text, "%u", owner->uid);
	return rc < 0 ? NULL : text;
}

struct instance *instance_new(struct store *store, struct pool *pool, const struct owner *owner)
{
	char key[KEY_MAX];
	size_t size = owner_key(key, owner);
	struct instance *instance = calloc(1, sizeof(*instance) + size);

	if (!instance)
		return NULL;
	memcpy(instance->key, key, size);
	instance->key_size = size;
	instance->owner_text = owner_text(owner);
	if (instance->owner_text)
		HASH_ADD_KEYPTR(hh, pool->instances, instance->key, instance->key_size, instance);
	if (!HASH_HAS(hh, instance)) {
		free(instance->owner_text);
		free(instance);
		return NULL;
	}
	instance->pool = pool;
	instance->number = ++store->last_number;
	instance->owner_uid = owner->uid;
	instance->alone = pool->config.alone;
	instance->writable = instance->read_only = instance->mount = -EBADF;
	instance->idle_ms = IDLE_MS;
	instance->last_used_ms = store->now_ms;
	TAILQ_INIT(&instance->waiters);
	TAILQ_INSERT_TAIL(&store->instances, instance, entry);
	if (pool->config.per == POOL_PER_NONE)
		pool->single = instance;
	return instance;
}

void store_wake(struct instance *instance)
{
	struct waiter *waiter;

	while ((waiter = TAILQ_FIRST(&instance->waiters))) {
		store_unwait(waiter);
		waiter->wake(waiter);
	}
}

void instance_close(struct instance *instance)
{
	instance->writable = fd_close(instance->writable);
	instance->read_only = fd_close(instance->read_only);
	instance->mount = fd_close(instance->mount);
	instance->why = (struct keeper_failure){ 0 };
}

void instance_free(struct store *store, struct instance *instance)
{
	struct pool *pool = instance->pool;

	store_wake(instance);
	instance_close(instance);
	HASH_DELETE(hh, pool->instances, instance);
	TAILQ_REMOVE(&store->instances, instance, entry);
	if (pool->single == instance)
		pool->single = NULL;
	quota_release(store->quota, &instance->charge);
	free(instance->owner_text);
	free(instance);
}

void store_wait(struct instance *instance, struct waiter *waiter)
{
	store_unwait(waiter);
	waiter->instance = instance;
	TAILQ_INSERT_TAIL(&instance->waiters, waiter, entry);
}

void store_unwait(struct waiter *waiter)
{
	if (!waiter->instance)
		return;
	TAILQ_REMOVE(&waiter->instance->waiters, waiter, entry);
	waiter->instance = NULL;
}

int instance_ask(struct store *store, struct instance *instance, enum keeper_operation operation,
		 bool for_apply)
{
	const struct pool_config *config = &instance->pool->config;
	struct keeper_request request = {
		.operation = operation,
		.number = instance->number,
		.size_bytes = instance_size(instance),
		.objects = config->objects,
		.exec = config->exec,
		.huge = config->huge,
		.mpol = config->mpol,
		.path = config->kind == POOL_GIVEN ? config->read_only_path : config->path,
	};
	struct task *task = calloc(1, sizeof(*task));
	int error;

	if (!task)
		return -ENOMEM;
	*task = (struct task){ .id = ++store->last_task,
			       .number = instance->number,
			       .operation = operation,
			       .for_apply = for_apply };
	request.id = task->id;
	if (operation == KEEPER_RELEASE)
		instance_prepare_release(store, instance);
	error = keeper_send(store->keeper, &request);
	if (error < 0) {
		free(task);
		return error;
	}
	if (operation == KEEPER_MAKE || operation == KEEPER_RESIZE) {
		instance->asked_bytes = request.size_bytes;
		instance->asked_objects = config->objects;
	}
	TAILQ_INSERT_TAIL(&store->tasks, task, entry);
	if (for_apply)
		store->apply.outstanding++;
	return 0;
}

void instance_resume(struct instance *instance)
{
	instance->state = INSTANCE_READY;
	store_wake(instance);
}

/* They may have changed while the keeper was at it. */
void instance_conform(struct store *store, struct instance *instance, bool for_apply)
{
	const struct pool_config *config = &instance->pool->config;

	if (store->apply.phase == APPLY_ASKING || instance->state != INSTANCE_READY ||
	    config->kind != POOL_MADE ||
	    (instance->asked_bytes == instance_size(instance) &&
	     instance->asked_objects == config->objects))
		return;
	instance->limit_bytes = config->size_bytes;
	if (instance_ask(store, instance, KEEPER_RESIZE, for_apply) < 0)
		store_notice(store, LOG_ERR, "pool \"%s\" keeps its old limits: no keeper",
			     config->name);
}

/* Nobody has anything in it any more. */
static void let_go(struct store *store, struct instance *instance)
{
	struct pool *pool = instance->pool;

	/* Its definition came back while the keeper was at it: this one isn't made on demand. */
	if (!pool->closed && pool->single == instance) {
		instance_close(instance);
		instance_start(store, instance, false);
		return;
	}
	instance_notice(store, instance, NOTICE_POOL_RELEASED, LOG_INFO,
			"is empty and was released");
	instance_free(store, instance);
	/* It may be about to be configured again. */
	if (!pool->closed || pool->instances || pool->has_next)
		return;
	if (!pool->never_configured && !pool->dropped)
		store_notice(store, LOG_NOTICE, "pool \"%s\", no longer configured, is gone",
			     pool->config.name);
	pool_free(store, pool);
}

static void released(struct store *store, struct instance *instance, const struct task *task,
		     const struct keeper_failure *failure)
{
	struct pool *pool = instance->pool;

	if (failure->error) {
		/* In use: EBUSY. It goes on as if nothing had been asked. */
		instance->state = INSTANCE_READY;
		instance->last_used_ms = store->now_ms;
		instance->idle_ms = instance->idle_ms * 2 < IDLE_MAX_MS ? instance->idle_ms * 2
									: IDLE_MAX_MS;
		store_wake(instance);
		instance_conform(store, instance, false);
		if (failure->error != EBUSY)
			instance_notice(store, instance, NOTICE_PLAIN, LOG_ERR,
					"can't be released: %s: %s; %s", failure->step,
					strerror(failure->error), failure->advice);
		return;
	}
	if (task->for_apply && pool->changing) {
		instance_close(instance);
		instance->state = INSTANCE_EMPTY;
		return;
	}
	let_go(store, instance);
}

/* Of limits that nobody waits for: a reload has been told already how it went. */
static void resized(struct store *store, struct instance *instance, const struct task *task,
		    const struct keeper_failure *failure)
{
	if (failure->error == 0)
		return;
	/* It hasn't what it was asked to have: the next who looks asks again. */
	instance->asked_bytes = 0;
	if (task->for_apply && store->apply.phase != APPLY_UNDOING)
		return;
	instance_notice(store, instance, NOTICE_PLAIN, LOG_WARNING,
			"keeps its limits for now: %s: %s; %s", failure->step,
			strerror(failure->error), failure->advice);
}

static struct task *task_steal(struct store *store, uint64_t id)
{
	struct task *task;

	TAILQ_FOREACH (task, &store->tasks, entry) {
		if (task->id == id) {
			TAILQ_REMOVE(&store->tasks, task, entry);
			return task;
		}
	}
	return NULL;
}

static void answered(struct store *store, struct keeper_reply *reply)
{
	struct task *task = task_steal(store, reply->id);
	struct instance *instance;

	if (!task)
		return;
	instance = store_by_number(store, task->number);
	if (task->operation == KEEPER_RELEASE && reply->failure.error == 0)
		instance_forget(store, task->number);
	if (instance) {
		switch (task->operation) {
		case KEEPER_MAKE:
		case KEEPER_FIND:
			instance_made(store, instance, reply);
			break;
		case KEEPER_TWIN:
			instance_twinned(store, instance, reply);
			break;
		case KEEPER_RELEASE:
			released(store, instance, task, &reply->failure);
			break;
		case KEEPER_LEND:
			instance_cloned(instance, reply);
			break;
		case KEEPER_RESIZE:
			if (!aside_answered(store, instance, task, &reply->failure))
				resized(store, instance, task, &reply->failure);
			break;
		}
	}
	if (task->for_apply)
		apply_task_done(store, store_by_number(store, task->number), task, &reply->failure);
	free(task);
}

int store_dispatch(struct store *store, uint64_t now_ms)
{
	struct keeper_reply reply;
	int rc;

	store->now_ms = now_ms;
	while ((rc = keeper_receive(store->keeper, &reply)) > 0) {
		answered(store, &reply);
		fd_close(reply.writable);
		fd_close(reply.read_only);
	}
	apply_end_if_settled(store);
	return rc;
}

bool instance_is_releasable(const struct instance *instance)
{
	const struct pool *pool = instance->pool;

	return instance->pins == 0 && TAILQ_EMPTY(&instance->waiters) &&
	       (pool->closed || pool->config.per != POOL_PER_NONE);
}

uint64_t store_tick(struct store *store, uint64_t now_ms)
{
	struct instance *instance, *next;
	uint64_t soonest = 0;

	store->now_ms = now_ms;
	for (instance = TAILQ_FIRST(&store->instances); instance; instance = next) {
		uint64_t due = instance->last_used_ms + instance->idle_ms;

		next = TAILQ_NEXT(instance, entry);
		if (!instance_is_releasable(instance) || store->apply.phase != APPLY_NONE)
			continue;
		if (due <= now_ms && (instance->state == INSTANCE_ABSENT ||
				      instance->pool->config.kind != POOL_MADE)) {
			let_go(store, instance); /* the next request tries again */
			continue;
		}
		if (instance->state == INSTANCE_READY && due <= now_ms &&
		    instance_ask(store, instance, KEEPER_RELEASE, false) == 0) {
			instance->state = INSTANCE_RELEASING;
			continue;
		}
		due = due > now_ms ? due - now_ms : 1000;
		if (soonest == 0 || due < soonest)
			soonest = due;
	}
	return soonest;
}

struct pool *store_pool(struct store *store, size_t index)
{
	return index < store->index_count ? store->by_index[index] : NULL;
}

struct pool *store_pool_by_name(struct store *store, const char *name)
{
	struct pool *pool;

	TAILQ_FOREACH (pool, &store->pools, entry)
		if (!pool->dropped && strcmp(pool->config.name, name) == 0)
			return pool;
	return NULL;
}

struct pool_list *store_pools(struct store *store)
{
	return &store->pools;
}

int store_owner(struct owner *ret, const struct pool *pool, const struct peer *peer,
		const struct peer_self *self)
{
	*ret = (struct owner){ .uid = (uid_t)-1, .text = "" };
	switch (pool->config.per) {
	case POOL_PER_NONE:
		return 0;
	case POOL_PER_USER:
		if (peer->ids.uid == self->overflow_uid)
			return EACCES;
		ret->uid = peer->ids.uid;
		return 0;
	case POOL_PER_APP:
		if (!*peer->app || peer->maker.uid == self->overflow_uid)
			return EACCES;
		ret->uid = peer->maker.uid;
		ret->text = peer->app;
		return 0;
	case POOL_PER_UNIT:
		if (!*peer->unit)
			return EACCES;
		ret->text = peer->unit;
		return 0;
	}
	return EACCES;
}

const char *store_per(const struct pool *pool)
{
	static const char *const texts[] = { [POOL_PER_NONE] = "",
					     [POOL_PER_USER] = "user",
					     [POOL_PER_APP] = "app",
					     [POOL_PER_UNIT] = "unit" };

	return texts[pool->config.per];
}

struct instance *store_find(struct pool *pool, const struct owner *owner)
{
	struct instance *instance = pool->single;
	char key[KEY_MAX];

	if (pool->config.per == POOL_PER_NONE)
		return instance;
	HASH_FIND(hh, pool->instances, key, owner_key(key, owner), instance);
	return instance;
}

int store_get(struct store *store, struct pool *pool, const struct owner *owner, uint64_t now_ms,
	      const struct config_limits *limits, struct instance **ret)
{
	struct instance *instance = store_find(pool, owner);
	const struct quota_limit limit = { .total = limits->pools,
					   .per_user = owner->uid == (uid_t)-1
							       ? limits->pools
							       : limits->pools_per_user };
	struct charge charge = { 0 };
	int error;

	if (instance) {
		/* An absent one is tried again, however often it is asked for. */
		if (instance->state != INSTANCE_ABSENT)
			instance->last_used_ms = now_ms;
		instance->idle_ms = IDLE_MS;
		*ret = instance;
		return 0;
	}
	store->now_ms = now_ms;
	error = quota_charge(store->quota, &charge, RESOURCE_POOL, owner->uid, false, &limit);
	if (error < 0)
		return error == -ENOMEM ? ENOMEM : EDQUOT;
	instance = instance_new(store, pool, owner);
	if (!instance) {
		quota_release(store->quota, &charge);
		return ENOMEM;
	}
	instance->charge = charge;
	/* Of which kind it will be is known when the new definition counts, or doesn't. */
	if (pool->changing)
		instance->state = INSTANCE_EMPTY;
	else
		instance_start(store, instance, false);
	*ret = instance;
	return 0;
}

struct instance *store_each(struct store *store, struct instance *before)
{
	return before ? TAILQ_NEXT(before, entry) : TAILQ_FIRST(&store->instances);
}

struct instance *store_next(struct store *store, uint32_t after)
{
	struct instance *instance;

	TAILQ_FOREACH (instance, &store->instances, entry)
		if (instance->number > after)
			return instance;
	return NULL;
}

struct instance *store_by_number(struct store *store, uint32_t number)
{
	struct instance *instance;

	TAILQ_FOREACH (instance, &store->instances, entry)
		if (instance->number == number)
			return instance;
	return NULL;
}

void pool_free(struct store *store, struct pool *pool)
{
	struct instance *instance, *next;

	HASH_ITER(hh, pool->instances, instance, next)
	{
		instance_free(store, instance);
	}
	TAILQ_REMOVE(&store->pools, pool, entry);
	pool_config_done(&pool->config);
	if (pool->has_next)
		pool_config_done(&pool->next);
	free(pool);
}

int store_new(struct store **ret, const struct store_setup *setup)
{
	struct store *store = calloc(1, sizeof(*store));

	if (!store)
		return -ENOMEM;
	store->keeper = setup->keeper;
	store->state = setup->state;
	store->quota = setup->quota;
	store->events = setup->events;
	store->validity = VALIDITY_NONE;
	TAILQ_INIT(&store->pools);
	TAILQ_INIT(&store->instances);
	TAILQ_INIT(&store->tasks);
	*ret = store;
	return 0;
}

void store_free(struct store *store)
{
	struct pool *pool;
	struct task *task;

	if (!store)
		return;
	while ((pool = TAILQ_FIRST(&store->pools)))
		pool_free(store, pool);
	while ((task = TAILQ_FIRST(&store->tasks))) {
		TAILQ_REMOVE(&store->tasks, task, entry);
		free(task);
	}
	validity_done(&store->validity);
	free(store->by_index);
	free(store->apply.by_index);
	free(store);
}
