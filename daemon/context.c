/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Makes contexts for the broker and ends them when nobody holds them any more. */
#include "daemon/context.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/fd.h"

static void context_free(struct context *context)
{
	struct contexts *all = context->all;

	all->loop->unwatch(all->loop, &context->watch);
	fd_close(context->hold);
	quota_release(all->quota, &context->charge);
	ids_done(&context->maker);
	free(context->app);
	free(context);
}

static void context_end(struct context *context)
{
	struct contexts *all = context->all;

	/* Told by the loop: the process may still be the last caller. */
	creds_reset(all->creds);
	LIST_REMOVE(context, entry);
	all->events->ended(all->events->context, context);
	context_place_remove(all->base, &context->place);
	context_free(context);
}

/* The last copy of the other end is closed. */
static void not_held(struct watch *watch)
{
	context_end((struct context *)((char *)watch - offsetof(struct context, watch)));
}

/*
 * Its maker gets the reading end, so that he can't send us anything; ours, the
 * writing one, is in error when no reading one is left, and never readable.
 */
static int make_hold(struct context *context, int *ret_theirs)
{
	struct contexts *all = context->all;
	int ends[2];
	int error;

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	context->watch.ready = not_held;
	error = all->loop->watch(all->loop, &context->watch, ends[1]);
	if (error < 0) {
		fd_close(ends[0]);
		fd_close(ends[1]);
		return error;
	}
	context->hold = ends[1];
	*ret_theirs = ends[0];
	return 0;
}

static int make_place(struct context *context)
{
	struct contexts *all = context->all;
	int error;

	error = context_place_make(&context->place, all->base, context->maker.uid);
	if (error < 0)
		return error;
	error = context_place_path(context->path, sizeof(context->path), all->base,
				   &context->place);
	if (error == 0)
		error = all->events->made(all->events->context, context);
	if (error < 0)
		context_place_remove(all->base, &context->place);
	return error;
}

static int client_errno(int error, const char **ret_why)
{
	switch (error) {
	case -EOPNOTSUPP:
		*ret_why = "the file system of the contexts' directory has no access control lists";
		return EOPNOTSUPP;
	case -EMFILE:
	case -ENFILE:
		return ENFILE;
	case -ENOMEM:
	case -ENOSPC:
		return -error;
	default:
		*ret_why = "the contexts' directory can't be used";
		return EOPNOTSUPP;
	}
}

int context_new(struct contexts *contexts, const struct peer *maker, const char *app,
		const struct config_limits *limits, struct context **ret, int *ret_hold,
		const char **ret_why)
{
	const struct quota_limit limit = { limits->contexts, limits->contexts_per_user };
	_cleanup_close_ int theirs = -EBADF;
	struct context *context;
	int error;

	if (!contexts->base) {
		*ret_why = "this broker has no directory for contexts";
		return EOPNOTSUPP;
	}
	context = calloc(1, sizeof(*context));
	if (!context)
		return ENOMEM;
	context->all = contexts;
	context->hold = -EBADF;
	error = quota_charge(contexts->quota, &context->charge, RESOURCE_CONTEXT, maker->ids.uid,
			     false, &limit);
	if (error == -EDQUOT || error == -EUSERS) {
		*ret_why = error == -EDQUOT ? "too many contexts of this user"
					    : "too many contexts";
		context_free(context);
		return EDQUOT;
	}
	if (error == 0)
		error = ids_copy(&context->maker, &maker->ids);
	if (error == 0) {
		context->app = strdup(app);
		error = context->app ? make_hold(context, &theirs) : -ENOMEM;
	}
	if (error == 0)
		error = make_place(context);
	if (error < 0) {
		context_free(context);
		return client_errno(error, ret_why);
	}
	LIST_INSERT_HEAD(&contexts->list, context, entry);
	*ret = context;
	*ret_hold = steal_fd(&theirs);
	return 0;
}

void contexts_done(struct contexts *contexts)
{
	struct context *context;

	while ((context = LIST_FIRST(&contexts->list)))
		context_end(context);
}
