/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* CPython's objects as its probes read them, and how work changes hands there. */
#ifndef WS_PYTHON_BPF_H
#define WS_PYTHON_BPF_H

#include "runtime.bpf.h"

/* Include/cpython: object.h, unicodeobject.h, classobject.h; Modules/_functoolsmodule.c. Equal from 3.8 to 3.14. */
#define OB_TYPE 8
#define TYPE_NAME 24	/* PyTypeObject.tp_name */
#define TYPE_DOC 176	/* PyTypeObject.tp_doc */
#define STR_LENGTH 16	/* PyASCIIObject.length */
#define METHOD_FUNC 16	/* PyMethodObject.im_func */
#define PARTIAL_FUNC 16 /* partialobject.fn */
#define PARTIAL_ARGS 24 /* partialobject.args, a tuple */

/* Where the name of an object's type is. */
static __always_inline __u64 type_name(__u64 object)
{
	return user_word(user_word(object + OB_TYPE) + TYPE_NAME);
}

/* The first eight bytes of it. */
static __always_inline __u64 type_of(__u64 object)
{
	return user_word(type_name(object));
}

/* Modules/_collectionsmodule.c, equal from 3.8 to 3.14: dequeobject.ob_size, .leftblock, .leftindex; block.data */
#define DEQUE_SIZE 16
#define DEQUE_LEFT 24
#define DEQUE_INDEX 40
#define BLOCK_DATA 8
#define BLOCK_LEN 64
#define TYPE_DEQUE 0x697463656c6c6f63ull /* "collecti", of collections.deque */

/* The first item of what may be a deque. 0: none, or it is none. */
static __always_inline __u64 first_of(__u64 deque)
{
	__u64 index;

	if (!deque || deque & 7 || type_of(deque) != TYPE_DEQUE || !user_word(deque + DEQUE_SIZE))
		return 0;
	index = user_word(deque + DEQUE_INDEX);
	return index < BLOCK_LEN ? user_word(user_word(deque + DEQUE_LEFT) + BLOCK_DATA + 8 * index) : 0;
}

/* ---- hand-overs ----------------------------------------------------------------------------------- */

/* Which connection that runs for, where it works on nothing: uvloop tells them apart by their streams. */
static __always_inline __u64 caller_made_for(const struct caller *c)
{
	return family_of(c->ts && c->ts->stream ? c->ts->stream : c->l.ctx);
}

/*
 * Does this read hand its request over to the context that it wakes? To the connection's own, if that works on nothing
 * yet, or was woken by it before. A context that was copied while a request was read has that to work on. One that works
 * for another connection is told something; and if that was woken, it takes its work from wherever it comes.
 */
static __always_inline bool takes_over(struct ws_token *bound, const struct ws_token *tok)
{
	if (bound->sock == tok->sock)
		return (bound->flags & (WS_TOKEN_WOKEN | WS_TOKEN_SHARED)) == WS_TOKEN_WOKEN;
	if (bound->flags & WS_TOKEN_WOKEN)
		bound->flags |= WS_TOKEN_SHARED;
	return false;
}

/*
 * A context takes over what was read, in a callback that belongs to `family`. Where neither of the two was seen to
 * begin (those of before) it may be a task for everybody.
 */
static __always_inline void context_takes(const struct object_key *key, struct ws_token *tok, __u64 family)
{
	struct ws_token *bound = bpf_map_lookup_elem(&bindings, key);

	if (bound && bound->sock) {
		if (!takes_over(bound, tok))
			return;
		tok->flags |= bound->flags & WS_TOKEN_UNSURE;
	} else {
		if (family != (bound ? bound->pos : 0))
			return;
		tok->flags |= family ? 0 : WS_TOKEN_UNSURE;
	}
	tok->flags |= WS_TOKEN_WOKEN;
	tok->context = 0;
	tok->by = key->addr >> 4;
	bpf_map_update_elem(&bindings, key, tok, BPF_ANY);
}

/* Whatever this context works on, it does no longer. */
static __always_inline void forget_context(__u64 ctx)
{
	struct object_key key = object_key(ctx);

	if (ctx)
		bpf_map_delete_elem(&bindings, &key);
}

/* A worker has got what is carried in `q`, in context `ctx`; NULL: something that nobody followed. */
static __always_inline void thread_takes(struct thread_state *ts, const struct queued *q, __u64 ctx)
{
	if (q) {
		ts->tok = q->tok;
		ts->tok_ctx = ctx;
		ts->window = 0;
	} else if (ts->tok.flags & WS_TOKEN_ITEM || ts->tok.kind == WS_TOK_PROVISIONAL) {
		ts->tok.sock = 0;
	}
}

#endif
