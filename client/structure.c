/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Structures of the public header that grow at their end, as the kernel's open_how does: a program
 * and the library may know them at different lengths.
 */
#include <errno.h>
#include <string.h>

#include "client/internal.h"

int shmb_take(void *ret, size_t known_size, const void *structure, size_t size, size_t first_size)
{
	const char *bytes = structure;

	if (size < first_size)
		return -EINVAL;
	for (size_t i = known_size; i < size; i++)
		if (bytes[i] != 0)
			return -E2BIG;
	memset(ret, 0, known_size);
	memcpy(ret, structure, size < known_size ? size : known_size);
	return 0;
}

int shmb_give(void *ret, size_t size, const void *structure, size_t known_size, size_t first_size)
{
	if (size < first_size)
		return -EINVAL;
	memset(ret, 0, size);
	memcpy(ret, structure, size < known_size ? size : known_size);
	return 0;
}
