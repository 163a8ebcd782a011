/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The wire: names, packets and their descriptors, the codec. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/codec.h"
#include "proto/name.h"
#include "tests/test.h"

static char long_name[258];

static const struct {
	const char *text;
	int for_open, for_unlink;
} names[] = {
	{ "a", 0, 0 },
	{ "/a", 0, 0 },
	{ "///a", 0, 0 },
	{ "\x01\xff", 0, 0 },
	{ "a b", 0, 0 },
	{ "...", 0, 0 },
	{ "shmbroker.", 0, 0 },
	{ "", EINVAL, ENOENT },
	{ "/", EINVAL, ENOENT },
	{ ".", EINVAL, EINVAL },
	{ "/..", EINVAL, EINVAL },
	{ "a/b", EINVAL, ENOENT },
	{ "a/", EINVAL, ENOENT },
	{ ".shmbroker.", EINVAL, ENOENT },
	{ "/.shmbroker.0123456789abcdef", EINVAL, ENOENT },
	{ long_name, ENAMETOOLONG, ENAMETOOLONG },
	{ long_name + 1, 0, 0 },
};

START_TEST(names_are_one_component_of_at_most_255_bytes)
{
	struct name name;

	memset(long_name, 'x', 256);
	name = name_strip(names[_i].text, strlen(names[_i].text));
	ck_assert_int_eq(name_check(name, false), names[_i].for_open);
	ck_assert_int_eq(name_check(name, true), names[_i].for_unlink);
}
END_TEST

START_TEST(a_nul_byte_is_in_no_name)
{
	ck_assert_int_eq(name_check((struct name){ "a\0b", 3 }, false), EINVAL);
	ck_assert_int_eq(name_check((struct name){ "a\0b", 3 }, true), ENOENT);
}
END_TEST

static const struct {
	const char *text;
	bool legal;
} apps[] = {
	{ "org.example.Viewer-1_2", true },
	{ "a", true },
	{ "", false },
	{ "a/b", false },
	{ "a b", false },
	{ "ä", false },
	{ "a\n", false },
	{ "..", true },
};

START_TEST(an_app_is_letters_digits_and_three_marks)
{
	char text[130];

	ck_assert_int_eq(name_is_app(apps[_i].text, strlen(apps[_i].text)), apps[_i].legal);
	memset(text, 'a', sizeof(text));
	ck_assert(name_is_app(text, 128));
	ck_assert(!name_is_app(text, 129));
}
END_TEST

static void make_pair(int *pair)
{
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
}

static const size_t fd_counts[] = { 0, 1, 2, 252, 253 };

START_TEST(a_packet_carries_up_to_253_descriptors)
{
	struct iovec part = { (char *)"packet", 6 };
	struct fdlist sent = { 0 }, got = { 0 };
	char buffer[16];
	int pair[2];

	make_pair(pair);
	for (size_t i = 0; i < fd_counts[_i]; i++)
		ck_assert_int_eq(
			fdlist_take(&sent, open("/dev/null", O_RDONLY | O_CLOEXEC), WIRE_FD_OBJECT),
			0);
	ck_assert_int_eq(packet_send(pair[0], &part, 1, &sent, 0), 0);
	ck_assert_int_eq(packet_receive(pair[1], buffer, sizeof(buffer), &got, 0), 6);
	ck_assert_uint_eq(got.count, fd_counts[_i]);
	for (size_t i = 0; i < got.count; i++)
		ck_assert_int_eq(fcntl(got.fd[i], F_GETFD), FD_CLOEXEC);
	fdlist_close(&sent);
	fdlist_close(&got);
	close(pair[0]);
	close(pair[1]);
}
END_TEST

START_TEST(a_list_is_full_at_253_and_closes_what_it_refuses)
{
	struct fdlist list = { 0 };
	int fd;

	for (size_t i = 0; i < WIRE_FDS_MAX; i++)
		ck_assert_int_eq(fdlist_take(&list, dup(0), WIRE_FD_OBJECT), 0);
	fd = dup(0);
	ck_assert_int_eq(fdlist_take(&list, fd, WIRE_FD_OBJECT), -EMFILE);
	ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
	fdlist_close(&list);
}
END_TEST

START_TEST(a_packet_too_long_for_the_buffer_is_told)
{
	struct iovec part = { (char *)"0123456789", 10 };
	struct fdlist fds = { 0 };
	char buffer[4];
	int pair[2];

	make_pair(pair);
	packet_send(pair[0], &part, 1, NULL, 0);
	ck_assert_int_eq(packet_receive(pair[1], buffer, sizeof(buffer), &fds, 0), -EMSGSIZE);
	packet_send(pair[0], &part, 1, NULL, 0);
	ck_assert_int_eq(packet_receive(pair[1], buffer, sizeof(buffer), NULL, 0), -EMSGSIZE);
	close(pair[0]);
	ck_assert_int_eq(packet_receive(pair[1], buffer, sizeof(buffer), NULL, 0), 0);
	close(pair[1]);
}
END_TEST

