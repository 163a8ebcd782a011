/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A private dbus-daemon for a test, with a broker on it (fixture.h), and a client
 * by sd-bus. The bus has the system bus's defaults and the project's own policy file.
 */
#ifndef SHMBROKER_BUS_FIXTURE_H
#define SHMBROKER_BUS_FIXTURE_H

#include <systemd/sd-bus.h>

#include "client/shmbroker.h"
#include "tests/fixture.h"

#define BUS_TEST_NAME "org.shmbroker.Broker1"
#define BUS_TEST_PATH "/org/shmbroker/Broker1"

struct bus_fixture {
	pid_t pid; /* of dbus-daemon; 0: not running */
	char address[160];
	char config[160];
	struct fixture broker;
	sd_bus *client;
};

bool bus_fixture_possible(void); /* there is a dbus-daemon */
/* It lets in the users of native.h, too. */
bool bus_fixture_knows_users(void);

/* The bus alone; it answers when this returns. */
void bus_fixture_start_bus(struct bus_fixture *fixture);
void bus_fixture_stop_bus(struct bus_fixture *fixture);
/* All three; the broker has its name. */
void bus_fixture_start(struct bus_fixture *fixture, const char *config);
void bus_fixture_stop(struct bus_fixture *fixture);

sd_bus *bus_fixture_connect(const struct bus_fixture *fixture);
/* Until the broker owns its name. */
void bus_fixture_wait(sd_bus *client);

struct bus;
/* In the loop's thread: whether the broker will try again, in a while or now. */
bool bus_fixture_will_retry(const struct bus *bus);

/* A call without its arguments yet. */
sd_bus_message *bus_fixture_new_call(sd_bus *client, const char *member);
/* A call: 0 and maybe the reply, or the errno; *ret_text (may be NULL) is what was said. */
int bus_fixture_call(sd_bus *client, sd_bus_message **ret, char ret_text[256], const char *member,
		     const char *types, ...);
/* Open without options: a descriptor or -errno. */
int bus_fixture_open(sd_bus *client, const char *name, const char *flags, uint32_t mode);
/* Open with the flags and the size that the library would be given: a descriptor or -errno. */
int bus_fixture_open_how(sd_bus *client, const char *name, const struct shmb_how *how);

#endif
