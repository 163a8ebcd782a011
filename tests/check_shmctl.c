/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * shmctl as its users have it: the built program is started against a broker in this process,
 * and what it writes and how it ends are compared.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/fd.h"
#include "tests/fixture.h"
#include "tests/test.h"

#define ARGUMENTS 10

static const char one_pool[] = "pools: { host: { path = \"@host@\" access = \"grant\" } }\n"
			       "rules: ( { name = \"viewers read\" app = \"org.example.*\" group = "
			       "0 names = \"/frames-*\"\n"
			       "           allow = \"read\" pool = \"host\" },\n"
			       "         { name = \"nothing\" names = \"/no-*\" allow = [] },\n"
			       "         { name = \"kept\" names = \"/kept-*\" allow = [ \"read\", "
			       "\"write\", \"create\", \"list\" ]\n"
			       "           pool = \"host\" },\n"
			       "         { name = \"all\" sandboxed = false names = \"/*\" allow = "
			       "\"all\" pool = \"host\" } )\n";

static const char private_pools[] =
	"pools: { frames: { size = \"1M\" objects = 8 } host: { path = \"@host@\" } }\n"
	"rules: ( { name = \"all\" names = \"/frames-*\" allow = \"all\" pool = \"frames\" },\n"
	"         { name = \"host\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";

/* One run of the program. */
struct ran {
	int status;
	char out[8192], err[2048];
};

struct started {
	pid_t pid;
	int out; /* its standard output: a pipe, or -EBADF */
};

