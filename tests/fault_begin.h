/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A start as main does it, in the test's own process: what check_fault_start.c and
 * check_fault_restart.c share. */
#ifndef SHMBROKER_TESTS_FAULT_BEGIN_H
#define SHMBROKER_TESTS_FAULT_BEGIN_H

#include <errno.h>
#include <fcntl.h>

#include "daemon/fd.h"
#include "tests/confine.h"
#include "tests/fault_scene.h"

/* Nothing is there yet of it. */
static inline void fault_clear(struct fixture *f)
{
	f->state = STATE_NONE;
	f->closer = (struct closer){ .socket = -EBADF };
	f->listener = (struct place_socket){ .fd = -EBADF };
	f->listener_directory = -EBADF;
	f->keeper = NULL;
	f->server = NULL;
	f->setup = (struct server_setup){ .self = &f->self,
					  .source = &f->source,
					  .closer = &f->closer };
}

static inline int fault_listen(struct fixture *f)
{
	const char *name;
	int error;

	f->listener_directory = place_parent_open(f->socket, PLACE_SHARED, &name);
	if (f->listener_directory < 0)
		return f->listener_directory;
	error = place_listen(&f->listener, f->listener_directory, name, 0666);
	if (error == 0 && context_base_open(&f->base, f->contexts_path, geteuid() == 0) == 0)
		f->setup.contexts = &f->base;
	return error;
}

/* The helpers of a table that is made (-EBADF) or found, and its notes, as far as can be. */
static inline int fault_start_helpers(struct fixture *f, int userns, int mntns)
{
	struct keeper_setup keeper = {
		.table_uid = geteuid() == 0 ? 65533 : geteuid(),
		.table_gid = geteuid() == 0 ? 65533 : getegid(),
		.userns = userns,
		.mntns = mntns,
		.confine_keeper = confine_keeper,
		.confine_twin = confine_twin,
	};
	int error = peer_self_init(&f->self, geteuid() != 0);

	if (error == 0)
		error = closer_start(&f->closer, confine_closer);
	if (error < 0) {
		fault_pause();
		fd_close(userns);
		fd_close(mntns);
		fault_resume();
		return error;
	}
	error = keeper_start(&f->keeper, &keeper);
	f->setup.keeper = f->keeper;
	return error;
}

static inline int fault_serve(struct fixture *f, struct kept *kept)
{
	int error = server_new(&f->server, &f->setup);

	if (error == 0 && kept)
		server_leave(f->server, true);
	if (error == 0)
		error = kept ? kept_go_on(f->server, kept)
			     : server_go_on(f->server, &(struct kept_descriptors){ 0 });
	if (error == 0)
		error = server_add_listener(f->server, f->listener.fd,
					    f->listener.refuses_descriptors);
	return error;
}

#endif
