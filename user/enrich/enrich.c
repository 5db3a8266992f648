// SPDX-License-Identifier: Apache-2.0
/*
 * The stage between match and sample: spans get the resource of their process and a route.
 *
 * A process is described by the control thread, at its exec (so that a short-lived one is still there to be read) or,
 * if it was there before, at its first span. A forked child is described by its parent's record with its own process.*
 * attributes put over it: titles and environments that a worker has overwritten were still intact at the master's exec.
 */
#include "user/enrich/enrich.h"

#include <errno.h>
#include <stdio.h>

#include "user/base/log.h"
#include "user/enrich/proc_read.h"
#include "user/enrich/proc_table.h"
#include "user/enrich/procinfo.h"
#include "user/enrich/service.h"
#include "user/model/stats.h"

#define DEFAULT_WAIT_NS 1000000000ull
#define ASK_AGAIN_NS 10000000000ull
/*
 * Bytes of spans that wait: of all, and of one process. Whoever has most lets go first: a burst of one process is not
 * paid for by the names of others.
 */
#define WAITING_MAX ((size_t)32 << 20)
#define WAITING_EACH ((size_t)8 << 20)
#define ROUTE_TABLES_MAX 192u
#define PEER_TABLES_MAX 128u /* of them; the rest is kept for services */
#define ROUTE_MAX 256
#define OP_MAX 100 /* of an operation, in front of a route */

/* Descriptions asked for at exec or at a connection, before anybody knows whether the process will have a span. */
#define EAGER_PER_S 50u
#define EAGER_BURST 100u

struct routes {
	UT_hash_handle hh;
	struct route_table *table;
	size_t key_len;
	char key[];
};

/* Where the routes of a service were found last, by its resource: asked for once per span. */
#define SERVED_SLOTS 64u

struct served {
	uint64_t resource; /* hash */
	struct route_table *table;
};

struct enrich {
	struct enrich_opts o;
	char *patterns;
	struct proc_table procs;
	struct proc *wait_first, *wait_last;
	size_t waiting; /* bytes */
	struct routes *routes;
	uint32_t n_routes;
	struct served served[SERVED_SLOTS];
	struct resource *unknown; /* when there is not even memory */
	int64_t wall_offset;
	bool have_clock;
	uint64_t now; /* of the last call that told the time */
	uint64_t eager_ns;
	uint32_t eager_left;
};

/* ---- resources -------------------------------------------------------------------------------- */

static bool is_per_process(const char *key)
{
	static const char *const keys[] = { "process.pid", "process.parent_pid", "process.owner",
					    "process.creation.time" };

	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		if (strcmp(key, keys[i]) == 0)
			return true;
	}
	return false;
}

enum which { ALL, SHARED, PER_PROCESS };

static int add_desc(struct resource *r, const struct desc *d, enum which which)
{
	struct attr a;
	size_t at = 0;
	int err = 0;

	while (!err && procinfo__next(d->data, d->size, &at, &a)) {
		if (which == ALL || is_per_process(a.key) == (which == PER_PROCESS))
			err = resource__add(r, &a);
	}
	return err;
}

static int add_str(struct resource *r, const char *key, struct str v)
{
	struct attr a = attr__str(key, v);

	return v.len ? resource__add(r, &a) : 0;
}

static int add_int(struct resource *r, const char *key, int64_t v)
{
	struct attr a = attr__int(key, v);

	return resource__add(r, &a);
}

static int add_telemetry(struct resource *r, const char *language)
{
	int err = add_str(r, "telemetry.sdk.name", STR("wirespan"));

	if (!err)
		err = add_str(r, "telemetry.sdk.language", str__of(language ? language : "native"));
	if (!err)
		err = add_str(r, "telemetry.sdk.version", STR(WS_VERSION));
	if (!err)
		err = add_str(r, "telemetry.distro.name", STR("wirespan"));
	if (!err)
		err = add_str(r, "telemetry.distro.version", STR(WS_VERSION));
	return err;
}

