// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Go's crypto/tls: plaintext where a record is written, and where one that was read is handed out. Uprobes, planted by
 * user/tls. Nothing here returns: Go moves stacks.
 *
 * Goroutines move from thread to thread while they wait: the session's socket is the one that the goroutine moves a record
 * on which shakes hands, or writes, for it.
 */
#include "capture.bpf.h"
#include "goabi.bpf.h"

/* bytes.Reader: a slice of three words, and how far it was read. bytes.Buffer: the same. */
#define SLICE_LEN 8
#define READ_AT 24

static __always_inline struct thread_state *traced_thread(void)
{
	struct thread_state *ts = thread_state(task_current());

	return ts && flags_traced(ts->proc_flags) ? ts : NULL;
}

static __always_inline __u64 go_layout(struct pt_regs *regs, enum ws_tls_buffer kind)
{
#ifdef WS_LEGACY
	return tls_layouts[kind - 1];
#else
	return bpf_get_attach_cookie(regs);
#endif
}

static __always_inline void await_socket(struct thread_state *ts, __u64 goroutine, __u64 session, __u64 sp, __u64 cookie)
{
	union ws_tls l = { .cookie = cookie };
	struct tls_awaited a = { .session = session, .goid_at = l.go.goid };
	struct object_key key = object_key(goroutine);

	if (l.kind != WS_TLS_GO_ENTRY)
		return;
	a.goid = user_word(goroutine + a.goid_at);
	a.depth = goroutine_depth(goroutine, sp);
	bpf_map_update_elem(&tls_goroutines, &key, &a, BPF_ANY);
	ts->sealed = 1;
}

/* (*Conn).clientHandshake and serverHandshake: whatever session had this address before is over. */
SEC("uprobe")
int rt_gotls_handshake(struct pt_regs *regs)
{
	struct object_key key = object_key(GO_ARG1(regs));
	__u64 goroutine = GO_G(regs), sp = PT_REGS_SP(regs), cookie = go_layout(regs, WS_TLS_GO_ENTRY);
	struct thread_state *ts = traced_thread();

	if (!ts)
		return 0;
	bpf_map_delete_elem(&tls_sessions, &key);
	await_socket(ts, goroutine, key.addr, sp, cookie);
	return 0;
}

/* The session, if it can be told of; NULL: what it moves is on the books. */
static __always_inline struct tls_session *session_for_text(__u64 conn)
{
	struct tls_session *s = tls_session_of(conn, task_current());

	count(WS_K_RUNS, 1);
	if (!s) {
		count(WS_K_IN, 1);
		count(WS_K_DROP_TLS, 1);
	} else if (s->st.stopped) {
		count(WS_K_STOPPED, 1);
		return NULL;
	}
	return s;
}

static __always_inline struct xfer *go_text(struct thread_state *ts, struct tls_session *s, __u64 conn, __u64 cookie,
					    enum ws_dir dir, __u64 text, __u32 size)
{
	if (!s->version)
		s->version = tls_version(conn, cookie);
	return text_of(ts, s, dir, text, size, s->version);
}

/* Else the write fails, and nothing is sent. */
static __always_inline bool can_send(struct sock *sk)
{
	__u8 state = BPF_CORE_READ(sk, __sk_common.skc_state);

	return (state == TCP_ESTABLISHED || state == TCP_CLOSE_WAIT) && !(BPF_CORE_READ(sk, sk_shutdown) & SEND_SHUTDOWN);
}

/*
 * (*Conn).writeRecordLocked(type, text): what it seals is sent before anything else on that connection, which is
 * locked: the record will begin behind what was sent until now.
 */
SEC("uprobe")
int rt_gotls_write(struct pt_regs *regs)
{
	__u64 conn = GO_ARG1(regs), text = GO_ARG3(regs), size = GO_ARG4(regs), goroutine = GO_G(regs);
	__u64 sp = PT_REGS_SP(regs), cookie = go_layout(regs, WS_TLS_GO_ENTRY);
	__u8 type = GO_ARG2(regs);
	struct thread_state *ts;
	struct tls_session *s;
	struct tcp_sock *tp;

	if (type != TLS_RECORD_TEXT || !size || size > 0x7fffffff)
		return 0;
	ts = traced_thread();
	if (!ts)
		return 0;
	s = session_for_text(conn);
	if (!s) {
		if (!tls_session_of(conn, task_current()))
			await_socket(ts, goroutine, conn, sp, cookie);
		return 0;
	}
	if (!can_send((struct sock *)s->sk))
		return 0;
	tp = (struct tcp_sock *)s->sk;
	s->known[WS_TX] = s->seqpos;
	if (s->seqpos)
		s->at[WS_TX] = BPF_CORE_READ(tp, write_seq);
	tell_text(ts, task_current(), s, go_text(ts, s, conn, cookie, WS_TX, text, size));
	return 0;
}

/* In front of a record's text: its head, and what CBC and GCM of TLS 1.2 have there. */
static __always_inline __u64 record_of(__u64 text, __u64 from, __u64 to)
{
	static const __u32 leads[] = { TLS_HEADER, TLS_HEADER + 8, TLS_HEADER + 16 };
	__u8 head[TLS_HEADER + 3] = {};

#pragma unroll
	for (int i = 0; i < 3; i++) {
		__u64 at = text - leads[i];

		if (at < from || at > to || bpf_probe_read_user(head, TLS_HEADER, (void *)at))
			continue;
		if (head[0] == TLS_RECORD_TEXT && head[1] == 3 && at + TLS_HEADER + (head[3] << 8 | head[4]) == to)
			return at;
	}
	return 0;
}

/* Where on the wire the record begins of which this is the text: behind it stands what was read and not looked at. */
static __always_inline void record_read(struct tls_session *s, __u64 raw, __u64 text)
{
	__u64 buf = user_word(raw), len = user_word(raw + SLICE_LEN), off = user_word(raw + READ_AT);
	__u64 record = record_of(text, buf, buf + off);

	s->known[WS_RX] = record && s->seqpos;
	s->into = 0;
	if (s->known[WS_RX])
		s->at[WS_RX] = wire_read((struct sock *)s->sk) - (__u32)(buf + len - record);
}

/*
 * (*Conn).Read, where it calls what copies text out of its bytes.Reader: that one's Read(buffer), or, inlined,
 * runtime.memmove(buffer, text, size).
 */
SEC("uprobe")
int rt_gotls_read(struct pt_regs *regs)
{
	__u64 arg = GO_ARG1(regs), from = GO_ARG2(regs), size = GO_ARG3(regs), sp = PT_REGS_SP(regs);
	union ws_tls l = { .cookie = go_layout(regs, WS_TLS_GO) };
	struct thread_state *ts = traced_thread();
	__u64 conn, text, len, at;
	struct tls_session *s;

	if (!ts || l.kind != WS_TLS_GO)
		return 0;
	conn = l.go.conn ? user_word(sp + l.go.conn) : arg - l.go.input;
	text = user_word(conn + l.go.input);
	len = user_word(conn + l.go.input + SLICE_LEN);
	at = user_word(conn + l.go.input + READ_AT);
	if (at >= len || (l.go.conn && from != text + at))
		return 0;
	if (size > len - at)
		size = len - at;
	s = size && size <= 0x7fffffff ? session_for_text(conn) : NULL;
	if (!s)
		return 0;
	if (!at)
		record_read(s, conn + l.go.raw, text);
	tell_text(ts, task_current(), s, go_text(ts, s, conn, l.cookie, WS_RX, text + at, size));
	return 0;
}
