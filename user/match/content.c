// SPDX-License-Identifier: Apache-2.0
/*
 * Forwarding proxies (HAProxy, Envoy): reactors that pass requests on as they are. A call whose request line and
 * end-to-end fields are exactly those of one open request of its process is that request, passed on. Of two that are
 * equal none is taken, nor one of whose kind another was abandoned a moment ago: it may still be on its way. Nor is
 * one that is being passed on already, or whose kind the process asks for by itself (health checks).
 */
#include "user/match/exchange.h"

#define ABANDONED_NS 60000000000ull
#define OWN_NS 600000000000ull

bool content__find(struct match *m, struct exchange *x)
{
	struct proc *p = proc__find(m, x->tgid, false);
	struct exchange *found = NULL;
	uint64_t own;

	if (!p || p->opaque || !x->request_key)
		return false;
	for (struct exchange *s = p->live; s; s = s->live_next) {
		if (s->request_key != x->request_key)
			continue;
		if (found)
			return false;
		found = s;
	}
	for (uint32_t i = 0; found && i < ABANDONED_SLOTS; i++)
		if (p->abandoned[i].key == x->request_key && m->now < p->abandoned[i].until)
			return false;
	own = x->request_key % OWN_CALLS_SLOTS;
	if (!found) {
		p->own_calls[own].key = x->request_key;
		p->own_calls[own].until = m->now + OWN_NS;
		return false;
	}
	if (found->n_waiting || (p->own_calls[own].key == x->request_key && m->now < p->own_calls[own].until))
		return false;
	parent__set(x, found, EVIDENCE_CONTENT, EDGE_FINAL);
	if (x->parent) {
		x->waiting = true;
		found->n_waiting++;
	}
	return true;
}

void content__abandoned(struct exchange *s)
{
	struct proc *p = s->proc;
	uint32_t slot;

	if (!p || !s->request_key)
		return;
	slot = p->n_abandoned++ % ABANDONED_SLOTS;
	p->abandoned[slot].key = s->request_key;
	p->abandoned[slot].until = s->m->now + ABANDONED_NS;
}
