// SPDX-License-Identifier: Apache-2.0
/*
 * The exporter thread: one batch in hand, tried until the sink takes it or refuses it for good. Meanwhile the queue
 * fills, and drops the newest when it is full: what was seen first is what tells how an incident began. Only where the
 * same batch was tried for five minutes *and* spans are being lost behind it does it give way, lest one batch that a
 * collector cannot stomach blocks all others for good.
 *
 * The thread blocks all signals: they belong to main, and SIGPIPE becomes EPIPE.
 */
#include "exporter/exporter.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "exporter/retry.h"
#include "user/base/clock.h"
#include "user/base/log.h"
#include "user/base/mem.h"
#include "user/model/stats.h"

#define SEC_NS UINT64_C(1000000000)
#define TICK_NS (SEC_NS / 5)
#define DEFAULT_GIVE_WAY_NS (300 * SEC_NS)

struct exporter {
	const struct exporter_ops *ops;
	void *state;
	struct batch_queue *queue;
	struct backoff backoff;
	uint64_t give_way_ns;
	void (*gone)(void *ctx);
	void *gone_ctx;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool stop, done; /* under lock */
	struct log_limit retry_limit, lost_limit, remark_limit, recovered_limit;
	bool told_retry; /* the reader knows that the sink is away */
};

static const struct exporter_ops *const all_ops[] = {
#define EXPORTER(x) &exporter_##x,
#include "exporter/exporter_list.h"
#undef EXPORTER
};

/* ---- words --------------------------------------------------------------------------------------- */

static const char *subject(const struct exporter *e)
{
	return e->ops->subject ? e->ops->subject(e->state) : e->ops->name;
}

static const char *why(const struct exporter *e)
{
	const char *text = e->ops->why ? e->ops->why(e->state) : NULL;

	return text ? text : "failed";
}

/* "850 ms", "4 s" */
static const char *format_wait(uint64_t ns, char *buf, size_t size)
{
	if (ns < SEC_NS - SEC_NS / 20)
		snprintf(buf, size, "%" PRIu64 " ms", ns / 1000000);
	else
		snprintf(buf, size, "%" PRIu64 " s", (ns + SEC_NS / 2) / SEC_NS);
	return buf;
}

static const char *plural(uint32_t n)
{
	return n == 1 ? "" : "s";
}

static void say_retry(struct exporter *e, const struct batch *b, uint64_t wait_ns)
{
	unsigned long long before = e->retry_limit.next_ns;
	uint32_t n = b->n + batch_queue__depth(e->queue, NULL);
	char wait[32];

	log__limited(&e->retry_limit, LOG_LVL_WARN, "%s: %s (retrying, %" PRIu32 " span%s waiting, next try in %s)",
		     subject(e), why(e), n, plural(n),
		     format_wait(wait_ns, wait, sizeof(wait)));
	if (e->retry_limit.next_ns != before)
		e->told_retry = true;
}

static void say_lost(struct exporter *e, uint32_t n)
{
	if (!*why(e))
		return;
	log__limited(&e->lost_limit, LOG_LVL_ERROR, "%s: %s (%" PRIu32 " span%s lost)", subject(e), why(e), n, plural(n));
}

static void say_delivered(struct exporter *e, uint64_t trying_ns)
{
	uint32_t n = batch_queue__depth(e->queue, NULL);
	char away[32];

	if (e->told_retry)
		log__limited(&e->recovered_limit, LOG_LVL_INFO,
			     "%s: takes spans again after %s, %" PRIu32 " span%s waiting", subject(e),
			     format_wait(trying_ns, away, sizeof(away)), n, plural(n));
	e->told_retry = false;
	if (e->ops->why && e->ops->why(e->state))
		log__limited(&e->remark_limit, LOG_LVL_WARN, "%s: %s", subject(e), why(e));
}

/* ---- one batch ----------------------------------------------------------------------------------- */

static bool stopping(struct exporter *e)
{
	bool stop;

	pthread_mutex_lock(&e->lock);
	stop = e->stop;
	pthread_mutex_unlock(&e->lock);
	return stop;
}

static void tick(struct exporter *e)
{
	if (e->ops->tick)
		e->ops->tick(e->state, clock__mono_ns());
}

static struct timespec to_timespec(uint64_t ns)
{
	return (struct timespec){ .tv_sec = (time_t)(ns / SEC_NS), .tv_nsec = (long)(ns % SEC_NS) };
}

/* Waits, ticking; false: told to stop. */
static bool wait_for(struct exporter *e, uint64_t wait_ns)
{
	uint64_t now = clock__mono_ns(), until = now + wait_ns;
	bool stop;

	for (; now < until; now = clock__mono_ns()) {
		struct timespec next = to_timespec(until - now > TICK_NS ? now + TICK_NS : until);
		int err = 0;

		pthread_mutex_lock(&e->lock);
		while (!e->stop && err != ETIMEDOUT)
			err = pthread_cond_timedwait(&e->changed, &e->lock, &next);
		stop = e->stop;
		pthread_mutex_unlock(&e->lock);
		if (stop)
			return false;
		tick(e);
	}
	return !stopping(e);
}

static void drop(struct exporter *e, enum stats_reason reason, uint32_t n)
{
	stats__drop(ST_EXPORT, reason, n);
	if (reason != DROP_SHUTDOWN)
		say_lost(e, n);
}

