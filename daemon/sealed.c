/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Makes, names and opens sealed objects for operation.c. When they go the kernel tells
 * sealed_watch.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "daemon/clock.h"
#include "daemon/fd.h"
#include "daemon/hash.h"
#include "daemon/object_private.h"
#include "daemon/sealed_private.h"
#include "proto/holder.h"
#include "proto/protocol.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3 */
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

/* What the service manager may need to let one go that it has kept, and the closer a large one. */
#define LEFT_MS 200

static struct sealed *find(const struct sealed_set *all, const struct instance *instance,
			   const char *name)
{
	struct sealed *sealed = NULL;
	struct name_key wanted;

	name_key_set(&wanted, instance, name);
	HASH_FIND(hh, all->names, wanted.bytes, wanted.size, sealed);
	return sealed;
}

struct sealed *sealed_alloc(struct sealed_set *all)
{
	struct sealed *sealed = calloc(1, sizeof(*sealed));

	if (!sealed)
		return NULL;
	sealed->all = all;
	sealed->memory = sealed->holder = -EBADF;
	sealed->memory_number = sealed->holder_number = -1;
	LIST_INSERT_HEAD(&all->list, sealed, entry);
	return sealed;
}

void sealed_free(struct sealed *sealed)
{
	struct sealed_set *all = sealed->all;

	LIST_REMOVE(sealed, entry);
	if (sealed->is_named)
		HASH_DELETE(hh, all->names, sealed);
	sealed_unwatch(sealed);
	fd_close(sealed->memory);
	fd_close(sealed->holder);
	if (sealed->instance) {
		sealed->instance->sealed--;
		sealed->instance->pins--;
	}
	quota_release(all->quota, &sealed->charge);
	free(sealed->note);
	free(sealed);
}

void sealed_belong_to(struct sealed *sealed, struct instance *instance)
{
	sealed->instance = instance;
	instance->sealed++;
	instance->pins++;
}

void sealed_forget(struct sealed *sealed)
{
	struct sealed_set *all = sealed->all;

	creds_reset(all->env->creds);
	all->events->ended(all->events->context, sealed->number);
	state_remove(all->state, STATE_SEALED, sealed->number);
}

/* What the service manager has been told of it may have, too; and what is large is closed
 * elsewhere. */
static void close_memory(struct sealed *sealed)
{
	bool is_others = sealed->number > 0 && state_is_kept(sealed->all->state);

	if (object_close(sealed->all->env, sealed->memory) || is_others)
		sealed->left_ms = clock_now_ms();
	sealed->memory = -EBADF;
}

bool sealed_enter(struct sealed *sealed, const char *name)
{
	name_key_set(&sealed->key, sealed->instance, name);
	HASH_ADD_KEYPTR(hh, sealed->all->names, sealed->key.bytes, sealed->key.size, sealed);
	return HASH_HAS(hh, sealed);
}

void sealed_unname(struct sealed *sealed)
{
	HASH_DELETE(hh, sealed->all->names, sealed);
	sealed->is_named = false;
	sealed_forget(sealed);
	close_memory(sealed);
}

static bool is_going(const struct sealed *sealed, uint64_t now_ms)
{
	return sealed->left_ms > 0 && now_ms < sealed->left_ms + LEFT_MS;
}

bool sealed_may_go(const struct sealed_set *all, const struct instance *instance, uint64_t now_ms)
{
	const struct sealed *sealed;

	LIST_FOREACH (sealed, &all->list, entry)
		if (sealed->instance == instance && is_going(sealed, now_ms))
			return true;
	return false;
}

uint64_t sealed_tick(struct sealed_set *all, uint64_t now_ms)
{
	struct sealed *sealed;
	bool going = false;

	LIST_FOREACH (sealed, &all->list, entry) {
		if (sealed->left_ms == 0)
			continue;
		if (is_going(sealed, now_ms)) {
			going = true;
			continue;
		}
		sealed->left_ms = 0;
		store_wake(sealed->instance);
	}
	return going ? LEFT_MS : 0;
}

/* --- making and naming --- */

