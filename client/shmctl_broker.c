/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * shmctl pools, status, reload and drop: what the broker itself tells and is told, in fields
 * (proto/PROTOCOL.md), for which the library has no function.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/shmctl.h"

static void record_done(struct record *record)
{
	for (size_t i = 0; i < record->count; i++) {
		free(record->key[i]);
		free(record->value[i]);
	}
	free(record->key);
	free(record->value);
	*record = (struct record){ 0 };
}

const char *record_get(const struct record *record, const char *key)
{
	for (size_t i = 0; i < record->count; i++)
		if (strcmp(record->key[i], key) == 0)
			return record->value[i];
	return NULL;
}

static void record_add(struct record *record, const char *key, size_t key_size, const char *value)
{
	if (record->count == record->room) {
		record->room = record->room ? 2 * record->room : 32;
		record->key = shmctl_need(
			reallocarray(record->key, record->room, sizeof(*record->key)));
		record->value = shmctl_need(
			reallocarray(record->value, record->room, sizeof(*record->value)));
	}
	record->key[record->count] = shmctl_format("%.*s", (int)key_size, key);
	record->value[record->count++] = shmctl_format("%s", value);
}

struct records {
	record_fn fn;
	void *userdata;
};

/* A record is whole in one packet. */
static int take_records(const char *body, size_t size, struct fdlist *fds, void *userdata)
{
	struct shmb_fields fields = shmb_fields_of(body, size);
	struct records *records = userdata;
	struct record record = { 0 };
	const char *key, *value;
	size_t key_size;
	int r;

	while ((r = shmb_fields_next(&fields, &key, &key_size, &value)) >= 0) {
		if (r == 1) {
			record_add(&record, key, key_size, value);
			continue;
		}
		r = records->fn(&record, records->userdata);
		record_done(&record);
		if (r != 0)
			return r;
	}
	if (record.count > 0)
		r = -EPROTO;
	record_done(&record);
	return r == -ENODATA ? 0 : r;
}

int shmctl_records(struct shmctl *ctl, enum wire_operation operation, const char *body, size_t size,
		   record_fn fn, void *userdata)
{
	struct records records = { fn, userdata };

	return shmb_raw_call(ctl->c, operation, body, size, take_records, &records);
}

struct pools {
	const struct shmctl *ctl;
	json_t *list; /* NULL: the table */
	struct table table;
};

/* Takes nothing; "-" for what isn't told. */
static char *cell(const struct record *record, const char *key)
{
	const char *value = record_get(record, key);

	return value && *value ? shmctl_escape(value) : shmctl_format("-");
}

static char *size_cell(const struct shmctl *ctl, const struct record *record, const char *key)
{
	const char *value = record_get(record, key);

	return value ? shmctl_size(ctl, strtoull(value, NULL, 10)) : shmctl_format("-");
}

/* "3/64"; a directory of the machine's may have no limit. */
static char *objects_cell(const struct record *record)
{
	const char *objects = record_get(record, "objects");
	const char *limit = record_get(record, "objects-limit");
	_cleanup_free_ char *text = NULL;

	if (!objects || !limit)
		return shmctl_format("-");
	if (strcmp(limit, "0") == 0)
		return shmctl_format("-");
	text = shmctl_format("%s/%s", objects, limit);
	return shmctl_escape(text);
}

static void pool_row(struct pools *pools, const struct record *record)
{
	_cleanup_free_ char *state = cell(record, "state");
	_cleanup_free_ char *why = cell(record, "why");

	table_take(&pools->table, cell(record, "pool"));
	table_take(&pools->table, cell(record, "owner"));
	table_take(&pools->table, cell(record, "kind"));
	table_take(&pools->table, cell(record, "access"));
	table_take(&pools->table, size_cell(pools->ctl, record, "size"));
	table_take(&pools->table, size_cell(pools->ctl, record, "used"));
	table_take(&pools->table, objects_cell(record));
	table_take(&pools->table, cell(record, "users"));
	table_take(&pools->table, cell(record, "read-only"));
	table_take(&pools->table, strcmp(why, "-") == 0 ? shmctl_format("%s", state)
							: shmctl_format("%s: %s", state, why));
}

