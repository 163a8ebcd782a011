/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A descriptor that was opened to read never becomes writable: some hundred and fifty
 * attacks, by the object's owner and by root, in each kind of pool, and the object looked at after
 * each through a descriptor that may write.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "daemon/fd.h"
#include "tests/attack.h"
#include "tests/test.h"
#include "tests/transport.h"

#define SIZE 8192
#define ATTACKS_MIN 150
#define ATTACKS_WORTH 100 /* of them at least can change what may be written */
#define SECONDS 20	  /* no attack waits for anything; this ends what hangs */

static const struct attack_row *const tables[] = { attacks_by_descriptor, attacks_by_path,
						   attacks_by_memory, attacks_by_mount };
#define TABLES (sizeof(tables) / sizeof(*tables))

/* All that an attack could change. */
struct snapshot {
	struct stat st;
	int seals;
	ssize_t attributes;
	char content[SIZE];
};

static void look(int kept, struct snapshot *ret)
{
	memset(ret, 0, sizeof(*ret));
	/* Times first: reading is an access. */
	ck_assert_int_eq(fstat(kept, &ret->st), 0);
	ck_assert_int_ge(pread(kept, ret->content, SIZE, 0), 0);
	ret->seals = fcntl(kept, F_GET_SEALS);
	ret->attributes = flistxattr(kept, NULL, 0);
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* What is different, or NULL. */
static const char *difference(const struct snapshot *a, const struct snapshot *b)
{
	if (memcmp(a->content, b->content, SIZE) != 0)
		return "content";
	if (a->st.st_size != b->st.st_size)
		return "size";
	if (a->st.st_mode != b->st.st_mode)
		return "mode";
	if (a->st.st_uid != b->st.st_uid || a->st.st_gid != b->st.st_gid)
		return "owner";
	if (a->st.st_nlink != b->st.st_nlink)
		return "number of names";
	if (!same_time(a->st.st_mtim, b->st.st_mtim) || !same_time(a->st.st_ctim, b->st.st_ctim) ||
	    !same_time(a->st.st_atim, b->st.st_atim))
		return "times";
	if (a->seals != b->seals)
		return "seals";
	return a->attributes != b->attributes ? "attributes" : NULL;
}

/* One object under attack. */
struct siege {
	const struct fixture *fixture;
	const char *name;
	const struct attack_row *row;
	uid_t uid; /* of who attacks; -1: as we are */
	int oflag; /* with which the attacked descriptor is opened */
	int kept;  /* ours, to look with */
	char scratch[128];
	bool stays; /* in the broker's mount namespace */
	/*
	 * Over a bus one connection, ours, asks for each descriptor: one of each attacker's would
	 * cost as much as all the rest of the attack.
	 */
	struct line *asker;
	int given;
};

static void siege_begin(struct siege *s, const struct fixture *fixture)
{
	*s = (struct siege){
		.fixture = fixture, .uid = (uid_t)-1, .kept = -EBADF, .given = -EBADF
	};
	snprintf(s->scratch, sizeof(s->scratch), "%s/scratch", test_directory());
	ck_assert(mkdir(s->scratch, 0700) == 0 || errno == EEXIST);
	ck_assert_int_eq(chmod(s->scratch, 01777), 0);
}

static void siege_end(struct siege *s, struct shmb *c)
{
	int flags = 0;

	/* Root may have made it immutable. */
	ioctl(s->kept, FS_IOC_SETFLAGS, &flags);
	s->kept = fd_close(s->kept);
	shmb_unlink(c, s->name);
}

/* A new object of that name, of the ordinary attacker's. */
static void siege_renew(struct siege *s, struct shmb *c)
{
	char content[SIZE];

	siege_end(s, c);
	s->kept = shmb_open(c, s->name, O_RDWR | O_CREAT | O_EXCL, 0600);
	ck_assert_msg(s->kept >= 0, "%s: %s", s->name, shmb_reason(c));
	memset(content, 'c', sizeof(content));
	ck_assert_int_eq(write(s->kept, content, SIZE), SIZE);
	if (test_is_root())
		ck_assert_int_eq(fchown(s->kept, USER_A, USER_A), 0);
}

/* In the reader's process, which is of the machine's first mount namespace, not of the broker's. */
static int attacker_begin(const struct siege *s)
{
	EXPECT(setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 }) == 0);
	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
	alarm(SECONDS);
	if (test_is_root() && !s->stays)
		EXPECT(places_leave() == 0);
	if (s->uid != (uid_t)-1)
		EXPECT(setgroups(0, NULL) == 0 && setresgid(s->uid, s->uid, s->uid) == 0 &&
		       setresuid(s->uid, s->uid, s->uid) == 0);
	/* Or /proc would be root's. */
	EXPECT(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0);
	return 0;
}

