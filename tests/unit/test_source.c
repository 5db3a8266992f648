// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "user/base/dynbuf.h"
#include "user/base/mem.h"
#include "user/base/opts.h"
#include "user/model/stats.h"
#include "user/source/mask.h"
#include "user/source/recording.h"
#include "user/source/source.h"

static uint64_t slots[(sizeof(struct ws_ev_data) + WS_CAPTURE_MAX) / 8 + 8];
static char file[64];
static const uint8_t key[16] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };

/* ---- building events ------------------------------------------------------------------------------ */

static struct ws_ev_data *make_data(uint64_t sock, uint64_t pos, uint32_t seq, const void *bytes, uint32_t captured)
{
	struct ws_ev_data *d = (void *)slots;

	memset(d, 0, sizeof(*d));
	d->ev = (struct ws_ev){ .type = WS_EV_DATA, .len = (uint32_t)sizeof(*d) + captured, .ts = 1000 + pos };
	d->sock = sock;
	d->pos = pos;
	d->seq = seq;
	d->size = d->captured = captured;
	memcpy(d->data, bytes, captured);
	return d;
}

static struct ws_ev_sock make_sock(uint64_t sock, uint8_t flags)
{
	return (struct ws_ev_sock){ .ev = { .type = WS_EV_SOCK, .len = sizeof(struct ws_ev_sock) }, .sock = sock,
				    .role = WS_ROLE_SERVER, .flags = flags, .family = 2 };
}

static struct ws_ev_state make_closed(uint64_t sock)
{
	return (struct ws_ev_state){ .ev = { .type = WS_EV_STATE, .len = sizeof(struct ws_ev_state) }, .sock = sock,
				     .state = WS_SS_CLOSED };
}

/* ---- source ----------------------------------------------------------------------------------------- */

struct seen {
	unsigned int n;
	struct dynbuf bytes;
};

static void collect(void *ctx, const struct ws_ev *ev)
{
	struct seen *s = ctx;

	assert_int_equal((uintptr_t)ev & 7, 0);
	s->n++;
	assert_int_equal(dynbuf__append(&s->bytes, ev, ev->len), 0);
}

static struct source *make_source(struct seen *s, struct recorder *rec)
{
	struct source_opts so = { .next = collect, .ctx = s, .recorder = rec };

	s->n = 0;
	dynbuf__init(&s->bytes, 64 << 20);
	return source__new(&so);
}

static void reset_books(void)
{
	memset(&stats, 0, sizeof(stats));
}

static void push_one(const void *rec, size_t len, unsigned int want_passed, enum stats_reason want_drop)
{
	struct seen seen;
	struct source *s = make_source(&seen, NULL);

	reset_books();
	source__push(s, rec, len);
	assert_int_equal(seen.n, want_passed);
	if (want_drop != __DROP_CNT)
		assert_int_equal(stats.rows[ST_SOURCE].dropped[want_drop], 1);
	assert_true(stats__check(&stats, NULL));
	assert_int_equal(stats__dropped(&stats, ST_SOURCE), want_drop == __DROP_CNT ? 0 : 1);
	dynbuf__free(&seen.bytes);
	source__free(s);
}

static void test_source_passes(void **state)
{
	struct ws_ev_sock sock = make_sock(1, 0);
	struct ws_ev_state closed = make_closed(1);
	struct ws_ev tick = { .type = WS_EV_TICK, .len = sizeof(tick) };
	struct ws_ev_clock clk = { .ev = { .type = WS_EV_CLOCK, .len = sizeof(clk) } };
	struct ws_ev_data *d = make_data(1, 100, 0, "hello", 5);

	push_one(d, d->ev.len, 1, __DROP_CNT);
	assert_int_equal(stats.rows[ST_SOURCE].in, 1);
	push_one(d, d->ev.len + 3, 1, __DROP_CNT); /* a ring record may be longer */
	push_one(&sock, sizeof(sock), 1, __DROP_CNT);
	push_one(&closed, sizeof(closed), 1, __DROP_CNT);
	push_one(&tick, sizeof(tick), 1, __DROP_CNT);
	assert_int_equal(stats.rows[ST_SOURCE].in, 0); /* not an event of the kernel */
	push_one(&clk, sizeof(clk), 1, __DROP_CNT);
}

static void test_source_counts_lost(void **state)
{
	struct ws_ev_lost lost = { .ev = { .type = WS_EV_LOST, .len = sizeof(lost) }, .count = 7 };
	struct seen seen;
	struct source *s = make_source(&seen, NULL);

	reset_books();
	source__push(s, &lost, sizeof(lost));
	assert_int_equal(stats.rows[ST_SOURCE].in, 7);
	assert_int_equal(stats.rows[ST_SOURCE].dropped[DROP_NOT_RECORDED], 7);
	dynbuf__free(&seen.bytes);
	source__free(s);
}

