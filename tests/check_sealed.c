/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* SHMB_SEALED: what is published so can't be changed by anybody but its maker's mapping. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/broker_private.h"
#include "tests/attack.h"
#include "tests/native.h"
#include "tests/sealed_fixture.h"
#include "tests/store_fixture.h"

static const char reading[] =
	"pools: {" HOST "rules: ( { name = \"r\" names = \"/h-*\" allow = [ \"read\", \"list\" ] "
	"pool = \"host\" } )\n";

/* So that a directory has no twin. */
static const struct keeper_fault no_twin = { "twin unshare", EPERM };

/* "frames" needs a private pool; a directory does without any namespace. */
static const char *const names[] = { "/f-x", "/h-x" };
#define FOREACH_NAME(name)                                                                         \
	for (size_t name##_i = test_has_namespaces() ? 0 : 1; name##_i < 2; name##_i++)            \
		for (const char *name = names[name##_i]; name; name = NULL)

START_TEST(what_is_published_is_read_and_its_maker_goes_on_writing)
{
	struct fixture fixture;
	struct shmb_info info;
	uint64_t features;
	struct shmb *c;
	char *map;
	int fd;

	start(&fixture, NULL, config);
	c = fixture_connect(&fixture);
	ck_assert_int_eq(shmb_features(c, &features), 0);
	ck_assert(features & SHMB_FEATURE_SEALED);
	FOREACH_NAME(name)
	{
		map = publish(c, name, SIZE, 'a', 0);
		expect(c, name, SIZE, 'a');
		memset(map, 'b', SIZE);
		expect(c, name, SIZE, 'b');
		info = stat_of(c, name);
		ck_assert_uint_eq(info.size, SIZE);
		ck_assert_uint_eq(info.allocated, SIZE);
		ck_assert_uint_eq(info.mode, 0600);
		ck_assert_uint_eq(info.uid, geteuid());
		ck_assert_uint_eq(info.gid, getegid());
		ck_assert_uint_eq(info.flags, SHMB_INFO_SEALED);
		ck_assert_int_eq(shmb_wait(c, name, 0), 0);

		/* Reading is all that there is. */
		ck_assert_int_eq(shmb_open(c, name, O_RDWR, 0), -EACCES);
		ck_assert_ptr_nonnull(strstr(shmb_reason(c), "sealed"));
		ck_assert_int_eq(shmb_open(c, name, O_WRONLY, 0), -EACCES);
		ck_assert_int_eq(shmb_open(c, name, O_RDONLY | O_TRUNC, 0), -EACCES);
		ck_assert_int_eq(shmb_open(c, name, O_RDONLY | O_CREAT | O_EXCL, 0), -EEXIST);
		fd = shmb_open(c, name, O_RDONLY | O_CREAT | O_APPEND, 0);
		ck_assert_int_ge(fd, 0);
		ck_assert_int_eq(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND), O_APPEND);
		close(fd);
		expect(c, name, SIZE, 'b');

		/* Its mode is its owner's to change. */
		fd = shmb_open(c, name, O_RDONLY, 0);
		ck_assert_int_eq(fchmod(fd, 0640), 0);
		ck_assert_uint_eq(stat_of(c, name).mode, 0640);
		ck_assert_int_eq(shmb_unlink(c, name), 0);
		expect_absent(c, name);
		ck_assert_int_eq(pread(fd, &(char){ 0 }, 1, 0), 1);
		close(fd);
		munmap(map, SIZE);
	}
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

static void check_taken(struct shmb *c, const char *name)
{
	char *first = publish(c, name, SIZE, 'a', 0), *second;
	int fd = make(c, name, SIZE, 0600), other;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(make(c, name, SIZE, 0600), -EEXIST);
	ck_assert_int_eq(shmb_publish(c, name, 0), -EEXIST);
	expect(c, name, SIZE, 'a');
	ck_assert_int_eq(shmb_publish(c, name, SHMB_REPLACE), 0);
	expect(c, name, SIZE, 0);
	close(fd);
	second = publish(c, name, 2 * SIZE, 'c', SHMB_REPLACE);
	expect(c, name, 2 * SIZE, 'c');

	/* Others in its place, and it in theirs. */
	ck_assert_int_eq(shmb_unlink(c, name), 0);
	other = shmb_open(c, name, O_RDWR | O_CREAT | O_EXCL, 0600);
	ck_assert_int_ge(other, 0);
	ck_assert_uint_eq(stat_of(c, name).flags, 0);
	munmap(first, SIZE);
	first = publish(c, name, SIZE, 'd', SHMB_REPLACE);
	expect(c, name, SIZE, 'd');
	close(other);
	ck_assert_int_eq(shmb_unlink(c, name), 0);
	ck_assert_int_eq(shmb_unlink(c, name), -ENOENT);
	munmap(first, SIZE);
	munmap(second, 2 * SIZE);
}

START_TEST(a_name_is_taken_or_replaced_as_any)
{
	struct fixture fixture;
	struct shmb *c;

	start(&fixture, NULL, config);
	c = fixture_connect(&fixture);
	FOREACH_NAME(name)
	check_taken(c, name);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(what_can_not_be_sealed_is_refused)
{
	struct shmb_how how = { .oflag = O_RDWR | O_CREAT, .size = SIZE, .flags = SHMB_SEALED };
	struct fixture fixture;
	struct shmb *c;
	int fd;

	start(&fixture, NULL, config);
	c = fixture_connect(&fixture);
	ck_assert_int_eq(shmb_open_how(c, "/h-x", &how, sizeof(how)), -EINVAL);
	how.flags |= SHMB_UNPUBLISHED;
	how.oflag = O_RDONLY | O_CREAT;
	ck_assert_int_eq(shmb_open_how(c, "/h-x", &how, sizeof(how)), -EINVAL);
	how.oflag = O_RDWR;
	ck_assert_int_eq(shmb_open_how(c, "/h-x", &how, sizeof(how)), -EINVAL);
	ck_assert_int_eq(make(c, "/h-r", SIZE, 0600), -EACCES);
	ck_assert_int_eq(make(c, "/x", SIZE, 0600), -EACCES);

	/* Its maker can't keep it open by sealing it himself. */
	fd = make(c, "/h-x", SIZE, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL), 0);
	ck_assert_int_eq(shmb_publish(c, "/h-x", 0), -EACCES);
	expect_absent(c, "/h-x");
	close(fd);
	shmb_disconnect(c);

	c = fixture_connect(&fixture);
	fd = make(c, "/h-x", SIZE, 0777);
	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	ck_assert_int_eq(shmb_publish(c, "/h-x", 0), 0);
	expect(c, "/h-x", SIZE, 0);
	ck_assert_uint_eq(stat_of(c, "/h-x").mode, 0644);
	close(fd);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* --- attacks --- */

/* With what its maker has, too: 3 where something could be changed. */
static int attack_all(void *argument)
{
	static const struct attack_row *const tables[] = { attacks_by_descriptor, attacks_by_path,
							   attacks_by_memory, attacks_by_mount };
	const int fd = *(int *)argument;
	struct attack attack = { .fd = fd, .size = SIZE, .scratch = test_directory() };
	char before[SIZE], after[SIZE];
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;
	pid_t pid;

	if (pread(fd, before, SIZE, 0) != SIZE)
		return 4;
	for (size_t i = 0; i < sizeof(tables) / sizeof(*tables); i++) {
		for (const struct attack_row *row = tables[i]; row->name; row++) {
			pid = fork();
			if (pid == 0) {
				alarm(20);
				attack.map = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
				row->run(&attack, row->argument);
				_exit(0);
			}
			if (waitpid(pid, NULL, 0) != pid || fstat(fd, &st) < 0 ||
			    pread(fd, after, SIZE, 0) != SIZE)
				return 4;
			if (memcmp(before, after, SIZE) != 0 || st.st_size != (off_t)SIZE ||
			    fcntl(fd, F_GET_SEALS) != seals) {
				fprintf(stderr, "%s changes it\n", row->name);
				return 3;
			}
		}
	}
	return 0;
}

static void check_attacks(struct shmb *c, const char *name, bool by_maker)
{
	int made = make(c, name, SIZE, 0666), fd;
	char *map;

	ck_assert_msg(made >= 0, "%s: %s", name, shmb_reason(c));
	map = shmb_map(made, PROT_READ | PROT_WRITE, NULL);
	memset(map, 'a', SIZE);
	if (test_is_root())
		ck_assert_int_eq(fchown(made, USER_A, USER_A), 0);
	ck_assert_int_eq(shmb_publish(c, name, 0), 0);
	fd = by_maker ? made : shmb_open(c, name, O_RDONLY, 0);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, attack_all, &fd), 0);
	if (test_is_root())
		ck_assert_int_eq(test_run_as(USER_A, USER_A, NULL, 0, attack_all, &fd), 0);
	if (fd != made)
		close(fd);
	close(made);
	munmap(map, SIZE);
	ck_assert_int_eq(shmb_unlink(c, name), 0);
}

START_TEST(nobody_changes_it_neither_root_nor_its_owner_nor_its_maker_s_descriptor)
{
	struct fixture fixture;
	struct shmb *c;

	/* Without a twin, too. */
	fixture_start(&fixture, &(struct fixture_how){ .config = config,
						       .is_user = !test_is_root(),
						       .fault = _i == 1 ? &no_twin : NULL });
	ck_assert_int_eq(chmod(test_directory(), 01777), 0);
	c = fixture_connect(&fixture);
	check_attacks(c, "/h-x", false);
	check_attacks(c, "/h-x", true);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* Where reading alone can't be promised of other objects. */
START_TEST(it_is_read_where_no_twin_can_be_had)
{
	struct fixture fixture;
	struct shmb *c;
	char *map;

	fixture_start(&fixture, &(struct fixture_how){ .config = config,
						       .is_user = !test_is_root(),
						       .fault = &no_twin });
	c = fixture_connect(&fixture);
	map = publish(c, "/h-x", SIZE, 'a', 0);
	close(shmb_open(c, "/h-y", O_RDWR | O_CREAT, 0600));
	fixture_configure(&fixture, reading);
	ck_assert_int_eq(raw_reload(c), 0);
	ck_assert_int_eq(shmb_open(c, "/h-y", O_RDONLY, 0), -EOPNOTSUPP);
	expect(c, "/h-x", SIZE, 'a');
	munmap(map, SIZE);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* --- who may --- */

static int open_as_other(void *argument)
{
	const struct other *other = argument;
	struct shmb *c;
	int fd;

	if (shmb_connect(&c, other->fixture->socket) < 0)
		return 100;
	fd = shmb_open(c, other->name, O_RDONLY, 0);
	return fd >= 0 ? 0 : -fd;
}

START_TEST(the_permission_bits_decide_where_they_do_of_others)
{
	struct fixture fixture;
	struct other other = { &fixture, "/h-x" };
	struct shmb *c;
	char *map;
	int fd;

	TEST_NEEDS(test_is_root(), "needs root to be another user");
	start(&fixture, NULL, config);
	c = fixture_connect(&fixture);
	map = publish(c, "/h-x", SIZE, 'a', 0);
	ck_assert_int_eq(test_run_as(USER_A, USER_A, NULL, 0, open_as_other, &other), EACCES);
	fd = shmb_open(c, "/h-x", O_RDONLY, 0);
	ck_assert_int_eq(fchmod(fd, 0604), 0);
	ck_assert_int_eq(test_run_as(USER_A, USER_A, NULL, 0, open_as_other, &other), 0);
	close(fd);
	/* Those of the directory, too. */
	ck_assert_int_eq(chmod(fixture.host, 0700), 0);
	ck_assert_int_eq(test_run_as(USER_A, USER_A, NULL, 0, open_as_other, &other), EACCES);
	munmap(map, SIZE);
	if (test_has_namespaces()) {
		/* The rules alone. */
		other.name = "/f-x";
		map = publish(c, "/f-x", SIZE, 'a', 0);
		ck_assert_int_eq(test_run_as(USER_A, USER_A, NULL, 0, open_as_other, &other), 0);
		munmap(map, SIZE);
	}
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

static int publish_as_other(void *argument)
{
	const struct other *other = argument;
	struct shmb *c;
	int fd;

	if (shmb_connect(&c, other->fixture->socket) < 0)
		return 100;
	fd = make(c, other->name, SIZE, 0600);
	if (fd < 0)
		return -fd;
	return -shmb_publish(c, other->name, 0);
}

START_TEST(it_belongs_to_who_made_it)
{
	struct fixture fixture;
	struct other other = { .fixture = &fixture };
	struct shmb_info info;
	struct shmb *c;

	TEST_NEEDS(test_is_root(), "needs root to be another user");
	start(&fixture, NULL, config);
	c = fixture_connect(&fixture);
	FOREACH_NAME(name)
	{
		other.name = name;
		ck_assert_int_eq(test_run_as(USER_A, USER_A, NULL, 0, publish_as_other, &other), 0);
		info = stat_of(c, name);
		ck_assert_uint_eq(info.uid, USER_A);
		ck_assert_uint_eq(info.gid, USER_A);
		ck_assert_uint_eq(info.size, SIZE);
	}
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(a_rule_for_sealed_objects_lets_nothing_else_be)
{
	struct fixture fixture;
	struct shmb *c;
	char *map;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	start(&fixture, NULL, config);
	c = fixture_connect(&fixture);
	ck_assert_int_eq(shmb_open(c, "/s-x", O_RDWR | O_CREAT, 0600), -EACCES);
	ck_assert_ptr_nonnull(strstr(shmb_reason(c), "sealed objects alone"));
	ck_assert_int_eq(shmb_open(c, "/s-x", O_RDONLY, 0600), -ENOENT);
	map = publish(c, "/s-x", SIZE, 'a', 0);
	expect(c, "/s-x", SIZE, 'a');
	expect(c, "/s-x", SIZE, 'a');
	ck_assert_int_eq(shmb_open(c, "/s-x", O_RDWR | O_CREAT | O_EXCL, 0600), -EEXIST);
	munmap(map, SIZE);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

Suite *suite_sealed(void)
{
	Suite *suite = suite_create("sealed");
	TCase *tests = tcase_create("sealed");

	tcase_set_timeout(tests, 300);
	tcase_add_checked_fixture(tests, test_fds_setup, test_fds_teardown);
	tcase_add_test(tests, what_is_published_is_read_and_its_maker_goes_on_writing);
	tcase_add_test(tests, a_name_is_taken_or_replaced_as_any);
	tcase_add_test(tests, what_can_not_be_sealed_is_refused);
	tcase_add_loop_test(tests,
			    nobody_changes_it_neither_root_nor_its_owner_nor_its_maker_s_descriptor,
			    0, 2);
	tcase_add_test(tests, it_is_read_where_no_twin_can_be_had);
	tcase_add_test(tests, the_permission_bits_decide_where_they_do_of_others);
	tcase_add_test(tests, it_belongs_to_who_made_it);
	tcase_add_test(tests, a_rule_for_sealed_objects_lets_nothing_else_be);
	suite_add_tcase(suite, tests);
	suite_add_tcase(suite, sealed_case_of_room());
	suite_add_tcase(suite, sealed_case_of_names());
	return suite;
}
