/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blanks the values of credential headers and cookies in captured bytes, byte for byte with '*', so that lengths
 * and positions stay what they were.
 */
#ifndef WS_SOURCE_MASK_H
#define WS_SOURCE_MASK_H

#include <stddef.h>

#include "bpf/event.h"

struct mask;

struct mask *mask__new(size_t max_streams); /* NULL with errno; 0: default */
void mask__free(struct mask *m);
/* Changes the captured bytes of a data event in place; learns from the others. */
void mask__event(struct mask *m, struct ws_ev *ev);

#endif
