/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The lists of system calls, each in a process of its own: what isn't in them ends it, and
 * what libraries do beside our own work doesn't. The work itself is in the other suites, whose
 * helpers have their filters, and in the daemon's.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/filter.h"
#include "tests/confine.h"
#include "tests/test.h"

#define BROKER FILTER_BROKER
#define KEEPER FILTER_KEEPER
#define TWIN FILTER_TWIN
#define CLOSER FILTER_CLOSER
#define ALL (BROKER | KEEPER | TWIN | CLOSER)
#define KILLED (128 + SIGSYS)
#define NO_FILTER 77

static const enum filter_role roles[] = { BROKER, KEEPER, TWIN, CLOSER };
#define ROLES (sizeof(roles) / sizeof(*roles))

struct call {
	unsigned roles;
	const char *name;
	long number;
	unsigned long arguments[6]; /* some that no kernel takes, if it should come to that */
};

#define NOTHING                                                                                    \
	{                                                                                          \
		-1UL, -1UL, -1UL, -1UL, -1UL, -1UL                                                 \
	}
#define ANY(roles, name)                                                                           \
	{                                                                                          \
		roles, #name, SYS_##name, NOTHING                                                  \
	}
#define FORK SIGCHLD
#define THREAD (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)
#ifdef __s390x__
#define CLONE(roles, flags)                                                                        \
	{                                                                                          \
		roles, "clone " #flags, SYS_clone,                                                 \
		{                                                                                  \
			0, flags                                                                   \
		}                                                                                  \
	}
#else
#define CLONE(roles, flags)                                                                        \
	{                                                                                          \
		roles, "clone " #flags, SYS_clone,                                                 \
		{                                                                                  \
			flags                                                                      \
		}                                                                                  \
	}
#endif

