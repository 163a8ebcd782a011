/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* shmctl ls and stat: what there is, from the library's records of objects. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/shmctl.h"

struct infos {
	struct shmb_info *info; /* owned */
	size_t count, room;
};

static int keep_info(const struct shmb_info *info, void *userdata)
{
	struct infos *infos = userdata;

	if (infos->count == infos->room) {
		size_t room = infos->room ? 2 * infos->room : 64;
		struct shmb_info *more = reallocarray(infos->info, room, sizeof(*more));

		if (!more)
			return -ENOMEM;
		infos->info = more;
		infos->room = room;
	}
	infos->info[infos->count++] = *info;
	return 0;
}

/* By name; one name may be in several pools. */
static int compare_infos(const void *a, const void *b)
{
	const struct shmb_info *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	if (order == 0)
		order = strcmp(x->pool, y->pool);
	return order ? order : strcmp(x->owner, y->owner);
}

static char *user_text(uint32_t uid)
{
	const struct passwd *user = getpwuid(uid);

	return user ? shmctl_escape(user->pw_name) : shmctl_format("%u", uid);
}

static char *group_text(uint32_t gid)
{
	const struct group *group = getgrgid(gid);

	return group ? shmctl_escape(group->gr_name) : shmctl_format("%u", gid);
}

/* As ls -l has it; what isn't an object has a kind that we are not told. */
static char *mode_text(const struct shmb_info *info)
{
	static const char letters[] = "rwxrwxrwx";
	char text[11] = "-";

	text[0] = info->flags & SHMB_INFO_NOT_AN_OBJECT ? '?' : '-';
	for (int i = 0; i < 9; i++)
		text[i + 1] = info->mode & (0400u >> i) ? letters[i] : '-';
	return shmctl_format("%s", text);
}

static char *time_text(uint64_t created_ns, bool with_seconds)
{
	time_t seconds = (time_t)(created_ns / 1000000000);
	struct tm parts;
	char text[64];
	size_t size;

	if (created_ns == 0 || !localtime_r(&seconds, &parts))
		return shmctl_format("-");
	size = with_seconds ? strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S %z", &parts)
			    : strftime(text, sizeof(text), "%Y-%m-%d %H:%M", &parts);
	return shmctl_format("%s", size ? text : "-");
}

static char *pool_text(const struct shmb_info *info)
{
	_cleanup_free_ char *text = shmctl_format("%s%s%s", info->pool, *info->owner ? ":" : "",
						  info->owner);

	return shmctl_escape(text);
}

static const char *flags_text(uint32_t flags)
{
	if (flags & SHMB_INFO_NOT_AN_OBJECT)
		return "not-an-object";
	if (flags & SHMB_INFO_SEALED)
		return flags & SHMB_INFO_TEMPORARY ? "temporary,sealed" : "sealed";
	return flags & SHMB_INFO_TEMPORARY ? "temporary" : "-";
}

static char *name_text(const char *name)
{
	_cleanup_free_ char *slashed = shmctl_slashed(name);

	return shmctl_escape(slashed);
}

static void print_long(const struct shmctl *ctl, const struct infos *infos)
{
	static const char *const header[] = { "MODE", "OWNER",	 "GROUP", "SIZE", "ALLOCATED",
					      "POOL", "CREATED", "FLAGS", "NAME" };
	struct table table = { .header = header, .columns = 9, .right = 1u << 3 | 1u << 4 };

	for (size_t i = 0; i < infos->count; i++) {
		const struct shmb_info *info = &infos->info[i];

		table_take(&table, mode_text(info));
		table_take(&table, user_text(info->uid));
		table_take(&table, group_text(info->gid));
		table_take(&table, shmctl_size(ctl, info->size));
		table_take(&table, shmctl_size(ctl, info->allocated));
		table_take(&table, pool_text(info));
		table_take(&table, time_text(info->created_ns, false));
		table_take(&table, shmctl_format("%s", flags_text(info->flags)));
		table_take(&table, name_text(info->name));
	}
	table_print(&table);
	table_done(&table);
}

static void print_names(const struct infos *infos)
{
	for (size_t i = 0; i < infos->count; i++) {
		_cleanup_free_ char *shown = name_text(infos->info[i].name);

		puts(shown);
	}
}

json_t *shmctl_json_info(const struct shmb_info *info)
{
	_cleanup_free_ char *slashed = shmctl_slashed(info->name);
	_cleanup_free_ char *mode = shmctl_format("%04o", info->mode);
	json_t *object = json_object();

	shmctl_json_text(object, "name", slashed);
	json_object_set_new(object, "size", json_integer((json_int_t)info->size));
	json_object_set_new(object, "allocated", json_integer((json_int_t)info->allocated));
	json_object_set_new(object, "ino", json_integer((json_int_t)info->ino));
	json_object_set_new(object, "created_ns", json_integer((json_int_t)info->created_ns));
	json_object_set_new(object, "uid", json_integer(info->uid));
	json_object_set_new(object, "gid", json_integer(info->gid));
	json_object_set_new(object, "mode", json_string(mode));
	shmctl_json_text(object, "pool", info->pool);
	shmctl_json_text(object, "owner", info->owner);
	json_object_set_new(object, "temporary", json_boolean(info->flags & SHMB_INFO_TEMPORARY));
	json_object_set_new(object, "sealed", json_boolean(info->flags & SHMB_INFO_SEALED));
	json_object_set_new(object, "is_object",
			    json_boolean(!(info->flags & SHMB_INFO_NOT_AN_OBJECT)));
	if (info->creator_pid)
		json_object_set_new(object, "creator_pid", json_integer(info->creator_pid));
	return object;
}

