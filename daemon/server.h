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
	bool always_peek; /* look for attached descriptors even where the kernel refuses them */
	void (*reloading)(void);		       /* a load begins; may be NULL */
	void (*reloaded)(int error, const char *text); /* it has ended; may be NULL */
};

/* 0 or -errno. Everything in setup outlives the server. */
int server_new(struct server **ret, const struct server_setup *setup);
void server_free(struct server *server);

/*
 * Loads the configuration and waits until its pools are there or absent. 0, or
 * -errno with the reason logged: a wrong configuration, no pool at all (-ENODEV).
 */
int server_load(struct server *server);

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
struct broker *server_broker(struct server *server);

#endif
