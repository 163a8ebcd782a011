/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One connection: receive, decode, broker_handle, encode, send. Called by the event
 * loop; a client that misbehaves loses its connection and costs nobody else.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/clock.h"
#include "daemon/fd.h"
#include "daemon/log.h"
#include "daemon/server_private.h"

/*
 * Of a client's socket, which the kernel doubles: room for some ten short replies that it doesn't
 * read, FDS_UNREAD_MAX; a descriptor in each counts against our own limit while it is on its way.
 * A long reply, which has none, gets more for as long as it takes.
 */
#define SEND_BUFFER (4 * 1024)
#define SEND_BUFFER_LONG (20 * 1024)
#define LONG_REPLY 2048

/* One for all connections: a request's life ends before the next is received. */
static unsigned char packet_buffer[REQUEST_BUFFER];

static void client_ready(evutil_socket_t fd, short what, void *argument);

/* A stream that has ended meanwhile has its last packet to send. */
static bool is_idle(const struct client *client)
{
	return client->idle && client->caller.stream;
}

/* What the loop shall tell us follows from the state. */
static void watch(struct client *client)
{
	short wanted = EV_PERSIST;

	if (client->turn.waits)
		return;
	if (client->state == CLIENT_PARKED) {
		event_del(&client->event);
		return;
	}
	if (client->queued)
		wanted |= EV_WRITE;
	else if (client->state == CLIENT_STREAMING && !is_idle(client))
		wanted |= EV_READ | EV_WRITE;
	else
		wanted |= EV_READ;
	if (event_pending(&client->event, EV_READ | EV_WRITE, NULL) &&
	    (event_get_events(&client->event) & (EV_READ | EV_WRITE | EV_PERSIST)) == wanted)
		return;
	event_del(&client->event);
	event_assign(&client->event, client->server->base, client->fd, wanted, client_ready,
		     client);
	/* It would hear nothing more, and not even that: serve() ends it. */
	client->unwatched = event_add(&client->event, NULL) < 0;
	if (client->unwatched)
		log_line(3, "no memory to watch a client");
}

static void set_state(struct client *client, enum client_state state)
{
	client->state = state;
	watch(client);
}

static void drop_queued(struct client *client)
{
	if (client->queued)
		broker_close(client->server->broker, &client->queued->fds);
	free(client->queued);
	client->queued = NULL;
}

static void client_free(struct client *client)
{
	struct server *server = client->server;

	event_del(&client->event);
	turn_leave(client);
	drop_queued(client);
	free(client->parked);
	/* First: who has a delegation by it is told then, and looks at the other end. */
	fd_close(client->fd);
	caller_done(&client->caller);
	LIST_REMOVE(client, entry);
	free(client);
	if (server->paused)
		listeners_resume(server);
}

/* Somebody attached descriptors: whoever closes them last may hang, so that isn't us. */
static void close_elsewhere(struct client *client)
{
	int fd = client->fd;

	event_del(&client->event);
	client->fd = -EBADF;
	shutdown(fd, SHUT_RDWR); /* the other end needn't wait for it */
	server_close_elsewhere(client->server, fd, CLOSING_HOSTILE);
	client_free(client);
}

/*
 * Whether there may be a packet in its socket, whatever is on it; nothing can follow any more. An
 * empty packet looks like the end, so the kernel is asked for something that all packets have. An
 * error says nothing: that the other end went without reading all comes before what it has sent.
 */
static bool has_unread(int fd)
{
	struct msghdr message = { 0 };
	const int on = 1;

	if (shutdown(fd, SHUT_RD) < 0 && errno != ENOTCONN)
		return true;
	if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
		return true;
	return recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT) < 0 ||
	       (message.msg_flags & MSG_CTRUNC);
}

void client_drop(struct client *client)
{
	if (client->peek && has_unread(client->fd))
		close_elsewhere(client);
	else
		client_free(client);
}

