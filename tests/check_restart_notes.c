/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is noted of private pools between one broker and the next: notes that say nothing, of what
 * isn't there, or of one pool twice. A case of the suite "restart".
 */
#include <sys/vfs.h>

#include "daemon/store_private.h"
#include "tests/store_fixture.h"

TCase *restart_case_of_notes(void);

#define POOL(how) "pools: { a: { per = \"app\" size = \"64K\" objects = 8 " how "} }\n"
#define RULES "rules: ( { name = \"a\" names = \"/*\" allow = \"all\" pool = \"a\" } )\n"

/* Numbers that no broker comes to here. */
enum { NUMBER_TWICE = 90, NUMBER_IN_USE, NUMBER_GONE, NUMBER_ODD };

static void start(struct fixture *fixture, struct kept *kept, const char *config)
{
	fixture_start(fixture, &(struct fixture_how){ .config = config,
						      .is_user = !test_is_root(),
						      .kept = kept });
}

/* Two apps, each with an object in its pool: opened, or made. */
static void open_objects(struct fixture *fixture, const char *name, int flags)
{
	struct shmb *c = fixture_connect(fixture), *through;
	static const char *const apps[] = { "org.example.a", "org.example.b" };
	int hold;

	for (size_t i = 0; i < 2; i++) {
		through = connect_app(c, apps[i], &hold);
		ck_assert_int_eq(try_open(through, name, flags), 0);
		shmb_disconnect(through);
		close(hold);
	}
	shmb_disconnect(c);
}

