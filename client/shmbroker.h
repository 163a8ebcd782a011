/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libshmbroker: named POSIX shared memory objects, opened by a broker that decides
 * by policy and passes the descriptor on. From then on caller and kernel are alone
 * with the memory: every function of sys/mman.h and unistd.h works on the descriptor.
 *
 * A program is ported by renaming: shm_open -> shmb_shm_open, shm_unlink ->
 * shmb_shm_unlink. Everything else takes a connection, gives more (read-only
 * grants, a size at birth, listings, sandboxes) and returns negative errnos.
 *
 * Names are one component after any number of leading slashes ("/a", "a" and "//a"
 * are one object), at most 255 bytes, of any byte but '/' and NUL, and don't
 * begin with ".shmbroker.". Link with -lshmbroker (pkg-config libshmbroker).
 */
#ifndef SHMBROKER_H
#define SHMBROKER_H

#include <errno.h>
#include <fcntl.h> /* O_RDONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __GNUC__
#pragma GCC visibility push(default) /* the library hides everything else */
#endif

/* The version of this header; shmb_version() says the library's. */
#define SHMB_VERSION_MAJOR 0
#define SHMB_VERSION_MINOR 1

/*
 * What goes wrong, in all functions, as errno or as a negative return value:
 *
 * EACCES        a rule of the broker's or the permission bits say no; no rule speaks of
 *               the name, whether it exists or not; the security module withheld the
 *               descriptor. Never EPERM
 * ENOENT        there is no such object. It never speaks of the broker
 * EEXIST        O_CREAT|O_EXCL, and the object exists
 * EINVAL        a name or a flag that can't be; a name of something that is not a shared
 *               memory object
 * ENAMETOOLONG  a name over 255 bytes
 * ENOSPC        the pool is full, in bytes or in objects
 * EMFILE ENFILE no descriptor left in this process or in the machine; a create that
 *               fails so leaves no name
 * EFBIG         a size over what a rule or this process's RLIMIT_FSIZE lets be
 * EDQUOT        a limit of the broker's on this user or connection
 * EAGAIN        somebody holds a lease on the object, see fcntl(2), F_SETLEASE
 * EOPNOTSUPP    this can't be had on this machine, or the broker is older than the call
 * ECONNREFUSED  there is no broker, or its socket is out of reach
 * ECONNRESET    the broker ended (the connection's functions alone): this connection says so
 *               from now on; make a new one
 * ETIMEDOUT     no answer in time: the call may still take effect
 * EPROTO        something else than a broker answers there
 * ENOMEM        no memory
 */

/*
 * The three that replace POSIX's. They return -1 and set errno as shm_open(3) does,
 * and use one connection for the process, made at the first call to the socket that
 * the environment's SHMBROKER_SOCKET names (ignored in set-user-id programs), else to
 * /run/shmbroker/socket.
 *
 * They can be used from any thread, after fork and vfork, and across changes of
 * the effective ids, the umask and the limit of descriptors: each call has those
 * of its moment, with a new connection where that is called for, also
 * after a restart of the broker and where the program closed the connection's
 * descriptor (a high, close-on-exec one) unknowingly. A child of vfork connects at each call; if it
 * is killed in one that does without the broker (in a delegated pool), other threads wait until the
 * one that made it calls.
 *
 * What else this process is counts as it was when the connection was made, until there is another:
 * supplementary groups, capabilities, namespaces, cgroup, security label. So after setgroups(2) or
 * capset(2) alone the calls are still served as before: uid 0 that has given up CAP_DAC_OVERRIDE as
 * one that has it. Give up first, then call; or make a connection afterwards (shmb_connect()). The
 * ids are the effective ones in any case: setfsuid(2) and setfsgid(2) alone change nothing. In a
 * delegated pool, where no broker is asked, the kernel goes by what the process is at that moment.
 *
 * They leave errno alone on success, never fail with EINTR, raise no SIGPIPE, and are no
 * cancellation point. They are not for signal handlers. A call waits for at most 25 s.
 *
 * When the broker ends during a call it is asked once more after its restart. If
 * the second answer may be due to the first asking, an unlink has succeeded (ENOENT),
 * and an open with O_CREAT|O_EXCL (EEXIST) fails with ECONNREFUSED, which
 * shmb_reason(NULL) explains.
 */

