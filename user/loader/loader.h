/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel side: chooses the attach plan, loads, attaches, and gives access to ring, tables and books. */
#ifndef WS_LOADER_H
#define WS_LOADER_H

#include <stdint.h>
#include <sys/types.h>

#include "bpf/event.h"
#include "user/loader/feature.h"
#include "user/model/stats.h"
#include "user/runtime/runtime.h"

struct loader_opts {
	const char *attach;	  /* "auto" or a plan's name */
	uint32_t capture;	  /* bytes of one transfer */
	uint64_t ring_size;	  /* bytes, a power of two times the page size */
	uint32_t max_connections; /* socket states (hash; sk_storage needs no bound) */
	bool trace_all;		  /* no selection is given */
	bool work_events;	  /* tell of work items that executors run */
	const uint64_t *ports;	  /* who accepts there may be selected: a bit for each, or NULL */
};

struct loader;

/* Would loader__open() be refused by this machine? Loads nothing. 0; or negative errno, in errno too, said as there. */
int loader__check(const struct loader_opts *o, const struct features *f);
/*
 * Loads and attaches. NULL with errno, said in one line: EPERM and the like for what the machine
 * refuses (exit code 3), EINVAL for a plan that does not exist (exit code 2).
 */
struct loader *loader__open(const struct loader_opts *o, const struct features *f);
void loader__close(struct loader *l); /* NULL ok; detaches */
/* No more events from here on; what is in the ring can still be polled. */
void loader__detach(struct loader *l);
enum plan loader__plan(const struct loader *l);

/* Pipeline thread: waits at most timeout_ms, passes every record in the ring to `fn`. Returns their number. */
int loader__poll(struct loader *l, int timeout_ms);
void loader__on_record(struct loader *l, void (*fn)(void *ctx, const void *rec, size_t len), void *ctx);
/* Reports sockets that exist already, through the same callback. Call once, after the hooks are live. */
int loader__existing_sockets(struct loader *l);
/* Control thread: has the kernel tell of AF_UNIX sockets that were closed since the last time (events in the ring). */
int loader__sweep(struct loader *l);
/* Control thread, once: requests travel on AF_UNIX; from now on the kernel tells at once. 0 or -errno. */
int loader__watch_unix(struct loader *l);

/*
 * Control thread. flags: WS_PROC_*, decided on what happened up to `as_of`; 0: nothing, or no longer there. What the
 * kernel side has taken for traced since stays so: its event is still to come.
 */
int loader__set_proc(struct loader *l, uint32_t tgid, uint32_t flags, uint64_t as_of);
/*
 * Follows the logical contexts of a process: plants the runtime's probes, then tells the kernel where to look. 1, 0 if
 * there was nothing to do, or -errno. A fork's child is looked at from its first moment. Again for a process that has
 * imported more since.
 */
int loader__follow(struct loader *l, uint32_t tgid, const struct runtime *r);
/* One of its threads was seen to read requests for others, outside of all contexts. */
bool loader__reads_for_all(const struct loader *l, uint32_t tgid);
bool loader__follows(const struct loader *l, uint32_t tgid);
void loader__mislead(struct loader *l, uint32_t tgid); /* its contexts are not believed (any more) */
void loader__unfollow(struct loader *l, uint32_t tgid); /* it has ended, or is another program now */

/* Control thread. Plants probes in one file, until uprobe_set__free(), which comes before loader__close(). NULL with errno. */
struct uprobe_set *loader__probe(struct loader *l, const struct runtime_site *sites, size_t n);

/* 0, or the errno with which waits cannot be seen: threads and event loops prove no parent then. */
int loader__waits_refused(const struct loader *l);

/* Pipeline thread: what to capture of a connection. */
void loader__control(struct loader *l, const struct ws_ctl *c);

/* Any thread: the kernel's books into `st` (row KERNEL, against the row SOURCE in it, and the kernel_* counters). */
void loader__stats(struct loader *l, struct stats *st);

#endif
