/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Holds the processes that made temporary names and removes the names when they end. */
#include "daemon/temporary.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "daemon/fd.h"
#include "daemon/hash.h"
#include "daemon/name_key.h"
#include "daemon/state.h"
#include "proto/protocol.h"

/* Of one user: what a client could make grow in a path pool, whose objects nothing else bounds. */
#define TEMPORARY_PER_USER 65536
#define TEMPORARY_TOTAL 1048576

struct temporary {
	struct maker *maker;
	struct instance *instance;
	uint64_t ino;
	uint64_t id; /* of its entry in the state */
	struct charge charge;
	LIST_ENTRY(temporary) entry;
	UT_hash_handle hh;
	struct name_key key;
};

/* A process that changes its ids is several: each name is removed under those that it was made by.
 */
struct maker_key {
	uint64_t start_time;
	uid_t uid;
	gid_t gid;
	uint32_t pid;
	uint32_t is_name; /* on a bus: start_time is its name_id, and nothing else counts */
};

struct maker {
	struct temporaries *temporaries;
	struct maker_key key;
	pid_t pid; /* also of one that is held by its name on a bus */
	uint64_t start_time;
	int pidfd;
	struct watch watch;
	struct ids ids;
	unsigned claims;
	bool ended; /* its names are being removed */
	LIST_HEAD(, temporary) names;
	UT_hash_handle hh;
};

static void maker_free(struct maker *maker)
{
	struct temporaries *all = maker->temporaries;

	HASH_DELETE(hh, all->makers, maker);
	all->ended -= maker->ended;
	all->loop->unwatch(all->loop, &maker->watch);
	fd_close(maker->pidfd);
	ids_done(&maker->ids);
	free(maker);
}

static void maker_free_if_idle(struct maker *maker)
{
	if (maker->claims == 0 && LIST_EMPTY(&maker->names))
		maker_free(maker);
}

static void temporary_unlist(struct temporary *temporary)
{
	struct temporaries *all = temporary->maker->temporaries;

	if (HASH_HAS(hh, temporary))
		HASH_DELETE(hh, all->names, temporary);
	else
		all->beside--;
	LIST_REMOVE(temporary, entry);
	temporary->instance->pins--;
	quota_release(all->quota, &temporary->charge);
	free(temporary);
}

/* Takes a name off the lists, not out of its pool. */
static void temporary_free(struct temporary *temporary)
{
	struct temporaries *all = temporary->maker->temporaries;

	if (state_is_kept(all->state)) {
		creds_reset(all->env->creds);
		state_remove(all->state, STATE_TEMPORARY, temporary->id);
	}
	temporary_unlist(temporary);
}

/* As many as *left is work for, by which it is lowered; true: no name is left. */
static bool remove_names(struct maker *maker, unsigned *left)
{
	struct temporary *temporary;

	while (*left > 0 && (temporary = LIST_FIRST(&maker->names))) {
		--*left;
		object_unlink_if(maker->temporaries->env, temporary->instance, &maker->ids,
				 name_key_name(&temporary->key), temporary->ino, left);
		temporary_free(temporary);
	}
	return LIST_EMPTY(&maker->names);
}

/* Its names go in the ticks that follow: many may end at once. */
static void maker_end(struct maker *maker)
{
	struct temporaries *all = maker->temporaries;

	all->loop->unwatch(all->loop, &maker->watch);
	all->ended += !maker->ended;
	maker->ended = true;
	all->loop->tick_in(all->loop, 0);
}

static void maker_ended(struct watch *watch)
{
	maker_end((struct maker *)((char *)watch - offsetof(struct maker, watch)));
}

/* pidfd is taken; -EBADF: it has ended. 0 or an errno. */
static int maker_add(struct temporaries *all, const struct ids *ids, pid_t pid, uint64_t start_time,
		     int taken_pidfd, const struct maker_key *key, struct maker **ret)
{
	_cleanup_close_ int pidfd = taken_pidfd;
	struct maker *maker = calloc(1, sizeof(*maker));
	int error;

	if (!maker)
		return ENOMEM;
	maker->temporaries = all;
	maker->key = *key;
	maker->pid = pid;
	maker->start_time = start_time;
	maker->pidfd = -EBADF;
	maker->watch.ready = maker_ended;
	LIST_INIT(&maker->names);
	HASH_ADD(hh, all->makers, key, sizeof(maker->key), maker);
	error = HASH_HAS(hh, maker) ? ids_copy(&maker->ids, ids) : -ENOMEM;
	if (error == 0 && pidfd >= 0)
		error = all->loop->watch(all->loop, &maker->watch, pidfd);
	if (error < 0) {
		if (HASH_HAS(hh, maker))
			HASH_DELETE(hh, all->makers, maker);
		ids_done(&maker->ids);
		free(maker);
		return -error;
	}
	maker->pidfd = steal_fd(&pidfd);
	*ret = maker;
	return 0;
}

