/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stories: who read, who wrote, on which thread, in which order the events arrived, played through the whole pipeline
 * without a kernel. start(), what happens, end_story() (the books must balance), assertions about the spans, end_test().
 */
#ifndef WS_TESTS_STORY_H
#define WS_TESTS_STORY_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <cmocka.h>

#include "user/base/mem.h"
#include "user/model/stats.h"
#include "user/pipeline.h"

#define MS 1000000ull
#define PROC_A 100 /* front */
#define PROC_B 200 /* back */

static struct {
	struct pipeline *p;
	struct batch_queue *q;
	struct span *spans[512];
	size_t n;
	uint64_t now;
	struct opts o;
} t;

/* One end of a connection, as the kernel side would know it. */
struct end {
	uint32_t connector; /* AF_UNIX, server: who connected; 0: not told */
	uint64_t id, pos[2];
	uint32_t seq[2];
	uint32_t tgid;
	uint16_t lport, rport, family;
	uint8_t role, net; /* net: last byte of the address of the client's side */
	uint32_t loopback; /* 127.0.0.0/8, of this network namespace; 0: other addresses */
	uint64_t kaddr, peer;
	bool nonblock;
	bool found;	/* existed before: not seen from its first byte */
	bool no_seq;	/* its positions are no TCP sequence numbers */
	bool ambiguous; /* several threads move its bytes at once */
	uint32_t goroutine; /* that reads it; 0: a thread does */
	uint32_t greenlet;  /* likewise */
	bool tls;	    /* the plaintext of a TLS session */
	bool wired;	    /* … whose next transfer's record is known */
	uint32_t wire, wire_into;
};

static uint64_t next_id;

/* ---- events ------------------------------------------------------------------------------------ */

static inline void start_hooks(const struct opts *o, const struct pipeline_hooks *hooks)
{
	struct batch_opts b = { .max_batch = 512, .schedule_delay_ns = 1 };
	struct siphash_key key = { 1, 2 };
	struct ws_ev_clock clock = { .ev = { .type = WS_EV_CLOCK, .len = sizeof(clock) }, .wall_offset = 0 };

	memset(&stats, 0, sizeof(stats));
	memset(&t, 0, sizeof(t));
	t.o = *o;
	t.o.routes = "off";
	t.o.default_excludes = true;
	t.o.max_connections = o->max_connections ? o->max_connections : 1000;
	t.o.max_requests = 1000;
	t.now = 1000 * MS;
	t.q = batch_queue__new(&b);
	t.p = pipeline__new(&t.o, &key, hooks, t.q);
	assert_non_null(t.p);
	pipeline__event(t.p, &clock.ev);
}

static inline void start_opts(const struct opts *o)
{
	struct pipeline_hooks hooks = { 0 };

	start_hooks(o, &hooks);
}

static inline void start_with(const char *evidence_off, bool evidence_single)
{
	struct opts o = { .evidence_off = (char *)evidence_off, .evidence_single = evidence_single };

	start_opts(&o);
}

static inline void start(void)
{
	start_with(NULL, false);
}

static inline void tick(uint64_t ms)
{
	struct ws_ev ev = { .type = WS_EV_TICK, .len = sizeof(ev) };

	t.now += ms * MS;
	ev.ts = t.now;
	pipeline__event(t.p, &ev);
}

static inline struct end make_end(uint32_t tgid, uint8_t role, uint16_t lport, uint16_t rport)
{
	uint64_t id = (t.now << WS_SOCK_SINCE_SHIFT) + (next_id++ & ((1 << WS_SOCK_SINCE_SHIFT) - 1));
	struct end e = { .id = id, .tgid = tgid, .role = role, .lport = lport, .rport = rport,
			 .family = AF_INET, .net = 1 };

	e.pos[WS_RX] = e.pos[WS_TX] = 1ull << 32;
	return e;
}

