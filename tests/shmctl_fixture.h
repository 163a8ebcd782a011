/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the files of the suite "shmctl" share: the built program is started against a broker in this
 * process, and what it writes and how it ends are compared.
 */
#ifndef SHMBROKER_SHMCTL_FIXTURE_H
#define SHMBROKER_SHMCTL_FIXTURE_H

#include "tests/fixture.h"
#include "tests/test.h"

TCase *shmctl_case_of_run(void);   /* of check_shmctl_run.c */
TCase *shmctl_case_of_edges(void); /* of check_shmctl_edge.c */

#define ARGUMENTS 10

static const char one_pool[] = "pools: { host: { path = \"@host@\" access = \"grant\" } }\n"
			       "rules: ( { name = \"viewers read\" app = \"org.example.*\" group = "
			       "0 names = \"/frames-*\"\n"
			       "           allow = \"read\" pool = \"host\" },\n"
			       "         { name = \"nothing\" names = \"/no-*\" allow = [] },\n"
			       "         { name = \"kept\" names = \"/kept-*\" allow = [ \"read\", "
			       "\"write\", \"create\", \"list\" ]\n"
			       "           pool = \"host\" },\n"
			       "         { name = \"all\" sandboxed = false names = \"/*\" allow = "
			       "\"all\" pool = \"host\" } )\n";

/* One run of the program. */
struct ran {
	int status;
	char out[32768], err[2048];
};

/* A run, and what is expected of it; in that `@config@`, `@socket@` and `@contexts@` are the
 * test's. */
struct row {
	const char *arguments[ARGUMENTS];
	const char *input; /* NULL: none */
	int status;
	const char *out, *err;
};

/* Most ways to fail. */
#define WRONG_USAGE(says, ...)                                                                     \
	{                                                                                          \
		{ __VA_ARGS__ }, NULL, 2, "", "shmctl: " says "; see shmctl --help\n"              \
	}
#define FAILS(says, ...)                                                                           \
	{                                                                                          \
		{ __VA_ARGS__ }, NULL, 1, "", "shmctl: " says "\n"                                 \
	}

/* A broker, and an environment without another. */
void shmctl_begin(struct fixture *fixture, const char *config);

/* `arguments` go on to ARGUMENTS or a NULL; input NULL: none. */
void shmctl_run(struct ran *ret, const char *const *arguments, const char *input);
/* The same with another program; NULL: shmctl. */
void shmctl_run_program(struct ran *ret, const char *program, const char *const *arguments,
			const char *input);
void shmctl_check_rows(const struct fixture *fixture, const struct row *rows, size_t count);
#define CHECK_ROWS(fixture, rows) shmctl_check_rows(fixture, rows, sizeof(rows) / sizeof(*(rows)))
/* With the test's own paths for `@...@`. Valid until the next. */
const char *shmctl_expected(const struct fixture *fixture, const char *text);

/* Doesn't wait: its streams are these. */
pid_t shmctl_start(const char *const *arguments, int in, int out, int err);
/* For its end: the exit status, or 128 and its signal. */
int shmctl_wait(pid_t pid);
/* That much text in memory, to be read from its begin. */
int shmctl_memory_file(const char *text);

#endif
