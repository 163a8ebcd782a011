/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One fault after the other: each is followed by a look at what the broker has, and by the same
 * call once more, which has to work. The broker of a row lives in a process of its own, so that
 * its end is seen as such; the next one goes on behind the fault that ended it.
 */
#include "tests/fault_scene.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "client/internal.h"
#include "daemon/broker_private.h"
#include "daemon/bus_private.h"
#include "daemon/fd.h"
#include "proto/name.h"
#include "tests/test.h"

/* A process that ended as it should where its broker can't go on. */
#define BROKER_ENDED 77
#define CALL_MS 60000	 /* far beyond what any call takes; what is never balanced waits as long */
#define FAILURES_MOST 30 /* that are told: a fault in one place shows in many */

/* Between the process of the broker and who watches it. */
struct progress {
	size_t row;
	unsigned at, error; /* what fails next */
	unsigned faults;    /* of this row */
	unsigned all;
	int result;
	char directory[64];
};

static struct progress *progress;
static unsigned failures;

/* What a broker has: after each call as much as before. */
struct balance {
	unsigned descriptors, clients, names, instances, pins;
	unsigned bus_work; /* that is under way for callers on the bus */
	uint32_t total[RESOURCE_COUNT];
	long allocated;
};

int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

static unsigned count_entries(int directory)
{
	DIR *listing = fdopendir(directory);
	unsigned count = 0;

	FAULT_EXPECT(listing);
	while (readdir(listing))
		count++;
	closedir(listing);
	return count;
}

/* The kernel's ids are those that the broker thinks they are. */
static void check_ids(struct broker *broker)
{
	const struct creds *creds = &broker->creds;
	const struct ids *ids = creds->is_assumed ? &creds->now : &creds->own;
	gid_t groups[256];
	int count = getgroups(256, groups);

	FAULT_EXPECT((uid_t)syscall(SYS_setfsuid, -1) == ids->uid);
	FAULT_EXPECT((gid_t)syscall(SYS_setfsgid, -1) == ids->gid);
	FAULT_EXPECT(count == (int)ids->group_count);
	FAULT_EXPECT(count == 0 ||
		     memcmp(groups, ids->groups, ids->group_count * sizeof(*groups)) == 0);
}

/* In the loop's thread. */
static void look(struct fixture *fixture, void *argument)
{
	struct broker *broker = server_broker(fixture->server);
	const struct bus *bus = fixture->server->bus;
	struct instance *instance = NULL;
	struct balance *balance = argument;
	struct client *client;

	*balance = (struct balance){ 0 };
	check_ids(broker);
	creds_reset(&broker->creds);
	check_ids(broker);
	LIST_FOREACH (client, &fixture->server->clients, entry)
		balance->clients++;
	if (bus) {
		balance->clients += HASH_COUNT(bus->callers);
		balance->bus_work = bus->asking + bus->streaming + bus->call_count;
	}
	while ((instance = store_next(broker->store, instance ? instance->number : 0))) {
		balance->instances++;
		balance->pins += instance->pins;
		if (instance->writable >= 0)
			balance->names += count_entries(
				openat(instance->writable, ".", O_RDONLY | O_DIRECTORY));
	}
	memcpy(balance->total, broker->quota.total, sizeof(balance->total));
	balance->descriptors = count_entries(open("/proc/self/fd", O_RDONLY | O_DIRECTORY));
	balance->allocated = fault_allocated();
}

void scene_hasten(struct fixture *fixture, void *argument)
{
	struct server *server = fixture->server;
	struct bus *bus = server->bus;

	(void)argument;
	FAULT_EXPECT(!server->paused || event_pending(server->resume_event, EV_TIMEOUT, NULL));
	if (server->paused)
		event_active(server->resume_event, EV_TIMEOUT, 0);
	FAULT_EXPECT(!bus || bus->sd || bus_fixture_will_retry(bus));
	if (bus && !bus->sd)
		timer_set(&bus->retry, 1);
}

/* As main's does. */
static void broker_ended(int error)
{
	(void)error;
	_exit(BROKER_ENDED);
}

/* Once the loop has nothing left to do. */
static void settle(struct scene *scene)
{
	struct fixture *fixture = &scene->fixture;
	struct balance balance;

	fixture_call(fixture, scene_hasten, NULL);
	fixture_call(fixture, look, &balance);
}

static bool is_balanced(struct scene *scene, const struct balance *wanted, struct balance *ret)
{
	settle(scene);
	fixture_call(&scene->fixture, look, ret);
	return memcmp(ret, wanted, sizeof(*ret)) == 0;
}

