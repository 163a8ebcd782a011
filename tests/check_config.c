/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The suite of the configuration: wrong files (tests/config/NAME.conf and the exact message in
 * NAME.expected) and right ones, what is shipped included. Its other half is check_config_files.c.
 */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config.h"
#include "daemon/fd.h"
#include "daemon/user.h"
#include "proto/escape.h"
#include "tests/check_config.h"
#include "tests/config_fixture.h"
#include "tests/test.h"

/* A copy, as the source's own directory may be anybody's. */
static struct config_error load_wrong(const char *name)
{
	char below[NAME_MAX + 8];
	_cleanup_free_ char *text = NULL;
	struct config_error error = { "" };
	struct config *config = NULL;
	size_t size;

	snprintf(below, sizeof(below), "config/%s", name);
	text = read_whole(test_source_path(below), &size);
	write_file(test_path(name), text, size);
	ck_assert_msg(load_alone(&config, test_path(name), &error) == -EINVAL, "%s is taken", name);
	ck_assert_msg(config == NULL, "%s sets its result", name);
	without_directory(error.text);
	return error;
}

START_TEST(each_wrong_file_is_refused_with_its_exact_message)
{
	DIR *dir = opendir(test_source_path("config"));
	struct dirent *found;
	size_t count = 0;

	ck_assert_ptr_nonnull(dir);
	while ((found = readdir(dir))) {
		char expected_name[NAME_MAX + 32];
		size_t size = strlen(found->d_name);
		_cleanup_free_ char *expected = NULL;
		struct config_error error;

		if (size < 6 || strcmp(found->d_name + size - 5, ".conf") != 0 ||
		    !strncmp(found->d_name, "right-", 6))
			continue;
		error = load_wrong(found->d_name);
		snprintf(expected_name, sizeof(expected_name), "config/%.*s.expected",
			 (int)size - 5, found->d_name);
		expected = read_whole(test_source_path(expected_name), &size);
		expected[strcspn(expected, "\n")] = '\0';
		ck_assert_str_eq(error.text, expected);
		count++;
	}
	closedir(dir);
	ck_assert_uint_ge(count, 100);
}
END_TEST

static struct config *load_full(void)
{
	_cleanup_free_ char *text = NULL;
	size_t size;

	text = read_whole(test_source_path("config/right-full.conf"), &size);
	return load_text(text);
}

START_TEST(limits_and_identity_are_read)
{
	struct config *config = load_full();
	const struct config_limits *limits = &config->limits;

	ck_assert_uint_eq(limits->connections, 100);
	ck_assert_uint_eq(limits->connections_per_user, 32);
	ck_assert_uint_eq(limits->connections_per_context, 3);
	ck_assert_uint_eq(limits->contexts, 0);
	ck_assert_uint_eq(limits->contexts_per_user, 5);
	ck_assert_uint_eq(limits->pools, 6);
	ck_assert_uint_eq(limits->pools_per_user, 7);
	ck_assert_uint_eq(limits->sealed, 8);
	ck_assert_uint_eq(limits->subscriptions_per_user, 9);
	ck_assert_uint_eq(limits->waits_per_user, 10);
	ck_assert(config->require_pidfd);
	ck_assert_uint_eq(config->files.count, 1);
	ck_assert_str_eq(config->files.string[0], test_path("text.conf"));
	ck_assert_uint_eq(config->warnings.count, 0);
	config_free(config);
}
END_TEST

static const struct pool_config pool_rows[] = {
	{ .place.line = 8,
	  .name = (char *)"host",
	  .kind = POOL_PATH,
	  .access = POOL_ACCESS_CALLER,
	  .path = (char *)"/dev/shm" },
	{ .place.line = 9,
	  .name = (char *)"strict",
	  .kind = POOL_PATH,
	  .path = (char *)"/dev/shm" },
	{ .place.line = 10,
	  .name = (char *)"shared",
	  .kind = POOL_GIVEN,
	  .path = (char *)"/pools/shared",
	  .read_only_path = (char *)"/pools/shared.ro" },
	{ .place.line = 11, .name = (char *)"frames", .size_bytes = 1 << 20, .objects = 64 },
	{ .place.line = 13,
	  .name = (char *)"big_one",
	  .per = POOL_PER_USER,
	  .access = POOL_ACCESS_CALLER,
	  .size_bytes = (UINT64_C(5) << 30) + 4096,
	  .objects = 1,
	  .exec = true,
	  .huge = (char *)"within_size",
	  .mpol = (char *)"bind=static:0,2-3" },
	{ .place.line = 15,
	  .name = (char *)"part",
	  .per = POOL_PER_APP,
	  .size_bytes = MEMORY_BYTES / 4,
	  .objects = 2 },
	{ .place.line = 16,
	  .name = (char *)"units",
	  .per = POOL_PER_UNIT,
	  .size_bytes = 4096,
	  .objects = 2,
	  .mpol = (char *)"interleave" },
};

