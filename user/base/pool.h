/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks of one size that are kept for the next use, where malloc() would split and merge them each time. Up to `max`
 * are kept. Not for two threads at once: whoever shares one locks it.
 *
 * For the tests a block is one like any other: mem__fail_after() fails it, and ASan sees its use after the end.
 */
#ifndef WS_BASE_POOL_H
#define WS_BASE_POOL_H

#include <stddef.h>
#include <stdint.h>

struct pool_block;

struct pool {
	size_t size; /* >= that of a pointer */
	uint32_t max, n;
	struct pool_block *first, *last; /* `last` only where there is a first */
};

#define POOL_INIT(block_size, max_kept) { .size = (block_size), .max = (max_kept) }

void *pool__get(struct pool *p); /* NULL with ENOMEM; not cleared */
void pool__put(struct pool *p, void *block); /* NULL ok */
/* All blocks of `from`, in a few instructions; if they are too many, none. */
void pool__move(struct pool *to, struct pool *from);
void pool__free(struct pool *p); /* what is kept; usable again after */

#endif
