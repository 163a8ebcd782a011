/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A whole broker for a test: see fixture.h. */
#include "tests/fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/broker_private.h"
#include "daemon/fd.h"
#include "tests/test.h"

/* In the loop's thread: what the test's own has handed over. */
static void called(struct watch *watch)
{
	struct fixture *fixture = (struct fixture *)((char *)watch -
						     offsetof(struct fixture, call_watch));
	char byte;

	if (read(fixture->call_pipe[0], &byte, 1) != 1)
		return;
	if (fixture->call)
		fixture->call(fixture, fixture->call_argument);
	else
		server_stop(fixture->server);
	if (write(fixture->done_pipe[1], "", 1) != 1)
		abort();
}

void fixture_call(struct fixture *fixture, void (*call)(struct fixture *fixture, void *argument),
		  void *argument)
{
	char byte;

	fixture->call = call;
	fixture->call_argument = argument;
	ck_assert_int_eq(write(fixture->call_pipe[1], "", 1), 1);
	while (read(fixture->done_pipe[0], &byte, 1) < 0)
		ck_assert_int_eq(errno, EINTR);
}

static void tick(struct fixture *fixture, void *argument)
{
	struct broker *broker = server_broker(fixture->server);
	uint64_t next;

	creds_reset(&broker->creds);
	next = store_tick(broker->store, broker_now_ms() + *(uint64_t *)argument);
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

	server_run(fixture->server);
	return NULL;
}

static void make_directories(struct fixture *f)
{
	snprintf(f->config, sizeof(f->config), "%s/shmbroker.conf", test_directory());
	snprintf(f->host, sizeof(f->host), "%s/host", test_directory());
	snprintf(f->directory, sizeof(f->directory), "%s/run", test_directory());
	snprintf(f->socket, sizeof(f->socket), "%s/socket", f->directory);
	snprintf(f->contexts_path, sizeof(f->contexts_path), "%s/contexts", test_directory());
	ck_assert(mkdir(f->host, 0700) == 0 || errno == EEXIST);
	ck_assert_int_eq(chmod(f->host, 01777), 0);
}

void fixture_start(struct fixture *f, const struct fixture_how *how)
{
	static const struct keeper_fault no_table = { "unshare", EPERM };
	struct keeper_setup keeper = {
		.table_uid = geteuid() == 0 && !how->is_user ? 65533 : geteuid(),
		.table_gid = geteuid() == 0 && !how->is_user ? 65533 : getegid(),
		.userns = -EBADF,
		.mntns = -EBADF,
		.fault = how->no_table ? &no_table : how->fault,
	};
	const char *name;

	*f = (struct fixture){ 0 };
	make_directories(f);
	fixture_configure(f, how->config);
	f->source = (struct config_source){
		.file = f->config,
		.owner = geteuid(),
		.is_user = how->is_user,
		.memory_bytes = 1ull << 34,
	};
	ck_assert_int_eq(peer_self_init(&f->self, how->is_user), 0);
	ck_assert_int_eq(closer_start(&f->closer), 0);
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
	};
	if (context_base_open(&f->base, f->contexts_path, !how->is_user) == 0)
		f->setup.contexts = &f->base;
	ck_assert_int_eq(server_new(&f->server, &f->setup), 0);
	ck_assert_int_eq(server_load(f->server), 0);
	ck_assert_int_eq(
		server_add_listener(f->server, f->listener.fd, f->listener.refuses_descriptors), 0);
	if (how->bus_address)
		ck_assert_int_eq(server_add_bus(f->server, how->bus_address), 0);
	ck_assert_int_eq(pipe2(f->call_pipe, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(f->done_pipe, O_CLOEXEC), 0);
	f->call_watch.ready = called;
	ck_assert_int_eq(f->server->loop.watch(&f->server->loop, &f->call_watch, f->call_pipe[0]),
			 0);
	setenv("SHMBROKER_SOCKET", f->socket, 1);
	ck_assert_int_eq(pthread_create(&f->thread, NULL, serve, f), 0);
}

void fixture_stop(struct fixture *f)
{
	fixture_call(f, NULL, NULL);
	ck_assert_int_eq(pthread_join(f->thread, NULL), 0);
	f->server->loop.unwatch(&f->server->loop, &f->call_watch);
	server_free(f->server);
	keeper_free(f->keeper);
	closer_stop(&f->closer);
	place_unlink_own(&f->listener, f->listener_directory, "socket");
	fd_close(f->listener.fd);
	fd_close(f->listener_directory);
	if (f->setup.contexts)
		context_base_done(&f->base);
	peer_self_done(&f->self);
	for (int i = 0; i < 2; i++) {
		fd_close(f->call_pipe[i]);
		fd_close(f->done_pipe[i]);
	}
}

struct shmb *fixture_connect(const struct fixture *fixture)
{
	struct shmb *c = NULL;

	ck_assert_int_eq(shmb_connect(&c, fixture->socket), 0);
	return c;
}
