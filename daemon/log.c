/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writes the daemon's log. Only the edge logs; the core returns. */
#include "daemon/log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "daemon/fd.h"
#include "proto/escape.h"

/* A pipe takes so much or nothing. */
#define LINE_SIZE PIPE_BUF

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

static bool to_journal;	     /* standard error leads there */
static int journal = -EBADF; /* its socket for entries with fields */
static struct window windows[WINDOWS];
static struct budget budgets[BUDGETS];

static void connect_journal(void)
{
	static const struct sockaddr_un address = { .sun_family = AF_UNIX,
						    .sun_path = "/run/systemd/journal/socket" };

	fd_close(journal);
	journal = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (journal >= 0 &&
	    connect(journal, (const struct sockaddr *)&address, sizeof(address)) < 0)
		journal = fd_close(journal);
}

void log_init(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	to_journal = stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
		     fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
	if (to_journal)
		connect_journal();
}

/* Whoever reads the log may have stopped reading: nobody waits for him. A line is written whole. */
static void write_line(const char *line, size_t size)
{
	static unsigned long lost;
	struct pollfd wanted = { .fd = STDERR_FILENO, .events = POLLOUT };
	char text[64];
	int told;

	if (poll(&wanted, 1, 0) <= 0 || !(wanted.revents & POLLOUT)) {
		lost++;
		return;
	}
	if (lost > 0) {
		told = snprintf(text, sizeof(text), "shmbrokerd: %lu lines were lost\n", lost);
		lost = 0;
		if (write(STDERR_FILENO, text, (size_t)told) < 0 || poll(&wanted, 1, 0) <= 0)
			return;
	}
	if (write(STDERR_FILENO, line, size) < 0)
		lost++;
}

/* --- the journal's own protocol --- */

static const char *const message_ids[LOG_KINDS] = {
	[LOG_KIND_DENIED] = "70a5606aeacd436ca3dfdc3561dc3081",
	[LOG_KIND_GRANTED] = "93ed00aa02c243a9a692f2023279922e",
	[LOG_KIND_LIMIT] = "1efb25ed69be4031b3fe4d172e36a210",
	[LOG_KIND_RELOADED] = "8224d3ca3f5f42629651ae594764ea39",
	[LOG_KIND_REFUSED] = "fe45da75b25e42258d24b6f4734969ad",
	[LOG_KIND_POOL_MADE] = "f195d47ee0694626b71936a775826b5e",
	[LOG_KIND_POOL_MISSING] = "d4a7bd64ee6f4aeab6c8263a660e25fa",
	[LOG_KIND_POOL_RELEASED] = "25c0a8c675ee46648fcf7dbebc370a2a",
	[LOG_KIND_POOL_FULL] = "4c01183d0e824931b2ccf344704982af",
};

struct entry {
	char text[2 * LINE_SIZE];
	size_t size;
};

/* What clients chose has been escaped; this is for what nobody thought of. */
static void make_plain(char *text)
{
	for (; *text; text++)
		if (*text < 0x20 || *text > 0x7e)
			*text = '?';
}

static void add_field(struct entry *entry, const char *name, const char *value)
{
	int used;

	if (!value || !*value)
		return;
	used = snprintf(entry->text + entry->size, sizeof(entry->text) - entry->size, "%s=%s\n",
			name, value);
	if (used <= 0 || (size_t)used >= sizeof(entry->text) - entry->size)
		return;
	entry->text[entry->size + (size_t)used - 1] = 0;
	make_plain(entry->text + entry->size);
	entry->size += (size_t)used;
	entry->text[entry->size - 1] = '\n';
}

static void add_number(struct entry *entry, const char *name, unsigned number)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", number);
	add_field(entry, name, text);
}

/*
 * sd_journal_sendv(3) waits for a journal that doesn't read, and all clients with it; a datagram of
 * systemd.journal-fields(7) needn't. false: it was not taken.
 */
