/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Directories and sockets on the file system: what they let in, what they replace and what they
 * leave alone. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/place_fixture.h"

START_TEST(socket_has_its_mode_whatever_the_umask)
{
	static const mode_t umasks[] = { 0, 022, 077, 0777 }, modes[] = { 0666, 0600, 0660 };

	for (size_t i = 0; i < sizeof(umasks) / sizeof(*umasks); i++)
		for (size_t j = 0; j < sizeof(modes) / sizeof(*modes); j++) {
			mode_t saved = umask(umasks[i]);
			struct place_socket socket;

			ck_assert_int_eq(place_listen(&socket, directory_fd, "s", modes[j]), 0);
			ck_assert_uint_eq(umask(saved), umasks[i]);
			ck_assert_uint_eq(mode_of("s"), S_IFSOCK | modes[j]);
			ck_assert_uint_eq(count_entries("."), 1);
			ck_assert_int_eq(fcntl(socket.fd, F_GETFD), FD_CLOEXEC);
			ck_assert(fcntl(socket.fd, F_GETFL) & O_NONBLOCK);
			ck_assert_int_eq(try_connect("s"), 0);
			ck_assert_int_eq(place_unlink_own(&socket, directory_fd, "s"), 0);
			ck_assert_uint_eq(mode_of("s"), 0);
			ck_assert_int_eq(place_unlink_own(&socket, directory_fd, "s"), -ENOENT);
			end(&socket);
		}
}
END_TEST

START_TEST(stale_socket_is_replaced)
{
	struct place_socket stale, socket;

	ck_assert_int_eq(place_listen(&stale, directory_fd, "s", 0600), 0);
	end(&stale);
	ck_assert_int_eq(place_answers(directory_fd, "s"), 0);
	ck_assert_int_eq(place_listen(&socket, directory_fd, "s", 0666), 0);
	ck_assert_uint_eq(mode_of("s"), S_IFSOCK | 0666);
	ck_assert_int_eq(try_connect("s"), 0);
	ck_assert_uint_eq(count_entries("."), 1);
	/* Whoever made the first one may still think that it is his. */
	ck_assert_int_eq(place_unlink_own(&stale, directory_fd, "s"), -ESTALE);
	ck_assert_int_eq(try_connect("s"), 0);
	ck_assert_int_eq(place_unlink_own(&socket, directory_fd, "s"), 0);
	end(&socket);
}
END_TEST

START_TEST(socket_that_answers_is_left_alone)
{
	struct place_socket live, socket;

	ck_assert_int_eq(place_listen(&live, directory_fd, "s", 0666), 0);
	ck_assert_int_eq(place_answers(directory_fd, "s"), 1);
	ck_assert_int_eq(place_listen(&socket, directory_fd, "s", 0666), -EADDRINUSE);
	ck_assert_int_eq(try_connect("s"), 0);
	ck_assert_uint_eq(count_entries("."), 1);
	/* Too busy to take another: it is there. */
	ck_assert_int_eq(listen(live.fd, 0), 0);
	ck_assert_int_eq(place_listen(&socket, directory_fd, "s", 0666), -EADDRINUSE);
	ck_assert_int_eq(place_unlink_own(&live, directory_fd, "s"), 0);
	end(&live);
}
END_TEST

START_TEST(socket_of_another_type_is_left_alone_while_it_lives)
{
	struct sockaddr_un there = { .sun_family = AF_UNIX };
	_cleanup_close_ int stream = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct place_socket socket;

	snprintf(there.sun_path, sizeof(there.sun_path), "%.100s/s", directory);
	ck_assert_int_eq(bind(stream, (struct sockaddr *)&there, sizeof(there)), 0);
	ck_assert_int_eq(listen(stream, 1), 0);
	ck_assert_int_eq(place_listen(&socket, directory_fd, "s", 0666), -EADDRINUSE);
	stream = fd_close(stream);
	ck_assert_int_eq(place_listen(&socket, directory_fd, "s", 0666), 0);
	end(&socket);
}
END_TEST

START_TEST(what_is_no_socket_is_left_alone)
{
	static const mode_t types[] = { S_IFREG, S_IFDIR, S_IFIFO, S_IFLNK };
	struct place_socket stale, socket;

	ck_assert_int_eq(place_listen(&stale, directory_fd, "stale", 0666), 0);
	end(&stale);
	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
		/* The link leads to a socket that would be replaced. */
		make_entry("s", types[i], "stale");
		ck_assert_int_eq(place_answers(directory_fd, "s"), -ENOTSOCK);
		ck_assert_int_eq(place_listen(&socket, directory_fd, "s", 0666), -EEXIST);
		ck_assert_uint_eq(mode_of("s") & S_IFMT, types[i]);
		ck_assert_uint_eq(count_entries("."), 2);
		ck_assert_int_eq(
			unlinkat(directory_fd, "s", types[i] == S_IFDIR ? AT_REMOVEDIR : 0), 0);
	}
	ck_assert_int_eq(place_answers(directory_fd, "nothing"), -ENOENT);
}
END_TEST

