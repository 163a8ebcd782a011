/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The event loop, and what the core asks of it. Made by main, and by the tests. */
#include "daemon/server.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "daemon/clock.h"
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

static void loop_tick_in(struct loop *loop, uint64_t delay_ms)
{
	struct server *server = server_of(loop);
	uint64_t at = clock_now_ms() + delay_ms;
	struct timeval delay = { .tv_sec = (time_t)(delay_ms / 1000),
				 .tv_usec = (suseconds_t)(delay_ms % 1000 * 1000) };

	if (server->tick_at_ms && server->tick_at_ms <= at)
		return;
	if (event_add(server->tick_event, &delay) == 0)
		server->tick_at_ms = at;
}

static void loop_close_elsewhere(struct loop *loop, int fd)
{
	server_close_elsewhere(server_of(loop), fd, CLOSING_SLOW);
}

/* --- closing elsewhere --- */

static void helper_ended(struct server *server, int error)
{
	log_line(LOG_CRIT, "a helper process has ended: the broker can't go on without it");
	server->error = error;
	event_base_loopbreak(server->base);
}

void server_close_elsewhere(struct server *server, int fd, enum closing how)
{
	struct closer *closer = server->setup->closer;
	int error = closer ? closer_take(closer, fd, how) : -EBADF;
	struct orphan *orphan;

	if (error == 0)
		return;
	if (closer && error != -EAGAIN)
		helper_ended(server, error);
	/* What ends by itself may as well end here. */
	orphan = closer && how == CLOSING_HOSTILE ? malloc(sizeof(*orphan)) : NULL;
	if (!orphan) {
		fd_close(fd);
		return;
	}
	*orphan = (struct orphan){ .fd = fd, .how = how };
	SLIST_INSERT_HEAD(&server->orphans, orphan, entry);
	listeners_pause(server);
	server->loop.tick_in(&server->loop, 1);
}

/* What the closer did not take before. 0, or -EAGAIN while it still doesn't. */
static int close_orphans(struct server *server)
{
	struct orphan *orphan;
	int error;

	while ((orphan = SLIST_FIRST(&server->orphans))) {
		error = closer_take(server->setup->closer, orphan->fd, orphan->how);
		if (error == -EAGAIN)
			return error;
		/* Without a helper we are about to end: that closes it, too. */
		if (error < 0)
			helper_ended(server, error);
		SLIST_REMOVE_HEAD(&server->orphans, entry);
		free(orphan);
	}
	return 0;
}

static void close_orphans_at_end(struct server *server)
{
	const struct timespec moment = { .tv_nsec = 10 * 1000 * 1000 };

	for (int i = 0; close_orphans(server) == -EAGAIN && i < 100; i++)
		nanosleep(&moment, NULL);
}

static void tick(evutil_socket_t fd, short what, void *argument)
{
	struct server *server = argument;

	(void)fd;
	(void)what;
	server->tick_at_ms = 0;
	if (!SLIST_EMPTY(&server->orphans)) {
		if (close_orphans(server) == 0)
			listeners_resume(server);
		else
			server->loop.tick_in(&server->loop, 1);
	}
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
	if (error < 0)
		helper_ended(server, error);
}

/* --- what the core tells --- */

static void notice(void *context, const struct notice *notice)
{
	static const enum log_kind kinds[] = {
		[NOTICE_PLAIN] = LOG_KIND_PLAIN,
		[NOTICE_POOL_MADE] = LOG_KIND_POOL_MADE,
		[NOTICE_POOL_MISSING] = LOG_KIND_POOL_MISSING,
		[NOTICE_POOL_RELEASED] = LOG_KIND_POOL_RELEASED,
		[NOTICE_POOL_FULL] = LOG_KIND_POOL_FULL,
	};

	(void)context;
	log_record(&(struct log_record){ .kind = kinds[notice->kind],
					 .priority = notice->priority,
					 .pool = notice->pool,
					 .owner = notice->owner },
		   "%s", notice->text);
}

static int context_made(void *context, struct context *made)
{
	struct server *server = context;
	int error = listener_add(server, made->place.listener, made,
				 made->place.refuses_descriptors);

	if (error < 0 || !server->setup->context_made || server->restoring)
		return error;
	error = server->setup->context_made(made->place.number, made->hold, made->place.listener);
	if (error < 0)
		listener_free(made->edge);
	return error;
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
	if (server->setup->context_ended && !(server->ending && server->leave))
		server->setup->context_ended(ended->place.number);
}

static int sealed_made(void *context, uint32_t number, int memory)
{
	struct server *server = context;

	return server->setup->sealed_made ? server->setup->sealed_made(number, memory) : 0;
}

static void sealed_ended(void *context, uint32_t number)
{
	struct server *server = context;

	if (server->setup->sealed_ended)
		server->setup->sealed_ended(number);
}

