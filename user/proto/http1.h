/* SPDX-License-Identifier: Apache-2.0 */
/* What may be set about HTTP/1 spans. */
#ifndef WS_PROTO_HTTP1_H
#define WS_PROTO_HTTP1_H

#include <stdbool.h>

struct http1_opts {
	bool opt_in;		   /* attributes that the conventions make opt-in: sizes, ports, transport, … */
	const char *known_methods; /* comma-separated, replaces the default list; NULL: default */
	bool redact;		   /* query values that are secrets */
	const char *redact_keys;   /* further keys, comma-separated; may be NULL */
};

/* Once, before the first connection; strings are borrowed for good. Without it: the defaults, redaction on. */
void http1__set_opts(const struct http1_opts *o);

#endif
