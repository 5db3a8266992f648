// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A thread that goes to wait for whichever comes first.
 *
 * In a run-to-completion loop on the tested list that ends the callback. A thread that reads blocking, and is taken to
 * serve one request at a time, serves several if it waits for new connections, or for other clients', while the
 * request that it has read is open: what it does from now on, and what it has done since, may be anybody's (a timer's).
 * Whether that request is open is known to user space; the kernel tells once per read.
 *
 * Who accepts connections serves them, wherever it has its listener from: an exec, a fork, another process.
 */
#include "fd.bpf.h"
#include "runtime.bpf.h"

/* fs/eventpoll.c, include/linux/rbtree_types.h: the tree holds what is watched */
struct rb_node___ws {
	unsigned long __rb_parent_color; /* address of the parent, and two bits */
	struct rb_node___ws *rb_right, *rb_left;
} __attribute__((preserve_access_index));
struct eventpoll___ws {
	struct {
		struct {
			struct rb_node___ws *rb_node;
		} rb_root;
	} rbr;
} __attribute__((preserve_access_index));
struct epitem___ws {
	struct rb_node___ws rbn;
	struct {
		struct file *file;
	} ffd;
} __attribute__((preserve_access_index));

struct waiting {
	struct task_struct *task;
	__u64 own;  /* struct sock of the request */
	__u64 fds;  /* user address of a struct pollfd[] or an fd_set */
	__u64 word; /* of the fd_set */
	struct rb_node___ws *node, *from; /* where in the tree of an epoll set, and which neighbour was there before */
	__u32 n;
	__u32 others;
};

#define TCP_LISTEN_STATE 10 /* include/net/tcp_states.h; AF_UNIX uses the same */

/* A listener, or a connection that was accepted. */
static __always_inline bool brings_requests(struct sock *sk)
{
	if (!sock_is_stream(sk))
		return false;
	if (KREAD(sk, __sk_common.skc_state) == TCP_LISTEN_STATE)
		return true;
	if (KREAD(sk, __sk_common.skc_family) == AF_UNIX)
		return unix_role((struct unix_sock *)sk) == WS_ROLE_SERVER;
	return sock_was_listening(sk, sock_netns(sk)); /* the listener may have closed by now */
}

static __always_inline long look_at(struct waiting *w, struct file *file)
{
	struct sock *sk = file_sock(file);

	if (!file)
		return 0;
	if (sk)
		w->others = (__u64)sk != w->own && brings_requests(sk);
	else
		w->others = epoll_fops && (__u64)KREAD(file, f_op) == epoll_fops; /* whatever is in there */
	return w->others;
}

static long poll_step(__u32 i, void *ctx)
{
	struct waiting *w = ctx;
	__s32 fd;

	if (i >= w->n || bpf_probe_read_user(&fd, sizeof(fd), (void *)(w->fds + 8ull * i)))
		return 1;
	return fd < 0 ? 0 : look_at(w, fd_file(w->task, fd));
}

static long select_step(__u32 i, void *ctx)
{
	struct waiting *w = ctx;

	if (i >= w->n)
		return 1;
	if (!(i & 63) && bpf_probe_read_user(&w->word, sizeof(w->word), (void *)(w->fds + i / 8)))
		return 1;
	return w->word >> (i & 63) & 1 ? look_at(w, fd_file(w->task, i)) : 0;
}

/*
 * One step along an edge of the tree; every node is looked at when it is reached from above. Below 6.7 (commit
 * ab5cfac139ab) the verifier goes through this once, and removes what only a later step can reach: `from` must not
 * begin as a number that it knows.
 */
