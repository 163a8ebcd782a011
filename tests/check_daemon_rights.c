/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What rights the program shmbrokerd and its helpers keep, and that they can do their work with
 * them. A case of the suite "daemon".
 */
#include <sys/stat.h>

#include "tests/daemon_fixture.h"
#include "tests/store_fixture.h"

/* A line of /proc/PID/FILE that begins with key; what follows it. */
static void proc_line(char *ret, size_t size, pid_t pid, const char *file, const char *key)
{
	char path[64], line[512];
	FILE *stream;

	*ret = 0;
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	stream = fopen(path, "re");
	ck_assert_ptr_nonnull(stream);
	while (fgets(line, sizeof(line), stream))
		if (strncmp(line, key, strlen(key)) == 0)
			snprintf(ret, size, "%.*s", (int)strcspn(line + strlen(key), "\n"),
				 line + strlen(key));
	fclose(stream);
}

static void expect_line(pid_t pid, const char *key, const char *value)
{
	char text[128];

	proc_line(text, sizeof(text), pid, "status", key);
	ck_assert_msg(strcmp(text, value) == 0, "%d: %s%s, not %s", (int)pid, key, text, value);
}

/* Its helpers: how many, the one whose name is wanted. */
static unsigned children(pid_t parent, pid_t *ret, unsigned room)
{
	char path[64];
	unsigned count = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)parent, (int)parent);
	file = fopen(path, "re");
	ck_assert_ptr_nonnull(file);
	while (count < room && fscanf(file, "%d", &ret[count]) == 1)
		count++;
	fclose(file);
	return count;
}

static pid_t child_named(pid_t parent, const char *name)
{
	pid_t pids[8];
	unsigned count = children(parent, pids, 8);
	char text[64];

	for (unsigned i = 0; i < count; i++) {
		proc_line(text, sizeof(text), pids[i], "status", "Name:\t");
		if (strcmp(text, name) == 0)
			return pids[i];
	}
	ck_abort_msg("there is no %s", name);
	return 0;
}

static void check_rights(pid_t pid, bool root)
{
	/* CAP_DAC_OVERRIDE, CAP_SETGID, CAP_SETUID; those that are not dropped come from nowhere.
	 */
	const char *kept = root ? "00000000000000c2" : "0000000000000000";
	pid_t pids[8], keeper = child_named(pid, "shmb-keeper");
	unsigned count = children(pid, pids, 8);
	char path[64];
	struct stat st;

	expect_line(pid, "CapEff:\t", kept);
	expect_line(pid, "CapPrm:\t", kept);
	expect_line(pid, "CapInh:\t", "0000000000000000");
	expect_line(pid, "CapAmb:\t", "0000000000000000");
	expect_line(pid, "NoNewPrivs:\t", "1");
	expect_line(pid, "Seccomp:\t", "2");
	ck_assert_uint_eq(count, 3);
	for (unsigned i = 0; i < count; i++) {
		expect_line(pids[i], "Seccomp:\t", "2");
		/* The keeper's count in the table's user namespace alone. */
		if (pids[i] != keeper)
			expect_line(pids[i], "CapPrm:\t", "0000000000000000");
		expect_line(pids[i], "NoNewPrivs:\t", "1");
	}
	/* What isn't dumpable is root's in /proc, whoever runs it. */
	pids[count++] = pid;
	for (unsigned i = 0; i < count && !root; i++) {
		snprintf(path, sizeof(path), "/proc/%d/environ", (int)pids[i]);
		ck_assert_int_eq(stat(path, &st), 0);
		ck_assert_uint_eq(st.st_uid, 0);
	}
}

