/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The capture core: "ret bytes just moved on this stream socket". Every attach plan is a thin shell
 * around capture(), which
 *
 *   1. drops what is not a stream socket of a traced process,
 *   2. finds or makes the socket's state and says who the socket is the first time,
 *   3. works out the position of the bytes,
 *   4. binds (ingress) or looks up (egress) the token of the running thread,
 *   5. copies the bytes, if they are wanted and if it is certain where they are.
 *
 * Registers are trusted only if the task is an ordinary 64-bit thread, the system call is one that
 * moves socket data, and its descriptor resolves to this very socket: a completed io_uring receive
 * runs as task work inside some other call and shows that one's registers, I/O workers carry stale
 * ones, and kernel sockets send inside unrelated calls.
 */
#ifndef WS_CAPTURE_BPF_H
#define WS_CAPTURE_BPF_H

#include "emit.bpf.h"
#include "fd.bpf.h"
#include "runtime.bpf.h"
#include "tls.bpf.h"

/*
 * A call that moved bytes, as a hook shows it after the call. Where the bytes are is told by one of two: the
 * registers that the task saved when it entered the kernel, or the message that the kernel made of them.
 */
struct moved {
	struct sock *sk;
	struct task_struct *task;
	struct pt_regs *regs;
	struct msghdr *msg;
	__u64 asked;   /* size of the message before the call */
	__u32 behind;  /* bytes that the same system call moved after these */
	struct file *file; /* what the descriptor leads to now, after the call: `sk` was found by that. Or NULL */
	__u64 ino;	   /* with `file`: its inode's number */
	int ret;       /* bytes, or -errno */
	int flags;     /* MSG_*, as given to the call */
	enum ws_dir dir;
};

/* What a transfer was seen on. */
struct seen {
	struct sock *sk;
	struct sock_state *st;
	struct thread_state *ts;
	__u64 session; /* the TLS session whose plaintext `st` is of, 0: none */
	bool seqpos;   /* … and its socket's positions are TCP sequence numbers */
};

/* ---- the user's buffer ----------------------------------------------------------------------- */

static __always_inline bool task_args_trusted(struct task_struct *task)
{
	return !(TREAD(task, flags) & (PF_KTHREAD | PF_IO_WORKER)) && !task_is_compat(task);
}

/* Does this descriptor of the running task lead to `file`? */
static __always_inline bool fd_is_file(struct task_struct *task, __u64 fd, struct file *file)
{
	return file && fd_file(task, fd) == file;
}

/*
 * Which message of a sendmmsg or recvmmsg is this? The calls come one after the other in the same
 * thread; an error, a partial message or the last one ends the series, so the next starts at 0.
 */