static void size_buffer(struct client *client, bool is_long)
{
	const int size = is_long ? SEND_BUFFER_LONG : SEND_BUFFER;

	if (client->has_long_buffer == is_long)
		return;
	setsockopt(client->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	client->has_long_buffer = is_long;
}

static int queue_packet(struct client *client, const struct reply_packet *packet,
			struct fdlist *fds)
{
	struct queued *queued;
	size_t size = 0;

	for (size_t i = 0; i < packet->part_count; i++)
		size += packet->part[i].iov_len;
	queued = malloc(sizeof(*queued) + size);
	if (!queued)
		return -ENOMEM;
	queued->size = 0;
	for (size_t i = 0; i < packet->part_count; i++) {
		memcpy(queued->bytes + queued->size, packet->part[i].iov_base,
		       packet->part[i].iov_len);
		queued->size += packet->part[i].iov_len;
	}
	queued->fds.count = fds->count;
	memcpy(queued->fds.fd, fds->fd, fds->count * sizeof(*fds->fd));
	fds->count = 0;
	client->queued = queued;
	return 0;
}

/* 0, also when it was queued; or -errno when the client can't be served any more. */
static int send_reply(struct client *client, const struct request *request, struct reply *reply)
{
	struct reply_packet *packet = &client->server->packet;
	int error;

	reply_encode(packet, request, reply);
	if (reply->body_size > LONG_REPLY)
		size_buffer(client, true);
	else if (reply->fds.count > 0)
		size_buffer(client, false);
	error = packet_send(client->fd, packet->part, packet->part_count, &reply->fds,
			    MSG_DONTWAIT);
	if (error == -ETOOMANYREFS) {
		/* Descriptors that nobody has received yet, of all clients together. */
		broker_undo(client->server->broker, &client->caller, reply);
		broker_close(client->server->broker, &reply->fds);
		reply_fail(reply, ENFILE, "too many descriptors are on their way");
		reply_encode(packet, request, reply);
		error = packet_send(client->fd, packet->part, packet->part_count, NULL,
				    MSG_DONTWAIT);
	}
	if (error == -EAGAIN)
		error = queue_packet(client, packet, &reply->fds);
	if (error < 0)
		broker_close(client->server->broker, &reply->fds);
	fdlist_close(&reply->fds);
	return error;
}

/*
 * Too many descriptors are on their way, of all clients together. The request was granted, so its
 * reply waits until others have received: the socket has room, and would say so again at once.
 * -EAGAIN, or another -errno.
 */
static int flush_later(struct client *client)
{
	static const struct timeval moment = { .tv_usec = 10 * 1000 };

	event_del(&client->event);
	event_assign(&client->event, client->server->base, -1, 0, client_ready, client);
	return event_add(&client->event, &moment) < 0 ? -ENOMEM : -EAGAIN;
}

static int flush(struct client *client)
{
	struct queued *queued = client->queued;
	struct iovec part;
	int error;

	if (!queued)
		return 0;
	part = (struct iovec){ queued->bytes, queued->size };
	error = packet_send(client->fd, &part, 1, &queued->fds, MSG_DONTWAIT);
	if (error == -EAGAIN)
		return 0;
	if (error == -ETOOMANYREFS)
		return flush_later(client);
	if (error == 0)
		fdlist_close(&queued->fds);
	drop_queued(client);
	return error;
}

static int park(struct client *client, const unsigned char *packet, size_t size)
{
	/* One byte more: decoding ends its string there. */
	client->parked = malloc(size + 1);
	if (!client->parked)
		return -ENOMEM;
	memcpy(client->parked, packet, size);
	client->parked_size = size;
	client->parked_streaming = client->state == CLIENT_STREAMING;
	set_state(client, CLIENT_PARKED);
	return 0;
}

/* Called by the core, in the middle of something: the loop does the rest. */
static void wake(struct waiter *waiter)
{
	struct caller *caller = (struct caller *)((char *)waiter - offsetof(struct caller, waiter));
	struct client *client = (struct client *)((char *)caller - offsetof(struct client, caller));

	client->idle = false;
	event_active(&client->event, EV_TIMEOUT, 1);
}

/*
 * Whether a request may take much longer than others: a packet of a longer reply may look at a few
 * dozen names, a context is a directory, an access control list and a socket, and the service
 * manager hears of what is sealed.
 */
static bool is_long(const struct request *request)
{
	switch (request->operation) {
	case WIRE_OPEN:
		return request->options & WIRE_SEALED;
	case WIRE_CREATE_CONTEXT:
	case WIRE_LIST:
	case WIRE_POOLS:
	case WIRE_EXPLAIN:
	case WIRE_STATUS:
	case WIRE_RELOAD:
	case WIRE_LEND:
	case WIRE_DELEGATE:
		return true;
	default:
		return false;
	}
}

/* Decodes and answers one request: 0, or -errno when the client can't be served any more. */
static int handle(struct client *client, unsigned char *packet, size_t size)
{
	struct server *server = client->server;
	struct reply *reply = &server->reply;
	struct request request;
	uint64_t begin_ns;
	int error;

	error = request_decode(&request, packet, size);
	if (error < 0)
		return error;
	reply_reset(reply);
	begin_ns = is_long(&request) ? clock_now_ns() : 0;
	error = broker_handle(server->broker, &client->caller, &request, reply);
	if (begin_ns)
		turn_took(client, begin_ns);
	if (error < 0)
		return error;
	if (reply->parked)
		return park(client, packet, size);
	log_outcome(broker_outcome(server->broker), &client->caller, &request, reply);
	if (!reply->silent) {
		error = send_reply(client, &request, reply);
		if (error < 0)
			return error;
	}
	if (reply->more) {
		client->idle = reply->idle;
		client->stream = request;
		set_state(client, CLIENT_STREAMING);
	} else if (client->queued || client->idle) {
		watch(client);
	}
	return 0;
}

/* It has been woken: the request that waited is asked again. */
static int unpark(struct client *client)
{
	_cleanup_free_ unsigned char *packet = client->parked;

	client->parked = NULL;
	set_state(client, client->parked_streaming ? CLIENT_STREAMING : CLIENT_READING);
	return handle(client, packet, client->parked_size);
}

/* The next packet of a reply that goes on. */
static int continue_stream(struct client *client)
{
	struct server *server = client->server;
	struct reply *reply = &server->reply;
	uint64_t begin_ns = clock_now_ns();
	int error;

	reply_reset(reply);
	error = broker_continue(server->broker, &client->caller, reply);
	if (error == 0 && !reply->silent)
		error = send_reply(client, &client->stream, reply);
	turn_took(client, begin_ns);
	client->idle = reply->idle;
	if (error == 0)
		set_state(client, reply->more ? CLIENT_STREAMING : CLIENT_READING);
	return error;
}

/* 0, or -errno: who has no hello waits for it. */
static int send_hello(int fd, struct wire_hello *hello, const char *why)
{
	struct iovec part[2] = {
		{ hello, sizeof(*hello) },
		{ (char *)why, strlen(why) },
	};

	hello->magic = WIRE_MAGIC;
	hello->version_min = WIRE_VERSION_MIN;
	hello->version_max = WIRE_VERSION_MAX;
	hello->size = sizeof(*hello);
	hello->packet_max = WIRE_REQUEST_MAX;
	return packet_send(fd, part, 2, NULL, MSG_DONTWAIT);
}

static void refuse_version(const struct client *client)
{
	struct wire_hello hello = { .status = EPROTONOSUPPORT };

	send_hello(client->fd, &hello, "no version of the protocol is known to both sides");
}

static int greeted(struct client *client, size_t size)
{
	uint16_t version;
	int error;

	error = hello_decode(&version, packet_buffer, size);
	if (error == 0)
		set_state(client, CLIENT_READING);
	else if (error == -EPROTONOSUPPORT)
		refuse_version(client);
	return error;
}

/*
 * What is attached to the next packet; nothing is taken or dropped by looking. 0: nothing, and the
 * packet is there. -EXDEV: something. -EAGAIN: no packet yet, and one that comes after this look
 * must not be taken without another.
 */
static int look_ahead(int fd)
{
	struct msghdr message = { 0 };

	if (recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT) < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	return message.msg_flags & MSG_CTRUNC ? -EXDEV : 0;
}

/* One packet: 0; -EAGAIN when there is none; -EXDEV when descriptors hang on it; else the client
 * goes. */
static int receive(struct client *client)
{
	ssize_t size;
	int error;

	/* A reply that was cut off ends before another request can begin one. */
	if (client->state == CLIENT_STREAMING && !client->caller.stream)
		return continue_stream(client);
	error = client->peek ? look_ahead(client->fd) : 0;
	if (error)
		return error;
	size = recv(client->fd, packet_buffer, sizeof(packet_buffer), MSG_DONTWAIT | MSG_TRUNC);
	if (size < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	/* An empty packet is no request, and looks like the end. */
	if (size == 0)
		return -ECONNRESET;
	if (size > WIRE_REQUEST_MAX)
		return -EMSGSIZE;
	if (client->state == CLIENT_GREETING)
		return greeted(client, (size_t)size);
	if (client->turn.to_look)
		turn_look(client);
	return handle(client, packet_buffer, (size_t)size);
}

static bool is_reading(const struct client *client)
{
	return !client->queued && client->state != CLIENT_PARKED;
}

/* What it waits for since before, and what it asks now: as much as it may. */
static int take_part(struct client *client, struct turns *turns, short what)
{
	int error = 0;

	if (client->state == CLIENT_PARKED) {
		turns->left--;
		return unpark(client);
	}
	if (what & EV_WRITE && client->state == CLIENT_STREAMING && !client->queued) {
		error = continue_stream(client);
		/* For what it asks beside it, a cancel it may be, and for nobody else. */
		turns->left = error == 0 && what & EV_READ && is_reading(client);
	}
	while (error == 0 && turns->left > 0 && what & EV_READ && is_reading(client)) {
		turns->left--;
		error = receive(client);
	}
	return error;
}

static void fail(struct client *client, int error)
{
	if (error == -EXDEV)
		close_elsewhere(client);
	else
		client_drop(client);
}

void client_take_turn(struct client *client)
{
	short what = EV_READ | (is_idle(client) ? 0 : EV_WRITE);
	int error = take_part(client, turns_now(client), what);

	if (error == -EAGAIN || (error == 0 && (!is_reading(client) || is_idle(client)))) {
		watch(client);
		error = client->unwatched ? -ENOMEM : -EAGAIN;
	}
	if (error == 0)
		turn_wait(client);
	else if (error != -EAGAIN)
		fail(client, error);
}

static int serve(struct client *client, short what)
{
	int error = 0;

	if (what & EV_TIMEOUT)
		watch(client);
	if (client->queued && what & EV_WRITE) {
		error = flush(client);
		if (error == 0)
			watch(client);
	}
	if (error == 0 && (what & EV_READ || client->state == CLIENT_STREAMING ||
			   client->state == CLIENT_PARKED)) {
		struct turns *turns = turn_or_wait(client);

		if (turns)
			error = take_part(client, turns, what);
		if (turns && error == 0 && turns->left == 0 && client->turn.asks_ahead &&
		    is_reading(client) && !is_idle(client))
			turn_wait(client);
	}
	if (error == 0 || error == -EAGAIN)
		error = client->unwatched ? -ENOMEM : 0;
	return error;
}

static void client_ready(evutil_socket_t fd, short what, void *argument)
{
	struct client *client = argument;
	int error = serve(client, what);

	(void)fd;
	if (error < 0)
		fail(client, error);
}

void client_turn_away(struct server *server, int fd, int error, const char *why, bool peek)
{
	struct wire_hello hello = { .status = error };

	send_hello(fd, &hello, why);
	/* He may have sent something before he was let in. */
	if (peek && has_unread(fd)) {
		shutdown(fd, SHUT_RDWR);
		server_close_elsewhere(server, fd, CLOSING_HOSTILE);
	} else {
		fd_close(fd);
	}
}

static int welcome(struct client *client)
{
	struct broker *broker = client->server->broker;
	struct wire_hello hello = { .features = broker_features(broker) };

	if (caller_has_delegation(broker, &client->caller))
		hello.features |= WIRE_FEATURE_DELEGATION;
	return send_hello(client->fd, &hello, "");
}

int client_add(struct server *server, int fd, struct context *context, bool refuses_descriptors)
{
	struct client *client = calloc(1, sizeof(*client));
	const char *why = "no memory for a connection";
	int error = client ? 0 : -ENOMEM;

	if (error == 0) {
		client->caller.waiter.wake = wake;
		error = caller_init(&client->caller, server->broker, fd, context, &why);
	}
	if (error < 0) {
		free(client);
		log_turned_away(fd, -error, why);
		client_turn_away(server, fd, -error, why,
				 !refuses_descriptors || server->setup->always_peek);
		return error;
	}
	client->server = server;
	client->fd = fd;
	client->peek = !refuses_descriptors || server->setup->always_peek;
	LIST_INSERT_HEAD(&server->clients, client, entry);
	client->has_long_buffer = true;
	size_buffer(client, false);
	event_assign(&client->event, server->base, fd, EV_READ | EV_PERSIST, client_ready, client);
	client->state = CLIENT_GREETING;
	error = welcome(client);
	if (error == 0 && event_add(&client->event, NULL) < 0)
		error = -ENOMEM;
	if (error < 0)
		client_drop(client);
	return error;
}
