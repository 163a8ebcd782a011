/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Private pools that are lent to sandboxes as mounts. Nobody can tell whether a mount is still in
 * use somewhere, so a loan is a context's: as long as that is held, the pool is not released,
 * empty or not. For broker.c; the request itself is in broker_private.h.
 */
#ifndef SHMBROKER_LEND_H
#define SHMBROKER_LEND_H

#include "daemon/context.h"
#include "daemon/state.h"
#include "daemon/store.h"

/* One instance, to whoever is behind one context. */
struct loan {
	uint32_t context; /* its number */
	struct instance *instance;
	LIST_ENTRY(loan) entry;
};

struct loans {
	const struct state *state; /* borrowed: over a restart */
	LIST_HEAD(, loan) list;
};

/* A context has ended: what it was lent may be released. Whether there was anything. */
bool loans_end(struct loans *loans, const struct context *context);
/* Those of the process before, once their pools are found again. 0 or -errno. */
int loans_restore(struct loans *loans, struct store *store);
/* Ends those whose context did not go on. */
void loans_sweep(struct loans *loans, const struct contexts *contexts);
/* Forgets them; their notes are left to the next process. */
void loans_leave(struct loans *loans);

#endif
