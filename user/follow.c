// SPDX-License-Identifier: Apache-2.0
#include "user/follow.h"

#include <stdio.h>
#include <string.h>

#include "user/base/clock.h"
#include "user/base/hash.h"
#include "user/base/log.h"
#include "user/base/mem.h"
#include "user/enrich/proc_read.h"
#include "user/loader/discover.h"
#include "user/loader/loader.h"
#include "user/match/match.h"
#include "user/runtime/runtime.h"

#define SERVING_MAX 65536u /* processes remembered */
/* A worker that was forked imports what it serves with before its first connection; it is looked at again after this. */
#define FORKED_NS 1000000000ull
#define FORKED_SLOTS 256u

struct serving {
	UT_hash_handle hh;
	uint32_t tgid;
};

struct follow {
	struct loader *loader;
	struct discover *discover;
	uint32_t kinds; /* of runtimes that are followed */
	struct serving *serving; /* pipeline thread */
	struct {
		uint32_t tgid; /* 0: free */
		uint64_t due;
	} forked[FORKED_SLOTS];
	uint32_t n_forked;
	struct log_limit lim;
};

uint32_t follow__kinds(uint32_t evidence_off)
{
	const uint32_t python = 1u << EVIDENCE_CONTEXT | 1u << EVIDENCE_EXECUTOR; /* greenlets go with them */
	const uint32_t go = 1u << EVIDENCE_GOROUTINE | 1u << EVIDENCE_GOROUTINE_INHERITED | 1u << EVIDENCE_CARRIED;

	const uint32_t libuv = 1u << EVIDENCE_TURN | 1u << EVIDENCE_TURN_CONTINUED;

	return (~evidence_off & python ? 1u << WS_RT_CPYTHON : 0) | (~evidence_off & go ? 1u << WS_RT_GO : 0) |
	       (~evidence_off & 1u << EVIDENCE_VIRTUAL ? 1u << WS_RT_JVM : 0) |
	       (~evidence_off & libuv ? 1u << WS_RT_LIBUV : 0);
}

struct follow *follow__new(struct loader *l, struct discover *d, uint32_t kinds)
{
	struct follow *f = mem__zalloc(sizeof(*f));

	if (!f)
		return NULL;
	f->loader = l;
	f->discover = d;
	f->kinds = kinds;
	return f;
}

/* ---- pipeline thread -------------------------------------------------------------------------------- */

static void forget_all(struct follow *f)
{
	struct serving *s, *next;

	HASH_ITER(hh, f->serving, s, next) {
		HASH_DEL(f->serving, s);
		mem__free(s);
	}
}

void follow__free(struct follow *f)
{
	if (!f)
		return;
	forget_all(f);
	mem__free(f);
}

void follow__forget(struct follow *f, uint32_t tgid)
{
	struct serving *s;

	HASH_FIND(hh, f->serving, &tgid, sizeof(tgid), s);
	if (!s)
		return;
	HASH_DEL(f->serving, s);
	mem__free(s);
}

bool follow__serves(struct follow *f, uint32_t tgid)
{
	struct serving *s;

	HASH_FIND(hh, f->serving, &tgid, sizeof(tgid), s);
	if (s)
		return false;
	if (HASH_COUNT(f->serving) >= SERVING_MAX)
		forget_all(f);
	s = mem__zalloc(sizeof(*s));
	if (!s)
		return false;
	s->tgid = tgid;
	HASH_ADD(hh, f->serving, tgid, sizeof(s->tgid), s);
	if (s->hh.tbl)
		return true;
	mem__free(s);
	return false;
}

/* ---- control thread --------------------------------------------------------------------------------- */

static void plant(struct follow *f, uint32_t tgid, const struct runtime *r)
{
	int err = loader__follow(f->loader, tgid, r);

	if (err < 0)
		log__limited(&f->lim, LOG_LVL_WARN, "pid %u: %s: probes: %s: its calls may go without a parent", tgid, r->version,
			     strerror(-err));
	else if (err)
		log_debug("pid %u: %s: contexts are followed", tgid, r->version);
}

void follow__process(struct follow *f, uint32_t tgid)
{
	struct runtime r;

	/* Gone, or nothing that we may read. */
	if (!discover__selected(f->discover, tgid) || runtime__inspect((pid_t)proc__reader("/proc", tgid), &r))
		return;
	r.desc.tgid = tgid;
	if (r.hazard)
		loader__mislead(f->loader, tgid);
	if (r.desc.kind != WS_RT_NONE && !r.hazard && f->kinds & 1u << r.desc.kind)
		plant(f, tgid, &r);
	else if ((r.hazard || r.why[0]) && !r.not_yet)
		log__limited(&f->lim, LOG_LVL_INFO, "pid %u: %s: contexts are not followed: %s", tgid, r.version,
			     r.hazard ? r.hazard : r.why);
	runtime__free(&r);
}

static void look_twice(struct follow *f, uint32_t tgid)
{
	uint32_t slot = f->n_forked++ % FORKED_SLOTS;

	follow__process(f, tgid);
	f->forked[slot].tgid = tgid;
	f->forked[slot].due = clock__mono_ns() + FORKED_NS;
}

void follow__forked(struct follow *f, uint32_t parent, uint32_t tgid)
{
	if (loader__follows(f->loader, parent))
		look_twice(f, tgid);
}

/* Kernels without CONFIG_PROC_CHILDREN: at their first connection. */
void follow__workers(struct follow *f, uint32_t tgid)
{
	char path[64];
	unsigned child;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%u/task/%u/children", tgid, tgid);
	file = loader__follows(f->loader, tgid) ? fopen(path, "re") : NULL;
	while (file && fscanf(file, "%u", &child) == 1)
		look_twice(f, child);
	if (file)
		fclose(file);
}

void follow__ended(struct follow *f, uint32_t tgid)
{
	loader__unfollow(f->loader, tgid);
}

void follow__tick(struct follow *f, uint64_t now)
{
	for (uint32_t i = 0; i < FORKED_SLOTS; i++) {
		uint32_t tgid = f->forked[i].tgid;

		if (!tgid || now < f->forked[i].due)
			continue;
		f->forked[i].tgid = 0;
		follow__process(f, tgid);
	}
}
