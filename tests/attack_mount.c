/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Attacks by clones of the mount that a descriptor is on, in the reader's own user and
 * mount namespace or, for root, in none; by file handles; and by devices on top of the file.
 */
#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/fd.h"
#include "tests/attack.h"

/* linux/fs.h has it, and quarrels with sys/mount.h. */
#ifndef BLKDISCARD
#define BLKDISCARD _IO(0x12, 119)
#endif

#define IN_OWN_NAMESPACES 1
#define WHERE_ONE_IS 2

static const char *own_path(const struct attack *a)
{
	static char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", a->fd);
	return path;
}

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	ignore(write(fd, text, strlen(text)));
	fd_close(fd);
}

/* Root of a user namespace, with the reader's uid as its 0. */
static void enter_own_namespaces(void)
{
	char map[64];
	uid_t uid = geteuid();

	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return;
	snprintf(map, sizeof(map), "0 %u 1", uid);
	write_text("/proc/self/uid_map", map);
	write_text("/proc/self/setgroups", "deny");
	mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

static void begin(long where)
{
	if (where & IN_OWN_NAMESPACES)
		enter_own_namespaces();
	else if (!(where & WHERE_ONE_IS))
		ignore(unshare(CLONE_NEWNS));
}

/* A clone of the mount with the file as its root, then writable. */
static void try_clone(const struct attack *a, long where)
{
	struct mount_attr writable = { .attr_clr = MOUNT_ATTR_RDONLY };
	int tree;

	begin(where);
	for (int i = 0; i < 4; i++) {
		unsigned flags = OPEN_TREE_CLONE | (i & 1 ? AT_RECURSIVE : 0);

		tree = i & 2 ? open_tree(AT_FDCWD, own_path(a), flags)
			     : open_tree(a->fd, "", flags | AT_EMPTY_PATH);
		mount_setattr(tree, "", AT_EMPTY_PATH, &writable, sizeof(writable));
		attack_through(openat(tree, "", O_RDWR));
		if (tree >= 0) {
			char path[64];

			snprintf(path, sizeof(path), "/proc/self/fd/%d", tree);
			attack_through(open(path, O_RDWR));
		}
		fd_close(tree);
	}
}

static const char *mount_point(const struct attack *a)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/mount.%d", a->scratch, (int)getpid());
	fd_close(open(path, O_RDWR | O_CREAT, 0666));
	return path;
}

static void try_bind(const struct attack *a, long where)
{
	const char *point = mount_point(a);

	begin(where);
	ignore(mount(own_path(a), point, NULL, MS_BIND, NULL));
	ignore(mount(NULL, point, NULL, MS_REMOUNT | MS_BIND, NULL));
	attack_through(open(point, O_RDWR));
	umount2(point, MNT_DETACH);
	unlink(point);
}

static void try_move(const struct attack *a, long where)
{
	struct mount_attr writable = { .attr_clr = MOUNT_ATTR_RDONLY };
	const char *point = mount_point(a);

	begin(where);
	ignore(move_mount(a->fd, "", AT_FDCWD, point, MOVE_MOUNT_F_EMPTY_PATH));
	ignore(mount(own_path(a), point, NULL, MS_MOVE, NULL));
	ignore(mount_setattr(AT_FDCWD, point, 0, &writable, sizeof(writable)));
	attack_through(open(point, O_RDWR));
	umount2(point, MNT_DETACH);
	unlink(point);
}

static void try_set_attributes(const struct attack *a, long where)
{
	struct mount_attr writable = { .attr_clr = MOUNT_ATTR_RDONLY };

	begin(where);
	ignore(mount_setattr(a->fd, "", AT_EMPTY_PATH, &writable, sizeof(writable)));
	ignore(mount_setattr(AT_FDCWD, own_path(a), 0, &writable, sizeof(writable)));
	attack_through(open(own_path(a), O_RDWR));
}

static void try_remount(const struct attack *a, long where)
{
	begin(where);
	ignore(mount(NULL, own_path(a), NULL, MS_REMOUNT | MS_BIND, NULL));
	ignore(mount(NULL, own_path(a), NULL, MS_REMOUNT, "size=64M"));
	attack_through(open(own_path(a), O_RDWR));
}

static void try_reconfigure(const struct attack *a, long where)
{
	int context;

	begin(where);
	context = fspick(a->fd, "", FSPICK_EMPTY_PATH);
	ignore(fsconfig(context, FSCONFIG_SET_FLAG, "rw", NULL, 0));
	ignore(fsconfig(context, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0));
	attack_through(open(own_path(a), O_RDWR));
}

