/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The program shmbrokerd itself: what it takes, how it comes and goes, what rights it
 * keeps. It runs as a process of its own, and says by sd_notify(3) how far it is.
 */
#include <grp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tests/store_fixture.h"

#define ORDINARY 12345
#define ANSWER_MS 60000 /* far beyond what any answer takes */

#define RULES                                                                                      \
	"rules: ( { name = \"a\" names = \"/a-*\" allow = \"all\" pool = \"a\" },\n"               \
	"         { name = \"host\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n"

/* Where one runs: a directory of the test's, with a file, a tmpfs and a socket in it. */
struct place {
	char directory[96], config[128], host[128], socket[128];
	char config_option[160], socket_option[160];
};

static void write_config(const struct place *place, const char *text)
{
	FILE *file = fopen(place->config, "we");

	ck_assert_ptr_nonnull(file);
	ck_assert_int_ge(fputs(text, file), 0);
	ck_assert_int_eq(fclose(file), 0);
}

static void place_make(struct place *p, uid_t owner)
{
	char text[1024];

	snprintf(p->directory, sizeof(p->directory), "%s/daemon", test_directory());
	snprintf(p->config, sizeof(p->config), "%s/conf", p->directory);
	snprintf(p->host, sizeof(p->host), "%s/host", p->directory);
	snprintf(p->socket, sizeof(p->socket), "%s/run/socket", p->directory);
	snprintf(p->config_option, sizeof(p->config_option), "--config=%s", p->config);
	snprintf(p->socket_option, sizeof(p->socket_option), "--socket=%s", p->socket);
	ck_assert(mkdir(p->directory, 0755) == 0 && mkdir(p->host, 0755) == 0);
	snprintf(text, sizeof(text),
		 "pools: { a: { size = \"1M\" objects = 8 }\n"
		 "         host: { path = \"%s\" access = \"grant\" } }\n" RULES,
		 p->host);
	write_config(p, text);
	ck_assert_int_eq(chmod(p->host, 01777), 0);
	if (owner == 0)
		return;
	ck_assert_int_eq(chown(p->directory, owner, owner), 0);
	ck_assert_int_eq(chown(p->config, owner, owner), 0);
}

struct daemon {
	pid_t pid;
	int log, notify, gate;
	char text[8192]; /* its log, read by daemon_end() */
};

/* How it is started, beside its arguments. */
struct start {
	uid_t uid;
	int listener;	       /* given as systemd does; 0: none */
	const char *directory; /* to be in; NULL: / */
	bool contained;	       /* in a user namespace with a map of its own */
};

static unsigned started;

static void notify_name(struct sockaddr_un *address, socklen_t *size)
{
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	*size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
			    (size_t)snprintf(address->sun_path + 1, 64, "shmbroker-test-%d-%u",
					     (int)getpid(), ++started));
}

static void become(const struct start *start, int gate)
{
	char byte = 0;
	uid_t uid = start->uid;

	if (start->contained &&
	    (unshare(CLONE_NEWUSER) < 0 || write(gate, &byte, 1) != 1 || read(gate, &byte, 1) != 1))
		_exit(97);
	if (((uid != 0 && uid != geteuid()) || start->contained) &&
	    (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 ||
	     setresuid(uid, uid, uid) < 0))
		_exit(98);
}

static _Noreturn void daemon_exec(const struct daemon *daemon, const struct start *start,
				  int program, const char *const *arguments)
{
	char name[80], pid[16];

	snprintf(name, sizeof(name), "@shmbroker-test-%d-%u", (int)getppid(), started);
	setenv("NOTIFY_SOCKET", name, 1);
	/* It lets nobody trace it, itself neither; leaks are looked for in the other suites. */
	setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
	unsetenv("XDG_RUNTIME_DIR");
	dup2(daemon->log, 1);
	dup2(daemon->log, 2);
	if (start->listener) {
		snprintf(pid, sizeof(pid), "%d", (int)getpid());
		setenv("LISTEN_PID", pid, 1);
		setenv("LISTEN_FDS", "1", 1);
		/* The program's own number is moved out of the way first. */
		program = fcntl(program, F_DUPFD_CLOEXEC, 10);
		dup2(fcntl(start->listener, F_DUPFD_CLOEXEC, 10), 3);
	}
	become(start, daemon->gate);
	if (chdir(start->directory ? start->directory : "/") == 0)
		fexecve(program, (char *const *)arguments, environ);
	_exit(99);
}

static void write_map(pid_t pid, const char *which)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, which);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	ck_assert_int_eq(write(fd, "0 100000 65536", 14), 14);
	close(fd);
}

