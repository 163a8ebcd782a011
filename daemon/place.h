/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Directories and sockets on the file system: made so that at no moment anybody
 * reaches what he shouldn't, and removed only by whoever made them. Called by main
 * for the broker's own socket and by context.c for those of contexts, with the broker's
 * own credentials (creds_reset()).
 */
#ifndef SHMBROKER_PLACE_H
#define SHMBROKER_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum place_kind {
	PLACE_SHARED,  /* everybody may look into it: 0755 when made */
	PLACE_PRIVATE, /* a user's own: 0700, ours alone */
};

/*
 * Opens a directory, which is made if it is missing (those above it are not).
 * A symbolic link as the last component is not followed: -ENOTDIR. SHARED: owned by
 * us or root, and nobody else may write there, unless it is sticky; PRIVATE: owned by
 * us, and brought to 0700. Otherwise -EPERM. Returns a descriptor, close-on-exec,
 * owned by the caller, or -errno.
 */
int place_directory_open(const char *path, enum place_kind kind);

/*
 * The same for the directory that a socket's path lies in; *ret_name is the last
 * component, inside path. -EINVAL when path ends in a slash or names no file.
 */
int place_parent_open(const char *path, enum place_kind kind, const char **ret_name);

/* A listening socket with a name. */
struct place_socket {
	int fd;			  /* the listener, owned */
	dev_t device;		  /* of the name's inode: fstat(2) of fd tells another */
	ino_t inode;		  /* the same */
	bool refuses_descriptors; /* the kernel lets nobody send any to it (Linux 6.16) */
};

/*
 * Listens at `name` below a directory: SOCK_SEQPACKET, non-blocking, close-on-exec. It
 * appears there at once with its mode, listening already. A socket that nobody listens
 * on is replaced. 0, -EADDRINUSE when one answers there (or it can't be told, or another
 * broker is just replacing it), -EEXIST for anything else of that name, or another -errno:
 * all are left as they were.
 * The directory is only borrowed. Changes the umask for a moment: one thread only.
 */
int place_listen(struct place_socket *ret, int directory, const char *name, mode_t mode);

/*
 * Removes the name if it is still that socket's. 0, -ENOENT when there is none any more,
 * -ESTALE when it is another's, which is left alone. The descriptor isn't touched.
 */
int place_unlink_own(const struct place_socket *socket, int directory, const char *name);

/*
 * Whether a socket of that name answers: 1 also where that can't be told, 0 when nobody
 * listens there any more, -ENOENT, -ENOTSOCK for anything else, or another -errno.
 */
int place_answers(int directory, const char *name);

/*
 * Has the kernel refuse descriptors that are sent to what connects to this listener
 * (SO_PASSRIGHTS off; for one that came from systemd or the store). False before Linux 6.16.
 */
bool place_refuse_descriptors(int listener);

/* Whether a name is one that place_listen() uses before it is done: left by a crash. */
bool place_is_temporary(const char *name);

/*
 * The directories of contexts: BASE/UID/N/socket of the system broker, BASE/N/socket of
 * a user broker. All are the broker's own; UID/ is opened to its uid alone by an ACL, so
 * that a context is out of everybody else's reach until its maker binds N/ into a sandbox.
 */

/* What any context's path fits into, its terminator included. */
#define CONTEXT_PATH_SIZE 128

/* Where they all lie. Several brokers of one uid may share it. */
struct context_base {
	char *path;    /* owned */
	int directory; /* owned */
	bool per_user; /* a level of uids, each with its ACL */
	uint32_t next; /* the number to try next */
};

/*
 * Opens the base, which is made if it is missing: place_directory_open(), PLACE_SHARED
 * with per_user, else PLACE_PRIVATE. 0 or -errno: -ENAMETOOLONG when contexts' paths would
 * not fit, -EOPNOTSUPP when per_user and the file system has no ACLs. Without a base there
 * are no contexts. path is absolute.
 */
int context_base_open(struct context_base *ret, const char *path, bool per_user);
void context_base_done(struct context_base *base);

/*
 * Removes what earlier brokers have left: contexts of ours whose socket nobody listens on
 * any more. What answers stays, whosever it is, and so does everything that isn't ours or
 * that place_listen() hasn't made. Returns how many went, or -errno.
 */
int context_base_sweep(struct context_base *base);

/* One context's directory, N/, with the listener in it. */
struct context_place {
	uid_t maker;
	uint32_t number;
	int listener;		  /* owned */
	bool refuses_descriptors; /* as place_socket's */
};

/*
 * Makes the directory with its listener, mode 0666. 0 or -errno: -EOPNOTSUPP without ACLs,
 * -EPERM when somebody else owns the directory of that uid.
 */
int context_place_make(struct context_place *ret, struct context_base *base, uid_t maker);

/*
 * Closes the listener (-EBADF: there is none) and removes the directory, and that of its
 * maker when it was the last one there. 0 or -errno, -ENOENT when it is gone already,
 * -ENOTEMPTY when there is something in it that isn't ours to remove (a user's sandbox may
 * write there). One that came back from the descriptor store is filled in by the caller.
 */
int context_place_remove(const struct context_base *base, struct context_place *place);

/* The directory's path, CONTEXT_PATH_SIZE bytes always do. 0 or -ERANGE. */
int context_place_path(char *buffer, size_t size, const struct context_base *base,
		       const struct context_place *place);

#endif