static const struct call forbidden[] = {
	/* Other programs, other processes. */
	ANY(ALL, execve),
	ANY(ALL, execveat),
	ANY(ALL, ptrace),
	ANY(ALL, process_vm_readv),
	ANY(ALL, process_vm_writev),
	ANY(ALL, pidfd_getfd),
	ANY(ALL, pidfd_send_signal),
	ANY(ALL, rt_sigqueueinfo),
	ANY(ALL, kcmp),
	ANY(ALL, seccomp),
	ANY(KEEPER, wait4),
	ANY(KEEPER | TWIN | CLOSER, kill),
	ANY(KEEPER | TWIN | CLOSER, pidfd_open),
	{ BROKER, "kill SIGTERM", SYS_kill, { 0x7fffffff, SIGTERM } },
	{ ALL, "tgkill SIGKILL", SYS_tgkill, { 0x7fffffff, 0x7fffffff, SIGKILL } },
	CLONE(BROKER | KEEPER, FORK),
	CLONE(KEEPER | TWIN | CLOSER, THREAD),

	/* Namespaces and mounts. */
	ANY(ALL, mount),
	ANY(ALL, pivot_root),
	ANY(ALL, chroot),
	ANY(ALL, setns),
	CLONE(ALL, FORK | CLONE_NEWUSER),
	CLONE(ALL, THREAD | CLONE_NEWNS),
	ANY(BROKER | KEEPER | CLOSER, unshare),
	{ TWIN, "unshare CLONE_NEWNET", SYS_unshare, { CLONE_NEWUSER | CLONE_NEWNET } },
	{ TWIN, "unshare CLONE_NEWUSER", SYS_unshare, { CLONE_NEWUSER } },
	ANY(BROKER | CLOSER, open_tree),
	ANY(BROKER | CLOSER, mount_setattr),
	ANY(BROKER | TWIN | CLOSER, fsopen),
	ANY(BROKER | TWIN | CLOSER, fsconfig),
	ANY(BROKER | TWIN | CLOSER, fsmount),
	ANY(BROKER | TWIN | CLOSER, fspick),
	ANY(BROKER | TWIN | CLOSER, move_mount),
	ANY(BROKER | TWIN | CLOSER, umount2),

	/* Rights. */
	ANY(ALL, setuid),
	ANY(ALL, setresuid),
	ANY(ALL, setresgid),
	ANY(ALL, keyctl),
	ANY(ALL, add_key),
	ANY(ALL, personality),
	ANY(KEEPER | TWIN | CLOSER, setfsuid),
	ANY(KEEPER | TWIN | CLOSER, setgroups),
	ANY(KEEPER | TWIN | CLOSER, capset),
	{ ALL, "prctl PR_SET_SECUREBITS", SYS_prctl, { PR_SET_SECUREBITS, -1UL } },
	{ ALL, "prctl PR_SET_KEEPCAPS", SYS_prctl, { PR_SET_KEEPCAPS, -1UL } },
	{ ALL, "prctl PR_CAP_AMBIENT", SYS_prctl, { PR_CAP_AMBIENT, -1UL } },
	{ ALL, "prctl PR_SET_PTRACER", SYS_prctl, { PR_SET_PTRACER, 0x7fffffff } },
	{ ALL, "prctl PR_SET_MM", SYS_prctl, { PR_SET_MM, -1UL } },
	{ ALL, "prctl PR_SET_DUMPABLE", SYS_prctl, { PR_SET_DUMPABLE, 1 } },
	{ BROKER | KEEPER, "prctl PR_SET_PDEATHSIG", SYS_prctl, { PR_SET_PDEATHSIG, -1UL } },
	{ BROKER, "prlimit64 to set", SYS_prlimit64, { 0, -1UL, 1 } },
	{ BROKER, "prlimit64 of another", SYS_prlimit64, { 0x7fffffff, RLIMIT_NOFILE } },

	/* The kernel. */
	ANY(ALL, bpf),
	ANY(ALL, io_uring_setup),
	ANY(ALL, perf_event_open),
	ANY(ALL, userfaultfd),
	ANY(ALL, init_module),
	ANY(ALL, finit_module),
	ANY(ALL, kexec_load),
	ANY(ALL, reboot),
	ANY(ALL, swapon),
	ANY(ALL, sethostname),
	ANY(ALL, clock_settime),
	ANY(ALL, syslog),
	ANY(ALL, fanotify_init),
	ANY(ALL, mlockall),
	ANY(ALL, sched_setscheduler),
	ANY(ALL, shmget),

	/* Files, of other kinds and by other ways. */
	ANY(ALL, open_by_handle_at),
	ANY(ALL, name_to_handle_at),
	ANY(ALL, mknodat),
	ANY(ALL, fchownat),
	ANY(ALL, fallocate),
	ANY(ALL, splice),
	ANY(KEEPER | TWIN | CLOSER, linkat),
	ANY(KEEPER | TWIN | CLOSER, renameat2),
	ANY(KEEPER | TWIN | CLOSER, fchmod),
	ANY(KEEPER | TWIN | CLOSER, getdents64),
	ANY(KEEPER | TWIN | CLOSER, inotify_init1),
	ANY(TWIN | CLOSER, mkdirat),
	ANY(TWIN | CLOSER, unlinkat),
	ANY(CLOSER, openat),
	ANY(KEEPER | TWIN | CLOSER, fcntl),
	{ BROKER, "fcntl F_SETOWN", SYS_fcntl, { -1UL, F_SETOWN } },
	{ BROKER, "fcntl F_SETSIG", SYS_fcntl, { -1UL, F_SETSIG } },
	{ BROKER, "fcntl F_SETLEASE", SYS_fcntl, { -1UL, F_SETLEASE } },
	{ BROKER, "ioctl TIOCSTI", SYS_ioctl, { -1UL, TIOCSTI } },
	ANY(KEEPER | TWIN | CLOSER, ioctl),

	/* Sockets. */
	ANY(KEEPER | TWIN | CLOSER, socket),
	ANY(KEEPER | TWIN | CLOSER, connect),
	ANY(KEEPER | TWIN | CLOSER, bind),
	ANY(KEEPER | TWIN, socketpair),
	{ BROKER, "socket AF_PACKET", SYS_socket, { AF_PACKET, -1UL } },
	{ BROKER, "socket AF_ALG", SYS_socket, { AF_ALG, -1UL } },
	{ BROKER, "socket AF_VSOCK", SYS_socket, { AF_VSOCK, -1UL } },
	{ BROKER | CLOSER, "socketpair AF_TIPC", SYS_socketpair, { AF_TIPC, -1UL } },

	/* Memory. */
	{ ALL,
	  "mmap to write and execute",
	  SYS_mmap,
	  { 0, 0, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS } },
	{ KEEPER | TWIN | CLOSER,
	  "mmap to execute",
	  SYS_mmap,
	  { 0, 0, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS } },
	{ ALL, "mprotect to execute", SYS_mprotect, { 0, 0, PROT_EXEC } },
};

