// SPDX-License-Identifier: Apache-2.0
#include "user/live.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "exporter/exporter.h"
#include "user/banner.h"
#include "user/base/clock.h"
#include "user/base/log.h"
#include "user/base/mailbox.h"
#include "user/base/mem.h"
#include "user/enrich/service.h"
#include "user/follow.h"
#include "user/loader/command.h"
#include "user/loader/control.h"
#include "user/loader/discover.h"
#include "user/loader/loader.h"
#include "user/loader/report.h"
#include "user/match/match.h"
#include "user/pipeline.h"
#include "user/sinks.h"
#include "user/source/recording.h"
#include "user/source/source.h"

/* Longest wait of the pipeline thread; the ring wakes it earlier when an eighth is filled. */
#define POLL_MS 20
/* Clock offset is taken again that often: NTP slews, suspends. */
#define CLOCK_NS 10000000000ull
/* AF_UNIX sockets that were closed without a word are looked for that often. */
#define SWEEP_NS 5000000000ull
/* … and so soon behind an exit: it is told before its descriptors are closed. */
#define SWEEP_SOON_NS 50000000ull
#define MAILBOX_MAX (8u << 20)
/* Records of the kernel between two looks at the mail: under load the ring is never empty, and answers must come in. */
#define LOOK_EVERY 256u
/* While what is left is sent: how often it is asked whether somebody has lost patience. */
#define FLUSH_LOOK_NS 50000000ull

/* pipeline thread -> control thread */
enum note_type { NOTE_WANT, NOTE_PROC, NOTE_LISTEN, NOTE_TELEMETRY, NOTE_SERVES, NOTE_TALKS, NOTE_UNIX };

struct note {
	uint32_t type;
	uint32_t tgid;
	uint64_t sock, start_ns;
	uint64_t ts; /* of the event that it tells of */
	uint32_t netns;
	uint16_t port;
	uint16_t on;
	uint32_t comm_len, args_len;
};

struct live {
	const struct opts *o;
	struct features features;
	struct loader *loader;
	struct source *source;
	struct pipeline *pipeline;
	struct recorder *recorder;
	struct batch_queue *queue;
	struct exporter *exporter;
	struct proc_lookup *lookup;
	struct discover *discover;
	struct control *control;
	struct command_child *child;
	struct mailbox *to_control, *to_pipeline;
	pthread_t thread;
	bool thread_started, selective;
	bool alone; /* no pipeline thread yet: the control thread does its work */
	uint32_t since_look;
	int stop; /* atomic: the pipeline thread ends */
	uint64_t sweep_due;
	uint64_t as_of; /* when what is decided on happened; 0: the scan, older than every event */
	struct follow *follow; /* NULL: no runtime is followed */
	bool tls;	       /* TLS libraries are read inside */
	uint32_t runtimes;     /* bit per enum ws_runtime_kind that is followed */
	uint32_t refused;      /* … that would be, had we uprobes */
	uint64_t started;
	uint64_t ready, ready_cpu; /* when it was, and the processor time until then */
};

/* ---- pipeline thread -------------------------------------------------------------------------------- */

static void put_note(struct live *l, const struct note *n, const void *tail, size_t len)
{
	static struct log_limit lim;

	if (mailbox__put(l->to_control, n, sizeof(*n), tail, len))
		log__limited(&lim, LOG_LVL_WARN, "the control thread is behind: a process may go without its name");
}

static void on_want(void *ctx, uint32_t tgid, struct str comm, struct str args, uint64_t start_ns)
{
	char tail[WS_COMM_LEN + WS_ARGS_MAX];
	struct note n = { .type = NOTE_WANT, .tgid = tgid, .start_ns = start_ns };

	n.comm_len = comm.len < WS_COMM_LEN ? comm.len : WS_COMM_LEN;
	n.args_len = args.len < WS_ARGS_MAX ? args.len : WS_ARGS_MAX;
	if (n.comm_len)
		memcpy(tail, comm.p, n.comm_len);
	if (n.args_len)
		memcpy(tail + n.comm_len, args.p, n.args_len);
	put_note(ctx, &n, tail, n.comm_len + n.args_len);
}

static void on_proc(void *ctx, const struct ws_ev_proc *ev)
{
	struct note n = { .type = NOTE_PROC, .tgid = ev->tgid, .ts = ev->ev.ts };

	if (ev->what > WS_PROC_EXIT) /* of a thread */
		return;
	if (((struct live *)ctx)->follow)
		follow__forget(((struct live *)ctx)->follow, ev->tgid);
	put_note(ctx, &n, ev, ev->ev.len);
}

