/* SPDX-License-Identifier: Apache-2.0 */
/* A growing byte buffer with a hard cap. */
#ifndef WS_BASE_DYNBUF_H
#define WS_BASE_DYNBUF_H

#include <stddef.h>
#include <stdint.h>

#include "user/model/str.h"

struct dynbuf {
	uint8_t *data;
	size_t len, cap, max;
};

void dynbuf__init(struct dynbuf *b, size_t max);
int dynbuf__append(struct dynbuf *b, const void *p, size_t n); /* -ENOMEM, -E2BIG (nothing appended) */
int dynbuf__append_str(struct dynbuf *b, const char *s);
int dynbuf__printf(struct dynbuf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void dynbuf__consume(struct dynbuf *b, size_t n); /* drops the first n bytes */
void dynbuf__reset(struct dynbuf *b);		  /* empty, keeps the memory */
void dynbuf__free(struct dynbuf *b);

#endif
