// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Sockets that nobody else tells of: those that were there before, and AF_UNIX ones that are gone.
 *
 * What was there before: every open file of every task, so that sockets of all network
 * namespaces are found (iter/tcp sees one namespace only). Run twice: listeners first, because the
 * role of a connection follows from them.
 */
#define WS_BTF_SHELL
#include "state.bpf.h"

volatile __u32 iter_pass; /* 1: listeners, 2: connections, 3: those of one process, not told; user space sets it before each run */

static __always_inline void seq_sock(struct seq_file *seq, struct sock *sk, struct sock_state *st, __u32 tgid)
{
	struct ws_ev_sock e;

	sock_fill(&e, sk, st, 0);
	e.tgid = tgid; /* a listener is told once per process that has it: workers inherit it */
	if (bpf_seq_write(seq, &e, sizeof(e)))
		return; /* no room: the iterator shows this socket again */
	st->announced = 1;
	count(WS_K_IN, 1);
	count(WS_K_OUT, 1);
}

static __always_inline struct sock *file_sock(struct file *file)
{
	struct socket *socket;

#ifdef WS_LEGACY
	/* bpf_sock_from_file: 5.11, commit 4f19cab76136 */
	if ((KREAD(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	socket = KREAD(file, private_data);
	return socket ? KREAD(socket, sk) : NULL;
#else
	socket = bpf_sock_from_file(file);
	return socket ? socket->sk : NULL;
#endif
}

SEC("iter/task_file")
int existing_sockets(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct sock_state *st;
	struct sock *sk;
	bool listening;

	if (!task || !file)
		return 0;
	sk = file_sock(file);
	if (!sk || !sock_is_stream(sk))
		return 0;
	listening = KREAD(sk, __sk_common.skc_state) == TCP_LISTEN; /* AF_UNIX uses the same number */
	if (listening != (iter_pass == 1))
		return 0;
	if (!listening && (KREAD(sk, __sk_common.skc_state) != TCP_ESTABLISHED || !flags_traced(proc_flags(task->tgid))))
		return 0;
	if (iter_pass == 3 && counted_whole(task->tgid)) /* it runs another program by now, which was seen from its start */
		return 0;
	st = sock_state(sk, true);
	if (!st || (st->announced && !listening))
		return 0;
	if (!st->id)
		sock_init(sk, st, (__u64)task->tgid << 32 | task->pid);
	st->born = 0;
	if (iter_pass == 3)
		return 0;
	if (listening && !st->announced) {
		st->role = WS_ROLE_LISTENER;
		if (st->family != AF_UNIX) {
			struct listen_key key = { .netns = sock_netns(sk), .port = KREAD(sk, __sk_common.skc_num) };
			__s64 *have = bpf_map_lookup_elem(&listeners, &key), one = 1;

			if (have)
				__sync_fetch_and_add(have, 1);
			else
				bpf_map_update_elem(&listeners, &key, &one, BPF_ANY);
			listener_known(sk, st);
		}
	}
	seq_sock(ctx->meta->seq, sk, st, task->tgid);
	return 0;
}

/* False: no room. The next sweep tells it. */
static __always_inline bool emit_gone(__u64 id)
{
	struct ws_ev_state *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return false;
	ev_init(&e->ev, WS_EV_STATE, sizeof(*e));
	e->sock = id;
	e->tgid = e->tid = 0;
	e->state = WS_SS_ABANDONED; /* its peer's end tells whether that came first */
	e->err = 0;
	e->pad = 0;
	e->tx_pos = 0;
	count(WS_K_IN, 1);
	count(WS_K_OUT, 1);
	bpf_ringbuf_submit(e, wake_flags(sizeof(*e)));
	return true;
}

/* The memory behind a key may be anybody's: it is read through a helper, and only ever compared. */
SEC("iter/bpf_map_elem")
int gone_sockets(struct bpf_iter__bpf_map_elem *ctx)
{
	struct unix_ref *v = ctx->value, *again, r;
	struct sock_state *st;
	struct sock *sk;

	if (!ctx->key || !v)
		return 0;
	r.key = v->key;
	r.ino = v->ino;
	r.id = v->id;
	sk = (struct sock *)r.key;
	if (BPF_CORE_READ(sk, sk_socket, file, f_inode, i_ino) == r.ino)
		return 0;
	/* The element may have been used again while it was copied. */
	again = bpf_map_lookup_elem(&unix_socks, &r.key);
	if (!again || again->key != r.key || again->ino != r.ino || again->id != r.id || !emit_gone(r.id))
		return 0;
	bpf_map_delete_elem(&unix_socks, &r.key);
	if (cfg.sk_storage)
		return 0;
	st = bpf_map_lookup_elem(&sock_states, &r.key);
	if (st && st->id == r.id)
		bpf_map_delete_elem(&sock_states, &r.key);
	return 0;
}
