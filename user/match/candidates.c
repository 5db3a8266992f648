// SPDX-License-Identifier: Apache-2.0
/*
 * Calls whose parent cannot be proven, on request with links to the requests of their process that were open when
 * they began: one of these, or none, caused it. Beyond the limit the newest count.
 */
#include "user/match/exchange.h"

#include "user/base/mem.h"

/* How long a finished call waits until it is known which traces its candidates belong to. */
#define WAIT_NS 1000000000ull

struct candidates {
	uint32_t n, beyond; /* open, but more than the limit */
	bool decided;	    /* no more is heard */
	struct exchange *x[]; /* each counted */
};

void candidates__note(struct match *m, struct exchange *x)
{
	const struct proc *p = x->edge == EDGE_FINAL ? NULL : proc__find(m, x->tgid, false);
	uint32_t n = p && p->n_live < m->opts.links_max ? p->n_live : m->opts.links_max;

	if (!p || !p->n_live)
		return;
	x->candidates = mem__alloc(sizeof(*x->candidates) + n * sizeof(struct exchange *));
	if (!x->candidates)
		return;
	*x->candidates = (struct candidates){0};
	for (struct exchange *s = p->live; s; s = s->live_next) {
		if (x->candidates->n < n)
			x->candidates->x[x->candidates->n++] = exchange__get(s);
		else
			x->candidates->beyond++;
	}
}

void candidates__drop(struct exchange *x)
{
	struct candidates *c = x->candidates;

	x->candidates = NULL;
	for (uint32_t i = 0; c && i < c->n; i++)
		exchange__put(c->x[i]);
	mem__free(c);
}

bool candidates__settle(struct match *m, struct exchange *x, uint64_t now, int depth)
{
	struct candidates *c = x->candidates;
	bool all = true;

	if (!c)
		return true;
	if (x->parent || !x->span->orphan) {
		candidates__drop(x);
		return true;
	}
	for (uint32_t i = 0; i < c->n; i++)
		all &= identity__settle(m, c->x[i], now, depth + 1);
	return all || c->decided || (x->end && now >= x->end + WAIT_NS);
}

void candidates__decide(struct exchange *x)
{
	if (x->candidates)
		x->candidates->decided = true;
}

void candidates__link(struct exchange *x)
{
	struct candidates *c = x->candidates;

	for (uint32_t i = 0; c && i < c->n; i++) {
		const struct exchange *s = c->x[i];

		if (s->settled && s->left_out)
			continue;
		if (s->settled)
			span__add_link(x->span, s->trace_id, s->span_id, SPAN_FLAG_HAS_IS_REMOTE | s->flags);
		else
			x->span->dropped_links++;
	}
	x->span->dropped_links += c ? c->beyond : 0;
	candidates__drop(x);
}
