// SPDX-License-Identifier: Apache-2.0
/*
 * Protobuf written back to front.
 *
 * A length-delimited field is preceded by its length, which is known only when its content is. Written from the end of
 * the buffer towards its start, the content comes first and the length is simply what was written: one pass, nothing is
 * sized twice or moved. So everything here is called in the reverse of the order in which it appears on the wire.
 * `make bench-encode` compares this with packing a tree of protobuf-c structs; the unit test decodes with protobuf-c.
 *
 * Each put_*() makes sure that there is room. The first failure sticks, and what follows it writes nothing.
 */
#include "exporter/otlp_encode.h"

#include <endian.h>
#include <errno.h>

#include "exporter/group.h"
#include "user/base/copy.h"
#include "user/base/mem.h"
#include "user/base/utf8.h"

#define BUF_MIN ((size_t)16 << 10)
#define FIELD_MAX 20u /* tag and length, or tag and scalar, of any field that we write */

/* Wire types (protobuf encoding guide) */
enum { WIRE_VARINT = 0, WIRE_I64 = 1, WIRE_LEN = 2, WIRE_I32 = 5 };

struct otlp_encoder {
	struct otlp_encode_opts o;
	struct group_set groups;
	uint8_t *buf;
	size_t cap;
	size_t at; /* buf[at..cap) is written */
	int err;
};

struct otlp_encoder *otlp_encoder__new(const struct otlp_encode_opts *o)
{
	struct otlp_encoder *e = mem__zalloc(sizeof(*e));

	if (e)
		e->o = *o;
	return e;
}

void otlp_encoder__free(struct otlp_encoder *e)
{
	if (!e)
		return;
	group_set__free(&e->groups);
	mem__free(e->buf);
	mem__free(e);
}

/* ---- the writer --------------------------------------------------------------------------------- */

static int grow(struct otlp_encoder *e, size_t need)
{
	size_t used = e->cap - e->at, cap = e->cap ? e->cap : BUF_MIN;
	uint8_t *buf;

	if (need > OTLP_MAX_REQUEST || used > OTLP_MAX_REQUEST)
		return -E2BIG;
	while (cap - used < need)
		cap *= 2;
	buf = mem__alloc(cap);
	if (!buf)
		return -ENOMEM;
	if (used)
		memcpy(buf + cap - used, e->buf + e->at, used);
	mem__free(e->buf);
	e->buf = buf;
	e->cap = cap;
	e->at = cap - used;
	return 0;
}

/* True if n bytes and a field's tag and length have room in front of what is there. */
static inline bool have_room(struct otlp_encoder *e, size_t n)
{
	if (__builtin_expect(n + FIELD_MAX <= e->at, 1))
		return !e->err;
	if (!e->err)
		e->err = grow(e, n + FIELD_MAX);
	return !e->err;
}

/* Bytes written so far: the difference of two marks is the length of what lies between. */
static inline size_t mark(const struct otlp_encoder *e)
{
	return e->cap - e->at;
}

/*
 * The back_*() write in front of p, where there has to be room, and return what they wrote. A pointer in a register:
 * through `e` each byte would be followed by loading everything anew, since it might have changed that.
 */
static __attribute__((noinline)) uint8_t *back_long_varint(uint8_t *p, uint64_t v)
{
	uint8_t *start;
	size_t n = 1;

	for (uint64_t rest = v >> 7; rest; rest >>= 7)
		n++;
	start = p -= n;
	for (; n > 1; n--, v >>= 7)
		*p++ = (uint8_t)v | 0x80;
	*p = (uint8_t)v;
	return start;
}

static inline uint8_t *back_varint(uint8_t *p, uint64_t v)
{
	if (v >= 0x80)
		return back_long_varint(p, v);
	*--p = (uint8_t)v;
	return p;
}

static inline uint8_t *back_tag(uint8_t *p, uint32_t field, uint32_t wire)
{
	return back_varint(p, field << 3 | wire);
}

static inline uint8_t *back_varint_field(uint8_t *p, uint32_t field, uint64_t v)
{
	return back_tag(back_varint(p, v), field, WIRE_VARINT);
}

static inline uint8_t *back_fixed64(uint8_t *p, uint32_t field, uint64_t v)
{
	v = htole64(v);
	p -= sizeof(v);
	memcpy(p, &v, sizeof(v));
	return back_tag(p, field, WIRE_I64);
}

