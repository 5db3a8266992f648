// SPDX-License-Identifier: Apache-2.0
#include "user/match/match.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#include "user/base/glob.h"
#include "user/match/exchange.h"
#include "user/model/error_type.h"

/* Exchanges kept for later requests: as many as a busy server has open, 100 KiB at the most. */
#define EXCHANGES_KEPT 256u

static const char *const evidence_names[] = {
	[EVIDENCE_NONE] = "none",
#define X(e, name) [EVIDENCE_##e] = name,
	MATCH_EVIDENCE(X)
#undef X
};

const char *match__evidence_name(enum match_evidence e)
{
	return e < __EVIDENCE_CNT ? evidence_names[e] : "unknown";
}

int match__evidence_mask(const char *list, uint32_t *ret_mask)
{
	uint32_t mask = 0;

	while (list && *list) {
		size_t n = strcspn(list, ",");
		int e;

		for (e = 1; e < __EVIDENCE_CNT; e++)
			if (strlen(evidence_names[e]) == n && !memcmp(evidence_names[e], list, n))
				break;
		if (e == __EVIDENCE_CNT)
			return -EINVAL;
		mask |= 1u << e;
		list += n + (list[n] == ',');
	}
	*ret_mask = mask;
	return 0;
}

/* ---- exchanges --------------------------------------------------------------------------------- */

struct exchange *exchange__new(struct match *m, struct match_conn *c, bool server, uint64_t now)
{
	struct exchange *x = pool__get(&m->pool);

	if (!x)
		return NULL;
	*x = (struct exchange){ .span = span__new() };
	if (!x->span) {
		pool__put(&m->pool, x);
		return NULL;
	}
	x->refs = 1;
	x->m = m;
	x->conn = c;
	x->server = server;
	x->open = true;
	x->start = now;
	m->held++;
	stats__hold(ST_MATCH, 1);
	return x;
}

struct exchange *exchange__get(struct exchange *x)
{
	x->refs++;
	return x;
}

void exchange__put(struct exchange *x)
{
	/* A loop, not a recursion: chains of parents can be long. */
	while (x && --x->refs == 0) {
		struct exchange *parent = x->parent;

		join__withdraw(x);
		candidates__drop(x);
		exchange__put(x->via); /* that has none itself */
		span__free(x->span);
		pool__put(&x->m->pool, x);
		x = parent;
	}
}

void exchange__forget(struct exchange *x)
{
	x->m->held--;
	stats__hold(ST_MATCH, -1);
	exchange__put(x);
}

static void conn_link(struct match_conn *c, struct exchange *x)
{
	x->prev = c->last;
	if (c->last)
		c->last->next = x;
	else
		c->open = x;
	c->last = x;
}

static void conn_unlink(struct match_conn *c, struct exchange *x)
{
	if (x->prev)
		x->prev->next = x->next;
	else
		c->open = x->next;
	if (x->next)
		x->next->prev = x->prev;
	else
		c->last = x->prev;
	x->prev = x->next = NULL;
}

static struct exchange *find_xid(struct match_conn *c, uint64_t xid)
{
	for (struct exchange *x = c->open; x; x = x->next)
		if (x->xid == xid)
			return x;
	return NULL;
}

/* ---- spans --------------------------------------------------------------------------------------- */

static void count_parent(const struct exchange *x)
{
	if (x->evidence == EVIDENCE_HEADER && !x->parent)
		stats.parents_remote++;
	else if (x->parent)
		stats.parents_proven++;
	else if (x->span->orphan)
		stats.ambiguous++;
	else
		stats.roots++;
	if (!x->parent && x->evidence == EVIDENCE_NONE)
		stats.traces++;
}

static void emit(struct match *m, struct exchange *x, uint64_t now)
{
	struct span *s = x->span;

	count_parent(x);
	s->start_ns = x->start + m->wall_offset;
	s->end_ns = (x->end > x->start ? x->end : x->start) + m->wall_offset;
	s->kind = x->server ? SPAN_SERVER : x->internal ? SPAN_INTERNAL : SPAN_CLIENT;
	s->tgid = x->tgid;
	if (x->evidence != EVIDENCE_NONE) {
		s->evidence = evidence_names[x->evidence];
		span__add_str(s, "wirespan.parent.evidence", str__of(s->evidence));
	} else if (s->orphan) {
		span__add_str(s, "wirespan.parent.missing", str__of(s->orphan));
	}
	candidates__link(x);
	x->span = NULL;
	m->held--;
	stats__hold(ST_MATCH, -1);
	stats__out(ST_MATCH, 1);
	m->opts.next(m->opts.ctx, s, now);
}

