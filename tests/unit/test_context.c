// SPDX-License-Identifier: Apache-2.0
/* Vectors for trace contexts: W3C Trace Context level 2 and its test suite, B3. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "user/proto/context.h"

#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"
#define SPAN "00f067aa0ba902b7"
#define GOOD "00-" TRACE "-" SPAN "-01"

/* On the heap, at its exact size: reading on is seen. */
static struct str exact(const char *s)
{
	size_t n = strlen(s);
	char *p = malloc(n ? n : 1);

	memcpy(p, s, n);
	return (struct str){ p, n };
}

static void hex(char *out, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		snprintf(out + 2 * i, 3, "%02x", p[i]);
}

static void expect(const struct trace_context *ctx, const char *trace, const char *span, int flags)
{
	char text[33];

	assert_true(ctx->valid);
	hex(text, ctx->trace_id, 16);
	assert_string_equal(text, trace);
	hex(text, ctx->span_id, 8);
	assert_string_equal(text, span);
	assert_int_equal(ctx->flags, flags);
}

static void test_traceparent(void **state)
{
	static const struct {
		const char *value;
		int flags; /* -1: not valid */
	} rows[] = {
		{ GOOD, 1 },
		{ "00-" TRACE "-" SPAN "-00", 0 },
		{ "00-" TRACE "-" SPAN "-03", 3 },
		{ "00-" TRACE "-" SPAN "-ff", 3 },
		{ "cc-" TRACE "-" SPAN "-01", 1 },
		{ "cc-" TRACE "-" SPAN "-01-what-the-future-will-be-like", 1 },
		{ "cc-" TRACE "-" SPAN "-01-", 1 },
		{ "fe-" TRACE "-" SPAN "-01", 1 },
		{ "cc-" TRACE "-" SPAN "-01.what", -1 },
		{ "cc-" TRACE "-" SPAN "-01a", -1 },
		{ "ff-" TRACE "-" SPAN "-01", -1 },
		{ "00-" TRACE "-" SPAN "-01-", -1 },
		{ "00-" TRACE "-" SPAN "-01.", -1 },
		{ "00-" TRACE "-" SPAN "-01-x", -1 },
		{ "00-" TRACE "-" SPAN "-0", -1 },
		{ "00-" TRACE "-" SPAN "-", -1 },
		{ "00-" TRACE "-" SPAN, -1 },
		{ "00-" TRACE, -1 },
		{ "00", -1 },
		{ "", -1 },
		{ "00-00000000000000000000000000000000-" SPAN "-01", -1 },
		{ "00-" TRACE "-0000000000000000-01", -1 },
		{ "00-4BF92F3577B34DA6A3CE929D0E0E4736-" SPAN "-01", -1 },
		{ "00-" TRACE "-00F067AA0BA902B7-01", -1 },
		{ "00-" TRACE "-" SPAN "-0A", -1 },
		{ "0A-" TRACE "-" SPAN "-01", -1 },
		{ "00-" TRACE "-" SPAN "-0x", -1 },
		{ ".0-" TRACE "-" SPAN "-01", -1 },
		{ "0.-" TRACE "-" SPAN "-01", -1 },
		{ "00-ggf92f3577b34da6a3ce929d0e0e4736-" SPAN "-01", -1 },
		{ "00-" TRACE "-xxf067aa0ba902b7-01", -1 },
		{ "00_" TRACE "-" SPAN "-01", -1 },
		{ "00-" TRACE "_" SPAN "-01", -1 },
		{ "00-" TRACE "-" SPAN "_01", -1 },
		{ "00-" TRACE "0-" SPAN "-01", -1 },
		{ " " GOOD, -1 },
		{ GOOD " ", -1 },
		{ GOOD "," GOOD, -1 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct trace_context ctx = { .flags = 77 };
		struct str v = exact(rows[i].value);
		int err = context__parse_traceparent(&ctx, v);

		if ((err == 0) != (rows[i].flags >= 0))
			fail_msg("\"%s\": %d", rows[i].value, err);
		if (err == 0)
			expect(&ctx, TRACE, SPAN, rows[i].flags);
		else
			assert_int_equal(ctx.flags, 77);
		free((char *)v.p);
	}
}

static void test_tracestate(void **state)
{
	char key256[300], key257[300], value256[300], value257[300], many[400] = "";
	struct {
		const char *value;
		bool valid;
	} rows[] = {
		{ "a=1", true },
		{ "a=1,b=2", true },
		{ "a=1 ,\tb=2", true },
		{ "a=1,,b=2", true },
		{ "a=1,", true },
		{ "a=1, ,", true },
		{ "tenant@system=x", true },
		{ "0a_-*/@=!~", true },
		{ "a= x", true },
		{ "a=1,a=2", true },
		{ "foo=1", true },
		{ "", false },
		{ " ,\t", false },
		{ "a", false },
		{ "a=", false },
		{ "=1", false },
		{ "a=1=2", false },
		{ "A=1", false },
		{ "a b=1", false },
		{ "a =1", false },
		{ "@a=1", false },
		{ "a=b\x01", false },
		{ "a=\xc3\xa9", false },
		{ "a=1;b=2,c", false },
		{ key256, true },
		{ key257, false },
		{ value256, true },
		{ value257, false },
		{ many, true },
	};
	struct str v;

	memset(key257, 'k', 257);
	memcpy(key257 + 257, "=1", 3);
	memcpy(key256, key257 + 1, 259);
	memset(value257, 'v', 259);
	memcpy(value257, "a=", 2);
	value257[259] = '\0';
	memcpy(value256, value257, 258);
	value256[258] = '\0';
	for (int i = 0; i < 32; i++)
		snprintf(many + strlen(many), sizeof(many) - strlen(many), "k%d=1,", i);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		v = exact(rows[i].value);
		if (context__tracestate_valid(v) != rows[i].valid)
			fail_msg("\"%s\"", rows[i].value);
		free((char *)v.p);
	}
	strcat(many, "one=more");
	v = exact(many);
	assert_false(context__tracestate_valid(v));
	free((char *)v.p);
}