static void test_source_refuses(void **state)
{
	struct ws_ev_state st = make_closed(1);
	struct ws_ev_sock sock = make_sock(1, 0);
	struct ws_ev_proc proc = { .ev = { .type = WS_EV_PROC, .len = sizeof(proc) }, .what = WS_PROC_EXIT };
	struct ws_ev none = { .type = 77, .len = sizeof(none) };
	struct ws_ev_data *d;

	push_one(&none, sizeof(none), 0, DROP_UNKNOWN_TYPE);
	none.type = 0;
	push_one(&none, sizeof(none), 0, DROP_UNKNOWN_TYPE);
	push_one(&none, 15, 0, DROP_MALFORMED);
	push_one((char *)&none + 4, 12, 0, DROP_MALFORMED);
	push_one(&st, sizeof(st) - 1, 0, DROP_MALFORMED);
	st.state = 99;
	push_one(&st, sizeof(st), 0, DROP_MALFORMED);
	sock.role = 9;
	push_one(&sock, sizeof(sock), 0, DROP_MALFORMED);
	proc.args_len = 1;
	push_one(&proc, sizeof(proc), 0, DROP_MALFORMED);
	proc.args_len = 0;
	proc.exe_len = 1;
	push_one(&proc, sizeof(proc), 0, DROP_MALFORMED);
	proc.exe_len = 0;
	proc.name_len = UINT16_MAX;
	push_one(&proc, sizeof(proc), 0, DROP_MALFORMED);
	proc.name_len = 0;
	push_one(&proc, sizeof(proc), 1, __DROP_CNT);

	/* Each of these fields wrong alone. */
	d = make_data(1, 0, 0, "hello", 5);
	d->captured = 6;
	push_one(d, sizeof(*d) + 6, 0, DROP_MALFORMED);
	d = make_data(1, 0, 0, "hello", 5);
	d->ev.len = sizeof(*d) + 6;
	push_one(d, sizeof(*d) + 5, 0, DROP_MALFORMED);
	d = make_data(1, 0, 0, "hello", 5);
	d->skipped = 1;
	push_one(d, d->ev.len, 0, DROP_MALFORMED);
	d = make_data(1, 0, 0, "hello", 5);
	d->skipped = UINT32_MAX;
	push_one(d, d->ev.len, 0, DROP_MALFORMED);
	d = make_data(1, 0, 0, "hello", 5);
	d->dir = 2;
	push_one(d, d->ev.len, 0, DROP_MALFORMED);
	d = make_data(1, UINT64_MAX - 4, 0, "hello", 5);
	push_one(d, d->ev.len, 0, DROP_MALFORMED);
	d = make_data(1, 0, 0, "hello", 5);
	d->token.kind = __WS_TOK_CNT;
	push_one(d, d->ev.len, 0, DROP_MALFORMED);
}

static void test_source_garbage(void **state)
{
	struct seen seen;
	struct source *s = make_source(&seen, NULL);
	unsigned int seed = 1;

	reset_books();
	for (int i = 0; i < 20000; i++) {
		size_t len = (size_t)rand_r(&seed) % 300;
		uint8_t *rec = malloc(len + 1); /* ASan watches its very end */

		for (size_t j = 0; j < len; j++)
			rec[j] = (uint8_t)rand_r(&seed);
		if (len >= 16) {
			static const uint16_t types[] = { 1, 2, 3, 4, 64, 65, 66, 67 };
			uint32_t say = (uint32_t)len - (uint32_t)rand_r(&seed) % 2;

			memcpy(rec, &types[rand_r(&seed) % 8], 2);
			memcpy(rec + 4, &say, 4);
			if (rec[0] == WS_EV_LOST)
				memset(rec + 16, 0, len > 24 ? 8 : len - 16);
		}
		source__push(s, rec, len);
		free(rec);
	}
	assert_true(stats__check(&stats, NULL));
	dynbuf__free(&seen.bytes);
	source__free(s);
}

/* ---- mask ------------------------------------------------------------------------------------------- */

/* Feeds `in` in pieces of n bytes and compares what comes out. */
static void check_mask(const char *in, const char *want, size_t piece)
{
	struct mask *m = mask__new(0, false);
	struct ws_ev_sock sock = make_sock(5, WS_SOCK_BORN);
	size_t len = strlen(in);
	char out[4096];
	uint32_t seq = 0;

	assert_int_equal(strlen(want), len);
	mask__event(m, &sock.ev);
	for (size_t at = 0; at < len; at += piece) {
		size_t n = len - at < piece ? len - at : piece;
		struct ws_ev_data *d = make_data(5, at, seq++, in + at, (uint32_t)n);

		mask__event(m, &d->ev);
		memcpy(out + at, d->data, n);
	}
	out[len] = 0;
	assert_string_equal(out, want);
	mask__free(m);
}

