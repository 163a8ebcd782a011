/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * shmctl run --shm: programs that know nothing of a broker, with the app's pool as their /dev/shm.
 * The commands are a shell's; $shmctl is the built program, $lent a static one, $here a directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/internal.h"
#include "daemon/fd.h"
#include "tests/lend_fixture.h"

#define RUN "\"$shmctl\" run --app=org.example.a --shm -- "
#define WITHOUT "\"$shmctl\" run --app=org.example.a -- \"$shmctl\" " /* by the library */

static const char config[] = RULES(
	"{ name = \"f\" names = \"/frames-*\" allow = \"all\" pool = \"frames\" }, " APPS(""));

static void begin(struct fixture *fixture)
{
	char path[512];

	/* Where a command whose /dev/shm is another still finds it; the contexts, too. */
	strcpy(path, "/tmp/shmbroker-lend.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(path));
	ck_assert_int_eq(chmod(path, 0755), 0);
	setenv("here", path, 1);
	fixture_start(fixture, &(struct fixture_how){ .config = config,
						      .is_user = !test_is_root(),
						      .contexts_below = path });
	snprintf(path, sizeof(path), "%s/shmctl", getenv("TEST_BUILDDIR"));
	setenv("shmctl", path, 1);
}

static void end(struct fixture *fixture)
{
	fixture_stop(fixture);
	ck_assert_int_eq(system("rm -r \"$here\""), 0);
}

/* What it writes, errors too; the exit status is returned. */
static int shell(const char *script, char *ret, size_t size)
{
	char command[1024];
	size_t used;
	int status;
	FILE *pipe;

	snprintf(command, sizeof(command), "exec 2>&1 </dev/null; %s", script);
	fflush(NULL);
	pipe = popen(command, "re");
	ck_assert_ptr_nonnull(pipe);
	used = fread(ret, 1, size - 1, pipe);
	ret[used] = 0;
	status = pclose(pipe);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

struct row {
	const char *script, *out;
	int status;
};

static void check_rows(const struct row *rows, size_t count)
{
	char text[4096];
	int status;

	for (size_t i = 0; i < count; i++) {
		status = shell(rows[i].script, text, sizeof(text));
		ck_assert_msg(status == rows[i].status, "row %zu: %d, %s", i, status, text);
		ck_assert_msg(strcmp(text, rows[i].out) == 0, "row %zu: %s", i, text);
	}
}
#define CHECK_ROWS(rows) check_rows(rows, ROWS(rows))

static bool build_static(void)
{
	char command[1024];

	snprintf(command, sizeof(command),
		 "%s -static -D_GNU_SOURCE -o \"$here\"/lent %s/lent.c -pthread",
		 getenv("TEST_CC") ? getenv("TEST_CC") : "cc", getenv("TEST_SRCDIR"));
	return system(command) == 0;
}

START_TEST(a_static_program_has_its_pool)
{
	static const struct row rows[] = {
		{ RUN "\"$here\"/lent put /o 'from a static program'", "", 0 },
		/* Another of the same app: a sandbox of its own, and the same pool. */
		{ RUN "\"$here\"/lent get /o", "from a static program\n", 0 },
		{ RUN "\"$here\"/lent put /o again", "shm_open: File exists\n", 1 },
		{ "\"$shmctl\" run --app=org.example.b --shm -- \"$here\"/lent get /o",
		  "shm_open: No such file or directory\n", 1 },
		{ "\"$shmctl\" ls /o", "/o\n", 0 },
		/* By the library it is the same. */
		{ WITHOUT "cat /o | head -c 21", "from a static program", 0 },
		/* sem_open between two processes, in either order. */
		{ RUN "sh -c '\"$here\"/lent wait /s & \"$here\"/lent post /s && wait $! && "
		      "echo met; ls /dev/shm'",
		  "met\no\nsem.s\n", 0 },
		{ WITHOUT "rm /o /sem.s", "", 0 },
	};
	struct fixture fixture;
	char text[64];

	NEEDS_TABLE;
	begin(&fixture);
	if (!build_static()) {
		end(&fixture);
		test_left_out(__func__, "no static C library");
		return;
	}
	ck_assert_int_eq(shell("command -v \"$shmctl\"", text, sizeof(text)), 0);
	CHECK_ROWS(rows);
	end(&fixture);
}
END_TEST

START_TEST(a_program_may_do_there_what_it_does_in_dev_shm)
{
	static const struct row rows[] = {
		{ RUN "sh -c 'cd /dev/shm && mkdir d && mkfifo f && ln -s f l && echo x >d/x && "
		      "ln d/x h && ls -F'",
		  "d/\nf|\nh\nl@\n", 0 },
		{ "\"$shmctl\" ls -l | sed -n 's/ .* / /p' | sort",
		  "-rw-r--r-- /h\n?rw-r--r-- /f\n?rwxr-xr-x /d\n?rwxrwxrwx /l\n", 0 },
		{ WITHOUT "rm /f /h /l /d", "shmctl: /d: Directory not empty\n", 1 },
		/* Full, and nothing else than that. */
		{ RUN "sh -c 'head -c 1M /dev/zero 2>/dev/null >/dev/shm/full || stat -c %s "
		      "/dev/shm/full'",
		  "61440\n", 0 },
		{ RUN "rm -r /dev/shm/d /dev/shm/full", "", 0 },
		/* Nothing of the machine's own is there, and nothing gets out. */
		{ RUN "sh -c 'ls -A /dev/shm; : >/dev/shm/only-here'", "", 0 },
		{ "test -e /dev/shm/only-here", "", 1 },
		{ RUN "rm /dev/shm/only-here", "", 0 },
	};
	struct fixture fixture;

	NEEDS_TABLE;
	umask(022);
	begin(&fixture);
	CHECK_ROWS(rows);
	end(&fixture);
}
END_TEST

START_TEST(what_other_rules_decide_comes_by_the_library)
{
	static const struct row rows[] = {
		{ "echo of all | \"$shmctl\" write --create /frames-1", "", 0 },
		{ RUN "sh -c '\"$shmctl\" cat /frames-1; ls /dev/shm; "
		      "echo own >/dev/shm/frames-1; \"$shmctl\" cat /frames-1; "
		      "echo own >/dev/shm/own; \"$shmctl\" cat /own'",
		  "of all\nof all\nown\n", 0 },
	};
	struct fixture fixture;

	NEEDS_TABLE;
	begin(&fixture);
	CHECK_ROWS(rows);
	end(&fixture);
}
END_TEST

START_TEST(its_mount_is_the_commands_alone)
{
	/* Where mounts go to all who share them, as systemd has it. */
	static const struct row rows[] = {
		{ "unshare -m --propagation shared sh -c '"
		  "before=$(grep -c \" /dev/shm \" /proc/self/mountinfo); " RUN
		  "grep -c \" /dev/shm \" /proc/$$/mountinfo >\"$here\"/during; "
		  "test $before = $(cat \"$here\"/during)'",
		  "", 0 },
	};
	struct fixture fixture;

	NEEDS_TABLE;
	TEST_NEEDS(test_is_root(), "shared mounts take root");
	begin(&fixture);
	CHECK_ROWS(rows);
	end(&fixture);
}
END_TEST

START_TEST(a_command_with_its_pool_ends_as_it_does)
{
	static const struct row rows[] = {
		{ RUN "sh -c 'echo \"$@\"; exit 7' - @context@x | sed s/.*[0-9]//", "x\n", 0 },
		{ RUN "sh -c 'exit 7'", "", 7 },
		{ RUN "sh -c 'kill -9 $$'", "", 137 },
		{ RUN "sh -c 'kill $$'", "", 143 },
		{ RUN "/none", "shmctl: /none: No such file or directory\n", 127 },
		{ "echo input | " RUN "cat", "input\n", 0 },
		{ "\"$shmctl\" run --shm -- true",
		  "shmctl: run needs --app=ID; see shmctl --help\n", 2 },
		/* It has no descriptor of ours, and is who we are. */
		{ RUN "sh -c 'ls /proc/self/fd' >\"$here\"/a; ls /proc/self/fd >\"$here\"/b; "
		      "cmp \"$here\"/a \"$here\"/b",
		  "", 0 },
		{ RUN "id -u >\"$here\"/a; id -u >\"$here\"/b; cmp \"$here\"/a \"$here\"/b", "",
		  0 },
	};
	struct fixture fixture;

	NEEDS_TABLE;
	begin(&fixture);
	CHECK_ROWS(rows);
	end(&fixture);
}
END_TEST

START_TEST(signals_reach_a_command_with_its_pool)
{
	static const char *const signals[] = { "TERM", "INT", "HUP", "USR1" };
	struct fixture fixture;
	char script[512], text[256];

	NEEDS_TABLE;
	begin(&fixture);
	for (size_t i = 0; i < ROWS(signals); i++) {
		snprintf(script, sizeof(script),
			 "mkfifo \"$here\"/ready; env --default-signal=INT " RUN
			 "sh -c \"trap 'exit 5' %s; "
			 "echo >$here/ready; while :; do sleep 0.01; done\" & "
			 "read line <\"$here\"/ready; kill -%s $!; wait $!; status=$?; "
			 "rm \"$here\"/ready; exit $status",
			 signals[i], signals[i]);
		ck_assert_msg(shell(script, text, sizeof(text)) == 5, "%s: %s", signals[i], text);
	}
	end(&fixture);
}
END_TEST

START_TEST(what_the_rules_refuse_starts_no_command)
{
	static const struct row rows[] = {
		{ RUN "echo started",
		  "shmctl: org.example.a: rule \"r\" does not allow all in its pool\n", 1 },
		{ "\"$shmctl\" run --app=org.example.a -- echo started", "started\n", 0 },
	};
	struct fixture fixture;
	struct shmb *c;

	NEEDS_TABLE;
	begin(&fixture);
	fixture_configure(&fixture, RULES(APPS("max-size = \"4K\"")));
	c = fixture_connect(&fixture);
	ck_assert_int_eq(shmb_raw_call(c, WIRE_RELOAD, NULL, 0, NULL, NULL), 0);
	shmb_disconnect(c);
	CHECK_ROWS(rows);
	end(&fixture);
}
END_TEST

/* Opens one of its FIFOs, when somebody reads from it. */
static int meet(const char *name)
{
	char path[128];
	int fifo;

	snprintf(path, sizeof(path), "%s/%s", getenv("here"), name);
	fifo = open(path, O_WRONLY | O_CLOEXEC);
	ck_assert_int_ge(fifo, 0);
	return fifo;
}

/* One that a command leaves behind has the pool until it ends, though shmctl is long gone. */
START_TEST(the_pool_is_kept_for_the_last_process_of_a_sandbox)
{
	static const struct {
		const char *command; /* goes on so */
		const char *then;    /* outside */
		int status;
		const char *streams; /* of shmctl */
	} rows[] = {
		{ "", "", 0, ">/dev/null 2>&1" },
		{ "wait", "kill -9 $!; ", 137, ">/dev/null 2>&1" },
		{ "", "", 0, "<&- >&-" },
	};
	struct fixture fixture;
	char script[512], text[256];
	int fifo;

	NEEDS_TABLE;
	begin(&fixture);
	ck_assert_int_eq(
		shell("mkfifo \"$here\"/ready \"$here\"/one \"$here\"/two", text, sizeof(text)), 0);
	for (size_t i = 0; i < ROWS(rows); i++) {
		snprintf(script, sizeof(script),
			 RUN "sh -c 'setsid sh -c \"echo >$here/ready; cat $here/one; "
			     ": >/dev/shm/last; cat $here/two\" >/dev/null 2>&1 & %s' %s & "
			     "read line <\"$here\"/ready; %s"
			     "wait $!",
			 rows[i].command, rows[i].streams, rows[i].then);
		ck_assert_int_eq(shell(script, text, sizeof(text)), rows[i].status);
		for (int round = 0; round < 3; round++)
			let_time_pass(&fixture);
		ck_assert_uint_eq(instances(&fixture), 1);
		close(meet("one"));
		fifo = meet("two");
		ck_assert_int_eq(shell(WITHOUT "rm /last", text, sizeof(text)), 0);
		let_time_pass(&fixture);
		ck_assert_uint_eq(instances(&fixture), 1);
		close(fifo);
		expect_released(&fixture);
	}
	end(&fixture);
}
END_TEST

START_TEST(bubblewrap_hands_the_pool_on)
{
	static const struct row rows[] = {
		{ RUN "bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev "
		      "--bind /dev/shm /dev/shm sh -c 'echo x >/dev/shm/a && ls /dev/shm'",
		  "a\n", 0 },
		{ "\"$shmctl\" ls /a && " WITHOUT "rm /a", "/a\n", 0 },
		/* Its own /dev has another. */
		{ RUN "bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev "
		      "sh -c 'echo x >/dev/shm/a'; \"$shmctl\" ls /a",
		  "", 0 },
	};
	struct fixture fixture;

	NEEDS_TABLE;
	TEST_NEEDS(system("bwrap --unshare-all --ro-bind / / true 2>/dev/null") == 0,
		   "no bubblewrap here");
	begin(&fixture);
	CHECK_ROWS(rows);
	end(&fixture);
}
END_TEST

TCase *lend_case_of_run(void)
{
	TCase *test = tcase_create("run");

	tcase_set_timeout(test, 120);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, a_static_program_has_its_pool);
	tcase_add_test(test, a_program_may_do_there_what_it_does_in_dev_shm);
	tcase_add_test(test, what_other_rules_decide_comes_by_the_library);
	tcase_add_test(test, its_mount_is_the_commands_alone);
	tcase_add_test(test, a_command_with_its_pool_ends_as_it_does);
	tcase_add_test(test, signals_reach_a_command_with_its_pool);
	tcase_add_test(test, what_the_rules_refuse_starts_no_command);
	tcase_add_test(test, the_pool_is_kept_for_the_last_process_of_a_sandbox);
	tcase_add_test(test, bubblewrap_hands_the_pool_on);
	return test;
}
