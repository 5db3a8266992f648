// SPDX-License-Identifier: Apache-2.0
#include "user/pipeline.h"

#include <errno.h>
#include <sys/socket.h>

#include "user/base/mem.h"
#include "user/enrich/enrich.h"
#include "user/match/match.h"
#include "user/model/stats.h"
#include "user/sample/sample.h"
#include "user/selection.h"
#include "user/stream/stream.h"

struct pipeline {
	struct pipeline_hooks hooks;
	struct selection *selection;
	struct stream *stream;
	struct match *match;
	struct enrich *enrich;
	struct sample_next to_batch;
	struct batch_queue *q;
	uint64_t now;
	bool over_unix; /* it was told */
};

/* ---- edges between the stages ---------------------------------------------------------------------- */

static void batch_push(void *ctx, struct span *s, uint64_t now)
{
	batch_queue__push(((struct pipeline *)ctx)->q, s, now);
}

static void sample_push(void *ctx, struct span *s, uint64_t now)
{
	sample__push(&((struct pipeline *)ctx)->to_batch, s, now);
}

static void enrich_push(void *ctx, struct span *s, uint64_t now)
{
	enrich__push(((struct pipeline *)ctx)->enrich, s, now);
}

static struct stream *stream_of(void *ctx)
{
	return ((struct pipeline *)ctx)->stream;
}

/* What tests/accuracy runs. */
static bool is_proxy(void *ctx, uint32_t tgid)
{
	static const char *const names[] = { "haproxy", "nginx", "envoy", "traefik", "caddy", NULL };

	return enrich__runs(((struct pipeline *)ctx)->enrich, tgid, names);
}

static enum match_selection selection_of(void *ctx, uint32_t tgid)
{
	struct pipeline *p = ctx;

	return selection__of(p->selection, tgid, p->now);
}

static void telemetry_receiver(void *ctx, uint32_t tgid)
{
	struct pipeline *p = ctx;

	if (p->hooks.telemetry_receiver)
		p->hooks.telemetry_receiver(p->hooks.ctx, tgid);
}

static void on_msg(void *ctx, struct stream_conn *c, const struct msg *m, const struct transfer *t)
{
	struct pipeline *p = ctx;

	match__msg(p->match, c, m, t);
	if (c->info.family == AF_UNIX && !p->over_unix) {
		p->over_unix = true;
		if (p->hooks.over_unix)
			p->hooks.over_unix(p->hooks.ctx);
	}
}

static void on_conn_new(void *ctx, struct stream_conn *c, uint64_t ts)
{
	struct pipeline *p = ctx;

	match__conn_new(p->match, c, ts);
	if (selection__of(p->selection, c->info.tgid, p->now) != MATCH_UNSELECTED)
		enrich__expect(p->enrich, c->info.tgid, p->now);
	if (p->hooks.talks)
		p->hooks.talks(p->hooks.ctx, c->info.tgid);
	if (c->info.role == WS_ROLE_SERVER && p->hooks.serves)
		p->hooks.serves(p->hooks.ctx, c->info.tgid);
}

static void on_conn_opaque(void *ctx, struct stream_conn *c)
{
	struct pipeline *p = ctx;

	match__conn_opaque(p->match, c);
	if (c->encrypted && p->hooks.encrypted)
		p->hooks.encrypted(p->hooks.ctx, c->info.tgid, p->now);
}

static void on_conn_gone(void *ctx, struct stream_conn *c, uint64_t ts)
{
	match__conn_gone(((struct pipeline *)ctx)->match, c, ts);
}

static void on_ingress(void *ctx, struct stream_conn *c, const struct ws_ev_data *ev)
{
	match__ingress(((struct pipeline *)ctx)->match, c, ev);
}

static void on_connect_failed(void *ctx, struct stream_conn *c, int err, const struct ws_token *token, uint32_t tid,
			      uint64_t start_ts, uint64_t ts)
{
	match__connect_failed(((struct pipeline *)ctx)->match, c, err, token, tid, start_ts, ts);
}

static void on_proc(void *ctx, const struct ws_ev_proc *ev)
{
	struct pipeline *p = ctx;

	if (ev->what == WS_PROC_FORK || ev->what == WS_PROC_EXEC)
		selection__ask(p->selection, ev->tgid, ev->ppid, p->now);
	else if (ev->what == WS_PROC_EXIT)
		selection__exit(p->selection, ev->tgid);
	match__proc(p->match, ev);
	if (p->hooks.proc) /* before it is asked for its name: what is decided about it comes back first */
		p->hooks.proc(p->hooks.ctx, ev);
	enrich__proc_event(p->enrich, ev);
}

static void on_work(void *ctx, const struct ws_ev_work *ev)
{
	match__work(((struct pipeline *)ctx)->match, ev);
}

static void on_want(void *ctx, uint32_t tgid, struct str comm, struct str args, uint64_t start_ns)
{
	struct pipeline *p = ctx;

	p->hooks.want(p->hooks.ctx, tgid, comm, args, start_ns);
}

