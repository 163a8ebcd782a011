/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The preload library as a program has it that nobody changed: the drop-ins' whole suite again, in
 * a process whose shm_open(3) it is, and tests/unmodified, which isn't linked to anything of ours.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/fd.h"
#include "tests/fixture.h"
#include "tests/test.h"

/* Who can be anybody: the tests' own numbers, without a name. */
enum { OTHER_UID = 23451 };

static const char policy[] =
	"pools: { host: { path = \"@host@\" access = \"caller\" } }\n"
	"rules: ( { name = \"refused\" names = \"/refused-*\" allow = [] },\n"
	"         { name = \"short\" names = \"/short-*\" allow = \"all\" pool = \"host\"\n"
	"           lifetime = \"process\" },\n"
	"         { name = \"all\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";

static struct fixture fixture;
static char name[64]; /* nobody else's in the machine's /dev/shm */

static const char *library(void)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/.libs/libshmbroker-preload.so",
		 getenv("TEST_BUILDDIR") ? getenv("TEST_BUILDDIR") : ".");
	return path;
}

static void setup(void)
{
	test_fds_setup();
	snprintf(name, sizeof(name), "shmbroker-preload-%d", getpid());
	fixture_start(&fixture,
		      &(struct fixture_how){ .config = policy, .is_user = !test_is_root() });
}

static void teardown(void)
{
	shm_unlink(name);
	fixture_stop(&fixture);
	test_fds_teardown();
}

static bool is_in(const char *directory, const char *object)
{
	char path[256];
	struct stat status;

	snprintf(path, sizeof(path), "%s/%s", directory, object);
	return lstat(path, &status) == 0;
}

/* --- a process under it --- */

static int status_of(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* In a child, which ends here. variables: "NAME=VALUE", up to a NULL. */
static void execute(int out, const char *const *variables, const char *const *arguments)
	__attribute__((noreturn));
static void execute(int out, const char *const *variables, const char *const *arguments)
{
	unsetenv("SHMBROKER_FALLBACK");
	for (size_t i = 0; variables[i]; i++)
		putenv((char *)variables[i]);
	if (out < 0 || dup2(out, 1) == 1)
		execv(arguments[0], (char *const *)arguments);
	_exit(254);
}

static const char *preloading(const char *path)
{
	static char variable[600];

	snprintf(variable, sizeof(variable), "LD_PRELOAD=%s", path);
	return variable;
}

static const char *program(void)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/tests/unmodified", getenv("TEST_BUILDDIR"));
	return path;
}

/* Starts it under the library, with one variable beside (or NULL), its output in out (or -1). */
static pid_t start(int out, const char *variable, const char *way, const char *const *arguments)
{
	const char *const variables[] = { preloading(library()), variable, NULL };
	const char *argv[8] = { program(), way };
	pid_t pid;

	for (size_t i = 0; i < 5 && arguments[i]; i++)
		argv[i + 2] = arguments[i];
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		execute(out, variables, argv);
	return pid;
}
#define ARGUMENTS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* Its exit status. */
static int run_with(const char *variable, const char *way, const char *argument)
{
	return status_of(start(-1, variable, way, ARGUMENTS(argument)));
}

static int run(const char *way, const char *argument)
{
	return run_with(NULL, way, argument);
}

/* The same, and what it prints. */
static void run_and_read(char *ret, size_t size, const char *variable, const char *way,
			 const char *argument)
{
	_cleanup_close_ int out = memfd_create("output", MFD_CLOEXEC);
	ssize_t n;

	ck_assert_int_eq(status_of(start(out, variable, way, ARGUMENTS(argument))), 0);
	n = pread(out, ret, size - 1, 0);
	ck_assert_int_gt(n, 0);
	ret[n] = '\0';
}

/* --- the drop-ins' suite --- */