/* A descriptor or -errno. */
static int ask(const struct siege *s)
{
	struct line *c;
	int fd;

	if (s->asker)
		return s->given;
	c = line_new(s->fixture);
	if (!c)
		return -ECONNREFUSED;
	fd = line_open(c, s->name, s->oflag, 0);
	line_free(c);
	return fd;
}

/* 3 when there was nothing to attack; else it doesn't matter how it ends. */
static int attacker(void *argument)
{
	const struct siege *s = argument;
	struct attack attack = { .size = SIZE, .scratch = s->scratch };
	int protection = PROT_READ;

	close(s->kept);
	if (attacker_begin(s) != 0 || chdir("/") < 0)
		return 3;
	/* That of the listener is in the broker's mount namespace, too. */
	attack.fd = ask(s);
	if (attack.fd < 0)
		return 3;
	if ((s->oflag & O_ACCMODE) == O_RDWR)
		protection |= PROT_WRITE;
	attack.map = mmap(NULL, SIZE, protection, MAP_SHARED, attack.fd, 0);
	s->row->run(&attack, s->row->argument);
	return 0;
}

static void run_attack(struct siege *s, const struct attack_row *row)
{
	int status;
	pid_t pid;

	s->row = row;
	if (s->asker)
		s->given = line_open(s->asker, s->name, s->oflag, 0);
	pid = start_child(attacker, s);
	s->given = fd_close(s->given);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(!WIFEXITED(status) || WEXITSTATUS(status) != 3, "%s: no descriptor for %s",
		      s->name, row->name);
	ck_assert_msg(!WIFSIGNALED(status) || WTERMSIG(status) != SIGALRM, "%s: %s hangs", s->name,
		      row->name);
}

/* All attacks on one object; the number of those that changed it, each of which is told. */
static unsigned attack_all(struct siege *s, struct shmb *c, unsigned *ret_tried)
{
	struct snapshot before, after;
	unsigned changed = 0;

	*ret_tried = 0;
	siege_renew(s, c);
	for (size_t i = 0; i < TABLES; i++) {
		for (const struct attack_row *row = tables[i]; row->name; row++) {
			const char *what;

			look(s->kept, &before);
			ck_assert_int_eq(fstat(s->kept, &before.st), 0);
			run_attack(s, row);
			look(s->kept, &after);
			what = difference(&before, &after);
			++*ret_tried;
			if (!what)
				continue;
			changed++;
			if ((s->oflag & O_ACCMODE) == O_RDONLY)
				fprintf(stderr, "%s, uid %d: %s changes its %s\n", s->name,
					(int)s->uid, row->name, what);
			siege_renew(s, c);
		}
	}
	siege_end(s, c);
	return changed;
}

static void attack_as(uid_t uid, bool stays, enum transport transport, const char *test)
{
	struct fixture fixture;
	struct siege siege;
	unsigned tried;
	struct shmb *c;

	transport_start(transport, &fixture, test);
	siege_begin(&siege, &fixture);
	siege.uid = uid;
	siege.stays = stays;
	siege.oflag = O_RDONLY;
	if (transport == OVER_BUS)
		siege.asker = line_new(&fixture);
	c = fixture_connect(&fixture);
	PLACES_FOREACH(place)
	{
		siege.name = place_name(place->label, "x");
		ck_assert_uint_eq(attack_all(&siege, c, &tried), 0);
		ck_assert_uint_ge(tried, ATTACKS_MIN);
	}
	shmb_disconnect(c);
	line_free(siege.asker);
	transport_stop(&fixture);
}

START_TEST(its_owner_never_makes_a_read_only_descriptor_writable)
{
	TEST_NEEDS(test_has_namespaces(), "no namespaces for the read-only twin of a directory");
	TEST_NEEDS(transport_possible(_i), TRANSPORT_MISSING);
	attack_as(test_is_root() ? USER_A : (uid_t)-1, false, _i, __func__);
}
END_TEST

START_TEST(root_never_makes_a_read_only_descriptor_writable)
{
	TEST_NEEDS(test_has_namespaces(), "no namespaces for the read-only twin of a directory");
	TEST_NEEDS(test_is_root(), "needs root to attack as root");
	attack_as(0, false, OVER_SOCKET, __func__);
}
END_TEST

/* Who may change the mounts there could make a given pool's own twin writable: so it isn't used. */
START_TEST(nor_does_root_in_the_namespace_of_the_mounts_that_were_given)
{
	TEST_NEEDS(test_has_namespaces(), "no namespaces for the read-only twin of a directory");
	TEST_NEEDS(test_is_root(), "needs root to attack as root");
	attack_as(0, true, OVER_SOCKET, __func__);
}
END_TEST

