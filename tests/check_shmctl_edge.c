/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * shmctl where something isn't as it should be: standard descriptors that are closed, arguments
 * that are too long, a broker that is hostile. A case of the suite "shmctl".
 */
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/fd.h"
#include "proto/packet.h"
#include "tests/shmctl_fixture.h"

/* A shell's lines, in which $shmctl is the program. */
struct script {
	const char *text;
	int status;
	const char *out, *err;
};

static void check_scripts(const struct script *scripts, size_t count)
{
	static struct ran ran;
	char path[512];

	snprintf(path, sizeof(path), "%s/shmctl", getenv("TEST_BUILDDIR"));
	setenv("shmctl", path, 1);
	for (size_t i = 0; i < count; i++) {
		shmctl_run_program(&ran, "/bin/sh",
				   (const char *const[ARGUMENTS]){ "-c", scripts[i].text }, NULL);
		ck_assert_msg(ran.status == scripts[i].status, "script %zu: %d, %s", i, ran.status,
			      ran.err);
		ck_assert_msg(strcmp(ran.out, scripts[i].out) == 0, "script %zu: %s", i, ran.out);
		ck_assert_msg(strcmp(ran.err, scripts[i].err) == 0, "script %zu: %s", i, ran.err);
	}
}
#define CHECK_SCRIPTS(scripts) check_scripts(scripts, sizeof(scripts) / sizeof(*(scripts)))

