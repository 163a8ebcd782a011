/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A whole broker for a test: see fixture.h. */
#include "tests/fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/broker_private.h"
#include "daemon/clock.h"
#include "daemon/fd.h"
#include "daemon/state.h"
#include "tests/confine.h"
#include "tests/fault.h"
#include "tests/test.h"

#define CALL 'c'
#define HOLD 'h'

/* In the loop's thread: what the test's own has handed over. */
static void called(struct watch *watch)
{
	struct fixture *fixture = (struct fixture *)((char *)watch -
						     offsetof(struct fixture, call_watch));
	char byte;

	fault_pause();
	if (read(fixture->call_pipe[0], &byte, 1) != 1) {
		/* Nothing was handed over. */
	} else if (byte == HOLD) {
		if (write(fixture->held_pipe[1], "", 1) != 1 ||
		    read(fixture->release_pipe[0], &byte, 1) != 1)
			abort();
	} else {
		if (fixture->call)
			fixture->call(fixture, fixture->call_argument);
		else
			server_stop(fixture->server);
		if (write(fixture->done_pipe[1], "", 1) != 1)
			abort();
	}
	fault_resume();
}

void fixture_call(struct fixture *fixture, void (*call)(struct fixture *fixture, void *argument),
		  void *argument)
{
	char byte;

	fault_pause();
	fixture->call = call;
	fixture->call_argument = argument;
	fixture->is_calling = true;
	ck_assert_int_eq(write(fixture->call_pipe[1], &(char){ CALL }, 1), 1);
	while (read(fixture->done_pipe[0], &byte, 1) < 0)
		ck_assert_int_eq(errno, EINTR);
	fixture->is_calling = false;
	fault_resume();
}

static void tick(struct fixture *fixture, void *argument)
{
	struct broker *broker = server_broker(fixture->server);
	uint64_t next;

	creds_reset(&broker->creds);
	next = store_tick(broker->store, clock_now_ms() + *(uint64_t *)argument);
	if (next)
		broker->edge->loop->tick_in(broker->edge->loop, next);
}

void fixture_tick(struct fixture *fixture, uint64_t ms)
{
	fixture_call(fixture, tick, &ms);
}

void fixture_configure(struct fixture *fixture, const char *config)
{
	FILE *file = fopen(fixture->config, "we");
	const char *at;

	ck_assert_ptr_nonnull(file);
	for (at = config; *at; at++) {
		if (strncmp(at, "@host@", 6) == 0) {
			fputs(fixture->host, file);
			at += 5;
		} else {
			fputc(*at, file);
		}
	}
	ck_assert_int_eq(fclose(file), 0);
}

static void *serve(void *argument)
{
	struct fixture *fixture = argument;

	int error = server_run(fixture->server);

	if (error < 0 && fixture->ended)
		fixture->ended(error);
	return NULL;
}

/* --- fork --- */

/*
 * AddressSanitizer's allocator is locked for good in a child that is forked while another thread is
 * in it: so the loops' threads stand still then, if they can, and nobody else's is in one for long.
 */
static struct fixture *running;
static pthread_mutex_t fork_lock = PTHREAD_MUTEX_INITIALIZER;

static void drain(int fd)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	char byte;

	while (poll(&ready, 1, 0) > 0 && read(fd, &byte, 1) > 0)
		;
}

/* One that is called stands still already, or is soon done with it. */
static void hold_one(struct fixture *f)
{
	struct pollfd ready = { .fd = f->held_pipe[0], .events = POLLIN };

	f->is_held = false;
	if (f->is_calling || pthread_equal(pthread_self(), f->thread))
		return;
	drain(f->held_pipe[0]);
	f->is_held = write(f->call_pipe[1], &(char){ HOLD }, 1) == 1;
	if (f->is_held)
		poll(&ready, 1, 5000);
}

