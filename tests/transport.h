/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A broker with its places (native.h) and connections to it over either transport: for tests of
 * what both offer, which are looped over them.
 */
#ifndef SHMBROKER_TRANSPORT_H
#define SHMBROKER_TRANSPORT_H

#include "client/shmbroker.h"
#include "tests/native.h"

enum transport { OVER_SOCKET, OVER_BUS, TRANSPORTS };

/*
 * For TEST_NEEDS: the bus has to know the tests' users, if there are to be several. With
 * TEST_TRANSPORTS=socket in the environment it is left out.
 */
bool transport_possible(enum transport transport);
#define TRANSPORT_MISSING                                                                          \
	"no dbus-daemon, or none that knows the users of the tests, or TEST_TRANSPORTS=socket"

/* As places_start() and places_stop(); from then on lines are of this transport. */
void transport_start(enum transport transport, struct fixture *fixture, const char *test);
void transport_stop(struct fixture *fixture);

/* A connection, as who the process is now; NULL: none can be had. */
struct line;
struct line *line_new(const struct fixture *fixture);
void line_free(struct line *line); /* NULL is fine */
/* A descriptor or 0, or -errno; on a bus the mode is taken as it is. */
int line_open(struct line *line, const char *name, int oflag, mode_t mode);
int line_open_how(struct line *line, const char *name, const struct shmb_how *how);
int line_unlink(struct line *line, const char *name);

#endif
