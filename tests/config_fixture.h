/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files to load configurations from: what the two halves of the configuration's suite share. */
#ifndef SHMBROKER_CONFIG_FIXTURE_H
#define SHMBROKER_CONFIG_FIXTURE_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/config.h"

#define MEMORY_BYTES (UINT64_C(8) << 30) /* of the machine that the tests pretend */
#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

/* A path below this test's directory; good until the sixteenth call after it. */
const char *test_path(const char *below);
/* One below the source's tests. */
const char *test_source_path(const char *below);
void write_file(const char *path, const char *text, size_t size);
/* Below this test's directory. */
void write_text(const char *below, const char *text);
/* For free(), with a NUL byte behind it. */
char *read_whole(const char *path, size_t *ret_size);

/* That file alone, as --config has it. */
int load_alone(struct config **ret, const char *path, struct config_error *error);
struct config *load_right(const char *path);
struct config *load_text(const char *text);

/* Takes this test's directory out of a message, so that it is the same everywhere. */
void without_directory(char *text);
/* The strings, with a blank between. */
void assert_list(const struct string_list *list, const char *joined);

/* Three directories as the interface has them, named 0, 1 and 2. */
void make_three(void);
int load_three(struct config **ret, struct config_error *error);

#endif
