/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Each kind of pool through a whole broker: as root, as an ordinary user, with
 * mounts that were given; and what is left, and said, where one can't be had.
 */
#include <grp.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "tests/store_fixture.h"

/* The other files of the suite. */
void store_add_alone(TCase *tests);
void store_add_demand(TCase *tests);

#define ORDINARY 12345

#define EACH_KIND                                                                                  \
	"pools: { host: { path = \"@host@\" access = \"grant\" }\n"                                \
	"         frames: { size = \"1M\" objects = 8 }\n"                                         \
	"         code: { size = \"1M\" objects = 8 exec = true }\n"                               \
	"         user: { per = \"user\" size = \"64K\" objects = 4 }\n"                           \
	"         app: { per = \"app\" size = \"64K\" objects = 4 }\n"                             \
	"         unit: { per = \"unit\" size = \"64K\" objects = 4 } }\n"                         \
	"rules: ( { name = \"frames\" names = \"/frames-*\" allow = \"all\" pool = \"frames\" "    \
	"},\n"                                                                                     \
	"         { name = \"code\" names = \"/code-*\" allow = \"all\" pool = \"code\" },\n"      \
	"         { name = \"user\" names = \"/user-*\" allow = \"all\" pool = \"user\" },\n"      \
	"         { name = \"app\" names = \"/app-*\" allow = \"all\" pool = \"app\" },\n"         \
	"         { name = \"unit\" names = \"/unit-*\" allow = \"all\" pool = \"unit\" },\n"      \
	"         { name = \"reader\" names = \"/read-*\" allow = \"read\" pool = \"host\" },\n"   \
	"         { name = \"host\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n"

/* Whether a mapping of it may be executed. */
static bool may_execute(int fd)
{
	void *at;

	ck_assert_int_eq(ftruncate(fd, 4096), 0);
	at = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return false;
	munmap(at, 4096);
	return true;
}

/* A descriptor opened for reading alone stays so. */
static void check_read_only(struct shmb *c, const char *name)
{
	int fd = shmb_open(c, name, O_RDONLY, 0);
	char link[64];

	ck_assert_msg(fd >= 0, "%s: %s", name, shmb_reason(c));
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ck_assert_int_lt(open(link, O_RDWR | O_CLOEXEC), 0);
	ck_assert_int_eq(errno, EROFS);
	ck_assert_int_lt(fchmod(fd, 0777), 0);
	ck_assert_int_eq(errno, EROFS);
	close(fd);
}

static void check_each_kind(struct fixture *fixture)
{
	struct shmb *c = fixture_connect(fixture), *through;
	struct shmb_info info;
	static const struct {
		const char *name, *pool;
		bool exec;
	} rows[] = {
		{ "/host-1", "host", true },
		{ "/frames-1", "frames", false },
		{ "/code-1", "code", true },
		{ "/user-1", "user", false },
	};
	char uid[32];
	int fd, hold;

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		fd = make_object(c, rows[i].name);
		if (i > 0)
			ck_assert_int_eq(may_execute(fd), rows[i].exec);
		close(fd);
		check_read_only(c, rows[i].name);
		ck_assert_int_eq(shmb_stat(c, rows[i].name, &info, sizeof(info)), 0);
		ck_assert_str_eq(info.pool, rows[i].pool);
		ck_assert_uint_eq(info.uid, geteuid());
	}
	snprintf(uid, sizeof(uid), "%u", geteuid());
	ck_assert_str_eq(info.owner, uid);
	/* Nobody without an app or a unit has a pool for each. */
	ck_assert_int_eq(try_open(c, "/app-1", O_RDWR | O_CREAT), -EACCES);
	ck_assert_ptr_nonnull(strstr(shmb_reason(c), "each app"));
	through = connect_app(c, "org.x", &hold);
	ck_assert_int_eq(try_open(through, "/app-1", O_RDWR | O_CREAT), 0);
	ck_assert_int_eq(shmb_stat(through, "/app-1", &info, sizeof(info)), 0);
	snprintf(uid, sizeof(uid), "%u:org.x", geteuid());
	ck_assert_str_eq(info.owner, uid);
	shmb_disconnect(through);
	close(hold);
	shmb_disconnect(c);
}

