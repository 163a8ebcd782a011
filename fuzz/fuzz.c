/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the fuzzers share: see fuzz.h. */
#include "fuzz/fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int report = 2;

/* libFuzzer's -close_fd_mask, which keeps the log of what runs away, leaves us this one. */
__attribute__((constructor)) static void keep_report(void)
{
	int fd = fcntl(2, F_DUPFD_CLOEXEC, 3);

	if (fd >= 0)
		report = fd;
}

/* To print the functions that it finds, libFuzzer starts a process, whose pipes we would count. */
int LLVMFuzzerInitialize(int *argument_count, char ***arguments)
{
	static char quiet[] = "-print_funcs=0";
	char **more = calloc((size_t)*argument_count + 2, sizeof(*more));

	EXPECT(more, "no memory");
	more[0] = (*arguments)[0];
	/* The last of one name counts, so a word of the user's own goes on having it. */
	more[1] = quiet;
	memcpy(more + 2, *arguments + 1, (size_t)(*argument_count - 1) * sizeof(*more));
	*arguments = more;
	++*argument_count;
	fuzz_start();
	return 0;
}

static char own_directory[96];
static pid_t directory_pid;

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st;
	(void)ftw;
	return kind == FTW_DP || kind == FTW_DNR ? rmdir(path) : unlink(path);
}

static void remove_directory(void)
{
	if (getpid() == directory_pid)
		nftw(own_directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void fuzz_failed(const char *file, int line, const char *condition, const char *format, ...)
{
	va_list arguments;

	dprintf(report, "%s:%d: not so: %s\n", file, line, condition);
	va_start(arguments, format);
	vdprintf(report, format, arguments);
	va_end(arguments);
	dprintf(report, "\n");
	remove_directory();
	abort();
}

uint8_t take_byte(struct bytes *bytes)
{
	return (uint8_t)take_number(bytes, 1);
}

uint64_t take_number(struct bytes *bytes, size_t size)
{
	uint64_t number = 0;

	if (size > bytes->left)
		size = bytes->left;
	memcpy(&number, bytes->at, size);
	bytes->at += size;
	bytes->left -= size;
	return number;
}

size_t take_text(struct bytes *bytes, size_t most, const uint8_t **ret)
{
	size_t size = take_number(bytes, most > 255 ? 2 : 1);

	if (size > most)
		size = most;
	if (size > bytes->left)
		size = bytes->left;
	*ret = bytes->at;
	bytes->at += size;
	bytes->left -= size;
	return size;
}

unsigned fuzz_descriptors(void)
{
	DIR *listing = opendir("/proc/self/fd");
	unsigned count = 0;

	EXPECT(listing, "/proc/self/fd: %s", strerror(errno));
	for (const struct dirent *entry; (entry = readdir(listing));)
		count += entry->d_name[0] != '.';
	closedir(listing);
	return count - 1; /* the listing's own */
}

const char *fuzz_descriptors_text(void)
{
	static char text[4096];
	DIR *listing = opendir("/proc/self/fd");
	char target[128];
	ssize_t size;

	text[0] = 0;
	for (const struct dirent *entry; listing && (entry = readdir(listing));) {
		size = readlinkat(dirfd(listing), entry->d_name, target, sizeof(target) - 1);
		target[size < 0 ? 0 : size] = 0;
		if (size > 0)
			snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s %s\n",
				 entry->d_name, target);
	}
	closedir(listing);
	return text;
}

const char *fuzz_directory(void)
{
	if (directory_pid)
		return own_directory;
	/* By the process's number, so that who started it can clean up behind it. */
	snprintf(own_directory, sizeof(own_directory), "/dev/shm/shmbroker-fuzz.%d.XXXXXX",
		 getpid());
	if (!mkdtemp(own_directory)) {
		snprintf(own_directory, sizeof(own_directory), "/tmp/shmbroker-fuzz.%d.XXXXXX",
			 getpid());
		EXPECT(mkdtemp(own_directory), "mkdtemp: %s", strerror(errno));
	}
	EXPECT(chmod(own_directory, 0755) == 0, "chmod: %s", strerror(errno));
	directory_pid = getpid();
	atexit(remove_directory);
	return own_directory;
}

void fuzz_empty_directory(int directory)
{
	int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *listing = fdopendir(fd);

	EXPECT(listing, "%s", strerror(errno));
	for (const struct dirent *entry; (entry = readdir(listing));)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			if (unlinkat(directory, entry->d_name, 0) < 0)
				unlinkat(directory, entry->d_name, AT_REMOVEDIR);
	closedir(listing);
}

bool fuzz_is_printable(const char *text)
{
	for (; *text; text++)
		if (*text < 0x20 || *text > 0x7e)
			return false;
	return true;
}
