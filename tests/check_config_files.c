/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The half of the configuration's suite about files: where they are looked up,
 * in which order, and whose are trusted.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/config.h"
#include "daemon/fd.h"
#include "tests/check_config.h"
#include "tests/config_fixture.h"
#include "tests/test.h"

/* A file with one rule, named after it. */
static void write_rule(const char *below)
{
	char text[256];

	snprintf(text, sizeof(text), "rules: ( { name = \"%s\"  names = \"/*\"  allow = [] } )\n",
		 below);
	write_text(below, text);
}

/* The names of all rules, in order, without ".conf" and directories' common part. */
static void assert_rules(const char *expected)
{
	struct config *config = NULL;
	struct config_error error;
	char text[1024] = "";

	ck_assert_msg(load_three(&config, &error) == 0, "%s", error.text);
	for (size_t i = 0; i < config->rule_count; i++) {
		const char *name = config->rule[i].name, *slash = strrchr(name, '/');

		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%c:%s", i ? " " : "",
			 *name, slash + 1);
		without_directory(config->files.string[i]);
		ck_assert_str_eq(config->files.string[i], name);
	}
	ck_assert_uint_eq(config->files.count, config->rule_count);
	ck_assert_str_eq(text, expected);
	config_free(config);
}

START_TEST(files_are_read_in_order_and_the_first_of_a_name_masks_the_others)
{
	make_three();
	assert_rules("");
	write_rule("2/shmbroker.conf.d/90-default.conf");
	write_rule("2/shmbroker.conf.d/50-a.conf");
	write_rule("1/shmbroker.conf");
	assert_rules("1:shmbroker.conf 2:50-a.conf 2:90-default.conf");
	write_rule("0/shmbroker.conf.d/10-b.conf");
	write_rule("1/shmbroker.conf.d/50-a.conf");
	write_rule("2/shmbroker.conf");
	assert_rules("1:shmbroker.conf 0:10-b.conf 1:50-a.conf 2:90-default.conf");
	write_rule("0/shmbroker.conf.d/50-a.conf");
	write_rule("0/shmbroker.conf.d/50-B.conf");
	write_rule("0/shmbroker.conf.d/9-z.conf");
	assert_rules("1:shmbroker.conf 0:10-b.conf 0:50-B.conf 0:50-a.conf 0:9-z.conf "
		     "2:90-default.conf");
}
END_TEST

START_TEST(a_link_to_null_or_an_empty_file_removes_the_file_of_its_name)
{
	make_three();
	write_rule("2/shmbroker.conf");
	write_rule("2/shmbroker.conf.d/50-a.conf");
	write_rule("2/shmbroker.conf.d/60-b.conf");
	write_rule("2/shmbroker.conf.d/70-c.conf");
	ck_assert_int_eq(symlink("/dev/null", test_path("0/shmbroker.conf.d/50-a.conf")), 0);
	write_text("1/shmbroker.conf.d/60-b.conf", "");
	assert_rules("2:shmbroker.conf 2:70-c.conf");
	ck_assert_int_eq(symlink("/dev/null", test_path("0/shmbroker.conf")), 0);
	assert_rules("2:70-c.conf");
}
END_TEST

START_TEST(other_files_of_the_directory_are_left_out)
{
	make_three();
	write_text("0/shmbroker.conf.d/README", "not libconfig {");
	write_text("0/shmbroker.conf.d/.conf", "not libconfig {");
	write_text("0/shmbroker.conf.d/.50-a.conf", "not libconfig {");
	write_text("0/shmbroker.conf.d/50-a.conf~", "not libconfig {");
	write_text("0/shmbroker.conf.d/50-a.conf.bak", "not libconfig {");
	assert_rules("");
}
END_TEST

START_TEST(a_limit_of_two_files_is_the_first_ones)
{
	struct config *config = NULL;
	struct config_error error;

	make_three();
	write_text("2/shmbroker.conf.d/10-a.conf", "limits: { pools = 5 }\n");
	write_text("0/shmbroker.conf.d/20-b.conf",
		   "limits: { pools = 6  contexts = 7 }\nidentity: { require-pidfd = false }\n");
	write_text("0/shmbroker.conf.d/30-c.conf",
		   "limits: { contexts = 8 }\nidentity: { require-pidfd = true }\n");
	ck_assert_msg(load_three(&config, &error) == 0, "%s", error.text);
	ck_assert_uint_eq(config->limits.pools, 5);
	ck_assert_uint_eq(config->limits.contexts, 7);
	ck_assert(!config->require_pidfd);
	config_free(config);
}
END_TEST

