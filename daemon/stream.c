/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Replies of more than one packet: list, pools, status, explain. One packet at a
 * time is made, when the client has room for it, so nothing here holds the
 * loop for longer than one small batch.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "daemon/broker_private.h"
#include "daemon/fd.h"
#include "proto/name.h"

/* Entries of a directory in one go: all of them fit into one reply, however long their names. */
#define BATCH_BYTES 960

/* Room that any one record of fields may need. */
#define RECORD_MAX 5120

struct stream {
	/* Fills one packet. false: that was the last. */
	bool (*next)(struct broker *broker, struct caller *caller, struct stream *stream,
		     struct reply *reply);
	uint32_t number; /* list, pools: of the instance that was begun last */
	int directory;	 /* list: with a position of its own */
	size_t rule;	 /* explain: passed over up to here */
	size_t rule_end;
	struct peer peer; /* explain: who is asked about */
	uint32_t wanted;
	char text[]; /* list: the pattern; explain: the name */
};

static struct stream *stream_new(const char *text, size_t size)
{
	struct stream *stream = calloc(1, sizeof(*stream) + size + 1);

	if (!stream)
		return NULL;
	stream->directory = -EBADF;
	memcpy(stream->text, text, size);
	return stream;
}

void stream_free(struct caller *caller)
{
	struct stream *stream = caller->stream;

	if (!stream)
		return;
	fd_close(stream->directory);
	if (stream->next && stream->peer.unit)
		peer_done(&stream->peer);
	free(stream);
	caller->stream = NULL;
}

static int continue_stream(struct broker *broker, struct caller *caller, struct reply *reply)
{
	struct stream *stream = caller->stream;

	creds_reset(&broker->creds);
	reply->more = stream->next(broker, caller, stream, reply);
	reply->silent = reply->more && reply->body_size == 0;
	if (!reply->more)
		stream_free(caller);
	return 0;
}

static int begin(struct broker *broker, struct caller *caller, const struct request *request,
		 struct stream *stream, struct reply *reply)
{
	caller->stream = stream;
	caller->stream_serial = request->serial;
	return continue_stream(broker, caller, reply);
}

int broker_continue(struct broker *broker, struct caller *caller, struct reply *reply)
{
	if (!caller->stream)
		return reply_fail(reply, ECANCELED,
				  "cancelled, or another configuration is in force");
	return continue_stream(broker, caller, reply);
}

/* Whether the rules lead a caller to this very instance, with any of these rights. */
static bool leads_to(struct broker *broker, const struct caller *caller,
		     const struct instance *instance, uint32_t rights)
{
	struct owner owner;

	if (caller->is_admin)
		return true;
	if (store_owner(&owner, instance->pool, &caller->peer) ||
	    store_find(instance->pool, &owner) != instance)
		return false;
	for (size_t i = 0; i < caller->view->count; i++) {
		const struct rule_config *rule = caller->view->rule[i]->config;

		if ((rule->allow & rights) &&
		    store_pool(broker->store, rule->pool) == instance->pool)
			return true;
	}
	return false;
}

static bool may_list(struct broker *broker, const struct caller *caller,
		     const struct instance *instance, const char *name)
{
	const struct rule *rule;

	if (caller->is_admin)
		return true;
	rule = policy_decide(caller->view, name, strlen(name));
	return rule && (rule->config->allow & RIGHT_LIST) &&
	       store_pool(broker->store, rule->config->pool) == instance->pool;
}

bool caller_may_list(struct broker *broker, const struct caller *caller,
		     const struct instance *instance, const char *name)
{
	return leads_to(broker, caller, instance, RIGHT_LIST) &&
	       may_list(broker, caller, instance, name);
}

static void list_entry(struct broker *broker, struct caller *caller, struct stream *stream,
		       const struct instance *instance, const char *name, struct reply *reply)
{
	struct object_info info;

	if (name_check((struct name){ name, strlen(name) }, false))
		return;
	if (*stream->text && fnmatch(stream->text, name, 0) != 0)
		return;
	if (!may_list(broker, caller, instance, name))
		return;
	if (object_stat(instance, name, &info) == 0)
		info_append(broker, instance, name, &info, reply);
}

