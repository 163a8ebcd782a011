/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How many instructions a request costs the daemon: a number that does not drift, whatever else the
 * machine does. The daemon and its client are one thread here, which sends a request, lets the
 * loop turn once, and takes the reply. scripts/bench runs it under valgrind:
 *
 *     valgrind --tool=callgrind --toggle-collect=broker_turn --dump-after=segment_done
 *         bench/count DIRECTORY REQUESTS [BUS-ADDRESS]
 *
 * For each row it prints the name, and makes three segments: REQUESTS of them, in which everything
 * happens that happens once; as many again; and twice as many. What the last has more than
 * the second is what they cost. DIRECTORY is an empty one on a tmpfs. The system calls themselves
 * don't count.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "daemon/broker_private.h"
#include "daemon/bus_private.h"
#include "daemon/fd.h"
#include "daemon/keeper.h"
#include "daemon/server_private.h"
#include "proto/packet.h"

#define SIZE 4096
#define CALLER 23451 /* a user without an entry in passwd */
#define BUS_NAME "org.shmbroker.Broker1"
#define BUS_PATH "/org/shmbroker/Broker1"

static struct server *server;
static int client;
static sd_bus *bus;

static void die(const char *what, int error)
{
	fprintf(stderr, "bench/count: %s: %s\n", what, strerror(error));
	exit(1);
}

/* The two that valgrind is told of. */
__attribute__((noinline)) void broker_turn(void);
__attribute__((noinline)) void segment_done(void);

void broker_turn(void)
{
	server_step(server, false);
}

void segment_done(void)
{
	__asm__ volatile("");
}

/*
 * Valgrind doesn't know pidfd_open(2) either, by which it is seen whether a caller is alive. This
 * one, the only, is.
 */
long __real_syscall(long number, long a, long b, long c, long d, long e, long f);
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f);

long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	if (number == SYS_pidfd_open)
		return eventfd(0, EFD_CLOEXEC);
	return __real_syscall(number, a, b, c, d, e, f);
}

/* --- over the socket --- */

/* One request and its reply, whose descriptor goes. */
static void exchange(void *packet, size_t head, const char *name, int expected)
{
	static char buffer[WIRE_PACKET_MAX];
	struct iovec part[2] = { { packet, head }, { (char *)name, strlen(name) } };
	struct wire_reply reply;
	struct fdlist fds;
	ssize_t size;
	int error = packet_send(client, part, 2, NULL, MSG_DONTWAIT);

	if (error < 0)
		die("send", -error);
	broker_turn();
	size = packet_receive(client, buffer, sizeof(buffer), &fds, MSG_DONTWAIT);
	if (size < (ssize_t)sizeof(reply))
		die("no reply", size < 0 ? (int)-size : EPROTO);
	fdlist_close(&fds);
	memcpy(&reply, buffer, sizeof(reply));
	if (reply.status != expected)
		die(name, reply.status);
}

static void ask_open(const char *name, uint32_t flags, uint64_t size, int expected)
{
	struct wire_open wire = {
		.request = { .serial = 1, .operation = WIRE_OPEN },
		.flags = flags,
		.mode = 0600,
		.size = size,
	};

	exchange(&wire, sizeof(wire), name, expected);
}

static void open_path(void)
{
	ask_open("path-object", WIRE_READ | WIRE_WRITE, 0, 0);
}

static void open_path_read_only(void)
{
	ask_open("path-object", WIRE_READ, 0, 0);
}

static void open_made(void)
{
	ask_open("made-object", WIRE_READ | WIRE_WRITE, 0, 0);
}

static void open_made_read_only(void)
{
	ask_open("made-object", WIRE_READ, 0, 0);
}

static void denied(void)
{
	ask_open("denied", WIRE_READ, 0, EACCES);
}

static void create_and_unlink(const char *name)
{
	struct wire_name wire = { .request = { .serial = 1, .operation = WIRE_UNLINK } };

	ask_open(name, WIRE_READ | WIRE_WRITE | WIRE_CREATE | WIRE_EXCLUSIVE, SIZE, 0);
	exchange(&wire, sizeof(wire), name, 0);
}

