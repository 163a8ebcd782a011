/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Gives a caller the directory of a pool that a rule delegates, so that its library opens there by
 * itself. A delegation is taken back by store_disclaim(): whoever has one looks before each use
 * whether it may have been, in a page of memory, and then at the directory. For broker.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "daemon/broker_private.h"
#include "daemon/fd.h"
#include "daemon/validity.h"

/* What a library has room for, of names that other rules decide. */
#define PATTERNS_MAX 1024

static const struct rule *delegating_rule(const struct caller *caller)
{
	const struct rule *rest = policy_rest(caller->view);

	return rest && rest->config->delegate ? rest : NULL;
}

/*
 * A rule before it that takes something away: who has the directory would have it all the same. One
 * that allows nothing names no pool, so it counts in each.
 */
static const struct rule *in_the_way(const struct caller *caller, const struct rule *rest)
{
	const struct rule *denying = policy_denying(caller->view, rest);

	return denying ? denying : policy_narrowing(caller->view, rest, rest->config->allow);
}

bool caller_has_delegation(struct broker *broker, struct caller *caller)
{
	const struct rule *rule;

	if (caller_refresh(broker, caller) < 0)
		return false;
	rule = delegating_rule(caller);
	return rule && !in_the_way(caller, rule);
}

/* The patterns of all rules before it, each ended by a NUL; reply NULL: only whether they fit. */
static bool append_patterns(const struct view *view, const struct rule *rest, struct reply *reply)
{
	size_t size = 0;

	for (size_t i = 0; i < view->count && view->rule[i] != rest; i++) {
		const struct string_list *names = &view->rule[i]->config->names;

		for (size_t j = 0; j < names->count; j++) {
			const char *pattern = names->string[j] +
					      1; /* of a name without its slash */

			size += strlen(pattern) + 1;
			if (size > PATTERNS_MAX)
				return false;
			if (reply)
				reply_append(reply, pattern, strlen(pattern) + 1);
		}
	}
	return true;
}

/* Whether all who ever had a part in it are the caller's own. */
static bool is_own(const struct caller *caller, struct instance *instance)
{
	/* A root who makes contexts makes them for others. */
	if (instance->pool->config.per == POOL_PER_APP && caller->peer.maker.uid == 0)
		return false;
	return store_begin_waypoint(instance);
}

/* A descriptor to give away, with nothing shared with ours. 0 or an errno. */
static int append_directory(int directory, struct reply *reply)
{
	int theirs = openat(directory, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (theirs < 0)
		return errno == EMFILE ? ENFILE : errno;
	return fdlist_take(&reply->fds, theirs, WIRE_FD_DIRECTORY);
}

/* Its twin, the directory where the rule writes, the page, and what the library has to know. 0 or
 * an errno. */
static int append_directories(struct broker *broker, struct instance *instance, uint32_t flags,
			      struct reply *reply)
{
	struct {
		uint32_t flags, changes;
		uint64_t generation;
	} body = { .flags = flags };
	_cleanup_close_ int page = -EBADF;
	int64_t generation;
	int error = store_generation(broker->store, instance, &generation);

	if (error)
		return error;
	page = validity_give(store_validity(broker->store), broker->env.proc_fds);
	body.generation = (uint64_t)generation;
	if (page >= 0) {
		body.flags |= WIRE_DELEGATE_PAGE;
		body.changes = validity_changes(store_validity(broker->store));
	}
	reply_append(reply, &body, sizeof(body));
	if (flags & WIRE_DELEGATE_OWN)
		reply_append(reply, instance->waypoint, strlen(instance->waypoint) + 1);
	error = append_directory(instance->read_only, reply);
	if (error == 0 && flags & WIRE_DELEGATE_WRITE)
		error = append_directory(instance->writable, reply);
	/* Without it a library asks the kernel before each use. */
	if (error == 0 && page >= 0)
		error = fdlist_take(&reply->fds, steal_fd(&page), WIRE_FD_PAGE);
	if (error)
		fdlist_close(&reply->fds);
	return error;
}

int operation_delegate(struct broker *broker, struct caller *caller, const struct request *request,
		       struct reply *reply)
{
	const struct rule *rule = delegating_rule(caller), *other;
	struct instance *instance;
	uint32_t flags = 0;
	int error;

	if (request->options || request->text_size > 0)
		return reply_fail(reply, EINVAL, "unknown flags");
	broker->outcome.rule = rule;
	if (!rule)
		return reply_fail(reply, EOPNOTSUPP, "no rule delegates a pool to this caller");
	other = in_the_way(caller, rule);
	if (other)
		return reply_fail(reply, EOPNOTSUPP,
				  "rule \"%s\" allows less than \"%s\", which delegates the pool",
				  other->config->name, rule->config->name);
	if (!append_patterns(caller->view, rule, NULL))
		return reply_fail(reply, EOPNOTSUPP,
				  "too many rules for other names stand before \"%s\"",
				  rule->config->name);
	if (!operation_instance(broker, caller, rule, &instance, reply))
		return 0;
	creds_reset(&broker->creds);
	error = store_open_up(broker->store, instance);
	if (error)
		return reply_fail(reply, EOPNOTSUPP,
				  "that pool \"%s\" is delegated can't be noted: %s",
				  instance->pool->config.name, strerror(error));
	if (rule->config->allow == RIGHT_ALL)
		flags |= WIRE_DELEGATE_WRITE;
	if (is_own(caller, instance))
		flags |= WIRE_DELEGATE_OWN;
	error = append_directories(broker, instance, flags, reply);
	if (error)
		return reply_fail(reply, error, "%s", strerror(error));
	append_patterns(caller->view, rule, reply);
	caller->has_delegation = true;
	return 0;
}
