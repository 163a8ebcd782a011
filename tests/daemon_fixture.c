/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Starts the program shmbrokerd, hears how far it is, and ends it: see daemon_fixture.h. */
#include "tests/daemon_fixture.h"

#include <grp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "proto/packet.h"
#include "tests/store_fixture.h"

void daemon_configure(const struct daemon_place *place, const char *text)
{
	FILE *file = fopen(place->config, "we");

	ck_assert_ptr_nonnull(file);
	ck_assert_int_ge(fputs(text, file), 0);
	ck_assert_int_eq(fclose(file), 0);
}

void daemon_place_make(struct daemon_place *p, uid_t owner)
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
		 "         host: { path = \"%s\" access = \"grant\" } }\n" DAEMON_RULES,
		 p->host);
	daemon_configure(p, text);
	ck_assert_int_eq(chmod(p->host, 01777), 0);
	if (owner == 0)
		return;
	ck_assert_int_eq(chown(p->directory, owner, owner), 0);
	ck_assert_int_eq(chown(p->config, owner, owner), 0);
}

void daemon_place_remove(const struct daemon_place *place)
{
	char command[256];

	snprintf(command, sizeof(command), "rm -r %s", place->directory);
	ck_assert_int_eq(system(command), 0);
}

static unsigned started;

static void notify_name(struct sockaddr_un *address, socklen_t *size)
{
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	*size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
			    (size_t)snprintf(address->sun_path + 1, 64, "shmbroker-test-%d-%u",
					     (int)getpid(), ++started));
}

static void become(const struct daemon_how *start, int gate)
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

#define FD_FIRST 3
#define FD_ASIDE 40

static void give(const struct daemon_kept *given)
{
	char names[256] = "", number[16];
	int aside[sizeof(given->entry) / sizeof(*given->entry)];

	for (unsigned i = 0; i < given->count; i++) {
		aside[i] = fcntl(given->entry[i].fd, F_DUPFD_CLOEXEC, FD_ASIDE);
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", i ? ":" : "",
			 given->entry[i].name);
	}
	for (unsigned i = 0; i < given->count; i++)
		dup2(aside[i], FD_FIRST + (int)i);
	snprintf(number, sizeof(number), "%d", (int)getpid());
	setenv("LISTEN_PID", number, 1);
	snprintf(number, sizeof(number), "%u", given->count);
	setenv("LISTEN_FDS", number, 1);
	if (*names)
		setenv("LISTEN_FDNAMES", names, 1);
}

static void give_plan(int plan)
{
	char number[16];

	/* The one that isn't closed on exec. */
	snprintf(number, sizeof(number), "%d", fcntl(plan, F_DUPFD, FD_ASIDE));
	setenv("FAULT_PLAN", number, 1);
}

static _Noreturn void daemon_exec(const struct daemon *daemon, const struct daemon_how *start,
				  int program, const char *const *arguments)
{
	char name[80];

	snprintf(name, sizeof(name), "@shmbroker-test-%d-%u", (int)getppid(), started);
	setenv("NOTIFY_SOCKET", name, 1);
	/*
	 * It lets nobody trace it, itself neither, and starts no program; leaks are looked for in
	 * the other suites.
	 */
	setenv("ASAN_OPTIONS", "detect_leaks=0:symbolize=0", 1);
	unsetenv("XDG_RUNTIME_DIR");
	dup2(daemon->log, 1);
	dup2(daemon->log, 2);
	/* Numbers that are to be given are moved out of the way first. */
	program = fcntl(program, F_DUPFD_CLOEXEC, FD_ASIDE);
	if (start->plan)
		give_plan(start->plan);
	if (start->given && start->given->count > 0)
		give(start->given);
	become(start, daemon->gate);
	for (int fd = 0; start->closed && fd < 3; fd++)
		close(fd);
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

void daemon_start(struct daemon *daemon, const struct daemon_how *start,
		  const char *const *arguments)
{
	const char *build = getenv("TEST_BUILDDIR");
	struct sockaddr_un address;
	socklen_t size;
	char path[256], byte;
	int program, gates[2];

	*daemon = (struct daemon){ .pid = -1 };
	snprintf(path, sizeof(path), "%s/%s", build ? build : ".",
		 start->plan ? "tests/faulty" : "shmbrokerd");
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

void daemon_start_at(struct daemon *daemon, const struct daemon_place *place,
		     const struct daemon_how *how)
{
	const char *const arguments[] = { "shmbrokerd", place->config_option, place->socket_option,
					  NULL };

	daemon_start(daemon, how, arguments);
}

static void read_log(struct daemon *daemon)
{
	ssize_t size = pread(daemon->log, daemon->text, sizeof(daemon->text) - 1, 0);

	daemon->text[size < 0 ? 0 : size] = 0;
}

void daemon_await(struct daemon *daemon, const char *state)
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

static void keep_no_longer(struct daemon_kept *kept, const char *name)
{
	for (unsigned i = 0; i < kept->count; i++) {
		if (strcmp(kept->entry[i].name, name) != 0)
			continue;
		close(kept->entry[i].fd);
		kept->entry[i--] = kept->entry[--kept->count];
	}
}

static void keep(struct daemon_kept *kept, const char *name, int fd)
{
	/* The same once more is no second. */
	keep_no_longer(kept, name);
	ck_assert_uint_lt(kept->count, sizeof(kept->entry) / sizeof(*kept->entry));
	snprintf(kept->entry[kept->count].name, sizeof(kept->entry[0].name), "%s", name);
	kept->entry[kept->count++].fd = fd;
}

/* What sd_notify(3) says, with at most one descriptor. */
static void take_notice(int notify, char *text, size_t size, struct daemon_kept *kept)
{
	struct fdlist fds = { 0 };
	const char *name;
	ssize_t got = packet_receive(notify, text, size - 1, &fds, 0);

	text[got < 0 ? 0 : got] = 0;
	name = strstr(text, "FDNAME=");
	if (name && strncmp(text, "FDSTOREREMOVE=1", 15) == 0)
		keep_no_longer(kept, name + 7);
	else if (name && fds.count == 1)
		keep(kept, name + 7, fdlist_steal_only(&fds));
	fdlist_close(&fds);
}

bool daemon_heed(struct daemon *daemon, const char *state, struct daemon_kept *kept)
{
	struct pollfd events[] = {
		{ .fd = daemon->notify, .events = POLLIN },
		{ .fd = (int)syscall(SYS_pidfd_open, daemon->pid, 0), .events = POLLIN },
	};
	char text[512] = "";

	ck_assert_int_ge(events[1].fd, 0);
	while (!strstr(text, state) && poll(events, 2, ANSWER_MS) > 0) {
		/* Its end comes behind all that it has said. */
		if (events[0].revents)
			take_notice(daemon->notify, text, sizeof(text), kept);
		else
			break;
	}
	ck_assert_msg(events[0].revents || events[1].revents, "it neither said %s nor ended",
		      state);
	close(events[1].fd);
	return strstr(text, state);
}

void daemon_kept_done(struct daemon_kept *kept)
{
	while (kept->count > 0)
		close(kept->entry[--kept->count].fd);
}

int daemon_end(struct daemon *daemon, int number)
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

void daemon_check_served(const char *socket)
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
