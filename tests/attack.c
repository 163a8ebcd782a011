/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Attacks by what system calls do with a descriptor, and with the paths that stand for it. */
#include "tests/attack.h"

#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

static const char word[] = "attacked";
static const struct timespec past[2] = { { 1, 1 }, { 2, 2 } };

void attack_through(int fd)
{
	if (fd < 0)
		return;
	ignore(pwrite(fd, word, sizeof(word), 0));
	ignore(ftruncate(fd, 1));
	ignore(fchmod(fd, 0777));
	close(fd);
}

int attack_scratch(const struct attack *attack, const char *name)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s.%d", attack->scratch, name, (int)getpid());
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	ignore(fd >= 0 && pwrite(fd, word, sizeof(word), 0));
	unlink(path);
	return fd;
}

static void try_write(const struct attack *a, long how)
{
	struct iovec part = { (void *)(uintptr_t)word, sizeof(word) };

	switch (how) {
	case 0:
		ignore(write(a->fd, word, sizeof(word)));
		break;
	case 1:
		ignore(pwrite(a->fd, word, sizeof(word), 0));
		break;
	case 2:
		ignore(writev(a->fd, &part, 1));
		break;
	case 3:
		ignore(pwritev(a->fd, &part, 1, 0));
		break;
	case 4:
		ignore(pwritev2(a->fd, &part, 1, -1, RWF_APPEND));
		break;
	default:
		ignore(pwritev2(a->fd, &part, 1, 0, RWF_DSYNC));
	}
}

/* The status flags may change, the access mode not. */
static void try_set_flags(const struct attack *a, long flags)
{
	fcntl(a->fd, F_SETFL, (int)flags);
	attack_through(dup(a->fd));
}

static void try_truncate(const struct attack *a, long size)
{
	ignore(ftruncate(a->fd, size));
}

static void try_fallocate(const struct attack *a, long mode)
{
	ignore(fallocate(a->fd, (int)mode, 0, 4096));
	ignore(fallocate(a->fd, (int)mode, 0, (off_t)a->size * 2));
}

static void try_mode(const struct attack *a, long how)
{
	switch (how) {
	case 0:
		ignore(fchmod(a->fd, 0777));
		break;
	case 1:
		ignore(syscall(SYS_fchmodat2, a->fd, "", 0777, AT_EMPTY_PATH));
		break;
	default:
		ignore(chmod(attack_path(a, (enum attack_route)(how - 2)), 0777));
	}
	attack_through(open(attack_path(a, BY_SELF), O_RDWR));
}

static void try_owner(const struct attack *a, long how)
{
	switch (how) {
	case 0:
		ignore(fchown(a->fd, 4711, 4711));
		break;
	case 1:
		ignore(fchown(a->fd, (uid_t)-1, getgid()));
		break;
	case 2:
		ignore(fchownat(a->fd, "", geteuid(), getegid(), AT_EMPTY_PATH));
		break;
	default:
		ignore(chown(attack_path(a, BY_SELF), geteuid(), getegid()));
	}
}

static void try_times(const struct attack *a, long how)
{
	static const struct timeval old[2] = { { 1, 1 }, { 2, 2 } };

	switch (how) {
	case 0:
		futimens(a->fd, past);
		break;
	case 1:
		futimens(a->fd, NULL);
		break;
	case 2:
		futimes(a->fd, old);
		break;
	case 3:
		utimensat(AT_FDCWD, attack_path(a, BY_SELF), past, 0);
		break;
	default:
		syscall(SYS_utimensat, a->fd, "", past, AT_EMPTY_PATH);
	}
}

static void try_attributes(const struct attack *a, long how)
{
	/* An ACL of version 2: user::rwx, group::rwx, other::rwx. */
	static const uint32_t acl[] = { 2, 0x00070001, ~0u, 0x00070004, ~0u, 0x00070020, ~0u };
	static const char *const names[] = { "user.x", "trusted.x", "security.x" };

	if (how < 3)
		fsetxattr(a->fd, names[how], "x", 1, 0);
	else if (how < 6)
		setxattr(attack_path(a, BY_SELF), names[how - 3], "x", 1, 0);
	else if (how == 6)
		fsetxattr(a->fd, "system.posix_acl_access", acl, sizeof(acl), 0);
	else
		fremovexattr(a->fd, "user.x");
}

static void try_lock(const struct attack *a, long how)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	switch (how) {
	case 0:
		fcntl(a->fd, F_SETLEASE, F_WRLCK);
		break;
	case 1:
		fcntl(a->fd, F_SETLEASE, F_RDLCK);
		break;
	case 2:
		fcntl(a->fd, F_OFD_SETLK, &lock);
		break;
	case 3:
		fcntl(a->fd, F_SETLK, &lock);
		break;
	default:
		flock(a->fd, LOCK_EX | LOCK_NB);
	}
	attack_through(dup(a->fd));
}