static int take_pool(const struct record *record, void *userdata)
{
	struct pools *pools = userdata;
	json_t *object;

	if (!pools->list) {
		pool_row(pools, record);
		return 0;
	}
	object = json_object();
	for (size_t i = 0; i < record->count; i++)
		shmctl_json_field(object, record->key[i], record->value[i]);
	json_array_append_new(pools->list, object);
	return 0;
}

int command_pools(struct shmctl *ctl)
{
	static const char *const header[] = { "POOL", "OWNER",	 "KIND",  "ACCESS",    "SIZE",
					      "USED", "OBJECTS", "USERS", "READ-ONLY", "STATE" };
	struct pools pools = {
		.ctl = ctl,
		.table = { .header = header, .columns = 10, .right = 0xfu << 4 },
	};
	int status = SHMCTL_DONE, r;

	if (shmctl_connect(ctl) < 0)
		return SHMCTL_FAILED;
	pools.list = shmctl_has(ctl, OPTION_JSON) ? json_array() : NULL;
	r = shmctl_records(ctl, WIRE_POOLS, NULL, 0, take_pool, &pools);
	if (r < 0) {
		status = shmctl_fail_call(ctl, NULL, r);
		json_decref(pools.list);
	} else if (pools.list) {
		status = shmctl_json_print(pools.list);
	} else {
		table_print(&pools.table);
	}
	table_done(&pools.table);
	return shmctl_flush(status);
}

static int print_status(const struct record *record, void *userdata)
{
	int width = 0;

	for (size_t i = 0; i < record->count; i++)
		if (width < (int)strlen(record->key[i]))
			width = (int)strlen(record->key[i]);
	for (size_t i = 0; i < record->count; i++)
		shmctl_line(width, record->key[i], record->value[i]);
	return 0;
}

/* Each file is a field of its own; they are one list here, and it is there without any, too. */
static int keep_status(const struct record *record, void *userdata)
{
	json_t *object = json_object(), *files = json_array();

	for (size_t i = 0; i < record->count; i++) {
		if (strcmp(record->key[i], "file") == 0) {
			_cleanup_free_ char *shown = shmctl_escape(record->value[i]);
			json_t *file = json_string(record->value[i]);

			json_array_append_new(files, file ? file : json_string(shown));
		} else {
			shmctl_json_field(object, record->key[i], record->value[i]);
		}
	}
	json_object_set_new(object, "files", files);
	*(json_t **)userdata = object;
	return 1;
}

int command_status(struct shmctl *ctl)
{
	bool is_json = shmctl_has(ctl, OPTION_JSON);
	json_t *document = NULL;
	int r;

	if (shmctl_connect(ctl) < 0)
		return SHMCTL_FAILED;
	r = shmctl_records(ctl, WIRE_STATUS, NULL, 0, is_json ? keep_status : print_status,
			   &document);
	if (r < 0)
		return shmctl_fail_call(ctl, NULL, r);
	if (is_json)
		return shmctl_json_print(document ? document : json_object());
	return shmctl_flush(SHMCTL_DONE);
}

int command_reload(struct shmctl *ctl)
{
	int r;

	if (shmctl_connect(ctl) < 0)
		return SHMCTL_FAILED;
	r = shmb_raw_call(ctl->c, WIRE_RELOAD, NULL, 0, NULL, NULL);
	if (r < 0)
		return shmctl_fail_call(ctl, NULL, r);
	if (shmctl_has(ctl, OPTION_JSON))
		return shmctl_json_print(json_pack("{s:b}", "reloaded", 1));
	return SHMCTL_DONE;
}

int command_drop(struct shmctl *ctl)
{
	const char *pool = ctl->argument[0];
	json_t *document;
	int r;

	if (strlen(pool) >= sizeof(((struct shmb_info *)0)->pool))
		return shmctl_fail("there is no pool \"%s\"", pool);
	if (shmctl_connect(ctl) < 0)
		return SHMCTL_FAILED;
	r = shmb_raw_call(ctl->c, WIRE_DROP, pool, strlen(pool), NULL, NULL);
	if (r < 0)
		return shmctl_fail_call(ctl, NULL, r);
	if (!shmctl_has(ctl, OPTION_JSON))
		return SHMCTL_DONE;
	document = json_object();
	shmctl_json_text(document, "dropped", pool);
	return shmctl_json_print(document);
}
