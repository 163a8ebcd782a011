/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * shm_open(3) and shm_unlink(3) by another name, and whether there is a broker at
 * all. Called by ported programs, from any thread and in any state of the process.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "client/process.h"

static _Thread_local struct {
	bool nobody_asked;
	char reason[SHMB_REASON_SIZE];
} thread;

enum drop_in_kind { DROP_IN_SUPPORTED, DROP_IN_OPEN, DROP_IN_UNLINK };

struct drop_in {
	enum drop_in_kind kind;
	const char *name;
	struct shmb_how how;
	struct shmb_wanted wanted; /* of the two above, checked */
	bool nobody_asked;	   /* nothing of it can have been done */
};

void shmb_thread_reason_set(const char *text)
{
	size_t size = strlen(text);

	if (size > sizeof(thread.reason) - 1)
		size = sizeof(thread.reason) - 1;
	memcpy(thread.reason, text, size);
	thread.reason[size] = '\0';
}

const char *shmb_thread_reason(void)
{
	return thread.reason;
}

bool shmb_thread_nobody_asked(void)
{
	return thread.nobody_asked;
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

/* Without the broker, or -EAGAIN. */
static int do_delegated(const struct drop_in *d, struct shmb *c, struct shmb_time *time)
{
	switch (d->kind) {
	case DROP_IN_OPEN:
		return shmb_delegated_open(c, &d->wanted, (mode_t)d->how.mode, time);
	case DROP_IN_UNLINK:
		return shmb_delegated_unlink(c, d->wanted.name, time);
	default:
		return -EAGAIN;
	}
}

static int ask(struct drop_in *d, struct shmb *c, shmb_deadline deadline, bool patient)
{
	struct shmb_time time = { deadline, patient };
	int r = do_delegated(d, c, &time);

	if (r != -EAGAIN)
		return r;
	switch (d->kind) {
	case DROP_IN_OPEN:
		r = shmb_want_new(&d->wanted, c, &d->how);
		if (r < 0)
			return r;
		return shmb_ask_open(c, &d->wanted, deadline, time.patient);
	case DROP_IN_UNLINK:
		return shmb_ask_unlink(c, d->wanted.name, deadline, time.patient);
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
 * when done twice, an unlink has what it wanted, and for the rest an answer that can't be told from
 * an echo is not passed on.
 */
static int ask_twice(struct drop_in *d, struct process *process, shmb_deadline deadline,
		     bool patient)
{
	struct shmb *c = &process->link;
	bool may_be_done = false;

	for (bool again = false;; again = true) {
		int r = shmb_process_connect(process, deadline, &patient);

		d->nobody_asked = r < 0 && !may_be_done;
		if (r == 0)
			r = ask(d, c, deadline, patient);
		/* However the name has gone, it is gone, as was asked. */
		if (may_be_done && is_own_echo(d, r) && d->kind == DROP_IN_UNLINK)
			return 0;
		if (may_be_done && is_own_echo(d, r))
			return shmb_fail(c, -ECONNREFUSED,
					 "the broker ended during the call, which may have been "
					 "done");
		if (c->error)
			shmb_process_forget(process);
		if (r != -ECONNRESET || (c->socket >= 0 && !c->error))
			return r;
		if (again)
			return -ECONNREFUSED;
		may_be_done = c->error && !c->unread;
	}
}

/* In a delegated pool, or -EAGAIN. What of it could be a cancellation point sees to that itself. */
static int call_delegated(struct drop_in *d)
{
	struct process *process = shmb_process_borrow();
	int r;

	if (!process)
		return -EAGAIN;
	/* What can't be asked is refused where it is told that nobody was. */
	r = prepare(d, &process->link) == 0 ? do_delegated(d, &process->link, NULL) : -EAGAIN;
	if (r < 0 && r != -EAGAIN)
		shmb_thread_reason_set(process->link.reason);
	shmb_process_give_back(process);
	return r;
}

static int call_broker(struct drop_in *d)
{
	struct process apart; /* a child of vfork's */
	struct process *process;
	shmb_deadline deadline = shmb_deadline_in(shmb_default_timeout_ms);
	bool patient = true;
	_no_cancel_;
	int r = shmb_process_lock(&process, &apart, deadline, &patient);

	thread.nobody_asked = false;
	if (r < 0) {
		shmb_thread_reason_set(r == -ETIMEDOUT ? "other threads' calls took all the time"
						       : "no memory");
		return r;
	}
	r = prepare(d, &process->link);
	d->nobody_asked = r < 0;
	if (r == 0)
		r = ask_twice(d, process, deadline, patient);
	shmb_thread_reason_set(r < 0 ? process->link.reason : "");
	thread.nobody_asked = d->nobody_asked;
	shmb_process_unlock(process, &apart);
	return r;
}

static int call(struct drop_in *d)
{
	int r = call_delegated(d);

	if (r == -EAGAIN)
		return call_broker(d);
	thread.nobody_asked = false;
	if (r >= 0)
		thread.reason[0] = '\0';
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

int shmb_look_for_broker(void)
{
	struct drop_in d = { .kind = DROP_IN_SUPPORTED };
	int saved = errno, r = call(&d);

	errno = saved;
	return r;
}

bool shmb_supported(void)
{
	return shmb_look_for_broker() == 0;
}

/* A descriptor, with errno kept, or -1. */
static int open_at_once(const char *name, int oflag, mode_t mode)
{
	struct process *process = shmb_process_borrow();
	struct shmb_at_once at_once;
	bool is_ready;
	int saved, fd;

	if (!process)
		return -1;
	is_ready = shmb_prepare_at_once(&at_once, &process->link, name, oflag, mode);
	shmb_process_give_back(process);
	if (!is_ready)
		return -1;
	saved = errno;
	fd = shmb_open_at_once(&at_once);
	if (fd < 0) {
		errno = saved;
		return -1;
	}
	thread.nobody_asked = false;
	thread.reason[0] = '\0';
	return fd;
}

/* For itself, so that what it sets up is not set up for who doesn't need it. */
static __attribute__((noinline)) int open_by_asking(const char *name, int oflag, mode_t mode)
{
	struct drop_in d = {
		.kind = DROP_IN_OPEN,
		.name = name,
		.how = { .oflag = (unsigned)oflag, .mode = mode & 0777 },
	};

	return call_posix(&d);
}

int shmb_shm_open(const char *name, int oflag, mode_t mode)
{
	int fd = open_at_once(name, oflag, mode);

	return fd >= 0 ? fd : open_by_asking(name, oflag, mode);
}

int shmb_shm_unlink(const char *name)
{
	struct drop_in d = { .kind = DROP_IN_UNLINK, .name = name };

	return call_posix(&d);
}
