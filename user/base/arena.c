// SPDX-License-Identifier: Apache-2.0
/*
 * Chunks grow from 2 KiB to 64 KiB; a piece that is larger than a chunk gets one of its own. Lent
 * memory is used first and never freed.
 */
#include "user/base/arena.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "user/base/mem.h"

#define CHUNK_MIN 2048u
#define CHUNK_MAX (64u * 1024)

struct arena_chunk {
	struct arena_chunk *next;
	size_t size; /* of `data` */
	char data[] __attribute__((aligned(8)));
};

void arena__init(struct arena *a, size_t limit)
{
	*a = (struct arena){ .limit = limit };
}

void arena__lend(struct arena *a, void *mem, size_t size)
{
	uintptr_t start = ((uintptr_t)mem + 7) & ~(uintptr_t)7;
	uintptr_t end = (uintptr_t)mem + size;

	if (start >= end)
		return;
	a->cur = (char *)start;
	a->end = (char *)end;
}

static void *new_chunk(struct arena *a, size_t size)
{
	size_t room = a->head ? a->head->size * 2 : CHUNK_MIN - sizeof(struct arena_chunk);
	struct arena_chunk *c;

	if (room > CHUNK_MAX)
		room = CHUNK_MAX;
	if (room < size)
		room = size;
	if (a->limit && a->bytes + room > a->limit) {
		room = size; /* the last bit of an allowance in exact pieces */
		if (a->bytes >= a->limit || room > a->limit - a->bytes) {
			errno = ENOMEM;
			return NULL;
		}
	}
	c = mem__alloc(sizeof(*c) + room);
	if (!c)
		return NULL;
	c->size = room;
	c->next = a->head;
	a->head = c;
	a->bytes += room;
	/* Keep the old remainder if it is the larger one. */
	if (room - size > (size_t)(a->end - a->cur)) {
		a->cur = c->data + size;
		a->end = c->data + room;
	}
	return c->data;
}

void *arena__alloc_chunk(struct arena *a, size_t size)
{
	void *p;

	if (size > PTRDIFF_MAX / 2) {
		errno = ENOMEM;
		return NULL;
	}
	size = size ? (size + 7) & ~(size_t)7 : 8;
	if (size > (size_t)(a->end - a->cur))
		return new_chunk(a, size);
	p = a->cur;
	a->cur += size;
	return p;
}

void arena__free(struct arena *a)
{
	struct arena_chunk *c, *next;

	for (c = a->head; c; c = next) {
		next = c->next;
		mem__free(c);
	}
	a->head = NULL;
	a->cur = NULL;
	a->end = NULL;
	a->bytes = 0;
}