/* What one process does under one filter; its exit status. */
struct attempt {
	enum filter_role role;
	const struct call *call;
	int (*function)(enum filter_role role);
};

static int confined(void *argument)
{
	const struct attempt *attempt = argument;
	const struct call *call = attempt->call;
	const struct rlimit no_core = { 0, 0 };

	setrlimit(RLIMIT_CORE, &no_core);
	if (filter_install(attempt->role) != 0)
		return NO_FILTER;
	if (attempt->function)
		return attempt->function(attempt->role);
	syscall(call->number, call->arguments[0], call->arguments[1], call->arguments[2],
		call->arguments[3], call->arguments[4], call->arguments[5]);
	return 0;
}

static int status_of(const struct attempt *attempt)
{
	return test_run_as(-1, -1, NULL, 0, confined, (void *)attempt);
}

static int nothing(enum filter_role role)
{
	(void)role;
	return 0;
}

static bool has_filters(void)
{
	return !confine_is_valgrind() &&
	       status_of(&(struct attempt){ .role = BROKER, .function = nothing }) != NO_FILTER;
}

#define NEEDS_FILTERS                                                                              \
	TEST_NEEDS(has_filters(), "a kernel or container with system-call filters, and no "        \
				  "valgrind")

START_TEST(a_call_that_is_not_listed_ends_the_process)
{
	NEEDS_FILTERS;
	for (size_t i = 0; i < sizeof(forbidden) / sizeof(*forbidden); i++) {
		for (size_t j = 0; j < ROLES; j++) {
			const struct attempt attempt = { .role = roles[j], .call = &forbidden[i] };
			int status;

			if (!(forbidden[i].roles & roles[j]))
				continue;
			status = status_of(&attempt);
			ck_assert_msg(status == KILLED, "%s as role %u: %d", forbidden[i].name,
				      (unsigned)roles[j], status);
		}
	}
}
END_TEST

