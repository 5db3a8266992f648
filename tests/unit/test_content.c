// SPDX-License-Identifier: Apache-2.0
/* What proxies pass on as it came (user/match/content.c). */
#include "tests/unit/story.h"

/* The front is a proxy that is known; without, its calls are laid to nobody by what is in them. */
static void is_haproxy(void)
{
	struct ws_ev_proc e = { .ev = { .type = WS_EV_PROC, .len = sizeof(e), .ts = t.now++ } };

	e.tgid = e.tid = PROC_A;
	e.what = WS_PROC_EXEC;
	strcpy(e.comm, "haproxy");
	pipeline__event(t.p, &e.ev);
}

/* Two requests in a reactor that is not on the list, and what it passes on. */
static void content_story(const char *other, bool abandoned, bool proxy)
{
	struct end s, s2, c;

	start();
	if (proxy)
		is_haproxy();
	front(&s, &c);
	s2 = make_end(PROC_A, WS_ROLE_SERVER, 80, 40001);
	s.nonblock = s2.nonblock = c.nonblock = true;
	announce(&s2);
	data(&s2, WS_RX, 7, other, NULL);
	if (abandoned)
		state(&s2, WS_SS_CLOSED, 104 /* ECONNRESET */);
	data(&s, WS_RX, 7, "GET /in?a=1 HTTP/1.1\r\nHost: b\r\nAccept: */*\r\nX-Id: 7\r\n\r\n", NULL);
	data(&c, WS_TX, 7, "GET /in?a=1 HTTP/1.1\r\nhost: c\r\nx-id: 7\r\naccept: */*\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n", NULL);
	gets_answer(&c, 7);
	answers(&s, 7);
	if (!abandoned)
		answers(&s2, 7);
	end_story();
}

static void test_content(void **state_)
{
	static const char same[] = "GET /in?a=1 HTTP/1.1\r\nHost: b\r\nX-Id: 7\r\nAccept: */*\r\n\r\n";
	static const char *const others[] = {
		"GET /in?a=1 HTTP/1.1\r\nHost: b\r\nAccept: */*\r\nX-Id: 8\r\n\r\n", /* another field */
		"GET /in?a=2 HTTP/1.1\r\nHost: b\r\nAccept: */*\r\nX-Id: 7\r\n\r\n",
		"PUT /in?a=1 HTTP/1.1\r\nHost: b\r\nAccept: */*\r\nX-Id: 7\r\n\r\n",
	};

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		struct span *call;

		content_story(others[i], false, true);
		call = span_of(SPAN_CLIENT, "/in");
		assert_non_null(call->evidence);
		assert_string_equal(call->evidence, "content");
		end_test();
	}
	/* A service asks for what a neighbour is asked for. */
	content_story(others[0], false, false);
	assert_root(span_of(SPAN_CLIENT, "/in"), "nothing tells whose work this is in an event loop");
	end_test();
	for (int abandoned = 0; abandoned < 2; abandoned++) {
		content_story(same, abandoned, true);
		assert_root(span_of(SPAN_CLIENT, "/in"), "nothing tells whose work this is in an event loop");
		end_test();
	}
}

#define CHECK "GET /check HTTP/1.1\r\nHost: b\r\n\r\n"

