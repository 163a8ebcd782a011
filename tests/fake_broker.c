/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The process behind the drop-ins' suite: one poll(2) loop over its clients. */
#include "tests/fake_broker.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/packet.h"

#define CLIENTS_MAX 256

struct client {
	int fd;
	bool greeted;
	struct ucred who;
};

static struct client clients[CLIENTS_MAX];
static size_t client_count;
static unsigned misbehaved; /* a bit for each kind of name */

static void say_hello(int fd)
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

	packet_send(fd, &part, 1, NULL, 0);
}

static void accept_client(int listener)
{
	struct client *client = &clients[client_count];
	socklen_t size = sizeof(client->who);
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0 || client_count == CLIENTS_MAX)
		_exit(99);
	client->fd = fd;
	client->greeted = false;
	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &client->who, &size);
	client_count++;
	say_hello(fd);
}

static int file_flags(uint32_t flags)
{
	int file = O_CLOEXEC | O_NOFOLLOW;

	file |= !(flags & WIRE_WRITE) ? O_RDONLY : flags & WIRE_READ ? O_RDWR : O_WRONLY;
	file |= flags & WIRE_CREATE ? O_CREAT : 0;
	file |= flags & WIRE_EXCLUSIVE ? O_EXCL : 0;
	file |= flags & WIRE_TRUNCATE ? O_TRUNC : 0;
	return file;
}

/* 0 or an errno; what is new belongs to the caller, so that the tests see who asked. */
static int open_file(const struct client *client, const struct wire_open *open, const char *name,
		     int *ret_fd, bool *ret_created)
{
	struct stat status;

	*ret_created = open->flags & WIRE_CREATE && stat(name, &status) < 0;
	*ret_fd = openat(AT_FDCWD, name, file_flags(open->flags), open->mode);
	if (*ret_fd < 0)
		return errno;
	if (*ret_created && geteuid() == 0 && fchown(*ret_fd, client->who.uid, client->who.gid) < 0)
		return errno;
	return 0;
}

static void answer_open(const struct client *client, const struct wire_open *open, const char *name,
			bool silent)
{
	struct {
		struct wire_reply reply;
		uint8_t kinds[8];
		uint32_t flags, reserved;
	} packet = { .reply = { .serial = open->request.serial, .operation = WIRE_OPEN } };
	struct iovec part = { &packet, sizeof(packet) };
	struct fdlist fds = { 0 };
	bool created;
	int fd;

	packet.reply.status = open_file(client, open, name, &fd, &created);
	if (packet.reply.status != 0) {
		part.iov_len = sizeof(packet.reply);
	} else {
		fdlist_take(&fds, fd, WIRE_FD_OBJECT);
		packet.reply.fd_count = 1;
		packet.kinds[0] = WIRE_FD_OBJECT;
		packet.flags = created ? WIRE_CREATED : 0;
	}
	if (!silent)
		packet_send(client->fd, &part, 1, &fds, 0);
	fdlist_close(&fds);
}

static void answer_unlink(const struct client *client, const struct wire_request *request,
			  const char *name, bool silent)
{
	struct wire_reply reply = {
		.serial = request->serial,
		.operation = request->operation,
		.status = unlink(name) < 0 ? errno : 0,
	};
	struct iovec part = { &reply, sizeof(reply) };

	if (!silent)
		packet_send(client->fd, &part, 1, NULL, 0);
}

/* Whether this is a time to misbehave so. */
static bool misbehaves(const char *name, const char *kind, unsigned bit, bool each_time)
{
	if (strncmp(name, kind, strlen(kind)) != 0)
		return false;
	if (misbehaved & bit && !each_time)
		return false;
	misbehaved |= bit;
	return true;
}

