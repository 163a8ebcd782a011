/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How much one pass of the loop takes on of what becomes due all at once: counted, in a broker that
 * finds it so. A case of the suite "server".
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/broker_private.h"
#include "proto/protocol.h"
#include "tests/edge.h"
#include "tests/raw_client.h"
#include "tests/test.h"

#define ASKED 5 /* its socket holds the replies */

static const char one_pool[] =
	"pools: { host: { path = \"@host@\" access = \"grant\" } }\n"
	"rules: ( { name = \"r\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";

#define MAKERS 10  /* with two events each: as many as the loop takes at once (32) */
#define NAMES 80   /* of each */
#define A_PASS 128 /* names that one may remove */

/* Makes temporary names, says so, and ends when there is nothing more to read. */
static int make_names(const char *socket, int number, int made, int go)
{
	struct shmb_how how = { .oflag = O_RDWR | O_CREAT, .mode = 0600, .flags = SHMB_TEMPORARY };
	struct shmb *c;
	char name[32], byte = 0;

	EXPECT(shmb_connect(&c, socket) == 0);
	for (int i = 0; i < NAMES; i++) {
		int fd;

		snprintf(name, sizeof(name), "/of-%d-%d", number, i);
		fd = shmb_open_how(c, name, &how, sizeof(how));
		EXPECT(fd >= 0);
		close(fd);
	}
	EXPECT(write(made, &byte, 1) == 1);
	return read(go, &byte, 1) == 0 ? 0 : 1;
}

/* An event of each pass: how many of the names went since that of the pass before, at most. */
struct in_each_pass {
	struct fixture *fixture;
	struct watch watch;
	int always_ready;
	int go; /* closed, it ends the makers */
	uint32_t left, most;
};

static uint32_t *temporary_names(struct fixture *fixture)
{
	return &server_broker(fixture->server)->quota.total[RESOURCE_TEMPORARY];
}

static void see_pass(struct watch *watch)
{
	struct in_each_pass *each = (struct in_each_pass *)((char *)watch -
							    offsetof(struct in_each_pass, watch));
	uint32_t left = *temporary_names(each->fixture);

	if (each->left - left > each->most)
		each->most = each->left - left;
	each->left = left;
}

/* And the loop stands still until all of them have ended: it finds that at once. */
static void end_makers(struct fixture *fixture, void *argument)
{
	struct in_each_pass *each = argument;
	struct loop *loop = &fixture->server->loop;
	int status;

	each->always_ready = eventfd(1, EFD_CLOEXEC);
	ck_assert_int_eq(loop->watch(loop, &each->watch, each->always_ready), 0);
	each->left = *temporary_names(fixture);
	ck_assert_uint_eq(each->left, MAKERS * NAMES);
	close(each->go);
	for (int i = 0; i < MAKERS; i++) {
		ck_assert_int_gt(waitpid(-1, &status, 0), 0);
		ck_assert_int_eq(status, 0);
	}
}

static void count_left(struct fixture *fixture, void *argument)
{
	*(uint32_t *)argument = *temporary_names(fixture);
}

static void see_no_more(struct fixture *fixture, void *argument)
{
	struct in_each_pass *each = argument;
	struct loop *loop = &fixture->server->loop;

	loop->unwatch(loop, &each->watch);
	close(each->always_ready);
}

