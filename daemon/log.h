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
/* A request's outcome, where the rule's `log` wants it. Takes no time where it doesn't. */
void log_outcome(const struct outcome *outcome, const struct caller *caller,
		 const struct request *request, const struct reply *reply);

#endif
