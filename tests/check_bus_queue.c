/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* D-Bus: calls that wait for their turn or their pool, and answers that take many turns. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/bus_private.h"
#include "daemon/fd.h"
#include "daemon/keeper.h"
#include "tests/bus_fixture.h"
#include "tests/check_bus.h"
#include "tests/edge.h"
#include "tests/raw_client.h"
#include "tests/test.h"

#define MANY 100
#define QUEUE 64

struct tally {
	unsigned answered, refused;
};

static int count_answer(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
	struct tally *tally = userdata;

	(void)ret_error;
	tally->answered++;
	if (sd_bus_message_get_errno(message) == EDQUOT)
		tally->refused++;
	else
		ck_assert_int_eq(sd_bus_message_get_errno(message), ENOENT);
	return 0;
}

struct many {
	sd_bus *client;
	struct tally tally;
};

static void call_often(struct fixture *fixture, void *argument)
{
	struct many *many = argument;

	(void)fixture;
	for (int i = 0; i < MANY; i++) {
		sd_bus_message *message = bus_fixture_new_call(many->client, "Stat");

		ck_assert_int_ge(sd_bus_message_append(message, "s", "/none"), 0);
		ck_assert_int_ge(sd_bus_call_async(many->client, NULL, message, count_answer,
						   &many->tally, 0),
				 0);
		sd_bus_message_unref(message);
	}
	ck_assert_int_ge(sd_bus_flush(many->client), 0);
}

/* In the broker's thread the loop stands still, so all are sent before any is read. */
START_TEST(too_many_calls_that_wait_are_refused_and_the_others_answered)
{
	struct many many = { 0 };
	struct bus_fixture f;

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	bus_fixture_start(&f, check_bus_config);
	many.client = bus_fixture_connect(&f);
	fixture_call(&f.broker, call_often, &many);
	while (many.tally.answered < MANY) {
		while (sd_bus_process(many.client, NULL) > 0)
			;
		if (many.tally.answered < MANY)
			ck_assert_int_ge(sd_bus_wait(many.client, UINT64_MAX), 0);
	}
	/* On a busy machine the bus says who asks while it still has calls to hand on. */
	ck_assert_uint_ge(many.tally.refused, 1);
	ck_assert_uint_le(many.tally.refused, MANY - QUEUE);
	sd_bus_flush_close_unref(many.client);
	bus_fixture_stop(&f);
}
END_TEST

static int in_order(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
	unsigned *next = userdata;
	static const int expected[] = { 0, 0, 0, ENOENT };

	(void)ret_error;
	ck_assert_int_eq(sd_bus_message_get_errno(message), expected[*next]);
	++*next;
	return 0;
}

START_TEST(calls_behind_one_that_waits_for_its_pool_come_in_their_order)
{
	static const char *const members[] = { "Open", "Stat", "Unlink", "Stat" };
	struct bus_fixture f;
	unsigned next = 0;

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	bus_fixture_start(&f, check_bus_config);
	for (size_t i = 0; i < 4; i++) {
		sd_bus_message *message = bus_fixture_new_call(f.client, members[i]);

		ck_assert_int_ge(i == 0 ? sd_bus_message_append(message, "sasua{sv}", "/own-1", 2,
								"rdwr", "creat", 0600, 0)
					: sd_bus_message_append(message, "s", "/own-1"),
				 0);
		ck_assert_int_ge(sd_bus_call_async(f.client, NULL, message, in_order, &next, 0), 0);
		sd_bus_message_unref(message);
	}
	while (next < 4) {
		while (sd_bus_process(f.client, NULL) > 0)
			;
		if (next < 4)
			ck_assert_int_ge(sd_bus_wait(f.client, UINT64_MAX), 0);
	}
	bus_fixture_stop(&f);
}
END_TEST

#define NAMES 6
#define BEHIND 40  /* calls of each that wait for the pool of the first */
#define A_PASS 16u /* that are answered of one user */

static int count_any(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
	(void)message;
	(void)ret_error;
	++*(unsigned *)userdata;
	return 0;
}

