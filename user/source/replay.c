// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "user/base/mem.h"
#include "user/source/recording.h"
#include "user/source/source.h"

#define CHUNK (256u * 1024)
#define PAD8(n) (((n) + 7) & ~(size_t)7)

struct replay {
	int fd;
	char *path; /* for messages */
	struct recording_head head;
	char *options;
	uint8_t *buf; /* 8-aligned; grows up to one record of RECORD_MAX */
	size_t start, end, size;
	uint64_t offset; /* of buf[start] in the file */
	uint64_t records, lost;
	bool done;
};

/* At least n bytes at buf[start]. 1; 0: the file ends before; or -errno. */
static int need(struct replay *r, size_t n)
{
	if (r->end - r->start >= n)
		return 1;
	/* What is left moves to the front: `start` stays a multiple of 8, as every item of the file is. */
	memmove(r->buf, r->buf + r->start, r->end - r->start);
	r->end -= r->start;
	r->start = 0;
	if (n > r->size) {
		uint8_t *buf = mem__realloc(r->buf, n);

		if (!buf)
			return -ENOMEM;
		r->buf = buf;
		r->size = n;
	}
	while (r->end < n) {
		ssize_t got = read(r->fd, r->buf + r->end, r->size - r->end);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : 0;
		r->end += (size_t)got;
	}
	return 1;
}

static void take(struct replay *r, size_t n)
{
	r->start += n;
	r->offset += n;
}

static int refuse(char *why, const char *path, const char *text)
{
	snprintf(why, RECORDING_WHY_MAX, "%s: %s", path, text);
	return -EINVAL;
}

static int read_head(struct replay *r, const char *path, char *why)
{
	size_t padded;
	int ret = need(r, sizeof(r->head));

	if (ret < 0)
		goto failed;
	/* A file that is too short for its magic is no recording either. */
	if (r->end < 8 || memcmp(r->buf, RECORDING_MAGIC, 8) != 0)
		return refuse(why, path, "not a recording of wirespan");
	if (ret == 0)
		return refuse(why, path, "the recording is cut off in its head");
	memcpy(&r->head, r->buf, sizeof(r->head));
	if (r->head.order != RECORDING_ORDER)
		return refuse(why, path, "recorded on a machine of the other byte order: replay it there");
	r->head.version[sizeof(r->head.version) - 1] = 0;
	for (char *p = r->head.version; *p; p++) {
		if ((unsigned char)*p < 0x20 || (unsigned char)*p > 0x7e)
			*p = '?';
	}
	if (r->head.abi != WS_ABI_VERSION) {
		snprintf(why, RECORDING_WHY_MAX,
			 "%s: recorded with event format %" PRIu32 " by wirespan %s, this one reads %d: replay it with that",
			 path, r->head.abi, r->head.version, WS_ABI_VERSION);
		return -EPROTO;
	}
	if (r->head.options_len > RECORDING_OPTIONS_MAX)
		return refuse(why, path, "damaged: its head is not consistent");
	padded = PAD8(r->head.options_len);
	take(r, sizeof(r->head));
	ret = need(r, padded);
	if (ret < 0)
		goto failed;
	if (ret == 0)
		return refuse(why, path, "the recording is cut off in its head");
	r->options = mem__alloc(padded + 1);
	if (!r->options) {
		ret = -ENOMEM;
		goto failed;
	}
	memcpy(r->options, r->buf + r->start, padded);
	take(r, padded);
	return 0;
failed:
	snprintf(why, RECORDING_WHY_MAX, "%s: cannot read: %s", path, strerror(-ret));
	return ret;
}

struct replay *replay__open(const char *path, char why[RECORDING_WHY_MAX])
{
	struct replay *r = mem__zalloc(sizeof(*r));
	int err = -ENOMEM;

	snprintf(why, RECORDING_WHY_MAX, "%s: out of memory", path);
	if (!r)
		return NULL;
	r->size = CHUNK;
	r->fd = -1;
	r->buf = mem__alloc(r->size);
	r->path = mem__strdup(path);
	if (!r->buf || !r->path)
		goto err;
	r->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (r->fd < 0) {
		err = -errno;
		snprintf(why, RECORDING_WHY_MAX, "%s: cannot open the recording: %s", path, strerror(-err));
		goto err;
	}
	err = read_head(r, path, why);
	if (err)
		goto err;
	return r;
err:
	replay__free(r);
	errno = -err;
	return NULL;
}

void replay__free(struct replay *r)
{
	if (!r)
		return;
	if (r->fd >= 0)
		close(r->fd);
	mem__free(r->path);
	mem__free(r->options);
	mem__free(r->buf);
	mem__free(r);
}

const uint8_t *replay__key(const struct replay *r)
{
	return r->head.key;
}

const void *replay__options(const struct replay *r, size_t *ret_len)
{
	*ret_len = r->head.options_len;
	return r->options;
}

uint64_t replay__lost(const struct replay *r)
{
	return r->lost;
}

static int damaged(const struct replay *r, int err, const char *text, char *why)
{
	snprintf(why, RECORDING_WHY_MAX, "%s: %s after %" PRIu64 " events, at byte %" PRIu64, r->path, text, r->records,
		 r->offset);
	return err;
}

static int cut_off(const struct replay *r, int ret, char *why)
{
	if (ret < 0)
		return damaged(r, ret, ret == -ENOMEM ? "out of memory" : "cannot be read any further", why);
	return damaged(r, -ENODATA, "cut off: not ended in good order, or copied in part: it stops",
		       why);
}

/* The frame with length 0 was read. */
static int read_end(struct replay *r, char *why)
{
	struct recording_end e;
	int ret = need(r, sizeof(e));

	if (ret <= 0)
		return cut_off(r, ret, why);
	memcpy(&e, r->buf + r->start, sizeof(e));
	if (e.records != r->records)
		return damaged(r, -EBADMSG, "damaged: it does not hold as many events as it says:", why);
	take(r, sizeof(e));
	r->lost = e.lost;
	r->done = true;
	return 0;
}

int replay__step(struct replay *r, struct source *s, unsigned int max, char why[RECORDING_WHY_MAX])
{
	if (r->done)
		return 0;
	for (unsigned int i = 0; i < max; i++) {
		struct recording_frame f;
		int ret = need(r, sizeof(f));

		if (ret <= 0)
			return cut_off(r, ret, why);
		memcpy(&f, r->buf + r->start, sizeof(f));
		if (f.len > RECORD_MAX || f.pad != 0)
			return damaged(r, -EBADMSG, "damaged", why);
		/* The frame is taken with its record: an offset in a message is where a record begins. */
		ret = need(r, sizeof(f) + PAD8(f.len));
		if (ret <= 0)
			return cut_off(r, ret, why);
		if (f.len == 0) {
			take(r, sizeof(f));
			return read_end(r, why);
		}
		source__push(s, r->buf + r->start + sizeof(f), f.len);
		r->records++;
		take(r, sizeof(f) + PAD8(f.len));
	}
	return 1;
}
