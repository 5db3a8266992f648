// SPDX-License-Identifier: Apache-2.0
#include "user/enrich/procinfo.h"

#include <errno.h>

#define HEAD 4u
#define ATTR_HEAD 4u

static int encode_attr(struct dynbuf *out, const struct attr *a)
{
	size_t key_len = strlen(a->key), len = a->type == ATTR_INT ? 8 : 1;
	uint8_t head[ATTR_HEAD], num[8];
	const void *value = num;
	int err;

	if (!key_len || key_len > UINT8_MAX || a->type == ATTR_DOUBLE)
		return -EINVAL;
	if (a->type == ATTR_STR) {
		value = a->s.len ? a->s.p : "";
		len = a->s.len < PROCINFO_VALUE_MAX ? a->s.len : PROCINFO_VALUE_MAX;
	} else {
		uint64_t v = a->type == ATTR_INT ? (uint64_t)a->i : a->b;

		for (int i = 0; i < 8; i++)
			num[i] = (uint8_t)(v >> (8 * i));
	}
	head[0] = (uint8_t)a->type;
	head[1] = (uint8_t)key_len;
	head[2] = (uint8_t)len;
	head[3] = (uint8_t)(len >> 8);
	err = dynbuf__append(out, head, sizeof(head));
	if (!err)
		err = dynbuf__append(out, a->key, key_len + 1);
	if (!err)
		err = dynbuf__append(out, value, len);
	return err;
}

int procinfo__encode(struct dynbuf *out, const struct attr *attrs, size_t n)
{
	size_t before = out->len;
	uint8_t head[HEAD] = { PROCINFO_VERSION, 0, (uint8_t)n, (uint8_t)(n >> 8) };
	int err = n > PROCINFO_ATTRS_MAX ? -E2BIG : dynbuf__append(out, head, sizeof(head));

	for (size_t i = 0; !err && i < n; i++)
		err = encode_attr(out, &attrs[i]);
	if (!err && out->len - before > PROCINFO_SIZE_MAX)
		err = -E2BIG;
	if (err)
		out->len = before;
	return err;
}

static bool key_ok(const char *key, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)key[i] <= 0x20 || (unsigned char)key[i] >= 0x7f)
			return false;
	}
	return len > 0 && key[len] == '\0';
}

int procinfo__check(const uint8_t *data, size_t size)
{
	size_t at = HEAD, n;

	if (size < HEAD || size > PROCINFO_SIZE_MAX || data[0] != PROCINFO_VERSION || data[1] != 0)
		return -EINVAL;
	n = data[2] | (size_t)data[3] << 8;
	if (n > PROCINFO_ATTRS_MAX)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		size_t key_len, len;

		if (size - at < ATTR_HEAD)
			return -EINVAL;
		key_len = data[at + 1];
		len = data[at + 2] | (size_t)data[at + 3] << 8;
		if (data[at] > ATTR_BOOL || (data[at] == ATTR_INT && len != 8) || (data[at] == ATTR_BOOL && len != 1) ||
		    len > PROCINFO_VALUE_MAX || size - at - ATTR_HEAD < key_len + 1 + len)
			return -EINVAL;
		if (!key_ok((const char *)data + at + ATTR_HEAD, key_len))
			return -EINVAL;
		at += ATTR_HEAD + key_len + 1 + len;
	}
	return at == size ? 0 : -EINVAL;
}

bool procinfo__next(const uint8_t *data, size_t size, size_t *at, struct attr *ret)
{
	const uint8_t *p, *value;
	size_t len;
	uint64_t v = 0;

	if (*at == 0)
		*at = HEAD;
	if (*at >= size)
		return false;
	p = data + *at;
	len = p[2] | (size_t)p[3] << 8;
	value = p + ATTR_HEAD + p[1] + 1;
	*ret = (struct attr){ .key = (const char *)p + ATTR_HEAD, .type = (enum attr_type)p[0] };
	if (p[0] == ATTR_STR) {
		ret->s = (struct str){ (const char *)value, len };
	} else if (p[0] == ATTR_INT) {
		for (int i = 0; i < 8; i++)
			v |= (uint64_t)value[i] << (8 * i);
		ret->i = (int64_t)v;
	} else {
		ret->b = value[0] != 0;
	}
	*at = (size_t)(value + len - data);
	return true;
}
