// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * CPython's edges: where one context's work becomes another's. Uprobes, planted by user/runtime in processes that
 * serve something; none runs per coroutine step. The GIL is held at each: the current context is the caller's.
 */
#include "python.bpf.h"

/*
 * Contexts are numbered by when they were made, in steps of 64 ns: two of one process are not made in one, and user
 * space forgets a number before it comes again (after 137 seconds).
 */
#define CONTEXT_NUMBER_SHIFT 5

/* What a copy of the caller's context belongs to, if that works on nothing. */
static __always_inline bool caller_family(const struct caller *c, struct ws_token *tok)
{
	if (!c->l.ctx)
		return false;
	__builtin_memset(tok, 0, sizeof(*tok));
	tok->pos = c->ts && !c->ts->stream && c->ts->acceptor == c->l.ctx ? bpf_ktime_get_ns() : caller_made_for(c);
	return tok->pos != 0;
}

/* A context that is made now has read nothing, whichever read there before in another with its address. */
static __always_inline void forget_window(struct thread_state *ts, __u64 made)
{
	if (ts && ts->window == made)
		ts->window = 0;
}

/* PyContext_CopyCurrent has returned a context: it works on what its maker works on, whatever had that address before. */
SEC("uretprobe")
int rt_context_copied(struct pt_regs *regs)
{
	struct object_key key = object_key(PT_REGS_RC(regs));
	struct ws_token tok;
	struct caller c;

	if (!key.addr || !caller_read(&c))
		return 0;
	if (caller_work(&c, &tok)) {
		tok.context = (__u32)(bpf_ktime_get_ns() >> CONTEXT_NUMBER_SHIFT) | 1;
		bpf_map_update_elem(&bindings, &key, &tok, BPF_ANY);
	} else if (caller_family(&c, &tok)) {
		bpf_map_update_elem(&bindings, &key, &tok, BPF_ANY);
	} else {
		bpf_map_delete_elem(&bindings, &key);
	}
	forget_window(c.ts, key.addr);
	return 0;
}

/* A library is imported with which contexts mislead (user/runtime/hazards.c): from here on they are not believed. */
SEC("uprobe")
int rt_hazard(struct pt_regs *regs)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;

	bpf_map_delete_elem(&runtimes, &tgid);
	return 0;
}

/* An empty context works on nothing. */
SEC("uretprobe")
int rt_context_made(struct pt_regs *regs)
{
	struct object_key key = object_key(PT_REGS_RC(regs));

	if (!key.addr || !runtime_of(key.tgid))
		return 0;
	bpf_map_delete_elem(&bindings, &key);
	forget_window(thread_state_now(), key.addr);
	return 0;
}

/*
 * _asyncio.Future.set_result: in the callback that read a request it wakes the task that waits for it (servers with
 * one long-lived task per connection), which then works on that. Anywhere else it wakes a task that has its own work.
 */
SEC("uprobe")
int rt_future_result(struct pt_regs *regs)
{
	struct object_key key = object_key(0);
	struct ws_token tok;
	struct caller c;

	if (!caller_read(&c) || !c.rt->py.fut_context)
		return 0;
	if (bpf_probe_read_user(&key.addr, sizeof(key.addr), (void *)(PT_REGS_PARM1(regs) + c.rt->py.fut_context)) || !key.addr)
		return 0;
	if (!c.l.ctx || !c.ts || c.ts->window != c.l.ctx || !caller_work(&c, &tok))
		return 0;
	context_takes(&key, &tok, caller_made_for(&c));
	return 0;
}

/*
 * concurrent.futures.thread._WorkItem: made for one piece of work, and run by whoever gets it. Anything else in such a
 * queue may be a bell, the same object for everybody, or something that is only looked at.
 */
#define TYPE_WORK_ITEM 0x6574496b726f575full /* "_WorkIte" */
#define TYPE_WORK_ITEM_REST 'm'

