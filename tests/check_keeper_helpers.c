/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The broker's helpers as processes: what passes between them, how they begin with what the broker
 * has open, and what is made of one that ends too early or not at all. A part of the suite
 * "keeper".
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/creds.h"
#include "daemon/fd.h"
#include "daemon/helper.h"
#include "daemon/twin.h"
#include "tests/keeper_fixture.h"
#include "tests/test.h"

static void make_pair(int pair[static 2])
{
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
}

/* --- packets --- */

static unsigned answered;

static bool answer_nothing(const struct keeper_request *request, struct helper_answer *answer,
			   struct fdlist *fds, const struct keeper_setup *setup)
{
	(void)answer;
	(void)fds;
	(void)setup;
	ck_assert_str_eq(request->path, "/path");
	answered++;
	return false;
}

/* Each length: all but the whole ends the helper, which would else do what nobody has asked. */
START_TEST(a_request_that_is_not_whole_ends_the_helper)
{
	const struct keeper_request request = {
		.operation = KEEPER_MAKE, .huge = "never", .mpol = "local", .path = "/path"
	};
	const struct keeper_setup setup = setup_of(NULL);
	char packet[HELPER_REQUEST_MAX + 1] = { 0 };
	ssize_t whole = helper_encode(packet, &request);
	int pair[2];

	ck_assert_int_gt(whole, 0);
	for (ssize_t size = 1; size <= whole + 1; size++) {
		make_pair(pair);
		answered = 0;
		ck_assert_int_eq(send(pair[0], packet, (size_t)size, 0), size);
		close(pair[0]);
		ck_assert_int_eq(helper_serve(pair[1], &setup, answer_nothing),
				 size == whole ? EXIT_SUCCESS : EXIT_FAILURE);
		ck_assert_uint_eq(answered, size == whole);
		close(pair[1]);
	}
}
END_TEST

START_TEST(an_answer_has_the_descriptors_that_it_says)
{
	static const struct {
		size_t cut, descriptors;
		bool has_writable;
		int result;
	} rows[] = {
		{ 0, 0, false, 1 },	  { 0, 1, true, 1 },	   { 0, 0, true, -EPROTO },
		{ 0, 1, false, -EPROTO }, { 0, 2, true, -EPROTO }, { 1, 0, false, -EPROTO },
		{ 8, 1, true, -EPROTO },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct helper_answer sent = { .has_writable = rows[i].has_writable }, got;
		struct iovec part = { &sent, sizeof(sent) - rows[i].cut };
		struct fdlist fds = { .count = 0 };
		int pair[2];

		make_pair(pair);
		for (size_t j = 0; j < rows[i].descriptors; j++)
			fdlist_take(&fds, dup(0), WIRE_FD_DIRECTORY);
		ck_assert_int_eq(packet_send(pair[0], &part, 1, &fds, 0), 0);
		fdlist_close(&fds);
		ck_assert_int_eq(helper_receive_answer(pair[1], &got, &fds, 0), rows[i].result);
		ck_assert_uint_eq(fds.count, rows[i].result == 1 ? rows[i].descriptors : 0);
		fdlist_close(&fds);
		close(pair[0]);
		close(pair[1]);
	}
}
END_TEST

START_TEST(what_no_helper_does_is_refused)
{
	struct keeper_reply reply;
	struct keeper *keeper;

	NEEDS_TABLE;
	keeper = start(NULL);
	ck_assert_int_eq(ask(keeper, (struct keeper_request){ .operation = 4711 }, &reply), EINVAL);
	ck_assert_int_eq(do_make(keeper, 1, false, &reply), 0);
	reply_close(&reply);
	keeper_free(keeper);
}
END_TEST

/* --- how they begin --- */

