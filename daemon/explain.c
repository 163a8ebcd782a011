/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which rule decides about a name, and why not the ones before: a stream of records. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/broker_private.h"
#include "daemon/stream_private.h"
#include "proto/name.h"

static void rule_fields(struct reply *reply, const struct rule *rule)
{
	reply_field(reply, "rule", "%s", rule->config->name);
	reply_field(reply, "file", "%s", rule->config->place.file);
	reply_field(reply, "line", "%u", rule->config->place.line);
}

/* Which instance of its pool the rule leads to, and in what state that is. */
static void explain_pool(struct broker *broker, const struct stream *stream,
			 const struct rule *rule, struct reply *reply)
{
	struct pool *pool = store_pool(broker->store, rule->config->pool);
	const struct instance *instance;
	struct owner owner;

	if (!pool)
		return;
	reply_field(reply, "pool", "%s", pool->config.name);
	if (store_owner(&owner, pool, &stream->peer, broker->self)) {
		reply_field(reply, "why",
			    "pool \"%s\" is one for each %s, and this caller has none that is "
			    "known here",
			    pool->config.name, store_per(pool));
		return;
	}
	instance = store_find(pool, &owner);
	if (instance && *instance->owner_text)
		reply_field(reply, "owner", "%s", instance->owner_text);
	if (instance && instance->why.error)
		reply_field(reply, "why", "pool \"%s\": %s: %s; %s", pool->config.name,
			    instance->why.step, strerror(instance->why.error),
			    instance->why.advice);
}

static void explain_verdict(struct broker *broker, const struct stream *stream,
			    const struct rule *rule, struct reply *reply)
{
	uint32_t allow = rule ? rule->config->allow : 0;
	uint32_t missing = stream->wanted & ~allow;
	char rights[64];

	reply_field(reply, "name", "/%s", stream->text);
	/* Asked about no right in particular, it is whether there is any. */
	reply_field(reply, "verdict", "%s", missing || !allow ? "denied" : "allowed");
	reply_field(reply, "wanted", "%s",
		    policy_rights_text(rights, sizeof(rights), stream->wanted));
	if (rule) {
		rule_fields(reply, rule);
		reply_field(reply, "allows", "%s",
			    policy_rights_text(rights, sizeof(rights), allow));
		if (missing)
			reply_field(reply, "missing", "%s",
				    policy_rights_text(rights, sizeof(rights), missing));
		explain_pool(broker, stream, rule, reply);
	}
	reply_field(reply, "sandboxed", "%s", stream->peer.sandboxed ? "yes" : "no");
	reply_field(reply, "uid", "%u", stream->peer.ids.uid);
	reply_field(reply, "unit", "%s", stream->peer.unit);
	reply_field(reply, "app", "%s", stream->peer.app);
	reply_record_end(reply);
}

static bool explain_batch(struct broker *broker, struct caller *caller, struct stream *stream,
			  struct reply *reply)
{
	char text[1024];

	while (stream->rule < stream->rule_end && reply->body_size + RECORD_MAX < REPLY_BODY_MAX) {
		const struct rule *rule = policy_rule(broker->policy, stream->rule++);
		enum mismatch why = policy_match(rule, &stream->peer, broker->self, stream->text,
						 strlen(stream->text));

		rule_fields(reply, rule);
		reply_field(reply, "passed-over", "%s",
			    policy_mismatch_text(text, sizeof(text), why, rule, &stream->peer));
		reply_record_end(reply);
	}
	return stream->rule < stream->rule_end;
}

static int parse_groups(const char *text, gid_t *groups, size_t size, size_t *ret_count)
{
	char *end;

	for (*ret_count = 0; *text; text = *end == ',' ? end + 1 : end) {
		unsigned long gid = strtoul(text, &end, 10);

		if (end == text || (*end && *end != ',') || gid >= UINT32_MAX || *ret_count == size)
			return -EINVAL;
		groups[(*ret_count)++] = (gid_t)gid;
	}
	return 0;
}

