/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Faults of a start: it works, with less maybe, or ends with an error; nothing is left of it, and
 * the next works.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/fault_begin.h"

/* With the definition of one pool more. */
static const char config[] =
	"pools: { %s host: { path = \"@host@\" access = \"caller\" }\n"
	"         frames: { size = \"1M\" objects = 16 } own: { per = \"user\" size = \"64K\" "
	"objects = 8 } }\n"
	"rules: ( { name = \"own\" user = \"root\" names = \"/own-*\" allow = \"all\" pool = "
	"\"own\" },\n"
	"  { name = \"frames\" group = \"root\" names = [ \"/frames-*\", \"/more\" ] allow = "
	"\"all\" pool = \"frames\" },\n"
	"  { name = \"all\" names = \"/*\" allow = [ \"read\", \"list\" ] pool = \"host\" } )\n";

#define GUARD_S 20 /* only a start that hangs lets this pass */
/* All of them take minutes with the leak checker, which looks at the end of each. */
#define STEP (IS_SANITIZED ? 7 : 1)

/* As main does it: 0 or -errno, and what there is of it. */
static int begin(struct fixture *f)
{
	struct keeper_failure why;
	int error = fault_start_helpers(f, -EBADF, -EBADF);

	if (error == 0)
		error = fault_listen(f);
	if (error < 0)
		return error;
	if (keeper_has_table(f->keeper, NULL) && state_open(&f->state, f->keeper, &why) == 0)
		f->setup.state = &f->state;
	return fault_serve(f, NULL);
}

static unsigned count_descriptors(void)
{
	DIR *listing = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(listing))
		count++;
	closedir(listing);
	return count;
}

/* One start, of which the at-th call fails; 0: none. Whether one did. */
static bool start_once(const struct fixture *template, unsigned at, struct fault_runs *shared)
{
	struct fixture f = *template;
	unsigned descriptors = count_descriptors();
	long allocated = fault_allocated();
	struct fault_hit hit;
	bool is_there;

	fault_clear(&f);
	alarm(GUARD_S);
	fault_arm(FAULT_SELF | FAULT_HELPER, at, 0);
	shared->result = begin(&f);
	fault_disarm(&hit);
	FAULT_EXPECT(hit.happened || shared->result == 0);
	is_there = access(f.socket, F_OK) == 0;
	FAULT_EXPECT(is_there || shared->result < 0);
	fixture_end(&f);
	alarm(0);
	FAULT_EXPECT(access(f.socket, F_OK) != 0 || shared->result < 0);
	FAULT_EXPECT(count_descriptors() == descriptors);
	FAULT_EXPECT(fault_allocated() == allocated);
	return hit.happened;
}

/* Two mounts of one tmpfs, in a mount namespace of this process's: its definition, or nothing. */
static void give_pool(char *ret, size_t size)
{
	char path[128], read_only[128];

	*ret = '\0';
	snprintf(path, sizeof(path), "%s/given", test_directory());
	snprintf(read_only, sizeof(read_only), "%s/given-read-only", test_directory());
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mkdir(path, 0755) < 0 || mkdir(read_only, 0755) < 0 ||
	    mount("given", path, "tmpfs", 0, "mode=1777") < 0 ||
	    mount(path, read_only, NULL, MS_BIND, NULL) < 0 ||
	    mount(NULL, read_only, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0)
		return;
	snprintf(ret, size, "given: { path = \"%s\" read-only-path = \"%s\" }", path, read_only);
}

static void run(struct fault_runs *shared)
{
	char given[512], text[2048];
	struct fixture f = { 0 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fault_begin();
	give_pool(given, sizeof(given));
	/* Root can. */
	FAULT_EXPECT(*given || !test_is_root());
	snprintf(text, sizeof(text), config, given);
	fixture_prepare(&f, text);
	start_once(&f, 0, shared);
	while (start_once(&f, shared->at, shared))
		shared->at += STEP;
	exit(0);
}

START_TEST(a_fault_of_a_start)
{
	TEST_NEEDS(test_has_namespaces(), "no namespaces for private pools");
	fault_run_all("start", STEP, run);
}
END_TEST

TCase *fault_case_of_starts(void)
{
	TCase *tests = tcase_create("starts");

	tcase_set_timeout(tests, 300);
	tcase_set_tags(tests, "long");
	tcase_add_checked_fixture(tests, test_fds_setup, test_fds_teardown);
	tcase_add_test(tests, a_fault_of_a_start);
	return tests;
}
