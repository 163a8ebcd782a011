/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Makes calls in one of the ways there are, and says how long each took. Run by run.c, which
 * appends the last arguments: a user ("-": as we are), and the two ends of the turn that
 * it has with another caller.
 *
 *     caller shm_open - NAME                the C library's, or what LD_PRELOAD put there
 *     caller floor SOCKET NAME              floor.c
 *     caller library SOCKET NAME [COUNT]    shmb_open_how(), on the next of COUNT connections
 *     caller idle SOCKET NAME COUNT         the same on the first of them alone
 *     caller flooded SOCKET NAME WHAT USER  the same, while USER does that without end: flood.h
 *     caller drop-in SOCKET NAME            shmb_shm_open()
 *     caller bus ADDRESS NAME SERVICE       D-Bus; SERVICE is Broker1 or Floor01
 *
 * The object is NAME-object (made if it is missing, but for the floor, which takes its callers only
 * in turn), the one that is created NAME-new, the one that is refused NAME-denied. A call includes
 * closing what it got.
 *
 * It also prepares what the others are measured in:
 *
 *     caller fill  SOCKET COUNT     creates as many objects, by the drop-in
 *     caller users SOCKET COUNT     the same, each as another user
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/flood.h"
#include "bench/floor.h"
#include "client/shmbroker.h"

#define SIZE 4096
#define MODE 0666
#define USERS_FIRST 200000 /* without entries in passwd */
#define GROUPS_FIRST 210000

/* All return 0 or -errno, and close what they got. */
struct way {
	const char *name;
	int (*connect)(char **arguments, int count);
	int (*open)(const char *name, int oflag);
	int (*create)(const char *name); /* with SIZE */
	int (*unlink)(const char *name);
	void (*begin)(void), (*end)(void); /* a batch */
};

static int done(int fd)
{
	if (fd < 0)
		return fd;
	return close(fd) < 0 ? -errno : 0;
}

/* --- the C library's, or the preload library's --- */

static int kernel_connect(char **arguments, int count)
{
	(void)arguments;
	return count == 2 ? 0 : -EINVAL;
}

static int kernel_open(const char *name, int oflag)
{
	int fd = shm_open(name, oflag, MODE);

	return fd < 0 ? -errno : done(fd);
}

static int kernel_create(const char *name)
{
	int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, MODE);

	if (fd < 0 || ftruncate(fd, SIZE) < 0)
		return -errno;
	return done(fd);
}

static int kernel_unlink(const char *name)
{
	return shm_unlink(name) < 0 ? -errno : 0;
}

/* --- the floor --- */

static int floor_socket;

