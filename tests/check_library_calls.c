/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What each call of a connection sends, and makes of the answer. Part of the library's suite. */
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/fake_broker.h"
#include "tests/fake_peer.h"
#include "tests/test.h"

START_TEST(open_is_one_request_and_one_reply)
{
	struct shmb *c = fake_connected();
	struct fake_packet packet;
	unsigned char asked[256];
	const struct wire_open *open = (const void *)asked;
	int fd, lowest = dup(0);

	close(lowest);
	fake_say(&packet, fake_open_reply(&packet, 1), 1);
	umask(027);
	fd = shmb_open(c, "//frames", O_RDWR | O_CREAT | O_EXCL | O_TRUNC | O_APPEND | O_SYNC,
		       0666);
	ck_assert_int_eq(fd, lowest);
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(fd);
	ck_assert_int_eq(recv(fake_peer, asked, sizeof(asked), MSG_DONTWAIT), sizeof(*open) + 6);
	ck_assert_uint_eq(open->request.serial, 1);
	ck_assert_uint_eq(open->request.operation, WIRE_OPEN);
	ck_assert_uint_eq(open->request.reserved, 0);
	ck_assert_uint_eq(open->flags, WIRE_OPEN_FLAGS);
	ck_assert_uint_eq(open->mode, 0640);
	ck_assert_mem_eq(asked + sizeof(*open), "frames", 6);
	fake_say(&packet, fake_open_reply(&packet, 2), 1);
	fd = shmb_open(c, "frames", O_RDONLY | O_EXCL, 0666);
	close(fd);
	ck_assert_int_eq(recv(fake_peer, asked, sizeof(asked), MSG_DONTWAIT), sizeof(*open) + 6);
	ck_assert_uint_eq(open->flags, WIRE_READ);
	ck_assert_uint_eq(open->mode, 0);
	fake_end(c);
}
END_TEST

/* Counts in *userdata; calls on the connection; ends at a name of "stop". */
struct seen {
	struct shmb *c;
	int count, result;
};

static int see(const struct shmb_info *info, void *userdata)
{
	struct seen *seen = userdata;

	ck_assert_int_eq(shmb_unlink(seen->c, "a"), -EBUSY);
	ck_assert_str_eq(info->pool, "host");
	ck_assert_str_eq(info->owner, "1000");
	ck_assert_uint_eq(info->size, 4096);
	ck_assert_uint_eq(info->mode, 0640);
	seen->count++;
	return strcmp(info->name, "stop") == 0 ? seen->result : 0;
}

START_TEST(listing_comes_in_parts)
{
	struct shmb *c = fake_connected();
	struct seen seen = { .c = c };
	char asked[64];

	fake_say_list(1, WIRE_MORE, "a", "bb");
	fake_say_list(1, WIRE_MORE, NULL, NULL);
	fake_say_list(1, 0, "stop", NULL);
	ck_assert_int_eq(shmb_list(c, "/frames-*", sizeof(struct shmb_info), see, &seen), 0);
	ck_assert_int_eq(seen.count, 3);
	ck_assert_int_eq(recv(fake_peer, asked, sizeof(asked), MSG_DONTWAIT), 8 + 8);
	ck_assert_mem_eq(asked + 8, "frames-*", 8);
	fake_say_list(2, 0, NULL, NULL);
	ck_assert_int_eq(shmb_list(c, NULL, sizeof(struct shmb_info), see, &seen), 0);
	ck_assert_int_eq(recv(fake_peer, asked, sizeof(asked), MSG_DONTWAIT), 8 + 1);
	ck_assert_int_eq(asked[8], '*');
	fake_end(c);
}
END_TEST

START_TEST(callback_ends_a_listing_and_the_rest_is_cancelled)
{
	static const int results[] = { 5, -ENOSPC };

	for (size_t i = 0; i < 2; i++) {
		struct shmb *c = fake_connected();
		struct seen seen = { .c = c, .result = results[i] };
		struct wire_cancel cancel;
		char asked[64];

		fake_say_list(1, WIRE_MORE, "stop", "b");
		fake_say_list(1, WIRE_MORE, "c", "d");
		fake_say_status(1, WIRE_LIST, ECANCELED, "");
		ck_assert_int_eq(shmb_list(c, "*", sizeof(struct shmb_info), see, &seen),
				 results[i]);
		ck_assert_int_eq(seen.count, 1);
		recv(fake_peer, asked, sizeof(asked), MSG_DONTWAIT);
		ck_assert_int_eq(recv(fake_peer, &cancel, sizeof(cancel), MSG_DONTWAIT),
				 sizeof(cancel));
		ck_assert_uint_eq(cancel.request.operation, WIRE_CANCEL);
		ck_assert_uint_eq(cancel.cancelled_serial, 1);
		fake_say_status(3, WIRE_UNLINK, 0, "");
		ck_assert_int_eq(shmb_unlink(c, "a"), 0);
		fake_end(c);
	}
}
END_TEST

