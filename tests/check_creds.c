/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Acting under a caller's ids: the kernel is asked whether it would let him, by brokers
 * with all kinds of rights. Each in a child of its own, for ids don't come back.
 */
#include "daemon/creds.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/fd.h"
#include "tests/test.h"

#define ALICE 2001
#define BOB 2002
#define BROKER 1500
#define FRIENDS 3001 /* a group */
#define SET_IDS (CREDS_CAP(CAP_SETUID) | CREDS_CAP(CAP_SETGID))
#define DAC CREDS_CAP(CAP_DAC_OVERRIDE)

/* For what runs in a child: the line is told, and the exit status says that it failed. */
#define REQUIRE(condition)                                                                         \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);    \
			return 1;                                                                  \
		}                                                                                  \
	} while (0)

static gid_t friends[] = { FRIENDS };
static const struct ids alice = { .uid = ALICE, .gid = ALICE };
static const struct ids bob = { .uid = BOB, .gid = BOB };
static const struct ids bob_friend = {
	.uid = BOB, .gid = BOB, .groups = friends, .group_count = 1
};
static const struct ids root = { .uid = 0, .gid = 0 };
static const struct ids overflow = { .uid = 65534, .gid = 65534 };

struct broker {
	uid_t uid;
	uint64_t caps; /* permitted and effective */
	const char *directory;
};

/* Takes the broker's uid, and keeps the capabilities that it is to have. */
static int become(const struct broker *broker)
{
	struct creds_caps caps;

	if (prctl(PR_SET_KEEPCAPS, 1) < 0 || setgroups(0, NULL) < 0)
		return -errno;
	if (setresgid(broker->uid, broker->uid, broker->uid) < 0 ||
	    setresuid(broker->uid, broker->uid, broker->uid) < 0)
		return -errno;
	if (creds_drop_capabilities(broker->caps) < 0 || creds_caps_get(&caps) < 0)
		return -EPERM;
	caps.effective = caps.permitted;
	return creds_caps_set(&caps);
}

static int broker_start(const struct broker *broker, struct peer_self *self, struct creds *creds)
{
	umask(0);
	if (chdir(broker->directory) < 0 || become(broker) < 0 || peer_self_init(self, false) < 0)
		return -EPERM;
	return creds_init(creds, self);
}

static void broker_stop(struct peer_self *self, struct creds *creds)
{
	creds_done(creds);
	peer_self_done(self);
}

/* 0 or the errno of opening it. */
static int try_open(const char *name)
{
	int fd = open(name, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

static void make_file(const char *directory, const char *name, mode_t mode, uid_t uid, gid_t gid)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fchown(fd, uid, gid), 0);
	ck_assert_int_eq(fchmod(fd, mode), 0);
	close(fd);
}

/* Runs it in the place of each kind of broker that may set ids. */
static void for_each_broker(int (*function)(void *))
{
	static const struct {
		uid_t uid;
		uint64_t caps;
	} rows[] = {
		{ 0, ~UINT64_C(0) },	   { 0, SET_IDS | DAC }, { 0, SET_IDS },
		{ BROKER, SET_IDS | DAC }, /* the trap: setfsuid(2) alone leaves it CAP_DAC_OVERRIDE
					    */
		{ BROKER, SET_IDS },
	};
	const char *directory = test_directory();

	ck_assert_int_eq(chmod(directory, 0777), 0);
	make_file(directory, "alice", 0600, ALICE, ALICE);
	make_file(directory, "friends", 0060, ALICE, FRIENDS);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct broker broker = { rows[i].uid, rows[i].caps, directory };

		ck_assert_msg(test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, function, &broker) == 0,
			      "broker of row %zu", i);
	}
}

