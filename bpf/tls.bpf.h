/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which connection a TLS session is, and where its plaintext lies.
 *
 * The library's functions are probed (openssl.bpf.c and others): while a thread is in one of them, the socket that it
 * reads or writes there is the session's, if what moves looks like TLS. What the socket moves is then only counted;
 * the plaintext is a connection of its own, which begins where the session does and ends with the socket.
 *
 * Positions of plaintext count its bytes. Both ends of a connection know of a record where it begins on the wire: that
 * joins them.
 */
#ifndef WS_TLS_BPF_H
#define WS_TLS_BPF_H

#include "runtime.bpf.h"

/* RFC 8446, 5.1: types of records, change_cipher_spec to heartbeat; 0x03 and the minor version up to TLS 1.3. */
#define TLS_RECORD_FIRST 20
#define TLS_RECORD_HANDSHAKE 22
#define TLS_RECORD_TEXT 23 /* application_data */
#define TLS_RECORD_LAST 24
#define TLS_HEADER 5
#define TLS_TEXT_MAX 16384

static __always_inline __u64 proc_start(struct task_struct *task)
{
	return TREAD(task, group_leader, start_boottime);
}

/* Is this thread in a TLS library's function? What is called from there lies deeper on its stack. */
static __always_inline bool in_tls_call(struct thread_state *ts, struct task_struct *task)
{
	if (!ts->tls.session)
		return false;
	if (regs_stack(task_regs(task)) < ts->tls.sp)
		return true;
	ts->tls.session = 0; /* how it returned was not seen */
	return false;
}

/* NULL: none of that address, or it was another process's. */
static __always_inline struct tls_session *tls_session_of(__u64 session, struct task_struct *task)
{
	struct object_key key = object_key(session);
	struct tls_session *s = bpf_map_lookup_elem(&tls_sessions, &key);

	return s && s->proc_start == proc_start(task) ? s : NULL;
}

/* User address of a transfer's first byte. */
static __always_inline __u64 first_byte(const struct xfer *x)
{
	struct u_iovec v = { .base = x->buf };

	if (x->iovcnt && (x->kiov ? bpf_probe_read_kernel(&v, sizeof(v), (void *)x->buf)
				  : bpf_probe_read_user(&v, sizeof(v), (void *)x->buf)))
		return 0;
	return v.base + x->lead;
}

/* Type of the TLS record that stands there, 0: none. */
static __always_inline __u8 tls_record(__u64 at)
{
	__u8 head[4] = {};

	if (!at || bpf_probe_read_user(head, 3, (void *)at))
		return 0;
	return head[0] >= TLS_RECORD_FIRST && head[0] <= TLS_RECORD_LAST && head[1] == 3 && head[2] <= 4 ? head[0] : 0;
}

/* A new connection to user space: the plaintext of what `st` moves. */
static APART struct tls_session *tls_bind(__u64 session, struct task_struct *task, struct sock_state *st, bool handshake)
{
	static const struct tls_session fresh; /* too large for the stack */
	struct object_key key = object_key(session);
	struct tls_session *s;

	bpf_map_update_elem(&tls_sessions, &key, &fresh, BPF_ANY);
	s = bpf_map_lookup_elem(&tls_sessions, &key);
	if (!s)
		return NULL;
	s->under = st->id;
	s->seqpos = st->seqpos;
	s->proc_start = proc_start(task);
	s->st.id = sock_new_id();
	s->st.family = st->family;
	s->st.tgid = st->tgid;
	s->st.tid = st->tid;
	s->st.role = st->role;
	s->st.born = st->born && handshake;
	s->hello = handshake;
	s->st.dial = st->dial;
	s->st.dialled = st->role == WS_ROLE_CLIENT && s->st.born;
	s->st.awaiting = s->st.dialled;
	s->st.tls = st->id;
	st->tls = s->st.id;
	st->session = session;
	st->announced = 1; /* the socket itself has nothing more to tell */
	return s;
}

/* Up to where on the wire a socket's bytes were read: tcp_recvmsg() steps over a FIN that it reaches. */
static __always_inline __u32 wire_read(struct sock *sk)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;
	__u32 end = BPF_CORE_READ(tp, copied_seq);

	return end - (BPF_CORE_READ(sk, sk_shutdown) & RCV_SHUTDOWN && end == BPF_CORE_READ(tp, rcv_nxt));
}

