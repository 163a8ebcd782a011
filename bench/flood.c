/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bench/flood.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/shmbroker.h"
#include "proto/protocol.h"

/* More the broker doesn't answer before some are read. */
#define AHEAD 16

struct connection {
	unsigned asked; /* and not answered */
};

static struct pollfd *wanted;
static struct connection *connections;
static unsigned connection_count;
static struct {
	struct wire_open wire;
	char name[300];
} request;
static size_t request_size;
static int control = -1;

static void die(const char *what)
{
	fprintf(stderr, "bench/flood: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int greeted(const char *path)
{
	const struct wire_hello hello = { .magic = WIRE_MAGIC,
					  .version_min = WIRE_VERSION_MIN,
					  .version_max = WIRE_VERSION_MAX,
					  .size = sizeof(hello),
					  .packet_max = WIRE_REQUEST_MAX };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct wire_hello answer;

	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    recv(fd, &answer, sizeof(answer), 0) != sizeof(answer) || answer.status ||
	    send(fd, &hello, sizeof(hello), MSG_NOSIGNAL) < 0)
		die(path);
	return fd;
}

/* One reply, whose descriptor is closed. false: there is none yet. */
static bool take_reply(int fd)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} attached;
	char bytes[WIRE_REQUEST_MAX];
	struct iovec part = { bytes, sizeof(bytes) };
	struct msghdr message = { .msg_iov = &part,
				  .msg_iovlen = 1,
				  .msg_control = &attached,
				  .msg_controllen = sizeof(attached) };
	ssize_t size = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	const struct cmsghdr *header;
	int got;

	if (size < 0 && errno == EAGAIN)
		return false;
	header = size > 0 ? CMSG_FIRSTHDR(&message) : NULL;
	if (!header)
		die("it was not given what it asked for");
	memcpy(&got, CMSG_DATA(header), sizeof(got));
	close(got);
	return true;
}

static void ask(int fd, struct connection *connection)
{
	while (connection->asked < AHEAD &&
	       send(fd, &request, request_size, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		connection->asked++;
}

/* Whether anything is still to be answered. */
static bool turn(bool is_going)
{
	bool is_open = false;

	for (unsigned i = 0; i < connection_count; i++) {
		struct connection *connection = &connections[i];

		while (wanted[i].revents && connection->asked > 0 && take_reply(wanted[i].fd))
			connection->asked--;
		if (is_going)
			ask(wanted[i].fd, connection);
		is_open |= connection->asked > 0;
	}
	return is_open;
}

/* Where whoever started it was put meanwhile. */
static void follow(void)
{
	cpu_set_t set;

	if (sched_getaffinity(getppid(), sizeof(set), &set) < 0 ||
	    sched_setaffinity(0, sizeof(set), &set) < 0)
		die("sched_setaffinity");
}

/* --- one thing after the other --- */

#define HELD 64 /* connections without a word */

static struct shmb *asking;
static const char *broker_socket;

static int held[HELD];
static unsigned held_count;

static void let_go(void)
{
	while (held_count > 0)
		close(held[--held_count]);
}

static void connect_once(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	strncpy(address.sun_path, broker_socket, sizeof(address.sun_path) - 1);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("connect");
	held[held_count++] = fd;
	if (held_count == HELD)
		let_go();
}

static int pass_by(const struct shmb_info *info, void *argument)
{
	(void)info;
	(void)argument;
	return 0;
}

static void list_once(void)
{
	if (shmb_list(asking, "/*", sizeof(struct shmb_info), pass_by, NULL) < 0)
		die(shmb_reason(asking));
}

static void make_context_once(void)
{
	static const struct shmb_context how = { .app = "org.example.flood" };
	char directory[256];
	int hold = shmb_create_context(asking, &how, sizeof(how), directory, sizeof(directory));

	if (hold < 0)
		die(shmb_reason(asking));
	close(hold);
}

static void compute_once(void)
{
}

static const struct {
	const char *what;
	void (*once)(void);
	bool asks;
} things[] = {
	{ "0", compute_once, false },
	{ "connects", connect_once, false },
	{ "lists", list_once, true },
	{ "contexts", make_context_once, true },
};

/* The last of what is polled is who tells it to go, and to rest. */
static _Noreturn void flood(void (*once)(void))
{
	bool is_going = false, is_open = false;
	char byte = 0;

	for (;;) {
		if (poll(wanted, connection_count + 1, is_going && once ? 0 : -1) < 0)
			die("poll");
		if (wanted[connection_count].revents) {
			if (read(control, &byte, 1) != 1)
				exit(0);
			is_going = byte == 'g';
			is_open = true;
			let_go();
			follow();
		}
		if (is_going && once)
			once();
		else if (is_open || is_going)
			is_open = turn(is_going);
		if (!is_going && !is_open && byte == 'r') {
			byte = 0;
			if (write(control, &byte, 1) != 1)
				exit(0);
		}
	}
}

static void prepare(const char *socket, const char *object)
{
	wanted = calloc(connection_count + 1, sizeof(*wanted));
	connections = calloc(connection_count, sizeof(*connections));
	if (!wanted || !connections)
		die("memory");
	for (unsigned i = 0; i < connection_count; i++)
		wanted[i] = (struct pollfd){ .fd = greeted(socket), .events = POLLIN };
	wanted[connection_count] = (struct pollfd){ .fd = control, .events = POLLIN };
	request.wire.request = (struct wire_request){ .serial = 1, .operation = WIRE_OPEN };
	request.wire.flags = WIRE_READ | WIRE_WRITE;
	request_size = strlen(object + 1);
	memcpy((char *)&request + sizeof(request.wire), object + 1, request_size);
	request_size += sizeof(request.wire);
}

static _Noreturn void begin(const char *socket, const char *object, const char *what)
{
	void (*once)(void) = NULL;
	bool asks = false;

	for (size_t i = 0; i < sizeof(things) / sizeof(*things); i++)
		if (strcmp(what, things[i].what) == 0) {
			once = things[i].once;
			asks = things[i].asks;
		}
	connection_count = once ? 0 : (unsigned)atoi(what);
	broker_socket = socket;
	prepare(socket, object);
	if (asks && shmb_connect(&asking, socket) < 0)
		die(socket);
	flood(once);
}

int flood_start(const char *socket, const char *object, const char *what,
		void (*become)(const char *user), const char *user)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		control = pair[1];
		become(user);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		begin(socket, object, what);
	}
	close(pair[1]);
	control = pair[0];
	return pid < 0 ? -errno : 0;
}

void flood_go(void)
{
	if (write(control, "g", 1) != 1)
		die("go");
}

void flood_rest(void)
{
	char byte;

	if (write(control, "r", 1) != 1 || read(control, &byte, 1) != 1)
		die("rest");
}
