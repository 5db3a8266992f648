// SPDX-License-Identifier: Apache-2.0
#include "exporter/console_text.h"

#include <stdio.h>

#include "user/base/utf8.h"

/* The code point of a well-formed character of n bytes. */
static uint32_t decode(const char *p, size_t n)
{
	const uint8_t *b = (const uint8_t *)p;

	switch (n) {
	case 1:
		return b[0];
	case 2:
		return (b[0] & 0x1fu) << 6 | (b[1] & 0x3fu);
	case 3:
		return (b[0] & 0x0fu) << 12 | (b[1] & 0x3fu) << 6 | (b[2] & 0x3fu);
	default:
		return (b[0] & 0x07u) << 18 | (b[1] & 0x3fu) << 12 | (b[2] & 0x3fu) << 6 | (b[3] & 0x3fu);
	}
}

struct range {
	uint32_t first, last;
};

static bool in_ranges(uint32_t c, const struct range *r, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (c >= r[i].first && c <= r[i].last)
			return true;
	}
	return false;
}

/* Controls, and what is invisible or changes the order of what is around it (Unicode general categories Cc, Cf, Zl, Zp,
 * variation selectors, and combining marks, which can be stacked without end). */
static const struct range harmful[] = {
	{ 0x0000, 0x001f }, { 0x007f, 0x009f }, { 0x00ad, 0x00ad }, { 0x0300, 0x036f }, { 0x061c, 0x061c },
	{ 0x0e31, 0x0e31 }, { 0x0e34, 0x0e3a }, { 0x0e47, 0x0e4e }, { 0x115f, 0x1160 }, { 0x180b, 0x180f },
	{ 0x1ab0, 0x1aff }, { 0x1dc0, 0x1dff }, { 0x200b, 0x200f }, { 0x2028, 0x202e }, { 0x2060, 0x206f },
	{ 0x20d0, 0x20ff }, { 0x3164, 0x3164 }, { 0xe000, 0xf8ff }, { 0xfe00, 0xfe0f }, { 0xfe20, 0xfe2f },
	{ 0xfeff, 0xfeff }, { 0xffa0, 0xffa0 }, { 0xfff0, 0xfffb }, { 0xfffe, 0xffff }, { 0xe0000, 0x10ffff },
};

/* Two columns: East Asian Width W and F (Unicode, EastAsianWidth.txt), in blocks. */
static const struct range wide[] = {
	{ 0x1100, 0x115e },   { 0x2e80, 0x303e },   { 0x3041, 0xa4cf },	  { 0xa960, 0xa97c },	{ 0xac00, 0xd7a3 },
	{ 0xf900, 0xfaff },   { 0xfe30, 0xfe6f },   { 0xff01, 0xff60 },	  { 0xffe0, 0xffe6 },	{ 0x1f300, 0x1f64f },
	{ 0x1f680, 0x1f6ff }, { 0x1f900, 0x1f9ff }, { 0x20000, 0x3fffd },
};

static bool is_harmful(uint32_t c)
{
	return in_ranges(c, harmful, sizeof(harmful) / sizeof(harmful[0]));
}

static unsigned int columns_of(uint32_t c)
{
	if (c < 0x1100)
		return 1;
	return in_ranges(c, wide, sizeof(wide) / sizeof(wide[0])) ? 2 : 1;
}

size_t text__clean(char *out, size_t size, struct str in, bool utf8)
{
	const char *dots = utf8 ? "…" : "...", *bad_char = utf8 ? UTF8_REPLACEMENT : "?";
	size_t room = size - 1 - strlen(dots), len = 0, cut = 0, i = 0;

	while (i < in.len) {
		bool bad;
		size_t n = utf8__next(in.p + i, in.len - i, &bad);
		const char *p = in.p + i;
		size_t w = n;

		if (bad || is_harmful(decode(p, n)) || (!utf8 && n > 1)) {
			p = bad_char;
			w = strlen(bad_char);
		}
		if (len + w > size - 1) {
			memcpy(out + cut, dots, strlen(dots) + 1);
			return cut + strlen(dots);
		}
		memcpy(out + len, p, w);
		len += w;
		if (len <= room)
			cut = len;
		i += n;
	}
	out[len] = 0;
	return len;
}

unsigned int text__columns(const char *s)
{
	size_t left = strlen(s);
	unsigned int cols = 0;

	while (left) {
		bool bad;
		size_t n = utf8__next(s, left, &bad);

		cols += bad ? 1 : columns_of(decode(s, n));
		s += n;
		left -= n;
	}
	return cols;
}

size_t text__fit(const char *s, unsigned int cols)
{
	size_t left = strlen(s), len = 0;

	while (left) {
		bool bad;
		size_t n = utf8__next(s + len, left, &bad);
		unsigned int w = bad ? 1 : columns_of(decode(s + len, n));

		if (w > cols)
			break;
		cols -= w;
		len += n;
		left -= n;
	}
	return len;
}

void text__duration(char out[24], uint64_t ns, bool utf8)
{
	if (ns < 100000)
		snprintf(out, 24, "%u %s", (unsigned int)((ns + 500) / 1000), utf8 ? "µs" : "us");
	else if (ns < 9950000)
		snprintf(out, 24, "%.1f ms", (double)ns / 1e6);
	else if (ns < 999500000)
		snprintf(out, 24, "%u ms", (unsigned int)((ns + 500000) / 1000000));
	else if (ns < 9995000000)
		snprintf(out, 24, "%.2f s", (double)ns / 1e9);
	else if (ns < 59950000000)
		snprintf(out, 24, "%.1f s", (double)ns / 1e9);
	else
		snprintf(out, 24, "%llu min %02u s", (unsigned long long)(ns / 60000000000),
			 (unsigned int)(ns / 1000000000 % 60));
}

void text__count(char out[32], uint64_t n)
{
	char digits[24];
	size_t len = (size_t)snprintf(digits, sizeof(digits), "%llu", (unsigned long long)n), w = 0;

	for (size_t i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			out[w++] = ',';
		out[w++] = digits[i];
	}
	out[w] = 0;
}
