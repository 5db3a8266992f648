// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Attach plan "syscall": the exit of every system call that can move socket data. The socket is
 * found through the task's file table, the arguments in the registers that the task saved on entry.
 */
#include "capture.bpf.h"

#define S_IFMT 0170000
#define S_IFSOCK 0140000

/* The socket behind a descriptor of the running task, or NULL. */
static __always_inline struct sock *fd_sock(struct task_struct *task, __u64 fd)
{
	struct file **slots = KREAD(task, files, fdt, fd), *file = NULL;
	struct socket *socket;

	if (fd >= KREAD(task, files, fdt, max_fds))
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), &slots[fd]);
	if (!file || (KREAD(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	socket = KREAD(file, private_data);
	return socket ? KREAD(socket, sk) : NULL;
}

/* One call, one transfer. A global function: the verifier goes through the core once, not per call. */
__noinline int transfer(__u64 fd, __s64 ret, __u64 msg_flags, __u32 dir)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct sock *sk = fd_sock(task, fd);

	if (sk && ret <= 0x7fffffff)
		capture(sk, ret, msg_flags, dir == WS_TX ? WS_TX : WS_RX, task,
			(struct pt_regs *)bpf_task_pt_regs(task));
	return 0;
}

static __always_inline struct pt_regs *regs_now(void)
{
	return (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
}

#if defined(__TARGET_ARCH_x86)
#define ARG0(r) KREAD(r, di)
#define ARG2(r) KREAD(r, dx)
#define ARG3(r) KREAD(r, r10)
#else
#define ARG0(r) KREAD(r, orig_x0)
#define ARG2(r) KREAD(r, regs[2])
#define ARG3(r) KREAD(r, regs[3])
#endif

#define EXIT(name, fd_arg, flags_expr, dir)                                                       \
	SEC("tracepoint/syscalls/sys_exit_" #name)                                                \
	int sys_##name(struct trace_event_raw_sys_exit *ctx)                                      \
	{                                                                                         \
		struct pt_regs *r = regs_now();                                                   \
                                                                                                  \
		transfer(fd_arg(r), ctx->ret, flags_expr, dir);                                   \
		return 0;                                                                         \
	}

EXIT(read, ARG0, 0, WS_RX)
EXIT(readv, ARG0, 0, WS_RX)
EXIT(preadv2, ARG0, 0, WS_RX)
EXIT(recvfrom, ARG0, ARG3(r), WS_RX)
EXIT(recvmsg, ARG0, ARG2(r), WS_RX)
EXIT(write, ARG0, 0, WS_TX)
EXIT(writev, ARG0, 0, WS_TX)
EXIT(pwritev2, ARG0, 0, WS_TX)
EXIT(sendto, ARG0, ARG3(r), WS_TX)
EXIT(sendmsg, ARG0, ARG2(r), WS_TX)
EXIT(sendfile64, ARG0, 0, WS_TX)

SEC("tracepoint/syscalls/sys_exit_splice")
int sys_splice(struct trace_event_raw_sys_exit *ctx)
{
	struct pt_regs *r = regs_now();

	transfer(ARG0(r), ctx->ret, 0, WS_RX);
	transfer(ARG2(r), ctx->ret, 0, WS_TX);
	return 0;
}

/*
 * The call returns how many messages it moved; each one's length stands in user memory behind it. One
 * transfer per message, so that each finds its own buffer.
 */
#define MMSG_MAX 64

static __always_inline int mmsg(struct trace_event_raw_sys_exit *ctx, __u32 dir)
{
	struct pt_regs *r = regs_now();
	__u64 fd = ARG0(r), flags = ARG3(r), vec;
	struct thread_state *ts;
	struct sys_args a;
	__s64 n = ctx->ret;

	sys_args_read(r, &a);
	vec = a.a1;
	ts = bpf_task_storage_get(&thread_states, bpf_get_current_task_btf(), 0, 0);
	if (ts)
		ts->mm_vec = 0;
	for (int i = 0; i < MMSG_MAX && i < n; i++) {
		struct u_mmsghdr h = {};

		if (bpf_probe_read_user(&h, sizeof(h), (void *)(vec + (__u64)i * sizeof(h))))
			break;
		transfer(fd, h.len, flags, dir);
	}
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_sendmmsg")
int sys_sendmmsg(struct trace_event_raw_sys_exit *ctx)
{
	return mmsg(ctx, WS_TX);
}

SEC("tracepoint/syscalls/sys_exit_recvmmsg")
int sys_recvmmsg(struct trace_event_raw_sys_exit *ctx)
{
	return mmsg(ctx, WS_RX);
}
