/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sealed objects over a restart: those of the process before, and holders that it left. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "daemon/directory.h"
#include "daemon/fd.h"
#include "daemon/object_private.h"
#include "daemon/sealed_private.h"
#include "proto/holder.h"

static bool parse(struct sealed *sealed, char *value, uint64_t *ret_uid, uint64_t *ret_sandboxed)
{
	uint64_t owner_uid;

	if (!state_number(&value, ret_uid) || !state_number(&value, ret_sandboxed) ||
	    !state_number(&value, &sealed->holder_ino) || !state_number(&value, &owner_uid))
		return false;
	sealed->owner.uid = (uid_t)owner_uid;
	sealed->owner.text = state_word(&value);
	sealed->pool_name = state_word(&value);
	sealed->noted_name = value;
	return value && strlen(value) <= WIRE_NAME_MAX;
}

static int revive(struct sealed *sealed)
{
	struct quota_limit any = { UINT32_MAX, UINT32_MAX, false };
	struct sealed_set *all = sealed->all;
	char note[STATE_VALUE_MAX + 1];
	uint64_t uid, sandboxed;
	struct stat st;
	int error;

	error = state_get(all->state, STATE_SEALED, sealed->number, note);
	if (error < 0)
		return error;
	sealed->note = strdup(note);
	if (!sealed->note)
		return -ENOMEM;
	if (!parse(sealed, sealed->note, &uid, &sandboxed))
		return -ENOENT;
	if (fstat(sealed->memory, &st) < 0)
		return -errno;
	sealed->size = (uint64_t)st.st_size;
	sealed->is_sealed = true;
	/* Without it nobody tells when it is gone: it counts until the next start. */
	sealed_watch_memory(sealed);
	/* Of no more than that the note tells. */
	any.is_apart = sandboxed != 0;
	return quota_charge(all->quota, &sealed->charge, RESOURCE_SEALED, (uid_t)uid,
			    sandboxed != 0, &any);
}

int sealed_restore(struct sealed_set *all, uint32_t number, int memory)
{
	struct sealed *sealed = sealed_alloc(all);
	int error;

	if (!sealed) {
		fd_close(memory);
		return -ENOMEM;
	}
	sealed->memory = memory;
	sealed->number = number;
	if (all->last_number < number)
		all->last_number = number;
	creds_reset(all->env->creds);
	error = revive(sealed);
	if (error < 0)
		sealed_free(sealed);
	return error;
}

static void sweep_note(void *argument, uint64_t number, char *value)
{
	struct sealed_set *all = argument;
	const struct sealed *sealed;

	(void)value;
	LIST_FOREACH (sealed, &all->list, entry)
		if (sealed->number == number)
			return;
	state_remove(all->state, STATE_SEALED, number);
}

void sealed_sweep(struct sealed_set *all)
{
	creds_reset(all->env->creds);
	state_each(all->state, STATE_SEALED, sweep_note, all);
}

static bool is_of(const struct sealed *sealed, struct instance *instance)
{
	return sealed->note && !instance->pool->dropped &&
	       strcmp(sealed->pool_name, instance->pool->config.name) == 0 &&
	       store_find(instance->pool, &sealed->owner) == instance;
}

/* Says nothing of what is there, and nobody can bring it about by what he puts there. */
static bool is_want(int error)
{
	return error == -ENOMEM || error == -ENFILE || error == -EMFILE || error == -EPERM;
}

/*
 * What has this name, opened so that it can be locked, if it is that file: a descriptor; -ENOENT:
 * it is not; or another -errno: that can't be told now.
 */
