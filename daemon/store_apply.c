/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Definitions: a configuration's pools are put in the place of those before, all
 * or nothing. What needs the keeper is asked first; only when all of it has
 * gone well do the new definitions count, else each step is taken back.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "daemon/store_private.h"

static int copy_string(char **ret, const char *text)
{
	*ret = NULL;
	if (text && !(*ret = strdup(text)))
		return -ENOMEM;
	return 0;
}

static void config_done(struct pool_config *config)
{
	free(config->name);
	free(config->path);
	free(config->read_only_path);
	free(config->huge);
	free(config->mpol);
}

static int config_copy(struct pool_config *ret, const struct pool_config *config)
{
	*ret = *config;
	ret->place = (struct config_place){ 0 }; /* the file's name is the configuration's */
	ret->name = ret->path = ret->read_only_path = ret->huge = ret->mpol = NULL;
	if (copy_string(&ret->name, config->name) == 0 &&
	    copy_string(&ret->path, config->path) == 0 &&
	    copy_string(&ret->read_only_path, config->read_only_path) == 0 &&
	    copy_string(&ret->huge, config->huge) == 0 &&
	    copy_string(&ret->mpol, config->mpol) == 0)
		return 0;
	config_done(ret);
	return -ENOMEM;
}

static bool same_text(const char *a, const char *b)
{
	return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

/* Whether instances of one can go on as the other's, but for their limits. */
static bool same_kind(const struct pool_config *a, const struct pool_config *b)
{
	return a->kind == b->kind && a->per == b->per && a->exec == b->exec &&
	       same_text(a->path, b->path) && same_text(a->read_only_path, b->read_only_path) &&
	       same_text(a->huge, b->huge) && same_text(a->mpol, b->mpol);
}

static bool same_limits(const struct pool_config *a, const struct pool_config *b)
{
	return a->size_bytes == b->size_bytes && a->objects == b->objects;
}

static const struct pool_config *wanted_config(const struct config *config, const char *name)
{
	for (size_t i = 0; i < config->pool_count; i++)
		if (strcmp(config->pool[i].name, name) == 0)
			return &config->pool[i];
	return NULL;
}

static void refuse(struct store *store, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static void refuse(struct store *store, int error, const char *format, ...)
{
	struct apply *apply = &store->apply;
	va_list arguments;

	if (apply->error)
		return;
	apply->error = error;
	va_start(arguments, format);
	vsnprintf(apply->text, sizeof(apply->text), format, arguments);
	va_end(arguments);
}

static struct pool *pool_new(struct store *store, const struct pool_config *config)
{
	struct pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return NULL;
	if (config_copy(&pool->config, config) < 0) {
		free(pool);
		return NULL;
	}
	TAILQ_INSERT_TAIL(&store->pools, pool, entry);
	return pool;
}

/* The one instance of a pool that is not `per`. */
static void start_single(struct store *store, struct pool *pool)
{
	static const struct owner nobody = { .uid = (uid_t)-1, .text = "" };
	struct instance *instance;

	if (pool->config.per != POOL_PER_NONE || pool->single)
		return;
	instance = instance_new(store, pool, &nobody);
	if (!instance)
		refuse(store, ENOMEM, "no memory for the pool \"%s\"", pool->config.name);
	else
		instance_start(store, instance, true);
}

/* Asks for each instance to have the limits of `config`, which the pool doesn't have yet. */
static void ask_resize(struct store *store, struct pool *pool, const struct pool_config *config,
		       bool for_apply)
{
	struct pool_config before = pool->config;

	pool->config.size_bytes = config->size_bytes;
	pool->config.objects = config->objects;
	for (struct instance *i = pool->instances; i; i = i->hh.next) {
		int error = 0;

		if (i->state == INSTANCE_READY)
			error = instance_ask(store, i, KEEPER_RESIZE, for_apply);
		if (error < 0 && for_apply)
			refuse(store, -error, "the pool \"%s\" can't be resized: %s",
			       pool->config.name, strerror(-error));
	}
	pool->config.size_bytes = before.size_bytes;
	pool->config.objects = before.objects;
}

/* Another kind of pool under the same name: what there is must be empty. */
static void ask_empty(struct store *store, struct pool *pool)
{
	for (struct instance *i = pool->instances; i; i = i->hh.next) {
		if (pool->config.kind != POOL_MADE || i->state == INSTANCE_ABSENT) {
			i->state = INSTANCE_EMPTY; /* nothing of ours is lost */
		} else if (i->state != INSTANCE_READY || i->pins > 0 ||
			   instance_ask(store, i, KEEPER_RELEASE, true) < 0) {
			refuse(store, EBUSY,
			       "the pool \"%s\" is in use: its kind, exec, huge, mpol and per "
			       "can't change meanwhile",
			       pool->config.name);
		} else {
			i->state = INSTANCE_RELEASING;
		}
	}
}

static void prepare(struct store *store, const struct pool_config *wanted)
{
	struct pool *pool = store_pool_by_name(store, wanted->name);

	if (!pool) {
		pool = pool_new(store, wanted);
		if (!pool) {
			refuse(store, ENOMEM, "no memory for the pool \"%s\"", wanted->name);
			return;
		}
		pool->fresh = true;
		start_single(store, pool);
	} else if (!same_kind(&pool->config, wanted)) {
		ask_empty(store, pool);
	} else if (!same_limits(&pool->config, wanted)) {
		ask_resize(store, pool, wanted, true);
	}
}

int store_apply(struct store *store, const struct config *config, bool lenient)
{
	struct pool *pool;

	if (store->apply.running)
		return -EBUSY;
	store->apply = (struct apply){ .config = config, .running = true, .lenient = lenient };
	TAILQ_FOREACH (pool, &store->pools, entry)
		pool->fresh = false;
	for (size_t i = 0; i < config->pool_count && !store->apply.error; i++)
		prepare(store, &config->pool[i]);
	apply_end_if_settled(store);
	return 0;
}

void apply_task_done(struct store *store, struct instance *instance, const struct task *task,
		     const struct keeper_failure *failure)
{
	store->apply.outstanding--;
	/* What can't be made on this machine is absent: that is no reason to refuse the rest. */
	if (failure->error == 0 || !instance ||
	    (task->operation != KEEPER_RESIZE && task->operation != KEEPER_RELEASE))
		return;
	if (task->operation == KEEPER_RESIZE && store->apply.lenient) {
		store_notice(store, LOG_WARNING, "pool \"%s\" keeps its old limits: %s: %s",
			     instance->pool->config.name, failure->step, strerror(failure->error));
		return;
	}
	if (task->operation == KEEPER_RESIZE && failure->error == EINVAL)
		refuse(store, EBUSY, "the pool \"%s\"%s%s uses more than its new size or objects",
		       instance->pool->config.name, *instance->owner_text ? " of " : "",
		       instance->owner_text);
	else if (failure->error == EBUSY)
		refuse(store, EBUSY,
		       "the pool \"%s\"%s%s has objects: its kind, exec, huge, mpol and per can't "
		       "change meanwhile",
		       instance->pool->config.name, *instance->owner_text ? " of " : "",
		       instance->owner_text);
	else
		refuse(store, failure->error, "the pool \"%s\" can't be changed: %s: %s; %s",
		       instance->pool->config.name, failure->step, strerror(failure->error),
		       failure->advice);
}

/* Starts again what was emptied, under the definition that counts now. */
static void restart_empty(struct store *store, struct pool *pool)
{
	struct instance *instance, *next;

	HASH_ITER(hh, pool->instances, instance, next)
	{
		if (instance->state != INSTANCE_EMPTY)
			continue;
		instance_close(instance);
		if (instance == pool->single && pool->config.per == POOL_PER_NONE)
			instance_start(store, instance, false);
		else
			instance_free(store, instance);
	}
	if (pool->config.per == POOL_PER_NONE && !pool->single)
		start_single(store, pool);
}

/* Kept until nobody has anything in it. */
static void pool_close(struct store *store, struct pool *pool)
{
	bool used = false;

	pool->closed = true;
	for (struct instance *i = pool->instances; i; i = i->hh.next)
		used |= i->pins > 0 || pool->config.kind == POOL_MADE;
	if (!used)
		pool_free(store, pool);
}

static void take_back(struct store *store)
{
	struct pool *pool, *next;

	for (pool = TAILQ_FIRST(&store->pools); pool; pool = next) {
		const struct pool_config *wanted = wanted_config(store->apply.config,
								 pool->config.name);

		next = TAILQ_NEXT(pool, entry);
		if (pool->fresh) {
			/* New, so nobody has anything in it: the keeper lets it go. */
			for (struct instance *i = pool->instances; i; i = i->hh.next)
				i->idle_ms = 0;
			pool_close(store, pool);
			continue;
		}
		restart_empty(store, pool);
		if (wanted && same_kind(&pool->config, wanted) &&
		    !same_limits(&pool->config, wanted))
			ask_resize(store, pool, &pool->config, false);
	}
}

static void commit_pool(struct store *store, struct pool *pool, const struct pool_config *wanted)
{
	struct pool_config fresh;
	bool per_changes = pool->config.per != wanted->per;

	if (config_copy(&fresh, wanted) < 0) {
		store_notice(store, LOG_ERR, "no memory: pool \"%s\" keeps its definition",
			     pool->config.name);
		return;
	}
	config_done(&pool->config);
	pool->config = fresh;
	pool->closed = false;
	if (per_changes)
		pool->single = NULL;
	for (struct instance *i = pool->instances; i; i = i->hh.next)
		if (i->state == INSTANCE_READY && fresh.kind == POOL_MADE)
			i->limit_bytes = fresh.size_bytes;
	restart_empty(store, pool);
}

static int commit(struct store *store)
{
	const struct config *config = store->apply.config;
	struct pool **by_index = calloc(config->pool_count + 1, sizeof(*by_index));
	struct pool *pool, *next;

	if (!by_index)
		return -ENOMEM;
	for (pool = TAILQ_FIRST(&store->pools); pool; pool = next) {
		const struct pool_config *wanted = wanted_config(config, pool->config.name);

		next = TAILQ_NEXT(pool, entry);
		if (wanted) {
			commit_pool(store, pool, wanted);
			by_index[wanted - config->pool] = pool;
		} else {
			pool_close(store, pool);
		}
	}
	free(store->by_index);
	store->by_index = by_index;
	store->index_count = config->pool_count;
	return 0;
}

void apply_end_if_settled(struct store *store)
{
	struct apply *apply = &store->apply;

	if (!apply->running || apply->outstanding > 0)
		return;
	if (!apply->error && commit(store) < 0)
		refuse(store, ENOMEM, "no memory for the new pools");
	if (apply->error)
		take_back(store);
	apply->running = false;
	store->events->applied(store->events->context, -apply->error, apply->text);
}
