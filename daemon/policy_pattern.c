/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Globs as fnmatch(3) has them without flags, so a star matches a leading dot
 * and slashes. Called by policy.c.
 */
#include "daemon/policy_pattern.h"

#include <fnmatch.h>
#include <locale.h>
#include <string.h>

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

/* The process may have set another locale, in which ranges and bytes above 0x7f differ. */
static bool glob_match(const char *pattern, const char *text)
{
	/* glibc's C locale is a static object: this neither allocates nor fails. */
	locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0), saved;
	bool matches;

	saved = c_locale ? uselocale(c_locale) : (locale_t)0;
	matches = fnmatch(pattern, text, 0) == 0;
	if (c_locale) {
		uselocale(saved);
		freelocale(c_locale);
	}
	return matches;
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
