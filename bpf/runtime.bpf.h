/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Logical contexts: what a runtime itself uses to tell one piece of work from another, and which request each of them
 * works on (its binding).
 *
 * CPython: the current contextvars.Context of the thread, if it was entered; the first ContextVar.set of a thread
 * makes one that is not, and both that and none at all mean the thread itself. A read proves something only while its
 * callback runs: the window. It is the thread's, and the current context's, until something else is read there. It is
 * never bound to the reader's own context, which serves the connection's next request as well.
 *
 * What serves one connection begins in the context in which it was accepted: every copy that is made there begins a
 * family, and their copies belong to it (a binding without a socket). So the task of a connection is told from those that
 * serve several. On uvloop the family is that of the connection's stream (uvloop.bpf.c).
 *
 * Go: the goroutine. What it reads it works on, until it reads something else. Its number is never used again.
 * JVM: the virtual thread, likewise.
 *
 * greenlet (gevent): under the interpreter's contexts, which greenlets mostly do not use. What one reads it works on,
 * like a goroutine; but its address is used again.
 *
 * libuv (Node.js): the callback of one stream, from what it reads to its return: the turn. What a request reads there
 * is its own; what an answer reads carries on whatever asked.
 */
#ifndef WS_RUNTIME_BPF_H
#define WS_RUNTIME_BPF_H

#include "state.bpf.h"

struct logical {
	bool known; /* the thread is one of the runtime's, and what it says of itself is right */
	__u8 fiber; /* enum ws_token_kind of what it reads, where work is a goroutine's or a virtual thread's; 0: contexts */
	__u64 ctx;  /* entered context, 0: the thread itself; or number of the goroutine or virtual thread */
};

static __always_inline __u64 user_word(__u64 at)
{
	__u64 v = 0;

	bpf_probe_read_user(&v, sizeof(v), (void *)at);
	return v;
}

static __always_inline void python_read(__u64 tp, __u64 tstate, const struct ws_runtime *rt, struct logical *l)
{
	__u64 ctx = 0;
	int entered = 0;

	if (user_word(tstate + rt->py.thread_id) != tp)
		return;
	if (bpf_probe_read_user(&ctx, sizeof(ctx), (void *)(tstate + rt->py.context)))
		return;
	if (ctx && bpf_probe_read_user(&entered, sizeof(entered), (void *)(ctx + rt->py.entered)))
		return;
	l->known = true;
	if (entered > 0)
		l->ctx = ctx;
}

/*
 * The greenlet that runs, 0: it cannot be told. Each has a stack of frames of its own, in chunks (pycore_pystate.h,
 * since 3.11): the first is there as long as the greenlet. Bit 0 tells it from the address of a context.
 */
#define GREENLET_CHUNKS 16

static __always_inline __u64 greenlet_now(struct task_struct *task, const struct ws_runtime *rt)
{
	__u64 tp, tstate, chunk, before;

	if (rt->kind != WS_RT_CPYTHON || !rt->py.stack)
		return 0;
	tp = task_thread_pointer(task);
	tstate = user_word(tp + (__s64)rt->tls);
	if (!tstate || user_word(tstate + rt->py.thread_id) != tp)
		return 0;
	chunk = user_word(tstate + rt->py.stack);
	for (int i = 0; chunk && i < GREENLET_CHUNKS; i++) {
		before = user_word(chunk); /* _PyStackChunk.previous, its first field */
		if (!before)
			return chunk | 1;
		chunk = before;
	}
	return 0;
}

#define GO_M_G0 0	   /* runtime.m.g0: its first field in every version */
#define GOID_MAX (1ull << 36) /* a pointer into Go's heap is larger than any number of a goroutine */

static __always_inline __u64 goroutine_id(__u64 g, const struct ws_runtime *rt)
{
	__u64 id = user_word(g + rt->go.goid);

	return id < GOID_MAX ? id : 0;
}

