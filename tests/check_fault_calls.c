/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Faults in calls that are more than one request, or leave something in the broker. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>

#include "client/internal.h"
#include "daemon/broker_private.h"
#include "tests/fault_scene.h"
#include "tests/raw_client.h"
#include "tests/test.h"

#define ROWS(rows) (sizeof(rows) / sizeof(*(rows)))
#define STRANGER 4711

static const char config[] =
	"pools: { host: { path = \"@host@\" access = \"caller\" }\n"
	"         frames: { size = \"1M\" objects = 16 }\n"
	"         own: { per = \"user\" size = \"256K\" objects = 16 }\n"
	"         apps: { per = \"app\" size = \"64K\" objects = 8 } }\n"
	"rules: ( { name = \"app\" names = \"/*\" allow = \"all\" pool = \"apps\" sandboxed = true "
	"user = \"root\" app = \"org.example.*\" },\n"
	"  { name = \"host\" names = \"/host-*\" allow = \"all\" pool = \"host\" },\n"
	"  { name = \"sealed\" names = \"/sealed-*\" allow = \"all\" pool = \"frames\" },\n"
	"  { name = \"frames\" names = [ \"/new\", \"/there\" ] allow = \"all\" pool = "
	"\"frames\" },\n"
	"  { name = \"own\" names = \"/*\" allow = \"all\" pool = \"own\" delegate = true } )\n";

static int open_how(struct scene *scene, const char *name, uint64_t size, uint64_t flags)
{
	const struct shmb_how how = {
		.oflag = O_RDWR | O_CREAT, .mode = 0600, .size = size, .flags = flags
	};

	return scene->fd[0] = shmb_open_how(scene->c, name, &how, sizeof(how));
}

static void make(struct scene *scene, const char *name)
{
	int fd = shmb_open(scene->other, name, O_RDWR | O_CREAT, 0600);

	FAULT_EXPECT(fd >= 0);
	close(fd);
}

static void remove_if_there(struct scene *scene, const char *name)
{
	int result = shmb_unlink(scene->other, name);

	FAULT_EXPECT(result == 0 || result == -ENOENT);
}

static void make_there(struct scene *scene)
{
	make(scene, "/there");
}

static void remove_there(struct scene *scene)
{
	remove_if_there(scene, "/there");
}

static int call_publish(struct scene *scene)
{
	int result = open_how(scene, "/new", 4096, SHMB_UNPUBLISHED);

	return result < 0 ? result : shmb_publish(scene->c, "/new", 0);
}

static int call_replace(struct scene *scene)
{
	int result = open_how(scene, "/there", 4096, SHMB_UNPUBLISHED);

	return result < 0 ? result : shmb_publish(scene->c, "/there", SHMB_REPLACE);
}

static int call_unpublished(struct scene *scene)
{
	return open_how(scene, "/new", 4096, SHMB_UNPUBLISHED);
}

static int call_reserve(struct scene *scene)
{
	return open_how(scene, "/new", 4096, SHMB_RESERVE);
}

static int call_temporary(struct scene *scene)
{
	return open_how(scene, "/new", 4096, SHMB_TEMPORARY);
}

/* --- sealed --- */

static int seal(struct scene *scene, struct shmb *c, unsigned flags)
{
	const struct shmb_how how = {
		.oflag = O_RDWR | O_CREAT,
		.mode = 0600,
		.size = 8192,
		.flags = SHMB_UNPUBLISHED | SHMB_SEALED,
	};

	scene->fd[0] = shmb_open_how(c, "/sealed-1", &how, sizeof(how));
	return scene->fd[0] < 0 ? scene->fd[0] : shmb_publish(c, "/sealed-1", flags);
}

static void make_sealed(struct scene *scene)
{
	FAULT_EXPECT(seal(scene, scene->other, 0) == 0);
	close(scene->fd[0]);
	scene->fd[0] = -EBADF;
}

static void remove_sealed(struct scene *scene)
{
	remove_if_there(scene, "/sealed-1");
}

static int call_seal(struct scene *scene)
{
	return seal(scene, scene->c, 0);
}