static void daemon_start(struct daemon *daemon, const struct start *start,
			 const char *const *arguments)
{
	const char *build = getenv("TEST_BUILDDIR");
	struct sockaddr_un address;
	socklen_t size;
	char path[256], byte;
	int program, gates[2];

	*daemon = (struct daemon){ .pid = -1 };
	snprintf(path, sizeof(path), "%s/shmbrokerd", build ? build : ".");
	program = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert_msg(program >= 0, "%s: %s", path, strerror(errno));
	daemon->log = memfd_create("log", MFD_CLOEXEC);
	daemon->notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	notify_name(&address, &size);
	ck_assert_int_eq(bind(daemon->notify, (struct sockaddr *)&address, size), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, gates), 0);
	daemon->pid = fork();
	if (daemon->pid == 0) {
		daemon->gate = gates[1];
		daemon_exec(daemon, start, program, arguments);
	}
	close(gates[1]);
	close(program);
	if (start->contained) {
		ck_assert_int_eq(read(gates[0], &byte, 1), 1);
		write_map(daemon->pid, "uid_map");
		write_map(daemon->pid, "gid_map");
		ck_assert_int_eq(write(gates[0], &byte, 1), 1);
	}
	close(gates[0]);
}

static void read_log(struct daemon *daemon)
{
	ssize_t size = pread(daemon->log, daemon->text, sizeof(daemon->text) - 1, 0);

	daemon->text[size < 0 ? 0 : size] = 0;
}

/* Until it says so. */
static void await_state(struct daemon *daemon, const char *state)
{
	struct pollfd event = { .fd = daemon->notify, .events = POLLIN };
	char text[512];

	while (poll(&event, 1, ANSWER_MS) > 0) {
		ssize_t size = recv(daemon->notify, text, sizeof(text) - 1, 0);

		text[size < 0 ? 0 : size] = 0;
		if (strstr(text, state))
			return;
	}
	read_log(daemon);
	ck_abort_msg("it never said %s: %s", state, daemon->text);
}

