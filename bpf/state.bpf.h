/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * State of sockets and threads behind one accessor each, and the kernel's books.
 * Included once per shell: KREAD() and the storage in reach depend on it.
 */
#ifndef WS_STATE_BPF_H
#define WS_STATE_BPF_H

#include <bpf/bpf_endian.h>

#include "compat.bpf.h"

/*
 * In one instruction: a program that an interrupt brings, or that preempts this one, counts in the same
 * row, and a sum that is loaded, added to and stored takes back what was counted between.
 */
static __always_inline void count(enum ws_kstat what, __u64 n)
{
	__u32 zero = 0;
	struct kstats *k = bpf_map_lookup_elem(&kstats, &zero);

	if (k)
		__sync_fetch_and_add(&k->n[what], n);
}

/* Wakes the consumer once per wake_bytes, not per event (a wake-up costs ~50 times a submit). */
static __always_inline __u64 wake_flags(__u64 reserved)
{
	__u64 avail = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);

	if (avail >= cfg.wake_bytes && avail - reserved < cfg.wake_bytes)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

static __always_inline void ev_init(struct ws_ev *ev, enum ws_ev_type type, __u32 len)
{
	ev->type = type;
	ev->pad = 0;
	ev->len = len;
	ev->ts = bpf_ktime_get_ns();
}

/* An event of a constant size, on the books. NULL: the ring is full, which is counted. */
static __always_inline void *ev_reserve(__u64 size)
{
	void *e = bpf_ringbuf_reserve(&events, size, 0);

	count(WS_K_IN, 1);
	if (!e)
		count(WS_K_DROP_RING, 1);
	return e;
}

static __always_inline void ev_submit(void *e, __u64 flags)
{
	count(WS_K_OUT, 1);
	bpf_ringbuf_submit(e, flags);
}

/* ---- processes and threads ------------------------------------------------------------------ */

/* What holds for a process, NULL: nothing is known of it. *decided: user space has said so. */
static __always_inline struct ws_proc_ctl *proc_ctl_of(__u32 tgid, bool *decided)
{
	struct ws_proc_ctl *p = bpf_map_lookup_elem(&procs, &tgid), *mark = bpf_map_lookup_elem(&marks, &tgid);

	if (p && p->tgid != tgid)
		p = NULL;
	if (mark && mark->tgid != tgid)
		mark = NULL;
	*decided = !mark || (p && p->at >= mark->at);
	return *decided ? p : mark;
}

static __always_inline __u32 proc_flags(__u32 tgid)
{
	bool decided;
	struct ws_proc_ctl *p = proc_ctl_of(tgid, &decided);

	return p ? p->flags : 0;
}

static __always_inline void proc_mark(__u32 tgid, __u32 flags)
{
	struct ws_proc_ctl ctl = { .tgid = tgid, .flags = flags, .at = bpf_ktime_get_ns() };

	bpf_map_update_elem(&marks, &tgid, &ctl, BPF_ANY);
}

static __always_inline bool flags_traced(__u32 flags)
{
	if (flags & WS_PROC_EXCLUDED)
		return false;
	return cfg.trace_all || (flags & WS_PROC_TRACED);
}

/* Can what the running process does select it? Not if it is selected, or never to be. */
static __always_inline bool is_undecided(void)
{
	bool decided;
	struct ws_proc_ctl *p = proc_ctl_of(bpf_get_current_pid_tgid() >> 32, &decided);

	if (!p)
		return true;
	return !(p->flags & WS_PROC_EXCLUDED) && (!(p->flags & WS_PROC_TRACED) || !decided);
}

/* Traced until user space has decided, so that its first bytes are not missed. */
static __always_inline void trace_for_now(void)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32, flags = proc_flags(tgid);

	proc_mark(tgid, flags | WS_PROC_TRACED);
	if (!(flags & WS_PROC_TRACED))
		__sync_fetch_and_add(&proc_epoch, 1);
}

static __always_inline struct ws_runtime *runtime_of(__u32 tgid)
{
	struct ws_runtime *rt = bpf_map_lookup_elem(&runtimes, &tgid);

	return rt && rt->tgid == tgid ? rt : NULL;
}

