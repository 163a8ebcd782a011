/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The pools of a configuration: their keys, and which may stand beside which.
 * Called for the setting `pools` of each file.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "daemon/config_internal.h"
#include "daemon/fd.h"

#define POOL_NAME_MAX 63	    /* bytes: what shmb_info.pool holds */
#define POOL_OBJECTS_MAX 1000000000 /* inodes, which tmpfs counts in a long */

static int parse_path_into(struct loader *loader, config_setting_t *setting, char **ret)
{
	const char *text;
	int r;

	r = value_string(loader, setting, &text);
	if (r < 0)
		return r;
	if (*text != '/')
		return loader_fail(loader, setting->line,
				   "\"%.100s\" must be an absolute path, not \"%.100s\"",
				   value_key(setting), text);
	if (strlen(text) >= PATH_MAX)
		return loader_fail(loader, setting->line, "\"%.100s\" is longer than %d bytes",
				   value_key(setting), PATH_MAX - 1);
	return value_copy(loader, setting, ret);
}

static int parse_path(struct loader *loader, config_setting_t *setting, void *pool)
{
	return parse_path_into(loader, setting, &((struct pool_config *)pool)->path);
}

static int parse_read_only_path(struct loader *loader, config_setting_t *setting, void *pool)
{
	return parse_path_into(loader, setting, &((struct pool_config *)pool)->read_only_path);
}

/* tmpfs counts pages: a part of one is a whole one. */
static int parse_size(struct loader *loader, config_setting_t *setting, void *target)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct pool_config *pool = target;
	uint64_t bytes;
	int r;

	r = value_size(loader, setting, &bytes);
	if (r < 0)
		return r;
	pool->size_bytes = (bytes + page - 1) & ~(page - 1);
	if (pool->size_bytes > LLONG_MAX)
		return loader_fail(loader, setting->line, "\"size\" is too big");
	return 0;
}

static int parse_objects(struct loader *loader, config_setting_t *setting, void *target)
{
	struct pool_config *pool = target;

	/* To tmpfs 0 would mean without a limit. */
	return value_integer(loader, setting, 1, POOL_OBJECTS_MAX, &pool->objects);
}

static int parse_exec(struct loader *loader, config_setting_t *setting, void *target)
{
	return value_bool(loader, setting, &((struct pool_config *)target)->exec);
}

static int parse_huge(struct loader *loader, config_setting_t *setting, void *target)
{
	static const char *const legal[] = { "never", "always", "within_size", "advise", NULL };
	unsigned choice;
	int r;

	r = value_choice(loader, setting, legal, &choice);
	if (r < 0)
		return r;
	return value_copy(loader, setting, &((struct pool_config *)target)->huge);
}

/* A list of nodes as the kernel's bitmap_parselist has it: 0,2-3; or one node alone. */
static bool is_node_list(const char *text, bool one)
{
	bool in_range = false;

	for (;;) {
		size_t digits = strspn(text, "0123456789");

		if (!digits)
			return false;
		text += digits;
		if (!*text)
			return true;
		if (one || (*text != ',' && (*text != '-' || in_range)))
			return false;
		in_range = *text == '-';
		text++;
	}
}

/* tmpfs(5), mpol: MODE[=static|=relative][:NODES]. The option is set by itself, commas and all. */
static bool is_mpol(const char *text)
{
	static const struct {
		const char *mode;
		bool flags, nodes_may, nodes_must, one;
	} modes[] = {
		{ "default", false, false, false, false },  { "local", false, false, false, false },
		{ "prefer", true, true, true, true },	    { "bind", true, true, true, false },
		{ "interleave", true, true, false, false },
	};
	size_t size = strcspn(text, "=:");

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		const char *rest = text + size;

		if (strlen(modes[i].mode) != size || memcmp(modes[i].mode, text, size) != 0)
			continue;
		if (*rest == '=') {
			size_t flag = strcspn(rest, ":");

			if (!modes[i].flags || !((flag == 7 && !memcmp(rest, "=static", 7)) ||
						 (flag == 9 && !memcmp(rest, "=relative", 9))))
				return false;
			rest += flag;
		}
		if (!*rest)
			return !modes[i].nodes_must;
		return modes[i].nodes_may && is_node_list(rest + 1, modes[i].one);
	}
	return false;
}

static int parse_mpol(struct loader *loader, config_setting_t *setting, void *target)
{
	const char *text;
	int r;

	r = value_string(loader, setting, &text);
	if (r < 0)
		return r;
	if (!is_mpol(text))
		return loader_fail(
			loader, setting->line,
			"\"mpol\" can't be \"%.100s\"; legal are: default, local, "
			"prefer:NODE, bind:NODES, interleave, interleave:NODES, the last "
			"four also with =static or =relative before the colon",
			text);
	return value_copy(loader, setting, &((struct pool_config *)target)->mpol);
}

