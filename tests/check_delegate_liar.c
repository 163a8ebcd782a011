/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A broker that can't be trusted, and what the library believes of it. A case of the suite
 * "delegate".
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/delegate_fixture.h"
#include "tests/sandbox.h"

/* A broker that gives as a pool what is none. */
struct liar {
	int listener, directory;
	bool is_writable;
	uint32_t flags;
	const char *texts; /* behind them, 1200 bytes at most; NULL: none */
	size_t texts_size;
};

/* By whom reading it would be ended whenever he likes. */
static int page_to_be_shorter(void)
{
	int fd = memfd_create("page", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd >= 0 && ftruncate(fd, WIRE_PAGE_SIZE) < 0)
		fd_close(fd);
	return fd;
}

static void answer(int client, const struct liar *liar, const struct wire_request *request)
{
	struct {
		struct wire_reply head;
		uint8_t kinds[8];
		uint32_t flags, changes;
		uint64_t generation;
		char texts[1200];
	} reply = { .head = { .serial = request->serial, .operation = request->operation } };
	struct iovec part = { &reply, sizeof(reply.head) };
	struct fdlist fds = { .count = 0 };
	struct stat st;

	reply.head.status = EACCES;
	if (request->operation == WIRE_DELEGATE && fstat(liar->directory, &st) == 0) {
		reply.head.status = 0;
		fdlist_take(&fds, dup(liar->directory), WIRE_FD_DIRECTORY);
		if (liar->is_writable)
			fdlist_take(&fds, dup(liar->directory), WIRE_FD_DIRECTORY);
		fdlist_take(&fds, page_to_be_shorter(), WIRE_FD_PAGE);
		for (size_t i = 0; i < fds.count; i++)
			reply.kinds[i] = fds.kind[i];
		reply.head.fd_count = (uint16_t)fds.count;
		reply.flags = WIRE_DELEGATE_PAGE | (liar->is_writable ? WIRE_DELEGATE_WRITE : 0) |
			      liar->flags;
		reply.generation = (uint64_t)st.st_atim.tv_sec;
		part.iov_len = offsetof(typeof(reply), texts) + liar->texts_size;
		if (liar->texts_size > 0)
			memcpy(reply.texts, liar->texts, liar->texts_size);
	}
	packet_send(client, &part, 1, &fds, 0);
	fdlist_close(&fds);
}

static void lie(const struct liar *liar)
{
	struct wire_hello hello = {
		.magic = WIRE_MAGIC,
		.version_min = WIRE_VERSION_MIN,
		.version_max = WIRE_VERSION_MAX,
		.size = sizeof(hello),
		.fds_max = WIRE_FDS_MAX,
		.packet_max = WIRE_PACKET_MAX,
		.features = WIRE_FEATURE_DELEGATION,
	};
	struct iovec part = { &hello, sizeof(hello) };
	_Alignas(8) char packet[WIRE_REQUEST_MAX];
	int client = accept(liar->listener, NULL, NULL);

	packet_send(client, &part, 1, NULL, 0);
	recv(client, packet, sizeof(packet), 0);
	while (recv(client, packet, sizeof(packet), 0) > 0)
		answer(client, liar, (const void *)packet);
	_exit(0);
}

static int listen_at(char path[static 108])
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(path, 108, "%s/liar", test_directory());
	memcpy(address.sun_path, path, 108);
	unlink(path);
	ck_assert_int_eq(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	return fd;
}

/* What the program's own rights would do there is not the broker's to choose. */
START_TEST(a_directory_of_the_machines_is_no_pool)
{
	static const char *const paths[] = { NULL, "/dev/shm", "/", "/proc/self" };
	const char *path_of = paths[_i / 2] ? paths[_i / 2] : test_directory();
	struct liar liar = { .is_writable = _i % 2 };
	char path[108], object[64];
	struct shmb *c;
	pid_t pid;

	snprintf(object, sizeof(object), "/shmb-delegate-%d", (int)getpid());
	liar.directory = open(path_of, O_PATH | O_DIRECTORY | O_CLOEXEC);
	TEST_NEEDS(liar.directory >= 0, "no such directory");
	liar.listener = listen_at(path);
	pid = fork();
	if (pid == 0)
		lie(&liar);
	close(liar.listener);
	ck_assert_int_eq(shmb_connect(&c, path), 0);
	ck_assert_int_eq(shmb_open(c, object, liar.is_writable ? O_RDWR | O_CREAT : O_RDONLY, 0600),
			 -EPROTO);
	ck_assert(faccessat(liar.directory, object + 1, F_OK, 0) < 0 && errno == ENOENT);
	ck_assert_int_lt(c->delegation.directories.read_only, 0);
	shmb_disconnect(c);
	waitpid(pid, NULL, 0);
	close(liar.directory);
	unlink(path);
}
END_TEST

