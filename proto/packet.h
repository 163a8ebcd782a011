/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One packet in or out, with descriptors. Used by the daemon's edge, by the
 * library and by the broker's own helper processes. Never logs, never
 * allocates, never raises SIGPIPE.
 */
#ifndef SHMBROKER_PACKET_H
#define SHMBROKER_PACKET_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "proto/prefix.h"
#include "proto/protocol.h"

/* Descriptors and who owns them: the list does. */
struct fdlist {
	size_t count;
	int fd[WIRE_FDS_MAX];
	uint8_t kind[WIRE_FDS_MAX]; /* enum wire_fd_kind; kept by who fills the list */
};

/* Closes what is left in it. errno is kept. */
void fdlist_close(struct fdlist *list);

/* Takes fd in every case. 0, or -EMFILE when the list is full (fd is closed then). */
int fdlist_take(struct fdlist *list, int fd, enum wire_fd_kind kind);

/* Hands the first descriptor over; the others are closed. -EBADF when there is none. */
int fdlist_steal_only(struct fdlist *list);

/*
 * Sends one packet; the descriptors (NULL: none) are only borrowed.
 * flags: MSG_DONTWAIT or 0. 0 or -errno; -EINTR never comes back.
 */
int packet_send(int socket, const struct iovec *parts, size_t part_count, const struct fdlist *fds,
		int flags);

/*
 * Receives one packet into buffer; at most `size` bytes. The descriptors come
 * close-on-exec into fds, whose kinds are left alone. With fds NULL none are
 * taken: the kernel drops what is attached. flags: MSG_DONTWAIT, MSG_PEEK or 0.
 * Returns the packet's length, 0 at the end of the connection, or -errno:
 * -EMSGSIZE when the packet was longer than the buffer, -EMFILE when
 * descriptors were lost for want of room in this process: the others are
 * closed, the bytes are in the buffer. -EINTR comes back: only the caller knows how long to wait.
 */
ssize_t packet_receive(int socket, void *buffer, size_t size, struct fdlist *fds, int flags);

#endif
