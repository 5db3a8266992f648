/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef WS_BASE_UTF8_H
#define WS_BASE_UTF8_H

#include <stdbool.h>
#include <stdint.h>

#include "user/model/str.h"

#define UTF8_REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

bool utf8__valid_slow(struct str s); /* character by character */

/* Eight bytes at a time; the last eight may overlap those before. */
static inline bool utf8__is_ascii(struct str s)
{
	uint64_t bits = 0, word;

	if (s.len < sizeof(word)) {
		uint32_t first, last;

		if (s.len < sizeof(first)) /* three places are all that there are */
			return !s.len || !((s.p[0] | s.p[s.len / 2] | s.p[s.len - 1]) & 0x80);
		memcpy(&first, s.p, sizeof(first));
		memcpy(&last, s.p + s.len - sizeof(last), sizeof(last));
		return !((first | last) & 0x80808080);
	}
	for (size_t i = 0; i + sizeof(word) < s.len; i += sizeof(word)) {
		memcpy(&word, s.p + i, sizeof(word));
		bits |= word;
	}
	memcpy(&word, s.p + s.len - sizeof(word), sizeof(word));
	return !((bits | word) & 0x8080808080808080ull);
}

/* Most strings are plain ASCII. */
static inline bool utf8__valid(struct str s)
{
	return utf8__is_ascii(s) || utf8__valid_slow(s);
}

/*
 * Length of the character that starts at p (n > 0 bytes left): 1..4. Where there is none, *ret_bad is set and the
 * length is what one U+FFFD stands for: the longest prefix of a well-formed sequence, else one byte (Unicode 15,
 * section 3.9, "maximal subpart").
 */
size_t utf8__next(const char *p, size_t n, bool *ret_bad);
/* Bytes that utf8__repair() writes. */
size_t utf8__repaired_len(struct str s);
/* Writes s with U+FFFD for what is not UTF-8. */
void utf8__repair(struct str s, char *out);

#endif
