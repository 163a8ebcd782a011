/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The table of errnos that users see, each row in every kind of pool: with the
 * kernel's permission check and with the rules alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/fd.h"
#include "tests/test.h"
#include "tests/transport.h"

/* An open, and -1 as its errno stands for success. Closes what it gets. */
static int open_errno(struct shmb *c, const char *name, const struct shmb_how *how)
{
	int fd = shmb_open_how(c, name, how, sizeof(*how));

	if (fd < 0)
		return -fd;
	close(fd);
	return 0;
}

static int flags_errno(struct shmb *c, const char *name, int oflag)
{
	return open_errno(c, name, &(struct shmb_how){ .oflag = (unsigned)oflag, .mode = 0600 });
}

#define SIZED(flags, bytes) (&(struct shmb_how){ .oflag = (flags), .mode = 0600, .size = (bytes) })
#define NEW (O_RDWR | O_CREAT | O_EXCL)

/* What the rules allow, and what an open comes to where the object is and where it isn't. */
static const struct {
	const char *allow;
	int oflag;
	int exists, missing;
} denials[] = {
	{ "\"read\"", O_RDONLY, 0, ENOENT },
	{ "\"read\"", O_RDWR, EACCES, EACCES },
	{ "\"read\"", O_WRONLY, EACCES, EACCES },
	{ "\"read\"", O_RDONLY | O_TRUNC, EACCES, EACCES },
	{ "\"read\"", O_RDONLY | O_CREAT, 0, EACCES },
	{ "\"read\"", O_RDONLY | O_CREAT | O_EXCL, EACCES, EACCES },
	{ "\"write\"", O_WRONLY, 0, ENOENT },
	{ "\"write\"", O_RDONLY, EACCES, EACCES },
	{ "\"write\"", O_RDWR, EACCES, EACCES },
	{ "[ \"read\", \"write\" ]", O_RDWR, 0, ENOENT },
	{ "[ \"read\", \"write\" ]", O_RDONLY | O_TRUNC, 0, ENOENT },
	{ "[ \"read\", \"write\" ]", O_RDWR | O_CREAT, 0, EACCES },
	{ "[ \"read\", \"write\" ]", O_RDWR | O_CREAT | O_TRUNC, 0, EACCES },
	{ "[ \"read\", \"write\" ]", NEW, EACCES, EACCES },
	{ "[ \"create\" ]", O_RDWR | O_CREAT, EACCES, EACCES },
	{ "[ \"list\", \"unlink\" ]", O_RDONLY, EACCES, EACCES },
	{ "[ \"read\", \"write\", \"create\" ]", NEW, EEXIST, 0 },
};

static int asked_errno(struct line *line, const char *name, int oflag)
{
	int fd = line_open(line, name, oflag, 0600);

	if (fd < 0)
		return -fd;
	close(fd);
	return 0;
}

START_TEST(what_the_rule_refuses_is_eacces_whether_it_exists_or_not)
{
	struct fixture fixture;
	struct line *line;
	struct shmb *c;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for the read-only twin of a directory");
	TEST_NEEDS(transport_possible(_i), TRANSPORT_MISSING);
	transport_start(_i, &fixture, __func__);
	line = line_new(&fixture);
	ck_assert_ptr_nonnull(line);
	c = fixture_connect(&fixture);
	PLACES_FOREACH(place)
	ck_assert_int_eq(asked_errno(line, place_name(place->label, "x"), NEW), 0);
	for (size_t i = 0; i < sizeof(denials) / sizeof(*denials); i++) {
		places_allow(&fixture, denials[i].allow);
		PLACES_FOREACH(place)
		{
			int exists = asked_errno(line, place_name(place->label, "x"),
						 denials[i].oflag);
			int missing = asked_errno(line, place_name(place->label, "y"),
						  denials[i].oflag);

			ck_assert_msg(exists == denials[i].exists && missing == denials[i].missing,
				      "%s, row %zu: %s and %s", place->label, i, strerror(exists),
				      strerror(missing));
		}
	}
	/* Nor is anything removed or told. */
	PLACES_FOREACH(place)
	{
		const char *name = place_name(place->label, "x");
		struct shmb_info info;

		places_allow(&fixture, "[ \"write\", \"create\" ]");
		ck_assert_int_eq(line_unlink(line, name), -EACCES);
		ck_assert_int_eq(shmb_stat(c, name, &info, sizeof(info)), -EACCES);
		places_allow(&fixture, "\"unlink\"");
		ck_assert_int_eq(line_unlink(line, name), 0);
		ck_assert_int_eq(line_unlink(line, name), -ENOENT);
	}
	ck_assert_int_eq(asked_errno(line, "/nobody-speaks-of-it", O_RDONLY), EACCES);
	ck_assert_int_eq(asked_errno(line, "/nobody-speaks-of-it", NEW), EACCES);
	ck_assert_int_eq(asked_errno(line, "/nothing-x", NEW), EACCES);
	ck_assert_int_eq(line_unlink(line, "/nobody-speaks-of-it"), -EACCES);
	shmb_disconnect(c);
	line_free(line);
	transport_stop(&fixture);
}
END_TEST

