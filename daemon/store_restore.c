/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Private pools over a restart of the process: whose each is, is kept beside them, and the next
 * process finds them before it reads its configuration, which then changes them like a
 * reload does.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <syslog.h>

#include "daemon/directory.h"
#include "daemon/fd.h"
#include "daemon/store_private.h"

#define NO_TEXT "-" /* huge and mpol are words, never this */

/* Of a note, in one number. */
#define FLAG_EXEC 1
#define FLAG_WAS_LENT 2
#define FLAG_DROPPED 4
#define FLAG_ALONE 8

int instance_remember(struct store *store, const struct instance *instance)
{
	const struct pool_config *config = &instance->pool->config;
	const size_t uid_size = sizeof(instance->owner_uid);
	int flags = (config->exec ? FLAG_EXEC : 0) | (instance->was_lent ? FLAG_WAS_LENT : 0) |
		    (instance->pool->dropped ? FLAG_DROPPED : 0) |
		    (instance->alone ? FLAG_ALONE : 0);

	return state_put(store->state, STATE_POOL, instance->number, "%d/%d/%s/%s/%u/%.*s/%s",
			 config->per, flags, config->huge ? config->huge : NO_TEXT,
			 config->mpol ? config->mpol : NO_TEXT, instance->owner_uid,
			 (int)(instance->key_size - uid_size), instance->key + uid_size,
			 config->name);
}

void instance_forget(struct store *store, uint32_t number)
{
	state_remove(store->state, STATE_POOL, number);
}

struct record {
	struct pool_config config; /* borrows from the value */
	struct owner owner;
	bool was_lent, dropped, alone;
};

static char *optional(char *word)
{
	return word && strcmp(word, NO_TEXT) == 0 ? NULL : word;
}

static bool parse(struct record *ret, char *value)
{
	uint64_t per, flags, uid;
	char *huge, *mpol;

	*ret = (struct record){ .config.kind = POOL_MADE, .config.access = POOL_ACCESS_GRANT };
	if (!state_number(&value, &per) || per > POOL_PER_UNIT || !state_number(&value, &flags))
		return false;
	huge = state_word(&value);
	mpol = state_word(&value);
	if (!state_number(&value, &uid) || uid > UINT32_MAX)
		return false;
	ret->config.per = (enum pool_per)per;
	ret->config.exec = flags & FLAG_EXEC;
	ret->was_lent = flags & FLAG_WAS_LENT;
	ret->dropped = flags & FLAG_DROPPED;
	ret->alone = flags & FLAG_ALONE;
	ret->config.huge = optional(huge);
	ret->config.mpol = optional(mpol);
	ret->owner.uid = (uid_t)uid;
	ret->owner.text = state_word(&value);
	ret->config.name = value;
	return value != NULL;
}

