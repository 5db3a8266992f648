// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * libuv's turns, in programs that carry its symbols (Node.js): a stream's callback runs from the entry of
 * uv__stream_io to its return. Timers, immediates and wake-ups run outside of that, for nobody that is known. Work
 * that was given to the thread pool comes back under the address of its request.
 */
#include "runtime.bpf.h"

#define UV__WORK_SLOW_IO 2 /* libuv's src/uv-common.h, enum uv__work_kind */

static __always_inline struct thread_state *turn_thread(void)
{
	struct ws_runtime *rt = runtime_of(bpf_get_current_pid_tgid() >> 32);

	return rt && rt->kind == WS_RT_LIBUV ? thread_state(task_current()) : NULL;
}

static __always_inline void begin_turn(struct thread_state *ts)
{
	ts->turn = 1;
	ts->turns++;
	ts->tok.sock = 0;
}

/* uv__stream_io: nothing has been read in this turn yet. */
SEC("uprobe")
int rt_turn_begin(struct pt_regs *regs)
{
	struct thread_state *ts = turn_thread();

	if (ts) {
		begin_turn(ts);
		ts->late = 0;
	}
	return 0;
}

/* uv__stream_io or uv__work_done has returned. */
SEC("uretprobe")
int rt_turn_end(struct pt_regs *regs)
{
	struct thread_state *ts = thread_state_now();

	if (ts) {
		ts->turn = 0;
		if (ts->tok.kind == WS_TOK_TURN)
			ts->tok.sock = 0;
	}
	return 0;
}

/* One more that this request waits for. */
static __always_inline void give_work(const struct thread_state *ts)
{
	struct turn_work one = { .pos = ts->tok.pos, .turn = ts->turns, .given = 1, .lately = 1 };
	__u64 sock = ts->tok.sock;
	struct turn_work *w = bpf_map_lookup_elem(&turn_works, &sock);

	if (!w || w->pos != one.pos) {
		bpf_map_update_elem(&turn_works, &sock, &one, BPF_ANY);
		return;
	}
	if (w->turn != one.turn)
		w->lately = 0;
	w->turn = one.turn;
	w->given++;
	w->lately++;
}

/* One less. Of which turn is not known: of an earlier one, if there is one. */
static __always_inline void take_work(const struct ws_token *tok)
{
	__u64 sock = tok->sock;
	struct turn_work *w = bpf_map_lookup_elem(&turn_works, &sock);

	if (!w || w->pos != tok->pos || !w->given)
		return;
	w->given--;
	if (w->lately > w->given)
		w->lately = w->given;
}

/*
 * uv__work_submit(loop, request, kind, …): the thread pool's, on behalf of this turn. Looking up a name is mostly the
 * beginning of a call, which is counted when it is made.
 */
SEC("uprobe")
int rt_turn_submit(struct pt_regs *regs)
{
	struct object_key key = object_key(PT_REGS_PARM2(regs));
	int kind = (int)PT_REGS_PARM3(regs);
	struct thread_state *ts = turn_thread();

	if (!key.addr)
		return 0;
	if (!ts || !ts->turn || !ts->tok.sock) {
		bpf_map_delete_elem(&items, &key);
		return 0;
	}
	ts->tok.flags &= ~WS_TOKEN_PENDING;
	if (kind != UV__WORK_SLOW_IO) {
		ts->tok.flags |= WS_TOKEN_PENDING; /* counted */
		give_work(ts);
	}
	bpf_map_update_elem(&items, &key, &ts->tok, BPF_ANY);
	return 0;
}

/* What uv__work_done calls for each request that is done: argument 1 is the request. */
SEC("uprobe")
int rt_turn_done(struct pt_regs *regs)
{
	struct object_key key = object_key(PT_REGS_PARM1(regs));
	struct thread_state *ts = turn_thread();
	struct ws_token *tok;

	if (!ts)
		return 0;
	tok = bpf_map_lookup_elem(&items, &key);
	begin_turn(ts);
	if (tok) {
		if (tok->flags & WS_TOKEN_PENDING)
			take_work(tok);
		ts->tok = *tok;
		ts->tok.flags |= WS_TOKEN_ITEM;
		bpf_map_delete_elem(&items, &key);
	}
	return 0;
}

/*
 * uv_ref: a connection that was idle is taken into use. Clients that look once more whether the peer has closed it
 * (undici, in a setImmediate()) write to it after the turn; nobody else's request can come in between.
 */
SEC("uprobe")
int rt_turn_ref(struct pt_regs *regs)
{
	struct object_key key = object_key(PT_REGS_PARM1(regs));
	struct thread_state *ts = turn_thread();

	if (ts && ts->turn && ts->tok.sock) {
		turn_look(ts, &ts->tok);
		bpf_map_update_elem(&writers, &key, &ts->tok, BPF_ANY);
	} else if (ts) {
		bpf_map_delete_elem(&writers, &key);
	}
	return 0;
}

/* uv_unref: it is idle again. */
SEC("uprobe")
int rt_turn_unref(struct pt_regs *regs)
{
	struct object_key key = object_key(PT_REGS_PARM1(regs));

	if (turn_thread())
		bpf_map_delete_elem(&writers, &key);
	return 0;
}

/* uv_try_write: the first write since is the one that it was taken for. */
SEC("uprobe")
int rt_turn_write(struct pt_regs *regs)
{
	struct object_key key = object_key(PT_REGS_PARM1(regs));
	struct thread_state *ts = turn_thread();
	struct ws_token *tok;

	if (!ts)
		return 0;
	ts->late = 0;
	tok = bpf_map_lookup_elem(&writers, &key);
	if (!tok)
		return 0;
	if (!ts->turn) {
		ts->flush = *tok;
		ts->flush.flags |= WS_TOKEN_ITEM;
		ts->late = 1;
	}
	bpf_map_delete_elem(&writers, &key);
	return 0;
}
