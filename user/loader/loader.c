// SPDX-License-Identifier: Apache-2.0
#include "user/loader/loader.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "user/base/log.h"
#include "user/base/mem.h"
#include "user/loader/map_op.h"
#include "user/loader/programs.h"
#include "user/loader/ring.h"
#include "user/loader/uprobes.h"

#define VERIFIER_TAIL 4096 /* bytes of a libbpf message that are shown */
#define WRITTEN_MAX 16384  /* more than the longest record of the programs (emit.bpf.c, 9320) */

struct loader {
	struct programs p;
	struct ring *ring;
	int epoll; /* with the ring in it */
	struct ws_ctl *ctl;
	void (*fn)(void *ctx, const void *rec, size_t len);
	void *ctx;
	int n_cpus;
	struct uprobes *uprobes;
	struct bpf_link *sweep; /* made at the first one */
};

static int log_libbpf(enum libbpf_print_level level, const char *fmt, va_list args)
{
	char *text, *line, *rest;
	va_list again;
	int len;

	if (log__level < LOG_LVL_DEBUG)
		return 0;
	va_copy(again, args);
	len = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	text = len < 0 ? NULL : mem__alloc(len + 1);
	if (!text)
		return 0;
	vsnprintf(text, len + 1, fmt, args);
	/* The verifier's log is one message; what matters is at its end. */
	rest = len > VERIFIER_TAIL ? text + len - VERIFIER_TAIL : text;
	while ((line = strsep(&rest, "\n")))
		if (*line)
			log_debug("libbpf: %s", line);
	mem__free(text);
	return 0;
}

/* ---- plans --------------------------------------------------------------------------------------- */

/* `asked`: for this very plan; else it is the one that stands on least. */
static int refuse(const struct features *f, enum plan p, bool asked, enum feature why)
{
	if (why == FEAT_PRIVILEGE)
		log_error("cannot load programs: %s: needs CAP_BPF and CAP_PERFMON. Run it with sudo, or see `wirespan features`.",
			  strerror(f->err[why]));
	else if (why == FEAT_HOST_PIDS)
		log_error("not in the host's pid namespace: processes could not be told apart. "
			  "A pod needs hostPID: true, a container --pid=host.");
	else
		log_error("%s%s: %s: %s: needs %s. See `wirespan features`.", asked ? "attach plan " : "no attach plan can be used",
			  asked ? plan__name(p) : "", feature__name(why), strerror(f->err[why]), feature__remedy(why));
	return -f->err[why];
}

/* 0 with *ret_plan, or -errno, said. */
static int choose_plan(const struct loader_opts *o, const struct features *f, enum plan *ret_plan)
{
	bool automatic = !o->attach || !strcmp(o->attach, "auto");
	enum plan p = automatic ? f->plan : plan__by_name(o->attach);
	enum feature why;

	if (!automatic && p == PLAN_NONE) {
		log_error("--attach=%s: no such plan. Plans: auto, fentry, socket, kprobe, syscall.", o->attach);
		return -EINVAL;
	}
	if (automatic && p == PLAN_NONE)
		p = PLAN_SYSCALL; /* the one that stands on least: say what even that lacks */
	if (!features__plan_ok(f, p, &why))
		return refuse(f, p, !automatic, why);
	*ret_plan = p;
	return 0;
}

/* ---- open ------------------------------------------------------------------------------------------ */

static int open_ring(struct loader *l)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	int fd = programs__map(&l->p, "events");
	size_t size = bpf_map__max_entries(bpf_object__find_map_by_name(l->p.obj, "events"));

	l->ring = ring__new(fd, size, WRITTEN_MAX);
	if (!l->ring)
		return -errno;
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	return l->epoll < 0 || epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

static int load_and_attach(struct loader *l)
{
	const char *program = "";
	int err = programs__load(&l->p);

	if (err) {
		/* Before 5.11 maps are locked memory, and libbpf raises the limit only where it may. */
		log_error("cannot load programs: %s%s. See `wirespan features`, and --log-level=debug for the verifier's words.",
			  strerror(-err), err == -EPERM && l->p.legacy ?
			  " (below Linux 5.11 it takes CAP_SYS_RESOURCE, or `ulimit -l unlimited`)" : "");
		return err;
	}
	err = programs__attach(&l->p, &program);
	if (err) {
		log_error("cannot attach program %s: %s. See `wirespan features`, and --log-level=debug for details.",
			  program, strerror(-err));
		return err;
	}
	err = open_ring(l);
	if (err) {
		log_error("cannot map the ring buffer: %s. A smaller --ring-size may help.", strerror(-err));
		return err;
	}
	l->ctl = mmap(NULL, sizeof(struct ws_ctl) * WS_CTL_SLOTS, PROT_READ | PROT_WRITE, MAP_SHARED,
		      programs__map(&l->p, "ctl"), 0);
	if (l->ctl == MAP_FAILED) {
		l->ctl = NULL;
		err = -errno;
		log_error("cannot map the control table: %s.", strerror(errno));
		return err;
	}
	return 0;
}

