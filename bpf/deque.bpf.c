// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Work that waits in a collections.deque. Uprobes as in python.bpf.c, planted where a process has a use for them:
 * asyncio and threading have deques of their own, and pass here as well.
 *
 * Two kinds of items are followed, each put there by whoever has just read what it is about, and worked on by whoever
 * takes it. Anything else may be for everybody, or be taken out just to be looked at.
 */
#include "python.bpf.h"

/* waitress: a connection that has a request; a thread of its pool serves that, and asks for the next one. */
#define TYPE_CHANNEL 0x6e61684350545448ull /* "HTTPChan" */
#define TYPE_CHANNEL_REST 0x6c656eull	   /* "nel" and its NUL; the bytes behind are not its own */

/* Others may have a class of that name, and hand over many for one read: its documentation tells waitress' own. */
#define DOC_SETTING 0x20676e6974746553ull /* "Setting self.requests = …", behind a line feed */
#define DOC_SELF_REQ 0x7165722e666c6573ull
#define DOC_INDENT 4 /* before 3.13 */

static __always_inline bool is_channel(__u64 item)
{
	__u64 name = type_name(item), doc;

	if (user_word(name) != TYPE_CHANNEL || (__u32)user_word(name + 8) != TYPE_CHANNEL_REST)
		return false;
	doc = user_word(user_word(item + OB_TYPE) + TYPE_DOC) + 1;
	if ((user_word(doc) & 0xff) == ' ')
		doc += DOC_INDENT;
	return user_word(doc) == DOC_SETTING && user_word(doc + 8) == DOC_SELF_REQ;
}

/*
 * aiohttp: a request's head and its body's stream, for the task of the connection. That has more to do at the end of
 * the one before, and may not wait yet.
 */
#define TYPE_TUPLE 0x656c707574ull	   /* "tuple" */
#define TYPE_MESSAGE 0x6575716552776152ull /* "RawReque" */
#define TYPE_MODULE 0x2e707474686f6961ull  /* "aiohttp.", in the name of the type that is not written in Python */
#define MODULE_LEN 21			   /* "aiohttp._http_parser." */

static __always_inline bool is_message(const struct ws_runtime *rt, __u64 item)
{
	__u64 name, word;

	if ((type_of(item) & 0xffffffffffffull) != TYPE_TUPLE)
		return false;
	name = type_name(user_word(item + rt->py.tuple_item));
	word = user_word(name);
	return word == TYPE_MESSAGE || (word == TYPE_MODULE && user_word(name + MODULE_LEN) == TYPE_MESSAGE);
}

/* What a loop that has no contexts has read last, for whatever connection: it hands that on at once. */
static __always_inline bool read_for_another(const struct caller *c, struct ws_token *tok)
{
	if (c->l.ctx || !c->ts || !c->ts->work_read || !c->ts->tok.sock)
		return false;
	*tok = c->ts->tok;
	if (tok->kind != WS_TOK_THREAD || !(tok->flags & WS_TOKEN_NONBLOCK))
		return false;
	tok->kind = WS_TOK_CONTEXT;
	tok->flags |= WS_TOKEN_ITEM;
	return true;
}

/* deque.append(item) */
SEC("uprobe")
int rt_deque_put(struct pt_regs *regs)
{
	__u64 item = PT_REGS_PARM2(regs);
	struct object_key key = object_key(item);
	struct queued q = { .since = bpf_ktime_get_ns() };
	struct caller c;
	bool channel;

	if (!runtime_of(key.tgid))
		return 0;
	channel = is_channel(item);
	if (!caller_read(&c) || !(channel || is_message(c.rt, item)))
		return 0;
	if (channel ? read_for_another(&c, &q.tok) : c.l.ctx && c.ts && c.ts->window == c.l.ctx && caller_work(&c, &q.tok))
		bpf_map_update_elem(&items, &key, &q, BPF_ANY);
	else
		bpf_map_delete_elem(&items, &key);
	return 0;
}

/* The task of a connection takes up a request: it works on that from here on, whatever it did before. */
static __always_inline void message_taken(const struct caller *c, const struct queued *q)
{
	struct object_key key = object_key(c->l.ctx);
	struct ws_token tok = q->tok;

	if (!c->l.ctx)
		return;
	tok.flags |= WS_TOKEN_WOKEN | WS_TOKEN_TAKEN;
	tok.context = 0;
	tok.by = key.addr >> 4;
	bpf_map_update_elem(&bindings, &key, &tok, BPF_ANY);
}

static __always_inline void channel_taken(const struct caller *c, const struct queued *q)
{
	struct thread_state *ts = q ? thread_state(task_current()) : c->ts;

	forget_context(c->l.ctx);
	if (ts)
		thread_takes(ts, q, c->l.ctx);
}

/* deque.popleft() */
SEC("uprobe")
int rt_deque_got(struct pt_regs *regs)
{
	struct object_key key = object_key(0);
	struct queued *q;
	struct caller c;

	if (!runtime_of(key.tgid))
		return 0;
	key.addr = first_of(PT_REGS_PARM1(regs));
	if (!key.addr)
		return 0;
	q = bpf_map_lookup_elem(&items, &key);
	if (is_channel(key.addr)) {
		if (caller_read(&c))
			channel_taken(&c, q);
	} else if (q && caller_read(&c) && is_message(c.rt, key.addr)) {
		message_taken(&c, q);
	}
	if (q)
		bpf_map_delete_elem(&items, &key);
	return 0;
}
