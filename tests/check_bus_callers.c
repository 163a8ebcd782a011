/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* D-Bus: who calls, who is told, and what becomes of all that when the bus stops or goes. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/bus_private.h"
#include "daemon/fd.h"
#include "tests/bus_fixture.h"
#include "tests/check_bus.h"
#include "tests/test.h"

#define OTHER 1000

/* --- who calls --- */

/* In the loop's thread: so all of this is on its way before the broker reads the first byte. */
static void create_and_vanish(struct fixture *fixture, void *argument)
{
	sd_bus *client = bus_fixture_connect(argument);
	sd_bus_message *message = bus_fixture_new_call(client, "Open");

	(void)fixture;
	ck_assert_int_ge(
		sd_bus_message_append(message, "sasua{sv}", "/ghost", 2, "rdwr", "creat", 0600, 0),
		0);
	ck_assert_int_ge(sd_bus_send(client, message, NULL), 0);
	sd_bus_message_unref(message);
	sd_bus_flush_close_unref(client);
}

START_TEST(who_has_vanished_before_it_was_known_gets_nothing)
{
	struct bus_fixture f;

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	bus_fixture_start(&f, check_bus_config);
	for (int i = 0; i < 20; i++) {
		fixture_call(&f.broker, create_and_vanish, &f);
		ck_assert_int_eq(bus_fixture_call(f.client, NULL, NULL, "Stat", "s", "/ghost"),
				 ENOENT);
	}
	bus_fixture_stop(&f);
}
END_TEST

struct user_test {
	struct bus_fixture *fixture;
	int (*act)(struct user_test *test, sd_bus *client);
	int ready, told; /* pipes' ends of a child's */
};

/* In a child: exit statuses for assertions. */
static int as_user(void *argument)
{
	struct user_test *test = argument;

	return test->act(test, bus_fixture_connect(test->fixture));
}

static int open_others_object(struct user_test *test, sd_bus *client)
{
	struct stat st;
	int fd;

	(void)test;
	if (bus_fixture_open(client, "/roots-own", "rdonly", 0) != -EACCES)
		return 1;
	fd = bus_fixture_open(client, "/others-own", "rdwr creat", 0600);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != OTHER)
		return 2;
	if (bus_fixture_call(client, NULL, NULL, "Reload", "") != EACCES)
		return 3;
	if (bus_fixture_call(client, NULL, NULL, "Explain", "sasa{sv}", "/x", 0, 1, "uid", "u",
			     0) != EACCES)
		return 4;
	return 0;
}

START_TEST(each_caller_acts_as_himself)
{
	struct user_test test = { .act = open_others_object };
	struct bus_fixture f;

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	TEST_NEEDS(test_is_root(), "needs root to be somebody else");
	bus_fixture_start(&f, check_bus_config);
	test.fixture = &f;
	ck_assert_int_ge(close(bus_fixture_open(f.client, "/roots-own", "rdwr creat", 0600)), 0);
	ck_assert_int_eq(test_run_as(OTHER, OTHER, NULL, 0, as_user, &test), 0);
	bus_fixture_stop(&f);
}
END_TEST

/* It has connected as root, and calls as somebody else: it is neither, for the broker. */
static int change_user(struct user_test *test, sd_bus *client)
{
	const char *name;

	(void)test;
	if (sd_bus_get_unique_name(client, &name) < 0 || setresuid(OTHER, OTHER, OTHER) < 0)
		return 1;
	return bus_fixture_open(client, "/x", "rdwr creat", 0600) == -EACCES ? 0 : 2;
}

static int be_a_proxy(struct user_test *test, sd_bus *client)
{
	(void)test;
	if (prctl(PR_SET_NAME, "xdg-dbus-proxy") < 0)
		return 1;
	return bus_fixture_open(client, "/x", "rdwr creat", 0600) == -EACCES ? 0 : 2;
}

