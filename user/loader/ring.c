// SPDX-License-Identifier: Apache-2.0
/*
 * Instead of libbpf's. That one maps the data twice, one behind the other, so that each record lies in one piece, and
 * both count as memory of ours. Here they are mapped once, and a record that goes round the end is put together in a
 * buffer. It also tells the kernel after each record how far it is: a line of memory that whoever writes looks at for
 * each record, on another processor.
 *
 * The map (kernel/bpf/ringbuf.c): a page with the position of who reads, one with that of who writes, the data. Positions
 * only grow. A record has a head of eight bytes, its length and two flags first, and takes a multiple of eight.
 */
#include "user/loader/ring.h"

#include <errno.h>
#include <linux/bpf.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "user/base/mem.h"

#define GIVEN_BACK 64u /* … as often on the way through all of the data */

struct ring {
	unsigned long *read; /* position; written here, read by the kernel */
	const unsigned long *written;
	const uint8_t *data;
	size_t size, page, record_max;
	uint8_t *whole; /* a record that goes round the end */
};

struct ring *ring__new(int map_fd, size_t size, size_t record_max)
{
	struct ring *r = mem__zalloc(sizeof(*r));
	void *p;

	if (!r)
		return NULL;
	r->size = size;
	r->page = (size_t)sysconf(_SC_PAGESIZE);
	r->record_max = record_max;
	r->whole = mem__alloc(record_max);
	if (!r->whole)
		goto err;
	p = mmap(NULL, r->page, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);
	if (p == MAP_FAILED)
		goto err;
	r->read = p;
	p = mmap(NULL, r->page + size, PROT_READ, MAP_SHARED, map_fd, (off_t)r->page);
	if (p == MAP_FAILED)
		goto err;
	r->written = p;
	r->data = (const uint8_t *)p + r->page;
	return r;
err:
	ring__free(r);
	return NULL;
}

void ring__free(struct ring *r)
{
	int saved = errno;

	if (!r)
		return;
	if (r->written)
		munmap((void *)r->written, r->page + r->size);
	if (r->read)
		munmap(r->read, r->page);
	mem__free(r->whole);
	mem__free(r);
	errno = saved;
}

size_t ring__unread(const struct ring *r)
{
	return __atomic_load_n(r->written, __ATOMIC_ACQUIRE) - *r->read;
}

/* `len` bytes at this position, in one piece. */
static const void *in_one_piece(struct ring *r, unsigned long pos, size_t len)
{
	size_t at = pos & (r->size - 1), first = r->size - at;

	if (len <= first)
		return r->data + at;
	memcpy(r->whole, r->data + at, first);
	memcpy(r->whole + first, r->data, len - first);
	return r->whole;
}

unsigned int ring__read(struct ring *r, void (*fn)(void *ctx, const void *rec, size_t len), void *ctx)
{
	unsigned long pos = *r->read, end = __atomic_load_n(r->written, __ATOMIC_ACQUIRE), told = pos;
	unsigned int n = 0;

	while (pos < end) {
		/* A head never goes round the end: positions are multiples of eight. */
		uint32_t head = __atomic_load_n((const uint32_t *)(r->data + (pos & (r->size - 1))), __ATOMIC_ACQUIRE);
		size_t len = head & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);

		if (head & BPF_RINGBUF_BUSY_BIT)
			break;
		if (!(head & BPF_RINGBUF_DISCARD_BIT)) {
			size_t taken = len < r->record_max ? len : r->record_max;

			fn(ctx, in_one_piece(r, pos + BPF_RINGBUF_HDR_SZ, taken), taken);
			n++;
		}
		pos += BPF_RINGBUF_HDR_SZ + ((len + 7) & ~(size_t)7);
		if (pos - told >= r->size / GIVEN_BACK) {
			__atomic_store_n(r->read, pos, __ATOMIC_RELEASE);
			told = pos;
		}
	}
	__atomic_store_n(r->read, pos, __ATOMIC_RELEASE);
	return n;
}
