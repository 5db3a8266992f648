// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Attach plan "syscall": the exit of every system call that can move socket data. The socket is
 * found through the task's file table, the arguments in the registers that the task saved on entry.
 */
#include "capture.bpf.h"
#include "connect.bpf.h"

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
	struct task_struct *task = task_current();
	struct moved m = { .sk = fd_sock(task, fd), .task = task, .regs = task_regs(task), .ret = ret,
			   .flags = msg_flags, .dir = dir == WS_TX ? WS_TX : WS_RX, .behind = behind, .by_fd = true };

	if (m.sk && ret <= 0x7fffffff)
		capture(&m);
	return 0;
}

/* Legacy programs work out where the registers are, and compare: NULL (counted) if that is not the place. */
static __always_inline struct pt_regs *regs_at_exit(struct trace_event_raw_sys_exit *ctx)
{
	struct pt_regs *r = task_regs(task_current());

#ifdef WS_LEGACY
	if (sys_number(r) != (__u32)ctx->id) {
		count(WS_K_UNSEEN, 1);
		return NULL;
	}
#endif
	return r;
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
		struct pt_regs *r = regs_at_exit(ctx);                                            \
                                                                                                  \
		if (r)                                                                            \
			transfer(fd_arg(r), ctx->ret, flags_expr, dir, 0);                        \
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
	struct pt_regs *r = regs_at_exit(ctx);

	if (!r)
		return 0;
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
	const struct u_mmsghdr *h = (void *)(m->vec + (__u64)i * sizeof(*h));

	return i < m->n && !bpf_probe_read_user(ret_len, sizeof(*ret_len), &h->len);
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
	struct pt_regs *r = regs_at_exit(ctx);
	struct mmsg m = { .dir = dir };
	struct thread_state *ts;
	struct sys_args a;

	if (!r || ctx->ret <= 0)
		return 0;
	sys_args_read(r, &a);
	m.fd = a.a0;
	m.flags = ARG3(r);
	m.vec = a.a1;
	m.n = ctx->ret;
	ts = thread_state_now();
	if (ts)
		ts->mm_vec = 0;
	LOOP(MMSG_MAX, mmsg_add, &m);
	LOOP(MMSG_MAX, mmsg_transfer, &m);
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

SEC("tracepoint/syscalls/sys_exit_connect")
int sys_connect(struct trace_event_raw_sys_exit *ctx)
{
	struct task_struct *task = task_current();
	struct pt_regs *r = regs_at_exit(ctx);
	struct sys_args a;

	if (!r || !connect_unsent(ctx->ret))
		return 0;
	sys_args_read(r, &a);
	connect_failed(task, fd_sock(task, a.a0), ctx->ret, (void *)a.a1, true);
	return 0;
}