static void create_in_path(void)
{
	create_and_unlink("path-new");
}

static void create_in_made(void)
{
	create_and_unlink("made-new");
}

/* --- over a bus --- */

static int bus_error;
static bool bus_replied;

static int replied(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	(void)userdata;
	(void)error;
	bus_error = sd_bus_message_get_errno(reply);
	bus_replied = true;
	return 0;
}

/* The broker's part of it, each time that something has come for it. */
static void wait_for_reply(void)
{
	int rc = 0;

	while (!bus_replied && rc >= 0) {
		struct pollfd both[2] = { { .fd = sd_bus_get_fd(server->bus->sd),
					    .events = POLLIN },
					  { .fd = sd_bus_get_fd(bus), .events = POLLIN } };

		if (poll(both, 2, 10000) <= 0)
			die("no reply over the bus", ETIMEDOUT);
		if (both[0].revents)
			broker_turn();
		while (both[1].revents && (rc = sd_bus_process(bus, NULL)) > 0)
			;
	}
	if (rc < 0)
		die("the bus", -rc);
}

static void open_by_bus(void)
{
	int rc;

	bus_replied = false;
	rc = sd_bus_call_method_async(bus, NULL, BUS_NAME, BUS_PATH, BUS_NAME, "Open", replied,
				      NULL, "sasua{sv}", "/path-object", 1, "rdwr", 0, 0);
	if (rc >= 0)
		rc = sd_bus_flush(bus);
	if (rc < 0)
		die("the bus", -rc);
	wait_for_reply();
	if (bus_error)
		die("Open over the bus", bus_error);
}

/* Until the broker has its name there. */
static void connect_bus(const char *address)
{
	int rc = server_add_bus(server, address);

	if (rc >= 0)
		rc = sd_bus_new(&bus);
	if (rc >= 0)
		rc = sd_bus_set_address(bus, address);
	if (rc >= 0)
		rc = sd_bus_set_bus_client(bus, true);
	if (rc >= 0)
		rc = sd_bus_start(bus);
	if (rc < 0)
		die(address, -rc);
	for (int i = 0; i < 1000 && !server->bus->ready; i++) {
		poll(NULL, 0, 10);
		broker_turn();
	}
	if (!server->bus->ready)
		die("the broker didn't come onto the bus", ETIMEDOUT);
}

/* --- the rows --- */

static const struct {
	const char *name;
	void (*ask)(void);
	bool needs_bus;
} rows[] = {
	{ .name = "open-path", .ask = open_path },
	{ .name = "open-path-read-only", .ask = open_path_read_only },
	{ .name = "open-made", .ask = open_made },
	{ .name = "open-made-read-only", .ask = open_made_read_only },
	{ .name = "denied", .ask = denied },
	{ .name = "create-unlink-path", .ask = create_in_path },
	{ .name = "create-unlink-made", .ask = create_in_made },
	{ .name = "open-bus", .ask = open_by_bus, .needs_bus = true },
};

static void segment(void (*ask)(void), int requests)
{
	for (int i = 0; i < requests; i++)
		ask();
	segment_done();
}

/* --- the broker --- */

static void write_config(const char *path, const char *pools)
{
	FILE *file = fopen(path, "we");

	if (!file)
		die(path, errno);
	fprintf(file,
		"pools: { path: { path = \"%s\"  access = \"caller\" }\n"
		"         made: { path = \"%s\"  access = \"grant\" } }\n"
		"rules: ( { name = \"nobody\"  names = \"/denied\"  allow = []  log = \"none\" },\n"
		"         { name = \"path\"  names = \"/path-*\"  allow = \"all\"  pool = \"path\" "
		"},\n"
		"         { name = \"made\"  names = \"/made-*\"  allow = \"all\"  pool = \"made\" "
		"} )\n",
		pools, pools);
	if (fclose(file) == EOF)
		die(path, errno);
}

static struct instance *instance_of(const char *name)
{
	struct pool *pool = store_pool_by_name(server->broker->store, name);

	if (!pool || !pool->single || pool->single->state != INSTANCE_READY)
		die(name, ENOENT);
	return pool->single;
}

