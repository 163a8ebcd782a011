/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Accepts connections on the main socket and on those of contexts. Out of
 * descriptors it turns one away with the one in reserve, pauses, and goes on
 * when a connection has ended or a moment has passed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "daemon/clock.h"
#include "daemon/fd.h"
#include "daemon/log.h"
#include "daemon/server_private.h"

/* For how many times as long as it took to let somebody in the door is closed, and at most. */
#define CLOSED_SHARE 2
#define CLOSED_MOST_NS 1000000u

static const struct timeval pause_time = { .tv_sec = 0, .tv_usec = 500000 };

/* In line it is out of the loop's sight. */
static void leave_line(struct listener *listener)
{
	if (listener->waits)
		TAILQ_REMOVE(&listener->server->door.waiting, listener, turn);
	listener->waits = false;
}

void listeners_pause(struct server *server)
{
	struct listener *listener;

	server->paused = true;
	LIST_FOREACH (listener, &server->listeners, entry) {
		leave_line(listener);
		event_del(&listener->event);
	}
	event_add(server->resume_event, &pause_time);
}

void listeners_resume(struct server *server)
{
	struct listener *listener;

	if (!SLIST_EMPTY(&server->orphans))
		return;
	if (server->reserve < 0)
		server->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (server->reserve < 0) {
		event_add(server->resume_event, &pause_time);
		return;
	}
	server->paused = false;
	event_del(server->resume_event);
	LIST_FOREACH (listener, &server->listeners, entry) {
		if (event_add(&listener->event, NULL) < 0) {
			listeners_pause(server);
			return;
		}
	}
}

static bool is_full_error(int error)
{
	return error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -ENOBUFS;
}

/* Somebody waits at the door, and there is no descriptor to let him in: he is told so. */
static void turn_one_away(struct server *server, const struct listener *listener)
{
	bool peek = !listener->refuses_descriptors || server->setup->always_peek;
	int fd;

	server->reserve = fd_close(server->reserve);
	fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		client_turn_away(server, fd, ENFILE, "the broker has no descriptor left", peek);
	server->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* Somebody was let in, or turned away, which has begun then. */
static void close_door(struct server *server, const struct client *client, uint64_t begin_ns)
{
	uint64_t now = clock_now_ns(), length = CLOSED_SHARE * (now - begin_ns);

	if (length > CLOSED_MOST_NS)
		length = CLOSED_MOST_NS;
	if (server->setup->closed_us)
		length = server->setup->closed_us * 1000ull;
	server->door.closed_until_ns = now + length;
	server->door.last = client ? quota_turns(&client->caller.charge) : NULL;
	server->door.has_others = false;
}

/* Whether it is, and the loop will hear when it is open again. */
static bool is_closed(struct server *server)
{
	struct door *door = &server->door;
	uint64_t now;

	if (door->accepted == server->pass)
		return true;
	if (!door->has_others)
		return false;
	now = clock_now_ns();
	if (now >= door->closed_until_ns)
		return false;
	if (!door->is_timed)
		timer_set(&door->timer, door->closed_until_ns - now);
	door->is_timed = true;
	return true;
}

static void door_opens(evutil_socket_t fd, short what, void *argument)
{
	struct server *server = argument;

	(void)what;
	if (timer_is_over(fd))
		server->door.is_timed = false;
}

static void accept_one(struct listener *listener)
{
	struct server *server = listener->server;
	uint64_t begin_ns = clock_now_ns();
	int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
	int error = fd < 0 ? -errno : 0;

	server->door.accepted = server->pass;
	if (fd >= 0) {
		error = client_add(server, fd, listener->context, listener->refuses_descriptors);
		close_door(server, error == 0 ? LIST_FIRST(&server->clients) : NULL, begin_ns);
	}
	if (fd < 0 && is_full_error(error))
		turn_one_away(server, listener);
	/* Also where one was let in and there was none to learn who he is. */
	if (is_full_error(error)) {
		/* Once, not each time that it tries again. */
		if (!server->is_full)
			log_line(4, "no descriptor left: accepting pauses (LimitNOFILE=)");
		server->is_full = true;
		listeners_pause(server);
	} else if (error == 0) {
		server->is_full = false;
	}
}

/*
 * One in a pass, of all listeners together and of each in its turn: to learn who it is takes as
 * long as many requests of those who are there, and one user may have a listener for each of his
 * contexts.
 */
static void listener_ready(evutil_socket_t fd, short what, void *argument)
{
	struct listener *listener = argument;
	struct server *server = listener->server;

	(void)fd;
	(void)what;
	if (TAILQ_EMPTY(&server->door.waiting) && !is_closed(server)) {
		accept_one(listener);
		return;
	}
	event_del(&listener->event);
	listener->waits = true;
	TAILQ_INSERT_TAIL(&server->door.waiting, listener, turn);
}

void listeners_go_on(struct server *server)
{
	struct listener *listener = TAILQ_FIRST(&server->door.waiting);

	if (is_closed(server))
		return;
	leave_line(listener);
	if (event_add(&listener->event, NULL) < 0)
		listeners_pause(server);
	else
		accept_one(listener);
}

int listeners_init(struct server *server)
{
	TAILQ_INIT(&server->door.waiting);
	return timer_init(&server->door.timer, server->base, door_opens, server);
}

int listener_add(struct server *server, int fd, struct context *context, bool refuses_descriptors)
{
	struct listener *listener = calloc(1, sizeof(*listener));

	if (!listener)
		return -ENOMEM;
	listener->server = server;
	listener->context = context;
	listener->fd = fd;
	listener->refuses_descriptors = refuses_descriptors;
	event_assign(&listener->event, server->base, fd, EV_READ | EV_PERSIST, listener_ready,
		     listener);
	if (!server->paused && event_add(&listener->event, NULL) < 0) {
		free(listener);
		return -ENOMEM;
	}
	LIST_INSERT_HEAD(&server->listeners, listener, entry);
	if (context)
		context->edge = listener;
	return 0;
}

void listener_free(struct listener *listener)
{
	leave_line(listener);
	event_del(&listener->event);
	LIST_REMOVE(listener, entry);
	free(listener);
}

void listener_end(struct listener *listener)
{
	struct server *server = listener->server;

	/* Before the descriptor is another process's: the loop's entry goes by it. */
	event_del(&listener->event);
	/* Who waits at the door may have sent anything already. */
	if (!listener->refuses_descriptors || server->setup->always_peek) {
		listener->context->place.listener = -EBADF;
		server_close_elsewhere(server, listener->fd, CLOSING_HOSTILE);
	}
	listener_free(listener);
}
