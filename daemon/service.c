/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Speaks sd-daemon(3) and, once, at the end, org.freedesktop.systemd1(5). For main.c. */
#include "daemon/service.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "daemon/fd.h"
#include "daemon/log.h"
#include "proto/packet.h"

#define NAME_SIZE 13
#define NAME_USERNS "userns"
#define NAME_MNTNS "mntns"
#define HOLD 'h'
#define LISTENER 'l'
#define SEALED 's'

/* As long as a stop may be held up to learn whether it is one. */
#define ASK_US (1000 * 1000)
#define MANAGER "org.freedesktop.systemd1"

static struct kept_context *context_of(struct service *service, uint32_t number)
{
	struct kept_context *contexts;

	for (size_t i = 0; i < service->kept.context_count; i++)
		if (service->kept.contexts[i].number == number)
			return &service->kept.contexts[i];
	contexts = reallocarray(service->kept.contexts, service->kept.context_count + 1,
				sizeof(*contexts));
	if (!contexts)
		return NULL;
	service->kept.contexts = contexts;
	contexts += service->kept.context_count++;
	*contexts = (struct kept_context){ number, -EBADF, -EBADF };
	return contexts;
}

static struct kept_sealed *sealed_of(struct service *service, uint32_t number)
{
	struct kept_descriptors *kept = &service->kept;
	struct kept_sealed *sealed;

	sealed = reallocarray(kept->sealed, kept->sealed_count + 1, sizeof(*sealed));
	if (!sealed)
		return NULL;
	kept->sealed = sealed;
	sealed += kept->sealed_count++;
	*sealed = (struct kept_sealed){ number, -EBADF };
	return sealed;
}

/* Of a letter and a number: what is kept under such names. false: it is something else. */
static bool is_numbered(const char *name, uint32_t *ret_number)
{
	unsigned long number;
	char *end;

	if ((name[0] != HOLD && name[0] != LISTENER && name[0] != SEALED) || name[1] < '0' ||
	    name[1] > '9')
		return false;
	number = strtoul(name + 1, &end, 10);
	*ret_number = (uint32_t)number;
	return !*end && number <= UINT32_MAX;
}

/* Where it belongs, by its name; NULL: nowhere. */
static int *place_of(struct service *service, const char *name)
{
	struct kept_context *context;
	struct kept_sealed *sealed;
	uint32_t number;

	if (strcmp(name, NAME_USERNS) == 0)
		return &service->userns;
	if (strcmp(name, NAME_MNTNS) == 0)
		return &service->mntns;
	if (is_numbered(name, &number) && name[0] == SEALED) {
		sealed = sealed_of(service, number);
		return sealed ? &sealed->memory : NULL;
	}
	if (is_numbered(name, &number)) {
		context = context_of(service, number);
		return !context ? NULL : name[0] == HOLD ? &context->hold : &context->listener;
	}
	return sd_is_socket(service->socket, AF_UNSPEC, 0, -1) > 0 ? NULL : &service->socket;
}

int service_take(struct service *ret)
{
	char **names = NULL;
	int count, error = 0;

	*ret = (struct service){
		.is_managed = getenv("NOTIFY_SOCKET") != NULL,
		.socket = -EBADF,
		.userns = -EBADF,
		.mntns = -EBADF,
	};
	count = sd_listen_fds_with_names(0, &names);
	if (count < 0) {
		log_line(LOG_ERR, "what the service manager has passed can't be taken: %s",
			 strerror(-count));
		return count;
	}
	for (int i = 0; i < count; i++) {
		int fd = SD_LISTEN_FDS_START + i, *place = place_of(ret, names[i]);

		if (place && *place < 0) {
			*place = fd;
		} else {
			log_line(LOG_ERR, "the service manager has passed something unknown: %s",
				 names[i]);
			fd_close(fd);
			error = place ? error : -EINVAL;
		}
		free(names[i]);
	}
	free(names);
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	return error;
}

void service_done(struct service *service)
{
	fd_close(service->socket);
	fd_close(service->userns);
	fd_close(service->mntns);
	for (size_t i = 0; i < service->kept.context_count; i++) {
		fd_close(service->kept.contexts[i].hold);
		fd_close(service->kept.contexts[i].listener);
	}
	for (size_t i = 0; i < service->kept.sealed_count; i++)
		fd_close(service->kept.sealed[i].memory);
	free(service->kept.contexts);
	free(service->kept.sealed);
	*service = (struct service){ .socket = -EBADF, .userns = -EBADF, .mntns = -EBADF };
}

/* --- telling --- */

/* Told to nobody yet. In the order in which they came. */
struct untold {
	STAILQ_ENTRY(untold) entry;
	int fd; /* owned; -EBADF: none */
	char text[];
};
static STAILQ_HEAD(, untold) untold = STAILQ_HEAD_INITIALIZER(untold);
static unsigned untold_count;

