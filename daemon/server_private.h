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

struct listener {
	struct server *server;
	struct context *context; /* NULL: a main socket */
	int fd;			 /* borrowed */
	bool refuses_descriptors;
	struct event event;
	LIST_ENTRY(listener) entry;
};

enum client_state {
	CLIENT_GREETING,  /* its hello is awaited */
	CLIENT_READING,	  /* the next request is */
	CLIENT_PARKED,	  /* its request waits for a pool or a load */
	CLIENT_STREAMING, /* a reply of several packets goes out */
	CLIENT_CLOSING,	  /* handed to the closer as soon as that takes it */
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
	uint64_t turn;	       /* of its user, in which it was served last */
	bool peek;	       /* the kernel doesn't refuse descriptors: look for them first */
	struct queued *queued; /* at most one: nothing is read meanwhile */
	struct event event;
	unsigned char *parked; /* the request that is asked again */
	size_t parked_size;
	bool parked_streaming; /* a reply was going out when it was parked */
	struct request stream; /* CLIENT_STREAMING: what the packets answer */
	LIST_ENTRY(client) entry;
};

struct server {
	const struct server_setup *setup;
	struct event_base *base;
	struct broker *broker;
	struct bus *bus; /* NULL: on none */
	struct broker_edge edge;
	struct loop loop;
	struct event *keeper_event, *tick_event, *resume_event;
	struct event *signal_event[3];
	uint64_t tick_at_ms; /* 0: none */
	LIST_HEAD(, listener) listeners;
	LIST_HEAD(, client) clients;
	uint64_t pass; /* of the loop: one wait, and all that was ready */
	bool stopped;
	unsigned closing; /* clients in CLIENT_CLOSING */
	int reserve;	  /* a descriptor to turn somebody away with when there is none left */
	bool paused;	  /* accepting, for want of descriptors */
	int error;	  /* why the loop was left */
	bool loaded;	  /* the first load has ended */
	int load_error;
	struct reply reply;	    /* one for all: nothing of it lives longer than a request */
	struct reply_packet packet; /* likewise */
};

/* listener.c */
int listener_add(struct server *server, int fd, struct context *context, bool refuses_descriptors);
void listener_free(struct listener *listener);
/* Of a context that has ended, whose listening socket it closes. */
void listener_end(struct listener *listener);
void listeners_resume(struct server *server);

/* client.c */
int client_add(struct server *server, int fd, struct context *context, bool refuses_descriptors);
void client_free(struct client *client);
/* Tries again to hand over what the closer would not take. */
void clients_retry_closing(struct server *server);
/* Ends it as a whole, by the closer where that could take time. */
void client_drop(struct client *client);
/* Sends a hello that turns away and closes; with peek what was sent before may be anything. */
void client_turn_away(struct server *server, int fd, int error, const char *why, bool peek);

#endif