START_TEST(temporary_names_of_many_processes_go_one_part_after_another)
{
	struct fixture fixture;
	struct in_each_pass each = { .fixture = &fixture, .watch.ready = see_pass };
	int go[2], made[2];
	uint32_t left;
	char byte;

	ck_assert_int_eq(pipe2(go, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(made, O_CLOEXEC), 0);
	fixture_start(&fixture,
		      &(struct fixture_how){ .config = one_pool, .is_user = !test_is_root() });
	fflush(NULL);
	for (int i = 0; i < MAKERS; i++)
		if (fork() == 0) {
			close(go[1]);
			_exit(make_names(fixture.socket, i, made[1], go[0]));
		}
	for (int i = 0; i < MAKERS; i++)
		ck_assert_int_eq(read(made[0], &byte, 1), 1);

	each.go = go[1];
	fixture_call(&fixture, end_makers, &each);
	do {
		fixture_call(&fixture, count_left, &left);
	} while (left > 0);
	fixture_call(&fixture, see_no_more, &each);
	ck_assert_uint_gt(each.most, 0);
	/* Behind it in one pass, and before it in the next. */
	ck_assert_uint_le(each.most, 2 * A_PASS);
	close(go[0]);
	close(made[0]);
	close(made[1]);
	fixture_stop(&fixture);
}
END_TEST

static const char private_pool[] =
	"pools: { made: { size = \"80M\" objects = 100 } }\n"
	"rules: ( { name = \"r\" names = \"/*\" allow = \"all\" pool = \"made\" } )\n";

#define MIB (1024ul * 1024)
#define UNPUBLISHED 60
#define PART 17 /* freed in one pass, in MiB, and one that was begun */

START_TEST(memory_that_a_connection_leaves_behind_is_freed_in_parts)
{
	struct shmb_how how = { .oflag = O_RDWR | O_CREAT | O_EXCL,
				.mode = 0600,
				.size = MIB,
				.flags = SHMB_UNPUBLISHED };
	struct fixture fixture;
	struct edge_hold hold;
	unsigned long before, now;
	struct shmb *c;
	char name[32];
	int fd;

	TEST_NEEDS(test_has_namespaces(), "private pools take namespaces");
	fixture_start(&fixture,
		      &(struct fixture_how){ .config = private_pool, .is_user = !test_is_root() });
	c = fixture_connect(&fixture);
	for (unsigned i = 0; i < UNPUBLISHED; i++) {
		snprintf(name, sizeof(name), "/left-%u", i);
		fd = shmb_open_how(c, name, &how, sizeof(how));
		ck_assert_msg(fd >= 0, "%s", shmb_reason(c));
		ck_assert_int_eq(posix_fallocate(fd, 0, MIB), 0);
		close(fd);
	}
	fd = raw_greeted(fixture.socket);
	edge_hold(&hold, &fixture);
	for (uint32_t i = 0; i < ASKED; i++)
		ck_assert_int_eq(raw_ask(fd, i, WIRE_POOLS, ""), 0);
	shmb_disconnect(c);
	edge_let_go(&hold);
	before = UNPUBLISHED * MIB;
	for (uint32_t i = 0; i < ASKED; i++, before = now) {
		now = edge_next_count(fd, i, "used");
		/* Its end is a request of the same user's: that may be two passes. */
		ck_assert_msg(before - now <= 2 * PART * MIB, "%lu bytes at once", before - now);
	}
	while (before > 0) {
		ck_assert_int_eq(raw_ask(fd, ASKED, WIRE_POOLS, ""), 0);
		before = edge_next_count(fd, ASKED, "used");
	}
	close(fd);
	fixture_stop(&fixture);
}
END_TEST

#define MONITORS 60 /* by subscriptions-per-user */

/* Subscribers, and those that were told of the last event. */
static void count_told(struct fixture *fixture, unsigned *told)
{
	struct notify *notify = &server_broker(fixture->server)->notify;
	struct subscriber *subscriber;

	*told = 0;
	LIST_FOREACH (subscriber, &notify->subscribers, entry)
		*told += notify->serial > 0 && subscriber->looked == notify->serial;
}

/* Something appears, and the loop comes to it: in its place. */
static void look_once(struct fixture *fixture, void *argument)
{
	struct notify *notify = &server_broker(fixture->server)->notify;
	char path[512], name[251];

	memset(name, 'a', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	snprintf(path, sizeof(path), "%s/%s", fixture->host, name);
	ck_assert_int_eq(mknod(path, S_IFREG | 0600, 0), 0);
	notify->watch.ready(&notify->watch);
	count_told(fixture, argument);
}

static void look_again(struct fixture *fixture, void *argument)
{
	count_told(fixture, argument);
}

/* With the longest of patterns to match. */
static void subscribe_many(struct fixture *fixture, int fd[MONITORS])
{
	static struct raw_reply reply;
	char pattern[256] = "*";

	for (int i = 0; i < 62; i++)
		strcat(pattern, "[!b]");
	fixture_start(fixture, &(struct fixture_how){ .config = one_pool });
	for (unsigned i = 0; i < MONITORS; i++) {
		fd[i] = raw_greeted(fixture->socket);
		ck_assert_int_eq(raw_ask(fd[i], i, WIRE_MONITOR, pattern), 0);
		ck_assert(raw_reply(fd[i], &reply));
		ck_assert_int_eq(reply.head.status, 0);
	}
}

START_TEST(patterns_that_take_long_to_match_are_looked_at_one_after_another)
{
	struct fixture fixture;
	static struct raw_reply reply;
	unsigned told;
	int fd[MONITORS];

	subscribe_many(&fixture, fd);
	fixture_call(&fixture, look_once, &told);
	ck_assert_uint_gt(told, 0);
	ck_assert_uint_le(told, 2);
	while (told < MONITORS)
		fixture_call(&fixture, look_again, &told);
	/* And nobody is left out, or told twice. */
	for (unsigned i = 0; i < MONITORS; i++) {
		ck_assert(raw_reply(fd[i], &reply));
		ck_assert_ptr_nonnull(memmem(reply.body, reply.body_size, "aaaa", 4));
		ck_assert_int_eq(recv(fd[i], &reply, sizeof(reply), MSG_DONTWAIT), -1);
		close(fd[i]);
	}
	fixture_stop(&fixture);
}
END_TEST

static unsigned woken;

static void count_wake(struct waiter *waiter)
{
	(void)waiter;
	woken++;
}

/* All in one pass, in which not all watchers can be told. */
static void look_and_wake(struct fixture *fixture, void *argument)
{
	struct broker *broker = server_broker(fixture->server);
	struct notify *notify = &broker->notify;
	struct caller *caller;
	char path[512];

	LIST_FOREACH (caller, &broker->callers, entry)
		caller->waiter.wake = count_wake;
	look_once(fixture, argument);
	snprintf(path, sizeof(path), "%s/awaited", fixture->host);
	ck_assert_int_eq(mknod(path, S_IFREG | 0600, 0), 0);
	woken = 0; /* the watchers, too, that were told */
	notify->appearing_watch.ready(&notify->appearing_watch);
	ck_assert_uint_eq(woken, 1);
}

/* As if their connections had ended in that pass. */
static void leave_all(struct fixture *fixture, void *argument)
{
	struct broker *broker = server_broker(fixture->server);
	struct subscriber *subscriber;

	look_once(fixture, argument);
	while ((subscriber = LIST_FIRST(&broker->notify.subscribers)))
		notify_unsubscribe(broker, subscriber);
}

START_TEST(who_waits_is_woken_before_all_watchers_are_told)
{
	struct fixture fixture;
	unsigned told;
	int fd[MONITORS], waiting;

	subscribe_many(&fixture, fd);
	waiting = raw_greeted(fixture.socket);
	ck_assert_int_eq(raw_ask(waiting, 1, WIRE_WAIT, "awaited"), 0);
	edge_expect_served(&fixture, NULL);
	fixture_call(&fixture, look_and_wake, &told);
	ck_assert_uint_lt(told, MONITORS);
	for (unsigned i = 0; i < MONITORS; i++)
		close(fd[i]);
	close(waiting);
	fixture_stop(&fixture);
}
END_TEST

/* More than the kernel keeps of them, while the loop stands still. */
static void overflow(struct fixture *fixture)
{
	char path[512], most[16] = "";
	int limit = open("/proc/sys/fs/inotify/max_queued_events", O_RDONLY | O_CLOEXEC);

	ck_assert_int_gt(read(limit, most, sizeof(most) - 1), 0);
	close(limit);
	snprintf(path, sizeof(path), "%s/often", fixture->host);
	for (long i = 0; i <= strtol(most, NULL, 10) / 2; i++) {
		ck_assert_int_eq(mknod(path, S_IFREG | 0600, 0), 0);
		ck_assert_int_eq(unlink(path), 0);
	}
}

START_TEST(a_watcher_hears_that_the_kernel_kept_not_all)
{
	static struct raw_reply reply;
	struct fixture fixture;
	struct edge_hold hold;
	int fd;

	fixture_start(&fixture, &(struct fixture_how){ .config = one_pool });
	fd = raw_greeted(fixture.socket);
	ck_assert_int_eq(raw_ask(fd, 1, WIRE_MONITOR, "none"), 0);
	ck_assert(raw_reply(fd, &reply));
	edge_hold(&hold, &fixture);
	overflow(&fixture);
	edge_let_go(&hold);
	ck_assert(raw_reply(fd, &reply));
	ck_assert_ptr_nonnull(memmem(reply.body, reply.body_size, "lost", 4));
	close(fd);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(watchers_who_leave_while_they_are_told_keep_nothing_from_the_next)
{
	static struct raw_reply reply;
	struct fixture fixture;
	unsigned told;
	int fd[MONITORS], next;

	subscribe_many(&fixture, fd);
	fixture_call(&fixture, leave_all, &told);
	for (unsigned i = 0; i < MONITORS; i++)
		close(fd[i]);
	next = raw_greeted(fixture.socket);
	ck_assert_int_eq(raw_ask(next, 1, WIRE_MONITOR, ""), 0);
	ck_assert(raw_reply(next, &reply));
	edge_expect_served(&fixture, NULL);
	ck_assert(raw_reply(next, &reply));
	ck_assert_ptr_nonnull(memmem(reply.body, reply.body_size, "good", 4));
	close(next);
	fixture_stop(&fixture);
}
END_TEST

TCase *server_case_of_passes(void)
{
	TCase *test = tcase_create("passes");

	tcase_set_timeout(test, 60);
	tcase_add_test(test, temporary_names_of_many_processes_go_one_part_after_another);
	tcase_add_test(test, memory_that_a_connection_leaves_behind_is_freed_in_parts);
	tcase_add_test(test, patterns_that_take_long_to_match_are_looked_at_one_after_another);
	tcase_add_test(test, who_waits_is_woken_before_all_watchers_are_told);
	tcase_add_test(test, a_watcher_hears_that_the_kernel_kept_not_all);
	tcase_add_test(test, watchers_who_leave_while_they_are_told_keep_nothing_from_the_next);
	return test;
}
