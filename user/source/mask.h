/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blanks what is secret in events, byte for byte with '*', so that lengths and positions stay what they were: values of
 * credential headers and cookies, in URLs user, password and what secret__is_key() names, credentials among the
 * arguments of the programs that were executed, and bodies whose end is known.
 */
#ifndef WS_SOURCE_MASK_H
#define WS_SOURCE_MASK_H

#include <stdbool.h>
#include <stddef.h>

#include "bpf/event.h"
#include "user/model/str.h"

struct mask;

/* NULL with errno; 0 streams: default. `keep_queries`: URLs are shown with their queries anyway (--no-redact). */
struct mask *mask__new(size_t max_streams, bool keep_queries);
void mask__free(struct mask *m);
/* Changes the captured bytes of a data event and the arguments of an exec in place; learns from the others. */
void mask__event(struct mask *m, struct ws_ev *ev);
/* Arguments with NUL between them; the last may be cut off. */
void mask__args(char *args, size_t len);
/* Does the header of that name hold credentials? Any case. */
bool mask__is_header(struct str name);

#endif
