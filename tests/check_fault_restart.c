/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Faults of a start that goes on with what the process before left: it has all of it, or less maybe
 * for itself, or it ends with an error. Nothing is lost for the next one.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/internal.h"
#include "tests/fault_begin.h"

static const char config[] =
	"pools: { frames: { size = \"1M\" objects = 16 }\n"
	"         own: { per = \"user\" size = \"64K\" objects = 8 } }\n"
	"rules: ( { name = \"frames\" names = \"/frames-*\" allow = \"all\" pool = \"frames\" },\n"
	"  { name = \"own\" names = \"/*\" allow = \"all\" pool = \"own\" delegate = true } )\n";

#define GUARD_S 30 /* only a start that hangs lets this pass */
/* Two starts each: all of them take minutes with the leak checker. */
#define STEP (IS_SANITIZED ? 11 : 1)

/* What there is to be found again. */
static void leave_things(struct fixture *f, struct kept *kept, int *hold, char *directory,
			 size_t directory_size)
{
	const struct shmb_context how = { .app = "org.example.one" };
	struct shmb_how sealed = { .oflag = O_RDWR | O_CREAT,
				   .mode = 0600,
				   .size = 4096,
				   .flags = SHMB_UNPUBLISHED | SHMB_SEALED };
	struct shmb_how temporary = { .oflag = O_RDWR | O_CREAT,
				      .mode = 0600,
				      .flags = SHMB_TEMPORARY };
	struct shmb *c;
	int fd;

	fixture_start(f, &(struct fixture_how){
				 .config = config, .is_user = !test_is_root(), .kept = kept });
	c = fixture_connect(f);
	fd = shmb_open(c, "/frames-1", O_RDWR | O_CREAT, 0600);
	FAULT_EXPECT(fd >= 0 && write(fd, "content", 7) == 7 && close(fd) == 0);
	fd = shmb_open(c, "/own", O_RDWR | O_CREAT, 0600);
	FAULT_EXPECT(fd >= 0 && write(fd, "content", 7) == 7 && close(fd) == 0);
	fd = shmb_open_how(c, "/frames-sealed", &sealed, sizeof(sealed));
	FAULT_EXPECT(fd >= 0 && write(fd, "content", 7) == 7 && close(fd) == 0);
	FAULT_EXPECT(shmb_publish(c, "/frames-sealed", 0) == 0);
	fd = shmb_open_how(c, "/frames-temporary", &temporary, sizeof(temporary));
	FAULT_EXPECT(fd >= 0 && write(fd, "content", 7) == 7 && close(fd) == 0);
	*hold = shmb_create_context(c, &how, sizeof(how), directory, directory_size);
	FAULT_EXPECT(*hold >= 0);
	shmb_disconnect(c);
	fixture_leave(f);
}

/* As main does it: 0 or -errno, and what there is of it. */
static int begin(struct fixture *f, struct kept *kept)
{
	struct keeper_failure why;
	int error, userns, mntns;

	fault_pause();
	userns = fcntl(kept->userns, F_DUPFD_CLOEXEC, 3);
	mntns = fcntl(kept->mntns, F_DUPFD_CLOEXEC, 3);
	fault_resume();
	error = fault_start_helpers(f, userns, mntns);
	if (error == 0)
		error = state_open(&f->state, f->keeper, &why) ? -EIO : 0;
	f->setup.state = &f->state;
	if (error == 0)
		error = fault_listen(f);
	return error == 0 ? fault_serve(f, kept) : error;
}

static void expect_content(struct shmb *c, const char *name)
{
	char text[8] = "";
	int fd = shmb_open(c, name, O_RDONLY, 0);

	FAULT_EXPECT(fd >= 0);
	FAULT_EXPECT(read(fd, text, 7) == 7 && strcmp(text, "content") == 0);
	close(fd);
}

/* The next start, of which nothing fails, has all of it. */
static void expect_all(struct kept *kept, const char *directory, struct fault_runs *shared)
{
	char socket[256];
	struct fixture f;
	struct shmb *c;

	shared->lost = "the next start";
	fixture_start(&f, &(struct fixture_how){
				  .config = config, .is_user = !test_is_root(), .kept = kept });
	c = fixture_connect(&f);
	shared->lost = "objects";
	expect_content(c, "/frames-1");
	expect_content(c, "/own");
	shared->lost = "a sealed object";
	expect_content(c, "/frames-sealed");
	shared->lost = "a temporary name";
	expect_content(c, "/frames-temporary");
	shmb_disconnect(c);
	shared->lost = "a context";
	snprintf(socket, sizeof(socket), "%s/socket", directory);
	FAULT_EXPECT(shmb_connect(&c, socket) == 0);
	shmb_disconnect(c);
	fixture_leave(&f);
	shared->lost = NULL;
}

/* Of one start the at-th call fails. Whether one did. */
static bool start_once(const struct fixture *template, struct kept *kept, struct fault_runs *shared)
{
	struct fixture f = *template;
	struct fault_hit hit;

	fault_clear(&f);
	kept_by(&f.setup, kept);
	alarm(GUARD_S);
	fault_arm(FAULT_SELF | FAULT_HELPER, shared->at, 0);
	shared->result = begin(&f, kept);
	fault_disarm(&hit);
	FAULT_EXPECT(hit.happened || shared->result == 0);
	fixture_end(&f);
	alarm(0);
	return hit.happened;
}

static void run(struct fault_runs *shared)
{
	struct kept kept = KEPT_NOTHING;
	struct fixture f;
	char directory[128];
	bool happened;
	int hold;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fault_begin();
	leave_things(&f, &kept, &hold, directory, sizeof(directory));
	expect_all(&kept, directory, shared);
	do {
		happened = start_once(&f, &kept, shared);
		expect_all(&kept, directory, shared);
		shared->at += STEP;
	} while (happened);
	exit(0);
}

START_TEST(a_fault_of_a_restart)
{
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	fault_run_all("restart", STEP, run);
}
END_TEST

TCase *fault_case_of_restarts(void)
{
	TCase *tests = tcase_create("restarts");

	tcase_set_timeout(tests, 300);
	tcase_set_tags(tests, "long");
	tcase_add_checked_fixture(tests, test_fds_setup, test_fds_teardown);
	tcase_add_test(tests, a_fault_of_a_restart);
	return tests;
}