/* The name is written again: who was known stays what he was, who comes anew is a proxy no more. */
static int be_no_proxy(struct user_test *test, sd_bus *client)
{
	int fd = bus_fixture_open(client, "/x", "rdwr creat", 0600);

	(void)test;
	return fd >= 0 ? close(fd) : 1;
}

START_TEST(who_cannot_be_told_or_is_a_proxy_counts_for_nobody)
{
	static int (*const acts[])(struct user_test * test,
				   sd_bus * client) = { change_user, be_a_proxy, be_no_proxy };
	struct bus_fixture f;

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	TEST_NEEDS(test_is_root(), "needs root to be somebody else");
	bus_fixture_start(&f, check_bus_config);
	for (size_t i = 0; i < sizeof(acts) / sizeof(*acts); i++) {
		struct user_test test = { .fixture = &f, .act = acts[i] };
		int rc = test_run_as((uid_t)-1, 0, NULL, 0, as_user, &test);

		ck_assert_msg(rc == 0, "row %zu: %d", i, rc);
	}
	bus_fixture_stop(&f);
}
END_TEST

/* --- temporary names, signals --- */

START_TEST(a_temporary_name_goes_with_the_unique_name)
{
	struct bus_fixture f;
	sd_bus *other;

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	bus_fixture_start(&f, check_bus_config);
	other = bus_fixture_connect(&f);
	ck_assert_int_eq(bus_fixture_call(other, NULL, NULL, "Open", "sasua{sv}", "/fleeting", 2,
					  "rdwr", "creat", 0600, 1, "temporary", "b", true),
			 0);
	ck_assert_int_eq(bus_fixture_call(f.client, NULL, NULL, "Stat", "s", "/fleeting"), 0);
	sd_bus_flush_close_unref(other);
	while (bus_fixture_call(f.client, NULL, NULL, "Stat", "s", "/fleeting") == 0)
		test_moment();
	bus_fixture_stop(&f);
}
END_TEST

struct heard {
	unsigned count;
	char text[512]; /* +name or -name, each */
};

static int hear(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
	struct heard *heard = userdata;
	const char *pool, *name;

	(void)ret_error;
	if (sd_bus_message_read(message, "ss", &pool, &name) < 0)
		return 0;
	snprintf(heard->text + strlen(heard->text), sizeof(heard->text) - strlen(heard->text),
		 "%c%s:%s ",
		 strcmp(sd_bus_message_get_member(message), "ObjectCreated") ? '-' : '+', pool,
		 name);
	heard->count++;
	return 0;
}

static void subscribe(sd_bus *client, struct heard *heard, const char *pattern)
{
	ck_assert_int_ge(sd_bus_add_match(client, NULL, "type='signal',sender='" BUS_TEST_NAME "'",
					  hear, heard),
			 0);
	ck_assert_int_eq(bus_fixture_call(client, NULL, NULL, "Subscribe", "s", pattern), 0);
}

static void hear_all(sd_bus *client, struct heard *heard, unsigned count)
{
	while (heard->count < count) {
		while (sd_bus_process(client, NULL) > 0)
			;
		if (heard->count < count)
			ck_assert_int_ge(sd_bus_wait(client, UINT64_MAX), 0);
	}
}

/* Who may read what is there and isn't told of it; and what he may list he is. */
static int hear_as_other(struct user_test *test, sd_bus *client)
{
	struct heard heard = { 0 };

	subscribe(client, &heard, "/*");
	if (write(test->ready, "", 1) != 1)
		return 1;
	hear_all(client, &heard, 2);
	return strcmp(heard.text, "+host:/public -host:/public ") == 0 ? 0 : 2;
}

static void *run_other(void *argument)
{
	return (void *)(intptr_t)test_run_as(OTHER, OTHER, NULL, 0, as_user, argument);
}

