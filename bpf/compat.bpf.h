/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Everything that differs between kernels and architectures, in one place. Each kernel difference
 * names the version, the commit, and when it may go.
 */
#ifndef WS_COMPAT_BPF_H
#define WS_COMPAT_BPF_H

#include "maps.bpf.h"

/*
 * The programs are built twice. WS_LEGACY is the set for kernels below 5.17, which lack what the others
 * stand on: bpf_loop (5.17, commit e6f2dd0f8067), bpf_get_func_ret (5.17, f92c1e183604), bpf_task_pt_regs
 * (5.15, dd6e10fbd9fb), pointers as arguments of global functions (5.12, e5069b9c23b3),
 * bpf_get_current_task_btf and storage in tracing programs (5.11, 3ca1032ab7ab, 8e4597c627fb; for tasks 5.12,
 * a10787e6d58c). It may go with Debian 11's 5.10. Everything else in bpf/ is written once, against what
 * stands here.
 */

/*
 * Programs that hold trusted BTF pointers (tp_btf, fentry) dereference them: one load each. All
 * others read through a helper. Steps through pointers are separate arguments. A shell says which it is before it includes the core.
 */
#if defined(WS_BTF_SHELL) && !defined(WS_LEGACY)
#define KREAD_1(p, a) ((p)->a)
#define KREAD_2(p, a, b) ((p)->a->b)
#define KREAD_3(p, a, b, c) ((p)->a->b->c)
#define KREAD_4(p, a, b, c, d) ((p)->a->b->c->d)
#define KREAD_PICK(_1, _2, _3, _4, name, ...) name
#define KREAD(p, ...) KREAD_PICK(__VA_ARGS__, KREAD_4, KREAD_3, KREAD_2, KREAD_1)(p, __VA_ARGS__)
#else
#define KREAD(p, ...) BPF_CORE_READ(p, __VA_ARGS__)
#endif

/*
 * The same for what is reached from the running task, or its registers: those pointers are trusted in every kind of
 * program, while they are not kept in memory that other programs see.
 */
#ifndef WS_LEGACY
#define TREAD_1(p, a) ((p)->a)
#define TREAD_2(p, a, b) ((p)->a->b)
#define TREAD_3(p, a, b, c) ((p)->a->b->c)
#define TREAD_PICK(_1, _2, _3, name, ...) name
#define TREAD(p, ...) TREAD_PICK(__VA_ARGS__, TREAD_3, TREAD_2, TREAD_1)(p, __VA_ARGS__)
#else
#define TREAD(p, ...) BPF_CORE_READ(p, __VA_ARGS__)
#endif

/* include/linux/sched.h */
#define PF_IO_WORKER 0x00000010
#define PF_KTHREAD 0x00200000
/* include/linux/socket.h, include/uapi/asm-generic/fcntl.h */
#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define IPPROTO_TCP 6
#define MSG_OOB 0x1
#define MSG_PEEK 0x2
#define MSG_TRUNC 0x20
#define MSG_DONTWAIT 0x40
#define MSG_ERRQUEUE 0x2000
#define O_NONBLOCK 04000
#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define RCV_SHUTDOWN 1
#define SEND_SHUTDOWN 2

static __always_inline struct task_struct *task_current(void)
{
#ifdef WS_LEGACY
	return (struct task_struct *)bpf_get_current_task();
#else
	return bpf_get_current_task_btf();
#endif
}

#ifdef WS_LEGACY
/* Steps of at most n calls, ended by the first that returns 1. */
#define LOOP(n, fn, ctx)                                \
	do {                                            \
		for (__u32 i_ = 0; i_ < (n); i_++)      \
			if (fn(i_, ctx))                \
				break;                  \
	} while (0)
#else
#define LOOP(n, fn, ctx) bpf_loop(n, fn, ctx, 0)
#endif