START_TEST(each_pool_is_read_field_by_field)
{
	const struct pool_config *expected = &pool_rows[_i];
	struct config *config = load_full();
	const struct pool_config *pool = &config->pool[_i];

	ck_assert_uint_eq(config->pool_count, ROWS(pool_rows));
	ck_assert_str_eq(pool->place.file, test_path("text.conf"));
	ck_assert_uint_eq(pool->place.line, expected->place.line);
	ck_assert_str_eq(pool->name, expected->name);
	ck_assert_int_eq(pool->kind, expected->kind);
	ck_assert_int_eq(pool->per, expected->per);
	ck_assert_int_eq(pool->access, expected->access);
	ck_assert_pstr_eq(pool->path, expected->path);
	ck_assert_pstr_eq(pool->read_only_path, expected->read_only_path);
	ck_assert_uint_eq(pool->size_bytes, expected->size_bytes);
	ck_assert_uint_eq(pool->objects, expected->objects);
	ck_assert_int_eq(pool->exec, expected->exec);
	ck_assert_pstr_eq(pool->huge, expected->huge);
	ck_assert_pstr_eq(pool->mpol, expected->mpol);
	config_free(config);
}
END_TEST

START_TEST(a_rule_with_every_key_is_read_field_by_field)
{
	struct config *config = load_full();
	const struct rule_config *rule = &config->rule[0];

	ck_assert_uint_eq(config->rule_count, 4);
	ck_assert_uint_eq(rule->place.line, 22);
	ck_assert_str_eq(rule->name, "full");
	ck_assert(rule->has_user && rule->user_known && rule->user == 0);
	ck_assert(rule->has_group && rule->group_known && rule->group == 0);
	ck_assert(rule->has_sandboxed && rule->sandboxed);
	assert_list(&rule->unit, "a.service");
	assert_list(&rule->user_unit, "b.service c-*");
	assert_list(&rule->app, "org.* net.x");
	assert_list(&rule->label, "l*");
	assert_list(&rule->names, "/a /b-*");
	ck_assert_uint_eq(rule->allow, RIGHT_READ | RIGHT_LIST);
	ck_assert_uint_eq(rule->pool, 3);
	ck_assert(rule->has_max_size && rule->max_size_bytes == 3072);
	ck_assert_uint_eq(rule->mode_mask, 0640);
	ck_assert(rule->lifetime_process && rule->sealed && !rule->delegate);
	ck_assert_int_eq(rule->log, RULE_LOG_NONE);
	config_free(config);
}
END_TEST

START_TEST(a_rule_has_its_defaults)
{
	struct config *config = load_full();
	const struct rule_config *rule = &config->rule[1];

	ck_assert_uint_eq(rule->place.line, 40);
	ck_assert(!rule->has_user && !rule->has_group && !rule->has_sandboxed);
	ck_assert_uint_eq(rule->unit.count + rule->user_unit.count + rule->app.count, 0);
	ck_assert_uint_eq(rule->label.count, 0);
	ck_assert_uint_eq(rule->allow, RIGHT_ALL);
	ck_assert_uint_eq(rule->pool, 0);
	ck_assert(!rule->has_max_size && !rule->lifetime_process && !rule->sealed);
	ck_assert_uint_eq(rule->mode_mask, 0777);
	ck_assert_int_eq(rule->log, RULE_LOG_DENIALS);
	rule = &config->rule[2];
	ck_assert(rule->user_known && rule->user == UINT32_MAX - 1 && rule->delegate);
	ck_assert(rule->group_known && rule->group == UINT32_MAX - 1);
	rule = &config->rule[3];
	ck_assert_str_eq(rule->name, "nothing \"quoted\" \\ # // no comment");
	ck_assert(rule->has_sandboxed && !rule->sandboxed);
	ck_assert_uint_eq(rule->allow, 0);
	ck_assert_uint_eq(rule->pool, SIZE_MAX);
	config_free(config);
}
END_TEST

