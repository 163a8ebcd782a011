/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where contexts have their sockets: whom they let in, what is removed and what is left alone. A
 * case of the suite "place".
 */
#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/place_fixture.h"

/* A base for contexts below the test's directory, or why there is none. */
static int base_open(struct context_base *ret, bool per_user)
{
	return context_base_open(ret, path_of("contexts"), per_user);
}

START_TEST(context_is_its_makers_alone)
{
	struct context_place place;
	struct context_base base;
	char path[CONTEXT_PATH_SIZE];
	struct stat st;
	int r;

	r = base_open(&base, true);
	TEST_NEEDS(r != -EOPNOTSUPP, "no ACLs");
	ck_assert_int_eq(r, 0);
	ck_assert_uint_eq(mode_of("contexts"), S_IFDIR | 0755);
	ck_assert_int_eq(context_place_make(&place, &base, ALICE), 0);
	ck_assert_uint_eq(place.maker, ALICE);
	ck_assert_uint_eq(place.number, 1);
	/* The group's bits show the ACL's mask. */
	ck_assert_uint_eq(mode_of("contexts/2001"), S_IFDIR | 0710);
	ck_assert_uint_eq(mode_of("contexts/2001/1"), S_IFDIR | 0755);
	ck_assert_uint_eq(mode_of("contexts/2001/1/socket"), S_IFSOCK | 0666);
	ck_assert_int_eq(getxattr(path_of("contexts/2001"), "system.posix_acl_access", NULL, 0),
			 4 + 5 * 8);
	ck_assert_int_eq(context_place_path(path, sizeof(path), &base, &place), 0);
	ck_assert_str_eq(path, path_of("contexts/2001/1"));
	ck_assert_int_eq(context_place_path(path, strlen(path), &base, &place), -ERANGE);
	ck_assert_int_eq(stat(path_of("contexts/2001/1"), &st), 0);
	ck_assert_uint_eq(st.st_uid, geteuid());
	ck_assert_int_eq(context_place_remove(&base, &place), 0);
	context_base_done(&base);
}
END_TEST

static int connect_to(void *name)
{
	return try_connect(name);
}

static int list_or_make(void *name)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", directory, (const char *)name);
	if (opendir(path))
		return 1;
	return mkdir(strcat(path, "/x"), 0700) == 0 ? 2 : 0;
}

START_TEST(others_than_the_maker_are_out_of_reach)
{
	char socket[] = "contexts/2001/1/socket", maker[] = "contexts/2001";
	const gid_t groups[] = { 0, ALICE };
	struct context_place place;
	struct context_base base;
	int r;

	TEST_NEEDS(test_is_root(), "takes other ids");
	r = base_open(&base, true);
	TEST_NEEDS(r != -EOPNOTSUPP, "no ACLs");
	ck_assert_int_eq(r, 0);
	ck_assert_int_eq(context_place_make(&place, &base, ALICE), 0);
	ck_assert_int_eq(test_run_as(ALICE, ALICE, NULL, 0, connect_to, socket), 0);
	ck_assert_int_eq(test_run_as(BOB, BOB, NULL, 0, connect_to, socket), EACCES);
	/* Not by a group either, the directory's own or the maker's. */
	ck_assert_int_eq(test_run_as(BOB, ALICE, groups, 2, connect_to, socket), EACCES);
	/* And the maker reaches what he was told, but finds and leaves nothing. */
	ck_assert_int_eq(test_run_as(ALICE, ALICE, NULL, 0, list_or_make, maker), 0);
	ck_assert_int_eq(context_place_remove(&base, &place), 0);
	context_base_done(&base);
}
END_TEST

START_TEST(removal_takes_the_makers_directory_with_the_last)
{
	struct context_place one, two;
	struct context_base base;
	int r = base_open(&base, true);

	TEST_NEEDS(r != -EOPNOTSUPP, "no ACLs");
	ck_assert_int_eq(r, 0);
	ck_assert_int_eq(context_place_make(&one, &base, ALICE), 0);
	ck_assert_int_eq(context_place_make(&two, &base, ALICE), 0);
	ck_assert_uint_ne(one.number, two.number);
	ck_assert_int_eq(context_place_remove(&base, &one), 0);
	ck_assert_int_eq(one.listener, -EBADF);
	ck_assert_uint_eq(mode_of("contexts/2001/1"), 0);
	ck_assert_int_eq(try_connect("contexts/2001/2/socket"), 0);
	ck_assert_int_eq(context_place_remove(&base, &one), -ENOENT);
	/* A number that another broker has taken is passed over. */
	base.next = two.number;
	ck_assert_int_eq(context_place_make(&one, &base, ALICE), 0);
	ck_assert_uint_eq(one.number, two.number + 1);
	ck_assert_int_eq(context_place_remove(&base, &two), 0);
	ck_assert_int_eq(context_place_remove(&base, &one), 0);
	ck_assert_uint_eq(count_entries("contexts"), 0);
	ck_assert_int_eq(context_place_remove(&base, &one), -ENOENT);
	context_base_done(&base);
}
END_TEST

