/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Connections: made, ended, their timeout and what was told at their beginning. The
 * public functions of it, and the socket that the drop-ins use.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "client/internal.h"

#define STRING_(x) #x
#define STRING(x) STRING_(x)

/* High enough to be out of the way, low enough not to make the kernel's table large. */
#define HIGH_DESCRIPTOR 1000

int shmb_default_timeout_ms = 25000;

void shmb_init(struct shmb *c, int timeout_ms)
{
	*c = (struct shmb){ .socket = -EBADF,
			    .pid = shmb_process(),
			    .uid = geteuid(),
			    .gid = getegid(),
			    .timeout_ms = timeout_ms,
			    .delegation.directories = SHMB_DIRECTORIES_NONE };
}

int shmb_move_up(int fd)
{
	struct rlimit limit;
	int low = HIGH_DESCRIPTOR;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur <= HIGH_DESCRIPTOR)
		low = (int)limit.rlim_cur - 1;
	/* fcntl looks upwards alone: where all above is taken, begin lower. */
	for (; low > fd; low--) {
		int moved = fcntl(fd, F_DUPFD_CLOEXEC, low);

		if (moved >= 0) {
			fd_close(fd);
			return moved;
		}
		if (errno != EMFILE && errno != EINVAL)
			break;
	}
	return fd;
}

int shmb_apply_timeout(struct shmb *c)
{
	struct timeval timeout = { 0 }; /* for ever */

	/* 0 (not at all) is done by MSG_DONTWAIT. */
	if (c->timeout_ms > 0) {
		timeout.tv_sec = c->timeout_ms / 1000;
		timeout.tv_usec = c->timeout_ms % 1000 * 1000;
	}
	if (setsockopt(c->socket, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0)
		return shmb_fail(c, -errno, "no timeout can be set: %s", strerrordesc_np(errno));
	return 0;
}

/* How long connect(2) waits for room in the broker's queue, which it does before accept. */
static int bound_connect(int fd, shmb_deadline deadline)
{
	struct timeval timeout = { 0 };
	int64_t left_us;

	if (deadline == INT64_MAX)
		return 0;
	left_us = (deadline - shmb_deadline_in(0)) / 1000;
	if (left_us <= 0)
		return -ETIMEDOUT;
	timeout.tv_sec = left_us / 1000000;
	timeout.tv_usec = left_us % 1000000;
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0)
		return -errno;
	return 0;
}

