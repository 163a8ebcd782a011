/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the kernel tells of this thread in proc_pid_status(5). */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/single_threaded.h>
#include <unistd.h>

#include "client/internal.h"

int shmb_read_status(char *ret, size_t size)
{
	_cleanup_close_ int fd = open("/proc/thread-self/status", O_RDONLY | O_CLOEXEC);
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

/* The real, the effective and the saved one; the line has a fourth. */
static bool are_one(const char *text, const char *key)
{
	const char *line = strstr(text, key);
	unsigned real, effective, saved, files;

	return line &&
	       sscanf(line + strlen(key), "%u%u%u%u", &real, &effective, &saved, &files) == 4 &&
	       real == effective && saved == effective;
}

bool shmb_ids_are_fixed(void)
{
	const unsigned long long may_change = 1ull << CAP_SETUID | 1ull << CAP_SETGID;
	static const char permitted[] = "\nCapPrm:\t";
	unsigned long long caps;
	char text[4096], *end;
	const char *line;

	/* Another thread may have other capabilities and ids. */
	if (!__libc_single_threaded || shmb_read_status(text, sizeof(text)) < 0)
		return false;
	line = strstr(text, permitted);
	if (!line)
		return false;
	/* The text may end anywhere. */
	caps = strtoull(line + strlen(permitted), &end, 16);
	return *end == '\n' && !(caps & may_change) && are_one(text, "\nUid:\t") &&
	       are_one(text, "\nGid:\t");
}