START_TEST(user_brokers_contexts_have_no_level_of_uids)
{
	struct context_place place;
	struct context_base base;

	ck_assert_int_eq(base_open(&base, false), 0);
	ck_assert_uint_eq(mode_of("contexts"), S_IFDIR | 0700);
	ck_assert_int_eq(context_place_make(&place, &base, geteuid()), 0);
	ck_assert_uint_eq(mode_of("contexts/1"), S_IFDIR | 0755);
	ck_assert_int_eq(try_connect("contexts/1/socket"), 0);
	/* The sandbox has the same uid, and may leave something behind. */
	make_entry("contexts/1/litter", S_IFREG, NULL);
	ck_assert_int_eq(context_place_remove(&base, &place), -ENOTEMPTY);
	ck_assert_uint_eq(mode_of("contexts/1/socket"), 0);
	ck_assert_int_eq(unlinkat(directory_fd, "contexts/1/litter", 0), 0);
	ck_assert_int_eq(context_place_remove(&base, &place), 0);
	ck_assert_uint_eq(count_entries("contexts"), 0);
	context_base_done(&base);
}
END_TEST

/* What a broker that was killed leaves: the names, with nobody behind them. */
static void crash(struct context_place *place)
{
	place->listener = fd_close(place->listener);
}

START_TEST(sweep_removes_what_does_not_answer_and_nothing_else)
{
	static const char *const kept[] = {
		"outside/1/socket",   "contexts/link",	      "contexts/file",
		"contexts/012/1",     "contexts/99999999999", "contexts/2001/3/file",
		"contexts/2001/name",
	};
	struct context_place crashed, live, littered, other;
	struct place_socket outside;
	struct context_base base;
	int r = base_open(&base, true);

	TEST_NEEDS(r != -EOPNOTSUPP, "no ACLs");
	ck_assert_int_eq(r, 0);
	ck_assert_int_eq(context_base_sweep(&base), 0);
	ck_assert_int_eq(context_place_make(&crashed, &base, ALICE), 0);
	ck_assert_int_eq(context_place_make(&live, &base, ALICE), 0);
	ck_assert_int_eq(context_place_make(&littered, &base, ALICE), 0);
	ck_assert_int_eq(context_place_make(&other, &base, BOB), 0);
	crash(&crashed);
	crash(&littered);
	crash(&other);
	make_entry("contexts/2001/3/file", S_IFREG, NULL);
	make_entry("contexts/2001/name", S_IFDIR, NULL);
	/* Crashed half way: a directory alone, and one with an unfinished socket. */
	make_entry("contexts/2001/8", S_IFDIR, NULL);
	make_entry("contexts/2001/9", S_IFDIR, NULL);
	make_entry("contexts/2001/9/.shmbroker-0123456789abcdef", S_IFSOCK, NULL);
	/* A way out of the base, and names that only look like numbers. */
	make_entry("outside", S_IFDIR, NULL);
	make_entry("outside/1", S_IFDIR, NULL);
	make_entry("contexts/file", S_IFREG, NULL);
	make_entry("contexts/link", S_IFLNK, "../outside");
	make_entry("contexts/7", S_IFLNK, "../outside");
	make_entry("contexts/2001/7", S_IFLNK, "../../outside/1");
	make_entry("contexts/012", S_IFDIR, NULL);
	make_entry("contexts/012/1", S_IFDIR, NULL);
	make_entry("contexts/99999999999", S_IFDIR, NULL);
	r = place_directory_open(path_of("outside/1"), PLACE_SHARED);
	ck_assert_int_eq(place_listen(&outside, r, "socket", 0666), 0);
	fd_close(r);
	end(&outside);

	ck_assert_int_eq(context_base_sweep(&base), 4);
	ck_assert_uint_eq(mode_of("contexts/2001/1"), 0);
	ck_assert_uint_eq(mode_of("contexts/2001/8"), 0);
	ck_assert_uint_eq(mode_of("contexts/2001/9"), 0);
	ck_assert_uint_eq(mode_of("contexts/2002"), 0);
	ck_assert_int_eq(try_connect("contexts/2001/2/socket"), 0);
	for (size_t i = 0; i < sizeof(kept) / sizeof(*kept); i++)
		ck_assert_msg(mode_of(kept[i]) != 0, "%s", kept[i]);
	ck_assert_uint_eq(mode_of("contexts/7") & S_IFMT, S_IFLNK);
	ck_assert_uint_eq(mode_of("contexts/2001/7") & S_IFMT, S_IFLNK);
	ck_assert_int_eq(context_place_remove(&base, &live), 0);
	context_base_done(&base);
}
END_TEST

