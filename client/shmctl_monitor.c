/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* shmctl monitor: tells what happens, line by line, until it is ended. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/shmctl.h"

static const char *field(const struct record *record, const char *key)
{
	const char *value = record_get(record, key);

	return value ? value : "";
}

static void print_field(const struct record *record, const char *before, const char *key)
{
	_cleanup_free_ char *shown = shmctl_escape(field(record, key));

	if (*shown)
		printf("%s%s", before, shown);
}

static void print_line(const struct record *record)
{
	_cleanup_free_ char *slashed = shmctl_slashed(field(record, "name"));
	_cleanup_free_ char *shown = shmctl_escape(slashed);
	_cleanup_free_ char *event = shmctl_escape(field(record, "event"));
	time_t now = time(NULL);
	struct tm parts;
	char at[16] = "";

	if (localtime_r(&now, &parts))
		strftime(at, sizeof(at), "%H:%M:%S", &parts);
	printf("%s  %-7s", at, event);
	if (record_get(record, "count")) {
		print_field(record, "  ", "count");
		puts(" events: they came faster than they were read");
		return;
	}
	print_field(record, "  ", "pool");
	print_field(record, ":", "owner");
	printf("  %s", shown);
	print_field(record, "  uid ", "uid");
	print_field(record, " pid ", "pid");
	print_field(record, " unit ", "unit");
	print_field(record, " app ", "app");
	print_field(record, ": ", "reason");
	putchar('\n');
}

static void print_json(const struct record *record)
{
	json_t *object = json_object();

	for (size_t i = 0; i < record->count; i++) {
		if (strcmp(record->key[i], "name") == 0) {
			_cleanup_free_ char *slashed = shmctl_slashed(record->value[i]);

			shmctl_json_text(object, "name", slashed);
		} else {
			shmctl_json_field(object, record->key[i], record->value[i]);
		}
	}
	json_object_set_new(object, "time", json_integer((json_int_t)time(NULL)));
	json_dumpf(object, stdout, JSON_COMPACT | shmctl_json_flags());
	putchar('\n');
	json_decref(object);
}

static int take(const struct record *record, void *userdata)
{
	const struct shmctl *ctl = userdata;

	if (shmctl_has(ctl, OPTION_JSON))
		print_json(record);
	else
		print_line(record);
	/* Whoever reads it wants it now. */
	return fflush(stdout) == 0 ? 0 : SHMCTL_FAILED;
}

int command_monitor(struct shmctl *ctl)
{
	const char *pattern = ctl->count > 0 ? ctl->argument[0] : "";
	struct name stripped = name_strip(pattern, strlen(pattern));
	int r;

	if (stripped.size > WIRE_NAME_MAX)
		return shmctl_fail("a pattern has at most 255 bytes");
	r = shmctl_connect(ctl);
	if (r < 0)
		return SHMCTL_FAILED;
	shmb_set_timeout(ctl->c, -1);
	r = shmctl_records(ctl, WIRE_MONITOR, stripped.text, stripped.size, take, ctl);
	return r < 0 ? shmctl_fail_call(ctl, NULL, r) : shmctl_flush(SHMCTL_DONE);
}
