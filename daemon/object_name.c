/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names of objects: given, taken away, looked at. For the broker, as object.c is. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/directory.h"
#include "daemon/fd.h"
#include "daemon/object_private.h"

/*
 * An object with so much memory is not freed here, which takes tens of milliseconds a gigabyte. In
 * a smaller pool nothing is worth the look.
 */
#define LARGE_BYTES ((uint64_t)16 * 1024 * 1024)
#define LARGE_POOL_BYTES (4 * LARGE_BYTES)
/* Freeing so much takes as long as removing a name. */
#define WORK_BYTES (LARGE_BYTES / OBJECT_WORK_MAX)

static bool is_large_object(const struct stat *st)
{
	return (uint64_t)st->st_blocks * 512 >= LARGE_BYTES;
}

static void count_memory(const struct stat *st, unsigned *left)
{
	uint64_t work = (uint64_t)st->st_blocks * 512 / WORK_BYTES;

	*left = work < *left ? *left - (unsigned)work : 0;
}

static int hold(const struct instance *instance, const char *name, const struct stat *st)
{
	if (!is_large_object(st))
		return -EBADF;
	return openat(instance->writable, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
}

/* The last reference to what is about to lose its name, if it is large; else a negative number. */
static int hold_large(const struct instance *instance, const char *name)
{
	struct stat st;

	if (instance->limit_bytes > 0 && instance->limit_bytes <= LARGE_POOL_BYTES)
		return -EBADF;
	if (fstatat(instance->writable, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -EBADF;
	return hold(instance, name, &st);
}

static void let_go(const struct object_env *env, int held)
{
	if (held >= 0)
		env->loop->close_elsewhere(env->loop, held);
}

bool object_close(const struct object_env *env, int fd)
{
	struct stat st;
	bool is_large = fd >= 0 && fstat(fd, &st) == 0 && is_large_object(&st);

	if (is_large)
		env->loop->close_elsewhere(env->loop, fd);
	else
		fd_close(fd);
	return is_large;
}

void object_count(int fd, unsigned *left)
{
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0)
		count_memory(&st, left);
}

int object_link(const struct object_env *env, int fd, int dir, const char *name)
{
	char number[16];

	snprintf(number, sizeof(number), "%d", fd);
	if (linkat(env->proc_fds, number, dir, name, AT_SYMLINK_FOLLOW) < 0)
		return errno;
	return 0;
}

/* A hidden name that nobody can ask for; swept at start if we die with it. */
int object_hidden_name(char ret[static HIDDEN_NAME_SIZE])
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return EAGAIN;
	snprintf(ret, HIDDEN_NAME_SIZE, NAME_RESERVED_PREFIX "%016llx", (unsigned long long)random);
	return 0;
}

/* Removing and replacing in a sticky directory is its owner's right. */
static void act_as_directory_owner(const struct object_env *env, const struct instance *instance)
{
	struct ids owner = { .uid = instance->directory_uid, .gid = instance->directory_gid };

	if (owner.uid != env->self->uid && env->self->may_set_ids &&
	    creds_assume(env->creds, &owner, 0) == 0)
		return;
	creds_reset(env->creds);
}

/* With whose rights are in force. 0 or the kernel's errno. */
static int unlink_now(const struct object_env *env, const struct instance *instance,
		      const char *name)
{
	int held = hold_large(instance, name);
	int error = directory_unlink(instance->writable, name);

	let_go(env, held);
	return error;
}

int object_unlink(const struct object_env *env, struct instance *instance, const struct peer *peer,
		  const char *name)
{
	const char *why = NULL;
	int error;

	/* His own he may remove himself: his ids, where they are in force, need not be taken off.
	 */
	if (instance->broker_only && instance->pool->config.access == POOL_ACCESS_GRANT &&
	    creds_are(env->creds, &peer->ids)) {
		error = unlink_now(env, instance, name);
		if (error != EACCES && error != EPERM)
			return error ? object_errno(error) : 0;
	}
	if (instance->pool->config.access == POOL_ACCESS_GRANT) {
		act_as_directory_owner(env, instance);
	} else {
		error = object_act_as(env, instance, peer, &why);
		if (error)
			return error;
	}
	error = unlink_now(env, instance, name);
	return error == ENOTEMPTY ? ENOTEMPTY : object_errno(error);
}

static const char lost[] = "others have removed what it was to get its name from: make another";

static int hide(const struct object_env *env, const struct instance *instance, int fd,
		char hidden[static HIDDEN_NAME_SIZE], const char **ret_why)
{
	int error;

	if (*hidden)
		return 0;
	/* So that no other pool or broker of this directory takes it for what a broker has left. */
	flock(fd, LOCK_EX | LOCK_NB);
	error = object_hidden_name(hidden);
	if (error == 0)
		error = object_link(env, fd, instance->writable, hidden);
	if (error)
		*hidden = '\0';
	if (error == ENOENT)
		*ret_why = lost;
	return object_errno(error);
}

/* From its hidden name; also in the place of another. */
static int rename_hidden(const struct object_env *env, struct instance *instance,
			 char hidden[static HIDDEN_NAME_SIZE], const char *name, bool with_replace,
			 const char **ret_why)
{
	int error, held;

	if (instance->pool->config.access == POOL_ACCESS_GRANT)
		act_as_directory_owner(env, instance);
	held = with_replace ? hold_large(instance, name) : -EBADF;
	error = renameat2(instance->writable, hidden, instance->writable, name,
			  with_replace ? 0 : RENAME_NOREPLACE) < 0
			? errno
			: 0;
	let_go(env, held);
	if (!error || error == ENOENT)
		*hidden = '\0';
	if (error == ENOENT)
		*ret_why = lost;
	if (error == EISDIR)
		return EINVAL;
	if (instance->pool->config.access == POOL_ACCESS_GRANT && error == EPERM) {
		*ret_why = "the pool's directory belongs to another user and is sticky: "
			   "nothing can be replaced in it";
		return EOPNOTSUPP;
	}
	return object_errno(error);
}

int object_publish(const struct object_env *env, struct instance *instance, const struct peer *peer,
		   int fd, char hidden[static HIDDEN_NAME_SIZE], const char *name,
		   bool with_replace, const char **ret_why)
{
	int error;

	if (instance->pool->config.access == POOL_ACCESS_GRANT) {
		creds_reset(env->creds);
	} else {
		error = object_act_as(env, instance, peer, ret_why);
		if (error)
			return error;
	}
	if (!with_replace && !*hidden)
		return object_errno(object_link(env, fd, instance->writable, name));
	error = hide(env, instance, fd, hidden, ret_why);
	return error ? error : rename_hidden(env, instance, hidden, name, with_replace, ret_why);
}

int object_stat(const struct instance *instance, const char *name, struct object_info *ret)
{
	struct statx sx;

	if (statx(instance->writable, name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME,
		  &sx) < 0)
		return object_errno(errno);
	*ret = (struct object_info){
		.size = sx.stx_size,
		.allocated = sx.stx_blocks * 512,
		.ino = sx.stx_ino,
		.uid = sx.stx_uid,
		.gid = sx.stx_gid,
		.mode = sx.stx_mode,
	};
	if (sx.stx_mask & STATX_BTIME)
		ret->created_ns = (uint64_t)sx.stx_btime.tv_sec * 1000000000 + sx.stx_btime.tv_nsec;
	return 0;
}

int object_unlink_if(const struct object_env *env, struct instance *instance,
		     const struct ids *maker, const char *name, uint64_t ino, unsigned *left)
{
	struct stat st;
	int error, held;

	if (instance->pool->config.access == POOL_ACCESS_GRANT)
		act_as_directory_owner(env, instance);
	else if (creds_assume(env->creds, maker, 0) < 0)
		return EACCES;
	if (fstatat(instance->writable, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return object_errno(errno);
	if (st.st_ino != ino)
		return ENOENT;
	if (left)
		count_memory(&st, left);
	held = hold(instance, name, &st);
	error = directory_unlink(instance->writable, name);
	let_go(env, held);
	return object_errno(error);
}

void object_unhide(const struct object_env *env, struct instance *instance,
		   char hidden[static HIDDEN_NAME_SIZE])
{
	struct ids owner = { 0 };
	struct stat st;

	if (!*hidden || fstatat(instance->writable, hidden, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	owner.uid = st.st_uid;
	owner.gid = st.st_gid;
	object_unlink_if(env, instance, &owner, hidden, st.st_ino, NULL);
	creds_reset(env->creds);
	*hidden = '\0';
}
