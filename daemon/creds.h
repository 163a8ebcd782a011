/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Acting under a caller's ids, so that the kernel itself decides what he may do
 * with a file. Called by what opens and makes objects, around those calls alone.
 *
 * Switching costs more than the openat that it is for, so the process stays the
 * caller until somebody else is served: creds_assume() for the same ids costs no
 * system call. Everything else that the broker does with files (/proc, sockets,
 * its own state) has to call creds_reset() first.
 *
 * For a process of one thread. The rules of the kernel that this leans on:
 * - setfsuid(2) takes the file-system capabilities out of the effective set only
 *   when it leaves fsuid 0, and puts them back when it comes to 0. A broker of
 *   another uid with CAP_DAC_OVERRIDE would skip the permission check for every
 *   caller, and a caller of uid 0 changes nothing at all. So the effective set is
 *   looked at and set after each change, whatever the kernel has made of it.
 * - setfsuid(2) and setfsgid(2) report no errors: they are asked what they did.
 * - A change of ids or capabilities makes the process dumpable where the sysctl
 *   fs.suid_dumpable is 1: taken back after each.
 */
#ifndef SHMBROKER_CREDS_H
#define SHMBROKER_CREDS_H

#include <linux/capability.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/peer.h"

#define CREDS_CAP(capability) (UINT64_C(1) << (capability))

/* Those that the kernel looks at when it decides about files: its own CAP_FS_SET. */
#define CREDS_FS_CAPS                                                                              \
	(CREDS_CAP(CAP_CHOWN) | CREDS_CAP(CAP_DAC_OVERRIDE) | CREDS_CAP(CAP_DAC_READ_SEARCH) |     \
	 CREDS_CAP(CAP_FOWNER) | CREDS_CAP(CAP_FSETID) | CREDS_CAP(CAP_LINUX_IMMUTABLE) |          \
	 CREDS_CAP(CAP_MKNOD) | CREDS_CAP(CAP_MAC_OVERRIDE))

/* The three sets of a process, a bit a capability. */
struct creds_caps {
	uint64_t effective, permitted, inheritable;
};

struct creds {
	struct ids own; /* the broker's; its capabilities are those at creds_init() */
	struct creds_caps own_caps;
	bool may_set_ids;
	uid_t overflow_uid;
	gid_t overflow_gid;

	bool is_assumed; /* false: they are the broker's own now */
	struct ids now;	 /* while assumed; its groups have room for group_room */
	size_t group_room;
	uint64_t effective; /* set now */
};

/*
 * Reads what the process is now: after it has dropped what it drops, with its own
 * fsuid and fsgid. 0 or -errno. self is only looked at during the call.
 */
int creds_init(struct creds *creds, const struct peer_self *self);
/* Resets and frees. */
void creds_done(struct creds *creds);

/* What creds_assume() does when the ids are not those of now. */
int creds_change(struct creds *creds, const struct ids *ids, uint64_t effective);

/*
 * The effective set that goes with a caller: the broker's own without the file-system
 * capabilities, but for uid 0 those that the caller has himself and we have too.
 */
static inline uint64_t creds_effective(const struct creds *creds, uid_t uid, uint64_t fs_caps)
{
	uint64_t kept = uid == 0 ? fs_caps & CREDS_FS_CAPS : 0;

	return (creds->own_caps.effective & ~CREDS_FS_CAPS) | (creds->own_caps.permitted & kept);
}

/* Whether these are in force now, and not the broker's own. */
static inline bool creds_are(const struct creds *creds, const struct ids *ids)
{
	return creds->is_assumed && ids_equal(&creds->now, ids);
}

/*
 * Takes the caller's uid, gid and groups for what is done with files from here on.
 * fs_caps is the caller's own effective set (peer.effective_caps, 0 when he is
 * sandboxed), which counts for uid 0 alone: natively, root without CAP_DAC_OVERRIDE is
 * refused another's 0600 file, too.
 *
 * 0, or with the broker's own credentials back in force: -EPERM when the kernel didn't
 * do all of it; -ENOMEM; -EOPNOTSUPP for ids that may stand for any that our user
 * namespace doesn't know (the overflow uid, and there the overflow gid), and, in a
 * broker that may not set ids, for every uid but its own. For its own uid such a
 * broker acts with its own gid and groups, whatever the caller's are.
 */
static inline int creds_assume(struct creds *creds, const struct ids *ids, uint64_t fs_caps)
{
	uint64_t effective = creds_effective(creds, ids->uid, fs_caps);

	/* By value: a pointer may be another peer's by now. */
	if (creds->effective == effective && creds_are(creds, ids))
		return 0;
	return creds_change(creds, ids, effective);
}

/* Back to the broker's own. There is no going on when that fails: abort(3). */
void creds_reset(struct creds *creds);

/*
 * Takes every capability but those in keep out of the permitted, the effective and the
 * inheritable set, and all out of the ambient one. 0 or -errno. Before creds_init().
 */
int creds_drop_capabilities(uint64_t keep);

/* The three sets as they are now, and setting them. 0 or -errno. */
int creds_caps_get(struct creds_caps *ret);
int creds_caps_set(const struct creds_caps *caps);

#endif