START_TEST(an_object_is_never_a_standard_descriptor)
{
	static const char no_input[] = "shmctl: standard input: Bad file descriptor\n";
	static const char no_output[] = "shmctl: standard output: Bad file descriptor\n";
	static const struct script scripts[] = {
		{ "echo kept | $shmctl write --create /x", 0, "", "" },
		{ "$shmctl write --replace /x <&-", 1, "", no_input },
		{ "$shmctl write /x <&-", 1, "", no_input },
		{ "$shmctl write --create /none <&- >&-", 1, "", no_input },
		{ "$shmctl write /x <&- 2>&-", 1, "", "" },
		{ "$shmctl cat /x", 0, "kept\n", "" },
		{ "$shmctl cat /x >&-", 1, "", no_output },
		{ "$shmctl cat /x <&-", 0, "kept\n", "" },
		{ "$shmctl ls >&-", 1, "", no_output },
		{ "$shmctl --version <&- >&-", 1, "", no_output },
		{ "$shmctl create /y 4K --json >&-", 1, "", no_output },
		{ "$shmctl cat /y <&- | tr -d '\\0'", 0, "", "" },
		{ "$shmctl rm /x <&- >&- 2>&-", 0, "", "" },
		{ "$shmctl ls", 0, "/y\n", "" },
	};
	struct fixture fixture;

	shmctl_begin(&fixture, one_pool);
	CHECK_SCRIPTS(scripts);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(a_closed_input_has_ended_and_is_closed_for_the_command_too)
{
	static const struct script scripts[] = {
		{ "$shmctl context --app=x --stdin <&- | wc -l", 0, "1\n", "" },
		{ "$shmctl run --app=x -- sh -c 'test -e /proc/self/fd/0 || echo none' <&-", 0,
		  "none\n", "" },
		{ "$shmctl run --app=x -- sh -c 'exit 5' <&- >&- 2>&-", 5, "", "" },
	};
	struct fixture fixture;

	shmctl_begin(&fixture, one_pool);
	CHECK_SCRIPTS(scripts);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(what_is_too_long_is_told_so)
{
	static const struct script scripts[] = {
		{ "$shmctl explain $long 2>&1 | cut -c 5009-", 0,
		  ": no object can have this name\n", "" },
		{ "$shmctl explain --unit=$long /x", 1, "",
		  "shmctl: the question is too long: a user in too many groups, or a unit or app "
		  "of too long a name\n" },
		{ "$shmctl monitor $long", 1, "", "shmctl: a pattern has at most 255 bytes\n" },
		{ "$shmctl monitor //$(echo $long | cut -c -256)", 1, "",
		  "shmctl: a pattern has at most 255 bytes\n" },
	};
	struct fixture fixture;
	char name[5000];

	memset(name, 'x', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	setenv("long", name, 1);
	shmctl_begin(&fixture, one_pool);
	CHECK_SCRIPTS(scripts);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(wait_tells_of_the_object_in_json)
{
	struct fixture fixture;
	static struct ran ran;
	json_t *document;

	shmctl_begin(&fixture, one_pool);
	shmctl_run(&ran, (const char *const[ARGUMENTS]){ "create", "/x", "4K" }, NULL);
	shmctl_run(&ran, (const char *const[ARGUMENTS]){ "wait", "/x" }, NULL);
	ck_assert_int_eq(ran.status, 0);
	ck_assert_str_eq(ran.out, "");
	shmctl_run(&ran, (const char *const[ARGUMENTS]){ "wait", "/x", "--json" }, NULL);
	ck_assert_int_eq(ran.status, 0);
	document = json_loads(ran.out, 0, NULL);
	ck_assert_str_eq(json_string_value(json_object_get(document, "name")), "/x");
	ck_assert_int_eq(json_integer_value(json_object_get(document, "size")), 4096);
	json_decref(document);
	shmctl_run(&ran,
		   (const char *const[ARGUMENTS]){ "wait", "/none", "--json", "--timeout=0s" },
		   NULL);
	ck_assert_int_eq(ran.status, 1);
	ck_assert_str_eq(ran.out, "");
	fixture_stop(&fixture);
}
END_TEST

/* In the directory of the fixture's own, which are the configuration from the next reload on. */
static void add_files(struct fixture *fixture, int count, int name_size)
{
	static const char *directories[2];
	char path[512];

	directories[0] = test_directory();
	fixture->source.file = NULL;
	fixture->source.directories = directories;
	snprintf(path, sizeof(path), "%s/shmbroker.conf.d", test_directory());
	mkdir(path, 0755);
	for (int i = 0; i < count; i++) {
		_cleanup_close_ int fd = -EBADF;

		snprintf(path, sizeof(path), "%s/shmbroker.conf.d/%0*d.conf", test_directory(),
			 name_size, i);
		fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
		ck_assert_int_eq(write(fd, "#\n", 2), 2);
	}
}

START_TEST(however_many_files_there_are_status_tells_the_counters)
{
	static const struct {
		int count, name_size;
		bool all; /* are told */
	} rows[] = { { 100, 10, true }, { 200, 200, false } };
	static const struct script refused[] = {
		{ "$shmctl reload 2>/dev/null", 1, "", "" },
		{ "$shmctl status | grep -o -E '^(requests|last-reload) '", 0,
		  "requests \nlast-reload \n", "" },
	};
	struct fixture fixture;
	static struct ran ran;
	json_t *document;
	int total = 1;

	shmctl_begin(&fixture, one_pool);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		json_int_t left_out;
		size_t told;

		total += rows[i].count;
		add_files(&fixture, rows[i].count, rows[i].name_size);
		fixture_configure(&fixture, one_pool);
		shmctl_run(&ran, (const char *const[ARGUMENTS]){ "reload" }, NULL);
		ck_assert_msg(ran.status == 0, "%s", ran.err);
		fixture_configure(&fixture, "rules: ( 7 )\n");
		CHECK_SCRIPTS(refused);
		shmctl_run(&ran, (const char *const[ARGUMENTS]){ "status", "--json" }, NULL);
		document = json_loads(ran.out, 0, NULL);
		ck_assert(json_is_integer(json_object_get(document, "contexts_ever")));
		ck_assert(json_is_string(json_object_get(document, "last_reload")));
		told = json_array_size(json_object_get(document, "files"));
		left_out = json_integer_value(json_object_get(document, "files_left_out"));
		ck_assert_int_eq((json_int_t)told + left_out, total);
		ck_assert(rows[i].all ? left_out == 0 : left_out > 0);
		json_decref(document);
	}
	fixture_stop(&fixture);
}
END_TEST

/* What a terminal would obey. */
#define EVIL                                                                                       \
	"\033]0;x\007\xc2\x9b"                                                                     \
	"1m\x9b"

/* A reply to a request of the kind, whatever it says. */
struct evil_answer {
	const char *arguments[ARGUMENTS];
	uint16_t operation;
	const char *body;
	size_t size;
	const char *shown; /* among other things; NULL: not looked at */
};

static void send_answer(int fd, const struct wire_request *request,
			const struct evil_answer *answer)
{
	struct {
		struct wire_reply head;
		uint8_t kinds[8];
	} packet = { .head = { .serial = request->serial, .operation = request->operation } };
	struct iovec parts[] = {
		{ &packet, sizeof(packet.head) },
		{ (void *)answer->body, answer->size },
	};
	struct fdlist fds = { 0 };

	if (request->operation != answer->operation) {
		packet.head.status = ENOENT;
		parts[1].iov_len = 0;
	} else if (request->operation == WIRE_CREATE_CONTEXT) {
		fdlist_take(&fds, dup(fd), WIRE_FD_HOLD);
		packet.head.fd_count = 1;
		packet.kinds[0] = WIRE_FD_HOLD;
		parts[0].iov_len = sizeof(packet);
	}
	packet_send(fd, parts, 2, &fds, 0);
	fdlist_close(&fds);
}

/* For one client, until that ends. */
static void serve_evil(int listener, const struct evil_answer *answer)
{
	struct wire_hello hello = {
		.magic = WIRE_MAGIC,
		.version_min = 1,
		.version_max = 1,
		.size = sizeof(hello),
		.fds_max = 1,
		.packet_max = WIRE_REQUEST_MAX,
	};
	struct iovec part = { &hello, sizeof(hello) };
	_Alignas(8) char packet[WIRE_REQUEST_MAX];
	int fd = accept(listener, NULL, NULL);

	packet_send(fd, &part, 1, NULL, 0);
	recv(fd, packet, sizeof(packet), 0);
	while (recv(fd, packet, sizeof(packet), 0) > 0)
		send_answer(fd, (const struct wire_request *)packet, answer);
	_exit(0);
}

/* What it writes on a terminal: its status. */
static int run_on_terminal(const char *const *arguments, char *ret, size_t size)
{
	_cleanup_close_ int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	_cleanup_close_ int in = shmctl_memory_file("");
	size_t used = 0;
	ssize_t n;
	int side, status;

	ck_assert_int_eq(grantpt(terminal) | unlockpt(terminal), 0);
	side = open(ptsname(terminal), O_RDWR | O_NOCTTY | O_CLOEXEC);
	status = shmctl_wait(shmctl_start(arguments, in, side, side));
	close(side);
	while ((n = read(terminal, ret + used, size - 1 - used)) > 0)
		used += (size_t)n;
	ret[used] = '\0';
	return status;
}

static void check_tame(const char *text)
{
	for (const char *at = text; *at; at++)
		ck_assert_msg((*at >= 0x20 && *at <= 0x7e) || *at == '\n' || *at == '\r',
			      "byte %#x behind %.*s", (unsigned char)*at, (int)(at - text), text);
}

#define ANSWER(operation, body) operation, body, sizeof(body) - 1

START_TEST(nothing_that_a_broker_says_commands_the_terminal)
{
	static const struct evil_answer rows[] = {
		{ { "explain", "/x" },
		  ANSWER(WIRE_EXPLAIN,
			 "name=" EVIL "\0verdict=" EVIL "\0rule=" EVIL "\0" EVIL "=" EVIL
			 "\0\0file=" EVIL "\0passed-over=\\x0a\n" EVIL "\0\0"),
		  "\\x0a\\x0a\\x1b]0;x\\x07\\xc2\\x9b1m\\x9b\r\n" },
		{ { "monitor" },
		  ANSWER(WIRE_MONITOR,
			 "event=" EVIL "\0pool=" EVIL "\0name=" EVIL "\0reason=" EVIL "\0\0"),
		  "  \\x1b]0;x\\x07\\xc2\\x9b1m\\x9b  " },
		{ { "pools" },
		  ANSWER(WIRE_POOLS, "pool=" EVIL "\0objects=" EVIL "\0objects-limit=" EVIL
				     "\0size=" EVIL "\0why=" EVIL "\0\0"),
		  NULL },
		{ { "status" },
		  ANSWER(WIRE_STATUS,
			 "version=" EVIL "\0file=" EVIL "\0" EVIL "=1\0pid=" EVIL "\0\0"),
		  NULL },
		{ { "context", "--app=x", "--stdin" },
		  ANSWER(WIRE_CREATE_CONTEXT, "/" EVIL),
		  NULL },
	};
	_cleanup_close_ int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char text[8192];

	snprintf(address.sun_path, sizeof(address.sun_path), "%.90s/evil", test_directory());
	ck_assert_int_eq(bind(listener, (const struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(listener, 1), 0);
	setenv("SHMBROKER_SOCKET", address.sun_path, 1);
	setenv("NO_COLOR", "1", 1);
	for (size_t i = 0; i < 2 * sizeof(rows) / sizeof(*rows); i++) {
		const struct evil_answer *row = &rows[i / 2];
		/* Text, then JSON. */
		const char *arguments[ARGUMENTS] = { i % 2 ? "--json" : "--no-pager" };
		pid_t broker = fork();

		if (broker == 0)
			serve_evil(listener, row);
		memcpy(arguments + 1, row->arguments, sizeof(arguments) - sizeof(*arguments));
		ck_assert_msg(run_on_terminal(arguments, text, sizeof(text)) == 0, "%s", text);
		check_tame(text);
		if (row->shown && i % 2 == 0)
			ck_assert_msg(strstr(text, row->shown) != NULL, "%s", text);
		ck_assert_int_eq(shmctl_wait(broker), 0);
	}
	unlink(address.sun_path);
}
END_TEST

START_TEST(nothing_that_stands_in_a_configuration_commands_the_terminal)
{
	struct fixture fixture;
	char text[8192];

	shmctl_begin(&fixture, one_pool);
	fixture_configure(&fixture, "# " EVIL "\n");
	ck_assert_int_eq(run_on_terminal((const char *const[ARGUMENTS]){ "check-config", "--cat",
									 fixture.config },
					 text, sizeof(text)),
			 0);
	check_tame(text);
	fixture_stop(&fixture);
}
END_TEST

TCase *shmctl_case_of_edges(void)
{
	TCase *test = tcase_create("edges");

	tcase_set_timeout(test, 60);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, an_object_is_never_a_standard_descriptor);
	tcase_add_test(test, a_closed_input_has_ended_and_is_closed_for_the_command_too);
	tcase_add_test(test, what_is_too_long_is_told_so);
	tcase_add_test(test, wait_tells_of_the_object_in_json);
	tcase_add_test(test, however_many_files_there_are_status_tells_the_counters);
	tcase_add_test(test, nothing_that_a_broker_says_commands_the_terminal);
	tcase_add_test(test, nothing_that_stands_in_a_configuration_commands_the_terminal);
	return test;
}
