/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What each user has of the broker: charged before it is had, released by who
 * had it. Users are told apart by uid, and sandboxed from unsandboxed.
 */
#ifndef SHMBROKER_QUOTA_H
#define SHMBROKER_QUOTA_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

enum resource {
	RESOURCE_CONNECTION,
	RESOURCE_CONTEXT,
	RESOURCE_POOL,
	RESOURCE_TEMPORARY,   /* a temporary name */
	RESOURCE_UNPUBLISHED, /* an object without a name yet: a descriptor of ours */
	RESOURCE_SEALED,      /* a sealed object: two descriptors of ours */
	RESOURCE_SUBSCRIPTION,
	RESOURCE_WAIT, /* for a name to be there */
	RESOURCE_COUNT,
};

struct quota {
	struct quota_user *users; /* a hash */
	uint32_t total[RESOURCE_COUNT];
	uint32_t apart[RESOURCE_COUNT]; /* of these */
};

/* One of a user's connections that waits until it is served. Embedded. */
struct turn {
	bool waits;
	bool to_look;	 /* at the next of its requests: whether it asks ahead */
	bool asks_ahead; /* when it was looked at, it had sent one more before it was answered */
	TAILQ_ENTRY(turn) entry;
};

/*
 * A user's part of the loop's time: in one pass so many requests, however many connections he has.
 * Those that have more to ask wait in line.
 */
struct turns {
	uint64_t pass;		 /* that `left` speaks of */
	unsigned left;		 /* requests that he still has in it */
	uint64_t last;		 /* pass in which somebody of his line was served */
	unsigned passed_over;	 /* for others, since then */
	uint64_t rests_until_ns; /* while others are served; 0: he doesn't */
	uint64_t long_pass;	 /* pass since which they were */
	uint64_t next_look;	 /* not before this pass: whether one of his asks ahead */
	uint64_t calls_pass;	 /* on the bus, likewise */
	unsigned calls_left;
	TAILQ_HEAD(, turn) waiting;
	TAILQ_ENTRY(turns) entry; /* of the users of whom somebody waits */
};

/* One thing that a user has; all zero: nothing. */
struct charge {
	struct quota_user *user;
	enum resource resource;
	bool is_apart;
};

/* Places in the service manager's store for contexts, two each, and sealed objects together. */
#define QUOTA_STORED_MOST 2046

struct quota_limit {
	uint32_t total;
	uint32_t per_user;
	/*
	 * One of the sandboxed that came through no context: who can map many users into namespaces
	 * of his own is as many, so all of those have half of the total together.
	 */
	bool is_apart;
};

/* Whether a charge would be had now: 0, -EDQUOT or -EUSERS. */
int quota_check(const struct quota *quota, enum resource resource, uid_t uid, bool sandboxed,
		const struct quota_limit *limit);
/*
 * 0 and the charge, or -EDQUOT (the user's limit), -EUSERS (everybody's), -ENOMEM.
 */
int quota_charge(struct quota *quota, struct charge *ret, enum resource resource, uid_t uid,
		 bool sandboxed, const struct quota_limit *limit);
/* Gives it back; does nothing with an empty one. */
void quota_release(struct quota *quota, struct charge *charge);
/* Whether its user is one of the sandboxed. */
bool quota_is_sandboxed(const struct charge *charge);
uid_t quota_uid(const struct charge *charge);
/* How much of this its user has. */
uint32_t quota_used(const struct charge *charge);
/* The turns of who has a charge. */
struct turns *quota_turns(const struct charge *charge);
void quota_done(struct quota *quota);

#endif