static void run_drop_ins(const char *variable)
{
	const char *const variables[] = {
		preloading(library()),
		"CK_RUN_SUITE=drop_in",
		"TEST_PRELOADED=1",
		/* The sanitizer's own library comes behind it, with the program. */
		"ASAN_OPTIONS=verify_asan_link_order=0",
		variable,
		NULL,
	};
	_cleanup_close_ int out = memfd_create("drop-ins", MFD_CLOEXEC);
	char text[8192];
	ssize_t size;
	pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		execute(out, variables, ARGUMENTS("/proc/self/exe"));
	status = status_of(pid);
	size = pread(out, text, sizeof(text) - 1, 0);
	text[size > 0 ? size : 0] = '\0';
	ck_assert_msg(status == 0, "status %d: %s", status, text);
	/* One that ran nothing would succeed, too. */
	ck_assert_ptr_null(strstr(text, "Checks: 0,"));
	ck_assert_ptr_nonnull(strstr(text, "Checks: "));
}

START_TEST(all_that_the_drop_ins_promise_holds)
{
	run_drop_ins(NULL);
}
END_TEST

/* It is no reason to do natively what a broker has done or may have done. */
START_TEST(all_of_it_holds_with_the_fallback_allowed)
{
	run_drop_ins("SHMBROKER_FALLBACK=1");
}
END_TEST

/* --- an unmodified program --- */

START_TEST(unmodified_program_makes_and_removes_its_objects_through_the_broker)
{
	ck_assert_int_eq(run("make", name), 0);
	ck_assert(is_in(fixture.host, name));
	ck_assert(!is_in("/dev/shm", name));
	ck_assert_int_eq(run("make", name), EEXIST);
	ck_assert_int_eq(run("remove", name), 0);
	ck_assert(!is_in(fixture.host, name));
	ck_assert_int_eq(run("remove", name), ENOENT);
	ck_assert_int_eq(run("make", "refused-a"), EACCES);
}
END_TEST

START_TEST(a_program_finds_nothing_else_changed)
{
	static char with[65536], without[65536];

	run_and_read(with, sizeof(with), NULL, "look", name);
	run_and_read(without, sizeof(without), "LD_PRELOAD=", "look", name);
	ck_assert_str_eq(with, without);
}
END_TEST

START_TEST(the_smallest_threads_stack_has_room)
{
	ck_assert_int_eq(run("thread", name), 0);
	/* What fails has a reason to write, too. */
	ck_assert_int_eq(run("thread", "refused-a"), EACCES);
	ck_assert_int_eq(run_with("SHMBROKER_SOCKET=/nonexistent", "thread", name), ECONNREFUSED);
}
END_TEST

START_TEST(a_programs_allocator_is_left_alone)
{
	char text[64];

	run_and_read(text, sizeof(text), NULL, "allocations", name);
	ck_assert_str_eq(text, "made, 0 allocations\n");
	run_and_read(text, sizeof(text), NULL, "allocations", "refused-a");
	ck_assert_str_eq(text, "EACCES, 0 allocations\n");
	setenv("SHMBROKER_SOCKET", "/nonexistent/socket", 1);
	run_and_read(text, sizeof(text), NULL, "allocations", name);
	ck_assert_str_eq(text, "ECONNREFUSED, 0 allocations\n");
	run_and_read(text, sizeof(text), "SHMBROKER_FALLBACK=1", "allocations", name);
	ck_assert_str_eq(text, "made, 0 allocations\n");
}
END_TEST

START_TEST(an_old_programs_versioned_symbol_is_taken_over)
{
	/* Its name is not to be in the machine's /dev/shm; that it is made here is its EEXIST. */
	ck_assert_int_eq(run("old", name), 0);
	ck_assert_int_eq(run("make", name), 0);
	ck_assert_int_eq(run("old", name), EEXIST);
}
END_TEST