/* Whether a broker answers. Leaves errno alone. */
bool shmb_supported(void);

/*
 * Opens a shared memory object, as shm_open(3): returns the lowest free descriptor,
 * close-on-exec, or -1 with errno.
 *
 * oflag: O_RDONLY, O_RDWR or O_WRONLY, with any of O_CREAT, O_EXCL, O_TRUNC,
 * O_APPEND. O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK, O_SYNC, O_DSYNC, O_NOCTTY and
 * O_LARGEFILE change nothing; others are EINVAL. O_EXCL without O_CREAT is
 * ignored. O_TRUNC needs the right to write, with O_RDONLY too. With O_RDONLY the
 * descriptor can never become writable, by any route, where the broker has
 * SHMB_FEATURE_READ_ONLY.
 * mode: permission bits of a new object; the umask and all but 0777 are taken off.
 * EOPNOTSUPP when the umask can't be learnt: several threads, and no /proc.
 *
 * A new object has length 0 (see ftruncate(2)) and belongs to the effective user.
 */
int shmb_shm_open(const char *name, int oflag, mode_t mode);

/*
 * Removes a name, as shm_unlink(3): 0, or -1 with errno. Descriptors and mappings of
 * the object stay good. A name that can't be is ENOENT, but for "." and ".." EINVAL.
 */
int shmb_shm_unlink(const char *name);

/*
 * A connection. It keeps the identity that it was made with, as a descriptor does. One
 * thread at a time may use it; a program may have any number. In a forked child all
 * its calls fail with -ECHILD, only shmb_disconnect() is fine. Its calls return a value
 * >= 0, or a negative errno; -EINTR from shmb_wait() alone.
 */
struct shmb;

/*
 * Connects to the broker at a socket's path; NULL: the default socket, as above.
 * 0 and *ret for shmb_disconnect(), or -errno, *ret untouched then, and
 * shmb_reason(NULL) says why. A broker that turns the caller away gives its own errno:
 * -EACCES, -EDQUOT, -EOPNOTSUPP.
 */
int shmb_connect(struct shmb **ret, const char *path);

/*
 * The same with a connected AF_UNIX, SOCK_SEQPACKET socket, else -EPROTOTYPE. Takes fd in
 * every case: it is closed on failure, and made close-on-exec.
 */
int shmb_connect_fd(struct shmb **ret, int fd);

/* Ends the connection and frees it. NULL is fine; errno is kept. */
void shmb_disconnect(struct shmb *c);

/*
 * How long each call waits, in milliseconds; 25000 at first; -1: for ever; 0: not at
 * all. A listing waits so long for each of its parts. After -ETIMEDOUT the
 * call may still take effect, a descriptor that comes late is closed, and the connection
 * stays usable. 0, or -EINVAL.
 */
int shmb_set_timeout(struct shmb *c, int timeout_ms);

/* shmb_how.flags */
#define SHMB_TEMPORARY (1ull << 0)   /* the name goes when the process that made it ends */
#define SHMB_UNPUBLISHED (1ull << 1) /* no name yet: see shmb_publish() */
#define SHMB_RESERVE (1ull << 2)     /* memory for all of it is there, or ENOSPC */
#define SHMB_SEALED (1ull << 3) /* with SHMB_UNPUBLISHED: nobody can change its size, or write */

/* Grows at its end. Zero what you don't use: `struct shmb_how how = { .oflag = O_RDWR };` */
struct shmb_how {
	uint64_t oflag; /* as shmb_shm_open's */
	uint64_t mode;	/* as shmb_shm_open's */
	uint64_t size;	/* bytes of a new object, there from its first moment; 0: none */
	uint64_t flags; /* SHMB_TEMPORARY, SHMB_UNPUBLISHED, SHMB_RESERVE, SHMB_SEALED */
};

/* As shmb_shm_open(): returns a descriptor that the caller owns, or -errno. */
int shmb_open(struct shmb *c, const char *name, int oflag, mode_t mode);

