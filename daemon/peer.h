/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who a client is. Taken from the kernel once, when it connects, and passed
 * on as a value: nothing below this module asks /proc or the socket again.
 */
#ifndef SHMBROKER_PEER_H
#define SHMBROKER_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A process's ids as far as files are concerned. */
struct ids {
	uid_t uid;
	gid_t gid;
	gid_t *groups; /* supplementary, owned, sorted; NULL when there are none */
	size_t group_count;
};

void ids_done(struct ids *ids);
/* ret is overwritten. 0 or -ENOMEM. */
int ids_copy(struct ids *ret, const struct ids *ids);
/* Whether gid is the primary or a supplementary group. */
bool ids_in_group(const struct ids *ids, gid_t gid);
/*
 * "5,20,44": as many supplementary groups as fit, and "" for none: whether all do. And an identity
 * back from three words of a value of state.h (uid/gid/groups): 0, -EINVAL or -ENOMEM.
 */
bool ids_text(char *ret, size_t size, const struct ids *ids);
int ids_parse(struct ids *ret, char **value);
/* The same uid, gid and groups. */
bool ids_equal(const struct ids *a, const struct ids *b);

struct peer {
	struct ids ids;
	pid_t pid;	     /* 0: in a pid namespace that we don't see */
	uint64_t start_time; /* of pid, field 22 of /proc/PID/stat, in clock ticks; 0: unknown */
	uint64_t effective_caps; /* CapEff; 0 when sandboxed */
	bool sandboxed;		 /* through a context, or another pid or user namespace */
	bool pinned;		 /* by a pidfd of who connected: pid is surely that process */
	char *unit;		 /* of the system manager, "" when none */
	char *user_unit;	 /* of a user's manager, "" when none */
	char *label;		 /* the security module's, "" when none */
	char *app;		 /* from the context; "" when none */
	struct ids maker;	 /* of the context; only with app */
	int socket;		 /* borrowed: peer_pidfd() asks it; -EBADF without one */
};

/* What this process itself is, to compare a peer with: read once at start. */
struct peer_self {
	uid_t uid;     /* effective */
	char *uid_map; /* /proc/self/uid_map, whole */
	char *gid_map;
	bool has_peerpidfd; /* the kernel knows SO_PEERPIDFD (Linux 6.5) */
	bool may_set_ids;   /* CAP_SETUID and CAP_SETGID: can act under a caller's ids */
	bool is_user;	    /* a user broker (--user) */
	uid_t overflow_uid; /* /proc/sys/kernel/overflowuid, 65534 where it can't be read;
			       (uid_t)-1 where all ids are known, and nobody's is shown so */
	gid_t overflow_gid; /* the same of groups; (gid_t)-1 where all gids are known */
	int proc;	    /* /proc, O_PATH|O_DIRECTORY, owned */
};

/* 0 or -errno: -EXDEV where /proc is of another pid namespace than this process. */
int peer_self_init(struct peer_self *self, bool is_user);
void peer_self_done(struct peer_self *self);

/*
 * Learns who is at the other end of a connected socket. `app` is the id of the
 * context that it came through, NULL for the main socket; `maker` the context's
 * maker (copied). Called with the broker's own credentials (fsuid, fsgid 0 as root).
 * 0, or -errno when it can't be told who it is: then the connection is turned
 * away. -ESRCH: it has gone meanwhile. -EOPNOTSUPP: require_pidfd, and the
 * kernel can't pin it. ret is only set on success; peer_done() frees it.
 */
int peer_from_socket(struct peer *ret, const struct peer_self *self, int socket, const char *app,
		     const struct ids *maker, bool require_pidfd);
void peer_done(struct peer *peer);

/* What a bus says of one that is connected to it. All borrowed. */
struct peer_credentials {
	uid_t uid;
	pid_t pid;
	const gid_t *groups; /* with has_groups; else those of /proc */
	size_t group_count;
	bool has_groups;
	const char *label; /* of label_size bytes */
	size_t label_size;
	int pidfd; /* -EBADF: the bus has none, so it is not pinned */
};

/*
 * The same for a client of a bus. It is sandboxed when it is xdg-dbus-proxy, too: on the bus that
 * is a process of the user's in a sandboxed program's place. 0, or -errno when it can't be told
 * who it is. Who asks makes sure afterwards that the name on the bus was still there: before that
 * the process may have been another that has got its number.
 */
int peer_from_bus(struct peer *ret, const struct peer_self *self,
		  const struct peer_credentials *credentials);

/*
 * A descriptor of the process that connected, close-on-exec, owned by the caller:
 * SO_PEERPIDFD, before Linux 6.5 pidfd_open(2) with the start time compared.
 * -EOPNOTSUPP where it can't be had (pid 0), -ESRCH when it has ended.
 */
int peer_pidfd(const struct peer *peer, const struct peer_self *self);

/*
 * Whether it is the administrator of this broker: an unsandboxed uid 0, or the
 * unsandboxed owner of a user broker.
 */
bool peer_is_admin(const struct peer *peer, const struct peer_self *self);

/*
 * Whether it is sandboxed, and nobody answers for its uid: it came through no context, or as
 * another user than the context's maker.
 */
static inline bool peer_is_apart(const struct peer *peer)
{
	return peer->sandboxed && (!*peer->app || peer->maker.uid != peer->ids.uid);
}

/*
 * Reads the unit out of the text of /proc/PID/cgroup: the first unit below the slices,
 * of the system manager in `unit`, of a user's manager in `user_unit` (below user@UID.service, and
 * only where UID is `uid`). Both get "" when there is none. 0 or -ENOMEM. A group that is no unit
 * (a delegated one below) never counts.
 */
int peer_unit_from_cgroup(const char *text, uid_t uid, char **ret_unit, char **ret_user_unit);

/*
 * The identity of another process, for `explain --pid`: as a connection from it
 * through the main socket would have it. 0 or -errno.
 */
int peer_from_pid(struct peer *ret, const struct peer_self *self, pid_t pid);

/*
 * One that is not there, of these ids (copied) and, where not empty, this unit and app: then it is
 * sandboxed, in a context that a process of the same ids has made. 0 or -ENOMEM.
 */
int peer_imagine(struct peer *ret, const struct ids *ids, const char *unit, const char *app);
/* A copy without the socket. 0 or -ENOMEM. */
int peer_copy(struct peer *ret, const struct peer *peer);

#endif
