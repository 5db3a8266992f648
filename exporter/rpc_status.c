// SPDX-License-Identifier: Apache-2.0
#include "exporter/rpc_status.h"

#include <errno.h>

#define RETRY_INFO_TYPE "google.rpc.RetryInfo"

struct field {
	uint32_t number, wire;
	uint64_t value;	  /* varint */
	struct str bytes; /* length-delimited */
};

static int read_varint(struct str *in, uint64_t *ret)
{
	uint64_t v = 0;

	for (size_t i = 0; i < in->len && i < 10; i++) {
		uint8_t c = (uint8_t)in->p[i];

		v |= (uint64_t)(c & 0x7f) << (i * 7);
		if (!(c & 0x80)) {
			in->p += i + 1;
			in->len -= i + 1;
			*ret = v;
			return 0;
		}
	}
	return -EBADMSG;
}

static int skip(struct str *in, size_t n)
{
	if (n > in->len)
		return -EBADMSG;
	in->p += n;
	in->len -= n;
	return 0;
}

/* 1: *f is the next field; 0: end; -EBADMSG. */
static int next_field(struct str *in, struct field *f)
{
	uint64_t tag;
	int err;

	if (in->len == 0)
		return 0;
	err = read_varint(in, &tag);
	if (err || tag >> 3 == 0 || tag > UINT32_MAX)
		return -EBADMSG;
	*f = (struct field){ .number = (uint32_t)tag >> 3, .wire = tag & 7 };
	switch (f->wire) {
	case 0:
		err = read_varint(in, &f->value);
		break;
	case 1:
		err = skip(in, 8);
		break;
	case 2:
		err = read_varint(in, &f->value);
		if (!err && f->value > in->len)
			err = -EBADMSG;
		if (!err) {
			f->bytes = (struct str){ in->p, (size_t)f->value };
			err = skip(in, (size_t)f->value);
		}
		break;
	case 5:
		err = skip(in, 4);
		break;
	default: /* groups were never part of proto3 */
		err = -EBADMSG;
	}
	return err ? err : 1;
}

static int parse_duration(struct str in, uint64_t *ret_ns)
{
	uint64_t seconds = 0, nanos = 0;
	struct field f;
	int got;

	while ((got = next_field(&in, &f)) > 0) {
		if (f.number == 1 && f.wire == 0)
			seconds = f.value;
		if (f.number == 2 && f.wire == 0)
			nanos = f.value;
	}
	if (got < 0)
		return got;
	if (seconds > 315576000000ull || nanos > 999999999) /* protobuf's own range; negative ones are above it, too */
		return -EBADMSG;
	*ret_ns = seconds > UINT64_MAX / 2000000000 ? UINT64_MAX / 2 : seconds * 1000000000 + nanos;
	return 0;
}

static int parse_detail(struct str in, struct rpc_status *st)
{
	struct str type = STR_NULL, value = STR_NULL;
	const size_t want = sizeof(RETRY_INFO_TYPE) - 1;
	struct field f;
	int got;

	while ((got = next_field(&in, &f)) > 0) {
		if (f.number == 1 && f.wire == 2)
			type = f.bytes;
		if (f.number == 2 && f.wire == 2)
			value = f.bytes;
	}
	if (got < 0)
		return got;
	/* "type.googleapis.com/google.rpc.RetryInfo": what precedes the last slash is of no interest. */
	if (type.len <= want || type.p[type.len - want - 1] != '/' ||
	    memcmp(type.p + type.len - want, RETRY_INFO_TYPE, want) != 0)
		return 0;
	st->has_retry_info = true;
	while ((got = next_field(&value, &f)) > 0) {
		if (f.number == 1 && f.wire == 2 && parse_duration(f.bytes, &st->retry_ns))
			return -EBADMSG;
	}
	return got;
}

int rpc_status__parse(const void *data, size_t len, struct rpc_status *ret)
{
	struct rpc_status st = { 0 };
	struct str in = { data, len };
	struct field f;
	int got;

	while ((got = next_field(&in, &f)) > 0) {
		if (f.number == 2 && f.wire == 2)
			st.message = f.bytes;
		if (f.number == 3 && f.wire == 2 && parse_detail(f.bytes, &st))
			return -EBADMSG;
	}
	if (got < 0)
		return got;
	*ret = st;
	return 0;
}

static int base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int rpc_status__unbase64(char *buf, size_t len)
{
	uint32_t bits = 0;
	size_t out = 0, n = 0;

	while (len && buf[len - 1] == '=')
		len--;
	for (size_t i = 0; i < len; i++) {
		int v = base64_value(buf[i]);

		if (v < 0)
			return -EBADMSG;
		bits = bits << 6 | (uint32_t)v;
		if (++n % 4)
			continue;
		buf[out++] = (char)(bits >> 16);
		buf[out++] = (char)(bits >> 8);
		buf[out++] = (char)bits;
	}
	if (n % 4 == 1)
		return -EBADMSG;
	if (n % 4 == 2)
		buf[out++] = (char)(bits >> 4);
	if (n % 4 == 3) {
		buf[out++] = (char)(bits >> 10);
		buf[out++] = (char)(bits >> 2);
	}
	return (int)out;
}
