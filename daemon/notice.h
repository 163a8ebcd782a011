/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the core has to say that nobody has asked for: the edge writes it into its log. */
#ifndef SHMBROKER_NOTICE_H
#define SHMBROKER_NOTICE_H

enum notice_kind {
	NOTICE_PLAIN,
	NOTICE_POOL_MADE,
	NOTICE_POOL_MISSING,
	NOTICE_POOL_RELEASED,
	NOTICE_POOL_FULL, /* over 90 per cent */
};

struct notice {
	enum notice_kind kind;
	int priority;	   /* syslog(3)'s */
	const char *pool;  /* NULL: of no pool */
	const char *owner; /* whose instance, "" */
	const char *text;  /* one line */
};

typedef void (*notice_fn)(void *context, const struct notice *notice);

#endif
