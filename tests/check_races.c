/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pools in which others make names by themselves, delegated and lent ones, while they swap under
 * each name whatever there is: no opening, creating, publishing or unlinking leads out of the pool,
 * or waits. A case of the suite "hostile".
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/edge.h"
#include "tests/fault.h"
#include "tests/lend_fixture.h"

#define ROUNDS 1500
#define SECRET "not in any pool"

static const char delegated[] =
	"pools: { own: { per = \"user\" size = \"256K\" objects = 32 }\n"
	"         host: { path = \"@host@\" } }\n"
	"rules: ( { name = \"r\" names = \"/*\" allow = \"all\" pool = \"own\" "
	"delegate = true } )\n";

/* What is outside, which the links lead to: a file, and a name that isn't there. */
struct outside {
	char file[128], missing[128];
};

static void make_outside(struct outside *ret)
{
	int fd;

	snprintf(ret->file, sizeof(ret->file), "%s/secret", test_directory());
	snprintf(ret->missing, sizeof(ret->missing), "%s/missing", test_directory());
	fd = open(ret->file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, SECRET, sizeof(SECRET)), (ssize_t)sizeof(SECRET));
	close(fd);
}

static void expect_untouched(const struct outside *outside)
{
	char content[64] = "";
	struct stat st;
	int fd = open(outside->file, O_RDONLY | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(read(fd, content, sizeof(content)), (ssize_t)sizeof(SECRET));
	ck_assert_str_eq(content, SECRET);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_uint_eq(st.st_nlink, 1);
	close(fd);
	ck_assert_int_eq(access(outside->missing, F_OK), -1);
}

/* Under "n" everything by turns, as fast as it goes, until it is killed. */
static _Noreturn void swap(int dir, const struct outside *outside)
{
	for (;;) {
		symlinkat(outside->file, dir, "next");
		renameat(dir, "next", dir, "n");
		symlinkat(outside->missing, dir, "next");
		renameat(dir, "next", dir, "n");
		mkfifoat(dir, "next", 0666);
		renameat(dir, "next", dir, "n");
		mknodat(dir, "next", S_IFREG | 0666, 0);
		renameat(dir, "next", dir, "n");
		linkat(dir, "n", dir, "second", 0);
		unlinkat(dir, "second", 0);
		unlinkat(dir, "n", 0);
		mkdirat(dir, "n", 0777);
		symlinkat("..", dir, "n/up");
		unlinkat(dir, "n/up", 0);
		renameat(dir, "n", dir, "away");
		unlinkat(dir, "n", AT_REMOVEDIR);
		unlinkat(dir, "away", AT_REMOVEDIR);
	}
}

static void expect_inside(int fd, dev_t pool)
{
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert(S_ISREG(st.st_mode));
	ck_assert_msg(st.st_dev == pool, "it is in another file system");
	close(fd);
}

/* Each is an object of the pool, or refused as something that can be there by turns. */
static bool is_refusal(int error)
{
	return error == -ENOENT || error == -EEXIST || error == -EINVAL || error == -ENOSPC ||
	       error == -EAGAIN || error == -EACCES || error == -EISDIR || error == -ELOOP ||
	       error == -ENOTEMPTY || error == -EBUSY || error == -EPERM;
}

static unsigned ask_all(struct shmb *c, dev_t pool)
{
	static const int flags[] = { O_RDONLY, O_RDWR, O_RDWR | O_CREAT, O_RDWR | O_TRUNC,
				     O_RDWR | O_CREAT | O_EXCL };
	const struct shmb_how sized = { .oflag = O_RDWR | O_CREAT, .mode = 0600, .size = 4096 };
	const struct shmb_how unpublished = {
		.oflag = O_RDWR | O_CREAT, .mode = 0600, .size = 4096, .flags = SHMB_UNPUBLISHED
	};
	struct shmb_info info;
	unsigned opened = 0;
	int fd, rc;

	for (unsigned round = 0; round < ROUNDS; round++) {
		switch (round % 8) {
		case 5:
			fd = shmb_open_how(c, "/n", &sized, sizeof(sized));
			break;
		case 6:
			fd = shmb_open_how(c, "/n", &unpublished, sizeof(unpublished));
			rc = shmb_publish(c, "/n", SHMB_REPLACE);
			ck_assert_msg(rc == 0 || is_refusal(rc), "publish: %d", rc);
			break;
		case 7:
			rc = shmb_stat(c, "/n", &info, sizeof(info));
			ck_assert_msg(rc == 0 || is_refusal(rc), "stat: %d", rc);
			ck_assert(rc != 0 || info.size != sizeof(SECRET));
			fd = shmb_unlink(c, "/n");
			fd = fd == 0 ? -ENOENT : fd;
			break;
		default:
			fd = shmb_open(c, "/n", flags[round % 8], 0600);
		}
		ck_assert_msg(fd >= 0 || is_refusal(fd), "round %u: %d, %s", round, fd,
			      shmb_reason(c));
		if (fd >= 0) {
			expect_inside(fd, pool);
			opened++;
		}
	}
	return opened;
}

static dev_t device_of(int dir)
{
	struct stat st;

	ck_assert_int_eq(fstat(dir, &st), 0);
	return st.st_dev;
}

static void end_swapping(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, WNOHANG), 0);
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
}

