/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A connect() that fails before anything is sent (no route; AF_UNIX: nobody listens at that path, no such
 * path) changes no socket state: the call's result is all there is to see.
 */
#ifndef WS_CONNECT_BPF_H
#define WS_CONNECT_BPF_H

#include "runtime.bpf.h"

static __always_inline bool connect_unsent(long ret)
{
	return ret == -101 /* ENETUNREACH */ || ret == -113 /* EHOSTUNREACH */ || ret == -111 /* ECONNREFUSED */ ||
	       ret == -2 /* ENOENT */ || ret == -13 /* EACCES */;
}

/* `addr`: what the call was given, in user memory or the kernel's copy of it. */
static __always_inline void connect_tell(struct task_struct *task, struct thread_state *ts, struct sock *sk, long ret, void *addr,
					 bool user)
{
	struct sock_state st = {};

	sock_init(sk, &st, bpf_get_current_pid_tgid());
	st.role = WS_ROLE_CLIENT;
	st.dial = ts->tok;
	if (ts->runtime)
		context_writes(ts, task, &st.writer, &st.dial, true);
	sock_announce_to(sk, &st, WS_SOCK_CONNECTING, addr, user);
	sock_emit_state(&st, WS_SS_FAILED, -ret, 0);
}

/* TCP: one that was sent and then refused by the network has been told by its state already. */
static __always_inline void connect_failed(struct task_struct *task, struct sock *sk, long ret, void *addr, bool user)
{
	struct thread_state *ts = thread_state(task);

	if (ts && flags_traced(ts->proc_flags) && sk && sock_is_stream(sk) && !sock_state(sk, false))
		connect_tell(task, ts, sk, ret, addr, user);
}

#endif
