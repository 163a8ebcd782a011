/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A configuration's text: refused with a line that says where, or taken, and then its rules and
 * pools are what shmbroker.conf(5) lets be, and decide about names.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/peer.h"
#include "daemon/policy.h"
#include "fuzz/fuzz.h"

/* libconfig loses a string that its parser stops behind: some bytes for each text that it refuses.
 */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libconfig.so";
}

static char path[128];
static int file = -EBADF;
static struct peer_self self = { .uid_map = (char *)"", .gid_map = (char *)"", .proc = -EBADF };

void fuzz_start(void)
{
	snprintf(path, sizeof(path), "%s/shmbroker.conf", fuzz_directory());
	file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	EXPECT(file >= 0, "%s: %s", path, strerror(errno));
}

static void write_text(const uint8_t *bytes, size_t size)
{
	EXPECT(ftruncate(file, 0) == 0 && pwrite(file, bytes, size, 0) == (ssize_t)size, "%s: %s",
	       path, strerror(errno));
}

/* FILE:LINE: what is wrong, or of the file as a whole FILE: what is wrong. */
static void check_line(const char *text)
{
	const size_t size = strlen(path);
	char *end;

	EXPECT(strncmp(text, path, size) == 0 && text[size] == ':', "no file in: %s", text);
	EXPECT(fuzz_is_printable(text), "control bytes in: %s", text);
	text += size + 1;
	if (*text == ' ')
		return;
	EXPECT(strtoul(text, &end, 10) > 0 && strncmp(end, ": ", 2) == 0, "no line in: %s", text);
}

static void check_pool(const struct pool_config *pool)
{
	EXPECT(*pool->name && strlen(pool->name) < 64, "a pool named %s", pool->name);
	EXPECT(pool->place.line > 0, "a pool without a line");
	if (pool->kind == POOL_MADE) {
		EXPECT(pool->size_bytes > 0 && pool->objects > 0 && !pool->path,
		       "a private pool of %llu bytes, %llu objects",
		       (unsigned long long)pool->size_bytes, (unsigned long long)pool->objects);
	} else {
		EXPECT(pool->path && *pool->path == '/' && pool->per == POOL_PER_NONE,
		       "a pool's path %s", pool->path);
		EXPECT((pool->kind == POOL_GIVEN) == (pool->read_only_path != NULL),
		       "a given pool without two paths");
	}
}

static void check_rule(const struct config *config, const struct rule_config *rule)
{
	EXPECT(*rule->name && rule->place.line > 0, "a rule without a name or a line");
	EXPECT(rule->names.count > 0, "a rule for no names");
	for (size_t i = 0; i < rule->names.count; i++)
		EXPECT(*rule->names.string[i] == '/' && !strchr(rule->names.string[i] + 1, '/'),
		       "a pattern %s", rule->names.string[i]);
	EXPECT((rule->allow & ~(uint32_t)RIGHT_ALL) == 0, "rights %x", rule->allow);
	EXPECT(rule->pool < config->pool_count || (rule->pool == SIZE_MAX && rule->allow == 0),
	       "a rule without a pool");
	EXPECT((rule->mode_mask & ~(mode_t)0777) == 0, "a mask %o", rule->mode_mask);
	EXPECT(!rule->has_max_size || rule->max_size_bytes > 0, "a max-size of nothing");
}

/* The rule that a look at each by itself finds is the one that the view finds. */
static void check_decision(const struct policy *policy, const struct view *view,
			   const struct peer *peer, const char *name)
{
	const struct rule *rule = policy_decide(view, name, strlen(name)), *first = NULL;
	char text[1024];

	for (size_t i = 0; i < policy_rule_count(policy); i++) {
		const struct rule *one = policy_rule(policy, i);
		enum mismatch why = policy_match(one, peer, &self, name, strlen(name));

		policy_mismatch_text(text, sizeof(text), why, one, peer);
		EXPECT(fuzz_is_printable(text), "control bytes in: %s", text);
		if (why == MATCH && !first)
			first = one;
	}
	EXPECT(rule == first, "\"%s\" decides about %s, not \"%s\"", rule ? rule->config->name : "",
	       name, first ? first->config->name : "");
}

static void check_policy(struct config *config)
{
	static const struct {
		uid_t uid;
		const char *unit, *app;
	} who[] = { { 0, "", "" }, { 1000, "a.service", "" }, { 5, "", "org.example.viewer" } };
	static const char *const names[] = { "a", "frames-1", "\xff" };
	struct policy *policy;

	EXPECT(policy_new(&policy, config) == 0, "no memory");
	for (size_t i = 0; i < sizeof(who) / sizeof(*who); i++) {
		const struct ids ids = { .uid = who[i].uid, .gid = who[i].uid };
		struct view *view;
		struct peer peer;

		EXPECT(peer_imagine(&peer, &ids, who[i].unit, who[i].app) == 0, "no memory");
		EXPECT(policy_view(&view, policy, &peer, &self) == 0, "no memory");
		EXPECT(view->count <= policy_rule_count(policy), "%zu rules", view->count);
		for (size_t j = 0; j < sizeof(names) / sizeof(*names); j++)
			check_decision(policy, view, &peer, names[j]);
		free(view);
		peer_done(&peer);
	}
	policy_free(policy);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	const struct config_source source = {
		.file = path,
		.owner = geteuid(),
		.memory_bytes = 1ull << 34,
	};
	struct config_error why = { .text = "" };
	struct config *config = NULL;
	int error;

	write_text(bytes, size);
	error = config_load(&config, &source, &why);
	EXPECT(memchr(why.text, 0, sizeof(why.text)), "an error's text without an end");
	EXPECT((error == 0) == (config != NULL) && (error == 0) == (*why.text == 0), "%d, %s",
	       error, why.text);
	if (error < 0) {
		check_line(why.text);
		return 0;
	}
	for (size_t i = 0; i < config->warnings.count; i++)
		check_line(config->warnings.string[i]);
	for (size_t i = 0; i < config->pool_count; i++)
		check_pool(&config->pool[i]);
	for (size_t i = 0; i < config->rule_count; i++)
		check_rule(config, &config->rule[i]);
	check_policy(config);
	return 0;
}
