/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pools that are made when somebody asks for one: who waits meanwhile, how many there can
 * be, when they go. A part of the store's suite.
 */
#include <pthread.h>
#include <sys/resource.h>

#include "tests/store_fixture.h"

void store_add_demand(TCase *tests);

static const char on_demand[] =
	"limits: { contexts-per-user = 512  contexts = 512  pools-per-user = 300 }\n"
	"pools: { user: { per = \"user\" size = \"64K\" objects = 4 }\n"
	"         app: { per = \"app\" size = \"64K\" objects = 4 } }\n"
	"rules: ( { name = \"apps\" app = \"*\" user = @uid@ names = \"/*\" allow = \"all\"\n"
	"           pool = \"app\" },\n"
	"         { name = \"users\" names = \"/*\" allow = \"all\" pool = \"user\" } )\n";

/* The configuration with our own uid in it. */
static struct shmb *begin(struct fixture *fixture, const char *config)
{
	const char *at = strstr(config, "@uid@");
	char text[2048];

	if (at)
		snprintf(text, sizeof(text), "%.*s%u%s", (int)(at - config), config, geteuid(),
			 at + 5);
	else
		snprintf(text, sizeof(text), "%s", config);
	fixture_start(fixture, &(struct fixture_how){ .config = text });
	return fixture_connect(fixture);
}

static void end(struct fixture *fixture, struct shmb *c)
{
	shmb_disconnect(c);
	fixture_stop(fixture);
}

struct opener {
	pthread_t thread;
	const struct fixture *fixture;
	char name[32];
	int result;
};

static void *open_in_thread(void *argument)
{
	struct opener *opener = argument;
	struct shmb *c = fixture_connect(opener->fixture);

	opener->result = try_open(c, opener->name, O_RDWR | O_CREAT);
	shmb_disconnect(c);
	return NULL;
}

static void opener_start(struct opener *opener, const struct fixture *fixture, const char *name)
{
	opener->fixture = fixture;
	snprintf(opener->name, sizeof(opener->name), "%s", name);
	ck_assert_int_eq(pthread_create(&opener->thread, NULL, open_in_thread, opener), 0);
}

static int opener_end(struct opener *opener)
{
	ck_assert_int_eq(pthread_join(opener->thread, NULL), 0);
	return opener->result;
}

/* A process that asks and is killed while it waits. */
static pid_t fork_opener(const struct fixture *fixture)
{
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		struct shmb *c;

		if (shmb_connect(&c, fixture->socket) == 0)
			shmb_open(c, "/gone", O_RDWR | O_CREAT, 0600);
		_exit(0);
	}
	return pid;
}

#define WAITERS 24

START_TEST(all_who_ask_while_a_pool_is_made_or_released_are_answered)
{
	struct opener openers[WAITERS];
	struct fixture fixture;
	struct shmb *c;
	int status;
	pid_t pid;

	NEEDS_PRIVATE_POOLS;
	c = begin(&fixture, on_demand);
	for (int releasing = 0; releasing < 2; releasing++) {
		if (releasing) {
			for (unsigned i = 0; i < 4; i++)
				ck_assert_int_eq(shmb_unlink(c, openers[i].name), 0);
			keeper_hold(&fixture);
			fixture_tick(&fixture, 1000000);
			ck_assert_uint_eq(census_of(&fixture).state[INSTANCE_RELEASING], 1);
		} else {
			keeper_hold(&fixture);
		}
		pid = fork_opener(&fixture);
		await_waiters(&fixture, 1);
		for (unsigned i = 0; i < WAITERS; i++) {
			char name[32];

			snprintf(name, sizeof(name), "/o-%u", i % 4);
			opener_start(&openers[i], &fixture, name);
		}
		await_waiters(&fixture, WAITERS + 1);
		kill(pid, SIGKILL);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		keeper_go_on(&fixture);
		for (unsigned i = 0; i < WAITERS; i++) {
			int result = opener_end(&openers[i]);

			/* The fifth object is the vanished one's, if it came that far. */
			ck_assert_msg(result == 0 || result == -ENOSPC, "%d", result);
		}
		ck_assert_uint_eq(census_of(&fixture).waiters, 0);
		ck_assert_uint_eq(census_of(&fixture).state[INSTANCE_READY], 1);
		shmb_unlink(c, "/gone");
		for (unsigned i = 0; i < 4; i++)
			ck_assert_int_eq(try_open(c, openers[i].name, O_RDWR | O_CREAT), 0);
	}
	end(&fixture, c);
}
END_TEST

