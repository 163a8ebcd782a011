/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which files make the configuration, in which order, and whether they can be
 * trusted. Each is opened once, checked and read through that descriptor. Called by config.c.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "daemon/config_internal.h"
#include "daemon/fd.h"

#define MAIN_FILE "shmbroker.conf"
#define DROP_INS "shmbroker.conf.d"

/* One of the source's directories. */
struct place {
	const char *path;
	int base;     /* -EBADF: isn't there */
	int drop_ins; /* its shmbroker.conf.d, -EBADF: isn't there */
};

/* A drop-in, and the place where it was seen. */
struct entry {
	char *name;
	size_t place;
};

struct entries {
	struct entry *entry;
	size_t count, room;
};

static void closedirp(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

/*
 * Whoever may write a file may write rules, and whoever may write its directory
 * may put another in its place: the sticky bit wouldn't stop a new one.
 */
static int check_trust(struct loader *loader, const struct stat *st, const char *what)
{
	uid_t owner = loader->source->owner;

	if (st->st_uid != 0 && st->st_uid != owner) {
		if (owner)
			loader_fail(loader, 0, "%s is owned by uid %u, not by root or uid %u", what,
				    st->st_uid, owner);
		else
			loader_fail(loader, 0, "%s is owned by uid %u, not by root", what,
				    st->st_uid);
		return -EPERM;
	}
	if (st->st_mode & (S_IWGRP | S_IWOTH)) {
		loader_fail(loader, 0,
			    "%s can be written by others than its owner (mode %04o): chmod go-w",
			    what, st->st_mode & 07777);
		return -EPERM;
	}
	return 0;
}

/* Messages are about this path from now on; it is kept as long as the config. */
static int begin_file(struct loader *loader, const char *directory, const char *below,
		      const char *name)
{
	struct string_list *files = &loader->config->files;
	bool slash = *directory && directory[strlen(directory) - 1] == '/';
	char *path;

	if (asprintf(&path, "%s%s%s%s%s", directory, slash || !*directory ? "" : "/", below,
		     *below ? "/" : "", name) < 0 ||
	    string_list_take(files, path) < 0)
		return loader_fail_memory(loader);
	loader->file = files->string[files->count - 1];
	return 0;
}

/* The file turned out to be none. */
static void forget_file(struct loader *loader)
{
	struct string_list *files = &loader->config->files;

	free(files->string[--files->count]);
	files->string[files->count] = NULL;
	loader->file = NULL;
}

/* Names an unusable directory in an error, for the time of the check. */
static int check_directory(struct loader *loader, int fd, const char *path)
{
	const char *saved = loader->file;
	struct stat st;
	int r;

	loader->file = path;
	if (fstat(fd, &st) < 0)
		r = loader_fail_errno(loader, errno, "fstat");
	else
		r = check_trust(loader, &st, "the directory");
	if (r >= 0)
		loader->file = saved;
	return r;
}

static bool is_null_device(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(1, 3);
}

/* What openat with O_NOFOLLOW made ELOOP of: 0 when it leads to /dev/null, so is no file. */
static int check_link(struct loader *loader, int directory, const char *name)
{
	struct stat st;

	if (fstatat(directory, name, &st, 0) == 0 && is_null_device(&st))
		return 0;
	/* Each directory on a link's way could be another's, and is not seen by fstat. */
	loader_fail(loader, 0,
		    "is a symbolic link, and only one to /dev/null may be: put the file "
		    "itself here");
	return -ELOOP;
}

/* All of a file, NUL-terminated; size is what fstat said, and more is an error. */
static int read_text(struct loader *loader, int fd, char **ret, size_t *ret_size)
{
	_cleanup_free_ char *text = malloc(CONFIG_FILE_MAX + 2);
	size_t size = 0;

	if (!text)
		return loader_fail_memory(loader);
	while (size <= CONFIG_FILE_MAX) {
		ssize_t n = read(fd, text + size, CONFIG_FILE_MAX + 1 - size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return loader_fail_errno(loader, errno, "read");
		if (n == 0)
			break;
		size += (size_t)n;
	}
	if (size > CONFIG_FILE_MAX) {
		loader_fail(loader, 0, "is longer than %u bytes", CONFIG_FILE_MAX);
		return -EFBIG;
	}
	text[size] = '\0';
	*ret = text;
	text = NULL;
	*ret_size = size;
	return 0;
}

/* 1: read; 0: there, but empty or nothing, which removes it; -ENOENT: none there. */
static int read_file(struct loader *loader, int directory, const char *name)
{
	_cleanup_close_ int fd = -EBADF;
	_cleanup_free_ char *text = NULL;
	size_t size = 0;
	struct stat st;
	int r;

	/* O_NONBLOCK: a FIFO of that name must not stop the start. */
	fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 && errno == ELOOP)
		return check_link(loader, directory, name);
	if (fd < 0)
		return loader_fail_errno(loader, errno, "open");
	if (fstat(fd, &st) < 0)
		return loader_fail_errno(loader, errno, "fstat");
	if (is_null_device(&st))
		return 0;
	if (!S_ISREG(st.st_mode))
		return loader_fail(loader, 0, "is not a regular file");
	r = check_trust(loader, &st, "the file");
	if (r < 0)
		return r;
	r = read_text(loader, fd, &text, &size);
	if (r < 0 || size == 0)
		return r;
	r = loader_text(loader, text, size);
	return r < 0 ? r : 1;
}

/* 1: there (perhaps to remove it), 0: look in the next place. */
static int try_file(struct loader *loader, const struct place *place, bool drop_in,
		    const char *name)
{
	int r;

	r = begin_file(loader, place->path, drop_in ? DROP_INS : "", name);
	if (r < 0)
		return r;
	r = read_file(loader, drop_in ? place->drop_ins : place->base, name);
	if (r == 0 || r == -ENOENT)
		forget_file(loader);
	if (r == -ENOENT)
		return 0;
	return r < 0 ? r : 1;
}

/* 0 with *ret -EBADF where there is no such directory. */
static int open_directory(struct loader *loader, int at, const char *name, const char *path,
			  int flags, int *ret)
{
	_cleanup_close_ int fd = openat(at, name, flags | O_DIRECTORY | O_CLOEXEC);
	int r;

	*ret = -EBADF;
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 && errno == ENOTDIR) {
		loader->file = path;
		return loader_fail(loader, 0,
				   "is no directory, or a symbolic link to one: "
				   "put the directory itself here");
	}
	if (fd < 0) {
		loader->file = path;
		return loader_fail_errno(loader, errno, "open");
	}
	r = check_directory(loader, fd, path);
	if (r < 0)
		return r;
	*ret = steal_fd(&fd);
	return 0;
}

