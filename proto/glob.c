/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fnmatch(3) that knows bytes and no characters. Called by policy_pattern.c and delegate.c. */
#include "proto/glob.h"

#include <fnmatch.h>
#include <locale.h>

/* The process may have set another locale, in which ranges and bytes above 0x7f differ. */
bool glob_match(const char *pattern, const char *text)
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
