/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Delegated pools that are one user's alone: a drop-in is one system call there, as the C library's
 * function is, and by its path it is known where it leads. A case of the suite "delegate".
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/single_threaded.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/process.h"
#include "tests/delegate_fixture.h"
#include "tests/raw_client.h"
#include "tests/sandbox.h"
#include "tests/store_fixture.h"

#define OBJECTS 16 /* of each user's pool */

/* An ordinary user, as whom we are or as root can be. */
static uid_t somebody(void)
{
	return test_is_root() ? 23451 : (uid_t)-1;
}

/* A forked child has one thread, whatever its parent had. NULL: it has to look. */
static struct shmb_delegation *own_delegation(void)
{
	struct shmb_delegation *d = NULL;
	struct process *process;
	int fd;

	__libc_single_threaded = true;
	fd = shmb_shm_open("/x", O_RDWR | O_CREAT, 0600);
	close(fd);
	process = fd < 0 ? NULL : shmb_process_borrow();
	if (process && process->link.delegation.way_size > 0)
		d = &process->link.delegation;
	if (process)
		shmb_process_give_back(process);
	return d;
}

#define ALLOW(call)                                                                                \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1),                                     \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* Whatever else is called ends the process. */
static int forbid_all_but(void)
{
	struct sock_filter program[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(openat2),
		ALLOW(close),
		ALLOW(exit_group),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog filter = { .len = sizeof(program) / sizeof(*program), .filter = program };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

/* Each second it looks: it has, at the beginning of one. */
static bool begin_second(void)
{
	struct timespec now;
	int fd;

	do {
		clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	} while (now.tv_nsec > 100000000);
	fd = shmb_shm_open("/x", O_RDONLY, 0);
	return fd >= 0 && close(fd) == 0;
}

static int make_three_calls(void)
{
	int fd;

	EXPECT(begin_second());
	shmb_shm_unlink("/y");
	EXPECT(forbid_all_but() == 0);
	fd = shmb_shm_open("/x", O_RDWR, 0);
	EXPECT(fd >= 0 && close(fd) == 0);
	fd = shmb_shm_open("/y", O_RDWR | O_CREAT | O_EXCL | O_TRUNC, 0600);
	EXPECT(fd >= 0 && close(fd) == 0);
	fd = shmb_shm_open("/y", O_RDONLY, 0);
	EXPECT(fd >= 0 && close(fd) == 0);
	return 0;
}

static int call_as_little_as_the_kernel_asks(void *argument)
{
	int status = -1;

	(void)argument;
	EXPECT(own_delegation());
	/* Another try for a machine that stood still meanwhile. */
	for (int i = 0; i < 5 && status != 0; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			int fd = shmb_shm_open("/x", O_RDWR, 0); /* a connection of its own */

			_exit(fd < 0 || close(fd) < 0 ? 99 : make_three_calls());
		}
		EXPECT(waitpid(pid, &status, 0) == pid);
	}
	return status == 0 ? 0 : 98;
}

START_TEST(an_open_is_one_system_call)
{
	NEEDS_TABLE;
	run_beside_broker(alone, somebody(), call_as_little_as_the_kernel_asks, NULL);
}
END_TEST

static void ring(int number)
{
	(void)number;
}

static int be_as_shm_open(void *argument)
{
	const struct itimerval soon = { { 0, 10000 }, { 0, 10000 } };
	struct shmb_delegation *d;
	struct stat st;
	int fd, lowest, native;
	char name[64];

	(void)argument;
	d = own_delegation();
	EXPECT(d);
	snprintf(name, sizeof(name), "/shmbroker-test-%d", getpid());
	native = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0666);
	EXPECT(native >= 0);
	shm_unlink(name);
	lowest = dup(0);
	close(lowest);
	umask(027);
	errno = 77;
	fd = shmb_shm_open("//y", O_RDWR | O_CREAT | O_EXCL, 01666);
	EXPECT(fd == lowest && errno == 77);
	umask(022);
	EXPECT(fstat(fd, &st) == 0 && st.st_mode == (S_IFREG | 0640) && st.st_uid == geteuid());
	EXPECT(fcntl(fd, F_GETFL) == fcntl(native, F_GETFL));
	EXPECT(fcntl(fd, F_GETFD) == FD_CLOEXEC);
	EXPECT(write(fd, "content", 7) == 7);
	close(fd);
	fd = shmb_shm_open("/y", O_RDWR | O_TRUNC, 0);
	EXPECT(fd >= 0 && fstat(fd, &st) == 0 && st.st_size == 0);
	close(fd);
	EXPECT(shmb_shm_open("/y", O_RDWR | O_CREAT | O_EXCL, 0600) < 0 && errno == EEXIST);
	EXPECT(shmb_shm_open("/none", O_RDWR, 0) < 0 && errno == ENOENT);
	EXPECT(*shmb_reason(NULL));
	fd = shmb_shm_open("/y", O_RDONLY, 0);
	EXPECT(fd >= 0 && !*shmb_reason(NULL) && fchmod(fd, 0666) < 0 && errno == EROFS);
	close(fd);
	for (int i = 0; i < 5; i++) {
		static const char *const names[] = { "/a/b", "/..", "/.", "/", "/.shmbroker.1" };

		EXPECT(shmb_shm_open(names[i], O_RDWR | O_CREAT, 0600) < 0 && errno == EINVAL);
	}
	EXPECT(shmb_shm_open("/y", O_WRONLY | O_RDWR, 0) < 0 && errno == EINVAL);
	fd = shmb_shm_open("/.hidden", O_RDWR | O_CREAT, 0600);
	EXPECT(fd >= 0 && close(fd) == 0 && shmb_shm_unlink("/.hidden") == 0);
	/* A link leads nowhere, as for the C library's. */
	EXPECT(symlinkat("y", d->directories.writable, "link") == 0);
	EXPECT(shmb_shm_open("/link", O_RDWR, 0) < 0 && errno == EINVAL);
	EXPECT(symlinkat("/", d->directories.writable, "d") == 0);
	EXPECT(shmb_shm_open("/d", O_RDONLY, 0) < 0 && errno == EINVAL);
	/* Nobody but himself can put this one there; a signal ends his waiting at it. */
	EXPECT(mkfifoat(d->directories.writable, "fifo", 0600) == 0);
	for (int i = 0; (fd = shmb_shm_open("/fifo", O_RDWR, 0)) < 0 && i < 5; i++)
		EXPECT(begin_second());
	EXPECT(fd >= 0 && fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode));
	close(fd);
	EXPECT(sigaction(SIGALRM, &(struct sigaction){ .sa_handler = ring }, NULL) == 0);
	EXPECT(setitimer(ITIMER_REAL, &soon, NULL) == 0);
	EXPECT(shmb_shm_open("/fifo", O_RDONLY, 0) < 0 && errno == EINVAL);
	EXPECT(setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL) == 0);
	/* Rights that the broker has and he hasn't. */
	EXPECT(fchmodat(d->directories.writable, "y", 0, 0) == 0);
	fd = shmb_shm_open("/y", O_RDWR, 0);
	EXPECT(fd >= 0 && close(fd) == 0);
	return 0;
}

