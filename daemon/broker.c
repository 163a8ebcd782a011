/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The broker's life: its parts, its configuration. Requests go from here to operation.c and
 * stream.c; who asks is caller.c's.
 */
#include "daemon/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

#include "daemon/broker_private.h"
#include "daemon/clock.h"
#include "daemon/fd.h"

/* Processes with temporary names, each held by a descriptor. */
#define MAKERS_MOST 16384

const struct outcome *broker_outcome(const struct broker *broker)
{
	return &broker->outcome;
}

const struct config_limits *broker_limits(const struct broker *broker)
{
	return &policy_config(broker->policy)->limits;
}

int broker_keeper_fd(const struct broker *broker)
{
	return keeper_poll_borrow(broker->keeper);
}

bool broker_has_pool(const struct broker *broker)
{
	struct instance *instance = NULL;
	struct pool *pool;

	while ((instance = store_each(broker->store, instance)))
		if (instance->state == INSTANCE_READY)
			return true;
	/* Those that are made on demand can be had if the table is there. */
	TAILQ_FOREACH (pool, store_pools(broker->store), entry)
		if (pool->config.kind == POOL_MADE && pool->config.per != POOL_PER_NONE &&
		    keeper_has_table(broker->keeper, NULL))
			return true;
	return false;
}

uint64_t broker_features(const struct broker *broker)
{
	uint64_t features = WIRE_FEATURE_TEMPORARY | WIRE_FEATURE_READ_ONLY;
	struct instance *instance = NULL;

	if (broker->self->may_set_ids)
		features |= WIRE_FEATURE_OWNERSHIP;
	if (broker->contexts.base)
		features |= WIRE_FEATURE_CONTEXTS;
	if (sealed_can(&broker->sealed))
		features |= WIRE_FEATURE_SEALED;
	if (keeper_has_table(broker->keeper, NULL))
		features |= WIRE_FEATURE_PRIVATE_POOLS;
	while ((instance = store_each(broker->store, instance)))
		if (instance->state == INSTANCE_READY && instance->read_only < 0)
			features &= ~(uint64_t)WIRE_FEATURE_READ_ONLY;
	return features;
}

void broker_look(struct broker *broker, struct broker_totals *ret)
{
	creds_reset(&broker->creds);
	*ret = (struct broker_totals){
		.pools = store_look(broker->store, &ret->objects),
		.clients = broker->quota.total[RESOURCE_CONNECTION],
		.contexts = broker->quota.total[RESOURCE_CONTEXT],
		.denials = broker->counters.denials,
	};
}

void broker_reset_ids(struct broker *broker)
{
	creds_reset(&broker->creds);
}

/* --- the configuration --- */

static void wake_reloaders(struct broker *broker)
{
	struct caller *caller;

	LIST_FOREACH (caller, &broker->callers, entry) {
		if (caller->reload != RELOAD_WAITING && caller->reload != RELOAD_QUEUED)
			continue;
		/* Who asked while another was under way has his own begin now. */
		caller->reload = caller->reload == RELOAD_WAITING ? RELOAD_DONE : RELOAD_NONE;
		caller->waiter.wake(&caller->waiter);
	}
}

/* Replies that go on refer to the old policy's rules and pools: they end. */
static void end_streams(struct broker *broker)
{
	struct caller *caller;

	LIST_FOREACH (caller, &broker->callers, entry)
		if (caller->stream && !stream_outlives_reload(caller->stream))
			stream_free(caller);
}

static void load_ended(struct broker *broker, int error, const char *text)
{
	broker->reload_error = error;
	snprintf(broker->reload_text, sizeof(broker->reload_text), "%s", text);
	wake_reloaders(broker);
	broker->edge->reloaded(broker->edge->context, error, broker->reload_text);
	broker->edge->loop->tick_in(broker->edge->loop, 0);
}

static void pool_notice(void *context, const struct notice *notice)
{
	struct broker *broker = context;

	broker->edge->notice(broker->edge->context, notice);
}

static void warn_of(struct broker *broker, const char *text)
{
	pool_notice(broker, &(struct notice){ .priority = LOG_WARNING, .text = text });
}

