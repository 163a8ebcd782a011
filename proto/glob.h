/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Globs, for the rules and for the library, which must not take a name for another rule's. */
#ifndef SHMBROKER_GLOB_H
#define SHMBROKER_GLOB_H

#include <stdbool.h>

#include "proto/prefix.h"

/* As fnmatch(3) without flags in the C locale, whatever the process's is. */
bool glob_match(const char *pattern, const char *text);

#endif
