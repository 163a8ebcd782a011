/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The broker's life: its parts, its callers, its configuration. Requests go from
 * here to operation.c and stream.c.
 */
#include "daemon/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

#include "daemon/broker_private.h"
#include "daemon/fd.h"

/* Connections that nobody but an unsandboxed root may use up: so that he can look what is wrong. */
#define CONNECTIONS_KEPT_FOR_ROOT 16

uint64_t broker_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

const struct outcome *broker_outcome(const struct broker *broker)
{
	return &broker->outcome;
}

const struct config_limits *broker_limits(const struct broker *broker)
{
	return &policy_config(broker->policy)->limits;
}

bool broker_is_loaded(const struct broker *broker)
{
	return broker->policy != NULL;
}

int broker_keeper_fd(const struct broker *broker)
{
	return keeper_poll_borrow(broker->keeper);
}

bool broker_has_pool(const struct broker *broker)
{
	struct instance *instance;
	struct pool *pool;

	for (instance = store_next(broker->store, 0); instance;
	     instance = store_next(broker->store, instance->number))
		if (instance->state == INSTANCE_READY)
			return true;
	/* Those that are made on demand can be had if the table is there. */
	TAILQ_FOREACH (pool, store_pools(broker->store), entry)
		if (pool->config.kind == POOL_MADE && keeper_has_table(broker->keeper, NULL))
			return true;
	return false;
}

uint64_t broker_features(const struct broker *broker)
{
	return broker->features;
}

/* What can be promised with the pools as they are. */
static uint64_t find_features(const struct broker *broker)
{
	uint64_t features = WIRE_FEATURE_TEMPORARY | WIRE_FEATURE_READ_ONLY;
	struct instance *instance;

	if (broker->self->may_set_ids)
		features |= WIRE_FEATURE_OWNERSHIP;
	if (broker->contexts.base)
		features |= WIRE_FEATURE_CONTEXTS;
	if (keeper_has_table(broker->keeper, NULL))
		features |= WIRE_FEATURE_PRIVATE_POOLS;
	for (instance = store_next(broker->store, 0); instance;
	     instance = store_next(broker->store, instance->number))
		if (instance->state == INSTANCE_READY && instance->read_only < 0)
			features &= ~(uint64_t)WIRE_FEATURE_READ_ONLY;
	return features;
}

/* --- callers --- */

int caller_refresh(struct broker *broker, struct caller *caller)
{
	if (caller->view && caller->view_generation == broker->generation)
		return 0;
	free(caller->view);
	caller->view = NULL;
	caller->view_generation = broker->generation;
	return policy_view(&caller->view, broker->policy, &caller->peer, broker->self);
}

static int charge_connection(struct broker *broker, struct caller *caller, const char **ret_why)
{
	const struct config_limits *limits = broker_limits(broker);
	const struct peer *peer = &caller->peer;
	struct quota_limit limit = { limits->connections, limits->connections_per_user };
	uid_t uid = caller->context ? caller->context->maker.uid : peer->ids.uid;
	/* A context is its maker's doing: it counts as his. */
	bool apart = peer->sandboxed && !caller->context;
	int error;

	if (peer->ids.uid != 0 || peer->sandboxed)
		limit.total = limit.total > CONNECTIONS_KEPT_FOR_ROOT
				      ? limit.total - CONNECTIONS_KEPT_FOR_ROOT
				      : 0;
	if (peer->ids.uid == 0 && !peer->sandboxed)
		limit.per_user += CONNECTIONS_KEPT_FOR_ROOT;
	if (caller->context && caller->context->connections >= limits->connections_per_context) {
		*ret_why = "too many connections through this context";
		return -EDQUOT;
	}
	error = quota_charge(&broker->quota, &caller->charge, RESOURCE_CONNECTION, uid, apart,
			     &limit);
	if (error == -EDQUOT)
		*ret_why = "too many connections of this user";
	else if (error == -EUSERS)
		*ret_why = "too many connections";
	return error == -EUSERS ? -EDQUOT : error;
}

