// SPDX-License-Identifier: Apache-2.0
/*
 * Two buffers: the pipeline thread fills one while the writer thread brings the other to the disk. When both are
 * full the event is lost and counted, because a disk can stand still for longer than a service can wait.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "user/base/clock.h"
#include "user/base/mem.h"
#include "user/model/stats.h"
#include "user/source/mask.h"
#include "user/source/recording.h"

#define BUFFER_SIZE (4u * 1024 * 1024)
#define WAKE_AT (64u * 1024)		 /* bytes that are worth a write */
#define WAKE_NS (200ull * 1000 * 1000) /* but not much older than this */
#define PAD8(n) (((n) + 7) & ~(size_t)7)

struct recorder {
	int fd;
	char *path; /* for messages */
	struct mask *mask; /* NULL: secrets are kept */
	pthread_t thread;
	bool started;

	pthread_mutex_t lock;
	pthread_cond_t wake;
	uint8_t *fill; /* under lock */
	size_t fill_len;
	bool closing;  /* under lock */
	uint8_t *drain; /* writer thread */
	size_t size;
	int error; /* positive errno, atomic */

	/* pipeline thread */
	uint64_t records, lost;
	uint64_t lost_now; /* since the last event that found room */
};

static void count(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED); /* one writer, as in the books */
}

int recorder__error(const struct recorder *r)
{
	return __atomic_load_n(&r->error, __ATOMIC_ACQUIRE);
}

/* ---- writer thread ------------------------------------------------------------------------------ */

static int write_all(int fd, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static void wait_for_work(struct recorder *r)
{
	struct timespec until;
	uint64_t at = clock__mono_ns() + WAKE_NS;

	until.tv_sec = (time_t)(at / 1000000000);
	until.tv_nsec = (long)(at % 1000000000);
	while (r->fill_len < WAKE_AT && !r->closing) {
		if (pthread_cond_timedwait(&r->wake, &r->lock, &until) == ETIMEDOUT)
			return;
	}
}

static void *run_writer(void *arg)
{
	struct recorder *r = arg;
	bool closing = false;

	pthread_setname_np(pthread_self(), "ws-record");
	while (!closing) {
		uint8_t *full;
		size_t len;
		int err = 0;

		pthread_mutex_lock(&r->lock);
		wait_for_work(r);
		full = r->fill;
		len = r->fill_len;
		r->fill = r->drain;
		r->fill_len = 0;
		r->drain = full;
		closing = r->closing;
		pthread_mutex_unlock(&r->lock);
		if (len && !recorder__error(r))
			err = write_all(r->fd, full, len);
		if (err)
			__atomic_store_n(&r->error, -err, __ATOMIC_RELEASE);
	}
	return NULL;
}

static int start_writer(struct recorder *r)
{
	pthread_condattr_t attr;
	int err;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&r->wake, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&r->lock, NULL);
	err = pthread_create(&r->thread, NULL, run_writer, r);
	r->started = err == 0;
	return -err;
}

/* ---- opening ------------------------------------------------------------------------------------ */

/*
 * Always a new file of our own: writing into an old one would hand the bytes to whoever holds it open or linked, and
 * following a link would let somebody else choose what root overwrites.
 */
static int create_file(const char *path, char *why)
{
	struct stat st;
	int fd, err;

	if (lstat(path, &st) == 0) {
		if (!S_ISREG(st.st_mode)) {
			snprintf(why, RECORDING_WHY_MAX, "%s: not a regular file: choose another name", path);
			errno = EEXIST;
			return -1;
		}
		if (unlink(path)) {
			err = errno;
			snprintf(why, RECORDING_WHY_MAX, "%s: cannot replace the file: %s", path, strerror(err));
			errno = err;
			return -1;
		}
	}
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0) {
		err = errno;
		snprintf(why, RECORDING_WHY_MAX, "%s: cannot create the file: %s", path, strerror(err));
		errno = err;
	}
	return fd;
}

static int write_head(int fd, const struct recorder_opts *o)
{
	struct recording_head h = { .magic = RECORDING_MAGIC, .order = RECORDING_ORDER, .abi = WS_ABI_VERSION,
				    .options_len = (uint32_t)o->options_len,
				    .flags = o->keep_secrets ? RECORDING_SECRETS : 0 };
	static const uint8_t zeros[8];
	int err;

	if (o->options_len > RECORDING_OPTIONS_MAX)
		return -E2BIG;
	memcpy(h.key, o->key, sizeof(h.key));
	snprintf(h.version, sizeof(h.version), "%s", WS_VERSION);
	err = write_all(fd, &h, sizeof(h));
	if (!err)
		err = write_all(fd, o->options, o->options_len);
	if (!err)
		err = write_all(fd, zeros, PAD8(o->options_len) - o->options_len);
	return err;
}

static void free_recorder(struct recorder *r)
{
	if (r->fd >= 0)
		close(r->fd);
	mask__free(r->mask);
	mem__free(r->path);
	mem__free(r->fill);
	mem__free(r->drain);
	mem__free(r);
}