static inline uint8_t *back_fixed32(uint8_t *p, uint32_t field, uint32_t v)
{
	v = htole32(v);
	p -= sizeof(v);
	memcpy(p, &v, sizeof(v));
	return back_tag(p, field, WIRE_I32);
}

/* The length of what lies between p and `end`, which is the content of a field. */
static inline uint8_t *back_length(uint8_t *p, uint32_t field, const uint8_t *end)
{
	return back_tag(back_varint(p, (uint64_t)(end - p)), field, WIRE_LEN);
}

static inline uint8_t *back_bytes(uint8_t *p, uint32_t field, const void *bytes, size_t n)
{
	uint8_t *end = p;

	p -= n;
	copy__bytes(p, bytes, n);
	return back_length(p, field, end);
}

static inline void put_varint(struct otlp_encoder *e, uint32_t field, uint64_t v)
{
	if (have_room(e, 0))
		e->at = (size_t)(back_varint_field(e->buf + e->at, field, v) - e->buf);
}

/* A proto3 string must be UTF-8: receivers refuse the whole request otherwise. */
static void put_str(struct otlp_encoder *e, uint32_t field, struct str s)
{
	bool valid = utf8__valid(s);
	size_t n = valid ? s.len : utf8__repaired_len(s);
	uint8_t *p;

	if (!have_room(e, n))
		return;
	p = e->buf + e->at;
	if (valid) {
		p = back_bytes(p, field, s.p, n);
	} else {
		utf8__repair(s, (char *)p - n);
		p = back_length(p - n, field, p);
	}
	e->at = (size_t)(p - e->buf);
}

static inline void put_str_unless_empty(struct otlp_encoder *e, uint32_t field, struct str s)
{
	if (s.len)
		put_str(e, field, s);
}

/* Closes the message whose content was written since `from`. */
static inline void put_message(struct otlp_encoder *e, uint32_t field, size_t from)
{
	if (have_room(e, 0))
		e->at = (size_t)(back_length(e->buf + e->at, field, e->buf + e->cap - from) - e->buf);
}

/* ---- OTLP; field numbers from the .proto files ------------------------------------------------------ */

/* Keys are UTF-8 where they come from. */
static inline void put_attr(struct otlp_encoder *e, uint32_t field, const struct attr *a)
{
	struct str key = attr__key(a), text = a->type == ATTR_STR ? a->s : STR_NULL;
	size_t key_value = mark(e);
	uint8_t *p, *end;
	uint64_t bits;

	if (!utf8__valid(text)) {
		put_str(e, 1, text);
		text.len = 0;
	}
	if (!have_room(e, text.len + key.len + 3 * FIELD_MAX))
		return;
	p = e->buf + e->at;
	end = e->buf + e->cap - key_value;
	switch (a->type) { /* AnyValue: a oneof, written also where the value is its type's default */
	case ATTR_STR:
		if (p == end) /* not repaired above */
			p = back_bytes(p, 1, text.p, text.len);
		break;
	case ATTR_BOOL:
		p = back_varint_field(p, 2, a->b);
		break;
	case ATTR_INT:
		p = back_varint_field(p, 3, (uint64_t)a->i);
		break;
	case ATTR_DOUBLE:
		memcpy(&bits, &a->d, sizeof(bits));
		p = back_fixed64(p, 4, bits);
		break;
	}
	p = back_length(p, 2, end); /* KeyValue.value */
	p = back_bytes(p, 1, key.p, key.len);
	e->at = (size_t)(back_length(p, field, end) - e->buf);
}

/* A function: where it is called put_attr() would be a call for each. */
static __attribute__((noinline)) void put_attrs(struct otlp_encoder *e, uint32_t field, const struct attr *attrs, size_t n)
{
	while (n-- > 0)
		put_attr(e, field, &attrs[n]);
}

static bool all_zero(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (p[i])
			return false;
	}
	return true;
}

/* When, and what kind; always there, so that they share one look for room. */
static void put_times(struct otlp_encoder *e, const struct span *s)
{
	uint8_t *p;

	if (!have_room(e, 3 * FIELD_MAX))
		return;
	p = e->buf + e->at;
	p = back_fixed64(p, 8, s->end_ns);
	p = back_fixed64(p, 7, s->start_ns);
	p = back_varint_field(p, 6, s->kind);
	e->at = (size_t)(p - e->buf);
}