START_TEST(long_paths_and_names_work)
{
	char name[256] = "", path[4096];
	struct place_socket socket;
	const char *last;
	int fd;

	memset(name, 'n', 255);
	ck_assert_int_eq(mkdirat(directory_fd, name, 0755), 0);
	snprintf(path, sizeof(path), "%s/%s/%s", directory, name, name);
	fd = place_parent_open(path, PLACE_SHARED, &last);
	ck_assert_int_ge(fd, 0);
	ck_assert_str_eq(last, name);
	for (int round = 0; round < 2; round++) { /* the second time a stale one is replaced */
		ck_assert_int_eq(place_listen(&socket, fd, last, 0666), 0);
		ck_assert_int_eq(place_answers(fd, last), 1);
		end(&socket);
	}
	close(fd);
}
END_TEST

/* Counts as a broker that starts: one that got the name keeps it until all have tried. */
static int try_to_be_the_one(int ready, int go)
{
	struct place_socket socket;
	char byte = 0;
	int r;

	if (read(go, &byte, 1) != 0)
		return 2;
	r = place_listen(&socket, directory_fd, "s", 0666);
	byte = r == 0 ? 'y' : r == -EADDRINUSE ? 'n' : '?';
	if (write(ready, &byte, 1) != 1)
		return 3;
	while (read(ready, &byte, 1) > 0)
		continue;
	return 0;
}

#define RIVALS 4
#define ROUNDS 4

static void run_rivals(void)
{
	int ready[2], go[2], winners = 0;
	pid_t rival[RIVALS];
	char byte;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ready), 0);
	ck_assert_int_eq(pipe2(go, O_CLOEXEC), 0);
	for (int i = 0; i < RIVALS; i++) {
		rival[i] = fork();
		ck_assert_int_ge(rival[i], 0);
		if (rival[i] == 0) {
			close(ready[0]);
			close(go[1]);
			_exit(try_to_be_the_one(ready[1], go[0]));
		}
	}
	close(ready[1]);
	close(go[0]);
	close(go[1]);
	for (int i = 0; i < RIVALS; i++) {
		ck_assert_int_eq(read(ready[0], &byte, 1), 1);
		ck_assert_int_ne(byte, '?');
		winners += byte == 'y';
	}
	ck_assert_int_eq(winners, 1);
	ck_assert_int_eq(try_connect("s"), 0);
	ck_assert_uint_eq(count_entries("."), 1);
	close(ready[0]);
	for (int i = 0; i < RIVALS; i++) {
		int status;

		ck_assert_int_eq(waitpid(rival[i], &status, 0), rival[i]);
		ck_assert_int_eq(status, 0);
	}
}

START_TEST(one_of_many_that_replace_a_stale_socket_has_it)
{
	struct place_socket stale;

	ck_assert_int_eq(place_listen(&stale, directory_fd, "s", 0666), 0);
	end(&stale);
	/* Each round leaves its winner's socket, stale for the next. */
	for (int round = 0; round < ROUNDS; round++)
		run_rivals();
}
END_TEST

START_TEST(stale_socket_that_another_broker_is_replacing_is_left_to_it)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct place_socket stale, socket;
	int lock;

	ck_assert_int_eq(place_listen(&stale, directory_fd, "s", 0600), 0);
	end(&stale);
	lock = openat(directory_fd, ".shmbroker-lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_eq(fcntl(lock, F_OFD_SETLK, &whole), 0);
	ck_assert_int_eq(place_listen(&socket, directory_fd, "s", 0666), -EADDRINUSE);
	ck_assert_uint_eq(mode_of("s"), S_IFSOCK | 0600);
	ck_assert_uint_eq(count_entries("."), 2);
	/* It crashes: what it leaves holds nobody up, and goes. */
	close(lock);
	ck_assert_int_eq(place_listen(&socket, directory_fd, "s", 0666), 0);
	ck_assert_uint_eq(count_entries("."), 1);
	end(&socket);
}
END_TEST

START_TEST(descriptors_are_refused_where_the_kernel_can)
{
	struct place_socket socket;
	int value = 1;
	socklen_t size = sizeof(value);

	ck_assert_int_eq(place_listen(&socket, directory_fd, "s", 0666), 0);
	if (getsockopt(socket.fd, SOL_SOCKET, 83 /* SO_PASSRIGHTS */, &value, &size) < 0)
		ck_assert_int_eq(errno, ENOPROTOOPT);
	ck_assert(socket.refuses_descriptors == (value == 0));
	ck_assert(place_refuse_descriptors(socket.fd) == socket.refuses_descriptors);
	end(&socket);
}
END_TEST

