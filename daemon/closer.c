/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The helper process of closer.h, and how the server hands connections over to it. */
#include "daemon/closer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/creds.h"
#include "daemon/fd.h"
#include "proto/packet.h"

/* Children that hang in a close at once; beyond that the helper takes no more. */
#define HANGING_MAX 64

/* The child has to be the last that closes: so it waits until we have. */
static void close_in_child(struct fdlist *fds, unsigned *hanging)
{
	int gate[2] = { -EBADF, -EBADF };
	pid_t pid = -1;
	char byte;

	if (pipe2(gate, O_CLOEXEC) == 0)
		pid = fork();
	if (pid == 0) {
		fd_close(gate[1]);
		while (read(gate[0], &byte, 1) < 0 && errno == EINTR)
			;
		fdlist_close(fds);
		_exit(0);
	}
	if (pid > 0)
		++*hanging;
	fdlist_close(fds);
	fd_close(gate[0]);
	fd_close(gate[1]);
}

static void serve(int socket)
{
	unsigned hanging = 0;
	struct fdlist fds;
	char byte;

	for (;;) {
		ssize_t size;

		while (hanging > 0 && waitpid(-1, NULL, hanging < HANGING_MAX ? WNOHANG : 0) > 0)
			hanging--;
		size = packet_receive(socket, &byte, sizeof(byte), &fds, 0);
		if (size == 0 || (size < 0 && size != -EINTR && size != -EMFILE))
			_exit(0);
		if (size > 0)
			close_in_child(&fds, &hanging);
	}
}

int closer_start(struct closer *closer)
{
	pid_t parent = getpid();
	int pair[2];

	*closer = (struct closer){ .socket = -EBADF };
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	closer->pid = fork();
	if (closer->pid < 0) {
		fd_close(pair[0]);
		fd_close(pair[1]);
		return -errno;
	}
	if (closer->pid == 0) {
		/* Keeps the socket and standard error alone. */
		if (dup2(pair[1], 3) < 0 || close_range(4, ~0U, 0) < 0)
			_exit(1);
		prctl(PR_SET_NAME, "shmb-closer");
		if (creds_drop_capabilities(0) < 0)
			_exit(1);
		prctl(PR_SET_DUMPABLE, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		signal(SIGINT, SIG_IGN);
		signal(SIGTERM, SIG_IGN);
		signal(SIGHUP, SIG_IGN);
		serve(3);
	}
	fd_close(pair[1]);
	closer->socket = pair[0];
	return 0;
}

int closer_take(struct closer *closer, int fd)
{
	struct fdlist fds = { .count = 1, .fd = { fd } };
	char byte = 0;
	struct iovec part = { .iov_base = &byte, .iov_len = 1 };
	int error;

	error = packet_send(closer->socket, &part, 1, &fds, MSG_DONTWAIT);
	if (error < 0)
		return -EAGAIN;
	fd_close(fd);
	return 0;
}

void closer_stop(struct closer *closer)
{
	closer->socket = fd_close(closer->socket);
	if (closer->pid > 0) {
		kill(closer->pid, SIGKILL);
		waitpid(closer->pid, NULL, 0);
	}
	closer->pid = 0;
}
