// SPDX-License-Identifier: Apache-2.0
/*
 * Which request caused this outgoing one? The rules, in the order in which they are tried:
 *
 *   header    The outgoing request carries a trace context that this process received with a live
 *             request: it was forwarded, that request is the parent. One that was received by
 *             nobody here was written by an SDK inside the process: its span is the parent.
 *   callback, dial
 *             Run-to-completion loops on the tested list: the callback that ran, if what it sent is what
 *             its request asked for and no other request that waits for nothing can have asked for it. A
 *             callback started by a response carries on the exchange that it answers.
 *   thread    A thread that reads requests from blocking descriptors serves one at a time. Its last
 *             request is the parent if no other one that it read is open, and if the same thread
 *             then answers it: a request that was handed to another thread says nothing about this.
 *   thread-inherited
 *             A thread cloned while its parent served a request, that made one call, and was gone when
 *             that was answered, or at once after (whoever joins a thread goes on before the kernel has
 *             ended it). A pool's worker, even one grown inside the request, outlives it, and a thread
 *             that drains a queue makes several calls: no parent. In a process where one did, others that
 *             made one call are believed only where no other request was there to fill a queue.
 *   context, executor
 *             The runtime's own logical context (bpf/runtime.bpf.h), and work items that were handed to another
 *             thread. While the request is open; what outlives it is a worker that it was the first to need and that
 *             serves whoever comes, unless it was answered in that very context (after.c). A task that waited, and was woken by the
 *             read, has to be the one that answers.
 *   goroutine, virtual-thread, greenlet
 *             The goroutine, the JVM's virtual thread, or the greenlet, that read the request. Greenlets have no number:
 *             one that begins where another has ended looks like that, so the same has to answer.
 *   goroutine-inherited
 *             One that was made by it, or by that: if it ends with the request, or with its call, and made only one. A
 *             worker that the request was the first to need goes on for others, or drains their queue, and ends. Where
 *             there were no others it may make several. Of one that has read no request, or one that is over: content, see
 *             there (a proxy's server may have read its request ahead in another).
 *   request-context
 *             Go: what the program itself says. The context object that the call came with is the one that the server made for
 *             the request, or is derived from it, whichever goroutine calls. While the request is open.
 *   turn, turn-continued
 *             Node.js: the callback that ran, see turn.c.
 *   content   Forwarding proxies, see content.c.
 *   single    Only where the operator vouches for it (--evidence-single). Reactors (non-blocking reads):
 *             one request is alive in the process, none has ended there just before (it may have left
 *             background work behind), this very thread read it, and the process never called out by
 *             itself. No proof: work that a request leaves behind may start at any time later.
 *
 * Everything else has no parent, and a reason.
 */
#include "user/match/exchange.h"

/* An abandoned request's handler is taken to be running for that long. */
#define ZOMBIE_NS 60000000000ull
/* What a request left behind (background tasks) may call out for that long at least, unseen. */
#define AFTERMATH_NS 2000000000ull
/* A thread with work of its own (a timer in a select() loop) does it again within that time. */
#define OWN_NS 30000000000ull
/* What a thread calls so soon after an answer may be the rest of that request's work. */
#define REST_NS 1000000000ull

/* A thread that serves several waits for the others that soon after it has done something for one. */
#define STAYS_NS 1000000000ull

#define OWN "this thread also calls out by itself"
#define SEVERAL "this thread serves several connections at a time"
#define READS_OTHERS "its thread has read something else since its request"
#define OTHER_READER "it has read of its request, but another one serves it"

static bool allowed(const struct exchange *x, enum match_evidence e)
{
	return !(x->m->opts.evidence_off & 1u << e);
}

/* Client: its answer has come, or will not. */
void parent__call_over(struct exchange *x)
{
	if (x->waiting)
		x->parent->n_waiting--;
	x->waiting = false;
}

