/* SPDX-License-Identifier: Apache-2.0 */
/* memcpy() for keys and values. Most have at most 32 bytes: two moves of a fixed size, which may overlap, and no call. */
#ifndef WS_BASE_COPY_H
#define WS_BASE_COPY_H

#include <stddef.h>
#include <string.h>

/* `from` may be NULL if n is 0. */
static inline void copy__bytes(void *to, const void *from, size_t n)
{
	const char *p = from;
	char *q = to;

	if (n > 32) {
		memcpy(q, p, n);
	} else if (n > 16) {
		memcpy(q, p, 16);
		memcpy(q + n - 16, p + n - 16, 16);
	} else if (n >= 8) {
		memcpy(q, p, 8);
		memcpy(q + n - 8, p + n - 8, 8);
	} else if (n >= 4) {
		memcpy(q, p, 4);
		memcpy(q + n - 4, p + n - 4, 4);
	} else if (n) { /* three places are all that there are */
		q[0] = p[0];
		q[n / 2] = p[n / 2];
		q[n - 1] = p[n - 1];
	}
}

#endif
