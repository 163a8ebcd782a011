/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Looks at three frames of a producer's through a descriptor that was opened for reading. With
 * --attack it instead tries to get more out of that descriptor than it was given: the exit
 * status is 0 only if every attempt is refused.
 *
 *	cc viewer.c -o viewer $(pkg-config --cflags --libs libshmbroker)
 *	./viewer /frames-1
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <shmbroker.h>

struct segment {
	_Atomic unsigned counter;
	char text[60];
};

/* A frame that is neither the last one nor half written; false after 5 s without one. */
static bool read_frame(const struct segment *segment, unsigned *last, char *text)
{
	for (int i = 0; i < 500; i++) {
		unsigned before = atomic_load(&segment->counter);

		memcpy(text, segment->text, sizeof(segment->text));
		atomic_thread_fence(memory_order_acquire);
		if (before % 2 == 0 && before != *last &&
		    atomic_load(&segment->counter) == before) {
			*last = before;
			return true;
		}
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	}
	return false;
}

static int view(int fd)
{
	const struct segment *segment = shmb_map(fd, PROT_READ, NULL);
	char text[sizeof(segment->text)];
	unsigned last = 0;

	if (segment == MAP_FAILED) {
		perror("viewer: mmap");
		return 1;
	}
	for (int i = 0; i < 3; i++) {
		if (!read_frame(segment, &last, text)) {
			fprintf(stderr, "viewer: no frame has come for 5 s\n");
			return 1;
		}
		printf("seen: %.*s\n", (int)sizeof(text), text);
	}
	return 0;
}

static int attack(const char *what, bool done)
{
	printf("%s: %s\n", what, done ? "POSSIBLE" : strerror(errno));
	return done;
}

static int attack_all(int fd)
{
	char path[64];
	void *memory;
	int writable, possible = 0;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	writable = open(path, O_RDWR | O_CLOEXEC);
	possible += attack("opening /proc/self/fd/N for writing", writable >= 0);
	possible += attack("fchmod to 0666", fchmod(fd, 0666) == 0);
	possible += attack("ftruncate to nothing", ftruncate(fd, 0) == 0);
	memory = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	possible += attack("mmap with PROT_WRITE", memory != MAP_FAILED);
	memory = mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0);
	possible += attack("mmap for reading, then mprotect",
			   memory == MAP_FAILED || mprotect(memory, 1, PROT_WRITE) == 0);
	return possible > 0;
}

int main(int argc, char **argv)
{
	bool is_attack = argc == 3 && strcmp(argv[1], "--attack") == 0;
	const char *name = argv[argc - 1];
	struct shmb *c;
	int fd, rc;

	if (argc != 2 && !is_attack) {
		fprintf(stderr, "usage: viewer [--attack] NAME\n");
		return 2;
	}
	if (shmb_connect(&c, NULL) < 0) {
		fprintf(stderr, "viewer: %s\n", shmb_reason(NULL));
		return 1;
	}
	fd = shmb_open(c, name, O_RDONLY, 0);
	if (fd < 0) {
		fprintf(stderr, "viewer: %s: %s: %s\n", name, strerror(-fd), shmb_reason(c));
		return 1;
	}
	rc = is_attack ? attack_all(fd) : view(fd);
	close(fd);
	shmb_disconnect(c);
	return rc;
}