static __always_inline bool mmsg_index(struct xfer *x, struct seen *o, const struct sys_args *a, __u32 *ret_idx)
{
	struct thread_state *ts = o->ts;

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

/* Plan syscall visits each message at the end of the call. */
#if defined(WS_BTF_SHELL) && !defined(WS_LEGACY)
struct iov_sum {
	__u64 iov, n, sum;
};

static long iov_sum_step(__u32 i, void *ctx)
{
	struct iov_sum *s = ctx;
	__u64 len = 0;

	if (i >= s->n || bpf_probe_read_user(&len, sizeof(len), (void *)(s->iov + i * sizeof(struct u_iovec) + 8)))
		return 1;
	s->sum += len;
	return 0;
}
#endif

/* A message that was sent in part ends the series: the caller begins again, with what is left. */
static __always_inline void mmsg_partial(const struct xfer *x, struct thread_state *ts, __u64 hdr)
{
#if defined(WS_BTF_SHELL) && !defined(WS_LEGACY)
	struct u_msghdr m = {};
	struct iov_sum s = {};

	if (bpf_probe_read_user(&m, sizeof(m), (void *)hdr))
		return;
	s.iov = m.iov;
	s.n = m.iovlen;
	bpf_loop(1024 /* UIO_MAXIOV */, iov_sum_step, &s, 0);
	if (x->size < s.sum)
		ts->mm_vec = 0;
#endif
}

/* An error ends it as well (nothing more to read, no room to send), an empty message does not. */
static __always_inline void mmsg_silent(const struct moved *m)
{
	struct thread_state *ts;
	enum sys_op op;

	if (m->msg || m->file || !m->regs)
		return;
	op = sys_classify(sys_number(m->regs));
	if (op != SYS_MMSG_TX && op != SYS_MMSG_RX)
		return;
	ts = thread_state_now();
	if (!ts)
		return;
	if (m->ret < 0)
		ts->mm_vec = 0;
	else
		ts->mm_idx++;
}

static __always_inline bool find_msg(struct xfer *x, __u64 hdr)
{
	struct u_msghdr m = {};

	if (bpf_probe_read_user(&m, sizeof(m), (void *)hdr))
		return false;
	x->buf = m.iov;
	x->iovcnt = m.iovlen > WS_IOV_MAX ? WS_IOV_MAX : m.iovlen;
	return x->iovcnt != 0;
}

/* Fills x->buf and x->iovcnt from saved registers; false: this transfer shows no user buffer. */
static __always_inline bool find_buffer_regs(struct xfer *x, struct seen *o, const struct moved *m)
{
	struct task_struct *task = m->task;
	struct pt_regs *regs = m->regs;
	struct sock *sk = o->sk;
	struct sys_args a;
	__u32 idx;

	if (!task_args_trusted(task))
		return false;
	sys_args_read(regs, &a);
	if (a.op == SYS_OTHER || (!m->file && !fd_is_file(task, a.a0, KREAD(sk, sk_socket, file))))
		return false;
	if (a.op != SYS_MMSG_TX && a.op != SYS_MMSG_RX)
		o->ts->mm_vec = 0;
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
		if (!mmsg_index(x, o, &a, &idx))
			return false;
		if (a.op == SYS_MMSG_TX)
			mmsg_partial(x, o->ts, a.a1 + (__u64)idx * sizeof(struct u_mmsghdr));
		return find_msg(x, a.a1 + (__u64)idx * sizeof(struct u_mmsghdr));
	default:
		return false;
	}
}

/*
 * The call advanced the iterator over the bytes that it moved. Steps back through the segments, to where
 * those bytes began: never before the first, because the segments passed hold exactly them.
 */
#ifdef WS_LEGACY
#define REWIND_STEPS (WS_IOV_MAX + 1) /* the last one only says that the first segment was reached */
#else
#define REWIND_STEPS (1024 + 1) /* UIO_MAXIOV segments */
#endif

struct rewind {
	__u64 iov, off, need;
	__u32 n;
	__u32 found;
};

static long rewind_step(__u32 i, void *ctx)
{
	struct rewind *r = ctx;
	__u64 len = 0;

	if (r->need <= r->off) {
		r->off -= r->need;
		r->found = 1;
		return 1;
	}
	r->need -= r->off;
	r->iov -= sizeof(struct u_iovec);
	if (bpf_probe_read_kernel(&len, sizeof(len), (void *)(r->iov + 8)))
		return 1;
	r->off = len;
	r->n++;
	return 0;
}

static __always_inline bool find_buffer_iov(struct xfer *x, __u64 iov, __u64 off)
{
	struct rewind r = { .iov = iov, .off = off, .need = x->size, .n = off != 0 };
	__u64 base = 0;

	LOOP(REWIND_STEPS, rewind_step, &r);
	if (!r.found)
		return false;
	if (r.n > 1) {
		x->buf = r.iov;
		x->lead = r.off;
		x->iovcnt = r.n > WS_IOV_MAX ? WS_IOV_MAX : r.n;
		x->kiov = 1;
		return true;
	}
	if (bpf_probe_read_kernel(&base, sizeof(base), (void *)r.iov))
		return false;
	x->buf = base + r.off;
	return true;
}

/* The same from the kernel's message: 32-bit callers, io_uring and every kind of call alike. */
static __always_inline bool find_buffer_msg(struct xfer *x, struct msghdr *msg, __u64 asked)
{
	struct iov_iter *it = &msg->msg_iter;
	__u64 off = BPF_CORE_READ(it, iov_offset);

	/* More was stepped over than moved: a fault on the way. */
	if (asked - BPF_CORE_READ(it, count) != x->size)
		return false;
	if (iter_is_ubuf(it)) {
		x->buf = iter_ubuf(it) + off - x->size;
		return true;
	}
	return iter_is_iovec(it) && find_buffer_iov(x, iter_iov(it), off);
}

static __always_inline bool find_buffer(struct xfer *x, struct seen *o, const struct moved *m)
{
	if (m->msg)
		return !x->size || find_buffer_msg(x, m->msg, m->asked);
	return m->regs && find_buffer_regs(x, o, m);
}

