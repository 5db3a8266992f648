/* SPDX-License-Identifier: Apache-2.0 */
/* A bump allocator: many small pieces, freed at once. */
#ifndef WS_BASE_ARENA_H
#define WS_BASE_ARENA_H

#include <stddef.h>

#include "user/base/copy.h"
#include "user/model/str.h"

struct arena_chunk;

struct arena {
	struct arena_chunk *head;
	char *cur, *end;
	size_t bytes; /* of all chunks that this arena allocated */
	size_t limit; /* 0: none */
};

void arena__init(struct arena *a, size_t limit);
/* Lends the arena a first piece of memory, which it does not free. */
void arena__lend(struct arena *a, void *mem, size_t size);
void *arena__alloc_chunk(struct arena *a, size_t size); /* arena__alloc() where there is no room */
void arena__free(struct arena *a);			/* everything; usable again after */

/* 8-aligned; NULL with ENOMEM. */
static inline void *arena__alloc(struct arena *a, size_t size)
{
	size_t n = (size + 7) & ~(size_t)7;
	char *p = a->cur;

	/* The end of lent memory may be odd, so compare what is left, not pointers. 0 and what overflows go the long way. */
	if (n - 1 >= (size_t)(a->end - p))
		return arena__alloc_chunk(a, size);
	a->cur = p + n;
	return p;
}

/* NUL-terminated copy; empty on failure. */
static inline struct str arena__dup(struct arena *a, struct str s)
{
	char *p = arena__alloc(a, s.len + 1);

	if (!p)
		return STR_NULL;
	copy__bytes(p, s.p, s.len);
	p[s.len] = 0;
	return (struct str){ p, s.len };
}

#endif