static long epoll_step(__u32 i, void *ctx)
{
	struct waiting *w = ctx;
	struct rb_node___ws *node = w->node, *left, *right, *next = NULL;

	if (!node)
		return 1;
	left = BPF_CORE_READ(node, rb_left);
	right = BPF_CORE_READ(node, rb_right);
	if (w->from != left && w->from != right) {
		struct epitem___ws *item = (void *)node - bpf_core_field_offset(struct epitem___ws, rbn);

		if (look_at(w, BPF_CORE_READ(item, ffd.file)))
			return 1;
		next = left;
	}
	if (!next && w->from != right)
		next = right;
	if (!next)
		next = (void *)(BPF_CORE_READ(node, __rb_parent_color) & ~3ul);
	w->from = node;
	w->node = next;
	return 0;
}

/* What lies beyond is not looked at: taken to be others. */
#ifdef WS_LEGACY
#define POLL_MAX 64
#define SELECT_MAX 128
#define EPOLL_MAX 64
#else
#define POLL_MAX 1024
#define SELECT_MAX 1024
#define EPOLL_MAX 2048
#endif

/* What this thread has read was a request, perhaps, and it may be open. */
static __always_inline void park(struct thread_state *ts)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct ws_ev_proc *e;

	ts->tok.flags |= WS_TOKEN_PARKED;
	e = ev_reserve(sizeof(*e));
	if (!e)
		return;
	__builtin_memset(e, 0, sizeof(*e));
	ev_init(&e->ev, WS_EV_PROC, sizeof(*e));
	e->tgid = pid_tgid >> 32;
	e->tid = (__u32)pid_tgid;
	e->what = WS_PROC_THREAD_WAITS;
	ev_submit(e, wake_flags(sizeof(*e)));
}

/* The request of a thread that serves one at a time, to be told of; NULL: nothing to look for. `several`: may it be for more than one? */
static __always_inline struct thread_state *wait_begins(struct waiting *w, bool several)
{
	struct thread_state *ts = thread_state_now();

	if (!ts)
		return NULL;
	if (several && ts->runtime == WS_RT_CPYTHON)
		greenlet_waits(ts);
	if (ts->proc_flags & WS_PROC_LOOP) {
		ts->tok.sock = 0;
		return NULL;
	}
	if (!ts->tok.sock || ts->tok.kind != WS_TOK_THREAD || (ts->tok.flags & (WS_TOKEN_NONBLOCK | WS_TOKEN_PARKED)))
		return NULL;
	w->task = task_current();
	w->own = ts->tok_sk;
	return ts;
}

static __always_inline int wait_for_poll(__u64 fds, __u64 n)
{
	struct waiting w = { .fds = fds, .n = n };
	struct thread_state *ts = wait_begins(&w, n > 1);

	if (!ts)
		return 0;
	LOOP(POLL_MAX, poll_step, &w);
	if (w.others || n > POLL_MAX)
		park(ts);
	return 0;
}

static __always_inline int wait_for_select(__u64 n, __u64 fds)
{
	struct waiting w = { .fds = fds, .n = n };
	struct thread_state *ts = wait_begins(&w, true);

	if (!ts || !fds)
		return 0;
	LOOP(SELECT_MAX, select_step, &w);
	if (w.others || n > SELECT_MAX)
		park(ts);
	return 0;
}

static __always_inline int wait_for_epoll(__u64 fd, __u64 events)
{
	struct waiting w = {};
	struct thread_state *ts = wait_begins(&w, true);
	struct eventpoll___ws *ep;
	struct file *epoll;

	if (wait_teacher && wait_teacher == (__u32)bpf_get_current_pid_tgid()) {
		epoll = fd_file(task_current(), fd);
		epoll_fops = epoll ? (__u64)KREAD(epoll, f_op) : 0;
	}
	if (!ts)
		return 0;
	epoll = fd_file(w.task, fd);
	ep = epoll ? KREAD(epoll, private_data) : NULL;
	w.node = w.from = ep ? BPF_CORE_READ(ep, rbr.rb_root.rb_node) : NULL; /* above the root: not one of its children */
	LOOP(EPOLL_MAX, epoll_step, &w);
	if (w.others || w.node)
		park(ts);
	return 0;
}