/* Nobody has described the process: what the exec event told, if there was one. */
static int add_fallback(struct resource *r, const struct proc *p)
{
	struct service_input in = { .comm = str__of(p->comm), .args = { p->args, p->args_len } };
	char name[SERVICE_NAME_MAX + 32];
	struct service_guess guess;
	int err;

	/* comm alone is the name of a thread or a cut executable, no evidence of a service. */
	if (p->args_len)
		service__guess(&in, &guess);
	else
		guess = (struct service_guess){ 0 };
	if (guess.name[0])
		snprintf(name, sizeof(name), "%s", guess.name);
	else
		snprintf(name, sizeof(name), "unknown_service%s%s", p->comm[0] ? ":" : "", p->comm);
	err = add_str(r, "service.name", str__of(name));
	if (!err)
		err = add_int(r, "process.pid", p->tgid);
	if (!err)
		err = add_str(r, "process.executable.name", str__of(p->comm));
	return err ? err : add_telemetry(r, guess.language);
}

static int add_all(struct resource *r, const struct proc *p)
{
	int err;

	if (p->inherited) {
		err = add_desc(r, p->inherited, SHARED);
		if (!err && p->own)
			return add_desc(r, p->own, PER_PROCESS);
		if (!err)
			err = add_int(r, "process.pid", p->tgid);
		if (!err && p->parent)
			err = add_int(r, "process.parent_pid", p->parent);
		return err;
	}
	return p->own ? add_desc(r, p->own, ALL) : add_fallback(r, p);
}

static struct resource *resource_of(struct enrich *e, struct proc *p)
{
	struct resource *r;

	if (p->res)
		return p->res;
	r = resource__new();
	if (r && add_all(r, p) == 0 &&
	    (r->service_name.len || add_str(r, "service.name", STR("unknown_service")) == 0)) {
		resource__seal(r);
		p->res = r;
		return r;
	}
	resource__put(r);
	return e->unknown; /* out of memory: the next span tries again */
}

bool enrich__runs(struct enrich *e, uint32_t tgid, const char *const *names)
{
	const struct proc *p = proc_table__find(&e->procs, tgid, 0);
	const struct desc *d = p && p->own ? p->own : p ? p->inherited : NULL;
	struct attr a;
	size_t at = 0;

	while (d && procinfo__next(d->data, d->size, &at, &a))
		if (str__eq(attr__key(&a), STR("process.executable.name")))
			return a.type == ATTR_STR && str__in(a.s, names);
	return !d && p && str__in(str__of(p->comm), names);
}

static struct resource *unknown_resource(void)
{
	struct resource *r = resource__new();

	if (r && add_str(r, "service.name", STR("unknown_service")) == 0 && add_telemetry(r, NULL) == 0) {
		resource__seal(r);
		return r;
	}
	resource__put(r);
	return NULL;
}

/* ---- routes ----------------------------------------------------------------------------------- */

/* The path of a request target: origin form, or absolute form (RFC 9112 section 3.2); empty for the others. */
static struct str path_of(struct str target)
{
	const char *at;
	size_t n = 0;

	if (!target.len)
		return STR_NULL;
	if (target.p[0] != '/') {
		at = memmem(target.p, target.len, "://", 3);
		if (!at)
			return STR_NULL;
		at += 3;
		at = memchr(at, '/', target.len - (size_t)(at - target.p));
		if (!at)
			return STR_NULL;
		target = (struct str){ at, target.len - (size_t)(at - target.p) };
	}
	while (n < target.len && target.p[n] != '?' && target.p[n] != '#')
		n++;
	return (struct str){ target.p, n };
}

static struct routes *new_routes(struct enrich *e, const char *key, size_t len)
{
	struct route_opts o = { .patterns = e->patterns };
	struct routes *r = mem__alloc(sizeof(*r) + len);

