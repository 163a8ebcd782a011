/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The connection to the bus, inside the event loop. sd-bus is only asked for what it
 * does without waiting: a bus that has stopped is no reason to stop.
 */
#include "daemon/bus.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

#include "daemon/bus_private.h"
#include "daemon/log.h"
#include "daemon/server_private.h"

#define DELAY_FIRST_MS 50
#define DELAY_MAX_MS 5000

/* A name whose last owner has gone: ours, and every unique name's end. */
#define MATCH_NAME_GONE                                                                            \
	"type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"                \
	"interface='org.freedesktop.DBus',member='NameOwnerChanged',arg2=''"

bool bus_is_full(const struct bus *bus)
{
	uint64_t queued = 0;

	return sd_bus_get_n_queued_write(bus->sd, &queued) < 0 || queued > BUS_WRITES_MAX;
}

static void retry_later(struct bus *bus)
{
	timer_set(&bus->retry, bus->delay_ms * UINT64_C(1000000));
	bus->delay_ms = bus->delay_ms * 2 < DELAY_MAX_MS ? bus->delay_ms * 2 : DELAY_MAX_MS;
}

void bus_give_up(struct bus *bus, int error)
{
	bus->given_up = error;
	event_active(&bus->timer, EV_TIMEOUT, 0);
}

static void disconnect(struct bus *bus)
{
	bus_callers_free(bus);
	event_del(&bus->event);
	event_del(&bus->timer);
	bus->watched = 0;
	bus->watched_fd = -1;
	bus->timer_set = bus->ready = false;
	bus->given_up = 0;
	bus->sd = sd_bus_close_unref(bus->sd);
}

static void lost(struct bus *bus, int error)
{
	if (!bus->told_gone)
		log_line(LOG_NOTICE, "no bus at %s (%s): serving without it, and trying again",
			 bus->address, strerror(-error));
	bus->told_gone = true;
	disconnect(bus);
	retry_later(bus);
}

/* --- what comes once the bus has greeted us --- */

static int name_gone(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
	struct bus *bus = userdata;
	const char *name;
	int rc = sd_bus_message_read(message, "s", &name);

	(void)ret_error;
	if (rc < 0)
		bus_give_up(bus, rc); /* somebody would be kept for good */
	else if (*name == ':')
		bus_caller_gone(bus, name);
	return 0;
}

static int name_acquired(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
	struct bus *bus = userdata;
	const char *name;

	(void)ret_error;
	if (sd_bus_message_read(message, "s", &name) < 0 || strcmp(name, BUS_NAME) != 0)
		return 0;
	log_line(LOG_INFO, "on the bus as " BUS_NAME);
	bus->told_refused = false;
	return 0;
}

static int name_lost(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
	const char *name;

	(void)userdata;
	(void)ret_error;
	if (sd_bus_message_read(message, "s", &name) >= 0 && strcmp(name, BUS_NAME) == 0)
		log_line(LOG_WARNING, "the name " BUS_NAME " was taken from us");
	return 0;
}

/* 1: ours, 2: in the queue behind its owner, which makes it ours in time. */
static int name_requested(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
	struct bus *bus = userdata;
	const sd_bus_error *error = sd_bus_message_get_error(message);
	uint32_t result = 0;
	int rc = error ? 0 : sd_bus_message_read(message, "u", &result);

	(void)ret_error;
	if (rc < 0) {
		bus_give_up(bus, rc);
		return 0;
	}
	bus->delay_ms = DELAY_FIRST_MS;
	bus->told_gone = false;
	/* Its policy may be another in a while. */
	if (error) {
		bus->delay_ms = DELAY_MAX_MS;
		retry_later(bus);
	}
	if (result == 1 || result == 4 || bus->told_refused)
		return 0;
	bus->told_refused = true;
	if (error)
		log_line(LOG_WARNING, "the bus doesn't let us be " BUS_NAME ": %s; trying again",
			 error->message ? error->message : error->name);
	else
		log_line(LOG_WARNING,
			 "somebody else is " BUS_NAME " on the bus: waiting until it ends");
	return 0;
}

static int request_name(struct bus *bus)
{
	return sd_bus_request_name_async(bus->sd, NULL, BUS_NAME, SD_BUS_NAME_QUEUE, name_requested,
					 bus);
}

/*
 * From here on no caller can vanish unnoticed: so now we may be called. One match for all
 * of them, since a bus allows a connection only some hundred.
 */
static int match_installed(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
	struct bus *bus = userdata;
	const sd_bus_error *refused = sd_bus_message_get_error(message);
	int error = refused ? -EACCES : bus_add_object(bus);

	(void)ret_error;
	if (refused && !bus->told_gone)
		log_line(LOG_ERR, "the bus doesn't say who leaves it: %s", refused->name);
	if (error >= 0)
		error = request_name(bus);
	if (error < 0)
		bus_give_up(bus, error);
	return 0;
}

static int greeted(struct bus *bus)
{
	static const struct {
		const char *member;
		sd_bus_message_handler_t handler;
	} signals[] = { { "NameAcquired", name_acquired }, { "NameLost", name_lost } };
	int error = 0;

	bus->ready = true;
	bus->told_full = false;
	for (size_t i = 0; error >= 0 && i < 2; i++)
		error = sd_bus_match_signal_async(bus->sd, NULL, "org.freedesktop.DBus", NULL,
						  "org.freedesktop.DBus", signals[i].member,
						  signals[i].handler, NULL, bus);
	if (error >= 0)
		error = sd_bus_add_match_async(bus->sd, NULL, MATCH_NAME_GONE, name_gone,
					       match_installed, bus);
	return error < 0 ? error : 0;
}

