// SPDX-License-Identifier: Apache-2.0
/* From kernel events to parents: which edges each story leads to. */
#include "tests/unit/story.h"

static void test_server_alone(void **state_)
{
	struct end s;

	start();
	s = make_end(PROC_A, WS_ROLE_SERVER, 80, 40000);
	announce(&s);
	t.now = 2000 * MS;
	reads(&s, 1, "/x");
	t.now = 2005 * MS;
	answers(&s, 1);
	end_story();
	assert_int_equal(t.n, 1);
	assert_int_equal(t.spans[0]->kind, SPAN_SERVER);
	assert_int_equal(t.spans[0]->start_ns, 2000 * MS);
	assert_int_equal(t.spans[0]->end_ns, 2005 * MS);
	assert_root(t.spans[0], NULL);
	end_test();
}

static void join_story(bool server_first, uint8_t other_net, uint64_t skew)
{
	struct end c = make_end(PROC_A, WS_ROLE_CLIENT, 50000, 8080), s = make_end(PROC_B, WS_ROLE_SERVER, 8080, 50000);

	s.net = other_net;
	s.pos[WS_RX] += skew;
	announce(&c);
	announce(&s);
	if (server_first) {
		reads(&s, 2, "/j");
		t.now += 1000;
		calls(&c, 1, "/j", NULL);
	} else {
		calls(&c, 1, "/j", NULL);
		reads(&s, 2, "/j");
	}
	answers(&s, 2);
	gets_answer(&c, 1);
	end_story();
}

static void test_join(void **state_)
{
	for (int server_first = 0; server_first < 2; server_first++) {
		struct span *c, *s;

		start();
		join_story(server_first, 1, 0);
		c = span_of(SPAN_CLIENT, "/j");
		s = span_of(SPAN_SERVER, "/j");
		assert_parent(s, c, "join");
		assert_root(c, NULL);
		assert_true(c->start_ns <= s->start_ns);
		end_test();
	}
}

static void test_no_join_of_other_bytes(void **state_)
{
	start();
	join_story(false, 9, 0); /* another client address */
	assert_root(span_of(SPAN_SERVER, "/j"), NULL);
	end_test();
	start();
	join_story(false, 1, 777); /* equal port pairs in another namespace: another sequence number */
	assert_root(span_of(SPAN_SERVER, "/j"), NULL);
	end_test();
	start_with("join", false);
	join_story(false, 1, 0);
	assert_root(span_of(SPAN_SERVER, "/j"), NULL);
	end_test();
}

static void make_unix_pair(struct end *c, struct end *s, uint64_t pos)
{
	*c = make_end(PROC_A, WS_ROLE_CLIENT, 0, 0);
	*s = make_end(PROC_B, WS_ROLE_SERVER, 0, 0);
	c->family = s->family = AF_UNIX;
	c->pos[0] = c->pos[1] = s->pos[0] = s->pos[1] = pos;
	c->kaddr = s->peer = 0xc0;
	s->kaddr = c->peer = 0x50;
}

static void test_join_unix(void **state_)
{
	struct end c, s;

	start();
	make_unix_pair(&c, &s, 0);
	announce(&c);
	announce(&s);
	for (int i = 0; i < 2; i++) {
		char path[16];

		snprintf(path, sizeof(path), "/u%d", i);
		calls(&c, 1, path, NULL);
		reads(&s, 2, path);
		answers(&s, 2);
		gets_answer(&c, 1);
	}
	end_story();
	assert_parent(span_of(SPAN_SERVER, "/u0"), span_of(SPAN_CLIENT, "/u0"), "join");
	assert_parent(span_of(SPAN_SERVER, "/u1"), span_of(SPAN_CLIENT, "/u1"), "join");
	end_test();
}

/* Bytes that one end moved unseen shift its places: no request is another's, however alike they are. */
static void test_join_unix_shifted(void **state_)
{
	const int len = (int)strlen("GET /u HTTP/1.1\r\nHost: b\r\n\r\n");

	for (int shift = -2; shift <= 2; shift++) {
		struct end c, s;

		start();
		make_unix_pair(&c, &s, 1000);
		s.pos[WS_RX] = (uint64_t)(1000 + shift * len);
		announce(&c);
		announce(&s);
		for (int i = 0; i < 6; i++) {
			calls(&c, 1, "/u", NULL);
			reads(&s, 2, "/u");
			answers(&s, 2);
			gets_answer(&c, 1);
		}
		end_story();
		assert_int_equal(t.n, 12);
		for (size_t i = 0; i < t.n; i++)
			if (t.spans[i]->kind == SPAN_SERVER)
				assert_int_equal(!memcmp(t.spans[i]->parent_id, zeros, 8), shift != 0);
		end_test();
	}
}

/* A connection per request from two clients, of which one is not seen: the kernel gives the server's end the same address. */
static void test_join_unix_address_again(void **state_)
{
	enum { IN_TIME, LATE, NOT_TOLD };

	for (int how = IN_TIME; how <= NOT_TOLD; how++) {
		bool late = how == LATE;
		struct end c, s, s2;

		start();
		make_unix_pair(&c, &s, 0);
		make_unix_pair(&c, &s2, 0);
		s2.connector = PROC_A;
		if (how == NOT_TOLD) /* … that it was closed */
			s.connector = PROC_A + 1;
		announce(&s);
		reads(&s, 2, "/u"); /* of the client that is not seen */
		answers(&s, 2);
		if (how != NOT_TOLD)
			state(&s, WS_SS_CLOSED, 0);
		announce(&c);
		if (late) { /* the record of a send comes behind it */
			announce(&s2);
			reads(&s2, 2, "/u");
			calls(&c, 1, "/u", NULL);
		} else {
			calls(&c, 1, "/u", NULL);
			announce(&s2);
			reads(&s2, 2, "/u");
		}
		answers(&s2, 2);
		gets_answer(&c, 1);
		tick(3000);
		end_story();
		assert_int_equal(t.n, 3);
		for (size_t i = 0; i < t.n; i++) {
			bool first = t.spans[i]->kind == SPAN_SERVER && t.spans[i]->start_ns < span_of(SPAN_CLIENT, "/u")->start_ns;

			if (t.spans[i]->kind == SPAN_SERVER && (first || !late))
				assert_int_equal(!memcmp(t.spans[i]->parent_id, zeros, 8), first);
		}
		end_test();
	}
}

static void test_thread(void **state_)
{
	struct ws_token tok;
	struct end s, c;

	start();
	front(&s, &c);
	tok = reads(&s, 7, "/in");
	calls(&c, 7, "/out", &tok);
	gets_answer(&c, 7);
	tick(100);
	collect();
	assert_int_equal(t.n, 0); /* not before the same thread has answered */
	answers(&s, 7);
	end_story();
	assert_parent(span_of(SPAN_CLIENT, "/out"), span_of(SPAN_SERVER, "/in"), "thread");
	end_test();
}

