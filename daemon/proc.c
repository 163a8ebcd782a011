/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files of /proc, read boundedly through a held descriptor of it, and the few
 * things that are read out of them. Used by peer.c alone.
 */
#include "daemon/proc.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>

#include "daemon/fd.h"

#define FIRST_SIZE 4096

int proc_open(void)
{
	_cleanup_close_ int fd = -EBADF;
	struct statfs fs;

	fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstatfs(fd, &fs) < 0)
		return -errno;
	if (fs.f_type != PROC_SUPER_MAGIC)
		return -EOPNOTSUPP;
	return steal_fd(&fd);
}

int proc_open_process(int proc, pid_t pid)
{
	char name[16];
	int fd;

	snprintf(name, sizeof(name), "%d", (int)pid);
	fd = openat(proc, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	return fd;
}

/* Makes room for more text and its terminator. */
static int grow(char **text, size_t *size)
{
	size_t wanted = *size ? *size * 2 : FIRST_SIZE;
	char *grown;

	if (wanted > PROC_TEXT_MAX)
		return -EFBIG;
	grown = realloc(*text, wanted);
	if (!grown)
		return -ENOMEM;
	*text = grown;
	*size = wanted;
	return 0;
}

int proc_read(char **ret, int directory, const char *name)
{
	_cleanup_close_ int fd = -EBADF;
	_cleanup_free_ char *text = NULL;
	size_t size = 0, used = 0;
	ssize_t got;
	int r;

	fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	do {
		if (size - used < 2) {
			r = grow(&text, &size);
			if (r < 0)
				return r;
		}
		got = read(fd, text + used, size - used - 1);
		if (got < 0)
			return -errno;
		used += (size_t)got;
	} while (got > 0);
	text[used] = '\0';
	*ret = text;
	text = NULL;
	return 0;
}

const char *proc_status_field(const char *status, const char *key)
{
	size_t size = strlen(key);
	const char *line = status;

	/* A process chooses its Name, but the kernel escapes line ends in it here. */
	while (line && *line) {
		if (!strncmp(line, key, size) && line[size] == ':') {
			line += size + 1;
			return line + strspn(line, " \t");
		}
		line = strchr(line, '\n');
		if (line)
			line++;
	}
	return NULL;
}

int proc_stat_start_time(uint64_t *ret, const char *stat)
{
	/* Field 2 is the name in parentheses, and may have any byte in it, `)` too. */
	const char *field = strrchr(stat, ')');
	unsigned number;

	if (!field)
		return -EBADMSG;
	for (number = 2; number < 22; number++) {
		field = strchr(field, ' ');
		if (!field)
			return -EBADMSG;
		field++;
	}
	return sscanf(field, "%" SCNu64, ret) == 1 ? 0 : -EBADMSG;
}

/* The path of one line "ID:CONTROLLERS:PATH" when its controllers are those asked for. */
static const char *line_path(const char *line, size_t size, const char *controllers)
{
	const char *start = memchr(line, ':', size);
	size_t wanted = strlen(controllers);

	if (!start)
		return NULL;
	start++;
	if ((size_t)(line + size - start) <= wanted || memcmp(start, controllers, wanted) ||
	    start[wanted] != ':')
		return NULL;
	return start + wanted + 1;
}

const char *proc_cgroup_path(const char *text, size_t *ret_size)
{
	const char *line, *next, *path, *found = NULL;

	for (line = text; *line; line = next) {
		/* A group's name has no line end in it: cgroup_mkdir() refuses that. */
		size_t size = strcspn(line, "\n");

		next = line + size + (line[size] == '\n');
		path = line[0] == '0' ? line_path(line, size, "") : NULL;
		if (path && (size_t)(line + size - path) > 1) {
			*ret_size = (size_t)(line + size - path);
			return path;
		}
		path = line_path(line, size, "name=systemd");
		if (path) {
			*ret_size = (size_t)(line + size - path);
			found = path;
		}
	}
	return found;
}
