/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who may do what with whose object: with access "caller" what the kernel natively lets
 * each user do with a file of that owner and mode, cell by cell; with "grant" what the
 * rules say, whatever the permission bits.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/creds.h"
#include "daemon/fd.h"
#include "tests/test.h"
#include "tests/transport.h"

static const char protected_regular[] = "/proc/sys/fs/protected_regular";

static const struct user {
	const char *label;
	uid_t uid;
	gid_t gid;
	gid_t groups[2];
	size_t group_count;
	bool powerless; /* without capabilities */
} users[] = {
	{ .label = "root" },
	{ .label = "A",
	  .uid = USER_A,
	  .gid = USER_A,
	  .groups = { GROUP_SHARED },
	  .group_count = 1 },
	{ .label = "B", .uid = USER_B, .gid = GROUP_SHARED },
	{ .label = "stranger", .uid = USER_STRANGER, .gid = USER_STRANGER },
	{ .label = "root without capabilities", .powerless = true },
};
#define USERS (sizeof(users) / sizeof(*users))

/* Whose objects; of A there are those of his own and those of the shared group. */
static const struct owner_ids {
	uid_t uid;
	gid_t gid;
} owners[] = {
	{ 0, 0 },
	{ USER_A, USER_A },
	{ USER_A, GROUP_SHARED },
	{ USER_B, GROUP_SHARED },
};
#define OWNERS (sizeof(owners) / sizeof(*owners))

static const mode_t modes[] = { 0600, 0640, 0660, 0644, 0666, 0400, 0000 };
#define MODES (sizeof(modes) / sizeof(*modes))

#define UNLINK (-1)
static const struct {
	const char *label;
	int oflag;
} deeds[] = {
	{ "read", O_RDONLY },
	{ "write", O_WRONLY },
	{ "read and write", O_RDWR },
	{ "truncate", O_RDWR | O_TRUNC },
	{ "truncate, write alone", O_WRONLY | O_TRUNC },
	{ "truncate, read alone", O_RDONLY | O_TRUNC },
	{ "create on what exists", O_RDWR | O_CREAT },
	{ "create on what exists, to read", O_RDONLY | O_CREAT },
	{ "create on what exists, and truncate", O_RDWR | O_CREAT | O_TRUNC },
	{ "create on what exists, and truncate, to read", O_RDONLY | O_CREAT | O_TRUNC },
	{ "create on what exists, exclusively", O_RDWR | O_CREAT | O_EXCL },
	{ "unlink", UNLINK },
};
#define DEEDS (sizeof(deeds) / sizeof(*deeds))

/* One cell, as its own file in both directories. */
static void cell_name(char *ret, size_t size, size_t owner, size_t mode, size_t deed)
{
	snprintf(ret, size, "caller-%zu-%zu-%zu", owner, mode, deed);
}

static void make_cell(const char *directory, size_t owner, size_t mode, size_t deed)
{
	char name[64], path[512];
	int fd;

	cell_name(name, sizeof(name), owner, mode, deed);
	snprintf(path, sizeof(path), "%s/%s", directory, name);
	ck_assert(unlink(path) == 0 || errno == ENOENT);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, "content", 7), 7);
	ck_assert_int_eq(fchown(fd, owners[owner].uid, owners[owner].gid), 0);
	ck_assert_int_eq(fchmod(fd, modes[mode]), 0);
	close(fd);
}

static void make_cells(const char *directory)
{
	for (size_t owner = 0; owner < OWNERS; owner++)
		for (size_t mode = 0; mode < MODES; mode++)
			for (size_t deed = 0; deed < DEEDS; deed++)
				make_cell(directory, owner, mode, deed);
}

/* Takes the ids, and keeps to them what they may natively. */
static int become(const struct user *user)
{
	const struct creds_caps none = { 0 };

	EXPECT(setgroups(user->group_count, user->groups) == 0);
	EXPECT(setresgid(user->gid, user->gid, user->gid) == 0);
	EXPECT(setresuid(user->uid, user->uid, user->uid) == 0);
	EXPECT(!user->powerless || creds_caps_set(&none) == 0);
	return 0;
}

