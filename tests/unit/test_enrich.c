// SPDX-License-Identifier: Apache-2.0
/* The stage: resources, waiting, inheritance, late spans, names, what is left out. The books balance after each test.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "user/base/mem.h"
#include "user/enrich/enrich.h"
#include "user/enrich/procinfo.h"
#include "user/model/stats.h"

#define MS 1000000ull
#define WALL 1700000000000000000ll /* wall clock at monotonic 0 */

static struct {
	struct enrich *e;
	struct span *out[8192];
	size_t n;
	uint32_t wanted, last_wanted;
	char wanted_args[64];
} t;

static void on_next(void *ctx, struct span *s, uint64_t now)
{
	assert_true(t.n < 8192);
	t.out[t.n++] = s;
}

static void on_want(void *ctx, uint32_t tgid, struct str comm, struct str args, uint64_t start_ns)
{
	t.wanted++;
	t.last_wanted = tgid;
	snprintf(t.wanted_args, sizeof(t.wanted_args), "%.*s", (int)args.len, args.len ? args.p : "");
}

static void start(struct enrich_opts o)
{
	memset(&stats, 0, sizeof(stats));
	memset(&t, 0, sizeof(t));
	o.next = on_next;
	o.want = on_want;
	t.e = enrich__new(&o);
	assert_non_null(t.e);
	enrich__clock(t.e, WALL);
}

static void finish(void)
{
	enum stats_stage bad;

	enrich__free(t.e);
	assert_true(stats__check(&stats, &bad));
	assert_int_equal(stats.rows[ST_ENRICH].held, 0);
	assert_int_equal(stats.rows[ST_ENRICH].out, t.n);
	for (size_t i = 0; i < t.n; i++)
		span__free(t.out[i]);
}

/* A status of 0: there was no answer. */
static void push_answered(uint32_t tgid, const char *path, enum span_kind kind, int status, uint64_t at)
{
	struct span *s = span__new();

	assert_non_null(s);
	s->tgid = tgid;
	s->kind = kind;
	s->op = STR("GET");
	s->target = span__dup(s, str__of(path));
	s->route_key = kind == SPAN_SERVER ? "http.route" : "url.template";
	s->start_ns = (uint64_t)WALL + at;
	s->end_ns = s->start_ns + 1;
	if (status)
		span__add_int(s, "http.response.status_code", status);
	enrich__push(t.e, s, at);
}

static void push(uint32_t tgid, const char *path, enum span_kind kind, uint64_t at)
{
	push_answered(tgid, path, kind, 0, at);
}

static void tell_proc(enum ws_proc_what what, uint32_t tgid, uint32_t ppid, uint64_t at, const char *comm,
		      struct str args)
{
	struct ws_ev_proc *ev = calloc(1, sizeof(*ev) + args.len);

	ev->ev = (struct ws_ev){ .type = WS_EV_PROC, .len = (uint32_t)(sizeof(*ev) + args.len), .ts = at };
	ev->tgid = ev->tid = tgid;
	ev->ppid = ppid;
	ev->what = (uint16_t)what;
	ev->args_len = (uint16_t)args.len;
	ev->start_ns = tgid * 10000000ull;
	snprintf(ev->comm, sizeof(ev->comm), "%s", comm);
	if (args.len)
		memcpy(ev->args, args.p, args.len);
	enrich__proc_event(t.e, ev);
	free(ev);
}

static void tell_info(uint32_t tgid, const char *service, const char *owner, uint64_t at)
{
	struct attr attrs[] = { attr__str("service.name", str__of(service)), attr__int("process.pid", tgid),
				attr__str("process.owner", str__of(owner)), attr__str("host.name", STR("h")) };
	struct ws_ev_procinfo head = { .ev = { .type = WS_EV_PROCINFO, .ts = at }, .tgid = tgid };
	struct dynbuf b;

	dynbuf__init(&b, 1u << 20);
	assert_int_equal(dynbuf__append(&b, &head, sizeof(head)), 0);
	assert_int_equal(procinfo__encode(&b, attrs, 4), 0);
	head.ev.len = (uint32_t)b.len;
	head.size = (uint32_t)(b.len - sizeof(head));
	memcpy(b.data, &head, sizeof(head));
	enrich__procinfo(t.e, (const struct ws_ev_procinfo *)(const void *)b.data);
	dynbuf__free(&b);
}

static const char *service(size_t i)
{
	assert_true(i < t.n);
	return t.out[i]->res->service_name.p;
}

