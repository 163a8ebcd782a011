/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Requests about one object: open, publish, unlink, stat. What can be known here is
 * refused here, so that the broker is asked only what can be.
 */
#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "client/internal.h"
#include "client/record.h"

/* F_GETFL shows it on 64-bit machines, where the C library's own is 0. */
#define KERNEL_O_LARGEFILE 0100000

#if defined(__x86_64__)
#define LARGEFILE (O_LARGEFILE | KERNEL_O_LARGEFILE)
#else
#define LARGEFILE O_LARGEFILE
#endif

#define OPEN_IGNORED (O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_SYNC | O_DSYNC | O_NOCTTY | LARGEFILE)
#define OPEN_KNOWN (O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_APPEND | OPEN_IGNORED)
#define HOW_FLAGS (SHMB_TEMPORARY | SHMB_UNPUBLISHED | SHMB_RESERVE | SHMB_SEALED)

_Static_assert(SHMB_TEMPORARY == WIRE_TEMPORARY && SHMB_UNPUBLISHED == WIRE_UNPUBLISHED &&
		       SHMB_SEALED == WIRE_SEALED,
	       "the options go over the wire as they are");

int shmb_name(struct name *ret, struct shmb *c, const char *text, bool for_unlink)
{
	int error;

	*ret = name_strip(text, strlen(text));
	error = name_check(*ret, for_unlink);
	if (error == 0)
		return 0;
	if (error == ENAMETOOLONG)
		return shmb_fail(c, -error, "a name of more than %d bytes", WIRE_NAME_MAX);
	return shmb_fail(c, -error, "no object can have this name");
}

/* 0 or -EINVAL. */
static int wire_flags(uint32_t *ret, uint64_t oflag)
{
	static const uint32_t access[] = {
		[O_RDONLY] = WIRE_READ,
		[O_WRONLY] = WIRE_WRITE,
		[O_RDWR] = WIRE_READ | WIRE_WRITE,
	};
	uint32_t flags;

	if (oflag & ~(uint64_t)OPEN_KNOWN || (oflag & O_ACCMODE) == O_ACCMODE)
		return -EINVAL;
	flags = access[oflag & O_ACCMODE];
	if (oflag & O_CREAT)
		flags |= WIRE_CREATE;
	/* Without O_CREAT it says nothing. */
	if (oflag & O_EXCL && oflag & O_CREAT)
		flags |= WIRE_EXCLUSIVE;
	if (oflag & O_TRUNC)
		flags |= WIRE_TRUNCATE;
	if (oflag & O_APPEND)
		flags |= WIRE_APPEND;
	*ret = flags;
	return 0;
}

/* As ftruncate(2) would have it, but without SIGXFSZ. */
static bool size_over_limit(uint64_t size)
{
	struct rlimit limit;

	return size > 0 && getrlimit(RLIMIT_FSIZE, &limit) == 0 &&
	       limit.rlim_cur != RLIM_INFINITY && size > limit.rlim_cur;
}

int shmb_want_new(struct shmb_wanted *wanted, struct shmb *c, const struct shmb_how *how)
{
	struct wire_open *wire = &wanted->wire;
	mode_t mask;
	int r;

	if (!(wire->flags & WIRE_CREATE) && !(how->flags & SHMB_UNPUBLISHED))
		return 0;
	if (how->size > INT64_MAX)
		return shmb_fail(c, -EFBIG, "the size is more than any file can have");
	if (size_over_limit(how->size))
		return shmb_fail(c, -EFBIG, "the size is over this process's limit (RLIMIT_FSIZE)");
	r = shmb_umask(&mask);
	if (r == -EOPNOTSUPP)
		return shmb_fail(c, r,
				 "with several threads and no /proc the umask can't be learnt");
	if (r < 0)
		return shmb_fail(c, r, "the umask can't be learnt: %s", strerrordesc_np(-r));
	wire->mode = (uint32_t)how->mode & 0777 & ~mask;
	return 0;
}

