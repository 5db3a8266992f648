/* SPDX-License-Identifier: Apache-2.0 */
/* Trace contexts in message headers: W3C Trace Context level 2, else B3. */
#ifndef WS_PROTO_CONTEXT_H
#define WS_PROTO_CONTEXT_H

#include "user/model/context.h"

/*
 * Header values as found, without the white space around them; p == NULL: no such header. Whoever collects them keeps
 * the first of repeated b3 headers, counts traceparent, and joins tracestate lines with ",".
 */
struct context_headers {
	struct str traceparent, tracestate;
	unsigned int n_traceparent;
	struct str b3;
	struct str b3_trace_id, b3_span_id, b3_sampled, b3_flags;
};

/* The valid context that takes precedence: traceparent, b3, X-B3-*; else `valid` is false and all is zero. */
void context__extract(struct trace_context *ret, const struct context_headers *h);

/* -EINVAL, *ret untouched, if the value is not valid. */
int context__parse_traceparent(struct trace_context *ret, struct str value);
bool context__tracestate_valid(struct str value);
int context__parse_b3(struct trace_context *ret, struct str value);

#endif