static void try_fcntl(const struct attack *a, long command)
{
	uint64_t hint = RWH_WRITE_LIFE_SHORT;

	if (command == F_ADD_SEALS)
		for (int seal = 1; seal <= F_SEAL_FUTURE_WRITE << 1; seal <<= 1)
			fcntl(a->fd, F_ADD_SEALS, seal);
	else
		fcntl(a->fd, (int)command, &hint);
}

static void try_splice(const struct attack *a, long how)
{
	struct iovec part = { (void *)(uintptr_t)word, sizeof(word) };
	int pipes[2], other = attack_scratch(a, "source");
	loff_t from = 0, to = 0;

	if (pipe(pipes) < 0)
		return;
	switch (how) {
	case 0:
		ignore(write(pipes[1], word, sizeof(word)));
		ignore(splice(pipes[0], NULL, a->fd, &to, sizeof(word), 0));
		break;
	case 1:
		ignore(vmsplice(pipes[1], &part, 1, SPLICE_F_GIFT));
		ignore(splice(pipes[0], NULL, a->fd, &to, sizeof(word), SPLICE_F_MOVE));
		break;
	case 2: /* the object's own pages in a pipe, and a write behind them */
		ignore(splice(a->fd, &from, pipes[1], NULL, 8, SPLICE_F_MOVE));
		ignore(write(pipes[1], word, sizeof(word)));
		break;
	case 3:
		ignore(sendfile(a->fd, other, &from, sizeof(word)));
		break;
	case 4:
		ignore(copy_file_range(other, &from, a->fd, &to, sizeof(word), 0));
		break;
	default:
		to = 16;
		ignore(copy_file_range(a->fd, &from, a->fd, &to, 8, 0));
	}
}

static void try_ioctl(const struct attack *a, long how)
{
	struct file_clone_range range = { .src_fd = attack_scratch(a, "source"), .src_length = 4 };
	struct fsxattr extended = { .fsx_xflags = FS_XFLAG_APPEND };
	int flags = FS_APPEND_FL | FS_IMMUTABLE_FL | FS_NODUMP_FL;

	switch (how) {
	case 0:
		ioctl(a->fd, FS_IOC_SETFLAGS, &flags);
		flags = FS_NODUMP_FL;
		ioctl(a->fd, FS_IOC_SETFLAGS, &flags);
		break;
	case 1:
		ioctl(a->fd, FS_IOC_FSSETXATTR, &extended);
		break;
	case 2:
		ioctl(a->fd, FICLONE, range.src_fd);
		break;
	case 3:
		ioctl(a->fd, FICLONERANGE, &range);
		break;
	case 4:
		ioctl(a->fd, FS_IOC_SETVERSION, &flags);
		break;
	default:
		ioctl(a->fd, FIBMAP, &flags);
	}
}

static void try_aio(const struct attack *a, long operation)
{
	struct iocb block = { .aio_lio_opcode = (uint16_t)operation,
			      .aio_fildes = (uint32_t)a->fd,
			      .aio_buf = (uint64_t)(uintptr_t)word,
			      .aio_nbytes = sizeof(word) },
		    *blocks[] = { &block };
	aio_context_t context = 0;
	struct io_event event;

	if (syscall(SYS_io_setup, 1, &context) == 0 &&
	    syscall(SYS_io_submit, context, 1, blocks) == 1)
		syscall(SYS_io_getevents, context, 1, 1, &event, NULL);
}

/* One submission by hand: there is no other library for it here. */
static void try_io_uring(const struct attack *a, long operation)
{
	struct io_uring_params p = { 0 };
	int ring = (int)syscall(SYS_io_uring_setup, 1, &p);
	struct io_uring_sqe *entry;
	char *queue;

	if (ring < 0)
		return;
	queue = mmap(NULL, p.sq_off.array + p.sq_entries * sizeof(uint32_t), PROT_READ | PROT_WRITE,
		     MAP_SHARED, ring, IORING_OFF_SQ_RING);
	entry = mmap(NULL, sizeof(*entry), PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		     IORING_OFF_SQES);
	if (queue == MAP_FAILED || entry == MAP_FAILED)
		return;
	*entry = (struct io_uring_sqe){ .opcode = (uint8_t)operation, .fd = a->fd };
	if (operation == IORING_OP_FALLOCATE) {
		entry->addr = a->size * 2;
	} else if (operation == IORING_OP_WRITE) {
		entry->addr = (uint64_t)(uintptr_t)word;
		entry->len = sizeof(word);
	} else {
		/* IORING_OP_FTRUNCATE, of Linux 6.9 */
		entry->off = 1;
	}
	*(uint32_t *)(void *)(queue + p.sq_off.array) = 0;
	__atomic_store_n((uint32_t *)(void *)(queue + p.sq_off.tail), 1, __ATOMIC_RELEASE);
	syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0);
}