static int print_infos(const struct shmctl *ctl, const struct infos *infos)
{
	if (shmctl_has(ctl, OPTION_JSON)) {
		json_t *list = json_array();

		for (size_t i = 0; i < infos->count; i++)
			json_array_append_new(list, shmctl_json_info(&infos->info[i]));
		return shmctl_json_print(list);
	}
	if (shmctl_has(ctl, OPTION_LONG))
		print_long(ctl, infos);
	else
		print_names(infos);
	return shmctl_flush(SHMCTL_DONE);
}

int command_ls(struct shmctl *ctl)
{
	const char *pattern = ctl->argument[0];
	struct infos infos = { 0 };
	int status, r;

	if (shmctl_connect(ctl) < 0)
		return SHMCTL_FAILED;
	r = shmb_list(ctl->c, pattern, sizeof(struct shmb_info), keep_info, &infos);
	if (infos.count > 1)
		qsort(infos.info, infos.count, sizeof(*infos.info), compare_infos);
	status = r < 0 ? shmctl_fail_call(ctl, pattern, r) : print_infos(ctl, &infos);
	free(infos.info);
	return status;
}

/* Takes the text. */
static void line_take(const char *key, char *text)
{
	printf("%-9s  %s\n", key, text);
	free(text);
}

/* What an object has of its pool: as that was configured, "" where it wasn't. */
struct placement {
	const struct shmb_info *info;
	char huge[64], mpol[256];
};

static void copy_field(char *ret, size_t size, const struct record *record, const char *key)
{
	const char *value = record_get(record, key);

	snprintf(ret, size, "%s", value ? value : "");
}

static int find_placement(const struct record *record, void *userdata)
{
	struct placement *placement = userdata;
	const char *pool = record_get(record, "pool"), *owner = record_get(record, "owner");

	if (!pool || strcmp(pool, placement->info->pool) != 0 ||
	    strcmp(owner ? owner : "", placement->info->owner) != 0)
		return 0;
	copy_field(placement->huge, sizeof(placement->huge), record, "huge");
	copy_field(placement->mpol, sizeof(placement->mpol), record, "mpol");
	return 1;
}

static void json_placement(json_t *object, const struct placement *placement)
{
	if (*placement->huge)
		shmctl_json_text(object, "huge", placement->huge);
	if (*placement->mpol)
		shmctl_json_text(object, "mpol", placement->mpol);
}

static void print_stat(const struct shmctl *ctl, const struct shmb_info *info,
		       const struct placement *placement)
{
	line_take("name", name_text(info->name));
	line_take("pool", pool_text(info));
	line_take("size", shmctl_size(ctl, info->size));
	line_take("allocated", shmctl_size(ctl, info->allocated));
	line_take("mode", shmctl_format("%04o", info->mode));
	line_take("owner", user_text(info->uid));
	line_take("group", group_text(info->gid));
	line_take("created", time_text(info->created_ns, true));
	line_take("inode", shmctl_format("%llu", (unsigned long long)info->ino));
	line_take("flags", shmctl_format("%s", flags_text(info->flags)));
	if (info->creator_pid)
		line_take("made by", shmctl_format("process %d", info->creator_pid));
	if (*placement->huge)
		line_take("huge", shmctl_escape(placement->huge));
	if (*placement->mpol)
		line_take("mpol", shmctl_escape(placement->mpol));
}

/* 0, or -errno, which has been told then. */
static int stat_one(struct shmctl *ctl, const char *name, json_t *list, bool is_first)
{
	struct shmb_info info;
	struct placement placement = { .info = &info };
	int r = shmb_stat(ctl->c, name, &info, sizeof(info));
	json_t *object;

	if (r == 0)
		r = shmctl_records(ctl, WIRE_POOLS, "", 0, find_placement, &placement);
	if (r < 0) {
		shmctl_fail_call(ctl, name, r);
		return r;
	}
	if (!list) {
		fputs(is_first ? "" : "\n", stdout);
		print_stat(ctl, &info, &placement);
		return 0;
	}
	object = shmctl_json_info(&info);
	json_placement(object, &placement);
	json_array_append_new(list, object);
	return 0;
}

int command_stat(struct shmctl *ctl)
{
	json_t *list = shmctl_has(ctl, OPTION_JSON) ? json_array() : NULL;
	int status = SHMCTL_DONE, told = 0;

	if (shmctl_connect(ctl) < 0) {
		json_decref(list);
		return SHMCTL_FAILED;
	}
	for (int i = 0; i < ctl->count; i++) {
		if (stat_one(ctl, ctl->argument[i], list, told == 0) < 0)
			status = SHMCTL_FAILED;
		else
			told++;
	}
	if (list && shmctl_json_print(list) != SHMCTL_DONE)
		status = SHMCTL_FAILED;
	return shmctl_flush(status);
}
