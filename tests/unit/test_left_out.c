// SPDX-License-Identifier: Apache-2.0
/* What is left out, with what else, and that nothing that is exported names it as its parent. */
#include "tests/unit/story.h"

#include "user/selection.h"

static void told(uint32_t tgid, uint32_t selected)
{
	struct ws_ev_select ev = { .ev = { .type = WS_EV_SELECT, .len = sizeof(ev), .ts = t.now }, .tgid = tgid,
				   .selected = selected };

	pipeline__event(t.p, &ev.ev);
}

/* A serves `path`, and calls B for it, which serves that. */
static void chain(const char *path, uint16_t port)
{
	struct end in = make_end(PROC_A, WS_ROLE_SERVER, 80, port), out = make_end(PROC_A, WS_ROLE_CLIENT, port, 8080),
		   b = make_end(PROC_B, WS_ROLE_SERVER, 8080, port);
	struct ws_token tok;

	in.net = 9; /* its client is not of this machine */
	announce(&in);
	announce(&out);
	announce(&b);
	tok = reads(&in, 7, path);
	calls(&out, 7, "/inner", &tok);
	reads(&b, 8, "/inner");
	answers(&b, 8);
	gets_answer(&out, 7);
	answers(&in, 7);
}

static void test_path_takes_its_calls_along(void **state_)
{
	struct opts o = { .exclude_path = (char *)"/health*, /metrics" };

	start_opts(&o);
	chain("/healthz?full=1", 50001);
	chain("/metrics", 50002);
	chain("/health", 50003);
	tick(1500);
	collect();
	assert_int_equal(t.n, 0);
	assert_int_equal(stats.rows[ST_MATCH].dropped[DROP_PATH_EXCLUDED], 9);
	chain("/ok", 50004);
	end_story();
	assert_int_equal(t.n, 3);
	assert_int_equal(stats.rows[ST_MATCH].dropped[DROP_PATH_EXCLUDED], 9);
	assert_parent(span_of(SPAN_CLIENT, "/inner"), span_of(SPAN_SERVER, "/ok"), "thread");
	assert_parent(span_of(SPAN_SERVER, "/inner"), span_of(SPAN_CLIENT, "/inner"), "join");
	assert_int_equal(stats.roots, 1); /* what is left out is no trace */
	assert_int_equal(stats.traces, 1);
	end_test();
}

/* The call alone is left out, not whoever made it; what it started is. */
static void test_path_of_a_call(void **state_)
{
	struct opts o = { .exclude_path = (char *)"/inner" };

	start_opts(&o);
	chain("/ok", 50001);
	end_story();
	assert_int_equal(t.n, 1);
	assert_root(span_of(SPAN_SERVER, "/ok"), NULL);
	assert_int_equal(stats.rows[ST_MATCH].dropped[DROP_PATH_EXCLUDED], 2);
	end_test();
}

/* Traced until it was decided that it is not to be, a client has made connections: what is asked on them waits for nothing. */
static void test_nothing_comes_of_an_unselected_client(void **state_)
{
	for (int selected = 0; selected < 2; selected++) {
		struct end c = make_end(PROC_A, WS_ROLE_CLIENT, 50000, 8080),
			   s = make_end(PROC_B, WS_ROLE_SERVER, 8080, 50000);

		start();
		told(0, WS_SELECT_NO);
		told(PROC_B, WS_SELECT_YES);
		proc(PROC_A, PROC_A, WS_PROC_EXEC);
		announce(&c);
		announce(&s);
		told(PROC_A, WS_SELECT_ANSWER | (selected ? WS_SELECT_YES : WS_SELECT_NO));
		reads(&s, 2, "/j");
		answers(&s, 2);
		assert_int_equal(stats.rows[ST_MATCH].held, selected);
		assert_int_equal(stats.rows[ST_MATCH].out, !selected);
		end_story();
		assert_root(span_of(SPAN_SERVER, "/j"), NULL);
		end_test();
	}
}

static const uint8_t remote[8] = { 0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7 };

/* PROC_A calls PROC_B, which is selected; about PROC_A, a new process, somebody has still to decide. */
static void call_of_a_new_process(const char *head)
{
	struct end c = make_end(PROC_A, WS_ROLE_CLIENT, 50000, 8080), s = make_end(PROC_B, WS_ROLE_SERVER, 8080, 50000);

	start();
	told(0, WS_SELECT_NO);
	told(PROC_B, WS_SELECT_YES);
	proc(PROC_A, PROC_A, WS_PROC_FORK);
	proc(PROC_A, PROC_A, WS_PROC_EXEC);
	announce(&c);
	announce(&s);
	data(&c, WS_TX, 1, head, NULL);
	data(&s, WS_RX, 2, head, NULL);
	answers(&s, 2);
	gets_answer(&c, 1);
	told(PROC_A, WS_SELECT_ANSWER | WS_SELECT_NO); /* to the fork */
	tick(20);
	assert_int_equal(stats.rows[ST_MATCH].out, 0);
	assert_true(pipeline__waits(t.p));
}