static void discard(struct match *m, struct exchange *x, enum stats_reason why)
{
	span__free(x->span);
	x->span = NULL;
	m->held--;
	stats__hold(ST_MATCH, -1);
	stats__drop(ST_MATCH, why, 1);
}

static void pass_on(struct match *m, struct exchange *x, uint64_t now)
{
	if (x->left_out)
		discard(m, x, x->why);
	else
		emit(m, x, now);
}

/* Passes on every finished exchange whose identity is settled; the others go on waiting, in order. */
static void flush_waiting(struct match *m, uint64_t now)
{
	struct exchange **at = &m->waiting, *x;

	while ((x = *at)) {
		if (!identity__settle(m, x, now, 0)) {
			at = &x->wait_next;
			continue;
		}
		*at = x->wait_next;
		pass_on(m, x, now);
		exchange__put(x);
	}
	m->waiting_tail = at;
}

static void leave_out_telemetry(struct exchange *x)
{
	x->telemetry = false;
	if (x->left_out)
		return;
	x->left_out = true;
	x->why = DROP_TELEMETRY;
}

void exchange__finish(struct match *m, struct exchange *x, uint64_t ts, bool aborted)
{
	x->open = false;
	if (x->telemetry)
		leave_out_telemetry(x); /* whoever does not answer has not said that it is somebody else's path */
	x->end = ts;
	parent__call_over(x);
	turn__call_over(x);
	if (x->server) {
		parent__on_end(x, aborted);
		live__remove(x);
	}
	if (x->conn) {
		conn_unlink(x->conn, x);
		if (!x->server) {
			exchange__put(x->conn->done);
			x->conn->done = exchange__get(x);
		}
	}
	if (identity__settle(m, x, m->now, 0)) {
		pass_on(m, x, m->now);
		exchange__put(x);
		return;
	}
	x->wait_next = NULL;
	*m->waiting_tail = x;
	m->waiting_tail = &x->wait_next;
}

/* ---- messages -------------------------------------------------------------------------------------- */

static void add_attrs(struct exchange *x, const struct msg *msg)
{
	span__add_list(x->span, msg->attrs, msg->n_attrs);
}

static void take_context(struct exchange *x, const struct trace_context *ctx)
{
	x->denied = ctx->deny;
	if (!ctx->valid)
		return;
	x->has_ctx = true;
	memcpy(x->ctx_trace, ctx->trace_id, 16);
	memcpy(x->ctx_span, ctx->span_id, 8);
	x->ctx_flags = ctx->flags & 0x03;
	if (ctx->tracestate.len)
		x->span->trace_state = span__dup(x->span, ctx->tracestate);
}

/*
 * The kernel has read the same header, in less: one read's bytes, the first header only. What it gave is checked
 * against the complete parse, which decides.
 */
static void check_context(const struct msg *msg, const struct transfer *t)
{
	bool seen = t && (t->flags & WS_DATA_CONTEXT) && t->pos == msg->pos;

	if (!seen) {
		stats.contexts_unseen += msg->ctx.valid;
		return;
	}
	stats.contexts_seen++;
	if (!msg->ctx.valid || memcmp(t->ctx.trace_id, msg->ctx.trace_id, 16) || memcmp(t->ctx.span_id, msg->ctx.span_id, 8))
		stats.contexts_differ++;
}

static void take_identity(struct match *m, struct exchange *x, const struct stream_conn *c)
{
	uint64_t id = identity__span(m, c->info.id, x->server ? WS_RX : WS_TX, x->pos);

	id = htobe64(id);
	memcpy(x->span_id, &id, sizeof(id));
}

/* By what was asked for; an authority or an asterisk is no path. */
static bool is_excluded(const struct match *m, const struct msg *msg)
{
	return m->opts.exclude_paths && msg->target.len && msg->target.p[0] == '/' &&
	       glob__match_list(m->opts.exclude_paths, msg->target);
}

