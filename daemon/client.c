/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One connection: receive, decode, broker_handle, encode, send. Called by the event
 * loop; a client that misbehaves loses its connection and costs nobody else.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/fd.h"
#include "daemon/log.h"
#include "daemon/server_private.h"

/* Requests of one client in a row, and of one user in one pass of the loop, before the others have
 * their turn. */
#define BURST 16
#define USER_BURST 64

/*
 * Of a client's socket: room for one long reply, and so for some forty short ones that it doesn't
 * read. The kernel doubles it.
 */
#define SEND_BUFFER (20 * 1024)

/* One for all connections: a request's life ends before the next is received. */
static unsigned char packet_buffer[REQUEST_BUFFER];

static void client_ready(evutil_socket_t fd, short what, void *argument);

/* What the loop shall tell us follows from the state. */
static void watch(struct client *client)
{
	short wanted = EV_PERSIST;

	if (client->state == CLIENT_CLOSING || client->state == CLIENT_PARKED) {
		event_del(&client->event);
		return;
	}
	if (client->queued)
		wanted |= EV_WRITE;
	else if (client->state == CLIENT_STREAMING)
		wanted |= EV_READ | EV_WRITE;
	else
		wanted |= EV_READ;
	if (event_pending(&client->event, EV_READ | EV_WRITE, NULL) &&
	    (event_get_events(&client->event) & (EV_READ | EV_WRITE | EV_PERSIST)) == wanted)
		return;
	event_del(&client->event);
	event_assign(&client->event, client->server->base, client->fd, wanted, client_ready,
		     client);
	if (event_add(&client->event, NULL) < 0)
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
		fdlist_close(&client->queued->fds);
	free(client->queued);
	client->queued = NULL;
}

void client_free(struct client *client)
{
	struct server *server = client->server;

	event_del(&client->event);
	caller_done(&client->caller);
	drop_queued(client);
	free(client->parked);
	fd_close(client->fd);
	LIST_REMOVE(client, entry);
	server->closing -= client->state == CLIENT_CLOSING;
	free(client);
	if (server->paused)
		listeners_resume(server);
}

/* Somebody attached descriptors: whoever closes them last may hang, so that isn't us. */
static void close_elsewhere(struct client *client)
{
	struct server *server = client->server;

	if (!server->setup->closer) {
		client_free(client);
		return;
	}
	event_del(&client->event);
	if (closer_take(server->setup->closer, client->fd) == 0) {
		client->fd = -EBADF;
		client_free(client);
		return;
	}
	/* It stays on its user's account until it is taken, and has nothing else here any more. */
	caller_end(&client->caller);
	drop_queued(client);
	server->closing += client->state != CLIENT_CLOSING;
	set_state(client, CLIENT_CLOSING);
	server->loop.tick_in(&server->loop, 100);
}

/*
 * Whether there is a packet in its socket, whatever is on it; nothing can follow any more. An empty
 * packet looks like the end, so the kernel is asked for something that all packets have.
 */
static bool has_unread(int fd)
{
	struct msghdr message = { 0 };
	const int on = 1;

	if (shutdown(fd, SHUT_RD) < 0 && errno != ENOTCONN)
		return true;
	if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
		return true;
	return recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT) >= 0 &&
	       (message.msg_flags & MSG_CTRUNC);
}

void client_drop(struct client *client)
{
	if (client->state == CLIENT_CLOSING)
		return;
	if (client->peek && has_unread(client->fd))
		close_elsewhere(client);
	else
		client_free(client);
}

void clients_retry_closing(struct server *server)
{
	struct client *client, *next;

	if (!server->closing)
		return;
	for (client = LIST_FIRST(&server->clients); client; client = next) {
		next = LIST_NEXT(client, entry);
		if (client->state == CLIENT_CLOSING)
			close_elsewhere(client);
	}
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
	error = packet_send(client->fd, packet->part, packet->part_count, &reply->fds,
			    MSG_DONTWAIT);
	if (error == -ETOOMANYREFS) {
		/* Descriptors that nobody has received yet, of all clients together. */
		reply_fail(reply, ENFILE, "too many descriptors are on their way");
		reply_encode(packet, request, reply);
		error = packet_send(client->fd, packet->part, packet->part_count, NULL,
				    MSG_DONTWAIT);
	}
	if (error == -EAGAIN)
		error = queue_packet(client, packet, &reply->fds);
	fdlist_close(&reply->fds);
	return error;
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

	event_active(&client->event, EV_TIMEOUT, 1);
}

/* Decodes and answers one request: 0, or -errno when the client can't be served any more. */
static int handle(struct client *client, unsigned char *packet, size_t size)
{
	struct server *server = client->server;
	struct reply *reply = &server->reply;
	struct request request;
	int error;

	error = request_decode(&request, packet, size);
	if (error < 0)
		return error;
	reply_reset(reply);
	error = broker_handle(server->broker, &client->caller, &request, reply);
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
		client->stream = request;
		set_state(client, CLIENT_STREAMING);
	} else if (client->queued) {
		watch(client);
	}
	return 0;
}

