/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * With which rights a table can be made, and that nobody gets into it without. Part
 * of the keeper's suite.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "daemon/fd.h"
#include "tests/keeper_fixture.h"
#include "tests/test.h"

/* CAP_SETFCAP is 31: all that are wanted here are in the first word. */
static bool keep_rights(uint32_t rights)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = { 0 };

	sets[0].permitted = sets[0].effective = rights;
	return syscall(SYS_capset, &header, sets) == 0;
}

/* Whether each way into a process's namespaces and descriptors is shut. */
static int break_in(void *argument)
{
	static const char *const ways[] = { "ns/user", "ns/mnt", "root", "cwd",
					    "fd/3",    "fd/4",	 "mem",	 "environ" };
	pid_t pid = *(pid_t *)argument;
	int pidfd;

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	EXPECT(keep_rights(0));
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, ways[i]);
		EXPECT(open(path, O_RDONLY | O_CLOEXEC) < 0);
		EXPECT(errno == EACCES || errno == EPERM || errno == ENOENT);
		EXPECT(strcmp(ways[i], "ns/user") != 0 || errno == EACCES);
	}
	pidfd = pidfd_open(pid, 0);
	EXPECT(pidfd >= 0);
	/* In one's own user namespace one has every capability, over nothing of others. */
	for (int round = 0; round < 2; round++) {
		EXPECT(setns(pidfd, CLONE_NEWUSER) < 0 && errno == EPERM);
		EXPECT(setns(pidfd, CLONE_NEWNS) < 0 && errno == EPERM);
		EXPECT(syscall(SYS_pidfd_getfd, pidfd, 3, 0) < 0 && errno == EPERM);
		EXPECT(round > 0 || unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0);
	}
	return 0;
}

/* One for each uid that must not get in, and the broker's own without its rights. */
START_TEST(nobody_without_rights_gets_into_the_table)
{
	static const uid_t uids[] = { 0, TABLE_ID, 12345 };
	struct keeper_reply reply;
	struct keeper *keeper;
	pid_t pid;

	NEEDS_ROOT_TABLE;
	keeper = start_with_pool(&reply);
	pid = keeper_pid(keeper);
	for (size_t i = 0; i < sizeof(uids) / sizeof(*uids); i++)
		ck_assert_int_eq(test_run_as(uids[i], uids[i], NULL, 0, break_in, &pid), 0);
	reply_close(&reply);
	keeper_free(keeper);
}
END_TEST

/* The value of a line of the keeper's status. */
static void status_line(pid_t pid, const char *key, char *ret, int size)
{
	char path[64], line[256];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "re");
	ck_assert_ptr_nonnull(file);
	ret[0] = '\0';
	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, key, strlen(key)) == 0)
			snprintf(ret, (size_t)size, "%s", line + strlen(key));
	}
	fclose(file);
}

START_TEST(keeper_runs_under_the_tables_user_alone)
{
	struct keeper_reply reply;
	struct keeper *keeper;
	char line[256];

	NEEDS_ROOT_TABLE;
	keeper = start_with_pool(&reply);
	status_line(keeper_pid(keeper), "Uid:", line, sizeof(line));
	ck_assert_str_eq(line, "\t65530\t65530\t65530\t65530\n");
	status_line(keeper_pid(keeper), "Gid:", line, sizeof(line));
	ck_assert_str_eq(line, "\t65530\t65530\t65530\t65530\n");
	status_line(keeper_pid(keeper), "Groups:", line, sizeof(line));
	ck_assert_str_eq(line, "\t \n");
	status_line(keeper_pid(keeper), "NoNewPrivs:", line, sizeof(line));
	ck_assert_str_eq(line, "\t1\n");
	reply_close(&reply);
	keeper_free(keeper);
}
END_TEST

/* Anybody can read it. And nothing of the host's is pinned. */
START_TEST(mountinfo_shows_numbers_and_nothing_of_the_host)
{
	struct keeper_reply one, other;
	struct keeper *keeper;
	char path[64], line[512];
	int lines = 0;
	FILE *file;

	NEEDS_TABLE;
	keeper = start_with_pool(&one);
	ck_assert_int_eq(do_make(keeper, 4294967295u, false, &other), 0);
	snprintf(path, sizeof(path), "/proc/%d/mountinfo", (int)keeper_pid(keeper));
	file = fopen(path, "re");
	ck_assert_ptr_nonnull(file);
	while (fgets(line, sizeof(line), file)) {
		ck_assert_ptr_nonnull(strstr(line, " - tmpfs none "));
		ck_assert(strstr(line, " / / ") || strstr(line, " / /1 ") ||
			  strstr(line, " / /4294967295 "));
		lines++;
	}
	ck_assert_int_eq(lines, 3);
	fclose(file);
	reply_close(&one);
	reply_close(&other);
	keeper_free(keeper);
}
END_TEST