struct two_files_row {
	const char *first, *second; /* of 10-a.conf and 20-b.conf */
	const char *expected;	    /* NULL: both are right */
};

static const struct two_files_row two_files_rows[] = {
	{ "rules: ( { name = \"r\"  names = \"/*\"  allow = \"all\"  pool = \"p\" } )",
	  "pools: { p: { path = \"/p\" } }", NULL },
	{ "pools: { p: { path = \"/p\" } }", "\npools: { p: { path = \"/p\" } }",
	  "1/shmbroker.conf.d/20-b.conf:2: there is a pool \"p\" already, in "
	  "0/shmbroker.conf.d/10-a.conf:1" },
	{ "\nrules: ( { name = \"r\"  names = \"/*\"  allow = [] } )",
	  "rules: ( { name = \"r\"  names = \"/*\"  allow = [] } )",
	  "1/shmbroker.conf.d/20-b.conf:1: there is a rule \"r\" already, in "
	  "0/shmbroker.conf.d/10-a.conf:2" },
	{ "rules: ( { name = \"r\"  names = \"/*\"  allow = \"all\"\n  pool = \"q\" } )",
	  "pools: { p: { path = \"/p\" } }",
	  "0/shmbroker.conf.d/10-a.conf:2: there is no pool \"q\", the nearest is \"p\"; legal "
	  "are: "
	  "p" },
	{ "limits: { pools = 5 }", "limits: { pools = 0 }",
	  "1/shmbroker.conf.d/20-b.conf:1: \"pools\" must be 1 to 65536, not 0" },
};

START_TEST(files_are_one_configuration_with_one_name_for_each_thing)
{
	const struct two_files_row *row = &two_files_rows[_i];
	struct config *config = NULL;
	struct config_error error;
	int r;

	make_three();
	write_text("0/shmbroker.conf.d/10-a.conf", row->first);
	write_text("1/shmbroker.conf.d/20-b.conf", row->second);
	r = load_three(&config, &error);
	without_directory(error.text);
	ck_assert_str_eq(error.text, row->expected ? row->expected : "");
	ck_assert_int_eq(r, row->expected ? -EINVAL : 0);
	config_free(config);
}
END_TEST

/* What is done to a directory with a right file `f.conf`, and what is said then. */
struct trust_row {
	const char *what; /* below the test's directory */
	mode_t mode;	  /* 0: leave it */
	uid_t uid;	  /* (uid_t)-1: leave it; else it needs root */
	uid_t owner;
	int expected;
	const char *text; /* in the message */
};

#define SAME ((uid_t)-1)

static const struct trust_row trust_rows[] = {
	{ "d/f.conf", 0600, SAME, SAME, 0, "" },
	{ "d/f.conf", 0664, SAME, SAME, -EPERM, "d/f.conf: the file can be written by others" },
	{ "d/f.conf", 0646, SAME, SAME, -EPERM, "(mode 0646): chmod go-w" },
	{ "d", 0700, SAME, SAME, 0, "" },
	{ "d", 0775, SAME, SAME, -EPERM, "d: the directory can be written by others" },
	{ "d", 0777, SAME, SAME, -EPERM, "d: the directory can be written by others" },
	{ "d", 01777, SAME, SAME, -EPERM, "(mode 1777): chmod go-w" },
	{ "d/f.conf", 0, 1000, 0, -EPERM, "d/f.conf: the file is owned by uid 1000, not by root" },
	{ "d/f.conf", 0, 1000, 1000, 0, "" },
	{ "d/f.conf", 0, 1000, 1001, -EPERM, "uid 1000, not by root or uid 1001" },
	{ "d", 0, 1000, 0, -EPERM, "d: the directory is owned by uid 1000, not by root" },
	{ "d", 0, 1000, 1000, 0, "" },
	{ "d", 0, 0, 1000, 0, "" },
};

