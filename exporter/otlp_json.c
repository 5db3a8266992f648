// SPDX-License-Identifier: Apache-2.0
/*
 * Keys in lowerCamelCase, ids in hex, enums as numbers, 64-bit integers as strings; what has its default value is left
 * out, except a span's status (OTLP specification 1.11, "JSON Protobuf Encoding"; Collector file exporter 0.158).
 * The first failure sticks, and what follows it writes nothing.
 */
#include "exporter/otlp_json.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "exporter/otlp_encode.h"
#include "user/base/utf8.h"

struct out {
	struct dynbuf *buf;
	int err;
};

static void put(struct out *o, const char *p, size_t n)
{
	if (!o->err)
		o->err = dynbuf__append(o->buf, p, n);
}

#define put_lit(o, lit) put(o, lit, sizeof(lit) - 1)

static bool is_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x80 && c != '"' && c != '\\' && c != 0x7f;
}

/* Writes the character at s (1..4 bytes, `n` left) as JSON has it; returns its length. */
static size_t put_char(struct out *o, const char *s, size_t n)
{
	unsigned char c = (unsigned char)*s;
	char esc[8];
	size_t step;
	bool bad;

	if (c == '"' || c == '\\') {
		esc[0] = '\\';
		esc[1] = (char)c;
		put(o, esc, 2);
		return 1;
	}
	if (c == '\n' || c == '\r' || c == '\t') {
		put(o, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t", 2);
		return 1;
	}
	if (c < 0x20 || c == 0x7f) {
		snprintf(esc, sizeof(esc), "\\u%04x", c);
		put(o, esc, 6);
		return 1;
	}
	step = utf8__next(s, n, &bad);
	if (bad)
		put_lit(o, UTF8_REPLACEMENT);
	else
		put(o, s, step);
	return step;
}

static void put_string(struct out *o, struct str s)
{
	size_t i = 0, run;

	put_lit(o, "\"");
	while (i < s.len) {
		for (run = i; run < s.len && is_plain((unsigned char)s.p[run]); run++)
			;
		if (run > i)
			put(o, s.p + i, run - i);
		i = run;
		if (i < s.len)
			i += put_char(o, s.p + i, s.len - i);
	}
	put_lit(o, "\"");
}

static void put_hex(struct out *o, const uint8_t *p, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	char hex[2 * 16];

	for (size_t i = 0; i < n; i++) {
		hex[2 * i] = digits[p[i] >> 4];
		hex[2 * i + 1] = digits[p[i] & 15];
	}
	put(o, hex, 2 * n);
}

static void put_u64(struct out *o, uint64_t v)
{
	char text[20], *p = text + sizeof(text);

	do
		*--p = (char)('0' + v % 10);
	while (v /= 10);
	put(o, p, (size_t)(text + sizeof(text) - p));
}

static void put_i64(struct out *o, int64_t v)
{
	if (v < 0)
		put_lit(o, "-");
	put_u64(o, v < 0 ? -(uint64_t)v : (uint64_t)v);
}

static void put_double(struct out *o, double d)
{
	char text[32];

	if (isnan(d)) {
		put_lit(o, "\"NaN\"");
		return;
	}
	if (isinf(d)) {
		put_string(o, d < 0 ? STR("-Infinity") : STR("Infinity"));
		return;
	}
	snprintf(text, sizeof(text), "%.15g", d);
	if (strtod(text, NULL) != d)
		snprintf(text, sizeof(text), "%.17g", d);
	for (char *p = text; *p; p++) { /* some locales have a comma */
		if (*p == ',')
			*p = '.';
	}
	put(o, text, strlen(text));
}

static void put_attr(struct out *o, const struct attr *a)
{
	put_lit(o, "{\"key\":");
	put_string(o, str__of(a->key));
	put_lit(o, ",\"value\":{");
	switch (a->type) {
	case ATTR_STR:
		put_lit(o, "\"stringValue\":");
		put_string(o, a->s);
		break;
	case ATTR_INT:
		put_lit(o, "\"intValue\":\"");
		put_i64(o, a->i);
		put_lit(o, "\"");
		break;
	case ATTR_BOOL:
		if (a->b)
			put_lit(o, "\"boolValue\":true");
		else
			put_lit(o, "\"boolValue\":false");
		break;
	case ATTR_DOUBLE:
		put_lit(o, "\"doubleValue\":");
		put_double(o, a->d);
		break;
	}
	put_lit(o, "}}");
}

static void put_attrs(struct out *o, const struct attr *attrs, size_t n)
{
	put_lit(o, "\"attributes\":[");
	for (size_t i = 0; i < n; i++) {
		if (i)
			put_lit(o, ",");
		put_attr(o, &attrs[i]);
	}
	put_lit(o, "]");
}

static void put_ids(struct out *o, const struct span *s)
{
	static const uint8_t none[sizeof(s->parent_id)];

	put_lit(o, "{\"traceId\":\"");
	put_hex(o, s->trace_id, sizeof(s->trace_id));
	put_lit(o, "\",\"spanId\":\"");
	put_hex(o, s->span_id, sizeof(s->span_id));
	put_lit(o, "\"");
	if (s->trace_state.len) {
		put_lit(o, ",\"traceState\":");
		put_string(o, s->trace_state);
	}
	if (memcmp(s->parent_id, none, sizeof(none)) != 0) {
		put_lit(o, ",\"parentSpanId\":\"");
		put_hex(o, s->parent_id, sizeof(s->parent_id));
		put_lit(o, "\"");
	}
}

static void put_status(struct out *o, const struct span *s)
{
	put_lit(o, ",\"status\":{");
	if (s->status_message.len) {
		put_lit(o, "\"message\":");
		put_string(o, s->status_message);
	}
	if (s->status != SPAN_UNSET) {
		if (s->status_message.len)
			put_lit(o, ",");
		put_lit(o, "\"code\":");
		put_u64(o, s->status);
	}
	put_lit(o, "}");
}

static void put_links(struct out *o, const struct span *s)
{
	for (uint32_t i = 0; i < s->n_links; i++) {
		const struct span_link *l = &s->links[i];

		if (i)
			put_lit(o, ",");
		else
			put_lit(o, ",\"links\":[");
		put_lit(o, "{\"traceId\":\"");
		put_hex(o, l->trace_id, sizeof(l->trace_id));
		put_lit(o, "\",\"spanId\":\"");
		put_hex(o, l->span_id, sizeof(l->span_id));
		put_lit(o, "\",\"flags\":");
		put_u64(o, l->flags);
		put_lit(o, "}");
	}
	if (s->n_links)
		put_lit(o, "]");
	if (s->dropped_links) {
		put_lit(o, ",\"droppedLinksCount\":");
		put_u64(o, s->dropped_links);
	}
}

static void put_span(struct out *o, const struct span *s)
{
	put_ids(o, s);
	if (s->flags) {
		put_lit(o, ",\"flags\":");
		put_u64(o, s->flags);
	}
	if (s->name.len) {
		put_lit(o, ",\"name\":");
		put_string(o, s->name);
	}
	put_lit(o, ",\"kind\":");
	put_u64(o, s->kind);
	put_lit(o, ",\"startTimeUnixNano\":\"");
	put_u64(o, s->start_ns);
	put_lit(o, "\",\"endTimeUnixNano\":\"");
	put_u64(o, s->end_ns);
	put_lit(o, "\"");
	if (s->n_attrs) {
		put_lit(o, ",");
		put_attrs(o, s->attrs, s->n_attrs);
	}
	if (s->dropped_attrs) {
		put_lit(o, ",\"droppedAttributesCount\":");
		put_u64(o, s->dropped_attrs);
	}
	put_links(o, s);
	put_status(o, s);
	put_lit(o, "}");
}

static void put_group(struct out *o, const struct group_set *set, const struct group *g)
{
	put_lit(o, "{\"resource\":{");
	if (g->res && g->res->n_attrs)
		put_attrs(o, g->res->attrs, g->res->n_attrs);
	put_lit(o, "},\"scopeSpans\":[{\"scope\":{\"name\":\"" OTLP_SCOPE_NAME "\",\"version\":\"" WS_VERSION
		   "\"},\"spans\":[");
	for (uint32_t i = g->first; i != GROUP_END && !o->err; i = set->next[i]) {
		if (i != g->first)
			put_lit(o, ",");
		put_span(o, set->spans[i]);
	}
	put_lit(o, "],\"schemaUrl\":\"" OTLP_SCHEMA_URL "\"}],\"schemaUrl\":\"" OTLP_SCHEMA_URL "\"}");
}

int otlp_json__encode(struct group_set *groups, const struct batch *b, struct dynbuf *out)
{
	struct out o = { .buf = out };

	dynbuf__reset(out);
	o.err = group_set__build(groups, b);
	put_lit(&o, "{\"resourceSpans\":[");
	for (uint32_t i = 0; !o.err && i < groups->n; i++) {
		if (i)
			put_lit(&o, ",");
		put_group(&o, groups, &groups->groups[i]);
	}
	put_lit(&o, "]}\n");
	return o.err;
}
