/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every allocation and every system call on the daemon's, the keeper's and the library's ways, made
 * to fail in turn: no crash, nothing lost, and nobody gets more than without the fault.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fault_scene.h"
#include "tests/test.h"

#define ROWS(rows) (sizeof(rows) / sizeof(*(rows)))

#define RULES(pool)                                                                                \
	"rules: ( { name = \"none\" names = \"/denied*\" allow = [] },\n"                          \
	"  { name = \"reading\" names = \"/read*\" allow = [\"read\", \"list\"] pool = \"" pool    \
	"\" },\n"                                                                                  \
	"  { name = \"rest\" names = \"/*\" allow = \"all\" pool = \"" pool "\" } )\n"

static const char grant[] = "pools: { host: { path = \"@host@\" access = \"grant\" } }\n" RULES(
	"host");
static const char caller[] = "pools: { host: { path = \"@host@\" access = \"caller\" } }\n" RULES(
	"host");
static const char made[] = "pools: { frames: { size = \"1M\" objects = 16 } }\n" RULES("frames");

#define STRANGER 4711

static void make_there(struct scene *scene)
{
	int fd = shmb_open(scene->other, "/there", O_RDWR | O_CREAT, 0600);

	FAULT_EXPECT(fd >= 0);
	close(fd);
}

static void remove_there(struct scene *scene)
{
	int result = shmb_unlink(scene->other, "/there");

	FAULT_EXPECT(result == 0 || result == -ENOENT);
}

static int open_as(struct scene *scene, const char *name, int oflag)
{
	return scene->fd[0] = shmb_open(scene->c, name, oflag, 0600);
}

static int call_connect(struct scene *scene)
{
	return shmb_connect(&scene->c, scene->fixture.socket);
}

static int call_open(struct scene *scene)
{
	return open_as(scene, "/there", O_RDWR);
}

static int call_open_read_only(struct scene *scene)
{
	return open_as(scene, "/there", O_RDONLY);
}

static int call_truncate(struct scene *scene)
{
	return open_as(scene, "/there", O_RDWR | O_TRUNC);
}

static int call_create(struct scene *scene)
{
	return open_as(scene, "/new", O_RDWR | O_CREAT);
}

static int call_create_read_only(struct scene *scene)
{
	return open_as(scene, "/new", O_RDONLY | O_CREAT);
}

static int call_create_exclusive(struct scene *scene)
{
	return open_as(scene, "/new", O_RDWR | O_CREAT | O_EXCL);
}

static int call_create_taken(struct scene *scene)
{
	return open_as(scene, "/there", O_RDWR | O_CREAT | O_EXCL);
}

static int call_create_sized(struct scene *scene)
{
	const struct shmb_how how = { .oflag = O_RDWR | O_CREAT, .mode = 0600, .size = 8192 };

	return scene->fd[0] = shmb_open_how(scene->c, "/new", &how, sizeof(how));
}

static int call_open_none(struct scene *scene)
{
	return open_as(scene, "/none", O_RDWR);
}

static int call_open_denied(struct scene *scene)
{
	return open_as(scene, "/denied", O_RDWR | O_CREAT);
}

static int call_write_readable(struct scene *scene)
{
	return open_as(scene, "/readable", O_RDWR | O_CREAT);
}

static int call_unlink(struct scene *scene)
{
	return shmb_unlink(scene->c, "/there");
}

static int call_stat(struct scene *scene)
{
	struct shmb_info info;

	return shmb_stat(scene->c, "/there", &info, sizeof(info));
}

static int count_one(const struct shmb_info *info, void *argument)
{
	(void)info;
	++*(unsigned *)argument;
	return 0;
}

static int call_list(struct scene *scene)
{
	scene->count = 0;
	return shmb_list(scene->c, "/*", sizeof(struct shmb_info), count_one, &scene->count);
}

#define BOTH (FAULT_SELF | FAULT_LOOP)
#define THERE .before = make_there, .after = remove_there

/* Each asked of each pool. */
static const struct fault_case plain[] = {
	{ "connect", .call = call_connect, .is_unconnected = true },
	{ "open", .call = call_open, THERE },
	{ "open for reading", .call = call_open_read_only, THERE },
	{ "truncate", .call = call_truncate, THERE },
	{ "create", .call = call_create, .is_create = true },
	{ "create for reading", .call = call_create_read_only, .is_create = true },
	{ "create alone", .call = call_create_exclusive, .is_create = true },
	{ "create with a size", .call = call_create_sized, .is_create = true },
	{ "create what is there", .call = call_create_taken, THERE, .expected = -EEXIST },
	{ "open what isn't there", .call = call_open_none, .expected = -ENOENT },
	{ "open what no rule allows", .call = call_open_denied, .expected = -EACCES },
	{ "write what may be read", .call = call_write_readable, .expected = -EACCES },
	{ "unlink", .call = call_unlink, THERE },
	{ "stat", .call = call_stat, THERE },
	{ "list", .call = call_list, THERE },
};

