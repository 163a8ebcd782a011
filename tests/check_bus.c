/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* D-Bus: what each method answers, to whom, and how it fails. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/fd.h"
#include "tests/bus_fixture.h"
#include "tests/check_bus.h"
#include "tests/test.h"

const char check_bus_config[] =
	"limits: { subscriptions-per-user = 3 }\n"
	"pools: { host: { path = \"@host@\" access = \"caller\" }\n"
	"         frames: { size = \"1M\" objects = 8 }\n"
	"         own: { per = \"user\" size = \"64K\" objects = 4 } }\n"
	"rules: ( { name = \"frames\" names = \"/frames-*\" allow = \"all\" pool = \"frames\" },\n"
	"         { name = \"own\" names = \"/own-*\" allow = \"all\" pool = \"own\" },\n"
	"         { name = \"read\" names = \"/read-*\" allow = \"read\" pool = \"host\" },\n"
	"         { name = \"no\" names = \"/no-*\" allow = [] },\n"
	"         { name = \"small\" names = \"/small-*\" allow = \"all\" pool = \"host\" "
	"max-size = \"4K\" },\n"
	"         { name = \"all\" sandboxed = false names = \"/*\" allow = \"all\" "
	"pool = \"host\" } )\n";

/* The value of a key in an a{sv} that begins at the message's place; asserts that it is there. */
static void read_entry(sd_bus_message *message, const char *key, const char *type, void *ret)
{
	const char *name;

	ck_assert_int_ge(sd_bus_message_rewind(message, true), 0);
	ck_assert_int_ge(sd_bus_message_enter_container(message, 'a', "{sv}"), 0);
	while (sd_bus_message_enter_container(message, 'e', "sv") > 0) {
		ck_assert_int_ge(sd_bus_message_read(message, "s", &name), 0);
		if (strcmp(name, key) == 0) {
			ck_assert_msg(sd_bus_message_read(message, "v", type, ret) >= 0, "%s", key);
			return;
		}
		ck_assert_int_ge(sd_bus_message_skip(message, "v"), 0);
		ck_assert_int_ge(sd_bus_message_exit_container(message), 0);
	}
	ck_abort_msg("there is no %s", key);
}

START_TEST(open_stat_list_and_unlink_are_about_the_same_object)
{
	static const char *const names[] = { "/frames-1", "/own-1", "/x" };
	sd_bus_message *reply = NULL;
	struct bus_fixture f;
	const char *text;
	uint64_t size;
	struct stat st;
	int fd;

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	bus_fixture_start(&f, check_bus_config);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		ck_assert_int_eq(bus_fixture_call(f.client, &reply, NULL, "Open", "sasua{sv}",
						  names[i], 3, "rdwr", "creat", "excl", 0604, 1,
						  "size", "t", UINT64_C(5000)),
				 0);
		ck_assert_int_ge(sd_bus_message_read(reply, "h", &fd), 0);
		ck_assert_int_eq(fstat(fd, &st), 0);
		ck_assert_int_eq(st.st_size, 5000);
		ck_assert_int_eq(write(fd, names[i], 2), 2);
		sd_bus_message_unref(reply);

		ck_assert_int_eq(bus_fixture_call(f.client, &reply, NULL, "Stat", "s", names[i]),
				 0);
		read_entry(reply, "size", "t", &size);
		ck_assert_uint_eq(size, 5000);
		read_entry(reply, "name", "s", &text);
		ck_assert_str_eq(text, names[i]);
		sd_bus_message_unref(reply);

		ck_assert_int_eq(bus_fixture_call(f.client, &reply, NULL, "List", "s", names[i]),
				 0);
		ck_assert_int_ge(sd_bus_message_enter_container(reply, 'a', "(sta{sv})"), 0);
		ck_assert_int_gt(sd_bus_message_enter_container(reply, 'r', "sta{sv}"), 0);
		ck_assert_int_ge(sd_bus_message_read(reply, "st", &text, &size), 0);
		ck_assert_str_eq(text, names[i]);
		ck_assert_uint_eq(size, 5000);
		sd_bus_message_unref(reply);

		fd = bus_fixture_open(f.client, names[i], "rdonly", 0);
		ck_assert_int_ge(fd, 0);
		ck_assert_int_eq(write(fd, "", 1), -1);
		close(fd);
		ck_assert_int_eq(bus_fixture_call(f.client, NULL, NULL, "Unlink", "s", names[i]),
				 0);
		ck_assert_int_eq(bus_fixture_call(f.client, NULL, NULL, "Stat", "s", names[i]),
				 ENOENT);
	}
	bus_fixture_stop(&f);
}
END_TEST

