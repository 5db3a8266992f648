// SPDX-License-Identifier: Apache-2.0
/*
 * The console exporter, printing into a memory file in place of standard output. What is printed is compared with
 * tests/unit/golden/console_*.txt; UPDATE_GOLDEN=1 writes those files instead (then read the difference).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "exporter/console_text.h"
#include "exporter/exporter.h"
#include "user/base/clock.h"
#include "user/base/mem.h"
#include "user/model/stats.h"

#define MS 1000000ull
#define SEC (1000 * MS)
#define T0 (1767225821118ull * MS) /* 2026-01-01 00:03:41.118 UTC */
#define BIG_TEXT (1u << 20)

extern const struct exporter_ops exporter_console;

struct rig {
	void *st;
	int out, saved;
	struct span *spans, **tail;
	uint32_t n;
	uint64_t trace;
	char *text;
};

struct say {
	uint64_t id, parent;
	enum span_kind kind;
	const char *service, *op, *peer, *target, *status;
	uint64_t from_ms, ms;
	const char *evidence, *orphan;
	bool failed;
};

static void put_u64(uint8_t out[8], uint64_t v)
{
	for (int i = 0; i < 8; i++)
		out[i] = (uint8_t)(v >> (56 - 8 * i));
}

static struct resource *make_resource(const char *service)
{
	struct resource *r = resource__new();

	assert_non_null(r);
	r->service_name = arena__dup(&r->mem, str__of(service));
	resource__seal(r);
	return r;
}

static void say(struct rig *r, const struct say *w)
{
	struct span *s = span__new();

	assert_non_null(s);
	put_u64(s->trace_id, 0x4bf92f3577b34da6);
	put_u64(s->trace_id + 8, r->trace);
	put_u64(s->span_id, w->id);
	put_u64(s->parent_id, w->parent);
	s->kind = w->kind;
	s->status = w->failed ? SPAN_ERROR : SPAN_UNSET;
	s->start_ns = T0 + w->from_ms * MS;
	s->end_ns = s->start_ns + w->ms * MS;
	s->name = span__dup(s, str__of(w->op));
	s->op = span__dup(s, str__of(w->op));
	s->target = span__dup(s, str__of(w->target));
	s->display_peer = span__dup(s, str__of(w->peer));
	s->display_status = span__dup(s, str__of(w->status));
	s->evidence = w->evidence;
	s->orphan = w->orphan;
	s->res = make_resource(w->service);
	*r->tail = s;
	r->tail = &s->next;
	r->n++;
}

static void open_with(struct rig *r, const struct exporter_opts *o)
{
	stats = (struct stats){ 0 };
	*r = (struct rig){ .trace = 0xa3ce929d0e0e4736, .out = memfd_create("console", MFD_CLOEXEC) };
	r->tail = &r->spans;
	assert_true(r->out >= 0);
	assert_int_equal(exporter_console.open(o, &r->st), 0);
}

static void drop_spans(struct rig *r)
{
	span__free_list(r->spans);
	r->spans = NULL;
	r->tail = &r->spans;
	r->n = 0;
}

static void redirect(struct rig *r)
{
	fflush(stdout);
	r->saved = dup(STDOUT_FILENO);
	assert_true(r->saved >= 0);
	assert_true(dup2(r->out, STDOUT_FILENO) >= 0);
}

static void restore(struct rig *r)
{
	assert_true(dup2(r->saved, STDOUT_FILENO) >= 0);
	close(r->saved);
}

/* Sends what was said as one batch, with the books that the exporter thread keeps. */
static enum export_result send_all(struct rig *r)
{
	struct batch b = { .spans = r->spans, .n = r->n };
	uint32_t rejected = 77;
	uint64_t wait = 77;
	enum export_result res;

	redirect(r);
	res = exporter_console.send(r->st, &b, &rejected, &wait);
	restore(r);
	assert_int_equal(rejected, 0);
	assert_int_equal(wait, 0);
	stats__in(ST_EXPORT, r->n);
	if (res == EXPORT_OK)
		assert_null(exporter_console.why(r->st));
	if (res == EXPORT_OK)
		stats__out(ST_EXPORT, r->n);
	else
		stats__drop(ST_EXPORT, DROP_NO_MEMORY, r->n);
	drop_spans(r);
	return res;
}

