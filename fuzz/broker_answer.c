/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An answer of the broker's against the model, which then moves on: see broker.h. */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "daemon/fd.h"
#include "fuzz/broker.h"

static void check_outcome(const struct expected *e, const struct request *request)
{
	const struct reply *reply = &run.reply;

	if (reply->status == 0) {
		EXPECT(e->may_succeed, "operation %u on \"%s\" was done; %s", request->operation,
		       request->text ? request->text : "", strerror(e->error[0]));
		return;
	}
	EXPECT(reply->fds.count == 0, "a descriptor with status %d", reply->status);
	EXPECT(!reply->more, "a refusal that goes on");
	EXPECT(reply->body_size > 0 && reply->body_size < 1024, "a reason of %zu bytes",
	       reply->body_size);
	for (unsigned i = 0; i < e->count; i++)
		if (e->error[i] == reply->status)
			return;
	EXPECT(false, "operation %u on \"%s\": %s (%.*s), not %s", request->operation,
	       request->text ? request->text : "", strerror(reply->status), (int)reply->body_size,
	       reply->body, e->count ? strerror(e->error[0]) : "success");
}

static struct model_object *made(unsigned caller, const struct request *request, const char *name,
				 int fd)
{
	const struct model *model = &run.model;
	struct model_object *object = model_add(&run.model, name);

	object->is_sealed = request->options & WIRE_SEALED;
	object->memory = object->ino = pool_ino(fd);
	object->size = request->size_bytes;
	object->mode = model_mode(request, name);
	object->uid = model->may_set_ids ? model->caller[caller].uid : model->own_uid;
	if (request->options & WIRE_UNPUBLISHED)
		object->unpublished_of = (int)caller;
	if (model_is_made_temporary(request, name))
		object->temporary_of = (int)caller;
	return object;
}

static void opened(unsigned caller, const struct request *request, bool is_kept)
{
	struct model_object *object = NULL;
	uint32_t body[2];
	char name[256];
	int fd;

	EXPECT(run.reply.fds.count == 1 && run.reply.fds.kind[0] == WIRE_FD_OBJECT,
	       "no object's descriptor");
	EXPECT(run.reply.body_size == sizeof(body), "a body of %zu bytes", run.reply.body_size);
	memcpy(body, run.reply.body, sizeof(body));
	fd = fdlist_steal_only(&run.reply.fds);
	model_name(name, request);
	if (!(request->options & WIRE_UNPUBLISHED))
		object = model_find(&run.model, name);
	EXPECT(!!(body[0] & WIRE_CREATED) == !object, "%s: said to be new, or not", name);
	if (!object)
		object = made(caller, request, name, fd);
	else if (request->flags & WIRE_TRUNCATE)
		object->size = 0;
	pool_check_descriptor(fd, object, request->flags);
	if (is_kept)
		pool_hold(fd, object, request->flags & WIRE_WRITE);
	else
		close(fd);
}

static void published(unsigned caller, const struct request *request)
{
	struct model_object *object, *before;
	struct stat st;
	char name[256];

	model_name(name, request);
	object = model_find_unpublished(&run.model, caller, name);
	if (request->options & WIRE_DISCARD) {
		object->is_used = false;
		return;
	}
	before = model_find(&run.model, name);
	if (before)
		before->is_used = false;
	object->unpublished_of = -1;
	EXPECT(fstatat(pool_directory(object->pool), name, &st, AT_SYMLINK_NOFOLLOW) == 0,
	       "%s was published, and isn't there", name);
	if (object->is_sealed)
		object->ino = st.st_ino;
}