/* Where on the wire the bytes of a socket begin that just moved. */
static __always_inline __u32 wire_position(struct sock *sk, const struct xfer *x)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;

	return (x->dir == WS_TX ? BPF_CORE_READ(tp, write_seq) : wire_read(sk)) - x->behind - x->size;
}

/*
 * Does a record begin here whose text is the next that is handed out, or was taken over, whatever went before in the same
 * call? The program hears nothing of what was read before (libraries that do not read ahead ask for a record's head by
 * itself), and its first write may have shaken hands. (A handshake's records are small; of those that a long text was cut
 * into the first counts.)
 */
static __always_inline bool tls_begins(const struct tls_session *s, const struct xfer *x, __u64 from)
{
	__u32 d = x->dir & 1;

	if (d == WS_RX)
		return x->size == TLS_HEADER || tls_record(from);
	return !s->st.pos[WS_TX] && s->begun[WS_TX] != TLS_BEGUN_LONG && tls_record(from);
}

/* The socket moved bytes for the session, the first of which is there. */
static __always_inline void tls_wire(struct tls_session *s, const struct xfer *x, struct sock *sk, __u64 from)
{
	__u32 d = x->dir & 1;

	if (!s->begun[d] || tls_begins(s, x, from)) {
		s->at[d] = wire_position(sk, x);
		s->known[d] = sock_has_seq(sk); /* not if the kernel encrypts */
		s->begun[d] = x->size > TLS_TEXT_MAX ? TLS_BEGUN_LONG : TLS_BEGUN;
		if (d == WS_RX)
			s->into = 0;
	}
}

/* Where the plaintext lies that was just handed out, or taken over to be sent. */
static __always_inline void tls_position(struct tls_session *s, struct xfer *x)
{
	__u32 d = x->dir & 1;

	x->pos = s->st.pos[d];
	s->st.pos[d] = x->pos + x->size;
	if (s->known[d]) {
		x->wire_flags |= WS_WIRE_KNOWN;
		x->wire = s->at[d];
		x->wire_into = d == WS_RX ? s->into : 0;
	}
	if (d == WS_RX)
		s->into += x->size;
	else
		s->known[d] = 0;
	s->begun[d] = 0;
}

/* ---- ciphertext that the program carries ------------------------------------------------------------ */

/* Random numbers of a handshake's hellos, or ciphertext: behind the record's head, type, length and version. */
#define TLS_MARK_AT 11
#define TLS_MARK_MIN (TLS_MARK_AT + (int)sizeof(struct tls_mark))

static __always_inline bool tls_mark_read(__u64 at, struct tls_mark *m)
{
	return tls_record(at) && !bpf_probe_read_user(m, sizeof(*m), (void *)(at + TLS_MARK_AT));
}

/* Ciphertext that waits for the program to send it. */
struct tls_waiting {
	__u64 at; /* 0: none, or none that is found */
	__u64 len;
};

/* NodeBIO's read_head_: a Buffer of environment, read and write position, length, next and data. */
static __always_inline bool tls_node_buffer(__u64 head, struct tls_waiting *w)
{
	__u64 from = user_word(head + 8), to = user_word(head + 16);

	if (to < from + TLS_MARK_MIN)
		return false;
	w->at = user_word(head + 40) + from;
	w->len = to - from;
	return tls_record(w->at) != 0;
}

/* In a handshake another buffer may stand in front of the one that the program reads: SSL.bbio, behind SSL.wbio. */
static __always_inline void tls_look_for_waiting(__u64 session, __u64 cookie, struct tls_waiting *w)
{
	union ws_tls l = { .cookie = cookie };
	__u64 bio, buf, head;

	w->at = w->len = 0;
	if (!l.kind)
		return;
	bio = user_word(session + l.wbio);
	if (bio && bio == user_word(session + l.wbio + 8))
		bio = user_word(bio + l.next);
	buf = bio ? user_word(bio + l.ptr) : 0;
	if (!buf)
		return;
	if (l.kind == WS_TLS_MEM) {
		head = user_word(buf + 8); /* readp: a BUF_MEM of length, data */
		w->len = head ? user_word(head) : 0;
		w->at = w->len >= TLS_MARK_MIN ? user_word(head + 8) : 0;
	} else if (!tls_node_buffer(user_word(buf + 48), w) && !tls_node_buffer(user_word(buf + 40), w)) {
		w->at = 0; /* versions differ by a word in front of it */
	}
}

