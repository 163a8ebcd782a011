/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* shmctl context and run: an app's own socket, held for as long as it is needed. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/shmctl.h"

#define DIRECTORY_SIZE 128 /* bytes: shmbroker.h says they always do */
#define PRELOAD_LIBRARY LIBRARY_DIRECTORY "/libshmbroker-preload.so"

/* A descriptor that holds it, or a negative errno that was told. */
static int make_context(struct shmctl *ctl, char *directory)
{
	const struct shmb_context how = { .app = ctl->value[OPTION_APP] };
	int hold = shmctl_connect(ctl);

	if (hold < 0)
		return hold;
	hold = shmb_create_context(ctl->c, &how, sizeof(how), directory, DIRECTORY_SIZE);
	if (hold < 0)
		shmctl_fail("%s: %s", how.app,
			    *shmb_reason(ctl->c) ? shmb_reason(ctl->c) : strerror(-hold));
	return hold;
}

int command_context(struct shmctl *ctl)
{
	_cleanup_close_ int signals = -EBADF;
	_cleanup_close_ int hold = -EBADF;
	char directory[DIRECTORY_SIZE];
	int status;

	signals = shmctl_signals(NULL, false);
	if (signals < 0)
		return shmctl_fail("signals can't be waited for: %s", strerror(-signals));
	hold = make_context(ctl, directory);
	if (hold < 0)
		return SHMCTL_FAILED;
	if (shmctl_has(ctl, OPTION_JSON)) {
		json_t *document = json_object();

		shmctl_json_text(document, "directory", directory);
		status = shmctl_json_print(document);
	} else {
		/* As it is for who goes on with it; the broker may have put anything there. */
		if (isatty(STDOUT_FILENO))
			shmctl_put_tame(directory, strlen(directory), false);
		else
			fputs(directory, stdout);
		putchar('\n');
		status = shmctl_flush(SHMCTL_DONE);
	}
	if (status == SHMCTL_DONE)
		shmctl_hold(signals, shmctl_has(ctl, OPTION_STDIN) ? STDIN_FILENO : -EBADF);
	return status;
}

/* argument with value for each mark, however many it has; takes argument, for free(). */
static char *expand(char *argument, const char *mark, const char *value)
{
	char *text = shmctl_format("%s", "");
	const char *rest = argument, *found;

	while ((found = strstr(rest, mark))) {
		char *longer = shmctl_format("%s%.*s%s", text, (int)(found - rest), rest, value);

		free(text);
		text = longer;
		rest = found + strlen(mark);
	}
	found = text;
	text = shmctl_format("%s%s", found, rest);
	free((char *)found);
	free(argument);
	return text;
}

/*
 * The preload library's own path, which a sandbox may have no link to; for free(). NULL: it was
 * told that it can't be had. Tests and places without an installed one name another.
 */
static char *find_preload(void)
{
	const char *named = secure_getenv("SHMBROKER_PRELOAD");
	const char *path = named && *named ? named : PRELOAD_LIBRARY;
	char *real = realpath(path, NULL);

	if (!real || access(real, R_OK) < 0) {
		shmctl_fail("%s: %s", path, strerror(errno));
	} else if (strpbrk(real, ": ")) {
		/* ld.so(8): both of them part one library from the next. */
		shmctl_fail("%s: a path with a colon or a blank can't be preloaded", real);
	} else {
		return real;
	}
	free(real);
	return NULL;
}

/* Before what the program preloads anyway. 0 or -1 and errno. */
static int set_preload(const char *library)
{
	const char *others = getenv("LD_PRELOAD");
	_cleanup_free_ char *value = others && *others ? shmctl_format("%s:%s", library, others)
						       : shmctl_format("%s", library);

	return setenv("LD_PRELOAD", value, 1);
}

/* A command, and what it is to have. */
struct job {
	char **arguments;
	char directory[DIRECTORY_SIZE]; /* of its context */
	char *socket;
	char *preload; /* a library's path; NULL: none */
	int mount;     /* for /dev/shm; -EBADF: none */
	sigset_t signals;
};

/* In the child, which ends here: 126 and 127 as a shell has them. */
static void execute(const struct job *job) __attribute__((noreturn));
static void execute(const struct job *job)
{
	char **arguments = job->arguments;
	int error;

	if (job->mount >= 0 && shmctl_put_on_shm(job->mount) != 0)
		_exit(SHMCTL_FAILED);
	for (size_t i = 0; arguments[i]; i++) {
		arguments[i] = expand(shmctl_format("%s", arguments[i]), "@context@",
				      job->directory);
		if (job->preload)
			arguments[i] = expand(arguments[i], "@preload@", job->preload);
	}
	sigprocmask(SIG_SETMASK, &job->signals, NULL);
	if (setenv("SHMBROKER_SOCKET", job->socket, 1) == 0 &&
	    (!job->preload || set_preload(job->preload) == 0))
		execvp(arguments[0], arguments);
	error = errno;
	shmctl_fail("%s: %s", arguments[0], strerror(error));
	_exit(error == ENOENT ? 127 : 126);
}

