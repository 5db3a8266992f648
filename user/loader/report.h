/* SPDX-License-Identifier: Apache-2.0 */
/* Shows the books: as JSON on the control socket, as text to a person, and as the last lines of a run. */
#ifndef WS_LOADER_REPORT_H
#define WS_LOADER_REPORT_H

#include <stdio.h>

#include "user/base/dynbuf.h"
#include "user/model/stats.h"

/* One snapshot of one instance. */
struct report {
	struct stats st;
	char version[32];
	uint64_t pid;
	uint64_t uptime_ns;
	uint64_t cpu_ns;   /* user and system */
	uint64_t rss_peak; /* bytes */
};

/*
 * {"version", "pid", "uptime_ms", "cpu_ms", "rss_peak_kib", "balanced",
 *  "stages": [{"stage", "unit", "in", "out", "held", "dropped": {reason: count}}], "counters": {…}}
 * `st` is of this very process. 0 or -errno.
 */
int report__json(struct dynbuf *out, const struct stats *st);
/* Reads it back; stages, reasons and counters that it does not know are passed over. 0, -EBADMSG or -ENOMEM. */
int report__parse(struct report *r, const char *json, size_t len);
void report__text(FILE *out, const struct report *r);
/*
 * Totals, parents, cost; and what was dropped, only if something was, with what to change. `done` is what was done with
 * the spans that left ("sent"). elapsed_ns 0: not the time in which it all happened, so what it cost is left out. The
 * processor time before that is not counted: loading the programs takes more than minutes of watching.
 */
void report__end(FILE *out, const struct stats *st, const char *done, uint64_t elapsed_ns, uint64_t cpu_before_ns);
/* Processor time of this process until now. */
uint64_t report__cpu_ns(void);

#endif
