/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who is served when. Each user has the same part of each pass of the loop, so that one who asks
 * without end holds the others up by no more than that. Of his connections those that have to wait
 * are in a line, out of the loop's sight: looking at each of a thousand in every pass would cost
 * the others more than serving them.
 */
#include <stddef.h>

#include "daemon/server_private.h"

/*
 * Requests of one user in a pass. The second is mostly there when he doesn't wait for replies; who
 * is in line for that has them in every second pass in which others are served, which wakes him
 * less often than one in each.
 */
#define PART 2

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
	if (TAILQ_EMPTY(&turns->waiting))
		TAILQ_INSERT_TAIL(&client->server->waiting, turns, entry);
	TAILQ_INSERT_TAIL(&turns->waiting, &client->turn, entry);
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

struct turns *turn_or_wait(struct client *client)
{
	struct turns *turns;

	if (client->turn.waits)
		return NULL;
	turns = turns_now(client);
	if (turns->left > 0 && TAILQ_EMPTY(&turns->waiting)) {
		client->server->served = client->server->pass;
		return turns;
	}
	turn_wait(client);
	return NULL;
}

void turns_go_on(struct server *server)
{
	struct turns *turns;

	/* Serving one may end others, and with them a user: nothing is held beyond it. */
	while ((turns = TAILQ_FIRST(&server->waiting)) && turns->last != server->pass) {
		struct turn *turn = TAILQ_FIRST(&turns->waiting);
		struct client *client = (struct client *)((char *)turn -
							  offsetof(struct client, turn));

		turns->last = server->pass;
		TAILQ_REMOVE(&server->waiting, turns, entry);
		TAILQ_INSERT_TAIL(&server->waiting, turns, entry);
		if (turns_now(client)->left == 0)
			continue;
		if (server->served == server->pass && !turns->was_passed_over) {
			turns->was_passed_over = true;
			continue;
		}
		turns->was_passed_over = false;
		turn_leave(client);
		client_take_turn(client);
	}
}