int loader__check(const struct loader_opts *o, const struct features *f)
{
	enum plan plan;
	int err = choose_plan(o, f, &plan);

	errno = -err;
	return err;
}

struct loader *loader__open(const struct loader_opts *o, const struct features *f)
{
	struct loader *l;
	enum plan plan = PLAN_NONE;
	int err = choose_plan(o, f, &plan);

	if (err) {
		errno = -err;
		return NULL;
	}
	l = mem__zalloc(sizeof(*l));
	if (!l)
		return NULL;
	l->epoll = -1;
	libbpf_set_print(log_libbpf);
	l->n_cpus = libbpf_num_possible_cpus();
	err = programs__open(&l->p, plan, f);
	if (!err)
		err = programs__configure(&l->p, o);
	if (err) {
		log_error("cannot open the built-in programs: %s.", strerror(-err));
		goto out;
	}
	err = load_and_attach(l);
out:
	if (err) {
		loader__close(l);
		errno = -err;
		return NULL;
	}
	return l;
}

void loader__close(struct loader *l)
{
	if (!l)
		return;
	bpf_link__destroy(l->sweep);
	if (l->ctl)
		munmap(l->ctl, sizeof(struct ws_ctl) * WS_CTL_SLOTS);
	if (l->epoll >= 0)
		close(l->epoll);
	ring__free(l->ring);
	uprobes__free(l->uprobes);
	programs__close(&l->p);
	mem__free(l);
}

void loader__detach(struct loader *l)
{
	programs__detach(&l->p);
}

enum plan loader__plan(const struct loader *l)
{
	return l->p.plan;
}

/* ---- running --------------------------------------------------------------------------------------- */

void loader__on_record(struct loader *l, void (*fn)(void *ctx, const void *rec, size_t len), void *ctx)
{
	l->fn = fn;
	l->ctx = ctx;
}

int loader__poll(struct loader *l, int timeout_ms)
{
	struct epoll_event ev;

	/*
	 * The kernel's word comes once, when so much is unread; edge-triggered, so that less does not wake us. Where there is
	 * more already it may have come and gone.
	 */
	if (ring__unread(l->ring) < l->p.cfg->wake_bytes)
		epoll_wait(l->epoll, &ev, 1, timeout_ms);
	return (int)ring__read(l->ring, l->fn, l->ctx);
}

static int run_iterator(struct loader *l, uint32_t pass)
{
	char buf[sizeof(struct ws_ev_sock) * 64];
	struct bpf_link *link;
	int fd, err = 0;
	ssize_t n;

	*l->p.iter_pass = pass;
	link = bpf_program__attach_iter(
		bpf_object__find_program_by_name(l->p.obj, "existing_sockets"), NULL);
	if (!link)
		return -errno;
	fd = bpf_iter_create(bpf_link__fd(link));
	if (fd < 0) {
		bpf_link__destroy(link);
		return fd;
	}
	while ((n = read(fd, buf, sizeof(buf))) != 0) {
		if (n < 0) {
			if (errno == EINTR || errno == EAGAIN)
				continue;
			err = -errno;
			break;
		}
		for (ssize_t at = 0; at + (ssize_t)sizeof(struct ws_ev_sock) <= n; at += sizeof(struct ws_ev_sock))
			l->fn(l->ctx, buf + at, sizeof(struct ws_ev_sock));
		loader__poll(l, 0); /* the hooks are live meanwhile */
	}
	close(fd);
	bpf_link__destroy(link);
	return err;
}

int loader__existing_sockets(struct loader *l)
{
	int err;

	*l->p.iter_done = 0;
	err = run_iterator(l, 1);
	if (!err)
		err = run_iterator(l, 2);
	*l->p.iter_done = 1;
	if (err)
		log_warn("existing sockets could not be listed: %s: connections made before now may miss their role.",
			 strerror(-err));
	return err;
}