/*
 * Valgrind knows none of the calls that make a pool and a read-only twin, and a request has no part
 * in them: so a plain directory stands in for each, and the broker takes it for what it would be.
 */
static void stand_in(void)
{
	struct instance *path = instance_of("path"), *made = instance_of("made");

	fd_close(path->read_only);
	fd_close(made->read_only);
	path->read_only = openat(path->writable, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	made->read_only = openat(made->writable, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (path->read_only < 0 || made->read_only < 0)
		die("a directory", errno);
	made->broker_only = true;
	made->limit_bytes = 1 << 20;
}

static void start_broker(const char *directory)
{
	static const struct keeper_fault no_table = { "unshare", EPERM };
	static struct config_source source;
	static struct server_setup setup;
	static struct peer_self self;
	static char file[256], pools[256];
	struct keeper_setup helpers = { .table_uid = geteuid(),
					.table_gid = getegid(),
					.userns = -EBADF,
					.mntns = -EBADF,
					.fault = &no_table };
	static struct keeper *keeper;
	int error;

	snprintf(file, sizeof(file), "%s/conf", directory);
	snprintf(pools, sizeof(pools), "%s/pools", directory);
	if (mkdir(pools, 01777) < 0 || chmod(pools, 01777) < 0)
		die(pools, errno);
	write_config(file, pools);
	umask(0); /* as the daemon's */
	source = (struct config_source){ .file = file,
					 .owner = geteuid(),
					 .is_user = geteuid() != 0,
					 .memory_bytes = 1ull << 34 };
	error = peer_self_init(&self, geteuid() != 0);
	if (error == 0)
		error = keeper_start(&keeper, &helpers);
	setup = (struct server_setup){ .self = &self, .source = &source, .keeper = keeper };
	if (error == 0)
		error = server_new(&server, &setup);
	if (error == 0)
		error = server_load(server);
	if (error < 0)
		die("the broker", -error);
	stand_in();
}

static void connect_client(void)
{
	const struct wire_hello mine = {
		.magic = WIRE_MAGIC,
		.version_min = WIRE_VERSION_MIN,
		.version_max = WIRE_VERSION_MAX,
		.size = sizeof(mine),
		.fds_max = WIRE_FDS_MAX,
		.packet_max = WIRE_PACKET_MAX,
	};
	struct iovec part = { (void *)&mine, sizeof(mine) };
	struct wire_hello theirs;
	int pair[2], error;

	/* Of somebody else, as root's broker has its callers. */
	if (geteuid() == 0 && (setegid(CALLER) < 0 || seteuid(CALLER) < 0))
		die("other ids", errno);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		die("socketpair", errno);
	if (getuid() == 0 && (seteuid(0) < 0 || setegid(0) < 0))
		die("own ids", errno);
	client = pair[0];
	error = server_add_client(server, pair[1]);
	if (error < 0)
		die("the connection", -error);
	/* As on a kernel that refuses descriptors: there is one way less. */
	LIST_FIRST(&server->clients)->peek = false;
	if (recv(client, &theirs, sizeof(theirs), MSG_DONTWAIT) != sizeof(theirs) || theirs.status)
		die("no hello", EPROTO);
	packet_send(client, &part, 1, NULL, 0);
	broker_turn();
}

int main(int argc, char **argv)
{
	int requests;

	if (argc != 3 && argc != 4) {
		fputs("usage: bench/count DIRECTORY REQUESTS [BUS-ADDRESS]\n", stderr);
		return 2;
	}
	requests = atoi(argv[2]);
	start_broker(argv[1]);
	connect_client();
	ask_open("path-object", WIRE_READ | WIRE_WRITE | WIRE_CREATE, 0, 0);
	ask_open("made-object", WIRE_READ | WIRE_WRITE | WIRE_CREATE, 0, 0);
	if (argc > 3)
		connect_bus(argv[3]);
	segment_done();
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		if (rows[i].needs_bus && argc < 4)
			continue;
		puts(rows[i].name);
		for (int part = 0; part < 3; part++)
			segment(rows[i].ask, part < 2 ? requests : 2 * requests);
	}
	return fflush(stdout) == EOF;
}