/* false: the connection is to be closed. */
static bool answer(struct client *client, const char *packet)
{
	const struct wire_request *request = (const void *)packet;
	size_t header = request->operation == WIRE_OPEN ? sizeof(struct wire_open)
							: sizeof(struct wire_name);
	const char *name = packet + header;
	bool silent;

	if (misbehaves(name, "unread-", 1u << 0, false) || misbehaves(name, "never-", 0, true))
		return false;
	silent = misbehaves(name, "read-", 1u << 1, false);
	if (misbehaves(name, "last-", 1u << 2, false)) {
		unlink(".socket");
		silent = true;
	}
	if (silent)
		recv(client->fd, (char[1]){ 0 }, 1, 0);
	if (request->operation == WIRE_OPEN)
		answer_open(client, (const void *)packet, name, silent);
	else
		answer_unlink(client, request, name, silent);
	return !silent;
}

/* Peeked at first, so that a connection can be closed with a request unread. */
static bool serve(struct client *client)
{
	_Alignas(8) char packet[WIRE_REQUEST_MAX + 1] = { 0 };
	ssize_t n = recv(client->fd, packet, WIRE_REQUEST_MAX, MSG_PEEK | MSG_DONTWAIT);
	bool good;

	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	packet[n] = '\0';
	if (!client->greeted) {
		client->greeted = true;
		good = (size_t)n == sizeof(struct wire_hello);
	} else {
		good = answer(client, packet);
	}
	if (good)
		recv(client->fd, packet, WIRE_REQUEST_MAX, MSG_DONTWAIT);
	return good;
}

static void serve_all(int listener)
{
	for (;;) {
		struct pollfd wanted[CLIENTS_MAX + 1] = { { .fd = listener, .events = POLLIN } };

		for (size_t i = 0; i < client_count; i++)
			wanted[i + 1] = (struct pollfd){ .fd = clients[i].fd, .events = POLLIN };
		if (poll(wanted, client_count + 1, -1) < 0)
			_exit(98);
		for (size_t i = client_count; i-- > 0;) {
			if (!wanted[i + 1].revents || serve(&clients[i]))
				continue;
			close(clients[i].fd);
			clients[i] = clients[--client_count];
		}
		if (wanted[0].revents)
			accept_client(listener);
	}
}

static void run(struct fake_broker *broker)
{
	pid_t test = getpid();

	broker->pid = fork();
	ck_assert_int_ge(broker->pid, 0);
	if (broker->pid > 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	umask(0);
	if (getppid() != test || chdir(broker->directory) < 0)
		_exit(97);
	serve_all(broker->listener);
}

void fake_broker_start(struct fake_broker *broker, const char *directory)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	*broker = (struct fake_broker){ .directory = directory };
	snprintf(broker->path, sizeof(broker->path), "%.90s/.socket", directory);
	memcpy(address.sun_path, broker->path, sizeof(address.sun_path));
	broker->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(broker->listener, 0);
	ck_assert_int_eq(bind(broker->listener, (const struct sockaddr *)&address, sizeof(address)),
			 0);
	/* The directory and the socket are for a caller under another uid, too. */
	ck_assert_int_eq(chmod(broker->path, 0666), 0);
	ck_assert_int_eq(chmod(directory, 0755), 0);
	ck_assert_int_eq(listen(broker->listener, 64), 0);
	ck_assert_int_eq(setenv("SHMBROKER_SOCKET", broker->path, 1), 0);
	run(broker);
}

void fake_broker_kill(struct fake_broker *broker)
{
	ck_assert_int_eq(kill(broker->pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(broker->pid, NULL, 0), broker->pid);
	broker->pid = 0;
}

void fake_broker_restart(struct fake_broker *broker)
{
	fake_broker_kill(broker);
	run(broker);
}

void fake_broker_stop(struct fake_broker *broker)
{
	if (broker->pid > 0)
		fake_broker_kill(broker);
	if (broker->listener >= 0)
		close(broker->listener);
	unlink(broker->path);
}

bool fake_limits_are_real(void)
{
	const char *preloaded = getenv("LD_PRELOAD");

	return !preloaded || !strstr(preloaded, "vgpreload");
}
