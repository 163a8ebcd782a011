/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Attacks by mappings: made writable, or written by the kernel for somebody. */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/attack.h"

static const char word[] = "attacked";

/* A store kills this process where it isn't allowed: no attack expects to come back. */
static void store(char *memory)
{
	if (memory != MAP_FAILED)
		memcpy(memory, word, sizeof(word));
}

static void try_map(const struct attack *a, long flags)
{
	store(mmap(NULL, a->size, PROT_READ | PROT_WRITE, (int)flags, a->fd, 0));
}

static void try_map_write_only(const struct attack *a, long flags)
{
	store(mmap(NULL, a->size, PROT_WRITE, (int)flags, a->fd, 0));
}

static void try_protect(const struct attack *a, long protection)
{
	ignore(mprotect(a->map, a->size, (int)protection));
	store(a->map);
}

static void try_protect_key(const struct attack *a, long protection)
{
	int key = pkey_alloc(0, 0);

	ignore(pkey_mprotect(a->map, a->size, (int)protection, key));
	store(a->map);
}

static void try_remap(const struct attack *a, long how)
{
	char *memory = MAP_FAILED;

	if (how == 0)
		memory = mremap(a->map, a->size, a->size * 2, MREMAP_MAYMOVE);
	else if (how == 1)
		memory = mremap(a->map, 0, a->size, MREMAP_MAYMOVE);
	else if (syscall(SYS_remap_file_pages, a->map, a->size, 0, 0, 0) == 0)
		memory = a->map;
	if (memory != MAP_FAILED)
		ignore(mprotect(memory, a->size, PROT_READ | PROT_WRITE));
	store(memory);
}

static void try_advise(const struct attack *a, long advice)
{
	ignore(madvise(a->map, a->size, (int)advice));
}

static void try_advise_process(const struct attack *a, long advice)
{
	struct iovec part = { a->map, a->size };
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	ignore(syscall(SYS_process_madvise, pidfd, &part, 1, advice, 0));
}

/* Writing there is done with FOLL_FORCE, which goes past PROT_READ of private mappings. */
static void try_proc_mem(const struct attack *a, long of_child)
{
	char path[64];
	pid_t pid = of_child ? fork() : getpid();
	int memory;

	if (pid == 0) {
		pause();
		_exit(0);
	}
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	memory = open(path, O_RDWR);
	ignore(pwrite(memory, word, sizeof(word), (off_t)(uintptr_t)a->map));
	if (of_child) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
}

static void try_ptrace(const struct attack *a, long request)
{
	pid_t pid = fork();
	long value;

	memcpy(&value, word, sizeof(value));
	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(0);
	}
	waitpid(pid, NULL, WUNTRACED);
	ptrace((enum __ptrace_request)request, pid, a->map, (void *)value);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void try_process_write(const struct attack *a, long unused)
{
	struct iovec from = { (void *)(uintptr_t)word, sizeof(word) },
		     to = { a->map, sizeof(word) };

	(void)unused;
	ignore(process_vm_writev(getpid(), &from, 1, &to, 1, 0));
}

/* Calls that store what they have to say where they are told to. */
static void try_kernel_store(const struct attack *a, long how)
{
	int fd = attack_scratch(a, "source"), pipes[2];
	struct iovec part = { a->map, sizeof(word) };

	if (pipe(pipes) < 0)
		return;
	ignore(write(pipes[1], word, sizeof(word)));
	switch (how) {
	case 0:
		ignore(pread(fd, a->map, sizeof(word), 0));
		break;
	case 1:
		ignore(getrandom(a->map, 64, 0));
		break;
	case 2:
		ignore(read(pipes[0], a->map, sizeof(word)));
		break;
	case 3: /* pages of a pipe into memory */
		ignore(vmsplice(pipes[0], &part, 1, 0));
		break;
	case 4:
		ignore(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, a->map));
		break;
	case 5:
		ignore(prctl(PR_GET_NAME, a->map, 0, 0, 0));
		break;
	default:
		ignore(syscall(SYS_getcwd, a->map, a->size));
	}
}

static void try_direct_read(const struct attack *a, long flags)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/direct.%d", a->scratch, (int)getpid());
	fd = open(path, O_RDWR | O_CREAT, 0600);
	ignore(ftruncate(fd, 4096));
	ignore(pwrite(fd, word, sizeof(word), 0));
	close(fd);
	fd = open(path, O_RDONLY | (int)flags);
	unlink(path);
	ignore(pread(fd, a->map, 4096, 0));
}

static void try_futex(const struct attack *a, long operation)
{
	static uint32_t own;
	struct timespec soon = { 0, 1000000 };

	ignore(syscall(SYS_futex, operation == FUTEX_WAKE_OP ? &own : (void *)a->map, operation, 0,
		       operation == FUTEX_WAKE_OP ? NULL : (void *)&soon, a->map,
		       FUTEX_OP(FUTEX_OP_SET, 0x41414141, FUTEX_OP_CMP_EQ, 0)));
}

/* At the end of a thread the kernel clears the word that is named so. */
static void try_clear_at_exit(const struct attack *a, long unused)
{
	(void)unused;
	ignore(syscall(SYS_set_tid_address, a->map));
	_exit(0);
}

static void try_child_id(const struct attack *a, long flags)
{
	long pid = syscall(SYS_clone, flags | SIGCHLD, NULL, a->map, a->map, NULL);

	if (pid == 0)
		_exit(0);
	waitpid((pid_t)pid, NULL, 0);
}

