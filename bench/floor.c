/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The floor that the broker is measured against: the least that a process can do to open a
 * file for another and pass the descriptor on. Blocking, one client after the other's
 * request, one openat, no checks. Run by open.c.
 */
#include "bench/floor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(sizeof(int))];
};

void floor_serve(int socket, int directory)
{
	char name[256];
	ssize_t size;

	while ((size = recv(socket, name, sizeof(name) - 1, 0)) > 0) {
		union control control = { .header = { .cmsg_len = CMSG_LEN(sizeof(int)),
						      .cmsg_level = SOL_SOCKET,
						      .cmsg_type = SCM_RIGHTS } };
		int status = 0;
		struct iovec part = { &status, sizeof(status) };
		struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
		int fd;

		name[size] = 0;
		fd = openat(directory, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0) {
			status = errno;
		} else {
			message.msg_control = &control;
			message.msg_controllen = CMSG_SPACE(sizeof(int));
			memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
		}
		if (sendmsg(socket, &message, MSG_NOSIGNAL) < 0)
			break;
		if (fd >= 0)
			close(fd);
	}
}

int floor_open(int socket, const char *name)
{
	union control control;
	int status, fd = -1;
	struct iovec part = { &status, sizeof(status) };
	struct msghdr message = { .msg_iov = &part,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	const struct cmsghdr *header;

	if (send(socket, name, strlen(name), MSG_NOSIGNAL) < 0 ||
	    recvmsg(socket, &message, MSG_CMSG_CLOEXEC) <= 0)
		return -1;
	header = CMSG_FIRSTHDR(&message);
	if (header)
		memcpy(&fd, CMSG_DATA(header), sizeof(fd));
	return fd;
}
