/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Clients that mean harm: descriptors that nobody asked for, files whose close or open would
 * hang, floods. Each time somebody else is served meanwhile, and nothing is left behind.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/broker_private.h"
#include "tests/edge.h"
#include "tests/fault.h"
#include "tests/fixture.h"
#include "tests/raw_client.h"
#include "tests/test.h"
#include "tests/traps.h"

#define ROWS(rows) (sizeof(rows) / sizeof(*(rows)))

static const char one_pool[] =
	"limits: { connections = 200 connections-per-user = 40 }\n"
	"pools: { host: { path = \"@host@\" access = \"grant\" } }\n"
	"rules: ( { name = \"r\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";

/* A broker that takes descriptors from the kernel, as one has to before Linux 6.16. */
static void start_peeking(struct fixture *fixture)
{
	const int on = 1;

	fixture_start(fixture, &(struct fixture_how){ .config = one_pool, .always_peek = true });
	setsockopt(fixture->listener.fd, SOL_SOCKET, SO_PASSRIGHTS, &on, sizeof(on));
}

static unsigned descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

START_TEST(attached_descriptors_end_the_connection_or_are_refused)
{
	static const struct {
		size_t count;
		bool peek;
	} rows[] = { { 1, false }, { WIRE_FDS_MAX, false }, { 1, true }, { WIRE_FDS_MAX, true } };
	struct wire_request stat = { .serial = 3, .operation = WIRE_STAT };
	int fd, attached[WIRE_FDS_MAX];
	struct fixture fixture;
	unsigned before;
	struct shmb *c;

	for (size_t i = 0; i < WIRE_FDS_MAX; i++)
		attached[i] = 0;
	for (size_t i = 0; i < ROWS(rows); i++) {
		bool refused;

		if (rows[i].peek)
			start_peeking(&fixture);
		else
			fixture_start(&fixture, &(struct fixture_how){ .config = one_pool });
		refused = !rows[i].peek && fixture.listener.refuses_descriptors;
		c = fixture_connect(&fixture);
		before = descriptors();
		fd = raw_greeted(fixture.socket);
		ck_assert_int_eq(raw_send(fd, &stat, sizeof(stat), attached, rows[i].count),
				 refused ? -EPERM : 0);
		if (refused) {
			ck_assert_int_eq(raw_ask(fd, 4, WIRE_STAT, "none"), 0);
			ck_assert_int_eq(raw_status(fd, 4), ENOENT);
		} else {
			raw_expect_end(fd);
		}
		close(fd);
		edge_expect_served(&fixture, c);
		edge_expect_clients(&fixture, 1);
		ck_assert_uint_eq(descriptors(), before);
		shmb_disconnect(c);
		fixture_stop(&fixture);
	}
}
END_TEST

static sem_t was_attached;

/*
 * In the loop's thread, behind its look that found nothing. The reply is taken first: with an end
 * that leaves a packet unread it could be lost.
 */
static void attach_behind_look(void *argument)
{
	struct wire_request stat = { .serial = 5, .operation = WIRE_STAT };
	int attached = 0;

	ck_assert_int_eq(raw_status(*(int *)argument, 4), ENOENT);
	ck_assert_int_eq(raw_send(*(int *)argument, &stat, sizeof(stat), &attached, 1), 0);
	sem_post(&was_attached);
}

START_TEST(a_packet_between_the_look_and_the_taking_is_not_taken)
{
	struct fixture fixture;
	struct fault_hit hit;
	int fd;

	fault_begin();
	sem_init(&was_attached, 0, 0);
	start_peeking(&fixture);
	fd = raw_greeted(fixture.socket);
	ck_assert_int_eq(raw_ask(fd, 3, WIRE_STAT, "none"), 0);
	ck_assert_int_eq(raw_status(fd, 3), ENOENT);
	edge_expect_clients(&fixture, 1);
	/* The first look finds the request, the second nothing. */
	fault_hook(FAULT_LOOP, FAULT_recvmsg_at_once, 2, EAGAIN, attach_behind_look, &fd);
	ck_assert_int_eq(raw_ask(fd, 4, WIRE_STAT, "none"), 0);
	while (sem_wait(&was_attached) < 0)
		;
	raw_expect_end(fd);
	fault_disarm(&hit);
	ck_assert(hit.happened);
	close(fd);
	edge_expect_clients(&fixture, 0);
	fixture_stop(&fixture);
}
END_TEST

enum moment {
	BEFORE_HELLO,
	WITH_REQUEST,
	WITH_NOTHING,	/* an empty packet */
	BEHIND_GARBAGE, /* which ends the connection at once */
	BEHIND_EMPTY,	/* packets that look like the end */
	BEHIND_UNREAD,	/* behind requests that aren't read for want of reading */
	THEN_GONE,	/* and the client closes at once */
	BEHIND_EMPTY_THEN_GONE,
};

