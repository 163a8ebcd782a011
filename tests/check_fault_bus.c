/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Faults of what the broker does on D-Bus: who calls is answered, or told at once that he won't be,
 * since the broker has left the bus; and it comes back to it. The socket's clients notice nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "daemon/broker_private.h"
#include "daemon/bus_private.h"
#include "tests/fault_scene.h"
#include "tests/test.h"

#define ROWS(rows) (sizeof(rows) / sizeof(*(rows)))

#define ANSWER_S 30   /* far beyond what an answer takes */
#define SIGNAL_MS 200 /* and a signal, where one may have been left out */

static const char config[] =
	"pools: { host: { path = \"@host@\" access = \"grant\" } }\n"
	"rules: ( { name = \"none\" names = \"/denied*\" allow = [] },\n"
	"  { name = \"reading\" names = \"/read*\" allow = [\"read\", \"list\"] pool = \"host\" "
	"},\n"
	"  { name = \"rest\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";

/* --- the broker's place on the bus --- */

/* In the loop's thread: its unique name, "" while it has none. */
static void look_at_name(struct fixture *fixture, void *argument)
{
	struct bus *bus = fixture->server->bus;
	const char *name = "";

	if (bus && bus->sd && bus->ready && sd_bus_get_unique_name(bus->sd, &name) < 0)
		name = "";
	snprintf(argument, 64, "%s", name);
}

/* The name is the connection's that it has now, not one's that the bus hasn't seen end yet. */
static bool is_on_bus(struct scene *scene, sd_bus *client)
{
	sd_bus_message *reply = NULL;
	const char *owner = "";
	bool is_owner = false;
	char name[64];

	fixture_call(&scene->fixture, look_at_name, name);
	if (*name &&
	    sd_bus_call_method(client, "org.freedesktop.DBus", "/org/freedesktop/DBus",
			       "org.freedesktop.DBus", "GetNameOwner", NULL, &reply, "s",
			       BUS_TEST_NAME) >= 0 &&
	    sd_bus_message_read(reply, "s", &owner) >= 0)
		is_owner = strcmp(owner, name) == 0;
	sd_bus_message_unref(reply);
	return is_owner;
}

static void await_broker(struct scene *scene, sd_bus *client)
{
	time_t end = time(NULL) + ANSWER_S;

	while (!is_on_bus(scene, client)) {
		FAULT_EXPECT(time(NULL) <= end);
		test_moment();
		fixture_call(&scene->fixture, scene_hasten, NULL);
	}
}

/* --- a call --- */

/* What a caller is told at once whose call nobody will answer is no answer. */
static int error_of(const sd_bus_error *error, int rc)
{
	if (rc >= 0)
		return 0;
	/* The bus's words, not sd-bus's own of a time that has passed. */
	if (sd_bus_error_has_name(error, SD_BUS_ERROR_NO_REPLY) &&
	    strstr(error->message, "disconnected"))
		return -ECONNRESET;
	if (sd_bus_error_has_name(error, SD_BUS_ERROR_SERVICE_UNKNOWN) ||
	    sd_bus_error_has_name(error, SD_BUS_ERROR_NAME_HAS_NO_OWNER))
		return -ECONNREFUSED;
	return rc;
}

static int ask_of(struct scene *scene, sd_bus_message **ret, const char *interface,
		  const char *member, const char *types, va_list arguments)
{
	sd_bus_message *call = NULL, *reply = NULL;
	sd_bus_error error = SD_BUS_ERROR_NULL;
	int rc;

	FAULT_EXPECT(sd_bus_message_new_method_call(scene->bus.client, &call, BUS_TEST_NAME,
						    BUS_TEST_PATH, interface, member) >= 0);
	FAULT_EXPECT(sd_bus_message_appendv(call, types, arguments) >= 0);
	rc = error_of(&error,
		      sd_bus_call(scene->bus.client, call, ANSWER_S * 1000000ull, &error, &reply));
	sd_bus_message_unref(call);
	sd_bus_error_free(&error);
	if (ret && rc == 0)
		*ret = reply;
	else
		sd_bus_message_unref(reply);
	return rc;
}

