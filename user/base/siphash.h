/* SPDX-License-Identifier: Apache-2.0 */
/* SipHash-2-4 (Aumasson and Bernstein, 2012): the keyed hash behind span ids and hash tables fed by the network. */
#ifndef WS_BASE_SIPHASH_H
#define WS_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

struct siphash_key {
	uint64_t k0, k1;
};

uint64_t siphash__bytes(const struct siphash_key *key, const void *data, size_t len);
uint64_t siphash__u64x3(const struct siphash_key *key, uint64_t a, uint64_t b, uint64_t c);

#endif
