/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The capture core: "ret bytes just moved on this stream socket". Every attach plan is a thin shell
 * around capture(), which
 *
 *   1. drops what is not a stream socket of a traced process,
 *   2. finds or makes the socket's state and says who the socket is the first time,
 *   3. works out the position of the bytes,
 *   4. binds (ingress) or looks up (egress) the token of the running thread,
 *   5. copies the bytes, if they are wanted and if the caller's registers can be trusted.
 *
 * Registers are trusted only if the task is an ordinary 64-bit thread, the system call is one that
 * moves socket data, and its descriptor resolves to this very socket: a completed io_uring receive
 * runs as task work inside some other call and shows that one's registers, I/O workers carry stale
 * ones, and kernel sockets send inside unrelated calls.
 */
#ifndef WS_CAPTURE_BPF_H
#define WS_CAPTURE_BPF_H

#include "state.bpf.h"

/* One transfer, on the way from the hook to the ring. */
struct xfer {
	struct sock *sk;
	struct sock_state *st;
	struct thread_state *ts;
	__u64 pos;
	__u64 buf;	/* user address of the bytes, or of the iovec array */
	__u32 iovcnt;	/* 0: buf is the buffer itself */
	__u32 size;
	__u32 skip;	/* bytes at the front that are not wanted */
	__u32 want;	/* bytes to copy behind them */
	__u32 err;
	__u8 dir;
	__u8 flags;	/* WS_DATA_* */
	struct ws_token tok;
};

/* ---- the user's buffer ----------------------------------------------------------------------- */

static __always_inline bool task_args_trusted(struct task_struct *task)
{
	return !(KREAD(task, flags) & (PF_KTHREAD | PF_IO_WORKER)) && !task_is_compat(task);
}

/* Does this descriptor of the running task lead to `file`? */
static __always_inline bool fd_is_file(struct task_struct *task, __u64 fd, struct file *file)
{
	struct file **slots = KREAD(task, files, fdt, fd), *found = NULL;

	if (!file || fd >= KREAD(task, files, fdt, max_fds))
		return false;
	bpf_probe_read_kernel(&found, sizeof(found), &slots[fd]);
	return found == file;
}

/*
 * Which message of a sendmmsg or recvmmsg is this? The calls come one after the other in the same
 * thread; an error, a partial message or the last one ends the series, so the next starts at 0.
 */
static __always_inline bool mmsg_index(struct xfer *x, const struct sys_args *a, __u32 *ret_idx)
{
	struct thread_state *ts = x->ts;

	if (ts->mm_vec != a->a1 || ts->mm_idx >= a->a2)
		ts->mm_idx = 0;
	ts->mm_vec = a->a1;
	*ret_idx = ts->mm_idx;
	if (x->flags & WS_DATA_ERROR)
		ts->mm_vec = 0;
	else
		ts->mm_idx++;
	/* A timeout can end a series unseen: the next call's first message may not be at 0. */
	return a->op == SYS_MMSG_TX || !a->a4;
}

/* Total length of an iovec array, to recognise a partial message. */
static __always_inline bool find_msg(struct xfer *x, __u64 hdr)
{
	struct u_msghdr m = {};

	if (bpf_probe_read_user(&m, sizeof(m), (void *)hdr))
		return false;
	x->buf = m.iov;
	x->iovcnt = m.iovlen > WS_IOV_MAX ? WS_IOV_MAX : m.iovlen;
	return x->iovcnt != 0;
}

/* Fills x->buf and x->iovcnt; false: this transfer shows no user buffer. */
static __always_inline bool find_buffer(struct xfer *x, struct task_struct *task, struct pt_regs *regs)
{
	struct sock *sk = x->sk;
	struct sys_args a;
	__u32 idx;

	if (!task_args_trusted(task))
		return false;
	sys_args_read(regs, &a);
	if (a.op == SYS_OTHER || !fd_is_file(task, a.a0, KREAD(sk, sk_socket, file)))
		return false;
	if (a.op != SYS_MMSG_TX && a.op != SYS_MMSG_RX)
		x->ts->mm_vec = 0;
	switch (a.op) {
	case SYS_BUF:
		x->buf = a.a1;
		x->iovcnt = 0;
		return true;
	case SYS_IOV:
		x->buf = a.a1;
		x->iovcnt = a.a2 > WS_IOV_MAX ? WS_IOV_MAX : a.a2;
		return x->iovcnt != 0;
	case SYS_MSG:
		return find_msg(x, a.a1);
	case SYS_MMSG_TX:
	case SYS_MMSG_RX:
		if (!mmsg_index(x, &a, &idx))
			return false;
		return find_msg(x, a.a1 + (__u64)idx * sizeof(struct u_mmsghdr));
	default:
		return false;
	}
}

