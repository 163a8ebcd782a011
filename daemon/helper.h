/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A process that the broker forks for itself, at the other end of a
 * SOCK_SEQPACKET pair: how it is started, what it may keep, and what the two
 * say to each other. For keeper.c, table.c and twin.c.
 */
#ifndef SHMBROKER_HELPER_H
#define SHMBROKER_HELPER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "daemon/keeper.h"
#include "daemon/step.h"
#include "proto/packet.h"

struct helper {
	pid_t pid;  /* 0: none */
	int socket; /* the broker's end, or -EBADF */
};

#define HELPER_NONE ((struct helper){ .pid = 0, .socket = -EBADF })
#define HELPER_KEEP_MAX 2

struct helper_job {
	const char *name; /* as ps shows it, at most 15 bytes */
	int (*run)(int socket, const struct keeper_setup *setup, const void *context);
	const void *context;	   /* for run */
	int keep[HELPER_KEEP_MAX]; /* descriptors that it keeps beside the socket; -EBADF: none */
	bool dumpable;		   /* stays as it is, until it says helper_hide() itself */
};

/*
 * Forks; the child does job->run and exits with what that returns. It has
 * nothing but its socket, what job->keep names and standard streams (0 and 1
 * are /dev/null), default signals but for SIGINT, SIGTERM, SIGHUP and SIGPIPE, which
 * it ignores: it ends when the broker's end is closed, and is killed when
 * the thread that forked it ends, if that may kill it (the same uid, or CAP_KILL). 0 or -errno.
 */
int helper_fork(struct helper *ret, const struct keeper_setup *setup, const struct helper_job *job);

/* Closes the socket and reaps. A helper that doesn't end by that within seconds is killed. */
void helper_end(struct helper *helper);

/*
 * Not dumpable, so that nobody opens what is in /proc of it, and killed when its
 * parent ends. Again after each change of ids: the kernel undoes both.
 * Exits when the parent has ended already.
 */
void helper_hide(void);
/* In a child that a helper has forked itself: who its parent is. */
void helper_born(pid_t parent);

/* Whether the helpers run under other ids than the broker's. */
bool helper_has_own_ids(const struct keeper_setup *setup);

/* Becomes the table's user, without groups and without any capability. 0 or -errno. */
int helper_take_ids(const struct attempt *attempt, const struct keeper_setup *setup);
/* Its filter; confine may be NULL. 0 or -errno, noted. */
int helper_confine(const struct attempt *attempt, int (*confine)(void));

/* What a helper answers. The descriptors are the list's: first the writable one. */
struct helper_answer {
	uint64_t id;
	struct keeper_failure failure;
	bool has_writable, has_read_only;
};

#define HELPER_REQUEST_MAX 8192 /* bytes of a packet, its strings included */

/* 0 and the bytes written into buffer, or -ENAMETOOLONG. */
ssize_t helper_encode(char buffer[static HELPER_REQUEST_MAX], const struct keeper_request *request);

/* Blocking. Writes and closes what is in fds. */
int helper_send_answer(int socket, const struct helper_answer *answer, struct fdlist *fds);
/* flags as packet_receive's. 1, 0 at the end of the connection, or -errno. */
int helper_receive_answer(int socket, struct helper_answer *ret, struct fdlist *fds, int flags);

/*
 * The helper's loop: one request after the other, until the broker's end is
 * closed. `answer` fills failure, descriptors and what they are; it returns
 * whether there is still something to send. Returns the exit status.
 */
typedef bool (*helper_answer_fn)(const struct keeper_request *request, struct helper_answer *answer,
				 struct fdlist *fds, const struct keeper_setup *setup);
int helper_serve(int socket, const struct keeper_setup *setup, helper_answer_fn answer);

#endif
