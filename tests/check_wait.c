/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Waiting for a name: told at once, of whatever makes it, without a look meanwhile. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/broker_private.h"
#include "tests/edge.h"
#include "tests/fixture.h"
#include "tests/raw_client.h"
#include "tests/test.h"

static const char config[] =
	"limits: { waits-per-user = 2000 }\n"
	"pools: { host: { path = \"@host@\" access = \"grant\" } }\n"
	"rules: ( { name = \"no\" names = \"/no-*\" allow = [ \"write\" ] pool = \"host\" },\n"
	"         { name = \"all\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";

static const char nothing_any_more[] =
	"pools: { host: { path = \"@host@\" access = \"grant\" } }\n"
	"rules: ( { name = \"nothing\" names = \"/*\" allow = [] } )\n";

struct waiting {
	pthread_t thread;
	struct shmb *c;
	const char *name;
	int timeout_ms, result;
};

static void *wait_in_thread(void *argument)
{
	struct waiting *this = argument;

	this->result = shmb_wait(this->c, this->name, this->timeout_ms);
	return NULL;
}

static void start_waiting(struct waiting *this, const struct fixture *fixture, const char *name)
{
	*this = (struct waiting){ .c = fixture_connect(fixture),
				  .name = name,
				  .timeout_ms = 60000 };
	ck_assert_int_eq(pthread_create(&this->thread, NULL, wait_in_thread, this), 0);
}

static void count_waits(struct fixture *fixture, void *argument)
{
	*(unsigned *)argument = server_broker(fixture->server)->quota.total[RESOURCE_WAIT];
}

static void expect_waits(struct fixture *fixture, unsigned wanted)
{
	unsigned count;

	do {
		fixture_call(fixture, count_waits, &count);
	} while (count != wanted);
}

static void expect_result(struct waiting *this, int wanted)
{
	ck_assert_int_eq(pthread_join(this->thread, NULL), 0);
	ck_assert_msg(this->result == wanted, "%s: %d: %s", this->name, this->result,
		      shmb_reason(this->c));
	shmb_disconnect(this->c);
}

