/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The drop-ins in every state that a process can be in: threads, children, other
 * ids, descriptors closed, replaced or used up. Part of the drop-ins' suite.
 */
#include <errno.h>
#include <grp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client/internal.h"
#include "daemon/creds.h"
#include "tests/drop_in.h"
#include "tests/test.h"

#define OTHER_UID 12345

static void *call_many_times(void *argument)
{
	char name[32];

	snprintf(name, sizeof(name), "thread-%d", (int)(intptr_t)argument);
	for (int i = 0; i < 200; i++)
		if (drop_in_touch(name) != 0 || drop_in_unlink(name) != 0)
			return (void *)1;
	return NULL;
}

static void start_threads(pthread_t *thread, size_t count)
{
	for (size_t i = 0; i < count; i++)
		ck_assert_int_eq(
			pthread_create(&thread[i], NULL, call_many_times, (void *)(intptr_t)i), 0);
}

static void join_threads(pthread_t *thread, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		void *result;

		ck_assert_int_eq(pthread_join(thread[i], &result), 0);
		ck_assert_ptr_null(result);
	}
}

static void eight_threads(void)
{
	pthread_t thread[8];

	start_threads(thread, 8);
	join_threads(thread, 8);
}

START_TEST(drop_ins_serve_eight_threads)
{
	drop_in_child(eight_threads);
}
END_TEST

/* Other threads hold the lock and the connection at any moment of these forks. */
static void fork_among_threads(void)
{
	pthread_t thread[4];

	start_threads(thread, 4);
	for (int i = 0; i < 30; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(drop_in_touch("forked") != 0 || drop_in_touch("forked") != 0);
		ck_assert_int_eq(drop_in_touch("forking"), 0);
		drop_in_wait(pid);
	}
	join_threads(thread, 4);
}

START_TEST(forked_child_calls_at_once_with_its_parent)
{
	drop_in_child(fork_among_threads);
}
END_TEST

static ino_t connection_inode(void)
{
	struct stat status;

	ck_assert_int_eq(fstat(drop_in_connection(), &status), 0);
	return status.st_ino;
}

/* Whether the only connection is not the parent's any more. */
static int call_in_forked_child(ino_t parents)
{
	ck_assert_int_eq(drop_in_touch("b"), 0);
	if (connection_inode() == parents)
		return 1;
	close(drop_in_connection());
	return drop_in_connection() >= 0;
}

static void fork_child_closes_its_copy(void)
{
	pid_t pid;

	ck_assert_int_eq(drop_in_touch("a"), 0);
	pid = fork();
	if (pid == 0)
		_exit(call_in_forked_child(connection_inode()));
	drop_in_wait(pid);
	ck_assert_int_eq(drop_in_touch("c"), 0);
}

START_TEST(forked_child_keeps_no_copy_of_its_parents_connection)
{
	drop_in_child(fork_child_closes_its_copy);
}
END_TEST

/* Its memory is the parent's, its descriptors are its own. */
static void vfork_and_call(void)
{
	ino_t kept;
	pid_t pid;

	ck_assert_int_eq(drop_in_touch("a"), 0);
	kept = connection_inode();
	pid = vfork();
	if (pid == 0) {
		closefrom(3);
		_exit(drop_in_touch("in-child") != 0);
	}
	drop_in_wait(pid);
	ck_assert(drop_in_exists("in-child"));
	pid = vfork();
	if (pid == 0) {
		execl("/bin/true", "true", (char *)NULL);
		_exit(1);
	}
	drop_in_wait(pid);
	ck_assert_int_eq(drop_in_touch("b"), 0);
	ck_assert_uint_eq(connection_inode(), kept);
	close(drop_in_connection());
	ck_assert_int_eq(drop_in_connection(), -1);
}

START_TEST(vfork_child_leaves_its_parents_connection_alone)
{
	drop_in_child(vfork_and_call);
}
END_TEST

static void vfork_first_of_all(void)
{
	pid_t pid = vfork();
	ino_t kept;

	if (pid == 0)
		_exit(drop_in_touch("in-child") != 0);
	drop_in_wait(pid);
	ck_assert_int_eq(drop_in_touch("a"), 0);
	kept = connection_inode();
	ck_assert_int_eq(drop_in_touch("b"), 0);
	ck_assert_uint_eq(connection_inode(), kept);
	/* The same in a child that was forked, which finds the place empty. */
	pid = fork();
	if (pid == 0) {
		pid = vfork();
		if (pid == 0)
			_exit(drop_in_touch("in-child") != 0);
		drop_in_wait(pid);
		_exit(drop_in_touch("a") != 0 || connection_inode() == kept);
	}
	drop_in_wait(pid);
}

