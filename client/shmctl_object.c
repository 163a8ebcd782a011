/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* shmctl create, cat, write and rm: objects and what is in them. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/shmctl.h"

#define MODE_DEFAULT 0640

/* A number, with K, M, G or T: 0 or -EINVAL. */
static int parse_size(const char *text, uint64_t *ret)
{
	static const char units[] = "KMGT";
	const char *unit;
	uint64_t value;
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno)
		return -EINVAL;
	if (*end && (unit = strchr(units, *end))) {
		int shift = 10 * (int)(unit - units + 1);

		if (value > UINT64_MAX >> shift)
			return -EINVAL;
		value <<= shift;
		end++;
	}
	*ret = value;
	return *end ? -EINVAL : 0;
}

static int parse_mode(const char *text, uint64_t *ret)
{
	unsigned long mode;
	char *end;

	*ret = MODE_DEFAULT;
	if (!text)
		return 0;
	mode = strtoul(text, &end, 8);
	if (*text < '0' || *text > '7' || *end || mode > 0777)
		return -EINVAL;
	*ret = mode;
	return 0;
}

static int print_info(struct shmctl *ctl, const char *name)
{
	_cleanup_free_ char *slashed = shmctl_slashed(name);
	struct shmb_info info;
	int r = shmb_stat(ctl->c, name, &info, sizeof(info));
	json_t *document;

	if (r == 0)
		return shmctl_json_print(shmctl_json_info(&info));
	/* Who may create need not be allowed to look, or it has gone: the name is what is known. */
	document = json_object();
	shmctl_json_text(document, "name", slashed);
	return shmctl_json_print(document);
}

static int create_object(struct shmctl *ctl, const struct shmb_how *how)
{
	const char *name = ctl->argument[0];
	_cleanup_free_ char *slashed = shmctl_slashed(name);
	_cleanup_free_ char *shown = shmctl_escape(slashed);
	_cleanup_close_ int signals = -EBADF;
	_cleanup_close_ int fd = -EBADF;
	bool hold = shmctl_has(ctl, OPTION_HOLD);
	int status = SHMCTL_DONE;

	/* Before the object is there: a signal that comes early must be seen. */
	if (hold) {
		signals = shmctl_signals(NULL, false);
		if (signals < 0)
			return shmctl_fail("signals can't be waited for: %s", strerror(-signals));
	}
	fd = shmb_open_how(ctl->c, name, how, sizeof(*how));
	if (fd < 0)
		return shmctl_fail_call(ctl, name, fd);
	if (shmctl_has(ctl, OPTION_JSON))
		status = print_info(ctl, name);
	else if (hold)
		puts(shown);
	status = shmctl_flush(status);
	if (hold && status == SHMCTL_DONE)
		shmctl_hold(signals, -EBADF);
	return status;
}

int command_create(struct shmctl *ctl)
{
	struct shmb_how how = { .oflag = O_RDWR | O_CREAT | O_EXCL };

	if (parse_size(ctl->argument[1], &how.size) < 0)
		return shmctl_usage("%s is no size: 4096, 64K, 1M, 2G, 1T", ctl->argument[1]);
	if (parse_mode(ctl->value[OPTION_MODE], &how.mode) < 0)
		return shmctl_usage("%s is no mode: octal, 0 to 0777", ctl->value[OPTION_MODE]);
	if (shmctl_has(ctl, OPTION_RESERVE))
		how.flags |= SHMB_RESERVE;
	if (shmctl_has(ctl, OPTION_TEMPORARY)) {
		if (!shmctl_has(ctl, OPTION_HOLD))
			return shmctl_usage("the name would go with shmctl at once: --temporary "
					    "needs --hold");
		how.flags |= SHMB_TEMPORARY;
	}
	if (shmctl_connect(ctl) < 0)
		return SHMCTL_FAILED;
	return create_object(ctl, &how);
}

