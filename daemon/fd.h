/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who owns a descriptor: `take` consumes, `steal` hands over, `borrow` only
 * looks. Everything local is closed by attribute.
 */
#ifndef SHMBROKER_FD_H
#define SHMBROKER_FD_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Closes what is a descriptor; errno is kept. Always returns -EBADF. */
static inline int fd_close(int fd)
{
	if (fd >= 0) {
		int saved = errno;

		close(fd);
		errno = saved;
	}
	return -EBADF;
}

static inline int steal_fd(int *fd)
{
	int stolen = *fd;

	*fd = -EBADF;
	return stolen;
}

static inline void fd_closep(int *fd)
{
	fd_close(*fd);
}

static inline void freep(void *pointer)
{
	free(*(void **)pointer);
}

static inline void fclosep(FILE **file)
{
	if (*file)
		fclose(*file);
}

/*
 * For the beginning of a program: what is closed of 0, 1 and 2 becomes a descriptor that can
 * neither be read nor written and is handed down to nobody. Else the next that is opened, an object
 * or a socket, would have that number. 0 or -errno.
 */
static inline int fd_fill_standard(void)
{
	int fd;

	do
		fd = open("/", O_PATH | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd < 0)
		return -errno;
	fd_close(fd);
	return 0;
}

#define _cleanup_(function) __attribute__((cleanup(function)))
#define _cleanup_close_ _cleanup_(fd_closep)
#define _cleanup_free_ _cleanup_(freep)
#define _cleanup_fclose_ _cleanup_(fclosep)

#endif