#define GET_J "GET /j HTTP/1.1\r\nHost: b\r\n\r\n"

static void test_late_selection(void **state_)
{
	for (int selected = 0; selected < 2; selected++) {
		call_of_a_new_process(GET_J);
		told(PROC_A, WS_SELECT_ANSWER | (selected ? WS_SELECT_YES : WS_SELECT_NO)); /* to the exec */
		proc(PROC_A, PROC_A, WS_PROC_EXIT);
		tick(20);
		assert_int_equal(stats.rows[ST_MATCH].out, selected ? 2 : 1);
		end_story();
		assert_int_equal(t.n, selected ? 2 : 1);
		if (selected)
			assert_parent(span_of(SPAN_SERVER, "/j"), span_of(SPAN_CLIENT, "/j"), "join");
		else
			assert_root(span_of(SPAN_SERVER, "/j"), NULL);
		assert_int_equal(stats.rows[ST_MATCH].dropped[DROP_UNSELECTED], !selected);
		assert_int_equal(stats.traces, 1);
		end_test();
	}
}

/* An answer that does not come is not waited for: neither for long, nor at the end. */
static void test_selection_never_answered(void **state_)
{
	for (int at_end = 0; at_end < 2; at_end++) {
		call_of_a_new_process(GET_J);
		if (!at_end) {
			tick(1000);
			assert_int_equal(stats.rows[ST_MATCH].out, 1);
		}
		pipeline__finish(t.p);
		batch_queue__close(t.q);
		collect();
		assert_int_equal(t.n, 1);
		assert_root(span_of(SPAN_SERVER, "/j"), NULL);
		pipeline__free(t.p);
		end_test();
	}
}

/* What came on the wire is a parent all the same. */
static void test_unselected_client_with_a_context(void **state_)
{
	call_of_a_new_process("GET /j HTTP/1.1\r\nHost: b\r\n"
			      "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n");
	told(PROC_A, WS_SELECT_ANSWER | WS_SELECT_NO);
	end_story();
	assert_int_equal(t.n, 1);
	assert_memory_equal(t.spans[0]->parent_id, remote, 8);
	assert_string_equal(t.spans[0]->evidence, "header");
	end_test();
}

/* ---- telemetry ----------------------------------------------------------------------------------- */

#define POST_LOGS "POST /v1/logs HTTP/1.1\r\nHost: b\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
#define TAKEN "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
#define EMPTY "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
#define PLAIN "HTTP/1.1 202 Accepted\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
#define BUSY "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
#define THROTTLED "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
#define NO_SUCH_PATH "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
#define NO_SUCH_METHOD "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n"

/* A posts what looks like telemetry to B, which asks its own server about it and answers; NULL: hangs up. */
static void posts(struct end *c, struct end *s, const char *answer)
{
	struct end aside = make_end(PROC_B, WS_ROLE_CLIENT, 50009, 9000);
	struct ws_token tok;

	announce(&aside);
	data(c, WS_TX, 1, POST_LOGS, NULL);
	tok = data(s, WS_RX, 2, POST_LOGS, NULL);
	calls(&aside, 2, "/may-it", &tok);
	gets_answer(&aside, 2);
	if (answer) {
		data(s, WS_TX, 2, answer, NULL);
		data(c, WS_RX, 1, answer, NULL);
		return;
	}
	state(s, WS_SS_CLOSED, 0);
	state(c, WS_SS_CLOSED, 0);
	tick(500);
}

static void pair(struct end *c, struct end *s, uint16_t port)
{
	*c = make_end(PROC_A, WS_ROLE_CLIENT, port, 4318);
	*s = make_end(PROC_B, WS_ROLE_SERVER, 4318, port);
	announce(c);
	announce(s);
}

static void on_receiver(void *ctx, uint32_t tgid)
{
	assert_int_equal(tgid, PROC_B);
	++*(int *)ctx;
}

static int receivers;
static const struct pipeline_hooks receiver_hooks = { .telemetry_receiver = on_receiver, .ctx = &receivers };

