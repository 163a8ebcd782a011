/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * shmctl where something isn't as it should be: standard descriptors that are closed, arguments
 * that are too long, a broker that is hostile. A case of the suite "shmctl".
 */
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/fd.h"
#include "tests/shmctl_fixture.h"

/* A shell's lines, in which $shmctl is the program. */
struct script {
	const char *text;
	int status;
	const char *out, *err;
};

static void check_scripts(const struct script *scripts, size_t count)
{
	static struct ran ran;
	char path[512];

	snprintf(path, sizeof(path), "%s/shmctl", getenv("TEST_BUILDDIR"));
	setenv("shmctl", path, 1);
	for (size_t i = 0; i < count; i++) {
		shmctl_run_program(&ran, "/bin/sh",
				   (const char *const[ARGUMENTS]){ "-c", scripts[i].text }, NULL);
		ck_assert_msg(ran.status == scripts[i].status, "script %zu: %d, %s", i, ran.status,
			      ran.err);
		ck_assert_msg(strcmp(ran.out, scripts[i].out) == 0, "script %zu: %s", i, ran.out);
		ck_assert_msg(strcmp(ran.err, scripts[i].err) == 0, "script %zu: %s", i, ran.err);
	}
}
#define CHECK_SCRIPTS(scripts) check_scripts(scripts, sizeof(scripts) / sizeof(*(scripts)))

START_TEST(an_object_is_never_a_standard_descriptor)
{
	static const char no_input[] = "shmctl: standard input: Bad file descriptor\n";
	static const char no_output[] = "shmctl: standard output: Bad file descriptor\n";
	static const struct script scripts[] = {
		{ "echo kept | $shmctl write --create /x", 0, "", "" },
		{ "$shmctl write --replace /x <&-", 1, "", no_input },
		{ "$shmctl write /x <&-", 1, "", no_input },
		{ "$shmctl write --create /none <&- >&-", 1, "", no_input },
		{ "$shmctl write /x <&- 2>&-", 1, "", "" },
		{ "$shmctl cat /x", 0, "kept\n", "" },
		{ "$shmctl cat /x >&-", 1, "", no_output },
		{ "$shmctl cat /x <&-", 0, "kept\n", "" },
		{ "$shmctl ls >&-", 1, "", no_output },
		{ "$shmctl --version <&- >&-", 1, "", no_output },
		{ "$shmctl create /y 4K --json >&-", 1, "", no_output },
		{ "$shmctl cat /y <&- | tr -d '\\0'", 0, "", "" },
		{ "$shmctl rm /x <&- >&- 2>&-", 0, "", "" },
		{ "$shmctl ls", 0, "/y\n", "" },
	};
	struct fixture fixture;

	shmctl_begin(&fixture, one_pool);
	CHECK_SCRIPTS(scripts);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(a_closed_input_has_ended_and_is_closed_for_the_command_too)
{
	static const struct script scripts[] = {
		{ "$shmctl context --app=x --stdin <&- | wc -l", 0, "1\n", "" },
		{ "$shmctl run --app=x -- sh -c 'test -e /proc/self/fd/0 || echo none' <&-", 0,
		  "none\n", "" },
		{ "$shmctl run --app=x -- sh -c 'exit 5' <&- >&- 2>&-", 5, "", "" },
	};
	struct fixture fixture;

	shmctl_begin(&fixture, one_pool);
	CHECK_SCRIPTS(scripts);
	fixture_stop(&fixture);
}
END_TEST

/* In the directory of the fixture's own, which are the configuration from the next reload on. */
static void add_files(struct fixture *fixture, int count, int name_size)
{
	static const char *directories[2];
	char path[512];

	directories[0] = test_directory();
	fixture->source.file = NULL;
	fixture->source.directories = directories;
	snprintf(path, sizeof(path), "%s/shmbroker.conf.d", test_directory());
	mkdir(path, 0755);
	for (int i = 0; i < count; i++) {
		_cleanup_close_ int fd = -EBADF;

		snprintf(path, sizeof(path), "%s/shmbroker.conf.d/%0*d.conf", test_directory(),
			 name_size, i);
		fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
		ck_assert_int_eq(write(fd, "#\n", 2), 2);
	}
}

START_TEST(however_many_files_there_are_status_tells_the_counters)
{
	static const struct {
		int count, name_size;
		bool all; /* are told */
	} rows[] = { { 100, 10, true }, { 200, 200, false } };
	static const struct script refused[] = {
		{ "$shmctl reload 2>/dev/null", 1, "", "" },
		{ "$shmctl status | grep -o -E '^(requests|last-reload) '", 0,
		  "requests \nlast-reload \n", "" },
	};
	struct fixture fixture;
	static struct ran ran;
	json_t *document;
	int total = 1;

	shmctl_begin(&fixture, one_pool);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		json_int_t left_out;
		size_t told;

		total += rows[i].count;
		add_files(&fixture, rows[i].count, rows[i].name_size);
		fixture_configure(&fixture, one_pool);
		shmctl_run(&ran, (const char *const[ARGUMENTS]){ "reload" }, NULL);
		ck_assert_msg(ran.status == 0, "%s", ran.err);
		fixture_configure(&fixture, "rules: ( 7 )\n");
		CHECK_SCRIPTS(refused);
		shmctl_run(&ran, (const char *const[ARGUMENTS]){ "status", "--json" }, NULL);
		document = json_loads(ran.out, 0, NULL);
		ck_assert(json_is_integer(json_object_get(document, "contexts_ever")));
		ck_assert(json_is_string(json_object_get(document, "last_reload")));
		told = json_array_size(json_object_get(document, "files"));
		left_out = json_integer_value(json_object_get(document, "files_left_out"));
		ck_assert_int_eq((json_int_t)told + left_out, total);
		ck_assert(rows[i].all ? left_out == 0 : left_out > 0);
		json_decref(document);
	}
	fixture_stop(&fixture);
}
END_TEST

TCase *shmctl_case_of_edges(void)
{
	TCase *test = tcase_create("edges");

	tcase_set_timeout(test, 60);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, an_object_is_never_a_standard_descriptor);
	tcase_add_test(test, a_closed_input_has_ended_and_is_closed_for_the_command_too);
	tcase_add_test(test, however_many_files_there_are_status_tells_the_counters);
	return test;
}