static void call_behind_a_pool(sd_bus *client, unsigned *answered)
{
	sd_bus_message *message = bus_fixture_new_call(client, "Open");

	ck_assert_int_ge(
		sd_bus_message_append(message, "sasua{sv}", "/own-1", 2, "rdwr", "creat", 0600, 0),
		0);
	for (int i = 0; i <= BEHIND; i++) {
		ck_assert_int_ge(sd_bus_call_async(client, NULL, message, count_any, answered, 0),
				 0);
		sd_bus_message_unref(message);
		message = bus_fixture_new_call(client, "Stat");
		ck_assert_int_ge(sd_bus_message_append(message, "s", "/none"), 0);
	}
	sd_bus_message_unref(message);
	ck_assert_int_ge(sd_bus_flush(client), 0);
}

static void count_waiting(struct fixture *fixture, void *argument)
{
	*(unsigned *)argument = fixture->server->bus->call_count;
}

/* The pool that all names wait for is there, and another client counts what is served between. */
START_TEST(calls_of_many_names_of_one_user_are_answered_in_parts)
{
	struct pollfd keeper = { .events = POLLIN };
	unsigned answered = 0, waiting;
	unsigned long before, now;
	sd_bus *client[NAMES];
	struct edge_hold hold;
	struct bus_fixture f;
	int fd;

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	TEST_NEEDS(test_is_root(), "the counters are for root");
	bus_fixture_start(&f, check_bus_config);
	fd = raw_greeted(f.broker.socket);
	ck_assert_int_eq(kill(keeper_pid(f.broker.keeper), SIGSTOP), 0);
	for (int i = 0; i < NAMES; i++) {
		client[i] = bus_fixture_connect(&f);
		call_behind_a_pool(client[i], &answered);
	}
	do
		fixture_call(&f.broker, count_waiting, &waiting);
	while (waiting != NAMES * BEHIND);
	edge_hold(&hold, &f.broker);
	for (uint32_t i = 0; i < 5; i++)
		ck_assert_int_eq(raw_ask(fd, i, WIRE_STATUS, ""), 0);
	ck_assert_int_eq(kill(keeper_pid(f.broker.keeper), SIGCONT), 0);
	keeper.fd = broker_keeper_fd(server_broker(f.broker.server));
	ck_assert_int_eq(poll(&keeper, 1, -1), 1);
	edge_let_go(&hold);
	before = edge_next_count(fd, 0, "requests");
	for (uint32_t i = 1; i < 5; i++, before = now) {
		now = edge_next_count(fd, i, "requests");
		/* Itself, and what came before it in a pass and behind the other in one. */
		ck_assert_msg(now - before <= 1 + 2 * A_PASS, "%lu between two", now - before);
	}
	for (int i = 0; i < NAMES; i++) {
		while (answered < (unsigned)(i + 1) * (BEHIND + 1) &&
		       sd_bus_wait(client[i], UINT64_MAX) >= 0)
			while (sd_bus_process(client[i], NULL) > 0)
				;
		sd_bus_flush_close_unref(client[i]);
	}
	ck_assert_uint_eq(answered, NAMES * (BEHIND + 1));
	close(fd);
	bus_fixture_stop(&f);
}
END_TEST

/* --- listings --- */

static void fill(const char *directory, unsigned count)
{
	_cleanup_close_ int at = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char name[32];

	for (unsigned i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "n%u", i);
		ck_assert_int_ge(close(openat(at, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)), 0);
	}
}

static unsigned count_list(sd_bus_message *reply, const char *unwanted)
{
	unsigned count = 0;
	const char *name;

	ck_assert_int_ge(sd_bus_message_enter_container(reply, 'a', "(sta{sv})"), 0);
	while (sd_bus_message_enter_container(reply, 'r', "sta{sv}") > 0) {
		ck_assert_int_ge(sd_bus_message_read(reply, "s", &name), 0);
		ck_assert_ptr_null(strstr(name, unwanted));
		ck_assert_int_ge(sd_bus_message_skip(reply, "ta{sv}"), 0);
		ck_assert_int_ge(sd_bus_message_exit_container(reply), 0);
		count++;
	}
	return count;
}

#define HOGS 4	    /* as many listings as are made at a time */
#define LISTINGS 8  /* that each of them asks for, one behind the other */
#define LISTED 3000 /* names: no listing ends in the turn in which it began */