/* ---- emit ------------------------------------------------------------------------------------ */

static __always_inline void data_fill(struct ws_ev_data *e, const struct xfer *x, __u64 pid_tgid)
{
	e->sock = x->st->id;
	e->pos = x->pos;
	e->size = x->size;
	e->captured = 0;
	e->skipped = x->skip;
	e->seq = x->st->seq[x->dir & 1]++;
	e->tgid = pid_tgid >> 32;
	e->tid = (__u32)pid_tgid;
	e->dir = x->dir;
	e->flags = x->flags;
	e->err = x->err;
	e->pad = 0;
	e->token = x->tok;
}

static __always_inline void data_submit(struct ws_ev_data *e, __u32 captured, __u32 reserved)
{
	e->captured = captured;
	ev_init(&e->ev, WS_EV_DATA, sizeof(*e) + captured);
	count(WS_K_OUT, 1);
	count(WS_K_BYTES, captured);
	bpf_ringbuf_submit(e, wake_flags(sizeof(*e) + reserved));
}

static __always_inline void data_lost(struct xfer *x)
{
	x->st->seq[x->dir & 1]++; /* the hole tells user space */
	count(WS_K_DROP_RING, 1);
}

/* One contiguous buffer of at most N bytes. */
#define EMIT_BUF(x, pid_tgid, N)                                                                  \
	do {                                                                                      \
		struct ws_ev_data *e = bpf_ringbuf_reserve(&events, sizeof(*e) + (N), 0);         \
		__u32 n = (x)->want;                                                              \
                                                                                                  \
		if (!e) {                                                                         \
			data_lost(x);                                                             \
			return;                                                                   \
		}                                                                                 \
		data_fill(e, (x), (pid_tgid));                                                    \
		asm volatile("" : "+r"(n));                                                       \
		if (n > (N))                                                                      \
			n = (N);                                                                  \
		if (n && bpf_probe_read_user(e->data, n, (void *)((x)->buf + (x)->skip))) {       \
			e->flags |= WS_DATA_FAULT;                                                \
			count(WS_K_FAULTS, 1);                                                    \
			n = 0;                                                                    \
		}                                                                                 \
		data_submit(e, n, (N));                                                           \
	} while (0)

static __always_inline void emit_buf(struct xfer *x, __u64 pid_tgid)
{
	if (x->want == 0)
		EMIT_BUF(x, pid_tgid, 0);
	else if (x->want <= 256)
		EMIT_BUF(x, pid_tgid, 256);
	else if (x->want <= 512)
		EMIT_BUF(x, pid_tgid, 512);
	else if (x->want <= 1024)
		EMIT_BUF(x, pid_tgid, 1024);
	else if (x->want <= 2048)
		EMIT_BUF(x, pid_tgid, 2048);
	else if (x->want <= 4096)
		EMIT_BUF(x, pid_tgid, 4096);
	else
		EMIT_BUF(x, pid_tgid, WS_CAPTURE_MAX);
}

/*
 * Gathers an iovec in steps of at most S bytes; N >= want + S, so that every step provably fits.
 * Returns the bytes gathered; fewer than wanted where a segment could not be read.
 */
#define GATHER_STEPS (WS_IOV_MAX + WS_CAPTURE_MAX / 1024 + 4)