struct recorder *recorder__new(const struct recorder_opts *o, char why[RECORDING_WHY_MAX])
{
	struct recorder *r = mem__zalloc(sizeof(*r));
	int err = -ENOMEM;

	snprintf(why, RECORDING_WHY_MAX, "%s: out of memory", o->path);
	if (!r)
		return NULL;
	r->fd = -1;
	r->size = PAD8(o->buffer ? o->buffer : BUFFER_SIZE);
	r->fill = mem__alloc(r->size);
	r->drain = mem__alloc(r->size);
	r->path = mem__strdup(o->path);
	if (!r->fill || !r->drain || !r->path)
		goto err;
	if (!o->keep_secrets) {
		r->mask = mask__new(0, o->keep_queries);
		if (!r->mask)
			goto err;
	}
	r->fd = create_file(o->path, why);
	if (r->fd < 0) {
		err = -errno;
		goto err;
	}
	err = write_head(r->fd, o);
	if (!err)
		err = start_writer(r);
	if (err) {
		snprintf(why, RECORDING_WHY_MAX, "%s: cannot write: %s", o->path, strerror(-err));
		goto err;
	}
	return r;
err:
	free_recorder(r);
	errno = -err;
	return NULL;
}

/* ---- pipeline thread ----------------------------------------------------------------------------- */

/* Under lock. NULL: no room. */
static uint8_t *reserve(struct recorder *r, size_t len)
{
	struct recording_frame f = { .len = (uint32_t)len };
	size_t need = sizeof(f) + PAD8(len);
	uint8_t *p = r->fill + r->fill_len;

	if (need > r->size - r->fill_len)
		return NULL;
	memcpy(p, &f, sizeof(f));
	memset(p + sizeof(f) + PAD8(len) - 8, 0, 8); /* padding */
	r->fill_len += need;
	return p + sizeof(f);
}

/* In place of what was lost, so that a replay's books show it, too. Under lock. */
static bool append_lost(struct recorder *r, uint64_t ts)
{
	struct ws_ev_lost lost = { .ev = { .type = WS_EV_LOST, .len = sizeof(lost), .ts = ts }, .count = r->lost_now };
	uint8_t *p;

	if (!r->lost_now)
		return true;
	p = reserve(r, sizeof(lost));
	if (!p)
		return false;
	memcpy(p, &lost, sizeof(lost));
	r->records++;
	r->lost_now = 0;
	return true;
}

void recorder__add(struct recorder *r, const struct ws_ev *ev)
{
	uint8_t *p = NULL;
	bool wake;

	pthread_mutex_lock(&r->lock);
	if (!recorder__error(r) && append_lost(r, ev->ts))
		p = reserve(r, ev->len);
	if (p) {
		memcpy(p, ev, ev->len);
		if (r->mask)
			mask__event(r->mask, (struct ws_ev *)(void *)p);
	}
	wake = r->fill_len >= WAKE_AT;
	pthread_mutex_unlock(&r->lock);
	if (p) {
		r->records++;
		count(&stats.recorded, 1);
	} else {
		r->lost++;
		r->lost_now++;
		count(&stats.recording_lost, 1);
	}
	if (wake)
		pthread_cond_signal(&r->wake);
}

/* ---- closing ------------------------------------------------------------------------------------- */

/* 0, or -ETIMEDOUT: the disk hangs, the thread and its memory are left behind. */
static int stop_writer(struct recorder *r, uint64_t limit_ns)
{
	uint64_t at = clock__mono_ns() + limit_ns;
	struct timespec until = { .tv_sec = (time_t)(at / 1000000000), .tv_nsec = (long)(at % 1000000000) };

	pthread_mutex_lock(&r->lock);
	r->closing = true;
	pthread_mutex_unlock(&r->lock);
	pthread_cond_signal(&r->wake);
	if (pthread_clockjoin_np(r->thread, NULL, CLOCK_MONOTONIC, &until) == 0)
		return 0;
	pthread_detach(r->thread);
	return -ETIMEDOUT;
}

static int write_end(struct recorder *r)
{
	struct {
		struct recording_frame f;
		struct recording_end e;
	} end = { .e = { .records = r->records, .lost = r->lost } };

	return write_all(r->fd, &end, sizeof(end));
}

int recorder__close(struct recorder *r, uint64_t limit_ns, char why[RECORDING_WHY_MAX])
{
	int err;

	if (!r)
		return 0;
	err = stop_writer(r, limit_ns);
	if (err) {
		snprintf(why, RECORDING_WHY_MAX, "%s: the disk did not take the end of the recording in time",
			 r->path);
		return err;
	}
	pthread_cond_destroy(&r->wake);
	pthread_mutex_destroy(&r->lock);
	err = -recorder__error(r);
	if (!err)
		err = write_end(r);
	if (!err && close(r->fd))
		err = -errno;
	else if (err)
		close(r->fd);
	r->fd = -1;
	if (err)
		snprintf(why, RECORDING_WHY_MAX, "%s: cannot write: %s: the recording ends early", r->path, strerror(-err));
	free_recorder(r);
	return err;
}