/* Of contexts; beyond, nobody gets a new one. */
#define UNTOLD_MOST 64

/* sd_notify(3)'s protocol, which that function waits for. 0 or -errno; 0 with nobody to tell. */
static int send_now(const char *text, int fd)
{
	static struct sockaddr_un address = { .sun_family = AF_UNIX };
	static int notify = -EBADF;
	const char *path = getenv("NOTIFY_SOCKET");
	struct fdlist fds = { .count = fd >= 0, .fd = { fd } };
	struct iovec part = { (char *)text, strlen(text) };
	int error;

	if (!path || strlen(path) >= sizeof(address.sun_path))
		return 0;
	if (notify < 0) {
		socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));

		memcpy(address.sun_path, path, strlen(path));
		if (address.sun_path[0] == '@')
			address.sun_path[0] = 0;
		notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (notify < 0)
			return -errno;
		if (connect(notify, (struct sockaddr *)&address, size) < 0) {
			error = -errno;
			notify = fd_close(notify);
			return error;
		}
	}
	error = packet_send(notify, &part, 1, fd >= 0 ? &fds : NULL, MSG_DONTWAIT);
	if (error == -ECONNREFUSED || error == -ENOTCONN || error == -ECONNRESET)
		notify = fd_close(notify); /* it is another by now */
	return error;
}

/* As far as there is room. */
static void tell_untold(void)
{
	struct untold *first;

	while ((first = STAILQ_FIRST(&untold))) {
		if (send_now(first->text, first->fd) < 0)
			return;
		STAILQ_REMOVE_HEAD(&untold, entry);
		untold_count--;
		fd_close(first->fd);
		free(first);
	}
}

bool service_has_untold(void)
{
	return !STAILQ_EMPTY(&untold);
}

/* What must not be lost. The descriptor is borrowed. 0 or -errno. */
static int tell(const char *text, int fd)
{
	size_t size = strlen(text) + 1;
	struct untold *later;

	tell_untold();
	if (STAILQ_EMPTY(&untold) && send_now(text, fd) == 0)
		return 0;
	later = malloc(sizeof(*later) + size);
	if (!later)
		return -ENOMEM;
	memcpy(later->text, text, size);
	later->fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -EBADF;
	if (fd >= 0 && later->fd < 0) {
		free(later);
		return -EMFILE;
	}
	STAILQ_INSERT_TAIL(&untold, later, entry);
	untold_count++;
	return 0;
}

/* Under a name of at most 12 bytes. 0 or -errno. */
static int service_keep(const char *name, int fd)
{
	char text[64];
	int error;

	snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s", name);
	error = tell(text, fd);
	if (error < 0)
		log_line(LOG_WARNING, "%s is not kept over a restart: %s", name, strerror(-error));
	return error;
}

static void service_drop(const char *name)
{
	char text[64];

	snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s", name);
	tell(text, -EBADF);
}

void service_keep_table(int userns, int mntns)
{
	service_keep(NAME_USERNS, userns);
	service_keep(NAME_MNTNS, mntns);
}

static void numbered_name(char ret[static NAME_SIZE], char what, uint32_t number)
{
	snprintf(ret, NAME_SIZE, "%c%" PRIu32, what, number);
}

int service_keep_context(uint32_t number, int hold, int listener)
{
	char name[NAME_SIZE];
	int error;

	tell_untold();
	if (untold_count > UNTOLD_MOST)
		return -EAGAIN;
	/* In this order: a listener without its hold is an ended context. */
	numbered_name(name, HOLD, number);
	error = service_keep(name, hold);
	if (error < 0)
		return error;
	numbered_name(name, LISTENER, number);
	return service_keep(name, listener);
}

void service_drop_context(uint32_t number)
{
	char name[NAME_SIZE];

	numbered_name(name, HOLD, number);
	service_drop(name);
	numbered_name(name, LISTENER, number);
	service_drop(name);
}

int service_keep_sealed(uint32_t number, int memory)
{
	char name[NAME_SIZE];

	tell_untold();
	if (untold_count > UNTOLD_MOST)
		return -EAGAIN;
	numbered_name(name, SEALED, number);
	return service_keep(name, memory);
}

void service_drop_sealed(uint32_t number)
{
	char name[NAME_SIZE];

	numbered_name(name, SEALED, number);
	service_drop(name);
}

void service_ready(void)
{
	tell("READY=1", -EBADF);
}

void service_reloading(void)
{
	struct timespec now;
	char text[96];

	clock_gettime(CLOCK_MONOTONIC, &now);
	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%lld",
		 (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
	tell(text, -EBADF);
}

void service_stopping(void)
{
	const struct timespec moment = { .tv_nsec = 10 * 1000 * 1000 };

	tell("STOPPING=1", -EBADF);
	/* What isn't told now is lost with us: a second for it. */
	for (int i = 0; service_has_untold() && i < 100; i++) {
		nanosleep(&moment, NULL);
		tell_untold();
	}
}

/* The next one comes soon enough. */
void service_status(const char *format, ...)
{
	char text[512] = "STATUS=";
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text + 7, sizeof(text) - 7, format, arguments);
	va_end(arguments);
	send_now(text, -EBADF);
}