static __always_inline __u32 gather(struct xfer *x, __u8 *to, __u32 N, __u32 S)
{
	__u64 base = 0, len = 0, skip = x->skip;
	__u32 off = 0, seg = 0, want = x->want;

	for (int i = 0; i < GATHER_STEPS; i++) {
		struct u_iovec v;
		__u32 n;

		if (off >= want)
			break;
		if (!len) {
			if (seg >= x->iovcnt)
				break;
			if (bpf_probe_read_user(&v, sizeof(v), (void *)(x->buf + (__u64)seg * sizeof(v))))
				break;
			seg++;
			base = v.base;
			len = v.len;
			if (skip >= len) {
				skip -= len;
				len = 0;
				continue;
			}
			base += skip;
			len -= skip;
			skip = 0;
		}
		n = want - off;
		if (n > len)
			n = len;
		asm volatile("" : "+r"(n), "+r"(off));
		if (n > S)
			n = S;
		if (off > N - S || !n)
			break;
		if (bpf_probe_read_user(to + off, n, (void *)base))
			break;
		off += n;
		base += n;
		len -= n;
	}
	return off;
}

#define EMIT_IOV(x, pid_tgid, N, S)                                                               \
	do {                                                                                      \
		struct ws_ev_data *e = bpf_ringbuf_reserve(&events, sizeof(*e) + (N), 0);         \
		__u32 n;                                                                          \
                                                                                                  \
		if (!e) {                                                                         \
			data_lost(x);                                                             \
			return;                                                                   \
		}                                                                                 \
		data_fill(e, (x), (pid_tgid));                                                    \
		n = gather((x), e->data, (N), (S));                                               \
		if (!n) {                                                                         \
			e->flags |= WS_DATA_FAULT;                                                \
			count(WS_K_FAULTS, 1);                                                    \
		}                                                                                 \
		data_submit(e, n, (N));                                                           \
	} while (0)

static __always_inline void emit_iov(struct xfer *x, __u64 pid_tgid)
{
	if (x->want <= 256)
		EMIT_IOV(x, pid_tgid, 512, 256);
	else if (x->want <= 1024)
		EMIT_IOV(x, pid_tgid, 2048, 1024);
	else if (x->want <= 3072)
		EMIT_IOV(x, pid_tgid, 4096, 1024);
	else
		EMIT_IOV(x, pid_tgid, WS_CAPTURE_MAX + 1024, 1024);
}

/* ---- position, token ------------------------------------------------------------------------- */

static __always_inline void take_position(struct xfer *x)
{
	struct sock_state *st = x->st;
	struct sock *sk = x->sk;
	__u64 prev = st->pos[x->dir & 1], pos = prev;

	if (st->seqpos) {
#ifdef WS_BTF_SHELL
		struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

		if (!tp)
			return;
#else
		struct tcp_sock *tp = (struct tcp_sock *)sk;
#endif
		__u32 end = x->dir == WS_TX ? KREAD(tp, write_seq) : KREAD(tp, copied_seq);
		__u32 start = end - x->size;
		bool fin = x->dir == WS_RX && (KREAD(sk, sk_shutdown) & RCV_SHUTDOWN);

		if (!prev) {
			/* tcp_recvmsg steps over a FIN that it reaches: one more than bytes. */
			if (fin && end == KREAD(tp, rcv_nxt))
				start--;
			pos = 1ull << 32 | start;
		} else {
			__s32 jump = (__s32)(start - (__u32)prev);

			if (fin && jump == 1)
				jump = 0;
			if (jump < 0)
				x->flags |= WS_DATA_AMBIGUOUS; /* somebody else moved it meanwhile */
			else
				pos = prev + jump;
		}
	}
	x->pos = pos;
	st->pos[x->dir & 1] = pos + x->size;
}

/*
 * Ingress starts work, egress is caused by what the thread works on. The kernel never clears a
 * binding at a response: user space knows when a request is over.
 */
