// SPDX-License-Identifier: Apache-2.0
/*
 * A span is normally one allocation: struct span, its first attributes and the first piece of its
 * arena share a block. A larger one costs an arena chunk more.
 *
 * Blocks are made by the pipeline thread and freed by the exporter's, batch by batch: they go back through a pool that
 * both share, because malloc() would have them lock each other out of its arena for each span. Who makes spans takes all
 * that is in it at a time.
 */
#include "user/model/span.h"

#include <errno.h>
#include <pthread.h>

#include "user/base/mem.h"
#include "user/base/pool.h"
#include "user/base/siphash.h"

#define BLOCK_SIZE 1536u
#define FIRST_ATTRS 18u /* what an HTTP server span has by default */
#define BLOCKS_KEPT 1024u /* a batch that fills and one that is sent */

struct block {
	struct span span;
	struct attr attrs[FIRST_ATTRS];
	char tail[];
};
_Static_assert(sizeof(struct block) + 512 < BLOCK_SIZE, "no room for strings in the block");

static pthread_mutex_t blocks_lock = PTHREAD_MUTEX_INITIALIZER; /* of the exporter's thread once a batch */
static struct pool blocks = POOL_INIT(BLOCK_SIZE, BLOCKS_KEPT);
static __thread struct pool taken = POOL_INIT(BLOCK_SIZE, BLOCKS_KEPT);

/* Written once before the pipeline starts. */
static uint32_t limit_count = 128;
static uint32_t limit_value;

void span__set_limits(uint32_t count, uint32_t value_length)
{
	limit_count = count;
	limit_value = value_length;
}

struct span *span__new(void)
{
	struct block *b;

	if (!taken.n) {
		pthread_mutex_lock(&blocks_lock);
		pool__move(&taken, &blocks);
		pthread_mutex_unlock(&blocks_lock);
	}
	b = pool__get(&taken);
	if (!b)
		return NULL;
	b->span = (struct span){ .kind = SPAN_INTERNAL, .attrs = b->attrs, .cap_attrs = FIRST_ATTRS,
				 .bytes = BLOCK_SIZE };
	arena__init(&b->span.mem, 0);
	arena__lend(&b->span.mem, b->tail, BLOCK_SIZE - sizeof(*b));
	return &b->span;
}

void span__free(struct span *s)
{
	if (!s)
		return;
	s->next = NULL;
	span__free_list(s);
}

void span__free_list(struct span *s)
{
	struct pool gone = POOL_INIT(BLOCK_SIZE, BLOCKS_KEPT);
	struct span *next;

	for (; s; s = next) {
		next = s->next;
		resource__put(s->res);
		arena__free(&s->mem);
		pool__put(&gone, s);
	}
	pthread_mutex_lock(&blocks_lock);
	pool__move(&blocks, &gone);
	pthread_mutex_unlock(&blocks_lock);
	pool__free(&gone);
}

/* An attribute array with twice the room, in the arena; the old one stays there until the arena goes. */
static struct attr *grow_attrs(struct arena *mem, const struct attr *old, size_t n, size_t cap)
{
	struct attr *attrs = arena__alloc(mem, cap * sizeof(*attrs));

	if (attrs && n)
		memcpy(attrs, old, n * sizeof(*attrs));
	return attrs;
}

/* The part of v that has at most `limit` characters; a UTF-8 sequence is never cut (OTel: by character). */
static struct str cut_value(struct str v, uint32_t limit)
{
	uint32_t chars = 0;

	if (limit == 0 || v.len <= limit)
		return v;
	for (size_t i = 0; i < v.len; i++) {
		if (((unsigned char)v.p[i] & 0xc0) == 0x80)
			continue; /* a continuation byte */
		if (chars++ == limit) {
			v.len = i;
			break;
		}
	}
	return v;
}