START_TEST(vfork_child_that_calls_first_leaves_the_parent_its_connection)
{
	drop_in_child(vfork_first_of_all);
}
END_TEST

static uid_t owner_of_new(const char *name)
{
	int fd = drop_in_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	struct stat status;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fstat(fd, &status), 0);
	close(fd);
	return status.st_uid;
}

static void change_ids(void)
{
	ck_assert_uint_eq(owner_of_new("a"), 0);
	ck_assert_int_eq(seteuid(OTHER_UID), 0);
	ck_assert_uint_eq(owner_of_new("b"), OTHER_UID);
	ck_assert_int_eq(seteuid(0), 0);
	ck_assert_uint_eq(owner_of_new("c"), 0);
}

START_TEST(each_call_has_the_effective_ids_of_its_moment)
{
	TEST_NEEDS(test_is_root(), "root");
	drop_in_child(change_ids);
}
END_TEST

static bool ids_are_fixed(void)
{
	char room[SHMB_SMALL_PACKET];

	return shmb_ids_are_fixed(room, sizeof(room));
}

static int fixed_when_all_are_given_up(void *argument)
{
	(void)argument;
	EXPECT(!ids_are_fixed()); /* one id, and the capability */
	EXPECT(prctl(PR_SET_KEEPCAPS, 1) == 0);
	EXPECT(setresgid(OTHER_UID, OTHER_UID, OTHER_UID) == 0);
	EXPECT(setresuid(OTHER_UID, OTHER_UID, OTHER_UID) == 0);
	EXPECT(!ids_are_fixed()); /* it is permitted still */
	EXPECT(creds_drop_capabilities(0) == 0);
	EXPECT(ids_are_fixed());
	return 0;
}

static int not_fixed_with_one_saved(void *argument)
{
	(void)argument;
	EXPECT(setresuid(OTHER_UID, OTHER_UID, 0) == 0);
	EXPECT(creds_drop_capabilities(0) == 0);
	EXPECT(!ids_are_fixed());
	EXPECT(setresuid(-1, -1, OTHER_UID) == 0);
	EXPECT(ids_are_fixed());
	return 0;
}

/* However much of the text there is room for. */
static int never_fixed_by_half_a_line(void *argument)
{
	gid_t groups[1000];

	(void)argument;
	for (size_t i = 0; i < 1000; i++)
		groups[i] = (gid_t)(1000 + i);
	for (size_t count = 100; count < 1000; count++) {
		EXPECT(setgroups(count, groups) == 0);
		EXPECT(!ids_are_fixed());
	}
	return 0;
}

#define BESIDE 8

struct beside {
	pthread_barrier_t begin, end;
	bool gives_up;
	uid_t uid; /* (uid_t)-1: as it is */
};

static void *be_beside(void *argument)
{
	struct beside *beside = argument;
	struct creds_caps caps;

	/* For this thread alone, which setresuid(3) is not. */
	if (beside->uid != (uid_t)-1) {
		creds_caps_get(&caps);
		caps.effective = caps.permitted;
		creds_caps_set(&caps);
		if (syscall(SYS_setresuid, beside->uid, beside->uid, beside->uid) < 0)
			abort();
	}
	if (beside->gives_up)
		creds_drop_capabilities(0);
	pthread_barrier_wait(&beside->begin);
	pthread_barrier_wait(&beside->end);
	return NULL;
}

