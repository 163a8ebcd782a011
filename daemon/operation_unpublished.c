/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Objects that have no name yet: made for one connection, filled there, and published; those that
 * are sealed by it, too. Called by operation.c and broker.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/clock.h"
#include "daemon/fd.h"
#include "daemon/object_private.h"
#include "daemon/operation_private.h"

/* Objects without a name that one connection may hold. */
#define UNPUBLISHED_PER_CALLER 64
/* And a user, and all together: each is a descriptor of ours. */
#define UNPUBLISHED_PER_USER 512
#define UNPUBLISHED_TOTAL 4096
/* Descriptors that found no receiver, which are charged to nobody. */
#define UNDELIVERED_MAX 256

/* As many as there are descriptors for. */
static struct quota_limit unpublished_limit(const struct broker *broker, const struct peer *peer)
{
	uint32_t most = broker->connections < UNPUBLISHED_TOTAL ? broker->connections
								: UNPUBLISHED_TOTAL;

	return (struct quota_limit){ most,
				     most / 4 < UNPUBLISHED_PER_USER ? most / 4
								     : UNPUBLISHED_PER_USER,
				     peer_is_apart(peer) };
}

/* NULL: this connection has none of that name. */
static struct unpublished *unpublished_find(struct caller *caller, struct name name)
{
	struct unpublished *unpublished;

	LIST_FOREACH (unpublished, &caller->unpublished, entry)
		if (strlen(unpublished->name) == name.size &&
		    memcmp(unpublished->name, name.text, name.size) == 0)
			return unpublished;
	return NULL;
}

static void end(struct broker *broker, struct unpublished *unpublished)
{
	if (unpublished->instance) {
		object_unhide(&broker->env, unpublished->instance, unpublished->hidden);
		unpublished->instance->pins--;
	}
	quota_release(&broker->quota, &unpublished->charge);
	broker->undelivered -= !unpublished->instance;
	object_close(&broker->env, unpublished->fd);
	if (unpublished->sealed)
		sealed_discard(unpublished->sealed);
	free(unpublished);
}

static void unpublished_free(struct caller *caller, struct unpublished *unpublished)
{
	caller->unpublished_count--;
	LIST_REMOVE(unpublished, entry);
	end(caller->broker, unpublished);
}

void unpublished_leave(struct caller *caller)
{
	struct broker *broker = caller->broker;
	struct unpublished *unpublished;

	while ((unpublished = LIST_FIRST(&caller->unpublished))) {
		LIST_REMOVE(unpublished, entry);
		STAILQ_INSERT_TAIL(&broker->left_behind, unpublished, behind);
		broker->edge->loop->tick_in(broker->edge->loop, 0);
	}
	caller->unpublished_count = 0;
}

/* What still has a name costs nothing to close, and of the others no more wait than can be paid. */
static bool may_be_last(const struct broker *broker, int fd)
{
	struct stat st;

	return broker->undelivered < UNDELIVERED_MAX && fstat(fd, &st) == 0 && st.st_nlink == 0;
}

void broker_close(struct broker *broker, struct fdlist *fds)
{
	struct unpublished *unpublished;

	for (size_t i = 0; i < fds->count; i++) {
		unpublished = may_be_last(broker, fds->fd[i]) ? calloc(1, sizeof(*unpublished))
							      : NULL;
		if (!unpublished) {
			object_close(&broker->env, fds->fd[i]);
			continue;
		}
		unpublished->fd = fds->fd[i];
		broker->undelivered++;
		STAILQ_INSERT_TAIL(&broker->left_behind, unpublished, behind);
		broker->edge->loop->tick_in(broker->edge->loop, 0);
	}
	fds->count = 0;
}

bool unpublished_tick(struct broker *broker, unsigned *left)
{
	struct unpublished *unpublished;

	while (*left > 0 && (unpublished = STAILQ_FIRST(&broker->left_behind))) {
		STAILQ_REMOVE_HEAD(&broker->left_behind, behind);
		--*left;
		object_count(unpublished->sealed ? sealed_memory(unpublished->sealed)
						 : unpublished->fd,
			     left);
		end(broker, unpublished);
	}
	return !STAILQ_EMPTY(&broker->left_behind);
}

