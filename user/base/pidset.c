// SPDX-License-Identifier: Apache-2.0
#include "user/base/pidset.h"

#include "user/base/hash.h"
#include "user/base/mem.h"

struct pidset_entry {
	UT_hash_handle hh;
	uint32_t tgid;
};

static struct pidset_entry *find(const struct pidset *p, uint32_t tgid)
{
	struct pidset_entry *e;

	HASH_FIND(hh, p->entries, &tgid, sizeof(tgid), e);
	return e;
}

bool pidset__add(struct pidset *p, uint32_t tgid)
{
	struct pidset_entry *e;

	if (find(p, tgid))
		return false;
	if (HASH_COUNT(p->entries) >= PIDSET_MAX)
		pidset__free(p);
	e = mem__zalloc(sizeof(*e));
	if (!e)
		return false;
	e->tgid = tgid;
	HASH_ADD(hh, p->entries, tgid, sizeof(e->tgid), e);
	if (e->hh.tbl)
		return true;
	mem__free(e);
	return false;
}

void pidset__del(struct pidset *p, uint32_t tgid)
{
	struct pidset_entry *e = find(p, tgid);

	if (!e)
		return;
	HASH_DEL(p->entries, e);
	mem__free(e);
}

void pidset__free(struct pidset *p)
{
	struct pidset_entry *e, *next;

	HASH_ITER(hh, p->entries, e, next) {
		HASH_DEL(p->entries, e);
		mem__free(e);
	}
}
