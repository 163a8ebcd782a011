/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The daemon's log: lines on stderr, with the journal's prefixes where stderr is the
 * journal. Everything is escaped here, and what clients can cause comes
 * at a bounded rate.
 */
#ifndef SHMBROKER_LOG_H
#define SHMBROKER_LOG_H

#include "daemon/broker.h"

void log_init(void);
/* syslog(3)'s priority; one line. */
void log_line(int priority, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Each has an entry in the journal's catalogue: systemd/shmbroker.catalog. */
enum log_kind {
	LOG_KIND_PLAIN,
	LOG_KIND_DENIED,
	LOG_KIND_GRANTED,
	LOG_KIND_LIMIT,
	LOG_KIND_RELOADED,
	LOG_KIND_REFUSED, /* a configuration */
	LOG_KIND_POOL_MADE,
	LOG_KIND_POOL_MISSING,
	LOG_KIND_POOL_RELEASED,
	LOG_KIND_POOL_FULL,
	LOG_KINDS,
};

/* One entry, with the journal's fields; NULL and "" are left out. All is escaped already. */
struct log_record {
	enum log_kind kind;
	int priority;
	const char *name, *rule, *pool, *owner, *app, *unit, *verdict;
	uid_t uid; /* with a verdict */
};
void log_record(const struct log_record *record, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Who was not let in, at the rate that a limit's hits have. The socket is borrowed. */
void log_turned_away(int socket, int error, const char *why);
/* A request's outcome, where the rule's `log` wants it. Takes no time where it doesn't. */
void log_outcome(const struct outcome *outcome, const struct caller *caller,
		 const struct request *request, const struct reply *reply);

#endif
