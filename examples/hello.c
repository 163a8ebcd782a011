/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Hello, world over shared memory, with the functions that replace POSIX's: the same program
 * with shm_open and shm_unlink is one that needs /dev/shm.
 *
 *	cc hello.c -o hello $(pkg-config --cflags --libs libshmbroker)
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <shmbroker.h>

#define NAME "/hello"
#define GREETING "Hello, world!"

static int fail(const char *what)
{
	perror(what);
	if (*shmb_reason(NULL))
		fprintf(stderr, "%s\n", shmb_reason(NULL));
	return 1;
}

static int put(void)
{
	int fd = shmb_shm_open(NAME, O_RDWR | O_CREAT, 0600);

	if (fd < 0)
		return fail("shmb_shm_open");
	if (ftruncate(fd, sizeof(GREETING)) < 0)
		return fail("ftruncate");
	if (write(fd, GREETING, sizeof(GREETING)) != (ssize_t)sizeof(GREETING))
		return fail("write");
	return close(fd) < 0 ? fail("close") : 0;
}

static int get(void)
{
	char text[sizeof(GREETING)] = "";
	/* O_EXCL says nothing without O_CREAT. */
	int fd = shmb_shm_open(NAME, O_RDONLY | O_EXCL, 0);

	if (fd < 0)
		return fail("shmb_shm_open");
	if (read(fd, text, sizeof(text)) != (ssize_t)sizeof(text))
		return fail("read");
	puts(text);
	return close(fd) < 0 ? fail("close") : 0;
}

int main(void)
{
	if (put() != 0 || get() != 0)
		return 1;
	return shmb_shm_unlink(NAME) < 0 ? fail("shmb_shm_unlink") : 0;
}
