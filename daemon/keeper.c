/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The broker's side of the pool table: starts the helpers, queues what is asked
 * of them and takes what they answer, never waiting. Called by the store and, at
 * start, by main. The work itself is in table.c, table_pool.c and twin.c.
 */
#include "daemon/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>

#include "daemon/fd.h"
#include "daemon/helper.h"
#include "daemon/table.h"
#include "daemon/table_pool.h"
#include "daemon/twin.h"

/* A request from keeper_send() until its answer is there. */
struct pending {
	STAILQ_ENTRY(pending) entry;
	uint64_t id;
	struct keeper_failure failure; /* of an answer that no helper gives */
	size_t size;
	char packet[];
};
STAILQ_HEAD(pending_list, pending);

struct channel {
	struct helper helper;
	bool usable;			   /* it could start, and has not ended since */
	struct keeper_failure why;	   /* not usable: why */
	struct pending_list unsent, asked; /* in order: a helper does one after the other */
	bool wants_write;
};

struct keeper {
	int userns, mntns; /* of the table */
	int poll;	   /* epoll over the channels' sockets and wake */
	int wake;	   /* eventfd: there is something in `answers` */
	struct channel table, twin;
	bool ended;		     /* the keeper was there, and is no more */
	struct pending_list answers; /* given here */
};

static void list_clear(struct pending_list *list)
{
	struct pending *pending;

	while ((pending = STAILQ_FIRST(list))) {
		STAILQ_REMOVE_HEAD(list, entry);
		free(pending);
	}
}

static void channel_init(struct channel *channel)
{
	channel->helper = HELPER_NONE;
	STAILQ_INIT(&channel->unsent);
	STAILQ_INIT(&channel->asked);
}

static void channel_done(struct channel *channel)
{
	helper_end(&channel->helper);
	list_clear(&channel->unsent);
	list_clear(&channel->asked);
}

/* The first packet of a helper says whether it could start. */
static void channel_hear(struct channel *channel)
{
	struct fdlist fds = { .count = 0 };
	struct helper_answer hello;
	int result;

	do {
		result = helper_receive_answer(channel->helper.socket, &hello, &fds, 0);
	} while (result == -EINTR);
	fdlist_close(&fds);
	if (result == 1 && hello.failure.error == 0) {
		channel->usable = true;
		return;
	}
	if (result == 1)
		channel->why = hello.failure;
	else
		step_failure(&channel->why, STEP_HELPER, result < 0 ? -result : ECHILD);
	helper_end(&channel->helper);
}

static int channel_watch(struct keeper *keeper, struct channel *channel)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = channel };

	if (!channel->usable)
		return 0;
	if (epoll_ctl(keeper->poll, EPOLL_CTL_ADD, channel->helper.socket, &event) < 0)
		return -errno;
	return 0;
}

static int start_twin(struct keeper *keeper, const struct keeper_setup *setup)
{
	struct helper_job job = {
		.name = "shmb-twin",
		.run = twin_run,
		.keep = { -EBADF, -EBADF },
	};
	int result = helper_fork(&keeper->twin.helper, setup, &job);

	if (result < 0)
		return result;
	channel_hear(&keeper->twin);
	return channel_watch(keeper, &keeper->twin);
}

static int start_table(struct keeper *keeper, const struct keeper_setup *setup)
{
	bool found = keeper->userns >= 0;
	struct helper_job job = { .name = "shmb-keeper", .run = table_pool_run };
	int table[2], result;

	if (!found && table_make(setup, &keeper->userns, &keeper->mntns, &keeper->table.why) < 0)
		return 0;
	table[0] = job.keep[0] = keeper->userns;
	table[1] = job.keep[1] = keeper->mntns;
	job.context = table;
	result = helper_fork(&keeper->table.helper, setup, &job);
	if (result < 0)
		return result;
	channel_hear(&keeper->table);
	/* A found one is kept even so: there are objects in it. */
	if (!keeper->table.usable && !found) {
		keeper->userns = fd_close(keeper->userns);
		keeper->mntns = fd_close(keeper->mntns);
	}
	return channel_watch(keeper, &keeper->table);
}