/* The story of one request that is answered so. */
static void posted(const char *answer)
{
	struct opts o = { 0 };
	struct end c, s;

	receivers = 0;
	start_hooks(&o, &receiver_hooks);
	pair(&c, &s, 50000);
	posts(&c, &s, answer);
	end_story();
}

/* Anybody can send anybody what looks like telemetry, and have such a path for something else. */
static void test_a_path_of_somebody_else(void **state_)
{
	static const char *const answers_[] = { NO_SUCH_PATH, NO_SUCH_METHOD };

	for (int i = 0; i < 2; i++) {
		posted(answers_[i]);
		assert_int_equal(receivers, 0);
		assert_int_equal(t.n, 3);
		assert_parent(span_of(SPAN_SERVER, "/v1/logs"), span_of(SPAN_CLIENT, "/v1/logs"), "join");
		assert_parent(span_of(SPAN_CLIENT, "/may-it"), span_of(SPAN_SERVER, "/v1/logs"), "thread");
		assert_int_equal(stats.rows[ST_MATCH].dropped[DROP_TELEMETRY], 0);
		end_test();
	}
}

/* Our own export, refused or not answered, would be exported again. But that makes nobody a receiver. */
static void test_refused_telemetry(void **state_)
{
	static const char *const answers_[] = { BUSY, THROTTLED, PLAIN, NULL };

	for (int i = 0; i < 4; i++) {
		posted(answers_[i]);
		assert_int_equal(receivers, 0);
		assert_int_equal(t.n, 0);
		assert_int_equal(stats.rows[ST_MATCH].in, 3);
		assert_int_equal(stats.rows[ST_MATCH].dropped[DROP_TELEMETRY], 3); /* with what was asked for it */
		end_test();
	}
}

/* Many sinks do not say what their answer is made of, or make it of nothing. */
static void test_a_receiver_of_few_words(void **state_)
{
	static const char *const answers_[] = {
		EMPTY,
		OK200,
		"HTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n",
	};

	for (int i = 0; i < 4; i++) {
		posted(answers_[i]);
		assert_int_equal(receivers, 1);
		assert_int_equal(t.n, 0);
		assert_int_equal(stats.rows[ST_MATCH].dropped[DROP_TELEMETRY], 3);
		end_test();
	}
}

static void test_a_receiver(void **state_)
{
	struct opts o = { 0 };
	struct end c, s, c2, s2;

	receivers = 0;
	start_hooks(&o, &receiver_hooks);
	pair(&c, &s, 50000);
	pair(&c2, &s2, 50001);
	posts(&c, &s, TAKEN);
	posts(&c, &s, TAKEN);
	assert_int_equal(receivers, 1);
	tick(100);
	assert_int_equal(stats.rows[ST_MATCH].out, 0);
	assert_int_equal(stats.rows[ST_MATCH].dropped[DROP_TELEMETRY], 6); /* with what was asked for it */
	calls(&c2, 1, "/before", NULL);
	reads(&s2, 2, "/before");
	answers(&s2, 2);
	gets_answer(&c2, 1);
	told(PROC_B, WS_SELECT_RECEIVER);
	calls(&c2, 1, "/after", NULL);
	reads(&s2, 2, "/after");
	answers(&s2, 2);
	gets_answer(&c2, 1);
	posts(&c, &s, TAKEN);
	end_story();
	assert_int_equal(t.n, 3);
	assert_parent(span_of(SPAN_SERVER, "/before"), span_of(SPAN_CLIENT, "/before"), "join");
	assert_root(span_of(SPAN_CLIENT, "/after"), NULL);
	assert_int_equal(stats.rows[ST_MATCH].dropped[DROP_RECEIVER], 2); /* /after and /may-it */
	assert_int_equal(stats.rows[ST_MATCH].dropped[DROP_TELEMETRY], 8);
	end_test();
}

/* A program that takes its place has to show it again. */
static void test_a_receiver_is_replaced(void **state_)
{
	struct opts o = { 0 };
	struct end c, s;

	receivers = 0;
	start_hooks(&o, &receiver_hooks);
	pair(&c, &s, 50000);
	posts(&c, &s, TAKEN);
	proc(PROC_B, PROC_B, WS_PROC_EXEC);
	posts(&c, &s, TAKEN);
	end_story();
	assert_int_equal(receivers, 2);
	end_test();
}

/* ---- the table ----------------------------------------------------------------------------------- */

static struct selection *sel;

static void tell(uint32_t tgid, uint32_t selected)
{
	struct ws_ev_select ev = { .ev = { .type = WS_EV_SELECT, .len = sizeof(ev) }, .tgid = tgid, .selected = selected };

	selection__told(sel, &ev);
}