static inline void announce(struct end *e)
{
	struct ws_ev_sock s = { .ev = { .type = WS_EV_SOCK, .len = sizeof(s), .ts = t.now++ } };

	s.sock = e->id;
	s.family = e->family;
	s.role = e->role;
	s.flags = (e->found ? 0 : WS_SOCK_BORN) | (e->family == AF_UNIX || e->no_seq || e->tls ? 0 : WS_SOCK_SEQ) |
		  (e->tls ? WS_SOCK_TLS : 0);
	s.tgid = e->tgid;
	s.lport = e->lport;
	s.rport = e->rport;
	s.laddr[10] = s.laddr[11] = s.raddr[10] = s.raddr[11] = 0xff;
	s.laddr[12] = s.raddr[12] = e->loopback ? 127 : 10;
	s.netns = e->loopback;
	s.laddr[15] = e->role == WS_ROLE_CLIENT ? e->net : 2;
	s.raddr[15] = e->role == WS_ROLE_CLIENT ? 2 : e->net;
	s.kaddr = e->kaddr;
	s.peer_kaddr = e->peer;
	s.peer_tgid = e->connector;
	pipeline__event(t.p, &s.ev);
}

static inline struct ws_token data(struct end *e, int dir, uint32_t tid, const char *text, const struct ws_token *token)
{
	size_t n = strlen(text);
	struct ws_ev_data *d = calloc(1, sizeof(*d) + n);
	struct ws_token made = { .sock = e->id, .pos = e->pos[dir], .len = n, .kind = WS_TOK_THREAD,
				 .flags = e->nonblock ? WS_TOKEN_NONBLOCK : 0, .by = tid };

	if (e->goroutine) {
		made.kind = WS_TOK_GOROUTINE;
		made.by = e->goroutine;
	}
	if (e->greenlet) {
		made.kind = WS_TOK_GREENLET;
		made.by = e->greenlet;
	}

	d->ev = (struct ws_ev){ .type = WS_EV_DATA, .len = sizeof(*d) + n, .ts = t.now++ };
	d->sock = e->id;
	d->pos = e->pos[dir];
	d->size = d->captured = n;
	d->seq = e->seq[dir]++;
	d->tgid = e->tgid;
	d->tid = tid;
	d->dir = dir;
	d->flags = (e->nonblock ? WS_DATA_NONBLOCK : 0) | (e->ambiguous ? WS_DATA_AMBIGUOUS : 0);
	if (e->wired) {
		d->wire_flags = WS_WIRE_KNOWN;
		d->wire = e->wire;
		d->wire_into = e->wire_into;
	}
	if (token)
		d->token = *token;
	else if (dir == WS_RX)
		d->token = made;
	memcpy(d->data, text, n);
	e->pos[dir] += n;
	pipeline__event(t.p, &d->ev);
	free(d);
	return made;
}

static inline void state(struct end *e, enum ws_sock_state what, int err)
{
	struct ws_ev_state s = { .ev = { .type = WS_EV_STATE, .len = sizeof(s), .ts = t.now++ } };

	s.sock = e->id;
	s.state = what;
	s.err = err;
	s.tx_pos = e->pos[WS_TX];
	pipeline__event(t.p, &s.ev);
}

static inline void proc(uint32_t tgid, uint32_t tid, enum ws_proc_what what)
{
	struct ws_ev_proc p = { .ev = { .type = WS_EV_PROC, .len = sizeof(p), .ts = t.now++ } };

	p.tgid = tgid;
	p.tid = tid;
	p.what = what;
	pipeline__event(t.p, &p.ev);
}

/* `tok`: what begins, queued 5 ms ago; NULL: it is over */
static inline void work_on(uint32_t tgid, uint32_t tid, const struct ws_token *tok, const char *function)
{
	struct ws_ev_work w = { .ev = { .type = WS_EV_WORK, .len = sizeof(w), .ts = t.now++ }, .tgid = tgid, .tid = tid };

	w.what = tok ? WS_WORK_BEGIN : WS_WORK_END;
	if (tok) {
		w.queued_ns = w.ev.ts - 5000000;
		w.token = *tok;
		snprintf(w.function, sizeof(w.function), "%s", function);
	}
	pipeline__event(t.p, &w.ev);
}