/* A place for one that has no name yet, charged. 0 or an errno for the client. */
static int unpublished_new(struct broker *broker, struct caller *caller,
			   const struct target *target, struct unpublished **ret)
{
	const struct quota_limit limit = unpublished_limit(broker, &caller->peer);
	struct unpublished *unpublished = calloc(1, sizeof(*unpublished) + target->name.size + 1);

	if (!unpublished)
		return ENOMEM;
	if (quota_charge(&broker->quota, &unpublished->charge, RESOURCE_UNPUBLISHED,
			 caller->peer.ids.uid, caller->peer.sandboxed, &limit) < 0) {
		free(unpublished);
		return EDQUOT;
	}
	memcpy(unpublished->name, target->name.text, target->name.size);
	unpublished->fd = -EBADF;
	unpublished->instance = target->instance;
	target->instance->pins++;
	caller->unpublished_count++;
	LIST_INSERT_HEAD(&caller->unpublished, unpublished, entry);
	*ret = unpublished;
	return 0;
}

/*
 * The client's own opening of what has no name yet, of which `memory` is the broker's. 0 or an
 * errno for the client.
 */
static int open_for_maker(struct broker *broker, struct unpublished *unpublished, int memory,
			  uint32_t flags, int *ret)
{
	int access = flags & WIRE_READ ? O_RDWR : O_WRONLY;
	struct stat st;

	*ret = object_reopen(&broker->env, memory, access | (flags & WIRE_APPEND ? O_APPEND : 0));
	if (*ret < 0)
		return object_errno(-*ret);
	if (fstat(memory, &st) == 0)
		unpublished->ino = st.st_ino;
	return 0;
}

int unpublished_keep(struct broker *broker, struct caller *caller, const struct target *target,
		     uint32_t flags, bool temporary, struct object *object)
{
	struct unpublished *unpublished;
	int error = unpublished_new(broker, caller, target, &unpublished), theirs;

	if (error)
		return error;
	unpublished->temporary = temporary;
	unpublished->fd = steal_fd(&object->fd);
	error = open_for_maker(broker, unpublished, unpublished->fd, flags, &theirs);
	if (error)
		unpublished_free(caller, unpublished);
	else
		object->fd = theirs;
	return error;
}

bool unpublished_may_be(struct caller *caller, const struct target *target, struct reply *reply)
{
	if (caller->unpublished_count >= UNPUBLISHED_PER_CALLER)
		reply_fail(reply, EDQUOT, "too many unpublished objects on this connection");
	else if (unpublished_find(caller, target->name))
		reply_fail(reply, EEXIST, "this name waits to be published already");
	return reply->status == 0;
}

int reply_unpublished_failed(struct reply *reply, int error)
{
	return reply_fail(reply, error, "%s",
			  error == EDQUOT ? "too many unpublished objects of this user"
					  : strerror(error));
}

/* --- sealed objects --- */

static const char too_many_sealed[] = "too many sealed objects (limits: sealed; of one user a "
				      "quarter, of the sandboxed half)";

/* As many as there are descriptors for, here and in the service manager's store. */
static struct quota_limit sealed_limit(const struct broker *broker, const struct peer *peer)
{
	uint32_t most = broker_limits(broker)->sealed, stored;

	stored = QUOTA_STORED_MOST - 2 * broker->quota.total[RESOURCE_CONTEXT];
	if (most > stored)
		most = stored;
	if (most > broker->connections)
		most = broker->connections;
	return (struct quota_limit){ most, (most + 3) / 4, peer_is_apart(peer) };
}

