// SPDX-License-Identifier: Apache-2.0
#include "user/proto/context.h"

#include <errno.h>

#define TRACEPARENT_LEN 55 /* version 00: 2 + 1 + 32 + 1 + 16 + 1 + 2 */
#define TRACESTATE_MEMBERS 32
#define TRACESTATE_KEY 256
#define TRACESTATE_VALUE 256
#define FLAGS_KNOWN 0x03 /* sampled, random-trace-id */

/* Values plus one. Lower case only: upper case is invalid in W3C and B3 alike. */
static const uint8_t hex_values[256] = {
	['0'] = 1,  ['1'] = 2,	['2'] = 3,  ['3'] = 4,	['4'] = 5,  ['5'] = 6,	['6'] = 7,  ['7'] = 8,
	['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
};

static bool parse_hex(const char *p, size_t n_bytes, uint8_t *ret)
{
	for (size_t i = 0; i < n_bytes; i++) {
		unsigned int hi = hex_values[(uint8_t)p[2 * i]], lo = hex_values[(uint8_t)p[2 * i + 1]];

		if (!hi || !lo)
			return false;
		ret[i] = (uint8_t)((hi - 1) << 4 | (lo - 1));
	}
	return true;
}

static bool is_zero(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (p[i])
			return false;
	}
	return true;
}

static bool finish(struct trace_context *ret, struct trace_context *ctx)
{
	if (is_zero(ctx->trace_id, sizeof(ctx->trace_id)) || is_zero(ctx->span_id, sizeof(ctx->span_id)))
		return false;
	ctx->valid = true;
	*ret = *ctx;
	return true;
}

/* W3C Trace Context level 2, 3.2; a higher version may go on behind a "-" (ibid. 4.2). */
int context__parse_traceparent(struct trace_context *ret, struct str v)
{
	struct trace_context ctx = { 0 };
	uint8_t version;

	if (v.len < TRACEPARENT_LEN || !parse_hex(v.p, 1, &version) || version == 0xff)
		return -EINVAL;
	if (v.len > TRACEPARENT_LEN && (version == 0 || v.p[TRACEPARENT_LEN] != '-'))
		return -EINVAL;
	if (v.p[2] != '-' || v.p[35] != '-' || v.p[52] != '-')
		return -EINVAL;
	if (!parse_hex(v.p + 3, 16, ctx.trace_id) || !parse_hex(v.p + 36, 8, ctx.span_id) ||
	    !parse_hex(v.p + 53, 1, &ctx.flags))
		return -EINVAL;
	ctx.flags &= FLAGS_KNOWN;
	return finish(ret, &ctx) ? 0 : -EINVAL;
}