START_TEST(signals_reach_who_may_list_the_name_whoever_made_it)
{
	struct user_test test = { .act = hear_as_other };
	struct heard heard = { 0 };
	struct bus_fixture f;
	char path[200], byte;
	pthread_t thread;
	int ready[2];
	void *rc;

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	TEST_NEEDS(test_is_root(), "needs root to be somebody else");
	bus_fixture_start(&f, check_bus_config);
	ck_assert_int_eq(pipe2(ready, O_CLOEXEC), 0);
	test.fixture = &f;
	test.ready = ready[1];
	subscribe(f.client, &heard, "/*");
	ck_assert_int_eq(pthread_create(&thread, NULL, run_other, &test), 0);
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);

	snprintf(path, sizeof(path), "%s/read-1", f.broker.host);
	ck_assert_int_ge(close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644)), 0);
	ck_assert_int_ge(close(bus_fixture_open(f.client, "/public", "rdwr creat", 0600)), 0);
	ck_assert_int_eq(bus_fixture_call(f.client, NULL, NULL, "Unlink", "s", "/public"), 0);
	ck_assert_int_eq(pthread_join(thread, &rc), 0);
	ck_assert_int_eq((intptr_t)rc, 0);
	/* The administrator may list everything. */
	hear_all(f.client, &heard, 3);
	ck_assert_str_eq(heard.text, "+host:/read-1 +host:/public -host:/public ");
	close(ready[0]);
	close(ready[1]);
	bus_fixture_stop(&f);
}
END_TEST

START_TEST(subscriptions_are_limited_told_once_and_end)
{
	struct heard heard = { 0 };
	struct bus_fixture f;
	struct shmb *c;
	int fd;

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	bus_fixture_start(&f, check_bus_config);
	c = fixture_connect(&f.broker);
	subscribe(f.client, &heard, "/own-*");
	ck_assert_int_eq(bus_fixture_call(f.client, NULL, NULL, "Subscribe", "s", "/*-1"), 0);
	ck_assert_int_eq(bus_fixture_call(f.client, NULL, NULL, "Subscribe", "s", ""), 0);
	ck_assert_int_eq(bus_fixture_call(f.client, NULL, NULL, "Subscribe", "s", "x"), EDQUOT);
	/* Its pool is made only now; published, so under another name at first; over the socket. */
	fd = shmb_open_how(c, "/own-1",
			   &(struct shmb_how){ .oflag = O_RDWR | O_CREAT,
					       .mode = 0600,
					       .size = 1,
					       .flags = SHMB_UNPUBLISHED },
			   sizeof(struct shmb_how));
	ck_assert_int_ge(fd, 0);
	close(fd);
	ck_assert_int_eq(shmb_publish(c, "/own-1", SHMB_REPLACE), 0);
	hear_all(f.client, &heard, 1);
	ck_assert_str_eq(heard.text, "+own:/own-1 ");
	ck_assert_int_eq(bus_fixture_call(f.client, NULL, NULL, "Unsubscribe", ""), 0);
	ck_assert_int_eq(shmb_unlink(c, "/own-1"), 0);
	ck_assert_int_eq(bus_fixture_call(f.client, NULL, NULL, "Subscribe", "s", "/frames-*"), 0);
	ck_assert_int_ge(close(bus_fixture_open(f.client, "/frames-1", "rdwr creat", 0600)), 0);
	hear_all(f.client, &heard, 2);
	ck_assert_str_eq(heard.text, "+own:/own-1 +frames:/frames-1 ");
	shmb_disconnect(c);
	bus_fixture_stop(&f);
}
END_TEST

/* --- the bus --- */