/* From the last on: what is asked for was mostly added a moment ago. */
static int find_attr(const struct attr *attrs, size_t n, struct str key)
{
	while (n-- > 0) {
		if (str__eq((struct str){ attrs[n].key, attrs[n].key_len }, key))
			return (int)n;
	}
	return -1;
}

struct str span__dup(struct span *s, struct str v)
{
	struct str copy = arena__dup(&s->mem, v);

	s->bytes = BLOCK_SIZE + s->mem.bytes;
	return copy;
}

/*
 * One of 64 bits for a key. Most keys are new to their span: the filter says so without comparing 15 strings, which
 * was nearly half of the cost of a span.
 */
static uint64_t key_bit(struct str key)
{
	uint64_t end = 0;

	/* Names differ at their end; a byte-wise hash would cost as much as it saves. */
	if (key.len >= 8)
		memcpy(&end, key.p + key.len - 8, 8);
	return 1ull << (((end ^ key.len) * 0x9E3779B97F4A7C15ull) >> 58);
}

/* Keys are unique in OTLP: the last value wins, as in SetAttribute. */
int span__add(struct span *s, const struct attr *a)
{
	struct str key = attr__key(a);
	uint64_t bit = key_bit(key);
	int at = s->key_bits & bit ? find_attr(s->attrs, s->n_attrs, key) : -1;
	struct attr copy = *a;

	copy.key_len = (uint32_t)key.len;
	if (at < 0 && s->n_attrs >= limit_count) {
		s->dropped_attrs++;
		return 0;
	}
	if (a->type == ATTR_STR) {
		copy.s = span__dup(s, cut_value(a->s, limit_value));
		if (!copy.s.p)
			goto no_memory;
	}
	if (at >= 0) {
		s->attrs[at] = copy;
		return 0;
	}
	if (s->n_attrs == s->cap_attrs) {
		struct attr *attrs = grow_attrs(&s->mem, s->attrs, s->n_attrs, s->cap_attrs * 2);

		s->bytes = BLOCK_SIZE + s->mem.bytes;
		if (!attrs)
			goto no_memory;
		s->attrs = attrs;
		s->cap_attrs *= 2;
	}
	s->attrs[s->n_attrs++] = copy;
	s->key_bits |= bit;
	return 0;

no_memory:
	s->dropped_attrs++;
	return -ENOMEM;
}

void span__add_link(struct span *s, const uint8_t *trace_id, const uint8_t *span_id, uint32_t flags)
{
	struct span_link *l;

	if (s->n_links == s->cap_links) {
		uint32_t cap = s->cap_links ? s->cap_links * 2 : 8;
		struct span_link *grown = arena__alloc(&s->mem, cap * sizeof(*grown));

		s->bytes = BLOCK_SIZE + s->mem.bytes;
		if (!grown) {
			s->dropped_links++;
			return;
		}
		if (s->n_links)
			memcpy(grown, s->links, s->n_links * sizeof(*grown));
		s->links = grown;
		s->cap_links = cap;
	}
	l = &s->links[s->n_links++];
	memcpy(l->trace_id, trace_id, sizeof(l->trace_id));
	memcpy(l->span_id, span_id, sizeof(l->span_id));
	l->flags = flags;
}

/* All values in one piece. False: something is to be dropped, cut, or does not fit, and nothing was done. */
static bool add_first(struct span *s, const struct attr *attrs, size_t n)
{
	size_t size = 0;
	char *to;

	if (s->n_attrs || n > s->cap_attrs || n > limit_count || limit_value)
		return false;
	for (size_t i = 0; i < n; i++)
		size += attrs[i].type == ATTR_STR ? attrs[i].s.len + 1 : 0;
	to = arena__alloc(&s->mem, size);
	if (!to)
		return false;
	for (size_t i = 0; i < n; i++) {
		struct attr *a = &s->attrs[i];
		struct str key = attr__key(&attrs[i]);

		*a = attrs[i];
		a->key_len = (uint32_t)key.len;
		s->key_bits |= key_bit(key);
		if (a->type != ATTR_STR)
			continue;
		copy__bytes(to, a->s.p, a->s.len);
		to[a->s.len] = '\0';
		a->s.p = to;
		to += a->s.len + 1;
	}
	s->n_attrs = (uint32_t)n;
	s->bytes = BLOCK_SIZE + s->mem.bytes;
	return true;
}