/* Its socket has the number of a standard stream, then, and /dev/null that of another. */
static int greet(int socket, const struct keeper_setup *setup, const void *context)
{
	const struct helper_answer hello = { .id = 4711 };

	(void)setup;
	(void)context;
	if (socket > 1 || fcntl(0, F_GETFD) < 0 || fcntl(2, F_GETFD) < 0)
		return EXIT_FAILURE;
	return helper_send_answer(socket, &hello, NULL) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int start_without_streams(void *argument)
{
	const struct helper_job job = { .name = "test", .run = greet, .keep = { -EBADF, -EBADF } };
	const struct keeper_setup setup = setup_of(NULL);
	struct helper_answer hello;
	struct keeper_reply reply;
	struct keeper *keeper;
	struct helper helper;
	struct fdlist fds;

	(void)argument;
	for (int fd = 0; fd < 3; fd++)
		close(fd);
	if (helper_fork(&helper, &setup, &job) < 0 ||
	    helper_receive_answer(helper.socket, &hello, &fds, 0) != 1 || hello.id != 4711)
		return 4;
	helper_end(&helper);
	keeper = start(NULL);
	if (!keeper || !keeper_has_table(keeper, NULL))
		return 1;
	if (do_make(keeper, 1, false, &reply) != 0)
		return 2;
	reply_close(&reply);
	if (do_twin(keeper, "/", &reply) != 0)
		return 3;
	reply_close(&reply);
	keeper_free(keeper);
	return 0;
}

START_TEST(without_standard_streams_they_work_as_well)
{
	NEEDS_TABLE;
	ck_assert_int_eq(test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, start_without_streams, NULL),
			 0);
}
END_TEST

static int begin_as_anothers(void *argument)
{
	(void)argument;
	helper_born(getpid()); /* who isn't its own parent */
	helper_hide();
	return 0;
}

START_TEST(who_finds_its_parent_gone_ends)
{
	ck_assert_int_eq(test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, begin_as_anothers, NULL),
			 EXIT_FAILURE);
}
END_TEST

/* Of whom the next one to be forked is not to live. */
static const char *doomed;

static void end_doomed(void)
{
	char name[16];

	prctl(PR_GET_NAME, name);
	if (strcmp(name, doomed) == 0)
		_exit(EXIT_FAILURE);
}

START_TEST(who_ends_before_it_has_said_anything_is_missed)
{
	static const struct {
		const char *name;
		bool table, twin;
	} rows[] = {
		{ "shmb-maker", false, true },
		{ "shmb-mapper", false, true },
		{ "shmb-keeper", false, true },
		{ "shmb-twin", true, false },
	};
	struct keeper_setup setup = setup_of(NULL);
	struct keeper_failure why;
	struct keeper_reply reply;
	struct keeper *keeper;

	NEEDS_TABLE;
	setup.after_fork = end_doomed;
	doomed = rows[_i].name;
	ck_assert_int_eq(keeper_start(&keeper, &setup), 0);
	ck_assert_int_eq(keeper_has_table(keeper, &why), rows[_i].table);
	if (!rows[_i].table)
		ck_assert_int_eq(why.error, ECHILD);
	ck_assert_int_eq(do_make(keeper, 1, false, &reply), rows[_i].table ? 0 : ECHILD);
	reply_close(&reply);
	ck_assert_int_eq(do_twin(keeper, "/", &reply), rows[_i].twin ? 0 : ECHILD);
	reply_close(&reply);
	keeper_free(keeper);
}
END_TEST

/* --- how they end --- */

/* Neither hears that it is to end, nor can it be killed: it is left, and nobody waits for it. */
static int leave_one_behind(void *argument)
{
	pid_t *pid = argument;
	struct creds_caps caps;
	struct keeper *keeper = start(NULL);

	EXPECT(keeper && keeper_pid(keeper) > 0);
	*pid = keeper_pid(keeper);
	EXPECT(kill(*pid, SIGSTOP) == 0);
	EXPECT(creds_caps_get(&caps) == 0);
	EXPECT(creds_drop_capabilities(caps.permitted & ~CREDS_CAP(CAP_KILL)) == 0);
	keeper_free(keeper);
	EXPECT(kill(*pid, 0) < 0 && errno == EPERM);
	return 0;
}

START_TEST(one_that_can_not_be_killed_is_left)
{
	pid_t *pid = mmap(NULL, sizeof(*pid), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			  -1, 0);

	NEEDS_ROOT_TABLE;
	ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	ck_assert_int_eq(test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, leave_one_behind, pid), 0);
	/* The signal at the parent's end is one of the parent's, too. */
	ck_assert_int_eq(waitpid(*pid, NULL, WNOHANG), 0);
	ck_assert_int_eq(kill(*pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(*pid, NULL, 0), *pid);
	ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
	munmap(pid, sizeof(*pid));
}
END_TEST

