// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * One transfer into the ring. A global function: the verifier goes through its many size classes
 * once, whatever led to the call (inlined they took it seven seconds per program).
 */
#include "emit.bpf.h"
#include "state.bpf.h"
#ifndef WS_LEGACY
#include "context.bpf.h"
#endif

static __always_inline void data_fill(struct ws_ev_data *e, const struct xfer *x)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	e->sock = x->sock;
	e->pos = x->pos;
	e->size = x->size;
	e->captured = 0;
	e->skipped = x->skip;
	e->seq = x->seq;
	e->tgid = pid_tgid >> 32;
	e->tid = (__u32)pid_tgid;
	e->dir = x->dir;
	e->flags = x->flags;
	e->err = x->err;
	e->tail = 0;
	e->wire_flags = x->wire_flags;
	e->wire = x->wire;
	e->wire_into = x->wire_into;
	e->token = x->tok;
}

static __always_inline __u32 context_size(const struct ws_ev_data *e)
{
	return e->flags & WS_DATA_CONTEXT ? sizeof(struct ws_context) : 0;
}

/* Is there more than is captured? */
static __always_inline bool has_tail(const struct xfer *x, __u32 captured)
{
	return captured && x->size - x->skip > captured;
}

/* The transfer's last bytes, if there is room: `end` is the user address behind them, `left` how many are not captured. */
static __always_inline void add_tail(struct ws_ev_data *e, __u32 captured, __u32 room, __u64 end, __u32 left)
{
	__u32 at = captured + context_size(e), n = left < WS_TAIL ? left : WS_TAIL;

	asm volatile("" : "+r"(at), "+r"(n));
	n &= 2 * WS_TAIL - 1;
	if (at <= room - 2 * WS_TAIL && n && !bpf_probe_read_user(e->data + at, n, (void *)(end - n)))
		e->tail = n;
}

/* The same where the last segment holds only `last` of them (1 to 6), at `base`, and the one before ends at `before`. */
static __always_inline void add_tail_of_two(struct ws_ev_data *e, __u32 captured, __u32 room, __u64 before,
					    __u64 before_len, __u64 base, __u32 last)
{
	__u32 at = captured + context_size(e), first = WS_TAIL_MIN - last;

	if (before_len < first)
		first = before_len;
	asm volatile("" : "+r"(at), "+r"(first), "+r"(last));
	first &= 7;
	last &= 7;
	if (at <= room - 2 * WS_TAIL && !bpf_probe_read_user(e->data + at, first, (void *)(before - first)) &&
	    !bpf_probe_read_user(e->data + at + first, last, (void *)base))
		e->tail = first + last;
}

static __always_inline void data_submit(struct ws_ev_data *e, __u32 captured, __u32 reserved)
{
	e->captured = captured;
	ev_init(&e->ev, WS_EV_DATA, sizeof(*e) + captured + context_size(e) + e->tail);
	count(WS_K_OUT, 1);
	if (captured) /* clang makes an atomic "or" of adding the constant 0, which 5.10 does not know */
		count(WS_K_BYTES, captured);
	bpf_ringbuf_submit(e, wake_flags(sizeof(*e) + reserved));
}

/*
 * The context goes behind the captured bytes, where a size class leaves room for it. Legacy kernels cannot
 * look for it (no bpf_loop): user space reads it as well, and counts that the kernel did not.
 */
#ifdef WS_LEGACY
#define ADD_CONTEXT(e, n, N)
#else
#define ADD_CONTEXT(e, n, N)                                                            \
	do {                                                                            \
		struct ws_context c_;                                                   \
		__u32 at_ = (n);                                                        \
                                                                                        \
		asm volatile("" : "+r"(at_));                                           \
		if (at_ <= (N) - sizeof(c_) && SCAN_CONTEXT((e)->data, at_, N, &c_)) {  \
			__builtin_memcpy((e)->data + at_, &c_, sizeof(c_));             \
			(e)->flags |= WS_DATA_CONTEXT;                                  \
		}                                                                       \
	} while (0)