static inline void work(uint32_t tgid, uint32_t tid, const struct ws_token *tok)
{
	work_on(tgid, tid, tok, "");
}

#define OK200 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

static inline struct ws_token reads(struct end *e, uint32_t tid, const char *path)
{
	char head[256];

	snprintf(head, sizeof(head), "GET %s HTTP/1.1\r\nHost: b\r\n\r\n", path);
	return data(e, WS_RX, tid, head, NULL);
}

static inline void calls(struct end *e, uint32_t tid, const char *path, const struct ws_token *token)
{
	char head[256];

	snprintf(head, sizeof(head), "GET %s HTTP/1.1\r\nHost: b\r\n\r\n", path);
	data(e, WS_TX, tid, head, token);
}

/* With a trace context; dir tells whether it is received or sent. */
static inline struct ws_token carries(struct end *e, int dir, uint32_t tid, const char *path, const char *traceparent,
				      const struct ws_token *token)
{
	char head[512];

	snprintf(head, sizeof(head), "GET %s HTTP/1.1\r\nHost: b\r\ntraceparent: %s\r\n\r\n", path, traceparent);
	return data(e, dir, tid, head, token);
}

static inline void answers(struct end *e, uint32_t tid)
{
	data(e, WS_TX, tid, OK200, NULL);
}

static inline void gets_answer(struct end *e, uint32_t tid)
{
	data(e, WS_RX, tid, OK200, NULL);
}

/* ---- results ------------------------------------------------------------------------------------- */

static inline void collect(void)
{
	struct batch b;

	while (batch_queue__pop(t.q, &b, 0)) {
		for (struct span *s = b.spans, *next; s; s = next) {
			next = s->next;
			assert_true(t.n < 512);
			t.spans[t.n++] = s;
		}
	}
}

static inline void end_story(void)
{
	enum stats_stage bad = 0;

	tick(2000);
	pipeline__finish(t.p);
	batch_queue__close(t.q);
	collect();
	if (!stats__check(&stats, &bad))
		fail_msg("books of %s do not balance", stats__stage_name(bad));
	assert_int_equal(stats.rows[ST_MATCH].held, 0);
	assert_int_equal(stats.parents_proven + stats.parents_remote + stats.roots + stats.ambiguous,
			 stats.rows[ST_MATCH].out);
	pipeline__free(t.p);
}

static inline void end_test(void)
{
	for (size_t i = 0; i < t.n; i++)
		span__free(t.spans[i]);
	batch_queue__free(t.q);
}

static inline struct span *span_of(enum span_kind kind, const char *path)
{
	struct span *found = NULL;

	for (size_t i = 0; i < t.n; i++) {
		if (t.spans[i]->kind == kind && str__eq(t.spans[i]->target, str__of(path))) {
			assert_null(found);
			found = t.spans[i];
		}
	}
	if (!found)
		fail_msg("no span of kind %d for %s", kind, path);
	return found;
}

static const uint8_t zeros[8];

static inline void assert_parent(struct span *child, struct span *parent, const char *evidence)
{
	assert_memory_equal(child->trace_id, parent->trace_id, 16);
	assert_memory_equal(child->parent_id, parent->span_id, 8);
	assert_non_null(child->evidence);
	assert_string_equal(child->evidence, evidence);
}

static inline void assert_root(struct span *s, const char *why)
{
	assert_memory_equal(s->parent_id, zeros, 8);
	if (!why) {
		assert_null(s->orphan);
		return;
	}
	assert_non_null(s->orphan);
	assert_string_equal(s->orphan, why);
}

/* A server end of PROC_A and a client end of PROC_A, announced. */
static inline void front(struct end *server, struct end *client)
{
	*server = make_end(PROC_A, WS_ROLE_SERVER, 80, 40000);
	*client = make_end(PROC_A, WS_ROLE_CLIENT, 50000, 8080);
	announce(server);
	announce(client);
}

/* A second connection to that server. */
static inline struct end another_front(void)
{
	struct end server = make_end(PROC_A, WS_ROLE_SERVER, 80, 40001);

	announce(&server);
	return server;
}

#endif