static __always_inline bool is_work_item(__u64 item)
{
	__u64 name = type_name(item);

	return user_word(name) == TYPE_WORK_ITEM && (__u16)user_word(name + 8) == TYPE_WORK_ITEM_REST;
}

static __always_inline int put_item(__u64 item)
{
	struct object_key key = object_key(item);
	struct queued q = { .since = bpf_ktime_get_ns() };
	struct caller c;

	if (!item || !caller_read(&c))
		return 0;
	if (!is_work_item(item) || !caller_work(&c, &q.tok)) {
		bpf_map_delete_elem(&items, &key);
		return 0;
	}
	q.tok.flags |= WS_TOKEN_ITEM;
	q.tok.context = 0;
	bpf_map_update_elem(&items, &key, &q, BPF_ANY);
	return 0;
}

/* _queue.SimpleQueue.put(item): what executors hand work items over with. */
SEC("uprobe")
int rt_queue_put(struct pt_regs *regs)
{
	return put_item(user_word(PT_REGS_PARM2(regs)));
}

/* gevent's, which takes its place: the C function behind the method. */
SEC("uprobe")
int rt_greenlet_put(struct pt_regs *regs)
{
	return put_item(PT_REGS_PARM2(regs));
}

#define TYPE_FUNCTION 0x6e6f6974636e7566ull /* "function" */
#define TYPE_METHOD 0x646f6874656dull	    /* "method" and its NUL; the last byte is not its own */
#define TYPE_PARTIAL 0x6c6f6f74636e7566ull  /* "functool", of functools.partial */
#define TYPE_BUILTIN 0x5f6e69746c697562ull  /* "builtin_", of builtin_function_or_method: Context.run, by asyncio.to_thread() */

/*
 * The name of the Python function that a work item runs, within methods and partial objects. Read while the item is
 * in the hands of the thread that runs it: nothing of it is freed. Whatever looks otherwise has no name. Only plain
 * ASCII strings have their characters where they are looked for: no others are as long as they say.
 */
static __always_inline void read_function(const struct ws_runtime *rt, __u64 item, char *name)
{
	__u64 fn = item, str;
	long n;

	for (int i = 0; i < 3; i++)
		fn = rt->py.item_fn[i] ? user_word(fn + (__s64)rt->py.item_fn[i]) : fn;
	for (int i = 0; i < 4 && fn; i++) {
		__u64 type = type_of(fn), inner;

		if (type == TYPE_FUNCTION) {
			str = user_word(fn + rt->py.qualname);
			n = bpf_probe_read_user_str(name, WS_FUNCTION_MAX, (void *)(str + rt->py.str_data));
			if (n < 1 || (n < WS_FUNCTION_MAX && (__u64)n - 1 != user_word(str + STR_LENGTH)))
				name[0] = '\0';
			return;
		}
		if (type << 8 == TYPE_METHOD << 8) {
			fn = user_word(fn + METHOD_FUNC);
		} else if (type == TYPE_PARTIAL) {
			inner = user_word(fn + PARTIAL_FUNC);
			if (type_of(inner) == TYPE_BUILTIN) /* what is called is its first argument */
				inner = user_word(user_word(fn + PARTIAL_ARGS) + rt->py.tuple_item);
			fn = inner;
		} else {
			return;
		}
	}
}

/* `q`: what begins, by which `item` of `rt`; or NULL: what had begun is over. */
static __always_inline void tell_work(struct thread_state *ts, const struct queued *q, const struct ws_runtime *rt, __u64 item)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct ws_ev_work *e;

	ts->working = q != NULL;
	e = ev_reserve(sizeof(*e));
	if (!e)
		return;
	__builtin_memset(e, 0, sizeof(*e));
	ev_init(&e->ev, WS_EV_WORK, sizeof(*e));
	e->tgid = pid_tgid >> 32;
	e->tid = (__u32)pid_tgid;
	e->what = q ? WS_WORK_BEGIN : WS_WORK_END;
	if (q) {
		e->queued_ns = q->since;
		e->token = q->tok;
		read_function(rt, item, e->function);
	}
	ev_submit(e, wake_flags(sizeof(*e)));
}

