/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One broker with a pool of each kind and access, and what an open has come to, so
 * that it can be compared with what the kernel does without a broker.
 */
#ifndef SHMBROKER_NATIVE_H
#define SHMBROKER_NATIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "tests/fixture.h"
#include "tests/test.h"

/* Users without an entry in passwd: A and B share a group. */
enum { USER_A = 23451, USER_B = 23452, USER_STRANGER = 23453, GROUP_SHARED = 23450 };

/* A pool, and the rules that lead to it. */
enum place_needs { PLACE_NEEDS_NOTHING, PLACE_NEEDS_NAMESPACES, PLACE_NEEDS_MOUNTS };
struct place {
	const char *label;     /* names that begin so lead there */
	const char *directory; /* what is appended to fixture.host; NULL: nobody reaches it */
	bool is_grant;
	bool is_small; /* PLACE_BYTES, PLACE_OBJECTS */
	enum place_needs needs;
};
#define PLACE_BYTES 65536
#define PLACE_OBJECTS 8
#define PLACE_MAX (1 << 20)

/* Those that places_start() could make; ends with a label of NULL. */
extern struct place places[];
#define PLACES_FOREACH(place) for (const struct place *place = places; place->label; place++)

/*
 * Starts it; with root's rights the test's process gets a mount namespace first. What can't be had
 * here is left out, said with TEST_NEEDS's words. ck_assert on all else.
 */
void places_start(struct fixture *fixture, const char *test);
/* The same, and the broker is on this bus, too. */
void places_start_on_bus(struct fixture *fixture, const char *test, const char *bus_address);
/* From now on the rules allow this, "\"all\"" at first; and nothing is larger than PLACE_MAX. */
void places_allow(struct fixture *fixture, const char *allow);
void places_stop(struct fixture *fixture);
/* Into the mount namespace where the test began, that of readers. 0 or -1. */
int places_leave(void);

/* "/LABEL-name": valid until the next eight calls. */
const char *place_name(const char *label, const char *name);
/* The path of what has that name, where the place has a directory. */
const char *place_path(const struct fixture *fixture, const struct place *place, const char *name);

/* What an open gave, and what became of the object. */
struct opening {
	int error;
	int status_flags; /* F_GETFL */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	off_t size;
	nlink_t links;
	char content[8];
};

/* shm_open(3) or its like, and how the object is looked at afterwards. */
struct opener {
	int (*open)(const char *name, int oflag, mode_t mode);
	int (*unlink)(const char *name);
	int (*look)(const char *name, int oflag, mode_t mode);
};
extern const struct opener native, brokered;

/* Opens and closes. The object is looked at by the opener's own reading. */
void opening_take(struct opening *ret, const struct opener *opener, const char *name, int oflag,
		  mode_t mode);
/*
 * Each legal open natively and by ours, in each place, with and without an object: F_GETFL, errno
 * and what the object is afterwards. `flags` are those of O_CREAT, O_EXCL, O_TRUNC, O_APPEND that
 * ours knows.
 */
void openings_compare_all(const struct opener *ours, int flags);
/* Fails the test when they differ. */
void opening_compare(const struct opening *ours, const struct opening *theirs, const char *what);

/* A name that nobody else uses for shm_open(3): of this process. */
const char *native_name(void);

/* errno as glibc's functions hand it on: never EPERM. */
int native_errno(int error);

/*
 * Runs function in a forked child, which must succeed, and removes its test_directory(). Under
 * other ids; uid -1: keep. The connection that the drop-ins keep ends with it.
 */
void run_as(uid_t uid, gid_t gid, int (*function)(void *argument), void *argument);
/* Starts one and doesn't wait. */
pid_t start_child(int (*function)(void *argument), void *argument);
void end_child(pid_t pid); /* waits: it must succeed */

/* The other files of the suite. */
void semantics_add_errnos(TCase *tests);
void semantics_add_races(TCase *tests);

#endif