/* Made by the library, which alone can map it first: over the bus it is found, opened and unlinked.
 */
START_TEST(what_is_sealed_is_sealed_on_the_bus)
{
	static const struct shmb_how how = { .oflag = O_RDWR | O_CREAT,
					     .mode = 0600,
					     .size = 4096,
					     .flags = SHMB_UNPUBLISHED | SHMB_SEALED };
	const int sealed = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW;
	sd_bus_message *reply;
	struct bus_fixture f;
	char content[8] = "";
	uint64_t size;
	struct shmb *c;
	int fd, flag;

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	bus_fixture_start(&f, check_bus_config);
	c = fixture_connect(&f.broker);
	fd = shmb_open_how(c, "/frames-s", &how, sizeof(how));
	ck_assert_msg(fd >= 0, "%s", shmb_reason(c));
	ck_assert_int_eq(write(fd, "sealed", 6), 6);
	close(fd);
	ck_assert_int_eq(shmb_publish(c, "/frames-s", 0), 0);

	ck_assert_int_eq(bus_fixture_call(f.client, &reply, NULL, "Stat", "s", "/frames-s"), 0);
	read_entry(reply, "sealed", "b", &flag);
	ck_assert_int_eq(flag, 1);
	read_entry(reply, "object", "b", &flag);
	ck_assert_int_eq(flag, 1);
	read_entry(reply, "size", "t", &size);
	ck_assert_uint_eq(size, 4096);
	sd_bus_message_unref(reply);
	ck_assert_int_eq(bus_fixture_open(f.client, "/frames-s", "rdwr", 0), -EACCES);
	fd = bus_fixture_open(f.client, "/frames-s", "rdonly", 0);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(read(fd, content, 6), 6);
	ck_assert_str_eq(content, "sealed");
	ck_assert_int_eq(fcntl(fd, F_GET_SEALS) & sealed, sealed);
	ck_assert_int_eq(write(fd, "x", 1), -1);
	close(fd);
	ck_assert_int_eq(bus_fixture_call(f.client, NULL, NULL, "Unlink", "s", "/frames-s"), 0);
	ck_assert_int_eq(bus_fixture_open(f.client, "/frames-s", "rdonly", 0), -ENOENT);
	shmb_disconnect(c);
	bus_fixture_stop(&f);
}
END_TEST

/* The same requests over the socket and over the bus. */
static int open_either(struct bus_fixture *f, struct shmb *c, bool by_bus, const char *name,
		       bool create)
{
	return by_bus ? bus_fixture_open(f->client, name, create ? "rdwr creat" : "rdonly", 0600)
		      : shmb_open(c, name, create ? O_RDWR | O_CREAT : O_RDONLY, 0600);
}

START_TEST(both_transports_answer_alike)
{
	static const struct {
		const char *name;
		bool create;
		int error;
	} rows[] = {
		{ "/frames-2", false, ENOENT },
		{ "/frames-2", true, 0 },
		{ "/frames-2", false, 0 },
		{ "//frames-2", false, 0 },
		{ "/no-1", false, EACCES },
		{ "/no-1", true, EACCES },
		{ "/read-1", true, EACCES },
		{ "/read-1", false, ENOENT },
		{ "/own-2", true, 0 },
		{ "/own-2", false, 0 },
		{ "", false, EINVAL },
		{ "/", true, EINVAL },
		{ "..", false, EINVAL },
		{ "/a/b", true, EINVAL },
		{ "/.shmbroker.x", true, EINVAL },
	};
	struct bus_fixture f;
	struct shmb *c;

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	bus_fixture_start(&f, check_bus_config);
	c = fixture_connect(&f.broker);
	for (int by_bus = 0; by_bus < 2; by_bus++) {
		for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
			int fd = open_either(&f, c, by_bus, rows[i].name, rows[i].create);

			ck_assert_msg(rows[i].error ? fd == -rows[i].error : fd >= 0,
				      "row %zu by %s: %d", i, by_bus ? "bus" : "socket", fd);
			fd_close(fd);
		}
		shmb_unlink(c, "/frames-2");
		shmb_unlink(c, "/own-2");
	}
	shmb_disconnect(c);
	bus_fixture_stop(&f);
}
END_TEST

