/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How shmctl speaks: failures on stderr, tables, lines of keys and values, JSON. Names, rules and
 * reasons are others' words, so all of it is escaped on its way out.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/shmctl.h"
#include "proto/escape.h"

void *shmctl_need(void *memory)
{
	if (!memory) {
		fputs("shmctl: no memory\n", stderr);
		exit(SHMCTL_FAILED);
	}
	return memory;
}

char *shmctl_escape(const char *text)
{
	size_t size = strlen(text), room = 4 * size + 1;
	char *shown = shmctl_need(malloc(room));

	escape(shown, room, text, size);
	return shown;
}

void shmctl_put_tame(const char *text, size_t size, bool has_lines)
{
	for (size_t i = 0; i < size; i++) {
		unsigned char byte = (unsigned char)text[i];

		if ((byte >= 0x20 && byte <= 0x7e) || (has_lines && (byte == '\n' || byte == '\t')))
			putchar(byte);
		else
			printf("\\x%02x", byte);
	}
}

static char *__attribute__((format(printf, 1, 0)))
format_list(const char *format, va_list arguments)
{
	char *text;

	if (vasprintf(&text, format, arguments) < 0)
		text = NULL;
	return shmctl_need(text);
}

char *shmctl_format(const char *format, ...)
{
	va_list arguments;
	char *text;

	va_start(arguments, format);
	text = format_list(format, arguments);
	va_end(arguments);
	return text;
}

static void __attribute__((format(printf, 1, 0))) complain(const char *format, va_list arguments)
{
	_cleanup_free_ char *text = format_list(format, arguments);
	_cleanup_free_ char *shown = shmctl_escape(text);

	fflush(stdout);
	fprintf(stderr, "shmctl: %s\n", shown);
}

int shmctl_fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	complain(format, arguments);
	va_end(arguments);
	return SHMCTL_FAILED;
}

int shmctl_usage(const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_free_ char *shown = NULL;
	va_list arguments;

	va_start(arguments, format);
	text = format_list(format, arguments);
	va_end(arguments);
	shown = shmctl_escape(text);
	fprintf(stderr, "shmctl: %s; see shmctl --help\n", shown);
	return SHMCTL_USAGE;
}

char *shmctl_slashed(const char *name)
{
	while (*name == '/')
		name++;
	return shmctl_format("/%s", name);
}

int shmctl_fail_call(struct shmctl *ctl, const char *name, int error)
{
	const char *why = shmb_reason(ctl->c);
	_cleanup_free_ char *slashed = name ? shmctl_slashed(name) : NULL;

	if (!*why)
		why = strerror(-error);
	return slashed ? shmctl_fail("%s: %s", slashed, why) : shmctl_fail("%s", why);
}

char *shmctl_size(const struct shmctl *ctl, uint64_t bytes)
{
	static const char units[] = "KMGTPE";
	unsigned long long rounded;
	double value = (double)bytes;
	int unit = -1;

	if (shmctl_has(ctl, OPTION_BYTES))
		return shmctl_format("%llu", (unsigned long long)bytes);
	if (bytes < 1024)
		return shmctl_format("%lluB", (unsigned long long)bytes);
	/* What would be shown as 1024.0 is one of the next unit. */
	for (; value >= 1023.95; unit++)
		value /= 1024;
	rounded = (unsigned long long)(value * 10 + 0.5);
	return shmctl_format("%llu.%llu%c", rounded / 10, rounded % 10, units[unit < 0 ? 0 : unit]);
}

void table_take(struct table *table, char *cell)
{
	if (table->count == table->room) {
		table->room = table->room ? 2 * table->room : 64;
		table->cell = shmctl_need(
			reallocarray(table->cell, table->room, sizeof(*table->cell)));
	}
	table->cell[table->count++] = shmctl_need(cell);
}

void table_done(struct table *table)
{
	for (size_t i = 0; i < table->count; i++)
		free(table->cell[i]);
	free(table->cell);
	*table = (struct table){ 0 };
}

