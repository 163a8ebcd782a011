/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How an instance comes by its directories, by the kind of its pool. For store.c and store_apply.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <syslog.h>

#include "daemon/directory.h"
#include "daemon/fd.h"
#include "daemon/store_private.h"

static void fail_from_errno(struct keeper_failure *why, int error, const char *step,
			    const char *advice)
{
	why->error = error;
	snprintf(why->step, sizeof(why->step), "%s", step);
	snprintf(why->advice, sizeof(why->advice), "%s", advice);
}

static void absent(struct store *store, struct instance *instance)
{
	instance->state = INSTANCE_ABSENT;
	if (instance->pool->config.kind == POOL_MADE)
		instance_forget(store, instance->number);
	/* A directory that isn't served needn't be kept busy. */
	instance->writable = fd_close(instance->writable);
	instance->read_only = fd_close(instance->read_only);
	instance_notice(store, instance, NOTICE_POOL_MISSING, LOG_WARNING,
			"can't be had: %s: %s; %s", instance->why.step,
			strerror(instance->why.error), instance->why.advice);
	store_wake(instance);
}

void instance_ready(struct store *store, struct instance *instance)
{
	const struct pool_config *config = &instance->pool->config;
	struct stat st;
	struct statfs fs;

	instance->broker_only = config->kind == POOL_MADE && !instance->was_lent;
	if (fstat(instance->writable, &st) == 0) {
		instance->directory_uid = st.st_uid;
		instance->directory_gid = st.st_gid;
	}
	if (config->kind == POOL_MADE)
		instance->limit_bytes = config->size_bytes;
	else if (fstatfs(instance->writable, &fs) == 0)
		instance->limit_bytes = (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize;
	if (config->kind != POOL_MADE)
		directory_sweep(instance->writable);
	instance->state = INSTANCE_READY;
	instance->last_used_ms = store->now_ms;
	if (store->events->ready)
		store->events->ready(store->events->context, instance);
	store_wake(instance);
}

static int open_directory(const char *key, const char *path, struct keeper_failure *why)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct statfs fs;

	if (fd < 0) {
		why->error = errno;
		snprintf(why->step, sizeof(why->step), "open of %s", key);
		snprintf(why->advice, sizeof(why->advice),
			 "the directory %.150s must exist and be reachable", path);
		return -EBADF;
	}
	if (fstatfs(fd, &fs) < 0 || fs.f_type != TMPFS_MAGIC) {
		why->error = EOPNOTSUPP;
		snprintf(why->step, sizeof(why->step), "fstatfs of %s", key);
		snprintf(why->advice, sizeof(why->advice),
			 "a pool's directory must be on a tmpfs, which %.140s is not", path);
		return -EBADF;
	}
	return steal_fd(&fd);
}

/*
 * A clone of the given twin's mount in a namespace of its own, where it can be had: the given one
 * is read-only for all but who may change the mounts of the namespace that holds it.
 */
static void start_given(struct store *store, struct instance *instance, bool for_apply)
{
	const struct pool_config *config = &instance->pool->config;
	int error;

	instance->writable = open_directory("path", config->path, &instance->why);
	if (instance->writable >= 0)
		instance->read_only = open_directory("read-only-path", config->read_only_path,
						     &instance->why);
	if (instance->read_only < 0) {
		absent(store, instance);
		return;
	}
	error = keeper_check_twin(instance->writable, instance->read_only, &instance->why);
	if (error)
		absent(store, instance);
	else if (instance_ask(store, instance, KEEPER_TWIN, for_apply) < 0)
		instance_ready(store, instance);
}

static void without_twin(struct store *store, struct instance *instance)
{
	instance_notice(
		store, instance, NOTICE_PLAIN, LOG_WARNING,
		"has no read-only twin, so rules that grant reading alone are refused there: "
		"%s: %s; %s",
		instance->why.step, strerror(instance->why.error), instance->why.advice);
	instance_ready(store, instance);
}

