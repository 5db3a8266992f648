/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Turns "process 4711" into a resource, and a raw path into a route.
 *
 * Two halves on two threads:
 *
 *   proc_lookup (control thread)  opens /proc, works out service name, container id and resource
 *                                 attributes, and packs them into one WS_EV_PROCINFO record.
 *   enrich (pipeline thread)      a stage: keeps the records, gives each span its resource, route
 *                                 and name. Opens nothing: on replay the records come from the recording.
 *
 * A span whose process is not described yet waits here (at most wait_ns, bounded by bytes for each process and for
 * all), then goes out with what the exec event told, else as unknown_service:<comm>, and is counted
 * (stats.undescribed).
 */
#ifndef WS_ENRICH_H
#define WS_ENRICH_H

#include "bpf/event.h"
#include "user/base/dynbuf.h"
#include "user/model/span.h"

/* ---- control thread ---- */

struct proc_lookup_opts {
	const char *procfs;    /* "/proc", or a tree that tests made */
	const char *sysfs;     /* "/sys" */
	const char *etc;       /* "/etc": machine-id */
	const char *version;   /* wirespan's */
	const char *resource_attributes; /* --resource-attributes: added to every resource, or NULL */
};

struct proc_lookup;
/* NULL with errno ENOMEM, or EINVAL: resource_attributes cannot be decoded. */
struct proc_lookup *proc_lookup__new(const struct proc_lookup_opts *o);
void proc_lookup__free(struct proc_lookup *l);
/*
 * Appends one WS_EV_PROCINFO record for the process to `out`. `args` is what the exec event carried
 * (NUL-separated; may be empty), used where /proc has nothing any more. -ESRCH: nothing is known. The record's time
 * is from before the first read: it describes no earlier program of that process.
 */
int proc_lookup__describe(struct proc_lookup *l, uint32_t tgid, uint64_t start_ns, struct str comm, struct str args,
			  struct dynbuf *out);
/* What selection wants to know; from the same files, and from the same event where they are gone. Strings are NUL-terminated, in `buf`. */
struct proc_facts {
	char exe[256];	      /* path of the executable as the process sees it; "" unknown */
	char service[128];    /* service.name */
	uint32_t ppid;
	uint64_t start_ns;    /* CLOCK_BOOTTIME */
};
int proc_lookup__facts(struct proc_lookup *l, uint32_t tgid, uint64_t start_ns, struct str comm, struct str args,
		       struct proc_facts *ret);

/* ---- pipeline thread ---- */

struct enrich_opts {
	bool routes;		    /* --routes=off: no templates, the span is named by its method */
	const char *route_patterns; /* configured patterns, comma-separated: "/users/{id},/shop/{*}" */
	uint64_t wait_ns;	    /* for a process description; 0: 1 s */
	/* Asks the control thread to describe a process; may be NULL (replay). */
	void (*want)(void *ctx, uint32_t tgid, struct str comm, struct str args, uint64_t start_ns);
	void *ctx;
	/* The next stage: owns the span. */
	void (*next)(void *next_ctx, struct span *s, uint64_t now_ns);
	void *next_ctx;
};

struct enrich;
/* NULL with errno ENOMEM, or EINVAL: a route pattern is wrong. */
struct enrich *enrich__new(const struct enrich_opts *o);
void enrich__free(struct enrich *e); /* drops (counted) what still waits */
/* CLOCK_REALTIME - CLOCK_MONOTONIC: lets a span that comes late find the process that had its pid at that time. */
void enrich__clock(struct enrich *e, int64_t wall_offset);
/* Both take a whole record, ev.len bytes, and look at no more of it. What is malformed changes nothing. */
void enrich__proc_event(struct enrich *e, const struct ws_ev_proc *ev);
void enrich__procinfo(struct enrich *e, const struct ws_ev_procinfo *ev);
/* The process has a connection: it is described before its first span, so that a burst need not wait for it. */
void enrich__expect(struct enrich *e, uint32_t tgid, uint64_t now_ns);
/* Does the process run a program of one of these names (the last is NULL)? False as long as nothing is known of it. */
bool enrich__runs(struct enrich *e, uint32_t tgid, const char *const *names);
void enrich__push(struct enrich *e, struct span *s, uint64_t now_ns);
void enrich__tick(struct enrich *e, uint64_t now_ns);
void enrich__flush(struct enrich *e, uint64_t now_ns); /* end of input: nothing waits any longer */

/* ---- routes (route.c), usable by themselves ---- */

struct route_opts {
	const char *patterns; /* or NULL */
	uint32_t max_nodes;   /* per service; 0: default */
	uint32_t fanout;      /* distinct children after which a segment becomes {id}; 0: default */
};
struct route_table; /* one per service */
/*
 * Patterns: see user/base/route_pattern.h. The first that fits wins and is the template. NULL with errno EINVAL (a
 * pattern is wrong) or ENOMEM.
 */
struct route_table *route_table__new(const struct route_opts *o);
void route_table__free(struct route_table *t);
/*
 * Template for a raw path (query already cut off), written to buf; returns its length, 0: none. Without `learn` only one
 * that is known. *ret_inferred: not from a pattern.
 */
size_t route_table__find(struct route_table *t, struct str path, bool learn, char *buf, size_t size, bool *ret_inferred);

#endif