static int list_async(sd_bus *client, unsigned *answered)
{
	sd_bus_message *message = bus_fixture_new_call(client, "List");
	int rc = sd_bus_message_append(message, "s", "");

	if (rc >= 0)
		rc = sd_bus_call_async(client, NULL, message, count_any, answered, 0);
	sd_bus_message_unref(message);
	return rc;
}

START_TEST(who_lists_again_comes_behind_who_waits_to_list)
{
	sd_bus_message *reply = NULL;
	unsigned answered = 0, before;
	sd_bus *client[HOGS];
	struct bus_fixture f;

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	bus_fixture_start(&f, check_bus_config);
	fill(f.broker.host, LISTED);
	/* That each is known costs nobody a turn afterwards. */
	ck_assert_int_eq(bus_fixture_call(f.client, NULL, NULL, "Stat", "s", "/none"), ENOENT);
	for (int i = 0; i < HOGS; i++) {
		client[i] = bus_fixture_connect(&f);
		for (int k = 0; k < LISTINGS; k++)
			ck_assert_int_ge(list_async(client[i], &answered), 0);
		ck_assert_int_ge(sd_bus_flush(client[i]), 0);
	}
	ck_assert_int_eq(bus_fixture_call(f.client, &reply, NULL, "List", "s", "none*"), 0);
	sd_bus_message_unref(reply);
	for (int i = 0; i < HOGS; i++)
		while (sd_bus_process(client[i], NULL) > 0)
			;
	before = answered;
	ck_assert_uint_lt(before, HOGS * LISTINGS / 2);
	for (int i = 0; i < HOGS; i++)
		sd_bus_flush_close_unref(client[i]);
	bus_fixture_stop(&f);
}
END_TEST

START_TEST(a_listing_has_all_names_that_a_message_can_carry)
{
	static const char *const odd[] = {
		"bad\xff",	   "bad\xed\xa0\x80",	  "bad\xc0\xaf",
		"bad\xef\xbf\xbe", "bad\xf4\x90\x80\x80", "bad\xe2\x82"
	};
	sd_bus_message *reply = NULL;
	struct bus_fixture f;
	char path[300];

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	bus_fixture_start(&f, check_bus_config);
	for (size_t i = 0; i < sizeof(odd) / sizeof(*odd); i++) {
		snprintf(path, sizeof(path), "%s/%s", f.broker.host, odd[i]);
		ck_assert_int_ge(close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)), 0);
	}
	snprintf(path, sizeof(path), "%s/n\xe2\x82\xac", f.broker.host);
	ck_assert_int_ge(close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)), 0);
	fill(f.broker.host, 3000);
	ck_assert_int_eq(bus_fixture_call(f.client, &reply, NULL, "List", "s", ""), 0);
	ck_assert_uint_eq(count_list(reply, "bad"), 3001);
	sd_bus_message_unref(reply);
	bus_fixture_stop(&f);
}
END_TEST

START_TEST(a_listing_ends_at_a_hundred_thousand)
{
	sd_bus_message *reply = NULL;
	struct bus_fixture f;
	char path[200];

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	bus_fixture_start(&f, check_bus_config);
	fill(f.broker.host, 100001);
	ck_assert_int_eq(bus_fixture_call(f.client, NULL, NULL, "List", "s", "/n*"), E2BIG);
	/* And nothing of it is left that would keep the next one off. */
	snprintf(path, sizeof(path), "%s/n7", f.broker.host);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(bus_fixture_call(f.client, &reply, NULL, "List", "s", "/n*"), 0);
	ck_assert_uint_eq(count_list(reply, "bad"), 100000);
	sd_bus_message_unref(reply);
	bus_fixture_stop(&f);
}
END_TEST

TCase *tcase_bus_queue(void)
{
	TCase *test = tcase_create("queue");

	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_set_timeout(test, 120);
	tcase_add_test(test, too_many_calls_that_wait_are_refused_and_the_others_answered);
	tcase_add_test(test, calls_behind_one_that_waits_for_its_pool_come_in_their_order);
	tcase_add_test(test, calls_of_many_names_of_one_user_are_answered_in_parts);
	tcase_add_test(test, who_lists_again_comes_behind_who_waits_to_list);
	tcase_add_test(test, a_listing_has_all_names_that_a_message_can_carry);
	tcase_add_test(test, a_listing_ends_at_a_hundred_thousand);
	return test;
}
