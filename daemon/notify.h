/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Names that appear in pools and vanish from them, whoever made or removed them: asked of the
 * kernel (inotify) while somebody subscribes or waits, and at no other time. Called by the edge for
 * its subscribers and by the broker for each pool that is ready.
 */
#ifndef SHMBROKER_NOTIFY_H
#define SHMBROKER_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "daemon/quota.h"
#include "daemon/store.h"
#include "daemon/watch.h"

struct broker;
struct caller;

enum notify_event { NOTIFY_CREATED, NOTIFY_REMOVED };

struct notification {
	uint64_t serial; /* the same for all that are told of the same */
	enum notify_event event;
	const struct instance *instance;
	const char *name; /* without a slash */
};

/* One subscription. Embedded; the first four are set by who subscribes. */
struct subscriber {
	struct caller *caller; /* outlives it; who may not list a name isn't told of it */
	const char *pattern;   /* fnmatch's, without a slash; "": all names. Outlives it, too */
	/* Called by the loop. Must not end a subscription. */
	void (*told)(struct subscriber *subscriber, const struct notification *notification);
	void (*missed)(struct subscriber *subscriber); /* events, nobody knows which; may be NULL */
	void *context;				       /* the subscriber's own */
	struct charge charge;
	uint64_t looked; /* the serial of what it was told of last, or had no interest in */
	LIST_ENTRY(subscriber) entry;
};

/* Somebody who waits for one name. Embedded; the first two are set by who waits. */
struct name_wait {
	struct caller *caller; /* woken when an object of that name may be there, or forbidden */
	const char *name;      /* without a slash */
	struct awaited *awaited;
	struct charge charge;
	LIST_ENTRY(name_wait) entry;
};

/* What is read at once: some thirty events, or one with the longest name. */
#define NOTIFY_READ_BYTES 1024

struct notify {
	struct broker *broker;
	int inotify; /* -EBADF: nobody subscribes or waits */
	struct watch watch;
	/* The same directories, for those who wait: read at once, however long the telling takes.
	 */
	int appearing;
	struct watch appearing_watch;
	uint64_t serial;
	uint64_t event; /* the one at `at`, counted from 1 */
	ssize_t at, size;
	_Alignas(8) char events[NOTIFY_READ_BYTES]; /* what was read */
	LIST_HEAD(, subscriber) subscribers;
	LIST_HEAD(, watched) watched; /* directories */
	struct awaited *awaited;      /* a hash by name */
	bool is_blind;		      /* a directory can't be watched */
};

void notify_init(struct notify *notify, struct broker *broker);
void notify_done(struct notify *notify);

/*
 * Tells it of what happens from here on. 0, or an errno for the client: EDQUOT
 * (subscriptions-per-user), ENOMEM, ENFILE, EMFILE. The charge is the caller's.
 */
int notify_subscribe(struct broker *broker, struct subscriber *subscriber);
/* Does nothing with a zeroed one. */
void notify_unsubscribe(struct broker *broker, struct subscriber *subscriber);

/*
 * From here on: 0, or an errno for the client: EDQUOT (waits-per-user), ENOMEM, ENFILE, EMFILE,
 * EOPNOTSUPP (a pool can't be watched). Whoever waits looks first whether it is there, after this.
 */
int notify_wait(struct broker *broker, struct name_wait *wait);
/* Does nothing with a zeroed one. */
void notify_unwait(struct broker *broker, struct name_wait *wait);
/* All who wait look again: the rules or the pools are others. */
void notify_wake_all(struct notify *notify);

/* Goes on telling; true: there is more to tell of. */
bool notify_tick(struct notify *notify);

/* A pool's directory is there, maybe another one than before. */
void notify_ready(struct notify *notify, const struct instance *instance);

#endif