static void on_listening(void *ctx, uint64_t sock, uint32_t tgid, uint32_t netns, uint16_t port, bool on, uint64_t ts)
{
	struct note n = { .type = NOTE_LISTEN, .tgid = tgid, .sock = sock, .netns = netns, .port = port, .on = on, .ts = ts };

	put_note(ctx, &n, NULL, 0);
}

static void on_telemetry(void *ctx, uint32_t tgid)
{
	struct note n = { .type = NOTE_TELEMETRY, .tgid = tgid };

	put_note(ctx, &n, NULL, 0);
}

/* Told once per process, at its first connection. */
static void on_serves(void *ctx, uint32_t tgid)
{
	struct note n = { .type = NOTE_SERVES, .tgid = tgid };
	struct live *l = ctx;

	if (l->follow && follow__serves(l->follow, tgid))
		put_note(l, &n, NULL, 0);
}

static void on_talks(void *ctx, uint32_t tgid)
{
	struct note n = { .type = NOTE_TALKS, .tgid = tgid };
	struct live *l = ctx;

	if (l->follow && follow__talks(l->follow, tgid))
		put_note(l, &n, NULL, 0);
}

static void on_encrypted(void *ctx, uint32_t tgid, uint64_t now)
{
	struct note n = { .type = NOTE_TALKS, .tgid = tgid, .on = true };
	struct live *l = ctx;

	if (l->follow && follow__encrypted(l->follow, tgid, now))
		put_note(l, &n, NULL, 0);
}

static void on_over_unix(void *ctx)
{
	struct note n = { .type = NOTE_UNIX };

	put_note(ctx, &n, NULL, 0);
}

static void on_control(void *ctx, uint64_t sock, const struct ws_ctl *c)
{
	loader__control(((struct live *)ctx)->loader, c);
}

static void on_record(void *ctx, const void *rec, size_t len)
{
	source__push(((struct live *)ctx)->source, rec, len);
}

static void push_clock(struct live *l, uint64_t now)
{
	struct ws_ev_clock c = { .ev = { .type = WS_EV_CLOCK, .len = sizeof(c), .ts = now },
				 .wall_offset = clock__wall_offset() };

	source__push(l->source, &c, sizeof(c));
}

static void push_tick(struct live *l, uint64_t now)
{
	struct ws_ev t = { .type = WS_EV_TICK, .len = sizeof(t), .ts = now };

	source__push(l->source, &t, sizeof(t));
}

static void check_recorder(struct live *l)
{
	int err = l->recorder ? recorder__error(l->recorder) : 0;
	static bool said;

	if (!err || said)
		return;
	said = true;
	log_error("recording %s: %s: it ends here, tracing goes on", l->o->file, strerror(err));
	source__detach(l->source);
}

/* Takes what is still in the ring, then gives the control thread a moment to describe what waits for a name. */
static void drain(struct live *l)
{
	while (loader__poll(l->loader, 0) > 0)
		;
	for (int i = 0; i < 50 && pipeline__waits(l->pipeline); i++) {
		usleep(10000);
		mailbox__take(l->to_pipeline, on_record, l);
		push_tick(l, clock__mono_ns());
	}
	pipeline__finish(l->pipeline);
}

static void *pipeline_thread(void *arg)
{
	struct live *l = arg;
	uint64_t next_clock = 0, now;

	prctl(PR_SET_NAME, "pipeline");
	while (!__atomic_load_n(&l->stop, __ATOMIC_ACQUIRE)) {
		loader__poll(l->loader, POLL_MS);
		mailbox__take(l->to_pipeline, on_record, l);
		now = clock__mono_ns();
		if (now >= next_clock) {
			push_clock(l, now);
			next_clock = now + CLOCK_NS;
		}
		push_tick(l, now);
		check_recorder(l);
	}
	loader__detach(l->loader);
	drain(l);
	return NULL;
}

/* ---- control thread --------------------------------------------------------------------------------- */

static void put_selection(struct live *l, uint32_t tgid, uint32_t selected)
{
	struct ws_ev_select s = { .ev = { .type = WS_EV_SELECT, .len = sizeof(s), .ts = clock__mono_ns() },
				  .tgid = tgid, .selected = selected };

	mailbox__put(l->to_pipeline, &s, sizeof(s), NULL, 0);
}

