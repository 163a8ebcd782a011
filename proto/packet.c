/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Packets and their descriptors over a socket: for the daemon, its helpers and the library. */
#include "proto/packet.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A control buffer that is aligned for its header. */
union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(sizeof(int) * WIRE_FDS_MAX)];
};

void fdlist_close(struct fdlist *list)
{
	int saved = errno;

	while (list->count > 0)
		close(list->fd[--list->count]);
	errno = saved;
}

int fdlist_take(struct fdlist *list, int fd, enum wire_fd_kind kind)
{
	if (list->count == WIRE_FDS_MAX) {
		close(fd);
		return -EMFILE;
	}
	list->fd[list->count] = fd;
	list->kind[list->count++] = (uint8_t)kind;
	return 0;
}

int fdlist_steal_only(struct fdlist *list)
{
	int fd;

	if (list->count == 0)
		return -EBADF;
	fd = list->fd[0];
	list->fd[0] = list->fd[--list->count];
	fdlist_close(list);
	return fd;
}

int packet_send(int socket, const struct iovec *parts, size_t part_count, const struct fdlist *fds,
		int flags)
{
	union control control;
	struct msghdr message = {
		.msg_iov = (struct iovec *)parts,
		.msg_iovlen = part_count,
	};
	ssize_t sent;

	if (fds && fds->count > 0) {
		size_t size = sizeof(int) * fds->count;

		/* The padding, too: nothing of ours leaves the process unsaid. */
		memset(control.bytes, 0, CMSG_SPACE(size));
		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(size);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(size);
		memcpy(CMSG_DATA(&control.header), fds->fd, size);
	}
	do {
		sent = sendmsg(socket, &message, flags | MSG_NOSIGNAL);
	} while (sent < 0 && errno == EINTR);
	/* What unix(7) calls so is the kernel's memory: nothing is queued here. */
	if (sent < 0 && errno == ENOBUFS)
		return -ENOMEM;
	return sent < 0 ? -errno : 0;
}

/* Moves what came into the list; every descriptor is accounted for before anything can fail. */
static void take_control(struct msghdr *message, struct fdlist *fds)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		size_t count;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			fdlist_take(fds, fd, 0);
		}
	}
}

ssize_t packet_receive(int socket, void *buffer, size_t size, struct fdlist *fds, int flags)
{
	union control control;
	struct iovec part = { .iov_base = buffer, .iov_len = size };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	ssize_t received;

	if (!fds) {
		/* What is attached stays unseen: the kernel drops it. */
		received = recv(socket, buffer, size, flags | MSG_TRUNC);
		if (received < 0)
			return -errno;
		return (size_t)received > size ? -EMSGSIZE : received;
	}

	fds->count = 0;
	message.msg_control = control.bytes;
	message.msg_controllen = sizeof(control.bytes);
	received = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
	if (received < 0)
		return -errno;
	take_control(&message, fds);
	if (message.msg_flags & MSG_TRUNC) {
		fdlist_close(fds);
		return -EMSGSIZE;
	}
	if (message.msg_flags & MSG_CTRUNC) {
		fdlist_close(fds);
		return -EMFILE;
	}
	return received;
}
