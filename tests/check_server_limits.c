/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The limits on connections, contexts, pools and descriptors: reached, said, given back. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/edge.h"
#include "tests/fault.h"
#include "tests/fixture.h"
#include "tests/raw_client.h"
#include "tests/test.h"

static const char one_pool[] =
	"pools: { host: { path = \"@host@\" access = \"grant\" } }\n"
	"rules: ( { name = \"all\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";

static const char own_pools[] =
	"limits: { pools = 3 pools-per-user = 2 }\n"
	"pools: { own: { per = \"user\" size = \"64K\" objects = 4 }\n"
	"         more: { per = \"user\" size = \"64K\" objects = 4 }\n"
	"         third: { per = \"user\" size = \"64K\" objects = 4 } }\n"
	"rules: ( { name = \"own\" names = \"/own-*\" allow = \"all\" pool = \"own\" },\n"
	"         { name = \"more\" names = \"/more-*\" allow = \"all\" pool = \"more\" },\n"
	"         { name = \"third\" names = \"/*\" allow = \"all\" pool = \"third\" } )\n";

struct asking {
	const char *socket;
	const char *names[3];
	int errors[3];
};

/* Opens one name after the other: 0 when each went as it should. */
static int ask_opens(void *argument)
{
	const struct asking *asking = argument;
	struct shmb *c;

	if (shmb_connect(&c, asking->socket) < 0)
		return 1;
	for (int i = 0; i < 3 && asking->names[i]; i++) {
		int fd = shmb_open(c, asking->names[i], O_RDWR | O_CREAT, 0600);

		if ((fd < 0 ? fd : 0) != asking->errors[i] ||
		    (fd < 0 && !strstr(shmb_reason(c), "too many private pools"))) {
			fprintf(stderr, "%s: %d: %s\n", asking->names[i], fd, shmb_reason(c));
			return 2 + i;
		}
	}
	shmb_disconnect(c);
	return 0;
}

START_TEST(private_pools_are_limited_and_given_back)
{
	struct fixture fixture;
	struct asking first = { fixture.socket,
				{ "/own-1", "/more-1", "/third-1" },
				{ 0, 0, -EDQUOT } };
	struct asking second = { fixture.socket, { "/own-1", "/more-1" }, { 0, -EDQUOT } };
	struct asking after = { fixture.socket, { "/third-2" }, { 0 } };
	struct shmb *c;
	int fd = -1;

	TEST_NEEDS(test_is_root(), "other users take root");
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	fixture_start(&fixture, &(struct fixture_how){ .config = own_pools });
	ck_assert_int_eq(test_run_as(0, 0, NULL, 0, ask_opens, &first), 0);
	ck_assert_int_eq(test_run_as(1000, 1000, NULL, 0, ask_opens, &second), 0);
	c = fixture_connect(&fixture);
	ck_assert_int_eq(shmb_unlink(c, "/own-1"), 0);
	/* Released by the keeper, in its own time. */
	for (time_t end = time(NULL) + 30; fd < 0 && time(NULL) < end;) {
		fixture_tick(&fixture, 1000000);
		fd = shmb_open(c, "/third-3", O_RDWR | O_CREAT, 0600);
	}
	ck_assert_msg(fd >= 0, "%s", shmb_reason(c));
	close(fd);
	ck_assert_int_eq(test_run_as(0, 0, NULL, 0, ask_opens, &after), 0);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* As another user: `count` connections that stay, then one that is turned away. */
struct crowd {
	const char *socket;
	unsigned count;
	int error;
	const char *why;
};

static int crowd(void *argument)
{
	const struct crowd *crowd = argument;
	char text[256];
	int fd;

	for (unsigned i = 0; i < crowd->count; i++)
		if (raw_welcome(raw_connect(crowd->socket), text, sizeof(text)) != 0) {
			fprintf(stderr, "connection %u: %s\n", i, text);
			return 1;
		}
	if (!crowd->error)
		return 0;
	fd = raw_connect(crowd->socket);
	if (raw_welcome(fd, text, sizeof(text)) != crowd->error || !strstr(text, crowd->why)) {
		fprintf(stderr, "the last one: %s\n", text);
		return 2;
	}
	return recv(fd, text, 1, 0) == 0 ? 0 : 3;
}

START_TEST(connections_are_limited_by_user_and_in_all_and_root_keeps_some)
{
	static const char config[] =
		"limits: { connections = 26 connections-per-user = 6 }\n"
		"pools: { host: { path = \"@host@\" } }\n"
		"rules: ( { name = \"r\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";
	struct fixture fixture;
	struct crowd full = { fixture.socket, 6, EDQUOT, "too many connections of this user" };
	struct crowd rest = { fixture.socket, 4, EDQUOT, "too many connections" };
	struct crowd root = { fixture.socket, 6 + 16, EDQUOT, "too many connections of this user" };
	int fd[10];

	TEST_NEEDS(test_is_root(), "other users take root");
	fixture_start(&fixture, &(struct fixture_how){ .config = config });
	/* Twice: what was had is given back. */
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(test_run_as(1000, 1000, NULL, 0, crowd, &full), 0);
		edge_expect_clients(&fixture, 0);
	}
	for (int i = 0; i < 6; i++)
		fd[i] = raw_greeted(fixture.socket);
	ck_assert_int_eq(test_run_as(1001, 1001, NULL, 0, crowd, &rest), 0);
	edge_expect_clients(&fixture, 6);
	for (int i = 0; i < 6; i++)
		close(fd[i]);
	edge_expect_clients(&fixture, 0);
	ck_assert_int_eq(test_run_as(0, 0, NULL, 0, crowd, &root), 0);
	fixture_stop(&fixture);
}
END_TEST

