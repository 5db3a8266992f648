// SPDX-License-Identifier: Apache-2.0
#include "user/loader/feature.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "user/loader/tracefs.h"
#include "user/loader/uprobe_multi.h"

/* Inode of the initial pid namespace: PROC_PID_INIT_INO, include/linux/proc_ns.h. */
#define INIT_PID_NS_INO 0xEFFFFFFCu

/* r0 = 0; exit */
static const struct bpf_insn nothing[] = {
	{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 0 },
	{ .code = BPF_JMP | BPF_EXIT },
};

static int probe_privilege(struct features *f)
{
	static const cap_value_t need[] = { CAP_BPF, CAP_PERFMON };
	cap_flag_value_t have, admin = CAP_CLEAR;
	cap_t caps = cap_get_proc();
	int err = 0;

	if (!caps)
		return errno;
	cap_get_flag(caps, CAP_SYS_ADMIN, CAP_EFFECTIVE, &admin);
	for (size_t i = 0; i < 2 && admin != CAP_SET; i++)
		if (cap_get_flag(caps, need[i], CAP_EFFECTIVE, &have) || have != CAP_SET)
			err = EPERM;
	cap_free(caps);
	return err;
}

static int probe_host_pids(struct features *f)
{
	struct stat st;

	if (stat("/proc/self/ns/pid", &st))
		return errno;
	return st.st_ino == INIT_PID_NS_INO ? 0 : EXDEV;
}

static int probe_btf(struct features *f)
{
	struct btf *btf = btf__load_vmlinux_btf();

	if (!btf)
		return !errno || errno == ESRCH ? ENOENT : errno; /* ESRCH: looked everywhere */
	btf__free(btf);
	return 0;
}

static int close_map(int fd)
{
	if (fd < 0)
		return -fd;
	close(fd);
	return 0;
}

static int probe_ringbuf(struct features *f)
{
	return close_map(bpf_map_create(BPF_MAP_TYPE_RINGBUF, NULL, 0, 0, getpagesize(), NULL));
}

/* Storage maps want BTF for key and value: int -> int. */
static int probe_task_storage(struct features *f)
{
	LIBBPF_OPTS(bpf_map_create_opts, o, .map_flags = BPF_F_NO_PREALLOC);
	struct btf *btf = btf__new_empty();
	int id, err;

	if (!btf)
		return errno;
	id = btf__add_int(btf, "int", 4, BTF_INT_SIGNED);
	err = id < 0 ? id : btf__load_into_kernel(btf);
	if (!err) {
		o.btf_fd = btf__fd(btf);
		o.btf_key_type_id = o.btf_value_type_id = id;
		err = -close_map(bpf_map_create(BPF_MAP_TYPE_TASK_STORAGE, NULL, 4, 4, 0, &o));
	}
	btf__free(btf);
	return -err;
}

/* Loads an empty tracing program on a BTF target and attaches it. */
static int try_tracing(const char *target, enum bpf_attach_type type, const struct bpf_insn *insns, size_t n)
{
	LIBBPF_OPTS(bpf_prog_load_opts, o, .expected_attach_type = type);
	int id = libbpf_find_vmlinux_btf_id(target, type), prog, link;

	if (id < 0)
		return ENOENT;
	o.attach_btf_id = id;
	prog = bpf_prog_load(BPF_PROG_TYPE_TRACING, "probe", "GPL", insns, n, &o);
	if (prog < 0)
		return -prog;
	link = type == BPF_TRACE_ITER ? bpf_link_create(prog, 0, BPF_TRACE_ITER, NULL) :
					bpf_raw_tracepoint_open(NULL, prog);
	close(prog);
	if (link < 0)
		return -link;
	close(link);
	return 0;
}

/* lockdown=confidentiality loads tracing programs, and hides the helper from them. */
static int probe_read_kernel(struct features *f)
{
	const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 1, .src_reg = 10 },
		{ .code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = 1, .imm = -8 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 2, .imm = 8 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .imm = 0 },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_probe_read_kernel },
		nothing[0],
		nothing[1],
	};
	int err = try_tracing("inet_sock_set_state", BPF_TRACE_RAW_TP, insns, 7);

	return err && !try_tracing("inet_sock_set_state", BPF_TRACE_RAW_TP, nothing, 2) ? EPERM : err;
}