static int maker_new(struct temporaries *all, const struct peer *peer, const struct maker_key *key,
		     struct maker **ret)
{
	int pidfd = peer_pidfd(peer, all->env->self);

	if (pidfd < 0)
		return pidfd == -ESRCH ? ESRCH : EOPNOTSUPP;
	return maker_add(all, &peer->ids, peer->pid, peer->start_time, pidfd, key, ret);
}

/* Each is a descriptor of ours. */
static bool too_many_makers(const struct temporaries *all, uid_t uid)
{
	unsigned own = 0;

	if (HASH_COUNT(all->makers) >= all->makers_most)
		return true;
	if (HASH_COUNT(all->makers) < all->makers_most / 4)
		return false;
	for (const struct maker *maker = all->makers; maker; maker = maker->hh.next)
		own += maker->ids.uid == uid;
	return own >= all->makers_most / 4;
}

int temporary_claim(struct temporaries *temporaries, const struct peer *peer, uint64_t name_id,
		    struct temporary_claim *ret)
{
	const struct quota_limit limit = { TEMPORARY_TOTAL, TEMPORARY_PER_USER,
					   peer_is_apart(peer) };
	struct maker_key key = { .start_time = name_id ? name_id : peer->start_time,
				 .uid = name_id ? 0 : peer->ids.uid,
				 .gid = name_id ? 0 : peer->ids.gid,
				 .pid = name_id ? 0 : (uint32_t)peer->pid,
				 .is_name = name_id != 0 };
	struct temporary *temporary;
	struct maker *maker = NULL;
	int error;

	*ret = (struct temporary_claim){ 0 };
	if (!name_id && (peer->pid <= 0 || peer->start_time == 0))
		return EOPNOTSUPP;
	HASH_FIND(hh, temporaries->makers, &key, sizeof(key), maker);
	if (!maker && too_many_makers(temporaries, peer->ids.uid))
		return EDQUOT;
	if (!maker) {
		error = maker_new(temporaries, peer, &key, &maker);
		if (error)
			return error;
	}
	temporary = calloc(1, sizeof(*temporary));
	error = temporary ? quota_charge(temporaries->quota, &temporary->charge, RESOURCE_TEMPORARY,
					 peer->ids.uid, peer->sandboxed, &limit)
			  : -ENOMEM;
	if (error < 0) {
		free(temporary);
		maker_free_if_idle(maker);
		return error == -ENOMEM ? ENOMEM : EDQUOT;
	}
	maker->claims++;
	*ret = (struct temporary_claim){ .maker = maker, .temporary = temporary };
	return 0;
}

void temporary_end(struct temporaries *temporaries, uint64_t name_id)
{
	struct maker_key key = { .start_time = name_id, .is_name = 1 };
	struct maker *maker = NULL;

	HASH_FIND(hh, temporaries->makers, &key, sizeof(key), maker);
	if (!maker)
		return;
	maker_end(maker);
}

bool temporary_tick(struct temporaries *temporaries, unsigned *left)
{
	struct maker *maker, *next;

	if (temporaries->ended == 0)
		return false;
	HASH_ITER(hh, temporaries->makers, maker, next)
	{
		if (*left == 0)
			break;
		/* A claim is only held during one request: there is none now. */
		if (maker->ended && remove_names(maker, left))
			maker_free(maker);
	}
	return temporaries->ended > 0;
}

void temporary_unclaim(struct temporaries *temporaries, struct temporary_claim *claim)
{
	if (!claim->maker)
		return;
	quota_release(temporaries->quota, &claim->temporary->charge);
	free(claim->temporary);
	claim->maker->claims--;
	maker_free_if_idle(claim->maker);
	*claim = (struct temporary_claim){ 0 };
}