void parent__refuse(struct exchange *x, const char *why)
{
	parent__call_over(x);
	exchange__put(x->parent);
	x->parent = NULL;
	x->edge = EDGE_NONE;
	x->evidence = EVIDENCE_NONE;
	if (x->span)
		x->span->orphan = why;
}

/* The list that an edge waits in. */
static struct exchange **pending(struct exchange *x)
{
	if (x->edge == EDGE_TURN)
		return &x->parent->turns;
	if (x->edge == EDGE_AFTER)
		return &x->m->after;
	return x->edge == EDGE_PROVISIONAL ? &x->m->provisional : &x->parent->children;
}

static void unlink_pending(struct exchange *x)
{
	struct exchange **at = pending(x);

	while (*at && *at != x)
		at = &(*at)->child_next;
	if (*at)
		*at = x->child_next;
	x->child_next = NULL;
	exchange__put(x);
}

void parent__set(struct exchange *x, struct exchange *parent, enum match_evidence e, enum edge edge)
{
	if (!allowed(x, e)) {
		parent__refuse(x, "evidence switched off");
		return;
	}
	parent__call_over(x);
	exchange__put(x->parent);
	x->parent = exchange__get(parent);
	x->evidence = e;
	x->edge = edge;
	if (x->span)
		x->span->orphan = NULL;
	if (edge != EDGE_FINAL) {
		struct exchange **list = pending(x);

		x->child_next = *list;
		*list = exchange__get(x);
	}
}

bool token__brings(const struct ws_token *t, const struct exchange *x)
{
	return x->pos < t->pos + t->len && !(x->end_pos && x->end_pos <= t->pos);
}

struct exchange *token__request(struct match_conn *mc, const struct ws_token *t, bool *ret_many)
{
	struct exchange *found = NULL;

	*ret_many = false;
	for (struct exchange *x = mc->open; x; x = x->next) {
		if (!token__brings(t, x))
			continue;
		if (found || t->pos < x->pos)
			*ret_many = true;
		found = x;
	}
	return found;
}

/* A response read on a client connection carries on the exchange that it answers. */
static struct exchange *continued(struct match_conn *mc, const struct ws_token *t)
{
	struct exchange *x = mc->open;

	if (x && x->answered && x->resp_pos < t->pos + t->len)
		return x;
	x = mc->done;
	if (x && x->resp_pos < t->pos + t->len && x->resp_end > t->pos)
		return x;
	return NULL;
}

/* How much of one target is in the other: what they begin with and what they end with. */
static size_t likeness(struct str a, struct str b)
{
	size_t n = a.len < b.len ? a.len : b.len, head = 0, tail = 0;

	while (head < n && a.p[head] == b.p[head])
		head++;
	while (head + tail < n && a.p[a.len - 1 - tail] == b.p[b.len - 1 - tail])
		tail++;
	return head + tail;
}

/*
 * Can this call be what that request was forwarded as? Returns how alike their targets are, 0: not alike.
 * Proxies rewrite the beginning or the end of a path, and pass on the rest of what was asked.
 */
static size_t forwards(const struct exchange *x, const struct exchange *s)
{
	struct str in = s->span->target, out = x->span->target;
	size_t like;

	if (x->content != s->content || !str__eq(x->span->op, s->span->op))
		return 0;
	like = likeness(in, out);
	return like * 2 >= (in.len < out.len ? in.len : out.len) ? like : 0;
}

/*
 * A loop runs its timers after the turn's callbacks, unseen: a call that a timer makes (a delayed request, a
 * second try, a health check) looks like one of the callback that ran last. So a callback accounts for one call,
 * which must be what its request asked for, and more so than what any other open request asked for that may be
 * in a timer's hands: one that has no call on its way.
 */
static const char *callback_doubt(const struct exchange *x, const struct exchange *s, const struct ws_token *t)
{
	size_t like = forwards(x, s);

	if (s->used.sock == t->sock && s->used.pos == t->pos)
		return "a second call in one callback";
	if (!s->proc || s->proc->opaque)
		return "this event loop serves requests that cannot be read";
	if (!like)
		return "not what the callback's request asked for";
	for (const struct exchange *o = s->proc->live; o; o = o->live_next)
		if (o != s && !o->n_waiting && forwards(x, o) >= like)
			return "another open request asks for the same";
	return NULL;
}

