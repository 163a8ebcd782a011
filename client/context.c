/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Contexts: sockets of their own for sandboxes. Called by who starts sandboxes, shmctl too. */
#include <errno.h>
#include <string.h>

#include "client/internal.h"

/* Where the reply goes. */
struct context_reply {
	struct shmb *c;
	char *directory;
	size_t directory_size;
	int hold;
};

/* Closing the hold ends the context: that is what becomes of one whose path has no room. */
static int take_context(const char *body, size_t size, struct fdlist *fds, void *userdata)
{
	struct context_reply *reply = userdata;

	if (reply->hold >= 0 || fds->count != 1 || fds->kind[0] != WIRE_FD_HOLD || size == 0 ||
	    body[0] != '/' || memchr(body, 0, size)) {
		reply->hold = fd_close(reply->hold);
		return shmb_broken(reply->c, "a context that can't be");
	}
	if (size >= reply->directory_size)
		return shmb_fail(reply->c, -ERANGE, "the directory's path has %zu bytes", size);
	memcpy(reply->directory, body, size);
	reply->directory[size] = '\0';
	reply->hold = fdlist_steal_only(fds);
	return 0;
}

static int ask_context(struct context_reply *reply, const char *app)
{
	size_t size = strlen(app);
	char body[sizeof(uint64_t) + WIRE_APP_MAX] = { 0 }; /* flags, then the app */
	int r;

	if (!name_is_app(app, size))
		return shmb_fail(reply->c, -EINVAL, NAME_APP_RULE);
	memcpy(body + sizeof(uint64_t), app, size);
	r = shmb_raw_call(reply->c, WIRE_CREATE_CONTEXT, body, sizeof(uint64_t) + size,
			  take_context, reply);
	if (r < 0)
		reply->hold = fd_close(reply->hold);
	return r < 0 ? r : reply->hold;
}

int shmb_create_context(struct shmb *c, const struct shmb_context *how, size_t how_size,
			char *ret_dir, size_t dir_size)
{
	struct context_reply reply = {
		.c = c,
		.directory = ret_dir,
		.directory_size = dir_size,
		.hold = -EBADF,
	};
	struct shmb_context known;
	_no_cancel_;
	int r = shmb_begin(c);

	if (r < 0)
		return r;
	r = shmb_take(&known, sizeof(known), how, how_size, SHMB_CONTEXT_FIRST);
	if (r < 0)
		return shmb_fail(c, r, "a struct shmb_context of another size");
	if (known.flags != 0 || !known.app)
		return shmb_fail(c, -EINVAL, "unknown bits in flags, or no app");
	return ask_context(&reply, known.app);
}
