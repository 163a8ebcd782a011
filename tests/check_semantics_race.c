/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What must hold at every moment: a size that nobody sees short, one winner among
 * many creators, a name that is never missing while it is replaced. And publishing.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/shmbroker.h"
#include "daemon/fd.h"
#include "tests/native.h"
#include "tests/test.h"

#define CREATORS 8
#define ATTEMPTS 125 /* of each: a thousand together */
#define READERS 3
#define ROUNDS 200
#define SIZE 8192

/* What the processes of a race share. */
struct race {
	const struct fixture *fixture;
	const struct place *place;
	uint64_t size;
	int names;
	pthread_barrier_t start;
	_Atomic bool ended;
	_Atomic unsigned wins[ATTEMPTS], seen;
};

static struct race *race_new(const struct fixture *fixture, unsigned racers)
{
	struct race *race = mmap(NULL, sizeof(*race), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_barrierattr_t shared;

	ck_assert_ptr_ne(race, MAP_FAILED);
	race->fixture = fixture;
	pthread_barrierattr_init(&shared);
	pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
	ck_assert_int_eq(pthread_barrier_init(&race->start, &shared, racers), 0);
	return race;
}

static void race_free(struct race *race)
{
	munmap(race, sizeof(*race));
}

static void race_run(struct race *race, unsigned racers, int (*function)(void *argument))
{
	pid_t pids[16];

	memset(race->wins, 0, sizeof(race->wins));
	for (unsigned i = 0; i < racers; i++)
		pids[i] = start_child(function, race);
	for (unsigned i = 0; i < racers; i++)
		end_child(pids[i]);
}

static int create_all(void *argument)
{
	struct race *race = argument;
	struct shmb_how how = { .oflag = O_RDWR | O_CREAT | O_EXCL,
				.mode = 0600,
				.size = race->size };
	char name[64];
	struct shmb *c;

	EXPECT(shmb_connect(&c, race->fixture->socket) == 0);
	pthread_barrier_wait(&race->start);
	for (int i = 0; i < ATTEMPTS; i++) {
		int which = i % race->names, fd;

		snprintf(name, sizeof(name), "/%s-%d", race->place->label, which);
		fd = shmb_open_how(c, name, &how, sizeof(how));
		EXPECT(fd >= 0 || fd == -EEXIST);
		if (fd >= 0)
			race->wins[which]++;
		fd_close(fd);
	}
	shmb_disconnect(c);
	return 0;
}

static void check_winners(struct race *race, struct shmb *c)
{
	char name[64];

	race_run(race, CREATORS, create_all);
	for (int i = 0; i < race->names; i++) {
		ck_assert_uint_eq(race->wins[i], 1);
		snprintf(name, sizeof(name), "/%s-%d", race->place->label, i);
		ck_assert_int_eq(shmb_unlink(c, name), 0);
	}
}

START_TEST(of_a_thousand_racing_creators_exactly_one_wins)
{
	struct fixture fixture;
	struct race *race;
	struct shmb *c;

	places_start(&fixture, __func__);
	c = fixture_connect(&fixture);
	race = race_new(&fixture, CREATORS);
	PLACES_FOREACH(place)
	{
		race->place = place;
		for (int sized = 0; sized < 2; sized++) {
			race->size = sized ? SIZE : 0;
			race->names = 1;
			check_winners(race, c);
			/* And one of eight for each of many names. */
			race->names = place->is_small ? PLACE_OBJECTS - 1 : ATTEMPTS;
			check_winners(race, c);
		}
	}
	race_free(race);
	shmb_disconnect(c);
	places_stop(&fixture);
}
END_TEST

/* Makes it again and again, with any flags that create. */
static int make_and_unlink(void *argument)
{
	static const int flags[] = { O_RDWR | O_CREAT | O_EXCL, O_RDWR | O_CREAT,
				     O_RDONLY | O_CREAT, O_WRONLY | O_CREAT | O_EXCL };
	struct race *race = argument;
	const char *name = place_name(race->place->label, "x");
	struct shmb *c;

	EXPECT(shmb_connect(&c, race->fixture->socket) == 0);
	pthread_barrier_wait(&race->start);
	for (unsigned i = 0; i < ROUNDS || (race->seen < ROUNDS && i < 100 * ROUNDS); i++) {
		struct shmb_how how = { .oflag = (unsigned)flags[i % 4],
					.mode = 0600,
					.size = SIZE };
		int fd = shmb_open_how(c, name, &how, sizeof(how));

		EXPECT(fd >= 0);
		fd_close(fd);
		EXPECT(shmb_unlink(c, name) == 0);
	}
	race->ended = true;
	shmb_disconnect(c);
	return 0;
}

static int look_for_short(void *argument)
{
	struct race *race = argument;
	const char *name = place_name(race->place->label, "x");
	struct shmb *c;

	EXPECT(shmb_connect(&c, race->fixture->socket) == 0);
	pthread_barrier_wait(&race->start);
	for (unsigned i = 0; !race->ended; i++) {
		struct shmb_info info;
		struct stat st;
		int fd = shmb_open(c, name, i % 2 ? O_RDONLY : O_RDWR, 0);

		EXPECT(fd >= 0 || fd == -ENOENT);
		if (fd < 0)
			continue;
		EXPECT(fstat(fd, &st) == 0 && st.st_size == SIZE);
		fd_close(fd);
		race->seen++;
		if (shmb_stat(c, name, &info, sizeof(info)) == 0)
			EXPECT(info.size == SIZE);
	}
	shmb_disconnect(c);
	return 0;
}

static int maker_or_reader(void *argument)
{
	struct race *race = argument;

	/* The first to come makes. */
	return race->wins[0]++ == 0 ? make_and_unlink(race) : look_for_short(race);
}

START_TEST(nobody_sees_a_new_object_shorter_than_its_size)
{
	struct fixture fixture;
	struct race *race;

	places_start(&fixture, __func__);
	PLACES_FOREACH(place)
	{
		race = race_new(&fixture, READERS + 1);
		race->place = place;
		race_run(race, READERS + 1, maker_or_reader);
		ck_assert_uint_ge(race->seen, ROUNDS);
		race_free(race);
	}
	places_stop(&fixture);
}
END_TEST

/* An open that creates never fails for somebody else's unlinking. */
static int make_against_others(void *argument)
{
	static const int flags[] = { O_RDONLY | O_CREAT, O_RDWR | O_CREAT,
				     O_RDONLY | O_CREAT | O_TRUNC };
	struct race *race = argument;
	const char *name = place_name(race->place->label, "x");
	struct shmb *c;

	EXPECT(shmb_connect(&c, race->fixture->socket) == 0);
	pthread_barrier_wait(&race->start);
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct shmb_how how = { .oflag = (unsigned)flags[i % 3],
					.mode = 0600,
					.size = i % 2 ? SIZE : 0 };
		int fd = shmb_open_how(c, name, &how, sizeof(how));

		EXPECT(fd >= 0);
		fd_close(fd);
		fd = shmb_unlink(c, name);
		EXPECT(fd == 0 || fd == -ENOENT);
	}
	shmb_disconnect(c);
	return 0;
}

