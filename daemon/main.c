/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* shmbrokerd(8): reads its arguments, puts the parts together, drops its rights, serves. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/un.h>
#include <syslog.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "daemon/closer.h"
#include "daemon/creds.h"
#include "daemon/fd.h"
#include "daemon/filter.h"
#include "daemon/log.h"
#include "daemon/place.h"
#include "daemon/server.h"

/*
 * The user that sysusers.d makes for the pool table; for a machine without him the
 * numbers that systemd's table of uids (docs/UIDS-GIDS.md) leaves to nobody.
 */
#define TABLE_USER "shmbroker"
#define TABLE_UID_FIRST 65520
#define TABLE_UID_LAST 65533

#define SOCKET_DEFAULT "/run/shmbroker/socket"
#define CONTEXTS_NAME "shmbroker-contexts"

struct options {
	bool is_user;
	const char *socket, *config;
};

static const char usage_text[] =
	"usage: shmbrokerd [--user] [--socket=PATH] [--config=FILE]\n"
	"\n"
	"Opens named POSIX shared memory objects for programs that may not do so themselves.\n"
	"\n"
	"  --user          serve the own user alone, below $XDG_RUNTIME_DIR\n"
	"  --socket=PATH   listen there (default " SOCKET_DEFAULT ",\n"
	"                  with --user $XDG_RUNTIME_DIR/shmbroker/socket)\n"
	"  --config=FILE   read that file alone\n"
	"  --version       say which version this is\n"
	"  --help          say this\n"
	"\n"
	"SIGHUP reloads the configuration; SIGTERM and SIGINT stop. See shmbrokerd(8).\n";

/* 0, or the exit status plus 1. */
static int parse(int argc, char **argv, struct options *ret)
{
	static const struct option long_options[] = {
		{ "user", no_argument, NULL, 'u' },
		{ "socket", required_argument, NULL, 's' },
		{ "config", required_argument, NULL, 'c' },
		{ "version", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) >= 0) {
		switch (option) {
		case 'u':
			ret->is_user = true;
			break;
		case 's':
			ret->socket = optarg;
			break;
		case 'c':
			ret->config = optarg;
			break;
		case 'v':
			puts("shmbrokerd " PACKAGE_VERSION);
			return 1;
		case 'h':
			fputs(usage_text, stdout);
			return 1;
		default:
			fputs("shmbrokerd: try --help\n", stderr);
			return 3;
		}
	}
	if (optind == argc)
		return 0;
	fprintf(stderr, "shmbrokerd: no argument is expected, this is one: %s\n", argv[optind]);
	return 3;
}

/* Two descriptors a connection while it is accepted, and what the kernel lets us have. */
static void raise_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	/* A client's size is bounded by the rules and the pool, not by our starter's shell. */
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_FSIZE, &limit);
	}
	signal(SIGXFSZ, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
}

/* Whether our user namespace knows a uid: lines of "first outside count". */
static bool is_mapped(const char *uid_map, uid_t uid)
{
	unsigned long first, count;

	for (const char *line = uid_map; line && *line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (sscanf(line, "%lu %*u %lu", &first, &count) == 2 && uid >= first &&
		    uid - first < count)
			return true;
	}
	return false;
}

/* Who owns the pool table: somebody under whom nothing else runs. 0 or -errno. */
static int choose_table_user(struct keeper_setup *setup, const struct peer_self *self)
{
	const struct passwd *user;
	uid_t uid;

	setup->table_uid = geteuid();
	setup->table_gid = getegid();
	if (setup->table_uid != 0 || self->is_user)
		return 0;
	user = getpwnam(TABLE_USER);
	if (user && user->pw_uid != 0 && is_mapped(self->uid_map, user->pw_uid)) {
		setup->table_uid = user->pw_uid;
		setup->table_gid = user->pw_gid;
		return 0;
	}
	/* Root of a namespace that knows few others is an ordinary user outside of it. */
	if (!is_mapped(self->uid_map, TABLE_UID_LAST))
		return 0;
	for (uid = TABLE_UID_LAST; uid >= TABLE_UID_FIRST; uid--) {
		if (getpwuid(uid))
			continue;
		log_line(LOG_NOTICE,
			 "there is no user " TABLE_USER " (sysusers.d): uid %u owns the pool table",
			 uid);
		setup->table_uid = setup->table_gid = uid;
		return 0;
	}
	log_line(LOG_ERR,
		 "there is no user " TABLE_USER " for the pool table: make one (sysusers.d)");
	return -ESRCH;
}

/* The sockets' places, made or given. */
struct places {
	char *socket_path, *contexts_path;
	struct place_socket socket;
	int directory;		  /* of the socket that we made; -EBADF */
	const char *name;	  /* in it */
	bool given;		  /* by systemd */
	struct context_base base; /* of contexts */
	bool has_base;
};

static char *absolute(const char *path)
{
	_cleanup_free_ char *here = NULL;
	char *whole;

	if (*path == '/')
		return strdup(path);
	here = getcwd(NULL, 0);
	return here && asprintf(&whole, "%s/%s", here, path) >= 0 ? whole : NULL;
}

