/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Objects whose memory is there before their name is: made without one, filled with pages by
 * this process, which so is charged for them, and only then published. For object.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "client/internal.h"

/* In one call: a signal's handler starts one again, and so must not start all of it again. */
#define CHUNK ((off_t)4 * 1024 * 1024)
#define CHUNK_MIN ((off_t)4096)

/* How often a name may appear and vanish between our looks. */
#define RACES_MAX 1000

/* 0, or -errno. Memory that was had on the way stays the object's. */
static int reserve(int fd, off_t size)
{
	off_t chunk = CHUNK;

	for (off_t at = 0; at < size;) {
		off_t length = size - at < chunk ? size - at : chunk;

		if (fallocate(fd, FALLOC_FL_KEEP_SIZE, at, length) == 0) {
			at += length;
			chunk = chunk < CHUNK ? 2 * chunk : CHUNK;
		} else if (errno == EINTR) {
			/* What is done within the time between two signals stays done. */
			chunk = chunk > 4 * CHUNK_MIN ? chunk / 4 : CHUNK_MIN;
		} else {
			return -errno;
		}
	}
	return 0;
}

static int reserve_all(struct shmb *c, int fd)
{
	struct stat st;
	int r = fstat(fd, &st) < 0 ? -errno : reserve(fd, st.st_size);

	if (r == -EPERM || r == -EACCES)
		return shmb_fail(c, -EACCES, "it can't be reserved");
	if (r < 0)
		return shmb_fail(c, r, "there is not enough memory for all of it");
	return 0;
}

/* One that is there. */
static int open_existing(struct shmb *c, struct shmb_wanted wanted, shmb_deadline deadline)
{
	int fd, r;

	wanted.wire.flags &= ~(uint32_t)(WIRE_CREATE | WIRE_EXCLUSIVE);
	wanted.wire.options = 0;
	fd = shmb_ask_open(c, &wanted, deadline, false);
	if (fd < 0)
		return fd;
	r = reserve_all(c, fd);
	if (r < 0) {
		fd_close(fd);
		return r;
	}
	return fd;
}

/* A new one: -EEXIST when there is one by now. */
static int make(struct shmb *c, struct shmb_wanted wanted, shmb_deadline deadline)
{
	int fd, r;

	wanted.wire.flags &= ~(uint32_t)(WIRE_EXCLUSIVE | WIRE_TRUNCATE);
	wanted.wire.options |= WIRE_UNPUBLISHED;
	fd = shmb_ask_open(c, &wanted, deadline, false);
	if (fd < 0)
		return fd;
	r = reserve_all(c, fd);
	if (r == 0)
		/* However long the memory has taken. */
		r = shmb_ask_publish(c, wanted.name, 0, shmb_deadline_in(c->timeout_ms));
	if (r == 0) {
		/* Nor is there anything to say of our look for one that is there. */
		shmb_reason_take(c, "", 0);
		return fd;
	}
	fd_close(fd);
	/* Or the broker would hold it, and the name, until the connection ends. */
	shmb_discard(c, wanted.name);
	return r;
}

int shmb_open_reserved(struct shmb *c, const struct shmb_wanted *wanted, shmb_deadline deadline)
{
	uint32_t flags = wanted->wire.flags;
	int r;

	if (!(flags & WIRE_WRITE))
		return shmb_fail(c, -EINVAL, "what is opened for reading alone can't be reserved");
	for (int race = 0; race < RACES_MAX; race++) {
		if (!(flags & WIRE_EXCLUSIVE)) {
			r = open_existing(c, *wanted, deadline);
			if (r != -ENOENT || !(flags & WIRE_CREATE))
				return r;
		}
		r = make(c, *wanted, deadline);
		if (r != -EEXIST || flags & WIRE_EXCLUSIVE)
			return r;
	}
	return shmb_fail(c, -EAGAIN, "others make and remove it all the time");
}
