// SPDX-License-Identifier: Apache-2.0
/*
 * Forwarding proxies (a list of tested ones, by the name of their executable): reactors that pass requests on as they are.
 * (A service that calls others may well ask what a neighbour of that request was asked.) A call whose request line and
 * end-to-end fields are exactly those of one open request of its process is that request, passed on. Of two that are
 * equal none is taken, nor one of whose kind another was abandoned a moment ago: it may still be on its way. Nor is
 * one that is being passed on already, or whose kind the process asks for by itself (health checks).
 */
#include "user/match/exchange.h"

/* What is forgotten too early makes a wrong parent: filters, which rather remember too much. */
static const struct recent_size abandoned_size = { .bits = 1u << 16, .period = 60000000000ull };
static const struct recent_size over_size = { .bits = 1u << 16, .period = 10000000000ull };
static const struct recent_size own_size = { .bits = 1u << 20, .period = 600000000000ull };

bool content__find(struct match *m, struct exchange *x)
{
	struct proc *p = proc__find(m, x->tgid, false);
	struct exchange *found = NULL;

	if (!p || p->opaque || !x->request_key || !m->opts.is_proxy || !m->opts.is_proxy(m->opts.ctx, x->tgid))
		return false;
	for (struct exchange *s = p->live; s; s = s->live_next) {
		if (s->request_key != x->request_key)
			continue;
		if (found)
			return false;
		found = s;
	}
	if (!found) {
		recent__add(&p->own_calls, &own_size, x->request_key, m->now);
		return false;
	}
	if (found->n_waiting || recent__has(&p->abandoned, &abandoned_size, x->request_key, m->now) ||
	    recent__has(&p->own_calls, &own_size, x->request_key, m->now))
		return false;
	parent__set(x, found, EVIDENCE_CONTENT, EDGE_FINAL);
	if (x->parent) {
		x->waiting = true;
		found->n_waiting++;
	}
	return true;
}

bool content__find_read_ahead(struct match *m, struct exchange *x)
{
	struct proc *p = proc__find(m, x->tgid, false);

	if (!p || recent__has(&p->over, &over_size, x->request_key, m->now))
		return false;
	return content__find(m, x);
}

void content__over(struct exchange *s)
{
	if (s->proc && s->request_key)
		recent__add(&s->proc->over, &over_size, s->request_key, s->m->now);
}

void content__abandoned(struct exchange *s)
{
	if (s->proc && s->request_key)
		recent__add(&s->proc->abandoned, &abandoned_size, s->request_key, s->m->now);
}