static int ask(struct scene *scene, sd_bus_message **ret, const char *member, const char *types,
	       ...)
{
	va_list arguments;
	int rc;

	va_start(arguments, types);
	rc = ask_of(scene, ret, BUS_TEST_NAME, member, types, arguments);
	va_end(arguments);
	return rc;
}

static int ask_properties(struct scene *scene, const char *member, const char *types, ...)
{
	va_list arguments;
	int rc;

	va_start(arguments, types);
	rc = ask_of(scene, NULL, "org.freedesktop.DBus.Properties", member, types, arguments);
	va_end(arguments);
	return rc;
}

static void connect_stranger(struct scene *scene)
{
	scene->bus.client = bus_fixture_connect(&scene->bus);
	await_broker(scene, scene->bus.client);
}

/* Of whom the broker knows already who he is. */
static void connect_client(struct scene *scene)
{
	connect_stranger(scene);
	FAULT_EXPECT(ask_properties(scene, "Get", "ss", BUS_TEST_NAME, "Version") == 0);
}

static void disconnect(struct scene *scene)
{
	scene->bus.client = sd_bus_flush_close_unref(scene->bus.client);
}

/* --- the methods --- */

static void make_file(struct scene *scene, const char *name)
{
	char path[200];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", scene->fixture.host, name);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	FAULT_EXPECT(fd >= 0);
	close(fd);
}

static void remove_file(struct scene *scene, const char *name)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/%s", scene->fixture.host, name);
	FAULT_EXPECT(unlink(path) == 0 || errno == ENOENT);
}

static void connect_with_file(struct scene *scene)
{
	make_file(scene, "there");
	connect_client(scene);
}

static void disconnect_with_file(struct scene *scene)
{
	disconnect(scene);
	remove_file(scene, "there");
}

/* The descriptor that an answer has, kept as the scene's. */
static int take(struct scene *scene, int error, sd_bus_message *reply, const char *types)
{
	const char *text;
	int fd, rc;

	if (error < 0)
		return error;
	rc = *types == 's' ? sd_bus_message_read(reply, types, &text, &fd)
			   : sd_bus_message_read(reply, types, &fd);
	FAULT_EXPECT(rc >= 0);
	scene->fd[0] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	sd_bus_message_unref(reply);
	return scene->fd[0];
}

static int call_open(struct scene *scene)
{
	sd_bus_message *reply = NULL;
	int rc = ask(scene, &reply, "Open", "sasua{sv}", "/there", 1, "rdwr", 0, 0);

	return take(scene, rc, reply, "h");
}

static int call_create(struct scene *scene)
{
	sd_bus_message *reply = NULL;
	int rc = ask(scene, &reply, "Open", "sasua{sv}", "/new", 2, "rdwr", "creat", 0600, 2,
		     "size", "t", (uint64_t)8192, "temporary", "b", 0);

	return take(scene, rc, reply, "h");
}

static int call_temporary(struct scene *scene)
{
	sd_bus_message *reply = NULL;
	int rc = ask(scene, &reply, "Open", "sasua{sv}", "/new", 2, "rdwr", "creat", 0600, 1,
		     "temporary", "b", 1);

	return take(scene, rc, reply, "h");
}

static int call_denied(struct scene *scene)
{
	sd_bus_message *reply = NULL;
	int rc = ask(scene, &reply, "Open", "sasua{sv}", "/denied", 2, "rdwr", "creat", 0600, 0);

	return take(scene, rc, reply, "h");
}

static int call_write_readable(struct scene *scene)
{
	sd_bus_message *reply = NULL;
	int rc = ask(scene, &reply, "Open", "sasua{sv}", "/readable", 1, "rdwr", 0, 0);

	return take(scene, rc, reply, "h");
}

static int call_unlink(struct scene *scene)
{
	return ask(scene, NULL, "Unlink", "s", "/there");
}

static int call_stat(struct scene *scene)
{
	return ask(scene, NULL, "Stat", "s", "/there");
}

static int call_list(struct scene *scene)
{
	return ask(scene, NULL, "List", "s", "/t*");
}

static int call_context(struct scene *scene)
{
	sd_bus_message *reply = NULL;
	int rc = ask(scene, &reply, "CreateContext", "sa{sv}", "org.example.one", 0);

	return take(scene, rc, reply, "sh");
}