static void run_plain(const char *config, uid_t uid)
{
	struct fault_case rows[2 * ROWS(plain)];

	for (size_t i = 0; i < ROWS(rows); i++) {
		rows[i] = plain[i / 2];
		rows[i].config = config;
		rows[i].uid = uid;
		rows[i].roles = i % 2 ? FAULT_LOOP : FAULT_SELF;
	}
	fault_run(rows, ROWS(rows));
}

START_TEST(a_fault_of_an_ordinary_call_in_a_path_pool)
{
	run_plain(grant, 0);
}
END_TEST

START_TEST(a_fault_of_an_ordinary_call_under_the_callers_ids)
{
	run_plain(caller, 0);
}
END_TEST

START_TEST(a_fault_of_an_ordinary_call_in_a_made_pool)
{
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	run_plain(made, 0);
}
END_TEST

/* --- what could be forgotten --- */

static const struct {
	const char *reason, *names;
} others[] = {
#define FAULT_OTHERS(reason, names) { reason, " " names " " },
#include "tests/fault_others.h"
#undef FAULT_OTHERS
};

/* Libraries whose calls into the system are their own, and what a compiler adds. */
static const char *const prefixes[] = { "seccomp_", "__asan_", "__ubsan_", "__sanitizer_",
					"__gcov_",  "__llvm_", "__lsan_" };

static bool is_listed(const char *name)
{
	char word[300];

	for (size_t i = 0; i < ROWS(prefixes); i++) {
		if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	}
	snprintf(word, sizeof(word), " %s ", name);
	for (size_t i = 0; i < ROWS(others); i++) {
		if (strstr(others[i].names, word))
			return true;
	}
	return false;
}

/* The whole of a small file. */
static char *read_text(const char *directory, const char *name)
{
	char path[512];
	static char text[16384];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "re");
	ck_assert_ptr_nonnull(file);
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	fclose(file);
	return text;
}

START_TEST(each_call_of_ours_can_fail_or_says_why_not)
{
	static const char command[] =
		"cd '%s' && nm -g .libs/libcore.a .libs/libedge.a .libs/libclient.a "
		".libs/libproto.a .libs/libfilter.a daemon/shmbrokerd-*.o | awk 'NF == 2 && $1 == "
		"\"U\" { used[$2] } NF == 3 { ours[$3] } END { for (name in used) if (!(name in "
		"ours)) print name }'";
	const char *build = getenv("TEST_BUILDDIR"), *source = getenv("TEST_SRCDIR");
	char line[256], text[1024], option[300], *wrapped;
	unsigned count = 0;
	FILE *pipe;

	TEST_NEEDS(build && source, "TEST_BUILDDIR and TEST_SRCDIR don't name a built tree");
	wrapped = read_text(source, "fault.wrap");
	snprintf(text, sizeof(text), command, build);
	pipe = popen(text, "re");
	ck_assert_ptr_nonnull(pipe);
	while (fgets(line, sizeof(line), pipe)) {
		line[strcspn(line, "\n")] = '\0';
		snprintf(option, sizeof(option), "--wrap=%s\n", line);
		ck_assert_msg(strstr(wrapped, option) || is_listed(line),
			      "%s: is it in fault_calls.h or fault_others.h?", line);
		count++;
	}
	ck_assert_int_eq(pclose(pipe), 0);
	ck_assert_uint_gt(count, 200);
}
END_TEST

Suite *suite_fault(void)
{
	Suite *suite = suite_create("fault");
	TCase *tests = tcase_create("calls");

	tcase_set_timeout(tests, 300);
	tcase_add_checked_fixture(tests, test_fds_setup, test_fds_teardown);
	tcase_add_test(tests, each_call_of_ours_can_fail_or_says_why_not);
	tcase_add_test(tests, a_fault_of_an_ordinary_call_in_a_path_pool);
	tcase_add_test(tests, a_fault_of_an_ordinary_call_under_the_callers_ids);
	tcase_add_test(tests, a_fault_of_an_ordinary_call_in_a_made_pool);
	suite_add_tcase(suite, tests);
	suite_add_tcase(suite, fault_case_of_calls());
	suite_add_tcase(suite, fault_case_of_pools());
	suite_add_tcase(suite, fault_case_of_starts());
	suite_add_tcase(suite, fault_case_of_restarts());
	suite_add_tcase(suite, fault_case_of_bus());
	suite_add_tcase(suite, fault_case_of_the_program());
	return suite;
}
