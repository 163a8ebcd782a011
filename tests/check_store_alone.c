/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The store without a broker around it: the keeper has ended and nobody has heard of it yet, or
 * what has to be noted can't be. A part of the store's suite.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/store_private.h"
#include "tests/keeper_fixture.h"

void store_add_alone(TCase *tests);

static const struct pool_config frames = {
	.name = (char *)"frames", .kind = POOL_MADE, .size_bytes = MIB, .objects = 8
};

struct alone {
	struct keeper *keeper;
	struct state state;
	struct quota quota;
	struct store_events events;
	struct store *store;
	bool is_applied;
	int error; /* of the last store_apply(), and its line */
	char text[512];
	char notice[1024]; /* the last */
};

static void take_notice(void *context, const struct notice *notice)
{
	struct alone *alone = context;

	snprintf(alone->notice, sizeof(alone->notice), "%s", notice->text);
}

static void take_applied(void *context, int error, const char *text)
{
	struct alone *alone = context;

	alone->is_applied = true;
	alone->error = error;
	snprintf(alone->text, sizeof(alone->text), "%s", text);
}

static void await_keeper(struct alone *alone)
{
	struct pollfd event = { .fd = keeper_poll_borrow(alone->keeper), .events = POLLIN };

	ck_assert_int_eq(poll(&event, 1, ANSWER_MS), 1);
}

/* One pool. What became of it is in error and text. */
static void apply(struct alone *alone, struct pool_config pool)
{
	const struct config config = { .pool = &pool, .pool_count = 1 };

	alone->is_applied = false;
	ck_assert_int_eq(store_apply(alone->store, &config, false), 0);
	while (!alone->is_applied) {
		await_keeper(alone);
		store_dispatch(alone->store, 0);
	}
}

static void begin(struct alone *alone)
{
	const struct store_setup setup = { .keeper = start(NULL),
					   .state = &alone->state,
					   .quota = &alone->quota,
					   .events = &alone->events };

	*alone = (struct alone){ .keeper = setup.keeper, .state = STATE_NONE };
	alone->events = (struct store_events){ .context = alone,
					       .notice = take_notice,
					       .applied = take_applied };
	ck_assert_ptr_nonnull(alone->keeper);
	ck_assert_int_eq(store_new(&alone->store, &setup), 0);
}

static void end(struct alone *alone)
{
	store_free(alone->store);
	quota_done(&alone->quota);
	keeper_free(alone->keeper);
}

/* What the store would hear from store_dispatch(), and then the broker ends. */
static void end_keeper(struct alone *alone)
{
	struct keeper_reply reply;

	ck_assert_int_eq(kill(keeper_pid(alone->keeper), SIGKILL), 0);
	await_keeper(alone);
	ck_assert_int_eq(keeper_receive(alone->keeper, &reply), -EPIPE);
}

START_TEST(without_its_keeper_the_store_keeps_what_it_has)
{
	struct pool_config larger = frames, executable = frames;
	struct keeper_failure why;
	struct instance *instance;
	struct aside aside;
	struct alone alone;
	int mount;

	NEEDS_TABLE;
	begin(&alone);
	apply(&alone, frames);
	ck_assert_int_eq(alone.error, 0);
	instance = store_next(alone.store, 0);
	ck_assert_int_eq(instance->state, INSTANCE_READY);
	end_keeper(&alone);

	ck_assert_int_eq(store_lend(alone.store, instance, &mount, &why), EPIPE);
	ck_assert_str_eq(why.step, "asking the keeper");
	ck_assert_str_eq(why.advice, "restart the broker");
	ck_assert_int_eq(store_set_aside(alone.store, instance, 8192, &aside), ENOMEM);
	ck_assert_uint_eq(instance->aside_bytes, 0);
	ck_assert_uint_eq(instance->pins, 0);
	/* As if it had been asked for something else last. */
	instance->asked_bytes = 1;
	store_give_back(alone.store, instance, 0);
	ck_assert_ptr_nonnull(strstr(alone.notice, "\"frames\" keeps its old limits"));
	instance->asked_bytes = MIB;

	larger.size_bytes = 2 * MIB;
	apply(&alone, larger);
	ck_assert_int_eq(alone.error, -EPIPE);
	ck_assert_ptr_nonnull(strstr(alone.text, "\"frames\" can't be resized"));
	executable.exec = true;
	apply(&alone, executable);
	ck_assert_int_eq(alone.error, -EPIPE);
	ck_assert_ptr_nonnull(strstr(alone.text, "\"frames\" can't be changed"));
	ck_assert_uint_eq(instance->pool->config.size_bytes, MIB);
	ck_assert_int_eq(instance->state, INSTANCE_READY);
	end(&alone);
}
END_TEST

/* One that nobody knew of after a restart would never be released. */
START_TEST(a_pool_that_can_not_be_noted_is_not_made)
{
	struct instance *instance;
	struct alone alone;

	NEEDS_TABLE;
	begin(&alone);
	/* Where nobody makes a name. */
	alone.state.directory = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	apply(&alone, frames);
	ck_assert_int_eq(alone.error, 0);
	instance = store_next(alone.store, 0);
	ck_assert_int_eq(instance->state, INSTANCE_ABSENT);
	ck_assert_str_eq(instance->why.step, "noting whose it is");
	ck_assert_ptr_nonnull(strstr(alone.notice, "\"frames\" can't be had: noting whose it is"));
	ck_assert_int_eq(do_simple(alone.keeper, KEEPER_FIND, instance->number), ENOENT);
	state_close(&alone.state);
	end(&alone);
}
END_TEST

START_TEST(a_loan_that_can_not_be_noted_is_none)
{
	struct keeper_failure why;
	struct instance *instance;
	struct alone alone;
	int mount = -EBADF;

	NEEDS_TABLE;
	begin(&alone);
	apply(&alone, frames);
	instance = store_next(alone.store, 0);
	alone.state.directory = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_eq(store_lend(alone.store, instance, &mount, &why), EAGAIN);
	while (instance->is_cloning) {
		await_keeper(&alone);
		ck_assert_int_eq(store_dispatch(alone.store, 0), 0);
	}
	ck_assert_int_gt(store_lend(alone.store, instance, &mount, &why), 0);
	ck_assert_str_eq(why.step, "noting that it is lent");
	ck_assert(!instance->was_lent);
	ck_assert_int_eq(mount, -EBADF);
	/* It is still there for who asks when that can be done. */
	state_close(&alone.state);
	ck_assert_int_eq(store_lend(alone.store, instance, &mount, &why), 0);
	ck_assert(instance->was_lent);
	close(mount);
	end(&alone);
}
END_TEST

void store_add_alone(TCase *tests)
{
	tcase_add_test(tests, without_its_keeper_the_store_keeps_what_it_has);
	tcase_add_test(tests, a_pool_that_can_not_be_noted_is_not_made);
	tcase_add_test(tests, a_loan_that_can_not_be_noted_is_none);
}
