// SPDX-License-Identifier: Apache-2.0
/*
 * Node.js: whose work runs in a turn, the callback of one stream (bpf/libuv.bpf.c)?
 *
 *   turn       It read a request: what it calls is that request's, unless that has woken what another one waits for in
 *              the program (an event, a barrier, tokens of a bucket): that one then goes on in here.
 *   turn-continued
 *              It read the answer to a call, or what the thread pool has done, or a connection was dialled in it: whoever
 *              waited for that goes on. So does a queue inside the program, which starts next what another request had
 *              put there (a limit on concurrent calls, a pool whose connections are all taken): nothing at the socket
 *              tells the two apart at that moment. Their end does: the other request is then answered in a turn of
 *              the one that was taken for the cause. So these edges are believed once every request that was open with
 *              theirs was answered in a turn of its own, which has to be within SETTLE_NS; one that was answered in
 *              another's disproves all that were not yet, and for CROSSED_NS none is believed there.
 *
 * An answer from outside of all turns (a timer, another protocol's answer) may hide a crossing: it takes the edges of
 * those calls that began while its request was open. And a call that is not answered before its request was may be
 * anybody's, with those that led to it. Nor is one believed that began when another call of its request, or work for the
 * thread pool, of an earlier turn was still to be done: a request that ends in that one's turn would hide that it went on
 * in another's.
 */
#include "user/match/exchange.h"

#define SETTLE_NS 10000000000ull
#define CROSSED_NS 60000000000ull
/* What an abandoned request has queued may start for that long. */
#define ABANDONED_NS 2000000000ull

#define CROSSED "requests of this process are answered in each other's turns"
#define HIDDEN "another request was answered outside of all turns meanwhile"
#define OUTLIVED "its request was answered without it"
#define UNSETTLED "a request that was open with its own has had no answer for long"

struct turn {
	struct exchange *owner; /* the request, NULL: nobody's that is known */
	uint64_t cause;		/* connection of the call whose answer it read, 0: none */
	uint64_t cause_at;	/* … where that answer began */
	bool direct, many;
};

static struct turn turn_of(struct match *m, const struct ws_token *t, uint32_t tgid)
{
	struct stream_conn *sc = t->sock ? stream__find(m->opts.stream(m->opts.ctx), t->sock) : NULL;
	struct turn turn = {.direct = !(t->flags & WS_TOKEN_ITEM)};

	if (!sc || !sc->match || sc->info.role != WS_ROLE_SERVER)
		return turn;
	memcpy(&turn.cause, t->heirs, sizeof(turn.cause));
	sc = turn.cause ? stream__find(m->opts.stream(m->opts.ctx), turn.cause) : NULL;
	if (sc && sc->match)
		turn.cause_at = sc->match->open && sc->match->open->answered ? sc->match->open->resp_pos :
				sc->match->done ? sc->match->done->resp_pos : 0;
	sc = stream__find(m->opts.stream(m->opts.ctx), t->sock);
	turn.owner = token__request(sc->match, t, &turn.many);
	if (turn.owner && turn.owner->tgid != tgid)
		turn.owner = NULL;
	return turn;
}

/* Newest first. */
static void wait_for_others(struct exchange *x, const struct turn *turn)
{
	x->sock = x->conn ? x->conn->pub->info.id : 0;
	parent__set(x, turn->owner, turn->direct ? EVIDENCE_TURN : EVIDENCE_TURN_CONTINUED, EDGE_TURN);
}

/* Calls of one turn belong together. Of two in which the thread pool gave back what it had, it is not known whether they are one. */
static bool same_turn(const struct exchange *a, bool direct, uint64_t cause, uint64_t cause_at)
{
	return direct ? a->direct : cause && !a->direct && a->cause == cause && a->cause_at == cause_at;
}

/* Counts a call of this turn. Has the request one on its way that another turn has made? */
static bool count_call(struct exchange *x, const struct turn *turn)
{
	struct exchange *s = turn->owner;

	if (!same_turn(s, turn->direct, turn->cause, turn->cause_at))
		s->n_out_last = 0;
	s->direct = x->direct = turn->direct;
	s->cause = x->cause = turn->cause;
	s->cause_at = x->cause_at = turn->cause_at;
	s->n_out++;
	s->n_out_last++;
	x->asker = exchange__get(s);
	return s->n_out > s->n_out_last;
}

void turn__call_over(struct exchange *x)
{
	struct exchange *s = x->asker;

	if (!s)
		return;
	s->n_out--;
	if (s->n_out_last && same_turn(s, x->direct, x->cause, x->cause_at))
		s->n_out_last--;
	if (s->n_out_last > s->n_out)
		s->n_out_last = s->n_out;
	x->asker = NULL;
	exchange__put(s);
}

