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
	state_remove(all->state, STATE_CONTEXT, context->place.number);
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

/*
 * Noted before its descriptors are: those without a note belong to nothing. With a part of his
 * groups other rules would match its maker after a restart.
 */
static int remember(const struct context *context)
{
	const struct ids *maker = &context->maker;
	char groups[STATE_VALUE_MAX];

	if (!state_is_kept(context->all->state))
		return 0;
	if (!ids_text(groups, sizeof(groups), maker))
		return -ENAMETOOLONG;
	return state_put(context->all->state, STATE_CONTEXT, context->place.number, "%u/%u/%s/%s",
			 maker->uid, maker->gid, groups, context->app);
}

static int open_place(struct context *context)
{
	struct contexts *all = context->all;
	int error;

	error = context_place_path(context->path, sizeof(context->path), all->base,
				   &context->place);
	if (error == 0)
		error = all->events->made(all->events->context, context);
	return error;
}

static int make_place(struct context *context)
{
	struct contexts *all = context->all;
	int error;

	error = context_place_make(&context->place, all->base, context->maker.uid);
	if (error < 0)
		return error;
	error = remember(context);
	if (error == 0)
		error = open_place(context);
	if (error < 0) {
		state_remove(all->state, STATE_CONTEXT, context->place.number);
		context_place_remove(all->base, &context->place);
	}
	return error;
}

static int client_errno(int error, const char **ret_why)
{
	switch (error) {
	case -EOPNOTSUPP:
		*ret_why = "the file system of the contexts' directory has no access control lists";
		return EOPNOTSUPP;
	case -ENAMETOOLONG:
		*ret_why = "its maker has more groups than can be noted for a restart";
		return EOPNOTSUPP;
	case -EAGAIN:
		*ret_why = "the service manager doesn't keep up";
		return EDQUOT;
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

static struct context *context_alloc(struct contexts *contexts)
{
	struct context *context = calloc(1, sizeof(*context));

	if (!context)
		return NULL;
	context->all = contexts;
	context->hold = context->place.listener = -EBADF;
	context->watch.ready = not_held;
	return context;
}

int context_new(struct contexts *contexts, const struct peer *maker, const char *app,
		const struct config_limits *limits, struct context **ret, int *ret_hold,
		const char **ret_why)
{
	const uint32_t stored = (QUOTA_STORED_MOST - contexts->quota->total[RESOURCE_SEALED]) / 2;
	const struct quota_limit limit = {
		.total = limits->contexts < stored ? limits->contexts : stored,
		.per_user = limits->contexts_per_user,
	};
	_cleanup_close_ int theirs = -EBADF;
	struct context *context;
	int error;

	if (!contexts->base) {
		*ret_why = "this broker has no directory for contexts";
		return EOPNOTSUPP;
	}
	context = context_alloc(contexts);
	if (!context)
		return ENOMEM;
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

bool contexts_have(const struct contexts *contexts, uint64_t number)
{
	const struct context *context;

	LIST_FOREACH (context, &contexts->list, entry)
		if (context->place.number == number)
			return true;
	return false;
}

/* What a note says of it. 0 or -errno: -EINVAL when it is none. */
static int read_note(struct context *context, uint64_t number, char *value)
{
	struct contexts *all = context->all;
	int error = ids_parse(&context->maker, &value);

	if (error < 0)
		return error;
	if (!value)
		return -EINVAL;
	context->place.maker = context->maker.uid;
	context->place.number = (uint32_t)number;
	if (all->base->next <= number)
		all->base->next = (uint32_t)number + 1;
	context->app = strdup(value);
	return context->app ? 0 : -ENOMEM;
}

/* With both of its descriptors. 0 or -errno: -ENOENT and -EINVAL when nobody knows of it. */
static int revive(struct context *context, uint32_t number)
{
	static const struct quota_limit any = { UINT32_MAX, UINT32_MAX, false };
	struct contexts *all = context->all;
	char note[STATE_VALUE_MAX + 1];
	int error;

	if (!all->base)
		return -EOPNOTSUPP;
	if (!state_is_kept(all->state))
		return -ENODATA;
	error = state_get(all->state, STATE_CONTEXT, number, note);
	if (error == 0)
		error = read_note(context, number, note);
	if (error < 0)
		return error;
	context->place.refuses_descriptors = place_refuse_descriptors(context->place.listener);
	error = quota_charge(all->quota, &context->charge, RESOURCE_CONTEXT, context->maker.uid,
			     false, &any);
	if (error == 0)
		error = all->loop->watch(all->loop, &context->watch, context->hold);
	if (error == 0)
		error = open_place(context);
	return error;
}

int context_restore(struct contexts *contexts, uint32_t number, int hold, int listener)
{
	struct context *context = context_alloc(contexts);
	bool has_ended = hold < 0 || listener < 0;
	int error;

	if (!context) {
		fd_close(hold);
		fd_close(listener);
		return -ENOMEM;
	}
	context->hold = hold;
	context->place.listener = listener;
	error = has_ended ? -ENOENT : revive(context, number);
	if (error == 0) {
		LIST_INSERT_HEAD(&contexts->list, context, entry);
		return 1;
	}
	fd_close(context->place.listener);
	context_free(context);
	return error == -ENOENT || error == -EINVAL ? 0 : error;
}

static void sweep(void *argument, uint64_t number, char *value)
{
	struct contexts *all = argument;
	struct context gone = { .all = all, .place.listener = -EBADF };

	if (contexts_have(all, number))
		return;
	if (read_note(&gone, number, value) == 0)
		context_place_remove(all->base, &gone.place);
	ids_done(&gone.maker);
	free(gone.app);
	state_remove(all->state, STATE_CONTEXT, number);
}

void contexts_sweep(struct contexts *contexts)
{
	if (contexts->base)
		state_each(contexts->state, STATE_CONTEXT, sweep, contexts);
}

void contexts_done(struct contexts *contexts, bool leave)
{
	struct context *context;

	while ((context = LIST_FIRST(&contexts->list))) {
		if (!leave) {
			context_end(context);
			continue;
		}
		LIST_REMOVE(context, entry);
		contexts->events->ended(contexts->events->context, context);
		fd_close(context->place.listener);
		context_free(context);
	}
}