/* Beside the broker: it unlinks at any moment of a request. */
static int unlink_beside(void *argument)
{
	struct race *race = argument;
	char path[512];

	strcpy(path, place_path(race->fixture, race->place, "x"));
	pthread_barrier_wait(&race->start);
	while (!race->ended)
		unlink(path);
	return 0;
}

/* Not even a hidden name stays behind. */
static void check_empty(const struct fixture *fixture, const struct place *place)
{
	const struct dirent *entry;
	char path[160];
	DIR *listing;

	snprintf(path, sizeof(path), "%s%s", fixture->host, place->directory);
	listing = opendir(path);
	ck_assert_ptr_nonnull(listing);
	while ((entry = readdir(listing)))
		ck_assert_msg(strspn(entry->d_name, ".") == strlen(entry->d_name), "%s is left",
			      entry->d_name);
	closedir(listing);
}

START_TEST(who_creates_is_not_hindered_by_who_unlinks)
{
	struct fixture fixture;
	struct race *race;
	pid_t pids[4];

	places_start(&fixture, __func__);
	PLACES_FOREACH(place)
	{
		bool beside = place->directory;

		race = race_new(&fixture, beside ? 4 : 3);
		race->place = place;
		for (int i = 0; i < 3; i++)
			pids[i] = start_child(make_against_others, race);
		if (beside)
			pids[3] = start_child(unlink_beside, race);
		for (int i = 0; i < 3; i++)
			end_child(pids[i]);
		race->ended = true;
		if (beside) {
			end_child(pids[3]);
			check_empty(&fixture, place);
		}
		race_free(race);
	}
	places_stop(&fixture);
}
END_TEST

static const struct shmb_how unpublished = {
	.oflag = O_RDWR | O_CREAT | O_APPEND, .mode = 0640, .size = 4, .flags = SHMB_UNPUBLISHED
};

/* A descriptor of one that waits, with a byte in its content. */
static int wait_unpublished(struct shmb *c, const char *name, char byte)
{
	int fd = shmb_open_how(c, name, &unpublished, sizeof(unpublished));

	if (fd >= 0 && write(fd, &byte, 1) != 1)
		fd = fd_close(fd);
	return fd;
}