/* Capabilities and ids are each thread's own: all but the last two are ordinary. */
static int fixed_when_all_threads_have_given_up(void *argument)
{
	struct beside beside[BESIDE];
	pthread_t thread[BESIDE];

	(void)argument;
	EXPECT(prctl(PR_SET_KEEPCAPS, 1) == 0);
	EXPECT(setresgid(OTHER_UID, OTHER_UID, OTHER_UID) == 0);
	EXPECT(setresuid(OTHER_UID, OTHER_UID, OTHER_UID) == 0);
	for (int i = 0; i < BESIDE; i++) {
		beside[i].gives_up = i < BESIDE - 1;
		beside[i].uid = i == BESIDE - 2 ? OTHER_UID + 1 : (uid_t)-1;
		EXPECT(pthread_barrier_init(&beside[i].begin, NULL, 2) == 0);
		EXPECT(pthread_barrier_init(&beside[i].end, NULL, 2) == 0);
		EXPECT(pthread_create(&thread[i], NULL, be_beside, &beside[i]) == 0);
		pthread_barrier_wait(&beside[i].begin);
	}
	EXPECT(creds_drop_capabilities(0) == 0);
	for (int i = BESIDE - 1; i >= 0; i--) {
		time_t end = time(NULL) + 20;

		/* Whoever was joined is to be seen a moment longer. */
		while (i < BESIDE - 2 && !ids_are_fixed() && time(NULL) < end)
			test_moment();
		EXPECT(ids_are_fixed() == (i < BESIDE - 2));
		pthread_barrier_wait(&beside[i].end);
		pthread_join(thread[i], NULL);
	}
	return 0;
}

START_TEST(ids_are_fixed_where_no_call_can_change_them)
{
	TEST_NEEDS(test_is_root(), "root");
	ck_assert_int_eq(
		test_run_as((uid_t)-1, 0, NULL, 0, fixed_when_all_threads_have_given_up, NULL), 0);
	ck_assert_int_eq(test_run_as((uid_t)-1, 0, NULL, 0, never_fixed_by_half_a_line, NULL), 0);
	ck_assert_int_eq(test_run_as((uid_t)-1, 0, NULL, 0, fixed_when_all_are_given_up, NULL), 0);
	ck_assert_int_eq(test_run_as((uid_t)-1, 0, NULL, 0, not_fixed_with_one_saved, NULL), 0);
}
END_TEST

static void check_mode(const char *name, mode_t mask, mode_t expected)
{
	struct stat status;
	int fd;

	umask(mask);
	fd = drop_in_open(name, O_RDWR | O_CREAT | O_EXCL, 0666);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fstat(fd, &status), 0);
	ck_assert_uint_eq(status.st_mode & 0777, expected);
	ck_assert_uint_eq(umask(mask), mask);
	close(fd);
	ck_assert_int_eq(drop_in_unlink(name), 0);
}

static void *wait_for_lock(void *argument)
{
	pthread_mutex_lock(argument);
	pthread_mutex_unlock(argument);
	return NULL;
}

static void change_umask(void)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	pthread_t thread;

	check_mode("a", 0, 0666);
	check_mode("a", 077, 0600);
	check_mode("a", 022, 0644);
	pthread_mutex_lock(&lock);
	ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_lock, &lock), 0);
	check_mode("a", 0, 0666);
	check_mode("a", 077, 0600);
	check_mode("a", 022, 0644);
	pthread_mutex_unlock(&lock);
	pthread_join(thread, NULL);
}

START_TEST(new_object_has_the_umask_of_its_moment)
{
	drop_in_child(change_umask);
}
END_TEST

static void close_all(void)
{
	ck_assert_int_eq(drop_in_touch("a"), 0);
	closefrom(3);
	ck_assert_int_eq(drop_in_open("b", O_RDWR | O_CREAT, 0600), 3);
	drop_in_expect_broker(true);
}

START_TEST(closefrom_costs_nothing_but_a_new_connection)
{
	drop_in_child(close_all);
}
END_TEST

/* Whatever stands where the connection was must be alive afterwards. */
static void take_every_number(void)
{
	int fd;

	ck_assert_int_eq(drop_in_touch("a"), 0);
	fd = open("/dev/null", O_RDWR);
	for (int i = 3; i < 1024; i++)
		if (i != fd)
			ck_assert_int_eq(dup2(fd, i), i);
	close(500);
	close(600);
	ck_assert_int_eq(drop_in_open("b", O_RDWR | O_CREAT, 0600), 500);
	for (int i = 3; i < 1024; i++)
		ck_assert(i == 600 || fcntl(i, F_GETFD) >= 0);
}

START_TEST(descriptors_put_over_the_connection_are_left_alone)
{
	drop_in_child(take_every_number);
}
END_TEST

/* Another socket under the connection's number is somebody else's. */
static void other_socket(void)
{
	int pair[2], number;
	char byte;

	ck_assert_int_eq(drop_in_touch("a"), 0);
	number = drop_in_connection();
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	ck_assert_int_eq(dup2(pair[0], number), number);
	ck_assert_int_eq(drop_in_touch("b"), 0);
	ck_assert_int_eq(recv(pair[1], &byte, 1, MSG_DONTWAIT), -1);
	ck_assert_int_eq(errno, EAGAIN);
	ck_assert_int_ge(fcntl(number, F_GETFD), 0);
}

