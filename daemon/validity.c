/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The owner's word is the number of the broker's thread, as in a robust mutex: when that ends, be
 * it by SIGKILL, the kernel goes through the list of set_robust_list(2) and puts FUTEX_OWNER_DIED
 * there. The list is ours and not the C library's, which would show its addresses in the page.
 */
#include "daemon/validity.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/fd.h"
#include "proto/protocol.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#endif

_Static_assert(WIRE_OWNER_DIED == FUTEX_OWNER_DIED, "what the kernel writes");

/* One thread's, as long as it is: in the C library's place, of whose robust mutexes we have none.
 */
static _Thread_local struct {
	struct robust_list_head head;
	struct robust_list entry;
} robust;

/* Only we write in it, from here on, and nobody ever makes it shorter. */
static int seal(int fd)
{
	return fcntl(fd, F_ADD_SEALS,
		     F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL);
}

static long offset_of(const struct wire_page *page)
{
	return (long)((intptr_t)&page->owner - (intptr_t)&robust.entry);
}

static int hold(struct wire_page *page)
{
	robust.entry.next = &robust.head.list;
	robust.head = (struct robust_list_head){
		.list.next = &robust.entry,
		.futex_offset = offset_of(page),
	};
	atomic_store((_Atomic uint32_t *)&page->owner, (uint32_t)gettid());
	return (int)syscall(SYS_set_robust_list, &robust.head, sizeof(robust.head));
}

/* This thread's, or that of one which has ended. */
static void let_go(struct wire_page *page)
{
	if (robust.head.futex_offset == offset_of(page))
		robust.head.list.next = &robust.head.list;
	atomic_store((_Atomic uint32_t *)&page->owner, 0);
}

/* 0 or -errno. */
static int make(struct validity *validity)
{
	const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	_cleanup_close_ int fd = memfd_create("shmbroker-validity", flags | MFD_NOEXEC_SEAL);
	struct wire_page *page;
	int error;

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("shmbroker-validity", flags);
	if (fd < 0 || ftruncate(fd, WIRE_PAGE_SIZE) < 0)
		return -errno;
	page = mmap(NULL, WIRE_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		return -errno;
	error = seal(fd) < 0 || hold(page) < 0 ? -errno : 0;
	if (error < 0) {
		let_go(page);
		munmap(page, WIRE_PAGE_SIZE);
		return error;
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

uint32_t validity_changes(const struct validity *validity)
{
	return atomic_load((_Atomic uint32_t *)&validity->page->changes);
}

void validity_changed(struct validity *validity)
{
	if (validity->page)
		atomic_fetch_add((_Atomic uint32_t *)&validity->page->changes, 1);
}

void validity_done(struct validity *validity)
{
	if (!validity->page)
		return;
	validity_changed(validity);
	let_go(validity->page);
	munmap(validity->page, WIRE_PAGE_SIZE);
	validity->page = NULL;
	validity->fd = fd_close(validity->fd);
}