static int kernel_decides_for_the_caller(void *argument)
{
	const struct broker *broker = argument;
	/* Its permitted set bounds what root's own capabilities are worth. */
	int as_root = broker->caps & DAC ? 0 : EACCES;
	struct peer_self self;
	struct creds creds;

	REQUIRE(broker_start(broker, &self, &creds) == 0);
	for (int round = 0; round < 2; round++) {
		REQUIRE(try_open("alice") == as_root);
		REQUIRE(creds_assume(&creds, &bob, 0) == 0 && try_open("alice") == EACCES);
		REQUIRE(creds_assume(&creds, &bob, DAC) == 0 && try_open("alice") == EACCES);
		REQUIRE(creds_assume(&creds, &alice, 0) == 0 && try_open("alice") == 0);
		REQUIRE(creds_assume(&creds, &root, 0) == 0 && try_open("alice") == EACCES);
		REQUIRE(creds_assume(&creds, &root, DAC) == 0 && try_open("alice") == as_root);
		REQUIRE(creds_assume(&creds, &root, ~DAC) == 0);
		REQUIRE(try_open("alice") == EACCES ||
			creds.own_caps.permitted & CREDS_CAP(CAP_DAC_READ_SEARCH));
		REQUIRE(creds_assume(&creds, &bob, 0) == 0 && try_open("alice") == EACCES);
		creds_reset(&creds);
	}
	broker_stop(&self, &creds);
	return 0;
}

START_TEST(kernel_decides_for_the_caller_whatever_the_brokers_rights)
{
	TEST_NEEDS(test_is_root(), "takes other ids");
	for_each_broker(kernel_decides_for_the_caller);
}
END_TEST

static int groups_count(void *argument)
{
	struct peer_self self;
	struct creds creds;

	REQUIRE(broker_start(argument, &self, &creds) == 0);
	REQUIRE(creds_assume(&creds, &bob, 0) == 0 && try_open("friends") == EACCES);
	REQUIRE(creds_assume(&creds, &bob_friend, 0) == 0 && try_open("friends") == 0);
	REQUIRE(creds_assume(&creds, &bob, 0) == 0 && try_open("friends") == EACCES);
	/* The bits of the owner's class come first, natively. */
	REQUIRE(creds_assume(&creds, &alice, 0) == 0 && try_open("friends") == EACCES);
	broker_stop(&self, &creds);
	return 0;
}

START_TEST(supplementary_groups_count)
{
	TEST_NEEDS(test_is_root(), "takes other ids");
	for_each_broker(groups_count);
}
END_TEST

