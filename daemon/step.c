/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Names and ways out of the steps on the way to a pool. The advice is what an
 * administrator can do about it, in the order of what is most often the cause.
 */
#include "daemon/step.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Under which name a test makes it fail, and how the administrator knows it. */
static const struct {
	const char *fault, *shown;
} steps[STEP_COUNT] = {
	[STEP_FORK] = { "fork", "fork" },
	[STEP_SETGROUPS] = { "setgroups", "setgroups" },
	[STEP_SETRESGID] = { "setresgid", "setresgid" },
	[STEP_SETRESUID] = { "setresuid", "setresuid" },
	[STEP_CAPSET] = { "capset", "capset" },
	[STEP_FILTER] = { "filter", "filter" },
	[STEP_UNSHARE] = { "unshare", "unshare(CLONE_NEWUSER|CLONE_NEWNS)" },
	[STEP_READ_MAP] = { "read map", "read uid_map and gid_map" },
	[STEP_MAP] = { "map", "write uid_map and gid_map" },
	[STEP_NSFS] = { "nsfs", "open /proc/self/ns" },
	[STEP_ROOT] = { "root", "mount the table's root" },
	[STEP_PIVOT] = { "pivot", "pivot_root" },
	[STEP_DETACH] = { "detach", "umount2 of the old root" },
	[STEP_SETNS] = { "setns", "setns" },
	[STEP_LIMITS] = { "limits", "check of size and objects" },
	[STEP_FIND] = { "find", "statx of the pool's number" },
	[STEP_MKDIR] = { "mkdir", "mkdir in the table" },
	[STEP_FSOPEN] = { "fsopen", "fsopen(tmpfs)" },
	[STEP_OPTION] = { "option", "fsconfig" },
	[STEP_CREATE] = { "create", "fsconfig(FSCONFIG_CMD_CREATE)" },
	[STEP_FSMOUNT] = { "fsmount", "fsmount" },
	[STEP_MOVE_MOUNT] = { "move_mount", "move_mount" },
	[STEP_OPEN_TREE] = { "open_tree", "open_tree(OPEN_TREE_CLONE)" },
	[STEP_MOUNT_SETATTR] = { "mount_setattr", "mount_setattr(MOUNT_ATTR_RDONLY)" },
	[STEP_OPENAT] = { "openat", "openat of the pool's root" },
	[STEP_FSPICK] = { "fspick", "fspick" },
	[STEP_RECONFIGURE] = { "reconfigure", "fsconfig(FSCONFIG_CMD_RECONFIGURE)" },
	[STEP_UMOUNT] = { "umount", "umount2" },
	[STEP_RMDIR] = { "rmdir", "rmdir in the table" },
	[STEP_COUNT_LENT] = { "count lent", "counting what is lent" },
	[STEP_LEND] = { "lend", "lending: open_tree(OPEN_TREE_CLONE)" },
	[STEP_TWIN_FORK] = { "twin fork", "twin: fork" },
	[STEP_TWIN_UNSHARE] = { "twin unshare", "twin: unshare(CLONE_NEWUSER|NEWNS)" },
	[STEP_TWIN_OPEN_TREE] = { "twin open_tree", "twin: open_tree(OPEN_TREE_CLONE)" },
	[STEP_TWIN_SETATTR] = { "twin mount_setattr", "twin: mount_setattr" },
	[STEP_TWIN_OPENAT] = { "twin openat", "twin: openat of the directory" },
	[STEP_HELPER] = { "helper", "helper process" },
	[STEP_RECEIVE] = { "receive", "recvmsg from the helper" },
	[STEP_CHECK_TYPE] = { "check type", "fstatfs" },
	[STEP_CHECK_SAME] = { "check same", "fstat of both directories" },
	[STEP_CHECK_WRITABLE] = { "check writable", "fstatvfs of path" },
	[STEP_CHECK_READ_ONLY] = { "check read-only", "fstatvfs of read-only-path" },
};

#define GIVE_PATHS "or give the pool a path and a read-only-path"

