/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the keeper does inside the table, one request after the other. A pool is
 * a tmpfs that is mounted at its number; what leaves are detached clones of that mount and
 * directory descriptors of such, since from the attached one `..` leads to all pools.
 */
#include "daemon/table_pool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "daemon/fd.h"
#include "daemon/table.h"
#include "daemon/table_lend.h"

/* The least that a tmpfs can be told: nothing can be made or written in it any more. */
#define RELEASED_BYTES 4096
#define RELEASED_INODES 1

struct place {
	char name[16]; /* of the mount point, in the table's root */
};

static struct place place_of(uint32_t number)
{
	struct place place;

	snprintf(place.name, sizeof(place.name), "%" PRIu32, number);
	return place;
}

/* Who owns the pools' root directories: the broker, as it is numbered in the table. */
static uid_t broker_uid;
static gid_t broker_gid;

/* Whether a pool is mounted there. 0, -ENOENT, or another -errno. */
static int find(const struct place *place)
{
	struct statx status;

	if (statx(AT_FDCWD, place->name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_TYPE,
		  &status) < 0)
		return -errno;
	return status.stx_attributes & STATX_ATTR_MOUNT_ROOT ? 0 : -ENOENT;
}

static int require(const struct attempt *attempt, const struct place *place)
{
	int result = step_try(attempt, STEP_FIND) ? find(place) : -errno;

	if (result == 0)
		return 0;
	errno = -result;
	return step_failed(attempt, STEP_FIND);
}

/* 0 is unlimited to a tmpfs: nothing that becomes 0 may get through, by overflow neither. */
static int check_limits(const struct attempt *attempt, const struct keeper_request *request)
{
	if (step_try(attempt, STEP_LIMITS)) {
		if (request->size_bytes > 0 && request->size_bytes <= INT64_MAX &&
		    request->objects > 0 && request->objects < INT64_MAX)
			return 0;
		errno = EINVAL;
	}
	return step_failed(attempt, STEP_LIMITS);
}

static int set_number(int context, const char *key, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	return fsconfig(context, FSCONFIG_SET_STRING, key, text, 0);
}

static int set_text(int context, const char *key, const char *value)
{
	return value ? fsconfig(context, FSCONFIG_SET_STRING, key, value, 0) : 0;
}

/* The root directory takes an inode, too. -1 and errno. */
static int set_limits(int context, const struct keeper_request *request)
{
	if (set_number(context, "size", request->size_bytes) < 0)
		return -1;
	return set_number(context, "nr_inodes", request->objects + 1);
}

static int set_options(int context, const struct keeper_request *request)
{
	if (set_limits(context, request) < 0 || set_text(context, "mode", "1777") < 0 ||
	    set_number(context, "uid", broker_uid) < 0 ||
	    set_number(context, "gid", broker_gid) < 0 ||
	    set_text(context, "huge", request->huge) < 0)
		return -1;
	return set_text(context, "mpol", request->mpol);
}

