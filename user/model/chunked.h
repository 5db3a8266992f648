/* SPDX-License-Identifier: Apache-2.0 */
/* The framing of chunked bodies (RFC 9112, 7.1). */
#ifndef WS_MODEL_CHUNKED_H
#define WS_MODEL_CHUNKED_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Length of the line at the front without its end, *ret_used with it; -1: no line end yet. */
ssize_t chunked__line(const uint8_t *p, size_t len, size_t *ret_used);
/* The size that such a line says; -1: none. */
int64_t chunked__size(const uint8_t *line, size_t len);
/*
 * Where the framing is hidden: do these bytes end in the last chunk, and trailers? It stands behind the line end of
 * another chunk, or, with `fresh`, at the very front of what is seen again. Else *ret_keep is how many bytes at the end
 * may still become it.
 */
bool chunked__last_at_end(const uint8_t *p, size_t len, bool fresh, size_t *ret_keep);

#endif
