/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How the configuration's reader says what is wrong: one line, file and line
 * first, every byte that could upset a log escaped. Called by all its parts.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/config_internal.h"
#include "daemon/fd.h"
#include "proto/escape.h"

#define LINE_MAX_BYTES 2048 /* before escaping; values are cut to 100 bytes where they stand */

/* The plain text, then its escaped form: all of our own words are plain already. */
__attribute__((format(printf, 5, 0))) static void line_format(char *buffer, size_t size,
							      const char *file, unsigned line,
							      const char *format, va_list args)
{
	char text[LINE_MAX_BYTES];
	int used = 0;

	if (file && line)
		used = snprintf(text, sizeof(text), "%.500s:%u: ", file, line);
	else if (file)
		used = snprintf(text, sizeof(text), "%.500s: ", file);
	vsnprintf(text + used, sizeof(text) - (size_t)used, format, args);
	escape(buffer, size, text, strlen(text));
}

int loader_fail(struct loader *loader, unsigned line, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	line_format(loader->error->text, sizeof(loader->error->text), loader->file, line, format,
		    args);
	va_end(args);
	return -EINVAL;
}

int loader_fail_place(struct loader *loader, const struct config_place *place, const char *format,
		      ...)
{
	va_list args;

	va_start(args, format);
	line_format(loader->error->text, sizeof(loader->error->text), place->file, place->line,
		    format, args);
	va_end(args);
	return -EINVAL;
}

int loader_fail_errno(struct loader *loader, int error, const char *what)
{
	loader_fail(loader, 0, "%s: %s", what, strerror(error));
	return -error;
}

int loader_fail_memory(struct loader *loader)
{
	loader_fail(loader, 0, "out of memory");
	return -ENOMEM;
}

int loader_warn(struct loader *loader, unsigned line, const char *format, ...)
{
	char text[sizeof(loader->error->text)];
	va_list args;

	va_start(args, format);
	line_format(text, sizeof(text), loader->file, line, format, args);
	va_end(args);
	if (string_list_add(&loader->config->warnings, text) < 0)
		return loader_fail_memory(loader);
	return 0;
}

#define DISTANCE_MAX 64 /* bytes of a word that are looked at */

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* How many letters must be put in, left out or changed to make one word the other. */
static size_t edit_distance(const char *a, const char *b)
{
	size_t row[DISTANCE_MAX + 1];
	size_t a_size = strnlen(a, DISTANCE_MAX), b_size = strnlen(b, DISTANCE_MAX);

	for (size_t j = 0; j <= b_size; j++)
		row[j] = j;
	for (size_t i = 1; i <= a_size; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= b_size; j++) {
			size_t change = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			row[j] = min_size(change, min_size(row[j], row[j - 1]) + 1);
		}
	}
	return row[b_size];
}

static const char *nearest(const char *given, const char *const *legal)
{
	const char *best = legal[0];
	size_t best_distance = SIZE_MAX;

	for (; *legal; legal++) {
		size_t distance = edit_distance(given, *legal);

		if (distance < best_distance) {
			best = *legal;
			best_distance = distance;
		}
	}
	return best;
}

int loader_fail_choice(struct loader *loader, unsigned line, const char *what, const char *given,
		       const char *const *legal)
{
	char list[512] = "";
	size_t used = 0;

	for (size_t i = 0; legal[i]; i++) {
		size_t room = sizeof(list) - used - sizeof(", ...");

		if (strlen(legal[i]) + 2 > room) {
			snprintf(list + used, sizeof(list) - used, ", ...");
			break;
		}
		used += (size_t)snprintf(list + used, room, "%s%s", i ? ", " : "", legal[i]);
	}
	return loader_fail(loader, line, "%s \"%.100s\", the nearest is \"%s\"; legal are: %s",
			   what, given, nearest(given, legal), list);
}
