/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One setting's value: its type, its range, what it means. Called through the
 * tables of keys in config.c, config_pool.c and config_rule.c.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "daemon/config_internal.h"
#include "daemon/fd.h"

const char *value_key(const config_setting_t *setting)
{
	const config_setting_t *named = setting;

	while (named && !named->name)
		named = named->parent;
	return named ? named->name : "";
}

static const char *type_text(const config_setting_t *setting)
{
	switch (config_setting_type(setting)) {
	case CONFIG_TYPE_GROUP:
		return "a group";
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		return "a number";
	case CONFIG_TYPE_FLOAT:
		return "a number with a fraction";
	case CONFIG_TYPE_STRING:
		return "a string";
	case CONFIG_TYPE_BOOL:
		return "true or false";
	default:
		return "a list";
	}
}

int value_fail_type(struct loader *loader, config_setting_t *setting, const char *wanted)
{
	return loader_fail(loader, setting->line, "%s\"%.100s\" must be %s, not %s",
			   setting->name ? "" : "each of ", value_key(setting), wanted,
			   type_text(setting));
}

int value_is_group(struct loader *loader, config_setting_t *setting)
{
	if (config_setting_is_group(setting))
		return 0;
	return value_fail_type(loader, setting, "a group: { KEY = VALUE ... }");
}

int value_bool(struct loader *loader, config_setting_t *setting, bool *ret)
{
	if (config_setting_type(setting) != CONFIG_TYPE_BOOL)
		return value_fail_type(loader, setting, "true or false");
	*ret = config_setting_get_bool(setting);
	return 0;
}

int value_string(struct loader *loader, config_setting_t *setting, const char **ret)
{
	const char *text;

	if (config_setting_type(setting) != CONFIG_TYPE_STRING)
		return value_fail_type(loader, setting, "a string");
	/* libconfig keeps "" as no string at all. */
	text = config_setting_get_string(setting);
	if (!text || !*text)
		return loader_fail(loader, setting->line, "\"%.100s\" must not be empty",
				   value_key(setting));
	*ret = text;
	return 0;
}

int value_copy(struct loader *loader, config_setting_t *setting, char **ret)
{
	const char *text;
	char *copy;
	int r;

	r = value_string(loader, setting, &text);
	if (r < 0)
		return r;
	copy = strdup(text);
	if (!copy)
		return loader_fail_memory(loader);
	free(*ret);
	*ret = copy;
	return 0;
}

static bool is_integer(const config_setting_t *setting)
{
	int type = config_setting_type(setting);

	return type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64;
}

int value_integer(struct loader *loader, config_setting_t *setting, uint64_t min, uint64_t max,
		  uint64_t *ret)
{
	long long value;

	if (!is_integer(setting))
		return value_fail_type(loader, setting, "a whole number");
	value = config_setting_get_int64(setting);
	if (value < 0 || (uint64_t)value < min || (uint64_t)value > max)
		return loader_fail(loader, setting->line,
				   "\"%.100s\" must be %llu to %llu, not %lld", value_key(setting),
				   (unsigned long long)min, (unsigned long long)max, value);
	*ret = (uint64_t)value;
	return 0;
}

/* Digits alone, at least one, and what stands behind them. */
static int parse_digits(const char *text, uint64_t *ret, const char **ret_end)
{
	uint64_t value = 0;
	const char *at = text;

	for (; *at >= '0' && *at <= '9'; at++)
		if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value))
			return -ERANGE;
	if (at == text)
		return -EINVAL;
	*ret = value;
	*ret_end = at;
	return 0;
}

static int size_from_percent(struct loader *loader, config_setting_t *setting, uint64_t percent,
			     uint64_t *ret_bytes)
{
	uint64_t memory = loader->source->memory_bytes;

	if (percent < 1 || percent > 100)
		return loader_fail(loader, setting->line,
				   "\"%.100s\" must be 1%% to 100%% of memory, not %llu%%",
				   value_key(setting), (unsigned long long)percent);
	if (!memory)
		return loader_fail(
			loader, setting->line,
			"\"%.100s\" can't be per cent: this machine's memory is not known",
			value_key(setting));
	/* Neither part overflows, and no remainder of a hundredth is lost. */
	*ret_bytes = memory / 100 * percent + memory % 100 * percent / 100;
	return 0;
}

static int size_from_text(struct loader *loader, config_setting_t *setting, const char *text,
			  uint64_t *ret_bytes)
{
	static const char units[] = "KMGT";
	uint64_t value = 0;
	const char *end = text, *unit;
	int r;

	r = parse_digits(text, &value, &end);
	if (r == 0 && !strcmp(end, "%"))
		return size_from_percent(loader, setting, value, ret_bytes);
	unit = r == 0 && *end ? strchr(units, *end) : NULL;
	if (r == -EINVAL || (r == 0 && *end && (!unit || end[1])))
		return loader_fail(loader, setting->line,
				   "\"%.100s\" must be a whole number with K, M, G, T or %% behind "
				   "it or nothing, not \"%.100s\"",
				   value_key(setting), text);
	if (unit && value > UINT64_MAX >> (10 * (unit - units + 1)))
		r = -ERANGE;
	if (r == 0 && unit)
		value <<= 10 * (unit - units + 1);
	if (r < 0 || value > LLONG_MAX)
		return loader_fail(loader, setting->line, "\"%.100s\" is too big: \"%.100s\"",
				   value_key(setting), text);
	*ret_bytes = value;
	return 0;
}

