/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uthash over our allocator, so that a failed allocation is a return value and not the end of the program.
 * After an add that failed, elt->hh.tbl is NULL and the element is not in the table.
 */
#ifndef WS_BASE_HASH_H
#define WS_BASE_HASH_H

#include <stdint.h>
#include <string.h>

#include "user/base/mem.h"

/* One multiplication to 128 bits, both halves of it: every bit of `v` reaches every bit of the result. */
static inline uint64_t hash__mix(uint64_t h, uint64_t v)
{
	unsigned __int128 p = (unsigned __int128)(h ^ v ^ 0x9E3779B97F4A7C15ull) * 0xD6E8FEB86659FD93ull;

	return (uint64_t)p ^ (uint64_t)(p >> 64);
}

/*
 * For tables. With a key of a fixed size the compiler leaves two multiplications of it for a pointer or a pid, where
 * uthash's own function takes sixty instructions.
 */
static inline uint64_t hash__bytes64(uint64_t seed, const void *key, size_t len)
{
	const uint8_t *p = key;
	uint64_t h = seed + len, v = 0;

	for (; len >= sizeof(v); len -= sizeof(v), p += sizeof(v)) {
		memcpy(&v, p, sizeof(v));
		h = hash__mix(h, v);
	}
	if (len) {
		v = 0;
		memcpy(&v, p, len);
		h = hash__mix(h, v);
	}
	return hash__mix(h, 0);
}

static inline uint32_t hash__bytes(uint64_t seed, const void *key, size_t len)
{
	return (uint32_t)hash__bytes64(seed, key, len);
}

#define HASH_FUNCTION(key, len, hashv) ((hashv) = hash__bytes(0, (key), (len)))
#define HASH_NONFATAL_OOM 1
#define uthash_malloc(size) mem__alloc(size)
#define uthash_free(p, size) mem__free(p)
#include <uthash.h>

#endif
