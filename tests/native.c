/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A broker with a pool of each kind, and opens compared with native ones: see native.h. */
#include "tests/native.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/internal.h"
#include "tests/test.h"

static const struct place all_places[] = {
	{ "caller", "", false, false, PLACE_NEEDS_NOTHING },
	{ "grant", ".grant", true, false, PLACE_NEEDS_NOTHING },
	{ "made", NULL, true, true, PLACE_NEEDS_NAMESPACES },
	{ "own", NULL, false, true, PLACE_NEEDS_NAMESPACES },
	{ "given", ".given", true, true, PLACE_NEEDS_MOUNTS },
	{ "small", ".small", false, true, PLACE_NEEDS_MOUNTS },
};
#define PLACES_ALL (sizeof(all_places) / sizeof(*all_places))

static const char *const definitions[PLACES_ALL] = {
	"path = \"@host@\" access = \"caller\"",
	"path = \"@host@.grant\" access = \"grant\"",
	"size = \"64K\" objects = 8",
	"size = \"64K\" objects = 8 access = \"caller\"",
	"path = \"@host@.given\" read-only-path = \"@host@.given.ro\"",
	"path = \"@host@.small\" access = \"caller\"",
};

struct place places[PLACES_ALL + 1];
static int outer_namespace = -EBADF;

static bool can_mount(void)
{
	return test_is_root() && unshare(CLONE_NEWNS) == 0 &&
	       mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

static void format_path(char *ret, size_t size, const char *directory)
{
	snprintf(ret, size, "%s/host%s", test_directory(), directory);
}

static void make_directory(const char *directory)
{
	char path[128];

	format_path(path, sizeof(path), directory);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	ck_assert_int_eq(chmod(path, 01777), 0);
}

static void mount_small(const char *directory)
{
	char path[128], options[64];

	make_directory(directory);
	format_path(path, sizeof(path), directory);
	snprintf(options, sizeof(options), "size=%d,nr_inodes=%d,mode=1777", PLACE_BYTES,
		 PLACE_OBJECTS + 1);
	ck_assert_int_eq(mount("none", path, "tmpfs", MS_NOSUID | MS_NODEV, options), 0);
}

/* The second mount of the same tmpfs, as whoever starts a broker with a given pool makes it. */
static void mount_read_only(const char *directory, const char *read_only)
{
	char from[128], to[128];

	make_directory(read_only);
	format_path(from, sizeof(from), directory);
	format_path(to, sizeof(to), read_only);
	ck_assert_int_eq(mount(from, to, NULL, MS_BIND, NULL), 0);
	ck_assert_int_eq(mount(NULL, to, NULL,
			       MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL),
			 0);
}

static void choose_places(bool namespaces, bool mounts)
{
	const bool has[] = { [PLACE_NEEDS_NOTHING] = true,
			     [PLACE_NEEDS_NAMESPACES] = namespaces,
			     [PLACE_NEEDS_MOUNTS] = mounts };
	size_t count = 0;

	for (size_t i = 0; i < PLACES_ALL; i++)
		if (has[all_places[i].needs])
			places[count++] = all_places[i];
	places[count] = (struct place){ 0 };
}

static const char *definition(const char *label)
{
	for (size_t i = 0; i < PLACES_ALL; i++)
		if (strcmp(all_places[i].label, label) == 0)
			return definitions[i];
	return "";
}

/* For free(3). */
static char *write_config(const char *allow)
{
	char *text = NULL;
	size_t size;
	FILE *file = open_memstream(&text, &size);

	ck_assert_ptr_nonnull(file);
	fputs("pools: {\n", file);
	PLACES_FOREACH(place)
	fprintf(file, "%s: { %s }\n", place->label, definition(place->label));
	fputs("}\nrules: (\n", file);
	PLACES_FOREACH(place)
	fprintf(file,
		"{ name = \"%s\" names = \"/%s-*\" allow = %s max-size = %d log = \"none\" "
		"pool = \"%s\" },\n",
		place->label, place->label, allow, PLACE_MAX, place->label);
	fputs("{ name = \"nothing\" names = \"/nothing-*\" allow = [] } )\n", file);
	ck_assert_int_eq(fclose(file), 0);
	return text;
}

void places_start_on_bus(struct fixture *fixture, const char *test, const char *bus_address)
{
	bool mounts, namespaces = test_has_namespaces();
	char *config;

	umask(022); /* the configuration is not for others to write */
	outer_namespace = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	mounts = can_mount();
	if (!namespaces)
		test_left_out(test, "no namespaces for private pools");
	if (test_is_root() && !mounts)
		test_left_out(test, "no right to mount for a given pool");
	choose_places(namespaces, mounts);
	make_directory(".grant");
	if (mounts) {
		mount_small(".given");
		mount_read_only(".given", ".given.ro");
		mount_small(".small");
	}
	config = write_config("\"all\"");
	fixture_start(fixture, &(struct fixture_how){ .config = config,
						      .is_user = !test_is_root(),
						      .bus_address = bus_address });
	free(config);
	umask(0); /* as the daemon's is; a test of a client's has that in a child */
}

void places_start(struct fixture *fixture, const char *test)
{
	places_start_on_bus(fixture, test, NULL);
}

void places_allow(struct fixture *fixture, const char *allow)
{
	struct shmb *c = fixture_connect(fixture);
	char *config = write_config(allow);

	umask(022);
	fixture_configure(fixture, config);
	umask(0);
	ck_assert_int_eq(shmb_raw_call(c, WIRE_RELOAD, NULL, 0, NULL, NULL), 0);
	free(config);
	shmb_disconnect(c);
}

void places_stop(struct fixture *fixture)
{
	static const char *const mounted[] = { ".given.ro", ".given", ".small" };
	char path[128];

	fixture_stop(fixture);
	for (size_t i = 0; i < sizeof(mounted) / sizeof(*mounted); i++) {
		format_path(path, sizeof(path), mounted[i]);
		umount2(path, MNT_DETACH);
	}
	outer_namespace = fd_close(outer_namespace);
}

int places_leave(void)
{
	return setns(outer_namespace, CLONE_NEWNS);
}

const char *place_name(const char *label, const char *name)
{
	static char names[8][300];
	static unsigned next;
	char *text = names[next++ % 8];

	snprintf(text, sizeof(names[0]), "/%s-%s", label, name);
	return text;
}

const char *place_path(const struct fixture *fixture, const struct place *place, const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s%s%s", fixture->host, place->directory,
		 place_name(place->label, name));
	return path;
}

