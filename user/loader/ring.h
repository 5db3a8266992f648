/* SPDX-License-Identifier: Apache-2.0 */
/* The reading end of a BPF ring buffer. */
#ifndef WS_LOADER_RING_H
#define WS_LOADER_RING_H

#include <stddef.h>

struct ring;

/* `size`: of the data, a power of two; `record_max`: a longer record is cut. NULL with errno. */
struct ring *ring__new(int map_fd, size_t size, size_t record_max);
void ring__free(struct ring *r); /* NULL ok */
/* Bytes that were written and not read yet. */
size_t ring__unread(const struct ring *r);
/* Passes what has been written by now to `fn`, 8-aligned and in order. Returns the number of records. */
unsigned int ring__read(struct ring *r, void (*fn)(void *ctx, const void *rec, size_t len), void *ctx);

#endif