static int created_is_the_callers(void *argument)
{
	struct peer_self self;
	struct creds creds;
	struct stat st;
	int fd;

	REQUIRE(broker_start(argument, &self, &creds) == 0);
	REQUIRE(creds_assume(&creds, &bob_friend, 0) == 0);
	fd = open("new", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
	REQUIRE(fd >= 0 && fstat(fd, &st) == 0);
	REQUIRE(st.st_uid == BOB && st.st_gid == BOB && (st.st_mode & 07777) == 0640);
	REQUIRE(unlink("new") == 0);
	close(fd);
	broker_stop(&self, &creds);
	return 0;
}

START_TEST(created_file_has_the_callers_ids)
{
	TEST_NEEDS(test_is_root(), "takes other ids");
	for_each_broker(created_is_the_callers);
}
END_TEST

static int reset_restores(void *argument)
{
	const struct broker *broker = argument;
	const struct ids *callers[] = { &root, &alice, &bob_friend };
	struct creds_caps before, after;
	struct peer_self self;
	struct creds creds;

	REQUIRE(broker_start(broker, &self, &creds) == 0);
	REQUIRE(creds_caps_get(&before) == 0);
	for (size_t i = 0; i < sizeof(callers) / sizeof(*callers); i++) {
		REQUIRE(creds_assume(&creds, callers[i], 0) == 0);
		REQUIRE(creds_caps_get(&after) == 0 && !(after.effective & CREDS_FS_CAPS));
		REQUIRE((uid_t)setfsuid((uid_t)-1) == callers[i]->uid);
		REQUIRE(prctl(PR_GET_DUMPABLE) == 0);
		creds_reset(&creds);
		REQUIRE(creds_caps_get(&after) == 0 && !memcmp(&before, &after, sizeof(after)));
		REQUIRE((uid_t)setfsuid((uid_t)-1) == broker->uid);
		REQUIRE((gid_t)setfsgid((gid_t)-1) == broker->uid);
		REQUIRE(getgroups(0, NULL) == 0);
		REQUIRE(prctl(PR_GET_DUMPABLE) == 0);
	}
	broker_stop(&self, &creds);
	return 0;
}

START_TEST(reset_restores_the_brokers_own)
{
	TEST_NEEDS(test_is_root(), "takes other ids");
	for_each_broker(reset_restores);
}
END_TEST

static int same_caller_is_left_alone(void *argument)
{
	struct ids moved = bob_friend;
	struct peer_self self;
	struct creds creds;

	REQUIRE(broker_start(argument, &self, &creds) == 0);
	REQUIRE(creds_assume(&creds, &bob_friend, 0) == 0);
	/* Behind its back: whether a system call is made can be seen by what it undoes. */
	setfsuid(ALICE);
	REQUIRE(creds_assume(&creds, &bob_friend, 0) == 0);
	REQUIRE(setfsuid((uid_t)-1) == ALICE);
	/* The same ids at the same place are looked at, not the pointer. */
	moved.gid = ALICE;
	REQUIRE(creds_assume(&creds, &moved, 0) == 0);
	REQUIRE(setfsuid((uid_t)-1) == BOB && setfsgid((gid_t)-1) == ALICE);
	moved.group_count = 0;
	REQUIRE(creds_assume(&creds, &moved, 0) == 0 && getgroups(0, NULL) == 0);
	broker_stop(&self, &creds);
	return 0;
}

START_TEST(consecutive_requests_of_one_caller_change_nothing)
{
	TEST_NEEDS(test_is_root(), "takes other ids");
	for_each_broker(same_caller_is_left_alone);
}
END_TEST

static int unmapped_is_refused(void *argument)
{
	const struct broker *broker = argument;
	const struct ids nobody = { .uid = (uid_t)-1, .gid = 1 };
	const struct ids nogroup = { .uid = BOB, .gid = 65534 };
	struct peer_self self;
	struct creds creds;

	REQUIRE(broker_start(broker, &self, &creds) == 0);
	/* Where all are known, a user like any other. */
	if (creds.overflow_uid == (uid_t)-1)
		REQUIRE(creds_assume(&creds, &overflow, 0) == 0);
	creds.overflow_uid = overflow.uid;
	creds_reset(&creds);
	REQUIRE(creds_assume(&creds, &bob, 0) == 0);
	REQUIRE(creds_assume(&creds, &overflow, 0) == -EOPNOTSUPP);
	REQUIRE((uid_t)setfsuid((uid_t)-1) == broker->uid && !creds.is_assumed);
	REQUIRE(creds_assume(&creds, &nobody, 0) == -EOPNOTSUPP);
	/* A group like any other where every gid is known. */
	creds.overflow_gid = (gid_t)-1;
	REQUIRE(creds_assume(&creds, &nogroup, 0) == 0);
	creds_reset(&creds);
	creds.overflow_gid = nogroup.gid;
	REQUIRE(creds_assume(&creds, &nogroup, 0) == -EOPNOTSUPP);
	broker_stop(&self, &creds);
	return 0;
}

START_TEST(ids_that_may_stand_for_unmapped_ones_are_refused)
{
	TEST_NEEDS(test_is_root(), "takes other ids");
	for_each_broker(unmapped_is_refused);
}
END_TEST

static int half_a_change_is_none(void *argument)
{
	struct broker broker = *(const struct broker *)argument;
	struct creds_caps before, after;
	struct peer_self self;
	struct creds creds;

	broker.caps &= ~CREDS_CAP(CAP_SETUID);
	REQUIRE(broker_start(&broker, &self, &creds) == 0);
	REQUIRE(!self.may_set_ids);
	creds.may_set_ids = true; /* groups and fsgid will be set, and fsuid not */
	REQUIRE(creds_caps_get(&before) == 0);
	REQUIRE(creds_assume(&creds, &bob_friend, 0) == -EPERM);
	REQUIRE((uid_t)setfsuid((uid_t)-1) == broker.uid && getgroups(0, NULL) == 0);
	REQUIRE((gid_t)setfsgid((gid_t)-1) == broker.uid && !creds.is_assumed);
	REQUIRE(creds_caps_get(&after) == 0 && !memcmp(&before, &after, sizeof(after)));
	broker_stop(&self, &creds);
	return 0;
}

START_TEST(change_that_fails_half_way_is_undone)
{
	TEST_NEEDS(test_is_root(), "takes other ids");
	for_each_broker(half_a_change_is_none);
}
END_TEST

static int lost_broker_aborts(void *argument)
{
	struct creds_caps none = { 0 };
	struct peer_self self;
	struct creds creds;

	REQUIRE(broker_start(argument, &self, &creds) == 0);
	REQUIRE(creds_assume(&creds, &bob_friend, 0) == 0);
	REQUIRE(creds_caps_set(&none) == 0);
	creds_reset(&creds);
	return 0;
}

START_TEST(reset_that_fails_aborts)
{
	struct broker broker = { BROKER, SET_IDS, NULL };

	TEST_NEEDS(test_is_root(), "takes other ids");
	broker.directory = test_directory();
	ck_assert_int_eq(chmod(broker.directory, 0777), 0);
	ck_assert_int_eq(test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, lost_broker_aborts, &broker),
			 128 + SIGABRT);
}
END_TEST

