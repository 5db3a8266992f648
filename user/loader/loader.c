// SPDX-License-Identifier: Apache-2.0
#include "user/loader/loader.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "user/base/log.h"
#include "user/base/mem.h"

#include "bpf/wirespan.skel.h"

struct loader {
	struct wirespan_bpf *skel;
	struct ring_buffer *ring;
	struct ws_ctl *ctl;
	enum plan plan;
	void (*fn)(void *ctx, const void *rec, size_t len);
	void *ctx;
	int polled;
	int n_cpus;
	bool loop_on;
	struct bpf_link *loop_links[8];
};

static int log_libbpf(enum libbpf_print_level level, const char *fmt, va_list args)
{
	char line[512];

	if (log__level < LOG_LVL_DEBUG)
		return 0;
	vsnprintf(line, sizeof(line), fmt, args);
	line[strcspn(line, "\n")] = '\0';
	log_debug("libbpf: %s", line);
	return 0;
}

/* ---- plans --------------------------------------------------------------------------------------- */

static enum plan plan_by_name(const char *name)
{
	for (enum plan p = PLAN_SOCKET; p <= PLAN_SYSCALL; p++)
		if (!strcmp(name, plan__name(p)))
			return p;
	return PLAN_NONE;
}

static int refuse(const struct features *f, enum plan p, enum feature why)
{
	if (why == FEAT_PRIVILEGE)
		log_error("cannot load programs: %s: needs CAP_BPF and CAP_PERFMON. Run it with sudo, or see `wirespan features`.",
			  strerror(f->err[why]));
	else if (why == FEAT_HOST_PIDS)
		log_error("not in the host's pid namespace: processes could not be told apart. In a container use %s.",
			  feature__remedy(why));
	else
		log_error("attach plan %s: %s: %s: needs %s. See `wirespan features`.", plan__name(p), feature__name(why),
			  strerror(f->err[why]), feature__remedy(why));
	return -f->err[why];
}

/* 0 with *ret_plan, or -errno, said. */
static int choose_plan(const struct loader_opts *o, const struct features *f, enum plan *ret_plan)
{
	bool automatic = !o->attach || !strcmp(o->attach, "auto");
	enum plan p = automatic ? f->plan : plan_by_name(o->attach);
	enum feature why;

	if (!automatic && p == PLAN_NONE) {
		log_error("--attach=%s: no such plan. Plans: auto, socket, syscall.", o->attach);
		return -EINVAL;
	}
	if (automatic && p == PLAN_NONE)
		p = PLAN_SYSCALL; /* the one that stands on least: say what even that lacks */
	if (!features__plan_ok(f, p, &why))
		return refuse(f, p, why);
	*ret_plan = p;
	return 0;
}

static bool program_in_plan(const char *name, enum plan plan)
{
	if (!strncmp(name, "sys_", 4))
		return plan == PLAN_SYSCALL;
	if (!strcmp(name, "sock_send") || !strcmp(name, "sock_recv"))
		return plan == PLAN_SOCKET;
	return true;
}

static bool is_loop_program(const struct bpf_program *p)
{
	return !strncmp(bpf_program__name(p), "loop_", 5);
}

/* ---- open ------------------------------------------------------------------------------------------ */

static void configure(struct loader *l, const struct loader_opts *o)
{
	struct wirespan_bpf *skel = l->skel;
	struct bpf_program *p;

	skel->rodata->cfg.capture = o->capture;
	skel->rodata->cfg.wake_bytes = o->ring_size / 8;
	skel->rodata->cfg.sk_storage = l->plan == PLAN_SOCKET;
	skel->rodata->cfg.trace_all = o->trace_all;
	if (getrandom((void *)&skel->rodata->cfg.kaddr_secret, sizeof(__u64), 0) < 0)
		skel->rodata->cfg.kaddr_secret = (__u64)(unsigned long)skel;
	memcpy((void *)skel->rodata->cfg.pattern, "traceparent:", 12);
	bpf_map__set_max_entries(skel->maps.events, o->ring_size);
	bpf_map__set_max_entries(skel->maps.sock_states, l->plan == PLAN_SOCKET ? 1 : o->max_connections);
	bpf_object__for_each_program(p, skel->obj) {
		bpf_program__set_autoload(p, program_in_plan(bpf_program__name(p), l->plan));
		bpf_program__set_autoattach(p, !is_loop_program(p) && strcmp(bpf_program__name(p), "existing_sockets"));
	}
}

static int on_ring(void *ctx, void *rec, size_t len)
{
	struct loader *l = ctx;

	l->polled++;
	l->fn(l->ctx, rec, len);
	return 0; /* anything else would end libbpf's poll */
}

