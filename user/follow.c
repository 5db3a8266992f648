// SPDX-License-Identifier: Apache-2.0
#include "user/follow.h"

#include <stdio.h>
#include <string.h>

#include "user/base/clock.h"
#include "user/base/log.h"
#include "user/base/mem.h"
#include "user/base/pidset.h"
#include "user/enrich/proc_read.h"
#include "user/follow_tls.h"
#include "user/loader/discover.h"
#include "user/loader/loader.h"
#include "user/match/match.h"
#include "user/runtime/runtime.h"

/* A worker that was forked imports what it serves with before its first connection; it is looked at again after this. */
#define FORKED_NS 1000000000ull
#define FORKED_SLOTS 256u
/* How often processes are asked whether work goes through deques there. */
#define WATCH_NS 1000000000ull
#define WATCHED_SLOTS 256u

struct follow {
	struct loader *loader;
	struct discover *discover;
	struct follow_tls *tls; /* NULL: not wanted */
	uint32_t kinds; /* of runtimes that are followed */
	struct pidset serving; /* pipeline thread */
	struct {
		uint32_t tgid; /* 0: free */
		uint64_t due;
	} forked[FORKED_SLOTS];
	uint32_t n_forked;
	uint32_t watched[WATCHED_SLOTS]; /* followed without deques; 0: free */
	uint32_t n_watched;
	uint64_t watch_due;
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

struct follow *follow__new(struct loader *l, struct discover *d, uint32_t kinds, bool tls)
{
	struct follow *f = mem__zalloc(sizeof(*f));

	if (!f)
		return NULL;
	f->loader = l;
	f->discover = d;
	f->kinds = kinds;
	if (!tls)
		return f;
	f->tls = follow_tls__new(l, d);
	if (f->tls)
		return f;
	mem__free(f);
	return NULL;
}

/* ---- pipeline thread -------------------------------------------------------------------------------- */

void follow__free(struct follow *f)
{
	if (!f)
		return;
	follow_tls__free(f->tls);
	pidset__free(&f->serving);
	mem__free(f);
}

void follow__forget(struct follow *f, uint32_t tgid)
{
	pidset__del(&f->serving, tgid);
	if (f->tls)
		follow_tls__forget(f->tls, tgid);
}

bool follow__talks(struct follow *f, uint32_t tgid)
{
	return f->tls && follow_tls__talks(f->tls, tgid);
}

bool follow__encrypted(struct follow *f, uint32_t tgid, uint64_t now)
{
	return f->tls && follow_tls__encrypted(f->tls, tgid, now);
}

bool follow__serves(struct follow *f, uint32_t tgid)
{
	return pidset__add(&f->serving, tgid);
}

/* ---- control thread --------------------------------------------------------------------------------- */

static void watch(struct follow *f, uint32_t tgid)
{
	for (uint32_t i = 0; i < WATCHED_SLOTS; i++)
		if (f->watched[i] == tgid)
			return;
	f->watched[f->n_watched++ % WATCHED_SLOTS] = tgid;
}

static void plant(struct follow *f, uint32_t tgid, const struct runtime *r)
{
	struct runtime use = *r;
	int err;

	use.desc.everybody = r->n_deques && loader__reads_for_all(f->loader, tgid);
	if (r->n_deques && !r->deques && !use.desc.everybody) {
		use.n_sites -= r->n_deques;
		watch(f, tgid);
	}
	err = loader__follow(f->loader, tgid, &use);
	if (err < 0)
		log__limited(&f->lim, LOG_LVL_WARN, "pid %u: %s: probes: %s: its calls may go without a parent", tgid, r->version,
			     strerror(-err));
	else if (err)
		log_debug("pid %u: %s: contexts are followed", tgid, r->version);
}

void follow__tls(struct follow *f, uint32_t tgid, bool encrypted)
{
	if (f->tls)
		follow_tls__process(f->tls, tgid, encrypted);
}

void follow__process(struct follow *f, uint32_t tgid)
{
	struct runtime r;

	follow__tls(f, tgid, false);
	/* Nothing else is wanted. Gone, or nothing that we may read. */
	if (!f->kinds || !discover__selected(f->discover, tgid) || runtime__inspect((pid_t)proc__reader("/proc", tgid), &r))
		return;
	r.desc.tgid = tgid;
	if (r.desc.kind != WS_RT_NONE && !r.hazard && f->kinds & 1u << r.desc.kind)
		plant(f, tgid, &r);
	else if ((r.hazard || r.why[0]) && !r.not_yet)
		log__limited(&f->lim, LOG_LVL_INFO, "pid %u: %s: contexts are not followed: %s", tgid, r.version,
			     r.hazard ? r.hazard : r.why);
	/* What was imported before the probe was there that tells of it is seen now. */
	if (r.hazard || runtime__outdated((pid_t)proc__reader("/proc", tgid), &r))
		loader__mislead(f->loader, tgid);
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
	if (f->tls)
		follow_tls__forked(f->tls, parent, tgid);
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

void follow__ended(struct follow *f, uint32_t tgid, uint64_t now)
{
	if (f->tls)
		follow_tls__ended(f->tls, tgid, now);
	loader__unfollow(f->loader, tgid);
}

static void look_at_watched(struct follow *f, uint64_t now)
{
	f->watch_due = now + WATCH_NS;
	for (uint32_t i = 0; i < WATCHED_SLOTS; i++) {
		uint32_t tgid = f->watched[i];

		if (tgid && !loader__follows(f->loader, tgid))
			f->watched[i] = 0;
		if (!tgid || !loader__reads_for_all(f->loader, tgid))
			continue;
		f->watched[i] = 0;
		follow__process(f, tgid);
	}
}

void follow__tick(struct follow *f, uint64_t now)
{
	if (f->tls)
		follow_tls__tick(f->tls, now);
	if (now >= f->watch_due)
		look_at_watched(f, now);
	for (uint32_t i = 0; i < FORKED_SLOTS; i++) {
		uint32_t tgid = f->forked[i].tgid;

		if (!tgid || now < f->forked[i].due)
			continue;
		f->forked[i].tgid = 0;
		follow__process(f, tgid);
	}
}