static int run_twin(void *argument)
{
	const struct keeper_setup setup = setup_of(NULL);

	helper_born(getppid());
	return twin_run(*(int *)argument, &setup, NULL);
}

/* What its throw-away child has made can't be handed over, and neither can it say so. */
START_TEST(a_twin_for_nobody_ends_its_helper)
{
	const struct keeper_request request = { .operation = KEEPER_TWIN, .path = "/" };
	struct helper_answer hello;
	struct fdlist fds;
	char packet[HELPER_REQUEST_MAX];
	ssize_t size = helper_encode(packet, &request);
	int pair[2], status;
	pid_t pid;

	NEEDS_TABLE;
	make_pair(pair);
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		signal(SIGPIPE, SIG_IGN);
		_exit(run_twin(&pair[1]));
	}
	close(pair[1]);
	ck_assert_int_eq(helper_receive_answer(pair[0], &hello, &fds, 0), 1);
	ck_assert_int_eq(hello.failure.error, 0);
	ck_assert_int_eq(shutdown(pair[0], SHUT_RD), 0);
	ck_assert_int_eq(send(pair[0], packet, (size_t)size, 0), size);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FAILURE);
	close(pair[0]);
}
END_TEST

/* --- what /proc says of our own ids --- */

struct own_map {
	const char *name, *text; /* NULL: no /proc at all */
	int error;
};

/* More extents than the kernel takes at once. */
static char endless[64 * 1024];

static int start_with_map(void *argument)
{
	const struct own_map *map = argument;
	struct keeper_failure why;
	struct keeper *keeper;
	char path[64], file[256];
	int fd;

	EXPECT(unshare(CLONE_NEWNS) == 0);
	EXPECT(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	if (map->text) {
		snprintf(file, sizeof(file), "%s/map", test_directory());
		fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		EXPECT(write(fd, map->text, strlen(map->text)) == (ssize_t)strlen(map->text));
		close(fd);
		snprintf(path, sizeof(path), "/proc/self/%s", map->name);
		EXPECT(mount(file, path, NULL, MS_BIND, NULL) == 0);
		EXPECT(unlink(file) == 0);
	} else {
		EXPECT(mount("none", "/proc", "tmpfs", 0, NULL) == 0);
	}
	keeper = start(NULL);
	EXPECT(keeper && !keeper_has_table(keeper, &why));
	EXPECT(why.error == map->error && strcmp(why.step, "read uid_map and gid_map") == 0);
	keeper_free(keeper);
	return 0;
}

START_TEST(a_map_that_can_not_be_read_makes_no_table)
{
	struct own_map maps[] = {
		{ NULL, NULL, ENOENT },
		{ "uid_map", "", EINVAL },
		{ "uid_map", "0 0 many\n", EINVAL },
		{ "uid_map", endless, E2BIG },
		{ "gid_map", "", EINVAL },
	};

	NEEDS_ROOT_TABLE;
	for (size_t used = 0; used + 32 < sizeof(endless); used = strlen(endless))
		snprintf(endless + used, 32, "%zu %zu 1\n", used, used);
	for (size_t i = 0; i < sizeof(maps) / sizeof(*maps); i++)
		ck_assert_int_eq(
			test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, start_with_map, &maps[i]), 0);
}
END_TEST

void keeper_add_helpers(TCase *tests)
{
	tcase_add_test(tests, a_request_that_is_not_whole_ends_the_helper);
	tcase_add_test(tests, an_answer_has_the_descriptors_that_it_says);
	tcase_add_test(tests, what_no_helper_does_is_refused);
	tcase_add_test(tests, without_standard_streams_they_work_as_well);
	tcase_add_test(tests, who_finds_its_parent_gone_ends);
	tcase_add_loop_test(tests, who_ends_before_it_has_said_anything_is_missed, 0, 4);
	tcase_add_test(tests, one_that_can_not_be_killed_is_left);
	tcase_add_test(tests, a_twin_for_nobody_ends_its_helper);
	tcase_add_test(tests, a_map_that_can_not_be_read_makes_no_table);
}