static int identify(struct caller *caller, struct broker *broker, int socket,
		    struct context *context, const char **ret_why)
{
	int error;

	creds_reset(&broker->creds);
	error = peer_from_socket(&caller->peer, broker->self, socket, context ? context->app : NULL,
				 context ? &context->maker : NULL,
				 policy_config(broker->policy)->require_pidfd);
	if (error == 0)
		return 0;
	if (error == -EMFILE || error == -ENFILE) {
		*ret_why = "the broker has no descriptor left";
		return -ENFILE;
	}
	*ret_why = error == -EOPNOTSUPP ? "this kernel can't pin a process, and the "
					  "configuration says require-pidfd"
		   : error == -ESRCH	? "the process that connected has ended"
					: "it can't be told who connects";
	return error == -ENOMEM || error == -EOPNOTSUPP || error == -ESRCH ? error : -EACCES;
}

/* With caller->peer and ->context set; the peer is the caller's in every case. */
static int admit(struct caller *caller, struct broker *broker, const char **ret_why)
{
	int error = 0;

	/* A broker without the right to change ids owns all that it makes: for its own user alone.
	 */
	if (broker->self->is_user && caller->peer.ids.uid != broker->self->uid) {
		*ret_why = "a user's broker serves that user alone";
		error = -EACCES;
	}
	caller->is_admin = peer_is_admin(&caller->peer, broker->self);
	if (error == 0)
		error = charge_connection(broker, caller, ret_why);
	if (error == 0)
		error = caller_refresh(broker, caller);
	if (error < 0) {
		quota_release(&broker->quota, &caller->charge);
		peer_done(&caller->peer);
		return error;
	}
	caller->broker = broker;
	if (caller->context)
		caller->context->connections++;
	broker->counters.connections++;
	LIST_INSERT_HEAD(&broker->callers, caller, entry);
	return 0;
}

int caller_init(struct caller *caller, struct broker *broker, int socket, struct context *context,
		const char **ret_why)
{
	int error;

	error = identify(caller, broker, socket, context, ret_why);
	if (error < 0)
		return error;
	caller->context = context;
	return admit(caller, broker, ret_why);
}

uint32_t caller_connections(const struct broker *broker, const struct caller *caller)
{
	return caller->is_admin ? broker->quota.total[RESOURCE_CONNECTION]
				: quota_used(&caller->charge);
}

void broker_reset_ids(struct broker *broker)
{
	creds_reset(&broker->creds);
}

int broker_identify(struct broker *broker, const struct peer_credentials *credentials,
		    struct peer *ret)
{
	creds_reset(&broker->creds);
	return peer_from_bus(ret, broker->self, credentials);
}

int caller_init_known(struct caller *caller, struct broker *broker, struct peer *peer,
		      uint64_t name_id, const char **ret_why)
{
	caller->peer = *peer;
	caller->name_id = name_id;
	if (!peer->pinned && policy_config(broker->policy)->require_pidfd) {
		*ret_why = "this bus can't pin a process, and the configuration says require-pidfd";
		peer_done(&caller->peer);
		return -EOPNOTSUPP;
	}
	return admit(caller, broker, ret_why);
}

void caller_end(struct caller *caller)
{
	struct broker *broker = caller->broker;
	struct unpublished *unpublished;

	if (!broker || caller->ended)
		return;
	caller->ended = true;
	store_unwait(&caller->waiter);
	stream_free(caller);
	if (caller->name_id)
		temporary_end(&broker->temporaries, caller->name_id);
	while ((unpublished = LIST_FIRST(&caller->unpublished)))
		unpublished_free(caller, unpublished);
	if (caller->context)
		caller->context->connections--;
	LIST_REMOVE(caller, entry);
	free(caller->view);
	peer_done(&caller->peer);
	caller->view = NULL;
	caller->context = NULL;
}

