/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Opens and names objects for the broker. In a pool with access "caller" the
 * kernel decides under the caller's ids; with "grant" the rules have decided
 * already and only the making happens under his ids, so that he owns it.
 */
#include "daemon/object.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/directory.h"
#include "daemon/fd.h"
#include "daemon/object_private.h"
#include "proto/protocol.h"

const char object_not_created[] = "the object is not there, and the rule does not allow create";

/* How often a name may appear and vanish between our looks before we give up. */
#define RACES_MAX 1000

/* What the kernel said, as the client gets it: the table in client/shmbroker.h. */
int object_errno(int error)
{
	switch (error) {
	case EPERM:
	case EROFS:
		return EACCES;
	case ELOOP:
	case EISDIR:
	case ENOTDIR:
	case ENXIO:
	case ENODEV:
		return EINVAL;
	case EMFILE: /* ours, not the caller's */
		return ENFILE;
	case EOPNOTSUPP:
		return EINVAL;
	default:
		return error;
	}
}

int object_open_flags(uint32_t flags)
{
	int access = O_RDONLY;

	if (flags & WIRE_WRITE)
		access = flags & WIRE_READ ? O_RDWR : O_WRONLY;
	return access | (flags & WIRE_APPEND ? O_APPEND : 0) | OBJECT_OPEN_ALWAYS;
}

int object_settle_flags(int fd, uint32_t flags)
{
	return fcntl(fd, F_SETFL, flags & WIRE_APPEND ? O_APPEND : 0) < 0 ? errno : 0;
}

/* Whether what was opened is a plain object. Where only the broker makes names, it is. */
static int check_object(const struct instance *instance, int fd)
{
	struct stat st;

	if (instance->broker_only)
		return 0;
	if (fstat(fd, &st) < 0)
		return object_errno(errno);
	if (!S_ISREG(st.st_mode))
		return EINVAL;
	/* With the broker's own rights a second name could be a way to another's object. */
	if (instance->pool->config.access == POOL_ACCESS_GRANT && st.st_nlink > 1)
		return EINVAL;
	return 0;
}

bool object_is_same(int a, int b)
{
	struct stat one, other;

	return fstat(a, &one) == 0 && fstat(b, &other) == 0 && one.st_ino == other.st_ino &&
	       one.st_dev == other.st_dev;
}

/* The caller's ids, where there is a right to take them. */
int object_act_as(const struct object_env *env, const struct instance *instance,
		  const struct peer *peer, const char **ret_why)
{
	int error;

	if (instance->pool->config.access == POOL_ACCESS_GRANT &&
	    (!env->self->may_set_ids || peer->ids.uid == env->self->overflow_uid)) {
		creds_reset(env->creds); /* made under our own ids */
		return 0;
	}
	error = creds_assume(env->creds, &peer->ids, peer->sandboxed ? 0 : peer->effective_caps);
	if (error == 0)
		return 0;
	/* Ids that this namespace doesn't know: there the rules have decided, and it is made as
	 * ours. */
	if (error == -EOPNOTSUPP && instance->pool->config.access == POOL_ACCESS_GRANT) {
		creds_reset(env->creds);
		return 0;
	}
	*ret_why = error == -EOPNOTSUPP
			   ? "the broker can't act under this user's ids in a pool with "
			     "access = \"caller\""
			   : "the broker could not take this user's ids";
	return -error == EOPNOTSUPP ? EOPNOTSUPP : EACCES;
}

int object_open_own(const struct object_env *env, const struct instance *instance, int dir,
		    const char *name, int flags)
{
	int fd;

	creds_reset(env->creds);
	fd = openat(dir, name, flags);
	if (fd >= 0)
		return fd;
	if (errno == EACCES && env->self->uid != 0)
		return directory_open_own(dir, instance->writable, name, flags);
	return -errno;
}

/* A device on a mount with nodev is EACCES to the kernel, whatever its permission bits. */
static int refused_errno(const struct instance *instance, const char *name, int error)
{
	struct stat st;

	if (error == EACCES && !instance->broker_only &&
	    fstatat(instance->writable, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)))
		return EINVAL;
	return object_errno(error);
}

int object_reopen_read_only(const struct object_env *env, const struct instance *instance,
			    const char *name, int *fd)
{
	int dir = instance->read_only >= 0 ? instance->read_only : instance->writable;
	_cleanup_close_ int theirs = -EBADF;

	theirs = object_open_own(env, instance, dir, name, O_RDONLY | OBJECT_OPEN_ALWAYS);
	if (theirs < 0)
		return object_errno(-theirs);
	if (!instance->broker_only && !object_is_same(theirs, *fd))
		return ENOENT; /* unlinked or replaced since */
	fd_close(*fd);
	*fd = steal_fd(&theirs);
	return 0;
}

bool object_through_twin(const struct instance *instance, const struct object_how *how)
{
	return !(how->flags & WIRE_WRITE) && instance->read_only >= 0;
}

int object_check_size(const struct instance *instance, const struct object_how *how,
		      const char **ret_why)
{
	if (how->size_bytes > how->max_size_bytes) {
		*ret_why = "the size is over the rule's max-size";
		return EFBIG;
	}
	if (how->size_bytes > INT64_MAX)
		return EFBIG;
	if (instance->limit_bytes > 0 && how->size_bytes > instance->limit_bytes) {
		*ret_why = "the size is over the pool's";
		return ENOSPC;
	}
	return 0;
}

/*
 * An ordinary user's broker can't reopen a file of mode 0000, but it owns it, and lends itself the
 * bits for the moment.
 */