/* More would end in accepting that stops for everybody. */
static void check_connections(struct broker *broker)
{
	char text[192];

	if (broker_limits(broker)->connections <= broker->connections)
		return;
	snprintf(text, sizeof(text),
		 "limits: connections = %u, but LimitNOFILE= has descriptors for %u alone, "
		 "%u of them kept for root",
		 broker_limits(broker)->connections, broker->connections,
		 broker->connections - connections_of_users(broker));
	warn_of(broker, text);
	if (broker_limits(broker)->connections_per_user <= connections_per_user(broker))
		return;
	snprintf(text, sizeof(text),
		 "limits: connections-per-user = %u, but a user may have a quarter of the others: "
		 "%u",
		 broker_limits(broker)->connections_per_user, connections_per_user(broker));
	warn_of(broker, text);
}

static void pools_applied(void *context, int error, const char *text)
{
	struct broker *broker = context;

	if (error < 0) {
		policy_free(broker->applying);
	} else {
		end_streams(broker);
		broker->counters.reloads += broker->policy != NULL;
		policy_free(broker->policy);
		broker->policy = broker->applying;
		broker->generation++;
		check_connections(broker);
		notify_wake_all(&broker->notify);
	}
	broker->applying = NULL;
	load_ended(broker, error, text);
}

int broker_load(struct broker *broker)
{
	struct config_error why = { .text = "" };
	struct config *config = NULL;
	int error;

	if (broker->applying) {
		broker->load_again = true;
		return -EBUSY;
	}
	creds_reset(&broker->creds);
	error = config_load(&config, broker->source, &why);
	if (error == 0) {
		for (size_t i = 0; i < config->warnings.count; i++)
			warn_of(broker, config->warnings.string[i]);
		error = policy_new(&broker->applying, config);
		if (error < 0)
			snprintf(why.text, sizeof(why.text), "no memory for the rules");
	}
	if (error < 0) {
		load_ended(broker, error, why.text);
		return error;
	}
	return store_apply(broker->store, policy_config(broker->applying), !broker->policy);
}

int broker_dispatch_keeper(struct broker *broker)
{
	int error;

	creds_reset(&broker->creds);
	error = store_dispatch(broker->store, clock_now_ms());
	return error < 0 ? error : 0;
}

void broker_tick(struct broker *broker)
{
	unsigned left = OBJECT_WORK_MAX;
	uint64_t next, going;
	bool more;

	creds_reset(&broker->creds);
	if (broker->load_again && !broker->applying) {
		broker->load_again = false;
		broker_load(broker);
	}
	/* Before the pools, of which one may be in nobody's use by it. */
	more = temporary_tick(&broker->temporaries, &left);
	more |= unpublished_tick(broker, &left);
	more |= notify_tick(&broker->notify);
	creds_reset(&broker->creds);
	next = store_tick(broker->store, clock_now_ms());
	if (more)
		next = 1;
	going = sealed_tick(&broker->sealed, clock_now_ms());
	if (going && (next == 0 || going < next))
		next = going;
	if (next)
		broker->edge->loop->tick_in(broker->edge->loop, next);
}

static int operation_reload(struct broker *broker, struct caller *caller, struct reply *reply)
{
	if (!caller->is_admin)
		return reply_denied(broker, reply, "reloading is for the administrator");
	if (caller->reload == RELOAD_DONE) {
		caller->reload = RELOAD_NONE;
		if (broker->reload_error)
			return reply_fail(reply, -broker->reload_error, "%s", broker->reload_text);
		return 0;
	}
	if (!broker->applying) {
		caller->reload = RELOAD_WAITING;
		broker_load(broker);
	}
	if (caller->reload == RELOAD_DONE) {
		store_unwait(&caller->waiter);
		return operation_reload(broker, caller, reply);
	}
	/* While another load is under way its end wakes us, and then ours begins. */
	if (caller->reload == RELOAD_NONE)
		caller->reload = RELOAD_QUEUED;
	reply->parked = true;
	return 0;
}

static int operation_drop(struct broker *broker, struct caller *caller,
			  const struct request *request, struct reply *reply)
{
	int error;

	if (!caller->is_admin)
		return reply_denied(broker, reply, "dropping a pool is for the administrator");
	creds_reset(&broker->creds);
	error = store_drop(broker->store, &broker->creds, broker->edge->loop, request->text,
			   clock_now_ms());
	temporary_forget_dropped(&broker->temporaries);
	broker->edge->loop->tick_in(broker->edge->loop, 100);
	switch (error) {
	case 0:
		return 0;
	case ENOENT:
		return reply_fail(reply, error, "there is no pool \"%s\"", request->text);
	case EOPNOTSUPP:
		return reply_fail(reply, error,
				  "pool \"%s\" is a directory of the machine's: only private pools "
				  "can be dropped",
				  request->text);
	default:
		return reply_fail(reply, error,
				  "pool \"%s\" could not be dropped altogether: something "
				  "in it can't be removed or noted, or it is being reloaded",
				  request->text);
	}
}