static int open_polls(struct keeper *keeper)
{
	struct epoll_event event = { .events = EPOLLIN };

	keeper->poll = epoll_create1(EPOLL_CLOEXEC);
	keeper->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (keeper->poll < 0 || keeper->wake < 0 ||
	    epoll_ctl(keeper->poll, EPOLL_CTL_ADD, keeper->wake, &event) < 0)
		return -errno;
	return 0;
}

int keeper_start(struct keeper **ret, const struct keeper_setup *setup)
{
	struct keeper *keeper = calloc(1, sizeof(*keeper));
	int result;

	if (!keeper) {
		fd_close(setup->userns);
		fd_close(setup->mntns);
		return -ENOMEM;
	}
	keeper->userns = setup->userns;
	keeper->mntns = setup->mntns;
	keeper->poll = keeper->wake = -EBADF;
	channel_init(&keeper->table);
	channel_init(&keeper->twin);
	STAILQ_INIT(&keeper->answers);
	/* One without the other is no table. */
	if (keeper->userns < 0 || keeper->mntns < 0) {
		keeper->userns = fd_close(keeper->userns);
		keeper->mntns = fd_close(keeper->mntns);
	}

	result = open_polls(keeper);
	if (result == 0)
		result = start_twin(keeper, setup);
	if (result == 0)
		result = start_table(keeper, setup);
	if (result < 0) {
		keeper_free(keeper);
		return result;
	}
	*ret = keeper;
	return 0;
}

void keeper_free(struct keeper *keeper)
{
	if (!keeper)
		return;
	channel_done(&keeper->table);
	channel_done(&keeper->twin);
	list_clear(&keeper->answers);
	fd_close(keeper->poll);
	fd_close(keeper->wake);
	fd_close(keeper->userns);
	fd_close(keeper->mntns);
	free(keeper);
}

bool keeper_has_table(const struct keeper *keeper, struct keeper_failure *ret_why_not)
{
	if (keeper->table.usable)
		return true;
	if (ret_why_not)
		*ret_why_not = keeper->table.why;
	return false;
}

int keeper_userns_borrow(const struct keeper *keeper)
{
	return keeper->userns;
}

int keeper_mntns_borrow(const struct keeper *keeper)
{
	return keeper->mntns;
}

pid_t keeper_pid(const struct keeper *keeper)
{
	return keeper->table.usable ? keeper->table.helper.pid : 0;
}

int keeper_poll_borrow(const struct keeper *keeper)
{
	return keeper->poll;
}

/* Takes pending: it is answered by us. */
static void answer_here(struct keeper *keeper, struct pending *pending,
			const struct keeper_failure *why)
{
	uint64_t one = 1;

	pending->failure = *why;
	STAILQ_INSERT_TAIL(&keeper->answers, pending, entry);
	/* Can't fail: the counter is far from its end. */
	if (write(keeper->wake, &one, sizeof(one)) < 0)
		return;
}

/* The helper is gone for good; what it was asked is answered with that. */
static void channel_lost(struct keeper *keeper, struct channel *channel)
{
	struct pending_list left = STAILQ_HEAD_INITIALIZER(left);
	struct pending *pending;

	epoll_ctl(keeper->poll, EPOLL_CTL_DEL, channel->helper.socket, NULL);
	channel->usable = false;
	step_failure(&channel->why, STEP_HELPER, ECHILD);
	STAILQ_CONCAT(&left, &channel->asked);
	STAILQ_CONCAT(&left, &channel->unsent);
	while ((pending = STAILQ_FIRST(&left))) {
		STAILQ_REMOVE_HEAD(&left, entry);
		answer_here(keeper, pending, &channel->why);
	}
	helper_end(&channel->helper);
	if (channel == &keeper->table)
		keeper->ended = true;
}