START_TEST(whoever_makes_it_who_waits_is_told)
{
	struct waiting first, second, sized, outside;
	const struct shmb_how how = { .oflag = O_RDWR | O_CREAT, .mode = 0600, .size = 4096 };
	struct fixture fixture;
	char path[256];
	struct shmb *c;

	fixture_start(&fixture, &(struct fixture_how){ .config = config });
	c = fixture_connect(&fixture);
	start_waiting(&first, &fixture, "/a");
	start_waiting(&second, &fixture, "a");
	start_waiting(&sized, &fixture, "/sized");
	start_waiting(&outside, &fixture, "/outside");
	expect_waits(&fixture, 4);
	close(shmb_open(c, "/b", O_RDWR | O_CREAT, 0600));
	expect_waits(&fixture, 4);
	close(shmb_open(c, "/a", O_RDWR | O_CREAT, 0600));
	expect_result(&first, 0);
	expect_result(&second, 0);
	close(shmb_open_how(c, "/sized", &how, sizeof(how)));
	expect_result(&sized, 0);
	snprintf(path, sizeof(path), "%s/outside", fixture.host);
	close(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	expect_result(&outside, 0);
	/* What is there needs no waiting. */
	ck_assert_int_eq(shmb_wait(c, "/a", -1), 0);
	ck_assert_int_eq(shmb_wait(c, "/a", 0), 0);
	expect_waits(&fixture, 0);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void handled(int number)
{
	(void)number;
}

static void reload(struct fixture *fixture, void *argument)
{
	(void)argument;
	broker_load(server_broker(fixture->server));
}

START_TEST(a_wait_ends_by_its_time_by_a_signal_and_by_a_refusal)
{
	const struct sigaction action = { .sa_handler = handled };
	struct waiting refused;
	struct fixture fixture;
	uint64_t begin;
	struct shmb *c;
	int fd;

	fixture_start(&fixture, &(struct fixture_how){ .config = config });
	c = fixture_connect(&fixture);
	begin = now_ms();
	ck_assert_int_eq(shmb_wait(c, "/none", 200), -ETIMEDOUT);
	ck_assert_uint_ge(now_ms() - begin, 200);
	ck_assert_int_eq(shmb_wait(c, "/none", 0), -ETIMEDOUT);
	expect_waits(&fixture, 0);
	/* The connection is as good as before. */
	fd = shmb_open(c, "/x", O_RDWR | O_CREAT, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);

	ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
	alarm(1);
	ck_assert_int_eq(shmb_wait(c, "/none", -1), -EINTR);
	ck_assert_int_eq(shmb_wait(c, "/x", -1), 0);

	ck_assert_int_eq(shmb_wait(c, "/no-1", -1), -EACCES);
	ck_assert_int_eq(shmb_wait(c, "/a/b", -1), -EINVAL);
	ck_assert_int_eq(shmb_wait(c, "/none", -2), -EINVAL);
	/* Also when the rules come to be others meanwhile. */
	start_waiting(&refused, &fixture, "/a");
	expect_waits(&fixture, 1);
	fixture_configure(&fixture, nothing_any_more);
	fixture_call(&fixture, reload, NULL);
	expect_result(&refused, -EACCES);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(beside_a_wait_other_requests_go_on_and_a_cancel_ends_it)
{
	struct fixture fixture;
	struct shmb *c;
	int fd;

	fixture_start(&fixture, &(struct fixture_how){ .config = config });
	c = fixture_connect(&fixture);
	fd = raw_greeted(fixture.socket);
	ck_assert_int_eq(raw_ask(fd, 1, WIRE_WAIT, "a"), 0);
	ck_assert_int_eq(raw_ask(fd, 2, WIRE_STAT, "a"), 0);
	ck_assert_int_eq(raw_status(fd, 2), ENOENT);
	ck_assert_int_eq(raw_ask(fd, 3, WIRE_WAIT, "b"), 0);
	ck_assert_int_eq(raw_status(fd, 3), EBUSY);
	ck_assert_int_eq(raw_cancel(fd, 4, 1), 0);
	ck_assert_int_eq(raw_status(fd, 1), ECANCELED);
	ck_assert_int_eq(raw_ask(fd, 5, WIRE_WAIT, "a"), 0);
	close(shmb_open(c, "/a", O_RDWR | O_CREAT, 0600));
	ck_assert_int_eq(raw_status(fd, 5), 0);
	/* Who goes while he waits leaves nothing. */
	ck_assert_int_eq(raw_ask(fd, 6, WIRE_WAIT, "b"), 0);
	expect_waits(&fixture, 1);
	close(fd);
	expect_waits(&fixture, 0);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* Each object that appears costs those who wait for it, and nobody else. */
START_TEST(many_may_wait_and_each_is_told_of_his_own)
{
	enum { MANY = 300 };
	struct fixture fixture;
	int fd[MANY];
	char name[32];
	struct shmb *c;

	fixture_start(&fixture, &(struct fixture_how){ .config = config });
	c = fixture_connect(&fixture);
	for (uint32_t i = 0; i < MANY; i++) {
		fd[i] = raw_greeted(fixture.socket);
		snprintf(name, sizeof(name), "n-%u", i / 2);
		ck_assert_int_eq(raw_ask(fd[i], i + 1, WIRE_WAIT, name), 0);
	}
	expect_waits(&fixture, MANY);
	for (uint32_t i = 0; i < MANY; i += 2) {
		snprintf(name, sizeof(name), "/n-%u", i / 2);
		close(shmb_open(c, name, O_RDWR | O_CREAT, 0600));
		ck_assert_int_eq(raw_status(fd[i], i + 1), 0);
		ck_assert_int_eq(raw_status(fd[i + 1], i + 2), 0);
		expect_waits(&fixture, MANY - i - 2);
	}
	for (uint32_t i = 0; i < MANY; i++)
		close(fd[i]);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(waits_and_monitors_are_limited_and_given_back)
{
	static const char few[] =
		"limits: { waits-per-user = 2 subscriptions-per-user = 2 }\n"
		"pools: { host: { path = \"@host@\" access = \"grant\" } }\n"
		"rules: ( { name = \"all\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";
	static const uint16_t operations[] = { WIRE_WAIT, WIRE_MONITOR };
	struct raw_reply reply;
	struct fixture fixture;
	int fd[3];

	fixture_start(&fixture, &(struct fixture_how){ .config = few });
	for (size_t i = 0; i < 2; i++) {
		for (int round = 0; round < 2; round++) {
			for (int j = 0; j < 3; j++) {
				fd[j] = raw_greeted(fixture.socket);
				ck_assert_int_eq(raw_ask(fd[j], 1, operations[i], "a"), 0);
				/* A monitor says that it has begun; a wait that it hasn't ended is
				 * learnt by the next reply. */
				ck_assert_int_eq(raw_ask(fd[j], 2, WIRE_STAT, "a"), 0);
				ck_assert(raw_reply(fd[j], &reply));
				if (j == 2)
					ck_assert_int_eq(reply.head.status, EDQUOT);
				else
					ck_assert_int_eq(reply.head.status, i == 0 ? ENOENT : 0);
			}
			for (int j = 0; j < 3; j++)
				close(fd[j]);
			edge_expect_clients(&fixture, 0);
		}
	}
	fixture_stop(&fixture);
}
END_TEST

TCase *server_case_of_waits(void)
{
	TCase *test = tcase_create("waits");

	tcase_set_timeout(test, 120);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, whoever_makes_it_who_waits_is_told);
	tcase_add_test(test, a_wait_ends_by_its_time_by_a_signal_and_by_a_refusal);
	tcase_add_test(test, beside_a_wait_other_requests_go_on_and_a_cancel_ends_it);
	tcase_add_test(test, waits_and_monitors_are_limited_and_given_back);
	tcase_add_test(test, many_may_wait_and_each_is_told_of_his_own);
	return test;
}
