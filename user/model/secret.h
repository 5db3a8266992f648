/* SPDX-License-Identifier: Apache-2.0 */
/* Which values must not be seen, by their keys: one answer for URLs, for recordings, for command lines. */
#ifndef WS_MODEL_SECRET_H
#define WS_MODEL_SECRET_H

#include "user/model/str.h"

/* Further keys (exact, case-sensitive, comma-separated). Set once at start; borrowed, may be NULL. */
void secret__set_keys(const char *keys);
/* A key as it stands in a query: escapes are seen through. */
bool secret__is_key(struct str raw);

#endif
