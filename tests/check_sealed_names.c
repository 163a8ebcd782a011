/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sealed objects whose names go by another way than an unlink, and over a restart: a case of the
 * suite "sealed". */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/broker_private.h"
#include "tests/native.h"
#include "tests/sealed_fixture.h"
#include "tests/store_fixture.h"

static const char larger[] = "pools: { frames: { size = \"2M\" objects = 16 }" HOST RULES;
/* Two pools of one directory, the other first, under a name each time. */
#define BESIDE(name)                                                                               \
	"pools: { " name ": { path = \"@host@\" } frames: { size = \"1M\" objects = 16 }" HOST RULES

/* In the loop's thread: how much is told of holders, before and after a turn of the loop. */
static void take_turn(struct fixture *fixture, void *argument)
{
	struct sealed_set *all = &server_broker(fixture->server)->sealed;
	int *unread = argument;
	char path[2][256];

	for (int i = 0; i < 2; i++)
		snprintf(path[i], sizeof(path[i]), "%s/h-%d", fixture->host, i);
	for (int i = 0; i < 1000; i++)
		ck_assert_int_eq(chmod(path[i % 2], 0), 0);
	ck_assert_int_eq(ioctl(all->holders, FIONREAD, &unread[0]), 0);
	all->holders_watch.ready(&all->holders_watch);
	ck_assert_int_eq(ioctl(all->holders, FIONREAD, &unread[1]), 0);
}