static int sandboxed_crowd(void *argument)
{
	return unshare(CLONE_NEWUSER) < 0 ? 9 : crowd(argument);
}

START_TEST(sandboxed_connections_are_counted_apart)
{
	static const char config[] =
		"limits: { connections = 100 connections-per-user = 6 }\n"
		"pools: { host: { path = \"@host@\" } }\n"
		"rules: ( { name = \"r\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";
	struct fixture fixture;
	struct crowd sandboxed = { fixture.socket, 6, EDQUOT, "too many connections of this user" };
	unsigned count = test_is_root() ? 6 + 16 : 6;
	int fd[6 + 16];

	TEST_NEEDS(test_has_namespaces(), "no user namespaces");
	fixture_start(&fixture, &(struct fixture_how){ .config = config });
	for (unsigned i = 0; i < count; i++)
		fd[i] = raw_greeted(fixture.socket);
	ck_assert_int_eq(test_run_as((uid_t)-1, 0, NULL, 0, sandboxed_crowd, &sandboxed), 0);
	edge_expect_clients(&fixture, count);
	for (unsigned i = 0; i < count; i++)
		close(fd[i]);
	edge_expect_clients(&fixture, 0);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(sandboxed_connections_without_a_context_have_half)
{
	static const char config[] =
		"limits: { connections = 26 connections-per-user = 6 }\n"
		"pools: { host: { path = \"@host@\" } }\n"
		"rules: ( { name = \"r\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";
	struct fixture fixture;
	/* Of those that aren't kept for root. */
	struct crowd sandboxed = { fixture.socket, 5, EDQUOT, "sandboxed programs without" };

	TEST_NEEDS(test_has_namespaces(), "no user namespaces");
	fixture_start(&fixture, &(struct fixture_how){ .config = config });
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(test_run_as((uid_t)-1, 0, NULL, 0, sandboxed_crowd, &sandboxed),
				 0);
		edge_expect_clients(&fixture, 0);
	}
	fixture_stop(&fixture);
}
END_TEST

