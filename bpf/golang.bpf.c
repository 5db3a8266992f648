// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Go's edges: a goroutine starts another, and net/http's client hands a request to the goroutine that writes for its
 * connection. Uprobes, planted by user/runtime in programs that serve something. Nothing here returns: Go moves stacks.
 *
 * Arguments come in registers (ABIInternal, Go 1.17 and later).
 */
#include "runtime.bpf.h"

#if defined(__TARGET_ARCH_arm64)
#define GO_ARG1(regs) (((struct user_pt_regs *)(regs))->regs[0])
#define GO_ARG2(regs) (((struct user_pt_regs *)(regs))->regs[1])
#else
#define GO_ARG1(regs) ((regs)->ax)
#define GO_ARG2(regs) ((regs)->bx)
#endif

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

/* (*persistConn).roundTrip: the next request on that connection is the caller's. */
SEC("uprobe")
int rt_go_round_trip(struct pt_regs *regs)
{
	struct object_key key = object_key(GO_ARG1(regs));
	struct ws_token tok;
	struct caller c;

	if (!caller_read(&c))
		return 0;
	if (caller_work(&c, &tok))
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
