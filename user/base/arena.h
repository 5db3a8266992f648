/* SPDX-License-Identifier: Apache-2.0 */
/* A bump allocator: many small pieces, freed at once. */
#ifndef WS_BASE_ARENA_H
#define WS_BASE_ARENA_H

#include <stddef.h>

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
void *arena__alloc(struct arena *a, size_t size); /* 8-aligned; NULL with ENOMEM */
struct str arena__dup(struct arena *a, struct str s); /* NUL-terminated copy; empty on failure */
void arena__free(struct arena *a);		  /* everything; usable again after */

#endif
