/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Directories and sockets on the file system: what they let in, what they replace and
 * what they leave alone.
 */
#include "daemon/place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "daemon/fd.h"
#include "tests/test.h"

#define ALICE 2001
#define BOB 2002

static const char *directory;
static int directory_fd;

static void setup(void)
{
	test_fds_setup();
	directory = test_directory();
	ck_assert_int_eq(chmod(directory, 0755), 0);
	directory_fd = place_directory_open(directory, PLACE_SHARED);
	ck_assert_int_ge(directory_fd, 0);
}

static void teardown(void)
{
	close(directory_fd);
	test_fds_teardown();
}

static const char *path_of(const char *name)
{
	static char path[4096];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}

/* The mode with its type; 0: there is nothing. */
static mode_t mode_of(const char *name)
{
	struct stat st;

	return fstatat(directory_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : st.st_mode;
}

static unsigned count_entries(const char *name)
{
	DIR *dir = opendir(path_of(name));
	unsigned count = 0;
	struct dirent *entry;

	ck_assert_ptr_nonnull(dir);
	while ((entry = readdir(dir)))
		count += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
	closedir(dir);
	return count;
}

/* 0 or the errno of connecting; the connection is closed again. */
static int try_connect(const char *name)
{
	struct sockaddr_un there = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (snprintf(there.sun_path, sizeof(there.sun_path), "%s/%s", directory, name) >=
	    (int)sizeof(there.sun_path))
		return ENAMETOOLONG;
	return connect(fd, (struct sockaddr *)&there, sizeof(there)) < 0 ? errno : 0;
}

static void end(struct place_socket *socket)
{
	socket->fd = fd_close(socket->fd);
}

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

static void make_entry(const char *name, mode_t type, const char *target)
{
	if (type == S_IFLNK)
		ck_assert_int_eq(symlinkat(target, directory_fd, name), 0);
	else if (type == S_IFDIR)
		ck_assert_int_eq(mkdirat(directory_fd, name, 0755), 0);
	else
		ck_assert_int_eq(mknodat(directory_fd, name, type | 0644, 0), 0);
}

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

/* A base for contexts below the test's directory, or why there is none. */
static int base_open(struct context_base *ret, bool per_user)
{
	return context_base_open(ret, path_of("contexts"), per_user);
}

START_TEST(context_is_its_makers_alone)
{
	struct context_place place;
	struct context_base base;
	char path[CONTEXT_PATH_SIZE];
	struct stat st;
	int r;

	r = base_open(&base, true);
	TEST_NEEDS(r != -EOPNOTSUPP, "no ACLs");
	ck_assert_int_eq(r, 0);
	ck_assert_uint_eq(mode_of("contexts"), S_IFDIR | 0755);
	ck_assert_int_eq(context_place_make(&place, &base, ALICE), 0);
	ck_assert_uint_eq(place.maker, ALICE);
	ck_assert_uint_eq(place.number, 1);
	/* The group's bits show the ACL's mask. */
	ck_assert_uint_eq(mode_of("contexts/2001"), S_IFDIR | 0710);
	ck_assert_uint_eq(mode_of("contexts/2001/1"), S_IFDIR | 0755);
	ck_assert_uint_eq(mode_of("contexts/2001/1/socket"), S_IFSOCK | 0666);
	ck_assert_int_eq(getxattr(path_of("contexts/2001"), "system.posix_acl_access", NULL, 0),
			 4 + 5 * 8);
	ck_assert_int_eq(context_place_path(path, sizeof(path), &base, &place), 0);
	ck_assert_str_eq(path, path_of("contexts/2001/1"));
	ck_assert_int_eq(context_place_path(path, strlen(path), &base, &place), -ERANGE);
	ck_assert_int_eq(stat(path_of("contexts/2001/1"), &st), 0);
	ck_assert_uint_eq(st.st_uid, geteuid());
	ck_assert_int_eq(context_place_remove(&base, &place), 0);
	context_base_done(&base);
}
END_TEST

static int connect_to(void *name)
{
	return try_connect(name);
}

static int list_or_make(void *name)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", directory, (const char *)name);
	if (opendir(path))
		return 1;
	return mkdir(strcat(path, "/x"), 0700) == 0 ? 2 : 0;
}