uint64_t service_watchdog_ms(void)
{
	uint64_t usec;

	return sd_watchdog_enabled(0, &usec) > 0 ? usec / 1000 : 0;
}

void service_alive(void)
{
	tell_untold();
	send_now("WATCHDOG=1", -EBADF);
}

/* --- whether it is a stop --- */

static int await_ready(sd_bus *bus)
{
	for (int i = 0; i < ASK_US / 10000; i++) {
		int rc = sd_bus_process(bus, NULL);

		if (rc < 0)
			return rc;
		if (sd_bus_is_ready(bus) > 0)
			return 0;
		if (rc == 0)
			sd_bus_wait(bus, 10000);
	}
	return -ETIMEDOUT;
}

/* The manager itself, without a bus daemon between: as systemctl does. */
static int open_manager(sd_bus **ret, bool is_user)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	_cleanup_free_ char *address = NULL;
	sd_bus *bus = NULL;
	int rc;

	if (asprintf(&address, "unix:path=%s/systemd/private",
		     is_user && runtime ? runtime : "/run") < 0) {
		address = NULL;
		return -ENOMEM;
	}
	rc = sd_bus_new(&bus);
	if (rc >= 0)
		rc = sd_bus_set_address(bus, address);
	if (rc >= 0)
		rc = sd_bus_set_method_call_timeout(bus, ASK_US);
	if (rc >= 0)
		rc = sd_bus_start(bus);
	/* The library itself would give it much longer for its first words. */
	if (rc >= 0)
		rc = await_ready(bus);
	if (rc < 0) {
		sd_bus_unref(bus);
		return rc;
	}
	*ret = bus;
	return 0;
}

/* The path of our unit, if the manager keeps something of ours: for free(); or -errno. */
static int find_unit(sd_bus *bus, char **ret)
{
	sd_bus_message *unit = NULL;
	const char *path;
	uint32_t kept = 0;
	int rc;

	rc = sd_bus_call_method(bus, MANAGER, "/org/freedesktop/systemd1", MANAGER ".Manager",
				"GetUnitByPID", NULL, &unit, "u", (uint32_t)getpid());
	if (rc >= 0)
		rc = sd_bus_message_read(unit, "o", &path);
	if (rc >= 0)
		rc = sd_bus_get_property_trivial(bus, MANAGER, path, MANAGER ".Service",
						 "NFileDescriptorStore", NULL, 'u', &kept);
	if (rc >= 0)
		rc = kept == 0 ? -ENOENT : 0;
	if (rc >= 0 && !(*ret = strdup(path)))
		rc = -ENOMEM;
	sd_bus_message_unref(unit);
	return rc;
}

/* Whether the job that it has is to stop it: 1, 0, or -errno. */
static int is_stopping(sd_bus *bus, const char *unit_path)
{
	_cleanup_free_ char *type = NULL;
	sd_bus_message *job = NULL;
	const char *job_path;
	uint32_t id = 0;
	int rc;

	rc = sd_bus_get_property(bus, MANAGER, unit_path, MANAGER ".Unit", "Job", NULL, &job,
				 "(uo)");
	if (rc >= 0)
		rc = sd_bus_message_read(job, "(uo)", &id, &job_path);
	/* Without a job somebody has ended us, and Restart= starts us again. */
	if (rc >= 0 && id > 0)
		rc = sd_bus_get_property_string(bus, MANAGER, job_path, MANAGER ".Job", "JobType",
						NULL, &type);
	sd_bus_message_unref(job);
	return rc < 0 ? rc : type && strcmp(type, "stop") == 0;
}

/* Whether that says that nobody keeps anything for us, so that this is the end of it. */
static bool says_nobody(int error)
{
	return error == -ENOENT || error == -ECONNREFUSED || error == -ENXIO || error == -EINVAL ||
	       error == -EBADR || error == -ESRCH || error == -EACCES || error == -EPERM;
}

bool service_is_stopped(bool is_user)
{
	_cleanup_free_ char *unit = NULL;
	sd_bus *bus = NULL;
	int rc;

	if (!getenv("NOTIFY_SOCKET"))
		return true;
	rc = open_manager(&bus, is_user);
	if (rc == 0)
		rc = find_unit(bus, &unit);
	if (rc < 0 && says_nobody(rc)) {
		sd_bus_flush_close_unref(bus);
		return true;
	}
	if (rc == 0)
		rc = is_stopping(bus, unit);
	sd_bus_close_unref(bus);
	if (rc < 0)
		log_line(LOG_WARNING,
			 "can't ask the service manager whether this is a stop: %s; temporary "
			 "names and contexts are left to the next start",
			 strerror(-rc));
	return rc > 0;
}
