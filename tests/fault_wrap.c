/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The wrappers of what allocates, and of calls that are about files: see fault.h. */
#include "tests/fault_wrap.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

/* --- memory --- */

#define FAULT_WRAP_MEMORY(type, name, parameters, arguments)                                       \
	FAULT_NAMES(type, name, parameters);                                                       \
	type __wrap_##name parameters                                                              \
	{                                                                                          \
		int error = fault_due(FAULT_##name, FAULT_FROM);                                   \
		type result = NULL;                                                                \
                                                                                                   \
		if (error)                                                                         \
			errno = error;                                                             \
		else                                                                               \
			result = __real_##name arguments;                                          \
		fault_count_allocation(result, 1);                                                 \
		return result;                                                                     \
	}

FAULT_WRAP_MEMORY(void *, malloc, (size_t size), (size))
FAULT_WRAP_MEMORY(void *, calloc, (size_t count, size_t size), (count, size))
FAULT_WRAP_MEMORY(char *, strdup, (const char *text), (text))
FAULT_WRAP_MEMORY(char *, strndup, (const char *text, size_t size), (text, size))

#define FAULT_WRAP_AGAIN(name, parameters, arguments)                                              \
	FAULT_NAMES(void *, name, parameters);                                                     \
	void *__wrap_##name parameters                                                             \
	{                                                                                          \
		int error = fault_due(FAULT_##name, FAULT_FROM);                                   \
		bool is_new = !pointer;                                                            \
		void *result;                                                                      \
                                                                                                   \
		if (error) {                                                                       \
			errno = error;                                                             \
			return NULL;                                                               \
		}                                                                                  \
		result = __real_##name arguments;                                                  \
		fault_count_allocation(result, is_new);                                            \
		return result;                                                                     \
	}

FAULT_WRAP_AGAIN(realloc, (void *pointer, size_t size), (pointer, size))
FAULT_WRAP_AGAIN(reallocarray, (void *pointer, size_t count, size_t size), (pointer, count, size))

FAULT_NAMES(void, free, (void *pointer));
void __wrap_free(void *pointer)
{
	fault_count_allocation(pointer, -1);
	__real_free(pointer);
}

FAULT_NAMES(int, asprintf, (char **ret, const char *format, ...))
__attribute__((format(printf, 2, 3)));
int __wrap_asprintf(char **ret, const char *format, ...)
{
	int error = fault_due(FAULT_asprintf, FAULT_FROM), result;
	va_list arguments;

	if (error) {
		errno = error;
		return -1;
	}
	va_start(arguments, format);
	result = vasprintf(ret, format, arguments);
	va_end(arguments);
	fault_count_allocation(result < 0 ? NULL : *ret, 1);
	return result;
}

FAULT_WRAP(locale_t, newlocale, (int mask, const char *name, locale_t base), (mask, name, base),
	   (locale_t)0)

/* --- files --- */

static mode_t mode_of(int flags, va_list arguments)
{
	if (!(flags & O_CREAT) && (flags & O_TMPFILE) != O_TMPFILE)
		return 0;
	return va_arg(arguments, mode_t);
}

FAULT_NAMES(int, open, (const char *path, int flags, ...));
int __wrap_open(const char *path, int flags, ...)
{
	int error = fault_due(FAULT_open, FAULT_FROM);
	va_list arguments;
	mode_t mode;

	va_start(arguments, flags);
	mode = mode_of(flags, arguments);
	va_end(arguments);
	if (error) {
		errno = error;
		return -1;
	}
	return __real_open(path, flags, mode);
}

_Atomic int fault_exclusive_flags;

FAULT_NAMES(int, openat, (int directory, const char *path, int flags, ...));
int __wrap_openat(int directory, const char *path, int flags, ...)
{
	int error = fault_due(FAULT_openat, FAULT_FROM);
	va_list arguments;
	mode_t mode;

	va_start(arguments, flags);
	mode = mode_of(flags, arguments);
	va_end(arguments);
	if (error) {
		errno = error;
		return -1;
	}
	if (flags & O_EXCL)
		fault_exclusive_flags = flags;
	return __real_openat(directory, path, flags, mode);
}

static enum fault_call fcntl_row(int operation)
{
	switch (operation) {
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
		return FAULT_fcntl_dup;
	case F_OFD_SETLK:
		return FAULT_fcntl_lock;
	case F_SETLEASE:
		return FAULT_fcntl_lease;
	case F_ADD_SEALS:
		return FAULT_fcntl_seals;
	case F_SETFL:
		return FAULT_fcntl_flags;
	default:
		return FAULT_CALLS; /* what asks doesn't fail */
	}
}

/* Numbers and pointers alike are a long to the kernel. */
FAULT_NAMES(int, fcntl, (int fd, int operation, ...));
int __wrap_fcntl(int fd, int operation, ...)
{
	enum fault_call row = fcntl_row(operation);
	int error = row == FAULT_CALLS ? 0 : fault_due(row, FAULT_FROM);
	va_list arguments;
	void *argument;

	va_start(arguments, operation);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	if (error) {
		errno = error;
		return -1;
	}
	return __real_fcntl(fd, operation, argument);
}

FAULT_NAMES(int, ioctl, (int fd, unsigned long request, ...));
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	int error = fault_due(FAULT_ioctl, FAULT_FROM);
	va_list arguments;
	void *argument;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	if (error) {
		errno = error;
		return -1;
	}
	return __real_ioctl(fd, request, argument);
}

FAULT_WRAP(FILE *, fopen, (const char *path, const char *mode), (path, mode), NULL)
FAULT_WRAP(DIR *, fdopendir, (int fd), (fd), NULL)
FAULT_WRAP(struct dirent *, readdir, (DIR * directory), (directory), NULL)
FAULT_WRAP_SIZE(read, (int fd, void *buffer, size_t size), (fd, buffer, size))
FAULT_WRAP_SIZE(write, (int fd, const void *buffer, size_t size), (fd, buffer, size))
FAULT_WRAP_INT(fstat, (int fd, struct stat *ret), (fd, ret))
FAULT_WRAP_INT(fstatat, (int directory, const char *path, struct stat *ret, int flags),
	       (directory, path, ret, flags))
FAULT_WRAP_INT(statx,
	       (int directory, const char *path, int flags, unsigned mask, struct statx *ret),
	       (directory, path, flags, mask, ret))
FAULT_WRAP_INT(fstatfs, (int fd, struct statfs *ret), (fd, ret))
FAULT_WRAP_INT(fstatvfs, (int fd, struct statvfs *ret), (fd, ret))
FAULT_WRAP_INT(statfs, (const char *path, struct statfs *ret), (path, ret))
FAULT_WRAP_SIZE(readlinkat, (int directory, const char *path, char *buffer, size_t size),
		(directory, path, buffer, size))
FAULT_WRAP_INT(ftruncate, (int fd, off_t size), (fd, size))
FAULT_WRAP_INT(fallocate, (int fd, int mode, off_t from, off_t size), (fd, mode, from, size))
FAULT_WRAP_INT(futimens, (int fd, const struct timespec times[2]), (fd, times))
FAULT_WRAP_INT(chmod, (const char *path, mode_t mode), (path, mode))
FAULT_WRAP_INT(fchmod, (int fd, mode_t mode), (fd, mode))
FAULT_WRAP_INT(fchmodat, (int directory, const char *path, mode_t mode, int flags),
	       (directory, path, mode, flags))
FAULT_WRAP_INT(fsetxattr, (int fd, const char *name, const void *value, size_t size, int flags),
	       (fd, name, value, size, flags))
FAULT_WRAP_INT(linkat, (int from, const char *path, int to, const char *name, int flags),
	       (from, path, to, name, flags))
FAULT_WRAP_INT(symlinkat, (const char *target, int directory, const char *name),
	       (target, directory, name))
FAULT_WRAP_INT(renameat, (int from, const char *path, int to, const char *name),
	       (from, path, to, name))
FAULT_WRAP_INT(renameat2, (int from, const char *path, int to, const char *name, unsigned flags),
	       (from, path, to, name, flags))
FAULT_WRAP_INT(unlinkat, (int directory, const char *path, int flags), (directory, path, flags))
FAULT_WRAP_INT(mkdir, (const char *path, mode_t mode), (path, mode))
FAULT_WRAP_INT(mkdirat, (int directory, const char *path, mode_t mode), (directory, path, mode))
FAULT_WRAP_INT(rmdir, (const char *path), (path))
FAULT_WRAP_INT(chdir, (const char *path), (path))
FAULT_WRAP_INT(fchdir, (int fd), (fd))
FAULT_WRAP_INT(flock, (int fd, int operation), (fd, operation))
FAULT_WRAP_INT(memfd_create, (const char *name, unsigned flags), (name, flags))
FAULT_WRAP(void *, mmap,
	   (void *address, size_t size, int protection, int flags, int fd, off_t offset),
	   (address, size, protection, flags, fd, offset), MAP_FAILED)
FAULT_WRAP_INT(madvise, (void *address, size_t size, int advice), (address, size, advice))
FAULT_WRAP_INT(dup2, (int fd, int to), (fd, to))
FAULT_WRAP_INT(pipe2, (int fds[2], int flags), (fds, flags))