int value_size(struct loader *loader, config_setting_t *setting, uint64_t *ret_bytes)
{
	const char *text;
	uint64_t bytes = 0;
	int r;

	if (is_integer(setting))
		return value_integer(loader, setting, 1, LLONG_MAX, ret_bytes);
	if (config_setting_type(setting) != CONFIG_TYPE_STRING)
		return value_fail_type(loader, setting,
				       "a whole number of bytes or a string like \"64M\"");
	r = value_string(loader, setting, &text);
	if (r < 0)
		return r;
	r = size_from_text(loader, setting, text, &bytes);
	if (r < 0)
		return r;
	if (!bytes)
		return loader_fail(loader, setting->line, "\"%.100s\" must not be 0",
				   value_key(setting));
	*ret_bytes = bytes;
	return 0;
}

int value_mode(struct loader *loader, config_setting_t *setting, mode_t *ret)
{
	const char *text;
	unsigned mode = 0;
	int r;

	if (config_setting_type(setting) != CONFIG_TYPE_STRING)
		return value_fail_type(loader, setting, "a string of octal digits like \"0640\"");
	r = value_string(loader, setting, &text);
	if (r < 0)
		return r;
	for (const char *at = text; *at && mode <= 0777; at++) {
		if (*at < '0' || *at > '7') {
			mode = 01000;
			break;
		}
		mode = mode << 3 | (unsigned)(*at - '0');
	}
	if (mode > 0777)
		return loader_fail(loader, setting->line,
				   "\"%.100s\" must be octal, \"0\" to \"0777\", not \"%.100s\"",
				   value_key(setting), text);
	*ret = mode;
	return 0;
}

int value_choice(struct loader *loader, config_setting_t *setting, const char *const *legal,
		 unsigned *ret)
{
	char what[120];
	const char *text;
	int r;

	r = value_string(loader, setting, &text);
	if (r < 0)
		return r;
	for (unsigned i = 0; legal[i]; i++)
		if (!strcmp(legal[i], text)) {
			*ret = i;
			return 0;
		}
	snprintf(what, sizeof(what), "\"%.100s\" can't be", value_key(setting));
	return loader_fail_choice(loader, setting->line, what, text, legal);
}

/* A uid or gid as a number, also in a string; else ret_name is the name to look up. */
int value_id(struct loader *loader, config_setting_t *setting, uint32_t *ret, const char **ret_name)
{
	/* (uid_t)-1 is no id: "leave it" to the kernel. */
	const uint64_t max = UINT32_MAX - 1;
	const char *text, *end = "";
	uint64_t value;
	int r;

	*ret_name = NULL;
	if (is_integer(setting)) {
		r = value_integer(loader, setting, 0, max, &value);
		if (r >= 0)
			*ret = (uint32_t)value;
		return r;
	}
	if (config_setting_type(setting) != CONFIG_TYPE_STRING)
		return value_fail_type(loader, setting, "a name or a number");
	r = value_string(loader, setting, &text);
	if (r < 0)
		return r;
	r = parse_digits(text, &value, &end);
	if (r == -EINVAL || *end) {
		*ret_name = text;
		return 0;
	}
	if (r < 0 || value > max)
		return loader_fail(loader, setting->line,
				   "\"%.100s\" must be 0 to %llu, not \"%.100s\"",
				   value_key(setting), (unsigned long long)max, text);
	*ret = (uint32_t)value;
	return 0;
}

static int list_element(struct loader *loader, config_setting_t *setting, config_setting_t *element,
			struct string_list *ret, value_check_fn check)
{
	const char *text;
	int r;

	if (config_setting_type(element) != CONFIG_TYPE_STRING)
		return value_fail_type(loader, element,
				       element == setting ? "a string or a list of strings"
							  : "a string");
	r = value_string(loader, element, &text);
	if (r < 0)
		return r;
	r = check ? check(loader, element, text) : 0;
	if (r < 0)
		return r;
	return string_list_add(ret, text) < 0 ? loader_fail_memory(loader) : 0;
}

int value_list(struct loader *loader, config_setting_t *setting, struct string_list *ret,
	       value_check_fn check)
{
	int length = 0, r = 0;

	if (!config_setting_is_list(setting) && !config_setting_is_array(setting))
		return list_element(loader, setting, setting, ret, check);
	length = config_setting_length(setting);
	if (!length)
		return loader_fail(loader, setting->line, "\"%.100s\" is an empty list",
				   value_key(setting));
	for (int i = 0; i < length && r >= 0; i++)
		r = list_element(loader, setting, config_setting_get_elem(setting, (unsigned)i),
				 ret, check);
	return r;
}