/* A page that somebody else's fault handler is asked for. */
static void try_userfault(const struct attack *a, long operation)
{
	static char page[4096] __attribute__((aligned(4096))) = "attacked";
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = { .range = { (uintptr_t)a->map, a->size },
					 .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_copy copy = { .dst = (uintptr_t)a->map,
				    .src = (uintptr_t)page,
				    .len = sizeof(page) };
	struct uffdio_zeropage zero = { .range = { (uintptr_t)a->map, sizeof(page) } };

	ignore(ioctl(fd, UFFDIO_API, &api));
	ignore(madvise(a->map, a->size, MADV_DONTNEED));
	ignore(ioctl(fd, UFFDIO_REGISTER, &range));
	if (operation == 0)
		ignore(ioctl(fd, UFFDIO_COPY, &copy));
	else
		ignore(ioctl(fd, UFFDIO_ZEROPAGE, &zero));
}

/* A private copy may be written, and must stay one. */
static void try_private_copy(const struct attack *a, long advice)
{
	char *memory = mmap(NULL, a->size, PROT_READ | PROT_WRITE, MAP_PRIVATE, a->fd, 0);

	store(memory);
	ignore(msync(memory, a->size, MS_SYNC | MS_INVALIDATE));
	if (advice)
		ignore(madvise(memory, a->size, (int)advice));
}

/* Dirty COW: writing to a private copy by force, while it is thrown away. */
static void try_private_copy_by_force(const struct attack *a, long rounds)
{
	char *memory = mmap(NULL, a->size, PROT_READ, MAP_PRIVATE, a->fd, 0);
	pid_t pid = fork();
	int fd;

	if (pid == 0) {
		for (;;)
			ignore(madvise(memory, a->size, MADV_DONTNEED));
	}
	fd = open("/proc/self/mem", O_RDWR);
	for (long i = 0; i < rounds; i++) {
		ignore(pwrite(fd, word, sizeof(word), (off_t)(uintptr_t)memory));
		ignore(madvise(memory, a->size, MADV_DONTNEED));
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* Of Linux 6.1 and 5.14: headers of Debian 12 have them all. */
const struct attack_row attacks_by_memory[] = {
	{ "mmap to write", try_map, MAP_SHARED },
	{ "mmap to write, validated", try_map, MAP_SHARED_VALIDATE },
	{ "mmap to write, populated", try_map, MAP_SHARED | MAP_POPULATE },
	{ "mmap to write, locked", try_map, MAP_SHARED | MAP_LOCKED },
	{ "mmap to write alone", try_map_write_only, MAP_SHARED },
	{ "mprotect to write", try_protect, PROT_READ | PROT_WRITE },
	{ "mprotect to write alone", try_protect, PROT_WRITE },
	{ "mprotect to write and execute", try_protect, PROT_READ | PROT_WRITE | PROT_EXEC },
	{ "mprotect to grow", try_protect, PROT_READ | PROT_WRITE | PROT_GROWSDOWN },
	{ "pkey_mprotect", try_protect_key, PROT_READ | PROT_WRITE },
	{ "mremap, larger", try_remap, 0 },
	{ "mremap, a second time", try_remap, 1 },
	{ "remap_file_pages", try_remap, 2 },
	{ "MADV_REMOVE", try_advise, MADV_REMOVE },
	{ "MADV_DONTNEED", try_advise, MADV_DONTNEED },
	{ "MADV_FREE", try_advise, MADV_FREE },
	{ "MADV_POPULATE_WRITE", try_advise, MADV_POPULATE_WRITE },
	{ "MADV_PAGEOUT", try_advise, MADV_PAGEOUT },
	{ "MADV_COLD", try_advise, MADV_COLD },
	{ "MADV_WIPEONFORK", try_advise, MADV_WIPEONFORK },
	{ "MADV_MERGEABLE", try_advise, MADV_MERGEABLE },
	{ "MADV_HUGEPAGE", try_advise, MADV_HUGEPAGE },
	{ "process_madvise", try_advise_process, MADV_PAGEOUT },
	{ "process_madvise, removing", try_advise_process, MADV_REMOVE },
	{ "/proc/self/mem", try_proc_mem, 0 },
	{ "/proc/PID/mem of a child", try_proc_mem, 1 },
	{ "PTRACE_POKEDATA", try_ptrace, PTRACE_POKEDATA },
	{ "PTRACE_POKETEXT", try_ptrace, PTRACE_POKETEXT },
	{ "process_vm_writev", try_process_write, 0 },
	{ "pread into it", try_kernel_store, 0 },
	{ "getrandom into it", try_kernel_store, 1 },
	{ "read of a pipe into it", try_kernel_store, 2 },
	{ "vmsplice of a pipe into it", try_kernel_store, 3 },
	{ "clock_gettime into it", try_kernel_store, 4 },
	{ "prctl into it", try_kernel_store, 5 },
	{ "getcwd into it", try_kernel_store, 6 },
	{ "O_DIRECT into it", try_direct_read, O_DIRECT },
	{ "FUTEX_WAKE_OP", try_futex, FUTEX_WAKE_OP },
	{ "FUTEX_LOCK_PI", try_futex, FUTEX_LOCK_PI },
	{ "set_tid_address", try_clear_at_exit, 0 },
	{ "clone, CLONE_PARENT_SETTID", try_child_id, 0x00100000 },
	{ "clone, CLONE_CHILD_SETTID", try_child_id, 0x01000000 },
	{ "clone, CLONE_CHILD_CLEARTID", try_child_id, 0x00200000 },
	{ "userfaultfd, UFFDIO_COPY", try_userfault, 0 },
	{ "userfaultfd, UFFDIO_ZEROPAGE", try_userfault, 1 },
	{ "a private copy", try_private_copy, 0 },
	{ "a private copy, removed", try_private_copy, MADV_REMOVE },
	{ "a private copy by force", try_private_copy_by_force, 300 },
	{ NULL, NULL, 0 },
};
