// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The ends of AF_UNIX connections, which have no tracepoint: the protocol's own release and shutdown, where functions
 * can be hooked, else close(2) of the last descriptor, and shutdown(2). What those do not show (an exit, dup2() over a
 * descriptor, io_uring) is found by looking for what is gone, see iter.bpf.c.
 */
#include "fd.bpf.h"
#include "state.bpf.h"

/* include/linux/file_ref.h: struct file.f_ref since 6.13 (commit 90ee6ed776c0), 0 is one reference; f_count before */
struct refs___ws {
	long n;
};
struct file___6_13 {
	struct refs___ws f_ref;
} __attribute__((preserve_access_index));
struct file___5_10 {
	struct refs___ws f_count;
} __attribute__((preserve_access_index));

/* Is this descriptor all that holds the file? Others may be in other processes, on their way, or in use by a thread. */
static __always_inline bool is_last(struct file *file)
{
	struct file___6_13 *new = (void *)file;
	struct file___5_10 *old = (void *)file;
	long n = -1;

	if (bpf_core_field_exists(new->f_ref)) {
		bpf_probe_read_kernel(&n, sizeof(n), &new->f_ref);
		return n == 0;
	}
	bpf_probe_read_kernel(&n, sizeof(n), &old->f_count);
	return n == 1;
}

/* A socket that is known, NULL: it is not, or it is another one that has its address now. */
static __always_inline struct unix_ref *known(struct sock *sk)
{
	__u64 key = (__u64)sk;
	struct unix_ref *r = sk ? bpf_map_lookup_elem(&unix_socks, &key) : NULL;

	return r && r->key == key && r->ino == sock_ino(sk) ? r : NULL;
}

/* Whose end this is has ended its direction, or both. */
static __always_inline int unix_ends(struct sock *sk, bool both)
{
	struct unix_ref *r = known(sk);
	bool last = r && (KREAD(sk, sk_shutdown) & RCV_SHUTDOWN); /* behind the peer */

	if (r)
		emit_state(r->id, 0, last ? WS_SS_FIN_LAST : both ? WS_SS_ABANDONED : WS_SS_FIN_SENT, 0,
			   bpf_get_current_pid_tgid());
	return 0;
}

static __always_inline int unix_closes(struct sock *sk)
{
	__u64 key = (__u64)sk;
	struct unix_ref *r = known(sk);

	if (!r)
		return 0;
	unix_ends(sk, true);
	emit_state(r->id, 0, WS_SS_CLOSED, 0, bpf_get_current_pid_tgid());
	bpf_map_delete_elem(&unix_socks, &key);
	if (!cfg.sk_storage)
		bpf_map_delete_elem(&sock_states, &key);
	return 0;
}

#define SHUT_RD 0
#define SHUT_RDWR 2

static __always_inline int unix_shuts(struct sock *sk, int how)
{
	return how == SHUT_RD ? 0 : unix_ends(sk, how == SHUT_RDWR);
}

SEC("fentry/unix_release")
int BPF_PROG(fx_unix_release, struct socket *sock)
{
	return unix_closes(sock->sk);
}

SEC("fentry/unix_shutdown")
int BPF_PROG(fx_unix_shutdown, struct socket *sock, int how)
{
	return unix_shuts(sock->sk, how);
}

SEC("kprobe/unix_release")
int kp_unix_release(struct pt_regs *ctx)
{
	struct socket *sock = (struct socket *)PT_REGS_PARM1(ctx);

	return unix_closes(BPF_CORE_READ(sock, sk));
}

SEC("kprobe/unix_shutdown")
int kp_unix_shutdown(struct pt_regs *ctx)
{
	struct socket *sock = (struct socket *)PT_REGS_PARM1(ctx);

	return unix_shuts(BPF_CORE_READ(sock, sk), (int)PT_REGS_PARM2(ctx));
}

/*
 * Attached when the first request has been seen on AF_UNIX: every close(2) of the machine passes here. Most descriptors are
 * files, and most threads nobody's that is traced: those have no state.
 */
static __always_inline struct file *traced_file(__u64 fd)
{
	struct thread_state *ts = thread_state_now();

	return ts && flags_traced(ts->proc_flags) ? fd_file(task_current(), (__u32)fd) : NULL;
}

SEC("tracepoint/syscalls/sys_enter_close")
int late_close(struct trace_event_raw_sys_enter *ctx)
{
	struct file *file = traced_file(ctx->args[0]);
	struct sock *sk = file_sock(file);

	return sk && is_last(file) ? unix_closes(sk) : 0;
}

SEC("tracepoint/syscalls/sys_enter_shutdown")
int late_shutdown(struct trace_event_raw_sys_enter *ctx)
{
	return unix_shuts(file_sock(traced_file(ctx->args[0])), (int)ctx->args[1]);
}
