/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A private bus for a test: see bus_fixture.h. */
#include "tests/bus_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/bus_private.h"
#include "tests/fault.h"
#include "tests/native.h"
#include "tests/test.h"

/* As /usr/share/dbus-1/system.conf has it. */
static const char config_text[] =
	"<busconfig>\n"
	" <listen>%s</listen>\n"
	" <auth>EXTERNAL</auth>\n"
	" <policy context=\"default\">\n"
	"  <allow user=\"*\"/>\n"
	"  <deny own=\"*\"/>\n"
	"  <deny send_type=\"method_call\"/>\n"
	"  <allow send_type=\"signal\"/>\n"
	"  <allow send_requested_reply=\"true\" send_type=\"method_return\"/>\n"
	"  <allow send_requested_reply=\"true\" send_type=\"error\"/>\n"
	"  <allow receive_type=\"method_call\"/>\n"
	"  <allow receive_type=\"method_return\"/>\n"
	"  <allow receive_type=\"error\"/>\n"
	"  <allow receive_type=\"signal\"/>\n"
	"  <allow send_destination=\"org.freedesktop.DBus\"/>\n"
	" </policy>\n"
	" <policy user=\"%u\"><allow own=\"" BUS_TEST_NAME "\"/></policy>\n"
	" <include>%s/../systemd/" BUS_TEST_NAME ".conf</include>\n"
	"</busconfig>\n";

bool bus_fixture_possible(void)
{
	/* It turns away whom it finds in no passwd. */
	return access("/usr/bin/dbus-daemon", X_OK) == 0 && getpwuid(geteuid());
}

/* The system's, and the users of the tests. */
static void write_passwd(const char *path)
{
	static const unsigned users[] = { USER_A, USER_B, USER_STRANGER };
	FILE *from = fopen("/etc/passwd", "re"), *to = fopen(path, "we");
	char line[1024];

	ck_assert(from && to);
	while (fgets(line, sizeof(line), from))
		fputs(line, to);
	for (size_t i = 0; i < sizeof(users) / sizeof(*users); i++)
		fprintf(to, "shmbroker-test-%u:x:%u:%u::/:/bin/false\n", users[i], users[i],
			users[i]);
	fclose(from);
	ck_assert_int_eq(fclose(to), 0);
}

/* It turns away whom it finds in no passwd: so where this process may mount, it gets its own. */
static bool mount_passwd(const char *path)
{
	return unshare(CLONE_NEWNS) == 0 &&
	       mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount(path, "/etc/passwd", NULL, MS_BIND, NULL) == 0;
}

