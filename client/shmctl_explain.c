/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * shmctl explain: which rule decides about a name, for oneself or for another. Users are looked
 * up here, where the machine's user data bases may be asked: the broker gets numbers.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "client/shmctl.h"

#define GROUPS_MAX 1024 /* the broker takes no more */

/* The primary group of a number that is no user's: nobody's, and surely not our own. */
#define GID_OF_NOBODY 4294967294u

/* The request's fields; FILE's errors are looked at once, at the end. */
struct question {
	char *text; /* owned */
	size_t size;
	FILE *stream;
};

static void ask(struct question *question, const char *key, const char *value)
{
	fprintf(question->stream, "%s=%s", key, value);
	fputc(0, question->stream);
}

static void ask_number(struct question *question, const char *key, uint32_t value)
{
	fprintf(question->stream, "%s=%u", key, value);
	fputc(0, question->stream);
}

/* 0 or -EINVAL; UINT32_MAX is no id. */
static int parse_number(const char *text, uint32_t *ret)
{
	unsigned long long value;
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	value = strtoull(text, &end, 10);
	if (*end || value >= UINT32_MAX)
		return -EINVAL;
	*ret = (uint32_t)value;
	return 0;
}

static void ask_groups(struct question *question, const struct passwd *user)
{
	gid_t groups[GROUPS_MAX];
	int count = GROUPS_MAX;

	if (getgrouplist(user->pw_name, user->pw_gid, groups, &count) < 0)
		count = GROUPS_MAX;
	fputs("groups=", question->stream);
	for (int i = 0; i < count; i++)
		fprintf(question->stream, "%s%u", i ? "," : "", groups[i]);
	fputc(0, question->stream);
}

/* A name first, as chown(1) has it; then a number, whether somebody has it or not. */
static int ask_user(struct question *question, const char *name)
{
	const struct passwd *user = getpwnam(name);
	uint32_t uid;

	if (!user && parse_number(name, &uid) < 0)
		return shmctl_fail("there is no user %s", name);
	if (!user)
		user = getpwuid(uid);
	ask_number(question, "uid", user ? user->pw_uid : uid);
	ask_number(question, "gid", user ? user->pw_gid : GID_OF_NOBODY);
	if (user)
		ask_groups(question, user);
	return SHMCTL_DONE;
}

static int ask_who(struct question *question, const struct shmctl *ctl)
{
	static const enum shmctl_option keys[] = { OPTION_APP, OPTION_UNIT, OPTION_PID };
	static const char *const names[] = { "app", "unit", "pid" };
	uint32_t pid;

	if (shmctl_has(ctl, OPTION_PID) &&
	    (ctl->given &
	     (OPTION_BIT(OPTION_AS) | OPTION_BIT(OPTION_APP) | OPTION_BIT(OPTION_UNIT))))
		return shmctl_usage("a process is all of who it is: --pid stands alone");
	if (shmctl_has(ctl, OPTION_PID) &&
	    (parse_number(ctl->value[OPTION_PID], &pid) < 0 || pid == 0))
		return shmctl_usage("%s is no process id", ctl->value[OPTION_PID]);
	for (size_t i = 0; i < 3; i++)
		if (shmctl_has(ctl, keys[i]))
			ask(question, names[i], ctl->value[keys[i]]);
	if (shmctl_has(ctl, OPTION_AS))
		return ask_user(question, ctl->value[OPTION_AS]);
	return SHMCTL_DONE;
}

static int check_rights(const char *text)
{
	static const char *const rights[] = { "read", "write", "create", "unlink", "list", "all" };

	for (;;) {
		size_t size = strcspn(text, ",");
		bool known = false;

		for (size_t i = 0; i < sizeof(rights) / sizeof(*rights); i++)
			known |= strlen(rights[i]) == size && memcmp(rights[i], text, size) == 0;
		if (!known)
			return shmctl_usage(
				"rights are read, write, create, unlink, list, all, not %.*s",
				(int)size, text);
		if (!text[size])
			return SHMCTL_DONE;
		text += size + 1;
	}
}

