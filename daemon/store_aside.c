/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bytes that are somebody's in a pool without lying in its tmpfs: the memory of sealed objects. A
 * private pool's own size becomes as much smaller, so that the kernel holds the sum; where the
 * broker can't change the size, they are counted when they are asked for.
 */
#include <errno.h>
#include <string.h>
#include <sys/vfs.h>
#include <syslog.h>
#include <unistd.h>

#include "daemon/store_private.h"

static uint64_t page_size(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t in_pages(uint64_t bytes)
{
	const uint64_t page = page_size();

	return (bytes + page - 1) / page * page;
}

uint64_t instance_size(const struct instance *instance)
{
	uint64_t size = instance->pool->config.size_bytes;

	/* 0 would be no limit at all to tmpfs. */
	if (size < instance->aside_bytes + page_size() && instance->aside_bytes > 0)
		return page_size();
	return size - instance->aside_bytes;
}

int store_usage(const struct instance *instance, struct statfs *ret)
{
	uint64_t blocks;

	if (fstatfs(instance->writable, ret) < 0)
		return -errno;
	blocks = instance->aside_bytes / (uint64_t)ret->f_bsize;
	if (instance->pool->config.kind == POOL_MADE)
		ret->f_blocks += blocks;
	else
		ret->f_bfree -= blocks < ret->f_bfree ? blocks : ret->f_bfree;
	return 0;
}

/* Whether there is room: the kernel has the last word in a private pool. */
static bool has_room(const struct instance *instance, uint64_t bytes)
{
	struct statfs fs;
	uint64_t used;

	if (fstatfs(instance->writable, &fs) < 0)
		return false;
	used = (fs.f_blocks - fs.f_bfree) * (uint64_t)fs.f_bsize + instance->aside_bytes;
	return instance->limit_bytes == 0 ||
	       (used <= instance->limit_bytes && bytes <= instance->limit_bytes - used);
}

/* The claim ends, whatever becomes of the bytes. */
static void let_go(struct instance *instance, struct aside *aside)
{
	instance->pins--;
	aside->instance = NULL;
}

int store_set_aside(struct store *store, struct instance *instance, uint64_t bytes,
		    struct aside *ret)
{
	bytes = in_pages(bytes);
	if (instance->asking || store->apply.phase != APPLY_NONE)
		return EAGAIN;
	if (!has_room(instance, bytes))
		return ENOSPC;
	instance->aside_bytes += bytes;
	instance->pins++;
	*ret = (struct aside){ .instance = instance, .bytes = bytes, .state = ASIDE_HAD };
	if (instance->pool->config.kind != POOL_MADE || bytes == 0)
		return 0;
	if (instance_ask(store, instance, KEEPER_RESIZE, false) < 0) {
		let_go(instance, ret);
		instance->aside_bytes -= bytes;
		return ENOMEM;
	}
	ret->state = ASIDE_ASKED;
	instance->asking = ret;
	instance->asking_task = store->last_task;
	return 0;
}

bool aside_answered(struct store *store, struct instance *instance, const struct task *task,
		    const struct keeper_failure *failure)
{
	struct aside *aside = instance->asking;

	if (!aside || instance->asking_task != task->id)
		return false;
	instance->asking = NULL;
	aside->state = failure->error ? ASIDE_REFUSED : ASIDE_HAD;
	if (failure->error) {
		instance->aside_bytes -= aside->bytes;
		/* Others may have been asked for since: what it has by now isn't known here. */
		instance->asked_bytes = 0;
		let_go(instance, aside);
	}
	/* A reload may have come between. */
	instance_conform(store, instance, false);
	store_wake(instance);
	return true;
}

void store_give_back(struct store *store, struct instance *instance, uint64_t bytes)
{
	instance->aside_bytes -= in_pages(bytes);
	instance_conform(store, instance, false);
	store_wake(instance);
}

void store_unask(struct store *store, struct aside *aside)
{
	struct instance *instance = aside->instance;

	aside->state = ASIDE_NOTHING;
	if (!instance)
		return;
	let_go(instance, aside);
	if (instance->asking == aside)
		instance->asking = NULL;
	store_give_back(store, instance, aside->bytes);
}

void store_keep_aside(struct aside *aside)
{
	let_go(aside->instance, aside);
	aside->state = ASIDE_NOTHING;
}

void store_find_aside(struct instance *instance, uint64_t bytes)
{
	instance->aside_bytes += in_pages(bytes);
}
