/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How full the pools are: looked at by the edge from time to time. */
#include <sys/vfs.h>
#include <syslog.h>

#include "daemon/store_private.h"

/* Per cent. */
#define FULL 90
#define FULL_NO_MORE 80

/* In per cent, of bytes or objects, whichever is more. */
static unsigned fullness(const struct statfs *fs)
{
	uint64_t bytes = fs->f_blocks ? (fs->f_blocks - fs->f_bfree) * 100 / fs->f_blocks : 0;
	/* The root directory is an inode, too. */
	uint64_t files = fs->f_files > 1 ? (fs->f_files - fs->f_ffree - 1) * 100 / (fs->f_files - 1)
					 : 0;

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
		if (instance->pool->config.kind == POOL_MADE && fs.f_files > 0)
			*ret_objects += fs.f_files - fs.f_ffree - 1;
		full = fullness(&fs);
		if (full > FULL && !instance->told_full)
			instance_notice(store, instance, NOTICE_POOL_FULL, LOG_WARNING,
					"is %u%% full", full);
		/* Told again only when it wasn't for a while. */
		if (full > FULL || full < FULL_NO_MORE)
			instance->told_full = full > FULL;
	}
	return count;
}
