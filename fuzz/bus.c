/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Calls on D-Bus with hostile arguments. The fuzzer is the bus: it takes the broker's greeting,
 * says who its callers are, and sends their calls. Each gets one answer, and when the callers have
 * gone nothing of theirs is left.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "daemon/bus_private.h"
#include "daemon/fd.h"
#include "fuzz/bus_message.h"
#include "fuzz/fuzz.h"
#include "fuzz/in_process.h"

#define BROKER ":1.1"
#define DRIVER "org.freedesktop.DBus"

/* Of one input. */
#define CALLS_MAX 32
#define CALLERS 3

/* Only a broker that hangs takes so long. */
#define GUARD_S 60

static struct {
	struct server *server;
	sd_bus *sd;	      /* the bus's end */
	bool has_name;	      /* the broker has asked for its name */
	unsigned waiting;     /* calls that have no answer yet */
	bool awaits[4096];    /* by cookie, modulo its size: that one has none */
	uint8_t identity;     /* how the next callers are told of */
	unsigned descriptors; /* at the end of an input, when nobody is there */
} bus;

static void answer(sd_bus_message *call, const char *types, ...)
{
	sd_bus_message *reply = NULL;
	va_list arguments;
	int error = sd_bus_message_new_method_return(call, &reply);

	va_start(arguments, types);
	if (error >= 0)
		error = sd_bus_message_set_sender(reply, DRIVER);
	if (error >= 0 && *types)
		error = sd_bus_message_appendv(reply, types, arguments);
	va_end(arguments);
	if (error >= 0)
		error = sd_bus_send(bus.sd, reply, NULL);
	EXPECT(error >= 0, "%s", strerror(-error));
	sd_bus_message_unref(reply);
}

/* Mostly ourselves; now and then less than that is told, or something that can't be. */
static void tell_credentials(sd_bus_message *call)
{
	const uint32_t uid = bus.identity & 1 ? 1000 : geteuid();
	const uint32_t pid = bus.identity & 2 ? 1 : (uint32_t)getpid();

	if (bus.identity > 250)
		answer(call, "a{sv}", 1, "UnixUserID", "s", "nobody");
	else if (bus.identity > 245)
		answer(call, "a{sv}", 1, "ProcessID", "u", pid);
	else if (bus.identity > 240)
		answer(call, "s", "nobody");
	else if (bus.identity & 4)
		answer(call, "a{sv}", 4, "UnixUserID", "u", uid, "ProcessID", "u", pid,
		       "UnixGroupIDs", "au", 2, 4, 4, "LinuxSecurityLabel", "ay", 3, 'a', 'b', 0);
	else
		answer(call, "a{sv}", 3, "UnixUserID", "u", uid, "ProcessID", "u", pid, "Any",
		       "a{sv}", 0);
}

/* What the broker asks of the bus itself. */
static void serve(sd_bus_message *call)
{
	const char *member = sd_bus_message_get_member(call);

	if (strcmp(member, "Hello") == 0) {
		answer(call, "s", BROKER);
	} else if (strcmp(member, "RequestName") == 0) {
		bus.has_name = true;
		answer(call, "u", 1);
	} else if (strcmp(member, "GetConnectionCredentials") == 0) {
		tell_credentials(call);
	} else if (strcmp(member, "GetConnectionUnixProcessID") == 0) {
		answer(call, "u", bus.identity & 2 ? 1 : (uint32_t)getpid());
	} else {
		answer(call, "");
	}
}

static void check_answer(sd_bus_message *message)
{
	const sd_bus_error *error = sd_bus_message_get_error(message);
	uint64_t cookie = 0;

	EXPECT(sd_bus_message_get_reply_cookie(message, &cookie) >= 0 &&
		       bus.awaits[cookie % sizeof(bus.awaits)],
	       "an answer to nothing");
	bus.awaits[cookie % sizeof(bus.awaits)] = false;
	bus.waiting--;
	if (!error)
		return;
	EXPECT(error->message && *error->message, "%s, without a reason", error->name);
	/* INTERFACE: never. */
	EXPECT(sd_bus_error_get_errno(error) != EPERM, "%s: %s", error->name, error->message);
}

static int received(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
	const char *destination = sd_bus_message_get_destination(message);
	uint8_t type;

	(void)userdata;
	(void)ret_error;
	EXPECT(sd_bus_message_get_type(message, &type) >= 0, "a message without a type");
	if (type == SD_BUS_MESSAGE_METHOD_CALL) {
		EXPECT(destination && strcmp(destination, DRIVER) == 0, "a call to %s",
		       destination ? destination : "nobody");
		serve(message);
	} else if (type == SD_BUS_MESSAGE_SIGNAL) {
		EXPECT(destination && *destination == ':', "a signal to everybody");
	} else {
		check_answer(message);
	}
	return 1;
}

