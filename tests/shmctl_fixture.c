/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Starts the built shmctl and compares what becomes of it: see shmctl_fixture.h. */
#include "tests/shmctl_fixture.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/fd.h"

int shmctl_memory_file(const char *text)
{
	int fd = memfd_create("shmctl", MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

/* In a child, between fork and exec: other threads' locks may be held. */
static pid_t start_program(const char *program, const char *const *arguments, int in, int out,
			   int err)
{
	const char *argv[ARGUMENTS + 2] = { program };
	pid_t pid;

	for (size_t i = 0; i < ARGUMENTS && arguments[i]; i++)
		argv[i + 1] = arguments[i];
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid > 0)
		return pid;
	signal(SIGPIPE, SIG_DFL);
	if (dup2(in, 0) == 0 && dup2(out, 1) == 1 && dup2(err, 2) == 2)
		execv(program, (char *const *)argv);
	_exit(98);
}

pid_t shmctl_start(const char *const *arguments, int in, int out, int err)
{
	char program[512];

	snprintf(program, sizeof(program), "%s/shmctl", getenv("TEST_BUILDDIR"));
	return start_program(program, arguments, in, out, err);
}

int shmctl_wait(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void read_back(int fd, char *ret, size_t size)
{
	ssize_t n = pread(fd, ret, size - 1, 0);

	ck_assert_int_ge(n, 0);
	ret[n] = '\0';
}

void shmctl_run_program(struct ran *ret, const char *program, const char *const *arguments,
			const char *input)
{
	_cleanup_close_ int in = shmctl_memory_file(input ? input : "");
	_cleanup_close_ int out = shmctl_memory_file("");
	_cleanup_close_ int err = shmctl_memory_file("");

	ret->status = shmctl_wait(program ? start_program(program, arguments, in, out, err)
					  : shmctl_start(arguments, in, out, err));
	read_back(out, ret->out, sizeof(ret->out));
	read_back(err, ret->err, sizeof(ret->err));
}

void shmctl_run(struct ran *ret, const char *const *arguments, const char *input)
{
	shmctl_run_program(ret, NULL, arguments, input);
}

const char *shmctl_expected(const struct fixture *fixture, const char *text)
{
	static char buffer[4096];
	const char *const words[][2] = {
		{ "@config@", fixture->config },
		{ "@socket@", fixture->socket },
		{ "@contexts@", fixture->contexts_path },
	};
	size_t used = 0;

	while (*text) {
		const char *piece = NULL;

		for (size_t i = 0; !piece && i < 3; i++) {
			size_t size = strlen(words[i][0]);

			if (strncmp(text, words[i][0], size) == 0) {
				piece = words[i][1];
				text += size;
			}
		}
		if (piece)
			used += (size_t)sprintf(buffer + used, "%s", piece);
		else
			buffer[used++] = *text++;
		ck_assert_uint_lt(used, sizeof(buffer) - 256);
	}
	buffer[used] = '\0';
	return buffer;
}

void shmctl_check_rows(const struct fixture *fixture, const struct row *rows, size_t count)
{
	static struct ran ran;

	for (size_t i = 0; i < count; i++) {
		shmctl_run(&ran, rows[i].arguments, rows[i].input);
		ck_assert_msg(ran.status == rows[i].status, "row %zu: %d, %s", i, ran.status,
			      ran.err);
		ck_assert_msg(strcmp(ran.out, shmctl_expected(fixture, rows[i].out)) == 0,
			      "row %zu: %s", i, ran.out);
		ck_assert_msg(strcmp(ran.err, shmctl_expected(fixture, rows[i].err)) == 0,
			      "row %zu: %s", i, ran.err);
	}
}

void shmctl_begin(struct fixture *fixture, const char *config)
{
	umask(022);
	unsetenv("XDG_RUNTIME_DIR");
	fixture_start(fixture,
		      &(struct fixture_how){ .config = config, .is_user = !test_is_root() });
}
