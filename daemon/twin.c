/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Makes read-only twins of the host's directories. A process can clone a mount and set it
 * read-only in a mount namespace where it has the rights; so a throw-away child
 * unshares for each request, and the helper stays what it is for the next one.
 */
#include "daemon/twin.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "daemon/fd.h"

#define THROW_AWAY_FAILED 1

/*
 * A clone of the mount that path is on, with that directory as its root. By path: the
 * mount that a descriptor of the broker's leads to belongs to another namespace. In
 * the copied namespace mounts below the directory are locked to it, and then the
 * clone must have them, too. A descriptor, or -1 and errno.
 */
static int clone_mount(const char *path, unsigned *ret_recursive)
{
	int tree = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	*ret_recursive = 0;
	if (tree >= 0 || errno != EINVAL)
		return tree;
	*ret_recursive = AT_RECURSIVE;
	return open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
}

/* In the throw-away child. No ids need to be mapped: only mounts are touched. 0 or -errno. */
static int make_twin(const struct attempt *attempt, const char *path, struct fdlist *fds)
{
	struct mount_attr attributes = { .attr_set = MOUNT_ATTR_RDONLY };
	_cleanup_close_ int tree = -EBADF;
	unsigned recursive;
	int fd;

	if (!step_try(attempt, STEP_TWIN_UNSHARE) || unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return step_failed(attempt, STEP_TWIN_UNSHARE);
	helper_hide();

	tree = step_try(attempt, STEP_TWIN_OPEN_TREE) ? clone_mount(path, &recursive) : -1;
	if (tree < 0)
		return step_failed(attempt, STEP_TWIN_OPEN_TREE);
	if (!step_try(attempt, STEP_TWIN_SETATTR) ||
	    mount_setattr(tree, "", AT_EMPTY_PATH | recursive, &attributes, sizeof(attributes)) < 0)
		return step_failed(attempt, STEP_TWIN_SETATTR);
	fd = step_try(attempt, STEP_TWIN_OPENAT)
		     ? openat(tree, ".", O_DIRECTORY | O_RDONLY | O_CLOEXEC)
		     : -1;
	if (fd < 0)
		return step_failed(attempt, STEP_TWIN_OPENAT);
	return fdlist_take(fds, fd, WIRE_FD_DIRECTORY);
}

/* The helper's socket: one at a time answers there, the child or the helper. */
static int answer_socket = -EBADF;

static _Noreturn void throw_away(pid_t parent, const struct keeper_request *request,
				 struct helper_answer *answer, const struct keeper_setup *setup)
{
	struct attempt attempt = { .fault = setup->fault, .failure = &answer->failure };
	struct fdlist fds = { .count = 0 };

	helper_born(parent);
	helper_hide();
	if (make_twin(&attempt, request->path, &fds) == 0)
		answer->has_read_only = true;
	_exit(helper_send_answer(answer_socket, answer, &fds) < 0 ? THROW_AWAY_FAILED : 0);
}

/* Whether there is still something to send: the child has answered if all went well. */
static bool answer_twin(const struct keeper_request *request, struct helper_answer *answer,
			struct fdlist *fds, const struct keeper_setup *setup)
{
	struct attempt attempt = { .fault = setup->fault, .failure = &answer->failure };
	pid_t self = getpid(), child;
	int status;

	if (!request->path) {
		errno = EINVAL;
		step_failed(&attempt, STEP_TWIN_OPEN_TREE);
		return true;
	}
	child = step_try(&attempt, STEP_TWIN_FORK) ? fork() : -1;
	if (child == 0)
		throw_away(self, request, answer, setup);
	if (child < 0) {
		step_failed(&attempt, STEP_TWIN_FORK);
		return true;
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return false;
	errno = ECHILD;
	step_failed(&attempt, STEP_TWIN_FORK);
	return true;
}

int twin_run(int socket, const struct keeper_setup *setup, const void *context)
{
	struct helper_answer hello = { .id = 0 };
	struct attempt attempt = { .fault = setup->fault, .failure = &hello.failure };
	int result = helper_take_ids(&attempt, setup);

	helper_hide();
	if (result == 0)
		result = helper_confine(&attempt, setup->confine_twin);
	if (helper_send_answer(socket, &hello, NULL) < 0 || result < 0)
		return EXIT_FAILURE;
	answer_socket = socket;
	return helper_serve(socket, setup, answer_twin);
}
