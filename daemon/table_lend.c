/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Counts the mounts that are lent and attached nowhere. Each has a mount namespace to itself, which
 * the kernel charges to the table's user as those of the pools are: whoever keeps very many would
 * leave none for them.
 */
#include "daemon/table_lend.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "daemon/fd.h"

#define OF_ONE_POOL 16
#define OF_ALL 2048 /* of some 4,000 mount namespaces that a machine of 1 GiB has */

/* In the table's root: where one is put to be unmounted. No pool's, where its users might wait. */
#define ENDING "ending"

/*
 * By a descriptor of its own, which keeps nobody from closing it: the namespace goes with the last
 * copy of what open_tree() gave.
 */
static struct lent {
	uint32_t number; /* of the pool */
	int mount;
} lent[OF_ALL];
static size_t count, most;

void table_lend_init(void)
{
	long descriptors = sysconf(_SC_OPEN_MAX);

	most = descriptors < 0 || descriptors / 2 > OF_ALL ? OF_ALL : (size_t)descriptors / 2;
}

static size_t count_of(uint32_t number)
{
	size_t sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += lent[i].number == number;
	return sum;
}

/* The last takes its place. */
static void forget(size_t i)
{
	fd_close(lent[i].mount);
	lent[i] = lent[--count];
}

/*
 * Whether it still has a namespace to itself. The kernel changes a mount that is nowhere for us,
 * and neither one that is in somebody's namespace nor one that is gone: the flag is one that it
 * has.
 */
static bool is_nowhere(int mount)
{
	struct mount_attr attributes = { .attr_set = MOUNT_ATTR_NOSUID };

	return mount_setattr(mount, "", AT_EMPTY_PATH, &attributes, sizeof(attributes)) == 0 ||
	       errno != EINVAL;
}

static void forget_settled(uint32_t number, bool of_all)
{
	for (size_t i = count; i-- > 0;)
		if ((of_all || lent[i].number == number) && !is_nowhere(lent[i].mount))
			forget(i);
}

int table_lend_room(const struct attempt *attempt, uint32_t number)
{
	if (count_of(number) >= OF_ONE_POOL)
		forget_settled(number, false);
	if (count >= most)
		forget_settled(0, true);
	if (!step_try(attempt, STEP_COUNT_LENT))
		return step_failed(attempt, STEP_COUNT_LENT);
	if (count_of(number) < OF_ONE_POOL && count < most)
		return 0;
	errno = count < most ? EDQUOT : EUSERS;
	return step_failed(attempt, STEP_COUNT_LENT);
}

int table_lend_note(const struct attempt *attempt, uint32_t number, int tree)
{
	int mount = openat(tree, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (mount < 0)
		return step_failed(attempt, STEP_COUNT_LENT);
	lent[count++] = (struct lent){ .number = number, .mount = mount };
	return 0;
}

/* Only what is in one's own namespace can be unmounted. EINVAL: it is somewhere, or gone. */
static bool end(int mount)
{
	if (move_mount(mount, "", AT_FDCWD, ENDING, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return errno == EINVAL;
	return umount2(ENDING, MNT_DETACH | UMOUNT_NOFOLLOW) == 0;
}

bool table_lend_end(uint32_t number)
{
	bool all = true;

	if (count_of(number) == 0)
		return true;
	if (mkdir(ENDING, 0700) < 0 && errno != EEXIST)
		return false;
	for (size_t i = count; i-- > 0;) {
		if (lent[i].number != number)
			continue;
		if (end(lent[i].mount))
			forget(i);
		else
			all = false;
	}
	rmdir(ENDING);
	return all;
}