static void take_callback(struct exchange *x, struct exchange *s, enum match_evidence e, const struct ws_token *t)
{
	s->used = *t;
	parent__set(x, s, e, EDGE_FINAL);
	if (x->parent == s) {
		x->waiting = true;
		s->n_waiting++;
	}
}

static void by_callback(struct match *m, struct exchange *x, const struct ws_token *t)
{
	enum match_evidence e = t->kind == WS_TOK_DIAL ? EVIDENCE_DIAL : EVIDENCE_CALLBACK;
	struct stream_conn *sc = stream__find(m->opts.stream(m->opts.ctx), t->sock);
	struct exchange *s;
	bool many = false;

	if (!sc || !sc->match) {
		parent__refuse(x, "the request's connection is gone");
		return;
	}
	if (sc->info.role == WS_ROLE_SERVER) {
		s = token__request(sc->match, t, &many);
	} else {
		s = continued(sc->match, t);
		/*
		 * A request that waited for this very connection is started by the response that frees it, in a callback
		 * that belongs to somebody else. With one request alive there is nobody else.
		 */
		if (s && sc->match == x->conn && s->parent && s->parent->proc && s->parent->proc->n_live > 1) {
			parent__refuse(x, "pool-saturated");
			return;
		}
		s = s ? s->parent : NULL;
		if (s && !s->server)
			s = NULL;
	}
	if (many)
		parent__refuse(x, "several requests in one read");
	else if (!s || !s->open || s->tgid != x->tgid)
		parent__refuse(x, "its request was over");
	else if (callback_doubt(x, s, t))
		parent__refuse(x, callback_doubt(x, s, t));
	else
		take_callback(x, s, e, t);
}

static bool serves_several(const struct exchange *server)
{
	return server->parked || (server->thread && server->m->now < server->thread->several_until);
}

/* Called out while it served nothing. */
static void note_own_work(struct match *m, uint32_t tgid, uint32_t tid)
{
	const struct thread *t = thread__find(m, thread__key(tid), false);
	struct proc *p = t && t->n_live ? NULL : proc__find(m, tgid, true);
	uint32_t slot;

	if (!p || !tid || (p->last_end && m->now < p->last_end + REST_NS))
		return;
	for (slot = 0; slot < OWN_SLOTS && p->own[slot].tid != tid; slot++)
		;
	if (slot == OWN_SLOTS)
		slot = p->n_own++ % OWN_SLOTS;
	p->own[slot].tid = tid;
	p->own[slot].until = m->now + OWN_NS;
}

static bool has_own_work(const struct exchange *server)
{
	for (int i = 0; server->proc && i < OWN_SLOTS; i++)
		if (server->proc->own[i].tid == server->tid && server->m->now < server->proc->own[i].until)
			return true;
	return false;
}

bool parent__alone(const struct exchange *s)
{
	return s->proc && s->proc->n_live == 1 && s->proc->last_end < s->start;
}

/* Would its thread have waited for others by now, if it did? Right behind a call, it does. */
static bool has_stayed(const struct exchange *x)
{
	return !x->open && x->m->now >= x->end + STAYS_NS;
}

/* By a task that was woken, and may serve several connections. */
static bool may_be_others(struct exchange *x, const struct exchange *server)
{
	x->unsure |= x->woken && !x->taken && !server->fiber && !after__has_own_tasks(server);
	return x->unsure;
}

/*
 * Unconfirmed calls of a request, by who answers it: this thread, in a task (0: none) that its read had woken. While
 * the answer is not complete the thread may still show that it serves several.
 */
