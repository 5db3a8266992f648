// SPDX-License-Identifier: Apache-2.0
#include "exporter/group.h"

#include <errno.h>

#include "user/base/mem.h"

#define CAP_MIN 512u

/* The table has twice as many slots as spans, so that it is never more than half full. */
static uint32_t slot_count(uint32_t cap)
{
	return cap * 2;
}

static int reserve(struct group_set *g, uint32_t n)
{
	uint32_t cap = CAP_MIN;

	if (n <= g->cap)
		return 0;
	if (n > UINT32_MAX / 4)
		return -E2BIG;
	while (cap < n)
		cap *= 2;
	group_set__free(g);
	g->groups = mem__alloc(cap * sizeof(*g->groups));
	g->spans = mem__alloc(cap * sizeof(*g->spans));
	g->next = mem__alloc(cap * sizeof(*g->next));
	g->prev = mem__alloc(cap * sizeof(*g->prev));
	g->slots = mem__alloc(slot_count(cap) * sizeof(*g->slots));
	if (!g->groups || !g->spans || !g->next || !g->prev || !g->slots) {
		group_set__free(g);
		return -ENOMEM;
	}
	g->cap = cap;
	return 0;
}

static bool same_resource(const struct resource *a, const struct resource *b)
{
	return a == b || (a && b && a->hash == b->hash);
}

/* The group of this resource; makes it if there is none. */
static struct group *find_group(struct group_set *g, const struct resource *res)
{
	uint32_t mask = slot_count(g->cap) - 1;
	uint32_t at = res ? (uint32_t)(res->hash ^ res->hash >> 32) & mask : 0;

	while (g->slots[at]) {
		struct group *found = &g->groups[g->slots[at] - 1];

		if (same_resource(found->res, res))
			return found;
		at = (at + 1) & mask;
	}
	g->groups[g->n] = (struct group){ .res = res, .first = GROUP_END, .last = GROUP_END };
	g->slots[at] = ++g->n;
	return &g->groups[g->n - 1];
}

int group_set__build(struct group_set *g, const struct batch *b)
{
	struct group *last = NULL;
	const struct span *s;
	uint32_t i = 0;
	int err = reserve(g, b->n);

	if (err)
		return err;
	g->n = 0;
	if (g->slots)
		memset(g->slots, 0, slot_count(g->cap) * sizeof(*g->slots));
	for (s = b->spans; s && i < b->n; s = s->next, i++) {
		if (!last || !same_resource(last->res, s->res))
			last = find_group(g, s->res);
		g->spans[i] = s;
		g->prev[i] = last->last;
		g->next[i] = GROUP_END;
		if (last->last == GROUP_END)
			last->first = i;
		else
			g->next[last->last] = i;
		last->last = i;
	}
	return 0;
}

void group_set__free(struct group_set *g)
{
	mem__free(g->groups);
	mem__free(g->spans);
	mem__free(g->next);
	mem__free(g->prev);
	mem__free(g->slots);
	*g = (struct group_set){ 0 };
}