/* What is below it in an overlay is copied up, not written. */
static void try_overlay(const struct attack *a, long where)
{
	char options[512], path[256];

	begin(where);
	snprintf(path, sizeof(path), "%s/over.%d", a->scratch, (int)getpid());
	ignore(mkdir(path, 0777));
	snprintf(options, sizeof(options), "lowerdir=%s:%s", own_path(a), path);
	ignore(mount("none", path, "overlay", 0, options));
	attack_through(open(path, O_RDWR));
	umount2(path, MNT_DETACH);
	rmdir(path);
}

/* A handle names the file of a file system, whatever mount it was seen through. */
static void try_handle(const struct attack *a, long how)
{
	static const int flags[] = { O_RDWR, O_WRONLY, O_TRUNC };
	union {
		struct file_handle handle;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} u = { .handle = { .handle_bytes = MAX_HANDLE_SZ } };
	int id, scratch = open(a->scratch, O_RDONLY | O_DIRECTORY);

	begin(how);
	if (name_to_handle_at(a->fd, "", &u.handle, &id, AT_EMPTY_PATH) < 0)
		return;
	for (size_t i = 0; i < 3; i++) {
		attack_through(open_by_handle_at(a->fd, &u.handle, flags[i]));
		/* Another tmpfs's, or another mount of it where it is on the host's. */
		if (how & IN_OWN_NAMESPACES)
			attack_through(open_by_handle_at(scratch, &u.handle, flags[i]));
	}
}

/* Directories above it, as far as they are to be had from a file: none. */
static void try_walk(const struct attack *a, long flags)
{
	char path[128];

	attack_through(openat(a->fd, ".", (int)flags));
	attack_through(openat(a->fd, "..", (int)flags));
	snprintf(path, sizeof(path), "%s/..", own_path(a));
	attack_through(open(path, (int)flags));
	ignore(fchdir(a->fd));
	ignore(fchdir(open(path, O_PATH)));
	snprintf(path, sizeof(path), "/proc/self/root%s", own_path(a));
	attack_through(open(path, (int)flags));
	ignore(chroot(own_path(a)));
}

/* A block device on the file: read-only, as its file is. */
static void try_loop(const struct attack *a, long flags)
{
	int control = open("/dev/loop-control", O_RDWR), device;
	long number = ioctl(control, LOOP_CTL_GET_FREE);
	char path[64];

	fd_close(control);
	if (control < 0 || number < 0)
		return;
	snprintf(path, sizeof(path), "/dev/loop%ld", number);
	device = open(path, (int)flags);
	if (device >= 0 && ioctl(device, LOOP_SET_FD, a->fd) == 0) {
		ignore(pwrite(device, "attacked", 8, 0));
		ignore(ioctl(device, BLKDISCARD, (uint64_t[]){ 0, 4096 }));
		fsync(device);
		ioctl(device, LOOP_CLR_FD, 0);
	}
	fd_close(device);
}

const struct attack_row attacks_by_mount[] = {
	{ "a clone of its mount", try_clone, 0 },
	{ "a clone of its mount, in namespaces of one's own", try_clone, IN_OWN_NAMESPACES },
	{ "a clone of its mount, where one is", try_clone, WHERE_ONE_IS },
	{ "a bind mount", try_bind, 0 },
	{ "a bind mount, in namespaces of one's own", try_bind, IN_OWN_NAMESPACES },
	{ "moving its mount", try_move, 0 },
	{ "moving its mount, in namespaces of one's own", try_move, IN_OWN_NAMESPACES },
	{ "mount_setattr, where one is", try_set_attributes, WHERE_ONE_IS },
	{ "mount_setattr", try_set_attributes, 0 },
	{ "mount_setattr, in namespaces of one's own", try_set_attributes, IN_OWN_NAMESPACES },
	{ "a remount", try_remount, 0 },
	{ "a remount, in namespaces of one's own", try_remount, IN_OWN_NAMESPACES },
	{ "fspick", try_reconfigure, 0 },
	{ "fspick, in namespaces of one's own", try_reconfigure, IN_OWN_NAMESPACES },
	{ "an overlay", try_overlay, 0 },
	{ "an overlay, in namespaces of one's own", try_overlay, IN_OWN_NAMESPACES },
	{ "a handle", try_handle, 0 },
	{ "a handle, where one is", try_handle, WHERE_ONE_IS },
	{ "a handle, in namespaces of one's own", try_handle, IN_OWN_NAMESPACES },
	{ "the directory above", try_walk, O_RDWR },
	{ "the directory above, to truncate", try_walk, O_TRUNC },
	{ "a loop device", try_loop, O_RDWR },
	{ NULL, NULL, 0 },
};