static void on_listening(void *ctx, uint64_t sock, uint32_t tgid, uint32_t netns, uint16_t port, bool on, uint64_t ts)
{
	struct pipeline *p = ctx;

	if (on)
		selection__ask(p->selection, tgid, 0, p->now);
	if (p->hooks.listening)
		p->hooks.listening(p->hooks.ctx, sock, tgid, netns, port, on, ts);
}

static void on_control(void *ctx, uint64_t sock, const struct ws_ctl *c)
{
	struct pipeline *p = ctx;

	if (p->hooks.control)
		p->hooks.control(p->hooks.ctx, sock, c);
}

/* ---- events ------------------------------------------------------------------------------------------ */

static void tick(struct pipeline *p)
{
	stream__tick(p->stream, p->now);
	match__tick(p->match, p->now);
	enrich__tick(p->enrich, p->now);
	batch_queue__tick(p->q, p->now);
}

void pipeline__event(void *ctx, const struct ws_ev *ev)
{
	struct pipeline *p = ctx;

	if (ev->ts > p->now)
		p->now = ev->ts;
	switch (ev->type) {
	case WS_EV_TICK:
		tick(p);
		break;
	case WS_EV_CLOCK:
		match__clock(p->match, ((const struct ws_ev_clock *)ev)->wall_offset);
		enrich__clock(p->enrich, ((const struct ws_ev_clock *)ev)->wall_offset);
		break;
	case WS_EV_PROCINFO:
		enrich__procinfo(p->enrich, (const struct ws_ev_procinfo *)ev);
		break;
	case WS_EV_LOST:
		break; /* counted by the source */
	case WS_EV_SELECT:
		selection__told(p->selection, (const struct ws_ev_select *)ev);
		break;
	default:
		stream__push(p->stream, ev);
	}
}

bool pipeline__waits(const struct pipeline *p)
{
	return stats.rows[ST_ENRICH].held > 0 || selection__open(p->selection) > 0;
}

void pipeline__finish(struct pipeline *p)
{
	selection__close(p->selection);
	stream__free(p->stream, p->now);
	p->stream = NULL;
	match__flush(p->match, p->now);
	enrich__flush(p->enrich, p->now);
	batch_queue__tick(p->q, p->now);
}

/* ---- life -------------------------------------------------------------------------------------------- */

static bool make_match(struct pipeline *p, const struct opts *o, const struct siphash_key *key)
{
	struct match_opts mo = {
		.key = *key,
		.max_requests = o->max_requests,
		.links_max = o->link_candidates ? o->link_count_limit : 0,
		.trace_telemetry = !o->default_excludes,
		.exclude_paths = o->exclude_path,
		.selection = selection_of,
		.is_proxy = is_proxy,
		.stream = stream_of,
		.telemetry_receiver = o->default_excludes ? telemetry_receiver : NULL,
		.next = enrich_push,
		.ctx = p,
	};

	if (match__evidence_mask(o->evidence_off, &mo.evidence_off))
		return false;
	if (!o->evidence_single)
		mo.evidence_off |= 1u << EVIDENCE_SINGLE;
	p->match = match__new(&mo);
	return p->match != NULL;
}

static bool make_enrich(struct pipeline *p, const struct opts *o)
{
	struct enrich_opts eo = {
		.routes = strcmp(o->routes, "off") != 0,
		.route_patterns = o->route_patterns,
		.want = p->hooks.want ? on_want : NULL,
		.ctx = p,
		.next = sample_push,
		.next_ctx = p,
	};

	p->enrich = enrich__new(&eo);
	return p->enrich != NULL;
}

static bool make_stream(struct pipeline *p, const struct opts *o)
{
	struct stream_opts so = { .max_connections = o->max_connections };
	struct stream_next next = {
		.msg = on_msg,
		.conn_new = on_conn_new,
		.conn_gone = on_conn_gone,
		.conn_opaque = on_conn_opaque,
		.ingress = on_ingress,
		.connect_failed = on_connect_failed,
		.proc = on_proc,
		.work = on_work,
		.listening = on_listening,
		.control = p->hooks.control ? on_control : NULL,
		.ctx = p,
	};

	p->stream = stream__new(&so, &next);
	return p->stream != NULL;
}

struct pipeline *pipeline__new(const struct opts *o, const struct siphash_key *key, const struct pipeline_hooks *hooks,
			       struct batch_queue *q)
{
	struct pipeline *p = mem__zalloc(sizeof(*p));

	if (!p)
		return NULL;
	p->hooks = *hooks;
	p->q = q;
	p->to_batch = (struct sample_next){ batch_push, p };
	p->selection = selection__new();
	if (!p->selection || !make_match(p, o, key) || !make_enrich(p, o) || !make_stream(p, o)) {
		pipeline__free(p);
		errno = ENOMEM;
		return NULL;
	}
	return p;
}

void pipeline__free(struct pipeline *p)
{
	if (!p)
		return;
	stream__free(p->stream, p->now);
	match__free(p->match);
	enrich__free(p->enrich);
	selection__free(p->selection);
	mem__free(p);
}