static __always_inline void take_token(struct xfer *x, __u32 tid)
{
	struct sock_state *st = x->st;
	struct thread_state *ts = x->ts;
	bool loop = ts->proc_flags & WS_PROC_LOOP;

	x->tok = ts->tok;
	if (x->dir == WS_RX) {
		if (!x->size || (st->role == WS_ROLE_CLIENT && !loop))
			return;
		ts->tok.sock = st->id;
		ts->tok.pos = x->pos;
		ts->tok.len = x->size;
		ts->tok.kind = loop ? WS_TOK_CALLBACK : WS_TOK_THREAD;
		ts->tok.flags = x->flags & WS_DATA_NONBLOCK ? WS_TOKEN_NONBLOCK : 0;
		ts->tok.tid = tid;
		return;
	}
	if (ts->tok.kind == WS_TOK_PROVISIONAL)
		ts->used = 1;
	if (st->dialled) {
		x->flags |= WS_DATA_DIALLED;
		st->dialled = 0;
		/* In a loop the connection belongs to the callback that opened it, for its first request. */
		if (loop && st->dial.sock) {
			x->tok = st->dial;
			x->tok.kind = WS_TOK_DIAL;
		}
	}
}

/* True: user space wants nothing of this transfer, not even an event. */
static __always_inline bool take_ctl(struct xfer *x)
{
	struct sock_state *st = x->st;
	__u32 slot = ws_ctl_slot(st->id);
	struct ws_ctl *c = bpf_map_lookup_elem(&ctl, &slot);
	__u64 until;

	x->skip = 0;
	x->want = x->size < cfg.capture ? x->size : cfg.capture;
	if (!c || c->sock != st->id)
		return false;
	if (c->mode == WS_CTL_STOP) {
		st->stopped = 1;
		return true;
	}
	if (c->role)
		st->role = c->role;
	until = c->skip_until[x->dir & 1];
	if (until > x->pos) {
		if (until - x->pos > x->size && !(x->flags & (WS_DATA_EOF | WS_DATA_ERROR))) {
			count(WS_K_SKIPPED, 1);
			return true;
		}
		x->skip = until - x->pos < x->size ? until - x->pos : x->size;
		if (x->want > x->size - x->skip)
			x->want = x->size - x->skip;
	}
	if (c->mode == WS_CTL_COUNT)
		x->want = 0;
	return false;
}

/* ---- the core -------------------------------------------------------------------------------- */

/*
 * `ret` bytes moved (or -errno), `msg_flags` as given to the call. Called in the task that made the
 * call, after it.
 */
static __always_inline void capture(struct sock *sk, int ret, int msg_flags, enum ws_dir dir,
				    struct task_struct *task, struct pt_regs *regs)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct xfer x = { .sk = sk, .dir = dir };
	bool trusted;

	if (!sock_is_stream(sk) || (msg_flags & (MSG_PEEK | MSG_ERRQUEUE | MSG_OOB)))
		return;
	if (ret < 0 && ret != -104 /* ECONNRESET */ && ret != -32 /* EPIPE */ && ret != -110 /* ETIMEDOUT */)
		return;
	x.ts = thread_state(task);
	if (!x.ts || !flags_traced(x.ts->proc_flags))
		return;
	count(WS_K_RUNS, 1);
	x.st = sock_state(sk, true);
	if (!x.st) {
		count(WS_K_IN, 1);
		count(WS_K_DROP_STATE, 1);
		return;
	}
	if (x.st->stopped) {
		count(WS_K_STOPPED, 1);
		return;
	}
	x.size = ret > 0 ? ret : 0;
	if (ret < 0) {
		x.flags |= WS_DATA_ERROR;
		x.err = -ret;
	} else if (ret == 0) {
		if (dir == WS_TX)
			return;
		x.flags |= WS_DATA_EOF;
	}
	if ((msg_flags & MSG_DONTWAIT) || (KREAD(sk, sk_socket, file, f_flags) & O_NONBLOCK))
		x.flags |= WS_DATA_NONBLOCK;
	if (!x.st->id)
		sock_init(sk, x.st, pid_tgid);
	take_position(&x);
	if (!x.st->announced)
		sock_announce(sk, x.st, 0);
	trusted = find_buffer(&x, task, regs) && !(msg_flags & MSG_TRUNC);
	take_token(&x, (__u32)pid_tgid);
	if (take_ctl(&x))
		return;
	count(WS_K_IN, 1);
	if (!trusted) {
		x.want = 0;
		if (x.size) {
			x.flags |= WS_DATA_UNSEEN;
			count(WS_K_UNSEEN, 1);
		}
	}
	if (x.iovcnt && x.want)
		emit_iov(&x, pid_tgid);
	else
		emit_buf(&x, pid_tgid);
}

#endif
