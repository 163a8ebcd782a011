/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The lists of system calls: see filter.h, and SECURITY.md for what they are worth. */
#include "daemon/filter.h"

#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/fd.h"

#define BROKER FILTER_BROKER
#define KEEPER FILTER_KEEPER
#define TWIN FILTER_TWIN
#define CLOSER FILTER_CLOSER
#define HELPERS (KEEPER | TWIN | CLOSER)
#define ALL (BROKER | HELPERS)

/*
 * Whatever their arguments are. A call that a machine or a library doesn't know is passed over, so
 * its forms of all ages and sizes stand together.
 */
static const struct {
	unsigned roles;
	const char *calls;
} plain[] = {
	/* Memory, time, locks, and the end, by abort(3), too. */
	{ ALL, "brk madvise mremap munmap" },
	{ ALL, "clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep "
	       "clock_nanosleep_time64 gettimeofday nanosleep time" },
	{ ALL, "futex futex_time64 getrandom getcpu rseq set_robust_list sched_yield" },
	{ ALL,
	  "exit exit_group restart_syscall rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack "
	  "sigreturn" },
	{ ALL, "getpid getppid gettid" },

	/* What is open: read, written, waited for, passed on. */
	{ ALL,
	  "close fstat fstat64 poll ppoll ppoll_time64 read recv recvfrom recvmsg send sendmsg "
	  "sendto write writev" },
	{ BROKER, "epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 "
		  "epoll_wait eventfd2 pipe pipe2 pselect6 pselect6_time64 select _newselect "
		  "signalfd4 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime "
		  "timerfd_settime64" },
	{ BROKER, "dup dup2 dup3 lseek _llseek pread64 readv" },

	/* Objects, notes, sockets' places, the configuration, /proc. */
	{ BROKER | KEEPER | TWIN, "open openat" },
	{ BROKER,
	  "access faccessat faccessat2 fstatat64 fstatfs fstatfs64 getdents getdents64 lstat "
	  "lstat64 newfstatat readlink readlinkat stat stat64" },
	{ BROKER | KEEPER, "mkdir mkdirat rmdir statfs statfs64 statx unlinkat" },
	{ BROKER, "chmod fchmod fchmodat flock fsetxattr ftruncate ftruncate64 linkat renameat "
		  "renameat2 symlinkat umask utimensat utimensat_time64" },
	{ BROKER, "inotify_add_watch inotify_init1 inotify_rm_watch memfd_create" },

	/* Clients, the bus, systemd, the journal. */
	{ BROKER, "accept accept4 bind connect getpeername getsockname getsockopt listen sendmmsg "
		  "setsockopt shutdown" },

	/* A caller's ids and capabilities are taken for an open; real ids are nobody's to change.
	 */
	{ BROKER, "capget capset getgroups getgroups32 setfsgid setfsgid32 setfsuid setfsuid32 "
		  "setgroups setgroups32" },
	{ ALL, "getegid getegid32 geteuid geteuid32 getgid getgid32 getuid getuid32" },
	{ BROKER, "getresgid getresgid32 getresuid getresuid32" },

	/* Who clients are, and helpers that have ended. */
	{ BROKER, "pidfd_open" },
	{ BROKER | TWIN | CLOSER, "wait4 waitid waitpid" },

	/* The machine, as libraries ask for it. */
	{ BROKER, "getrlimit sched_getaffinity sched_getparam sched_getscheduler sysinfo "
		  "ugetrlimit uname" },

	/* Mounts: in the table's namespace, and in one that a twin's child makes for itself. */
	{ KEEPER, "fsconfig fsmount fsopen fspick move_mount umount umount2" },
	{ KEEPER | TWIN, "mount_setattr open_tree" },
};

/*
 * What libraries try, and have another way for: so it is refused as a kernel without it does. A
 * filter can't see the flags of clone3 and openat2; threads are made by clone then.
 */
static const char unknown[] = "clone3 openat2";

/* Numbers from Linux 6.6 on, far into the future: what nobody here has heard of is no attack. */
#define FIRST_UNKNOWN 450
#define LAST_UNKNOWN 511

/* Arguments are compared by their low half: the other may be anything where it is an int. */
#define IS(number, value)                                                                          \
	{                                                                                          \
		number, SCMP_CMP_MASKED_EQ, 0xffffffff, (uint32_t)(value)                          \
	}
#define IS_NULL(number)                                                                            \
	{                                                                                          \
		number, SCMP_CMP_EQ, 0, 0                                                          \
	}
/* Of those bits just these are set. */
#define HAS(number, mask, value)                                                                   \
	{                                                                                          \
		number, SCMP_CMP_MASKED_EQ, mask, value                                            \
	}

