/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How the pool table is made without CAP_SYS_ADMIN. The maker unshares; the
 * mapper, another child so that the broker's own ids are never touched, writes the
 * maps; the maker pivots into an empty tmpfs and sends both namespaces' descriptors. For keeper.c.
 */
#include "daemon/table.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include "daemon/fd.h"

#define MAP_BYTES_MAX 4096 /* a page: the kernel takes a map in one write of less than that */

struct map {
	size_t size;
	char text[MAP_BYTES_MAX * 2]; /* as read: padded with blanks */
};

struct mapper_context {
	pid_t maker;
	struct map uids, gids;
};

/* Appends one extent, mapped onto itself. False: too long. */
static bool map_extent(struct map *map, unsigned long first, unsigned long count)
{
	size_t room = MAP_BYTES_MAX - 1 - map->size;
	int size = snprintf(map->text + map->size, room, "%lu %lu %lu\n", first, first, count);

	if (size < 0 || (size_t)size >= room)
		return false;
	map->size += (size_t)size;
	return true;
}

/* The extents of our own namespace, as they are numbered inside it. 0 or -errno. */
static int read_own_map(struct map *ret, const char *path)
{
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	unsigned long first, outside, count;
	int fields;

	if (!file)
		return -errno;
	ret->size = 0;
	while ((fields = fscanf(file, "%lu %lu %lu", &first, &outside, &count)) == 3) {
		if (!map_extent(ret, first, count))
			return -E2BIG;
	}
	if (fields != EOF || ret->size == 0)
		return -EINVAL;
	return 0;
}

static int read_maps(struct mapper_context *context, const struct keeper_setup *setup)
{
	int result;

	if (!helper_has_own_ids(setup)) {
		/* Nobody may map more than himself without CAP_SETUID. */
		map_extent(&context->uids, geteuid(), 1);
		map_extent(&context->gids, getegid(), 1);
		return 0;
	}
	result = read_own_map(&context->uids, "/proc/self/uid_map");
	if (result < 0)
		return result;
	return read_own_map(&context->gids, "/proc/self/gid_map");
}

static int write_proc(pid_t pid, const char *name, const char *text, size_t size)
{
	_cleanup_close_ int fd = -EBADF;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, size) != (ssize_t)size)
		return -errno;
	return 0;
}

/*
 * The kernel lets a map be written by who has the rights over the new namespace:
 * its owner, by euid; and over ours: by capability. Both at once is the owner's
 * euid with the effective set raised again from the permitted one.
 */
static int become_owner(const struct keeper_setup *setup)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

	if (setresuid((uid_t)-1, setup->table_uid, (uid_t)-1) < 0)
		return -errno;
	helper_hide();
	if (syscall(SYS_capget, &header, sets) < 0)
		return -errno;
	for (size_t i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
		sets[i].effective = sets[i].permitted;
	if (syscall(SYS_capset, &header, sets) < 0)
		return -errno;
	return 0;
}

static int write_maps(const struct keeper_setup *setup, const struct mapper_context *context)
{
	int result;

	if (helper_has_own_ids(setup)) {
		result = become_owner(setup);
	} else {
		/* Without this an ordinary user may not map his gid. */
		result = write_proc(context->maker, "setgroups", "deny", 4);
	}
	if (result < 0)
		return result;
	result = write_proc(context->maker, "uid_map", context->uids.text, context->uids.size);
	if (result < 0)
		return result;
	return write_proc(context->maker, "gid_map", context->gids.text, context->gids.size);
}

