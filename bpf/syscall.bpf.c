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
__noinline int transfer(__u64 fd, __s64 ret, __u64 msg_flags, __u32 dir, __u32 behind)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct sock *sk = fd_sock(task, fd);

	if (sk && ret <= 0x7fffffff)
		capture(sk, ret, msg_flags, dir == WS_TX ? WS_TX : WS_RX, behind, task,
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
		transfer(fd_arg(r), ctx->ret, flags_expr, dir, 0);                                 \
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

	transfer(ARG0(r), ctx->ret, 0, WS_RX, 0);
	transfer(ARG2(r), ctx->ret, 0, WS_TX, 0);
	return 0;
}

/*
 * The call returns how many messages it moved; each one's length stands in user memory behind it. One
 * transfer per message, so that each finds its own buffer.
 */
#define MMSG_MAX 64

struct mmsg {
	__u64 fd, flags, vec;
	__u32 dir, n, total; /* total: bytes of the messages that were not visited yet */
};

static __always_inline bool mmsg_len(struct mmsg *m, __u32 i, __u32 *ret_len)
{
	struct u_mmsghdr h = {};

	if (i >= m->n || bpf_probe_read_user(&h, sizeof(h), (void *)(m->vec + (__u64)i * sizeof(h))))
		return false;
	*ret_len = h.len;
	return true;
}

static long mmsg_add(__u32 i, void *ctx)
{
	struct mmsg *m = ctx;
	__u32 len;

	if (!mmsg_len(m, i, &len))
		return 1;
	m->total += len;
	return 0;
}

static long mmsg_transfer(__u32 i, void *ctx)
{
	struct mmsg *m = ctx;
	__u32 len;

	if (!mmsg_len(m, i, &len))
		return 1;
	m->total -= len;
	transfer(m->fd, len, m->flags, m->dir, m->total);
	return 0;
}

static __always_inline int mmsg(struct trace_event_raw_sys_exit *ctx, __u32 dir)
{
	struct pt_regs *r = regs_now();
	struct mmsg m = { .fd = ARG0(r), .flags = ARG3(r), .dir = dir };
	struct thread_state *ts;
	struct sys_args a;

	if (ctx->ret <= 0)
		return 0;
	sys_args_read(r, &a);
	m.vec = a.a1;
	m.n = ctx->ret;
	ts = bpf_task_storage_get(&thread_states, bpf_get_current_task_btf(), 0, 0);
	if (ts)
		ts->mm_vec = 0;
	bpf_loop(MMSG_MAX, mmsg_add, &m, 0);
	bpf_loop(MMSG_MAX, mmsg_transfer, &m, 0);
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

/*
 * A connect() that fails before anything is sent (no route, no such path) changes no socket state: the
 * call's result is all there is to see.
 */
SEC("tracepoint/syscalls/sys_exit_connect")
int sys_connect(struct trace_event_raw_sys_exit *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct thread_state *ts;
	struct sock_state st = {};
	struct sys_args a;
	struct sock *sk;

	if (ctx->ret != -101 /* ENETUNREACH */ && ctx->ret != -113 /* EHOSTUNREACH */)
		return 0;
	ts = thread_state(task);
	if (!ts || !flags_traced(ts->proc_flags))
		return 0;
	sys_args_read(regs_now(), &a);
	sk = fd_sock(task, a.a0);
	/* One that was sent and then refused by the network has been told by its state already. */
	if (!sk || !sock_is_stream(sk) || sock_state(sk, false))
		return 0;
	sock_init(sk, &st, bpf_get_current_pid_tgid());
	st.role = WS_ROLE_CLIENT;
	st.dial = ts->tok;
	sock_announce_to(sk, &st, WS_SOCK_CONNECTING, (void *)a.a1);
	sock_emit_state(&st, WS_SS_FAILED, -ctx->ret, 0);
	return 0;
}
