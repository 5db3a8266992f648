// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Attach plan "syscall": the exit of every system call that can move socket data. The socket is
 * found through the task's file table, the arguments in the registers that the task saved on entry.
 */
#include "capture.bpf.h"
#include "connect.bpf.h"
#include "fd.bpf.h"

/* Nothing of this process is wanted, as far as this thread knows. Asked first: most calls are about files. */
static __always_inline bool is_untraced(void)
{
	struct thread_state *ts = thread_state_now();

	return ts && ts->epoch == proc_epoch && !flags_traced(ts->proc_flags);
}

/* One call, one transfer. A global function: the verifier goes through the core once, not per call. */
__noinline int transfer(__u64 fd, __s64 ret, __u64 msg_flags, __u32 dir, __u32 behind)
{
	struct task_struct *task = task_current();
	struct moved m = { .task = task, .regs = task_regs(task), .ret = ret, .flags = msg_flags,
			   .dir = dir == WS_TX ? WS_TX : WS_RX, .behind = behind };
	struct socket *socket;
	struct inode *inode;
	struct file *file;

	if (ret > 0x7fffffff || ret_is_silent(ret) || is_untraced())
		return 0;
	file = m.file = fd_file(task, fd);
	if (!file)
		return 0;
	inode = BPF_CORE_READ(file, f_inode);
	if ((BPF_CORE_READ(inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	m.ino = BPF_CORE_READ(inode, i_ino);
	socket = BPF_CORE_READ(file, private_data);
	m.sk = BPF_CORE_READ(socket, sk);
	if (m.sk)
		capture(&m);
	return 0;
}

/* The kernel fills an int here, and leaves what the field has above it as it was (kernel/trace/trace_syscalls.c). */
static __always_inline __u32 nr_at_exit(const struct trace_event_raw_sys_exit *ctx)
{
	return (__u32)ctx->id;
}

/* Legacy programs work out where the registers are, and compare: NULL (counted) if that is not the place. */
static __always_inline struct pt_regs *regs_at_exit(struct trace_event_raw_sys_exit *ctx)
{
	struct pt_regs *r = task_regs(task_current());

#ifdef WS_LEGACY
	if (sys_number(r) != nr_at_exit(ctx)) {
		count(WS_K_UNSEEN, 1);
		return NULL;
	}
#endif
	return r;
}

#if defined(__TARGET_ARCH_x86)
#define ARG0(r) TREAD(r, di)
#define ARG2(r) TREAD(r, dx)
#define ARG3(r) TREAD(r, r10)
#else
#define ARG0(r) TREAD(r, orig_x0)
#define ARG2(r) TREAD(r, regs[2])
#define ARG3(r) TREAD(r, regs[3])
#endif

/*
 * What ends with one transfer: the loader attaches it to each of these calls. One program, because every one that is
 * loaded takes the verifier through the whole core.
 */
SEC("tracepoint")
int sys_moved(struct trace_event_raw_sys_exit *ctx)
{
	struct pt_regs *r = regs_at_exit(ctx);
	__u64 flags = 0;
	__u32 dir;

	if (!r)
		return 0;
	switch (nr_at_exit(ctx)) {
	case NR_RECVFROM:
	case NR_SENDTO:
		flags = ARG3(r);
		break;
	case NR_RECVMSG:
	case NR_SENDMSG:
		flags = ARG2(r);
		break;
	}
	switch (nr_at_exit(ctx)) {
	case NR_READ:
	case NR_READV:
	case NR_PREADV2:
	case NR_RECVFROM:
	case NR_RECVMSG:
		dir = WS_RX;
		break;
	default:
		dir = WS_TX;
	}
	transfer(ARG0(r), ctx->ret, flags, dir, 0);
	return 0;
}

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
#define MMSG_MAX 1024 /* UIO_MAXIOV, include/uapi/linux/uio.h: the kernel takes no more at once */

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

/* sendmmsg and recvmmsg, attached like sys_moved */
SEC("tracepoint")
int sys_moved_many(struct trace_event_raw_sys_exit *ctx)
{
	struct mmsg m = { .dir = nr_at_exit(ctx) == NR_SENDMMSG ? WS_TX : WS_RX };
	struct pt_regs *r = regs_at_exit(ctx);
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

SEC("tracepoint/syscalls/sys_exit_connect")
int sys_connect(struct trace_event_raw_sys_exit *ctx)
{
	struct task_struct *task = task_current();
	struct pt_regs *r = regs_at_exit(ctx);
	struct sys_args a;

	if (!r || !connect_unsent(ctx->ret))
		return 0;
	sys_args_read(r, &a);
	connect_failed(task, file_sock(fd_file(task, a.a0)), ctx->ret, (void *)a.a1, true);
	return 0;
}

/*
 * The same in plan socket, whose state lies with the sockets, where such programs cannot get at it: what the thread has
 * dialled last has told its end by itself.
 */
SEC("tracepoint/syscalls/sys_exit_connect")
int end_connect(struct trace_event_raw_sys_exit *ctx)
{
	struct task_struct *task = task_current();
	struct thread_state *ts;
	struct sys_args a;
	struct sock *sk;

	if (!connect_unsent(ctx->ret))
		return 0;
	ts = thread_state(task);
	sys_args_read(task_regs(task), &a);
	sk = file_sock(fd_file(task, a.a0));
	if (ts && flags_traced(ts->proc_flags) && sk && sock_is_stream(sk) && ts->dial_sk != (__u64)sk)
		connect_tell(task, ts, sk, ctx->ret, (void *)a.a1, true);
	return 0;
}