START_TEST(an_empty_or_missing_configuration_has_the_default_limits)
{
	const char *const nowhere[] = { test_path("not-here"), NULL };
	const struct config_source source = { .directories = nowhere, .owner = geteuid() };
	struct config *config = load_text("");
	struct config_error error;

	ck_assert_uint_eq(config->limits.connections, 16384);
	ck_assert_uint_eq(config->limits.connections_per_user, 1024);
	ck_assert_uint_eq(config->limits.connections_per_context, 256);
	ck_assert_uint_eq(config->limits.contexts, 512);
	ck_assert_uint_eq(config->limits.contexts_per_user, 64);
	ck_assert_uint_eq(config->limits.pools, 1024);
	ck_assert_uint_eq(config->limits.pools_per_user, 64);
	ck_assert_uint_eq(config->limits.sealed, 1000);
	ck_assert_uint_eq(config->limits.subscriptions_per_user, 64);
	ck_assert_uint_eq(config->limits.waits_per_user, 4096);
	ck_assert(!config->require_pidfd);
	ck_assert_uint_eq(config->files.count + config->pool_count + config->rule_count, 0);
	config_free(config);
	ck_assert_int_eq(config_load(&config, &source, &error), 0);
	ck_assert_str_eq(error.text, "");
	ck_assert_uint_eq(config->files.count, 0);
	config_free(config);
	config_free(NULL);
}
END_TEST

START_TEST(an_unknown_user_or_group_is_a_warning)
{
	struct config *config = load_text(
		"rules: ( { name = \"r\"\n  user = \"no\\\\such\\x01\"\n"
		"  group = \"no such\"\n  names = \"/*\"  allow = [] } )\n");
	char expected[PATH_MAX + 128];

	ck_assert_uint_eq(config->warnings.count, 2);
	snprintf(expected, sizeof(expected),
		 "%s:2: there is no user \"no\\x5csuch\\x01\": the rule matches nobody",
		 test_path("text.conf"));
	ck_assert_str_eq(config->warnings.string[0], expected);
	snprintf(expected, sizeof(expected),
		 "%s:3: there is no group \"no such\": the rule matches nobody",
		 test_path("text.conf"));
	ck_assert_str_eq(config->warnings.string[1], expected);
	ck_assert(config->rule[0].has_user && !config->rule[0].user_known);
	ck_assert(config->rule[0].has_group && !config->rule[0].group_known);
	config_free(config);
}
END_TEST

struct size_row {
	const char *written;
	uint64_t bytes;
};

static const struct size_row size_rows[] = {
	{ "1", 4096 },
	{ "4096", 4096 },
	{ "4097", 8192 },
	{ "\"1\"", 4096 },
	{ "\"5K\"", 8192 },
	{ "\"3M\"", 3 << 20 },
	{ "\"3G\"", UINT64_C(3) << 30 },
	{ "\"2T\"", UINT64_C(2) << 40 },
	{ "\"100%\"", MEMORY_BYTES },
	{ "\"1%\"", (MEMORY_BYTES / 100 + 4095) / 4096 * 4096 },
	{ "0x2000", 8192 },
	{ "4294967296L", UINT64_C(1) << 32 },
	{ "9223372036854771712L", UINT64_C(9223372036854771712) },
};

START_TEST(a_size_is_read_and_rounded_up_to_pages)
{
	struct config *config;
	char text[256];

	if (sysconf(_SC_PAGESIZE) != 4096)
		return;
	snprintf(text, sizeof(text), "pools: { p: { size = %s  objects = 1 } }",
		 size_rows[_i].written);
	config = load_text(text);
	ck_assert_uint_eq(config->pool[0].size_bytes, size_rows[_i].bytes);
	config_free(config);
}
END_TEST

static const char *const mpol_rows[] = {
	"default",
	"local",
	"prefer:0",
	"prefer=static:12",
	"bind:0",
	"bind:0-3,5,7-8",
	"bind=relative:0-1",
	"interleave",
	"interleave:0-1",
	"interleave=static:0",
	"interleave=relative",
};

START_TEST(what_tmpfs_takes_as_mpol_is_taken)
{
	struct config *config;
	char text[256];

	snprintf(text, sizeof(text), "pools: { p: { size = 1  objects = 1  mpol = \"%s\" } }",
		 mpol_rows[_i]);
	config = load_text(text);
	ck_assert_str_eq(config->pool[0].mpol, mpol_rows[_i]);
	config_free(config);
}
END_TEST