static int do_native(int directory, const char *name, int oflag)
{
	int result = oflag == UNLINK
			     ? unlinkat(directory, name, 0)
			     : openat(directory, name, oflag | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (result < 0)
		return native_errno(errno);
	if (oflag != UNLINK)
		close(result);
	return 0;
}

static int do_brokered(struct line *c, const char *name, int oflag)
{
	int result = oflag == UNLINK ? line_unlink(c, name) : line_open(c, name, oflag, 0600);

	if (result < 0)
		return -result;
	if (oflag != UNLINK)
		close(result);
	return 0;
}

static off_t size_of(int directory, const char *name)
{
	struct stat st;

	return fstatat(directory, name, &st, 0) == 0 ? st.st_size : -1;
}

struct matrix {
	const struct fixture *fixture;
	const struct user *user;
	int native, host; /* directories */
};

static unsigned compare_cell(const struct matrix *m, struct line *c, size_t owner, size_t mode,
			     size_t deed)
{
	char name[64];
	int theirs, ours;

	cell_name(name, sizeof(name), owner, mode, deed);
	theirs = do_native(m->native, name, deeds[deed].oflag);
	ours = do_brokered(c, name, deeds[deed].oflag);
	if (ours == theirs && size_of(m->host, name) == size_of(m->native, name))
		return 0;
	fprintf(stderr, "%s, %s of %u:%u's 0%o: %s, natively %s; %lld and %lld bytes\n",
		m->user->label, deeds[deed].label, owners[owner].uid, owners[owner].gid,
		(unsigned)modes[mode], strerror(ours), strerror(theirs),
		(long long)size_of(m->host, name), (long long)size_of(m->native, name));
	return 1;
}

static int compare_cells(void *argument)
{
	const struct matrix *m = argument;
	unsigned different = 0;
	struct line *c;

	EXPECT(become(m->user) == 0);
	c = line_new(m->fixture);
	EXPECT(c);
	for (size_t owner = 0; owner < OWNERS; owner++)
		for (size_t mode = 0; mode < MODES; mode++)
			for (size_t deed = 0; deed < DEEDS; deed++)
				different += compare_cell(m, c, owner, mode, deed);
	line_free(c);
	EXPECT(different == 0);
	return 0;
}

static void compare_users(const struct fixture *fixture)
{
	struct matrix m = { .fixture = fixture };
	char directory[128];

	snprintf(directory, sizeof(directory), "%s/native", test_directory());
	ck_assert(mkdir(directory, 0700) == 0 || errno == EEXIST);
	ck_assert_int_eq(chmod(directory, 01777), 0);
	m.native = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	m.host = open(fixture->host, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < USERS; i++) {
		m.user = &users[i];
		make_cells(directory);
		make_cells(fixture->host);
		end_child(start_child(compare_cells, &m));
	}
	close(m.native);
	close(m.host);
}

/* A number in one line. -1: not to be had. */
static int read_sysctl(void)
{
	FILE *file = fopen(protected_regular, "re");
	int value = -1;

	if (!file)
		return -1;
	if (fscanf(file, "%d", &value) != 1)
		value = -1;
	fclose(file);
	return value;
}

static bool write_sysctl(int value)
{
	FILE *file = fopen(protected_regular, "we");

	if (!file)
		return false;
	fprintf(file, "%d\n", value);
	return fclose(file) == 0;
}

/* Set back by the parent, also when the test was killed. */
static int saved_sysctl;

static void sysctl_setup(void)
{
	saved_sysctl = read_sysctl();
}

static void sysctl_teardown(void)
{
	if (saved_sysctl >= 0 && read_sysctl() != saved_sysctl && !write_sysctl(saved_sysctl))
		fprintf(stderr, "%s can't be set back to %d\n", protected_regular, saved_sysctl);
}

START_TEST(each_user_may_what_the_kernel_natively_lets_him)
{
	struct fixture fixture;

	TEST_NEEDS(test_is_root(), "needs root to be several users");
	TEST_NEEDS(transport_possible(_i), TRANSPORT_MISSING);
	transport_start(_i, &fixture, __func__);
	compare_users(&fixture);
	transport_stop(&fixture);
}
END_TEST

START_TEST(each_user_may_the_same_whatever_protects_regular_files)
{
	struct fixture fixture;

	TEST_NEEDS(test_is_root(), "needs root to be several users");
	TEST_NEEDS(saved_sysctl >= 0 && write_sysctl(saved_sysctl),
		   "fs.protected_regular can't be set here");
	transport_start(OVER_SOCKET, &fixture, __func__);
	for (int value = 0; value <= 2; value++) {
		ck_assert(write_sysctl(value));
		compare_users(&fixture);
	}
	transport_stop(&fixture);
}
END_TEST

/* Makes an object of each mode, and stays its owner. */
static int make_modes(void *argument)
{
	const struct fixture *fixture = argument;
	struct line *c = line_new(fixture);
	char name[64];

	EXPECT(c);
	PLACES_FOREACH(place)
	for (size_t mode = 0; mode < MODES; mode++) {
		snprintf(name, sizeof(name), "/%s-%zu", place->label, mode);
		EXPECT(close(line_open(c, name, O_RDWR | O_CREAT | O_EXCL, modes[mode])) == 0);
	}
	line_free(c);
	return 0;
}

static int expected_of(const struct place *place, int oflag)
{
	(void)place;
	return (oflag & O_EXCL) && oflag != UNLINK ? EEXIST : 0;
}

static int do_all(struct line *c, const char *label)
{
	char name[64];

	PLACES_FOREACH(place)
	{
		if (!place->is_grant)
			continue;
		for (size_t mode = 0; mode < MODES; mode++)
			for (size_t deed = 0; deed < DEEDS; deed++) {
				int oflag = deeds[deed].oflag, error;

				snprintf(name, sizeof(name), "/%s-%zu", place->label, mode);
				error = do_brokered(c, name, oflag);
				if (error == expected_of(place, oflag))
					continue;
				fprintf(stderr, "%s, %s of %s with 0%o: %s\n", label,
					deeds[deed].label, name, (unsigned)modes[mode],
					strerror(error));
				return 1;
			}
	}
	return 0;
}

struct visit {
	const struct fixture *fixture;
	const struct user *user;
};

static int visit(void *argument)
{
	const struct visit *v = argument;
	struct line *c;

	EXPECT(become(v->user) == 0);
	c = line_new(v->fixture);
	EXPECT(c);
	EXPECT(do_all(c, v->user->label) == 0);
	line_free(c);
	return 0;
}

/* Each user in turn opens and then unlinks all that another made. */
static void grant_to_all(struct fixture *fixture)
{
	for (size_t owner = 0; owner < USERS; owner++) {
		if (users[owner].powerless)
			continue;
		for (size_t i = 0; i < USERS; i++) {
			struct visit v = { fixture, &users[i] };

			run_as(users[owner].uid, users[owner].gid, make_modes, fixture);
			end_child(start_child(visit, &v));
			PLACES_FOREACH(place)
			for (size_t mode = 0; mode < MODES; mode++) {
				char name[64];
				struct shmb *c = fixture_connect(fixture);

				snprintf(name, sizeof(name), "/%s-%zu", place->label, mode);
				ck_assert_int_eq(shmb_unlink(c, name),
						 place->is_grant ? -ENOENT : 0);
				shmb_disconnect(c);
			}
		}
	}
}

START_TEST(where_the_rules_alone_decide_the_permission_bits_dont)
{
	struct fixture fixture;

	TEST_NEEDS(test_is_root(), "needs root to be several users");
	TEST_NEEDS(transport_possible(_i), TRANSPORT_MISSING);
	transport_start(_i, &fixture, __func__);
	grant_to_all(&fixture);
	transport_stop(&fixture);
}
END_TEST

START_TEST(nor_does_what_protects_regular_files)
{
	struct fixture fixture;

	TEST_NEEDS(test_is_root(), "needs root to be several users");
	TEST_NEEDS(saved_sysctl >= 0 && write_sysctl(2), "fs.protected_regular can't be set here");
	transport_start(OVER_SOCKET, &fixture, __func__);
	grant_to_all(&fixture);
	transport_stop(&fixture);
}
END_TEST

/* A directory that the callers may not write, as a volume has it that somebody gives. */
START_TEST(nor_do_the_bits_of_the_directory)
{
	struct fixture fixture;
	struct visit v = { &fixture, NULL };
	char directory[160];

	TEST_NEEDS(test_is_root(), "needs root to be several users");
	TEST_NEEDS(transport_possible(_i), TRANSPORT_MISSING);
	transport_start(_i, &fixture, __func__);
	PLACES_FOREACH(place)
	{
		if (!place->is_grant || !place->directory)
			continue;
		snprintf(directory, sizeof(directory), "%s%s", fixture.host, place->directory);
		ck_assert_int_eq(chmod(directory, 0755), 0);
	}
	run_as(USER_A, GROUP_SHARED, make_modes, &fixture);
	v.user = &users[3];
	end_child(start_child(visit, &v));
	transport_stop(&fixture);
}
END_TEST

/* An ordinary user's broker has no right but to what it owns. */
static int grant_to_oneself(void *argument)
{
	struct fixture fixture;
	struct line *c;

	(void)argument;
	transport_start(OVER_SOCKET, &fixture, __func__);
	EXPECT(make_modes(&fixture) == 0);
	c = line_new(&fixture);
	EXPECT(c);
	EXPECT(do_all(c, "an ordinary user") == 0);
	line_free(c);
	transport_stop(&fixture);
	return 0;
}

START_TEST(an_ordinary_users_broker_grants_whatever_the_permission_bits)
{
	if (test_is_root())
		run_as(USER_A, GROUP_SHARED, grant_to_oneself, NULL);
	else
		run_as((uid_t)-1, 0, grant_to_oneself, NULL);
}
END_TEST

/* With mode 0000 and 0400: opened and published, too. */
static int publish_unreadable(void *argument)
{
	static const unsigned accesses[] = { O_RDWR, O_WRONLY };
	struct fixture fixture;
	struct shmb *c;

	(void)argument;
	places_start(&fixture, __func__);
	c = fixture_connect(&fixture);
	PLACES_FOREACH(place)
	for (size_t i = 0; i < 2 * MODES; i++) {
		struct shmb_how how = { .oflag = accesses[i % 2] | O_CREAT,
					.mode = modes[i / 2],
					.size = 16,
					.flags = SHMB_UNPUBLISHED };
		const char *name = place_name(place->label, "x");
		int fd = shmb_open_how(c, name, &how, sizeof(how));
		struct stat st;

		EXPECT(fd >= 0 && write(fd, "x", 1) == 1);
		EXPECT((fcntl(fd, F_GETFL) & (O_ACCMODE | O_TMPFILE)) == (int)accesses[i % 2]);
		EXPECT(shmb_publish(c, name, 0) == 0);
		EXPECT(fstat(fd, &st) == 0 && (st.st_mode & 07777) == modes[i / 2]);
		close(fd);
		how.flags = 0;
		EXPECT(shmb_unlink(c, name) == 0);
		/* And at once with its size. */
		fd = shmb_open_how(c, name, &how, sizeof(how));
		EXPECT(fd >= 0 && fstat(fd, &st) == 0 && st.st_size == 16);
		EXPECT((st.st_mode & 07777) == modes[i / 2]);
		close(fd);
		EXPECT(shmb_unlink(c, name) == 0);
	}
	shmb_disconnect(c);
	places_stop(&fixture);
	return 0;
}

START_TEST(a_mode_that_refuses_its_maker_hinders_no_making)
{
	run_as((uid_t)-1, 0, publish_unreadable, NULL);
	if (test_is_root())
		run_as(USER_A, GROUP_SHARED, publish_unreadable, NULL);
}
END_TEST

Suite *suite_access(void)
{
	Suite *suite = suite_create("access");
	TCase *tests = tcase_create("access");

	tcase_set_timeout(tests, 120);
	tcase_add_unchecked_fixture(tests, sysctl_setup, sysctl_teardown);
	tcase_add_checked_fixture(tests, test_fds_setup, test_fds_teardown);
	tcase_add_loop_test(tests, each_user_may_what_the_kernel_natively_lets_him, 0, TRANSPORTS);
	tcase_add_test(tests, each_user_may_the_same_whatever_protects_regular_files);
	tcase_add_loop_test(tests, where_the_rules_alone_decide_the_permission_bits_dont, 0,
			    TRANSPORTS);
	tcase_add_test(tests, nor_does_what_protects_regular_files);
	tcase_add_loop_test(tests, nor_do_the_bits_of_the_directory, 0, TRANSPORTS);
	tcase_add_test(tests, an_ordinary_users_broker_grants_whatever_the_permission_bits);
	tcase_add_test(tests, a_mode_that_refuses_its_maker_hinders_no_making);
	suite_add_tcase(suite, tests);
	return suite;
}
