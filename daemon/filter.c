/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The broker's own system-call filter: see filter.h. Called by main, once. */
#include "daemon/filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define THIS_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define THIS_ARCH AUDIT_ARCH_AARCH64
#elif defined(__i386__)
#define THIS_ARCH AUDIT_ARCH_I386
#elif defined(__arm__)
#define THIS_ARCH AUDIT_ARCH_ARM
#elif defined(__riscv) && __riscv_xlen == 64
#define THIS_ARCH AUDIT_ARCH_RISCV64
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
#define THIS_ARCH AUDIT_ARCH_PPC64LE
#elif defined(__s390x__)
#define THIS_ARCH AUDIT_ARCH_S390X
#endif

#define CLONE_NAMESPACES                                                                           \
	(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | \
	 CLONE_NEWCGROUP)

#define FIELD(name) (uint32_t) offsetof(struct seccomp_data, name)
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, field)
#define ANSWER(value) BPF_STMT(BPF_RET | BPF_K, value)
#define DENIED ANSWER(SECCOMP_RET_ERRNO | EPERM)
/* The next two statements answer to one system call. */
#define DENY(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), DENIED

/* The low half of the first argument: clone's flags, on all but s390. */
#ifdef __s390x__
#define CLONE_FLAGS_ARGUMENT 1
#else
#define CLONE_FLAGS_ARGUMENT 0
#endif
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define CLONE_FLAGS FIELD(args[CLONE_FLAGS_ARGUMENT])
#else
#define CLONE_FLAGS (FIELD(args[CLONE_FLAGS_ARGUMENT]) + 4)
#endif

int filter_install(void)
{
#ifdef THIS_ARCH
	struct sock_filter filter[] = {
		LOAD(FIELD(arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, THIS_ARCH, 1, 0),
		DENIED,
		LOAD(FIELD(nr)),
#ifdef __x86_64__
		/* The x32 numbers are the same calls by other names. */
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1),
		DENIED,
#endif
		DENY(SYS_unshare),
		DENY(SYS_setns),
		DENY(SYS_mount),
		DENY(SYS_umount2),
		DENY(SYS_pivot_root),
		DENY(SYS_chroot),
		DENY(SYS_open_tree),
		DENY(SYS_move_mount),
		DENY(SYS_fsopen),
		DENY(SYS_fsconfig),
		DENY(SYS_fsmount),
		DENY(SYS_fspick),
		DENY(SYS_mount_setattr),
		DENY(467), /* open_tree_attr, Linux 6.15 */
		DENY(SYS_ptrace),
		DENY(SYS_process_vm_writev),
		/* Its flags lie in memory, where a filter can't look: glibc then takes clone. */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1),
		ANSWER(SECCOMP_RET_ERRNO | ENOSYS),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3),
		LOAD(CLONE_FLAGS),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_NAMESPACES, 0, 1),
		DENIED,
		ANSWER(SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {
		.len = sizeof(filter) / sizeof(*filter),
		.filter = filter,
	};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	/* prctl, not seccomp(2): the latter is not in systemd's @system-service. */
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		return -errno;
	return 0;
#else
	return -ENOSYS;
#endif
}