static void await_balance(struct scene *scene, const struct balance *wanted)
{
	const struct timespec moment = { .tv_nsec = 1000 * 1000 };
	time_t end = time(NULL) + CALL_MS / 1000;
	struct balance now;

	while (!is_balanced(scene, wanted, &now) && time(NULL) < end)
		nanosleep(&moment, NULL);
	if (memcmp(&now, wanted, sizeof(now)) == 0)
		return;
	fprintf(stderr,
		"descriptors %u, were %u; allocated %ld, were %ld; clients %u, were %u; on "
		"the bus %u, were %u; names %u, were %u; instances %u, were %u; pins %u, were %u; "
		"charges",
		now.descriptors, wanted->descriptors, now.allocated, wanted->allocated, now.clients,
		wanted->clients, now.bus_work, wanted->bus_work, now.names, wanted->names,
		now.instances, wanted->instances, now.pins, wanted->pins);
	for (int i = 0; i < RESOURCE_COUNT; i++)
		fprintf(stderr, " %u, were %u;", now.total[i], wanted->total[i]);
	_exit(1);
}

struct shmb *scene_connect(const struct scene *scene, uid_t uid)
{
	struct shmb *c = NULL;

	/* This thread alone: the loop's has its own. */
	if (uid != 0) {
		FAULT_EXPECT(syscall(SYS_setgroups, 0, NULL) == 0);
		FAULT_EXPECT(syscall(SYS_setresgid, -1, uid, -1) == 0);
		FAULT_EXPECT(syscall(SYS_setresuid, -1, uid, -1) == 0);
	}
	FAULT_EXPECT(shmb_connect(&c, scene->fixture.socket) == 0);
	if (uid != 0) {
		FAULT_EXPECT(syscall(SYS_setresuid, -1, 0, -1) == 0);
		FAULT_EXPECT(syscall(SYS_setresgid, -1, 0, -1) == 0);
	}
	return c;
}

static void begin_call(struct scene *scene)
{
	scene->c = scene->row->is_unconnected ? NULL : scene_connect(scene, scene->row->uid);
	for (size_t i = 0; i < sizeof(scene->fd) / sizeof(*scene->fd); i++)
		scene->fd[i] = -EBADF;
	if (scene->row->before)
		scene->row->before(scene);
	settle(scene);
}

/* A create that failed leaves no name; one that nobody heard the end of may have been done. */
static void check_name(struct scene *scene, int result)
{
	struct shmb_info info;

	if (result >= 0 || result == -ECONNRESET || result == -ECONNREFUSED)
		return;
	FAULT_EXPECT(shmb_stat(scene->other, "/new", &info, sizeof(info)) == -ENOENT);
}

static void end_call(struct scene *scene)
{
	for (size_t i = 0; i < sizeof(scene->fd) / sizeof(*scene->fd); i++)
		scene->fd[i] = fd_close(scene->fd[i]);
	shmb_disconnect(scene->c);
	scene->c = NULL;
	/* It may have been his connection that failed. */
	if (shmb_unlink(scene->other, "/new") == -ECONNRESET) {
		FAULT_EXPECT(!scene->row->is_on_bus);
		shmb_disconnect(scene->other);
		scene->other = fixture_connect(&scene->fixture);
		shmb_unlink(scene->other, "/new");
	}
	if (scene->row->after)
		scene->row->after(scene);
}

/* What INTERFACE.md lets a call fail with; that nobody answered in time would be a lost answer. */
static bool is_documented(int result)
{
	static const int errors[] = { EACCES, ENOENT, EEXIST,	  EINVAL,      ENOSPC,
				      EMFILE, ENFILE, EDQUOT,	  EAGAIN,      EOPNOTSUPP,
				      ENOMEM, EPROTO, ECONNRESET, ECONNREFUSED };

	for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
		if (result == -errors[i])
			return true;
	}
	return result >= 0;
}

static void check_result(const struct fault_case *row, const struct fault_hit *hit, int result)
{
	progress->result = result;
	FAULT_EXPECT(is_documented(result) || result == row->also);
	/* The object is there, or is not: no fault makes it otherwise. */
	FAULT_EXPECT(result != -ENOENT || row->expected == -ENOENT);
	FAULT_EXPECT(result != -EEXIST || row->expected == -EEXIST);
	/* Nor the call itself: but a message may be broken. */
	FAULT_EXPECT(result != -EINVAL || !row->is_on_bus || hit->error == EBADMSG ||
		     hit->error == ENXIO);
	/* And nobody gets more than without it. */
	FAULT_EXPECT(result < 0 || row->expected == 0);
}

