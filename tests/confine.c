/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See confine.h. What can't be filtered at all is the filter's own suite to say. */
#include "tests/confine.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/filter.h"

bool confine_is_valgrind(void)
{
	const char *preloaded = getenv("LD_PRELOAD");

	return preloaded && strstr(preloaded, "vgpreload");
}

static void confine(enum filter_role role)
{
	if (!confine_is_valgrind())
		filter_install(role);
}

void confine_keeper(void)
{
	confine(FILTER_KEEPER);
}

void confine_twin(void)
{
	confine(FILTER_TWIN);
}

void confine_closer(void)
{
	confine(FILTER_CLOSER);
}
