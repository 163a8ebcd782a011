/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * shmctl run, and what else goes on until it is ended: what it starts, holds and hands down. A case
 * of the suite "shmctl".
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/fd.h"
#include "tests/shmctl_fixture.h"

struct started {
	pid_t pid;
	int out; /* its standard output: a pipe, or -EBADF */
};

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
		  "shmctl: a b: an app's id is 1 to 128 of letters, digits, '.', '_' and "
		  "'-'\n" },
		/* SIGTERM is not blocked in it. */
		{ { "run", "--app=x", "--", "sh", "-c", "kill $$" }, NULL, 143, "", "" },
	};
	struct fixture fixture;

	TEST_NEEDS(test_is_root(), "contexts' directories have a level of uids");
	shmctl_begin(&fixture, one_pool);
	CHECK_ROWS(&fixture, rows);
	fixture_stop(&fixture);
}
END_TEST

/* The library can be any file: only a program that can load it is started with it. */
static void run_preloading(struct ran *ret, const char *file, const char *script)
{
	setenv("SHMBROKER_PRELOAD", file, 1);
	shmctl_run(ret,
		   (const char *const[ARGUMENTS]){ "run", "--app=x", "--preload", "--", "/bin/sh",
						   "-c", script },
		   NULL);
}

START_TEST(run_preloads_the_library_before_others)
{
	char library[512], link[512], text[2048];
	struct fixture fixture;
	static struct ran ran;

	shmctl_begin(&fixture, one_pool);
	snprintf(text, sizeof(text), "%s/.libs/libshmbroker-preload.so", getenv("TEST_BUILDDIR"));
	ck_assert_ptr_nonnull(realpath(text, library));
	/* Where a sanitizer insists on being first this one would end. */
	setenv("ASAN_OPTIONS", "verify_asan_link_order=0", 1);
	/* A sandbox may have the library, and no link to it. */
	snprintf(link, sizeof(link), "%s/link.so", fixture.directory);
	ck_assert_int_eq(symlink(library, link), 0);
	run_preloading(&ran, link, "echo $LD_PRELOAD x@preload@y@preload@");
	snprintf(text, sizeof(text), "%s x%sy%s\n", library, library, library);
	ck_assert_str_eq(ran.out, text);
	ck_assert_int_eq(ran.status, 0);
	setenv("LD_PRELOAD", "", 1);
	run_preloading(&ran, link, "echo $LD_PRELOAD");
	snprintf(text, sizeof(text), "%s\n", library);
	ck_assert_str_eq(ran.out, text);
	unlink(link);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(run_starts_nothing_without_the_library)
{
	char path[512], text[1024];
	struct fixture fixture;
	static struct ran ran;

	shmctl_begin(&fixture, one_pool);
	run_preloading(&ran, "/none", "echo started");
	ck_assert_int_eq(ran.status, 1);
	ck_assert_str_eq(ran.out, "");
	ck_assert_str_eq(ran.err, "shmctl: /none: No such file or directory\n");
	/* ld.so would take it for two. */
	snprintf(path, sizeof(path), "%s/a b", fixture.directory);
	ck_assert_int_eq(symlink("a:b", path), 0);
	ck_assert_int_eq(close(open(path, O_CREAT | O_WRONLY, 0600)), 0);
	run_preloading(&ran, path, "echo started");
	ck_assert_int_eq(ran.status, 1);
	ck_assert_str_eq(ran.out, "");
	snprintf(text, sizeof(text),
		 "shmctl: %s/a:b: a path with a colon or a blank can't be preloaded\n",
		 fixture.directory);
	ck_assert_str_eq(ran.err, text);
	/* It doesn't matter to who doesn't ask for it. */
	shmctl_run(&ran,
		   (const char *const[ARGUMENTS]){ "run", "--app=x", "--", "/bin/sh", "-c",
						   "echo x$LD_PRELOAD @preload@" },
		   NULL);
	ck_assert_str_eq(ran.out, "x @preload@\n");
	unlink(path);
	snprintf(path, sizeof(path), "%s/a:b", fixture.directory);
	unlink(path);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(run_hands_no_descriptor_of_its_own_down)
{
	static const char count[] = "ls /proc/self/fd | wc -l";
	struct fixture fixture;
	static struct ran with, without;

	shmctl_begin(&fixture, one_pool);
	shmctl_run(&with,
		   (const char *const[ARGUMENTS]){ "run", "--app=x", "--", "/bin/sh", "-c", count },
		   NULL);
	shmctl_run_program(&without, "/bin/sh", (const char *const[ARGUMENTS]){ "-c", count },
			   NULL);
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
	started.pid = shmctl_start(arguments, in, ends[1], 2);
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
	return shmctl_wait(started->pid);
}

START_TEST(run_forwards_signals)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1 };
	struct fixture fixture;

	shmctl_begin(&fixture, one_pool);
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++) {
		_cleanup_close_ int in = shmctl_memory_file("");
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

	shmctl_begin(&fixture, one_pool);
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
		/* The directory goes with it, in the loop's own time. */
		while (access(line, X_OK) == 0)
			test_moment();
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

	shmctl_begin(&fixture, one_pool);
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
		while (temporary && shmb_stat(c, "/t", &info, sizeof(info)) == 0)
			test_moment();
		ck_assert_int_eq(shmb_unlink(c, "/t"), temporary ? -ENOENT : 0);
	}
	shmb_disconnect(c);
	close(null);
	fixture_stop(&fixture);
}
END_TEST

TCase *shmctl_case_of_run(void)
{
	TCase *test = tcase_create("run");

	tcase_set_timeout(test, 60);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, run_gives_the_command_a_context_and_ends_as_it_does);
	tcase_add_test(test, run_preloads_the_library_before_others);
	tcase_add_test(test, run_starts_nothing_without_the_library);
	tcase_add_test(test, run_hands_no_descriptor_of_its_own_down);
	tcase_add_test(test, run_forwards_signals);
	tcase_add_test(test, a_context_is_held_until_a_signal_or_the_end_of_input);
	tcase_add_test(test, a_temporary_name_stays_while_it_is_held);
	return test;
}