/* Whether it would be within the limits: the keeper isn't troubled for what wouldn't. */
static bool sealed_may_be(struct broker *broker, const struct caller *caller, struct reply *reply)
{
	const struct peer *peer = &caller->peer;
	const struct quota_limit unpublished = unpublished_limit(broker, peer);
	const struct quota_limit sealed = sealed_limit(broker, peer);

	if (quota_check(&broker->quota, RESOURCE_UNPUBLISHED, peer->ids.uid, peer->sandboxed,
			&unpublished) < 0)
		reply_unpublished_failed(reply, EDQUOT);
	else if (quota_check(&broker->quota, RESOURCE_SEALED, peer->ids.uid, peer->sandboxed,
			     &sealed) < 0)
		reply_fail(reply, EDQUOT, "%s", too_many_sealed);
	return reply->status == 0;
}

/* Whether the room for it is there; else it is asked for, or the reply says why not. */
static bool set_aside(struct broker *broker, struct caller *caller, const struct target *target,
		      uint64_t size_bytes, struct reply *reply)
{
	struct aside *aside = &caller->aside;
	int error = 0;

	/* The rules may lead elsewhere by now: nobody would wake us there for what we have here. */
	if (aside->instance && aside->instance != target->instance)
		store_unask(broker->store, aside);
	if (aside->state == ASIDE_HAD)
		return true;
	if (aside->state == ASIDE_REFUSED)
		error = ENOSPC;
	if (aside->state == ASIDE_NOTHING) {
		sealed_reclaim(&broker->sealed);
		if (!sealed_may_be(broker, caller, reply))
			return false;
		error = store_set_aside(broker->store, target->instance, size_bytes, aside);
		if (error == 0 && aside->state == ASIDE_HAD)
			return true;
		if (error == ENOSPC &&
		    sealed_may_go(&broker->sealed, target->instance, clock_now_ms())) {
			broker->edge->loop->tick_in(broker->edge->loop, 1);
			error = EAGAIN;
		}
	}
	if (error && error != EAGAIN) {
		reply_open_failed(broker, reply, target, error, NULL);
		return false;
	}
	store_wait(target->instance, &caller->waiter);
	reply->parked = true;
	return false;
}

/* With its room set aside, the memory and the file that will hold its name. */
static int make_sealed(struct broker *broker, struct caller *caller, const struct request *request,
		       const struct target *target, struct sealed **ret, const char **ret_why)
{
	const struct quota_limit limit = sealed_limit(broker, &caller->peer);
	struct object_how how = target_how(request, target);
	const mode_t mode = how.mode;
	struct object holder;
	int error;

	how.mode = 0400;
	how.size_bytes = 0;
	error = object_open(&broker->env, target->instance, &caller->peer, target->name.text, &how,
			    &holder, ret_why);
	if (error)
		return error;
	error = sealed_new(&broker->sealed, &caller->peer, target->instance, holder.fd, mode,
			   request->size_bytes, &limit, ret);
	if (error == EDQUOT)
		*ret_why = too_many_sealed;
	if (error == EOPNOTSUPP)
		*ret_why = "this machine can't seal";
	if (error)
		return error;
	store_keep_aside(&caller->aside);
	/* What holds its name is no object, for whoever opens there: so he is to look. */
	creds_reset(&broker->creds);
	store_end_waypoint(broker->store, target->instance);
	return 0;
}

static int keep_sealed(struct broker *broker, struct caller *caller, const struct request *request,
		       const struct target *target, bool temporary, struct reply *reply)
{
	struct object object = { .fd = -EBADF, .created = true };
	struct unpublished *unpublished;
	const char *why = NULL;
	int error;

	error = unpublished_new(broker, caller, target, &unpublished);
	if (error)
		return reply_unpublished_failed(reply, error);
	unpublished->temporary = temporary;
	error = make_sealed(broker, caller, request, target, &unpublished->sealed, &why);
	if (error == 0)
		error = open_for_maker(broker, unpublished, sealed_memory(unpublished->sealed),
				       request->flags, &object.fd);
	if (error) {
		unpublished_free(caller, unpublished);
		return reply_open_failed(broker, reply, target, error, why);
	}
	broker->outcome.created_in = target->instance;
	return reply_object(reply, &object);
}