static int compose(struct question *question, const struct shmctl *ctl)
{
	const char *rights = ctl->count > 1 ? ctl->argument[1] : NULL;
	struct name name = name_strip(ctl->argument[0], strlen(ctl->argument[0]));
	int status = rights ? check_rights(rights) : SHMCTL_DONE;

	if (status != SHMCTL_DONE)
		return status;
	if (name.size > WIRE_NAME_MAX)
		return shmctl_fail("/%s: no object can have this name", name.text);
	question->stream = open_memstream(&question->text, &question->size);
	if (!question->stream)
		return shmctl_fail("no memory");
	ask(question, "name", name.text);
	if (rights)
		ask(question, "wanted", rights);
	status = ask_who(question, ctl);
	if (fclose(question->stream) != 0 && status == SHMCTL_DONE)
		status = shmctl_fail("no memory");
	if (status == SHMCTL_DONE &&
	    question->size > WIRE_REQUEST_MAX - sizeof(struct wire_request))
		status = shmctl_fail("the question is too long: a user in too many groups, or a "
				     "unit or app of too long a name");
	return status;
}

struct answer {
	json_t *document, *passed_over; /* NULL: text */
	bool begun;
};

/* The rule with its place, which an editor can go to. */
static char *rule_text(const struct record *record)
{
	const char *rule = record_get(record, "rule");
	const char *file = record_get(record, "file");
	const char *line = record_get(record, "line");

	return shmctl_format("\"%s\" (%s:%s)", rule ? rule : "", file ? file : "",
			     line ? line : "");
}

static void print_field(const struct record *record, const char *key, const char *label)
{
	const char *value = record_get(record, key);

	if (value && *value)
		shmctl_line(11, label, value);
}

static void print_verdict(const struct record *record)
{
	static const char *const rows[][2] = {
		{ "wanted", "  wanted" },   { "allows", "  allows" },
		{ "missing", "  missing" }, { "pool", "  pool" },
		{ "owner", "  whose" },	    { "why", "  but" },
		{ "uid", "  uid" },	    { "sandboxed", "  sandboxed" },
		{ "unit", "  unit" },	    { "app", "  app" },
	};
	const char *name = record_get(record, "name"), *verdict = record_get(record, "verdict");
	_cleanup_free_ char *shown = shmctl_escape(name ? name : "");
	_cleanup_free_ char *shown_verdict = shmctl_escape(verdict ? verdict : "");
	_cleanup_free_ char *rule = rule_text(record);

	printf("%s: %s\n", shown, shown_verdict);
	shmctl_line(11, "  rule", record_get(record, "rule") ? rule : "none matches");
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		print_field(record, rows[i][0], rows[i][1]);
}

static void print_passed_over(const struct record *record, bool first)
{
	const char *why = record_get(record, "passed-over");
	_cleanup_free_ char *rule = rule_text(record);
	_cleanup_free_ char *shown = shmctl_escape(rule);

	if (first)
		puts("passed over:");
	printf("  %s: ", shown);
	/* Escaped by the broker, which knows which parts of it are others' words. */
	shmctl_put_tame(why ? why : "", why ? strlen(why) : 0, false);
	putchar('\n');
}

static json_t *record_json(const struct record *record)
{
	json_t *object = json_object();

	for (size_t i = 0; i < record->count; i++)
		shmctl_json_field(object, record->key[i], record->value[i]);
	return object;
}

/* The first record is the verdict, the others are the rules before the deciding one. */
static int take_answer(const struct record *record, void *userdata)
{
	struct answer *answer = userdata;
	bool is_verdict = record_get(record, "verdict");

	if (answer->document) {
		if (is_verdict) {
			json_t *verdict = record_json(record);

			json_object_update(answer->document, verdict);
			json_decref(verdict);
		} else {
			json_array_append_new(answer->passed_over, record_json(record));
		}
		return 0;
	}
	if (is_verdict) {
		print_verdict(record);
		return 0;
	}
	print_passed_over(record, !answer->begun);
	answer->begun = true;
	return 0;
}

static int explain(struct shmctl *ctl, const struct question *question)
{
	struct answer answer = { 0 };
	int r;

	if (shmctl_connect(ctl) < 0)
		return SHMCTL_FAILED;
	if (shmctl_has(ctl, OPTION_JSON)) {
		answer.document = json_object();
		answer.passed_over = json_array();
	}
	r = shmctl_records(ctl, WIRE_EXPLAIN, question->text, question->size, take_answer, &answer);
	if (r < 0) {
		json_decref(answer.document);
		json_decref(answer.passed_over);
		return shmctl_fail_call(ctl, ctl->argument[0], r);
	}
	if (!answer.document)
		return shmctl_flush(SHMCTL_DONE);
	json_object_set_new(answer.document, "passed_over", answer.passed_over);
	return shmctl_json_print(answer.document);
}

int command_explain(struct shmctl *ctl)
{
	struct question question = { 0 };
	int status = compose(&question, ctl);

	if (status == SHMCTL_DONE)
		status = explain(ctl, &question);
	free(question.text);
	return status;
}