void span__add_list(struct span *s, const struct attr *attrs, size_t n)
{
	if (n > 1 && add_first(s, attrs, n))
		return;
	for (size_t i = 0; i < n; i++)
		span__add(s, &attrs[i]);
}

const struct attr *span__find(const struct span *s, const char *key)
{
	int at = find_attr(s->attrs, s->n_attrs, str__of(key));

	return at < 0 ? NULL : &s->attrs[at];
}

/* ---- resource --------------------------------------------------------------------------------- */

#define RESOURCE_ATTRS 16u /* the array doubles when n_attrs reaches a power of two >= this */

struct resource *resource__new(void)
{
	struct resource *r = mem__zalloc(sizeof(*r));

	if (!r)
		return NULL;
	r->refs = 1;
	arena__init(&r->mem, 0);
	return r;
}

static bool array_full(size_t n)
{
	return n == 0 || (n >= RESOURCE_ATTRS && (n & (n - 1)) == 0);
}

int resource__add(struct resource *r, const struct attr *a)
{
	struct str key = attr__key(a);
	int at = find_attr(r->attrs, r->n_attrs, key);
	struct attr copy = *a;

	if (a->type == ATTR_STR) {
		copy.s = arena__dup(&r->mem, a->s);
		if (!copy.s.p)
			return -ENOMEM;
	}
	if (at >= 0) {
		copy.key = r->attrs[at].key;
		copy.key_len = r->attrs[at].key_len;
		r->attrs[at] = copy;
	} else {
		/* Nobody can tell a literal by its address, and resources are few: always copied. */
		copy.key = arena__dup(&r->mem, key).p;
		copy.key_len = (uint32_t)key.len;
		if (!copy.key)
			return -ENOMEM;
		if (array_full(r->n_attrs)) {
			size_t cap = r->n_attrs ? r->n_attrs * 2 : RESOURCE_ATTRS;
			struct attr *attrs = grow_attrs(&r->mem, r->attrs, r->n_attrs, cap);

			if (!attrs)
				return -ENOMEM;
			r->attrs = attrs;
		}
		r->attrs[r->n_attrs++] = copy;
	}
	if (a->type == ATTR_STR && str__eq(key, STR("service.name")))
		r->service_name = copy.s;
	return 0;
}

void resource__seal(struct resource *r)
{
	/* Fixed keys: the hash must be the same in every replay. */
	static const struct siphash_key kkey = { 0x7769726573706171ull, 1 }, vkey = { 0x7769726573706171ull, 2 };
	uint64_t sum = 0;

	/* A sum, because the order of attributes means nothing. */
	for (size_t i = 0; i < r->n_attrs; i++) {
		const struct attr *a = &r->attrs[i];
		uint64_t key = siphash__bytes(&kkey, a->key, a->key_len);
		uint64_t val = 0;

		switch (a->type) {
		case ATTR_STR:
			val = siphash__bytes(&vkey, a->s.p, a->s.len);
			break;
		case ATTR_INT:
			val = (uint64_t)a->i;
			break;
		case ATTR_BOOL:
			val = a->b;
			break;
		case ATTR_DOUBLE:
			memcpy(&val, &a->d, sizeof(val));
			break;
		}
		sum += siphash__u64x3(&vkey, key, a->type, val);
	}
	r->hash = sum;
}

struct resource *resource__get(struct resource *r)
{
	__atomic_fetch_add(&r->refs, 1, __ATOMIC_RELAXED);
	return r;
}

void resource__put(struct resource *r)
{
	if (!r || __atomic_sub_fetch(&r->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	arena__free(&r->mem);
	mem__free(r);
}
