/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Directories and sockets on the file system: made so that at no moment anybody
 * reaches what he shouldn't, and removed only by whoever made them. Called by main
 * and by context_place.c.
 */
#include "daemon/place.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "daemon/fd.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

#define TEMPORARY_PREFIX ".shmbroker-"
#define LOCK_NAME TEMPORARY_PREFIX "lock"
#define TEMPORARY_SIZE (sizeof(TEMPORARY_PREFIX) + 16) /* with its terminator */
/* More wait in connect(2), each in his turn: who floods it is no further ahead of the others. */
#define BACKLOG 64
#define ATTEMPTS 16 /* somebody else changes the same name each time: not for ever */

static int check_directory(int fd, enum place_kind kind)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_uid != geteuid() && (kind == PLACE_PRIVATE || st.st_uid != 0))
		return -EPERM;
	if (kind == PLACE_PRIVATE)
		return (st.st_mode & 07777) == 0700 || fchmod(fd, 0700) == 0 ? 0 : -errno;
	/* With an ACL the group's bits are its mask, so this sees its entries, too. */
	return st.st_mode & 022 && !(st.st_mode & S_ISVTX) ? -EPERM : 0;
}

/* `path` doesn't end in a slash, so that the last component is the one that isn't followed. */
static int open_directory(const char *path, enum place_kind kind)
{
	_cleanup_close_ int fd = -EBADF;
	bool made;
	int r;

	made = mkdir(path, 0700) == 0;
	if (!made && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = check_directory(fd, kind);
	if (r < 0)
		return r;
	/* Not by mkdir's own argument: the umask would have its say. */
	if (made && kind == PLACE_SHARED && fchmod(fd, 0755) < 0)
		return -errno;
	return steal_fd(&fd);
}

static int open_prefix(const char *path, size_t size, enum place_kind kind)
{
	char copy[PATH_MAX];

	while (size > 1 && path[size - 1] == '/')
		size--;
	if (!size)
		return -ENOENT;
	if (size >= sizeof(copy))
		return -ENAMETOOLONG;
	memcpy(copy, path, size);
	copy[size] = '\0';
	return open_directory(copy, kind);
}

int place_directory_open(const char *path, enum place_kind kind)
{
	return open_prefix(path, strlen(path), kind);
}

int place_parent_open(const char *path, enum place_kind kind, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	int fd;

	if (!*name || !strcmp(name, ".") || !strcmp(name, ".."))
		return -EINVAL;
	if (slash)
		fd = open_prefix(path, slash == path ? 1 : (size_t)(slash - path), kind);
	else
		fd = open_directory(".", kind);
	if (fd >= 0)
		*ret_name = name;
	return fd;
}

bool place_refuse_descriptors(int listener)
{
	const int off = 0;

	return setsockopt(listener, SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof(off)) == 0;
}

bool place_is_temporary(const char *name)
{
	size_t prefix = strlen(TEMPORARY_PREFIX);

	return !strncmp(name, TEMPORARY_PREFIX, prefix) && strlen(name) == TEMPORARY_SIZE - 1 &&
	       strspn(name + prefix, "0123456789abcdef") == 16;
}

static int temporary_name(char name[TEMPORARY_SIZE])
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return -errno;
	snprintf(name, TEMPORARY_SIZE, TEMPORARY_PREFIX "%016" PRIx64, random);
	return 0;
}

/* Through the descriptor of its directory: a socket's address has room for 107 bytes only. */
static int address(struct sockaddr_un *ret, int directory, const char *name)
{
	int size;

	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	size = snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d%s%s", directory,
			*name ? "/" : "", name);
	return size < (int)sizeof(ret->sun_path) ? 0 : -ENAMETOOLONG;
}

/* Whether the socket behind an O_PATH descriptor answers. */
static int inode_answers(int inode)
{
	_cleanup_close_ int fd = -EBADF;
	struct sockaddr_un there;
	int r;

	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	r = address(&there, inode, "");
	if (r < 0)
		return r;
	/* Busy, of another type or forbidden to us: somebody may be there. */
	return connect(fd, (struct sockaddr *)&there, sizeof(there)) == 0 || errno != ECONNREFUSED;
}

/* Opens what has that name without disturbing it, and tells which it is. */
static int open_inode(struct stat *ret, int directory, const char *name)
{
	_cleanup_close_ int fd = -EBADF;

	fd = openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, ret) < 0)
		return -errno;
	if (!S_ISSOCK(ret->st_mode))
		return -ENOTSOCK;
	return steal_fd(&fd);
}

int place_answers(int directory, const char *name)
{
	_cleanup_close_ int inode = -EBADF;
	struct stat st;

	inode = open_inode(&st, directory, name);
	return inode < 0 ? inode : inode_answers(inode);
}

static bool is_inode(const struct stat *st, dev_t device, ino_t inode)
{
	return st->st_dev == device && st->st_ino == inode;
}

