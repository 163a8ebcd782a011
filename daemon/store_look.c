/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How full the pools are: looked at by the edge from time to time. */
#include <sys/vfs.h>
#include <syslog.h>

#include "daemon/store_private.h"

/* Per cent. */
#define FULL 90
#define FULL_NO_MORE 80

struct store_objects store_objects(const struct instance *instance, const struct statfs *fs)
{
	/* The root directory is an inode, too. */
	uint64_t ours = *instance->waypoint ? 2 : 1;

	if (fs->f_files < ours)
		return (struct store_objects){ 0 };
	return (struct store_objects){
		.limit = fs->f_files - ours,
		.count = fs->f_files - fs->f_ffree > ours ? fs->f_files - fs->f_ffree - ours : 0,
	};
}

/* In per cent, of bytes or objects, whichever is more. */
static unsigned fullness(const struct instance *instance, const struct statfs *fs)
{
	uint64_t bytes = fs->f_blocks ? (fs->f_blocks - fs->f_bfree) * 100 / fs->f_blocks : 0;
	struct store_objects objects = store_objects(instance, fs);
	uint64_t files = objects.limit ? objects.count * 100 / objects.limit : 0;

	return (unsigned)(bytes > files ? bytes : files);
}

unsigned store_private_count(const struct store *store)
{
	const struct instance *instance;
	unsigned count = 0;

	TAILQ_FOREACH (instance, &store->instances, entry)
		count += instance->pool->config.kind == POOL_MADE &&
			 instance->state == INSTANCE_READY;
	return count;
}

unsigned store_look(struct store *store, uint64_t *ret_objects)
{
	struct instance *instance;
	unsigned count = 0;
	struct statfs fs;

	*ret_objects = 0;
	TAILQ_FOREACH (instance, &store->instances, entry) {
		unsigned full;

		if (instance->state != INSTANCE_READY || store_usage(instance, &fs) < 0)
			continue;
		count++;
		if (instance->pool->config.kind == POOL_MADE)
			*ret_objects += store_objects(instance, &fs).count;
		full = fullness(instance, &fs);
		if (full > FULL && !instance->told_full)
			instance_notice(store, instance, NOTICE_POOL_FULL, LOG_WARNING,
					"is %u%% full", full);
		/* Told again only when it wasn't for a while. */
		if (full > FULL || full < FULL_NO_MORE)
			instance->told_full = full > FULL;
	}
	return count;
}
