/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What both files of the drop-ins' suite do again and again. */
#include "tests/drop_in.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/shmbroker.h"
#include "tests/test.h"

struct fake_broker drop_in_broker;

bool drop_in_is_preloaded(void)
{
	return getenv("TEST_PRELOADED");
}

void drop_in_setup(void)
{
	test_fds_setup();
	fake_broker_start(&drop_in_broker, test_directory());
}

void drop_in_teardown(void)
{
	fake_broker_stop(&drop_in_broker);
	test_fds_teardown();
}

void drop_in_wait(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with 0x%x",
		      (unsigned)status);
}

void drop_in_child(void (*function)(void))
{
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		function();
		_exit(0);
	}
	drop_in_wait(pid);
}

bool drop_in_exists(const char *name)
{
	char path[256];
	struct stat status;

	snprintf(path, sizeof(path), "%s/%s", drop_in_broker.directory, name);
	return lstat(path, &status) == 0;
}

int drop_in_open(const char *name, int oflag, mode_t mode)
{
	return drop_in_is_preloaded() ? shm_open(name, oflag, mode)
				      : shmb_shm_open(name, oflag, mode);
}

int drop_in_unlink(const char *name)
{
	int r = drop_in_is_preloaded() ? shm_unlink(name) : shmb_shm_unlink(name);

	return r < 0 ? errno : 0;
}

void drop_in_expect_broker(bool there)
{
	if (!drop_in_is_preloaded())
		ck_assert_int_eq(shmb_supported(), there);
}

void drop_in_expect_reason(const char *words)
{
	if (drop_in_is_preloaded())
		return;
	if (!words) {
		ck_assert_str_eq(shmb_reason(NULL), "");
		return;
	}
	ck_assert_str_ne(shmb_reason(NULL), "");
	ck_assert_ptr_nonnull(strstr(shmb_reason(NULL), words));
}

/* Opens, creating, and closes: errno, or 0. */
int drop_in_touch(const char *name)
{
	int fd = drop_in_open(name, O_RDWR | O_CREAT, 0600);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

int drop_in_lowest(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

/* The connection: the only socket above 2. -1: none. */
int drop_in_connection(void)
{
	for (int fd = 3; fd < 1024; fd++) {
		struct sockaddr_un peer;
		socklen_t size = sizeof(peer);

		if (fd != drop_in_broker.listener &&
		    getpeername(fd, (struct sockaddr *)&peer, &size) == 0 &&
		    size > sizeof(sa_family_t) && strcmp(peer.sun_path, drop_in_broker.path) == 0)
			return fd;
	}
	return -1;
}
