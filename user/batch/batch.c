// SPDX-License-Identifier: Apache-2.0
/*
 * The queue is a list of batches. The last one may be open: it grows until it is sealed. Only sealed
 * ones can be popped, so that "may it leave?" is decided once, where its cause is known. The lock is
 * held for a few instructions at a time; spans are freed outside of it.
 */
#include "user/batch/batch.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "user/base/clock.h"
#include "user/base/mem.h"
#include "user/model/stats.h"

#define DEFAULT_MAX_BATCH 512u
/*
 * A span's memory (2 KiB and more) holds its strings, but not its keys; strings may triple, if every byte is to become
 * U+FFFD. So 4 MiB encode to 16 MiB at the very most, where OTLP's limit is 64 MiB.
 */
#define DEFAULT_MAX_BATCH_BYTES ((size_t)4 << 20)

struct queued_batch {
	struct queued_batch *next;
	struct span *head, *tail;
	uint32_t n;
	size_t bytes;
	uint64_t first_ns; /* when the oldest span came */
	bool sealed;
};

struct batch_queue {
	struct batch_opts o;
	pthread_mutex_t lock;
	pthread_cond_t ready; /* a batch was sealed, or the queue was closed */
	pthread_cond_t room;  /* a batch was taken */
	struct queued_batch *head, *tail;
	uint32_t spans;
	size_t bytes;
	bool closed;
	bool full; /* a span was refused since the last pop */
};

struct batch_queue *batch_queue__new(const struct batch_opts *o)
{
	struct batch_queue *q = mem__zalloc(sizeof(*q));
	pthread_condattr_t attr;

	if (!q)
		return NULL;
	q->o = *o;
	if (q->o.max_batch == 0)
		q->o.max_batch = DEFAULT_MAX_BATCH;
	if (q->o.max_batch_bytes == 0)
		q->o.max_batch_bytes = DEFAULT_MAX_BATCH_BYTES;
	pthread_mutex_init(&q->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&q->ready, &attr);
	pthread_condattr_destroy(&attr);
	pthread_cond_init(&q->room, NULL);
	return q;
}

void batch_queue__free(struct batch_queue *q)
{
	struct queued_batch *b;

	if (!q)
		return;
	stats__drop(ST_BATCH, DROP_SHUTDOWN, q->spans);
	stats__hold(ST_BATCH, -(int64_t)q->spans);
	while ((b = q->head)) {
		q->head = b->next;
		span__free_list(b->head);
		mem__free(b);
	}
	pthread_cond_destroy(&q->room);
	pthread_cond_destroy(&q->ready);
	pthread_mutex_destroy(&q->lock);
	mem__free(q);
}

static void seal_tail(struct batch_queue *q)
{
	if (!q->tail || q->tail->sealed)
		return;
	q->tail->sealed = true;
	pthread_cond_signal(&q->ready);
}

static bool has_room(const struct batch_queue *q, const struct span *s)
{
	if (q->o.max_queue_spans && q->spans >= q->o.max_queue_spans)
		return false;
	return !q->o.max_queue_bytes ||
	       (q->bytes < q->o.max_queue_bytes && s->bytes <= q->o.max_queue_bytes - q->bytes);
}

/*
 * Only for what the consumer can take: a batch that is still open may be larger than the queue, and to seal it here
 * would cut it where the consumer happened to be slow.
 */
static void wait_for_room(struct batch_queue *q, const struct span *s)
{
	while (!q->closed && !has_room(q, s) && q->head && q->head->sealed)
		pthread_cond_wait(&q->room, &q->lock);
}

/* The batch that takes a span of `bytes`; NULL without memory. */
static struct queued_batch *open_batch(struct batch_queue *q, size_t bytes, uint64_t now_ns)
{
	struct queued_batch *b = q->tail;

	if (b && !b->sealed && (b->bytes >= q->o.max_batch_bytes || bytes > q->o.max_batch_bytes - b->bytes))
		seal_tail(q);
	if (b && !b->sealed)
		return b;
	b = mem__zalloc(sizeof(*b));
	if (!b)
		return NULL;
	b->first_ns = now_ns;
	if (q->tail)
		q->tail->next = b;
	else
		q->head = b;
	q->tail = b;
	return b;
}