static int probe_tp_btf(struct features *f)
{
	return try_tracing("inet_sock_set_state", BPF_TRACE_RAW_TP, nothing, 2);
}

static int probe_iter(struct features *f)
{
	return try_tracing("task_file", BPF_TRACE_ITER, nothing, 2);
}

static int probe_sock_length(struct features *f)
{
	int err = try_tracing("sock_send_length", BPF_TRACE_RAW_TP, nothing, 2);

	return err ? err : try_tracing("sock_recv_length", BPF_TRACE_RAW_TP, nothing, 2);
}

static int probe_task_regs(struct features *f)
{
	const struct bpf_insn insns[] = {
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_get_current_task_btf },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 1, .src_reg = 0 },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_task_pt_regs },
		nothing[0],
		nothing[1],
	};

	return try_tracing("inet_sock_set_state", BPF_TRACE_RAW_TP, insns, 5);
}

/*
 * Finds tracefs, or mounts it where only this process sees it: a private mount namespace dies with us,
 * also after kill -9.
 */
static int probe_tracefs(struct features *f)
{
	if (!access(TRACEFS_DIR "/events/syscalls", R_OK) || !access(TRACEFS_DIR_OLD "/events/syscalls", R_OK))
		return 0;
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return errno;
	if (mount("tracefs", TRACEFS_DIR, "tracefs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
		return errno;
	f->mounted_tracefs = true;
	return access(TRACEFS_DIR "/events/syscalls", R_OK) ? errno : 0;
}

static int read_number(const char *path)
{
	FILE *in = fopen(path, "re");
	int n = -1;

	if (!in)
		return -errno;
	if (fscanf(in, "%d", &n) != 1)
		n = -EINVAL;
	fclose(in);
	return n;
}

static int try_perf(struct perf_event_attr *attr, enum bpf_prog_type type)
{
	int prog, fd, err = 0;

	attr->size = sizeof(*attr);
	fd = syscall(SYS_perf_event_open, attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
	if (fd < 0)
		return errno;
	prog = bpf_prog_load(type, "probe", "GPL", nothing, 2, NULL);
	if (prog < 0)
		err = -prog;
	else if (ioctl(fd, PERF_EVENT_IOC_SET_BPF, prog))
		err = errno;
	if (prog >= 0)
		close(prog);
	close(fd);
	return err;
}

static int probe_syscall_tp(struct features *f)
{
	struct perf_event_attr attr = { .type = PERF_TYPE_TRACEPOINT };
	int id = tracefs__number("events/syscalls/sys_exit_write/id");

	if (id < 0)
		return -id;
	attr.config = id;
	return try_perf(&attr, BPF_PROG_TYPE_TRACEPOINT);
}

static int probe_loop(struct features *f)
{
	int ret = libbpf_probe_bpf_helper(BPF_PROG_TYPE_KPROBE, BPF_FUNC_loop, NULL);

	return ret == 1 ? 0 : ret < 0 ? -ret : ENOSYS;
}

static int probe_fentry(struct features *f)
{
	return try_tracing("inet_sendmsg", BPF_TRACE_FEXIT, nothing, 2);
}

/* Is this parameter a pointer to that struct? */
static bool points_to(const struct btf *btf, const struct btf_param *p, const char *name)
{
	const struct btf_type *t = btf__type_by_id(btf, p->type);

	if (!btf_is_ptr(t))
		return false;
	t = btf__type_by_id(btf, t->type);
	return btf_is_struct(t) && !strcmp(btf__name_by_offset(btf, t->name_off), name);
}

/* The programs take arguments by their place: what the kernel's type information says of it decides. bpf/stream.bpf.h */
static int probe_stream_ops(struct features *f)
{
	static const struct {
		const char *fn;
		int n_args;
		const char *second; /* the struct that the second argument points to; NULL: it changed its name, or is not used */
		bool optional;	    /* some kernels do not have it, or not by this name: then it is not hooked */
	} ops[] = {
		{ "inet_sendmsg", 3, "msghdr", false },	      { "inet6_sendmsg", 3, "msghdr", true },
		{ "unix_stream_sendmsg", 3, "msghdr", false }, { "inet_recvmsg", 4, "msghdr", false },
		{ "inet6_recvmsg", 4, "msghdr", true },	      { "unix_stream_recvmsg", 4, "msghdr", false },
		{ "inet_stream_connect", 4, NULL, true },     { "unix_stream_connect", 4, NULL, true },
		{ "inet_sendpage", 5, NULL, true },	      { "unix_stream_sendpage", 5, NULL, true },
		{ "tcp_splice_read", 5, NULL, true },	      { "unix_stream_splice_read", 5, NULL, true },
	};
	struct btf *btf = btf__load_vmlinux_btf();
	const struct btf_type *t;
	int id, err = 0;

	if (!btf)
		return errno;
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]) && !err; i++) {
		id = btf__find_by_name_kind(btf, ops[i].fn, BTF_KIND_FUNC);
		t = id > 0 ? btf__type_by_id(btf, btf__type_by_id(btf, id)->type) : NULL;
		if (!t)
			err = ops[i].optional ? 0 : ENOENT;
		else if (btf_vlen(t) != ops[i].n_args || !points_to(btf, btf_params(t), "socket") ||
			 (ops[i].second && !points_to(btf, btf_params(t) + 1, ops[i].second)))
			err = EPROTO;
	}
	btf__free(btf);
	return err;
}

