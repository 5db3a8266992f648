// SPDX-License-Identifier: Apache-2.0
#include "exporter/retry.h"

#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>

#define SEC_NS UINT64_C(1000000000)
#define DEFAULT_INITIAL_NS SEC_NS
#define DEFAULT_MAX_NS (30 * SEC_NS)
/* A collector may ask for more, but a typing error of its operator must not silence a node for a day. */
#define MAX_ASKED_NS (600 * SEC_NS)

enum export_result retry__http(long status)
{
	if (status >= 200 && status <= 299)
		return EXPORT_OK;
	switch (status) {
	case 429: /* Too Many Requests */
	case 502: /* Bad Gateway */
	case 503: /* Service Unavailable */
	case 504: /* Gateway Timeout */
		return EXPORT_RETRY;
	default:
		return EXPORT_DROP;
	}
}

enum export_result retry__grpc(unsigned int status, bool has_retry_info)
{
	switch (status) {
	case GRPC_OK:
		return EXPORT_OK;
	case GRPC_CANCELLED:
	case GRPC_DEADLINE_EXCEEDED:
	case GRPC_ABORTED:
	case GRPC_OUT_OF_RANGE:
	case GRPC_UNAVAILABLE:
	case GRPC_DATA_LOSS:
		return EXPORT_RETRY;
	case GRPC_RESOURCE_EXHAUSTED: /* for now, if the server says when; else for good */
		return has_retry_info ? EXPORT_RETRY : EXPORT_DROP;
	default:
		return EXPORT_DROP;
	}
}

enum grpc_status retry__grpc_of_http(long status)
{
	switch (status) {
	case 400:
		return GRPC_INTERNAL;
	case 401:
		return GRPC_UNAUTHENTICATED;
	case 403:
		return GRPC_PERMISSION_DENIED;
	case 404:
		return GRPC_UNIMPLEMENTED;
	case 429:
	case 502:
	case 503:
	case 504:
		return GRPC_UNAVAILABLE;
	default:
		return GRPC_UNKNOWN;
	}
}

const char *retry__grpc_name(unsigned int status)
{
	static const char *const names[] = {
		"OK",	     "CANCELLED",      "UNKNOWN",	    "INVALID_ARGUMENT",	  "DEADLINE_EXCEEDED",
		"NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
		"ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",	    "INTERNAL",		  "UNAVAILABLE",
		"DATA_LOSS", "UNAUTHENTICATED"
	};
	_Static_assert(sizeof(names) / sizeof(names[0]) == __GRPC_CNT, "one name for each");

	return status < __GRPC_CNT ? names[status] : "unknown status";
}

int retry__parse_after(const char *value, uint64_t wall_ns, uint64_t *ret_wait_ns)
{
	unsigned long long seconds;
	char *end;
	time_t date;

	if (isdigit((unsigned char)value[0])) {
		errno = 0;
		seconds = strtoull(value, &end, 10);
		if (*end == '\0') {
			if (errno || seconds > MAX_ASKED_NS / SEC_NS)
				seconds = MAX_ASKED_NS / SEC_NS;
			*ret_wait_ns = seconds * SEC_NS;
			return 0;
		}
	}
	date = curl_getdate(value, NULL);
	if (date < 0)
		return -EINVAL;
	*ret_wait_ns = (uint64_t)date * SEC_NS > wall_ns ? (uint64_t)date * SEC_NS - wall_ns : 0;
	return 0;
}

void backoff__init(struct backoff *b, uint64_t initial_ns, uint64_t max_ns, uint64_t seed)
{
	b->initial_ns = initial_ns ? initial_ns : DEFAULT_INITIAL_NS;
	b->max_ns = max_ns ? max_ns : DEFAULT_MAX_NS;
	if (b->initial_ns > b->max_ns)
		b->initial_ns = b->max_ns;
	b->rng = seed | 1; /* xorshift must not start at zero */
	backoff__reset(b);
}

void backoff__reset(struct backoff *b)
{
	b->step_ns = b->initial_ns;
}

/* Uniform enough for jitter: 0..limit. */
static uint64_t draw(struct backoff *b, uint64_t limit)
{
	b->rng ^= b->rng << 13;
	b->rng ^= b->rng >> 7;
	b->rng ^= b->rng << 17;
	return b->rng % (limit + 1);
}

uint64_t backoff__next(struct backoff *b, uint64_t asked_ns)
{
	uint64_t wait = b->step_ns / 2 + draw(b, b->step_ns / 2);

	b->step_ns = b->step_ns > b->max_ns / 2 ? b->max_ns : b->step_ns * 2;
	if (asked_ns > MAX_ASKED_NS)
		asked_ns = MAX_ASKED_NS;
	if (wait < asked_ns)
		wait = asked_ns + draw(b, asked_ns / 10);
	return wait;
}