int place_unlink_own(const struct place_socket *socket, int directory, const char *name)
{
	struct stat st;

	if (fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!is_inode(&st, socket->device, socket->inode))
		return -ESTALE;
	return unlinkat(directory, name, 0) < 0 ? -errno : 0;
}

static int bind_with_mode(int fd, const struct sockaddr_un *there, mode_t mode)
{
	mode_t saved = umask(~mode & 0777);
	int r = bind(fd, (const struct sockaddr *)there, sizeof(*there)) < 0 ? -errno : 0;

	umask(saved);
	return r;
}

/* A listener under a name that nobody knows yet. */
static int listen_temporarily(struct place_socket *ret, int directory, const char *name,
			      mode_t mode)
{
	_cleanup_close_ int fd = -EBADF;
	struct sockaddr_un there;
	struct stat st;
	int r;

	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	r = address(&there, directory, name);
	if (r == 0)
		r = bind_with_mode(fd, &there, mode);
	if (r < 0)
		return r;
	ret->refuses_descriptors = place_refuse_descriptors(fd);
	/* Where the directory has a default ACL the umask didn't count. */
	if (fchmodat(directory, name, mode, 0) < 0 || listen(fd, BACKLOG) < 0 ||
	    fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		r = -errno;
		unlinkat(directory, name, 0);
		return r;
	}
	ret->device = st.st_dev;
	ret->inode = st.st_ino;
	ret->fd = steal_fd(&fd);
	return 0;
}

/*
 * One broker at a time replaces a socket, or each could take the other's new one for the
 * stale one that both have seen. Not by flock(2) on the directory: whoever may read that
 * could hold it for ever. The lock, -EADDRINUSE when another is at it, or -EAGAIN.
 */
static int lock_name(int directory)
{
	_cleanup_close_ int fd = -EBADF;
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct stat st, named;

	fd = openat(directory, LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
		    0600);
	if (fd < 0)
		return -errno;
	if (fcntl(fd, F_OFD_SETLK, &whole) < 0)
		return errno == EAGAIN || errno == EACCES ? -EADDRINUSE : -errno;
	/* Its last holder may have removed it since it was opened. */
	if (fstat(fd, &st) < 0)
		return -errno;
	if (fstatat(directory, LOCK_NAME, &named, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !is_inode(&named, st.st_dev, st.st_ino))
		return -EAGAIN;
	return steal_fd(&fd);
}

/*
 * Puts the new socket in the place of one that is stale still. Both are exchanged and looked
 * at then, for the name may have been given up and taken in between: that goes back. 0, 1 to
 * try again, or -errno.
 */
static int replace(int directory, const char *temporary, const char *name)
{
	_cleanup_close_ int inode = -EBADF; /* its number isn't given to another meanwhile */
	struct stat stale, st;
	int r;

	inode = open_inode(&stale, directory, name);
	r = inode < 0 ? 1 : inode_answers(inode);
	if (r != 0)
		return r;
	if (renameat2(directory, temporary, directory, name, RENAME_EXCHANGE) < 0)
		return errno == ENOENT ? 1 : -errno;
	if (fstatat(directory, temporary, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (is_inode(&st, stale.st_dev, stale.st_ino))
		return unlinkat(directory, temporary, 0) < 0 ? -errno : 0;
	if (renameat2(directory, temporary, directory, name, RENAME_EXCHANGE) < 0)
		return -errno;
	return 1;
}

/* One attempt at giving the new socket its name: 0, 1 to try again, or -errno. */
static int publish(int directory, const char *temporary, const char *name)
{
	_cleanup_close_ int lock = -EBADF;
	int r;

	if (renameat2(directory, temporary, directory, name, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	r = place_answers(directory, name);
	if (r == -ENOENT)
		return 1;
	if (r != 0)
		return r == -ENOTSOCK ? -EEXIST : r < 0 ? r : -EADDRINUSE;
	lock = lock_name(directory);
	if (lock < 0)
		return lock == -EAGAIN ? 1 : lock;
	r = replace(directory, temporary, name);
	unlinkat(directory, LOCK_NAME, 0);
	return r;
}

int place_listen(struct place_socket *ret, int directory, const char *name, mode_t mode)
{
	char temporary[TEMPORARY_SIZE];
	struct place_socket socket;
	int attempt, r;

	r = temporary_name(temporary);
	if (r == 0)
		r = listen_temporarily(&socket, directory, temporary, mode);
	if (r < 0)
		return r;
	for (attempt = 0, r = 1; r > 0 && attempt < ATTEMPTS; attempt++)
		r = publish(directory, temporary, name);
	if (r != 0) {
		/* Under whichever of the two it is; nobody else's. */
		if (place_unlink_own(&socket, directory, temporary) < 0)
			place_unlink_own(&socket, directory, name);
		fd_close(socket.fd);
		return r < 0 ? r : -EBUSY;
	}
	*ret = socket;
	return 0;
}