static int last_byte(struct shmb *c, const char *name)
{
	int fd = shmb_open(c, name, O_RDONLY, 0);
	char byte = 0;

	if (fd < 0)
		return fd;
	if (pread(fd, &byte, 1, 4) != 1)
		byte = '?';
	fd_close(fd);
	return byte;
}

static void publish_one(const struct place *place, struct shmb *c, struct shmb *other)
{
	const char *name = place_name(place->label, "p");
	int fd = wait_unpublished(c, name, 'a');
	struct stat st;

	ck_assert_msg(fd >= 0, "%s: %s", place->label, shmb_reason(c));
	ck_assert(fstat(fd, &st) == 0 && st.st_nlink == 0 && st.st_mode == (S_IFREG | 0640));
	ck_assert_int_eq(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_TMPFILE),
			 O_RDWR | O_APPEND);
	/* Nobody sees it, a name and connection has one, and another connection none. */
	ck_assert_int_eq(shmb_open(c, name, O_RDONLY, 0), -ENOENT);
	ck_assert_int_eq(wait_unpublished(c, name, 'b'), -EEXIST);
	ck_assert_int_eq(shmb_publish(other, name, 0), -ENOENT);
	ck_assert_int_eq(shmb_publish(c, place_name(place->label, "q"), 0), -ENOENT);
	ck_assert_int_eq(shmb_publish(c, name, 1u << 7), -EINVAL);

	ck_assert_int_eq(shmb_publish(c, name, 0), 0);
	ck_assert_int_eq(shmb_publish(c, name, 0), -ENOENT);
	ck_assert_int_eq(last_byte(other, name), 'a');
	ck_assert(fstat(fd, &st) == 0 && st.st_nlink == 1);
	fd_close(fd);

	/* Taken; replaced; gone with its connection. */
	fd_close(wait_unpublished(c, name, 'c'));
	ck_assert_int_eq(shmb_publish(c, name, 0), -EEXIST);
	ck_assert_int_eq(last_byte(other, name), 'a');
	ck_assert_int_eq(shmb_publish(c, name, SHMB_REPLACE), 0);
	ck_assert_int_eq(last_byte(other, name), 'c');
	ck_assert_int_eq(shmb_unlink(c, name), 0);
	fd_close(wait_unpublished(c, name, 'd'));
	ck_assert_int_eq(shmb_publish(c, name, SHMB_REPLACE), 0);
	ck_assert_int_eq(shmb_unlink(c, name), 0);
	fd_close(wait_unpublished(c, name, 'e'));
}

START_TEST(what_is_published_appears_whole_and_once)
{
	struct fixture fixture;
	struct shmb *c, *other;

	places_start(&fixture, __func__);
	PLACES_FOREACH(place)
	{
		c = fixture_connect(&fixture);
		other = fixture_connect(&fixture);
		publish_one(place, c, other);
		shmb_disconnect(c);
		ck_assert_int_eq(shmb_open(other, place_name(place->label, "p"), O_RDONLY, 0),
				 -ENOENT);
		shmb_disconnect(other);
	}
	places_stop(&fixture);
}
END_TEST

/* What publishing comes to where the name is free, with REPLACE, and what the open does. */
static const struct {
	const char *allow;
	int open, publish, replace;
} rights[] = {
	{ "[ \"read\", \"write\" ]", -EACCES, -EACCES, -EACCES },
	{ "[ \"read\", \"write\", \"unlink\" ]", -EACCES, -EACCES, -EACCES },
	{ "[ \"read\", \"write\", \"create\" ]", 0, 0, -EACCES },
	{ "[ \"create\", \"unlink\" ]", -EACCES, 0, 0 },
	{ "[ \"read\", \"write\", \"create\", \"unlink\" ]", 0, 0, 0 },
};

START_TEST(publishing_is_asked_of_the_rules_both_times)
{
	struct fixture fixture;
	struct shmb *c;
	int fd;

	places_start(&fixture, __func__);
	c = fixture_connect(&fixture);
	PLACES_FOREACH(place)
	for (size_t i = 0; i < sizeof(rights) / sizeof(*rights); i++) {
		const char *name = place_name(place->label, "p");

		places_allow(&fixture, rights[i].allow);
		fd = wait_unpublished(c, name, 'a');
		ck_assert_int_eq(fd < 0 ? fd : 0, rights[i].open);
		fd_close(fd);
		places_allow(&fixture, "\"all\"");
		if (fd < 0)
			fd_close(wait_unpublished(c, name, 'b'));
		places_allow(&fixture, rights[i].allow);
		ck_assert_int_eq(shmb_publish(c, name, SHMB_REPLACE), rights[i].replace);
		ck_assert_int_eq(shmb_publish(c, name, 0),
				 rights[i].replace == 0 ? -ENOENT : rights[i].publish);
		places_allow(&fixture, "\"all\"");
		shmb_publish(c, name, 0);
		ck_assert_int_eq(shmb_unlink(c, name), 0);
	}
	shmb_disconnect(c);
	places_stop(&fixture);
}
END_TEST

