/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The daemon's edge around its core: the event loop, the listeners, the clients.
 * The tests run it in their own process, over socket pairs.
 */
#ifndef SHMBROKER_SERVER_H
#define SHMBROKER_SERVER_H

#include <stdbool.h>

#include "daemon/broker.h"

struct server;

struct server_setup {
	const struct peer_self *self;
	const struct config_source *source;
	struct keeper *keeper;
	struct context_base *contexts; /* NULL: contexts can't be had */
	struct closer *closer;	       /* NULL: none; then an attached descriptor is closed here */
	uint32_t connections; /* that there are descriptors for; 0: as many as configured */
	uint32_t rest_us;     /* at most, of who waits in line while others may ask; 0: as usual */
	uint32_t closed_us;   /* after somebody was let in, while others are served; 0: as usual */
	bool always_peek;     /* look for attached descriptors even where the kernel refuses them */
	const struct state *state;		       /* what is left to the next process */
	void (*reloading)(void);		       /* a load begins; may be NULL */
	void (*reloaded)(int error, const char *text); /* it has ended; may be NULL */
	/* Contexts come and go, with what a next process needs of them (borrowed); may be NULL. */
	int (*context_made)(uint32_t number, int hold, int listener); /* 0 or -errno */
	void (*context_ended)(uint32_t number);
	/* So do sealed objects that have a name. */
	int (*sealed_made)(uint32_t number, int memory); /* 0 or -errno */
	void (*sealed_ended)(uint32_t number);
};

/*
 * Descriptors for each connection: its own, those in replies that it hasn't read, and one each for
 * a process with temporary names and for an unpublished object, of which there are as many at most.
 */
#define SERVER_FDS_PER_CONNECTION 16

/* 0 or -errno. Everything in setup outlives the server. */
int server_new(struct server **ret, const struct server_setup *setup);
void server_free(struct server *server);

/*
 * Loads the configuration and waits until its pools are there or absent. 0, or
 * -errno with the reason logged: a wrong configuration, no pool at all (-ENODEV).
 */
int server_load(struct server *server);

/* A context's descriptors, kept from process to process; -EBADF: lost. */
struct kept_context {
	uint32_t number;
	int hold, listener;
};
/* Likewise of a sealed object. */
struct kept_sealed {
	uint32_t number;
	int memory;
};
struct kept_descriptors {
	struct kept_context *contexts;
	size_t context_count;
	struct kept_sealed *sealed;
	size_t sealed_count;
};
/*
 * server_load(), with all that the process before has left, in the order in which it can be used.
 * The descriptors are taken; context_ended is called for contexts that have ended meanwhile, and
 * sealed_ended for objects that can't be told any more.
 * 0 or -errno with the reason logged: nothing is lost then, and the next start may do better.
 */
int server_go_on(struct server *server, const struct kept_descriptors *kept);

/* Accepts on a listening socket (borrowed). 0 or -errno. */
int server_add_listener(struct server *server, int fd, bool refuses_descriptors);
/* Serves a connected socket (taken). 0 or -errno: then it was turned away. */
int server_add_client(struct server *server, int fd);

/* Serves on D-Bus, too, once it is loaded and as soon as there is a bus. 0 or -ENOMEM. */
int server_add_bus(struct server *server, const char *address);

/* Signals: SIGTERM and SIGINT stop, SIGHUP loads. 0 or -errno. */
int server_catch_signals(struct server *server);
/* Until server_stop(), or the keeper has ended: 0 or -errno. */
int server_run(struct server *server);
/* One turn of the loop, which waits if `wait`. */
int server_step(struct server *server, bool wait);
void server_stop(struct server *server);
/* Whether contexts and temporary names are left to the next process at server_free(). */
void server_leave(struct server *server, bool leave);
/* Calls function again and again. Once; 0 or -ENOMEM. */
int server_every(struct server *server, uint64_t ms, void (*function)(struct server *server));
/* And once more, in ms from now, beside that. */
void server_soon(struct server *server, uint64_t ms);
struct broker *server_broker(struct server *server);

#endif
