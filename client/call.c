/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One request and its replies over a connection, with a deadline. Everything of the
 * library that asks the broker comes through here; nothing of it allocates.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "client/internal.h"

#define NS_PER_MS 1000000
#define NS_PER_S 1000000000
#define ERRNO_MAX 4095 /* the kernel's own limit */

int shmb_cancel_off(void)
{
	int state;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	return state;
}

void shmb_cancel_restore(int *state)
{
	int ignored;

	pthread_setcancelstate(*state, &ignored);
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

shmb_deadline shmb_deadline_in(int timeout_ms)
{
	return timeout_ms < 0 ? INT64_MAX : now_ns() + (int64_t)timeout_ms * NS_PER_MS;
}

/* For poll(2): rounded up, so that it doesn't spin in the last millisecond. */
static int left_ms(shmb_deadline deadline)
{
	int64_t left;

	if (deadline == INT64_MAX)
		return -1;
	left = deadline - now_ns();
	return left <= 0 ? 0 : (int)((left + NS_PER_MS - 1) / NS_PER_MS);
}

int shmb_wait_for(int fd, short events, shmb_deadline deadline)
{
	for (;;) {
		struct pollfd wanted = { .fd = fd, .events = events };
		int left = left_ms(deadline);
		int ready = poll(&wanted, 1, left);

		if (ready > 0)
			return 0;
		if (ready < 0 && errno != EINTR)
			return -errno;
		if (left == 0)
			return -ETIMEDOUT;
	}
}

int shmb_fail(struct shmb *c, int error, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(c->reason, sizeof(c->reason), format, arguments);
	va_end(arguments);
	/* A system call filter's, mostly. */
	return error == -EPERM ? -EACCES : error;
}

void shmb_reason_take(struct shmb *c, const char *text, size_t size)
{
	if (size > sizeof(c->reason) - 1)
		size = sizeof(c->reason) - 1;
	for (size_t i = 0; i < size; i++)
		c->reason[i] = text[i] >= 0x20 && text[i] <= 0x7e ? text[i] : '?';
	c->reason[size] = '\0';
}

int shmb_begin(struct shmb *c)
{
	if (shmb_is_other_process(c->pid))
		return shmb_fail(c, -ECHILD, "the connection was made by another process");
	if (c->busy)
		return -EBUSY;
	if (c->error)
		return c->error;
	c->reason[0] = '\0';
	return 0;
}

int shmb_broken(struct shmb *c, const char *what)
{
	c->error = -EPROTO;
	return shmb_fail(c, -EPROTO, "not what a broker answers: %s", what);
}

int shmb_refused(struct shmb *c, int status)
{
	switch (status) {
	case EPERM:
		return -EACCES;
	case EINTR:
	case ECHILD:
	case EPIPE:
	case ECONNREFUSED:
	case ECONNRESET:
	case ETIMEDOUT:
		return shmb_broken(c, "a refusal in words that are the library's own");
	default:
		return -status;
	}
}

static int lost(struct shmb *c, bool unread)
{
	c->error = -ECONNRESET;
	c->unread = unread;
	return shmb_fail(c, -ECONNRESET, "the broker ended the connection");
}

static int late(struct shmb *c, int error)
{
	if (error == -ETIMEDOUT)
		return shmb_fail(c, error, "no answer in time");
	if (error == -EINTR)
		return shmb_fail(c, error, "a signal came");
	return shmb_fail(c, error, "the broker can't be asked: %s", strerrordesc_np(-error));
}

/* 0 is left to nobody: a reply to it was never asked for. */
static uint32_t next_serial(struct shmb *c)
{
	if (++c->serial == 0)
		c->serial = 1;
	return c->serial;
}

void shmb_post(struct shmb *c, struct iovec *parts, size_t part_count)
{
	struct wire_request *request = parts[0].iov_base;

	if (c->error)
		return;
	request->serial = next_serial(c);
	packet_send(c->socket, parts, part_count, NULL, MSG_DONTWAIT);
}

int shmb_send(struct shmb_exchange *x, struct iovec *parts, size_t part_count)
{
	struct wire_request *request = parts[0].iov_base;
	struct shmb *c = x->c;
	int r;

	x->serial = next_serial(c);
	*request = (struct wire_request){ .serial = x->serial, .operation = x->operation };
	c->created = false;
	for (;;) {
		r = packet_send(c->socket, parts, part_count, NULL, MSG_DONTWAIT);
		if (r != -EAGAIN)
			break;
		x->patient = false;
		r = shmb_wait_for(c->socket, POLLOUT, x->deadline);
		if (r < 0)
			break;
	}
	if (r == -EPIPE || r == -ECONNRESET || r == -ENOTCONN)
		return lost(c, true);
	return r < 0 ? late(c, r) : 0;
}

/*
 * One packet. The first wait is the socket's own timeout, which was set to the whole of the call's;
 * a signal, or a packet that isn't ours, costs a part of it, and from then on poll(2) has the rest.
 */
/* Like shmb_wait_for(), but a signal that was handled ends it. */
static int wait_interruptibly(int fd, shmb_deadline deadline)
{
	struct pollfd wanted = { .fd = fd, .events = POLLIN };
	int ready = poll(&wanted, 1, left_ms(deadline));

	if (ready < 0)
		return -errno;
	return ready > 0 ? 0 : -ETIMEDOUT;
}

static ssize_t receive_packet(struct shmb_exchange *x, struct fdlist *fds)
{
	int flags = x->patient && x->c->timeout_ms != 0 ? 0 : MSG_DONTWAIT;

	memset(x->buffer, 0, sizeof(struct wire_open_reply) + 8);
	for (;;) {
		ssize_t n = packet_receive(x->c->socket, x->buffer, x->buffer_size, fds, flags);
		int r;

		if (n != -EINTR && n != -EAGAIN)
			return n;
		flags = MSG_DONTWAIT;
		x->patient = false;
		r = x->interruptible ? wait_interruptibly(x->c->socket, x->deadline)
				     : shmb_wait_for(x->c->socket, POLLIN, x->deadline);
		if (r < 0)
			return r;
	}
}

/*
 * The next packet that answers this request. Those to earlier ones, which gave up waiting, are
 * dropped with their descriptors. Returns its length, -EMSGSIZE or -EMFILE with the header
 * in the buffer, or what ends the call.
 */
static ssize_t receive_ours(struct shmb_exchange *x, struct fdlist *fds)
{
	const struct wire_reply *header = (const void *)x->buffer;
	struct shmb *c = x->c;

	for (;;) {
		ssize_t n = receive_packet(x, fds);

		if (n == 0 || n == -ECONNRESET) {
			fdlist_close(fds);
			return lost(c, n != 0);
		}
		if (n < 0 && n != -EMSGSIZE && n != -EMFILE)
			return late(c, (int)n);
		if (n > 0 && (size_t)n < sizeof(*header)) {
			fdlist_close(fds);
			return shmb_broken(c, "a reply is too short");
		}
		if (header->serial == x->serial)
			return n;
		fdlist_close(fds);
		if (header->serial == 0 || (int32_t)(x->serial - header->serial) < 0)
			return shmb_broken(c, "a reply to what was never asked");
		/* However many of them come, the time is the caller's. */
		x->patient = false;
		if (left_ms(x->deadline) == 0)
			return late(c, -ETIMEDOUT);
	}
}

static int check_header(struct shmb *c, const struct wire_reply *header, uint16_t operation)
{
	if (header->operation != operation)
		return shmb_broken(c, "a reply to another operation");
	if (header->flags & ~WIRE_MORE || header->reserved)
		return shmb_broken(c, "unknown bits in a reply");
	if (header->status < 0 || header->status > ERRNO_MAX)
		return shmb_broken(c, "a status that is no errno");
	if (header->status != 0 && (header->fd_count > 0 || header->flags & WIRE_MORE))
		return shmb_broken(c, "a refusal with something attached");
	return 0;
}

/*
 * The bytes came and the descriptor didn't: no number is free, or, when one is, the security
 * module of the kernel said no (both only show as MSG_CTRUNC).
 */
static int descriptor_lost(struct shmb *c, const struct wire_reply *header)
{
	_cleanup_close_ int probe = -EBADF;
	uint32_t flags;

	if (header->fd_count == 0)
		return shmb_broken(c, "a descriptor that is not announced");
	/* One kind, padded; then the body of an open. */
	memcpy(&flags, (const char *)(header + 1) + 8, sizeof(flags));
	c->created = header->operation == WIRE_OPEN && header->fd_count == 1 &&
		     flags & WIRE_CREATED;
	probe = fcntl(c->socket, F_DUPFD_CLOEXEC, 0);
	if (probe < 0)
		return shmb_fail(c, -EMFILE, "no descriptor is free in this process");
	return shmb_fail(c, -EACCES, "the security module withheld the descriptor");
}

/* The kinds behind the header, then the body. */
static int split_reply(struct shmb *c, char *packet, size_t size, struct shmb_reply *ret)
{
	const struct wire_reply *header = (const void *)packet;
	size_t kinds = ((size_t)header->fd_count + 7) / 8 * 8;

	if (header->fd_count != ret->fds.count)
		return shmb_broken(c, "other descriptors than announced");
	if (size < sizeof(*header) + kinds)
		return shmb_broken(c, "a reply is too short for its descriptors");
	packet += sizeof(*header);
	for (size_t i = 0; i < kinds; i++) {
		if (i < header->fd_count)
			ret->fds.kind[i] = (uint8_t)packet[i];
		else if (packet[i] != 0)
			return shmb_broken(c, "padding that is not zero");
	}
	ret->more = header->flags & WIRE_MORE;
	ret->body = packet + kinds;
	ret->body_size = size - sizeof(*header) - kinds;
	return 0;
}

static int read_reply(struct shmb_exchange *x, struct shmb_reply *ret)
{
	const struct wire_reply *header = (const void *)x->buffer;
	struct shmb *c = x->c;
	ssize_t n = receive_ours(x, &ret->fds);
	int r;

	if (n < 0 && n != -EMSGSIZE && n != -EMFILE)
		return (int)n;
	r = check_header(c, header, x->operation);
	if (r < 0)
		return r;
	if (n == -EMFILE)
		return descriptor_lost(c, header);
	/* Of a refusal's text we keep what has room; everything else must be whole. */
	if (n == -EMSGSIZE && header->status == 0)
		return shmb_broken(c, "a reply is too long");
	r = split_reply(c, x->buffer, n < 0 ? x->buffer_size : (size_t)n, ret);
	if (r < 0 || header->status == 0)
		return r;
	shmb_reason_take(c, ret->body, ret->body_size);
	return shmb_refused(c, header->status);
}

int shmb_receive(struct shmb_exchange *x, struct shmb_reply *ret)
{
	int r;

	ret->fds.count = 0;
	r = read_reply(x, ret);
	if (r < 0)
		fdlist_close(&ret->fds);
	return r;
}