void turn__find(struct match *m, struct exchange *x, const struct ws_token *t)
{
	struct turn turn = turn_of(m, t, x->tgid);
	struct exchange *s = turn.owner;
	struct proc *p = proc__find(m, x->tgid, false);
	bool waits = s && s->open && count_call(x, &turn);

	if (!p || !p->n_live)
		x->edge = EDGE_NONE; /* nobody could have asked for it */
	else if (turn.many)
		parent__refuse(x, "several requests in one read");
	else if (!t->sock)
		parent__refuse(x, "a timer, or something else that is no stream's, has called");
	else if (!s || !s->open)
		parent__refuse(x, "its request was over");
	else if (parent__alone(s))
		parent__set(x, s, turn.direct ? EVIDENCE_TURN : EVIDENCE_TURN_CONTINUED, EDGE_FINAL);
	else if (s->chain_broken)
		parent__refuse(x, "what led to it is not certain");
	else if (m->now < p->crossed_until)
		parent__refuse(x, CROSSED);
	else if (m->now < p->abandoned_until)
		parent__refuse(x, "an abandoned request may still be running");
	else if (!turn.direct && (waits || t->flags & WS_TOKEN_PENDING)) {
		s->chain_broken = true;
		parent__refuse(x, "its request waited for something else too");
	} else
		wait_for_others(x, &turn);
}

/* ---- disproof ----------------------------------------------------------------------------------- */

/* Refuses those of a request's calls that began at `since` or later and are not believed yet. */
static void refuse(struct exchange *s, uint64_t since, const char *why)
{
	struct exchange **at = &s->turns, *x;

	while ((x = *at)) {
		if (x->start < since) {
			at = &x->child_next;
			continue;
		}
		*at = x->child_next;
		x->child_next = NULL;
		s->chain_broken = true;
		parent__refuse(x, why);
		exchange__put(x);
	}
}

static void refuse_all(struct match *m, struct proc *p, uint64_t since, const char *why)
{
	for (struct exchange *s = p->live; s; s = s->live_next)
		refuse(s, since, why);
	for (struct exchange *s = m->settling; s; s = s->settle_next)
		if (s->tgid == p->tgid)
			refuse(s, since, why);
}

void turn__answered(struct exchange *s, const struct ws_token *t)
{
	struct turn turn = turn_of(s->m, t, s->tgid);

	if (!s->proc)
		return;
	if (turn.owner == s) {
		s->own_turn = !s->chain_broken;
	} else if (turn.owner) {
		s->proc->crossed_until = s->m->now + CROSSED_NS;
		refuse_all(s->m, s->proc, 0, CROSSED);
	} else {
		refuse_all(s->m, s->proc, s->start, HIDDEN);
	}
}

/* A call that was not waited for, and those in whose answers' turns it was made, one behind the other. */
static void refuse_unanswered(struct exchange *s)
{
	struct exchange **at = &s->turns, *x, *o;

	while ((x = *at)) { /* newest first: what led to a call comes behind it */
		if (x->answered && !x->doubtful) {
			at = &x->child_next;
			continue;
		}
		o = x->child_next;
		while (o && o->sock != x->cause)
			o = o->child_next;
		if (o)
			o->doubtful = true;
		*at = x->child_next;
		x->child_next = NULL;
		parent__refuse(x, OUTLIVED);
		exchange__put(x);
	}
}

void turn__ended(struct exchange *s, bool aborted)
{
	struct match *m = s->m;

	if (aborted && s->proc) {
		s->proc->abandoned_until = m->now + ABANDONED_NS;
		refuse_all(m, s->proc, s->start, "an abandoned request may still be running");
	}
	if (!s->own_turn)
		refuse(s, 0, HIDDEN);
	refuse_unanswered(s);
	if (!s->turns)
		return;
	s->settle_at = m->now + SETTLE_NS;
	s->settle_look = 0;
	s->settle_next = NULL;
	*m->settling_tail = exchange__get(s);
	m->settling_tail = &s->settle_next;
}

/* ---- belief ------------------------------------------------------------------------------------- */

/* Is a request still to be answered that was open with this one? */
static bool others_open(struct match *m, const struct exchange *s)
{
	const struct proc *p = proc__find(m, s->tgid, false);

	for (const struct exchange *o = p ? p->live : NULL; o; o = o->live_next)
		if (!o->answered && o->start <= s->end)
			return true;
	return false;
}

static void believe(struct exchange *s)
{
	struct exchange *x;

	while ((x = s->turns)) {
		s->turns = x->child_next;
		x->child_next = NULL;
		x->edge = EDGE_FINAL;
		exchange__put(x);
	}
}

void turn__tick(struct match *m, uint64_t now)
{
	struct exchange **at = &m->settling, *s;

	while ((s = *at)) {
		if (s->turns && (now < s->settle_look || others_open(m, s))) {
			if (now < s->settle_at) {
				if (now >= s->settle_look) /* less often, the longer it takes */
					s->settle_look = now + (now - s->end) / 8;
				at = &s->settle_next;
				continue;
			}
			refuse(s, 0, now == UINT64_MAX ? "not confirmed before the end" : UNSETTLED);
		}
		believe(s);
		*at = s->settle_next;
		exchange__put(s);
	}
	m->settling_tail = at;
}
