/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of the suite "delegate" share: rules, objects, and how often the broker was asked.
 */
#ifndef SHMBROKER_DELEGATE_FIXTURE_H
#define SHMBROKER_DELEGATE_FIXTURE_H

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/internal.h"
#include "daemon/broker_private.h"
#include "tests/fixture.h"
#include "tests/test.h"

TCase *delegate_case_of_hostile(void);	/* of check_delegate_hostile.c */
TCase *delegate_case_of_drops(void);	/* of check_delegate_drop.c */
TCase *delegate_case_of_own(void);	/* of check_delegate_own.c */
TCase *delegate_case_of_alone(void);	/* of check_delegate_alone.c */
TCase *delegate_case_of_liars(void);	/* of check_delegate_liar.c */
TCase *delegate_case_of_rules(void);	/* of check_delegate_rules.c */
TCase *delegate_case_of_validity(void); /* of check_validity.c */

#define NEEDS_TABLE TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools")
#define POOLS                                                                                      \
	"pools: { own: { per = \"user\" size = \"256K\" objects = 16 }\n"                          \
	"         frames: { size = \"64K\" objects = 8 } host: { path = \"@host@\" } }\n"
#define FRAMES "{ name = \"f\" names = \"/frames-*\" allow = \"all\" pool = \"frames\" }"
#define SEALS "{ name = \"s\" names = \"/seal-*\" allow = \"all\" pool = \"own\" }"
#define ALL "{ name = \"all\" names = \"/*\" allow = \"all\" pool = \"own\" "
#define READ "{ name = \"r\" names = \"/*\" allow = [ \"read\", \"list\" ] pool = \"own\" "

static const char all[] = POOLS "rules: ( " FRAMES ", " SEALS ", " ALL "delegate = true } )\n";
/* Where each user's is his alone, and no sandbox has a part in it. */
static const char alone[] = POOLS "rules: ( " FRAMES ",\n"
				  "{ name = \"s\" names = \"/seal-*\" allow = \"all\" pool = "
				  "\"own\" sandboxed = false },\n" ALL
				  "delegate = true sandboxed = false } )\n";
static const char *const all_or_alone[] = { all, alone };

static inline void start(struct fixture *fixture, const char *config)
{
	fixture_start(fixture,
		      &(struct fixture_how){ .config = config, .is_user = !test_is_root() });
}

static inline void count_requests(struct fixture *fixture, void *argument)
{
	*(uint64_t *)argument = server_broker(fixture->server)->counters.requests;
}

/* How many requests the broker has had since the last look. */
static inline uint64_t asked(struct fixture *fixture)
{
	static uint64_t before;
	uint64_t now, since;

	fixture_call(fixture, count_requests, &now);
	since = now - before;
	before = now;
	return since;
}

static inline void put(struct shmb *c, const char *name, const char *content)
{
	int fd = shmb_open(c, name, O_RDWR | O_CREAT | O_TRUNC, 0600);

	ck_assert_msg(fd >= 0, "%s: %s", name, shmb_reason(c));
	ck_assert_int_eq(write(fd, content, strlen(content)), (ssize_t)strlen(content));
	close(fd);
}

static inline void put_sealed(struct shmb *c, const char *name, const char *content)
{
	const struct shmb_how how = { .oflag = O_RDWR | O_CREAT,
				      .mode = 0600,
				      .size = 4096,
				      .flags = SHMB_UNPUBLISHED | SHMB_SEALED };
	int fd = shmb_open_how(c, name, &how, sizeof(how));

	ck_assert_msg(fd >= 0, "%s: %s", name, shmb_reason(c));
	ck_assert_int_eq(write(fd, content, strlen(content)), (ssize_t)strlen(content));
	close(fd);
	ck_assert_int_eq(shmb_publish(c, name, 0), 0);
}

static inline void expect(struct shmb *c, const char *name, const char *content)
{
	int fd = shmb_open(c, name, O_RDONLY, 0);
	char text[64] = "";

	ck_assert_msg(fd >= 0, "%s: %s", name, shmb_reason(c));
	ck_assert_int_ge(read(fd, text, sizeof(text) - 1), 0);
	ck_assert_str_eq(text, content);
	close(fd);
}

/* An ordinary user, as whom we are or as root can be. */
static inline uid_t somebody(void)
{
	return test_is_root() ? 23451 : (uid_t)-1;
}

/* Of its waypoint. */
static inline const char *name_of(const struct shmb_delegation *d, char name[WAYPOINT_SIZE])
{
	snprintf(name, WAYPOINT_SIZE, "%.*s", (int)(d->way_size - strlen("/../")), d->way);
	return name;
}

/* In a process of its own, which must end with 0; uid -1: as who we are. */
static inline void run_beside_broker(const char *config, uid_t uid, int (*function)(void *argument),
				     void *argument)
{
	struct fixture fixture;

	start(&fixture, config);
	ck_assert_int_eq(test_run_as(uid, uid, NULL, 0, function, argument), 0);
	fixture_stop(&fixture);
}

#endif