static void test_thread_hands_off(void **state_)
{
	struct ws_token tok;
	struct end s, c;

	start();
	front(&s, &c);
	tok = reads(&s, 7, "/in");
	calls(&c, 7, "/out", &tok);
	gets_answer(&c, 7);
	answers(&s, 8);
	end_story();
	assert_root(span_of(SPAN_CLIENT, "/out"), "its request was answered by another thread");
	end_test();
}

/* Blocking sockets and select(): one request waits while the thread reads others, answers them, and has work of its own. */
static void test_thread_of_several_connections(void **state_)
{
	struct ws_token tok;
	struct end s, c, s2;

	start();
	front(&s, &c);
	s2 = another_front();
	tok = reads(&s, 7, "/longpoll");
	calls(&c, 7, "/early", &tok);
	gets_answer(&c, 7);
	reads(&s2, 7, "/short");
	answers(&s2, 7);
	calls(&c, 7, "/late", &tok);
	gets_answer(&c, 7);
	answers(&s, 7);
	tok = reads(&s, 7, "/next");
	calls(&c, 7, "/next-early", &tok);
	gets_answer(&c, 7);
	answers(&s, 7);
	tick(61000);
	tok = reads(&s, 7, "/much-later");
	calls(&c, 7, "/of-one", &tok);
	gets_answer(&c, 7);
	answers(&s, 7);
	end_story();
	assert_root(span_of(SPAN_CLIENT, "/early"), "this thread serves several connections at a time");
	assert_root(span_of(SPAN_CLIENT, "/late"), "this thread serves several connections at a time");
	assert_root(span_of(SPAN_CLIENT, "/next-early"), "this thread serves several connections at a time");
	assert_parent(span_of(SPAN_CLIENT, "/of-one"), span_of(SPAN_SERVER, "/much-later"), "thread");
	end_test();
}

