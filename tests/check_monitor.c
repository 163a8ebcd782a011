/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who watches is told of what he may know, and holds nobody up. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/edge.h"
#include "tests/fixture.h"
#include "tests/raw_client.h"
#include "tests/test.h"

static const char one_pool[] =
	"pools: { host: { path = \"@host@\" access = \"grant\" } }\n"
	"rules: ( { name = \"no\" names = \"/no-*\" allow = [] },\n"
	"         { name = \"all\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";

static void start(struct fixture *fixture)
{
	fixture_start(fixture, &(struct fixture_how){ .config = one_pool });
}

static struct raw_reply reply;

static bool has_field(const char *field)
{
	return memmem(reply.body, reply.body_size, field, strlen(field) + 1) != NULL;
}

/* The next packet of a monitor, which has this field. */
static void expect_event(int fd, uint32_t serial, const char *field)
{
	ck_assert(raw_reply(fd, &reply));
	ck_assert_uint_eq(reply.head.serial, serial);
	ck_assert_int_eq(reply.head.status, 0);
	ck_assert_uint_eq(reply.head.flags, WIRE_MORE);
	ck_assert_msg(!field ? reply.body_size == 0 : has_field(field), "no %s in %.*s", field,
		      (int)reply.body_size, reply.body);
}

static int count_one(const struct shmb_info *info, void *userdata)
{
	(void)info;
	++*(unsigned *)userdata;
	return 0;
}