#endif

static __always_inline void emit_nothing(struct xfer *x)
{
	struct ws_ev_data *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		count(WS_K_DROP_RING, 1);
		return;
	}
	data_fill(e, x);
	data_submit(e, 0, 0);
}

/* One contiguous buffer of at most N bytes, a context included. */
#define EMIT_BUF(x, N)                                                                  \
	do {                                                                            \
		struct ws_ev_data *e = bpf_ringbuf_reserve(&events, sizeof(*e) + (N), 0); \
		__u32 n = (x)->want;                                                    \
                                                                                        \
		if (!e) {                                                               \
			count(WS_K_DROP_RING, 1);                                       \
			return;                                                         \
		}                                                                       \
		data_fill(e, x);                                                        \
		asm volatile("" : "+r"(n));                                             \
		if (n > (N))                                                            \
			n = (N);                                                        \
		if (bpf_probe_read_user(e->data, n, (void *)((x)->buf + (x)->skip))) {  \
			e->flags |= WS_DATA_FAULT;                                      \
			count(WS_K_FAULTS, 1);                                          \
			n = 0;                                                          \
		} else if ((x)->scan) {                                                 \
			ADD_CONTEXT(e, n, N);                                           \
		}                                                                       \
		if (has_tail(x, n))                                                     \
			add_tail(e, n, N, (x)->buf + (x)->size, (x)->size - (x)->skip - n); \
		data_submit(e, n, (N));                                                 \
	} while (0)

static __always_inline void emit_buf(struct xfer *x)
{
	__u32 room = x->want + (x->scan ? sizeof(struct ws_context) : 0) + (has_tail(x, x->want) ? 2 * WS_TAIL : 0);

	if (x->want == 0)
		emit_nothing(x);
	else if (room <= 256)
		EMIT_BUF(x, 256);
	else if (room <= 512)
		EMIT_BUF(x, 512);
	else if (room <= 1024)
		EMIT_BUF(x, 1024);
	else if (room <= 2048)
		EMIT_BUF(x, 2048);
	else if (room <= 4096)
		EMIT_BUF(x, 4096);
	else
		EMIT_BUF(x, 9216);
}

/*
 * Gathers an iovec in steps of at most S bytes into a record of N; N >= want + S, so that every step
 * provably fits. The steps run in bpf_loop (5.17, commit e6f2dd0f8067): as a plain loop they are too
 * many paths for the verifier. Where it stands is kept in the transfer, in a map: there every path leaves
 * the same unknown numbers, and the legacy loop ends for the verifier, too.
 */
#define GATHER_STEPS (WS_IOV_MAX + WS_CAPTURE_MAX / 1024 + 4)

struct gather {
	__u8 *to;
	struct xfer *x;
};

static __always_inline long read_segment(const struct xfer *x, struct u_iovec *v)
{
	void *at = (void *)(x->buf + (__u64)x->at.seg * sizeof(*v));

	return x->kiov ? bpf_probe_read_kernel(v, sizeof(*v), at) : bpf_probe_read_user(v, sizeof(*v), at);
}

/* 1: done, or cannot go on. */
static __always_inline long gather_step(struct gather *g, __u32 N, __u32 S)
{
	struct xfer *x = g->x;
	__u32 n, off = x->at.off;
	struct u_iovec v;

	if (off >= x->want)
		return 1;
	if (!x->at.len) {
		if (x->at.seg >= x->iovcnt || read_segment(x, &v))
			return 1;
		x->at.seg++;
		if (x->at.skip >= v.len) {
			x->at.skip -= v.len;
			return 0;
		}
		x->at.base = v.base + x->at.skip;
		x->at.len = v.len - x->at.skip;
		x->at.skip = 0;
	}
	n = x->want - off;
	if (n > x->at.len)
		n = x->at.len;
	asm volatile("" : "+r"(n), "+r"(off));
	if (n > S)
		n = S;
	if (off > N - S || !n || bpf_probe_read_user(g->to + off, n, (void *)x->at.base))
		return 1;
	x->at.off = off + n;
	x->at.base += n;
	x->at.len -= n;
	return 0;
}