/* The goroutine that runs, or for which the scheduler's own (g0) does something. */
static __always_inline void goroutine_read(__u64 g, const struct ws_runtime *rt, struct logical *l)
{
	__u64 m = user_word(g + rt->go.m), curg;

	if (!m)
		return;
	curg = user_word(m + rt->go.curg);
	if (!curg || (curg != g && user_word(m + GO_M_G0) != g))
		return;
	l->ctx = goroutine_id(curg, rt);
	l->known = l->ctx != 0;
}

/* include of the C library: the thread control block's second word is the vector, of two words a module. */
#define TCB_DTV 8
#define DTV_SLOT 16
#define JVM_MODULES 16

static __always_inline __u64 java_thread(__u64 tp, __u32 module, __s64 slot, __u64 text, __u64 text_end)
{
	__u64 block = user_word(user_word(tp + TCB_DTV) + (__u64)module * DTV_SLOT), thread, vtable;

	/* A block that was never made is -1. */
	if (!block || block & 7)
		return 0;
	thread = user_word(block + slot);
	vtable = thread && !(thread & 7) ? user_word(thread) : 0;
	return vtable >= text && vtable < text_end ? thread : 0;
}

/* libjvm's place in the vector, 0: this is no thread of its. A global function: verified once. */
__weak __noinline int java_module(__u64 tp, __s64 slot, __u64 text, __u64 text_end)
{
	for (int i = 1; i <= JVM_MODULES; i++)
		if (java_thread(tp, i, slot, text, text_end))
			return i;
	return 0;
}

/* A thread of the machine's own has a number as well, but serves whoever comes; only virtual ones run in a continuation. */
static __always_inline void java_read(__u64 tp, struct ws_runtime *rt, struct logical *l)
{
	__u64 thread;

	if (!rt->jvm.module)
		rt->jvm.module = java_module(tp, rt->tls, rt->jvm.text, rt->jvm.text_end);
	if (!rt->jvm.module)
		return;
	thread = java_thread(tp, rt->jvm.module, rt->tls, rt->jvm.text, rt->jvm.text_end);
	if (!thread || !user_word(thread + rt->jvm.continuation))
		return;
	l->ctx = user_word(thread + rt->jvm.owner);
	l->known = l->ctx != 0;
}

static __always_inline void logical_read(struct task_struct *task, struct ws_runtime *rt, struct logical *l)
{
	__u64 tp = task_thread_pointer(task), own;

	l->known = false;
	l->fiber = rt->kind == WS_RT_GO ? WS_TOK_GOROUTINE : rt->kind == WS_RT_JVM ? WS_TOK_VIRTUAL : 0;
	l->ctx = 0;
	if (rt->kind == WS_RT_JVM) {
		java_read(tp, rt, l);
		return;
	}
	own = user_word(tp + (__s64)rt->tls);
	if (!own)
		return;
	if (l->fiber)
		goroutine_read(own, rt, l);
	else
		python_read(tp, own, rt, l);
}

static __always_inline struct object_key object_key(__u64 addr)
{
	struct object_key k = { .addr = addr, .tgid = bpf_get_current_pid_tgid() >> 32 };

	return k;
}

/* Is what this thread has read, or was handed, its own to pass on? A reactor's thread reads for everybody. */
static __always_inline bool thread_owns(const struct ws_token *t)
{
	if (!t->sock)
		return false;
	return t->kind == WS_TOK_CONTEXT || t->kind == WS_TOK_HANDED ||
	       (t->kind == WS_TOK_THREAD && !(t->flags & WS_TOKEN_NONBLOCK));
}

/* Of one that was made by another: whether it has ended by then will be asked for. */
static __always_inline bool goroutine_work(const struct object_key *key, struct ws_token *to)
{
	struct ws_token *bound = bpf_map_lookup_elem(&bindings, key);

	if (!bound)
		return false;
	*to = *bound;
	to->flags &= ~WS_TOKEN_USED;
	if (bound->heirs[0])
		bound->flags |= WS_TOKEN_USED;
	return true;
}