static void hold_before_fork(void)
{
	pthread_mutex_lock(&fork_lock);
	fault_pause();
	for (struct fixture *f = running; f; f = f->next_running)
		hold_one(f);
	fault_resume();
}

static void release_after_fork(void)
{
	fault_pause();
	for (struct fixture *f = running; f; f = f->next_running)
		if (f->is_held && write(f->release_pipe[1], "", 1) != 1)
			abort();
	fault_resume();
	pthread_mutex_unlock(&fork_lock);
}

/* They are the parent's. */
static void forget_in_child(void)
{
	running = NULL;
	pthread_mutex_unlock(&fork_lock);
}

static void note_running(struct fixture *f)
{
	static bool is_done;

	if (IS_SANITIZED && !is_done)
		pthread_atfork(hold_before_fork, release_after_fork, forget_in_child);
	is_done = true;
	pthread_mutex_lock(&fork_lock);
	f->next_running = running;
	running = f;
	pthread_mutex_unlock(&fork_lock);
}

static void note_stopped(const struct fixture *f)
{
	struct fixture **at = &running;

	pthread_mutex_lock(&fork_lock);
	while (*at && *at != f)
		at = &(*at)->next_running;
	if (*at)
		*at = f->next_running;
	pthread_mutex_unlock(&fork_lock);
}

static void make_directories(struct fixture *f, const char *contexts_below)
{
	snprintf(f->config, sizeof(f->config), "%s/shmbroker.conf", test_directory());
	snprintf(f->host, sizeof(f->host), "%s/host", test_directory());
	snprintf(f->directory, sizeof(f->directory), "%s/run", test_directory());
	snprintf(f->socket, sizeof(f->socket), "%s/socket", f->directory);
	snprintf(f->contexts_path, sizeof(f->contexts_path), "%s/contexts",
		 contexts_below ? contexts_below : test_directory());
	ck_assert(mkdir(f->host, 0700) == 0 || errno == EEXIST);
	ck_assert_int_eq(chmod(f->host, 01777), 0);
}

static struct kept *the_kept; /* the hooks of the edge say nothing of whom they are for */

static int keep_context(uint32_t number, int hold, int listener)
{
	if (the_kept->count == sizeof(the_kept->context) / sizeof(*the_kept->context))
		return -EAGAIN;
	the_kept->context[the_kept->count++] = (struct kept_context){
		number, fcntl(hold, F_DUPFD_CLOEXEC, 3), fcntl(listener, F_DUPFD_CLOEXEC, 3)
	};
	return 0;
}

static void drop_context(uint32_t number)
{
	for (size_t i = 0; i < the_kept->count; i++) {
		struct kept_context *context = &the_kept->context[i];

		if (context->number != number)
			continue;
		fd_close(context->hold);
		fd_close(context->listener);
		*context = the_kept->context[--the_kept->count];
		return;
	}
}

static int keep_sealed(uint32_t number, int memory)
{
	the_kept->sealed_told++;
	if (the_kept->sealed_count == sizeof(the_kept->sealed) / sizeof(*the_kept->sealed))
		return -EAGAIN;
	the_kept->sealed[the_kept->sealed_count++] = (struct kept_sealed){
		number, fcntl(memory, F_DUPFD_CLOEXEC, 3)
	};
	return 0;
}

static void *close_later(void *argument)
{
	poll(NULL, 0, 50);
	close((int)(intptr_t)argument);
	return NULL;
}

static void drop_one(int fd)
{
	pthread_t thread;

	if (!the_kept->is_slow) {
		fd_close(fd);
		return;
	}
	ck_assert_int_eq(pthread_create(&thread, NULL, close_later, (void *)(intptr_t)fd), 0);
	pthread_detach(thread);
}

static void drop_sealed(uint32_t number)
{
	for (size_t i = 0; i < the_kept->sealed_count; i++) {
		if (the_kept->sealed[i].number != number)
			continue;
		drop_one(the_kept->sealed[i].memory);
		the_kept->sealed[i] = the_kept->sealed[--the_kept->sealed_count];
		return;
	}
}