static void check_info(const struct wire_info *info, const struct model_object *object)
{
	EXPECT(!(info->flags & WIRE_INFO_NOT_AN_OBJECT) == object->is_plain, "%s: of another type",
	       object->name);
	EXPECT(!!(info->flags & WIRE_INFO_SEALED) == object->is_sealed, "%s: sealed, or not",
	       object->name);
	EXPECT(!!(info->flags & WIRE_INFO_TEMPORARY) == (object->temporary_of >= 0),
	       "%s: temporary, or not", object->name);
	if (object->is_plain)
		EXPECT(info->size == object->size && info->mode == object->mode &&
			       info->uid == object->uid && info->ino == object->memory,
		       "%s: %llu bytes, mode %o, of %u", object->name,
		       (unsigned long long)info->size, info->mode, info->uid);
}

/* Reads the records of one packet; counts those of each object. */
static void read_records(unsigned char seen[static MODEL_NAMES])
{
	const unsigned char *at = run.reply.body, *end = at + run.reply.body_size;
	struct model_object *object;
	struct wire_info info;
	char name[256];

	for (; at < end; at += info.record_size) {
		EXPECT((size_t)(end - at) >= sizeof(info), "half a record");
		memcpy(&info, at, sizeof(info));
		EXPECT(info.record_size % 8 == 0 && info.record_size <= end - at &&
			       info.record_size >= sizeof(info) + info.name_size + info.pool_size +
							   info.owner_size,
		       "a record of %u bytes", info.record_size);
		memcpy(name, at + sizeof(info), info.name_size);
		name[info.name_size] = 0;
		object = model_find(&run.model, name);
		EXPECT(object, "%s: nobody made it", name);
		check_info(&info, object);
		seen[object - run.model.object]++;
	}
}

/* All that the caller may see and the pattern fits, each once. */
static void listed(unsigned caller, const char *pattern)
{
	unsigned char seen[MODEL_NAMES] = { 0 };

	read_records(seen);
	while (run.reply.more) {
		reply_reset(&run.reply);
		EXPECT(broker_continue(run.broker, &run.who[caller].caller, &run.reply) == 0,
		       "no memory");
		EXPECT(run.reply.status == 0, "a listing ends with %s", strerror(run.reply.status));
		read_records(seen);
	}
	while (*pattern == '/')
		pattern++;
	for (size_t i = 0; i < MODEL_NAMES; i++) {
		const struct model_object *object = &run.model.object[i];
		bool is_shown = object->is_used && object->unpublished_of < 0 &&
				model_may_list(&run.model, caller, object) &&
				(!*pattern || fnmatch(pattern, object->name, 0) == 0);

		EXPECT(seen[i] == is_shown, "%s: %u times in a listing of \"%s\"", object->name,
		       seen[i], pattern);
	}
}

static void finish_stream(unsigned caller)
{
	while (run.reply.more) {
		reply_reset(&run.reply);
		EXPECT(broker_continue(run.broker, &run.who[caller].caller, &run.reply) == 0,
		       "no memory");
	}
}

static void begin_stream(unsigned caller, const struct request *request, enum streaming stream)
{
	struct who *who = &run.who[caller];

	if (!run.reply.more)
		return;
	who->stream = stream;
	who->stream_serial = request->serial;
	model_name(who->awaited, request);
}

/* A name that is there ends the wait at once; EDQUOT, or it goes on. */
static void check_wait(unsigned caller, const struct request *request, const struct expected *e)
{
	struct expected waits = { .may_succeed = true, .count = 1, .error = { EDQUOT } };
	bool is_missing = !e->may_succeed && e->count == 1 && e->error[0] == ENOENT;

	check_outcome(is_missing ? &waits : e, request);
	if (run.reply.status)
		return;
	EXPECT(run.reply.more == is_missing, "a wait for what is there, or not");
	begin_stream(caller, request, STREAM_WAIT);
}

static void dropped(const struct request *request)
{
	(void)request;
	for (size_t i = 0; i < MODEL_NAMES; i++) {
		struct model_object *object = &run.model.object[i];

		if (object->is_used && object->pool == MODEL_MADE && object->unpublished_of < 0)
			object->is_used = false;
	}
}