START_TEST(it_keeps_three_rights_and_its_helpers_none)
{
	static const uid_t users[] = { 0, ORDINARY };

	NEEDS_PRIVATE_POOLS;
	TEST_NEEDS(test_is_root(), "root, to become another");
	for (size_t i = 0; i < 2; i++) {
		char soft[64], hard[64], limits[256];
		struct daemon daemon;
		struct daemon_place place;

		daemon_place_make(&place, users[i]);
		daemon_start_at(&daemon, &place, &(struct daemon_how){ .uid = users[i] });
		daemon_await(&daemon, "READY=1");
		check_rights(daemon.pid, users[i] == 0);
		proc_line(limits, sizeof(limits), daemon.pid, "limits", "Max open files");
		ck_assert_int_eq(sscanf(limits, "%63s %63s", soft, hard), 2);
		ck_assert_str_eq(soft, hard);
		ck_assert_int_eq(daemon_end(&daemon, SIGTERM), 0);
		daemon_place_remove(&place);
	}
}
END_TEST

START_TEST(without_its_keeper_it_ends_with_an_error)
{
	struct daemon daemon;
	struct daemon_place place;

	NEEDS_PRIVATE_POOLS;
	daemon_place_make(&place, 0);
	daemon_start_at(&daemon, &place, &(struct daemon_how){ .uid = geteuid() });
	daemon_await(&daemon, "READY=1");
	ck_assert_int_eq(kill(child_named(daemon.pid, "shmb-keeper"), SIGKILL), 0);
	ck_assert_int_eq(daemon_end(&daemon, 0), 1);
	ck_assert_ptr_nonnull(strstr(daemon.text, "a helper process has ended"));
	ck_assert(is_missing(place.socket));
}
END_TEST

static void configure_work(const struct daemon_place *place, bool less)
{
	char text[2048];

	snprintf(
		text, sizeof(text),
		"pools: { a: { size = \"%s\" objects = 8 } %s\n"
		"         host: { path = \"%s\" access = \"grant\" } own: { path = \"%s/own\" } }\n"
		"rules: ( { name = \"no\" names = \"/no\" allow = [] user = \"nobody-has-it\" },\n"
		"         { name = \"a\" names = \"/a-*\" allow = \"all\" pool = \"a\" log = "
		"\"all\" },\n"
		"         { name = \"b\" names = \"/b-*\" allow = \"all\" pool = \"%s\" },\n"
		"         { name = \"own\" names = \"/own-*\" allow = \"all\" pool = \"own\" },\n"
		"         { name = \"host\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n",
		less ? "512K" : "1M", less ? "" : "b: { size = \"1M\" objects = 8 }", place->host,
		place->directory, less ? "a" : "b");
	daemon_configure(place, text);
}

/* Its exit status. */
static int shmctl(const struct daemon_place *place, const char *arguments)
{
	char command[512];

	snprintf(command, sizeof(command), "SHMBROKER_SOCKET=%s %s/shmctl %s >/dev/null",
		 place->socket, getenv("TEST_BUILDDIR"), arguments);
	return system(command);
}

static int count_names(const struct shmb_info *info, void *userdata)
{
	(void)info;
	++*(unsigned *)userdata;
	return 0;
}

/* One object, in every way in which one is made, and all that is asked of it. */
static void use_all_ways(struct shmb *c, const char *name)
{
	static const uint64_t ways[] = { 0, SHMB_TEMPORARY, SHMB_RESERVE, SHMB_UNPUBLISHED,
					 SHMB_UNPUBLISHED | SHMB_SEALED };
	struct shmb_info info;

	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		const struct shmb_how how = {
			.oflag = O_RDWR | O_CREAT, .mode = 0600, .size = 4096, .flags = ways[i]
		};
		int fd = shmb_open_how(c, name, &how, sizeof(how));
		unsigned count = 0;

		ck_assert_msg(fd >= 0, "%s, %#llx: %s", name, (unsigned long long)ways[i],
			      shmb_reason(c));
		if (ways[i] & SHMB_UNPUBLISHED)
			ck_assert_int_eq(shmb_publish(c, name, SHMB_REPLACE), 0);
		ck_assert_int_eq(shmb_stat(c, name, &info, sizeof(info)), 0);
		ck_assert_int_eq(shmb_wait(c, name, ANSWER_MS), 0);
		ck_assert_int_eq(shmb_list(c, name, sizeof(info), count_names, &count), 0);
		ck_assert_msg(count == 1, "%s, %#llx: %u", name, (unsigned long long)ways[i],
			      count);
		ck_assert_int_eq(try_open(c, name, O_RDONLY), 0);
		if (!(ways[i] & SHMB_SEALED))
			ck_assert_int_eq(try_open(c, name, O_RDWR | O_TRUNC), 0);
		close(fd);
		ck_assert_int_eq(shmb_unlink(c, name), 0);
		ck_assert_int_eq(try_open(c, name, O_RDONLY), -ENOENT);
	}
}