START_TEST(what_it_opens_is_what_shm_open_would)
{
	NEEDS_TABLE;
	run_beside_broker(alone, somebody(), be_as_shm_open, NULL);
}
END_TEST

/* Directories of the program's own, in which such names are, too. */
static int put_others_in_place(void *argument)
{
	const char *directory = argument;
	struct shmb_delegation *d;
	int fd, others, numbers[2];
	struct stat st;

	d = own_delegation();
	EXPECT(d);
	others = open(directory, O_RDONLY | O_DIRECTORY);
	EXPECT(others >= 0 && mkdirat(others, "own", 0700) == 0);
	/* One such as he can't know. */
	EXPECT(mkdirat(others, "own/" WAYPOINT_PREFIX "0123456789abcdef", 0700) == 0);
	fd = openat(others, "own", O_RDONLY | O_DIRECTORY);
	close(others);
	others = fd;
	fd = openat(others, "x", O_RDWR | O_CREAT, 0600);
	EXPECT(fd >= 0 && write(fd, "other", 5) == 5);
	close(fd);
	for (int i = 0; i < 4; i++) {
		d = own_delegation();
		EXPECT(d);
		numbers[0] = d->directories.writable;
		numbers[1] = d->directories.read_only;
		EXPECT(dup2(others, numbers[0]) >= 0 && dup2(others, numbers[1]) >= 0);
		switch (i) {
		case 0:
			fd = shmb_shm_open("/x", O_RDWR, 0);
			EXPECT(fd >= 0 && fstat(fd, &st) == 0 && st.st_size == 0);
			close(fd);
			break;
		case 1:
			fd = shmb_shm_open("/x", O_RDONLY, 0);
			EXPECT(fd >= 0 && fstat(fd, &st) == 0 && st.st_size == 0);
			close(fd);
			break;
		case 2:
			fd = shmb_shm_open("/new", O_RDWR | O_CREAT | O_EXCL, 0600);
			EXPECT(fd >= 0 && faccessat(others, "new", F_OK, 0) < 0);
			close(fd);
			break;
		default:
			EXPECT(shmb_shm_unlink("/x") == 0);
		}
		/* They are the program's. */
		EXPECT(fstat(numbers[0], &st) == 0 && S_ISDIR(st.st_mode));
		EXPECT(close(numbers[0]) == 0 && close(numbers[1]) == 0);
	}
	EXPECT(unlinkat(others, "x", 0) == 0);
	return 0;
}

