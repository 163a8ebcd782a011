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

void pool_config_done(struct pool_config *config)
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
	pool_config_done(ret);
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

struct pool *pool_new(struct store *store, const struct pool_config *config)
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
void start_single(struct store *store, struct pool *pool)
{
	static const struct owner nobody = { .uid = (uid_t)-1, .text = "" };
	struct instance *instance;

	if (pool->config.per != POOL_PER_NONE || pool->single)
		return;
	instance = instance_new(store, pool, &nobody);
	if (!instance)
		refuse(store, ENOMEM, "no memory for the pool \"%s\"", pool->config.name);
	else
		instance_start(store, instance, store->apply.phase == APPLY_ASKING);
}

/* At the start nothing is refused: a pool that uses more goes on with what it had. */
static void keep_limits(struct store *store, struct pool *pool, const char *why)
{
	if (same_limits(&pool->next, &pool->config))
		return; /* said already, of another instance */
	store_notice(store, LOG_WARNING,
		     "pool \"%s\" keeps its old limits until the configuration is loaded again: %s",
		     pool->config.name, why);
	pool->next.size_bytes = pool->config.size_bytes;
	pool->next.objects = pool->config.objects;
}

/* What the keeper is at already is waited for, too. */
static void adopt_task(struct store *store, const struct instance *instance)
{
	struct task *task;

	TAILQ_FOREACH (task, &store->tasks, entry) {
		if (task->number != instance->number || task->for_apply)
			continue;
		task->for_apply = true;
		store->apply.outstanding++;
	}
}

/* Asks for it to have the limits that its pool is to have. */
static void ask_resize(struct store *store, struct instance *instance)
{
	struct pool_config *config = &instance->pool->config;
	struct pool_config before = *config;
	int error = 0;

	switch (instance->state) {
	case INSTANCE_MAKING:
	case INSTANCE_RELEASING:
		/* Only then can it be told whether they are enough. */
		adopt_task(store, instance);
		break;
	case INSTANCE_READY:
		if (instance->pool->next.size_bytes < instance->aside_bytes &&
		    store->apply.lenient) {
			keep_limits(store, instance->pool,
				    "its sealed objects have more than the new size");
			break;
		}
		if (instance->pool->next.size_bytes < instance->aside_bytes) {
			refuse(store, EBUSY,
			       "the sealed objects of the pool \"%s\"%s%s have more than its new "
			       "size",
			       config->name, *instance->owner_text ? " of " : "",
			       instance->owner_text);
			break;
		}
		/* It comes back with the next delegation, if there is room for it. */
		store_end_waypoint(store, instance);
		config->size_bytes = instance->pool->next.size_bytes;
		config->objects = instance->pool->next.objects;
		error = instance_ask(store, instance, KEEPER_RESIZE, true);
		config->size_bytes = before.size_bytes;
		config->objects = before.objects;
		break;
	case INSTANCE_EMPTY:
	case INSTANCE_ABSENT:
		break;
	}
	if (error < 0)
		refuse(store, -error, "the pool \"%s\" can't be resized: %s", config->name,
		       strerror(-error));
}

/* At the start nothing is refused: a pool in use goes on as what it was. */
static void keep_kind(struct store *store, struct pool *pool)
{
	struct pool_config config;

	if (same_kind(&pool->next, &pool->config))
		return; /* said already, of another instance */
	if (config_copy(&config, &pool->config) < 0) {
		refuse(store, ENOMEM, "no memory for the pool \"%s\"", pool->config.name);
		return;
	}
	store_notice(
		store, LOG_WARNING,
		"the pool \"%s\" has objects or is lent: its kind, exec, huge, mpol and per stay "
		"as they were until it is empty and the configuration is loaded again",
		pool->config.name);
	config.access = pool->next.access;
	pool_config_done(&pool->next);
	pool->next = config;
}

/* It is about to be another kind of pool: nobody may have anything in it. */
static void ask_empty(struct store *store, struct instance *instance)
{
	const char *name = instance->pool->config.name;

	if (instance->pins > 0 && store->apply.lenient) {
		keep_kind(store, instance->pool);
		return;
	}
	if (instance->pins > 0) {
		refuse(store, EBUSY,
		       "the pool \"%s\"%s%s is lent, or has temporary, sealed or unpublished "
		       "objects: its kind, path, exec, huge, mpol and per can't change meanwhile",
		       name, *instance->owner_text ? " of " : "", instance->owner_text);
		return;
	}
	switch (instance->state) {
	case INSTANCE_ABSENT:
	case INSTANCE_EMPTY:
		break;
	case INSTANCE_MAKING:
	case INSTANCE_RELEASING:
		adopt_task(store, instance);
		break;
	case INSTANCE_READY:
		if (instance->pool->config.kind != POOL_MADE) {
			/* A directory of the machine's: nothing in it is lost. */
			instance->state = INSTANCE_EMPTY;
		} else if (instance_ask(store, instance, KEEPER_RELEASE, true) == 0) {
			instance->state = INSTANCE_RELEASING;
		} else {
			refuse(store, EPIPE, "the pool \"%s\" can't be changed: no keeper", name);
		}
	}
}

