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
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "daemon/broker_private.h"
#include "daemon/clock.h"
#include "daemon/fd.h"
#include "daemon/stream_private.h"
#include "proto/name.h"

/* Entries of a directory in one go: all of them fit into one reply, however long their names. */
#define BATCH_BYTES 960

struct stream *stream_new(const char *text, size_t size)
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
	notify_unwait(caller->broker, &stream->wait);
	if (stream->monitor)
		monitor_free(stream->monitor);
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
	if (store_owner(&owner, instance->pool, &caller->peer, broker->self) ||
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

static struct wire_info wire_of(const struct object_info *info)
{
	return (struct wire_info){
		.size = info->size,
		.allocated = info->allocated,
		.ino = info->ino,
		.created_ns = info->created_ns,
		.uid = info->uid,
		.gid = info->gid,
		.mode = info->mode & 07777,
		.flags = (S_ISREG(info->mode) ? 0 : WIRE_INFO_NOT_AN_OBJECT) |
			 (info->is_sealed ? WIRE_INFO_SEALED : 0),
	};
}

bool info_append(struct broker *broker, const struct instance *instance, const char *name,
		 const struct object_info *learnt, struct reply *reply)
{
	struct object_info info = *learnt;
	const char *pool = instance->pool->config.name;
	const char *owner = instance->owner_text;
	struct wire_info wire;
	size_t used, padded;

	sealed_correct(&broker->sealed, instance, name, &info);
	wire = wire_of(&info);
	wire.creator_pid = temporary_maker(&broker->temporaries, instance, name, learnt->ino);
	wire.name_size = (uint8_t)strlen(name);
	wire.pool_size = (uint8_t)strlen(pool);
	wire.owner_size = (uint8_t)strnlen(owner, 255);
	used = sizeof(wire) + wire.name_size + wire.pool_size + wire.owner_size;
	padded = (used + 7) / 8 * 8;

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

static void list_entry(struct broker *broker, struct caller *caller, struct stream *stream,
		       const struct instance *instance, const char *name, struct reply *reply)
{
	struct object_info info;

	if (name_check((struct name){ name, strlen(name) }, false) ||
	    !may_list(broker, caller, instance, name))
		return;
	if (*stream->text && fnmatch(stream->text, name, 0) != 0)
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

/*
 * A pool that can't be looked into now. false: that ends the listing, which would lack objects and
 * not say so. But who is gone has none, and a directory that isn't ours to read never tells.
 */
static bool list_without(struct stream *stream, int error, struct reply *reply)
{
	stream->directory = fd_close(stream->directory);
	if (error == ENOENT || error == EACCES)
		return true;
	reply_fail(reply, error == EMFILE ? ENFILE : error, "a pool can't be listed now: %s",
		   strerror(error));
	return false;
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
		if (stream->directory < 0)
			return list_without(stream, errno, reply);
	}
	/* Gone meanwhile: on to the next. */
	size = instance && instance->state == INSTANCE_READY
		       ? syscall(SYS_getdents64, stream->directory, batch, sizeof(batch))
		       : 0;
	if (size < 0)
		return list_without(stream, errno, reply);
	if (size == 0) {
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

/* 0, or the errno that the reply has by then. */
static int check_pattern(struct name pattern, struct reply *reply)
{
	if (pattern.size > WIRE_NAME_MAX)
		reply_fail(reply, ENAMETOOLONG, "a pattern has at most 255 bytes");
	else if (memchr(pattern.text, 0, pattern.size))
		reply_fail(reply, EINVAL, "a NUL byte in the pattern");
	return reply->status;
}

int stream_list(struct broker *broker, struct caller *caller, const struct request *request,
		struct reply *reply)
{
	struct name pattern = name_strip(request->text, request->text_size);
	struct stream *stream;

	if (check_pattern(pattern, reply))
		return 0;
	stream = stream_new(pattern.text, pattern.size);
	if (!stream)
		return reply_fail(reply, ENOMEM, "no memory for a listing");
	stream->next = list_batch;
	return begin(broker, caller, request, stream, reply);
}

static bool monitor_batch(struct broker *broker, struct caller *caller, struct stream *stream,
			  struct reply *reply)
{
	(void)broker;
	(void)caller;
	reply->idle = !monitor_take(stream->monitor, reply);
	return true;
}

int stream_monitor(struct broker *broker, struct caller *caller, const struct request *request,
		   struct reply *reply)
{
	struct name pattern = name_strip(request->text, request->text_size);
	struct stream *stream;
	int error;

	error = check_pattern(pattern, reply);
	if (error)
		return 0;
	stream = stream_new("", 0);
	if (!stream)
		return reply_fail(reply, ENOMEM, "no memory to watch");
	error = monitor_new(&stream->monitor, broker, caller, pattern.text, pattern.size);
	if (error) {
		free(stream);
		return reply_fail(reply, error, "%s",
				  error == EDQUOT ? "too many subscriptions of this user"
						  : strerror(error));
	}
	stream->next = monitor_batch;
	caller->stream = stream;
	caller->stream_serial = request->serial;
	/* An empty packet says that it has begun. */
	reply->more = true;
	return 0;
}

/* It is there, or can't be: then this is the last packet, and the only one. */
static bool wait_batch(struct broker *broker, struct caller *caller, struct stream *stream,
		       struct reply *reply)
{
	if (caller_refresh(broker, caller) < 0) {
		reply_fail(reply, ENOMEM, "no memory to wait");
		return false;
	}
	if (operation_look(broker, caller, stream->text, reply) || reply->status)
		return false;
	reply->parked = false;
	reply->idle = true;
	return true;
}

int stream_wait(struct broker *broker, struct caller *caller, const struct request *request,
		struct reply *reply)
{
	struct name name = name_strip(request->text, request->text_size);
	struct stream *stream;
	int error;

	/* What is there, and what is refused, needs no waiting. */
	if (memchr(name.text, 0, name.size))
		return reply_fail(reply, EINVAL, "no object can have this name");
	if (operation_look(broker, caller, name.text, reply) || reply->status || reply->parked)
		return 0;
	stream = stream_new(name.text, name.size);
	if (!stream)
		return reply_fail(reply, ENOMEM, "no memory to wait");
	stream->wait.caller = caller;
	stream->wait.name = stream->text;
	error = notify_wait(broker, &stream->wait);
	if (error) {
		free(stream);
		return reply_fail(reply, error, "%s",
				  error == EDQUOT ? "too many waits of this user"
				  : error == EOPNOTSUPP
					  ? "a pool can't be watched (fs.inotify.max_user_watches)"
					  : strerror(error));
	}
	stream->next = wait_batch;
	return begin(broker, caller, request, stream, reply);
}

bool stream_outlives_reload(const struct stream *stream)
{
	return stream->monitor || stream->wait.awaited;
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
	if (config->exec)
		reply_field(reply, "exec", "yes");
	if (config->huge)
		reply_field(reply, "huge", "%s", config->huge);
	if (config->mpol)
		reply_field(reply, "mpol", "%s", config->mpol);
	if (instance->state == INSTANCE_READY && store_usage(instance, &fs) == 0) {
		struct store_objects objects = store_objects(instance, &fs);

		reply_field(reply, "size", "%llu",
			    (unsigned long long)fs.f_blocks * (unsigned long long)fs.f_bsize);
		reply_field(reply, "used", "%llu",
			    (unsigned long long)(fs.f_blocks - fs.f_bfree) *
				    (unsigned long long)fs.f_bsize);
		reply_field(reply, "objects-limit", "%llu", (unsigned long long)objects.limit);
		reply_field(reply, "objects", "%llu", (unsigned long long)objects.count);
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
	struct instance *instance = store_next(broker->store, stream->number);

	while (instance && reply->body_size + RECORD_MAX < REPLY_BODY_MAX) {
		stream->number = instance->number;
		if (leads_to(broker, caller, instance, RIGHT_ALL))
			pool_record(broker, caller, instance, reply);
		instance = store_each(broker->store, instance);
	}
	return instance != NULL;
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

/* A field of a value as long as they get, and how many of them are left out. */
#define FILE_ROOM 1100

/* Behind all else: there may be more of them than a reply has room for. */
static void status_files(const struct string_list *files, struct reply *reply)
{
	size_t i;

	for (i = 0; i < files->count && reply->body_size + FILE_ROOM < REPLY_BODY_MAX; i++)
		reply_field(reply, "file", "%s", files->string[i]);
	if (i < files->count)
		reply_field(reply, "files-left-out", "%zu", files->count - i);
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
		    (unsigned long long)(clock_now_ms() - broker->started_ms));
	reply_field(reply, "rules", "%zu", policy_rule_count(broker->policy));
	reply_field(reply, "connections", "%u", broker->quota.total[RESOURCE_CONNECTION]);
	reply_field(reply, "contexts", "%u", broker->quota.total[RESOURCE_CONTEXT]);
	reply_field(reply, "private-pools", "%u", store_private_count(broker->store));
	reply_field(reply, "sealed", "%u", broker->quota.total[RESOURCE_SEALED]);
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
	status_files(&policy_config(broker->policy)->files, reply);
	reply_record_end(reply);
	return 0;
}