/* In a process of its own: what its assertions say is its exit status. */
static int serve_each_kind(void *argument)
{
	const struct fixture_how how = {
		.config = EACH_KIND,
		.is_user = argument != NULL,
	};
	struct fixture fixture;

	/* As after an exec: a change of ids hides a process, and then it can't map itself. */
	ck_assert_int_eq(prctl(PR_SET_DUMPABLE, 1), 0);
	fixture_start(&fixture, &how);
	check_each_kind(&fixture);
	fixture_stop(&fixture);
	exit(EXIT_SUCCESS);
}

START_TEST(each_kind_of_pool_serves_whoever_runs_the_broker)
{
	static const struct {
		uid_t uid;
		bool is_user;
	} rows[] = { { 0, false }, { 0, true }, { ORDINARY, false }, { ORDINARY, true } };

	NEEDS_PRIVATE_POOLS;
	TEST_NEEDS(test_is_root(), "root, to become others");
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		ck_assert_int_eq(test_run_as(rows[i].uid, rows[i].uid, NULL, 0, serve_each_kind,
					     rows[i].is_user ? (void *)"" : NULL),
				 0);
}
END_TEST

/* --- what can't be had --- */

static const struct {
	const char *step;
	int error;
	const char *shown; /* of the step, in the reason */
	bool root;	   /* only as root is it on the way */
} table_faults[] = {
	{ "setgroups", EPERM, "setgroups", true },
	{ "setresgid", EPERM, "setresgid", true },
	{ "setresuid", EAGAIN, "setresuid", true },
	{ "unshare", EPERM, "unshare(CLONE_NEWUSER|CLONE_NEWNS)", false },
	{ "unshare", ENOSYS, "unshare(CLONE_NEWUSER|CLONE_NEWNS)", false },
	{ "unshare", ENOSPC, "unshare(CLONE_NEWUSER|CLONE_NEWNS)", false },
	{ "read map", ENOENT, "read uid_map", false },
	{ "map", EPERM, "write uid_map", false },
	{ "nsfs", EACCES, "/proc/self/ns", false },
	{ "root", EACCES, "the table's root", false },
	{ "pivot", EINVAL, "pivot_root", false },
	{ "detach", EPERM, "umount2 of the old root", false },
	{ "setns", EPERM, "setns", false },
	{ "limits", EINVAL, "check of size", false },
	{ "mkdir", ENOSPC, "mkdir", false },
	{ "fsopen", ENOSYS, "fsopen", false },
	{ "option", EINVAL, "fsconfig", false },
	{ "create", ENOMEM, "CMD_CREATE", false },
	{ "fsmount", EPERM, "fsmount", false },
	{ "move_mount", EACCES, "move_mount", false },
	{ "open_tree", EMFILE, "open_tree", false },
	{ "open_tree", EPERM, "open_tree", false },
	{ "mount_setattr", ENOSYS, "mount_setattr", false },
	{ "openat", EACCES, "openat of the pool", false },
};

START_TEST(a_failure_on_the_way_to_private_pools_leaves_the_others)
{
	const struct keeper_fault fault = { table_faults[_i].step, table_faults[_i].error };
	const struct fixture_how how = { .config = EACH_KIND, .fault = &fault };
	const char *text = strerror(fault.error);
	struct fixture fixture;
	struct heard heard;
	char whose[64], *log;
	struct shmb *c;

	NEEDS_PRIVATE_POOLS;
	TEST_NEEDS(!table_faults[_i].root || test_is_root(), "root has these steps alone");
	hear_begin(&heard);
	fixture_start(&fixture, &how);
	c = fixture_connect(&fixture);
	/* Made at the start, and made on demand. */
	for (int i = 0; i < 2; i++) {
		const char *name = i ? "/user-1" : "/frames-1", *reason;

		ck_assert_int_eq(try_open(c, name, O_RDWR | O_CREAT), -EOPNOTSUPP);
		reason = shmb_reason(c);
		ck_assert_msg(strstr(reason, i ? "\"user\"" : "\"frames\"") &&
				      strstr(reason, table_faults[_i].shown) &&
				      strstr(reason, text),
			      "%s", reason);
		/* The way out is more than the call and the errno. */
		ck_assert_msg(strrchr(reason, ';') && strlen(strrchr(reason, ';')) > 10, "%s",
			      reason);
	}
	ck_assert_int_eq(try_open(c, "/host-1", O_RDWR | O_CREAT), 0);
	shmb_disconnect(c);
	fixture_stop(&fixture);
	log = hear_end(&heard);
	snprintf(whose, sizeof(whose), "pool \"user\" of %u can't be had", geteuid());
	ck_assert_msg(lines_with(log, "pool \"frames\" can't be had", text) == 1, "%s", log);
	ck_assert_msg(lines_with(log, whose, table_faults[_i].shown) == 1, "%s", log);
	free(log);
}
END_TEST