static int open_place(struct loader *loader, struct place *place)
{
	_cleanup_free_ char *path = NULL;
	int r;

	r = open_directory(loader, AT_FDCWD, place->path, place->path, O_PATH, &place->base);
	if (r < 0 || place->base < 0)
		return r;
	if (asprintf(&path, "%s/" DROP_INS, place->path) < 0)
		return loader_fail_memory(loader);
	/* The path is only for a message, which is written before it is freed. */
	return open_directory(loader, place->base, DROP_INS, path, O_RDONLY | O_NOFOLLOW,
			      &place->drop_ins);
}

/* *.conf; what begins with a dot is an editor's or a package manager's. */
static bool is_drop_in(const char *name)
{
	size_t size = strlen(name);

	return *name != '.' && size > 5 && !strcmp(name + size - 5, ".conf");
}

static int entries_add(struct entries *entries, const char *name, size_t place)
{
	if (entries->count == entries->room) {
		size_t room = entries->room ? 2 * entries->room : 16;
		struct entry *more = reallocarray(entries->entry, room, sizeof(*more));

		if (!more)
			return -ENOMEM;
		entries->entry = more;
		entries->room = room;
	}
	entries->entry[entries->count] = (struct entry){ strdup(name), place };
	return entries->entry[entries->count++].name ? 0 : -ENOMEM;
}

