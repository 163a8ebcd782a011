/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is made in a pool by who has it as a mount, what the broker then makes of that, and how full
 * it gets. A case of the suite "lend".
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "tests/lend_fixture.h"

static int make_all_kinds(void *argument)
{
	struct statvfs mount;
	struct stat st;

	EXPECT(enter(argument) == 0);
	EXPECT(statvfs(".", &mount) == 0);
	EXPECT((mount.f_flag & (ST_NOSUID | ST_NODEV | ST_NOEXEC | ST_RDONLY)) ==
	       (ST_NOSUID | ST_NODEV | ST_NOEXEC));
	EXPECT(mount.f_blocks * mount.f_frsize == 65536 && mount.f_files == 9);
	/* What the app has by the library, and what it makes itself. */
	EXPECT(sandbox_write_file("by-library", "from inside"));
	EXPECT(mkdir("directory", 0700) == 0 && mkdir("directory/below", 0700) == 0);
	EXPECT(mkfifo("fifo", 0600) == 0);
	EXPECT(symlink("/etc/passwd", "symlink") == 0);
	EXPECT(mknod("plain", S_IFREG | 0600, 0) == 0 && sandbox_write_file("plain", "plain"));
	EXPECT(stat("plain", &st) == 0 && st.st_uid == geteuid() && st.st_gid == getegid());
	EXPECT(mknod("linked", S_IFREG | 0600, 0) == 0 && link("linked", "directory/link") == 0);
	/* Nothing of the broker's or of other pools is to be reached. */
	EXPECT(chdir("..") == 0 && access("inside", F_OK) == 0);
	return 0;
}

static int collect(const struct shmb_info *info, void *userdata)
{
	char *text = userdata, one[sizeof(info->name) + sizeof(info->pool) + 4];

	snprintf(one, sizeof(one), "%s%s:%s ", info->name,
		 info->flags & SHMB_INFO_NOT_AN_OBJECT ? "?" : "", info->pool);
	strcat(text, one);
	return 0;
}