/* D-Bus lets a caller leave the interface out; what isn't one of the calls is sd-bus's to refuse.
 */
START_TEST(a_call_is_known_without_its_interface_and_by_its_signature)
{
	static const struct {
		const char *path, *interface, *member, *signature, *error;
	} rows[] = {
		{ BUS_TEST_PATH, NULL, "Unlink", "s", SD_BUS_ERROR_FILE_NOT_FOUND },
		{ BUS_TEST_PATH, BUS_TEST_NAME, "Unlink", "s", SD_BUS_ERROR_FILE_NOT_FOUND },
		{ BUS_TEST_PATH, BUS_TEST_NAME, "Unlink", "o", SD_BUS_ERROR_INVALID_ARGS },
		{ BUS_TEST_PATH, BUS_TEST_NAME, "Remove", "s", SD_BUS_ERROR_UNKNOWN_METHOD },
		{ BUS_TEST_PATH, "org.shmbroker.Other", "Unlink", "s",
		  SD_BUS_ERROR_UNKNOWN_METHOD },
		{ "/elsewhere", BUS_TEST_NAME, "Unlink", "s", SD_BUS_ERROR_UNKNOWN_OBJECT },
	};
	struct bus_fixture f;

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	bus_fixture_start(&f, check_bus_config);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		sd_bus_error error = SD_BUS_ERROR_NULL;

		ck_assert_int_lt(sd_bus_call_method(f.client, BUS_TEST_NAME, rows[i].path,
						    rows[i].interface, rows[i].member, &error, NULL,
						    rows[i].signature, "/nothing"),
				 0);
		ck_assert_str_eq(error.name, rows[i].error);
		sd_bus_error_free(&error);
	}
	bus_fixture_stop(&f);
}
END_TEST

START_TEST(an_error_keeps_its_number_and_says_why)
{
	static const struct {
		const char *name, *flag, *other, *option, *type;
		uint32_t mode;
		uint64_t value;
		int error;
		const char *text;
	} rows[] = {
		{ "/x", "rdonly", "rdwr", NULL, NULL, 0, 0, EINVAL, "\"rdwr\" contradicts" },
		{ "/x", "creat", "excl", NULL, NULL, 0, 0, EINVAL, "rdonly, wronly, rdwr" },
		{ "/x", "rdonly", "bla", NULL, NULL, 0, 0, EINVAL, "unknown flag \"bla\"" },
		{ "/x", "rdwr", "creat", "sise", "t", 0600, 1, EINVAL, "unknown option \"sise\"" },
		{ "/x", "rdwr", "creat", "size", "u", 0600, 1, EINVAL, "\"size\" of type \"u\"" },
		{ "/x", "rdwr", "creat", NULL, NULL, 04600, 0, EINVAL, "permission bits" },
		{ "/none", "rdonly", "excl", NULL, NULL, 0, 0, ENOENT, "no such object" },
		{ "/no-1", "rdonly", "rdonly", NULL, NULL, 0, 0, EACCES, "rule \"no\" does not" },
		{ "/read-1", "rdonly", "trunc", NULL, NULL, 0, 0, EACCES, "write" },
		{ "/there", "rdwr", "creat", NULL, NULL, 0600, 0, 0, "" },
		{ "/frames-9", "rdwr", "creat", "size", "t", 0600, 2 << 20, ENOSPC, "pool" },
		{ "/small-1", "rdwr", "creat", "size", "t", 0600, 8192, EFBIG, "" },
	};
	char text[256], name[5000];
	struct bus_fixture f;
	int error;

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	bus_fixture_start(&f, check_bus_config);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		error = rows[i].option
				? bus_fixture_call(f.client, NULL, text, "Open", "sasua{sv}",
						   rows[i].name, 2, rows[i].flag, rows[i].other,
						   rows[i].mode, 1, rows[i].option, rows[i].type,
						   rows[i].value)
				: bus_fixture_call(f.client, NULL, text, "Open", "sasua{sv}",
						   rows[i].name, 2, rows[i].flag, rows[i].other,
						   rows[i].mode, 0);
		ck_assert_msg(error == rows[i].error && strstr(text, rows[i].text),
			      "row %zu: %d: %s", i, error, text);
	}
	ck_assert_int_eq(bus_fixture_call(f.client, NULL, text, "Open", "sasua{sv}", "/there", 3,
					  "rdwr", "creat", "excl", 0600, 0),
			 EEXIST);
	memset(name, 'a', sizeof(name));
	for (size_t size = 256; size < sizeof(name); size += 4700) {
		name[size] = 0;
		ck_assert_int_eq(bus_fixture_open(f.client, name, "rdonly", 0), -ENAMETOOLONG);
		name[size] = 'a';
	}
	ck_assert_int_eq(
		bus_fixture_call(f.client, NULL, text, "CreateContext", "sa{sv}", "a/b", 0),
		EINVAL);
	ck_assert_int_eq(bus_fixture_call(f.client, NULL, text, "CreateContext", "sa{sv}", "a", 1,
					  "x", "b", true),
			 EINVAL);
	ck_assert_int_eq(
		bus_fixture_call(f.client, NULL, text, "Explain", "sasa{sv}", "/x", 1, "fly", 0),
		EINVAL);
	ck_assert_int_eq(bus_fixture_call(f.client, NULL, text, "Explain", "sasa{sv}", "/x", 0, 1,
					  "uid", "s", "me"),
			 EINVAL);
	bus_fixture_stop(&f);
}
END_TEST

