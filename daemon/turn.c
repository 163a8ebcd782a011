/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who is served when. Each user has the same part of each pass of the loop, so that one who asks
 * without end holds the others up by no more than that. Of his connections those that have to wait
 * are in a line, out of the loop's sight: looking at each of a thousand in every pass would cost
 * the others more than serving them.
 */
#include <stddef.h>
#include <sys/socket.h>

#include "daemon/clock.h"
#include "daemon/server_private.h"

/*
 * Requests of one user in a pass. The second is mostly there when he doesn't wait for replies; who
 * is in line for that has them in every third pass in which others are served, which wakes him less
 * often than one in each: what he does then takes processor time, too.
 */
#define PART 2
#define PASSED_OVER 2

/* A rest is no longer, however much was worked: who asks again at once does so within less. */
#define REST_US 500
/* After a request that took long: so many times as long, and at most. */
#define REST_SHARE 2
#define REST_MOST_NS 1000000u

/* Passes from one look whether somebody asks ahead to the next: it is a system call. */
#define LOOKS_APART 64

struct turns *turns_now(struct client *client)
{
	struct turns *turns = quota_turns(&client->caller.charge);

	if (turns->pass != client->server->pass) {
		turns->pass = client->server->pass;
		turns->left = PART;
	}
	return turns;
}

void turn_wait(struct client *client)
{
	struct turns *turns = turns_now(client);

	event_del(&client->event);
	client->turn.waits = true;
	client->turn.to_look = client->turn.asks_ahead = false;
	if (TAILQ_EMPTY(&turns->waiting))
		TAILQ_INSERT_TAIL(&client->server->waiting, turns, entry);
	TAILQ_INSERT_TAIL(&turns->waiting, &client->turn, entry);
	/* What the others in line have to wait for needn't be what he has to. */
	if (client->server->rest.is_each_ones)
		client->server->rest.is_on = false;
}

void turn_leave(struct client *client)
{
	struct turns *turns;

	if (!client->turn.waits)
		return;
	turns = quota_turns(&client->caller.charge);
	client->turn.waits = false;
	TAILQ_REMOVE(&turns->waiting, &client->turn, entry);
	if (TAILQ_EMPTY(&turns->waiting))
		TAILQ_REMOVE(&client->server->waiting, turns, entry);
}

static void end_rest(struct rest *rest, uint64_t now)
{
	if (!rest->is_each_ones) {
		rest->left_ns -= (int64_t)(now - rest->since_ns);
		rest->since_ns = now;
	}
	rest->is_on = false;
}

void turn_served(struct server *server, const struct turns *turns)
{
	if (!TAILQ_EMPTY(&turns->waiting))
		return;
	if (server->served_turns != turns)
		server->served_before = server->served;
	server->served_turns = turns;
	server->served = server->pass;
	if (turns != server->door.last)
		server->door.has_others = true;
	/* Those in line are others than he. */
	if (!TAILQ_EMPTY(&server->waiting))
		server->rest.is_due = true;
	if (server->rest.is_on)
		end_rest(&server->rest, clock_now_ns());
}

/* The last pass in which another than he was served who doesn't wait in line. */
static uint64_t others_served(const struct server *server, const struct turns *turns)
{
	return server->served_turns == turns ? server->served_before : server->served;
}

/* Others than he were in this pass or the one before, or are in line. */
static bool has_others(const struct server *server, const struct turns *turns)
{
	return others_served(server, turns) + 1 >= server->pass || !TAILQ_EMPTY(&server->waiting);
}

void turn_took(struct client *client, uint64_t begin_ns)
{
	struct turns *turns = turns_now(client);
	uint64_t now = clock_now_ns(), length = REST_SHARE * (now - begin_ns);

	turns->left = 0;
	/* Nobody is to wait for who has to. */
	if (client->server->served_turns == turns)
		client->server->rest.is_due = false;
	turns->long_pass = client->server->pass;
	turns->rests_until_ns = now + (length < REST_MOST_NS ? length : REST_MOST_NS);
	if (client->server->setup->rest_us)
		turns->rests_until_ns = now + client->server->setup->rest_us * 1000ull;
}

static bool others_wait(const struct server *server, const struct turns *turns)
{
	const struct turns *first = TAILQ_FIRST(&server->waiting);

	return first && (first != turns || TAILQ_NEXT(first, entry));
}

static bool rests(const struct server *server, struct turns *turns)
{
	if (turns->rests_until_ns &&
	    ((others_served(server, turns) < turns->long_pass && !others_wait(server, turns)) ||
	     clock_now_ns() >= turns->rests_until_ns))
		turns->rests_until_ns = 0;
	return turns->rests_until_ns > 0;
}

