/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The floor that the broker is measured against: the least that a process can do to open a
 * file for another and pass the descriptor on. It blocks in recv(2), and of several callers it
 * knows whose turn it is (who has created something is to remove it first); it looks at nothing.
 * With "switch" it takes each caller's ids first, when they aren't those of the call before.
 *
 *     bench/floor SOCKET DIRECTORY CALLERS [switch]
 *
 * What is made with a size is whole at once, and its descriptor is as one from shm_open(3), which
 * O_TMPFILE would not leave it: four calls, as in the broker. Names that end in "-denied" are
 * refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "bench/floor.h"

#define CALLERS_MAX 2
#define DENIED "-denied"

struct caller {
	int socket;
	struct ucred ids;
	gid_t groups[64];
	socklen_t group_bytes;
};

static int directory, proc_fds;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void become(const struct caller *caller)
{
	static const struct caller *now;

	if (now == caller)
		return;
	now = caller;
	syscall(SYS_setgroups, caller->group_bytes / sizeof(gid_t), caller->groups);
	setfsgid(caller->ids.gid);
	setfsuid(caller->ids.uid);
}

static int make(const struct floor_request *request, const char *name)
{
	int flags = (int)request->oflag & ~(O_CREAT | O_EXCL);
	int nameless = openat(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, request->mode);
	char number[16];
	int fd;

	if (nameless < 0)
		return -1;
	snprintf(number, sizeof(number), "%d", nameless);
	if (ftruncate(nameless, (off_t)request->size) < 0 ||
	    linkat(proc_fds, number, directory, name, AT_SYMLINK_FOLLOW) < 0)
		fd = -1;
	else
		fd = openat(directory, name, flags | O_NOFOLLOW | O_CLOEXEC);
	close(nameless);
	return fd;
}

/* A descriptor, or -1; *ret_error is 0 or an errno. */
static int handle(const struct floor_request *request, const char *name, size_t size,
		  int *ret_error)
{
	size_t tail = sizeof(DENIED) - 1;
	int fd = -1, rc;

	if (size > tail && memcmp(name + size - tail, DENIED, tail) == 0) {
		*ret_error = EACCES;
		return -1;
	}
	if (request->unlink)
		rc = unlinkat(directory, name, 0);
	else if (request->size)
		rc = fd = make(request, name);
	else
		rc = fd = openat(directory, name, (int)request->oflag | O_NOFOLLOW | O_CLOEXEC,
				 request->mode);
	*ret_error = rc < 0 ? errno : 0;
	return fd;
}

static int answer(int socket, int error, int fd)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .header = { .cmsg_len = CMSG_LEN(sizeof(int)),
				  .cmsg_level = SOL_SOCKET,
				  .cmsg_type = SCM_RIGHTS } };
	struct floor_reply reply = { .error = error };
	struct iovec part = { &reply, sizeof(reply) };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (fd >= 0) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(sizeof(int));
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	}
	return sendmsg(socket, &message, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

/* One request. -1: the end; 1: another of the same caller's comes next. */
static int serve(const struct caller *caller, bool switches)
{
	struct floor_request request;
	ssize_t size = recv(caller->socket, &request, sizeof(request) - 1, 0);
	int error, fd, rc;

	if (size <= (ssize_t)offsetof(struct floor_request, name))
		return -1;
	((char *)&request)[size] = 0;
	if (switches)
		become(caller);
	fd = handle(&request, request.name, (size_t)size - offsetof(struct floor_request, name),
		    &error);
	rc = answer(caller->socket, error, fd);
	if (fd >= 0)
		close(fd);
	return rc < 0 ? rc : request.size > 0;
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		die(path);
	}
	strcpy(address.sun_path, path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    chmod(path, 0666) < 0 || listen(fd, CALLERS_MAX) < 0)
		die(path);
	return fd;
}

static void let_in(struct caller *caller, int listener)
{
	socklen_t size = sizeof(caller->ids);

	caller->socket = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	caller->group_bytes = sizeof(caller->groups);
	if (caller->socket < 0 ||
	    getsockopt(caller->socket, SOL_SOCKET, SO_PEERCRED, &caller->ids, &size) < 0 ||
	    getsockopt(caller->socket, SOL_SOCKET, SO_PEERGROUPS, caller->groups,
		       &caller->group_bytes) < 0)
		die("a caller");
}

int main(int argc, char **argv)
{
	struct caller caller[CALLERS_MAX];
	int count = argc > 3 ? atoi(argv[3]) : 0, listener;
	bool switches = argc > 4;

	if (count < 1 || count > CALLERS_MAX) {
		fputs("usage: bench/floor SOCKET DIRECTORY CALLERS [switch]\n", stderr);
		return 2;
	}
	umask(0);
	directory = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	proc_fds = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0 || proc_fds < 0)
		die(argv[2]);
	listener = listen_at(argv[1]);
	for (int i = 0; i < count; i++)
		let_in(&caller[i], listener);
	for (int i = 0, rc; (rc = serve(&caller[i], switches)) >= 0;)
		if (rc == 0)
			i = (i + 1) % count;
	return 0;
}