/* Each a change of a good record that makes it impossible. */
static void spoil_record(size_t row, unsigned char *at, size_t *size)
{
	struct wire_info *info = (void *)at;

	switch (row) {
	case 0:
		*size = sizeof(*info) - 8;
		break;
	case 1:
		info->record_size += 8;
		break;
	case 2:
		info->record_size = 0;
		break;
	case 3:
		info->record_size -= 1;
		break;
	case 4:
		info->owner_size = 255;
		break;
	case 5:
		info->name_size = 0;
		break;
	case 6:
		at[sizeof(*info)] = '/';
		break;
	case 7:
		at[sizeof(*info) + 1] = '\0';
		break;
	case 8: /* something behind it */
		*size += 8;
		break;
	default: /* a longer pool than there is room for */
		info->pool_size = 64;
		info->record_size = 160;
		memset(at + sizeof(*info), 'x', 160 - sizeof(*info));
		*size = 160;
		break;
	}
}

static int no_object(const struct shmb_info *info, void *userdata)
{
	return 0;
}

START_TEST(hostile_record_breaks_the_connection)
{
	for (size_t row = 0; row < 20; row++) {
		struct shmb *c = fake_connected();
		uint16_t operation = row < 10 ? WIRE_STAT : WIRE_LIST;
		struct fake_packet packet = { .reply = { .serial = 1, .operation = operation } };
		size_t size = fake_record(packet.rest, "name");
		struct shmb_info info;
		int r;

		spoil_record(row % 10, packet.rest, &size);
		fake_say(&packet, sizeof(packet.reply) + size, 0);
		r = row < 10 ? shmb_stat(c, "name", &info, sizeof(info))
			     : shmb_list(c, NULL, sizeof(info), no_object, NULL);
		ck_assert_msg(r == -EPROTO, "row %zu: %d", row, r);
		fake_end(c);
	}
}
END_TEST

START_TEST(stat_fills_what_it_knows_and_zeroes_the_rest)
{
	struct {
		struct shmb_info info;
		uint64_t later;
	} longer;
	struct shmb *c = fake_connected();
	struct fake_packet packet = { .reply = { .serial = 1, .operation = WIRE_STAT } };
	struct wire_info *wire = (void *)packet.rest;
	size_t size = fake_record(packet.rest, "name");

	/* A newer broker's record is longer. */
	wire->record_size += 16;
	memset(&longer, 0xff, sizeof(longer));
	ck_assert_int_eq(shmb_stat(c, "name", &longer.info, sizeof(longer.info) - 1), -EINVAL);
	fake_say(&packet, sizeof(packet.reply) + size + 16, 0);
	ck_assert_int_eq(shmb_stat(c, "/name", &longer.info, sizeof(longer)), 0);
	ck_assert_str_eq(longer.info.name, "name");
	ck_assert_uint_eq(longer.info.ino, 7);
	ck_assert_uint_eq(longer.later, 0);
	fake_end(c);
}
END_TEST

START_TEST(structures_grow_at_their_end)
{
	struct {
		struct shmb_how how;
		uint64_t later;
	} rows[] = {
		{ { .oflag = O_RDWR }, 1 },
		{ { .oflag = O_RDWR, .flags = 1ull << 40 }, 0 },
		{ { .oflag = O_RDWR | 1ull << 33 }, 0 },
		{ { .oflag = O_RDWR, .mode = 010000 }, 0 },
		{ { .oflag = O_RDWR | O_CREAT, .size = UINT64_MAX }, 0 },
		{ { .oflag = O_RDWR }, 0 },
	};
	static const int expected[] = { -E2BIG, -EINVAL, -EINVAL, -EINVAL, -EFBIG, -ENOENT };
	struct shmb *c = fake_connected();

	ck_assert_int_eq(shmb_open_how(c, "a", &rows[5].how, sizeof(rows[5].how) - 1), -EINVAL);
	fake_say_status(1, WIRE_OPEN, ENOENT, "");
	for (size_t i = 0; i < 6; i++) {
		int r = shmb_open_how(c, "a", &rows[i].how, sizeof(rows[i]));

		ck_assert_msg(r == expected[i], "row %zu: %d", i, r);
	}
	ck_assert_int_eq(shmb_publish(c, "a", 2), -EINVAL);
	fake_end(c);
}
END_TEST

