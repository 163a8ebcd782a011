/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who a client is: asked of the kernel once, when it connects. Called by both
 * transports at connect, and for `explain --pid`.
 */
#include "daemon/peer.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "daemon/fd.h"
#include "daemon/peer-private.h"
#include "daemon/proc.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

#define LABEL_MAX 65536 /* bytes; SELinux and AppArmor stay far below a page */

char peer_empty[1];

int peer_string_copy(char **ret, const char *text, size_t size)
{
	char *copy = peer_empty;

	if (size) {
		copy = strndup(text, size);
		if (!copy)
			return -ENOMEM;
	}
	*ret = copy;
	return 0;
}

void peer_string_free(char **string)
{
	if (*string != peer_empty)
		free(*string);
	*string = peer_empty;
}

void peer_init(struct peer *peer)
{
	*peer = (struct peer){
		.unit = peer_empty,
		.user_unit = peer_empty,
		.label = peer_empty,
		.app = peer_empty,
		.socket = -EBADF,
	};
}

void peer_done(struct peer *peer)
{
	ids_done(&peer->ids);
	ids_done(&peer->maker);
	peer_string_free(&peer->unit);
	peer_string_free(&peer->user_unit);
	peer_string_free(&peer->label);
	peer_string_free(&peer->app);
}

/*
 * Whether CAP_SETUID and CAP_SETGID are in our effective set, and good for something:
 * in a user namespace that an ordinary user has mapped for himself setgroups(2) is denied.
 */
static bool may_set_ids(int proc)
{
	_cleanup_free_ char *setgroups_text = NULL;
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3] = { 0 };
	uint32_t wanted = 1u << CAP_SETUID | 1u << CAP_SETGID;

	if (proc_read(&setgroups_text, proc, "self/setgroups") == 0 &&
	    !strncmp(setgroups_text, "deny", 4))
		return false;
	return syscall(SYS_capget, &header, caps) == 0 && (caps[0].effective & wanted) == wanted;
}

/* -errno, -ENOPROTOOPT where the kernel doesn't know it. */
static int socket_pidfd(int socket)
{
	int fd = -EBADF;
	socklen_t size = sizeof(fd);

	if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &fd, &size) == 0)
		return fd;
	/* EINVAL is what older kernels say of a process that has been reaped. */
	return errno == EINVAL ? -ESRCH : -errno;
}

static int knows_peerpidfd(bool *ret)
{
	int pair[2], fd;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	fd = socket_pidfd(pair[0]);
	*ret = fd >= 0;
	fd_close(fd);
	fd_close(pair[0]);
	fd_close(pair[1]);
	return fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM ? fd : 0;
}

/* Where every id is known, none is shown as another: then 65534 is a user like any other. */
static bool is_whole(const char *map)
{
	unsigned long inside, outside, count;

	return sscanf(map, "%lu %lu %lu", &inside, &outside, &count) == 3 && inside == 0 &&
	       outside == 0 && count == UINT32_MAX;
}

static unsigned overflow_id(int proc, const char *name)
{
	_cleanup_free_ char *text = NULL;
	unsigned id;

	/* Out of sight in a unit with ProcSubset=pid. */
	if (proc_read(&text, proc, name) < 0 || sscanf(text, "%u", &id) != 1)
		return 65534;
	return id;
}

/* Whether there is more than one number behind NSpid: the process is in a pid namespace below. */
static bool in_other_pid_namespace(const char *status)
{
	const char *own = proc_status_field(status, "NSpid");

	if (!own)
		return true;
	own += strspn(own, "0123456789");
	return own[strspn(own, " \t")] != '\n';
}

/*
 * The numbers of processes that we know must be those by which /proc goes. In one of a namespace
 * above we have two; in any other none.
 */
static int check_proc(int proc)
{
	_cleanup_free_ char *status = NULL;
	int r = proc_read(&status, proc, "self/status");

	if (r < 0)
		return r == -ENOENT ? -EXDEV : r;
	return proc_status_field(status, "NSpid") && in_other_pid_namespace(status) ? -EXDEV : 0;
}

int peer_self_init(struct peer_self *self, bool is_user)
{
	int r;

	*self = (struct peer_self){ .uid = geteuid(), .is_user = is_user };
	self->proc = proc_open();
	if (self->proc < 0)
		return self->proc;
	r = check_proc(self->proc);
	if (r == 0)
		r = proc_read(&self->uid_map, self->proc, "self/uid_map");
	if (r == 0)
		r = proc_read(&self->gid_map, self->proc, "self/gid_map");
	if (r == 0)
		r = knows_peerpidfd(&self->has_peerpidfd);
	if (r < 0) {
		peer_self_done(self);
		return r;
	}
	self->may_set_ids = may_set_ids(self->proc);
	self->overflow_uid = is_whole(self->uid_map) && is_whole(self->gid_map)
				     ? (uid_t)-1
				     : overflow_id(self->proc, "sys/kernel/overflowuid");
	self->overflow_gid = is_whole(self->gid_map)
				     ? (gid_t)-1
				     : overflow_id(self->proc, "sys/kernel/overflowgid");
	return 0;
}