/* Which connection a context, or a stream of uvloop, was made for that works on nothing: the time when its family began, 0: none. */
static __always_inline __u64 family_of(__u64 addr)
{
	struct object_key key = object_key(addr);
	struct ws_token *bound = addr ? bpf_map_lookup_elem(&bindings, &key) : NULL;

	return bound && !bound->sock ? bound->pos : 0;
}

/* No address has this bit. */
#define FAMILY_KEY (1ull << 63)

/*
 * A request was read for this family. The first on a connection may be there before its task is: that is not woken, and
 * finds it. So whoever belongs to the family and works on nothing works on that, if the same then answers it.
 */
static __always_inline void family_reads(const struct thread_state *ts, __u64 family)
{
	struct object_key key = object_key(family | FAMILY_KEY);
	struct ws_token first;

	if (!family)
		return;
	if (!ts->work_first) {
		bpf_map_delete_elem(&bindings, &key);
		return;
	}
	first = ts->tok;
	first.kind = WS_TOK_CONTEXT;
	first.flags |= WS_TOKEN_WOKEN;
	first.context = 0;
	bpf_map_update_elem(&bindings, &key, &first, BPF_NOEXIST);
}

/* That first request, for this context of the family. */
static __always_inline bool family_work(__u64 family, __u64 ctx, struct ws_token *to)
{
	struct object_key key = object_key(family | FAMILY_KEY);
	struct ws_token *first = bpf_map_lookup_elem(&bindings, &key);

	if (!first)
		return false;
	*to = *first;
	to->by = ctx >> 4;
	return true;
}

/* What the running code works on. `ts` may be NULL: the thread has never used a socket. */
static __always_inline bool work_now(const struct thread_state *ts, const struct logical *l, struct ws_token *to)
{
	struct object_key key = object_key(l->ctx);
	struct ws_token *bound;

	if (!l->known)
		return false;
	if (l->fiber)
		return goroutine_work(&key, to);
	if (ts && l->ctx && ts->window == l->ctx && ts->tok.sock) {
		*to = ts->tok;
		if (to->kind == WS_TOK_THREAD)
			to->kind = to->flags & WS_TOKEN_NONBLOCK ? WS_TOK_CONTEXT : WS_TOK_HANDED;
		return true;
	}
	bound = l->ctx ? bpf_map_lookup_elem(&bindings, &key) : NULL;
	if (bound && bound->sock) {
		*to = *bound;
		return !(bound->flags & WS_TOKEN_SHARED);
	}
	if (bound && family_work(bound->pos, l->ctx, to))
		return true;
	/* A thread that reads blocking, and stays in the context in which it did: one request at a time. */
	if (!ts || ts->tok_ctx != l->ctx || !thread_owns(&ts->tok))
		return false;
	*to = ts->tok;
	if (to->kind == WS_TOK_THREAD)
		to->kind = WS_TOK_HANDED;
	return true;
}

/* Who runs into a probe. */
struct caller {
	struct ws_runtime *rt;
	struct thread_state *ts; /* NULL: it has never used a socket */
	struct logical l;
};

static __always_inline bool caller_read(struct caller *c)
{
	struct task_struct *task = task_current();

	c->rt = runtime_of(bpf_get_current_pid_tgid() >> 32);
	if (!c->rt)
		return false;
	c->ts = thread_state_now();
	logical_read(task, c->rt, &c->l);
	return c->l.known;
}

/* Functions of their own: inlined, their variables would lie on the stack below everything that follows (512 bytes in all). */
#define APART __attribute__((noinline, unused))

/* What the greenlet that runs works on, or NULL. */
static APART struct ws_token *greenlet_work(const struct ws_runtime *rt)
{
	struct object_key key = object_key(greenlet_now(task_current(), rt));

	return key.addr ? bpf_map_lookup_elem(&bindings, &key) : NULL;
}

