// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Go's edges: a goroutine starts another; net/http's server gives a request a context object, which calls come with
 * again; and its client hands a request to the goroutine that writes for its connection. Uprobes, planted by user/runtime
 * in programs that serve something. Nothing here returns: Go moves stacks.
 */
#include "goabi.bpf.h"
#include "runtime.bpf.h"

#define CONTEXT_DATA 8 /* of an interface: behind its type; contexts begin with the one that they are derived from */

/*
 * runtime.newproc puts a new goroutine (argument 2) into the run queue: it works on what its maker works on, if it
 * turns out to end with that. Timers start theirs on no goroutine's behalf.
 */
SEC("uprobe")
int rt_go_new(struct pt_regs *regs)
{
	struct object_key key = object_key(0);
	struct ws_token tok;
	struct caller c;

	if (!caller_read(&c) || !caller_work(&c, &tok) || tok.heirs[WS_HEIRS - 1])
		return 0;
	key.addr = goroutine_id(GO_ARG2(regs), c.rt);
	if (!key.addr)
		return 0;
	if (tok.heirs[0])
		tok.heirs[1] = key.addr;
	else
		tok.heirs[0] = key.addr;
	bpf_map_update_elem(&bindings, &key, &tok, BPF_ANY);
	return 0;
}

static __always_inline void goroutine_ended(__u32 number)
{
	struct ws_ev_proc *e;

	e = ev_reserve(sizeof(*e));
	if (!e)
		return;
	__builtin_memset(e, 0, sizeof(*e));
	ev_init(&e->ev, WS_EV_PROC, sizeof(*e));
	e->tgid = bpf_get_current_pid_tgid() >> 32;
	e->tid = number;
	e->what = WS_PROC_GOROUTINE_EXIT;
	ev_submit(e, wake_flags(sizeof(*e)));
}

/* runtime.goexit0: the current goroutine is over. */
SEC("uprobe")
int rt_go_exit(struct pt_regs *regs)
{
	struct object_key key;
	struct ws_token *tok;
	struct caller c;
	bool used;

	if (!caller_read(&c))
		return 0;
	key = object_key(c.l.ctx);
	tok = bpf_map_lookup_elem(&bindings, &key);
	if (!tok)
		return 0;
	used = tok->flags & WS_TOKEN_USED;
	bpf_map_delete_elem(&bindings, &key);
	if (used)
		goroutine_ended(key.addr);
	return 0;
}

/*
 * serverHandler.ServeHTTP: argument 4 is the request that this goroutine has read. Whatever is derived from its context
 * object leads back to that, in whose hands soever. The object lives while the request is served, and its place is
 * used again: what it is derived from (the connection's) tells the two apart, and is kept where heirs would be.
 */
SEC("uprobe")
int rt_go_serve(struct pt_regs *regs)
{
	struct object_key key = object_key(0);
	struct ws_token tok;
	struct caller c;
	__u64 parent;

	if (!caller_read(&c) || !caller_work(&c, &tok) || tok.kind != WS_TOK_GOROUTINE || tok.heirs[0])
		return 0;
	key.addr = user_word(GO_ARG4(regs) + c.rt->go.ctx + CONTEXT_DATA);
	parent = key.addr ? user_word(key.addr + CONTEXT_DATA) : 0;
	if (!parent)
		return 0;
	tok.kind = WS_TOK_CARRIED;
	__builtin_memcpy(tok.heirs, &parent, sizeof(parent));
	bpf_map_update_elem(&bindings, &key, &tok, BPF_ANY);
	return 0;
}

/*
 * Contexts of the standard library begin with the one that they are derived from (context.cancelCtx, valueCtx,
 * timerCtx, withoutCancelCtx, stopCtx): an interface, whose first word leads to the interface's type. Where that is
 * another one the chain ends: a type that keeps its parent elsewhere. The outermost request counts.
 */
#define GO_CONTEXTS_MAX 16

/* Does the object still have the parent that it had then? */
static __always_inline bool is_same_context(const struct ws_token *bound, __u64 addr)
{
	__u64 parent;

	__builtin_memcpy(&parent, bound->heirs, sizeof(parent));
	return bound->kind == WS_TOK_CARRIED && user_word(addr + CONTEXT_DATA) == parent;
}

static __always_inline bool carried_work(__u64 at, struct ws_token *tok)
{
	__u64 type = user_word(user_word(at));
	bool found = false;

#pragma unroll
	for (int i = 0; i < GO_CONTEXTS_MAX; i++) {
		struct object_key key = object_key(user_word(at + CONTEXT_DATA));
		struct ws_token *bound;

		if (!type || !key.addr || user_word(user_word(at)) != type)
			break;
		bound = bpf_map_lookup_elem(&bindings, &key);
		if (bound && is_same_context(bound, key.addr)) {
			*tok = *bound;
			__builtin_memset(tok->heirs, 0, sizeof(tok->heirs));
			found = true;
		}
		at = key.addr;
	}
	return found;
}

/* (*persistConn).roundTrip: the next request on that connection is argument 2's, which begins with its http.Request. */
SEC("uprobe")
int rt_go_round_trip(struct pt_regs *regs)
{
	struct object_key key = object_key(GO_ARG1(regs));
	struct ws_token tok;
	struct caller c;

	if (!caller_read(&c))
		return 0;
	if (carried_work(user_word(GO_ARG2(regs)) + c.rt->go.ctx, &tok) || caller_work(&c, &tok))
		bpf_map_update_elem(&writers, &key, &tok, BPF_ANY);
	else
		bpf_map_delete_elem(&writers, &key);
	return 0;
}

/* persistConnWriter.Write: whatever goroutine this is, and whoever it was started for, it writes for that caller. */
SEC("uprobe")
int rt_go_write(struct pt_regs *regs)
{
	struct object_key conn = object_key(GO_ARG1(regs)), key;
	struct ws_token *tok;
	struct caller c;

	if (!caller_read(&c))
		return 0;
	key = object_key(c.l.ctx);
	tok = bpf_map_lookup_elem(&writers, &conn);
	if (tok)
		bpf_map_update_elem(&bindings, &key, tok, BPF_ANY);
	else
		bpf_map_delete_elem(&bindings, &key);
	return 0;
}
