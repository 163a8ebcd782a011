/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * shmctl check-config: reads the configuration with the daemon's own reader, so what it says here
 * is what the broker would say. No broker is asked.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "client/shmctl.h"
#include "daemon/config.h"

#define MAIN_FILE "shmbroker.conf"
#define DROP_INS "shmbroker.conf.d"

static bool exists_below(const char *directory, const char *name)
{
	_cleanup_free_ char *path = shmctl_format("%s/%s", directory, name);
	struct stat st;

	/* A link that leads nowhere is there, too: what is wrong with it is told on reading. */
	return lstat(path, &st) == 0;
}

/* A shmbroker.conf.d is part of the directory that it lies in. For free(), or NULL. */
static char *config_directory(const char *path)
{
	_cleanup_free_ char *real = realpath(path, NULL);
	const char *last = real ? strrchr(real, '/') : NULL;

	if (!real)
		return NULL;
	if (last && strcmp(last + 1, DROP_INS) == 0)
		return shmctl_format("%.*s", last == real ? 1 : (int)(last - real), real);
	if (exists_below(path, MAIN_FILE) || exists_below(path, DROP_INS))
		return shmctl_format("%s", path);
	errno = ENOENT;
	return NULL;
}

/* What is to be read: the broker's places, one directory or one file. */
struct place {
	struct string_list standard;
	char *directory; /* owned */
	const char *list[2];
};

static int find_place(struct place *place, struct config_source *source, const char *argument)
{
	struct stat st;
	int r;

	if (!argument) {
		r = config_directories(&place->standard, source->is_user);
		source->directories = (const char *const *)place->standard.string;
		return r < 0 ? shmctl_fail("where to look is not known: %s", strerror(-r))
			     : SHMCTL_DONE;
	}
	if (stat(argument, &st) < 0)
		return shmctl_fail("%s: %s", argument, strerror(errno));
	if (!S_ISDIR(st.st_mode)) {
		source->file = argument;
		return SHMCTL_DONE;
	}
	place->directory = config_directory(argument);
	if (!place->directory)
		return shmctl_fail("%s: has neither " MAIN_FILE " nor " DROP_INS, argument);
	place->list[0] = place->directory;
	source->directories = place->list;
	return SHMCTL_DONE;
}

/* As it is on a pipe; control bytes are not for a terminal. */
static void print_lines(const char *text, size_t size)
{
	if (isatty(STDOUT_FILENO))
		shmctl_put_tame(text, size, true);
	else
		fwrite(text, 1, size, stdout);
}

static int print_file(const char *path)
{
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	_cleanup_free_ char *shown = shmctl_escape(path);
	char line[4096];
	char last = '\n';
	size_t size;

	if (!file)
		return shmctl_fail("%s: %s", path, strerror(errno));
	printf("# %s\n", shown);
	while ((size = fread(line, 1, sizeof(line), file)) > 0) {
		print_lines(line, size);
		last = line[size - 1];
	}
	puts(last == '\n' ? "" : "\n");
	return SHMCTL_DONE;
}

static int print_files(const struct string_list *files)
{
	int status = SHMCTL_DONE;

	for (size_t i = 0; i < files->count && status == SHMCTL_DONE; i++)
		status = print_file(files->string[i]);
	return status;
}

static json_t *list_json(const struct string_list *list)
{
	json_t *array = json_array();

	for (size_t i = 0; i < list->count; i++) {
		_cleanup_free_ char *shown = shmctl_escape(list->string[i]);
		json_t *string = json_string(list->string[i]);

		json_array_append_new(array, string ? string : json_string(shown));
	}
	return array;
}

static int print_summary(const struct shmctl *ctl, const struct config *config)
{
	if (shmctl_has(ctl, OPTION_JSON)) {
		json_t *document = json_object();

		json_object_set_new(document, "pools",
				    json_integer((json_int_t)config->pool_count));
		json_object_set_new(document, "rules",
				    json_integer((json_int_t)config->rule_count));
		json_object_set_new(document, "files", list_json(&config->files));
		json_object_set_new(document, "warnings", list_json(&config->warnings));
		return shmctl_json_print(document);
	}
	for (size_t i = 0; i < config->warnings.count; i++)
		printf("warning: %s\n", config->warnings.string[i]);
	printf("%zu pool%s and %zu rule%s in %zu file%s\n", config->pool_count,
	       config->pool_count == 1 ? "" : "s", config->rule_count,
	       config->rule_count == 1 ? "" : "s", config->files.count,
	       config->files.count == 1 ? "" : "s");
	return shmctl_flush(SHMCTL_DONE);
}

int command_check_config(struct shmctl *ctl)
{
	struct config_source source = {
		.is_user = shmctl_has(ctl, OPTION_USER),
		/* In the broker's places as it would have them; elsewhere they may be one's own. */
		.owner = ctl->count || shmctl_has(ctl, OPTION_USER) ? geteuid() : 0,
	};
	struct config_error error = { 0 };
	struct config *config = NULL;
	struct place place = { 0 };
	struct sysinfo memory;
	int status, r;

	if (shmctl_has(ctl, OPTION_CAT) && shmctl_has(ctl, OPTION_JSON))
		return shmctl_usage("--cat prints files as they are: not with --json");
	if (sysinfo(&memory) == 0)
		source.memory_bytes = (uint64_t)memory.totalram * memory.mem_unit;
	status = find_place(&place, &source, ctl->argument[0]);
	if (status == SHMCTL_DONE) {
		r = config_load(&config, &source, &error);
		if (r < 0) {
			/* Escaped already. */
			fprintf(stderr, "shmctl: %s\n", *error.text ? error.text : strerror(-r));
			status = SHMCTL_FAILED;
		}
	}
	if (status == SHMCTL_DONE && shmctl_has(ctl, OPTION_CAT))
		status = print_files(&config->files);
	if (status == SHMCTL_DONE)
		status = print_summary(ctl, config);
	config_free(config);
	string_list_done(&place.standard);
	free(place.directory);
	return status;
}
