// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Life of processes and threads: fork, exec, exit. Seen when it happens, without polling. */
#define WS_BTF_SHELL
#include "state.bpf.h"

static __always_inline struct ws_ev_proc *proc_reserve(struct task_struct *task, enum ws_proc_what what, __u32 args)
{
	struct ws_ev_proc *e;

	count(WS_K_IN, 1);
	/* The size must be a constant for the verifier: two sizes, with and without arguments. */
	e = args ? bpf_ringbuf_reserve(&events, sizeof(*e) + WS_ARGS_MAX + 2 * WS_EXE_MAX, 0)
		 : bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count(WS_K_DROP_RING, 1);
		return NULL;
	}
	ev_init(&e->ev, WS_EV_PROC, sizeof(*e));
	e->tgid = task->tgid;
	e->tid = task->pid;
	e->ppid = task->real_parent->tgid;
	e->what = what;
	e->args_len = 0;
	e->start_ns = task->group_leader->start_boottime;
	e->netns = task->nsproxy->net_ns->ns.inum;
	e->exe_len = e->name_len = 0;
	bpf_probe_read_kernel(e->comm, sizeof(e->comm), task->comm);
	return e;
}

static __always_inline void proc_submit(struct ws_ev_proc *e, __u64 flags)
{
	count(WS_K_OUT, 1);
	bpf_ringbuf_submit(e, flags);
}

/* A thread made in the middle of a request may carry it on: provisional until user space has seen it end. */
static __always_inline void inherit(struct task_struct *child)
{
	struct thread_state *ts = thread_state_now(), *cs;

	if (!ts || !ts->tok.sock || (ts->proc_flags & WS_PROC_LOOP) || !flags_traced(ts->proc_flags))
		return;
	cs = thread_state_of(child, child->pid, true);
	if (!cs)
		return;
	cs->tok = ts->tok;
	cs->tok.kind = WS_TOK_PROVISIONAL;
	cs->used = 0;
}

/* The child's memory is the parent's. */
static __always_inline void inherit_runtime(__u32 parent, __u32 child)
{
	struct ws_runtime *rt = runtime_of(parent), copy;

	if (!rt)
		return;
	copy = *rt;
	copy.tgid = child;
	bpf_map_update_elem(&runtimes, &child, &copy, BPF_ANY);
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(proc_fork, struct task_struct *parent, struct task_struct *child)
{
	__u32 flags = proc_flags(parent->tgid);
	struct ws_ev_proc *e;

	if (child->tgid == parent->tgid) {
		inherit(child);
		return 0;
	}
	if (flags)
		proc_mark(child->tgid, flags);
	inherit_runtime(parent->tgid, child->tgid);
	e = proc_reserve(child, WS_PROC_FORK, 0);
	if (e) {
		e->ppid = parent->tgid;
		proc_submit(e, wake_flags(sizeof(*e)));
	}
	return 0;
}

/* Behind what is in the event already. Returns its length without the NUL. */
static __always_inline __u16 append_str(struct ws_ev_proc *e, const void *from)
{
	__u32 at = e->ev.len - sizeof(*e);
	long n;

	if (at > WS_ARGS_MAX + WS_EXE_MAX)
		return 0;
	n = bpf_probe_read_kernel_str(e->args + at, WS_EXE_MAX, from);
	if (n <= 1)
		return 0;
	e->ev.len += n - 1;
	return n - 1;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(proc_exec, struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm)
{
	__u32 n, tgid = task->tgid;
	struct thread_state *ts;
	struct ws_ev_proc *e;
	__u64 start, len;

	/* Another program: traced until user space has decided, so that its first bytes are not missed. */
	proc_mark(tgid, WS_PROC_TRACED | WS_PROC_WHOLE);
	bpf_map_delete_elem(&runtimes, &tgid);
	ts = thread_state_of(task, task->pid, false);
	if (ts) {
		ts->epoch = 0;
		ts->tok.sock = 0;
	}
	e = proc_reserve(task, WS_PROC_EXEC, 1);
	if (!e)
		return 0;
	start = task->mm->arg_start;
	len = task->mm->arg_end - start;
	n = len > WS_ARGS_MAX ? WS_ARGS_MAX : len;
	asm volatile("" : "+r"(n));
	if (n > WS_ARGS_MAX)
		n = WS_ARGS_MAX;
	if (n && !bpf_probe_read_user(e->args, n, (void *)start)) {
		e->args_len = n;
		e->ev.len += n;
	}
	e->exe_len = append_str(e, BPF_CORE_READ(bprm, interp));
	e->name_len = append_str(e, BPF_CORE_READ(task, mm, exe_file, f_path.dentry, d_name.name));
	/* User space reads /proc for what else it needs: at once, the process may live for milliseconds only. */
	proc_submit(e, BPF_RB_FORCE_WAKEUP);
	return 0;
}

static __always_inline void tell_exit(struct task_struct *task, enum ws_proc_what what)
{
	struct ws_ev_proc *e = proc_reserve(task, what, 0);

	if (e)
		proc_submit(e, wake_flags(sizeof(*e)));
}

/* The process is over when its last thread is, which need not be the main one. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(proc_exit, struct task_struct *task)
{
	struct thread_state *ts;
	__u32 tgid = task->tgid, tid = task->pid;
	bool last = task->signal->live.counter <= 0;

	ts = thread_state_of(task, tid, false);
	if (ts && ts->used && (!last || tid != tgid))
		tell_exit(task, WS_PROC_THREAD_EXIT);
#ifdef WS_LEGACY
	bpf_map_delete_elem(&thread_states, &tid);
#endif
	if (!last)
		return 0;
	bpf_map_delete_elem(&procs, &tgid);
	bpf_map_delete_elem(&marks, &tgid);
	bpf_map_delete_elem(&runtimes, &tgid);
	tell_exit(task, WS_PROC_EXIT);
	return 0;
}