static int operation_cancel(struct caller *caller, const struct request *request,
			    struct reply *reply)
{
	/* Its last reply comes from broker_continue(). */
	if (caller->stream && caller->stream_serial == request->cancelled_serial)
		stream_free(caller);
	reply->silent = true;
	return 0;
}

static int handle(struct broker *broker, struct caller *caller, const struct request *request,
		  struct reply *reply)
{
	switch (request->operation) {
	case WIRE_OPEN:
		return operation_open(broker, caller, request, reply);
	case WIRE_UNLINK:
		return operation_unlink(broker, caller, request, reply);
	case WIRE_STAT:
		return operation_stat(broker, caller, request, reply);
	case WIRE_PUBLISH:
		return operation_publish(broker, caller, request, reply);
	case WIRE_CREATE_CONTEXT:
		return operation_create_context(broker, caller, request, reply);
	case WIRE_LEND:
		return operation_lend(broker, caller, request, reply);
	case WIRE_DELEGATE:
		return operation_delegate(broker, caller, request, reply);
	case WIRE_RELOAD:
		return operation_reload(broker, caller, reply);
	case WIRE_DROP:
		return operation_drop(broker, caller, request, reply);
	case WIRE_CANCEL:
		return operation_cancel(caller, request, reply);
	case WIRE_LIST:
	case WIRE_MONITOR:
	case WIRE_WAIT:
	case WIRE_POOLS:
	case WIRE_EXPLAIN:
	case WIRE_STATUS:
		break;
	default:
		return reply_fail(reply, EOPNOTSUPP, "this broker is older than the call");
	}
	if (caller->stream)
		return reply_fail(reply, EBUSY, "another listing is under way on this connection");
	switch (request->operation) {
	case WIRE_LIST:
		return stream_list(broker, caller, request, reply);
	case WIRE_WAIT:
		return stream_wait(broker, caller, request, reply);
	case WIRE_MONITOR:
		return stream_monitor(broker, caller, request, reply);
	case WIRE_POOLS:
		return stream_pools(broker, caller, request, reply);
	case WIRE_EXPLAIN:
		return stream_explain(broker, caller, request, reply);
	default:
		return stream_status(broker, caller, request, reply);
	}
}

int broker_handle(struct broker *broker, struct caller *caller, const struct request *request,
		  struct reply *reply)
{
	int error;

	broker->outcome = (struct outcome){ .pool = "" };
	broker->counters.requests++;
	error = caller_refresh(broker, caller);
	if (error < 0)
		return error;
	error = handle(broker, caller, request, reply);
	if (!reply->parked)
		store_unask(broker->store, &caller->aside);
	if (reply->status && !broker->outcome.denied)
		broker->counters.failures++;
	if (broker->outcome.denied && !LIST_EMPTY(&broker->monitors))
		monitors_denied(broker, caller, reply);
	return error;
}

/* --- the broker --- */

static int made_context(void *context, struct context *made)
{
	struct broker *broker = context;

	return broker->edge->context_made(broker->edge->context, made);
}

static void ended_context(void *context, struct context *ended)
{
	struct broker *broker = context;

	/* What it was lent is idle from now on. */
	if (loans_end(&broker->loans, ended))
		broker->edge->loop->tick_in(broker->edge->loop, 1000);
	broker->edge->context_ended(broker->edge->context, ended);
}

static int made_sealed(void *context, uint32_t number, int memory)
{
	struct broker *broker = context;

	return broker->edge->sealed_made(broker->edge->context, number, memory);
}

static void ended_sealed(void *context, uint32_t number)
{
	struct broker *broker = context;

	broker->edge->sealed_ended(broker->edge->context, number);
}

static void pool_ready(void *context, struct instance *instance)
{
	struct broker *broker = context;
	int before = broker->sealed.error;

	sealed_ready(&broker->sealed, instance);
	if (broker->sealed.error && !before)
		warn_of(broker, "a sealed object can't be found again now: it is left to the next "
				"start, as are empty names that brokers before have left");
	notify_ready(&broker->notify, instance);
}