static int probe_kprobe(struct features *f)
{
	struct perf_event_attr attr = { .config1 = (__u64)(unsigned long)"inet_sendmsg" };
	int type = read_number("/sys/bus/event_source/devices/kprobe/type");

	if (type < 0)
		return -type;
	attr.type = type;
	return try_perf(&attr, BPF_PROG_TYPE_KPROBE);
}

/* Never called: where a uprobe can be planted that nobody passes through. */
static __attribute__((noinline, used)) int nobody_calls_this(void)
{
	return 0;
}

/* The first object is the program itself. */
static int find_in_file(struct dl_phdr_info *info, size_t size, void *ret_offset)
{
	uint64_t at = (uint64_t)(unsigned long)nobody_calls_this - info->dlpi_addr, *offset = ret_offset;

	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type == PT_LOAD && at >= p->p_vaddr && at - p->p_vaddr < p->p_filesz)
			*offset = p->p_offset + at - p->p_vaddr;
	}
	return 1;
}

static int probe_uprobe_multi(struct features *f)
{
	LIBBPF_OPTS(bpf_prog_load_opts, o, .expected_attach_type = (enum bpf_attach_type)UPROBE_MULTI_ATTACH_TYPE);
	uint64_t offset = 0;
	int prog, link;

	dl_iterate_phdr(find_in_file, &offset);
	prog = bpf_prog_load(BPF_PROG_TYPE_KPROBE, "probe", "GPL", nothing, 2, &o);
	if (prog < 0)
		return -prog;
	link = uprobe_multi__attach(prog, "/proc/self/exe", &offset, 1, false, 0);
	close(prog);
	if (link < 0)
		return link == -EIO ? 0 : -link; /* as below */
	close(link);
	return 0;
}

static int probe_uprobe(struct features *f)
{
	struct perf_event_attr attr = { .config1 = (__u64)(unsigned long)"/proc/self/exe" };
	int type = read_number("/sys/bus/event_source/devices/uprobe/type"), err;
	uint64_t offset = 0;

	if (!f->err[FEAT_UPROBE_MULTI])
		return 0;
	if (type < 0)
		return -type;
	attr.type = type;
	dl_iterate_phdr(find_in_file, &offset);
	attr.config2 = offset;
	err = try_perf(&attr, BPF_PROG_TYPE_KPROBE);
	return err == EIO ? 0 : err; /* its file system cannot have them; that says nothing of where services lie */
}

#define TRACING "CAP_BPF and CAP_PERFMON"
/* Debian's kernels: above 2 perf events are for CAP_SYS_ADMIN only, and 3 is their default. */
#define PERF_RIGHTS "without CAP_SYS_ADMIN kernel.perf_event_paranoid=2"

