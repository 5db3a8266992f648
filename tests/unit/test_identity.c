// SPDX-License-Identifier: Apache-2.0
/* Traces: who decides whether one is exported, whose context is believed, how long a chain may get. */
#include "tests/unit/story.h"

#include "user/sample/sample.h"

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define UPSTREAM "b7ad6b7169203331"
#define SAMPLED "00-" TRACE "-" UPSTREAM "-01"
#define UNSAMPLED "00-" TRACE "-" UPSTREAM "-00"

static const uint8_t trace_id[16] = { 0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd,
				      0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c };
static const uint8_t upstream[8] = { 0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31 };

/* ---- the decision ---------------------------------------------------------------------------------- */

static void count_push(void *ctx, struct span *s, uint64_t now)
{
	assert_int_equal(now, 7);
	++*(unsigned int *)ctx;
	span__free(s);
}

/* Bit 0 alone decides: the others of the byte say something else. */
static void test_sampled_bit(void **state_)
{
	unsigned int passed = 0, dropped = 0;
	struct sample_next next = { count_push, &passed };

	memset(&stats, 0, sizeof(stats));
	for (uint32_t flags = 0; flags < 0x400; flags++) {
		struct span *s = span__new();

		assert_non_null(s);
		s->flags = flags;
		sample__push(&next, s, 7);
		dropped += !(flags & 1);
		assert_int_equal(passed, flags + 1 - dropped);
		assert_int_equal(stats.rows[ST_SAMPLE].dropped[DROP_SAMPLED_OUT], dropped);
	}
	assert_int_equal(stats.rows[ST_SAMPLE].in, 0x400);
	assert_int_equal(stats.rows[ST_SAMPLE].out, 0x200);
	assert_true(stats__check(&stats, NULL));
}

/* The caller has decided against the trace: that holds for everything below, which other requests do not share. */
static void test_upstream_decides(void **state_)
{
	static const struct {
		const char *traceparent;
		uint32_t flags;
	} v[] = { { UNSAMPLED, 0 },
		  { "00-" TRACE "-" UPSTREAM "-02", 2 },
		  { "00-" TRACE "-" UPSTREAM "-fe", 2 },
		  { SAMPLED, 1 },
		  { "00-" TRACE "-" UPSTREAM "-03", 3 },
		  { "00-" TRACE "-" UPSTREAM "-ff", 3 } };

	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		bool sampled = v[i].flags & 1;
		struct end s, c, b;
		struct ws_token tok;

		start();
		front(&s, &c);
		b = make_end(PROC_B, WS_ROLE_SERVER, 8080, 50000);
		announce(&b);
		tok = carries(&s, WS_RX, 7, "/in", v[i].traceparent, NULL);
		calls(&c, 7, "/out", &tok);
		reads(&b, 9, "/out"); /* joined: inherits, though no header tells */
		answers(&b, 9);
		gets_answer(&c, 7);
		answers(&s, 7);
		reads(&s, 7, "/free");
		answers(&s, 7);
		end_story();
		assert_int_equal(stats.rows[ST_MATCH].out, 4);
		assert_int_equal(stats.rows[ST_SAMPLE].dropped[DROP_SAMPLED_OUT], sampled ? 0 : 3);
		assert_int_equal(t.n, sampled ? 4 : 1);
		assert_memory_not_equal(span_of(SPAN_SERVER, "/free")->trace_id, trace_id, 16);
		assert_int_equal(span_of(SPAN_SERVER, "/free")->flags & 0xff, 3);
		if (sampled) {
			assert_memory_equal(span_of(SPAN_SERVER, "/in")->parent_id, upstream, 8);
			assert_parent(span_of(SPAN_CLIENT, "/out"), span_of(SPAN_SERVER, "/in"), "thread");
			assert_parent(span_of(SPAN_SERVER, "/out"), span_of(SPAN_CLIENT, "/out"), "join");
			for (size_t k = 0; k < t.n; k++)
				if (!memcmp(t.spans[k]->trace_id, trace_id, 16))
					assert_int_equal(t.spans[k]->flags & 0xff, v[i].flags);
		}
		end_test();
	}
}