static const char request[] = "GET /a?cookie: HTTP/1.1\r\nHost: x\r\nAUTHORIZATION: Bearer abc.def\r\nX-Cookie: keep\r\n"
			      "cookie:a=b; c=d\r\n\te=f\r\n g\r\nX-Api-Key \t: k\r\nAccept: */*\r\n\r\n"
			      "body\r\nset-cookie: v\nlast";
static const char request_masked[] = "GET /a?cookie: HTTP/1.1\r\nHost: x\r\nAUTHORIZATION: ****** *******\r\nX-Cookie: "
				     "keep\r\ncookie:**** ***\r\n\t***\r\n *\r\nX-Api-Key \t: *\r\nAccept: */*\r\n\r\n"
				     "body\r\nset-cookie: *\nlast";

static void test_mask_pieces(void **state)
{
	for (size_t piece = 1; piece <= sizeof(request); piece++)
		check_mask(request, request_masked, piece);
}

/* The query of a request target, and URLs that are values of headers: the same keys as in spans. */
static void test_mask_urls(void **state)
{
	static const char in[] = "GET /a/token=1?x=1&api_key=k1&TOKEN=t&y=token&%74oken=e;sig=s=s&token HTTP/1.1\r\n"
				 "Location: /b?password=p#z\r\nReferer:/c#access_token=f&n=1 \r\nX: ?token=n\r\n\r\n"
				 "HTTP/1.1 200 OK?token=x\r\nX-Token: t\r\n\r\n";
	static const char want[] = "GET /a/token=1?x=1&api_key=**&TOKEN=*&y=token&%74oken=*;sig=***&token HTTP/1.1\r\n"
				   "Location: /b?password=***\r\nReferer:/c#access_token=*&n=1 \r\nX: ?token=n\r\n\r\n"
				   "HTTP/1.1 200 OK?token=x\r\nX-Token: t\r\n\r\n";
	char long_key[400] = "GET /?", want_long[400];

	for (size_t piece = 1; piece <= sizeof(in); piece++)
		check_mask(in, want, piece);
	/* A key that is too long to be remembered. */
	memset(long_key + 6, 'k', 200);
	memcpy(want_long, long_key, sizeof(want_long));
	strcat(long_key, "=abc&x=1 HTTP/1.1\r\n");
	strcat(want_long, "=***&x=1 HTTP/1.1\r\n");
	check_mask(long_key, want_long, 1000);
	check_mask(long_key, want_long, 9);
	/* User and password; where the authority is cut off nobody can tell. */
	check_mask("GET http://me:pw@h:80/?token=t HTTP/1.1\r\n", "GET http://**:**@h:80/?token=* HTTP/1.1\r\n", 1000);
	check_mask("GET http://h:80/u@x HTTP/1.1\r\n", "GET http://h:80/u@x HTTP/1.1\r\n", 1000);
	check_mask("GET http://me:p@h/a@b HTTP/1.1\r\n", "GET http://**:*@*/a@b HTTP/1.1\r\n", 1);
}

/* Bodies, where it is known what they are: framing stays, and so does a head where none was expected. */
static void test_mask_bodies(void **state)
{
	static const char sent[] = "POST /a HTTP/1.1\r\nContent-Length: 14\r\n\r\npassword=hunt2"
				   "PUT /b HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc\n"
				   "PUT /c HTTP/1.1\r\nContent-Length:\r\n 3\r\n\r\nabc\n"
				   "PUT /d HTTP/1.1\r\nContent-Length : 3\r\n\r\nabc\n"
				   "PUT /e HTTP/1.1\r\nContent-Length: 9\r\nTransfer-Encoding:chunked\r\nCookie: c\r\n\r\n"
				   "A \r\n\r\nGET / HT\r\n1;x=y\n{\n0\r\nX-T: a\r\nCookie: b\r\n\r\n"
				   "GET /f HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET /g HTTP/1.1\r\n";
	static const char kept[] = "POST /a HTTP/1.1\r\nContent-Length: 14\r\n\r\n**************"
				   "PUT /b HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc\n"
				   "PUT /c HTTP/1.1\r\nContent-Length:\r\n 3\r\n\r\nabc\n"
				   "PUT /d HTTP/1.1\r\nContent-Length : 3\r\n\r\nabc\n"
				   "PUT /e HTTP/1.1\r\nContent-Length: 9\r\nTransfer-Encoding:chunked\r\nCookie: *\r\n\r\n"
				   "A \r\n**********\r\n1;x=y\n*\n0\r\nX-T: a\r\nCookie: *\r\n\r\n"
				   "GET /f HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET /g HTTP/1.1\r\n";
	/* The answers to HEAD and 304 have no body. */
	static const char got[] = "HTTP/1.1 200 OK\r\ncontent-length:8\r\n\r\nH\r\nHTTP/"
				  "HTTP/1.1 304 Not Modified\r\nContent-Length: 900\r\n\r\n"
				  "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
				  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
				  "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked \r\n\r\n5\r\nhello\r\n0\r\n\r\n"
				  "HTTP/1.1 200 OK\r\n\r\nContent-Length: 3\r\n\r\nuntil it ends";
	static const char left[] = "HTTP/1.1 200 OK\r\ncontent-length:8\r\n\r\nH*******"
				   "HTTP/1.1 304 Not Modified\r\nContent-Length: 900\r\n\r\n"
				   "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
				   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
				   "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked \r\n\r\n5\r\n*****\r\n0\r\n\r\n"
				   "HTTP/1.1 200 OK\r\n\r\nContent-Length: 3\r\n\r\nuntil it ends";

	check_mask(sent, kept, 4000);
	for (size_t piece = 1; piece <= sizeof(got); piece++)
		check_mask(got, left, piece);
}

