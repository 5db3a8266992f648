// SPDX-License-Identifier: Apache-2.0
/* Connections: how they are met, forgotten and ended. */
#include "tests/unit/story.h"

#include "user/proto/http1.h"
#include "user/stream/stream.h"

static void serves(struct end *s, const char *path)
{
	reads(s, 1, path);
	answers(s, 1);
}

static int64_t status_of(const char *path)
{
	const struct attr *a = span__find(span_of(SPAN_SERVER, path), "http.response.status_code");

	return a ? a->i : 0;
}

static bool error_is(enum span_kind kind, const char *path, const char *error)
{
	const struct attr *a = span__find(span_of(kind, path), "error.type");

	return a && str__eq(a->s, str__of(error));
}

static uint64_t lasted(enum span_kind kind, const char *path)
{
	const struct span *s = span_of(kind, path);

	return s->end_ns - s->start_ns;
}

/* More connections than the table holds: those that come back lose nothing but what is not told twice. */
static void test_evicted(void **state_)
{
	struct opts o = { .max_connections = 2 };
	struct end s[3];
	char path[32];

	start_opts(&o);
	for (int i = 0; i < 3; i++) {
		s[i] = make_end(PROC_A, WS_ROLE_SERVER, 80, (uint16_t)(40000 + i));
		announce(&s[i]);
	}
	assert_int_equal(stats.evicted, 1);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 3; i++) {
			snprintf(path, sizeof(path), "/%d/%d", round, i);
			serves(&s[i], path);
		}
	}
	assert_int_equal(stats.evicted, 1 + 9);
	end_story();
	assert_int_equal(t.n, 9);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 3; i++) {
			snprintf(path, sizeof(path), "/%d/%d", round, i);
			assert_int_equal(status_of(path), 200);
		}
	}
	assert_int_equal(stats__dropped(&stats, ST_PROTO), 0);
	end_test();
}

/* What is over makes room without a word. */
static void test_closed_is_not_evicted(void **state_)
{
	struct opts o = { .max_connections = 2 };
	struct end s;

	start_opts(&o);
	for (int i = 0; i < 10; i++) {
		s = make_end(PROC_A, WS_ROLE_SERVER, 80, (uint16_t)(40000 + i));
		announce(&s);
		serves(&s, "/");
		state(&s, WS_SS_CLOSED, 0);
	}
	assert_int_equal(stats.evicted, 0);
	end_story();
	assert_int_equal(t.n, 10);
	end_test();
}

/* A hole in a connection that was known from its beginning is one: nothing is taken for the answer behind it. */
/* The end of a direction says how much went since the last event: what was left out as asked is part of the body. */
static void test_end_tells_the_rest(void **state_)
{
	const struct attr *size;
	struct end s;

	http1__set_opts(&(struct http1_opts){ .opt_in = true });
	start();
	s = make_end(PROC_A, WS_ROLE_SERVER, 80, 40000);
	announce(&s);
	reads(&s, 1, "/x");
	data(&s, WS_TX, 1, "HTTP/1.1 200 OK\r\n\r\n0123456789", NULL);
	s.pos[WS_TX] += 60000;
	state(&s, WS_SS_CLOSED, 0);
	end_story();
	size = span__find(span_of(SPAN_SERVER, "/x"), "http.response.body.size");
	assert_non_null(size);
	assert_int_equal(size->i, 60010);
	assert_int_equal(stats.gap_bytes, 0);
	end_test();
	http1__set_opts(&(struct http1_opts){ .redact = true });
}

static void test_first_answer_lost(void **state_)
{
	struct end s;

	start();
	s = make_end(PROC_A, WS_ROLE_SERVER, 80, 40000);
	announce(&s);
	reads(&s, 1, "/a");
	s.seq[WS_TX]++;
	answers(&s, 1);
	serves(&s, "/b");
	end_story();
	assert_null(span__find(span_of(SPAN_SERVER, "/a"), "http.response.status_code"));
	assert_int_equal(status_of("/b"), 200);
	end_test();
}

/* ---- AF_UNIX: nothing says that a socket was closed --------------------------------------------------------- */

/* An end of file, or what failed. */
static void ends(struct end *e, int dir, int err)
{
	struct ws_ev_data d = { .ev = { .type = WS_EV_DATA, .len = sizeof(d), .ts = t.now++ } };

	d.sock = e->id;
	d.pos = e->pos[dir];
	d.seq = e->seq[dir]++;
	d.tgid = e->tgid;
	d.tid = 1;
	d.dir = (uint8_t)dir;
	d.flags = err ? WS_DATA_ERROR : WS_DATA_EOF;
	d.err = (uint16_t)err;
	pipeline__event(t.p, &d.ev);
}

