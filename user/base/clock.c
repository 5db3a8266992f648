// SPDX-License-Identifier: Apache-2.0
#include "user/base/clock.h"

#include <time.h>

static uint64_t read_clock(clockid_t id)
{
	struct timespec ts;

	/* Cannot fail for the two clocks that we read (vDSO, valid pointer). */
	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

uint64_t clock__mono_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

uint64_t clock__wall_ns(void)
{
	return read_clock(CLOCK_REALTIME);
}

int64_t clock__wall_offset(void)
{
	uint64_t best = UINT64_MAX;
	int64_t offset = 0;

	/* Of a few tries the tightest: a preemption between the reads would shift every span. */
	for (int i = 0; i < 5; i++) {
		uint64_t before = clock__mono_ns();
		uint64_t wall = clock__wall_ns();
		uint64_t after = clock__mono_ns();

		if (after - before < best) {
			best = after - before;
			offset = (int64_t)(wall - before - (after - before) / 2);
		}
	}
	return offset;
}