int shmb_want(struct shmb_wanted *ret, struct shmb *c, const char *name, const struct shmb_how *how)
{
	struct wire_open wire = { .size = how->size, .options = how->flags };
	int r = shmb_name(&ret->name, c, name, false);

	if (r < 0)
		return r;
	if (wire_flags(&wire.flags, how->oflag) < 0)
		return shmb_fail(c, -EINVAL,
				 "flags that a shared memory object can't be opened with");
	if (how->flags & ~HOW_FLAGS || how->mode & ~(uint64_t)07777)
		return shmb_fail(c, -EINVAL, "unknown bits in flags or mode");
	if (how->flags & SHMB_SEALED && !(how->flags & SHMB_UNPUBLISHED))
		return shmb_fail(c, -EINVAL, "what is to be sealed is filled first: unpublished");
	if (how->flags & SHMB_SEALED && !(c->features & SHMB_FEATURE_SEALED))
		return shmb_fail(c, -EOPNOTSUPP, "this broker can't seal");
	ret->wire = wire;
	return 0;
}

static struct shmb_exchange exchange(struct shmb *c, uint16_t operation, shmb_deadline deadline,
				     bool patient)
{
	return (struct shmb_exchange){
		.c = c,
		.operation = operation,
		.patient = patient,
		.deadline = deadline,
		.buffer = c->small,
		.buffer_size = sizeof(c->small),
	};
}

/* Before what can't be taken back: without a descriptor to be had it leaves no name, and no object
 * empty. */
static int check_descriptor_free(struct shmb *c)
{
	int probe = fcntl(c->socket, F_DUPFD_CLOEXEC, 0);

	/* EINVAL: there may be none at all (RLIMIT_NOFILE). */
	if (probe < 0)
		return shmb_fail(c, errno == EINVAL ? -EMFILE : -errno,
				 "no descriptor is free in this process");
	fd_close(probe);
	return 0;
}

/* Another thread took the last number meanwhile: the name must not stay behind. */
static void undo_create(struct shmb *c, struct name name, shmb_deadline deadline)
{
	char reason[SHMB_REASON_SIZE];

	memcpy(reason, c->reason, sizeof(reason));
	shmb_ask_unlink(c, name, deadline, false);
	memcpy(c->reason, reason, sizeof(reason));
}

static int opened(struct shmb *c, struct shmb_reply *reply)
{
	if (reply->fds.count == 1 && reply->fds.kind[0] == WIRE_FD_OBJECT && !reply->more &&
	    reply->body_size == sizeof(struct wire_open_reply) - sizeof(struct wire_reply))
		return fdlist_steal_only(&reply->fds);
	fdlist_close(&reply->fds);
	return shmb_broken(c, "an open without an object");
}

int shmb_ask_open(struct shmb *c, const struct shmb_wanted *wanted, shmb_deadline deadline,
		  bool patient)
{
	struct shmb_exchange x = exchange(c, WIRE_OPEN, deadline, patient);
	struct wire_open wire = wanted->wire;
	struct iovec parts[] = {
		{ &wire, sizeof(wire) },
		{ (char *)wanted->name.text, wanted->name.size },
	};
	struct shmb_reply reply;
	int r;

	if (wire.flags & (WIRE_CREATE | WIRE_TRUNCATE)) {
		r = check_descriptor_free(c);
		if (r < 0)
			return r;
	}
	r = shmb_send(&x, parts, 2);
	if (r < 0)
		return r;
	r = shmb_receive(&x, &reply);
	if (r == 0)
		return opened(c, &reply);
	/* Or the broker would hold it, and the name, until the connection ends: it reads our
	 * packets in their order, so whatever is asked next finds it gone. */
	if (wire.options & WIRE_UNPUBLISHED && (c->created || r == -ETIMEDOUT))
		shmb_discard(c, wanted->name);
	else if (c->created)
		undo_create(c, wanted->name, deadline);
	return r;
}