/* The next instance that the caller may look into, or NULL. */
static struct instance *list_next(struct broker *broker, struct caller *caller,
				  struct stream *stream)
{
	struct instance *instance;

	while ((instance = store_next(broker->store, stream->number))) {
		stream->number = instance->number;
		if (instance->state == INSTANCE_READY &&
		    leads_to(broker, caller, instance, RIGHT_LIST))
			return instance;
	}
	return NULL;
}

static bool list_batch(struct broker *broker, struct caller *caller, struct stream *stream,
		       struct reply *reply)
{
	static _Alignas(struct dirent64) char batch[BATCH_BYTES];
	struct instance *instance = store_by_number(broker->store, stream->number);
	long size;

	if (stream->directory < 0) {
		instance = list_next(broker, caller, stream);
		if (!instance)
			return false;
		stream->directory = openat(instance->writable, ".",
					   O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	/* Gone meanwhile, or not to be opened now: on to the next. */
	size = instance && instance->state == INSTANCE_READY && stream->directory >= 0
		       ? syscall(SYS_getdents64, stream->directory, batch, sizeof(batch))
		       : 0;
	if (size <= 0) {
		stream->directory = fd_close(stream->directory);
		return true;
	}
	for (long at = 0; at < size;) {
		const struct dirent64 *entry = (const struct dirent64 *)(batch + at);

		list_entry(broker, caller, stream, instance, entry->d_name, reply);
		at += entry->d_reclen;
	}
	return true;
}

int stream_list(struct broker *broker, struct caller *caller, const struct request *request,
		struct reply *reply)
{
	struct name pattern = name_strip(request->text, request->text_size);
	struct stream *stream;

	if (memchr(pattern.text, 0, pattern.size))
		return reply_fail(reply, EINVAL, "a NUL byte in the pattern");
	stream = stream_new(pattern.text, pattern.size);
	if (!stream)
		return reply_fail(reply, ENOMEM, "no memory for a listing");
	stream->next = list_batch;
	return begin(broker, caller, request, stream, reply);
}

static const char *kind_text(enum pool_kind kind)
{
	return kind == POOL_MADE ? "made" : kind == POOL_GIVEN ? "given" : "path";
}

static unsigned callers_of(struct broker *broker, const struct instance *instance)
{
	struct caller *caller;
	unsigned count = 0;

	LIST_FOREACH (caller, &broker->callers, entry)
		count += caller->view && caller->view_generation == broker->generation &&
			 !caller->is_admin && leads_to(broker, caller, instance, RIGHT_ALL);
	return count;
}

static void pool_record(struct broker *broker, struct caller *caller,
			const struct instance *instance, struct reply *reply)
{
	const struct pool_config *config = &instance->pool->config;
	struct statfs fs = { 0 };

	reply_field(reply, "pool", "%s", config->name);
	reply_field(reply, "owner", "%s", instance->owner_text);
	reply_field(reply, "kind", "%s", kind_text(config->kind));
	reply_field(reply, "access", "%s",
		    config->access == POOL_ACCESS_CALLER ? "caller" : "grant");
	reply_field(reply, "state", "%s",
		    instance->state == INSTANCE_ABSENT	? "absent"
		    : instance->state != INSTANCE_READY ? "making"
		    : instance->pool->closed		? "closed"
							: "ready");
	reply_field(reply, "read-only", "%s", instance->read_only >= 0 ? "yes" : "no");
	if (config->path)
		reply_field(reply, "path", "%s", config->path);
	if (instance->state == INSTANCE_READY && fstatfs(instance->writable, &fs) == 0) {
		/* The root directory is an inode, too. */
		uint64_t files = fs.f_files > 0 ? fs.f_files - 1 : 0;

		reply_field(reply, "size", "%llu",
			    (unsigned long long)fs.f_blocks * (unsigned long long)fs.f_bsize);
		reply_field(reply, "used", "%llu",
			    (unsigned long long)(fs.f_blocks - fs.f_bfree) *
				    (unsigned long long)fs.f_bsize);
		reply_field(reply, "objects-limit", "%llu", (unsigned long long)files);
		reply_field(reply, "objects", "%llu",
			    fs.f_files > 0 ? (unsigned long long)(files - fs.f_ffree) : 0);
	}
	if (instance->why.error)
		reply_field(reply, "why", "%s: %s; %s", instance->why.step,
			    strerror(instance->why.error), instance->why.advice);
	if (caller->is_admin)
		reply_field(reply, "users", "%u", callers_of(broker, instance));
	reply_record_end(reply);
}

static bool pools_batch(struct broker *broker, struct caller *caller, struct stream *stream,
			struct reply *reply)
{
	struct instance *instance;

	while (reply->body_size + RECORD_MAX < REPLY_BODY_MAX) {
		instance = store_next(broker->store, stream->number);
		if (!instance)
			return false;
		stream->number = instance->number;
		if (leads_to(broker, caller, instance, RIGHT_ALL))
			pool_record(broker, caller, instance, reply);
	}
	return true;
}

int stream_pools(struct broker *broker, struct caller *caller, const struct request *request,
		 struct reply *reply)
{
	struct stream *stream = stream_new("", 0);

	if (!stream)
		return reply_fail(reply, ENOMEM, "no memory for a listing");
	stream->next = pools_batch;
	return begin(broker, caller, request, stream, reply);
}

int stream_status(struct broker *broker, struct caller *caller, const struct request *request,
		  struct reply *reply)
{
	const struct counters *counters = &broker->counters;
	struct keeper_failure why;

	if (!caller->is_admin)
		return reply_denied(broker, reply,
				    "the daemon's counters are for its administrator");
	creds_reset(&broker->creds);
	reply_field(reply, "version", "%s", PACKAGE_VERSION);
	reply_field(reply, "pid", "%d", (int)getpid());
	reply_field(reply, "uptime-ms", "%llu",
		    (unsigned long long)(broker_now_ms() - broker->started_ms));
	reply_field(reply, "rules", "%zu", policy_rule_count(broker->policy));
	for (size_t i = 0; i < policy_config(broker->policy)->files.count; i++)
		reply_field(reply, "file", "%s", policy_config(broker->policy)->files.string[i]);
	reply_field(reply, "connections", "%u", broker->quota.total[RESOURCE_CONNECTION]);
	reply_field(reply, "contexts", "%u", broker->quota.total[RESOURCE_CONTEXT]);
	reply_field(reply, "private-pools", "%u", broker->quota.total[RESOURCE_POOL]);
	reply_field(reply, "temporary-names", "%u", broker->quota.total[RESOURCE_TEMPORARY]);
	reply_field(reply, "requests", "%llu", (unsigned long long)counters->requests);
	reply_field(reply, "denials", "%llu", (unsigned long long)counters->denials);
	reply_field(reply, "failures", "%llu", (unsigned long long)counters->failures);
	reply_field(reply, "reloads", "%llu", (unsigned long long)counters->reloads);
	reply_field(reply, "connections-ever", "%llu", (unsigned long long)counters->connections);
	reply_field(reply, "contexts-ever", "%llu", (unsigned long long)counters->contexts);
	if (broker->reload_error)
		reply_field(reply, "last-reload", "%s", broker->reload_text);
	if (!keeper_has_table(broker->keeper, &why))
		reply_field(reply, "pool-table", "%s: %s; %s", why.step, strerror(why.error),
			    why.advice);
	reply_record_end(reply);
	return 0;
}

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
	if (store_owner(&owner, pool, &stream->peer)) {
		reply_field(reply, "why",
			    "pool \"%s\" is one for each %s, and this caller has none",
			    pool->config.name, pool->config.per == POOL_PER_APP ? "app" : "unit");
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
		return -EINVAL;
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
		return reply_fail(reply, -error, "%s",
				  error == -EINVAL
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