static enum ws_selection selection_of(struct live *l, uint32_t tgid)
{
	if (!discover__selected(l->discover, tgid))
		return WS_SELECT_NO;
	return discover__is_receiver(l->discover, tgid) ? WS_SELECT_RECEIVER : WS_SELECT_YES;
}

static void set_flags(void *ctx, uint32_t tgid, uint32_t flags)
{
	struct live *l = ctx;

	loader__set_proc(l->loader, tgid, flags, l->as_of);
	if (flags) /* what is known of a process that ended stays: spans of it may still come */
		put_selection(l, tgid, selection_of(l, tgid));
}

/* The pipeline may wait for this one: also if nothing has changed. */
static void answer_selection(struct live *l, uint32_t tgid)
{
	put_selection(l, tgid, WS_SELECT_ANSWER | selection_of(l, tgid));
}

static void sweep(struct live *l, uint64_t now)
{
	int err;

	if (now < l->sweep_due)
		return;
	err = loader__sweep(l->loader);
	if (err)
		log_debug("closed AF_UNIX sockets cannot be looked for: %s", strerror(-err));
	l->sweep_due = now + SWEEP_NS;
}

static void watch_unix(struct live *l)
{
	int err = loader__watch_unix(l->loader);

	if (err)
		log_debug("ends of AF_UNIX connections cannot be seen, and are looked for: %s", strerror(-err));
}

static void sweep_soon(struct live *l, uint64_t now)
{
	if (l->sweep_due > now + SWEEP_SOON_NS)
		l->sweep_due = now + SWEEP_SOON_NS;
}

/* How long the control thread may wait: until `end`, if that is not 0, or the next thing that is due. */
static int wait_ms(const struct live *l, uint64_t now, uint64_t end)
{
	uint64_t until = now + 1000000000;

	if (end && end < until)
		until = end;
	if (l->sweep_due < until)
		until = l->sweep_due;
	return until <= now ? 0 : (int)((until - now) / 1000000) + 1;
}

static void describe(struct live *l, const struct note *n, const char *tail)
{
	struct dynbuf out;

	dynbuf__init(&out, 256 * 1024);
	if (!proc_lookup__describe(l->lookup, n->tgid, n->start_ns, (struct str){ tail, n->comm_len },
				   (struct str){ tail + n->comm_len, n->args_len }, &out))
		mailbox__put(l->to_pipeline, out.data, out.len, NULL, 0);
	dynbuf__free(&out);
}

/* Whoever listens will serve: described before its first span, so that a burst of spans need not wait for it. */
static void on_listener(struct live *l, const struct note *n)
{
	struct note want = { .type = NOTE_WANT, .tgid = n->tgid };

	discover__listen(l->discover, n->sock, n->tgid, n->netns, n->port);
	answer_selection(l, n->tgid);
	if (discover__selected(l->discover, n->tgid))
		describe(l, &want, "");
	if (!l->follow)
		return;
	follow__process(l->follow, n->tgid);
	follow__workers(l->follow, n->tgid);
}

static void on_proc_note(struct live *l, const struct ws_ev_proc *ev)
{
	discover__proc_event(l->discover, ev);
	if (ev->what == WS_PROC_FORK || ev->what == WS_PROC_EXEC)
		answer_selection(l, ev->tgid);
	if (ev->what == WS_PROC_EXIT)
		sweep_soon(l, clock__mono_ns());
	if (l->follow && ev->what != WS_PROC_FORK)
		follow__ended(l->follow, ev->tgid, clock__mono_ns());
	else if (l->follow)
		follow__forked(l->follow, ev->ppid, ev->tgid);
}

/* Tracing what receives our own export would feed on itself. The kernel side goes on: what is left out is counted. */
static void on_receiver(struct live *l, uint32_t tgid)
{
	char name[SERVICE_NAME_MAX];

	if (!discover__receives(l->discover, tgid, name, sizeof(name)))
		return;
	put_selection(l, tgid, selection_of(l, tgid));
	log_info("%s (pid %u) receives OTLP: it is left out from now on; --no-default-excludes traces it", name, tgid);
}

static void take_note(void *ctx, const void *rec, size_t len)
{
	const struct note *n = rec;
	const char *tail = (const char *)(n + 1);
	struct live *l = ctx;

	l->as_of = n->ts;
	switch (n->type) {
	case NOTE_WANT:
		describe(l, n, tail);
		break;
	case NOTE_PROC:
		on_proc_note(l, (const struct ws_ev_proc *)tail);
		break;
	case NOTE_LISTEN:
		if (n->on)
			on_listener(l, n);
		else
			discover__unlisten(l->discover, n->sock);
		break;
	case NOTE_TELEMETRY:
		on_receiver(l, n->tgid);
		break;
	case NOTE_SERVES:
		follow__process(l->follow, n->tgid);
		break;
	case NOTE_TALKS:
		follow__tls(l->follow, n->tgid, n->on);
		break;
	case NOTE_UNIX:
		watch_unix(l);
		break;
	}
}

