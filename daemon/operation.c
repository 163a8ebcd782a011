/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One request about one name: which rule decides, in which pool, and what becomes of it. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/broker_private.h"
#include "daemon/fd.h"
#include "proto/name.h"

/* Objects without a name that one connection may hold. */
#define UNPUBLISHED_PER_CALLER 64
/* And a user, and all together: each is a descriptor of ours. */
#define UNPUBLISHED_PER_USER 512
#define UNPUBLISHED_TOTAL 4096

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

int reply_absent(struct reply *reply, const struct instance *instance)
{
	return reply_fail(reply, EOPNOTSUPP, "pool \"%s\" can't be had: %s: %s; %s",
			  instance->pool->config.name, instance->why.step,
			  strerror(instance->why.error), instance->why.advice);
}

/* Name checked, rule found, pool there: what each operation begins with. */
struct target {
	struct name name;
	const struct rule *rule;
	struct pool *pool;
	struct instance *instance;
};

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
static bool decide(struct broker *broker, struct caller *caller, struct target *target,
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

/* The pool's instance, or a reply that says why not; also `parked`. true: it is ready. */
static bool find_instance(struct broker *broker, struct caller *caller, struct target *target,
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
		error = store_owner(&owner, target->pool, &caller->peer);
		if (error) {
			reply_denied(broker, reply,
				     "pool \"%s\" is one for each %s, and this caller has none",
				     target->pool->config.name,
				     target->pool->config.per == POOL_PER_APP ? "app" : "unit");
			return false;
		}
		if (!make) {
			target->instance = store_find(target->pool, &owner);
			if (!target->instance) {
				reply_fail(reply, ENOENT, "no such object");
				return false;
			}
		}
		error = store_get(broker->store, target->pool, &owner, broker_now_ms(),
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

static bool check_name(const struct request *request, bool for_unlink, struct target *target,
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
	else if ((request->options & WIRE_UNPUBLISHED) &&
		 (request->flags & (WIRE_CREATE | WIRE_WRITE)) != (WIRE_CREATE | WIRE_WRITE))
		why = "an unpublished object is created, and for writing";
	if (why)
		reply_fail(reply, EINVAL, "%s", why);
	return why == NULL;
}

static struct unpublished *unpublished_find(struct caller *caller, struct name name)
{
	struct unpublished *unpublished;

	LIST_FOREACH (unpublished, &caller->unpublished, entry)
		if (strlen(unpublished->name) == name.size &&
		    memcmp(unpublished->name, name.text, name.size) == 0)
			return unpublished;
	return NULL;
}

void unpublished_free(struct caller *caller, struct unpublished *unpublished)
{
	LIST_REMOVE(unpublished, entry);
	caller->unpublished_count--;
	unpublished->instance->pins--;
	quota_release(&caller->broker->quota, &unpublished->charge);
	fd_close(unpublished->fd);
	free(unpublished);
}

/*
 * The client's own opening of what has no name yet. An ordinary user's broker can't reopen a file of
 * mode 0400, but it owns it, and nobody sees the mode of the moment. A descriptor or -errno.
 */
static int open_nameless(struct broker *broker, int fd, mode_t mode, uint32_t flags)
{
	int access = flags & WIRE_READ ? O_RDWR : O_WRONLY;
	char link[16];
	int theirs;

	access |= (flags & WIRE_APPEND ? O_APPEND : 0) | O_CLOEXEC;
	snprintf(link, sizeof(link), "%d", fd);
	creds_reset(&broker->creds);
	theirs = openat(broker->env.proc_fds, link, access);
	if (theirs >= 0 || errno != EACCES || fchmod(fd, mode | 0600) < 0)
		return theirs < 0 ? -errno : theirs;
	theirs = openat(broker->env.proc_fds, link, access);
	if (theirs < 0)
		theirs = -errno;
	if (fchmod(fd, mode) < 0)
		theirs = fd_close(theirs);
	return theirs;
}

/* Keeps what was made, and gives the client an opening of its own. */
static int keep_unpublished(struct broker *broker, struct caller *caller,
			    const struct target *target, uint32_t flags, bool temporary,
			    struct object *object)
{
	static const struct quota_limit limit = { UNPUBLISHED_TOTAL, UNPUBLISHED_PER_USER };
	_cleanup_close_ int theirs = -EBADF;
	struct unpublished *unpublished;
	struct stat st;

	if (fstat(object->fd, &st) < 0)
		return errno;
	theirs = open_nameless(broker, object->fd, st.st_mode & 07777, flags);
	if (theirs < 0)
		return theirs == -EMFILE ? ENFILE : -theirs;
	unpublished = calloc(1, sizeof(*unpublished) + target->name.size + 1);
	if (!unpublished)
		return ENOMEM;
	if (quota_charge(&broker->quota, &unpublished->charge, RESOURCE_UNPUBLISHED,
			 caller->peer.ids.uid, caller->peer.sandboxed, &limit) < 0) {
		free(unpublished);
		return EDQUOT;
	}
	memcpy(unpublished->name, target->name.text, target->name.size);
	unpublished->instance = target->instance;
	unpublished->ino = st.st_ino;
	unpublished->temporary = temporary;
	unpublished->fd = steal_fd(&object->fd);
	object->fd = steal_fd(&theirs);
	target->instance->pins++;
	caller->unpublished_count++;
	LIST_INSERT_HEAD(&caller->unpublished, unpublished, entry);
	return 0;
}

/* An object is there and becomes the client's. */
static int reply_object(struct reply *reply, struct object *object)
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

static int open_failed(struct broker *broker, struct reply *reply, const struct target *target,
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
	const struct rule_config *rule = target->rule->config;
	const struct object_how how = {
		.flags = request->flags,
		.mode = request->mode & rule->mode_mask,
		.size_bytes = request->size_bytes,
		.max_size_bytes = rule->has_max_size ? rule->max_size_bytes : UINT64_MAX,
		.may_create = rule->allow & RIGHT_CREATE,
		.no_name = request->options & WIRE_UNPUBLISHED,
	};
	struct object object;
	const char *why = NULL;
	struct stat st;
	int error;

	error = object_open(&broker->env, target->instance, &caller->peer, target->name.text, &how,
			    &object, &why);
	if (error)
		return open_failed(broker, reply, target, error, why);
	if (how.no_name) {
		error = keep_unpublished(broker, caller, target, request->flags, temporary,
					 &object);
		if (error) {
			fd_close(object.fd);
			return reply_fail(reply, error, "%s", strerror(error));
		}
	} else if (object.created && claim->maker) {
		/* fstat of our own descriptor doesn't fail. */
		if (fstat(object.fd, &st) == 0)
			temporary_add(&broker->temporaries, claim, target->instance,
				      target->name.text, st.st_ino);
	}
	return reply_object(reply, &object);
}

static int claim_failed(struct reply *reply, int error)
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
	bool temporary;
	int error;

	if (!check_open(request, reply) || !check_name(request, false, &target, broker, reply) ||
	    !decide(broker, caller, &target, wanted_rights(request), 0, reply) ||
	    !find_instance(broker, caller, &target, request->flags & WIRE_CREATE, reply) ||
	    !can_promise(&target, request, reply))
		return 0;
	if (request->options & WIRE_UNPUBLISHED) {
		if (caller->unpublished_count >= UNPUBLISHED_PER_CALLER)
			return reply_fail(reply, EDQUOT,
					  "too many unpublished objects on this connection");
		if (unpublished_find(caller, target.name))
			return reply_fail(reply, EEXIST, "this name waits to be published already");
	}

	temporary = (request->flags & WIRE_CREATE) &&
		    ((request->options & WIRE_TEMPORARY) || target.rule->config->lifetime_process);
	if (temporary) {
		creds_reset(&broker->creds);
		error = temporary_claim(&broker->temporaries, &caller->peer, caller->name_id,
					&claim);
		if (error)
			return claim_failed(reply, error);
	}
	error = open_target(broker, caller, request, &target, temporary, &claim, reply);
	temporary_unclaim(&broker->temporaries, &claim);
	return error;
}

int operation_unlink(struct broker *broker, struct caller *caller, const struct request *request,
		     struct reply *reply)
{
	struct target target;
	int error;

	if (!check_name(request, true, &target, broker, reply) ||
	    !decide(broker, caller, &target, RIGHT_UNLINK, 0, reply) ||
	    !find_instance(broker, caller, &target, false, reply))
		return 0;
	error = object_unlink(&broker->env, target.instance, &caller->peer, target.name.text);
	if (error == EACCES)
		return reply_fail(reply, error, "the permission bits do not allow it");
	if (error)
		return reply_fail(reply, error, "%s", strerror(error));
	temporary_forget(&broker->temporaries, target.instance, target.name.text);
	return 0;
}

bool info_append(struct broker *broker, const struct instance *instance, const char *name,
		 const struct object_info *info, struct reply *reply)
{
	const char *pool = instance->pool->config.name;
	const char *owner = instance->owner_text;
	struct wire_info wire = {
		.size = info->size,
		.allocated = info->allocated,
		.ino = info->ino,
		.created_ns = info->created_ns,
		.uid = info->uid,
		.gid = info->gid,
		.mode = info->mode & 07777,
		.flags = S_ISREG(info->mode) ? 0 : WIRE_INFO_NOT_AN_OBJECT,
		.creator_pid = temporary_maker(&broker->temporaries, instance, name, info->ino),
		.name_size = (uint8_t)strlen(name),
		.pool_size = (uint8_t)strlen(pool),
		.owner_size = (uint8_t)strnlen(owner, 255),
	};
	size_t used = sizeof(wire) + wire.name_size + wire.pool_size + wire.owner_size;
	size_t padded = (used + 7) / 8 * 8;

	if (padded > REPLY_BODY_MAX - reply->body_size)
		return false;
	if (wire.creator_pid)
		wire.flags |= WIRE_INFO_TEMPORARY;
	wire.record_size = (uint16_t)padded;
	reply_append(reply, &wire, sizeof(wire));
	reply_append(reply, name, wire.name_size);
	reply_append(reply, pool, wire.pool_size);
	reply_append(reply, owner, wire.owner_size);
	reply_append(reply, "\0\0\0\0\0\0\0", padded - used);
	return true;
}

int operation_stat(struct broker *broker, struct caller *caller, const struct request *request,
		   struct reply *reply)
{
	struct object_info info;
	struct target target;
	int error;

	if (!check_name(request, false, &target, broker, reply) ||
	    !decide(broker, caller, &target, 0, RIGHT_READ | RIGHT_LIST, reply) ||
	    !find_instance(broker, caller, &target, false, reply))
		return 0;
	creds_reset(&broker->creds);
	error = object_stat(target.instance, target.name.text, &info);
	if (error)
		return reply_fail(reply, error, "%s", strerror(error));
	info_append(broker, target.instance, target.name.text, &info, reply);
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

	if (request->options & ~WIRE_REPLACE)
		return reply_fail(reply, EINVAL, "unknown flags");
	if (!check_name(request, false, &target, broker, reply) ||
	    !decide(broker, caller, &target, RIGHT_CREATE | (replace ? RIGHT_UNLINK : 0), 0, reply))
		return 0;
	unpublished = unpublished_find(caller, target.name);
	if (!unpublished)
		return reply_fail(
			reply, ENOENT,
			"nothing was opened unpublished under this name on this connection");
	if (!find_instance(broker, caller, &target, true, reply))
		return 0;
	if (target.instance != unpublished->instance)
		return reply_denied(broker, reply,
				    "the rules lead this name to another pool by now");
	if (unpublished->temporary) {
		creds_reset(&broker->creds);
		error = temporary_claim(&broker->temporaries, &caller->peer, caller->name_id,
					&claim);
		if (error)
			return claim_failed(reply, error);
	}
	error = object_publish(&broker->env, target.instance, &caller->peer, unpublished->fd,
			       target.name.text, replace, &why);
	if (error) {
		temporary_unclaim(&broker->temporaries, &claim);
		return open_failed(broker, reply, &target, error, why);
	}
	temporary_forget(&broker->temporaries, target.instance, target.name.text);
	if (claim.maker)
		temporary_add(&broker->temporaries, &claim, target.instance, target.name.text,
			      unpublished->ino);
	unpublished_free(caller, unpublished);
	return 0;
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
		return reply_fail(reply, EINVAL,
				  "an app's id is 1 to 128 of letters, digits, '.', '_' and '-'");
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