/* The listener behind this descriptor, if --port asks for it. */
static __always_inline struct sock *wanted_listener(__u64 fd)
{
	struct sock *sk = file_sock(fd_file(task_current(), (__u32)fd));

	if (!sk || !sock_is_stream(sk) || KREAD(sk, __sk_common.skc_family) == AF_UNIX ||
	    KREAD(sk, __sk_common.skc_state) != TCP_LISTEN_STATE)
		return NULL;
	return port_wanted(KREAD(sk, __sk_common.skc_num)) ? sk : NULL;
}

/* Tells that this process has the listener, as at its listen(). */
static __always_inline void tell_listener(struct sock *sk)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid(), key = (__u64)sk;
	struct wanted_ref *r = bpf_map_lookup_elem(&wanted, &key);
	struct ws_ev_sock *e;

	e = ev_reserve(sizeof(*e));
	if (!e)
		return;
	__builtin_memset(e, 0, sizeof(*e));
	ev_init(&e->ev, WS_EV_SOCK, sizeof(*e));
	e->sock = r && r->key == key ? r->id : 0;
	e->family = KREAD(sk, __sk_common.skc_family);
	e->role = WS_ROLE_LISTENER;
	e->netns = sock_netns(sk);
	e->tgid = pid_tgid >> 32;
	e->tid = (__u32)pid_tgid;
	sock_fill_inet(e, sk);
	ev_submit(e, BPF_RB_FORCE_WAKEUP); /* rare, and to be decided soon */
}

static __always_inline void select_acceptor(__u64 fd)
{
	struct sock *sk;

	if (!cfg.by_port || !is_undecided())
		return;
	sk = wanted_listener(fd);
	if (!sk)
		return;
	trace_for_now(); /* before it is told: what is decided on that is later */
	tell_listener(sk);
}

/* CPython: what is copied in this context serves one of the connections that it accepts. */
static __always_inline void note_acceptor(void)
{
	struct ws_runtime *rt = runtime_of(bpf_get_current_pid_tgid() >> 32);
	struct task_struct *task = task_current();
	struct thread_state *ts;
	struct logical l;

	if (!rt || rt->kind != WS_RT_CPYTHON)
		return;
	ts = thread_state(task);
	if (!ts)
		return;
	logical_read(task, rt, &l);
	ts->acceptor = l.ctx;
}

static __always_inline int wait_for_accept(__u64 fd, __u64 addr)
{
	struct waiting w = {};
	struct thread_state *ts;

	select_acceptor(fd);
	note_acceptor();
	ts = wait_begins(&w, false);
	if (ts)
		park(ts);
	return 0;
}

#if defined(__TARGET_ARCH_arm64)
#define SYSCALL(call) "__arm64_sys_" #call
#define ARG0(regs) KREAD(regs, regs[0])
#define ARG1(regs) KREAD(regs, regs[1])
#else
#define SYSCALL(call) "__x64_sys_" #call
#define ARG0(regs) KREAD(regs, di)
#define ARG1(regs) KREAD(regs, si)
#endif

/* Plan fentry needs no tracepoints: those put every system call of the machine on a slower path, and want tracefs. */
#define WAIT(call, how)                                            \
	SEC("tracepoint/syscalls/sys_enter_" #call)                \
	int wait_##call(struct trace_event_raw_sys_enter *ctx)     \
	{                                                          \
		return wait_for_##how(ctx->args[0], ctx->args[1]); \
	}                                                          \
	SEC("fentry/" SYSCALL(call))                               \
	int fx_wait_##call(__u64 *ctx)                             \
	{                                                          \
		struct pt_regs *regs = (void *)ctx[0];             \
                                                                   \
		return wait_for_##how(ARG0(regs), ARG1(regs));     \
	}

WAIT(epoll_wait, epoll)
WAIT(epoll_pwait, epoll)
WAIT(epoll_pwait2, epoll)
WAIT(poll, poll)
WAIT(ppoll, poll)
WAIT(select, select)
WAIT(pselect6, select)
WAIT(accept, accept)
WAIT(accept4, accept)
