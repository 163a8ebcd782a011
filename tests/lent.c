/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A program that has never heard of a broker, linked statically by check_lend_run.c: shared memory
 * and semaphores as POSIX has them.
 *
 *   lent put NAME TEXT | get NAME | post NAME | wait NAME
 */
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BYTES 4096

static int fail(const char *what)
{
	perror(what);
	return 1;
}

static int put(const char *name, const char *text)
{
	int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	char *map;

	if (fd < 0 || ftruncate(fd, BYTES) < 0)
		return fail("shm_open");
	map = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return fail("mmap");
	strncpy(map, text, BYTES - 1);
	return 0;
}

static int get(const char *name)
{
	int fd = shm_open(name, O_RDONLY, 0);
	const char *map;

	if (fd < 0)
		return fail("shm_open");
	map = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return fail("mmap");
	puts(map);
	return 0;
}

static int semaphore(const char *name, int (*operation)(sem_t *semaphore))
{
	sem_t *opened = sem_open(name, O_CREAT, 0600, 0);

	if (opened == SEM_FAILED)
		return fail("sem_open");
	return operation(opened) < 0 ? fail(name) : 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "put") == 0)
		return put(argv[2], argv[3]);
	if (argc == 3 && strcmp(argv[1], "get") == 0)
		return get(argv[2]);
	if (argc == 3 && strcmp(argv[1], "post") == 0)
		return semaphore(argv[2], sem_post);
	if (argc == 3 && strcmp(argv[1], "wait") == 0)
		return semaphore(argv[2], sem_wait);
	return 2;
}