static void tick_after(struct rig *r, uint64_t ns)
{
	redirect(r);
	exporter_console.tick(r->st, clock__mono_ns() + ns);
	restore(r);
}

/* What was printed so far. */
static const char *printed(struct rig *r)
{
	ssize_t n;

	if (!r->text)
		r->text = malloc(BIG_TEXT);
	assert_non_null(r->text);
	n = pread(r->out, r->text, BIG_TEXT - 1, 0);
	assert_true(n >= 0);
	r->text[n] = 0;
	return r->text;
}

static void forget_printed(struct rig *r)
{
	assert_int_equal(ftruncate(r->out, 0), 0);
	assert_int_equal(lseek(r->out, 0, SEEK_SET), 0);
}

static void finish(struct rig *r)
{
	enum stats_stage bad;

	redirect(r);
	exporter_console.close(r->st);
	restore(r);
	assert_true(stats__check(&stats, &bad));
	drop_spans(r);
	free(r->text);
	close(r->out);
}

static void compare_golden(const char *name, const char *got)
{
	static char want[65536];
	char path[256];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "tests/unit/golden/console_%s.txt", name);
	f = fopen(path, getenv("UPDATE_GOLDEN") ? "w" : "r");
	assert_non_null(f);
	if (getenv("UPDATE_GOLDEN")) {
		fputs(got, f);
		fclose(f);
		return;
	}
	n = fread(want, 1, sizeof(want) - 1, f);
	fclose(f);
	want[n] = 0;
	assert_string_equal(got, want);
}

static const struct exporter_opts utf8_120 = { .kind = "console", .width = 120, .utf8 = true };
static const struct exporter_opts pipe_utf8 = { .kind = "console", .utf8 = true };
static const struct exporter_opts pipe_ascii = { .kind = "console" };