START_TEST(a_users_own_broker_keeps_no_connections_for_root)
{
	static const char config[] =
		"pools: { host: { path = \"@host@\" } }\n"
		"rules: ( { name = \"r\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";
	struct fixture fixture;
	int fd[4], one_more;

	fixture_start(&fixture,
		      &(struct fixture_how){ .config = config, .is_user = true, .connections = 4 });
	for (int i = 0; i < 4; i++)
		fd[i] = raw_greeted(fixture.socket);
	one_more = raw_connect(fixture.socket);
	ck_assert_int_eq(raw_welcome(one_more, NULL, 0), EDQUOT);
	close(one_more);
	for (int i = 0; i < 4; i++)
		close(fd[i]);
	edge_expect_clients(&fixture, 0);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(a_context_answers_for_its_makers_uid_alone)
{
	char none[] = "", app[] = "org.example.one";
	struct peer peer = { .ids.uid = 100001, .sandboxed = true, .app = none };

	ck_assert(peer_is_apart(&peer));
	peer.app = app;
	peer.maker.uid = 1000;
	ck_assert(peer_is_apart(&peer));
	peer.ids.uid = 1000;
	ck_assert(!peer_is_apart(&peer));
	peer = (struct peer){ .ids.uid = 1000, .app = none };
	ck_assert(!peer_is_apart(&peer));
}
END_TEST

START_TEST(those_without_a_context_have_half_of_all_that_is_counted)
{
	static const struct quota_limit limit = { 5, 2, true }, others = { 5, 2, false };
	struct quota quota = { 0 };
	struct charge charge[5], none;
	int count = 0;

	for (uid_t uid = 100000; count < 3; uid++)
		ck_assert_int_eq(
			quota_charge(&quota, &charge[count++], RESOURCE_SEALED, uid, true, &limit),
			0);
	ck_assert_int_eq(quota_charge(&quota, &none, RESOURCE_SEALED, 100010, true, &limit),
			 -EUSERS);
	ck_assert_int_eq(quota_check(&quota, RESOURCE_SEALED, 100010, true, &limit), -EUSERS);
	while (count < 5)
		ck_assert_int_eq(quota_charge(&quota, &charge[count++], RESOURCE_SEALED, 1000,
					      false, &others),
				 0);
	quota_release(&quota, &charge[--count]);
	ck_assert_int_eq(quota_charge(&quota, &none, RESOURCE_SEALED, 100010, true, &limit),
			 -EUSERS);
	quota_release(&quota, &charge[0]);
	ck_assert_int_eq(quota_charge(&quota, &charge[0], RESOURCE_SEALED, 100010, true, &limit),
			 0);
	while (count > 0)
		quota_release(&quota, &charge[--count]);
	ck_assert_ptr_null(quota.users);
	quota_done(&quota);
}
END_TEST

START_TEST(a_user_has_a_quarter_of_what_there_are_descriptors_for)
{
	static const char config[] =
		"pools: { host: { path = \"@host@\" } }\n"
		"rules: ( { name = \"r\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";
	struct fixture fixture;
	struct crowd user = { fixture.socket, 6, EDQUOT, "too many connections of this user" };

	TEST_NEEDS(test_is_root(), "other users take root");
	fixture_start(&fixture, &(struct fixture_how){ .config = config, .connections = 40 });
	ck_assert_int_eq(test_run_as(1000, 1000, NULL, 0, crowd, &user), 0);
	edge_expect_clients(&fixture, 0);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(a_listing_says_that_it_lacks_a_pool)
{
	static const char config[] =
		"pools: { host: { path = \"@host@\" } }\n"
		"rules: ( { name = \"r\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";
	struct rlimit before, none;
	struct fixture fixture;
	int fd;

	fixture_start(&fixture, &(struct fixture_how){ .config = config });
	fd = raw_greeted(fixture.socket);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = (struct rlimit){ 3, before.rlim_max };
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	ck_assert_int_eq(raw_ask(fd, 1, WIRE_LIST, ""), 0);
	ck_assert_int_eq(raw_status(fd, 1), ENFILE);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
	ck_assert_int_eq(raw_ask(fd, 2, WIRE_LIST, ""), 0);
	ck_assert_int_eq(raw_status(fd, 2), 0);
	close(fd);
	fixture_stop(&fixture);
}
END_TEST

static const char few_contexts[] =
	"limits: { connections = 100 connections-per-user = 12 connections-per-context = 4\n"
	"          contexts = 3 contexts-per-user = 2 }\n"
	"pools: { host: { path = \"@host@\" } }\n"
	"rules: ( { name = \"r\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";

static int make_context(struct shmb *c, char *directory, size_t size)
{
	const struct shmb_context how = { .app = "org.example.one" };

	return shmb_create_context(c, &how, sizeof(how), directory, size);
}

static int contexts_of_another(void *argument)
{
	char directory[128];
	struct shmb *c;

	if (shmb_connect(&c, argument) < 0)
		return 1;
	if (make_context(c, directory, sizeof(directory)) < 0)
		return 2;
	return make_context(c, directory, sizeof(directory)) == -EDQUOT &&
			       strstr(shmb_reason(c), "too many contexts")
		       ? 0
		       : 3;
}

START_TEST(contexts_are_limited_and_given_back)
{
	char directory[128];
	struct fixture fixture;
	struct shmb *c;
	int hold[2];

	TEST_NEEDS(test_is_root(), "other users take root");
	fixture_start(&fixture, &(struct fixture_how){ .config = few_contexts });
	c = fixture_connect(&fixture);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 2; i++) {
			hold[i] = make_context(c, directory, sizeof(directory));
			ck_assert_msg(hold[i] >= 0, "%s", shmb_reason(c));
		}
		ck_assert_int_eq(make_context(c, directory, sizeof(directory)), -EDQUOT);
		ck_assert_str_eq(shmb_reason(c), "too many contexts of this user");
		if (round == 0)
			ck_assert_int_eq(test_run_as(1000, 1000, NULL, 0, contexts_of_another,
						     fixture.socket),
					 0);
		close(hold[0]);
		close(hold[1]);
		edge_expect_clients(&fixture, 1);
	}
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(connections_through_a_context_are_its_own_and_its_makers)
{
	char directory[128], path[160];
	struct fixture fixture;
	struct crowd full = { path, 4, EDQUOT, "too many connections through this context" };
	struct crowd rest = { fixture.socket, 12 - 5, EDQUOT, "too many connections of this user" };
	struct shmb *c;
	int hold, fd[4];

	/* What is kept for root is no context's. */
	if (test_is_root())
		rest.count += 16;
	fixture_start(&fixture, &(struct fixture_how){ .config = few_contexts });
	c = fixture_connect(&fixture);
	hold = make_context(c, directory, sizeof(directory));
	ck_assert_msg(hold >= 0, "%s", shmb_reason(c));
	snprintf(path, sizeof(path), "%s/socket", directory);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(test_run_as((uid_t)-1, 0, NULL, 0, crowd, &full), 0);
		edge_expect_clients(&fixture, 1);
	}
	for (int i = 0; i < 4; i++)
		fd[i] = raw_greeted(path);
	ck_assert_int_eq(test_run_as((uid_t)-1, 0, NULL, 0, crowd, &rest), 0);
	edge_expect_clients(&fixture, 5);
	/* It ends with its hold, and they with it. */
	close(hold);
	for (int i = 0; i < 4; i++) {
		raw_expect_end(fd[i]);
		close(fd[i]);
	}
	edge_expect_clients(&fixture, 1);
	ck_assert_int_ne(access(directory, F_OK), 0);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* In a process of its own, whose descriptors aren't the broker's: comes until there is no room. */
static int visitors(const char *socket, int orders, int answers)
{
	unsigned in = 0;
	int status = 0, fd[64];
	char text[256], byte;

	while (in < 64) {
		fd[in] = raw_connect(socket);
		status = raw_welcome(fd[in], text, sizeof(text));
		if (status != 0)
			break;
		in++;
	}
	if (in == 0 || status != ENFILE || !strstr(text, "no descriptor left"))
		return 10;
	if (write(answers, "f", 1) != 1 || read(orders, &byte, 1) != 1)
		return 11;
	for (unsigned i = 0; i < in; i++)
		close(fd[i]);
	/* It notices, sooner or later: nobody is left to wait without an answer. */
	for (unsigned i = 0; i < 1000; i++) {
		status = raw_welcome(raw_connect(socket), text, sizeof(text));
		if (status != ENFILE)
			return status == 0 ? 0 : 12;
	}
	return 13;
}

/* Uses up what descriptors are left; how many. */
static unsigned use_up(int *fd, unsigned size)
{
	unsigned count = 0;

	while (count < size && (fd[count] = fcntl(0, F_DUPFD_CLOEXEC, 0)) >= 0)
		count++;
	return count;
}

START_TEST(without_descriptors_it_turns_one_away_pauses_and_resumes)
{
	int orders[2], answers[2], spare[16], status, fd;
	struct rlimit limit, low;
	struct fixture fixture;
	struct shmb_info info;
	struct shmb *c;
	unsigned spares;
	char byte;
	pid_t pid;

	fixture_start(&fixture, &(struct fixture_how){ .config = one_pool });
	c = fixture_connect(&fixture);
	fd = raw_greeted(fixture.socket);
	ck_assert_int_eq(pipe2(orders, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(answers, O_CLOEXEC), 0);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(read(orders[0], &byte, 1) == 1
			      ? visitors(fixture.socket, orders[0], answers[1])
			      : 9);
	low = (struct rlimit){ (rlim_t)dup(0) + 8, limit.rlim_max };
	close((int)low.rlim_cur - 8);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
	ck_assert_int_eq(write(orders[1], "g", 1), 1);
	ck_assert_int_eq(read(answers[0], &byte, 1), 1);
	/* Who is connected is told what is wrong, and no name is left. */
	fixture_tick(&fixture, 0);
	spares = use_up(spare, 16);
	ck_assert_int_eq(raw_open(fd, 1, WIRE_READ | WIRE_WRITE | WIRE_CREATE, 0, "left"), 0);
	ck_assert_int_eq(raw_status(fd, 1), ENFILE);
	ck_assert_int_eq(shmb_stat(c, "/left", &info, sizeof(info)), -ENOENT);
	while (spares > 0)
		close(spare[--spares]);
	ck_assert_int_eq(write(orders[1], "g", 1), 1);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "visitors: %x", status);
	edge_expect_served(&fixture, NULL);
	shmb_disconnect(c);
	close(fd);
	for (int i = 0; i < 2; i++) {
		close(orders[i]);
		close(answers[i]);
	}
	edge_expect_clients(&fixture, 0);
	fixture_stop(&fixture);
}
END_TEST

static void pause_accepting(struct fixture *fixture, void *argument)
{
	(void)argument;
	listeners_pause(fixture->server);
}

START_TEST(accepting_that_can_not_go_on_is_tried_again)
{
	struct fixture fixture;
	struct fault_hit hit;

	fault_begin();
	fixture_start(&fixture, &(struct fixture_how){ .config = one_pool });
	fixture_call(&fixture, pause_accepting, NULL);
	fault_arm_call(FAULT_LOOP, FAULT_event_add, 1, ENOMEM);
	edge_expect_served(&fixture, NULL);
	fault_disarm(&hit);
	ck_assert(hit.happened);
	fixture_stop(&fixture);
}
END_TEST

static void look_at_tick(struct fixture *fixture, void *argument)
{
	*(bool *)argument = event_pending(fixture->server->tick_event, EV_TIMEOUT, NULL) != 0;
}

static void ask_for_tick(struct fixture *fixture, void *argument)
{
	struct loop *loop = &fixture->server->loop;

	fault_resume();
	loop->tick_in(loop, 3600 * 1000ull);
	fault_pause();
	look_at_tick(fixture, argument);
}

/* What could not be set for want of memory stands in no other's way. */
START_TEST(a_tick_that_was_not_to_be_had_is_asked_for_again)
{
	struct fixture fixture;
	struct fault_hit hit;
	bool is_set;

	fault_begin();
	fixture_start(&fixture, &(struct fixture_how){ .config = one_pool });
	do {
		fixture_call(&fixture, look_at_tick, &is_set);
	} while (is_set);
	fault_arm_call(FAULT_LOOP, FAULT_event_add, 1, ENOMEM);
	fixture_call(&fixture, ask_for_tick, &is_set);
	fault_disarm(&hit);
	ck_assert(hit.happened && !is_set);
	fixture_call(&fixture, ask_for_tick, &is_set);
	ck_assert(is_set);
	fixture_stop(&fixture);
}
END_TEST

TCase *server_case_of_limits(void)
{
	TCase *test = tcase_create("limits");

	tcase_set_timeout(test, 120);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, private_pools_are_limited_and_given_back);
	tcase_add_test(test, connections_are_limited_by_user_and_in_all_and_root_keeps_some);
	tcase_add_test(test, sandboxed_connections_are_counted_apart);
	tcase_add_test(test, a_listing_says_that_it_lacks_a_pool);
	tcase_add_test(test, sandboxed_connections_without_a_context_have_half);
	tcase_add_test(test, a_users_own_broker_keeps_no_connections_for_root);
	tcase_add_test(test, a_context_answers_for_its_makers_uid_alone);
	tcase_add_test(test, those_without_a_context_have_half_of_all_that_is_counted);
	tcase_add_test(test, a_user_has_a_quarter_of_what_there_are_descriptors_for);
	tcase_add_test(test, contexts_are_limited_and_given_back);
	tcase_add_test(test, connections_through_a_context_are_its_own_and_its_makers);
	tcase_add_test(test, without_descriptors_it_turns_one_away_pauses_and_resumes);
	tcase_add_test(test, accepting_that_can_not_go_on_is_tried_again);
	tcase_add_test(test, a_tick_that_was_not_to_be_had_is_asked_for_again);
	return test;
}
