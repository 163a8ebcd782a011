/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * shm_open(3) and shm_unlink(3) for programs that nobody changes: loaded before the C library
 * (LD_PRELOAD, ld.so(8)), its two functions stand in place of that one's and ask the broker. With
 * SHMBROKER_FALLBACK=1 the C library's own are used where there is no broker.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "client/internal.h"

#define EXPORT __attribute__((visibility("default")))

/*
 * Whether the call that failed is the C library's to make: there is no broker, nothing was done,
 * and that is wanted so. What no broker could have been asked (errno tells) may still be had there.
 */
static bool falls_back(void)
{
	const char *wanted = secure_getenv("SHMBROKER_FALLBACK");

	if (!wanted || strcmp(wanted, "1") != 0 || !shmb_thread_nobody_asked())
		return false;
	return errno == ECONNREFUSED || shmb_look_for_broker() == -ECONNREFUSED;
}

/* The next library's function of that name; NULL and ENOSYS: there is none. */
static void *next(const char *name, int saved_errno)
{
	void *function = dlsym(RTLD_NEXT, name);

	errno = function ? saved_errno : ENOSYS;
	return function;
}

EXPORT int shm_open(const char *name, int oflag, mode_t mode)
{
	int (*native)(const char *, int, mode_t);
	int saved = errno, fd = shmb_shm_open(name, oflag, mode);

	if (fd >= 0 || !falls_back())
		return fd;
	native = next("shm_open", saved);
	return native ? native(name, oflag, mode) : -1;
}

EXPORT int shm_unlink(const char *name)
{
	int (*native)(const char *);
	int saved = errno, r = shmb_shm_unlink(name);

	if (r == 0 || !falls_back())
		return r;
	native = next("shm_unlink", saved);
	return native ? native(name) : -1;
}
