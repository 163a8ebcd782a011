/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the library's files share, and the raw call that shmctl uses for the operations that
 * have no public function. Nothing of it is exported.
 */
#ifndef SHMBROKER_INTERNAL_H
#define SHMBROKER_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "client/shmbroker.h"
#include "daemon/fd.h"
#include "proto/name.h"
#include "proto/packet.h"
#include "proto/protocol.h"
#include "proto/waypoint.h"

#define SHMB_NO_TIMEOUT "a timeout is -1 or a number of milliseconds"
#define SHMB_REASON_SIZE 512   /* bytes, the NUL included */
#define SHMB_SMALL_PACKET 2048 /* bytes: every reply but a listing's part fits */
#define SHMB_SOCKET_DEFAULT "/run/shmbroker/socket"

/* When a call gives up: CLOCK_MONOTONIC in ns; INT64_MAX: never. */
typedef int64_t shmb_deadline;

/* A pool's directory, by both its mounts, and the page that tells of it; owned. */
struct shmb_directories {
	int writable, read_only;      /* -EBADF: none */
	const struct wire_page *page; /* mapped; NULL: none */
	dev_t dev; /* which it is: the program may have put another under either's number */
	ino_t ino;
};
#define SHMB_DIRECTORIES_NONE ((struct shmb_directories){ .writable = -EBADF, .read_only = -EBADF })

/* That of a pool which the broker has delegated: delegate.c. */
struct shmb_delegation {
	struct shmb_directories directories;
	bool is_refused;    /* on this connection */
	int64_t generation; /* its time of access, as long as it is delegated so */
	uint32_t changes;   /* the page's, when it was last looked at */
	time_t looked;	    /* and when that was, CLOCK_MONOTONIC_COARSE in s */
	size_t way_size;    /* 0: none */
	char way[WAYPOINT_SIZE + sizeof("/../")]; /* before a name: found in the directory alone */
	size_t elsewhere_size;
	char elsewhere[1024]; /* patterns of names that are the broker's to open, each with its NUL
			       */
};

struct shmb {
	int socket; /* owned; -EBADF: none */
	pid_t pid;  /* who made it: a forked child may not use it */
	uid_t uid;  /* the effective ids that it was made with */
	gid_t gid;
	bool ids_are_fixed; /* to those that it was made with */
	int error;	    /* 0, or the -errno of every further call */
	int timeout_ms;
	bool busy;	 /* inside a listing's callback */
	bool unread;	 /* the broker ended without having read the last request */
	bool created;	 /* the reply that lost its descriptor had made a new name */
	uint32_t serial; /* of the last request */
	uint64_t features;
	struct shmb_delegation delegation;
	char *large; /* WIRE_PACKET_MAX bytes, owned; NULL until the first listing */
	char reason[SHMB_REASON_SIZE];
	_Alignas(8) char small[SHMB_SMALL_PACKET];
};

/* One request under way. */
struct shmb_exchange {
	struct shmb *c;
	uint32_t serial;
	uint16_t operation;
	bool interruptible; /* a signal's handler ends it: -EINTR */
	bool patient; /* nothing of the time has passed yet: the socket's own timeout will do */
	shmb_deadline deadline;
	char *buffer;
	size_t buffer_size;
};

/* One reply to it, with status 0. body points into the connection's buffer. */
struct shmb_reply {
	bool more;
	struct fdlist fds; /* owned by who asked */
	const char *body;
	size_t body_size;
};

/* How long connects and drop-ins wait: the tests shorten it. */
extern int shmb_default_timeout_ms;

/* --- call.c: the exchange itself --- */

/* Cancellation off for the rest of the scope: no call is a cancellation point. */
int shmb_cancel_off(void);
void shmb_cancel_restore(int *state);
#define _no_cancel_                                                                                \
	_cleanup_(shmb_cancel_restore) __attribute__((unused)) int cancel_state_ = shmb_cancel_off()

shmb_deadline shmb_deadline_in(int timeout_ms);
/* Until fd has events: 0 or -ETIMEDOUT. */
int shmb_wait_for(int fd, short events, shmb_deadline deadline);