/* `cookie`: of the probe. Legacy has none: what was found of either kind is tried. */
static APART void tls_find_waiting(__u64 session, __u64 cookie, struct tls_waiting *w)
{
#ifdef WS_LEGACY
	tls_look_for_waiting(session, tls_layouts[WS_TLS_MEM - 1], w);
	if (!tls_record(w->at))
		tls_look_for_waiting(session, tls_layouts[WS_TLS_NODE - 1], w);
#else
	tls_look_for_waiting(session, cookie, w);
#endif
}

/* How far into so many bytes the last record begins, -1: they are not made of few whole ones. */
static APART long tls_last_record(__u64 at, __u64 len)
{
	__u8 head[TLS_HEADER + 3] = {};
	__u32 off = 0;

#pragma unroll
	for (int i = 0; i < TLS_RECORDS_MAX; i++) {
		__u32 end;

		if (!tls_record(at + off) || bpf_probe_read_user(head, TLS_HEADER, (void *)(at + off)))
			return -1;
		end = off + TLS_HEADER + (head[3] << 8 | head[4]);
		if (end == len)
			return off;
		off = end;
	}
	return -1;
}

/* A TLS library's function returns, of a session that no socket was used for: what it has sealed will be sent by somebody. */
static APART void tls_sealed(struct thread_state *ts, __u64 cookie)
{
	struct tls_origin from = { .session = ts->tls.session, .tgid = bpf_get_current_pid_tgid() >> 32 };
	struct tls_waiting w;
	struct tls_mark mark;

	tls_find_waiting(ts->tls.session, cookie, &w);
	if (!w.at || !tls_mark_read(w.at, &mark))
		return;
	from.handshake = tls_record(w.at) == TLS_RECORD_HANDSHAKE;
	bpf_map_update_elem(&tls_marks, &mark, &from, BPF_ANY);
	ts->sealed = 1;
}

/* Nothing is held any more; what was is lost, if it was not told of. */
static __always_inline void tls_drop_held(struct thread_state *ts)
{
	if (!ts->held.session)
		return;
	ts->held.session = 0;
	count(WS_K_IN, 1);
	count(WS_K_DROP_TLS, 1);
}

/* Plaintext of a session whose connection is not known: it will be sent by the program, or, early data, by who has called this. */
static __always_inline void tls_hold(struct thread_state *ts, struct task_struct *task, __u32 size)
{
	struct ws_token tok = {};

	tls_drop_held(ts);
	ts->held.session = ts->tls.session;
	ts->held.buf = ts->tls.buf;
	ts->held.size = size;
	if ((!ts->sealed && ts->outer.session != ts->tls.session) || ts->tls.what != TLS_WRITE || size < sizeof(ts->held.first) ||
	    bpf_probe_read_user(ts->held.first, sizeof(ts->held.first), (void *)ts->tls.buf))
		tls_drop_held(ts);
	else if (ts->runtime)
		context_writes(ts, task, &ts->held.writer, &tok, false);
}

/* What is held of this session is sent now, and is still there. */
static __always_inline bool tls_held_is_there(struct thread_state *ts, __u64 session)
{
	__u64 first[2];

	return ts->held.session == session && session &&
	       !bpf_probe_read_user(first, sizeof(first), (void *)ts->held.buf) && first[0] == ts->held.first[0] &&
	       first[1] == ts->held.first[1];
}

/* A socket sends what was sealed: it is that session's. */
static APART struct tls_session *tls_sent(struct thread_state *ts, struct task_struct *task, struct sock_state *st, __u64 at)
{
	struct tls_origin *from, of;
	struct tls_session *s;
	struct tls_mark mark;

	if (!tls_mark_read(at, &mark))
		return NULL;
	from = bpf_map_lookup_elem(&tls_marks, &mark);
	if (!from || from->tgid != bpf_get_current_pid_tgid() >> 32)
		return NULL;
	of = *from;
	bpf_map_delete_elem(&tls_marks, &mark);
	ts->sealed = 0;
	s = tls_bind(of.session, task, st, of.handshake);
	if (!s)
		return NULL;
	s->carried = 1;
	return s;
}

#define GO_STACK_HI 8 /* runtime.g.stack.hi: its second word in every version */

/* How deep on the goroutine's stack `sp` is. */
static __always_inline __u64 goroutine_depth(__u64 goroutine, __u64 sp)
{
	return user_word(goroutine + GO_STACK_HI) - sp;
}