/* --no-redact shows queries: a replay would not give the same spans without them. */
static void test_mask_keeps_queries(void **state)
{
	struct mask *m = mask__new(0, true);
	struct ws_ev_sock sock = make_sock(5, WS_SOCK_BORN);
	struct ws_ev_data *d = make_data(5, 0, 0, "GET /?token=t HTTP/1.1\r\nCookie: c\r\n", 36);

	mask__event(m, &sock.ev);
	mask__event(m, &d->ev);
	assert_memory_equal(d->data, "GET /?token=t HTTP/1.1\r\nCookie: *\r\n", 36);
	mask__free(m);
}

static void test_mask_all_names(void **state)
{
	static const char *const names[] = { "Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "X-Api-Key",
					     "X-Auth-Token", "x-amz-security-token" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char in[128], want[128];

		snprintf(in, sizeof(in), "HTTP/1.1 200 OK\r\n%s: secret\r\n\r\n", names[i]);
		snprintf(want, sizeof(want), "HTTP/1.1 200 OK\r\n%s: ******\r\n\r\n", names[i]);
		check_mask(in, want, 7);
		check_mask(in, want, 1000);
	}
	check_mask("GET / HTTP/1.1\r\nCookies: a\r\nTraceparent: 00-1\r\n\r\n",
		   "GET / HTTP/1.1\r\nCookies: a\r\nTraceparent: 00-1\r\n\r\n", 1000);
}

static void expect_data(struct mask *m, struct ws_ev_data *d, const char *want)
{
	mask__event(m, &d->ev);
	assert_int_equal(d->captured, strlen(want));
	assert_memory_equal(d->data, want, d->captured);
}

/* Bytes that were not captured, or not in order. */
static void test_mask_holes(void **state)
{
	struct ws_ev_sock born = make_sock(1, WS_SOCK_BORN), old = make_sock(2, 0);
	struct mask *m = mask__new(0, false);
	struct ws_ev_data *d;

	mask__event(m, &born.ev);
	/* The head goes on beyond what was captured ... */
	d = make_data(1, 0, 0, "GET / HTTP/1.1\r\nX: ", 19);
	d->size = 9000;
	expect_data(m, d, "GET / HTTP/1.1\r\nX: ");
	/* ... so that this may be the rest of a cookie ... */
	expect_data(m, make_data(1, 9000, 1, "rest-of-it\r\nA: b\r\n", 18), "**********\r\nA: b\r\n");
	/* ... but this cannot. */
	d = make_data(1, 10000, 2, "PURGE /x HTTP/1.1\r\nCookie: s", 28);
	d->size = 5000;
	expect_data(m, d, "PURGE /x HTTP/1.1\r\nCookie: *");
	/* Inside a value nothing else is believed. */
	expect_data(m, make_data(1, 15000, 3, "secret\r\n\r\n", 10), "******\r\n\r\n");
	/* A body that is skipped on purpose is followed by a line. */
	d = make_data(1, 15010, 4, "1f\r\nxx", 6);
	d->skipped = 500;
	d->size = 506;
	expect_data(m, d, "1f\r\nxx");
	expect_data(m, make_data(1, 99000, 5, "0\r\n\r\n", 5), "0\r\n\r\n");
	/* A lost event: seq jumps. */
	expect_data(m, make_data(1, 99005, 9, "x=secret\r\n", 10), "********\r\n");
	/* An event that was overtaken. */
	expect_data(m, make_data(1, 90000, 7, "a secret\r\n", 10), "* ******\r\n");

	/* A connection that was there before: perhaps in the middle of a head. */
	mask__event(m, &old.ev);
	expect_data(m, make_data(2, 0, 0, "of-cookie\r\nA: b\r\n", 17), "*********\r\nA: b\r\n");
	/* One that was never announced. */
	expect_data(m, make_data(3, 0, 0, "of-cookie\r\n", 11), "*********\r\n");
	expect_data(m, make_data(4, 0, 0, "HTTP/1.1 200 OK\r\n", 17), "HTTP/1.1 200 OK\r\n");
	mask__free(m);
}