static const struct {
	const char *name, *desc, *remedy;
	int (*probe)(struct features *f);
	const char *caps; /* that the probe needs: without them it says nothing about the rest */
} table[__FEAT_CNT] = {
	[FEAT_PRIVILEGE] = { "privilege", "CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN", "run it with sudo", probe_privilege },
	[FEAT_HOST_PIDS] = { "host-pids", "the host's pid namespace", "in a container: hostPID: true, --pid=host",
			     probe_host_pids },
	[FEAT_BTF] = { "btf", "kernel type information", "a kernel built with CONFIG_DEBUG_INFO_BTF", probe_btf },
	[FEAT_READ_KERNEL] = { "read-kernel", "kernel memory, read by programs", "lockdown below confidentiality",
			       probe_read_kernel, TRACING },
	[FEAT_RINGBUF] = { "ringbuf", "BPF ring buffer", "kernel 5.8 or newer", probe_ringbuf, "CAP_BPF" },
	[FEAT_TASK_STORAGE] = { "task-storage", "per-thread BPF storage", "kernel 5.11 or newer", probe_task_storage,
				"CAP_BPF" },
	[FEAT_TP_BTF] = { "tp-btf", "BTF tracepoints", "kernel 5.5 or newer", probe_tp_btf, TRACING },
	[FEAT_ITER] = { "iter", "iterator over open files", "kernel 5.8 or newer", probe_iter, TRACING },
	[FEAT_SOCK_LENGTH] = { "sock-length", "tracepoints sock_send_length, sock_recv_length", "kernel 6.3 or newer",
			       probe_sock_length, TRACING },
	[FEAT_TASK_REGS] = { "task-regs", "saved registers of a task", "kernel 5.15 or newer", probe_task_regs, TRACING },
	[FEAT_LOOP] = { "loop", "loops as a call of the kernel", "kernel 5.17 or newer", probe_loop, TRACING },
	[FEAT_TRACEFS] = { "tracefs", "tracefs, found or privately mounted", "CAP_SYS_ADMIN, or mount it",
			   probe_tracefs },
	[FEAT_SYSCALL_TP] = { "syscall-tp", "system call tracepoints", "CONFIG_FTRACE_SYSCALLS; " PERF_RIGHTS,
			       probe_syscall_tp, TRACING },
	[FEAT_FENTRY] = { "fentry", "fentry programs", "lockdown off, ftrace direct calls", probe_fentry, TRACING },
	[FEAT_KPROBE] = { "kprobe", "kprobes", "CONFIG_KPROBES; " PERF_RIGHTS, probe_kprobe, TRACING },
	[FEAT_UPROBE_MULTI] = { "uprobe-multi", "uprobes of a file as one link", "kernel 6.6 or newer", probe_uprobe_multi, TRACING },
	/* Alone: kernels 5.8 to 6.15 took CAP_PERFMON for it, until their maintainers took that back. */
	[FEAT_UPROBE] = { "uprobe", "uprobes: contexts, goroutines, turns", "kernel 6.6, or CAP_SYS_ADMIN and CONFIG_UPROBE_EVENTS",
			  probe_uprobe },
	[FEAT_STREAM_OPS] = { "stream-ops", "inet_sendmsg and the like, as we know them",
			      "another attach plan (a report of this kernel's version is welcome)", probe_stream_ops },
};

/* Without one of these the programs for older kernels run. */
static const enum feature current_needs[] = { FEAT_TASK_STORAGE, FEAT_TASK_REGS, FEAT_LOOP };

/*
 * What each plan stands on; a zero ends a row (FEAT_PRIVILEGE is checked first, for all). FEAT_LOOP in a row: there
 * is no build of the plan for older kernels.
 */
static const enum feature plan_needs[__PLAN_CNT][8] = {
	[PLAN_FENTRY] = { FEAT_BTF, FEAT_READ_KERNEL, FEAT_RINGBUF, FEAT_TP_BTF, FEAT_ITER, FEAT_FENTRY, FEAT_STREAM_OPS },
	[PLAN_SOCKET] = { FEAT_BTF, FEAT_READ_KERNEL, FEAT_RINGBUF, FEAT_TP_BTF, FEAT_ITER, FEAT_SOCK_LENGTH, FEAT_TASK_REGS,
			  FEAT_LOOP },
	[PLAN_KPROBE] = { FEAT_BTF, FEAT_READ_KERNEL, FEAT_RINGBUF, FEAT_TP_BTF, FEAT_ITER, FEAT_KPROBE, FEAT_STREAM_OPS },
	[PLAN_SYSCALL] = { FEAT_BTF, FEAT_READ_KERNEL, FEAT_RINGBUF, FEAT_TP_BTF, FEAT_ITER, FEAT_SYSCALL_TP },
};

