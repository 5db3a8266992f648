// SPDX-License-Identifier: Apache-2.0
#include "user/base/pool.h"

#include "user/base/mem.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

struct pool_block {
	struct pool_block *next; /* not poisoned: the search for leaks follows it */
	char rest[];
};

void *pool__get(struct pool *p)
{
	struct pool_block *b = p->first;

	if (!b)
		return mem__alloc(p->size);
	if (mem__fails())
		return NULL;
	p->first = b->next;
	p->n--;
	ASAN_UNPOISON_MEMORY_REGION(b->rest, p->size - sizeof(*b));
	return b;
}

void pool__put(struct pool *p, void *block)
{
	struct pool_block *b = block;

	if (!b)
		return;
	if (p->n >= p->max) {
		mem__free(b);
		return;
	}
	b->next = p->first;
	if (!p->first)
		p->last = b;
	p->first = b;
	p->n++;
	ASAN_POISON_MEMORY_REGION(b->rest, p->size - sizeof(*b));
}

void pool__move(struct pool *to, struct pool *from)
{
	if (!from->first || from->n > to->max - to->n)
		return;
	from->last->next = to->first;
	if (!to->first)
		to->last = from->last;
	to->first = from->first;
	to->n += from->n;
	from->first = NULL;
	from->n = 0;
}

void pool__free(struct pool *p)
{
	struct pool_block *b, *next;

	for (b = p->first; b; b = next) {
		next = b->next;
		mem__free(b);
	}
	p->first = NULL;
	p->n = 0;
}