/* A worker asks for more: what it has done until now is done. Planted with --executor-spans only. */
SEC("uprobe")
int rt_queue_wait(struct pt_regs *regs)
{
	struct thread_state *ts = thread_state_now();

	if (ts && ts->working)
		tell_work(ts, NULL, NULL, 0);
	return 0;
}

/*
 * SimpleQueue.get() has returned an item: its thread works on that until the next. Since 3.14 threads run in a context of
 * their own, which may be a copy of whoever was the first to need them: what the item is about takes its place.
 */
SEC("uretprobe")
int rt_queue_got(struct pt_regs *regs)
{
	struct object_key key = object_key(PT_REGS_RC(regs));
	struct thread_state *ts;
	struct queued *q;
	struct caller c;

	if (!caller_read(&c))
		return 0;
	q = key.addr ? bpf_map_lookup_elem(&items, &key) : NULL;
	if (key.addr && (q || is_work_item(key.addr)))
		forget_context(c.l.ctx);
	ts = q ? thread_state(task_current()) : c.ts;
	if (!ts)
		return 0;
	if (q && cfg.work_events)
		tell_work(ts, q, c.rt, key.addr);
	thread_takes(ts, q, c.l.ctx);
	if (q)
		bpf_map_delete_elem(&items, &key);
	return 0;
}

#define STATE_WORDS 12 /* of greenlet's PythonState: where its frames were when it stopped is among them */

/*
 * greenlet's PythonState::did_finish(thread state): its frames are given back, and the next greenlet may have the same
 * place for its own. Without a thread state it will not go on from where it stopped.
 */
SEC("uprobe")
int rt_greenlet_end(struct pt_regs *regs)
{
	struct object_key key = object_key(0);
	struct ws_runtime *rt = runtime_of(key.tgid);
	__u64 state = PT_REGS_PARM1(regs);

	if (!rt)
		return 0;
	if (PT_REGS_PARM2(regs)) {
		key.addr = greenlet_now(task_current(), rt);
		bpf_map_delete_elem(&bindings, &key);
		return 0;
	}
	for (int i = 0; i < STATE_WORDS; i++) {
		key.addr = user_word(state + 8 * i) | 1;
		bpf_map_delete_elem(&bindings, &key);
	}
	return 0;
}

#define QUEUE_FROM 2 /* behind the object's head */
#define QUEUE_WORDS 12
/* That of its items, if it was followed there; 0: it was not. */
static __always_inline __u64 first_item(__u64 queue)
{
	struct object_key key = object_key(0);

	/* Unrolled: 5.10 knows no loop whose end falls through to its beginning, which is how compilers lay this one out. */
#pragma clang loop unroll(full)
	for (int i = QUEUE_FROM; i < QUEUE_WORDS; i++) {
		key.addr = first_of(user_word(queue + 8 * i));
		if (key.addr && bpf_map_lookup_elem(&items, &key))
			return key.addr;
	}
	return 0;
}

/* gevent's queue gives its first item to a greenlet: that works on it until it asks again. */
SEC("uprobe")
int rt_greenlet_get(struct pt_regs *regs)
{
	struct object_key item = object_key(0), key = item;
	struct ws_runtime *rt = runtime_of(key.tgid);
	struct ws_token *bound;
	struct queued *q;

	if (!rt)
		return 0;
	key.addr = greenlet_now(task_current(), rt);
	if (!key.addr)
		return 0;
	item.addr = first_item(PT_REGS_PARM1(regs));
	q = item.addr ? bpf_map_lookup_elem(&items, &item) : NULL;
	if (q) {
		bpf_map_update_elem(&bindings, &key, &q->tok, BPF_ANY);
		bpf_map_delete_elem(&items, &item);
		return 0;
	}
	bound = bpf_map_lookup_elem(&bindings, &key);
	if (bound && bound->flags & WS_TOKEN_ITEM)
		bpf_map_delete_elem(&bindings, &key);
	return 0;
}
