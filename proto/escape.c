/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * \xNN for every byte that a log, a terminal or a table can't bear. Called
 * wherever a name, an identity or a setting is shown to a person.
 */
#include "proto/escape.h"

#include <stdbool.h>

/* The backslash counts too: else an escape could be forged by its letters. */
static bool is_plain(unsigned char byte)
{
	return byte >= 0x20 && byte <= 0x7e && byte != '\\';
}

size_t escape(char *buffer, size_t size, const char *text, size_t length)
{
	static const char digits[] = "0123456789abcdef";
	size_t used = 0;

	if (!size)
		return 0;
	for (size_t i = 0; i < length; i++) {
		unsigned char byte = (unsigned char)text[i];
		size_t width = is_plain(byte) ? 1 : 4;

		if (size - used <= width)
			break;
		if (width == 1) {
			buffer[used++] = (char)byte;
			continue;
		}
		buffer[used++] = '\\';
		buffer[used++] = 'x';
		buffer[used++] = digits[byte >> 4];
		buffer[used++] = digits[byte & 15];
	}
	buffer[used] = '\0';
	return used;
}
