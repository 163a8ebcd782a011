/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What peer.c, ids.c and unit.c share with nobody else. */
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

/* Brings the groups into the order that ids_in_group() and ids_equal() rely on. */
void ids_sort(struct ids *ids);

/*
 * The effective ids and the groups out of the text of /proc/PID/status; ids has no
 * groups yet. 0, -EBADMSG or -ENOMEM.
 */
int ids_from_status(struct ids *ids, const char *status);

#endif
