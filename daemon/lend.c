/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lends an app its own pool: who gets it, and until when it is kept. See lend.h. */
#include "daemon/lend.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/broker_private.h"
#include "daemon/fd.h"

/* --- loans --- */

static uint64_t note_of(uint32_t context, const struct instance *instance)
{
	return (uint64_t)context << 32 | instance->number;
}

/* Takes the loan off the list, but leaves its note. */
static void loan_forget(struct loan *loan)
{
	LIST_REMOVE(loan, entry);
	loan->instance->pins--;
	free(loan);
}

static void loan_end(struct loans *loans, struct loan *loan)
{
	state_remove(loans->state, STATE_LOAN, note_of(loan->context, loan->instance));
	loan_forget(loan);
}

static struct loan *loan_find(const struct loans *loans, uint32_t context,
			      const struct instance *instance)
{
	struct loan *loan;

	LIST_FOREACH (loan, &loans->list, entry)
		if (loan->context == context && loan->instance == instance)
			return loan;
	return NULL;
}

static int loan_add(struct loans *loans, uint32_t context, struct instance *instance)
{
	struct loan *loan = malloc(sizeof(*loan));

	if (!loan)
		return -ENOMEM;
	*loan = (struct loan){ .context = context, .instance = instance };
	instance->pins++;
	LIST_INSERT_HEAD(&loans->list, loan, entry);
	return 0;
}

/* One a context and instance, so there are no more than contexts and their apps' pools. */
static int loan_make(struct loans *loans, uint32_t context, struct instance *instance)
{
	int error;

	if (loan_find(loans, context, instance))
		return 0;
	error = state_put(loans->state, STATE_LOAN, note_of(context, instance), "lent");
	if (error < 0)
		return error;
	error = loan_add(loans, context, instance);
	if (error < 0)
		state_remove(loans->state, STATE_LOAN, note_of(context, instance));
	return error;
}

bool loans_end(struct loans *loans, const struct context *context)
{
	struct loan *loan, *next;
	bool any = false;

	for (loan = LIST_FIRST(&loans->list); loan; loan = next) {
		next = LIST_NEXT(loan, entry);
		if (loan->context != context->place.number)
			continue;
		loan_end(loans, loan);
		any = true;
	}
	return any;
}

struct restoring {
	struct loans *loans;
	struct store *store;
	int error;
};

static void restore(void *argument, uint64_t number, char *value)
{
	struct restoring *restoring = argument;
	struct instance *instance = store_by_number(restoring->store, (uint32_t)number);

	(void)value;
	if (!instance)
		state_remove(restoring->loans->state, STATE_LOAN, number);
	else if (loan_add(restoring->loans, (uint32_t)(number >> 32), instance) < 0)
		restoring->error = -ENOMEM;
}

int loans_restore(struct loans *loans, struct store *store)
{
	struct restoring restoring = { .loans = loans, .store = store };
	int error = state_each(loans->state, STATE_LOAN, restore, &restoring);

	return error < 0 ? error : restoring.error;
}

void loans_sweep(struct loans *loans, const struct contexts *contexts)
{
	struct loan *loan, *next;

	for (loan = LIST_FIRST(&loans->list); loan; loan = next) {
		next = LIST_NEXT(loan, entry);
		if (!contexts_have(contexts, loan->context))
			loan_end(loans, loan);
	}
}

void loans_leave(struct loans *loans)
{
	struct loan *loan;

	while ((loan = LIST_FIRST(&loans->list)))
		loan_forget(loan);
}

/* --- the request --- */

/* The rule that gives the caller all of a pool that no other app has; or a reply that says why not.
 */
static const struct rule *find_rule(struct broker *broker, const struct caller *caller,
				    struct reply *reply)
{
	const struct rule *rest = policy_rest(caller->view), *narrowing;
	const struct pool *pool;

	broker->outcome.rule = rest;
	if (!rest) {
		reply_denied(broker, reply, "no rule gives this app all names");
		return NULL;
	}
	pool = store_pool(broker->store, rest->config->pool);
	narrowing = policy_narrowing(caller->view, rest, RIGHT_ALL);
	if (pool && pool->config.kind != POOL_MADE) {
		reply_fail(reply, EOPNOTSUPP,
			   "rule \"%s\" leads to pool \"%s\", a directory of the machine's: only "
			   "private pools can be lent",
			   rest->config->name, pool->config.name);
		return NULL;
	}
	if (pool && pool->config.per != POOL_PER_APP) {
		reply_denied(broker, reply,
			     "rule \"%s\" leads to pool \"%s\", which is not the app's alone",
			     rest->config->name, pool->config.name);
		return NULL;
	}
	if (narrowing) {
		broker->outcome.rule = narrowing;
		reply_denied(broker, reply, "rule \"%s\" does not allow all in its pool",
			     narrowing->config->name);
		return NULL;
	}
	return rest;
}

static int lend_failed(struct reply *reply, const struct instance *instance, int error,
		       const struct keeper_failure *why)
{
	int status = EOPNOTSUPP;

	if (error == ENOMEM)
		status = ENOMEM;
	else if (error == EMFILE)
		status = ENFILE;
	else if (error == EDQUOT || error == EUSERS)
		status = EDQUOT;
	/* Its own limits, and no call of the kernel's. */
	if (status == EDQUOT)
		return reply_fail(reply, status, "pool \"%s\" can't be lent: %s",
				  instance->pool->config.name, why->advice);
	return reply_fail(reply, status, "pool \"%s\" can't be lent: %s: %s; %s",
			  instance->pool->config.name, why->step, strerror(error), why->advice);
}

int operation_lend(struct broker *broker, struct caller *caller, const struct request *request,
		   struct reply *reply)
{
	_cleanup_close_ int mount = -EBADF;
	struct keeper_failure why;
	struct instance *instance;
	const struct rule *rule;
	int error;

	if (request->options || request->text_size > 0)
		return reply_fail(reply, EINVAL, "unknown flags");
	if (!caller->context)
		return reply_denied(broker, reply,
				    "a pool is lent through the socket of a context alone");
	rule = find_rule(broker, caller, reply);
	if (!rule || !operation_instance(broker, caller, rule, &instance, reply))
		return 0;
	/* It is cloned, and noted. */
	creds_reset(&broker->creds);
	error = store_lend(broker->store, instance, &mount, &why);
	if (error == EAGAIN) {
		store_wait(instance, &caller->waiter);
		reply->parked = true;
		return 0;
	}
	if (error)
		return lend_failed(reply, instance, error, &why);
	error = -loan_make(&broker->loans, caller->context->place.number, instance);
	if (error)
		return reply_fail(reply, error == ENOMEM ? ENOMEM : EDQUOT,
				  "that it is lent can't be noted: %s", strerror(error));
	/* Whoever is in the sandbox has a part in it, and the broker doesn't see who that is. */
	store_share(broker->store, instance);
	return fdlist_take(&reply->fds, steal_fd(&mount), WIRE_FD_MOUNT);
}
