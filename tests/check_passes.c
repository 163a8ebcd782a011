/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How much one pass of the loop takes on of what becomes due all at once: counted, in a broker that
 * finds it so. A case of the suite "server".
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/protocol.h"
#include "tests/edge.h"
#include "tests/raw_client.h"
#include "tests/test.h"

#define ASKED 5 /* its socket holds the replies */

static const char one_pool[] =
	"pools: { host: { path = \"@host@\" access = \"grant\" } }\n"
	"rules: ( { name = \"r\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";

#define MAKERS 20
#define NAMES 20     /* of each */
#define A_PASS 128ul /* names that one may remove */

/* Makes temporary names, says so, and ends when there is nothing more to read. */
static int make_names(const char *socket, int number, int made, int go)
{
	struct shmb_how how = { .oflag = O_RDWR | O_CREAT, .mode = 0600, .flags = SHMB_TEMPORARY };
	struct shmb *c;
	char name[32], byte = 0;

	EXPECT(shmb_connect(&c, socket) == 0);
	for (int i = 0; i < NAMES; i++) {
		int fd;

		snprintf(name, sizeof(name), "/of-%d-%d", number, i);
		fd = shmb_open_how(c, name, &how, sizeof(how));
		EXPECT(fd >= 0);
		close(fd);
	}
	EXPECT(write(made, &byte, 1) == 1);
	return read(go, &byte, 1) == 0 ? 0 : 1;
}

START_TEST(temporary_names_of_many_processes_go_one_part_after_another)
{
	struct fixture fixture;
	struct edge_hold hold;
	int go[2], made[2], fd, status;
	unsigned long before, now;
	char byte;

	ck_assert_int_eq(pipe2(go, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(made, O_CLOEXEC), 0);
	fixture_start(&fixture,
		      &(struct fixture_how){ .config = one_pool, .is_user = !test_is_root() });
	fd = raw_greeted(fixture.socket);
	fflush(NULL);
	for (int i = 0; i < MAKERS; i++)
		if (fork() == 0) {
			close(go[1]);
			_exit(make_names(fixture.socket, i, made[1], go[0]));
		}
	for (int i = 0; i < MAKERS; i++)
		ck_assert_int_eq(read(made[0], &byte, 1), 1);

	edge_hold(&hold, &fixture);
	for (uint32_t i = 0; i < ASKED; i++)
		ck_assert_int_eq(raw_ask(fd, i, WIRE_STATUS, ""), 0);
	close(go[1]);
	for (int i = 0; i < MAKERS; i++) {
		ck_assert_int_gt(waitpid(-1, &status, 0), 0);
		ck_assert_int_eq(status, 0);
	}
	edge_let_go(&hold);
	before = MAKERS * NAMES;
	for (uint32_t i = 0; i < ASKED; i++, before = now) {
		now = edge_next_count(fd, i, "temporary-names");
		/* One part before it in a pass, and one behind the other in the pass before. */
		ck_assert_msg(before - now <= 2 * A_PASS, "%lu names at once", before - now);
	}
	while (before > 0) {
		ck_assert_int_eq(raw_ask(fd, ASKED, WIRE_STATUS, ""), 0);
		before = edge_next_count(fd, ASKED, "temporary-names");
	}
	close(fd);
	close(go[0]);
	close(made[0]);
	close(made[1]);
	fixture_stop(&fixture);
}
END_TEST

static const char private_pool[] =
	"pools: { made: { size = \"80M\" objects = 100 } }\n"
	"rules: ( { name = \"r\" names = \"/*\" allow = \"all\" pool = \"made\" } )\n";

#define MIB (1024ul * 1024)
#define UNPUBLISHED 60
#define PART 17 /* freed in one pass, in MiB, and one that was begun */

START_TEST(memory_that_a_connection_leaves_behind_is_freed_in_parts)
{
	struct shmb_how how = { .oflag = O_RDWR | O_CREAT | O_EXCL,
				.mode = 0600,
				.size = MIB,
				.flags = SHMB_UNPUBLISHED };
	struct fixture fixture;
	struct edge_hold hold;
	unsigned long before, now;
	struct shmb *c;
	char name[32];
	int fd;

	TEST_NEEDS(test_has_namespaces(), "private pools take namespaces");
	fixture_start(&fixture,
		      &(struct fixture_how){ .config = private_pool, .is_user = !test_is_root() });
	c = fixture_connect(&fixture);
	for (unsigned i = 0; i < UNPUBLISHED; i++) {
		snprintf(name, sizeof(name), "/left-%u", i);
		fd = shmb_open_how(c, name, &how, sizeof(how));
		ck_assert_msg(fd >= 0, "%s", shmb_reason(c));
		ck_assert_int_eq(posix_fallocate(fd, 0, MIB), 0);
		close(fd);
	}
	fd = raw_greeted(fixture.socket);
	edge_hold(&hold, &fixture);
	for (uint32_t i = 0; i < ASKED; i++)
		ck_assert_int_eq(raw_ask(fd, i, WIRE_POOLS, ""), 0);
	shmb_disconnect(c);
	edge_let_go(&hold);
	before = UNPUBLISHED * MIB;
	for (uint32_t i = 0; i < ASKED; i++, before = now) {
		now = edge_next_count(fd, i, "used");
		/* Its end is a request of the same user's: that may be two passes. */
		ck_assert_msg(before - now <= 2 * PART * MIB, "%lu bytes at once", before - now);
	}
	while (before > 0) {
		ck_assert_int_eq(raw_ask(fd, ASKED, WIRE_POOLS, ""), 0);
		before = edge_next_count(fd, ASKED, "used");
	}
	close(fd);
	fixture_stop(&fixture);
}
END_TEST

TCase *server_case_of_passes(void)
{
	TCase *test = tcase_create("passes");

	tcase_set_timeout(test, 60);
	tcase_add_test(test, temporary_names_of_many_processes_go_one_part_after_another);
	tcase_add_test(test, memory_that_a_connection_leaves_behind_is_freed_in_parts);
	return test;
}
