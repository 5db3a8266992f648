// SPDX-License-Identifier: Apache-2.0
#include "user/enrich/resattr.h"

#include <errno.h>

#include "user/base/utf8.h"

/* What becomes a C string on its way must not hold a NUL. */
bool resattr__text_valid(struct str s)
{
	return utf8__valid(s) && (!s.len || !memchr(s.p, '\0', s.len));
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static struct str trim(struct str s)
{
	while (s.len && (*s.p == ' ' || *s.p == '\t')) {
		s.p++;
		s.len--;
	}
	while (s.len && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t'))
		s.len--;
	return s;
}

/* Percent-decoding is done in a copy, which it can only shorten. */
static int decode(struct str in, struct arena *mem, struct str *ret)
{
	char *out = arena__alloc(mem, in.len + 1);
	size_t n = 0;

	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < in.len; i++) {
		int hi, lo;

		if (in.p[i] != '%') {
			out[n++] = in.p[i];
			continue;
		}
		if (in.len - i < 3)
			return -EINVAL;
		hi = hex_value(in.p[i + 1]);
		lo = hex_value(in.p[i + 2]);
		if (hi < 0 || lo < 0)
			return -EINVAL;
		out[n++] = (char)(hi << 4 | lo);
		i += 2;
	}
	out[n] = '\0';
	*ret = (struct str){ out, n };
	return resattr__text_valid(*ret) ? 0 : -EINVAL;
}

int resattr__parse(struct str text, struct arena *mem, struct resattr **ret, size_t *ret_n)
{
	struct resattr *pairs = NULL;
	size_t n = 0;
	int err;

	*ret_n = 0;
	while (text.len) {
		const char *comma = memchr(text.p, ',', text.len);
		struct str item = trim((struct str){ text.p, comma ? (size_t)(comma - text.p) : text.len }), key, value;
		const char *eq = memchr(item.p, '=', item.len);

		text.len -= comma ? (size_t)(comma + 1 - text.p) : text.len;
		text.p = comma ? comma + 1 : text.p;
		if (!item.len)
			continue; /* "a=b," */
		if (!eq || n == RESATTR_MAX)
			return -EINVAL;
		if (!pairs)
			pairs = arena__alloc(mem, RESATTR_MAX * sizeof(*pairs));
		if (!pairs)
			return -ENOMEM;
		err = decode(trim((struct str){ item.p, (size_t)(eq - item.p) }), mem, &key);
		if (!err)
			err = decode(trim((struct str){ eq + 1, item.len - (size_t)(eq + 1 - item.p) }), mem, &value);
		if (err)
			return err;
		if (!key.len)
			return -EINVAL;
		pairs[n++] = (struct resattr){ key.p, value };
	}
	*ret = pairs;
	*ret_n = n;
	return 0;
}
