// SPDX-License-Identifier: Apache-2.0
/* A TLS client's first bytes: as OpenSSL sends them, cut everywhere, and with any byte another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "user/proto/tls_hello.h"

#define SECRET "\1\2\3\4\5\6\7\10\1\2\3\4\5\6\7\10\1\2\3\4\5\6\7\10\1\2\3\4\5\6\7\10"
#define BEFORE "\3\3" SECRET "\40" SECRET "\0\4\x13\2\x13\1" "\1\0" /* version, random, session, ciphers, compression */
#define SNI "\0\0" "\0\x12" "\0\x10" "\0" "\0\xd" "api.example.0"
#define OTHER "\0\xb" "\0\4" "\3\0\1\2"
#define HELLO "\1\0\0\x6b" BEFORE "\0\x1e" OTHER SNI
#define RECORD "\26\3\1\0\x6f" HELLO

static struct str name_of(const void *bytes, size_t len)
{
	static uint8_t *exact; /* so that a byte beyond is seen */

	free(exact);
	exact = malloc(len ? len : 1);
	memcpy(exact, bytes, len);
	return tls_hello__server_name(exact, len);
}

static void expect(const void *bytes, size_t len, const char *want)
{
	struct str name = name_of(bytes, len);

	if (!str__eq(name, str__of(want)))
		fail_msg("\"%.*s\", not \"%s\"", (int)name.len, name.p, want);
}

#define EXPECT(bytes, want) expect(bytes, sizeof(bytes) - 1, want)

static void test_names(void **state)
{
	EXPECT(RECORD, "api.example.0");
	EXPECT(HELLO, "api.example.0"); /* the record's head was read by itself */
	EXPECT(RECORD "more that came at once", "api.example.0");
	EXPECT("\26\3\1\0\x59\1\0\0\x55" BEFORE "\0\x8" OTHER, "");
	EXPECT("\26\3\1\0\x4f\1\0\0\x4b" BEFORE, "");	    /* before TLS 1.2 there may be no extensions */
	EXPECT("\26\3\3\0\x6f\2" HELLO, "");		    /* a ServerHello */
	EXPECT("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", "");
	EXPECT("", "");
}

/* Cut anywhere it has the whole name or none. */
static void test_cut(void **state)
{
	for (size_t n = 0; n < sizeof(RECORD) - 1; n++)
		expect(RECORD, n, "");
}

static void test_any_byte(void **state)
{
	uint8_t bytes[sizeof(RECORD) - 1];

	for (size_t at = 0; at < sizeof(bytes); at++)
		for (unsigned int v = 0; v < 256; v++) {
			struct str name;

			memcpy(bytes, RECORD, sizeof(bytes));
			bytes[at] = (uint8_t)v;
			name = name_of(bytes, sizeof(bytes));
			assert_true(name.len < sizeof(bytes));
			for (size_t i = 0; i < name.len; i++)
				assert_true(name.p[i] > ' ' && name.p[i] < 127 && name.p[i] != '/' && name.p[i] != '@');
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_any_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