/* Things of other kinds, made where a path leads to the pool. */
static void make_directory(const char *path)
{
	ck_assert_int_eq(mkdir(path, 0777), 0);
}

static void make_fifo(const char *path)
{
	ck_assert_int_eq(mkfifo(path, 0666), 0);
}

static void make_link(const char *path)
{
	ck_assert_int_eq(symlink("/dev/null", path), 0);
}

static void make_dangling_link(const char *path)
{
	ck_assert_int_eq(symlink("nowhere", path), 0);
}

static void make_socket(const char *path)
{
	struct sockaddr_un there = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	ck_assert_uint_lt(strlen(path), sizeof(there.sun_path));
	strcpy(there.sun_path, path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&there, sizeof(there)), 0);
	close(fd);
}

static void make_device(const char *path)
{
	/* An ordinary user can't make one, and then nobody has to bear it. */
	if (test_is_root())
		ck_assert_int_eq(mknod(path, S_IFCHR | 0666, makedev(1, 3)), 0);
	else
		make_fifo(path);
}

static void (*const strangers[])(const char *path) = {
	make_directory, make_fifo, make_link, make_dangling_link, make_socket, make_device,
};
static const int stranger_flags[] = {
	O_RDONLY,	  O_WRONLY,	      O_RDWR,		O_RDONLY | O_TRUNC,
	O_RDWR | O_TRUNC, O_RDONLY | O_CREAT, O_RDWR | O_CREAT, O_RDWR | O_CREAT | O_TRUNC,
};

static void meet_stranger(const struct place *place, struct shmb *c, const char *path)
{
	const char *name = place_name(place->label, "x");
	struct stat st;

	for (size_t i = 0; i < sizeof(stranger_flags) / sizeof(*stranger_flags); i++) {
		int error = flags_errno(c, name, stranger_flags[i]);

		ck_assert_msg(error == EINVAL, "%s: flags 0%o: %s", path,
			      (unsigned)stranger_flags[i], strerror(error));
	}
	ck_assert_int_eq(open_errno(c, name, SIZED(O_RDWR | O_CREAT, 4096)), EINVAL);
	ck_assert_int_eq(open_errno(c, name, SIZED(NEW, 4096)), EEXIST);
	ck_assert_int_eq(flags_errno(c, name, NEW), EEXIST);
	ck_assert_int_eq(shmb_unlink(c, name), 0);
	ck_assert(lstat(path, &st) < 0 && errno == ENOENT);
}

START_TEST(what_is_not_an_object_is_einval_and_can_be_removed)
{
	struct fixture fixture;
	struct shmb *c;

	places_start(&fixture, __func__);
	c = fixture_connect(&fixture);
	PLACES_FOREACH(place)
	{
		if (!place->directory)
			continue;
		for (size_t i = 0; i < sizeof(strangers) / sizeof(*strangers); i++) {
			const char *path = place_path(&fixture, place, "x");

			strangers[i](path);
			meet_stranger(place, c, path);
		}
	}
	shmb_disconnect(c);
	places_stop(&fixture);
}
END_TEST