static bool send_entry(const struct entry *entry)
{
	if (send(journal, entry->text, entry->size, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return true;
	if (errno == EAGAIN)
		return false;
	/* It was started again. */
	connect_journal();
	return send(journal, entry->text, entry->size, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

static void write_entry(const struct log_record *record, const char *text)
{
	static unsigned lost;
	struct entry entry = { .size = 0 };

	add_field(&entry, "MESSAGE", text);
	add_number(&entry, "PRIORITY", (unsigned)record->priority);
	add_field(&entry, "SYSLOG_IDENTIFIER", "shmbrokerd");
	add_field(&entry, "MESSAGE_ID", message_ids[record->kind]);
	add_field(&entry, "SHMBROKER_VERDICT", record->verdict);
	add_field(&entry, "SHMBROKER_NAME", record->name);
	add_field(&entry, "SHMBROKER_RULE", record->rule);
	add_field(&entry, "SHMBROKER_POOL", record->pool);
	add_field(&entry, "SHMBROKER_OWNER", record->owner);
	if (record->verdict)
		add_number(&entry, "SHMBROKER_UID", record->uid);
	add_field(&entry, "SHMBROKER_APP", record->app);
	add_field(&entry, "SHMBROKER_UNIT", record->unit);
	if (lost > 0)
		add_number(&entry, "SHMBROKER_LOST", lost);
	lost = send_entry(&entry) ? 0 : lost + 1;
}

__attribute__((format(printf, 2, 0))) static void write_record(const struct log_record *record,
							       const char *format,
							       va_list arguments)
{
	bool native = to_journal && journal >= 0;
	char line[LINE_SIZE];
	size_t size;
	int prefix;

	prefix = native	      ? 0
		 : to_journal ? snprintf(line, sizeof(line), "<%d>", record->priority)
			      : snprintf(line, sizeof(line), "shmbrokerd: ");
	vsnprintf(line + prefix, sizeof(line) - (size_t)prefix, format, arguments);
	make_plain(line);
	if (native) {
		write_entry(record, line);
		return;
	}
	size = strlen(line);
	line[size] = '\n';
	write_line(line, size + 1);
}

void log_record(const struct log_record *record, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	write_record(record, format, arguments);
	va_end(arguments);
}

void log_line(int priority, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	write_record(&(struct log_record){ .priority = priority }, format, arguments);
	va_end(arguments);
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
	case WIRE_LEND:
		return "be lent a pool";
	case WIRE_DELEGATE:
		return "be delegated a pool";
	case WIRE_WAIT:
		return "wait for";
	default:
		return "ask";
	}
}

/* What becomes of a request is told where its rule wants that, and a limit that was hit always. */
static enum log_kind kind_of(const struct outcome *outcome, const struct reply *reply)
{
	enum rule_log wanted = outcome->rule ? outcome->rule->config->log : RULE_LOG_DENIALS;

	if (wanted == RULE_LOG_NONE)
		return LOG_KIND_PLAIN;
	if (outcome->denied)
		return LOG_KIND_DENIED;
	if (reply->status == EDQUOT)
		return LOG_KIND_LIMIT;
	return wanted == RULE_LOG_ALL ? LOG_KIND_GRANTED : LOG_KIND_PLAIN;
}

static void tell_outcome(enum log_kind kind, const struct outcome *outcome,
			 const struct caller *caller, const struct request *request,
			 const struct reply *reply)
{
	const struct rule *rule = outcome->rule;
	struct log_record record = {
		.kind = kind,
		.rule = rule ? rule->config->name : NULL,
		.pool = outcome->pool,
		.app = caller->peer.app,
		.unit = caller->peer.unit,
		.uid = caller->peer.ids.uid,
	};
	char name[1100] = "", reason[512] = "", before[40] = "";
	unsigned held = 0;

	if (!open_window(outcome, record.uid, &held))
		return;
	if (outcome->name) {
		*name = '/';
		escape(name + 1, sizeof(name) - 1, outcome->name, outcome->name_size);
	}
	record.name = name;
	record.verdict = outcome->denied ? "denied" : reply->status ? "failed" : "granted";
	record.priority = record.kind == LOG_KIND_GRANTED ? LOG_INFO : LOG_NOTICE;
	if (reply->status)
		snprintf(reason, sizeof(reason), "%.*s", (int)reply->body_size,
			 (const char *)reply->body);
	else if (rule)
		snprintf(reason, sizeof(reason), "rule %s", rule->config->name);
	if (held > 0)
		snprintf(before, sizeof(before), " (%u held back before)", held);
	log_record(&record, "%s: uid %u%s%s%s%s pid %d: %s%s%s: %s%s", record.verdict, record.uid,
		   *record.unit ? " unit " : "", record.unit, *record.app ? " app " : "",
		   record.app, (int)caller->peer.pid, operation_text(request->operation),
		   *name ? " " : "", name, reason, before);
}

void log_outcome(const struct outcome *outcome, const struct caller *caller,
		 const struct request *request, const struct reply *reply)
{
	enum log_kind kind = kind_of(outcome, reply);

	if (kind != LOG_KIND_PLAIN)
		tell_outcome(kind, outcome, caller, request, reply);
}

void log_turned_away(int socket, int error, const char *why)
{
	struct outcome outcome = { .name = why, .name_size = strlen(why), .pool = "" };
	struct log_record record = { .kind = LOG_KIND_LIMIT,
				     .priority = LOG_NOTICE,
				     .verdict = "turned away" };
	struct ucred credentials = { .uid = (uid_t)-1 };
	socklen_t size = sizeof(credentials);
	char before[40] = "";
	unsigned held = 0;

	if (error != EDQUOT || getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
		return;
	record.uid = credentials.uid;
	if (!open_window(&outcome, record.uid, &held))
		return;
	if (held > 0)
		snprintf(before, sizeof(before), " (%u held back before)", held);
	log_record(&record, "turned away: uid %u pid %d: %s%s", record.uid, (int)credentials.pid,
		   why, before);
}
