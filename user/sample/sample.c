// SPDX-License-Identifier: Apache-2.0
#include "user/sample/sample.h"

#include "user/model/stats.h"

#define W3C_SAMPLED 0x01u

void sample__push(const struct sample_next *next, struct span *s, uint64_t now_ns)
{
	stats__in(ST_SAMPLE, 1);
	if (!(s->flags & W3C_SAMPLED)) {
		stats__drop(ST_SAMPLE, DROP_SAMPLED_OUT, 1);
		span__free(s);
		return;
	}
	stats__out(ST_SAMPLE, 1);
	next->push(next->ctx, s, now_ns);
}
