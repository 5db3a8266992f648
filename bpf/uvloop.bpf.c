// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * uvloop: a CPython event loop that reads before it enters the stream's context, and writes after it has left the
 * caller's (uvloop/handles/stream.pyx). Probes at its read callback and around its deferred writes put that right. All
 * connections of a server share one context: which of them a task was made for is told by the stream whose callback runs.
 */
#include "runtime.bpf.h"

#define UV_STREAM_WORDS 48

struct find_context {
	__u64 obj, type;
	__u32 at;
};

static __always_inline bool is_context(__u64 addr, __u64 type)
{
	__u64 t = 0;

	return addr && !(addr & 7) && !bpf_probe_read_user(&t, sizeof(t), (void *)(addr + 8)) && t == type;
}

static long find_context_step(__u32 i, void *ctx)
{
	struct find_context *f = ctx;
	__u64 word = 0;

	if (bpf_probe_read_user(&word, sizeof(word), (void *)(f->obj + 8 * i)))
		return 1;
	if (!is_context(word, f->type))
		return 0;
	f->at = 8 * i;
	return 1;
}

/* The context in which a stream's callbacks run, 0: not found. Where a UVStream keeps it is looked for once a process. */
static __always_inline __u64 stream_context(struct ws_runtime *rt, __u64 obj)
{
	__u64 addr = 0;

	if (!rt->py.uv_context) {
		struct find_context f = { .obj = obj, .type = rt->py.context_type };

		LOOP(UV_STREAM_WORDS, find_context_step, &f);
		rt->py.uv_context = f.at;
	}
	if (!rt->py.uv_context || bpf_probe_read_user(&addr, sizeof(addr), (void *)(obj + rt->py.uv_context)))
		return 0;
	return is_context(addr, rt->py.context_type) ? addr : 0;
}

/* The read callback begins: until it returns, what it runs in the stream's context is about what was just read. */
SEC("uprobe")
int rt_uv_read(struct pt_regs *regs)
{
	struct ws_runtime *rt = runtime_of(bpf_get_current_pid_tgid() >> 32);
	struct thread_state *ts;
	__u64 obj = 0, addr;

	if (!rt || bpf_probe_read_user(&obj, sizeof(obj), (void *)PT_REGS_PARM1(regs)) || !obj)
		return 0;
	addr = stream_context(rt, obj);
	ts = thread_state_now();
	if (!ts)
		return 0;
	ts->window = ts->work_read ? addr : 0;
	ts->stream = obj;
	if (ts->work_read)
		family_reads(ts, family_of(obj));
	if (!ts->work_read && addr) { /* an answer: see answer_read() */
		struct object_key key = object_key(addr);

		bpf_map_delete_elem(&bindings, &key);
	}
	return 0;
}

SEC("uretprobe")
int rt_uv_read_done(struct pt_regs *regs)
{
	struct thread_state *ts = thread_state_now();

	if (ts) {
		ts->work_read = 0;
		ts->window = 0;
		ts->stream = 0;
	}
	return 0;
}

/* A connection's protocol is told of it: what is made there is of this connection, as long as nothing else is said of it. */
SEC("uprobe")
int rt_uv_made(struct pt_regs *regs)
{
	struct object_key key = object_key(PT_REGS_PARM1(regs));
	struct ws_token family = { .pos = bpf_ktime_get_ns() };
	struct thread_state *ts;

	if (!key.addr || !runtime_of(key.tgid))
		return 0;
	ts = thread_state(task_current());
	if (!ts)
		return 0;
	ts->stream = key.addr;
	bpf_map_update_elem(&bindings, &key, &family, BPF_ANY);
	return 0;
}

SEC("uretprobe")
int rt_uv_made_done(struct pt_regs *regs)
{
	struct thread_state *ts = thread_state_now();

	if (ts)
		ts->stream = 0;
	return 0;
}

/* UVStream._initiate_write: the transport holds back bytes that the running context has given it. */
SEC("uprobe")
int rt_uv_write(struct pt_regs *regs)
{
	struct ws_runtime *rt = runtime_of(bpf_get_current_pid_tgid() >> 32);
	struct object_key key = object_key(PT_REGS_PARM1(regs));
	struct ws_token tok = { .kind = WS_TOK_CONTEXT }, *held;
	struct logical l;

	if (!rt || !key.addr)
		return 0;
	logical_read(task_current(), rt, &l);
	if (!work_now(thread_state_now(), &l, &tok)) {
		tok.sock = 0;
		tok.kind = WS_TOK_CONTEXT;
	}
	held = bpf_map_lookup_elem(&writers, &key);
	if (held && (held->sock != tok.sock || held->pos != tok.pos))
		tok.sock = 0; /* two pieces of work leave in one write */
	bpf_map_update_elem(&writers, &key, &tok, BPF_ANY);
	return 0;
}

/* UVStream._exec_write: what is sent until it returns is the transport's. */
SEC("uprobe")
int rt_uv_flush(struct pt_regs *regs)
{
	struct object_key key = object_key(PT_REGS_PARM1(regs));
	struct thread_state *ts;
	struct ws_token *held;

	if (!runtime_of(key.tgid))
		return 0;
	ts = thread_state(task_current());
	if (!ts)
		return 0;
	held = bpf_map_lookup_elem(&writers, &key);
	if (held) {
		ts->flush = *held;
		bpf_map_delete_elem(&writers, &key);
	} else {
		ts->flush.sock = 0;
		ts->flush.kind = WS_TOK_CONTEXT;
	}
	ts->flushing = 1;
	return 0;
}

SEC("uretprobe")
int rt_uv_flushed(struct pt_regs *regs)
{
	struct thread_state *ts = thread_state_now();

	if (ts)
		ts->flushing = 0;
	return 0;
}