static void confirm_children(struct exchange *server, uint32_t tid, uint32_t woken, bool over)
{
	struct exchange **at = &server->children, *x;

	while ((x = *at)) {
		const char *why = NULL;

		if (x->woken && x->woken != woken)
			why = "its request was answered by another task";
		else if (!x->woken && !x->exited && tid != server->tid)
			why = "its request was answered by another thread";
		else if (!x->woken && serves_several(server))
			why = SEVERAL;
		else if (!x->woken && !over && !has_stayed(x)) {
			at = &x->child_next;
			continue;
		}
		*at = x->child_next;
		x->child_next = NULL;
		if (why)
			parent__refuse(x, why);
		else if (may_be_others(x, server))
			after__await_others(x);
		else
			x->edge = EDGE_FINAL;
		exchange__put(x);
	}
}

/* A stream may go on for hours, and its calls should not wait. */
void parent__confirm(struct exchange *server)
{
	struct match *m = server->m;

	if (!server->answered)
		return;
	confirm_children(server, server->answered_by, server->woken, false);
	if (!server->children || server->streams)
		return;
	server->streams = true;
	server->stream_next = m->streaming;
	m->streaming = exchange__get(server);
}

static void look_at_streams(struct match *m)
{
	struct exchange **at = &m->streaming, *server;

	while ((server = *at)) {
		confirm_children(server, server->answered_by, server->woken, !server->open);
		if (server->children) {
			at = &server->stream_next;
			continue;
		}
		*at = server->stream_next;
		server->streams = false;
		exchange__put(server);
	}
}

static void by_thread(struct match *m, struct exchange *x, const struct ws_token *t)
{
	struct stream_conn *sc = stream__find(m->opts.stream(m->opts.ctx), t->sock);
	bool many = false, inherited = t->kind == WS_TOK_PROVISIONAL;
	struct exchange *s = sc && sc->match ? token__request(sc->match, t, &many) : NULL;

	if (many) {
		parent__refuse(x, "several requests in one read");
		return;
	}
	if (!s || !s->open || s->tgid != x->tgid) {
		const struct thread *thread = thread__find(m, thread__key(x->tid), false);

		/* What the thread has read last is no open request: work of its own, or of the one that it has put aside for that. */
		note_own_work(m, x->tgid, x->tid);
		parent__refuse(x, thread && thread->n_live ? READS_OTHERS : "its request was over");
		return;
	}
	if (has_own_work(s)) {
		parent__refuse(x, OWN);
		return;
	}
	if (s->thread && s->thread->n_live > 1) {
		parent__refuse(x, "two requests were live on this thread");
		return;
	}
	if (t->by != s->tid) {
		parent__refuse(x, OTHER_READER);
		return;
	}
	if (serves_several(s) || t->flags & WS_TOKEN_PARKED) {
		parent__refuse(x, SEVERAL);
		return;
	}
	x->alone = parent__alone(s);
	parent__set(x, s, inherited ? EVIDENCE_INHERITED : EVIDENCE_THREAD,
		   inherited ? EDGE_PROVISIONAL : EDGE_UNCONFIRMED);
	parent__confirm(s);
}

bool token__of_fiber(const struct ws_token *t)
{
	return t->kind == WS_TOK_GOROUTINE || t->kind == WS_TOK_VIRTUAL || t->kind == WS_TOK_GREENLET;
}

/* Was the request of this token read by another thread, or goroutine, than the token says? */
static bool other_reader(const struct exchange *server, const struct ws_token *t)
{
	return (server->fiber ? thread__goroutine(server->tgid, t->by) : thread__key(t->by)) != server->reader;
}

/*
 * Its connection has brought another request by now. What the server took up when it had answered this one may run in a
 * copy of this one's context: then there is no telling the two apart. What it has answered may still be on its way, behind
 * what went before. A task that waits for the connection's requests may have gathered them, whichever has woken it;
 * unless it was seen to take them one by one (bpf/deque.bpf.c).
 */
static bool is_pipelined(const struct exchange *s, bool woken)
{
	return woken ? s->next || s->prev : s->next && (s->answered || s->prev);
}