/* It waits for whoever comes next while the only request that it has read is open. Once that is answered, nothing follows. */
static void test_thread_that_waits_for_others(void **state_)
{
	struct ws_token tok;
	struct end s, c;

	start();
	front(&s, &c);
	tok = reads(&s, 7, "/one");
	calls(&c, 7, "/its-own", &tok);
	gets_answer(&c, 7);
	answers(&s, 7);
	proc(PROC_A, 7, WS_PROC_THREAD_WAITS);
	tok = reads(&s, 7, "/longpoll");
	calls(&c, 7, "/before", &tok);
	gets_answer(&c, 7);
	proc(PROC_A, 7, WS_PROC_THREAD_WAITS);
	calls(&c, 7, "/after", &tok);
	gets_answer(&c, 7);
	answers(&s, 7);
	tok = reads(&s, 8, "/other-thread");
	tok.flags |= WS_TOKEN_PARKED; /* its event was lost */
	calls(&c, 8, "/flagged", &tok);
	gets_answer(&c, 8);
	answers(&s, 8);
	/* … whose answer has begun; and a thread that was made for what it had to do, and has ended by then. */
	tok = reads(&s, 12, "/events");
	data(&s, WS_TX, 12, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", NULL);
	calls(&c, 12, "/in-stream", &tok);
	gets_answer(&c, 12);
	proc(PROC_A, 12, WS_PROC_THREAD_WAITS);
	data(&s, WS_TX, 12, "0\r\n\r\n", NULL);
	tok = reads(&s, 13, "/makes");
	tok.kind = WS_TOK_PROVISIONAL;
	calls(&c, 14, "/by-made", &tok);
	gets_answer(&c, 14);
	proc(PROC_A, 14, WS_PROC_THREAD_EXIT);
	proc(PROC_A, 13, WS_PROC_THREAD_WAITS);
	answers(&s, 13);
	end_story();
	assert_root(span_of(SPAN_CLIENT, "/in-stream"), "this thread serves several connections at a time");
	assert_root(span_of(SPAN_CLIENT, "/by-made"), "this thread serves several connections at a time");
	assert_parent(span_of(SPAN_CLIENT, "/its-own"), span_of(SPAN_SERVER, "/one"), "thread");
	assert_root(span_of(SPAN_CLIENT, "/before"), "this thread serves several connections at a time");
	assert_root(span_of(SPAN_CLIENT, "/after"), "this thread serves several connections at a time");
	assert_root(span_of(SPAN_CLIENT, "/flagged"), "this thread serves several connections at a time");
	end_test();
}

/* A select() loop with a timer of its own, before and during a long poll; a worker that stops doing so is believed again. */
static void test_thread_with_own_work(void **state_)
{
	struct ws_token tok;
	struct end s, c;

	start();
	front(&s, &c);
	calls(&c, 7, "/cron1", NULL);
	gets_answer(&c, 7);
	tok = reads(&s, 7, "/longpoll");
	calls(&c, 7, "/cron2", &tok);
	gets_answer(&c, 7);
	answers(&s, 7);
	tick(5000);
	calls(&c, 7, "/cron3", &tok);
	gets_answer(&c, 7);
	tick(29000);
	tok = reads(&s, 7, "/longpoll2");
	calls(&c, 7, "/cron4", &tok);
	gets_answer(&c, 7);
	answers(&s, 7);
	tick(31000);
	tok = reads(&s, 7, "/plain");
	calls(&c, 7, "/of-plain", &tok);
	gets_answer(&c, 7);
	answers(&s, 7);
	calls(&c, 7, "/rest-of-plain", &tok);
	gets_answer(&c, 7);
	tok = reads(&s, 7, "/plain2");
	calls(&c, 7, "/of-plain2", &tok);
	gets_answer(&c, 7);
	answers(&s, 7);
	end_story();
	assert_root(span_of(SPAN_CLIENT, "/cron1"), NULL);
	assert_root(span_of(SPAN_CLIENT, "/cron2"), "this thread also calls out by itself");
	assert_root(span_of(SPAN_CLIENT, "/cron4"), "this thread also calls out by itself");
	assert_parent(span_of(SPAN_CLIENT, "/of-plain"), span_of(SPAN_SERVER, "/plain"), "thread");
	assert_parent(span_of(SPAN_CLIENT, "/of-plain2"), span_of(SPAN_SERVER, "/plain2"), "thread");
	end_test();
}

static void test_thread_with_two(void **state_)
{
	struct ws_token tok;
	struct end s, c, s2;

	start();
	front(&s, &c);
	s2 = another_front();
	reads(&s, 7, "/one");
	tok = reads(&s2, 7, "/two");
	calls(&c, 7, "/out", &tok);
	gets_answer(&c, 7);
	answers(&s2, 7);
	answers(&s, 7);
	end_story();
	assert_root(span_of(SPAN_CLIENT, "/out"), "two requests were live on this thread");
	end_test();
}

/* While its request is open it reads what is no request, on a connection that it has accepted for that. */
static void test_thread_that_reads_others(void **state_)
{
	struct ws_token tok;
	struct end s, c, s2;

	start();
	front(&s, &c);
	s2 = make_end(PROC_A, WS_ROLE_SERVER, 81, 40001);
	announce(&s2);
	reads(&s, 7, "/in");
	tok = data(&s2, WS_RX, 7, "\x02pickled", NULL);
	calls(&c, 7, "/out", &tok);
	gets_answer(&c, 7);
	answers(&s, 7);
	end_story();
	assert_root(span_of(SPAN_CLIENT, "/out"), "its thread has read something else since its request");
	end_test();
}

static void test_thread_after_answer(void **state_)
{
	struct ws_token tok;
	struct end s, c;

	start();
	front(&s, &c);
	tok = reads(&s, 7, "/in");
	answers(&s, 7);
	calls(&c, 7, "/late", &tok);
	gets_answer(&c, 7);
	end_story();
	assert_root(span_of(SPAN_CLIENT, "/late"), "its request was over");
	end_test();
}

static void test_pipelined_in_one_read(void **state_)
{
	struct ws_token tok;
	struct end s, c;

	start();
	front(&s, &c);
	tok = data(&s, WS_RX, 7, "GET /p1 HTTP/1.1\r\nHost: b\r\n\r\nGET /p2 HTTP/1.1\r\nHost: b\r\n\r\n", NULL);
	calls(&c, 7, "/out", &tok);
	gets_answer(&c, 7);
	answers(&s, 7);
	answers(&s, 7);
	end_story();
	assert_int_equal(t.n, 3);
	assert_root(span_of(SPAN_CLIENT, "/out"), "several requests in one read");
	end_test();
}

/* A goroutine reads a request, and one that it made takes it over. */
static struct ws_token taken_over(struct end *s, uint32_t heir)
{
	struct ws_token tok;

	s->goroutine = 40;
	tok = reads(s, 7, "/in");
	tok.heirs[0] = heir;
	return tok;
}

/* A call, written by net/http's goroutine and answered. */
static void goes_out(struct end *c, const char *path, const struct ws_token *tok)
{
	calls(c, 9, path, tok);
	gets_answer(c, 5);
}

/* Who has read of a request, but not the end of its head, is not who serves it; who serves several at a time tells nothing. */
static void test_goroutine_of_others(void **state_)
{
	struct end s, c, s2;
	struct ws_token tok;

	start();
	front(&s, &c);
	s2 = another_front();
	s.goroutine = 39; /* reads the first byte, as net/http's background read does */
	data(&s, WS_RX, 7, "P", NULL);
	s.goroutine = 40;
	tok = data(&s, WS_RX, 8, "OST /in HTTP/1.1\r\nHost: b\r\nContent-Length: 4\r\n\r\n", NULL);
	goes_out(&c, "/mine", &tok);
	s.goroutine = 44; /* a worker that was given the body to read */
	tok = data(&s, WS_RX, 7, "body", NULL);
	goes_out(&c, "/worker", &tok);
	s2.goroutine = 40;
	tok = reads(&s2, 7, "/other");
	goes_out(&c, "/several", &tok);
	answers(&s, 7);
	answers(&s2, 7);
	end_story();
	assert_parent(span_of(SPAN_CLIENT, "/mine"), span_of(SPAN_SERVER, "/in"), "goroutine");
	assert_root(span_of(SPAN_CLIENT, "/worker"), "it has read of its request, but another one serves it");
	assert_root(span_of(SPAN_CLIENT, "/several"), "who has read it serves several connections at a time");
	end_test();
}

/* The same for a thread: what it calls after it has read a body is its next piece of work. */
static void test_thread_that_reads_a_body(void **state_)
{
	struct ws_token tok;
	struct end s, c;

	start();
	front(&s, &c);
	data(&s, WS_RX, 7, "POST /in HTTP/1.1\r\nHost: b\r\nContent-Length: 4\r\n\r\n", NULL);
	tok = data(&s, WS_RX, 8, "body", NULL);
	calls(&c, 8, "/worker", &tok);
	gets_answer(&c, 8);
	answers(&s, 7);
	end_story();
	assert_root(span_of(SPAN_CLIENT, "/worker"), "it has read of its request, but another one serves it");
	end_test();
}

/* Its first call is not given up while it makes another; that of a goroutine beside it is. */
static void test_goroutine_works_on(void **state_)
{
	for (int same = 0; same < 2; same++) {
		struct end s, c, c2;
		struct ws_token tok;

		start();
		front(&s, &c);
		c2 = make_end(PROC_A, WS_ROLE_CLIENT, 50009, 9000);
		announce(&c2);
		tok = taken_over(&s, 41);
		goes_out(&c, "/first", &tok);
		if (!same)
			tok.heirs[0] = 42;
		calls(&c2, 9, "/second", &tok);
		tick(5000);
		gets_answer(&c2, 5);
		proc(PROC_A, 41, WS_PROC_GOROUTINE_EXIT);
		proc(PROC_A, 42, WS_PROC_GOROUTINE_EXIT);
		answers(&s, 7);
		end_story();
		if (same)
			assert_parent(span_of(SPAN_CLIENT, "/first"), span_of(SPAN_SERVER, "/in"), "goroutine-inherited");
		else
			assert_root(span_of(SPAN_CLIENT, "/first"), "its goroutine outlived the request");
		assert_parent(span_of(SPAN_CLIENT, "/second"), span_of(SPAN_SERVER, "/in"), "goroutine-inherited");
		end_test();
	}
}

/* A task that a read has woken: the connection's own, if it answers; else a worker with a queue. */
static void test_context_woken(void **state_)
{
	for (int own = 0; own < 2; own++) {
		struct ws_token tok;
		struct end s, c;

		start();
		front(&s, &c);
		s.nonblock = c.nonblock = true;
		tok = reads(&s, 7, "/in");
		tok.kind = WS_TOK_CONTEXT;
		tok.flags |= WS_TOKEN_WOKEN;
		tok.by = 5;
		calls(&c, 7, "/out", &tok);
		gets_answer(&c, 7);
		tick(100);
		collect();
		for (size_t i = 0; i < t.n; i++)
			assert_int_equal(t.spans[i]->kind, SPAN_SERVER); /* the call's waits */
		if (!own)
			tok.by = 6;
		data(&s, WS_TX, 7, OK200, &tok);
		end_story();
		if (own)
			assert_parent(span_of(SPAN_CLIENT, "/out"), span_of(SPAN_SERVER, "/in"), "context");
		else
			assert_root(span_of(SPAN_CLIENT, "/out"), "its request was answered by another task");
		end_test();
	}
}

/* One that makes several calls may have drained a queue: believed only where nobody else was there to fill it. */
static void test_goroutine_drains(void **state_)
{
	for (int others = 0; others < 2; others++) {
		struct end s, c, s2;
		struct ws_token tok;

		start();
		front(&s, &c);
		s2 = another_front();
		tok = taken_over(&s, 41);
		goes_out(&c, "/first", &tok);
		if (others)
			reads(&s2, 8, "/other");
		goes_out(&c, "/second", &tok);
		proc(PROC_A, 41, WS_PROC_GOROUTINE_EXIT);
		tok.heirs[0] = 42; /* the next one finds a single item */
		goes_out(&c, "/single", &tok);
		proc(PROC_A, 42, WS_PROC_GOROUTINE_EXIT);
		answers(&s, 7);
		if (others)
			answers(&s2, 8);
		end_story();
		if (others)
			assert_root(span_of(SPAN_CLIENT, "/single"), "what requests start in this process has drained queues");
		else
			assert_parent(span_of(SPAN_CLIENT, "/single"), span_of(SPAN_SERVER, "/in"), "goroutine-inherited");
		for (int i = 0; i < 2; i++) {
			struct span *call = span_of(SPAN_CLIENT, i ? "/second" : "/first");

			if (others)
				assert_root(call, "its goroutine did more than one piece of work");
			else
				assert_parent(call, span_of(SPAN_SERVER, "/in"), "goroutine-inherited");
		}
		end_test();
	}
}

/* Asked once more, because no answer came: whose call that was is not known either, but nothing was drained. */
static void test_goroutine_asks_again(void **state_)
{
	for (int answered = 0; answered < 2; answered++) {
		struct end s, c, c2, s2;
		struct ws_token tok;

		start();
		front(&s, &c);
		s2 = another_front();
		tok = taken_over(&s, 41);
		reads(&s2, 8, "/other");
		calls(&c, 5, "/again", &tok);
		if (answered)
			gets_answer(&c, 5);
		else
			state(&c, WS_SS_ABANDONED, 0);
		c2 = make_end(PROC_A, WS_ROLE_CLIENT, 50009, 9000);
		announce(&c2);
		goes_out(&c2, "/again", &tok);
		proc(PROC_A, 41, WS_PROC_GOROUTINE_EXIT);
		tok.heirs[0] = 42;
		goes_out(&c2, "/single", &tok);
		proc(PROC_A, 42, WS_PROC_GOROUTINE_EXIT);
		answers(&s, 7);
		answers(&s2, 8);
		end_story();
		for (size_t i = 0; i < t.n; i++)
			if (t.spans[i]->kind == SPAN_CLIENT && str__eq(t.spans[i]->target, STR("/again")))
				assert_root(t.spans[i], "its goroutine did more than one piece of work");
		if (answered)
			assert_root(span_of(SPAN_CLIENT, "/single"), "what requests start in this process has drained queues");
		else
			assert_parent(span_of(SPAN_CLIENT, "/single"), span_of(SPAN_SERVER, "/in"), "goroutine-inherited");
		end_test();
	}
}

static void test_pipelined_and_late(void **state_)
{
	struct ws_token tok;
	struct end s, c;

	start();
	front(&s, &c);
	tok = data(&s, WS_RX, 7, "GET /p1 HTTP/1.1\r\nHost: b\r\n\r\nGET /p2 HTTP/1.1\r\nHost: b\r\n\r\n", NULL);
	tok.kind = WS_TOK_CONTEXT;
	answers(&s, 7);
	calls(&c, 7, "/late", &tok);
	gets_answer(&c, 7);
	answers(&s, 7);
	end_story();
	assert_root(span_of(SPAN_CLIENT, "/late"), "several requests in one read");
	end_test();
}

static void test_goroutine(void **state_)
{
	struct ws_token tok;
	struct end s, c;

	start();
	front(&s, &c);
	s.goroutine = 40;
	tok = reads(&s, 7, "/in");
	goes_out(&c, "/out", &tok); /* whatever thread it runs on */
	answers(&s, 8);
	goes_out(&c, "/over", &tok);
	tok.sock = 0;
	goes_out(&c, "/nobody", &tok);
	end_story();
	assert_parent(span_of(SPAN_CLIENT, "/out"), span_of(SPAN_SERVER, "/in"), "goroutine");
	assert_root(span_of(SPAN_CLIENT, "/over"), "its request was over");
	assert_root(span_of(SPAN_CLIENT, "/nobody"), "its goroutine or virtual thread has read no request");
	end_test();
}

/* The call says itself whose it is: whichever goroutine makes it, though it serves several, until that is over. */
static void test_call_that_carries_its_request(void **state_)
{
	struct ws_token first, second;
	struct end s, s2, c;

	start();
	front(&s, &c);
	s2 = another_front();
	s.goroutine = s2.goroutine = 40;
	first = reads(&s, 7, "/in");
	second = reads(&s2, 7, "/other");
	first.kind = second.kind = WS_TOK_CARRIED;
	goes_out(&c, "/first", &first);
	goes_out(&c, "/second", &second);
	answers(&s, 7);
	goes_out(&c, "/over", &first);
	answers(&s2, 7);
	end_story();
	assert_parent(span_of(SPAN_CLIENT, "/first"), span_of(SPAN_SERVER, "/in"), "request-context");
	assert_parent(span_of(SPAN_CLIENT, "/second"), span_of(SPAN_SERVER, "/other"), "request-context");
	assert_root(span_of(SPAN_CLIENT, "/over"), "its request was over");
	end_test();
}

/* Two goroutines deep: all that took the request over have to end with it, or with what they did for it. */
static void test_goroutine_inherited(void **state_)
{
	enum { WITHIN, WITH_ITS_CALL, ONE_STAYS, STAYS, OTHER_PROCESS };

	for (int how = WITHIN; how <= OTHER_PROCESS; how++) {
		struct ws_token tok;
		struct end s, c;

		start();
		front(&s, &c);
		tok = taken_over(&s, 41);
		tok.heirs[1] = 42;
		calls(&c, 9, "/child", &tok);
		if (how == WITH_ITS_CALL)
			answers(&s, 8);
		tick(1000);
		gets_answer(&c, 5);
		if (how != WITH_ITS_CALL)
			answers(&s, 8);
		tick(100);
		collect();
		for (size_t i = 0; i < t.n; i++)
			assert_int_equal(t.spans[i]->kind, SPAN_SERVER); /* the call's waits */
		if (how != STAYS)
			proc(how == OTHER_PROCESS ? PROC_B : PROC_A, 42, WS_PROC_GOROUTINE_EXIT);
		if (how != STAYS && how != ONE_STAYS)
			proc(how == OTHER_PROCESS ? PROC_B : PROC_A, 41, WS_PROC_GOROUTINE_EXIT);
		tick(500);
		proc(PROC_A, 41, WS_PROC_GOROUTINE_EXIT);
		proc(PROC_A, 42, WS_PROC_GOROUTINE_EXIT);
		end_story();
		if (how == WITHIN || how == WITH_ITS_CALL)
			assert_parent(span_of(SPAN_CLIENT, "/child"), span_of(SPAN_SERVER, "/in"), "goroutine-inherited");
		else
			assert_root(span_of(SPAN_CLIENT, "/child"), "its goroutine outlived the request");
		end_test();
	}
}

static void test_inherited(void **state_)
{
	enum { WITHIN, TOO_LATE, AT_ONCE }; /* a join returns before the kernel has ended the thread */

	for (int exits = WITHIN; exits <= AT_ONCE; exits++) {
		struct ws_token tok;
		struct end s, c;

		start();
		front(&s, &c);
		tok = reads(&s, 7, "/in");
		tok.kind = WS_TOK_PROVISIONAL;
		calls(&c, 8, "/child", &tok);
		gets_answer(&c, 8);
		if (exits == WITHIN)
			proc(PROC_A, 8, WS_PROC_THREAD_EXIT);
		answers(&s, 7);
		if (exits == TOO_LATE)
			tick(1000);
		if (exits != WITHIN)
			proc(PROC_A, 8, WS_PROC_THREAD_EXIT);
		end_story();
		if (exits == TOO_LATE)
			assert_root(span_of(SPAN_CLIENT, "/child"), "its thread outlived the request");
		else
			assert_parent(span_of(SPAN_CLIENT, "/child"), span_of(SPAN_SERVER, "/in"), "thread-inherited");
		end_test();
	}
}

static void test_single(void **state_)
{
	struct ws_token tok;
	struct end s, c, s2;

	start_with(NULL, true);
	front(&s, &c);
	s.nonblock = c.nonblock = true;
	tok = reads(&s, 7, "/one");
	calls(&c, 7, "/a", &tok);
	gets_answer(&c, 7);
	s2 = make_end(PROC_A, WS_ROLE_SERVER, 80, 40001);
	s2.nonblock = true;
	announce(&s2);
	tok = reads(&s2, 7, "/two");
	calls(&c, 7, "/b", &tok);
	gets_answer(&c, 7);
	answers(&s, 7);
	calls(&c, 7, "/b2", &tok); /* may be what /one left behind */
	gets_answer(&c, 7);
	tick(3000);
	calls(&c, 9, "/c", &tok);
	gets_answer(&c, 9);
	calls(&c, 7, "/d", &tok);
	gets_answer(&c, 7);
	answers(&s2, 7);
	end_story();
	assert_parent(span_of(SPAN_CLIENT, "/a"), span_of(SPAN_SERVER, "/one"), "single");
	assert_root(span_of(SPAN_CLIENT, "/b"), "several requests were live in this event loop");
	assert_root(span_of(SPAN_CLIENT, "/b2"), "another request had just ended in this event loop");
	assert_root(span_of(SPAN_CLIENT, "/c"), "another thread than the one that read the request");
	assert_parent(span_of(SPAN_CLIENT, "/d"), span_of(SPAN_SERVER, "/two"), "single");
	end_test();
}

/* As long as nobody vouches for it, one request alive in a reactor is not taken for the cause of anything. */
static void test_single_is_no_proof(void **state_)
{
	struct ws_token tok;
	struct end s, c;

	start();
	front(&s, &c);
	s.nonblock = c.nonblock = true;
	tok = reads(&s, 7, "/one");
	calls(&c, 7, "/a", &tok);
	gets_answer(&c, 7);
	answers(&s, 7);
	end_story();
	assert_root(span_of(SPAN_CLIENT, "/a"), "nothing tells whose work this is in an event loop");
	end_test();
}

static bool links_to(const struct span *s, const struct span *to)
{
	for (uint32_t i = 0; i < s->n_links; i++)
		if (!memcmp(s->links[i].span_id, to->span_id, 8) && !memcmp(s->links[i].trace_id, to->trace_id, 16))
			return true;
	return false;
}

/* Those that were open when the call began: what came or went before or later had no part in it. */
static void test_links_to_candidates(void **state_)
{
	for (uint32_t limit = 0; limit <= 2; limit++) {
		struct opts o = { .link_candidates = limit != 0, .link_count_limit = limit };
		struct end s, c, s2, s3;
		struct ws_token tok;
		struct span *a;

		start_opts(&o);
		front(&s, &c);
		s.nonblock = c.nonblock = true;
		reads(&s, 7, "/over");
		answers(&s, 7);
		tok = reads(&s, 7, "/one");
		s2 = make_end(PROC_A, WS_ROLE_SERVER, 80, 40001);
		s3 = make_end(PROC_A, WS_ROLE_SERVER, 80, 40002);
		s2.nonblock = s3.nonblock = true;
		announce(&s2);
		announce(&s3);
		reads(&s2, 7, "/two");
		calls(&c, 7, "/a", &tok);
		reads(&s3, 7, "/later");
		gets_answer(&c, 7);
		answers(&s, 7);
		answers(&s2, 7);
		answers(&s3, 7);
		end_story();
		a = span_of(SPAN_CLIENT, "/a");
		assert_root(a, "nothing tells whose work this is in an event loop");
		assert_int_equal(a->n_links, limit);
		assert_int_equal(a->dropped_links, limit == 1);
		assert_int_equal(links_to(a, span_of(SPAN_SERVER, "/two")), limit > 0); /* the newest first */
		assert_int_equal(links_to(a, span_of(SPAN_SERVER, "/one")), limit > 1);
		end_test();
	}
}

/* A reactor that calls out while nothing is asked of it has work of its own: being alone proves nothing there. */
static void test_single_autonomous(void **state_)
{
	struct ws_token tok = { 0 };
	struct end s, c;

	for (int before = 0; before < 2; before++) {
		start_with(NULL, true);
		front(&s, &c);
		s.nonblock = c.nonblock = true;
		if (!before) {
			tok = reads(&s, 7, "/one");
			answers(&s, 7);
		}
		calls(&c, 7, "/heartbeat1", &tok);
		gets_answer(&c, 7);
		tick(3000);
		tok = reads(&s, 7, "/two");
		calls(&c, 7, "/heartbeat2", &tok);
		gets_answer(&c, 7);
		answers(&s, 7);
		end_story();
		assert_root(span_of(SPAN_CLIENT, "/heartbeat1"), NULL);
		assert_root(span_of(SPAN_CLIENT, "/heartbeat2"), "the process also calls out by itself");
		end_test();
	}
}

/* The peer went away, the handler may still run: the next request is not the only one alive. */
static void test_single_abandoned(void **state_)
{
	struct ws_token tok;
	struct end s, c, s2;

	start_with(NULL, true);
	front(&s, &c);
	s.nonblock = c.nonblock = true;
	reads(&s, 7, "/gone");
	state(&s, WS_SS_CLOSED, ECONNRESET);
	tick(1000);
	s2 = make_end(PROC_A, WS_ROLE_SERVER, 80, 40001);
	s2.nonblock = true;
	announce(&s2);
	tok = reads(&s2, 7, "/two");
	calls(&c, 7, "/out", &tok);
	gets_answer(&c, 7);
	answers(&s2, 7);
	end_story();
	assert_root(span_of(SPAN_CLIENT, "/out"), "an abandoned request may still be running");
	assert_int_equal(span_of(SPAN_SERVER, "/gone")->status, SPAN_ERROR);
	end_test();
}

/* Contexts on one thread: whoever writes is told by the token, whatever else is open there. */
static void test_context(void **state_)
{
	struct ws_token one, two, none = { .kind = WS_TOK_CONTEXT };
	struct end s, c, s2;

	start();
	front(&s, &c);
	s2 = make_end(PROC_A, WS_ROLE_SERVER, 80, 40001);
	s.nonblock = s2.nonblock = c.nonblock = true;
	announce(&s2);
	one = reads(&s, 7, "/one");
	two = reads(&s2, 7, "/two");
	one.kind = two.kind = WS_TOK_CONTEXT;
	calls(&c, 7, "/of-one", &one);
	gets_answer(&c, 7);
	two.flags |= WS_TOKEN_ITEM;
	calls(&c, 9, "/of-two", &two);
	gets_answer(&c, 9);
	calls(&c, 7, "/of-none", &none);
	gets_answer(&c, 7);
	answers(&s, 7);
	answers(&s2, 7);
	end_story();
	assert_parent(span_of(SPAN_CLIENT, "/of-one"), span_of(SPAN_SERVER, "/one"), "context");
	assert_parent(span_of(SPAN_CLIENT, "/of-two"), span_of(SPAN_SERVER, "/two"), "executor");
	assert_root(span_of(SPAN_CLIENT, "/of-none"), "its context began in no request that was seen");
	end_test();
}

/*
 * A server takes up the next request of a connection in a copy of the context of the one before, whose answer may still be
 * on its way, or wait behind another that is. Until it is answered, what is in its context is its own.
 */
static void test_context_pipelined(void **state_)
{
	enum { UNANSWERED, ANSWERED, BEHIND } how;
	static const char big[] = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nthe beginning";

	for (how = UNANSWERED; how <= BEHIND; how++) {
		struct ws_token tok;
		struct end s, c;

		start();
		front(&s, &c);
		s.nonblock = c.nonblock = true;
		if (how == BEHIND) {
			reads(&s, 7, "/before");
			data(&s, WS_TX, 7, big, NULL);
		}
		tok = reads(&s, 7, "/one");
		tok.kind = WS_TOK_CONTEXT;
		if (how == ANSWERED)
			data(&s, WS_TX, 7, big, NULL);
		reads(&s, 7, "/two");
		calls(&c, 7, "/out", &tok);
		gets_answer(&c, 7);
		end_story();
		if (how == UNANSWERED)
			assert_parent(span_of(SPAN_CLIENT, "/out"), span_of(SPAN_SERVER, "/one"), "context");
		else
			assert_root(span_of(SPAN_CLIENT, "/out"), "its connection had brought another request by then");
		end_test();
	}
}

/* A task that waits for a connection's requests may gather them: what it does for one, and what for another? */
static void test_woken_pipelined(void **state_)
{
	enum { FIRST, LAST } of;

	for (of = FIRST; of <= LAST; of++) {
		struct ws_token one, two, *tok = of == FIRST ? &one : &two;
		struct end s, c;

		start();
		front(&s, &c);
		s.nonblock = c.nonblock = true;
		one = reads(&s, 7, "/one");
		two = reads(&s, 7, "/two");
		tok->kind = WS_TOK_CONTEXT;
		tok->flags |= WS_TOKEN_WOKEN;
		tok->by = 5;
		calls(&c, 7, "/out", tok);
		gets_answer(&c, 7);
		data(&s, WS_TX, 7, OK200, tok);
		data(&s, WS_TX, 7, OK200, tok);
		end_story();
		assert_root(span_of(SPAN_CLIENT, "/out"), "its connection had brought another request by then");
		end_test();
	}
}

/* What outlives its request is its background work, or a worker that serves whoever comes: nobody can tell. */
static void test_context_late(void **state_)
{
	struct ws_token tok;
	struct end s, c;

	start();
	front(&s, &c);
	s.nonblock = c.nonblock = true;
	tok = reads(&s, 7, "/in");
	tok.kind = WS_TOK_CONTEXT;
	calls(&c, 7, "/early", &tok);
	gets_answer(&c, 7);
	answers(&s, 7);
	calls(&c, 7, "/late", &tok);
	gets_answer(&c, 7);
	state(&s, WS_SS_CLOSED, 0);
	tick(10000);
	calls(&c, 7, "/later", &tok);
	gets_answer(&c, 7);
	end_story();
	assert_parent(span_of(SPAN_CLIENT, "/early"), span_of(SPAN_SERVER, "/in"), "context");
	assert_root(span_of(SPAN_CLIENT, "/late"), "its request was over");
	assert_root(span_of(SPAN_CLIENT, "/later"), "its request was over");
	end_test();
}

/* A blocking thread's work, in an executor: as sure as the thread's own, once it has answered. */
static void test_handed(void **state_)
{
	for (int answered_by = 7; answered_by <= 8; answered_by++) {
		struct ws_token tok;
		struct end s, c;

		start();
		front(&s, &c);
		tok = reads(&s, 7, "/in");
		tok.kind = WS_TOK_HANDED;
		tok.flags = WS_TOKEN_ITEM;
		calls(&c, 9, "/out", &tok);
		gets_answer(&c, 9);
		answers(&s, answered_by);
		end_story();
		if (answered_by == 7)
			assert_parent(span_of(SPAN_CLIENT, "/out"), span_of(SPAN_SERVER, "/in"), "executor");
		else
			assert_root(span_of(SPAN_CLIENT, "/out"), "its request was answered by another thread");
		end_test();
	}
}

/* Two requests in one read: nobody can say whose the context is. */
static void test_context_of_two(void **state_)
{
	struct ws_token tok;
	struct end s, c;

	start();
	front(&s, &c);
	s.nonblock = c.nonblock = true;
	tok = data(&s, WS_RX, 7, "GET /a HTTP/1.1\r\nHost: b\r\n\r\nGET /b HTTP/1.1\r\nHost: b\r\n\r\n", NULL);
	tok.kind = WS_TOK_CONTEXT;
	calls(&c, 7, "/out", &tok);
	gets_answer(&c, 7);
	answers(&s, 7);
	answers(&s, 7);
	end_story();
	assert_root(span_of(SPAN_CLIENT, "/out"), "several requests in one read");
	end_test();
}

static void test_callback(void **state_)
{
	struct ws_token a, b, back;
	struct end s, s2, c, c2;

	start();
	front(&s, &c);
	s2 = make_end(PROC_A, WS_ROLE_SERVER, 80, 40001);
	c2 = make_end(PROC_A, WS_ROLE_CLIENT, 50001, 8080);
	announce(&s2);
	announce(&c2);
	a = reads(&s, 7, "/one");
	a.kind = WS_TOK_CALLBACK;
	calls(&c, 7, "/one/a1", &a);
	b = reads(&s2, 7, "/two");
	b.kind = WS_TOK_DIAL;
	calls(&c2, 7, "/two/b1", &b);
	/* The response of /a1 carries /one on, on another connection. */
	back = data(&c, WS_RX, 7, OK200, NULL);
	back.kind = WS_TOK_CALLBACK;
	gets_answer(&c2, 7);
	calls(&c2, 7, "/one/a2", &back);
	gets_answer(&c2, 7);
	answers(&s, 7);
	answers(&s2, 7);
	end_story();
	assert_parent(span_of(SPAN_CLIENT, "/one/a1"), span_of(SPAN_SERVER, "/one"), "callback");
	assert_parent(span_of(SPAN_CLIENT, "/two/b1"), span_of(SPAN_SERVER, "/two"), "dial");
	assert_parent(span_of(SPAN_CLIENT, "/one/a2"), span_of(SPAN_SERVER, "/one"), "callback");
	end_test();
}

/* On the very connection that a response has just freed, the next request may be one that waited for it. */
static void test_callback_saturated(void **state_)
{
	struct ws_token a, back;
	struct end s, s2, c;

	start();
	front(&s, &c);
	s2 = another_front();
	a = reads(&s, 7, "/one");
	a.kind = WS_TOK_CALLBACK;
	calls(&c, 7, "/one/a1", &a);
	reads(&s2, 7, "/two");
	back = data(&c, WS_RX, 7, OK200, NULL);
	back.kind = WS_TOK_CALLBACK;
	calls(&c, 7, "/queued", &back);
	gets_answer(&c, 7);
	answers(&s, 7);
	answers(&s2, 7);
	end_story();
	assert_root(span_of(SPAN_CLIENT, "/queued"), "pool-saturated");
	end_test();
}

/* A timer's call looks like one of the callback that ran last: the second one, or one with another request's line. */
static void test_callback_of_timers(void **state_)
{
	struct ws_token a, b;
	struct end s, s2, c, c2;

	start();
	front(&s, &c);
	s2 = make_end(PROC_A, WS_ROLE_SERVER, 80, 40001);
	c2 = make_end(PROC_A, WS_ROLE_CLIENT, 50001, 8080);
	announce(&s2);
	announce(&c2);
	reads(&s, 7, "/delayed");
	b = reads(&s2, 7, "/now");
	b.kind = WS_TOK_CALLBACK;
	calls(&c, 7, "/delayed", &b);
	gets_answer(&c, 7);
	calls(&c2, 7, "/now", &b);
	gets_answer(&c2, 7);
	a = b;
	calls(&c2, 7, "/again", &a);
	gets_answer(&c2, 7);
	answers(&s, 7);
	answers(&s2, 7);
	end_story();
	assert_root(span_of(SPAN_CLIENT, "/delayed"), "not what the callback's request asked for");
	assert_parent(span_of(SPAN_CLIENT, "/now"), span_of(SPAN_SERVER, "/now"), "callback");
	assert_root(span_of(SPAN_CLIENT, "/again"), "a second call in one callback");
	end_test();
}

/* Two requests that ask for the same and wait for nothing: a timer may have started either. */
static void test_callback_of_equals(void **state_)
{
	struct ws_token a, b;
	struct end s, s2, c, c2;

	for (int busy = 0; busy < 2; busy++) {
		start();
		front(&s, &c);
		s2 = make_end(PROC_A, WS_ROLE_SERVER, 80, 40001);
		c2 = make_end(PROC_A, WS_ROLE_CLIENT, 50001, 8080);
		announce(&s2);
		announce(&c2);
		a = reads(&s, 7, "/same");
		a.kind = WS_TOK_CALLBACK;
		if (busy)
			calls(&c, 7, "/same/1", &a); /* waits for its answer: cannot be calling again */
		b = reads(&s2, 7, "/same");
		b.kind = WS_TOK_CALLBACK;
		calls(&c2, 7, "/same/2", &b);
		gets_answer(&c2, 7);
		if (busy)
			gets_answer(&c, 7);
		answers(&s, 7);
		answers(&s2, 7);
		end_story();
		if (busy)
			assert_string_equal(span_of(SPAN_CLIENT, "/same/2")->evidence, "callback");
		else
			assert_root(span_of(SPAN_CLIENT, "/same/2"), "another open request asks for the same");
		end_test();
	}
}

/* Connections that nobody can read bring requests of which nothing is known. */
static void test_callback_of_opaque(void **state_)
{
	struct end s, s2, c;
	struct ws_token a;

	start();
	front(&s, &c);
	s2 = make_end(PROC_A, WS_ROLE_SERVER, 443, 40001);
	announce(&s2);
	data(&s2, WS_RX, 7, "\x16\x03\x01\x02\x05\x01 client hello", NULL);
	a = reads(&s, 7, "/same");
	a.kind = WS_TOK_CALLBACK;
	calls(&c, 7, "/same/1", &a);
	gets_answer(&c, 7);
	answers(&s, 7);
	end_story();
	assert_root(span_of(SPAN_CLIENT, "/same/1"), "this event loop serves requests that cannot be read");
	end_test();
}

#define P "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
#define P_SDK "00-4bf92f3577b34da6a3ce929d0e0e4736-1111111111111111-01"

static void test_contexts(void **state_)
{
	static const uint8_t remote[8] = { 0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7 };
	static const uint8_t sdk[8] = { 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11 };
	struct end s, c, s2;

	start();
	front(&s, &c);
	s2 = make_end(PROC_A, WS_ROLE_SERVER, 80, 40001);
	s.nonblock = s2.nonblock = c.nonblock = true;
	announce(&s2);
	data(&s, WS_RX, 7, "GET /in HTTP/1.1\r\nHost: b\r\ntraceparent: " P "\r\n\r\n", NULL);
	reads(&s2, 7, "/other");
	/* Two are alive on one loop; what was received is passed on: that proves whose call it is. */
	data(&c, WS_TX, 7, "GET /fwd HTTP/1.1\r\nHost: b\r\ntraceparent: " P "\r\n\r\n", NULL);
	gets_answer(&c, 7);
	data(&c, WS_TX, 7, "GET /sdk HTTP/1.1\r\nHost: b\r\ntraceparent: " P_SDK "\r\n\r\n", NULL);
	gets_answer(&c, 7);
	answers(&s, 7);
	answers(&s2, 7);
	end_story();
	assert_memory_equal(span_of(SPAN_SERVER, "/in")->parent_id, remote, 8);
	assert_int_equal(span_of(SPAN_SERVER, "/in")->flags & 0x300, 0x300);
	assert_parent(span_of(SPAN_CLIENT, "/fwd"), span_of(SPAN_SERVER, "/in"), "header");
	assert_memory_equal(span_of(SPAN_CLIENT, "/sdk")->parent_id, sdk, 8);
	assert_memory_equal(span_of(SPAN_CLIENT, "/sdk")->trace_id, span_of(SPAN_SERVER, "/in")->trace_id, 16);
	end_test();
}

/* Whatever came since, a request that is open is known to have brought its context. */
static void test_context_of_an_open_request(void **state_)
{
	struct end s, c, busy;

	start();
	front(&s, &c);
	busy = another_front();
	s.nonblock = busy.nonblock = c.nonblock = true;
	carries(&s, WS_RX, 7, "/in", P, NULL);
	for (unsigned i = 1; i <= 40000; i++) {
		char other[64];

		snprintf(other, sizeof(other), "00-%032x-%016x-01", i, i);
		carries(&busy, WS_RX, 7, "/busy", other, NULL);
		answers(&busy, 7);
		if (i % 100)
			continue;
		tick(2500);
		collect();
		while (t.n)
			span__free(t.spans[--t.n]);
	}
	carries(&c, WS_TX, 7, "/fwd", P, NULL);
	gets_answer(&c, 7);
	answers(&s, 7);
	end_story();
	assert_parent(span_of(SPAN_CLIENT, "/fwd"), span_of(SPAN_SERVER, "/in"), "header");
	end_test();
}

/* Who writes a stream is known when it begins: what calls for it later need not wait for its end. */
static void test_thread_that_streams(void **state_)
{
	struct ws_token tok;
	struct end s, c;

	start();
	front(&s, &c);
	tok = reads(&s, 7, "/in");
	data(&s, WS_TX, 7, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", NULL);
	calls(&c, 7, "/out", &tok);
	gets_answer(&c, 7);
	tick(1500); /* by now it would have waited for others, if it served any */
	tick(2500);
	tick(100); /* batches leave behind the tick that fills them */
	collect();
	assert_int_equal(t.n, 1);
	assert_string_equal(t.spans[0]->evidence, "thread");
	data(&s, WS_TX, 7, "0\r\n\r\n", NULL);
	end_story();
	assert_parent(span_of(SPAN_CLIENT, "/out"), span_of(SPAN_SERVER, "/in"), "thread");
	end_test();
}

static void test_connect_failed(void **state_)
{
	struct ws_ev_sock e = { .ev = { .type = WS_EV_SOCK, .len = sizeof(e) } };
	struct ws_token tok;
	struct end s, c, d;

	start();
	front(&s, &c);
	tok = reads(&s, 7, "/in");
	for (int inside = 0; inside < 2; inside++) {
		d = make_end(PROC_A, WS_ROLE_CLIENT, 0, 8081);
		e.sock = d.id;
		e.ev.ts = t.now++;
		e.family = AF_INET;
		e.role = WS_ROLE_CLIENT;
		e.flags = WS_SOCK_CONNECTING;
		e.tgid = PROC_A;
		e.tid = 7;
		e.rport = 8081;
		if (inside)
			e.token = tok;
		pipeline__event(t.p, &e.ev);
		state(&d, WS_SS_FAILED, ECONNREFUSED);
	}
	answers(&s, 7);
	end_story();
	assert_int_equal(t.n, 2); /* the one outside of a request is no span */
	assert_parent(span_of(SPAN_CLIENT, ""), span_of(SPAN_SERVER, "/in"), "thread");
	assert_true(str__eq(span__find(span_of(SPAN_CLIENT, ""), "error.type")->s, STR("refused")));
	end_test();
}

/* A lost event is a hole in the sequence: what it held is not guessed. */
static void test_lost_event(void **state_)
{
	struct end s;

	start();
	s = make_end(PROC_A, WS_ROLE_SERVER, 80, 40000);
	announce(&s);
	reads(&s, 1, "/a");
	answers(&s, 1);
	s.pos[WS_RX] += 60; /* a request that was never seen … */
	s.seq[WS_RX]++;
	answers(&s, 1); /* … and its response */
	reads(&s, 1, "/c");
	answers(&s, 1);
	end_story();
	span_of(SPAN_SERVER, "/a");
	span_of(SPAN_SERVER, "/c");
	assert_int_equal(t.n, 2);
	assert_int_equal(stats.gap_bytes, 60);
	end_test();
}

/* Events of many sockets in any order, allocation failures included: no crash, and the books balance. */
static void test_failing_allocations(void **state_)
{
	for (long n = 0; n < 400; n++) {
		struct opts o = { .link_candidates = true, .link_count_limit = 128 };
		struct end s, c, b;
		struct ws_token tok;

		start_opts(&o);
		mem__fail_after(n);
		front(&s, &c);
		b = make_end(PROC_B, WS_ROLE_SERVER, 8080, 50000);
		announce(&b);
		tok = reads(&s, 7, "/in");
		calls(&c, 7, "/out", &tok);
		reads(&b, 9, "/out");
		answers(&b, 9);
		gets_answer(&c, 7);
		answers(&s, 7);
		mem__fail_after(-1);
		end_story();
		end_test();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_server_alone),
		cmocka_unit_test(test_join),
		cmocka_unit_test(test_no_join_of_other_bytes),
		cmocka_unit_test(test_join_unix),
		cmocka_unit_test(test_join_unix_shifted),
		cmocka_unit_test(test_join_unix_address_again),
		cmocka_unit_test(test_thread),
		cmocka_unit_test(test_thread_hands_off),
		cmocka_unit_test(test_thread_of_several_connections),
		cmocka_unit_test(test_thread_that_waits_for_others),
		cmocka_unit_test(test_thread_with_own_work),
		cmocka_unit_test(test_thread_with_two),
		cmocka_unit_test(test_thread_after_answer),
		cmocka_unit_test(test_thread_that_reads_others),
		cmocka_unit_test(test_pipelined_in_one_read),
		cmocka_unit_test(test_pipelined_and_late), cmocka_unit_test(test_goroutine_drains),
		cmocka_unit_test(test_goroutine_asks_again),
		cmocka_unit_test(test_context_woken), cmocka_unit_test(test_goroutine_works_on),
		cmocka_unit_test(test_goroutine_of_others),
		cmocka_unit_test(test_thread_that_reads_a_body), cmocka_unit_test(test_goroutine),
		cmocka_unit_test(test_call_that_carries_its_request),
		cmocka_unit_test(test_goroutine_inherited), cmocka_unit_test(test_inherited),
		cmocka_unit_test(test_single),
		cmocka_unit_test(test_single_is_no_proof),
		cmocka_unit_test(test_links_to_candidates),
		cmocka_unit_test(test_single_autonomous),
		cmocka_unit_test(test_single_abandoned),
		cmocka_unit_test(test_context),
		cmocka_unit_test(test_context_pipelined), cmocka_unit_test(test_woken_pipelined),
		cmocka_unit_test(test_context_late),
		cmocka_unit_test(test_handed),
		cmocka_unit_test(test_context_of_two),
		cmocka_unit_test(test_callback),
		cmocka_unit_test(test_callback_saturated),
		cmocka_unit_test(test_callback_of_timers),
		cmocka_unit_test(test_callback_of_equals),
		cmocka_unit_test(test_callback_of_opaque),
		cmocka_unit_test(test_contexts),
		cmocka_unit_test(test_context_of_an_open_request),
		cmocka_unit_test(test_thread_that_streams),
		cmocka_unit_test(test_connect_failed),
		cmocka_unit_test(test_lost_event),
		cmocka_unit_test(test_failing_allocations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