START_TEST(explain_names_the_rule_and_those_passed_over)
{
	sd_bus_message *reply = NULL;
	struct bus_fixture f;
	unsigned count = 0;
	const char *text;

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	bus_fixture_start(&f, check_bus_config);
	ck_assert_int_eq(bus_fixture_call(f.client, &reply, NULL, "Explain", "sasa{sv}", "/read-1",
					  2, "read", "write", 3, "uid", "u", 1234, "groups", "au",
					  2, 7, 8, "unit", "s", "a.service"),
			 0);
	read_entry(reply, "rule", "s", &text);
	ck_assert_str_eq(text, "read");
	read_entry(reply, "verdict", "s", &text);
	ck_assert_str_eq(text, "denied");
	read_entry(reply, "unit", "s", &text);
	ck_assert_str_eq(text, "a.service");
	ck_assert_int_ge(sd_bus_message_rewind(reply, true), 0);
	ck_assert_int_ge(sd_bus_message_enter_container(reply, 'a', "{sv}"), 0);
	while (sd_bus_message_enter_container(reply, 'e', "sv") > 0) {
		ck_assert_int_ge(sd_bus_message_read(reply, "s", &text), 0);
		if (strcmp(text, "passed-over") == 0)
			break;
		ck_assert_int_ge(sd_bus_message_skip(reply, "v"), 0);
		ck_assert_int_ge(sd_bus_message_exit_container(reply), 0);
	}
	ck_assert_int_ge(sd_bus_message_enter_container(reply, 'v', "aa{sv}"), 0);
	ck_assert_int_ge(sd_bus_message_enter_container(reply, 'a', "a{sv}"), 0);
	for (; !sd_bus_message_at_end(reply, false); count++)
		ck_assert_int_ge(sd_bus_message_skip(reply, "a{sv}"), 0);
	ck_assert_uint_eq(count, 2);
	sd_bus_message_unref(reply);
	bus_fixture_stop(&f);
}
END_TEST

