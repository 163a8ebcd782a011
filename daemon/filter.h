/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef SHMBROKER_FILTER_H
#define SHMBROKER_FILTER_H

/*
 * After the helpers are forked the broker itself never makes or enters a namespace and
 * never mounts: a system-call filter holds it to that, whoever is in control of it. Sets
 * no_new_privs. 0, or -errno: -ENOSYS, -EINVAL where the kernel has no filters.
 */
int filter_install(void);

#endif
