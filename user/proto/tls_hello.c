// SPDX-License-Identifier: Apache-2.0
#include "user/proto/tls_hello.h"

#define RECORD_HANDSHAKE 22u /* RFC 8446, B.1 */
#define CLIENT_HELLO 1u	     /* … B.3 */
#define FIXED 38u /* of a ClientHello: type, length (24 bits), version, random */
#define EXTENSION_SERVER_NAME 0u
#define HOST_NAME 0u
#define NAME_MAX_LEN 253u /* RFC 1035, 2.3.4, as text */

/* Bytes that are left. */
struct rest {
	const uint8_t *p;
	size_t n;
};

/* A number of `bytes` (1 or 2); past the end it is 0, and nothing is left. */
static size_t number(struct rest *r, size_t bytes)
{
	size_t v = 0;

	if (r->n < bytes) {
		r->n = 0;
		return 0;
	}
	for (size_t i = 0; i < bytes; i++)
		v = v << 8 | r->p[i];
	r->p += bytes;
	r->n -= bytes;
	return v;
}

/* What comes behind its length in so many bytes: all that is left of it, if it was cut. */
static struct rest vector(struct rest *r, size_t bytes)
{
	size_t len = number(r, bytes);
	struct rest v = { r->p, len < r->n ? len : r->n };

	r->p += v.n;
	r->n -= v.n;
	return v;
}

bool tls_hello__begins(const uint8_t *data, size_t len)
{
	return len >= 3 && data[0] == RECORD_HANDSHAKE && data[1] == 3 && data[2] <= 4;
}

static bool is_host(struct rest name)
{
	for (size_t i = 0; i < name.n; i++) {
		uint8_t c = name.p[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_'))
			return false;
	}
	return name.n && name.n <= NAME_MAX_LEN;
}

/* `e`: an extension's list of names, of which a host's is the only kind. */
static struct str host_of(struct rest e)
{
	struct rest list = vector(&e, 2), name;
	size_t type = number(&list, 1), len = number(&list, 2);

	name = (struct rest){ list.p, len };
	if (type != HOST_NAME || len > list.n || !is_host(name))
		return STR_NULL;
	return (struct str){ (const char *)name.p, name.n };
}

struct str tls_hello__server_name(const uint8_t *data, size_t len)
{
	struct rest r = { data, len }, extensions;

	if (len > TLS_RECORD_HEAD && tls_hello__begins(data, len))
		r = (struct rest){ data + TLS_RECORD_HEAD, len - TLS_RECORD_HEAD };
	if (r.n < FIXED || r.p[0] != CLIENT_HELLO)
		return STR_NULL;
	r = (struct rest){ r.p + FIXED, r.n - FIXED };
	vector(&r, 1); /* session */
	vector(&r, 2); /* ciphers */
	vector(&r, 1); /* compression */
	extensions = vector(&r, 2);
	while (extensions.n) {
		size_t type = number(&extensions, 2);
		struct rest e = vector(&extensions, 2);

		if (type == EXTENSION_SERVER_NAME && e.n)
			return host_of(e);
	}
	return STR_NULL;
}
