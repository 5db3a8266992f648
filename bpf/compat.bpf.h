/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Everything that differs between kernels and architectures, in one place. Each kernel difference
 * names the version, the commit, and when it may go.
 */
#ifndef WS_COMPAT_BPF_H
#define WS_COMPAT_BPF_H

#include "maps.bpf.h"

/*
 * Programs that hold trusted BTF pointers (tp_btf, fentry) dereference them: one load each. All
 * others read through a helper. Steps through pointers are separate arguments. A shell says which it is before it includes the core.
 */
#ifdef WS_BTF_SHELL
#define KREAD_1(p, a) ((p)->a)
#define KREAD_2(p, a, b) ((p)->a->b)
#define KREAD_3(p, a, b, c) ((p)->a->b->c)
#define KREAD_4(p, a, b, c, d) ((p)->a->b->c->d)
#define KREAD_PICK(_1, _2, _3, _4, name, ...) name
#define KREAD(p, ...) KREAD_PICK(__VA_ARGS__, KREAD_4, KREAD_3, KREAD_2, KREAD_1)(p, __VA_ARGS__)
#else
#define KREAD(p, ...) BPF_CORE_READ(p, __VA_ARGS__)
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
#define RCV_SHUTDOWN 1

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

#if defined(__TARGET_ARCH_x86)

/* arch/x86/entry/syscalls/syscall_64.tbl */
static __always_inline enum sys_op sys_classify(__u64 nr)
{
	switch (nr) {
	case 0:	  /* read */
	case 1:	  /* write */
	case 44:  /* sendto */
	case 45:  /* recvfrom */
		return SYS_BUF;
	case 19:  /* readv */
	case 20:  /* writev */
	case 327: /* preadv2 */
	case 328: /* pwritev2 */
		return SYS_IOV;
	case 46:  /* sendmsg */
	case 47:  /* recvmsg */
		return SYS_MSG;
	case 307: /* sendmmsg */
		return SYS_MMSG_TX;
	case 299: /* recvmmsg */
		return SYS_MMSG_RX;
	}
	return SYS_OTHER;
}

#define TS_COMPAT 0x0002 /* arch/x86/include/asm/thread_info.h */

static __always_inline bool task_is_compat(struct task_struct *task)
{
	return KREAD(task, thread_info.status) & TS_COMPAT;
}

static __always_inline void sys_args_read(struct pt_regs *regs, struct sys_args *a)
{
	a->op = sys_classify(KREAD(regs, orig_ax));
	a->a0 = KREAD(regs, di);
	a->a1 = KREAD(regs, si);
	a->a2 = KREAD(regs, dx);
	a->a4 = KREAD(regs, r8);
}

#elif defined(__TARGET_ARCH_arm64)

/* include/uapi/asm-generic/unistd.h */
static __always_inline enum sys_op sys_classify(__u64 nr)
{
	switch (nr) {
	case 63:  /* read */
	case 64:  /* write */
	case 206: /* sendto */
	case 207: /* recvfrom */
		return SYS_BUF;
	case 65:  /* readv */
	case 66:  /* writev */
	case 286: /* preadv2 */
	case 287: /* pwritev2 */
		return SYS_IOV;
	case 211: /* sendmsg */
	case 212: /* recvmsg */
		return SYS_MSG;
	case 269: /* sendmmsg */
		return SYS_MMSG_TX;
	case 243: /* recvmmsg */
		return SYS_MMSG_RX;
	}
	return SYS_OTHER;
}

#define TIF_32BIT 22 /* arch/arm64/include/asm/thread_info.h */

static __always_inline bool task_is_compat(struct task_struct *task)
{
	return KREAD(task, thread_info.flags) & (1ul << TIF_32BIT);
}

static __always_inline void sys_args_read(struct pt_regs *regs, struct sys_args *a)
{
	a->op = sys_classify(KREAD(regs, syscallno));
	a->a0 = KREAD(regs, orig_x0); /* x0 itself takes the result */
	a->a1 = KREAD(regs, regs[1]);
	a->a2 = KREAD(regs, regs[2]);
	a->a4 = KREAD(regs, regs[4]);
}

#else
#error "unknown architecture"
#endif

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
