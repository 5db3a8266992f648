/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one bounded queue between the pipeline thread (producer) and the exporter thread (consumer).
 *
 * A batch leaves when it has max_batch spans, when it has max_batch_bytes, when its oldest span is
 * schedule_delay old, when the queue is full, or on flush. Batches that left small, because of their
 * age, leave as one if nobody took them. Where no OTEL_BSP_* limit is set the queue is bounded by
 * bytes, else by spans too. When it is full the newest span is dropped and counted (BATCH, QUEUE_FULL).
 *
 * A queue that is `steady` cuts by nothing but the spans themselves: batches leave by count, by bytes and at the end, and
 * a producer that finds no room waits for the consumer. So a replay gives the same batches on whatever machine.
 */
#ifndef WS_BATCH_H
#define WS_BATCH_H

#include "user/model/span.h"

struct batch_opts {
	uint32_t max_queue_spans;    /* 0: no bound by count */
	size_t max_queue_bytes;	     /* 0: no bound by bytes */
	uint32_t max_batch;	     /* spans per export; 0: 512 */
	size_t max_batch_bytes;	     /* memory per export; 0: 4 MiB, below 64 MiB encoded whatever is in it */
	uint64_t schedule_delay_ns;  /* age at which an incomplete batch leaves */
	bool steady;
};

struct batch {
	struct span *spans; /* list, oldest first */
	uint32_t n;
	size_t bytes;
};

struct batch_queue;

struct batch_queue *batch_queue__new(const struct batch_opts *o);
void batch_queue__free(struct batch_queue *q); /* drops what is left, counted as SHUTDOWN */

/* Pipeline thread. */
void batch_queue__push(struct batch_queue *q, struct span *s, uint64_t now_ns);
void batch_queue__tick(struct batch_queue *q, uint64_t now_ns); /* lets an aged batch go */
void batch_queue__close(struct batch_queue *q);			/* flush: no more pushes; pop drains, then false */

/*
 * Exporter thread: waits up to timeout_ns. True: *ret is a batch, owned by the caller. False: none
 * in time (errno EAGAIN), or closed and empty (errno ESHUTDOWN).
 */
bool batch_queue__pop(struct batch_queue *q, struct batch *ret, uint64_t timeout_ns);

/* Was a span dropped since the last pop, because there was no room? Any thread. */
bool batch_queue__is_full(struct batch_queue *q);

/* Spans and bytes now in the queue, any thread. */
uint32_t batch_queue__depth(struct batch_queue *q, size_t *ret_bytes);

#endif