static void by_context(struct match *m, struct exchange *x, const struct ws_token *t)
{
	enum match_evidence e = t->flags & WS_TOKEN_ITEM ? EVIDENCE_EXECUTOR : EVIDENCE_CONTEXT;
	struct stream_conn *sc = t->sock ? stream__find(m->opts.stream(m->opts.ctx), t->sock) : NULL;
	bool many = false, handed = t->kind == WS_TOK_HANDED;
	struct exchange *s;

	s = sc && sc->match ? token__request(sc->match, t, &many) : NULL;
	x->woken = t->flags & WS_TOKEN_WOKEN ? t->by : 0;
	x->taken = t->flags & WS_TOKEN_TAKEN;
	x->unsure = t->flags & WS_TOKEN_UNSURE;
	if (many)
		parent__refuse(x, "several requests in one read");
	else if (!t->sock)
		parent__refuse(x, "its context began in no request that was seen");
	else if ((!s || !s->open) && after__find(m, x, t))
		return;
	else if (!s || !s->open || s->tgid != x->tgid)
		parent__refuse(x, "its request was over");
	else if (is_pipelined(s, x->woken && !x->taken))
		parent__refuse(x, "its connection had brought another request by then");
	else if (handed && other_reader(s, t))
		parent__refuse(x, OTHER_READER);
	else if (x->woken && s->shared)
		parent__refuse(x, ANSWERS_OTHERS);
	else if (handed && s->thread && s->thread->n_live > 1)
		parent__refuse(x, "two requests were live on this thread");
	else if (handed && (serves_several(s) || t->flags & WS_TOKEN_PARKED))
		parent__refuse(x, SEVERAL);
	else if (handed && !s->fiber && has_own_work(s))
		parent__refuse(x, OWN);
	else
		parent__set(x, s, e, handed || x->woken ? EDGE_UNCONFIRMED : EDGE_FINAL);
	if (x->edge == EDGE_UNCONFIRMED)
		parent__confirm(s);
}

static void not_read_by(struct match *m, struct exchange *x, const char *why)
{
	if (!allowed(x, EVIDENCE_CONTENT) || !content__find_read_ahead(m, x))
		parent__refuse(x, why);
}

static enum match_evidence fiber_evidence(const struct ws_token *t)
{
	switch (t->kind) {
	case WS_TOK_VIRTUAL:
		return EVIDENCE_VIRTUAL;
	case WS_TOK_GREENLET:
		return EVIDENCE_GREENLET;
	default:
		return t->heirs[0] ? EVIDENCE_GOROUTINE_INHERITED : EVIDENCE_GOROUTINE;
	}
}

/* Heirs are believed once they have ended, greenlets once they have answered; the goroutine that read has nothing to prove. */
static void by_fiber(struct match *m, struct exchange *x, const struct ws_token *t)
{
	bool greenlet = t->kind == WS_TOK_GREENLET;
	struct stream_conn *sc = t->sock ? stream__find(m->opts.stream(m->opts.ctx), t->sock) : NULL;
	bool many = false;
	struct exchange *s;

	s = sc && sc->match ? token__request(sc->match, t, &many) : NULL;
	memcpy(x->heirs, t->heirs, sizeof(x->heirs));
	x->woken = greenlet ? t->by : 0;
	x->alone = s && parent__alone(s);
	if (many)
		parent__refuse(x, "several requests in one read");
	else if (!t->sock)
		not_read_by(m, x, "its goroutine or virtual thread has read no request");
	else if (!s || !s->open || s->tgid != x->tgid)
		not_read_by(m, x, "its request was over");
	else if (other_reader(s, t))
		not_read_by(m, x, OTHER_READER);
	else if ((s->thread && s->thread->n_live > 1) || serves_several(s))
		parent__refuse(x, "who has read it serves several connections at a time");
	else
		parent__set(x, s, fiber_evidence(t), greenlet ? EDGE_UNCONFIRMED : t->heirs[0] ? EDGE_PROVISIONAL : EDGE_FINAL);
	if (x->edge == EDGE_UNCONFIRMED)
		parent__confirm(s);
}