/* What could not be had may be there by now. */
static void ask_again(struct store *store, struct pool *pool)
{
	struct instance *instance = pool->single;

	if (!instance)
		return;
	if (instance->state == INSTANCE_ABSENT)
		instance_start(store, instance, true);
	else if (instance->state == INSTANCE_READY && instance->read_only < 0)
		/* Without it nothing changes. */
		instance_ask(store, instance, KEEPER_TWIN, true);
}

static void prepare_change(struct store *store, struct pool *pool, const struct pool_config *wanted)
{
	if (config_copy(&pool->next, wanted) < 0) {
		refuse(store, ENOMEM, "no memory for the pool \"%s\"", wanted->name);
		return;
	}
	pool->has_next = true;
	if (!same_kind(&pool->config, wanted)) {
		pool->changing = true;
		for (struct instance *i = pool->instances; i; i = i->hh.next)
			ask_empty(store, i);
		return;
	}
	for (struct instance *i = pool->instances; i; i = i->hh.next)
		if (!same_limits(&pool->config, &pool->next))
			ask_resize(store, i);
	ask_again(store, pool);
}

static void prepare(struct store *store, const struct pool_config *wanted)
{
	struct pool *pool = store_pool_by_name(store, wanted->name);

	if (pool) {
		prepare_change(store, pool, wanted);
	} else {
		pool = pool_new(store, wanted);
		if (!pool) {
			refuse(store, ENOMEM, "no memory for the pool \"%s\"", wanted->name);
			return;
		}
		pool->fresh = true;
		start_single(store, pool);
	}
	store->apply.by_index[wanted - store->apply.config->pool] = pool;
}

int store_apply(struct store *store, const struct config *config, bool lenient)
{
	if (store->apply.phase != APPLY_NONE)
		return -EBUSY;
	store->apply = (struct apply){
		.config = config,
		.phase = APPLY_ASKING,
		.lenient = lenient,
		.by_index = calloc(config->pool_count + 1, sizeof(struct pool *)),
	};
	if (!store->apply.by_index)
		refuse(store, ENOMEM, "no memory for the new pools");
	for (size_t i = 0; i < config->pool_count && !store->apply.error; i++)
		prepare(store, &config->pool[i]);
	apply_end_if_settled(store);
	return 0;
}

static void refuse_for(struct store *store, const struct instance *instance,
		       const struct task *task, const struct keeper_failure *failure)
{
	const char *name = instance->pool->config.name, *owner = instance->owner_text;
	const char *of = *owner ? " of " : "";

	if (task->operation == KEEPER_RESIZE && failure->error == EINVAL)
		refuse(store, EBUSY, "the pool \"%s\"%s%s uses more than its new size or objects",
		       name, of, owner);
	else if (failure->error == EBUSY)
		refuse(store, EBUSY,
		       "the pool \"%s\"%s%s has objects or is lent: its kind, exec, huge, mpol and "
		       "per can't "
		       "change meanwhile",
		       name, of, owner);
	else
		refuse(store, failure->error, "the pool \"%s\"%s%s can't be changed: %s: %s; %s",
		       name, of, owner, failure->step, strerror(failure->error), failure->advice);
}

/* The keeper was at it already; now comes what the new definition needs. */
static void go_on(struct store *store, struct instance *instance)
{
	const struct pool *pool = instance->pool;

	if (pool->changing)
		ask_empty(store, instance);
	else if (pool->has_next && !same_limits(&pool->config, &pool->next))
		ask_resize(store, instance);
}

void apply_task_done(struct store *store, struct instance *instance, const struct task *task,
		     const struct keeper_failure *failure)
{
	store->apply.outstanding--;
	if (!instance || store->apply.phase != APPLY_ASKING)
		return;
	/* What can't be made on this machine is absent: no reason to refuse the rest. */
	if (task->operation != KEEPER_RESIZE &&
	    (task->operation != KEEPER_RELEASE || !instance->pool->changing)) {
		go_on(store, instance);
		return;
	}
	if (failure->error == 0)
		return;
	if (failure->error == EBUSY && store->apply.lenient)
		keep_kind(store, instance->pool);
	else if (task->operation == KEEPER_RESIZE && store->apply.lenient)
		keep_limits(store, instance->pool,
			    failure->error == EINVAL ? "it uses more than the new ones"
						     : failure->step);
	else
		refuse_for(store, instance, task, failure);
}