/* A request whose reply is nothing but a status. */
static int ask_nothing(struct shmb_exchange *x, struct iovec *parts, size_t part_count)
{
	struct shmb_reply reply;
	int r = shmb_send(x, parts, part_count);

	if (r < 0)
		return r;
	r = shmb_receive(x, &reply);
	if (r < 0)
		return r;
	if (reply.fds.count == 0 && reply.body_size == 0 && !reply.more)
		return 0;
	fdlist_close(&reply.fds);
	return shmb_broken(x->c, "a reply with more than a status");
}

int shmb_ask_unlink(struct shmb *c, struct name name, shmb_deadline deadline, bool patient)
{
	struct shmb_exchange x = exchange(c, WIRE_UNLINK, deadline, patient);
	struct wire_name wire = { 0 };
	struct iovec parts[] = { { &wire, sizeof(wire) }, { (char *)name.text, name.size } };

	return ask_nothing(&x, parts, 2);
}

/* For a checked name; interruptible. */
static int ask_wait(struct shmb *c, struct name name, shmb_deadline deadline)
{
	struct shmb_exchange x = exchange(c, WIRE_WAIT, deadline, false);
	struct wire_name wire = { 0 };
	struct iovec parts[] = { { &wire, sizeof(wire) }, { (char *)name.text, name.size } };
	int r;

	x.interruptible = true;
	r = ask_nothing(&x, parts, 2);
	if (r == -ETIMEDOUT || r == -EINTR)
		shmb_cancel(c, x.serial);
	return r == -ETIMEDOUT ? shmb_fail(c, r, "no such object yet") : r;
}

int shmb_ask_publish(struct shmb *c, struct name name, uint64_t flags, shmb_deadline deadline)
{
	struct shmb_exchange x = exchange(c, WIRE_PUBLISH, deadline, false);
	struct wire_publish wire = { .flags = flags };
	struct iovec parts[] = { { &wire, sizeof(wire) }, { (char *)name.text, name.size } };

	return ask_nothing(&x, parts, 2);
}

void shmb_discard(struct shmb *c, struct name name)
{
	struct wire_publish wire = {
		.request = { .operation = WIRE_PUBLISH },
		.flags = WIRE_DISCARD,
	};
	struct iovec parts[] = { { &wire, sizeof(wire) }, { (char *)name.text, name.size } };

	shmb_post(c, parts, 2);
}

/* The flag is the library's own affair, and nothing on the wire. */
static int open_reserved(struct shmb *c, struct shmb_wanted *wanted)
{
	wanted->wire.options &= ~SHMB_RESERVE;
	if (wanted->wire.options & WIRE_UNPUBLISHED)
		return shmb_fail(c, -EINVAL, "an unpublished object is its maker's to reserve");
	return shmb_open_reserved(c, wanted, shmb_deadline_in(c->timeout_ms));
}

/* What is done without the broker is done as who the process is now, and a connection is as who it
 * was. */
static bool may_be_delegated(const struct shmb *c)
{
	return !c->delegation.is_refused && (c->ids_are_fixed || shmb_is_as_connected(c));
}

static int open_how(struct shmb *c, const char *name, const struct shmb_how *how)
{
	struct shmb_time time = { shmb_deadline_in(c->timeout_ms), true };
	struct shmb_wanted wanted;
	int r = shmb_want(&wanted, c, name, how);

	if (r < 0)
		return r;
	if (may_be_delegated(c)) {
		r = shmb_delegated_open(c, &wanted, (mode_t)how->mode, &time);
		if (r != -EAGAIN)
			return r;
	}
	r = shmb_want_new(&wanted, c, how);
	if (r < 0)
		return r;
	if (how->flags & SHMB_RESERVE)
		return open_reserved(c, &wanted);
	return shmb_ask_open(c, &wanted, time.deadline, time.patient);
}

int shmb_open(struct shmb *c, const char *name, int oflag, mode_t mode)
{
	struct shmb_how how = { .oflag = (unsigned)oflag, .mode = mode & 0777 };
	_no_cancel_;
	int r = shmb_begin(c);

	return r < 0 ? r : open_how(c, name, &how);
}