static void load_untrusted(const struct trust_row *row, const char *file,
			   const char *const *directories)
{
	const struct config_source source = {
		.file = file,
		.directories = directories,
		.owner = row->owner == SAME ? geteuid() : row->owner,
	};
	struct config *config = NULL;
	struct config_error error;

	ck_assert_msg(config_load(&config, &source, &error) == row->expected, "%s", error.text);
	ck_assert_msg(strstr(error.text, row->text) != NULL, "%s", error.text);
	config_free(config);
}

START_TEST(what_another_owns_or_may_write_is_refused)
{
	const struct trust_row *row = &trust_rows[_i];

	TEST_NEEDS(row->uid == SAME || test_is_root(), "only root can give files away");
	ck_assert_int_eq(mkdir(test_path("d"), 0755), 0);
	ck_assert_int_eq(chmod(test_path("d"), 0755), 0);
	write_text("d/f.conf", "limits: { pools = 5 }\n");
	if (row->uid != SAME)
		ck_assert_int_eq(chown(test_path(row->what), row->uid, (gid_t)-1), 0);
	if (row->mode)
		ck_assert_int_eq(chmod(test_path(row->what), row->mode), 0);
	load_untrusted(row, test_path("d/f.conf"), NULL);
}
END_TEST

static const struct trust_row trust_place_rows[] = {
	{ "d/shmbroker.conf.d/f.conf", 0664, SAME, SAME, -EPERM,
	  "d/shmbroker.conf.d/f.conf: the f" },
	{ "d/shmbroker.conf.d", 0775, SAME, SAME, -EPERM, "d/shmbroker.conf.d: the directory can" },
	{ "d", 0757, SAME, SAME, -EPERM, "d: the directory can" },
	{ "d/shmbroker.conf.d", 0, 1000, 0, -EPERM, "d/shmbroker.conf.d: the directory is owned" },
	{ "d", 0, 1000, 0, -EPERM, "d: the directory is owned" },
	{ "d", 0, SAME, SAME, 0, "" },
};

START_TEST(each_directory_on_the_way_to_a_drop_in_is_checked)
{
	const struct trust_row *row = &trust_place_rows[_i];
	const char *const directories[] = { test_path("d"), NULL };

	TEST_NEEDS(row->uid == SAME || test_is_root(), "only root can give files away");
	ck_assert_int_eq(mkdir(test_path("d"), 0755), 0);
	ck_assert_int_eq(mkdir(test_path("d/shmbroker.conf.d"), 0755), 0);
	write_text("d/shmbroker.conf.d/f.conf", "limits: { pools = 5 }\n");
	if (row->uid != SAME)
		ck_assert_int_eq(chown(test_path(row->what), row->uid, (gid_t)-1), 0);
	if (row->mode)
		ck_assert_int_eq(chmod(test_path(row->what), row->mode), 0);
	load_untrusted(row, NULL, directories);
}
END_TEST

START_TEST(a_link_in_the_place_of_the_drop_ins_is_refused_as_such)
{
	const char *const directories[] = { test_path("d"), NULL };
	const struct config_source source = { .directories = directories, .owner = geteuid() };
	struct config *config = NULL;
	struct config_error error;

	ck_assert_int_eq(mkdir(test_path("d"), 0755), 0);
	ck_assert_int_eq(mkdir(test_path("real"), 0755), 0);
	ck_assert_int_eq(symlink("../real", test_path("d/shmbroker.conf.d")), 0);
	ck_assert_int_eq(config_load(&config, &source, &error), -EINVAL);
	without_directory(error.text);
	ck_assert_str_eq(error.text, "d/shmbroker.conf.d: is no directory, or a symbolic link to "
				     "one: put the directory itself here");
}
END_TEST

/* What stands in the place of a file, and the error. */
START_TEST(what_is_no_regular_file_is_refused)
{
	struct config *config = NULL;
	struct config_error error;

	write_text("real.conf", "");
	ck_assert_int_eq(symlink("real.conf", test_path("link.conf")), 0);
	ck_assert_int_eq(load_alone(&config, test_path("link.conf"), &error), -ELOOP);
	without_directory(error.text);
	ck_assert_str_eq(error.text, "link.conf: is a symbolic link, and only one to /dev/null may "
				     "be: put the file itself here");
	ck_assert_int_eq(symlink("nowhere", test_path("dangling.conf")), 0);
	ck_assert_int_eq(load_alone(&config, test_path("dangling.conf"), &error), -ELOOP);
	ck_assert_int_eq(mkfifo(test_path("fifo.conf"), 0600), 0);
	ck_assert_int_eq(load_alone(&config, test_path("fifo.conf"), &error), -EINVAL);
	ck_assert_int_eq(mkdir(test_path("dir.conf"), 0700), 0);
	ck_assert_int_eq(load_alone(&config, test_path("dir.conf"), &error), -EINVAL);
	ck_assert_int_eq(load_alone(&config, test_path("missing.conf"), &error), -ENOENT);
	without_directory(error.text);
	ck_assert_str_eq(error.text, "missing.conf: open: No such file or directory");
	ck_assert_int_eq(load_alone(&config, test_path("missing/a.conf"), &error), -ENOENT);
	ck_assert_ptr_null(config);
}
END_TEST

