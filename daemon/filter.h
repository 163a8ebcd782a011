/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which system calls the broker and its helpers may still make once they have begun: what their
 * work takes, and nothing more. Whoever makes another is ended by SIGSYS. For main.c.
 */
#ifndef SHMBROKER_FILTER_H
#define SHMBROKER_FILTER_H

enum filter_role {
	FILTER_BROKER = 1 << 0,
	FILTER_KEEPER = 1 << 1, /* in the pool table */
	FILTER_TWIN = 1 << 2,	/* and the children that it makes twins in */
	FILTER_CLOSER = 1 << 3, /* and the children that close */
};

/*
 * Of this process and those that it forks, for good. Sets no_new_privs. 0; or nothing is filtered:
 * -errno for want of memory or descriptors, and errno where none can be had at all, since the
 * kernel has no filters (EINVAL) or whoever has started us lets us have none.
 */
int filter_install(enum filter_role role);

#endif