/* Another's object under a second name must not be had by the broker's own rights. */
START_TEST(a_hard_link_is_refused_where_the_rules_alone_decide)
{
	struct fixture fixture;
	struct shmb *c;
	char other[512];

	places_start(&fixture, __func__);
	c = fixture_connect(&fixture);
	PLACES_FOREACH(place)
	{
		const char *name = place_name(place->label, "x");
		int expected = place->is_grant ? EINVAL : 0, fd;
		const char *path;
		struct stat st;

		if (!place->directory)
			continue;
		path = place_path(&fixture, place, "x");
		snprintf(other, sizeof(other), "%s-other", path);
		fd = open(other, O_RDWR | O_CREAT | O_EXCL, 0600);
		ck_assert_int_eq(write(fd, "other", 5), 5);
		ck_assert_int_eq(link(other, path), 0);
		ck_assert_int_eq(flags_errno(c, name, O_RDONLY), expected);
		ck_assert_int_eq(flags_errno(c, name, O_RDWR | O_CREAT), expected);
		ck_assert_int_eq(flags_errno(c, name, O_RDWR | O_TRUNC), expected);
		ck_assert_int_eq(flags_errno(c, name, O_RDONLY | O_TRUNC), expected);
		ck_assert(fstat(fd, &st) == 0 && st.st_size == (expected ? 5 : 0));
		close(fd);
		ck_assert_int_eq(shmb_unlink(c, name), 0);
		ck_assert_int_eq(unlink(other), 0);
	}
	shmb_disconnect(c);
	places_stop(&fixture);
}
END_TEST

static void fill(const struct place *place, struct shmb *c)
{
	char name[32];

	for (int i = 0; i < PLACE_OBJECTS; i++) {
		snprintf(name, sizeof(name), "/%s-%d", place->label, i);
		ck_assert_int_eq(flags_errno(c, name, NEW), 0);
	}
}

static void meet_full(const struct place *place, struct shmb *c)
{
	const char *there = place_name(place->label, "0"), *new = place_name(place->label, "new");
	int fd;

	ck_assert_int_eq(flags_errno(c, new, NEW), ENOSPC);
	ck_assert_int_eq(flags_errno(c, new, O_RDONLY | O_CREAT), ENOSPC);
	ck_assert_int_eq(open_errno(c, new, SIZED(NEW, 4096)), ENOSPC);
	ck_assert_int_eq(flags_errno(c, new, O_RDWR), ENOENT);
	/* What is there isn't hindered. */
	ck_assert_int_eq(flags_errno(c, there, O_RDWR | O_CREAT), 0);
	ck_assert_int_eq(flags_errno(c, there, NEW), EEXIST);
	ck_assert_int_eq(open_errno(c, there, SIZED(O_RDWR | O_CREAT, 4096)), 0);
	ck_assert_int_eq(open_errno(c, there, SIZED(NEW, 4096)), EEXIST);
	ck_assert_int_eq(open_errno(c, there, SIZED(NEW, PLACE_BYTES + 1)), EEXIST);
	ck_assert_int_eq(open_errno(c, there, SIZED(O_RDWR | O_CREAT, PLACE_BYTES + 1)), 0);

	/* Unlinked but open, it still counts. */
	fd = shmb_open(c, there, O_RDWR, 0);
	ck_assert_int_eq(shmb_unlink(c, there), 0);
	ck_assert_int_eq(flags_errno(c, new, NEW), ENOSPC);
	ck_assert_int_eq(posix_fallocate(fd, 0, PLACE_BYTES), 0);
	ck_assert_int_eq(posix_fallocate(fd, 0, PLACE_BYTES + 4096), ENOSPC);
	ck_assert_int_eq(pwrite(fd, "x", 1, PLACE_BYTES), -1);
	ck_assert_int_eq(errno, ENOSPC);
	close(fd);
	ck_assert_int_eq(flags_errno(c, new, NEW), 0);
}

START_TEST(a_full_pool_is_enospc_for_what_is_new)
{
	struct fixture fixture;
	struct shmb *c;

	places_start(&fixture, __func__);
	c = fixture_connect(&fixture);
	PLACES_FOREACH(place)
	{
		if (!place->is_small)
			continue;
		ck_assert_int_eq(
			open_errno(c, place_name(place->label, "x"), SIZED(NEW, PLACE_BYTES + 1)),
			ENOSPC);
		ck_assert_int_eq(flags_errno(c, place_name(place->label, "x"), O_RDWR), ENOENT);
		fill(place, c);
		meet_full(place, c);
	}
	shmb_disconnect(c);
	places_stop(&fixture);
}
END_TEST

