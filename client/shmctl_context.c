/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* shmctl context and run: an app's own socket, held for as long as it is needed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/shmctl.h"

#define DIRECTORY_SIZE 128 /* bytes: shmbroker.h says they always do */
#define PLACEHOLDER "@context@"

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
		puts(directory);
		status = shmctl_flush(SHMCTL_DONE);
	}
	if (status == SHMCTL_DONE)
		shmctl_hold(signals, shmctl_has(ctl, OPTION_STDIN) ? STDIN_FILENO : -EBADF);
	return status;
}

/* With the directory for each placeholder, however many one argument has; for free(). */
static char *expand(const char *argument, const char *directory)
{
	char *text = shmctl_format("%s", "");
	const char *found;

	while ((found = strstr(argument, PLACEHOLDER))) {
		char *longer = shmctl_format("%s%.*s%s", text, (int)(found - argument), argument,
					     directory);

		free(text);
		text = longer;
		argument = found + sizeof(PLACEHOLDER) - 1;
	}
	found = text;
	text = shmctl_format("%s%s", found, argument);
	free((char *)found);
	return text;
}

/* In the child, which ends here: 126 and 127 as a shell has them. */
static void execute(char **arguments, const char *directory, const sigset_t *before)
	__attribute__((noreturn));
static void execute(char **arguments, const char *directory, const sigset_t *before)
{
	_cleanup_free_ char *socket = shmctl_format("%s/socket", directory);
	int error;

	for (size_t i = 0; arguments[i]; i++)
		arguments[i] = expand(arguments[i], directory);
	sigprocmask(SIG_SETMASK, before, NULL);
	if (setenv("SHMBROKER_SOCKET", socket, 1) == 0)
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
		pid_t ended = waitpid(child, &status, WNOHANG);

		if (ended == child)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		if (ended < 0 && errno != EINTR)
			return shmctl_fail("the command can't be waited for: %s", strerror(errno));
		if (read(signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
			forward(&info, child);
	}
}

int command_run(struct shmctl *ctl)
{
	_cleanup_close_ int signals = -EBADF;
	_cleanup_close_ int hold = -EBADF;
	char directory[DIRECTORY_SIZE];
	sigset_t before;
	pid_t child;

	/* A signal before the child is there waits for it. */
	signals = shmctl_signals(&before, true);
	if (signals < 0)
		return shmctl_fail("signals can't be waited for: %s", strerror(-signals));
	/* Close-on-exec like the connection: only we hold the context. */
	hold = make_context(ctl, directory);
	if (hold < 0)
		return SHMCTL_FAILED;
	fflush(NULL);
	child = fork();
	if (child < 0)
		return shmctl_fail("no process for the command: %s", strerror(errno));
	if (child == 0)
		execute(ctl->argument, directory, &before);
	return wait_for(child, signals);
}