/* Its exit status; its log is in text. */
static int daemon_end(struct daemon *daemon, int number)
{
	int status;

	if (number)
		ck_assert_int_eq(kill(daemon->pid, number), 0);
	ck_assert_int_eq(waitpid(daemon->pid, &status, 0), daemon->pid);
	read_log(daemon);
	close(daemon->log);
	close(daemon->notify);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static bool is_missing(const char *path)
{
	return access(path, F_OK) < 0 && errno == ENOENT;
}

/* The mode that was asked for less the caller's umask alone: the daemon's own is no matter. */
static void check_mode(struct shmb *c)
{
	const struct shmb_how how = { .oflag = O_RDWR | O_CREAT | O_EXCL, .mode = 0666, .size = 1 };
	mode_t before = umask(022);
	struct shmb_info info;

	for (int sized = 0; sized < 2; sized++) {
		int fd = sized ? shmb_open_how(c, "/a-mode", &how, sizeof(how))
			       : shmb_open(c, "/a-mode", O_RDWR | O_CREAT | O_EXCL, 0666);

		ck_assert_msg(fd >= 0, "%s", shmb_reason(c));
		close(fd);
		ck_assert_int_eq(shmb_stat(c, "/a-mode", &info, sizeof(info)), 0);
		ck_assert_uint_eq(info.mode, 0644);
		ck_assert_int_eq(shmb_unlink(c, "/a-mode"), 0);
	}
	umask(before);
}

static void check_served(const char *socket)
{
	struct shmb *c;

	ck_assert_int_eq(shmb_connect(&c, socket), 0);
	check_mode(c);
	close(make_object(c, "/a-1"));
	ck_assert_int_eq(try_open(c, "/a-1", O_RDONLY), 0);
	ck_assert_int_eq(try_open(c, "/h-1", O_RDWR | O_CREAT), 0);
	ck_assert_int_eq(shmb_unlink(c, "/a-1"), 0);
	ck_assert_int_eq(shmb_unlink(c, "/h-1"), 0);
	shmb_disconnect(c);
}

START_TEST(what_is_wrong_at_the_start_is_said_and_is_its_exit_status)
{
	static const struct {
		const char *config; /* NULL: there is no file */
		const char *arguments[4];
		int status;
		const char *says;
	} rows[] = {
		{ NULL, { "--help" }, 0, "usage: shmbrokerd" },
		{ NULL, { "--version" }, 0, "shmbrokerd " PACKAGE_VERSION },
		{ NULL, { "--nonsense" }, 2, "--help" },
		{ NULL, { "argument" }, 2, "no argument is expected, this is one: argument" },
		{ NULL, { "--user" }, 1, "--user needs XDG_RUNTIME_DIR" },
		{ NULL, { "C", "S" }, 1, "No such file" },
		{ "pools: {\n  a: { size = 7x } }\n", { "C", "S" }, 1, "conf:2" },
		{ "pools: { a: { path = \"/nowhere\" } }\n"
		  "rules: ( { name = \"a\" names = \"/*\" allow = \"all\" pool = \"a\" } )\n",
		  { "C", "S" },
		  1,
		  "not a single pool can be had" },
		{ "", { "C", "--socket=/proc/none/socket" }, 1, "its directory can't be used" },
		{ "", { "C", "--socket=/" }, 1, "its directory can't be used" },
	};
	struct place place;

	place_make(&place, 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		const char *arguments[6] = { "shmbrokerd" };
		struct daemon daemon;

		if (rows[i].config)
			write_config(&place, rows[i].config);
		else
			unlink(place.config);
		for (size_t j = 0; rows[i].arguments[j]; j++) {
			const char *argument = rows[i].arguments[j];

			arguments[j + 1] = strcmp(argument, "C") == 0	? place.config_option
					   : strcmp(argument, "S") == 0 ? place.socket_option
									: argument;
		}
		daemon_start(&daemon, &(struct start){ 0 }, arguments);
		ck_assert_msg(daemon_end(&daemon, 0) == rows[i].status, "row %zu: %s", i,
			      daemon.text);
		ck_assert_msg(strstr(daemon.text, rows[i].says), "row %zu: %s", i, daemon.text);
		ck_assert(is_missing(place.socket));
	}
}
END_TEST

START_TEST(one_socket_has_one_daemon_and_goes_with_it)
{
	static const uid_t users[] = { 0, ORDINARY };

	NEEDS_PRIVATE_POOLS;
	TEST_NEEDS(test_is_root(), "root, to become another");
	for (size_t i = 0; i < 2; i++) {
		const struct start start = { .uid = users[i] };
		const char *arguments[4] = { "shmbrokerd" };
		struct daemon first, second;
		struct place place;
		char command[256];
		struct stat st;

		place_make(&place, users[i]);
		arguments[1] = place.config_option;
		arguments[2] = place.socket_option;
		daemon_start(&first, &start, arguments);
		await_state(&first, "READY=1");
		ck_assert_int_eq(stat(place.socket, &st), 0);
		ck_assert_uint_eq(st.st_mode & 07777, 0666);
		daemon_start(&second, &start, arguments);
		ck_assert_int_eq(daemon_end(&second, 0), 1);
		ck_assert_ptr_nonnull(strstr(second.text, "another broker answers there"));
		check_served(place.socket);
		/* Killed, it leaves a stale one, which is replaced. */
		ck_assert_int_eq(daemon_end(&first, SIGKILL), 128 + SIGKILL);
		ck_assert(!is_missing(place.socket));
		daemon_start(&first, &start, arguments);
		await_state(&first, "READY=1");
		check_served(place.socket);
		ck_assert_int_eq(daemon_end(&first, SIGTERM), 0);
		ck_assert(is_missing(place.socket));
		snprintf(command, sizeof(command), "rm -r %s", place.directory);
		ck_assert_int_eq(system(command), 0);
	}
}
END_TEST

START_TEST(a_relative_socket_and_a_signal_to_reload)
{
	const char *arguments[4] = { "shmbrokerd", NULL, "--socket=run/socket" };
	struct daemon daemon;
	struct place place;
	struct start start;

	NEEDS_PRIVATE_POOLS;
	place_make(&place, 0);
	start = (struct start){ .uid = geteuid(), .directory = place.directory };
	arguments[1] = place.config_option;
	daemon_start(&daemon, &start, arguments);
	await_state(&daemon, "READY=1");
	check_served(place.socket);
	ck_assert_int_eq(kill(daemon.pid, SIGHUP), 0);
	await_state(&daemon, "RELOADING=1");
	await_state(&daemon, "READY=1");
	write_config(&place, "nonsense");
	ck_assert_int_eq(kill(daemon.pid, SIGHUP), 0);
	await_state(&daemon, "refused");
	check_served(place.socket);
	ck_assert_int_eq(kill(daemon.pid, SIGINT), 0);
	await_state(&daemon, "STOPPING=1");
	ck_assert_int_eq(daemon_end(&daemon, 0), 0);
	ck_assert_ptr_nonnull(strstr(daemon.text, "another configuration is in force"));
	ck_assert_ptr_nonnull(strstr(daemon.text, "the configuration before stays in force"));
	ck_assert(is_missing(place.socket));
}
END_TEST

START_TEST(a_socket_that_systemd_gave_is_served_and_left)
{
	const char *arguments[3] = { "shmbrokerd" };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct daemon daemon;
	struct place place;
	struct start start;
	char run[128];

	NEEDS_PRIVATE_POOLS;
	place_make(&place, 0);
	snprintf(run, sizeof(run), "%s/run", place.directory);
	ck_assert_int_eq(mkdir(run, 0755), 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", place.socket);
	arguments[1] = place.config_option;
	for (int wrong = 0; wrong < 2; wrong++) {
		start = (struct start){ .uid = geteuid() };
		start.listener = socket(AF_UNIX,
					(wrong ? SOCK_STREAM : SOCK_SEQPACKET) | SOCK_CLOEXEC, 0);
		ck_assert_int_eq(bind(start.listener, (struct sockaddr *)&address, sizeof(address)),
				 0);
		ck_assert_int_eq(listen(start.listener, 16), 0);
		daemon_start(&daemon, &start, arguments);
		if (wrong) {
			ck_assert_int_eq(daemon_end(&daemon, 0), 1);
			ck_assert_ptr_nonnull(strstr(daemon.text, "SOCK_SEQPACKET"));
		} else {
			await_state(&daemon, "READY=1");
			check_served(place.socket);
			ck_assert_int_eq(daemon_end(&daemon, SIGTERM), 0);
		}
		ck_assert_int_eq(unlink(place.socket), 0);
		close(start.listener);
	}
}
END_TEST

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
		const char *arguments[4] = { "shmbrokerd" };
		char soft[64], hard[64], limits[256], command[256];
		struct daemon daemon;
		struct place place;

		place_make(&place, users[i]);
		arguments[1] = place.config_option;
		arguments[2] = place.socket_option;
		daemon_start(&daemon, &(struct start){ .uid = users[i] }, arguments);
		await_state(&daemon, "READY=1");
		check_rights(daemon.pid, users[i] == 0);
		proc_line(limits, sizeof(limits), daemon.pid, "limits", "Max open files");
		ck_assert_int_eq(sscanf(limits, "%63s %63s", soft, hard), 2);
		ck_assert_str_eq(soft, hard);
		ck_assert_int_eq(daemon_end(&daemon, SIGTERM), 0);
		snprintf(command, sizeof(command), "rm -r %s", place.directory);
		ck_assert_int_eq(system(command), 0);
	}
}
END_TEST

