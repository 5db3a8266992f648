// SPDX-License-Identifier: Apache-2.0
#include "user/proto/http1_state.h"

#include <errno.h>

#include "user/base/mem.h"

/* ---- the queue of open requests -------------------------------------------------------------------- */

struct exchange *http1_open__find(struct http1 *h, uint64_t xid)
{
	for (uint32_t i = 0; i < h->count; i++) {
		if (http1_open__at(h, i)->xid == xid)
			return http1_open__at(h, i);
	}
	return NULL;
}

static int ring_grow(struct http1 *h)
{
	struct exchange *ring;

	if (h->cap >= RING_MAX)
		return -EOVERFLOW;
	ring = mem__alloc(2 * h->cap * sizeof(*ring));
	if (!ring)
		return -ENOMEM;
	for (uint32_t i = 0; i < h->count; i++)
		ring[i] = *http1_open__at(h, i);
	if (h->ring != h->inline_ring)
		mem__free(h->ring);
	h->ring = ring;
	h->first = 0;
	h->cap *= 2;
	return 0;
}

struct exchange *http1_open__push(struct http1 *h, int *ret_err)
{
	struct exchange *e;

	if (h->count == h->cap) {
		*ret_err = ring_grow(h);
		if (*ret_err)
			return NULL;
	}
	e = http1_open__at(h, h->count++);
	*e = (struct exchange){ 0 };
	return e;
}

void http1_open__pop(struct http1 *h)
{
	h->count--;
	/* One request at a time stays in one place, and in the cache. */
	h->first = h->count ? (h->first + 1) & (h->cap - 1) : 0;
}

/* ---- books ------------------------------------------------------------------------------------------- */

void http1_book__begin(struct flow *f)
{
	if (f->counted)
		return;
	f->counted = true;
	stats__in(ST_PROTO, 1);
	stats__hold(ST_PROTO, 1);
}

/* The head is complete, or will never be. */
static void book_close(struct flow *f)
{
	f->scan = 0;
	f->waits = false;
	if (f->counted)
		stats__hold(ST_PROTO, -1);
	else
		stats__in(ST_PROTO, 1);
	f->counted = false;
}

void http1_book__out(struct flow *f)
{
	book_close(f);
	stats__out(ST_PROTO, 1);
}

void http1_book__drop(struct flow *f, enum stats_reason reason)
{
	book_close(f);
	stats__drop(ST_PROTO, reason, 1);
}
