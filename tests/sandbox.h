/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Clients in places of their own: this very program, started again in namespaces or under
 * bubblewrap, that does by the library what it is asked, one line at a time.
 */
#ifndef SHMBROKER_SANDBOX_H
#define SHMBROKER_SANDBOX_H

#include <stdbool.h>
#include <sys/types.h>

enum sandbox_kind {
	SANDBOX_NONE,	   /* a process of its own, no more */
	SANDBOX_USER,	   /* a user namespace alone */
	SANDBOX_PID,	   /* a pid namespace alone: takes root */
	SANDBOX_NESTED,	   /* user and pid namespaces in user and pid namespaces */
	SANDBOX_BWRAP,	   /* bubblewrap: user, pid, ipc, mount; an empty /dev/shm */
	SANDBOX_CONTAINER, /* root in pid, ipc and mount namespaces: no user namespace */
};

struct sandbox_how {
	enum sandbox_kind kind;
	uid_t uid;		/* and gid; as root only */
	const char *visible[2]; /* SANDBOX_BWRAP, SANDBOX_CONTAINER: directories of /dev/shm's to
				   show */
};

struct sandbox {
	pid_t pid; /* what we started: not always who answers */
	int orders, answers;
	char text[512]; /* behind the last answer's number */
};

bool sandbox_has_bwrap(void);
/* Asserts that it answers. */
void sandbox_start(struct sandbox *ret, const struct sandbox_how *how);
/*
 * connect PATH, disconnect, create NAME, temporary NAME, open NAME, stat NAME (text: pool, owner,
 * pid), unlink NAME, context APP (text: its directory), look PATH, count DIRECTORY, write, fork,
 * exec, thread, pid. 0 or more, or a negative errno; reasons are in ->text.
 */
int sandbox_ask(struct sandbox *sandbox, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* Ends all of it. */
void sandbox_kill(struct sandbox *sandbox);

/* In a child: to a file that is there. */
bool sandbox_write_file(const char *path, const char *text);
/* In a child: a user namespace in which we are these, and nobody else is anybody; and others that
 * are to belong to it. */
bool sandbox_enter_user(uid_t uid, gid_t gid, int namespaces);

#endif