static bool has_colour(void)
{
	const char *no_color = getenv("NO_COLOR");
	const char *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && !(no_color && *no_color) && term && strcmp(term, "dumb");
}

/* The last column has no padding behind it, so a line never ends in spaces. */
static void print_row(const struct table *table, const int *width, const char *const *row)
{
	for (size_t i = 0; i < table->columns; i++) {
		bool is_last = i + 1 == table->columns;
		bool is_right = table->right & (1u << i);

		printf("%*s%s",
		       is_right	 ? width[i]
		       : is_last ? 0
				 : -width[i],
		       row[i], is_last ? "\n" : "  ");
	}
}

void table_print(const struct table *table)
{
	bool is_terminal = isatty(STDOUT_FILENO);
	int width[16] = { 0 };

	for (size_t i = 0; is_terminal && i < table->columns; i++)
		width[i] = (int)strlen(table->header[i]);
	for (size_t i = 0; i < table->count; i++) {
		int size = (int)strlen(table->cell[i]);

		if (width[i % table->columns] < size)
			width[i % table->columns] = size;
	}
	if (is_terminal && table->count > 0) {
		fputs(has_colour() ? "\033[1m" : "", stdout);
		print_row(table, width, table->header);
		fputs(has_colour() ? "\033[0m" : "", stdout);
	}
	for (size_t i = 0; i < table->count; i += table->columns)
		print_row(table, width, (const char *const *)table->cell + i);
}

void shmctl_line(int width, const char *key, const char *value)
{
	_cleanup_free_ char *shown_key = shmctl_escape(key);
	_cleanup_free_ char *shown = shmctl_escape(value);

	printf("%-*s  %s\n", width, shown_key, *shown ? shown : "-");
}

void shmctl_json_text(json_t *object, const char *key, const char *text)
{
	json_t *string = json_string(text);

	if (!string) {
		_cleanup_free_ char *shown = shmctl_escape(text);

		string = json_string(shown);
		json_object_set_new(object, "escaped", json_true());
	}
	json_object_set_new(object, key, string);
}

static bool is_one_of(const char *key, const char *const *list)
{
	for (; *list; list++)
		if (strcmp(*list, key) == 0)
			return true;
	return false;
}

void shmctl_json_field(json_t *object, const char *key, const char *value)
{
	static const char *const numbers[] = {
		"size",
		"used",
		"objects-limit",
		"objects",
		"users",
		"pid",
		"uptime-ms",
		"rules",
		"connections",
		"contexts",
		"private-pools",
		"sealed",
		"temporary-names",
		"requests",
		"denials",
		"failures",
		"reloads",
		"connections-ever",
		"contexts-ever",
		"line",
		"files-left-out",
		"uid",
		NULL,
	};
	static const char *const booleans[] = { "read-only", "sandboxed", "exec", NULL };
	_cleanup_free_ char *name = shmctl_need(strdup(key));

	/* As the C structures have it, and so that jq takes them without quotes. */
	for (char *at = name; *at; at++)
		if (*at == '-')
			*at = '_';
	if (is_one_of(key, numbers))
		json_object_set_new(object, name, json_integer(strtoll(value, NULL, 10)));
	else if (is_one_of(key, booleans))
		json_object_set_new(object, name, json_boolean(strcmp(value, "yes") == 0));
	else
		shmctl_json_text(object, name, value);
}

int shmctl_flush(int status)
{
	static bool is_told;

	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	if (!is_told)
		shmctl_fail("standard output: %s", strerror(errno));
	is_told = true;
	return SHMCTL_FAILED;
}

size_t shmctl_json_flags(void)
{
	return isatty(STDOUT_FILENO) ? JSON_ENSURE_ASCII : 0;
}

int shmctl_json_print(json_t *document)
{
	int r = json_dumpf(shmctl_need(document), stdout, JSON_INDENT(2) | shmctl_json_flags());

	json_decref(document);
	putchar('\n');
	return r < 0 ? shmctl_fail("the document can't be written") : shmctl_flush(SHMCTL_DONE);
}
