/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Somebody who asks a broker without end, beside whom the others are measured. */
#ifndef SHMBROKER_BENCH_FLOOD_H
#define SHMBROKER_BENCH_FLOOD_H

/*
 * Starts a process that does one thing without end: with a number it opens the object read-write on
 * so many connections, on each without waiting for replies, and with 0 it computes; "connects" lets
 * connections be without a word, and "lists" and "contexts" are asked for, one after the other's
 * answer. become() has made it who it is to be before. It rests until it is told to go.
 */
int flood_start(const char *socket, const char *object, const char *what,
		void (*become)(const char *user), const char *user); /* 0 or -errno */
void flood_go(void);
/* Returns when it has been answered all. */
void flood_rest(void);

#endif
