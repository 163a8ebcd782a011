/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Starts clients in sandboxes, and is that client: see sandbox.h. */
#include "tests/sandbox.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/shmbroker.h"

#define AGENT "SHMBROKER_TEST_AGENT"

/* --- the client --- */

static struct {
	struct shmb *c;
	int object, hold;
} agent = { .object = -1, .hold = -1 };

static void answer(int number, const char *text)
{
	dprintf(STDOUT_FILENO, "%d %s\n", number, text);
}

static void answer_call(int number)
{
	answer(number < 0 ? number : 0, number < 0 ? shmb_reason(agent.c) : "");
}

static void agent_open(const char *name, int oflag, uint64_t flags)
{
	const struct shmb_how how = { .oflag = (uint64_t)oflag, .mode = 0600, .flags = flags };
	int fd = shmb_open_how(agent.c, name, &how, sizeof(how));

	if (fd >= 0) {
		if (agent.object >= 0)
			close(agent.object);
		agent.object = fd;
	}
	answer_call(fd);
}

static void agent_stat(const char *name)
{
	struct shmb_info info;
	int r = shmb_stat(agent.c, name, &info, sizeof(info));
	char text[400];

	if (r < 0) {
		answer_call(r);
		return;
	}
	snprintf(text, sizeof(text), "%s %s %d", info.pool, *info.owner ? info.owner : "-",
		 info.creator_pid);
	answer(0, text);
}

static void agent_context(const char *app)
{
	const struct shmb_context how = { .app = app };
	char directory[128];
	int hold = shmb_create_context(agent.c, &how, sizeof(how), directory, sizeof(directory));

	if (hold < 0) {
		answer_call(hold);
		return;
	}
	agent.hold = hold;
	answer(0, directory);
}

static void agent_count(const char *path)
{
	DIR *directory = opendir(path);
	const struct dirent *entry;
	int count = 0;

	if (!directory) {
		answer(-errno, "");
		return;
	}
	while ((entry = readdir(directory)))
		count += entry->d_name[0] != '.';
	closedir(directory);
	answer(count, "");
}

static void agent_fork(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		close(STDIN_FILENO);
		close(STDOUT_FILENO);
		for (;;)
			pause();
	}
	answer(pid > 0 ? pid : -errno, "");
}

static void *agent_loop(void *argument);

static void agent_thread(void)
{
	pthread_t thread;

	/* Before main() there is nothing yet for pthread_exit(3) to unwind to. */
	if (pthread_create(&thread, NULL, agent_loop, NULL) == 0)
		syscall(SYS_exit, 0);
	answer(-EAGAIN, "");
}

static void agent_exec(void)
{
	char *const arguments[] = { (char *)"agent", NULL };

	answer(0, "");
	execv("/proc/self/exe", arguments);
	_exit(1);
}

static void agent_do(const char *verb, const char *what)
{
	struct stat st;

	if (strcmp(verb, "connect") == 0) {
		answer(shmb_connect(&agent.c, what), "");
	} else if (strcmp(verb, "disconnect") == 0) {
		shmb_disconnect(agent.c);
		agent.c = NULL;
		answer(0, "");
	} else if (strcmp(verb, "create") == 0) {
		agent_open(what, O_RDWR | O_CREAT | O_EXCL, 0);
	} else if (strcmp(verb, "temporary") == 0) {
		agent_open(what, O_RDWR | O_CREAT | O_EXCL, SHMB_TEMPORARY);
	} else if (strcmp(verb, "open") == 0) {
		agent_open(what, O_RDWR, 0);
	} else if (strcmp(verb, "stat") == 0) {
		agent_stat(what);
	} else if (strcmp(verb, "unlink") == 0) {
		answer_call(shmb_unlink(agent.c, what));
	} else if (strcmp(verb, "context") == 0) {
		agent_context(what);
	} else if (strcmp(verb, "look") == 0) {
		answer(stat(what, &st) < 0 ? -errno : 0, "");
	} else if (strcmp(verb, "count") == 0) {
		agent_count(what);
	} else if (strcmp(verb, "write") == 0) {
		answer(pwrite(agent.object, "still good", 10, 0) == 10 ? 0 : -errno, "");
	} else if (strcmp(verb, "fork") == 0) {
		agent_fork();
	} else if (strcmp(verb, "exec") == 0) {
		agent_exec();
	} else if (strcmp(verb, "pid") == 0) {
		answer(getpid(), "");
	} else {
		answer(-ENOSYS, verb);
	}
}

/* One line at a time, and not a byte further: after an exec another goes on with the rest. */
static bool read_line(int fd, char *line, size_t size)
{
	for (size_t at = 0; at < size; at++) {
		ssize_t got = read(fd, line + at, 1);

		if (got < 0 && errno == EINTR) {
			at--;
			continue;
		}
		if (got <= 0)
			return false;
		if (line[at] == '\n') {
			line[at] = 0;
			return true;
		}
	}
	return false;
}

static void *agent_loop(void *argument)
{
	char line[512];

	if (!argument)
		answer(0, "");
	while (read_line(STDIN_FILENO, line, sizeof(line))) {
		char *what = strchr(line, ' ');

		if (what)
			*what++ = 0;
		if (strcmp(line, "thread") == 0)
			agent_thread();
		else
			agent_do(line, what ? what : "");
	}
	_exit(0);
}