static void unix_pair(struct end *s, struct end *c, uint64_t kaddr)
{
	*s = make_end(PROC_B, WS_ROLE_SERVER, 0, 0);
	*c = make_end(PROC_A, WS_ROLE_CLIENT, 0, 0);
	s->family = c->family = AF_UNIX;
	s->kaddr = c->peer = kaddr;
	s->peer = c->kaddr = kaddr + 1;
	announce(c);
	announce(s);
}

static void exchange(struct end *s, struct end *c, const char *path)
{
	calls(c, 7, path, NULL);
	reads(s, 9, path);
	answers(s, 9);
	gets_answer(c, 7);
}

/* A table for one connection is enough, if those that are over leave it. */
static void start_small(uint32_t ends)
{
	struct opts o = { .max_connections = ends };

	start_opts(&o);
}

static void test_unix_client_has_gone(void **state_)
{
	static const struct {
		int dir, err;
	} how[] = { { WS_RX, 0 }, { WS_RX, ECONNRESET }, { WS_TX, EPIPE } };
	struct end s, c;

	for (size_t k = 0; k < sizeof(how) / sizeof(*how); k++) {
		start_small(2);
		for (uint64_t i = 0; i < 10; i++) {
			unix_pair(&s, &c, 1000 + 2 * i);
			exchange(&s, &c, "/");
			ends(&s, how[k].dir, how[k].err);
			if (how[k].dir == WS_TX) /* says nothing about the client's own end */
				ends(&c, WS_RX, 0);
			tick(300);
		}
		assert_int_equal(stats.evicted, 0);
		end_story();
		assert_int_equal(t.n, 20);
		end_test();
	}
}

/* Nobody reads an end of file. The memory of a socket that is used again was free. */
static void test_unix_closed_in_silence(void **state_)
{
	struct end s, c;

	start_small(4);
	for (int i = 0; i < 10; i++) {
		unix_pair(&s, &c, 1000);
		exchange(&s, &c, "/");
		tick(300);
	}
	assert_int_equal(stats.evicted, 0);
	end_story();
	assert_int_equal(t.n, 20);
	end_test();
}

/* What the kernel finds closed when it looks. A request that is open then will not be answered. */
static void test_unix_swept(void **state_)
{
	struct end s, c;

	start_small(2);
	for (uint64_t i = 0; i < 10; i++) {
		unix_pair(&s, &c, 1000 + 2 * i);
		calls(&c, 7, "/open", NULL);
		reads(&s, 9, "/open");
		state(&s, WS_SS_CLOSED, 0);
		state(&c, WS_SS_CLOSED, 0);
		tick(300);
	}
	assert_int_equal(stats.evicted, 0);
	end_story();
	assert_int_equal(t.n, 20);
	for (size_t i = 0; i < t.n; i++)
		assert_non_null(span__find(t.spans[i], "error.type"));
	end_test();
}

/* The ends are told: whose was first says who gave up, and when. */
static void test_unix_who_gave_up(void **state_)
{
	static const struct {
		bool client;
		const char *error;
	} first[] = { { true, "client_closed" }, { false, "response_ended" } };
	struct end s, c;

	for (size_t k = 0; k < 2; k++) {
		start_small(2);
		unix_pair(&s, &c, 1000);
		calls(&c, 7, "/open", NULL);
		reads(&s, 9, "/open");
		t.now += 50000000;
		state(first[k].client ? &c : &s, WS_SS_ABANDONED, 0);
		state(first[k].client ? &c : &s, WS_SS_CLOSED, 0);
		t.now += 3000000000;
		state(first[k].client ? &s : &c, WS_SS_FIN_LAST, 0);
		state(first[k].client ? &s : &c, WS_SS_CLOSED, 0);
		tick(300);
		end_story();
		assert_int_equal(t.n, 2);
		assert_true(error_is(SPAN_CLIENT, "/open", first[k].error));
		assert_true(error_is(SPAN_SERVER, "/open", first[k].error));
		assert_true(lasted(first[k].client ? SPAN_CLIENT : SPAN_SERVER, "/open") < 60000000);
		end_test();
	}
}

