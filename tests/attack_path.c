/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Attacks by another opening of the same object: by each path to it, or under another name. */
#include "tests/attack.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

const char *attack_path(const struct attack *a, enum attack_route kind)
{
	static char path[128];
	int pid = (int)getpid();

	switch (kind) {
	case BY_PID:
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, a->fd);
		break;
	case BY_THREAD:
		snprintf(path, sizeof(path), "/proc/thread-self/fd/%d", a->fd);
		break;
	case BY_DEV:
		snprintf(path, sizeof(path), "/dev/fd/%d", a->fd);
		break;
	case BY_TASK:
		snprintf(path, sizeof(path), "/proc/%d/task/%d/fd/%d", pid, pid, a->fd);
		break;
	case BY_MAP:
		snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)a->map,
			 (unsigned long)a->map + a->size);
		break;
	default:
		snprintf(path, sizeof(path), "/proc/self/fd/%d", a->fd);
	}
	return path;
}

static void try_truncate_path(const struct attack *a, long kind)
{
	ignore(truncate(attack_path(a, (enum attack_route)kind), 1));
}

#define REOPEN(kind, flags) ((long)(kind) << 32 | (flags))
static void try_reopen(const struct attack *a, long how)
{
	attack_through(
		open(attack_path(a, (enum attack_route)(how >> 32)), (int)(how & 0x7fffffff)));
}

/* By another process's eyes: a child of it. */
static void try_reopen_from_child(const struct attack *a, long flags)
{
	const char *path = attack_path(a, BY_PID);
	pid_t pid = fork();

	if (pid == 0) {
		close(a->fd);
		attack_through(open(path, (int)flags));
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

static void try_reopen_path_only(const struct attack *a, long flags)
{
	char path[64];
	int fd = open(attack_path(a, BY_SELF), O_PATH);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	attack_through(open(path, (int)flags));
	attack_through(openat(fd, "", (int)flags));
}

/* Sent over a socket: the receiver's copy, reopened. */
static void try_send(const struct attack *a, long flags)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .header = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct iovec part = { (char[]){ "x" }, 1 };
	struct msghdr message = { .msg_iov = &part,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	int ends[2], fd;
	char path[64];

	memcpy(CMSG_DATA(&control.header), &a->fd, sizeof(int));
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0 || sendmsg(ends[0], &message, 0) < 0)
		return;
	part.iov_base = path;
	if (recvmsg(ends[1], &message, 0) != 1)
		return;
	memcpy(&fd, CMSG_DATA(&control.header), sizeof(int));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	attack_through(open(path, (int)flags));
	attack_through(fd);
}

/* A second name in a place that one may write, and that name opened. */
static void try_link(const struct attack *a, long how)
{
	static const char *const elsewhere[] = { "/dev/shm", "/tmp", "/run", "/var/tmp" };
	char path[256];

	for (size_t i = 0; i < 5; i++) {
		snprintf(path, sizeof(path), "%s/shmbroker-link.%d",
			 i < 4 ? elsewhere[i] : a->scratch, (int)getpid());
		if (how == 0)
			ignore(linkat(a->fd, "", AT_FDCWD, path, AT_EMPTY_PATH));
		else
			ignore(linkat(AT_FDCWD, attack_path(a, BY_SELF), AT_FDCWD, path,
				      AT_SYMLINK_FOLLOW));
		attack_through(open(path, O_RDWR | O_NOFOLLOW));
		unlink(path);
	}
}

static void try_rename(const struct attack *a, long flags)
{
	char path[256], ours[64];

	strcpy(ours, attack_path(a, BY_SELF));
	snprintf(path, sizeof(path), "%s/renamed.%d", a->scratch, (int)getpid());
	ignore(renameat2(AT_FDCWD, ours, AT_FDCWD, path, (unsigned)flags));
	ignore(renameat2(a->fd, "", AT_FDCWD, path, (unsigned)flags));
	ignore(renameat2(AT_FDCWD, path, AT_FDCWD, ours, (unsigned)flags));
	attack_through(open(path, O_RDWR));
	unlink(path);
	ignore(unlinkat(a->fd, "", 0));
}

/* A link that a privileged other may follow: it leads to the same read-only mount. */
static void try_symlink(const struct attack *a, long flags)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/symlink.%d", a->scratch, (int)getpid());
	ignore(symlink(attack_path(a, BY_SELF), path));
	attack_through(open(path, (int)flags));
	unlink(path);
}