static void reloaded(void *context, int error, const char *text)
{
	struct server *server = context;

	if (error < 0)
		log_record(&(struct log_record){ .kind = LOG_KIND_REFUSED, .priority = LOG_ERR },
			   "%s%s", text,
			   server->loaded ? "; the configuration before stays in force" : "");
	else if (server->loaded)
		log_record(
			&(struct log_record){ .kind = LOG_KIND_RELOADED, .priority = LOG_NOTICE },
			"another configuration is in force");
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

/* They have no handler any more then, and its end is not to be cut short. */
static void keep_signals(void)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
}

/* --- life --- */

static int make_base(struct server *server)
{
	struct event_config *config = event_config_new();

	if (!config)
		return -ENOMEM;
	/* Its time is looked at when a timer is set, not in each turn. */
	event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_IGNORE_ENV |
					      EVENT_BASE_FLAG_NO_CACHE_TIME);
	server->base = event_base_new_with_config(config);
	event_config_free(config);
	return server->base ? 0 : -ENOMEM;
}

static int make_broker(struct server *server)
{
	static const struct state none = STATE_NONE;
	struct broker_setup setup = {
		.edge = &server->edge,
		.self = server->setup->self,
		.source = server->setup->source,
		.keeper = server->setup->keeper,
		.contexts = server->setup->contexts,
		.connections = server->setup->connections,
		.state = server->setup->state ? server->setup->state : &none,
	};

	server->loop = (struct loop){
		.watch = loop_watch,
		.unwatch = loop_unwatch,
		.tick_in = loop_tick_in,
		.close_elsewhere = loop_close_elsewhere,
	};
	server->edge = (struct broker_edge){
		.context = server,
		.loop = &server->loop,
		.notice = notice,
		.context_made = context_made,
		.context_ended = context_ended,
		.sealed_made = sealed_made,
		.sealed_ended = sealed_ended,
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
	server->reserve = server->every_fd = -EBADF;
	server->rest.timer = server->door.timer = TIMER_NONE;
	LIST_INIT(&server->listeners);
	LIST_INIT(&server->clients);
	SLIST_INIT(&server->orphans);
	server->reply.body = malloc(REPLY_BODY_MAX);
	error = server->reply.body ? make_base(server) : -ENOMEM;
	if (error == 0)
		error = turns_init(server);
	if (error == 0)
		error = listeners_init(server);
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
		error = server->reserve < 0 ? -errno : 0;
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
	server->ending = true;
	server->paused = false;
	if (server->signal_event[0])
		keep_signals();
	for (client = LIST_FIRST(&server->clients); client; client = next) {
		next = LIST_NEXT(client, entry);
		client_drop(client);
	}
	bus_free(server->bus);
	broker_free(server->broker, server->leave);
	while ((listener = LIST_FIRST(&server->listeners)))
		listener_free(listener);
	close_orphans_at_end(server);
	free_event(&server->tick_event);
	free_event(&server->resume_event);
	free_event(&server->keeper_event);
	free_event(&server->every_event);
	timer_done(&server->rest.timer);
	timer_done(&server->door.timer);
	fd_close(server->every_fd);
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
	wait = wait && (TAILQ_EMPTY(&server->waiting) || server->rest.is_on) &&
	       (TAILQ_EMPTY(&server->door.waiting) || server->door.is_timed);
	server->pass++;
	event_base_loop(server->base, EVLOOP_ONCE | (wait ? 0 : EVLOOP_NONBLOCK));
	if (!TAILQ_EMPTY(&server->waiting))
		turns_go_on(server);
	if (!TAILQ_EMPTY(&server->door.waiting))
		listeners_go_on(server);
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

void server_leave(struct server *server, bool leave)
{
	server->leave = leave;
}

static void again(evutil_socket_t fd, short what, void *argument)
{
	struct server *server = argument;
	uint64_t times;

	(void)what;
	if (read(fd, &times, sizeof(times)) == sizeof(times))
		server->every(server);
}

int server_every(struct server *server, uint64_t ms, void (*function)(struct server *server))
{
	const struct timespec period = { .tv_sec = (time_t)(ms / 1000),
					 .tv_nsec = (long)(ms % 1000 * 1000 * 1000) };
	const struct itimerspec timer = { .it_interval = period, .it_value = period };

	server->every = function;
	/* A descriptor: a timer of the loop's own is set and cancelled around each of its waits. */
	server->every_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (server->every_fd < 0 || timerfd_settime(server->every_fd, 0, &timer, NULL) < 0)
		return -errno;
	server->every_event = event_new(server->base, server->every_fd, EV_READ | EV_PERSIST, again,
					server);
	if (!server->every_event || event_add(server->every_event, NULL) < 0)
		return -ENOMEM;
	return 0;
}

static void once_more(evutil_socket_t fd, short what, void *argument)
{
	struct server *server = argument;

	(void)fd;
	(void)what;
	server->soon = false;
	server->every(server);
}

void server_soon(struct server *server, uint64_t ms)
{
	struct timeval delay = { .tv_sec = (time_t)(ms / 1000),
				 .tv_usec = (suseconds_t)(ms % 1000 * 1000) };

	if (server->soon || !server->every)
		return;
	server->soon = event_base_once(server->base, -1, EV_TIMEOUT, once_more, server, &delay) ==
		       0;
}

struct broker *server_broker(struct server *server)
{
	return server->broker;
}
