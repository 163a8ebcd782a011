/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the bus's files share: bus.c (the connection), bus_caller.c (who calls, and whose
 * turn it is), bus_credentials.c (what the bus says of him), bus_parse.c (messages to requests),
 * bus_answer.c and bus_property.c (replies to messages), bus_signal.c (subscriptions).
 */
#ifndef SHMBROKER_BUS_PRIVATE_H
#define SHMBROKER_BUS_PRIVATE_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <sys/queue.h>
#include <systemd/sd-bus.h>

#include "daemon/broker.h"
#include "daemon/bus.h"
#include "daemon/hash.h"
#include "daemon/notify.h"
#include "daemon/server.h"
#include "daemon/timer.h"

#define BUS_NAME "org.shmbroker.Broker1"
#define BUS_PATH "/org/shmbroker/Broker1"

/* Messages that wait to be written: with more than these nothing is read, and signals are left out.
 */
#define BUS_WRITES_MAX 1024

struct bus_caller;
struct bus_call;

/* What a caller may ask, and how its answer is made of the broker's packets. */
struct bus_method {
	const char *member, *signature;
	uint16_t operation; /* 0: the broker isn't asked */
	bool is_listing;    /* its answer may be long */
	/* Each 0 or an errno for the caller; NULL: nothing to do. */
	int (*begin)(struct bus_caller *caller, const struct bus_call *call);
	int (*add)(struct bus_caller *caller, const struct bus_call *call,
		   const struct reply *reply); /* one packet; sd-bus copies its descriptors */
	int (*end)(struct bus_caller *caller, const struct bus_call *call);
};

/* A message that is to be answered. */
struct bus_call {
	sd_bus_message *message; /* or a stand-in for it, once it has had to wait */
	const struct bus_method *method;
	struct request request;
	TAILQ_ENTRY(bus_call) entry;
};

/* The answer that is being made: one a caller at a time. */
struct bus_answer {
	sd_bus_message *message; /* NULL: none */
	size_t records, bytes;
	bool is_subscribed; /* by the call that this answers */
	const char *why;    /* beside an errno, for a person */
};

enum bus_caller_state {
	BUS_CALLER_ASKING,     /* the bus is asked who it is */
	BUS_CALLER_CONFIRMING, /* and whether that is still so */
	BUS_CALLER_IDLE,       /* known; nothing is under way */
	BUS_CALLER_WAITING,    /* its call waits for a pool, a load, or others' listings */
	BUS_CALLER_STREAMING,  /* its answer is being made, a piece each turn */
};

/* A unique name that has called. */
struct bus_caller {
	struct caller caller;
	struct bus *bus;
	enum bus_caller_state state;
	sd_bus_slot *question; /* to the bus */
	struct peer peer;      /* BUS_CALLER_CONFIRMING */
	struct event event;    /* its turn */
	TAILQ_HEAD(, bus_call) calls;
	unsigned call_count;
	struct bus_call *current; /* WAITING, STREAMING */
	bool in_line;		  /* it waits for others' listings */
	TAILQ_ENTRY(bus_caller) listing;
	struct bus_answer answer;
	LIST_HEAD(, subscription) subscriptions;
	uint64_t told_serial; /* of the notification that it was told last */
	UT_hash_handle hh;
	char name[];
};

struct bus {
	struct server *server;
	struct broker *broker;
	char *address;
	sd_bus *sd;		      /* NULL: none now */
	bool ready;		      /* the bus has greeted us */
	bool told_gone, told_refused; /* logged already */
	bool told_full;
	int given_up; /* -errno: the next turn leaves the bus */
	int watched_fd;
	short watched;		   /* EV_ flags; 0: not watched */
	struct event event, timer; /* of sd */
	bool timer_set;
	struct timer retry;
	unsigned delay_ms;		   /* of the next try */
	struct bus_caller *callers;	   /* a hash by unique name */
	unsigned asking;		   /* callers that aren't known yet */
	unsigned streaming;		   /* listings under way */
	TAILQ_HEAD(, bus_caller) listings; /* who waits for one to end, in line */
	unsigned call_count;		   /* waiting, of all callers */
	uint64_t last_name_id;
	struct reply reply; /* one for all, likewise */
};

/* bus.c: says the loop what sd-bus waits for: after everything that may have queued a message. */
void bus_update(struct bus *bus);
bool bus_is_full(const struct bus *bus);
/*
 * Something without which a caller would wait in vain has failed: the bus is left, which tells all
 * of them at once, and joined again. Not before the next turn of the loop. `error` is -errno.
 */
void bus_give_up(struct bus *bus, int error);

/* bus_caller.c */
/* Takes a call of a sender's as far as it goes now: always answered, at once or later. */
void bus_caller_call(struct bus *bus, const char *sender, struct bus_call *call);
/* The unique name is gone. */
void bus_caller_gone(struct bus *bus, const char *name);
void bus_callers_free(struct bus *bus);

/* bus_credentials.c: 0 or -errno, also where that is missing without which nobody is anybody. */
int bus_read_credentials(sd_bus_message *message, struct peer_credentials *ret);

/* bus_parse.c: the vtable, and what comes before it. */
int bus_add_object(struct bus *bus);

/* bus_answer.c */
extern const struct bus_method bus_methods[];
void bus_fail(struct bus *bus, sd_bus_message *call, int error, const char *text, size_t size);
bool bus_is_utf8(const char *text, size_t size);
/* A string that is one for D-Bus: itself, or escaped in the buffer. */
const char *bus_string(char *buffer, size_t buffer_size, const char *text, size_t size);
/* The fields of one record, each as it is typed in `types`, else as strings: {sv}s. */
struct bus_field_type {
	const char *key;
	char type; /* t, u, b (yes, no) */
};
int bus_append_record(sd_bus_message *message, const char *record, size_t size,
		      const struct bus_field_type *types);
/* The bytes of a record, without the NUL behind it. */
size_t bus_record_size(const char *at, const char *end);

/* bus_property.c */
/* What answers Get of a property, NULL: there is none of that name; of a NULL name GetAll. */
const struct bus_method *bus_property_method(const char *name);

/* bus_signal.c */
int bus_subscribe(struct bus_caller *caller, const char *pattern, size_t size);
void bus_unsubscribe(struct bus_caller *caller);
/* The last subscription alone. */
void bus_unsubscribe_last(struct bus_caller *caller);

#endif