static void try_take_over(const struct attack *a, long flags)
{
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	int fd = (int)syscall(SYS_pidfd_getfd, pidfd, a->fd, 0);

	(void)flags;
	attack_through(fd);
	attack_through(dup3(a->fd, 900, O_CLOEXEC));
}

const struct attack_row attacks_by_path[] = {
	{ "truncate of /proc/self/fd", try_truncate_path, BY_SELF },
	{ "truncate of /proc/PID/fd", try_truncate_path, BY_PID },
	{ "truncate of map_files", try_truncate_path, BY_MAP },
	{ "open /proc/self/fd, O_RDWR", try_reopen, REOPEN(BY_SELF, O_RDWR) },
	{ "open /proc/self/fd, O_WRONLY", try_reopen, REOPEN(BY_SELF, O_WRONLY) },
	{ "open /proc/self/fd, O_RDONLY|O_TRUNC", try_reopen, REOPEN(BY_SELF, O_TRUNC) },
	{ "open /proc/self/fd, O_ACCMODE", try_reopen, REOPEN(BY_SELF, O_ACCMODE) },
	{ "open /proc/PID/fd, O_RDWR", try_reopen, REOPEN(BY_PID, O_RDWR) },
	{ "open /proc/PID/fd, O_RDONLY|O_TRUNC", try_reopen, REOPEN(BY_PID, O_TRUNC) },
	{ "open /proc/thread-self/fd, O_RDWR", try_reopen, REOPEN(BY_THREAD, O_RDWR) },
	{ "open /dev/fd, O_RDWR", try_reopen, REOPEN(BY_DEV, O_RDWR) },
	{ "open /dev/fd, O_WRONLY", try_reopen, REOPEN(BY_DEV, O_WRONLY) },
	{ "open /dev/fd, O_RDONLY|O_TRUNC", try_reopen, REOPEN(BY_DEV, O_TRUNC) },
	{ "open task's fd, O_RDWR|O_TRUNC", try_reopen, REOPEN(BY_TASK, O_RDWR | O_TRUNC) },
	{ "open map_files, O_RDWR", try_reopen, REOPEN(BY_MAP, O_RDWR) },
	{ "open map_files, O_RDONLY|O_TRUNC", try_reopen, REOPEN(BY_MAP, O_TRUNC) },
	{ "open /proc/PID/fd from a child, O_RDWR", try_reopen_from_child, O_RDWR },
	{ "open /proc/PID/fd from a child, O_TRUNC", try_reopen_from_child, O_TRUNC },
	{ "open by an O_PATH descriptor, O_RDWR", try_reopen_path_only, O_RDWR },
	{ "open by an O_PATH descriptor, O_TRUNC", try_reopen_path_only, O_TRUNC },
	{ "open after a way over a socket", try_send, O_RDWR },
	{ "open by a symlink to it", try_symlink, O_RDWR },
	{ "linkat, AT_EMPTY_PATH, and open", try_link, 0 },
	{ "linkat, AT_SYMLINK_FOLLOW, and open", try_link, 1 },
	{ "renameat", try_rename, 0 },
	{ "renameat2, RENAME_EXCHANGE", try_rename, RENAME_EXCHANGE },
	{ "renameat2, RENAME_NOREPLACE", try_rename, RENAME_NOREPLACE },
	{ "pidfd_getfd and dup3", try_take_over, 0 },
	{ NULL, NULL, 0 },
};