/* Thread: the pipeline's. */
static void read_mail(struct live *l)
{
	if (l->alone)
		mailbox__take(l->to_control, take_note, l);
	mailbox__take(l->to_pipeline, on_record, l);
}

static void on_kernel_record(void *ctx, const void *rec, size_t len)
{
	struct live *l = ctx;

	if (++l->since_look >= LOOK_EVERY) {
		l->since_look = 0;
		read_mail(l);
	}
	on_record(l, rec, len);
}

static void snapshot(struct live *l, struct stats *st)
{
	*st = stats;
	loader__stats(l->loader, st);
}

static void render_stats(void *ctx, struct dynbuf *out)
{
	struct stats st;

	snapshot(ctx, &st);
	report__json(out, &st);
}

/* Waits for the end: a signal, the duration, the command. Returns the exit code. */
static int control_loop(struct live *l, int sigfd)
{
	uint64_t end = l->o->duration_ms ? l->started + l->o->duration_ms * 1000000 : 0;

	for (;;) {
		struct pollfd fds[3] = {
			{ .fd = sigfd, .events = POLLIN },
			{ .fd = mailbox__fd(l->to_control), .events = POLLIN },
			{ .fd = l->control ? control__fd(l->control) : -1, .events = POLLIN },
		};
		uint64_t now = clock__mono_ns();
		struct signalfd_siginfo si;
		int code;

		sweep(l, now);
		if (l->follow)
			follow__tick(l->follow, now);
		if (end && now >= end)
			return 0;
		poll(fds, 3, wait_ms(l, now, end));
		if (fds[1].revents)
			mailbox__take(l->to_control, take_note, l);
		if (fds[2].revents)
			control__serve(l->control, render_stats, l);
		if (!fds[0].revents || read(sigfd, &si, sizeof(si)) != sizeof(si))
			continue;
		if (si.ssi_signo != SIGCHLD)
			return 0;
		if (l->child && command__ended(l->child, &code))
			return code;
	}
}

/* ---- start and end ------------------------------------------------------------------------------------ */

static void say_begin(const struct live *l)
{
	banner__begin(&(struct banner){
		.opts = l->o,
		.features = &l->features,
		.plan = loader__plan(l->loader),
		.waits_refused = loader__waits_refused(l->loader),
		.runtimes = l->runtimes,
		.refused = l->refused, .tls = l->tls,
	});
}

static void say_ready(struct live *l)
{
	banner__ready(l->discover);
	l->ready = clock__mono_ns();
	l->ready_cpu = report__cpu_ns();
}

static int open_parts(struct live *l)
{
	struct proc_lookup_opts lo = { .procfs = "/proc", .sysfs = "/sys", .etc = "/etc", .version = WS_VERSION,
				       .resource_attributes = l->o->resource_attributes };
	struct discover_opts d = {
		.pid = l->o->pid,
		.exe = l->o->exe,
		.include = l->o->include,
		.exclude = l->o->exclude,
		.port = l->o->port,
		.run_pid = l->child ? command__pid(l->child) : 0,
		.self = getpid(),
		.set_flags = set_flags,
		.ctx = l,
	};
	const char *bad = NULL;

	l->to_control = mailbox__new(MAILBOX_MAX);
	l->to_pipeline = mailbox__new(MAILBOX_MAX);
	l->lookup = proc_lookup__new(&lo);
	if (!l->to_control || !l->to_pipeline || !l->lookup) {
		log_error("cannot start: %s", errno == EINVAL ? "OTEL_RESOURCE_ATTRIBUTES cannot be decoded" : strerror(errno));
		return errno == EINVAL ? 2 : 1;
	}
	d.lookup = l->lookup;
	l->discover = discover__new(&d, &bad);
	if (!l->discover) {
		log_error("%s: %s", bad ? bad : "selection", bad ? "cannot be understood" : strerror(errno));
		return bad ? 2 : 1;
	}
	l->selective = discover__selective(l->discover);
	return 0;
}

