// SPDX-License-Identifier: Apache-2.0
#include "user/base/utf8.h"

#define STEP 64

/* Whoever gets here has a string that is not all ASCII; much of it may be. */
static size_t ascii_prefix(struct str s)
{
	size_t i = 0;

	while (s.len - i > STEP && utf8__is_ascii((struct str){ s.p + i, STEP }))
		i += STEP;
	while (i < s.len && !(s.p[i] & 0x80))
		i++;
	return i;
}

/* Table 3-7 of the Unicode standard: what the first byte allows as the second, and how many follow it. */
static size_t lead_byte(uint8_t c, uint8_t *ret_lo, uint8_t *ret_hi)
{
	*ret_lo = 0x80;
	*ret_hi = 0xbf;
	if (c >= 0xc2 && c <= 0xdf)
		return 1;
	if (c >= 0xe0 && c <= 0xef) {
		if (c == 0xe0)
			*ret_lo = 0xa0; /* overlong below */
		if (c == 0xed)
			*ret_hi = 0x9f; /* surrogates above */
		return 2;
	}
	if (c >= 0xf0 && c <= 0xf4) {
		if (c == 0xf0)
			*ret_lo = 0x90;
		if (c == 0xf4)
			*ret_hi = 0x8f; /* above U+10FFFF */
		return 3;
	}
	return 0;
}

size_t utf8__next(const char *p, size_t n, bool *ret_bad)
{
	const uint8_t *b = (const uint8_t *)p;
	uint8_t lo, hi;
	size_t follow, i;

	*ret_bad = false;
	if (b[0] < 0x80)
		return 1;
	follow = lead_byte(b[0], &lo, &hi);
	for (i = 1; i <= follow; i++) {
		if (i >= n || b[i] < lo || b[i] > hi)
			break;
		lo = 0x80;
		hi = 0xbf;
	}
	*ret_bad = follow == 0 || i <= follow;
	return i;
}

bool utf8__valid_slow(struct str s)
{
	size_t i = ascii_prefix(s);
	bool bad;

	while (i < s.len) {
		i += utf8__next(s.p + i, s.len - i, &bad);
		if (bad)
			return false;
	}
	return true;
}

size_t utf8__repaired_len(struct str s)
{
	size_t i = ascii_prefix(s), len = i, step;
	bool bad;

	for (; i < s.len; i += step) {
		step = utf8__next(s.p + i, s.len - i, &bad);
		len += bad ? sizeof(UTF8_REPLACEMENT) - 1 : step;
	}
	return len;
}

void utf8__repair(struct str s, char *out)
{
	size_t step;
	bool bad;

	for (size_t i = 0; i < s.len; i += step) {
		step = utf8__next(s.p + i, s.len - i, &bad);
		if (bad) {
			memcpy(out, UTF8_REPLACEMENT, sizeof(UTF8_REPLACEMENT) - 1);
			out += sizeof(UTF8_REPLACEMENT) - 1;
		} else {
			memcpy(out, s.p + i, step);
			out += step;
		}
	}
}