/* The same structure as three releases know it: 16, 24 and 32 bytes. */
START_TEST(programs_and_libraries_of_all_ages_understand_each_other)
{
	static const uint64_t passed[4] = { 1, 2, 3, 4 }, shorter[4] = { 1, 2 };
	uint64_t known[4];

	_Static_assert(SHMB_HOW_FIRST == sizeof(struct shmb_how) &&
			       SHMB_INFO_FIRST == sizeof(struct shmb_info) &&
			       SHMB_CONTEXT_FIRST == sizeof(struct shmb_context),
		       "the first release's are never forgotten");
	for (size_t program = 8; program <= 32; program += 8) {
		for (size_t library = 16; library <= 32; library += 8) {
			size_t both = program < library ? program : library;
			int r;

			memset(known, 0xff, sizeof(known));
			r = shmb_take(known, library, passed, program, 16);
			ck_assert_int_eq(r, program < 16	? -EINVAL
					    : program > library ? -E2BIG
								: 0);
			r = shmb_take(known, library, shorter, program, 16);
			ck_assert_int_eq(r, program < 16 ? -EINVAL : 0);
			if (r == 0)
				ck_assert_mem_eq(known, shorter, library);

			memset(known, 0xff, sizeof(known));
			r = shmb_give(known, program, passed, library, 16);
			ck_assert_int_eq(r, program < 16 ? -EINVAL : 0);
			ck_assert_mem_eq(known, r < 0 ? (uint64_t[]){ -1ull } : passed,
					 r < 0 ? 8 : both);
			for (size_t i = both / 8; r == 0 && i < program / 8; i++)
				ck_assert_uint_eq(known[i], 0);
			/* Nothing is written behind what the program has. */
			for (size_t i = program / 8; i < 4; i++)
				ck_assert_uint_eq(known[i], UINT64_MAX);
		}
	}
}
END_TEST

START_TEST(options_go_over_the_wire)
{
	struct shmb_how how = {
		.oflag = O_RDWR | O_CREAT,
		.size = 4096,
		.flags = SHMB_TEMPORARY | SHMB_UNPUBLISHED,
	};
	struct rlimit limit, low;
	struct shmb *c = fake_connected();
	struct wire_open asked;

	fake_say_status(1, WIRE_OPEN, EEXIST, "");
	ck_assert_int_eq(shmb_open_how(c, "a", &how, sizeof(how)), -EEXIST);
	ck_assert_int_gt(recv(fake_peer, &asked, sizeof(asked), MSG_DONTWAIT), 0);
	ck_assert_uint_eq(asked.size, 4096);
	ck_assert_uint_eq(asked.options, WIRE_TEMPORARY | WIRE_UNPUBLISHED);
	getrlimit(RLIMIT_FSIZE, &limit);
	low = limit;
	low.rlim_cur = 4095;
	setrlimit(RLIMIT_FSIZE, &low);
	ck_assert_int_eq(shmb_open_how(c, "a", &how, sizeof(how)), -EFBIG);
	setrlimit(RLIMIT_FSIZE, &limit);
	fake_end(c);
}
END_TEST

/* Of a name that the reply says is new; in a child, for its limit. */
static int lose_descriptor(void)
{
	struct rlimit limit;
	struct shmb *c = fake_connected();
	struct fake_packet packet;
	struct wire_name asked;
	size_t size = fake_open_reply(&packet, 1);
	int last = -1, fd;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = 64;
	setrlimit(RLIMIT_NOFILE, &limit);
	while ((fd = dup(0)) >= 0)
		last = fd;
	/* Nothing is asked where nothing can be had. */
	if (shmb_open(c, "a", O_RDWR | O_CREAT, 0600) != -EMFILE)
		return 1;
	close(last);
	packet.rest[8] = WIRE_CREATED;
	fake_say(&packet, size, 1);
	if (dup(0) != last)
		return 2;
	/* As if another thread had taken it: the way without O_CREAT doesn't look first. */
	fake_say_status(2, WIRE_UNLINK, 0, "");
	if (shmb_open(c, "a", O_RDWR, 0600) != -EMFILE)
		return 3;
	recv(fake_peer, &asked, sizeof(asked), MSG_DONTWAIT);
	recv(fake_peer, &asked, sizeof(asked), MSG_DONTWAIT);
	return asked.request.operation == WIRE_UNLINK ? 0 : 4;
}