START_TEST(keeper_holds_its_socket_and_standard_streams_alone)
{
	struct keeper_reply reply;
	struct keeper *keeper;
	char path[64], target[256];
	int sockets = 0;

	NEEDS_ROOT_TABLE;
	keeper = start_with_pool(&reply);
	/* What was sent with one answer is closed before the next. */
	ck_assert_int_eq(do_simple(keeper, KEEPER_FIND, 2), ENOENT);
	for (int fd = 0; fd < 256; fd++) {
		ssize_t size;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)keeper_pid(keeper), fd);
		size = readlink(path, target, sizeof(target) - 1);
		if (size < 0)
			continue;
		target[size] = '\0';
		if (fd < 2)
			ck_assert_str_eq(target, "/dev/null");
		if (fd > 2)
			ck_assert_msg(strstr(target, "socket:"), "%d is %s", fd, target);
		sockets += fd > 2;
	}
	ck_assert_int_eq(sockets, 1);
	reply_close(&reply);
	keeper_free(keeper);
}
END_TEST

/* A broker in a process of its own: makes a pool and tells whether it is one. */
static int small_broker(void *argument)
{
	struct keeper_failure why = { .error = 0 };
	struct keeper_reply reply;
	struct keeper *keeper = start(NULL);
	struct stat status;

	EXPECT(keeper);
	if (!keeper_has_table(keeper, &why))
		fprintf(stderr, "%s: %s\n", why.step, strerror(why.error));
	EXPECT(why.error == 0);
	EXPECT(do_make(keeper, 1, false, &reply) == 0);
	EXPECT(keeper_check_twin(reply.writable, reply.read_only, &why) == 0);
	EXPECT(fstat(reply.writable, &status) == 0 && status.st_uid == geteuid());
	EXPECT(status.st_gid == getegid() && (status.st_mode & 07777) == 01777);
	fd_close(create(reply.writable, "a"));
	EXPECT(do_simple(keeper, KEEPER_RELEASE, 1) == EBUSY);
	EXPECT(unlinkat(reply.writable, "a", 0) == 0);
	EXPECT(do_resize(keeper, 1, 2 * MIB, 2) == 0);
	EXPECT(do_simple(keeper, KEEPER_RELEASE, 1) == 0);
	reply_close(&reply);
	EXPECT(do_twin(keeper, "/", &reply) == 0);
	EXPECT(openat(reply.read_only, "x", O_RDWR | O_CREAT | O_CLOEXEC, 0600) < 0);
	EXPECT(errno == EROFS);
	reply_close(&reply);
	keeper_free(keeper);
	return 0;
}

static int four_rights(void *argument)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
	uint32_t rights = 1u << CAP_SETUID | 1u << CAP_SETGID | 1u << CAP_DAC_OVERRIDE |
			  1u << CAP_SETFCAP;

	EXPECT(keep_rights(rights));
	prctl(PR_SET_DUMPABLE, 0);
	EXPECT(small_broker(NULL) == 0);
	EXPECT(prctl(PR_GET_DUMPABLE) == 0);
	EXPECT(syscall(SYS_capget, &header, sets) == 0);
	EXPECT(sets[0].effective == rights && geteuid() == 0);
	return 0;
}

START_TEST(four_capabilities_are_enough)
{
	NEEDS_ROOT_TABLE;
	ck_assert_int_eq(test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, four_rights, NULL), 0);
}
END_TEST

/* As the unit has it: ProtectProc=invisible. 77: the place can't do it. */
static int hidden_proc(void *argument)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("proc", "/proc", "proc", 0, "hidepid=2") < 0)
		return 77;
	return four_rights(NULL);
}

START_TEST(processes_hidden_in_proc_are_no_obstacle)
{
	int status;

	NEEDS_ROOT_TABLE;
	status = test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, hidden_proc, NULL);
	TEST_NEEDS(status != 77, "a /proc of its own");
	ck_assert_int_eq(status, 0);
}
END_TEST

/* After a change of ids the kernel has made it undumpable; a user's own broker is not. */
static int user_broker(void *argument)
{
	prctl(PR_SET_DUMPABLE, 1);
	return small_broker(argument);
}

START_TEST(ordinary_user_has_a_table_of_his_own)
{
	NEEDS_ROOT_TABLE;
	ck_assert_int_eq(test_run_as(12345, 12345, NULL, 0, user_broker, NULL), 0);
}
END_TEST

static bool write_text(pid_t pid, const char *name, const char *text)
{
	char path[64];
	int fd;
	bool done;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	fd_close(fd);
	return done;
}