START_TEST(a_directory_under_its_number_is_not_entered)
{
	char place[256];

	NEEDS_TABLE;
	snprintf(place, sizeof(place), "%s/others", test_directory());
	ck_assert_int_eq(mkdir(place, 0777), 0);
	ck_assert_int_eq(chmod(place, 0777), 0);
	run_beside_broker(alone, somebody(), put_others_in_place, place);
}
END_TEST

static const char *name_of(const struct shmb_delegation *d, char name[WAYPOINT_SIZE])
{
	snprintf(name, WAYPOINT_SIZE, "%.*s", (int)(d->way_size - strlen("/../")), d->way);
	return name;
}

static int lose_the_way(void *argument)
{
	const bool *is_root = argument;
	struct shmb_delegation *d;
	char name[WAYPOINT_SIZE];
	int r, fd;

	d = own_delegation();
	EXPECT(d);
	r = unlinkat(d->directories.writable, name_of(d, name), AT_REMOVEDIR);
	/* It is the broker's, who may be himself. */
	EXPECT(*is_root ? r < 0 && (errno == EPERM || errno == EACCES) : r == 0);
	EXPECT(mkdirat(d->directories.writable, "sub", 0700) == 0);
	EXPECT(mkdirat(d->directories.writable, "sub/deep", 0700) == 0);
	if (*is_root)
		snprintf(d->way, sizeof(d->way), WAYPOINT_PREFIX "0123456789abcdef/../");
	EXPECT(symlinkat("sub/deep", d->directories.writable, name_of(d, name)) == 0);
	for (int i = 0; i < 2; i++) {
		fd = shmb_shm_open("/x", O_RDWR, 0);
		EXPECT(fd >= 0 && close(fd) == 0);
		fd = shmb_shm_open("/y", O_RDWR | O_CREAT | O_EXCL, 0600);
		EXPECT(fd >= 0 && close(fd) == 0);
		EXPECT(faccessat(d->directories.writable, "sub/y", F_OK, 0) < 0);
		EXPECT(shmb_shm_unlink("/y") == 0);
		EXPECT(shmb_shm_unlink("/y") < 0 && errno == ENOENT);
		EXPECT(shmb_shm_open("/y", O_RDWR, 0) < 0 && errno == ENOENT);
	}
	return 0;
}

START_TEST(without_its_way_it_is_the_long_one)
{
	bool is_root = test_is_root();

	NEEDS_TABLE;
	run_beside_broker(alone, somebody(), lose_the_way, &is_root);
}
END_TEST

/* Where it looks, once a second or as another thread is at it, it is no object. */
static void *open_fifo(void *argument)
{
	int fd;

	do {
		fd = shmb_shm_open("/fifo", O_RDONLY, 0);
	} while (fd < 0 && errno == EINVAL);
	*(int *)argument = fd;
	return NULL;
}

