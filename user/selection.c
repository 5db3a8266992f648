// SPDX-License-Identifier: Apache-2.0
#include "user/selection.h"

#include "user/base/hash.h"
#include "user/base/mem.h"

#define WAIT_NS 1000000000ull
#define DEAD_MAX 1024u /* ended processes that late spans may still ask for */

struct entry {
	UT_hash_handle hh;
	uint32_t tgid;
	enum ws_selection selected;
	uint32_t asked;	   /* questions without an answer */
	uint64_t asked_ns; /* the last one */
	bool dead;
	struct entry *prev, *next; /* of the dead, longest dead first */
};

struct selection {
	struct entry *entries;
	struct entry *first_dead, *last_dead;
	uint32_t n_dead, n_open;
	bool selective; /* a process that was not named is not selected */
	bool closed;
};

struct selection *selection__new(void)
{
	return mem__zalloc(sizeof(struct selection));
}

static void set_asked(struct selection *s, struct entry *e, uint32_t asked)
{
	s->n_open += !e->asked && asked;
	s->n_open -= e->asked && !asked;
	e->asked = asked;
}

static void unlink_dead(struct selection *s, struct entry *e)
{
	if (!e->dead)
		return;
	if (e->prev)
		e->prev->next = e->next;
	else
		s->first_dead = e->next;
	if (e->next)
		e->next->prev = e->prev;
	else
		s->last_dead = e->prev;
	s->n_dead--;
}

static void forget(struct selection *s, struct entry *e)
{
	unlink_dead(s, e);
	set_asked(s, e, 0);
	HASH_DEL(s->entries, e);
	mem__free(e);
}

void selection__free(struct selection *s)
{
	struct entry *e, *tmp;

	if (!s)
		return;
	HASH_ITER(hh, s->entries, e, tmp)
		forget(s, e);
	mem__free(s);
}

static struct entry *find(const struct selection *s, uint32_t tgid)
{
	struct entry *e;

	HASH_FIND(hh, s->entries, &tgid, sizeof(tgid), e);
	return e;
}

static enum ws_selection unnamed(const struct selection *s)
{
	return s->selective ? WS_SELECT_NO : WS_SELECT_YES;
}

/* NULL: no memory; the process is then as selected as all that were not named. */
static struct entry *find_or_add(struct selection *s, uint32_t tgid)
{
	struct entry *e = find(s, tgid);

	if (e)
		return e;
	e = mem__zalloc(sizeof(*e));
	if (!e)
		return NULL;
	e->tgid = tgid;
	e->selected = unnamed(s);
	HASH_ADD(hh, s->entries, tgid, sizeof(e->tgid), e);
	if (!e->hh.tbl) {
		mem__free(e);
		return NULL;
	}
	return e;
}

void selection__told(struct selection *s, const struct ws_ev_select *ev)
{
	enum ws_selection selected = (enum ws_selection)(ev->selected & WS_SELECT_MASK);
	struct entry *e;

	if (!ev->tgid) { /* about everybody who is not named */
		s->selective = selected == WS_SELECT_NO;
		return;
	}
	/* What holds for all needs no entry: an answer may come when its process has gone. */
	e = selected == unnamed(s) ? find(s, ev->tgid) : find_or_add(s, ev->tgid);
	if (!e)
		return;
	e->selected = selected;
	if (ev->selected & WS_SELECT_ANSWER && e->asked)
		set_asked(s, e, e->asked - 1);
}

static bool is_receiver(const struct selection *s, uint32_t tgid)
{
	const struct entry *e = find(s, tgid);

	return e && e->selected == WS_SELECT_RECEIVER;
}

void selection__ask(struct selection *s, uint32_t tgid, uint32_t parent, uint64_t now)
{
	struct entry *e = find(s, tgid);

	if (e && e->dead) { /* another process has its number now */
		forget(s, e);
		e = NULL;
	}
	/* Where all are selected there are receivers' children: forked ones are receivers, until they run another program. */
	if (!tgid || (!s->selective && !(e && e->asked) && !is_receiver(s, tgid) && !is_receiver(s, parent)))
		return;
	e = find_or_add(s, tgid);
	if (!e)
		return;
	/* Answers of long ago are lost ones. */
	set_asked(s, e, now - e->asked_ns < WAIT_NS ? e->asked + 1 : 1);
	e->asked_ns = now;
}

void selection__exit(struct selection *s, uint32_t tgid)
{
	struct entry *e = find(s, tgid);

	if (!e || e->dead)
		return;
	e->dead = true;
	e->prev = s->last_dead;
	if (s->last_dead)
		s->last_dead->next = e;
	else
		s->first_dead = e;
	s->last_dead = e;
	if (++s->n_dead > DEAD_MAX)
		forget(s, s->first_dead);
}

enum match_selection selection__of(const struct selection *s, uint32_t tgid, uint64_t now)
{
	const struct entry *e = find(s, tgid);

	if (e && e->asked && !s->closed && now - e->asked_ns < WAIT_NS)
		return MATCH_UNDECIDED;
	switch (e ? e->selected : unnamed(s)) {
	case WS_SELECT_NO:
		return MATCH_UNSELECTED;
	case WS_SELECT_RECEIVER:
		return MATCH_RECEIVER;
	default:
		return MATCH_SELECTED;
	}
}

uint32_t selection__open(const struct selection *s)
{
	return s->n_open;
}

void selection__close(struct selection *s)
{
	s->closed = true;
}
