/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What peer.c, peer_bus.c, ids.c and unit.c share with nobody else. */
#ifndef SHMBROKER_PEER_PRIVATE_H
#define SHMBROKER_PEER_PRIVATE_H

#include <stddef.h>

#include "daemon/peer.h"

/*
 * The strings of a peer: most are empty, and there are thousands of peers, so all
 * empty ones are the same byte.
 */
extern char peer_empty[1];

/* A copy of `size` bytes, terminated; the shared empty string for 0. 0 or -ENOMEM. */
int peer_string_copy(char **ret, const char *text, size_t size);
/* *string is the empty one afterwards. */
void peer_string_free(char **string);

/* All empty: for peer_done() from here on. */
void peer_init(struct peer *peer);

/* A security module's text, which may end in a NUL byte or a line end, or not. 0 or -ENOMEM. */
int peer_label_copy(char **ret, const char *text, size_t size);

/* A process that is being looked at: both are of the same one as long as it lives. */
struct process {
	int pidfd;     /* borrowed */
	int directory; /* /proc/PID, borrowed */
};

/* pidfd_open(2): close-on-exec, owned by the caller. -ESRCH where there is no process. */
int process_pidfd(pid_t pid);
/* The text of a file below /proc/PID, for free(). 0, -ESRCH when it has ended meanwhile, -errno. */
int process_read(char **ret, const struct process *process, const char *name);
/*
 * Everything that /proc says of a peer whose ids are known; status is the text of that
 * file of the same process. 0 or -errno.
 */
int process_identify(struct peer *peer, const struct peer_self *self, const struct process *process,
		     const char *status);

/* Brings the groups into the order that ids_in_group() and ids_equal() rely on. */
void ids_sort(struct ids *ids);

/*
 * The effective ids and the groups out of the text of /proc/PID/status; ids has no
 * groups yet. 0, -EBADMSG or -ENOMEM.
 */
int ids_from_status(struct ids *ids, const char *status);

#endif
