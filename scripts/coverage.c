/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Linked to the check program by scripts/coverage. gcov's counters become memory that is shared with
 * every child: what a helper or a test's own process runs counts, however it ends, by _exit or by a
 * signal, and whatever its ids, its filter and its mounts let it write. So it is the first process
 * alone that writes them down.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Of scripts/coverage.ld: whole pages. */
extern char coverage_begin[], coverage_end[];

/* libgcov's, which are called where a process ends, before an exec, and after one that failed. */
void __real___gcov_exit(void);
void __wrap___gcov_exit(void);
void __wrap___gcov_dump(void);
void __wrap___gcov_reset(void);

static pid_t first;

/* Before any code that counts. */
static __attribute__((constructor(101))) void share(void)
{
	first = getpid();
	if (mmap(coverage_begin, (size_t)(coverage_end - coverage_begin), PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) {
		perror("mmap of gcov's counters");
		abort();
	}
}

void __wrap___gcov_exit(void)
{
	if (getpid() == first)
		__real___gcov_exit();
}

void __wrap___gcov_dump(void)
{
}

void __wrap___gcov_reset(void)
{
}
