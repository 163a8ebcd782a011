/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * When a pool isn't delegated although a rule says so: another rule before it takes something away
 * in it. A case of the suite "delegate".
 */
#include <errno.h>

#include "tests/delegate_fixture.h"
#include "tests/raw_client.h"

#define OWN(names, more) "{ name = \"n\" names = \"" names "\" pool = \"own\" " more " }"
#define DENY(names) "{ name = \"d\" names = \"" names "\" allow = [] }"
#define DELEGATED(rule) rule "delegate = true } "

/* Rules, who is in the way, and whether names are left to be opened without the broker. */
static const struct {
	const char *rules, *reason;
} rows[] = {
	{ DELEGATED(ALL), NULL },
	{ SEALS ", " FRAMES ", " DELEGATED(ALL), NULL },
	{ OWN("/a-*", "allow = [ \"read\", \"write\", \"create\", \"list\" ]") ", " DELEGATED(ALL),
	  "rule \"n\" allows less than \"all\", which delegates the pool" },
	{ OWN("/a-*", "allow = \"all\" max-size = \"4K\"") ", " DELEGATED(ALL),
	  "rule \"n\" allows less than \"all\", which delegates the pool" },
	{ OWN("/a-*", "allow = \"all\" mode = \"0700\"") ", " DELEGATED(ALL),
	  "rule \"n\" allows less than \"all\", which delegates the pool" },
	{ OWN("/a-*", "allow = \"all\" lifetime = \"process\"") ", " DELEGATED(ALL),
	  "rule \"n\" allows less than \"all\", which delegates the pool" },
	{ OWN("/a-*", "allow = \"all\" sealed = true") ", " DELEGATED(ALL),
	  "rule \"n\" allows less than \"all\", which delegates the pool" },
	{ DENY("/a-*") ", " DELEGATED(ALL),
	  "rule \"d\" allows less than \"all\", which delegates the pool" },
	/* What comes after it decides nothing. */
	{ DELEGATED(ALL) ", " DENY("/a-*"), NULL },
	/* In another pool it takes nothing from this one. */
	{ "{ name = \"n\" names = \"/a-*\" allow = [ \"read\" ] pool = \"frames\" }, " DELEGATED(
		  ALL),
	  NULL },
	/* It is for all names in other words, so what comes behind it is nobody's. */
	{ "{ name = \"n\" names = \"/?*\" allow = [ \"read\" ] pool = \"frames\" }, " DELEGATED(
		  ALL),
	  "no rule delegates a pool to this caller" },
	{ "{ name = \"n\" names = \"/**\" allow = [ \"read\" ] pool = \"frames\" }, " DELEGATED(
		  ALL),
	  "no rule delegates a pool to this caller" },
	/* Who only reads loses nothing by a bound on what is made. */
	{ OWN("/a-*", "allow = \"all\" max-size = \"4K\"") ", " DELEGATED(READ), NULL },
	{ OWN("/a-*", "allow = [ \"list\" ]") ", " DELEGATED(READ),
	  "rule \"n\" allows less than \"r\", which delegates the pool" },
	{ OWN("/a-*", "allow = \"all\" sealed = true") ", " DELEGATED(READ),
	  "rule \"n\" allows less than \"r\", which delegates the pool" },
	{ DENY("/a-*") ", " DELEGATED(READ),
	  "rule \"d\" allows less than \"r\", which delegates the pool" },
};

/* Asks for the directory by the wire, whatever the hello has said. NULL, or the reason. */
static const char *refused(const char *socket)
{
	const struct wire_delegate wire = {
		.request = { .serial = 7, .operation = WIRE_DELEGATE },
	};
	static struct raw_reply reply;
	int fd = raw_greeted(socket);

	ck_assert_int_eq(raw_send(fd, &wire, sizeof(wire), NULL, 0), 0);
	ck_assert(raw_reply(fd, &reply));
	close(fd);
	fdlist_close(&reply.fds);
	if (reply.head.status == 0)
		return NULL;
	ck_assert_uint_eq(reply.head.status, EOPNOTSUPP);
	ck_assert_uint_eq(reply.fds.count, 0);
	reply.body[reply.body_size] = 0;
	return reply.body;
}

START_TEST(a_rule_in_the_way_keeps_the_pool_the_brokers)
{
	char config[2048];
	struct fixture fixture;
	const char *reason;
	struct shmb *c;
	int fd;

	NEEDS_TABLE;
	snprintf(config, sizeof(config), POOLS "rules: ( %s )\n", rows[_i].rules);
	start(&fixture, config);
	reason = refused(fixture.socket);
	if (!rows[_i].reason)
		ck_assert_msg(!reason, "%s", reason);
	else
		ck_assert_str_eq(reason, rows[_i].reason);

	/* By the library each name works, or not, by its rule. */
	c = fixture_connect(&fixture);
	asked(&fixture);
	fd = shmb_open(c, "/b", O_RDONLY, 0);
	ck_assert_int_eq(fd, -ENOENT);
	/* The directory has to be asked for once, and that is no request more where it can't be. */
	ck_assert_uint_eq(asked(&fixture), 1);
	fd = shmb_open(c, "/b", O_RDONLY, 0);
	ck_assert_int_eq(fd, -ENOENT);
	ck_assert_uint_eq(asked(&fixture), rows[_i].reason ? 1 : 0);
	if (strstr(rows[_i].reason ? rows[_i].reason : "", "\"d\"")) {
		fd = shmb_open(c, "/a-1", O_RDONLY, 0);
		ck_assert_int_eq(fd, -EACCES);
	}
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

TCase *delegate_case_of_rules(void)
{
	TCase *tests = tcase_create("rules");

	tcase_set_timeout(tests, 60);
	tcase_add_loop_test(tests, a_rule_in_the_way_keeps_the_pool_the_brokers, 0,
			    sizeof(rows) / sizeof(rows[0]));
	return tests;
}
