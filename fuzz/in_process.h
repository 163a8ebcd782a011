/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A whole broker in the fuzzer's own process, made once: pools on a tmpfs, a keeper, and a private
 * pool where namespaces can be had. Its loop turns only when the fuzzer says so.
 */
#ifndef SHMBROKER_FUZZ_IN_PROCESS_H
#define SHMBROKER_FUZZ_IN_PROCESS_H

#include <stdbool.h>

#include "daemon/broker_private.h"
#include "daemon/server.h"
#include "daemon/server_private.h"

/* Of the private pool. */
#define FUZZ_MADE_BYTES (256 * 1024)
#define FUZZ_MADE_OBJECTS 8

/*
 * The first letter of a name leads to its pool: h to "host" (access caller), g to "grant" (access
 * grant, a directory too), m to "made" (a private one). In "grant" r is for reading and listing
 * alone, c for all but unlink, x for sealed objects, t for temporary names, l is limited to a size
 * of FUZZ_MAX_SIZE and a mode of 0640. Anything else has no rule.
 */
#define FUZZ_MAX_SIZE 4096
#define FUZZ_MODE_MASK 0640

/* Starts it. A failure ends the process. */
struct server *in_process_start(void);
/* Turns the loop until nothing is ready any more. */
void in_process_turn(struct server *server);
/* One turn that waits for something, for a moment. */
void in_process_wait(struct server *server);
/* The one instance of a pool, NULL: it can't be had on this machine. */
struct instance *in_process_pool(struct server *server, const char *name);
/* Removes what is in all pools, past the broker, and lets it notice. */
void in_process_empty(struct server *server);
/* Descriptors of this process, without those of pools, which come and go. */
unsigned in_process_descriptors(struct server *server);

#endif
