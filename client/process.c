/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The drop-ins' connection and its place in memory, which a forked child finds empty. */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/single_threaded.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "client/process.h"

/*
 * The kernel wipes it in a forked child (MADV_WIPEONFORK), so that a lock that another thread
 * held is open there, and a connection under way is nobody's. A child of vfork shares it
 * instead: there its pid is the parent's.
 */
static struct process *_Atomic shared;

/* Outlives fork: by it a child finds its copies of the parent's descriptors, to close them. */
static struct {
	int fd;
	dev_t dev;
	ino_t ino;
	struct shmb_directories directories; /* of a delegated pool */
} inherited = { .fd = -EBADF, .directories = { .writable = -EBADF, .read_only = -EBADF } };

static struct process *map_shared(void)
{
	struct process *mine, *expected = NULL;

	mine = mmap(NULL, sizeof(*mine), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0);
	if (mine == MAP_FAILED)
		return NULL;
	/* Where it can't be wiped, a forked child takes itself for one of vfork: slower, right. */
	madvise(mine, sizeof(*mine), MADV_WIPEONFORK);
	if (atomic_compare_exchange_strong(&shared, &expected, mine))
		return mine;
	munmap(mine, sizeof(*mine));
	return expected;
}

static bool is_socket(int fd, dev_t dev, ino_t ino)
{
	struct stat status;

	return fd >= 0 && fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode) &&
	       status.st_dev == dev && status.st_ino == ino;
}

static int lock_until(struct process *process, shmb_deadline deadline, bool *patient)
{
	struct timespec until = {
		.tv_sec = deadline / 1000000000,
		.tv_nsec = deadline % 1000000000,
	};

	if (pthread_mutex_trylock(&process->lock) == 0)
		return 0;
	/* A child of vfork had it for us, and is no more. */
	if (atomic_load(&process->borrower) == pthread_self())
		return 0;
	*patient = false;
	return -pthread_mutex_clocklock(&process->lock, CLOCK_MONOTONIC, &until);
}

/*
 * Whether the thread's memory is that of another one, as a child of vfork has it. A clock of a
 * thread's is made of its number, as the C library remembers it from the thread's beginning or
 * fork.
 */
static bool is_of_vfork(void)
{
	clockid_t clock;

	return pthread_getcpuclockid(pthread_self(), &clock) == 0 && ~(clock >> 3) != gettid();
}

/* First use, or first use after fork. */
static void process_start(struct process *process, pid_t self)
{
	if (is_socket(inherited.fd, inherited.dev, inherited.ino))
		fd_close(inherited.fd);
	inherited.fd = -EBADF;
	shmb_init(&process->link, shmb_default_timeout_ms);
	shmb_directories_close(&inherited.directories);
	atomic_store(&process->pid, self);
}

/* What is large of it is set here alone, where it is needed. */
static void process_start_apart(struct process *apart, pid_t self)
{
	memset(apart, 0, offsetof(struct process, link));
	shmb_init(&apart->link, shmb_default_timeout_ms);
	atomic_store(&apart->pid, self);
}

int shmb_process_lock(struct process **ret, struct process *apart, shmb_deadline deadline,
		      bool *patient)
{
	struct process *process = atomic_load(&shared);
	pid_t self = getpid();
	int r;

	if (!process)
		process = map_shared();
	if (!process)
		return -ENOMEM;
	/* It is not for a child of vfork to begin with it: it would be in its name for good. */
	if (process->pid == 0 ? is_of_vfork() : process->pid != self) {
		process_start_apart(apart, self);
		*ret = apart;
		return 0;
	}
	r = lock_until(process, deadline, patient);
	if (r < 0)
		return r;
	atomic_store(&process->is_locked, true);
	if (process->pid == 0)
		process_start(process, self);
	process->link.timeout_ms = shmb_default_timeout_ms;
	process->link.reason[0] = '\0';
	*ret = process;
	return 0;
}

/* The order counts in this thread alone, as a child of vfork leaves it behind. */
static void note_borrower(struct process *process, pthread_t borrower)
{
	atomic_store_explicit(&process->borrower, borrower, memory_order_release);
}

/* One thread has nobody to keep out but itself, in a signal's handler. */
static bool is_in_use(const struct process *process)
{
	return atomic_load_explicit(&process->is_locked, memory_order_relaxed) ||
	       atomic_load_explicit(&process->borrower, memory_order_relaxed) != 0;
}

static bool begin_to_borrow(struct process *process)
{
	bool with_lock = !__libc_single_threaded;

	if (with_lock ? pthread_mutex_trylock(&process->lock) != 0 : is_in_use(process))
		return false;
	/* Who it is counts for the lock alone. */
	note_borrower(process, with_lock ? pthread_self() : 1);
	process->is_borrowed_locked = with_lock;
	return true;
}

static void end_borrowing(struct process *process)
{
	note_borrower(process, 0);
	if (process->is_borrowed_locked)
		pthread_mutex_unlock(&process->lock);
}

struct process *shmb_process_borrow(void)
{
	struct process *process = atomic_load_explicit(&shared, memory_order_acquire);

	if (!process || !begin_to_borrow(process))
		return NULL;
	/* Where the kernel couldn't mark it for that a forked child has the parent's. */
	if (process->pid != 0 && !shmb_is_other_process(process->link.pid) &&
	    process->link.delegation.directories.read_only >= 0 &&
	    (process->link.ids_are_fixed || shmb_is_as_connected(&process->link)))
		return process;
	end_borrowing(process);
	return NULL;
}

/* A forked child closes them, and hasn't got the page. */
static void leave_to_child(const struct process *process)
{
	inherited.directories = process->link.delegation.directories;
	inherited.directories.page = NULL;
}

void shmb_process_give_back(struct process *process)
{
	leave_to_child(process);
	end_borrowing(process);
}

void shmb_process_unlock(struct process *process, struct process *apart)
{
	if (process == apart) {
		fd_close(apart->link.socket);
		shmb_directories_close(&apart->link.delegation.directories);
		return;
	}
	leave_to_child(process);
	atomic_store(&process->is_locked, false);
	atomic_store(&process->borrower, 0);
	pthread_mutex_unlock(&process->lock);
}

void shmb_process_forget(struct process *process)
{
	struct shmb *c = &process->link;

	if (is_socket(c->socket, process->dev, process->ino))
		fd_close(c->socket);
	c->socket = -EBADF;
	shmb_directories_close(&c->delegation.directories);
}

/* Notes which socket it is. */
static int note_socket(struct process *process)
{
	struct stat status;

	if (fstat(process->link.socket, &status) < 0)
		return -errno;
	process->dev = status.st_dev;
	process->ino = status.st_ino;
	if (process == atomic_load(&shared)) {
		inherited.fd = process->link.socket;
		inherited.dev = status.st_dev;
		inherited.ino = status.st_ino;
	}
	return 0;
}

int shmb_process_connect(struct process *process, shmb_deadline deadline, bool *patient)
{
	struct shmb *c = &process->link;
	int r;

	if (c->socket >= 0 && !c->error && shmb_is_as_connected(&process->link) &&
	    is_socket(c->socket, process->dev, process->ino))
		return 0;
	*patient = false;
	do {
		shmb_process_forget(process);
		shmb_init(c, shmb_default_timeout_ms);
		r = shmb_open_socket(c, NULL, deadline);
		if (r < 0)
			return r;
		r = note_socket(process);
		if (r < 0)
			return shmb_fail(c, r, "the connection was closed while it was made");
		/* Another thread may have changed them meanwhile: then nobody knows which it has.
		 */
	} while (!shmb_is_as_connected(c));
	return 0;
}
