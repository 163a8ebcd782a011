/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Opens, makes and unlinks in a pool's directory that the broker has delegated, at the kernel's own
 * speed. A page that the broker writes tells before each use whether something may have changed;
 * where there is none, or something has, one look at the directory tells whether it is still
 * delegated, as the broker changes its time of access when it isn't, and another whether the broker
 * is there. Whatever is not plain is left to it. For object.c and drop_in.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "client/internal.h"
#include "proto/glob.h"
#include "proto/holder.h"

_Static_assert(SHMB_FEATURE_DELEGATION == WIRE_FEATURE_DELEGATION, "told as it is");

static bool is_same_directory(const struct shmb_directories *d, const struct stat *st)
{
	return S_ISDIR(st->st_mode) && st->st_dev == d->dev && st->st_ino == d->ino;
}

static void close_own(const struct shmb_directories *d, int directory)
{
	struct stat st;

	if (directory >= 0 && fstat(directory, &st) == 0 && is_same_directory(d, &st))
		fd_close(directory);
}

void shmb_directories_close(struct shmb_directories *d)
{
	_no_cancel_;

	close_own(d, d->writable);
	close_own(d, d->read_only);
	if (d->page)
		munmap((void *)d->page, WIRE_PAGE_SIZE);
	*d = SHMB_DIRECTORIES_NONE;
}

static bool is_it(const struct shmb_directories *d, int directory)
{
	struct stat st;

	return directory >= 0 && fstat(directory, &st) == 0 && is_same_directory(d, &st);
}

static uint32_t read_now(const uint32_t *word)
{
	return atomic_load((const _Atomic uint32_t *)word);
}

static uint32_t changes_now(const struct shmb_directories *d)
{
	return d->page ? read_now(&d->page->changes) : 0;
}

static time_t second(void)
{
	struct timespec now = { 0 };

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return now.tv_sec;
}

/*
 * Whether nothing has changed since it was last looked at, and the broker is there. Not for longer
 * than a second: a kernel that is short of memory may end a process without writing that.
 */
static bool is_as_it_was(const struct shmb_delegation *d)
{
	const struct wire_page *page = d->directories.page;
	uint32_t owner;

	if (!page || read_now(&page->changes) != d->changes || second() != d->looked)
		return false;
	owner = read_now(&page->owner);
	return owner != 0 && !(owner & WIRE_OWNER_DIED);
}

/*
 * Whether it is there and still counts: with the connection that it came by, or what is kept of a
 * broker that has gone for good would part this process from all others.
 */
static bool look(struct shmb *c, int directory)
{
	struct shmb_delegation *d = &c->delegation;
	struct pollfd broker = { .fd = c->socket };
	uint32_t changes = changes_now(&d->directories);
	_no_cancel_;
	time_t now = second();
	struct stat st;

	if (directory < 0 || fstat(directory, &st) < 0 ||
	    !is_same_directory(&d->directories, &st) || st.st_atim.tv_sec != d->generation ||
	    st.st_atim.tv_nsec != 0 || poll(&broker, 1, 0) != 0)
		return false;
	/* What has changed since is looked at the next time. */
	d->changes = changes;
	d->looked = now;
	return true;
}

/*
 * is_known: what is opened there shows by itself whether the number still means it. Where it
 * doesn't a file of the program's own has been opened and closed again, which ends its locks of
 * fcntl(2).
 */
static bool is_valid(struct shmb *c, int directory, bool is_known)
{
	const struct shmb_delegation *d = &c->delegation;

	if (is_as_it_was(d))
		return is_known ? directory >= 0 : is_it(&d->directories, directory);
	return look(c, directory);
}

/*
 * Takes the descriptors: the twin's, and where the rule writes the other one. 0, -EPROTO, or
 * -EAGAIN: it may be good, and the broker is to be asked all the same.
 */
static int take_directories(struct shmb_directories *d, struct fdlist *fds, uint32_t flags)
{
	bool is_writable = flags & WIRE_DELEGATE_WRITE;
	struct stat st, twin;
	int r = -EPROTO;

	d->read_only = shmb_move_up(fds->fd[0]);
	d->writable = is_writable ? shmb_move_up(fds->fd[1]) : -EBADF;
	d->page = flags & WIRE_DELEGATE_PAGE ? shmb_map_page(fds->fd[fds->count - 1]) : NULL;
	fds->count = 0;
	if (fstat(d->read_only, &twin) < 0 || !shmb_can_be_pool(d->read_only, &twin))
		goto refused;
	d->dev = twin.st_dev;
	d->ino = twin.st_ino;
	if (is_writable && (fstat(d->writable, &st) < 0 || !is_same_directory(d, &st) ||
			    !shmb_can_be_pool(d->writable, &st)))
		goto refused;
	if (!shmb_may_be_mounted(d->dev))
		return 0;
	r = -EAGAIN;
refused:
	fd_close(d->read_only);
	fd_close(d->writable);
	d->read_only = d->writable = -EBADF;
	shmb_directories_close(d);
	return r;
}

