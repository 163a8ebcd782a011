/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The broker against a hostile sequence of packets: several callers ask, others come between them
 * in the pools' directories, and after each answer the model says whether it can be, and whether
 * what is there now is what should be.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>

#include "daemon/fd.h"
#include "fuzz/broker.h"
#include "fuzz/broker_packet.h"

/* Of one input. */
#define STEPS_MAX 48

struct run run;

/* --- callers --- */

static void wake(struct waiter *waiter)
{
	struct caller *caller = (struct caller *)((char *)waiter - offsetof(struct caller, waiter));

	((struct who *)((char *)caller - offsetof(struct who, caller)))->woken = true;
}

static void caller_begin(unsigned which)
{
	const struct model_caller *model = &run.model.caller[which];
	const struct ids ids = { .uid = model->uid, .gid = model->uid };
	struct who *who = &run.who[which];
	const char *why = "";
	struct peer peer;

	EXPECT(peer_imagine(&peer, &ids, "", model->is_sandboxed ? "org.a" : "") == 0, "no memory");
	peer.pid = getpid();
	peer.start_time = run.start_time;
	peer.pinned = true;
	*who = (struct who){ .caller.waiter.wake = wake };
	EXPECT(caller_init_known(&who->caller, run.broker, &peer, ++run.name_id, &why) == 0, "%s",
	       why);
}

