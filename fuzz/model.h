/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What POSIX, INTERFACE and the fuzzer's configuration (in_process.h) let an answer be: the names
 * that there are, in memory, and for each request the outcomes that it may have.
 */
#ifndef SHMBROKER_FUZZ_MODEL_H
#define SHMBROKER_FUZZ_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/codec.h"

#define MODEL_CALLERS 4
#define MODEL_NAMES 128

enum model_pool { MODEL_HOST, MODEL_GRANT, MODEL_MADE, MODEL_POOLS };
extern const char *const model_pool_names[MODEL_POOLS];

struct model_caller {
	uid_t uid;
	bool is_admin, is_sandboxed;
};

/* What has a name; or, unpublished, is to have one. */
struct model_object {
	bool is_used;
	char name[256];
	enum model_pool pool;
	bool is_plain; /* a shared memory object, and no FIFO, directory, link */
	bool is_sealed;
	int temporary_of; /* a caller; -1: nobody's */
	uint64_t ino;	  /* of its name; a sealed one's holder */
	uint64_t memory;  /* of what is opened; the same unless it is sealed */
	uint64_t size;
	mode_t mode;
	uid_t uid;
	int unpublished_of; /* a caller; -1: it has its name */
};

struct model {
	struct model_caller caller[MODEL_CALLERS];
	bool has_pool[MODEL_POOLS], has_twin[MODEL_POOLS];
	uint64_t limit[MODEL_POOLS]; /* bytes of the tmpfs; 0: none */
	bool can_seal, can_make_contexts;
	uid_t own_uid;	  /* the broker's, who owns the directories */
	bool may_set_ids; /* else all that is made is its own */
	unsigned held;	  /* descriptors that the fuzzer keeps: their inodes may count */
	struct model_object object[MODEL_NAMES];
};

/* The outcomes that an answer may have. */
struct expected {
	bool may_succeed;
	unsigned count;
	int error[12];
};

struct model_object *model_find(struct model *model, const char *name);
struct model_object *model_find_unpublished(struct model *model, unsigned caller, const char *name);
struct model_object *model_add(struct model *model, const char *name);
/* The pool that a name leads to, and the rule's rights; MODEL_POOLS: there is no rule. */
enum model_pool model_pool_of(const char *name, uint32_t *ret_rights);
bool model_is_made_temporary(const struct request *request, const char *name);
bool model_may_list(const struct model *model, unsigned caller, const struct model_object *object);
mode_t model_mode(const struct request *request, const char *name);
/* Without its leading slashes. false: no object can have it. */
bool model_name(char ret[static 256], const struct request *request);

/* Each for one operation; what is already known to be another is not looked at again. */
void model_expect_open(struct model *model, unsigned caller, const struct request *request,
		       struct expected *ret);
void model_expect_unlink(struct model *model, unsigned caller, const struct request *request,
			 struct expected *ret);
void model_expect_look(struct model *model, unsigned caller, const struct request *request,
		       struct expected *ret);
void model_expect_publish(struct model *model, unsigned caller, const struct request *request,
			  struct expected *ret);
void model_expect_other(struct model *model, unsigned caller, const struct request *request,
			struct expected *ret);

#endif
