/* SPDX-License-Identifier: Apache-2.0 */
/* The first lines of a session, on stderr: what is watched, on which plan, what cannot be seen and what would help. */
#ifndef WS_BANNER_H
#define WS_BANNER_H

#include <stdbool.h>
#include <stdint.h>

#include "user/base/opts.h"
#include "user/loader/discover.h"
#include "user/loader/feature.h"

struct banner {
	const struct opts *opts;
	const struct features *features;
	enum plan plan;
	int waits_refused; /* errno of the hooks for what threads wait for; 0: they are there */
	uint32_t runtimes; /* bit per enum ws_runtime_kind that is followed */
	uint32_t refused;  /* … that would be, were there uprobes */
	bool tls;	   /* TLS libraries are read inside */
};

void banner__begin(const struct banner *b);
/* Who listens already. */
void banner__ready(struct discover *d);

#endif