static int call_replace_sealed(struct scene *scene)
{
	return seal(scene, scene->c, SHMB_REPLACE);
}

static int call_open_sealed(struct scene *scene)
{
	return scene->fd[0] = shmb_open(scene->c, "/sealed-1", O_RDONLY, 0);
}

static int call_write_sealed(struct scene *scene)
{
	return scene->fd[0] = shmb_open(scene->c, "/sealed-1", O_RDWR, 0);
}

/* Of a publish that failed, too, nobody can write any more: or it isn't published. */
static int call_unlink_sealed(struct scene *scene)
{
	return shmb_unlink(scene->c, "/sealed-1");
}

/* --- another's --- */

static void make_private(struct scene *scene)
{
	make(scene, "/host-private");
}

static void remove_private(struct scene *scene)
{
	remove_if_there(scene, "/host-private");
}

static int call_open_private(struct scene *scene)
{
	return scene->fd[0] = shmb_open(scene->c, "/host-private", O_RDWR, 0);
}

static int call_create_private(struct scene *scene)
{
	return scene->fd[0] = shmb_open(scene->c, "/host-private", O_RDONLY | O_CREAT, 0666);
}

static int call_truncate_private(struct scene *scene)
{
	return scene->fd[0] = shmb_open(scene->c, "/host-private", O_RDONLY | O_TRUNC, 0);
}

static int call_unlink_private(struct scene *scene)
{
	return shmb_unlink(scene->c, "/host-private");
}

static int call_replace_private(struct scene *scene)
{
	int result = open_how(scene, "/host-private", 4096, SHMB_UNPUBLISHED);

	return result < 0 ? result : shmb_publish(scene->c, "/host-private", SHMB_REPLACE);
}

static int call_create_own(struct scene *scene)
{
	return scene->fd[0] = shmb_open(scene->c, "/host-own", O_RDWR | O_CREAT, 0600);
}

static void remove_own(struct scene *scene)
{
	remove_if_there(scene, "/host-own");
}

/* --- contexts --- */

static int call_context(struct scene *scene)
{
	const struct shmb_context how = { .app = "org.example.one" };

	return scene->fd[0] = shmb_create_context(scene->c, &how, sizeof(how), scene->text,
						  sizeof(scene->text));
}

/* --- what goes on --- */

/* Somebody else's, of whom another thing may have failed: until it is done. */
static void make_surely(struct scene *scene, const char *name)
{
	for (int i = 0; i < 3; i++) {
		int fd = shmb_open(scene->other, name, O_RDWR | O_CREAT, 0600);

		if (fd >= 0) {
			close(fd);
			return;
		}
		shmb_disconnect(scene->other);
		scene->other = fixture_connect(&scene->fixture);
	}
	FAULT_EXPECT(false);
}

static int status_of(int fd, uint32_t serial)
{
	static struct raw_reply reply;

	if (!raw_reply(fd, &reply))
		return -ECONNRESET;
	fdlist_close(&reply.fds);
	FAULT_EXPECT(reply.head.serial == serial);
	return -reply.head.status;
}

static void greet(struct scene *scene)
{
	scene->fd[1] = raw_greeted(scene->fixture.socket);
	FAULT_EXPECT(raw_ask(scene->fd[1], 1, WIRE_STAT, "none") == 0);
	FAULT_EXPECT(status_of(scene->fd[1], 1) == -ENOENT);
}

static int call_wait(struct scene *scene)
{
	int fd = scene->fd[1];

	if (raw_ask(fd, 2, WIRE_WAIT, "new") < 0)
		return -ECONNRESET;
	make_surely(scene, "/new");
	return status_of(fd, 2);
}

static int call_monitor(struct scene *scene)
{
	int result, fd = scene->fd[1];

	if (raw_ask(fd, 2, WIRE_MONITOR, "*") < 0)
		return -ECONNRESET;
	result = status_of(fd, 2);
	if (result < 0)
		return result;
	make_surely(scene, "/new");
	poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 500);
	if (raw_cancel(fd, 3, 2) < 0)
		return -ECONNRESET;
	/* A pool that can't be watched is told in the log alone. */
	for (scene->count = 0;; scene->count++) {
		result = status_of(fd, 2);
		if (result == -ECANCELED)
			return scene->count > 0 ? 0 : -EOPNOTSUPP;
		if (result < 0)
			return result;
	}
}