/* Go's servers let another goroutine read the first byte. */
static void take_reader(struct exchange *x, const struct transfer *newest)
{
	x->fiber = newest && token__of_fiber(&newest->token) && newest->token.by;
	x->reader = x->fiber ? thread__goroutine(newest->tgid, newest->token.by) : thread__key(x->tid);
}

static void on_request(struct match *m, struct stream_conn *c, const struct msg *msg, const struct transfer *t)
{
	bool server = c->info.role == WS_ROLE_SERVER;
	struct exchange *x;

	stats__in(ST_MATCH, 1);
	stats.requests++;
	c->match->requests++;
	if (m->held >= m->opts.max_requests) {
		stats__drop(ST_MATCH, DROP_EXCHANGE_TABLE_FULL, 1);
		return;
	}
	x = exchange__new(m, c->match, server, msg->ts_ns);
	if (!x) {
		stats__drop(ST_MATCH, DROP_NO_MEMORY, 1);
		return;
	}
	x->xid = msg->xid;
	x->pos = msg->pos;
	if (t && t->wired) {
		x->wired = true;
		x->wire = (uint64_t)t->wire << 32 | (uint32_t)(t->wire_into + (msg->pos - t->pos));
	}
	x->tgid = t ? t->tgid : c->info.tgid;
	x->tid = t ? t->tid : 0;
	x->nonblock = t && t->flags & WS_DATA_NONBLOCK;
	if (server)
		take_reader(x, c->newest);
	x->span->op = span__dup(x->span, msg->op);
	x->span->target = span__dup(x->span, msg->target);
	x->span->display_peer = span__dup(x->span, msg->peer);
	x->span->route_key = msg->route_key;
	x->content = msg->content;
	x->request_key = msg->request_key;
	x->telemetry = msg->flags & MSG_TELEMETRY && !m->opts.trace_telemetry;
	x->left_out = is_excluded(m, msg);
	x->why = DROP_PATH_EXCLUDED;
	add_attrs(x, msg);
	take_context(x, &msg->ctx);
	take_identity(m, x, c);
	conn_link(c->match, x);
	if (server) {
		check_context(msg, t);
		live__add(x);
		if (x->has_ctx)
			parent__context_came(x);
	} else {
		x->sent = t ? t->len : 0;
		if (c->match->done && c->match->done->end <= x->start)
			x->floor = c->match->done->end;
		parent__find(m, x, t ? &t->token : NULL);
		if (x->has_ctx)
			parent__on_context(m, x);
		work__found_parent(m, x);
		if (m->opts.links_max)
			candidates__note(m, x);
	}
	join__offer(m, x, c);
}

/* Whoever answers as a receiver is one; a request alone proves nothing, anybody can send it to anybody. */
static void on_receiver(struct match *m, const struct exchange *x)
{
	struct proc *p = x->server ? proc__find(m, x->tgid, true) : NULL;

	if (!p || p->receiver)
		return;
	p->receiver = true;
	if (m->opts.telemetry_receiver)
		m->opts.telemetry_receiver(m->opts.ctx, x->tgid);
}

/* A refusal is left out as well: our own export, traced because it was refused, would be exported again. */
static void on_telemetry(struct match *m, struct exchange *x, uint32_t flags)
{
	if (flags & MSG_NO_TELEMETRY) {
		x->telemetry = false; /* a request like others */
		return;
	}
	leave_out_telemetry(x);
	if (flags & MSG_TELEMETRY)
		on_receiver(m, x);
}

static void on_response(struct match *m, struct exchange *x, const struct msg *msg, const struct transfer *t)
{
	if (x->telemetry)
		on_telemetry(m, x, msg->flags);
	x->answered = true;
	parent__call_over(x);
	turn__call_over(x);
	x->resp_pos = msg->pos;
	x->resp_end = UINT64_MAX;
	x->span->display_status = span__dup(x->span, msg->status);
	add_attrs(x, msg);
	if (msg->error_type)
		span__add_str(x->span, "error.type", str__of(msg->error_type));
	if (msg->flags & MSG_ERROR)
		x->span->status = SPAN_ERROR;
	x->answered_by = t ? t->tid : 0;
	if (x->server)
		parent__on_response(x, t ? &t->token : NULL);
}