START_TEST(name_is_removed_when_its_descriptor_is_lost)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(fake_limits_are_real() ? lose_descriptor() : 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

/* The broker would hold it as long as there is the connection, and the name with it. */
static bool was_given_up(void)
{
	struct {
		struct wire_publish head;
		char name[8];
	} asked;
	ssize_t n = recv(fake_peer, &asked, sizeof(asked), MSG_DONTWAIT);

	return n == (ssize_t)sizeof(asked.head) + 1 &&
	       asked.head.request.operation == WIRE_PUBLISH && asked.head.flags == WIRE_DISCARD &&
	       asked.name[0] == 'a';
}

static int lose_unpublished(void *argument)
{
	const struct shmb_how how = { .oflag = O_RDWR, .size = 1, .flags = SHMB_UNPUBLISHED };
	struct shmb *c = fake_connected();
	struct fake_packet packet;
	struct rlimit limit;
	struct wire_open asked;
	size_t size = fake_open_reply(&packet, 1);

	(void)argument;
	packet.rest[8] = WIRE_CREATED;
	fake_say(&packet, size, 1);
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = 64;
	setrlimit(RLIMIT_NOFILE, &limit);
	while (dup(0) >= 0)
		;
	EXPECT(shmb_open_how(c, "a", &how, sizeof(how)) == -EMFILE);
	EXPECT(recv(fake_peer, &asked, sizeof(asked), MSG_DONTWAIT) > 0);
	EXPECT(was_given_up());
	return 0;
}

START_TEST(unpublished_objects_that_did_not_arrive_are_given_up)
{
	struct shmb_how how = { .oflag = O_RDWR | O_CREAT, .size = 1, .flags = SHMB_UNPUBLISHED };
	struct shmb *c = fake_connected();
	struct fake_packet packet;
	unsigned char asked[256];

	ck_assert_int_eq(shmb_set_timeout(c, 0), 0);
	ck_assert_int_eq(shmb_open_how(c, "/a", &how, sizeof(how)), -ETIMEDOUT);
	ck_assert_str_eq(shmb_reason(c), "no answer in time");
	ck_assert_int_gt(recv(fake_peer, asked, sizeof(asked), MSG_DONTWAIT), 0);
	ck_assert(was_given_up());
	/* Both answers come late. */
	fake_say(&packet, fake_open_reply(&packet, 1), 1);
	fake_say_status(2, WIRE_PUBLISH, 0, "");
	fake_say_status(3, WIRE_OPEN, EEXIST, "told");
	ck_assert_int_eq(shmb_set_timeout(c, 25000), 0);
	ck_assert_int_eq(shmb_open_how(c, "/a", &how, sizeof(how)), -EEXIST);
	ck_assert_str_eq(shmb_reason(c), "told");
	ck_assert_int_gt(recv(fake_peer, asked, sizeof(asked), MSG_DONTWAIT), 0);
	/* What was refused is none. */
	ck_assert_int_lt(recv(fake_peer, asked, sizeof(asked), MSG_DONTWAIT), 0);
	fake_end(c);
	if (fake_limits_are_real())
		ck_assert_int_eq(test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, lose_unpublished, NULL),
				 0);
}
END_TEST

/* A context's reply with a path of that text. */
static void say_context(uint32_t serial, const char *path, uint8_t kind)
{
	struct fake_packet packet = {
		.reply = { .serial = serial, .operation = WIRE_CREATE_CONTEXT, .fd_count = 1 },
		.rest = { kind },
	};

	memcpy(packet.rest + 8, path, strlen(path));
	fake_say(&packet, sizeof(packet.reply) + 8 + strlen(path), 1);
}