void kept_done(struct kept *kept)
{
	fd_close(kept->userns);
	fd_close(kept->mntns);
	while (kept->count > 0)
		drop_context(kept->context[0].number);
	while (kept->sealed_count > 0)
		drop_sealed(kept->sealed[0].number);
}

void kept_by(struct server_setup *setup, struct kept *kept)
{
	the_kept = kept;
	setup->context_made = keep_context;
	setup->context_ended = drop_context;
	setup->sealed_made = keep_sealed;
	setup->sealed_ended = drop_sealed;
}

static void keep_table(struct fixture *f, struct kept *kept)
{
	struct keeper_failure why;

	kept_by(&f->setup, kept);
	f->setup.state = &f->state;
	if (!keeper_has_table(f->keeper, NULL))
		return;
	ck_assert_msg(state_open(&f->state, f->keeper, &why) == 0, "%s", why.step);
	if (kept->userns >= 0)
		return;
	kept->userns = fcntl(keeper_userns_borrow(f->keeper), F_DUPFD_CLOEXEC, 3);
	kept->mntns = fcntl(keeper_mntns_borrow(f->keeper), F_DUPFD_CLOEXEC, 3);
}

/* Each is a copy, as the service manager passes them. */
int kept_go_on(struct server *server, const struct kept *kept)
{
	struct kept_context given[sizeof(kept->context) / sizeof(*kept->context)];
	struct kept_sealed sealed[sizeof(kept->sealed) / sizeof(*kept->sealed)];

	fault_pause();
	for (size_t i = 0; i < kept->count; i++) {
		const struct kept_context *context = &kept->context[i];

		given[i] = (struct kept_context){
			context->number,
			context->hold < 0 ? -EBADF : fcntl(context->hold, F_DUPFD_CLOEXEC, 3),
			context->listener < 0 ? -EBADF
					      : fcntl(context->listener, F_DUPFD_CLOEXEC, 3),
		};
	}
	for (size_t i = 0; i < kept->sealed_count; i++)
		sealed[i] = (struct kept_sealed){
			kept->sealed[i].number,
			fcntl(kept->sealed[i].memory, F_DUPFD_CLOEXEC, 3),
		};
	fault_resume();
	return server_go_on(server, &(struct kept_descriptors){ given, kept->count, sealed,
								kept->sealed_count });
}

void fixture_end(struct fixture *f)
{
	server_free(f->server);
	state_close(&f->state);
	keeper_free(f->keeper);
	closer_stop(&f->closer);
	if (f->listener.fd >= 0)
		place_unlink_own(&f->listener, f->listener_directory, "socket");
	fd_close(f->listener.fd);
	fd_close(f->listener_directory);
	if (f->setup.contexts)
		context_base_done(&f->base);
	peer_self_done(&f->self);
}

void fixture_prepare(struct fixture *f, const char *config)
{
	make_directories(f, NULL);
	fixture_configure(f, config);
	f->source = (struct config_source){
		.file = f->config,
		.owner = geteuid(),
		.is_user = geteuid() != 0,
		.memory_bytes = 1ull << 34,
	};
}

void fixture_start(struct fixture *f, const struct fixture_how *how)
{
	ck_assert(fixture_try_start(f, how));
}