#define CONTAINED "SHMBROKER_CHECK_CONTAINED"

/*
 * A program belongs to the user namespace in which it was executed, and with it
 * its files in /proc: so what runs in a container must be executed there.
 */
__attribute__((constructor)) static void run_contained(void)
{
	if (getenv(CONTAINED))
		_exit(small_broker(NULL));
}

static int contained_broker(int socket)
{
	char *arguments[] = { (char *)"check", NULL };
	int program = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	char byte = 0;

	EXPECT(program >= 0);
	EXPECT(unshare(CLONE_NEWUSER) == 0);
	EXPECT(write(socket, &byte, 1) == 1 && read(socket, &byte, 1) == 1);
	EXPECT(setgroups(0, NULL) == 0);
	EXPECT(setresgid(0, 0, 0) == 0 && setresuid(0, 0, 0) == 0);
	EXPECT(setenv(CONTAINED, "1", 1) == 0);
	fexecve(program, arguments, environ);
	EXPECT(!"fexecve");
	return 1;
}

START_TEST(table_works_in_a_container_with_a_map_of_its_own)
{
	int pair[2], status;
	char byte;
	pid_t pid;

	NEEDS_ROOT_TABLE;
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		_exit(contained_broker(pair[1]));
	}
	close(pair[1]);
	ck_assert_int_eq(read(pair[0], &byte, 1), 1);
	ck_assert(write_text(pid, "uid_map", "0 100000 65536"));
	ck_assert(write_text(pid, "gid_map", "0 100000 65536"));
	ck_assert_int_eq(write(pair[0], &byte, 1), 1);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	close(pair[0]);
}
END_TEST

/* As after a restart with CAP_SETFCAP gone: the table is there already. */
static int fewer_rights(void *argument)
{
	struct keeper_setup setup = setup_of(NULL);
	struct keeper *keeper;
	int *table = argument;

	setup.userns = table[0];
	setup.mntns = table[1];
	EXPECT(keep_rights(1u << CAP_SETUID | 1u << CAP_SETGID));
	EXPECT(keeper_start(&keeper, &setup) == 0);
	EXPECT(keeper_has_table(keeper, NULL));
	EXPECT(do_simple(keeper, KEEPER_FIND, 1) == 0);
	EXPECT(do_simple(keeper, KEEPER_RELEASE, 1) == 0);
	keeper_free(keeper);
	return 0;
}

START_TEST(found_table_needs_no_right_but_to_change_ids)
{
	struct keeper_reply reply;
	struct keeper *keeper;
	int table[2];

	NEEDS_ROOT_TABLE;
	keeper = start_with_pool(&reply);
	table[0] = keeper_userns_borrow(keeper);
	table[1] = keeper_mntns_borrow(keeper);
	ck_assert_int_eq(test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, fewer_rights, table), 0);
	reply_close(&reply);
	keeper_free(keeper);
}
END_TEST

START_TEST(root_of_the_table_is_its_users_alone)
{
	struct keeper *keeper;
	struct stat status;
	char path[64];

	NEEDS_ROOT_TABLE;
	keeper = start(NULL);
	snprintf(path, sizeof(path), "/proc/%d/root/.", (int)keeper_pid(keeper));
	ck_assert_int_eq(stat(path, &status), 0);
	ck_assert_uint_eq(status.st_mode, S_IFDIR | 0700);
	ck_assert_uint_eq(status.st_uid, TABLE_ID);
	/* What isn't dumpable has files in /proc that are root's. */
	snprintf(path, sizeof(path), "/proc/%d/ns", (int)keeper_pid(keeper));
	ck_assert_int_eq(stat(path, &status), 0);
	ck_assert_uint_eq(status.st_uid, 0);
	keeper_free(keeper);
}
END_TEST

void keeper_add_rights(TCase *tests)
{
	tcase_add_test(tests, nobody_without_rights_gets_into_the_table);
	tcase_add_test(tests, keeper_runs_under_the_tables_user_alone);
	tcase_add_test(tests, mountinfo_shows_numbers_and_nothing_of_the_host);
	tcase_add_test(tests, keeper_holds_its_socket_and_standard_streams_alone);
	tcase_add_test(tests, four_capabilities_are_enough);
	tcase_add_test(tests, processes_hidden_in_proc_are_no_obstacle);
	tcase_add_test(tests, ordinary_user_has_a_table_of_his_own);
	tcase_add_test(tests, table_works_in_a_container_with_a_map_of_its_own);
	tcase_add_test(tests, found_table_needs_no_right_but_to_change_ids);
	tcase_add_test(tests, root_of_the_table_is_its_users_alone);
}