/* Go: the socket moves what looks like TLS, for a goroutine that waits for that, in the function that said so. */
static APART struct tls_session *tls_of_goroutine(struct thread_state *ts, struct task_struct *task, struct sock_state *st,
						  __u64 at)
{
	struct pt_regs *regs = task_regs(task);
	struct object_key key = object_key(regs_goroutine(regs));
	struct tls_awaited *found = bpf_map_lookup_elem(&tls_goroutines, &key), a;
	__u8 record = found ? tls_record(at) : 0;

	if (!found)
		return NULL;
	a = *found;
	if (user_word(key.addr + a.goid_at) != a.goid || goroutine_depth(key.addr, regs_stack(regs)) <= a.depth) {
		bpf_map_delete_elem(&tls_goroutines, &key); /* it has returned without */
		return NULL;
	}
	if (!record)
		return NULL;
	bpf_map_delete_elem(&tls_goroutines, &key);
	ts->sealed = 0;
	return tls_bind(a.session, task, st, record == TLS_RECORD_HANDSHAKE);
}

/* What a record has besides its text: TLS 1.3 17 bytes (RFC 8446, 5.2), before that 16 to 24 with AEAD ciphers. */
#define TLS_MORE_MIN 16
#define TLS_MORE_MAX 24

/*
 * A server's program has read these records, to hand them to its library, or that reads ahead: the text of one of them, or
 * more, is handed out next.
 */
static APART void tls_note_records(struct tls_session *s, const struct xfer *x, struct sock *sk, __u64 from)
{
	__u32 off = 0, wire = wire_position(sk, x), n = 0;
	__u8 head[TLS_HEADER + 3] = {};

	s->n_records = s->next_record = s->ahead = 0;
	if (x->iovcnt > 1 || !s->seqpos)
		return;
#pragma unroll
	for (int i = 0; i < TLS_RECORDS_MAX; i++) {
		__u32 len;

		if (off == x->size)
			break;
		if (!tls_record(from + off) || bpf_probe_read_user(head, TLS_HEADER, (void *)(from + off)))
			break;
		len = head[3] << 8 | head[4];
		s->records[i].at = wire + off;
		s->records[i].len = head[0] == TLS_RECORD_TEXT ? len : 0;
		off += TLS_HEADER + len;
		n = i + 1;
	}
	if (off != x->size)
		return;
	s->n_records = n;
	s->ahead = n > 1;
}

/*
 * … which of them? They come in their order, and what is handed out is all of one's text, or a part of the only one that has
 * any. (With TLS 1.3 a handshake's records may look like such.)
 */
static APART void tls_take_record(struct tls_session *s, __u32 text)
{
	__u32 at = 0, next = 0, with_text = 0; /* of the newest that has any, or all of it */
	bool whole = false;

	if (s->next_record && s->next_record == s->n_records)
		return; /* more of the last one */
#pragma unroll
	for (int i = 0; i < TLS_RECORDS_MAX; i++) {
		__u32 len = s->records[i].len;

		if (i < s->next_record || i >= s->n_records || whole || len < text + TLS_MORE_MIN)
			continue;
		with_text++;
		whole = len - text <= TLS_MORE_MAX;
		at = s->records[i].at;
		next = i + 1;
	}
	s->known[WS_RX] = whole || with_text == 1;
	s->next_record = s->known[WS_RX] ? next : s->n_records;
	s->at[WS_RX] = at;
	s->into = 0;
}

struct sock___room {
	int sk_wmem_queued, sk_sndbuf;
} __attribute__((preserve_access_index));

/*
 * Plaintext of such a session was sealed, in one record, and is about to be sent: that will begin behind what waits
 * before it, at the end of the socket's bytes. That is so while the socket has room: it is tried first.
 */
static APART void tls_wire_next(struct tls_session *s, __u64 session, __u64 cookie, __u32 text)
{
	struct sock___room *sk = (struct sock___room *)s->sk;
	struct tcp_sock *tp = (struct tcp_sock *)s->sk;
	struct tls_waiting w;
	long off;

	s->known[WS_TX] = 0;
	if (!s->seqpos || text > TLS_TEXT_MAX || BPF_CORE_READ(sk, sk_wmem_queued) * 2 >= BPF_CORE_READ(sk, sk_sndbuf))
		return;
	tls_find_waiting(session, cookie, &w);
	off = w.at ? tls_last_record(w.at, w.len) : -1;
	if (off < 0)
		return;
	s->at[WS_TX] = BPF_CORE_READ(tp, write_seq) + off;
	s->known[WS_TX] = 1;
}

#endif
