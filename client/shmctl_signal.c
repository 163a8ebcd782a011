/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Signals as events, for the commands that wait: blocked from before there is anything to hold,
 * and read from a descriptor, so that none comes between a look and a wait.
 */
#include <errno.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "client/shmctl.h"

int shmctl_signals(sigset_t *ret_before, bool with_all)
{
	static const int ending[] = { SIGINT, SIGTERM, SIGHUP };
	static const int others[] = { SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH, SIGCHLD };
	sigset_t set;
	int fd;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(ending) / sizeof(*ending); i++)
		sigaddset(&set, ending[i]);
	for (size_t i = 0; with_all && i < sizeof(others) / sizeof(*others); i++)
		sigaddset(&set, others[i]);
	fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (sigprocmask(SIG_BLOCK, &set, ret_before) < 0) {
		int error = errno;

		fd_close(fd);
		return -error;
	}
	return fd;
}

/* Reads what there is of an input that only its end is of interest of. */
static bool has_ended(int input)
{
	char bytes[4096];
	ssize_t n = read(input, bytes, sizeof(bytes));

	return n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN);
}

void shmctl_hold(int signals, int input)
{
	struct pollfd poll_for[] = {
		{ .fd = signals, .events = POLLIN },
		{ .fd = input, .events = POLLIN }, /* negative: poll leaves it out */
	};

	for (;;) {
		if (poll(poll_for, 2, -1) < 0 && errno != EINTR)
			return;
		if (poll_for[0].revents)
			return;
		if (poll_for[1].revents && has_ended(input))
			return;
	}
}
