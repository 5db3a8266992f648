// SPDX-License-Identifier: Apache-2.0
/* CPython's greenlets: many on one thread, told apart by where their frames are, and that place is used again. */
#include "story.h"

#define OTHER_TASK "its request was answered by another task"
#define SEVERAL "who has read it serves several connections at a time"

static void answers_as(struct end *e, const struct ws_token *tok)
{
	data(e, WS_TX, 7, OK200, tok);
}

/* Two greenlets of one thread, their requests open at the same time. */
static void greenlets(struct end *s1, struct end *s2, struct end *c, uint32_t first, uint32_t second)
{
	front(s1, c);
	*s2 = make_end(PROC_A, WS_ROLE_SERVER, 80, 40001);
	announce(s2);
	s1->nonblock = s2->nonblock = c->nonblock = true;
	s1->greenlet = first;
	s2->greenlet = second;
}

static void test_greenlet_calls(void **state_)
{
	struct end s1, s2, c;
	struct ws_token one, two;

	start();
	greenlets(&s1, &s2, &c, 5, 6);
	one = reads(&s1, 7, "/one");
	two = reads(&s2, 7, "/two");
	calls(&c, 7, "/of-one", &one);
	gets_answer(&c, 7);
	calls(&c, 7, "/of-two", &two);
	gets_answer(&c, 7);
	answers_as(&s2, &two);
	answers_as(&s1, &one);
	end_story();
	assert_parent(span_of(SPAN_CLIENT, "/of-one"), span_of(SPAN_SERVER, "/one"), "greenlet");
	assert_parent(span_of(SPAN_CLIENT, "/of-two"), span_of(SPAN_SERVER, "/two"), "greenlet");
	end_test();
}

/* It has ended, another began at its place: that does not answer, or is not known to. */
static void test_greenlet_answered_by_another(void **state_)
{
	struct ws_token answer[] = { { 0 }, { .kind = WS_TOK_GREENLET, .by = 6 }, { .kind = WS_TOK_THREAD, .by = 7 } };

	for (size_t i = 0; i < sizeof(answer) / sizeof(answer[0]); i++) {
		struct end s1, s2, c;
		struct ws_token tok;

		start();
		greenlets(&s1, &s2, &c, 5, 6);
		tok = reads(&s1, 7, "/in");
		calls(&c, 7, "/out", &tok);
		gets_answer(&c, 7);
		answers_as(&s1, &answer[i]);
		end_story();
		assert_root(span_of(SPAN_CLIENT, "/out"), OTHER_TASK);
		end_test();
	}
}

/* A loop of the program's own, that was not seen to wait. */
static void test_greenlet_serves_several(void **state_)
{
	struct end s1, s2, c;
	struct ws_token one, two;

	start();
	greenlets(&s1, &s2, &c, 5, 5);
	one = reads(&s1, 7, "/one");
	two = reads(&s2, 7, "/two");
	calls(&c, 7, "/out", &two);
	gets_answer(&c, 7);
	answers_as(&s2, &two);
	answers_as(&s1, &one);
	end_story();
	assert_root(span_of(SPAN_CLIENT, "/out"), SEVERAL);
	end_test();
}

/* One has read the head, another the body. */
static void test_greenlet_hands_on(void **state_)
{
	struct end s1, s2, c;
	struct ws_token tok;

	start();
	greenlets(&s1, &s2, &c, 5, 6);
	data(&s1, WS_RX, 7, "POST /in HTTP/1.1\r\nHost: b\r\nContent-Length: 4\r\n\r\n", NULL);
	s1.greenlet = 6;
	tok = data(&s1, WS_RX, 7, "body", NULL);
	calls(&c, 7, "/out", &tok);
	gets_answer(&c, 7);
	answers_as(&s1, &tok);
	end_story();
	assert_root(span_of(SPAN_CLIENT, "/out"), "it has read of its request, but another one serves it");
	end_test();
}

/* A pool's greenlet, on a thread whose other greenlets call out without any request. */
static void test_greenlet_gives_work(void **state_)
{
	struct end s1, s2, c;
	struct ws_token tok, item;

	start();
	greenlets(&s1, &s2, &c, 5, 6);
	calls(&c, 7, "/own", NULL);
	gets_answer(&c, 7);
	tick(2000);
	tok = item = reads(&s1, 7, "/in");
	item.kind = WS_TOK_HANDED;
	item.flags |= WS_TOKEN_ITEM;
	calls(&c, 7, "/out", &item);
	gets_answer(&c, 7);
	answers_as(&s1, &tok);
	end_story();
	assert_parent(span_of(SPAN_CLIENT, "/out"), span_of(SPAN_SERVER, "/in"), "executor");
	end_test();
}

/* Who read the end of a head is known however many reads there were: 8 bits count them. */
static void test_reader_of_a_long_connection(void **state_)
{
	struct end s1, s2, c;
	char in[32], out[32];

	start();
	greenlets(&s1, &s2, &c, 5, 6);
	for (int i = 0; i < 257; i++) {
		struct ws_token tok;

		snprintf(in, sizeof(in), "/in-%d", i);
		snprintf(out, sizeof(out), "/out-%d", i);
		tok = reads(&s1, 7, in);
		if (i >= 254) {
			calls(&c, 7, out, &tok);
			gets_answer(&c, 7);
		}
		answers_as(&s1, &tok);
	}
	end_story();
	for (int i = 254; i < 257; i++) {
		snprintf(in, sizeof(in), "/in-%d", i);
		snprintf(out, sizeof(out), "/out-%d", i);
		assert_parent(span_of(SPAN_CLIENT, out), span_of(SPAN_SERVER, in), "greenlet");
	}
	end_test();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_greenlet_calls),
		cmocka_unit_test(test_greenlet_answered_by_another),
		cmocka_unit_test(test_greenlet_serves_several),
		cmocka_unit_test(test_greenlet_hands_on),
		cmocka_unit_test(test_greenlet_gives_work),
		cmocka_unit_test(test_reader_of_a_long_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
