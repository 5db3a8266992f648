/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The door of the pipeline: every record, whether from a ring buffer, from user space itself or from a recording,
 * comes through here. What does not fit its own type is counted and goes no further, so that no later stage
 * has to distrust a length.
 */
#ifndef WS_SOURCE_H
#define WS_SOURCE_H

#include <stddef.h>

#include "bpf/event.h"

struct source;
struct recorder;

struct source_opts {
	/* The next stage; the event is borrowed, 8-aligned and consistent. */
	void (*next)(void *ctx, const struct ws_ev *ev);
	void *ctx;
	struct recorder *recorder; /* also gets every valid event; borrowed, may be NULL */
};

struct source *source__new(const struct source_opts *o); /* NULL with errno */
void source__free(struct source *s);
/*
 * One record. `rec` is 8-aligned (rings and recordings guarantee it); `len` may exceed what the record says of
 * itself. Counts in row ST_SOURCE. Returns nothing, because libbpf stops polling on an error.
 */
void source__push(struct source *s, const void *rec, size_t len);
/* No more recording from here on: the recorder has failed, or is about to be closed. */
void source__detach(struct source *s);

#endif