/* True: the queue owns the span. */
static bool append_span(struct batch_queue *q, struct span *s, uint64_t now_ns, enum stats_reason *ret_reason)
{
	struct queued_batch *b;

	if (q->closed) {
		*ret_reason = DROP_SHUTDOWN;
		return false;
	}
	if (!q->o.steady && !has_room(q, s)) {
		seal_tail(q); /* it cannot grow: waiting for its age would only lose more */
		q->full = true;
		*ret_reason = DROP_QUEUE_FULL;
		return false;
	}
	b = open_batch(q, s->bytes, now_ns);
	if (!b) {
		*ret_reason = DROP_NO_MEMORY;
		return false;
	}
	s->next = NULL;
	if (b->tail)
		b->tail->next = s;
	else
		b->head = s;
	b->tail = s;
	b->n++;
	b->bytes += s->bytes;
	q->spans++;
	q->bytes += s->bytes;
	if (b->n >= q->o.max_batch || b->bytes >= q->o.max_batch_bytes)
		seal_tail(q);
	return true;
}

void batch_queue__push(struct batch_queue *q, struct span *s, uint64_t now_ns)
{
	enum stats_reason reason;
	bool kept;

	pthread_mutex_lock(&q->lock);
	if (q->o.steady)
		wait_for_room(q, s);
	stats__in(ST_BATCH, 1);
	kept = append_span(q, s, now_ns, &reason);
	if (kept)
		stats__hold(ST_BATCH, 1); /* the consumer writes it, too: under the lock */
	else
		stats__drop(ST_BATCH, reason, 1);
	pthread_mutex_unlock(&q->lock);
	if (!kept)
		span__free(s);
}

void batch_queue__tick(struct batch_queue *q, uint64_t now_ns)
{
	pthread_mutex_lock(&q->lock);
	if (q->tail && !q->tail->sealed && !q->o.steady && now_ns >= q->tail->first_ns &&
	    now_ns - q->tail->first_ns >= q->o.schedule_delay_ns)
		seal_tail(q);
	pthread_mutex_unlock(&q->lock);
}

void batch_queue__close(struct batch_queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->closed = true;
	seal_tail(q);
	pthread_cond_broadcast(&q->ready);
	pthread_mutex_unlock(&q->lock);
}

/* Moves the first sealed batch into *ret, together with those behind it that fit. */
static void take_batch(struct batch_queue *q, struct batch *ret)
{
	struct span *tail = NULL;
	struct queued_batch *b;

	*ret = (struct batch){ 0 };
	while ((b = q->head) && b->sealed) {
		if (tail && (b->n > q->o.max_batch - ret->n || b->bytes > q->o.max_batch_bytes - ret->bytes))
			break;
		if (tail)
			tail->next = b->head;
		else
			ret->spans = b->head;
		tail = b->tail;
		ret->n += b->n;
		ret->bytes += b->bytes;
		q->head = b->next;
		mem__free(b);
		if (ret->n >= q->o.max_batch || ret->bytes >= q->o.max_batch_bytes)
			break;
	}
	if (!q->head)
		q->tail = NULL;
	q->spans -= ret->n;
	q->bytes -= ret->bytes;
	q->full = false;
	stats__out(ST_BATCH, ret->n);
	stats__hold(ST_BATCH, -(int64_t)ret->n);
}

bool batch_queue__pop(struct batch_queue *q, struct batch *ret, uint64_t timeout_ns)
{
	uint64_t until_ns = clock__mono_ns() + timeout_ns;
	struct timespec until = { .tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000 };
	int err = 0;

	pthread_mutex_lock(&q->lock);
	while (!(q->head && q->head->sealed) && !q->closed && err != ETIMEDOUT)
		err = pthread_cond_timedwait(&q->ready, &q->lock, &until);
	if (q->head && q->head->sealed) {
		take_batch(q, ret);
		pthread_cond_signal(&q->room);
		pthread_mutex_unlock(&q->lock);
		return true;
	}
	err = q->closed ? ESHUTDOWN : EAGAIN;
	pthread_mutex_unlock(&q->lock);
	errno = err;
	return false;
}

bool batch_queue__is_full(struct batch_queue *q)
{
	bool full;

	pthread_mutex_lock(&q->lock);
	full = q->full;
	pthread_mutex_unlock(&q->lock);
	return full;
}

uint32_t batch_queue__depth(struct batch_queue *q, size_t *ret_bytes)
{
	uint32_t n;

	pthread_mutex_lock(&q->lock);
	n = q->spans;
	if (ret_bytes)
		*ret_bytes = q->bytes;
	pthread_mutex_unlock(&q->lock);
	return n;
}