static bool is_lower_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static struct str trim(struct str s)
{
	while (s.len && (s.p[0] == ' ' || s.p[0] == '\t')) {
		s.p++;
		s.len--;
	}
	while (s.len && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t'))
		s.len--;
	return s;
}

static bool member_valid(struct str m)
{
	const char *eq = memchr(m.p, '=', m.len);
	size_t key_len, value_len;

	if (!eq)
		return false;
	key_len = (size_t)(eq - m.p);
	value_len = m.len - key_len - 1;
	if (key_len == 0 || key_len > TRACESTATE_KEY || value_len == 0 || value_len > TRACESTATE_VALUE)
		return false;
	if (!is_lower_alnum(m.p[0]))
		return false;
	for (size_t i = 1; i < key_len; i++) {
		if (!is_lower_alnum(m.p[i]) && (!m.p[i] || !strchr("_-*/@", m.p[i])))
			return false;
	}
	for (size_t i = 0; i < value_len; i++) {
		char c = eq[1 + i];

		if (c < 0x20 || c > 0x7e || c == '=')
			return false;
	}
	return true;
}

/* W3C Trace Context level 2, 3.3.1. Empty members are allowed and count for nothing. */
bool context__tracestate_valid(struct str v)
{
	unsigned int members = 0;

	while (v.len) {
		const char *comma = memchr(v.p, ',', v.len);
		size_t n = comma ? (size_t)(comma - v.p) : v.len;
		struct str m = trim((struct str){ v.p, n });

		if (m.len && (!member_valid(m) || ++members > TRACESTATE_MEMBERS))
			return false;
		v.p += comma ? n + 1 : n;
		v.len -= comma ? n + 1 : n;
	}
	return members > 0;
}

/* ---- B3 (openzipkin/b3-propagation) ----------------------------------------------------------------- */

static bool parse_b3_trace_id(struct str v, uint8_t ret[16])
{
	if (v.len == 32)
		return parse_hex(v.p, 16, ret);
	memset(ret, 0, 8);
	return v.len == 16 && parse_hex(v.p, 8, ret + 8); /* 64-bit ids are padded on the left */
}

/*
 * No decision means that it is left to the receiver. The flags have no word for that; "sampled" is nearer to it than
 * "not sampled", which B3 says with an explicit 0.
 */
static int b3_state(struct str v, uint8_t *ret_flags)
{
	*ret_flags = 1;
	if (v.len == 0 || str__eq(v, STR("1")) || str__eq(v, STR("d")) || str__eq(v, STR("true")))
		return 0;
	*ret_flags = 0;
	return str__eq(v, STR("0")) || str__eq(v, STR("false")) ? 0 : -EINVAL;
}

static struct str next_field(struct str *rest)
{
	const char *dash = rest->len ? memchr(rest->p, '-', rest->len) : NULL;
	struct str field = { rest->p, dash ? (size_t)(dash - rest->p) : rest->len };

	if (dash) {
		rest->p = dash + 1;
		rest->len -= field.len + 1;
	} else {
		*rest = STR_NULL;
	}
	return field;
}

/* {trace id}-{span id}[-{state}[-{parent span id}]]; a state alone names no parent. */
int context__parse_b3(struct trace_context *ret, struct str value)
{
	struct trace_context ctx = { 0 };
	struct str rest = value, trace = next_field(&rest), span = next_field(&rest), state, parent;
	bool has_state = rest.p != NULL, has_parent;
	uint8_t ignored[8];

	state = next_field(&rest);
	has_parent = rest.p != NULL;
	parent = next_field(&rest);
	if (rest.p || !parse_b3_trace_id(trace, ctx.trace_id) || span.len != 16 || !parse_hex(span.p, 8, ctx.span_id))
		return -EINVAL;
	if (has_state && (state.len != 1 || b3_state(state, &ctx.flags) < 0))
		return -EINVAL;
	if (has_parent && (parent.len != 16 || !parse_hex(parent.p, 8, ignored)))
		return -EINVAL;
	if (!has_state)
		ctx.flags = 1;
	return finish(ret, &ctx) ? 0 : -EINVAL;
}

/* "{x-b3-sampled}" alone, in one header or in many: 1 accepted, 0 denied, -1 nothing was decided. */
static int decision(struct str value)
{
	uint8_t flags;

	return value.len && b3_state(value, &flags) == 0 ? flags : -1;
}

static void extract_b3_multi(struct trace_context *ret, const struct context_headers *h)
{
	struct trace_context ctx = { 0 };

	if (!parse_b3_trace_id(h->b3_trace_id, ctx.trace_id) || h->b3_span_id.len != 16 ||
	    !parse_hex(h->b3_span_id.p, 8, ctx.span_id))
		return;
	if (b3_state(h->b3_sampled, &ctx.flags) < 0) /* nonsense is as good as absent */
		ctx.flags = 1;
	if (str__eq(h->b3_flags, STR("1"))) /* debug implies sampled */
		ctx.flags = 1;
	finish(ret, &ctx);
}

void context__extract(struct trace_context *ret, const struct context_headers *h)
{
	int single;

	*ret = (struct trace_context){ 0 };
	/* More than one traceparent: none of them is used (test suite of W3C Trace Context). */
	if (h->n_traceparent == 1 && context__parse_traceparent(ret, h->traceparent) == 0) {
		if (h->tracestate.len && context__tracestate_valid(h->tracestate))
			ret->tracestate = h->tracestate;
		return;
	}
	if (h->b3.p && context__parse_b3(ret, h->b3) == 0)
		return;
	single = decision(h->b3);
	if (single && h->b3_trace_id.p)
		extract_b3_multi(ret, h);
	if (single > 0) /* where both are given the single header counts */
		ret->flags |= ret->valid;
	else
		ret->deny = !single || (!ret->valid && !decision(h->b3_sampled) && !str__eq(h->b3_flags, STR("1")));
}
