/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The broker as a whole: pools made on demand and released, reloads, listings, temporary names. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/internal.h"
#include "daemon/broker_private.h"
#include "tests/fixture.h"
#include "tests/test.h"

static const char three_pools[] =
	"pools: { host: { path = \"@host@\" access = \"caller\" }\n"
	"         frames: { size = \"1M\" objects = 8 }\n"
	"         own: { per = \"user\" size = \"64K\" objects = 4 } }\n"
	"rules: ( { name = \"frames\" names = \"/frames-*\" allow = \"all\" pool = \"frames\" },\n"
	"         { name = \"own\" names = \"/own-*\" allow = \"all\" pool = \"own\" },\n"
	"         { name = \"nothing\" names = \"/no-*\" allow = [] },\n"
	"         { name = \"all\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";

static void count_instances(struct fixture *fixture, void *argument)
{
	struct store *store = server_broker(fixture->server)->store;
	struct instance *instance = NULL;
	unsigned *count = argument;

	for (*count = 0; (instance = store_next(store, instance ? instance->number : 0));)
		++*count;
}

static unsigned instances(struct fixture *fixture)
{
	unsigned count;

	fixture_call(fixture, count_instances, &count);
	return count;
}

static void find_releasing(struct fixture *fixture, void *argument)
{
	struct store *store = server_broker(fixture->server)->store;
	struct instance *instance = NULL;

	*(bool *)argument = false;
	while ((instance = store_next(store, instance ? instance->number : 0)))
		*(bool *)argument |= instance->state == INSTANCE_RELEASING;
}

/* The keeper has answered whether what was idle is empty. */
static void settle(struct fixture *fixture)
{
	bool releasing = true;

	while (releasing)
		fixture_call(fixture, find_releasing, &releasing);
}

