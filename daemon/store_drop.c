/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Empties a pool for the administrator. One that was delegated or lent is another from then on:
 * whoever has its directory or a mount of it goes on with the old one, to which no rule leads any
 * more, and which is kept until it is empty.
 */
#include <errno.h>
#include <string.h>

#include "daemon/directory.h"
#include "daemon/fd.h"
#include "daemon/store_private.h"

static bool has_holders(const struct pool *pool)
{
	bool any = false;

	for (const struct instance *i = pool->instances; i; i = i->hh.next)
		any |= i->was_lent;
	return any;
}

/* Whether the next process is to find it so: as many of it as can be noted. 0 or the first errno.
 */
static int note(struct store *store, struct pool *pool, bool is_dropped)
{
	int error = 0;

	pool->dropped = is_dropped;
	for (const struct instance *i = pool->instances; i; i = i->hh.next) {
		int one = i->state == INSTANCE_ABSENT ? 0 : -instance_remember(store, i);

		error = error ? error : one;
	}
	return error;
}

/* It gives way to a new one of its definition, if it still has one. 0 or an errno. */
static int replace(struct store *store, struct pool *pool)
{
	struct pool *fresh = NULL;
	int error;

	if (store->apply.phase != APPLY_NONE)
		return EBUSY;
	if (!pool->closed && !(fresh = pool_new(store, &pool->config)))
		return ENOMEM;
	error = note(store, pool, true);
	if (error) {
		note(store, pool, false);
		if (fresh)
			pool_free(store, fresh);
		return error == ENOMEM ? ENOMEM : EBUSY;
	}
	for (size_t i = 0; fresh && i < store->index_count; i++)
		if (store->by_index[i] == pool)
			store->by_index[i] = fresh;
	pool->closed = true;
	/* The owner's next one counts in its place, and who waits for it waits for that. */
	for (struct instance *i = pool->instances; i; i = i->hh.next) {
		quota_release(store->quota, &i->charge);
		store_disclaim(store, i);
		i->mount = fd_close(i->mount);
		store_wake(i);
	}
	if (fresh)
		start_single(store, fresh);
	return 0;
}

/* 0, or -errno when something is left. */
static int empty(struct store *store, struct pool *pool, struct creds *creds, struct loop *loop)
{
	int error = 0;

	for (struct instance *i = pool->instances; i; i = i->hh.next) {
		if (i->state != INSTANCE_READY && i->state != INSTANCE_RELEASING)
			continue;
		store_end_waypoint(store, i);
		if (directory_remove_all(i->writable, creds, loop) < 0)
			error = -ENOTEMPTY;
		if (i->state == INSTANCE_READY && instance_is_releasable(i) &&
		    store->apply.phase == APPLY_NONE &&
		    instance_ask(store, i, KEEPER_RELEASE, false) == 0)
			i->state = INSTANCE_RELEASING;
	}
	return error;
}

int store_drop(struct store *store, struct creds *creds, struct loop *loop, const char *name,
	       uint64_t now_ms)
{
	struct pool *named = store_pool_by_name(store, name), *pool;
	bool any = false;
	int error = 0;

	store->now_ms = now_ms;
	if (named && named->config.kind == POOL_MADE && has_holders(named))
		error = replace(store, named);
	/* Those that were dropped before, too. */
	TAILQ_FOREACH (pool, &store->pools, entry) {
		if (pool->config.kind != POOL_MADE || strcmp(pool->config.name, name) != 0)
			continue;
		any = true;
		if (empty(store, pool, creds, loop) < 0)
			error = EBUSY;
	}
	if (any)
		return error;
	return named ? EOPNOTSUPP : ENOENT;
}
