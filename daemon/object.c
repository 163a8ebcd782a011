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
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/fd.h"
#include "daemon/object_private.h"
#include "proto/name.h"
#include "proto/protocol.h"

const char object_not_created[] = "the object is not there, and the rule does not allow create";

/* How often a name may appear and vanish between our looks before we give up. */
#define RACES_MAX 1000

/* Never blocks at a FIFO, a lease or a device, never follows a link. */
#define OPEN_ALWAYS (O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)

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

static int open_flags(uint32_t flags)
{
	int access = O_RDONLY;

	if (flags & WIRE_WRITE)
		access = flags & WIRE_READ ? O_RDWR : O_WRONLY;
	return access | (flags & WIRE_APPEND ? O_APPEND : 0) | OPEN_ALWAYS;
}

/* The status flags that shm_open(3) gives: its descriptors block. */
static int settle_flags(int fd, uint32_t flags)
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

static bool same_object(int a, int b)
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

/*
 * An ordinary user's broker has no right beyond the permission bits, but owns what
 * it made: so it lends itself the bits for the moment of opening.
 */
static int open_own_regardless(int dir, int writable, const char *name, int flags)
{
	_cleanup_close_ int path = -EBADF;
	char link[32];
	struct stat st;
	int fd;

	path = openat(writable, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (path < 0)
		return -errno;
	if (fstat(path, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (st.st_uid != geteuid())
		return -EACCES;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", path);
	if (chmod(link, (st.st_mode & 07777) | 0600) < 0)
		return -EACCES;
	fd = openat(dir, name, flags);
	if (fd < 0)
		fd = -errno;
	if (chmod(link, st.st_mode & 07777) < 0) {
		fd_close(fd);
		return -EACCES;
	}
	return fd;
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
		return open_own_regardless(dir, instance->writable, name, flags);
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

/* The same object read-only, through the twin: nobody can make that descriptor writable. */
static int reopen_read_only(const struct object_env *env, const struct instance *instance,
			    const char *name, int *fd)
{
	int dir = instance->read_only >= 0 ? instance->read_only : instance->writable;
	_cleanup_close_ int theirs = -EBADF;

	theirs = object_open_own(env, instance, dir, name, O_RDONLY | OPEN_ALWAYS);
	if (theirs < 0)
		return object_errno(-theirs);
	if (!instance->broker_only && !same_object(theirs, *fd))
		return ENOENT; /* unlinked or replaced since */
	fd_close(*fd);
	*fd = steal_fd(&theirs);
	return 0;
}

static bool through_twin(const struct instance *instance, const struct object_how *how)
{
	return !(how->flags & WIRE_WRITE) && instance->read_only >= 0;
}

/* Flags of the descriptor by which an object is made or truncated; the client's own may be less. */
static int making_flags(const struct instance *instance, const struct object_how *how)
{
	return through_twin(instance, how) ? O_RDWR | OPEN_ALWAYS : open_flags(how->flags);
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

static bool exists(const struct instance *instance, const char *name)
{
	struct stat st;

	return fstatat(instance->writable, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

int object_link(const struct object_env *env, int fd, int dir, const char *name)
{
	char number[16];

	snprintf(number, sizeof(number), "%d", fd);
	if (linkat(env->proc_fds, number, dir, name, AT_SYMLINK_FOLLOW) < 0)
		return errno;
	return 0;
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

/* A hidden name that nobody can ask for; swept at start if we die with it. */
int object_hidden_name(char ret[static HIDDEN_NAME_SIZE])
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return EAGAIN;
	snprintf(ret, HIDDEN_NAME_SIZE, NAME_RESERVED_PREFIX "%016llx", (unsigned long long)random);
	return 0;
}

/* A new object of a size: nobody ever sees it shorter. 0, EEXIST, or another errno. */
static int make_sized(const struct object_env *env, struct instance *instance,
		      const struct peer *peer, const char *name, const struct object_how *how,
		      struct object *ret, const char **ret_why)
{
	_cleanup_close_ int nameless = -EBADF;
	int error, fd;

	error = object_act_as(env, instance, peer, ret_why);
	if (error)
		return error;
	error = object_check_size(instance, how, ret_why);
	/* The name is looked at first: what is there has a size already. */
	if (error && !how->no_name && exists(instance, name)) {
		*ret_why = NULL;
		return EEXIST;
	}
	if (error)
		return error;
	nameless = make_nameless(instance, how);
	if (nameless == -EACCES && act_past_directory(env, instance, peer))
		nameless = make_nameless(instance, how);
	/* In a full pool, too. */
	if (nameless == -ENOSPC && !how->no_name && exists(instance, name))
		return EEXIST;
	if (nameless < 0)
		return object_errno(-nameless);
	if (how->no_name) {
		ret->fd = steal_fd(&nameless);
		ret->created = true;
		return 0;
	}
	error = object_link(env, nameless, instance->writable, name);
	if (error)
		return object_errno(error);
	ret->created = true;

	/* O_TMPFILE would show among the status flags: so it is opened by its name. */
	if (through_twin(instance, how)) {
		ret->fd = steal_fd(&nameless);
		return reopen_read_only(env, instance, name, &ret->fd);
	}
	fd = object_open_own(env, instance, instance->writable, name, open_flags(how->flags));
	if (fd < 0) {
		ret->fd = steal_fd(&nameless);
		return object_errno(-fd);
	}
	ret->fd = fd;
	if (!instance->broker_only && !same_object(fd, nameless)) {
		/* Another's by now: what is left of ours is the one without a name. */
		fd_close(ret->fd);
		ret->fd = steal_fd(&nameless);
		return ENOENT;
	}
	return 0;
}

/* A new, empty object under the caller's ids. 0, EEXIST, or another errno. */
static int make_empty(const struct object_env *env, struct instance *instance,
		      const struct peer *peer, const char *name, const struct object_how *how,
		      struct object *ret, const char **ret_why)
{
	int flags = making_flags(instance, how) | O_CREAT | O_EXCL, error;

	error = object_act_as(env, instance, peer, ret_why);
	if (error)
		return error;
	ret->fd = openat(instance->writable, name, flags, how->mode);
	if (ret->fd < 0 && errno == EACCES && act_past_directory(env, instance, peer))
		ret->fd = openat(instance->writable, name, flags, how->mode);
	if (ret->fd < 0)
		return object_errno(errno);
	ret->created = true;
	if (through_twin(instance, how))
		return reopen_read_only(env, instance, name, &ret->fd);
	return 0;
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

/* Opens what is there with the broker's rights: the rules have decided. */
static int open_existing_grant(const struct object_env *env, struct instance *instance,
			       const char *name, const struct object_how *how, struct object *ret)
{
	bool twin = through_twin(instance, how);
	bool truncate = how->flags & WIRE_TRUNCATE;
	int flags = truncate && !(how->flags & WIRE_WRITE) ? O_RDWR | OPEN_ALWAYS
							   : open_flags(how->flags);
	int error;

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
	return how->flags & WIRE_WRITE ? 0 : reopen_read_only(env, instance, name, &ret->fd);
}

/* Opens what is there under the caller's ids: one openat with his own flags. */
static int open_existing_caller(const struct object_env *env, struct instance *instance,
				const struct peer *peer, const char *name,
				const struct object_how *how, struct object *ret,
				const char **ret_why)
{
	bool twin = through_twin(instance, how);
	bool truncate = how->flags & WIRE_TRUNCATE;
	int flags = open_flags(how->flags);
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
	return reopen_read_only(env, instance, name, &ret->fd);
}

static int open_existing(const struct object_env *env, struct instance *instance,
			 const struct peer *peer, const char *name, const struct object_how *how,
			 struct object *ret, const char **ret_why)
{
	if (instance->pool->config.access == POOL_ACCESS_GRANT)
		return open_existing_grant(env, instance, name, how, ret);
	return open_existing_caller(env, instance, peer, name, how, ret, ret_why);
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

/*
 * A new object. That somebody unlinked it before it was opened again is no failure: natively
 * such a call succeeds.
 */
static int make_anyway(const struct object_env *env, struct instance *instance,
		       const struct peer *peer, const char *name, const struct object_how *how,
		       struct object *ret, const char **ret_why)
{
	int error = make(env, instance, peer, name, how, ret, ret_why);

	if (error != ENOENT || !ret->created || how->no_name)
		return error;
	ret->fd = fd_close(ret->fd);
	ret->created = false;
	return make_aside(env, instance, peer, name, how, ret, ret_why);
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
		return make(env, instance, peer, name, how, ret, ret_why);
	for (int races = 0; races < RACES_MAX; races++) {
		if (make_first) {
			error = make_anyway(env, instance, peer, name, how, ret, ret_why);
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
			error = make_anyway(env, instance, peer, name, how, ret, ret_why);
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
	if (error == 0) {
		error = settle_flags(ret->fd, how->flags);
		if (error && ret->created && !how->no_name)
			unmake(env, instance, peer, name, ret->fd);
	}
	if (error)
		ret->fd = fd_close(ret->fd);
	return error;
}