/* A thread that waits at a FIFO keeps nobody from what is none. */
static int wait_beside_others(void *argument)
{
	struct shmb_delegation *d;
	pthread_t thread;
	int fd, writer = -1, waiting = -1;

	(void)argument;
	d = own_delegation();
	EXPECT(d);
	EXPECT(mkfifoat(d->directories.writable, "fifo", 0600) == 0);
	EXPECT(pthread_create(&thread, NULL, open_fifo, &waiting) == 0);
	for (int i = 0; i < 20; i++) {
		test_moment();
		fd = shmb_shm_open("/x", O_RDWR, 0);
		EXPECT(fd >= 0 && close(fd) == 0);
		fd = shmb_shm_open("/y", O_RDWR | O_CREAT, 0600);
		EXPECT(fd >= 0 && close(fd) == 0 && shmb_shm_unlink("/y") == 0);
	}
	/* It waits there by then, or comes to. */
	while (writer < 0) {
		writer = openat(d->directories.writable, "fifo", O_WRONLY | O_NONBLOCK);
		EXPECT(writer >= 0 || errno == ENXIO);
		test_moment();
	}
	EXPECT(pthread_join(thread, NULL) == 0 && waiting >= 0);
	return 0;
}

START_TEST(who_waits_at_what_is_his_own_holds_no_lock)
{
	NEEDS_TABLE;
	run_beside_broker(alone, somebody(), wait_beside_others, NULL);
}
END_TEST

/* What holds its name is opened by nobody: a process that comes by rights over it, too. */
static int open_sealed(void *argument)
{
	struct shmb_delegation *d;
	char text[8] = "", name[WAYPOINT_SIZE];
	struct shmb *c;
	int fd;

	(void)argument;
	d = own_delegation();
	EXPECT(d);
	EXPECT(shmb_connect(&c, NULL) == 0);
	put_sealed(c, "/sealed", "sealed");
	EXPECT(faccessat(d->directories.writable, name_of(d, name), F_OK, 0) < 0 &&
	       errno == ENOENT);
	EXPECT(shmb_shm_open("/sealed", O_RDWR, 0) < 0 && errno == EACCES);
	fd = shmb_shm_open("/sealed", O_RDONLY, 0);
	EXPECT(fd >= 0 && read(fd, text, 6) == 6 && strcmp(text, "sealed") == 0);
	EXPECT(fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK);
	close(fd);
	/* Nor is there another. */
	fd = shmb_shm_open("/x", O_RDWR | O_CREAT, 0600);
	EXPECT(fd >= 0 && close(fd) == 0 && d->directories.writable >= 0 && d->way_size == 0);
	EXPECT(shmb_unlink(c, "/sealed") == 0);
	return 0;
}

START_TEST(what_is_sealed_is_found_there)
{
	NEEDS_TABLE;
	run_beside_broker(alone, somebody(), open_sealed, NULL);
}
END_TEST

static const struct {
	const char *per, *one, *other; /* what its rules say beside */
	bool is_alone;
} rows[] = {
	{ "user", "sandboxed = false", "sandboxed = false", true },
	{ "user", "sandboxed = false", "", false },
	{ "user", "", "sandboxed = false", false },
	{ "user", "", "sandboxed = true", false },
	{ "none", "sandboxed = false", "sandboxed = false", false },
};

