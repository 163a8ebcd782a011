/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Faults of the program itself, from its start to its end, with a service manager that keeps what
 * it gives: it serves, with no more rights than else, or ends with an error that says why; nothing
 * is lost for the next.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/internal.h"
#include "tests/daemon_fixture.h"
#include "tests/fault_scene.h"

/* Two starts each: all of them take minutes with the sanitizers. */
#define STEP (IS_SANITIZED ? 13 : 1)

static const char config[] =
	"pools: { frames: { size = \"1M\" objects = 16 }\n"
	"         apps: { per = \"app\" size = \"64K\" objects = 8 } }\n"
	"rules: ( { name = \"frames\" names = \"/frames-*\" allow = \"all\" pool = \"frames\" },\n"
	"         { name = \"app\" sandboxed = true names = \"/*\" allow = \"all\" pool = "
	"\"apps\" } )\n";

static int plan;

struct life {
	struct daemon_place place;
	struct daemon_kept kept;
	char rights[1024]; /* of a process of it each, when nothing fails */
};

/* What a process may do, as a line. false: it isn't there any more. */
static bool read_rights(pid_t pid, char *ret, size_t size)
{
	static const char *const fields[] = { "CapPrm:", "CapEff:", "NoNewPrivs:", "Seccomp:" };
	char path[64], line[256];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "re");
	*ret = '\0';
	while (file && fgets(line, sizeof(line), file)) {
		for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
			if (strncmp(line, fields[i], strlen(fields[i])) != 0)
				continue;
			line[strcspn(line, "\n")] = ' ';
			strncat(ret, line, size - strlen(ret) - 2);
		}
	}
	strcat(ret, "\n");
	if (file)
		fclose(file);
	return strlen(ret) > 1;
}

/* Of it and its helpers: learnt, or each is to be like one of those that were. */
static bool have_same_rights(struct life *life, pid_t pid, bool learn)
{
	char path[64], rights[256];
	FILE *children;
	int child = pid;
	bool same = true;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	children = fopen(path, "re");
	FAULT_EXPECT(children);
	do {
		if (!read_rights(child, rights, sizeof(rights)))
			continue;
		if (learn && !strstr(life->rights, rights))
			strncat(life->rights, rights,
				sizeof(life->rights) - strlen(life->rights) - 1);
		same = same && strstr(life->rights, rights);
	} while (fscanf(children, "%d", &child) == 1);
	fclose(children);
	return same;
}

static int done(int fd)
{
	return fd < 0 ? fd : close(fd);
}

/* What a client asks: 0 or how it failed. */
static int use(const struct life *life)
{
	const struct shmb_context context = { .app = "org.example.one" };
	struct shmb_how how = { .oflag = O_RDWR | O_CREAT,
				.mode = 0600,
				.size = 4096,
				.flags = SHMB_UNPUBLISHED | SHMB_SEALED };
	char directory[128];
	struct shmb *c;
	int result = shmb_connect(&c, life->place.socket);

	if (result < 0)
		return result;
	result = done(shmb_open(c, "/frames-new", O_RDWR | O_CREAT, 0600));
	if (result == 0)
		result = shmb_unlink(c, "/frames-new");
	if (result == 0)
		result = done(shmb_open_how(c, "/frames-sealed", &how, sizeof(how)));
	if (result == 0)
		result = shmb_publish(c, "/frames-sealed", SHMB_REPLACE);
	if (result == 0)
		result = shmb_unlink(c, "/frames-sealed");
	if (result == 0)
		result = done(shmb_create_context(c, &context, sizeof(context), directory,
						  sizeof(directory)));
	shmb_disconnect(c);
	return result;
}

static void put_content(const struct life *life)
{
	struct shmb *c;
	int fd;

	FAULT_EXPECT(shmb_connect(&c, life->place.socket) == 0);
	fd = shmb_open(c, "/frames-1", O_RDWR | O_CREAT | O_EXCL, 0600);
	FAULT_EXPECT(fd >= 0 && write(fd, "content", 7) == 7 && close(fd) == 0);
	shmb_disconnect(c);
}

static void expect_content(const struct life *life)
{
	char text[8] = "";
	struct shmb *c;
	int fd;

	FAULT_EXPECT(shmb_connect(&c, life->place.socket) == 0);
	fd = shmb_open(c, "/frames-1", O_RDONLY, 0);
	FAULT_EXPECT(fd >= 0 && read(fd, text, 7) == 7 && strcmp(text, "content") == 0);
	close(fd);
	shmb_disconnect(c);
}