/* From where gathering has stopped to the segment in which the transfer ends. */
static long seek_end(__u32 i, void *ctx)
{
	struct gather *g = ctx;
	struct xfer *x = g->x;
	struct u_iovec v;

	if (x->at.left <= x->at.len)
		return 1;
	x->at.left -= x->at.len;
	x->at.before = x->at.base + x->at.len;
	x->at.before_len = x->at.len;
	x->at.len = 0;
	if (x->at.seg >= x->iovcnt || read_segment(x, &v))
		return 1;
	x->at.seg++;
	x->at.base = v.base;
	x->at.len = v.len;
	return 0;
}

#define GATHER(N, S)                                                                              \
	static long gather_##N(__u32 i, void *ctx)                                                \
	{                                                                                         \
		return gather_step(ctx, N, S);                                                    \
	}

#ifndef WS_LEGACY
GATHER(512, 256)
GATHER(4096, 1024)
#endif
GATHER(2048, 1024)
GATHER(9216, 1024)
_Static_assert(WS_CAPTURE_MAX + 1024 == 9216, "the largest class holds the largest capture");

#define EMIT_IOV(x_, N)                                                                 \
	do {                                                                            \
		struct ws_ev_data *e = bpf_ringbuf_reserve(&events, sizeof(*e) + (N), 0); \
		struct gather g = { .x = (x_) };                                        \
		__u32 got;                                                              \
                                                                                        \
		if (!e) {                                                               \
			count(WS_K_DROP_RING, 1);                                       \
			return;                                                         \
		}                                                                       \
		data_fill(e, x_);                                                       \
		g.to = e->data;                                                         \
		(x_)->at.skip = (x_)->skip + (x_)->lead;                                \
		LOOP(GATHER_STEPS, gather_##N, &g);                                     \
		got = (x_)->at.off;                                                     \
		if (!got) {                                                             \
			e->flags |= WS_DATA_FAULT;                                      \
			count(WS_K_FAULTS, 1);                                          \
		} else if ((x_)->scan) {                                                \
			ADD_CONTEXT(e, got, N);                                         \
		}                                                                       \
		if (has_tail(x_, got)) {                                                \
			(x_)->at.left = (x_)->size - (x_)->skip - got;                  \
			(x_)->at.before_len = 0;                                        \
			LOOP(WS_IOV_MAX + 1, seek_end, &g);                             \
			if ((x_)->at.left > (x_)->at.len)                               \
				; /* more segments than are looked at */                \
			else if ((x_)->at.left >= WS_TAIL_MIN || !(x_)->at.before_len)  \
				add_tail(e, got, N, (x_)->at.base + (x_)->at.left, (x_)->at.left); \
			else                                                            \
				add_tail_of_two(e, got, N, (x_)->at.before, (x_)->at.before_len, (x_)->at.base, \
						(x_)->at.left);                         \
		}                                                                       \
		data_submit(e, got, (N));                                               \
	} while (0)

static __always_inline void emit_iov(struct xfer *x)
{
#ifndef WS_LEGACY
	if (x->want <= 256) {
		EMIT_IOV(x, 512);
		return;
	}
	if (x->want > 1024 && x->want <= 3072) {
		EMIT_IOV(x, 4096);
		return;
	}
#endif
	if (x->want <= 1024)
		EMIT_IOV(x, 2048);
	else
		EMIT_IOV(x, 9216);
}

/* The sequence number was taken before: a record that finds no room leaves a hole that tells. */
#ifdef WS_LEGACY
__noinline int emit_of_thread(__u32 tid)
{
	struct thread_state *ts = thread_state_of(NULL, tid, false);
	struct xfer *x = ts ? &ts->xfer : NULL;
#else
__noinline int emit_one(struct xfer *x)
{
#endif
	if (!x)
		return 0;
	if (x->iovcnt && x->want)
		emit_iov(x);
	else
		emit_buf(x);
	return 0;
}