/* An SDK inside the process decides for its own calls, and nobody else's. */
static void test_sdk_decides(void **state_)
{
	struct end s, c;

	start();
	front(&s, &c);
	reads(&s, 7, "/in");
	carries(&c, WS_TX, 7, "/out", UNSAMPLED, NULL);
	gets_answer(&c, 7);
	answers(&s, 7);
	end_story();
	assert_int_equal(t.n, 1);
	span_of(SPAN_SERVER, "/in");
	assert_int_equal(stats.rows[ST_SAMPLE].dropped[DROP_SAMPLED_OUT], 1);
	end_test();
}

/* Switched off, headers neither name parents nor decide. */
static void test_header_off(void **state_)
{
	struct end s, c;

	start_with("header", false);
	front(&s, &c);
	carries(&s, WS_RX, 7, "/in", UNSAMPLED, NULL);
	carries(&c, WS_TX, 7, "/out", UNSAMPLED, NULL);
	gets_answer(&c, 7);
	answers(&s, 7);
	end_story();
	assert_memory_not_equal(span_of(SPAN_SERVER, "/in")->trace_id, trace_id, 16);
	assert_root(span_of(SPAN_SERVER, "/in"), NULL);
	assert_root(span_of(SPAN_CLIENT, "/out"), "evidence switched off");
	end_test();
}

/* ---- contexts that came more than once --------------------------------------------------------------- */

#define CAME_OFTEN "the context that it passes on came with several requests, or with one that is over"

/* A retry, or a caller that reuses its ids: which of them a forwarded call belongs to is not told. */
static void test_context_of_several(void **state_)
{
	enum { BOTH_OPEN, FIRST_OVER, ALL_OVER };

	for (int open = BOTH_OPEN; open <= ALL_OVER; open++) {
		struct end s, c, s2;

		start();
		front(&s, &c);
		s2 = make_end(PROC_A, WS_ROLE_SERVER, 80, 40001);
		announce(&s2);
		s.nonblock = s2.nonblock = c.nonblock = true;
		carries(&s, WS_RX, 7, "/one", SAMPLED, NULL);
		if (open != BOTH_OPEN)
			answers(&s, 7);
		if (open != ALL_OVER)
			carries(&s2, WS_RX, 7, "/two", SAMPLED, NULL);
		carries(&c, WS_TX, 7, "/fwd", SAMPLED, NULL);
		gets_answer(&c, 7);
		if (open == BOTH_OPEN)
			answers(&s, 7);
		if (open != ALL_OVER)
			answers(&s2, 7);
		end_story();
		assert_root(span_of(SPAN_CLIENT, "/fwd"), CAME_OFTEN);
		assert_memory_not_equal(span_of(SPAN_CLIENT, "/fwd")->trace_id, trace_id, 16);
		assert_memory_equal(span_of(SPAN_SERVER, "/one")->parent_id, upstream, 8);
		end_test();
	}
}

/* What one process received proves nothing about another that sends the same, and nothing about a similar context. */
static void test_context_of_others(void **state_)
{
	static const char *const similar[] = { "00-" TRACE "-b7ad6b7169203332-01",
					       "00-0af7651916cd43dd8448eb211c80319d-" UPSTREAM "-01" };
	struct end s, c;

	for (size_t i = 0; i < 2; i++) {
		start();
		front(&s, &c);
		s.nonblock = c.nonblock = true;
		carries(&s, WS_RX, 7, "/in", SAMPLED, NULL);
		carries(&c, WS_TX, 7, "/sdk", similar[i], NULL);
		gets_answer(&c, 7);
		answers(&s, 7);
		end_story();
		assert_memory_not_equal(span_of(SPAN_CLIENT, "/sdk")->parent_id, span_of(SPAN_SERVER, "/in")->span_id, 8);
		assert_null(span_of(SPAN_CLIENT, "/sdk")->orphan); /* an SDK's */
		end_test();
	}
	start();
	front(&s, &c);
	c.tgid = PROC_B;
	carries(&s, WS_RX, 7, "/in", SAMPLED, NULL);
	carries(&c, WS_TX, 8, "/other", SAMPLED, NULL);
	gets_answer(&c, 8);
	answers(&s, 7);
	end_story();
	assert_memory_equal(span_of(SPAN_CLIENT, "/other")->parent_id, upstream, 8);
	end_test();
}