/* Before main(): started for this, the program is nothing else. */
__attribute__((constructor)) static void agent_begin(void)
{
	if (!getenv(AGENT))
		return;
	signal(SIGPIPE, SIG_IGN);
	agent_loop(&agent);
}

/* --- who starts it --- */

bool sandbox_write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return good;
}

bool sandbox_enter_user(uid_t uid, gid_t gid, int namespaces)
{
	char uids[32], gids[32];

	snprintf(uids, sizeof(uids), "%u %u 1", uid, geteuid());
	snprintf(gids, sizeof(gids), "%u %u 1", gid, getegid());
	/* A change of ids has made /proc/self root's. */
	return prctl(PR_SET_DUMPABLE, 1) == 0 && unshare(CLONE_NEWUSER | namespaces) == 0 &&
	       sandbox_write_file("/proc/self/setgroups", "deny") &&
	       sandbox_write_file("/proc/self/uid_map", uids) &&
	       sandbox_write_file("/proc/self/gid_map", gids);
}

/* Returns in the first process of a new pid namespace; ours waits for its end. */
static bool enter_pid(void)
{
	int status;
	pid_t pid;

	if (unshare(CLONE_NEWPID) < 0)
		return false;
	pid = fork();
	if (pid == 0)
		return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0;
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	_exit(pid > 0 ? 0 : 97);
}

static void exec_bwrap(const struct sandbox_how *how)
{
	const char *argument[48] = { "bwrap",
				     "--die-with-parent",
				     "--unshare-pid",
				     "--unshare-ipc",
				     "--ro-bind",
				     "/",
				     "/",
				     "--proc",
				     "/proc",
				     "--dev",
				     "/dev",
				     "--setenv",
				     AGENT,
				     "1" };
	size_t count = 14;
	char self[256];
	ssize_t size = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[size < 0 ? 0 : size] = 0;
	if (how->kind == SANDBOX_BWRAP) {
		argument[count++] = "--unshare-user";
	} else {
		argument[count++] = "--cap-add";
		argument[count++] = "ALL";
	}
	for (size_t i = 0; i < 2 && how->visible[i]; i++) {
		argument[count++] = "--bind";
		argument[count++] = how->visible[i];
		argument[count++] = how->visible[i];
	}
	argument[count++] = "--";
	argument[count++] = self;
	execvp("bwrap", (char *const *)argument);
}

static void enter(const struct sandbox_how *how)
{
	char *const arguments[] = { (char *)"agent", NULL };
	bool good = true;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (how->uid != geteuid())
		good = setgroups(0, NULL) == 0 && setresgid(how->uid, how->uid, how->uid) == 0 &&
		       setresuid(how->uid, how->uid, how->uid) == 0;
	if (good && (how->kind == SANDBOX_BWRAP || how->kind == SANDBOX_CONTAINER))
		exec_bwrap(how);
	if (how->kind == SANDBOX_USER || how->kind == SANDBOX_NESTED)
		good = good && sandbox_enter_user(0, 0, 0);
	if (how->kind == SANDBOX_PID || how->kind == SANDBOX_NESTED)
		good = good && enter_pid();
	if (how->kind == SANDBOX_NESTED)
		good = good && sandbox_enter_user(0, 0, 0) && enter_pid();
	if (good) {
		setenv(AGENT, "1", 1);
		execv("/proc/self/exe", arguments);
	}
	perror("no sandbox");
	_exit(98);
}

bool sandbox_has_bwrap(void)
{
	return system("bwrap --unshare-user --unshare-pid --ro-bind / / true 2>/dev/null") == 0;
}

void sandbox_start(struct sandbox *ret, const struct sandbox_how *how)
{
	int orders[2], answers[2];

	ck_assert_int_eq(pipe2(orders, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(answers, O_CLOEXEC), 0);
	fflush(NULL);
	ret->pid = fork();
	ck_assert_int_ge(ret->pid, 0);
	if (ret->pid == 0) {
		dup2(orders[0], STDIN_FILENO);
		dup2(answers[1], STDOUT_FILENO);
		enter(how);
	}
	close(orders[0]);
	close(answers[1]);
	ret->orders = orders[1];
	ret->answers = answers[0];
	ck_assert_int_gt(sandbox_ask(ret, "pid"), 0);
}

int sandbox_ask(struct sandbox *sandbox, const char *format, ...)
{
	char line[512], *end;
	va_list arguments;
	int number;

	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	ck_assert_int_gt(dprintf(sandbox->orders, "%s\n", line), 0);
	ck_assert_msg(read_line(sandbox->answers, line, sizeof(line)), "no answer to %s", format);
	number = (int)strtol(line, &end, 10);
	snprintf(sandbox->text, sizeof(sandbox->text), "%s", *end == ' ' ? end + 1 : end);
	return number;
}

void sandbox_kill(struct sandbox *sandbox)
{
	char byte;

	kill(sandbox->pid, SIGKILL);
	ck_assert_int_eq(waitpid(sandbox->pid, NULL, 0), sandbox->pid);
	close(sandbox->orders);
	/* Whoever is behind it has ended, too, when its output has. */
	while (read(sandbox->answers, &byte, 1) > 0)
		;
	close(sandbox->answers);
}