/* A proxy that is asked for what it asks for by itself: one is passed on at a time, and a kind of its own is nobody's. */
static void test_content_of_its_own(void **state_)
{
	struct end s, s2, c, own;
	struct span *first;

	start();
	is_haproxy();
	front(&s, &c);
	own = make_end(PROC_A, WS_ROLE_CLIENT, 50001, 8080);
	s2 = make_end(PROC_A, WS_ROLE_SERVER, 80, 40001);
	s.nonblock = s2.nonblock = c.nonblock = own.nonblock = true;
	announce(&own);
	announce(&s2);
	data(&s, WS_RX, 7, CHECK, NULL);
	data(&c, WS_TX, 7, CHECK, NULL);
	data(&own, WS_TX, 7, CHECK, NULL); /* while the other is on its way */
	gets_answer(&c, 7);
	gets_answer(&own, 7);
	answers(&s, 7);
	tick(1000);
	data(&own, WS_TX, 7, CHECK, NULL); /* while nobody asks for it */
	gets_answer(&own, 7);
	data(&s2, WS_RX, 7, CHECK, NULL);
	data(&c, WS_TX, 7, CHECK, NULL);
	gets_answer(&c, 7);
	answers(&s2, 7);
	end_story();
	first = NULL;
	for (size_t i = 0; i < t.n; i++) {
		if (t.spans[i]->kind != SPAN_CLIENT || !t.spans[i]->evidence)
			continue;
		assert_null(first);
		first = t.spans[i];
	}
	assert_non_null(first);
	assert_string_equal(first->evidence, "content");
	assert_int_equal(t.n, 6);
	end_test();
}

/* What it asks for by itself is remembered, however much it asks for that nobody has asked it for in these words. */
static void test_content_among_rewritten(void **state_)
{
	struct end s, c, own;

	start();
	is_haproxy();
	front(&s, &c);
	own = make_end(PROC_A, WS_ROLE_CLIENT, 50001, 8080);
	s.nonblock = c.nonblock = own.nonblock = true;
	announce(&own);
	data(&own, WS_TX, 7, CHECK, NULL);
	gets_answer(&own, 7);
	for (int i = 0; i < 200; i++) {
		char other[64];

		snprintf(other, sizeof(other), "GET /rewritten/%d HTTP/1.1\r\nHost: b\r\n\r\n", i);
		data(&own, WS_TX, 7, other, NULL);
		gets_answer(&own, 7);
	}
	data(&s, WS_RX, 7, CHECK, NULL);
	data(&own, WS_TX, 7, CHECK, NULL);
	gets_answer(&own, 7);
	answers(&s, 7);
	end_story();
	for (size_t i = 0; i < t.n; i++)
		assert_null(t.spans[i]->evidence);
	end_test();
}

/*
 * net/http's server may read a request while the handler of the last is not done, in another goroutine: what the first
 * has a name for is over. That may as well do something more for it.
 */
static void test_read_ahead(void **state_)
{
	static const struct {
		const char *next, *call;
		bool fresh, passed_on; /* a goroutine that has read nothing */
	} t_[] = {
		{ "/b", "/b", false, true },  { "/b", "/b", true, true },   { "/a", "/a", false, false },
		{ "/a", "/a", true, false },  { "/b", "/a", false, false }, { "/b", "/c", false, false },
	};

	for (size_t i = 0; i < sizeof(t_) / sizeof(*t_); i++) {
		struct ws_token of_last, none = { .kind = WS_TOK_GOROUTINE, .by = 41 };
		struct end s, c;

		start();
		is_haproxy();
		front(&s, &c);
		s.nonblock = c.nonblock = true;
		s.goroutine = 40;
		of_last = reads(&s, 7, "/a");
		answers(&s, 7);
		tick(1000);
		s.goroutine = 39;
		reads(&s, 8, t_[i].next);
		calls(&c, 7, t_[i].call, t_[i].fresh ? &none : &of_last);
		gets_answer(&c, 7);
		answers(&s, 7);
		end_story();
		if (t_[i].passed_on)
			assert_parent(span_of(SPAN_CLIENT, t_[i].call), span_of(SPAN_SERVER, t_[i].next), "content");
		else
			assert_root(span_of(SPAN_CLIENT, t_[i].call), t_[i].fresh ? "its goroutine or virtual thread has read no request" :
										   "its request was over");
		end_test();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_content),
		cmocka_unit_test(test_content_of_its_own),
		cmocka_unit_test(test_content_among_rewritten),
		cmocka_unit_test(test_read_ahead),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
