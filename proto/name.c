/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which names an object or an app can have. Called by the library before it asks
 * and by the daemon in any case. */
#include "proto/name.h"

#include <errno.h>
#include <string.h>

#include "proto/protocol.h"

struct name name_strip(const char *text, size_t size)
{
	while (size > 0 && *text == '/') {
		text++;
		size--;
	}
	return (struct name){ text, size };
}

int name_check(struct name name, bool for_unlink)
{
	const size_t prefix = sizeof(NAME_RESERVED_PREFIX) - 1;

	/* Before its length, as glibc has it. */
	if (name.size == 0 || memchr(name.text, '/', name.size))
		return for_unlink ? ENOENT : EINVAL;
	if (name.size > WIRE_NAME_MAX)
		return ENAMETOOLONG;
	if ((name.size == 1 && name.text[0] == '.') ||
	    (name.size == 2 && memcmp(name.text, "..", 2) == 0))
		return EINVAL;
	if (memchr(name.text, 0, name.size))
		return for_unlink ? ENOENT : EINVAL;
	if (name.size >= prefix && memcmp(name.text, NAME_RESERVED_PREFIX, prefix) == 0)
		return for_unlink ? ENOENT : EINVAL;
	return 0;
}

bool name_is_app(const char *text, size_t size)
{
	if (size < 1 || size > WIRE_APP_MAX)
		return false;
	for (size_t i = 0; i < size; i++) {
		char c = text[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
		    c != '.' && c != '_' && c != '-')
			return false;
	}
	return true;
}
