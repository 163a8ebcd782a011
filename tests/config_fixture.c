/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files to load configurations from, in this test's own directory. Used by both
 * halves of the configuration's suite.
 */
#include "tests/config_fixture.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/fd.h"
#include "tests/test.h"

/* A path below this test's directory; good until the sixteenth call after it. */
const char *test_path(const char *below)
{
	static char path[16][PATH_MAX];
	static unsigned turn;
	char *next = path[turn++ % 16];

	snprintf(next, PATH_MAX, "%s/%s", test_directory(), below);
	return next;
}

const char *test_source_path(const char *below)
{
	static char path[PATH_MAX];
	const char *top = getenv("TEST_SRCDIR");

	snprintf(path, sizeof(path), "%s/%s", top ? top : "tests", below);
	return path;
}

void write_file(const char *path, const char *text, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_msg(fd >= 0, "%s: %s", path, strerror(errno));
	ck_assert_int_eq(fchmod(fd, 0644), 0);
	ck_assert_int_eq(write(fd, text, size), (ssize_t)size);
	close(fd);
}

void write_text(const char *below, const char *text)
{
	write_file(test_path(below), text, strlen(text));
}

char *read_whole(const char *path, size_t *ret_size)
{
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	char *text = calloc(1, 65536);

	ck_assert_msg(file != NULL, "%s: %s", path, strerror(errno));
	ck_assert_ptr_nonnull(text);
	*ret_size = fread(text, 1, 65535, file);
	return text;
}

int load_alone(struct config **ret, const char *path, struct config_error *error)
{
	const struct config_source source = {
		.file = path,
		.owner = geteuid(),
		.memory_bytes = MEMORY_BYTES,
	};

	return config_load(ret, &source, error);
}

struct config *load_right(const char *path)
{
	struct config_error error;
	struct config *config = NULL;

	ck_assert_msg(load_alone(&config, path, &error) == 0, "%s", error.text);
	ck_assert_str_eq(error.text, "");
	return config;
}

struct config *load_text(const char *text)
{
	write_text("text.conf", text);
	return load_right(test_path("text.conf"));
}

/* Takes this test's directory out of a message, so that it is the same everywhere. */
void without_directory(char *text)
{
	const char *directory = test_directory();
	size_t size = strlen(directory) + 1;

	for (char *found; (found = strstr(text, directory));)
		memmove(found, found + size, strlen(found + size) + 1);
}

void assert_list(const struct string_list *list, const char *joined)
{
	char text[256] = "";

	for (size_t i = 0; i < list->count; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i ? " " : "",
			 list->string[i]);
	ck_assert_str_eq(text, joined);
}

/* Three directories, as INTERFACE has them. */
static const char *three[4];

int load_three(struct config **ret, struct config_error *error)
{
	static char path[3][PATH_MAX];
	const struct config_source source = {
		.directories = three,
		.owner = geteuid(),
		.memory_bytes = MEMORY_BYTES,
	};

	for (size_t i = 0; i < 3; i++) {
		snprintf(path[i], PATH_MAX, "%s/%zu", test_directory(), i);
		three[i] = path[i];
	}
	return config_load(ret, &source, error);
}

void make_three(void)
{
	static const char *const names[] = { "0", "0/shmbroker.conf.d", "1", "1/shmbroker.conf.d",
					     "2", "2/shmbroker.conf.d" };

	for (int i = 0; i < ROWS(names); i++) {
		ck_assert_int_eq(mkdir(test_path(names[i]), 0755), 0);
		ck_assert_int_eq(chmod(test_path(names[i]), 0755), 0);
	}
}