START_TEST(others_than_the_maker_are_out_of_reach)
{
	char socket[] = "contexts/2001/1/socket", maker[] = "contexts/2001";
	const gid_t groups[] = { 0, ALICE };
	struct context_place place;
	struct context_base base;
	int r;

	TEST_NEEDS(test_is_root(), "takes other ids");
	r = base_open(&base, true);
	TEST_NEEDS(r != -EOPNOTSUPP, "no ACLs");
	ck_assert_int_eq(r, 0);
	ck_assert_int_eq(context_place_make(&place, &base, ALICE), 0);
	ck_assert_int_eq(test_run_as(ALICE, ALICE, NULL, 0, connect_to, socket), 0);
	ck_assert_int_eq(test_run_as(BOB, BOB, NULL, 0, connect_to, socket), EACCES);
	/* Not by a group either, the directory's own or the maker's. */
	ck_assert_int_eq(test_run_as(BOB, ALICE, groups, 2, connect_to, socket), EACCES);
	/* And the maker reaches what he was told, but finds and leaves nothing. */
	ck_assert_int_eq(test_run_as(ALICE, ALICE, NULL, 0, list_or_make, maker), 0);
	ck_assert_int_eq(context_place_remove(&base, &place), 0);
	context_base_done(&base);
}
END_TEST

START_TEST(removal_takes_the_makers_directory_with_the_last)
{
	struct context_place one, two;
	struct context_base base;
	int r = base_open(&base, true);

	TEST_NEEDS(r != -EOPNOTSUPP, "no ACLs");
	ck_assert_int_eq(r, 0);
	ck_assert_int_eq(context_place_make(&one, &base, ALICE), 0);
	ck_assert_int_eq(context_place_make(&two, &base, ALICE), 0);
	ck_assert_uint_ne(one.number, two.number);
	ck_assert_int_eq(context_place_remove(&base, &one), 0);
	ck_assert_int_eq(one.listener, -EBADF);
	ck_assert_uint_eq(mode_of("contexts/2001/1"), 0);
	ck_assert_int_eq(try_connect("contexts/2001/2/socket"), 0);
	ck_assert_int_eq(context_place_remove(&base, &one), -ENOENT);
	/* A number that another broker has taken is passed over. */
	base.next = two.number;
	ck_assert_int_eq(context_place_make(&one, &base, ALICE), 0);
	ck_assert_uint_eq(one.number, two.number + 1);
	ck_assert_int_eq(context_place_remove(&base, &two), 0);
	ck_assert_int_eq(context_place_remove(&base, &one), 0);
	ck_assert_uint_eq(count_entries("contexts"), 0);
	ck_assert_int_eq(context_place_remove(&base, &one), -ENOENT);
	context_base_done(&base);
}
END_TEST

START_TEST(user_brokers_contexts_have_no_level_of_uids)
{
	struct context_place place;
	struct context_base base;

	ck_assert_int_eq(base_open(&base, false), 0);
	ck_assert_uint_eq(mode_of("contexts"), S_IFDIR | 0700);
	ck_assert_int_eq(context_place_make(&place, &base, geteuid()), 0);
	ck_assert_uint_eq(mode_of("contexts/1"), S_IFDIR | 0755);
	ck_assert_int_eq(try_connect("contexts/1/socket"), 0);
	/* The sandbox has the same uid, and may leave something behind. */
	make_entry("contexts/1/litter", S_IFREG, NULL);
	ck_assert_int_eq(context_place_remove(&base, &place), -ENOTEMPTY);
	ck_assert_uint_eq(mode_of("contexts/1/socket"), 0);
	ck_assert_int_eq(unlinkat(directory_fd, "contexts/1/litter", 0), 0);
	ck_assert_int_eq(context_place_remove(&base, &place), 0);
	ck_assert_uint_eq(count_entries("contexts"), 0);
	context_base_done(&base);
}
END_TEST