START_TEST(where_others_may_make_names_there_is_none)
{
	struct fixture fixture;
	struct shmb *c;
	char text[1024];

	NEEDS_TABLE;
	snprintf(
		text, sizeof(text),
		"pools: { own: { per = \"%s\" size = \"256K\" objects = 16 } }\n"
		"rules: ( { name = \"o\" names = \"/other\" allow = \"all\" pool = \"own\" %s },\n"
		"{ name = \"a\" names = \"/*\" allow = \"all\" pool = \"own\" delegate = true %s } "
		")\n",
		rows[_i].per, rows[_i].other, rows[_i].one);
	start(&fixture, text);
	c = fixture_connect(&fixture);
	put(c, "/x", "one");
	ck_assert_int_ge(c->delegation.directories.writable, 0);
	ck_assert_int_eq(c->delegation.way_size > 0, rows[_i].is_alone);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

struct look {
	struct store_objects objects;
	unsigned instances;
	bool has_waypoint;
};

static void look_at_own(struct fixture *fixture, void *argument)
{
	struct store *store = server_broker(fixture->server)->store;
	struct look *look = argument;
	struct statfs fs;

	*look = (struct look){ 0 };
	for (struct instance *i = store_each(store, NULL); i; i = store_each(store, i)) {
		if (strcmp(i->pool->config.name, "own") != 0)
			continue;
		look->instances++;
		look->has_waypoint = *i->waypoint;
		ck_assert_int_eq(store_usage(i, &fs), 0);
		look->objects = store_objects(i, &fs);
	}
}

static void expect_objects(struct fixture *fixture, uint64_t count, bool has_waypoint)
{
	struct look look;

	fixture_call(fixture, look_at_own, &look);
	ck_assert_uint_eq(look.instances, 1);
	ck_assert_uint_eq(look.objects.count, count);
	ck_assert_uint_eq(look.objects.limit, OBJECTS - has_waypoint);
	ck_assert_int_eq(look.has_waypoint, has_waypoint);
}

/* Only a keeper that hangs lets this pass. */
#define GUARD_S 50

/* Unused for long enough. */
static void expect_release(struct fixture *fixture)
{
	time_t end = time(NULL) + GUARD_S;
	struct look look;

	do {
		fixture_tick(fixture, 10 * 60 * 1000);
		fixture_call(fixture, look_at_own, &look);
	} while (look.instances > 0 && time(NULL) < end);
	ck_assert_uint_eq(look.instances, 0);
}

START_TEST(it_is_there_as_long_as_it_is_of_use)
{
	struct fixture fixture;
	struct shmb *c;

	NEEDS_TABLE;
	start(&fixture, alone);
	c = fixture_connect(&fixture);
	put(c, "/x", "one");
	expect_objects(&fixture, 1, true);
	put_sealed(c, "/sealed", "sealed");
	expect_objects(&fixture, 2, false);
	ck_assert_int_eq(raw_reload(c), 0);
	expect(c, "/x", "one");
	expect_objects(&fixture, 2, false);
	ck_assert_int_eq(shmb_unlink(c, "/sealed"), 0);
	expect(c, "/x", "one");
	ck_assert_int_eq(raw_reload(c), 0);
	expect(c, "/x", "one");
	expect_objects(&fixture, 1, true);
	/* In use: the pool isn't released. */
	fixture_tick(&fixture, 10 * 60 * 1000);
	expect(c, "/x", "one");
	ck_assert_int_eq(shmb_raw_call(c, WIRE_DROP, "own", 3, NULL, NULL), 0);
	expect_release(&fixture);
	put(c, "/x", "one");
	ck_assert_int_eq(shmb_unlink(c, "/x"), 0);
	expect_objects(&fixture, 0, true);
	/* And so, with nothing in it, it goes. */
	expect_release(&fixture);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* Who had a part in it once may have its directory still, and what is in it. */
START_TEST(who_had_a_part_before_has_one)
{
	struct kept kept = KEPT_NOTHING;
	struct fixture fixture;
	struct shmb *c;

	NEEDS_TABLE;
	fixture_start(&fixture, &(struct fixture_how){ .config = alone,
						       .is_user = !test_is_root(),
						       .kept = &kept });
	c = fixture_connect(&fixture);
	put(c, "/x", "one");
	expect_objects(&fixture, 1, true);
	fixture_configure(&fixture, all);
	ck_assert_int_eq(raw_reload(c), 0);
	expect_objects(&fixture, 1, false);
	expect(c, "/x", "one");
	ck_assert_uint_eq(c->delegation.way_size, 0);
	fixture_configure(&fixture, alone);
	ck_assert_int_eq(raw_reload(c), 0);
	expect(c, "/x", "one");
	ck_assert_uint_eq(c->delegation.way_size, 0);
	shmb_disconnect(c);
	fixture_leave(&fixture);
	/* The next broker knows, too, until the pool has been another. */
	fixture_start(&fixture, &(struct fixture_how){ .config = alone,
						       .is_user = !test_is_root(),
						       .kept = &kept });
	c = fixture_connect(&fixture);
	expect(c, "/x", "one");
	expect_objects(&fixture, 1, false);
	ck_assert_int_eq(shmb_unlink(c, "/x"), 0);
	expect_release(&fixture);
	put(c, "/x", "two");
	expect_objects(&fixture, 1, true);
	shmb_disconnect(c);
	fixture_stop(&fixture);
	kept_done(&kept);
}
END_TEST

START_TEST(the_next_broker_has_another)
{
	struct kept kept = KEPT_NOTHING;
	char way[2][WAYPOINT_SIZE];
	struct fixture fixture;
	struct shmb *c;

	NEEDS_TABLE;
	for (int i = 0; i < 2; i++) {
		fixture_start(&fixture, &(struct fixture_how){ .config = alone,
							       .is_user = !test_is_root(),
							       .kept = &kept });
		c = fixture_connect(&fixture);
		put(c, "/x", "one");
		expect_objects(&fixture, 1, true);
		name_of(&c->delegation, way[i]);
		if (i == 1)
			ck_assert_int_lt(
				faccessat(c->delegation.directories.writable, way[0], F_OK, 0), 0);
		shmb_disconnect(c);
		if (i == 0)
			fixture_leave(&fixture);
	}
	fixture_stop(&fixture);
	kept_done(&kept);
}
END_TEST

#define OWN(size, objects, rest)                                                                   \
	"pools: { own: { per = \"user\" size = \"" size "\" objects = " objects " } }\n"           \
	"rules: ( { name = \"a\" names = \"/*\" allow = \"all\" pool = \"own\" delegate = "        \
	"true " rest " } )\n"

/* What is the broker's own keeps nobody's reload from fitting. */
START_TEST(a_pool_is_as_small_as_what_others_have_in_it)
{
	struct fixture fixture;
	struct shmb *c;

	NEEDS_TABLE;
	start(&fixture, OWN("256K", "16", "sandboxed = false"));
	c = fixture_connect(&fixture);
	for (char name[] = "/x0"; name[2] < '8'; name[2]++)
		put(c, name, "one");
	expect_objects(&fixture, 8, true);
	fixture_configure(&fixture, OWN("256K", "7", "sandboxed = false"));
	ck_assert_int_eq(raw_reload(c), -EBUSY);
	expect(c, "/x1", "one");
	fixture_configure(&fixture, OWN("256K", "8", "sandboxed = false"));
	ck_assert_int_eq(raw_reload(c), 0);
	expect(c, "/x1", "one");
	/* There is no room for it. */
	ck_assert_uint_eq(c->delegation.way_size, 0);
	ck_assert_int_eq(shmb_open(c, "/more", O_RDWR | O_CREAT, 0600), -ENOSPC);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(a_small_pool_is_wholly_for_objects)
{
	struct fixture fixture;
	struct shmb *c;

	NEEDS_TABLE;
	start(&fixture, OWN("64K", "1", "sandboxed = false"));
	c = fixture_connect(&fixture);
	put(c, "/x", "one");
	ck_assert_int_ge(c->delegation.directories.writable, 0);
	ck_assert_uint_eq(c->delegation.way_size, 0);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

static const char apps[] =
	"pools: { own: { per = \"app\" size = \"256K\" objects = 16 } }\n"
	"rules: ( { name = \"a\" sandboxed = true names = \"/*\" allow = \"all\" pool = \"own\"\n"
	"           delegate = true } )\n";

/* A context of who we are, and a connection through it. The hold is left open. */
static int enter_context(char socket[static 160], struct shmb **ret)
{
	const struct shmb_context how = { .app = "org.example.one" };
	char directory[128];
	struct shmb *maker;
	int hold;

	EXPECT(shmb_connect(&maker, NULL) == 0);
	hold = shmb_create_context(maker, &how, sizeof(how), directory, sizeof(directory));
	EXPECT(hold >= 0);
	snprintf(socket, 160, "%s/socket", directory);
	EXPECT(shmb_connect(ret, socket) == 0);
	return 0;
}

/* 0: what its context's maker makes there is opened without a look; 2: not. */
static int make_in_context(void *argument)
{
	char socket[160];
	struct shmb *c;

	(void)argument;
	EXPECT(enter_context(socket, &c) == 0);
	put(c, "/x", "one");
	EXPECT(c->delegation.directories.writable >= 0);
	return c->delegation.way_size > 0 ? 0 : 2;
}

/* As in most sandboxes, where nobody but the user himself is known. */
static int make_in_user_namespace(void *argument)
{
	char socket[160], name[WAYPOINT_SIZE];
	uid_t uid = geteuid();
	gid_t gid = getegid();
	struct shmb *c;

	(void)argument;
	EXPECT(enter_context(socket, &c) == 0);
	shmb_disconnect(c);
	EXPECT(sandbox_enter_user(uid, gid, 0));
	EXPECT(shmb_connect(&c, socket) == 0);
	put(c, "/x", "one");
	EXPECT(c->delegation.directories.writable >= 0 && c->delegation.way_size > 0);
	EXPECT(faccessat(c->delegation.directories.writable, name_of(&c->delegation, name), F_OK,
			 0) == 0);
	return 0;
}

/* Root's contexts are for others. */
START_TEST(an_apps_pool_is_its_own_where_its_maker_is_it)
{
	struct fixture fixture;

	NEEDS_TABLE;
	start(&fixture, apps);
	ck_assert_int_eq(test_run_as(somebody(), somebody(), NULL, 0, make_in_context, NULL), 0);
	ck_assert_int_eq(test_run_as(somebody(), somebody(), NULL, 0, make_in_user_namespace, NULL),
			 0);
	if (test_is_root())
		ck_assert_int_eq(test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, make_in_context, NULL),
				 2);
	fixture_stop(&fixture);
}
END_TEST

static int visit(void *argument)
{
	struct shmb *c;

	EXPECT(shmb_connect(&c, argument) == 0);
	put(c, "/visited", "by another");
	EXPECT(c->delegation.way_size == 0);
	return 0;
}

/* Its maker can let in whom he likes. */
static int let_another_in(void *argument)
{
	char socket[160], name[WAYPOINT_SIZE];
	struct shmb *c;
	int status, directory;
	pid_t pid;

	(void)argument;
	/* As who may be both. */
	EXPECT(seteuid(23451) == 0);
	EXPECT(enter_context(socket, &c) == 0);
	put(c, "/x", "one");
	EXPECT(c->delegation.way_size > 0);
	name_of(&c->delegation, name);
	directory = c->delegation.directories.writable;
	EXPECT(faccessat(directory, name, F_OK, 0) == 0);
	/* As a sandbox has it. */
	*strrchr(socket, '/') = '\0';
	snprintf(socket, sizeof(socket), "/proc/self/fd/%d/socket",
		 open(socket, O_PATH | O_DIRECTORY));
	pid = fork();
	if (pid == 0) {
		if (seteuid(0) < 0 || setresuid(23452, 23452, 23452) < 0)
			_exit(99);
		_exit(visit(socket));
	}
	EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
	EXPECT(faccessat(directory, name, F_OK, 0) < 0 && errno == ENOENT);
	expect(c, "/x", "one");
	EXPECT(c->delegation.directories.writable >= 0 && c->delegation.way_size == 0);
	return 0;
}

START_TEST(whoever_else_is_let_in_has_a_part)
{
	struct fixture fixture;

	NEEDS_TABLE;
	TEST_NEEDS(test_is_root(), "needs root to be two users");
	start(&fixture, apps);
	ck_assert_int_eq(test_run_as((uid_t)-1, (gid_t)-1, NULL, 0, let_another_in, NULL), 0);
	fixture_stop(&fixture);
}
END_TEST

TCase *delegate_case_of_own(void)
{
	TCase *tests = tcase_create("own");

	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, test_fds_setup, test_fds_teardown);
	/* Sanitizers make calls of their own. */
	if (!IS_SANITIZED)
		tcase_add_test(tests, an_open_is_one_system_call);
	tcase_add_test(tests, what_it_opens_is_what_shm_open_would);
	tcase_add_test(tests, a_directory_under_its_number_is_not_entered);
	tcase_add_test(tests, without_its_way_it_is_the_long_one);
	tcase_add_test(tests, who_waits_at_what_is_his_own_holds_no_lock);
	tcase_add_test(tests, what_is_sealed_is_found_there);
	tcase_add_loop_test(tests, where_others_may_make_names_there_is_none, 0,
			    (int)(sizeof(rows) / sizeof(*rows)));
	tcase_add_test(tests, it_is_there_as_long_as_it_is_of_use);
	tcase_add_test(tests, who_had_a_part_before_has_one);
	tcase_add_test(tests, the_next_broker_has_another);
	tcase_add_test(tests, a_pool_is_as_small_as_what_others_have_in_it);
	tcase_add_test(tests, a_small_pool_is_wholly_for_objects);
	tcase_add_test(tests, an_apps_pool_is_its_own_where_its_maker_is_it);
	tcase_add_test(tests, whoever_else_is_let_in_has_a_part);
	return tests;
}
