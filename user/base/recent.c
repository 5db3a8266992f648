// SPDX-License-Identifier: Apache-2.0
#include "user/base/recent.h"

#include <string.h>

#include "user/base/mem.h"

#define PROBES 4

static void turn_over(struct recent *r, const struct recent_size *size, uint64_t now)
{
	uint64_t *old = r->bits[1];

	if (!r->bits[0] || now < r->since + size->period)
		return;
	if (now >= r->since + 2 * size->period) /* both are too old */
		memset(r->bits[0], 0, size->bits / 8);
	r->bits[1] = r->bits[0];
	r->bits[0] = old;
	memset(old, 0, size->bits / 8);
	r->since = now;
}

static uint32_t place(const struct recent_size *size, uint64_t key, uint32_t i)
{
	return ((uint32_t)key + i * ((uint32_t)(key >> 32) | 1)) & (size->bits - 1);
}

static bool filter_has(const uint64_t *bits, const struct recent_size *size, uint64_t key)
{
	for (uint32_t i = 0; i < PROBES; i++) {
		uint32_t at = place(size, key, i);

		if (!(bits[at / 64] >> at % 64 & 1))
			return false;
	}
	return true;
}

void recent__add(struct recent *r, const struct recent_size *size, uint64_t key, uint64_t now)
{
	for (int i = 0; i < 2; i++) {
		if (r->bits[i] || r->blind)
			continue;
		r->bits[i] = mem__zalloc(size->bits / 8);
		r->blind = !r->bits[i];
		r->since = now;
	}
	if (r->blind)
		return;
	turn_over(r, size, now);
	for (uint32_t i = 0; i < PROBES; i++) {
		uint32_t at = place(size, key, i);

		r->bits[0][at / 64] |= 1ull << at % 64;
	}
}

bool recent__has(struct recent *r, const struct recent_size *size, uint64_t key, uint64_t now)
{
	if (r->blind || !r->bits[0])
		return r->blind;
	turn_over(r, size, now);
	return filter_has(r->bits[0], size, key) || filter_has(r->bits[1], size, key);
}

void recent__free(struct recent *r)
{
	mem__free(r->bits[0]);
	mem__free(r->bits[1]);
	*r = (struct recent){ 0 };
}
