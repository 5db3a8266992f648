// SPDX-License-Identifier: Apache-2.0
#include "user/enrich/proc_table.h"

struct desc *desc__new(const uint8_t *data, uint32_t size)
{
	struct desc *d = mem__alloc(sizeof(*d) + size);

	if (!d)
		return NULL;
	*d = (struct desc){ .refs = 1, .size = size };
	if (size)
		memcpy(d->data, data, size);
	return d;
}

struct desc *desc__get(struct desc *d)
{
	if (d)
		d->refs++;
	return d;
}

void desc__put(struct desc *d)
{
	if (d && --d->refs == 0)
		mem__free(d);
}

static void list__append(struct proc_list *l, struct proc *p)
{
	p->next = NULL;
	p->prev = l->last;
	if (l->last)
		l->last->next = p;
	else
		l->first = p;
	l->last = p;
	l->n++;
}

static void list__remove(struct proc_list *l, struct proc *p)
{
	if (p->prev)
		p->prev->next = p->next;
	else
		l->first = p->next;
	if (p->next)
		p->next->prev = p->prev;
	else
		l->last = p->prev;
	l->n--;
}

static void evict(struct proc_table *t, struct proc *p)
{
	/* Older incarnations cannot stand in for the newest: a span of that one would take them for its own. */
	while (!p->newer && p->older)
		evict(t, p->older);
	t->evicting(t->ctx, p);
	list__remove(p->dead ? &t->dead : &t->live, p);
	if (p->older)
		p->older->newer = p->newer;
	if (p->newer) {
		p->newer->older = p->older;
	} else {
		HASH_DEL(t->slots, p->slot);
		mem__free(p->slot);
	}
	desc__put(p->own);
	desc__put(p->inherited);
	resource__put(p->res);
	mem__free(p->args);
	mem__free(p);
}

struct proc *proc_table__find(struct proc_table *t, uint32_t tgid, uint64_t mono_ns)
{
	struct pid_slot *slot;
	struct proc *p;

	HASH_FIND(hh, t->slots, &tgid, sizeof(tgid), slot);
	p = slot ? slot->newest : NULL;
	while (p && mono_ns && p->born_ns > mono_ns && p->older)
		p = p->older;
	return p;
}

void proc_table__use(struct proc_table *t, struct proc *p)
{
	struct proc_list *l = p->dead ? &t->dead : &t->live;

	if (l->last == p)
		return;
	list__remove(l, p);
	list__append(l, p);
}

void proc_table__kill(struct proc_table *t, struct proc *p)
{
	if (p->dead)
		return;
	list__remove(&t->live, p);
	p->dead = true;
	list__append(&t->dead, p);
}

static void bound(struct proc_table *t, const struct proc *keep)
{
	while (t->dead.n > PROC_DEAD_MAX)
		evict(t, t->dead.first);
	while (t->live.n > PROC_LIVE_MAX && t->live.first != keep)
		evict(t, t->live.first);
}

static void bound_chain(struct proc_table *t, struct proc *p)
{
	uint32_t n = 1;

	while (p->older) {
		p = p->older;
		n++;
	}
	if (n > PROC_CHAIN_MAX)
		evict(t, p);
}

static struct pid_slot *get_slot(struct proc_table *t, uint32_t tgid)
{
	struct pid_slot *slot;

	HASH_FIND(hh, t->slots, &tgid, sizeof(tgid), slot);
	if (slot)
		return slot;
	slot = mem__zalloc(sizeof(*slot));
	if (!slot)
		return NULL;
	slot->tgid = tgid;
	HASH_ADD(hh, t->slots, tgid, sizeof(slot->tgid), slot);
	if (!slot->hh.tbl) {
		mem__free(slot);
		return NULL;
	}
	return slot;
}

struct proc *proc_table__add(struct proc_table *t, uint32_t tgid, uint64_t born_ns)
{
	struct proc *p = mem__zalloc(sizeof(*p));
	struct pid_slot *slot = p ? get_slot(t, tgid) : NULL;

	if (!slot) {
		mem__free(p);
		return NULL;
	}
	*p = (struct proc){ .slot = slot, .older = slot->newest, .tgid = tgid, .born_ns = born_ns, .gen = ++t->gens };
	slot->newest = p;
	list__append(&t->live, p);
	if (p->older) {
		p->older->newer = p;
		proc_table__kill(t, p->older);
		bound_chain(t, p);
	}
	bound(t, p);
	return p;
}

void proc_table__free(struct proc_table *t)
{
	while (t->dead.first)
		evict(t, t->dead.first);
	while (t->live.first)
		evict(t, t->live.first);
}