START_TEST(its_filters_let_all_of_its_work_through)
{
	static const uid_t users[] = { 0, ORDINARY };
	static const char *const commands[] = {
		"ls -l",
		"pools",
		"status",
		"explain --as 12345 /a-1",
		"explain --as root /no",
		"run --app=org.example.one -- true",
		"drop b",
		"reload",
		"pools",
	};

	NEEDS_PRIVATE_POOLS;
	TEST_NEEDS(getenv("TEST_BUILDDIR"), "TEST_BUILDDIR doesn't name a built tree");
	for (size_t i = test_is_root() ? 0 : 1; i < 2; i++) {
		const struct daemon_how start = { .uid = test_is_root() ? users[i] : geteuid() };
		struct daemon daemon;
		struct daemon_place place;
		char own[128];
		struct shmb *c;

		daemon_place_make(&place, test_is_root() ? users[i] : 0);
		configure_work(&place, false);
		snprintf(own, sizeof(own), "%s/own", place.directory);
		ck_assert(mkdir(own, 0700) == 0 && chmod(own, 01777) == 0);
		daemon_start_at(&daemon, &place, &start);
		daemon_await(&daemon, "READY=1");
		ck_assert_int_eq(shmb_connect(&c, place.socket), 0);
		use_all_ways(c, "/a-1");
		use_all_ways(c, "/b-1");
		use_all_ways(c, "/h-1");
		/* In that pool only who can become the caller may act for him. */
		if (start.uid == geteuid())
			use_all_ways(c, "/own-1");
		close(make_object(c, "/b-left"));
		shmb_disconnect(c);
		configure_work(&place, true);
		for (size_t j = 0; j < sizeof(commands) / sizeof(*commands); j++) {
			/* Some are the administrator's alone. */
			int status = shmctl(&place, commands[j]);

			ck_assert_msg(status == 0 || (start.uid && WEXITSTATUS(status) == 1),
				      "shmctl %s: %d", commands[j], status);
		}
		ck_assert_int_eq(kill(daemon.pid, SIGHUP), 0);
		daemon_await(&daemon, "RELOADING=1");
		daemon_await(&daemon, "READY=1");
		daemon_check_served(place.socket);
		ck_assert_int_eq(daemon_end(&daemon, SIGTERM), 0);
		ck_assert_msg(!strstr(daemon.text, "has ended"), "%s", daemon.text);
		daemon_place_remove(&place);
	}
}
END_TEST

START_TEST(it_makes_its_table_in_a_user_namespace_of_its_own)
{
	struct daemon daemon;
	struct daemon_place place;

	NEEDS_PRIVATE_POOLS;
	TEST_NEEDS(test_is_root(), "root, to write such a map");
	daemon_place_make(&place, 100000);
	daemon_start_at(&daemon, &place, &(struct daemon_how){ .contained = true });
	daemon_await(&daemon, "READY=1");
	/* Of the main namespace, and so unknown to it: a sandboxed peer, which the rules let in. */
	daemon_check_served(place.socket);
	ck_assert_int_eq(daemon_end(&daemon, SIGTERM), 0);
	ck_assert_msg(!strstr(daemon.text, "can't be had"), "%s", daemon.text);
}
END_TEST

TCase *daemon_case_of_rights(void)
{
	TCase *test = tcase_create("rights");

	tcase_set_timeout(test, 120);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, it_keeps_three_rights_and_its_helpers_none);
	tcase_add_test(test, without_its_keeper_it_ends_with_an_error);
	tcase_add_test(test, its_filters_let_all_of_its_work_through);
	tcase_add_test(test, it_makes_its_table_in_a_user_namespace_of_its_own);
	return test;
}
