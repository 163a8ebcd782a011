/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the files of shmctl share: the options, the table of commands, how failures are told
 * and how output is written. shmctl.c reads the arguments, one file a group of commands does
 * the rest.
 */
#ifndef SHMBROKER_SHMCTL_H
#define SHMBROKER_SHMCTL_H

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "client/internal.h"

enum shmctl_exit { SHMCTL_DONE = 0, SHMCTL_FAILED = 1, SHMCTL_USAGE = 2 };

/* Every option there is; a command takes those of its set, and the global ones. */
enum shmctl_option {
	OPTION_USER,
	OPTION_SOCKET,
	OPTION_JSON,
	OPTION_BYTES,
	OPTION_NO_PAGER,
	OPTION_VERSION,
	OPTION_HELP,
	OPTION_LONG,
	OPTION_MODE,
	OPTION_TEMPORARY,
	OPTION_RESERVE,
	OPTION_HOLD,
	OPTION_CREATE,
	OPTION_REPLACE,
	OPTION_APP,
	OPTION_STDIN,
	OPTION_SHM,
	OPTION_AS,
	OPTION_UNIT,
	OPTION_PID,
	OPTION_TIMEOUT,
	OPTION_CAT,
	OPTION_PRELOAD,
	OPTION_COUNT,
};
#define OPTION_BIT(option) (1u << (option))

struct shmctl_command;

struct shmctl {
	const struct shmctl_command *command;
	uint32_t given;			 /* OPTION_BIT() of each */
	const char *value[OPTION_COUNT]; /* of those that have one */
	int count;			 /* of the command's own arguments */
	char **argument;		 /* NULL-terminated */
	struct shmb *c;			 /* NULL until shmctl_connect() */
};

struct shmctl_command {
	const char *name;
	const char *arguments; /* for the usage */
	const char *what;      /* in one line */
	const char *help;      /* more lines, each ended; "" where there is no more to say */
	uint32_t options;      /* besides the global ones */
	uint32_t needed;       /* of those */
	int least, most;       /* arguments; most -1: any number */
	int (*run)(struct shmctl *ctl); /* an exit status */
};

static inline bool shmctl_has(const struct shmctl *ctl, enum shmctl_option option)
{
	return ctl->given & OPTION_BIT(option);
}

/* Connects ctl->c: 0 or -errno, which has been told then. */
int shmctl_connect(struct shmctl *ctl);

/* --- shmctl_output.c --- */

/* One line on stderr, with what others chose escaped. Return SHMCTL_FAILED, SHMCTL_USAGE. */
int shmctl_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
int shmctl_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same for a call on ctl->c that returned error; name: an object's, or NULL. */
int shmctl_fail_call(struct shmctl *ctl, const char *name, int error);

/* The memory; if it can't be had the program ends. */
void *shmctl_need(void *memory);
/* What is shown: escaped, for free(). Memory that can't be had ends the program. */
char *shmctl_escape(const char *text);
/*
 * Writes what may have been escaped before, or is a file's, which has lines: backslashes are left,
 * bytes outside 0x20 to 0x7e become \xNN.
 */
void shmctl_put_tame(const char *text, size_t size, bool has_lines);
char *shmctl_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* An object's name with its one leading slash, as it is; for free(). */
char *shmctl_slashed(const char *name);
/* "64.0M", or bytes; for free(). */
char *shmctl_size(const struct shmctl *ctl, uint64_t bytes);

/* Rows of cells, printed with the columns aligned; the header on a terminal only. */
struct table {
	const char *const *header;
	uint32_t right; /* by bit: the columns aligned to the right */
	size_t columns, count, room;
	char **cell; /* owned */
};
/* Takes a cell; they come row by row. */
void table_take(struct table *table, char *cell);
void table_print(const struct table *table);
void table_done(struct table *table);

/* A line of key and value, the key padded to width. */
void shmctl_line(int width, const char *key, const char *value);

/* Sets key to the text: as it is where it is UTF-8, else escaped and "escaped" true. */
void shmctl_json_text(json_t *object, const char *key, const char *text);
/* A field of the broker's, with its type. */
void shmctl_json_field(json_t *object, const char *key, const char *value);
/* For jansson: a terminal gets ASCII alone, since UTF-8 has control characters, too. */
size_t shmctl_json_flags(void);
/* Prints the document and releases it. SHMCTL_DONE, or SHMCTL_FAILED when stdout is full. */
int shmctl_json_print(json_t *document);
/* An object's record, as stat and ls have it. In shmctl_list.c. */
json_t *shmctl_json_info(const struct shmb_info *info);
/* The end of all that a command has printed: an exit status, `status` unless stdout fails. */
int shmctl_flush(int status);

/* --- shmctl_broker.c, the records of pools, status and explain --- */

/* A record of the broker's: its fields, in its order. */
struct record {
	size_t count, room;
	char **key, **value; /* owned */
};
const char *record_get(const struct record *record, const char *key);  /* NULL: none */
typedef int (*record_fn)(const struct record *record, void *userdata); /* 0: go on */
/* Asks, and calls fn for each record: 0, what fn returned, or -errno. */
int shmctl_records(struct shmctl *ctl, enum wire_operation operation, const char *body, size_t size,
		   record_fn fn, void *userdata);

/* --- shmctl_signal.c --- */

/* Blocks the signals that end or go on to a child: a descriptor that tells of them, or -errno. */
int shmctl_signals(sigset_t *ret_before, bool with_all);
/* Until a signal, or with a descriptor until its end. */
void shmctl_hold(int signals, int input);

/* --- shmctl_shm.c: an app's pool as a command's /dev/shm --- */

/* The pool of who comes through the socket: a mount's descriptor, or a negative errno, told then.
 */
int shmctl_borrow(const char *app, const char *socket);
/* Puts it on /dev/shm in a mount namespace of this process's own. 0, or an exit status, told then.
 */
int shmctl_put_on_shm(int mount);

/* --- the commands --- */
int command_ls(struct shmctl *ctl);
int command_stat(struct shmctl *ctl);
int command_pools(struct shmctl *ctl);
int command_status(struct shmctl *ctl);
int command_reload(struct shmctl *ctl);
int command_monitor(struct shmctl *ctl);
int command_drop(struct shmctl *ctl);
int command_create(struct shmctl *ctl);
int command_cat(struct shmctl *ctl);
int command_write(struct shmctl *ctl);
int command_rm(struct shmctl *ctl);
int command_wait(struct shmctl *ctl);
int command_run(struct shmctl *ctl);
int command_context(struct shmctl *ctl);
int command_explain(struct shmctl *ctl);
int command_check_config(struct shmctl *ctl);

#endif