/* A body of which a part is not there: skipped on purpose, or lost. */
static void test_mask_body_holes(void **state)
{
	static const char head[] = "PUT / HTTP/1.1\r\nContent-Length: 1000\r\n\r\nab", masked[] =
		"PUT / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n**";
	struct ws_ev_sock born = make_sock(1, WS_SOCK_BORN);
	struct mask *m = mask__new(0, false);
	uint64_t end = sizeof(head) - 1 + 998;
	struct ws_ev_data *d;

	mask__event(m, &born.ev);
	expect_data(m, make_data(1, 0, 0, head, sizeof(head) - 1), masked);
	expect_data(m, make_data(1, 500, 3, "secret\n", 7), "*******"); /* two were lost */
	d = make_data(1, 507, 4, "yzGET / HTTP/1.1\r\n", 18);
	d->skipped = (uint32_t)(end - 2 - 507);
	d->size = d->skipped + 18;
	expect_data(m, d, "**GET / HTTP/1.1\r\n");
	expect_data(m, make_data(1, end + 16, 5, "\r\n", 2), "\r\n");
	/* One that ends in the hole. */
	expect_data(m, make_data(1, end + 18, 6, head, sizeof(head) - 1), masked);
	end += 18 + sizeof(head) - 1 + 998;
	expect_data(m, make_data(1, end, 7, "GET /x HTTP/1.1\r\n\r\n", 19), "GET /x HTTP/1.1\r\n\r\n");
	expect_data(m, make_data(1, end + 19, 8, head, sizeof(head) - 1), masked);
	expect_data(m, make_data(1, end + 5000, 9, "GET /y HTTP/1.1\r\n", 17), "GET /y HTTP/1.1\r\n");
	mask__free(m);
}

static void test_mask_limits(void **state)
{
	struct mask *m = mask__new(2, false);
	struct ws_ev_sock born = make_sock(1, WS_SOCK_BORN), other = make_sock(2, WS_SOCK_BORN);
	struct ws_ev_state closed = make_closed(1);

	mask__event(m, &born.ev);
	mask__event(m, &other.ev); /* no room */
	expect_data(m, make_data(2, 0, 0, "GET / HTTP/1.1\r\n", 16), "****************");
	mask__event(m, &closed.ev);
	mask__event(m, &other.ev);
	expect_data(m, make_data(2, 0, 0, "GET / HTTP/1.1\r\n", 16), "GET / HTTP/1.1\r\n");
	mask__free(m);

	for (long n = 0; n < 4; n++) {
		m = mask__new(0, false);
		mask__event(m, &other.ev);
		mem__fail_after(n);
		mask__event(m, &born.ev);
		mem__fail_after(-1);
		mask__free(m);
	}
	m = mask__new(0, false);
	mem__fail_after(0);
	expect_data(m, make_data(9, 0, 0, "GET / HTTP/1.1\r\n", 16), "****************");
	mem__fail_after(-1);
	mask__free(m);
}

/* ---- recordings -------------------------------------------------------------------------------------- */

static struct recorder *start_recording(bool keep, size_t buffer)
{
	struct recorder_opts ro = { .path = file, .key = key, .options = "routes\0off", .options_len = 11,
				    .keep_secrets = keep, .buffer = buffer };
	char why[RECORDING_WHY_MAX];

	return recorder__new(&ro, why);
}

/* Pushes n events through a source that records; returns what the pipeline saw. */
static struct seen record(unsigned int n, bool keep)
{
	struct recorder *rec = start_recording(keep, 0);
	struct ws_ev_sock sock = make_sock(1, WS_SOCK_BORN);
	char why[RECORDING_WHY_MAX];
	struct seen seen;
	struct source *s = make_source(&seen, rec);
	uint64_t pos = 0;

