/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Counts a user's connections, contexts, pools and temporary names. Used by broker, store and
 * context. */
#include "daemon/quota.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/hash.h"

struct quota_key {
	uid_t uid;
	uint32_t sandboxed;
};

struct quota_user {
	struct quota_key key;
	uint32_t count[RESOURCE_COUNT];
	struct turns turns;
	uint32_t charges; /* of all kinds: at none the user is forgotten */
	UT_hash_handle hh;
};

static struct quota_user *find(const struct quota *quota, uid_t uid, bool sandboxed)
{
	struct quota_key key = { .uid = uid, .sandboxed = sandboxed };
	struct quota_user *user = NULL;

	HASH_FIND(hh, quota->users, &key, sizeof(key), user);
	return user;
}

static int check(const struct quota *quota, const struct quota_user *user, enum resource resource,
		 const struct quota_limit *limit)
{
	uint32_t half = limit->total / 2 + limit->total % 2;

	if (quota->total[resource] >= limit->total ||
	    (limit->is_apart && quota->apart[resource] >= half))
		return -EUSERS;
	return (user ? user->count[resource] : 0) >= limit->per_user ? -EDQUOT : 0;
}

int quota_check(const struct quota *quota, enum resource resource, uid_t uid, bool sandboxed,
		const struct quota_limit *limit)
{
	return check(quota, find(quota, uid, sandboxed), resource, limit);
}

int quota_charge(struct quota *quota, struct charge *ret, enum resource resource, uid_t uid,
		 bool sandboxed, const struct quota_limit *limit)
{
	struct quota_user *user = find(quota, uid, sandboxed);
	int error = check(quota, user, resource, limit);

	*ret = (struct charge){ 0 };
	if (error < 0)
		return error;
	if (!user) {
		user = calloc(1, sizeof(*user));
		if (!user)
			return -ENOMEM;
		user->key = (struct quota_key){ .uid = uid, .sandboxed = sandboxed };
		TAILQ_INIT(&user->turns.waiting);
		HASH_ADD(hh, quota->users, key, sizeof(user->key), user);
		if (!HASH_HAS(hh, user)) {
			free(user);
			return -ENOMEM;
		}
	}
	user->count[resource]++;
	user->charges++;
	quota->total[resource]++;
	quota->apart[resource] += limit->is_apart;
	*ret = (struct charge){ .user = user, .resource = resource, .is_apart = limit->is_apart };
	return 0;
}

bool quota_is_sandboxed(const struct charge *charge)
{
	return charge->user && charge->user->key.sandboxed;
}

uid_t quota_uid(const struct charge *charge)
{
	return charge->user ? charge->user->key.uid : (uid_t)-1;
}

uint32_t quota_used(const struct charge *charge)
{
	return charge->user ? charge->user->count[charge->resource] : 0;
}

void quota_release(struct quota *quota, struct charge *charge)
{
	struct quota_user *user = charge->user;

	if (!user)
		return;
	user->count[charge->resource]--;
	quota->total[charge->resource]--;
	quota->apart[charge->resource] -= charge->is_apart;
	charge->user = NULL;
	if (--user->charges > 0)
		return;
	HASH_DELETE(hh, quota->users, user);
	free(user);
}

struct turns *quota_turns(const struct charge *charge)
{
	return &charge->user->turns;
}

void quota_done(struct quota *quota)
{
	struct quota_user *user, *next;

	HASH_ITER(hh, quota->users, user, next)
	{
		HASH_DELETE(hh, quota->users, user);
		free(user);
	}
}