static const struct keeper_fault twin_faults[] = {
	{ "twin fork", EAGAIN },      { "twin unshare", EPERM },	{ "twin unshare", ENOSYS },
	{ "twin open_tree", EACCES }, { "twin mount_setattr", ENOSYS }, { "twin openat", EACCES },
};

START_TEST(without_a_twin_only_what_was_promised_is_refused)
{
	const struct keeper_fault fault = twin_faults[_i];
	const struct fixture_how how = { .config = EACH_KIND, .fault = &fault };
	struct fixture fixture;
	struct heard heard;
	struct shmb *c;
	char *log;

	NEEDS_PRIVATE_POOLS;
	hear_begin(&heard);
	fixture_start(&fixture, &how);
	c = fixture_connect(&fixture);
	ck_assert_int_eq(try_open(c, "/host-1", O_RDWR | O_CREAT), 0);
	ck_assert_int_eq(try_open(c, "/host-1", O_RDONLY), 0);
	ck_assert_int_eq(try_open(c, "/read-1", O_RDONLY), -EOPNOTSUPP);
	ck_assert_ptr_nonnull(strstr(shmb_reason(c), "grants reading alone"));
	ck_assert_ptr_nonnull(strstr(shmb_reason(c), strerror(fault.error)));
	ck_assert_int_eq(try_open(c, "/read-1", O_RDWR), -EACCES);
	/* A private pool has its own. */
	close(make_object(c, "/frames-1"));
	check_read_only(c, "/frames-1");
	shmb_disconnect(c);
	fixture_stop(&fixture);
	log = hear_end(&heard);
	ck_assert_msg(
		lines_with(log, "pool \"host\" has no read-only twin", strerror(fault.error)) == 1,
		"%s", log);
	free(log);
}
END_TEST

/* What was asked for is what one gets, if it can't be kept from being more. */
START_TEST(without_a_twin_reading_alone_still_gives_a_descriptor_for_that)
{
	static const char *const access[] = { "caller", "grant" };
	static const int flags[] = { O_RDONLY, O_RDONLY | O_TRUNC, O_RDONLY | O_CREAT,
				     O_RDONLY | O_CREAT | O_TRUNC };
	char config[256];

	for (size_t i = 0; i < 2; i++) {
		const struct fixture_how how = { .config = config, .fault = &twin_faults[0] };
		struct fixture fixture;
		struct shmb *c;

		snprintf(config, sizeof(config),
			 "pools: { host: { path = \"@host@\" access = \"%s\" } }\n"
			 "rules: ( { name = \"r\" names = \"/*\" allow = \"all\" pool = \"host\" } "
			 ")\n",
			 access[i]);
		fixture_start(&fixture, &how);
		c = fixture_connect(&fixture);
		for (size_t j = 0; j < sizeof(flags) / sizeof(*flags); j++) {
			int made = make_object(c, "/x"), fd = shmb_open(c, "/x", flags[j], 0600);
			struct stat st;

			ck_assert_msg(fd >= 0, "%s: %s", access[i], shmb_reason(c));
			ck_assert_int_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
			ck_assert_int_eq(fstat(fd, &st), 0);
			ck_assert(!(flags[j] & O_TRUNC) || st.st_size == 0);
			ck_assert_int_eq(shmb_unlink(c, "/x"), 0);
			close(made);
			close(fd);
		}
		shmb_disconnect(c);
		fixture_stop(&fixture);
	}
}
END_TEST

/* --- given pools --- */

/* Mounts of a namespace of our own: one tmpfs twice, and others. */
static bool make_mounts(const char *at, char paths[6][160])
{
	static const char *const names[] = { "rw", "ro", "other", "rw2", "disk", "ro2" };

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return false;
	for (size_t i = 0; i < 6; i++) {
		snprintf(paths[i], 160, "%s/%s", at, names[i]);
		if (mkdir(paths[i], 0755) < 0)
			return false;
	}
	return mount("pool", paths[0], "tmpfs", 0, "size=1m,nr_inodes=9,mode=1777") == 0 &&
	       mount(paths[0], paths[1], NULL, MS_BIND, NULL) == 0 &&
	       mount(NULL, paths[1], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) == 0 &&
	       mount("other", paths[2], "tmpfs", MS_RDONLY, "size=1m") == 0 &&
	       mount(paths[0], paths[3], NULL, MS_BIND, NULL) == 0 &&
	       mount("proc", paths[4], "proc", 0, NULL) == 0 &&
	       mount(paths[1], paths[5], NULL, MS_BIND, NULL) == 0 &&
	       mount(NULL, paths[5], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) == 0;
}