	assert_non_null(rec);
	source__push(s, &sock, sizeof(sock));
	for (unsigned int i = 0; i < n; i++) {
		char text[64];
		int len = snprintf(text, sizeof(text), "GET /%u HTTP/1.1\r\nCookie: s3cret-%u\r\n\r\n", i, i);
		struct ws_ev_data *d = make_data(1, pos, i, text, (uint32_t)len);

		source__push(s, d, d->ev.len);
		pos += (uint64_t)len;
	}
	assert_int_equal(recorder__error(rec), 0);
	assert_int_equal(recorder__close(rec, 5000000000ull, why), 0);
	source__free(s);
	return seen;
}

static int replay(struct seen *seen, char *why)
{
	struct replay *r = replay__open(file, why);
	struct source *s = make_source(seen, NULL);
	int ret;

	if (!r) {
		source__free(s);
		return -errno;
	}
	while ((ret = replay__step(r, s, 100, why)) > 0)
		;
	source__free(s);
	replay__free(r);
	return ret;
}

static void test_record_replay(void **state)
{
	struct seen live, again;
	char why[RECORDING_WHY_MAX];
	struct replay *r;
	struct stat st;
	size_t len;

	umask(0);
	reset_books();
	live = record(30000, true);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(stats.recorded, 30001);
	assert_int_equal(stats.recording_lost, 0);
	assert_int_equal(replay(&again, why), 0);
	assert_int_equal(again.n, 30001);
	assert_int_equal(again.bytes.len, live.bytes.len);
	assert_memory_equal(again.bytes.data, live.bytes.data, live.bytes.len);
	dynbuf__free(&live.bytes);
	dynbuf__free(&again.bytes);
	r = replay__open(file, why);
	assert_memory_equal(replay__key(r), key, 16);
	assert_memory_equal(replay__options(r, &len), "routes\0off", 11);
	assert_int_equal(len, 11);
	replay__free(r);
}

static void test_record_blanks(void **state)
{
	struct seen live = record(500, false), again;
	char why[RECORDING_WHY_MAX];

	assert_int_equal(replay(&again, why), 0);
	assert_int_equal(again.n, live.n);
	assert_non_null(memmem(live.bytes.data, live.bytes.len, "s3cret", 6)); /* the pipeline itself sees them */
	assert_null(memmem(again.bytes.data, again.bytes.len, "s3cret", 6));
	assert_non_null(memmem(again.bytes.data, again.bytes.len, "GET /499 HTTP/1.1\r\nCookie: **********\r\n", 39));
	dynbuf__free(&live.bytes);
	dynbuf__free(&again.bytes);
}

static void test_record_refuses(void **state)
{
	char why[RECORDING_WHY_MAX], link[80];
	struct recorder_opts ro = { .path = "/nonexistent/x", .key = key };
	struct stat before, after;
	struct seen seen;
	int fd;

	assert_null(recorder__new(&ro, why));
	assert_int_equal(errno, ENOENT);
	assert_string_equal(why, "/nonexistent/x: cannot create the file: No such file or directory");
	ro.path = "/tmp";
	assert_null(recorder__new(&ro, why));
	assert_string_equal(why, "/tmp: not a regular file: choose another name");
	/* Not through a link that somebody has laid. */
	snprintf(link, sizeof(link), "%s.link", file);
	assert_int_equal(symlink(file, link), 0);
	ro.path = link;
	assert_null(recorder__new(&ro, why));
	assert_int_equal(errno, EEXIST);
	unlink(link);
	/* An old file is replaced, not written into: somebody may hold it open. */
	seen = record(1, false);
	dynbuf__free(&seen.bytes);
	assert_int_equal(chmod(file, 0644), 0);
	fd = open(file, O_RDONLY);
	assert_int_equal(fstat(fd, &before), 0);
	seen = record(2, false);
	dynbuf__free(&seen.bytes);
	assert_int_equal(stat(file, &after), 0);
	assert_int_equal(after.st_mode & 0777, 0600);
	assert_true(after.st_ino != before.st_ino);
	assert_int_equal(fstat(fd, &after), 0);
	assert_int_equal(after.st_size, before.st_size);
	close(fd);
}

/* Whatever byte a file ends at, and whatever byte is wrong: an error or a shorter run, never more. */
static void test_replay_damaged(void **state)
{
	struct seen live = record(3, false), again;
	char why[RECORDING_WHY_MAX];
	char bytes[4096];
	FILE *f = fopen(file, "r");
	size_t len = fread(bytes, 1, sizeof(bytes), f);

	fclose(f);
	assert_true(len > 500 && len < sizeof(bytes));
	for (size_t cut = 0; cut < len; cut++) {
		int ret;

		assert_int_equal(truncate(file, (off_t)len - (off_t)cut - 1), 0);
		why[0] = 0;
		ret = replay(&again, why);
		assert_true(ret < 0);
		assert_true(why[0]);
		assert_true(again.n <= live.n);
		dynbuf__free(&again.bytes);
	}
	for (size_t at = 0; at < len; at++) {
		f = fopen(file, "w");
		bytes[at] ^= 0x41;
		fwrite(bytes, 1, len, f);
		bytes[at] ^= 0x41;
		fclose(f);
		reset_books();
		replay(&again, why);
		assert_true(again.n <= live.n);
		assert_true(stats__check(&stats, NULL));
		dynbuf__free(&again.bytes);
	}
	dynbuf__free(&live.bytes);
}

