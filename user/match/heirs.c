// SPDX-License-Identifier: Apache-2.0
/*
 * Threads and goroutines that a request has made, directly or through one of those: which of their calls are its own.
 * Believed once they have ended, with the request or with their call; those that outlive it, or have done more than one
 * piece of work while others were there, may have been serving whoever filled a queue (the rules: parent.c).
 */
#include "user/match/exchange.h"

/* A thread that was joined has that long to be gone. */
#define EXIT_NS 200000000ull
/* One that is there so long after its call, whatever its request does, is nobody's. */
#define LINGER_NS 2000000000ull
/* … or goes on for so long with calls: it feeds a stream, or serves others. */
#define WORKS_ON_NS 10000000000ull

/* Who has been seen to drain a queue does it again within that time, and sometimes finds one item only. */
#define DRAINS_NS 60000000000ull
#define DRAINS "what requests start in this process has drained queues"

/* Made by a goroutine that was made by another, which has still to end. */
static bool is_heir(const struct exchange *x)
{
	return x->heirs[0] || x->heirs[1];
}

void heirs__request_ended(const struct exchange *server)
{
	for (struct exchange *x = server->m->provisional; x; x = x->child_next)
		if (x->parent == server && !is_heir(x))
			x->exit_until = server->m->now + EXIT_NS;
}

static void note_drain(struct match *m, uint32_t tgid)
{
	struct proc *p = proc__find(m, tgid, true);

	if (p)
		p->drains_until = m->now + DRAINS_NS;
}

/* The thread that made its thread may still show that it serves several. */
static void await_maker(struct exchange *x)
{
	x->exited = true;
	x->edge = EDGE_UNCONFIRMED;
	x->child_next = x->parent->children;
	x->parent->children = exchange__get(x);
	parent__confirm(x->parent);
}

/* What a thread or goroutine has done that has ended by now: for its request, or for whoever filled a queue? */
static void judge_heir(struct exchange *x, bool drained, const char *why)
{
	const struct proc *p = proc__find(x->m, x->tgid, false);

	if (drained)
		parent__refuse(x, why);
	else if (p && x->m->now < p->drains_until && !x->alone)
		parent__refuse(x, DRAINS);
	else if (x->parent->open && !is_heir(x) && x->evidence == EVIDENCE_INHERITED)
		await_maker(x);
	else
		x->edge = EDGE_FINAL;
}

/* What one of them has asked for. */
struct calls {
	uint32_t n, answered;
	bool all_alone, same; /* nobody else was there at any; all for the same */
	uint64_t key;
};

static void add_call(struct calls *c, const struct exchange *x)
{
	if (!c->n++)
		*c = (struct calls){ .n = 1, .all_alone = true, .same = true, .key = x->request_key };
	c->same &= x->request_key && x->request_key == c->key;
	c->all_alone &= x->alone;
	c->answered += x->answered;
}

/* More than one, and not the same once more because no answer came: that is what draining a queue looks like. */
static bool drains(const struct calls *c)
{
	return c->n > 1 && !(c->same && c->answered <= 1);
}

static struct calls calls_of_thread(const struct match *m, uint32_t tid)
{
	struct calls c = { 0 };

	for (const struct exchange *x = m->provisional; x; x = x->child_next)
		if (x->tid == tid && !is_heir(x))
			add_call(&c, x);
	return c;
}

void heirs__on_thread_exit(struct match *m, uint32_t tid)
{
	struct calls c = calls_of_thread(m, tid);
	struct exchange **at = &m->provisional, *x;

	while ((x = *at)) {
		if (x->tid != tid || is_heir(x)) {
			at = &x->child_next;
			continue;
		}
		*at = x->child_next;
		x->child_next = NULL;
		if (drains(&c))
			note_drain(m, x->tgid);
		judge_heir(x, c.n > 1, "its thread did more than one piece of work");
		exchange__put(x);
	}
}

static bool made_by(const struct exchange *x, uint32_t tgid, uint32_t number)
{
	return x->tgid == tgid && (x->heirs[0] == number || x->heirs[1] == number);
}

/* Ends the wait for this goroutine. True: there is none left to wait for. */
static bool heir_ended(struct exchange *x, uint32_t number)
{
	for (int i = 0; i < WS_HEIRS; i++)
		if (x->heirs[i] == number)
			x->heirs[i] = 0;
	return !is_heir(x);
}

static struct calls calls_of_goroutine(const struct match *m, uint32_t tgid, uint32_t number)
{
	struct calls c = { 0 };

	for (const struct exchange *x = m->provisional; x; x = x->child_next)
		if (made_by(x, tgid, number))
			add_call(&c, x);
	return c;
}

void heirs__on_goroutine_exit(struct match *m, uint32_t tgid, uint32_t number)
{
	struct calls c = calls_of_goroutine(m, tgid, number);
	bool refuse = c.n > 1 && !c.all_alone; /* they may have been for others */
	struct exchange **at = &m->provisional, *x;

	while ((x = *at)) {
		if (!made_by(x, tgid, number) || (!heir_ended(x, number) && !refuse)) {
			at = &x->child_next;
			continue;
		}
		*at = x->child_next;
		x->child_next = NULL;
		if (refuse && drains(&c))
			note_drain(m, tgid);
		judge_heir(x, refuse, "its goroutine did more than one piece of work");
		exchange__put(x);
	}
}

static bool share_an_heir(const struct exchange *a, const struct exchange *b)
{
	for (int i = 0; i < WS_HEIRS; i++)
		if (a->heirs[i] && made_by(b, a->tgid, a->heirs[i]))
			return true;
	return false;
}

/* Has one of its goroutines a call under way, or had until just now? */
static bool heir_works(const struct exchange *x, uint64_t now)
{
	for (const struct exchange *o = x->m->provisional; o; o = o->child_next)
		if ((o->open || now < o->end + EXIT_NS) && share_an_heir(x, o))
			return true;
	return false;
}

/* Has it had its time? */
static bool outlived(struct exchange *x, uint64_t now)
{
	if (now == UINT64_MAX)
		return true;
	if (!x->open && now >= x->end + WORKS_ON_NS)
		return true;
	if (!x->open && now >= x->end + LINGER_NS && !heir_works(x, now))
		return true;
	if (!is_heir(x))
		return x->exit_until && now >= x->exit_until;
	if (x->open || x->parent->open || now < x->parent->end + EXIT_NS)
		return false;
	return !heir_works(x, now);
}

void heirs__tick(struct match *m, uint64_t now)
{
	struct exchange **at = &m->provisional, *x;

	while ((x = *at)) {
		if (!outlived(x, now)) {
			at = &x->child_next;
			continue;
		}
		*at = x->child_next;
		x->child_next = NULL;
		parent__refuse(x, is_heir(x) ? "its goroutine outlived the request" : "its thread outlived the request");
		exchange__put(x);
	}
}