START_TEST(what_is_under_way_in_a_pool_keeps_it)
{
	static const struct shmb_how rows[] = {
		{ .oflag = O_RDWR | O_CREAT, .mode = 0600, .flags = SHMB_UNPUBLISHED },
		{ .oflag = O_RDWR | O_CREAT, .mode = 0600, .flags = SHMB_TEMPORARY },
		{ .oflag = O_RDWR | O_CREAT, .mode = 0600 },
	};
	struct fixture fixture;
	struct shmb *c;

	NEEDS_PRIVATE_POOLS;
	c = begin(&fixture, on_demand);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct shmb *other = fixture_connect(&fixture);
		int fd = shmb_open_how(other, "/x", &rows[i], sizeof(rows[i]));

		ck_assert_int_ge(fd, 0);
		if (rows[i].flags == 0) {
			/* Unlinked and open: the kernel alone knows. */
			ck_assert_int_eq(ftruncate(fd, 4096), 0);
			ck_assert_int_eq(shmb_unlink(other, "/x"), 0);
		}
		for (uint64_t turn = 1; turn < 5; turn++) {
			fixture_tick(&fixture, turn * 1000000);
			/* Parked until the keeper has answered, if it was asked. */
			ck_assert_int_eq(try_open(c, "/none", O_RDWR), -ENOENT);
			ck_assert_uint_eq(census_of(&fixture).instances, 1);
		}
		close(fd);
		if (rows[i].flags == SHMB_TEMPORARY)
			ck_assert_int_eq(shmb_unlink(other, "/x"), 0);
		shmb_disconnect(other);
		await_instances(&fixture, 0);
	}
	end(&fixture, c);
}
END_TEST

START_TEST(how_many_there_can_be_is_capped_and_given_back)
{
	static const struct {
		const char *limits;
		unsigned count;
	} rows[] = {
		{ "limits: { pools-per-user = 2 }\n", 2 },
		{ "limits: { pools = 3 }\n", 3 },
	};

	NEEDS_PRIVATE_POOLS;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct fixture fixture;
		struct shmb *c, *through[4];
		char config[1024], app[16];
		int hold[4];

		snprintf(config, sizeof(config), "%s%s", rows[i].limits,
			 strstr(on_demand, "pools: "));
		c = begin(&fixture, config);
		for (unsigned j = 0; j <= rows[i].count; j++) {
			snprintf(app, sizeof(app), "app.n%u", j);
			through[j] = connect_app(c, app, &hold[j]);
			ck_assert_int_eq(try_open(through[j], "/x", O_RDWR | O_CREAT),
					 j < rows[i].count ? 0 : -EDQUOT);
		}
		ck_assert_ptr_nonnull(
			strstr(shmb_reason(through[rows[i].count]), "pools-per-user"));
		ck_assert_int_eq(shmb_unlink(through[0], "/x"), 0);
		await_instances(&fixture, rows[i].count - 1);
		ck_assert_int_eq(try_open(through[rows[i].count], "/x", O_RDWR | O_CREAT), 0);
		for (unsigned j = 0; j <= rows[i].count; j++) {
			shmb_disconnect(through[j]);
			close(hold[j]);
		}
		end(&fixture, c);
	}
}
END_TEST

#define APPS 200

START_TEST(two_hundred_come_and_go_without_a_descriptor_left)
{
	struct fixture fixture;
	struct shmb *c;

	NEEDS_PRIVATE_POOLS;
	c = begin(&fixture, on_demand);
	for (unsigned i = 0; i < APPS; i++) {
		struct shmb *through;
		char app[16];
		int hold;

		snprintf(app, sizeof(app), "app.n%u", i);
		through = connect_app(c, app, &hold);
		ck_assert_int_eq(try_open(through, "/x", O_RDWR | O_CREAT), 0);
		/* Where that takes long the first are released already. */
		ck_assert_uint_ge(census_of(&fixture).instances, 1);
		ck_assert_uint_le(census_of(&fixture).instances, i + 1);
		ck_assert_int_eq(shmb_unlink(through, "/x"), 0);
		shmb_disconnect(through);
		close(hold);
	}
	await_instances(&fixture, 0);
	end(&fixture, c);
}
END_TEST

/* How many pools are mounted in the table, its root apart. */
static unsigned mounted_pools(const struct fixture *fixture)
{
	char path[64], line[1024];
	unsigned count = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/mountinfo", (int)keeper_pid(fixture->keeper));
	file = fopen(path, "re");
	ck_assert_ptr_nonnull(file);
	while (fgets(line, sizeof(line), file))
		count++;
	fclose(file);
	return count - 1;
}