static void test_b3(void **state)
{
	static const char padded[] = "0000000000000000a3ce929d0e0e4736";
	static const struct {
		const char *value, *trace;
		int flags;
	} rows[] = {
		{ TRACE "-" SPAN "-1-05e3ac9a4f6e3b90", TRACE, 1 },
		{ TRACE "-" SPAN "-1", TRACE, 1 },
		{ TRACE "-" SPAN "-0", TRACE, 0 },
		{ TRACE "-" SPAN "-d", TRACE, 1 },
		{ TRACE "-" SPAN, TRACE, 1 },
		{ "a3ce929d0e0e4736-" SPAN "-1", padded, 1 },
		{ "0", NULL, 0 },
		{ "1", NULL, 0 },
		{ "d", NULL, 0 },
		{ "", NULL, 0 },
		{ TRACE, NULL, 0 },
		{ TRACE "-" SPAN "-", NULL, 0 },
		{ TRACE "-" SPAN "-2", NULL, 0 },
		{ TRACE "-" SPAN "-true", NULL, 0 },
		{ TRACE "-" SPAN "-1-", NULL, 0 },
		{ TRACE "-" SPAN "-1-05e3", NULL, 0 },
		{ TRACE "-" SPAN "-1-05e3ac9a4f6e3b90-x", NULL, 0 },
		{ TRACE "-00f0-1", NULL, 0 },
		{ "4bf92f-" SPAN "-1", NULL, 0 },
		{ "00000000000000000000000000000000-" SPAN "-1", NULL, 0 },
		{ TRACE "-0000000000000000-1", NULL, 0 },
		{ "4BF92F3577B34DA6A3CE929D0E0E4736-" SPAN "-1", NULL, 0 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct trace_context ctx = { 0 };
		struct str v = exact(rows[i].value);
		int err = context__parse_b3(&ctx, v);

		if ((err == 0) != (rows[i].trace != NULL))
			fail_msg("\"%s\": %d", rows[i].value, err);
		if (err == 0)
			expect(&ctx, rows[i].trace, SPAN, rows[i].flags);
		free((char *)v.p);
	}
}

static void extract(struct trace_context *ctx, struct context_headers h)
{
	memset(ctx, 0xff, sizeof(*ctx));
	context__extract(ctx, &h);
}

#define MULTI .b3_trace_id = STR("0000000000000000000000000000000a"), .b3_span_id = STR("000000000000000b")
#define T_MULTI "0000000000000000000000000000000a"
#define S_MULTI "000000000000000b"

static void test_precedence(void **state)
{
	struct trace_context ctx;

	extract(&ctx, (struct context_headers){ 0 });
	assert_false(ctx.valid);
	extract(&ctx, (struct context_headers){ .traceparent = STR(GOOD), .n_traceparent = 1, .b3 = STR("0"), MULTI });
	expect(&ctx, TRACE, SPAN, 1);
	assert_int_equal(ctx.tracestate.len, 0);
	extract(&ctx, (struct context_headers){ .traceparent = STR(GOOD), .n_traceparent = 2 });
	assert_false(ctx.valid);
	extract(&ctx, (struct context_headers){
			      .traceparent = STR(GOOD), .n_traceparent = 1, .tracestate = STR("a=1,b=2 ") });
	expect(&ctx, TRACE, SPAN, 1);
	assert_true(str__eq(ctx.tracestate, STR("a=1,b=2 ")));
	extract(&ctx, (struct context_headers){ .traceparent = STR(GOOD), .n_traceparent = 1, .tracestate = STR("=") });
	expect(&ctx, TRACE, SPAN, 1);
	assert_int_equal(ctx.tracestate.len, 0);
	/* An invalid traceparent takes its tracestate with it; B3 is the next to be asked. */
	extract(&ctx, (struct context_headers){
			      .traceparent = STR("00-x"), .n_traceparent = 1, .tracestate = STR("a=1"), MULTI });
	expect(&ctx, T_MULTI, S_MULTI, 1);
	assert_int_equal(ctx.tracestate.len, 0);
	extract(&ctx, (struct context_headers){ .b3 = STR(TRACE "-" SPAN "-0"), MULTI });
	expect(&ctx, TRACE, SPAN, 0);
	extract(&ctx, (struct context_headers){ .b3 = STR("nonsense"), MULTI, .b3_sampled = STR("0") });
	expect(&ctx, T_MULTI, S_MULTI, 0);
	extract(&ctx, (struct context_headers){ MULTI, .b3_sampled = STR("0"), .b3_flags = STR("1") });
	expect(&ctx, T_MULTI, S_MULTI, 1);
	extract(&ctx, (struct context_headers){ MULTI, .b3_sampled = STR("true"), .b3_flags = STR("0") });
	expect(&ctx, T_MULTI, S_MULTI, 1);
	extract(&ctx, (struct context_headers){ MULTI, .b3_sampled = STR("false") });
	expect(&ctx, T_MULTI, S_MULTI, 0);
	extract(&ctx, (struct context_headers){ MULTI, .b3_sampled = STR("maybe") });
	expect(&ctx, T_MULTI, S_MULTI, 1);
	assert_false(ctx.deny);
	/* A decision alone. */
	extract(&ctx, (struct context_headers){ .b3 = STR("0") });
	assert_true(!ctx.valid && ctx.deny);
	extract(&ctx, (struct context_headers){ .b3_sampled = STR("false") });
	assert_true(!ctx.valid && ctx.deny);
	extract(&ctx, (struct context_headers){ .b3 = STR("1"), .b3_sampled = STR("maybe") });
	assert_false(ctx.valid || ctx.deny);
	extract(&ctx, (struct context_headers){ .b3 = STR("1"), .b3_sampled = STR("0") });
	assert_true(!ctx.valid && !ctx.deny);
	extract(&ctx, (struct context_headers){ .b3 = STR("1"), MULTI, .b3_sampled = STR("0") });
	assert_true(ctx.valid && ctx.flags == 1 && !ctx.deny);
	extract(&ctx, (struct context_headers){ .b3 = STR("0"), MULTI, .b3_sampled = STR("1") });
	assert_true(!ctx.valid && ctx.deny);
	extract(&ctx, (struct context_headers){ .b3_sampled = STR("0"), .b3_flags = STR("1") });
	assert_false(ctx.valid || ctx.deny);
	extract(&ctx, (struct context_headers){ .traceparent = STR(GOOD), .n_traceparent = 1, .b3 = STR("0") });
	assert_true(ctx.valid && !ctx.deny);
	extract(&ctx, (struct context_headers){ .b3_trace_id = STR(T_MULTI) });
	assert_false(ctx.valid);
	extract(&ctx, (struct context_headers){ .b3_sampled = STR("1"), .b3_span_id = STR(S_MULTI) });
	assert_false(ctx.valid);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_traceparent),
		cmocka_unit_test(test_tracestate),
		cmocka_unit_test(test_b3),
		cmocka_unit_test(test_precedence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