static void on_abort(struct match *m, struct exchange *x, const struct msg *msg)
{
	if (msg->error_type) {
		span__add_str(x->span, "error.type", str__of(msg->error_type));
		x->span->status = SPAN_ERROR;
		if (!x->span->display_status.len)
			x->span->display_status = span__dup(x->span, msg->status.len ? msg->status : str__of(msg->error_type));
	} else {
		/* Open when wirespan stopped, or lost from sight: its end is not the exchange's. */
		struct attr unfinished = attr__bool("wirespan.unfinished", true);

		span__add(x->span, &unfinished);
		if (!x->span->display_status.len)
			x->span->display_status = span__dup(x->span, STR("unfinished"));
	}
	add_attrs(x, msg);
	exchange__finish(m, x, msg->ts_ns, true);
}

void match__msg(void *ctx, struct stream_conn *c, const struct msg *msg, const struct transfer *t)
{
	struct match *m = ctx;
	struct exchange *x;

	if (msg->ts_ns > m->now)
		m->now = msg->ts_ns;
	if (!c->match)
		return;
	if (msg->kind == MSG_REQUEST) {
		on_request(m, c, msg, t);
		return;
	}
	x = find_xid(c->match, msg->xid);
	if (!x)
		return; /* left out at its request */
	switch (msg->kind) {
	case MSG_REQUEST_END:
		x->end_pos = msg->pos;
		break;
	case MSG_RESPONSE:
		on_response(m, x, msg, t);
		break;
	case MSG_RESPONSE_END:
		x->resp_end = msg->pos;
		add_attrs(x, msg);
		exchange__finish(m, x, msg->ts_ns, false);
		break;
	default:
		on_abort(m, x, msg);
		break;
	}
}

/* ---- connections ------------------------------------------------------------------------------------- */

void match__conn_new(void *ctx, struct stream_conn *c, uint64_t ts)
{
	struct match *m = ctx;

	c->match = mem__zalloc(sizeof(*c->match));
	if (!c->match)
		return;
	c->match->pub = c;
	if (c->info.role == WS_ROLE_CLIENT && (c->seqpos || c->info.tls)) {
		c->match->counted = true;
		ends__add(m, c, 1);
	}
}

void match__conn_gone(void *ctx, struct stream_conn *c, uint64_t ts)
{
	struct match *m = ctx;
	struct match_conn *mc = c->match;
	struct exchange *x;

	if (!mc)
		return;
	while ((x = mc->open)) { /* parsers end everything first: this is for parsers that died of memory */
		conn_unlink(mc, x);
		x->conn = NULL;
		parent__call_over(x);
		turn__call_over(x);
		if (x->server) {
			parent__on_end(x, true);
			live__remove(x);
		}
		discard(m, x, DROP_CONN_ENDED);
		x->open = false;
		x->settled = x->left_out = true;
		x->why = DROP_CONN_ENDED;
		exchange__put(x);
	}
	if (mc->counted)
		ends__add(m, c, -1);
	exchange__put(mc->done);
	mem__free(mc);
	c->match = NULL;
}

void match__conn_opaque(void *ctx, struct stream_conn *c)
{
	struct proc *p;

	/* A tunnel that began as HTTP asks for nothing more. */
	if (c->info.role != WS_ROLE_SERVER || !c->match || c->match->requests)
		return;
	p = proc__find(ctx, c->info.tgid, true);
	if (p)
		p->opaque = true;
}

/* Closed by the caller before there was an answer: its own time-out. */
static const char *connect_error(int err)
{
	return err ? error_type__of_errno(err) : "timeout";
}

static void add_peer(struct span *s, const struct stream_conn *c)
{
	char addr[WS_UNIX_PATH_MAX + 1], shown[WS_UNIX_PATH_MAX + 16];
	struct str a = { addr, conn_addr__format(&c->info.remote, addr, sizeof(addr)) };
	int n;

	if (c->info.family == AF_UNIX)
		a = str__of(c->info.path);
	span__add_str(s, "server.address", a);
	span__add_str(s, "network.peer.address", a);
	if (c->info.family != AF_UNIX) {
		span__add_int(s, "server.port", c->info.remote.port);
		span__add_int(s, "network.peer.port", c->info.remote.port);
	}
	n = snprintf(shown, sizeof(shown), "%.*s:%u", (int)a.len, a.p, c->info.remote.port);
	s->display_peer = span__dup(s, (struct str){ shown, n });
}

