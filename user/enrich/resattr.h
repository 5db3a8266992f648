/* SPDX-License-Identifier: Apache-2.0 */
/* The value of OTEL_RESOURCE_ATTRIBUTES: "key=value,key=value", percent-encoded. */
#ifndef WS_ENRICH_RESATTR_H
#define WS_ENRICH_RESATTR_H

#include "user/base/arena.h"
#include "user/model/attr.h"

#define RESATTR_MAX 64u /* attributes taken of one value */

struct resattr {
	const char *key; /* NUL-terminated */
	struct str value;
};

/*
 * Decodes into the arena. *ret_n pairs at *ret. Any error discards the whole value (OTel resource SDK, "Specifying
 * resource information via an environment variable"): -EINVAL, *ret_n = 0. -ENOMEM. An empty value is no error.
 */
int resattr__parse(struct str text, struct arena *mem, struct resattr **ret, size_t *ret_n);

bool resattr__text_valid(struct str s); /* UTF-8 (RFC 3629) without NUL */

#endif