/* The request that waited is asked again. */
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
	int error;

	reply_reset(reply);
	error = broker_continue(server->broker, &client->caller, reply);
	if (error == 0 && !reply->silent)
		error = send_reply(client, &client->stream, reply);
	if (error == 0)
		set_state(client, reply->more ? CLIENT_STREAMING : CLIENT_READING);
	return error;
}

static void send_hello(int fd, struct wire_hello *hello, const char *why)
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
	packet_send(fd, part, 2, NULL, MSG_DONTWAIT);
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

/* Whether something is attached to the next packet; nothing is taken or dropped by looking. */
static bool has_attachment(int fd)
{
	struct msghdr message = { 0 };

	return recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT) >= 0 &&
	       (message.msg_flags & MSG_CTRUNC);
}

/* One packet: 0; -EAGAIN when there is none; -EXDEV when descriptors hang on it; else the client
 * goes. */
static int receive(struct client *client)
{
	ssize_t size;

	/* A reply that was cut off ends before another request can begin one. */
	if (client->state == CLIENT_STREAMING && !client->caller.stream)
		return continue_stream(client);
	if (client->peek && has_attachment(client->fd))
		return -EXDEV;
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
	return handle(client, packet_buffer, (size_t)size);
}

/*
 * How many requests the client may make in this pass; 0: it waits for the next, since its user
 * has had his part. Whoever waited comes before those of his other connections that were served.
 */
static unsigned take_turn(struct client *client)
{
	struct turns *turns = quota_turns(&client->caller.charge);

	if (turns->pass != client->server->pass) {
		turns->pass = client->server->pass;
		/* A turn ends when nobody waited in the last pass, or nobody was left to serve. */
		if (!turns->waiting || turns->served == 0)
			turns->turn++;
		turns->left = USER_BURST;
		turns->served = 0;
		turns->waiting = false;
	}
	if (client->turn == turns->turn || turns->left == 0) {
		turns->waiting = true;
		return 0;
	}
	client->turn = turns->turn;
	turns->served++;
	return turns->left < BURST ? turns->left : BURST;
}

static bool is_reading(const struct client *client)
{
	return !client->queued && client->state != CLIENT_PARKED;
}

static int receive_some(struct client *client)
{
	struct turns *turns = quota_turns(&client->caller.charge);
	unsigned most = take_turn(client);
	int error = 0;

	for (; error == 0 && most > 0 && is_reading(client); most--) {
		error = receive(client);
		if (error == 0)
			turns->left--;
	}
	return error;
}

static int serve(struct client *client, short what)
{
	int error = 0;

	if (what & EV_TIMEOUT && client->state == CLIENT_PARKED)
		error = unpark(client);
	if (error == 0 && client->queued && what & EV_WRITE) {
		error = flush(client);
		if (error == 0)
			watch(client);
	}
	if (what & EV_READ)
		error = error ? error : receive_some(client);
	if (error == -EAGAIN)
		error = 0;
	if (error == 0 && client->state == CLIENT_STREAMING && !client->queued && what & EV_WRITE)
		error = continue_stream(client);
	return error;
}

static void client_ready(evutil_socket_t fd, short what, void *argument)
{
	struct client *client = argument;
	int error = serve(client, what);

	(void)fd;
	if (error == -EXDEV)
		close_elsewhere(client);
	else if (error < 0)
		client_drop(client);
}

void client_turn_away(struct server *server, int fd, int error, const char *why, bool peek)
{
	struct wire_hello hello = { .status = error };

	send_hello(fd, &hello, why);
	/* He may have sent something before he was let in. */
	if (!peek || !server->setup->closer || !has_unread(fd) ||
	    closer_take(server->setup->closer, fd) < 0)
		fd_close(fd);
}

static void welcome(const struct client *client)
{
	struct wire_hello hello = { .features = broker_features(client->server->broker) };

	send_hello(client->fd, &hello, "");
}

int client_add(struct server *server, int fd, struct context *context, bool refuses_descriptors)
{
	struct client *client = calloc(1, sizeof(*client));
	const char *why = "no memory for a connection";
	const int send_buffer = SEND_BUFFER;
	int error = client ? 0 : -ENOMEM;

	if (error == 0) {
		client->caller.waiter.wake = wake;
		error = caller_init(&client->caller, server->broker, fd, context, &why);
	}
	if (error < 0) {
		free(client);
		client_turn_away(server, fd, -error, why,
				 !refuses_descriptors || server->setup->always_peek);
		return error;
	}
	client->server = server;
	client->fd = fd;
	client->peek = !refuses_descriptors || server->setup->always_peek;
	LIST_INSERT_HEAD(&server->clients, client, entry);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof(send_buffer));
	event_assign(&client->event, server->base, fd, EV_READ | EV_PERSIST, client_ready, client);
	welcome(client);
	client->state = CLIENT_GREETING;
	if (event_add(&client->event, NULL) < 0) {
		client_free(client);
		return -ENOMEM;
	}
	return 0;
}
