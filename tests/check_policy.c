/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The suite of the policy: who matches which rule, which rule decides, how fast
 * a pattern is and whether it is fnmatch's, and what is said to a person.
 */
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/fd.h"
#include "daemon/policy.h"
#include "daemon/policy_pattern.h"
#include "tests/test.h"

static const char pools_text[] = "pools: { p: { size = 4096  objects = 1 } }\n";

/* A policy of these rules, each "name = ..., keys"; through a file, as the daemon has it. */
static struct policy *policy_of(const char *rules)
{
	struct config_error error;
	struct policy *policy;
	struct config *config;
	struct config_source source = { .owner = geteuid() };
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s/policy.conf", test_directory());
	source.file = path;
	file = fopen(path, "we");
	ck_assert_ptr_nonnull(file);
	ck_assert_int_eq(fchmod(fileno(file), 0600), 0);
	fprintf(file, "%srules: ( %s )\n", pools_text, rules);
	fclose(file);
	ck_assert_msg(config_load(&config, &source, &error) == 0, "%s", error.text);
	ck_assert_int_eq(policy_new(&policy, config), 0);
	return policy;
}

static gid_t alice_groups[] = { 50, 60 };

/* Alice, unsandboxed, of the main socket; tests change what they are about. */
static struct peer alice(void)
{
	return (struct peer){
		.ids = { .uid = 1000, .gid = 1000, .groups = alice_groups, .group_count = 2 },
		.pid = 77,
		.unit = (char *)"",
		.user_unit = (char *)"",
		.label = (char *)"",
		.app = (char *)"",
		.socket = -EBADF,
	};
}

#define ALL_IDS .overflow_uid = (uid_t)-1, .overflow_gid = (gid_t)-1
static const struct peer_self root_broker = { .uid = 0, .proc = -EBADF, ALL_IDS };
/* In a user namespace that doesn't know all ids: those are shown as these. */
static const struct peer_self contained_broker = {
	.uid = 0, .proc = -EBADF, .overflow_uid = 65534, .overflow_gid = 65533
};
/* A system broker without rights, as in a container: its own uid is nobody special. */
static const struct peer_self plain_broker = { .uid = 1000, .proc = -EBADF, ALL_IDS };
static const struct peer_self user_broker = {
	.uid = 1000, .is_user = true, .proc = -EBADF, ALL_IDS
};

#define REST "  names = \"/*\"  allow = \"read\"  pool = \"p\" }"

struct identity_row {
	const char *keys;
	uid_t uid;
	gid_t gid;
	bool sandboxed;
	const char *unit, *user_unit, *label;
	enum mismatch expected;
};

static const struct identity_row identity_rows[] = {
	{ "", 1000, 1000, false, "", "", "", MATCH },
	{ "", 65534, 65534, true, "", "", "", MATCH },
	{ "user = 1000", 1000, 1000, false, "", "", "", MATCH },
	{ "user = \"1000\"", 1000, 1000, false, "", "", "", MATCH },
	{ "user = 1000", 1001, 1000, false, "", "", "", MISMATCH_USER },
	{ "user = \"root\"", 0, 0, false, "", "", "", MATCH },
	{ "user = \"root\"", 1000, 0, false, "", "", "", MISMATCH_USER },
	{ "user = \"no such user\"", 0, 0, false, "", "", "", MISMATCH_UNKNOWN_USER },
	{ "group = 1000", 1, 1000, false, "", "", "", MATCH },
	{ "group = 50", 1, 1, false, "", "", "", MATCH },
	{ "group = \"60\"", 1, 1, false, "", "", "", MATCH },
	{ "group = 70", 1, 1, false, "", "", "", MISMATCH_GROUP },
	{ "group = \"no such group\"", 0, 0, false, "", "", "", MISMATCH_UNKNOWN_GROUP },
	{ "user = 1  group = 50", 1, 1, false, "", "", "", MATCH },
	{ "user = 2  group = 50", 1, 1, false, "", "", "", MISMATCH_USER },
	{ "user = 1  group = 51", 1, 1, false, "", "", "", MISMATCH_GROUP },
	{ "sandboxed = true", 1, 1, true, "", "", "", MATCH },
	{ "sandboxed = true", 1, 1, false, "", "", "", MISMATCH_SANDBOXED },
	{ "sandboxed = false", 1, 1, false, "", "", "", MATCH },
	{ "sandboxed = false", 0, 0, true, "", "", "", MISMATCH_SANDBOXED },
	{ "unit = \"a.service\"", 1, 1, false, "a.service", "", "", MATCH },
	{ "unit = \"a.service\"", 1, 1, true, "a.service", "", "", MATCH },
	{ "unit = \"a.service\"", 1, 1, false, "b.service", "", "", MISMATCH_UNIT },
	{ "unit = \"a.service\"", 1, 1, false, "", "a.service", "", MISMATCH_UNIT },
	{ "unit = [ \"x\", \"a@*.service\" ]", 1, 1, false, "a@1.service", "", "", MATCH },
	{ "unit = \"*\"", 1, 1, false, "", "", "", MISMATCH_UNIT },
	{ "unit = \"a.service\"", 1, 1, false, "aa.service", "", "", MISMATCH_UNIT },
	{ "unit = \"?.service\"", 1, 1, false, "a.service", "", "", MATCH },
	{ "user = 1  user-unit = \"v.service\"", 1, 1, false, "", "v.service", "", MATCH },
	{ "user = 1  user-unit = \"v.service\"", 2, 1, false, "", "v.service", "", MISMATCH_USER },
	{ "user = 1  user-unit = \"v.service\"", 1, 1, false, "v.service", "", "",
	  MISMATCH_USER_UNIT },
	{ "label = \"*:camera_t:*\"", 1, 1, false, "", "", "system_u:system_r:camera_t:s0", MATCH },
	{ "label = \"/usr/bin/*\"", 1, 1, false, "", "", "/usr/bin/x/y", MATCH },
	{ "label = \"*\"", 1, 1, false, "", "", "", MISMATCH_LABEL },
	{ "app = \"*\"", 0, 0, false, "", "", "", MISMATCH_APP },
};

