// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>

#include "user/base/mem.h"
#include "user/batch/batch.h"
#include "user/model/stats.h"

#define SEC 1000000000ull

static struct span *make_span(uint64_t id)
{
	struct span *s = span__new();

	assert_non_null(s);
	s->start_ns = id;
	return s;
}

static int reset_stats(void **state)
{
	stats = (struct stats){ 0 };
	return 0;
}

static struct stats_row *row(void)
{
	return &stats.rows[ST_BATCH];
}

static void assert_books(uint64_t in, uint64_t out, int64_t held)
{
	enum stats_stage bad;

	assert_true(stats__check(&stats, &bad));
	assert_int_equal(row()->in, in);
	assert_int_equal(row()->out, out);
	assert_int_equal(row()->held, held);
}

/* Pops, checks that the ids go on from *next, frees. Returns the number of spans; 0: none. */
static uint32_t pop_checked(struct batch_queue *q, uint64_t *next)
{
	struct batch b;
	uint32_t n = 0;
	size_t bytes = 0;

	if (!batch_queue__pop(q, &b, 0))
		return 0;
	for (struct span *s = b.spans; s; s = s->next) {
		assert_int_equal(s->start_ns, (*next)++);
		bytes += s->bytes;
		n++;
	}
	assert_int_equal(b.n, n);
	assert_int_equal(b.bytes, bytes);
	span__free_list(b.spans);
	return n;
}

static void leaves_when_full(void **state)
{
	struct batch_queue *q = batch_queue__new(&(struct batch_opts){ .max_batch = 3, .schedule_delay_ns = SEC });
	uint64_t next = 0;

	for (int i = 0; i < 8; i++)
		batch_queue__push(q, make_span(i), 0);
	assert_int_equal(batch_queue__depth(q, NULL), 8);
	assert_int_equal(pop_checked(q, &next), 3);
	assert_int_equal(pop_checked(q, &next), 3);
	assert_int_equal(pop_checked(q, &next), 0);
	assert_int_equal(errno, EAGAIN);
	assert_books(8, 6, 2);
	batch_queue__free(q);
	assert_int_equal(row()->dropped[DROP_SHUTDOWN], 2);
	assert_books(8, 6, 0);
}

static void leaves_when_old(void **state)
{
	struct batch_queue *q = batch_queue__new(&(struct batch_opts){ .max_batch = 100, .schedule_delay_ns = SEC });
	uint64_t next = 0;

	batch_queue__push(q, make_span(0), 5 * SEC);
	batch_queue__push(q, make_span(1), 5 * SEC + SEC / 2);
	batch_queue__tick(q, 6 * SEC - 1);
	assert_int_equal(pop_checked(q, &next), 0);
	batch_queue__tick(q, 4 * SEC); /* a clock that runs backwards seals nothing */
	assert_int_equal(pop_checked(q, &next), 0);
	batch_queue__tick(q, 6 * SEC);
	assert_int_equal(pop_checked(q, &next), 2);
	batch_queue__tick(q, 60 * SEC);
	assert_int_equal(pop_checked(q, &next), 0);
	assert_books(2, 2, 0);
	batch_queue__free(q);
}

static void small_batches_leave_together(void **state)
{
	struct batch_queue *q = batch_queue__new(&(struct batch_opts){ .max_batch = 5, .schedule_delay_ns = 1 });
	uint64_t next = 0;

	for (int i = 0; i < 12; i++) {
		batch_queue__push(q, make_span(i), i * SEC);
		if (i % 2)
			batch_queue__tick(q, i * SEC + 1);
	}
	assert_int_equal(pop_checked(q, &next), 4); /* 2 + 2: a third would be more than 5 */
	assert_int_equal(pop_checked(q, &next), 4);
	assert_int_equal(pop_checked(q, &next), 4);
	assert_int_equal(pop_checked(q, &next), 0);
	assert_books(12, 12, 0);
	batch_queue__free(q);
}