static void check_refusal(const void *bytes, size_t len, const char *want)
{
	char why[RECORDING_WHY_MAX], full[RECORDING_WHY_MAX];
	FILE *f = fopen(file, "w");

	fwrite(bytes, 1, len, f);
	fclose(f);
	assert_null(replay__open(file, why));
	snprintf(full, sizeof(full), "%s: %s", file, want);
	assert_string_equal(why, full);
}

static void test_replay_refuses(void **state)
{
	struct recording_head h = { .magic = RECORDING_MAGIC, .order = RECORDING_ORDER, .abi = WS_ABI_VERSION + 1,
				    .version = "9.9\n" };
	char why[RECORDING_WHY_MAX];

	check_refusal("", 0, "not a recording of wirespan");
	check_refusal("PK\x03\x04 something else entirely", 27, "not a recording of wirespan");
	check_refusal(&h, 20, "the recording is cut off in its head");
	check_refusal(&h, sizeof(h), "recorded with event format 5 by wirespan 9.9?, this one reads 4: replay it with that");
	h.order = __builtin_bswap32(RECORDING_ORDER);
	check_refusal(&h, sizeof(h), "recorded on a machine of the other byte order: replay it there");
	h.order = RECORDING_ORDER;
	h.abi = WS_ABI_VERSION;
	h.options_len = UINT32_MAX;
	check_refusal(&h, sizeof(h), "damaged: its head is not consistent");
	h.options_len = 8;
	check_refusal(&h, sizeof(h), "the recording is cut off in its head");
	unlink(file);
	assert_null(replay__open(file, why));
	assert_non_null(strstr(why, "No such file or directory"));
}

/* Full disk: one error, everything else counted, the file says that it is not complete. */
static void test_record_disk_full(void **state)
{
	struct rlimit old, small = { .rlim_cur = 100000 };
	struct recorder *rec;
	char why[RECORDING_WHY_MAX], text[1000];
	struct seen again;
	uint64_t pos = 0;

	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	small.rlim_max = old.rlim_max;
	setrlimit(RLIMIT_FSIZE, &small);
	reset_books();
	rec = start_recording(true, 0);
	memset(text, 'x', sizeof(text));
	for (uint32_t i = 0; i < 1000; i++, pos += sizeof(text)) {
		struct ws_ev_data *d = make_data(1, pos, i, text, sizeof(text));

		recorder__add(rec, &d->ev);
		if (i == 500)
			usleep(300000);
	}
	assert_int_equal(recorder__error(rec), EFBIG);
	assert_true(stats.recording_lost >= 499);
	assert_int_equal(stats.recorded + stats.recording_lost, 1000);
	assert_int_equal(recorder__close(rec, 1000000000, why), -EFBIG);
	assert_non_null(strstr(why, "File too large"));
	setrlimit(RLIMIT_FSIZE, &old);
	assert_true(replay(&again, why) < 0);
	assert_memory_equal(why, file, strlen(file));
	assert_non_null(strstr(why, ": cut off: "));
	assert_true(again.n > 50);
	dynbuf__free(&again.bytes);
}

/* A disk that is slower than the events: they are counted, and the recording has them as lost. */
static void test_record_too_slow(void **state)
{
	struct recorder *rec;
	char why[RECORDING_WHY_MAX], text[1000];
	struct seen again;
	uint64_t pos = 0, lost;

	reset_books();
	rec = start_recording(true, 8192); /* as good as a slow disk */
	memset(text, 'x', sizeof(text));
	for (uint32_t i = 0; i < 400; i++, pos += sizeof(text)) {
		struct ws_ev_data *d = make_data(1, pos, i, text, sizeof(text));

		recorder__add(rec, &d->ev);
		if (i % 100 == 99)
			usleep(300000);
	}
	lost = stats.recording_lost;
	assert_true(lost > 300);
	assert_int_equal(stats.recorded + lost, 400);
	assert_int_equal(recorder__close(rec, 5000000000ull, why), 0);
	reset_books();
	assert_int_equal(replay(&again, why), 0);
	/* What was lost at the very end stands in the end mark, the rest in between. */
	assert_true(stats.rows[ST_SOURCE].dropped[DROP_NOT_RECORDED] > 200);
	assert_true(stats.rows[ST_SOURCE].dropped[DROP_NOT_RECORDED] <= lost);
	assert_true(stats__check(&stats, NULL));
	dynbuf__free(&again.bytes);
}