START_TEST(each_identity_key_must_match)
{
	const struct identity_row *row = &identity_rows[_i];
	struct policy *policy;
	struct peer peer = alice();
	struct view *view;
	char rules[512];

	snprintf(rules, sizeof(rules), "{ name = \"r\"  %s" REST, row->keys);
	policy = policy_of(rules);
	peer.ids.uid = row->uid;
	peer.ids.gid = row->gid;
	peer.sandboxed = row->sandboxed;
	peer.unit = (char *)row->unit;
	peer.user_unit = (char *)row->user_unit;
	peer.label = (char *)row->label;
	ck_assert_msg(policy_match(policy_rule(policy, 0), &peer, &root_broker, "x", 1) ==
			      row->expected,
		      "%s for uid %u", row->keys, row->uid);
	ck_assert_int_eq(policy_view(&view, policy, &peer, &root_broker), 0);
	ck_assert_uint_eq(view->count, row->expected == MATCH);
	free(view);
	policy_free(policy);
}
END_TEST

struct maker_row {
	const char *keys;
	uid_t maker_uid;
	gid_t maker_gid;
	const struct peer_self *self;
	uid_t peer_uid;
	enum mismatch expected;
};

/* The peer is in groups 50 and 60; so is a maker of gid 50. */
static const struct maker_row maker_rows[] = {
	{ "app = \"org.*\"", 0, 0, &root_broker, 1000, MATCH },
	{ "app = \"org.*\"", 1000, 1000, &root_broker, 1000, MISMATCH_APP_MAKER },
	{ "app = \"org.*\"", 1000, 1000, &user_broker, 1000, MATCH },
	{ "app = \"org.*\"", 1001, 1001, &user_broker, 1000, MISMATCH_APP_MAKER },
	{ "app = \"org.*\"", 1000, 1000, &plain_broker, 1000, MISMATCH_APP_MAKER },
	{ "app = \"net.*\"", 0, 0, &root_broker, 1000, MISMATCH_APP },
	{ "app = \"org.*\"  user = 1000", 1000, 1, &root_broker, 1000, MATCH },
	{ "app = \"org.*\"  user = 1000", 1001, 1, &root_broker, 1000, MISMATCH_APP_MAKER },
	{ "app = \"org.*\"  user = 1000", 1000, 1, &root_broker, 1001, MISMATCH_USER },
	{ "app = \"org.*\"  user = 1000", 0, 0, &root_broker, 1001, MISMATCH_USER },
	{ "app = \"org.*\"  user = 1000", 0, 0, &root_broker, 1000, MATCH },
	{ "app = \"org.*\"  group = 50", 7, 50, &root_broker, 1000, MATCH },
	{ "app = \"org.*\"  group = 50", 7, 51, &root_broker, 1000, MISMATCH_APP_MAKER },
	{ "app = \"org.*\"  user = 1000  group = 50", 1000, 50, &root_broker, 1000, MATCH },
	{ "app = \"org.*\"  user = 1000  group = 50", 1000, 51, &root_broker, 1000,
	  MISMATCH_APP_MAKER },
	{ "app = \"org.*\"  user = 1000  group = 50", 7, 50, &root_broker, 1000,
	  MISMATCH_APP_MAKER },
	{ "app = \"org.*\"  user = \"no such user\"", 0, 0, &root_broker, 1000,
	  MISMATCH_UNKNOWN_USER },
	{ "sandboxed = true", 1001, 1001, &root_broker, 1000, MATCH },
};