/* Whether they are those that the flags say, in their order. */
static bool are_directories(const struct fdlist *fds, uint32_t flags)
{
	size_t count = flags & WIRE_DELEGATE_WRITE ? 2 : 1;

	for (size_t i = 0; i < count; i++)
		if (i >= fds->count || fds->kind[i] != WIRE_FD_DIRECTORY)
			return false;
	if (!(flags & WIRE_DELEGATE_PAGE))
		return fds->count == count;
	return fds->count == count + 1 && fds->kind[count] == WIRE_FD_PAGE;
}

static bool is_waypoint(const char *text, size_t size)
{
	const size_t prefix = sizeof(WAYPOINT_PREFIX) - 1;

	if (size < WAYPOINT_SIZE || strnlen(text, size) != WAYPOINT_SIZE - 1 ||
	    memcmp(text, WAYPOINT_PREFIX, prefix) != 0)
		return false;
	return strspn(text + prefix, "0123456789abcdef") == WAYPOINT_SIZE - 1 - prefix;
}

/* What may be before the patterns, which are left. 0 or -EPROTO. */
static int take_way(struct shmb *c, uint32_t flags, const char **texts, size_t *size)
{
	struct shmb_delegation *d = &c->delegation;

	d->way_size = 0;
	if (!(flags & WIRE_DELEGATE_OWN))
		return 0;
	if (!is_waypoint(*texts, *size))
		return -EPROTO;
	if (shmb_is_trusted(c->socket))
		d->way_size = (size_t)snprintf(d->way, sizeof(d->way), "%s/../", *texts);
	*texts += WAYPOINT_SIZE;
	*size -= WAYPOINT_SIZE;
	return 0;
}

/* 0, -EPROTO: a reply that can't be, or -EAGAIN: one that this process doesn't use. */
static int take(struct shmb *c, struct shmb_reply *reply)
{
	struct shmb_delegation *d = &c->delegation;
	const size_t head = sizeof(struct wire_delegate_reply) - sizeof(struct wire_reply);
	struct {
		uint32_t flags, changes;
		uint64_t generation;
	} body;
	const char *texts;
	size_t size;
	int r;

	_Static_assert(sizeof(body) ==
			       sizeof(struct wire_delegate_reply) - sizeof(struct wire_reply),
		       "the reply's own part");
	if (reply->more || reply->body_size < head ||
	    (reply->body_size > head && reply->body[reply->body_size - 1] != 0))
		return shmb_broken(c, "a delegation that can't be");
	memcpy(&body, reply->body, head);
	texts = reply->body + head;
	size = reply->body_size - head;
	if (take_way(c, body.flags, &texts, &size) < 0 || size > sizeof(d->elsewhere))
		return shmb_broken(c, "a delegation that can't be");
	if (!are_directories(&reply->fds, body.flags))
		return shmb_broken(c, "a delegation without its directories");
	r = take_directories(&d->directories, &reply->fds, body.flags);
	if (r == -EPROTO)
		return shmb_broken(c, "a directory that is no private pool's");
	if (r < 0)
		return r;
	d->generation = (int64_t)body.generation;
	d->changes = body.changes;
	d->elsewhere_size = size;
	memcpy(d->elsewhere, texts, size);
	return 0;
}

/* No failure of it is one of the call's: the broker itself is asked then. */
static void ask(struct shmb *c, struct shmb_time *time)
{
	struct shmb_exchange x = {
		.c = c,
		.operation = WIRE_DELEGATE,
		.patient = time->patient,
		.deadline = time->deadline,
		.buffer = c->small,
		.buffer_size = sizeof(c->small),
	};
	struct wire_delegate wire = { 0 };
	struct iovec part = { &wire, sizeof(wire) };
	struct shmb_reply reply;

	c->delegation.looked = second();
	shmb_directories_close(&c->delegation.directories);
	c->delegation.is_refused = true;
	time->patient = false;
	if (shmb_send(&x, &part, 1) < 0 || shmb_receive(&x, &reply) < 0)
		return;
	if (take(c, &reply) == 0)
		c->delegation.is_refused = false;
	else
		fdlist_close(&reply.fds);
}