static const char rights[] = "what only the program may write";

static void fill(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	ck_assert(fd >= 0 && write(fd, rights, sizeof(rights)) == sizeof(rights));
	close(fd);
}

/* In a user namespace of the broker's own, where anybody may mount: "pool" with "covered" in it,
 * over which "target" is mounted. -1: it can't be had. */
static int covered_pool(const char *directory)
{
	const struct timespec times[2] = { { .tv_sec = 1700000000 }, { .tv_nsec = UTIME_OMIT } };
	int tree;

	if (chdir(directory) < 0 || !sandbox_enter_user(geteuid(), getegid(), CLONE_NEWNS) ||
	    mount("none", "pool", "tmpfs", 0, "mode=0777") < 0)
		return -1;
	tree = open("pool/covered", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (tree < 0 || close(tree) < 0 || mount("target", "pool/covered", NULL, MS_BIND, NULL) < 0)
		return -1;
	if (utimensat(AT_FDCWD, "pool", times, 0) < 0)
		return -1;
	tree = open_tree(AT_FDCWD, "pool", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	return openat(tree, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* Of a directory that isn't the broker's, and whose time says that it is delegated. */
static int cloned_directory(const char *directory)
{
	int tree;

	if (chdir(directory) < 0 || !sandbox_enter_user(geteuid(), getegid(), CLONE_NEWNS))
		return -1;
	tree = open_tree(AT_FDCWD, "pool", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	return openat(tree, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static const struct liar plain_liar = { .is_writable = true };

/* A broker that gives what `make` has made of the test's directory. */
static struct shmb *connect_to_liar(int (*make)(const char *directory), const struct liar *how,
				    pid_t *ret_pid)
{
	const char *directory = test_directory();
	struct liar liar = *how;
	char path[108];
	struct shmb *c;

	liar.listener = listen_at(path);
	*ret_pid = fork();
	if (*ret_pid == 0) {
		liar.directory = make(directory);
		if (liar.directory < 0) {
			fprintf(stderr, "no directory to lie with: %s\n", strerror(errno));
			_exit(1);
		}
		lie(&liar);
	}
	close(liar.listener);
	ck_assert_msg(shmb_connect(&c, path) == 0, "%s", shmb_reason(NULL));
	unlink(path);
	return c;
}

START_TEST(what_is_mounted_over_a_name_is_not_entered)
{
	static const int flags[] = { O_RDONLY, O_RDWR, O_WRONLY | O_TRUNC, O_RDWR | O_CREAT,
				     O_RDWR | O_CREAT | O_EXCL };
	char target[128], pool[128];
	struct stat st;
	struct shmb *c;
	pid_t pid;
	int fd;

	NEEDS_TABLE;
	snprintf(target, sizeof(target), "%s/target", test_directory());
	snprintf(pool, sizeof(pool), "%s/pool", test_directory());
	fill(target);
	ck_assert_int_eq(mkdir(pool, 0777), 0);
	c = connect_to_liar(covered_pool, &plain_liar, &pid);
	/* It is a pool otherwise. */
	fd = shmb_open(c, "/plain", O_RDWR | O_CREAT, 0600);
	ck_assert_msg(fd >= 0, "%s", shmb_reason(c));
	close(fd);
	ck_assert_ptr_null(c->delegation.directories.page);
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		ck_assert_int_eq(shmb_open(c, "/covered", flags[i], 0600), -EACCES);
	shmb_unlink(c, "/covered");
	ck_assert_int_eq(stat(target, &st), 0);
	ck_assert_int_eq(st.st_size, sizeof(rights));
	shmb_disconnect(c);
	waitpid(pid, NULL, 0);
}
END_TEST

START_TEST(a_clone_of_the_machines_directory_is_no_pool)
{
	const struct timespec times[2] = { { .tv_sec = 1700000000 }, { .tv_nsec = UTIME_OMIT } };
	char pool[128], object[160];
	struct statfs fs;
	struct stat st;
	struct shmb *c;
	pid_t pid;

	NEEDS_TABLE;
	TEST_NEEDS(statfs(test_directory(), &fs) == 0 && fs.f_type == TMPFS_MAGIC, "no tmpfs");
	snprintf(pool, sizeof(pool), "%s/pool", test_directory());
	snprintf(object, sizeof(object), "%s/x", pool);
	ck_assert_int_eq(mkdir(pool, 0777), 0);
	fill(object);
	ck_assert_int_eq(utimensat(AT_FDCWD, pool, times, 0), 0);
	c = connect_to_liar(cloned_directory, &plain_liar, &pid);
	ck_assert_int_eq(shmb_open(c, "/y", O_RDWR | O_CREAT, 0600), -EACCES);
	ck_assert_int_eq(shmb_open(c, "/x", O_RDWR | O_TRUNC, 0600), -EACCES);
	ck_assert_int_eq(shmb_unlink(c, "/x"), -EACCES);
	ck_assert(stat(object, &st) == 0 && st.st_size == sizeof(rights));
	shmb_disconnect(c);
	waitpid(pid, NULL, 0);
}
END_TEST

#define WAY WAYPOINT_PREFIX "0123456789abcdef"

static const struct {
	const char *text; /* with its NUL */
	size_t more;	  /* bytes of patterns behind it */
	uint32_t flags;
	bool is_good;
} said[] = {
	{ WAY, 0, WIRE_DELEGATE_OWN, true },
	{ WAY, 1024, WIRE_DELEGATE_OWN, true },
	{ WAY, 1025, WIRE_DELEGATE_OWN, false },
	{ WAY, 0, 0, true }, /* a pattern */
	{ WAYPOINT_PREFIX, 0, WIRE_DELEGATE_OWN, false },
	{ WAYPOINT_PREFIX, 1039, WIRE_DELEGATE_OWN, false },
	{ WAYPOINT_PREFIX "0123456789abcde", 100, WIRE_DELEGATE_OWN, false },
	{ WAY "0", 0, WIRE_DELEGATE_OWN, false },
	{ WAYPOINT_PREFIX "0123456789abcde/", 0, WIRE_DELEGATE_OWN, false },
	{ WAYPOINT_PREFIX "../../../../../.", 0, WIRE_DELEGATE_OWN, false },
	{ ".shmbroker.xx.0123456789abcdef", 0, WIRE_DELEGATE_OWN, false },
	{ "", 0, WIRE_DELEGATE_OWN, false },
	{ NULL, 0, WIRE_DELEGATE_OWN, false },
	{ NULL, 1024, 0, true },
	{ NULL, 1025, 0, false },
};

START_TEST(a_waypoint_that_cant_be_breaks_the_connection)
{
	char texts[1200], path[512];
	struct liar liar = { .is_writable = true, .flags = said[_i].flags, .texts = texts };
	struct shmb *c;
	pid_t pid;
	int r;

	NEEDS_TABLE;
	snprintf(path, sizeof(path), "%s/pool", test_directory());
	ck_assert_int_eq(mkdir(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/target", test_directory());
	fill(path);
	if (said[_i].text) {
		liar.texts_size = strlen(said[_i].text) + 1;
		memcpy(texts, said[_i].text, liar.texts_size);
	}
	memset(texts + liar.texts_size, 'p', said[_i].more);
	liar.texts_size += said[_i].more;
	if (said[_i].more > 0)
		texts[liar.texts_size - 1] = '\0';
	c = connect_to_liar(covered_pool, &liar, &pid);
	r = shmb_open(c, "/new", O_RDWR | O_CREAT, 0600);
	if (said[_i].is_good) {
		ck_assert_msg(r >= 0, "%s", shmb_reason(c));
		close(r);
	} else {
		ck_assert_int_eq(r, -EPROTO);
	}
	shmb_disconnect(c);
	waitpid(pid, NULL, 0);
}
END_TEST

TCase *delegate_case_of_liars(void)
{
	TCase *tests = tcase_create("liars");

	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, test_fds_setup, test_fds_teardown);
	tcase_add_loop_test(tests, a_waypoint_that_cant_be_breaks_the_connection, 0,
			    (int)(sizeof(said) / sizeof(*said)));
	tcase_add_loop_test(tests, a_directory_of_the_machines_is_no_pool, 0, 8);
	tcase_add_test(tests, what_is_mounted_over_a_name_is_not_entered);
	tcase_add_test(tests, a_clone_of_the_machines_directory_is_no_pool);
	return tests;
}