/* What a broker that was killed leaves: the names, with nobody behind them. */
static void crash(struct context_place *place)
{
	place->listener = fd_close(place->listener);
}

START_TEST(sweep_removes_what_does_not_answer_and_nothing_else)
{
	static const char *const kept[] = {
		"outside/1/socket",   "contexts/link",	      "contexts/file",
		"contexts/012/1",     "contexts/99999999999", "contexts/2001/3/file",
		"contexts/2001/name",
	};
	struct context_place crashed, live, littered, other;
	struct place_socket outside;
	struct context_base base;
	int r = base_open(&base, true);

	TEST_NEEDS(r != -EOPNOTSUPP, "no ACLs");
	ck_assert_int_eq(r, 0);
	ck_assert_int_eq(context_base_sweep(&base), 0);
	ck_assert_int_eq(context_place_make(&crashed, &base, ALICE), 0);
	ck_assert_int_eq(context_place_make(&live, &base, ALICE), 0);
	ck_assert_int_eq(context_place_make(&littered, &base, ALICE), 0);
	ck_assert_int_eq(context_place_make(&other, &base, BOB), 0);
	crash(&crashed);
	crash(&littered);
	crash(&other);
	make_entry("contexts/2001/3/file", S_IFREG, NULL);
	make_entry("contexts/2001/name", S_IFDIR, NULL);
	/* Crashed half way: a directory alone, and one with an unfinished socket. */
	make_entry("contexts/2001/8", S_IFDIR, NULL);
	make_entry("contexts/2001/9", S_IFDIR, NULL);
	make_entry("contexts/2001/9/.shmbroker-0123456789abcdef", S_IFSOCK, NULL);
	/* A way out of the base, and names that only look like numbers. */
	make_entry("outside", S_IFDIR, NULL);
	make_entry("outside/1", S_IFDIR, NULL);
	make_entry("contexts/file", S_IFREG, NULL);
	make_entry("contexts/link", S_IFLNK, "../outside");
	make_entry("contexts/7", S_IFLNK, "../outside");
	make_entry("contexts/2001/7", S_IFLNK, "../../outside/1");
	make_entry("contexts/012", S_IFDIR, NULL);
	make_entry("contexts/012/1", S_IFDIR, NULL);
	make_entry("contexts/99999999999", S_IFDIR, NULL);
	r = place_directory_open(path_of("outside/1"), PLACE_SHARED);
	ck_assert_int_eq(place_listen(&outside, r, "socket", 0666), 0);
	fd_close(r);
	end(&outside);

	ck_assert_int_eq(context_base_sweep(&base), 4);
	ck_assert_uint_eq(mode_of("contexts/2001/1"), 0);
	ck_assert_uint_eq(mode_of("contexts/2001/8"), 0);
	ck_assert_uint_eq(mode_of("contexts/2001/9"), 0);
	ck_assert_uint_eq(mode_of("contexts/2002"), 0);
	ck_assert_int_eq(try_connect("contexts/2001/2/socket"), 0);
	for (size_t i = 0; i < sizeof(kept) / sizeof(*kept); i++)
		ck_assert_msg(mode_of(kept[i]) != 0, "%s", kept[i]);
	ck_assert_uint_eq(mode_of("contexts/7") & S_IFMT, S_IFLNK);
	ck_assert_uint_eq(mode_of("contexts/2001/7") & S_IFMT, S_IFLNK);
	ck_assert_int_eq(context_place_remove(&base, &live), 0);
	context_base_done(&base);
}
END_TEST

START_TEST(sweep_leaves_what_is_not_ours)
{
	struct context_place place;
	struct context_base base;
	int r;

	TEST_NEEDS(test_is_root(), "gives a directory away");
	r = base_open(&base, true);
	TEST_NEEDS(r != -EOPNOTSUPP, "no ACLs");
	ck_assert_int_eq(r, 0);
	ck_assert_int_eq(context_place_make(&place, &base, ALICE), 0);
	crash(&place);
	ck_assert_int_eq(chown(path_of("contexts/2001"), BOB, BOB), 0);
	ck_assert_int_eq(context_base_sweep(&base), 0);
	ck_assert_uint_ne(mode_of("contexts/2001/1/socket"), 0);
	ck_assert_int_eq(context_place_make(&place, &base, ALICE), -EPERM);
	ck_assert_int_eq(chown(path_of("contexts/2001"), geteuid(), 0), 0);
	ck_assert_int_eq(context_base_sweep(&base), 1);
	ck_assert_uint_eq(count_entries("contexts"), 0);
	context_base_done(&base);
}
END_TEST

