// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * OpenSSL and what has its interface (BoringSSL, LibreSSL): plaintext at SSL_read and SSL_write, whose socket calls tell
 * which connection it belongs to. Uprobes, planted by user/tls.
 *
 * GnuTLS has the same shape: a session, a buffer, and how many bytes were moved.
 */
#include "capture.bpf.h"

static __always_inline int tls_enter(struct pt_regs *regs, enum tls_what what, __u64 done)
{
	struct task_struct *task = task_current();
	struct thread_state *ts = thread_state(task);
	__u64 session = PT_REGS_PARM1(regs), buf = PT_REGS_PARM2(regs), sp = PT_REGS_SP(regs);

	/* Read first: behind a branch the compiler reads the task's registers and these by one pointer, which is refused. */
	asm volatile("" : "+r"(session), "+r"(buf), "+r"(sp));
	if (!ts || !flags_traced(ts->proc_flags))
		return 0;
	ts->outer.session = 0;
	if (ts->tls.session && in_tls_call(ts, task))
		ts->outer = ts->tls;
	ts->tls.session = session;
	ts->tls.buf = buf;
	ts->tls.sp = sp;
	ts->tls.done = done;
	ts->tls.what = what;
	ts->tls.bound = tls_session_of(session, task) != NULL;
	return 0;
}

SEC("uprobe")
int rt_tls_handshake(struct pt_regs *regs)
{
	return tls_enter(regs, TLS_HANDSHAKE, 0);
}

/* (session, buffer, size) */
SEC("uprobe")
int rt_tls_read(struct pt_regs *regs)
{
	return tls_enter(regs, TLS_READ, 0);
}

SEC("uprobe")
int rt_tls_write(struct pt_regs *regs)
{
	return tls_enter(regs, TLS_WRITE, 0);
}

/* (session, file, …): the kernel reads and encrypts. What it has sent is counted, and nobody has seen it. */
SEC("uprobe")
int rt_tls_sendfile(struct pt_regs *regs)
{
	struct thread_state *ts;

	tls_enter(regs, TLS_SENDFILE, 0);
	ts = thread_state_now();
	if (ts)
		ts->tls.buf = 0;
	return 0;
}

/* (session, buffer, size, where the number of bytes goes) */
SEC("uprobe")
int rt_tls_read_ex(struct pt_regs *regs)
{
	return tls_enter(regs, TLS_READ, PT_REGS_PARM4(regs));
}

SEC("uprobe")
int rt_tls_write_ex(struct pt_regs *regs)
{
	return tls_enter(regs, TLS_WRITE, PT_REGS_PARM4(regs));
}

/* (session, buffer, size, flags, where the number of bytes goes) */
SEC("uprobe")
int rt_tls_write_ex2(struct pt_regs *regs)
{
	return tls_enter(regs, TLS_WRITE, PT_REGS_PARM5(regs));
}

static __always_inline void plaintext(struct thread_state *ts, struct task_struct *task, __u32 size, __u64 cookie)
{
	struct tls_session *s = tls_session_of(ts->tls.session, task);
	enum ws_dir dir = ts->tls.what == TLS_READ ? WS_RX : WS_TX;
	struct xfer *x;

	count(WS_K_RUNS, 1);
	if (!s) {
		tls_hold(ts, task, size);
		return;
	}
	if (s->st.stopped) {
		count(WS_K_STOPPED, 1);
		return;
	}
	x = text_of(ts, s, dir, ts->tls.buf, size, tls_version(ts->tls.session, cookie));
	if (s->carried && dir == WS_TX)
		tls_wire_next(s, ts->tls.session, cookie, size);
	else if (dir == WS_RX && (s->carried || s->ahead))
		tls_take_record(s, size);
	tell_text(ts, task, s, x);
}

static __always_inline __u64 layout_cookie(struct pt_regs *regs)
{
#ifdef WS_LEGACY
	return 0;
#else
	return bpf_get_attach_cookie(regs);
#endif
}

/* Any of them has returned: below 1, nothing was moved, or the other function's 1 for "done". */
SEC("uretprobe")
int rt_tls_return(struct pt_regs *regs)
{
	struct task_struct *task = task_current();
	struct thread_state *ts = thread_state_now();
	__s64 n = (int)PT_REGS_RC(regs);

	if (!ts || !ts->tls.session)
		return 0;
	if (!ts->tls.bound)
		tls_sealed(ts, layout_cookie(regs));
	if (n > 0 && ts->tls.done && bpf_probe_read_user(&n, sizeof(n), (void *)ts->tls.done))
		n = 0;
	if (n > 0 && n <= 0x7fffffff && ts->tls.what != TLS_HANDSHAKE && flags_traced(ts->proc_flags))
		plaintext(ts, task, n, layout_cookie(regs));
	ts->tls = ts->outer;
	ts->outer.session = 0;
	return 0;
}

/* SSL_free: another session may get its address. */
SEC("uprobe")
int rt_tls_free(struct pt_regs *regs)
{
	struct object_key key = object_key(PT_REGS_PARM1(regs));

	bpf_map_delete_elem(&tls_sessions, &key);
	return 0;
}