static void entries_done(struct entries *entries)
{
	for (size_t i = 0; i < entries->count; i++)
		free(entries->entry[i].name);
	free(entries->entry);
}

static int list_place(struct loader *loader, const struct place *place, size_t index,
		      struct entries *entries)
{
	_cleanup_(closedirp) DIR *dir = NULL;
	struct dirent *found;
	int fd;

	/* A copy by openat has an offset of its own, and the place keeps its descriptor. */
	fd = openat(place->drop_ins, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		int error = errno;

		fd_close(fd);
		loader->file = place->path;
		return loader_fail_errno(loader, error, "open " DROP_INS);
	}
	while (errno = 0, (found = readdir(dir)))
		if (is_drop_in(found->d_name) && entries_add(entries, found->d_name, index) < 0)
			return loader_fail_memory(loader);
	if (!errno)
		return 0;
	loader->file = place->path;
	return loader_fail_errno(loader, errno, "read " DROP_INS);
}

static int entry_compare(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	return order ? order : (x->place > y->place) - (x->place < y->place);
}

/* In the order of names; of one name the first place's masks the others. */
static int read_drop_ins(struct loader *loader, const struct place *places, size_t place_count)
{
	struct entries entries = { NULL, 0, 0 };
	int r = 0;

	for (size_t i = 0; i < place_count && r >= 0; i++)
		if (places[i].drop_ins >= 0)
			r = list_place(loader, &places[i], i, &entries);
	if (entries.count)
		qsort(entries.entry, entries.count, sizeof(*entries.entry), entry_compare);
	for (size_t i = 0; i < entries.count && r >= 0; i++) {
		const struct entry *entry = &entries.entry[i];

		if (i && r == 1 && !strcmp(entries.entry[i - 1].name, entry->name))
			continue;
		r = try_file(loader, &places[entry->place], true, entry->name);
	}
	entries_done(&entries);
	return r < 0 ? r : 0;
}

static int read_places(struct loader *loader, struct place *places, size_t count)
{
	int r = 0;

	for (size_t i = 0; i < count && r >= 0; i++)
		r = open_place(loader, &places[i]);
	for (size_t i = 0; i < count && r == 0; i++)
		if (places[i].base >= 0)
			r = try_file(loader, &places[i], false, MAIN_FILE);
	return r < 0 ? r : read_drop_ins(loader, places, count);
}

/* --config=FILE: its directory is checked like any other. */
static int read_single(struct loader *loader, const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	_cleanup_free_ char *directory = NULL;
	_cleanup_close_ int fd = -EBADF;
	int r;

	directory = !slash ? strdup(".")
			   : strndup(path, slash == path ? 1 : (size_t)(slash - path));
	if (!directory)
		return loader_fail_memory(loader);
	r = begin_file(loader, slash ? directory : "", "", name);
	if (r < 0)
		return r;
	fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return loader_fail_errno(loader, errno, "open");
	r = check_directory(loader, fd, directory);
	if (r < 0)
		return r;
	r = read_file(loader, fd, name);
	if (r == 0)
		forget_file(loader);
	return r < 0 ? r : 0;
}

int config_read_files(struct loader *loader)
{
	const char *const *directories = loader->source->directories;
	struct place *places;
	size_t count = 0;
	int r;

	if (loader->source->file)
		return read_single(loader, loader->source->file);
	while (directories[count])
		count++;
	places = calloc(count + 1, sizeof(*places));
	if (!places)
		return loader_fail_memory(loader);
	for (size_t i = 0; i < count; i++)
		places[i] = (struct place){ directories[i], -EBADF, -EBADF };
	r = read_places(loader, places, count);
	for (size_t i = 0; i < count; i++) {
		fd_close(places[i].base);
		fd_close(places[i].drop_ins);
	}
	free(places);
	return r;
}
