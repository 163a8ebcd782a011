/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The broker's own child processes: born with nothing they needn't have, hidden
 * from everybody's /proc, ended by the end of their socket. Called by keeper.c,
 * table.c and twin.c.
 */
#include "daemon/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "daemon/fd.h"

#define HELPER_END_MS 2000 /* for a helper to end by itself, once its socket is closed */

/* Closes all but the standard streams and those named. */
static void close_others(const int *keep, size_t count)
{
	unsigned from = 3;

	for (;;) {
		unsigned next = ~0u;

		for (size_t i = 0; i < count; i++) {
			if (keep[i] >= 0 && (unsigned)keep[i] >= from && (unsigned)keep[i] < next)
				next = (unsigned)keep[i];
		}
		if (next == ~0u)
			break;
		if (next > from)
			close_range(from, next - 1, 0);
		from = next + 1;
	}
	close_range(from, ~0u, 0);
}

static bool is_kept(int fd, const int *keep, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (keep[i] == fd)
			return true;
	}
	return false;
}

/* 2 stays what it is: libc writes there when it aborts. */
static void quiet_streams(const int *keep, size_t count)
{
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return;
	for (int fd = 0; fd < 2; fd++) {
		if (!is_kept(fd, keep, count))
			dup2(null, fd);
	}
	if (null < 3)
		steal_fd(&null);
}