/* Seldom made by us or by libraries, in restarts and failures: none of them is a reason to end. */
static const struct call allowed[] = {
	ANY(ALL, madvise),
	ANY(ALL, getrandom),
	ANY(ALL, futex),
	ANY(ALL, sched_yield),
	ANY(ALL, clock_nanosleep),
	ANY(ALL, ppoll),
	ANY(ALL, writev),
	ANY(ALL, sigaltstack), /* AddressSanitizer at an exit */
	{ ALL, "prctl PR_SET_VMA", SYS_prctl, { PR_SET_VMA, -1UL } },
	ANY(BROKER | TWIN | CLOSER, waitid),
	ANY(BROKER | KEEPER, statfs),
	ANY(BROKER | KEEPER, unlinkat),
	ANY(KEEPER, fspick),
	ANY(KEEPER, umount2),
	{ TWIN | CLOSER, "prctl PR_SET_PDEATHSIG", SYS_prctl, { PR_SET_PDEATHSIG, -1UL } },
	{ BROKER | TWIN, "prctl PR_SET_DUMPABLE", SYS_prctl, { PR_SET_DUMPABLE, 0 } },
	{ BROKER, "kill SIGKILL", SYS_kill, { 0x7fffffff, SIGKILL } },
	{ BROKER, "prlimit64", SYS_prlimit64, { 0, -1UL, 0, 0 } },
	{ BROKER, "fcntl F_DUPFD_CLOEXEC", SYS_fcntl, { -1UL, F_DUPFD_CLOEXEC } },
	{ BROKER, "fcntl F_SETLKW", SYS_fcntl, { -1UL, F_SETLKW } },
	{ BROKER, "fcntl F_OFD_SETLK", SYS_fcntl, { -1UL, F_OFD_SETLK } },
	{ BROKER, "fcntl F_ADD_SEALS", SYS_fcntl, { -1UL, F_ADD_SEALS } },
	{ BROKER, "ioctl TCGETS", SYS_ioctl, { -1UL, TCGETS } },
	{ BROKER, "ioctl FIONREAD", SYS_ioctl, { -1UL, FIONREAD } },
	ANY(BROKER, epoll_pwait),
	ANY(BROKER, epoll_pwait2),
	ANY(BROKER, fchmod),
	ANY(BROKER, flock),
	ANY(BROKER, fsetxattr),
	ANY(BROKER, memfd_create),
	ANY(BROKER, pidfd_open),
	ANY(BROKER, pselect6),
	ANY(BROKER, renameat2),
	ANY(BROKER, setgroups),
	ANY(BROKER, signalfd4),
	ANY(BROKER, sysinfo),
	ANY(BROKER, timerfd_create),
	ANY(BROKER, timerfd_settime),
	ANY(BROKER, uname),
	ANY(BROKER, utimensat),
};

START_TEST(a_call_that_is_listed_is_the_kernels_to_judge)
{
	NEEDS_FILTERS;
	for (size_t i = 0; i < sizeof(allowed) / sizeof(*allowed); i++) {
		for (size_t j = 0; j < ROLES; j++) {
			const struct attempt attempt = { .role = roles[j], .call = &allowed[i] };

			if (allowed[i].roles & roles[j])
				ck_assert_msg(status_of(&attempt) == 0, "%s as role %u",
					      allowed[i].name, (unsigned)roles[j]);
		}
	}
}
END_TEST

/* Grows in place and by moving, and is given back. */
static int allocate(enum filter_role role)
{
	char *memory = NULL;

	(void)role;
	for (size_t size = 16; size <= 64u * 1024 * 1024; size *= 2) {
		memory = realloc(memory, size);
		if (!memory)
			return 1;
		memset(memory, 1, size);
	}
	free(memory);
	return 0;
}

static int try_what_is_new(enum filter_role role)
{
	char how[64] = { 0 };

	(void)role;
	if (syscall(SYS_clone3, how, sizeof(how)) >= 0 || errno != ENOSYS)
		return 1;
	if (syscall(SYS_openat2, AT_FDCWD, "/", how, 24) >= 0 || errno != ENOSYS)
		return 2;
	for (long number = 450; number < 512; number++)
		if (syscall(number, -1L, -1L, -1L, -1L) >= 0 || errno != ENOSYS)
			return 3;
	return 0;
}

static int give_up(enum filter_role role)
{
	(void)role;
	abort();
}

/* A helper's child may do so, too. */
static int give_up_in_a_child(enum filter_role role)
{
	int status;
	pid_t pid;

	(void)role;
	pid = fork();
	if (pid == 0)
		abort();
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 1;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : 2;
}

#ifdef __x86_64__
/* getpid(2) by its numbers of other kinds of programs. */
static int call_as_32_bit(enum filter_role role)
{
	long result = 20;

	(void)role;
	/* A sanitizer's handler would make an exit status of it. */
	signal(SIGSEGV, SIG_DFL);
	__asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
	return result == getpid() ? 0 : 1;
}

