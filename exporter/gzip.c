// SPDX-License-Identifier: Apache-2.0
#include "exporter/gzip.h"

#include <errno.h>
#include <zlib.h>

#include "user/base/mem.h"

#define GZIP_FORMAT 16 /* added to windowBits: gzip header and trailer (zlib.h, deflateInit2) */

struct gzip {
	z_stream z;
	unsigned char *buf;
	size_t cap;
};

static voidpf alloc_items(voidpf opaque, uInt items, uInt size)
{
	return mem__alloc((size_t)items * size);
}

static void free_items(voidpf opaque, voidpf p)
{
	mem__free(p);
}

struct gzip *gzip__new(void)
{
	struct gzip *g = mem__zalloc(sizeof(*g));

	if (!g)
		return NULL;
	g->z.zalloc = alloc_items;
	g->z.zfree = free_items;
	/* Fastest: spans repeat themselves so much that better levels cost more than they save. */
	if (deflateInit2(&g->z, Z_BEST_SPEED, Z_DEFLATED, MAX_WBITS + GZIP_FORMAT, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
		mem__free(g);
		errno = ENOMEM; /* the parameters are right, so nothing else can be wrong */
		return NULL;
	}
	return g;
}

void gzip__free(struct gzip *g)
{
	if (!g)
		return;
	deflateEnd(&g->z);
	mem__free(g->buf);
	mem__free(g);
}

int gzip__pack(struct gzip *g, struct str in, struct str *ret)
{
	size_t bound;

	deflateReset(&g->z);
	bound = GZIP_HEADROOM + deflateBound(&g->z, in.len);
	if (bound > g->cap) {
		unsigned char *buf = mem__alloc(bound);

		if (!buf)
			return -ENOMEM;
		mem__free(g->buf);
		g->buf = buf;
		g->cap = bound;
	}
	g->z.next_in = (unsigned char *)in.p;
	g->z.avail_in = (uInt)in.len; /* requests end at 64 MiB */
	g->z.next_out = g->buf + GZIP_HEADROOM;
	g->z.avail_out = (uInt)(g->cap - GZIP_HEADROOM);
	if (deflate(&g->z, Z_FINISH) != Z_STREAM_END)
		return -ENOMEM;
	*ret = (struct str){ (const char *)g->buf + GZIP_HEADROOM, g->z.total_out };
	return 0;
}