const char *feature__name(enum feature f)
{
	return table[f].name;
}

const char *feature__remedy(enum feature f)
{
	return table[f].remedy;
}

static const char *const plan_names[__PLAN_CNT] = { "none", "fentry", "socket", "kprobe", "syscall" };

const char *plan__name(enum plan p)
{
	return plan_names[p];
}

enum plan plan__by_name(const char *name)
{
	for (enum plan p = PLAN_NONE + 1; p < __PLAN_CNT; p++)
		if (!strcmp(name, plan_names[p]))
			return p;
	return PLAN_NONE;
}

bool features__plan_ok(const struct features *f, enum plan p, enum feature *ret_why)
{
	if (f->err[FEAT_PRIVILEGE] || f->err[FEAT_HOST_PIDS]) {
		*ret_why = f->err[FEAT_PRIVILEGE] ? FEAT_PRIVILEGE : FEAT_HOST_PIDS;
		return false;
	}
	for (int i = 0; i < 8 && plan_needs[p][i]; i++) {
		if (f->err[plan_needs[p][i]]) {
			*ret_why = plan_needs[p][i];
			return false;
		}
	}
	return true;
}

void features__probe(struct features *f)
{
	libbpf_print_fn_t old = libbpf_set_print(NULL);
	enum feature why;

	memset(f, 0, sizeof(*f));
	for (int i = 0; i < __FEAT_CNT; i++)
		f->err[i] = table[i].probe(f);
	libbpf_set_print(old);
	for (size_t i = 0; i < sizeof(current_needs) / sizeof(current_needs[0]); i++)
		f->legacy |= f->err[current_needs[i]] != 0;
	for (enum plan p = PLAN_NONE + 1; p < __PLAN_CNT && !f->plan; p++)
		if (features__plan_ok(f, p, &why))
			f->plan = p;
}

/* What would help first: a capability, tracefs, and only then what the row itself is about. */
static void print_refusal(const struct features *f, enum feature i, FILE *out)
{
	bool refused = f->err[i] == EPERM || f->err[i] == EACCES;

	fprintf(out, "%-14s %-52s no: %s; needs: ", table[i].name, table[i].desc, strerror(f->err[i]));
	if (f->err[FEAT_PRIVILEGE] && refused && table[i].caps)
		fprintf(out, "%s; then %s\n", table[i].caps, table[i].remedy);
	else if (i == FEAT_SYSCALL_TP && f->err[FEAT_TRACEFS])
		fprintf(out, "%s; then %s\n", table[FEAT_TRACEFS].name, table[i].remedy);
	else
		fprintf(out, "%s\n", table[i].remedy);
}

void features__print(const struct features *f, FILE *out)
{
	enum feature why;

	fprintf(out, "%-14s %-52s %s\n", "FEATURE", "WHAT", "RESULT");
	for (int i = 0; i < __FEAT_CNT; i++) {
		if (!f->err[i])
			fprintf(out, "%-14s %-52s yes%s\n", table[i].name, table[i].desc,
				i == FEAT_TRACEFS && f->mounted_tracefs ? " (mounted privately)" : "");
		else
			print_refusal(f, i, out);
	}
	fprintf(out, "\n%-14s %s\n", "PLAN", "RESULT");
	for (enum plan p = PLAN_NONE + 1; p < __PLAN_CNT; p++) {
		if (features__plan_ok(f, p, &why))
			fprintf(out, "%-14s granted%s\n", plan__name(p), p == f->plan ? ", taken by --attach=auto" : "");
		else
			fprintf(out, "%-14s refused: %s: %s\n", plan__name(p), table[why].name, strerror(f->err[why]));
	}
	if (f->err[FEAT_PRIVILEGE]) /* nothing has shown which would do */
		return;
	fprintf(out, "\nprograms: %s\n", f->legacy ? "those built for kernels below 5.17" : "current");
}