	if (!r)
		return NULL;
	*r = (struct routes){ .key_len = len, .table = route_table__new(&o) };
	memcpy(r->key, key, len);
	if (!r->table)
		goto err;
	HASH_ADD(hh, e->routes, key, len, r);
	if (!r->hh.tbl)
		goto err;
	e->n_routes++;
	return r;
err:
	route_table__free(r->table);
	mem__free(r);
	return NULL;
}

/* Appends at most `max` bytes of s. */
static size_t put(char *buf, size_t at, struct str s, size_t max)
{
	size_t n = s.len < max ? s.len : max;

	if (n)
		memcpy(buf + at, s.p, n);
	return at + n;
}

static bool is_client(const struct span *s)
{
	return s->kind != SPAN_SERVER && s->kind != SPAN_CONSUMER;
}

/*
 * Paths mean something to whoever serves them: one table per service for what it serves, one per service and peer for
 * what it asks of others, while there is room; beyond, one per service for all its peers. NULL: no room at all.
 */
static struct route_table *routes_for(struct enrich *e, const struct span *s)
{
	bool client = is_client(s);
	char key[SERVICE_NAME_MAX * 2 + 2];
	struct routes *r;

	/* By hand, because snprintf() was an eighth of the pipeline's work. */
	for (int with_peer = client; with_peer >= 0; with_peer--) {
		size_t len = 0;

		key[len++] = client ? 'c' : 's';
		len = put(key, len, s->res->service_name, SERVICE_NAME_MAX - 1);
		key[len++] = '\n';
		if (with_peer)
			len = put(key, len, s->display_peer, SERVICE_NAME_MAX - 1);
		HASH_FIND(hh, e->routes, key, len, r);
		if (!r && e->n_routes < (with_peer ? PEER_TABLES_MAX : ROUTE_TABLES_MAX))
			r = new_routes(e, key, len);
		if (r)
			return r->table;
	}
	return NULL;
}

static struct route_table *routes_of_server(struct enrich *e, const struct span *s)
{
	struct served *known = &e->served[s->res->hash % SERVED_SLOTS];

	if (!known->table || known->resource != s->res->hash)
		*known = (struct served){ .resource = s->res->hash, .table = routes_for(e, s) };
	return known->table;
}

static void set_name(struct span *s, struct str template)
{
	char buf[ROUTE_MAX + OP_MAX + 1];
	struct str name = { buf, put(buf, 0, s->op, template.len ? OP_MAX : sizeof(buf)) }, copy;

	if (!name.len)
		return;
	if (template.len) {
		buf[name.len++] = ' ';
		name.len = put(buf, name.len, template, ROUTE_MAX);
	}
	if (str__eq(s->name, name))
		return;
	copy = span__dup(s, name);
	s->name = copy.p ? copy : s->op;
}

/*
 * Does the answer leave open that the server has such a path? One that says it has not, or has not understood the
 * request, is no evidence of a route; nor are the many of a scanner. No answer says nothing.
 */
static bool may_be_route(const struct span *s)
{
	const struct attr *a = span__find(s, "http.response.status_code");

	return !a || (a->i != 400 && a->i != 404 && a->i != 405 && a->i != 501);
}

static void add_route(struct enrich *e, struct span *s)
{
	struct attr inferred_attr = attr__bool("wirespan.route.inferred", true);
	struct route_table *t = NULL;
	struct str template = STR_NULL;
	bool inferred = false;
	char buf[ROUTE_MAX];

	if (e->o.routes && s->route_key)
		t = is_client(s) ? routes_for(e, s) : routes_of_server(e, s);
	if (t)
		template = (struct str){ buf, route_table__find(t, path_of(s->target), may_be_route(s), buf, sizeof(buf),
								&inferred) };
	/* Attributes that do not fit are counted in the span itself. */
	if (template.len) {
		span__add_str(s, s->route_key, template);
		if (inferred)
			span__add(s, &inferred_attr);
	}
	set_name(s, template);
}