/* The thread proves what the context does not: which of two requests with the same context is passed on. */
static void test_context_of_several_on_threads(void **state_)
{
	struct end s, c, s2, c2;
	struct ws_token tok, tok2;

	start();
	front(&s, &c);
	s2 = make_end(PROC_A, WS_ROLE_SERVER, 80, 40001);
	c2 = make_end(PROC_A, WS_ROLE_CLIENT, 50001, 8080);
	announce(&s2);
	announce(&c2);
	tok = carries(&s, WS_RX, 7, "/one", SAMPLED, NULL);
	tok2 = carries(&s2, WS_RX, 8, "/two", SAMPLED, NULL);
	carries(&c, WS_TX, 7, "/one/fwd", SAMPLED, &tok);
	carries(&c2, WS_TX, 8, "/two/fwd", SAMPLED, &tok2);
	gets_answer(&c, 7);
	gets_answer(&c2, 8);
	answers(&s, 7);
	answers(&s2, 9); /* another thread: its reader has proved nothing */
	tick(1);
	assert_int_equal(stats.rows[ST_MATCH].held, 0);
	end_story();
	assert_parent(span_of(SPAN_CLIENT, "/one/fwd"), span_of(SPAN_SERVER, "/one"), "thread");
	assert_root(span_of(SPAN_CLIENT, "/two/fwd"), "its request was answered by another thread");
	end_test();
}

/* ---- long chains ------------------------------------------------------------------------------------- */

#define HOPS_MAX 200

/*
 * Requests nested `hops` deep, each waiting for the next; the last one asks somebody on another node, if `outside`.
 * Returns how many spans have no parent.
 */
static unsigned int nested(int hops, uint8_t token_kind, bool outside)
{
	static struct end s[HOPS_MAX + 1], c[HOPS_MAX + 1];
	bool loop = token_kind == WS_TOK_CALLBACK; /* a proxy that asks itself; else one service asks the next */
	unsigned int roots = 0, outermost = 0;
	struct ws_token tok;

	start();
	for (int i = 0; i <= hops; i++) {
		uint32_t tgid = loop ? PROC_A : 1000u + (uint32_t)i;

		s[i] = make_end(tgid, WS_ROLE_SERVER, 8080, (uint16_t)(20000 + i));
		announce(&s[i]);
		tok = reads(&s[i], tgid, "/deep");
		tok.kind = token_kind;
		if (i == hops && !outside)
			break;
		c[i] = make_end(tgid, WS_ROLE_CLIENT, (uint16_t)(20001 + i), 8080);
		announce(&c[i]);
		calls(&c[i], tgid, "/deep", &tok);
	}
	for (int i = hops; i >= 0; i--) {
		if (i < hops || outside)
			gets_answer(&c[i], c[i].tgid);
		answers(&s[i], s[i].tgid);
	}
	end_story();
	assert_int_equal(t.n, 2 * hops + 1 + outside);
	for (size_t i = 0; i < t.n; i++) {
		if (memcmp(t.spans[i]->parent_id, zeros, 8))
			continue;
		roots++;
		if (t.spans[i]->kind == SPAN_SERVER && !t.spans[i]->orphan)
			assert_int_equal(++outermost, 1);
		else
			assert_root(t.spans[i], "nested too deep");
	}
	assert_int_equal(outermost, 1);
	end_test();
	return roots;
}

/* Identity comes down a chain of parents by recursion: as deep as the stack is sure to bear, then a new trace. */
static void test_long_chains(void **state_)
{
	static const uint8_t kinds[] = { WS_TOK_THREAD, WS_TOK_CALLBACK };

	for (size_t i = 0; i < sizeof(kinds); i++) {
		for (int outside = 0; outside < 2; outside++) {
			assert_int_equal(nested(100, kinds[i], outside), 1);
			assert_int_equal(nested(128 - outside, kinds[i], outside), 1);
			assert_int_equal(nested(129 - outside, kinds[i], outside), 2);
			assert_int_equal(nested(HOPS_MAX, kinds[i], outside), 2);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sampled_bit),
		cmocka_unit_test(test_upstream_decides),
		cmocka_unit_test(test_sdk_decides),
		cmocka_unit_test(test_header_off),
		cmocka_unit_test(test_context_of_several),
		cmocka_unit_test(test_context_of_others),
		cmocka_unit_test(test_context_of_several_on_threads),
		cmocka_unit_test(test_long_chains),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