static int mapper_run(int socket, const struct keeper_setup *setup, const void *argument)
{
	struct helper_answer answer = { .id = 0 };
	struct attempt attempt = { .fault = setup->fault, .failure = &answer.failure };
	int result = 0;

	if (step_try(&attempt, STEP_MAP)) {
		result = write_maps(setup, argument);
		errno = -result;
	} else {
		result = -errno;
	}
	if (result < 0)
		step_failed(&attempt, STEP_MAP);
	return helper_send_answer(socket, &answer, NULL) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* An empty file system that only the table's user may search. A descriptor or -errno. */
static int make_root(void)
{
	_cleanup_close_ int context = fsopen("tmpfs", FSOPEN_CLOEXEC);
	int root;

	if (context < 0 || fsconfig(context, FSCONFIG_SET_STRING, "mode", "0700", 0) < 0 ||
	    fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	root = fsmount(context, FSMOUNT_CLOEXEC,
		       MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	return root < 0 ? -errno : root;
}

/* Leaves the host's mounts behind, all of them: the table must not keep one of them busy. */
static int pivot(const struct attempt *attempt)
{
	_cleanup_close_ int root = -EBADF;

	if (!step_try(attempt, STEP_ROOT) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return step_failed(attempt, STEP_ROOT);
	root = make_root();
	if (root < 0) {
		errno = -root;
		return step_failed(attempt, STEP_ROOT);
	}
	/* On top of the root itself: the one directory that is surely there. */
	if (move_mount(root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0 || fchdir(root) < 0)
		return step_failed(attempt, STEP_ROOT);
	/* The old root comes to lie over the new one, and goes. */
	if (!step_try(attempt, STEP_PIVOT) || syscall(SYS_pivot_root, ".", ".") < 0)
		return step_failed(attempt, STEP_PIVOT);
	if (!step_try(attempt, STEP_DETACH) || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return step_failed(attempt, STEP_DETACH);
	return 0;
}

/* Before the pivot, as it needs /proc: nobody but this process can open them, it is hidden. */
static int open_namespaces(const struct attempt *attempt, struct fdlist *fds)
{
	static const char *const paths[] = { "/proc/self/ns/user", "/proc/self/ns/mnt" };

	for (size_t i = 0; i < 2; i++) {
		int fd = step_try(attempt, STEP_NSFS) ? open(paths[i], O_RDONLY | O_CLOEXEC) : -1;

		if (fd < 0)
			return step_failed(attempt, STEP_NSFS);
		fdlist_take(fds, fd, WIRE_FD_HOLD);
	}
	return 0;
}

static int maker_unshare(const struct attempt *attempt, const struct keeper_setup *setup)
{
	bool own_ids = helper_has_own_ids(setup); /* it can't be told by geteuid() afterwards */
	int result;

	result = helper_take_ids(attempt, setup);
	if (result < 0)
		return result;
	if (!step_try(attempt, STEP_UNSHARE) || unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return step_failed(attempt, STEP_UNSHARE);
	if (own_ids)
		helper_hide();
	return 0;
}

static int maker_run(int socket, const struct keeper_setup *setup, const void *argument)
{
	struct helper_answer answer = { .id = 0 };
	struct attempt attempt = { .fault = setup->fault, .failure = &answer.failure };
	struct fdlist fds = { .count = 0 };
	char go;

	if (maker_unshare(&attempt, setup) < 0) {
		helper_send_answer(socket, &answer, NULL);
		return EXIT_FAILURE;
	}
	/* The maps are written between the two. */
	if (helper_send_answer(socket, &answer, NULL) < 0 ||
	    packet_receive(socket, &go, sizeof(go), NULL, 0) != sizeof(go))
		return EXIT_FAILURE;
	helper_hide();
	if (open_namespaces(&attempt, &fds) == 0 && pivot(&attempt) == 0)
		answer.has_writable = answer.has_read_only = true;
	else
		fdlist_close(&fds);
	return helper_send_answer(socket, &answer, &fds) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* What a child says, blocking. 0; or -errno, why it failed. */
static int hear(const struct helper *helper, struct fdlist *fds, struct keeper_failure *ret_why)
{
	struct helper_answer answer;
	int result;

	do {
		result = helper_receive_answer(helper->socket, &answer, fds, 0);
	} while (result == -EINTR);
	if (result <= 0) {
		step_failure(ret_why, STEP_HELPER, result < 0 ? -result : ECHILD);
		return -ret_why->error;
	}
	*ret_why = answer.failure;
	return -answer.failure.error;
}

static int map(const struct keeper_setup *setup, pid_t maker, struct keeper_failure *ret_why)
{
	struct mapper_context context = { .maker = maker };
	struct helper_job job = {
		.name = "shmb-mapper",
		.run = mapper_run,
		.context = &context,
		.keep = { -EBADF, -EBADF },
	};
	struct attempt attempt = { .fault = setup->fault, .failure = ret_why };
	struct fdlist fds = { .count = 0 };
	struct helper mapper;
	int result;

	result = step_try(&attempt, STEP_READ_MAP) ? read_maps(&context, setup) : -errno;
	if (result < 0) {
		step_failure(ret_why, STEP_READ_MAP, -result);
		return result;
	}
	result = helper_fork(&mapper, setup, &job);
	if (result < 0) {
		step_failure(ret_why, STEP_FORK, -result);
		return result;
	}
	result = hear(&mapper, &fds, ret_why);
	helper_end(&mapper);
	return result;
}

static int talk_to_maker(const struct keeper_setup *setup, const struct helper *maker,
			 struct fdlist *fds, struct keeper_failure *ret_why)
{
	char byte = 0;
	struct iovec go = { .iov_base = &byte, .iov_len = 1 };
	int result = hear(maker, fds, ret_why);

	if (result == 0)
		result = map(setup, maker->pid, ret_why);
	if (result < 0)
		return result;
	result = packet_send(maker->socket, &go, 1, NULL, 0);
	if (result < 0) {
		step_failure(ret_why, STEP_HELPER, -result);
		return result;
	}
	return hear(maker, fds, ret_why);
}

int table_make(const struct keeper_setup *setup, int *ret_userns, int *ret_mntns,
	       struct keeper_failure *ret_why)
{
	struct helper_job job = {
		.name = "shmb-maker",
		.run = maker_run,
		.keep = { -EBADF, -EBADF },
		/* An ordinary user can't write the maps of a process that is hidden. */
		.dumpable = !helper_has_own_ids(setup),
	};
	struct fdlist fds = { .count = 0 };
	struct helper maker;
	int result = helper_fork(&maker, setup, &job);

	if (result < 0) {
		step_failure(ret_why, STEP_FORK, -result);
		return result;
	}
	result = talk_to_maker(setup, &maker, &fds, ret_why);
	helper_end(&maker);
	if (result == 0 && fds.count == 2) {
		*ret_userns = fds.fd[0];
		*ret_mntns = fds.fd[1];
		return 0;
	}
	fdlist_close(&fds);
	return result < 0 ? result : -EPROTO;
}

int table_enter(const struct attempt *attempt, const struct keeper_setup *setup, int userns,
		int mntns)
{
	_cleanup_close_ int user = userns, mounts = mntns;
	int result = helper_take_ids(attempt, setup);

	if (result < 0)
		return result;
	/* One flag at a time: the rights over the second come with the first. */
	if (!step_try(attempt, STEP_SETNS) || setns(user, CLONE_NEWUSER) < 0)
		return step_failed(attempt, STEP_SETNS);
	helper_hide();
	if (setns(mounts, CLONE_NEWNS) < 0 || chdir("/") < 0)
		return step_failed(attempt, STEP_SETNS);
	helper_hide();
	return 0;
}