static void temporary_list(struct temporary *temporary)
{
	struct temporaries *all = temporary->maker->temporaries;

	temporary->instance->pins++;
	LIST_INSERT_HEAD(&temporary->maker->names, temporary, entry);
	HASH_ADD_KEYPTR(hh, all->names, temporary->key.bytes, temporary->key.size, temporary);
	all->beside += !HASH_HAS(hh, temporary);
}

/*
 * The note that the next process reads. Who made it over a bus is known by his process there: a
 * name on the bus can't be found again. Without a note the name stays over a restart, as any other.
 */
static void remember(const struct temporary *temporary)
{
	const struct temporaries *all = temporary->maker->temporaries;
	const struct instance *instance = temporary->instance;
	const size_t uid_size = sizeof(instance->owner_uid);
	const struct ids *ids = &temporary->maker->ids;
	char groups[STATE_VALUE_MAX / 2];

	if (!state_is_kept(all->state))
		return;
	creds_reset(all->env->creds);
	ids_text(groups, sizeof(groups), ids);
	state_put(all->state, STATE_TEMPORARY, temporary->id,
		  "%d/%llu/%d/%u/%u/%s/%llu/%u/%.*s/%s/%s", temporary->maker->pid,
		  (unsigned long long)temporary->maker->start_time,
		  quota_is_sandboxed(&temporary->charge), ids->uid, ids->gid, groups,
		  (unsigned long long)temporary->ino, instance->owner_uid,
		  (int)(instance->key_size - uid_size), instance->key + uid_size,
		  instance->pool->config.name, name_key_name(&temporary->key));
}

void temporary_add(struct temporaries *temporaries, struct temporary_claim *claim,
		   struct instance *instance, const char *name, uint64_t ino)
{
	struct temporary *temporary = claim->temporary;

	temporary_forget(temporaries, instance, name);
	temporary->maker = claim->maker;
	temporary->instance = instance;
	temporary->ino = ino;
	name_key_set(&temporary->key, instance, name);
	temporary_list(temporary);
	claim->maker->claims--;
	*claim = (struct temporary_claim){ 0 };
	temporary->id = ++temporaries->last_id;
	remember(temporary);
}

/* Slow, and as rare as want of memory. */
static struct temporary *find_beside(const struct temporaries *temporaries,
				     const struct name_key *key)
{
	struct temporary *temporary;
	struct maker *maker;

	for (maker = temporaries->makers; maker; maker = maker->hh.next)
		LIST_FOREACH (temporary, &maker->names, entry)
			if (!HASH_HAS(hh, temporary) && temporary->key.size == key->size &&
			    memcmp(temporary->key.bytes, key->bytes, key->size) == 0)
				return temporary;
	return NULL;
}

static struct temporary *find(const struct temporaries *temporaries,
			      const struct instance *instance, const char *name)
{
	struct temporary *temporary = NULL;
	struct name_key key;

	if (!temporaries->names && temporaries->beside == 0)
		return NULL;
	name_key_set(&key, instance, name);
	HASH_FIND(hh, temporaries->names, key.bytes, key.size, temporary);
	if (!temporary && temporaries->beside > 0)
		temporary = find_beside(temporaries, &key);
	return temporary;
}

void temporary_forget(struct temporaries *temporaries, const struct instance *instance,
		      const char *name)
{
	struct temporary *temporary = find(temporaries, instance, name);
	struct maker *maker;

	if (!temporary)
		return;
	maker = temporary->maker;
	temporary_free(temporary);
	maker_free_if_idle(maker);
}

void temporary_forget_dropped(struct temporaries *temporaries)
{
	struct temporary *temporary, *next_name;
	struct maker *maker, *next;

	HASH_ITER(hh, temporaries->makers, maker, next)
	{
		for (temporary = LIST_FIRST(&maker->names); temporary; temporary = next_name) {
			next_name = LIST_NEXT(temporary, entry);
			if (temporary->instance->pool->dropped)
				temporary_free(temporary);
		}
		maker_free_if_idle(maker);
	}
}

pid_t temporary_maker(const struct temporaries *temporaries, const struct instance *instance,
		      const char *name, uint64_t ino)
{
	const struct temporary *temporary = find(temporaries, instance, name);

	return temporary && temporary->ino == ino ? temporary->maker->pid : 0;
}

/* --- over a restart --- */