static int find_socket_path(struct places *places, const struct options *options)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");

	if (options->socket) {
		places->socket_path = absolute(options->socket);
	} else if (!options->is_user) {
		places->socket_path = strdup(SOCKET_DEFAULT);
	} else if (runtime && *runtime == '/') {
		if (asprintf(&places->socket_path, "%s/shmbroker/socket", runtime) < 0)
			places->socket_path = NULL;
	} else {
		log_line(LOG_ERR, "--user needs XDG_RUNTIME_DIR, or --socket");
		return -EINVAL;
	}
	return places->socket_path ? 0 : -ENOMEM;
}

/* Contexts lie beside the socket's directory, never below it: sandboxes may see that. */
static int find_contexts_path(struct places *places)
{
	char *slash;

	places->contexts_path = malloc(strlen(places->socket_path) + sizeof("/" CONTEXTS_NAME));
	if (!places->contexts_path)
		return -ENOMEM;
	strcpy(places->contexts_path, places->socket_path);
	for (int i = 0; i < 2 && (slash = strrchr(places->contexts_path, '/')); i++)
		*slash = 0;
	strcat(places->contexts_path, "/" CONTEXTS_NAME);
	return 0;
}

/* The socket that systemd has passed: 1, 0 when there is none, or -errno. */
static int take_given_socket(struct places *places)
{
	struct sockaddr_un address = { 0 };
	socklen_t size = sizeof(address) - 1;
	int count = sd_listen_fds(1);

	if (count < 0)
		log_line(LOG_ERR, "LISTEN_FDS can't be read: %s", strerror(-count));
	if (count <= 0)
		return count;
	places->socket.fd = SD_LISTEN_FDS_START;
	if (count > 1 || sd_is_socket(places->socket.fd, AF_UNIX, SOCK_SEQPACKET, 1) <= 0) {
		log_line(LOG_ERR, "systemd has passed something else than one listening "
				  "SOCK_SEQPACKET socket (ListenSequentialPacket=)");
		return -EPROTOTYPE;
	}
	if (getsockname(places->socket.fd, (struct sockaddr *)&address, &size) == 0 &&
	    address.sun_path[0] == '/') {
		free(places->socket_path);
		places->socket_path = strdup(address.sun_path);
		if (!places->socket_path)
			return -ENOMEM;
	}
	/* Whoever passed it needn't have done so, and a blocking accept would stop everybody. */
	if (fcntl(places->socket.fd, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	places->given = true;
	places->socket.refuses_descriptors = place_refuse_descriptors(places->socket.fd);
	return 1;
}

static int make_socket(struct places *places, const struct options *options)
{
	enum place_kind kind = options->is_user && !options->socket ? PLACE_PRIVATE : PLACE_SHARED;
	int error;

	places->directory = place_parent_open(places->socket_path, kind, &places->name);
	if (places->directory < 0) {
		log_line(LOG_ERR, "%s: its directory can't be used: %s", places->socket_path,
			 strerror(-places->directory));
		return places->directory;
	}
	error = place_listen(&places->socket, places->directory, places->name, 0666);
	if (error == -EADDRINUSE)
		log_line(LOG_ERR, "%s: another broker answers there", places->socket_path);
	else if (error < 0)
		log_line(LOG_ERR, "%s: can't listen there: %s", places->socket_path,
			 strerror(-error));
	return error;
}

static int open_places(struct places *places, const struct options *options)
{
	int error;

	error = find_socket_path(places, options);
	if (error == 0)
		error = take_given_socket(places);
	if (error == 0)
		error = make_socket(places, options);
	if (error < 0)
		return error;
	error = find_contexts_path(places);
	if (error < 0)
		return error;
	error = context_base_open(&places->base, places->contexts_path, !options->is_user);
	if (error < 0) {
		log_line(LOG_WARNING, "%s: no contexts for sandboxes: %s%s", places->contexts_path,
			 strerror(-error),
			 error == -EOPNOTSUPP ? " (its file system has no ACLs)" : "");
		return 0;
	}
	places->has_base = true;
	context_base_sweep(&places->base);
	return 0;
}

static void close_places(struct places *places)
{
	if (places->has_base)
		context_base_done(&places->base);
	if (places->socket.fd >= 0 && !places->given && places->directory >= 0)
		place_unlink_own(&places->socket, places->directory, places->name);
	fd_close(places->socket.fd);
	fd_close(places->directory);
	free(places->socket_path);
	free(places->contexts_path);
}

/* What the broker itself may do from here on. 0 or -errno. */
static int drop_rights(void)
{
	int error;

	/* CAP_SETFCAP was for writing the table's map. */
	error = creds_drop_capabilities(CREDS_CAP(CAP_SETUID) | CREDS_CAP(CAP_SETGID) |
					CREDS_CAP(CAP_DAC_OVERRIDE));
	if (error < 0) {
		log_line(LOG_ERR, "capabilities can't be dropped: %s", strerror(-error));
		return error;
	}
	prctl(PR_SET_DUMPABLE, 0);
	error = filter_install();
	if (error < 0)
		log_line(LOG_WARNING, "no system-call filter: %s", strerror(-error));
	return 0;
}

static void tell_reloading(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld",
		   (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
}

/* Not before clients are let in. */
static bool is_serving;

static void tell_reloaded(int error, const char *text)
{
	if (!is_serving)
		return;
	if (error < 0)
		sd_notifyf(0, "READY=1\nSTATUS=The configuration was refused: %s", text);
	else
		sd_notify(0, "READY=1\nSTATUS=Serving.");
}

/* 0 or -ENOMEM; that there is no bus is no error. */
static int start_bus(struct server *server, bool is_user)
{
	const char *address = getenv(is_user ? "DBUS_SESSION_BUS_ADDRESS"
					     : "DBUS_SYSTEM_BUS_ADDRESS");
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	_cleanup_free_ char *made = NULL;

	if (!address || !*address) {
		if (is_user && (!runtime || *runtime != '/')) {
			log_line(LOG_NOTICE, "not on D-Bus: neither DBUS_SESSION_BUS_ADDRESS nor "
					     "XDG_RUNTIME_DIR says where the session's is");
			return 0;
		}
		if (asprintf(&made, "unix:path=%s/%s", is_user ? runtime : "/run/dbus",
			     is_user ? "bus" : "system_bus_socket") < 0) {
			made = NULL;
			return -ENOMEM;
		}
		address = made;
	}
	return server_add_bus(server, address);
}

static int serve(struct server *server, const struct places *places, bool is_user)
{
	int error;

	error = server_catch_signals(server);
	if (error == 0)
		error = server_load(server);
	if (error == 0)
		error = server_add_listener(server, places->socket.fd,
					    places->socket.refuses_descriptors);
	if (error == 0)
		error = start_bus(server, is_user);
	if (error < 0)
		return error;
	log_line(LOG_INFO, "serving at %s", places->socket_path);
	is_serving = true;
	tell_reloaded(0, "");
	error = server_run(server);
	sd_notify(0, "STOPPING=1");
	return error;
}

/* The helpers are forked while there is nothing yet that they would have to close. */
static int start_helpers(const struct peer_self *self, struct keeper **ret_keeper,
			 struct closer *closer)
{
	struct keeper_setup setup = { .userns = -EBADF, .mntns = -EBADF };
	struct keeper_failure why;
	int error;

	error = choose_table_user(&setup, self);
	if (error == 0)
		error = closer_start(closer);
	if (error == 0)
		error = keeper_start(ret_keeper, &setup);
	if (error < 0)
		log_line(LOG_ERR, "the helper processes can't be started: %s", strerror(-error));
	else if (!keeper_has_table(*ret_keeper, &why))
		log_line(LOG_WARNING, "no private pools: %s: %s; %s", why.step, strerror(why.error),
			 why.advice);
	return error;
}

static int run(const struct options *options)
{
	_cleanup_(string_list_done) struct string_list directories = { 0 };
	struct config_source source = { .file = options->config, .is_user = options->is_user };
	struct server_setup setup = { .reloading = tell_reloading, .reloaded = tell_reloaded };
	struct closer closer = { .socket = -EBADF };
	struct places places = { .directory = -EBADF, .socket.fd = -EBADF };
	struct server *server = NULL;
	struct keeper *keeper = NULL;
	struct peer_self self;
	struct sysinfo memory;
	int error;

	raise_limits();
	/* Of the helpers, too. */
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (geteuid() == 0) {
		prctl(PR_SET_DUMPABLE, 0);
		creds_drop_capabilities(CREDS_CAP(CAP_SETUID) | CREDS_CAP(CAP_SETGID) |
					CREDS_CAP(CAP_DAC_OVERRIDE) | CREDS_CAP(CAP_SETFCAP));
	}
	error = peer_self_init(&self, options->is_user);
	if (error < 0) {
		log_line(LOG_ERR, "/proc can't be read: %s", strerror(-error));
		return error;
	}
	source.owner = geteuid();
	source.memory_bytes = sysinfo(&memory) == 0 ? (uint64_t)memory.totalram * memory.mem_unit
						    : 0;
	error = config_directories(&directories, options->is_user);
	source.directories = (const char *const *)directories.string;

	if (error == 0)
		error = open_places(&places, options);
	if (error == 0)
		error = start_helpers(&self, &keeper, &closer);
	if (error == 0)
		error = drop_rights();
	/* A new object's mode is what its creator has asked for, less his own umask. */
	umask(0);
	setup.self = &self;
	setup.source = &source;
	setup.keeper = keeper;
	setup.contexts = places.has_base ? &places.base : NULL;
	setup.closer = &closer;
	if (error == 0)
		error = server_new(&server, &setup);
	if (error == 0)
		error = serve(server, &places, options->is_user);
	server_free(server);
	keeper_free(keeper);
	closer_stop(&closer);
	close_places(&places);
	peer_self_done(&self);
	return error;
}

int main(int argc, char **argv)
{
	struct options options = { 0 };
	int rc = parse(argc, argv, &options);

	if (rc)
		return rc - 1;
	umask(0077);
	log_init();
	return run(&options) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