START_TEST(directory_that_others_may_change_is_refused)
{
	static const struct {
		mode_t mode;
		enum place_kind kind;
		int result; /* -errno, or the mode afterwards */
	} rows[] = {
		{ 0755, PLACE_SHARED, 0755 },	{ 0700, PLACE_SHARED, 0700 },
		{ 0777, PLACE_SHARED, -EPERM }, { 0775, PLACE_SHARED, -EPERM },
		{ 01777, PLACE_SHARED, 01777 }, { 0755, PLACE_PRIVATE, 0700 },
		{ 0777, PLACE_PRIVATE, 0700 },	{ 0, PLACE_SHARED, 0755 }, /* 0: made */
		{ 0, PLACE_PRIVATE, 0700 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		mode_t saved = umask(077);
		int fd;

		if (rows[i].mode) {
			ck_assert_int_eq(mkdirat(directory_fd, "d", 0700), 0);
			ck_assert_int_eq(chmod(path_of("d"), rows[i].mode), 0);
		}
		fd = place_directory_open(path_of(i % 2 ? "d" : "d//"), rows[i].kind);
		umask(saved);
		if (rows[i].result < 0)
			ck_assert_int_eq(fd, rows[i].result);
		else
			ck_assert_msg((mode_t)rows[i].result == (mode_of("d") & 07777), "row %zu",
				      i);
		fd_close(fd);
		ck_assert_int_eq(unlinkat(directory_fd, "d", AT_REMOVEDIR), 0);
	}
}
END_TEST

START_TEST(directory_of_another_is_refused)
{
	TEST_NEEDS(test_is_root(), "gives a directory away");
	ck_assert_int_eq(mkdirat(directory_fd, "d", 0700), 0);
	ck_assert_int_eq(fchownat(directory_fd, "d", ALICE, ALICE, 0), 0);
	ck_assert_int_eq(place_directory_open(path_of("d"), PLACE_SHARED), -EPERM);
	ck_assert_int_eq(place_directory_open(path_of("d"), PLACE_PRIVATE), -EPERM);
}
END_TEST

START_TEST(link_to_a_directory_is_not_followed)
{
	static const char *const names[] = { "link", "link/", "link//" };
	const char *last;

	ck_assert_int_eq(mkdirat(directory_fd, "d", 0755), 0);
	ck_assert_int_eq(symlinkat("d", directory_fd, "link"), 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		ck_assert_int_eq(place_directory_open(path_of(names[i]), PLACE_SHARED), -ENOTDIR);
		ck_assert_int_eq(place_directory_open(path_of(names[i]), PLACE_PRIVATE), -ENOTDIR);
	}
	ck_assert_int_eq(place_parent_open(path_of("link/s"), PLACE_SHARED, &last), -ENOTDIR);
}
END_TEST

START_TEST(path_without_a_name_is_refused)
{
	static const struct {
		const char *path;
		int result;
	} rows[] = {
		{ "", -EINVAL },       { "/", -EINVAL },       { "/run/", -EINVAL },
		{ "/run/.", -EINVAL }, { "/run/..", -EINVAL },
	};
	const char *last = NULL;
	int fd;

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		ck_assert_int_eq(place_parent_open(rows[i].path, PLACE_SHARED, &last),
				 rows[i].result);
	ck_assert_int_eq(place_directory_open("", PLACE_SHARED), -ENOENT);
	fd = place_parent_open("/socket", PLACE_SHARED, &last);
	ck_assert_str_eq(last, "socket");
	fd_close(fd);
}
END_TEST

static TCase *sockets(void)
{
	TCase *tcase = tcase_create("sockets");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, socket_has_its_mode_whatever_the_umask);
	tcase_add_test(tcase, stale_socket_is_replaced);
	tcase_add_test(tcase, socket_that_answers_is_left_alone);
	tcase_add_test(tcase, socket_of_another_type_is_left_alone_while_it_lives);
	tcase_add_test(tcase, what_is_no_socket_is_left_alone);
	tcase_add_test(tcase, long_paths_and_names_work);
	tcase_add_test(tcase, one_of_many_that_replace_a_stale_socket_has_it);
	tcase_add_test(tcase, stale_socket_that_another_broker_is_replacing_is_left_to_it);
	tcase_add_test(tcase, descriptors_are_refused_where_the_kernel_can);
	tcase_add_test(tcase, directory_that_others_may_change_is_refused);
	tcase_add_test(tcase, directory_of_another_is_refused);
	tcase_add_test(tcase, link_to_a_directory_is_not_followed);
	tcase_add_test(tcase, path_without_a_name_is_refused);
	return tcase;
}

Suite *suite_place(void)
{
	Suite *suite = suite_create("place");

	suite_add_tcase(suite, sockets());
	suite_add_tcase(suite, place_case_of_contexts());
	return suite;
}