static void reset_signals(void)
{
	static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGPIPE };
	sigset_t none;

	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_DFL);
	/* A stop of the unit signals all its processes: it is the daemon that decides. */
	for (size_t i = 0; i < sizeof(ignored) / sizeof(*ignored); i++)
		signal(ignored[i], SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Of this process, once it is a helper. */
static pid_t parent_pid;

void helper_born(pid_t parent)
{
	parent_pid = parent;
}

void helper_hide(void)
{
	prctl(PR_SET_DUMPABLE, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* It may have ended before the request to be told. */
	if (getppid() != parent_pid)
		_exit(EXIT_FAILURE);
}

static _Noreturn void helper_main(pid_t parent, int socket, const struct keeper_setup *setup,
				  const struct helper_job *job)
{
	int keep[HELPER_KEEP_MAX + 1];

	reset_signals();
	helper_born(parent);
	if (!job->dumpable)
		helper_hide();
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_NAME, job->name);
	if (setup->after_fork)
		setup->after_fork();
	memcpy(keep, job->keep, sizeof(job->keep));
	keep[HELPER_KEEP_MAX] = socket;
	close_others(keep, HELPER_KEEP_MAX + 1);
	quiet_streams(keep, HELPER_KEEP_MAX + 1);
	_exit(job->run(socket, setup, job->context));
}

int helper_fork(struct helper *ret, const struct keeper_setup *setup, const struct helper_job *job)
{
	_cleanup_close_ int ours = -EBADF, theirs = -EBADF;
	pid_t parent = getpid(), pid;
	sigset_t all, before;
	int pair[2], error;

	*ret = HELPER_NONE;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	ours = pair[0];
	theirs = pair[1];

	/* No handler of the broker's may run in the child. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	error = errno;
	if (pid == 0)
		helper_main(parent, theirs, setup, job);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (pid < 0)
		return -error;

	ret->pid = pid;
	ret->socket = steal_fd(&ours);
	return 0;
}

static void wait_for(pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* Whether it ended in time. */
static bool has_ended(pid_t pid)
{
	_cleanup_close_ int pidfd = pidfd_open(pid, 0);
	struct pollfd event = { .fd = pidfd, .events = POLLIN };
	int ready;

	if (pidfd < 0)
		return false;
	do {
		ready = poll(&event, 1, HELPER_END_MS);
	} while (ready < 0 && errno == EINTR);
	return ready > 0;
}

void helper_end(struct helper *helper)
{
	pid_t pid = helper->pid;

	helper->socket = fd_close(helper->socket);
	helper->pid = 0;
	if (pid == 0)
		return;
	/*
	 * Without CAP_KILL another uid's process can't be killed by us, and our own end, whose
	 * signal the kernel sends by the same rights, doesn't kill it either: it is left to itself.
	 */
	if (has_ended(pid) || kill(pid, SIGKILL) == 0)
		wait_for(pid);
	else
		waitpid(pid, NULL, WNOHANG);
}

bool helper_has_own_ids(const struct keeper_setup *setup)
{
	return setup->table_uid != geteuid();
}

static int drop_capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

	return (int)syscall(SYS_capset, &header, none);
}

int helper_take_ids(const struct attempt *attempt, const struct keeper_setup *setup)
{
	uid_t uid = setup->table_uid;
	gid_t gid = setup->table_gid;

	if (helper_has_own_ids(setup)) {
		if (!step_try(attempt, STEP_SETGROUPS) || setgroups(0, NULL) < 0)
			return step_failed(attempt, STEP_SETGROUPS);
		if (!step_try(attempt, STEP_SETRESGID) || setresgid(gid, gid, gid) < 0)
			return step_failed(attempt, STEP_SETRESGID);
		if (!step_try(attempt, STEP_SETRESUID) || setresuid(uid, uid, uid) < 0)
			return step_failed(attempt, STEP_SETRESUID);
		/* Whatever securebits say, nothing of the broker's goes along. */
		helper_hide();
	}
	if (!step_try(attempt, STEP_CAPSET) || drop_capabilities() < 0)
		return step_failed(attempt, STEP_CAPSET);
	return 0;
}

int helper_confine(const struct attempt *attempt, int (*confine)(void))
{
	int error = step_try(attempt, STEP_FILTER) ? 0 : -errno;

	if (error == 0 && confine)
		error = confine();
	if (error == 0)
		return 0;
	errno = -error;
	return step_failed(attempt, STEP_FILTER);
}

/* A request on its way: this, and behind it the strings with their ends. */
struct request_head {
	uint64_t id, size_bytes, objects;
	uint32_t operation, number;
	uint32_t exec;
	uint32_t text_size[3]; /* huge, mpol, path; 0: NULL */
};

ssize_t helper_encode(char buffer[static HELPER_REQUEST_MAX], const struct keeper_request *request)
{
	const char *texts[3] = { request->huge, request->mpol, request->path };
	struct request_head head = {
		.id = request->id,
		.size_bytes = request->size_bytes,
		.objects = request->objects,
		.operation = request->operation,
		.number = request->number,
		.exec = request->exec,
	};
	size_t used = sizeof(head);

	for (size_t i = 0; i < 3; i++) {
		size_t size = texts[i] ? strlen(texts[i]) + 1 : 0;

		if (size > HELPER_REQUEST_MAX - used)
			return -ENAMETOOLONG;
		if (size > 0)
			memcpy(buffer + used, texts[i], size);
		head.text_size[i] = (uint32_t)size;
		used += size;
	}
	memcpy(buffer, &head, sizeof(head));
	return (ssize_t)used;
}

/* The strings point into buffer. False: not what helper_encode() wrote. */
static bool decode(struct keeper_request *ret, const char *buffer, size_t size)
{
	const char *texts[3] = { NULL };
	struct request_head head;
	size_t used = sizeof(head);

	if (size < sizeof(head))
		return false;
	memcpy(&head, buffer, sizeof(head));
	for (size_t i = 0; i < 3; i++) {
		if (head.text_size[i] == 0)
			continue;
		if (head.text_size[i] > size - used || buffer[used + head.text_size[i] - 1] != '\0')
			return false;
		texts[i] = buffer + used;
		used += head.text_size[i];
	}
	*ret = (struct keeper_request){
		.id = head.id,
		.operation = head.operation,
		.number = head.number,
		.size_bytes = head.size_bytes,
		.objects = head.objects,
		.exec = head.exec != 0,
		.huge = texts[0],
		.mpol = texts[1],
		.path = texts[2],
	};
	return used == size;
}

int helper_send_answer(int socket, const struct helper_answer *answer, struct fdlist *fds)
{
	struct iovec part = { .iov_base = (void *)answer, .iov_len = sizeof(*answer) };
	int result = packet_send(socket, &part, 1, fds, 0);

	if (fds)
		fdlist_close(fds);
	return result;
}

int helper_receive_answer(int socket, struct helper_answer *ret, struct fdlist *fds, int flags)
{
	ssize_t size = packet_receive(socket, ret, sizeof(*ret), fds, flags);

	if (size == -EMFILE) {
		step_failure(&ret->failure, STEP_RECEIVE, EMFILE);
		ret->has_writable = ret->has_read_only = false;
		return 1;
	}
	if (size <= 0)
		return (int)size;
	if (size != sizeof(*ret) || fds->count != (size_t)ret->has_writable + ret->has_read_only) {
		fdlist_close(fds);
		return -EPROTO;
	}
	return 1;
}

/* Whether it is for what hangs on it that it can't be sent, and not for the socket. */
static bool is_for_descriptors(int error)
{
	return error == -ETOOMANYREFS || error == -ENOMEM || error == -ENOBUFS;
}

/* What can't be handed over is no success: who asked hears that, and the helper lives. */
static int send_answer(int socket, struct helper_answer *answer, struct fdlist *fds)
{
	bool has_any = fds->count > 0;
	int result = helper_send_answer(socket, answer, fds);

	if (!has_any || !is_for_descriptors(result))
		return result;
	step_failure(&answer->failure, STEP_RECEIVE, ENFILE);
	answer->has_writable = answer->has_read_only = false;
	return helper_send_answer(socket, answer, NULL);
}

int helper_serve(int socket, const struct keeper_setup *setup, helper_answer_fn answer_fn)
{
	char buffer[HELPER_REQUEST_MAX];

	for (;;) {
		struct fdlist fds = { .count = 0 };
		struct keeper_request request;
		struct helper_answer answer;
		ssize_t size = packet_receive(socket, buffer, sizeof(buffer), NULL, 0);

		if (size == -EINTR)
			continue;
		if (size == 0)
			return EXIT_SUCCESS;
		if (size < 0 || !decode(&request, buffer, (size_t)size))
			return EXIT_FAILURE;
		memset(&answer, 0, sizeof(answer));
		answer.id = request.id;
		if (!answer_fn(&request, &answer, &fds, setup))
			continue;
		if (send_answer(socket, &answer, &fds) < 0)
			return EXIT_FAILURE;
	}
}
