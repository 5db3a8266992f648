// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Attach plan "kprobe": entry and return of the same functions as "fentry". A return probe knows the
 * result only; the arguments wait in the thread's state.
 */
#include "capture.bpf.h"
#include "connect.bpf.h"
#include "stream.bpf.h"

/* Numbers of the functions: a return whose entry was missed must not take another call's arguments. */
enum fn {
	FN_NONE,
#define NUMBER(fn) FN_##fn,
	STREAM_SEND(NUMBER)
	STREAM_RECV(NUMBER)
	STREAM_SENDPAGE(NUMBER)
	STREAM_SPLICE(NUMBER)
	STREAM_CONNECT(NUMBER)
};

static __always_inline int enter(enum fn fn, struct socket *sock, __u64 msg, __u64 size, __u32 flags)
{
	struct sock *sk = KREAD(sock, sk);
	struct thread_state *ts;

	if (!sk || !sock_is_stream(sk))
		return 0;
	ts = thread_state(task_current());
	if (!ts || !flags_traced(ts->proc_flags))
		return 0;
	ts->call.sk = (__u64)sk;
	ts->call.msg = msg;
	ts->call.size = size;
	ts->call.flags = flags;
	ts->call.fn = fn;
	return 0;
}

/* The call that returns now, taken out of the thread's state. */
static __always_inline bool leave(enum fn fn, struct kcall *c)
{
	struct thread_state *ts = thread_state_now();

	if (!ts || ts->call.fn != fn)
		return false;
	*c = ts->call;
	ts->call.fn = FN_NONE;
	return true;
}

/* Global functions: the verifier goes through the core once, not per function. */
__noinline int leave_moved(__u32 fn, __s64 ret, __u32 dir)
{
	struct msghdr *msg;
	struct kcall c;
	struct moved m = { .ret = ret, .dir = dir == WS_TX ? WS_TX : WS_RX };

	if (!leave(fn, &c))
		return 0;
	m.sk = (struct sock *)c.sk;
	m.task = task_current();
	msg = m.msg = (struct msghdr *)c.msg;
	m.asked = c.size;
	m.flags = c.flags;
	if (msg && m.dir == WS_TX)
		m.flags = KREAD(msg, msg_flags);
	capture(&m);
	return 0;
}

static __always_inline int leave_connect(enum fn fn, int ret)
{
	struct kcall c;

	if (leave(fn, &c) && connect_unsent(ret))
		connect_failed(task_current(), (struct sock *)c.sk, ret, (void *)c.msg, false);
	return 0;
}

#define ENTER(fn, msg, size, flags)                                                                          \
	SEC("kprobe/" #fn)                                                                                   \
	int kp_##fn(struct pt_regs *ctx)                                                                     \
	{                                                                                                    \
		return enter(FN_##fn, (struct socket *)PT_REGS_PARM1(ctx), msg, size, flags);                \
	}

#define LEAVE(fn, dir)                                                                                       \
	SEC("kretprobe/" #fn)                                                                                \
	int kr_##fn(struct pt_regs *ctx)                                                                     \
	{                                                                                                    \
		return leave_moved(FN_##fn, (int)PT_REGS_RC(ctx), dir);                                      \
	}

#define SEND(fn) ENTER(fn, PT_REGS_PARM2(ctx), PT_REGS_PARM3(ctx), 0) LEAVE(fn, WS_TX)
#define RECV(fn) ENTER(fn, PT_REGS_PARM2(ctx), PT_REGS_PARM3(ctx), PT_REGS_PARM4(ctx)) LEAVE(fn, WS_RX)
/* Pages are not copied from the user: counted only. */
#define SENDPAGE(fn) ENTER(fn, 0, 0, 0) LEAVE(fn, WS_TX)
#define SPLICE(fn) ENTER(fn, 0, 0, 0) LEAVE(fn, WS_RX)

STREAM_SEND(SEND)
STREAM_RECV(RECV)
STREAM_SENDPAGE(SENDPAGE)
STREAM_SPLICE(SPLICE)

#define CONNECT(fn)                                                                                          \
	ENTER(fn, PT_REGS_PARM2(ctx), 0, 0)                                                                  \
	SEC("kretprobe/" #fn)                                                                                \
	int kr_##fn(struct pt_regs *ctx)                                                                     \
	{                                                                                                    \
		return leave_connect(FN_##fn, (int)PT_REGS_RC(ctx));                                         \
	}

STREAM_CONNECT(CONNECT)
