/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opens over either transport: see transport.h. */
#include "tests/transport.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bus_fixture.h"

struct line {
	struct shmb *socket;
	sd_bus *bus; /* NULL: over the socket */
};

static enum transport current;
static struct bus_fixture bus;

bool transport_possible(enum transport transport)
{
	const char *wanted = getenv("TEST_TRANSPORTS");

	if (wanted && strcmp(wanted, "socket") == 0)
		return transport == OVER_SOCKET;
	return transport == OVER_SOCKET ||
	       (bus_fixture_possible() && (!test_is_root() || bus_fixture_knows_users()));
}

void transport_start(enum transport transport, struct fixture *fixture, const char *test)
{
	sd_bus *client;

	current = transport;
	if (transport == OVER_SOCKET) {
		places_start(fixture, test);
		return;
	}
	bus = (struct bus_fixture){ 0 };
	bus_fixture_start_bus(&bus);
	places_start_on_bus(fixture, test, bus.address);
	client = bus_fixture_connect(&bus);
	bus_fixture_wait(client);
	sd_bus_flush_close_unref(client);
}

void transport_stop(struct fixture *fixture)
{
	places_stop(fixture);
	if (current == OVER_BUS)
		bus_fixture_stop_bus(&bus);
}

struct line *line_new(const struct fixture *fixture)
{
	struct line *line = calloc(1, sizeof(*line));

	if (!line)
		return NULL;
	if (current == OVER_BUS) {
		line->bus = bus_fixture_connect(&bus);
	} else if (shmb_connect(&line->socket, fixture->socket) < 0) {
		free(line);
		return NULL;
	}
	return line;
}

void line_free(struct line *line)
{
	if (!line)
		return;
	sd_bus_flush_close_unref(line->bus);
	shmb_disconnect(line->socket);
	free(line);
}

int line_open_how(struct line *line, const char *name, const struct shmb_how *how)
{
	return line->bus ? bus_fixture_open_how(line->bus, name, how)
			 : shmb_open_how(line->socket, name, how, sizeof(*how));
}

int line_open(struct line *line, const char *name, int oflag, mode_t mode)
{
	return line_open_how(line, name,
			     &(struct shmb_how){ .oflag = (unsigned)oflag, .mode = mode });
}

int line_unlink(struct line *line, const char *name)
{
	return line->bus ? -bus_fixture_call(line->bus, NULL, NULL, "Unlink", "s", name)
			 : shmb_unlink(line->socket, name);
}
