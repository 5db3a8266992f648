// SPDX-License-Identifier: Apache-2.0
#include "user/base/siphash.h"

#include <endian.h>
#include <string.h>

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))

struct state {
	uint64_t v0, v1, v2, v3;
};

static inline void init_state(struct state *s, const struct siphash_key *key)
{
	/* "somepseudorandomlygeneratedbytes", the constants of the paper */
	s->v0 = 0x736f6d6570736575ull ^ key->k0;
	s->v1 = 0x646f72616e646f6dull ^ key->k1;
	s->v2 = 0x6c7967656e657261ull ^ key->k0;
	s->v3 = 0x7465646279746573ull ^ key->k1;
}

static inline void sip_round(struct state *s)
{
	s->v0 += s->v1;
	s->v1 = ROTL(s->v1, 13) ^ s->v0;
	s->v0 = ROTL(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = ROTL(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = ROTL(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = ROTL(s->v1, 17) ^ s->v2;
	s->v2 = ROTL(s->v2, 32);
}

static inline void compress(struct state *s, uint64_t m)
{
	s->v3 ^= m;
	sip_round(s);
	sip_round(s);
	s->v0 ^= m;
}

static inline uint64_t finish(struct state *s, uint64_t last)
{
	compress(s, last);
	s->v2 ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(s);
	return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

uint64_t siphash__bytes(const struct siphash_key *key, const void *data, size_t len)
{
	const uint8_t *p = data;
	uint64_t last = (uint64_t)len << 56;
	struct state s;
	size_t left;

	init_state(&s, key);
	for (left = len; left >= 8; left -= 8, p += 8) {
		uint64_t m;

		memcpy(&m, p, 8);
		compress(&s, le64toh(m));
	}
	for (size_t i = 0; i < left; i++)
		last |= (uint64_t)p[i] << (8 * i);
	return finish(&s, last);
}

uint64_t siphash__u64x3(const struct siphash_key *key, uint64_t a, uint64_t b, uint64_t c)
{
	struct state s;

	/* The same as siphash__bytes over the 24 bytes in little-endian order. */
	init_state(&s, key);
	compress(&s, a);
	compress(&s, b);
	compress(&s, c);
	return finish(&s, 24ull << 56);
}