/* 0 or -errno. */
static int write_all(int fd, const char *bytes, size_t size)
{
	while (size > 0) {
		ssize_t n = write(fd, bytes, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		bytes += n;
		size -= (size_t)n;
	}
	return 0;
}

/*
 * Copies to the end of `from`, by read and write alone: an object that shrinks meanwhile is
 * a short one, where a mapping would be a SIGBUS. 0 or -errno, and which side failed.
 */
static int copy(int from, int to, uint64_t *ret_size, bool *ret_is_input)
{
	static char buffer[256 * 1024];

	for (*ret_size = 0;;) {
		ssize_t n = read(from, buffer, sizeof(buffer));
		int r;

		*ret_is_input = n < 0;
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		r = write_all(to, buffer, (size_t)n);
		if (r < 0)
			return r;
		*ret_size += (uint64_t)n;
	}
}

int command_cat(struct shmctl *ctl)
{
	const char *name = ctl->argument[0];
	_cleanup_free_ char *slashed = shmctl_slashed(name);
	_cleanup_close_ int fd = -EBADF;
	bool is_input;
	uint64_t size;
	int r;

	if (shmctl_has(ctl, OPTION_JSON))
		return shmctl_usage("cat has no option --json");
	if (shmctl_connect(ctl) < 0)
		return SHMCTL_FAILED;
	fd = shmb_open(ctl->c, name, O_RDONLY, 0);
	if (fd < 0)
		return shmctl_fail_call(ctl, name, fd);
	r = copy(fd, STDOUT_FILENO, &size, &is_input);
	if (r < 0)
		return shmctl_fail("%s: %s", is_input ? slashed : "standard output", strerror(-r));
	return SHMCTL_DONE;
}

/* From standard input; what is behind the new end goes. */
static int fill(const char *name, int fd, uint64_t *ret_size)
{
	_cleanup_free_ char *slashed = shmctl_slashed(name);
	bool is_input;
	int r = copy(STDIN_FILENO, fd, ret_size, &is_input);

	if (r < 0)
		return shmctl_fail("%s: %s", is_input ? "standard input" : slashed, strerror(-r));
	if (ftruncate(fd, (off_t)*ret_size) < 0)
		return shmctl_fail("%s: %s", slashed, strerror(errno));
	return SHMCTL_DONE;
}

static int written(struct shmctl *ctl, uint64_t size)
{
	_cleanup_free_ char *slashed = shmctl_slashed(ctl->argument[0]);
	json_t *document;

	if (!shmctl_has(ctl, OPTION_JSON))
		return SHMCTL_DONE;
	document = json_object();
	shmctl_json_text(document, "name", slashed);
	json_object_set_new(document, "size", json_integer((json_int_t)size));
	return shmctl_json_print(document);
}

/* Into the object that is there: its readers see it change. */
static int write_in_place(struct shmctl *ctl)
{
	const char *name = ctl->argument[0];
	_cleanup_close_ int fd = -EBADF;
	uint64_t size;
	int status;

	fd = shmb_open(ctl->c, name, O_WRONLY, 0);
	if (fd < 0)
		return shmctl_fail_call(ctl, name, fd);
	status = fill(name, fd, &size);
	return status == SHMCTL_DONE ? written(ctl, size) : status;
}

/* Without a name until all is in it. */
static int write_published(struct shmctl *ctl, mode_t mode, unsigned flags)
{
	const char *name = ctl->argument[0];
	const struct shmb_how how = {
		.oflag = O_RDWR | O_CREAT,
		.mode = mode,
		.flags = SHMB_UNPUBLISHED,
	};
	_cleanup_close_ int fd = shmb_open_how(ctl->c, name, &how, sizeof(how));
	uint64_t size;
	int status, r;

	if (fd < 0)
		return shmctl_fail_call(ctl, name, fd);
	status = fill(name, fd, &size);
	if (status != SHMCTL_DONE)
		return status;
	r = shmb_publish(ctl->c, name, flags);
	return r < 0 ? shmctl_fail_call(ctl, name, r) : written(ctl, size);
}

/* The new object has the old one's mode, whatever the umask. */
static int write_replacing(struct shmctl *ctl)
{
	const char *name = ctl->argument[0];
	mode_t mode = MODE_DEFAULT;
	struct shmb_info info;
	int r = shmb_stat(ctl->c, name, &info, sizeof(info));

	if (r == 0) {
		mode = info.mode & 0777;
		umask(0);
	} else if (r != -ENOENT || !shmctl_has(ctl, OPTION_CREATE)) {
		return shmctl_fail_call(ctl, name, r);
	}
	return write_published(ctl, mode, SHMB_REPLACE);
}

int command_write(struct shmctl *ctl)
{
	if (shmctl_connect(ctl) < 0)
		return SHMCTL_FAILED;
	if (shmctl_has(ctl, OPTION_REPLACE))
		return write_replacing(ctl);
	if (shmctl_has(ctl, OPTION_CREATE))
		return write_published(ctl, MODE_DEFAULT, 0);
	return write_in_place(ctl);
}

int command_rm(struct shmctl *ctl)
{
	json_t *removed = json_array();
	int status = SHMCTL_DONE;

	if (shmctl_connect(ctl) < 0) {
		json_decref(removed);
		return SHMCTL_FAILED;
	}
	for (int i = 0; i < ctl->count; i++) {
		_cleanup_free_ char *slashed = shmctl_slashed(ctl->argument[i]);
		int r = shmb_unlink(ctl->c, ctl->argument[i]);
		json_t *object;

		if (r < 0) {
			status = shmctl_fail_call(ctl, ctl->argument[i], r);
			continue;
		}
		object = json_object();
		shmctl_json_text(object, "name", slashed);
		json_array_append_new(removed, object);
	}
	if (!shmctl_has(ctl, OPTION_JSON))
		json_decref(removed);
	else if (shmctl_json_print(removed) != SHMCTL_DONE)
		status = SHMCTL_FAILED;
	return status;
}

/* A whole number and a unit, seconds without one: ms, or -1. */
static int parse_time(const char *text)
{
	static const struct {
		const char *unit;
		unsigned long ms;
	} units[] = {
		{ "", 1000 }, { "ms", 1 }, { "s", 1000 }, { "min", 60000 }, { "h", 3600000 }
	};
	unsigned long value;
	char *end;

	if (*text < '0' || *text > '9')
		return -1;
	errno = 0;
	value = strtoul(text, &end, 10);
	for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++)
		if (strcmp(end, units[i].unit) == 0)
			return errno || value > INT_MAX / units[i].ms ? -1
								      : (int)(value * units[i].ms);
	return -1;
}

int command_wait(struct shmctl *ctl)
{
	const char *time = ctl->value[OPTION_TIMEOUT];
	int timeout_ms = time ? parse_time(time) : -1, r;

	if (time && timeout_ms < 0)
		return shmctl_usage("%s is no time: 500ms, 5s (or 5), 2min, 1h", time);
	r = shmctl_connect(ctl);
	if (r < 0)
		return SHMCTL_FAILED;
	r = shmb_wait(ctl->c, ctl->argument[0], timeout_ms);
	if (r < 0)
		return shmctl_fail_call(ctl, ctl->argument[0], r);
	return shmctl_has(ctl, OPTION_JSON) ? print_info(ctl, ctl->argument[0]) : SHMCTL_DONE;
}