static void check_pair(const char *path, const char *read_only, const char *wrong)
{
	char config[1024];
	struct fixture fixture;
	struct shmb *c;

	snprintf(config, sizeof(config),
		 "pools: { host: { path = \"@host@\" } given: { path = \"%s\" "
		 "read-only-path = \"%s\" } }\n"
		 "rules: ( { name = \"g\" names = \"/g-*\" allow = \"all\" pool = \"given\" },\n"
		 "         { name = \"h\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n",
		 path, read_only);
	fixture_start(&fixture, &(struct fixture_how){ .config = config, .no_table = true });
	c = fixture_connect(&fixture);
	if (wrong) {
		ck_assert_int_eq(try_open(c, "/g-1", O_RDWR | O_CREAT), -EOPNOTSUPP);
		ck_assert_msg(strstr(shmb_reason(c), wrong), "%s", shmb_reason(c));
		ck_assert_int_eq(try_open(c, "/h-1", O_RDWR | O_CREAT), 0);
	} else {
		close(make_object(c, "/g-1"));
		check_read_only(c, "/g-1");
		for (int i = 2; i <= 8; i++) {
			char name[16];

			snprintf(name, sizeof(name), "/g-%d", i);
			close(make_object(c, name));
		}
		ck_assert_int_eq(try_open(c, "/g-9", O_RDWR | O_CREAT), -ENOSPC);
	}
	shmb_disconnect(c);
	fixture_stop(&fixture);
}

/* Mounts as root, serves as somebody without any right. */
static int serve_given(void *argument)
{
	char base[64] = "/tmp/shmbroker-given.XXXXXX", paths[6][160];

	(void)argument;
	ck_assert(unshare(CLONE_NEWNS) == 0 &&
		  mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
		  mount("t", "/tmp", "tmpfs", 0, "mode=1777") == 0);
	ck_assert_ptr_nonnull(mkdtemp(base));
	ck_assert_int_eq(chmod(base, 0755), 0);
	ck_assert(make_mounts(base, paths));
	ck_assert(setgroups(0, NULL) == 0 && setresgid(ORDINARY, ORDINARY, ORDINARY) == 0 &&
		  setresuid(ORDINARY, ORDINARY, ORDINARY) == 0);
	check_pair(paths[0], paths[1], NULL);
	check_pair(paths[0], paths[3], "read-only-path must be mounted read-only");
	check_pair(paths[1], paths[5], "path must be mounted writable");
	check_pair(paths[0], paths[2], "one directory of one tmpfs");
	check_pair(paths[0], paths[4], "must be on a tmpfs");
	check_pair(paths[4], paths[1], "must be on a tmpfs");
	check_pair(paths[0], "/nowhere", "/nowhere must exist");
	exit(EXIT_SUCCESS);
}

START_TEST(a_given_pool_needs_no_right_and_is_checked)
{
	TEST_NEEDS(test_is_root() && test_has_namespaces(), "root and namespaces, for the mounts");
	ck_assert_int_eq(test_run_as((uid_t)-1, 0, NULL, 0, serve_given, NULL), 0);
}
END_TEST

Suite *suite_store(void)
{
	Suite *suite = suite_create("store");
	TCase *test = tcase_create("store");

	tcase_set_timeout(test, 120);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, each_kind_of_pool_serves_whoever_runs_the_broker);
	tcase_add_loop_test(test, a_failure_on_the_way_to_private_pools_leaves_the_others, 0,
			    sizeof(table_faults) / sizeof(*table_faults));
	tcase_add_loop_test(test, without_a_twin_only_what_was_promised_is_refused, 0,
			    sizeof(twin_faults) / sizeof(*twin_faults));
	tcase_add_test(test, without_a_twin_reading_alone_still_gives_a_descriptor_for_that);
	tcase_add_test(test, a_given_pool_needs_no_right_and_is_checked);
	store_add_demand(test);
	store_add_alone(test);
	suite_add_tcase(suite, test);
	return suite;
}
