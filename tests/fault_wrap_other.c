/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The wrappers of calls about sockets, waiting, processes and mounts: see fault.h. */
#include "tests/fault_wrap.h"

#include <event2/event.h>
#include <grp.h>
#include <linux/mount.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* --- sockets --- */

static enum fault_call sendmsg_row(const struct msghdr *message, int flags)
{
	if (message->msg_controllen > 0)
		return FAULT_sendmsg_descriptor;
	return flags & MSG_DONTWAIT ? FAULT_sendmsg_at_once : FAULT_sendmsg;
}

#define FAULT_WRAP_ROW(name, row, parameters, arguments)                                           \
	FAULT_NAMES(ssize_t, name, parameters);                                                    \
	ssize_t __wrap_##name parameters                                                           \
	{                                                                                          \
		int error = fault_due(row, FAULT_FROM);                                            \
                                                                                                   \
		if (error) {                                                                       \
			errno = error;                                                             \
			return -1;                                                                 \
		}                                                                                  \
		return __real_##name arguments;                                                    \
	}

FAULT_WRAP_INT(socket, (int domain, int type, int protocol), (domain, type, protocol))
FAULT_WRAP_INT(socketpair, (int domain, int type, int protocol, int fds[2]),
	       (domain, type, protocol, fds))
FAULT_WRAP_INT(bind, (int fd, const struct sockaddr *address, socklen_t size), (fd, address, size))
FAULT_WRAP_INT(listen, (int fd, int most), (fd, most))
FAULT_WRAP_INT(connect, (int fd, const struct sockaddr *address, socklen_t size),
	       (fd, address, size))
FAULT_WRAP_INT(accept4, (int fd, struct sockaddr *ret, socklen_t *size, int flags),
	       (fd, ret, size, flags))
FAULT_WRAP_SIZE(send, (int fd, const void *buffer, size_t size, int flags),
		(fd, buffer, size, flags))
FAULT_WRAP_ROW(sendmsg, sendmsg_row(message, flags),
	       (int fd, const struct msghdr *message, int flags), (fd, message, flags))
FAULT_WRAP_ROW(recv, flags &MSG_DONTWAIT ? FAULT_recv_at_once : FAULT_recv,
	       (int fd, void *buffer, size_t size, int flags), (fd, buffer, size, flags))
FAULT_WRAP_ROW(recvmsg, flags &MSG_DONTWAIT ? FAULT_recvmsg_at_once : FAULT_recvmsg,
	       (int fd, struct msghdr *message, int flags), (fd, message, flags))
FAULT_WRAP_INT(getsockopt, (int fd, int level, int name, void *ret, socklen_t *size),
	       (fd, level, name, ret, size))
FAULT_WRAP_INT(getsockname, (int fd, struct sockaddr *ret, socklen_t *size), (fd, ret, size))
FAULT_WRAP_INT(setsockopt, (int fd, int level, int name, const void *value, socklen_t size),
	       (fd, level, name, value, size))
FAULT_WRAP_INT(shutdown, (int fd, int how), (fd, how))

/* --- waiting --- */

FAULT_WRAP_INT(poll, (struct pollfd * fds, nfds_t count, int timeout_ms), (fds, count, timeout_ms))
FAULT_WRAP_INT(epoll_create1, (int flags), (flags))
FAULT_WRAP_INT(epoll_ctl, (int epoll, int operation, int fd, struct epoll_event *event),
	       (epoll, operation, fd, event))
FAULT_WRAP_INT(eventfd, (unsigned value, int flags), (value, flags))
FAULT_WRAP_INT(timerfd_create, (clockid_t clock, int flags), (clock, flags))
FAULT_WRAP_INT(inotify_init1, (int flags), (flags))
FAULT_WRAP_INT(inotify_add_watch, (int fd, const char *path, uint32_t mask), (fd, path, mask))
FAULT_WRAP_INT(nanosleep, (const struct timespec *wanted, struct timespec *left), (wanted, left))
FAULT_WRAP_INT(pidfd_open, (pid_t process, unsigned flags), (process, flags))
FAULT_WRAP(pid_t, waitpid, (pid_t process, int *status, int options), (process, status, options),
	   -1)

FAULT_WRAP(struct event *, event_new,
	   (struct event_base * base, evutil_socket_t fd, short what, event_callback_fn function,
	    void *argument),
	   (base, fd, what, function, argument), NULL)
FAULT_WRAP_INT(event_add, (struct event * event, const struct timeval *timeout), (event, timeout))
FAULT_WRAP_INT(event_base_once,
	       (struct event_base * base, evutil_socket_t fd, short what,
		event_callback_fn function, void *argument, const struct timeval *timeout),
	       (base, fd, what, function, argument, timeout))
FAULT_WRAP(struct event_config *, event_config_new, (void), (), NULL)
FAULT_WRAP(struct event_base *, event_base_new_with_config, (const struct event_config *config),
	   (config), NULL)

/* --- processes --- */