static int floor_connect(char **arguments, int count)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (count != 2 || strlen(arguments[0]) >= sizeof(address.sun_path))
		return -EINVAL;
	strcpy(address.sun_path, arguments[0]);
	floor_socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (floor_socket < 0 ||
	    connect(floor_socket, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return 0;
}

static int floor_ask(struct floor_request *request, const char *name, int *ret_fd)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct floor_reply reply;
	struct iovec part = { &reply, sizeof(reply) };
	struct msghdr message = { .msg_iov = &part,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	size_t size = strlen(name + 1);
	const struct cmsghdr *header;

	memcpy(request->name, name + 1, size);
	size += offsetof(struct floor_request, name);
	if (send(floor_socket, request, size, MSG_NOSIGNAL) < 0 ||
	    recvmsg(floor_socket, &message, MSG_CMSG_CLOEXEC) < 0)
		return -errno;
	header = CMSG_FIRSTHDR(&message);
	if (header)
		memcpy(ret_fd, CMSG_DATA(header), sizeof(*ret_fd));
	return -reply.error;
}

static int floor_open(const char *name, int oflag)
{
	struct floor_request request;
	int fd = -1, rc;

	memset(&request, 0, offsetof(struct floor_request, name));
	request.oflag = (uint32_t)oflag;
	request.mode = MODE;
	rc = floor_ask(&request, name, &fd);
	return rc < 0 ? rc : done(fd);
}

/* As the library learns it: no handler may run in between. */
static mode_t learn_umask(void)
{
	sigset_t all, before;
	mode_t mask;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	mask = umask(0);
	umask(mask);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return mask;
}

static int floor_create(const char *name)
{
	struct floor_request request;
	int fd = -1, rc;

	memset(&request, 0, offsetof(struct floor_request, name));
	request.oflag = O_RDWR | O_CREAT | O_EXCL;
	request.mode = MODE & ~learn_umask();
	request.size = SIZE;
	rc = floor_ask(&request, name, &fd);
	return rc < 0 ? rc : done(fd);
}

static int floor_unlink(const char *name)
{
	struct floor_request request;
	int fd;

	memset(&request, 0, offsetof(struct floor_request, name));
	request.unlink = 1;
	return floor_ask(&request, name, &fd);
}

/* --- the library --- */

static struct shmb **connections;
static unsigned connection_count, connection_next;
static bool is_idle;

static struct shmb *next_connection(void)
{
	struct shmb *c = connections[connection_next];

	if (!is_idle && ++connection_next == connection_count)
		connection_next = 0;
	return c;
}

static int library_connect(char **arguments, int count)
{
	int rc;

	connection_count = count > 2 ? (unsigned)atoi(arguments[2]) : 1;
	connections = calloc(connection_count, sizeof(*connections));
	if (!connections)
		return -ENOMEM;
	for (unsigned i = 0; i < connection_count; i++) {
		rc = shmb_connect(&connections[i], arguments[0]);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int idle_connect(char **arguments, int count)
{
	is_idle = true;
	return count == 3 ? library_connect(arguments, count) : -EINVAL;
}

static int flooded_connect(char **arguments, int count)
{
	return count == 4 ? library_connect(arguments, 1) : -EINVAL;
}

static int library_open(const char *name, int oflag)
{
	return done(shmb_open(next_connection(), name, oflag, MODE));
}

static int library_create(const char *name)
{
	const struct shmb_how how = { .oflag = O_RDWR | O_CREAT | O_EXCL,
				      .mode = MODE,
				      .size = SIZE };

	return done(shmb_open_how(next_connection(), name, &how, sizeof(how)));
}

static int library_unlink(const char *name)
{
	return shmb_unlink(next_connection(), name);
}

/* --- the drop-in --- */

static int drop_in_connect(char **arguments, int count)
{
	if (count != 2 || setenv("SHMBROKER_SOCKET", arguments[0], 1) < 0)
		return -EINVAL;
	return shmb_supported() ? 0 : -ECONNREFUSED;
}

static int drop_in_open(const char *name, int oflag)
{
	int fd = shmb_shm_open(name, oflag, MODE);

	return fd < 0 ? -errno : done(fd);
}

static int drop_in_create(const char *name)
{
	int fd = shmb_shm_open(name, O_RDWR | O_CREAT | O_EXCL, MODE);

	if (fd < 0 || ftruncate(fd, SIZE) < 0)
		return -errno;
	return done(fd);
}

static int drop_in_unlink(const char *name)
{
	return shmb_shm_unlink(name) < 0 ? -errno : 0;
}

/* --- D-Bus --- */

static sd_bus *bus;
static char bus_service[64], bus_path[64];

static int bus_connect(char **arguments, int count)
{
	int rc = count == 3 ? sd_bus_new(&bus) : -EINVAL;

	if (rc >= 0)
		rc = sd_bus_set_address(bus, arguments[0]);
	if (rc >= 0)
		rc = sd_bus_set_bus_client(bus, true);
	if (rc >= 0)
		rc = sd_bus_start(bus);
	if (rc < 0)
		return rc;
	snprintf(bus_service, sizeof(bus_service), "org.shmbroker.%s", arguments[2]);
	snprintf(bus_path, sizeof(bus_path), "/org/shmbroker/%s", arguments[2]);
	return 0;
}

/* The descriptor is the reply's, and goes with it. */
static int bus_ask(sd_bus_message *reply, sd_bus_error *error, int rc)
{
	int fd;

	if (rc >= 0)
		rc = sd_bus_message_read(reply, "h", &fd);
	sd_bus_message_unref(reply);
	sd_bus_error_free(error);
	return rc < 0 ? rc : 0;
}

static int bus_open(const char *name, int oflag)
{
	sd_bus_error error = SD_BUS_ERROR_NULL;
	sd_bus_message *reply = NULL;
	int rc;

	if (oflag & O_CREAT)
		rc = sd_bus_call_method(bus, bus_service, bus_path, bus_service, "Open", &error,
					&reply, "sasua{sv}", name, 2, "rdwr", "creat", MODE, 0);
	else
		rc = sd_bus_call_method(bus, bus_service, bus_path, bus_service, "Open", &error,
					&reply, "sasua{sv}", name, 1,
					oflag == O_RDONLY ? "rdonly" : "rdwr", 0, 0);
	return bus_ask(reply, &error, rc);
}

static int bus_create(const char *name)
{
	sd_bus_error error = SD_BUS_ERROR_NULL;
	sd_bus_message *reply = NULL;
	int rc = sd_bus_call_method(bus, bus_service, bus_path, bus_service, "Open", &error, &reply,
				    "sasua{sv}", name, 3, "rdwr", "creat", "excl", MODE, 1, "size",
				    "t", (uint64_t)SIZE);

	return bus_ask(reply, &error, rc);
}

static int bus_unlink(const char *name)
{
	sd_bus_error error = SD_BUS_ERROR_NULL;
	int rc = sd_bus_call_method(bus, bus_service, bus_path, bus_service, "Unlink", &error, NULL,
				    "s", name);

	sd_bus_error_free(&error);
	return rc < 0 ? rc : 0;
}

/* --- one batch --- */

static const struct way ways[] = {
	{ "shm_open", kernel_connect, kernel_open, kernel_create, kernel_unlink, NULL, NULL },
	{ "floor", floor_connect, floor_open, floor_create, floor_unlink, NULL, NULL },
	{ "library", library_connect, library_open, library_create, library_unlink, NULL, NULL },
	{ "idle", idle_connect, library_open, library_create, library_unlink, NULL, NULL },
	{ "flooded", flooded_connect, library_open, library_create, library_unlink, flood_go,
	  flood_rest },
	{ "drop-in", drop_in_connect, drop_in_open, drop_in_create, drop_in_unlink, NULL, NULL },
	{ "bus", bus_connect, bus_open, bus_create, bus_unlink, NULL, NULL },
};

static const struct way *way;
static char object[300], fresh[300], denied[300];
static int turn_in = -1, turn_out = -1;

static void die(const char *what, int error)
{
	fprintf(stderr, "bench/caller: %s: %s: %s\n", way ? way->name : "", what, strerror(error));
	exit(1);
}

static void call(enum operation operation)
{
	int rc;

	switch (operation) {
	case OPEN_READ_ONLY:
		rc = way->open(object, O_RDONLY);
		break;
	case OPEN_READ_WRITE:
		rc = way->open(object, O_RDWR);
		break;
	case CREATE_AND_UNLINK:
		rc = way->create(fresh);
		if (rc == 0)
			rc = way->unlink(fresh);
		break;
	default:
		rc = way->open(denied, O_RDWR) == -EACCES ? 0 : -EPROTO;
	}
	if (rc < 0)
		die(operation == CREATE_AND_UNLINK ? fresh : object, -rc);
}

static void wait_for_turn(void)
{
	char byte;

	if (read(turn_in, &byte, 1) != 1)
		exit(1);
}

static void pass_turn(void)
{
	if (write(turn_out, "", 1) != 1)
		exit(1);
}

static uint32_t timed_call(enum operation operation)
{
	struct timespec begin, end;
	int64_t ns;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	call(operation);
	clock_gettime(CLOCK_MONOTONIC, &end);
	ns = (end.tv_sec - begin.tv_sec) * 1000000000ll + (end.tv_nsec - begin.tv_nsec);
	return ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

static void run_batch(const struct batch *batch)
{
	static uint32_t took[CALLS_MAX];
	uint32_t total = batch->unmeasured + batch->calls;

	if (way->begin)
		way->begin();
	for (uint32_t i = 0; i < total; i++) {
		uint32_t ns;

		if (batch->in_turn == 2 || (batch->in_turn && i > 0))
			wait_for_turn();
		ns = timed_call((enum operation)batch->operation);
		if (i >= batch->unmeasured)
			took[i - batch->unmeasured] = ns;
		if (batch->in_turn)
			pass_turn();
	}
	if (batch->in_turn == 1)
		wait_for_turn();
	if (way->end)
		way->end();
	if (write(STDOUT_FILENO, took, batch->calls * sizeof(*took)) < 0)
		exit(1);
}

/* --- before the first --- */

static void become(uid_t uid, gid_t gid, gid_t group)
{
	/* Users differ in their groups, too. */
	if (setgroups(1, &group) < 0 || setresgid(gid, gid, gid) < 0 ||
	    setresuid(uid, uid, uid) < 0)
		die("other ids", errno);
}

static void become_user(const char *name)
{
	const struct passwd *user;

	if (strcmp(name, "-") == 0)
		return;
	user = getpwnam(name);
	if (!user)
		die(name, ENOENT);
	become(user->pw_uid, user->pw_gid, GROUPS_FIRST + user->pw_uid);
}

static int fill(const char *socket, unsigned count)
{
	char name[32];

	setenv("SHMBROKER_SOCKET", socket, 1);
	for (unsigned i = 0; i < count; i++) {
		int rc;

		snprintf(name, sizeof(name), "/%u", i);
		rc = drop_in_open(name, O_RDWR | O_CREAT);
		if (rc < 0)
			die(name, -rc);
	}
	return 0;
}

static int fill_as_users(const char *socket, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0) {
			become(USERS_FIRST + i, USERS_FIRST + i, USERS_FIRST + i);
			_exit(fill(socket, 1));
		}
		if (pid < 0 || waitpid(pid, &status, 0) < 0 || status)
			die("another user", ECHILD);
	}
	return 0;
}

static void set_names(const char *name)
{
	snprintf(object, sizeof(object), "%s-object", name);
	snprintf(fresh, sizeof(fresh), "%s-new", name);
	snprintf(denied, sizeof(denied), "%s-denied", name);
}

static int make_object(void)
{
	int rc = way->open(object, O_RDWR);

	/* Of another's in a sticky directory O_CREAT is refused: fs.protected_regular. */
	return rc == -ENOENT ? way->open(object, O_RDWR | O_CREAT) : rc;
}

int main(int argc, char **argv)
{
	const uint32_t ready = 0;
	struct batch batch;
	int rc;

	/* Readers of another uid are to open it for writing, too. */
	umask(0);
	if (argc == 4 && strcmp(argv[1], "fill") == 0)
		return fill(argv[2], (unsigned)atoi(argv[3]));
	if (argc == 4 && strcmp(argv[1], "users") == 0)
		return fill_as_users(argv[2], (unsigned)atoi(argv[3]));
	for (size_t i = 0; argc > 6 && i < sizeof(ways) / sizeof(*ways); i++)
		if (strcmp(argv[1], ways[i].name) == 0)
			way = &ways[i];
	if (!way) {
		fputs("usage: bench/caller WAY TARGET NAME [...] USER IN OUT; run by bench/run\n",
		      stderr);
		return 2;
	}
	turn_in = atoi(argv[argc - 2]);
	turn_out = atoi(argv[argc - 1]);
	set_names(argv[3]);
	if (strcmp(way->name, "flooded") == 0 && argc == 9) {
		rc = flood_start(argv[2], object, argv[4], become_user, argv[5]);
		if (rc < 0)
			die("a flood", -rc);
	}
	become_user(argv[argc - 3]);
	rc = way->connect(argv + 2, argc - 5);
	if (rc < 0)
		die(argv[2], -rc);
	rc = strcmp(way->name, "floor") == 0 ? 0 : make_object();
	for (unsigned i = 0; rc == 0 && i < connection_count; i++)
		rc = way->open(object, O_RDWR); /* the first on each is another */
	if (rc < 0)
		die(object, -rc);
	if (write(STDOUT_FILENO, &ready, sizeof(ready)) < 0)
		return 1;
	while (read(STDIN_FILENO, &batch, sizeof(batch)) == sizeof(batch))
		run_batch(&batch);
	return 0;
}
