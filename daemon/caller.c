/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who asks: identified once, charged for his connection, with the rules that can match him; and
 * all that ends with him. For the edge, on either transport.
 */
#include <errno.h>
#include <stdlib.h>

#include "daemon/broker_private.h"
#include "daemon/validity.h"

/* Connections that nobody but an unsandboxed root may use up: so that he can look what is wrong. */
#define CONNECTIONS_KEPT_FOR_ROOT 16

int caller_refresh(struct broker *broker, struct caller *caller)
{
	if (caller->view && caller->view_generation == broker->generation)
		return 0;
	free(caller->view);
	caller->view = NULL;
	caller->view_generation = broker->generation;
	return policy_view(&caller->view, broker->policy, &caller->peer, broker->self);
}

static uint32_t connections_of_all(const struct broker *broker)
{
	uint32_t configured = broker_limits(broker)->connections;

	return configured < broker->connections ? configured : broker->connections;
}

uint32_t connections_of_users(const struct broker *broker)
{
	uint32_t all = connections_of_all(broker);

	/* A user's own broker lets nobody else in. */
	if (broker->self->is_user)
		return all;
	return all > CONNECTIONS_KEPT_FOR_ROOT ? all - CONNECTIONS_KEPT_FOR_ROOT : 0;
}

uint32_t connections_per_user(const struct broker *broker)
{
	const struct config_limits *limits = broker_limits(broker);
	uint32_t quarter = (connections_of_users(broker) + 3) / 4;

	/* A user's own broker has nobody else to serve. */
	if (broker->connections >= limits->connections || broker->self->is_user ||
	    limits->connections_per_user < quarter)
		return limits->connections_per_user;
	return quarter;
}

static int charge_connection(struct broker *broker, struct caller *caller, const char **ret_why)
{
	const struct config_limits *limits = broker_limits(broker);
	const struct peer *peer = &caller->peer;
	/* A context is its maker's doing: it counts as his. */
	bool apart = peer->sandboxed && !caller->context;
	struct quota_limit limit = { connections_of_users(broker), connections_per_user(broker),
				     apart };
	uid_t uid = caller->context ? caller->context->maker.uid : peer->ids.uid;
	int error;

	if (peer->ids.uid == 0 && !peer->sandboxed) {
		limit.total = connections_of_all(broker);
		limit.per_user += CONNECTIONS_KEPT_FOR_ROOT;
	}
	if (caller->context && caller->context->connections >= limits->connections_per_context) {
		*ret_why = "too many connections through this context";
		return -EDQUOT;
	}
	error = quota_charge(&broker->quota, &caller->charge, RESOURCE_CONNECTION, uid, apart,
			     &limit);
	if (error == -EDQUOT)
		*ret_why = "too many connections of this user";
	else if (error == -EUSERS)
		*ret_why = apart ? "too many connections, or of sandboxed programs without a "
				   "context"
				 : "too many connections";
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

void caller_done(struct caller *caller)
{
	struct broker *broker = caller->broker;

	if (!broker)
		return;
	store_unwait(&caller->waiter);
	store_unask(broker->store, &caller->aside);
	stream_free(caller);
	if (caller->name_id)
		temporary_end(&broker->temporaries, caller->name_id);
	unpublished_leave(caller);
	if (caller->context)
		caller->context->connections--;
	if (caller->has_delegation)
		validity_changed(store_validity(broker->store));
	LIST_REMOVE(caller, entry);
	free(caller->view);
	peer_done(&caller->peer);
	quota_release(&broker->quota, &caller->charge);
	caller->view = NULL;
	caller->context = NULL;
	caller->broker = NULL;
}
