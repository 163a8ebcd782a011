/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Globs as fnmatch(3) has them without flags, so a star matches a leading dot
 * and slashes. Called by policy.c.
 */
#include "daemon/policy_pattern.h"

#include <string.h>

#include "proto/glob.h"

void pattern_compile(struct pattern *ret, const char *text)
{
	size_t plain = strcspn(text, "*?[\\");

	ret->text = text;
	ret->size = plain;
	if (!text[plain])
		ret->kind = PATTERN_LITERAL;
	else if (text[plain + strspn(text + plain, "*")])
		ret->kind = PATTERN_GLOB;
	else
		ret->kind = plain ? PATTERN_PREFIX : PATTERN_ALL;
}

bool pattern_match(const struct pattern *pattern, const char *text, size_t size)
{
	switch (pattern->kind) {
	case PATTERN_ALL:
		return true;
	case PATTERN_LITERAL:
		return size == pattern->size && !memcmp(text, pattern->text, size);
	case PATTERN_PREFIX:
		return size >= pattern->size && !memcmp(text, pattern->text, pattern->size);
	case PATTERN_GLOB:
		return glob_match(pattern->text, text);
	}
	return false;
}