START_TEST(a_killed_programs_names_go_where_the_rule_says_so)
{
	static const char *const names[] = { "short-a", "long-a" };

	for (size_t i = 0; i < 2; i++) {
		int ends[2];
		char byte;
		pid_t pid;

		ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
		pid = start(ends[1], NULL, "hold", ARGUMENTS(names[i]));
		close(ends[1]);
		ck_assert_int_eq(read(ends[0], &byte, 1), 1);
		ck_assert_int_eq(byte, '0');
		close(ends[0]);
		ck_assert(is_in(fixture.host, names[i]));
		kill(pid, SIGKILL);
		ck_assert_int_eq(status_of(pid), 1000 + SIGKILL);
	}
	/* Ten seconds are not what it takes, but what a machine may need for it. */
	for (int i = 0; i < 6000 && is_in(fixture.host, "short-a"); i++)
		usleep(10000);
	ck_assert(!is_in(fixture.host, "short-a"));
	ck_assert(is_in(fixture.host, "long-a"));
}
END_TEST

START_TEST(a_changed_root_leaves_the_connection_that_there_was)
{
	char empty[512];

	TEST_NEEDS(test_is_root(), "root");
	snprintf(empty, sizeof(empty), "%s/empty", fixture.directory);
	ck_assert_int_eq(mkdir(empty, 0700), 0);
	ck_assert_int_eq(status_of(start(-1, NULL, "chroot", ARGUMENTS(empty, name))),
			 ECONNREFUSED);
	ck_assert_int_eq(status_of(start(-1, NULL, "chroot", ARGUMENTS(empty, name, "before"))), 0);
	/* Nothing was made there, but for what gcov has written. */
	ck_assert(rmdir(empty) == 0 || (IS_COUNTING && errno == ENOTEMPTY));
}
END_TEST

/* --- without a broker --- */

START_TEST(without_a_broker_it_fails_unless_the_fallback_is_allowed)
{
	static const char *const not_allowed[] = {
		NULL,
		"SHMBROKER_FALLBACK=",
		"SHMBROKER_FALLBACK=0",
		"SHMBROKER_FALLBACK=yes",
	};

	setenv("SHMBROKER_SOCKET", "/nonexistent/socket", 1);
	for (size_t i = 0; i < sizeof(not_allowed) / sizeof(*not_allowed); i++) {
		ck_assert_int_eq(run_with(not_allowed[i], "make", name), ECONNREFUSED);
		ck_assert_int_eq(run_with(not_allowed[i], "remove", name), ECONNREFUSED);
	}
	ck_assert(!is_in("/dev/shm", name));
	ck_assert_int_eq(run_with("SHMBROKER_FALLBACK=1", "make", name), 0);
	ck_assert(is_in("/dev/shm", name));
	ck_assert_int_eq(run_with("SHMBROKER_FALLBACK=1", "make", name), EEXIST);
	ck_assert_int_eq(run_with("SHMBROKER_FALLBACK=1", "remove", name), 0);
	ck_assert(!is_in("/dev/shm", name));
	ck_assert_int_eq(run_with("SHMBROKER_FALLBACK=1", "remove", name), ENOENT);
}
END_TEST

START_TEST(what_no_broker_takes_is_the_fallbacks_only_without_one)
{
	char reserved[96];

	snprintf(reserved, sizeof(reserved), ".shmbroker.%s", name);
	ck_assert_int_eq(run_with("SHMBROKER_FALLBACK=1", "make", reserved), EINVAL);
	ck_assert_int_eq(run_with("SHMBROKER_FALLBACK=1", "remove", reserved), ENOENT);
	setenv("SHMBROKER_SOCKET", "/nonexistent/socket", 1);
	ck_assert_int_eq(run_with("SHMBROKER_FALLBACK=1", "make", reserved), 0);
	ck_assert(is_in("/dev/shm", reserved));
	ck_assert_int_eq(run_with("SHMBROKER_FALLBACK=1", "remove", reserved), 0);
	ck_assert(!is_in("/dev/shm", reserved));
}
END_TEST

START_TEST(a_refusal_is_never_asked_of_another)
{
	ck_assert_int_eq(run_with("SHMBROKER_FALLBACK=1", "make", "refused-a"), EACCES);
	ck_assert(!is_in("/dev/shm", "refused-a"));
	ck_assert_int_eq(run_with("SHMBROKER_FALLBACK=1", "remove", "absent"), ENOENT);
}
END_TEST

