/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A whole broker in the test's own process: its loop in a thread, a private
 * listener and contexts' directory below test_directory(). The clients are the test's main thread
 * and what it forks.
 */
#ifndef SHMBROKER_FIXTURE_H
#define SHMBROKER_FIXTURE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/shmbroker.h"
#include "daemon/closer.h"
#include "daemon/place.h"
#include "daemon/server.h"
#include "daemon/server_private.h"

/* What a service manager would keep from one broker to the next: all -EBADF at first. */
struct kept {
	int userns, mntns;
	struct kept_context context[8];
	size_t count;
	struct kept_sealed sealed[8];
	size_t sealed_count;
	unsigned sealed_told; /* how often it was to keep one */
	bool is_slow;	      /* what it doesn't keep any more is closed a while later */
};
#define KEPT_NOTHING ((struct kept){ .userns = -EBADF, .mntns = -EBADF })
void kept_done(struct kept *kept);
/* Who keeps what a broker of this setup makes, and what is passed on to it when it begins. */
void kept_by(struct server_setup *setup, struct kept *kept);
int kept_go_on(struct server *server, const struct kept *kept);

struct fixture {
	struct peer_self self;
	struct state state;
	struct config_source source;
	char config[128];    /* the configuration's file */
	char host[128];	     /* a directory on a tmpfs, mode 1777: @host@ in the configuration */
	char directory[128]; /* of the socket */
	char socket[160];
	char contexts_path[128];
	struct place_socket listener;
	int listener_directory;
	struct context_base base;
	struct closer closer;
	struct keeper *keeper;
	struct server_setup setup;
	struct server *server;
	pthread_t thread;
	struct watch call_watch;
	int call_pipe[2], done_pipe[2], held_pipe[2], release_pipe[2];
	_Atomic bool is_calling;
	bool is_held;
	struct fixture *next_running;
	void (*ended)(int error);
	void (*call)(struct fixture *fixture, void *argument);
	void *call_argument;
};

struct fixture_how {
	const char *config; /* the text; @host@ stands for a directory on a tmpfs */
	bool is_user;
	bool no_table;		     /* a keeper without a table: unshare fails with EPERM */
	uint32_t connections;	     /* that there are descriptors for; 0: as many as configured */
	uint32_t rest_us, closed_us; /* of who waits in line, and of the door; 0: as usual */
	bool always_peek;	     /* as on a kernel without SO_PASSRIGHTS */
	const struct keeper_fault *fault;
	struct kept *kept; /* goes on with it, and keeps it up to date; outlives the fixture */
	const char *bus_address;  /* NULL: on no bus */
	void (*ended)(int error); /* in the loop's thread: the broker can't go on; NULL: nothing */
	const char *contexts_below; /* a directory; NULL: test_directory() */
};

/* Its places, and the configuration's file; the rest is as it was. */
void fixture_prepare(struct fixture *fixture, const char *config);
/* Starts it and sets SHMBROKER_SOCKET. Asserts that all goes well. */
void fixture_start(struct fixture *fixture, const struct fixture_how *how);
void fixture_stop(struct fixture *fixture);
/* Its parts alone, as far as they are there, without a thread. */
void fixture_end(struct fixture *fixture);
/* As a restart does: contexts and temporary names are left to the next. */
void fixture_leave(struct fixture *fixture);
/* Whether one goes on with what is kept, or says that it can't: then it is stopped already. */
bool fixture_try_start(struct fixture *fixture, const struct fixture_how *how);
/* Writes another configuration; it counts after a reload. */
void fixture_configure(struct fixture *fixture, const char *config);
/* Runs function in the loop's thread, between two events. */
void fixture_call(struct fixture *fixture, void (*call)(struct fixture *fixture, void *argument),
		  void *argument);
/* Lets the broker's clock be `ms` later for what waits for idleness, and ticks. */
void fixture_tick(struct fixture *fixture, uint64_t ms);

/* A connection to it, by the library. */
struct shmb *fixture_connect(const struct fixture *fixture);

#endif