static int load_and_attach(struct loader *l)
{
	int err = wirespan_bpf__load(l->skel);

	if (err) {
		log_error("cannot load programs: %s. See `wirespan features`, and --log-level=debug for the verifier's words.",
			  strerror(-err));
		return err;
	}
	err = wirespan_bpf__attach(l->skel);
	if (err) {
		log_error("cannot attach programs: %s. See `wirespan features`, and --log-level=debug for details.",
			  strerror(-err));
		return err;
	}
	l->ring = ring_buffer__new(bpf_map__fd(l->skel->maps.events), on_ring, l, NULL);
	if (!l->ring) {
		err = -errno;
		log_error("cannot map the ring buffer: %s. A smaller --ring-size may help.", strerror(errno));
		return err;
	}
	l->ctl = mmap(NULL, sizeof(struct ws_ctl) * WS_CTL_SLOTS, PROT_READ | PROT_WRITE, MAP_SHARED,
		      bpf_map__fd(l->skel->maps.ctl), 0);
	if (l->ctl == MAP_FAILED) {
		l->ctl = NULL;
		err = -errno;
		log_error("cannot map the control table: %s.", strerror(errno));
		return err;
	}
	return 0;
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
	libbpf_set_print(log_libbpf);
	l->plan = plan;
	l->n_cpus = libbpf_num_possible_cpus();
	l->skel = wirespan_bpf__open();
	if (!l->skel) {
		err = -errno;
		log_error("cannot open the built-in programs: %s.", strerror(errno));
		goto out;
	}
	configure(l, o);
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
	loader__loop_hooks(l, false);
	if (l->ctl)
		munmap(l->ctl, sizeof(struct ws_ctl) * WS_CTL_SLOTS);
	ring_buffer__free(l->ring);
	wirespan_bpf__destroy(l->skel);
	mem__free(l);
}

void loader__detach(struct loader *l)
{
	loader__loop_hooks(l, false);
	wirespan_bpf__detach(l->skel);
}

enum plan loader__plan(const struct loader *l)
{
	return l->plan;
}

/* ---- running --------------------------------------------------------------------------------------- */

void loader__on_record(struct loader *l, void (*fn)(void *ctx, const void *rec, size_t len), void *ctx)
{
	l->fn = fn;
	l->ctx = ctx;
}

int loader__poll(struct loader *l, int timeout_ms)
{
	l->polled = 0;
	/* Wakes at the threshold or after the time-out; records below the threshold are taken then. */
	ring_buffer__poll(l->ring, timeout_ms);
	ring_buffer__consume(l->ring);
	return l->polled;
}

static int run_iterator(struct loader *l, uint32_t pass)
{
	char buf[sizeof(struct ws_ev_sock) * 64];
	struct bpf_link *link;
	int fd, err = 0;
	ssize_t n;

	l->skel->bss->iter_pass = pass;
	link = bpf_program__attach_iter(l->skel->progs.existing_sockets, NULL);
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

	l->skel->bss->iter_done = 0;
	err = run_iterator(l, 1);
	if (!err)
		err = run_iterator(l, 2);
	l->skel->bss->iter_done = 1;
	if (err)
		log_warn("existing sockets could not be listed: %s: connections made before now may miss their role.",
			 strerror(-err));
	return err;
}

int loader__set_proc(struct loader *l, uint32_t tgid, uint32_t flags)
{
	struct ws_proc_ctl c = { .tgid = tgid, .flags = flags };
	int fd = bpf_map__fd(l->skel->maps.procs);
	int err = flags ? bpf_map_update_elem(fd, &tgid, &c, BPF_ANY) : bpf_map_delete_elem(fd, &tgid);

	__atomic_fetch_add(&l->skel->data->proc_epoch, 1, __ATOMIC_RELEASE);
	return err;
}

int loader__loop_hooks(struct loader *l, bool on)
{
	struct bpf_program *p;
	int i = 0, n = 0;

	if (!l->skel || on == l->loop_on)
		return 0;
	l->loop_on = on;
	if (!on) {
		l->skel->bss->loop_armed = 0; /* first: from here on no callback is believed */
		for (i = 0; i < 8; i++) {
			bpf_link__destroy(l->loop_links[i]);
			l->loop_links[i] = NULL;
		}
		return 0;
	}
	bpf_object__for_each_program(p, l->skel->obj) {
		if (!is_loop_program(p) || i >= 8)
			continue;
		l->loop_links[i] = bpf_program__attach(p); /* an architecture may lack some of the calls */
		n += l->loop_links[i] != NULL;
		i++;
	}
	if (n) {
		l->skel->bss->loop_armed = 1;
		return 0;
	}
	l->loop_on = false;
	log_warn("event loops cannot be followed: system call tracepoints: %s. See `wirespan features`.", strerror(errno));
	return -ENOENT;
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
	bpf_object__for_each_program(p, l->skel->obj) {
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
	if (!bpf_map_lookup_elem(bpf_map__fd(l->skel->maps.kstats), &zero, all)) {
		for (int cpu = 0; cpu < l->n_cpus; cpu++)
			for (int i = 0; i < __WS_K_CNT; i++)
				sum[i] += all[(size_t)cpu * __WS_K_CNT + i];
		row->in = sum[WS_K_IN];
		/* What is still in the ring is held by the kernel side: out is what the source has taken. */
		row->out = st->rows[ST_SOURCE].in;
		row->held = (int64_t)(sum[WS_K_OUT] - row->out);
		row->dropped[DROP_RING_FULL] = sum[WS_K_DROP_RING];
		row->dropped[DROP_NO_STATE] = sum[WS_K_DROP_STATE];
		st->fault_events = sum[WS_K_FAULTS];
		st->unseen_events = sum[WS_K_UNSEEN];
		st->stopped_events = sum[WS_K_STOPPED];
		st->skipped_events = sum[WS_K_SKIPPED];
		st->kernel_bytes = sum[WS_K_BYTES];
	}
	mem__free(all);
	program_times(l, st);
}