START_TEST(a_monitor_tells_what_happens_until_it_is_cancelled)
{
	struct fixture fixture;
	struct shmb *c;
	int fd;

	start(&fixture);
	c = fixture_connect(&fixture);
	fd = raw_greeted(fixture.socket);
	ck_assert_int_eq(raw_ask(fd, 7, WIRE_MONITOR, "a*"), 0);
	expect_event(fd, 7, NULL);
	close(shmb_open(c, "/b", O_RDWR | O_CREAT, 0600));
	close(shmb_open(c, "/a", O_RDWR | O_CREAT, 0600));
	expect_event(fd, 7, "name=a");
	/* Beside it requests go on, and one more reply of several packets doesn't. */
	ck_assert_int_eq(raw_ask(fd, 8, WIRE_STAT, "a"), 0);
	ck_assert_int_eq(raw_status(fd, 8), 0);
	ck_assert_int_eq(raw_ask(fd, 9, WIRE_LIST, "*"), 0);
	ck_assert_int_eq(raw_status(fd, 9), EBUSY);
	/* It outlives a reload. */
	ck_assert_int_eq(raw_ask(fd, 10, WIRE_RELOAD, ""), 0);
	ck_assert_int_eq(raw_status(fd, 10), test_is_root() ? 0 : EACCES);
	ck_assert_int_eq(shmb_unlink(c, "/a"), 0);
	expect_event(fd, 7, "event=removed");
	ck_assert_int_eq(raw_cancel(fd, 11, 7), 0);
	ck_assert_int_eq(raw_status(fd, 7), ECANCELED);
	ck_assert_int_eq(shmb_unlink(c, "/b"), 0);
	ck_assert_int_eq(raw_ask(fd, 12, WIRE_STAT, "b"), 0);
	ck_assert_int_eq(raw_status(fd, 12), ENOENT);
	close(fd);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(a_monitor_tells_the_administrator_alone_what_is_denied)
{
	struct fixture fixture;
	struct shmb *c;
	int fd;

	TEST_NEEDS(test_is_root(), "the administrator of such a broker is root");
	start(&fixture);
	c = fixture_connect(&fixture);
	fd = raw_greeted(fixture.socket);
	ck_assert_int_eq(raw_ask(fd, 7, WIRE_MONITOR, "no-*"), 0);
	expect_event(fd, 7, NULL);
	ck_assert_int_eq(shmb_open(c, "/no-1", O_RDWR, 0), -EACCES);
	expect_event(fd, 7, "event=denied");
	ck_assert_int_eq(shmb_open(c, "/no-2", O_RDWR, 0), -EACCES);
	expect_event(fd, 7, "rule=no");
	close(fd);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(others_get_their_listings_beside_an_idle_monitor)
{
	struct fixture fixture;
	struct shmb *c;
	char name[16];
	int fd;

	start(&fixture);
	c = fixture_connect(&fixture);
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "/b%d", i);
		close(shmb_open(c, name, O_RDWR | O_CREAT, 0600));
	}
	fd = raw_greeted(fixture.socket);
	ck_assert_int_eq(raw_ask(fd, 7, WIRE_MONITOR, "a*"), 0);
	expect_event(fd, 7, NULL);
	for (int i = 0; i < 10; i++) {
		unsigned count = 0;

		/* Wakes the monitor, which then is idle again. */
		close(shmb_open(c, "/a", O_RDWR | O_CREAT, 0600));
		expect_event(fd, 7, "name=a");
		ck_assert_int_eq(shmb_unlink(c, "/a"), 0);
		expect_event(fd, 7, "name=a");
		ck_assert_int_eq(shmb_list(c, "b*", sizeof(struct shmb_info), count_one, &count),
				 0);
		ck_assert_uint_eq(count, 300);
	}
	close(fd);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* As somebody who is no administrator: an exit status. */
static int watch_as_anybody(void *argument)
{
	int fd = raw_greeted(argument);
	struct shmb *c;

	if (shmb_connect(&c, argument) < 0 || raw_ask(fd, 7, WIRE_MONITOR, "") != 0)
		return 1;
	if (!raw_reply(fd, &reply) || reply.body_size != 0)
		return 2;
	/* Neither what he was denied, nor a name that he may use and not list. */
	if (shmb_open(c, "/no-1", O_RDWR, 0) != -EACCES)
		return 3;
	if (shmb_open(c, "/secret-1", O_RDWR | O_CREAT, 0600) < 0)
		return 4;
	if (shmb_open(c, "/a", O_RDWR | O_CREAT, 0600) < 0)
		return 5;
	if (!raw_reply(fd, &reply) || !has_field("name=a"))
		return 6;
	return has_field("event=denied") || has_field("name=secret-1") ? 7 : 0;
}

START_TEST(a_monitor_tells_nobody_what_he_may_not_know)
{
	static const char config[] =
		"pools: { host: { path = \"@host@\" access = \"grant\" } }\n"
		"rules: ( { name = \"no\" names = \"/no-*\" allow = [] },\n"
		"         { name = \"secret\" names = \"/secret-*\" pool = \"host\"\n"
		"           allow = [ \"read\", \"write\", \"create\" ] },\n"
		"         { name = \"all\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";
	uid_t uid = test_is_root() ? 65531 : (uid_t)-1;
	struct fixture fixture;

	fixture_start(&fixture, &(struct fixture_how){ .config = config });
	ck_assert_int_eq(test_run_as(uid, (gid_t)uid, NULL, 0, watch_as_anybody, fixture.socket),
			 0);
	fixture_stop(&fixture);
}
END_TEST

/* It doesn't read: others are served, and it is told how much it has missed. */
START_TEST(a_monitor_that_is_not_read_costs_nobody_anything)
{
	struct fixture fixture;
	struct shmb *c;
	bool lost = false;
	int fd;

	start(&fixture);
	c = fixture_connect(&fixture);
	fd = raw_greeted(fixture.socket);
	ck_assert_int_eq(raw_ask(fd, 7, WIRE_MONITOR, ""), 0);
	for (int i = 0; i < 5000; i++) {
		close(shmb_open(c, "/b", O_RDWR | O_CREAT, 0600));
		ck_assert_int_eq(shmb_unlink(c, "/b"), 0);
	}
	while (!lost) {
		ck_assert(raw_reply(fd, &reply));
		lost = has_field("event=lost");
	}
	close(fd);
	edge_expect_served(&fixture, c);
	edge_expect_clients(&fixture, 1);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

TCase *server_case_of_monitors(void)
{
	TCase *test = tcase_create("monitors");

	tcase_set_timeout(test, 120);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, a_monitor_tells_what_happens_until_it_is_cancelled);
	tcase_add_test(test, a_monitor_tells_the_administrator_alone_what_is_denied);
	tcase_add_test(test, a_monitor_tells_nobody_what_he_may_not_know);
	tcase_add_test(test, others_get_their_listings_beside_an_idle_monitor);
	tcase_add_test(test, a_monitor_that_is_not_read_costs_nobody_anything);
	return test;
}
