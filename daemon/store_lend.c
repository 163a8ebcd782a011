/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Instances in which others than the broker make names: mounts for who is lent one, which the
 * keeper makes one at a time, and delegations, which are taken back. For lend.c and delegate.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <syslog.h>
#include <time.h>

#include "daemon/fd.h"
#include "daemon/store_private.h"

/* In a smaller pool one object is much. */
#define WAYPOINT_OBJECTS_LEAST 8

/* Whoever asks first takes it, and the others wait for theirs. */
void instance_cloned(struct instance *instance, struct keeper_reply *reply)
{
	instance->is_cloning = false;
	/* Told to who waits, and not to who comes later. */
	if (!TAILQ_EMPTY(&instance->waiters))
		instance->not_lent = reply->failure;
	fd_close(instance->mount);
	instance->mount = steal_fd(&reply->writable);
	store_wake(instance);
}

/*
 * In the time of the last access, which the mount (noatime) leaves alone. Whoever may write in the
 * directory may set it to the time of now, though, and so never twice to what it was once: it goes
 * up, and is never behind the clock.
 */
void store_disclaim(struct store *store, struct instance *instance)
{
	struct timespec times[2] = { { .tv_nsec = 0 }, { .tv_nsec = UTIME_OMIT } };
	int64_t now = time(NULL);
	struct stat st;

	if (!instance->was_lent || instance->writable < 0 || fstat(instance->writable, &st) < 0)
		return;
	if (now < st.st_atim.tv_sec)
		now = st.st_atim.tv_sec;
	if (now < instance->generation)
		now = instance->generation;
	instance->generation = now + 1;
	times[0].tv_sec = instance->generation;
	if (futimens(instance->writable, times) < 0)
		instance_notice(store, instance, NOTICE_PLAIN, LOG_ERR,
				"stays delegated to who has it: %s", strerror(errno));
	validity_changed(&store->validity);
}

struct validity *store_validity(struct store *store)
{
	return &store->validity;
}

static int look_at_generation(const struct instance *instance, int64_t *ret)
{
	struct stat st;

	if (fstat(instance->writable, &st) < 0)
		return errno;
	*ret = st.st_atim.tv_sec;
	return st.st_atim.tv_sec == instance->generation && st.st_atim.tv_nsec == 0 ? 0 : ESTALE;
}

int store_generation(struct store *store, struct instance *instance, int64_t *ret)
{
	int error = look_at_generation(instance, ret);

	if (error != ESTALE)
		return error;
	/* Somebody has changed it, or the pool is a new one: no delegation counts any more. */
	store_disclaim(store, instance);
	return look_at_generation(instance, ret);
}

/* Noted first: what others make in it is no plain object, also for the next process. */
int store_open_up(struct store *store, struct instance *instance)
{
	int error;

	if (instance->was_lent)
		return 0;
	instance->was_lent = true;
	error = -instance_remember(store, instance);
	instance->was_lent = error == 0;
	instance->broker_only = error != 0;
	return error;
}

static bool name_waypoint(char ret[static WAYPOINT_SIZE])
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return false;
	snprintf(ret, WAYPOINT_SIZE, WAYPOINT_PREFIX "%016" PRIx64, random);
	return true;
}

bool store_begin_waypoint(struct instance *instance)
{
	char name[WAYPOINT_SIZE];

	if (!instance->alone || instance->sealed > 0 ||
	    instance->pool->config.objects < WAYPOINT_OBJECTS_LEAST)
		return false;
	/* Nobody is to make anything in it. */
	if (!*instance->waypoint && name_waypoint(name) &&
	    mkdirat(instance->writable, name, 0111) == 0)
		memcpy(instance->waypoint, name, sizeof(name));
	return *instance->waypoint;
}

/* 0 or -errno. Whose owner has put something in it gets another name, by which nobody seeks it. */
static int remove_waypoint(struct instance *instance)
{
	char name[WAYPOINT_SIZE];

	if (unlinkat(instance->writable, instance->waypoint, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (!name_waypoint(name))
		return -EAGAIN;
	return renameat(instance->writable, instance->waypoint, instance->writable, name) < 0
		       ? -errno
		       : 0;
}

void store_end_waypoint(struct store *store, struct instance *instance)
{
	int error;

	if (!*instance->waypoint)
		return;
	error = remove_waypoint(instance);
	if (error < 0) {
		instance->alone = false;
		instance_notice(store, instance, NOTICE_PLAIN, LOG_ERR,
				"is still opened in without a look: %s", strerror(-error));
		return;
	}
	*instance->waypoint = '\0';
	/* So that nobody seeks it in vain. */
	store_disclaim(store, instance);
}

void store_share(struct store *store, struct instance *instance)
{
	int error;

	if (!instance->alone)
		return;
	store_end_waypoint(store, instance);
	instance->alone = false;
	error = instance_remember(store, instance);
	if (error < 0)
		instance_notice(store, instance, NOTICE_PLAIN, LOG_ERR,
				"is no longer one's alone, which can't be noted: %s",
				strerror(-error));
}

void instance_prepare_release(struct store *store, struct instance *instance)
{
	struct statfs fs;

	/* What is made by itself in a pool that is gone would be nowhere; a mount of it ends. */
	store_disclaim(store, instance);
	instance->mount = fd_close(instance->mount);
	if (*instance->waypoint && fstatfs(instance->writable, &fs) == 0 &&
	    store_objects(instance, &fs).count == 0)
		store_end_waypoint(store, instance);
}

static int lend_failed(struct keeper_failure *ret_why, int error, const char *step)
{
	*ret_why = (struct keeper_failure){ .error = error, .advice = "restart the broker" };
	snprintf(ret_why->step, sizeof(ret_why->step), "%s", step);
	return error;
}

int store_lend(struct store *store, struct instance *instance, int *ret,
	       struct keeper_failure *ret_why)
{
	int error;

	if (instance->not_lent.error) {
		*ret_why = instance->not_lent;
		instance->not_lent.error = 0;
		return ret_why->error;
	}
	if (instance->mount >= 0) {
		error = store_open_up(store, instance);
		if (error)
			return lend_failed(ret_why, error, "noting that it is lent");
		*ret = steal_fd(&instance->mount);
		return 0;
	}
	if (!instance->is_cloning) {
		error = -instance_ask(store, instance, KEEPER_LEND, false);
		if (error)
			return lend_failed(ret_why, error, "asking the keeper");
		instance->is_cloning = true;
	}
	return EAGAIN;
}
