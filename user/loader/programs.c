// SPDX-License-Identifier: Apache-2.0
#include "user/loader/programs.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "user/base/log.h"
#include "user/loader/kprobes.h"
#include "user/loader/uprobe_multi.h"
#include "user/loader/uprobes.h"

#include "bpf/wirespan.skel.h"
#include "bpf/wirespan_legacy.skel.h"

/* Where tracepoints of system calls are not permitted, plan socket goes on without (as without waits). */
#define END_CONNECT "end_connect"
/* Attached when they are needed. */
#define LATE "late_"

/* Programs that belong to some plans, by the beginning of their name; all others run in every plan. */
static const struct {
	const char *prefix;
	uint32_t plans; /* bit per enum plan */
} owners[] = {
	{ "fx_", 1u << PLAN_FENTRY },
	{ "kp_", 1u << PLAN_KPROBE },
	{ "kr_", 1u << PLAN_KPROBE },
	{ "sys_", 1u << PLAN_SYSCALL },
	{ "sock_send", 1u << PLAN_SOCKET },
	{ "sock_recv", 1u << PLAN_SOCKET },
	{ END_CONNECT, 1u << PLAN_SOCKET },
	{ LATE, 1u << PLAN_SOCKET | 1u << PLAN_SYSCALL },
};

static bool starts_with(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

static bool in_plan(const char *name, enum plan plan)
{
	for (size_t i = 0; i < sizeof(owners) / sizeof(owners[0]); i++)
		if (starts_with(name, owners[i].prefix))
			return owners[i].plans & 1u << plan;
	return true;
}

static bool is_wait(const struct bpf_program *prog)
{
	return starts_with(bpf_program__name(prog), "wait_") || starts_with(bpf_program__name(prog), "fx_wait_");
}

/* Iterators are run, not attached. */
static bool attached_at_start(const struct bpf_program *prog)
{
	return !is_wait(prog) && !uprobe__is_runtime(prog) && !starts_with(bpf_program__section_name(prog), "iter/") &&
	       !starts_with(bpf_program__name(prog), LATE);
}

static __s32 function_id(const struct btf *kernel, const char *name)
{
	return btf__find_by_name_kind(kernel, name, BTF_KIND_FUNC);
}

/* Functions come and go between kernels: a program whose function is not there is left out. */
static bool target_exists(const struct btf *kernel, const struct bpf_program *prog)
{
	const char *section = bpf_program__section_name(prog), *fn = strchr(section, '/');

	if (!strcmp(section, "iter/bpf_map_elem"))
		fn = "/bpf_iter_bpf_map_elem";
	else if (!starts_with(section, "fexit/") && !starts_with(section, "fentry/") && !starts_with(section, "kprobe/") &&
		 !starts_with(section, "kretprobe/"))
		return true;
	return function_id(kernel, fn + 1) > 0;
}

/* Kernels whose type information declares the argument of system calls only refuse programs that use it (5.10). */
static bool syscall_readable(const struct btf *kernel, const struct bpf_program *prog)
{
	__s32 id = function_id(kernel, strchr(bpf_program__section_name(prog), '/') + 1);
	const struct btf_type *t = id > 0 ? btf__type_by_id(kernel, btf__type_by_id(kernel, id)->type) : NULL;

	if (!t || !btf_vlen(t))
		return false;
	t = btf__type_by_id(kernel, btf_params(t)->type);
	while (t && (btf_is_ptr(t) || btf_is_mod(t)))
		t = btf__type_by_id(kernel, t->type);
	return t && btf_is_struct(t);
}

/* Of each wait there are two: for plan fentry, and for all others, or where that cannot be had. */
static bool wait_wanted(const struct programs *p, const struct btf *kernel, const struct bpf_program *prog)
{
	const char *name = bpf_program__name(prog);
	char other[64];

	if (starts_with(name, "fx_"))
		return syscall_readable(kernel, prog);
	snprintf(other, sizeof(other), "fx_%s", name);
	return p->plan != PLAN_FENTRY || !syscall_readable(kernel, bpf_object__find_program_by_name(p->obj, other));
}

/* The programs as they are built in: libbpf has taken them apart, and 1.7 MiB less count as memory of ours. */
static void drop_pages(const struct bpf_object_skeleton *s)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = ((uintptr_t)s->data + page - 1) & ~(page - 1),
		  to = ((uintptr_t)s->data + s->data_sz) & ~(page - 1);

	if (from < to)
		madvise((void *)from, to - from, MADV_DONTNEED); /* constants of the file: they are there when asked for */
}