/* Its exit status. Nothing of it is left. */
static int end(struct life *life, struct daemon *daemon, int number)
{
	int status;

	if (number)
		kill(daemon->pid, number);
	daemon_heed(daemon, "its end", &life->kept);
	status = daemon_end(daemon, 0);
	while (waitpid(-1, NULL, 0) > 0)
		;
	FAULT_EXPECT(errno == ECHILD);
	return status;
}

/* Ids and rights that can't be had, or given up, are no ground to go on from. */
static bool may_abort(const struct fault_hit *hit)
{
	return hit->call == FAULT_setgroups || hit->call == FAULT_setfsids ||
	       hit->call == FAULT_capset || hit->call == FAULT_capget || hit->call == FAULT_prctl;
}

/* A life of which the at-th call fails; 0: none. Whether one did. */
static bool live(struct life *life, unsigned at, struct fault_runs *shared)
{
	const struct daemon_how how = { .uid = geteuid(), .given = &life->kept, .plan = plan };
	bool is_ready, same_rights = true;
	struct fault_hit hit;
	struct daemon daemon;
	int status;

	shared->result = 0;
	fault_arm(FAULT_SELF | FAULT_HELPER, at, 0);
	daemon_start_at(&daemon, &life->place, &how);
	is_ready = daemon_heed(&daemon, "READY=1", &life->kept);
	if (is_ready) {
		shared->result = use(life);
		same_rights = have_same_rights(life, daemon.pid, !at && !*life->rights);
	}
	status = end(life, &daemon, is_ready ? SIGTERM : 0);
	fault_disarm(&hit);
	if (getenv("FAULT_TELL"))
		fprintf(stderr, "main, call %u: %s at %#tx: ready %d, result %d, status %d\n%s", at,
			hit.happened ? fault_name(hit.call) : "none", hit.place, is_ready,
			shared->result, status, daemon.text);
	FAULT_EXPECT(hit.happened || (is_ready && shared->result == 0 && status == 0));
	/* A kernel without filters has none for the broker either, and that says so. */
	FAULT_EXPECT(same_rights || hit.call == FAULT_prctl_filter);
	FAULT_EXPECT(status == 0 || status == 1 || (status == 128 + SIGABRT && may_abort(&hit)));
	FAULT_EXPECT(status == 0 || *daemon.text);
	FAULT_EXPECT(status != 0 || is_ready);
	FAULT_EXPECT(status != 0 || is_missing(life->place.socket) || hit.happened);
	return hit.happened;
}

/* The next, of which nothing fails. */
static void start_well(struct life *life, struct daemon *daemon)
{
	const struct daemon_how how = { .uid = geteuid(), .given = &life->kept };

	daemon_start_at(daemon, &life->place, &how);
	FAULT_EXPECT(daemon_heed(daemon, "READY=1", &life->kept));
}

static void run(struct fault_runs *shared)
{
	struct life life = { .kept = { .count = 0 } };
	struct daemon daemon;
	bool happened = true;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	fault_begin();
	fault_pause();
	daemon_place_make(&life.place, 0);
	daemon_configure(&life.place, config);
	live(&life, 0, shared);
	start_well(&life, &daemon);
	put_content(&life);
	FAULT_EXPECT(end(&life, &daemon, SIGTERM) == 0);
	while (happened) {
		happened = live(&life, shared->at, shared);
		start_well(&life, &daemon);
		expect_content(&life);
		FAULT_EXPECT(end(&life, &daemon, SIGTERM) == 0);
		shared->at += STEP;
	}
	daemon_kept_done(&life.kept);
	daemon_place_remove(&life.place);
	exit(0);
}

START_TEST(a_fault_of_the_program)
{
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	plan = fault_share();
	fault_run_all("program", STEP, run);
	close(plan);
}
END_TEST

TCase *fault_case_of_the_program(void)
{
	TCase *tests = tcase_create("program");

	tcase_set_timeout(tests, 300);
	tcase_set_tags(tests, "long");
	tcase_add_checked_fixture(tests, test_fds_setup, test_fds_teardown);
	tcase_add_test(tests, a_fault_of_the_program);
	return tests;
}
