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

static int confine(enum filter_role role)
{
	int error = confine_is_valgrind() ? 0 : filter_install(role);

	return error < 0 ? error : 0;
}

int confine_keeper(void)
{
	return confine(FILTER_KEEPER);
}

int confine_twin(void)
{
	return confine(FILTER_TWIN);
}

int confine_closer(void)
{
	return confine(FILTER_CLOSER);
}