#define BIND(p, s)                                              \
	do {                                                    \
		(p)->obj = (s)->obj;                            \
		(p)->cfg = (struct ws_config *)&(s)->rodata->cfg; \
		(p)->proc_epoch = &(s)->data->proc_epoch;       \
		(p)->waits_seen = &(s)->bss->waits_seen;        \
		(p)->wait_teacher = &(s)->bss->wait_teacher;    \
		(p)->tls_layouts = (s)->bss->tls_layouts;       \
		(p)->iter_done = &(s)->bss->iter_done;          \
		(p)->iter_pass = &(s)->bss->iter_pass;          \
	} while (0)

static void bind(struct programs *p)
{
	if (p->legacy)
		BIND(p, (struct wirespan_legacy_bpf *)p->skel);
	else
		BIND(p, (struct wirespan_bpf *)p->skel);
}

int programs__open(struct programs *p, enum plan plan, const struct features *f)
{
	bool legacy = f->legacy;
	struct bpf_program *prog;
	struct btf *kernel;

	*p = (struct programs){ .plan = plan, .legacy = legacy, .uprobe_multi = !f->err[FEAT_UPROBE_MULTI] };
	kernel = btf__load_vmlinux_btf();
	if (!kernel)
		return -errno;
	p->skel = legacy ? (void *)wirespan_legacy_bpf__open() : (void *)wirespan_bpf__open();
	if (!p->skel) {
		int err = -errno;

		btf__free(kernel);
		return err;
	}
	drop_pages(legacy ? ((struct wirespan_legacy_bpf *)p->skel)->skeleton : ((struct wirespan_bpf *)p->skel)->skeleton);
	bind(p);
	bpf_object__for_each_program(prog, p->obj) {
		bool wanted = is_wait(prog) ? wait_wanted(p, kernel, prog) : target_exists(kernel, prog);

		bpf_program__set_autoload(prog, wanted && in_plan(bpf_program__name(prog), plan));
		if (p->uprobe_multi && uprobe__is_runtime(prog))
			bpf_program__set_expected_attach_type(prog, (enum bpf_attach_type)UPROBE_MULTI_ATTACH_TYPE);
	}
	btf__free(kernel);
	return 0;
}

int programs__configure(struct programs *p, const struct loader_opts *o)
{
	struct ws_config *cfg = p->cfg;
	struct bpf_object *obj = p->obj;
	int err;

	cfg->capture = o->capture;
	cfg->wake_bytes = o->ring_size / 8;
	/* Kprobe and perf tracepoint programs are refused bpf_sk_storage_get. */
	cfg->sk_storage = !p->legacy && (p->plan == PLAN_SOCKET || p->plan == PLAN_FENTRY);
	cfg->trace_all = o->trace_all;
	cfg->work_events = o->work_events;
	cfg->by_port = o->ports != NULL;
	if (o->ports)
		memcpy(cfg->ports, o->ports, sizeof(cfg->ports));
	if (getrandom(&cfg->kaddr_secret, sizeof(__u64), 0) < 0)
		cfg->kaddr_secret = (__u64)(unsigned long)p;
	memcpy(cfg->pattern, "traceparent:", 12);
	err = bpf_map__set_max_entries(bpf_object__find_map_by_name(obj, "events"), o->ring_size);
	if (err)
		return err;
	return bpf_map__set_max_entries(bpf_object__find_map_by_name(obj, "sock_states"),
					cfg->sk_storage ? 1 : o->max_connections);
}

int programs__load(struct programs *p)
{
	int err = p->legacy ? wirespan_legacy_bpf__load(p->skel) : wirespan_bpf__load(p->skel);

	if (!err)
		bind(p);
	return err;
}

static int keep_link(struct programs *p, struct bpf_link *link)
{
	if (!link)
		return -errno;
	if (p->n_links == PROGRAMS_LINKS_MAX) {
		bpf_link__destroy(link);
		return -E2BIG;
	}
	p->links[p->n_links++] = link;
	return 0;
}

/* Programs that serve the exits of several system calls. */
static const struct {
	const char *prog, *calls[12];
} shared[] = {
	{ "sys_moved", { "read", "readv", "preadv2", "recvfrom", "recvmsg", "write", "writev", "pwritev2", "sendto", "sendmsg",
			 "sendfile64" } },
	{ "sys_moved_many", { "sendmmsg", "recvmmsg" } },
};