static int parse_id(const char *text, uint32_t fallback, uint32_t *ret)
{
	unsigned long id;
	char *end;

	*ret = fallback;
	if (!text)
		return 0;
	id = strtoul(text, &end, 10);
	if (end == text || *end || id >= UINT32_MAX)
		return -EINVAL;
	*ret = (uint32_t)id;
	return 0;
}

/* Who is asked about: the fields of the request, or the caller himself. */
static int explain_peer(struct broker *broker, struct caller *caller, const struct request *request,
			struct peer *ret)
{
	const char *fields = request->text;
	size_t size = request->text_size;
	const char *pid_text = fields_get(fields, size, "pid");
	const char *groups_text = fields_get(fields, size, "groups");
	const char *unit = fields_get(fields, size, "unit");
	const char *app = fields_get(fields, size, "app");
	gid_t groups[1024];
	struct ids ids = { .groups = groups };
	uint32_t pid;

	if (parse_id(pid_text, 0, &pid) < 0 ||
	    parse_id(fields_get(fields, size, "uid"), caller->peer.ids.uid, &ids.uid) < 0 ||
	    parse_id(fields_get(fields, size, "gid"), caller->peer.ids.gid, &ids.gid) < 0 ||
	    parse_groups(groups_text ? groups_text : "", groups, 1024, &ids.group_count) < 0)
		return -EINVAL;
	if (app && !name_is_app(app, strlen(app)))
		return -EDOM;
	if (pid_text) {
		creds_reset(&broker->creds);
		return peer_from_pid(ret, broker->self, (pid_t)pid);
	}
	return peer_imagine(ret, &ids, unit ? unit : "", app ? app : "");
}

static bool explains_another(const struct request *request)
{
	static const char *const keys[] = { "pid", "uid", "gid", "groups", "unit", "app" };

	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
		if (fields_get(request->text, request->text_size, keys[i]))
			return true;
	return false;
}

int stream_explain(struct broker *broker, struct caller *caller, const struct request *request,
		   struct reply *reply)
{
	const char *text = fields_get(request->text, request->text_size, "name");
	const char *wanted_text = fields_get(request->text, request->text_size, "wanted");
	bool another = explains_another(request);
	struct name name = text ? name_strip(text, strlen(text)) : (struct name){ "", 0 };
	const struct rule *rule = NULL;
	struct view *view = NULL;
	struct stream *stream;
	uint32_t wanted = 0;
	int error;

	if (another && !caller->is_admin)
		return reply_denied(broker, reply, "explaining others is for the administrator");
	error = name_check(name, false);
	if (error)
		return reply_fail(reply, error, "no object can have this name");
	if (wanted_text && policy_rights_parse(&wanted, wanted_text) < 0)
		return reply_fail(reply, EINVAL,
				  "rights are read, write, create, unlink, list, all");
	stream = stream_new(name.text, name.size);
	if (!stream)
		return reply_fail(reply, ENOMEM, "no memory");
	stream->wanted = wanted;
	error = another ? explain_peer(broker, caller, request, &stream->peer)
			: peer_copy(&stream->peer, &caller->peer);
	if (error == 0) {
		stream->next = explain_batch;
		error = policy_view(&view, broker->policy, &stream->peer, broker->self);
	}
	caller->stream = stream;
	caller->stream_serial = request->serial;
	if (error < 0) {
		stream_free(caller);
		return reply_fail(reply, error == -EDOM ? EINVAL : -error, "%s",
				  error == -EDOM ? NAME_APP_RULE
				  : error == -EINVAL
					  ? "explain takes pid, uid, gid, groups, unit, app"
					  : strerror(-error));
	}
	rule = policy_decide(view, name.text, name.size);
	explain_verdict(broker, stream, rule, reply);
	if (caller->is_admin)
		stream->rule_end = rule ? rule->index : policy_rule_count(broker->policy);
	free(view);
	reply->more = stream->rule_end > 0;
	if (!reply->more)
		stream_free(caller);
	return 0;
}
