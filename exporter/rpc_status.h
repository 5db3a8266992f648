/* SPDX-License-Identifier: Apache-2.0 */
/*
 * google.rpc.Status, the body of OTLP errors: { 1 code int32, 2 message string, 3 repeated Any details }, of whose
 * details only google.rpc.RetryInfo { 1 retry_delay Duration { 1 seconds int64, 2 nanos int32 } } matters here.
 */
#ifndef WS_EXPORTER_RPC_STATUS_H
#define WS_EXPORTER_RPC_STATUS_H

#include <stdint.h>

#include "user/model/str.h"

struct rpc_status {
	struct str message; /* within the bytes that were parsed */
	bool has_retry_info;
	uint64_t retry_ns;
};

/* -EBADMSG: not a protobuf message. *ret is valid only on 0. */
int rpc_status__parse(const void *data, size_t len, struct rpc_status *ret);
/* Decodes base64 (padding optional, as gRPC writes "-bin" metadata) in place. Returns the length, or -EBADMSG. */
int rpc_status__unbase64(char *buf, size_t len);

#endif
