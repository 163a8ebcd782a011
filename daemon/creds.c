/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Acting under a caller's ids, so that the kernel itself decides what he may do
 * with a file. Called by what opens and makes objects, around those calls alone.
 */
#include "daemon/creds.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * glibc's setgroups() speaks to every thread and is slower for it. On some 32-bit
 * machines the plain numbers are calls of the time of 16-bit ids.
 */
#ifdef SYS_setgroups32
#define CALL_SETGROUPS SYS_setgroups32
#else
#define CALL_SETGROUPS SYS_setgroups
#endif
#ifdef SYS_setfsuid32
#define CALL_SETFSUID SYS_setfsuid32
#define CALL_SETFSGID SYS_setfsgid32
#else
#define CALL_SETFSUID SYS_setfsuid
#define CALL_SETFSGID SYS_setfsgid
#endif

int creds_caps_get(struct creds_caps *ret)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (syscall(SYS_capget, &header, caps) < 0)
		return -errno;
	ret->effective = caps[0].effective | (uint64_t)caps[1].effective << 32;
	ret->permitted = caps[0].permitted | (uint64_t)caps[1].permitted << 32;
	ret->inheritable = caps[0].inheritable | (uint64_t)caps[1].inheritable << 32;
	return 0;
}

int creds_caps_set(const struct creds_caps *caps)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {
		{ .effective = (uint32_t)caps->effective,
		  .permitted = (uint32_t)caps->permitted,
		  .inheritable = (uint32_t)caps->inheritable },
		{ .effective = (uint32_t)(caps->effective >> 32),
		  .permitted = (uint32_t)(caps->permitted >> 32),
		  .inheritable = (uint32_t)(caps->inheritable >> 32) },
	};

	return syscall(SYS_capset, &header, sets) < 0 ? -errno : 0;
}

int creds_drop_capabilities(uint64_t keep)
{
	struct creds_caps caps;
	int r;

	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return -errno;
	r = creds_caps_get(&caps);
	if (r < 0)
		return r;
	caps.effective &= keep;
	caps.permitted &= keep;
	caps.inheritable &= keep;
	return creds_caps_set(&caps);
}

static int read_own_groups(struct ids *own)
{
	int count = getgroups(0, NULL);

	if (count < 0)
		return -errno;
	if (!count)
		return 0;
	own->groups = malloc((size_t)count * sizeof(*own->groups));
	if (!own->groups)
		return -ENOMEM;
	count = getgroups(count, own->groups);
	if (count < 0)
		return -errno;
	own->group_count = (size_t)count;
	return 0;
}

int creds_init(struct creds *creds, const struct peer_self *self)
{
	int r;

	*creds = (struct creds){
		.own = { .uid = geteuid(), .gid = getegid() },
		.may_set_ids = self->may_set_ids,
		.overflow_uid = self->overflow_uid,
		.overflow_gid = self->overflow_gid,
	};
	r = creds_caps_get(&creds->own_caps);
	if (r == 0)
		r = read_own_groups(&creds->own);
	if (r < 0) {
		ids_done(&creds->own);
		return r;
	}
	creds->effective = creds->own_caps.effective;
	return 0;
}

void creds_done(struct creds *creds)
{
	creds_reset(creds);
	ids_done(&creds->own);
	ids_done(&creds->now);
	creds->group_room = 0;
}

/* setfsuid(2) and setfsgid(2) return the id of before, also when they did nothing. */
static bool set_fs_ids(uid_t uid, gid_t gid)
{
	syscall(CALL_SETFSGID, gid);
	if ((gid_t)syscall(CALL_SETFSGID, -1) != gid)
		return false;
	syscall(CALL_SETFSUID, uid);
	return (uid_t)syscall(CALL_SETFSUID, -1) == uid;
}

/* Asked, not remembered: what setfsuid(2) does to it depends on the securebits, too. */
static bool set_effective(const struct creds *creds, uint64_t effective)
{
	struct creds_caps caps;

	if (creds_caps_get(&caps) < 0)
		return false;
	if (caps.effective == effective)
		return true;
	caps = creds->own_caps;
	caps.effective = effective;
	return creds_caps_set(&caps) == 0;
}

static bool set_undumpable(void)
{
	return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0;
}

static bool same_groups(const struct ids *a, const struct ids *b)
{
	return a->group_count == b->group_count &&
	       (!a->group_count ||
		!memcmp(a->groups, b->groups, a->group_count * sizeof(*a->groups)));
}

/* Makes the kernel's state that of ids, of which `from` is in force. */
static bool apply(struct creds *creds, const struct ids *from, const struct ids *ids,
		  uint64_t effective)
{
	if (creds->may_set_ids) {
		if (!same_groups(from, ids) &&
		    syscall(CALL_SETGROUPS, ids->group_count, ids->groups) < 0)
			return false;
		if (!set_fs_ids(ids->uid, ids->gid))
			return false;
	}
	return set_effective(creds, effective) && set_undumpable();
}

void creds_reset(struct creds *creds)
{
	if (!creds->is_assumed)
		return;
	if (!apply(creds, &creds->now, &creds->own, creds->own_caps.effective))
		abort();
	creds->is_assumed = false;
	creds->effective = creds->own_caps.effective;
}

/* After a failure half way: nothing is known of what is in force. */
static int fail(struct creds *creds, int error)
{
	if (creds->may_set_ids &&
	    syscall(CALL_SETGROUPS, creds->own.group_count, creds->own.groups) < 0)
		abort();
	if (!apply(creds, &creds->own, &creds->own, creds->own_caps.effective))
		abort();
	creds->is_assumed = false;
	creds->effective = creds->own_caps.effective;
	return error;
}

static int check(const struct creds *creds, const struct ids *ids)
{
	if (ids->uid == creds->overflow_uid || ids->uid == (uid_t)-1 || ids->gid == (gid_t)-1)
		return -EOPNOTSUPP;
	if (!creds->may_set_ids)
		return ids->uid == creds->own.uid ? 0 : -EOPNOTSUPP;
	if (creds->overflow_gid != (gid_t)-1 && ids_in_group(ids, creds->overflow_gid))
		return -EOPNOTSUPP;
	return 0;
}

static int make_room(struct creds *creds, size_t group_count)
{
	gid_t *groups;

	if (group_count <= creds->group_room)
		return 0;
	groups = realloc(creds->now.groups, group_count * sizeof(*groups));
	if (!groups)
		return -ENOMEM;
	creds->now.groups = groups;
	creds->group_room = group_count;
	return 0;
}

/* There is room. */
static void remember(struct creds *creds, const struct ids *ids, uint64_t effective)
{
	creds->now.uid = ids->uid;
	creds->now.gid = ids->gid;
	creds->now.group_count = ids->group_count;
	if (ids->group_count)
		memcpy(creds->now.groups, ids->groups, ids->group_count * sizeof(*ids->groups));
	creds->effective = effective;
	creds->is_assumed = true;
}

int creds_change(struct creds *creds, const struct ids *ids, uint64_t effective)
{
	int r = check(creds, ids);

	if (r == 0)
		r = make_room(creds, ids->group_count);
	if (r < 0) {
		creds_reset(creds);
		return r;
	}
	if (!apply(creds, creds->is_assumed ? &creds->now : &creds->own, ids, effective))
		return fail(creds, -EPERM);
	remember(creds, ids, effective);
	return 0;
}