/* What became of a batch that is not to be tried again. */
static void settle(struct exporter *e, const struct batch *b, enum export_result result, uint32_t rejected)
{
	switch (result) {
	case EXPORT_OK:
		if (rejected > b->n)
			rejected = b->n;
		stats__out(ST_EXPORT, b->n - rejected);
		stats__drop(ST_EXPORT, DROP_REJECTED, rejected);
		__atomic_fetch_add(&stats.acked_batches, 1, __ATOMIC_RELAXED);
		break;
	case EXPORT_RETRY: /* until it was given up */
	case EXPORT_DROP:
		drop(e, result == EXPORT_DROP ? DROP_REJECTED : DROP_RETRIES_EXHAUSTED, b->n);
		break;
	case EXPORT_TOO_LARGE:
		drop(e, DROP_TOO_LARGE, b->n);
		break;
	case EXPORT_NO_MEMORY:
		drop(e, DROP_NO_MEMORY, b->n);
		break;
	case EXPORT_FAILED:
	case EXPORT_GONE:
		drop(e, DROP_WRITE_FAILED, b->n);
		break;
	}
	if (result == EXPORT_GONE && e->gone) {
		e->gone(e->gone_ctx);
		e->gone = NULL;
	}
}

/* True: the same batch once more, after waiting. */
static bool try_again(struct exporter *e, const struct batch *b, uint64_t asked_ns, uint64_t started_ns)
{
	uint64_t wait = backoff__next(&e->backoff, asked_ns);

	if (stopping(e))
		return false;
	if (clock__mono_ns() - started_ns > e->give_way_ns && batch_queue__is_full(e->queue))
		return false;
	say_retry(e, b, wait);
	__atomic_fetch_add(&stats.export_retries, 1, __ATOMIC_RELAXED);
	return wait_for(e, wait);
}

static void deliver(struct exporter *e, struct batch *b)
{
	uint64_t started = clock__mono_ns(), asked_ns;
	enum export_result result;
	uint32_t rejected;

	stats__in(ST_EXPORT, b->n);
	stats__hold(ST_EXPORT, b->n);
	do {
		rejected = 0;
		asked_ns = 0;
		result = e->ops->send(e->state, b, &rejected, &asked_ns);
	} while (result == EXPORT_RETRY && try_again(e, b, asked_ns, started));

	if (result == EXPORT_RETRY && stopping(e)) {
		drop(e, DROP_SHUTDOWN, b->n);
	} else {
		settle(e, b, result, rejected);
		if (result == EXPORT_OK)
			say_delivered(e, clock__mono_ns() - started);
	}
	backoff__reset(&e->backoff);
	stats__hold(ST_EXPORT, -(int64_t)b->n);
	span__free_list(b->spans);
}

static void *run(void *arg)
{
	struct exporter *e = arg;
	struct batch b;

	while (!stopping(e)) {
		if (batch_queue__pop(e->queue, &b, TICK_NS))
			deliver(e, &b);
		else if (errno == ESHUTDOWN)
			break;
		tick(e);
	}
	pthread_mutex_lock(&e->lock);
	e->done = true;
	pthread_cond_broadcast(&e->changed);
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

/* ---- life ---------------------------------------------------------------------------------------- */

static int start_thread(struct exporter *e)
{
	sigset_t all, before;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	err = pthread_create(&e->thread, NULL, run, e);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err)
		log_error("cannot start the exporter thread: %s", strerror(err));
	return -err;
}

static void init_locks(struct exporter *e)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&e->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&e->changed, &attr);
	pthread_condattr_destroy(&attr);
}

static void free_exporter(struct exporter *e)
{
	if (e->ops && e->ops->close)
		e->ops->close(e->state);
	pthread_cond_destroy(&e->changed);
	pthread_mutex_destroy(&e->lock);
	mem__free(e);
}

struct exporter *exporter__start(const struct exporter_opts *o, struct batch_queue *q)
{
	struct exporter *e = mem__zalloc(sizeof(*e));
	const struct exporter_ops *ops = NULL;
	int err = -ENOMEM;

	if (!e)
		goto err;
	init_locks(e);
	e->queue = q;
	e->gone = o->gone;
	e->gone_ctx = o->gone_ctx;
	e->give_way_ns = o->give_way_ns ? o->give_way_ns : DEFAULT_GIVE_WAY_NS;
	backoff__init(&e->backoff, o->retry_initial_ns, o->retry_max_ns, clock__mono_ns() ^ (uintptr_t)e);
	for (size_t i = 0; i < sizeof(all_ops) / sizeof(all_ops[0]); i++) {
		if (strcmp(all_ops[i]->name, o->kind) == 0)
			ops = all_ops[i];
	}
	if (!ops) {
		log_error("exporter \"%s\" does not exist", o->kind);
		err = -EINVAL;
		goto err;
	}
	err = ops->open(o, &e->state);
	if (err)
		goto err;
	e->ops = ops;
	err = start_thread(e);
	if (err)
		goto err;
	return e;

err:
	if (err == -ENOMEM)
		log_error("exporter \"%s\": out of memory", o->kind);
	if (e)
		free_exporter(e);
	errno = -err;
	return NULL;
}

bool exporter__wait(struct exporter *e, uint64_t limit_ns)
{
	struct timespec until = to_timespec(clock__mono_ns() + limit_ns);
	int err = 0;
	bool done;

	pthread_mutex_lock(&e->lock);
	while (!e->done && err != ETIMEDOUT)
		err = pthread_cond_timedwait(&e->changed, &e->lock, &until);
	done = e->done;
	pthread_mutex_unlock(&e->lock);
	return done;
}

void exporter__stop(struct exporter *e, uint64_t limit_ns)
{
	bool done;

	if (!e)
		return;
	done = exporter__wait(e, limit_ns);
	pthread_mutex_lock(&e->lock);
	e->stop = true;
	pthread_cond_broadcast(&e->changed);
	pthread_mutex_unlock(&e->lock);
	if (!done && e->ops->interrupt)
		e->ops->interrupt(e->state);
	pthread_join(e->thread, NULL);
	free_exporter(e);
}
