/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The process's umask, without any other thread ever seeing it changed: umask(2)
 * can only be read by setting it. Called for requests that may create.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/single_threaded.h>
#include <sys/stat.h>

#include "client/internal.h"

/* A handler that makes files in between would make them world-writable. */
static mode_t umask_alone(void)
{
	sigset_t all, before;
	mode_t mask;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	mask = umask(0);
	umask(mask);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return mask;
}

/* It is the second line, behind a name of at most 64 bytes: proc(5), Linux 4.7. */
static int umask_from_proc(mode_t *ret)
{
	char text[256];
	char *line, *end;
	unsigned long mask;
	int r = shmb_read_status(text, sizeof(text));

	if (r < 0)
		return r == -EMFILE || r == -ENFILE || r == -ENOMEM ? r : -EOPNOTSUPP;
	line = strstr(text, "\nUmask:\t");
	if (!line)
		return -EOPNOTSUPP;
	line += strlen("\nUmask:\t");
	mask = strtoul(line, &end, 8);
	if (end == line || *end != '\n' || mask > 0777)
		return -EOPNOTSUPP;
	*ret = (mode_t)mask;
	return 0;
}

int shmb_umask(mode_t *ret)
{
	if (!__libc_single_threaded)
		return umask_from_proc(ret);
	*ret = umask_alone();
	return 0;
}
