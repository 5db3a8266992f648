/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A span and the resource that it belongs to.
 *
 * A span owns its strings and attributes (they live in its arena) and one reference of its
 * resource. Whoever a span is pushed to owns it from then on, also on failure.
 */
#ifndef WS_MODEL_SPAN_H
#define WS_MODEL_SPAN_H

#include "user/base/arena.h"
#include "user/model/attr.h"

enum span_kind { SPAN_INTERNAL = 1, SPAN_SERVER, SPAN_CLIENT, SPAN_PRODUCER, SPAN_CONSUMER }; /* OTLP numbers */
enum span_status { SPAN_UNSET, SPAN_OK, SPAN_ERROR };						/* OTLP numbers */

/* OTLP Span.flags beyond the W3C byte (opentelemetry-proto trace.proto, SpanFlags). */
#define SPAN_FLAG_HAS_IS_REMOTE 0x100u
#define SPAN_FLAG_IS_REMOTE 0x200u

/* Immutable once shared; counted by atomic references because spans cross to the exporter thread. */
struct resource {
	uint32_t refs;
	uint64_t hash; /* of all attributes: equal resources group in one ResourceSpans */
	struct str service_name;
	struct attr *attrs;
	size_t n_attrs;
	struct arena mem;
};

struct span_link {
	uint8_t trace_id[16];
	uint8_t span_id[8];
	uint32_t flags; /* as span.flags */
};

struct span {
	struct span *next; /* for whoever owns it */
	uint8_t trace_id[16];
	uint8_t span_id[8];
	uint8_t parent_id[8]; /* all zero: a root */
	uint32_t flags;
	enum span_kind kind;
	enum span_status status;
	uint64_t start_ns, end_ns; /* Unix time */
	struct str name;
	struct str trace_state;
	struct str status_message;
	struct attr *attrs;
	uint32_t n_attrs, cap_attrs, dropped_attrs;
	uint64_t key_bits; /* a filter of the keys in attrs; span.c only */
	struct span_link *links;
	uint32_t n_links, cap_links, dropped_links;
	struct resource *res; /* NULL until enriched */

	/* For enrichment */
	uint32_t tgid;
	struct str op;
	struct str target;
	const char *route_key;

	/* For the terminal, not exported as such */
	struct str display_status;
	struct str display_peer;
	const char *evidence; /* what proved the parent, static; NULL for a root */
	const char *orphan;   /* why no parent could be proven, static; NULL where none was to be expected */

	size_t bytes; /* memory of this span, for bounded queues */
	struct arena mem;
};

/* NULL with errno ENOMEM. */
struct span *span__new(void);
void span__free(struct span *s); /* NULL ok */
void span__free_list(struct span *s);

/* Adds an attribute; the value's bytes are copied. Beyond the limits (attr__limits) it is counted as dropped. */
int span__add(struct span *s, const struct attr *a);
/* Several at once, whose keys differ. */
void span__add_list(struct span *s, const struct attr *attrs, size_t n);
/* The caller keeps to the limit. On failure of memory it is counted as dropped. */
void span__add_link(struct span *s, const uint8_t *trace_id, const uint8_t *span_id, uint32_t flags);
const struct attr *span__find(const struct span *s, const char *key);
/* A copy of `v` in the span's arena; empty on failure of memory. */
struct str span__dup(struct span *s, struct str v);

static inline int span__add_str(struct span *s, const char *key, struct str v)
{
	struct attr a = attr__str(key, v);

	return span__add(s, &a);
}

static inline int span__add_int(struct span *s, const char *key, int64_t v)
{
	struct attr a = attr__int(key, v);

	return span__add(s, &a);
}

/* OTEL_SPAN_ATTRIBUTE_{COUNT,VALUE_LENGTH}_LIMIT, set once at start. 0: no limit on length. */
void span__set_limits(uint32_t count, uint32_t value_length);

struct resource *resource__new(void);
int resource__add(struct resource *r, const struct attr *a); /* copies key (unless literal) and value */
void resource__seal(struct resource *r);		     /* computes hash */
struct resource *resource__get(struct resource *r);
void resource__put(struct resource *r); /* NULL ok */

#endif
