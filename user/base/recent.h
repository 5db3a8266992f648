/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys that were seen lately, in memory that does not grow: two Bloom filters, an old one and the one that is filled.
 * Never forgets a key too early; may say of one that was not there that it was, the more so the more there are (one in
 * fifty at a tenth of the bits). Without memory it says so of all.
 */
#ifndef WS_BASE_RECENT_H
#define WS_BASE_RECENT_H

#include <stdbool.h>
#include <stdint.h>

/* Zeroed: empty, and no memory is used. */
struct recent {
	uint64_t *bits[2]; /* the one that is filled; the one before */
	uint64_t since;	   /* when the first was begun */
	bool blind;	   /* a key could not be kept */
};

struct recent_size {
	uint32_t bits;	 /* of each filter, a power of two >= 64 */
	uint64_t period; /* ns: a key is kept for at least as long, and twice as long at the most */
};

/* `key`: a hash, of 64 good bits. */
void recent__add(struct recent *r, const struct recent_size *size, uint64_t key, uint64_t now);
bool recent__has(struct recent *r, const struct recent_size *size, uint64_t key, uint64_t now);
void recent__free(struct recent *r);

#endif