static struct str res_attr(size_t i, const char *key)
{
	for (size_t k = 0; k < t.out[i]->res->n_attrs; k++) {
		if (strcmp(t.out[i]->res->attrs[k].key, key) == 0)
			return t.out[i]->res->attrs[k].s;
	}
	return STR_NULL;
}

static void assert_name(size_t i, const char *name)
{
	assert_true(i < t.n);
	if (!str__eq(t.out[i]->name, str__of(name)))
		fail_msg("span %zu is named %.*s, not %s", i, (int)t.out[i]->name.len, t.out[i]->name.p, name);
}

static void test_waits(void **state)
{
	start((struct enrich_opts){ .routes = true, .wait_ns = 100 * MS });
	push(10, "/a", SPAN_SERVER, 1 * MS);
	push(10, "/b", SPAN_SERVER, 2 * MS);
	push(11, "/c", SPAN_SERVER, 3 * MS);
	assert_int_equal(t.n, 0);
	assert_int_equal(t.wanted, 2);
	assert_int_equal(stats.rows[ST_ENRICH].held, 3);
	tell_info(10, "shop", "web", 4 * MS);
	assert_int_equal(t.n, 2); /* in order */
	assert_string_equal(service(0), "shop");
	assert_name(0, "GET /a");
	assert_name(1, "GET /b");
	push(10, "/d?q=1", SPAN_SERVER, 5 * MS); /* known by now: at once */
	assert_int_equal(t.n, 3);
	assert_name(2, "GET /d");
	assert_ptr_equal(t.out[0]->res, t.out[2]->res);
	enrich__tick(t.e, 102 * MS);
	assert_int_equal(t.n, 3);
	enrich__tick(t.e, 103 * MS); /* the time is up */
	assert_int_equal(t.n, 4);
	assert_string_equal(service(3), "unknown_service");
	push(11, "/c", SPAN_SERVER, 104 * MS); /* does not wait again */
	assert_int_equal(t.n, 5);
	assert_int_equal(stats.undescribed, 2);
	tell_info(11, "late", "web", 105 * MS);
	push(11, "/c", SPAN_SERVER, 106 * MS);
	assert_string_equal(service(5), "late");
	finish();
}

static void test_exec_fallback(void **state)
{
	start((struct enrich_opts){ .routes = true, .wait_ns = 100 * MS });
	tell_proc(WS_PROC_EXEC, 20, 1, 1 * MS, "python3", STR("python3\0/srv/mail/app.py\0"));
	assert_int_equal(t.wanted, 1); /* at once: it may be gone soon */
	assert_string_equal(t.wanted_args, "python3");
	push(20, "/", SPAN_SERVER, 2 * MS);
	assert_int_equal(t.wanted, 1);
	tell_proc(WS_PROC_EXIT, 20, 1, 3 * MS, "", STR_NULL);
	enrich__tick(t.e, 200 * MS);
	assert_string_equal(service(0), "mail");
	tell_proc(WS_PROC_FORK, 30, 20, 201 * MS, "odd", STR_NULL);
	push(30, "/", SPAN_SERVER, 202 * MS);
	enrich__flush(t.e, 203 * MS);
	assert_string_equal(service(1), "unknown_service:odd");
	finish();
}

static void test_exec_storm(void **state)
{
	start((struct enrich_opts){ .routes = true });
	for (uint32_t i = 0; i < 20000; i++)
		tell_proc(WS_PROC_EXEC, 1000 + i, 1, 1000 * MS + i, "cc1", STR("cc1\0x\0"));
	assert_int_equal(t.wanted, 100); /* the burst; the rest is asked for when there is a span */
	push(20999, "/", SPAN_SERVER, 1100 * MS);
	assert_int_equal(t.last_wanted, 20999);
	enrich__flush(t.e, 1101 * MS);
	finish();
}