static void put_parent(struct otlp_encoder *e, const struct span *s)
{
	if (!all_zero(s->parent_id, sizeof(s->parent_id)) && have_room(e, sizeof(s->parent_id)))
		e->at = (size_t)(back_bytes(e->buf + e->at, 4, s->parent_id, sizeof(s->parent_id)) - e->buf);
}

static void put_ids(struct otlp_encoder *e, const struct span *s)
{
	uint8_t *p;

	if (!have_room(e, sizeof(s->span_id) + sizeof(s->trace_id) + FIELD_MAX))
		return;
	p = e->buf + e->at;
	p = back_bytes(p, 2, s->span_id, sizeof(s->span_id));
	p = back_bytes(p, 1, s->trace_id, sizeof(s->trace_id));
	e->at = (size_t)(p - e->buf);
}

static void put_link(struct otlp_encoder *e, const struct span_link *l)
{
	uint8_t *p, *end;

	if (!have_room(e, sizeof(l->span_id) + sizeof(l->trace_id) + 3 * FIELD_MAX))
		return;
	p = end = e->buf + e->at;
	p = back_fixed32(p, 6, l->flags);
	p = back_bytes(p, 2, l->span_id, sizeof(l->span_id));
	p = back_bytes(p, 1, l->trace_id, sizeof(l->trace_id));
	e->at = (size_t)(back_length(p, 13, end) - e->buf);
}

static void put_span(struct otlp_encoder *e, const struct span *s)
{
	size_t span = mark(e), status;

	if (s->flags && have_room(e, 0))
		e->at = (size_t)(back_fixed32(e->buf + e->at, 16, s->flags) - e->buf);
	if (s->status != SPAN_UNSET || s->status_message.len) {
		status = mark(e);
		if (s->status != SPAN_UNSET)
			put_varint(e, 3, s->status);
		put_str_unless_empty(e, 2, s->status_message);
		put_message(e, 15, status);
	}
	if (s->dropped_links)
		put_varint(e, 14, s->dropped_links);
	for (uint32_t i = s->n_links; i-- > 0;)
		put_link(e, &s->links[i]);
	if (s->dropped_attrs)
		put_varint(e, 10, s->dropped_attrs);
	put_attrs(e, 9, s->attrs, s->n_attrs);
	put_times(e, s);
	put_str_unless_empty(e, 5, s->name);
	put_parent(e, s);
	put_str_unless_empty(e, 3, s->trace_state);
	put_ids(e, s);
	put_message(e, 2, span); /* ScopeSpans.spans */
}

static void put_group(struct otlp_encoder *e, const struct group_set *set, const struct group *g)
{
	size_t resource_spans = mark(e), scope_spans, scope, resource;

	if (e->o.schema_url)
		put_str(e, 3, str__of(e->o.schema_url));
	scope_spans = mark(e);
	if (e->o.schema_url)
		put_str(e, 3, str__of(e->o.schema_url));
	for (uint32_t i = g->last; i != GROUP_END && !e->err; i = set->prev[i])
		put_span(e, set->spans[i]);
	scope = mark(e);
	if (e->o.scope_version)
		put_str(e, 2, str__of(e->o.scope_version));
	put_str(e, 1, str__of(e->o.scope_name));
	put_message(e, 1, scope);
	put_message(e, 2, scope_spans); /* ResourceSpans.scope_spans */
	if (g->res) {
		resource = mark(e);
		put_attrs(e, 1, g->res->attrs, g->res->n_attrs);
		put_message(e, 1, resource);
	}
	put_message(e, 1, resource_spans); /* ExportTraceServiceRequest.resource_spans */
}

int otlp_encoder__encode(struct otlp_encoder *e, const struct batch *b, struct str *ret)
{
	int err = group_set__build(&e->groups, b);

	if (err)
		return err;
	e->err = 0;
	e->at = e->cap;
	for (uint32_t i = e->groups.n; i-- > 0 && !e->err;)
		put_group(e, &e->groups, &e->groups.groups[i]);
	if (!e->err && mark(e) > OTLP_MAX_REQUEST)
		e->err = -E2BIG;
	have_room(e, OTLP_HEADROOM);
	if (e->err)
		return e->err;
	*ret = (struct str){ (const char *)e->buf + e->at, mark(e) };
	return 0;
}