START_TEST(a_pool_whose_descriptors_found_no_room_is_not_left_behind)
{
	struct rlimit before, none;
	struct fixture fixture;
	struct opener opener;
	struct shmb *c;

	NEEDS_PRIVATE_POOLS;
	c = begin(&fixture, on_demand);
	ck_assert_uint_eq(mounted_pools(&fixture), 0);
	keeper_hold(&fixture);
	opener_start(&opener, &fixture, "/x");
	await_waiters(&fixture, 1);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = (struct rlimit){ .rlim_cur = 0, .rlim_max = before.rlim_max };
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	keeper_go_on(&fixture);
	ck_assert_int_eq(opener_end(&opener), -EOPNOTSUPP);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
	while (mounted_pools(&fixture) != 0)
		test_moment();
	/* It is tried again, however often somebody asks. */
	ck_assert_int_eq(try_open(c, "/x", O_RDWR | O_CREAT), -EOPNOTSUPP);
	fixture_tick(&fixture, 1000000);
	ck_assert_int_eq(try_open(c, "/x", O_RDWR | O_CREAT), 0);
	ck_assert_uint_eq(mounted_pools(&fixture), 1);
	end(&fixture, c);
}
END_TEST

/* What the edge does from time to time. */
static void look(struct fixture *fixture, void *argument)
{
	*(unsigned *)argument = store_look(server_broker(fixture->server)->store, &(uint64_t){ 0 });
}

START_TEST(a_pool_that_gets_full_is_said_once)
{
	struct fixture fixture;
	struct heard heard;
	unsigned count;
	struct shmb *c;
	char *log;
	int fd;

	NEEDS_PRIVATE_POOLS;
	hear_begin(&heard);
	c = begin(&fixture, on_demand);
	fd = make_object(c, "/x");
	fixture_call(&fixture, look, &count);
	ck_assert_uint_eq(count, 1);
	ck_assert_int_eq(posix_fallocate(fd, 0, 60 * 1024), 0);
	for (int i = 0; i < 2; i++)
		fixture_call(&fixture, look, &count);
	close(fd);
	end(&fixture, c);
	log = hear_end(&heard);
	ck_assert_msg(lines_with(log, "pool \"user\"", "% full") == 1, "%s", log);
	free(log);
}
END_TEST

START_TEST(whose_an_instance_is_follows_from_the_peer)
{
	static const struct {
		enum pool_per per;
		const char *app, *unit;
		int error;
		uid_t uid;
		const char *text;
		uid_t overflow_uid;
	} rows[] = {
		{ POOL_PER_NONE, "", "", 0, (uid_t)-1, "", (uid_t)-1 },
		{ POOL_PER_NONE, "", "", 0, (uid_t)-1, "", 1000 },
		{ POOL_PER_USER, "org.x", "", 0, 1000, "", (uid_t)-1 },
		{ POOL_PER_USER, "", "", EACCES, 0, "", 1000 },
		{ POOL_PER_APP, "", "a.service", EACCES, 0, "", (uid_t)-1 },
		{ POOL_PER_APP, "org.x", "", 0, 1001, "org.x", 1000 },
		{ POOL_PER_APP, "org.x", "", EACCES, 0, "", 1001 },
		{ POOL_PER_UNIT, "org.x", "", EACCES, 0, "", (uid_t)-1 },
		{ POOL_PER_UNIT, "", "a.service", 0, (uid_t)-1, "a.service", 1000 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		const struct pool pool = { .config.per = rows[i].per };
		const struct peer peer = { .ids.uid = 1000,
					   .maker.uid = 1001,
					   .app = (char *)rows[i].app,
					   .unit = (char *)rows[i].unit };
		const struct peer_self self = { .overflow_uid = rows[i].overflow_uid };
		struct owner owner;

		ck_assert_int_eq(store_owner(&owner, &pool, &peer, &self), rows[i].error);
		if (rows[i].error)
			continue;
		ck_assert_uint_eq(owner.uid, rows[i].uid);
		ck_assert_str_eq(owner.text, rows[i].text);
	}
}
END_TEST

void store_add_demand(TCase *tests)
{
	tcase_add_test(tests, whose_an_instance_is_follows_from_the_peer);
	tcase_add_test(tests, a_pool_that_gets_full_is_said_once);
	tcase_add_test(tests, all_who_ask_while_a_pool_is_made_or_released_are_answered);
	tcase_add_test(tests, what_is_under_way_in_a_pool_keeps_it);
	tcase_add_test(tests, how_many_there_can_be_is_capped_and_given_back);
	tcase_add_test(tests, two_hundred_come_and_go_without_a_descriptor_left);
	tcase_add_test(tests, a_pool_whose_descriptors_found_no_room_is_not_left_behind);
}
