/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Makes objects, empty or of a size, under the ids of who asks for them. For object.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/directory.h"
#include "daemon/fd.h"
#include "daemon/object_private.h"
#include "proto/protocol.h"

/*
 * Where the rules alone decide, the directory's permission bits have no say either: still under the
 * caller's ids, so that he owns what is made, but past them if the broker may go there.
 */
static bool act_past_directory(const struct object_env *env, const struct instance *instance,
			       const struct peer *peer)
{
	uint64_t past = env->creds->own_caps.effective & CREDS_CAP(CAP_DAC_OVERRIDE);

	if (instance->pool->config.access != POOL_ACCESS_GRANT || !env->creds->is_assumed || !past)
		return false;
	return creds_change(env->creds, &peer->ids, env->creds->effective | past) == 0;
}

/* A file without a name, of its size. A descriptor or -errno. Under the credentials that are. */
static int make_nameless(const struct instance *instance, const struct object_how *how)
{
	_cleanup_close_ int fd = -EBADF;

	fd = openat(instance->writable, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, how->mode);
	if (fd < 0)
		return -errno;
	if (how->size_bytes > 0 && ftruncate(fd, (off_t)how->size_bytes) < 0)
		return -errno;
	return steal_fd(&fd);
}

bool object_exists(const struct instance *instance, const char *name)
{
	struct stat st;

	return fstatat(instance->writable, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/*
 * The kernel makes a file first and opens it then: between the two somebody of the same uid, who
 * opens names too, can take a lease on it. So only where nobody does there is nothing to wait for.
 */
static int open_exclusively(const struct instance *instance, const char *name, int flags,
			    mode_t mode)
{
	int fd, error;

	if (instance->broker_only)
		flags &= ~O_NONBLOCK;
	fd = openat(instance->writable, name, flags | O_CREAT | O_EXCL, mode);
	if (fd >= 0)
		return fd;
	error = -errno;
	/* It has been made, and is nobody's. Only who is its owner can have leased it. */
	if (error == -EAGAIN)
		unlinkat(instance->writable, name, 0);
	return error;
}

/* Under the caller's ids, with the flags that he gets. 0, EEXIST, or another errno. */
static int open_new(const struct object_env *env, struct instance *instance,
		    const struct peer *peer, const char *name, const struct object_how *how,
		    int flags, mode_t mode, struct object *ret)
{
	int fd = open_exclusively(instance, name, flags, mode);

	if (fd == -EACCES && act_past_directory(env, instance, peer))
		fd = open_exclusively(instance, name, flags, mode);
	if (fd < 0)
		return object_errno(-fd);
	ret->fd = fd;
	ret->created = true;
	return instance->broker_only ? 0 : object_settle_flags(fd, how->flags);
}

/* What was made by a descriptor that does more, for who only reads. */
static int reopen_read_only(const struct object_env *env, const struct instance *instance,
			    const char *name, const struct object_how *how, struct object *ret)
{
	int error = object_reopen_read_only(env, instance, name, &ret->fd);

	return error ? error : object_settle_flags(ret->fd, how->flags);
}

/*
 * Of a size, where nobody but the broker opens names, so that nobody sees it shorter. Until it has
 * its size it is sticky: by that the next start knows what we died with.
 */
static int make_sized_alone(const struct object_env *env, struct instance *instance,
			    const struct peer *peer, const char *name, const struct object_how *how,
			    struct object *ret)
{
	bool writes = how->flags & WIRE_WRITE;
	int flags = writes ? object_open_flags(how->flags) : O_RDWR | OBJECT_OPEN_ALWAYS, error;

	error = open_new(env, instance, peer, name, how, flags, how->mode | DIRECTORY_UNFINISHED,
			 ret);
	if (error)
		return error;
	if (ftruncate(ret->fd, (off_t)how->size_bytes) < 0 || fchmod(ret->fd, how->mode) < 0)
		return object_errno(errno);
	return writes ? 0 : reopen_read_only(env, instance, name, how, ret);
}

/* O_TMPFILE would show among the status flags: so it is opened by its name. */
static int open_linked(const struct object_env *env, const struct instance *instance,
		       const char *name, const struct object_how *how, struct object *ret)
{
	int flags = object_open_flags(how->flags);
	int fd = openat(instance->writable, name, flags);

	if (fd < 0)
		fd = errno == EACCES
			     ? object_open_own(env, instance, instance->writable, name, flags)
			     : -errno;
	if (fd < 0)
		return object_errno(-fd);
	/* Else it is another's by now. */
	if (!instance->broker_only && !object_is_same(fd, ret->fd)) {
		fd_close(fd);
		return ENOENT;
	}
	fd_close(ret->fd);
	ret->fd = fd;
	return object_settle_flags(fd, how->flags);
}

/* Of a size, where others may open names: it has it before it has a name. */
static int make_sized_beside(const struct object_env *env, struct instance *instance,
			     const struct peer *peer, const char *name,
			     const struct object_how *how, struct object *ret)
{
	_cleanup_close_ int nameless = make_nameless(instance, how);
	int error;

	if (nameless == -EACCES && act_past_directory(env, instance, peer))
		nameless = make_nameless(instance, how);
	/* In a full pool, too. */
	if (nameless == -ENOSPC && !how->no_name && object_exists(instance, name))
		return EEXIST;
	if (nameless < 0)
		return object_errno(-nameless);
	error = how->no_name ? 0 : object_link(env, nameless, instance->writable, name);
	if (error)
		return object_errno(error);
	ret->fd = steal_fd(&nameless);
	ret->created = true;
	if (how->no_name)
		return 0;
	if (object_through_twin(instance, how))
		return reopen_read_only(env, instance, name, how, ret);
	return open_linked(env, instance, name, how, ret);
}

/* A new object of a size: nobody ever sees it shorter. 0, EEXIST, or another errno. */
static int make_sized(const struct object_env *env, struct instance *instance,
		      const struct peer *peer, const char *name, const struct object_how *how,
		      struct object *ret, const char **ret_why)
{
	int error = object_act_as(env, instance, peer, ret_why);

	if (error)
		return error;
	error = object_check_size(instance, how, ret_why);
	/* The name is looked at first: what is there has a size already. */
	if (error && !how->no_name && object_exists(instance, name)) {
		*ret_why = NULL;
		return EEXIST;
	}
	if (error)
		return error;
	return instance->broker_only && !how->no_name
		       ? make_sized_alone(env, instance, peer, name, how, ret)
		       : make_sized_beside(env, instance, peer, name, how, ret);
}

/* A new, empty object under the caller's ids. 0, EEXIST, or another errno. */
static int make_empty(const struct object_env *env, struct instance *instance,
		      const struct peer *peer, const char *name, const struct object_how *how,
		      struct object *ret, const char **ret_why)
{
	bool twin = object_through_twin(instance, how);
	int error = object_act_as(env, instance, peer, ret_why);

	if (error)
		return error;
	error = open_new(env, instance, peer, name, how,
			 twin ? O_RDWR | OBJECT_OPEN_ALWAYS : object_open_flags(how->flags),
			 how->mode, ret);
	if (error)
		return error;
	return twin ? reopen_read_only(env, instance, name, how, ret) : 0;
}

/*
 * Made, but can't be handed over: it leaves no name, if it still is ours. Where others can change
 * names meanwhile it must not be more than its maker may remove.
 */
static void unmake(const struct object_env *env, struct instance *instance, const struct peer *peer,
		   const char *name, int fd)
{
	struct stat made, named;
	const char *why;

	if (instance->pool->config.access == POOL_ACCESS_GRANT)
		creds_reset(env->creds);
	else if (object_act_as(env, instance, peer, &why))
		return;
	if (fstat(fd, &made) == 0 &&
	    fstatat(instance->writable, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
	    made.st_ino == named.st_ino && made.st_dev == named.st_dev)
		unlinkat(instance->writable, name, 0);
}

static int make(const struct object_env *env, struct instance *instance, const struct peer *peer,
		const char *name, const struct object_how *how, struct object *ret,
		const char **ret_why)
{
	int error;

	if (how->size_bytes > 0 || how->no_name)
		error = make_sized(env, instance, peer, name, how, ret, ret_why);
	else
		error = make_empty(env, instance, peer, name, how, ret, ret_why);
	if (error && ret->created && !how->no_name)
		unmake(env, instance, peer, name, ret->fd);
	return error;
}

/*
 * Makes it under a hidden name and opens it there, and only then gives it its own: for a name that
 * somebody unlinks faster than we come to open what we made. EEXIST: the name is taken.
 */
static int make_aside(const struct object_env *env, struct instance *instance,
		      const struct peer *peer, const char *name, const struct object_how *how,
		      struct object *ret, const char **ret_why)
{
	char hidden[HIDDEN_NAME_SIZE];
	int dir = instance->writable, error;

	error = object_hidden_name(hidden);
	if (error == 0)
		error = make(env, instance, peer, hidden, how, ret, ret_why);
	if (error)
		return error;
	error = object_act_as(env, instance, peer, ret_why);
	if (error == 0 && renameat2(dir, hidden, dir, name, RENAME_NOREPLACE) < 0)
		error = errno;
	if (error == EACCES && act_past_directory(env, instance, peer))
		error = renameat2(dir, hidden, dir, name, RENAME_NOREPLACE) < 0 ? errno : 0;
	if (error == 0)
		return 0;
	unmake(env, instance, peer, hidden, ret->fd);
	ret->fd = fd_close(ret->fd);
	ret->created = false;
	return error == ENOENT ? EAGAIN : object_errno(error);
}

/* That somebody unlinked it before it was opened again is no failure: natively such a call
 * succeeds. */
int object_make(const struct object_env *env, struct instance *instance, const struct peer *peer,
		const char *name, const struct object_how *how, struct object *ret,
		const char **ret_why)
{
	int error = make(env, instance, peer, name, how, ret, ret_why);

	if (error != ENOENT || !ret->created || how->no_name)
		return error;
	ret->fd = fd_close(ret->fd);
	ret->created = false;
	return make_aside(env, instance, peer, name, how, ret, ret_why);
}
