/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strings of strangers on a terminal: nothing that moves the cursor, changes colours, reverses the direction of
 * writing or hides; and how many columns what is left takes.
 */
#ifndef WS_EXPORTER_CONSOLE_TEXT_H
#define WS_EXPORTER_CONSOLE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "user/model/str.h"

/*
 * Copies `in` into out[size] (size >= 8), harmless and NUL-terminated; what does not fit ends in an ellipsis. Without
 * utf8 the result is ASCII. Returns its length.
 */
size_t text__clean(char *out, size_t size, struct str in, bool utf8);

/* Of strings that text__clean() made, or literals: */
unsigned int text__columns(const char *s);
/* Length of the longest beginning that takes no more than `cols` columns. */
size_t text__fit(const char *s, unsigned int cols);

/* "231 ms", "0.2 ms", "42 µs" ("us" without utf8), "1.20 s", "2 min 05 s". At most 24 bytes. */
void text__duration(char out[24], uint64_t ns, bool utf8);
/* "9,800". At most 32 bytes. */
void text__count(char out[32], uint64_t n);

#endif
