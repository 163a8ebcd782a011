/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* shmbrokerd(8): reads its arguments, puts the parts together, drops its rights, serves. */
#include <errno.h>
#include <getopt.h>
#include <linux/nsfs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <syslog.h>

#include "daemon/closer.h"
#include "daemon/creds.h"
#include "daemon/fd.h"
#include "daemon/filter.h"
#include "daemon/log.h"
#include "daemon/places.h"
#include "daemon/server.h"
#include "daemon/service.h"
#include "daemon/user.h"

/*
 * Who owns the pool table may enter it, from Linux 6.18 without any other right (an nsfs file
 * handle does it): so it is a uid that no account has and nobody can guess, where our namespace
 * knows those that no account ever has (systemd's UIDS-GIDS: above 2^31).
 */
#define TABLE_UID_HIGH 0xe0000000u
#define TABLE_UIDS_HIGH 0x10000000u
#define TABLE_UID_FIRST 65520u
#define TABLE_UID_LAST 65533u

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

/* Pools, contexts, unpublished objects: what is not a connection's. */
#define FDS_KEPT 256

/*
 * Takes what the kernel lets us have. Returns for how many connections that is enough: descriptors
 * on their way to who doesn't read count, too, and over the limit nobody would get one any more.
 */
static uint32_t raise_limits(void)
{
	struct rlimit limit;
	rlim_t most;

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
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > UINT32_MAX)
		return UINT32_MAX;
	most = limit.rlim_cur > FDS_KEPT ? limit.rlim_cur - FDS_KEPT : 0;
	most /= SERVER_FDS_PER_CONNECTION;
	return most > 0 ? (uint32_t)most : 1;
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

/* What another process may have better luck with. */
static bool may_pass(int error)
{
	return error == ENOMEM || error == EAGAIN || error == EMFILE || error == ENFILE;
}

/* Who owns the pool table: somebody under whom nothing else runs. 0 or -errno. */
static int choose_table_user(struct keeper_setup *setup, const struct peer_self *self)
{
	uid_t uid, first, count;
	uint32_t random;
	gid_t gid;
	int error;

	setup->table_uid = geteuid();
	setup->table_gid = getegid();
	if (setup->table_uid != 0 || self->is_user)
		return 0;
	/* A table that is there already lets only its owner in, whoever that would be today. */
	if (setup->userns >= 0 && ioctl(setup->userns, NS_GET_OWNER_UID, &uid) == 0) {
		error = user_group(uid, &gid);
		setup->table_uid = uid;
		setup->table_gid = error == 0 ? gid : (gid_t)uid;
		return may_pass(-error) ? error : 0;
	}
	/* Root of a namespace that knows few others is an ordinary user outside of it. */
	if (!is_mapped(self->uid_map, TABLE_UID_LAST))
		return 0;
	first = is_mapped(self->uid_map, TABLE_UID_HIGH) ? TABLE_UID_HIGH : TABLE_UID_FIRST;
	count = first == TABLE_UID_HIGH ? TABLE_UIDS_HIGH : TABLE_UID_LAST - TABLE_UID_FIRST + 1;
	for (int tries = 0; tries < 100; tries++) {
		if (getrandom(&random, sizeof(random), 0) != sizeof(random))
			return -errno;
		uid = first + random % count;
		error = is_mapped(self->uid_map, uid) ? user_group(uid, &gid) : 0;
		if (error == 0)
			continue;
		if (may_pass(-error))
			return error;
		/* Where nobody can be asked, none has the one that was drawn from so many. */
		if (error != -ENOENT && first != TABLE_UID_HIGH)
			continue;
		setup->table_uid = setup->table_gid = uid;
		return 0;
	}
	log_line(LOG_ERR, "there is no uid without an account for the pool table");
	return -ESRCH;
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
	error = filter_install(FILTER_BROKER);
	if (error > 0)
		log_line(LOG_WARNING, "no system-call filter: %s", strerror(error));
	else if (error < 0)
		log_line(LOG_ERR, "the system-call filter can't be had: %s", strerror(-error));
	return error < 0 ? error : 0;
}

/* Not before clients are let in. */
static bool is_serving;