struct attack {
	const char *socket; /* NULL: on fd */
	enum moment moment;
	int fd;
	int attached; /* consumed */
};

/*
 * In the loop's thread, which so can't look before all is said and done: then the copy in flight is
 * the last, and whoever drops it has to wait.
 */
static void attack(struct fixture *fixture, void *argument)
{
	struct wire_request stat = { .serial = 3, .operation = WIRE_STAT };
	const char garbage[16] = "no request";
	struct attack *this = argument;

	(void)fixture;
	if (this->socket)
		this->fd = raw_connect(this->socket);
	if (this->moment == BEHIND_GARBAGE)
		raw_send(this->fd, garbage, sizeof(garbage), NULL, 0);
	if (this->moment == BEHIND_EMPTY || this->moment == BEHIND_EMPTY_THEN_GONE)
		for (int i = 0; i < 8; i++)
			raw_send(this->fd, NULL, 0, NULL, 0);
	for (uint32_t i = 0; this->moment == BEHIND_UNREAD && i < 100; i++)
		raw_ask(this->fd, i, WIRE_STAT, "none");
	ck_assert_int_eq(raw_send(this->fd, &stat, this->moment == WITH_NOTHING ? 0 : sizeof(stat),
				  &this->attached, 1),
			 0);
	close(this->attached);
	if (this->moment == THEN_GONE || this->moment == BEHIND_EMPTY_THEN_GONE) {
		close(this->fd);
		this->fd = -1;
	}
}

