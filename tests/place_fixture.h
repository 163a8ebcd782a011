/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of the suite "place" share: a directory, and how what is in it looks. */
#ifndef SHMBROKER_PLACE_FIXTURE_H
#define SHMBROKER_PLACE_FIXTURE_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/fd.h"
#include "daemon/place.h"
#include "tests/test.h"

TCase *place_case_of_contexts(void); /* of check_place_contexts.c */

#define ALICE 2001
#define BOB 2002

static const char *directory;
static int directory_fd;

static inline void setup(void)
{
	test_fds_setup();
	directory = test_directory();
	ck_assert_int_eq(chmod(directory, 0755), 0);
	directory_fd = place_directory_open(directory, PLACE_SHARED);
	ck_assert_int_ge(directory_fd, 0);
}

static inline void teardown(void)
{
	close(directory_fd);
	test_fds_teardown();
}

static const char *path_of(const char *name)
{
	static char path[4096];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}

/* The mode with its type; 0: there is nothing. */
static inline mode_t mode_of(const char *name)
{
	struct stat st;

	return fstatat(directory_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : st.st_mode;
}

static inline unsigned count_entries(const char *name)
{
	DIR *dir = opendir(path_of(name));
	unsigned count = 0;
	struct dirent *entry;

	ck_assert_ptr_nonnull(dir);
	while ((entry = readdir(dir)))
		count += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
	closedir(dir);
	return count;
}

/* 0 or the errno of connecting; the connection is closed again. */
static inline int try_connect(const char *name)
{
	struct sockaddr_un there = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (snprintf(there.sun_path, sizeof(there.sun_path), "%s/%s", directory, name) >=
	    (int)sizeof(there.sun_path))
		return ENAMETOOLONG;
	return connect(fd, (struct sockaddr *)&there, sizeof(there)) < 0 ? errno : 0;
}

static inline void end(struct place_socket *socket)
{
	socket->fd = fd_close(socket->fd);
}

static inline void make_entry(const char *name, mode_t type, const char *target)
{
	if (type == S_IFLNK)
		ck_assert_int_eq(symlinkat(target, directory_fd, name), 0);
	else if (type == S_IFDIR)
		ck_assert_int_eq(mkdirat(directory_fd, name, 0755), 0);
	else
		ck_assert_int_eq(mknodat(directory_fd, name, type | 0644, 0), 0);
}

#endif
