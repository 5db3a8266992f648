// SPDX-License-Identifier: Apache-2.0
/*
 * Work items that the threads of an executor run (--executor-spans): an INTERNAL span from when an item was queued to
 * when its thread asked for the next, between the request that queued it and the calls that it makes, named after the
 * function that it runs where that could be read.
 */
#include "user/match/exchange.h"

#include <endian.h>

/* The item that this thread works on is over; `told`: by the thread itself. */
static void end_work(struct match *m, struct thread *t, uint64_t ts, bool told)
{
	struct exchange *x = t->work;
	struct attr unfinished = attr__bool("wirespan.unfinished", true);

	t->work = NULL;
	span__add_int(x->span, "wirespan.executor.wait_ns", (int64_t)(x->began - x->start));
	span__add_int(x->span, "wirespan.executor.run_ns", ts > x->began ? (int64_t)(ts - x->began) : 0);
	span__add_int(x->span, "thread.id", x->tid);
	if (!told)
		span__add(x->span, &unfinished);
	exchange__finish(m, x, ts, false);
}

/* What was read is a name, or it is nobody's: a word of Python's, dots, and what it puts around. */
static bool is_name(struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.p[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
		    !memchr("_.<>", c, 4))
			return false;
	}
	return s.len > 0;
}

static void set_name(struct exchange *x, struct str function)
{
	struct str name = is_name(function) ? span__dup(x->span, function) : STR_NULL;

	x->span->op = name.len ? name : STR("executor");
	if (name.len)
		span__add_str(x->span, "code.function.name", name);
}

static void begin_work(struct match *m, const struct ws_ev_work *ev)
{
	struct thread *t = thread__find(m, thread__key(ev->tid), true);
	struct exchange *x = NULL;
	uint64_t id;

	if (t && m->held >= m->opts.max_requests) {
		stats__in(ST_MATCH, 1);
		stats__drop(ST_MATCH, DROP_EXCHANGE_TABLE_FULL, 1);
		return;
	}
	if (t)
		x = exchange__new(m, NULL, false, ev->queued_ns < ev->ev.ts ? ev->queued_ns : ev->ev.ts);
	if (!x) {
		stats__in(ST_MATCH, 1);
		stats__drop(ST_MATCH, DROP_NO_MEMORY, 1);
		return;
	}
	x->internal = true;
	x->tgid = ev->tgid;
	x->tid = ev->tid;
	x->began = ev->ev.ts;
	id = htobe64(identity__span(m, (uint64_t)ev->tgid << 32 | ev->tid, 2, ev->ev.ts));
	memcpy(x->span_id, &id, sizeof(id));
	parent__find(m, x, &ev->token);
	if (!x->parent) { /* nobody's who is traced */
		exchange__forget(x);
		return;
	}
	stats__in(ST_MATCH, 1);
	set_name(x, str__of(ev->function));
	t->work = x;
}

void match__work(void *ctx, const struct ws_ev_work *ev)
{
	struct match *m = ctx;
	struct thread *t = thread__find(m, thread__key(ev->tid), false);

	if (ev->ev.ts > m->now)
		m->now = ev->ev.ts;
	if (t && t->work)
		end_work(m, t, ev->ev.ts, ev->what == WS_WORK_END);
	if (ev->what == WS_WORK_BEGIN)
		begin_work(m, ev);
}

void work__found_parent(struct match *m, struct exchange *call)
{
	const struct thread *t = call->evidence == EVIDENCE_EXECUTOR ? thread__find(m, thread__key(call->tid), false) : NULL;

	if (t && t->work && t->work->parent == call->parent)
		call->via = exchange__get(t->work);
}

void work__thread_ends(struct match *m, struct thread *t)
{
	if (t->work)
		end_work(m, t, m->now, false);
}

void work__process_ends(struct match *m, uint32_t tgid)
{
	struct thread *t, *next;

	HASH_ITER(hh, m->threads, t, next) {
		if (t->work && (!tgid || t->work->tgid == tgid))
			end_work(m, t, m->now, false);
	}
}