/* A mount that is nowhere yet. A descriptor, or -errno. */
static int make_mount(const struct attempt *attempt, const struct keeper_request *request)
{
	unsigned attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOATIME;
	_cleanup_close_ int context = -EBADF;
	int tree;

	context = step_try(attempt, STEP_FSOPEN) ? fsopen("tmpfs", FSOPEN_CLOEXEC) : -1;
	if (context < 0)
		return step_failed(attempt, STEP_FSOPEN);
	if (!step_try(attempt, STEP_OPTION) || set_options(context, request) < 0)
		return step_failed(attempt, STEP_OPTION);
	if (!step_try(attempt, STEP_CREATE) ||
	    fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return step_failed(attempt, STEP_CREATE);
	if (!request->exec)
		attributes |= MOUNT_ATTR_NOEXEC;
	tree = step_try(attempt, STEP_FSMOUNT) ? fsmount(context, FSMOUNT_CLOEXEC, attributes) : -1;
	return tree < 0 ? step_failed(attempt, STEP_FSMOUNT) : tree;
}

/* A directory that is there with nothing mounted is left from an attempt that was cut short. */
static int make_place(const struct attempt *attempt, const struct place *place)
{
	if (step_try(attempt, STEP_MKDIR)) {
		if (mkdir(place->name, 0700) == 0)
			return 0;
		if (errno == EEXIST) {
			if (find(place) == -ENOENT)
				return 0;
			errno = EEXIST;
		}
	}
	return step_failed(attempt, STEP_MKDIR);
}

/* Attached first and cloned then: before Linux 6.15 a detached mount can't be cloned. */
static int attach(const struct attempt *attempt, const struct place *place, int tree)
{
	int result = make_place(attempt, place);

	if (result < 0)
		return result;
	if (step_try(attempt, STEP_MOVE_MOUNT) &&
	    move_mount(tree, "", AT_FDCWD, place->name, MOVE_MOUNT_F_EMPTY_PATH) == 0)
		return 0;
	result = step_failed(attempt, STEP_MOVE_MOUNT);
	rmdir(place->name);
	return result;
}

/* A mount of it that is nowhere. A descriptor, or -errno. */
static int clone(const struct attempt *attempt, const struct place *place, enum step step)
{
	int tree = step_try(attempt, step)
			   ? open_tree(AT_FDCWD, place->name,
				       OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW)
			   : -1;

	return tree < 0 ? step_failed(attempt, step) : tree;
}

/* A directory descriptor of a clone of its own, from which no `..` leads anywhere. 0 or -errno. */
static int open_clone(const struct attempt *attempt, const struct place *place, bool read_only,
		      struct fdlist *fds)
{
	struct mount_attr attributes = { .attr_set = MOUNT_ATTR_RDONLY };
	_cleanup_close_ int tree = clone(attempt, place, STEP_OPEN_TREE);
	int fd;

	if (tree < 0)
		return tree;
	if (read_only &&
	    (!step_try(attempt, STEP_MOUNT_SETATTR) ||
	     mount_setattr(tree, "", AT_EMPTY_PATH, &attributes, sizeof(attributes)) < 0))
		return step_failed(attempt, STEP_MOUNT_SETATTR);
	fd = step_try(attempt, STEP_OPENAT) ? openat(tree, ".", O_DIRECTORY | O_RDONLY | O_CLOEXEC)
					    : -1;
	if (fd < 0)
		return step_failed(attempt, STEP_OPENAT);
	return fdlist_take(fds, fd, WIRE_FD_DIRECTORY);
}

static int open_both(const struct attempt *attempt, const struct place *place, struct fdlist *fds)
{
	int result = open_clone(attempt, place, false, fds);

	if (result == 0)
		result = open_clone(attempt, place, true, fds);
	if (result < 0)
		fdlist_close(fds);
	return result;
}

static int make(const struct attempt *attempt, const struct keeper_request *request,
		struct fdlist *fds)
{
	struct place place = place_of(request->number);
	_cleanup_close_ int tree = -EBADF;
	int result = check_limits(attempt, request);

	if (result < 0)
		return result;
	tree = make_mount(attempt, request);
	if (tree < 0)
		return tree;
	result = attach(attempt, &place, tree);
	if (result < 0)
		return result;
	result = open_both(attempt, &place, fds);
	if (result < 0) {
		/* Nobody has seen it: it is not in use but by the descriptor here. */
		tree = fd_close(tree);
		if (umount2(place.name, UMOUNT_NOFOLLOW) == 0)
			rmdir(place.name);
	}
	return result;
}

/* 0 or -errno, with the failure noted. What isn't set stays as it is. */
static int reconfigure(const struct attempt *attempt, const struct place *place,
		       uint64_t size_bytes, uint64_t inodes)
{
	_cleanup_close_ int context = -EBADF;

	context = step_try(attempt, STEP_FSPICK)
			  ? fspick(AT_FDCWD, place->name,
				   FSPICK_CLOEXEC | FSPICK_NO_AUTOMOUNT | FSPICK_SYMLINK_NOFOLLOW)
			  : -1;
	if (context < 0)
		return step_failed(attempt, STEP_FSPICK);
	if (!step_try(attempt, STEP_RECONFIGURE) || set_number(context, "size", size_bytes) < 0 ||
	    set_number(context, "nr_inodes", inodes) < 0 ||
	    fsconfig(context, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) < 0)
		return step_failed(attempt, STEP_RECONFIGURE);
	return 0;
}

static int resize(const struct attempt *attempt, const struct keeper_request *request)
{
	struct place place = place_of(request->number);
	int result = require(attempt, &place);

	if (result == 0)
		result = check_limits(attempt, request);
	if (result == 0)
		result = reconfigure(attempt, &place, request->size_bytes, request->objects + 1);
	return result;
}

/* The pool is empty and can't be filled any more. */
static int detach(const struct attempt *attempt, const struct place *place)
{
	if (!step_try(attempt, STEP_UMOUNT) || umount2(place->name, UMOUNT_NOFOLLOW) < 0)
		return step_failed(attempt, STEP_UMOUNT);
	/* One that is left is used again by the next pool of that number. */
	if (step_try(attempt, STEP_RMDIR))
		rmdir(place->name);
	return 0;
}

/*
 * The kernel alone knows whether a pool is in use: it refuses limits below what is, in
 * one step with setting them, and counts objects that are unlinked but open.
 */
static int release(const struct attempt *attempt, const struct keeper_request *request)
{
	struct place place = place_of(request->number);
	struct keeper_failure ignored;
	struct attempt undo = { .failure = &ignored };
	struct statfs before;
	int result = require(attempt, &place);

	if (result < 0)
		return result;
	if (statfs(place.name, &before) < 0)
		return step_failed(attempt, STEP_FIND);
	result = reconfigure(attempt, &place, RELEASED_BYTES, RELEASED_INODES);
	if (result == -EINVAL) {
		errno = EBUSY;
		return step_failed(attempt, STEP_RECONFIGURE);
	}
	if (result < 0)
		return result;
	/* Who keeps one from being ended keeps his pool. */
	if (table_lend_end(request->number)) {
		result = detach(attempt, &place);
	} else {
		errno = EBUSY;
		result = step_failed(attempt, STEP_COUNT_LENT);
	}
	if (result < 0)
		reconfigure(&undo, &place, (uint64_t)before.f_blocks * (uint64_t)before.f_bsize,
			    before.f_files);
	return result;
}

/*
 * Who has a mount may set and clear its flags, so a read-only one would be no promise. The
 * superblock's limits hold.
 */
static int lend(const struct attempt *attempt, uint32_t number, struct fdlist *fds)
{
	struct place place = place_of(number);
	_cleanup_close_ int tree = -EBADF;
	int result = require(attempt, &place);

	if (result == 0)
		result = table_lend_room(attempt, number);
	if (result < 0)
		return result;
	tree = clone(attempt, &place, STEP_LEND);
	if (tree < 0)
		return tree;
	result = table_lend_note(attempt, number, tree);
	return result < 0 ? result : fdlist_take(fds, steal_fd(&tree), WIRE_FD_MOUNT);
}

static bool answer_pool(const struct keeper_request *request, struct helper_answer *answer,
			struct fdlist *fds, const struct keeper_setup *setup)
{
	struct attempt attempt = { .fault = setup->fault, .failure = &answer->failure };
	struct place place = place_of(request->number);

	switch (request->operation) {
	case KEEPER_MAKE:
		make(&attempt, request, fds);
		break;
	case KEEPER_FIND:
		if (require(&attempt, &place) == 0)
			open_both(&attempt, &place, fds);
		break;
	case KEEPER_RESIZE:
		resize(&attempt, request);
		break;
	case KEEPER_RELEASE:
		release(&attempt, request);
		break;
	case KEEPER_LEND:
		lend(&attempt, request->number, fds);
		break;
	case KEEPER_TWIN: /* the other helper's */
	default:
		errno = EINVAL;
		step_failed(&attempt, STEP_FIND);
	}
	answer->has_writable = fds->count >= 1;
	answer->has_read_only = fds->count == 2;
	return true;
}

int table_pool_run(int socket, const struct keeper_setup *setup, const void *context)
{
	const int *table = context;
	struct helper_answer hello = { .id = 0 };
	struct attempt attempt = { .fault = setup->fault, .failure = &hello.failure };
	int result;

	broker_uid = geteuid();
	broker_gid = broker_uid == 0 ? 0 : getegid();
	umask(0077);
	table_lend_init();
	result = table_enter(&attempt, setup, table[0], table[1]);
	if (result == 0)
		result = helper_confine(&attempt, setup->confine_keeper);
	if (helper_send_answer(socket, &hello, NULL) < 0 || result < 0)
		return EXIT_FAILURE;
	return helper_serve(socket, setup, answer_pool);
}
