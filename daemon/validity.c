/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The owner's word is that of a robust mutex (pthread_mutexattr_setrobust(3)) which the broker's
 * thread holds as long as it is: when that ends, be it by SIGKILL, the kernel puts
 * FUTEX_OWNER_DIED there.
 */
#include "daemon/validity.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/fd.h"
#include "proto/protocol.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#endif

struct validity_page {
	_Atomic uint64_t changes;
	pthread_mutex_t owner;
};

_Static_assert(sizeof(struct validity_page) <= WIRE_PAGE_SIZE, "room in it");
_Static_assert(offsetof(struct validity_page, changes) == 0, "as the protocol has it");

/* Only we write in it, from here on, and nobody ever makes it shorter. */
static int seal(int fd)
{
	return fcntl(fd, F_ADD_SEALS,
		     F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL);
}

static int hold(pthread_mutex_t *owner)
{
	pthread_mutexattr_t how;
	int error = pthread_mutexattr_init(&how);

	if (error == 0)
		error = pthread_mutexattr_setpshared(&how, PTHREAD_PROCESS_SHARED);
	if (error == 0)
		error = pthread_mutexattr_setrobust(&how, PTHREAD_MUTEX_ROBUST);
	if (error == 0)
		error = pthread_mutex_init(owner, &how);
	pthread_mutexattr_destroy(&how);
	return error == 0 ? pthread_mutex_lock(owner) : error;
}

/* 0 or -errno. */
static int make(struct validity *validity)
{
	const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	_cleanup_close_ int fd = memfd_create("shmbroker-validity", flags | MFD_NOEXEC_SEAL);
	struct validity_page *page;
	int error;

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("shmbroker-validity", flags);
	if (fd < 0 || ftruncate(fd, WIRE_PAGE_SIZE) < 0)
		return -errno;
	page = mmap(NULL, WIRE_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		return -errno;
	error = seal(fd) < 0 ? errno : hold(&page->owner);
	if (error) {
		munmap(page, WIRE_PAGE_SIZE);
		return -error;
	}
	validity->page = page;
	validity->fd = steal_fd(&fd);
	return 0;
}

int validity_give(struct validity *validity, int proc_fds)
{
	char number[16];
	int error, fd;

	error = validity->page ? 0 : make(validity);
	if (error < 0)
		return error;
	snprintf(number, sizeof(number), "%d", validity->fd);
	fd = openat(proc_fds, number, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

uint64_t validity_changes(const struct validity *validity)
{
	return atomic_load(&validity->page->changes);
}

uint32_t validity_owner_offset(void)
{
	/* The C library's own, in which the kernel looks. */
	return offsetof(struct validity_page, owner.__data.__lock);
}

void validity_changed(struct validity *validity)
{
	if (validity->page)
		atomic_fetch_add(&validity->page->changes, 1);
}

void validity_done(struct validity *validity)
{
	if (!validity->page)
		return;
	validity_changed(validity);
	pthread_mutex_unlock(&validity->page->owner);
	munmap(validity->page, WIRE_PAGE_SIZE);
	validity->page = NULL;
	validity->fd = fd_close(validity->fd);
}
