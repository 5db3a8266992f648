// SPDX-License-Identifier: Apache-2.0
/* Node.js's turns: what is believed at once, what waits for the others, and what disproves it. */
#include "tests/unit/story.h"

#define THREAD 7

static struct end in[3], out[3];

static void begin_story(void)
{
	start();
	for (int i = 0; i < 3; i++) {
		in[i] = make_end(PROC_A, WS_ROLE_SERVER, 80, (uint16_t)(40000 + i));
		out[i] = make_end(PROC_A, WS_ROLE_CLIENT, (uint16_t)(50000 + i), 9000);
		in[i].nonblock = out[i].nonblock = true;
		announce(&in[i]);
		announce(&out[i]);
	}
}

/* The turn of a read request. */
static struct ws_token turn(struct end *e, const char *path)
{
	struct ws_token tok = reads(e, THREAD, path);

	tok.kind = WS_TOK_TURN;
	return tok;
}

/* The turn of an answer to a call that was made in `cause`. */
static struct ws_token goes_on(struct end *e, const struct ws_token *cause)
{
	struct ws_token tok = *cause;

	gets_answer(e, THREAD);
	tok.flags |= WS_TOKEN_ITEM;
	memcpy(tok.heirs, &e->id, sizeof(e->id));
	return tok;
}

static void is_answered(struct end *e, const struct ws_token *turn)
{
	data(e, WS_TX, THREAD, OK200, turn);
}

static const struct ws_token outside = {.kind = WS_TOK_TURN};

/* In the turn that read it. What that has woken may be another's: believed when all were answered in turns of their own. */
static void test_direct(void **state_)
{
	for (int hidden = 0; hidden < 2; hidden++) {
		struct ws_token a, b;

		begin_story();
		b = turn(&in[1], "/other");
		a = turn(&in[0], "/in");
		calls(&out[0], THREAD, "/out", &a);
		a = goes_on(&out[0], &a);
		is_answered(&in[1], hidden ? &outside : &b);
		is_answered(&in[0], &a);
		end_story();
		if (hidden)
			assert_root(span_of(SPAN_CLIENT, "/out"), "another request was answered outside of all turns meanwhile");
		else
			assert_parent(span_of(SPAN_CLIENT, "/out"), span_of(SPAN_SERVER, "/in"), "turn");
		end_test();
	}
}

/* /in wakes /other, which waits for it in the program: its call is made in /in's turn. */
static void test_woken(void **state_)
{
	struct ws_token a, b;

	begin_story();
	turn(&in[1], "/other");
	a = turn(&in[0], "/in");
	calls(&out[0], THREAD, "/others", &a);
	is_answered(&in[0], &a);
	b = goes_on(&out[0], &a);
	is_answered(&in[1], &b);
	end_story();
	assert_null(span_of(SPAN_CLIENT, "/others")->evidence);
	end_test();
}

/*
 * A limit beside another call: /other's queued call begins on the answer to /in's, both end on the answers to their other
 * calls. Nothing is crossed.
 */
static void test_beside_another(void **state_)
{
	struct ws_token a, b, limited;

	begin_story();
	b = turn(&in[1], "/other");
	a = turn(&in[0], "/in");
	calls(&out[0], THREAD, "/limited", &a);
	calls(&out[1], THREAD, "/beside", &a);
	calls(&out[2], THREAD, "/others-beside", &b);
	limited = goes_on(&out[0], &a);
	calls(&out[0], THREAD, "/others", &limited);
	goes_on(&out[0], &limited);
	a = goes_on(&out[1], &a);
	is_answered(&in[0], &a);
	b = goes_on(&out[2], &b);
	is_answered(&in[1], &b);
	end_story();
	assert_root(span_of(SPAN_CLIENT, "/others"), "its request waited for something else too");
	assert_parent(span_of(SPAN_CLIENT, "/others-beside"), span_of(SPAN_SERVER, "/other"), "turn");
	end_test();
}