START_TEST(an_app_rule_counts_only_makers_that_are_root_or_named_by_it)
{
	const struct maker_row *row = &maker_rows[_i];
	struct peer peer = alice();
	struct policy *policy;
	char rules[512];

	snprintf(rules, sizeof(rules), "{ name = \"r\"  %s" REST, row->keys);
	policy = policy_of(rules);
	peer.sandboxed = true;
	peer.app = (char *)"org.example.viewer";
	peer.ids.uid = row->peer_uid;
	peer.maker = (struct ids){ .uid = row->maker_uid, .gid = row->maker_gid };
	ck_assert_msg(policy_match(policy_rule(policy, 0), &peer, row->self, "x", 1) ==
			      row->expected,
		      "%s, maker %u:%u", row->keys, row->maker_uid, row->maker_gid);
	policy_free(policy);
}
END_TEST

struct unmapped_row {
	const char *keys, *allow;
	uid_t uid;
	gid_t gid;
	uid_t maker_uid;
	bool matches_host, matches_contained;
};

static const struct unmapped_row unmapped_rows[] = {
	{ "user = 65534", "\"read\"", 65534, 1, 0, true, false },
	{ "user = 65533", "\"read\"", 65533, 1, 0, true, true },
	{ "group = 65533", "\"read\"", 1, 65533, 0, true, false },
	{ "group = 65534", "\"read\"", 1, 65534, 0, true, true },
	{ "group = 50", "\"read\"", 65534, 65533, 0, true, true },
	{ "", "\"read\"", 65534, 65533, 0, true, true },
	{ "group = 1  app = \"*\"", "\"read\"", 1, 1, 65534, true, true },
	{ "user = 65534  app = \"*\"", "\"read\"", 65534, 1, 65534, true, false },
	/* What takes away may well be for all of them. */
	{ "user = 65534", "[ ]", 65534, 1, 0, true, true },
	{ "group = 65533", "[ ]", 1, 65533, 0, true, true },
};

START_TEST(an_id_that_may_be_anybodys_is_let_in_by_no_rule_that_names_it)
{
	const struct unmapped_row *row = &unmapped_rows[_i];
	struct peer peer = alice();
	struct policy *policy;
	char rules[512], text[256];
	enum mismatch why;

	snprintf(rules, sizeof(rules),
		 "{ name = \"r\"  %s  names = \"/*\"  allow = %s  pool = \"p\" }", row->keys,
		 row->allow);
	policy = policy_of(rules);
	peer.ids.uid = row->uid;
	peer.ids.gid = row->gid;
	peer.app = (char *)"x";
	peer.maker = (struct ids){ .uid = row->maker_uid, .gid = 1 };
	ck_assert_msg((policy_match(policy_rule(policy, 0), &peer, &root_broker, "x", 1) ==
		       MATCH) == row->matches_host &&
			      (policy_match(policy_rule(policy, 0), &peer, &contained_broker, "x",
					    1) == MATCH) == row->matches_contained,
		      "%s allow = %s", row->keys, row->allow);
	why = policy_match(policy_rule(policy, 0), &peer, &contained_broker, "x", 1);
	policy_mismatch_text(text, sizeof(text), why, policy_rule(policy, 0), &peer);
	ck_assert_msg(row->matches_contained || strstr(text, "doesn't know"), "%s", text);
	policy_free(policy);
}
END_TEST

/* The name of the rule that decides, "" for none. */
static const char *decided(const struct view *view, const char *name)
{
	const struct rule *rule = policy_decide(view, name, strlen(name));

	return rule ? rule->config->name : "";
}

