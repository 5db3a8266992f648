// SPDX-License-Identifier: Apache-2.0
/* Processes and threads, as far as causality needs them: which requests live where. */
#include "user/match/exchange.h"

/* A server that asks which of its sockets are readable does so again; one that only seemed to does not. */
#define SEVERAL_NS 60000000000ull
#define THREADS_KEPT 64u /* those without a request open among them */

struct proc *proc__find(struct match *m, uint32_t tgid, bool create)
{
	struct proc *p;

	HASH_FIND(hh, m->procs, &tgid, sizeof(tgid), p);
	if (p || !create)
		return p;
	p = mem__zalloc(sizeof(*p));
	if (!p)
		return NULL;
	p->tgid = tgid;
	HASH_ADD(hh, m->procs, tgid, sizeof(p->tgid), p);
	if (!p->hh.tbl) {
		mem__free(p);
		return NULL;
	}
	return p;
}

void proc__free(struct match *m, struct proc *p)
{
	HASH_DEL(m->procs, p);
	recent__free(&p->abandoned);
	recent__free(&p->own_calls);
	recent__free(&p->over);
	after__free(p);
	mem__free(p->came);
	mem__free(p);
}

uint64_t thread__key(uint32_t tid)
{
	return tid;
}

uint64_t thread__goroutine(uint32_t tgid, uint32_t number)
{
	return (uint64_t)tgid << 32 | number; /* no key of a thread: those have no upper half */
}

struct thread *thread__find(struct match *m, uint64_t key, bool create)
{
	struct thread *t;

	HASH_FIND(hh, m->threads, &key, sizeof(key), t);
	if (t || !create)
		return t;
	t = mem__zalloc(sizeof(*t));
	if (!t)
		return NULL;
	t->key = key;
	HASH_ADD(hh, m->threads, key, sizeof(t->key), t);
	if (!t->hh.tbl) {
		mem__free(t);
		return NULL;
	}
	return t;
}

static void thread_free(struct match *m, struct thread *t)
{
	HASH_DEL(m->threads, t);
	mem__free(t);
}

/* One that still has requests goes when they end. */
void thread__exit(struct match *m, uint64_t key)
{
	struct thread *t = thread__find(m, key, false);

	if (t)
		work__thread_ends(m, t);
	if (t && !t->n_live)
		thread_free(m, t);
}

void thread__waits(struct match *m, uint32_t tgid, uint64_t key)
{
	struct thread *t = thread__find(m, key, false);
	struct proc *p = t && t->n_live ? proc__find(m, tgid, false) : NULL;
	bool parked = false;

	for (struct exchange *x = p ? p->live : NULL; x; x = x->live_next) {
		if (x->thread != t)
			continue;
		/* What it has done before it had the whole request was not for it; waiting for the rest is no sign. */
		parent__parked(x, x->end_pos != 0);
		parked |= x->end_pos != 0;
	}
	if (!parked)
		return;
	if (m->now < t->parks_until)
		t->several_until = m->now + SEVERAL_NS; /* it makes a habit of it */
	t->parks_until = m->now + SEVERAL_NS;
}

/* Requests that were pipelined are not meant: they are answered one after the other. */
static bool serves_another(const struct exchange *x)
{
	for (const struct exchange *o = x->proc->live; o; o = o->live_next)
		if (o->thread == x->thread && o->conn != x->conn)
			return true;
	return false;
}

void live__add(struct exchange *x)
{
	struct proc *p = proc__find(x->m, x->tgid, true);
	struct thread *t = x->reader ? thread__find(x->m, x->reader, true) : NULL;

	if (p) {
		x->proc = p;
		p->served = true;
		p->n_live++;
		x->live_next = p->live;
		x->live_prev = NULL;
		if (p->live)
			p->live->live_prev = x;
		p->live = x;
	}
	if (t) {
		x->thread = t;
		t->n_live++;
		if (t->n_live > 1 && x->proc && serves_another(x))
			t->several_until = x->m->now + SEVERAL_NS;
	}
}

void live__remove(struct exchange *x)
{
	struct proc *p = x->proc;
	struct thread *t = x->thread;

	if (p) {
		if (x->live_prev)
			x->live_prev->live_next = x->live_next;
		else
			p->live = x->live_next;
		if (x->live_next)
			x->live_next->live_prev = x->live_prev;
		x->live_prev = x->live_next = NULL;
		p->n_live--;
		p->last_end = x->m->now;
		x->proc = NULL;
	}
	x->thread = NULL;
	/* A worker's next request finds it here; of servers that make a thread per connection not all are kept. */
	if (t && --t->n_live == 0 && !t->work && x->m->now >= t->several_until && HASH_COUNT(x->m->threads) > THREADS_KEPT)
		thread_free(x->m, t);
}

void procs__free(struct match *m)
{
	struct client_end *e, *te;
	struct thread *t, *tt;
	struct proc *p, *tp;

	HASH_ITER(hh, m->procs, p, tp) {
		proc__free(m, p);
	}
	HASH_ITER(hh, m->threads, t, tt) {
		HASH_DEL(m->threads, t);
		mem__free(t);
	}
	HASH_ITER(hh, m->ends, e, te) {
		HASH_DEL(m->ends, e);
		mem__free(e);
	}
}
