/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the files of the suite "daemon" share: the program shmbrokerd as a process of its own, which
 * says by sd_notify(3) how far it is.
 */
#ifndef SHMBROKER_DAEMON_FIXTURE_H
#define SHMBROKER_DAEMON_FIXTURE_H

#include <stdbool.h>
#include <sys/types.h>
#include <unistd.h>

#include "tests/test.h"

TCase *daemon_case_of_rights(void); /* of check_daemon_rights.c */

#define ORDINARY 12345
#define ANSWER_MS 60000 /* far beyond what any answer takes */

#define DAEMON_RULES                                                                               \
	"rules: ( { name = \"a\" names = \"/a-*\" allow = \"all\" pool = \"a\" },\n"               \
	"         { name = \"host\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n"

/* Where one runs: a directory of the test's, with a file, a tmpfs and a socket in it. */
struct daemon_place {
	char directory[96], config[128], host[128], socket[128];
	char config_option[160], socket_option[160];
};

struct daemon {
	pid_t pid;
	int log, notify, gate;
	char text[8192]; /* its log, read by daemon_end() */
};

/* What a service manager keeps for it; without names: a socket that it was started by. */
struct daemon_kept {
	unsigned count;
	struct {
		char name[16];
		int fd;
	} entry[16];
};

/* How it is started, beside its arguments. */
struct daemon_how {
	uid_t uid;
	const struct daemon_kept *given; /* as systemd does; NULL: nothing */
	int plan;	       /* of what fails in it: see fault_share(); 0: nothing does */
	const char *directory; /* to be in; NULL: / */
	bool contained;	       /* in a user namespace with a map of its own */
	bool closed;	       /* without standard descriptors */
};

/* Makes it, that user's, with two pools: "a" and "host". */
void daemon_place_make(struct daemon_place *place, uid_t owner);
void daemon_place_remove(const struct daemon_place *place);
/* Writes another configuration. */
void daemon_configure(const struct daemon_place *place, const char *text);
/* Doesn't wait. `arguments` begin with its name and end with NULL. */
void daemon_start(struct daemon *daemon, const struct daemon_how *how,
		  const char *const *arguments);
/* The same, with the place's configuration and socket and no more. */
void daemon_start_at(struct daemon *daemon, const struct daemon_place *place,
		     const struct daemon_how *how);
/* Until it says so. */
void daemon_await(struct daemon *daemon, const char *state);
/*
 * The same, or until it has ended, of which only its end is left to be waited for; false. What it
 * gives to be kept meanwhile is in `kept`.
 */
bool daemon_heed(struct daemon *daemon, const char *state, struct daemon_kept *kept);
void daemon_kept_done(struct daemon_kept *kept);
/* By that signal, or 0: by itself. Its exit status; its log is in text. */
int daemon_end(struct daemon *daemon, int number);
/* Whoever connects there has both pools. */
void daemon_check_served(const char *socket);

static inline bool is_missing(const char *path)
{
	return access(path, F_OK) < 0 && errno == ENOENT;
}

#endif
