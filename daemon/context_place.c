/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The directories of contexts: made, removed, and swept of what crashes left. Called
 * by context.c.
 */
#include "daemon/place.h"

#include <dirent.h>
#include <endian.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "daemon/fd.h"

#define ACL_NAME "system.posix_acl_access"
#define SOCKET_NAME "socket"
#define NUMBER_SIZE 11	  /* of a decimal uint32_t, with its terminator */
#define ATTEMPTS 16	  /* another broker's sweep may take an unfinished one: not for ever */
#define NUMBERS_MAX 65536 /* tried for one that is free */

static void closedirp(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

static void number_text(char text[NUMBER_SIZE], uint32_t number)
{
	snprintf(text, NUMBER_SIZE, "%" PRIu32, number);
}

/* Whether a name is a number just as we write it. */
static bool is_number(const char *name)
{
	char text[NUMBER_SIZE];
	unsigned long long number;

	if (strspn(name, "0123456789") != strlen(name) || strlen(name) >= NUMBER_SIZE)
		return false;
	number = strtoull(name, NULL, 10);
	number_text(text, (uint32_t)number);
	return number <= UINT32_MAX && !strcmp(name, text);
}

static struct posix_acl_xattr_entry acl_entry(uint16_t tag, uint16_t permission, uint32_t id)
{
	return (struct posix_acl_xattr_entry){
		.e_tag = htole16(tag),
		.e_perm = htole16(permission),
		.e_id = htole32(id),
	};
}

/* rwx for us, --x for one uid, nothing for anybody else. acl(5); the kernel wants this order. */
static int set_acl(int fd, uid_t uid)
{
	struct {
		struct posix_acl_xattr_header header;
		struct posix_acl_xattr_entry entry[5];
	} acl = {
		.header = { .a_version = htole32(POSIX_ACL_XATTR_VERSION) },
		.entry = {
			acl_entry(ACL_USER_OBJ, ACL_READ | ACL_WRITE | ACL_EXECUTE,
				  (uint32_t)ACL_UNDEFINED_ID),
			acl_entry(ACL_USER, ACL_EXECUTE, uid),
			acl_entry(ACL_GROUP_OBJ, 0, (uint32_t)ACL_UNDEFINED_ID),
			acl_entry(ACL_MASK, ACL_EXECUTE, (uint32_t)ACL_UNDEFINED_ID),
			acl_entry(ACL_OTHER, 0, (uint32_t)ACL_UNDEFINED_ID),
		},
	};

	return fsetxattr(fd, ACL_NAME, &acl, sizeof(acl), 0) < 0 ? -errno : 0;
}

/* Sets one, on a file without a name: nothing is left whatever happens. */
static int check_acls(int directory)
{
	_cleanup_close_ int fd = -EBADF;

	fd = openat(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	/* A file system that has no such files tells at the first context. */
	if (fd < 0)
		return errno == EOPNOTSUPP || errno == EISDIR ? 0 : -errno;
	return set_acl(fd, geteuid());
}

int context_base_open(struct context_base *ret, const char *path, bool per_user)
{
	struct context_base base = { .per_user = per_user, .next = 1 };
	size_t levels = per_user ? 2 : 1, size = strlen(path);
	int r;

	/* A slash and a number a level; the last one's size has the terminator in it. */
	if (size + levels * NUMBER_SIZE + 1 > CONTEXT_PATH_SIZE)
		return -ENAMETOOLONG;
	base.directory = place_directory_open(path, per_user ? PLACE_SHARED : PLACE_PRIVATE);
	if (base.directory < 0)
		return base.directory;
	r = per_user ? check_acls(base.directory) : 0;
	if (r == 0) {
		base.path = strdup(path);
		r = base.path ? 0 : -ENOMEM;
	}
	if (r < 0) {
		fd_close(base.directory);
		return r;
	}
	*ret = base;
	return 0;
}

void context_base_done(struct context_base *base)
{
	free(base->path);
	base->path = NULL;
	base->directory = fd_close(base->directory);
}

/* A directory below that is ours (or the base itself). -errno, -EPERM when it is another's. */
static int open_own(int parent, const char *name)
{
	_cleanup_close_ int fd = -EBADF;
	struct stat st;

	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	/* The base may be root's: place_directory_open() has looked at it. */
	if (st.st_uid != geteuid() && strcmp(name, "."))
		return -EPERM;
	return steal_fd(&fd);
}

/* The directory in which the contexts of one maker lie. */
static int open_maker(const struct context_base *base, uid_t maker)
{
	char name[NUMBER_SIZE];

	if (!base->per_user)
		return open_own(base->directory, ".");
	number_text(name, maker);
	return open_own(base->directory, name);
}

static void remove_maker(const struct context_base *base, uid_t maker)
{
	char name[NUMBER_SIZE];

	if (!base->per_user)
		return;
	number_text(name, maker);
	unlinkat(base->directory, name, AT_REMOVEDIR); /* ENOTEMPTY: he has others */
}

static int make_maker(const struct context_base *base, uid_t maker)
{
	_cleanup_close_ int fd = -EBADF;
	char name[NUMBER_SIZE];
	int r;

	if (!base->per_user)
		return open_maker(base, maker);
	number_text(name, maker);
	if (mkdirat(base->directory, name, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = open_own(base->directory, name);
	if (fd < 0)
		return fd;
	/* Again where it was there: whoever made it may have come no further than mkdir. */
	r = set_acl(fd, maker);
	return r < 0 ? r : steal_fd(&fd);
}

/* Makes a directory under a number that is free. */
static int make_numbered(int parent, uint32_t *ret_number, struct context_base *base)
{
	char name[NUMBER_SIZE];
	unsigned tried;

	for (tried = 0; tried < NUMBERS_MAX; tried++) {
		uint32_t number = base->next++;

		number_text(name, number);
		if (number && mkdirat(parent, name, 0700) == 0) {
			int fd = open_own(parent, name);

			if (fd < 0)
				unlinkat(parent, name, AT_REMOVEDIR);
			else
				*ret_number = number;
			return fd;
		}
		if (number && errno != EEXIST)
			return -errno;
	}
	return -EBUSY;
}

/* What place_listen() makes, and the directory; in it may be nothing else. */
static int remove_numbered(int parent, const char *name)
{
	_cleanup_(closedirp) DIR *dir = NULL;
	struct dirent *entry;
	int fd = open_own(parent, name);

	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir) {
		fd_close(fd);
		return -ENOMEM;
	}
	while ((entry = readdir(dir)))
		if (!strcmp(entry->d_name, SOCKET_NAME) || place_is_temporary(entry->d_name))
			unlinkat(fd, entry->d_name, 0);
	return unlinkat(parent, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

static int make_once(struct context_place *ret, struct context_base *base, int parent)
{
	_cleanup_close_ int fd = -EBADF;
	struct place_socket socket;
	char name[NUMBER_SIZE];
	uint32_t number = 0;
	int r;

	fd = make_numbered(parent, &number, base);
	r = fd < 0 ? fd : place_listen(&socket, fd, SOCKET_NAME, 0666);
	/* Nobody reaches it before it is complete. */
	if (r == 0 && fchmod(fd, 0755) < 0) {
		r = -errno;
		fd_close(socket.fd);
	}
	if (r < 0) {
		number_text(name, number);
		if (number)
			remove_numbered(parent, name);
		return r;
	}
	ret->number = number;
	ret->listener = socket.fd;
	ret->refuses_descriptors = socket.refuses_descriptors;
	return 0;
}

int context_place_make(struct context_place *ret, struct context_base *base, uid_t maker)
{
	int attempt, r = -ENOENT;

	/* ENOENT: another broker, just starting, took it for a crashed one's. */
	for (attempt = 0; r == -ENOENT && attempt < ATTEMPTS; attempt++) {
		_cleanup_close_ int parent = make_maker(base, maker);

		r = parent < 0 ? parent : make_once(ret, base, parent);
	}
	if (r < 0)
		remove_maker(base, maker);
	else
		ret->maker = maker;
	return r;
}

int context_place_remove(const struct context_base *base, struct context_place *place)
{
	_cleanup_close_ int parent = -EBADF;
	char name[NUMBER_SIZE];
	int r;

	place->listener = fd_close(place->listener);
	parent = open_maker(base, place->maker);
	if (parent < 0)
		return parent;
	number_text(name, place->number);
	r = remove_numbered(parent, name);
	remove_maker(base, place->maker);
	return r;
}

int context_place_path(char *buffer, size_t size, const struct context_base *base,
		       const struct context_place *place)
{
	int used;

	if (base->per_user)
		used = snprintf(buffer, size, "%s/%" PRIu32 "/%" PRIu32, base->path,
				(uint32_t)place->maker, place->number);
	else
		used = snprintf(buffer, size, "%s/%" PRIu32, base->path, place->number);
	return used >= 0 && (size_t)used < size ? 0 : -ERANGE;
}

typedef int (*entry_fn)(int directory, const char *name);

/* Calls function for each entry of a directory of ours; the sum of what it returns, or -errno. */
static int for_each(int parent, const char *name, entry_fn function)
{
	_cleanup_(closedirp) DIR *dir = NULL;
	struct dirent *entry;
	int fd = open_own(parent, name), sum = 0;

	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir) {
		fd_close(fd);
		return -ENOMEM;
	}
	while ((entry = readdir(dir))) {
		int r = function(fd, entry->d_name);

		sum += r > 0 ? r : 0;
	}
	return sum;
}

static int sweep_socket(int directory, const char *name)
{
	if (!strcmp(name, SOCKET_NAME) || place_is_temporary(name))
		if (place_answers(directory, name) == 0)
			unlinkat(directory, name, 0);
	return 0;
}

static int sweep_context(int directory, const char *name)
{
	if (!is_number(name) || for_each(directory, name, sweep_socket) < 0)
		return 0;
	/* Fails when there is anything left in it: what answers, or isn't ours. */
	return unlinkat(directory, name, AT_REMOVEDIR) == 0;
}

static int sweep_maker(int directory, const char *name)
{
	int r;

	if (!is_number(name))
		return 0;
	r = for_each(directory, name, sweep_context);
	if (r >= 0)
		unlinkat(directory, name, AT_REMOVEDIR);
	return r;
}

int context_base_sweep(struct context_base *base)
{
	return for_each(base->directory, ".", base->per_user ? sweep_maker : sweep_context);
}
