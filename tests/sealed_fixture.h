/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of the suite "sealed" share: rules, and objects made, published and looked at. */
#ifndef SHMBROKER_SEALED_FIXTURE_H
#define SHMBROKER_SEALED_FIXTURE_H

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/internal.h"
#include "daemon/broker_private.h"
#include "tests/fixture.h"
#include "tests/test.h"

TCase *sealed_case_of_room(void);  /* of check_sealed_room.c */
TCase *sealed_case_of_names(void); /* of check_sealed_names.c */

#define KIB ((size_t)1024)
#define SIZE (8 * KIB)

#define RULES                                                                                      \
	"rules: ( { name = \"f\" names = \"/f-*\" allow = \"all\" pool = \"frames\" },\n"          \
	"         { name = \"s\" names = \"/s-*\" allow = \"all\" pool = \"frames\" sealed = "     \
	"true },\n"                                                                                \
	"         { name = \"t\" names = \"/t-*\" allow = \"all\" pool = \"frames\" "              \
	"lifetime = \"process\" },\n"                                                              \
	"         { name = \"r\" names = \"/h-r\" allow = [ \"read\", \"list\" ] pool = \"host\" " \
	"},\n"                                                                                     \
	"         { name = \"h\" names = \"/h-*\" allow = \"all\" pool = \"host\" } )\n"
#define HOST " host: { path = \"@host@\" access = \"caller\" } }\n"

static const char config[] = "pools: { frames: { size = \"1M\" objects = 16 }" HOST RULES;

static inline void start(struct fixture *fixture, struct kept *kept, const char *text)
{
	fixture_start(fixture, &(struct fixture_how){
				       .config = text, .is_user = !test_is_root(), .kept = kept });
}

/* One that waits to be published. A descriptor or -errno. */
static inline int make(struct shmb *c, const char *name, size_t size, mode_t mode)
{
	const struct shmb_how how = { .oflag = O_RDWR | O_CREAT,
				      .mode = mode,
				      .size = size,
				      .flags = SHMB_UNPUBLISHED | SHMB_SEALED };

	return shmb_open_how(c, name, &how, sizeof(how));
}

/* Made, filled with a byte, published. Its maker's mapping. */
static inline char *publish(struct shmb *c, const char *name, size_t size, char content,
			    unsigned flags)
{
	int fd = make(c, name, size, 0600);
	char *map;

	ck_assert_msg(fd >= 0, "%s: %s", name, shmb_reason(c));
	map = shmb_map(fd, PROT_READ | PROT_WRITE, NULL);
	ck_assert(map != MAP_FAILED);
	close(fd);
	memset(map, content, size);
	ck_assert_msg(shmb_publish(c, name, flags) == 0, "%s: %s", name, shmb_reason(c));
	return map;
}

/* What waits to be published doesn't any more. */
static inline int discard(struct shmb *c, const char *name)
{
	struct {
		uint64_t flags;
		char name[16];
	} body = { .flags = WIRE_DISCARD };

	strcpy(body.name, name);
	return shmb_raw_call(c, WIRE_PUBLISH, &body, sizeof(body.flags) + strlen(name), NULL, NULL);
}

static inline void expect(struct shmb *c, const char *name, size_t size, char content)
{
	int fd = shmb_open(c, name, O_RDONLY, 0);
	struct stat st;
	char byte = 0;

	ck_assert_msg(fd >= 0, "%s: %s", name, shmb_reason(c));
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_uint_eq((size_t)st.st_size, size);
	ck_assert_int_eq(fcntl(fd, F_GETFL) & ~0100000, O_RDONLY);
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	if (size > 0)
		ck_assert_int_eq(pread(fd, &byte, 1, (off_t)size - 1), 1);
	ck_assert_int_eq(byte, content);
	close(fd);
}

static inline struct shmb_info stat_of(struct shmb *c, const char *name)
{
	struct shmb_info info;

	ck_assert_msg(shmb_stat(c, name, &info, sizeof(info)) == 0, "%s: %s", name, shmb_reason(c));
	return info;
}

static inline void expect_absent(struct shmb *c, const char *name)
{
	struct shmb_info info;

	ck_assert_int_eq(shmb_stat(c, name, &info, sizeof(info)), -ENOENT);
	ck_assert_int_eq(shmb_open(c, name, O_RDONLY, 0), -ENOENT);
}

/* In the loop's thread. */
static inline void count_all(struct fixture *fixture, void *argument)
{
	struct broker *broker = server_broker(fixture->server);
	uint64_t *ret = argument;

	*ret = broker->quota.total[RESOURCE_SEALED];
	for (struct instance *i = store_next(broker->store, 0); i;
	     i = store_next(broker->store, i->number))
		*ret += i->aside_bytes + i->pins + i->sealed;
}

/* Another process: what it is to ask, and for which name. */
struct other {
	const struct fixture *fixture;
	const char *name;
};

#endif
