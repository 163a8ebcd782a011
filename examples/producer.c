/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A camera without a lens: publishes a segment, then writes a frame every 20 ms into its own
 * mapping until its input ends. Nobody sees the segment before its first frame is there.
 *
 *	cc producer.c -o producer $(pkg-config --cflags --libs libshmbroker)
 *	./producer /frames-1
 */
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <shmbroker.h>

/* In the segment. The counter is odd while the text is being written. */
struct segment {
	_Atomic unsigned counter;
	char text[60];
};

static void write_frame(struct segment *segment, unsigned number)
{
	atomic_fetch_add(&segment->counter, 1);
	snprintf(segment->text, sizeof(segment->text), "frame %u, by process %d", number,
		 (int)getpid());
	atomic_fetch_add(&segment->counter, 1);
}

static struct segment *publish(struct shmb *c, const char *name)
{
	const struct shmb_how how = {
		.oflag = O_RDWR | O_CREAT,
		.mode = 0600,
		.size = sizeof(struct segment),
		.flags = SHMB_UNPUBLISHED,
	};
	struct segment *segment;
	int fd = shmb_open_how(c, name, &how, sizeof(how));

	if (fd < 0)
		return NULL;
	segment = shmb_map(fd, PROT_READ | PROT_WRITE, NULL);
	close(fd); /* the mapping holds it */
	if (segment == MAP_FAILED)
		return NULL;
	write_frame(segment, 1);
	return shmb_publish(c, name, SHMB_REPLACE) < 0 ? NULL : segment;
}

int main(int argc, char **argv)
{
	struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
	struct segment *segment;
	struct shmb *c;

	if (argc != 2) {
		fprintf(stderr, "usage: producer NAME\n");
		return 2;
	}
	if (shmb_connect(&c, NULL) < 0) {
		fprintf(stderr, "producer: %s\n", shmb_reason(NULL));
		return 1;
	}
	segment = publish(c, argv[1]);
	if (!segment) {
		fprintf(stderr, "producer: %s: %s\n", argv[1], shmb_reason(c));
		return 1;
	}
	printf("published %s\n", argv[1]);
	fflush(stdout);
	for (unsigned number = 2; poll(&input, 1, 20) == 0; number++)
		write_frame(segment, number);
	shmb_unlink(c, argv[1]);
	shmb_disconnect(c);
	return 0;
}