/* A chain of three services and a branch; children arrive before parents, as they end first. */
static void say_chain(struct rig *r)
{
	static const struct say rows[] = {
		{ 7, 6, SPAN_SERVER, "service-async", "GET", "", "/internal-task", "200", 200, 20, "join", NULL, false },
		{ 6, 4, SPAN_CLIENT, "service-async", "GET", "127.0.0.1:8082", "/internal-task", "200", 199, 21,
		  "thread", NULL, false },
		{ 5, 4, SPAN_CLIENT, "service-async", "GET", "leaf:9100", "/block", "timeout", 90, 101, "thread", NULL,
		  true },
		{ 4, 3, SPAN_SERVER, "service-async", "GET", "", "/compute", "500", 52, 172, "join", NULL, true },
		{ 3, 2, SPAN_CLIENT, "service-sync", "GET", "service-async:8082", "/compute", "500", 51, 174, "thread",
		  NULL, true },
		{ 2, 1, SPAN_SERVER, "service-sync", "GET", "", "/process", "200", 2, 226, "header", NULL, false },
		{ 1, 9, SPAN_CLIENT, "frontend", "GET", "service-sync:8081", "/process", "200", 1, 228, "thread", NULL,
		  false },
		{ 9, 0, SPAN_SERVER, "frontend", "GET", "", "/call-sync-chain", "200", 0, 231, NULL, NULL, false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		say(r, &rows[i]);
}

static void print_chain(const struct exporter_opts *o, const char *golden)
{
	struct rig r;

	open_with(&r, o);
	say_chain(&r);
	assert_int_equal(send_all(&r), EXPORT_OK);
	tick_after(&r, 0);
	assert_string_equal(printed(&r), "");
	tick_after(&r, 300 * MS);
	compare_golden(golden, printed(&r));
	finish(&r);
}

static void test_chain(void **state)
{
	struct exporter_opts color = utf8_120;

	color.color = true;
	print_chain(&utf8_120, "chain_120");
	print_chain(&color, "chain_color");
	print_chain(&pipe_utf8, "chain_pipe");
	print_chain(&pipe_ascii, "chain_ascii");
}

static void test_narrow(void **state)
{
	static const unsigned int widths[] = { 100, 80, 60, 40, 20, 8, 1 };
	struct exporter_opts o = utf8_120;
	static char all[65536];
	struct rig r;

	all[0] = 0;
	for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++) {
		const char *line, *end;
		char head[32];

		o.width = widths[i];
		open_with(&r, &o);
		say_chain(&r);
		assert_int_equal(send_all(&r), EXPORT_OK);
		tick_after(&r, 300 * MS);
		for (line = printed(&r); *line; line = end + 1) {
			char one[1024];

			end = strchr(line, '\n');
			assert_non_null(end);
			assert_true((size_t)(end - line) < sizeof(one));
			memcpy(one, line, (size_t)(end - line));
			one[end - line] = 0;
			assert_true(text__columns(one) <= widths[i]);
		}
		snprintf(head, sizeof(head), "[%u]\n", widths[i]);
		strncat(all, head, sizeof(all) - strlen(all) - 1);
		strncat(all, printed(&r), sizeof(all) - strlen(all) - 1);
		finish(&r);
	}
	compare_golden("narrow", all);
}

/* Without its root, or with a parent missing, a trace waits for a quiet second. */
static void test_incomplete(void **state)
{
	const struct say orphan = { 1, 0, SPAN_CLIENT, "worker", "GET", "leaf:9100", "/x", "200", 0, 3, NULL,
				    "two requests were live on this thread", false };
	const struct say child = { 3, 2, SPAN_SERVER, "leaf", "POST", "", "/x?token=abc", "", 1, 1, "header", NULL,
				   false };
	struct rig r;

	open_with(&r, &utf8_120);
	say(&r, &orphan);
	say(&r, &child);
	assert_int_equal(send_all(&r), EXPORT_OK);
	tick_after(&r, 900 * MS);
	assert_string_equal(printed(&r), "");
	tick_after(&r, 1100 * MS);
	compare_golden("incomplete", printed(&r));
	finish(&r);
}

static void test_late(void **state)
{
	const struct say late = { 11, 9, SPAN_CLIENT, "frontend", "GET", "slow:1", "/late", "200", 400, 1200, "thread",
				  NULL, false };
	struct rig r;

	open_with(&r, &utf8_120);
	say_chain(&r);
	assert_int_equal(send_all(&r), EXPORT_OK);
	tick_after(&r, 300 * MS);
	forget_printed(&r);
	say(&r, &late);
	assert_int_equal(send_all(&r), EXPORT_OK);
	tick_after(&r, 300 * MS);
	compare_golden("late", printed(&r));
	finish(&r);
}

/* A span that keeps coming does not keep its trace from being seen. */
static void test_endless(void **state)
{
	struct say one = { 1, 99, SPAN_SERVER, "a", "GET", "", "/", "200", 0, 1, NULL, NULL, false };
	struct rig r;

	open_with(&r, &pipe_utf8);
	say(&r, &one);
	assert_int_equal(send_all(&r), EXPORT_OK);
	tick_after(&r, 999 * MS);
	assert_string_equal(printed(&r), "");
	tick_after(&r, 11 * SEC);
	assert_non_null(strstr(printed(&r), "GET /"));
	finish(&r);
}

/* Strings of strangers, ids of strangers. */
static void test_hostile(void **state)
{
	const struct say rows[] = {
		{ 1, 2, SPAN_SERVER, "loop\033[2J", "GET", "", "/\033]0;own\007\r\n/\xc3\x28\xe2\x80\xaegnp.exe", "200",
		  0, 9, NULL, NULL, false },
		{ 2, 1, SPAN_SERVER, "loop", "GET", "", "/\u65e5\u672c\u8a9e/\u00fc", "200", 1, 8, NULL, NULL, false },
		{ 3, 3, SPAN_CLIENT, "self", "GET", "h:1", "http://u:p@h:1/x?key=1", "\033[31m", 2, 1, NULL, NULL,
		  true },
		{ 3, 0, SPAN_CLIENT, "twin", "CONNECT", "h:443", "h:443", "", 3, 0, NULL, NULL, true },
		{ 4, 0, SPAN_INTERNAL, "", "", "", "", "", 3, 0, NULL, NULL, false },
	};
	static const struct exporter_opts *const opts[] = { &utf8_120, &pipe_ascii };
	static const char *const golden[] = { "hostile_utf8", "hostile_ascii" };
	struct rig r;

	for (int k = 0; k < 2; k++) {
		open_with(&r, opts[k]);
		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
			say(&r, &rows[i]);
		assert_int_equal(send_all(&r), EXPORT_OK);
		tick_after(&r, 2 * SEC);
		for (const char *p = printed(&r); *p; p++)
			assert_true((unsigned char)*p >= 0x20 || *p == '\n');
		compare_golden(golden[k], printed(&r));
		finish(&r);
	}
}

/* Ten thousand spans, the root last: a prefix of the tree, and the rest as a count that is exact. */
static void test_large(void **state)
{
	struct say one = { 0, 1, SPAN_CLIENT, "batch", "GET", "leaf:1", "/item", "200", 0, 5, "thread", NULL, false };
	const struct say root = { 1, 0, SPAN_SERVER, "batch", "GET", "", "/all", "200", 0, 60000, NULL, NULL, false };
	unsigned int lines = 0;
	const char *p;
	struct rig r;

	open_with(&r, &utf8_120);
	for (uint64_t i = 0; i < 9999; i++) {
		one.id = i + 2;
		one.from_ms = i * 6;
		one.failed = i >= 9990;
		say(&r, &one);
	}
	say(&r, &root);
	assert_int_equal(send_all(&r), EXPORT_OK);
	tick_after(&r, 2 * SEC);
	for (p = printed(&r); *p; p++)
		lines += *p == '\n';
	assert_int_equal(lines, 1 + 200 + 1 + 1);
	assert_non_null(strstr(printed(&r), "… 9,800 more spans not shown, 9 of them failed\n"));
	assert_non_null(strstr(printed(&r), "\n  batch GET /all "));
	finish(&r);
}

/* A chain deeper than is drawn. */
static void test_deep(void **state)
{
	struct say one = { 0, 0, SPAN_SERVER, "deep", "GET", "", "/", "200", 0, 0, NULL, NULL, false };
	struct rig r;

	open_with(&r, &pipe_utf8);
	for (uint64_t i = 1; i <= 100; i++) {
		one.id = i;
		one.parent = i - 1;
		one.from_ms = i;
		one.ms = 300 - i;
		say(&r, &one);
	}
	assert_int_equal(send_all(&r), EXPORT_OK);
	tick_after(&r, 300 * MS);
	assert_non_null(strstr(printed(&r), "└ +67 deep GET /"));
	assert_null(strstr(printed(&r), "+68"));
	finish(&r);
}

/* More traces than are kept: each is printed once, the oldest first, and memory stays bounded. */
static void test_many(void **state)
{
	struct say one = { 1, 77, SPAN_SERVER, "a", "GET", "", "", "200", 0, 1, NULL, NULL, false };
	unsigned int seen = 0;
	const char *p;
	char path[32];
	struct rig r;

	open_with(&r, &pipe_ascii);
	one.target = path;
	for (unsigned int i = 0; i < 3000; i++) {
		r.trace = i;
		snprintf(path, sizeof(path), "/t%u", i);
		say(&r, &one);
		if (r.n == 100)
			assert_int_equal(send_all(&r), EXPORT_OK);
	}
	for (p = printed(&r); (p = strstr(p, "  a GET /t")); p++) {
		assert_int_equal(strtoul(p + strlen("  a GET /t"), NULL, 10), seen);
		seen++;
	}
	assert_int_equal(seen, 3000 - 1024);
	tick_after(&r, 2 * SEC);
	seen = 0;
	for (p = printed(&r); (p = strstr(p, "  a GET /t")); p++)
		seen++;
	assert_int_equal(seen, 3000);
	finish(&r);
}

/* 30,000 spans with long paths in few traces: by bytes. All of them are shown or counted. */
static void test_bytes(void **state)
{
	struct say one = { 0, 1, SPAN_SERVER, "a", "GET", "", "", "200", 0, 1, NULL, NULL, false };
	char path[600];
	struct rig r;

	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[sizeof(path) - 1] = 0;
	open_with(&r, &pipe_ascii);
	one.target = path;
	for (uint64_t i = 0; i < 30000; i++) {
		r.trace = i % 40;
		one.id = i + 2;
		say(&r, &one);
		if (r.n == 500) {
			assert_int_equal(send_all(&r), EXPORT_OK);
			forget_printed(&r);
		}
	}
	finish(&r);
	assert_int_equal(stats.rows[ST_EXPORT].out, 30000);
}

static void test_failed_allocations(void **state)
{
	struct rig r;
	void *st = NULL;
	long i;

	mem__fail_after(0);
	assert_int_equal(exporter_console.open(&utf8_120, &st), -ENOMEM);
	mem__fail_after(-1);
	assert_null(st);

	open_with(&r, &utf8_120);
	for (i = 0;; i++) {
		enum export_result res;

		say_chain(&r);
		mem__fail_after(i);
		res = send_all(&r);
		mem__fail_after(-1);
		if (res == EXPORT_OK)
			break;
		assert_int_equal(res, EXPORT_NO_MEMORY);
		assert_string_equal(exporter_console.why(r.st), "Cannot allocate memory");
	}
	assert_int_equal(i, 8); /* one per span */
	/* Printing needs none. */
	mem__fail_after(0);
	tick_after(&r, 300 * MS);
	assert_int_equal(mem__count(), 0);
	mem__fail_after(-1);
	compare_golden("chain_120", printed(&r));
	finish(&r);
	assert_int_equal(stats.rows[ST_EXPORT].dropped[DROP_NO_MEMORY], 64);
}

static void count_gone(void *ctx)
{
	(*(int *)ctx)++;
}

/* wirespan | head: ends once, and what was not written is on the books. */
static void test_broken_pipe(void **state)
{
	struct exporter_opts o = pipe_utf8;
	int p[2], gone = 0, mem;
	struct rig r;

	assert_int_equal(pipe(p), 0);
	close(p[0]);
	o.gone = count_gone;
	o.gone_ctx = &gone;
	open_with(&r, &o);
	mem = r.out;
	r.out = p[1];
	say_chain(&r);
	assert_int_equal(send_all(&r), EXPORT_OK);
	assert_int_equal(gone, 0);
	r.trace++;
	say_chain(&r);
	assert_int_equal(send_all(&r), EXPORT_OK);
	tick_after(&r, 300 * MS);
	assert_int_equal(gone, 1);
	assert_int_equal(stats.rows[ST_EXPORT].dropped[DROP_WRITE_FAILED], 16);
	assert_int_equal(stats.rows[ST_EXPORT].out, 0);
	say_chain(&r);
	assert_int_equal(send_all(&r), EXPORT_FAILED);
	assert_string_equal(exporter_console.why(r.st), ""); /* said once, when it broke */
	close(mem);
	finish(&r);
	assert_int_equal(gone, 1);
}

static void *interrupt_soon(void *st)
{
	const struct timespec t = { .tv_nsec = 50000000 };

	nanosleep(&t, NULL);
	exporter_console.interrupt(st);
	return NULL;
}

/* A reader that has stopped reading: interrupt() ends the wait, close() does not wait again. */
static void test_stuck_reader(void **state)
{
	int p[2], mem, chunk = 4096;
	static char junk[4096];
	pthread_t thread;
	struct rig r;

	assert_int_equal(pipe(p), 0);
	assert_int_equal(fcntl(p[1], F_SETFL, O_NONBLOCK), 0);
	while (write(p[1], junk, (size_t)chunk) > 0)
		;
	assert_int_equal(fcntl(p[1], F_SETFL, 0), 0);
	open_with(&r, &pipe_utf8);
	mem = r.out;
	r.out = p[1];
	say_chain(&r);
	assert_int_equal(send_all(&r), EXPORT_OK);
	assert_int_equal(pthread_create(&thread, NULL, interrupt_soon, r.st), 0);
	tick_after(&r, 300 * MS);
	pthread_join(thread, NULL);
	assert_int_equal(stats.rows[ST_EXPORT].dropped[DROP_WRITE_FAILED], 8);
	r.trace++;
	say_chain(&r);
	assert_int_equal(send_all(&r), EXPORT_OK);
	finish(&r);
	assert_int_equal(stats.rows[ST_EXPORT].dropped[DROP_WRITE_FAILED], 16);
	close(p[0]);
	close(mem);
}

/* A full disk loses what was to be written, and says so; later traces are tried again. */
static void test_full_disk(void **state)
{
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC), mem;
	struct rig r;

	assert_true(full >= 0);
	open_with(&r, &pipe_utf8);
	mem = r.out;
	r.out = full;
	say_chain(&r);
	assert_int_equal(send_all(&r), EXPORT_OK);
	tick_after(&r, 300 * MS);
	assert_int_equal(stats.rows[ST_EXPORT].dropped[DROP_WRITE_FAILED], 8);
	close(full);
	r.out = mem;
	r.trace++;
	say_chain(&r);
	assert_int_equal(send_all(&r), EXPORT_OK);
	tick_after(&r, 300 * MS);
	assert_non_null(strstr(printed(&r), "GET /call-sync-chain"));
	finish(&r);
	assert_int_equal(stats.rows[ST_EXPORT].out, 8);
}