/* The child is the parent's service with its own process attributes; an exec ends that. */
static void test_inherits(void **state)
{
	start((struct enrich_opts){ .routes = true, .wait_ns = 100 * MS });
	tell_proc(WS_PROC_EXEC, 40, 1, 1 * MS, "gunicorn", STR("python3\0gunicorn\0"));
	tell_proc(WS_PROC_FORK, 41, 40, 2 * MS, "gunicorn", STR_NULL); /* before the parent is described */
	tell_info(40, "shop", "root", 3 * MS);
	tell_proc(WS_PROC_FORK, 42, 40, 4 * MS, "gunicorn", STR_NULL);
	tell_proc(WS_PROC_FORK, 43, 42, 5 * MS, "gunicorn", STR_NULL);
	push(41, "/", SPAN_SERVER, 6 * MS);
	push(42, "/", SPAN_SERVER, 6 * MS);
	push(43, "/", SPAN_SERVER, 6 * MS);
	assert_int_equal(t.n, 0);
	tell_info(41, "gunicorn-title", "web", 7 * MS); /* its own answer: only process.* counts */
	assert_int_equal(t.n, 1);
	assert_string_equal(service(0), "shop");
	assert_true(str__eq(res_attr(0, "process.owner"), STR("web")));
	enrich__tick(t.e, 200 * MS); /* no answer at all */
	assert_int_equal(t.n, 3);
	assert_string_equal(service(1), "shop");
	assert_string_equal(service(2), "shop");
	assert_true(str__eq(res_attr(1, "process.owner"), STR_NULL)); /* may be another's by now */
	assert_true(t.out[1]->res->hash != t.out[2]->res->hash);
	tell_proc(WS_PROC_EXEC, 42, 40, 201 * MS, "curl", STR("curl\0http://x\0"));
	push(42, "/", SPAN_CLIENT, 202 * MS);
	enrich__flush(t.e, 203 * MS);
	assert_string_equal(service(3), "curl");
	finish();
}

/* A span that comes late belongs to the process that had the pid when it started. */
static void test_pid_reuse(void **state)
{
	struct span *s;

	start((struct enrich_opts){ .routes = true, .wait_ns = 100 * MS });
	push(50, "/", SPAN_SERVER, 1 * MS);
	tell_info(50, "old", "", 2 * MS);
	tell_proc(WS_PROC_EXIT, 50, 1, 10 * MS, "", STR_NULL);
	tell_proc(WS_PROC_EXEC, 50, 1, 20 * MS, "new", STR("new\0"));
	tell_info(50, "new", "", 21 * MS);
	push(50, "/", SPAN_SERVER, 30 * MS);
	s = span__new();
	s->tgid = 50;
	s->op = STR("GET");
	s->start_ns = (uint64_t)WALL + 5 * MS;
	enrich__push(t.e, s, 31 * MS);
	assert_int_equal(t.n, 3);
	assert_string_equal(service(0), "old");
	assert_string_equal(service(1), "new");
	assert_string_equal(service(2), "old");
	tell_info(50, "older", "", 5 * MS); /* read before the exec: says nothing about the new program */
	push(50, "/", SPAN_SERVER, 32 * MS);
	assert_string_equal(service(3), "new");
	finish();
}

static void test_names(void **state)
{
	const struct attr *a;

	start((struct enrich_opts){ .routes = true, .route_patterns = "/u/{name}" });
	tell_info(70, "s", "", 1);
	push(70, "/u/ann", SPAN_SERVER, 1 * MS);
	push(70, "/v/42", SPAN_SERVER, 1 * MS);
	push(70, "http://h:80/v/42#x", SPAN_CLIENT, 1 * MS);
	push(70, "*", SPAN_SERVER, 1 * MS);
	push(70, "h:443", SPAN_CLIENT, 1 * MS);
	push(70, "", SPAN_CLIENT, 1 * MS);
	assert_name(0, "GET /u/{name}");
	assert_null(span__find(t.out[0], "wirespan.route.inferred"));
	assert_name(1, "GET /v/{id}");
	a = span__find(t.out[1], "http.route");
	assert_true(a && str__eq(a->s, STR("/v/{id}")));
	assert_true(span__find(t.out[1], "wirespan.route.inferred")->b);
	assert_name(2, "GET /v/{id}");
	assert_non_null(span__find(t.out[2], "url.template"));
	for (size_t i = 3; i < 6; i++)
		assert_name(i, "GET");
	finish();

	start((struct enrich_opts){ .routes = false });
	tell_info(70, "s", "", 1);
	push(70, "/v/42", SPAN_SERVER, 1 * MS);
	assert_name(0, "GET");
	assert_null(span__find(t.out[0], "http.route"));
	finish();
}