/* Whether the directory, one of c's own two, may be used. 0, -EAGAIN, or what broke the connection.
 */
static int check(struct shmb *c, const int *directory, bool is_known, struct shmb_time *time)
{
	const struct shmb_delegation *d = &c->delegation;

	if (is_valid(c, *directory, is_known))
		return 0;
	if (!time || d->is_refused || !(c->features & WIRE_FEATURE_DELEGATION) || c->error)
		return -EAGAIN;
	/* Where the rule only reads there is no other to be had by asking again. */
	if (directory == &d->directories.writable && is_valid(c, d->directories.read_only, false))
		return -EAGAIN;
	ask(c, time);
	if (c->error == -EPROTO)
		return c->error;
	return is_valid(c, *directory, false) ? 0 : -EAGAIN;
}

/* Whether a name is ours to look at. */
static bool is_ours(const struct shmb_delegation *d, const char *name)
{
	for (size_t at = 0; at < d->elsewhere_size; at += strlen(d->elsewhere + at) + 1)
		if (glob_match(d->elsewhere + at, name))
			return false;
	return true;
}

static bool take_name(const struct shmb_delegation *d, struct name name,
		      char text[WIRE_NAME_MAX + 1])
{
	memcpy(text, name.text, name.size);
	text[name.size] = 0;
	return is_ours(d, text);
}

/* Without O_TRUNC: what has the name is looked at first. Never blocks at a FIFO or a lease, which
 * what is new may have before it is open. */
static uint64_t kernel_flags(uint32_t flags)
{
	int access = O_RDONLY;

	if (flags & WIRE_WRITE)
		access = flags & WIRE_READ ? O_RDWR : O_WRONLY;
	return (uint64_t)access | (flags & WIRE_CREATE ? O_CREAT : 0) |
	       (flags & WIRE_EXCLUSIVE ? O_EXCL : 0) | (flags & WIRE_APPEND ? O_APPEND : 0) |
	       O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
}

/*
 * Never what is mounted over the name, or linked to: a broker can do that in a directory of its own
 * making, and openat(2) would go there (openat2(2) is Linux 5.6; where it is forbidden the broker
 * is asked).
 */
static int open_beneath(int directory, const char *path, uint64_t flags, mode_t mode)
{
	struct open_how how = {
		.flags = flags,
		.mode = flags & O_CREAT ? mode & 0777 : 0,
		.resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS,
	};

	return (int)syscall(SYS_openat2, directory, path, &how, sizeof(how));
}

/* Ends the path. Names with a dot first are looked at elsewhere. */
static bool end_path(const struct shmb_delegation *d, const char *name, char *path)
{
	char *end = path + d->way_size;
	size_t size = 0;

	memcpy(path, d->way, d->way_size);
	while (*name == '/')
		name++;
	if (*name == '.' || *name == 0)
		return false;
	while ((end[size] = name[size]) != 0)
		if (name[size] == '/' || ++size > WIRE_NAME_MAX)
			return false;
	return is_ours(d, end);
}

bool shmb_prepare_at_once(struct shmb_at_once *ret, const struct shmb *c, const char *name,
			  int oflag, mode_t mode)
{
	const int known = O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_NOFOLLOW | O_CLOEXEC;
	const struct shmb_delegation *d = &c->delegation;
	bool only_reads = (oflag & (O_ACCMODE | O_CREAT | O_TRUNC)) == O_RDONLY;

	if (d->way_size == 0 || (oflag & O_ACCMODE) == O_ACCMODE || oflag & ~known ||
	    (!only_reads && (oflag & O_ACCMODE) == O_RDONLY) || !is_as_it_was(d))
		return false;
	ret->directory = only_reads ? d->directories.read_only : d->directories.writable;
	ret->flags = (unsigned)oflag | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY;
	ret->mode = mode;
	return end_path(d, name, ret->path);
}

int shmb_open_at_once(const struct shmb_at_once *at_once)
{
	uint64_t flags = at_once->flags;
	int fd;

	for (;;) {
		fd = open_beneath(at_once->directory, at_once->path, flags, at_once->mode);
		if (fd >= 0)
			return fd;
		/* It was made, and then leased: it is there to be opened. */
		if (errno != EINTR || !(flags & O_EXCL))
			return -EAGAIN;
		flags &= ~(uint64_t)(O_CREAT | O_EXCL);
	}
}

