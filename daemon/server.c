/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The event loop, and what the core asks of it. Made by main, and by the tests. */
#include "daemon/server.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <syslog.h>

#include "daemon/fd.h"
#include "daemon/log.h"
#include "daemon/server_private.h"

static struct server *server_of(struct loop *loop)
{
	return (struct server *)((char *)loop - offsetof(struct server, loop));
}

/* --- the loop, as the core knows it --- */

static void watch_ready(evutil_socket_t fd, short what, void *argument)
{
	struct watch *watch = argument;

	(void)fd;
	(void)what;
	watch->ready(watch);
}

static int loop_watch(struct loop *loop, struct watch *watch, int fd)
{
	struct event *event;

	event = event_new(server_of(loop)->base, fd, EV_READ | EV_PERSIST, watch_ready, watch);
	if (!event)
		return -ENOMEM;
	if (event_add(event, NULL) < 0) {
		event_free(event);
		return -ENOMEM;
	}
	watch->impl = event;
	return 0;
}

static void loop_unwatch(struct loop *loop, struct watch *watch)
{
	(void)loop;
	if (watch->impl)
		event_free(watch->impl);
	watch->impl = NULL;
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void loop_tick_in(struct loop *loop, uint64_t delay_ms)
{
	struct server *server = server_of(loop);
	uint64_t at = now_ms() + delay_ms;
	struct timeval delay = { .tv_sec = (time_t)(delay_ms / 1000),
				 .tv_usec = (suseconds_t)(delay_ms % 1000 * 1000) };

	if (server->tick_at_ms && server->tick_at_ms <= at)
		return;
	server->tick_at_ms = at;
	event_add(server->tick_event, &delay);
}

static void tick(evutil_socket_t fd, short what, void *argument)
{
	struct server *server = argument;

	(void)fd;
	(void)what;
	server->tick_at_ms = 0;
	clients_retry_closing(server);
	broker_tick(server->broker);
}

static void resume(evutil_socket_t fd, short what, void *argument)
{
	(void)fd;
	(void)what;
	listeners_resume(argument);
}

static void keeper_ready(evutil_socket_t fd, short what, void *argument)
{
	struct server *server = argument;
	int error;

	(void)fd;
	(void)what;
	error = broker_dispatch_keeper(server->broker);
	if (error < 0) {
		log_line(LOG_CRIT, "a helper process has ended: the broker can't go on without it");
		server->error = error;
		event_base_loopbreak(server->base);
	}
}

/* --- what the core tells --- */

static void notice(void *context, int priority, const char *text)
{
	(void)context;
	log_line(priority, "%s", text);
}

static int context_made(void *context, struct context *made)
{
	struct server *server = context;

	return listener_add(server, made->place.listener, made, made->place.refuses_descriptors);
}

static void context_ended(void *context, struct context *ended)
{
	struct server *server = context;
	struct client *client, *next;

	for (client = LIST_FIRST(&server->clients); client; client = next) {
		next = LIST_NEXT(client, entry);
		if (client->caller.context == ended)
			client_drop(client);
	}
	listener_end(ended->edge);
}

static void reloaded(void *context, int error, const char *text)
{
	struct server *server = context;

	if (error < 0)
		log_line(LOG_ERR, "%s%s", text,
			 server->loaded ? "; the configuration before stays in force" : "");
	else if (server->loaded)
		log_line(LOG_NOTICE, "another configuration is in force");
	if (!server->loaded)
		server->load_error = error;
	server->loaded = true;
	if (server->setup->reloaded)
		server->setup->reloaded(error, text);
}

/* --- signals --- */

static void caught(evutil_socket_t number, short what, void *argument)
{
	struct server *server = argument;

	(void)what;
	if (number != SIGHUP) {
		server_stop(server);
		return;
	}
	if (server->setup->reloading)
		server->setup->reloading();
	broker_load(server->broker);
}

int server_catch_signals(struct server *server)
{
	static const int numbers[] = { SIGTERM, SIGINT, SIGHUP };

	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		server->signal_event[i] = evsignal_new(server->base, numbers[i], caught, server);
		if (!server->signal_event[i] || event_add(server->signal_event[i], NULL) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* --- life --- */

static int make_base(struct server *server)
{
	struct event_config *config = event_config_new();

	if (!config)
		return -ENOMEM;
	event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_IGNORE_ENV);
	server->base = event_base_new_with_config(config);
	event_config_free(config);
	return server->base ? 0 : -ENOMEM;
}

static int make_broker(struct server *server)
{
	struct broker_setup setup = {
		.edge = &server->edge,
		.self = server->setup->self,
		.source = server->setup->source,
		.keeper = server->setup->keeper,
		.contexts = server->setup->contexts,
	};

	server->loop = (struct loop){
		.watch = loop_watch,
		.unwatch = loop_unwatch,
		.tick_in = loop_tick_in,
	};
	server->edge = (struct broker_edge){
		.context = server,
		.loop = &server->loop,
		.notice = notice,
		.context_made = context_made,
		.context_ended = context_ended,
		.reloaded = reloaded,
	};
	return broker_new(&server->broker, &setup);
}

int server_new(struct server **ret, const struct server_setup *setup)
{
	struct server *server = calloc(1, sizeof(*server));
	int error;

	if (!server)
		return -ENOMEM;
	server->setup = setup;
	server->reserve = -EBADF;
	LIST_INIT(&server->listeners);
	LIST_INIT(&server->clients);
	server->reply.body = malloc(REPLY_BODY_MAX);
	error = server->reply.body ? make_base(server) : -ENOMEM;
	if (error == 0)
		error = make_broker(server);
	if (error == 0) {
		server->tick_event = evtimer_new(server->base, tick, server);
		server->resume_event = evtimer_new(server->base, resume, server);
		server->keeper_event = event_new(server->base, broker_keeper_fd(server->broker),
						 EV_READ | EV_PERSIST, keeper_ready, server);
		if (!server->tick_event || !server->resume_event || !server->keeper_event ||
		    event_add(server->keeper_event, NULL) < 0)
			error = -ENOMEM;
	}
	if (error == 0) {
		server->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
		if (server->reserve < 0)
			error = -errno;
	}
	if (error < 0) {
		server_free(server);
		return error;
	}
	*ret = server;
	return 0;
}

static void free_event(struct event **event)
{
	if (*event)
		event_free(*event);
	*event = NULL;
}

void server_free(struct server *server)
{
	struct listener *listener;
	struct client *client, *next;

	if (!server)
		return;
	server->paused = false;
	for (client = LIST_FIRST(&server->clients); client; client = next) {
		next = LIST_NEXT(client, entry);
		client_drop(client);
	}
	while ((client = LIST_FIRST(&server->clients)))
		client_free(client);
	bus_free(server->bus);
	broker_free(server->broker);
	while ((listener = LIST_FIRST(&server->listeners)))
		listener_free(listener);
	free_event(&server->tick_event);
	free_event(&server->resume_event);
	free_event(&server->keeper_event);
	for (size_t i = 0; i < 3; i++)
		free_event(&server->signal_event[i]);
	if (server->base)
		event_base_free(server->base);
	fd_close(server->reserve);
	reply_reset(&server->reply);
	free(server->reply.body);
	free(server);
}

int server_load(struct server *server)
{
	broker_load(server->broker);
	while (!server->loaded && !server->error && !server->stopped)
		server_step(server, true);
	if (server->error)
		return server->error;
	if (server->load_error)
		return server->load_error;
	if (broker_has_pool(server->broker))
		return 0;
	log_line(LOG_ERR, "not a single pool can be had: there is nothing to serve");
	return -ENODEV;
}

int server_add_listener(struct server *server, int fd, bool refuses_descriptors)
{
	return listener_add(server, fd, NULL, refuses_descriptors);
}

int server_add_bus(struct server *server, const char *address)
{
	return bus_new(&server->bus, server, address);
}

int server_add_client(struct server *server, int fd)
{
	return client_add(server, fd, NULL, false);
}

int server_step(struct server *server, bool wait)
{
	server->pass++;
	event_base_loop(server->base, EVLOOP_ONCE | (wait ? 0 : EVLOOP_NONBLOCK));
	return server->error;
}

int server_run(struct server *server)
{
	while (!server->stopped && !server->error)
		server_step(server, true);
	return server->error;
}

void server_stop(struct server *server)
{
	server->stopped = true;
	event_base_loopbreak(server->base);
}

struct broker *server_broker(struct server *server)
{
	return server->broker;
}
