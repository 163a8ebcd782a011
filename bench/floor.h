/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef SHMBROKER_BENCH_FLOOR_H
#define SHMBROKER_BENCH_FLOOR_H

/* Serves a connected socket until its end. */
void floor_serve(int socket, int directory);
/* Asks for a name: a descriptor, or -1. */
int floor_open(int socket, const char *name);

#endif
