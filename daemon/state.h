/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What must outlive the process beside the pools themselves: which pool is whose, which context
 * is which app's, who made a temporary name, what a sealed object is called. One symbolic link an
 * entry, in a directory of the pool table: made in one step, gone with the table, and read by
 * nobody else. Temporary names, of which clients make as many as they may, have one of their own:
 * they take no room from the rest. All of it is for the broker's own ids.
 */
#ifndef SHMBROKER_STATE_H
#define SHMBROKER_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/keeper.h"

/* Longer values are not kept: PATH_MAX. */
#define STATE_VALUE_MAX 4095

/* The pool table's numbers for it: no pool has those. */
#define STATE_NUMBER 0
#define STATE_NUMBER_TEMPORARIES UINT32_MAX

enum state_kind {
	STATE_POOL = 'p',
	STATE_CONTEXT = 'c',
	STATE_TEMPORARY = 't',
	STATE_SEALED = 's',
	STATE_LOAN = 'l',
};

struct state {
	int directory;	 /* -EBADF: nothing is kept */
	int temporaries; /* likewise */
};
#define STATE_NONE ((struct state){ .directory = -EBADF, .temporaries = -EBADF })

/*
 * Finds what the last process has kept, or makes an empty place for it. Blocks, so it is for the
 * start. 0, or -errno with the reason in ret_why.
 */
int state_open(struct state *ret, struct keeper *keeper, struct keeper_failure *ret_why);
void state_close(struct state *state);

bool state_is_kept(const struct state *state);

/* Keeps a value, in the place of one that is there. 0 or -errno; 0 where nothing is kept. */
int state_put(const struct state *state, enum state_kind kind, uint64_t number, const char *format,
	      ...) __attribute__((format(printf, 4, 5)));
void state_remove(const struct state *state, enum state_kind kind, uint64_t number);

/* Reads one: a text that ends, in a buffer of STATE_VALUE_MAX + 1. 0 or -errno: -ENOENT. */
int state_get(const struct state *state, enum state_kind kind, uint64_t number,
	      char ret[static STATE_VALUE_MAX + 1]);

/*
 * Calls function for each entry of a kind, which may remove that one. The value may be changed. 0,
 * or -errno when none could be looked for.
 */
typedef void (*state_fn)(void *context, uint64_t number, char *value);
int state_each(const struct state *state, enum state_kind kind, state_fn function, void *context);

/*
 * Values are words with a slash between; the last may hold anything but a NUL. Takes the next
 * word: NULL when there is none. state_number: false when it isn't one.
 */
char *state_word(char **value);
bool state_number(char **value, uint64_t *ret);

/*
 * Asks the keeper one thing and waits for the answer: at the start, when nothing else is asked. 0,
 * and descriptors in ret; or an errno, said in ret->failure.
 */
int state_ask_keeper(struct keeper *keeper, const struct keeper_request *request,
		     struct keeper_reply *ret);

#endif
