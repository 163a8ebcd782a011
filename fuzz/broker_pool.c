/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is in the pools, and what clients keep of it, against the model: see broker.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/fd.h"
#include "fuzz/broker.h"

int pool_directory(enum model_pool pool)
{
	struct instance *instance = in_process_pool(run.server, model_pool_names[pool]);

	creds_reset(&run.broker->creds);
	return instance ? instance->writable : -EBADF;
}

static void check_entry(const struct model_object *object, const struct stat *st)
{
	if (object->is_sealed) {
		EXPECT(st->st_ino == object->ino && st->st_size == 0 && (st->st_mode & 07777) == 0,
		       "%s: not its holder", object->name);
		return;
	}
	EXPECT(S_ISREG(st->st_mode) == object->is_plain, "%s: of another type", object->name);
	if (!object->is_plain)
		return;
	EXPECT(st->st_ino == object->ino, "%s: another object", object->name);
	EXPECT((uint64_t)st->st_size == object->size, "%s: %lld bytes, not %llu", object->name,
	       (long long)st->st_size, (unsigned long long)object->size);
	EXPECT((st->st_mode & 07777) == object->mode, "%s: mode %o, not %o", object->name,
	       st->st_mode & 07777, object->mode);
	EXPECT(st->st_uid == object->uid, "%s: of %u, not %u", object->name, st->st_uid,
	       object->uid);
}

/* The name that an object has after a try to publish it, until the next. */
static bool is_hidden(enum model_pool pool, const char *name, const struct stat *st)
{
	if (strncmp(name, NAME_RESERVED_PREFIX, strlen(NAME_RESERVED_PREFIX)) != 0)
		return false;
	for (size_t i = 0; i < MODEL_NAMES; i++) {
		const struct model_object *object = &run.model.object[i];

		if (!object->is_used || object->pool != pool || object->unpublished_of < 0)
			continue;
		if (object->is_sealed ? st->st_size == 0 && (st->st_mode & 07777) == 0
				      : st->st_ino == object->ino)
			return true;
	}
	return false;
}

