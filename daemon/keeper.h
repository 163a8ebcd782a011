/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The pool table and who works in it. All made pools are mounted in a mount
 * namespace that nobody lives in; a small process, the keeper, enters it and
 * does what is asked over a socketpair. A second helper makes the read-only
 * twins of path pools. The event loop never waits for either.
 */
#ifndef SHMBROKER_KEEPER_H
#define SHMBROKER_KEEPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct keeper;

/* Why something can't be had: one line names pool, call, errno and way out. */
struct keeper_failure {
	int error;	  /* errno */
	char step[40];	  /* the call that failed: "unshare(CLONE_NEWUSER)", "move_mount", "write
			     uid_map" … */
	char advice[200]; /* the way out, for the administrator */
};

/* Steps at which a test makes things fail with a given errno; the table in step.c lists them. */
struct keeper_fault {
	const char *step;
	int error;
};

struct keeper_setup {
	uid_t table_uid; /* who owns the table's user namespace and runs the helpers; the own uid
			    for --user */
	gid_t table_gid;
	int userns, mntns; /* of a table that is there already (taken on success and failure);
			      -EBADF: make one */
	const struct keeper_fault *fault; /* NULL, or an entry whose step fails */
	void (*after_fork)(
		void); /* run in each child first: closes what it must not keep; may be NULL */
	/* Run in the keeper and the twins' helper before they serve, or don't when it fails: their
	 * filters; 0 or -errno; may be NULL. */
	int (*confine_keeper)(void), (*confine_twin)(void);
};

/*
 * Forks the helpers, makes or finds the table. Blocks for the milliseconds that
 * this takes: called at start only, before the event loop, and before
 * the broker's own filter is up. Where there can be no table, the keeper is
 * there without one: keeper_has_table() says so, each request for a made pool
 * is answered with the failure, and twins of path pools may still be had.
 * 0 or -errno (no processes, no memory).
 */
int keeper_start(struct keeper **ret, const struct keeper_setup *setup);
/* Ends the helpers and reaps them; the table goes when its last descriptor does. NULL is fine. */
void keeper_free(struct keeper *keeper);

bool keeper_has_table(const struct keeper *keeper, struct keeper_failure *ret_why_not);
/* Borrowed: for the descriptor store. */
int keeper_userns_borrow(const struct keeper *keeper);
int keeper_mntns_borrow(const struct keeper *keeper);
pid_t keeper_pid(const struct keeper *keeper); /* of the process in the table; 0: none */

enum keeper_operation {
	KEEPER_MAKE,	/* a new pool, attached under its number; replies with both descriptors */
	KEEPER_FIND,	/* one that is attached already (after a restart); replies with both
			   descriptors */
	KEEPER_RESIZE,	/* in place; EINVAL: below its use */
	KEEPER_RELEASE, /* EBUSY: in use, also by unlinked but open objects; nothing was changed
			   then */
	KEEPER_LEND, /* a mount of it that is nowhere yet, for a sandbox: replies with that alone,
			as writable. EDQUOT: there are too many of this pool, EUSERS: of all */
	KEEPER_TWIN, /* the read-only twin of a directory on a tmpfs of the host's: replies with it
			alone */
};

struct keeper_request {
	uint64_t id; /* the caller's own; the reply repeats it */
	enum keeper_operation operation;
	uint32_t number;     /* of the pool: its name in the table */
	uint64_t size_bytes; /* MAKE, RESIZE */
	uint64_t objects;    /* the root directory's inode is added by the keeper */
	bool exec;
	const char *huge, *mpol; /* NULL: not given. MAKE only */
	const char *path;	 /* TWIN */
};

struct keeper_reply {
	uint64_t id;
	struct keeper_failure failure; /* error 0: done */
	int writable, read_only; /* owned by the caller: directory descriptors from detached clones
				    (of LEND such a clone itself), or -EBADF */
};

/* Queues one request, never blocks. 0 or -errno (-EPIPE: the keeper is gone). */
int keeper_send(struct keeper *keeper, const struct keeper_request *request);
/* Readable when a reply may be there (an epoll descriptor or the like over all helpers). Borrowed.
 */
int keeper_poll_borrow(const struct keeper *keeper);
/*
 * Takes one reply: 1, 0 when there is none yet, or -errno: -EPIPE when the keeper has ended. Never
 * blocks. EMFILE at the step "recvmsg from the helper": it was done, but there was no room for the
 * descriptors here; the pool of a MAKE is there, for FIND or RELEASE.
 */
int keeper_receive(struct keeper *keeper, struct keeper_reply *ret);

/*
 * Whether two directory descriptors are one tmpfs directory, the second side read-only, the
 * first not: what is checked of a given pool, and of a twin before it is used. 0,
 * or an errno with the step and advice in ret_why.
 */
int keeper_check_twin(int writable, int read_only, struct keeper_failure *ret_why);

#endif