void turn_look(struct client *client)
{
	struct turns *turns = quota_turns(&client->caller.charge);

	client->turn.to_look = false;
	client->turn.asks_ahead = recv(client->fd, NULL, 0, MSG_PEEK | MSG_DONTWAIT) >= 0;
	turns->next_look = client->turn.asks_ahead ? 0 : client->server->pass + LOOKS_APART;
}

struct turns *turn_or_wait(struct client *client)
{
	struct turns *turns;

	if (client->turn.waits)
		return NULL;
	turns = turns_now(client);
	if (turns->left > 0 && TAILQ_EMPTY(&turns->waiting) && !rests(client->server, turns)) {
		turn_served(client->server, turns);
		client->turn.to_look = client->server->pass >= turns->next_look &&
				       has_others(client->server, turns);
		return turns;
	}
	turn_wait(client);
	return NULL;
}

static int64_t rest_max_ns(const struct server *server)
{
	uint32_t us = server->setup->rest_us;

	return 1000ll * (us ? us : REST_US);
}

static void set_rest_timer(struct rest *rest, uint64_t now)
{
	timer_set(&rest->timer, rest->until_ns - now);
	rest->timed_ns = rest->until_ns;
	rest->is_timed = true;
}

/* Until others ask again, for as long as has been worked since the last; 0: it doesn't. */
static uint64_t all_rest_until(struct server *server, uint64_t now)
{
	struct rest *rest = &server->rest;

	if (!rest->is_due)
		return 0;
	rest->left_ns += (int64_t)(now - rest->since_ns);
	if (rest->left_ns > rest_max_ns(server))
		rest->left_ns = rest_max_ns(server);
	rest->since_ns = now;
	return rest->left_ns > 0 ? now + (uint64_t)rest->left_ns : 0;
}

/*
 * The loop may wait until somebody is ready or the time is over. each_until_ns: until then all who
 * are in line have to anyway; 0: not all of them.
 */
static void take_rest(struct server *server, uint64_t each_until_ns)
{
	struct rest *rest = &server->rest;
	uint64_t now;

	if (TAILQ_EMPTY(&server->waiting) || (!rest->is_due && !each_until_ns))
		return;
	now = clock_now_ns();
	rest->until_ns = all_rest_until(server, now);
	rest->is_each_ones = rest->until_ns == 0;
	if (rest->is_each_ones)
		rest->until_ns = each_until_ns;
	if (rest->until_ns <= now)
		return;
	/* One that ends before is set again then. */
	if (!rest->is_timed || rest->until_ns < rest->timed_ns)
		set_rest_timer(rest, now);
	rest->is_on = true;
}

static void timer_ready(evutil_socket_t fd, short what, void *argument)
{
	struct server *server = argument;
	struct rest *rest = &server->rest;
	uint64_t now = clock_now_ns();

	(void)what;
	if (!timer_is_over(fd))
		return;
	rest->is_timed = false;
	if (!rest->is_on)
		return;
	if (now < rest->until_ns) {
		set_rest_timer(rest, now);
		return;
	}
	if (!rest->is_each_ones)
		rest->is_due = false;
	end_rest(rest, now);
}

int turns_init(struct server *server)
{
	TAILQ_INIT(&server->waiting);
	return timer_init(&server->rest.timer, server->base, timer_ready, server);
}

void turns_go_on(struct server *server)
{
	uint64_t until_ns = UINT64_MAX;
	struct turns *turns;
	bool do_all_rest = true;

	if (server->rest.is_on)
		return;
	/* Serving one may end others, and with them a user: nothing is held beyond it. */
	while ((turns = TAILQ_FIRST(&server->waiting)) && turns->last != server->pass) {
		struct turn *turn = TAILQ_FIRST(&turns->waiting);
		struct client *client = (struct client *)((char *)turn -
							  offsetof(struct client, turn));

		turns->last = server->pass;
		TAILQ_REMOVE(&server->waiting, turns, entry);
		TAILQ_INSERT_TAIL(&server->waiting, turns, entry);
		if (rests(server, turns)) {
			until_ns = turns->rests_until_ns < until_ns ? turns->rests_until_ns
								    : until_ns;
			continue;
		}
		do_all_rest = false;
		if (turns_now(client)->left == 0)
			continue;
		if (server->served == server->pass && turns->passed_over < PASSED_OVER) {
			turns->passed_over++;
			continue;
		}
		turns->passed_over = 0;
		turn_leave(client);
		client_take_turn(client);
	}
	take_rest(server, do_all_rest ? until_ns : 0);
}
