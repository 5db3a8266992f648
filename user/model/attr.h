/* SPDX-License-Identifier: Apache-2.0 */
/* One attribute of a span or a resource, under its final semantic-convention name. */
#ifndef WS_MODEL_ATTR_H
#define WS_MODEL_ATTR_H

#include <stdint.h>

#include "user/model/str.h"

enum attr_type { ATTR_STR, ATTR_INT, ATTR_BOOL, ATTR_DOUBLE };

struct attr {
	const char *key; /* a string literal, or owned like the value */
	enum attr_type type;
	union {
		struct str s; /* UTF-8; exporters replace what is not */
		int64_t i;
		bool b;
		double d;
	};
};

static inline struct attr attr__str(const char *key, struct str v)
{
	return (struct attr){ .key = key, .type = ATTR_STR, .s = v };
}

static inline struct attr attr__int(const char *key, int64_t v)
{
	return (struct attr){ .key = key, .type = ATTR_INT, .i = v };
}

static inline struct attr attr__bool(const char *key, bool v)
{
	return (struct attr){ .key = key, .type = ATTR_BOOL, .b = v };
}

#endif
