/* SPDX-License-Identifier: Apache-2.0 */
/* The spans of a batch by resource, as OTLP wants them: resources in order of appearance, spans in their order. */
#ifndef WS_EXPORTER_GROUP_H
#define WS_EXPORTER_GROUP_H

#include "user/batch/batch.h"

#define GROUP_END UINT32_MAX

struct group {
	const struct resource *res; /* NULL: spans without one */
	uint32_t first, last;	    /* indexes into spans[] */
};

struct group_set {
	struct group *groups;
	uint32_t n;
	const struct span **spans; /* of the batch, in its order */
	uint32_t *next, *prev;	   /* neighbours of a span within its group, or GROUP_END */
	uint32_t *slots;	   /* hash table: group + 1, or 0 */
	uint32_t cap;		   /* spans that there is room for */
};

/* Borrows the spans of `b`. Memory is kept for the next call. -ENOMEM */
int group_set__build(struct group_set *g, const struct batch *b);
void group_set__free(struct group_set *g);

#endif