int loader__sweep(struct loader *l)
{
	char buf[64]; /* nothing is written to it: what is found goes to the ring */
	int fd, err = 0;
	ssize_t n;

	if (!l->sweep) {
		union bpf_iter_link_info info;
		LIBBPF_OPTS(bpf_iter_attach_opts, opts, .link_info = &info, .link_info_len = sizeof(info));

		memset(&info, 0, sizeof(info)); /* whole: an initializer leaves what other members have more */
		info.map.map_fd = (uint32_t)programs__map(&l->p, "unix_socks");
		l->sweep = bpf_program__attach_iter(bpf_object__find_program_by_name(l->p.obj, "gone_sockets"), &opts);
		if (!l->sweep)
			return -errno;
	}
	fd = bpf_iter_create(bpf_link__fd(l->sweep));
	if (fd < 0)
		return fd;
	while ((n = read(fd, buf, sizeof(buf))) != 0) {
		if (n < 0 && errno != EINTR && errno != EAGAIN) {
			err = -errno;
			break;
		}
	}
	close(fd);
	return err;
}

int loader__watch_unix(struct loader *l)
{
	return programs__attach_late(&l->p);
}

static int put_proc(struct loader *l, const struct ws_proc_ctl *c)
{
	int err = map_op__update(programs__map(&l->p, "procs"), &c->tgid, c, BPF_ANY);

	__atomic_fetch_add(l->p.proc_epoch, 1, __ATOMIC_RELEASE);
	return err;
}

static int del_proc(struct loader *l, uint32_t tgid)
{
	int err = map_op__delete(programs__map(&l->p, "procs"), &tgid);

	__atomic_fetch_add(l->p.proc_epoch, 1, __ATOMIC_RELEASE);
	return err == -ENOENT ? 0 : err;
}

/* What one side says of a process: {}, nothing. */
static struct ws_proc_ctl get_proc(struct loader *l, const char *map, uint32_t tgid)
{
	struct ws_proc_ctl c;

	if (map_op__lookup(programs__map(&l->p, map), &tgid, &c) || c.tgid != tgid)
		return (struct ws_proc_ctl){ 0 };
	return c;
}

/* Has the kernel take note of the sockets that a process has by now. Below 6.1: -EINVAL, no process can be singled out. */
static int note_sockets(struct loader *l, uint32_t tgid)
{
	union bpf_iter_link_info info;
	LIBBPF_OPTS(bpf_iter_attach_opts, opts, .link_info = &info, .link_info_len = sizeof(info));
	struct bpf_link *link;
	char none[64];
	int fd, err = 0;

	memset(&info, 0, sizeof(info));
	info.task.pid = tgid;
	*l->p.iter_pass = 3;
	link = bpf_program__attach_iter(bpf_object__find_program_by_name(l->p.obj, "existing_sockets"), &opts);
	if (!link)
		return -errno;
	fd = bpf_iter_create(bpf_link__fd(link));
	if (fd < 0 || read(fd, none, sizeof(none)) != 0) /* says nothing, and has been everywhere */
		err = -EIO;
	if (fd >= 0)
		close(fd);
	bpf_link__destroy(link);
	return err;
}

int loader__set_proc(struct loader *l, uint32_t tgid, uint32_t flags, uint64_t as_of)
{
	struct ws_proc_ctl was = get_proc(l, "procs", tgid), mark = get_proc(l, "marks", tgid);
	struct ws_proc_ctl c = { .tgid = tgid, .flags = flags, .at = as_of > was.at ? as_of : was.at };
	bool traced = flags & WS_PROC_TRACED;
	int err;

	if (!flags && !mark.tgid)
		return del_proc(l, tgid);
	if (mark.at > was.at)
		was = mark;
	if (traced)
		c.flags |= was.flags & WS_PROC_TRACED ? was.flags & WS_PROC_WHOLE : 0;
	if (traced && (l->p.cfg->trace_all || !*l->p.iter_done)) /* whatever it has is about to be listed */
		c.flags |= WS_PROC_WHOLE;
	err = put_proc(l, &c);
	if (err || !traced || c.flags & WS_PROC_WHOLE || mark.at > c.at || note_sockets(l, tgid))
		return err;
	c.flags |= WS_PROC_WHOLE;
	return put_proc(l, &c);
}

/* NULL with ENOMEM. */
static struct uprobes *uprobes_of(struct loader *l)
{
	if (!l->uprobes)
		l->uprobes = uprobes__new(l->p.obj, l->p.uprobe_multi, l->p.cfg->work_events, !l->p.legacy);
	return l->uprobes;
}

struct uprobe_set *loader__probe(struct loader *l, const struct runtime_site *sites, size_t n)
{
	struct uprobes *u = uprobes_of(l);

	for (size_t i = 0; i < n && l->p.legacy; i++) {
		union ws_tls layout = { .cookie = sites[i].cookie };

		if (layout.kind && layout.kind <= WS_TLS_KINDS)
			l->p.tls_layouts[layout.kind - 1] = layout.cookie;
	}
	return u ? uprobes__attach(u, sites, n) : NULL;
}

