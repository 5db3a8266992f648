// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Life of TCP sockets, in every attach plan: listening, dialling, the first and last byte. State
 * changes also come from the network (softirq): the running task is somebody else then, so whoever
 * dialled is kept in the socket's state.
 */
#define WS_BTF_SHELL
#include "runtime.bpf.h"

static __always_inline void listeners_add(struct sock *sk, __s64 n)
{
	struct listen_key key = { .netns = sock_netns(sk), .port = KREAD(sk, __sk_common.skc_num) };
	__s64 *have = bpf_map_lookup_elem(&listeners, &key), one = 1;

	if (have)
		__sync_fetch_and_add(have, n);
	else if (n > 0)
		bpf_map_update_elem(&listeners, &key, &one, BPF_ANY);
}

static __always_inline void on_listen(struct sock *sk)
{
	struct sock_state *st = sock_state(sk, true);

	if (!cfg.trace_all && is_undecided()) /* the process may be selected for this very port */
		trace_for_now();
	listeners_add(sk, 1);
	if (!st)
		return;
	sock_init(sk, st, bpf_get_current_pid_tgid());
	st->role = WS_ROLE_LISTENER;
	listener_known(sk, st);
	sock_announce(sk, st, 0);
}

static __always_inline void on_dial(struct sock *sk)
{
	struct task_struct *task = task_current();
	struct thread_state *ts;
	struct sock_state *st;

	if (KREAD(task, flags) & PF_KTHREAD)
		return;
	ts = thread_state(task);
	if (!ts || !flags_traced(ts->proc_flags))
		return;
	st = sock_state(sk, true);
	if (!st)
		return;
	sock_init(sk, st, bpf_get_current_pid_tgid());
	st->role = WS_ROLE_CLIENT;
	st->born = 1;
	st->dialled = 1;
	st->announced = 0;
	st->dial = ts->tok;
	ts->dial_sk = (__u64)sk;
	if (ts->runtime)
		context_writes(ts, task, &st->writer, &st->dial, true);
}

/*
 * A loop that gives up on a connection still waiting for its answer does so in a timer, which runs after
 * the turn's callbacks: what it dials next does not belong to the callback that ran last.
 */
static __always_inline void given_up(struct sock_state *st)
{
	struct thread_state *ts;

	if (st->role != WS_ROLE_CLIENT || !(st->awaiting || st->dialled))
		return;
	ts = thread_state_now();
	if (ts && (ts->proc_flags & WS_PROC_LOOP) && bpf_get_current_pid_tgid() >> 32 == st->tgid)
		ts->tok.sock = 0;
}

/* Nobody can use the session any more, but for another connection. */
static __always_inline void tls_forget(const struct sock_state *st)
{
	struct object_key key = { .addr = st->session, .tgid = st->tgid };
	struct tls_session *s = bpf_map_lookup_elem(&tls_sessions, &key);

	if (s && s->under == st->id)
		bpf_map_delete_elem(&tls_sessions, &key);
}

static __always_inline void on_close(struct sock *sk, struct sock_state *st, int old)
{
	__u64 pid_tgid = old == TCP_SYN_SENT ? (__u64)st->tgid << 32 | st->tid : 0;
	__u64 key = (__u64)sk;

	if (old == TCP_LISTEN) {
		listeners_add(sk, -1);
		listener_gone(sk);
		sock_emit_state(st, WS_SS_UNLISTEN, 0, 0);
	} else if (old == TCP_SYN_SENT) {
		sock_announce(sk, st, WS_SOCK_CONNECTING);
		sock_emit_state(st, WS_SS_FAILED, sk->sk_err, pid_tgid);
	} else if (st->announced) {
		/* Straight from ESTABLISHED and without an error: closed with data unread, or without lingering. */
		bool own = old == TCP_ESTABLISHED && !sk->sk_err;

		sock_emit_state(st, own ? WS_SS_ABANDONED : WS_SS_CLOSED, sk->sk_err, 0);
	}
	if (st->session && !sk->sk_socket)
		tls_forget(st);
	/* After a reset the application may still read what had arrived: the state stays while it has the socket. */
	if (!cfg.sk_storage && !sk->sk_socket)
		bpf_map_delete_elem(&sock_states, &key);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(sock_set_state, struct sock *sk, int old, int state)
{
	struct sock_state *st;

	if (!sock_is_stream(sk))
		return 0;
	if (state == TCP_LISTEN) {
		on_listen(sk);
		return 0;
	}
	if (state == TCP_SYN_SENT) {
		on_dial(sk);
		return 0;
	}
	st = sock_state(sk, false);
	if (!st || !st->id)
		return 0;
	if (state == TCP_ESTABLISHED && old == TCP_SYN_SENT) {
		st->seqpos = sock_has_seq(sk);
		sock_announce(sk, st, 0);
	} else if ((state == TCP_FIN_WAIT1 || state == TCP_LAST_ACK) && st->announced && (!st->stopped || st->tls)) {
		/* close() shuts both directions first; in LAST_ACK the peer's FIN has set the same bit. */
		bool both = state == TCP_FIN_WAIT1 && (KREAD(sk, sk_shutdown) & RCV_SHUTDOWN);

		given_up(st);
		sock_emit_state(st, both ? WS_SS_ABANDONED : state == TCP_LAST_ACK ? WS_SS_FIN_LAST : WS_SS_FIN_SENT, 0,
				bpf_get_current_pid_tgid());
	} else if (state == TCP_CLOSE) {
		given_up(st);
		on_close(sk, st, old);
	}
	return 0;
}