/* State of a thread, by its task or (legacy) by its id; NULL: none yet, or (create, counted) no memory. */
static __always_inline struct thread_state *thread_state_of(struct task_struct *task, __u32 tid, bool create)
{
	struct thread_state *ts;
#ifdef WS_LEGACY
	static const struct thread_state fresh; /* too large for the stack */

	ts = bpf_map_lookup_elem(&thread_states, &tid);
	if (ts && ts->tid == tid)
		return ts;
	if (!create)
		return NULL;
	bpf_map_update_elem(&thread_states, &tid, &fresh, BPF_ANY);
	ts = bpf_map_lookup_elem(&thread_states, &tid);
	if (ts)
		ts->tid = tid;
#else
	ts = bpf_task_storage_get(&thread_states, task, 0, create ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
#endif
	if (!ts && create)
		count(WS_K_TASK_STATE, 1);
	return ts;
}

/* The running thread's, if it has one. */
static __always_inline struct thread_state *thread_state_now(void)
{
	return thread_state_of(task_current(), (__u32)bpf_get_current_pid_tgid(), false);
}

/* State of the running thread with its process's flags up to date; NULL (counted) without memory. */
static __always_inline struct thread_state *thread_state(struct task_struct *task)
{
	struct thread_state *ts = thread_state_of(task, (__u32)bpf_get_current_pid_tgid(), true);
	__u32 epoch = proc_epoch, tgid = bpf_get_current_pid_tgid() >> 32;

	if (!ts)
		return NULL;
	if (ts->epoch != epoch) {
		struct ws_runtime *rt = runtime_of(tgid);

		ts->proc_flags = proc_flags(tgid);
		ts->runtime = rt ? rt->kind : WS_RT_NONE;
		ts->epoch = epoch;
	}
	return ts;
}

/* ---- sockets -------------------------------------------------------------------------------- */

static __always_inline __u64 sock_ino(struct sock *sk)
{
	return KREAD(sk, sk_socket, file, f_inode, i_ino);
}

static __always_inline struct sock_state *sock_state_hash(struct sock *sk, __u64 ino, bool create)
{
	static const struct sock_state fresh; /* too large for the stack */
	__u64 key = (__u64)sk;
	struct sock_state *st;

	st = bpf_map_lookup_elem(&sock_states, &key);
	/* A socket without an inode is closing (or not accepted yet): nothing to compare. */
	if (st && st->key == key && (!ino || !st->ino || st->ino == ino)) {
		if (!st->ino)
			st->ino = ino;
		return st;
	}
	if (!create)
		return NULL;
	if (st && st->key)
		bpf_map_delete_elem(&sock_states, &key); /* of a socket that had this address before */
	bpf_map_update_elem(&sock_states, &key, &fresh, BPF_NOEXIST);
	st = bpf_map_lookup_elem(&sock_states, &key);
	if (st) {
		st->key = key;
		st->ino = ino;
	}
	return st;
}

/* NULL: not known (create false) or no memory (create true; the caller counts). */
static __always_inline struct sock_state *sock_state(struct sock *sk, bool create)
{
#if defined(WS_BTF_SHELL) && !defined(WS_LEGACY)
	if (cfg.sk_storage)
		return bpf_sk_storage_get(&sk_states, sk, NULL, create ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
#endif
	return sock_state_hash(sk, sock_ino(sk), create);
}

static __always_inline __u32 sock_netns(struct sock *sk)
{
	return KREAD(sk, __sk_common.skc_net.net, ns.inum);
}

static __always_inline bool sock_is_listening(struct sock *sk, __u32 netns)
{
	struct listen_key key = { .netns = netns, .port = KREAD(sk, __sk_common.skc_num) };
	__s64 *n = bpf_map_lookup_elem(&listeners, &key);

	return n && *n > 0;
}

/* … or has been, since we are here. */
static __always_inline bool sock_was_listening(struct sock *sk, __u32 netns)
{
	struct listen_key key = { .netns = netns, .port = KREAD(sk, __sk_common.skc_num) };

	return bpf_map_lookup_elem(&listeners, &key) != NULL;
}

static __always_inline bool port_wanted(__u16 port)
{
	return cfg.by_port && cfg.ports[port >> 6] >> (port & 63) & 1;
}

/* So that wait.bpf.c finds it. Without room it goes without its id: who accepts there is then selected until it ends. */
static __always_inline void listener_known(struct sock *sk, const struct sock_state *st)
{
	struct wanted_ref r = { .key = (__u64)sk, .id = st->id };

	if (port_wanted(KREAD(sk, __sk_common.skc_num)))
		bpf_map_update_elem(&wanted, &r.key, &r, BPF_ANY);
}

static __always_inline void listener_gone(struct sock *sk)
{
	__u64 key = (__u64)sk;

	if (cfg.by_port)
		bpf_map_delete_elem(&wanted, &key);
}

static __always_inline bool sock_is_stream(struct sock *sk)
{
	__u16 family = KREAD(sk, __sk_common.skc_family);

	return KREAD(sk, sk_type) == SOCK_STREAM && (family == AF_INET || family == AF_INET6 || family == AF_UNIX);
}

/* Positions are sequence numbers only where both ends count the same bytes: no MPTCP, no kTLS. */
static __always_inline bool sock_has_seq(struct sock *sk)
{
	struct inet_connection_sock *icsk = (struct inet_connection_sock *)sk;

	if (KREAD(sk, __sk_common.skc_family) == AF_UNIX || KREAD(sk, sk_protocol) != IPPROTO_TCP)
		return false;
	return !BPF_CORE_READ(icsk, icsk_ulp_ops);
}

/* A kernel address under another name. Read back through a helper: arithmetic on a pointer is refused. */
static __always_inline void kaddr_store(__u64 *to, void *p)
{
	__u64 addr = 0;

	bpf_probe_read_kernel(&addr, sizeof(addr), &p);
	*to = addr ? addr ^ cfg.kaddr_secret : 0;
}

/* The side whose path is bound is the one that was connected to: accepted sockets share it. */
static __always_inline __u8 unix_role(struct unix_sock *u)
{
	struct unix_sock *peer = (struct unix_sock *)BPF_CORE_READ(u, peer);

	if (BPF_CORE_READ(u, addr))
		return peer && BPF_CORE_READ(peer, addr) ? WS_ROLE_UNKNOWN : WS_ROLE_SERVER;
	return peer && BPF_CORE_READ(peer, addr) ? WS_ROLE_CLIENT : WS_ROLE_UNKNOWN;
}

static __always_inline void unix_path(struct unix_sock *u, char *path)
{
	struct unix_sock *peer = (struct unix_sock *)BPF_CORE_READ(u, peer);
	struct unix_address *addr = BPF_CORE_READ(u, addr);
	int len;

	if (!addr && peer)
		addr = BPF_CORE_READ(peer, addr);
	if (!addr)
		return;
	len = BPF_CORE_READ(addr, len) - (int)sizeof(__u16); /* sun_family */
	if (len <= 0)
		return;
	if (len > WS_UNIX_PATH_MAX)
		len = WS_UNIX_PATH_MAX;
	bpf_probe_read_kernel(path, len, &addr->name[0].sun_path);
	if (!path[0])
		path[0] = '@'; /* abstract */
}

static __always_inline void sock_fill_inet(struct ws_ev_sock *e, struct sock *sk)
{
	e->lport = KREAD(sk, __sk_common.skc_num);
	e->rport = bpf_ntohs(KREAD(sk, __sk_common.skc_dport));
	if (e->family == AF_INET) {
		e->laddr[10] = e->laddr[11] = e->raddr[10] = e->raddr[11] = 0xff;
		*(__u32 *)&e->laddr[12] = KREAD(sk, __sk_common.skc_rcv_saddr);
		*(__u32 *)&e->raddr[12] = KREAD(sk, __sk_common.skc_daddr);
	} else {
		BPF_CORE_READ_INTO(&e->laddr, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&e->raddr, sk, __sk_common.skc_v6_daddr);
	}
}

/* include/net/sock.h, include/linux/pid.h: the numbers are one per namespace, the machine's own first. */
struct upid___ws {
	int nr;
} __attribute__((preserve_access_index));
struct pid___ws {
	struct upid___ws numbers[1];
} __attribute__((preserve_access_index));
struct sock___ws {
	struct pid___ws *sk_peer_pid;
} __attribute__((preserve_access_index));

static __always_inline __u32 unix_connector(struct sock *sk)
{
	struct pid___ws *pid = BPF_CORE_READ((struct sock___ws *)sk, sk_peer_pid);

	return pid ? BPF_CORE_READ(pid, numbers[0].nr) : 0;
}

/* Describes a socket. `flags`: WS_SOCK_*. */
static __always_inline void sock_fill(struct ws_ev_sock *e, struct sock *sk, struct sock_state *st, __u8 flags)
{
	__builtin_memset(e, 0, sizeof(*e));
	ev_init(&e->ev, WS_EV_SOCK, sizeof(*e));
	e->sock = st->id;
	e->family = st->family;
	e->role = st->role;
	e->flags = flags | (st->born ? WS_SOCK_BORN : 0) | (st->seqpos ? WS_SOCK_SEQ : 0);
	e->netns = sock_netns(sk);
	e->tgid = st->tgid;
	e->tid = st->tid;
	if (flags & WS_SOCK_TLS)
		e->kaddr = st->tls;
	else
		kaddr_store(&e->kaddr, sk);
	e->rx_pos = st->pos[WS_RX];
	e->tx_pos = st->pos[WS_TX];
	e->token = st->dial;
	if (st->family == AF_UNIX) {
		struct unix_sock *u = (struct unix_sock *)sk;

		kaddr_store(&e->peer_kaddr, BPF_CORE_READ(u, peer));
		if (st->role == WS_ROLE_SERVER)
			e->peer_tgid = unix_connector(sk);
		unix_path(u, e->path);
	} else {
		sock_fill_inet(e, sk);
	}
}

/* The address that a connect() was given, for a socket that never got one. */
static __always_inline long read_addr(void *to, __u32 n, void *addr, bool user)
{
	return user ? bpf_probe_read_user(to, n, addr) : bpf_probe_read_kernel(to, n, addr);
}

static __always_inline void sock_fill_to(struct ws_ev_sock *e, void *addr, bool user)
{
	struct {
		__u16 family, port;
		__u32 flow_or_v4;
		__u8 v6[16];
	} a = {};

	if (read_addr(&a, 16, addr, user))
		return;
	e->rport = bpf_ntohs(a.port);
	if (a.family == AF_INET)
		*(__u32 *)&e->raddr[12] = a.flow_or_v4;
	else if (a.family == AF_UNIX)
		read_addr(e->path, sizeof(e->path) - 1, addr + sizeof(a.family), user);
	else if (a.family == AF_INET6 && !read_addr(&a, sizeof(a), addr, user))
		__builtin_memcpy(e->raddr, a.v6, 16);
}

/* `addr`: sockaddr of the connect() under way, in user memory or the kernel's copy, or NULL. */
static __always_inline void sock_announce_to(struct sock *sk, struct sock_state *st, __u8 flags, void *addr, bool user)
{
	struct ws_ev_sock *e;

	e = ev_reserve(sizeof(*e));
	if (!e)
		return;
	sock_fill(e, sk, st, flags);
	if (addr)
		sock_fill_to(e, addr, user);
	st->announced = 1;
	ev_submit(e, wake_flags(sizeof(*e)));
}

static __always_inline void sock_announce(struct sock *sk, struct sock_state *st, __u8 flags)
{
	sock_announce_to(sk, st, flags, NULL, false);
}

/* `plain`: the state of what the socket moves as ciphertext. */
static __always_inline void sock_announce_tls(struct sock *sk, struct sock_state *plain)
{
	sock_announce_to(sk, plain, WS_SOCK_TLS, NULL, false);
}

static __always_inline void emit_state(__u64 id, __u64 tx_pos, enum ws_sock_state state, __u32 err, __u64 pid_tgid)
{
	struct ws_ev_state *e;

	e = ev_reserve(sizeof(*e));
	if (!e)
		return;
	ev_init(&e->ev, WS_EV_STATE, sizeof(*e));
	e->sock = id;
	e->tgid = pid_tgid >> 32;
	e->tid = (__u32)pid_tgid;
	e->state = state;
	e->err = err;
	e->pad = 0;
	e->tx_pos = tx_pos;
	ev_submit(e, wake_flags(sizeof(*e)));
}

static __always_inline void sock_emit_state(struct sock_state *st, enum ws_sock_state state, __u32 err, __u64 pid_tgid)
{
	emit_state(st->id, st->pos[WS_TX], state, err, pid_tgid);
	if (st->tls)
		emit_state(st->tls, 0, state, err, pid_tgid);
}

/* Unique while this program set is loaded: one CPU cannot make two sockets known in one nanosecond. */
static __always_inline __u64 sock_new_id(void)
{
	return bpf_ktime_get_ns() << WS_SOCK_SINCE_SHIFT | (bpf_get_smp_processor_id() & ((1 << WS_SOCK_SINCE_SHIFT) - 1));
}

/* Without room nothing is lost but the sweep: its connection stays until the table of user space is full. */
static __always_inline void unix_watch(struct sock *sk, struct sock_state *st)
{
	struct unix_ref r = { .key = (__u64)sk, .ino = sock_ino(sk), .id = st->id };

	if (r.ino)
		bpf_map_update_elem(&unix_socks, &r.key, &r, BPF_ANY);
}

/* Has every byte been counted that a socket of this process can have moved? */
static __always_inline bool counted_whole(__u32 tgid)
{
	return cfg.trace_all || (proc_flags(tgid) & WS_PROC_WHOLE);
}

/* Fills a state that was just created, from the socket itself. `pid_tgid`: who it belongs to, 0 unknown. */
static __always_inline void sock_init(struct sock *sk, struct sock_state *st, __u64 pid_tgid)
{
	st->id = sock_new_id();
	st->family = KREAD(sk, __sk_common.skc_family);
	st->tgid = pid_tgid >> 32;
	st->tid = (__u32)pid_tgid;
	st->seqpos = sock_has_seq(sk);
	st->born = iter_done && (st->seqpos || counted_whole(st->tgid));
	if (st->family == AF_UNIX) {
		st->role = unix_role((struct unix_sock *)sk);
		unix_watch(sk, st);
	} else {
		st->role = sock_is_listening(sk, sock_netns(sk)) ? WS_ROLE_SERVER : WS_ROLE_CLIENT;
	}
}

#endif