/* The same beside work for the thread pool: that it is not done comes with the call. */
static void test_beside_work(void **state_)
{
	for (int pending = 0; pending < 2; pending++) {
		struct ws_token a, b, done, limited;

		begin_story();
		b = turn(&in[1], "/other");
		a = turn(&in[0], "/in");
		calls(&out[0], THREAD, "/limited", &a);
		limited = goes_on(&out[0], &a);
		limited.flags |= pending ? WS_TOKEN_PENDING : 0;
		calls(&out[1], THREAD, "/others", &limited);
		goes_on(&out[1], &limited);
		done = a;
		done.flags |= WS_TOKEN_ITEM;
		is_answered(&in[0], &done);
		b.flags |= WS_TOKEN_ITEM;
		is_answered(&in[1], &b);
		end_story();
		if (pending)
			assert_root(span_of(SPAN_CLIENT, "/others"), "its request waited for something else too");
		else
			assert_parent(span_of(SPAN_CLIENT, "/others"), span_of(SPAN_SERVER, "/in"), "turn-continued");
		end_test();
	}
}

/* A second call, on the answer to the first: believed when the other request was answered in a turn of its own. */
static void test_continued(void **state_)
{
	struct ws_token a, b;

	begin_story();
	b = turn(&in[1], "/other");
	a = turn(&in[0], "/in");
	calls(&out[0], THREAD, "/first", &a);
	calls(&out[1], THREAD, "/others", &b);
	a = goes_on(&out[0], &a);
	calls(&out[0], THREAD, "/second", &a);
	a = goes_on(&out[0], &a);
	is_answered(&in[0], &a);
	tick(100);
	collect();
	for (size_t i = 0; i < t.n; i++)
		assert_string_not_equal(t.spans[i]->target.p, "/second"); /* it waits */
	b = goes_on(&out[1], &b);
	is_answered(&in[1], &b);
	end_story();
	assert_parent(span_of(SPAN_CLIENT, "/first"), span_of(SPAN_SERVER, "/in"), "turn");
	assert_parent(span_of(SPAN_CLIENT, "/second"), span_of(SPAN_SERVER, "/in"), "turn-continued");
	end_test();
}

/* One that is not answered is waited for, but not for ever; whose queue it was is not known then. */
static void beside_a_long_one(unsigned ms, const char *missing)
{
	struct ws_token a, b;

	begin_story();
	b = turn(&in[1], "/slow");
	a = turn(&in[0], "/in");
	calls(&out[0], THREAD, "/first", &a);
	a = goes_on(&out[0], &a);
	calls(&out[0], THREAD, "/second", &a);
	a = goes_on(&out[0], &a);
	is_answered(&in[0], &a);
	for (unsigned waited = 0; waited < ms; waited += 500)
		tick(500);
	calls(&out[1], THREAD, "/slow-call", &b);
	b = goes_on(&out[1], &b);
	is_answered(&in[1], &b);
	tick(2000);
	end_story();
	if (missing)
		assert_root(span_of(SPAN_CLIENT, "/second"), missing);
	else
		assert_parent(span_of(SPAN_CLIENT, "/second"), span_of(SPAN_SERVER, "/in"), "turn-continued");
	end_test();
}

static void test_continued_beside_a_long_one(void **state_)
{
	beside_a_long_one(5000, NULL);
	beside_a_long_one(11000, "a request that was open with its own has had no answer for long");
}