START_TEST(a_name_leads_to_its_rules_pool)
{
	static const struct {
		const char *name, *pool;
		int error;
	} rows[] = {
		{ "/frames-1", "frames", 0 },
		{ "own-1", "own", 0 },
		{ "//x", "host", 0 },
		{ "/no-1", "", -EACCES },
	};
	struct fixture fixture;
	struct shmb_info info;
	struct shmb *c;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	fixture_start(&fixture,
		      &(struct fixture_how){ .config = three_pools, .is_user = !test_is_root() });
	c = fixture_connect(&fixture);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		int fd = shmb_open(c, rows[i].name, O_RDWR | O_CREAT | O_EXCL, 0640);

		if (rows[i].error) {
			ck_assert_int_eq(fd, rows[i].error);
			continue;
		}
		ck_assert_msg(fd >= 0, "%s", shmb_reason(c));
		ck_assert_int_eq(close(fd), 0);
		ck_assert_int_eq(shmb_stat(c, rows[i].name, &info, sizeof(info)), 0);
		ck_assert_str_eq(info.pool, rows[i].pool);
		ck_assert_uint_eq(info.mode & 0777, 0640);
		ck_assert_int_eq(shmb_unlink(c, rows[i].name), 0);
		ck_assert_int_eq(shmb_unlink(c, rows[i].name), -ENOENT);
	}
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(a_pool_made_on_demand_goes_when_it_is_empty_and_idle)
{
	struct fixture fixture;
	struct shmb *c;
	int fd;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	fixture_start(&fixture,
		      &(struct fixture_how){ .config = three_pools, .is_user = !test_is_root() });
	c = fixture_connect(&fixture);
	ck_assert_uint_eq(instances(&fixture), 2);
	fd = shmb_open(c, "/own-1", O_RDWR | O_CREAT, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_uint_eq(instances(&fixture), 3);

	/* Not while it has an object, nor while an unlinked one is open. */
	for (int i = 0; i < 2; i++) {
		fixture_tick(&fixture, 1000000);
		ck_assert_int_eq(shmb_stat(c, "/frames-none", &(struct shmb_info){ 0 },
					   sizeof(struct shmb_info)),
				 -ENOENT);
		ck_assert_int_eq(i == 0 ? shmb_unlink(c, "/own-1") : 0, 0);
		ck_assert_uint_eq(instances(&fixture), 3);
	}
	ck_assert_int_eq(ftruncate(fd, 4096), 0);
	close(fd);
	for (int i = 0; i < 60000 && instances(&fixture) == 3; i++) {
		test_moment();
		fixture_tick(&fixture, 10000000);
		settle(&fixture);
	}
	ck_assert_uint_eq(instances(&fixture), 2);
	/* And is there again when it is wanted. */
	fd = shmb_open(c, "/own-1", O_RDWR | O_CREAT, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

static int raw_reload(struct shmb *c)
{
	return shmb_raw_call(c, WIRE_RELOAD, NULL, 0, NULL, NULL);
}

START_TEST(a_reload_is_all_or_nothing)
{
	struct fixture fixture;
	struct shmb *c;
	int fd;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	fixture_start(&fixture,
		      &(struct fixture_how){ .config = three_pools, .is_user = !test_is_root() });
	c = fixture_connect(&fixture);
	fd = shmb_open(c, "/frames-1", O_RDWR | O_CREAT, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(posix_fallocate(fd, 0, 512 * 1024), 0);

	/* Wrong: nothing changes. */
	fixture_configure(&fixture, "pools: { host: { path = \"@host@\" } }\nrules: ( 7 )\n");
	ck_assert_int_eq(raw_reload(c), -EINVAL);
	ck_assert_ptr_nonnull(strstr(shmb_reason(c), "shmbroker.conf:2"));
	ck_assert_int_ge(close(shmb_open(c, "/frames-1", O_RDWR, 0)), 0);

	/* Below its use: refused, and named. */
	fixture_configure(
		&fixture,
		"pools: { frames: { size = \"128K\" objects = 8 } }\n"
		"rules: ( { name = \"r\" names = \"/*\" allow = \"all\" pool = \"frames\" } )\n");
	ck_assert_int_eq(raw_reload(c), -EBUSY);
	ck_assert_ptr_nonnull(strstr(shmb_reason(c), "\"frames\""));
	ck_assert_int_ge(close(shmb_open(c, "/frames-1", O_RDWR, 0)), 0);

	/* Larger: in place, and the rules with it, for who is connected already. */
	fixture_configure(&fixture, "pools: { frames: { size = \"2M\" objects = 8 } }\n"
				    "rules: ( { name = \"r\" names = \"/frames-*\" allow = \"all\" "
				    "pool = \"frames\" } )\n");
	ck_assert_int_eq(raw_reload(c), 0);
	ck_assert_int_eq(posix_fallocate(fd, 0, 1536 * 1024), 0);
	ck_assert_int_eq(shmb_open(c, "/x", O_RDWR | O_CREAT, 0600), -EACCES);

	/* Its definition gone: kept, closed, until it is empty. */
	fixture_configure(
		&fixture,
		"pools: { host: { path = \"@host@\" } }\n"
		"rules: ( { name = \"r\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n");
	ck_assert_int_eq(raw_reload(c), 0);
	fixture_tick(&fixture, 1000000);
	settle(&fixture);
	ck_assert_int_eq(posix_fallocate(fd, 0, 1536 * 1024), 0);
	ck_assert_uint_eq(instances(&fixture), 2);
	/* And back again, with what was in it. */
	fixture_configure(&fixture, three_pools);
	ck_assert_int_eq(raw_reload(c), -EBUSY);
	ck_assert_int_eq(ftruncate(fd, 4096), 0);
	ck_assert_int_eq(raw_reload(c), 0);
	ck_assert_int_ge(close(shmb_open(c, "/frames-1", O_RDWR, 0)), 0);
	close(fd);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

static int count_info(const struct shmb_info *info, void *userdata)
{
	++*(unsigned *)userdata;
	return 0;
}

START_TEST(a_listing_of_many_comes_in_packets)
{
	struct fixture fixture;
	unsigned count = 0;
	struct shmb *c;
	char name[32];

	fixture_start(
		&fixture,
		&(struct fixture_how){
			.is_user = !test_is_root(),
			.config = "pools: { host: { path = \"@host@\" access = \"grant\" } }\n"
				  "rules: ( { name = \"r\" names = \"/*\" allow = \"all\" "
				  "pool = \"host\" } )\n" });
	c = fixture_connect(&fixture);
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "/object-%d", i);
		close(shmb_open(c, name, O_RDWR | O_CREAT, 0600));
	}
	ck_assert_int_eq(shmb_list(c, NULL, sizeof(struct shmb_info), count_info, &count), 0);
	ck_assert_uint_eq(count, 1000);
	count = 0;
	ck_assert_int_eq(shmb_list(c, "/object-99*", sizeof(struct shmb_info), count_info, &count),
			 0);
	ck_assert_uint_eq(count, 11);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(a_temporary_name_goes_with_its_process)
{
	const struct shmb_how how = {
		.oflag = O_RDWR | O_CREAT, .mode = 0600, .size = 8192, .flags = SHMB_TEMPORARY
	};
	struct fixture fixture;
	struct shmb_info info;
	int ready[2], status, r;
	struct shmb *c;
	char byte;
	pid_t pid;

	fixture_start(&fixture,
		      &(struct fixture_how){
			      .is_user = !test_is_root(),
			      .config = "pools: { host: { path = \"@host@\" } }\n"
					"rules: ( { name = \"r\" names = \"/*\" allow = \"all\" "
					"pool = \"host\" } )\n" });
	ck_assert_int_eq(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		int fd;

		if (shmb_connect(&c, fixture.socket) < 0)
			_exit(1);
		fd = shmb_open_how(c, "/t", &how, sizeof(how));
		shmb_disconnect(c); /* its connection is gone, it isn't */
		if (write(ready[1], fd < 0 ? "n" : "y", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	ck_assert_int_eq(byte, 'y');
	c = fixture_connect(&fixture);
	ck_assert_int_eq(shmb_stat(c, "/t", &info, sizeof(info)), 0);
	ck_assert_int_eq(info.creator_pid, pid);
	ck_assert_uint_eq(info.size, 8192);
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	/* Nobody said in which pass of the loop it goes. */
	while ((r = shmb_stat(c, "/t", &info, sizeof(info))) == 0)
		fixture_tick(&fixture, 0);
	ck_assert_int_eq(r, -ENOENT);
	shmb_disconnect(c);
	close(ready[0]);
	close(ready[1]);
	fixture_stop(&fixture);
}
END_TEST

Suite *suite_broker(void)
{
	Suite *suite = suite_create("broker");
	TCase *test = tcase_create("broker");

	tcase_set_timeout(test, 60);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, a_name_leads_to_its_rules_pool);
	tcase_add_test(test, a_pool_made_on_demand_goes_when_it_is_empty_and_idle);
	tcase_add_test(test, a_reload_is_all_or_nothing);
	tcase_add_test(test, a_listing_of_many_comes_in_packets);
	tcase_add_test(test, a_temporary_name_goes_with_its_process);
	suite_add_tcase(suite, test);
	return suite;
}