START_TEST(the_first_rule_that_matches_decides_and_rules_never_add_up)
{
	struct policy *policy = policy_of(
		"{ name = \"bobs\"  user = 1001  names = \"/*\"  allow = \"all\"  pool = \"p\" },"
		"{ name = \"none\"  names = \"/secret\"  allow = [] },"
		"{ name = \"one\"  names = [ \"/a-*\", \"/b?\" ]  allow = \"read\"  pool = \"p\" },"
		"{ name = \"two\"  names = \"/a*\"  allow = \"all\"  pool = \"p\" },"
		"{ name = \"dot\"  names = \"/.*\"  allow = \"all\"  pool = \"p\" }");
	struct peer peer = alice();
	struct view *view;

	ck_assert_uint_eq(policy_rule_count(policy), 5);
	ck_assert_int_eq(policy_view(&view, policy, &peer, &root_broker), 0);
	ck_assert_uint_eq(view->count, 4);
	ck_assert_uint_eq(view->rule[0]->index, 1);
	ck_assert_str_eq(decided(view, "secret"), "none");
	ck_assert_str_eq(decided(view, "a-1"), "one");
	ck_assert_str_eq(decided(view, "a-"), "one");
	ck_assert_str_eq(decided(view, "b1"), "one");
	ck_assert_str_eq(decided(view, "b12"), "");
	ck_assert_str_eq(decided(view, "a"), "two");
	ck_assert_str_eq(decided(view, ".x"), "dot");
	ck_assert_str_eq(decided(view, "x"), "");
	ck_assert_int_eq(policy_match(policy_rule(policy, 2), &peer, &root_broker, "x", 1),
			 MISMATCH_NAME);
	free(view);
	policy_free(policy);
}
END_TEST

START_TEST(a_policy_without_rules_decides_nothing)
{
	struct config *config = calloc(1, sizeof(*config));
	struct peer peer = alice();
	struct policy *policy;
	struct view *view;

	ck_assert_ptr_nonnull(config);
	ck_assert_int_eq(policy_new(&policy, config), 0);
	ck_assert_ptr_eq(policy_config(policy), config);
	ck_assert_int_eq(policy_view(&view, policy, &peer, &root_broker), 0);
	ck_assert_ptr_null(policy_decide(view, "x", 1));
	free(view);
	policy_free(policy);
	policy_free(NULL);
}
END_TEST

START_TEST(a_view_of_many_rules_holds_only_those_of_the_identity)
{
	_cleanup_free_ char *rules = malloc(2000 * 100);
	struct peer peer = alice();
	struct policy *policy;
	struct view *view;
	size_t used = 0;

	ck_assert_ptr_nonnull(rules);
	for (unsigned i = 0; i < 2000; i++)
		used += (size_t)sprintf(
			rules + used, "%s{ name = \"%u\"  user = %u  names = \"/n%u\"  allow = []}",
			i ? "," : "", i, i, i);
	policy = policy_of(rules);
	ck_assert_int_eq(policy_view(&view, policy, &peer, &root_broker), 0);
	ck_assert_uint_eq(view->count, 1);
	ck_assert_str_eq(decided(view, "n1000"), "1000");
	ck_assert_str_eq(decided(view, "n1001"), "");
	free(view);
	policy_free(policy);
}
END_TEST

