/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A keeper in the test's own process, and one call for each thing that it is
 * asked: for the files of the keeper's suite.
 */
#ifndef SHMBROKER_KEEPER_FIXTURE_H
#define SHMBROKER_KEEPER_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "daemon/fd.h"
#include "daemon/keeper.h"
#include "tests/confine.h"
#include "tests/test.h"

/* The parts of the suite. */
void keeper_add_helpers(TCase *tests);
void keeper_add_pools(TCase *tests);
void keeper_add_rights(TCase *tests);
void keeper_add_twins(TCase *tests);

#define TABLE_ID 65530	/* nobody runs under it */
#define ANSWER_MS 60000 /* far beyond what any answer takes, also emulated */
#define MIB (1024u * 1024u)

static inline struct keeper_setup setup_of(const struct keeper_fault *fault)
{
	bool root = geteuid() == 0;

	return (struct keeper_setup){
		.table_uid = root ? TABLE_ID : geteuid(),
		.table_gid = root ? TABLE_ID : getegid(),
		.userns = -EBADF,
		.mntns = -EBADF,
		.fault = fault,
		.confine_keeper = confine_keeper,
		.confine_twin = confine_twin,
	};
}

static inline struct keeper *start(const struct keeper_fault *fault)
{
	struct keeper_setup setup = setup_of(fault);
	struct keeper *keeper = NULL;

	return keeper_start(&keeper, &setup) == 0 ? keeper : NULL;
}

/* The next answer; -ETIME when none comes. */
static inline int answer(struct keeper *keeper, struct keeper_reply *ret)
{
	for (;;) {
		struct pollfd event = { .fd = keeper_poll_borrow(keeper), .events = POLLIN };
		int result = keeper_receive(keeper, ret);

		if (result != 0)
			return result;
		if (poll(&event, 1, ANSWER_MS) <= 0)
			return -ETIME;
	}
}

/* Sends one request and waits for its answer. Returns failure.error, or -errno. */
static inline int ask(struct keeper *keeper, struct keeper_request request,
		      struct keeper_reply *ret)
{
	int result;

	request.id = 4711;
	*ret = (struct keeper_reply){ .writable = -EBADF, .read_only = -EBADF };
	result = keeper_send(keeper, &request);
	if (result == 0)
		result = answer(keeper, ret);
	if (result < 0)
		return result;
	if (ret->id != request.id)
		return -EPROTO;
	return ret->failure.error;
}

static inline void reply_close(struct keeper_reply *reply)
{
	reply->writable = fd_close(reply->writable);
	reply->read_only = fd_close(reply->read_only);
}

/* Whatever comes with the answer is closed. */
static inline int do_simple(struct keeper *keeper, enum keeper_operation operation, uint32_t number)
{
	struct keeper_reply reply;
	int result = ask(keeper,
			 (struct keeper_request){ .operation = operation, .number = number },
			 &reply);

	reply_close(&reply);
	return result;
}

static inline int do_resize(struct keeper *keeper, uint32_t number, uint64_t size_bytes,
			    uint64_t objects)
{
	struct keeper_reply reply;

	return ask(keeper,
		   (struct keeper_request){ .operation = KEEPER_RESIZE,
					    .number = number,
					    .size_bytes = size_bytes,
					    .objects = objects },
		   &reply);
}

static inline int do_make(struct keeper *keeper, uint32_t number, bool exec,
			  struct keeper_reply *ret)
{
	return ask(keeper,
		   (struct keeper_request){ .operation = KEEPER_MAKE,
					    .number = number,
					    .size_bytes = MIB,
					    .objects = 8,
					    .exec = exec },
		   ret);
}

static inline int do_twin(struct keeper *keeper, const char *path, struct keeper_reply *ret)
{
	return ask(keeper, (struct keeper_request){ .operation = KEEPER_TWIN, .path = path }, ret);
}

/* A keeper with the pool 1 in it: 1 MiB, 8 objects. Ends the test where that fails. */
static inline struct keeper *start_with_pool(struct keeper_reply *ret)
{
	struct keeper *keeper = start(NULL);
	struct keeper_failure why;

	ck_assert_ptr_nonnull(keeper);
	if (!keeper_has_table(keeper, &why))
		ck_abort_msg("no table: %s: %s (%s)", why.step, strerror(why.error), why.advice);
	if (do_make(keeper, 1, false, ret) != 0)
		ck_abort_msg("no pool: %s: %d", ret->failure.step, ret->failure.error);
	return keeper;
}

static inline int create(int directory, const char *name)
{
	return openat(directory, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
}

static inline bool same_directory(int a, int b)
{
	struct stat one, other;

	return fstat(a, &one) == 0 && fstat(b, &other) == 0 && one.st_dev == other.st_dev &&
	       one.st_ino == other.st_ino;
}

static inline void check_writes_are_erofs(int read_only, const char *name)
{
	ck_assert_int_eq(openat(read_only, name, O_RDWR | O_CLOEXEC), -1);
	ck_assert_int_eq(errno, EROFS);
	ck_assert_int_eq(create(read_only, "new"), -1);
	ck_assert_int_eq(errno, EROFS);
	ck_assert_int_eq(unlinkat(read_only, name, 0), -1);
	ck_assert_int_eq(errno, EROFS);
	ck_assert_int_eq(renameat(read_only, name, read_only, "new"), -1);
	ck_assert_int_eq(errno, EROFS);
	ck_assert_int_eq(fchmodat(read_only, name, 0600, 0), -1);
	ck_assert_int_eq(errno, EROFS);
}

/* valgrind knows none of the mount calls. */
static inline bool has_mount_calls(void)
{
	int context = fsopen("tmpfs", FSOPEN_CLOEXEC);
	bool known = context >= 0 || errno != ENOSYS;

	fd_close(context);
	return known;
}

#define NEEDS_TABLE                                                                                \
	TEST_NEEDS(test_has_namespaces() && has_mount_calls(),                                     \
		   "user and mount namespaces, and a kernel or valgrind that knows fsopen")
#define NEEDS_ROOT_TABLE                                                                           \
	TEST_NEEDS(test_is_root(), "root");                                                        \
	NEEDS_TABLE

#endif
