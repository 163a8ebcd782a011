/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Entries of state.h: used by store.c, context.c and temporary.c, each for its own kind. */
#include "daemon/state.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/directory.h"
#include "daemon/fd.h"

/* A link over 128 bytes takes a page. So many pools and contexts there can be, and temporary names.
 */
#define PAGE_BYTES 4096
#define ENTRIES ((uint64_t)128 * 1024)
#define TEMPORARIES ((uint64_t)1024 * 1024 + 1024)

#define KEY_SIZE 24
#define KEY_NEW "new" /* before it takes another's place */

int state_ask_keeper(struct keeper *keeper, const struct keeper_request *request,
		     struct keeper_reply *ret)
{
	struct pollfd answer = { .fd = keeper_poll_borrow(keeper), .events = POLLIN };
	int rc = keeper_send(keeper, request);

	*ret = (struct keeper_reply){ .writable = -EBADF, .read_only = -EBADF };
	for (rc = rc < 0 ? rc : 0; rc == 0;) {
		if (poll(&answer, 1, -1) < 0 && errno != EINTR)
			rc = -errno;
		else
			rc = keeper_receive(keeper, ret);
	}
	if (rc < 0) {
		ret->failure = (struct keeper_failure){ .error = -rc,
							.step = "asking the keeper",
							.advice = "restart the broker" };
	}
	return ret->failure.error;
}

/* A descriptor or -errno. */
static int open_one(struct keeper *keeper, uint32_t number, uint64_t entries,
		    struct keeper_failure *ret_why)
{
	struct keeper_request request = { .id = 1,
					  .operation = KEEPER_FIND,
					  .number = number,
					  .size_bytes = entries * PAGE_BYTES,
					  .objects = entries };
	struct keeper_reply reply;
	int error;

	error = state_ask_keeper(keeper, &request, &reply);
	if (error == ENOENT) {
		request.operation = KEEPER_MAKE;
		error = state_ask_keeper(keeper, &request, &reply);
	}
	fd_close(reply.read_only);
	if (error) {
		*ret_why = reply.failure;
		return -error;
	}
	/* Pools are for all to write in; this is not. */
	if (fchmod(reply.writable, 0700) < 0) {
		error = errno;
		fd_close(reply.writable);
		*ret_why = (struct keeper_failure){ .error = error,
						    .step = "fchmod of the notes' directory",
						    .advice = "see the log of the kernel" };
		return -error;
	}
	return reply.writable;
}

int state_open(struct state *ret, struct keeper *keeper, struct keeper_failure *ret_why)
{
	*ret = STATE_NONE;
	ret->directory = open_one(keeper, STATE_NUMBER, ENTRIES, ret_why);
	if (ret->directory >= 0)
		ret->temporaries = open_one(keeper, STATE_NUMBER_TEMPORARIES, TEMPORARIES, ret_why);
	if (ret->directory >= 0 && ret->temporaries >= 0)
		return 0;
	state_close(ret);
	return -ret_why->error;
}

void state_close(struct state *state)
{
	fd_close(state->directory);
	fd_close(state->temporaries);
	*state = STATE_NONE;
}

bool state_is_kept(const struct state *state)
{
	return state->directory >= 0;
}

static int directory_of(const struct state *state, enum state_kind kind)
{
	return kind == STATE_TEMPORARY ? state->temporaries : state->directory;
}

static void key_text(char text[static KEY_SIZE], enum state_kind kind, uint64_t number)
{
	snprintf(text, KEY_SIZE, "%c%" PRIu64, kind, number);
}

int state_put(const struct state *state, enum state_kind kind, uint64_t number, const char *format,
	      ...)
{
	char value[STATE_VALUE_MAX + 1], key[KEY_SIZE];
	int directory = directory_of(state, kind), size;
	va_list arguments;

	if (directory < 0)
		return 0;
	va_start(arguments, format);
	size = vsnprintf(value, sizeof(value), format, arguments);
	va_end(arguments);
	if (size < 0 || size > STATE_VALUE_MAX)
		return -ENAMETOOLONG;
	key_text(key, kind, number);
	if (symlinkat(value, directory, key) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	unlinkat(directory, KEY_NEW, 0);
	if (symlinkat(value, directory, KEY_NEW) < 0 ||
	    renameat(directory, KEY_NEW, directory, key) < 0)
		return -errno;
	return 0;
}

void state_remove(const struct state *state, enum state_kind kind, uint64_t number)
{
	int directory = directory_of(state, kind);
	char key[KEY_SIZE];

	if (directory < 0)
		return;
	key_text(key, kind, number);
	unlinkat(directory, key, 0);
}

int state_get(const struct state *state, enum state_kind kind, uint64_t number,
	      char ret[static STATE_VALUE_MAX + 1])
{
	int directory = directory_of(state, kind);
	char key[KEY_SIZE];
	ssize_t size;

	if (directory < 0)
		return -ENOENT;
	key_text(key, kind, number);
	size = readlinkat(directory, key, ret, STATE_VALUE_MAX);
	if (size < 0)
		return -errno;
	ret[size] = 0;
	return 0;
}

/* The next of a kind. Whether there is one; at the end *ret_error is 0, or -errno. */
static bool next_of(DIR *listing, enum state_kind kind, uint64_t *ret_number, int *ret_error)
{
	const struct dirent *entry;
	char *end;

	do {
		errno = 0;
		entry = readdir(listing);
		*ret_error = -errno;
		if (!entry)
			return false;
		*ret_number = strtoull(entry->d_name + 1, &end, 10);
	} while (entry->d_name[0] != (char)kind || *end);
	return true;
}

int state_each(const struct state *state, enum state_kind kind, state_fn function, void *context)
{
	int directory = directory_of(state, kind), error = 0;
	char value[STATE_VALUE_MAX + 1];
	uint64_t number;
	DIR *listing;

	if (directory < 0)
		return 0;
	listing = directory_list(directory);
	if (!listing)
		return -errno;
	while (error == 0 && next_of(listing, kind, &number, &error)) {
		error = state_get(state, kind, number, value);
		if (error == 0)
			function(context, number, value);
		/* One that is gone is none. */
		if (error == -ENOENT)
			error = 0;
	}
	closedir(listing);
	return error;
}

char *state_word(char **value)
{
	return strsep(value, "/");
}

bool state_number(char **value, uint64_t *ret)
{
	const char *word = state_word(value);
	char *end;

	if (!word || *word < '0' || *word > '9')
		return false;
	errno = 0;
	*ret = strtoull(word, &end, 10);
	return !*end && errno == 0;
}