int object_reopen(const struct object_env *env, int fd, int flags)
{
	struct stat st;
	char link[16];
	int theirs;

	snprintf(link, sizeof(link), "%d", fd);
	creds_reset(env->creds);
	theirs = openat(env->proc_fds, link, flags | O_CLOEXEC);
	if (theirs >= 0 || errno != EACCES)
		return theirs < 0 ? -errno : theirs;
	if (fstat(fd, &st) < 0 || fchmod(fd, (st.st_mode & 07777) | 0600) < 0)
		return -EACCES;
	theirs = openat(env->proc_fds, link, flags | O_CLOEXEC);
	if (theirs < 0)
		theirs = -errno;
	if (fchmod(fd, st.st_mode & 07777) < 0) {
		fd_close(theirs);
		return -EACCES;
	}
	return theirs;
}

/* Opens what is there with the broker's rights: the rules have decided. */
static int open_existing_grant(const struct object_env *env, struct instance *instance,
			       const char *name, const struct object_how *how, struct object *ret)
{
	bool twin = object_through_twin(instance, how);
	bool truncate = how->flags & WIRE_TRUNCATE;
	int flags = truncate && !(how->flags & WIRE_WRITE) ? O_RDWR | OBJECT_OPEN_ALWAYS
							   : object_open_flags(how->flags);
	int error;

	/* To look takes nobody's ids off; whoever is asked to make it next would put them on again.
	 */
	if (how->flags & WIRE_CREATE && env->creds->is_assumed && instance->broker_only &&
	    !object_exists(instance, name))
		return ENOENT;
	ret->fd = object_open_own(env, instance,
				  twin && !truncate ? instance->read_only : instance->writable,
				  name, flags);
	if (ret->fd < 0)
		return refused_errno(instance, name, -ret->fd);
	error = check_object(instance, ret->fd);
	if (error || !truncate)
		return error;
	/* Only now: another's object under a second name must not lose its content. */
	if (ftruncate(ret->fd, 0) < 0)
		return object_errno(errno);
	return how->flags & WIRE_WRITE ? 0 : object_reopen_read_only(env, instance, name, &ret->fd);
}

/* Opens what is there under the caller's ids: one openat with his own flags. */
static int open_existing_caller(const struct object_env *env, struct instance *instance,
				const struct peer *peer, const char *name,
				const struct object_how *how, struct object *ret,
				const char **ret_why)
{
	bool twin = object_through_twin(instance, how);
	bool truncate = how->flags & WIRE_TRUNCATE;
	int flags = object_open_flags(how->flags);
	int error;

	error = object_act_as(env, instance, peer, ret_why);
	if (error)
		return error;
	/*
	 * O_CREAT counts for fs.protected_regular, whether it makes something or not. What is
	 * made with a size is made elsewhere, or somebody could see it short.
	 */
	if ((how->flags & WIRE_CREATE) && how->may_create && how->size_bytes == 0)
		flags |= O_CREAT;
	if (twin && !truncate) {
		ret->fd = openat(instance->read_only, name, flags, how->mode);
		if (ret->fd < 0 && errno == EROFS && (flags & O_CREAT))
			return ENOENT;
	} else {
		if (truncate && twin)
			flags = (flags & ~O_ACCMODE) | O_RDWR;
		ret->fd = openat(instance->writable, name, flags | (truncate ? O_TRUNC : 0),
				 how->mode);
	}
	if (ret->fd < 0)
		return refused_errno(instance, name, errno);
	error = check_object(instance, ret->fd);
	if (error || !twin || !truncate)
		return error;
	return object_reopen_read_only(env, instance, name, &ret->fd);
}

static int open_existing(const struct object_env *env, struct instance *instance,
			 const struct peer *peer, const char *name, const struct object_how *how,
			 struct object *ret, const char **ret_why)
{
	if (instance->pool->config.access == POOL_ACCESS_GRANT)
		return open_existing_grant(env, instance, name, how, ret);
	return open_existing_caller(env, instance, peer, name, how, ret, ret_why);
}

/* What is asked, tried until nobody comes between two of its steps. */
static int open_or_make(const struct object_env *env, struct instance *instance,
			const struct peer *peer, const char *name, const struct object_how *how,
			struct object *ret, const char **ret_why)
{
	bool create = how->flags & WIRE_CREATE;
	bool exclusive = create && (how->flags & WIRE_EXCLUSIVE);
	/* Natively the kernel looks and makes in one step: making first is nearer to it where it
	 * decides. */
	bool make_first = exclusive || (create && how->may_create && how->size_bytes == 0 &&
					instance->pool->config.access == POOL_ACCESS_CALLER);
	int error;

	if (how->no_name)
		return object_make(env, instance, peer, name, how, ret, ret_why);
	for (int races = 0; races < RACES_MAX; races++) {
		if (make_first) {
			error = object_make(env, instance, peer, name, how, ret, ret_why);
			if (error != EEXIST || exclusive)
				return error;
		}
		error = open_existing(env, instance, peer, name, how, ret, ret_why);
		if (error != ENOENT || !create)
			return error;
		ret->fd = fd_close(ret->fd);
		if (!how->may_create) {
			*ret_why = object_not_created;
			return EACCES;
		}
		if (!make_first) {
			error = object_make(env, instance, peer, name, how, ret, ret_why);
			if (error != EEXIST)
				return error;
		}
	}
	return EAGAIN;
}

int object_open(const struct object_env *env, struct instance *instance, const struct peer *peer,
		const char *name, const struct object_how *how, struct object *ret,
		const char **ret_why)
{
	int error;

	*ret = (struct object){ .fd = -EBADF };
	error = open_or_make(env, instance, peer, name, how, ret, ret_why);
	if (error == 0 && !ret->created)
		error = object_settle_flags(ret->fd, how->flags);
	if (error)
		ret->fd = fd_close(ret->fd);
	return error;
}