void caller_done(struct caller *caller)
{
	if (!caller->broker)
		return;
	caller_end(caller);
	quota_release(&caller->broker->quota, &caller->charge);
	caller->broker = NULL;
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
		if (caller->stream)
			stream_free(caller);
}

static void load_ended(struct broker *broker, int error, const char *text)
{
	broker->reload_error = error;
	snprintf(broker->reload_text, sizeof(broker->reload_text), "%s", text);
	if (error == 0)
		broker->counters.reloads++;
	wake_reloaders(broker);
	broker->edge->reloaded(broker->edge->context, error, broker->reload_text);
	broker->edge->loop->tick_in(broker->edge->loop, 0);
}

static void pools_applied(void *context, int error, const char *text)
{
	struct broker *broker = context;

	if (error < 0) {
		policy_free(broker->applying);
	} else {
		end_streams(broker);
		policy_free(broker->policy);
		broker->policy = broker->applying;
		broker->generation++;
		broker->features = find_features(broker);
	}
	broker->applying = NULL;
	load_ended(broker, error, text);
}

static void pool_notice(void *context, int priority, const char *text)
{
	struct broker *broker = context;

	broker->edge->notice(broker->edge->context, priority, text);
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
			pool_notice(broker, LOG_WARNING, config->warnings.string[i]);
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
	error = store_dispatch(broker->store, broker_now_ms());
	return error < 0 ? error : 0;
}

void broker_tick(struct broker *broker)
{
	uint64_t next;

	creds_reset(&broker->creds);
	if (broker->load_again && !broker->applying) {
		broker->load_again = false;
		broker_load(broker);
	}
	next = store_tick(broker->store, broker_now_ms());
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
	error = store_drop(broker->store, request->text, broker_now_ms());
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
		return reply_fail(reply, error, "something in pool \"%s\" could not be removed",
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
	case WIRE_RELOAD:
		return operation_reload(broker, caller, reply);
	case WIRE_DROP:
		return operation_drop(broker, caller, request, reply);
	case WIRE_CANCEL:
		return operation_cancel(caller, request, reply);
	case WIRE_LIST:
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
	if (reply->status && !broker->outcome.denied)
		broker->counters.failures++;
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

	broker->edge->context_ended(broker->edge->context, ended);
}

static void pool_ready(void *context, const struct instance *instance)
{
	struct broker *broker = context;

	notify_ready(&broker->notify, instance);
}

static int wire_up(struct broker *broker)
{
	struct store_setup setup = {
		.keeper = broker->keeper,
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
	error = store_new(&broker->store, &setup);
	if (error < 0)
		return error;
	broker->env = (struct object_env){
		.creds = &broker->creds,
		.self = broker->self,
		.proc_fds = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC),
	};
	if (broker->env.proc_fds < 0)
		return -errno;
	broker->contexts.quota = &broker->quota;
	broker->contexts.creds = &broker->creds;
	broker->contexts.loop = broker->edge->loop;
	broker->contexts.events = &broker->context_events;
	broker->temporaries = (struct temporaries){
		.env = &broker->env,
		.store = broker->store,
		.quota = &broker->quota,
		.loop = broker->edge->loop,
	};
	return creds_init(&broker->creds, broker->self);
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
	broker->contexts.base = setup->contexts;
	broker->env.proc_fds = -EBADF;
	broker->started_ms = broker_now_ms();
	LIST_INIT(&broker->callers);
	LIST_INIT(&broker->contexts.list);
	notify_init(&broker->notify, broker);
	error = wire_up(broker);
	if (error < 0) {
		broker_free(broker);
		return error;
	}
	*ret = broker;
	return 0;
}

void broker_free(struct broker *broker)
{
	if (!broker)
		return;
	if (broker->store) {
		temporary_done(&broker->temporaries);
		creds_reset(&broker->creds);
		contexts_done(&broker->contexts);
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
