/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a broker has given: whether it can be what it is said to be, since a process goes by it with
 * rights that may be more than the broker's. For delegate.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "client/internal.h"

/*
 * By default, proc_sys_kernel(5) overflowuid. Where that is another nobody unknown is trusted, and
 * opens are slower; a broker that the user nobody runs is trusted, which SECURITY.md says.
 */
#define UID_UNKNOWN 65534

/*
 * What is made there is made with this process's rights, which may be more than the broker's: so it
 * must be a tmpfs of nobody else's, which is mounted nowhere. What is mounted below it
 * open_beneath() doesn't enter.
 */
bool shmb_can_be_pool(int directory, const struct stat *st)
{
	struct statfs fs;
	struct stat above;

	return S_ISDIR(st->st_mode) && fstatfs(directory, &fs) == 0 && fs.f_type == TMPFS_MAGIC &&
	       fstatat(directory, "..", &above, AT_SYMLINK_NOFOLLOW) == 0 &&
	       above.st_dev == st->st_dev && above.st_ino == st->st_ino;
}

/* The third word of each line, proc_pid_mountinfo(5); the buffer's end may be anywhere. */
struct mountinfo {
	char device[32];
	size_t size;
	int word;
};

static bool has_device(struct mountinfo *at, const char *text, size_t size, const char *device)
{
	for (size_t i = 0; i < size; i++) {
		if (text[i] != ' ' && text[i] != '\n') {
			if (at->word == 2 && at->size < sizeof(at->device) - 1)
				at->device[at->size++] = text[i];
			continue;
		}
		at->device[at->size] = '\0';
		if (at->word == 2 && strcmp(at->device, device) == 0)
			return true;
		at->size = 0;
		at->word = text[i] == '\n' ? 0 : at->word + 1;
	}
	return false;
}

/*
 * Whether this process sees a mount of that file system: a clone of the machine's own /run passes
 * for one that is mounted nowhere. Where it can't be told it may be.
 */
bool shmb_may_be_mounted(dev_t dev)
{
	_cleanup_close_ int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	struct mountinfo at = { .word = 0 };
	char text[2048], device[32];
	ssize_t n;

	if (fd < 0)
		return true;
	snprintf(device, sizeof(device), "%u:%u", major(dev), minor(dev));
	do {
		n = read(fd, text, sizeof(text));
		if (n > 0 && has_device(&at, text, (size_t)n, device))
			return true;
	} while (n > 0 || (n < 0 && errno == EINTR));
	return n < 0;
}

/*
 * Maps what nobody can make shorter and what always has memory, as huge pages haven't, or reading
 * it would end this process; else it goes without. A forked child doesn't have it. Closes the
 * descriptor.
 */
const struct wire_page *shmb_map_page(int fd)
{
	_cleanup_close_ int page = fd;
	int seals = fcntl(page, F_GET_SEALS);
	struct statfs fs;
	struct stat st;
	void *map;

	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(page, &st) < 0 ||
	    st.st_size < WIRE_PAGE_SIZE || fstatfs(page, &fs) < 0 || fs.f_type != TMPFS_MAGIC)
		return NULL;
	map = mmap(NULL, WIRE_PAGE_SIZE, PROT_READ, MAP_SHARED, page, 0);
	if (map == MAP_FAILED)
		return NULL;
	if (madvise(map, WIRE_PAGE_SIZE, MADV_DONTFORK) == 0)
		return map;
	munmap(map, WIRE_PAGE_SIZE);
	return NULL;
}

/*
 * Any other user's broker could make who opens there wait without end. Whom a user namespace
 * doesn't know, as most sandboxes don't know root, shows as nobody.
 */
bool shmb_is_trusted(int socket)
{
	struct ucred broker;
	socklen_t size = sizeof(broker);

	return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &broker, &size) == 0 &&
	       (broker.uid == 0 || broker.uid == geteuid() || broker.uid == UID_UNKNOWN);
}