static void by_carried(struct match *m, struct exchange *x, const struct ws_token *t)
{
	struct stream_conn *sc = stream__find(m->opts.stream(m->opts.ctx), t->sock);
	bool many = false;
	struct exchange *s = sc && sc->match ? token__request(sc->match, t, &many) : NULL;

	if (many)
		parent__refuse(x, "several requests in one read");
	else if (!s || !s->open || s->tgid != x->tgid)
		parent__refuse(x, "its request was over");
	else if (other_reader(s, t))
		parent__refuse(x, OTHER_READER);
	else
		parent__set(x, s, EVIDENCE_CARRIED, EDGE_FINAL);
}

static void by_single(struct match *m, struct exchange *x, const struct ws_token *t)
{
	bool wanted = allowed(x, EVIDENCE_SINGLE);
	struct proc *p = proc__find(m, x->tgid, wanted);
	struct exchange *s = p ? p->live : NULL;

	if (allowed(x, EVIDENCE_CONTENT) && content__find(m, x))
		return;
	if (!p || !p->n_live) {
		if (p && wanted)
			p->autonomous = true;
		x->edge = EDGE_NONE;
		return;
	}
	if (!wanted)
		parent__refuse(x, "nothing tells whose work this is in an event loop");
	else if (p->n_live > 1)
		parent__refuse(x, "several requests were live in this event loop");
	else if (m->now < p->zombie_until)
		parent__refuse(x, "an abandoned request may still be running");
	else if (p->autonomous)
		parent__refuse(x, "the process also calls out by itself");
	else if (p->last_end && m->now - p->last_end < AFTERMATH_NS)
		parent__refuse(x, "another request had just ended in this event loop");
	else if (s->tid != x->tid || !s->nonblock)
		parent__refuse(x, "another thread than the one that read the request");
	else
		parent__set(x, s, EVIDENCE_SINGLE, EDGE_FINAL);
}

/* A thread that has never read a request, or was never told whose work it does. */
static void by_nothing(struct match *m, struct exchange *x, const struct ws_token *t)
{
	note_own_work(m, x->tgid, x->tid);
	by_single(m, x, t);
}

void parent__find(struct match *m, struct exchange *x, const struct ws_token *t)
{
	if (t && t->sock && (t->kind == WS_TOK_CALLBACK || t->kind == WS_TOK_DIAL))
		by_callback(m, x, t);
	else if (t && t->kind == WS_TOK_TURN)
		turn__find(m, x, t);
	else if (t && t->kind == WS_TOK_CARRIED)
		by_carried(m, x, t);
	else if (t && token__of_fiber(t))
		by_fiber(m, x, t);
	else if (t && (t->kind == WS_TOK_CONTEXT || t->kind == WS_TOK_HANDED))
		by_context(m, x, t);
	else if (t && t->sock && !(t->flags & WS_TOKEN_NONBLOCK) &&
		 (t->kind == WS_TOK_THREAD || t->kind == WS_TOK_PROVISIONAL))
		by_thread(m, x, t);
	else if (!t || !t->sock)
		by_nothing(m, x, t);
	else
		by_single(m, x, t);
}

static uint64_t context_key(const struct exchange *x)
{
	return hash__bytes64(hash__bytes64(0, x->ctx_trace, 16), x->ctx_span, 8);
}

/* The places where this context may be remembered. */
static struct came *places_of(struct proc *p, uint64_t key)
{
	return &p->came[key % (CAME_SLOTS / CAME_WAYS) * CAME_WAYS];
}

static struct came *find_came(struct proc *p, uint64_t key)
{
	struct came *c = p && p->came ? places_of(p, key) : NULL;

	for (int i = 0; c && i < CAME_WAYS; i++)
		if (c[i].key == key)
			return &c[i];
	return NULL;
}

