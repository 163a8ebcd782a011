/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the files of the configuration's reader share; nobody else includes it.
 * config_file.c finds and reads, config_scan.c refuses what libconfig lets
 * through, config_value.c knows types, config_pool.c and config_rule.c groups.
 */
#ifndef SHMBROKER_CONFIG_INTERNAL_H
#define SHMBROKER_CONFIG_INTERNAL_H

#include <libconfig.h>

#include "daemon/config.h"

#define CONFIG_FILE_MAX (4u * 1024 * 1024) /* bytes */
#define CONFIG_NESTING_MAX 16		   /* brackets open at once; a right file needs 4 */

/* A rule's pool by name, until all files are read. */
struct pool_reference {
	char *name; /* owned; NULL: none given */
	unsigned line;
};

struct loader {
	const struct config_source *source;
	struct config *config;
	struct config_error *error;
	const char *file; /* the one being read: one of config->files */
	size_t pool_room, rule_room;
	struct pool_reference *reference; /* one a rule */
	uint32_t limits_set;		  /* by bit: the first file to set one counts */
	bool identity_set;
};

/* Write the error's text, escaped, with the file being read; line 0: it is about the whole file. */
int loader_fail(struct loader *loader, unsigned line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));				   /* always -EINVAL */
int loader_fail_errno(struct loader *loader, int error, const char *what); /* always -error */
int loader_fail_memory(struct loader *loader);				   /* always -ENOMEM */
int loader_fail_place(struct loader *loader, const struct config_place *place, const char *format,
		      ...) __attribute__((format(printf, 3, 4)));
/* What is legal, and the nearest of it to what was given. Always -EINVAL. */
int loader_fail_choice(struct loader *loader, unsigned line, const char *what, const char *given,
		       const char *const *legal);
/* Keeps a line for the log. 0 or -ENOMEM. */
int loader_warn(struct loader *loader, unsigned line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Takes the string in every case. 0 or -ENOMEM; the list stays NULL-terminated. */
int string_list_take(struct string_list *list, char *string);
int string_list_add(struct string_list *list, const char *string);

/* Finds, checks and reads all files of the source, in order, each through loader_text(). */
int config_read_files(struct loader *loader);
/* One file's text, NUL-terminated behind `size` bytes. */
int loader_text(struct loader *loader, const char *text, size_t size);
/* Refuses what libconfig would take silently, or say badly. */
int config_scan(struct loader *loader, const char *text, size_t size);

/* A table of keys, ended by an entry without a name. */
struct config_key {
	const char *name;
	int (*parse)(struct loader *loader, config_setting_t *setting, void *target);
};

/* Each setting of a group through its key. `what` names the group in an error: "a rule". */
int config_parse_group(struct loader *loader, config_setting_t *group, const char *what,
		       const struct config_key *keys, void *target);
int config_parse_pools(struct loader *loader, config_setting_t *setting, void *unused);
int config_parse_rules(struct loader *loader, config_setting_t *setting, void *unused);

/* Typed values; what they return is only set on success. */
int value_is_group(struct loader *loader, config_setting_t *setting);
int value_bool(struct loader *loader, config_setting_t *setting, bool *ret);
int value_string(struct loader *loader, config_setting_t *setting, const char **ret);
int value_copy(struct loader *loader, config_setting_t *setting, char **ret); /* replaces *ret */
int value_integer(struct loader *loader, config_setting_t *setting, uint64_t min, uint64_t max,
		  uint64_t *ret);
int value_size(struct loader *loader, config_setting_t *setting, uint64_t *ret_bytes);
int value_mode(struct loader *loader, config_setting_t *setting, mode_t *ret);
int value_choice(struct loader *loader, config_setting_t *setting, const char *const *legal,
		 unsigned *ret);
int value_id(struct loader *loader, config_setting_t *setting, uint32_t *ret,
	     const char **ret_name);
/* A string or a list of some; `check` looks at each and says what is wrong. */
typedef int (*value_check_fn)(struct loader *loader, config_setting_t *element, const char *text);
int value_list(struct loader *loader, config_setting_t *setting, struct string_list *ret,
	       value_check_fn check);
/* The setting's name, of an element its list's. */
const char *value_key(const config_setting_t *setting);
int value_fail_type(struct loader *loader, config_setting_t *setting, const char *wanted);

#endif
