/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Connections: how they begin and end, and everything that can come out of a socket
 * whose other end is late, hostile or gone.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/fake_peer.h"
#include "tests/test.h"

START_TEST(hello_decides_whether_there_is_a_connection)
{
	const struct wire_hello good = fake_good_hello();
	struct wire_hello rows[10];
	static const int expected[10] = {
		0, 0, 0, -EPROTO, -EPROTO, -EPROTO, -EPROTO, -EPROTO, -EPROTO, -EPROTO,
	};

	for (size_t i = 0; i < 10; i++)
		rows[i] = good;
	rows[1].version_max = 9;
	rows[2].fds_max = 65535;
	rows[3].version_min = rows[3].version_max = 2; /* only newer */
	rows[4].version_min = rows[4].version_max = 0; /* none */
	rows[5].version_min = 2;		       /* upside down */
	rows[6].magic = 0x62736873;
	rows[7].size = sizeof(good) - 8;
	rows[8].size = sizeof(good) + 8;
	rows[9].status = -EACCES;
	for (size_t i = 0; i < 10; i++) {
		struct shmb *c = NULL;
		int r = fake_connect_to(&c, &rows[i], sizeof(rows[i]));

		ck_assert_msg(r == expected[i], "row %zu: %d", i, r);
		ck_assert((r == 0) == (c != NULL));
		ck_assert((r == 0) == (*shmb_reason(NULL) == '\0'));
		if (r == 0)
			fake_end(c);
	}
}
END_TEST

START_TEST(hello_may_be_longer_and_garbage_is_refused)
{
	struct {
		struct wire_hello hello;
		uint64_t more;
	} longer = { fake_good_hello(), 1 };
	char garbage[3000] = "HTTP/1.1 400 Bad Request";
	struct shmb *c;

	longer.hello.size = sizeof(longer);
	ck_assert_int_eq(fake_connect_to(&c, &longer, sizeof(longer)), 0);
	fake_end(c);
	ck_assert_int_eq(fake_connect_to(&c, garbage, 24), -EPROTO);
	ck_assert_int_eq(fake_connect_to(&c, garbage, 1), -EPROTO);
	ck_assert_int_eq(fake_connect_to(&c, garbage, 40), -EPROTO);
	ck_assert_int_eq(fake_connect_to(&c, garbage, sizeof(garbage)), -EPROTO);
	ck_assert_int_eq(fake_connect_to(&c, NULL, 0), -ECONNRESET);
}
END_TEST

START_TEST(client_that_is_turned_away_learns_errno_and_text)
{
	struct {
		struct wire_hello hello;
		char text[16];
	} packet = { fake_good_hello(), "too many\n of you" };
	struct shmb *c = NULL;

	packet.hello.status = EDQUOT;
	ck_assert_int_eq(fake_connect_to(&c, &packet, sizeof(packet)), -EDQUOT);
	ck_assert_ptr_null(c);
	ck_assert_str_eq(shmb_reason(NULL), "too many? of you");
}
END_TEST

START_TEST(silent_broker_is_waited_for_no_longer_than_the_timeout)
{
	struct shmb *c;

	shmb_default_timeout_ms = 10;
	ck_assert_int_eq(shmb_connect_fd(&c, fake_pair()), -ETIMEDOUT);
	close(fake_peer);
	shmb_default_timeout_ms = 25000;
}
END_TEST

static int listen_without_accepting(char *ret_path, size_t size)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%.90s/socket", test_directory());
	snprintf(ret_path, size, "%s", address.sun_path);
	ck_assert_int_eq(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(fd, 0), 0);
	return fd;
}

/* The first waits for a hello, in the only place that there is; the second for that place. */
START_TEST(full_queue_is_waited_for_no_longer_than_the_timeout)
{
	char path[108];
	int listener = listen_without_accepting(path, sizeof(path));
	struct shmb *c;

	shmb_default_timeout_ms = 10;
	ck_assert_int_eq(shmb_connect(&c, path), -ETIMEDOUT);
	ck_assert_int_eq(shmb_connect(&c, path), -ETIMEDOUT);
	ck_assert_ptr_nonnull(strstr(shmb_reason(NULL), "can't connect"));
	shmb_default_timeout_ms = 25000;
	close(listener);
	unlink(path);
}
END_TEST

