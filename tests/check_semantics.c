/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What shm_open(3) and shm_unlink(3) do, and that the broker does the same: each
 * legal open compared with the native one, names, modes, and the life of an object.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/shmbroker.h"
#include "daemon/fd.h"
#include "tests/native.h"
#include "tests/test.h"

static int compare_all_opens(void *argument)
{
	struct fixture fixture;

	(void)argument;
	places_start(&fixture, __func__);
	openings_compare_all(&brokered, O_CREAT | O_EXCL | O_TRUNC | O_APPEND);
	places_stop(&fixture);
	return 0;
}

START_TEST(each_legal_open_is_as_shm_open_makes_it)
{
	run_as((uid_t)-1, 0, compare_all_opens, NULL);
	if (test_is_root())
		run_as(USER_A, GROUP_SHARED, compare_all_opens, NULL);
}
END_TEST

static int compare_modes(void *argument)
{
	static const mode_t modes[] = { 0, 0400, 0200, 0600, 0644, 0666, 0777 };
	static const mode_t masks[] = { 0, 022, 027, 077, 0777 };
	const struct place *place = argument;
	const char *name = place_name(place->label, "x");

	for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
		for (size_t j = 0; j < sizeof(masks) / sizeof(*masks); j++) {
			_cleanup_close_ int ours = -EBADF, theirs = -EBADF;
			struct stat a, b;

			umask(masks[j]);
			ours = shmb_shm_open(name, O_RDWR | O_CREAT | O_EXCL, modes[i]);
			theirs = shm_open(native_name(), O_RDWR | O_CREAT | O_EXCL, modes[i]);
			EXPECT(shm_unlink(native_name()) == 0);
			EXPECT(umask(0) == masks[j]);
			EXPECT(ours >= 0 && fstat(ours, &a) == 0 && fstat(theirs, &b) == 0);
			EXPECT(a.st_mode == b.st_mode);
			EXPECT(shmb_shm_unlink(name) == 0);
		}
	}
	/* Bits above them are dropped, whatever they do natively. */
	ck_assert_int_ge(close(shmb_shm_open(name, O_RDONLY | O_CREAT, 07777)), 0);
	return shmb_shm_unlink(name);
}

/* Its owner and group are the effective ids, and what he does with it later is his. */
static int own(void *argument)
{
	const struct place *place = argument;
	const char *name = place_name(place->label, "x");
	_cleanup_close_ int fd = -EBADF, reading = -EBADF;
	struct stat st;

	EXPECT(setegid(GROUP_SHARED) == 0 && seteuid(USER_A) == 0);
	fd = shmb_shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0640);
	EXPECT(fd >= 0 && fstat(fd, &st) == 0);
	EXPECT(st.st_uid == USER_A && st.st_gid == GROUP_SHARED);
	EXPECT(fchmod(fd, 0444) == 0 && fchown(fd, (uid_t)-1, GROUP_SHARED) == 0);
	EXPECT(futimens(fd, (const struct timespec[2]){ { 1, 0 }, { 2, 0 } }) == 0);
	EXPECT(fstat(fd, &st) == 0 && st.st_mode == (S_IFREG | 0444) && st.st_mtime == 2);

	/* Made for reading alone, too. */
	EXPECT(shmb_shm_unlink(name) == 0);
	reading = shmb_shm_open(name, O_RDONLY | O_CREAT | O_EXCL, 0600);
	EXPECT(reading >= 0 && fstat(reading, &st) == 0);
	EXPECT(st.st_uid == USER_A && st.st_gid == GROUP_SHARED);
	EXPECT((fcntl(reading, F_GETFL) & O_ACCMODE) == O_RDONLY);
	EXPECT(fchmod(reading, 0666) < 0 && errno == EROFS);
	return shmb_shm_unlink(name);
}

static void on_each_place(int (*function)(void *argument), const char *test)
{
	struct fixture fixture;

	places_start(&fixture, test);
	PLACES_FOREACH(place)
	end_child(start_child(function, (void *)(uintptr_t)place));
	places_stop(&fixture);
}