/* The broker and the bus, until nothing happens at once any more. */
static void turn(void)
{
	int done;

	do {
		in_process_turn(bus.server);
		done = sd_bus_process(bus.sd, NULL);
		EXPECT(done >= 0, "the broker has left the bus: %s", strerror(-done));
	} while (done > 0);
	in_process_turn(bus.server);
}

static void turn_until(bool (*is_reached)(void), const char *what)
{
	time_t end = time(NULL) + GUARD_S;

	for (unsigned turns = 0; turn(), !is_reached(); turns++) {
		EXPECT(time(NULL) < end, "%s", what);
		/* Then it is the keeper, or the bus, that something waits for. */
		if (turns > 8)
			in_process_wait(bus.server);
	}
}

static bool has_name(void)
{
	return bus.has_name;
}

static bool is_answered(void)
{
	return bus.waiting == 0;
}

static bool is_alone(void)
{
	return bus.server->bus->callers == NULL;
}

static void send_from(unsigned caller, sd_bus_message *message)
{
	char name[8];
	uint64_t cookie;
	int error;

	snprintf(name, sizeof(name), ":1.%u", 2 + caller);
	error = sd_bus_message_set_sender(message, name);
	if (error >= 0)
		error = sd_bus_send(bus.sd, message, &cookie);
	EXPECT(error >= 0, "%s", strerror(-error));
	bus.awaits[cookie % sizeof(bus.awaits)] = true;
	bus.waiting++;
}

static void tell_gone(unsigned caller)
{
	sd_bus_message *signal = NULL;
	char name[8];

	snprintf(name, sizeof(name), ":1.%u", 2 + caller);
	EXPECT(sd_bus_message_new_signal(bus.sd, &signal, "/org/freedesktop/DBus", DRIVER,
					 "NameOwnerChanged") >= 0 &&
		       sd_bus_message_set_sender(signal, DRIVER) >= 0 &&
		       sd_bus_message_append(signal, "sss", name, name, "") >= 0 &&
		       sd_bus_send(bus.sd, signal, NULL) >= 0,
	       "no signal");
	sd_bus_message_unref(signal);
}

static sd_bus *accept_broker(int listener)
{
	const sd_id128_t id = SD_ID128_MAKE(73, 68, 6d, 62, 72, 6f, 6b, 65, 72, 66, 75, 7a, 7a, 65,
					    72, 73);
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	sd_bus *sd;

	EXPECT(fd >= 0, "nobody connects: %s", strerror(errno));
	EXPECT(sd_bus_new(&sd) >= 0 && sd_bus_set_fd(sd, fd, fd) >= 0 &&
		       sd_bus_set_server(sd, 1, id) >= 0 && sd_bus_negotiate_fds(sd, 1) >= 0 &&
		       sd_bus_add_filter(sd, NULL, received, NULL) >= 0 && sd_bus_start(sd) >= 0,
	       "no bus");
	return sd;
}

void fuzz_start(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char text[160];
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	bus.server = in_process_start();
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/bus", fuzz_directory());
	EXPECT(listener >= 0 && bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0 &&
		       listen(listener, 1) == 0,
	       "%s: %s", address.sun_path, strerror(errno));
	snprintf(text, sizeof(text), "unix:path=%s", address.sun_path);
	EXPECT(server_add_bus(bus.server, text) == 0, "no memory");
	bus.sd = accept_broker(listener);
	close(listener);
	turn_until(has_name, "the broker doesn't ask for its name");
}

static void end_input(void)
{
	unsigned now;

	for (unsigned i = 0; i < CALLERS; i++)
		tell_gone(i);
	turn_until(is_alone, "callers are left");
	in_process_empty(bus.server);
	turn();
	now = in_process_descriptors(bus.server);
	EXPECT(!bus.descriptors || now == bus.descriptors, "%u descriptors before, %u after:\n%s",
	       bus.descriptors, now, fuzz_descriptors_text());
	bus.descriptors = now;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = { data, size };

	bus.identity = take_byte(&in);
	for (unsigned calls = 0; in.left > 0 && calls < CALLS_MAX; calls++) {
		uint8_t how = take_byte(&in);
		sd_bus_message *message = bus_message_make(bus.sd, BROKER, &in);

		if (!message)
			continue;
		send_from(how % CALLERS, message);
		sd_bus_message_unref(message);
		/* Now and then several wait. */
		if (how < 128)
			turn_until(is_answered, "no answer");
	}
	turn_until(is_answered, "no answer");
	end_input();
	return 0;
}