void peer_self_done(struct peer_self *self)
{
	free(self->uid_map);
	free(self->gid_map);
	self->uid_map = self->gid_map = NULL;
	self->proc = fd_close(self->proc);
}

/* 0 while one thread of it is left: signal 0 says nothing of a foreign pid namespace. */
static int check_alive(int pidfd)
{
	struct pollfd ended = { .fd = pidfd, .events = POLLIN };
	int r = poll(&ended, 1, 0);

	if (r < 0)
		return -errno;
	return r ? -ESRCH : 0;
}

int process_read(char **ret, const struct process *process, const char *name)
{
	_cleanup_free_ char *text = NULL;
	int r, alive;

	r = proc_read(&text, process->directory, name);
	/* Whatever was read or not: of one that has ended it may be another's. */
	alive = check_alive(process->pidfd);
	if (alive < 0)
		return alive;
	if (r < 0)
		return r;
	*ret = text;
	text = NULL;
	return 0;
}

static int read_start_time(uint64_t *ret, const struct process *process)
{
	_cleanup_free_ char *stat = NULL;
	int r = process_read(&stat, process, "stat");

	return r < 0 ? r : proc_stat_start_time(ret, stat);
}

/* 1 when an id map of the process is not our own's text, 0 when it is. */
static int has_other_map(const struct process *process, const char *name, const char *own)
{
	_cleanup_free_ char *map = NULL;
	int r = process_read(&map, process, name);

	return r < 0 ? r : strcmp(map, own) != 0;
}

static int read_status(struct peer *peer, const char *status)
{
	const char *caps = proc_status_field(status, "CapEff");

	if (!caps || sscanf(caps, "%" SCNx64, &peer->effective_caps) != 1)
		return -EBADMSG;
	if (in_other_pid_namespace(status))
		peer->sandboxed = true;
	return 0;
}

static int read_unit(struct peer *peer, const struct process *process)
{
	_cleanup_free_ char *cgroup = NULL;
	int r = process_read(&cgroup, process, "cgroup");

	if (r < 0)
		return r;
	return peer_unit_from_cgroup(cgroup, peer->ids.uid, &peer->unit, &peer->user_unit);
}

int process_identify(struct peer *peer, const struct peer_self *self, const struct process *process,
		     const char *status)
{
	int r, other;

	r = read_status(peer, status);
	if (r < 0)
		return r;
	r = other = has_other_map(process, "uid_map", self->uid_map);
	if (r == 0)
		r = other = has_other_map(process, "gid_map", self->gid_map);
	if (r < 0)
		return r;
	if (other)
		peer->sandboxed = true;
	if (peer->sandboxed)
		peer->effective_caps = 0;
	r = read_start_time(&peer->start_time, process);
	if (r < 0)
		return r;
	return read_unit(peer, process);
}

int process_pidfd(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (fd >= 0)
		return fd;
	/* A thread's number, or one that can't be: no process. */
	return errno == EINVAL || errno == ENOENT ? -ESRCH : -errno;
}

static int socket_groups(struct ids *ids, int socket)
{
	socklen_t size = 0;

	ids->groups = NULL;
	while (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, ids->groups, &size) < 0) {
		if (errno != ERANGE)
			return -errno;
		/* The kernel has put the size that it needs there. */
		free(ids->groups);
		ids->groups = malloc(size);
		if (!ids->groups)
			return -ENOMEM;
	}
	ids->group_count = size / sizeof(*ids->groups);
	ids_sort(ids);
	return 0;
}

int peer_label_copy(char **ret, const char *text, size_t size)
{
	size = strnlen(text, size);
	while (size && text[size - 1] == '\n')
		size--;
	return peer_string_copy(ret, text, size);
}

static int socket_label(char **ret, int socket)
{
	_cleanup_free_ char *large = NULL;
	char small[256], *text = small;
	socklen_t size = sizeof(small);

	while (getsockopt(socket, SOL_SOCKET, SO_PEERSEC, text, &size) < 0) {
		if (errno == ENOPROTOOPT)
			return 0;
		if (errno != ERANGE || size > LABEL_MAX)
			return -errno;
		free(large);
		text = large = malloc(size);
		if (!large)
			return -ENOMEM;
	}
	return peer_label_copy(ret, text, size);
}

/* What the socket itself tells, without /proc. */
static int read_socket(struct peer *peer, int socket)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);
	int r;

	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0)
		return -errno;
	if (cred.uid == (uid_t)-1) /* nobody has connected */
		return -ENOTCONN;
	peer->socket = socket;
	peer->pid = cred.pid;
	peer->ids.uid = cred.uid;
	peer->ids.gid = cred.gid;
	r = socket_groups(&peer->ids, socket);
	if (r < 0)
		return r;
	return socket_label(&peer->label, socket);
}

