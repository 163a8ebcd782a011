/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files of /proc, read boundedly through a held descriptor of it, and the few
 * things that are read out of them. Used by peer.c alone.
 */
#ifndef SHMBROKER_PROC_H
#define SHMBROKER_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Nothing of a process that we read is longer: 65536 groups in status are 720 KiB. */
#define PROC_TEXT_MAX (1024 * 1024)

/*
 * /proc, O_PATH, close-on-exec, owned by the caller. -errno, -EOPNOTSUPP when what
 * is mounted there is something else.
 */
int proc_open(void);

/*
 * /proc/PID, O_PATH, close-on-exec, owned by the caller. It stays that process's:
 * once it has ended, nothing below can be read, whoever has its number then.
 * -ESRCH when there is none that we may see.
 */
int proc_open_process(int proc, pid_t pid);

/*
 * The whole text of a file below `directory`, terminated, for free(). 0, -EFBIG
 * over PROC_TEXT_MAX, -ESRCH when its process has ended, or another -errno.
 */
int proc_read(char **ret, int directory, const char *name);

/* What stands behind "KEY:" and white space at a line's start in status, or NULL. */
const char *proc_status_field(const char *status, const char *key);

/* Field 22 of stat, in clock ticks. 0 or -EBADMSG. */
int proc_stat_start_time(uint64_t *ret, const char *stat);

/*
 * The group that systemd put the process into, out of the text of cgroup: the
 * unified hierarchy's where it is used, else that of name=systemd (the hybrid and
 * the legacy layout). Points into text, not terminated; NULL when there is none.
 */
const char *proc_cgroup_path(const char *text, size_t *ret_size);

#endif