void parent__context_came(struct exchange *s)
{
	uint64_t key = context_key(s);
	struct came *c;

	if (!s->proc)
		return;
	if (!s->proc->came)
		s->proc->came = mem__zalloc(sizeof(*c) * CAME_SLOTS);
	if (!s->proc->came)
		return;
	c = find_came(s->proc, key);
	if (c) {
		c->again = true;
		return;
	}
	c = places_of(s->proc, key);
	memmove(c + 1, c, sizeof(*c) * (CAME_WAYS - 1)); /* the oldest goes */
	*c = (struct came){.key = key};
}

static bool brought(const struct exchange *s, const struct exchange *x)
{
	return s->has_ctx && !memcmp(s->ctx_span, x->ctx_span, 8) && !memcmp(s->ctx_trace, x->ctx_trace, 16);
}

/* The request that brought this context to this process; *ret_came: some request did, maybe long ago. */
static struct exchange *received_with(struct proc *p, const struct exchange *x, bool *ret_came)
{
	struct came *c = find_came(p, context_key(x));
	struct exchange *found = NULL;
	bool many = c && c->again; /* a retry, or a caller that reuses its ids: does not tell which */

	/* What is open is known for certain; of what was, the newest is remembered. */
	for (struct exchange *s = p ? p->live : NULL; s && !many; s = s->live_next) {
		if (!brought(s, x))
			continue;
		many = found != NULL;
		found = s;
	}
	*ret_came = c || found;
	return many ? NULL : found;
}

void parent__on_context(struct match *m, struct exchange *x)
{
	bool came, forwarded;
	struct exchange *s = received_with(proc__find(m, x->tgid, false), x, &came);

	forwarded = x->parent && x->parent->has_ctx && !memcmp(x->parent->ctx_span, x->ctx_span, 8);
	if (s || came || forwarded)
		x->has_ctx = false; /* whoever wrote it is not in this process */
	if (forwarded && s != x->parent)
		return; /* what proves the parent stays its evidence, once it is confirmed: two requests may have brought this */
	if (x->edge != EDGE_NONE && x->edge != EDGE_FINAL)
		unlink_pending(x);
	if (s)
		parent__set(x, s, EVIDENCE_HEADER, EDGE_FINAL);
	else if (came)
		parent__refuse(x, "the context that it passes on came with several requests, or with one that is over");
	else
		parent__refuse(x, NULL); /* an SDK's: its span is the parent (identity.c takes the context) */
}

void parent__on_response(struct exchange *server, const struct ws_token *token)
{
	if (token && token->kind == WS_TOK_TURN)
		turn__answered(server, token);
	after__answered(server, token);
	server->woken = token && (token->flags & WS_TOKEN_WOKEN || token->kind == WS_TOK_GREENLET) ? token->by : 0;
	parent__confirm(server);
}

void parent__parked(struct exchange *server, bool whole)
{
	struct exchange **at = &server->children, *x;

	if (whole) {
		server->parked = true; /* what is unconfirmed is refused with the rest */
		return;
	}
	while ((x = *at)) {
		if (x->woken) {
			at = &x->child_next;
			continue;
		}
		*at = x->child_next;
		x->child_next = NULL;
		parent__refuse(x, SEVERAL);
		exchange__put(x);
	}
}

void parent__on_end(struct exchange *server, bool aborted)
{
	/* Not answered at all: nobody else took it, so what the thread did until its peer went away, it did for it. */
	confirm_children(server, server->answered ? server->answered_by : server->tid, server->woken, true);
	heirs__request_ended(server);
	turn__ended(server, aborted);
	after__ended(server, aborted);
	if (server->fiber)
		content__over(server);
	if (aborted && server->proc) {
		server->proc->zombie_until = server->m->now + ZOMBIE_NS;
		content__abandoned(server);
	}
}

void parent__tick(struct match *m, uint64_t now)
{
	turn__tick(m, now);
	after__tick(m, now);
	look_at_streams(m);
	heirs__tick(m, now);
}
