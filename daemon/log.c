/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writes the daemon's log. Only the edge logs; the core returns. */
#include "daemon/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "proto/escape.h"

/* One line a rule, uid, name and minute; others are counted, and told with a later line. */
#define WINDOW_S 60
#define WINDOWS 1024

struct window {
	uint64_t key;
	time_t begin;
	unsigned held_back;
};

/* And however many names he thinks of, one uid has so many lines a second. */
#define LINES_PER_SECOND 16
#define BUDGETS 256

struct budget {
	time_t second;
	unsigned lines, held_back;
};

static bool to_journal;
static struct window windows[WINDOWS];
static struct budget budgets[BUDGETS];

void log_init(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	to_journal = stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
		     fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

void log_line(int priority, const char *format, ...)
{
	char text[4096];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	/* What clients chose has been escaped; this is for what nobody thought of. */
	for (char *at = text; *at; at++)
		if (*at < 0x20 || *at > 0x7e)
			*at = '?';
	if (to_journal)
		fprintf(stderr, "<%d>%s\n", priority, text);
	else
		fprintf(stderr, "shmbrokerd: %s\n", text);
}

static uint64_t mix(uint64_t hash, const void *bytes, size_t size)
{
	const unsigned char *at = bytes;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ at[i]) * 1099511628211u;
	return hash;
}

/* Whether the user has a line left in this second; *held grows by what was kept back before. */
static bool spend(uid_t uid, time_t now, unsigned *held)
{
	struct budget *budget = &budgets[uid % BUDGETS];

	if (budget->second != now) {
		budget->second = now;
		budget->lines = 0;
	}
	if (budget->lines >= LINES_PER_SECOND) {
		budget->held_back++;
		return false;
	}
	budget->lines++;
	*held += budget->held_back;
	budget->held_back = 0;
	return true;
}

/* Whether this line may be written now; *ret_held: how many were not since the last. */
static bool open_window(const struct outcome *outcome, uid_t uid, unsigned *ret_held)
{
	uint64_t key = mix(14695981039346656037u, &outcome->rule, sizeof(outcome->rule));
	struct window *window;
	struct timespec now;

	key = mix(key, &uid, sizeof(uid));
	key = mix(key, outcome->name, outcome->name_size);
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	window = &windows[key % WINDOWS];
	if (window->key == key && now.tv_sec - window->begin < WINDOW_S) {
		window->held_back++;
		return false;
	}
	/* Another's place: what was counted there is told here rather than lost. */
	*ret_held = window->held_back;
	if (!spend(uid, now.tv_sec, ret_held))
		return false;
	*window = (struct window){ .key = key, .begin = now.tv_sec };
	return true;
}

static const char *operation_text(uint16_t operation)
{
	switch (operation) {
	case WIRE_OPEN:
		return "open";
	case WIRE_UNLINK:
		return "unlink";
	case WIRE_STAT:
		return "stat";
	case WIRE_PUBLISH:
		return "publish";
	case WIRE_CREATE_CONTEXT:
		return "create a context";
	default:
		return "ask";
	}
}

void log_outcome(const struct outcome *outcome, const struct caller *caller,
		 const struct request *request, const struct reply *reply)
{
	enum rule_log wanted = outcome->rule ? outcome->rule->config->log : RULE_LOG_DENIALS;
	char name[1100] = "", reason[512] = "";
	unsigned held = 0;

	if (wanted == RULE_LOG_NONE || (!outcome->denied && wanted != RULE_LOG_ALL))
		return;
	if (!open_window(outcome, caller->peer.ids.uid, &held))
		return;
	if (outcome->name)
		escape(name, sizeof(name), outcome->name, outcome->name_size);
	if (reply->status)
		snprintf(reason, sizeof(reason), "%.*s", (int)reply->body_size,
			 (const char *)reply->body);
	log_line(outcome->denied ? LOG_NOTICE : LOG_INFO,
		 "%s: uid %u%s%s%s%s pid %d: %s /%s: %s%s%s (%u held back before)",
		 outcome->denied ? "denied"
		 : reply->status ? "failed"
				 : "granted",
		 caller->peer.ids.uid, *caller->peer.unit ? " unit " : "", caller->peer.unit,
		 *caller->peer.app ? " app " : "", caller->peer.app, (int)caller->peer.pid,
		 operation_text(request->operation), name, reason,
		 outcome->rule && !reply->status ? "rule " : "",
		 outcome->rule && !reply->status ? outcome->rule->config->name : "", held);
}