/* The same numbers at each run and on each libc. */
static uint32_t next_random(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

static void random_text(uint32_t *state, const char *alphabet, char *ret, size_t size_max)
{
	size_t letters = strlen(alphabet), size = next_random(state) % (size_max + 1);

	for (size_t i = 0; i < size; i++)
		ret[i] = alphabet[next_random(state) % letters];
	ret[size] = '\0';
}

START_TEST(a_compiled_pattern_matches_what_fnmatch_does)
{
	static const char *const alphabets[] = { "ab*", "ab.*?[]!-\\\xff", "ab" };
	uint32_t state = 20250101;
	size_t matches = 0;

	for (size_t i = 0; i < 300000; i++) {
		struct pattern pattern;
		char glob[12], text[12];
		bool matched;

		random_text(&state, alphabets[i % 3], glob, 6);
		random_text(&state, i % 2 ? "ab" : "ab./*\\]\xff", text, 6);
		pattern_compile(&pattern, glob);
		matched = pattern_match(&pattern, text, strlen(text));
		matches += matched;
		/* An assertion that holds costs a write to a pipe. */
		if (matched != (fnmatch(glob, text, 0) == 0))
			ck_abort_msg("\"%s\" and \"%s\"", glob, text);
	}
	ck_assert_uint_gt(matches, 10000);
}
END_TEST

struct kind_row {
	const char *glob;
	enum pattern_kind kind;
	size_t size;
};

static const struct kind_row kind_rows[] = {
	{ "*", PATTERN_ALL, 0 },       { "**", PATTERN_ALL, 0 },
	{ "", PATTERN_LITERAL, 0 },    { "abc", PATTERN_LITERAL, 3 },
	{ "abc*", PATTERN_PREFIX, 3 }, { "a**", PATTERN_PREFIX, 1 },
	{ "a*b", PATTERN_GLOB, 1 },    { "a?", PATTERN_GLOB, 1 },
	{ "\\*", PATTERN_GLOB, 0 },    { "a[b", PATTERN_GLOB, 1 },
	{ "*a*", PATTERN_GLOB, 0 },    { "a]-!", PATTERN_LITERAL, 4 },
};

START_TEST(plain_words_and_prefixes_need_no_fnmatch)
{
	const struct kind_row *row = &kind_rows[_i];
	struct pattern pattern;

	pattern_compile(&pattern, row->glob);
	ck_assert_int_eq(pattern.kind, row->kind);
	ck_assert_uint_eq(pattern.size, row->size);
}
END_TEST

struct text_row {
	const char *keys;
	enum mismatch why;
	const char *expected;
};

static const struct text_row text_rows[] = {
	{ "", MATCH, "matches" },
	{ "user = 5", MISMATCH_USER, "is for the user 5, this is 1000" },
	{ "group = 5", MISMATCH_GROUP, "is for the group 5, this is in 1000 and others" },
	{ "user = \"no such user\"", MISMATCH_UNKNOWN_USER, "is for a user who doesn't exist" },
	{ "group = \"no such group\"", MISMATCH_UNKNOWN_GROUP,
	  "is for a group that doesn't exist" },
	{ "unit = \"camera.service\"", MISMATCH_UNIT,
	  "is for the unit \"camera.service\", this is \"\\x1b\\x5c\"" },
	{ "unit = [ \"a\", \"b\" ]", MISMATCH_UNIT,
	  "is for the unit \"a\" or \"b\", this is \"\\x1b\\x5c\"" },
	{ "user = 1000  user-unit = \"v\"", MISMATCH_USER_UNIT,
	  "is for the user unit \"v\", this has none" },
	{ "app = \"net.*\"", MISMATCH_APP, "is for the app \"net.*\", this is \"org.x\"" },
	{ "app = \"org.x\"", MISMATCH_APP_MAKER,
	  "is for the app \"org.x\", but this app's context was made by uid 7, who is neither root "
	  "nor named by the rule" },
	{ "app = \"org.x\"  user = 1000  group = 50", MISMATCH_APP_MAKER,
	  "is for the app \"org.x\", but this app's context was made by uid 7, who is neither root "
	  "nor the user 1000 in the group 50" },
	{ "app = \"org.x\"  group = 50", MISMATCH_APP_MAKER,
	  "is for the app \"org.x\", but this app's context was made by uid 7, who is neither root "
	  "nor in the group 50" },
	{ "sandboxed = false", MISMATCH_SANDBOXED,
	  "is for programs that are not sandboxed, this is" },
	{ "label = \"l\"", MISMATCH_LABEL, "is for the label \"l\", this has none" },
};

START_TEST(a_mismatch_is_told_in_words_with_values_escaped)
{
	const struct text_row *row = &text_rows[_i];
	struct peer peer = alice();
	struct policy *policy;
	char rules[512], buffer[256], small[12];
	const struct rule *rule;

	snprintf(rules, sizeof(rules), "{ name = \"r\"  %s" REST, row->keys);
	policy = policy_of(rules);
	rule = policy_rule(policy, 0);
	peer.sandboxed = true;
	peer.app = (char *)"org.x";
	peer.unit = (char *)"\033\\";
	peer.maker.uid = 7;
	ck_assert_int_eq(policy_match(rule, &peer, &root_broker, "x", 1), row->why);
	ck_assert_str_eq(policy_mismatch_text(buffer, sizeof(buffer), row->why, rule, &peer),
			 row->expected);
	policy_mismatch_text(small, sizeof(small), row->why, rule, &peer);
	ck_assert_uint_lt(strlen(small), sizeof(small));
	ck_assert_int_eq(strncmp(small, row->expected, strlen(small)), 0);
	ck_assert_str_eq(policy_mismatch_text(buffer, sizeof(buffer), MISMATCH_NAME, rule, &peer),
			 "is for the name \"/*\"");
	policy_free(policy);
}
END_TEST

/* Of a caller who isn't sandboxed, who has no label at all; and where there is no room for a word.
 */
START_TEST(a_mismatch_is_told_of_whoever_it_is)
{
	struct policy *policy = policy_of("{ name = \"r\"  sandboxed = true  label = \"l\"" REST);
	const struct rule *rule = policy_rule(policy, 0);
	struct peer peer = alice();
	char buffer[256] = "as it was";

	ck_assert_int_eq(policy_match(rule, &peer, &root_broker, "x", 1), MISMATCH_SANDBOXED);
	policy_mismatch_text(buffer, 0, MISMATCH_SANDBOXED, rule, &peer);
	ck_assert_str_eq(buffer, "as it was");
	ck_assert_str_eq(
		policy_mismatch_text(buffer, sizeof(buffer), MISMATCH_SANDBOXED, rule, &peer),
		"is for sandboxed programs, this is not");
	peer.label = NULL;
	ck_assert_str_eq(policy_mismatch_text(buffer, sizeof(buffer), MISMATCH_LABEL, rule, &peer),
			 "is for the label \"l\", this has none");
	policy_free(policy);
}
END_TEST

struct rights_row {
	const char *text;
	int result;
	uint32_t rights;
	const char *printed;
};

static const struct rights_row rights_rows[] = {
	{ "read", 0, RIGHT_READ, "read" },
	{ "write,read", 0, RIGHT_READ | RIGHT_WRITE, "read,write" },
	{ "read,read", 0, RIGHT_READ, "read" },
	{ "all", 0, RIGHT_ALL, "read,write,create,unlink,list" },
	{ "unlink,list,create", 0, RIGHT_CREATE | RIGHT_UNLINK | RIGHT_LIST, "create,unlink,list" },
	{ "nothing", 0, 0, "nothing" },
	{ "", -EINVAL, 0, NULL },
	{ "read,", -EINVAL, 0, NULL },
	{ ",read", -EINVAL, 0, NULL },
	{ "read, write", -EINVAL, 0, NULL },
	{ "rea", -EINVAL, 0, NULL },
	{ "reading", -EINVAL, 0, NULL },
	{ "READ", -EINVAL, 0, NULL },
};

START_TEST(rights_are_parsed_and_printed)
{
	const struct rights_row *row = &rights_rows[_i];
	uint32_t rights = 0xdead;
	char buffer[64], small[6];

	ck_assert_int_eq(policy_rights_parse(&rights, row->text), row->result);
	if (row->result < 0) {
		ck_assert_uint_eq(rights, 0xdead);
		return;
	}
	ck_assert_uint_eq(rights, row->rights);
	ck_assert_str_eq(policy_rights_text(buffer, sizeof(buffer), rights), row->printed);
	ck_assert_uint_lt(strlen(policy_rights_text(small, sizeof(small), rights)), sizeof(small));
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

Suite *suite_policy(void)
{
	Suite *suite = suite_create("policy");
	TCase *tcase = tcase_create("policy");

	tcase_add_checked_fixture(tcase, test_fds_setup, test_fds_teardown);
	tcase_add_loop_test(tcase, each_identity_key_must_match, 0, ROWS(identity_rows));
	tcase_add_loop_test(tcase, an_app_rule_counts_only_makers_that_are_root_or_named_by_it, 0,
			    ROWS(maker_rows));
	tcase_add_loop_test(tcase, an_id_that_may_be_anybodys_is_let_in_by_no_rule_that_names_it, 0,
			    ROWS(unmapped_rows));
	tcase_add_test(tcase, the_first_rule_that_matches_decides_and_rules_never_add_up);
	tcase_add_test(tcase, a_policy_without_rules_decides_nothing);
	tcase_add_test(tcase, a_view_of_many_rules_holds_only_those_of_the_identity);
	tcase_add_test(tcase, a_compiled_pattern_matches_what_fnmatch_does);
	tcase_add_loop_test(tcase, plain_words_and_prefixes_need_no_fnmatch, 0, ROWS(kind_rows));
	tcase_add_loop_test(tcase, a_mismatch_is_told_in_words_with_values_escaped, 0,
			    ROWS(text_rows));
	tcase_add_test(tcase, a_mismatch_is_told_of_whoever_it_is);
	tcase_add_loop_test(tcase, rights_are_parsed_and_printed, 0, ROWS(rights_rows));
	suite_add_tcase(suite, tcase);
	return suite;
}
