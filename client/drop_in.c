/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * shm_open(3) and shm_unlink(3) by another name, and whether there is a broker at
 * all. Called by ported programs, from any thread and in any state of the process.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "client/process.h"

static _Thread_local char thread_reason[SHMB_REASON_SIZE];

enum drop_in_kind { DROP_IN_SUPPORTED, DROP_IN_OPEN, DROP_IN_UNLINK };

struct drop_in {
	enum drop_in_kind kind;
	const char *name;
	struct shmb_how how;
	struct shmb_wanted wanted; /* of the two above, checked */
};

void shmb_thread_reason_set(const char *text)
{
	size_t size = strlen(text);

	if (size > sizeof(thread_reason) - 1)
		size = sizeof(thread_reason) - 1;
	memcpy(thread_reason, text, size);
	thread_reason[size] = '\0';
}

const char *shmb_thread_reason(void)
{
	return thread_reason;
}

static int prepare(struct drop_in *d, struct shmb *c)
{
	switch (d->kind) {
	case DROP_IN_OPEN:
		return shmb_want(&d->wanted, c, d->name, &d->how);
	case DROP_IN_UNLINK:
		return shmb_name(&d->wanted.name, c, d->name, true);
	default:
		return 0;
	}
}

/* A new connection has had its hello; an old one is as good as its other end. */
static int check_alive(struct shmb *c)
{
	struct pollfd wanted = { .fd = c->socket };

	if (poll(&wanted, 1, 0) <= 0)
		return 0;
	c->unread = true;
	c->error = -ECONNRESET;
	return c->error;
}

static int ask(const struct drop_in *d, struct shmb *c, shmb_deadline deadline, bool patient)
{
	switch (d->kind) {
	case DROP_IN_OPEN:
		return shmb_ask_open(c, &d->wanted, deadline, patient);
	case DROP_IN_UNLINK:
		return shmb_ask_unlink(c, d->wanted.name, deadline, patient);
	default:
		return check_alive(c);
	}
}

/* Whether the first asking, of which we had no answer, may be the cause of this one. */
static bool is_own_echo(const struct drop_in *d, int result)
{
	if (d->kind == DROP_IN_UNLINK)
		return result == -ENOENT;
	return d->kind == DROP_IN_OPEN && d->wanted.wire.flags & WIRE_EXCLUSIVE &&
	       result == -EEXIST;
}

/*
 * Once, and once more when the broker ended meanwhile. A request that it never read is as good as
 * unasked. One that it did read may have taken effect: opens and truncations are the same
 * when done twice, and an answer that can't be told from an echo is not passed on.
 */
static int ask_twice(struct drop_in *d, struct process *process, shmb_deadline deadline,
		     bool patient)
{
	struct shmb *c = &process->link;
	bool may_be_done = false;

	for (bool again = false;; again = true) {
		int r = process_connect(process, deadline, &patient);

		if (r == 0)
			r = ask(d, c, deadline, patient);
		if (may_be_done && is_own_echo(d, r))
			return shmb_fail(c, -ECONNREFUSED,
					 "the broker ended during the call, which may have been "
					 "done");
		if (c->error)
			process_forget(process);
		if (r != -ECONNRESET || (c->socket >= 0 && !c->error))
			return r;
		if (again)
			return -ECONNREFUSED;
		may_be_done = c->error && !c->unread;
	}
}

static int call(struct drop_in *d)
{
	struct process apart = { 0 };
	struct process *process;
	shmb_deadline deadline = shmb_deadline_in(shmb_default_timeout_ms);
	bool patient = true;
	_no_cancel_;
	int r = process_lock(&process, &apart, deadline, &patient);

	if (r < 0) {
		shmb_thread_reason_set(r == -ETIMEDOUT ? "other threads' calls took all the time"
						       : "no memory");
		return r;
	}
	r = prepare(d, &process->link);
	if (r == 0)
		r = ask_twice(d, process, deadline, patient);
	shmb_thread_reason_set(r < 0 ? process->link.reason : "");
	process_unlock(process, &apart);
	return r;
}

/* As the C library's functions return. errno is only touched by failure. */
static int call_posix(struct drop_in *d)
{
	int saved = errno;
	int r = call(d);

	errno = r < 0 ? -r : saved;
	return r < 0 ? -1 : r;
}

bool shmb_supported(void)
{
	struct drop_in d = { .kind = DROP_IN_SUPPORTED };
	int saved = errno;
	bool supported = call(&d) == 0;

	errno = saved;
	return supported;
}

int shmb_shm_open(const char *name, int oflag, mode_t mode)
{
	struct drop_in d = {
		.kind = DROP_IN_OPEN,
		.name = name,
		.how = { .oflag = (unsigned)oflag, .mode = mode & 0777 },
	};

	return call_posix(&d);
}

int shmb_shm_unlink(const char *name)
{
	struct drop_in d = { .kind = DROP_IN_UNLINK, .name = name };

	return call_posix(&d);
}
