/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whole directories of objects, with the broker's own rights: what store.c cleans up with. */
#include "daemon/directory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "daemon/fd.h"
#include "proto/name.h"

/* Deeper than any client's path can reach at once. */
#define DEPTH_MAX 100

int directory_unlink(int dir, const char *name)
{
	if (unlinkat(dir, name, 0) == 0)
		return 0;
	if (errno == EISDIR && unlinkat(dir, name, AT_REMOVEDIR) == 0)
		return 0;
	return errno;
}

DIR *directory_list(int directory)
{
	int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *listing;

	if (fd < 0)
		return NULL;
	listing = fdopendir(fd);
	if (!listing)
		fd_close(fd);
	return listing;
}

void directory_sweep(int directory)
{
	const size_t prefix = sizeof(NAME_RESERVED_PREFIX) - 1;
	DIR *listing = directory_list(directory);
	const struct dirent *entry;

	if (!listing)
		return;
	while ((entry = readdir(listing)))
		if (strncmp(entry->d_name, NAME_RESERVED_PREFIX, prefix) == 0)
			unlinkat(directory, entry->d_name, 0);
	closedir(listing);
}

static int remove_below(int directory, unsigned depth)
{
	DIR *listing = directory_list(directory);
	const struct dirent *entry;
	int error = 0;

	if (!listing)
		return -errno;
	while ((entry = readdir(listing))) {
		_cleanup_close_ int below = -EBADF;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (directory_unlink(directory, entry->d_name) != ENOTEMPTY)
			continue;
		below = openat(directory, entry->d_name,
			       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (below < 0 || depth == 0 || remove_below(below, depth - 1) < 0 ||
		    unlinkat(directory, entry->d_name, AT_REMOVEDIR) < 0)
			error = -ENOTEMPTY;
	}
	closedir(listing);
	return error;
}

int directory_remove_all(int directory)
{
	return remove_below(directory, DEPTH_MAX);
}
