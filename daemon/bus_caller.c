/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who calls on the bus: asked of the bus once a unique name, before its first call is
 * served, and forgotten with the name. The calls of one caller are answered in their order.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "daemon/bus_private.h"
#include "daemon/fd.h"
#include "daemon/log.h"
#include "daemon/server_private.h"

/* Calls of one caller, and of all, that wait; names that the bus is being asked about. */
#define CALLS_MAX 64
#define CALLS_TOTAL_MAX 16384
#define ASKING_MAX 1024

/* Answers to List and Pools under way, of all callers: each is kept whole until it is sent. */
#define STREAMING_MAX 4

/* Calls of one user in a pass of the loop, of those that had to wait: others come one by one. */
#define BURST 16

static const char unknown_text[] = "it can't be told who calls";
static const char no_memory[] = "no memory";

static void set_state(struct bus_caller *caller, enum bus_caller_state state)
{
	struct bus *bus = caller->bus;

	if (caller->state == BUS_CALLER_STREAMING && caller->current->method->is_listing)
		bus->streaming--;
	if (caller->state <= BUS_CALLER_CONFIRMING && state > BUS_CALLER_CONFIRMING)
		bus->asking--;
	caller->state = state;
	if (state == BUS_CALLER_STREAMING && caller->current->method->is_listing)
		bus->streaming++;
}

/* In a turn of the loop of its own, after what else is ready now. */
static void schedule(struct bus_caller *caller)
{
	static const struct timeval now = { 0 };

	if (event_add(&caller->event, &now) < 0)
		bus_give_up(caller->bus, -ENOMEM);
}

/* Called by the core, in the middle of something. */
static void wake(struct waiter *waiter)
{
	struct caller *caller = (struct caller *)((char *)waiter - offsetof(struct caller, waiter));

	schedule((struct bus_caller *)((char *)caller - offsetof(struct bus_caller, caller)));
}

/* A place may be free: the first in line tries again. */
static void wake_listings(struct bus *bus)
{
	struct bus_caller *caller = TAILQ_FIRST(&bus->listings);

	if (caller)
		schedule(caller);
}

static void leave_line(struct bus_caller *caller)
{
	if (!caller->in_line)
		return;
	TAILQ_REMOVE(&caller->bus->listings, caller, listing);
	caller->in_line = false;
	wake_listings(caller->bus);
}

/* Whoever has just ended one comes behind those that wait. */
static bool may_list(struct bus_caller *caller)
{
	struct bus *bus = caller->bus;
	const struct bus_caller *first = TAILQ_FIRST(&bus->listings);

	if (bus->streaming < STREAMING_MAX && (!first || first == caller)) {
		leave_line(caller);
		return true;
	}
	if (!caller->in_line)
		TAILQ_INSERT_TAIL(&bus->listings, caller, listing);
	caller->in_line = true;
	return false;
}

/* --- calls that wait --- */

static void call_free(struct bus_call *call)
{
	sd_bus_message_unref(call->message);
	free(call);
}

/*
 * What answers a message in its stead: so large messages and descriptors that
 * hang on them don't have to be kept.
 */
static sd_bus_message *stand_in(struct bus *bus, sd_bus_message *message)
{
	sd_bus_message *copy = NULL;
	uint64_t cookie = 0;

	if (sd_bus_message_get_cookie(message, &cookie) < 0 ||
	    sd_bus_message_new_method_call(bus->sd, &copy, NULL, BUS_PATH, BUS_NAME,
					   sd_bus_message_get_member(message)) < 0 ||
	    sd_bus_message_set_sender(copy, sd_bus_message_get_sender(message)) < 0 ||
	    sd_bus_message_set_expect_reply(copy, sd_bus_message_get_expect_reply(message)) < 0 ||
	    sd_bus_message_seal(copy, cookie, 0) < 0)
		return sd_bus_message_unref(copy);
	return copy;
}

/* A copy that outlives its message. NULL: no memory. */
static struct bus_call *call_keep(struct bus *bus, const struct bus_call *call)
{
	size_t size = call->request.text_size;
	struct bus_call *kept = malloc(sizeof(*kept) + size + 1);

	if (!kept)
		return NULL;
	*kept = *call;
	memcpy(kept + 1, call->request.text, size);
	((char *)(kept + 1))[size] = 0;
	kept->request.text = (char *)(kept + 1);
	kept->message = stand_in(bus, call->message);
	if (!kept->message) {
		free(kept);
		return NULL;
	}
	return kept;
}

static struct bus_call *next_call(struct bus_caller *caller)
{
	struct bus_call *call = TAILQ_FIRST(&caller->calls);

