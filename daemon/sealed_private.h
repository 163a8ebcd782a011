/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What sealed.c, which makes, names and opens, sealed_watch.c, which learns when they go, and
 * sealed_restore.c, which takes those of the process before, share.
 */
#ifndef SHMBROKER_SEALED_PRIVATE_H
#define SHMBROKER_SEALED_PRIVATE_H

#include "daemon/hash.h"
#include "daemon/name_key.h"
#include "daemon/sealed.h"

struct sealed {
	struct sealed_set *all;
	struct instance *instance; /* NULL: of the process before, its pool isn't there */
	uint32_t number;
	int memory; /* -EBADF: it has lost its name, and nobody can open it any more */
	int holder; /* its inode is one of the pool's objects as long as it is open */
	int memory_number, holder_number; /* of inotify; -1: not watched */
	uint64_t size;
	uint64_t holder_ino;
	bool is_sealed, is_named;
	uint64_t left_ms; /* when others were left to free it; 0: nobody has to */
	struct charge charge;
	LIST_ENTRY(sealed) entry;
	UT_hash_handle hh, by_holder;
	struct name_key key; /* while it is named */
	char *note;	     /* of one whose pool isn't there: the strings below lie in it */
	const char *pool_name, *noted_name;
	struct owner owner;
};

/* In the set, of no instance; or NULL. */
struct sealed *sealed_alloc(struct sealed_set *all);
void sealed_free(struct sealed *sealed);
void sealed_belong_to(struct sealed *sealed, struct instance *instance);
/* It is found by this name from now on; is_named when it has it. false: no memory for that. */
bool sealed_enter(struct sealed *sealed, const char *name);
/* Its name has gone: nobody can open it any more, and its memory is its users' alone. */
void sealed_unname(struct sealed *sealed);
/* Nor does the next process have to know of it. */
void sealed_forget(struct sealed *sealed);

/* sealed_watch.c: when nobody has the memory any more, or the name is gone. Each 0 or -errno. */
int sealed_watch_memory(struct sealed *sealed);
int sealed_watch_holder(struct sealed *sealed);
void sealed_unwatch(struct sealed *sealed);
void sealed_watches_done(struct sealed_set *all);

#endif