START_TEST(a_stopped_bus_is_no_matter_for_the_socket)
{
	struct heard heard = { 0 };
	struct bus_fixture f;
	char name[32];
	struct shmb *c;
	int status;

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	bus_fixture_start(&f, check_bus_config);
	subscribe(f.client, &heard, "/*");
	ck_assert_int_eq(kill(f.pid, SIGSTOP), 0);
	ck_assert_int_eq(waitpid(f.pid, &status, WUNTRACED), f.pid);
	c = fixture_connect(&f.broker);
	/* Each is a signal for which the bus has no ear: more than its socket and the queue hold.
	 */
	for (int i = 0; i < 6000; i++) {
		snprintf(name, sizeof(name), "/n%d", i);
		ck_assert_int_ge(close(shmb_open(c, name, O_RDWR | O_CREAT, 0600)), 0);
	}
	ck_assert_int_eq(kill(f.pid, SIGCONT), 0);
	ck_assert_int_ge(close(bus_fixture_open(f.client, "/n1", "rdonly", 0)), 0);
	hear_all(f.client, &heard, 1000);
	shmb_disconnect(c);
	bus_fixture_stop(&f);
}
END_TEST

START_TEST(the_broker_comes_back_to_a_bus_that_comes_back)
{
	struct bus_fixture f;
	struct shmb *c;

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	bus_fixture_start(&f, check_bus_config);
	ck_assert_int_eq(bus_fixture_call(f.client, NULL, NULL, "Open", "sasua{sv}", "/fleeting", 2,
					  "rdwr", "creat", 0600, 1, "temporary", "b", true),
			 0);
	c = fixture_connect(&f.broker);
	for (int i = 0; i < 3; i++) {
		bus_fixture_stop_bus(&f);
		ck_assert_int_ge(close(shmb_open(c, "/x", O_RDWR | O_CREAT, 0600)), 0);
		bus_fixture_start_bus(&f);
		sd_bus_close_unref(f.client);
		f.client = bus_fixture_connect(&f);
		bus_fixture_wait(f.client);
		ck_assert_int_ge(close(bus_fixture_open(f.client, "/x", "rdonly", 0)), 0);
		/* Its unique name went with the bus. */
		ck_assert_int_eq(bus_fixture_call(f.client, NULL, NULL, "Stat", "s", "/fleeting"),
				 ENOENT);
	}
	shmb_disconnect(c);
	bus_fixture_stop(&f);
}
END_TEST

START_TEST(a_name_that_somebody_else_has_is_taken_when_he_leaves)
{
	struct bus_fixture f = { 0 };
	sd_bus *owner;

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	bus_fixture_start_bus(&f);
	owner = bus_fixture_connect(&f);
	ck_assert_int_ge(sd_bus_request_name(owner, BUS_TEST_NAME, 0), 0);
	fixture_start(&f.broker, &(struct fixture_how){ .config = check_bus_config,
							.is_user = geteuid() != 0,
							.bus_address = f.address });
	f.client = bus_fixture_connect(&f);
	sd_bus_flush_close_unref(owner);
	bus_fixture_wait(f.client);
	ck_assert_int_eq(bus_fixture_open(f.client, "/none", "rdonly", 0), -ENOENT);
	bus_fixture_stop(&f);
}
END_TEST

/* The bus's configuration with a policy more, or as it was: in force when this returns. */
static void set_policy(const struct bus_fixture *f, sd_bus *client, const char *policy)
{
	static const char end[] = "</busconfig>";
	char text[4096] = "";
	FILE *file = fopen(f->config, "r+e");
	size_t size;

	ck_assert_ptr_nonnull(file);
	size = fread(text, 1, sizeof(text) - 1, file);
	ck_assert_uint_gt(size, 0);
	*strstr(text, *policy ? end : "<policy context=\"mandatory\">") = '\0';
	rewind(file);
	ck_assert_int_gt(fprintf(file, "%s%s%s", text, policy, end), 0);
	ck_assert_int_eq(fflush(file), 0);
	ck_assert_int_eq(ftruncate(fileno(file), ftell(file)), 0);
	fclose(file);
	ck_assert_int_ge(sd_bus_call_method(client, "org.freedesktop.DBus", "/org/freedesktop/DBus",
					    "org.freedesktop.DBus", "ReloadConfig", NULL, NULL, ""),
			 0);
}

