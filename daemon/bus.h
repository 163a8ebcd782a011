/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The broker on D-Bus: a second transport beside the socket, in the same loop. Made
 * by the server. It never waits for the bus: without one it goes on trying.
 */
#ifndef SHMBROKER_BUS_H
#define SHMBROKER_BUS_H

struct bus;
struct server;

/* 0 or -ENOMEM. `address` as D-Bus has them; copied. Once the configuration is loaded. */
int bus_new(struct bus **ret, struct server *server, const char *address);
void bus_free(struct bus *bus);

#endif
