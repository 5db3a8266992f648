// SPDX-License-Identifier: Apache-2.0
#include "user/base/mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "user/base/dynbuf.h"
#include "user/base/mem.h"

struct mailbox {
	pthread_mutex_t lock;
	struct dynbuf in, out; /* out is being read, without the lock */
	int fd;
};

struct mailbox *mailbox__new(size_t max)
{
	struct mailbox *m = mem__zalloc(sizeof(*m));

	if (!m)
		return NULL;
	m->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->fd < 0) {
		mem__free(m);
		return NULL;
	}
	pthread_mutex_init(&m->lock, NULL);
	dynbuf__init(&m->in, max);
	dynbuf__init(&m->out, max);
	return m;
}

void mailbox__free(struct mailbox *m)
{
	if (!m)
		return;
	close(m->fd);
	dynbuf__free(&m->in);
	dynbuf__free(&m->out);
	pthread_mutex_destroy(&m->lock);
	mem__free(m);
}

int mailbox__fd(const struct mailbox *m)
{
	return m->fd;
}

static int append(struct dynbuf *b, const void *p, size_t n)
{
	return n ? dynbuf__append(b, p, n) : 0;
}

int mailbox__put(struct mailbox *m, const void *head, size_t head_len, const void *tail, size_t tail_len)
{
	static const uint8_t zeros[8];
	uint64_t len = head_len + tail_len, one = 1;
	size_t before;
	int err;

	pthread_mutex_lock(&m->lock);
	before = m->in.len;
	err = append(&m->in, &len, sizeof(len));
	err = err ? err : append(&m->in, head, head_len);
	err = err ? err : append(&m->in, tail, tail_len);
	err = err ? err : append(&m->in, zeros, -len & 7);
	if (err)
		m->in.len = before;
	pthread_mutex_unlock(&m->lock);
	if (!err && write(m->fd, &one, sizeof(one)) < 0)
		err = errno == EAGAIN ? 0 : -errno; /* EAGAIN: the counter is full, so it is readable */
	return err;
}

unsigned int mailbox__take(struct mailbox *m, void (*fn)(void *ctx, const void *rec, size_t len), void *ctx)
{
	struct dynbuf swap;
	unsigned int n = 0;
	uint64_t len;

	if (read(m->fd, &len, sizeof(len)) < 0)
		return 0;
	pthread_mutex_lock(&m->lock);
	swap = m->out;
	m->out = m->in;
	m->in = swap;
	pthread_mutex_unlock(&m->lock);
	for (size_t at = 0; at < m->out.len; at += (len + 7) & ~7ull, n++) {
		len = *(const uint64_t *)(m->out.data + at);
		at += sizeof(len);
		fn(ctx, m->out.data + at, len);
	}
	dynbuf__reset(&m->out);
	return n;
}