/* A queue: what /other had put there is started on the answer to /in's call, and /other answered on the answer to that. */
static void test_crossed(void **state_)
{
	struct ws_token a, b;

	begin_story();
	a = turn(&in[0], "/in");
	turn(&in[1], "/other");
	calls(&out[0], THREAD, "/first", &a);
	a = goes_on(&out[0], &a);
	calls(&out[0], THREAD, "/queued", &a);
	calls(&out[1], THREAD, "/second", &a);
	b = goes_on(&out[0], &a);
	is_answered(&in[1], &b);
	a = goes_on(&out[1], &a);
	is_answered(&in[0], &a);
	/* … and nothing is believed there for a while. */
	tick(5000);
	turn(&in[2], "/later-other");
	a = turn(&in[0], "/later");
	calls(&out[0], THREAD, "/later-first", &a);
	a = goes_on(&out[0], &a);
	calls(&out[0], THREAD, "/later-second", &a);
	a = goes_on(&out[0], &a);
	is_answered(&in[0], &a);
	end_story();
	assert_root(span_of(SPAN_CLIENT, "/first"), "requests of this process are answered in each other's turns");
	assert_root(span_of(SPAN_CLIENT, "/queued"), "requests of this process are answered in each other's turns");
	assert_root(span_of(SPAN_CLIENT, "/second"), "requests of this process are answered in each other's turns");
	assert_root(span_of(SPAN_CLIENT, "/later-second"), "requests of this process are answered in each other's turns");
	end_test();
}

/* /other is answered by a timer, so that its queued call looks like /in's to the end. */
static void test_hidden(void **state_)
{
	struct ws_token a;

	begin_story();
	a = turn(&in[0], "/in");
	turn(&in[1], "/other");
	calls(&out[0], THREAD, "/first", &a);
	a = goes_on(&out[0], &a);
	calls(&out[0], THREAD, "/queued", &a);
	goes_on(&out[0], &a);
	is_answered(&in[0], &a);
	is_answered(&in[1], &outside);
	end_story();
	assert_root(span_of(SPAN_CLIENT, "/queued"), "another request was answered outside of all turns meanwhile");
	end_test();
}

/* The queued call has not been answered when its supposed request was: neither it nor what led to it is believed. */
static void test_outlived(void **state_)
{
	struct ws_token a, b;

	begin_story();
	a = turn(&in[0], "/in");
	turn(&in[1], "/other");
	calls(&out[0], THREAD, "/first", &a);
	a = goes_on(&out[0], &a);
	calls(&out[1], THREAD, "/queued", &a);
	b = goes_on(&out[1], &a);
	calls(&out[2], THREAD, "/queued-second", &b);
	is_answered(&in[0], &a);
	gets_answer(&out[2], THREAD);
	tick(3000);
	end_story();
	assert_root(span_of(SPAN_CLIENT, "/queued-second"), "its request was answered without it");
	assert_root(span_of(SPAN_CLIENT, "/queued"), "its request was answered without it");
	end_test();
}

/* With nobody else there, whose should it be? */
static void test_alone(void **state_)
{
	struct ws_token a;

	begin_story();
	a = turn(&in[0], "/in");
	calls(&out[0], THREAD, "/first", &a);
	a = goes_on(&out[0], &a);
	calls(&out[0], THREAD, "/second", &a);
	gets_answer(&out[0], THREAD);
	is_answered(&in[0], &outside);
	end_story();
	assert_parent(span_of(SPAN_CLIENT, "/second"), span_of(SPAN_SERVER, "/in"), "turn-continued");
	end_test();
}

static void test_timer(void **state_)
{
	begin_story();
	turn(&in[0], "/in");
	calls(&out[0], THREAD, "/out", &outside);
	gets_answer(&out[0], THREAD);
	is_answered(&in[0], &outside);
	end_story();
	assert_root(span_of(SPAN_CLIENT, "/out"), "a timer, or something else that is no stream's, has called");
	end_test();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_direct),
		cmocka_unit_test(test_woken),
		cmocka_unit_test(test_beside_another), cmocka_unit_test(test_beside_work),
		cmocka_unit_test(test_continued),
		cmocka_unit_test(test_continued_beside_a_long_one), cmocka_unit_test(test_crossed),
		cmocka_unit_test(test_hidden),	 cmocka_unit_test(test_outlived),
		cmocka_unit_test(test_alone),	 cmocka_unit_test(test_timer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
