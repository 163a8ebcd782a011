/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which call is to fail: see fault.h. */
#include "tests/fault.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ERRNOS 6

static const struct {
	const char *name;
	int error[ERRNOS]; /* 0: no more */
} rows[FAULT_CALLS] = {
#define FAULT_CALL(name, ...) { #name, { __VA_ARGS__ } },
#include "tests/fault_calls.h"
#undef FAULT_CALL
};

/* Shared with what is forked: a helper is armed, and counts, like anybody else. */
struct plan {
	pid_t process;
	_Atomic unsigned roles; /* 0: nothing is armed */
	_Atomic unsigned count;
	unsigned at, error;
	bool one_call; /* `call` alone counts, and `with` is what it fails with */
	enum fault_call call;
	int with;
	void (*hook)(void *argument);
	void *hook_argument;
	struct fault_hit hit;
};

static struct plan *plan;
static atomic_long allocated;
static _Thread_local unsigned paused;
static _Thread_local bool is_self;

void fault_begin(void)
{
	if (!plan) {
		plan = mmap(NULL, sizeof(*plan), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			    -1, 0);
		ck_assert_ptr_ne(plan, MAP_FAILED);
	}
	memset(plan, 0, sizeof(*plan));
	plan->process = getpid();
	is_self = true;
}

int fault_share(void)
{
	int fd = memfd_create("plan", MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, sizeof(*plan)), 0);
	plan = mmap(NULL, sizeof(*plan), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(plan, MAP_FAILED);
	return fd;
}

void fault_join(int fd)
{
	plan = mmap(NULL, sizeof(*plan), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	/* In a program that is no test nothing may be asserted. */
	if (plan == MAP_FAILED)
		abort();
	close(fd);
	plan->process = getpid();
	is_self = true;
}

static void arm(unsigned roles, const struct plan *how)
{
	plan->roles = 0;
	plan->count = 0;
	plan->at = how->at;
	plan->error = how->error;
	plan->one_call = how->one_call;
	plan->call = how->call;
	plan->with = how->with;
	plan->hook = how->hook;
	plan->hook_argument = how->hook_argument;
	plan->hit = (struct fault_hit){ 0 };
	plan->roles = roles;
}

void fault_arm(unsigned roles, unsigned at, unsigned error)
{
	arm(roles, &(struct plan){ .at = at, .error = error });
}

void fault_arm_call(unsigned roles, enum fault_call call, unsigned at, int error)
{
	arm(roles, &(struct plan){ .at = at, .one_call = true, .call = call, .with = error });
}

void fault_hook(unsigned roles, enum fault_call call, unsigned at, int error,
		void (*function)(void *argument), void *argument)
{
	arm(roles, &(struct plan){ .at = at,
				   .one_call = true,
				   .call = call,
				   .with = error,
				   .hook = function,
				   .hook_argument = argument });
}

unsigned fault_disarm(struct fault_hit *ret)
{
	plan->roles = 0;
	if (ret)
		*ret = plan->hit;
	return plan->count;
}

bool fault_has_happened(void)
{
	return plan->hit.happened;
}

void fault_pause(void)
{
	paused++;
}

void fault_resume(void)
{
	paused--;
}

long fault_allocated(void)
{
	return allocated;
}

void fault_count_allocation(const void *pointer, int change)
{
	if (pointer)
		allocated += change;
}

const char *fault_name(enum fault_call call)
{
	return rows[call].name;
}

static unsigned my_role(void)
{
	if (getpid() != plan->process)
		return FAULT_HELPER;
	return is_self ? FAULT_SELF : FAULT_LOOP;
}

static int hit(enum fault_call call, const void *from)
{
	extern const char __executable_start;
	unsigned errors = 1;
	int error = plan->with;

	if (!plan->one_call) {
		for (errors = 0; errors < ERRNOS && rows[call].error[errors]; errors++)
			;
		error = rows[call].error[plan->error < errors ? plan->error : 0];
	}
	plan->hit = (struct fault_hit){
		.happened = true,
		.call = call,
		.error = error,
		.errors = errors,
		.place = (const char *)from - &__executable_start,
		.process = getpid(),
	};
	return error;
}

int fault_due(enum fault_call call, const void *from)
{
	if (!plan || !plan->roles || paused || !(plan->roles & my_role()) ||
	    (plan->one_call && plan->call != call) || ++plan->count != plan->at)
		return 0;
	if (plan->hook) {
		paused++;
		plan->hook(plan->hook_argument);
		paused--;
	}
	return hit(call, from);
}