static void bound_by_count(void **state)
{
	struct batch_queue *q = batch_queue__new(
		&(struct batch_opts){ .max_queue_spans = 4, .max_batch = 10, .schedule_delay_ns = SEC });
	uint64_t next = 0;

	for (int i = 0; i < 4; i++)
		batch_queue__push(q, make_span(i), 0);
	assert_false(batch_queue__is_full(q));
	batch_queue__push(q, make_span(99), 0); /* the newest goes */
	assert_true(batch_queue__is_full(q));
	assert_int_equal(row()->dropped[DROP_QUEUE_FULL], 1);
	/* A full queue lets go what it has: a batch can be larger than what the queue holds. */
	assert_int_equal(pop_checked(q, &next), 4);
	assert_false(batch_queue__is_full(q));
	assert_books(5, 4, 0);
	batch_queue__free(q);
}

static void bound_by_bytes(void **state)
{
	struct span *probe = make_span(0);
	size_t one = probe->bytes, bytes;
	struct batch_queue *q = batch_queue__new(
		&(struct batch_opts){ .max_queue_bytes = one * 3 + 1, .max_batch = 10, .schedule_delay_ns = SEC });
	uint64_t next = 0;

	span__free(probe);
	for (int i = 0; i < 5; i++)
		batch_queue__push(q, make_span(i), 0);
	assert_int_equal(batch_queue__depth(q, &bytes), 3);
	assert_int_equal(bytes, one * 3);
	assert_int_equal(row()->dropped[DROP_QUEUE_FULL], 2);
	assert_int_equal(pop_checked(q, &next), 3);
	assert_books(5, 3, 0);
	batch_queue__free(q);
}

static void batch_bound_by_bytes(void **state)
{
	struct span *probe = make_span(0);
	struct batch_opts o = { .max_batch = 10, .max_batch_bytes = probe->bytes * 2, .schedule_delay_ns = SEC };
	struct batch_queue *q = batch_queue__new(&o);
	uint64_t next = 0;
	char big[8192] = "";

	span__free(probe);
	for (int i = 0; i < 3; i++)
		batch_queue__push(q, make_span(i), 0);
	probe = make_span(3);
	probe->name = span__dup(probe, (struct str){ big, sizeof(big) }); /* larger than a batch may be: goes alone */
	batch_queue__push(q, probe, 0);
	batch_queue__push(q, make_span(4), 0);
	batch_queue__close(q);
	assert_int_equal(pop_checked(q, &next), 2);
	assert_int_equal(pop_checked(q, &next), 1);
	assert_int_equal(pop_checked(q, &next), 1);
	assert_int_equal(pop_checked(q, &next), 1);
	assert_int_equal(pop_checked(q, &next), 0);
	assert_int_equal(errno, ESHUTDOWN);
	assert_books(5, 5, 0);
	batch_queue__free(q);
}

/* The same batches whether the consumer takes each at once or none before the end. */
static void steady_cuts(void **state)
{
	struct batch_opts o = { .max_batch = 5, .schedule_delay_ns = 1, .steady = true };

	for (int eager = 0; eager < 2; eager++) {
		struct batch_queue *q = batch_queue__new(&o);
		uint32_t cuts[8], n = 0;
		uint64_t next = 0;

		for (int i = 0; i < 13; i++) {
			batch_queue__push(q, make_span(i), i * SEC);
			batch_queue__tick(q, i * SEC + 1);
			if (eager && (cuts[n] = pop_checked(q, &next)))
				n++;
		}
		batch_queue__close(q);
		while ((cuts[n] = pop_checked(q, &next)))
			n++;
		assert_int_equal(n, 3);
		assert_int_equal(cuts[0], 5);
		assert_int_equal(cuts[1], 5);
		assert_int_equal(cuts[2], 3);
		batch_queue__free(q);
	}
	assert_books(26, 26, 0);
}

static void close_drains_and_refuses(void **state)
{
	struct batch_queue *q = batch_queue__new(&(struct batch_opts){ .max_batch = 2, .schedule_delay_ns = SEC });
	uint64_t next = 0;

	for (int i = 0; i < 3; i++)
		batch_queue__push(q, make_span(i), 0);
	batch_queue__close(q);
	batch_queue__push(q, make_span(7), 0);
	assert_int_equal(row()->dropped[DROP_SHUTDOWN], 1);
	assert_int_equal(pop_checked(q, &next), 2);
	assert_int_equal(pop_checked(q, &next), 1);
	assert_int_equal(pop_checked(q, &next), 0);
	assert_int_equal(errno, ESHUTDOWN);
	assert_books(4, 3, 0);
	batch_queue__free(q);
}

