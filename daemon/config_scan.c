/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A look at a file's tokens before libconfig has it: refuses what libconfig takes without a word
 * (wrapped numbers, @include, NUL bytes, comments and strings without an end), and what it can't
 * name (a setting given twice, a bracket that is left open). Called by config.c.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config_internal.h"
#include "daemon/fd.h"

/* A setting's name, in the text. */
struct word {
	const char *text;
	size_t size;
	unsigned line;
};

struct level {
	char bracket; /* that opened it; 0: the file itself */
	unsigned line;
	struct word *name; /* of the settings in it so far */
	size_t count, room;
};

struct scan {
	struct loader *loader;
	const char *at, *end;
	unsigned line;
	size_t depth;
	struct level level[CONFIG_NESTING_MAX + 1];
	struct word last; /* a word that becomes a name when = or : follows */
	bool after_comma;
};

/* The shown width of a piece of the text. */
static int shown(size_t size)
{
	return size < 60 ? (int)size : 60;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_hex_digit(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '*';
}

static char scan_peek(const struct scan *scan, size_t ahead)
{
	return (size_t)(scan->end - scan->at) > ahead ? scan->at[ahead] : '\0';
}

static int scan_comment(struct scan *scan)
{
	unsigned begun = scan->line;
	const char *end;

	if (scan_peek(scan, 0) == '#' || scan_peek(scan, 1) == '/') {
		end = memchr(scan->at, '\n', (size_t)(scan->end - scan->at));
		scan->at = end ? end : scan->end;
		return 0;
	}
	end = memmem(scan->at + 2, (size_t)(scan->end - scan->at) - 2, "*/", 2);
	if (!end)
		return loader_fail(scan->loader, begun, "the comment that begins here has no end");
	for (; scan->at < end; scan->at++)
		scan->line += *scan->at == '\n';
	scan->at = end + 2;
	return 0;
}

static int scan_string(struct scan *scan)
{
	unsigned begun = scan->line;

	for (scan->at++; scan->at < scan->end && *scan->at != '"'; scan->at++) {
		scan->line += *scan->at == '\n';
		if (*scan->at != '\\')
			continue;
		/* libconfig leaves such a byte out, so two strings would become one. */
		if (scan_peek(scan, 1) == 'x' && scan_peek(scan, 2) == '0' &&
		    scan_peek(scan, 3) == '0')
			return loader_fail(scan->loader, scan->line,
					   "a string can't have a NUL byte in it");
		/* Only these two make a difference to where the string ends. */
		if (scan_peek(scan, 1) == '"' || scan_peek(scan, 1) == '\\')
			scan->at++;
	}
	if (scan->at >= scan->end)
		return loader_fail(scan->loader, begun, "the string that begins here has no end");
	scan->at++;
	return 0;
}

/* libconfig keeps 32 bits without a word, 64 bits when L follows. */
static int scan_number(struct scan *scan)
{
	const char *begin = scan->at;
	bool negative = *begin == '-', is_hex, is_long;
	unsigned long long value = 0, limit;
	bool wrapped = false;

	scan->at += *begin == '-' || *begin == '+';
	is_hex = scan->at == begin && *begin == '0' &&
		 (scan_peek(scan, 1) == 'x' || scan_peek(scan, 1) == 'X');
	scan->at += is_hex ? 2 : 0;
	for (; scan->at < scan->end && (is_hex ? is_hex_digit(*scan->at) : is_digit(*scan->at));
	     scan->at++) {
		unsigned digit = is_digit(*scan->at) ? (unsigned)(*scan->at - '0')
						     : (unsigned)((*scan->at | 32) - 'a' + 10);

		wrapped |= __builtin_mul_overflow(value, is_hex ? 16ull : 10ull, &value) ||
			   __builtin_add_overflow(value, (unsigned long long)digit, &value);
	}
	is_long = scan_peek(scan, 0) == 'L';
	limit = (is_long ? (unsigned long long)LLONG_MAX : (unsigned long long)INT_MAX) + negative;
	if (scan_peek(scan, 0) == '.' || (!is_hex && (scan_peek(scan, 0) | 32) == 'e'))
		return 0; /* no integer: its type is refused later */
	if (!wrapped && value <= limit)
		return 0;
	return loader_fail(scan->loader, scan->line, "the number %.*s doesn't fit into %s",
			   shown((size_t)(scan->at - begin)), begin,
			   is_long || wrapped || value > LLONG_MAX ? "64 bits"
								   : "32 bits: put an L behind it");
}

static void scan_word(struct scan *scan)
{
	const char *begin = scan->at;

	while (scan->at < scan->end && (is_letter(*scan->at) || is_digit(*scan->at) ||
					*scan->at == '-' || *scan->at == '_'))
		scan->at++;
	scan->last = (struct word){ begin, (size_t)(scan->at - begin), scan->line };
}

/* A = or :, behind a setting's name. */
static int scan_assignment(struct scan *scan)
{
	struct level *level = &scan->level[scan->depth];
	struct word word = scan->last;

	scan->at++;
	scan->last.size = 0;
	if (!word.size)
		return 0; /* libconfig says what is wrong with it */
	for (size_t i = 0; i < level->count; i++)
		if (level->name[i].size == word.size &&
		    !memcmp(level->name[i].text, word.text, word.size))
			return loader_fail(scan->loader, word.line,
					   "\"%.*s\" is given twice, first in line %u",
					   shown(word.size), word.text, level->name[i].line);
	if (level->count == level->room) {
		size_t room = level->room ? 2 * level->room : 16;
		struct word *more = reallocarray(level->name, room, sizeof(*more));

		if (!more)
			return loader_fail_memory(scan->loader);
		level->name = more;
		level->room = room;
	}
	level->name[level->count++] = word;
	return 0;
}

static int scan_open(struct scan *scan)
{
	struct level *level;

	if (scan->depth == CONFIG_NESTING_MAX)
		return loader_fail(scan->loader, scan->line,
				   "brackets are nested too deep: %u at most", CONFIG_NESTING_MAX);
	level = &scan->level[++scan->depth];
	*level = (struct level){ .bracket = *scan->at++, .line = scan->line };
	return 0;
}

static char closing(char bracket)
{
	return bracket == '{' ? '}' : bracket == '[' ? ']' : ')';
}

static int scan_close(struct scan *scan)
{
	struct level *level = &scan->level[scan->depth];

	if (!scan->depth)
		return loader_fail(scan->loader, scan->line, "\"%c\" closes nothing", *scan->at);
	if (closing(level->bracket) != *scan->at)
		return loader_fail(scan->loader, scan->line,
				   "\"%c\" can't close the \"%c\" of line %u: that needs \"%c\"",
				   *scan->at, level->bracket, level->line, closing(level->bracket));
	/* In a group a comma may end each setting. */
	if (scan->after_comma && level->bracket != '{')
		return loader_fail(scan->loader, scan->line,
				   "the comma before \"%c\" has nothing behind it", *scan->at);
	free(level->name);
	scan->depth--;
	scan->at++;
	return 0;
}

static int scan_at_sign(struct scan *scan)
{
	size_t left = (size_t)(scan->end - scan->at);

	if (left >= 8 && !memcmp(scan->at, "@include", 8))
		return loader_fail(scan->loader, scan->line,
				   "@include isn't allowed: put a file into shmbroker.conf.d");
	return loader_fail(scan->loader, scan->line, "\"@\" can't stand outside a string");
}

static int scan_token(struct scan *scan)
{
	char c = *scan->at;
	int r;

	if (c == '#' || (c == '/' && (scan_peek(scan, 1) == '/' || scan_peek(scan, 1) == '*')))
		return scan_comment(scan);
	if (c == '=' || c == ':')
		return scan_assignment(scan);
	if (is_letter(c)) {
		scan_word(scan);
		r = 0;
	} else if (strchr("{[(", c)) {
		r = scan_open(scan);
	} else if (strchr("}])", c)) {
		r = scan_close(scan);
	} else if (c == '"') {
		r = scan_string(scan);
	} else if (is_digit(c) || ((c == '-' || c == '+') && is_digit(scan_peek(scan, 1)))) {
		r = scan_number(scan);
	} else if (c == '@') {
		r = scan_at_sign(scan);
	} else {
		scan->at++;
		r = 0;
	}
	scan->after_comma = c == ',';
	return r;
}

int config_scan(struct loader *loader, const char *text, size_t size)
{
	struct scan scan = { .loader = loader, .at = text, .end = text + size, .line = 1 };
	int r = 0;

	for (const char *p = text; p < scan.end; p++) {
		if (!*p)
			return loader_fail(loader, scan.line, "there is a NUL byte in this line");
		scan.line += *p == '\n';
	}
	scan.line = 1;
	while (r >= 0 && scan.at < scan.end) {
		if (*scan.at == '\n')
			scan.line++;
		if (strchr(" \t\r\n\f\v", *scan.at))
			scan.at++;
		else
			r = scan_token(&scan);
	}
	if (r >= 0 && scan.depth)
		r = loader_fail(loader, scan.level[scan.depth].line,
				"the \"%c\" of this line is never closed",
				scan.level[scan.depth].bracket);
	for (size_t i = 0; i <= scan.depth; i++)
		free(scan.level[i].name);
	return r;
}