#define NAMESPACES                                                                                 \
	(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | \
	 CLONE_NEWCGROUP)
#ifdef __s390x__
#define CLONE_FLAGS 1
#else
#define CLONE_FLAGS 0
#endif

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41 /* Linux 5.17 */
#endif
#define WRITE_OR_EXEC (PROT_WRITE | PROT_EXEC)
#define REFUSED SCMP_ACT_ERRNO(EAFNOSUPPORT)
#define ALLOWED SCMP_ACT_ALLOW

static const struct by_argument {
	unsigned roles;
	const char *calls;
	uint32_t action;
	struct scmp_arg_cmp arguments[2]; /* the second may be none */
} by_arguments[] = {
	/* Executable memory: none for helpers, none that can be written for the broker, who loads
	   NSS. */
	{ ALL, "mmap mmap2", ALLOWED, { HAS(2, WRITE_OR_EXEC, 0) } },
	{ ALL, "mmap mmap2", ALLOWED, { HAS(2, WRITE_OR_EXEC, PROT_WRITE) } },
	{ BROKER, "mmap mmap2", ALLOWED, { HAS(2, WRITE_OR_EXEC, PROT_EXEC) } },
	{ ALL, "mprotect", ALLOWED, { HAS(2, PROT_EXEC, 0) } },

	/* Only abort(3) signals; a helper that hangs is killed. */
	{ ALL, "tgkill", ALLOWED, { IS(2, SIGABRT) } },
	{ BROKER, "kill", ALLOWED, { IS(1, SIGKILL) } },

	/* NSS may make threads; nobody but two helpers makes processes, nobody namespaces by this.
	 */
	{ BROKER, "clone", ALLOWED, { HAS(CLONE_FLAGS, CLONE_THREAD | NAMESPACES, CLONE_THREAD) } },
	{ TWIN | CLOSER, "clone", ALLOWED, { HAS(CLONE_FLAGS, CLONE_VM | NAMESPACES, 0) } },
	{ TWIN, "unshare", ALLOWED, { IS(0, CLONE_NEWUSER | CLONE_NEWNS) } },

	/* NSS and an address of a bus may ask for the network, and do without. */
	{ BROKER, "socket", ALLOWED, { IS(0, AF_UNIX) } },
	{ BROKER, "socket", REFUSED, { IS(0, AF_INET) } },
	{ BROKER, "socket", REFUSED, { IS(0, AF_INET6) } },
	{ BROKER, "socket", REFUSED, { IS(0, AF_NETLINK) } },
	{ BROKER | CLOSER, "socketpair", ALLOWED, { IS(0, AF_UNIX) } },

	/* Hidden again after each change of ids; a helper's child goes with its parent. */
	{ BROKER, "prctl", ALLOWED, { IS(0, PR_GET_DUMPABLE) } },
	{ BROKER | TWIN, "prctl", ALLOWED, { IS(0, PR_SET_DUMPABLE), IS(1, 0) } },
	{ TWIN | CLOSER, "prctl", ALLOWED, { IS(0, PR_SET_PDEATHSIG) } },
	{ BROKER, "prctl", ALLOWED, { IS(0, PR_GET_NAME) } },
	{ BROKER, "prctl", ALLOWED, { IS(0, PR_SET_NAME) } },
	/* The name of memory, which glibc can be told to give. */
	{ ALL, "prctl", ALLOWED, { IS(0, PR_SET_VMA) } },

	/* Not who gets its signals, nor leases. */
	{ BROKER, "fcntl fcntl64", ALLOWED, { IS(1, F_DUPFD) } },
	{ BROKER, "fcntl fcntl64", ALLOWED, { IS(1, F_DUPFD_CLOEXEC) } },
	{ BROKER, "fcntl fcntl64", ALLOWED, { IS(1, F_GETFD) } },
	{ BROKER, "fcntl fcntl64", ALLOWED, { IS(1, F_SETFD) } },
	{ BROKER, "fcntl fcntl64", ALLOWED, { IS(1, F_GETFL) } },
	{ BROKER, "fcntl fcntl64", ALLOWED, { IS(1, F_SETFL) } },
	{ BROKER, "fcntl fcntl64", ALLOWED, { IS(1, F_GETLK) } },
	{ BROKER, "fcntl fcntl64", ALLOWED, { IS(1, F_SETLK) } },
	{ BROKER, "fcntl fcntl64", ALLOWED, { IS(1, F_SETLKW) } },
	{ BROKER, "fcntl fcntl64", ALLOWED, { IS(1, F_OFD_SETLK) } },
	{ BROKER, "fcntl fcntl64", ALLOWED, { IS(1, F_ADD_SEALS) } },
	{ BROKER, "fcntl fcntl64", ALLOWED, { IS(1, F_GET_SEALS) } },

	/* How much there is to be read, and whether it is a terminal. */
	{ BROKER, "ioctl", ALLOWED, { IS(1, FIONREAD) } },
	{ BROKER, "ioctl", ALLOWED, { IS(1, TCGETS) } },
#ifdef TCGETS2
	{ BROKER, "ioctl", ALLOWED, { IS(1, TCGETS2) } },
#endif

	/* One's own limits are looked at, not set. */
	{ BROKER, "prlimit64", ALLOWED, { IS(0, 0), IS_NULL(2) } },
};