/* What the caller passes on. */
static __always_inline bool caller_work(struct caller *c, struct ws_token *tok)
{
	struct ws_token *bound;

	if (work_now(c->ts, &c->l, tok))
		return true;
	bound = c->rt->kind == WS_RT_CPYTHON && c->rt->py.stack && !c->l.ctx ? greenlet_work(c->rt) : NULL;
	if (!bound || !bound->sock)
		return false;
	*tok = *bound;
	if (tok->kind == WS_TOK_GREENLET)
		tok->kind = WS_TOK_HANDED;
	return true;
}

/* ---- at socket events ---------------------------------------------------------------------------- */

static __always_inline bool thread_logical(struct thread_state *ts, struct task_struct *task, struct logical *l)
{
	struct ws_runtime *rt = ts->runtime ? runtime_of(bpf_get_current_pid_tgid() >> 32) : NULL;

	if (!rt)
		return false;
	logical_read(task, rt, l);
	return l->known;
}

static __always_inline void goroutine_reads(struct ws_token *tok, struct logical *l)
{
	struct object_key key = object_key(l->ctx);

	tok->kind = l->fiber;
	tok->by = l->ctx;
	bpf_map_update_elem(&bindings, &key, tok, BPF_ANY);
}

/*
 * Outside of contexts, on a descriptor that does not block. Who waits for whichever comes first reads for everybody:
 * gevent's hub, or a loop that has nothing to do with greenlets.
 */
static __always_inline void greenlet_reads(struct thread_state *ts, struct task_struct *task)
{
	struct ws_runtime *rt = runtime_of(bpf_get_current_pid_tgid() >> 32);
	struct object_key key = object_key(rt ? greenlet_now(task, rt) : 0);

	if (rt && !key.addr)
		rt->everybody = 1;
	if (!key.addr || key.addr == ts->hub)
		return;
	ts->tok.kind = WS_TOK_GREENLET;
	ts->tok.by = key.addr >> 4;
	bpf_map_update_elem(&bindings, &key, &ts->tok, BPF_ANY);
}

static APART void greenlet_waits(struct thread_state *ts)
{
	struct ws_runtime *rt = runtime_of(bpf_get_current_pid_tgid() >> 32);
	struct object_key key = object_key(rt ? greenlet_now(task_current(), rt) : 0);

	if (!key.addr)
		return;
	ts->hub = key.addr;
	bpf_map_delete_elem(&bindings, &key);
}

/*
 * An answer was read in another context than the one that asked: by the connection's own callback, whose context is a
 * copy of the dialler's. What that starts may be for whoever waited for the connection. One that asked in a callback of
 * its own may be gone, and the other be where it was.
 */
static __always_inline void answer_read(struct thread_state *ts, struct task_struct *task, struct sock_state *st)
{
	struct ws_token *bound;
	struct object_key key;
	struct logical l;

	if (!thread_logical(ts, task, &l) || l.fiber || !l.ctx)
		return;
	key = object_key(l.ctx);
	bound = bpf_map_lookup_elem(&bindings, &key);
	if (bound && (st->writer.ctx != l.ctx || st->writer.number != bound->context))
		bpf_map_delete_elem(&bindings, &key);
}

/* Bytes were read, and ts->tok is theirs if `work`: a connection that this process accepted brought them. */
static APART void context_reads(struct thread_state *ts, struct task_struct *task, struct sock_state *st, bool work)
{
	struct logical l;

	ts->work_read = work;
	ts->window = 0;
	if (!work) {
		if (st->role == WS_ROLE_CLIENT)
			answer_read(ts, task, st);
		return;
	}
	ts->tok_ctx = 0;
	if (!thread_logical(ts, task, &l))
		return;
	if (l.fiber) {
		goroutine_reads(&ts->tok, &l);
		return;
	}
	ts->window = l.ctx;
	ts->tok_ctx = l.ctx;
	family_reads(ts, family_of(ts->stream ? ts->stream : l.ctx));
	if (!l.ctx && ts->tok.flags & WS_TOKEN_NONBLOCK)
		greenlet_reads(ts, task);
}

