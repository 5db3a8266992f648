/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Globs: `*` any run of bytes (also across '/'), `?` one byte, [a-z] and [!a-z] one byte of a set, `\` takes the next
 * byte as it is. Bytes, not characters: unlike fnmatch(3) it has no locale that could refuse hostile input, and its
 * cost is bounded by length of pattern times length of text.
 */
#ifndef WS_BASE_GLOB_H
#define WS_BASE_GLOB_H

#include "user/model/str.h"

bool glob__match(struct str pattern, struct str text);
/* True if any of the comma-separated patterns matches; spaces around them do not count. NULL or "": false. */
bool glob__match_list(const char *patterns, struct str text);

/* Cuts the next non-empty item off a list separated by `sep`, without the spaces around it. False: no more. */
bool list__next(const char **list, char sep, struct str *ret);

#endif