START_TEST(nothing_swapped_in_a_delegated_pool_leads_out_of_it)
{
	struct outside outside;
	struct fixture fixture;
	struct shmb *c, *other;
	struct stat st;
	dev_t pool;
	pid_t pid;
	int fd;

	NEEDS_TABLE;
	make_outside(&outside);
	start(&fixture, delegated);
	c = fixture_connect(&fixture);
	fd = shmb_open(c, "/first", O_RDWR | O_CREAT, 0600);
	ck_assert_msg(fd >= 0, "%s", shmb_reason(c));
	ck_assert_int_eq(fstat(fd, &st), 0);
	pool = st.st_dev;
	close(fd);
	/* One that has the directory, and one that asks the broker. */
	other = fixture_connect(&fixture);
	other->features &= ~WIRE_FEATURE_DELEGATION;
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		swap(c->delegation.directories.writable, &outside);
	ck_assert_uint_gt(ask_all(c, pool), 0);
	ck_assert_uint_gt(ask_all(other, pool), 0);
	end_swapping(pid);
	expect_untouched(&outside);
	edge_expect_served(&fixture, other);
	shmb_disconnect(other);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

/* An object that is made by the broker in a pool where others open names, too. */
static void expect_no_waiting(struct shmb *c, const char *name)
{
	int fd;

	fault_exclusive_flags = 0;
	fd = shmb_open(c, name, O_RDWR | O_CREAT | O_EXCL, 0600);
	ck_assert_msg(fd >= 0, "%s", shmb_reason(c));
	ck_assert(fault_exclusive_flags & O_NONBLOCK);
	ck_assert_int_eq(fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDWR);
	close(fd);
	ck_assert_int_eq(shmb_unlink(c, name), 0);
}

/*
 * The kernel makes it first, and then waits for the lease that somebody has taken meanwhile, forty
 * seconds long: seen with one who makes and one who leases as fast as they can.
 */
START_TEST(what_is_new_in_a_path_pool_may_have_a_lease)
{
	static const char path[] =
		"pools: { host: { path = \"@host@\" } }\n"
		"rules: ( { name = \"r\" names = \"/*\" allow = \"all\" pool = \"host\" } )\n";
	struct fixture fixture;
	struct shmb *c;

	start(&fixture, path);
	c = fixture_connect(&fixture);
	expect_no_waiting(c, "/new");
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

START_TEST(what_is_new_in_a_delegated_pool_may_have_a_lease)
{
	struct fixture fixture;
	struct shmb *c, *other;

	NEEDS_TABLE;
	start(&fixture, delegated);
	c = fixture_connect(&fixture);
	close(shmb_open(c, "/first", O_RDWR | O_CREAT, 0600));
	other = fixture_connect(&fixture);
	other->features &= ~WIRE_FEATURE_DELEGATION;
	expect_no_waiting(other, "/new");
	shmb_disconnect(other);
	shmb_disconnect(c);
	fixture_stop(&fixture);
}
END_TEST

struct swapping {
	struct inside inside;
	const struct outside *outside;
};

static int swap_inside(void *argument)
{
	struct swapping *swapping = argument;
	int dir;

	EXPECT(enter(&swapping->inside) == 0);
	dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	EXPECT(dir >= 0);
	swap(dir, swapping->outside);
}

START_TEST(nothing_swapped_in_a_lent_pool_leads_out_of_it)
{
	struct outside outside;
	struct swapping swapping = { .outside = &outside };
	struct fixture fixture;
	char directory[128];
	struct app app;
	dev_t pool;
	pid_t pid;

	NEEDS_TABLE;
	make_outside(&outside);
	start(&fixture, one_rule);
	app_start(&app, &fixture, "org.example.app");
	snprintf(directory, sizeof(directory), "%s/inside", test_directory());
	ck_assert_int_eq(mkdir(directory, 0755), 0);
	swapping.inside = (struct inside){ .mount = lent(app.c), .directory = directory };
	pool = device_of(swapping.inside.mount);
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(swap_inside(&swapping));
	ck_assert_uint_gt(ask_all(app.c, pool), 0);
	end_swapping(pid);
	close(swapping.inside.mount);
	expect_untouched(&outside);
	edge_expect_served(&fixture, app.c);
	app_end(&app);
	fixture_stop(&fixture);
}
END_TEST

TCase *hostile_case_of_races(void)
{
	TCase *test = tcase_create("races");

	tcase_set_timeout(test, 120);
	tcase_add_test(test, nothing_swapped_in_a_delegated_pool_leads_out_of_it);
	tcase_add_test(test, what_is_new_in_a_path_pool_may_have_a_lease);
	tcase_add_test(test, what_is_new_in_a_delegated_pool_may_have_a_lease);
	tcase_add_test(test, nothing_swapped_in_a_lent_pool_leads_out_of_it);
	return test;
}
