/* SPDX-License-Identifier: Apache-2.0 */
/* A trace context that travelled in a message (W3C Trace Context level 2, or b3). */
#ifndef WS_MODEL_CONTEXT_H
#define WS_MODEL_CONTEXT_H

#include <stdint.h>

#include "user/model/str.h"

struct trace_context {
	bool valid;	      /* ids below are set and not zero */
	bool deny;	      /* without ids: a decision alone, not to sample (b3) */
	uint8_t trace_id[16];
	uint8_t span_id[8];
	uint8_t flags;	      /* W3C flags: bit 0 sampled, bit 1 random */
	struct str tracestate; /* verbatim, empty unless it came with a valid traceparent; borrowed */
};

#endif
