/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the kernel tells of this thread in proc_pid_status(5). */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
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

/* The real, the effective and the saved one. */
static bool are_one(const char *text, const char *key)
{
	const char *line = strstr(text, key);
	unsigned real, effective, saved;

	return line && sscanf(line + strlen(key), "%u %u %u", &real, &effective, &saved) == 3 &&
	       real == effective && saved == effective;
}

bool shmb_ids_are_fixed(void)
{
	const unsigned long long may_change = 1ull << CAP_SETUID | 1ull << CAP_SETGID;
	static const char permitted[] = "\nCapPrm:\t";
	unsigned long long caps;
	const char *line;
	char text[4096];

	if (shmb_read_status(text, sizeof(text)) < 0)
		return false;
	line = strstr(text, permitted);
	return line && sscanf(line + strlen(permitted), "%llx", &caps) == 1 &&
	       !(caps & may_change) && are_one(text, "\nUid:\t") && are_one(text, "\nGid:\t");
}
