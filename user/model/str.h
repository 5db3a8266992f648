/* SPDX-License-Identifier: Apache-2.0 */
/* A counted string, not NUL-terminated. Who owns the bytes is said where one is handed over. */
#ifndef WS_MODEL_STR_H
#define WS_MODEL_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

struct str {
	const char *p;
	size_t len;
};

#define STR(lit) ((struct str){ (lit), sizeof(lit) - 1 })
#define STR_NULL ((struct str){ NULL, 0 })

static inline struct str str__of(const char *s)
{
	return (struct str){ s, s ? strlen(s) : 0 };
}

static inline bool str__eq(struct str a, struct str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

static inline bool str__ieq(struct str a, struct str b)
{
	return a.len == b.len && (a.len == 0 || strncasecmp(a.p, b.p, a.len) == 0);
}

#endif