bool bus_fixture_knows_users(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(!mount_passwd("/etc/passwd"));
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static void write_config(struct bus_fixture *fixture)
{
	const char *source = getenv("TEST_SRCDIR");
	FILE *file;

	snprintf(fixture->address, sizeof(fixture->address), "unix:path=%s/bus", test_directory());
	snprintf(fixture->config, sizeof(fixture->config), "%s/bus.conf", test_directory());
	file = fopen(fixture->config, "we");
	ck_assert_ptr_nonnull(file);
	fprintf(file, config_text, fixture->address, geteuid(), source ? source : "tests");
	ck_assert_int_eq(fclose(file), 0);
}

void bus_fixture_start_bus(struct bus_fixture *fixture)
{
	char option[32], config[192], passwd[160], answer[256];
	int told[2];

	write_config(fixture);
	snprintf(passwd, sizeof(passwd), "%s/passwd", test_directory());
	write_passwd(passwd);
	ck_assert_int_eq(pipe2(told, O_CLOEXEC), 0);
	fixture->pid = fork();
	ck_assert_int_ge(fixture->pid, 0);
	if (fixture->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		mount_passwd(passwd);
		fcntl(told[1], F_SETFD, 0);
		snprintf(option, sizeof(option), "--print-address=%d", told[1]);
		snprintf(config, sizeof(config), "--config-file=%s", fixture->config);
		execl("/usr/bin/dbus-daemon", "dbus-daemon", "--nofork", "--nopidfile", option,
		      config, NULL);
		_exit(127);
	}
	close(told[1]);
	/* It says its address once it listens. */
	ck_assert_int_gt(read(told[0], answer, sizeof(answer)), 0);
	close(told[0]);
}

void bus_fixture_stop_bus(struct bus_fixture *fixture)
{
	if (fixture->pid == 0)
		return;
	kill(fixture->pid, SIGKILL);
	ck_assert_int_eq(waitpid(fixture->pid, NULL, 0), fixture->pid);
	fixture->pid = 0;
}

sd_bus *bus_fixture_connect(const struct bus_fixture *fixture)
{
	sd_bus *bus = NULL;

	ck_assert_int_ge(sd_bus_new(&bus), 0);
	ck_assert_int_ge(sd_bus_set_address(bus, fixture->address), 0);
	ck_assert_int_ge(sd_bus_set_bus_client(bus, true), 0);
	ck_assert_int_ge(sd_bus_start(bus), 0);
	return bus;
}

static int appeared(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
	(void)message;
	(void)ret_error;
	*(bool *)userdata = true;
	return 0;
}

void bus_fixture_wait(sd_bus *client)
{
	sd_bus_slot *slot = NULL;
	sd_bus_message *reply = NULL;
	bool has_appeared = false;
	int owned = 0;

	ck_assert_int_ge(sd_bus_add_match(client, &slot,
					  "type='signal',member='NameOwnerChanged',arg0='"
					  "" BUS_TEST_NAME "'",
					  appeared, &has_appeared),
			 0);
	ck_assert_int_ge(sd_bus_call_method(client, "org.freedesktop.DBus", "/org/freedesktop/DBus",
					    "org.freedesktop.DBus", "NameHasOwner", NULL, &reply,
					    "s", BUS_TEST_NAME),
			 0);
	ck_assert_int_ge(sd_bus_message_read(reply, "b", &owned), 0);
	while (!owned && !has_appeared) {
		while (sd_bus_process(client, NULL) > 0)
			;
		if (!has_appeared)
			ck_assert_int_ge(sd_bus_wait(client, UINT64_MAX), 0);
	}
	sd_bus_message_unref(reply);
	sd_bus_slot_unref(slot);
}

void bus_fixture_start(struct bus_fixture *fixture, const char *config)
{
	*fixture = (struct bus_fixture){ 0 };
	bus_fixture_start_bus(fixture);
	fixture_start(&fixture->broker, &(struct fixture_how){ .config = config,
							       .is_user = geteuid() != 0,
							       .bus_address = fixture->address });
	fixture->client = bus_fixture_connect(fixture);
	bus_fixture_wait(fixture->client);
}

void bus_fixture_stop(struct bus_fixture *fixture)
{
	sd_bus_flush_close_unref(fixture->client);
	fixture_stop(&fixture->broker);
	bus_fixture_stop_bus(fixture);
}

sd_bus_message *bus_fixture_new_call(sd_bus *client, const char *member)
{
	sd_bus_message *message = NULL;

	ck_assert_int_ge(sd_bus_message_new_method_call(client, &message, BUS_TEST_NAME,
							BUS_TEST_PATH, BUS_TEST_NAME, member),
			 0);
	return message;
}

int bus_fixture_call(sd_bus *client, sd_bus_message **ret, char ret_text[256], const char *member,
		     const char *types, ...)
{
	sd_bus_error error = SD_BUS_ERROR_NULL;
	sd_bus_message *message = NULL, *reply = NULL;
	va_list arguments;
	int rc;

	message = bus_fixture_new_call(client, member);
	va_start(arguments, types);
	ck_assert_int_ge(sd_bus_message_appendv(message, types, arguments), 0);
	va_end(arguments);
	rc = sd_bus_call(client, message, 60 * 1000000ull, &error, &reply);
	if (ret_text)
		snprintf(ret_text, 256, "%s", error.message ? error.message : "");
	sd_bus_error_free(&error);
	sd_bus_message_unref(message);
	if (ret && rc >= 0)
		*ret = reply;
	else
		sd_bus_message_unref(reply);
	return rc < 0 ? -rc : 0;
}

int bus_fixture_open(sd_bus *client, const char *name, const char *flags, uint32_t mode)
{
	bool create = strchr(flags, ' ');
	sd_bus_message *reply = NULL;
	int error, fd = -1;

	error = create ? bus_fixture_call(client, &reply, NULL, "Open", "sasua{sv}", name, 2,
					  "rdwr", strchr(flags, ' ') + 1, mode, 0)
		       : bus_fixture_call(client, &reply, NULL, "Open", "sasua{sv}", name, 1, flags,
					  mode, 0);
	if (error)
		return -error;
	ck_assert_int_ge(sd_bus_message_read(reply, "h", &fd), 0);
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	sd_bus_message_unref(reply);
	return fd;
}

int bus_fixture_open_how(sd_bus *client, const char *name, const struct shmb_how *how)
{
	static const char *const access[] = {
		[O_RDONLY] = "rdonly", [O_WRONLY] = "wronly", [O_RDWR] = "rdwr"
	};
	static const struct {
		unsigned oflag;
		const char *text;
	} others[] = { { O_CREAT, "creat" },
		       { O_EXCL, "excl" },
		       { O_TRUNC, "trunc" },
		       { O_APPEND, "append" } };
	const char *flags[6] = { access[how->oflag & O_ACCMODE] };
	sd_bus_message *message = bus_fixture_new_call(client, "Open"), *reply = NULL;
	sd_bus_error error = SD_BUS_ERROR_NULL;
	size_t count = 1;
	int rc, fd = -1;

	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		if (how->oflag & others[i].oflag)
			flags[count++] = others[i].text;
	ck_assert_int_ge(sd_bus_message_append(message, "s", name), 0);
	ck_assert_int_ge(sd_bus_message_append_strv(message, (char **)flags), 0);
	ck_assert_int_ge(sd_bus_message_append(message, "u", (uint32_t)how->mode), 0);
	ck_assert_int_ge(
		how->size ? sd_bus_message_append(message, "a{sv}", 1, "size", "t", how->size)
			  : sd_bus_message_append(message, "a{sv}", 0),
		0);
	rc = sd_bus_call(client, message, 0, &error, &reply);
	if (rc >= 0) {
		ck_assert_int_ge(sd_bus_message_read(reply, "h", &fd), 0);
		fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	}
	sd_bus_error_free(&error);
	sd_bus_message_unref(message);
	sd_bus_message_unref(reply);
	return rc < 0 ? rc : fd;
}

bool bus_fixture_will_retry(const struct bus *bus)
{
	struct pollfd timer = { .fd = bus->retry.fd, .events = POLLIN };
	struct itimerspec left;
	bool is_over;

	fault_pause();
	is_over = poll(&timer, 1, 0) > 0;
	fault_resume();
	ck_assert_int_eq(timerfd_gettime(timer.fd, &left), 0);
	return is_over || left.it_value.tv_sec > 0 || left.it_value.tv_nsec > 0;
}