/* The attacks are worth something: what may write is changed by many of them. */
START_TEST(the_same_attacks_change_an_object_through_a_writable_descriptor)
{
	struct fixture fixture;
	struct siege siege;
	unsigned tried;
	struct shmb *c;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for the read-only twin of a directory");
	transport_start(OVER_SOCKET, &fixture, __func__);
	siege_begin(&siege, &fixture);
	siege.oflag = O_RDWR;
	siege.name = place_name(places[0].label, "x");
	c = fixture_connect(&fixture);
	for (int as_root = 0; as_root <= test_is_root(); as_root++) {
		siege.uid = !test_is_root() ? (uid_t)-1 : as_root ? 0 : USER_A;
		ck_assert_uint_ge(attack_all(&siege, c, &tried), ATTACKS_WORTH);
	}
	shmb_disconnect(c);
	transport_stop(&fixture);
}
END_TEST

/* How a descriptor that can't write comes to be: each leads through the twin. */
static const struct {
	unsigned oflag;
	uint64_t size;
	bool exists;
} ways[] = {
	{ O_RDONLY, 0, true },
	{ O_RDONLY | O_APPEND, 0, true },
	{ O_RDONLY | O_TRUNC, 0, true },
	{ O_RDONLY | O_CREAT, 0, true },
	{ O_RDONLY | O_CREAT | O_TRUNC, 0, true },
	{ O_RDONLY | O_CREAT, SIZE, true },
	{ O_RDONLY | O_CREAT, 0, false },
	{ O_RDONLY | O_CREAT | O_EXCL, 0, false },
	{ O_RDONLY | O_CREAT | O_TRUNC, 0, false },
	{ O_RDONLY | O_CREAT, SIZE, false },
	{ O_RDONLY | O_CREAT | O_EXCL, SIZE, false },
};

static void check_way(struct line *c, const char *name, size_t i)
{
	struct shmb_how how = { .oflag = ways[i].oflag, .mode = 0666, .size = ways[i].size };
	_cleanup_close_ int fd = -EBADF;
	struct statvfs fs;
	char path[64];

	if (ways[i].exists)
		fd_close(line_open(c, name, O_RDWR | O_CREAT, 0666));
	fd = line_open_how(c, name, &how);
	ck_assert_msg(fd >= 0, "%s, way %zu: %s", name, i, strerror(-fd));
	ck_assert(fstatvfs(fd, &fs) == 0 && fs.f_flag & ST_RDONLY);
	ck_assert(fchmod(fd, 0600) < 0 && errno == EROFS);
	ck_assert(fchown(fd, geteuid(), getegid()) < 0 && errno == EROFS);
	ck_assert(futimens(fd, NULL) < 0 && errno == EROFS);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ck_assert(open(path, O_RDWR) < 0 && errno == EROFS);
	ck_assert(open(path, O_RDONLY | O_TRUNC) < 0 && errno == EROFS);
	ck_assert_int_eq(line_unlink(c, name), 0);
	/* Nor when it has no name any more. */
	ck_assert(open(path, O_RDWR) < 0 && errno == EROFS);
}

START_TEST(each_way_to_open_for_reading_alone_leads_through_the_twin)
{
	struct fixture fixture;
	struct line *c;

	TEST_NEEDS(test_has_namespaces(), "no namespaces for the read-only twin of a directory");
	TEST_NEEDS(transport_possible(_i), TRANSPORT_MISSING);
	transport_start(_i, &fixture, __func__);
	c = line_new(&fixture);
	ck_assert_ptr_nonnull(c);
	PLACES_FOREACH(place)
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		check_way(c, place_name(place->label, "x"), i);
	line_free(c);
	transport_stop(&fixture);
}
END_TEST

Suite *suite_read_only(void)
{
	Suite *suite = suite_create("read_only");
	TCase *tests = tcase_create("read_only");

	tcase_set_timeout(tests, 300);
	tcase_add_checked_fixture(tests, test_fds_setup, test_fds_teardown);
	tcase_add_loop_test(tests, its_owner_never_makes_a_read_only_descriptor_writable, 0,
			    TRANSPORTS);
	tcase_add_test(tests, root_never_makes_a_read_only_descriptor_writable);
	tcase_add_test(tests, nor_does_root_in_the_namespace_of_the_mounts_that_were_given);
	tcase_add_test(tests, the_same_attacks_change_an_object_through_a_writable_descriptor);
	tcase_add_loop_test(tests, each_way_to_open_for_reading_alone_leads_through_the_twin, 0,
			    TRANSPORTS);
	suite_add_tcase(suite, tests);
	return suite;
}