void pool_check(enum model_pool pool)
{
	int directory = pool_directory(pool), fd;
	unsigned there = 0, known = 0;
	DIR *listing;

	for (size_t i = 0; i < MODEL_NAMES; i++)
		known += run.model.object[i].is_used && run.model.object[i].pool == pool &&
			 run.model.object[i].unpublished_of < 0;
	if (directory < 0) {
		EXPECT(known == 0, "pool %s has gone, with %u names", model_pool_names[pool],
		       known);
		return;
	}
	fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	listing = fdopendir(fd);
	EXPECT(listing, "%s", strerror(errno));
	for (const struct dirent *entry; (entry = readdir(listing));) {
		const struct model_object *object;
		struct stat st;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		EXPECT(fstatat(directory, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0, "%s",
		       strerror(errno));
		if (is_hidden(pool, entry->d_name, &st))
			continue;
		object = model_find(&run.model, entry->d_name);
		EXPECT(object && object->pool == pool, "%s in pool %s: nobody made it",
		       entry->d_name, model_pool_names[pool]);
		check_entry(object, &st);
		there++;
	}
	closedir(listing);
	EXPECT(there == known, "%u names in pool %s, not %u", there, model_pool_names[pool], known);
}

/* --- descriptors --- */

void pool_hold(int fd, const struct model_object *object, bool may_write)
{
	if (run.held_count == HELD_MAX)
		close(run.held[--run.held_count].fd);
	run.held[run.held_count++] = (struct held){ fd, may_write, object->is_sealed, object->pool,
						    object->memory };
	run.model.held = run.held_count;
}

/* What the kernel says of its size is so for every name that it has. */
static void resized(const struct held *held)
{
	struct stat st;

	EXPECT(fstat(held->fd, &st) == 0, "%s", strerror(errno));
	for (size_t i = 0; i < MODEL_NAMES; i++) {
		struct model_object *object = &run.model.object[i];

		if (!object->is_used || object->pool != held->pool ||
		    object->memory != held->memory || object->is_sealed != held->is_sealed)
			continue;
		EXPECT(!object->is_sealed || object->size == (uint64_t)st.st_size,
		       "%s: sealed, and of another size", object->name);
		object->size = (uint64_t)st.st_size;
	}
}

static bool is_published(const struct held *held)
{
	for (size_t i = 0; i < MODEL_NAMES; i++) {
		const struct model_object *object = &run.model.object[i];

		if (object->is_used && object->is_sealed && object->pool == held->pool &&
		    object->memory == held->memory && object->unpublished_of < 0)
			return true;
	}
	return false;
}

void pool_use_held(struct bytes *in)
{
	uint8_t how = take_byte(in);
	struct held *held;
	bool done;

	if (run.held_count == 0)
		return;
	held = &run.held[how % run.held_count];
	if (how >= 224) {
		close(held->fd);
		*held = run.held[--run.held_count];
		run.model.held = run.held_count;
		return;
	}
	if (how & 32)
		done = ftruncate(held->fd, (off_t)take_number(in, 2)) == 0;
	else
		done = pwrite(held->fd, "x", 1, (off_t)take_number(in, 3)) == 1;
	EXPECT(!done || held->may_write, "what was opened for reading was written to");
	/* To truncate it to the size that it has is no change. */
	EXPECT(!done || how & 32 || !held->is_sealed || !is_published(held),
	       "what is sealed was written to");
	resized(held);
}

/* By no way that leads through the descriptor. */
static void check_read_only(int fd, const struct model_object *object)
{
	char link[32];
	int again;

	if (!object->is_sealed && !run.model.has_twin[object->pool])
		return;
	creds_reset(&run.broker->creds);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	again = open(link, O_RDWR | O_CLOEXEC);
	EXPECT(again < 0 || (object->is_sealed && write(again, "x", 1) < 0),
	       "%s: what was opened for reading was opened for writing", object->name);
	fd_close(again);
	if (!object->is_sealed)
		EXPECT(fchmod(fd, 0777) < 0 && errno == EROFS, "%s: its mode was changed",
		       object->name);
}

static int access_of(uint32_t flags)
{
	return (flags & WIRE_WRITE ? flags & WIRE_READ ? O_RDWR : O_WRONLY : O_RDONLY) |
	       (flags & WIRE_APPEND ? O_APPEND : 0);
}

void pool_check_descriptor(int fd, const struct model_object *object, uint32_t flags)
{
	const int told = O_ACCMODE | O_APPEND | O_NONBLOCK | O_DIRECTORY | O_PATH | O_SYNC;
	struct stat st;

	EXPECT(fcntl(fd, F_GETFD) == FD_CLOEXEC, "not closed at exec");
	EXPECT((fcntl(fd, F_GETFL) & told) == access_of(flags), "%s: flags %o, not %o",
	       object->name, fcntl(fd, F_GETFL) & told, access_of(flags));
	EXPECT(fstat(fd, &st) == 0 && S_ISREG(st.st_mode), "%s: no object", object->name);
	EXPECT(st.st_ino == object->memory, "%s: another object", object->name);
	EXPECT((uint64_t)st.st_size == object->size, "%s: %lld bytes, not %llu", object->name,
	       (long long)st.st_size, (unsigned long long)object->size);
	EXPECT((st.st_mode & 07777) == object->mode, "%s: mode %o, not %o", object->name,
	       st.st_mode & 07777, object->mode);
	EXPECT(st.st_uid == object->uid, "%s: of %u, not %u", object->name, st.st_uid, object->uid);
	if (!(flags & WIRE_WRITE))
		check_read_only(fd, object);
}

uint64_t pool_ino(int fd)
{
	struct stat st;

	EXPECT(fstat(fd, &st) == 0, "%s", strerror(errno));
	return st.st_ino;
}