/* Sets the reason (printf) and returns error; for -EPERM, which no caller ever sees, -EACCES. */
int shmb_fail(struct shmb *c, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* A text that somebody else wrote: what isn't printable becomes '?'. */
void shmb_reason_take(struct shmb *c, const char *text, size_t size);

/* Before any call: 0 with the reason cleared, -ECHILD, -EBUSY, or what broke the connection. */
int shmb_begin(struct shmb *c);

/*
 * Sends a request: the first part begins with a struct wire_request, whose serial and
 * operation are filled in here. 0 or -errno.
 */
int shmb_send(struct shmb_exchange *x, struct iovec *parts, size_t part_count);

/*
 * Sends one with its operation filled in that nobody waits for, if there is room for it: its reply
 * is dropped by the next call, which knows the serial to be an earlier one's.
 */
void shmb_post(struct shmb *c, struct iovec *parts, size_t part_count);

/*
 * The next reply: 0, or -errno: the broker's status too, whose text is the reason then. ret->fds
 * is empty on failure. -EPROTO and -ECONNRESET break the connection.
 */
int shmb_receive(struct shmb_exchange *x, struct shmb_reply *ret);

/* Marks the connection as broken by a reply that can't be. Returns -EPROTO. */
int shmb_broken(struct shmb *c, const char *what);
/* A broker's status, not 0, as the caller is told: never what only the library can know. */
int shmb_refused(struct shmb *c, int status);

/* The broker's and the own hello, on c->socket. 0 or -errno, with the reason. */
int shmb_greet(struct shmb *c, shmb_deadline deadline);

/* --- connect.c --- */

void shmb_init(struct shmb *c, int timeout_ms);
/* Connects c->socket to path (NULL: the default) and greets; on failure there is none. */
int shmb_open_socket(struct shmb *c, const char *path, shmb_deadline deadline);
/* Whether the effective ids are those that it was made with. */
bool shmb_is_as_connected(const struct shmb *c);
/* The socket's own receive timeout, for the way without poll(2). 0 or -errno, with the reason. */
int shmb_apply_timeout(struct shmb *c);
/* Moves a descriptor out of the way of the program's own, if possible. Takes and returns it. */
int shmb_move_up(int fd);

/* --- fork.c --- */

/* This process's pid, for shmb_is_other_process() later. */
pid_t shmb_process(void);
/* Whether we are a forked child of `process`. Without a system call where the kernel can mark
 * memory (Linux 4.14). */
bool shmb_is_other_process(pid_t process);

/* --- delegate.c --- */

/* What a call has left for asking. */
struct shmb_time {
	shmb_deadline deadline;
	bool patient; /* as in an exchange; false after one */
};

/*
 * Does by itself what can be done in a delegated directory, asking for one first where the broker
 * may give one (time NULL: nobody is asked). The result as the call's; or -EAGAIN: the broker is to
 * be asked, in the time that is left.
 */
struct shmb_wanted;
int shmb_delegated_open(struct shmb *c, const struct shmb_wanted *wanted, mode_t mode,
			struct shmb_time *time);
int shmb_delegated_unlink(struct shmb *c, struct name name, struct shmb_time *time);
/*
 * What is a shm_open(3) there, and nothing else, in one system call: where nobody else ever had a
 * part in the pool, so that all who could stand in the way by a FIFO or by a lease on an object are
 * the caller's own, as they are in a directory of his. It is made ready by the one, and done by the
 * other when nothing of c is needed any more, as it may wait. A descriptor, or -EAGAIN: the long
 * way tells.
 */
struct shmb_at_once {
	int directory; /* whatever its number means by then: the path is found in the right one */
	uint64_t flags;
	mode_t mode;
	char path[WAYPOINT_SIZE + sizeof("/../") + WIRE_NAME_MAX];
};
bool shmb_prepare_at_once(struct shmb_at_once *ret, const struct shmb *c, const char *name,
			  int oflag, mode_t mode);
int shmb_open_at_once(const struct shmb_at_once *at_once);
/* Closes what they still are, unless a number means something else by now. */
void shmb_directories_close(struct shmb_directories *d);

/* --- given.c --- */

struct stat;
/* Whether a directory is a tmpfs of nobody else's, which is mounted nowhere; st is its own. */
bool shmb_can_be_pool(int directory, const struct stat *st);
/* Whether this process may see a mount of that file system. */
bool shmb_may_be_mounted(dev_t dev);
/* The page, mapped, or NULL: it isn't one. Closes the descriptor. */
const struct wire_page *shmb_map_page(int fd);
/* Whether the broker at the other end is root's or this user's. */
bool shmb_is_trusted(int socket);

/* --- object.c: on a connection that is known to be good --- */

/* An open, checked and translated before anybody is asked. */
struct shmb_wanted {
	struct wire_open wire;
	struct name name;
};

/* 0, or -errno with the reason in c. */
int shmb_want(struct shmb_wanted *ret, struct shmb *c, const char *name,
	      const struct shmb_how *how);
/* What the broker has to know of a new object, before it is asked: 0 or -errno likewise. */
int shmb_want_new(struct shmb_wanted *wanted, struct shmb *c, const struct shmb_how *how);
int shmb_ask_open(struct shmb *c, const struct shmb_wanted *wanted, shmb_deadline deadline,
		  bool patient);
/* PUBLISH of a checked name; flags: WIRE_REPLACE. */
int shmb_ask_publish(struct shmb *c, struct name name, uint64_t flags, shmb_deadline deadline);
/* What was opened unpublished under this name, or may have been, is not wanted. Keeps the reason.
 */
void shmb_discard(struct shmb *c, struct name name);
/* reserve.c: SHMB_RESERVE. */
int shmb_open_reserved(struct shmb *c, const struct shmb_wanted *wanted, shmb_deadline deadline);
/* UNLINK of a checked name. */
int shmb_ask_unlink(struct shmb *c, struct name name, shmb_deadline deadline, bool patient);
/* Strips and checks it: 0 or -errno with the reason. */
int shmb_name(struct name *ret, struct shmb *c, const char *text, bool for_unlink);

/* --- structure.c --- */

/* How long they were in the first release: no program knows them shorter. */
#define END_OF(type, field) (offsetof(type, field) + sizeof(((type *)NULL)->field))
#define SHMB_HOW_FIRST END_OF(struct shmb_how, flags)
#define SHMB_INFO_FIRST END_OF(struct shmb_info, owner)
#define SHMB_CONTEXT_FIRST END_OF(struct shmb_context, flags)

/*
 * What a program passed as a structure of `size`, as the library knows it: what the program doesn't
 * know of it is 0. 0, -EINVAL (shorter than ever) or -E2BIG (more than 0 in what we don't know).
 */
int shmb_take(void *ret, size_t known_size, const void *structure, size_t size, size_t first_size);
/* The other way, for what is returned: 0 or -EINVAL. */
int shmb_give(void *ret, size_t size, const void *structure, size_t known_size, size_t first_size);

/* --- status.c --- */

/* As much as fits of proc_pid_status(5) of this thread, with a NUL. 0 or -errno. */
int shmb_read_status(char *ret, size_t size);
/*
 * Whether no call of this process's threads can change their user's and group's ids: all three of
 * all of them are this thread's effective ones, and none has a capability for it. In a user
 * namespace that one makes, and to which somebody with more rights gives a map of several users, it
 * can: so what is asked of the broker is asked as who it is then in any case.
 * room is for what is read: a thread may have little of its own.
 */
bool shmb_ids_are_fixed(char *room, size_t size);

/* --- umask.c --- */

/* 0 and the process's umask, or -EOPNOTSUPP, -EMFILE, -ENFILE, -ENOMEM. */
int shmb_umask(mode_t *ret);

/* --- drop_in.c --- */

/* This thread's reason. */
void shmb_thread_reason_set(const char *text);
const char *shmb_thread_reason(void);
/* Whether this thread's last call failed before anybody was asked, so that nothing was done. */
bool shmb_thread_nobody_asked(void);
/* 0 when one answers, else why not: -errno. errno is kept. */
int shmb_look_for_broker(void);

/* --- raw.c: what shmctl needs beside the public functions --- */

/*
 * Called for each reply. Takes from fds what it wants to keep; the rest is closed. 0:
 * go on; else the call ends and returns that (> 0 or -errno).
 */
typedef int (*shmb_raw_fn)(const char *body, size_t body_size, struct fdlist *fds, void *userdata);

/* The broker need not go on with it. Nothing waits for it. */
void shmb_cancel(struct shmb *c, uint32_t serial);

/*
 * Sends one request, body standing behind its struct wire_request, and calls fn (NULL:
 * nobody) for each of its replies. 0, what fn returned, or -errno with the reason.
 */
int shmb_raw_call(struct shmb *c, enum wire_operation operation, const void *body, size_t body_size,
		  shmb_raw_fn fn, void *userdata);

/* Fields of a body: key=value strings in records. */
struct shmb_fields {
	const char *at, *end;
};

struct shmb_fields shmb_fields_of(const char *body, size_t body_size);
/*
 * The next one: 1 and both (key is not terminated, value is); 0 at the end of a record; -ENODATA
 * at the end of all; -EPROTO when it is no field.
 */
int shmb_fields_next(struct shmb_fields *fields, const char **ret_key, size_t *ret_key_size,
		     const char **ret_value);

#endif