static int parse_per(struct loader *loader, config_setting_t *setting, void *target)
{
	static const char *const legal[] = {
		[POOL_PER_NONE] = "none", [POOL_PER_USER] = "user",   [POOL_PER_APP] = "app",
		[POOL_PER_UNIT] = "unit", [POOL_PER_UNIT + 1] = NULL,
	};
	unsigned choice;
	int r;

	r = value_choice(loader, setting, legal, &choice);
	if (r >= 0)
		((struct pool_config *)target)->per = (enum pool_per)choice;
	return r;
}

static int parse_access(struct loader *loader, config_setting_t *setting, void *target)
{
	static const char *const legal[] = {
		[POOL_ACCESS_GRANT] = "grant",
		[POOL_ACCESS_CALLER] = "caller",
		[POOL_ACCESS_CALLER + 1] = NULL,
	};
	unsigned choice;
	int r;

	r = value_choice(loader, setting, legal, &choice);
	if (r >= 0)
		((struct pool_config *)target)->access = (enum pool_access)choice;
	return r;
}

static const struct config_key pool_keys[] = {
	{ "path", parse_path }, { "read-only-path", parse_read_only_path },
	{ "size", parse_size }, { "objects", parse_objects },
	{ "per", parse_per },	{ "access", parse_access },
	{ "exec", parse_exec }, { "huge", parse_huge },
	{ "mpol", parse_mpol }, { NULL, NULL },
};

/* A pool with a path is a tmpfs that somebody else made: what makes one can't be said of it. */
static int check_beside_path(struct loader *loader, config_setting_t *setting,
			     const struct pool_config *pool)
{
	static const char *const private_keys[] = {
		"size", "objects", "per", "exec", "huge", "mpol"
	};

	for (size_t i = 0; i < sizeof(private_keys) / sizeof(private_keys[0]); i++) {
		const config_setting_t *key = config_setting_get_member(setting, private_keys[i]);

		if (key)
			return loader_fail(loader, key->line,
					   "\"%s\" can't stand beside \"path\" in the pool \"%s\": "
					   "the broker doesn't make that tmpfs",
					   private_keys[i], pool->name);
	}
	if (pool->read_only_path && !strcmp(pool->path, pool->read_only_path))
		return loader_fail(
			loader, config_setting_get_member(setting, "read-only-path")->line,
			"\"path\" and \"read-only-path\" of the pool \"%s\" are one path: "
			"two mounts of one tmpfs are needed",
			pool->name);
	return 0;
}

static int check_pool(struct loader *loader, config_setting_t *setting, struct pool_config *pool)
{
	const config_setting_t *twin = config_setting_get_member(setting, "read-only-path");

	if (pool->path) {
		pool->kind = pool->read_only_path ? POOL_GIVEN : POOL_PATH;
		if (pool->kind == POOL_PATH && !config_setting_get_member(setting, "access"))
			pool->access = POOL_ACCESS_CALLER;
		return check_beside_path(loader, setting, pool);
	}
	pool->kind = POOL_MADE;
	if (twin)
		return loader_fail(loader, twin->line,
				   "\"read-only-path\" needs \"path\" beside it in the pool \"%s\"",
				   pool->name);
	if (!pool->size_bytes && !pool->objects)
		return loader_fail(loader, setting->line,
				   "the pool \"%s\" needs \"path\", or \"size\" and \"objects\"",
				   pool->name);
	if (!pool->size_bytes || !pool->objects)
		return loader_fail(loader, setting->line, "the pool \"%s\" needs \"%s\"",
				   pool->name, pool->size_bytes ? "objects" : "size");
	return 0;
}

/* A new one at the end of the array, or NULL. */
static struct pool_config *pool_append(struct loader *loader)
{
	struct config *config = loader->config;
	struct pool_config *pool;

	if (config->pool_count == loader->pool_room) {
		size_t room = loader->pool_room ? 2 * loader->pool_room : 8;

		pool = reallocarray(config->pool, room, sizeof(*pool));
		if (!pool)
			return NULL;
		config->pool = pool;
		loader->pool_room = room;
	}
	pool = &config->pool[config->pool_count++];
	*pool = (struct pool_config){ .access = POOL_ACCESS_GRANT };
	return pool;
}

static int parse_pool(struct loader *loader, config_setting_t *setting)
{
	struct pool_config *pool;
	int r;

	if (strlen(setting->name) > POOL_NAME_MAX)
		return loader_fail(loader, setting->line,
				   "the pool's name \"%.100s\" is longer than %d bytes",
				   setting->name, POOL_NAME_MAX);
	pool = pool_append(loader);
	if (!pool)
		return loader_fail_memory(loader);
	pool->place = (struct config_place){ loader->file, setting->line };
	pool->name = strdup(setting->name);
	if (!pool->name)
		return loader_fail_memory(loader);
	r = config_parse_group(loader, setting, "a pool", pool_keys, pool);
	if (r < 0)
		return r;
	return check_pool(loader, setting, pool);
}

int config_parse_pools(struct loader *loader, config_setting_t *setting, void *unused)
{
	int r;

	r = value_is_group(loader, setting);
	for (int i = 0; r >= 0 && i < config_setting_length(setting); i++)
		r = parse_pool(loader, config_setting_get_elem(setting, (unsigned)i));
	return r;
}