START_TEST(context_is_a_directory_and_a_hold)
{
	struct shmb_context how = { .app = "org.example.app" }, bad = { .app = "a/b" };
	struct shmb *c = fake_connected();
	char directory[128] = "", asked[64];
	int hold, lowest;

	ck_assert_int_eq(shmb_create_context(c, &bad, sizeof(bad), directory, 128), -EINVAL);
	bad = (struct shmb_context){ .app = "a", .flags = 1 };
	ck_assert_int_eq(shmb_create_context(c, &bad, sizeof(bad), directory, 128), -EINVAL);
	say_context(1, "/run/x/1", WIRE_FD_HOLD);
	hold = shmb_create_context(c, &how, sizeof(how), directory, sizeof(directory));
	ck_assert_int_ge(hold, 0);
	ck_assert_str_eq(directory, "/run/x/1");
	ck_assert_int_eq(recv(fake_peer, asked, sizeof(asked), MSG_DONTWAIT), 16 + 15);
	ck_assert_mem_eq(asked + 16, "org.example.app", 15);
	close(hold);
	lowest = dup(0);
	close(lowest);
	say_context(2, "/run/x/2", WIRE_FD_HOLD);
	ck_assert_int_eq(shmb_create_context(c, &how, sizeof(how), directory, 8), -ERANGE);
	say_context(3, "/run/x/3", WIRE_FD_OBJECT);
	ck_assert_int_eq(shmb_create_context(c, &how, sizeof(how), directory, 128), -EPROTO);
	ck_assert_int_eq(dup(0), lowest);
	close(lowest);
	fake_end(c);
}
END_TEST

static int count_fields(const char *body, size_t size, struct fdlist *fds, void *userdata)
{
	struct shmb_fields fields = shmb_fields_of(body, size);
	const char *key, *value;
	size_t key_size;
	int *count = userdata, r;

	while ((r = shmb_fields_next(&fields, &key, &key_size, &value)) >= 0)
		*count += r == 1 ? (int)(key_size + strlen(value)) : 100;
	return r == -ENODATA ? 0 : r;
}

START_TEST(raw_call_gives_every_reply_and_its_fields)
{
	static const char fields[] = "name=host\0size=\0\0name=a=b\0";
	struct fake_packet packet = {
		.reply = { .serial = 1, .operation = WIRE_POOLS, .flags = WIRE_MORE },
	};
	struct shmb *c = fake_connected();
	int count = 0;

	memcpy(packet.rest, fields, sizeof(fields));
	fake_say(&packet, sizeof(packet.reply) + sizeof(fields), 0);
	packet.reply.flags = 0;
	fake_say(&packet, sizeof(packet.reply), 0);
	ck_assert_int_eq(shmb_raw_call(c, WIRE_POOLS, NULL, 0, count_fields, &count), 0);
	ck_assert_int_eq(count, 8 + 4 + 100 + 7 + 100);
	packet.reply.serial = 2;
	memcpy(packet.rest, "no field", 9);
	fake_say(&packet, sizeof(packet.reply) + 9, 0);
	ck_assert_int_eq(shmb_raw_call(c, WIRE_POOLS, NULL, 0, count_fields, &count), -EPROTO);
	fake_end(c);
}
END_TEST

START_TEST(map_covers_the_object_and_says_when_it_is_empty)
{
	size_t size = 1;
	int fd = memfd_create("object", MFD_CLOEXEC);
	void *memory;

	ck_assert_ptr_eq(shmb_map(fd, PROT_READ, &size), MAP_FAILED);
	ck_assert_int_eq(errno, ENODATA);
	ck_assert_int_eq(ftruncate(fd, 5000), 0);
	memory = shmb_map(fd, PROT_READ | PROT_WRITE, &size);
	ck_assert_ptr_ne(memory, MAP_FAILED);
	ck_assert_uint_eq(size, 5000);
	munmap(memory, size);
	close(fd);
	ck_assert_ptr_eq(shmb_map(-1, PROT_READ, NULL), MAP_FAILED);
	ck_assert_int_eq(errno, EBADF);
	ck_assert_str_eq(shmb_version(), "0.1");
}
END_TEST

TCase *library_case_of_calls(void)
{
	TCase *tcase = tcase_create("calls");

	tcase_add_test(tcase, open_is_one_request_and_one_reply);
	tcase_add_test(tcase, listing_comes_in_parts);
	tcase_add_test(tcase, callback_ends_a_listing_and_the_rest_is_cancelled);
	tcase_add_test(tcase, hostile_record_breaks_the_connection);
	tcase_add_test(tcase, stat_fills_what_it_knows_and_zeroes_the_rest);
	tcase_add_test(tcase, structures_grow_at_their_end);
	tcase_add_test(tcase, programs_and_libraries_of_all_ages_understand_each_other);
	tcase_add_test(tcase, options_go_over_the_wire);
	tcase_add_test(tcase, name_is_removed_when_its_descriptor_is_lost);
	tcase_add_test(tcase, unpublished_objects_that_did_not_arrive_are_given_up);
	tcase_add_test(tcase, context_is_a_directory_and_a_hold);
	tcase_add_test(tcase, raw_call_gives_every_reply_and_its_fields);
	tcase_add_test(tcase, map_covers_the_object_and_says_when_it_is_empty);
	return tcase;
}