enum sys_op {
	SYS_OTHER,
	SYS_BUF,      /* fd, buffer, length */
	SYS_IOV,      /* fd, iovec, count */
	SYS_MSG,      /* fd, msghdr */
	SYS_MMSG_TX,  /* fd, mmsghdr, count */
	SYS_MMSG_RX,  /* the same, with a timeout in the fifth */
};

struct sys_args {
	enum sys_op op;
	__u64 a0, a1, a2, a4;
};

static __always_inline enum sys_op sys_classify(__u64 nr);

#if defined(__TARGET_ARCH_x86)

/* arch/x86/entry/syscalls/syscall_64.tbl */
enum sys_nr {
	NR_READ = 0,
	NR_WRITE = 1,
	NR_READV = 19,
	NR_WRITEV = 20,
	NR_SENDFILE64 = 40,
	NR_SENDTO = 44,
	NR_RECVFROM = 45,
	NR_SENDMSG = 46,
	NR_RECVMSG = 47,
	NR_RECVMMSG = 299,
	NR_SENDMMSG = 307,
	NR_PREADV2 = 327,
	NR_PWRITEV2 = 328,
};

#define TS_COMPAT 0x0002 /* arch/x86/include/asm/thread_info.h */

static __always_inline bool task_is_compat(struct task_struct *task)
{
	return TREAD(task, thread_info.status) & TS_COMPAT;
}

static __always_inline __u32 sys_number(struct pt_regs *regs)
{
	return TREAD(regs, orig_ax);
}

static __always_inline void sys_args_read(struct pt_regs *regs, struct sys_args *a)
{
	a->op = sys_classify(sys_number(regs));
	a->a0 = TREAD(regs, di);
	a->a1 = TREAD(regs, si);
	a->a2 = TREAD(regs, dx);
	a->a4 = TREAD(regs, r8);
}

static __always_inline __u64 regs_stack(struct pt_regs *regs)
{
	return TREAD(regs, sp);
}

/* Go's current goroutine: no code of its touches that register (ABIInternal, and what calls the system). */
static __always_inline __u64 regs_goroutine(struct pt_regs *regs)
{
	return TREAD(regs, r14);
}

static __always_inline __u64 task_thread_pointer(struct task_struct *task)
{
	return KREAD(task, thread.fsbase);
}

#elif defined(__TARGET_ARCH_arm64)

/* include/uapi/asm-generic/unistd.h */
enum sys_nr {
	NR_READ = 63,
	NR_WRITE = 64,
	NR_READV = 65,
	NR_WRITEV = 66,
	NR_SENDFILE64 = 71,
	NR_SENDTO = 206,
	NR_RECVFROM = 207,
	NR_SENDMSG = 211,
	NR_RECVMSG = 212,
	NR_RECVMMSG = 243,
	NR_SENDMMSG = 269,
	NR_PREADV2 = 286,
	NR_PWRITEV2 = 287,
};

#define TIF_32BIT 22 /* arch/arm64/include/asm/thread_info.h */

static __always_inline bool task_is_compat(struct task_struct *task)
{
	return TREAD(task, thread_info.flags) & (1ul << TIF_32BIT);
}

static __always_inline __u32 sys_number(struct pt_regs *regs)
{
	return TREAD(regs, syscallno);
}

static __always_inline void sys_args_read(struct pt_regs *regs, struct sys_args *a)
{
	a->op = sys_classify(sys_number(regs));
	a->a0 = TREAD(regs, orig_x0); /* x0 itself takes the result */
	a->a1 = TREAD(regs, regs[1]);
	a->a2 = TREAD(regs, regs[2]);
	a->a4 = TREAD(regs, regs[4]);
}

static __always_inline __u64 regs_stack(struct pt_regs *regs)
{
	return TREAD(regs, sp);
}

static __always_inline __u64 regs_goroutine(struct pt_regs *regs)
{
	return TREAD(regs, regs[28]);
}

static __always_inline __u64 task_thread_pointer(struct task_struct *task)
{
	return KREAD(task, thread.uw.tp_value);
}

