/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where the daemon's sockets are: the main one, made or given, and the contexts' beside it. For
 * main.c. */
#ifndef SHMBROKER_PLACES_H
#define SHMBROKER_PLACES_H

#include <stdbool.h>

#include "daemon/place.h"

#define SOCKET_DEFAULT "/run/shmbroker/socket"

struct places {
	char *socket_path, *contexts_path;
	struct place_socket socket;
	int directory;		  /* of the socket that we made; -EBADF */
	const char *name;	  /* in it */
	bool given;		  /* by systemd */
	struct context_base base; /* of contexts */
	bool has_base;
};

#define PLACES_NONE ((struct places){ .directory = -EBADF, .socket.fd = -EBADF })

/*
 * socket: of the command line, or NULL; *given: the service manager's, which is taken, or -EBADF. 0
 * or -errno with the reason logged. That contexts can't be had is no error.
 */
int places_open(struct places *places, const char *socket, bool is_user, int *given);
/* Removes the socket if it was made here. */
void places_close(struct places *places);

#endif