START_TEST(the_broker_bears_whatever_is_made_in_it)
{
	static const char *const odd[] = { "/directory", "/fifo", "/symlink", "/linked" };
	static const char *const names[] = {
		"by-library:apps ", "directory?:apps ", "fifo?:apps ",
		"symlink?:apps ",   "plain:apps ",	"linked:apps "
	};
	struct inside inside;
	struct fixture fixture;
	char text[2048] = "", content[32] = "";
	struct shmb_info info;
	struct shmb *c;
	struct app app;
	int fd;

	NEEDS_TABLE;
	start(&fixture, one_rule);
	app_start(&app, &fixture, "org.example.a");
	inside.mount = lent(app.c);
	fd = shmb_open(app.c, "/by-library", O_RDWR | O_CREAT | O_EXCL, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(in_sandbox(make_all_kinds, &inside), 0);
	close(inside.mount);
	ck_assert_int_eq(pread(fd, content, sizeof(content), 0), 11);
	ck_assert_str_eq(content, "from inside");
	close(fd);

	ck_assert_int_eq(shmb_list(app.c, "/*", sizeof(info), collect, text), 0);
	for (size_t i = 0; i < ROWS(names); i++)
		ck_assert_msg(strstr(text, names[i]) != NULL, "%s: %s", names[i], text);
	/* Opening waits for nobody, follows nothing and gives no object twice. */
	for (size_t i = 0; i < ROWS(odd); i++) {
		ck_assert_msg(shmb_open(app.c, odd[i], O_RDWR, 0) == -EINVAL, "%s", odd[i]);
		ck_assert_int_eq(shmb_open(app.c, odd[i], O_RDONLY | O_CREAT, 0600), -EINVAL);
		ck_assert_int_eq(shmb_stat(app.c, odd[i], &info, sizeof(info)), 0);
	}
	ck_assert_int_eq(shmb_unlink(app.c, "/directory"), -ENOTEMPTY);
	for (size_t i = 1; i < ROWS(odd); i++)
		ck_assert_int_eq(shmb_unlink(app.c, odd[i]), 0);
	ck_assert_int_eq(close(shmb_open(app.c, "/plain", O_RDONLY, 0)), 0);

	/* A drop removes the rest, and the loan goes on. */
	c = fixture_connect(&fixture);
	ck_assert_int_eq(shmb_raw_call(c, WIRE_DROP, "apps", 4, NULL, NULL), 0);
	shmb_disconnect(c);
	text[0] = 0;
	ck_assert_int_eq(shmb_list(app.c, "/*", sizeof(info), collect, text), 0);
	ck_assert_str_eq(text, "");
	ck_assert_uint_eq(instances(&fixture), 1);
	app_end(&app);
	expect_released(&fixture);
	fixture_stop(&fixture);
}
END_TEST

static int replace_sealed(void *argument)
{
	EXPECT(enter(argument) == 0);
	EXPECT(link("one", "copy") == 0 && unlink("one") == 0);
	EXPECT(mknod("one", S_IFREG | 0600, 0) == 0 && sandbox_write_file("one", "plain by now"));
	EXPECT(rename("two", "three") == 0);
	return 0;
}

/* A sealed object has its name in the pool as others have: whoever takes that away takes no more.
 */
START_TEST(a_sealed_objects_name_is_the_sandboxes_to_take_away)
{
	static const char *const names[] = { "/one", "/two" };
	const struct shmb_how how = { .oflag = O_RDWR | O_CREAT,
				      .mode = 0600,
				      .size = 4096,
				      .flags = SHMB_UNPUBLISHED | SHMB_SEALED };
	struct inside inside;
	struct fixture fixture;
	char text[32] = "";
	struct app app;
	int fd[2], late;

	NEEDS_TABLE;
	start(&fixture, one_rule);
	app_start(&app, &fixture, "org.example.a");
	for (size_t i = 0; i < ROWS(names); i++) {
		late = shmb_open_how(app.c, names[i], &how, sizeof(how));
		ck_assert_msg(late >= 0, "%s", shmb_reason(app.c));
		close(late);
		ck_assert_int_eq(shmb_publish(app.c, names[i], 0), 0);
		fd[i] = shmb_open(app.c, names[i], O_RDONLY, 0);
		ck_assert_int_ge(fd[i], 0);
	}
	inside.mount = lent(app.c);
	ck_assert_int_eq(in_sandbox(replace_sealed, &inside), 0);
	close(inside.mount);
	late = shmb_open(app.c, "/one", O_RDWR, 0);
	ck_assert_int_ge(late, 0);
	ck_assert_int_eq(read(late, text, sizeof(text) - 1), 12);
	ck_assert_str_eq(text, "plain by now");
	close(late);
	ck_assert_int_eq(shmb_open(app.c, "/two", O_RDONLY, 0), -ENOENT);
	for (size_t i = 0; i < ROWS(names); i++) {
		ck_assert_int_eq(pread(fd[i], text, sizeof(text), 0), sizeof(text));
		ck_assert_int_eq(text[0], 0);
		close(fd[i]);
	}
	app_end(&app);
	fixture_stop(&fixture);
}
END_TEST

static int map_executable(void *argument)
{
	const struct inside *inside = argument;
	int fd;
	void *map;

	EXPECT(enter(inside) == 0);
	fd = open("code", O_RDWR | O_CREAT | O_CLOEXEC, 0700);
	EXPECT(fd >= 0 && ftruncate(fd, 4096) == 0);
	map = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	EXPECT((map != MAP_FAILED) == inside->exec);
	EXPECT(inside->exec || errno == EPERM);
	return 0;
}

START_TEST(it_is_executable_if_the_pool_is)
{
	static const char exec_apps[] =
		"pools: { host: { path = \"@host@\" }\n"
		"         apps: { per = \"app\" size = \"64K\" objects = 8 exec = true } }\n"
		"rules: ( " APPS("") ", " UNSANDBOXED " )\n";
	struct fixture fixture;
	struct app app;

	NEEDS_TABLE;
	for (int exec = 0; exec < 2; exec++) {
		struct inside inside = { .exec = exec };

		start(&fixture, exec ? exec_apps : one_rule);
		app_start(&app, &fixture, "org.example.a");
		inside.mount = lent(app.c);
		ck_assert_int_eq(in_sandbox(map_executable, &inside), 0);
		close(inside.mount);
		app_end(&app);
		fixture_stop(&fixture);
	}
}
END_TEST

static int fill(void *argument)
{
	static const char page[4096] = "x";
	char name[16];
	ssize_t size;
	int fd, count = 0;

	EXPECT(enter(argument) == 0);
	fd = open("large", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	EXPECT(fd >= 0);
	while ((size = write(fd, page, sizeof(page))) == (ssize_t)sizeof(page))
		count++;
	EXPECT(size < 0 && errno == ENOSPC && count == 16);
	EXPECT(posix_fallocate(fd, 0, 128 * 1024) == ENOSPC);
	for (count = 1; count < 100; count++) {
		snprintf(name, sizeof(name), "n%d", count);
		if (mknod(name, S_IFREG | 0600, 0) < 0)
			break;
	}
	EXPECT(errno == ENOSPC && count == 8);
	return 0;
}

START_TEST(its_quota_holds_for_who_mounts_it)
{
	struct inside inside;
	struct fixture fixture;
	struct app app, other;

	NEEDS_TABLE;
	start(&fixture, one_rule);
	app_start(&app, &fixture, "org.example.a");
	app_start(&other, &fixture, "org.example.b");
	inside.mount = lent(app.c);
	ck_assert_int_eq(in_sandbox(fill, &inside), 0);
	close(inside.mount);
	ck_assert_int_eq(shmb_open(app.c, "/more", O_RDWR | O_CREAT, 0600), -ENOSPC);
	/* And for nobody else. */
	inside.mount = lent(other.c);
	ck_assert_int_eq(in_sandbox(fill, &inside), 0);
	close(inside.mount);
	app_end(&app);
	app_end(&other);
	fixture_stop(&fixture);
}
END_TEST

TCase *lend_case_of_inside(void)
{
	TCase *test = tcase_create("inside");

	tcase_set_timeout(test, 120);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_test(test, the_broker_bears_whatever_is_made_in_it);
	tcase_add_test(test, a_sealed_objects_name_is_the_sandboxes_to_take_away);
	tcase_add_test(test, it_is_executable_if_the_pool_is);
	tcase_add_test(test, its_quota_holds_for_who_mounts_it);
	return test;
}
