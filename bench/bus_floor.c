/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The floor on D-Bus: a bare sd-bus service that reads the same arguments as the broker, makes the
 * same calls of the kernel in one directory and knows nobody; its names are as long as the
 * broker's.
 *
 *     bench/bus_floor BUS-ADDRESS DIRECTORY
 *
 * It closes its standard output when it is on the bus. Names that end in "-denied" are refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#define NAME "org.shmbroker.Floor01"
#define PATH "/org/shmbroker/Floor01"

static int directory, proc_fds;

/* An array of strings. */
static int read_flags(sd_bus_message *call, int *ret)
{
	static const struct {
		const char *text;
		int flag;
	} flags[] = { { "rdonly", O_RDONLY },
		      { "rdwr", O_RDWR },
		      { "creat", O_CREAT },
		      { "excl", O_EXCL },
		      { "trunc", O_TRUNC } };
	const char *text;
	int rc;

	*ret = 0;
	rc = sd_bus_message_enter_container(call, 'a', "s");
	while (rc >= 0 && (rc = sd_bus_message_read_basic(call, 's', &text)) > 0)
		for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++)
			if (strcmp(text, flags[i].text) == 0)
				*ret |= flags[i].flag;
	return rc < 0 ? rc : sd_bus_message_exit_container(call);
}

/* a{sv}, of which a size is known. */
static int read_size(sd_bus_message *call, uint64_t *ret)
{
	const char *key;
	int rc;

	*ret = 0;
	rc = sd_bus_message_enter_container(call, 'a', "{sv}");
	while (rc >= 0 && (rc = sd_bus_message_enter_container(call, 'e', "sv")) > 0) {
		rc = sd_bus_message_read_basic(call, 's', &key);
		if (rc >= 0)
			rc = strcmp(key, "size") == 0 ? sd_bus_message_read(call, "v", "t", ret)
						      : sd_bus_message_skip(call, "v");
		if (rc >= 0)
			rc = sd_bus_message_exit_container(call);
	}
	return rc < 0 ? rc : sd_bus_message_exit_container(call);
}

static bool is_denied(const char *name)
{
	const char *tail = strrchr(name, '-');

	return tail && strcmp(tail, "-denied") == 0;
}

static int make(const char *name, int flags, mode_t mode, uint64_t size)
{
	int nameless = openat(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, mode), fd;
	char number[16];

	if (nameless < 0)
		return -1;
	snprintf(number, sizeof(number), "%d", nameless);
	if (ftruncate(nameless, (off_t)size) < 0 ||
	    linkat(proc_fds, number, directory, name, AT_SYMLINK_FOLLOW) < 0)
		fd = -1;
	else
		fd = openat(directory, name,
			    (flags & ~(O_CREAT | O_EXCL)) | O_NOFOLLOW | O_CLOEXEC);
	close(nameless);
	return fd;
}

static int call_open(sd_bus_message *call, void *userdata, sd_bus_error *error)
{
	const char *name;
	int fd, flags, rc;
	uint32_t mode;
	uint64_t size;

	(void)userdata;
	rc = sd_bus_message_read(call, "s", &name);
	if (rc >= 0)
		rc = read_flags(call, &flags);
	if (rc >= 0)
		rc = sd_bus_message_read(call, "u", &mode);
	if (rc >= 0)
		rc = read_size(call, &size);
	if (rc < 0)
		return rc;
	if (is_denied(name))
		return sd_bus_error_set_errno(error, EACCES);
	fd = size ? make(name + 1, flags, mode, size)
		  : openat(directory, name + 1, flags | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0)
		return sd_bus_error_set_errno(error, errno);
	rc = sd_bus_reply_method_return(call, "h", fd);
	close(fd);
	return rc;
}

static int call_unlink(sd_bus_message *call, void *userdata, sd_bus_error *error)
{
	const char *name;
	int rc = sd_bus_message_read(call, "s", &name);

	(void)userdata;
	if (rc < 0)
		return rc;
	if (unlinkat(directory, name + 1, 0) < 0)
		return sd_bus_error_set_errno(error, errno);
	return sd_bus_reply_method_return(call, "");
}

static const sd_bus_vtable table[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD("Open", "sasua{sv}", "h", call_open, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Unlink", "s", "", call_unlink, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_VTABLE_END,
};

int main(int argc, char **argv)
{
	sd_bus *bus = NULL;
	int rc;

	if (argc != 3) {
		fputs("usage: bench/bus_floor BUS-ADDRESS DIRECTORY\n", stderr);
		return 2;
	}
	umask(0);
	directory = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	proc_fds = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rc = directory < 0 || proc_fds < 0 ? -errno : sd_bus_new(&bus);
	if (rc >= 0)
		rc = sd_bus_set_address(bus, argv[1]);
	if (rc >= 0)
		rc = sd_bus_set_bus_client(bus, true);
	if (rc >= 0)
		rc = sd_bus_start(bus);
	if (rc >= 0)
		rc = sd_bus_add_object_vtable(bus, NULL, PATH, NAME, table, NULL);
	if (rc >= 0)
		rc = sd_bus_request_name(bus, NAME, 0);
	close(STDOUT_FILENO);
	while (rc >= 0) {
		rc = sd_bus_process(bus, NULL);
		if (rc == 0)
			rc = sd_bus_wait(bus, UINT64_MAX);
	}
	fprintf(stderr, "bench/bus_floor: %s\n", strerror(-rc));
	return 1;
}
