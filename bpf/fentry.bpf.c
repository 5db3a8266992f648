// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Attach plan "fentry": the exit of the stream protocols' send and receive functions, where arguments and
 * result stand side by side (fexit, kernel 5.5, commit fec56f5890d9).
 */
#define WS_BTF_SHELL
#include "capture.bpf.h"
#include "connect.bpf.h"
#include "stream.bpf.h"

/* The result stands behind the last argument; how many there are is asked for, not counted. */
static __always_inline int func_ret(void *ctx, int n_args)
{
	__u64 ret = 0;

#ifdef WS_LEGACY
	ret = ((__u64 *)ctx)[n_args];
#else
	bpf_get_func_ret(ctx, &ret);
#endif
	return ret;
}

static __always_inline int moved(struct socket *sock, int ret, int flags, enum ws_dir dir, struct msghdr *msg, __u64 asked)
{
	struct moved m = { .sk = sock->sk, .task = task_current(), .msg = msg, .asked = asked, .ret = ret, .flags = flags,
			   .dir = dir };

	if (m.sk)
		capture(&m);
	return 0;
}

#define SEND(fn)                                                                                \
	SEC("fexit/" #fn)                                                                       \
	int BPF_PROG(fx_##fn, struct socket *sock, struct msghdr *msg, size_t size)             \
	{                                                                                       \
		return moved(sock, func_ret(ctx, 3), KREAD(msg, msg_flags), WS_TX, msg, size);  \
	}

#define RECV(fn)                                                                                \
	SEC("fexit/" #fn)                                                                       \
	int BPF_PROG(fx_##fn, struct socket *sock, struct msghdr *msg, size_t size, int flags)  \
	{                                                                                       \
		return moved(sock, func_ret(ctx, 4), flags, WS_RX, msg, size);                  \
	}

/* Pages are not copied from the user: counted only. */
#define SENDPAGE(fn)                                                                            \
	SEC("fexit/" #fn)                                                                       \
	int BPF_PROG(fx_##fn, struct socket *sock)                                              \
	{                                                                                       \
		return moved(sock, func_ret(ctx, 5), 0, WS_TX, NULL, 0);                        \
	}

#define SPLICE(fn)                                                                              \
	SEC("fexit/" #fn)                                                                       \
	int BPF_PROG(fx_##fn, struct socket *sock)                                              \
	{                                                                                       \
		return moved(sock, func_ret(ctx, 5), 0, WS_RX, NULL, 0);                        \
	}

STREAM_SEND(SEND)
STREAM_RECV(RECV)
STREAM_SENDPAGE(SENDPAGE)
STREAM_SPLICE(SPLICE)

#define CONNECT(fn)                                                                             \
	SEC("fexit/" #fn)                                                                       \
	int BPF_PROG(fx_##fn, struct socket *sock, void *addr)                                  \
	{                                                                                       \
		int ret = func_ret(ctx, 4);                                                     \
                                                                                                \
		if (connect_unsent(ret))                                                        \
			connect_failed(task_current(), sock->sk, ret, addr, false);             \
		return 0;                                                                       \
	}

STREAM_CONNECT(CONNECT)