/* A pidfd; -ESRCH: it has ended, or another process has its number; or another -errno. */
static int open_maker(const struct temporaries *all, pid_t pid, uint64_t start_time)
{
	struct peer peer = { .pid = pid, .start_time = start_time, .socket = -EBADF };

	return peer_pidfd(&peer, all->env->self);
}

static struct instance *find_instance(const struct temporaries *all, const char *pool_name,
				      const struct owner *owner)
{
	struct pool *pool = store_pool_by_name(all->store, pool_name);

	return pool ? store_find(pool, owner) : NULL;
}

struct note {
	struct maker_key key;
	bool sandboxed;
	struct ids ids;
	uint64_t ino;
	const char *pool;
	struct owner owner;
	const char *name;
};

static bool parse(struct note *ret, char *value)
{
	uint64_t pid, uid, sandboxed;

	*ret = (struct note){ 0 };
	if (!state_number(&value, &pid) || !state_number(&value, &ret->key.start_time) ||
	    !state_number(&value, &sandboxed) || ids_parse(&ret->ids, &value) < 0)
		return false;
	ret->key.pid = (uint32_t)pid;
	ret->key.uid = ret->ids.uid;
	ret->key.gid = ret->ids.gid;
	ret->sandboxed = sandboxed != 0;
	if (!state_number(&value, &ret->ino) || !state_number(&value, &uid))
		return false;
	ret->owner.uid = (uid_t)uid;
	ret->owner.text = state_word(&value);
	ret->pool = state_word(&value);
	ret->name = value;
	return value && strlen(value) <= WIRE_NAME_MAX;
}

static int find_maker(struct temporaries *all, const struct note *note, struct maker **ret)
{
	int pidfd, error;

	HASH_FIND(hh, all->makers, &note->key, sizeof(note->key), *ret);
	if (*ret)
		return 0;
	pidfd = open_maker(all, (pid_t)note->key.pid, note->key.start_time);
	if (pidfd < 0 && pidfd != -ESRCH && pidfd != -EOPNOTSUPP)
		return -pidfd;
	error = maker_add(all, &note->ids, (pid_t)note->key.pid, note->key.start_time, pidfd,
			  &note->key, ret);
	/* It has ended while nobody looked. */
	if (error == 0 && pidfd < 0)
		maker_end(*ret);
	return error;
}

static int restore_name(struct temporaries *all, const struct note *note, uint64_t id)
{
	/* Of no more than that the note tells. */
	const struct quota_limit any = { UINT32_MAX, UINT32_MAX, note->sandboxed };
	struct instance *instance = find_instance(all, note->pool, &note->owner);
	struct temporary *temporary;
	struct maker *maker = NULL;

	if (!instance || instance->state != INSTANCE_READY)
		return ENOENT;
	if (find(all, instance, note->name))
		return EEXIST;
	temporary = calloc(1, sizeof(*temporary));
	if (!temporary || find_maker(all, note, &maker)) {
		free(temporary);
		return ENOMEM;
	}
	quota_charge(all->quota, &temporary->charge, RESOURCE_TEMPORARY, note->ids.uid,
		     note->sandboxed, &any);
	temporary->maker = maker;
	temporary->instance = instance;
	temporary->ino = note->ino;
	temporary->id = id;
	name_key_set(&temporary->key, instance, note->name);
	temporary_list(temporary);
	return 0;
}

static void restore(void *context, uint64_t id, char *value)
{
	struct temporaries *all = context;
	struct note note;

	if (all->last_id < id)
		all->last_id = id;
	/* Where its pool isn't there now, or something is short, the next start may do better. */
	if (!parse(&note, value) || restore_name(all, &note, id) == EEXIST)
		state_remove(all->state, STATE_TEMPORARY, id);
	ids_done(&note.ids);
}

unsigned temporary_restore(struct temporaries *temporaries)
{
	state_each(temporaries->state, STATE_TEMPORARY, restore, temporaries);
	return HASH_COUNT(temporaries->names);
}

void temporary_done(struct temporaries *temporaries, bool leave)
{
	struct temporary *temporary;
	struct maker *maker, *next;
	unsigned any = UINT_MAX;

	HASH_ITER(hh, temporaries->makers, maker, next)
	{
		while (leave && (temporary = LIST_FIRST(&maker->names)))
			temporary_unlist(temporary);
		remove_names(maker, &any);
		maker_free(maker);
	}
}
