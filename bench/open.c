/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What an open through the broker costs, beside the floor (floor.c) and shm_open(3) itself,
 * in turn in one run: open CPU...
 * The broker is the one at $SHMBROKER_SOCKET, and its pool for /bench-open is
 * /dev/shm with access "caller". With two processors named, client and floor have one each.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/floor.h"
#include "client/shmbroker.h"

#define ROUNDS 200
#define BATCH 100
#define NAME "bench-open"

static struct shmb *connection;
static int floor_socket;

static int by_kernel(void)
{
	return shm_open("/" NAME, O_RDWR, 0);
}

static int by_floor(void)
{
	return floor_open(floor_socket, NAME);
}

static int by_library(void)
{
	return shmb_open(connection, NAME, O_RDWR, 0);
}

static int by_library_read_only(void)
{
	return shmb_open(connection, NAME, O_RDONLY, 0);
}

static int by_drop_in(void)
{
	return shmb_shm_open(NAME, O_RDWR, 0);
}

static const struct {
	const char *name;
	int (*open)(void);
} rows[] = {
	{ "shm_open", by_kernel },	 { "floor", by_floor },
	{ "shmb_open", by_library },	 { "shmb_open O_RDONLY", by_library_read_only },
	{ "shmb_shm_open", by_drop_in },
};
#define ROWS (sizeof(rows) / sizeof(*rows))

static double samples[ROWS][ROUNDS];

static double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void start_floor(int cpu)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		exit(1);
	if (fork() == 0) {
		close(pair[0]);
		pin(cpu);
		floor_serve(pair[1], open("/dev/shm", O_RDONLY | O_DIRECTORY));
		_exit(0);
	}
	close(pair[1]);
	floor_socket = pair[0];
}

static void sample(size_t row, int round)
{
	double begin = now_us();

	for (int i = 0; i < BATCH; i++) {
		int fd = rows[row].open();

		if (fd < 0) {
			fprintf(stderr, "%s failed: %s\n", rows[row].name,
				connection ? shmb_reason(connection) : "");
			exit(1);
		}
		close(fd);
	}
	samples[row][round] = (now_us() - begin) / BATCH;
}

int main(int argc, char **argv)
{
	int fd = shm_open("/" NAME, O_RDWR | O_CREAT, 0600);

	if (fd < 0 || shmb_connect(&connection, NULL) < 0) {
		fprintf(stderr, "no broker: %s\n", shmb_reason(NULL));
		return 1;
	}
	close(fd);
	start_floor(argc > 2 ? atoi(argv[2]) : argc > 1 ? atoi(argv[1]) : 0);
	if (argc > 1)
		pin(atoi(argv[1]));
	for (int round = 0; round < ROUNDS; round++)
		for (size_t row = 0; row < ROWS; row++)
			sample(row, round);
	for (size_t row = 0; row < ROWS; row++)
		qsort(samples[row], ROUNDS, sizeof(double), compare);
	printf("%-22s %9s %9s %9s\n", "", "median us", "p99 us", "/ floor");
	for (size_t row = 0; row < ROWS; row++)
		printf("%-22s %9.2f %9.2f %9.2f\n", rows[row].name, samples[row][ROUNDS / 2],
		       samples[row][ROUNDS * 99 / 100],
		       samples[row][ROUNDS / 2] / samples[1][ROUNDS / 2]);
	shm_unlink("/" NAME);
	shmb_disconnect(connection);
	close(floor_socket);
	while (wait(NULL) > 0)
		;
	return 0;
}