/* ---- end, position, token ------------------------------------------------------------------------- */

/* Nothing was read: because there will be nothing more, or because nothing was asked for? */
static __always_inline bool peer_ended(struct sock *sk)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;

	if (!(KREAD(sk, sk_shutdown) & RCV_SHUTDOWN) && KREAD(sk, __sk_common.skc_state) != TCP_CLOSE)
		return false;
	if (KREAD(sk, __sk_common.skc_family) == AF_UNIX)
		return !KREAD(sk, sk_receive_queue.qlen);
	if (KREAD(sk, sk_protocol) != IPPROTO_TCP)
		return true;
	return (__s32)(BPF_CORE_READ(tp, rcv_nxt) - BPF_CORE_READ(tp, copied_seq)) <= 1; /* a FIN counts as a byte */
}

/* TCP's own count of the bytes of that direction that programs have moved, this transfer's included; a SYN or a FIN may be in it. */
static __always_inline __u64 tcp_moved(struct tcp_sock *tp, __u32 dir)
{
	if (dir == WS_TX)
		return (__u32)(BPF_CORE_READ(tp, write_seq) - BPF_CORE_READ(tp, snd_una)) + BPF_CORE_READ(tp, bytes_acked);
	return BPF_CORE_READ(tp, bytes_received) - (__u32)(BPF_CORE_READ(tp, rcv_nxt) - BPF_CORE_READ(tp, copied_seq));
}