static void advance(const struct fault_hit *hit)
{
	progress->faults++;
	progress->all++;
	if (progress->error + 1 < hit->errors) {
		progress->error++;
	} else {
		progress->error = 0;
		progress->at++;
	}
}

/* What can't be unlinked stays, hidden, until the next start sweeps it. */
static void sweep(struct fixture *fixture, void *argument)
{
	struct broker *broker = server_broker(fixture->server);
	struct instance *instance = NULL;
	const struct dirent *entry;

	(void)argument;
	while ((instance = store_next(broker->store, instance ? instance->number : 0))) {
		int fd = instance->writable < 0 ? -EBADF
						: openat(instance->writable, ".", O_RDONLY);
		DIR *listing = fd < 0 ? NULL : fdopendir(fd);

		while (listing && (entry = readdir(listing))) {
			if (strncmp(entry->d_name, NAME_RESERVED_PREFIX,
				    strlen(NAME_RESERVED_PREFIX)) == 0)
				unlinkat(instance->writable, entry->d_name, 0);
		}
		if (listing)
			closedir(listing);
	}
}

/* false: nothing failed any more. */
static bool one_fault(struct scene *scene, const struct balance *balance)
{
	const struct fault_case *row = scene->row;
	struct fault_hit hit;
	int result;

	begin_call(scene);
	fault_arm(row->roles, progress->at, progress->error);
	result = row->call(scene);
	/* What follows the answer can fail, too. */
	settle(scene);
	fault_disarm(&hit);
	if (hit.happened)
		check_result(row, &hit, result);
	else
		FAULT_EXPECT(row->expected ? result == row->expected : result >= 0);
	if (row->is_create)
		check_name(scene, result);
	end_call(scene);
	if (hit.happened && hit.call == FAULT_unlinkat)
		fixture_call(&scene->fixture, sweep, NULL);
	if (!row->keeps || !hit.happened)
		await_balance(scene, balance);
	if (!hit.happened)
		return false;

	begin_call(scene);
	result = row->call(scene);
	progress->result = result;
	FAULT_EXPECT(row->expected ? result == row->expected : result >= 0);
	end_call(scene);
	await_balance(scene, balance);
	advance(&hit);
	return true;
}

static void clean_call(struct scene *scene)
{
	begin_call(scene);
	progress->result = scene->row->call(scene);
	FAULT_EXPECT(scene->row->expected ? progress->result == scene->row->expected
					  : progress->result >= 0);
	end_call(scene);
	settle(scene);
}

/* What it has when nothing of the clean calls is under way any more. */
static void take_baseline(struct scene *scene, struct balance *ret)
{
	const struct timespec moment = { .tv_nsec = 20 * 1000 * 1000 };
	struct balance before;
	unsigned same = 0;

	while (same < 4) {
		before = *ret;
		nanosleep(&moment, NULL);
		settle(scene);
		fixture_call(&scene->fixture, look, ret);
		same = memcmp(&before, ret, sizeof(before)) == 0 ? same + 1 : 0;
	}
}

static void run_row(struct scene *scene)
{
	struct balance balance = { 0 };

	/* What is made at the first time, and kept. */
	clean_call(scene);
	clean_call(scene);
	take_baseline(scene, &balance);
	while (one_fault(scene, &balance))
		;
	FAULT_EXPECT(progress->faults > 0);
	if (getenv("FAULT_TELL"))
		fprintf(stderr, "%s: %u calls, %u faults\n", scene->row->name, progress->at - 1,
			progress->faults);
	progress->row++;
	progress->at = 1;
	progress->error = progress->faults = 0;
}

static void start(struct scene *scene, const struct fault_case *row)
{
	if (row->is_on_bus)
		bus_fixture_start_bus(&scene->bus);
	fixture_start(
		&scene->fixture,
		&(struct fixture_how){ .config = row->config,
				       .is_user = !test_is_root(),
				       .ended = broker_ended,
				       .bus_address = row->is_on_bus ? scene->bus.address : NULL });
	scene->other = fixture_connect(&scene->fixture);
}

