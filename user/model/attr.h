/* SPDX-License-Identifier: Apache-2.0 */
/* One attribute of a span or a resource, under its final semantic-convention name. */
#ifndef WS_MODEL_ATTR_H
#define WS_MODEL_ATTR_H

#include <stdint.h>

#include "user/model/str.h"

enum attr_type { ATTR_STR, ATTR_INT, ATTR_BOOL, ATTR_DOUBLE };

struct attr {
	const char *key;  /* UTF-8: a string literal, or owned like the value */
	uint32_t key_len; /* 0: not counted yet; spans and resources count it */
	enum attr_type type;
	union {
		struct str s; /* UTF-8; exporters replace what is not */
		int64_t i;
		bool b;
		double d;
	};
};

static inline struct str attr__key(const struct attr *a)
{
	return (struct str){ a->key, a->key_len ? a->key_len : strlen(a->key) };
}

/* Inline, so that the length of a literal is a constant. */
static inline struct attr attr__str(const char *key, struct str v)
{
	return (struct attr){ .key = key, .key_len = (uint32_t)strlen(key), .type = ATTR_STR, .s = v };
}

static inline struct attr attr__int(const char *key, int64_t v)
{
	return (struct attr){ .key = key, .key_len = (uint32_t)strlen(key), .type = ATTR_INT, .i = v };
}

static inline struct attr attr__bool(const char *key, bool v)
{
	return (struct attr){ .key = key, .key_len = (uint32_t)strlen(key), .type = ATTR_BOOL, .b = v };
}

#endif