int shmb_open_how(struct shmb *c, const char *name, const struct shmb_how *how, size_t how_size)
{
	struct shmb_how known;
	_no_cancel_;
	int r = shmb_begin(c);

	if (r < 0)
		return r;
	r = shmb_take(&known, sizeof(known), how, how_size, SHMB_HOW_FIRST);
	if (r < 0)
		return shmb_fail(c, r, "a struct shmb_how of another size");
	return open_how(c, name, &known);
}

int shmb_wait(struct shmb *c, const char *name, int timeout_ms)
{
	struct shmb_info info;
	struct name stripped;
	_no_cancel_;
	int r = shmb_begin(c);

	if (r == 0)
		r = shmb_name(&stripped, c, name, false);
	if (r < 0)
		return r;
	if (timeout_ms < -1)
		return shmb_fail(c, -EINVAL, SHMB_NO_TIMEOUT);
	if (timeout_ms != 0)
		return ask_wait(c, stripped, shmb_deadline_in(timeout_ms));
	/* Whether it is there now: the answer itself has the time of any call. */
	r = shmb_stat(c, name, &info, sizeof(info));
	return r == -ENOENT ? shmb_fail(c, -ETIMEDOUT, "no such object yet") : r;
}

int shmb_publish(struct shmb *c, const char *name, unsigned flags)
{
	struct name stripped;
	_no_cancel_;
	int r = shmb_begin(c);

	if (r < 0)
		return r;
	if (flags & ~SHMB_REPLACE)
		return shmb_fail(c, -EINVAL, "unknown bits in flags");
	r = shmb_name(&stripped, c, name, false);
	if (r < 0)
		return r;
	return shmb_ask_publish(c, stripped, flags & SHMB_REPLACE ? WIRE_REPLACE : 0,
				shmb_deadline_in(c->timeout_ms));
}

int shmb_unlink(struct shmb *c, const char *name)
{
	struct shmb_time time = { shmb_deadline_in(c->timeout_ms), true };
	struct name stripped;
	_no_cancel_;
	int r = shmb_begin(c);

	if (r < 0)
		return r;
	r = shmb_name(&stripped, c, name, true);
	if (r < 0)
		return r;
	if (may_be_delegated(c)) {
		r = shmb_delegated_unlink(c, stripped, &time);
		if (r != -EAGAIN)
			return r;
	}
	return shmb_ask_unlink(c, stripped, time.deadline, time.patient);
}

static int ask_stat(struct shmb *c, struct name name, struct shmb_info *ret)
{
	struct shmb_exchange x = exchange(c, WIRE_STAT, shmb_deadline_in(c->timeout_ms), true);
	struct wire_name wire = { 0 };
	struct shmb_reply reply;
	size_t used;
	int r;

	r = shmb_send(&x,
		      (struct iovec[]){ { &wire, sizeof(wire) }, { (char *)name.text, name.size } },
		      2);
	if (r < 0)
		return r;
	r = shmb_receive(&x, &reply);
	if (r < 0)
		return r;
	if (reply.fds.count == 0 && !reply.more &&
	    shmb_record_read(ret, reply.body, reply.body_size, &used) == 0 &&
	    used == reply.body_size)
		return 0;
	fdlist_close(&reply.fds);
	return shmb_broken(c, "a record that can't be");
}

int shmb_stat(struct shmb *c, const char *name, struct shmb_info *ret, size_t ret_size)
{
	struct shmb_info info;
	struct name stripped;
	_no_cancel_;
	int r = shmb_begin(c);

	if (r < 0)
		return r;
	if (ret_size < SHMB_INFO_FIRST)
		return shmb_fail(c, -EINVAL, "a struct shmb_info of another size");
	r = shmb_name(&stripped, c, name, false);
	if (r < 0)
		return r;
	r = ask_stat(c, stripped, &info);
	if (r < 0)
		return r;
	return shmb_give(ret, ret_size, &info, sizeof(info), SHMB_INFO_FIRST);
}
