/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Finds, makes and removes the sockets' places: see places.h. */
#include "daemon/places.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "daemon/fd.h"
#include "daemon/log.h"

#define CONTEXTS_NAME "shmbroker-contexts"

static char *absolute(const char *path)
{
	_cleanup_free_ char *here = NULL;
	char *whole;

	if (*path == '/')
		return strdup(path);
	here = getcwd(NULL, 0);
	return here && asprintf(&whole, "%s/%s", here, path) >= 0 ? whole : NULL;
}

static int find_socket_path(struct places *places, const char *socket, bool is_user)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");

	if (socket) {
		places->socket_path = absolute(socket);
	} else if (!is_user) {
		places->socket_path = strdup(SOCKET_DEFAULT);
	} else if (runtime && *runtime == '/') {
		if (asprintf(&places->socket_path, "%s/shmbroker/socket", runtime) < 0)
			places->socket_path = NULL;
	} else {
		log_line(LOG_ERR, "--user needs XDG_RUNTIME_DIR, or --socket");
		return -EINVAL;
	}
	return places->socket_path ? 0 : -ENOMEM;
}

/* Contexts lie beside the socket's directory, never below it: sandboxes may see that. */
static int find_contexts_path(struct places *places)
{
	char *slash;

	places->contexts_path = malloc(strlen(places->socket_path) + sizeof("/" CONTEXTS_NAME));
	if (!places->contexts_path)
		return -ENOMEM;
	strcpy(places->contexts_path, places->socket_path);
	for (int i = 0; i < 2 && (slash = strrchr(places->contexts_path, '/')); i++)
		*slash = 0;
	strcat(places->contexts_path, "/" CONTEXTS_NAME);
	return 0;
}

/* The socket that systemd has passed: 1, 0 when there is none, or -errno. */
static int take_given_socket(struct places *places, int *given)
{
	struct sockaddr_un address = { 0 };
	socklen_t size = sizeof(address) - 1;

	if (*given < 0)
		return 0;
	places->socket.fd = steal_fd(given);
	if (sd_is_socket(places->socket.fd, AF_UNIX, SOCK_SEQPACKET, 1) <= 0) {
		log_line(LOG_ERR, "systemd has passed something else than one listening "
				  "SOCK_SEQPACKET socket (ListenSequentialPacket=)");
		return -EPROTOTYPE;
	}
	if (getsockname(places->socket.fd, (struct sockaddr *)&address, &size) == 0 &&
	    address.sun_path[0] == '/') {
		free(places->socket_path);
		places->socket_path = strdup(address.sun_path);
		if (!places->socket_path)
			return -ENOMEM;
	}
	/* Whoever passed it needn't have done so, and a blocking accept would stop everybody. */
	if (fcntl(places->socket.fd, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	places->given = true;
	places->socket.refuses_descriptors = place_refuse_descriptors(places->socket.fd);
	return 1;
}

static int make_socket(struct places *places, const char *socket, bool is_user)
{
	enum place_kind kind = is_user && !socket ? PLACE_PRIVATE : PLACE_SHARED;
	int error;

	places->directory = place_parent_open(places->socket_path, kind, &places->name);
	if (places->directory < 0) {
		log_line(LOG_ERR, "%s: its directory can't be used: %s", places->socket_path,
			 strerror(-places->directory));
		return places->directory;
	}
	error = place_listen(&places->socket, places->directory, places->name, 0666);
	if (error == -EADDRINUSE)
		log_line(LOG_ERR, "%s: another broker answers there", places->socket_path);
	else if (error < 0)
		log_line(LOG_ERR, "%s: can't listen there: %s", places->socket_path,
			 strerror(-error));
	return error;
}

int places_open(struct places *places, const char *socket, bool is_user, int *given)
{
	int error;

	error = find_socket_path(places, socket, is_user);
	if (error == 0)
		error = take_given_socket(places, given);
	if (error == 0)
		error = make_socket(places, socket, is_user);
	if (error < 0)
		return error;
	error = find_contexts_path(places);
	if (error < 0)
		return error;
	error = context_base_open(&places->base, places->contexts_path, !is_user);
	if (error < 0) {
		log_line(LOG_WARNING, "%s: no contexts for sandboxes: %s%s", places->contexts_path,
			 strerror(-error),
			 error == -EOPNOTSUPP ? " (its file system has no ACLs)" : "");
		return 0;
	}
	places->has_base = true;
	context_base_sweep(&places->base);
	return 0;
}

void places_close(struct places *places)
{
	if (places->has_base)
		context_base_done(&places->base);
	if (places->socket.fd >= 0 && !places->given && places->directory >= 0)
		place_unlink_own(&places->socket, places->directory, places->name);
	fd_close(places->socket.fd);
	fd_close(places->directory);
	free(places->socket_path);
	free(places->contexts_path);
}