/* In a sticky directory the kernel lets nobody remove another's object: who decides? */
static int replace_anothers(void *argument)
{
	const struct fixture *fixture = argument;
	struct shmb *c;

	EXPECT(shmb_connect(&c, fixture->socket) == 0);
	PLACES_FOREACH(place)
	{
		const char *name = place_name(place->label, "p");
		int expected = place->is_grant ? 0 : -EACCES;

		fd_close(wait_unpublished(c, name, 'b'));
		EXPECT(shmb_publish(c, name, 0) == -EEXIST);
		EXPECT(shmb_publish(c, name, SHMB_REPLACE) == expected);
		EXPECT(shmb_unlink(c, name) == expected);
	}
	shmb_disconnect(c);
	return 0;
}

START_TEST(another_users_object_is_replaced_where_the_rules_alone_decide)
{
	struct fixture fixture;
	struct shmb *c;

	TEST_NEEDS(test_is_root(), "needs root to be several users");
	places_start(&fixture, __func__);
	c = fixture_connect(&fixture);
	PLACES_FOREACH(place)
	fd_close(shmb_open(c, place_name(place->label, "p"), O_RDWR | O_CREAT, 0666));
	run_as(USER_B, GROUP_SHARED, replace_anothers, &fixture);
	shmb_disconnect(c);
	places_stop(&fixture);
}
END_TEST

static int replace_many(void *argument)
{
	struct race *race = argument;
	const char *name = place_name(race->place->label, "p");
	struct shmb *c;

	EXPECT(shmb_connect(&c, race->fixture->socket) == 0);
	fd_close(wait_unpublished(c, name, 'a'));
	EXPECT(shmb_publish(c, name, 0) == 0);
	pthread_barrier_wait(&race->start);
	for (unsigned i = 0; i < ROUNDS || (race->seen < ROUNDS && i < 100 * ROUNDS); i++) {
		fd_close(wait_unpublished(c, name, 'a'));
		EXPECT(shmb_publish(c, name, SHMB_REPLACE) == 0);
	}
	race->ended = true;
	shmb_disconnect(c);
	return 0;
}

static int open_meanwhile(void *argument)
{
	static const int flags[] = { O_RDONLY, O_RDWR, O_RDWR | O_CREAT, O_RDONLY | O_CREAT };
	struct race *race = argument;
	const char *name = place_name(race->place->label, "p");
	struct shmb *c;
	struct stat st;

	EXPECT(shmb_connect(&c, race->fixture->socket) == 0);
	pthread_barrier_wait(&race->start);
	for (unsigned i = 0; !race->ended; i++) {
		int fd = shmb_open(c, name, flags[i % 4], 0600);
		char byte;

		EXPECT(fd >= 0);
		/* Whole: never an empty one. */
		EXPECT(fstat(fd, &st) == 0 && st.st_size == 5);
		EXPECT(i % 4 == 1 || (pread(fd, &byte, 1, 4) == 1 && byte == 'a'));
		fd_close(fd);
		race->seen++;
	}
	shmb_disconnect(c);
	return 0;
}

static int replacer_or_opener(void *argument)
{
	struct race *race = argument;

	return race->wins[0]++ == 0 ? replace_many(race) : open_meanwhile(race);
}

START_TEST(a_name_is_there_at_each_moment_of_its_replacement)
{
	struct fixture fixture;
	struct race *race;

	places_start(&fixture, __func__);
	PLACES_FOREACH(place)
	{
		race = race_new(&fixture, 2);
		race->place = place;
		race_run(race, 2, replacer_or_opener);
		race_free(race);
	}
	places_stop(&fixture);
}
END_TEST

void semantics_add_races(TCase *tests)
{
	tcase_add_test(tests, of_a_thousand_racing_creators_exactly_one_wins);
	tcase_add_test(tests, nobody_sees_a_new_object_shorter_than_its_size);
	tcase_add_test(tests, who_creates_is_not_hindered_by_who_unlinks);
	tcase_add_test(tests, what_is_published_appears_whole_and_once);
	tcase_add_test(tests, publishing_is_asked_of_the_rules_both_times);
	tcase_add_test(tests, another_users_object_is_replaced_where_the_rules_alone_decide);
	tcase_add_test(tests, a_name_is_there_at_each_moment_of_its_replacement);
}