/* ---- waiting ---------------------------------------------------------------------------------- */

static void pass_on(struct enrich *e, struct proc *p, struct span *s)
{
	resource__put(s->res);
	s->res = resource__get(p ? resource_of(e, p) : e->unknown);
	if (s->res == e->unknown || !(p->own || p->inherited))
		__atomic_store_n(&stats.undescribed, stats.undescribed + 1, __ATOMIC_RELAXED);
	add_route(e, s);
	stats__out(ST_ENRICH, 1);
	e->o.next(e->o.next_ctx, s, e->now);
}

static void stop_waiting(struct enrich *e, struct proc *p)
{
	if (p->wait_prev)
		p->wait_prev->wait_next = p->wait_next;
	else
		e->wait_first = p->wait_next;
	if (p->wait_next)
		p->wait_next->wait_prev = p->wait_prev;
	else
		e->wait_last = p->wait_prev;
	p->wait_prev = p->wait_next = NULL;
}

/* Lets all spans of a process go, with what is known of it by now. */
static void release(struct enrich *e, struct proc *p)
{
	struct span *s = p->first, *next;

	if (!s)
		return;
	stop_waiting(e, p);
	p->first = p->last = NULL;
	e->waiting -= p->waiting;
	p->waiting = 0;
	for (; s; s = next) {
		next = s->next;
		s->next = NULL;
		stats__hold(ST_ENRICH, -1);
		pass_on(e, p, s);
	}
}

static void give_up(struct enrich *e, struct proc *p)
{
	p->gave_up = true;
	release(e, p);
}

static struct proc *most_waiting(const struct enrich *e)
{
	struct proc *most = e->wait_first;

	for (struct proc *p = most; p; p = p->wait_next) {
		if (p->waiting > most->waiting)
			most = p;
	}
	return most;
}

static void hold(struct enrich *e, struct proc *p, struct span *s)
{
	s->next = NULL;
	if (p->last) {
		p->last->next = s;
	} else {
		p->first = s;
		p->deadline = e->now + e->o.wait_ns;
		p->wait_prev = e->wait_last;
		p->wait_next = NULL;
		if (e->wait_last)
			e->wait_last->wait_next = p;
		else
			e->wait_first = p;
		e->wait_last = p;
	}
	p->last = s;
	p->waiting += s->bytes;
	e->waiting += s->bytes;
	stats__hold(ST_ENRICH, 1);
	if (p->waiting > WAITING_EACH)
		give_up(e, p);
	if (e->waiting > WAITING_MAX)
		give_up(e, most_waiting(e));
}

static void ask(struct enrich *e, struct proc *p)
{
	p->asked_ns = e->now ? e->now : 1;
	if (e->o.want)
		e->o.want(e->o.ctx, p->tgid, str__of(p->comm), (struct str){ p->args, p->args_len }, p->start_ns);
}

static void on_evict(void *ctx, struct proc *p)
{
	release(ctx, p);
}

/* ---- the stage -------------------------------------------------------------------------------- */

struct enrich *enrich__new(const struct enrich_opts *o)
{
	struct route_opts ro = { .patterns = o->route_patterns };
	struct route_table *probe = route_table__new(&ro); /* are the patterns right? */
	struct enrich *e;

	if (!probe)
		return NULL;
	route_table__free(probe);
	e = mem__zalloc(sizeof(*e));
	if (!e)
		return NULL;
	e->o = *o;
	e->o.wait_ns = o->wait_ns ? o->wait_ns : DEFAULT_WAIT_NS;
	e->eager_left = EAGER_BURST;
	e->procs.evicting = on_evict;
	e->procs.ctx = e;
	e->patterns = o->route_patterns ? mem__strdup(o->route_patterns) : NULL;
	e->unknown = unknown_resource();
	if (!e->unknown || (o->route_patterns && !e->patterns)) {
		enrich__free(e);
		errno = ENOMEM;
		return NULL;
	}
	return e;
}