static int call_raw(struct scene *scene, enum wire_operation operation, const char *text)
{
	return shmb_raw_call(scene->c, operation, text, strlen(text), NULL, NULL);
}

static int call_pools(struct scene *scene)
{
	return call_raw(scene, WIRE_POOLS, "");
}

static int call_status(struct scene *scene)
{
	return call_raw(scene, WIRE_STATUS, "");
}

#define BOTH(text, function, ...)                                                                  \
	{ text, .config = config, .roles = FAULT_SELF, .call = function, __VA_ARGS__ },            \
	{                                                                                          \
		text, .config = config, .roles = FAULT_LOOP, .call = function, __VA_ARGS__         \
	}
#define LOOP(text, function, ...)                                                                  \
	{                                                                                          \
		text, .config = config, .roles = FAULT_LOOP, .call = function, __VA_ARGS__         \
	}
#define THERE .before = make_there, .after = remove_there
#define SEALED .before = make_sealed, .after = remove_sealed
#define PRIVATE .before = make_private, .after = remove_private, .uid = STRANGER

static const struct fault_case in_steps[] = {
	BOTH("publish", call_publish, .is_create = true),
	BOTH("replace", call_replace, THERE),
	BOTH("leave unpublished", call_unpublished, .is_create = true),
	BOTH("reserve", call_reserve, .is_create = true),
	BOTH("temporary", call_temporary, .is_create = true),
};

static const struct fault_case sealed[] = {
	BOTH("seal", call_seal, .after = remove_sealed),
	BOTH("replace a sealed one", call_replace_sealed, SEALED),
	BOTH("open a sealed one", call_open_sealed, SEALED),
	BOTH("write a sealed one", call_write_sealed, SEALED, .expected = -EACCES),
	BOTH("unlink a sealed one", call_unlink_sealed, SEALED),
};

static const struct fault_case strangers[] = {
	LOOP("open another's", call_open_private, PRIVATE, .expected = -EACCES),
	LOOP("create another's", call_create_private, PRIVATE, .expected = -EACCES),
	LOOP("truncate another's", call_truncate_private, PRIVATE, .expected = -EACCES),
	LOOP("unlink another's", call_unlink_private, PRIVATE, .expected = -EACCES),
	LOOP("replace another's", call_replace_private, PRIVATE, .expected = -EACCES),
	LOOP("create one's own", call_create_own, .uid = STRANGER, .after = remove_own),
};

static const struct fault_case lasting[] = {
	BOTH("create a context", call_context),
	LOOP("wait", call_wait, .before = greet),
	LOOP("monitor", call_monitor, .before = greet),
	LOOP("pools", call_pools),
	LOOP("status", call_status),
};

START_TEST(a_fault_on_the_way_to_a_name)
{
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	fault_run(in_steps, ROWS(in_steps));
}
END_TEST

START_TEST(a_fault_with_what_is_sealed)
{
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	fault_run(sealed, ROWS(sealed));
}
END_TEST

START_TEST(a_fault_lets_no_stranger_in)
{
	TEST_NEEDS(test_is_root() && test_has_namespaces(), "root and namespaces");
	fault_run(strangers, ROWS(strangers));
}
END_TEST

START_TEST(a_fault_of_what_goes_on)
{
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	fault_run(lasting, ROWS(lasting));
}
END_TEST

TCase *fault_case_of_calls(void)
{
	TCase *tests = tcase_create("more calls");

	tcase_set_timeout(tests, 300);
	tcase_add_checked_fixture(tests, test_fds_setup, test_fds_teardown);
	tcase_add_test(tests, a_fault_on_the_way_to_a_name);
	tcase_add_test(tests, a_fault_with_what_is_sealed);
	tcase_add_test(tests, a_fault_lets_no_stranger_in);
	tcase_add_test(tests, a_fault_of_what_goes_on);
	return tests;
}