FAULT_WRAP(pid_t, fork, (void), (), -1)
FAULT_WRAP_INT(getgroups, (int size, gid_t *ret), (size, ret))
FAULT_WRAP_INT(setgroups, (size_t count, const gid_t *groups), (count, groups))
FAULT_WRAP_INT(setresuid, (uid_t real, uid_t effective, uid_t saved), (real, effective, saved))
FAULT_WRAP_INT(setresgid, (gid_t real, gid_t effective, gid_t saved), (real, effective, saved))
FAULT_WRAP_INT(getrlimit, (__rlimit_resource_t resource, struct rlimit *ret), (resource, ret))
FAULT_WRAP_INT(setrlimit, (__rlimit_resource_t resource, const struct rlimit *limit),
	       (resource, limit))
FAULT_WRAP_SIZE(getrandom, (void *buffer, size_t size, unsigned flags), (buffer, size, flags))
FAULT_WRAP_ERROR(getpwnam_r,
		 (const char *name, struct passwd *entry, char *buffer, size_t size,
		  struct passwd **ret),
		 (name, entry, buffer, size, ret))
FAULT_WRAP_ERROR(getpwuid_r,
		 (uid_t uid, struct passwd *entry, char *buffer, size_t size, struct passwd **ret),
		 (uid, entry, buffer, size, ret))
FAULT_WRAP_ERROR(getgrnam_r,
		 (const char *name, struct group *entry, char *buffer, size_t size,
		  struct group **ret),
		 (name, entry, buffer, size, ret))

/*
 * As of those that take what they need of more: the kernel's calls have so many arguments, in
 * registers but for the last, and the tail that a caller doesn't pass is nobody's to look at.
 */
FAULT_NAMES(int, prctl,
	    (int operation, unsigned long a, unsigned long b, unsigned long c, unsigned long d));
int __wrap_prctl(int operation, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
	int error = fault_due(operation == PR_SET_SECCOMP ? FAULT_prctl_filter : FAULT_prctl,
			      FAULT_FROM);

	if (error) {
		errno = error;
		return -1;
	}
	return __real_prctl(operation, a, b, c, d);
}

/* As of setfsuid(2): it can't say that it has failed, but the next one shows it. */
static bool keeps_quiet(long number)
{
	return number == SYS_setfsuid || number == SYS_setfsgid;
}

static enum fault_call row_of(long number)
{
	switch (number) {
	case SYS_setfsuid:
	case SYS_setfsgid:
		return FAULT_setfsids;
	case SYS_setgroups:
		return FAULT_setgroups;
	case SYS_capget:
		return FAULT_capget;
	case SYS_capset:
		return FAULT_capset;
	case SYS_pidfd_open:
		return FAULT_pidfd_open;
	case SYS_getdents64:
		return FAULT_getdents64;
	case SYS_openat2:
		return FAULT_openat;
	case SYS_pivot_root:
		return FAULT_pivot_root;
	default:
		return FAULT_CALLS;
	}
}

FAULT_NAMES(long, syscall, (long number, long a, long b, long c, long d, long e, long f));
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	enum fault_call row = row_of(number);
	int error = 0;

	/* That which only asks what is in force doesn't fail. */
	if (row != FAULT_CALLS && !(keeps_quiet(number) && (int)a == -1))
		error = fault_due(row, FAULT_FROM);
	if (error && keeps_quiet(number))
		return __real_syscall(number, -1, 0, 0, 0, 0, 0);
	if (error) {
		errno = error;
		return -1;
	}
	return __real_syscall(number, a, b, c, d, e, f);
}

/* --- mounts --- */

FAULT_WRAP_INT(unshare, (int flags), (flags))
FAULT_WRAP_INT(setns, (int fd, int type), (fd, type))
FAULT_WRAP_INT(fsopen, (const char *type, unsigned flags), (type, flags))
FAULT_WRAP_INT(fsconfig,
	       (int fd, unsigned command, const char *key, const void *value, int auxiliary),
	       (fd, command, key, value, auxiliary))
FAULT_WRAP_INT(fsmount, (int fd, unsigned flags, unsigned attributes), (fd, flags, attributes))
FAULT_WRAP_INT(fspick, (int directory, const char *path, unsigned flags), (directory, path, flags))
FAULT_WRAP_INT(open_tree, (int directory, const char *path, unsigned flags),
	       (directory, path, flags))
FAULT_WRAP_INT(move_mount, (int from, const char *path, int to, const char *name, unsigned flags),
	       (from, path, to, name, flags))
FAULT_WRAP_INT(mount_setattr,
	       (int directory, const char *path, unsigned flags, struct mount_attr *attributes,
		size_t size),
	       (directory, path, flags, attributes, size))
FAULT_WRAP_INT(mount,
	       (const char *source, const char *target, const char *type, unsigned long flags,
		const void *options),
	       (source, target, type, flags, options))
FAULT_WRAP_INT(umount2, (const char *target, int flags), (target, flags))
