/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processes that enrichment knows on the pipeline thread, each as a chain of incarnations: a pid is used again
 * after an exit, and an exec makes another program of the same process. A span finds the one that was there when it
 * started.
 *
 * Bounded: the processes not used for the longest time go first, the dead before the living.
 */
#ifndef WS_ENRICH_PROC_TABLE_H
#define WS_ENRICH_PROC_TABLE_H

#include "bpf/event.h"
#include "user/base/hash.h"
#include "user/model/span.h"

#define PROC_LIVE_MAX 8192u
#define PROC_DEAD_MAX 1024u
#define PROC_CHAIN_MAX 4u

/* A process description as it came in its record, checked; shared by a parent and its forked children. */
struct desc {
	uint32_t refs;
	uint32_t size;
	uint8_t data[];
};

struct desc *desc__new(const uint8_t *data, uint32_t size); /* NULL with ENOMEM */
struct desc *desc__get(struct desc *d);			    /* NULL ok */
void desc__put(struct desc *d);				    /* NULL ok */

/* One per pid: the way to its incarnations. */
struct pid_slot {
	UT_hash_handle hh;
	uint32_t tgid;
	struct proc *newest;
};

struct proc {
	struct pid_slot *slot;
	struct proc *newer, *older;
	struct proc *prev, *next; /* in the list of the living or of the dead, least recently used first */
	uint32_t tgid, parent;
	uint64_t gen;	     /* number of this incarnation */
	uint64_t parent_gen; /* 0: not seen to fork */
	uint64_t born_ns;    /* CLOCK_MONOTONIC; 0: it was there before it was seen */
	uint64_t start_ns;   /* CLOCK_BOOTTIME; 0: unknown */
	uint64_t asked_ns;   /* 0: never */
	bool dead, gave_up;
	char comm[WS_COMM_LEN + 1];
	char *args; /* of the exec event, until there is a description */
	uint16_t args_len;

	struct desc *own, *inherited;
	struct resource *res; /* made of them at the first span */

	/* Spans that wait for a description; in the order of deadlines among all that have some. */
	struct span *first, *last;
	size_t waiting; /* bytes of them */
	struct proc *wait_prev, *wait_next;
	uint64_t deadline;
};

struct proc_list {
	struct proc *first, *last;
	uint32_t n;
};

struct proc_table {
	struct pid_slot *slots;
	struct proc_list live, dead;
	uint64_t gens;
	/* Called before an incarnation goes: it may have spans that wait. */
	void (*evicting)(void *ctx, struct proc *p);
	void *ctx;
};

/* The incarnation that had the pid at `mono_ns`; the newest for 0. NULL: the pid is not known. */
struct proc *proc_table__find(struct proc_table *t, uint32_t tgid, uint64_t mono_ns);
/* A new incarnation, which supersedes the one before. NULL with ENOMEM. Others may be evicted. */
struct proc *proc_table__add(struct proc_table *t, uint32_t tgid, uint64_t born_ns);
void proc_table__use(struct proc_table *t, struct proc *p);
void proc_table__kill(struct proc_table *t, struct proc *p);
void proc_table__free(struct proc_table *t); /* all incarnations; `evicting` is called for each */

#endif
