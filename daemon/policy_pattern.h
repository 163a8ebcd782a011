/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One glob, compiled: what fnmatch(pattern, text, 0) says in the C locale, in a
 * few nanoseconds where the pattern is a plain word or ends in its only star.
 */
#ifndef SHMBROKER_POLICY_PATTERN_H
#define SHMBROKER_POLICY_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

enum pattern_kind { PATTERN_LITERAL, PATTERN_PREFIX, PATTERN_ALL, PATTERN_GLOB };

struct pattern {
	enum pattern_kind kind;
	size_t size;	  /* bytes that must be equal: of a literal or a prefix */
	const char *text; /* borrowed, NUL-terminated */
};

void pattern_compile(struct pattern *ret, const char *text);
/* text has `size` bytes and a NUL byte behind them. */
bool pattern_match(const struct pattern *pattern, const char *text, size_t size);

#endif