static int limit_own_files(void *argument)
{
	const struct fixture *fixture = argument;
	struct shmb *c;

	EXPECT(setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 8192, 8192 }) == 0);
	EXPECT(shmb_connect(&c, fixture->socket) == 0);
	PLACES_FOREACH(place)
	{
		const char *name = place_name(place->label, "x");

		EXPECT(open_errno(c, name, SIZED(NEW, 8193)) == EFBIG);
		EXPECT(flags_errno(c, name, O_RDWR) == ENOENT);
		EXPECT(open_errno(c, name, SIZED(NEW, 8192)) == 0 && shmb_unlink(c, name) == 0);
	}
	shmb_disconnect(c);
	return 0;
}

START_TEST(a_size_over_the_rules_or_the_processs_limit_is_efbig)
{
	struct fixture fixture;
	struct shmb *c;

	places_start(&fixture, __func__);
	c = fixture_connect(&fixture);
	PLACES_FOREACH(place)
	{
		const char *name = place_name(place->label, "x");

		ck_assert_int_eq(open_errno(c, name, SIZED(NEW, PLACE_MAX + 1)), EFBIG);
		ck_assert_int_eq(open_errno(c, name, SIZED(NEW, INT64_MAX)), EFBIG);
		ck_assert_int_eq(open_errno(c, name, SIZED(NEW, UINT64_MAX)), EFBIG);
		ck_assert_int_eq(flags_errno(c, name, O_RDWR), ENOENT);
		/* Of what is there it says nothing. */
		ck_assert_int_eq(flags_errno(c, name, NEW), 0);
		ck_assert_int_eq(open_errno(c, name, SIZED(NEW, PLACE_MAX + 1)), EEXIST);
		ck_assert_int_eq(open_errno(c, name, SIZED(NEW, INT64_MAX)), EEXIST);
		ck_assert_int_eq(shmb_unlink(c, name), 0);
	}
	shmb_disconnect(c);
	end_child(start_child(limit_own_files, &fixture));
	places_stop(&fixture);
}
END_TEST

/* The holder's end of a lease: it is told by SIGIO, and lets the others wait. */
static int hold_lease(int fd, int kind, const int *ends)
{
	char byte;

	signal(SIGIO, SIG_IGN);
	EXPECT(fcntl(fd, F_SETLEASE, kind) == 0);
	close(ends[1]);
	EXPECT(write(ends[0], "", 1) == 1 && read(ends[0], &byte, 1) == 0);
	return 0;
}

static void meet_lease(struct shmb *c, const char *name, int kind)
{
	static const int writing[] = { O_RDWR, O_WRONLY, O_RDWR | O_CREAT, O_RDWR | O_TRUNC,
				       O_RDONLY | O_TRUNC };
	int fd = shmb_open(c, name, kind == F_WRLCK ? O_RDWR : O_RDONLY, 0), ends[2];
	char byte;
	pid_t pid;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	pid = fork();
	if (pid == 0)
		_exit(hold_lease(fd, kind, ends));
	close(fd);
	close(ends[0]);
	ck_assert_int_eq(read(ends[1], &byte, 1), 1);
	/* Without a twin the last is the kernel's own to answer: it opens for reading. */
	for (size_t i = 0; i < sizeof(writing) / sizeof(*writing) - !test_has_namespaces(); i++)
		ck_assert_int_eq(flags_errno(c, name, writing[i]), EAGAIN);
	ck_assert_int_eq(flags_errno(c, name, O_RDONLY), kind == F_WRLCK ? EAGAIN : 0);
	ck_assert_int_eq(flags_errno(c, name, NEW), EEXIST);
	close(ends[1]);
	end_child(pid);
	ck_assert_int_eq(flags_errno(c, name, O_RDWR), 0);
}

START_TEST(a_held_lease_is_eagain_at_once)
{
	struct fixture fixture;
	struct shmb *c;

	places_start(&fixture, __func__);
	c = fixture_connect(&fixture);
	PLACES_FOREACH(place)
	{
		const char *name = place_name(place->label, "x");

		ck_assert_int_eq(flags_errno(c, name, NEW), 0);
		meet_lease(c, name, F_WRLCK);
		meet_lease(c, name, F_RDLCK);
	}
	shmb_disconnect(c);
	places_stop(&fixture);
}
END_TEST