static int call_explain(struct scene *scene)
{
	return ask(scene, NULL, "Explain", "sasa{sv}", "/there", 1, "read", 2, "uid", "u", 1,
		   "groups", "au", 2, 1, 2);
}

static int call_reload(struct scene *scene)
{
	return ask(scene, NULL, "Reload", "");
}

static int call_get(struct scene *scene)
{
	return ask_properties(scene, "Get", "ss", BUS_TEST_NAME, "Features");
}

static int call_get_pools(struct scene *scene)
{
	return ask_properties(scene, "Get", "ss", BUS_TEST_NAME, "Pools");
}

static int call_get_all(struct scene *scene)
{
	return ask_properties(scene, "GetAll", "s", BUS_TEST_NAME);
}

/* --- signals --- */

static int count_signal(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
	unsigned *count = userdata;

	(void)ret_error;
	FAULT_EXPECT(sd_bus_message_is_signal(message, BUS_TEST_NAME, "ObjectCreated") > 0 ||
		     sd_bus_message_is_signal(message, BUS_TEST_NAME, "ObjectRemoved") > 0);
	++*count;
	return 0;
}

static void connect_listener(struct scene *scene)
{
	connect_client(scene);
	FAULT_EXPECT(sd_bus_match_signal(scene->bus.client, NULL, BUS_TEST_NAME, BUS_TEST_PATH,
					 BUS_TEST_NAME, NULL, count_signal, &scene->count) >= 0);
}

/* Whether so many came. One that was left out is waited for in vain. */
static bool await_signals(struct scene *scene, unsigned count)
{
	int left_ms = ANSWER_S * 1000;

	while (scene->count < count && left_ms > 0) {
		if (sd_bus_process(scene->bus.client, NULL) > 0)
			continue;
		sd_bus_wait(scene->bus.client, 10 * 1000);
		left_ms -= 10;
		if (fault_has_happened() && left_ms > SIGNAL_MS)
			left_ms = SIGNAL_MS;
	}
	return scene->count >= count;
}

static int call_subscribe(struct scene *scene)
{
	bool is_told;
	int rc;

	scene->count = 0;
	rc = ask(scene, NULL, "Subscribe", "s", "/n*");
	if (rc < 0)
		return rc;
	make_file(scene, "new");
	is_told = await_signals(scene, 1);
	remove_file(scene, "new");
	is_told = is_told && await_signals(scene, 2);
	rc = ask(scene, NULL, "Unsubscribe", "");
	return rc == 0 && !is_told ? -EOPNOTSUPP : rc;
}

/* --- coming and going --- */

static void cut(struct fixture *fixture, void *argument)
{
	(void)argument;
	FAULT_EXPECT(shutdown(sd_bus_get_fd(fixture->server->bus->sd), SHUT_RDWR) == 0);
}

/* It loses the bus, and comes back to it: as another one. */
static int call_lose(struct scene *scene)
{
	time_t end = time(NULL) + ANSWER_S;
	char before[64], now[64];

	fixture_call(&scene->fixture, look_at_name, before);
	fixture_call(&scene->fixture, cut, NULL);
	do {
		FAULT_EXPECT(time(NULL) <= end);
		test_moment();
		fixture_call(&scene->fixture, look_at_name, now);
	} while (strcmp(now, before) == 0);
	await_broker(scene, scene->bus.client);
	return 0;
}

static void leave_bus(struct fixture *fixture, void *argument)
{
	(void)argument;
	bus_free(fixture->server->bus);
	fixture->server->bus = NULL;
}

static void add_bus(struct fixture *fixture, void *argument)
{
	struct scene *scene = argument;

	if (fixture->server->bus)
		return;
	fault_resume();
	scene->count = (unsigned)-server_add_bus(fixture->server, scene->bus.address);
	fault_pause();
}

static void be_on_none(struct scene *scene)
{
	connect_stranger(scene);
	fixture_call(&scene->fixture, leave_bus, NULL);
}

static int start_on_bus(struct scene *scene)
{
	fixture_call(&scene->fixture, add_bus, scene);
	return -(int)scene->count;
}

static int call_start(struct scene *scene)
{
	int rc = start_on_bus(scene);

	if (rc == 0)
		await_broker(scene, scene->bus.client);
	return rc;
}

