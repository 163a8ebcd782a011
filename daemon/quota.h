/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What each user has of the broker: charged before it is had, released by who
 * had it. Users are told apart by uid, and sandboxed from unsandboxed.
 */
#ifndef SHMBROKER_QUOTA_H
#define SHMBROKER_QUOTA_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum resource {
	RESOURCE_CONNECTION,
	RESOURCE_CONTEXT,
	RESOURCE_POOL,
	RESOURCE_TEMPORARY, /* a temporary name */
	RESOURCE_COUNT,
};

struct quota {
	struct quota_user *users; /* a hash */
	uint32_t total[RESOURCE_COUNT];
};

/* One thing that a user has; all zero: nothing. */
struct charge {
	struct quota_user *user;
	enum resource resource;
};

struct quota_limit {
	uint32_t total;
	uint32_t per_user;
};

/*
 * 0 and the charge, or -EDQUOT (the user's limit), -EUSERS (everybody's), -ENOMEM.
 */
int quota_charge(struct quota *quota, struct charge *ret, enum resource resource, uid_t uid,
		 bool sandboxed, const struct quota_limit *limit);
/* Gives it back; does nothing with an empty one. */
void quota_release(struct quota *quota, struct charge *charge);
void quota_done(struct quota *quota);

#endif
