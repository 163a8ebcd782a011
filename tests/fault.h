/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Makes one call of the code under test fail, the first, the second and so on: what it allocates
 * and the system calls that it makes, in the test's process and in those that are forked from it.
 * The linker leads the calls here (fault.wrap), so only ours count, not libc's own or a library's.
 */
#ifndef SHMBROKER_TESTS_FAULT_H
#define SHMBROKER_TESTS_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum fault_call {
#define FAULT_CALL(name, ...) FAULT_##name,
#include "tests/fault_calls.h"
#undef FAULT_CALL
	FAULT_CALLS
};

/* Whose calls count. */
enum fault_role {
	FAULT_SELF = 1,	  /* the thread that asks for it: the library, or a start */
	FAULT_LOOP = 2,	  /* the process's other threads: a fixture's broker */
	FAULT_HELPER = 4, /* what was forked since fault_begin() */
};

/* What failed. */
struct fault_hit {
	bool happened;
	enum fault_call call;
	int error;
	unsigned errors; /* so many errnos has that call's row */
	ptrdiff_t place; /* where it was called, as addr2line(1) wants it */
	pid_t process;
};

/* Before what is to be observed is forked, once a process. */
void fault_begin(void);
/* Before that, where a program is started in which is to fail what is armed here: for that. */
int fault_share(void);
/* In that program; the descriptor is taken. */
void fault_join(int fd);
/*
 * From here on the at-th call in these roles fails (0: none does), with the error-th errno of its
 * row. fault_disarm() returns how many calls there were.
 */
void fault_arm(unsigned roles, unsigned at, unsigned error);
unsigned fault_disarm(struct fault_hit *ret);
bool fault_has_happened(void);
/* The first call of this kind in a role fails with error, whatever the table says. */
void fault_arm_call(unsigned roles, enum fault_call call, unsigned at, int error);
/*
 * In the place of the at-th call of this kind in a role runs function there, and then the call is
 * made; or, with an error, fails with that: as if what function did had come just behind it.
 */
void fault_hook(unsigned roles, enum fault_call call, unsigned at, int error,
		void (*function)(void *argument), void *argument);
/* Between the two this thread's calls don't count. */
void fault_pause(void);
void fault_resume(void);

/* The flags of the last openat(2) with O_EXCL in this process. */
extern _Atomic int fault_exclusive_flags;

/* What is allocated by what is linked here, and not freed yet, in this process. */
long fault_allocated(void);
const char *fault_name(enum fault_call call);

/* For the wrappers: what the call that is about to be made fails with, or 0. */
int fault_due(enum fault_call call, const void *from);
void fault_count_allocation(const void *pointer, int change);

#endif