	if (!call)
		return NULL;
	TAILQ_REMOVE(&caller->calls, call, entry);
	caller->call_count--;
	caller->bus->call_count--;
	return call;
}

static void enqueue(struct bus_caller *caller, const struct bus_call *call)
{
	static const char full[] = "too many calls of this connection wait";
	struct bus *bus = caller->bus;
	struct bus_call *kept;

	if (caller->call_count >= CALLS_MAX || bus->call_count >= CALLS_TOTAL_MAX) {
		bus_fail(bus, call->message, EDQUOT, full, strlen(full));
		return;
	}
	kept = call_keep(bus, call);
	if (!kept) {
		bus_fail(bus, call->message, ENOMEM, no_memory, strlen(no_memory));
		return;
	}
	TAILQ_INSERT_TAIL(&caller->calls, kept, entry);
	caller->call_count++;
	bus->call_count++;
}

/* --- answers --- */

static void drop_answer(struct bus_caller *caller)
{
	caller->answer.message = sd_bus_message_unref(caller->answer.message);
	caller->answer = (struct bus_answer){ 0 };
}

/* Its call, kept or not, has been answered. */
static void finish(struct bus_caller *caller)
{
	bool was_listing = caller->current && caller->current->method->is_listing;

	drop_answer(caller);
	leave_line(caller);
	set_state(caller, BUS_CALLER_IDLE);
	if (caller->current)
		call_free(caller->current);
	caller->current = NULL;
	if (was_listing)
		wake_listings(caller->bus);
}

/* What the broker still has of a request that won't be answered. */
static void abandon(struct bus_caller *caller)
{
	const struct request request = { .operation = WIRE_CANCEL, .text = "" };
	struct reply *reply = &caller->bus->reply;

	store_unwait(&caller->caller.waiter);
	if (!caller->caller.stream)
		return;
	reply_reset(reply);
	broker_handle(caller->bus->broker, &caller->caller, &request, reply);
}

static void refuse(struct bus_caller *caller, const struct bus_call *call, int error,
		   const char *why)
{
	const char *text = why ? why : strerror(error);

	abandon(caller);
	bus_fail(caller->bus, call->message, error, text, strlen(text));
	finish(caller);
}

/* From here on the call outlives its message. false: no memory, and it was refused. */
static bool keep(struct bus_caller *caller, const struct bus_call *call,
		 enum bus_caller_state state)
{
	if (!caller->current)
		caller->current = call_keep(caller->bus, call);
	if (!caller->current) {
		refuse(caller, call, ENOMEM, NULL);
		return false;
	}
	set_state(caller, state);
	return true;
}

/* 0 or an errno for the caller. */
static int begin_answer(struct bus_caller *caller, const struct bus_call *call)
{
	if (sd_bus_message_new_method_return(call->message, &caller->answer.message) < 0)
		return ENOMEM;
	return call->method->begin ? call->method->begin(caller, call) : 0;
}

static int send_answer(struct bus_caller *caller, const struct bus_call *call)
{
	int error = call->method->end ? call->method->end(caller, call) : 0;
	int rc = error ? 0 : sd_bus_send(NULL, caller->answer.message, NULL);

	if (rc >= 0)
		return error;
	if (rc == -ENOTCONN || rc == -ECONNRESET)
		bus_give_up(caller->bus, rc);
	switch (-rc) {
	case ENOMEM:
	case ENOBUFS:
		return ENOMEM;
	case ETOOMANYREFS: /* descriptors that nobody has received yet, of all clients together */
		return ENFILE;
	default:
		return EMSGSIZE;
	}
}

/* The answer can't be made or sent: what it would have told goes again. */
static void take_back(struct bus_caller *caller, const struct bus_call *call,
		      const struct reply *reply, int error)
{
	broker_undo(caller->bus->broker, &caller->caller, reply);
	if (caller->answer.is_subscribed)
		bus_unsubscribe_last(caller);
	/* What can't: to hear nothing of it is better than to hear that it failed. */
	if (call->request.operation && !call->method->add)
		bus_give_up(caller->bus, -error);
}