static void drop_waiting(struct enrich *e)
{
	struct proc *p;
	struct span *s;

	while ((p = e->wait_first) != NULL) {
		stop_waiting(e, p);
		while ((s = p->first) != NULL) {
			p->first = s->next;
			stats__hold(ST_ENRICH, -1);
			stats__drop(ST_ENRICH, DROP_SHUTDOWN, 1);
			span__free(s);
		}
		p->last = NULL;
		e->waiting -= p->waiting;
		p->waiting = 0;
	}
}

void enrich__free(struct enrich *e)
{
	struct routes *r, *tmp;

	if (!e)
		return;
	drop_waiting(e); /* after enrich__flush() there is nothing */
	proc_table__free(&e->procs);
	HASH_ITER(hh, e->routes, r, tmp)
	{
		HASH_DEL(e->routes, r);
		route_table__free(r->table);
		mem__free(r);
	}
	resource__put(e->unknown);
	mem__free(e->patterns);
	mem__free(e);
}

void enrich__clock(struct enrich *e, int64_t wall_offset)
{
	e->wall_offset = wall_offset;
	e->have_clock = true;
}

void enrich__push(struct enrich *e, struct span *s, uint64_t now_ns)
{
	uint64_t mono = 0;
	struct proc *p;

	stats__in(ST_ENRICH, 1);
	enrich__tick(e, now_ns);
	if (e->have_clock && (int64_t)s->start_ns > e->wall_offset)
		mono = s->start_ns - (uint64_t)e->wall_offset;
	p = proc_table__find(&e->procs, s->tgid, mono);
	if (!p && s->tgid)
		p = proc_table__add(&e->procs, s->tgid, 0);
	if (!p) {
		pass_on(e, NULL, s);
		return;
	}
	proc_table__use(&e->procs, p);
	if (!p->own && !p->newer && (!p->asked_ns || (p->gave_up && e->now - p->asked_ns > ASK_AGAIN_NS)))
		ask(e, p);
	/* A program that an exec has replaced can be asked about no more. */
	if (p->own || p->gave_up || (p->newer && (p->inherited || !p->asked_ns)))
		pass_on(e, p, s);
	else
		hold(e, p, s);
}

void enrich__tick(struct enrich *e, uint64_t now_ns)
{
	if (now_ns > e->now)
		e->now = now_ns;
	while (e->wait_first && e->wait_first->deadline <= e->now)
		give_up(e, e->wait_first);
}

void enrich__flush(struct enrich *e, uint64_t now_ns)
{
	enrich__tick(e, now_ns);
	while (e->wait_first)
		give_up(e, e->wait_first);
}

/* ---- what is told about processes ------------------------------------------------------------- */

static void on_fork(struct enrich *e, const struct ws_ev_proc *ev)
{
	struct proc *parent = proc_table__find(&e->procs, ev->ppid, ev->ev.ts);
	struct proc *before = proc_table__find(&e->procs, ev->tgid, 0), *p;
	uint64_t parent_gen = parent ? parent->gen : 0;
	struct desc *inherited;

	/* Nothing to inherit and nothing to supersede: the first span will ask. */
	if (!parent && !before)
		return;
	inherited = parent ? desc__get(parent->inherited ? parent->inherited : parent->own) : NULL;
	p = proc_table__add(&e->procs, ev->tgid, ev->ev.ts);
	if (!p) {
		desc__put(inherited);
		return;
	}
	p->start_ns = ev->start_ns;
	p->parent = ev->ppid;
	p->parent_gen = parent_gen;
	p->inherited = inherited;
	memcpy(p->comm, ev->comm, WS_COMM_LEN);
}

