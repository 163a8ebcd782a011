/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the kernel tells of threads in proc_pid_status(5). */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client/internal.h"

static int read_file(int directory, const char *path, char *ret, size_t size)
{
	_cleanup_close_ int fd = openat(directory, path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	do {
		n = read(fd, ret, size - 1);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	ret[n] = '\0';
	return 0;
}

int shmb_read_status(char *ret, size_t size)
{
	return read_file(AT_FDCWD, "/proc/thread-self/status", ret, size);
}

/* The real, the effective and the saved one are this. */
static bool are_all(const char *text, const char *key, unsigned long id)
{
	const char *line = strstr(text, key);
	char *end;

	if (!line)
		return false;
	end = (char *)line + strlen(key);
	for (int i = 0; i < 3; i++) {
		char *start = end;

		if (strtoul(start, &end, 10) != id || end == start)
			return false;
	}
	/* A fourth follows: the text may end anywhere. */
	return *end == '\t';
}

static bool are_fixed(int directory, const char *path, char *text, size_t size)
{
	const unsigned long long may_change = 1ull << CAP_SETUID | 1ull << CAP_SETGID;
	static const char permitted[] = "\nCapPrm:\t";
	unsigned long long caps;
	const char *line;
	char *end;

	if (read_file(directory, path, text, size) < 0)
		return false;
	line = strstr(text, permitted);
	if (!line)
		return false;
	/* The text may end anywhere. */
	caps = strtoull(line + strlen(permitted), &end, 16);
	return *end == '\n' && !(caps & may_change) && are_all(text, "\nUid:\t", geteuid()) &&
	       are_all(text, "\nGid:\t", getegid());
}

/* As getdents64(2) gives it, which needs no memory from the heap. */
struct entry {
	uint64_t ino;
	int64_t offset;
	uint16_t size;
	uint8_t type;
	char name[];
};

static unsigned long thread_count(char *text, size_t size)
{
	static const char key[] = "\nThreads:\t";
	const char *line = read_file(AT_FDCWD, "/proc/self/status", text, size) < 0
				   ? NULL
				   : strstr(text, key);

	return line ? strtoul(line + strlen(key), NULL, 10) : ULONG_MAX;
}

/* How many there are, or -1: not all of them are ordinary. */
static long look_at_listed(int tasks, const char *list, long left, char *text, size_t size)
{
	long seen = 0;

	while (left > 0) {
		const struct entry *entry = (const struct entry *)list;
		char path[32];

		/* "." and ".." are none. */
		if (entry->name[0] != '.' && strlen(entry->name) < 20) {
			stpcpy(stpcpy(path, entry->name), "/status");
			if (!are_fixed(tasks, path, text, size))
				return -1;
			seen++;
		}
		list += entry->size;
		left -= entry->size;
	}
	return seen;
}

/*
 * Each has ids and capabilities of its own, and a new one has those of who made it: so when all
 * have been looked at it is no harm that there are more by then. A listing may leave some out when
 * others end meanwhile: then there were more before, or are still.
 */
static bool are_fixed_in_all(char *text, size_t text_size)
{
	_cleanup_close_ int tasks = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_Alignas(8) char list[512];
	unsigned long before, seen = 0;
	long size, count;

	if (tasks < 0)
		return false;
	before = thread_count(text, text_size);
	while ((size = syscall(SYS_getdents64, tasks, list, sizeof(list))) > 0) {
		count = look_at_listed(tasks, list, size, text, text_size);
		if (count < 0)
			return false;
		seen += (unsigned long)count;
	}
	return size == 0 && before == seen && thread_count(text, text_size) <= seen;
}

bool shmb_ids_are_fixed(char *room, size_t size)
{
	return __libc_single_threaded ? are_fixed(AT_FDCWD, "/proc/thread-self/status", room, size)
				      : are_fixed_in_all(room, size);
}