START_TEST(another_socket_under_the_connections_number_hears_nothing)
{
	drop_in_child(other_socket);
}
END_TEST

static void allow_descriptors(rlim_t count)
{
	struct rlimit limit;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = count;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void exhaust_descriptors(void)
{
	struct stat st;
	int last = -1, fd;

	ck_assert_int_eq(drop_in_touch("kept"), 0);
	fd = drop_in_open("kept", O_RDWR, 0);
	ck_assert(fd >= 0 && ftruncate(fd, 100) == 0);
	close(fd);
	allow_descriptors(64);
	while ((fd = dup(0)) >= 0)
		last = fd;
	ck_assert_int_eq(drop_in_touch("new"), EMFILE);
	ck_assert(!drop_in_exists("new"));
	ck_assert_int_eq(drop_in_open("kept", O_RDONLY, 0), -1);
	ck_assert_int_eq(errno, EMFILE);
	ck_assert_int_eq(drop_in_open("kept", O_RDWR | O_TRUNC, 0), -1);
	ck_assert_int_eq(errno, EMFILE);
	allow_descriptors(0);
	ck_assert_int_eq(drop_in_touch("new"), EMFILE);
	allow_descriptors(64);
	close(last);
	fd = drop_in_open("kept", O_RDONLY, 0);
	ck_assert(fd >= 0 && fstat(fd, &st) == 0);
	ck_assert_int_eq(st.st_size, 100);
	ck_assert_int_eq(drop_in_unlink("kept"), 0);
	close(fd);
	ck_assert_int_eq(drop_in_touch("new"), 0);
}

START_TEST(without_descriptors_a_create_leaves_no_name)
{
	if (!fake_limits_are_real())
		return;
	drop_in_child(exhaust_descriptors);
}
END_TEST

static void few_descriptors(void)
{
	allow_descriptors(20);
	ck_assert_int_eq(drop_in_open("a", O_RDWR | O_CREAT, 0600), drop_in_lowest() - 1);
	ck_assert_int_eq(drop_in_connection(), 19);
}

START_TEST(connection_goes_to_the_highest_number_of_a_low_limit)
{
	drop_in_child(few_descriptors);
}
END_TEST

static void *call_cancelled(void *argument)
{
	pthread_cancel(pthread_self());
	*(int *)argument = drop_in_open("a", O_RDWR | O_CREAT, 0600);
	return NULL;
}

static void cancel_thread(void)
{
	pthread_t thread;
	void *result;
	int fd = -1;

	ck_assert_int_eq(pthread_create(&thread, NULL, call_cancelled, &fd), 0);
	ck_assert_int_eq(pthread_join(thread, &result), 0);
	ck_assert_int_ge(fd, 0);
	ck_assert(drop_in_exists("a"));
}

START_TEST(drop_ins_are_no_cancellation_points)
{
	drop_in_child(cancel_thread);
}
END_TEST

void drop_in_add_process_tests(TCase *tcase)
{
	tcase_add_test(tcase, drop_ins_serve_eight_threads);
	tcase_add_test(tcase, forked_child_calls_at_once_with_its_parent);
	tcase_add_test(tcase, forked_child_keeps_no_copy_of_its_parents_connection);
	tcase_add_test(tcase, vfork_child_leaves_its_parents_connection_alone);
	tcase_add_test(tcase, vfork_child_that_calls_first_leaves_the_parent_its_connection);
	tcase_add_test(tcase, each_call_has_the_effective_ids_of_its_moment);
	tcase_add_test(tcase, ids_are_fixed_where_no_call_can_change_them);
	tcase_add_test(tcase, new_object_has_the_umask_of_its_moment);
	tcase_add_test(tcase, closefrom_costs_nothing_but_a_new_connection);
	tcase_add_test(tcase, descriptors_put_over_the_connection_are_left_alone);
	tcase_add_test(tcase, another_socket_under_the_connections_number_hears_nothing);
	tcase_add_test(tcase, without_descriptors_a_create_leaves_no_name);
	tcase_add_test(tcase, connection_goes_to_the_highest_number_of_a_low_limit);
	tcase_add_test(tcase, drop_ins_are_no_cancellation_points);
}
