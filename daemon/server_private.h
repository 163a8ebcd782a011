/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What server.c, listener.c and client.c share. */
#ifndef SHMBROKER_SERVER_PRIVATE_H
#define SHMBROKER_SERVER_PRIVATE_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <sys/queue.h>

#include "daemon/bus.h"
#include "daemon/closer.h"
#include "daemon/server.h"
#include "daemon/timer.h"

struct listener {
	struct server *server;
	struct context *context; /* NULL: a main socket */
	int fd;			 /* borrowed */
	bool refuses_descriptors;
	struct event event;
	bool waits; /* somebody is at the door, and it isn't his turn: in the door's line */
	LIST_ENTRY(listener) entry;
	TAILQ_ENTRY(listener) turn;
};

enum client_state {
	CLIENT_GREETING,  /* its hello is awaited */
	CLIENT_READING,	  /* the next request is */
	CLIENT_PARKED,	  /* its request waits for a pool or a load */
	CLIENT_STREAMING, /* a reply of several packets goes out */
};

/* A packet that the socket had no room for. */
struct queued {
	struct fdlist fds;
	size_t size;
	unsigned char bytes[];
};

struct client {
	struct server *server;
	struct caller caller;
	int fd;
	enum client_state state;
	struct turn turn;      /* of its user: it waits for its own */
	bool peek;	       /* the kernel doesn't refuse descriptors: look for them first */
	struct queued *queued; /* at most one: nothing is read meanwhile */
	struct event event;
	unsigned char *parked; /* the request that is asked again */
	size_t parked_size;
	bool has_long_buffer;  /* its socket */
	bool idle;	       /* streaming, and there is nothing to send until it is woken */
	bool parked_streaming; /* a reply was going out when it was parked */
	bool unwatched;	       /* for want of memory */
	struct request stream; /* CLIENT_STREAMING: what the packets answer */
	LIST_ENTRY(client) entry;
};

/*
 * Who waits in line rests after others were served, until they ask again: where there is one
 * processor they can do so only while we do nothing, and those in line have nothing to do, either.
 * In all it rests no longer than it is worked between rests.
 */
struct rest {
	struct timer timer;
	uint64_t since_ns; /* when it began or ended */
	uint64_t until_ns; /* it lasts */
	uint64_t timed_ns; /* until when the timer is set */
	int64_t left_ns;   /* of it, and what has been worked since is added */
	bool is_due;	   /* others were served since one was in vain */
	bool is_timed;	   /* the timer is set */
	bool is_on;	   /* the loop may wait, although there is a line */
	bool is_each_ones; /* each who is in line has to, for what he has asked before */
};

/*
 * To learn who somebody is takes as long as many requests: after he was let in nobody else is for
 * twice as long, if others were served meanwhile.
 */
struct door {
	TAILQ_HEAD(, listener) waiting; /* those who may let somebody in in another pass */
	uint64_t accepted;		/* the last pass in which somebody was let in */
	const struct turns *last; /* whose he is, never looked into; NULL: he was turned away */
	bool has_others;	  /* were served since */
	uint64_t closed_until_ns;
	struct timer timer;
	bool is_timed; /* the timer is set: the loop may wait, although somebody is there */
};

struct server {
	const struct server_setup *setup;
	struct event_base *base;
	struct broker *broker;
	struct bus *bus; /* NULL: on none */
	struct broker_edge edge;
	struct loop loop;
	struct event *keeper_event, *tick_event, *resume_event, *every_event;
	struct event *signal_event[3];
	uint64_t tick_at_ms; /* 0: none */
	LIST_HEAD(, listener) listeners;
	LIST_HEAD(, client) clients;
	uint64_t pass;		     /* of the loop: one wait, and all that was ready */
	TAILQ_HEAD(, turns) waiting; /* users of whom connections wait for their turn */
	uint64_t served;	/* the last pass in which somebody was who doesn't wait in line */
	uint64_t served_before; /* and in which another than in that one */
	const struct turns *served_turns; /* whose, never looked into */
	struct rest rest;
	struct door door;
	bool stopped;
	bool ending, leave; /* at server_free(): contexts and temporary names */
	bool restoring;	    /* contexts that are kept already */
	void (*every)(struct server *server);
	int every_fd;
	bool soon;		      /* once more is on its way */
	SLIST_HEAD(, orphan) orphans; /* nobody is let in while there are any */
	int reserve;  /* a descriptor to turn somebody away with when there is none left */
	bool paused;  /* accepting, for want of descriptors */
	bool is_full; /* and nobody could be let in since */
	int error;    /* why the loop was left */
	bool loaded;  /* the first load has ended */
	int load_error;
	struct reply reply;	    /* one for all: nothing of it lives longer than a request */
	struct reply_packet packet; /* likewise */
};

/* A descriptor that the closer did not take yet. */
struct orphan {
	int fd;
	enum closing how;
	SLIST_ENTRY(orphan) entry;
};

/* server.c: has a descriptor (taken) closed by the closer, soon. */
void server_close_elsewhere(struct server *server, int fd, enum closing how);

/* listener.c */
int listener_add(struct server *server, int fd, struct context *context, bool refuses_descriptors);
void listener_free(struct listener *listener);
/* Of a context that has ended, whose listening socket it closes. */
void listener_end(struct listener *listener);
int listeners_init(struct server *server); /* 0 or -errno */
/* Lets somebody in whose listener is in line (one is), if it is time. */
void listeners_go_on(struct server *server);
void listeners_pause(struct server *server);
void listeners_resume(struct server *server);

/* client.c */
int client_add(struct server *server, int fd, struct context *context, bool refuses_descriptors);
/* Ends it as a whole, by the closer where that could take time. */
void client_drop(struct client *client);
/* Serves it, whose turn it is; then it waits for the next, or for the loop. It may be freed. */
void client_take_turn(struct client *client);
/* Sends a hello that turns away and closes; with peek what was sent before may be anything. */
void client_turn_away(struct server *server, int fd, int error, const char *why, bool peek);

/* turn.c */
/* Its user's, brought up to this pass. */
struct turns *turns_now(struct client *client);
void turn_wait(struct client *client);
/* It waits no longer, if it did. */
void turn_leave(struct client *client);
/*
 * Its user's, if it may be served now; NULL: it is in line. Once in so many passes, and while there
 * are others, it is to be looked whether it asks ahead.
 */
struct turns *turn_or_wait(struct client *client);
/* After receiving a request: who waits for his replies sends nothing more before he is answered. */
void turn_look(struct client *client);
/*
 * A request that may take long has, since begin_ns: its user has had his part of this pass, and
 * rests for twice as long while others are served.
 */
void turn_took(struct client *client, uint64_t begin_ns);
/* Somebody is served, unless he is in line; on the bus, too. */
void turn_served(struct server *server, const struct turns *turns);
/* Serves one connection of each user who has some in line; there are such. */
void turns_go_on(struct server *server);
int turns_init(struct server *server); /* 0 or -errno */

#endif