static void channel_set_wants_write(struct keeper *keeper, struct channel *channel, bool wanted)
{
	struct epoll_event event = {
		.events = EPOLLIN | (wanted ? EPOLLOUT : 0),
		.data.ptr = channel,
	};

	if (channel->wants_write == wanted)
		return;
	channel->wants_write = wanted;
	epoll_ctl(keeper->poll, EPOLL_CTL_MOD, channel->helper.socket, &event);
}

/* Sends what the socket takes. Its end is left for channel_receive(): answers may precede it. */
static void channel_flush(struct keeper *keeper, struct channel *channel)
{
	struct pending *pending;
	int result = 0;

	if (!channel->usable)
		return;
	while (result == 0 && (pending = STAILQ_FIRST(&channel->unsent))) {
		struct iovec part = { .iov_base = pending->packet, .iov_len = pending->size };

		result = packet_send(channel->helper.socket, &part, 1, NULL, MSG_DONTWAIT);
		if (result < 0)
			break;
		STAILQ_REMOVE_HEAD(&channel->unsent, entry);
		STAILQ_INSERT_TAIL(&channel->asked, pending, entry);
	}
	/* Also where there was no memory for it: whatever it was, it is tried again. */
	channel_set_wants_write(keeper, channel, result < 0);
}

static struct pending *pending_new(const struct keeper_request *request, int *ret_error)
{
	char packet[HELPER_REQUEST_MAX];
	ssize_t size = helper_encode(packet, request);
	struct pending *pending;

	if (size < 0) {
		*ret_error = (int)size;
		return NULL;
	}
	pending = malloc(sizeof(*pending) + (size_t)size);
	if (!pending) {
		*ret_error = -ENOMEM;
		return NULL;
	}
	*pending = (struct pending){ .id = request->id, .size = (size_t)size };
	memcpy(pending->packet, packet, (size_t)size);
	return pending;
}

int keeper_send(struct keeper *keeper, const struct keeper_request *request)
{
	struct channel *channel = request->operation == KEEPER_TWIN ? &keeper->twin
								    : &keeper->table;
	struct pending *pending;
	int error = 0;

	if (channel == &keeper->table && keeper->ended)
		return -EPIPE;
	pending = pending_new(request, &error);
	if (!pending)
		return error;
	if (!channel->usable) {
		answer_here(keeper, pending, &channel->why);
		return 0;
	}
	STAILQ_INSERT_TAIL(&channel->unsent, pending, entry);
	channel_flush(keeper, channel);
	return 0;
}

static int take_answer(struct keeper *keeper, struct keeper_reply *ret)
{
	struct pending *pending = STAILQ_FIRST(&keeper->answers);
	uint64_t count;

	if (!pending)
		return 0;
	STAILQ_REMOVE_HEAD(&keeper->answers, entry);
	*ret = (struct keeper_reply){
		.id = pending->id,
		.failure = pending->failure,
		.writable = -EBADF,
		.read_only = -EBADF,
	};
	free(pending);
	if (STAILQ_EMPTY(&keeper->answers) && read(keeper->wake, &count, sizeof(count)) < 0)
		return 1; /* it was at 0 already */
	return 1;
}

static void fill_reply(struct keeper_reply *ret, const struct helper_answer *answer,
		       struct fdlist *fds)
{
	size_t next = 0;

	*ret = (struct keeper_reply){
		.id = answer->id,
		.failure = answer->failure,
		.writable = answer->has_writable ? fds->fd[next++] : -EBADF,
		.read_only = -EBADF,
	};
	if (answer->has_read_only)
		ret->read_only = fds->fd[next];
	fds->count = 0;
}