static int attach_calls(struct programs *p, struct bpf_program *prog, const char *const *calls)
{
	char name[32];

	for (; *calls; calls++) {
		int err;

		snprintf(name, sizeof(name), "sys_exit_%s", *calls);
		err = keep_link(p, bpf_program__attach_tracepoint(prog, "syscalls", name));
		/* An architecture may lack some of the system calls. */
		if (err && err != -ENOENT)
			return err;
	}
	return 0;
}

static int attach_one(struct programs *p, struct bpf_program *prog)
{
	for (size_t i = 0; i < sizeof(shared) / sizeof(shared[0]); i++)
		if (!strcmp(bpf_program__name(prog), shared[i].prog))
			return attach_calls(p, prog, shared[i].calls);
	if (starts_with(bpf_program__section_name(prog), "kretprobe/"))
		return keep_link(p, kprobes__attach_return(p->kprobes, prog));
	return keep_link(p, bpf_program__attach(prog));
}

/* The programs cannot tell a set of epoll from other files: they see us wait for one. */
static void show_epoll(struct programs *p)
{
	struct epoll_event none;
	int fd = epoll_create1(EPOLL_CLOEXEC);

	if (fd < 0)
		return;
	*p->wait_teacher = (uint32_t)gettid();
	epoll_wait(fd, &none, 1, 0);
	*p->wait_teacher = 0;
	close(fd);
}

/* Not without: a thread that may serve several requests at a time proves nothing. */
static void attach_waits(struct programs *p)
{
	int first = p->n_links, err = 0;
	struct bpf_program *prog;

	bpf_object__for_each_program(prog, p->obj) {
		if (!is_wait(prog) || !bpf_program__autoload(prog))
			continue;
		err = keep_link(p, bpf_program__attach(prog));
		/* An architecture may lack some of the system calls. */
		if (err && err != -ENOENT)
			break;
	}
	if ((!err || err == -ENOENT) && p->n_links > first) {
		show_epoll(p);
		*p->waits_seen = 1;
		return;
	}
	while (p->n_links > first)
		bpf_link__destroy(p->links[--p->n_links]);
	p->waits_refused = err ? -err : ENOENT;
}

int programs__attach(struct programs *p, const char **ret_name)
{
	struct bpf_program *prog;
	int err;

	attach_waits(p);
	kprobes__sweep();
	if (p->plan == PLAN_KPROBE) {
		p->kprobes = kprobes__new();
		if (!p->kprobes)
			return -errno;
	}
	bpf_object__for_each_program(prog, p->obj) {
		if (!bpf_program__autoload(prog) || !attached_at_start(prog))
			continue;
		*ret_name = bpf_program__name(prog);
		err = attach_one(p, prog);
		if (err && strcmp(*ret_name, END_CONNECT) != 0)
			return err;
	}
	return 0;
}

int programs__attach_late(struct programs *p)
{
	struct bpf_program *prog;
	int err = 0;

	bpf_object__for_each_program(prog, p->obj) {
		if (!err && bpf_program__autoload(prog) && starts_with(bpf_program__name(prog), LATE))
			err = keep_link(p, bpf_program__attach(prog));
	}
	return err;
}

void programs__detach(struct programs *p)
{
	while (p->n_links)
		bpf_link__destroy(p->links[--p->n_links]);
	kprobes__free(p->kprobes);
	p->kprobes = NULL;
}

int programs__map(const struct programs *p, const char *name)
{
	return bpf_object__find_map_fd_by_name(p->obj, name);
}

static uint64_t missed_by(const struct bpf_program *prog)
{
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);

	if (bpf_program__fd(prog) < 0 || bpf_obj_get_info_by_fd(bpf_program__fd(prog), &info, &len))
		return 0;
	return info.recursion_misses;
}

uint64_t programs__missed(const struct programs *p)
{
	uint64_t missed = kprobes__missed(p->kprobes);
	struct bpf_program *prog;

	bpf_object__for_each_program(prog, p->obj)
		missed += missed_by(prog);
	return missed;
}

static void log_missed(const struct programs *p)
{
	struct bpf_program *prog;

	if (!p->obj)
		return;
	bpf_object__for_each_program(prog, p->obj) {
		unsigned long long missed = missed_by(prog);

		if (missed)
			log_debug("%s: skipped %llu times", bpf_program__name(prog), missed);
	}
}

void programs__close(struct programs *p)
{
	log_missed(p);
	programs__detach(p);
	if (p->skel && p->legacy)
		wirespan_legacy_bpf__destroy(p->skel);
	else if (p->skel)
		wirespan_bpf__destroy(p->skel);
	p->skel = NULL;
	p->obj = NULL;
}