/* What was asked for has proved possible up to here: from now on the kernel is changed. */
static int open_kernel(struct live *l, const struct loader_opts *lo)
{
	uint32_t off = 0;

	l->loader = loader__open(lo, &l->features);
	if (!l->loader)
		return errno == EINVAL ? 2 : 3;
	loader__on_record(l->loader, on_kernel_record, l);
	match__evidence_mask(l->o->evidence_off, &off);
	l->runtimes = follow__kinds(off);
	if (l->features.err[FEAT_UPROBE]) { /* virtual threads are read, not probed */
		l->refused = l->runtimes & ~(1u << WS_RT_JVM);
		l->runtimes &= ~l->refused;
	}
	l->tls = l->o->tls && !l->features.err[FEAT_UPROBE];
	if (!l->runtimes && !l->tls)
		return 0;
	l->follow = follow__new(l->loader, l->discover, l->runtimes, l->tls);
	if (!l->follow)
		log_error("cannot start: %s", strerror(errno));
	return l->follow ? 0 : 1;
}

static int open_sink(struct live *l)
{
	l->queue = sinks__queue(l->o, false);
	if (!l->queue) {
		log_error("cannot start: %s", strerror(errno));
		return 1;
	}
	l->exporter = sinks__exporter(l->o, l->queue);
	return l->exporter ? 0 : sinks__exit_code(errno);
}

static int check_kernel(struct live *l, struct loader_opts *lo)
{
	*lo = (struct loader_opts){
		.attach = l->o->attach,
		.capture = l->o->capture,
		.ring_size = l->o->ring_size,
		.max_connections = l->o->max_connections,
		.trace_all = !l->selective,
		.ports = discover__ports(l->discover),
		.work_events = l->o->executor_spans,
	};
	features__probe(&l->features);
	return loader__check(lo, &l->features) ? (errno == EINVAL ? 2 : 3) : 0;
}

static int open_recorder(struct live *l, const struct siphash_key *key)
{
	struct recorder_opts ro = { .path = l->o->file, .key = (const uint8_t *)key, .keep_secrets = l->o->keep_secrets,
				    .keep_queries = !l->o->redact };
	char why[RECORDING_WHY_MAX];
	struct dynbuf saved;

	if (l->o->command != CMD_RECORD)
		return 0;
	dynbuf__init(&saved, RECORDING_OPTIONS_MAX);
	if (opts__save_spans(l->o, &saved)) {
		dynbuf__free(&saved);
		return 1;
	}
	ro.options = saved.data;
	ro.options_len = saved.len;
	l->recorder = recorder__new(&ro, why);
	dynbuf__free(&saved);
	if (!l->recorder) {
		int code = sinks__exit_code(errno);

		log_error("%s", why);
		return code;
	}
	return 0;
}

static int open_pipeline(struct live *l)
{
	struct pipeline_hooks hooks = {
		.control = on_control,
		.want = on_want,
		.telemetry_receiver = on_telemetry,
		.listening = on_listening,
		.proc = on_proc,
		.serves = on_serves,
		.talks = on_talks,
		.encrypted = on_encrypted,
		.over_unix = on_over_unix,
		.ctx = l,
	};
	struct source_opts so = { .next = pipeline__event };
	struct siphash_key key;
	int code;

	if (getrandom(&key, sizeof(key), 0) != sizeof(key)) {
		log_error("no random numbers: %s", strerror(errno));
		return 1;
	}
	code = open_recorder(l, &key);
	if (code)
		return code;
	l->pipeline = pipeline__new(l->o, &key, &hooks, l->queue);
	so.ctx = l->pipeline;
	so.recorder = l->recorder;
	l->source = l->pipeline ? source__new(&so) : NULL;
	if (!l->source) {
		log_error("cannot start: %s", strerror(errno));
		return 1;
	}
	return 0;
}

static int start(struct live *l)
{
	int err;

	if (l->o->control) {
		l->control = control__new(l->o->control, l->o->control_mode);
		if (!l->control && errno == EADDRINUSE)
			return 1;
	}
	push_clock(l, clock__mono_ns());
	if (l->selective)
		put_selection(l, 0, WS_SELECT_NO);
	err = discover__scan(l->discover);
	if (err)
		log_warn("/proc could not be read: %s: processes that run already may go without names", strerror(-err));
	mailbox__take(l->to_pipeline, on_record, l);
	l->alone = true;
	loader__existing_sockets(l->loader);
	read_mail(l); /* who was found is known before the first of its spans comes */
	l->alone = false;
	mem__trim(); /* loading has needed 5 MiB */
	err = pthread_create(&l->thread, NULL, pipeline_thread, l);
	if (err) {
		log_error("cannot start a thread: %s", strerror(err));
		return 1;
	}
	l->thread_started = true;
	return 0;
}