static void test_without_memory(void **state)
{
	struct seen live = record(50, false);
	char why[RECORDING_WHY_MAX];
	long n;

	for (n = 0; n < 100; n++) {
		struct replay *r;

		mem__fail_after(n);
		r = replay__open(file, why);
		mem__fail_after(-1);
		if (r) {
			replay__free(r);
			break;
		}
		assert_int_equal(errno, ENOMEM);
	}
	assert_in_range(n, 2, 50);
	for (n = 0; n < 100; n++) {
		struct recorder *rec;

		mem__fail_after(n);
		rec = start_recording(false, 0);
		mem__fail_after(-1);
		if (rec) {
			recorder__close(rec, 5000000000ull, why);
			break;
		}
		assert_int_equal(errno, ENOMEM);
	}
	assert_in_range(n, 4, 50);
	mem__fail_after(0);
	assert_null(source__new(&(struct source_opts){ 0 }));
	mem__fail_after(-1);
	assert_int_equal(recorder__close(NULL, 0, why), 0);
	dynbuf__free(&live.bytes);
}

/* ---- options in recordings ---------------------------------------------------------------------------- */

static void test_options(void **state)
{
	char *argv[] = { "wirespan", "--routes=off", "--redact-keys", "a,b", "--no-redact", "--max-requests=100", NULL };
	char *later[] = { "wirespan", "replay", "f", "--max-requests=200", NULL };
	char *env[] = { "WIRESPAN_ROUTE_PATTERNS=/x", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=5", NULL }, *none[] = { NULL };
	struct opts o, back;
	struct dynbuf saved;
	char *said = NULL;
	size_t said_len;
	FILE *err = open_memstream(&said, &said_len);

	dynbuf__init(&saved, RECORDING_OPTIONS_MAX);
	assert_int_equal(opts__parse(&o, 6, argv, none, err), 0);
	assert_int_equal(opts__save_spans(&o, &saved), 0);
	opts__free(&o);
	assert_int_equal(opts__parse(&back, 4, later, env, err), 0);
	assert_string_equal(back.route_patterns, "/x");
	assert_int_equal(opts__load_spans(&back, saved.data, saved.len, err), 0);
	assert_string_equal(back.routes, "off");
	assert_string_equal(back.redact_keys, "a,b");
	assert_false(back.redact);
	assert_null(back.route_patterns);	      /* unset when it was recorded */
	assert_int_equal(back.attr_count_limit, 128); /* a variable of here and now does not count */
	assert_int_equal(back.max_requests, 200);     /* a flag does */
	/* Damage. */
	for (size_t n = 0; n < saved.len; n++)
		opts__load_spans(&back, saved.data, n, err);
	assert_int_equal(opts__load_spans(&back, saved.data, saved.len - 1, err), -EINVAL);
	assert_int_equal(opts__load_spans(&back, "nonsense\0x", 11, err), -EINVAL);
	assert_int_equal(opts__load_spans(&back, "config\0x", 9, err), -EINVAL);
	assert_int_equal(opts__load_spans(&back, "routes\0x", 9, err), -EINVAL);
	fflush(err);
	assert_non_null(strstr(said, "options of the recording: nonsense is not known here"));
	opts__free(&back);
	dynbuf__free(&saved);
	fclose(err);
	free(said);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_source_passes),
		cmocka_unit_test(test_source_counts_lost),
		cmocka_unit_test(test_source_refuses),
		cmocka_unit_test(test_source_garbage),
		cmocka_unit_test(test_mask_pieces),
		cmocka_unit_test(test_mask_urls),
		cmocka_unit_test(test_mask_bodies),
		cmocka_unit_test(test_mask_body_holes),
		cmocka_unit_test(test_mask_keeps_queries),
		cmocka_unit_test(test_mask_all_names),
		cmocka_unit_test(test_mask_holes),
		cmocka_unit_test(test_mask_limits),
		cmocka_unit_test(test_record_replay),
		cmocka_unit_test(test_record_blanks),
		cmocka_unit_test(test_record_refuses),
		cmocka_unit_test(test_replay_damaged),
		cmocka_unit_test(test_replay_refuses),
		cmocka_unit_test(test_record_disk_full),
		cmocka_unit_test(test_record_too_slow),
		cmocka_unit_test(test_without_memory),
		cmocka_unit_test(test_options),
	};
	int ret;

	snprintf(file, sizeof(file), "/tmp/wirespan-test-rec.%d", getpid());
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(file);
	return ret;
}