static bool may_ask_eagerly(struct enrich *e, uint64_t ts)
{
	uint64_t gained = ts > e->eager_ns ? (ts - e->eager_ns) / (1000000000ull / EAGER_PER_S) : 0;

	if (gained) {
		e->eager_left = gained + e->eager_left < EAGER_BURST ? e->eager_left + (uint32_t)gained : EAGER_BURST;
		e->eager_ns = ts;
	}
	if (!e->eager_left)
		return false;
	e->eager_left--;
	return true;
}

static void on_exec(struct enrich *e, const struct ws_ev_proc *ev, size_t args_len)
{
	struct proc *p = proc_table__add(&e->procs, ev->tgid, ev->ev.ts);

	if (!p)
		return;
	p->start_ns = ev->start_ns;
	p->parent = ev->ppid;
	memcpy(p->comm, ev->comm, WS_COMM_LEN);
	if (args_len)
		p->args = mem__alloc(args_len);
	if (p->args) {
		memcpy(p->args, ev->args, args_len);
		p->args_len = (uint16_t)args_len;
	}
	if (may_ask_eagerly(e, ev->ev.ts))
		ask(e, p);
}

void enrich__expect(struct enrich *e, uint32_t tgid, uint64_t now_ns)
{
	struct proc *p = proc_table__find(&e->procs, tgid, 0);

	if (p ? p->own || p->asked_ns : !tgid)
		return;
	if (!p)
		p = proc_table__add(&e->procs, tgid, 0);
	if (p && may_ask_eagerly(e, now_ns))
		ask(e, p);
}

void enrich__proc_event(struct enrich *e, const struct ws_ev_proc *ev)
{
	struct proc *p;

	if (ev->ev.len < sizeof(*ev) || ev->args_len > ev->ev.len - sizeof(*ev))
		return;
	switch (ev->what) {
	case WS_PROC_FORK:
		on_fork(e, ev);
		break;
	case WS_PROC_EXEC:
		on_exec(e, ev, ev->args_len < WS_ARGS_MAX ? ev->args_len : WS_ARGS_MAX);
		break;
	case WS_PROC_EXIT:
		/* Kept for the spans that are still to come. */
		p = proc_table__find(&e->procs, ev->tgid, ev->ev.ts);
		if (p)
			proc_table__kill(&e->procs, p);
		break;
	default:
		break; /* threads have no resource */
	}
}

/* Children that were forked before their parent was described have not inherited it yet. */
static void bequeath(struct enrich *e, struct proc *parent)
{
	struct proc_list *lists[2] = { &e->procs.live, &e->procs.dead };

	for (int i = 0; i < 2; i++) {
		for (struct proc *p = lists[i]->first; p; p = p->next) {
			if (p->parent_gen != parent->gen || p->inherited)
				continue;
			p->inherited = desc__get(parent->own);
			resource__put(p->res);
			p->res = NULL;
		}
	}
}

void enrich__procinfo(struct enrich *e, const struct ws_ev_procinfo *ev)
{
	struct desc *d;
	struct proc *p;

	if (ev->ev.len < sizeof(*ev) || ev->size > ev->ev.len - sizeof(*ev) || procinfo__check(ev->data, ev->size)) {
		log_debug("malformed process description, %u bytes", ev->ev.len);
		return;
	}
	p = proc_table__find(&e->procs, ev->tgid, ev->ev.ts);
	if (!p && ev->tgid)
		p = proc_table__add(&e->procs, ev->tgid, 0);
	if (p && p->start_ns && ev->start_ns && p->start_ns / PROC_TICK_NS != ev->start_ns / PROC_TICK_NS)
		return; /* of another process that had the number */
	d = p ? desc__new(ev->data, ev->size) : NULL;
	if (!d)
		return; /* its spans go out without, after the wait */
	desc__put(p->own);
	p->own = d;
	resource__put(p->res);
	p->res = NULL;
	p->gave_up = false;
	if (!p->start_ns)
		p->start_ns = ev->start_ns;
	mem__free(p->args);
	p->args = NULL;
	p->args_len = 0;
	bequeath(e, p);
	release(e, p);
}