void match__connect_failed(void *ctx, struct stream_conn *c, int err, const struct ws_token *token, uint32_t tid,
			   uint64_t start_ts, uint64_t ts)
{
	const char *type = connect_error(err);
	struct match *m = ctx;
	struct exchange *x = exchange__new(m, NULL, false, start_ts);

	if (!x) {
		stats__in(ST_MATCH, 1);
		stats__drop(ST_MATCH, DROP_NO_MEMORY, 1);
		return;
	}
	if (ts > m->now)
		m->now = ts;
	x->tgid = c->info.tgid;
	x->tid = tid;
	x->pos = ts;
	take_identity(m, x, c);
	parent__find(m, x, token);
	if (x->edge == EDGE_NONE) { /* outside of a traced request: no exchange at all */
		exchange__forget(x);
		return;
	}
	stats__in(ST_MATCH, 1);
	x->span->op = span__dup(x->span, STR("connect"));
	x->span->status = SPAN_ERROR;
	x->span->display_status = span__dup(x->span, str__of(type));
	span__add_str(x->span, "error.type", str__of(type));
	add_peer(x->span, c);
	exchange__finish(m, x, ts, false);
}

void match__ingress(void *ctx, struct stream_conn *c, const struct ws_ev_data *ev)
{
	struct match *m = ctx;

	if (ev->ev.ts > m->now)
		m->now = ev->ev.ts;
}

void match__proc(void *ctx, const struct ws_ev_proc *ev)
{
	struct match *m = ctx;
	struct proc *p;

	if (ev->what == WS_PROC_THREAD_EXIT) {
		heirs__on_thread_exit(m, ev->tid);
		thread__exit(m, thread__key(ev->tid));
		return;
	}
	if (ev->what == WS_PROC_THREAD_WAITS) {
		thread__waits(m, ev->tgid, thread__key(ev->tid));
		return;
	}
	if (ev->what == WS_PROC_GOROUTINE_EXIT) {
		heirs__on_goroutine_exit(m, ev->tgid, ev->tid);
		return;
	}
	p = proc__find(m, ev->tgid, false);
	if (p && ev->what == WS_PROC_EXEC)
		p->receiver = false; /* another program: it has to show it again */
	if (!p || ev->what != WS_PROC_EXIT)
		return;
	work__process_ends(m, ev->tgid);
	while (p->live)
		live__remove(p->live); /* its exchanges end with their connections */
	proc__free(m, p);
}

/* ---- life -------------------------------------------------------------------------------------------- */

void match__clock(struct match *m, int64_t wall_offset)
{
	m->wall_offset = wall_offset;
}

void match__tick(struct match *m, uint64_t now)
{
	if (now > m->now)
		m->now = now;
	parent__tick(m, m->now);
	flush_waiting(m, m->now);
}

static void decide(struct exchange *x)
{
	if (x->edge != EDGE_NONE && x->edge != EDGE_FINAL)
		parent__refuse(x, "not confirmed before the end");
	x->join_until = 0;
	candidates__decide(x);
}

void match__flush(struct match *m, uint64_t now)
{
	if (now > m->now)
		m->now = now;
	work__process_ends(m, 0);
	parent__tick(m, UINT64_MAX);
	for (struct exchange *x = m->waiting; x; x = x->wait_next)
		decide(x);
	flush_waiting(m, m->now);
}

struct match *match__new(const struct match_opts *o)
{
	struct match *m = mem__zalloc(sizeof(*m));

	if (!m)
		return NULL;
	m->opts = *o;
	if (!m->opts.max_requests)
		m->opts.max_requests = 65536;
	m->waiting_tail = &m->waiting;
	m->settling_tail = &m->settling;
	m->pool = (struct pool)POOL_INIT(sizeof(struct exchange), EXCHANGES_KEPT);
	return m;
}

void match__free(struct match *m)
{
	if (!m)
		return;
	match__flush(m, m->now);
	procs__free(m);
	pool__free(&m->pool);
	mem__free(m);
}
