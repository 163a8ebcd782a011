/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A peer that isn't there: for `explain`, which asks what somebody would be allowed. */
#include <errno.h>
#include <string.h>

#include "daemon/peer-private.h"
#include "daemon/peer.h"

int peer_imagine(struct peer *ret, const struct ids *ids, const char *unit, const char *app)
{
	*ret = (struct peer){
		.unit = peer_empty,
		.user_unit = peer_empty,
		.label = peer_empty,
		.app = peer_empty,
		.sandboxed = *app != 0,
		.socket = -EBADF,
	};
	if (ids_copy(&ret->ids, ids) == 0 && ids_copy(&ret->maker, ids) == 0 &&
	    peer_string_copy(&ret->unit, unit, strlen(unit)) == 0 &&
	    peer_string_copy(&ret->app, app, strlen(app)) == 0) {
		ids_sort(&ret->ids);
		ids_sort(&ret->maker);
		return 0;
	}
	peer_done(ret);
	return -ENOMEM;
}

int peer_copy(struct peer *ret, const struct peer *peer)
{
	struct peer copy = *peer;

	copy.socket = -EBADF;
	copy.ids = copy.maker = (struct ids){ 0 };
	copy.unit = copy.user_unit = copy.label = copy.app = peer_empty;
	if (ids_copy(&copy.ids, &peer->ids) == 0 && ids_copy(&copy.maker, &peer->maker) == 0 &&
	    peer_string_copy(&copy.unit, peer->unit, strlen(peer->unit)) == 0 &&
	    peer_string_copy(&copy.user_unit, peer->user_unit, strlen(peer->user_unit)) == 0 &&
	    peer_string_copy(&copy.label, peer->label, strlen(peer->label)) == 0 &&
	    peer_string_copy(&copy.app, peer->app, strlen(peer->app)) == 0) {
		*ret = copy;
		return 0;
	}
	peer_done(&copy);
	return -ENOMEM;
}
