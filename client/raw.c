/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Requests with any number of replies: listings, and what shmctl asks that has no
 * public function (pools, status, explain, reload, drop).
 */
#include <errno.h>
#include <string.h>

#include "client/internal.h"

static int need_large(struct shmb *c)
{
	if (!c->large)
		c->large = malloc(WIRE_PACKET_MAX);
	return c->large ? 0 : shmb_fail(c, -ENOMEM, "no memory");
}

void shmb_cancel(struct shmb *c, uint32_t serial)
{
	struct wire_cancel wire = {
		.request = { .operation = WIRE_CANCEL },
		.cancelled_serial = serial,
	};
	struct iovec part = { &wire, sizeof(wire) };

	shmb_post(c, &part, 1);
}

/* Until the last reply, or until the caller has enough. Each part has the whole time. */
static int take_replies(struct shmb_exchange *x, shmb_raw_fn fn, void *userdata)
{
	for (;;) {
		struct shmb_reply reply;
		int r = shmb_receive(x, &reply);

		if (r < 0) {
			if (r == -ETIMEDOUT)
				shmb_cancel(x->c, x->serial);
			return r;
		}
		if (fn)
			r = fn(reply.body, reply.body_size, &reply.fds, userdata);
		fdlist_close(&reply.fds);
		if (r != 0) {
			if (reply.more)
				shmb_cancel(x->c, x->serial);
			return r;
		}
		if (!reply.more)
			return 0;
		x->deadline = shmb_deadline_in(x->c->timeout_ms);
		x->patient = true;
	}
}

int shmb_raw_call(struct shmb *c, enum wire_operation operation, const void *body, size_t body_size,
		  shmb_raw_fn fn, void *userdata)
{
	struct wire_request request;
	struct iovec parts[] = {
		{ &request, sizeof(request) },
		{ (void *)body, body_size },
	};
	struct shmb_exchange x = {
		.c = c,
		.operation = operation,
		.patient = true,
		.buffer_size = WIRE_PACKET_MAX,
	};
	_no_cancel_;
	int r = shmb_begin(c);

	if (r < 0)
		return r;
	r = need_large(c);
	if (r < 0)
		return r;
	x.buffer = c->large;
	x.deadline = shmb_deadline_in(c->timeout_ms);
	r = shmb_send(&x, parts, body_size > 0 ? 2 : 1);
	return r < 0 ? r : take_replies(&x, fn, userdata);
}

struct shmb_fields shmb_fields_of(const char *body, size_t body_size)
{
	return (struct shmb_fields){ .at = body, .end = body + body_size };
}

int shmb_fields_next(struct shmb_fields *fields, const char **ret_key, size_t *ret_key_size,
		     const char **ret_value)
{
	size_t left = (size_t)(fields->end - fields->at);
	const char *key = fields->at;
	const char *nul, *equals;

	if (left == 0)
		return -ENODATA;
	nul = memchr(key, 0, left);
	if (!nul)
		return -EPROTO;
	fields->at = nul + 1;
	if (nul == key)
		return 0;
	equals = memchr(key, '=', (size_t)(nul - key));
	if (!equals || equals == key)
		return -EPROTO;
	*ret_key = key;
	*ret_key_size = (size_t)(equals - key);
	*ret_value = equals + 1;
	return 1;
}