START_TEST(a_mode_is_what_is_asked_less_the_umask)
{
	on_each_place(compare_modes, __func__);
}
END_TEST

START_TEST(a_new_object_is_the_callers)
{
	TEST_NEEDS(test_has_namespaces(), "no namespaces for the read-only twin of a directory");
	TEST_NEEDS(test_is_root(), "needs root to be several users");
	on_each_place(own, __func__);
}
END_TEST

/* An object is 0 bytes long, and zero bytes long after that. */
static int live(void *argument)
{
	const struct place *place = argument;
	const char *name = place_name(place->label, "x");
	int old = shmb_shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600), new;
	struct stat before, after;
	char bytes[4096];
	size_t size;
	char *memory;

	EXPECT(old >= 0 && fstat(old, &before) == 0 && before.st_size == 0);
	EXPECT(read(old, bytes, 1) == 0);
	EXPECT(ftruncate(old, sizeof(bytes)) == 0 && read(old, bytes, 4096) == 4096);
	for (size_t i = 0; i < sizeof(bytes); i++)
		EXPECT(bytes[i] == 0);
	memory = shmb_map(old, PROT_READ | PROT_WRITE, &size);
	EXPECT(memory != MAP_FAILED && size == sizeof(bytes));
	strcpy(memory, "old");

	EXPECT(shmb_shm_unlink(name) == 0);
	EXPECT(shmb_shm_open(name, O_RDWR, 0) < 0 && errno == ENOENT);
	EXPECT(shmb_shm_unlink(name) < 0 && errno == ENOENT);
	new = shmb_shm_open(name, O_RDWR | O_CREAT, 0600);
	EXPECT(new >= 0 && fstat(new, &after) == 0 && fstat(old, &before) == 0);
	EXPECT(after.st_size == 0 && after.st_ino != before.st_ino);
	EXPECT(ftruncate(new, 4) == 0 && pread(new, bytes, 4, 0) == 4 && memcmp(bytes, "", 1) == 0);
	EXPECT(before.st_nlink == 0 && pwrite(old, "good", 4, 0) == 4);
	EXPECT(strcmp(memory, "good") == 0);
	EXPECT(munmap(memory, size) == 0 && close(old) == 0 && close(new) == 0);
	return shmb_shm_unlink(name);
}

START_TEST(after_unlink_a_name_is_a_new_object_and_the_old_one_stays_good)
{
	on_each_place(live, __func__);
}
END_TEST

static const int accepted[] = { O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK, O_SYNC,
				O_DSYNC,   O_NOCTTY,   0100000,	   O_SYNC | O_NONBLOCK | O_EXCL };
static const int refused[] = { O_DIRECTORY, O_PATH,    O_TMPFILE, O_ASYNC,  O_DIRECT,
			       O_NOATIME,   O_ACCMODE, 1 << 30,	  INT32_MIN };

static int try_flags(void *argument)
{
	const struct place *place = argument;
	const char *name = place_name(place->label, "x");
	int plain = shmb_shm_open(name, O_RDWR | O_CREAT, 0600);

	EXPECT(plain >= 0);
	for (size_t i = 0; i < sizeof(accepted) / sizeof(*accepted); i++) {
		int fd = shmb_shm_open(name, O_RDWR | accepted[i], 0);

		EXPECT(fd >= 0 && fcntl(fd, F_GETFL) == fcntl(plain, F_GETFL));
		EXPECT(fcntl(fd, F_GETFD) == FD_CLOEXEC && close(fd) == 0);
	}
	for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++)
		EXPECT(shmb_shm_open(name, O_RDONLY | refused[i], 0) < 0 && errno == EINVAL);
	close(plain);
	return shmb_shm_unlink(name);
}

START_TEST(flags_without_a_meaning_change_nothing_and_wrong_ones_are_einval)
{
	on_each_place(try_flags, __func__);
}
END_TEST