/* In the loop's thread: a pool that has an object and the owner of another. */
static void make_in_use(struct fixture *fixture)
{
	const struct keeper_request request = { .id = 1,
						.operation = KEEPER_MAKE,
						.number = NUMBER_IN_USE,
						.size_bytes = 65536,
						.objects = 8 };
	struct keeper_reply reply;

	ck_assert_int_eq(state_ask_keeper(fixture->keeper, &request, &reply), 0);
	close(openat(reply.writable, "y", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	close(reply.writable);
	close(reply.read_only);
}

static void note(struct fixture *fixture, void *argument)
{
	struct store *store = server_broker(fixture->server)->store;
	struct instance *first = store_next(store, 0);
	static const char *const odd[] = { "x/0/-/-/0//a", "4/0/-/-/0//a",	    "2/x/-/-/0//a",
					   "2/0/-/-/x//a", "2/0/-/-/4294967296//a", "2/0/-/-/0" };

	(void)argument;
	make_in_use(fixture);
	for (unsigned number = NUMBER_TWICE; number <= NUMBER_IN_USE; number++)
		ck_assert_int_eq(state_put(&fixture->state, STATE_POOL, number,
					   "%d/0/-/-/%u/org.example.a/a", POOL_PER_APP, geteuid()),
				 0);
	ck_assert_int_eq(state_put(&fixture->state, STATE_POOL, NUMBER_GONE,
				   "%d/0/-/-/%u/org.example.c/a", POOL_PER_APP, geteuid()),
			 0);
	for (unsigned i = 0; i < sizeof(odd) / sizeof(*odd); i++)
		ck_assert_int_eq(
			state_put(&fixture->state, STATE_POOL, NUMBER_ODD + i, "%s", odd[i]), 0);
	/* A directory is read in the order of its making, and not by the number. */
	ck_assert_int_eq(instance_remember(store, first), 0);
}

START_TEST(notes_that_say_nothing_and_second_ones_are_passed_over)
{
	struct kept kept = KEPT_NOTHING;
	struct fixture fixture;
	struct heard heard;
	char *log;

	NEEDS_PRIVATE_POOLS;
	start(&fixture, &kept, POOL("") RULES);
	TEST_NEEDS(fixture.setup.contexts, "no ACLs here");
	open_objects(&fixture, "/x", O_RDWR | O_CREAT | O_EXCL);
	fixture_call(&fixture, note, NULL);
	fixture_leave(&fixture);
	for (unsigned round = 0; round < 2; round++) {
		hear_begin(&heard);
		start(&fixture, &kept, POOL("") RULES);
		open_objects(&fixture, "/x", O_RDWR);
		ck_assert_uint_eq(census_of(&fixture).instances, 2);
		fixture_leave(&fixture);
		log = hear_end(&heard);
		/* Said once, but for what is there. */
		ck_assert_msg(lines_with(log, "note of a pool", "can't be read") ==
				      (round == 0 ? 6 : 0),
			      "%s", log);
		ck_assert_msg(lines_with(log, "org.example.c", "was not there yet") ==
				      (round == 0 ? 1 : 0),
			      "%s", log);
		ck_assert_msg(lines_with(log, "pool \"a\"", "there twice for one owner") == 1, "%s",
			      log);
		free(log);
	}
	start(&fixture, &kept, POOL("") RULES);
	fixture_stop(&fixture);
	kept_done(&kept);
}
END_TEST

static void seal_object(struct shmb *c, size_t size)
{
	const struct shmb_how how = { .oflag = O_RDWR | O_CREAT,
				      .mode = 0600,
				      .size = size,
				      .flags = SHMB_UNPUBLISHED | SHMB_SEALED };
	int fd = shmb_open_how(c, "/x", &how, sizeof(how));

	ck_assert_msg(fd >= 0, "%s", shmb_reason(c));
	close(fd);
	ck_assert_int_eq(shmb_publish(c, "/x", 0), 0);
}

static int take_mount(const char *body, size_t size, struct fdlist *fds, void *userdata)
{
	(void)body;
	(void)size;
	*(int *)userdata = fdlist_steal_only(fds);
	return 0;
}

static int lend(struct shmb *c)
{
	uint64_t flags = 0;
	int mount = -EBADF;

	ck_assert_msg(shmb_raw_call(c, WIRE_LEND, &flags, sizeof(flags), take_mount, &mount) == 0,
		      "%s", shmb_reason(c));
	return mount;
}

/* At the start nobody is refused for it: not for objects, sealed ones, or that it is lent. */
START_TEST(a_kind_that_can_not_change_is_said_once_whoever_has_objects)
{
	static const char *const apps[] = { "org.example.a", "org.example.b" };
	struct kept kept = KEPT_NOTHING;
	struct shmb *c, *through;
	struct fixture fixture;
	struct heard heard;
	int hold[2];
	char *log;

	NEEDS_PRIVATE_POOLS;
	start(&fixture, &kept, POOL("") RULES);
	TEST_NEEDS(fixture.setup.contexts, "no ACLs here");
	c = fixture_connect(&fixture);
	for (size_t i = 0; i < 2; i++) {
		through = connect_app(c, apps[i], &hold[i]);
		if (_i == 0)
			close(make_object(through, "/x"));
		else if (_i == 1)
			seal_object(through, 4096);
		else
			close(lend(through));
		shmb_disconnect(through);
	}
	shmb_disconnect(c);
	fixture_leave(&fixture);
	hear_begin(&heard);
	start(&fixture, &kept, POOL("exec = true ") RULES);
	ck_assert_uint_eq(census_of(&fixture).instances, 2);
	if (_i < 2)
		open_objects(&fixture, "/x", O_RDONLY);
	close(hold[0]);
	close(hold[1]);
	fixture_stop(&fixture);
	kept_done(&kept);
	log = hear_end(&heard);
	ck_assert_msg(lines_with(log, "pool \"a\" has objects or is lent", "stay as they were") ==
			      1,
		      "%s", log);
	free(log);
}
END_TEST

#define SIZED(size) "pools: { a: { size = \"" size "\" objects = 8 } }\n" RULES

/* Whether a new object can have so much. */
static bool has_room(struct shmb *c, off_t bytes)
{
	int fd = make_object(c, "/y"), error = posix_fallocate(fd, 0, bytes);

	close(fd);
	ck_assert_int_eq(shmb_unlink(c, "/y"), 0);
	ck_assert(error == 0 || error == ENOSPC);
	return error == 0;
}

/* Objects of the pool's own, or memory beside it. */
START_TEST(limits_below_what_is_used_count_when_they_can_be_set)
{
	struct kept kept = KEPT_NOTHING;
	struct fixture fixture;
	struct heard heard;
	struct shmb *c;
	char *log;
	int fd;

	NEEDS_PRIVATE_POOLS;
	start(&fixture, &kept, SIZED("256K"));
	c = fixture_connect(&fixture);
	if (_i == 0) {
		fd = make_object(c, "/x");
		ck_assert_int_eq(posix_fallocate(fd, 0, 65536), 0);
		close(fd);
	} else {
		seal_object(c, 65536);
	}
	shmb_disconnect(c);
	fixture_leave(&fixture);
	hear_begin(&heard);
	start(&fixture, &kept, SIZED("32K"));
	c = fixture_connect(&fixture);
	ck_assert(has_room(c, 128 * 1024));
	ck_assert_int_eq(raw_reload(c), -EBUSY);
	ck_assert_int_eq(shmb_unlink(c, "/x"), 0);
	/* That nobody has its memory any more is seen a while later. */
	while (raw_reload(c) == -EBUSY)
		test_moment();
	ck_assert(!has_room(c, 64 * 1024));
	ck_assert(has_room(c, 32 * 1024));
	shmb_disconnect(c);
	fixture_stop(&fixture);
	kept_done(&kept);
	log = hear_end(&heard);
	ck_assert_msg(lines_with(log, "pool \"a\"", "keeps its old limits") == 1, "%s", log);
	free(log);
}
END_TEST

#define FEW(objects) "pools: { a: { per = \"app\" size = \"64K\" objects = " objects " } }\n" RULES

START_TEST(limits_that_are_kept_are_said_once_whoever_uses_more)
{
	struct kept kept = KEPT_NOTHING;
	struct fixture fixture;
	struct heard heard;
	char *log;

	NEEDS_PRIVATE_POOLS;
	start(&fixture, &kept, FEW("2"));
	TEST_NEEDS(fixture.setup.contexts, "no ACLs here");
	open_objects(&fixture, "/x", O_RDWR | O_CREAT | O_EXCL);
	open_objects(&fixture, "/y", O_RDWR | O_CREAT | O_EXCL);
	fixture_leave(&fixture);
	hear_begin(&heard);
	start(&fixture, &kept, FEW("1"));
	open_objects(&fixture, "/y", O_RDWR);
	fixture_stop(&fixture);
	kept_done(&kept);
	log = hear_end(&heard);
	ck_assert_msg(lines_with(log, "pool \"a\" keeps its old limits", "it uses more") == 1, "%s",
		      log);
	free(log);
}
END_TEST

static void make_file(const struct instance *instance, const char *name, mode_t mode, off_t size)
{
	int fd = openat(instance->writable, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, size), 0);
	close(fd);
}

/*
 * As a broker leaves it that ends between the link and the rename of a replace, or between the name
 * and the size of an object; and what only looks like that.
 */
static void leave_unfinished(struct fixture *fixture, void *argument)
{
	struct instance *instance = store_next(server_broker(fixture->server)->store, 0);
	int fd;

	(void)argument;
	make_file(instance, ".shmbroker.0123456789abcdef", 0600, 0);
	make_file(instance, "unfinished", 01600, 0);
	make_file(instance, "unfinished-2", 01600, 4096);
	make_file(instance, "empty", 0600, 0);
	fd = openat(instance->writable, "sticky", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 01600);
	ck_assert(fd >= 0 && write(fd, "used", 4) == 4);
	close(fd);
}

static void count_files(struct fixture *fixture, void *argument)
{
	struct instance *instance = store_next(server_broker(fixture->server)->store, 0);
	struct statfs fs;

	ck_assert_int_eq(store_usage(instance, &fs), 0);
	*(unsigned *)argument = (unsigned)(fs.f_files - fs.f_ffree);
}

static void expect_size(struct shmb *c, const char *name, uint64_t size)
{
	struct shmb_info info;

	ck_assert_int_eq(shmb_stat(c, name, &info, sizeof(info)), 0);
	ck_assert_uint_eq(info.size, size);
}

START_TEST(what_was_never_finished_is_swept)
{
	const struct shmb_how how = { .oflag = O_RDWR | O_CREAT, .mode = 0600, .size = 4096 };
	struct kept kept = KEPT_NOTHING;
	struct fixture fixture;
	struct shmb *c;
	struct stat st;
	unsigned files;
	int fd;

	NEEDS_PRIVATE_POOLS;
	start(&fixture, &kept, SIZED("64K"));
	c = fixture_connect(&fixture);
	fd = shmb_open_how(c, "/x", &how, sizeof(how));
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert(st.st_mode == (S_IFREG | 0600) && st.st_size == 4096);
	close(fd);
	shmb_disconnect(c);
	fixture_call(&fixture, leave_unfinished, NULL);
	fixture_leave(&fixture);
	start(&fixture, &kept, SIZED("64K"));
	c = fixture_connect(&fixture);
	ck_assert_int_eq(shmb_open(c, "/unfinished", O_RDONLY, 0), -ENOENT);
	ck_assert_int_eq(shmb_open(c, "/unfinished-2", O_RDONLY, 0), -ENOENT);
	expect_size(c, "/x", 4096);
	expect_size(c, "/empty", 0);
	expect_size(c, "/sticky", 4);
	shmb_disconnect(c);
	/* The directory, and what has a name. */
	fixture_call(&fixture, count_files, &files);
	ck_assert_uint_eq(files, 4);
	fixture_stop(&fixture);
	kept_done(&kept);
}
END_TEST

static int make_context(void *argument)
{
	const struct shmb_context how = { .app = "org.example.a" };
	const struct fixture *fixture = argument;
	char directory[128];
	struct shmb *c;
	int hold;

	EXPECT(shmb_connect(&c, fixture->socket) == 0);
	hold = shmb_create_context(c, &how, sizeof(how), directory, sizeof(directory));
	if (hold < 0)
		EXPECT(hold == -EOPNOTSUPP && strstr(shmb_reason(c), "more groups"));
	shmb_disconnect(c);
	return hold < 0 ? 2 : 0;
}

/* Cut short they would be another maker's. */
START_TEST(groups_that_can_not_all_be_noted_make_no_context)
{
	struct kept kept = KEPT_NOTHING;
	struct fixture fixture;
	gid_t groups[400];

	TEST_NEEDS(test_is_root(), "root, for other groups");
	NEEDS_PRIVATE_POOLS;
	for (gid_t i = 0; i < 400; i++)
		groups[i] = 2000000000 + i;
	start(&fixture, &kept, SIZED("64K"));
	TEST_NEEDS(fixture.setup.contexts, "no ACLs here");
	ck_assert_int_eq(test_run_as(12345, 12345, groups, 350, make_context, &fixture), 0);
	ck_assert_int_eq(test_run_as(12345, 12345, groups, 400, make_context, &fixture), 2);
	fixture_stop(&fixture);
	kept_done(&kept);
	/* Where nothing is kept nothing has to fit. */
	start(&fixture, NULL, SIZED("64K"));
	ck_assert_int_eq(test_run_as(12345, 12345, groups, 400, make_context, &fixture), 0);
	fixture_stop(&fixture);
}
END_TEST

TCase *restart_case_of_notes(void)
{
	TCase *test = tcase_create("notes");

	tcase_set_timeout(test, 120);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, notes_that_say_nothing_and_second_ones_are_passed_over);
	tcase_add_loop_test(test, a_kind_that_can_not_change_is_said_once_whoever_has_objects, 0,
			    3);
	tcase_add_loop_test(test, limits_below_what_is_used_count_when_they_can_be_set, 0, 2);
	tcase_add_test(test, limits_that_are_kept_are_said_once_whoever_uses_more);
	tcase_add_test(test, what_was_never_finished_is_swept);
	tcase_add_test(test, groups_that_can_not_all_be_noted_make_no_context);
	return test;
}