static bool is_there(const struct model_object *object)
{
	int directory = pool_directory(object->pool);
	struct stat st;

	return directory >= 0 && fstatat(directory, object->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       st.st_ino == object->ino;
}

static void await_removal(const struct model_object *object)
{
	time_t end = time(NULL) + GUARD_S;

	for (in_process_turn(run.server); is_there(object); in_process_wait(run.server))
		EXPECT(time(NULL) < end, "%s outlives its maker", object->name);
}

/* With it goes what it made and didn't publish, and what it made for as long as it is there. */
static void caller_leave(unsigned which)
{
	time_t end = time(NULL) + GUARD_S;

	caller_done(&run.who[which].caller);
	for (in_process_turn(run.server); !STAILQ_EMPTY(&run.broker->left_behind);
	     in_process_wait(run.server))
		EXPECT(time(NULL) < end, "what it didn't publish outlives it");
	for (size_t i = 0; i < MODEL_NAMES; i++) {
		struct model_object *object = &run.model.object[i];

		if (!object->is_used)
			continue;
		if (object->unpublished_of == (int)which) {
			object->is_used = false;
		} else if (object->temporary_of == (int)which && object->unpublished_of < 0) {
			await_removal(object);
			object->is_used = false;
		}
	}
}
/* --- steps --- */

static void ask(unsigned caller, bool is_kept, struct bytes *in)
{
	static unsigned char packet[REQUEST_BUFFER];
	size_t size = broker_packet_make(packet, in);
	struct request request;

	if (request_decode(&request, packet, size) == 0)
		answer_check(caller, &request, is_kept);
}

/* The next packet of a reply that goes on, whether it was woken or not. */
static void go_on(unsigned caller)
{
	struct who *who = &run.who[caller];
	bool is_there;

	reply_reset(&run.reply);
	EXPECT(broker_continue(run.broker, &who->caller, &run.reply) == 0, "no memory");
	switch (who->stream) {
	case STREAM_NONE:
		EXPECT(run.reply.status == ECANCELED, "%s", strerror(run.reply.status));
		break;
	case STREAM_MONITOR:
		EXPECT(run.reply.status == 0 && run.reply.more, "%s", strerror(run.reply.status));
		break;
	case STREAM_WAIT:
		is_there = model_find(&run.model, who->awaited);
		EXPECT(run.reply.status == 0 && run.reply.more == !is_there, "%s: %s", who->awaited,
		       strerror(run.reply.status));
		if (is_there)
			who->stream = STREAM_NONE;
		break;
	}
	reply_reset(&run.reply);
}

/* Somebody else, past the broker, makes what is no object. */
static void intrude(uint8_t how, struct bytes *in)
{
	char name[601], plain[256];
	struct model_object *object;
	enum model_pool pool;
	uint32_t rights;
	int directory, error;
	struct stat st;

	struct request request = { .text = name, .text_size = broker_packet_name(name, in) };

	if (!model_name(plain, &request))
		return;
	pool = model_pool_of(plain, &rights);
	if (pool != MODEL_HOST && pool != MODEL_GRANT)
		return;
	directory = pool_directory(pool);
	error = how % 3 == 0   ? mkfifoat(directory, plain, 0666)
		: how % 3 == 1 ? mkdirat(directory, plain, 0777)
			       : symlinkat("/etc/passwd", directory, plain);
	if (error < 0)
		return;
	EXPECT(!model_find(&run.model, plain), "%s wasn't there", plain);
	EXPECT(fstatat(directory, plain, &st, AT_SYMLINK_NOFOLLOW) == 0, "%s", strerror(errno));
	object = model_add(&run.model, plain);
	object->is_plain = false;
	object->ino = object->memory = st.st_ino;
	object->uid = st.st_uid;
}

static void step(struct bytes *in)
{
	uint8_t how = take_byte(in);
	unsigned caller = how / 2 % MODEL_CALLERS;

	if (how < 200) {
		ask(caller, how & 1, in);
	} else if (how < 216) {
		pool_use_held(in);
	} else if (how < 228) {
		go_on(caller);
	} else if (how < 236) {
		intrude(how, in);
	} else if (how < 244) {
		caller_leave(caller);
		caller_begin(caller);
	} else if (how < 248 && run.context_count > 0) {
		close(run.context[--run.context_count]);
	}
	in_process_turn(run.server);
	for (unsigned i = 0; i < MODEL_POOLS; i++)
		pool_check(i);
}

/* --- an input --- */

void fuzz_start(void)
{
	static const struct model_caller callers[MODEL_CALLERS] = { { 0, true, false },
								    { 1001, false, false },
								    { 1002, false, false },
								    { 1001, false, true } };
	struct model *model = &run.none;
	struct peer own;
	bool is_root = geteuid() == 0;

	run.server = in_process_start();
	umask(0); /* as the daemon's is */
	run.broker = server_broker(run.server);
	run.reply.body = malloc(REPLY_BODY_MAX);
	EXPECT(run.reply.body, "no memory");
	EXPECT(peer_from_pid(&own, run.broker->self, getpid()) == 0, "who is this?");
	run.start_time = own.start_time;
	peer_done(&own);
	memcpy(model->caller, callers, sizeof(callers));
	for (unsigned i = 0; !is_root && i < MODEL_CALLERS; i++) {
		model->caller[i].uid = geteuid();
		model->caller[i].is_admin = !callers[i].is_sandboxed;
	}
	for (unsigned i = 0; i < MODEL_POOLS; i++) {
		struct instance *instance = in_process_pool(run.server, model_pool_names[i]);
		struct statfs fs = { 0 };

		if (instance)
			fstatfs(instance->writable, &fs);
		model->limit[i] = (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize;
		model->has_pool[i] = instance != NULL;
		model->has_twin[i] = instance && instance->read_only >= 0;
	}
	model->can_seal = sealed_can(&run.broker->sealed);
	model->can_make_contexts = run.broker->contexts.base != NULL;
	model->own_uid = geteuid();
	model->may_set_ids = run.broker->self->may_set_ids;
}

static bool is_settled(void)
{
	for (unsigned i = 0; i < RESOURCE_COUNT; i++)
		if (i != RESOURCE_POOL && run.broker->quota.total[i] > 0)
			return false;
	return true;
}

/* Everybody has gone, and nothing of theirs is left. */
static void end_input(void)
{
	time_t end = time(NULL) + GUARD_S;
	unsigned now;

	while (run.held_count > 0)
		close(run.held[--run.held_count].fd);
	while (run.context_count > 0)
		close(run.context[--run.context_count]);
	for (unsigned i = 0; i < MODEL_CALLERS; i++)
		caller_leave(i);
	for (in_process_empty(run.server); !is_settled(); in_process_wait(run.server))
		EXPECT(time(NULL) < end, "something is still charged to somebody");
	now = in_process_descriptors(run.server);
	EXPECT(!run.descriptors || now == run.descriptors, "%u descriptors before, %u after:\n%s",
	       run.descriptors, now, fuzz_descriptors_text());
	run.descriptors = now;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = { data, size };

	run.model = run.none;
	for (unsigned i = 0; i < MODEL_CALLERS; i++)
		caller_begin(i);
	for (unsigned steps = 0; in.left > 0 && steps < STEPS_MAX; steps++)
		step(&in);
	end_input();
	return 0;
}