const struct attack_row attacks_by_descriptor[] = {
	{ "write", try_write, 0 },
	{ "pwrite", try_write, 1 },
	{ "writev", try_write, 2 },
	{ "pwritev", try_write, 3 },
	{ "pwritev2, RWF_APPEND", try_write, 4 },
	{ "pwritev2, RWF_DSYNC", try_write, 5 },
	{ "F_SETFL O_RDWR", try_set_flags, O_RDWR },
	{ "F_SETFL O_WRONLY|O_APPEND", try_set_flags, O_WRONLY | O_APPEND },
	{ "ftruncate to 0", try_truncate, 0 },
	{ "ftruncate, shorter", try_truncate, 100 },
	{ "ftruncate, longer", try_truncate, 1 << 15 },
	{ "fallocate", try_fallocate, 0 },
	{ "fallocate, keeping the size", try_fallocate, FALLOC_FL_KEEP_SIZE },
	{ "fallocate, punching", try_fallocate, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE },
	{ "fallocate, collapsing", try_fallocate, FALLOC_FL_COLLAPSE_RANGE },
	{ "fallocate, zeroing", try_fallocate, FALLOC_FL_ZERO_RANGE },
	{ "fallocate, inserting", try_fallocate, FALLOC_FL_INSERT_RANGE },
	{ "fallocate, unsharing", try_fallocate, FALLOC_FL_UNSHARE_RANGE },
	{ "fchmod", try_mode, 0 },
	{ "fchmodat2, AT_EMPTY_PATH", try_mode, 1 },
	{ "chmod of /proc/self/fd", try_mode, 2 + BY_SELF },
	{ "chmod of /dev/fd", try_mode, 2 + BY_DEV },
	{ "chmod of map_files", try_mode, 2 + BY_MAP },
	{ "fchown", try_owner, 0 },
	{ "fchown to oneself", try_owner, 1 },
	{ "fchownat, AT_EMPTY_PATH", try_owner, 2 },
	{ "chown of /proc/self/fd", try_owner, 3 },
	{ "futimens", try_times, 0 },
	{ "futimens, now", try_times, 1 },
	{ "futimes", try_times, 2 },
	{ "utimensat of /proc/self/fd", try_times, 3 },
	{ "utimensat, AT_EMPTY_PATH", try_times, 4 },
	{ "fsetxattr user", try_attributes, 0 },
	{ "fsetxattr trusted", try_attributes, 1 },
	{ "fsetxattr security", try_attributes, 2 },
	{ "setxattr user", try_attributes, 3 },
	{ "setxattr trusted", try_attributes, 4 },
	{ "setxattr security", try_attributes, 5 },
	{ "fsetxattr of an ACL", try_attributes, 6 },
	{ "fremovexattr", try_attributes, 7 },
	{ "a write lease", try_lock, 0 },
	{ "a read lease", try_lock, 1 },
	{ "a write lock of the opening", try_lock, 2 },
	{ "a write lock of the process", try_lock, 3 },
	{ "flock", try_lock, 4 },
	{ "seals", try_fcntl, F_ADD_SEALS },
	{ "a write hint", try_fcntl, F_SET_RW_HINT },
	{ "splice", try_splice, 0 },
	{ "vmsplice and splice", try_splice, 1 },
	{ "a pipe with its pages", try_splice, 2 },
	{ "sendfile", try_splice, 3 },
	{ "copy_file_range", try_splice, 4 },
	{ "copy_file_range within it", try_splice, 5 },
	{ "FS_IOC_SETFLAGS", try_ioctl, 0 },
	{ "FS_IOC_FSSETXATTR", try_ioctl, 1 },
	{ "FICLONE", try_ioctl, 2 },
	{ "FICLONERANGE", try_ioctl, 3 },
	{ "FS_IOC_SETVERSION", try_ioctl, 4 },
	{ "FIBMAP", try_ioctl, 5 },
	{ "aio write", try_aio, IOCB_CMD_PWRITE },
	{ "io_uring write", try_io_uring, IORING_OP_WRITE },
	{ "io_uring fallocate", try_io_uring, IORING_OP_FALLOCATE },
	{ "io_uring ftruncate", try_io_uring, 55 },
	{ NULL, NULL, 0 },
};