/* The first row that fits counts; error 0 fits all. */
static const struct {
	enum step step;
	int error;
	const char *advice;
} advices[] = {
	{ STEP_FORK, 0, "raise TasksMax= or the limit on processes" },
	{ STEP_SETGROUPS, 0, "the broker needs CAP_SETGID, and no PrivateUsers=" },
	{ STEP_SETRESGID, 0, "the broker needs CAP_SETGID, and the table's gid a mapping" },
	{ STEP_SETRESUID, EAGAIN, "the table's user is at his limit of processes" },
	{ STEP_SETRESUID, 0, "the broker needs CAP_SETUID, and the table's uid a mapping" },
	{ STEP_FILTER, 0,
	  "no memory or descriptor for its system-call filter: restart the broker" },
	{ STEP_UNSHARE, EPERM,
	  "kernel.unprivileged_userns_clone=1, user.max_user_namespaces, AppArmor's "
	  "restrict_unprivileged_userns=0, RestrictNamespaces=user mnt, seccomp, no chroot; "
	  "" GIVE_PATHS },
	{ STEP_UNSHARE, EACCES,
	  "kernel.apparmor_restrict_unprivileged_userns=0 or a profile with userns; "
	  "" GIVE_PATHS },
	{ STEP_UNSHARE, ENOSPC, "raise user.max_user_namespaces and user.max_mnt_namespaces" },
	{ STEP_UNSHARE, ENOSYS,
	  "the seccomp profile or the kernel has no unshare: allow unshare, setns and the mount "
	  "calls; " GIVE_PATHS },
	{ STEP_UNSHARE, EINVAL, "the kernel needs CONFIG_USER_NS; " GIVE_PATHS },
	{ STEP_UNSHARE, 0, "user and mount namespaces are needed; " GIVE_PATHS },
	{ STEP_READ_MAP, 0, "the broker needs /proc" },
	{ STEP_MAP, EPERM,
	  "the broker needs CAP_SETUID, CAP_SETGID and CAP_SETFCAP when it makes the table; "
	  "" GIVE_PATHS },
	{ STEP_MAP, EACCES, "the broker needs CAP_DAC_OVERRIDE, or to be dumpable with --user" },
	{ STEP_MAP, 0, "the broker needs /proc, and CAP_SETUID, CAP_SETGID and CAP_SETFCAP" },
	{ STEP_NSFS, 0, "the broker needs /proc" },
	{ STEP_ROOT, EACCES,
	  "AppArmor forbids mounts: kernel.apparmor_restrict_unprivileged_userns=0 or a profile "
	  "with userns; " GIVE_PATHS },
	{ STEP_ROOT, EPERM,
	  "mounts are forbidden: AppArmor (kernel.apparmor_restrict_unprivileged_userns) or the "
	  "seccomp profile; " GIVE_PATHS },
	{ STEP_ROOT, ENOSYS, "the seccomp profile must allow fsopen and move_mount; " GIVE_PATHS },
	{ STEP_PIVOT, EINVAL,
	  "the broker's root must be a mount point, not a chroot or initramfs" },
	{ STEP_PIVOT, 0, "the security module or seccomp profile forbids it; " GIVE_PATHS },
	{ STEP_DETACH, 0, "the security module or seccomp profile forbids it; " GIVE_PATHS },
	{ STEP_SETNS, EPERM,
	  "a kept table belongs to the user who made it: run as that uid, or stop the service once "
	  "to make a new table; else see the seccomp profile" },
	{ STEP_SETNS, 0, "the seccomp profile must allow setns; " GIVE_PATHS },
	{ STEP_LIMITS, 0, "size and objects must be above 0: 0 is unlimited to a tmpfs" },
	{ STEP_FIND, ENOENT, "no such pool is in the table" },
	{ STEP_MKDIR, EEXIST, "the number is taken" },
	{ STEP_FSOPEN, ENOSYS, "the seccomp profile must allow fsopen and its kin; " GIVE_PATHS },
	{ STEP_FSOPEN, ENODEV, "the kernel needs CONFIG_TMPFS" },
	{ STEP_FSOPEN, 0, "the security module or seccomp profile forbids it; " GIVE_PATHS },
	{ STEP_OPTION, EINVAL, "this kernel doesn't take that huge, mpol, size or objects" },
	{ STEP_CREATE, EINVAL, "this kernel doesn't take that huge, mpol, size or objects" },
	{ STEP_CREATE, ENOMEM, "the machine is out of memory" },
	{ STEP_FSMOUNT, ENOSPC, "raise user.max_mnt_namespaces" },
	{ STEP_FSMOUNT, 0, "the security module or seccomp profile forbids it; " GIVE_PATHS },
	{ STEP_MOVE_MOUNT, ENOSPC, "raise fs.mount-max" },
	{ STEP_MOVE_MOUNT, 0, "the security module or seccomp profile forbids it; " GIVE_PATHS },
	{ STEP_OPEN_TREE, EMFILE, "raise LimitNOFILE=" },
	{ STEP_OPEN_TREE, ENFILE, "raise fs.file-max" },
	{ STEP_OPEN_TREE, ENOSPC, "raise user.max_mnt_namespaces" },
	{ STEP_OPEN_TREE, 0, "the security module or seccomp profile forbids it; " GIVE_PATHS },
	{ STEP_MOUNT_SETATTR, ENOSYS,
	  "Linux 5.12 or newer is needed, and a seccomp profile that knows mount_setattr; "
	  "" GIVE_PATHS },
	{ STEP_MOUNT_SETATTR, 0, "the security module or seccomp profile forbids it; " GIVE_PATHS },
	{ STEP_RECONFIGURE, EINVAL,
	  "the new limits are below what is in use: remove objects first" },
	{ STEP_RECONFIGURE, EBUSY, "the pool has objects, or unlinked ones that are still open" },
	{ STEP_UMOUNT, EBUSY,
	  "somebody uses the mount in the table itself: look for a process "
	  "that was put there with nsenter" },
	{ STEP_COUNT_LENT, EDQUOT,
	  "too many mounts of it are attached nowhere: attach or close them" },
	{ STEP_COUNT_LENT, EUSERS, "too many mounts of all pools are attached nowhere" },
	{ STEP_COUNT_LENT, EMFILE, "raise LimitNOFILE=" },
	{ STEP_COUNT_LENT, ENFILE, "raise fs.file-max" },
	{ STEP_COUNT_LENT, EBUSY, "what is lent of it is held up by who has it" },
	{ STEP_LEND, ENOSPC, "raise user.max_mnt_namespaces" },
	{ STEP_LEND, EMFILE, "raise LimitNOFILE=" },
	{ STEP_LEND, ENFILE, "raise fs.file-max" },
	{ STEP_LEND, 0, "the security module or seccomp profile forbids it" },
	{ STEP_TWIN_FORK, 0, "raise TasksMax= or the limit on processes" },
	{ STEP_TWIN_UNSHARE, ENOSPC, "raise user.max_user_namespaces and user.max_mnt_namespaces" },
	{ STEP_TWIN_UNSHARE, 0,
	  "allow user and mount namespaces (kernel.unprivileged_userns_clone, "
	  "RestrictNamespaces=user mnt, the seccomp profile), or give the pool a read-only-path" },
	{ STEP_TWIN_OPEN_TREE, ENOENT,
	  "make the directory, or mount it, before the broker starts" },
	{ STEP_TWIN_OPEN_TREE, EACCES,
	  "the table's user must reach the path, and AppArmor allow it "
	  "(kernel.apparmor_restrict_unprivileged_userns); or give the pool a read-only-path" },
	{ STEP_TWIN_OPEN_TREE, 0,
	  "the security module or seccomp profile forbids it; or give the pool a read-only-path" },
	{ STEP_TWIN_SETATTR, ENOSYS,
	  "Linux 5.12 or newer is needed, and a seccomp profile that knows mount_setattr; or give "
	  "the pool a read-only-path" },
	{ STEP_TWIN_SETATTR, 0,
	  "the security module or seccomp profile forbids it; or give the pool a read-only-path" },
	{ STEP_TWIN_OPENAT, EACCES, "the table's user must be able to read the directory" },
	{ STEP_TWIN_OPENAT, 0, "or give the pool a read-only-path" },
	{ STEP_HELPER, 0, "the helper process has ended: restart the broker" },
	{ STEP_RECEIVE, EMFILE, "raise LimitNOFILE=" },
	{ STEP_RECEIVE, ENFILE,
	  "too many descriptors of the broker's user are on their way, or there is no memory" },
	{ STEP_RECEIVE, 0, "restart the broker" },
	{ STEP_CHECK_TYPE, 0, "a pool's directory must be on a tmpfs" },
	{ STEP_CHECK_SAME, 0,
	  "path and read-only-path must be one directory of one tmpfs, mounted twice" },
	{ STEP_CHECK_WRITABLE, 0,
	  "path must be mounted writable: only read-only-path is read-only" },
	{ STEP_CHECK_READ_ONLY, 0, "read-only-path must be mounted read-only" },
};

static const char *step_advice(enum step step, int error)
{
	for (size_t i = 0; i < sizeof(advices) / sizeof(*advices); i++) {
		if (advices[i].step != step)
			continue;
		if (advices[i].error == 0 || advices[i].error == error)
			return advices[i].advice;
	}
	return "see the log of the kernel";
}

void step_failure(struct keeper_failure *ret, enum step step, int error)
{
	memset(ret, 0, sizeof(*ret));
	ret->error = error;
	snprintf(ret->step, sizeof(ret->step), "%s", steps[step].shown);
	snprintf(ret->advice, sizeof(ret->advice), "%s", step_advice(step, error));
}

bool step_try(const struct attempt *attempt, enum step step)
{
	if (!attempt->fault || strcmp(attempt->fault->step, steps[step].fault) != 0)
		return true;
	errno = attempt->fault->error;
	return false;
}

int step_failed(const struct attempt *attempt, enum step step)
{
	int error = errno;

	step_failure(attempt->failure, step, error);
	return -error;
}