/* libuv: who asks is kept with the connection. Two that ask before the first is answered are not told apart. */
static __always_inline void turn_asks(struct sock_state *st, const struct ws_token *tok, bool begins)
{
	if (st->role != WS_ROLE_CLIENT)
		return;
	if (begins)
		st->dial = *tok;
	else if (st->dial.sock != tok->sock)
		st->dial.sock = 0;
}

/* An answer was read: whoever had asked goes on. */
static __always_inline void turn_goes_on(struct thread_state *ts, struct sock_state *st)
{
	ts->tok = st->dial;
	ts->tok.kind = WS_TOK_TURN;
	ts->tok.flags |= WS_TOKEN_ITEM;
	__builtin_memcpy(ts->tok.heirs, &st->id, sizeof(st->id));
}

/* Has the thread pool something to do for this request that an earlier turn of its gave it? */
static __always_inline void turn_look(struct thread_state *ts, struct ws_token *tok)
{
	__u64 sock = tok->sock;
	struct turn_work *w = sock ? bpf_map_lookup_elem(&turn_works, &sock) : NULL;

	tok->flags &= ~WS_TOKEN_PENDING;
	if (w && w->pos == tok->pos && w->given > (w->turn == ts->turns ? w->lately : 0))
		tok->flags |= WS_TOKEN_PENDING;
}

/* Timers, and what else runs outside of a stream's callback, is nobody's. */
static __always_inline void turn_writes(struct thread_state *ts, struct ws_token *tok, bool dials)
{
	if (ts->late && !dials)
		*tok = ts->flush;
	else if (!ts->turn)
		tok->sock = 0;
	else
		turn_look(ts, tok);
	ts->late = 0;
	tok->kind = WS_TOK_TURN;
}

/* Of a thread whose reads do not block, or that has read nothing. */
static __always_inline void greenlet_writes(struct thread_state *ts, struct ws_token *tok)
{
	struct ws_runtime *rt = runtime_of(bpf_get_current_pid_tgid() >> 32);
	struct ws_token *bound = rt ? greenlet_work(rt) : NULL;

	if (bound && bound->sock) {
		*tok = *bound;
	} else if (tok->kind == WS_TOK_GREENLET) { /* what another one has read */
		tok->sock = 0;
		tok->kind = WS_TOK_THREAD;
	}
}

/* Whose work writes, or dials? Leaves `tok` alone where the thread is the context. */
static APART void context_writes(struct thread_state *ts, struct task_struct *task, struct writer *writer,
				 struct ws_token *tok, bool dials)
{
	struct logical l;

	if (ts->runtime == WS_RT_LIBUV) {
		turn_writes(ts, tok, dials);
		return;
	}
	if (ts->flushing) {
		*tok = ts->flush;
		return;
	}
	if (!thread_logical(ts, task, &l))
		return;
	writer->ctx = l.ctx;
	writer->number = 0;
	if (!l.ctx) {
		if (!tok->sock || tok->kind == WS_TOK_GREENLET || tok->flags & WS_TOKEN_NONBLOCK)
			greenlet_writes(ts, tok);
		return;
	}
	if (ts->tok_ctx == l.ctx && tok->kind == WS_TOK_THREAD && !(tok->flags & WS_TOKEN_NONBLOCK))
		return;
	if (work_now(ts, &l, tok)) {
		writer->number = tok->context;
		return;
	}
	/* Since 3.14 a thread that was made in a request begins in a context of its own, which nothing is bound to. */
	if (tok->kind == WS_TOK_PROVISIONAL)
		return;
	tok->sock = 0;
	tok->kind = l.fiber ? l.fiber : WS_TOK_CONTEXT;
}

#endif