#else
#error "unknown architecture"
#endif

static __always_inline enum sys_op sys_classify(__u64 nr)
{
	switch (nr) {
	case NR_READ:
	case NR_WRITE:
	case NR_SENDTO:
	case NR_RECVFROM:
		return SYS_BUF;
	case NR_READV:
	case NR_WRITEV:
	case NR_PREADV2:
	case NR_PWRITEV2:
		return SYS_IOV;
	case NR_SENDMSG:
	case NR_RECVMSG:
		return SYS_MSG;
	case NR_SENDMMSG:
		return SYS_MMSG_TX;
	case NR_RECVMMSG:
		return SYS_MMSG_RX;
	}
	return SYS_OTHER;
}

#ifdef WS_LEGACY
/* THREAD_SIZE without KASAN: arch/x86/include/asm/page_64_types.h, arch/arm64/include/asm/memory.h */
#define STACK_BYTES 16384
#endif

/*
 * What the task saved when it entered the kernel. Legacy: where task_pt_regs() of arch/x86 and arm64 has it,
 * for a stack of the usual size; the caller compares the system call's number.
 */
static __always_inline struct pt_regs *task_regs(struct task_struct *task)
{
#ifdef WS_LEGACY
	return (struct pt_regs *)(KREAD(task, stack) + STACK_BYTES - bpf_core_type_size(struct pt_regs));
#else
	return (struct pt_regs *)bpf_task_pt_regs(task);
#endif
}

/* ---- the kernel's own description of a buffer ------------------------------------------------- */

/* Until 5.13 a word with the direction in its lowest bit (8cd54c1c8480); members of unions differ until 6.4. */
struct iov_iter___5_10 {
	unsigned int type;
} __attribute__((preserve_access_index));

struct iov_iter___6_0 {
	void *ubuf; /* fcb14cb1bdac */
} __attribute__((preserve_access_index));

struct iov_iter___6_3 {
	const struct iovec *iov; /* __iov since 6.4, de4f5fed3f23 */
} __attribute__((preserve_access_index));

enum iter_type___6_0 {
	ITER_UBUF___6_0,
};

static __always_inline bool iter_is_ubuf(struct iov_iter *it)
{
	return bpf_core_enum_value_exists(enum iter_type___6_0, ITER_UBUF___6_0) &&
	       BPF_CORE_READ(it, iter_type) == bpf_core_enum_value(enum iter_type___6_0, ITER_UBUF___6_0);
}

static __always_inline bool iter_is_iovec(struct iov_iter *it)
{
	struct iov_iter___5_10 *old = (void *)it;

	if (bpf_core_field_exists(old->type))
		return (BPF_CORE_READ(old, type) & ~3u) == bpf_core_enum_value(enum iter_type, ITER_IOVEC);
	return BPF_CORE_READ(it, iter_type) == bpf_core_enum_value(enum iter_type, ITER_IOVEC);
}

static __always_inline __u64 iter_ubuf(struct iov_iter *it)
{
	return (__u64)BPF_CORE_READ((struct iov_iter___6_0 *)it, ubuf);
}

static __always_inline __u64 iter_iov(struct iov_iter *it)
{
	struct iov_iter___6_3 *old = (void *)it;

	if (bpf_core_field_exists(old->iov))
		return (__u64)BPF_CORE_READ(old, iov);
	return (__u64)BPF_CORE_READ(it, __iov);
}

/* User-space layouts (64-bit callers only): struct iovec, struct user_msghdr, struct mmsghdr. */
struct u_iovec {
	__u64 base, len;
};

struct u_msghdr {
	__u64 name;
	__u32 namelen, pad;
	__u64 iov, iovlen;
	__u64 control, controllen;
	__u32 flags, pad2;
};

struct u_mmsghdr {
	struct u_msghdr hdr;
	__u32 len, pad;
};

#endif