/* LONG is a name of 255 bytes, LONGER one of 256: behind the slashes. */
#define LONG "@"
#define LONGER "@@"
static const struct {
	const char *name;
	int open, unlink;
} names[] = {
	{ "/caller-x", 0, 0 },
	{ "caller-x", 0, 0 },
	{ "//caller-x", 0, 0 },
	{ "////////caller-x", 0, 0 },
	{ "/caller- ", 0, 0 },
	{ "/caller-\x01\n\x7f\xff\\\"%n", 0, 0 },
	{ "/caller-\xc3\xa4", 0, 0 },
	{ "/caller-.", 0, 0 },
	{ LONG, 0, 0 },
	{ "//" LONG, 0, 0 },
	{ LONGER, ENAMETOOLONG, ENAMETOOLONG },
	{ "/" LONGER, ENAMETOOLONG, ENAMETOOLONG },
	{ "", EINVAL, ENOENT },
	{ "/", EINVAL, ENOENT },
	{ "///", EINVAL, ENOENT },
	{ ".", EINVAL, EINVAL },
	{ "/..", EINVAL, EINVAL },
	{ "/caller-a/b", EINVAL, ENOENT },
	{ "/caller-a/", EINVAL, ENOENT },
	{ "/../caller-a", EINVAL, ENOENT },
	{ "/.shmbroker.x", EINVAL, ENOENT },
	{ "/.shmbroker.0123456789abcdef", EINVAL, ENOENT },
};

static void expand(char *ret, const char *name)
{
	size_t at = strspn(name, "/");
	size_t size = strcmp(name + at, LONG) == 0 ? 255 : 256;

	strcpy(ret, name);
	if (name[at] != '@')
		return;
	memset(ret + at, 'n', size);
	memcpy(ret + at, "caller-", 7);
	ret[at + size] = '\0';
}

static int try_names(void *argument)
{
	const struct fixture *fixture = argument;
	char name[300], path[512];
	struct stat st, named;

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		_cleanup_close_ int fd = -EBADF;

		expand(name, names[i].name);
		fd = shmb_shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
		ck_assert_msg((fd < 0 ? errno : 0) == names[i].open, "%s: %m", names[i].name);
		/* Without its slashes it is the same, and natively the file's name. */
		if (names[i].open == 0) {
			snprintf(path, sizeof(path), "%s/%s", fixture->host,
				 name + strspn(name, "/"));
			EXPECT(fstat(fd, &st) == 0 && stat(path, &named) == 0);
			EXPECT(st.st_ino == named.st_ino);
		}
		ck_assert_msg((shmb_shm_unlink(name) < 0 ? errno : 0) == names[i].unlink, "%s: %m",
			      names[i].name);
	}
	return 0;
}

START_TEST(a_name_is_one_component_after_any_slashes)
{
	struct fixture fixture;

	places_start(&fixture, __func__);
	end_child(start_child(try_names, &fixture));
	places_stop(&fixture);
}
END_TEST

Suite *suite_semantics(void)
{
	Suite *suite = suite_create("semantics");
	TCase *tests = tcase_create("semantics");

	tcase_set_timeout(tests, 120);
	tcase_add_checked_fixture(tests, test_fds_setup, test_fds_teardown);
	tcase_add_test(tests, each_legal_open_is_as_shm_open_makes_it);
	tcase_add_test(tests, a_mode_is_what_is_asked_less_the_umask);
	tcase_add_test(tests, a_new_object_is_the_callers);
	tcase_add_test(tests, after_unlink_a_name_is_a_new_object_and_the_old_one_stays_good);
	tcase_add_test(tests, flags_without_a_meaning_change_nothing_and_wrong_ones_are_einval);
	tcase_add_test(tests, a_name_is_one_component_after_any_slashes);
	semantics_add_errnos(tests);
	semantics_add_races(tests);
	suite_add_tcase(suite, tests);
	return suite;
}
