/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The helper process of closer.h, and how the server hands connections over to it. */
#include "daemon/closer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/creds.h"
#include "daemon/fd.h"
#include "proto/packet.h"

/* Children that hang in a close at once; what comes then is hoarded, and shares a child. */
#define HANGING_MAX 64
/* So many hoarded ones have a child each. */
#define FEW 8
/* With a full hoard, or for what ends by itself, there may be so many. */
#define CHILDREN_MAX 128
/* The helper's end. */
#define SOCKET 3

static struct {
	unsigned children;
	size_t count, most;
	int fd[4096];
} hoard;

/* The last that came: the broker may not have closed it yet, and must not be the last that does. */
static int held = -EBADF;
static enum closing held_how;

static void reap(bool wait)
{
	while (hoard.children > 0 && waitpid(-1, NULL, wait ? 0 : WNOHANG) > 0) {
		hoard.children--;
		wait = false;
	}
}

/* Keeps what it is to close, and nothing else of ours: it may hang in that for ever. */
static _Noreturn void close_and_end(int gate, pid_t parent, const int *fds, size_t count)
{
	char byte = 0;

	signal(SIGTERM, SIG_DFL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd_close(SOCKET);
	/* None of these is the last copy: the helper has them, too. */
	if (fds != &held)
		fd_close(held);
	for (size_t i = 0; i < hoard.count; i++)
		if (&hoard.fd[i] < fds || &hoard.fd[i] >= fds + count)
			fd_close(hoard.fd[i]);
	if (getppid() != parent || write(gate, &byte, 1) < 0)
		_exit(1);
	while (read(gate, &byte, 1) < 0 && errno == EINTR)
		;
	for (size_t i = 0; i < count; i++)
		fd_close(fds[i]);
	_exit(0);
}

/* The child has to be the last that closes: so it waits until we have. false: no child to be had.
 */
static bool close_in_child(const int *fds, size_t count)
{
	pid_t parent = getpid(), pid;
	int gate[2];
	char byte;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, gate) < 0)
		return false;
	pid = fork();
	if (pid == 0) {
		fd_close(gate[1]);
		close_and_end(gate[0], parent, fds, count);
	}
	fd_close(gate[0]);
	while (pid > 0 && read(gate[1], &byte, 1) < 0 && errno == EINTR)
		;
	for (size_t i = 0; pid > 0 && i < count; i++)
		fd_close(fds[i]);
	hoard.children += pid > 0;
	fd_close(gate[1]);
	return pid > 0;
}

/* A few have a child each, so that none waits for another. */
static void close_hoard(void)
{
	if (hoard.count > FEW) {
		if (close_in_child(hoard.fd, hoard.count))
			hoard.count = 0;
		return;
	}
	while (hoard.count > 0 && close_in_child(&hoard.fd[hoard.count - 1], 1))
		hoard.count--;
}

static void let_go(void)
{
	if (held < 0)
		return;
	if (held_how == CLOSING_HOSTILE)
		hoard.fd[hoard.count++] = held;
	else if (!close_in_child(&held, 1))
		fd_close(held);
	held = -EBADF;
}

/* Whatever comes next says that the one before has been closed there. */
static void take(struct fdlist *fds, enum closing how)
{
	let_go();
	if (fds->count == 1) {
		held = fds->fd[0];
		held_how = how;
	}
	fds->count = 0;
}

/* The next descriptor, if one is there. false: nobody will send any more. */
static bool receive(int socket)
{
	struct fdlist fds;
	char how = 0;
	ssize_t size = packet_receive(socket, &how, sizeof(how), &fds, MSG_DONTWAIT);

	if (size > 0)
		take(&fds, (enum closing)how);
	return size != 0;
}

static void serve(int socket)
{
	struct pollfd wanted = { .fd = socket, .events = POLLIN };
	bool more = true;

	while (more) {
		bool now = hoard.children < HANGING_MAX;
		int wait_ms = hoard.count == 0 ? -1 : now ? 0 : 1000;

		if (poll(&wanted, 1, wait_ms) > 0)
			more = receive(socket);
		else if (hoard.count > 0 && now)
			close_hoard();
		reap(hoard.children >= CHILDREN_MAX);
		if (hoard.count == hoard.most)
			close_hoard();
		while (hoard.count == hoard.most) {
			poll(NULL, 0, 100);
			reap(false);
			close_hoard();
		}
	}
	let_go();
	if (hoard.count > 0)
		close_hoard();
	_exit(0);
}

static size_t most_hoarded(void)
{
	const size_t most = sizeof(hoard.fd) / sizeof(*hoard.fd);
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur / 2 > most)
		return most;
	return limit.rlim_cur / 2;
}

int closer_start(struct closer *closer, int (*confine)(void))
{
	pid_t parent = getpid();
	char ready = 0;
	ssize_t size;
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
		if (dup2(pair[1], SOCKET) < 0 || close_range(SOCKET + 1, ~0U, 0) < 0)
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
		hoard.most = most_hoarded();
		if (confine && confine() < 0)
			_exit(1);
		if (write(SOCKET, &ready, 1) < 0)
			_exit(1);
		serve(SOCKET);
	}
	fd_close(pair[1]);
	closer->socket = pair[0];
	/* Till then it has a copy of the listener, say, which would answer when we are gone. */
	do
		size = read(closer->socket, &ready, 1);
	while (size < 0 && errno == EINTR);
	if (size == 1)
		return 0;
	closer_stop(closer);
	return -ECHILD;
}

int closer_take(struct closer *closer, int fd, enum closing how)
{
	struct fdlist fds = { .count = 1, .fd = { fd } };
	char byte = (char)how;
	struct iovec part = { .iov_base = &byte, .iov_len = 1 };
	int error;

	error = packet_send(closer->socket, &part, 1, &fds, MSG_DONTWAIT);
	if (error == 0) {
		fd_close(fd);
		/* For which there is no room the next one says it. */
		byte = CLOSING_DONE;
		packet_send(closer->socket, &part, 1, NULL, MSG_DONTWAIT);
	}
	/* Too many descriptors on their way, and no memory for the packet, are no end either. */
	return error == -ETOOMANYREFS || error == -ENOMEM || error == -ENOBUFS ? -EAGAIN : error;
}

void closer_stop(struct closer *closer)
{
	const struct timespec moment = { .tv_nsec = 10 * 1000 * 1000 };

	closer->socket = fd_close(closer->socket);
	/* A second, for what it still has in hand; whatever hangs does so without us. */
	for (int i = 0; closer->pid > 0 && i < 100; i++) {
		if (waitpid(closer->pid, NULL, WNOHANG) != 0)
			closer->pid = 0;
		else
			nanosleep(&moment, NULL);
	}
	if (closer->pid > 0)
		kill(closer->pid, SIGKILL);
	closer->pid = 0;
}