/* What fixture_call() asks the loop. */
static void watch_calls(struct fixture *f)
{
	ck_assert_int_eq(pipe2(f->call_pipe, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(f->done_pipe, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(f->held_pipe, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(f->release_pipe, O_CLOEXEC), 0);
	f->call_watch.ready = called;
	ck_assert_int_eq(f->server->loop.watch(&f->server->loop, &f->call_watch, f->call_pipe[0]),
			 0);
}

bool fixture_try_start(struct fixture *f, const struct fixture_how *how)
{
	static const struct keeper_fault no_table = { "unshare", EPERM };
	struct keeper_setup keeper = {
		.table_uid = geteuid() == 0 && !how->is_user ? 65533 : geteuid(),
		.table_gid = geteuid() == 0 && !how->is_user ? 65533 : getegid(),
		.userns = how->kept && how->kept->userns >= 0
				  ? fcntl(how->kept->userns, F_DUPFD_CLOEXEC, 3)
				  : -EBADF,
		.mntns = how->kept && how->kept->mntns >= 0
				 ? fcntl(how->kept->mntns, F_DUPFD_CLOEXEC, 3)
				 : -EBADF,
		.fault = how->no_table ? &no_table : how->fault,
		.confine_keeper = confine_keeper,
		.confine_twin = confine_twin,
	};
	const char *name;

	*f = (struct fixture){ .state = STATE_NONE, .ended = how->ended };
	make_directories(f, how->contexts_below);
	fixture_configure(f, how->config);
	f->source = (struct config_source){
		.file = f->config,
		.owner = geteuid(),
		.is_user = how->is_user,
		.memory_bytes = 1ull << 34,
	};
	ck_assert_int_eq(peer_self_init(&f->self, how->is_user), 0);
	ck_assert_int_eq(closer_start(&f->closer, confine_closer), 0);
	ck_assert_int_eq(keeper_start(&f->keeper, &keeper), 0);
	f->listener_directory = place_parent_open(f->socket, PLACE_SHARED, &name);
	ck_assert_int_ge(f->listener_directory, 0);
	ck_assert_int_eq(place_listen(&f->listener, f->listener_directory, name, 0666), 0);
	f->setup = (struct server_setup){
		.self = &f->self,
		.source = &f->source,
		.keeper = f->keeper,
		.closer = &f->closer,
		.always_peek = how->always_peek,
		.connections = how->connections,
		.rest_us = how->rest_us,
		.closed_us = how->closed_us,
	};
	if (context_base_open(&f->base, f->contexts_path, !how->is_user) == 0)
		f->setup.contexts = &f->base;
	if (how->kept)
		keep_table(f, how->kept);
	ck_assert_int_eq(server_new(&f->server, &f->setup), 0);
	if (how->kept) {
		server_leave(f->server, true);
		if (kept_go_on(f->server, how->kept) < 0) {
			fixture_end(f);
			return false;
		}
		server_leave(f->server, false);
	} else {
		ck_assert_int_eq(server_load(f->server), 0);
	}
	ck_assert_int_eq(
		server_add_listener(f->server, f->listener.fd, f->listener.refuses_descriptors), 0);
	if (how->bus_address)
		ck_assert_int_eq(server_add_bus(f->server, how->bus_address), 0);
	watch_calls(f);
	setenv("SHMBROKER_SOCKET", f->socket, 1);
	ck_assert_int_eq(pthread_create(&f->thread, NULL, serve, f), 0);
	note_running(f);
	return true;
}

static void leave(struct fixture *fixture, void *argument)
{
	(void)argument;
	server_leave(fixture->server, true);
}

void fixture_leave(struct fixture *fixture)
{
	fixture_call(fixture, leave, NULL);
	fixture_stop(fixture);
}

void fixture_stop(struct fixture *f)
{
	note_stopped(f);
	fixture_call(f, NULL, NULL);
	ck_assert_int_eq(pthread_join(f->thread, NULL), 0);
	f->server->loop.unwatch(&f->server->loop, &f->call_watch);
	fixture_end(f);
	for (int i = 0; i < 2; i++) {
		fd_close(f->call_pipe[i]);
		fd_close(f->done_pipe[i]);
		fd_close(f->held_pipe[i]);
		fd_close(f->release_pipe[i]);
	}
}

struct shmb *fixture_connect(const struct fixture *fixture)
{
	struct shmb *c = NULL;

	ck_assert_int_eq(shmb_connect(&c, fixture->socket), 0);
	return c;
}