int operation_open_sealed(struct broker *broker, struct caller *caller,
			  const struct request *request, const struct target *target,
			  bool temporary, struct reply *reply)
{
	const struct object_how how = target_how(request, target);
	const char *why = NULL;
	int error;

	if (!sealed_can(&broker->sealed))
		return reply_fail(reply, EOPNOTSUPP, "this broker can't seal");
	error = object_check_size(target->instance, &how, &why);
	if (error)
		return reply_open_failed(broker, reply, target, error, why);
	if (!set_aside(broker, caller, target, request->size_bytes, reply))
		return 0;
	return keep_sealed(broker, caller, request, target, temporary, reply);
}

/* --- names --- */

void broker_undo(struct broker *broker, struct caller *caller, const struct reply *reply)
{
	const struct outcome *outcome = &broker->outcome;
	struct unpublished *unpublished;
	struct stat st;

	if (!outcome->created_in || reply->fds.count == 0 || fstat(reply->fds.fd[0], &st) < 0)
		return;
	unpublished = unpublished_find(caller, (struct name){ outcome->name, outcome->name_size });
	if (unpublished && unpublished->ino == st.st_ino) {
		unpublished_free(caller, unpublished);
		return;
	}
	if (object_unlink_if(&broker->env, outcome->created_in, &caller->peer.ids, outcome->name,
			     st.st_ino, NULL) == 0)
		temporary_forget(&broker->temporaries, outcome->created_in, outcome->name);
}

/* It takes no right to give away what is one's own. */
static int discard(struct caller *caller, const struct request *request, struct reply *reply)
{
	struct unpublished *unpublished = unpublished_find(
		caller, name_strip(request->text, request->text_size));

	if (!unpublished)
		return reply_fail(reply, ENOENT, "nothing was opened unpublished under this name");
	unpublished_free(caller, unpublished);
	return 0;
}

int operation_publish(struct broker *broker, struct caller *caller, const struct request *request,
		      struct reply *reply)
{
	bool replace = request->options & WIRE_REPLACE;
	struct temporary_claim claim = { 0 };
	struct unpublished *unpublished;
	struct target target;
	const char *why = NULL;
	int error = 0;

	if (request->options & ~(WIRE_REPLACE | WIRE_DISCARD) ||
	    request->options == (WIRE_REPLACE | WIRE_DISCARD))
		return reply_fail(reply, EINVAL, "unknown flags");
	if (request->options & WIRE_DISCARD)
		return discard(caller, request, reply);
	if (!target_check_name(request, false, &target, broker, reply) ||
	    !target_decide(broker, caller, &target, RIGHT_CREATE | (replace ? RIGHT_UNLINK : 0), 0,
			   reply))
		return 0;
	unpublished = unpublished_find(caller, target.name);
	if (!unpublished)
		return reply_fail(
			reply, ENOENT,
			"nothing was opened unpublished under this name on this connection");
	if (!target_find_instance(broker, caller, &target, true, reply))
		return 0;
	if (target.instance != unpublished->instance)
		return reply_denied(broker, reply,
				    "the rules lead this name to another pool by now");
	if (target.rule->config->sealed && !unpublished->sealed)
		return reply_unsealed(broker, reply, &target);
	if (unpublished->temporary) {
		creds_reset(&broker->creds);
		error = temporary_claim(&broker->temporaries, &caller->peer, caller->name_id,
					&claim);
		if (error)
			return reply_claim_failed(reply, error);
	}
	if (unpublished->sealed)
		error = sealed_publish(unpublished->sealed, &caller->peer, unpublished->hidden,
				       target.name.text, replace, &why);
	else
		error = object_publish(&broker->env, target.instance, &caller->peer,
				       unpublished->fd, unpublished->hidden, target.name.text,
				       replace, &why);
	if (error) {
		temporary_unclaim(&broker->temporaries, &claim);
		return reply_open_failed(broker, reply, &target, error, why);
	}
	temporary_forget(&broker->temporaries, target.instance, target.name.text);
	if (claim.maker)
		temporary_add(&broker->temporaries, &claim, target.instance, target.name.text,
			      unpublished->sealed ? sealed_ino(unpublished->sealed)
						  : unpublished->ino);
	unpublished->sealed = NULL; /* it stays, by its name */
	unpublished_free(caller, unpublished);
	return 0;
}