static int wire_up(struct broker *broker)
{
	struct store_setup setup = {
		.keeper = broker->keeper,
		.state = broker->state,
		.quota = &broker->quota,
		.events = &broker->store_events,
	};
	int error;

	broker->store_events = (struct store_events){
		.context = broker,
		.notice = pool_notice,
		.applied = pools_applied,
		.ready = pool_ready,
	};
	broker->context_events = (struct context_events){
		.context = broker,
		.made = made_context,
		.ended = ended_context,
	};
	broker->env = (struct object_env){
		.creds = &broker->creds,
		.self = broker->self,
		.loop = broker->edge->loop,
		.proc_fds = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC),
	};
	if (broker->env.proc_fds < 0)
		return -errno;
	error = creds_init(&broker->creds, broker->self);
	/* Last of what can fail: with a store there is all else to be ended, too. */
	if (error == 0)
		error = store_new(&broker->store, &setup);
	if (error < 0)
		return error;
	broker->loans.state = broker->state;
	broker->contexts.quota = &broker->quota;
	broker->contexts.state = broker->state;
	broker->contexts.creds = &broker->creds;
	broker->contexts.loop = broker->edge->loop;
	broker->contexts.events = &broker->context_events;
	broker->temporaries = (struct temporaries){
		.env = &broker->env,
		.state = broker->state,
		.makers_most = broker->connections < MAKERS_MOST ? broker->connections
								 : MAKERS_MOST,
		.store = broker->store,
		.quota = &broker->quota,
		.loop = broker->edge->loop,
	};
	broker->sealed_events = (struct sealed_events){
		.context = broker,
		.made = made_sealed,
		.ended = ended_sealed,
	};
	broker->sealed = (struct sealed_set){
		.env = &broker->env,
		.store = broker->store,
		.quota = &broker->quota,
		.loop = broker->edge->loop,
		.state = broker->state,
		.events = &broker->sealed_events,
	};
	sealed_set_init(&broker->sealed);
	return 0;
}

int broker_new(struct broker **ret, const struct broker_setup *setup)
{
	struct broker *broker = calloc(1, sizeof(*broker));
	int error;

	if (!broker)
		return -ENOMEM;
	broker->edge = setup->edge;
	broker->self = setup->self;
	broker->source = setup->source;
	broker->keeper = setup->keeper;
	broker->connections = setup->connections ? setup->connections : UINT32_MAX;
	broker->state = setup->state;
	broker->contexts.base = setup->contexts;
	broker->env.proc_fds = -EBADF;
	broker->started_ms = clock_now_ms();
	LIST_INIT(&broker->callers);
	STAILQ_INIT(&broker->left_behind);
	LIST_INIT(&broker->monitors);
	LIST_INIT(&broker->contexts.list);
	LIST_INIT(&broker->loans.list);
	notify_init(&broker->notify, broker);
	error = wire_up(broker);
	if (error < 0) {
		broker_free(broker, false);
		return error;
	}
	*ret = broker;
	return 0;
}

int broker_restore_sealed(struct broker *broker, uint32_t number, int memory)
{
	return sealed_restore(&broker->sealed, number, memory);
}

void broker_sweep_sealed(struct broker *broker)
{
	sealed_sweep(&broker->sealed);
}

int broker_restore_pools(struct broker *broker)
{
	int count, error;

	count = store_restore(broker->store);
	error = count < 0 ? 0 : loans_restore(&broker->loans, broker->store);
	/* In them the sealed objects have been sought. */
	if (error == 0)
		error = broker->sealed.error;
	return error < 0 ? error : count;
}

unsigned broker_restore_temporaries(struct broker *broker)
{
	creds_reset(&broker->creds);
	return temporary_restore(&broker->temporaries);
}

int broker_restore_context(struct broker *broker, uint32_t number, int hold, int listener)
{
	creds_reset(&broker->creds);
	return context_restore(&broker->contexts, number, hold, listener);
}

void broker_sweep_contexts(struct broker *broker)
{
	creds_reset(&broker->creds);
	contexts_sweep(&broker->contexts);
	loans_sweep(&broker->loans, &broker->contexts);
}

void broker_free(struct broker *broker, bool leave)
{
	if (!broker)
		return;
	if (broker->store) {
		unsigned all = UINT_MAX;

		unpublished_tick(broker, &all);
		temporary_done(&broker->temporaries, leave);
		creds_reset(&broker->creds);
		sealed_set_done(&broker->sealed, leave);
		creds_reset(&broker->creds);
		if (leave)
			loans_leave(&broker->loans);
		contexts_done(&broker->contexts, leave);
	}
	notify_done(&broker->notify);
	store_free(broker->store);
	policy_free(broker->policy);
	policy_free(broker->applying);
	quota_done(&broker->quota);
	fd_close(broker->env.proc_fds);
	creds_done(&broker->creds);
	free(broker);
}
