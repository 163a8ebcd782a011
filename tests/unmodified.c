/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A program as anybody's: it knows shm_open(3) and shm_unlink(3), and nothing of us is linked to
 * it. check_preload.c runs it under the preload library, and without: unmodified WAY [ARG...]. Its
 * exit status is the errno of what failed, 0: nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

/* --- memory: whose calls are counted, and handed on --- */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);

static unsigned allocations;

void *malloc(size_t size)
{
	allocations++;
	return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	allocations++;
	return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
	allocations++;
	return __libc_realloc(memory, size);
}

/* --- the ways --- */

enum { ERRNO_BEFORE = 77, NOT_AS_PROMISED = 200 };

static int lowest_free(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

static int make(const char *name)
{
	int lowest = lowest_free(), fd;

	errno = ERRNO_BEFORE;
	fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return errno;
	if (fd != lowest || errno != ERRNO_BEFORE)
		return NOT_AS_PROMISED;
	close(fd);
	return 0;
}

static int make_and_remove(const char *name)
{
	int error = make(name);

	if (error == 0 && shm_unlink(name) < 0)
		error = errno;
	return error;
}

static int way_make(char **arguments)
{
	return make(arguments[0]);
}

static int way_remove(char **arguments)
{
	return shm_unlink(arguments[0]) < 0 ? errno : 0;
}

/* Says when it is there. */
static int way_hold(char **arguments)
{
	int error = make(arguments[0]);

	printf("%d\n", error);
	fflush(stdout);
	while (error == 0)
		pause();
	return error;
}

/* What it could trip over; descriptors that are out of its way it can't. */
static void look(void)
{
	struct rlimit limit;
	struct stat status;
	sigset_t blocked;

	getrlimit(RLIMIT_NOFILE, &limit);
	for (char **variable = environ; *variable; variable++)
		if (strncmp(*variable, "LD_PRELOAD=", strlen("LD_PRELOAD=")) != 0)
			puts(*variable);
	for (int fd = 0; fd < 900 && (rlim_t)fd + 1 < limit.rlim_cur; fd++)
		if (fstat(fd, &status) == 0)
			printf("descriptor %d\n", fd);
	sigprocmask(SIG_SETMASK, NULL, &blocked);
	for (int signal_number = 1; signal_number < NSIG; signal_number++) {
		struct sigaction action = { .sa_handler = SIG_DFL };

		sigaction(signal_number, NULL, &action);
		if (action.sa_handler != SIG_DFL || sigismember(&blocked, signal_number) == 1)
			printf("signal %d\n", signal_number);
	}
	printf("umask %o\n", umask(022));
}

static int way_look(char **arguments)
{
	int error;

	umask(022);
	look();
	error = make_and_remove(arguments[0]);
	look();
	return error;
}

static void *in_thread(void *name)
{
	return (void *)(intptr_t)make_and_remove(name);
}

/* The smallest stack that a thread can have. */
static int way_thread(char **arguments)
{
	pthread_attr_t attributes;
	pthread_t thread;
	void *result;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, (size_t)sysconf(_SC_THREAD_STACK_MIN));
	if (pthread_create(&thread, &attributes, in_thread, arguments[0]) != 0)
		return ENOMEM;
	pthread_join(thread, &result);
	return (int)(intptr_t)result;
}

static int way_allocations(char **arguments)
{
	unsigned before = allocations;
	int error = make_and_remove(arguments[0]);
	unsigned after = allocations;

	printf("%s, %u allocations\n", error ? strerrorname_np(error) : "made", after - before);
	return 0;
}

/* As a program that was linked with an old C library's librt. */
#if defined(__x86_64__) && defined(__GLIBC__)
int old_shm_open(const char *name, int oflag, mode_t mode);
int old_shm_unlink(const char *name);
__asm__(".symver old_shm_open, shm_open@GLIBC_2.2.5");
__asm__(".symver old_shm_unlink, shm_unlink@GLIBC_2.2.5");
#else
#define old_shm_open shm_open
#define old_shm_unlink shm_unlink
#endif

static int way_old(char **arguments)
{
	int fd = old_shm_open(arguments[0], O_RDWR | O_CREAT | O_EXCL, 0600);

	if (fd < 0)
		return errno;
	close(fd);
	return old_shm_unlink(arguments[0]) < 0 ? errno : 0;
}

/* Where no socket can be reached; the second of the two is to fail. */
static int way_chroot(char **arguments)
{
	int error;

	if (arguments[2] && (error = make(arguments[2])) != 0)
		return error;
	if (chroot(arguments[0]) < 0 || chdir("/") < 0)
		return errno;
	return make_and_remove(arguments[1]);
}

static const struct {
	const char *name;
	int (*way)(char **arguments);
} ways[] = {
	{ "make", way_make }, { "remove", way_remove }, { "hold", way_hold },
	{ "look", way_look }, { "thread", way_thread }, { "allocations", way_allocations },
	{ "old", way_old },   { "chroot", way_chroot },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof(ways) / sizeof(*ways); i++)
		if (strcmp(ways[i].name, argv[1]) == 0)
			return ways[i].way(argv + 2);
	return 255;
}
