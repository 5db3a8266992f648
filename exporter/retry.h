/* SPDX-License-Identifier: Apache-2.0 */
/* When to try again: the tables of the OTLP specification (1.11), Retry-After, and a jittered exponential back-off. */
#ifndef WS_EXPORTER_RETRY_H
#define WS_EXPORTER_RETRY_H

#include "exporter/exporter.h"

enum grpc_status {
	GRPC_OK, GRPC_CANCELLED, GRPC_UNKNOWN, GRPC_INVALID_ARGUMENT, GRPC_DEADLINE_EXCEEDED, GRPC_NOT_FOUND,
	GRPC_ALREADY_EXISTS, GRPC_PERMISSION_DENIED, GRPC_RESOURCE_EXHAUSTED, GRPC_FAILED_PRECONDITION, GRPC_ABORTED,
	GRPC_OUT_OF_RANGE, GRPC_UNIMPLEMENTED, GRPC_INTERNAL, GRPC_UNAVAILABLE, GRPC_DATA_LOSS, GRPC_UNAUTHENTICATED,
	__GRPC_CNT
};

/* EXPORT_OK, EXPORT_RETRY or EXPORT_DROP. */
enum export_result retry__http(long status);
enum export_result retry__grpc(unsigned int status, bool has_retry_info);
/* What a gRPC client makes of an HTTP status other than 200 (grpc: doc/http-grpc-status-mapping.md). */
enum grpc_status retry__grpc_of_http(long status);
const char *retry__grpc_name(unsigned int status);

/* Retry-After: seconds or an HTTP-date (RFC 9110, 10.2.3). -EINVAL. A time that has passed gives 0. */
int retry__parse_after(const char *value, uint64_t wall_ns, uint64_t *ret_wait_ns);

struct backoff {
	uint64_t initial_ns, max_ns, step_ns;
	uint64_t rng;
};

void backoff__init(struct backoff *b, uint64_t initial_ns, uint64_t max_ns, uint64_t seed);
void backoff__reset(struct backoff *b); /* after a success */
/*
 * How long to wait now: half to all of a step that doubles each time; at least what the sink asked for (bounded, and up
 * to a tenth more, so that a fleet does not come back at once).
 */
uint64_t backoff__next(struct backoff *b, uint64_t asked_ns);

#endif