START_TEST(too_many_objects_without_a_name_are_edquot)
{
	struct shmb_how how = { .oflag = NEW, .mode = 0600, .flags = SHMB_UNPUBLISHED };
	struct fixture fixture;
	char name[64];
	struct shmb *c;
	int error = 0;

	places_start(&fixture, __func__);
	PLACES_FOREACH(place)
	{
		c = fixture_connect(&fixture);
		for (int i = 0; i < 100 && error == 0; i++) {
			snprintf(name, sizeof(name), "/%s-%d", place->label, i);
			error = open_errno(c, name, &how);
		}
		/* A small pool is full before. */
		ck_assert_int_eq(error, place->is_small ? ENOSPC : EDQUOT);
		error = 0;
		shmb_disconnect(c);
	}
	places_stop(&fixture);
}
END_TEST

static int exhaust(void *argument)
{
	const struct place *place = argument;
	const char *name = place_name(place->label, "x");
	struct rlimit limit;
	int last;

	EXPECT(shmb_supported() && getrlimit(RLIMIT_NOFILE, &limit) == 0);
	last = dup(0);
	limit.rlim_cur = (rlim_t)last;
	close(last);
	EXPECT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	EXPECT(shmb_shm_open(name, NEW, 0600) < 0 && errno == EMFILE);
	EXPECT(shmb_shm_unlink(name) < 0 && errno == ENOENT);
	limit.rlim_cur = limit.rlim_max;
	EXPECT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	EXPECT(shmb_shm_open(name, O_RDWR, 0) < 0 && errno == ENOENT);
	return 0;
}

static int meet_nobody(void *argument)
{
	(void)argument;
	setenv("SHMBROKER_SOCKET", "/nowhere/at/all", 1);
	EXPECT(shmb_shm_open("/x", O_RDONLY, 0) < 0 && errno == ECONNREFUSED);
	EXPECT(shmb_shm_unlink("/x") < 0 && errno == ECONNREFUSED);
	return 0;
}

START_TEST(no_descriptor_is_emfile_and_no_broker_econnrefused)
{
	struct fixture fixture;

	places_start(&fixture, __func__);
	PLACES_FOREACH(place)
	end_child(start_child(exhaust, (void *)(uintptr_t)place));
	end_child(start_child(meet_nobody, NULL));
	places_stop(&fixture);
}
END_TEST

START_TEST(a_pool_that_cant_be_had_is_eopnotsupp_with_the_reason)
{
	static const char config[] =
		"pools: { host: { path = \"@host@\" } frames: { size = \"64K\" objects = 8 } }\n"
		"rules: ( { name = \"f\" names = \"/f-*\" allow = \"all\" pool = \"frames\" },\n"
		"         { name = \"r\" names = \"/r-*\" allow = \"read\" pool = \"host\" },\n"
		"         { name = \"h\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";
	static const struct keeper_fault twin = { "twin unshare", EPERM };
	struct fixture fixture;
	struct shmb *c;

	for (int i = 0; i < 2; i++) {
		bool is_table = i == 0;

		fixture_start(&fixture, &(struct fixture_how){ .config = config,
							       .no_table = is_table,
							       .fault = is_table ? NULL : &twin });
		c = fixture_connect(&fixture);
		ck_assert_int_eq(flags_errno(c, is_table ? "/f-x" : "/r-x", O_RDONLY), EOPNOTSUPP);
		ck_assert_ptr_nonnull(strstr(shmb_reason(c), "unshare"));
		ck_assert_ptr_nonnull(strstr(shmb_reason(c), is_table ? "frames" : "host"));
		ck_assert_int_eq(flags_errno(c, "/x", NEW), 0);
		ck_assert_int_eq(shmb_unlink(c, "/x"), 0);
		shmb_disconnect(c);
		fixture_stop(&fixture);
	}
}
END_TEST

void semantics_add_errnos(TCase *tests)
{
	tcase_add_loop_test(tests, what_the_rule_refuses_is_eacces_whether_it_exists_or_not, 0,
			    TRANSPORTS);
	tcase_add_test(tests, what_is_not_an_object_is_einval_and_can_be_removed);
	tcase_add_test(tests, a_hard_link_is_refused_where_the_rules_alone_decide);
	tcase_add_test(tests, a_full_pool_is_enospc_for_what_is_new);
	tcase_add_test(tests, a_size_over_the_rules_or_the_processs_limit_is_efbig);
	tcase_add_test(tests, a_held_lease_is_eagain_at_once);
	tcase_add_test(tests, too_many_objects_without_a_name_are_edquot);
	tcase_add_test(tests, no_descriptor_is_emfile_and_no_broker_econnrefused);
	tcase_add_test(tests, a_pool_that_cant_be_had_is_eopnotsupp_with_the_reason);
}
