/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * When the name of a sealed object has gone, and when nobody has its memory any more: inotify(7)
 * tells of both, of the latter when the last path, descriptor and mapping is gone, which no count
 * of descriptors would.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "daemon/fd.h"
#include "daemon/sealed_private.h"

/* What is read in one turn of the loop: who can touch a holder can make events without end. */
#define READ_BYTES 4096

/* A path that leads to an open file, for the calls that take no descriptor. */
static void link_text(char ret[static 32], int fd)
{
	snprintf(ret, 32, "/proc/self/fd/%d", fd);
}

/*
 * Watching takes the right to read: an ordinary user's broker lends it to itself, of what is its
 * own. The number, or -errno.
 */
static int watch_file(int inotify, int fd, uint32_t mask)
{
	struct stat st;
	char link[32];
	int number;

	link_text(link, fd);
	number = inotify_add_watch(inotify, link, mask);
	if (number >= 0 || errno != EACCES)
		return number < 0 ? -errno : number;
	if (fstat(fd, &st) < 0 || chmod(link, (st.st_mode & 07777) | 0400) < 0)
		return -EACCES;
	number = inotify_add_watch(inotify, link, mask);
	if (number < 0)
		number = -errno;
	chmod(link, st.st_mode & 07777);
	return number;
}

int sealed_watch_memory(struct sealed *sealed)
{
	int number = watch_file(sealed->all->memories, sealed->memory, IN_DELETE_SELF);

	if (number < 0)
		return number;
	sealed->memory_number = number;
	return 0;
}

int sealed_watch_holder(struct sealed *sealed)
{
	struct sealed_set *all = sealed->all;
	int number = watch_file(all->holders, sealed->holder, IN_ATTRIB);

	if (number < 0)
		return number;
	sealed->holder_number = number;
	HASH_ADD(by_holder, all->by_holder, holder_number, sizeof(number), sealed);
	if (HASH_HAS(by_holder, sealed))
		return 0;
	sealed->holder_number = -1;
	inotify_rm_watch(all->holders, number);
	return -ENOMEM;
}

void sealed_unwatch(struct sealed *sealed)
{
	struct sealed_set *all = sealed->all;

	if (sealed->memory_number >= 0)
		inotify_rm_watch(all->memories, sealed->memory_number);
	if (sealed->holder_number >= 0) {
		HASH_DELETE(by_holder, all->by_holder, sealed);
		inotify_rm_watch(all->holders, sealed->holder_number);
	}
	sealed->memory_number = sealed->holder_number = -1;
}

/* --- what the kernel tells --- */

/* Nobody has the memory any more. */
static void gone(struct sealed *sealed)
{
	struct instance *instance = sealed->instance;
	struct store *store = sealed->all->store;
	uint64_t size = sealed->size;

	sealed->memory_number = -1; /* the kernel has removed it */
	sealed_free(sealed);
	store_give_back(store, instance, size);
}

static void unname_if_unlinked(struct sealed *sealed)
{
	struct stat st;

	if (sealed->is_named && fstat(sealed->holder, &st) == 0 && st.st_nlink == 0)
		sealed_unname(sealed);
}

static void holder_changed(struct sealed_set *all, const struct inotify_event *event)
{
	struct sealed *sealed;

	if (event->mask & IN_Q_OVERFLOW) {
		LIST_FOREACH (sealed, &all->list, entry)
			unname_if_unlinked(sealed);
		return;
	}
	HASH_FIND(by_holder, all->by_holder, &event->wd, sizeof(event->wd), sealed);
	if (sealed)
		unname_if_unlinked(sealed);
}

static void memory_gone(struct sealed_set *all, const struct inotify_event *event)
{
	struct sealed *sealed;

	if (!(event->mask & IN_DELETE_SELF))
		return;
	LIST_FOREACH (sealed, &all->list, entry) {
		if (sealed->memory_number == event->wd) {
			gone(sealed);
			return;
		}
	}
}

/* At most so many bytes, or one buffer more. */
static void read_events(struct sealed_set *all, int inotify, int most,
			void (*happened)(struct sealed_set *, const struct inotify_event *))
{
	_Alignas(struct inotify_event) char buffer[READ_BYTES];
	ssize_t size;

	for (; most > 0; most -= (int)size) {
		size = read(inotify, buffer, sizeof(buffer));
		if (size <= 0)
			return;
		for (char *at = buffer; at < buffer + size;) {
			const struct inotify_event *event = (const struct inotify_event *)at;

			happened(all, event);
			at += sizeof(*event) + event->len;
		}
	}
}

/* How much is there to be read: the kernel bounds it. */
static int unread(int inotify)
{
	int size;

	return ioctl(inotify, FIONREAD, &size) < 0 ? READ_BYTES : size;
}

void sealed_reclaim(struct sealed_set *all)
{
	if (LIST_EMPTY(&all->list))
		return;
	/* In this order: with its name some lose their last user. */
	read_events(all, all->holders, unread(all->holders), holder_changed);
	read_events(all, all->memories, unread(all->memories), memory_gone);
}

static void holders_ready(struct watch *watch)
{
	struct sealed_set *all = (struct sealed_set *)((char *)watch -
						       offsetof(struct sealed_set, holders_watch));

	read_events(all, all->holders, READ_BYTES, holder_changed);
}

static void memories_ready(struct watch *watch)
{
	struct sealed_set *all = (struct sealed_set *)((char *)watch -
						       offsetof(struct sealed_set, memories_watch));

	read_events(all, all->memories, READ_BYTES, memory_gone);
}

static int open_inotify(struct loop *loop, struct watch *watch)
{
	int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

	if (fd >= 0 && loop->watch(loop, watch, fd) < 0)
		fd = fd_close(fd);
	return fd < 0 ? -EBADF : fd;
}

void sealed_set_init(struct sealed_set *all)
{
	LIST_INIT(&all->list);
	all->memories_watch.ready = memories_ready;
	all->holders_watch.ready = holders_ready;
	all->memories = open_inotify(all->loop, &all->memories_watch);
	all->holders = open_inotify(all->loop, &all->holders_watch);
}

void sealed_watches_done(struct sealed_set *all)
{
	all->loop->unwatch(all->loop, &all->memories_watch);
	all->loop->unwatch(all->loop, &all->holders_watch);
	all->memories = fd_close(all->memories);
	all->holders = fd_close(all->holders);
}

bool sealed_can(const struct sealed_set *all)
{
	return all->memories >= 0 && all->holders >= 0;
}