static int own_uid_only(void *argument)
{
	struct ids own = { .uid = geteuid(), .gid = BOB, .groups = friends, .group_count = 1 };
	struct ids other = { .uid = own.uid + 1, .gid = BOB };
	struct creds_caps before, after;
	struct peer_self self;
	struct creds creds;

	REQUIRE(peer_self_init(&self, true) == 0);
	self.may_set_ids = false;
	REQUIRE(creds_init(&creds, &self) == 0 && creds_caps_get(&before) == 0);
	REQUIRE(creds_assume(&creds, &other, 0) == -EOPNOTSUPP);
	REQUIRE(creds_assume(&creds, &own, 0) == 0);
	REQUIRE((gid_t)setfsgid((gid_t)-1) == getegid());
	/* What rights it has over files don't count for the caller here either. */
	REQUIRE(creds_caps_get(&after) == 0 && !(after.effective & CREDS_FS_CAPS));
	REQUIRE(creds_assume(&creds, &own, 0) == 0);
	REQUIRE(creds_assume(&creds, &other, 0) == -EOPNOTSUPP);
	REQUIRE(creds_caps_get(&after) == 0 && !memcmp(&before, &after, sizeof(after)));
	broker_stop(&self, &creds);
	return 0;
}

START_TEST(broker_that_may_not_set_ids_serves_its_own_uid)
{
	ck_assert_int_eq(test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, own_uid_only, NULL), 0);
}
END_TEST

static int drops(void *argument)
{
	const uint64_t keep = SET_IDS | CREDS_CAP(CAP_FOWNER);
	struct creds_caps caps;

	REQUIRE(creds_caps_get(&caps) == 0);
	caps.inheritable = caps.permitted;
	REQUIRE(creds_caps_set(&caps) == 0);
	REQUIRE(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SETUID, 0, 0) == 0);
	REQUIRE(creds_drop_capabilities(keep) == 0 && creds_caps_get(&caps) == 0);
	REQUIRE(caps.permitted == keep && caps.effective == keep && caps.inheritable == keep);
	REQUIRE(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_SETUID, 0, 0) == 0);
	REQUIRE(creds_drop_capabilities(0) == 0 && creds_caps_get(&caps) == 0);
	REQUIRE(!caps.permitted && !caps.effective && !caps.inheritable);
	return 0;
}

START_TEST(dropped_capabilities_are_in_no_set)
{
	TEST_NEEDS(test_is_root(), "has capabilities to drop");
	ck_assert_int_eq(test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, drops, NULL), 0);
}
END_TEST

Suite *suite_creds(void)
{
	Suite *suite = suite_create("creds");
	TCase *tcase = tcase_create("creds");

	tcase_add_checked_fixture(tcase, test_fds_setup, test_fds_teardown);
	tcase_add_test(tcase, kernel_decides_for_the_caller_whatever_the_brokers_rights);
	tcase_add_test(tcase, supplementary_groups_count);
	tcase_add_test(tcase, created_file_has_the_callers_ids);
	tcase_add_test(tcase, reset_restores_the_brokers_own);
	tcase_add_test(tcase, consecutive_requests_of_one_caller_change_nothing);
	tcase_add_test(tcase, ids_that_may_stand_for_unmapped_ones_are_refused);
	tcase_add_test(tcase, change_that_fails_half_way_is_undone);
	tcase_add_test(tcase, reset_that_fails_aborts);
	tcase_add_test(tcase, broker_that_may_not_set_ids_serves_its_own_uid);
	tcase_add_test(tcase, dropped_capabilities_are_in_no_set);
	suite_add_tcase(suite, tcase);
	return suite;
}