START_TEST(a_context_made_on_the_bus_serves_and_ends_with_its_hold)
{
	sd_bus_message *reply = NULL;
	struct shmb_info info;
	char path[256] = "";
	struct bus_fixture f;
	const char *directory;
	struct shmb *c;
	int hold;

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	bus_fixture_start(&f, check_bus_config);
	ck_assert_int_eq(bus_fixture_call(f.client, &reply, NULL, "CreateContext", "sa{sv}",
					  "org.example.x", 0),
			 0);
	ck_assert_int_ge(sd_bus_message_read(reply, "sh", &directory, &hold), 0);
	snprintf(path, sizeof(path), "%s/socket", directory);
	ck_assert_int_eq(shmb_connect(&c, path), 0);
	/* In a context it is sandboxed, and the last rule isn't for it. */
	ck_assert_int_eq(shmb_stat(c, "/x", &info, sizeof(info)), -EACCES);
	sd_bus_message_unref(reply);
	while (shmb_stat(c, "/x", &info, sizeof(info)) == -EACCES)
		test_moment();
	shmb_disconnect(c);
	bus_fixture_stop(&f);
}
END_TEST

static int get_property(sd_bus *client, const char *name, sd_bus_message **ret, const char *type)
{
	return sd_bus_get_property(client, BUS_TEST_NAME, BUS_TEST_PATH, BUS_TEST_NAME, name, NULL,
				   ret, type);
}

START_TEST(properties_are_those_of_who_reads)
{
	sd_bus_message *reply = NULL;
	struct bus_fixture f;
	const char *text;
	int supported;

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	bus_fixture_start(&f, check_bus_config);
	ck_assert_int_ge(get_property(f.client, "Version", &reply, "s"), 0);
	ck_assert_int_ge(sd_bus_message_read(reply, "s", &text), 0);
	ck_assert_str_eq(text, PACKAGE_VERSION);
	sd_bus_message_unref(reply);
	ck_assert_int_ge(get_property(f.client, "Supported", &reply, "b"), 0);
	ck_assert_int_ge(sd_bus_message_read(reply, "b", &supported), 0);
	ck_assert(supported);
	sd_bus_message_unref(reply);
	ck_assert_int_ge(get_property(f.client, "Pools", &reply, "a{sv}"), 0);
	ck_assert_int_ge(sd_bus_message_enter_container(reply, 'a', "{sv}"), 0);
	ck_assert_int_ge(sd_bus_message_enter_container(reply, 'e', "sv"), 0);
	ck_assert_int_ge(sd_bus_message_read(reply, "s", &text), 0);
	ck_assert_str_eq(text, "host");
	sd_bus_message_unref(reply);
	ck_assert_int_ge(sd_bus_call_method(f.client, BUS_TEST_NAME, BUS_TEST_PATH,
					    "org.freedesktop.DBus.Properties", "GetAll", NULL,
					    &reply, "s", BUS_TEST_NAME),
			 0);
	read_entry(reply, "Version", "s", &text);
	ck_assert_str_eq(text, PACKAGE_VERSION);
	sd_bus_message_unref(reply);
	/* What isn't there is sd-bus's to refuse. */
	ck_assert_int_lt(get_property(f.client, "None", &reply, "s"), 0);
	bus_fixture_stop(&f);
}
END_TEST

START_TEST(a_reload_is_answered_when_it_counts)
{
	struct bus_fixture f;
	char text[256];

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	bus_fixture_start(&f, check_bus_config);
	ck_assert_int_eq(bus_fixture_open(f.client, "/no-1", "rdonly", 0), -EACCES);
	fixture_configure(&f.broker, "pools: { host: { path = \"@host@\" access = \"caller\" } }\n"
				     "rules: ( { name = \"r\" names = \"/*\" allow = \"all\" "
				     "pool = \"host\" } )\n");
	ck_assert_int_eq(bus_fixture_call(f.client, NULL, text, "Reload", ""), 0);
	ck_assert_int_eq(bus_fixture_open(f.client, "/no-1", "rdonly", 0), -ENOENT);
	fixture_configure(&f.broker, "rules: ( 7 )\n");
	ck_assert_int_eq(bus_fixture_call(f.client, NULL, text, "Reload", ""), EINVAL);
	ck_assert_ptr_nonnull(strstr(text, "shmbroker.conf:1"));
	bus_fixture_stop(&f);
}
END_TEST

