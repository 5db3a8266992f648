// SPDX-License-Identifier: Apache-2.0
/*
 * Who a span is: its own id, a keyed hash of where its request began, so that whoever sees the same
 * byte computes the same id; and its trace id, inherited along parents that are final.
 */
#include "user/match/exchange.h"

#include <endian.h>

#define MAX_DEPTH 256

uint64_t identity__span(const struct match *m, uint64_t sock, uint32_t dir, uint64_t pos)
{
	uint64_t id = siphash__u64x3(&m->opts.key, sock, dir, pos);

	return id ? id : 1;
}

static void put_u64(uint8_t *to, uint64_t v)
{
	v = htobe64(v);
	memcpy(to, &v, sizeof(v));
}

static void take_trace(struct exchange *x, const uint8_t *trace_id, uint8_t flags)
{
	memcpy(x->trace_id, trace_id, 16);
	x->flags = flags;
}

static void settle_remote(struct exchange *x)
{
	struct span *s = x->span;

	take_trace(x, x->ctx_trace, x->ctx_flags);
	memcpy(s->parent_id, x->ctx_span, 8);
	s->flags = SPAN_FLAG_HAS_IS_REMOTE | (x->server ? SPAN_FLAG_IS_REMOTE : 0);
	x->evidence = EVIDENCE_HEADER;
}

static void settle_root(struct match *m, struct exchange *x)
{
	uint64_t id;

	memcpy(&id, x->span_id, 8);
	put_u64(x->trace_id, siphash__u64x3(&m->opts.key, id, 1, x->start));
	put_u64(x->trace_id + 8, siphash__u64x3(&m->opts.key, id, 2, x->start) | 1);
	x->flags = x->denied ? 0x02 : 0x03; /* sampled; the low 56 bits are random (W3C Trace Context level 2) */
	x->span->flags = SPAN_FLAG_HAS_IS_REMOTE;
}

static void settle_child(struct exchange *x)
{
	struct exchange *p = x->via && !x->via->left_out ? x->via : x->parent;
	struct span *s = x->span;

	take_trace(x, p->trace_id, p->flags);
	memcpy(s->parent_id, p->span_id, 8);
	s->flags = SPAN_FLAG_HAS_IS_REMOTE | (x->server ? SPAN_FLAG_IS_REMOTE : 0);
	if (!s->trace_state.len && p->span && p->span->trace_state.len)
		s->trace_state = span__dup(s, p->span->trace_state);
}

static void leave_out(struct exchange *x, enum stats_reason why)
{
	x->left_out = true;
	x->why = why;
}

/* Settles whether there will be a span, behind the parent's answer to that. False: it cannot be told yet. */
static bool settle_place(struct match *m, struct exchange *x)
{
	const struct exchange *p = x->parent;

	switch (m->opts.selection ? m->opts.selection(m->opts.ctx, x->tgid) : MATCH_SELECTED) {
	case MATCH_UNDECIDED:
		return false;
	case MATCH_UNSELECTED:
		leave_out(x, DROP_UNSELECTED);
		return true;
	case MATCH_RECEIVER:
		leave_out(x, x->left_out && x->why == DROP_TELEMETRY ? DROP_TELEMETRY : DROP_RECEIVER);
		return true;
	case MATCH_SELECTED:
		break;
	}
	if (x->telemetry)
		return false;
	if (!p && x->internal) {
		leave_out(x, DROP_UNPROVEN);
		return true;
	}
	if (!p || !p->left_out)
		return true;
	if (p->why == DROP_PATH_EXCLUDED || p->why == DROP_TELEMETRY)
		leave_out(x, p->why);
	else
		parent__refuse(x, NULL);
	return true;
}

/* True once the exchange's trace and parent are known for good. */
bool identity__settle(struct match *m, struct exchange *x, uint64_t now, int depth)
{
	if (x->settled)
		return true;
	if (x->edge != EDGE_NONE && x->edge != EDGE_FINAL)
		return false;
	if (x->server && x->join_until && now < x->join_until && !x->parent)
		return false;
	if (x->parent && depth >= MAX_DEPTH)
		parent__refuse(x, "nested too deep");
	if (x->parent && !identity__settle(m, x->parent, now, depth + 1))
		return false;
	if (x->via && !identity__settle(m, x->via, now, depth + 1))
		return false;
	if (!settle_place(m, x) || !candidates__settle(m, x, now, depth))
		return false;
	join__withdraw(x);
	if (x->parent)
		settle_child(x);
	else if (x->has_ctx && !(m->opts.evidence_off & 1u << EVIDENCE_HEADER))
		settle_remote(x);
	else
		settle_root(m, x);
	memcpy(x->span->trace_id, x->trace_id, 16);
	memcpy(x->span->span_id, x->span_id, 8);
	x->span->flags |= x->flags;
	x->settled = true;
	return true;
}
