/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who a client on D-Bus is: what its bus says of it, and what /proc says of the
 * process that the bus names. Called by the bus, through the broker, once a unique name.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "daemon/fd.h"
#include "daemon/peer-private.h"
#include "daemon/peer.h"
#include "daemon/proc.h"

/* Stands on the bus in a sandboxed program's place, as its user's own process. */
#define PROXY "xdg-dbus-proxy"

static bool is_proxy_path(const char *path)
{
	const char *slash = strrchr(path, '/');

	return strcmp(slash ? slash + 1 : path, PROXY) == 0;
}

/* By its program where that may be looked at, which another user's may not, and by its name. */
static int read_proxy(struct peer *peer, const struct process *process)
{
	_cleanup_free_ char *name = NULL;
	char path[PATH_MAX];
	ssize_t size;
	int r;

	size = readlinkat(process->directory, "exe", path, sizeof(path) - 1);
	path[size < 0 ? 0 : size] = 0;
	r = process_read(&name, process, "comm");
	if (r < 0)
		return r;
	name[strcspn(name, "\n")] = 0;
	if (is_proxy_path(path) || strcmp(name, PROXY) == 0) {
		peer->sandboxed = true;
		peer->effective_caps = 0;
	}
	return 0;
}

/* The ids: the bus's word for who connected, /proc's for the primary group. */
static int read_ids(struct peer *peer, const struct peer_credentials *credentials,
		    const char *status)
{
	struct ids told = { .uid = credentials->uid,
			    .groups = (gid_t *)credentials->groups,
			    .group_count = credentials->group_count };
	int r;

	r = ids_from_status(&peer->ids, status);
	if (r < 0)
		return r;
	/* It has become somebody else since, or it is another process. */
	if (peer->ids.uid != credentials->uid)
		return -EACCES;
	if (!credentials->has_groups)
		return 0;
	told.gid = peer->ids.gid;
	ids_done(&peer->ids);
	r = ids_copy(&peer->ids, &told);
	ids_sort(&peer->ids);
	return r;
}

int peer_from_bus(struct peer *ret, const struct peer_self *self,
		  const struct peer_credentials *credentials)
{
	_cleanup_close_ int own_pidfd = -EBADF, directory = -EBADF;
	_cleanup_(peer_done) struct peer peer;
	_cleanup_free_ char *status = NULL;
	struct process process = { .pidfd = credentials->pidfd };
	int r;

	peer_init(&peer);
	if (credentials->pid <= 0)
		return -ESRCH;
	peer.pid = credentials->pid;
	peer.pinned = credentials->pidfd >= 0;
	if (!peer.pinned)
		process.pidfd = own_pidfd = process_pidfd(credentials->pid);
	if (process.pidfd < 0)
		return process.pidfd;
	process.directory = directory = proc_open_process(self->proc, credentials->pid);
	if (directory < 0)
		return directory;
	r = process_read(&status, &process, "status");
	if (r == 0)
		r = read_ids(&peer, credentials, status);
	if (r == 0)
		r = process_identify(&peer, self, &process, status);
	if (r == 0)
		r = read_proxy(&peer, &process);
	if (r == 0)
		r = peer_label_copy(&peer.label, credentials->label, credentials->label_size);
	if (r < 0)
		return r;
	*ret = peer;
	peer_init(&peer);
	return 0;
}