static void test_numbers_come_again(void **state_)
{
	sel = selection__new();
	assert_int_equal(selection__of(sel, 5, 1), MATCH_SELECTED);
	tell(5, WS_SELECT_RECEIVER);
	assert_int_equal(selection__of(sel, 5, 1), MATCH_RECEIVER);
	selection__exit(sel, 5);
	assert_int_equal(selection__of(sel, 5, 1), MATCH_RECEIVER); /* for late spans */
	selection__ask(sel, 5, 1, 2);
	assert_int_equal(selection__of(sel, 5, 2), MATCH_SELECTED);
	tell(0, WS_SELECT_NO);
	assert_int_equal(selection__of(sel, 5, 2), MATCH_UNSELECTED);
	selection__ask(sel, 5, 1, 3);
	tell(5, WS_SELECT_YES); /* no answer: what it says is from before */
	assert_int_equal(selection__of(sel, 5, 3), MATCH_UNDECIDED);
	tell(5, WS_SELECT_ANSWER | WS_SELECT_YES);
	assert_int_equal(selection__of(sel, 5, 3), MATCH_SELECTED);
	selection__exit(sel, 5);
	selection__ask(sel, 5, 1, 4);
	selection__close(sel);
	assert_int_equal(selection__of(sel, 5, 4), MATCH_UNSELECTED);
	selection__free(sel);
}

/* What a receiver has forked is one, until it runs another program: that is waited for, whoever is selected. */
static void test_program_of_a_receiver(void **state_)
{
	sel = selection__new();
	selection__ask(sel, 6, 5, 1); /* nobody is left out: nobody is asked about */
	assert_int_equal(selection__of(sel, 6, 1), MATCH_SELECTED);
	assert_int_equal(selection__open(sel), 0);
	tell(5, WS_SELECT_RECEIVER);
	selection__ask(sel, 6, 5, 2);
	assert_int_equal(selection__of(sel, 6, 2), MATCH_UNDECIDED);
	selection__ask(sel, 6, 5, 3); /* the other program */
	tell(6, WS_SELECT_ANSWER | WS_SELECT_RECEIVER);
	assert_int_equal(selection__of(sel, 6, 3), MATCH_UNDECIDED);
	tell(6, WS_SELECT_ANSWER | WS_SELECT_YES);
	assert_int_equal(selection__of(sel, 6, 3), MATCH_SELECTED);
	selection__ask(sel, 7, 5, 4);
	tell(7, WS_SELECT_ANSWER | WS_SELECT_RECEIVER);
	assert_int_equal(selection__of(sel, 7, 4), MATCH_RECEIVER);
	assert_int_equal(selection__open(sel), 0);
	selection__free(sel);
}

/* A machine that starts processes all day long. */
static void test_the_dead_are_forgotten(void **state_)
{
	sel = selection__new();
	tell(0, WS_SELECT_NO);
	for (uint32_t pid = 10; pid < 5000; pid++) {
		selection__ask(sel, pid, 1, pid);
		if (pid % 2)
			selection__exit(sel, pid);
		tell(pid, WS_SELECT_ANSWER | WS_SELECT_YES);
		selection__exit(sel, pid);
	}
	assert_int_equal(selection__open(sel), 0);
	assert_int_equal(selection__of(sel, 10, 6000), MATCH_UNSELECTED);
	assert_int_equal(selection__of(sel, 4999, 6000), MATCH_SELECTED);
	for (uint32_t pid = 4999; pid >= 4000; pid--) /* from the middle of the list of the dead */
		selection__ask(sel, pid, 1, 6000);
	assert_int_equal(selection__open(sel), 1000);
	for (uint32_t pid = 4999; pid >= 4000; pid--)
		selection__exit(sel, pid);
	selection__free(sel);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_path_takes_its_calls_along),
		cmocka_unit_test(test_path_of_a_call),
		cmocka_unit_test(test_late_selection),
		cmocka_unit_test(test_selection_never_answered),
		cmocka_unit_test(test_nothing_comes_of_an_unselected_client),
		cmocka_unit_test(test_unselected_client_with_a_context),
		cmocka_unit_test(test_a_path_of_somebody_else),
		cmocka_unit_test(test_refused_telemetry),
		cmocka_unit_test(test_a_receiver_of_few_words),
		cmocka_unit_test(test_a_receiver),
		cmocka_unit_test(test_a_receiver_is_replaced),
		cmocka_unit_test(test_numbers_come_again),
		cmocka_unit_test(test_program_of_a_receiver),
		cmocka_unit_test(test_the_dead_are_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