/* What only says that the broker has more rights than we, or knows better what this is. */
static bool is_for_broker(int error)
{
	switch (error) {
	case ENOENT:
	case EEXIST:
	case EMFILE:
	case ENFILE:
	case ENOMEM:
		return false;
	default:
		return true;
	}
}

/* Else the broker says what it is: its co-users make directories, FIFOs and links as they like. */
static bool is_plain(const struct stat *st)
{
	return S_ISREG(st->st_mode) && st->st_nlink <= 1;
}

/* Makes of it what shm_open(3) would have given. Whether it is the caller's. */
static bool settle(struct shmb_delegation *d, int fd, uint32_t flags)
{
	struct stat st;

	/* What is new is plain, whatever somebody does to its name. */
	if (flags & WIRE_EXCLUSIVE)
		return fcntl(fd, F_SETFL, flags & WIRE_APPEND ? O_APPEND : 0) == 0;
	if (fstat(fd, &st) < 0)
		return false;
	if (st.st_dev != d->directories.dev) {
		shmb_directories_close(&d->directories);
		return false;
	}
	if (!is_plain(&st) || is_holder(&st))
		return false;
	if (flags & WIRE_TRUNCATE && ftruncate(fd, 0) < 0)
		return false;
	return fcntl(fd, F_SETFL, flags & WIRE_APPEND ? O_APPEND : 0) == 0;
}

static int failed(struct shmb *c, int error)
{
	return shmb_fail(c, -error, "%s",
			 error == ENOENT   ? "no such object"
			 : error == EEXIST ? "the object exists"
					   : strerrordesc_np(error));
}

static int open_failed(struct shmb *c, int directory, bool is_known, int error)
{
	struct shmb_directories *d = &c->delegation.directories;

	if (is_known && !is_it(d, directory)) {
		shmb_directories_close(d);
		return -EAGAIN;
	}
	return is_for_broker(error) ? -EAGAIN : failed(c, error);
}

static void close_refused(int fd)
{
	_no_cancel_;

	fd_close(fd);
}

int shmb_delegated_open(struct shmb *c, const struct shmb_wanted *wanted, mode_t mode,
			struct shmb_time *time)
{
	struct shmb_delegation *d = &c->delegation;
	const struct wire_open *wire = &wanted->wire;
	/* What it opens, or doesn't find, shows where it was; what it made would be there. */
	bool is_known = !(wire->flags & WIRE_CREATE);
	bool only_reads = !(wire->flags & ~(uint32_t)(WIRE_READ | WIRE_APPEND));
	/* By the twin, so that nobody can make the descriptor writable. */
	const int *directory = only_reads ? &d->directories.read_only : &d->directories.writable;
	char text[WIRE_NAME_MAX + 1];
	int fd, r;

	/* What only reads and makes something needs both: that is the broker's. */
	if (wire->options || wire->size > 0 || (!only_reads && !(wire->flags & WIRE_WRITE)))
		return -EAGAIN;
	r = check(c, directory, is_known, time);
	if (r < 0)
		return r;
	if (!take_name(d, wanted->name, text))
		return -EAGAIN;
	do {
		fd = open_beneath(*directory, text, kernel_flags(wire->flags), mode);
	} while (fd < 0 && errno == EINTR);
	r = fd < 0 ? -errno : 0;
	if (r == 0 && settle(d, fd, wire->flags))
		return fd;
	if (r == 0)
		close_refused(fd);
	/* Leased before it was open, but made: to the broker it would be another's. */
	if (wire->flags & WIRE_EXCLUSIVE && (r == 0 || r == -EAGAIN))
		unlinkat(*directory, text, 0);
	return r < 0 ? open_failed(c, *directory, is_known, -r) : -EAGAIN;
}

int shmb_delegated_unlink(struct shmb *c, struct name name, struct shmb_time *time)
{
	const struct shmb_delegation *d = &c->delegation;
	char text[WIRE_NAME_MAX + 1];
	int r = check(c, &d->directories.writable, false, time);

	if (r < 0)
		return r;
	if (!take_name(d, name, text))
		return -EAGAIN;
	/* A name, whatever is mounted over it. */
	if (unlinkat(d->directories.writable, text, 0) == 0)
		return 0;
	return is_for_broker(errno) ? -EAGAIN : failed(c, errno);
}
