/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The books. Every stage keeps, in its own unit,
 *
 *	in = out + held + sum(dropped[reason])
 *
 * and stats__check() says where that does not hold. Each row has one writer thread; readers take
 * relaxed loads, so that a snapshot of a running instance may be off by what is in flight.
 */
#ifndef WS_MODEL_STATS_H
#define WS_MODEL_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* stage, unit */
#define STATS_STAGES(X)       \
	X(KERNEL, "events")   \
	X(SOURCE, "events")   \
	X(STREAM, "events")   \
	X(PROTO, "messages")  \
	X(MATCH, "exchanges") \
	X(ENRICH, "spans")    \
	X(SAMPLE, "spans")    \
	X(BATCH, "spans")     \
	X(EXPORT, "spans")

/* reason, text, what the reader may change */
#define STATS_REASONS(X)                                                                          \
	X(RING_FULL, "ring full", "raise --ring-size or lower --capture")                         \
	X(NO_STATE, "no room for socket state", "raise --max-connections")                        \
	X(FD_REUSED, "closed and reused while a call used it", "the plans fentry and socket see which connection it was") \
	X(TLS_UNBOUND, "plaintext of a connection that is not known", NULL)                       \
	X(MALFORMED, "malformed", NULL)                                                           \
	X(UNKNOWN_TYPE, "unknown record type", NULL)                                              \
	X(NOT_RECORDED, "lost while recording", "record to a faster disk")                        \
	X(UNKNOWN_CONN, "unknown connection", NULL)                                               \
	X(CONN_TABLE_FULL, "connection table full", "raise --max-connections")                    \
	X(STALE, "out of order, too late", NULL)                                                  \
	X(TRUNCATED, "head longer than captured", "raise --capture")                              \
	X(GAP, "bytes missing", "raise --ring-size")                                              \
	X(CONN_ENDED, "connection ended first", NULL)                                             \
	X(UNMATCHED, "response without a request", NULL)                                          \
	X(EXCHANGE_TABLE_FULL, "too many open requests", "raise --max-requests")                  \
	X(UNSELECTED, "not selected", NULL)                                                       \
	X(TELEMETRY, "telemetry itself", "--no-default-excludes shows it")                        \
	X(RECEIVER, "of a telemetry receiver", "--no-default-excludes shows it")                  \
	X(PATH_EXCLUDED, "path left out by configuration", NULL)                                  \
	X(UNPROVEN, "work items whose request is not proven", NULL)                               \
	X(SAMPLED_OUT, "sampled out", NULL)                                                       \
	X(NO_MEMORY, "out of memory", NULL)                                                       \
	X(QUEUE_FULL, "export queue full", "is the collector keeping up? raise --queue-size")     \
	X(REJECTED, "rejected by the collector", NULL)                                            \
	X(RETRIES_EXHAUSTED, "collector unreachable for too long", NULL)                          \
	X(TOO_LARGE, "larger than the export limit", NULL)                                        \
	X(SHUTDOWN, "shutdown limit reached", "raise --shutdown-timeout")                         \
	X(WRITE_FAILED, "output failed", NULL)

enum stats_stage {
#define X(s, unit) ST_##s,
	STATS_STAGES(X)
#undef X
	__ST_CNT
};

enum stats_reason {
#define X(r, text, hint) DROP_##r,
	STATS_REASONS(X)
#undef X
	__DROP_CNT
};

struct stats_row {
	uint64_t in, out;
	uint64_t dropped[__DROP_CNT];
	int64_t held; /* kept by the stage itself */
};

struct stats {
	struct stats_row rows[__ST_CNT];
	/* Parents (match): every span has exactly one of these. */
	uint64_t parents_proven, parents_remote, roots, ambiguous;
	uint64_t requests, traces;
	uint64_t undescribed; /* spans that enrich let go without the description of their process */
	uint64_t evicted; /* connections put out of a full table while they were open */
	uint64_t gap_bytes, fault_events, unseen_events, stopped_events, skipped_events, missed_probes;
	uint64_t kernel_runs, kernel_run_ns, kernel_bytes;
	/* Trace contexts of requests served: read in the kernel too, only in user space, read differently. */
	uint64_t contexts_seen, contexts_unseen, contexts_differ;
	uint64_t tls_opaque; /* TLS connections that have ended, and whose library was not read inside */
	uint64_t acked_batches, export_retries;
	uint64_t recorded, recording_lost; /* events: a branch beside the pipeline, outside of the rows */
};

extern struct stats stats;

static inline void stats__in(enum stats_stage s, uint64_t n)
{
	__atomic_store_n(&stats.rows[s].in, stats.rows[s].in + n, __ATOMIC_RELAXED);
}

static inline void stats__out(enum stats_stage s, uint64_t n)
{
	__atomic_store_n(&stats.rows[s].out, stats.rows[s].out + n, __ATOMIC_RELAXED);
}

static inline void stats__drop(enum stats_stage s, enum stats_reason r, uint64_t n)
{
	__atomic_store_n(&stats.rows[s].dropped[r], stats.rows[s].dropped[r] + n, __ATOMIC_RELAXED);
}

static inline void stats__hold(enum stats_stage s, int64_t n)
{
	__atomic_store_n(&stats.rows[s].held, stats.rows[s].held + n, __ATOMIC_RELAXED);
}

const char *stats__stage_name(enum stats_stage s); /* lower case */
const char *stats__stage_unit(enum stats_stage s);
const char *stats__reason_name(enum stats_reason r); /* lower_case, for JSON */
const char *stats__reason_text(enum stats_reason r);
const char *stats__reason_hint(enum stats_reason r); /* or NULL */
uint64_t stats__dropped(const struct stats *st, enum stats_stage s); /* sum over reasons */
/* True if every row balances; else *ret_stage is the first that does not. */
bool stats__check(const struct stats *st, enum stats_stage *ret_stage);

#endif