static __always_inline void take_position(struct xfer *x, struct seen *o)
{
	struct sock_state *st = o->st;
	struct sock *sk = o->sk;
	__u64 prev = st->pos[x->dir & 1], pos = prev;

	if (st->seqpos) {
#if defined(WS_BTF_SHELL) && !defined(WS_LEGACY)
		struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

		if (!tp)
			return;
#else
		struct tcp_sock *tp = (struct tcp_sock *)sk;
#endif
		__u32 end = x->dir == WS_TX ? KREAD(tp, write_seq) : KREAD(tp, copied_seq);
		__u32 start = end - x->behind - x->size;
		bool fin = x->dir == WS_RX && (KREAD(sk, sk_shutdown) & RCV_SHUTDOWN);

		if (!prev) {
			/* tcp_recvmsg steps over a FIN that it reaches: one more than bytes. */
			if (fin && end == KREAD(tp, rcv_nxt))
				start--;
			pos = 1ull << 32 | start;
			/* Bytes went before that nobody was told of: user space must not take this for the beginning. */
			if (st->born && tcp_moved(tp, x->dir) > (__u64)x->size + x->behind + 1)
				st->seq[x->dir & 1]++;
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
	if (st->seqpos)
		st->pos[x->dir & 1] = pos + x->size;
	else /* a running count, of whoever moves bytes there at the same time as well */
		__sync_fetch_and_add(&st->pos[x->dir & 1], x->size);
}

/*
 * Ingress starts work, egress is caused by what the thread works on. The kernel never clears a
 * binding at a response: user space knows when a request is over.
 */
static __always_inline void take_token(struct xfer *x, struct seen *o, struct task_struct *task, __u32 tid)
{
	struct sock_state *st = o->st;
	struct thread_state *ts = o->ts;
	bool loop = ts->proc_flags & WS_PROC_LOOP, turns = ts->runtime == WS_RT_LIBUV;

	bool begins = !st->awaiting || st->dialled; /* of a request, if it is written */

	x->tok = ts->tok;
	if (x->size)
		st->awaiting = x->dir == WS_TX;
	if (x->dir == WS_RX) {
		/* Only accepted connections bring work; in a loop a response carries on what it answers. */
		bool work = x->size && (st->role == WS_ROLE_SERVER || ((loop || turns) && st->role == WS_ROLE_CLIENT));

		if (!work) {
			if (ts->runtime && !turns)
				context_reads(ts, task, st, false);
			return;
		}
		if ((loop && !waits_seen) || (turns && !ts->turn)) {
			ts->tok.sock = 0;
			return;
		}
		if (turns && st->role == WS_ROLE_CLIENT) {
			turn_goes_on(ts, st);
			return;
		}
		ts->tok.sock = st->id;
		ts->tok.pos = x->pos;
		ts->tok.len = x->size;
		ts->tok.kind = turns ? WS_TOK_TURN : loop ? WS_TOK_CALLBACK : WS_TOK_THREAD;
		/* What 32-bit programs wait for is not seen: their system calls are others. */
		ts->tok.flags = (x->flags & WS_DATA_NONBLOCK) || !waits_seen || task_is_compat(task) ? WS_TOKEN_NONBLOCK : 0;
		ts->tok_sk = (__u64)o->sk;
		ts->tok.by = tid;
		ts->tok.context = 0;
		if (turns) {
			__builtin_memset(ts->tok.heirs, 0, sizeof(ts->tok.heirs));
		} else if (ts->runtime) {
			ts->work_first = !st->seq[WS_TX] && !tls_record(first_byte(x)); /* a handshake is no request */
			context_reads(ts, task, st, true);
		}
		x->tok = ts->tok;
		return;
	}
	if (ts->runtime)
		context_writes(ts, task, &st->writer, &x->tok, false);
	if (ts->tok.kind == WS_TOK_PROVISIONAL)
		ts->used = 1;
	if (st->dialled) {
		x->flags |= WS_DATA_DIALLED;
		st->dialled = 0;
		/*
		 * In a loop the connection belongs to the callback that opened it, for its first request, and to
		 * none if a timer opened it: the write may come turns later, behind some other callback.
		 */
		if (loop || turns) {
			x->tok = st->dial;
			x->tok.kind = turns ? WS_TOK_TURN : WS_TOK_DIAL;
			x->tok.flags |= turns ? WS_TOKEN_ITEM : 0;
		}
	}
	if (turns && x->size)
		turn_asks(st, &x->tok, begins);
}

/*
 * While the call slept another thread may have closed its descriptor, whose number then went to this connection. TCP
 * can tell: its counters show whether these bytes can have been its own.
 */
static __always_inline bool is_foreign(const struct xfer *x, const struct sock_state *st, struct sock *sk)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;
	__u64 moved;

	if (!st->seqpos || !x->size)
		return false;
	if (st->pos[x->dir & 1]) {
		moved = x->dir == WS_TX ? KREAD(tp, write_seq) : KREAD(tp, copied_seq);
		return (__u32)moved - x->behind == (__u32)st->pos[x->dir & 1];
	}
	moved = x->dir == WS_TX ? (__u32)(KREAD(tp, write_seq) - KREAD(tp, snd_una)) + KREAD(tp, bytes_acked)
				: KREAD(tp, bytes_received);
	return moved < x->size;
}

/* True: user space wants nothing of this transfer, not even an event. */
static __always_inline bool take_ctl(struct xfer *x, struct seen *o)
{
	struct sock_state *st = o->st;
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

/* An error that says nothing of the connection: nothing to read yet, no room to send. */
static __always_inline bool ret_is_silent(__s64 ret)
{
	return ret < 0 && ret != -104 /* ECONNRESET */ && ret != -32 /* EPIPE */ && ret != -110 /* ETIMEDOUT */;
}

/* From here on plaintext goes the same way. `trusted`: it is certain where the bytes are. */
static __always_inline void hand_over(struct xfer *x, struct seen *o, struct task_struct *task, bool trusted)
{
	__u32 dir = x->dir & 1;

	take_token(x, o, task, (__u32)bpf_get_current_pid_tgid());
	if (take_ctl(x, o))
		return;
	count(WS_K_IN, 1);
	if (!trusted) {
		x->want = 0;
		if (x->size) {
			x->flags |= WS_DATA_UNSEEN;
			count(WS_K_UNSEEN, 1);
		}
	}
	x->scan = dir == WS_RX && o->st->role == WS_ROLE_SERVER;
	x->sock = o->st->id;
	x->seq = o->st->seq[dir]++;
	emit_transfer(o->ts);
}

/* Does this transfer show which session the socket is? `at`: where its bytes are, 0: not known. */
static __always_inline struct tls_session *find_session(struct xfer *x, struct seen *o, struct task_struct *task, __u64 at)
{
	struct thread_state *ts = o->ts;
	struct tls_session *s = NULL;
	__u8 record;

	if (!at)
		return NULL;
	if (in_tls_call(ts, task)) {
		record = tls_record(at);
		s = record ? tls_bind(ts->tls.session, task, o->st, record == TLS_RECORD_HANDSHAKE) : NULL;
		ts->tls.bound = s != NULL;
	} else if (ts->sealed && x->dir == WS_TX) {
		s = tls_sent(ts, task, o->st, at);
	}
	if (!s && (ts->sealed || !o->st->seq[x->dir & 1]))
		s = tls_of_goroutine(ts, task, o->st, at);
	if (s)
		sock_announce_tls(o->sk, &s->st);
	return s;
}

/*
 * Are these the session's first bytes, those of its client, and more than a record's head, which may be read by itself?
 */
static __always_inline bool is_hello(struct tls_session *s, const struct xfer *x)
{
	bool hello = s->hello && x->dir == (s->st.role == WS_ROLE_SERVER ? WS_RX : WS_TX);

	if (!hello || x->size > TLS_HEADER)
		s->hello = 0;
	return hello && x->size > TLS_HEADER;
}

/* … they are told of as no text of the connection. */
static __always_inline void tell_hello(struct xfer *x, const struct seen *o)
{
	count(WS_K_IN, 1);
	x->want = x->size < cfg.capture ? x->size : cfg.capture;
	x->sock = o->st->id;
	emit_transfer(o->ts);
}

/*
 * Is this socket a TLS session's? What it moved is ciphertext then, and done with; that nothing moves any more (x->size
 * 0) is told of the plaintext's connection, to which `o` leads from here on.
 */
static __always_inline bool is_ciphertext(struct xfer *x, struct seen *o, struct task_struct *task, bool trusted)
{
	bool inside = in_tls_call(o->ts, task);
	__u64 session = inside ? o->ts->tls.session : o->st->session;
	struct tls_session *s = session ? tls_session_of(session, task) : NULL;

	if (!s || s->under != o->st->id)
		s = find_session(x, o, task, x->size && trusted ? first_byte(x) : 0);
	if (!s)
		return false;
	if (x->size && x->dir == WS_RX) { /* what was read before is not what goes on here; its text says whose work it is */
		o->ts->window = 0;
		o->ts->work_read = 0;
	}
	s->sk = (__u64)o->sk;
	s->nonblock = (x->flags & WS_DATA_NONBLOCK) != 0;
	if (inside && x->size && o->ts->tls.what == (x->dir == WS_TX ? TLS_WRITE : TLS_READ))
		tls_wire(s, x, o->sk, trusted ? first_byte(x) : 0);
	if ((inside ? x->size > TLS_HEADER : s->carried && x->size) && x->dir == WS_RX && s->st.role == WS_ROLE_SERVER)
		tls_note_records(s, x, o->sk, trusted ? first_byte(x) : 0);
	if (x->size && s->hello && is_hello(s, x) && trusted)
		x->wire_flags = WS_WIRE_HELLO;
	o->session = o->st->session;
	o->seqpos = s->seqpos;
	o->st = &s->st;
	return true;
}

/* A TLS library has handed out text of this session, or takes it to be sent; `buf` 0: not from there. `flags`: WS_WIRE_VERSION. */
static __always_inline struct xfer *text_of(struct thread_state *ts, const struct tls_session *s, enum ws_dir dir, __u64 buf,
					    __u32 size, __u32 flags)
{
	struct xfer *x = &ts->xfer;

	__builtin_memset(x, 0, sizeof(*x));
	x->dir = dir;
	x->size = size;
	x->buf = buf;
	x->flags = s->nonblock ? WS_DATA_NONBLOCK : 0;
	x->wire_flags = flags;
	return x;
}

/* … of which is known where on the wire it lies, if that can be known. */
static __always_inline void tell_text(struct thread_state *ts, struct task_struct *task, struct tls_session *s, struct xfer *x)
{
	struct seen o = { .ts = ts, .st = &s->st, .sk = (struct sock *)s->sk };

	tls_position(s, x);
	hand_over(x, &o, task, x->buf != 0);
}

/* As WS_WIRE_VERSION: which version of TLS this session speaks. */
static __always_inline __u32 tls_version(__u64 session, __u64 cookie)
{
	union ws_tls l = { .cookie = cookie };
	__u16 v = 0;

	if (!l.version || bpf_probe_read_user(&v, sizeof(v), (void *)(session + l.version - 1)))
		return 0;
	return v > 0x0300 && v <= 0x0304 ? (v & 7u) << WS_WIRE_VERSION_SHIFT : 0;
}

/*
 * The socket has sent the record of text that was held: `x` was the ciphertext, and is the text from here on. Early data goes
 * behind its handshake's first records, and begins where the last of them does.
 */
static __always_inline void tell_held(struct xfer *x, struct seen *o, struct task_struct *task)
{
	struct thread_state *ts = o->ts;
	long last = in_tls_call(ts, task) ? tls_last_record(first_byte(x), x->size) : 0;
	__u32 wire = wire_position(o->sk, x) + last, flags = x->flags;

	if (o->st->stopped || !tls_held_is_there(ts, o->session)) {
		tls_drop_held(ts);
		return;
	}
	__builtin_memset(x, 0, sizeof(*x));
	x->dir = WS_TX;
	x->size = ts->held.size;
	x->buf = ts->held.buf;
	x->flags = flags;
	x->pos = o->st->pos[WS_TX];
	o->st->pos[WS_TX] = x->pos + x->size;
	if (o->seqpos && last >= 0) {
		x->wire = wire;
		x->wire_flags = WS_WIRE_KNOWN;
	}
	ts->held.session = 0;
	hand_over(x, o, task, true);
	o->st->writer = ts->held.writer; /* a transport may have sent it in another context */
}

/* Called in the task that made the call, after it. */
static __always_inline void capture(const struct moved *m)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct task_struct *task = m->task; /* KREAD() would relocate the step through `m` too */
	struct file *file = m->file;
	struct sock *sk = m->sk;
	struct seen o = { .sk = sk };
	int ret = m->ret;
	struct xfer *x;
	bool trusted;

	if (!sock_is_stream(sk) || (m->flags & (MSG_PEEK | MSG_ERRQUEUE | MSG_OOB)))
		return;
	if (ret_is_silent(ret)) {
		mmsg_silent(m);
		return;
	}
	o.ts = thread_state(task);
	if (!o.ts || !flags_traced(o.ts->proc_flags))
		return;
	count(WS_K_RUNS, 1);
	o.st = file ? sock_state_hash(sk, m->ino, true) : sock_state(sk, true);
	if (!o.st) {
		count(WS_K_IN, 1);
		count(WS_K_DROP_STATE, 1);
		return;
	}
	if (o.st->stopped && !o.st->tls && !o.ts->tls.session && !o.ts->sealed) {
		count(WS_K_STOPPED, 1);
		return;
	}
	x = &o.ts->xfer;
	__builtin_memset(x, 0, sizeof(*x));
	x->dir = m->dir;
	x->behind = m->behind;
	x->size = ret > 0 ? ret : 0;
	if (ret < 0) {
		x->flags |= WS_DATA_ERROR;
		x->err = -ret;
	} else if (ret == 0) {
		if (m->dir == WS_TX)
			mmsg_silent(m);
		if (m->dir == WS_TX || !peer_ended(sk))
			return;
		x->flags |= WS_DATA_EOF;
	}
	/* I/O workers block for a completion loop: their thread is nobody's. */
	if ((m->flags & MSG_DONTWAIT) || (TREAD(task, flags) & (PF_KTHREAD | PF_IO_WORKER)) ||
	    ((file ? BPF_CORE_READ(file, f_flags) : KREAD(sk, sk_socket, file, f_flags)) & O_NONBLOCK))
		x->flags |= WS_DATA_NONBLOCK;
	if (!o.st->id)
		sock_init(sk, o.st, pid_tgid);
	if (file && is_foreign(x, o.st, sk)) {
		count(WS_K_IN, 1);
		count(WS_K_DROP_FD, 1);
		return;
	}
	trusted = find_buffer(x, &o, m) && !(m->flags & MSG_TRUNC);
	if (is_ciphertext(x, &o, task, trusted)) {
		if (x->wire_flags & WS_WIRE_HELLO && !o.st->stopped)
			tell_hello(x, &o);
		else if (x->size || o.st->stopped)
			count(WS_K_STOPPED, 1);
		if (x->size && x->dir == WS_TX && o.ts->held.session)
			tell_held(x, &o, task);
		if (x->size || o.st->stopped)
			return;
		x->pos = o.st->pos[x->dir & 1];
		hand_over(x, &o, task, true);
		return;
	}
	if (o.st->stopped || o.st->tls) {
		count(WS_K_STOPPED, 1);
		return;
	}
	take_position(x, &o);
	if (!o.st->announced)
		sock_announce(sk, o.st, 0);
	hand_over(x, &o, task, trusted);
}

#endif