/* What the terminal sends goes to the whole foreground group: the child has it already. */
static void forward(const struct signalfd_siginfo *info, pid_t child)
{
	if (info->ssi_signo != SIGCHLD && info->ssi_code != SI_KERNEL)
		kill(child, (int)info->ssi_signo);
}

/* Until COMMAND ends: its exit status. */
static int wait_for(pid_t child, int signals)
{
	struct signalfd_siginfo info;
	int status;

	for (;;) {
		pid_t ended = waitpid(-1, &status, WNOHANG);

		if (ended == child)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		/* Of COMMAND's own, whose parent has ended. */
		if (ended > 0)
			continue;
		if (ended < 0 && errno != EINTR)
			return shmctl_fail("the command can't be waited for: %s", strerror(errno));
		if (read(signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
			forward(&info, child);
	}
}

/*
 * Between us and a COMMAND that was lent a pool: whoever has its mount namespace descends from
 * here, and the context, which keeps the pool, is held until the last of them has ended.
 */
static void stay(const struct job *job, int signals, int report) __attribute__((noreturn));
static void stay(const struct job *job, int signals, int report)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), status;
	pid_t child = -1;

	if (prctl(PR_SET_CHILD_SUBREAPER, 1) == 0)
		child = fork();
	if (child == 0)
		execute(job);
	close(job->mount);
	status = child < 0 ? shmctl_fail("no process for the command: %s", strerror(errno))
			   : wait_for(child, signals);
	/* Whoever reads what COMMAND wrote has its end when we have told ours. */
	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup2(null, fd);
	if (write(report, &status, sizeof(status)) == (ssize_t)sizeof(status))
		close(report);
	while (wait(NULL) > 0 || errno == EINTR)
		;
	_exit(0);
}

/* What it tells of COMMAND; signals go on to it meanwhile. */
static int wait_for_report(pid_t child, int signals, int report)
{
	struct pollfd poll_for[] = {
		{ .fd = signals, .events = POLLIN },
		{ .fd = report, .events = POLLIN },
	};
	struct signalfd_siginfo info;
	int status;

	for (;;) {
		if (poll(poll_for, 2, -1) < 0 && errno != EINTR)
			return shmctl_fail("the command can't be waited for: %s", strerror(errno));
		if (poll_for[1].revents)
			break;
		if (poll_for[0].revents &&
		    read(signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
			forward(&info, child);
	}
	if (read(report, &status, sizeof(status)) == (ssize_t)sizeof(status))
		return status;
	return shmctl_fail("who waited for the command has ended");
}

static int run(const struct job *job, int signals)
{
	_cleanup_close_ int report = -EBADF, told = -EBADF;
	int ends[2];
	pid_t child;

	if (job->mount >= 0) {
		if (pipe2(ends, O_CLOEXEC) < 0)
			return shmctl_fail("no pipe: %s", strerror(errno));
		told = ends[0];
		report = ends[1];
	}
	fflush(NULL);
	child = fork();
	if (child < 0)
		return shmctl_fail("no process for the command: %s", strerror(errno));
	if (child == 0 && job->mount >= 0)
		stay(job, signals, report);
	if (child == 0)
		execute(job);
	if (job->mount < 0)
		return wait_for(child, signals);
	report = fd_close(report);
	return wait_for_report(child, signals, told);
}

int command_run(struct shmctl *ctl)
{
	struct job job = { .arguments = ctl->argument, .mount = -EBADF };
	_cleanup_close_ int signals = -EBADF;
	_cleanup_close_ int hold = -EBADF;
	_cleanup_free_ char *preload = NULL;
	int status = SHMCTL_FAILED;

	if (shmctl_has(ctl, OPTION_JSON))
		return shmctl_usage("run has no option --json");
	if (shmctl_has(ctl, OPTION_PRELOAD) && !(preload = find_preload()))
		return SHMCTL_FAILED;
	job.preload = preload;
	/* A signal before the child is there waits for it. */
	signals = shmctl_signals(&job.signals, true);
	if (signals < 0)
		return shmctl_fail("signals can't be waited for: %s", strerror(-signals));
	/* Close-on-exec like the connection: COMMAND holds no context. */
	hold = make_context(ctl, job.directory);
	if (hold < 0)
		return SHMCTL_FAILED;
	job.socket = shmctl_format("%s/socket", job.directory);
	if (shmctl_has(ctl, OPTION_SHM))
		job.mount = shmctl_borrow(ctl->value[OPTION_APP], job.socket);
	if (job.mount >= 0 || !shmctl_has(ctl, OPTION_SHM))
		status = run(&job, signals);
	fd_close(job.mount);
	free(job.socket);
	return status;
}