const struct opener native = { shm_open, shm_unlink, shm_open };
const struct opener brokered = { shmb_shm_open, shmb_shm_unlink, shmb_shm_open };

int native_errno(int error)
{
	return error == EPERM ? EACCES : error;
}

void opening_take(struct opening *ret, const struct opener *opener, const char *name, int oflag,
		  mode_t mode)
{
	_cleanup_close_ int fd = -EBADF, look = -EBADF;
	struct stat st = { 0 };

	memset(ret, 0, sizeof(*ret));
	fd = opener->open(name, oflag, mode);
	if (fd < 0)
		ret->error = errno;
	else
		ret->status_flags = fcntl(fd, F_GETFL);
	look = opener->look(name, O_RDONLY, 0);
	if (look < 0)
		return;
	if (fstat(look, &st) == 0 && pread(look, ret->content, sizeof(ret->content), 0) < 0)
		ret->content[0] = '?';
	ret->mode = st.st_mode;
	ret->uid = st.st_uid;
	ret->gid = st.st_gid;
	ret->size = st.st_size;
	ret->links = st.st_nlink;
}

void opening_compare(const struct opening *ours, const struct opening *theirs, const char *what)
{
	ck_assert_msg(ours->error == theirs->error, "%s: %s instead of %s (%s)", what,
		      strerror(ours->error), strerror(theirs->error), shmb_reason(NULL));
	ck_assert_msg(ours->status_flags == theirs->status_flags, "%s: F_GETFL 0%o, not 0%o", what,
		      (unsigned)ours->status_flags, (unsigned)theirs->status_flags);
	ck_assert_msg(ours->mode == theirs->mode, "%s: mode 0%o, not 0%o", what,
		      (unsigned)ours->mode, (unsigned)theirs->mode);
	ck_assert_msg(ours->uid == theirs->uid && ours->gid == theirs->gid, "%s: %u:%u, not %u:%u",
		      what, ours->uid, ours->gid, theirs->uid, theirs->gid);
	ck_assert_msg(ours->size == theirs->size && ours->links == theirs->links &&
			      memcmp(ours->content, theirs->content, sizeof(ours->content)) == 0,
		      "%s: another size, content or number of links", what);
}