static void test_text(void **state)
{
	static const struct {
		uint64_t ns;
		const char *want;
	} dur[] = { { 0, "0 µs" },	       { 1499, "1 µs" },	  { 99999, "100 µs" },	  { 100000, "0.1 ms" },
		    { 9940000, "9.9 ms" },     { 9950000, "10 ms" },	  { 999499999, "999 ms" }, { 999500000, "1.00 s" },
		    { 9994000000, "9.99 s" },  { 9995000000, "10.0 s" },  { 59940000000, "59.9 s" },
		    { 60000000000, "1 min 00 s" }, { UINT64_MAX, "307445734 min 33 s" } };
	char buf[32], small[8];

	for (size_t i = 0; i < sizeof(dur) / sizeof(dur[0]); i++) {
		text__duration(buf, dur[i].ns, true);
		assert_string_equal(buf, dur[i].want);
	}
	text__count(buf, 999);
	assert_string_equal(buf, "999");
	text__count(buf, UINT64_MAX);
	assert_string_equal(buf, "18,446,744,073,709,551,615");
	assert_int_equal(text__clean(small, sizeof(small), STR("1234567"), true), 7);
	assert_string_equal(small, "1234567");
	assert_int_equal(text__clean(small, sizeof(small), STR("12345678"), true), 7);
	assert_string_equal(small, "1234…");
	assert_int_equal(text__clean(small, sizeof(small), STR("12345678"), false), 7);
	assert_string_equal(small, "1234...");
	assert_int_equal(text__clean(small, sizeof(small), STR("\u65e5\u672c\u8a9e"), true), 6);
	assert_string_equal(small, "日…");
	assert_int_equal(text__columns("日…a"), 4);
	assert_int_equal(text__fit("日本a", 3), 3);
	assert_int_equal(text__fit("日本a", 4), 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),	     cmocka_unit_test(test_chain),
		cmocka_unit_test(test_narrow),	     cmocka_unit_test(test_incomplete),
		cmocka_unit_test(test_late),	     cmocka_unit_test(test_endless),
		cmocka_unit_test(test_hostile),	     cmocka_unit_test(test_large),
		cmocka_unit_test(test_deep),	     cmocka_unit_test(test_many),
		cmocka_unit_test(test_bytes),	     cmocka_unit_test(test_failed_allocations),
		cmocka_unit_test(test_broken_pipe),  cmocka_unit_test(test_stuck_reader),
		cmocka_unit_test(test_full_disk),
	};

	signal(SIGPIPE, SIG_IGN);
	setenv("TZ", "UTC", 1);
	tzset();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
