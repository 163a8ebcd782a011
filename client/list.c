/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Listings: a request with many replies, each full of records. Also reads single
 * records for stat.
 */
#include <errno.h>
#include <string.h>

#include "client/internal.h"
#include "client/record.h"

#define INFO_SIZE_MAX 65536 /* bytes: nobody's structure is larger */

/* No hidden padding: the structures are the library's ABI. */
_Static_assert(sizeof(struct shmb_info) == 56 + 256 + 64 + 256, "struct shmb_info");
_Static_assert(sizeof(struct shmb_how) == 32, "struct shmb_how");

int shmb_record_read(struct shmb_info *ret, const char *body, size_t size, size_t *ret_used)
{
	struct wire_info wire;
	size_t strings;

	if (size < sizeof(wire))
		return -EPROTO;
	memcpy(&wire, body, sizeof(wire));
	strings = (size_t)wire.name_size + wire.pool_size + wire.owner_size;
	if (wire.record_size % 8 != 0 || wire.record_size > size ||
	    wire.record_size < sizeof(wire) + strings)
		return -EPROTO;
	if (wire.name_size == 0 || wire.pool_size >= sizeof(ret->pool))
		return -EPROTO;
	body += sizeof(wire);
	if (memchr(body, 0, strings) || memchr(body, '/', wire.name_size))
		return -EPROTO;
	*ret = (struct shmb_info){
		.size = wire.size,
		.allocated = wire.allocated,
		.ino = wire.ino,
		.created_ns = wire.created_ns,
		.uid = wire.uid,
		.gid = wire.gid,
		.mode = wire.mode,
		.flags = wire.flags,
		.creator_pid = wire.creator_pid,
	};
	memcpy(ret->name, body, wire.name_size);
	memcpy(ret->pool, body + wire.name_size, wire.pool_size);
	memcpy(ret->owner, body + wire.name_size + wire.pool_size, wire.owner_size);
	*ret_used = wire.record_size;
	return 0;
}

/* One listing, as its caller sees it. */
struct listing {
	struct shmb *c;
	shmb_list_fn fn;
	void *userdata;
	struct shmb_info *info; /* of the caller's size, whose rest is zero */
};

static int tell(struct listing *l)
{
	int r;

	l->c->busy = true;
	r = l->fn(l->info, l->userdata);
	l->c->busy = false;
	return r;
}

static int list_part(const char *body, size_t size, struct fdlist *fds, void *userdata)
{
	struct listing *l = userdata;

	if (fds->count > 0)
		return shmb_broken(l->c, "descriptors in a listing");
	while (size > 0) {
		size_t used;
		int r;

		if (shmb_record_read(l->info, body, size, &used) < 0)
			return shmb_broken(l->c, "a record that can't be");
		r = tell(l);
		if (r != 0)
			return r;
		body += used;
		size -= used;
	}
	return 0;
}

static int list(struct listing *l, const char *pattern, size_t info_size)
{
	struct name stripped = name_strip(pattern, strlen(pattern));
	_cleanup_free_ struct shmb_info *info = NULL;

	if (stripped.size == 0)
		return shmb_fail(l->c, -EINVAL, "an empty pattern");
	if (stripped.size > WIRE_REQUEST_MAX - sizeof(struct wire_name))
		return shmb_fail(l->c, -ENAMETOOLONG, "the pattern is too long");
	/* A program that knows less of it looks at its beginning. */
	info = calloc(1, info_size > sizeof(*info) ? info_size : sizeof(*info));
	if (!info)
		return shmb_fail(l->c, -ENOMEM, "no memory");
	l->info = info;
	return shmb_raw_call(l->c, WIRE_LIST, stripped.text, stripped.size, list_part, l);
}

int shmb_list(struct shmb *c, const char *pattern, size_t info_size, shmb_list_fn fn,
	      void *userdata)
{
	struct listing l = { .c = c, .fn = fn, .userdata = userdata };
	_no_cancel_;
	int r = shmb_begin(c);

	if (r < 0)
		return r;
	if (info_size < SHMB_INFO_FIRST)
		return shmb_fail(c, -EINVAL, "a struct shmb_info of another size");
	if (info_size > INFO_SIZE_MAX)
		return shmb_fail(c, -E2BIG, "a struct shmb_info of another size");
	return list(&l, pattern ? pattern : "*", info_size);
}