#define NAME_SIZE 32

/* The numbers of calls as they are on this machine, one after the other: false at the end. */
static bool next_call(const char **calls, int *ret_number)
{
	char name[NAME_SIZE];
	size_t size;

	for (;;) {
		*calls += strspn(*calls, " ");
		size = strcspn(*calls, " ");
		if (size == 0 || size >= sizeof(name))
			return false;
		memcpy(name, *calls, size);
		name[size] = 0;
		*calls += size;
		*ret_number = seccomp_syscall_resolve_name(name);
		if (*ret_number != __NR_SCMP_ERROR)
			return true;
	}
}

static int add(scmp_filter_ctx context, uint32_t action, const char *calls,
	       const struct scmp_arg_cmp *arguments, unsigned count)
{
	int number, error = 0;

	while (error == 0 && next_call(&calls, &number))
		error = seccomp_rule_add_array(context, action, number, count, arguments);
	return error;
}

static int add_unknown(scmp_filter_ctx context)
{
	int error = add(context, SCMP_ACT_ERRNO(ENOSYS), unknown, NULL, 0);

	for (int number = FIRST_UNKNOWN; error == 0 && number <= LAST_UNKNOWN; number++)
		error = seccomp_rule_add(context, SCMP_ACT_ERRNO(ENOSYS), number, 0);
	return error;
}

static int add_all(scmp_filter_ctx context, enum filter_role role)
{
	int error = add_unknown(context);

	for (size_t i = 0; error == 0 && i < sizeof(plain) / sizeof(*plain); i++)
		if (plain[i].roles & role)
			error = add(context, SCMP_ACT_ALLOW, plain[i].calls, NULL, 0);
	for (size_t i = 0; error == 0 && i < sizeof(by_arguments) / sizeof(*by_arguments); i++) {
		const struct by_argument *one = &by_arguments[i];

		if (one->roles & role)
			error = add(context, one->action, one->calls, one->arguments,
				    one->arguments[1].op ? 2 : 1);
	}
	return error;
}

/* As the kernel wants it; the library gives it to a file alone. For free(). 0 or -errno. */
static int export(scmp_filter_ctx context, struct sock_fprog *ret)
{
	_cleanup_close_ int file = memfd_create("filter", MFD_CLOEXEC);
	struct stat st;
	int error;

	if (file < 0)
		return -errno;
	error = seccomp_export_bpf(context, file);
	if (error < 0)
		return error;
	if (fstat(file, &st) < 0)
		return -errno;
	ret->len = (unsigned short)((size_t)st.st_size / sizeof(*ret->filter));
	ret->filter = malloc((size_t)st.st_size);
	if (!ret->filter)
		return -ENOMEM;
	if (pread(file, ret->filter, (size_t)st.st_size, 0) != st.st_size)
		return -EIO;
	return 0;
}

static int compile(enum filter_role role, struct sock_fprog *ret)
{
	scmp_filter_ctx context;
	int error;

	/*
	 * Where seccomp(2) itself is filtered, as in the unit, the library takes the kernel for one
	 * that can't end a process: 3 is the level of those that can, since Linux 4.14.
	 */
	seccomp_api_set(3);
	context = seccomp_init(SCMP_ACT_KILL_PROCESS);
	if (!context)
		return -ENOMEM;
	error = seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	/* A tree, for the few calls whose arguments count: the kernel remembers the others. */
	seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (error == 0)
		error = add_all(context, role);
	if (error == 0)
		error = export(context, ret);
	seccomp_release(context);
	return error;
}

int filter_install(enum filter_role role)
{
	struct sock_fprog program = { .len = 0 };
	int error;

	/* Of no kernel that we run on is that too much to ask. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	error = compile(role, &program);
	/* prctl, not seccomp(2): the latter is not in systemd's @system-service. */
	if (error == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		error = -errno;
	free(program.filter);
	return error == -ENOMEM || error == -EMFILE || error == -ENFILE ? error : -error;
}
