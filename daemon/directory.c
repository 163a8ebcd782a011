/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whole directories of objects, with the broker's own rights: what store.c cleans up with. */
#include "daemon/directory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/fd.h"
#include "proto/waypoint.h"

/* How deep it goes at once: a descriptor each. */
#define DEPTH_MAX 100
/* Who makes directories as fast as they are moved doesn't keep us for ever. */
#define MOVED_MAX 10000
/* Freeing so much takes longer than having it done elsewhere; smaller ones are freed here. */
#define LARGE_BYTES ((uint64_t)1024 * 1024)

int directory_unlink(int dir, const char *name)
{
	if (unlinkat(dir, name, 0) == 0)
		return 0;
	if (errno == EISDIR && unlinkat(dir, name, AT_REMOVEDIR) == 0)
		return 0;
	return errno;
}

DIR *directory_list(int directory)
{
	int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *listing;

	if (fd < 0)
		return NULL;
	listing = fdopendir(fd);
	if (!listing)
		fd_close(fd);
	return listing;
}

/*
 * An ordinary user's broker has no right beyond the permission bits, but owns what
 * it made: so it lends itself the bits for the moment of opening.
 */
int directory_open_own(int dir, int writable, const char *name, int flags)
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
		return -errno;
	fd = openat(dir, name, flags);
	if (fd < 0)
		fd = -errno;
	if (chmod(link, st.st_mode & 07777) < 0) {
		int error = -errno;

		fd_close(fd);
		return error;
	}
	return fd;
}

static bool is_hidden(int directory, const char *name)
{
	(void)directory;
	return strncmp(name, NAME_RESERVED_PREFIX, sizeof(NAME_RESERVED_PREFIX) - 1) == 0;
}

/*
 * And no broker has it locked, to publish it or to try again. Where that can't be told for want of
 * memory or descriptors it stays; what nobody lets us open was never ours.
 */
static bool is_nobodys(int directory, const char *name)
{
	const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
	_cleanup_close_ int fd = -EBADF;
	struct stat st;

	if (!is_hidden(directory, name))
		return false;
	if (fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return true;
	fd = openat(directory, name, flags);
	if (fd < 0)
		fd = errno == EACCES ? directory_open_own(directory, directory, name, flags)
				     : -errno;
	if (fd == -ENOMEM || fd == -EMFILE || fd == -ENFILE)
		return false;
	return fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0;
}

/* Of no content: whoever makes his own object sticky loses nothing but its name. */
static bool is_unfinished(int directory, const char *name)
{
	struct stat st;

	return is_hidden(directory, name) ||
	       (fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
		st.st_blocks == 0 && (st.st_mode & DIRECTORY_UNFINISHED));
}

static bool is_waypoint(int directory, const char *name)
{
	(void)directory;
	return strncmp(name, WAYPOINT_PREFIX, sizeof(WAYPOINT_PREFIX) - 1) == 0;
}

static void sweep(int directory, bool (*is_left)(int directory, const char *name), int flags)
{
	DIR *listing = directory_list(directory);
	const struct dirent *entry;

	if (!listing)
		return;
	while ((entry = readdir(listing)))
		if (is_left(directory, entry->d_name))
			unlinkat(directory, entry->d_name, flags);
	closedir(listing);
}

void directory_sweep(int directory)
{
	sweep(directory, is_nobodys, 0);
}

void directory_sweep_own(int directory)
{
	sweep(directory, is_unfinished, 0);
}

void directory_sweep_waypoints(int directory)
{
	sweep(directory, is_waypoint, AT_REMOVEDIR);
}

/*
 * What lies too deep comes up to the top, from where it is gone through anew: as often as there is
 * something in it, which is less each time. Under a number for a name, since that has to be new.
 */
struct removal {
	int top;
	struct creds *creds;
	struct loop *loop;
	unsigned moved; /* so far */
};

static int bring_up(struct removal *removal, int directory, const char *name)
{
	char hidden[sizeof(NAME_RESERVED_PREFIX) + 16];

	while (removal->moved < MOVED_MAX) {
		snprintf(hidden, sizeof(hidden), NAME_RESERVED_PREFIX "%u", removal->moved++);
		if (renameat2(directory, name, removal->top, hidden, RENAME_NOREPLACE) == 0)
			return 0;
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

/*
 * What is in a sticky directory is only its owner's to remove, and one without permissions is shut
 * to an ordinary user's broker: so it is opened up, as its owner, by a path that nobody can
 * exchange.
 */
static void open_up(struct creds *creds, int below)
{
	struct ids owner = { 0 };
	char path[32];
	struct stat st;

	if (fstat(below, &st) < 0 || (st.st_mode & (S_ISVTX | 0700)) == 0700)
		return;
	owner.uid = st.st_uid;
	owner.gid = st.st_gid;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", below);
	/* If it fails, so does the removal, which tells. */
	if (creds_assume(creds, &owner, 0) == 0)
		chmod(path, 0700);
	creds_reset(creds);
}

/* A directory below, that is ours to empty. A descriptor, or -errno. */
static int open_below(const struct removal *removal, int directory, const char *name)
{
	_cleanup_close_ int below = -EBADF;
	int fd;

	below = openat(directory, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (below < 0)
		return -errno;
	open_up(removal->creds, below);
	fd = openat(below, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* 0 or an errno. */
static int remove_name(const struct removal *removal, int directory, const char *name)
{
	struct stat st;
	int held = -EBADF, error;

	if (fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    (uint64_t)st.st_blocks * 512 >= LARGE_BYTES)
		held = openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	error = directory_unlink(directory, name);
	if (held >= 0)
		removal->loop->close_elsewhere(removal->loop, held);
	return error;
}

static int remove_below(struct removal *removal, int directory, unsigned depth)
{
	DIR *listing = directory_list(directory);
	const struct dirent *entry;
	int error = 0;

	if (!listing)
		return -errno;
	while (errno = 0, (entry = readdir(listing))) {
		_cleanup_close_ int below = -EBADF;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (remove_name(removal, directory, entry->d_name) != ENOTEMPTY)
			continue;
		if (depth == 0 && bring_up(removal, directory, entry->d_name) == 0)
			continue;
		below = open_below(removal, directory, entry->d_name);
		if (below < 0 || depth == 0 || remove_below(removal, below, depth - 1) < 0 ||
		    unlinkat(directory, entry->d_name, AT_REMOVEDIR) < 0)
			error = -ENOTEMPTY;
	}
	if (errno)
		error = -errno;
	closedir(listing);
	return error;
}

int directory_remove_all(int directory, struct creds *creds, struct loop *loop)
{
	struct removal removal = { .top = directory, .creds = creds, .loop = loop };
	unsigned moved;
	int error;

	/* A sandbox of the broker's own uid may have changed it. If it fails, so does the rest. */
	fchmod(directory, 01777);
	do {
		moved = removal.moved;
		error = remove_below(&removal, directory, DEPTH_MAX);
	} while (removal.moved > moved && removal.moved < MOVED_MAX);
	return error;
}
