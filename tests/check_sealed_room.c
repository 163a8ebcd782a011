/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How much there may be of sealed objects, and when what they took is free again: a case of the
 * suite "sealed". */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/broker_private.h"
#include "daemon/store_private.h"
#include "tests/raw_client.h"
#include "tests/sealed_fixture.h"
#include "tests/store_fixture.h"

static const char larger[] = "pools: { frames: { size = \"2M\" objects = 16 }" HOST RULES;
static const char smaller[] = "pools: { frames: { size = \"64K\" objects = 16 }" HOST RULES;
static const char moved[] =
	"pools: { frames: { size = \"1M\" objects = 16 }" HOST
	"rules: ( { name = \"f\" names = \"/f-*\" allow = \"all\" pool = \"host\" } )\n";
static const char many[] = "limits: { sealed = 400 }\n"
			   "pools: { frames: { size = \"1M\" objects = 64 }" HOST RULES;
static const char few[] = "limits: { sealed = 8 }\n"
			  "pools: { frames: { size = \"1M\" objects = 64 }" HOST RULES;

/* Until its maker has it no more, by whatever he holds it: 0: a mapping; a descriptor; a path. */
START_TEST(its_memory_counts_until_nobody_has_it)
{
	int fd[8], path[8], count = 0;
	struct fixture fixture;
	struct shmb *c;
	char *map[8];
	char link[32];

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	start(&fixture, NULL, config);
	c = fixture_connect(&fixture);
	for (count = 0; count < 8; count++) {
		fd[count] = make(c, "/f-x", 240 * KIB, 0600);
		if (fd[count] < 0)
			break;
		map[count] = _i == 0 ? shmb_map(fd[count], PROT_READ | PROT_WRITE, NULL) : NULL;
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd[count]);
		path[count] = _i == 2 ? open(link, O_PATH | O_CLOEXEC) : -1;
		if (_i != 1)
			close(fd[count]);
		ck_assert_int_eq(shmb_publish(c, "/f-x", 0), 0);
		ck_assert_int_eq(shmb_unlink(c, "/f-x"), 0);
	}
	ck_assert_int_eq(count, 4);
	ck_assert_int_eq(fd[count], -ENOSPC);
	ck_assert_ptr_nonnull(strstr(shmb_reason(c), "is full"));
	/* What the rest of the pool may be is what they leave, by the kernel's own count. */
	fd[count] = shmb_open(c, "/f-y", O_RDWR | O_CREAT, 0600);
	ck_assert_int_eq(fallocate(fd[count], 0, 0, 64 * KIB), 0);
	ck_assert(fallocate(fd[count], 0, 64 * KIB, 4 * KIB) < 0 && errno == ENOSPC);
	close(fd[count]);
	ck_assert_int_eq(shmb_unlink(c, "/f-y"), 0);

	for (int i = 0; i < count; i++) {
		if (_i == 0)
			munmap(map[i], 240 * KIB);
		else
			close(_i == 1 ? fd[i] : path[i]);
		fd[i] = make(c, "/f-z", 240 * KIB, 0600);
		ck_assert_msg(fd[i] >= 0, "%d: %s", i, shmb_reason(c));
		ck_assert_int_eq(shmb_publish(c, "/f-z", SHMB_REPLACE), 0);
		close(fd[i]);
	}
	ck_assert_int_eq(shmb_unlink(c, "/f-z"), 0);
	fd[0] = make(c, "/f-z", 1024 * KIB, 0600);
	ck_assert_msg(fd[0] >= 0, "%s", shmb_reason(c));
	ck_assert_int_eq(make(c, "/f-y", 4 * KIB, 0600), -ENOSPC);
	close(fd[0]);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(what_is_in_the_pool_already_leaves_less)
{
	struct fixture fixture;
	struct shmb *c;
	int fd, other;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	start(&fixture, NULL, config);
	c = fixture_connect(&fixture);
	other = shmb_open(c, "/f-y", O_RDWR | O_CREAT, 0600);
	ck_assert_int_eq(fallocate(other, 0, 0, 600 * KIB), 0);
	ck_assert_int_eq(make(c, "/f-x", 600 * KIB, 0600), -ENOSPC);
	ck_assert_int_eq(make(c, "/f-x", 2048 * KIB, 0600), -ENOSPC);
	fd = make(c, "/f-x", 400 * KIB, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
	close(other);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(a_slow_service_manager_makes_no_full_pool)
{
	struct kept kept = KEPT_NOTHING;
	struct fixture fixture;
	struct shmb *c;
	char *map;
	int fd;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	kept.is_slow = true;
	start(&fixture, &kept, config);
	c = fixture_connect(&fixture);
	for (int i = 0; i < 5; i++) {
		munmap(publish(c, "/f-x", 600 * KIB, 'a', 0), 600 * KIB);
		ck_assert_int_eq(shmb_unlink(c, "/f-x"), 0);
	}
	/* What somebody has it waits for in vain. */
	map = publish(c, "/f-x", 600 * KIB, 'a', 0);
	ck_assert_int_eq(shmb_unlink(c, "/f-x"), 0);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(make(c, "/f-x", 600 * KIB, 0600), -ENOSPC);
	munmap(map, 600 * KIB);
	fd = make(c, "/f-x", 600 * KIB, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
	kept.is_slow = false;
	shmb_disconnect(c);
	fixture_stop(&fixture);
	kept_done(&kept);
}
END_TEST

static void look_at_last_task(struct fixture *fixture, void *argument)
{
	*(uint64_t *)argument = server_broker(fixture->server)->store->last_task;
}

/* Each is a place in the service manager's store: all of them, and of one user a quarter. */
START_TEST(there_are_so_many_and_no_more)
{
	uint64_t before, after;
	struct fixture fixture;
	struct shmb *c;
	char name[16];
	int fd;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	start(&fixture, NULL, few);
	c = fixture_connect(&fixture);
	for (int i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), "/f-%d", i);
		munmap(publish(c, name, KIB, 'a', 0), KIB);
	}
	ck_assert_int_eq(make(c, "/f-x", KIB, 0600), -EDQUOT);
	ck_assert_ptr_nonnull(strstr(shmb_reason(c), "sealed"));
	/* It left nothing behind, and was no work for the keeper. */
	fixture_call(&fixture, look_at_last_task, &before);
	for (int i = 0; i < 100; i++)
		ck_assert_int_eq(make(c, "/f-x", KIB, 0600), -EDQUOT);
	fixture_call(&fixture, look_at_last_task, &after);
	ck_assert_uint_eq(after, before);
	ck_assert_int_eq(shmb_unlink(c, "/f-0"), 0);
	fd = make(c, "/f-x", 900 * KIB, 0600);
	ck_assert_msg(fd >= 0, "%s", shmb_reason(c));
	close(fd);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* Whoever ends with some under way leaves nothing. */
START_TEST(an_end_at_any_point_gives_all_of_it_back)
{
	struct fixture fixture;
	struct shmb *c;
	uint64_t left;
	int fd;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	start(&fixture, NULL, config);
	for (int i = 0; i < 200; i++) {
		c = fixture_connect(&fixture);
		if (i % 2) {
			/* Gone before the answer: it may wait for the keeper. */
			ck_assert_int_eq(shmb_set_timeout(c, 0), 0);
			fd = make(c, "/f-x", 512 * KIB, 0600);
			ck_assert_msg(fd >= 0 || fd == -ETIMEDOUT, "%d", fd);
			if (fd >= 0)
				close(fd);
		} else {
			close(make(c, "/f-x", 4 * KIB, 0600));
		}
		shmb_disconnect(c);
	}
	for (int i = 0; i < 1000; i++) {
		fixture_call(&fixture, count_all, &left);
		if (left == 0)
			break;
		poll(NULL, 0, 10);
	}
	ck_assert_uint_eq(left, 0);
	c = fixture_connect(&fixture);
	close(make(c, "/f-x", 1024 * KIB, 0600));
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* What shmctl pools shows: the pool's size, and how much of it is used. */
static void count_usage(struct fixture *fixture, void *argument)
{
	struct store *store = server_broker(fixture->server)->store;
	struct pool *pool = store_pool_by_name(store, "frames");
	struct statfs fs;
	uint64_t *ret = argument;

	ck_assert_int_eq(store_usage(pool->single, &fs), 0);
	ret[0] = fs.f_blocks * (uint64_t)fs.f_bsize;
	ret[1] = (fs.f_blocks - fs.f_bfree) * (uint64_t)fs.f_bsize;
}

START_TEST(a_reload_counts_them)
{
	struct fixture fixture;
	struct shmb *admin, *c;
	uint64_t usage[2];
	char *map;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	start(&fixture, NULL, config);
	c = fixture_connect(&fixture);
	admin = fixture_connect(&fixture);
	map = publish(c, "/f-x", 512 * KIB, 'a', 0);
	fixture_call(&fixture, count_usage, usage);
	ck_assert_uint_eq(usage[0], 1024 * KIB);
	ck_assert_uint_eq(usage[1], 512 * KIB);
	fixture_configure(&fixture, smaller);
	ck_assert_int_eq(raw_reload(admin), -EBUSY);
	fixture_configure(&fixture, larger);
	ck_assert_int_eq(raw_reload(admin), 0);
	ck_assert_int_eq(make(c, "/f-y", 1537 * KIB, 0600), -ENOSPC);
	close(make(c, "/f-y", 1536 * KIB, 0600));
	expect(c, "/f-x", 512 * KIB, 'a');
	munmap(map, 512 * KIB);
	shmb_disconnect(admin);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* One that is taken is no work for the service manager, however often it is tried. */
START_TEST(the_service_manager_is_told_of_what_gets_its_name)
{
	struct kept kept = KEPT_NOTHING;
	struct fixture fixture;
	struct shmb *c;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	start(&fixture, &kept, config);
	c = fixture_connect(&fixture);
	munmap(publish(c, "/h-x", SIZE, 'a', 0), SIZE);
	close(make(c, "/h-x", SIZE, 0600));
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(shmb_publish(c, "/h-x", 0), -EEXIST);
	ck_assert_uint_eq(kept.sealed_told, 1);
	ck_assert_int_eq(shmb_publish(c, "/h-x", SHMB_REPLACE), 0);
	ck_assert_uint_eq(kept.sealed_told, 2);
	shmb_disconnect(c);
	fixture_stop(&fixture);
	kept_done(&kept);
}
END_TEST

/* What is set aside once all has been heard of that has ended. */
static void reclaim_and_count(struct fixture *fixture, void *argument)
{
	sealed_reclaim(&server_broker(fixture->server)->sealed);
	count_all(fixture, argument);
}

/* That takes a while, in which nobody else would be served. */
START_TEST(a_large_one_is_freed_elsewhere)
{
	const size_t size = 32 * 1024 * KIB;
	struct fixture fixture;
	struct shmb *c;
	uint64_t left;
	int fd;

	start(&fixture, NULL, config);
	c = fixture_connect(&fixture);
	fd = make(c, "/h-x", size, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fallocate(fd, 0, 0, (off_t)size), 0);
	close(fd);
	if (_i == 0)
		ck_assert_int_eq(shmb_publish(c, "/h-x", 0), 0);
	ck_assert_int_eq(kill(fixture.closer.pid, SIGSTOP), 0);
	ck_assert_int_eq(waitpid(fixture.closer.pid, NULL, WUNTRACED), fixture.closer.pid);
	if (_i == 0)
		ck_assert_int_eq(shmb_unlink(c, "/h-x"), 0);
	else
		ck_assert_int_eq(discard(c, "/h-x"), 0);
	fixture_call(&fixture, reclaim_and_count, &left);
	ck_assert_uint_ge(left, size);
	ck_assert_int_eq(kill(fixture.closer.pid, SIGCONT), 0);
	for (int i = 0; i < 6000 && left; i++) {
		poll(NULL, 0, 10);
		fixture_call(&fixture, reclaim_and_count, &left);
	}
	ck_assert_uint_eq(left, 0);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* Makes one while its test goes on: that waits for the keeper. */
struct maker {
	pthread_t thread;
	struct shmb *c;
	size_t size;
	int fd;
};

static void *run_maker(void *argument)
{
	struct maker *maker = argument;

	maker->fd = make(maker->c, "/f-x", maker->size, 0600);
	return NULL;
}

static void maker_start(struct maker *maker, struct fixture *fixture, size_t size)
{
	*maker = (struct maker){ .c = fixture_connect(fixture), .size = size };
	ck_assert_int_eq(pthread_create(&maker->thread, NULL, run_maker, maker), 0);
	await_waiters(fixture, 1);
}

static int maker_end(struct maker *maker)
{
	pthread_join(maker->thread, NULL);
	if (maker->fd >= 0)
		close(maker->fd);
	shmb_disconnect(maker->c);
	return maker->fd;
}

START_TEST(who_waits_for_room_is_answered_when_the_rules_lead_elsewhere)
{
	struct fixture fixture;
	struct maker maker;
	struct shmb *admin;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	start(&fixture, NULL, config);
	admin = fixture_connect(&fixture);
	keeper_hold(&fixture);
	maker_start(&maker, &fixture, SIZE);
	fixture_configure(&fixture, moved);
	ck_assert_int_eq(raw_reload(admin), 0);
	ck_assert_int_ge(maker_end(&maker), 0);
	keeper_go_on(&fixture);
	shmb_disconnect(admin);
	fixture_stop(&fixture);
}
END_TEST

static void count_aside(struct fixture *fixture, void *argument)
{
	struct store *store = server_broker(fixture->server)->store;
	uint64_t *ret = argument;

	*ret = 0;
	for (struct instance *i = store_next(store, 0); i; i = store_next(store, i->number))
		*ret += i->aside_bytes;
}

static uint64_t size_of_pool(int fd)
{
	struct statfs fs;

	ck_assert_int_eq(fstatfs(fd, &fs), 0);
	return (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize;
}

/* What came free while the keeper was at it, and then refused. */
START_TEST(what_the_keeper_refuses_leaves_the_pool_its_size)
{
	struct fixture fixture;
	struct maker maker;
	struct shmb *c;
	uint64_t aside;
	char *map;
	int fd;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	start(&fixture, NULL, config);
	c = fixture_connect(&fixture);
	fd = shmb_open(c, "/f-y", O_RDWR | O_CREAT, 0600);
	map = publish(c, "/f-z", 256 * KIB, 'a', 0);
	ck_assert_int_eq(shmb_unlink(c, "/f-z"), 0);
	keeper_hold(&fixture);
	maker_start(&maker, &fixture, 512 * KIB);
	ck_assert_int_eq(fallocate(fd, 0, 0, 300 * KIB), 0);
	munmap(map, 256 * KIB);
	do {
		fixture_call(&fixture, count_aside, &aside);
	} while (aside != 512 * KIB);
	keeper_go_on(&fixture);
	ck_assert_int_eq(maker_end(&maker), -ENOSPC);
	for (int i = 0; i < 6000 && size_of_pool(fd) != 1024 * KIB; i++)
		poll(NULL, 0, 10);
	ck_assert_uint_eq(size_of_pool(fd), 1024 * KIB);
	close(fd);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

#define WAITING 30

struct progress {
	uint64_t pass, requests;
};

static void look_at_progress(struct fixture *fixture, void *argument)
{
	*(struct progress *)argument = (struct progress){
		fixture->server->pass, server_broker(fixture->server)->counters.requests
	};
}

static void ask_sealed(int fd)
{
	struct {
		struct wire_open wire;
		char name[3];
	} packet = {
		{ .request = { .serial = 1, .operation = WIRE_OPEN },
		  .flags = WIRE_READ | WIRE_WRITE | WIRE_CREATE,
		  .mode = 0600,
		  .size = KIB,
		  .options = WIRE_UNPUBLISHED | WIRE_SEALED },
		{ 'f', '-', 'x' },
	};

	ck_assert_int_eq(raw_send(fd, &packet, sizeof(packet.wire) + sizeof(packet.name), NULL, 0),
			 0);
}

/* Each of the keeper's answers wakes all of them: they ask again when it is their user's turn. */
START_TEST(who_waits_for_room_asks_again_in_his_turn)
{
	struct progress before, after;
	struct fixture fixture;
	int fd[WAITING];

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	start(&fixture, NULL, many);
	keeper_hold(&fixture);
	for (int i = 0; i < WAITING; i++)
		ask_sealed(fd[i] = raw_greeted(fixture.socket));
	await_waiters(&fixture, WAITING);
	fixture_call(&fixture, look_at_progress, &before);
	keeper_go_on(&fixture);
	for (int i = 0; i < WAITING; i++)
		ck_assert_int_eq(raw_status(fd[i], 1), 0);
	fixture_call(&fixture, look_at_progress, &after);
	ck_assert_uint_ge(after.requests - before.requests, WAITING);
	ck_assert_uint_le(after.requests - before.requests, 2 * (after.pass - before.pass));
	for (int i = 0; i < WAITING; i++)
		close(fd[i]);
	fixture_stop(&fixture);
}
END_TEST

TCase *sealed_case_of_room(void)
{
	TCase *tests = tcase_create("room");

	tcase_set_timeout(tests, 300);
	tcase_add_checked_fixture(tests, test_fds_setup, test_fds_teardown);
	tcase_add_loop_test(tests, its_memory_counts_until_nobody_has_it, 0, 3);
	tcase_add_test(tests, what_is_in_the_pool_already_leaves_less);
	tcase_add_test(tests, a_slow_service_manager_makes_no_full_pool);
	tcase_add_test(tests, there_are_so_many_and_no_more);
	tcase_add_test(tests, an_end_at_any_point_gives_all_of_it_back);
	tcase_add_test(tests, a_reload_counts_them);
	tcase_add_test(tests, the_service_manager_is_told_of_what_gets_its_name);
	tcase_add_loop_test(tests, a_large_one_is_freed_elsewhere, 0, 2);
	tcase_add_test(tests, who_waits_for_room_is_answered_when_the_rules_lead_elsewhere);
	tcase_add_test(tests, who_waits_for_room_asks_again_in_his_turn);
	tcase_add_test(tests, what_the_keeper_refuses_leaves_the_pool_its_size);
	return tests;
}
