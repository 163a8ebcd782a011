/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One request about one name: which rule decides, in which pool, and what becomes of it. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/clock.h"
#include "daemon/fd.h"
#include "daemon/operation_private.h"
#include "proto/name.h"

int reply_denied(struct broker *broker, struct reply *reply, const char *format, ...)
{
	char text[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	broker->outcome.denied = true;
	broker->counters.denials++;
	return reply_fail(reply, EACCES, "%s", text);
}

static int reply_absent(struct reply *reply, const struct instance *instance)
{
	return reply_fail(reply, EOPNOTSUPP, "pool \"%s\" can't be had: %s: %s; %s",
			  instance->pool->config.name, instance->why.step,
			  strerror(instance->why.error), instance->why.advice);
}

/* Without a rule, or against it. `missing` is what it doesn't allow. */
static int deny(struct broker *broker, struct reply *reply, const struct target *target,
		uint32_t missing)
{
	char rights[64];

	if (!target->rule)
		return reply_denied(broker, reply, "no rule matches this name and who asks");
	return reply_denied(broker, reply, "rule \"%s\" does not allow %s",
			    target->rule->config->name,
			    policy_rights_text(rights, sizeof(rights), missing));
}

/* The rule that decides: true when it exists and has at least one of `any` and all of `all`. */
bool target_decide(struct broker *broker, struct caller *caller, struct target *target,
		   uint32_t all, uint32_t any, struct reply *reply)
{
	uint32_t allow;

	target->rule = policy_decide(caller->view, target->name.text, target->name.size);
	broker->outcome.rule = target->rule;
	allow = target->rule ? target->rule->config->allow : 0;
	if ((allow & all) != all || (any && !(allow & any))) {
		deny(broker, reply, target, (all & ~allow) ? all & ~allow : any);
		return false;
	}
	return true;
}

/* Somebody of another uid whom an app's maker has let in. */
static bool is_another(const struct caller *caller, const struct instance *instance)
{
	return instance->pool->config.per == POOL_PER_APP &&
	       caller->peer.ids.uid != caller->peer.maker.uid;
}

/* The pool's instance, or a reply that says why not; also `parked`. true: it is ready. */
bool target_find_instance(struct broker *broker, struct caller *caller, struct target *target,
			  bool make, struct reply *reply)
{
	struct owner owner;
	int error;

	target->pool = store_pool(broker->store, target->rule->config->pool);
	if (!target->pool) {
		reply_fail(reply, EOPNOTSUPP, "the rule's pool is not there");
		return false;
	}
	broker->outcome.pool = target->pool->config.name;
	target->instance = target->pool->single;
	if (!target->instance) {
		error = store_owner(&owner, target->pool, &caller->peer, broker->self);
		if (error) {
			reply_denied(broker, reply,
				     "pool \"%s\" is one for each %s, and this caller has none "
				     "that is known here",
				     target->pool->config.name, store_per(target->pool));
			return false;
		}
		if (!make) {
			target->instance = store_find(target->pool, &owner);
			if (!target->instance) {
				reply_fail(reply, ENOENT, "no such object");
				return false;
			}
		} else if (!store_find(target->pool, &owner)) {
			creds_reset(&broker->creds); /* it is made, and noted */
		}
		error = store_get(broker->store, target->pool, &owner, clock_now_ms(),
				  broker_limits(broker), &target->instance);
		if (error) {
			reply_fail(reply, error, "%s",
				   error == EDQUOT ? "too many private pools (limits: pools, "
						     "pools-per-user)"
						   : "no memory for a pool");
			return false;
		}
		broker->edge->loop->tick_in(broker->edge->loop, 1000);
	}
	switch (target->instance->state) {
	case INSTANCE_READY:
		/* Before he gets anything of it. */
		if (target->instance->alone && is_another(caller, target->instance)) {
			creds_reset(&broker->creds);
			store_share(broker->store, target->instance);
		}
		return true;
	case INSTANCE_ABSENT:
		reply_absent(reply, target->instance);
		return false;
	case INSTANCE_MAKING:
	case INSTANCE_RELEASING:
	case INSTANCE_EMPTY:
		store_wait(target->instance, &caller->waiter);
		reply->parked = true;
		return false;
	}
	return false;
}

bool operation_instance(struct broker *broker, struct caller *caller, const struct rule *rule,
			struct instance **ret, struct reply *reply)
{
	struct target target = { .rule = rule };
	bool found = target_find_instance(broker, caller, &target, true, reply);

	*ret = target.instance;
	return found;
}

bool target_check_name(const struct request *request, bool for_unlink, struct target *target,
		       struct broker *broker, struct reply *reply)
{
	int error;

	target->name = name_strip(request->text, request->text_size);
	broker->outcome.name = target->name.text;
	broker->outcome.name_size = target->name.size;
	error = name_check(target->name, for_unlink);
	if (error)
		reply_fail(reply, error, "%s",
			   error == ENAMETOOLONG ? "a name has at most 255 bytes"
						 : "no object can have this name");
	return error == 0;
}

/* What the flags of an open want of a rule, besides `create` where nothing is there yet. */
static uint32_t wanted_rights(const struct request *request)
{
	uint32_t wanted = 0;

	if (request->flags & WIRE_READ)
		wanted |= RIGHT_READ;
	if (request->flags & (WIRE_WRITE | WIRE_TRUNCATE))
		wanted |= RIGHT_WRITE;
	if ((request->flags & WIRE_CREATE) &&
	    ((request->flags & WIRE_EXCLUSIVE) || (request->options & WIRE_UNPUBLISHED)))
		wanted |= RIGHT_CREATE;
	return wanted;
}

static bool check_open(const struct request *request, struct reply *reply)
{
	const char *why = NULL;

	if ((request->flags & ~WIRE_OPEN_FLAGS) || (request->options & ~WIRE_OPTIONS))
		why = "unknown flags";
	else if (!(request->flags & (WIRE_READ | WIRE_WRITE)))
		why = "an open needs read, write or both";
	else if (request->mode & ~0777u)
		why = "a mode has permission bits alone";
	else if ((request->options & WIRE_SEALED) && !(request->options & WIRE_UNPUBLISHED))
		why = "what is to be sealed is filled first: unpublished";
	else if ((request->options & WIRE_UNPUBLISHED) &&
		 (request->flags & (WIRE_CREATE | WIRE_WRITE)) != (WIRE_CREATE | WIRE_WRITE))
		why = "an unpublished object is created, and for writing";
	if (why)
		reply_fail(reply, EINVAL, "%s", why);
	return why == NULL;
}

/* An object is there and becomes the client's. */
int reply_object(struct reply *reply, struct object *object)
{
	struct {
		uint32_t flags, reserved;
	} body = { .flags = object->created ? WIRE_CREATED : 0 };
	int error = fdlist_take(&reply->fds, steal_fd(&object->fd), WIRE_FD_OBJECT);

	if (error)
		return error;
	reply_append(reply, &body, sizeof(body));
	return 0;
}

int reply_open_failed(struct broker *broker, struct reply *reply, const struct target *target,
		      int error, const char *why)
{
	if (why == object_not_created)
		return deny(broker, reply, target, RIGHT_CREATE);
	if (why)
		return reply_fail(reply, error, "%s", why);
	switch (error) {
	case EACCES:
		return reply_fail(reply, error, "the permission bits do not allow it");
	case EINVAL:
		return reply_fail(reply, error, "what has this name is not a shared memory object");
	case ENOENT:
		return reply_fail(reply, error, "no such object");
	case EEXIST:
		return reply_fail(reply, error, "the object exists");
	case ENOSPC:
		return reply_fail(reply, error, "pool \"%s\" is full", target->pool->config.name);
	case EAGAIN:
		return reply_fail(reply, error, "somebody holds a lease on the object");
	default:
		return reply_fail(reply, error, "%s", strerror(error));
	}
}

struct object_how target_how(const struct request *request, const struct target *target)
{
	const struct rule_config *rule = target->rule->config;

	return (struct object_how){
		.flags = request->flags,
		.mode = request->mode & rule->mode_mask,
		.size_bytes = request->size_bytes,
		.max_size_bytes = rule->has_max_size ? rule->max_size_bytes : UINT64_MAX,
		.may_create = rule->allow & RIGHT_CREATE,
		.no_name = request->options & WIRE_UNPUBLISHED,
	};
}

/* Reading alone can only be promised where there is a twin; who may write loses nothing. */
static bool can_promise(const struct target *target, const struct request *request,
			struct reply *reply)
{
	const struct keeper_failure *why = &target->instance->why;

	if (target->instance->read_only >= 0 || (request->flags & WIRE_WRITE) ||
	    (target->rule->config->allow & RIGHT_WRITE))
		return true;
	reply_fail(reply, EOPNOTSUPP,
		   "rule \"%s\" grants reading alone, which pool \"%s\" can't promise: %s: %s; %s",
		   target->rule->config->name, target->pool->config.name, why->step,
		   strerror(why->error), why->advice);
	return false;
}

static int open_target(struct broker *broker, struct caller *caller, const struct request *request,
		       const struct target *target, bool temporary, struct temporary_claim *claim,
		       struct reply *reply)
{
	const struct object_how how = target_how(request, target);
	struct object object;
	const char *why = NULL;
	struct stat st;
	int error;

	error = object_open(&broker->env, target->instance, &caller->peer, target->name.text, &how,
			    &object, &why);
	if (error)
		return reply_open_failed(broker, reply, target, error, why);
	if (how.no_name) {
		error = unpublished_keep(broker, caller, target, request->flags, temporary,
					 &object);
		if (error) {
			fd_close(object.fd);
			return reply_unpublished_failed(reply, error);
		}
	} else if (object.created && claim->maker) {
		/* fstat of our own descriptor doesn't fail. */
		if (fstat(object.fd, &st) == 0)
			temporary_add(&broker->temporaries, claim, target->instance,
				      target->name.text, st.st_ino);
	}
	if (object.created)
		broker->outcome.created_in = target->instance;
	return reply_object(reply, &object);
}

/* What is sealed is there for reading alone. */
static int open_existing_sealed(struct broker *broker, struct caller *caller,
				const struct request *request, const struct target *target,
				const struct sealed *sealed, struct reply *reply)
{
	struct object object = { .fd = -EBADF };
	const char *why = NULL;
	int error;

	if ((request->flags & WIRE_CREATE) && (request->flags & WIRE_EXCLUSIVE))
		return reply_open_failed(broker, reply, target, EEXIST, NULL);
	if (request->flags & (WIRE_WRITE | WIRE_TRUNCATE))
		return reply_fail(reply, EACCES, "the object is sealed: nobody can write to it");
	error = sealed_open(sealed, &caller->peer, request->flags, &object.fd, &why);
	if (error)
		return reply_open_failed(broker, reply, target, error, why);
	return reply_object(reply, &object);
}

int reply_unsealed(struct broker *broker, struct reply *reply, const struct target *target)
{
	return reply_denied(broker, reply, "rule \"%s\" allows sealed objects alone",
			    target->rule->config->name);
}

/* A rule for sealed objects alone: what else is asked of it gets its answer here. */
static int answer_unsealed(struct broker *broker, const struct request *request,
			   const struct target *target, struct reply *reply)
{
	struct object_info info;
	int error = 0;

	creds_reset(&broker->creds);
	if (!(request->flags & WIRE_CREATE))
		error = object_stat(target->instance, target->name.text, &info);
	if (error)
		return reply_open_failed(broker, reply, target, error, NULL);
	return reply_unsealed(broker, reply, target);
}

int reply_claim_failed(struct reply *reply, int error)
{
	switch (error) {
	case EDQUOT:
		return reply_fail(reply, error, "too many temporary names of this user");
	case EOPNOTSUPP:
		return reply_fail(reply, error,
				  "the process can't be pinned, so nothing of it can be temporary");
	default:
		return reply_fail(reply, error, "%s", strerror(error));
	}
}

int operation_open(struct broker *broker, struct caller *caller, const struct request *request,
		   struct reply *reply)
{
	struct target target;
	struct temporary_claim claim = { 0 };
	const struct sealed *sealed = NULL;
	bool temporary;
	int error;

	if (!check_open(request, reply) ||
	    !target_check_name(request, false, &target, broker, reply) ||
	    !target_decide(broker, caller, &target, wanted_rights(request), 0, reply) ||
	    !target_find_instance(broker, caller, &target, request->flags & WIRE_CREATE, reply))
		return 0;
	if (target.instance->sealed > 0 && !(request->options & WIRE_UNPUBLISHED))
		sealed = sealed_find(&broker->sealed, target.instance, target.name.text);
	if (sealed)
		return open_existing_sealed(broker, caller, request, &target, sealed, reply);
	if (target.rule->config->sealed && !(request->options & WIRE_SEALED))
		return answer_unsealed(broker, request, &target, reply);
	if (!can_promise(&target, request, reply))
		return 0;
	if ((request->options & WIRE_UNPUBLISHED) && !unpublished_may_be(caller, &target, reply))
		return 0;

	temporary = (request->flags & WIRE_CREATE) &&
		    ((request->options & WIRE_TEMPORARY) || target.rule->config->lifetime_process);
	if (request->options & WIRE_SEALED)
		return operation_open_sealed(broker, caller, request, &target, temporary, reply);
	if (temporary) {
		creds_reset(&broker->creds);
		error = temporary_claim(&broker->temporaries, &caller->peer, caller->name_id,
					&claim);
		if (error)
			return reply_claim_failed(reply, error);
	}
	error = open_target(broker, caller, request, &target, temporary, &claim, reply);
	temporary_unclaim(&broker->temporaries, &claim);
	return error;
}

/* In the words of an open: who asks need not know by which call. */
static const char *object_error_text(int error)
{
	return error == ENOENT ? "no such object" : strerror(error);
}

int operation_unlink(struct broker *broker, struct caller *caller, const struct request *request,
		     struct reply *reply)
{
	struct target target;
	int error;

	if (!target_check_name(request, true, &target, broker, reply) ||
	    !target_decide(broker, caller, &target, RIGHT_UNLINK, 0, reply) ||
	    !target_find_instance(broker, caller, &target, false, reply))
		return 0;
	error = object_unlink(&broker->env, target.instance, &caller->peer, target.name.text);
	if (error == EACCES)
		return reply_fail(reply, error, "the permission bits do not allow it");
	if (error)
		return reply_fail(reply, error, "%s", object_error_text(error));
	temporary_forget(&broker->temporaries, target.instance, target.name.text);
	return 0;
}

int operation_stat(struct broker *broker, struct caller *caller, const struct request *request,
		   struct reply *reply)
{
	struct object_info info;
	struct target target;
	int error;

	if (!target_check_name(request, false, &target, broker, reply) ||
	    !target_decide(broker, caller, &target, 0, RIGHT_READ | RIGHT_LIST, reply) ||
	    !target_find_instance(broker, caller, &target, false, reply))
		return 0;
	creds_reset(&broker->creds);
	error = object_stat(target.instance, target.name.text, &info);
	if (error)
		return reply_fail(reply, error, "%s", object_error_text(error));
	info_append(broker, target.instance, target.name.text, &info, reply);
	return 0;
}

bool operation_look(struct broker *broker, struct caller *caller, const char *name,
		    struct reply *reply)
{
	const struct request request = { .text = name, .text_size = strlen(name) };
	struct object_info info;
	struct target target;
	int error;

	if (!target_check_name(&request, false, &target, broker, reply) ||
	    !target_decide(broker, caller, &target, 0, RIGHT_READ | RIGHT_LIST, reply))
		return false;
	if (!target_find_instance(broker, caller, &target, false, reply)) {
		/* A pool that is not there yet has no object either. */
		if (reply->status == ENOENT) {
			reply->status = 0;
			reply->body_size = 0;
		}
		return false;
	}
	creds_reset(&broker->creds);
	error = object_stat(target.instance, target.name.text, &info);
	if (error && error != ENOENT)
		reply_fail(reply, error, "%s", strerror(error));
	return error == 0;
}

int operation_create_context(struct broker *broker, struct caller *caller,
			     const struct request *request, struct reply *reply)
{
	struct context *context;
	const char *why = NULL;
	int error, hold;

	if (request->options)
		return reply_fail(reply, EINVAL, "unknown flags");
	if (!name_is_app(request->text, request->text_size))
		return reply_fail(reply, EINVAL, NAME_APP_RULE);
	if (caller->peer.sandboxed)
		return reply_denied(broker, reply, "a sandboxed program can make no context");
	creds_reset(&broker->creds);
	error = context_new(&broker->contexts, &caller->peer, request->text, broker_limits(broker),
			    &context, &hold, &why);
	if (error)
		return reply_fail(reply, error, "%s", why ? why : strerror(error));
	broker->counters.contexts++;
	fdlist_take(&reply->fds, hold, WIRE_FD_HOLD);
	reply_append(reply, context->path, strlen(context->path));
	return 0;
}
