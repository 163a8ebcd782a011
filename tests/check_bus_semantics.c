/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What shm_open(3) does, compared with the broker over D-Bus, open by open, as over the socket. */
#include <errno.h>
#include <fcntl.h>

#include "tests/bus_fixture.h"
#include "tests/check_bus.h"
#include "tests/native.h"

static sd_bus *client;

static int failed(int error)
{
	errno = error;
	return error ? -1 : 0;
}

/* The mode is taken as it is: the umask is the caller's own affair. */
static int bus_open(const char *name, int oflag, mode_t mode)
{
	int fd = bus_fixture_open_how(client, name,
				      &(struct shmb_how){ .oflag = (unsigned)oflag, .mode = mode });

	return fd < 0 ? failed(-fd) : fd;
}

static int bus_unlink(const char *name)
{
	return failed(bus_fixture_call(client, NULL, NULL, "Unlink", "s", name));
}

static const struct opener by_bus = { bus_open, bus_unlink, bus_open };

static const struct {
	const char *name;
	int oflag, open_error, unlink_error;
} rows[] = {
	{ "", O_RDWR | O_CREAT, EINVAL, ENOENT },
	{ "/", O_RDWR, EINVAL, ENOENT },
	{ "/.", O_RDWR, EINVAL, EINVAL },
	{ "/..", O_RDWR | O_CREAT, EINVAL, EINVAL },
	{ "/a/b", O_RDWR | O_CREAT, EINVAL, ENOENT },
	{ "/.shmbroker.0", O_RDWR | O_CREAT, EINVAL, ENOENT },
	{ "/nothing-1", O_RDONLY, EACCES, EACCES },
	{ "/nothing-1", O_RDWR | O_CREAT, EACCES, EACCES },
	{ "/unknown", O_RDWR | O_CREAT, EACCES, EACCES },
};

static int compare_over_the_bus(void *argument)
{
	struct bus_fixture bus = { 0 };
	struct fixture fixture;

	(void)argument;
	bus_fixture_start_bus(&bus);
	places_start_on_bus(&fixture, __func__, bus.address);
	client = bus_fixture_connect(&bus);
	bus_fixture_wait(client);
	openings_compare_all(&by_bus, O_CREAT | O_EXCL | O_TRUNC);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		for (int over_bus = 0; over_bus < 2; over_bus++) {
			const struct opener *opener = over_bus ? &by_bus : &brokered;

			ck_assert_int_eq(opener->open(rows[i].name, rows[i].oflag, 0600), -1);
			ck_assert_msg(errno == rows[i].open_error, "row %zu: %d", i, errno);
			ck_assert_int_eq(opener->unlink(rows[i].name), -1);
			ck_assert_msg(errno == rows[i].unlink_error, "row %zu: %d", i, errno);
		}
	}
	sd_bus_flush_close_unref(client);
	places_stop(&fixture);
	bus_fixture_stop_bus(&bus);
	return 0;
}

START_TEST(each_legal_open_is_as_shm_open_makes_it)
{
	TEST_NEEDS(bus_fixture_possible(), "no dbus-daemon, or no passwd entry for this user");
	run_as((uid_t)-1, 0, compare_over_the_bus, NULL);
}
END_TEST

void check_bus_add_semantics(TCase *test)
{
	tcase_add_test(test, each_legal_open_is_as_shm_open_makes_it);
}
