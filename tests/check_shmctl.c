/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* shmctl as its users have it: what it makes, tells and refuses. What it runs is in
 * check_shmctl_run.c. */
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/fd.h"
#include "tests/shmctl_fixture.h"

static const char private_pools[] =
	"pools: { frames: { size = \"1M\" objects = 8 exec = true } host: { path = \"@host@\" } }\n"
	"rules: ( { name = \"all\" names = \"/frames-*\" allow = \"all\" pool = \"frames\" },\n"
	"         { name = \"host\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";

START_TEST(objects_are_made_filled_read_listed_and_removed)
{
	static const struct row rows[] = {
		{ { "ls" }, NULL, 0, "", "" },
		{ { "create", "/a", "64K" }, NULL, 0, "", "" },
		FAILS("/a: the object exists", "create", "a", "1"),
		{ { "create", "--mode=0604", "b", "0" }, NULL, 0, "", "" },
		FAILS("/no-1: rule \"nothing\" does not allow read,write,create", "create", "/no-1",
		      "1"),
		FAILS("/x/y: no object can have this name", "create", "/x/y", "1"),
		{ { "create", "/t\t\\", "0" }, NULL, 0, "", "" },
		{ { "ls" }, NULL, 0, "/a\n/b\n/t\\x09\\x5c\n", "" },
		{ { "ls", "/[ab]" }, NULL, 0, "/a\n/b\n", "" },
		FAILS("/none: no such object", "rm", "/t\t\\", "/none", "b"),
		{ { "write", "/none" }, "x", 1, "", "shmctl: /none: no such object\n" },
		{ { "write", "/a" }, "hello\n", 0, "", "" },
		{ { "cat", "/a" }, NULL, 0, "hello\n", "" },
		{ { "write", "a" }, "", 0, "", "" },
		{ { "cat", "/a" }, NULL, 0, "", "" },
		{ { "write", "/a", "--create" }, "x", 1, "", "shmctl: /a: the object exists\n" },
		{ { "cat", "/a" }, NULL, 0, "", "" },
		{ { "write", "--replace", "/a" }, "new", 0, "", "" },
		{ { "cat", "/a" }, NULL, 0, "new", "" },
		FAILS("/none: no such object", "stat", "/none"),
		{ { "write", "--replace", "/c" }, "x", 1, "", "shmctl: /c: no such object\n" },
		{ { "write", "--replace", "--create", "/c" }, "1", 0, "", "" },
		{ { "write", "--create", "/d" }, "2", 0, "", "" },
		{ { "write", "--create", "/kept-1" }, "3", 0, "", "" },
		{ { "write", "--replace", "/kept-1" },
		  "4",
		  1,
		  "",
		  "shmctl: /kept-1: rule \"kept\" does not allow unlink\n" },
		FAILS("/kept-1: rule \"kept\" does not allow unlink", "rm", "/kept-1"),
		{ { "cat", "/kept-1" }, NULL, 0, "3", "" },
		{ { "ls", "--no-pager" }, NULL, 0, "/a\n/c\n/d\n/kept-1\n", "" },
	};
	struct fixture fixture;

	shmctl_begin(&fixture, one_pool);
	CHECK_ROWS(&fixture, rows);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(wrong_usage_is_told_in_one_line_and_is_status_2)
{
	static const struct row rows[] = {
		WRONG_USAGE("a command is needed", NULL),
		WRONG_USAGE("there is no command foo\\x0a", "foo\n"),
		WRONG_USAGE("stat takes NAME...", "stat"),
		WRONG_USAGE("cat takes NAME, and no more", "cat", "a", "b"),
		WRONG_USAGE("pools takes no argument", "pools", "a"),
		WRONG_USAGE("ls has no option --hold", "ls", "--hold"),
		WRONG_USAGE("--bogus is no option, or takes no value", "--bogus", "ls"),
		WRONG_USAGE("there is no option -x", "ls", "-x"),
		WRONG_USAGE("--socket needs a value", "ls", "--socket"),
		WRONG_USAGE("12Q is no size: 4096, 64K, 1M, 2G, 1T", "create", "a", "12Q"),
		WRONG_USAGE("99999999999999T is no size: 4096, 64K, 1M, 2G, 1T", "create", "a",
			    "99999999999999T"),
		WRONG_USAGE("1777 is no mode: octal, 0 to 0777", "create", "a", "1", "--mode=1777"),
		WRONG_USAGE("the name would go with shmctl at once: --temporary needs --hold",
			    "create", "a", "1", "--temporary"),
		WRONG_USAGE("cat has no option --json", "cat", "a", "--json"),
		WRONG_USAGE("run has no option --json", "run", "--app=x", "--json", "true"),
		WRONG_USAGE("--cat prints files as they are: not with --json", "check-config",
			    "--cat", "--json"),
		WRONG_USAGE("5d is no time: 500ms, 5s (or 5), 2min, 1h", "wait", "a",
			    "--timeout=5d"),
		WRONG_USAGE("run needs --app=ID", "run", "true"),
		WRONG_USAGE("run takes -- COMMAND [ARG...]", "run", "--app=x"),
		WRONG_USAGE("rights are read, write, create, unlink, list, all, not fly", "explain",
			    "/x", "read,fly"),
		WRONG_USAGE("a process is all of who it is: --pid stands alone", "explain", "/x",
			    "--pid=1", "--app=x"),
	};
	struct fixture fixture;

	shmctl_begin(&fixture, one_pool);
	CHECK_ROWS(&fixture, rows);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(where_no_broker_is_it_says_so)
{
	static const struct row rows[] = {
		FAILS("no broker at /none: No such file or directory", "ls", "--socket=/none"),
		FAILS("--user needs XDG_RUNTIME_DIR, or --socket", "ls", "--user"),
		FAILS("no broker at @none: No such file or directory", "--user", "--socket=@none",
		      "ls"),
	};
	struct fixture fixture;

	shmctl_begin(&fixture, one_pool);
	CHECK_ROWS(&fixture, rows);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(all_that_may_be_asked_for_is_in_the_help)
{
	static const struct row version[] = {
		{ { "--version" }, NULL, 0, "shmctl " PACKAGE_VERSION "\n", "" },
	};
	struct fixture fixture;
	static struct ran ran;

	shmctl_begin(&fixture, one_pool);
	CHECK_ROWS(&fixture, version);
	shmctl_run(&ran, (const char *const[ARGUMENTS]){ "--help" }, NULL);
	ck_assert_int_eq(ran.status, 0);
	ck_assert_ptr_nonnull(strstr(ran.out, "check-config [DIR|FILE]"));
	ck_assert_ptr_nonnull(strstr(ran.out, "run --app=ID -- COMMAND [ARG...]"));
	shmctl_run(&ran, (const char *const[ARGUMENTS]){ "--help", "create" }, NULL);
	ck_assert_int_eq(ran.status, 0);
	ck_assert_ptr_nonnull(strstr(ran.out, "usage: shmctl create [OPTION...] NAME SIZE\n"));
	ck_assert_ptr_nonnull(strstr(ran.out, "--reserve"));
	fixture_stop(&fixture);
}
END_TEST

START_TEST(the_user_option_means_the_socket_below_the_runtime_directory)
{
	static const struct row rows[] = {
		{ { "--user", "ls" }, NULL, 0, "", "" },
		FAILS("no broker at /none: No such file or directory", "--socket=/none", "--user",
		      "ls"),
	};
	struct fixture fixture;
	char link[256];

	shmctl_begin(&fixture, one_pool);
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

	shmctl_run(&ran, arguments, NULL);
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

	shmctl_begin(&fixture, one_pool);
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
		FAILS("/frames-1: the size is over the pool's", "create", "/frames-1", "2M"),
		{ { "create", "/frames-1", "64K" }, NULL, 0, "", "" },
		FAILS("there is no pool \"none\"", "drop", "none"),
		FAILS("pool \"host\" is a directory of the machine's: only private pools can be "
		      "dropped",
		      "drop", "host"),
	};
	struct fixture fixture;
	static struct ran ran;
	json_t *document, *pool;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	shmctl_begin(&fixture, private_pools);
	CHECK_ROWS(&fixture, rows);
	document = RUN_JSON(0, "pools", "--json");
	pool = json_array_get(document, 0);
	ck_assert_str_eq(json_string_value(json_object_get(pool, "pool")), "frames");
	ck_assert_str_eq(json_string_value(json_object_get(pool, "kind")), "made");
	ck_assert_int_eq(json_integer_value(json_object_get(pool, "size")), 1 << 20);
	ck_assert_int_eq(json_integer_value(json_object_get(pool, "objects")), 1);
	ck_assert_int_eq(json_integer_value(json_object_get(pool, "objects_limit")), 8);
	ck_assert(json_is_true(json_object_get(pool, "read_only")));
	ck_assert(json_is_true(json_object_get(pool, "exec")));
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
	ck_assert(json_is_integer(json_object_get(document, "sealed")));
	ck_assert_int_eq(json_integer_value(json_object_get(document, "private_pools")), 1);
	ck_assert_int_eq(json_integer_value(json_object_get(document, "reloads")), 0);
	json_decref(document);
	fixture_configure(&fixture, "rules: ( 7 )\n");
	shmctl_run(&ran, (const char *const[ARGUMENTS]){ "reload" }, NULL);
	ck_assert_int_eq(ran.status, 1);
	ck_assert_ptr_nonnull(strstr(ran.err, shmctl_expected(&fixture, "shmctl: @config@:1")));
	fixture_configure(&fixture, private_pools);
	json_decref(RUN_JSON(0, "reload", "--json"));
	fixture_stop(&fixture);
}
END_TEST

START_TEST(stat_tells_how_a_pool_s_pages_are_placed)
{
	static const char placed[] =
		"pools: { a: { size = \"1M\" objects = 8 huge = \"never\" mpol = \"local\" }\n"
		"         frames: { size = \"1M\" objects = 8 } }\n"
		"rules: ( { name = \"a\" names = \"/a-*\" allow = \"all\" pool = \"a\" },\n"
		"         { name = \"f\" names = \"/f-*\" allow = \"all\" pool = \"frames\" } )\n";
	struct fixture fixture;
	json_t *list, *object;
	static struct ran ran;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	TEST_NEEDS(access("/sys/devices/system/node/node0", F_OK) == 0, "a kernel with NUMA");
	shmctl_begin(&fixture, placed);
	shmctl_run(&ran, (const char *const[ARGUMENTS]){ "create", "/a-1", "4K" }, NULL);
	shmctl_run(&ran, (const char *const[ARGUMENTS]){ "create", "/f-1", "4K" }, NULL);
	shmctl_run(&ran, (const char *const[ARGUMENTS]){ "stat", "/a-1", "/f-1" }, NULL);
	ck_assert_int_eq(ran.status, 0);
	ck_assert_ptr_nonnull(strstr(ran.out, "\nhuge       never\nmpol       local\n\nname"));
	ck_assert_ptr_null(strstr(strstr(ran.out, "/f-1"), "huge"));
	list = RUN_JSON(0, "stat", "/f-1", "/a-1", "--json");
	object = json_array_get(list, 1);
	ck_assert_str_eq(json_string_value(json_object_get(object, "huge")), "never");
	ck_assert_str_eq(json_string_value(json_object_get(object, "mpol")), "local");
	ck_assert_ptr_null(json_object_get(json_array_get(list, 0), "huge"));
	json_decref(list);
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
		FAILS("there is no user nosuch", "explain", "--as=nosuch", "/x"),
		FAILS("/x/y: no object can have this name", "explain", "/x/y"),
	};
	struct fixture fixture;
	json_t *document;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for the read-only twin of a directory");
	TEST_NEEDS(test_is_root(), "explaining others is for the administrator");
	shmctl_begin(&fixture, one_pool);
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

START_TEST(explain_without_a_who_is_of_who_asks)
{
	struct fixture fixture;
	json_t *document;

	shmctl_begin(&fixture, one_pool);
	document = RUN_JSON(0, "explain", "--json", "/no-1", "read");
	ck_assert_str_eq(json_string_value(json_object_get(document, "verdict")), "denied");
	ck_assert_str_eq(json_string_value(json_object_get(document, "rule")), "nothing");
	ck_assert_int_eq(json_integer_value(json_object_get(document, "uid")), geteuid());
	json_decref(document);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(check_config_says_what_the_broker_would)
{
	static const struct row rows[] = {
		FAILS("/none: No such file or directory", "check-config", "/none"),
		FAILS("/proc: has neither shmbroker.conf nor shmbroker.conf.d", "check-config",
		      "/proc"),
	};
	struct fixture fixture;
	static struct ran ran;
	json_t *document;

	shmctl_begin(&fixture, one_pool);
	shmctl_run(&ran, (const char *const[ARGUMENTS]){ "check-config", fixture.config }, NULL);
	ck_assert_int_eq(ran.status, 0);
	ck_assert_str_eq(ran.out, "1 pool and 4 rules in 1 file\n");
	CHECK_ROWS(&fixture, rows);
	document = RUN_JSON(0, "check-config", "--json", test_directory());
	ck_assert_int_eq(json_integer_value(json_object_get(document, "pools")), 1);
	ck_assert_str_eq(json_string_value(json_array_get(json_object_get(document, "files"), 0)),
			 fixture.config);
	json_decref(document);
	shmctl_run(&ran, (const char *const[ARGUMENTS]){ "check-config", "--cat", fixture.config },
		   NULL);
	ck_assert_int_eq(ran.status, 0);
	ck_assert_ptr_nonnull(strstr(ran.out, shmctl_expected(&fixture, "# @config@\npools: {")));
	fixture_configure(&fixture, "pools: { x: { size = 1M } }\n");
	shmctl_run(&ran, (const char *const[ARGUMENTS]){ "check-config", fixture.config }, NULL);
	ck_assert_int_eq(ran.status, 1);
	ck_assert_ptr_eq(strstr(ran.err, shmctl_expected(&fixture, "shmctl: @config@:1: ")),
			 ran.err);
	ck_assert_str_eq(ran.out, "");
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

	shmctl_begin(&fixture, one_pool);
	shmctl_run(&(struct ran){ 0 }, (const char *const[ARGUMENTS]){ "create", "/a", "64M" },
		   NULL);
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
		ck_assert_int_eq(
			shmctl_wait(shmctl_start((const char *const[ARGUMENTS]){ "ls", "-l" }, side,
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
	tcase_add_test(test, where_no_broker_is_it_says_so);
	tcase_add_test(test, all_that_may_be_asked_for_is_in_the_help);
	tcase_add_test(test, the_user_option_means_the_socket_below_the_runtime_directory);
	tcase_add_test(test, json_has_utf8_names_as_they_are_and_others_escaped);
	tcase_add_test(test, pools_status_reload_and_drop_are_typed);
	tcase_add_test(test, stat_tells_how_a_pool_s_pages_are_placed);
	tcase_add_test(test, explain_names_the_deciding_rule_and_why_not_the_ones_before);
	tcase_add_test(test, explain_without_a_who_is_of_who_asks);
	tcase_add_test(test, check_config_says_what_the_broker_would);
	tcase_add_test(test, a_terminal_gets_a_header_and_colour_unless_told_not_to);
	suite_add_tcase(suite, test);
	suite_add_tcase(suite, shmctl_case_of_run());
	suite_add_tcase(suite, shmctl_case_of_edges());
	return suite;
}