/* Memory of a size that can't change any more, of who the credentials are of. 0 or -errno. */
static int make_memory(struct sealed *sealed)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int fd = memfd_create("shmbroker", flags | MFD_NOEXEC_SEAL);

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("shmbroker", flags);
	sealed->memory = fd;
	if (fd < 0 || ftruncate(fd, (off_t)sealed->size) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) < 0)
		return -errno;
	return 0;
}

/* As who the credentials are of, who owns both. 0 or -errno. */
static int make(struct sealed *sealed, mode_t mode)
{
	const struct timespec time = { .tv_sec = HOLDER_TIME_SEC, .tv_nsec = HOLDER_TIME_NSEC };
	const struct timespec times[] = { time, time };
	struct stat st;
	int error = make_memory(sealed);

	if (error == 0)
		error = sealed_watch_memory(sealed);
	if (error == 0)
		error = sealed_watch_holder(sealed);
	if (error < 0)
		return error;
	/* Never executable: where the kernel seals that, it refuses the bits, too. */
	if (fchmod(sealed->memory, mode & 0666) < 0 || fchmod(sealed->holder, 0) < 0 ||
	    futimens(sealed->holder, times) < 0 || fstat(sealed->holder, &st) < 0 ||
	    flock(sealed->holder, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	sealed->holder_ino = st.st_ino;
	return 0;
}

static int client_errno(int error)
{
	switch (error) {
	case -EMFILE:
	case -ENFILE:
		return ENFILE;
	case -ENOMEM:
	case -ENOSPC: /* no more watches: fs.inotify.max_user_watches */
		return ENOMEM;
	case -EDQUOT:
	case -EUSERS:
		return EDQUOT;
	default:
		return EOPNOTSUPP;
	}
}

int sealed_new(struct sealed_set *all, const struct peer *peer, struct instance *instance,
	       int holder, mode_t mode, uint64_t size, const struct quota_limit *limit,
	       struct sealed **ret)
{
	struct sealed *sealed = sealed_alloc(all);
	int error;

	if (!sealed) {
		fd_close(holder);
		return ENOMEM;
	}
	sealed->holder = holder;
	sealed->size = size;
	error = quota_charge(all->quota, &sealed->charge, RESOURCE_SEALED, peer->ids.uid,
			     peer->sandboxed, limit);
	if (error == 0)
		error = make(sealed, mode);
	if (error < 0) {
		sealed_free(sealed);
		return client_errno(error);
	}
	sealed_belong_to(sealed, instance);
	*ret = sealed;
	return 0;
}

int sealed_memory(const struct sealed *sealed)
{
	return sealed->memory;
}

uint64_t sealed_ino(const struct sealed *sealed)
{
	return sealed->holder_ino;
}

void sealed_discard(struct sealed *sealed)
{
	close_memory(sealed);
}

/* From a descriptor that could write to one that can't. 0 or an errno for the client. */
static int seal(struct sealed *sealed, const char **ret_why)
{
	const int wanted = F_SEAL_FUTURE_WRITE | F_SEAL_WRITE;
	int seals, fd;

	if (sealed->is_sealed)
		return 0;
	fcntl(sealed->memory, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL);
	/* Its maker may have sealed it himself, more or less strictly. */
	seals = fcntl(sealed->memory, F_GET_SEALS);
	if (seals < 0 || !(seals & wanted) || !(seals & F_SEAL_SEAL)) {
		*ret_why = "its maker has sealed it so that it can't be sealed against writing";
		return EACCES;
	}
	fd = object_reopen(sealed->all->env, sealed->memory, O_RDONLY);
	if (fd < 0)
		return object_errno(-fd);
	fd_close(sealed->memory);
	sealed->memory = fd;
	sealed->is_sealed = true;
	return 0;
}

/* The note that the next process reads. 0 or -errno. */
static int remember(const struct sealed *sealed, const char *name)
{
	const struct instance *instance = sealed->instance;
	const size_t uid_size = sizeof(instance->owner_uid);

	return state_put(sealed->all->state, STATE_SEALED, sealed->number,
			 "%u/%d/%" PRIu64 "/%u/%.*s/%s/%s", quota_uid(&sealed->charge),
			 quota_is_sandboxed(&sealed->charge), sealed->holder_ino,
			 instance->owner_uid, (int)(instance->key_size - uid_size),
			 instance->key + uid_size, instance->pool->config.name, name);
}

int sealed_publish(struct sealed *sealed, const struct peer *peer,
		   char hidden[static HIDDEN_NAME_SIZE], const char *name, bool replace,
		   const char **ret_why)
{
	struct sealed_set *all = sealed->all;
	struct sealed *other;
	struct stat st;
	int error;

	creds_reset(all->env->creds);
	error = seal(sealed, ret_why);
	if (error)
		return error;
	/* The service manager isn't troubled with what will have no name. */
	if (!replace && fstatat(sealed->instance->writable, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return EEXIST;
	sealed->number = ++all->last_number;
	if (remember(sealed, name) < 0 ||
	    all->events->made(all->events->context, sealed->number, sealed->memory) < 0) {
		sealed_forget(sealed);
		*ret_why = "it can't be kept over a restart";
		return EDQUOT;
	}
	other = find(all, sealed->instance, name);
	if (!sealed_enter(sealed, name)) {
		sealed_forget(sealed);
		return ENOMEM;
	}
	error = object_publish(all->env, sealed->instance, peer, sealed->holder, hidden, name,
			       replace, ret_why);
	if (error) {
		HASH_DELETE(hh, all->names, sealed);
		sealed_forget(sealed);
		return error;
	}
	sealed->is_named = true;
	if (other)
		sealed_unname(other);
	return 0;
}

/* --- by name --- */

struct sealed *sealed_find(struct sealed_set *all, const struct instance *instance,
			   const char *name)
{
	struct sealed *sealed = find(all, instance, name);
	struct stat st;

	if (!sealed)
		return NULL;
	creds_reset(all->env->creds);
	/* Only what is known to have gone has: behind its name there would be the holder alone. */
	if (fstatat(instance->writable, name, &st, AT_SYMLINK_NOFOLLOW) == 0
		    ? st.st_ino == sealed->holder_ino
		    : errno != ENOENT)
		return sealed;
	sealed_unname(sealed);
	return NULL;
}

int sealed_open(const struct sealed *sealed, const struct peer *peer, uint32_t flags, int *ret,
		const char **ret_why)
{
	const struct object_env *env = sealed->all->env;
	int append = flags & WIRE_APPEND ? O_APPEND : 0, error;
	char number[16];
	struct stat st;

	if (sealed->instance->pool->config.access == POOL_ACCESS_GRANT) {
		*ret = object_reopen(env, sealed->memory, O_RDONLY | append);
		return *ret < 0 ? object_errno(-*ret) : 0;
	}
	error = object_act_as(env, sealed->instance, peer, ret_why);
	if (error)
		return error;
	/* Who can't look a name up in the directory doesn't find this one there either. */
	if (fstatat(sealed->instance->writable, name_key_name(&sealed->key), &st,
		    AT_SYMLINK_NOFOLLOW) < 0)
		return object_errno(errno);
	snprintf(number, sizeof(number), "%d", sealed->memory);
	*ret = openat(env->proc_fds, number, O_RDONLY | append | O_CLOEXEC);
	return *ret < 0 ? object_errno(errno) : 0;
}

void sealed_correct(const struct sealed_set *all, const struct instance *instance, const char *name,
		    struct object_info *info)
{
	const struct sealed *sealed;
	struct stat st;

	if (instance->sealed == 0)
		return;
	sealed = find(all, instance, name);
	if (!sealed || sealed->holder_ino != info->ino || fstat(sealed->memory, &st) < 0)
		return;
	info->is_sealed = true;
	info->size = (uint64_t)st.st_size;
	info->allocated = (uint64_t)st.st_blocks * 512;
	info->ino = st.st_ino;
	info->uid = st.st_uid;
	info->gid = st.st_gid;
	info->mode = st.st_mode;
}