START_TEST(descriptors_nobody_asked_for_stay_with_the_kernel)
{
	struct iovec part = { (char *)"x", 1 };
	struct fdlist sent = { 0 };
	char buffer[4];
	int pair[2];

	make_pair(pair);
	fdlist_take(&sent, dup(0), WIRE_FD_OBJECT);
	packet_send(pair[0], &part, 1, &sent, 0);
	fdlist_close(&sent);
	ck_assert_int_eq(packet_receive(pair[1], buffer, sizeof(buffer), NULL, 0), 1);
	close(pair[0]);
	close(pair[1]);
}
END_TEST

/* A socket can be told to say who sends, too. */
START_TEST(what_else_comes_with_a_packet_is_no_descriptor)
{
	char byte = 'x', buffer[4];
	struct iovec part = { .iov_base = &byte, .iov_len = 1 };
	struct fdlist sent = { .count = 0 }, got = { .count = 0 };
	int pair[2], fd;

	make_pair(pair);
	ck_assert_int_eq(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &(int){ 1 }, sizeof(int)), 0);
	ck_assert_int_eq(packet_send(pair[0], &part, 1, NULL, 0), 0);
	ck_assert_int_eq(packet_receive(pair[1], buffer, sizeof(buffer), &got, 0), 1);
	ck_assert_uint_eq(got.count, 0);
	ck_assert_int_eq(fdlist_steal_only(&got), -EBADF);
	fdlist_take(&sent, dup(0), WIRE_FD_OBJECT);
	ck_assert_int_eq(packet_send(pair[0], &part, 1, &sent, 0), 0);
	fdlist_close(&sent);
	ck_assert_int_eq(packet_receive(pair[1], buffer, sizeof(buffer), &got, 0), 1);
	ck_assert_uint_eq(got.count, 1);
	fd = fdlist_steal_only(&got);
	ck_assert_int_ge(fd, 0);
	close(fd);
	close(pair[0]);
	close(pair[1]);
}
END_TEST

/* Every request cut at every length, and every operation's number. */
START_TEST(a_request_is_whole_or_refused)
{
	static const struct {
		uint16_t operation;
		size_t fixed;
	} operations[] = {
		{ WIRE_OPEN, sizeof(struct wire_open) },
		{ WIRE_UNLINK, sizeof(struct wire_name) },
		{ WIRE_STAT, sizeof(struct wire_name) },
		{ WIRE_LIST, sizeof(struct wire_name) },
		{ WIRE_PUBLISH, sizeof(struct wire_publish) },
		{ WIRE_CREATE_CONTEXT, sizeof(struct wire_create_context) },
		{ WIRE_LEND, sizeof(struct wire_lend) },
		{ WIRE_CANCEL, sizeof(struct wire_cancel) },
		{ WIRE_POOLS, sizeof(struct wire_name) },
		{ WIRE_STATUS, sizeof(struct wire_name) },
		{ WIRE_EXPLAIN, sizeof(struct wire_fields) },
		{ WIRE_RELOAD, sizeof(struct wire_name) },
		{ WIRE_DROP, sizeof(struct wire_name) },
		{ 999, sizeof(struct wire_request) },
	};
	unsigned char packet[REQUEST_BUFFER];

	for (size_t o = 0; o < sizeof(operations) / sizeof(*operations); o++) {
		for (size_t size = 0; size <= operations[o].fixed + 3; size++) {
			struct wire_request head = { .serial = 7,
						     .operation = operations[o].operation };
			struct request request;
			int expected = size < operations[o].fixed ? -EPROTO : 0;

			memset(packet, 'n', sizeof(packet));
			memcpy(packet, &head, sizeof(head));
			ck_assert_int_eq(request_decode(&request, packet, size), expected);
			if (expected || operations[o].operation == 999)
				continue;
			ck_assert_uint_eq(request.serial, 7);
			ck_assert_uint_eq(request.text_size, size - operations[o].fixed);
			ck_assert_uint_eq(strlen(request.text), request.text_size);
		}
	}
}
END_TEST

START_TEST(a_request_of_4096_bytes_is_the_longest)
{
	unsigned char packet[REQUEST_BUFFER + 1] = { 0 };
	struct wire_request head = { .serial = 1, .operation = WIRE_STAT };
	struct request request;

	memset(packet, 'n', sizeof(packet));
	memcpy(packet, &head, sizeof(head));
	ck_assert_int_eq(request_decode(&request, packet, WIRE_REQUEST_MAX), 0);
	ck_assert_int_eq(request_decode(&request, packet, WIRE_REQUEST_MAX + 1), -EPROTO);
	head.reserved = 1;
	memcpy(packet, &head, sizeof(head));
	ck_assert_int_eq(request_decode(&request, packet, 20), -EPROTO);
}
END_TEST

