/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sockets and files whose close hangs: see traps.h. */
#include "tests/traps.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/test.h"

/* --- a socket whose last close takes as long as its other end likes --- */

void lingering_make(struct lingering *ret)
{
	const struct linger linger = { .l_onoff = 1, .l_linger = 60 };
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t size = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	static const char bytes[65536];

	ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(listener, 1), 0);
	ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &size), 0);
	ret->theirs = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(connect(ret->theirs, (struct sockaddr *)&address, sizeof(address)), 0);
	ret->other = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	close(listener);
	ck_assert_int_eq(setsockopt(ret->theirs, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)),
			 0);
	/* Nobody reads it. */
	while (send(ret->theirs, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
}

void lingering_end(struct lingering *lingering)
{
	const struct linger at_once = { .l_onoff = 1, .l_linger = 0 };

	/* A reset: whoever waits in a close of it may go on. */
	setsockopt(lingering->other, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	close(lingering->other);
}

/* --- a file system of our own, that never answers a close --- */

static void fuse_answer(const struct fuse *fuse, uint64_t unique, int error, const void *bytes,
			size_t size)
{
	struct fuse_out_header head = { .len = (uint32_t)(sizeof(head) + size),
					.error = -error,
					.unique = unique };
	struct iovec parts[] = { { &head, sizeof(head) }, { (void *)bytes, size } };

	if (writev(fuse->device, parts, size > 0 ? 2 : 1) < 0 && errno != ENOENT)
		abort();
}

static struct fuse_attr fuse_attributes(uint64_t node)
{
	return (struct fuse_attr){ .ino = node,
				   .mode = node == 1 ? S_IFDIR | 0755 : S_IFREG | 0666,
				   .nlink = 1,
				   .blksize = 4096 };
}

static void fuse_do(struct fuse *fuse, const struct fuse_in_header *in)
{
	struct fuse_init_out init = { .major = FUSE_KERNEL_VERSION,
				      .minor = 31,
				      .max_write = 4096 };
	struct fuse_entry_out entry = { .nodeid = 2, .attr = fuse_attributes(2) };
	struct fuse_attr_out attributes = { .attr = fuse_attributes(in->nodeid) };
	struct fuse_open_out opened = { .fh = 1 };
	const uint64_t one = 1;

	switch (in->opcode) {
	case FUSE_INIT:
		fuse_answer(fuse, in->unique, 0, &init, sizeof(init));
		break;
	case FUSE_LOOKUP:
		fuse_answer(fuse, in->unique, 0, &entry, sizeof(entry));
		break;
	case FUSE_GETATTR:
		fuse_answer(fuse, in->unique, 0, &attributes, sizeof(attributes));
		break;
	case FUSE_OPEN:
		fuse_answer(fuse, in->unique, 0, &opened, sizeof(opened));
		break;
	case FUSE_FLUSH:
		/* Each close(2) of it waits for the answer, in the time of who closes. */
		if (write(fuse->closing, &one, sizeof(one)) < 0)
			abort();
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
		break;
	default:
		fuse_answer(fuse, in->unique, ENOSYS, NULL, 0);
	}
}

static void *fuse_serve(void *argument)
{
	static _Alignas(8) char buffer[FUSE_MIN_READ_BUFFER + 65536];
	struct fuse *fuse = argument;
	struct pollfd polled[] = { { fuse->device, POLLIN, 0 }, { fuse->stop, POLLIN, 0 } };

	while (poll(polled, 2, -1) > 0 && !polled[1].revents) {
		ssize_t size = read(fuse->device, buffer, sizeof(buffer));

		if (size >= (ssize_t)sizeof(struct fuse_in_header))
			fuse_do(fuse, (const struct fuse_in_header *)buffer);
		else if (size < 0 && errno != EINTR && errno != EAGAIN && errno != ENOENT)
			break;
	}
	return NULL;
}

bool fuse_start(struct fuse *fuse)
{
	char options[128];

	snprintf(fuse->directory, sizeof(fuse->directory), "%s/fuse", test_directory());
	fuse->device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fuse->device < 0)
		return false;
	mkdir(fuse->directory, 0755);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0",
		 fuse->device);
	if (mount("test", fuse->directory, "fuse", MS_NOSUID | MS_NODEV, options) < 0) {
		close(fuse->device);
		return false;
	}
	fuse->stop = eventfd(0, EFD_CLOEXEC);
	fuse->closing = eventfd(0, EFD_CLOEXEC);
	ck_assert_int_eq(pthread_create(&fuse->thread, NULL, fuse_serve, fuse), 0);
	return true;
}

void fuse_stop(struct fuse *fuse)
{
	const uint64_t one = 1;

	ck_assert_int_eq(write(fuse->stop, &one, sizeof(one)), sizeof(one));
	pthread_join(fuse->thread, NULL);
	umount2(fuse->directory, MNT_FORCE); /* what still waits for an answer fails */
	umount2(fuse->directory, MNT_DETACH);
	close(fuse->device);
	close(fuse->stop);
	close(fuse->closing);
}