/* --- the loop --- */

/* -errno: the bus has left us, or we leave it. */
static int process(struct bus *bus)
{
	int rc;

	if (bus->given_up)
		return bus->given_up;
	/*
	 * One message: the loop knows whether another is there, and its other clients have their
	 * turn between. To try once more in vain would cost each call that comes alone a receive.
	 */
	rc = sd_bus_process(bus->sd, NULL);
	if (rc >= 0 && sd_bus_is_open(bus->sd) <= 0)
		rc = -ECONNRESET;
	if (rc >= 0 && !bus->ready && sd_bus_is_ready(bus->sd) > 0)
		rc = greeted(bus);
	return bus->given_up ? bus->given_up : rc;
}

static void turn(evutil_socket_t fd, short what, void *argument)
{
	struct bus *bus = argument;
	int rc = process(bus);

	(void)fd;
	(void)what;
	if (rc < 0)
		lost(bus, rc);
	else
		bus_update(bus);
}

static void watch(struct bus *bus, int fd, short wanted)
{
	/* While it is connecting, the number may be another socket's by now. */
	if (bus->ready && fd == bus->watched_fd && wanted == bus->watched)
		return;
	event_del(&bus->event);
	bus->watched_fd = fd;
	bus->watched = wanted;
	if (!wanted)
		return;
	event_assign(&bus->event, bus->server->base, fd, wanted | EV_PERSIST, turn, bus);
	if (event_add(&bus->event, NULL) < 0)
		bus_give_up(bus, -ENOMEM);
}

/* sd-bus gives a time of CLOCK_MONOTONIC; none: UINT64_MAX. */
static void set_timer(struct bus *bus, uint64_t at_us)
{
	struct timespec now;
	struct timeval delay = { 0 };
	uint64_t now_us;

	if (at_us == UINT64_MAX) {
		if (bus->timer_set)
			event_del(&bus->timer);
		bus->timer_set = false;
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &now);
	now_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
	if (at_us > now_us) {
		delay.tv_sec = (time_t)((at_us - now_us) / 1000000);
		delay.tv_usec = (suseconds_t)((at_us - now_us) % 1000000);
	}
	bus->timer_set = event_add(&bus->timer, &delay) == 0;
	if (!bus->timer_set)
		bus_give_up(bus, -ENOMEM);
}

void bus_update(struct bus *bus)
{
	uint64_t at_us = UINT64_MAX;
	bool full = bus_is_full(bus);
	int events = sd_bus_get_events(bus->sd), fd = sd_bus_get_fd(bus->sd);
	short wanted = 0;

	if (bus->given_up)
		return;
	if (events < 0 || fd < 0 || sd_bus_get_timeout(bus->sd, &at_us) < 0) {
		/* It has ended: that is for a turn to see. */
		set_timer(bus, 0);
		return;
	}
	if ((events & POLLIN) && !full)
		wanted |= EV_READ;
	if (events & POLLOUT)
		wanted |= EV_WRITE;
	watch(bus, fd, wanted);
	if (!bus->given_up)
		set_timer(bus, full && bus->ready ? UINT64_MAX : at_us);
}

static int open_bus(struct bus *bus)
{
	int error = sd_bus_new(&bus->sd);

	if (error >= 0)
		error = sd_bus_set_address(bus->sd, bus->address);
	if (error >= 0)
		error = sd_bus_set_bus_client(bus->sd, true);
	if (error >= 0)
		error = sd_bus_set_exit_on_disconnect(bus->sd, false);
	/* The bus looks at our ids as they are when we connect. */
	broker_reset_ids(bus->broker);
	if (error >= 0)
		error = sd_bus_start(bus->sd);
	return error < 0 ? error : 0;
}

static void connect_bus(struct bus *bus)
{
	int error = open_bus(bus);

	if (error < 0)
		lost(bus, error);
	else
		bus_update(bus);
}

static void retry(evutil_socket_t fd, short what, void *argument)
{
	struct bus *bus = argument;
	int error;

	(void)what;
	if (!timer_is_over(fd))
		return;
	if (!bus->sd) {
		connect_bus(bus);
		return;
	}
	error = request_name(bus);
	if (error < 0)
		bus_give_up(bus, error);
	bus_update(bus);
}

int bus_new(struct bus **ret, struct server *server, const char *address)
{
	struct bus *bus = calloc(1, sizeof(*bus));

	if (!bus)
		return -ENOMEM;
	bus->server = server;
	bus->broker = server->broker;
	bus->watched_fd = -1;
	TAILQ_INIT(&bus->listings);
	bus->delay_ms = DELAY_FIRST_MS;
	bus->address = strdup(address);
	bus->reply.body = malloc(REPLY_BODY_MAX);
	if (!bus->address || !bus->reply.body ||
	    timer_init(&bus->retry, server->base, retry, bus) < 0) {
		free(bus->address);
		free(bus->reply.body);
		free(bus);
		return -ENOMEM;
	}
	event_assign(&bus->event, server->base, -1, 0, turn, bus);
	evtimer_assign(&bus->timer, server->base, turn, bus);
	connect_bus(bus);
	*ret = bus;
	return 0;
}

void bus_free(struct bus *bus)
{
	if (!bus)
		return;
	disconnect(bus);
	timer_done(&bus->retry);
	reply_reset(&bus->reply);
	free(bus->reply.body);
	free(bus->address);
	free(bus);
}