static const char *const wrong_mpol_rows[] = {
	"bind",	       "bind:",	      "bind:,",	       "bind:0,", "bind:0-1-2",	    "prefer",
	"prefer:",     "prefer:0,1",  "default:0",     "local:0", "default=static", "bind=fixed:0",
	"bind:static", "interleave:", "interleave=:0", "binds:0", "bind:0,size=1",  "bind:0 ",
};

START_TEST(what_tmpfs_refuses_as_mpol_is_refused)
{
	struct config *config = NULL;
	struct config_error error;
	char text[256];

	snprintf(text, sizeof(text), "pools: { p: { size = 1  objects = 1  mpol = \"%s\" } }",
		 wrong_mpol_rows[_i]);
	write_text("text.conf", text);
	ck_assert_msg(load_alone(&config, test_path("text.conf"), &error) == -EINVAL, "%s",
		      wrong_mpol_rows[_i]);
}
END_TEST

START_TEST(the_same_files_give_the_same_config_and_a_wrong_one_changes_nothing)
{
	struct config *first = load_full(), *second, *kept;
	struct config_error error;

	second = load_right(test_path("text.conf"));
	ck_assert_mem_eq(&first->limits, &second->limits, sizeof(first->limits));
	ck_assert_uint_eq(first->rule_count, second->rule_count);
	for (size_t i = 0; i < first->rule_count; i++) {
		ck_assert_str_eq(first->rule[i].name, second->rule[i].name);
		ck_assert_uint_eq(first->rule[i].pool, second->rule[i].pool);
	}
	kept = second;
	write_text("text.conf", "rules: (\n");
	ck_assert_int_eq(load_alone(&second, test_path("text.conf"), &error), -EINVAL);
	ck_assert_ptr_eq(second, kept);
	ck_assert_str_eq(second->rule[0].name, "full");
	config_free(first);
	config_free(second);
}
END_TEST

/* The shipped default, copied to where packages have it. */
static void install_default(void)
{
	_cleanup_free_ char *text = NULL;
	size_t size;

	make_three();
	text = read_whole(test_source_path("../systemd/90-default.conf"), &size);
	write_text("2/shmbroker.conf.d/90-default.conf", text);
}

START_TEST(the_shipped_default_is_right)
{
	struct config *config = NULL;
	struct config_error error;

	install_default();
	ck_assert_msg(load_three(&config, &error) == 0, "%s", error.text);
	ck_assert_uint_eq(config->pool_count, 2);
	ck_assert_str_eq(config->pool[0].name, "host");
	ck_assert_str_eq(config->pool[1].name, "apps");
	ck_assert_uint_eq(config->pool[1].size_bytes, MEMORY_BYTES / 4);
	ck_assert_uint_eq(config->pool[1].objects, 4096);
	ck_assert_int_eq(config->pool[1].per, POOL_PER_APP);
	ck_assert_uint_eq(config->rule_count, 2);
	ck_assert_str_eq(config->rule[0].name, "apps keep their own");
	ck_assert_str_eq(config->rule[1].name, "users as before");
	config_free(config);
}
END_TEST

/* Puts an example before the shipped default, where it would stand. */
static void assert_example(const char *text)
{
	struct config *config = NULL;
	struct config_error error;

	write_text("0/shmbroker.conf.d/10-example.conf", text);
	ck_assert_msg(load_three(&config, &error) == 0, "%s\n%s", error.text, text);
	ck_assert_uint_gt(config->rule_count, 2);
	ck_assert_uint_eq(config->warnings.count, 0);
	config_free(config);
}

START_TEST(the_shipped_defaults_commented_example_is_right)
{
	_cleanup_free_ char *text = NULL, *example = calloc(1, 65536);
	char *saved = NULL;
	size_t size;

	install_default();
	ck_assert_ptr_nonnull(example);
	text = read_whole(test_source_path("../systemd/90-default.conf"), &size);
	for (char *line = strtok_r(text, "\n", &saved); line; line = strtok_r(NULL, "\n", &saved))
		if (!strncmp(line, "#    ", 5))
			strcat(strcat(example, line + 1), "\n");
	assert_example(example);
}
END_TEST