/* --- set-user-id --- */

/* Both where anybody may read them, and a set-user-id bit counts. */
static char place[64], place_program[96], place_library[96];

static int make_there(void *argument)
{
	execute(-1, (const char *const[]){ preloading(place_library), NULL },
		ARGUMENTS(place_program, "make", name));
}

static bool set_user_id_counts(void)
{
	struct statvfs status;

	return statvfs(place, &status) == 0 && !(status.f_flag & ST_NOSUID) &&
	       prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0;
}

static void fill_place(void)
{
	char command[2048];

	strcpy(place, "/tmp/shmbroker-test.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(place));
	ck_assert_int_eq(chmod(place, 0755), 0);
	snprintf(place_program, sizeof(place_program), "%s/unmodified", place);
	snprintf(place_library, sizeof(place_library), "%s/library.so", place);
	snprintf(command, sizeof(command), "install -m 755 '%s' '%s' && install -m 644 '%s' '%s'",
		 program(), place_program, library(), place_library);
	ck_assert_int_eq(system(command), 0);
}

static void empty_place(void)
{
	unlink(place_program);
	unlink(place_library);
	ck_assert_int_eq(rmdir(place), 0);
}

START_TEST(a_set_user_id_program_is_left_as_it_is)
{
	bool counts;

	TEST_NEEDS(test_is_root(), "root");
	fill_place();
	counts = set_user_id_counts();
	ck_assert_int_eq(test_run_as(OTHER_UID, OTHER_UID, NULL, 0, make_there, NULL), 0);
	ck_assert(is_in(fixture.host, name));
	ck_assert(!is_in("/dev/shm", name));
	ck_assert_int_eq(chmod(place_program, 04755), 0);
	if (counts)
		ck_assert_int_eq(test_run_as(OTHER_UID, OTHER_UID, NULL, 0, make_there, NULL), 0);
	empty_place();
	TEST_NEEDS(counts, "/tmp where set-user-id bits count");
	/* In the broker's pool it would have been EEXIST. */
	ck_assert(is_in("/dev/shm", name));
}
END_TEST

static void add_unmodified(TCase *tests)
{
	tcase_add_test(tests, unmodified_program_makes_and_removes_its_objects_through_the_broker);
	tcase_add_test(tests, a_program_finds_nothing_else_changed);
	tcase_add_test(tests, the_smallest_threads_stack_has_room);
	tcase_add_test(tests, a_programs_allocator_is_left_alone);
	tcase_add_test(tests, an_old_programs_versioned_symbol_is_taken_over);
	tcase_add_test(tests, a_killed_programs_names_go_where_the_rule_says_so);
	tcase_add_test(tests, a_changed_root_leaves_the_connection_that_there_was);
	tcase_add_test(tests, without_a_broker_it_fails_unless_the_fallback_is_allowed);
	tcase_add_test(tests, what_no_broker_takes_is_the_fallbacks_only_without_one);
	tcase_add_test(tests, a_refusal_is_never_asked_of_another);
	tcase_add_test(tests, a_set_user_id_program_is_left_as_it_is);
}

START_TEST(there_is_a_library)
{
	TEST_NEEDS(false, "a built tree with shared libraries (TEST_BUILDDIR)");
}
END_TEST

Suite *suite_preload(void)
{
	Suite *suite = suite_create("preload");
	TCase *tests = tcase_create("preload");

	suite_add_tcase(suite, tests);
	tcase_set_timeout(tests, 120);
	if (access(library(), R_OK) < 0) {
		tcase_add_test(tests, there_is_a_library);
		return suite;
	}
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, all_that_the_drop_ins_promise_holds);
	tcase_add_test(tests, all_of_it_holds_with_the_fallback_allowed);
	/* A program that isn't sanitized can't load a library that is. */
	if (!IS_SANITIZED)
		add_unmodified(tests);
	return suite;
}