/* A client that has shut down its side still gets what it asked for, and then it is over. */
static void test_unix_half_closed(void **state_)
{
	struct end s, c;

	start_small(2);
	for (uint64_t i = 0; i < 3; i++) {
		unix_pair(&s, &c, 1000 + 2 * i);
		calls(&c, 7, "/slow", NULL);
		reads(&s, 9, "/slow");
		ends(&s, WS_RX, 0);
		tick(30000);
		data(&s, WS_TX, 9, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab", NULL);
		tick(25000);
		data(&c, WS_RX, 7, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab", NULL);
		data(&s, WS_TX, 9, "cd", NULL);
		data(&c, WS_RX, 7, "cd", NULL);
		tick(300);
	}
	assert_int_equal(stats.evicted, 0);
	end_story();
	assert_int_equal(t.n, 6);
	for (size_t i = 0; i < t.n; i++) {
		const struct attr *a = span__find(t.spans[i], "http.response.status_code");

		assert_non_null(a);
		assert_int_equal(a->i, 200);
		assert_null(span__find(t.spans[i], "error.type"));
		assert_null(span__find(t.spans[i], "wirespan.unfinished"));
	}
	end_test();
}

static void keep_control(void *ctx, uint64_t sock, const struct ws_ctl *c)
{
	(void)sock;
	*(struct ws_ctl *)ctx = *c;
}

static void data_unread(struct end *e, int dir, uint32_t size)
{
	struct ws_ev_data d = { .ev = { .type = WS_EV_DATA, .len = sizeof(d), .ts = t.now++ } };

	d.sock = e->id;
	d.pos = e->pos[dir];
	d.size = size;
	d.seq = e->seq[dir]++;
	d.tgid = e->tgid;
	d.tid = 1;
	d.dir = dir;
	e->pos[dir] += size;
	pipeline__event(t.p, &d.ev);
}

/* AF_UNIX: the end does not tell, so that transfers have to. */
static void test_unix_end_tells_nothing(void **state_)
{
	struct ws_ctl ctl = { 0 };
	struct pipeline_hooks hooks = { .control = keep_control, .ctx = &ctl };
	struct opts o = { 0 };
	const struct attr *size;
	struct end s, c;

	for (int tcp = 0; tcp < 2; tcp++) {
		start_hooks(&o, &hooks);
		http1__set_opts(&(struct http1_opts){ .opt_in = true });
		if (tcp) {
			s = make_end(PROC_A, WS_ROLE_SERVER, 80, 40000);
			announce(&s);
		} else {
			unix_pair(&s, &c, 1000);
		}
		reads(&s, 1, "/x");
		data(&s, WS_TX, 1, "HTTP/1.1 200 OK\r\n\r\n0123456789", NULL);
		assert_int_equal(ctl.mode, tcp ? WS_CTL_CAPTURE : WS_CTL_COUNT);
		assert_true(ctl.skip_until[WS_TX] == (tcp ? UINT64_MAX : 0));
		data_unread(&s, WS_TX, 60000);
		state(&s, WS_SS_CLOSED, 0);
		end_story();
		size = span__find(span_of(SPAN_SERVER, "/x"), "http.response.body.size");
		assert_non_null(size);
		assert_int_equal(size->i, 60010);
		end_test();
	}
	http1__set_opts(&(struct http1_opts){ .redact = true });
}

/* Two threads write at once, and are told at one position: nothing is lost where that is a mere count. TCP's is none. */
static void test_unix_written_at_once(void **state_)
{
	for (int tcp = 0; tcp < 2; tcp++) {
		struct end s, c;

		start_small(4);
		if (tcp) {
			s = make_end(PROC_B, WS_ROLE_SERVER, 80, 40000);
			announce(&s);
		} else {
			unix_pair(&s, &c, 1000);
		}
		reads(&s, 9, "/a");
		data(&s, WS_TX, 9, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", NULL);
		data(&s, WS_TX, 9, "01234", NULL);
		s.pos[WS_TX] -= 5;
		data(&s, WS_TX, 10, "56789", NULL);
		s.pos[WS_TX] += 5;
		reads(&s, 9, "/b");
		answers(&s, 9);
		assert_int_equal(stats.rows[ST_STREAM].dropped[DROP_STALE], tcp);
		end_story();
		assert_non_null(span_of(SPAN_SERVER, "/a"));
		assert_non_null(span_of(SPAN_SERVER, "/b"));
		end_test();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unix_written_at_once),
		cmocka_unit_test(test_evicted),
		cmocka_unit_test(test_closed_is_not_evicted),
		cmocka_unit_test(test_end_tells_the_rest),
		cmocka_unit_test(test_unix_end_tells_nothing),
		cmocka_unit_test(test_first_answer_lost),
		cmocka_unit_test(test_unix_client_has_gone),
		cmocka_unit_test(test_unix_closed_in_silence),
		cmocka_unit_test(test_unix_half_closed),
		cmocka_unit_test(test_unix_who_gave_up),
		cmocka_unit_test(test_unix_swept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
