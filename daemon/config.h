/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * shmbroker.conf(5) as it stands in files: found, parsed with libconfig, checked
 * setting by setting. Knows nothing of kernels or clients; policy.h compiles it.
 */
#ifndef SHMBROKER_CONFIG_H
#define SHMBROKER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct config_limits { /* the defaults have their home in config.c */
	uint32_t connections, connections_per_user, connections_per_context;
	uint32_t contexts, contexts_per_user;
	uint32_t pools, pools_per_user;
	uint32_t sealed, subscriptions_per_user, waits_per_user;
};

enum pool_kind { POOL_MADE, POOL_GIVEN, POOL_PATH };
enum pool_per { POOL_PER_NONE, POOL_PER_USER, POOL_PER_APP, POOL_PER_UNIT };
enum pool_access { POOL_ACCESS_GRANT, POOL_ACCESS_CALLER };

struct config_place {	  /* where a setting stands */
	const char *file; /* lives as long as the config */
	unsigned line;
};

struct pool_config {
	struct config_place place;
	char *name; /* at most 63 bytes: shmb_info.pool */
	enum pool_kind kind;
	enum pool_per per;
	enum pool_access access;
	char *path, *read_only_path; /* NULL where not given */
	uint64_t size_bytes;	     /* made: > 0, rounded up to whole pages */
	uint64_t objects;	     /* made: > 0 */
	bool exec;
	char *huge, *mpol; /* as tmpfs takes them; NULL: not given */
	bool alone; /* what a rule delegates of it is one user's or one app's, and no sandbox's
		       beside */
};

enum right {
	RIGHT_READ = 1 << 0,
	RIGHT_WRITE = 1 << 1,
	RIGHT_CREATE = 1 << 2,
	RIGHT_UNLINK = 1 << 3,
	RIGHT_LIST = 1 << 4,
	RIGHT_ALL = 0x1f,
};

enum rule_log { RULE_LOG_DENIALS, RULE_LOG_ALL, RULE_LOG_NONE };

struct string_list {
	size_t count; /* 0: the key was not given */
	char **string;
};

struct rule_config {
	struct config_place place;
	char *name;
	/* Identity: all that are given must match. */
	bool has_user, has_group, has_sandboxed;
	bool user_known, group_known; /* false: no such user or group; the rule matches nobody */
	uid_t user;
	gid_t group;
	bool sandboxed;
	struct string_list unit, user_unit, app, label; /* globs */
	struct string_list names;			/* globs, each beginning with a slash */
	uint32_t allow;					/* enum right */
	size_t pool; /* index into config->pool; SIZE_MAX where allow is 0 and none is given */
	bool has_max_size;
	uint64_t max_size_bytes;
	mode_t mode_mask; /* 0777 when not given */
	bool lifetime_process;
	bool sealed, delegate;
	enum rule_log log;
};

struct config {
	struct config_limits limits;
	bool require_pidfd;
	size_t pool_count, rule_count;
	struct pool_config *pool;
	struct rule_config *rule;
	struct string_list files;    /* read, in order, whole paths */
	struct string_list warnings; /* whole lines, for the log: FILE:LINE: what */
};

struct config_error {
	char text[1024]; /* FILE:LINE: what is wrong; what would be legal. One line, control bytes
			    escaped */
};

/* Where to look. */
struct config_source {
	const char *file; /* --config=FILE: that file alone; NULL: look in the directories */
	const char *const *directories; /* NULL-terminated, the first masks the others */
	uid_t owner; /* beside root, who may own the files: a user broker's owner; else 0 */
	bool is_user;
	uint64_t memory_bytes; /* of the machine, for sizes in per cent */
};

/* 0 and a config for config_free(); -errno and an error's text otherwise (-EINVAL, -ENOENT,
 * -ENOMEM, -EPERM …). */
int config_load(struct config **ret, const struct config_source *source,
		struct config_error *ret_error);
void config_free(struct config *config);

/*
 * The directories of INTERFACE: system (/etc/shmbroker, /run/shmbroker, /usr/lib/shmbroker) or user
 * ($XDG_CONFIG_HOME/shmbroker or ~/.config/shmbroker, /etc/shmbroker/user,
 * /usr/lib/shmbroker/user). 0 or -errno; the list is for string_list_done(), NULL-terminated too.
 */
int config_directories(struct string_list *ret, bool is_user);

void string_list_done(struct string_list *list);

#endif