static int call_as_x32(enum filter_role role)
{
	(void)role;
	syscall(0x40000000 | SYS_getpid);
	return 0;
}

START_TEST(a_call_under_another_number_ends_the_process)
{
	int status;

	NEEDS_FILTERS;
	for (size_t i = 0; i < ROLES; i++) {
		struct attempt attempt = { .role = roles[i], .function = call_as_x32 };

		ck_assert_int_eq(status_of(&attempt), KILLED);
		attempt.function = call_as_32_bit;
		status = status_of(&attempt);
		/* The latter of a kernel without such programs. */
		ck_assert_msg(status == KILLED || status == 128 + SIGSEGV, "%d", status);
	}
}
END_TEST
#endif

static void *in_a_thread(void *argument)
{
	return argument;
}

static int start_a_thread(enum filter_role role)
{
	pthread_t thread;
	void *result;

	if (pthread_create(&thread, NULL, in_a_thread, &role) != 0)
		return 1;
	return pthread_join(thread, &result) != 0 || result != &role;
}

/* Through whatever the machine has in nsswitch.conf. */
static int ask_for_a_user(enum filter_role role)
{
	(void)role;
	return getpwnam("no-user-has-such-a-name") != NULL;
}

/* As the C library loads a module of NSS. */
static int load_a_library(enum filter_role role)
{
	(void)role;
	dlopen("libnss_compat.so.2", RTLD_NOW);
	dlopen("libnss_hesiod.so.2", RTLD_NOW);
	return 0;
}

static int ask_for_the_network(enum filter_role role)
{
	static const int families[] = { AF_INET, AF_INET6, AF_NETLINK };

	(void)role;
	for (size_t i = 0; i < 3; i++)
		if (socket(families[i], SOCK_DGRAM, 0) >= 0 || errno != EAFNOSUPPORT)
			return 1;
	return socket(AF_UNIX, SOCK_DGRAM, 0) < 0;
}

START_TEST(what_libraries_do_by_themselves_ends_nobody)
{
	static const struct {
		unsigned roles;
		int (*function)(enum filter_role role);
		int status;
		const char *name;
	} rows[] = {
		{ ALL, allocate, 0, "malloc" },
		{ ALL, try_what_is_new, 0, "what is newer than the list" },
		{ ALL, give_up, 128 + SIGABRT, "abort" },
		{ TWIN | CLOSER, give_up_in_a_child, 128 + SIGABRT, "abort in a child" },
		{ BROKER, start_a_thread, 0, "a thread" },
		{ BROKER, ask_for_a_user, 0, "getpwnam" },
		{ BROKER, load_a_library, 0, "dlopen" },
		{ BROKER, ask_for_the_network, 0, "the network" },
	};

	NEEDS_FILTERS;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		for (size_t j = 0; j < ROLES; j++) {
			const struct attempt attempt = { .role = roles[j],
							 .function = rows[i].function };
			int status;

			if (!(rows[i].roles & roles[j]))
				continue;
			status = status_of(&attempt);
			ck_assert_msg(status == rows[i].status, "%s as role %u: %d", rows[i].name,
				      (unsigned)roles[j], status);
		}
	}
}
END_TEST

Suite *suite_filter(void)
{
	Suite *suite = suite_create("filter");
	TCase *test = tcase_create("filter");

	tcase_set_timeout(test, 120);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, a_call_that_is_not_listed_ends_the_process);
#ifdef __x86_64__
	tcase_add_test(test, a_call_under_another_number_ends_the_process);
#endif
	tcase_add_test(test, a_call_that_is_listed_is_the_kernels_to_judge);
	tcase_add_test(test, what_libraries_do_by_themselves_ends_nobody);
	suite_add_tcase(suite, test);
	return suite;
}