/* One packet of the broker's, the only one or one of many. */
static void add_packet(struct bus_caller *caller, const struct bus_call *call, struct reply *reply)
{
	const struct bus_method *method = call->method;
	struct bus_answer *answer = &caller->answer;
	int error = 0;

	if (!answer->message)
		error = begin_answer(caller, call);
	if (error == 0 && method->add && reply->body_size + reply->fds.count > 0)
		error = method->add(caller, call, reply);
	if (error == 0 && !reply->more)
		error = send_answer(caller, call);
	if (error)
		take_back(caller, call, reply, error);
	/* Only now: the caller has its own while this is closed. */
	fdlist_close(&reply->fds);
	if (error) {
		refuse(caller, call, error, answer->why);
	} else if (!reply->more) {
		finish(caller);
	} else if (keep(caller, call, BUS_CALLER_STREAMING)) {
		schedule(caller);
	}
}

static void handle(struct bus_caller *caller, const struct bus_call *call)
{
	struct bus *bus = caller->bus;
	struct reply *reply = &bus->reply;
	int error = 0;

	reply_reset(reply);
	if (call->method->is_listing && call->request.operation && !may_list(caller)) {
		keep(caller, call, BUS_CALLER_WAITING);
		return;
	}
	if (call->request.operation) {
		error = broker_handle(bus->broker, &caller->caller, &call->request, reply);
		if (error == 0 && reply->parked) {
			keep(caller, call, BUS_CALLER_WAITING);
			return;
		}
		if (error == 0)
			log_outcome(broker_outcome(bus->broker), &caller->caller, &call->request,
				    reply);
	}
	if (error < 0) {
		refuse(caller, call, -error, NULL);
	} else if (reply->status) {
		bus_fail(bus, call->message, reply->status, (char *)reply->body, reply->body_size);
		finish(caller);
	} else {
		add_packet(caller, call, reply);
	}
}

static void continue_answer(struct bus_caller *caller)
{
	struct bus *bus = caller->bus;
	struct reply *reply = &bus->reply;
	int error;

	reply_reset(reply);
	error = broker_continue(bus->broker, &caller->caller, reply);
	if (error < 0) {
		refuse(caller, caller->current, -error, NULL);
	} else if (reply->status) {
		bus_fail(bus, caller->current->message, reply->status, (char *)reply->body,
			 reply->body_size);
		finish(caller);
	} else {
		add_packet(caller, caller->current, reply);
	}
}

/* Whether its user may have one more in this pass, whatever his names on the bus are. */
static bool may_go_on(struct bus_caller *caller)
{
	struct turns *turns = quota_turns(&caller->caller.charge);

	if (turns->calls_pass != caller->bus->server->pass) {
		turns->calls_pass = caller->bus->server->pass;
		turns->calls_left = BURST;
	}
	if (turns->calls_left == 0)
		return false;
	turns->calls_left--;
	turn_served(caller->bus->server, turns);
	return true;
}

static bool has_work(const struct bus_caller *caller)
{
	return caller->state == BUS_CALLER_IDLE && caller->call_count > 0;
}

static void answer_one(struct bus_caller *caller)
{
	if (caller->state == BUS_CALLER_STREAMING) {
		continue_answer(caller);
		return;
	}
	if (caller->state == BUS_CALLER_IDLE)
		caller->current = next_call(caller);
	handle(caller, caller->current);
}

static void caller_turn(evutil_socket_t fd, short what, void *argument)
{
	struct bus_caller *caller = argument;
	bool in_hand = caller->state != BUS_CALLER_IDLE;

	(void)fd;
	(void)what;
	while ((in_hand || has_work(caller)) && may_go_on(caller)) {
		answer_one(caller);
		in_hand = false;
	}
	if (in_hand || has_work(caller))
		schedule(caller);
	bus_update(caller->bus);
}

/* --- who it is --- */

static void caller_free(struct bus_caller *caller)
{
	struct bus *bus = caller->bus;
	struct bus_call *call;
	bool was_known = caller->state > BUS_CALLER_CONFIRMING;

	event_del(&caller->event);
	sd_bus_slot_unref(caller->question);
	while ((call = next_call(caller)))
		call_free(call);
	if (caller->state == BUS_CALLER_CONFIRMING)
		peer_done(&caller->peer);
	HASH_DELETE(hh, bus->callers, caller);
	if (was_known) {
		bus_unsubscribe(caller);
		finish(caller);
		caller_done(&caller->caller);
	} else {
		bus->asking--;
	}
	free(caller);
}

/* All of its calls get this for an answer, and it is asked again at its next. */
static void turn_away(struct bus_caller *caller, int error, const char *why)
{
	struct bus_call *call;

	log_line(LOG_NOTICE, "turned away on the bus: %s: %s", caller->name, why);
	while ((call = next_call(caller))) {
		bus_fail(caller->bus, call->message, error, why, strlen(why));
		call_free(call);
	}
	caller_free(caller);
}

