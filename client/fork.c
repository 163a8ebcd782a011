/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whether a connection was made by this very process. Asking getpid(2) at each call
 * would be a fifth of what the library adds to it: so there is a page that
 * the kernel wipes in a forked child (MADV_WIPEONFORK), with the pid in it.
 */
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client/internal.h"

static _Atomic pid_t *_Atomic mark;

static _Atomic pid_t *map_mark(void)
{
	_Atomic pid_t *mine, *expected = NULL;

	mine = mmap(NULL, sizeof(*mine), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0);
	if (mine == MAP_FAILED)
		return NULL;
	if (madvise((void *)mine, sizeof(*mine), MADV_WIPEONFORK) == 0 &&
	    atomic_compare_exchange_strong(&mark, &expected, mine))
		return mine;
	munmap((void *)mine, sizeof(*mine));
	return expected;
}

/* A child of vfork shares the page: there it is the parent, whose connections still are. */
pid_t shmb_process(void)
{
	_Atomic pid_t *page = atomic_load(&mark);
	pid_t known = 0, self = getpid();

	if (!page)
		page = map_mark();
	if (!page || atomic_compare_exchange_strong(page, &known, self))
		return self;
	return known;
}

bool shmb_is_other_process(pid_t process)
{
	_Atomic pid_t *page = atomic_load_explicit(&mark, memory_order_relaxed);

	return process != (page ? atomic_load_explicit(page, memory_order_relaxed) : getpid());
}
