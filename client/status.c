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

/* The real, the effective and the saved one are this; the line has a fourth. */
static bool are_all(const char *text, const char *key, unsigned id)
{
	const char *line = strstr(text, key);
	unsigned real, effective, saved, files;

	return line &&
	       sscanf(line + strlen(key), "%u%u%u%u", &real, &effective, &saved, &files) == 4 &&
	       real == id && effective == id && saved == id;
}

static bool are_fixed(int directory, const char *path)
{
	const unsigned long long may_change = 1ull << CAP_SETUID | 1ull << CAP_SETGID;
	static const char permitted[] = "\nCapPrm:\t";
	unsigned long long caps;
	char text[4096], *end;
	const char *line;

	if (read_file(directory, path, text, sizeof(text)) < 0)
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

static unsigned long thread_count(void)
{
	static const char key[] = "\nThreads:\t";
	char text[4096];
	const char *line = read_file(AT_FDCWD, "/proc/self/status", text, sizeof(text)) < 0
				   ? NULL
				   : strstr(text, key);

	return line ? strtoul(line + strlen(key), NULL, 10) : ULONG_MAX;
}

/* How many there are, or 0: not all of them are ordinary. */
static unsigned long look_at_listed(int tasks, const char *list, long size)
{
	unsigned long seen = 0;

	while (size > 0) {
		const struct entry *entry = (const struct entry *)list;
		char path[32];

		snprintf(path, sizeof(path), "%.20s/status", entry->name);
		if (entry->name[0] != '.' && !are_fixed(tasks, path))
			return 0;
		seen += entry->name[0] != '.';
		list += entry->size;
		size -= entry->size;
	}
	return seen;
}

/*
 * Each has ids and capabilities of its own, and a new one has those of who made it: so when all
 * have been looked at it is no harm that there are more by then. A listing may leave some out when
 * others end meanwhile: then there were more before, or are still.
 */
static bool are_fixed_in_all(void)
{
	_cleanup_close_ int tasks = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_Alignas(8) char list[8192];
	unsigned long before, seen;
	long size;

	if (tasks < 0)
		return false;
	/* Who has more than fit is not looked at. */
	before = thread_count();
	size = syscall(SYS_getdents64, tasks, list, sizeof(list));
	seen = look_at_listed(tasks, list, size);
	return seen > 0 && before == seen && thread_count() <= seen;
}

bool shmb_ids_are_fixed(void)
{
	return __libc_single_threaded ? are_fixed(AT_FDCWD, "/proc/thread-self/status")
				      : are_fixed_in_all();
}
