/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Goes on with what the process before has left, so that nothing of it is lost. For server.c. */
#include <errno.h>
#include <string.h>
#include <syslog.h>

#include "daemon/fd.h"
#include "daemon/log.h"
#include "daemon/server_private.h"

/* Whether all of them go on or have ended: nobody comes back to one without its note. */
static bool restore_contexts(struct server *server, const struct kept_descriptors *all,
			     unsigned *ret_going_on)
{
	bool settled = true;

	*ret_going_on = 0;
	server->restoring = true;
	for (size_t i = 0; i < all->context_count; i++) {
		struct kept_context *kept = &all->contexts[i];
		int result = broker_restore_context(server->broker, kept->number,
						    steal_fd(&kept->hold),
						    steal_fd(&kept->listener));

		*ret_going_on += result > 0;
		settled &= result >= 0;
		if (result == 0 && server->setup->context_ended)
			server->setup->context_ended(kept->number);
		if (result < 0)
			log_line(LOG_WARNING,
				 "context %u can't go on now: %s; the next start tries again",
				 kept->number, strerror(-result));
	}
	server->restoring = false;
	return settled;
}

/* Lost would be what a start goes on without: its holder is nobody's then. */
static int cant_go_on(const char *what, int error)
{
	log_line(LOG_CRIT,
		 "%s can't be found again now: %s; nothing of them is lost, the next start tries "
		 "again",
		 what, strerror(-error));
	return error;
}

/* How many there are, or the first -errno. */
static int restore_sealed(struct server *server, const struct kept_descriptors *all)
{
	int count = 0, first = 0;

	for (size_t i = 0; i < all->sealed_count; i++) {
		struct kept_sealed *kept = &all->sealed[i];
		int error = broker_restore_sealed(server->broker, kept->number,
						  steal_fd(&kept->memory));

		count += error == 0;
		if (error == -ENOENT && server->setup->sealed_ended)
			server->setup->sealed_ended(kept->number);
		else if (error < 0 && !first)
			first = error;
	}
	if (first)
		return first;
	broker_sweep_sealed(server->broker);
	return count;
}

int server_go_on(struct server *server, const struct kept_descriptors *kept)
{
	unsigned names, going_on;
	int error, pools, sealed;

	sealed = restore_sealed(server, kept);
	if (sealed < 0)
		return cant_go_on("the sealed objects", sealed);
	pools = broker_restore_pools(server->broker);
	if (pools < 0)
		return cant_go_on("the private pools", pools);
	error = server_load(server);
	if (error < 0)
		return error;
	names = broker_restore_temporaries(server->broker);
	if (restore_contexts(server, kept, &going_on))
		broker_sweep_contexts(server->broker);
	if (pools || names || going_on || sealed)
		log_line(LOG_INFO,
			 "going on with %d private pools, %u contexts, "
			 "%u temporary names, %d sealed objects",
			 pools, going_on, names, sealed);
	return 0;
}
