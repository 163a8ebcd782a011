/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Records of the wire (struct wire_info), for stat and listings. */
#ifndef SHMBROKER_RECORD_H
#define SHMBROKER_RECORD_H

#include <stddef.h>

#include "client/shmbroker.h"

/*
 * Reads the record at the beginning of a body: 0 and its length, padding included, or -EPROTO
 * when it can't be one. A longer record than we know is fine: the rest is skipped.
 */
int shmb_record_read(struct shmb_info *ret, const char *body, size_t size, size_t *ret_used);

#endif