START_TEST(without_its_keeper_it_ends_with_an_error)
{
	const char *arguments[4] = { "shmbrokerd" };
	struct daemon daemon;
	struct place place;

	NEEDS_PRIVATE_POOLS;
	place_make(&place, 0);
	arguments[1] = place.config_option;
	arguments[2] = place.socket_option;
	daemon_start(&daemon, &(struct start){ .uid = geteuid() }, arguments);
	await_state(&daemon, "READY=1");
	ck_assert_int_eq(kill(child_named(daemon.pid, "shmb-keeper"), SIGKILL), 0);
	ck_assert_int_eq(daemon_end(&daemon, 0), 1);
	ck_assert_ptr_nonnull(strstr(daemon.text, "a helper process has ended"));
	ck_assert(is_missing(place.socket));
}
END_TEST

START_TEST(it_makes_its_table_in_a_user_namespace_of_its_own)
{
	const char *arguments[4] = { "shmbrokerd" };
	struct daemon daemon;
	struct place place;

	NEEDS_PRIVATE_POOLS;
	TEST_NEEDS(test_is_root(), "root, to write such a map");
	place_make(&place, 100000);
	arguments[1] = place.config_option;
	arguments[2] = place.socket_option;
	daemon_start(&daemon, &(struct start){ .contained = true }, arguments);
	await_state(&daemon, "READY=1");
	/* Of the main namespace, and so unknown to it: a sandboxed peer, which the rules let in. */
	check_served(place.socket);
	ck_assert_int_eq(daemon_end(&daemon, SIGTERM), 0);
	ck_assert_msg(!strstr(daemon.text, "can't be had"), "%s", daemon.text);
}
END_TEST

Suite *suite_daemon(void)
{
	Suite *suite = suite_create("daemon");
	TCase *test = tcase_create("daemon");

	tcase_set_timeout(test, 120);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, what_is_wrong_at_the_start_is_said_and_is_its_exit_status);
	tcase_add_test(test, one_socket_has_one_daemon_and_goes_with_it);
	tcase_add_test(test, a_relative_socket_and_a_signal_to_reload);
	tcase_add_test(test, a_socket_that_systemd_gave_is_served_and_left);
	tcase_add_test(test, it_keeps_three_rights_and_its_helpers_none);
	tcase_add_test(test, without_its_keeper_it_ends_with_an_error);
	tcase_add_test(test, it_makes_its_table_in_a_user_namespace_of_its_own);
	suite_add_tcase(suite, test);
	return suite;
}