START_TEST(connect_fd_takes_packet_sockets_alone_and_closes_the_others)
{
	static const int types[] = { SOCK_STREAM, SOCK_DGRAM };
	struct shmb *c;
	int sockets[2];

	for (size_t i = 0; i < 2; i++) {
		ck_assert_int_eq(socketpair(AF_UNIX, types[i], 0, sockets), 0);
		ck_assert_int_eq(shmb_connect_fd(&c, sockets[0]), -EPROTOTYPE);
		ck_assert_int_eq(fcntl(sockets[0], F_GETFD), -1);
		close(sockets[1]);
	}
	ck_assert_int_eq(shmb_connect_fd(&c, dup(0)), -EPROTOTYPE);
	ck_assert_int_eq(shmb_connect_fd(&c, -1), -EBADF);
	ck_assert_int_eq(shmb_connect(&c, "/nowhere/socket"), -ECONNREFUSED);
	ck_assert_ptr_nonnull(strstr(shmb_reason(NULL), "/nowhere/socket"));
}
END_TEST

START_TEST(late_reply_never_answers_the_next_call)
{
	struct shmb *c = fake_connected();
	struct fake_packet packet;
	int lowest = dup(0);

	close(lowest);
	ck_assert_int_eq(shmb_set_timeout(c, 5), 0);
	ck_assert_int_eq(shmb_open(c, "a", O_RDWR, 0), -ETIMEDOUT);
	ck_assert_str_ne(shmb_reason(c), "");
	/* It comes after all, and the next call's is behind it. */
	fake_say(&packet, fake_open_reply(&packet, 1), 1);
	fake_say_status(2, WIRE_OPEN, ENOENT, "no such object");
	ck_assert_int_eq(shmb_open(c, "b", O_RDWR, 0), -ENOENT);
	ck_assert_str_eq(shmb_reason(c), "no such object");
	/* Late ones cost time, but not more than there is. */
	for (int i = 0; i < 5; i++)
		fake_say(&packet, fake_open_reply(&packet, 1), 1);
	ck_assert_int_eq(shmb_open(c, "c", O_RDWR, 0), -ETIMEDOUT);
	ck_assert_int_eq(dup(0), lowest);
	close(lowest);
	fake_end(c);
}
END_TEST

/* It is longer than what a small call has room for. */
START_TEST(late_part_of_a_listing_is_dropped_by_a_small_call)
{
	static char large[WIRE_PACKET_MAX / 2];
	struct wire_reply *reply = (void *)large;
	struct shmb *c = fake_connected();

	ck_assert_int_eq(shmb_set_timeout(c, 5), 0);
	ck_assert_int_eq(shmb_list(c, NULL, sizeof(struct shmb_info), NULL, NULL), -ETIMEDOUT);
	*reply = (struct wire_reply){ .serial = 1, .operation = WIRE_LIST, .flags = WIRE_MORE };
	fake_say(large, sizeof(large), 0);
	fake_say_status(1, WIRE_LIST, ECANCELED, "");
	/* 2 was the cancel. */
	fake_say_status(3, WIRE_UNLINK, 0, "");
	ck_assert_int_eq(shmb_unlink(c, "a"), 0);
	fake_end(c);
}
END_TEST

START_TEST(timeout_is_checked)
{
	struct shmb *c = fake_connected();

	ck_assert_int_eq(shmb_set_timeout(c, -2), -EINVAL);
	ck_assert_int_eq(shmb_set_timeout(c, 0), 0);
	ck_assert_int_eq(shmb_unlink(c, "a"), -ETIMEDOUT);
	ck_assert_int_eq(shmb_set_timeout(c, -1), 0);
	fake_say_status(2, WIRE_UNLINK, 0, "");
	ck_assert_int_eq(shmb_unlink(c, "a"), 0);
	fake_end(c);
}
END_TEST

START_TEST(unknown_operation_keeps_the_connection)
{
	struct shmb *c = fake_connected();
	uint64_t features;

	fake_say_status(1, WIRE_PUBLISH, EOPNOTSUPP, "this broker is older");
	ck_assert_int_eq(shmb_publish(c, "a", SHMB_REPLACE), -EOPNOTSUPP);
	fake_say_status(2, WIRE_UNLINK, 0, "");
	ck_assert_int_eq(shmb_unlink(c, "a"), 0);
	ck_assert_str_eq(shmb_reason(c), "");
	ck_assert_int_eq(shmb_features(c, &features), 0);
	ck_assert_uint_eq(features, SHMB_FEATURE_READ_ONLY | 1ull << 40);
	fake_end(c);
}
END_TEST