/*
 * As shmb_open(), with what shm_open(3) can't do. how_size: sizeof(struct shmb_how);
 * one that is longer than this library's is -E2BIG unless the rest is zero, and unknown
 * bits are -EINVAL. size: an object that exists keeps its own; over the pool's
 * limit it is -ENOSPC at once, over RLIMIT_FSIZE or a rule's limit -EFBIG.
 *
 * SHMB_TEMPORARY: the name goes with this process, whatever became of the
 * connection; -EOPNOTSUPP where the broker can't tell.
 * SHMB_RESERVE: memory for the whole size is there when the call returns, charged to the
 * caller, or it fails with -ENOSPC and leaves no new name: so no page fault on it is a SIGBUS,
 * unless a writer shrinks it. One that exists is reserved at the size it has. -EINVAL with
 * O_RDONLY and with SHMB_UNPUBLISHED, where fallocate(2) is the maker's own affair.
 *
 * SHMB_UNPUBLISHED: an object of that size without a name, to be filled and then
 * published on this connection under this name. A second of that name on a connection is
 * -EEXIST. Not published, it goes with the connection. An open that ends in -ETIMEDOUT, or
 * for which there was no descriptor, gives up what is unpublished under its name.
 * SHMB_SEALED: its size never changes. shmb_publish() lets nobody write to it any more, through
 * whatever descriptor, its owner and root included: only a mapping that was there before goes on
 * writing. So map it first; no reader of it can be hit by a SIGBUS once fallocate(2) has had all
 * of its memory. Opened by its name it is for reading alone: -EACCES for anything else.
 * -EOPNOTSUPP where the broker lacks SHMB_FEATURE_SEALED, -EINVAL without SHMB_UNPUBLISHED. Its
 * mode has no execute bits, and it counts in its pool until nobody has it any more.
 */
int shmb_open_how(struct shmb *c, const char *name, const struct shmb_how *how, size_t how_size);

#define SHMB_REPLACE (1u << 0) /* shmb_publish(): take the place of an object of that name */

/*
 * Gives an unpublished object its name. -EEXIST if it is taken; with SHMB_REPLACE it is
 * put in the old object's place, and at no moment is there no object of that name.
 * -ENOENT: this connection has no unpublished object of that name. 0 or -errno; a sealed one is
 * sealed by the first try, also where that fails.
 */
int shmb_publish(struct shmb *c, const char *name, unsigned flags);

/* As shmb_shm_unlink(): 0 or -errno. */
int shmb_unlink(struct shmb *c, const char *name);

/* shmb_info.flags */
#define SHMB_INFO_TEMPORARY (1u << 0)	  /* the name goes with its maker's process */
#define SHMB_INFO_NOT_AN_OBJECT (1u << 1) /* open refuses it (-EINVAL), unlink removes it */
#define SHMB_INFO_SEALED (1u << 2)	  /* nobody can open it for writing */

/* Grows at its end. */
struct shmb_info {
	uint64_t size;	     /* bytes */
	uint64_t allocated;  /* bytes of memory in use */
	uint64_t ino;	     /* as fstat's st_ino */
	uint64_t created_ns; /* since 1970; 0: unknown */
	uint32_t uid;	     /* owner */
	uint32_t gid;
	uint32_t mode;	     /* permission bits */
	uint32_t flags;	     /* SHMB_INFO_... */
	int32_t creator_pid; /* of a temporary name; else 0 */
	uint32_t reserved;   /* 0 */
	char name[256];	     /* without a leading slash */
	char pool[64];	     /* as the broker's configuration names it */
	char owner[256]; /* whose instance of the pool: "1000", "1000:org.x", "a.service"; else ""
			  */
};

/*
 * Tells of one object. ret_size: sizeof(struct shmb_info) (-EINVAL below that of
 * version 0.1); what this library doesn't know of a longer one is zeroed. 0 or -errno.
 */
int shmb_stat(struct shmb *c, const char *name, struct shmb_info *ret, size_t ret_size);

/*
 * Waits until an object of that name is there (and, made with a size, has it), whoever makes it;
 * timeout_ms: of this call alone, 0: looks once, -1: for ever, less: -EINVAL. 0, -ETIMEDOUT,
 * -EINTR when the handler of a signal has run, or another -errno at once: -EACCES where neither
 * read nor list is allowed, -EDQUOT (waits-per-user), -EBUSY never; the connection stays usable.
 */