/* One that could not begin begins. */
static void be_on_bus(struct scene *scene)
{
	FAULT_EXPECT(start_on_bus(scene) == 0);
	await_broker(scene, scene->bus.client);
	disconnect(scene);
}

static void end_bus(struct scene *scene)
{
	be_on_none(scene);
	disconnect(scene);
	bus_fixture_stop_bus(&scene->bus);
}

/* There is no bus; the first tries fail. */
static int call_start_alone(struct scene *scene)
{
	int rc = start_on_bus(scene);

	fixture_call(&scene->fixture, scene_hasten, NULL);
	return rc;
}

static void begin_bus(struct scene *scene)
{
	bus_fixture_start_bus(&scene->bus);
	scene->bus.client = bus_fixture_connect(&scene->bus);
}

static void begin_bus_and_be_on_it(struct scene *scene)
{
	begin_bus(scene);
	be_on_bus(scene);
}

static int call_start_early(struct scene *scene)
{
	int rc = call_start_alone(scene);

	begin_bus(scene);
	if (rc == 0)
		await_broker(scene, scene->bus.client);
	return rc;
}

/* --- rows --- */

#define ON_BUS .config = config, .roles = FAULT_LOOP, .is_on_bus = true, .is_unconnected = true
#define KNOWN ON_BUS, .before = connect_client, .after = disconnect
#define THERE ON_BUS, .before = connect_with_file, .after = disconnect_with_file

static const struct fault_case calls[] = {
	{ "a first call", .call = call_get, ON_BUS, .before = connect_stranger,
	  .after = disconnect },
	{ "Open", .call = call_open, THERE },
	{ "Open with creat", .call = call_create, KNOWN, .is_create = true },
	{ "Open of a temporary one", .call = call_temporary, KNOWN, .is_create = true },
	{ "Open of what no rule allows", .call = call_denied, KNOWN, .expected = -EACCES },
	{ "Open to write what may be read", .call = call_write_readable, KNOWN,
	  .expected = -EACCES },
	{ "Unlink", .call = call_unlink, THERE },
	{ "Stat", .call = call_stat, THERE },
	{ "List", .call = call_list, THERE },
};

static const struct fault_case others[] = {
	{ "CreateContext", .call = call_context, KNOWN },
	{ "Explain", .call = call_explain, THERE },
	{ "Reload", .call = call_reload, KNOWN, .also = -EIO },
	{ "Get", .call = call_get, KNOWN },
	{ "Get of Pools", .call = call_get_pools, KNOWN },
	{ "GetAll", .call = call_get_all, KNOWN },
	{ "Subscribe", .call = call_subscribe, ON_BUS, .before = connect_listener,
	  .after = disconnect },
};

static const struct fault_case ways[] = {
	{ "a bus that is lost", .call = call_lose, ON_BUS, .before = connect_stranger,
	  .after = disconnect },
	{ "a start on a bus", .call = call_start, ON_BUS, .before = be_on_none,
	  .after = be_on_bus },
	{ "a start without a bus", .call = call_start_alone, ON_BUS, .before = end_bus,
	  .after = begin_bus_and_be_on_it },
	{ "a start before its bus", .call = call_start_early, ON_BUS, .before = end_bus,
	  .after = be_on_bus },
};

START_TEST(a_fault_of_a_call_on_the_bus)
{
	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon");
	fault_run(calls, ROWS(calls));
}
END_TEST

START_TEST(a_fault_of_what_else_is_asked_on_the_bus)
{
	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon");
	fault_run(others, ROWS(others));
}
END_TEST

START_TEST(a_fault_on_the_way_to_the_bus)
{
	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon");
	fault_run(ways, ROWS(ways));
}
END_TEST

TCase *fault_case_of_bus(void)
{
	TCase *tests = tcase_create("bus");

	tcase_set_timeout(tests, 300);
	tcase_add_checked_fixture(tests, test_fds_setup, test_fds_teardown);
	tcase_add_test(tests, a_fault_of_a_call_on_the_bus);
	tcase_add_test(tests, a_fault_of_what_else_is_asked_on_the_bus);
	tcase_add_test(tests, a_fault_on_the_way_to_the_bus);
	return tests;
}