/* From where it was left, as many rows as are about such a broker. */
static void run_process(const struct fault_case *rows, size_t count)
{
	const struct fault_case *first = &rows[progress->row];
	struct scene scene = { 0 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fault_begin();
	shmb_default_timeout_ms = CALL_MS;
	snprintf(progress->directory, sizeof(progress->directory), "%s", test_directory());
	start(&scene, first);
	while (progress->row < count && rows[progress->row].config == first->config &&
	       rows[progress->row].is_on_bus == first->is_on_bus) {
		scene.row = &rows[progress->row];
		run_row(&scene);
	}
	shmb_disconnect(scene.other);
	fixture_stop(&scene.fixture);
	bus_fixture_stop_bus(&scene.bus);
	if (__lsan_do_recoverable_leak_check)
		FAULT_EXPECT(__lsan_do_recoverable_leak_check() == 0);
	exit(0);
}

/* Ids that can't be changed back are no ids to go on with: the broker ends itself. */
static bool is_ending(const struct fault_hit *hit)
{
	return hit->happened &&
	       (hit->call == FAULT_setgroups || hit->call == FAULT_setfsids ||
		hit->call == FAULT_capset || hit->call == FAULT_capget || hit->call == FAULT_prctl);
}

/* The end of what it has logged. */
static void read_log(int log, char *ret, size_t size)
{
	off_t end = lseek(log, 0, SEEK_END), most = (off_t)size - 1;
	ssize_t got = pread(log, ret, size - 1, end > most ? end - most : 0);

	ret[got < 0 ? 0 : got] = '\0';
	lseek(log, 0, SEEK_SET); /* shared with whoever writes it */
	ck_assert_int_eq(ftruncate(log, 0), 0);
}

/* A descriptor that can't be handed over ends nobody. */
static bool is_undelivered(const struct fault_hit *hit)
{
	return hit->call == FAULT_sendmsg_descriptor &&
	       (hit->error == ETOOMANYREFS || hit->error == ENOBUFS || hit->error == ENOMEM);
}

/* Where a broker may end for one of its calls that failed, and how that looks. */
static bool is_good_end(const struct fault_hit *hit, int status, const char *text)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == BROKER_ENDED)
		return hit->happened && !is_undelivered(hit) &&
		       strstr(text, "the broker can't go on without it");
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && is_ending(hit);
}

static void say_failed(const struct fault_case *row, const struct fault_hit *hit, int status,
		       const char *text)
{
	fprintf(stderr, "fault: %s, call %u: %s at %#tx fails with %s: result %d, status %#x: %s\n",
		row->name, progress->at, hit->happened ? fault_name(hit->call) : "none", hit->place,
		strerror(hit->error), progress->result, (unsigned)status, text);
	if (++failures > FAILURES_MOST || !hit->happened)
		ck_abort_msg("%s: see above", row->name);
}

void fault_run(const struct fault_case *rows, size_t count)
{
	int status, log = memfd_create("log", MFD_CLOEXEC);
	struct fault_hit hit;
	char text[4000];
	pid_t pid;

	ck_assert_int_ge(log, 0);
	progress = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			-1, 0);
	ck_assert_ptr_ne(progress, MAP_FAILED);
	progress->at = 1;
	fault_begin();
	while (progress->row < count) {
		pid = fork();
		ck_assert_int_ge(pid, 0);
		if (pid == 0) {
			if (dup2(log, 2) < 0)
				_exit(1);
			run_process(rows, count);
		}
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		fault_disarm(&hit);
		read_log(log, text, sizeof(text));
		if (getenv("FAULT_TELL"))
			fputs(text, stderr);
		if (status == 0)
			continue;
		test_remove_directory(progress->directory);
		if (!is_good_end(&hit, status, text))
			say_failed(&rows[progress->row], &hit, status, text);
		advance(&hit);
	}
	close(log);
	munmap(progress, sizeof(*progress));
	ck_assert_uint_eq(failures, 0);
}

void fault_run_all(const char *what, unsigned step, void (*run)(struct fault_runs *runs))
{
	struct fault_runs *runs = mmap(NULL, sizeof(*runs), PROT_READ | PROT_WRITE,
				       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct fault_hit hit;
	unsigned wrong = 0;
	int status = -1;

	ck_assert_ptr_ne(runs, MAP_FAILED);
	runs->at = 1;
	fault_begin();
	while (status != 0) {
		pid_t pid = fork();

		if (pid == 0)
			run(runs);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		fault_disarm(&hit);
		if (status == 0)
			break;
		fprintf(stderr,
			"fault: %s, call %u: %s at %#tx fails with %s: result %d, status %#x%s%s\n",
			what, runs->at, hit.happened ? fault_name(hit.call) : "none", hit.place,
			strerror(hit.error), runs->result, (unsigned)status,
			runs->lost ? ", lost: " : "", runs->lost ? runs->lost : "");
		ck_assert_uint_lt(++wrong, 20);
		runs->at += step;
	}
	ck_assert_uint_eq(wrong, 0);
	ck_assert_uint_gt(runs->at, 100);
	if (getenv("FAULT_TELL"))
		fprintf(stderr, "%s: %u calls\n", what, runs->at - 1);
	munmap(runs, sizeof(*runs));
}