int shmb_wait(struct shmb *c, const char *name, int timeout_ms);

/*
 * Called for each object of a listing. info is valid during the call. 0: go on;
 * > 0 or a negative errno: end the listing, which then returns that. Calls on the
 * listing's own connection fail with -EBUSY; disconnecting it is not allowed.
 */
typedef int (*shmb_list_fn)(const struct shmb_info *info, void *userdata);

/*
 * Calls fn for each object that the caller may list, in no particular order. pattern: as
 * fnmatch(3) without flags, leading slashes don't count; NULL: all. info_size: as
 * shmb_stat's ret_size. 0 at the end, what fn returned, or -errno. Objects that come
 * or go meanwhile may be left out.
 */
int shmb_list(struct shmb *c, const char *pattern, size_t info_size, shmb_list_fn fn,
	      void *userdata);

/* Grows at its end. */
struct shmb_context {
	const char *app; /* 1 to 128 of letters, digits, '.', '_', '-' */
	uint64_t flags;	 /* 0 */
};

/*
 * Makes a context: a socket of its own for a sandbox. Who connects through it counts as that
 * app, and as sandboxed, for good. Writes the path of the directory that holds
 * `socket` into ret_dir (128 bytes always do; too small: -ERANGE and no context is
 * made), to be bound into the sandbox with SHMBROKER_SOCKET pointing there. Returns a
 * descriptor, close-on-exec, that holds the context: it ends, and its connections and directory
 * with it, when the last copy is closed. Or -errno; how_size as shmb_open_how's.
 */
int shmb_create_context(struct shmb *c, const struct shmb_context *how, size_t how_size,
			char *ret_dir, size_t dir_size);

/* What this broker can promise. Unknown bits may be set. */
#define SHMB_FEATURE_READ_ONLY (1ull << 0)     /* O_RDONLY is so for good */
#define SHMB_FEATURE_OWNERSHIP (1ull << 1)     /* new objects belong to the caller */
#define SHMB_FEATURE_PRIVATE_POOLS (1ull << 2) /* pools with quotas held by the kernel */
#define SHMB_FEATURE_CONTEXTS (1ull << 3)      /* shmb_create_context() */
#define SHMB_FEATURE_TEMPORARY (1ull << 4)     /* SHMB_TEMPORARY */
#define SHMB_FEATURE_SEALED (1ull << 5)	       /* SHMB_SEALED */
#define SHMB_FEATURE_DELEGATION (1ull << 6)    /* a pool is delegated: opened without the broker */

/* 0 and the bits that were told at connect, or -errno. */
int shmb_features(struct shmb *c, uint64_t *ret);

/*
 * Why the last call on c failed, in one line for a person: `rule "viewers read frames"
 * does not allow write`. NULL: why this thread's last drop-in call, or shmb_connect, did.
 * Never NULL itself, "" when there is nothing to say; lives until the next call on c (in this
 * thread).
 */
const char *shmb_reason(const struct shmb *c);

/* The library's version, "0.1". */
const char *shmb_version(void);

/*
 * Maps the whole of an object, MAP_SHARED. prot: as mmap(2)'s. ret_size: the mapping's size
 * in bytes, for munmap(2); may be NULL. MAP_FAILED and errno: mmap's and fstat's,
 * ENODATA when the object has no bytes, EOVERFLOW when it has more than can be mapped.
 */
static inline void *shmb_map(int fd, int prot, size_t *ret_size)
{
	struct stat status;
	void *memory;

	if (fstat(fd, &status) < 0)
		return MAP_FAILED;
	if (status.st_size <= 0) {
		errno = ENODATA;
		return MAP_FAILED;
	}
	if ((uint64_t)status.st_size > SIZE_MAX) {
		errno = EOVERFLOW;
		return MAP_FAILED;
	}
	memory = mmap(NULL, (size_t)status.st_size, prot, MAP_SHARED, fd, 0);
	if (memory != MAP_FAILED && ret_size)
		*ret_size = (size_t)status.st_size;
	return memory;
}

#ifdef __GNUC__
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