/* The bus says the same of it as before: so what was read of its process was its own. */
static int confirmed(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
	struct bus_caller *caller = userdata;
	struct bus *bus = caller->bus;
	const char *why = "no memory for a connection";
	uint32_t pid;
	int error;

	(void)ret_error;
	caller->question = sd_bus_slot_unref(caller->question);
	if (sd_bus_message_get_error(message) || sd_bus_message_read(message, "u", &pid) < 0 ||
	    pid != (uint32_t)caller->peer.pid) {
		turn_away(caller, EACCES, unknown_text);
		return 0;
	}
	caller->caller = (struct caller){ .waiter.wake = wake };
	error = caller_init_known(&caller->caller, bus->broker, &caller->peer, ++bus->last_name_id,
				  &why);
	if (error < 0) {
		/* What was in peer has been taken. */
		caller->state = BUS_CALLER_ASKING;
		turn_away(caller, -error, why);
		return 0;
	}
	set_state(caller, BUS_CALLER_IDLE);
	caller_turn(-1, 0, caller);
	return 0;
}

static int ask(struct bus_caller *caller, const char *member, sd_bus_message_handler_t handler)
{
	return sd_bus_call_method_async(caller->bus->sd, &caller->question, "org.freedesktop.DBus",
					"/org/freedesktop/DBus", "org.freedesktop.DBus", member,
					handler, caller, "s", caller->name);
}

static int told_credentials(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
	struct bus_caller *caller = userdata;
	struct peer_credentials credentials;
	int error;

	(void)ret_error;
	caller->question = sd_bus_slot_unref(caller->question);
	error = sd_bus_message_get_error(message) ? -EACCES
						  : bus_read_credentials(message, &credentials);
	if (error == 0)
		error = broker_identify(caller->bus->broker, &credentials, &caller->peer);
	if (error == -EMFILE || error == -ENFILE) {
		turn_away(caller, ENFILE, "the broker has no descriptor left");
	} else if (error < 0) {
		turn_away(caller, EACCES, unknown_text);
	} else {
		set_state(caller, BUS_CALLER_CONFIRMING);
		if (ask(caller, "GetConnectionUnixProcessID", confirmed) < 0)
			turn_away(caller, ENOMEM, "no memory to ask who calls");
	}
	return 0;
}

static struct bus_caller *caller_find(struct bus *bus, const char *name)
{
	struct bus_caller *caller = NULL;

	HASH_FIND_STR(bus->callers, name, caller);
	return caller;
}

/* NULL: no memory for it, or to ask the bus about it. */
static struct bus_caller *caller_new(struct bus *bus, const char *name)
{
	size_t size = strlen(name) + 1;
	struct bus_caller *caller = calloc(1, sizeof(*caller) + size);

	if (!caller)
		return NULL;
	caller->bus = bus;
	caller->state = BUS_CALLER_ASKING;
	TAILQ_INIT(&caller->calls);
	LIST_INIT(&caller->subscriptions);
	memcpy(caller->name, name, size);
	evtimer_assign(&caller->event, bus->server->base, caller_turn, caller);
	HASH_ADD_STR(bus->callers, name, caller);
	if (!HASH_HAS(hh, caller)) {
		free(caller);
		return NULL;
	}
	if (ask(caller, "GetConnectionCredentials", told_credentials) < 0) {
		HASH_DELETE(hh, bus->callers, caller);
		free(caller);
		return NULL;
	}
	bus->asking++;
	return caller;
}

void bus_caller_call(struct bus *bus, const char *sender, struct bus_call *call)
{
	static const char many[] = "too many connections are being looked at";
	struct bus_caller *caller = caller_find(bus, sender);

	if (!caller && bus->asking >= ASKING_MAX) {
		bus_fail(bus, call->message, EDQUOT, many, strlen(many));
		return;
	}
	if (!caller)
		caller = caller_new(bus, sender);
	if (!caller) {
		bus_fail(bus, call->message, ENOMEM, no_memory, strlen(no_memory));
	} else if (caller->state == BUS_CALLER_IDLE && caller->call_count == 0) {
		turn_served(bus->server, quota_turns(&caller->caller.charge));
		handle(caller, call);
	} else {
		enqueue(caller, call);
	}
}

void bus_caller_gone(struct bus *bus, const char *name)
{
	struct bus_caller *caller = caller_find(bus, name);

	if (caller)
		caller_free(caller);
}

void bus_callers_free(struct bus *bus)
{
	struct bus_caller *caller, *next;

	HASH_ITER(hh, bus->callers, caller, next)
	caller_free(caller);
}
