/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In a program of ours whose calls are to fail: begins with what its starter has armed. */
#include <stdlib.h>

#include "tests/fault.h"

__attribute__((constructor)) static void join(void)
{
	const char *fd = getenv("FAULT_PLAN");

	if (fd)
		fault_join(atoi(fd));
}
