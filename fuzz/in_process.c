/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A whole broker in the fuzzer's own process: see in_process.h. */
#include "fuzz/in_process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/closer.h"
#include "daemon/fd.h"
#include "daemon/place.h"
#include "fuzz/fuzz.h"

static const char config[] =
	"limits: { sealed = 16  contexts-per-user = 4  subscriptions-per-user = 4\n"
	"          waits-per-user = 4 }\n"
	"pools: {\n"
	"  host: { path = \"%s/host\"  access = \"caller\" }\n"
	"  grant: { path = \"%s/grant\"  access = \"grant\" }\n"
	"  made: { size = %d  objects = %d }\n"
	"}\n"
	"rules: (\n"
	"  { name = \"host\"  names = \"/h*\"  allow = \"all\"  pool = \"host\" },\n"
	"  { name = \"read\"  names = \"/r*\"  allow = [ \"read\", \"list\" ]  pool = \"grant\" "
	"},\n"
	"  { name = \"create\"  names = \"/c*\"  allow = [ \"read\", \"write\", \"create\" ]\n"
	"    pool = \"grant\" },\n"
	"  { name = \"sealed\"  names = \"/x*\"  allow = \"all\"  sealed = true  pool = \"grant\" "
	"},\n"
	"  { name = \"temporary\"  names = \"/t*\"  allow = \"all\"  lifetime = \"process\"\n"
	"    pool = \"grant\" },\n"
	"  { name = \"limited\"  names = \"/l*\"  allow = \"all\"  max-size = %d  mode = \"%o\"\n"
	"    pool = \"grant\" },\n"
	"  { name = \"grant\"  names = \"/g*\"  allow = \"all\"  pool = \"grant\" },\n"
	"  { name = \"made\"  names = \"/m*\"  allow = \"all\"  pool = \"made\" }\n"
	")\n";

static struct in_process {
	char path[96]; /* of the configuration */
	struct peer_self self;
	struct config_source source;
	struct context_base base;
	struct closer closer;
	struct server_setup setup;
} here;

static void make_directory(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", fuzz_directory(), name);
	EXPECT(mkdir(path, 0700) == 0 && chmod(path, 01777) == 0, "%s: %s", path, strerror(errno));
}

static void write_config(void)
{
	FILE *file;

	snprintf(here.path, sizeof(here.path), "%s/shmbroker.conf", fuzz_directory());
	file = fopen(here.path, "we");
	EXPECT(file, "%s: %s", here.path, strerror(errno));
	fprintf(file, config, fuzz_directory(), fuzz_directory(), FUZZ_MADE_BYTES,
		FUZZ_MADE_OBJECTS, FUZZ_MAX_SIZE, FUZZ_MODE_MASK);
	EXPECT(fclose(file) == 0, "%s: %s", here.path, strerror(errno));
}

static struct keeper *start_keeper(bool is_root)
{
	const struct keeper_setup setup = {
		/* Of an id that nobody runs under. */
		.table_uid = is_root ? 65531 : geteuid(),
		.table_gid = is_root ? 65531 : getegid(),
		.userns = -EBADF,
		.mntns = -EBADF,
	};
	struct keeper *keeper;

	EXPECT(keeper_start(&keeper, &setup) == 0, "no keeper");
	return keeper;
}

struct server *in_process_start(void)
{
	const bool is_root = geteuid() == 0;
	char contexts[128];
	struct server *server;

	make_directory("host");
	make_directory("grant");
	write_config();
	here.source = (struct config_source){
		.file = here.path,
		.owner = geteuid(),
		.is_user = !is_root,
		.memory_bytes = 1ull << 34,
	};
	EXPECT(peer_self_init(&here.self, !is_root) == 0, "it can't be told who we are");
	EXPECT(closer_start(&here.closer, NULL) == 0, "no closer");
	here.setup = (struct server_setup){
		.self = &here.self,
		.source = &here.source,
		.keeper = start_keeper(is_root),
		.closer = &here.closer,
	};
	snprintf(contexts, sizeof(contexts), "%s/contexts", fuzz_directory());
	if (context_base_open(&here.base, contexts, is_root) == 0)
		here.setup.contexts = &here.base;
	EXPECT(server_new(&server, &here.setup) == 0, "no server");
	EXPECT(server_load(server) == 0, "the configuration was refused");
	return server;
}

void in_process_turn(struct server *server)
{
	/* Each may make the next ready. */
	for (int i = 0; i < 4; i++)
		EXPECT(server_step(server, false) == 0, "the loop has ended");
}

void in_process_wait(struct server *server)
{
	static const struct timeval moment = { .tv_usec = 100 * 1000 };

	event_base_loopexit(server->base, &moment);
	EXPECT(server_step(server, true) == 0, "the loop has ended");
}

struct instance *in_process_pool(struct server *server, const char *name)
{
	struct pool *pool = store_pool_by_name(server_broker(server)->store, name);

	EXPECT(pool && pool->single, "no pool %s", name);
	return pool->single->state == INSTANCE_READY ? pool->single : NULL;
}

void in_process_empty(struct server *server)
{
	struct broker *broker = server_broker(server);
	struct instance *instance = NULL;

	creds_reset(&broker->creds);
	while ((instance = store_next(broker->store, instance ? instance->number : 0)))
		if (instance->state == INSTANCE_READY)
			fuzz_empty_directory(instance->writable);
	in_process_turn(server);
}

unsigned in_process_descriptors(struct server *server)
{
	struct instance *instance = NULL;
	unsigned count = fuzz_descriptors();

	while ((instance = store_next(server_broker(server)->store,
				      instance ? instance->number : 0)))
		count -= (instance->writable >= 0) + (instance->read_only >= 0);
	return count;
}
