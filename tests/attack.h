/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Ways to change an object of which one has a read-only descriptor and nothing else. None
 * says whether it worked: whoever runs them looks at the object.
 */
#ifndef SHMBROKER_ATTACK_H
#define SHMBROKER_ATTACK_H

#include <stddef.h>
#include <sys/types.h>

/* What a call returns is of no interest here: the object tells. */
#define ignore(call)                                                                               \
	do {                                                                                       \
		if (call) {                                                                        \
		}                                                                                  \
	} while (0)

/* What an attack has: in a process of its own, which may die of it. */
struct attack {
	int fd;
	char *map; /* PROT_READ, MAP_SHARED, of the whole object; or MAP_FAILED */
	size_t size;
	const char *scratch; /* a directory on a tmpfs that all may write */
};

struct attack_row {
	const char *name;
	void (*run)(const struct attack *attack, long argument);
	long argument;
};

/* How a descriptor is called in each place that leads to it. BY_MAP: by its mapping. */
enum attack_route { BY_SELF, BY_PID, BY_THREAD, BY_DEV, BY_TASK, BY_MAP };
/* Valid until the next call. */
const char *attack_path(const struct attack *attack, enum attack_route route);

/* Each ends with a name of NULL: by descriptor, by path, by memory, and by mounts, handles,
 * devices. */
extern const struct attack_row attacks_by_descriptor[];
extern const struct attack_row attacks_by_path[];
extern const struct attack_row attacks_by_memory[];
extern const struct attack_row attacks_by_mount[];

/* Does its worst with a descriptor that an attack has got hold of. Closes it; -1 is fine. */
void attack_through(int fd);
/* A file of that content in the scratch directory, open for both. */
int attack_scratch(const struct attack *attack, const char *name);

#endif