START_TEST(the_highest_version_that_both_know_is_spoken)
{
	static const struct {
		uint16_t min, max;
		int expected;
	} rows[] = {
		{ 1, 1, 0 },
		{ 1, 99, 0 },
		{ 2, 99, -EPROTONOSUPPORT },
		{ 0, 0, -EPROTONOSUPPORT },
		{ 5, 3, -EPROTO },
	};
	struct wire_hello hello = { .magic = WIRE_MAGIC, .size = sizeof(hello) };
	uint16_t version = 0;

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		hello.version_min = rows[i].min;
		hello.version_max = rows[i].max;
		ck_assert_int_eq(hello_decode(&version, (unsigned char *)&hello, sizeof(hello)),
				 rows[i].expected);
		if (rows[i].expected == 0)
			ck_assert_uint_eq(version, 1);
	}
	hello.version_min = hello.version_max = 1;
	ck_assert_int_eq(hello_decode(&version, (unsigned char *)&hello, 31), -EPROTO);
	hello.magic++;
	ck_assert_int_eq(hello_decode(&version, (unsigned char *)&hello, sizeof(hello)), -EPROTO);
}
END_TEST

START_TEST(a_reply_says_the_kind_of_each_descriptor)
{
	static unsigned char body[REPLY_BODY_MAX];
	static struct reply reply = { .body = body };
	static struct reply_packet packet;
	const struct request request = { .serial = 9, .operation = WIRE_OPEN };

	for (size_t count = 0; count <= WIRE_FDS_MAX; count += 11) {
		reply.fds.count = count;
		for (size_t i = 0; i < count; i++)
			reply.fds.kind[i] = (uint8_t)(1 + i % 4);
		reply.body_size = 8;
		reply_encode(&packet, &request, &reply);
		ck_assert_uint_eq(packet.header.serial, 9);
		ck_assert_uint_eq(packet.header.fd_count, count);
		if (count == 0)
			continue;
		ck_assert_uint_eq(packet.part[1].iov_len % 8, 0);
		ck_assert_uint_ge(packet.part[1].iov_len, count);
		ck_assert_mem_eq(packet.part[1].iov_base, reply.fds.kind, count);
		for (size_t i = count; i < packet.part[1].iov_len; i++)
			ck_assert_int_eq(packet.kinds[i], 0);
	}
}
END_TEST

START_TEST(fields_end_where_the_body_does)
{
	static unsigned char body[REPLY_BODY_MAX];
	struct reply reply = { .body = body };
	unsigned count = 0;

	while (reply_field(&reply, "key", "%u", count))
		count++;
	ck_assert_uint_gt(count, 1000);
	ck_assert_uint_le(reply.body_size, REPLY_BODY_MAX);
	ck_assert_str_eq(fields_get((char *)body, reply.body_size, "key"), "0");
	ck_assert_ptr_null(fields_get((char *)body, reply.body_size, "ke"));
	ck_assert_ptr_null(fields_get((char *)body, 4, "missing"));
}
END_TEST

Suite *suite_proto(void)
{
	Suite *suite = suite_create("proto");
	TCase *test = tcase_create("proto");

	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_loop_test(test, names_are_one_component_of_at_most_255_bytes, 0,
			    sizeof(names) / sizeof(*names));
	tcase_add_test(test, a_nul_byte_is_in_no_name);
	tcase_add_loop_test(test, an_app_is_letters_digits_and_three_marks, 0,
			    sizeof(apps) / sizeof(*apps));
	tcase_add_loop_test(test, a_packet_carries_up_to_253_descriptors, 0,
			    sizeof(fd_counts) / sizeof(*fd_counts));
	tcase_add_test(test, a_list_is_full_at_253_and_closes_what_it_refuses);
	tcase_add_test(test, a_packet_too_long_for_the_buffer_is_told);
	tcase_add_test(test, descriptors_nobody_asked_for_stay_with_the_kernel);
	tcase_add_test(test, what_else_comes_with_a_packet_is_no_descriptor);
	tcase_add_test(test, a_request_is_whole_or_refused);
	tcase_add_test(test, a_request_of_4096_bytes_is_the_longest);
	tcase_add_test(test, the_highest_version_that_both_know_is_spoken);
	tcase_add_test(test, a_reply_says_the_kind_of_each_descriptor);
	tcase_add_test(test, fields_end_where_the_body_does);
	suite_add_tcase(suite, test);
	return suite;
}