/* 1 with a reply, 0 when there is none. */
static int channel_receive(struct keeper *keeper, struct channel *channel, struct keeper_reply *ret)
{
	struct pending *pending = STAILQ_FIRST(&channel->asked);
	struct fdlist fds = { .count = 0 };
	struct helper_answer answer;
	int result;

	if (!channel->usable)
		return 0;
	do {
		result = helper_receive_answer(channel->helper.socket, &answer, &fds, MSG_DONTWAIT);
	} while (result == -EINTR);
	if (result == -EAGAIN)
		return 0;
	if (result == 1 && pending && pending->id == answer.id) {
		STAILQ_REMOVE_HEAD(&channel->asked, entry);
		free(pending);
		fill_reply(ret, &answer, &fds);
		channel_flush(keeper, channel);
		return 1;
	}
	fdlist_close(&fds);
	channel_lost(keeper, channel);
	return 0;
}

int keeper_receive(struct keeper *keeper, struct keeper_reply *ret)
{
	channel_flush(keeper, &keeper->table);
	channel_flush(keeper, &keeper->twin);
	if (channel_receive(keeper, &keeper->table, ret) > 0 ||
	    channel_receive(keeper, &keeper->twin, ret) > 0)
		return 1;
	if (take_answer(keeper, ret) > 0)
		return 1;
	return keeper->ended ? -EPIPE : 0;
}

/* Fills why for what is wrong with a pair. Returns error. */
static int not_a_pair(struct keeper_failure *ret_why, enum step step, int error)
{
	step_failure(ret_why, step, error);
	return error;
}

static int check_type(int directory, struct keeper_failure *ret_why)
{
	struct statfs type;

	if (fstatfs(directory, &type) < 0)
		return not_a_pair(ret_why, STEP_CHECK_TYPE, errno);
	if (type.f_type != TMPFS_MAGIC)
		return not_a_pair(ret_why, STEP_CHECK_TYPE, EINVAL);
	return 0;
}

static int check_same(int writable, int read_only, struct keeper_failure *ret_why)
{
	struct stat one, other;

	if (fstat(writable, &one) < 0 || fstat(read_only, &other) < 0)
		return not_a_pair(ret_why, STEP_CHECK_SAME, errno);
	if (!S_ISDIR(one.st_mode))
		return not_a_pair(ret_why, STEP_CHECK_SAME, ENOTDIR);
	if (one.st_dev != other.st_dev || one.st_ino != other.st_ino)
		return not_a_pair(ret_why, STEP_CHECK_SAME, EXDEV);
	return 0;
}

/*
 * What the mount says of itself, and what the kernel says to who would write: before it looks at
 * permission bits, which may be a sandbox's to change.
 */
static int check_read_only(int read_only, struct keeper_failure *ret_why)
{
	struct statvfs mount;
	struct stat st;

	if (fstatvfs(read_only, &mount) < 0 || fstat(read_only, &st) < 0)
		return not_a_pair(ret_why, STEP_CHECK_READ_ONLY, errno);
	/* Without the bits that a service manager's filter (RestrictSUIDSGID=) refuses before all.
	 */
	if (!(mount.f_flag & ST_RDONLY) || fchmod(read_only, st.st_mode & 01777) == 0)
		return not_a_pair(ret_why, STEP_CHECK_READ_ONLY, EINVAL);
	return errno == EROFS ? 0 : not_a_pair(ret_why, STEP_CHECK_READ_ONLY, errno);
}

int keeper_check_twin(int writable, int read_only, struct keeper_failure *ret_why)
{
	struct statvfs mount;
	int error;

	memset(ret_why, 0, sizeof(*ret_why));
	error = check_type(writable, ret_why);
	if (error == 0)
		error = check_type(read_only, ret_why);
	if (error == 0)
		error = check_same(writable, read_only, ret_why);
	if (error != 0)
		return error;
	if (fstatvfs(writable, &mount) < 0)
		return not_a_pair(ret_why, STEP_CHECK_WRITABLE, errno);
	if (mount.f_flag & ST_RDONLY)
		return not_a_pair(ret_why, STEP_CHECK_WRITABLE, EROFS);
	return check_read_only(read_only, ret_why);
}