static void start_path(struct store *store, struct instance *instance, bool for_apply)
{
	int error;

	instance->writable = open_directory("path", instance->pool->config.path, &instance->why);
	if (instance->writable < 0) {
		absent(store, instance);
		return;
	}
	error = instance_ask(store, instance, KEEPER_TWIN, for_apply);
	if (error == 0)
		return;
	fail_from_errno(&instance->why, -error, "asking the helper", "restart the broker");
	without_twin(store, instance);
}

void instance_start(struct store *store, struct instance *instance, bool for_apply)
{
	int error;

	instance->state = INSTANCE_MAKING;
	switch (instance->pool->config.kind) {
	case POOL_GIVEN:
		start_given(store, instance, for_apply);
		return;
	case POOL_PATH:
		start_path(store, instance, for_apply);
		return;
	case POOL_MADE:
		if (!keeper_has_table(store->keeper, &instance->why)) {
			absent(store, instance);
			return;
		}
		/* Noted first: one that nobody knows of would never be released. */
		error = instance_remember(store, instance);
		if (error < 0) {
			fail_from_errno(&instance->why, -error, "noting whose it is",
					"it would be lost in a restart");
			absent(store, instance);
			return;
		}
		error = instance_ask(store, instance, KEEPER_MAKE, for_apply);
		if (error == 0)
			return;
		fail_from_errno(&instance->why, -error, "asking the keeper", "restart the broker");
		absent(store, instance);
	}
}

/*
 * The answer could not be received for want of descriptors here: so the pool may be
 * there all the same, and nobody else would ever release it. Ours gets another number.
 */
static void take_next_number(struct store *store, struct instance *instance)
{
	TAILQ_REMOVE(&store->instances, instance, entry);
	instance->number = ++store->last_number;
	TAILQ_INSERT_TAIL(&store->instances, instance, entry);
}

static void abandon_number(struct store *store, struct instance *instance)
{
	if (instance_ask(store, instance, KEEPER_RELEASE, false) == 0)
		take_next_number(store, instance);
}

/* A pool that nobody knows of any more has this number. Whether it is made under the next. */
static bool make_under_next(struct store *store, struct instance *instance)
{
	instance_forget(store, instance->number);
	take_next_number(store, instance);
	return instance_remember(store, instance) == 0 &&
	       instance_ask(store, instance, KEEPER_MAKE, false) == 0;
}

/* The keeper has made it, or has said why not. */
void instance_made(struct store *store, struct instance *instance, struct keeper_reply *reply)
{
	if (instance->state != INSTANCE_MAKING)
		return;
	if (reply->failure.error == EEXIST && make_under_next(store, instance))
		return;
	instance->writable = steal_fd(&reply->writable);
	instance->read_only = steal_fd(&reply->read_only);
	instance->why = reply->failure;
	if (reply->failure.error == EMFILE)
		abandon_number(store, instance);
	if (reply->failure.error) {
		absent(store, instance);
	} else {
		instance_ready(store, instance);
		instance_notice(store, instance, NOTICE_POOL_MADE, LOG_INFO, "was made");
	}
	instance_conform(store, instance, false);
}

void instance_twinned(struct store *store, struct instance *instance, struct keeper_reply *reply)
{
	struct keeper_failure why = reply->failure;

	if (instance->state != INSTANCE_MAKING && instance->state != INSTANCE_READY)
		return;
	if (why.error == 0 && keeper_check_twin(instance->writable, reply->read_only, &why) == 0) {
		fd_close(instance->read_only);
		instance->read_only = steal_fd(&reply->read_only);
	}
	if (instance->read_only >= 0) {
		/* What was missing before is there. */
		instance->why = (struct keeper_failure){ 0 };
		instance_ready(store, instance);
		return;
	}
	instance->why = why;
	without_twin(store, instance);
}
