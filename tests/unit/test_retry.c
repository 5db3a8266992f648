// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "exporter/retry.h"
#include "exporter/rpc_status.h"

#define SEC UINT64_C(1000000000)

static void http_table(void **state)
{
	for (long status = 100; status < 600; status++) {
		enum export_result want = EXPORT_DROP;

		if (status >= 200 && status <= 299)
			want = EXPORT_OK;
		else if (status == 429 || (status >= 502 && status <= 504))
			want = EXPORT_RETRY;
		assert_int_equal(retry__http(status), want);
	}
}

static void grpc_table(void **state)
{
	static const unsigned int retryable[] = { 1, 4, 10, 11, 14, 15 };

	assert_int_equal(retry__grpc(0, false), EXPORT_OK);
	for (unsigned int status = 1; status < 20; status++) {
		enum export_result want = EXPORT_DROP;

		for (size_t i = 0; i < sizeof(retryable) / sizeof(retryable[0]); i++) {
			if (retryable[i] == status)
				want = EXPORT_RETRY;
		}
		assert_int_equal(retry__grpc(status, false), want);
		assert_int_equal(retry__grpc(status, true), status == 8 ? EXPORT_RETRY : want);
	}
	assert_int_equal(retry__grpc_of_http(503), GRPC_UNAVAILABLE);
	assert_int_equal(retry__grpc_of_http(401), GRPC_UNAUTHENTICATED);
	assert_int_equal(retry__grpc_of_http(418), GRPC_UNKNOWN);
	assert_string_equal(retry__grpc_name(16), "UNAUTHENTICATED");
	assert_string_equal(retry__grpc_name(17), "unknown status");
}

static void retry_after(void **state)
{
	const uint64_t now = UINT64_C(784111777) * SEC; /* Sun, 06 Nov 1994 08:49:37 GMT, RFC 9110's example */
	uint64_t wait = 1;

	assert_int_equal(retry__parse_after("120", now, &wait), 0);
	assert_int_equal(wait, 120 * SEC);
	assert_int_equal(retry__parse_after("0", now, &wait), 0);
	assert_int_equal(wait, 0);
	assert_int_equal(retry__parse_after("99999999999999999999999", now, &wait), 0);
	assert_int_equal(wait, 600 * SEC);
	assert_int_equal(retry__parse_after("Sun, 06 Nov 1994 08:50:07 GMT", now, &wait), 0);
	assert_int_equal(wait, 30 * SEC);
	assert_int_equal(retry__parse_after("Sunday, 06-Nov-94 08:50:07 GMT", now, &wait), 0);
	assert_int_equal(wait, 30 * SEC);
	assert_int_equal(retry__parse_after("Sun Nov  6 08:49:07 1994", now, &wait), 0);
	assert_int_equal(wait, 0); /* has passed */
	wait = 7;
	assert_int_equal(retry__parse_after("soon", now, &wait), -EINVAL);
	assert_int_equal(retry__parse_after("", now, &wait), -EINVAL);
	assert_int_equal(retry__parse_after("-5", now, &wait), -EINVAL);
	assert_int_equal(wait, 7);
}

static void backoff_grows_within_bounds(void **state)
{
	struct backoff b;
	uint64_t seen_low = UINT64_MAX, seen_high = 0;

	for (uint64_t seed = 0; seed < 2000; seed++) {
		uint64_t step = SEC;

		backoff__init(&b, 0, 0, seed * 0x9e3779b97f4a7c15ull);
		for (int i = 0; i < 8; i++) {
			uint64_t wait = backoff__next(&b, 0);

			assert_in_range(wait, step / 2, step);
			if (i == 0) {
				seen_low = wait < seen_low ? wait : seen_low;
				seen_high = wait > seen_high ? wait : seen_high;
			}
			step = step * 2 > 30 * SEC ? 30 * SEC : step * 2;
		}
	}
	/* It is jitter: the whole range is used. */
	assert_true(seen_low < SEC / 2 + SEC / 50 && seen_high > SEC - SEC / 50);
	backoff__reset(&b);
	assert_in_range(backoff__next(&b, 0), SEC / 2, SEC);
}