/* One bit each of a case's number, below the three access modes. */
static const int cases_flags[] = { O_CREAT, O_EXCL, O_TRUNC, O_APPEND };
#define CASE_APPEND (1u << 3)
#define CASE_EXISTS (1u << 4)
#define CASES (1u << 5)

static void prepare(const struct opener *opener, const char *name, unsigned which)
{
	int fd;

	opener->unlink(name);
	if (!(which & CASE_EXISTS))
		return;
	fd = opener->open(name, O_RDWR | O_CREAT | O_EXCL, 0644);
	ck_assert_msg(fd >= 0, "%s: %s", name, strerror(errno));
	ck_assert_int_eq(write(fd, "before", 6), 6);
	close(fd);
}

static void compare_case(const struct opener *opener, const struct place *place, int oflag,
			 unsigned which)
{
	const char *name = place_name(place->label, "x");
	struct opening ours, theirs;
	char what[64];

	for (size_t i = 0; i < sizeof(cases_flags) / sizeof(*cases_flags); i++)
		oflag |= which & (1u << i) ? cases_flags[i] : 0;
	snprintf(what, sizeof(what), "%s: flags 0%o, %s", place->label, (unsigned)oflag,
		 which & CASE_EXISTS ? "exists" : "does not exist");
	prepare(&native, native_name(), which);
	prepare(opener, name, which);
	opening_take(&theirs, &native, native_name(), oflag, 0640);
	opening_take(&ours, opener, name, oflag, 0640);
	shm_unlink(native_name());
	opening_compare(&ours, &theirs, what);
}

void openings_compare_all(const struct opener *ours, int flags)
{
	static const int access[] = { O_RDONLY, O_WRONLY, O_RDWR };

	PLACES_FOREACH(place)
	for (size_t i = 0; i < 3; i++)
		for (unsigned which = 0; which < CASES; which++)
			if (!(which & CASE_APPEND) || flags & O_APPEND)
				compare_case(ours, place, access[i], which);
}

const char *native_name(void)
{
	static char name[64];

	snprintf(name, sizeof(name), "/shmbroker-test-native.%d", (int)getpid());
	return name;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st;
	(void)ftw;
	return kind == FTW_DP || kind == FTW_DNR ? rmdir(path) : unlink(path);
}

/* Not by exit(3): a leak checker of a sanitizer's would have its say, and can't under other ids. */
static _Noreturn void run_and_exit(int (*function)(void *argument), void *argument)
{
	int status = function(argument);

	nftw(test_directory(), remove_one, 16, FTW_DEPTH | FTW_PHYS);
	_exit(status);
}

void run_as(uid_t uid, gid_t gid, int (*function)(void *argument), void *argument)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		if (uid == (uid_t)-1)
			run_and_exit(function, argument);
		if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 ||
		    setresuid(uid, uid, uid) < 0 || prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0)
			_exit(99); /* dumpable, as a user's programs are, or it can't map its ids */
		run_and_exit(function, argument);
	}
	end_child(pid);
}

pid_t start_child(int (*function)(void *argument), void *argument)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		_exit(function(argument));
	return pid;
}

void end_child(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a child ended with 0x%x",
		      (unsigned)status);
}