static void failed_allocations(void **state)
{
	struct batch_queue *q;
	struct span *s;
	uint64_t next = 0;

	mem__fail_after(0);
	assert_null(batch_queue__new(&(struct batch_opts){ 0 }));
	mem__fail_after(-1);
	q = batch_queue__new(&(struct batch_opts){ .max_batch = 2 });
	s = make_span(0);
	mem__fail_after(0);
	batch_queue__push(q, s, 0);
	mem__fail_after(-1);
	assert_int_equal(row()->dropped[DROP_NO_MEMORY], 1);
	batch_queue__push(q, make_span(0), 0);
	batch_queue__close(q);
	assert_int_equal(pop_checked(q, &next), 1);
	assert_books(2, 1, 0);
	batch_queue__free(q);
	batch_queue__free(NULL);
}

#define THREAD_SPANS 20000u

static void *consume(void *arg)
{
	struct batch_queue *q = arg;
	uintptr_t got = 0;
	uint64_t last = 0;
	struct batch b;

	for (;;) {
		if (!batch_queue__pop(q, &b, SEC / 100)) {
			if (errno == ESHUTDOWN)
				break;
			continue;
		}
		for (struct span *s = b.spans; s; s = s->next) {
			if (s->start_ns <= last)
				return NULL; /* out of order: the count below will not match */
			last = s->start_ns;
		}
		got += b.n;
		span__free_list(b.spans);
	}
	return (void *)got;
}

static void two_threads(void **state)
{
	struct batch_queue *q = batch_queue__new(
		&(struct batch_opts){ .max_queue_spans = 300, .max_batch = 64, .schedule_delay_ns = SEC });
	pthread_t t;
	void *got;

	assert_int_equal(pthread_create(&t, NULL, consume, q), 0);
	for (uint64_t i = 1; i <= THREAD_SPANS; i++)
		batch_queue__push(q, make_span(i), 0);
	batch_queue__close(q);
	pthread_join(t, &got);
	assert_int_equal((uintptr_t)got + row()->dropped[DROP_QUEUE_FULL], THREAD_SPANS);
	assert_books(THREAD_SPANS, (uintptr_t)got, 0);
	batch_queue__free(q);
}

/* Nothing is lost to a consumer that is slower, nor where a batch is larger than the queue. */
static void steady_waits(void **state)
{
	for (uint32_t bound = 20; bound < 500; bound += 80) {
		struct batch_queue *q = batch_queue__new(
			&(struct batch_opts){ .max_queue_spans = bound, .max_batch = 64, .steady = true });
		pthread_t t;
		void *got;

		assert_int_equal(pthread_create(&t, NULL, consume, q), 0);
		for (uint64_t i = 1; i <= THREAD_SPANS / 10; i++)
			batch_queue__push(q, make_span(i), 0);
		batch_queue__close(q);
		pthread_join(t, &got);
		assert_int_equal((uintptr_t)got, THREAD_SPANS / 10);
		batch_queue__free(q);
	}
	assert_int_equal(row()->dropped[DROP_QUEUE_FULL], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(leaves_when_full, reset_stats),
		cmocka_unit_test_setup(leaves_when_old, reset_stats),
		cmocka_unit_test_setup(small_batches_leave_together, reset_stats),
		cmocka_unit_test_setup(bound_by_count, reset_stats),
		cmocka_unit_test_setup(bound_by_bytes, reset_stats),
		cmocka_unit_test_setup(batch_bound_by_bytes, reset_stats),
		cmocka_unit_test_setup(steady_cuts, reset_stats),
		cmocka_unit_test_setup(close_drains_and_refuses, reset_stats),
		cmocka_unit_test_setup(failed_allocations, reset_stats),
		cmocka_unit_test_setup(two_threads, reset_stats),
		cmocka_unit_test_setup(steady_waits, reset_stats),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