int loader__follow(struct loader *l, uint32_t tgid, const struct runtime *r)
{
	struct ws_runtime rt = r->desc;
	int err;

	if (!uprobes_of(l))
		return -ENOMEM;
	if (uprobes__count(l->uprobes, tgid) == (ssize_t)r->n_sites)
		return 0;
	err = uprobes__plant(l->uprobes, tgid, r);
	if (err)
		return err;
	rt.tgid = tgid;
	err = map_op__update(programs__map(&l->p, "runtimes"), &tgid, &rt, BPF_ANY);
	if (err) {
		uprobes__forget(l->uprobes, tgid);
		return err;
	}
	__atomic_fetch_add(l->p.proc_epoch, 1, __ATOMIC_RELEASE);
	return 1;
}

bool loader__reads_for_all(const struct loader *l, uint32_t tgid)
{
	struct ws_runtime rt = {0};

	return !map_op__lookup(programs__map(&l->p, "runtimes"), &tgid, &rt) && rt.everybody;
}

bool loader__follows(const struct loader *l, uint32_t tgid)
{
	return l->uprobes && uprobes__count(l->uprobes, tgid) >= 0;
}

void loader__unfollow(struct loader *l, uint32_t tgid)
{
	if (l->uprobes)
		uprobes__forget(l->uprobes, tgid);
}

void loader__mislead(struct loader *l, uint32_t tgid)
{
	if (l->p.obj)
		map_op__delete(programs__map(&l->p, "runtimes"), &tgid);
	loader__unfollow(l, tgid);
}

int loader__waits_refused(const struct loader *l)
{
	return l->p.waits_refused;
}

void loader__control(struct loader *l, const struct ws_ctl *c)
{
	struct ws_ctl *slot = &l->ctl[ws_ctl_slot(c->sock)];

	/* The kernel reads `sock` first and believes the rest only if it matches. */
	__atomic_store_n(&slot->sock, 0, __ATOMIC_RELEASE);
	slot->skip_until[0] = c->skip_until[0];
	slot->skip_until[1] = c->skip_until[1];
	slot->mode = c->mode;
	slot->role = c->role;
	__atomic_store_n(&slot->sock, c->sock, __ATOMIC_RELEASE);
}

/* ---- books ----------------------------------------------------------------------------------------- */

static void program_times(struct loader *l, struct stats *st)
{
	struct bpf_program *p;

	st->kernel_runs = st->kernel_run_ns = 0;
	bpf_object__for_each_program(p, l->p.obj) {
		struct bpf_prog_info info = {};
		__u32 len = sizeof(info);

		if (bpf_program__fd(p) < 0 || bpf_obj_get_info_by_fd(bpf_program__fd(p), &info, &len))
			continue;
		st->kernel_runs += info.run_cnt; /* counts only under kernel.bpf_stats_enabled */
		st->kernel_run_ns += info.run_time_ns;
	}
}

void loader__stats(struct loader *l, struct stats *st)
{
	struct stats_row *row = &st->rows[ST_KERNEL];
	uint64_t n[__WS_K_CNT], sum[__WS_K_CNT] = { 0 };
	uint64_t *all = mem__alloc(sizeof(n) * l->n_cpus);
	__u32 zero = 0;

	if (!all)
		return;
	if (!map_op__lookup(programs__map(&l->p, "kstats"), &zero, all)) {
		for (int cpu = 0; cpu < l->n_cpus; cpu++)
			for (int i = 0; i < __WS_K_CNT; i++)
				sum[i] += all[(size_t)cpu * __WS_K_CNT + i];
		row->in = sum[WS_K_IN];
		/* What is still in the ring is held by the kernel side: out is what the source has taken. */
		row->out = st->rows[ST_SOURCE].in;
		row->held = (int64_t)(sum[WS_K_OUT] - row->out);
		row->dropped[DROP_RING_FULL] = sum[WS_K_DROP_RING];
		row->dropped[DROP_NO_STATE] = sum[WS_K_DROP_STATE];
		row->dropped[DROP_FD_REUSED] = sum[WS_K_DROP_FD];
		row->dropped[DROP_TLS_UNBOUND] = sum[WS_K_DROP_TLS];
		st->fault_events = sum[WS_K_FAULTS];
		st->unseen_events = sum[WS_K_UNSEEN];
		st->stopped_events = sum[WS_K_STOPPED];
		st->skipped_events = sum[WS_K_SKIPPED];
		st->kernel_bytes = sum[WS_K_BYTES];
	}
	mem__free(all);
	st->missed_probes = programs__missed(&l->p);
	program_times(l, st);
}