static int memory_file(const char *text)
{
	int fd = memfd_create("shmctl", MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

/* In a child, between fork and exec: other threads' locks may be held. */
static pid_t start_program(const char *program, const char *const *arguments, int in, int out,
			   int err)
{
	const char *argv[ARGUMENTS + 2] = { program };
	pid_t pid;

	for (size_t i = 0; i < ARGUMENTS && arguments[i]; i++)
		argv[i + 1] = arguments[i];
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid > 0)
		return pid;
	signal(SIGPIPE, SIG_DFL);
	if (dup2(in, 0) == 0 && dup2(out, 1) == 1 && dup2(err, 2) == 2)
		execv(program, (char *const *)argv);
	_exit(98);
}

static pid_t start(const char *const *arguments, int in, int out, int err)
{
	char program[512];

	snprintf(program, sizeof(program), "%s/shmctl", getenv("TEST_BUILDDIR"));
	return start_program(program, arguments, in, out, err);
}

static int wait_for(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void read_back(int fd, char *ret, size_t size)
{
	ssize_t n = pread(fd, ret, size - 1, 0);

	ck_assert_int_ge(n, 0);
	ret[n] = '\0';
}

static void run_program(struct ran *ret, const char *program, const char *const *arguments,
			const char *input)
{
	_cleanup_close_ int in = memory_file(input ? input : "");
	_cleanup_close_ int out = memory_file("");
	_cleanup_close_ int err = memory_file("");

	ret->status = wait_for(program ? start_program(program, arguments, in, out, err)
				       : start(arguments, in, out, err));
	read_back(out, ret->out, sizeof(ret->out));
	read_back(err, ret->err, sizeof(ret->err));
}

static void run(struct ran *ret, const char *const *arguments, const char *input)
{
	run_program(ret, NULL, arguments, input);
}

/* `@config@`, `@socket@` and `@contexts@` in what is expected are this test's. */
static const char *expected(const struct fixture *fixture, const char *text)
{
	static char buffer[4096];
	const char *const words[][2] = {
		{ "@config@", fixture->config },
		{ "@socket@", fixture->socket },
		{ "@contexts@", fixture->contexts_path },
	};
	size_t used = 0;

	while (*text) {
		const char *piece = NULL;

		for (size_t i = 0; !piece && i < 3; i++) {
			size_t size = strlen(words[i][0]);

			if (strncmp(text, words[i][0], size) == 0) {
				piece = words[i][1];
				text += size;
			}
		}
		if (piece)
			used += (size_t)sprintf(buffer + used, "%s", piece);
		else
			buffer[used++] = *text++;
		ck_assert_uint_lt(used, sizeof(buffer) - 256);
	}
	buffer[used] = '\0';
	return buffer;
}

struct row {
	const char *arguments[ARGUMENTS];
	const char *input; /* NULL: none */
	int status;
	const char *out, *err;
};

static void check_rows(const struct fixture *fixture, const struct row *rows, size_t count)
{
	static struct ran ran;

	for (size_t i = 0; i < count; i++) {
		run(&ran, rows[i].arguments, rows[i].input);
		ck_assert_msg(ran.status == rows[i].status, "row %zu: %d, %s", i, ran.status,
			      ran.err);
		ck_assert_msg(strcmp(ran.out, expected(fixture, rows[i].out)) == 0, "row %zu: %s",
			      i, ran.out);
		ck_assert_msg(strcmp(ran.err, expected(fixture, rows[i].err)) == 0, "row %zu: %s",
			      i, ran.err);
	}
}
#define CHECK_ROWS(fixture, rows) check_rows(fixture, rows, sizeof(rows) / sizeof(*(rows)))

static void begin(struct fixture *fixture, const char *config)
{
	umask(022);
	unsetenv("XDG_RUNTIME_DIR");
	fixture_start(fixture,
		      &(struct fixture_how){ .config = config, .is_user = !test_is_root() });
}

START_TEST(objects_are_made_filled_read_listed_and_removed)
{
	static const struct row rows[] = {
		{ { "ls" }, NULL, 0, "", "" },
		{ { "create", "/a", "64K" }, NULL, 0, "", "" },
		{ { "create", "a", "1" }, NULL, 1, "", "shmctl: /a: the object exists\n" },
		{ { "create", "--mode=0604", "b", "0" }, NULL, 0, "", "" },
		{ { "create", "/no-1", "1" },
		  NULL,
		  1,
		  "",
		  "shmctl: /no-1: rule \"nothing\" does not allow read,write,create\n" },
		{ { "create", "/x/y", "1" },
		  NULL,
		  1,
		  "",
		  "shmctl: /x/y: no object can have this name\n" },
		{ { "create", "/t\t\\", "0" }, NULL, 0, "", "" },
		{ { "ls" }, NULL, 0, "/a\n/b\n/t\\x09\\x5c\n", "" },
		{ { "ls", "/[ab]" }, NULL, 0, "/a\n/b\n", "" },
		{ { "rm", "/t\t\\", "/none", "b" },
		  NULL,
		  1,
		  "",
		  "shmctl: /none: No such file or directory\n" },
		{ { "write", "/none" }, "x", 1, "", "shmctl: /none: no such object\n" },
		{ { "write", "/a" }, "hello\n", 0, "", "" },
		{ { "cat", "/a" }, NULL, 0, "hello\n", "" },
		{ { "write", "a" }, "", 0, "", "" },
		{ { "cat", "/a" }, NULL, 0, "", "" },
		{ { "write", "/a", "--create" }, "x", 1, "", "shmctl: /a: the object exists\n" },
		{ { "cat", "/a" }, NULL, 0, "", "" },
		{ { "write", "--replace", "/a" }, "new", 0, "", "" },
		{ { "cat", "/a" }, NULL, 0, "new", "" },
		{ { "write", "--replace", "/c" },
		  "x",
		  1,
		  "",
		  "shmctl: /c: No such file or directory\n" },
		{ { "write", "--replace", "--create", "/c" }, "1", 0, "", "" },
		{ { "write", "--create", "/d" }, "2", 0, "", "" },
		{ { "write", "--create", "/kept-1" }, "3", 0, "", "" },
		{ { "write", "--replace", "/kept-1" },
		  "4",
		  1,
		  "",
		  "shmctl: /kept-1: rule \"kept\" does not allow unlink\n" },
		{ { "rm", "/kept-1" },
		  NULL,
		  1,
		  "",
		  "shmctl: /kept-1: rule \"kept\" does not allow unlink\n" },
		{ { "cat", "/kept-1" }, NULL, 0, "3", "" },
		{ { "ls", "--no-pager" }, NULL, 0, "/a\n/c\n/d\n/kept-1\n", "" },
	};
	struct fixture fixture;

	begin(&fixture, one_pool);
	CHECK_ROWS(&fixture, rows);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(wrong_usage_is_told_in_one_line_and_is_status_2)
{
	static const struct row rows[] = {
		{ { NULL }, NULL, 2, "", "shmctl: a command is needed; see shmctl --help\n" },
		{ { "foo\n" },
		  NULL,
		  2,
		  "",
		  "shmctl: there is no command foo\\x0a; see shmctl --help\n" },
		{ { "stat" }, NULL, 2, "", "shmctl: stat takes NAME...; see shmctl --help\n" },
		{ { "cat", "a", "b" },
		  NULL,
		  2,
		  "",
		  "shmctl: cat takes NAME, and no more; see shmctl --help\n" },
		{ { "ls", "--hold" },
		  NULL,
		  2,
		  "",
		  "shmctl: ls has no option --hold; see shmctl --help\n" },
		{ { "--bogus", "ls" },
		  NULL,
		  2,
		  "",
		  "shmctl: --bogus is no option, or takes no value; see shmctl --help\n" },
		{ { "ls", "-x" },
		  NULL,
		  2,
		  "",
		  "shmctl: there is no option -x; see shmctl --help\n" },
		{ { "ls", "--socket" },
		  NULL,
		  2,
		  "",
		  "shmctl: --socket needs a value; see shmctl --help\n" },
		{ { "create", "a", "12Q" },
		  NULL,
		  2,
		  "",
		  "shmctl: 12Q is no size; see shmctl --help\n" },
		{ { "create", "a", "99999999999999T" },
		  NULL,
		  2,
		  "",
		  "shmctl: 99999999999999T is no size; see shmctl --help\n" },
		{ { "create", "a", "1", "--mode=1777" },
		  NULL,
		  2,
		  "",
		  "shmctl: 1777 is no mode; see shmctl --help\n" },
		{ { "create", "a", "1", "--temporary" },
		  NULL,
		  2,
		  "",
		  "shmctl: the name would go with shmctl at once: --temporary needs --hold; see "
		  "shmctl --help\n" },
		{ { "run", "true" },
		  NULL,
		  2,
		  "",
		  "shmctl: run needs --app=ID; see shmctl --help\n" },
		{ { "run", "--app=x" },
		  NULL,
		  2,
		  "",
		  "shmctl: run takes -- COMMAND [ARG...]; see shmctl --help\n" },
		{ { "explain", "/x", "read,fly" },
		  NULL,
		  2,
		  "",
		  "shmctl: rights are read, write, create, unlink, list, all, not fly; see shmctl "
		  "--help\n" },
		{ { "explain", "/x", "--pid=1", "--app=x" },
		  NULL,
		  2,
		  "",
		  "shmctl: a process is all of who it is: --pid stands alone; see shmctl "
		  "--help\n" },
		{ { "--version" }, NULL, 0, "shmctl " PACKAGE_VERSION "\n", "" },
		{ { "ls", "--socket=/none" },
		  NULL,
		  1,
		  "",
		  "shmctl: no broker at /none: No such file or directory\n" },
		{ { "ls", "--user" },
		  NULL,
		  1,
		  "",
		  "shmctl: --user needs XDG_RUNTIME_DIR, or --socket\n" },
		{ { "--user", "--socket=@none", "ls" },
		  NULL,
		  1,
		  "",
		  "shmctl: no broker at @none: No such file or directory\n" },
	};
	struct fixture fixture;
	static struct ran ran;

	begin(&fixture, one_pool);
	CHECK_ROWS(&fixture, rows);
	/* All that may be asked for is in the help; what the library can't do yet is not. */
	run(&ran, (const char *const[ARGUMENTS]){ "--help" }, NULL);
	ck_assert_int_eq(ran.status, 0);
	ck_assert_ptr_nonnull(strstr(ran.out, "check-config [DIR|FILE]"));
	run(&ran, (const char *const[ARGUMENTS]){ "--help", "create" }, NULL);
	ck_assert_int_eq(ran.status, 0);
	ck_assert_ptr_nonnull(strstr(ran.out, "usage: shmctl create NAME SIZE\n"));
	ck_assert_ptr_null(strstr(ran.out, "--reserve"));
	fixture_stop(&fixture);
}
END_TEST

START_TEST(the_user_option_means_the_socket_below_the_runtime_directory)
{
	static const struct row rows[] = {
		{ { "--user", "ls" }, NULL, 0, "", "" },
		{ { "--socket=/none", "--user", "ls" },
		  NULL,
		  1,
		  "",
		  "shmctl: no broker at /none: No such file or directory\n" },
	};
	struct fixture fixture;
	char link[256];

	begin(&fixture, one_pool);
	snprintf(link, sizeof(link), "%s/shmbroker", test_directory());
	ck_assert_int_eq(symlink(fixture.directory, link), 0);
	setenv("XDG_RUNTIME_DIR", test_directory(), 1);
	setenv("SHMBROKER_SOCKET", "/none", 1);
	CHECK_ROWS(&fixture, rows);
	fixture_stop(&fixture);
}
END_TEST

/* Runs it and parses its one document. */
static json_t *run_json(const char *const *arguments, int status)
{
	static struct ran ran;
	json_error_t error;
	json_t *document;

	run(&ran, arguments, NULL);
	ck_assert_msg(ran.status == status, "%d: %s", ran.status, ran.err);
	document = json_loads(ran.out, 0, &error);
	ck_assert_msg(document != NULL, "%s: %s", error.text, ran.out);
	return document;
}
#define RUN_JSON(status, ...) run_json((const char *const[ARGUMENTS]){ __VA_ARGS__ }, status)

START_TEST(json_has_utf8_names_as_they_are_and_others_escaped)
{
	static const struct {
		const char *name, *shown;
		bool escaped;
	} rows[] = {
		{ "/a\\", "/a\\", false },
		{ "/a\xff", "/a\\xff", true },
		{ "/gr\xc3\xbc\xc3\x9f", "/gr\xc3\xbc\xc3\x9f", false },
	};
	struct fixture fixture;
	json_t *list, *at;

	begin(&fixture, one_pool);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		json_decref(RUN_JSON(0, "create", "--json", rows[i].name, "4K", "--mode=0444"));
	list = RUN_JSON(0, "--json", "ls");
	ck_assert_uint_eq(json_array_size(list), 3);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		at = json_array_get(list, i);
		ck_assert_str_eq(json_string_value(json_object_get(at, "name")), rows[i].shown);
		ck_assert_int_eq(json_is_true(json_object_get(at, "escaped")), rows[i].escaped);
		ck_assert_int_eq(json_integer_value(json_object_get(at, "size")), 4096);
		ck_assert_str_eq(json_string_value(json_object_get(at, "mode")), "0444");
		ck_assert_str_eq(json_string_value(json_object_get(at, "pool")), "host");
	}
	json_decref(list);
	/* What can be told is, beside a failure. */
	list = RUN_JSON(1, "stat", "/none", "/a\\", "--json");
	ck_assert_uint_eq(json_array_size(list), 1);
	json_decref(list);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(pools_status_reload_and_drop_are_typed)
{
	static const struct row rows[] = {
		{ { "create", "/frames-1", "2M" },
		  NULL,
		  1,
		  "",
		  "shmctl: /frames-1: the size is over the pool's\n" },
		{ { "create", "/frames-1", "64K" }, NULL, 0, "", "" },
		{ { "drop", "none" }, NULL, 1, "", "shmctl: there is no pool \"none\"\n" },
		{ { "drop", "host" },
		  NULL,
		  1,
		  "",
		  "shmctl: pool \"host\" is a directory of the machine's: only private pools can "
		  "be "
		  "dropped\n" },
	};
	struct fixture fixture;
	static struct ran ran;
	json_t *document, *pool;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	begin(&fixture, private_pools);
	CHECK_ROWS(&fixture, rows);
	document = RUN_JSON(0, "pools", "--json");
	pool = json_array_get(document, 0);
	ck_assert_str_eq(json_string_value(json_object_get(pool, "pool")), "frames");
	ck_assert_str_eq(json_string_value(json_object_get(pool, "kind")), "made");
	ck_assert_int_eq(json_integer_value(json_object_get(pool, "size")), 1 << 20);
	ck_assert_int_eq(json_integer_value(json_object_get(pool, "objects")), 1);
	ck_assert_int_eq(json_integer_value(json_object_get(pool, "objects_limit")), 8);
	ck_assert(json_is_true(json_object_get(pool, "read_only")));
	json_decref(document);
	document = RUN_JSON(0, "drop", "frames", "--json");
	ck_assert_str_eq(json_string_value(json_object_get(document, "dropped")), "frames");
	json_decref(document);
	document = RUN_JSON(0, "ls", "/frames-*", "--json");
	ck_assert_uint_eq(json_array_size(document), 0);
	json_decref(document);
	document = RUN_JSON(0, "status", "--json");
	ck_assert_str_eq(json_string_value(json_object_get(document, "version")), PACKAGE_VERSION);
	ck_assert_int_eq(json_integer_value(json_object_get(document, "rules")), 2);
	ck_assert_uint_eq(json_array_size(json_object_get(document, "files")), 1);
	json_decref(document);
	fixture_configure(&fixture, "rules: ( 7 )\n");
	run(&ran, (const char *const[ARGUMENTS]){ "reload" }, NULL);
	ck_assert_int_eq(ran.status, 1);
	ck_assert_ptr_nonnull(strstr(ran.err, expected(&fixture, "shmctl: @config@:1")));
	fixture_configure(&fixture, private_pools);
	json_decref(RUN_JSON(0, "reload", "--json"));
	fixture_stop(&fixture);
}
END_TEST

START_TEST(explain_names_the_deciding_rule_and_why_not_the_ones_before)
{
	static const struct row rows[] = {
		{ { "explain", "/frames-1", "write,read", "--app", "org.example.viewer" },
		  NULL,
		  0,
		  "/frames-1: denied\n"
		  "  rule       \"viewers read\" (@config@:2)\n"
		  "  wanted     read,write\n"
		  "  allows     read\n"
		  "  missing    write\n"
		  "  pool       host\n"
		  "  uid        0\n"
		  "  sandboxed  yes\n"
		  "  app        org.example.viewer\n",
		  "" },
		{ { "explain", "--as=54321", "no-1" },
		  NULL,
		  0,
		  "/no-1: denied\n"
		  "  rule       \"nothing\" (@config@:4)\n"
		  "  wanted     nothing\n"
		  "  allows     nothing\n"
		  "  uid        54321\n"
		  "  sandboxed  no\n"
		  "passed over:\n"
		  "  \"viewers read\" (@config@:2): is for the group 0, this is in 4294967294\n",
		  "" },
		{ { "explain", "--as=nosuch", "/x" },
		  NULL,
		  1,
		  "",
		  "shmctl: there is no user nosuch\n" },
		{ { "explain", "/x/y" },
		  NULL,
		  1,
		  "",
		  "shmctl: /x/y: no object can have this name\n" },
	};
	struct fixture fixture;
	json_t *document;

	TEST_NEEDS(test_is_root(), "explaining others is for the administrator");
	begin(&fixture, one_pool);
	CHECK_ROWS(&fixture, rows);
	document = RUN_JSON(0, "explain", "--json", "--as=root", "/x", "all");
	ck_assert_str_eq(json_string_value(json_object_get(document, "verdict")), "allowed");
	ck_assert_str_eq(json_string_value(json_object_get(document, "rule")), "all");
	ck_assert_int_eq(json_integer_value(json_object_get(document, "line")), 7);
	ck_assert_uint_eq(json_array_size(json_object_get(document, "passed_over")), 3);
	json_decref(document);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(check_config_says_what_the_broker_would)
{
	static const struct row rows[] = {
		{ { "check-config", "/none" },
		  NULL,
		  1,
		  "",
		  "shmctl: /none: No such file or directory\n" },
		{ { "check-config", "/proc" },
		  NULL,
		  1,
		  "",
		  "shmctl: /proc: has neither shmbroker.conf nor shmbroker.conf.d\n" },
	};
	struct fixture fixture;
	static struct ran ran;
	json_t *document;

	begin(&fixture, one_pool);
	run(&ran, (const char *const[ARGUMENTS]){ "check-config", fixture.config }, NULL);
	ck_assert_int_eq(ran.status, 0);
	ck_assert_str_eq(ran.out, "1 pool and 4 rules in 1 file\n");
	CHECK_ROWS(&fixture, rows);
	document = RUN_JSON(0, "check-config", "--json", test_directory());
	ck_assert_int_eq(json_integer_value(json_object_get(document, "pools")), 1);
	ck_assert_str_eq(json_string_value(json_array_get(json_object_get(document, "files"), 0)),
			 fixture.config);
	json_decref(document);
	run(&ran, (const char *const[ARGUMENTS]){ "check-config", "--cat", fixture.config }, NULL);
	ck_assert_int_eq(ran.status, 0);
	ck_assert_ptr_nonnull(strstr(ran.out, expected(&fixture, "# @config@\npools: {")));
	fixture_configure(&fixture, "pools: { x: { size = 1M } }\n");
	run(&ran, (const char *const[ARGUMENTS]){ "check-config", fixture.config }, NULL);
	ck_assert_int_eq(ran.status, 1);
	ck_assert_ptr_eq(strstr(ran.err, expected(&fixture, "shmctl: @config@:1: ")), ran.err);
	ck_assert_str_eq(ran.out, "");
	fixture_stop(&fixture);
}
END_TEST

START_TEST(run_gives_the_command_a_context_and_ends_as_it_does)
{
	static const struct row rows[] = {
		{ { "run", "--app=org.example.a", "--", "sh", "-c",
		    "echo $SHMBROKER_SOCKET @context@ x@context@y@context@; exit 7" },
		  NULL,
		  7,
		  "@contexts@/0/1/socket @contexts@/0/1 x@contexts@/0/1y@contexts@/0/1\n",
		  "" },
		{ { "run", "--app=x", "sh", "--", "-c", "kill -9 $$" }, NULL, 137, "", "" },
		{ { "run", "--app=x", "--", "cat" }, "input", 0, "input", "" },
		{ { "run", "--app=x", "--", "/none" },
		  NULL,
		  127,
		  "",
		  "shmctl: /none: No such file or directory\n" },
		{ { "run", "--app=x", "--", "/proc" },
		  NULL,
		  126,
		  "",
		  "shmctl: /proc: Permission denied\n" },
		{ { "run", "--app=a b", "--", "true" },
		  NULL,
		  1,
		  "",
		  "shmctl: a b: no app can have this id\n" },
		/* SIGTERM is not blocked in it. */
		{ { "run", "--app=x", "--", "sh", "-c", "kill $$" }, NULL, 143, "", "" },
	};
	struct fixture fixture;

	TEST_NEEDS(test_is_root(), "contexts' directories have a level of uids");
	begin(&fixture, one_pool);
	CHECK_ROWS(&fixture, rows);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(run_hands_no_descriptor_of_its_own_down)
{
	static const char count[] = "ls /proc/self/fd | wc -l";
	struct fixture fixture;
	static struct ran with, without;

	begin(&fixture, one_pool);
	run(&with, (const char *const[ARGUMENTS]){ "run", "--app=x", "--", "/bin/sh", "-c", count },
	    NULL);
	run_program(&without, "/bin/sh", (const char *const[ARGUMENTS]){ "-c", count }, NULL);
	ck_assert_int_eq(with.status, 0);
	ck_assert_str_eq(with.out, without.out);
	fixture_stop(&fixture);
}
END_TEST

/* Starts it with its output in a pipe and reads its first line. */
static struct started start_and_read(const char *const *arguments, int in, char *line, size_t size)
{
	struct started started;
	int ends[2];
	size_t used = 0;

	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	started.pid = start(arguments, in, ends[1], 2);
	started.out = ends[0];
	close(ends[1]);
	while (used + 1 < size && read(started.out, line + used, 1) == 1 && line[used] != '\n')
		used++;
	line[used] = '\0';
	return started;
}

static int stop(struct started *started, int number)
{
	if (number)
		ck_assert_int_eq(kill(started->pid, number), 0);
	started->out = fd_close(started->out);
	return wait_for(started->pid);
}

START_TEST(run_forwards_signals)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1 };
	struct fixture fixture;

	begin(&fixture, one_pool);
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++) {
		_cleanup_close_ int in = memory_file("");
		struct started started;
		char line[64];

		started = start_and_read(
			(const char *const[ARGUMENTS]){
				"run", "--app=x", "--", "sh", "-c",
				"trap 'exit 5' TERM INT HUP USR1; echo ready; "
				"while :; do read line || sleep 0.01; done" },
			in, line, sizeof(line));
		ck_assert_str_eq(line, "ready");
		ck_assert_int_eq(stop(&started, signals[i]), 5);
	}
	fixture_stop(&fixture);
}
END_TEST

START_TEST(a_context_is_held_until_a_signal_or_the_end_of_input)
{
	struct fixture fixture;
	struct started started;
	char line[256];
	int in[2];

	begin(&fixture, one_pool);
	ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
	for (int with_stdin = 0; with_stdin < 2; with_stdin++) {
		started = start_and_read(
			(const char *const[ARGUMENTS]){ "context", "--app=org.example.x",
							with_stdin ? "--stdin" : NULL },
			in[0], line, sizeof(line));
		ck_assert_int_eq(access(line, X_OK), 0);
		if (with_stdin)
			in[1] = fd_close(in[1]);
		ck_assert_int_eq(stop(&started, with_stdin ? 0 : SIGTERM), 0);
		/* Its end is an event of the loop's next round; the directory goes with it. */
		for (int i = 0; i < 3; i++)
			fixture_tick(&fixture, 0);
		ck_assert_int_eq(access(line, X_OK), -1);
	}
	close(in[0]);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(a_temporary_name_stays_while_it_is_held)
{
	struct fixture fixture;
	struct started started;
	struct shmb_info info;
	struct shmb *c;
	char line[64];
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	begin(&fixture, one_pool);
	c = fixture_connect(&fixture);
	for (int temporary = 0; temporary < 2; temporary++) {
		started = start_and_read(
			(const char *const[ARGUMENTS]){ "create", "/t", "8K", "--hold",
							temporary ? "--temporary" : NULL },
			null, line, sizeof(line));
		ck_assert_str_eq(line, "/t");
		ck_assert_int_eq(shmb_stat(c, "/t", &info, sizeof(info)), 0);
		ck_assert_uint_eq(info.size, 8192);
		ck_assert_int_eq(info.creator_pid, temporary ? started.pid : 0);
		ck_assert_int_eq(stop(&started, SIGINT), 0);
		fixture_tick(&fixture, 0);
		ck_assert_int_eq(shmb_unlink(c, "/t"), temporary ? -ENOENT : 0);
	}
	shmb_disconnect(c);
	close(null);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(a_terminal_gets_a_header_and_colour_unless_told_not_to)
{
	static const struct {
		const char *term, *no_color, *begin;
	} rows[] = {
		{ "xterm", NULL, "\033[1mMODE" },
		{ "xterm", "1", "MODE" },
		{ "dumb", NULL, "MODE" },
		{ "xterm", "", "\033[1mMODE" }, /* empty: as if it weren't set */
	};
	struct fixture fixture;
	char text[4096];

	begin(&fixture, one_pool);
	run(&(struct ran){ 0 }, (const char *const[ARGUMENTS]){ "create", "/a", "64M" }, NULL);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		_cleanup_close_ int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
		_cleanup_close_ int side = -EBADF;
		ssize_t size;

		ck_assert_int_eq(grantpt(terminal) | unlockpt(terminal), 0);
		side = open(ptsname(terminal), O_RDWR | O_NOCTTY | O_CLOEXEC);
		setenv("TERM", rows[i].term, 1);
		unsetenv("NO_COLOR");
		if (rows[i].no_color)
			setenv("NO_COLOR", rows[i].no_color, 1);
		ck_assert_int_eq(wait_for(start((const char *const[ARGUMENTS]){ "ls", "-l" }, side,
						side, 2)),
				 0);
		size = read(terminal, text, sizeof(text) - 1);
		ck_assert_int_gt(size, 0);
		text[size] = '\0';
		ck_assert_msg(strncmp(text, rows[i].begin, strlen(rows[i].begin)) == 0, "%s", text);
		ck_assert_ptr_nonnull(strstr(text, " 64.0M "));
	}
	fixture_stop(&fixture);
}
END_TEST

Suite *suite_shmctl(void)
{
	Suite *suite = suite_create("shmctl");
	TCase *test = tcase_create("shmctl");

	tcase_set_timeout(test, 60);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, objects_are_made_filled_read_listed_and_removed);
	tcase_add_test(test, wrong_usage_is_told_in_one_line_and_is_status_2);
	tcase_add_test(test, the_user_option_means_the_socket_below_the_runtime_directory);
	tcase_add_test(test, json_has_utf8_names_as_they_are_and_others_escaped);
	tcase_add_test(test, pools_status_reload_and_drop_are_typed);
	tcase_add_test(test, explain_names_the_deciding_rule_and_why_not_the_ones_before);
	tcase_add_test(test, check_config_says_what_the_broker_would);
	tcase_add_test(test, run_gives_the_command_a_context_and_ends_as_it_does);
	tcase_add_test(test, run_hands_no_descriptor_of_its_own_down);
	tcase_add_test(test, run_forwards_signals);
	tcase_add_test(test, a_context_is_held_until_a_signal_or_the_end_of_input);
	tcase_add_test(test, a_temporary_name_stays_while_it_is_held);
	tcase_add_test(test, a_terminal_gets_a_header_and_colour_unless_told_not_to);
	suite_add_tcase(suite, test);
	return suite;
}