static int connect_until(int fd, const struct sockaddr_un *address, shmb_deadline deadline)
{
	for (;;) {
		int r = bound_connect(fd, deadline);

		if (r < 0)
			return r;
		if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
			return 0;
		if (errno == EAGAIN)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

/* What connect(2) says of a path, in the terms of INTERFACE: ENOENT only speaks of objects. */
static int connect_failed(struct shmb *c, const char *path, int error)
{
	const char *why = strerrordesc_np(-error);

	switch (-error) {
	case ENOENT:
	case ENOTDIR:
	case EACCES:
	case EPERM:
	case ELOOP:
	case ENAMETOOLONG:
	case ECONNREFUSED:
	case ENOTSOCK:
		return shmb_fail(c, -ECONNREFUSED, "no broker at %s: %s", path, why);
	case EPROTOTYPE:
		return shmb_fail(c, -EPROTO, "what listens at %s is no broker: %s", path, why);
	default:
		return shmb_fail(c, error, "can't connect to %s: %s", path, why);
	}
}

static const char *default_path(void)
{
	const char *path = secure_getenv("SHMBROKER_SOCKET");

	return path && *path ? path : SHMB_SOCKET_DEFAULT;
}

static int connect_path(struct shmb *c, const char *path, shmb_deadline deadline)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = -EBADF;
	size_t size = strlen(path);
	int r;

	if (size == 0 || size >= sizeof(address.sun_path))
		return connect_failed(c, path, size == 0 ? -ENOENT : -ENAMETOOLONG);
	memcpy(address.sun_path, path, size);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return connect_failed(c, path, -errno);
	r = connect_until(fd, &address, deadline);
	if (r < 0)
		return connect_failed(c, path, r);
	c->socket = shmb_move_up(steal_fd(&fd));
	return 0;
}

static int start(struct shmb *c, shmb_deadline deadline)
{
	int r = shmb_greet(c, deadline);

	if (r < 0)
		c->socket = fd_close(c->socket);
	return r;
}

bool shmb_is_as_connected(const struct shmb *c)
{
	return c->uid == geteuid() && c->gid == getegid();
}

int shmb_open_socket(struct shmb *c, const char *path, shmb_deadline deadline)
{
	int r;

	c->ids_are_fixed = shmb_ids_are_fixed(c->small, sizeof(c->small));
	r = connect_path(c, path ? path : default_path(), deadline);
	return r < 0 ? r : start(c, deadline);
}

/* There is no connection to ask for the reason of a failed connect. */
static int connected(struct shmb **ret, struct shmb *c, int result)
{
	shmb_thread_reason_set(result < 0 ? c->reason : "");
	if (result < 0) {
		free(c);
		return result;
	}
	*ret = c;
	return 0;
}

int shmb_connect(struct shmb **ret, const char *path)
{
	struct shmb *c = malloc(sizeof(*c));
	_no_cancel_;

	if (!c)
		return -ENOMEM;
	shmb_init(c, shmb_default_timeout_ms);
	return connected(ret, c, shmb_open_socket(c, path, shmb_deadline_in(c->timeout_ms)));
}

/* -EPROTOTYPE unless it is a packet socket of this machine's. */
static int check_socket(int fd)
{
	int type, domain;
	socklen_t size = sizeof(int);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0)
		return errno == ENOTSOCK ? -EPROTOTYPE : -errno;
	if (type != SOCK_SEQPACKET || domain != AF_UNIX)
		return -EPROTOTYPE;
	return fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0;
}

int shmb_connect_fd(struct shmb **ret, int fd)
{
	_cleanup_close_ int owned = fd;
	struct shmb *c;
	_no_cancel_;
	int r;

	c = malloc(sizeof(*c));
	if (!c)
		return -ENOMEM;
	shmb_init(c, shmb_default_timeout_ms);
	r = check_socket(owned);
	if (r < 0) {
		shmb_fail(c, r, "not a connected socket of type SOCK_SEQPACKET");
		return connected(ret, c, r);
	}
	c->socket = steal_fd(&owned);
	/* Somebody else may have connected it: what we did by ourselves would not be as he. */
	c->delegation.is_refused = true;
	return connected(ret, c, start(c, shmb_deadline_in(c->timeout_ms)));
}

void shmb_disconnect(struct shmb *c)
{
	int saved = errno;
	_no_cancel_;

	if (!c)
		return;
	fd_close(c->socket);
	/* A forked child hasn't got it, and what is at its address may be another's. */
	if (shmb_is_other_process(c->pid))
		c->delegation.directories.page = NULL;
	shmb_directories_close(&c->delegation.directories);
	free(c->large);
	free(c);
	errno = saved;
}

int shmb_set_timeout(struct shmb *c, int timeout_ms)
{
	int r = shmb_begin(c);

	if (r < 0)
		return r;
	if (timeout_ms < -1)
		return shmb_fail(c, -EINVAL, SHMB_NO_TIMEOUT);
	c->timeout_ms = timeout_ms;
	return shmb_apply_timeout(c);
}

int shmb_features(struct shmb *c, uint64_t *ret)
{
	int r = shmb_begin(c);

	if (r < 0)
		return r;
	*ret = c->features;
	return 0;
}

const char *shmb_reason(const struct shmb *c)
{
	return c ? c->reason : shmb_thread_reason();
}

const char *shmb_version(void)
{
	return STRING(SHMB_VERSION_MAJOR) "." STRING(SHMB_VERSION_MINOR);
}
