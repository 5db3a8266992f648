// SPDX-License-Identifier: Apache-2.0
#include "user/enrich/uuid.h"

#include <stdio.h>

/* SHA-1 (FIPS 180-4 section 6.1), which version 5 asks for; nothing here depends on its strength. */
struct sha1 {
	uint32_t h[5];
	uint8_t block[64];
	uint64_t len;
};

static uint32_t rol(uint32_t v, int n)
{
	return v << n | v >> (32 - n);
}

static void sha1_block(struct sha1 *s)
{
	uint32_t w[80], a = s->h[0], b = s->h[1], c = s->h[2], d = s->h[3], e = s->h[4];

	for (int i = 0; i < 16; i++)
		w[i] = (uint32_t)s->block[4 * i] << 24 | (uint32_t)s->block[4 * i + 1] << 16 |
		       (uint32_t)s->block[4 * i + 2] << 8 | s->block[4 * i + 3];
	for (int i = 16; i < 80; i++)
		w[i] = rol(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
	for (int i = 0; i < 80; i++) {
		uint32_t f = i < 20   ? ((b & c) | (~b & d)) + 0x5a827999u
			     : i < 40 ? (b ^ c ^ d) + 0x6ed9eba1u
			     : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdcu
				      : (b ^ c ^ d) + 0xca62c1d6u;
		uint32_t t = rol(a, 5) + f + e + w[i];

		e = d;
		d = c;
		c = rol(b, 30);
		b = a;
		a = t;
	}
	s->h[0] += a;
	s->h[1] += b;
	s->h[2] += c;
	s->h[3] += d;
	s->h[4] += e;
}

static void sha1_add(struct sha1 *s, const void *data, size_t n)
{
	const uint8_t *p = data;

	for (; n; n--) {
		s->block[s->len++ % 64] = *p++;
		if (s->len % 64 == 0)
			sha1_block(s);
	}
}

static void sha1_end(struct sha1 *s)
{
	uint64_t bits = s->len * 8;
	uint8_t tail[8];

	sha1_add(s, "\x80", 1);
	while (s->len % 64 != 56)
		sha1_add(s, "", 1);
	for (int i = 0; i < 8; i++)
		tail[i] = (uint8_t)(bits >> (56 - 8 * i));
	sha1_add(s, tail, sizeof(tail));
}

void uuid__v5(const uint8_t space[16], struct str name, char ret[37])
{
	struct sha1 s = { .h = { 0x67452301u, 0xefcdab89u, 0x98badcfeu, 0x10325476u, 0xc3d2e1f0u } };
	uint8_t u[16];
	size_t n = 0;

	sha1_add(&s, space, 16);
	sha1_add(&s, name.p, name.len);
	sha1_end(&s);
	for (int i = 0; i < 16; i++)
		u[i] = (uint8_t)(s.h[i / 4] >> (24 - 8 * (i % 4)));
	u[6] = (uint8_t)((u[6] & 0x0f) | 0x50);
	u[8] = (uint8_t)((u[8] & 0x3f) | 0x80);
	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			ret[n++] = '-';
		n += (size_t)snprintf(ret + n, 37 - n, "%02x", u[i]);
	}
}
