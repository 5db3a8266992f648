// SPDX-License-Identifier: Apache-2.0
/* Work items of executors (user/match/work.c). */
#include "tests/unit/story.h"

static int64_t number_of(const struct span *s, const char *name)
{
	const struct attr *a = span__find(s, name);

	assert_non_null(a);
	return a->i;
}

/* A request is read in an event loop: what a work item of it carries. */
static struct ws_token start_with_item(struct end *s, struct end *c)
{
	struct ws_token tok;

	start();
	front(s, c);
	s->nonblock = c->nonblock = true;
	tok = reads(s, 7, "/in");
	tok.kind = WS_TOK_CONTEXT;
	tok.flags |= WS_TOKEN_ITEM;
	return tok;
}

/* A work item has a span of its own, which its thread's calls are below; the same token in another thread is not it. */
static void test_work_item(void **state_)
{
	struct ws_token tok, none = { .kind = WS_TOK_CONTEXT };
	struct span *item;
	struct end s, c;

	tok = start_with_item(&s, &c);
	work(PROC_A, 9, &tok);
	calls(&c, 9, "/out", &tok);
	gets_answer(&c, 9);
	work(PROC_A, 9, NULL);
	calls(&c, 10, "/elsewhere", &tok);
	gets_answer(&c, 10);
	work(PROC_A, 9, NULL); /* twice: nothing to end */
	work(PROC_A, 9, &none);
	calls(&c, 9, "/nobody", &none);
	gets_answer(&c, 9);
	work(PROC_A, 9, NULL);
	answers(&s, 7);
	end_story();
	item = span_of(SPAN_INTERNAL, "");
	assert_true(str__eq(item->name, STR("executor")));
	assert_parent(item, span_of(SPAN_SERVER, "/in"), "executor");
	assert_parent(span_of(SPAN_CLIENT, "/out"), item, "executor");
	assert_parent(span_of(SPAN_CLIENT, "/elsewhere"), span_of(SPAN_SERVER, "/in"), "executor");
	assert_root(span_of(SPAN_CLIENT, "/nobody"), "its context began in no request that was seen");
	assert_int_equal(number_of(item, "wirespan.executor.wait_ns"), 5000000);
	assert_int_equal(number_of(item, "wirespan.executor.wait_ns") + number_of(item, "wirespan.executor.run_ns"),
			 item->end_ns - item->start_ns);
	assert_int_equal(number_of(item, "thread.id"), 9);
	assert_null(span__find(item, "wirespan.unfinished"));
	end_test();
}

/* Its end is not told: the next begins, its thread or process ends, or nothing comes. */
static void test_work_item_without_end(void **state_)
{
	enum { NEXT, THREAD, PROCESS, NOTHING, __END_CNT };

	for (int end = 0; end < __END_CNT; end++) {
		struct ws_token tok, none = { .kind = WS_TOK_CONTEXT };
		struct end s, c;

		tok = start_with_item(&s, &c);
		work(PROC_A, 9, &tok);
		calls(&c, 9, "/out", &tok);
		gets_answer(&c, 9);
		answers(&s, 7);
		if (end == NEXT)
			work(PROC_A, 9, &none);
		else if (end != NOTHING)
			proc(PROC_A, 9, end == THREAD ? WS_PROC_THREAD_EXIT : WS_PROC_EXIT);
		end_story();
		assert_parent(span_of(SPAN_INTERNAL, ""), span_of(SPAN_SERVER, "/in"), "executor");
		assert_parent(span_of(SPAN_CLIENT, "/out"), span_of(SPAN_INTERNAL, ""), "executor");
		assert_non_null(span__find(span_of(SPAN_INTERNAL, ""), "wirespan.unfinished"));
		end_test();
	}
}

/* Named by what it runs, if that is a name. */
static void test_work_item_name(void **state_)
{
	static const struct {
		const char *function, *name;
	} t[] = {
		{ "load", "load" },
		{ "Shop.cart.<locals>.<lambda>", "Shop.cart.<locals>.<lambda>" },
		{ "", "executor" },
		{ "not a name", "executor" },
		{ "\x80", "executor" },
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++) {
		struct ws_token tok;
		struct span *item;
		struct end s, c;

		tok = start_with_item(&s, &c);
		work_on(PROC_A, 9, &tok, t[i].function);
		work(PROC_A, 9, NULL);
		answers(&s, 7);
		end_story();
		item = span_of(SPAN_INTERNAL, "");
		assert_true(str__eq(item->name, str__of(t[i].name)));
		assert_int_equal(span__find(item, "code.function.name") != NULL, strcmp(t[i].name, "executor") != 0);
		end_test();
	}
}

/* Of a request that turns out not to be its own: no span, which is counted. */
static void test_work_item_unproven(void **state_)
{
	struct ws_token tok;
	struct end s, c;

	start();
	front(&s, &c);
	tok = reads(&s, 7, "/in");
	tok.kind = WS_TOK_HANDED;
	tok.flags = WS_TOKEN_ITEM;
	work(PROC_A, 9, &tok);
	calls(&c, 9, "/out", &tok);
	gets_answer(&c, 9);
	work(PROC_A, 9, NULL);
	answers(&s, 8);
	end_story();
	assert_root(span_of(SPAN_CLIENT, "/out"), "its request was answered by another thread");
	assert_int_equal(stats.rows[ST_MATCH].dropped[DROP_UNPROVEN], 1);
	end_test();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_work_item),
		cmocka_unit_test(test_work_item_name),
		cmocka_unit_test(test_work_item_without_end),
		cmocka_unit_test(test_work_item_unproven),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