static void look_if_refused(struct fixture *fixture, void *argument)
{
	const struct bus *bus = fixture->server->bus;

	*(bool *)argument = bus->told_refused && bus_fixture_will_retry(bus);
}

static void await_refusal(struct bus_fixture *f)
{
	bool is_refused = false;

	for (int i = 0; i < 10000 && !is_refused; i++) {
		test_moment();
		fixture_call(&f->broker, look_if_refused, &is_refused);
	}
	ck_assert(is_refused);
}

/* What it would do some seconds later. */
static void ask_again(struct fixture *fixture, void *argument)
{
	(void)argument;
	timer_set(&fixture->server->bus->retry, 1);
}

START_TEST(a_name_that_the_bus_refuses_is_asked_for_until_it_is_had)
{
	struct bus_fixture f = { 0 };

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	bus_fixture_start_bus(&f);
	f.client = bus_fixture_connect(&f);
	set_policy(&f, f.client, "<policy context=\"mandatory\"><deny own=\"*\"/></policy>");
	fixture_start(&f.broker, &(struct fixture_how){ .config = check_bus_config,
							.is_user = geteuid() != 0,
							.bus_address = f.address });
	await_refusal(&f);
	fixture_call(&f.broker, ask_again, NULL);
	await_refusal(&f);
	set_policy(&f, f.client, "");
	fixture_call(&f.broker, ask_again, NULL);
	bus_fixture_wait(f.client);
	ck_assert_int_eq(bus_fixture_open(f.client, "/none", "rdonly", 0), -ENOENT);
	bus_fixture_stop(&f);
}
END_TEST

/* The policy file: who may own the name, and that nobody hands descriptors in. */
static int own_the_name(struct user_test *test, sd_bus *client)
{
	(void)test;
	return sd_bus_request_name(client, BUS_TEST_NAME, SD_BUS_NAME_QUEUE) == -EACCES ? 0 : 1;
}

START_TEST(the_policy_keeps_others_off_the_name_and_descriptors_out)
{
	struct user_test test = { .act = own_the_name };
	struct bus_fixture f;
	char text[256];

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	TEST_NEEDS(test_is_root(), "needs root to be somebody else");
	bus_fixture_start(&f, check_bus_config);
	test.fixture = &f;
	ck_assert_int_eq(test_run_as(OTHER, OTHER, NULL, 0, as_user, &test), 0);
	ck_assert_int_eq(bus_fixture_call(f.client, NULL, text, "Open", "sasua{sv}", "/x", 1,
					  "rdonly", 0, 1, "fd", "h", 0),
			 EACCES);
	ck_assert_ptr_null(strstr(text, "unknown option"));
	bus_fixture_stop(&f);
}
END_TEST

TCase *tcase_bus_callers(void)
{
	TCase *test = tcase_create("callers");

	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_set_timeout(test, 120);
	tcase_add_test(test, who_has_vanished_before_it_was_known_gets_nothing);
	tcase_add_test(test, each_caller_acts_as_himself);
	tcase_add_test(test, who_cannot_be_told_or_is_a_proxy_counts_for_nobody);
	tcase_add_test(test, a_temporary_name_goes_with_the_unique_name);
	tcase_add_test(test, signals_reach_who_may_list_the_name_whoever_made_it);
	tcase_add_test(test, subscriptions_are_limited_told_once_and_end);
	tcase_add_test(test, a_stopped_bus_is_no_matter_for_the_socket);
	tcase_add_test(test, the_broker_comes_back_to_a_bus_that_comes_back);
	tcase_add_test(test, a_name_that_somebody_else_has_is_taken_when_he_leaves);
	tcase_add_test(test, a_name_that_the_bus_refuses_is_asked_for_until_it_is_had);
	tcase_add_test(test, the_policy_keeps_others_off_the_name_and_descriptors_out);
	return test;
}