/* A scanner does not spoil the routes of a service, nor a client those of who it asks. */
static void scan_on(enum span_kind kind)
{
	static const int bad[] = { 400, 404, 405, 501 };
	char path[32];

	start((struct enrich_opts){ .routes = true });
	tell_info(70, "s", "", 1);
	push_answered(70, "/users/1/orders", kind, 200, 1 * MS);
	for (int i = 0; i < 90; i++) {
		snprintf(path, sizeof(path), "/scan%c%c", 'a' + i % 10, 'a' + i / 10);
		push_answered(70, path, kind, bad[i % 4], 1 * MS);
	}
	push_answered(70, "/users/2/orders", kind, 200, 1 * MS);
	push_answered(70, "/users/3/orders", kind, 404, 1 * MS);
	push_answered(70, "/slow", kind, 0, 1 * MS);
	push_answered(70, "/broken", kind, 500, 1 * MS);
	assert_name(1, "GET");
	assert_null(span__find(t.out[1], "http.route"));
	assert_null(span__find(t.out[1], "url.template"));
	assert_null(span__find(t.out[1], "wirespan.route.inferred"));
	assert_name(90, "GET");
	assert_name(91, "GET /users/{id}/orders");
	assert_name(92, "GET /users/{id}/orders");
	assert_name(93, "GET /slow");
	assert_name(94, "GET /broken");
	finish();
}

static void test_scanner(void **state)
{
	scan_on(SPAN_SERVER);
	scan_on(SPAN_CLIENT);
}

static void test_bad_patterns(void **state)
{
	struct enrich_opts o = { .routes = true, .route_patterns = "/{" };

	assert_null(enrich__new(&o));
	assert_int_equal(errno, EINVAL);
}

/* More processes than are kept, and the end with some still waiting. */
static void test_bounds(void **state)
{
	start((struct enrich_opts){ .routes = true });
	for (uint32_t i = 0; i < 6000; i++)
		push(100000 + i, "/", SPAN_SERVER, 1 * MS);
	assert_int_equal(t.n + (size_t)stats.rows[ST_ENRICH].held, 6000);
	for (uint32_t i = 0; i < 30000; i++)
		tell_proc(WS_PROC_EXEC, 200000 + i, 1, 2 * MS, "x", STR("x\0"));
	assert_int_equal(stats.rows[ST_ENRICH].held, 0); /* they were pushed out of the table, and passed on */
	assert_int_equal(t.n, 6000);
	assert_int_equal(stats.undescribed, 6000);
	for (int i = 0; i < 20; i++) /* one pid over and over */
		tell_proc(WS_PROC_EXEC, 7, 1, (3 + (uint64_t)i) * MS, "x", STR("x\0"));
	push(7, "/", SPAN_SERVER, 30 * MS);
	enrich__free(t.e);
	t.e = NULL;
	assert_int_equal(stats.rows[ST_ENRICH].dropped[DROP_SHUTDOWN], 1);
	finish();
}

/* A burst of one process costs nobody else a name, and what it costs itself is counted. */
static void test_burst(void **state)
{
	start((struct enrich_opts){ .routes = false });
	push(1, "/", SPAN_SERVER, 1 * MS); /* waits longest */
	while (t.n == 0 && stats.rows[ST_ENRICH].held < 8000)
		push(2, "/", SPAN_SERVER, 2 * MS);
	assert_in_range(t.n, 4097, 7999); /* the burst gives up for itself, and not at once */
	for (size_t i = 0; i < t.n; i++)
		assert_int_equal(t.out[i]->tgid, 2);
	push(2, "/", SPAN_SERVER, 2 * MS);
	assert_int_equal(stats.undescribed, t.n);
	assert_int_equal(stats.rows[ST_ENRICH].held, 1);
	tell_info(1, "quiet", "", 3 * MS);
	assert_string_equal(service(t.n - 1), "quiet");
	tell_info(2, "loud", "", 4 * MS);
	push(2, "/", SPAN_SERVER, 5 * MS);
	assert_string_equal(service(t.n - 1), "loud");
	assert_int_equal(stats.undescribed, t.n - 2);
	finish();
}

/* Many at once: whoever has most waiting makes room. */
static void test_bursts(void **state)
{
	start((struct enrich_opts){ .routes = false });
	push(1, "/", SPAN_SERVER, 1 * MS);
	for (uint32_t i = 0; t.n == 0; i++) {
		assert_true(i < 100000);
		push(2 + i % 7, "/", SPAN_SERVER, 2 * MS);
	}
	assert_in_range(t.n, 1000, 8000);
	for (size_t i = 0; i < t.n; i++)
		assert_int_equal(t.out[i]->tgid, t.out[0]->tgid);
	assert_int_not_equal(t.out[0]->tgid, 1);
	assert_int_equal(stats.undescribed, t.n);
	enrich__free(t.e); /* what still waits is as good as counted */
	t.e = NULL;
	finish();
}