static void made_context(void)
{
	EXPECT(run.reply.fds.count == 1 && run.reply.fds.kind[0] == WIRE_FD_HOLD, "no hold");
	EXPECT(run.reply.body_size > 1 && run.reply.body[0] == '/', "no directory");
	if (run.context_count == HELD_MAX)
		close(run.context[--run.context_count]);
	run.context[run.context_count++] = fdlist_steal_only(&run.reply.fds);
}

static void cancelled(unsigned caller, const struct request *request)
{
	struct who *who = &run.who[caller];

	if (who->stream_serial == request->cancelled_serial)
		who->stream = STREAM_NONE;
	EXPECT(run.reply.silent, "an answer to a cancel");
}

static void done(unsigned caller, const struct request *request, bool is_kept)
{
	struct model_object *object;
	char name[256];

	model_name(name, request);
	switch (request->operation) {
	case WIRE_OPEN:
		opened(caller, request, is_kept);
		break;
	case WIRE_UNLINK:
		model_find(&run.model, name)->is_used = false;
		break;
	case WIRE_STAT:
		object = model_find(&run.model, name);
		EXPECT(run.reply.body_size >= sizeof(struct wire_info), "no record");
		check_info((const struct wire_info *)run.reply.body, object);
		break;
	case WIRE_PUBLISH:
		published(caller, request);
		break;
	case WIRE_LIST:
		listed(caller, request->text);
		break;
	case WIRE_MONITOR:
		begin_stream(caller, request, STREAM_MONITOR);
		break;
	case WIRE_DROP:
		dropped(request);
		break;
	case WIRE_CREATE_CONTEXT:
		made_context();
		break;
	case WIRE_CANCEL:
		cancelled(caller, request);
		break;
	default:
		finish_stream(caller);
	}
}

static void expect(unsigned caller, const struct request *request, struct expected *ret)
{
	*ret = (struct expected){ 0 };
	switch (request->operation) {
	case WIRE_OPEN:
		model_expect_open(&run.model, caller, request, ret);
		break;
	case WIRE_UNLINK:
		model_expect_unlink(&run.model, caller, request, ret);
		break;
	case WIRE_STAT:
	case WIRE_WAIT:
		model_expect_look(&run.model, caller, request, ret);
		break;
	case WIRE_PUBLISH:
		model_expect_publish(&run.model, caller, request, ret);
		break;
	default:
		model_expect_other(&run.model, caller, request, ret);
	}
}

static bool is_streamed(uint16_t operation)
{
	switch (operation) {
	case WIRE_LIST:
	case WIRE_MONITOR:
	case WIRE_WAIT:
	case WIRE_POOLS:
	case WIRE_EXPLAIN:
	case WIRE_STATUS:
		return true;
	default:
		return false;
	}
}

/* Asked again for as long as it waits. */
static void handle(unsigned caller, const struct request *request)
{
	struct who *who = &run.who[caller];
	time_t end = time(NULL) + GUARD_S;

	for (;;) {
		reply_reset(&run.reply);
		who->woken = false;
		EXPECT(broker_handle(run.broker, &who->caller, request, &run.reply) == 0,
		       "no memory");
		if (!run.reply.parked)
			return;
		for (in_process_turn(run.server); !who->woken; in_process_wait(run.server))
			EXPECT(time(NULL) < end, "operation %u is never answered",
			       request->operation);
	}
}
void answer_check(unsigned caller, const struct request *request, bool is_kept)
{
	static const struct expected busy = { .count = 1, .error = { EBUSY } };
	struct expected expected;

	expect(caller, request, &expected);
	handle(caller, request);
	if (run.who[caller].stream && is_streamed(request->operation)) {
		check_outcome(&busy, request);
	} else if (request->operation == WIRE_WAIT) {
		check_wait(caller, request, &expected);
	} else {
		check_outcome(&expected, request);
		if (run.reply.status == 0)
			done(caller, request, is_kept);
	}
	reply_reset(&run.reply);
}