static void tell_reloaded(int error, const char *text)
{
	if (!is_serving)
		return;
	service_ready();
	if (error < 0)
		service_status("The configuration was refused: %s", text);
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

/* How long the manager is given to make room. */
#define UNTOLD_MS 20

/* For what is called without it. */
static struct server *serving;

static int keep_context(uint32_t number, int hold, int listener)
{
	int error = service_keep_context(number, hold, listener);

	if (service_has_untold())
		server_soon(serving, UNTOLD_MS);
	return error;
}

static void drop_context(uint32_t number)
{
	service_drop_context(number);
	if (service_has_untold())
		server_soon(serving, UNTOLD_MS);
}

static int keep_sealed(uint32_t number, int memory)
{
	int error = service_keep_sealed(number, memory);

	if (service_has_untold())
		server_soon(serving, UNTOLD_MS);
	return error;
}

static void drop_sealed(uint32_t number)
{
	service_drop_sealed(number);
	if (service_has_untold())
		server_soon(serving, UNTOLD_MS);
}

/* How often we look how things are, and say that we are alive. */
#define LOOK_MS 10000

static void look(struct server *server)
{
	static char told[256];
	struct broker_totals now;
	char text[256];

	service_alive();
	if (service_has_untold())
		server_soon(server, UNTOLD_MS);
	broker_look(server_broker(server), &now);
	snprintf(text, sizeof(text),
		 "Serving %u clients and %u contexts; %llu objects in %u pools; %llu requests were "
		 "denied",
		 now.clients, now.contexts, (unsigned long long)now.objects, now.pools,
		 (unsigned long long)now.denials);
	if (strcmp(text, told) == 0)
		return;
	strcpy(told, text);
	service_status("%s", text);
}

static int serve(struct server *server, const struct places *places, bool is_user,
		 struct service *service)
{
	uint64_t watchdog_ms = service_watchdog_ms(), every_ms = LOOK_MS;
	int error;

	error = server_catch_signals(server);
	if (error == 0)
		error = server_go_on(server, &service->kept);
	if (watchdog_ms > 0 && watchdog_ms / 3 < LOOK_MS)
		every_ms = watchdog_ms / 3 + 1;
	if (error == 0)
		error = server_every(server, every_ms, look);
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
	look(server);
	error = server_run(server);
	service_stopping();
	server_leave(server, !service_is_stopped(is_user));
	return error;
}

/* Where there is none at all, there is none for the broker either, and that says so. */
static int confine(enum filter_role role)
{
	int error = filter_install(role);

	return error < 0 ? error : 0;
}

static int confine_keeper(void)
{
	return confine(FILTER_KEEPER);
}

static int confine_twin(void)
{
	return confine(FILTER_TWIN);
}

static int confine_closer(void)
{
	return confine(FILTER_CLOSER);
}

/* Of a table that was found. */
#define NOTHING_IS_LOST "nothing of them is lost, the next start tries again"

/* The helpers are forked while there is nothing yet that they would have to close. */
static int start_helpers(const struct peer_self *self, struct keeper **ret_keeper,
			 struct closer *closer, struct service *service, bool found)
{
	struct keeper_setup setup = { .userns = steal_fd(&service->userns),
				      .mntns = steal_fd(&service->mntns),
				      .confine_keeper = confine_keeper,
				      .confine_twin = confine_twin };
	struct keeper_failure why;
	int error;

	error = choose_table_user(&setup, self);
	if (error == 0)
		error = closer_start(closer, confine_closer);
	if (error == 0)
		error = keeper_start(ret_keeper, &setup);
	if (error < 0) {
		log_line(LOG_ERR, "the helper processes can't be started: %s", strerror(-error));
	} else if (!keeper_has_table(*ret_keeper, &why)) {
		error = found && may_pass(why.error) ? -why.error : 0;
		log_line(error < 0 ? LOG_CRIT : LOG_WARNING, "no private pools: %s: %s; %s",
			 why.step, strerror(why.error), error < 0 ? NOTHING_IS_LOST : why.advice);
	}
	return error;
}

/*
 * Where there is a table and somebody who keeps it: what goes over a restart. In one that was found
 * there are pools, and without their notes new ones would be served in their place. 0 or -errno.
 */
static int keep_table(struct state *ret, struct keeper *keeper, const struct service *service,
		      bool found)
{
	struct keeper_failure why;
	int error;

	*ret = STATE_NONE;
	if (!service->is_managed || !keeper_has_table(keeper, NULL))
		return 0;
	error = state_open(ret, keeper, &why);
	if (error == 0) {
		service_keep_table(keeper_userns_borrow(keeper), keeper_mntns_borrow(keeper));
		return 0;
	}
	log_line(found ? LOG_CRIT : LOG_WARNING, "private pools %s: %s: %s; %s%s%s",
		 found ? "can't be found again now" : "would be lost in a restart", why.step,
		 strerror(why.error), why.advice, found ? "; " : "", found ? NOTHING_IS_LOST : "");
	return found ? error : 0;
}

/* All that is given up before anything is read. Of the helpers, too. */
static void drop_needless_rights(void)
{
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (geteuid() != 0)
		return;
	prctl(PR_SET_DUMPABLE, 0);
	creds_drop_capabilities(CREDS_CAP(CAP_SETUID) | CREDS_CAP(CAP_SETGID) |
				CREDS_CAP(CAP_DAC_OVERRIDE) | CREDS_CAP(CAP_SETFCAP));
}

static uint64_t memory_bytes(void)
{
	struct sysinfo memory;

	return sysinfo(&memory) == 0 ? (uint64_t)memory.totalram * memory.mem_unit : 0;
}

static int learn_self(struct peer_self *self, bool is_user)
{
	int error = peer_self_init(self, is_user);

	if (error < 0)
		log_line(LOG_ERR, "/proc can't be used: %s",
			 error == -EXDEV ? "it is of another pid namespace, mount one of this"
					 : strerror(-error));
	return error;
}

static int make_server(struct server **ret, const struct server_setup *setup)
{
	int error = server_new(ret, setup);

	if (error < 0)
		log_line(LOG_ERR, "it can't begin to serve: %s", strerror(-error));
	serving = *ret;
	return error;
}

static int run(const struct options *options)
{
	_cleanup_(string_list_done) struct string_list directories = { 0 };
	struct config_source source = { .file = options->config, .is_user = options->is_user };
	struct state state = STATE_NONE;
	struct server_setup setup = {
		.state = &state,
		.reloading = service_reloading,
		.reloaded = tell_reloaded,
	};
	struct service service;
	struct closer closer = { .socket = -EBADF };
	struct places places = PLACES_NONE;
	struct server *server = NULL;
	struct keeper *keeper = NULL;
	struct peer_self self;
	bool found;
	int error;

	error = service_take(&service);
	if (error < 0)
		return error;
	found = service.userns >= 0 && service.mntns >= 0;
	setup.connections = raise_limits();
	drop_needless_rights();
	error = learn_self(&self, options->is_user);
	if (error < 0)
		return error;
	source.owner = geteuid();
	source.memory_bytes = memory_bytes();
	error = config_directories(&directories, options->is_user);
	source.directories = (const char *const *)directories.string;

	if (error == 0)
		error = places_open(&places, options->socket, options->is_user, &service.socket);
	if (error == 0)
		error = start_helpers(&self, &keeper, &closer, &service, found);
	if (error == 0)
		error = keep_table(&state, keeper, &service, found);
	if (error == 0)
		error = drop_rights();
	/* A new object's mode is what its creator has asked for, less his own umask. */
	umask(0);
	setup.self = &self;
	setup.source = &source;
	setup.keeper = keeper;
	setup.contexts = places.has_base ? &places.base : NULL;
	setup.closer = &closer;
	if (state_is_kept(&state)) {
		setup.context_made = keep_context;
		setup.context_ended = drop_context;
		setup.sealed_made = keep_sealed;
		setup.sealed_ended = drop_sealed;
	}
	if (error == 0)
		error = make_server(&server, &setup);
	/* Whatever goes wrong from here on, another process follows. */
	if (error == 0 && service.is_managed)
		server_leave(server, true);
	if (error == 0)
		error = serve(server, &places, options->is_user, &service);
	server_free(server);
	state_close(&state);
	keeper_free(keeper);
	closer_stop(&closer);
	places_close(&places);
	peer_self_done(&self);
	service_done(&service);
	return error;
}

int main(int argc, char **argv)
{
	struct options options = { 0 };
	int rc, error;

	error = fd_fill_standard();
	if (error < 0) {
		log_line(LOG_ERR, "the standard descriptors can't be had: %s", strerror(-error));
		return EXIT_FAILURE;
	}
	rc = parse(argc, argv, &options);
	if (rc)
		return rc - 1;
	umask(0077);
	log_init();
	error = run(&options);
	/* Nobody else says so. */
	if (error == -ENOMEM)
		log_line(LOG_ERR, "there is no memory: it ends");
	return error < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