/* Described at its connection, a process needs no wait at its first span, however many come at once. */
static void test_expected(void **state)
{
	start((struct enrich_opts){ .routes = false });
	enrich__expect(t.e, 5, 1 * MS);
	enrich__expect(t.e, 5, 1 * MS);
	enrich__expect(t.e, 0, 1 * MS);
	assert_int_equal(t.wanted, 1);
	assert_int_equal(t.last_wanted, 5);
	tell_info(5, "shop", "", 2 * MS);
	enrich__expect(t.e, 5, 3 * MS);
	assert_int_equal(t.wanted, 1);
	for (int i = 0; i < 8000; i++)
		push(5, "/", SPAN_SERVER, 4 * MS);
	assert_int_equal(t.n, 8000);
	assert_string_equal(service(0), "shop");
	assert_int_equal(stats.undescribed, 0);
	assert_int_equal(t.wanted, 1);
	for (uint32_t i = 0; i < 1000; i++) /* no storm of questions */
		enrich__expect(t.e, 1000 + i, 4 * MS);
	assert_in_range(t.wanted, 50, 101);
	finish();
}

static void test_hostile_records(void **state)
{
	struct {
		struct ws_ev_procinfo head;
		uint8_t data[64];
	} rec;
	uint32_t seed = 5;

	start((struct enrich_opts){ .routes = true });
	for (int i = 0; i < 20000; i++) {
		memset(&rec, 0, sizeof(rec));
		for (size_t k = 0; k < sizeof(rec.data); k++) {
			seed = seed * 1664525u + 1013904223u;
			rec.data[k] = (uint8_t)(seed >> (i % 2 ? 24 : 30));
		}
		rec.head.ev.len = seed % 120;
		rec.head.size = (seed >> 8) % 80;
		if (rec.head.ev.len > sizeof(rec))
			rec.head.ev.len = sizeof(rec);
		rec.head.tgid = seed % 5;
		enrich__procinfo(t.e, &rec.head);
	}
	tell_proc((enum ws_proc_what)77, 1, 1, 1, "", STR_NULL);
	push(3, "/", SPAN_SERVER, 1 * MS);
	enrich__flush(t.e, 2 * MS);
	assert_int_equal(t.n, 1);
	finish();
}

static void run_once(void)
{
	tell_proc(WS_PROC_EXEC, 80, 1, 1 * MS, "python3", STR("python3\0/srv/mail/app.py\0"));
	tell_proc(WS_PROC_FORK, 81, 80, 2 * MS, "python3", STR_NULL);
	push(80, "/a/1", SPAN_SERVER, 3 * MS);
	push(81, "/a/1", SPAN_CLIENT, 3 * MS);
	enrich__flush(t.e, 4 * MS);
	assert_int_equal(t.n, 2); /* never lost for want of memory: only the resource and the route may be missing */
	for (size_t i = 0; i < 2; i++)
		assert_true(t.out[i]->res->service_name.len > 0 && t.out[i]->name.len >= 3);
}

static void test_memory(void **state)
{
	for (long k = 0; k < 120; k++) {
		start((struct enrich_opts){ .routes = true, .route_patterns = "/x" });
		mem__fail_after(k);
		tell_proc(WS_PROC_EXEC, 80, 1, 1 * MS, "python3", STR("python3\0/srv/mail/app.py\0"));
		tell_proc(WS_PROC_FORK, 81, 80, 2 * MS, "python3", STR_NULL);
		mem__fail_after(-1);
		run_once();
		finish();

		start((struct enrich_opts){ .routes = true });
		push(80, "/a/1", SPAN_SERVER, 3 * MS);
		push(80, "/a/b", SPAN_CLIENT, 3 * MS);
		mem__fail_after(k);
		enrich__flush(t.e, 4 * MS);
		mem__fail_after(-1);
		assert_int_equal(t.n, 2);
		finish();
	}
	for (long k = 0;; k++) {
		struct enrich_opts o = {
			.routes = true, .route_patterns = "/x", .next = on_next
		};
		struct enrich *e;

		mem__fail_after(k);
		e = enrich__new(&o);
		mem__fail_after(-1);
		if (!e)
			assert_int_equal(errno, ENOMEM);
		enrich__free(e);
		if (e && k > 30)
			break;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_waits),	   cmocka_unit_test(test_exec_fallback),
		cmocka_unit_test(test_exec_storm), cmocka_unit_test(test_inherits),
		cmocka_unit_test(test_pid_reuse),  cmocka_unit_test(test_names),
		cmocka_unit_test(test_scanner),
		cmocka_unit_test(test_bad_patterns),
		cmocka_unit_test(test_bounds),	   cmocka_unit_test(test_hostile_records),
		cmocka_unit_test(test_burst),	   cmocka_unit_test(test_bursts),
		cmocka_unit_test(test_expected),
		cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
