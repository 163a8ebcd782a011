/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a caller and the bare broker say to each other: one packet each way. */
#ifndef SHMBROKER_BENCH_FLOOR_H
#define SHMBROKER_BENCH_FLOOR_H

#include <stdint.h>

#define FLOOR_NAME_MAX 255

struct floor_request {
	uint32_t unlink; /* 0: open */
	uint32_t oflag;
	uint32_t mode;
	uint32_t reserved;
	uint64_t size;		       /* of a new object: made with it; 0: it is there */
	char name[FLOOR_NAME_MAX + 1]; /* not terminated: the packet's length says where it ends */
};

struct floor_reply { /* with a descriptor, when it was to open and has */
	int32_t error;
};

#endif