/* A signal that asks for the end, taken. SIGCHLD is none, nor is our own (output without a reader). */
static bool end_asked(int sigfd)
{
	struct signalfd_siginfo si;

	while (read(sigfd, &si, sizeof(si)) == sizeof(si))
		if (si.ssi_signo != SIGCHLD && si.ssi_pid != (uint32_t)getpid())
			return true;
	return false;
}

/* Sends what is left, for as long as was promised or until asked again. What stays is on the books (SHUTDOWN). */
static void flush(struct live *l, int sigfd)
{
	uint64_t until = clock__mono_ns() + l->o->shutdown_timeout_ms * 1000000, limit_ns = 0;
	char why[RECORDING_WHY_MAX];
	bool asked = false;

	batch_queue__close(l->queue);
	while (!asked && clock__mono_ns() < until && !exporter__wait(l->exporter, FLUSH_LOOK_NS))
		asked = end_asked(sigfd);
	if (asked)
		log_warn("asked to end once more: what is not sent yet is lost");
	exporter__stop(l->exporter, 0);
	l->exporter = NULL;
	batch_queue__free(l->queue); /* what is left there is counted before the books are shown */
	l->queue = NULL;
	if (!asked)
		limit_ns = l->o->shutdown_timeout_ms * 1000000;
	if (l->recorder && recorder__close(l->recorder, limit_ns, why))
		log_error("%s", why);
	l->recorder = NULL;
}

static void end_pipeline(struct live *l)
{
	__atomic_store_n(&l->stop, 1, __ATOMIC_RELEASE);
	/* The control side answers while the pipeline drains. */
	for (int i = 0; i < 600; i++) {
		struct timespec limit;

		clock_gettime(CLOCK_REALTIME, &limit);
		limit.tv_nsec += 10000000;
		if (limit.tv_nsec >= 1000000000) {
			limit.tv_sec++;
			limit.tv_nsec -= 1000000000;
		}
		mailbox__take(l->to_control, take_note, l);
		if (!pthread_timedjoin_np(l->thread, NULL, &limit)) {
			l->thread_started = false;
			break;
		}
	}
	if (l->thread_started)
		pthread_join(l->thread, NULL);
}

static void close_all(struct live *l)
{
	char why[RECORDING_WHY_MAX];

	if (l->exporter) { /* the start has failed behind it */
		batch_queue__close(l->queue);
		exporter__stop(l->exporter, 0);
	}
	if (l->recorder)
		recorder__close(l->recorder, 0, why);
	control__free(l->control);
	source__free(l->source);
	pipeline__free(l->pipeline);
	batch_queue__free(l->queue);
	discover__free(l->discover);
	proc_lookup__free(l->lookup);
	mailbox__free(l->to_control);
	mailbox__free(l->to_pipeline);
	follow__free(l->follow);
	loader__close(l->loader);
	command__free(l->child);
}

static int block_signals(void)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int live__run(const struct opts *o)
{
	struct live l = { .o = o, .started = clock__mono_ns() };
	struct loader_opts lo;
	struct stats st;
	int code = 0, sigfd;

	/* Forked before anything is mounted, mapped or blocked, so that the command gets a plain world. */
	if (o->command == CMD_RUN && !(l.child = command__new(o->argv_run)))
		return 1;
	sigfd = block_signals();
	sinks__configure_spans(o);
	code = open_parts(&l);
	code = code ? code : open_sink(&l);
	code = code ? code : check_kernel(&l, &lo);
	code = code ? code : discover__check_pids(o->pid); /* not sooner: in another pid namespace the numbers mean others */
	code = code ? code : open_pipeline(&l);
	code = code ? code : open_kernel(&l, &lo);
	if (!code) {
		say_begin(&l);
		code = start(&l);
	}
	if (!code) {
		say_ready(&l);
		if (l.child)
			command__go(l.child);
		code = control_loop(&l, sigfd);
	}
	if (l.thread_started) {
		end_pipeline(&l);
		flush(&l, sigfd);
		snapshot(&l, &st);
		report__end(stderr, &st, sinks__done(o), l.ready ? clock__mono_ns() - l.ready : 0, l.ready_cpu);
		code = code ? code : sinks__result(&st);
	}
	close_all(&l);
	close(sigfd);
	return code;
}
