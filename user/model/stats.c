// SPDX-License-Identifier: Apache-2.0
#include "user/model/stats.h"

#include <ctype.h>

struct stats stats;

#define NAME_LEN 24

static const char *const stage_upper[] = {
#define X(s, unit) #s,
	STATS_STAGES(X)
#undef X
};

static const char *const stage_units[] = {
#define X(s, unit) unit,
	STATS_STAGES(X)
#undef X
};

static const char *const reason_upper[] = {
#define X(r, text, hint) #r,
	STATS_REASONS(X)
#undef X
};

static const char *const reason_texts[] = {
#define X(r, text, hint) text,
	STATS_REASONS(X)
#undef X
};

static const char *const reason_hints[] = {
#define X(r, text, hint) hint,
	STATS_REASONS(X)
#undef X
};

#define X(s, unit) _Static_assert(sizeof(#s) <= NAME_LEN, "NAME_LEN");
STATS_STAGES(X)
#undef X
#define X(r, text, hint) _Static_assert(sizeof(#r) <= NAME_LEN, "NAME_LEN");
STATS_REASONS(X)
#undef X

static char stage_names[__ST_CNT][NAME_LEN];
static char reason_names[__DROP_CNT][NAME_LEN];

/* The preprocessor cannot lower a letter; done once before main, hence before any thread. */
__attribute__((constructor)) static void lower_names(void)
{
	for (int s = 0; s < __ST_CNT; s++) {
		for (int i = 0; stage_upper[s][i]; i++)
			stage_names[s][i] = (char)tolower((unsigned char)stage_upper[s][i]);
	}
	for (int r = 0; r < __DROP_CNT; r++) {
		for (int i = 0; reason_upper[r][i]; i++)
			reason_names[r][i] = (char)tolower((unsigned char)reason_upper[r][i]);
	}
}

const char *stats__stage_name(enum stats_stage s)
{
	return stage_names[s];
}

const char *stats__stage_unit(enum stats_stage s)
{
	return stage_units[s];
}

const char *stats__reason_name(enum stats_reason r)
{
	return reason_names[r];
}

const char *stats__reason_text(enum stats_reason r)
{
	return reason_texts[r];
}

const char *stats__reason_hint(enum stats_reason r)
{
	return reason_hints[r];
}

uint64_t stats__dropped(const struct stats *st, enum stats_stage s)
{
	uint64_t sum = 0;

	for (int r = 0; r < __DROP_CNT; r++)
		sum += __atomic_load_n(&st->rows[s].dropped[r], __ATOMIC_RELAXED);
	return sum;
}

bool stats__check(const struct stats *st, enum stats_stage *ret_stage)
{
	for (int s = 0; s < __ST_CNT; s++) {
		const struct stats_row *row = &st->rows[s];
		uint64_t in = __atomic_load_n(&row->in, __ATOMIC_RELAXED);
		uint64_t out = __atomic_load_n(&row->out, __ATOMIC_RELAXED);
		int64_t held = __atomic_load_n(&row->held, __ATOMIC_RELAXED);

		if (held < 0 || in != out + (uint64_t)held + stats__dropped(st, s)) {
			if (ret_stage)
				*ret_stage = s;
			return false;
		}
	}
	return true;
}