START_TEST(sweep_leaves_what_is_not_ours)
{
	struct context_place place;
	struct context_base base;
	int r;

	TEST_NEEDS(test_is_root(), "gives a directory away");
	r = base_open(&base, true);
	TEST_NEEDS(r != -EOPNOTSUPP, "no ACLs");
	ck_assert_int_eq(r, 0);
	ck_assert_int_eq(context_place_make(&place, &base, ALICE), 0);
	crash(&place);
	ck_assert_int_eq(chown(path_of("contexts/2001"), BOB, BOB), 0);
	ck_assert_int_eq(context_base_sweep(&base), 0);
	ck_assert_uint_ne(mode_of("contexts/2001/1/socket"), 0);
	ck_assert_int_eq(context_place_make(&place, &base, ALICE), -EPERM);
	ck_assert_int_eq(chown(path_of("contexts/2001"), geteuid(), 0), 0);
	ck_assert_int_eq(context_base_sweep(&base), 1);
	ck_assert_uint_eq(count_entries("contexts"), 0);
	context_base_done(&base);
}
END_TEST

START_TEST(user_brokers_sweep_knows_no_uids)
{
	struct context_place crashed, live;
	struct context_base base;

	ck_assert_int_eq(base_open(&base, false), 0);
	ck_assert_int_eq(context_place_make(&crashed, &base, geteuid()), 0);
	ck_assert_int_eq(context_place_make(&live, &base, geteuid()), 0);
	crash(&crashed);
	ck_assert_int_eq(context_base_sweep(&base), 1);
	ck_assert_uint_eq(count_entries("contexts"), 1);
	ck_assert_int_eq(try_connect("contexts/2/socket"), 0);
	ck_assert_int_eq(context_place_remove(&base, &live), 0);
	context_base_done(&base);
}
END_TEST

START_TEST(any_contexts_path_fits)
{
	struct context_place largest = { .maker = UINT32_MAX, .number = UINT32_MAX };
	char path[CONTEXT_PATH_SIZE], name[CONTEXT_PATH_SIZE] = "";
	struct context_base base;
	size_t room;

	for (int per_user = 0; per_user < 2; per_user++) {
		room = CONTEXT_PATH_SIZE - 1 - (per_user ? 22 : 11) - strlen(path_of(""));
		memset(name, 'n', room + 1);
		name[room + 1] = '\0';
		ck_assert_int_eq(context_base_open(&base, path_of(name), per_user), -ENAMETOOLONG);
		name[room] = '\0';
		if (context_base_open(&base, path_of(name), per_user) == -EOPNOTSUPP)
			continue;
		ck_assert_int_eq(context_place_path(path, sizeof(path), &base, &largest), 0);
		ck_assert_uint_eq(strlen(path), sizeof(path) - 1);
		context_base_done(&base);
	}
}
END_TEST

/* In a mount namespace of its own: ramfs has no ACLs. */
static int open_without_acls(void *argument)
{
	struct context_base base;

	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", path_of("contexts"), "ramfs", 0, "mode=0755") < 0)
		return 1;
	if (context_base_open(&base, path_of("contexts"), true) != -EOPNOTSUPP)
		return 2;
	if (context_base_open(&base, path_of("contexts"), false) < 0)
		return 3;
	context_base_done(&base);
	return 0;
}

START_TEST(without_acls_there_are_contexts_for_a_user_broker_alone)
{
	TEST_NEEDS(test_is_root() && test_has_namespaces(), "mounts a ramfs");
	ck_assert_int_eq(mkdirat(directory_fd, "contexts", 0755), 0);
	ck_assert_int_eq(test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, open_without_acls, NULL), 0);
}
END_TEST

TCase *place_case_of_contexts(void)
{
	TCase *tcase = tcase_create("contexts");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, context_is_its_makers_alone);
	tcase_add_test(tcase, others_than_the_maker_are_out_of_reach);
	tcase_add_test(tcase, removal_takes_the_makers_directory_with_the_last);
	tcase_add_test(tcase, user_brokers_contexts_have_no_level_of_uids);
	tcase_add_test(tcase, sweep_removes_what_does_not_answer_and_nothing_else);
	tcase_add_test(tcase, sweep_leaves_what_is_not_ours);
	tcase_add_test(tcase, user_brokers_sweep_knows_no_uids);
	tcase_add_test(tcase, any_contexts_path_fits);
	tcase_add_test(tcase, without_acls_there_are_contexts_for_a_user_broker_alone);
	return tcase;
}
