// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Attach plan "socket": tracepoints sock_send_length and sock_recv_length (kernel 6.3, commit
 * 6e6eda44b939). They give the socket and the result; the user buffer comes from the registers that
 * the task saved when it entered the system call.
 */
#define WS_BTF_SHELL
#include "capture.bpf.h"

SEC("tp_btf/sock_send_length")
int BPF_PROG(sock_send, struct sock *sk, int ret, int flags)
{
	struct task_struct *task = bpf_get_current_task_btf();

	capture(sk, ret, flags, WS_TX, 0, task, (struct pt_regs *)bpf_task_pt_regs(task));
	return 0;
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(sock_recv, struct sock *sk, int ret, int flags)
{
	struct task_struct *task = bpf_get_current_task_btf();

	capture(sk, ret, flags, WS_RX, 0, task, (struct pt_regs *)bpf_task_pt_regs(task));
	return 0;
}
