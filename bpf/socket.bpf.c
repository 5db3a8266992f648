// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Attach plan "socket": tracepoints sock_send_length and sock_recv_length (kernel 6.3, commit
 * 6e6eda44b939). They give the socket and the result; the user buffer comes from the registers that
 * the task saved when it entered the system call.
 */
#define WS_BTF_SHELL
#include "capture.bpf.h"

static __always_inline int moved(struct sock *sk, int ret, int flags, enum ws_dir dir)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct moved m = { .sk = sk, .task = task, .regs = task_regs(task), .ret = ret, .flags = flags, .dir = dir };

	capture(&m);
	return 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(sock_send, struct sock *sk, int ret, int flags)
{
	return moved(sk, ret, flags, WS_TX);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(sock_recv, struct sock *sk, int ret, int flags)
{
	return moved(sk, ret, flags, WS_RX);
}
