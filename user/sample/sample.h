/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keep or drop. ParentBased(root=AlwaysOn), the default of OTEL_TRACES_SAMPLER: whoever started the
 * trace has decided, and the decision travels in the sampled flag of the trace context.
 */
#ifndef WS_SAMPLE_H
#define WS_SAMPLE_H

#include "user/model/span.h"

struct sample_next {
	void (*push)(void *ctx, struct span *s, uint64_t now_ns); /* owns the span */
	void *ctx;
};

/* Owns the span: passes it on, or frees and counts it (SAMPLE, SAMPLED_OUT). */
void sample__push(const struct sample_next *next, struct span *s, uint64_t now_ns);

#endif
