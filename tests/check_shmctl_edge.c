/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * shmctl where something isn't as it should be: standard descriptors that are closed, arguments
 * that are too long, a broker that is hostile. A case of the suite "shmctl".
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

TCase *shmctl_case_of_edges(void)
{
	TCase *test = tcase_create("edges");

	tcase_set_timeout(test, 60);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, an_object_is_never_a_standard_descriptor);
	tcase_add_test(test, a_closed_input_has_ended_and_is_closed_for_the_command_too);
	return test;
}