/* Lines of a file's or text's interface, without white space before them, comments left out. */
static void interface_lines(char *text, char *ret, size_t size)
{
	bool inside = false, comment = false;
	char *rest = NULL;

	*ret = 0;
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		line += strspn(line, " ");
		if (strstr(line, "<interface name=\"" BUS_TEST_NAME "\""))
			inside = true;
		if (strncmp(line, "<!--", 4) == 0)
			comment = true;
		if (inside && !comment)
			strncat(strncat(ret, line, size - strlen(ret) - 2), "\n", 2);
		if (strstr(line, "-->"))
			comment = false;
		if (strstr(line, "</interface>"))
			inside = false;
	}
}

START_TEST(introspection_is_the_file_that_is_shipped)
{
	static char told[16384], shipped[16384], text[16384];
	sd_bus_message *reply = NULL;
	const char *source = getenv("TEST_SRCDIR");
	struct bus_fixture f;
	const char *xml;
	FILE *file;

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	bus_fixture_start(&f, check_bus_config);
	ck_assert_int_ge(sd_bus_call_method(f.client, BUS_TEST_NAME, BUS_TEST_PATH,
					    "org.freedesktop.DBus.Introspectable", "Introspect",
					    NULL, &reply, ""),
			 0);
	ck_assert_int_ge(sd_bus_message_read(reply, "s", &xml), 0);
	snprintf(text, sizeof(text), "%s", xml);
	interface_lines(text, told, sizeof(told));
	snprintf(text, sizeof(text), "%s/../proto/" BUS_TEST_NAME ".xml",
		 source ? source : "tests");
	file = fopen(text, "re");
	ck_assert_ptr_nonnull(file);
	text[fread(text, 1, sizeof(text) - 1, file)] = 0;
	fclose(file);
	interface_lines(text, shipped, sizeof(shipped));
	ck_assert_str_eq(told, shipped);
	sd_bus_message_unref(reply);
	bus_fixture_stop(&f);
}
END_TEST

START_TEST(busctl_is_answered)
{
	char command[512], line[256] = "";
	struct bus_fixture f;
	FILE *pipe;

	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	TEST_NEEDS(access("/usr/bin/busctl", X_OK) == 0, "no busctl");
	bus_fixture_start(&f, check_bus_config);
	snprintf(command, sizeof(command),
		 "busctl --address=%s call " BUS_TEST_NAME " " BUS_TEST_PATH " " BUS_TEST_NAME
		 " Open 'sasua{sv}' /by-busctl 2 rdwr creat 384 1 size t 4096",
		 f.address);
	pipe = popen(command, "re");
	ck_assert_ptr_nonnull(pipe);
	ck_assert_ptr_nonnull(fgets(line, sizeof(line), pipe));
	ck_assert_int_eq(pclose(pipe), 0);
	ck_assert_int_eq(strncmp(line, "h ", 2), 0);
	ck_assert_int_eq(bus_fixture_call(f.client, NULL, NULL, "Unlink", "s", "/by-busctl"), 0);
	bus_fixture_stop(&f);
}
END_TEST

Suite *suite_bus(void)
{
	Suite *suite = suite_create("bus");
	TCase *test = tcase_create("calls");

	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_set_timeout(test, 60);
	tcase_add_test(test, open_stat_list_and_unlink_are_about_the_same_object);
	tcase_add_test(test, what_is_sealed_is_sealed_on_the_bus);
	tcase_add_test(test, both_transports_answer_alike);
	check_bus_add_semantics(test);
	tcase_add_test(test, a_call_is_known_without_its_interface_and_by_its_signature);
	tcase_add_test(test, an_error_keeps_its_number_and_says_why);
	tcase_add_test(test, explain_names_the_rule_and_those_passed_over);
	tcase_add_test(test, a_context_made_on_the_bus_serves_and_ends_with_its_hold);
	tcase_add_test(test, properties_are_those_of_who_reads);
	tcase_add_test(test, a_reload_is_answered_when_it_counts);
	tcase_add_test(test, introspection_is_the_file_that_is_shipped);
	tcase_add_test(test, busctl_is_answered);
	suite_add_tcase(suite, test);
	suite_add_tcase(suite, tcase_bus_queue());
	suite_add_tcase(suite, tcase_bus_callers());
	return suite;
}