static int read_connected_process(struct peer *peer, const struct peer_self *self)
{
	_cleanup_close_ int pidfd = -EBADF, directory = -EBADF;
	_cleanup_free_ char *status = NULL;
	struct process process;
	int r;

	pidfd = self->has_peerpidfd ? socket_pidfd(peer->socket) : process_pidfd(peer->pid);
	if (pidfd < 0)
		return pidfd;
	peer->pinned = self->has_peerpidfd;
	directory = proc_open_process(self->proc, peer->pid);
	if (directory < 0)
		return directory;
	process = (struct process){ .pidfd = pidfd, .directory = directory };
	r = process_read(&status, &process, "status");
	return r < 0 ? r : process_identify(peer, self, &process, status);
}

static int set_app(struct peer *peer, const char *app, const struct ids *maker)
{
	int r = peer_string_copy(&peer->app, app, strlen(app));

	if (r < 0)
		return r;
	peer->sandboxed = true;
	return maker ? ids_copy(&peer->maker, maker) : 0;
}

int peer_from_socket(struct peer *ret, const struct peer_self *self, int socket, const char *app,
		     const struct ids *maker, bool require_pidfd)
{
	_cleanup_(peer_done) struct peer peer;
	int r;

	peer_init(&peer);
	if (require_pidfd && !self->has_peerpidfd)
		return -EOPNOTSUPP;
	r = read_socket(&peer, socket);
	if (r == 0 && app)
		r = set_app(&peer, app, maker);
	if (r < 0)
		return r;
	if (peer.pid > 0) {
		r = read_connected_process(&peer, self);
		if (r < 0)
			return r;
	} else {
		peer.sandboxed = true;
	}
	*ret = peer;
	peer_init(&peer);
	return 0;
}

int peer_pidfd(const struct peer *peer, const struct peer_self *self)
{
	_cleanup_close_ int pidfd = -EBADF, directory = -EBADF;
	bool ask_socket = peer->socket >= 0 && self->has_peerpidfd;
	struct process process;
	uint64_t start_time;
	int r;

	if (peer->pid <= 0 || (!ask_socket && !peer->start_time))
		return -EOPNOTSUPP;
	pidfd = ask_socket ? socket_pidfd(peer->socket) : process_pidfd(peer->pid);
	if (pidfd < 0)
		return pidfd;
	r = check_alive(pidfd);
	if (r < 0)
		return r;
	if (!ask_socket) {
		directory = proc_open_process(self->proc, peer->pid);
		if (directory < 0)
			return directory;
		process = (struct process){ .pidfd = pidfd, .directory = directory };
		r = read_start_time(&start_time, &process);
		if (r < 0)
			return r;
		if (start_time != peer->start_time)
			return -ESRCH;
	}
	return steal_fd(&pidfd);
}

bool peer_is_admin(const struct peer *peer, const struct peer_self *self)
{
	if (peer->sandboxed)
		return false;
	return peer->ids.uid == 0 || (self->is_user && peer->ids.uid == self->uid);
}

/* 1 where a socket would tell a label: AppArmor has labels, and gives none to SO_PEERSEC. */
static int has_socket_labels(void)
{
	_cleanup_close_ int one = -EBADF, other = -EBADF;
	socklen_t size = 0;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	one = pair[0];
	other = pair[1];
	return getsockopt(one, SOL_SOCKET, SO_PEERSEC, NULL, &size) == 0 || errno == ERANGE;
}

static int read_label(struct peer *peer, const struct process *process)
{
	_cleanup_free_ char *label = NULL;
	int r = has_socket_labels();

	if (r <= 0)
		return r;
	r = process_read(&label, process, "attr/current");
	return r < 0 ? r : peer_label_copy(&peer->label, label, strlen(label));
}

int peer_from_pid(struct peer *ret, const struct peer_self *self, pid_t pid)
{
	_cleanup_(peer_done) struct peer peer;
	_cleanup_close_ int pidfd = -EBADF, directory = -EBADF;
	_cleanup_free_ char *status = NULL;
	struct process process;
	int r;

	peer_init(&peer);
	if (pid <= 0)
		return -ESRCH;
	pidfd = process_pidfd(pid);
	if (pidfd < 0)
		return pidfd;
	directory = proc_open_process(self->proc, pid);
	if (directory < 0)
		return directory;
	process = (struct process){ .pidfd = pidfd, .directory = directory };
	peer.pid = pid;
	peer.pinned = self->has_peerpidfd;
	r = process_read(&status, &process, "status");
	if (r == 0)
		r = ids_from_status(&peer.ids, status);
	if (r == 0)
		r = process_identify(&peer, self, &process, status);
	if (r == 0)
		r = read_label(&peer, &process);
	if (r < 0)
		return r;
	*ret = peer;
	peer_init(&peer);
	return 0;
}