/* What can be wrong with an open's reply, each a change of a good one. */
static size_t spoil(size_t row, struct fake_packet *packet, size_t size, size_t *fds)
{
	struct wire_reply *reply = &packet->reply;

	switch (row) {
	case 0: /* too short for a header */
		return 15;
	case 1: /* too short for its kinds */
		return 16;
	case 2: /* too short for its body */
		return size - 4;
	case 3: /* too long */
		return size + 8;
	case 4: /* another kind */
		packet->rest[0] = WIRE_FD_HOLD;
		return size;
	case 5: /* padding */
		packet->rest[7] = 1;
		return size;
	case 6: /* announced, not there */
		*fds = 0;
		return size;
	case 7: /* there, not announced */
		reply->fd_count = 0;
		return size;
	case 8: /* more than one */
		reply->fd_count = 2;
		packet->rest[1] = WIRE_FD_OBJECT;
		*fds = 2;
		return size;
	case 9:
		reply->fd_count = 65535;
		return sizeof(*packet);
	case 10:
		reply->operation = WIRE_UNLINK;
		return size;
	case 11:
		reply->flags = WIRE_MORE;
		return size;
	case 12:
		reply->flags = 1u << 7;
		return size;
	case 13:
		reply->reserved = 1;
		return size;
	case 14:
		reply->status = -1;
		return size;
	case 15:
		reply->status = 4096;
		return size;
	case 16: /* a refusal with a descriptor */
		reply->status = EACCES;
		return size;
	case 17: /* never asked */
		reply->serial = 2;
		return size;
	case 18:
		reply->serial = 0;
		return size;
	case 19:
		*fds = 253;
		return size;
	default: /* a success without a descriptor */
		reply->fd_count = 0;
		*fds = 0;
		return sizeof(*reply);
	}
}

#define SPOIL_ROWS 21

START_TEST(hostile_reply_breaks_the_connection_and_leaves_nothing)
{
	for (size_t row = 0; row < SPOIL_ROWS; row++) {
		struct shmb *c = fake_connected();
		struct fake_packet packet;
		size_t fds = 1;
		int lowest = dup(0), r;
		size_t size = fake_open_reply(&packet, 1);

		close(lowest);
		size = spoil(row, &packet, size, &fds);
		fake_say(&packet, size, fds);
		r = shmb_open(c, "a", O_RDWR, 0);
		ck_assert_msg(r == -EPROTO, "row %zu: %d", row, r);
		ck_assert_str_ne(shmb_reason(c), "");
		ck_assert_int_eq(shmb_unlink(c, "a"), -EPROTO);
		ck_assert_int_eq(dup(0), lowest);
		close(lowest);
		fake_end(c);
	}
}
END_TEST

/* What a broker says is its own to say; the rest the program would take for the library's. */
START_TEST(status_that_only_the_library_can_know_is_not_passed_on)
{
	static const struct {
		int told, expected;
	} rows[] = {
		{ EPERM, -EACCES },	{ EINTR, -EPROTO },  { ECONNRESET, -EPROTO },
		{ ETIMEDOUT, -EPROTO }, { ECHILD, -EPROTO }, { ECONNREFUSED, -EPROTO },
		{ EPIPE, -EPROTO },	{ ENOSPC, -ENOSPC }, { EAGAIN, -EAGAIN },
		{ EDQUOT, -EDQUOT },
	};
	struct wire_hello hello = fake_good_hello();
	struct shmb *c;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		c = fake_connected();
		fake_say_status(1, WIRE_UNLINK, rows[i].told, "told");
		ck_assert_int_eq(shmb_unlink(c, "a"), rows[i].expected);
		if (rows[i].expected != -EPROTO)
			ck_assert_str_eq(shmb_reason(c), "told");
		fake_end(c);
		hello.status = rows[i].told;
		ck_assert_int_eq(fake_connect_to(&c, &hello, sizeof(hello)), rows[i].expected);
	}
}
END_TEST

START_TEST(reply_longer_than_any_is_refused)
{
	static char large[WIRE_PACKET_MAX];
	struct wire_reply *reply = (void *)large;
	struct shmb *c = fake_connected();

	*reply = (struct wire_reply){ .serial = 1, .operation = WIRE_UNLINK, .status = EACCES };
	memset(large + sizeof(*reply), 'x', sizeof(large) - sizeof(*reply));
	fake_say(large, sizeof(large), 0);
	ck_assert_int_eq(shmb_unlink(c, "a"), -EACCES);
	ck_assert_uint_eq(strlen(shmb_reason(c)), SHMB_REASON_SIZE - 1);
	reply->serial = 2;
	reply->status = 0;
	fake_say(large, sizeof(large), 0);
	ck_assert_int_eq(shmb_unlink(c, "a"), -EPROTO);
	fake_end(c);
}
END_TEST