START_TEST(a_lingering_socket_holds_nobody_up)
{
	struct fixture fixture;
	unsigned before;
	struct shmb *c;

	start_peeking(&fixture);
	c = fixture_connect(&fixture);
	before = descriptors();
	for (enum moment moment = BEFORE_HELLO; moment <= BEHIND_EMPTY_THEN_GONE; moment++) {
		struct attack this = { .moment = moment };
		struct lingering lingering;

		lingering_make(&lingering);
		this.attached = lingering.theirs;
		if (moment == BEFORE_HELLO)
			this.socket = fixture.socket;
		else
			this.fd = raw_greeted(fixture.socket);
		fixture_call(&fixture, attack, &this);
		edge_expect_served(&fixture, c);
		if (this.fd >= 0 && moment != BEHIND_UNREAD)
			raw_expect_end(this.fd);
		if (this.fd >= 0)
			close(this.fd);
		edge_expect_clients(&fixture, 1);
		edge_expect_served(&fixture, c);
		lingering_end(&lingering);
	}
	ck_assert_uint_eq(descriptors(), before);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(who_is_turned_away_holds_nobody_up_either)
{
	struct lingering lingering;
	struct fixture fixture;
	unsigned count = 0;
	int full[64];
	struct shmb *c;

	start_peeking(&fixture);
	c = fixture_connect(&fixture);
	do {
		full[count] = raw_connect(fixture.socket);
	} while (raw_welcome(full[count++], NULL, 0) == 0 && count < 64);
	for (int i = 0; i < 4; i++) {
		struct attack this = { .socket = fixture.socket, .moment = BEFORE_HELLO };

		lingering_make(&lingering);
		this.attached = lingering.theirs;
		fixture_call(&fixture, attack, &this);
		edge_expect_served(&fixture, c);
		ck_assert_int_eq(raw_welcome(this.fd, NULL, 0), EDQUOT);
		raw_expect_end(this.fd);
		close(this.fd);
		lingering_end(&lingering);
	}
	while (count > 0)
		close(full[--count]);
	edge_expect_clients(&fixture, 1);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

struct context_attack {
	struct attack attack[3];
	int hold;
};

/* One who was let in and doesn't read, one who waits at the door; then the context's end. */
static void attack_context(struct fixture *fixture, void *argument)
{
	struct context_attack *this = argument;

	for (int i = 0; i < 3; i++)
		attack(fixture, &this->attack[i]);
	close(this->hold);
}

START_TEST(a_context_with_lingering_sockets_ends_at_once)
{
	const struct shmb_context how = { .app = "org.example.one" };
	struct context_attack this = { .attack = { { .moment = BEHIND_GARBAGE },
						   { .moment = BEHIND_UNREAD },
						   { .moment = BEFORE_HELLO } } };
	struct lingering lingering[3];
	char directory[128], path[160];
	struct fixture fixture;
	const int on = 1;
	struct shmb *c;

	start_peeking(&fixture);
	c = fixture_connect(&fixture);
	this.hold = shmb_create_context(c, &how, sizeof(how), directory, sizeof(directory));
	ck_assert_msg(this.hold >= 0, "%s", shmb_reason(c));
	setsockopt(LIST_FIRST(&server_broker(fixture.server)->contexts.list)->place.listener,
		   SOL_SOCKET, SO_PASSRIGHTS, &on, sizeof(on));
	snprintf(path, sizeof(path), "%s/socket", directory);
	for (int i = 0; i < 3; i++) {
		lingering_make(&lingering[i]);
		this.attack[i].attached = lingering[i].theirs;
		if (i < 2)
			this.attack[i].fd = raw_greeted(path);
		else
			this.attack[i].socket = path;
	}
	fixture_call(&fixture, attack_context, &this);
	edge_expect_served(&fixture, c);
	edge_expect_clients(&fixture, 1);
	ck_assert_int_ne(access(directory, F_OK), 0);
	for (int i = 0; i < 3; i++) {
		raw_expect_end(this.attack[i].fd);
		close(this.attack[i].fd);
		lingering_end(&lingering[i]);
	}
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* In a process of its own, which hangs in its own close afterwards. */
static pid_t attack_with_file(const struct fuse *fuse, const char *path, const char *socket,
			      enum moment moment)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		struct attack this = { .moment = moment, .fd = raw_greeted(socket) };

		close(fuse->device);
		this.attached = open(path, O_RDWR | O_CLOEXEC);
		if (this.attached < 0)
			_exit(1);
		attack(NULL, &this);
		_exit(0);
	}
	return pid;
}

START_TEST(a_file_whose_close_hangs_holds_nobody_up)
{
	static const enum moment moments[] = { WITH_REQUEST, WITH_NOTHING, BEHIND_UNREAD };
	pid_t pid[ROWS(moments)];
	struct fixture fixture;
	unsigned before;
	struct fuse fuse;
	struct shmb *c;
	int status;

	TEST_NEEDS(test_is_root() && access("/dev/fuse", R_OK | W_OK) == 0, "no FUSE here");
	start_peeking(&fixture);
	c = fixture_connect(&fixture);
	if (!fuse_start(&fuse)) {
		shmb_disconnect(c);
		fixture_stop(&fixture);
		TEST_NEEDS(false, "no FUSE to mount here");
	}
	before = descriptors();
	for (size_t i = 0; i < ROWS(moments); i++) {
		struct pollfd closing = { .fd = fuse.closing, .events = POLLIN };
		char path[160];
		uint64_t count;

		snprintf(path, sizeof(path), "%s/file-%zu", fuse.directory, i);
		pid[i] = attack_with_file(&fuse, path, fixture.socket, moments[i]);
		/* It has sent it, and waits in its close. */
		ck_assert_int_eq(poll(&closing, 1, 20000), 1);
		ck_assert_int_eq(read(fuse.closing, &count, sizeof(count)), sizeof(count));
		ck_assert_uint_eq(count, 1);
		edge_expect_served(&fixture, c);
		if (moments[i] != BEHIND_UNREAD)
			edge_expect_clients(&fixture, 1);
	}
	ck_assert_uint_eq(descriptors(), before + 1); /* the last one isn't read, and lives */
	fuse_stop(&fuse);
	for (size_t i = 0; i < ROWS(moments); i++) {
		ck_assert_int_eq(waitpid(pid[i], &status, 0), pid[i]);
		ck_assert_int_eq(status, 0);
	}
	edge_expect_clients(&fixture, 1);
	edge_expect_served(&fixture, c);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

static void place(const char *path, int kind)
{
	unlink(path);
	rmdir(path);
	switch (kind) {
	case S_IFDIR:
		ck_assert_int_eq(mkdir(path, 0700), 0);
		break;
	case S_IFLNK:
		ck_assert_int_eq(symlink("/dev/zero", path), 0);
		break;
	case S_IFREG:
		ck_assert_int_eq(close(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666)), 0);
		break;
	default:
		ck_assert_int_eq(mknod(path, (mode_t)kind | 0666, makedev(1, 5)), 0);
	}
}

START_TEST(nothing_under_a_name_makes_an_open_wait)
{
	static const struct {
		int kind;
		bool lease;
		int error;
		int unlink_error;
	} rows[] = {
		{ S_IFIFO, false, -EINVAL, 0 }, { S_IFDIR, false, -EINVAL, 1 },
		{ S_IFLNK, false, -EINVAL, 0 }, { S_IFSOCK, false, -EINVAL, 0 },
		{ S_IFCHR, false, -EINVAL, 0 }, { S_IFREG, true, -EAGAIN, 0 },
	};
	static const int flags[] = { O_RDONLY, O_RDWR, O_RDWR | O_CREAT, O_RDWR | O_TRUNC };
	struct fixture fixture;
	struct shmb *c, *other;
	char path[160];

	TEST_NEEDS(test_is_root(), "device files take root");
	signal(SIGIO, SIG_IGN);
	fixture_start(&fixture, &(struct fixture_how){ .config = one_pool });
	c = fixture_connect(&fixture);
	other = fixture_connect(&fixture);
	snprintf(path, sizeof(path), "%s/trap", fixture.host);
	for (size_t i = 0; i < ROWS(rows); i++) {
		int lease = -1, r;

		place(path, rows[i].kind);
		if (rows[i].lease) {
			lease = open(path, O_RDWR | O_CLOEXEC);
			ck_assert_int_eq(fcntl(lease, F_SETLEASE, F_WRLCK), 0);
		}
		for (size_t j = 0; j < ROWS(flags); j++) {
			r = shmb_open(c, "/trap", flags[j], 0600);
			ck_assert_msg(r == rows[i].error, "row %zu, flags %#o: %d (%s)", i,
				      (unsigned)flags[j], r, shmb_reason(c));
			edge_expect_served(&fixture, other);
		}
		r = shmb_unlink(c, "/trap");
		ck_assert_msg(rows[i].unlink_error ? r < 0 || access(path, F_OK) != 0 : r == 0,
			      "row %zu: %d", i, r);
		if (lease >= 0)
			close(lease);
	}
	rmdir(path);
	shmb_disconnect(c);
	shmb_disconnect(other);
	fixture_stop(&fixture);
}
END_TEST

/* One of several that come, say something wrong or nothing, and go, as fast as they can. */
static int flood(const char *socket, unsigned seed)
{
	char garbage[64];

	memset(garbage, (int)seed, sizeof(garbage));
	for (unsigned i = 0; i < 500; i++) {
		const struct wire_hello hello = raw_hello(1, 1);
		int fd = raw_connect(socket);

		if (fd < 0)
			continue;
		if ((i + seed) % 3)
			raw_send(fd, &hello, sizeof(hello), NULL, 0);
		if ((i + seed) % 4 == 1)
			raw_send(fd, garbage, sizeof(garbage), NULL, 0);
		for (uint32_t j = 0; (i + seed) % 4 == 2 && j < 50; j++)
			raw_ask(fd, j, WIRE_LIST, "");
		close(fd);
	}
	return 0;
}

START_TEST(a_flood_leaves_the_others_served)
{
	enum { hostile = 4 };
	struct fixture fixture;
	pid_t pid[hostile];
	unsigned before;
	struct shmb *c;
	int status;

	fixture_start(&fixture, &(struct fixture_how){ .config = one_pool });
	c = fixture_connect(&fixture);
	before = descriptors();
	fflush(NULL);
	for (unsigned i = 0; i < hostile; i++) {
		pid[i] = fork();
		if (pid[i] == 0)
			_exit(flood(fixture.socket, i));
	}
	for (int i = 0; i < 300; i++)
		edge_expect_served(&fixture, c);
	for (unsigned i = 0; i < hostile; i++) {
		ck_assert_int_eq(waitpid(pid[i], &status, 0), pid[i]);
		ck_assert_int_eq(status, 0);
	}
	/* All who still wait at the door come before another. */
	edge_expect_served(&fixture, NULL);
	edge_expect_clients(&fixture, 1);
	/* What goes to the closer goes in its own time. */
	for (int i = 0; i < 6000 && descriptors() != before; i++)
		poll(NULL, 0, 10);
	ck_assert_uint_eq(descriptors(), before);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

Suite *suite_hostile(void)
{
	Suite *suite = suite_create("hostile");
	TCase *test = tcase_create("hostile");

	tcase_set_timeout(test, 180);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, a_packet_between_the_look_and_the_taking_is_not_taken);
	tcase_add_test(test, attached_descriptors_end_the_connection_or_are_refused);
	tcase_add_test(test, a_lingering_socket_holds_nobody_up);
	tcase_add_test(test, who_is_turned_away_holds_nobody_up_either);
	tcase_add_test(test, a_context_with_lingering_sockets_ends_at_once);
	tcase_add_test(test, a_file_whose_close_hangs_holds_nobody_up);
	tcase_add_test(test, nothing_under_a_name_makes_an_open_wait);
	tcase_add_test(test, a_flood_leaves_the_others_served);
	suite_add_tcase(suite, test);
	suite_add_tcase(suite, hostile_case_of_closing());
	suite_add_tcase(suite, hostile_case_of_work());
	suite_add_tcase(suite, hostile_case_of_undelivered());
	suite_add_tcase(suite, hostile_case_of_storms());
	suite_add_tcase(suite, hostile_case_of_races());
	return suite;
}