START_TEST(the_manuals_examples_are_right)
{
	_cleanup_free_ char *text = NULL;
	size_t size, count = 0;
	char *begin, *end;

	install_default();
	text = read_whole(test_source_path("../daemon/shmbroker.conf.5.scd"), &size);
	for (end = text; (begin = strstr(end, "\n```\n")); count++) {
		begin += 5;
		end = strstr(begin, "\n```\n");
		ck_assert_ptr_nonnull(end);
		end[1] = '\0';
		assert_example(begin);
		end += 4;
	}
	ck_assert_uint_ge(count, 4);
}
END_TEST

START_TEST(users_and_groups_are_found_by_name)
{
	_cleanup_free_ char *home = NULL;
	uid_t uid = 5;
	gid_t gid = 5;

	ck_assert_int_eq(user_from_name("root", &uid), 0);
	ck_assert_uint_eq(uid, 0);
	ck_assert_int_eq(user_from_name("no such user", &uid), -ENOENT);
	ck_assert_int_eq(group_from_name("root", &gid), 0);
	ck_assert_uint_eq(gid, 0);
	ck_assert_int_eq(group_from_name("no such group", &gid), -ENOENT);
	ck_assert_int_eq(user_home(0, &home), 0);
	ck_assert_int_eq(*home, '/');
}
END_TEST

struct escape_row {
	const char *text;
	size_t length, size;
	const char *expected;
};

static const struct escape_row escape_rows[] = {
	{ "plain ~", 7, 64, "plain ~" },
	{ "", 0, 64, "" },
	{ "a\0b", 3, 64, "a\\x00b" },
	{ "\x1f\x20\x7e\x7f\xff\\", 6, 64, "\\x1f ~\\x7f\\xff\\x5c" },
	{ "abc", 3, 4, "abc" },
	{ "abc", 3, 3, "ab" },
	{ "a\n", 2, 6, "a\\x0a" },
	{ "a\n", 2, 5, "a" },
	{ "a\nb", 3, 5, "a" },
	{ "abc", 3, 1, "" },
};

START_TEST(bytes_are_escaped_whole_or_not_at_all)
{
	const struct escape_row *row = &escape_rows[_i];
	char buffer[64];

	memset(buffer, '!', sizeof(buffer));
	ck_assert_uint_eq(escape(buffer, row->size, row->text, row->length), strlen(row->expected));
	ck_assert_str_eq(buffer, row->expected);
	buffer[0] = '!';
	ck_assert_uint_eq(escape(buffer, 0, row->text, row->length), 0);
	ck_assert_int_eq(buffer[0], '!');
}
END_TEST

Suite *suite_config(void)
{
	Suite *suite = suite_create("config");
	TCase *tcase = tcase_create("config");

	tcase_add_checked_fixture(tcase, test_fds_setup, test_fds_teardown);
	tcase_add_test(tcase, each_wrong_file_is_refused_with_its_exact_message);
	tcase_add_test(tcase, limits_and_identity_are_read);
	tcase_add_loop_test(tcase, each_pool_is_read_field_by_field, 0, ROWS(pool_rows));
	tcase_add_test(tcase, a_rule_with_every_key_is_read_field_by_field);
	tcase_add_test(tcase, a_rule_has_its_defaults);
	tcase_add_test(tcase, an_empty_or_missing_configuration_has_the_default_limits);
	tcase_add_test(tcase, an_unknown_user_or_group_is_a_warning);
	tcase_add_loop_test(tcase, a_size_is_read_and_rounded_up_to_pages, 0, ROWS(size_rows));
	tcase_add_loop_test(tcase, what_tmpfs_takes_as_mpol_is_taken, 0, ROWS(mpol_rows));
	tcase_add_loop_test(tcase, what_tmpfs_refuses_as_mpol_is_refused, 0, ROWS(wrong_mpol_rows));
	add_config_file_tests(tcase);
	tcase_add_test(tcase, the_same_files_give_the_same_config_and_a_wrong_one_changes_nothing);
	tcase_add_test(tcase, the_shipped_default_is_right);
	tcase_add_test(tcase, the_shipped_defaults_commented_example_is_right);
	tcase_add_test(tcase, the_manuals_examples_are_right);
	tcase_add_test(tcase, users_and_groups_are_found_by_name);
	tcase_add_loop_test(tcase, bytes_are_escaped_whole_or_not_at_all, 0, ROWS(escape_rows));
	suite_add_tcase(suite, tcase);
	return suite;
}
