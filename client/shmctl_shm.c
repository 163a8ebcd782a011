/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * shmctl run --shm: the app's own pool, lent by the broker as a mount, becomes the /dev/shm of a
 * mount namespace. Called by shmctl_context.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "client/shmctl.h"

#define SHM "/dev/shm"

static int take_mount(const char *body, size_t size, struct fdlist *fds, void *userdata)
{
	int *mount = userdata;

	(void)body;
	(void)size;
	if (fds->count != 1 || fds->kind[0] != WIRE_FD_MOUNT)
		return -EPROTO;
	*mount = fdlist_steal_only(fds);
	return 0;
}

int shmctl_borrow(const char *app, const char *socket)
{
	const uint64_t flags = 0;
	struct shmb *c = NULL;
	int mount = -EBADF;
	int r = shmb_connect(&c, socket);

	if (r < 0) {
		shmctl_fail("%s: %s", socket, strerror(-r));
		return r;
	}
	r = shmb_raw_call(c, WIRE_LEND, &flags, sizeof(flags), take_mount, &mount);
	if (r < 0)
		shmctl_fail("%s: %s", app, *shmb_reason(c) ? shmb_reason(c) : strerror(-r));
	shmb_disconnect(c);
	return r < 0 ? r : mount;
}

static bool write_text(const char *path, const char *text)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

/* In a user namespace of its own everybody may mount. There he is who he was, and nobody else is.
 */
static const char *enter_user(void)
{
	_cleanup_free_ char *uids = shmctl_format("%u %u 1", geteuid(), geteuid());
	_cleanup_free_ char *gids = shmctl_format("%u %u 1", getegid(), getegid());

	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return "unshare";
	if (!write_text("/proc/self/setgroups", "deny"))
		return "/proc/self/setgroups";
	if (!write_text("/proc/self/uid_map", uids))
		return "/proc/self/uid_map";
	return write_text("/proc/self/gid_map", gids) ? NULL : "/proc/self/gid_map";
}

/* NULL, or what failed, with errno. */
static const char *enter_mounts(void)
{
	const char *failed;

	if (unshare(CLONE_NEWNS) < 0) {
		failed = errno == EPERM ? enter_user() : "unshare";
		if (failed)
			return failed;
	}
	/* Nothing of ours gets out, what is mounted outside still comes in. */
	return mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 ? "mount" : NULL;
}

int shmctl_put_on_shm(int mount)
{
	const char *failed = enter_mounts();

	if (failed)
		return shmctl_fail("no mount namespace for the command: %s: %s", failed,
				   strerror(errno));
	if (move_mount(mount, "", AT_FDCWD, SHM, MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS) <
	    0)
		return shmctl_fail("the pool can't be mounted on " SHM ": %s", strerror(errno));
	return 0;
}