/* Starts again, under the definition that counts now, what was emptied for it. */
static void restart(struct store *store, struct pool *pool, bool for_apply)
{
	struct instance *instance, *next;

	HASH_ITER(hh, pool->instances, instance, next)
	{
		if (instance->state != INSTANCE_EMPTY && instance->state != INSTANCE_ABSENT)
			continue;
		instance_close(instance);
		if (instance == pool->single)
			instance_start(store, instance, for_apply);
		else
			instance_free(store, instance);
	}
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

static void take_back_pool(struct store *store, struct pool *pool)
{
	if (pool->fresh) {
		/* New, so nobody has anything in it: the keeper lets it go. */
		for (struct instance *i = pool->instances; i; i = i->hh.next)
			i->idle_ms = 0;
		pool->fresh = false;
		pool->never_configured = true;
		pool_close(store, pool);
		return;
	}
	if (pool->has_next)
		pool_config_done(&pool->next);
	pool->has_next = false;
	if (pool->changing) {
		pool->changing = false;
		/* A directory was only held back, a private pool is gone and has to be made. */
		if (pool->config.kind != POOL_MADE && pool->single &&
		    pool->single->state == INSTANCE_EMPTY)
			instance_resume(pool->single);
		restart(store, pool, true);
	}
	for (struct instance *i = pool->instances; i; i = i->hh.next)
		instance_conform(store, i, true);
	if (pool->closed && !pool->instances)
		pool_free(store, pool);
}

static void take_back(struct store *store)
{
	struct pool *pool, *next;

	store->apply.phase = APPLY_UNDOING;
	for (pool = TAILQ_FIRST(&store->pools); pool; pool = next) {
		next = TAILQ_NEXT(pool, entry);
		take_back_pool(store, pool);
	}
	free(store->apply.by_index);
	store->apply.by_index = NULL;
}

static void commit_pool(struct store *store, struct pool *pool)
{
	bool changed = pool->changing;

	pool_config_done(&pool->config);
	pool->config = pool->next;
	pool->has_next = pool->changing = false;
	pool->closed = pool->never_configured = false;
	for (struct instance *i = pool->instances; i; i = i->hh.next)
		if (i->state == INSTANCE_READY && pool->config.kind == POOL_MADE)
			i->limit_bytes = pool->config.size_bytes;
	/* Whoever was its one instance isn't of any owner, and goes. */
	if (pool->config.per != POOL_PER_NONE)
		pool->single = NULL;
	if (changed)
		restart(store, pool, false);
	start_single(store, pool);
}

/* From here on the new definitions count. Nothing in it can fail. */
static void commit(struct store *store)
{
	struct apply *apply = &store->apply;
	struct pool *pool, *next;

	free(store->by_index);
	store->by_index = apply->by_index;
	store->index_count = apply->config->pool_count;
	apply->by_index = NULL;
	apply->phase = APPLY_NONE;
	for (pool = TAILQ_FIRST(&store->pools); pool; pool = next) {
		next = TAILQ_NEXT(pool, entry);
		if (pool->has_next)
			commit_pool(store, pool);
		else if (!pool->fresh)
			pool_close(store, pool);
		else
			pool->fresh = false;
	}
	for (struct instance *i = TAILQ_FIRST(&store->instances); i; i = TAILQ_NEXT(i, entry)) {
		instance_conform(store, i, false);
		/* Other rules may decide by now. */
		store_disclaim(store, i);
		if (!i->pool->config.alone)
			store_share(store, i);
	}
}

void apply_end_if_settled(struct store *store)
{
	struct apply *apply = &store->apply;

	if (apply->phase == APPLY_NONE || apply->outstanding > 0)
		return;
	if (apply->phase == APPLY_ASKING && apply->error) {
		take_back(store);
		if (apply->outstanding > 0)
			return;
	}
	if (!apply->error)
		commit(store);
	apply->phase = APPLY_NONE;
	/* Claims have waited for the end of it. */
	for (struct instance *i = TAILQ_FIRST(&store->instances); i; i = TAILQ_NEXT(i, entry))
		if (i->state == INSTANCE_READY)
			store_wake(i);
	store->events->applied(store->events->context, -apply->error, apply->text);
}