START_TEST(user_brokers_sweep_knows_no_uids)
{
	struct context_place crashed, live;
	struct context_base base;

	ck_assert_int_eq(base_open(&base, false), 0);
	ck_assert_int_eq(context_place_make(&crashed, &base, geteuid()), 0);
	ck_assert_int_eq(context_place_make(&live, &base, geteuid()), 0);
	crash(&crashed);
	ck_assert_int_eq(context_base_sweep(&base), 1);
	ck_assert_uint_eq(count_entries("contexts"), 1);
	ck_assert_int_eq(try_connect("contexts/2/socket"), 0);
	ck_assert_int_eq(context_place_remove(&base, &live), 0);
	context_base_done(&base);
}
END_TEST

START_TEST(any_contexts_path_fits)
{
	struct context_place largest = { .maker = UINT32_MAX, .number = UINT32_MAX };
	char path[CONTEXT_PATH_SIZE], name[CONTEXT_PATH_SIZE] = "";
	struct context_base base;
	size_t room;

	for (int per_user = 0; per_user < 2; per_user++) {
		room = CONTEXT_PATH_SIZE - 1 - (per_user ? 22 : 11) - strlen(path_of(""));
		memset(name, 'n', room + 1);
		name[room + 1] = '\0';
		ck_assert_int_eq(context_base_open(&base, path_of(name), per_user), -ENAMETOOLONG);
		name[room] = '\0';
		if (context_base_open(&base, path_of(name), per_user) == -EOPNOTSUPP)
			continue;
		ck_assert_int_eq(context_place_path(path, sizeof(path), &base, &largest), 0);
		ck_assert_uint_eq(strlen(path), sizeof(path) - 1);
		context_base_done(&base);
	}
}
END_TEST

/* In a mount namespace of its own: ramfs has no ACLs. */
static int open_without_acls(void *argument)
{
	struct context_base base;

	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", path_of("contexts"), "ramfs", 0, "mode=0755") < 0)
		return 1;
	if (context_base_open(&base, path_of("contexts"), true) != -EOPNOTSUPP)
		return 2;
	if (context_base_open(&base, path_of("contexts"), false) < 0)
		return 3;
	context_base_done(&base);
	return 0;
}

START_TEST(without_acls_there_are_contexts_for_a_user_broker_alone)
{
	TEST_NEEDS(test_is_root() && test_has_namespaces(), "mounts a ramfs");
	ck_assert_int_eq(mkdirat(directory_fd, "contexts", 0755), 0);
	ck_assert_int_eq(test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, open_without_acls, NULL), 0);
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

static TCase *contexts(void)
{
	TCase *tcase = tcase_create("contexts");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, context_is_its_makers_alone);
	tcase_add_test(tcase, others_than_the_maker_are_out_of_reach);
	tcase_add_test(tcase, removal_takes_the_makers_directory_with_the_last);
	tcase_add_test(tcase, user_brokers_contexts_have_no_level_of_uids);
	tcase_add_test(tcase, sweep_removes_what_does_not_answer_and_nothing_else);
	tcase_add_test(tcase, sweep_leaves_what_is_not_ours);
	tcase_add_test(tcase, user_brokers_sweep_knows_no_uids);
	tcase_add_test(tcase, any_contexts_path_fits);
	tcase_add_test(tcase, without_acls_there_are_contexts_for_a_user_broker_alone);
	return tcase;
}

Suite *suite_place(void)
{
	Suite *suite = suite_create("place");

	suite_add_tcase(suite, sockets());
	suite_add_tcase(suite, contexts());
	return suite;
}