static int open_holder(const struct sealed_set *all, const struct instance *instance,
		       const char *name, uint64_t ino)
{
	_cleanup_close_ int fd = object_open_own(all->env, instance, instance->writable, name,
						 O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return is_want(fd) ? fd : -ENOENT;
	if (fstat(fd, &st) < 0)
		return -errno;
	return st.st_ino == ino ? steal_fd(&fd) : -ENOENT;
}

/* 0; -ENOENT: its name is another's by now, or nobody's; or another -errno. */
static int find_holder(struct sealed *sealed, const struct instance *instance)
{
	int fd = open_holder(sealed->all, instance, sealed->noted_name, sealed->holder_ino);

	if (fd < 0)
		return fd;
	sealed->holder = fd;
	flock(sealed->holder, LOCK_EX | LOCK_NB);
	/* Without it the loss of the name is seen by who asks for it. */
	sealed_watch_holder(sealed);
	return 0;
}

/* 0 or -errno, as find_holder(). */
static int attach(struct sealed *sealed, struct instance *instance)
{
	int error = find_holder(sealed, instance);

	if (error < 0)
		return error;
	sealed_belong_to(sealed, instance);
	store_find_aside(instance, sealed->size);
	sealed->is_named = sealed_enter(sealed, sealed->noted_name);
	if (!sealed->is_named)
		return -ENOMEM;
	free(sealed->note);
	sealed->note = NULL;
	return 0;
}

/* Gone for good, or with its note left for the next start. */
static void give_up(struct sealed *sealed, int error)
{
	struct sealed_set *all = sealed->all;

	if (error == -ENOENT)
		sealed_forget(sealed);
	else if (!all->error)
		all->error = error;
	sealed_free(sealed);
}

static void remove_holder(const struct sealed_set *all, struct instance *instance, const char *name,
			  const struct stat *st)
{
	const struct ids owner = { .uid = st->st_uid, .gid = st->st_gid };

	object_unlink_if(all->env, instance, &owner, name, st->st_ino, NULL);
	creds_reset(all->env->creds);
}

/* One of ours has it, or one that waits for its pool, which may have this directory, too. */
static bool is_ours(const struct sealed_set *all, const struct instance *instance,
		    const struct stat *st)
{
	const struct sealed *sealed;

	LIST_FOREACH (sealed, &all->list, entry)
		if (sealed->holder_ino == st->st_ino &&
		    (sealed->note || sealed->instance == instance))
			return true;
	return false;
}

/* Whether a broker is there that has it: this one, by this pool or another, or one beside it. */
static bool is_somebodys(const struct sealed_set *all, const struct instance *instance,
			 const char *name, const struct stat *st)
{
	_cleanup_close_ int fd = open_holder(all, instance, name, st->st_ino);

	return fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0;
}

/* Of a broker that has gone without them: nobody can open what they stood for. */
static void sweep(struct sealed_set *all, struct instance *instance)
{
	DIR *listing = directory_list(instance->writable);
	const struct dirent *entry;
	struct stat st;

	while (listing && (entry = readdir(listing))) {
		if (entry->d_type != DT_REG ||
		    fstatat(instance->writable, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !is_holder(&st) || is_ours(all, instance, &st) ||
		    is_somebodys(all, instance, entry->d_name, &st))
			continue;
		remove_holder(all, instance, entry->d_name, &st);
	}
	if (listing)
		closedir(listing);
}

void sealed_ready(struct sealed_set *all, struct instance *instance)
{
	struct sealed *sealed, *next;

	creds_reset(all->env->creds);
	for (sealed = LIST_FIRST(&all->list); sealed; sealed = next) {
		int error;

		next = LIST_NEXT(sealed, entry);
		if (!is_of(sealed, instance))
			continue;
		error = attach(sealed, instance);
		if (error < 0)
			give_up(sealed, error);
	}
	/* What one is to be found by again that hasn't been now is not to go. */
	if (!all->error)
		sweep(all, instance);
}

void sealed_set_done(struct sealed_set *all, bool leave)
{
	struct sealed *sealed;
	struct stat st;

	while ((sealed = LIST_FIRST(&all->list))) {
		if (!leave && sealed->is_named && fstat(sealed->holder, &st) == 0)
			remove_holder(all, sealed->instance, name_key_name(&sealed->key), &st);
		if (!leave && sealed->is_named)
			sealed_forget(sealed);
		sealed_free(sealed);
	}
	sealed_watches_done(all);
}