/* Else nobody else was served for as long as he goes on. */
START_TEST(who_touches_them_without_end_has_his_turns_only)
{
	struct fixture fixture;
	char path[256];
	struct shmb *c;
	int unread[2];

	start(&fixture, NULL, config);
	c = fixture_connect(&fixture);
	munmap(publish(c, "/h-0", SIZE, 'a', 0), SIZE);
	munmap(publish(c, "/h-1", SIZE, 'a', 0), SIZE);
	fixture_call(&fixture, take_turn, unread);
	ck_assert_int_gt(unread[1], 0);
	ck_assert_int_lt(unread[1], unread[0]);
	/* What they tell beside it counts nevertheless. */
	snprintf(path, sizeof(path), "%s/h-0", fixture.host);
	ck_assert_int_eq(unlink(path), 0);
	expect_absent(c, "/h-0");
	expect(c, "/h-1", SIZE, 'a');
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

static int publish_and_end(void *argument)
{
	const struct other *other = argument;
	struct shmb *c;

	if (shmb_connect(&c, other->fixture->socket) < 0)
		return 100;
	if (make(c, other->name, SIZE, 0600) < 0 || shmb_publish(c, other->name, 0) < 0)
		return 101;
	raise(SIGKILL);
	return 102;
}

START_TEST(a_temporary_one_goes_with_its_maker)
{
	struct fixture fixture;
	struct other other = { &fixture, "/t-x" };
	struct shmb_info info;
	struct shmb *c;
	uint64_t left = 1;
	int r = 0;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	start(&fixture, NULL, config);
	c = fixture_connect(&fixture);
	close(make(c, "/t-y", SIZE, 0600));
	ck_assert_int_eq(shmb_publish(c, "/t-y", 0), 0);
	info = stat_of(c, "/t-y");
	ck_assert_uint_eq(info.flags, SHMB_INFO_SEALED | SHMB_INFO_TEMPORARY);
	ck_assert_int_eq(info.creator_pid, getpid());
	ck_assert_int_eq(shmb_unlink(c, "/t-y"), 0);
	ck_assert_int_eq(test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, publish_and_end, &other),
			 128 + SIGKILL);
	for (int i = 0; i < 6000 && r == 0; i++) {
		r = shmb_stat(c, "/t-x", &info, sizeof(info));
		poll(NULL, 0, 10);
	}
	ck_assert_int_eq(r, -ENOENT);
	for (int i = 0; i < 6000 && left; i++) {
		fixture_call(&fixture, count_all, &left);
		poll(NULL, 0, 10);
	}
	ck_assert_uint_eq(left, 0);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(a_name_that_others_remove_or_move_is_not_it_any_more)
{
	char path[256], elsewhere[256];
	struct fixture fixture;
	struct stat st;
	struct shmb *c;
	char *map;
	int fd;

	start(&fixture, NULL, config);
	c = fixture_connect(&fixture);
	snprintf(path, sizeof(path), "%s/h-x", fixture.host);
	snprintf(elsewhere, sizeof(elsewhere), "%s/h-y", fixture.host);
	map = publish(c, "/h-x", SIZE, 'a', 0);
	/* Who looks there finds an empty file that he may not open. */
	ck_assert(stat(path, &st) == 0 && S_ISREG(st.st_mode));
	ck_assert(st.st_size == 0 && (st.st_mode & 07777) == 0 && st.st_uid == geteuid());
	ck_assert_int_eq(rename(path, elsewhere), 0);
	expect_absent(c, "/h-x");
	fd = shmb_open(c, "/h-x", O_RDWR | O_CREAT | O_EXCL, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
	ck_assert_uint_eq(stat_of(c, "/h-x").flags, 0);
	ck_assert_int_eq(unlink(elsewhere), 0);
	ck_assert_int_eq(unlink(path), 0);
	munmap(map, SIZE);

	/* Another in its place, while it is there under another name. */
	map = publish(c, "/h-x", SIZE, 'a', 0);
	ck_assert_int_eq(rename(path, elsewhere), 0);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
	fd = shmb_open(c, "/h-x", O_RDWR, 0);
	ck_assert_msg(fd >= 0, "%s", shmb_reason(c));
	close(fd);
	ck_assert_int_eq(unlink(elsewhere), 0);
	munmap(map, SIZE);

	ck_assert_int_eq(unlink(path), 0);
	map = publish(c, "/h-x", SIZE, 'b', 0);
	expect(c, "/h-x", SIZE, 'b');
	ck_assert_int_eq(unlink(path), 0);
	expect_absent(c, "/h-x");
	munmap(map, SIZE);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* --- over a restart --- */

START_TEST(it_goes_on_with_the_next_broker)
{
	struct kept kept = KEPT_NOTHING;
	struct fixture fixture;
	struct shmb_info info;
	struct shmb *c;
	char *map[3];
	int fd;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	start(&fixture, &kept, config);
	c = fixture_connect(&fixture);
	map[0] = publish(c, "/f-x", 512 * KIB, 'a', 0);
	map[1] = publish(c, "/h-x", SIZE, 'b', 0);
	map[2] = publish(c, "/f-y", SIZE, 'c', 0);
	ck_assert_int_eq(shmb_unlink(c, "/f-y"), 0);
	munmap(map[2], SIZE);
	shmb_disconnect(c);
	fixture_leave(&fixture);
	ck_assert_uint_eq(kept.sealed_count, 2);

	start(&fixture, &kept, config);
	c = fixture_connect(&fixture);
	expect(c, "/f-x", 512 * KIB, 'a');
	expect(c, "/h-x", SIZE, 'b');
	memset(map[0], 'd', 512 * KIB);
	expect(c, "/f-x", 512 * KIB, 'd');
	info = stat_of(c, "/f-x");
	ck_assert_uint_eq(info.flags, SHMB_INFO_SEALED);
	ck_assert_uint_eq(info.size, 512 * KIB);
	expect_absent(c, "/f-y");
	/* Its room is taken. */
	ck_assert_int_eq(make(c, "/f-z", 513 * KIB, 0600), -ENOSPC);
	close(make(c, "/f-z", 512 * KIB, 0600));
	shmb_disconnect(c);
	fixture_leave(&fixture);

	/* One whose name went meanwhile is nobody's. */
	fd = open(fixture.host, O_RDONLY | O_DIRECTORY);
	ck_assert_int_eq(unlinkat(fd, "h-x", 0), 0);
	close(fd);
	start(&fixture, &kept, larger);
	ck_assert_uint_eq(kept.sealed_count, 1);
	c = fixture_connect(&fixture);
	expect_absent(c, "/h-x");
	expect(c, "/f-x", 512 * KIB, 'd');
	close(make(c, "/f-z", 1536 * KIB, 0600));
	ck_assert_int_eq(shmb_unlink(c, "/f-x"), 0);
	munmap(map[0], 512 * KIB);
	munmap(map[1], SIZE);
	shmb_disconnect(c);
	fixture_stop(&fixture);
	ck_assert_uint_eq(kept.sealed_count, 0);
	kept_done(&kept);
}
END_TEST

START_TEST(a_broker_that_ended_leaves_no_empty_names_to_the_next)
{
	static const struct timespec other_time[] = { { 5, 5 }, { 5, 5 } };
	char path[256], empty[256];
	struct fixture fixture;
	struct shmb *c;
	int fd;

	/* As after a crash without a service manager: what only looks like one stays. */
	start(&fixture, NULL, config);
	c = fixture_connect(&fixture);
	munmap(publish(c, "/h-x", SIZE, 'a', 0), SIZE);
	snprintf(path, sizeof(path), "%s/h-x", fixture.host);
	snprintf(empty, sizeof(empty), "%s/h-empty", fixture.host);
	fd = open(empty, O_WRONLY | O_CREAT | O_EXCL, 0);
	ck_assert(fd >= 0 && futimens(fd, other_time) == 0);
	close(fd);
	shmb_disconnect(c);
	fixture_leave(&fixture);
	ck_assert_int_eq(access(path, F_OK), 0);

	start(&fixture, NULL, config);
	c = fixture_connect(&fixture);
	expect_absent(c, "/h-x");
	ck_assert_int_eq(access(empty, F_OK), 0);
	munmap(publish(c, "/h-x", SIZE, 'a', 0), SIZE);
	shmb_disconnect(c);
	/* A stop takes them along. */
	fixture_stop(&fixture);
	ck_assert(access(path, F_OK) < 0 && errno == ENOENT);
	ck_assert_int_eq(unlink(empty), 0);
}
END_TEST

/* As another broker has it: empty, and locked for as long as that is there. */
static int make_as_other_broker(const char *path, const char *like)
{
	struct timespec times[2];
	struct stat st;
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(stat(like, &st), 0);
	times[0] = times[1] = st.st_mtim;
	ck_assert_int_eq(futimens(fd, times), 0);
	ck_assert_int_eq(flock(fd, LOCK_EX | LOCK_NB), 0);
	return fd;
}

START_TEST(another_pool_or_broker_of_the_same_directory_takes_none_away)
{
	struct kept kept = KEPT_NOTHING;
	char path[256], like[256];
	struct fixture fixture;
	struct shmb *c;
	int others;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	start(&fixture, &kept, config);
	c = fixture_connect(&fixture);
	munmap(publish(c, "/h-x", SIZE, 'a', 0), SIZE);
	snprintf(path, sizeof(path), "%s/h-other", fixture.host);
	snprintf(like, sizeof(like), "%s/h-x", fixture.host);
	others = make_as_other_broker(path, like);
	fixture_configure(&fixture, BESIDE("b"));
	ck_assert_int_eq(raw_reload(c), 0);
	expect(c, "/h-x", SIZE, 'a');
	ck_assert_int_eq(access(path, F_OK), 0);
	close(others);
	fixture_configure(&fixture, BESIDE("c"));
	ck_assert_int_eq(raw_reload(c), 0);
	expect(c, "/h-x", SIZE, 'a');
	ck_assert(access(path, F_OK) < 0 && errno == ENOENT);
	shmb_disconnect(c);
	fixture_leave(&fixture);

	/* Found again, it is locked as before. */
	start(&fixture, &kept, BESIDE("b"));
	c = fixture_connect(&fixture);
	expect(c, "/h-x", SIZE, 'a');
	fixture_configure(&fixture, BESIDE("c"));
	ck_assert_int_eq(raw_reload(c), 0);
	expect(c, "/h-x", SIZE, 'a');
	shmb_disconnect(c);
	fixture_stop(&fixture);
	kept_done(&kept);
}
END_TEST

static unsigned count_names(const char *path)
{
	DIR *listing = opendir(path);
	const struct dirent *entry;
	unsigned count = 0;

	ck_assert_ptr_nonnull(listing);
	while ((entry = readdir(listing)))
		count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
	closedir(listing);
	return count;
}

static const char *hidden_name(const char *path)
{
	static char name[64];
	DIR *listing = opendir(path);
	const struct dirent *entry;

	ck_assert_ptr_nonnull(listing);
	*name = '\0';
	while ((entry = readdir(listing)))
		if (strncmp(entry->d_name, NAME_RESERVED_PREFIX, strlen(NAME_RESERVED_PREFIX)) == 0)
			snprintf(name, sizeof(name), "%.60s", entry->d_name);
	closedir(listing);
	ck_assert(*name);
	return name;
}

/* A directory is there in its place, whatever is tried. */
static int make_in_vain(struct shmb *c, const char *path, uint64_t flags)
{
	const struct shmb_how how = { .oflag = O_RDWR | O_CREAT,
				      .mode = 0600,
				      .size = SIZE,
				      .flags = SHMB_UNPUBLISHED | flags };
	int fd = shmb_open_how(c, "/h-x", &how, sizeof(how));

	ck_assert_msg(fd >= 0, "%s", shmb_reason(c));
	ck_assert_int_eq(pwrite(fd, "content", 7, 0), 7);
	ck_assert_int_eq(mkdir(path, 0755), 0);
	ck_assert_int_eq(shmb_publish(c, "/h-x", SHMB_REPLACE), -EINVAL);
	ck_assert_int_eq(shmb_publish(c, "/h-x", SHMB_REPLACE), -EINVAL);
	ck_assert_int_eq(shmb_publish(c, "/h-x", 0), -EEXIST);
	return fd;
}

#define OF_ONE_DIRECTORY(access, others)                                                           \
	"pools: { host: { path = \"@host@\" access = \"" access "\" } " others " }\n"              \
	"rules: ( { name = \"h\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n"

static const struct {
	const char *access;
	uint64_t flags;
} in_vain[] = {
	{ "caller", 0 }, { "caller", SHMB_SEALED }, { "grant", 0 }, { "grant", SHMB_SEALED }
};

/* What has lost its last name can't be linked again, says link(2) of O_TMPFILE. */
START_TEST(what_could_not_be_published_can_be_later_and_leaves_nothing_else)
{
	const uint64_t flags = in_vain[_i].flags;
	char text[1024], path[160], content[8] = "";
	struct fixture fixture;
	struct shmb *c;
	int fd;

	snprintf(text, sizeof(text),
		 "pools: { host: { path = \"@host@\" access = \"%s\" } }\n"
		 "rules: ( { name = \"h\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n",
		 in_vain[_i].access);
	start(&fixture, NULL, text);
	snprintf(path, sizeof(path), "%s/h-x", fixture.host);
	c = fixture_connect(&fixture);
	for (unsigned how = 0; how <= SHMB_REPLACE; how += SHMB_REPLACE) {
		close(make_in_vain(c, path, flags));
		ck_assert_int_eq(rmdir(path), 0);
		ck_assert_msg(shmb_publish(c, "/h-x", how) == 0, "%s", shmb_reason(c));
		fd = shmb_open(c, "/h-x", O_RDONLY, 0);
		ck_assert_int_eq(pread(fd, content, 7, 0), 7);
		ck_assert_str_eq(content, "content");
		close(fd);
		ck_assert_int_eq(shmb_unlink(c, "/h-x"), 0);
		ck_assert_uint_eq(count_names(fixture.host), 0);
	}
	close(make_in_vain(c, path, flags));
	ck_assert_int_eq(discard(c, "/h-x"), 0);
	ck_assert_uint_eq(count_names(fixture.host), 1);
	ck_assert_int_eq(rmdir(path), 0);
	close(make_in_vain(c, path, flags));
	shmb_disconnect(c);
	while (count_names(fixture.host) > 1)
		;
	fixture_stop(&fixture);
}
END_TEST

/* What has the name's hidden one has it still, and says so when it hasn't. */
START_TEST(what_waits_to_be_published_is_not_swept_away_by_another_pool)
{
	char path[160], hidden[200];
	struct fixture fixture;
	const char *name;
	struct shmb *c;

	start(&fixture, NULL, OF_ONE_DIRECTORY("caller", ""));
	snprintf(path, sizeof(path), "%s/h-x", fixture.host);
	c = fixture_connect(&fixture);
	close(make_in_vain(c, path, in_vain[_i].flags));
	fixture_configure(&fixture, OF_ONE_DIRECTORY("caller", "other: { path = \"@host@\" }"));
	ck_assert_int_eq(raw_reload(c), 0);
	ck_assert_uint_eq(count_names(fixture.host), 2);
	ck_assert_int_eq(rmdir(path), 0);
	ck_assert_msg(shmb_publish(c, "/h-x", 0) == 0, "%s", shmb_reason(c));
	ck_assert_int_eq(shmb_unlink(c, "/h-x"), 0);

	close(make_in_vain(c, path, in_vain[_i].flags));
	name = hidden_name(fixture.host);
	snprintf(hidden, sizeof(hidden), "%s/%s", fixture.host, name);
	ck_assert_int_eq(unlink(hidden), 0);
	ck_assert_int_eq(rmdir(path), 0);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(shmb_publish(c, "/h-x", SHMB_REPLACE), -ENOENT);
		ck_assert_ptr_nonnull(strstr(shmb_reason(c), "make another"));
	}
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

TCase *sealed_case_of_names(void)
{
	TCase *tests = tcase_create("names");

	tcase_set_timeout(tests, 300);
	tcase_add_checked_fixture(tests, test_fds_setup, test_fds_teardown);
	tcase_add_test(tests, who_touches_them_without_end_has_his_turns_only);
	tcase_add_test(tests, a_temporary_one_goes_with_its_maker);
	tcase_add_test(tests, a_name_that_others_remove_or_move_is_not_it_any_more);
	tcase_add_test(tests, it_goes_on_with_the_next_broker);
	tcase_add_test(tests, a_broker_that_ended_leaves_no_empty_names_to_the_next);
	tcase_add_test(tests, another_pool_or_broker_of_the_same_directory_takes_none_away);
	tcase_add_loop_test(tests, what_could_not_be_published_can_be_later_and_leaves_nothing_else,
			    0, sizeof(in_vain) / sizeof(in_vain[0]));
	tcase_add_loop_test(tests, what_waits_to_be_published_is_not_swept_away_by_another_pool, 0,
			    2);
	return tests;
}
