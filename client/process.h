/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The one connection that a process's drop-ins share, and what makes it survive
 * fork, vfork, changed ids and closed descriptors. Used by drop_in.c alone.
 */
#ifndef SHMBROKER_PROCESS_H
#define SHMBROKER_PROCESS_H

#include <pthread.h>
#include <stdatomic.h>

#include "client/internal.h"

struct process {
	pthread_mutex_t lock;	     /* all zero is an open one */
	_Atomic pid_t pid;	     /* whose connection it is; 0: nobody's yet */
	_Atomic(pthread_t) borrower; /* by shmb_process_borrow(); 0: none */
	_Atomic bool is_locked;	     /* by shmb_process_lock() */
	bool is_borrowed_locked;     /* with the lock, as there are several threads */
	dev_t dev; /* which socket it is: the program may have put another under its number */
	ino_t ino;
	struct shmb link;
};

/*
 * The process's connection, locked: 0, -ENOMEM or -ETIMEDOUT. *patient becomes
 * false where some of the time has passed. In a child of vfork it is `apart`, the
 * caller's own memory, so that the parent's is left alone.
 */
int shmb_process_lock(struct process **ret, struct process *apart, shmb_deadline deadline,
		      bool *patient);
void shmb_process_unlock(struct process *process, struct process *apart);

/*
 * The same for what needs no broker, where another call has had a delegation: NULL where that isn't
 * so, or another thread has it now; in a process of one thread without the lock. A child of vfork
 * may use it: the directory is its own, too. If it is killed meanwhile the thread that made it, as
 * which it counts, has it at its next call; to ask here whether one is such a child would be one
 * more system call for all.
 */
struct process *shmb_process_borrow(void);
void shmb_process_give_back(struct process *process);

/*
 * Makes sure that there is a connection, that it is still ours, and made with the ids of now. 0 or
 * -errno with the reason.
 */
int shmb_process_connect(struct process *process, shmb_deadline deadline, bool *patient);
/* Ends it, unless its number means something else by now. */
void shmb_process_forget(struct process *process);

#endif