/* 0: before the request; 1: with the request unread; 2: after it; 3: amid a listing. */
static int lose(int row)
{
	struct shmb *c = fake_connected();
	char packet[64];
	int r;

	if (row == 1 || row == 2) {
		/* It ends while we wait: the child is the one that reads, or not. */
		pid_t pid = fork();

		if (pid == 0) {
			while (recv(fake_peer, packet, sizeof(packet), row == 1 ? MSG_PEEK : 0) < 0)
				;
			_exit(0);
		}
		close(fake_peer);
		r = shmb_unlink(c, "a");
		waitpid(pid, NULL, 0);
	} else {
		if (row == 3)
			fake_say_list(1, WIRE_MORE, NULL, NULL);
		shutdown(fake_peer, row == 3 ? SHUT_WR : SHUT_RDWR);
		r = row == 3 ? shmb_list(c, NULL, sizeof(struct shmb_info), NULL, NULL)
			     : shmb_unlink(c, "a");
		close(fake_peer);
	}
	ck_assert_int_eq(c->unread, row < 2);
	ck_assert_int_eq(shmb_unlink(c, "a"), -ECONNRESET);
	shmb_disconnect(c);
	return r;
}

START_TEST(connection_is_reset_wherever_the_broker_ends)
{
	signal(SIGPIPE, SIG_DFL);
	for (int row = 0; row < 4; row++)
		ck_assert_msg(lose(row) == -ECONNRESET, "row %d", row);
}
END_TEST

static int child_of(struct shmb *c)
{
	struct shmb_info info;

	if (shmb_open(c, "a", O_RDWR, 0) != -ECHILD || shmb_unlink(c, "a") != -ECHILD ||
	    shmb_stat(c, "a", &info, sizeof(info)) != -ECHILD || shmb_set_timeout(c, 1) != -ECHILD)
		return 1;
	errno = 77;
	shmb_disconnect(c);
	shmb_disconnect(NULL);
	return errno != 77;
}

START_TEST(forked_child_may_only_disconnect)
{
	struct shmb *c = fake_connected();
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(child_of(c));
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	fake_say_status(1, WIRE_UNLINK, 0, "");
	ck_assert_int_eq(shmb_unlink(c, "a"), 0);
	fake_end(c);
}
END_TEST

static TCase *case_of_connections(void)
{
	TCase *tcase = tcase_create("connection");

	tcase_add_test(tcase, hello_decides_whether_there_is_a_connection);
	tcase_add_test(tcase, hello_may_be_longer_and_garbage_is_refused);
	tcase_add_test(tcase, client_that_is_turned_away_learns_errno_and_text);
	tcase_add_test(tcase, silent_broker_is_waited_for_no_longer_than_the_timeout);
	tcase_add_test(tcase, full_queue_is_waited_for_no_longer_than_the_timeout);
	tcase_add_test(tcase, connect_fd_takes_packet_sockets_alone_and_closes_the_others);
	tcase_add_test(tcase, late_reply_never_answers_the_next_call);
	tcase_add_test(tcase, late_part_of_a_listing_is_dropped_by_a_small_call);
	tcase_add_test(tcase, timeout_is_checked);
	tcase_add_test(tcase, unknown_operation_keeps_the_connection);
	tcase_add_test(tcase, hostile_reply_breaks_the_connection_and_leaves_nothing);
	tcase_add_test(tcase, reply_longer_than_any_is_refused);
	tcase_add_test(tcase, status_that_only_the_library_can_know_is_not_passed_on);
	tcase_add_test(tcase, connection_is_reset_wherever_the_broker_ends);
	tcase_add_test(tcase, forked_child_may_only_disconnect);
	return tcase;
}

Suite *suite_library(void)
{
	Suite *suite = suite_create("library");
	TCase *cases[] = { case_of_connections(), library_case_of_calls() };

	for (size_t i = 0; i < 2; i++) {
		tcase_add_checked_fixture(cases[i], test_fds_setup, test_fds_teardown);
		suite_add_tcase(suite, cases[i]);
	}
	return suite;
}