/* As the file system says: another configuration may have counted when it was made. */
static void learn_limits(struct instance *instance)
{
	struct pool_config *config = &instance->pool->config;
	struct statfs fs;

	if (fstatfs(instance->writable, &fs) < 0)
		return;
	instance->asked_bytes = (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize;
	instance->limit_bytes = instance->asked_bytes + instance->aside_bytes;
	config->size_bytes = instance->limit_bytes;
	config->objects = fs.f_files > 0 ? fs.f_files - 1 : 0;
	instance->asked_objects = config->objects;
}

/* Listings go by the number. */
static void put_in_order(struct store *store, struct instance *instance)
{
	struct instance *other;

	TAILQ_REMOVE(&store->instances, instance, entry);
	TAILQ_FOREACH (other, &store->instances, entry) {
		if (other->number < instance->number)
			continue;
		TAILQ_INSERT_BEFORE(other, instance, entry);
		return;
	}
	TAILQ_INSERT_TAIL(&store->instances, instance, entry);
}

static struct instance *add_instance(struct store *store, const struct record *record,
				     uint32_t number)
{
	struct pool *pool = record->dropped ? NULL : store_pool_by_name(store, record->config.name);
	static const struct quota_limit any = { UINT32_MAX, UINT32_MAX, false };
	uint32_t last = store->last_number;
	struct instance *instance;

	if (!pool)
		pool = pool_new(store, &record->config);
	if (!pool)
		return NULL;
	/* Until the configuration says otherwise. */
	pool->closed = true;
	pool->dropped = record->dropped;
	store->last_number = number - 1;
	instance = instance_new(store, pool, &record->owner);
	store->last_number = last > number ? last : number;
	if (instance) {
		instance->was_lent = record->was_lent;
		instance->alone = record->alone;
		put_in_order(store, instance);
	}
	if (instance && record->config.per != POOL_PER_NONE && !record->dropped)
		quota_charge(store->quota, &instance->charge, RESOURCE_POOL, record->owner.uid,
			     false, &any);
	return instance;
}

struct restoring {
	struct store *store;
	int error; /* the first: then nothing more is asked, and all notes stay */
};

/* Of one owner there can be one: the process ended when it was to take another's place. */
static bool is_second(struct store *store, const struct record *record, uint32_t number)
{
	struct pool *pool = store_pool_by_name(store, record->config.name);
	struct keeper_request request = { .id = 1, .operation = KEEPER_RELEASE, .number = number };
	struct keeper_reply reply;

	if (!pool || !store_find(pool, &record->owner))
		return false;
	if (state_ask_keeper(store->keeper, &request, &reply) == 0 || reply.failure.error == ENOENT)
		instance_forget(store, number);
	else
		store_notice(store, LOG_ERR,
			     "pool \"%s\" is there twice for one owner, and the second is in use",
			     record->config.name);
	return true;
}

static void restore(void *context, uint64_t number, char *value)
{
	struct keeper_request request = { .id = 1, .operation = KEEPER_FIND };
	struct restoring *restoring = context;
	struct store *store = restoring->store;
	struct instance *instance;
	struct keeper_reply reply;
	struct record record;
	struct pool *pool;

	if (restoring->error)
		return;
	if (number == STATE_NUMBER || number >= STATE_NUMBER_TEMPORARIES ||
	    !parse(&record, value)) {
		store_notice(store, LOG_ERR, "a note of a pool can't be read: %llu",
			     (unsigned long long)number);
		state_remove(store->state, STATE_POOL, number);
		return;
	}
	if (!record.dropped && is_second(store, &record, (uint32_t)number))
		return;
	instance = add_instance(store, &record, (uint32_t)number);
	if (!instance) {
		restoring->error = -ENOMEM;
		return;
	}
	pool = instance->pool;
	request.number = instance->number;
	if (state_ask_keeper(store->keeper, &request, &reply) == 0 &&
	    keeper_check_twin(reply.writable, reply.read_only, &reply.failure) == 0) {
		instance->writable = steal_fd(&reply.writable);
		instance->read_only = steal_fd(&reply.read_only);
		/* Sandboxes may have such names of their own. */
		if (!instance->was_lent)
			directory_sweep_own(instance->writable);
		else if (instance->alone)
			directory_sweep_waypoints(instance->writable);
		instance_ready(store, instance);
		learn_limits(instance);
		return;
	}
	fd_close(reply.writable);
	fd_close(reply.read_only);
	/* One that was being made or released when the process ended isn't there. */
	if (reply.failure.error == ENOENT) {
		instance_notice(store, instance, NOTICE_POOL_MISSING, LOG_INFO,
				"was not there yet, or not any more");
		instance_forget(store, instance->number);
	} else {
		/* It is, and with its note the next start finds it. */
		instance_notice(store, instance, NOTICE_POOL_MISSING, LOG_ERR,
				"can't be found again: %s: %s; %s", reply.failure.step,
				strerror(reply.failure.error), reply.failure.advice);
		restoring->error = -reply.failure.error;
	}
	instance_free(store, instance);
	if (!pool->instances)
		pool_free(store, pool);
}

int store_restore(struct store *store)
{
	struct restoring restoring = { .store = store };
	struct instance *instance;
	int count = 0, error;

	error = state_each(store->state, STATE_POOL, restore, &restoring);
	if (error == 0)
		error = restoring.error;
	if (error < 0)
		return error;
	TAILQ_FOREACH (instance, &store->instances, entry)
		count++;
	return count;
}