static void backoff_honours_what_was_asked(void **state)
{
	struct backoff b;

	backoff__init(&b, SEC, 30 * SEC, 1);
	assert_in_range(backoff__next(&b, 100 * SEC), 100 * SEC, 110 * SEC);
	assert_in_range(backoff__next(&b, UINT64_MAX), 600 * SEC, 660 * SEC);
	backoff__init(&b, 60 * SEC, 30 * SEC, 1); /* a first step above the bound */
	assert_in_range(backoff__next(&b, 0), 15 * SEC, 30 * SEC);
}

#define TYPE "type.googleapis.com/google.rpc.RetryInfo" /* 40 bytes */

static void rpc_status(void **state)
{
	static const char plain[] = "\x08\x0e\x12\x04"
				    "busy";
	static const char retry[] = "\x08\x0e\x12\x04"
				    "busy\x1a\x30\x0a\x28" TYPE "\x12\x04\x0a\x02\x08\x07";
	static const char other[] = "\x1a\x2e\x0a\x28"
				    "type.googleapis.com/google.rpc.RetryInf0"
				    "\x12\x02\x08\x07";
	static const char negative[] =
		"\x1a\x39\x0a\x28" TYPE "\x12\x0d\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
	struct rpc_status st;

	assert_int_equal(rpc_status__parse(plain, sizeof(plain) - 1, &st), 0);
	assert_true(str__eq(st.message, STR("busy")));
	assert_false(st.has_retry_info);
	assert_int_equal(rpc_status__parse(retry, sizeof(retry) - 1, &st), 0);
	assert_true(st.has_retry_info);
	assert_int_equal(st.retry_ns, 7 * SEC);
	assert_int_equal(rpc_status__parse(other, sizeof(other) - 1, &st), 0);
	assert_false(st.has_retry_info);
	assert_int_equal(rpc_status__parse(negative, sizeof(negative) - 1, &st), -EBADMSG);
	assert_int_equal(rpc_status__parse(NULL, 0, &st), 0);
	/* Cut anywhere, and every byte changed: an error or a result within the bytes, nothing else (ASan watches). */
	for (size_t len = 0; len < sizeof(retry); len++) {
		char *copy = malloc(len ? len : 1);

		memcpy(copy, retry, len);
		rpc_status__parse(copy, len, &st);
		for (size_t i = 0; i < len; i++) {
			for (int v = 0; v < 256; v++) {
				copy[i] = (char)v;
				if (rpc_status__parse(copy, len, &st) == 0 && st.message.len)
					assert_true(st.message.p >= copy &&
						    st.message.p + st.message.len <= copy + len);
			}
			copy[i] = retry[i];
		}
		free(copy);
	}
}

static void base64(void **state)
{
	static const struct {
		const char *in, *out;
	} v[] = { { "", "" },	     { "Zg==", "f" },	   { "Zg", "f" },	    { "Zm8=", "fo" },
		  { "Zm9v", "foo" }, { "Zm9vYg", "foob" }, { "Zm9vYmFy", "foobar" } }; /* RFC 4648, section 10 */
	char buf[16];

	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		memcpy(buf, v[i].in, strlen(v[i].in) + 1);
		assert_int_equal(rpc_status__unbase64(buf, strlen(v[i].in)), strlen(v[i].out));
		assert_memory_equal(buf, v[i].out, strlen(v[i].out));
	}
	memcpy(buf, "Zm9*", 5);
	assert_int_equal(rpc_status__unbase64(buf, 4), -EBADMSG);
	memcpy(buf, "Z", 2);
	assert_int_equal(rpc_status__unbase64(buf, 1), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(http_table),  cmocka_unit_test(grpc_table),
		cmocka_unit_test(retry_after), cmocka_unit_test(backoff_grows_within_bounds),
		cmocka_unit_test(rpc_status),  cmocka_unit_test(backoff_honours_what_was_asked),
		cmocka_unit_test(base64),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
