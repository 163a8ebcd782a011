/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Holds the processes that made temporary names and removes the names when they end. */
#include "daemon/temporary.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <uthash.h>

#include "daemon/fd.h"
#include "proto/protocol.h"

/* Of one user: what a client could make grow in a path pool, whose objects nothing else bounds. */
#define TEMPORARY_PER_USER 65536
#define TEMPORARY_TOTAL 1048576

struct temporary {
	struct maker *maker;
	struct instance *instance;
	uint64_t ino;
	struct charge charge;
	LIST_ENTRY(temporary) entry;
	UT_hash_handle hh;
	size_t key_size;
	char key[sizeof(uint32_t) + WIRE_NAME_MAX + 1]; /* the instance's number, the name */
};

struct maker_key {
	uint64_t start_time;
	uint32_t pid;
	uint32_t is_name; /* on a bus: start_time is its name_id, and pid doesn't count */
};

struct maker {
	struct temporaries *temporaries;
	struct maker_key key;
	pid_t pid; /* also of one that is held by its name on a bus */
	int pidfd;
	struct watch watch;
	struct ids ids;
	unsigned claims;
	LIST_HEAD(, temporary) names;
	UT_hash_handle hh;
};

static size_t name_key(char *key, uint32_t number, const char *name)
{
	size_t size = strnlen(name, WIRE_NAME_MAX);

	memcpy(key, &number, sizeof(number));
	memcpy(key + sizeof(number), name, size);
	key[sizeof(number) + size] = 0;
	return sizeof(number) + size;
}

static void maker_free(struct maker *maker)
{
	struct temporaries *all = maker->temporaries;

	HASH_DELETE(hh, all->makers, maker);
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

/* Takes a name off the lists, not out of its pool. */
static void temporary_free(struct temporary *temporary)
{
	struct temporaries *all = temporary->maker->temporaries;

	HASH_DELETE(hh, all->names, temporary);
	LIST_REMOVE(temporary, entry);
	temporary->instance->pins--;
	quota_release(all->quota, &temporary->charge);
	free(temporary);
}

static void remove_names(struct maker *maker)
{
	struct temporary *temporary;

	while ((temporary = LIST_FIRST(&maker->names))) {
		object_unlink_if(maker->temporaries->env, temporary->instance, &maker->ids,
				 temporary->key + sizeof(uint32_t), temporary->ino);
		temporary_free(temporary);
	}
}

static void maker_ended(struct watch *watch)
{
	struct maker *maker = (struct maker *)((char *)watch - offsetof(struct maker, watch));
	struct temporaries *all = maker->temporaries;

	remove_names(maker);
	/* A claim is only held during one request: there is none now. */
	maker_free(maker);
	all->loop->tick_in(all->loop, 0);
}

static int maker_new(struct temporaries *all, const struct peer *peer, const struct maker_key *key,
		     struct maker **ret)
{
	_cleanup_close_ int pidfd = peer_pidfd(peer, all->env->self);
	struct maker *maker;
	int error;

	if (pidfd < 0)
		return pidfd == -ESRCH ? ESRCH : EOPNOTSUPP;
	maker = calloc(1, sizeof(*maker));
	if (!maker)
		return ENOMEM;
	maker->temporaries = all;
	maker->key = *key;
	maker->pid = peer->pid;
	maker->watch.ready = maker_ended;
	LIST_INIT(&maker->names);
	error = ids_copy(&maker->ids, &peer->ids);
	if (error == 0 && pidfd >= 0)
		error = all->loop->watch(all->loop, &maker->watch, pidfd);
	if (error < 0) {
		ids_done(&maker->ids);
		free(maker);
		return -error;
	}
	maker->pidfd = steal_fd(&pidfd);
	HASH_ADD(hh, all->makers, key, sizeof(maker->key), maker);
	*ret = maker;
	return 0;
}

int temporary_claim(struct temporaries *temporaries, const struct peer *peer, uint64_t name_id,
		    struct temporary_claim *ret)
{
	static const struct quota_limit limit = { TEMPORARY_TOTAL, TEMPORARY_PER_USER };
	struct maker_key key = { .start_time = name_id ? name_id : peer->start_time,
				 .pid = name_id ? 0 : (uint32_t)peer->pid,
				 .is_name = name_id != 0 };
	struct temporary *temporary;
	struct maker *maker = NULL;
	int error;

	*ret = (struct temporary_claim){ 0 };
	if (!name_id && (peer->pid <= 0 || peer->start_time == 0))
		return EOPNOTSUPP;
	HASH_FIND(hh, temporaries->makers, &key, sizeof(key), maker);
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
	remove_names(maker);
	maker_free(maker);
	temporaries->loop->tick_in(temporaries->loop, 0);
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

void temporary_add(struct temporaries *temporaries, struct temporary_claim *claim,
		   struct instance *instance, const char *name, uint64_t ino)
{
	struct temporary *temporary = claim->temporary;

	temporary_forget(temporaries, instance, name);
	temporary->maker = claim->maker;
	temporary->instance = instance;
	temporary->ino = ino;
	temporary->key_size = name_key(temporary->key, instance->number, name);
	instance->pins++;
	LIST_INSERT_HEAD(&claim->maker->names, temporary, entry);
	HASH_ADD_KEYPTR(hh, temporaries->names, temporary->key, temporary->key_size, temporary);
	claim->maker->claims--;
	*claim = (struct temporary_claim){ 0 };
}

static struct temporary *find(const struct temporaries *temporaries,
			      const struct instance *instance, const char *name)
{
	char key[sizeof(uint32_t) + WIRE_NAME_MAX + 1];
	struct temporary *temporary = NULL;
	size_t size;

	if (!temporaries->names)
		return NULL;
	size = name_key(key, instance->number, name);
	HASH_FIND(hh, temporaries->names, key, size, temporary);
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

pid_t temporary_maker(const struct temporaries *temporaries, const struct instance *instance,
		      const char *name, uint64_t ino)
{
	const struct temporary *temporary = find(temporaries, instance, name);

	return temporary && temporary->ino == ino ? temporary->maker->pid : 0;
}

void temporary_done(struct temporaries *temporaries)
{
	struct maker *maker, *next;

	HASH_ITER(hh, temporaries->makers, maker, next)
	{
		remove_names(maker);
		maker_free(maker);
	}
}
