/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A small broker for the library's own suites: a process that speaks the wire format
 * and opens plain files in a directory. Some names make it misbehave.
 */
#ifndef SHMBROKER_FAKE_BROKER_H
#define SHMBROKER_FAKE_BROKER_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * Names by their beginning: "read-" is done, and the connection closed without a reply, the
 * first time; "unread-" closes it with the request unread, the first time; "never-"
 * closes it every time; "last-" is like "read-", and nobody can connect any more.
 */
struct fake_broker {
	char path[108]; /* of its socket */
	const char *directory;
	int listener; /* kept by the test, as systemd keeps a socket unit's; -EBADF: none */
	pid_t pid;    /* 0: not running */
};

/* Listens in `directory` and starts it; sets SHMBROKER_SOCKET. */
void fake_broker_start(struct fake_broker *broker, const char *directory);
/* Kills it and starts another one on the same listener: connections are lost. */
void fake_broker_restart(struct fake_broker *broker);
/* Kills it; the listener stays. */
void fake_broker_kill(struct fake_broker *broker);
/* Kills it and removes its socket. */
void fake_broker_stop(struct fake_broker *broker);

/* Whether the kernel knows of a lowered RLIMIT_NOFILE: valgrind keeps it to itself. */
bool fake_limits_are_real(void);

#endif
