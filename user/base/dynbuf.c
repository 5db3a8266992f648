// SPDX-License-Identifier: Apache-2.0
#include "user/base/dynbuf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "user/base/mem.h"

#define CAP_MIN 64u

void dynbuf__init(struct dynbuf *b, size_t max)
{
	*b = (struct dynbuf){ .max = max };
}

/* Makes room for n more bytes. */
static int grow(struct dynbuf *b, size_t n)
{
	size_t cap = b->cap ? b->cap : CAP_MIN;
	uint8_t *data;

	if (n <= b->cap - b->len)
		return 0;
	if (n > b->max - b->len)
		return -E2BIG;
	while (cap - b->len < n)
		cap = cap > b->max / 2 ? b->max : cap * 2;
	data = mem__realloc(b->data, cap);
	if (!data)
		return -ENOMEM;
	b->data = data;
	b->cap = cap;
	return 0;
}

int dynbuf__append(struct dynbuf *b, const void *p, size_t n)
{
	int err;

	if (n == 0)
		return 0;
	err = grow(b, n);
	if (err)
		return err;
	memcpy(b->data + b->len, p, n);
	b->len += n;
	return 0;
}

int dynbuf__append_str(struct dynbuf *b, const char *s)
{
	return dynbuf__append(b, s, strlen(s));
}

int dynbuf__printf(struct dynbuf *b, const char *fmt, ...)
{
	char small[256];
	va_list ap, again;
	int n, err;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(small, sizeof(small), fmt, ap);
	va_end(ap);
	if (n < 0) {
		err = -EINVAL;
	} else if ((size_t)n < sizeof(small)) {
		err = dynbuf__append(b, small, n);
	} else {
		/* vsnprintf also writes a NUL, which is not part of the buffer but needs its place. */
		err = grow(b, (size_t)n + 1);
		if (!err) {
			vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, again);
			b->len += n;
		}
	}
	va_end(again);
	return err;
}

void dynbuf__consume(struct dynbuf *b, size_t n)
{
	if (n >= b->len) {
		b->len = 0;
		return;
	}
	if (n == 0)
		return;
	memmove(b->data, b->data + n, b->len - n);
	b->len -= n;
}

void dynbuf__reset(struct dynbuf *b)
{
	b->len = 0;
}

void dynbuf__free(struct dynbuf *b)
{
	mem__free(b->data);
	b->data = NULL;
	b->len = 0;
	b->cap = 0;
}
