/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What stream.c and explain.c share: a reply of several packets. */
#ifndef SHMBROKER_STREAM_PRIVATE_H
#define SHMBROKER_STREAM_PRIVATE_H

#include "daemon/broker_private.h"

/* Room that any one record of fields may need. */
#define RECORD_MAX 5120

struct stream {
	/* Fills one packet. false: that was the last. */
	bool (*next)(struct broker *broker, struct caller *caller, struct stream *stream,
		     struct reply *reply);
	uint32_t number; /* list, pools: of the instance that was begun last */
	int directory;	 /* list: with a position of its own */
	size_t rule;	 /* explain: passed over up to here */
	size_t rule_end;
	struct peer peer;	 /* explain: who is asked about */
	struct monitor *monitor; /* monitor: what has happened */
	struct name_wait wait;	 /* wait: for stream->text */
	uint32_t wanted;
	char text[]; /* list: the pattern; explain: the name */
};

/* With a text of its own. NULL: no memory. */
struct stream *stream_new(const char *text, size_t size);

#endif
