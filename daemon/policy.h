/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who may do what with which name: a pure function, compiled from the
 * configuration once a load. No I/O, no clock, no allocation to decide.
 */
#ifndef SHMBROKER_POLICY_H
#define SHMBROKER_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/config.h"
#include "daemon/peer.h"

struct policy;

struct rule {
	const struct rule_config *config;
	size_t index;		     /* its place in the order of all rules */
	const struct pattern *names; /* compiled */
	size_t name_count;
};

/* The rules that can match one identity, in order. */
struct view {
	size_t count;
	const struct rule *rule[];
};

/* Takes config in every case. 0 or -ENOMEM. */
int policy_new(struct policy **ret, struct config *config);
void policy_free(struct policy *policy);
const struct config *policy_config(const struct policy *policy);

/*
 * Compiles the view of an identity; free() frees it. is_user: in a user broker
 * its owner's contexts count as root's do. It points into the policy.
 */
int policy_view(struct view **ret, const struct policy *policy, const struct peer *peer,
		const struct peer_self *self);

/*
 * The first rule whose names match, or NULL: then nothing is allowed. name is
 * without its slash, of `size` bytes, and NUL-terminated.
 */
const struct rule *policy_decide(const struct view *view, const char *name, size_t size);

/*
 * The first rule that is for all names: it decides whatever none before it does, and those after it
 * nothing. NULL: there is none.
 */
const struct rule *policy_rest(const struct view *view);
/*
 * Why whom `rest` leads to a pool doesn't have these rights on each name in it: the first rule in
 * the view, `rest` being the last that counts, that leads to the same pool and allows less than
 * them or narrows it name by name. NULL: there is none.
 */
const struct rule *policy_narrowing(const struct view *view, const struct rule *rest,
				    uint32_t rights);
/* The first rule before `rest` that allows nothing, in whatever pool. NULL: there is none. */
const struct rule *policy_denying(const struct view *view, const struct rule *rest);

/* Why a rule does not match an identity and a name, or that it does. */
enum mismatch {
	MATCH,
	MISMATCH_USER,
	MISMATCH_GROUP,
	MISMATCH_UNKNOWN_USER, /* the configuration names a user who doesn't exist */
	MISMATCH_UNKNOWN_GROUP,
	MISMATCH_UNIT,
	MISMATCH_USER_UNIT,
	MISMATCH_APP,
	MISMATCH_APP_MAKER, /* the id fits, but its maker doesn't count */
	MISMATCH_SANDBOXED,
	MISMATCH_LABEL,
	MISMATCH_NAME,
};
enum mismatch policy_match(const struct rule *rule, const struct peer *peer,
			   const struct peer_self *self, const char *name, size_t size);
size_t policy_rule_count(const struct policy *policy);
const struct rule *policy_rule(const struct policy *policy, size_t index);

/* For a person: `is for the unit "camera.service", this is ""`. Values escaped. Returns buffer. */
const char *policy_mismatch_text(char *buffer, size_t size, enum mismatch why,
				 const struct rule *rule, const struct peer *peer);

/* "read,write" of a set of rights, or "nothing". Returns buffer (64 bytes always do). */
const char *policy_rights_text(char *buffer, size_t size, uint32_t rights);
/* The reverse, for explain's argument: 0 and the set, or -EINVAL. */
int policy_rights_parse(uint32_t *ret, const char *text);

#endif