START_TEST(a_file_over_four_megabytes_is_refused)
{
	size_t size = 4u * 1024 * 1024;
	char *text = malloc(size + 1);
	struct config *config = NULL;
	struct config_error error;

	ck_assert_ptr_nonnull(text);
	memset(text, '\n', size + 1);
	write_file(test_path("big.conf"), text, size);
	config_free(load_right(test_path("big.conf")));
	write_file(test_path("big.conf"), text, size + 1);
	ck_assert_int_eq(load_alone(&config, test_path("big.conf"), &error), -EFBIG);
	free(text);
}
END_TEST

struct directories_row {
	bool is_user;
	const char *config_home, *home;
	const char *expected;
};

static const struct directories_row directories_rows[] = {
	{ false, "/c", "/h", "/etc/shmbroker /run/shmbroker /usr/lib/shmbroker " VENDOR_DIRECTORY },
	{ true, "/c", "/h",
	  "/c/shmbroker /etc/shmbroker/user /usr/lib/shmbroker/user " VENDOR_DIRECTORY "/user" },
	{ true, NULL, "/h",
	  "/h/.config/shmbroker /etc/shmbroker/user /usr/lib/shmbroker/user " VENDOR_DIRECTORY
	  "/user" },
	{ true, "relative", "/h",
	  "/h/.config/shmbroker /etc/shmbroker/user /usr/lib/shmbroker/user " VENDOR_DIRECTORY
	  "/user" },
	{ true, "", "/h",
	  "/h/.config/shmbroker /etc/shmbroker/user /usr/lib/shmbroker/user " VENDOR_DIRECTORY
	  "/user" },
};

static void set_or_unset(const char *name, const char *value)
{
	ck_assert_int_eq(value ? setenv(name, value, 1) : unsetenv(name), 0);
}

START_TEST(the_directories_are_those_of_the_interface)
{
	const struct directories_row *row = &directories_rows[_i];
	struct string_list list;

	set_or_unset("XDG_CONFIG_HOME", row->config_home);
	set_or_unset("HOME", row->home);
	ck_assert_int_eq(config_directories(&list, row->is_user), 0);
	assert_list(&list, row->expected);
	ck_assert_ptr_null(list.string[list.count]);
	string_list_done(&list);
	ck_assert_uint_eq(list.count, 0);
}
END_TEST

void add_config_file_tests(TCase *tcase)
{
	tcase_add_test(tcase, files_are_read_in_order_and_the_first_of_a_name_masks_the_others);
	tcase_add_test(tcase, a_link_to_null_or_an_empty_file_removes_the_file_of_its_name);
	tcase_add_test(tcase, other_files_of_the_directory_are_left_out);
	tcase_add_test(tcase, a_limit_of_two_files_is_the_first_ones);
	tcase_add_loop_test(tcase, files_are_one_configuration_with_one_name_for_each_thing, 0,
			    ROWS(two_files_rows));
	tcase_add_loop_test(tcase, what_another_owns_or_may_write_is_refused, 0, ROWS(trust_rows));
	tcase_add_loop_test(tcase, each_directory_on_the_way_to_a_drop_in_is_checked, 0,
			    ROWS(trust_place_rows));
	tcase_add_test(tcase, a_link_in_the_place_of_the_drop_ins_is_refused_as_such);
	tcase_add_test(tcase, what_is_no_regular_file_is_refused);
	tcase_add_test(tcase, a_file_over_four_megabytes_is_refused);
	tcase_add_loop_test(tcase, the_directories_are_those_of_the_interface, 0,
			    ROWS(directories_rows));
}
